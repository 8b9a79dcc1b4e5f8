"""`OnnxDetector`: any ONNX detector of the common families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.base import check_image, non_maximum_suppression
from trackweave.detectors.onnx_decoding import TrialRun, literal
from trackweave.detectors.onnx_families import (
    FAMILIES,
    FAMILY_NAMES,
    Family,
    extra_columns,
    family_named,
    prototypes_of,
    recognise,
)
from trackweave.detectors.onnx_masks import decode_masks
from trackweave.detectors.onnx_reading import OutputReader, Picture, trial_picture
from trackweave.detectors.onnx_session import OnnxModel, Placement, described, fit, image_input
from trackweave.detectors.settings import OnnxSettings, PixelRule, Resize
from trackweave.errors import InputError, SettingError, shortened_line
from trackweave.structures.detections import Detections, class_ids

TARGET_SIZES, PIXEL_MASK = "orig_target_sizes", "pixel_mask"
TASKS = ("detect", "segment", "pose")


class OnnxDetector:
    """A detector in ONNX form; its family follows from its inputs, outputs and metadata.

    The model is run on a drawn picture to see what its outputs look like: `onnx_families.py` lists the families that
    are understood, `onnx_reading.py` finds out by the values, there and on the first frames with detections, what the
    numbers mean, and refuses what cannot be right. Masks of YOLO's segment models are decoded; of other models that
    give masks or key points only the boxes are used. Boxes that are not finite or have no area inside the frame are
    left out.

    Args:
        path: the `.onnx` file.
        settings: None for the defaults.

    Attributes:
        name: `onnx:` and the file's stem.
        class_names: names by class id from the metadata, or None.
        family: the family's name.
        layout: what the numbers of a box and of a score mean, in words.
        input_size: `(H, W)` of the model's input, pixels.

    Raises:
        InputError: no ONNX model, one of no known family, or with values that fit no reading of its family; the message
            lists its inputs and outputs and what is understood.
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
        self.class_names = _class_names(literal(self._model.metadata.get("names")))
        self._class_count = settings.class_count or _class_count(self.class_names)
        self._is_open_ended = settings.class_count is not None
        chosen = settings.classes
        self._kept_classes = None if chosen is None else class_ids(chosen, self.class_names, self.name)
        self._iou_threshold, self._max_detections = settings.iou_threshold, settings.max_detections
        trial = self._trial(PixelRule())
        self._family = self._find_family(settings.family, trial)
        self._pixels = settings.pixels or self._family.pixels
        self._resize: Resize = settings.resize or self._family.resize
        if self._pixels != PixelRule():
            trial = self._trial(self._pixels)
        self._reader = self._open_reader(settings, trial)
        has_masks = settings.masks and self._family.has_coefficients and extra_columns(trial)
        self._prototypes = prototypes_of(trial.outputs) if has_masks else None

    @property
    def family(self) -> str:
        """The name of the family that explains the model."""
        return self._family.name

    @property
    def layout(self) -> str:
        """The family, and what the numbers mean, as far as it is known by now."""
        return f"{self._family.name}: {self._reader.reading}"

    @property
    def input_size(self) -> tuple[int, int]:
        """`(H, W)` in pixels."""
        return self._input.size

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """Detections of one frame, best first, in frame pixels.

        Args:
            image: `(H, W, 3)` uint8 RGB.

        Raises:
            InputError: not such an image, the model fails, or its values cannot be right.
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
        return [self._postprocess(outputs, n, *fitted[n]) for n in range(len(fitted))]

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

    def _picture(
        self, outputs: Mapping[str, NDArray[Any]], n: int, fitted: NDArray[np.uint8], frame: tuple[int, int]
    ) -> Picture:
        def mirrored() -> dict[str, NDArray[Any]]:
            return self._run([np.ascontiguousarray(fitted[:, ::-1])], [frame], self._pixels)

        return Picture(outputs, n, frame, mirrored)

    def _postprocess(
        self, outputs: Mapping[str, NDArray[Any]], n: int, fitted: NDArray[np.uint8], placement: Placement
    ) -> Detections:
        read = self._reader.read(self._picture(outputs, n, fitted, placement.size))
        decoded = read.decoded
        wanted = np.isfinite(read.xyxy).all(axis=1)
        if self._kept_classes is not None:
            wanted &= np.isin(decoded.class_id, self._kept_classes)
        rows = np.flatnonzero(wanted)
        whole = Placement((1.0, 1.0), (0, 0), placement.size)
        boxes = (whole if read.reading.space == "frame" else placement).to_frame(read.xyxy[rows])
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        rows, boxes = rows[inside], boxes[inside]
        score = decoded.score[rows]
        if self._family.has_duplicates:
            order = non_maximum_suppression(boxes, score, decoded.class_id[rows], self._iou_threshold)
        else:
            order = np.argsort(-score, kind="stable")
        order = order[: self._max_detections]
        rows, boxes = rows[order], boxes[order]
        masks = None
        if self._prototypes is not None:
            prototypes = np.asarray(outputs[self._prototypes][n], np.float32)
            coefficients = decoded.extra[rows, : len(prototypes)]
            if coefficients.shape[1] < len(prototypes):
                raise InputError(
                    f"{self._model.path}: {coefficients.shape[1]} columns follow the class scores, for "
                    f"{len(prototypes)} prototypes of masks: is class_count right? masks=false leaves masks out"
                )
            masks = decode_masks(coefficients, prototypes, boxes, placement, self._input.size)
        score = np.minimum(decoded.score[rows], 1)  # half precision may round above
        return Detections.of(boxes, score, decoded.class_id[rows], masks=masks)

    def _check_other_inputs(self) -> None:
        fed = (self._input.name, TARGET_SIZES, PIXEL_MASK)
        if any(tensor.name not in fed for tensor in self._model.inputs):
            raise InputError(
                f"{self._model.path}: beside the image only {TARGET_SIZES} or {PIXEL_MASK} can be fed; "
                f"found {self._model.describe()}"
            )

    def _trial(self, pixels: PixelRule) -> TrialRun:
        """Runs the model on a drawn picture."""
        size = self._input.size
        return TrialRun(
            self._run([trial_picture(size)], [size], pixels),
            tuple(tensor.name for tensor in self._model.inputs),
            size,
            self._class_count,
            self._model.metadata,
            self._input.channels_last,
            self._is_open_ended,
        )

    def _find_family(self, name: str, trial: TrialRun) -> Family:
        """The family that was named, or the one with such outputs."""
        task, (height, width) = trial.metadata.get("task", "detect"), trial.size
        if task not in TASKS:
            raise InputError(
                f"{self._model.path}: a model of task {shortened_line(task)}; detect, segment and pose are understood"
            )
        family = family_named(name) if name != "auto" else recognise(trial)
        if family is None:
            understood = ", ".join(known.name for known in FAMILIES)
            raise InputError(
                f"{self._model.path}: no family of detectors explains its outputs on a {height}×{width} image: "
                f"{described(trial.outputs)} ({self._model.describe()}). "
                f"If it is of one of these, name it with family=: {understood}"
            )
        return family

    def _open_reader(self, settings: OnnxSettings, trial: TrialRun) -> OutputReader:
        """Reads the outputs of the trial, so that what cannot be right shows before the first frame."""
        reader = OutputReader(self._model.path, self._family, settings, trial)
        picture = self._picture(trial.outputs, 0, trial_picture(trial.size), trial.size)
        reader.read(picture, is_trial=True)
        reader.check_raw_scores(trial.outputs)
        return reader


def _class_names(names: Any) -> dict[int, str] | None:
    """Ultralytics writes a dictionary, older exports a list."""
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(key, int) for key in names):
        return None
    return {key: str(name) for key, name in names.items()}


def _class_count(names: Mapping[int, str] | None) -> int | None:
    """How many there are, when they are numbered from 0 without gaps."""
    return None if names is None or set(names) != set(range(len(names))) else len(names)


def _integer(dtype: str) -> type:
    return np.int32 if dtype == "tensor(int32)" else np.float32 if dtype == "tensor(float)" else np.int64
