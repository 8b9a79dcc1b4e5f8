"""Settings of jobs that no single package has: what a run reads, computes and leaves, and how samples are simulated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from trackweave.predictors.sam.settings import Phrases
from trackweave.settings import Cuts, Settings

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


def _parsed_classes(value: Any) -> Any:
    """`person,car` and `2,7` as a list; a number alone is one class."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        value = str(value).split(",")
    if not isinstance(value, list | tuple):
        return value
    classes = tuple(one.strip() if isinstance(one, str) else one for one in value)
    if not classes or "" in classes:
        raise ValueError("classes are names or numbers with commas between, like person,car or 2,7")
    return tuple(int(one) if isinstance(one, str) and one.isdecimal() else one for one in classes)


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
    classes: Annotated[tuple[int | str, ...] | None, BeforeValidator(_parsed_classes)] = Field(
        default=None,
        description="names or numbers of the classes that are tracked; null: all",
        json_schema_extra={"metavar": "person,car|2,7"},
    )
    images: Path | None = Field(
        default=None,
        description="COCO file whose images say which image id of COCO results is which frame",
        json_schema_extra={"metavar": "FILE.json"},
    )
    video_name: str | None = Field(default=None, description="which of several videos in one file of COCO results")
    frame_base: int | None = Field(
        default=None,
        ge=0,
        le=1,
        description="number of the first frame in a file of detections; null: as the format has it or the numbers show",
    )


class PerceptionSettings(Settings):
    """Which signals are computed for the tracker, and how."""

    detector: str | None = Field(
        default=None,
        description="motion, hog, a model, or sam3[=WEIGHTS] for what --text names; when no file has the detections",
        json_schema_extra={"metavar": "NAME|MODEL.onnx"},
    )
    text: Phrases = Field(
        default=(),
        description="phrases that name what is detected, as SAM 3 understands them",
        json_schema_extra={"metavar": "PHRASE[,PHRASE…]"},
    )
    detector_options: Mapping[str, object] = Field(
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
    cuts: Cuts = Field(
        default="detect",
        description="hard cuts, where frames have pictures: tracks end there (detect), or go on (ignore)",
    )

    @property
    def named_detector(self) -> str | None:
        """The detector; SAM 3 where there is a text and none is named."""
        return self.detector or ("sam3" if self.text else None)

    @property
    def named_options(self) -> Mapping[str, object]:
        """Its options, the phrases among them."""
        return {**self.detector_options, **({"prompts": self.text} if self.text else {})}


class BoxRunSettings(Settings):
    """What is linked, and what a run of boxes leaves besides its tracks."""

    detections: str | None = Field(
        default=None,
        description="MOT text, COCO, CSV, Parquet, YOLO's folder, or one of a sequence's by name; null: det/det.txt",
        json_schema_extra={"metavar": "FILE|NAME"},
    )
    overlay: bool = Field(default=True, description="draw the tracks over the frames, where there are any")


def _parsed_levels(value: Any) -> Any:
    """`2,4,6` as numbers; a number alone is one level."""
    if isinstance(value, str):
        try:
            value = tuple(int(part) for part in value.split(","))
        except ValueError:
            raise ValueError("levels are whole numbers with commas between, like 2,4,6") from None
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value,)
    if isinstance(value, tuple | list) and any(isinstance(level, int) and level < 1 for level in value):
        raise ValueError("levels start at 1")
    return value


class MaskRunSettings(Settings):
    """What is tracked in a run of masks, and by which predictor."""

    predictor: str = Field(
        default="auto",
        description="auto, sam2-hf, sam2, sam3-tracker, edgetam, flow, static or replay=PATH",
        json_schema_extra={"metavar": "NAME[=WEIGHTS]"},
    )
    generator: str = Field(
        default="auto",
        description="finds candidates when neither candidates nor prompts are given: regions; sam2-hf, sam2, "
        "sam3-tracker or edgetam (automatic masks); detector=NAME|FILE.onnx (its masks, or boxes); "
        "boxes=NAME|FILE.onnx (its boxes alone); salient=FILE.onnx; auto: the predictor's own automatic masks where it "
        "is of the SAM 2 family, else regions",
        json_schema_extra={"metavar": "NAME[=MODEL]"},
    )
    candidate_stride: int | None = Field(
        default=None,
        ge=1,
        description="frames between two on which the generator runs; null: where new things are seen",
    )
    levels: Annotated[tuple[int, ...] | None, BeforeValidator(_parsed_levels)] = Field(
        default=None,
        description="coarse, medium, fine; null: those of the candidates, else 2",
        json_schema_extra={"metavar": "2,4,6"},
    )
    overlay_levels: Literal["first", "all"] = Field(
        default="first", description="levels that get an overlay video: the coarsest, or each"
    )
    frames: str | None = Field(
        default=None, description="which frames, as a slice", json_schema_extra={"metavar": "START:END:STEP"}
    )
    identity: Literal["on", "off"] = Field(
        default="on", description="join tracks that are one thing and nest parts in wholes, or leave all as tracked"
    )


DETECTOR_METAVAR = "PRESET|FILE.json"
DETECTOR_HELP = "strong, weak, everything, driving, shaky, perfect or what `assoc fit-detector` wrote"


class SimulateSettings(Settings):
    """What is simulated for samples of association."""

    frames: int = Field(default=3000, ge=1, description="frames of all sequences together")
    seed: int = Field(default=0, ge=0, description="the same seed makes the same samples")
    regime: str = Field(
        default="mixed", description="scene preset", json_schema_extra={"metavar": "mixed|dance|sport|street|traffic"}
    )
    detector: str | None = Field(
        default=None,
        description=f"{DETECTOR_HELP}; null: as suits the regime",
        json_schema_extra={"metavar": DETECTOR_METAVAR},
    )
    sequence_frames: int = Field(default=300, ge=1, description="frames of one sequence")


class RemixSettings(Settings):
    """What is re-simulated on recorded trajectories for samples of association."""

    frames: int = Field(default=30_000, ge=1, description="frames of all scenes together")
    seed: int = Field(default=0, ge=0, description="seed of everything that is random")
    detector: str | None = Field(
        default=None,
        description=f"{DETECTOR_HELP}; null: good ones, varied",
        json_schema_extra={"metavar": DETECTOR_METAVAR},
    )
    scene_frames: int = Field(default=400, ge=1, description="frames of one scene")
