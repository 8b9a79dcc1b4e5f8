"""Which settings `trackweave masks` has, and by which variables and flags they go."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from trackweave.cli.layers import Layout
from trackweave.predictors.sam.settings import SamSettings
from trackweave.tracking.pipeline_context import TrackingSettings


class MaskRunSettings(BaseModel):
    """What is tracked, and by which predictor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    predictor: str = Field(
        default="auto", description="auto, flow, static, replay=PATH, or a backend of `trackweave models`."
    )
    generator: str = Field(
        default="regions", description="Finds candidates when neither candidates nor prompts are given."
    )
    candidate_stride: int = Field(default=10, description="Frames between two on which the generator runs.")
    levels: str | None = Field(default=None, description="Like 2,4,6; none = those of the candidates, else 2.")
    frames: str | None = Field(default=None, description="Which frames, as a slice START:END:STEP.")


MASKS = Layout(
    sections={"masks": MaskRunSettings, "tracking": TrackingSettings, "predictor": SamSettings},
    environment={
        "TRACKWEAVE_PREDICTOR": "masks.predictor",
        "TRACKWEAVE_DEVICE": "predictor.device",
    },
    flags={
        "masks.predictor": "--predictor",
        "masks.generator": "--generator",
        "masks.candidate_stride": "--candidate-stride",
        "masks.levels": "--levels",
        "masks.frames": "--frames",
        "tracking.prompt_mode": "--prompt-mode",
        "tracking.iou_threshold": "--iou-threshold",
        "tracking.max_propagate": "--max-propagate",
        "tracking.mask_scale_ratio": "--mask-scale",
        "tracking.on_bad_item": "--on-bad-item",
        "tracking.render_viz": "--no-viz",
        "predictor.weights": "--weights",
        "predictor.device": "--device",
        "predictor.feature_store": "--no-feature-store",
        "predictor.stop_after_absent": "--stop-after-absent",
        "predictor.compile": "--compile",
    },
)
