"""From a model's output tensors to boxes: one function per layout. Every function is pure and sees one image.

Layouts are those of the exporters named with each family in `onnx_families.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

Float = NDArray[np.float32]

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
"""Strides of the usual heads: standard, P6, P2, and the small ones with two."""


@dataclass(frozen=True)
class Candidates:
    """K boxes before suppression.

    Attributes:
        xyxy: `(K, 4)` float32, in the coordinates that the family says.
        score: `(K,)` float32.
        class_id: `(K,)` int64.
    """

    xyxy: Float
    score: Float
    class_id: NDArray[np.int64]


def centre_to_corners(cxcywh: Float) -> Float:
    """`(K, 4)` centre x, centre y, width, height → xyxy."""
    half = cxcywh[:, 2:4] / 2
    return np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], axis=1)


def decode_classes(rows: Float, classes: int | None, threshold: float) -> Candidates:
    """`(A, 4 + classes [+ more])` cxcywh and class scores.

    Args:
        rows: one row per anchor.
        classes: how many columns are classes; None = all.
        threshold: lowest score.
    """
    scores = rows[:, 4:] if classes is None else rows[:, 4 : 4 + classes]
    kept = np.flatnonzero(scores.max(axis=1) >= threshold)
    chosen = scores[kept]
    return Candidates(centre_to_corners(rows[kept, :4]), chosen.max(axis=1), chosen.argmax(axis=1))


def decode_objectness(rows: Float, classes: int | None, threshold: float) -> Candidates:
    """`(A, 5 + classes [+ more])` cxcywh, objectness and class scores: the score is their product."""
    rows = rows[rows[:, 4] >= threshold]
    scores = rows[:, 5:] if classes is None else rows[:, 5 : 5 + classes]
    if not scores.shape[1]:
        return Candidates(centre_to_corners(rows[:, :4]), rows[:, 4], np.zeros(len(rows), np.int64))
    total = rows[:, 4] * scores.max(axis=1)
    kept = np.flatnonzero(total >= threshold)
    return Candidates(centre_to_corners(rows[kept, :4]), total[kept], scores[kept].argmax(axis=1))


def decode_grid(rows: Float, size: tuple[int, int]) -> Float:
    """YOLOX's raw boxes as pixels: cell offsets in units of the stride, logarithms of the extent.

    Ge et al., "YOLOX", arXiv 2107.08430, section 2.1.

    Args:
        rows: `(A, 5 + classes)`.
        size: `(H, W)` of the input.

    Raises:
        ValueError: A is not the number of cells of any usual head.
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
    with np.errstate(over="ignore"):  # a hopeless anchor may be endless; boxes that are not finite are left out
        decoded[:, 2:4] = np.exp(rows[:, 2:4]) * stride_of
    return decoded


def cell_count(size: tuple[int, int], strides: tuple[int, ...]) -> int:
    """Cells of all levels of a head over an input `(H, W)`."""
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def anchors_per_cell(size: tuple[int, int], count: int) -> int | None:
    """1 or 3 when `count` anchors fill the usual grids of an input `(H, W)`, else None."""
    return next((n for n in (1, 3) if any(n * cell_count(size, s) == count for s in STRIDES)), None)


def decode_rows(xyxy: Any, score: Any, class_id: Any, threshold: float) -> Candidates:
    """Boxes that the model itself has finished."""
    score = np.asarray(score, np.float32).reshape(-1)
    kept = np.flatnonzero(score >= threshold)
    boxes = np.asarray(xyxy, np.float32).reshape(-1, 4)[kept]
    # Classes come as floats from some exports; NaN there would make an arbitrary integer.
    classes = np.nan_to_num(np.asarray(class_id).reshape(-1)[kept], nan=-1.0)
    return Candidates(boxes, score[kept], classes.astype(np.int64))


def decode_queries(logits: Float, cxcywh: Float, threshold: float, no_object: bool) -> Candidates:
    """DETR's queries.

    Args:
        logits: `(Q, classes)`; with `no_object` one more, the last.
        cxcywh: `(Q, 4)` in [0, 1] of the input.
        threshold: lowest score.
        no_object: softmax with a last class for "nothing here" (Carion et al., arXiv 2005.12872); else a sigmoid per
            class.
    """
    scores = softmax(logits, axis=1)[:, :-1] if no_object else expit(logits)
    best = scores.max(axis=1)
    kept = np.flatnonzero(best >= threshold)
    return Candidates(centre_to_corners(cxcywh[kept]), best[kept], scores[kept].argmax(axis=1))
