"""J and F, the DAVIS measures of masks: of two masks, of all pairs of two sets, and of the objects of a sequence.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016;
averaged per object as in Pont-Tuset et al., "The 2017 DAVIS Challenge", arXiv 1704.00675.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.errors import InputError
from trackweave.evaluation.annotations import LabelFolderAnnotations, align_masks, frame_label, masks_of
from trackweave.masks.ops import mask_intersection, mask_iou
from trackweave.masks.packed import PackedMasks

Mask = NDArray[np.bool_]
BOUND_TH = 0.008
"""Radius within which boundaries agree, as a share of the image's diagonal."""
ENDS = 2
"""First and last frame, which the semi-supervised protocol leaves out."""


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


def boundary_measure(pred: Mask, gt: Mask, bound_th: float = BOUND_TH) -> float:
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
    """Distance up to which two boundaries agree, in pixels: `bound_th` itself, or below 1 a share of the diagonal."""
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


class Edges(NamedTuple):
    """Boundaries of N masks, and what lies near them, packed."""

    lines: PackedMasks
    near: PackedMasks


def region_similarities(one: PackedMasks, other: PackedMasks) -> NDArray[np.float64]:
    """`(N, M)` J; two empty masks agree (1).

    Raises:
        ValueError: masks of different sizes.
    """
    both_empty = (one.areas == 0)[:, None] & (other.areas == 0)[None]
    return np.where(both_empty, 1.0, mask_iou(one, other))


def edges_of(masks: PackedMasks, bound_th: float = BOUND_TH) -> Edges:
    """Boundaries of masks and the pixels within the radius of `boundary_measure` around them."""
    import cv2

    radius = boundary_radius(masks.size, bound_th)
    lines = PackedMasks.empty(*masks.size, len(masks))
    near = PackedMasks.empty(*masks.size, len(masks))
    around = disk(radius)
    for n, (x1, y1, x2, y2) in enumerate(masks.boxes.tolist()):
        if x1 == x2:
            continue
        # The boundary and everything near it lie in this window, which is wider than the mask except at the image's
        # edge: no work is done outside of it.
        top, left = max(y1 - radius - 2, 0), max(x1 - radius - 2, 0)
        window = np.s_[top : y2 + radius + 2, left : x2 + radius + 2]
        edge = boundary_of(np.ascontiguousarray(masks[n].to_bool()[0][window]))
        for target, crop in ((lines, edge), (near, cv2.dilate(edge.view(np.uint8), around).view(np.bool_))):
            target.bits[n] = PackedMasks.from_crops([crop], np.array([[top, left]]), *masks.size).bits[0]
    return Edges(lines, near)


def boundary_measures(one: Edges, other: Edges) -> NDArray[np.float64]:
    """`(N, M)` F, equal to `boundary_measure` of each pair.

    Raises:
        ValueError: masks of different sizes.
    """
    n_one, n_other = one.lines.areas[:, None], other.lines.areas[None]
    precision = mask_intersection(one.lines, other.near) / np.maximum(n_one, 1)
    recall = mask_intersection(one.near, other.lines) / np.maximum(n_other, 1)
    total = precision + recall
    harmonic_mean = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return np.where((n_one == 0) | (n_other == 0), (n_one == n_other).astype(np.float64), harmonic_mean)


class RegionFrames(ABC):
    """Collects J and F frame by frame."""

    @abstractmethod
    def add(
        self, ids: NDArray[np.int64], truth: PackedMasks, track_ids: NDArray[np.int64], tracks: PackedMasks
    ) -> None:
        """One frame: its true objects and its tracks, masks of one size."""

    @abstractmethod
    def skip(self, count: int) -> None:
        """Frames without a true object and without a track: where both are empty, J and F are 1."""

    @abstractmethod
    def objects(self) -> Mapping[int, ObjectScores]:
        """The statistics of each object, by its identity."""


class RegionByIds(RegionFrames):
    """The track of the same number.

    Args:
        labels: the objects.
    """

    def __init__(self, labels: Sequence[int]) -> None:
        self._series: dict[int, list[tuple[float, float]]] = {label: [] for label in labels}

    def add(
        self, ids: NDArray[np.int64], truth: PackedMasks, track_ids: NDArray[np.int64], tracks: PackedMasks
    ) -> None:
        """One frame; an object that is not there is an empty mask."""
        for label, series in self._series.items():
            one, other = (
                masks[np.flatnonzero(labels == label)] if label in labels else PackedMasks.empty(*truth.size, 1)
                for labels, masks in ((track_ids, tracks), (ids, truth))
            )
            region = region_similarities(one, other)[0, 0]
            series.append((float(region), float(boundary_measures(edges_of(one), edges_of(other))[0, 0])))

    def skip(self, count: int) -> None:
        """Frames without any object."""
        for series in self._series.values():
            series.extend([(1.0, 1.0)] * count)

    def objects(self) -> Mapping[int, ObjectScores]:
        """The statistics of each object."""
        return {label: _statistics(np.array(series).reshape(-1, 2)) for label, series in self._series.items()}


class RegionFromAppearance(RegionByIds):
    """The track of the same number, from the frame after the one on which the object appears, as YouTube-VOS has it."""

    def add(
        self, ids: NDArray[np.int64], truth: PackedMasks, track_ids: NDArray[np.int64], tracks: PackedMasks
    ) -> None:
        """One frame; objects that are new on it are scored from the next on."""
        super().add(ids, truth, track_ids, tracks)
        for label in ids.tolist():
            self._series.setdefault(label, [])

    def objects(self) -> Mapping[int, ObjectScores]:
        """The statistics of each object; without those that appear on the last frame."""
        return {label: scores for label, scores in super().objects().items() if self._series[label]}


class RegionByBest(RegionFrames):
    """One track each, chosen when all frames are known; only pairs that touch are remembered."""

    def __init__(self) -> None:
        self._frames = 0
        self._pairs: dict[tuple[int, int], list[tuple[int, float, float]]] = defaultdict(list)
        self._objects, self._tracks = _Presence(), _Presence()

    def add(
        self, ids: NDArray[np.int64], truth: PackedMasks, track_ids: NDArray[np.int64], tracks: PackedMasks
    ) -> None:
        """One frame."""
        true_edges, track_edges = edges_of(truth), edges_of(tracks)
        self._objects.add(self._frames, ids, true_edges.lines.areas > 0)
        self._tracks.add(self._frames, track_ids, track_edges.lines.areas > 0)
        region, boundary = region_similarities(truth, tracks), boundary_measures(true_edges, track_edges)
        for row, column in zip(*(index.tolist() for index in np.nonzero(region + boundary)), strict=True):
            scores = (self._frames, float(region[row, column]), float(boundary[row, column]))
            self._pairs[int(ids[row]), int(track_ids[column])].append(scores)
        self._frames += 1

    def skip(self, count: int) -> None:
        """Frames without any object."""
        self._frames += count

    def objects(self) -> Mapping[int, ObjectScores]:
        """The statistics of each object; one without a track has J and F of 0 throughout, as TrackEval has it."""
        labels, track_ids = sorted(self._objects.frames), sorted(self._tracks.frames)
        mean = np.array([[self._series(label, track).mean() for track in track_ids] for label in labels])
        rows, columns = linear_sum_assignment(mean.reshape(len(labels), len(track_ids)), maximize=True)
        chosen = dict(zip(rows.tolist(), columns.tolist(), strict=True))
        zeros = np.zeros((self._frames, 2))
        return {
            label: _statistics(self._series(label, track_ids[chosen[row]]) if row in chosen else zeros)
            for row, label in enumerate(labels)
        }

    def _series(self, label: int, track: int) -> NDArray[np.float64]:
        """`(frames, 2)` J and F of a pair: 1 where both are empty."""
        series = np.ones((self._frames, 2))
        series[self._objects.frames[label], 0] = series[self._tracks.frames[track], 0] = 0
        series[self._objects.boundary_frames[label], 1] = series[self._tracks.boundary_frames[track], 1] = 0
        for frame, region, boundary in self._pairs.get((label, track), ()):
            series[frame] = region, boundary
        return series


class _Presence:
    """The frames on which each identity has pixels, and on which it has a boundary."""

    def __init__(self) -> None:
        self.frames: dict[int, list[int]] = defaultdict(list)
        self.boundary_frames: dict[int, list[int]] = defaultdict(list)

    def add(self, frame: int, ids: NDArray[np.int64], has_edge: NDArray[np.bool_]) -> None:
        for identity, edge in zip(ids.tolist(), has_edge.tolist(), strict=True):
            self.frames[identity].append(frame)
            if edge:
                self.boundary_frames[identity].append(frame)


def _statistics(series: NDArray[np.float64]) -> ObjectScores:
    return ObjectScores(statistics(series[:, 0]), statistics(series[:, 1]))


@dataclass(frozen=True)
class DavisScores:
    """J and F of the objects of one folder of label images.

    Attributes:
        objects: scores per object id of the first annotated frame.
        frames: frames that were scored.
        missing: how many of them had no prediction, and counted as empty.
        late: ids of objects that enter after the first annotated frame, which are not scored.
    """

    objects: Mapping[int, ObjectScores]
    frames: int
    missing: int
    late: Sequence[int] = ()

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


def evaluate_davis(gt_dir: Path | str, pred_dir: Path | str) -> DavisScores:
    """Scores a folder of label images against ground truth, by the semi-supervised DAVIS protocol.

    Images are paired by name. The first annotated frame (it is given to the method) and the last are left out;
    objects are those of the first; void pixels are ignored in both images, see `LabelFolderAnnotations`; a missing
    prediction is empty.

    Args:
        gt_dir: indexed PNGs, one per annotated frame.
        pred_dir: indexed PNGs of the same names.

    Raises:
        InputError: fewer than 3 annotated frames, an unreadable image, or images of different sizes.
    """
    truth = LabelFolderAnnotations(Path(gt_dir))
    if truth.last <= ENDS:
        raise InputError(f"{gt_dir}: needs at least 3 annotated frames (*.png), has {truth.last}")
    tracks = LabelFolderAnnotations(Path(pred_dir), truth.frame_names)
    objects: list[int] = truth.at(0, with_masks=True).track_id.tolist()
    collected, missing, late = RegionByIds(objects), 0, set[int]()
    for frame in range(1, truth.last - 1):
        true, predicted = truth.at(frame, with_masks=True), tracks.at(frame, with_masks=True)
        missing += predicted.is_missing
        late.update(set(true.track_id.tolist()) - set(objects))
        true_masks, predicted = align_masks(true, predicted, frame_label(tracks, frame))
        collected.add(true.track_id, true_masks, predicted.track_id, masks_of(predicted))
    return DavisScores(collected.objects(), truth.last - ENDS, missing, sorted(late))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
