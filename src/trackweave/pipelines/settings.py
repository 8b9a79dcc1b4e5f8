"""TODO pipelines/settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SIZE = re.compile(r"\s*(\d+)\s*[x×X]\s*(\d+)\s*")


def _parsed_size(value: Any) -> Any:
    """`WxH` as `(W, H)`; anything else is left to the type's own check."""
    if isinstance(value, str):
        match = SIZE.fullmatch(value)
        if match is None:
            raise ValueError("a size is WxH in pixels, like 1920x1080")
        value = (int(match[1]), int(match[2]))
    if isinstance(value, list | tuple) and any(not isinstance(side, int) or side < 1 for side in value):
        raise ValueError("width and height are pixels above 0")
    return value


class InputSettings(BaseModel):
    """What the source does not say, or what is to be taken of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fps: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Frames per second; overrides the source's own times."
    )
    size: Annotated[tuple[int, int] | None, BeforeValidator(_parsed_size)] = Field(
        default=None, description="Width and height of the frames in pixels, as WxH, when there are no pictures."
    )
    frames: str | None = Field(default=None, description="Which frames, as start:end:step.")
    max_frames: int | None = Field(default=None, ge=1, description="Frames after which to stop.")
    on_bad_item: Literal["error", "skip"] = Field(
        default="error", description="A frame or a row of a file that cannot be used ends the run, or is left out."
    )
    class_column: int | None = Field(
        default=None, ge=7, description="1-based column of the class in MOT text (8 in KITTI's files)."
    )


class PerceptionSettings(BaseModel):
    """Which signals are computed for the tracker, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: str | None = Field(
        default=None, description="motion, hog, or the path of an .onnx model, when no file has the detections."
    )
    detector_options: Mapping[str, Any] = Field(
        default_factory=dict, description="Settings of the detector by name, such as score_threshold."
    )
    embedder: str = Field(
        default="auto", description="none, layout or an .onnx model; auto is layout when appearance is on, else none."
    )
    segmentation: bool = Field(
        default=False, description="Visibility from masks, else from GrabCut on the crop, not from boxes alone."
    )
    segmentation_budget_ms: float = Field(
        default=10.0, ge=0, description="Milliseconds per frame that GrabCut may take."
    )
    camera: Literal["auto", "given", "estimate", "off"] = Field(
        default="auto",
        description="Camera motion: as in gmc.txt, estimated from the frames, or off; auto is given or off.",
    )
