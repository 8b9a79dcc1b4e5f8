"""From rows of a model's outputs to boxes and scores, whatever the family: pure functions, and their records."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from trackweave.detectors.settings import BoxFormat, BoxSpace, ScoreScale

Float = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
"""Strides of the common heads: standard, P6, P2, and the small ones with two levels."""


@dataclass(frozen=True)
class Reading:
    """What the numbers of a row mean.

    Attributes:
        box_format: order of a box's four numbers.
        space: pixels of the input, shares of the input in [0, 1], or pixels of the frame.
        scores: probabilities in [0, 1], percent, or logits.
        class_first: the class stands before the score.
    """

    box_format: BoxFormat = "xyxy"
    space: BoxSpace = "input"
    scores: ScoreScale = "unit"
    class_first: bool = False

    def __str__(self) -> str:
        space = {"input": "pixels of the input", "unit": "[0, 1] of the input", "frame": "pixels of the frame"}
        scale = {"unit": "scores in [0, 1]", "percent": "scores in percent", "logits": "logits"}
        text = f"{self.box_format} in {space[self.space]}, {scale[self.scores]}"
        return f"{text}, the class first" if self.class_first else text


@dataclass(frozen=True)
class DecodedBoxes:
    """K rows of a score that reaches the threshold, before suppression, and what was seen in all rows.

    Attributes:
        boxes: `(K, 4)` float32, as the model gives them.
        score: `(K,)` float32 in [0, 1].
        class_id: `(K,)` int64.
        extra: `(K, E)` float32, what follows in the rows of segment and pose models; E is 0 for others.
        score_range: lowest and highest number that stands for a score, of all rows; NaN when one is.
        class_range: lowest and highest class, of all rows; NaN when one is no whole number, None where a class is the
            place of a score.
        hides_rows: no score is a fraction, and rows with a box and a class have score 0: is it the class that is 0?
    """

    boxes: Float
    score: Float
    class_id: NDArray[np.int64]
    extra: Float
    score_range: tuple[float, float]
    class_range: tuple[float, float] | None = None
    hides_rows: bool = False


def to_xyxy(boxes: Float, box_format: BoxFormat) -> Float:
    """`(K, 4)` boxes of a format → xyxy."""
    if box_format == "yxyx":
        return boxes[:, [1, 0, 3, 2]]
    if box_format == "xywh":
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], axis=1)
    if box_format == "cxcywh":
        half = boxes[:, 2:4] / 2
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return boxes


def to_unit(scores: Float, scale: ScoreScale) -> Float:
    """Scores of a scale → [0, 1]."""
    if scale == "logits":
        return np.asarray(expit(scores), np.float32)
    return scores / np.float32(100) if scale == "percent" else scores


def value_range(values: NDArray[Any]) -> tuple[float, float]:
    """Lowest and highest; NaN when one is, `(0, 0)` of none."""
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def decode_classes(rows: Float, classes: int, run: DecoderInput) -> DecodedBoxes:
    """`(A, 4 + classes [+ more])` box and class scores."""
    scores = rows[:, 4 : 4 + classes]
    best = scores.max(axis=1)
    total = to_unit(best, run.reading.scores)
    kept = np.flatnonzero(total >= run.threshold)
    extra = rows[kept, 4 + classes :]
    return DecodedBoxes(rows[kept, :4], total[kept], scores[kept].argmax(axis=1), extra, value_range(best))


def decode_objectness(rows: Float, classes: int, run: DecoderInput) -> DecodedBoxes:
    """`(A, 5 + classes [+ more])` box, objectness and class scores: the score is their product."""
    seen = value_range(rows[:, 4])
    objectness = to_unit(rows[:, 4], run.reading.scores)
    likely = np.flatnonzero(objectness >= run.threshold)
    rows, total = rows[likely], objectness[likely]
    class_id: NDArray[np.int64] = np.zeros(len(rows), np.int64)
    if classes:
        scores = rows[:, 5 : 5 + classes]
        best = scores.max(axis=1)
        low, high = value_range(best)
        seen = float(np.minimum(seen[0], low)), float(np.maximum(seen[1], high))  # NaN stays
        total, class_id = total * to_unit(best, run.reading.scores), scores.argmax(axis=1)
    kept = np.flatnonzero(total >= run.threshold)
    return DecodedBoxes(rows[kept, :4], total[kept], class_id[kept], rows[kept, 5 + classes :], seen)


def decode_grid(rows: Float, size: tuple[int, int]) -> Float:
    """YOLOX's raw boxes as pixels: cell offsets in units of the stride, logarithms of the extent.

    Ge et al., "YOLOX", arXiv 2107.08430, section 2.1.

    Args:
        rows: `(A, 5 + classes)`.
        size: `(H, W)` of the input.

    Raises:
        ValueError: A is not the number of cells of any common head.
    """
    strides = next((s for s in STRIDES if cell_count(size, s) == len(rows)), None)
    if strides is None:
        raise ValueError(f"{len(rows)} anchors are no grid of {size[0]}×{size[1]}")
    cells, scale = [], []
    for stride in strides:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
        scale.append(np.full((x.size, 1), stride))
    grid, stride_of = np.concatenate(cells).astype(np.float32), np.concatenate(scale).astype(np.float32)
    decoded = rows.copy()
    decoded[:, :2] = (rows[:, :2] + grid) * stride_of
    with np.errstate(over="ignore"):  # an unlikely anchor may overflow; boxes that are not finite are dropped later
        decoded[:, 2:4] = np.exp(rows[:, 2:4]) * stride_of
    return decoded


def cell_count(size: tuple[int, int], strides: tuple[int, ...]) -> int:
    """Cells of all levels of a head over an input `(H, W)`."""
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def anchors_per_cell(size: tuple[int, int], count: int) -> int | None:
    """1 or 3 when `count` anchors fill the grids of a common head on an input `(H, W)`, else None."""
    return next((n for n in (1, 3) if any(n * cell_count(size, s) == count for s in STRIDES)), None)


def decode_rows(boxes: Any, score: Any, class_id: Any, run: DecoderInput, extra: Any = None) -> DecodedBoxes:
    """Boxes that the model itself has decoded and filtered.

    Raises:
        ValueError: columns of different lengths.
    """
    raw = np.asarray(score, np.float32).reshape(-1)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    classes = np.asarray(class_id, np.float64).reshape(-1)
    if not len(raw) == len(boxes) == len(classes):
        raise ValueError(f"{len(boxes)} boxes, {len(raw)} scores, {len(classes)} classes")
    further = np.zeros((len(raw), 0), np.float32) if extra is None else np.asarray(extra, np.float32)
    total = to_unit(raw, run.reading.scores)
    kept = np.flatnonzero(total >= run.threshold)
    named = classes[~np.isnan(classes)]  # padding may have none
    whole = len(named) == len(classes) or not np.isnan(classes[kept]).any()
    whole = whole and bool((named == np.round(named)).all()) and bool(np.isfinite(named).all())
    return DecodedBoxes(
        boxes[kept],
        total[kept],
        classes[kept].astype(np.int64) if whole else np.full(len(kept), -1, np.int64),
        further[kept],
        value_range(raw),
        value_range(named) if whole else (math.nan, math.nan),
        not (np.floor(raw) != raw).any() and bool(((raw == 0) & (classes >= 1) & boxes.any(axis=1)).any()),
    )


def decode_queries(logits: Float, boxes: Float, run: DecoderInput, no_object: bool) -> DecodedBoxes:
    """DETR's queries.

    Args:
        logits: `(Q, classes)`; with `no_object` one more, the last.
        boxes: `(Q, 4)`.
        run: whose reading says whether these are logits, as usual, or probabilities already.
        no_object: softmax with a last class for "nothing here" (Carion et al., arXiv 2005.12872); else a sigmoid per
            class.
    """
    seen = value_range(logits)
    if np.isneginf(seen[0]) and not np.isnan(seen[1]):  # a class that is masked out
        seen = float(logits[np.isfinite(logits)].min(initial=0)), seen[1]
    if no_object:
        scores = (softmax(logits, axis=1) if run.reading.scores == "logits" else logits)[:, :-1]
    else:
        scores = to_unit(logits, run.reading.scores)
    best = scores.max(axis=1)
    kept = np.flatnonzero(best >= run.threshold)
    nothing = np.zeros((len(kept), 0), np.float32)
    return DecodedBoxes(boxes[kept], best[kept], scores[kept].argmax(axis=1), nothing, seen)


@dataclass(frozen=True)
class TrialRun:
    """A model's outputs for a picture, and its metadata.

    Attributes:
        outputs: by name, of one trial run.
        inputs: names of all inputs.
        size: `(H, W)` of the image input.
        classes: number of classes, when the metadata or the settings tell it.
        metadata: of the model.
        channels_last: whether the image input is `(N, H, W, 3)`.
        open_ended: the user says the number of classes: whatever follows their scores is not read.
    """

    outputs: Arrays
    inputs: tuple[str, ...]
    size: tuple[int, int]
    classes: int | None
    metadata: Mapping[str, str]
    channels_last: bool = False
    open_ended: bool = False

    @property
    def is_end_to_end(self) -> bool:
        """Ultralytics' metadata say so: YOLOv10 and YOLO26 by `end2end`, others exported with `nms=True` by `args`."""
        args = literal(self.metadata.get("args"))
        return literal(self.metadata.get("end2end")) is True or (isinstance(args, dict) and args.get("nms") is True)


@dataclass(frozen=True)
class DecoderInput:
    """The outputs of a run, and which image of them to decode.

    Attributes:
        outputs: by name.
        image: position in the batch.
        size: `(H, W)` of the model's input.
        classes: number of classes, when it is known.
        extra: columns behind the class scores, when it is known.
        threshold: lowest score.
        reading: what the numbers mean.
    """

    outputs: Arrays
    image: int
    size: tuple[int, int]
    classes: int | None
    extra: int | None
    threshold: float
    reading: Reading


def literal(text: str | None) -> Any:
    """Metadata that are written as a Python literal, as Ultralytics does; None when absent or something else."""
    try:
        return None if text is None else ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
