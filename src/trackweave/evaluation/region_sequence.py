"""J and F of the objects of one sequence, as the DAVIS challenges define them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.errors import InputError
from trackweave.evaluation.region import ObjectScores, statistics
from trackweave.evaluation.region_pairs import boundary_measures, edges_of, region_similarities
from trackweave.evaluation.sides import LabelFolderSide, comparable, masks_of, place
from trackweave.masks.packed import PackedMasks

ENDS = 2
"""First and last frame, which the semi-supervised protocol leaves out."""


class Matching(StrEnum):
    """Which track is held against which object.

    - `ids`: the track of the same number (semi-supervised: the objects of the first frame were given).
    - `best`: one track each, so that the mean of J and F is largest (unsupervised).
    """

    ids = "ids"
    best = "best"


class RegionFrames(ABC):
    """Collects J and F frame by frame."""

    @abstractmethod
    def add(
        self, ids: NDArray[np.int64], truth: PackedMasks, track_ids: NDArray[np.int64], tracks: PackedMasks
    ) -> None:
        """One frame: its true objects and its tracks, masks of one size."""

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
                masks[np.flatnonzero(known == label)] if label in known else PackedMasks.empty(*truth.size, 1)
                for known, masks in ((track_ids, tracks), (ids, truth))
            )
            region = region_similarities(one, other)[0, 0]
            series.append((float(region), float(boundary_measures(edges_of(one), edges_of(other))[0, 0])))

    def objects(self) -> Mapping[int, ObjectScores]:
        """The statistics of each object."""
        return {label: _statistics(np.array(series).reshape(-1, 2)) for label, series in self._series.items()}


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
            found = (self._frames, float(region[row, column]), float(boundary[row, column]))
            self._pairs[int(ids[row]), int(track_ids[column])].append(found)
        self._frames += 1

    def objects(self) -> Mapping[int, ObjectScores]:
        """The statistics of each object; one without a track has J and F of 0 throughout, as TrackEval has it."""
        labels, track_ids = sorted(self._objects.seen), sorted(self._tracks.seen)
        mean = np.array([[self._series(label, track).mean() for track in track_ids] for label in labels])
        rows, columns = linear_sum_assignment(mean.reshape(len(labels), len(track_ids)), maximize=True)
        chosen = dict(zip(rows.tolist(), columns.tolist(), strict=True))
        nothing = np.zeros((self._frames, 2))
        return {
            label: _statistics(self._series(label, track_ids[chosen[row]]) if row in chosen else nothing)
            for row, label in enumerate(labels)
        }

    def _series(self, label: int, track: int) -> NDArray[np.float64]:
        """`(frames, 2)` J and F of a pair: 1 where neither has anything to show."""
        series = np.ones((self._frames, 2))
        series[self._objects.seen[label], 0] = series[self._tracks.seen[track], 0] = 0
        series[self._objects.edged[label], 1] = series[self._tracks.edged[track], 1] = 0
        for frame, region, boundary in self._pairs.get((label, track), ()):
            series[frame] = region, boundary
        return series


class _Presence:
    """The frames on which each identity has pixels, and on which it has a boundary."""

    def __init__(self) -> None:
        self.seen: dict[int, list[int]] = defaultdict(list)
        self.edged: dict[int, list[int]] = defaultdict(list)

    def add(self, frame: int, ids: NDArray[np.int64], has_edge: NDArray[np.bool_]) -> None:
        for identity, edge in zip(ids.tolist(), has_edge.tolist(), strict=True):
            self.seen[identity].append(frame)
            if edge:
                self.edged[identity].append(frame)


def _statistics(series: NDArray[np.float64]) -> ObjectScores:
    return ObjectScores(statistics(series[:, 0]), statistics(series[:, 1]))


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
    truth = LabelFolderSide(Path(gt_dir))
    if truth.last <= ENDS:
        raise InputError(f"{gt_dir}: needs at least 3 annotated frames (*.png), has {truth.last}")
    tracks = LabelFolderSide(Path(pred_dir), truth.frame_names)
    collected, missing = RegionByIds(truth.at(0, with_masks=True).ids.tolist()), 0
    for frame in range(1, truth.last - 1):
        true, found = truth.at(frame, with_masks=True), tracks.at(frame, with_masks=True)
        missing += found.is_missing
        true_masks, found = comparable(true, found, place(tracks, frame))
        collected.add(true.ids, true_masks, found.ids, masks_of(found))
    return DavisScores(collected.objects(), truth.last - ENDS, missing)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
