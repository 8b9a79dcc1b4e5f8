"""Settings of the detectors: `HogSettings`, `MotionSettings` and `OnnxSettings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from trackweave.settings import Settings

Resize = Literal["letterbox", "corner", "stretch"]
"""`letterbox`: aspect kept, centred; `corner`: aspect kept, in the top left corner; `stretch`: aspect not kept."""

BoxFormat = Literal["xyxy", "yxyx", "xywh", "cxcywh"]
"""Order of a box's numbers: corners, corners with y first, corner and extent, centre and extent."""
BoxSpace = Literal["input", "unit", "frame"]
"""What a box is measured in: pixels of the model's input, shares of the input, pixels of the frame."""
ScoreScale = Literal["unit", "percent", "logits"]

Side = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class PixelRule:
    """Normalisation `(pixel / 255 − mean) / std` per channel.

    Attributes:
        mean: of red, green, blue, for pixels in [0, 1].
        std: the same.
        bgr: whether blue comes first.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False


UNIT = PixelRule()
IMAGENET = PixelRule((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RAW_BGR = PixelRule(std=(1 / 255, 1 / 255, 1 / 255), bgr=True)


class HogSettings(Settings):
    """Settings of `HogDetector`."""

    score_threshold: float = Field(default=0.1, gt=0, lt=1, description="lowest score of a detection, between 0 and 1")
    iou_threshold: float = Field(
        default=0.5, ge=0, le=1, description="IoU with a better window above which a window is suppressed, 0 … 1"
    )
    working_height: int = Field(
        default=720,
        ge=128,
        description="height to which frames are resized, enlarged at most twice, pixels; higher finds smaller people "
        "and costs the square: 0.4 s of one core for 720",
    )
    scale: float = Field(default=1.05, ge=1.01, le=2, description="ratio of neighbouring sizes that are searched")


class MotionSettings(Settings):
    """Settings of `MotionDetector`."""

    model: Literal["mog2", "knn"] = Field(default="mog2", description="background model")
    min_area: float = Field(
        default=0.0005, ge=0, lt=1, description="smallest moving region, as a share of the frame's area"
    )
    max_change: float = Field(
        default=0.5, gt=0, le=1, description="largest share of the frame that may move; more is a change of the scene"
    )
    warm_up: int = Field(
        default=5, ge=1, description="frames that only train the background, at the start and after a change of scene"
    )
    history: int = Field(default=300, ge=1, description="frames that the background model remembers")
    working_side: int = Field(default=640, ge=16, description="longer side of the frames that are worked on, pixels")
    score_threshold: float = Field(default=0.0, ge=0, le=1, description="lowest score of a detection, 0 … 1")


class OnnxSettings(Settings):
    """Settings of `OnnxDetector`."""

    score_threshold: float = Field(default=0.1, ge=0, le=1, description="lowest score of a detection, 0 … 1")
    iou_threshold: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="IoU with a better box of its class above which a box is suppressed, 0 … 1; for models that leave "
        "duplicates in",
    )
    input_size: Side | tuple[Side, Side] | None = Field(
        default=None,
        description="side, or height and width, of the input where the model leaves it open, pixels; null: its "
        "metadata's, else 640",
    )
    classes: tuple[int | str, ...] | None = Field(
        default=None, description="ids or names of the classes to keep; null: all"
    )
    family: str = Field(
        default="auto", description="family of models, where outputs are ambiguous; auto: by inspection"
    )
    box_format: BoxFormat | None = Field(default=None, description="order of a box's numbers; null: by inspection")
    box_space: BoxSpace | None = Field(
        default=None,
        description="what boxes are measured in: pixels of the input, shares of it in [0, 1] (unit), or pixels of the "
        "frame; null: by inspection",
    )
    scores: ScoreScale | None = Field(
        default=None, description="scores are in [0, 1] (unit), in percent, or logits; null: the family's scale"
    )
    class_first: bool | None = Field(
        default=None, description="the class stands before the score in a row; null: by inspection"
    )
    class_count: int | None = Field(
        default=None, ge=1, description="number of classes; null: as many as the model names, else by the outputs"
    )
    masks: bool = Field(default=True, description="decode the masks of YOLO's segment models")
    providers: str | tuple[str, ...] | None = Field(
        default=None,
        description="onnxruntime's execution providers in order of preference; auto: CUDA where there is one; null: "
        "the processor",
    )
    threads: int | None = Field(default=None, ge=1, description="threads of one operation; null: at most four")
    pixels: PixelRule | None = Field(default=None, description="normalisation; null: the family's")
    resize: Resize | None = Field(
        default=None, description="how frames are brought to the input's size; null: the family's way"
    )
    max_detections: int = Field(default=1000, ge=1, description="largest number of detections per frame, best first")
