"""`OnnxDetector`: any ONNX detector of the common families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.base import check_image, non_maximum_suppression
from trackweave.detectors.onnx_families import (
    FAMILIES,
    FAMILY_NAMES,
    DecoderInput,
    Family,
    TrialRun,
    family_named,
    recognise,
)
from trackweave.detectors.onnx_session import PADDING_GREY, OnnxModel, Placement, fit, image_input
from trackweave.detectors.settings import OnnxSettings, PixelRule, Resize
from trackweave.errors import InputError, SettingError
from trackweave.structures.detections import Detections

TARGET_SIZES, PIXEL_MASK = "orig_target_sizes", "pixel_mask"
UNSUPPORTED_TASKS = ("classify", "obb", "semantic")


class OnnxDetector:
    """A detector in ONNX form; its family follows from its inputs, outputs and metadata.

    The model is run once on a grey image to see what its outputs look like; `onnx_families.py` lists the families that
    are understood. Of models that also give masks or key points only the boxes are used. Boxes that are not finite or
    have no area inside the frame are left out.

    Args:
        path: the `.onnx` file.
        settings: None for the defaults.

    Attributes:
        name: `onnx:` and the file's stem.
        class_names: names by class id from the metadata, or None.
        family: the family's name.
        input_size: `(H, W)` of the model's input, pixels.

    Raises:
        InputError: no ONNX model, or one of no known family; the message lists its inputs and outputs and the families.
        SettingError: an unknown family, class or provider.
    """

    def __init__(self, path: Path | str, settings: OnnxSettings | None = None) -> None:
        settings = settings or OnnxSettings()
        if settings.family not in ("auto", *FAMILY_NAMES):
            raise SettingError(f"there is no family {settings.family!r}; known: auto, {', '.join(FAMILY_NAMES)}")
        self._model = OnnxModel(path, settings.providers, settings.threads)
        self.name = f"onnx:{self._model.path.stem}"
        self._input = image_input(self._model, settings.input_size)
        self._check_other_inputs()
        self.class_names = _class_names(self._model.literal("names"))
        self._kept_classes = _class_ids(settings.classes, self.class_names)
        self._thresholds = settings.score_threshold, settings.iou_threshold
        self._max_detections = settings.max_detections
        self._family = self._find_family(settings.family)
        self._pixels = settings.pixels or self._family.pixels
        self._resize: Resize = settings.resize or self._family.resize

    @property
    def family(self) -> str:
        """The name of the family that explains the model."""
        return self._family.name

    @property
    def input_size(self) -> tuple[int, int]:
        """`(H, W)` in pixels."""
        return self._input.size

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """Detections of one frame, best first, in frame pixels.

        Args:
            image: `(H, W, 3)` uint8 RGB.

        Raises:
            InputError: not such an image, or the model fails.
        """
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """The same for several frames, in one run where the model's batch is open, else in runs of its batch.

        Raises:
            InputError: as `detect`.
        """
        step = 1 if self._family.one_image_per_run else self._input.batch or max(1, len(images))
        detections: list[Detections] = []
        for start in range(0, len(images), step):
            detections += self._detect_in_one_run(images[start : start + step])
        return detections

    def reset(self) -> None:
        """Nothing to do: nothing is kept between frames."""

    def close(self) -> None:
        """Frees the model."""
        self._model.close()

    def _detect_in_one_run(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        for image in images:
            check_image(self.name, image)
        fitted = [fit(image, self._input.size, self._resize) for image in images]
        placements = [placement for _, placement in fitted]
        outputs = self._run([image for image, _ in fitted], [placement.size for placement in placements], self._pixels)
        return [self._postprocess(outputs, n, placement) for n, placement in enumerate(placements)]

    def _run(
        self, fitted: list[NDArray[np.uint8]], sizes: list[tuple[int, int]], rule: PixelRule
    ) -> dict[str, NDArray[Any]]:
        """Runs images that already have the input's size; `sizes` `(H, W)` are those of their frames."""
        blob = self._input.blob(fitted, rule)
        feed: dict[str, NDArray[Any]] = {self._input.name: blob}
        for tensor in self._model.inputs:
            if tensor.name == TARGET_SIZES:  # (W, H), unlike all other sizes here
                padded = sizes + [sizes[-1]] * (len(blob) - len(sizes))
                feed[tensor.name] = np.array([(w, h) for h, w in padded], _integer(tensor.dtype))
            elif tensor.name == PIXEL_MASK:
                feed[tensor.name] = np.ones((len(blob), *self._input.size), _integer(tensor.dtype))
        return self._model.run(feed)

    def _postprocess(self, outputs: Mapping[str, NDArray[Any]], image: int, placement: Placement) -> Detections:
        score_threshold, iou_threshold = self._thresholds
        count = len(self.class_names) if self.class_names else None
        decoded = self._family.decode(DecoderInput(outputs, image, self._input.size, count, score_threshold))
        rows = np.isfinite(decoded.xyxy).all(axis=1)
        if self._kept_classes is not None:
            rows &= np.isin(decoded.class_id, self._kept_classes)
        boxes = self._to_frame(decoded.xyxy[rows], placement)
        score, class_id = decoded.score[rows], decoded.class_id[rows]
        inside = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        boxes, score, class_id = boxes[inside], score[inside], class_id[inside]
        if self._family.has_duplicates:
            order = non_maximum_suppression(boxes, score, class_id, iou_threshold)
        else:
            order = np.argsort(-score, kind="stable")
        order = order[: self._max_detections]
        return Detections.of(boxes[order], score[order], class_id[order])

    def _to_frame(self, boxes: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
        height, width = self._input.size
        if self._family.space == "unit":
            boxes = boxes * np.array([width, height, width, height], np.float32)
        if self._family.space == "frame":
            placement = Placement((1.0, 1.0), (0, 0), placement.size)
        return placement.to_frame(boxes)

    def _check_other_inputs(self) -> None:
        fed = (self._input.name, TARGET_SIZES, PIXEL_MASK)
        if any(tensor.name not in fed for tensor in self._model.inputs):
            raise InputError(
                f"{self._model.path}: beside the image only {TARGET_SIZES} or {PIXEL_MASK} can be fed; "
                f"found {self._model.describe()}"
            )

    def _find_family(self, name: str) -> Family:
        """Runs the model on a grey image, and finds the family with such outputs."""
        task = self._model.metadata.get("task", "detect")
        if task in UNSUPPORTED_TASKS:
            raise InputError(f"{self._model.path}: a model of task {task}; detect, segment and pose are understood")
        height, width = self._input.size
        grey = np.full((height, width, 3), PADDING_GREY, np.uint8)
        outputs = self._run([grey], [(height, width)], PixelRule())
        names = tuple(tensor.name for tensor in self._model.inputs)
        count = len(self.class_names) if self.class_names else None
        trial = TrialRun(outputs, names, (height, width), count, self._model.metadata)
        family = family_named(name) if name != "auto" else recognise(trial)
        shapes = ", ".join(f"{output} {array.shape} {array.dtype}" for output, array in outputs.items())
        if family is None:
            understood = "; ".join(f"{known.name}: {known.layout}" for known in FAMILIES)
            raise InputError(
                f"{self._model.path}: no family of detectors explains its outputs on a {height}×{width} image: "
                f"{shapes} ({self._model.describe()}). Understood: {understood}. "
                "If it is one of them, name it with family="
            )
        try:
            family.decode(DecoderInput(outputs, 0, (height, width), count, 0.0))
        except (IndexError, ValueError) as error:
            raise InputError(f"{self._model.path}: these are not outputs of family {family.name}: {shapes}") from error
        return family


def _class_names(names: Any) -> dict[int, str] | None:
    """Ultralytics writes a dictionary, older exports a list."""
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(key, int) for key in names):
        return None
    return {key: str(name) for key, name in names.items()}


def _class_ids(classes: Sequence[int | str] | None, names: Mapping[int, str] | None) -> NDArray[np.int64] | None:
    if classes is None:
        return None
    by_name = {name: key for key, name in (names or {}).items()}
    unknown = [c for c in classes if isinstance(c, str) and c not in by_name]
    if unknown:
        valid = ", ".join(by_name) or "none, the model does not name its classes: give ids"
        raise SettingError(f"there is no class {unknown[0]!r}; known: {valid}")
    return np.array([by_name[c] if isinstance(c, str) else c for c in classes], np.int64)


def _integer(dtype: str) -> type:
    return np.int32 if dtype == "tensor(int32)" else np.float32 if dtype == "tensor(float)" else np.int64
