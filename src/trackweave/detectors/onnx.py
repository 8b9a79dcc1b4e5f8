"""`OnnxDetector`: any ONNX detector of the common families.

Non-maximum suppression: of boxes of one class that overlap, the best stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.onnx_families import FAMILIES, NAMES, Call, Facts, Family, family_named, recognise
from trackweave.detectors.onnx_session import OnnxModel, PixelRule, Placement, Resize, fit, image_input
from trackweave.errors import InputError, SettingError
from trackweave.structures.detections import Detections

MOST = 3000
"""The most boxes that are compared, best first: the time grows with their square."""


def suppress(
    xyxy: NDArray[np.float32],
    score: NDArray[np.float32],
    class_id: NDArray[np.int64],
    iou_threshold: float,
    most: int = MOST,
) -> NDArray[np.int64]:
    """Greedy class-wise suppression by OpenCV.

    Args:
        xyxy: `(N, 4)` float32 boxes.
        score: `(N,)` float32.
        class_id: `(N,)` int64; boxes of different classes never suppress each other.
        iou_threshold: a box goes when its IoU with a better box that stays is above this.
        most: boxes that take part at all, best first.

    Returns:
        `(K,)` int64 rows that stay, best score first; ties in the order given.
    """
    order = np.argsort(-score, kind="stable")[:most]
    if not len(order):
        return order
    boxes = xyxy[order].astype(np.float64)
    # OpenCV keeps classes apart by moving each beyond the largest coordinate: that needs coordinates from 0 up.
    boxes[:, :2], boxes[:, 2:] = boxes[:, :2] - boxes[:, :2].min(0), boxes[:, 2:] - boxes[:, :2]
    # It sorts by score itself, but not stably: ranks keep the order.
    rank = np.arange(len(order), 0, -1, dtype=np.float32)
    classes = np.unique(class_id[order], return_inverse=True)[1].astype(np.int32)
    batched: Any = cv2.dnn.NMSBoxesBatched  # its stubs know sequences of floats only; arrays are faster
    kept = batched(boxes, rank, classes, -1.0, iou_threshold)
    return order[np.sort(np.asarray(kept, np.int64).reshape(-1))]


TARGET_SIZES, PIXEL_MASK = "orig_target_sizes", "pixel_mask"
UNSUPPORTED_TASKS = ("classify", "obb", "semantic")


class OnnxDetector:
    """A detector in ONNX form; how to feed and read it follows from its inputs, outputs and metadata.

    The model is run once on a grey image to see what its outputs look like; `onnx_families.py` lists what is
    understood. Of models that also give masks or key points only the boxes are used. Boxes that are not finite or
    have no area inside the frame are left out.

    Args:
        path: the `.onnx` file.
        score_threshold: lowest score of a detection.
        iou_threshold: of the suppression of duplicates, for families that leave them in.
        input_size: side, or `(H, W)`, of the input where the model leaves it open; None: its metadata's, else 640.
        classes: ids or names of the classes to keep; None = all.
        family: a name of `onnx_families.FAMILIES` where the outputs leave a doubt; `auto` = by inspection.
        providers: onnxruntime's names in order of preference, `auto` = CUDA when there; None = the processor.
        threads: of one operation; None = at most four.
        pixels: normalisation, where it differs from the family's usual one.
        resize: `letterbox`, `corner` or `stretch`, where it differs.
        max_detections: the most per frame, best first.

    Attributes:
        name: `onnx:` and the file's stem.
        class_names: names by class id from the metadata, or None.
        family: the family's name.
        input_size: `(H, W)` that the model sees.

    Raises:
        InputError: no ONNX model, or one that no family explains; the message lists what was found and what is
            understood.
        SettingError: an unknown family, class or provider, or a threshold outside [0, 1].
    """

    def __init__(
        self,
        path: Path | str,
        *,
        score_threshold: float = 0.1,
        iou_threshold: float = 0.7,
        input_size: int | tuple[int, int] | None = None,
        classes: Sequence[int | str] | None = None,
        family: str = "auto",
        providers: Sequence[str] | str | None = None,
        threads: int | None = None,
        pixels: PixelRule | None = None,
        resize: Resize | None = None,
        max_detections: int = 1000,
    ) -> None:
        _check_settings(score_threshold, iou_threshold, family, resize)
        self._model = OnnxModel(path, providers, threads)
        self.name = f"onnx:{self._model.path.stem}"
        self._input = image_input(self._model, input_size)
        self._check_other_inputs()
        self.class_names = _class_names(self._model.literal("names"))
        self._kept_classes = _class_ids(classes, self.class_names)
        self._thresholds = score_threshold, iou_threshold
        self._most = max_detections
        self._family = self._explain(family)
        self._pixels = pixels or self._family.pixels
        self._resize: Resize = resize or self._family.resize

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
        step = 1 if self._family.alone else self._input.batch or max(1, len(images))
        found: list[Detections] = []
        for start in range(0, len(images), step):
            found += self._detect_some(images[start : start + step])
        return found

    def reset(self) -> None:
        """Nothing to forget: frames do not know each other."""

    def close(self) -> None:
        """Frees the model."""
        self._model.close()

    def _detect_some(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise InputError(f"{self.name}: a frame is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        fitted = [fit(image, self._input.size, self._resize) for image in images]
        placements = [placement for _, placement in fitted]
        outputs = self._run([image for image, _ in fitted], [placement.size for placement in placements], self._pixels)
        return [self._finish(outputs, n, placement) for n, placement in enumerate(placements)]

    def _run(
        self, fitted: list[NDArray[np.uint8]], sizes: list[tuple[int, int]], rule: PixelRule
    ) -> dict[str, NDArray[Any]]:
        """Feeds images that already have the input's size; `sizes` are those of their frames."""
        blob = self._input.blob(fitted, rule)
        feed: dict[str, NDArray[Any]] = {self._input.name: blob}
        for tensor in self._model.inputs:
            if tensor.name == TARGET_SIZES:  # (W, H), unlike everything here
                padded = sizes + [sizes[-1]] * (len(blob) - len(sizes))
                feed[tensor.name] = np.array([(w, h) for h, w in padded], _integer(tensor.dtype))
            elif tensor.name == PIXEL_MASK:
                feed[tensor.name] = np.ones((len(blob), *self._input.size), _integer(tensor.dtype))
        return self._model.run(feed)

    def _finish(self, outputs: Mapping[str, NDArray[Any]], image: int, placement: Placement) -> Detections:
        score_threshold, iou_threshold = self._thresholds
        call = Call(
            outputs, image, self._input.size, len(self.class_names) if self.class_names else None, score_threshold
        )
        found = self._family.decode(call)
        rows = np.isfinite(found.xyxy).all(axis=1)
        if self._kept_classes is not None:
            rows &= np.isin(found.class_id, self._kept_classes)
        boxes = self._to_frame(found.xyxy[rows], placement)
        score, class_id = found.score[rows], found.class_id[rows]
        inside = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        boxes, score, class_id = boxes[inside], score[inside], class_id[inside]
        if self._family.suppress:
            order = suppress(boxes, score, class_id, iou_threshold)
        else:
            order = np.argsort(-score, kind="stable")
        order = order[: self._most]
        return Detections.of(boxes[order], score[order], class_id[order])

    def _to_frame(self, boxes: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
        height, width = self._input.size
        if self._family.space == "unit":
            boxes = boxes * np.array([width, height, width, height], np.float32)
        if self._family.space == "frame":
            placement = Placement((1.0, 1.0), (0, 0), placement.size)
        return placement.to_frame(boxes)

    def _check_other_inputs(self) -> None:
        known = (self._input.name, TARGET_SIZES, PIXEL_MASK)
        if any(tensor.name not in known for tensor in self._model.inputs):
            raise InputError(
                f"{self._model.path}: beside the image only {TARGET_SIZES} or {PIXEL_MASK} can be fed; "
                f"found {self._model.describe()}"
            )

    def _explain(self, asked: str) -> Family:
        """Tries the model on a grey image, and finds the family whose outputs look like that."""
        task = self._model.metadata.get("task", "detect")
        if task in UNSUPPORTED_TASKS:
            raise InputError(f"{self._model.path}: a model of task {task}; detect, segment and pose are understood")
        height, width = self._input.size
        grey = np.full((height, width, 3), 114, np.uint8)
        outputs = self._run([grey], [(height, width)], PixelRule())
        names = tuple(tensor.name for tensor in self._model.inputs)
        count = len(self.class_names) if self.class_names else None
        facts = Facts(outputs, names, (height, width), count, self._model.metadata)
        family = family_named(asked) if asked != "auto" else recognise(facts)
        found = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in outputs.items())
        if family is None:
            known = "; ".join(f"{entry.name}: {entry.layout}" for entry in FAMILIES)
            raise InputError(
                f"{self._model.path}: no family of detectors explains its outputs on a {height}×{width} image: {found} "
                f"({self._model.describe()}). Understood: {known}. If it is one of them, name it with family="
            )
        try:
            family.decode(Call(outputs, 0, (height, width), count, 0.0))
        except (IndexError, ValueError) as error:
            raise InputError(f"{self._model.path}: these are not outputs of family {family.name}: {found}") from error
        return family


def _check_settings(score: float, iou: float, family: str, resize: str | None) -> None:
    for name, value in (("score_threshold", score), ("iou_threshold", iou)):
        if not 0 <= value <= 1:
            raise SettingError(f"{name} {value} is not in [0, 1]")
    if family != "auto" and family not in NAMES:
        raise SettingError(f"there is no family {family!r}; known: auto, {', '.join(NAMES)}")
    if resize not in (None, "letterbox", "corner", "stretch"):
        raise SettingError(f"resize {resize!r} is not letterbox, corner or stretch")


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
        known = ", ".join(by_name) or "none, the model does not name its classes: give ids"
        raise SettingError(f"there is no class {unknown[0]!r}; known: {known}")
    return np.array([by_name[c] if isinstance(c, str) else c for c in classes], np.int64)


def _integer(dtype: str) -> type:
    return np.int32 if dtype == "tensor(int32)" else np.float32 if dtype == "tensor(float)" else np.int64
