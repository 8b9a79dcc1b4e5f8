"""How well masks agree with ground truth: the DAVIS measures J and F.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016;
averaged per object as in Pont-Tuset et al., "The 2017 DAVIS Challenge", arXiv 1704.00675.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class Statistics(NamedTuple):
    """The scores of one object over a sequence.

    Attributes:
        mean: mean over frames.
        recall: share of frames that score above 0.5.
        decay: mean of the first quarter of the frames minus mean of the last.
    """

    mean: float
    recall: float
    decay: float


class ObjectScores(NamedTuple):
    """Statistics of one object's region similarity and boundary measure."""

    region: Statistics
    boundary: Statistics


def region_similarity(pred: Mask, gt: Mask) -> float:
    """J: intersection over union of two masks `(H, W)` bool; two empty masks agree (1).

    Raises:
        ValueError: masks of different shapes.

    >>> region_similarity(np.array([[True, True, False]]), np.array([[False, True, True]]))
    0.3333333333333333
    """
    _same_shape(pred, gt)
    union = np.count_nonzero(pred | gt)
    return 1.0 if union == 0 else float(np.count_nonzero(pred & gt) / union)


def boundary_measure(pred: Mask, gt: Mask, bound_th: float = 0.008) -> float:
    """F: harmonic mean of the precision and recall of a mask's boundary.

    A boundary pixel is matched when the other boundary passes within a disk around it (a dilation of both, in place
    of a bipartite assignment, as the DAVIS code does).

    Args:
        pred: `(H, W)` bool.
        gt: `(H, W)` bool.
        bound_th: radius of the disk: below 1 a share of the image's diagonal, rounded up, else pixels.

    Raises:
        ValueError: masks of different shapes.
    """
    import cv2

    _same_shape(pred, gt)
    radius = boundary_radius(gt.shape, bound_th)
    pred_edge, gt_edge = boundary_of(pred), boundary_of(gt)
    pred_count, gt_count = np.count_nonzero(pred_edge), np.count_nonzero(gt_edge)
    if pred_count == 0 or gt_count == 0:
        return float(pred_count == gt_count)
    # Pixels beyond the two boundaries and the disk decide nothing.
    rows, columns = np.nonzero(pred_edge | gt_edge)
    window = (
        slice(max(rows.min() - radius, 0), rows.max() + radius + 1),
        slice(max(columns.min() - radius, 0), columns.max() + radius + 1),
    )
    pred_edge, gt_edge, around = pred_edge[window], gt_edge[window], disk(radius)
    near_gt, near_pred = (cv2.dilate(edge.astype(np.uint8), around) > 0 for edge in (gt_edge, pred_edge))
    precision = np.count_nonzero(pred_edge & near_gt) / pred_count
    recall = np.count_nonzero(gt_edge & near_pred) / gt_count
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def statistics(scores: Sequence[float] | NDArray[np.float64]) -> Statistics:
    """Mean, recall and decay of one object's scores per frame; all NaN without a frame.

    >>> statistics([1.0, 0.8, 0.6, 0.4])
    Statistics(mean=0.7, recall=0.75, decay=0.4)
    """
    values = np.asarray(scores, np.float64)
    if values.size == 0:
        return Statistics(math.nan, math.nan, math.nan)
    # Four bins over frames 1 … n that share their ends; the 1e-10 is in the DAVIS definition.
    ends = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    return Statistics(float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean()))


def boundary_radius(size: tuple[int, ...], bound_th: float) -> int:
    """How far apart two boundaries still agree, in pixels: `bound_th` itself, or below 1 a share of the diagonal."""
    return int(bound_th) if bound_th >= 1 else math.ceil(bound_th * math.hypot(*size))


def boundary_of(mask: Mask) -> Mask:
    """Pixels that differ from their right, lower or lower right neighbour; the image's edge is no boundary."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    edge: Mask = (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])
    return edge


def disk(radius: int) -> NDArray[np.uint8]:
    """`(2r+1, 2r+1)` uint8, 1 within `radius` of the centre."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius, np.uint8)


def _same_shape(pred: Mask, gt: Mask) -> None:
    if pred.shape != gt.shape or pred.ndim != 2 or pred.dtype != np.bool_ or gt.dtype != np.bool_:
        raise ValueError(f"masks are (H, W) bool of one size, not {pred.shape} {pred.dtype} and {gt.shape} {gt.dtype}")
