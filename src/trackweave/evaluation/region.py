"""How well masks agree with ground truth: the DAVIS measures J and F.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016;
averaged per object as in Pont-Tuset et al., "The 2017 DAVIS Challenge", arXiv 1704.00675.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.formats.davis import VOID, read_label_png

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


@dataclass(frozen=True)
class DavisScores:
    """What `evaluate_davis` found.

    Attributes:
        objects: scores per object id of the first annotated frame.
        frames: frames that were scored.
        missing: how many of them had no prediction, and counted as empty.
    """

    objects: Mapping[int, ObjectScores]
    frames: int
    missing: int

    @property
    def j_mean(self) -> float:
        """Region similarity, mean over frames, then objects; NaN without objects."""
        return _mean([scores.region.mean for scores in self.objects.values()])

    @property
    def f_mean(self) -> float:
        """Boundary measure, mean over frames, then objects; NaN without objects."""
        return _mean([scores.boundary.mean for scores in self.objects.values()])

    @property
    def jf_mean(self) -> float:
        """Mean of the two."""
        return (self.j_mean + self.f_mean) / 2


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
    radius = int(bound_th) if bound_th >= 1 else math.ceil(bound_th * math.hypot(*gt.shape))
    pred_edge, gt_edge = _boundary(pred), _boundary(gt)
    pred_count, gt_count = np.count_nonzero(pred_edge), np.count_nonzero(gt_edge)
    if pred_count == 0 or gt_count == 0:
        return float(pred_count == gt_count)
    # Pixels beyond the two boundaries and the disk decide nothing.
    rows, columns = np.nonzero(pred_edge | gt_edge)
    window = (
        slice(max(rows.min() - radius, 0), rows.max() + radius + 1),
        slice(max(columns.min() - radius, 0), columns.max() + radius + 1),
    )
    pred_edge, gt_edge, disk = pred_edge[window], gt_edge[window], _disk(radius)
    near_gt, near_pred = (cv2.dilate(edge.astype(np.uint8), disk) > 0 for edge in (gt_edge, pred_edge))
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


def evaluate_davis(gt_dir: Path | str, pred_dir: Path | str) -> DavisScores:
    """Scores a folder of label images against ground truth, by the semi-supervised DAVIS protocol.

    Images are paired by name. The first annotated frame (it is given to the method) and the last are left out;
    objects are those of the first; label 255 is void and ignored in both images; a missing prediction is empty.

    Args:
        gt_dir: indexed PNGs, one per annotated frame.
        pred_dir: indexed PNGs of the same names.

    Raises:
        InputError: fewer than 3 annotated frames, an unreadable image, or images of different sizes.
    """
    truths = sorted(Path(gt_dir).glob("*.png"))
    if len(truths) < 3:
        raise InputError(f"{gt_dir}: needs at least 3 annotated frames (*.png), has {len(truths)}")
    ids = [int(label) for label in np.unique(read_label_png(truths[0])) if label not in (0, VOID)]
    regions: dict[int, list[float]] = {label: [] for label in ids}
    boundaries: dict[int, list[float]] = {label: [] for label in ids}
    missing = 0
    for path in truths[1:-1]:
        gt, other = read_label_png(path), Path(pred_dir) / path.name
        missing += not other.is_file()
        pred = read_label_png(other) if other.is_file() else np.zeros_like(gt)
        if pred.shape != gt.shape:
            raise InputError(f"{other}: is {pred.shape}, its ground truth {gt.shape} (height, width)")
        for label in ids:
            pred_mask, gt_mask = (pred == label) & (gt != VOID), gt == label
            regions[label].append(region_similarity(pred_mask, gt_mask))
            boundaries[label].append(boundary_measure(pred_mask, gt_mask))
    objects = {label: ObjectScores(statistics(regions[label]), statistics(boundaries[label])) for label in ids}
    return DavisScores(objects, len(truths) - 2, missing)


def _boundary(mask: Mask) -> Mask:
    """Pixels that differ from their right, lower or lower right neighbour; the image's edge is no boundary."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    edge: Mask = (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])
    return edge


def _disk(radius: int) -> NDArray[np.uint8]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius, np.uint8)


def _same_shape(pred: Mask, gt: Mask) -> None:
    if pred.shape != gt.shape or pred.ndim != 2 or pred.dtype != np.bool_ or gt.dtype != np.bool_:
        raise ValueError(f"masks are (H, W) bool of one size, not {pred.shape} {pred.dtype} and {gt.shape} {gt.dtype}")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
