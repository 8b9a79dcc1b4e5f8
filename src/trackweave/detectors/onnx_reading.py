"""What the numbers of a model's outputs mean, found by their values (`OutputReader`): on a drawn picture when the model
is opened, and on the first frames with detections.

A reading is refuted by scores outside [0, 1], classes that are no whole numbers, and boxes outside the picture, without
extent, or smaller than a pixel and a half (as shares of the picture are, taken for pixels). Which of two orders of a
box's numbers holds may not show in one picture: then the model sees the picture mirrored, too. A box has to be mirrored
with it, which only the right order says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import box_iou
from trackweave.detectors.onnx_decoding import (
    Arrays,
    DecodedBoxes,
    DecoderInput,
    Float,
    Reading,
    TrialRun,
    to_xyxy,
    value_range,
)
from trackweave.detectors.onnx_families import Family, extra_columns, tensorflow_roles
from trackweave.detectors.onnx_session import LONGEST_NAME, LONGEST_TENSOR, described
from trackweave.detectors.settings import BoxFormat, OnnxSettings
from trackweave.errors import InputError, listed, shortened_line

SLACK = 0.01
"""How far a score may leave its range: half precision and quantised models round."""
SPECK = 1.5
"""A box whose longer side has fewer pixels of the input than this is none that a detector finds."""
FAR = 10.0
"""A corner so many pictures away is not one of an object at the border."""
TRIAL_SCORE = 0.3
"""On the drawn picture only detections of this score tell something about boxes."""
TYPICAL_SCORE = 0.3
"""A column of a raw head in which half of all anchors exceed this holds no class scores."""
MIRROR_RUNS = 5
"""Frames that are looked at mirrored before the usual order is taken for granted."""
COMPARED = 20
MOVED = 0.8
"""A box that overlaps its own mirror image more than this does not tell whether it was mirrored."""
CONFIRMED, LEAD = 0.6, 0.3
"""Mean IoU with the mirrored boxes from which a reading holds, and by how much another has to be above the usual."""


def trial_picture(size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture `(H, W, 3)` with coloured shapes left of its middle, all at another height than breadth."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([30 + 40 * columns // width, 30 + 40 * rows // height, 50 + 0 * rows], axis=2).astype(np.uint8)
    for colour, (left, top, right, bottom) in (
        ((255, 20, 20), (0.08, 0.12, 0.30, 0.52)),
        ((20, 255, 20), (0.40, 0.20, 0.55, 0.36)),
        ((20, 20, 255), (0.15, 0.62, 0.50, 0.80)),
        ((255, 255, 255), (0.20, 0.25, 0.27, 0.34)),
    ):
        corners = (int(left * width), int(top * height)), (int(right * width), int(bottom * height))
        cv2.rectangle(picture, *corners, colour, -1)
    return picture


@dataclass(frozen=True)
class ReadBoxes:
    """One image's detections under a reading.

    Attributes:
        reading: the reading.
        decoded: the rows that reach the threshold.
        xyxy: `(K, 4)` float32, pixels of the input, or of the frame where the reading says so.
        problem: why the reading cannot hold, in words; None when nothing speaks against it.
        is_certain: one frame is enough for the problem, also when the reading has held before.
    """

    reading: Reading
    decoded: DecodedBoxes
    xyxy: Float
    problem: str | None = None
    is_certain: bool = True


@dataclass(frozen=True)
class Picture:
    """What a model was run on.

    Attributes:
        outputs: of the model.
        image: position in the batch.
        frame: `(H, W)` of the frame.
        mirrored: runs the model on the mirrored image alone.
    """

    outputs: Arrays
    image: int
    frame: tuple[int, int]
    mirrored: Callable[[], Arrays]


class OutputReader:
    """Reads the outputs of one model, and settles on a reading when values have confirmed it.

    Args:
        path: of the model, for messages.
        family: of the model.
        settings: what the user says of the outputs holds.
        trial: the outputs for a picture, and what is known of the model.

    Attributes:
        reading: the one in use.
    """

    def __init__(self, path: Path, family: Family, settings: OnnxSettings, trial: TrialRun) -> None:
        self._path, self._family, self._size, self._classes = path, family, trial.size, trial.classes
        self._extra, self._threshold = extra_columns(trial), settings.score_threshold
        self._readings = _readings(family, settings, trial.outputs)
        self._orders: tuple[BoxFormat, ...] = get_args(BoxFormat) if settings.box_format is None else ()
        in_frame = any(reading.space == "frame" for reading in self._readings)  # the model knows the frame
        self._mirror_runs = 0 if in_frame or not self._orders else MIRROR_RUNS
        self._is_settled = False
        self.reading = self._readings[0]

    @np.errstate(over="ignore", invalid="ignore")
    def check_raw_scores(self, outputs: Arrays) -> None:
        """Looks at all class scores of a raw head, also the lowest: key points and angles are none.

        Raises:
            InputError: these are no scores.
        """
        if self._family.scores_of is None or self.reading.scores != "unit":
            return
        scores = self._family.scores_of(self._input(outputs, 0, self.reading, 0.0))
        if not scores.size:
            return
        low, high = value_range(scores)
        if low < -SLACK or high > 1 + SLACK:
            raise self._refusal(f"class scores are {low:.4g} … {high:.4g}", outputs)
        typical = np.median(scores, axis=0)
        if self._classes is None and self._family.name == "yolov8" and typical.max() > TYPICAL_SCORE:
            column, value = 4 + int(typical.argmax()), typical.max()
            raise self._refusal(f"column {column} is {value:.3g} in half of all rows, as no class score is", outputs)

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite then is refused, or left out
    def read(self, picture: Picture, *, is_trial: bool = False) -> ReadBoxes:
        """The detections of one image.

        Args:
            picture: the outputs for it.
            is_trial: a drawn picture, on which weak detections mean nothing.

        Raises:
            InputError: the values fit no reading; the message says what was seen and what can be set.
        """
        threshold = max(self._threshold, TRIAL_SCORE) if is_trial else self._threshold
        usual = self._judge(self.reading, picture, threshold)
        if self._is_settled:
            if usual.problem is not None and usual.is_certain:
                raise self._refusal(usual.problem, picture.outputs)
            return usual
        if usual.problem is None and not len(usual.xyxy):
            return usual  # nothing seen yet
        chosen = self._settle(usual, picture, threshold)
        self.reading = chosen.reading
        return chosen

    def _settle(self, usual: ReadBoxes, picture: Picture, threshold: float) -> ReadBoxes:
        """The reading that the values of a picture with detections allow."""
        judged = [usual, *(self._judge(r, picture, threshold) for r in self._readings if r != usual.reading)]
        possible = [each for each in judged if each.problem is None]
        possible = [each for each in possible if each is usual or _explains(each, usual.reading)]
        chosen = possible[0] if possible else None
        if self._mirror_runs:
            self._mirror_runs -= 1
            chosen = self._by_mirror(chosen, picture, threshold)
        elif chosen is not None:
            self._is_settled = bool(len(chosen.xyxy))
        if chosen is None:
            raise self._refusal(usual.problem or "no reading", picture.outputs)
        return chosen

    def _by_mirror(self, chosen: ReadBoxes | None, picture: Picture, threshold: float) -> ReadBoxes | None:
        """`chosen`, or the reading whose boxes are mirrored with the picture when those of `chosen` are not."""
        flipped = replace(picture, outputs=picture.mirrored(), image=0)
        readings = dict.fromkeys(replace(r, box_format=order) for r in self._readings for order in self._orders)
        if chosen is not None:
            readings = dict.fromkeys([chosen.reading, *readings])
        agreed: list[tuple[float, ReadBoxes]] = []
        for reading in readings:
            judged = self._judge(reading, picture, threshold)
            if judged.problem is None and len(judged.xyxy) and _explains(judged, self.reading):
                agreement = _agreement(judged, self._judge(reading, flipped, threshold), self._size[1])
                if agreement is not None:
                    agreed.append((agreement, judged))
        if not agreed:
            return chosen
        of_chosen = next((a for a, judged in agreed if chosen is not None and judged.reading == chosen.reading), 0.0)
        best, convincing = max(agreed, key=lambda pair: pair[0])
        self._is_settled = best >= CONFIRMED
        return convincing if best >= max(CONFIRMED, of_chosen + LEAD) else chosen

    def _judge(self, reading: Reading, picture: Picture, threshold: float) -> ReadBoxes:
        outputs = picture.outputs
        try:
            decoded = self._family.decode(self._input(outputs, picture.image, reading, threshold))
        except (IndexError, ValueError, OverflowError, TypeError) as error:
            text = f"{self._path}: these are not outputs of family {self._family.name}: {described(outputs)} ({error})"
            raise InputError(text) from error
        xyxy = to_xyxy(decoded.boxes, reading.box_format)
        height, width = picture.frame if reading.space == "frame" else self._size
        if reading.space == "unit":
            xyxy = xyxy * np.array([width, height, width, height], np.float32)
        problem = _score_problem(decoded.score_range, reading) or _class_problem(decoded, self._classes)
        if problem is None and decoded.hides_rows and any(r.class_first != reading.class_first for r in self._readings):
            problem = "there are boxes of a class, but all scores are 0"
        if problem is not None:
            return ReadBoxes(reading, decoded, xyxy, problem)
        problem, is_certain = _box_problem(xyxy, (height, width))
        return ReadBoxes(reading, decoded, xyxy, problem, is_certain)

    def _input(self, outputs: Arrays, image: int, reading: Reading, threshold: float) -> DecoderInput:
        return DecoderInput(outputs, image, self._size, self._classes, self._extra, threshold, reading)

    def _refusal(self, problem: str, outputs: Arrays) -> InputError:
        texts = (_with_range(shortened_line(name, LONGEST_NAME), array) for name, array in outputs.items())
        seen = listed(texts, length=LONGEST_TENSOR)
        return InputError(
            f"{self._path}: read as family {self._family.name} ({self.reading}), {problem}. Outputs: {seen}. "
            "Say how to read them by options of the detector: family, box_format, box_space, scores, class_first, "
            "class_count"
        )


def _readings(family: Family, settings: OnnxSettings, outputs: Arrays) -> tuple[Reading, ...]:
    """The family's readings, as far as the settings leave them open."""
    readings = family.readings
    if family.name == "nms" and tensorflow_roles(outputs) is not None:
        readings = Reading(), Reading("yxyx", "unit")  # the same names, and TensorFlow's shares have y first
    said = {
        "box_format": settings.box_format,
        "space": settings.box_space,
        "scores": settings.scores,
        "class_first": settings.class_first,
    }
    fixed = {name: value for name, value in said.items() if value is not None}
    return tuple(dict.fromkeys(replace(reading, **fixed) for reading in readings))  # type: ignore[arg-type]


def _explains(read: ReadBoxes, usual: Reading) -> bool:
    """Do the values speak for this reading, and not only nothing against it?"""
    if read.reading.class_first != usual.class_first:  # a class may be 0 or 1 as well: a fraction is a score
        return bool((read.decoded.score % 1 > 0).any())
    # Where nothing is detected nothing is explained, unless scores are low.
    return bool(len(read.xyxy)) or read.reading == replace(usual, scores=read.reading.scores)


def _score_problem(seen: tuple[float, float], reading: Reading) -> str | None:
    low, high = seen
    if not np.isfinite(high) or np.isnan(low) or (np.isinf(low) and reading.scores != "logits"):
        return f"scores are not finite ({low:.4g} … {high:.4g})"
    if reading.scores == "logits":
        return f"logits lie in {low:.3g} … {high:.3g}, none below 0" if 0 <= low <= 1 else None
    limit = 100 if reading.scores == "percent" else 1
    return f"scores reach {high:.4g}" if high > limit * (1 + SLACK) else None


def _class_problem(decoded: DecodedBoxes, classes: int | None) -> str | None:
    if decoded.class_range is None:
        return None
    low, high = decoded.class_range
    if np.isnan(high):
        return "classes are not whole numbers"
    if classes is not None and high > classes:  # some count the background
        return f"classes reach {high:.0f}, of {classes}"
    return f"classes go down to {low:.0f}" if low < -1 else None


def _box_problem(xyxy: Float, size: tuple[int, int]) -> tuple[str | None, bool]:
    """What is wrong with the boxes `(K, 4)` of a picture `(H, W)`, and whether that is certain without others."""
    xyxy = xyxy[np.isfinite(xyxy).all(axis=1)]
    extent = xyxy[:, 2:] - xyxy[:, :2]
    has_extent = (extent != 0).all(axis=1) | (extent < 0).any(axis=1)
    xyxy, extent = xyxy[has_extent], extent[has_extent]
    if not len(xyxy):
        return None, False
    sides = np.array([size[1], size[0]], np.float64)
    places = xyxy.reshape(-1, 2, 2) / sides
    fits = (extent > 0).all(axis=1) & (extent.max(axis=1) >= SPECK) & ((places > -0.5) & (places < 1.5)).all((1, 2))
    is_far = bool((np.abs(places) > FAR).any())
    if not is_far and fits.mean() >= 0.5:
        return None, False
    low, high = xyxy.min(axis=0), xyxy.max(axis=0)
    ranges = ", ".join(
        f"{name} {a:.4g} … {b:.4g}" for name, a, b in zip(("x1", "y1", "x2", "y2"), low, high, strict=True)
    )
    text = (
        f"{len(xyxy) - int(fits.sum())} of {len(xyxy)} boxes do not lie in a picture of {size[0]}×{size[1]}: {ranges}"
    )
    return text, is_far or (len(xyxy) >= 3 and not fits.any())


def _agreement(straight: ReadBoxes, flipped: ReadBoxes, width: int) -> float | None:
    """Mean IoU of the best boxes, mirrored in a picture of this width, with those of the mirrored picture.

    A box that the mirrored picture shows where it was before agrees with nothing: the model ignores its picture.
    None when every box is its own mirror image.
    """
    order = np.argsort(-straight.decoded.score, kind="stable")
    best = order[np.isfinite(straight.xyxy[order]).all(axis=1)][:COMPARED]
    boxes, class_id = straight.xyxy[best], straight.decoded.class_id[best]
    seen = np.isfinite(flipped.xyxy).all(axis=1)
    others, other_class = flipped.xyxy[seen], flipped.decoded.class_id[seen]
    expected = boxes[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1]) + np.array([width, 0, width, 0])
    moves = np.diagonal(box_iou(boxes, expected)) < MOVED
    if not moves.any():
        return None
    if not len(others):
        return 0.0
    same_class = class_id[moves][:, None] == other_class[None]
    moved, stayed = ((box_iou(each[moves], others) * same_class).max(axis=1) for each in (expected, boxes))
    return float(np.where(moved > stayed, moved, 0).mean())


def _with_range(name: str, array: NDArray[np.generic]) -> str:
    """An output with the range of its values; by column where there are few."""
    if array.dtype.kind not in "fiub" or not array.size:
        return f"{name} {array.shape} {array.dtype}"
    values = np.asarray(array, np.float64)
    if values.ndim >= 2 and 4 <= values.shape[-1] <= 8:
        rows = values.reshape(-1, values.shape[-1])
        ranges = [f"{low:.4g}…{high:.4g}" for low, high in zip(rows.min(axis=0), rows.max(axis=0), strict=True)]
        return f"{name} {array.shape} {array.dtype}, by column {', '.join(ranges)}"
    return f"{name} {array.shape} {array.dtype} {values.min():.4g}…{values.max():.4g}"
