"""Settings of box tracking that the tracker does not have: `InputSettings` and `PerceptionSettings`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from trackweave.settings import Settings

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


class InputSettings(Settings):
    """What the source does not say, or what is to be taken of it."""

    fps: float | None = Field(default=None, gt=0, description="frames per second; overrides the source's own times")
    size: Annotated[tuple[int, int] | None, BeforeValidator(_parsed_size)] = Field(
        default=None,
        description="width and height of the frames in pixels, when there are no images",
        json_schema_extra={"metavar": "WxH"},
    )
    frames: str | None = Field(
        default=None, description="which frames, as a slice", json_schema_extra={"metavar": "START:END:STEP"}
    )
    max_frames: int | None = Field(default=None, ge=1, description="frames after which to stop")
    on_bad_item: Literal["error", "skip"] = Field(
        default="error", description="a frame or a row of a file that cannot be used stops the run, or is left out"
    )
    class_column: int | None = Field(
        default=None, ge=7, description="1-based column of the class in MOT text; 8 in KITTI's"
    )


class PerceptionSettings(Settings):
    """Which signals are computed for the tracker, and how."""

    detector: str | None = Field(
        default=None,
        description="motion, hog or a model, when no file has the detections",
        json_schema_extra={"metavar": "NAME|MODEL.onnx"},
    )
    detector_options: Mapping[str, Any] = Field(
        default_factory=dict, description="options of the detector by name, such as {score_threshold: 0.3}"
    )
    embedder: str = Field(
        default="auto",
        description="appearance of detections; auto: layout when appearance is on, else none",
        json_schema_extra={"metavar": "auto|none|layout|MODEL.onnx"},
    )
    segmentation: bool = Field(
        default=False, description="visibility from masks or GrabCut on the crop, not from boxes alone"
    )
    segmentation_budget_ms: float = Field(
        default=10.0, ge=0, description="milliseconds per frame that GrabCut may take"
    )
    camera: Literal["auto", "given", "estimate", "off"] = Field(
        default="auto",
        description="camera motion: given (gmc.txt), estimated from the frames, or off; auto: given or off",
    )
