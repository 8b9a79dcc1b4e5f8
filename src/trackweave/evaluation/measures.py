"""Measures that TrackEval has not: VPQ and STQ of label images, lifetime, duplicates and nesting of identities.

Kim et al., "Video Panoptic Segmentation", CVPR 2020 (VPQ); Weber et al., "STEP: Segmenting and Tracking Every Pixel",
NeurIPS 2021 (STQ). Each holds sums by pairs of object and track, never frames: what it needs grows with the number of
tracks alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.evaluation.settings import Metric

WINDOWS = (1, 2, 4, 6)
"""Frames of VPQ's tubes, as VIPSeg reports it."""
MATCHED = 0.5
"""A tube or mask matches another above this IoU."""
NESTED = 0.95
"""Share of a track's pixels in one coarser track from which it is nested."""
TRUE_DETECTIONS, DETECTIONS = "GT_Dets", "Dets"
"""TrackEval's names of the numbers of true masks and of the tracks' masks, over all frames."""
Counts = Mapping[str, float]
"""What is summed over sequences, by field."""


class TracksInWholes(NamedTuple):
    """M tracks of one frame and K of the next coarser level, before anything of them is dropped.

    Attributes:
        track_ids: `(M,)` int64.
        areas: `(M,)` int64 pixels.
        whole_ids: `(K,)` int64.
        shared: `(M, K)` int64, pixels in both.
    """

    track_ids: NDArray[np.int64]
    areas: NDArray[np.int64]
    whole_ids: NDArray[np.int64]
    shared: NDArray[np.int64]


@dataclass(frozen=True)
class MatchedFrame:
    """N true objects and M tracks of one class on one frame.

    Attributes:
        true_ids: `(N,)` int64.
        track_ids: `(M,)` int64.
        similarity: `(N, M)` float64, IoU of masks or boxes.
        shared: `(N, M)` int64, pixels in both; None with boxes.
        true_areas: `(N,)` int64 pixels; None with boxes.
        track_areas: `(M,)` int64 pixels, without void ones; None with boxes.
        void_areas: pixels that are void in the truth, by track; those of tracks with no other pixel, too.
        wholes: how the tracks lie in those of the coarser level; None without one.
    """

    true_ids: NDArray[np.int64]
    track_ids: NDArray[np.int64]
    similarity: NDArray[np.float64]
    shared: NDArray[np.int64] | None = None
    true_areas: NDArray[np.int64] | None = None
    track_areas: NDArray[np.int64] | None = None
    void_areas: Mapping[int, int] = field(default_factory=dict)
    wholes: TracksInWholes | None = None

    def pixels(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """`shared`, `true_areas` and `track_areas`, where there are masks."""
        assert self.shared is not None
        assert self.true_areas is not None
        assert self.track_areas is not None
        return self.shared, self.true_areas, self.track_areas


class Measure(ABC):
    """One measure of one class over a sequence. Scores are made of counts, and counts of sequences are summed."""

    NAMES: ClassVar[tuple[str, ...]]
    """Fields that are scores."""
    COUNTS: ClassVar[tuple[str, ...]]
    """Fields that are summed."""

    def __init__(self) -> None:
        self._detections = {TRUE_DETECTIONS: 0, DETECTIONS: 0}

    def skip(self, count: int) -> None:  # noqa: B027 - most measures have nothing to do
        """Frames without a true object and without a track."""

    def add(self, frame: MatchedFrame) -> None:
        """One frame."""
        self._detections[TRUE_DETECTIONS] += len(frame.true_ids)
        self._detections[DETECTIONS] += len(frame.track_ids)
        self._add(frame)

    def values(self) -> Mapping[str, float]:
        """Scores and counts of the sequence."""
        counts = self._counts() | self._detections
        return {**self.scores(counts), **counts}

    @abstractmethod
    def _add(self, frame: MatchedFrame) -> None: ...

    @abstractmethod
    def _counts(self) -> dict[str, float]: ...

    @staticmethod
    @abstractmethod
    def scores(counts: Counts) -> dict[str, float]:
        """The scores of counts; NaN where there is nothing to score."""

    @classmethod
    def combined(cls, parts: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
        """Several sequences, or classes by their objects, as one."""
        counts = {name: sum(part[name] for part in parts) for name in (*cls.COUNTS, TRUE_DETECTIONS, DETECTIONS)}
        return {**cls.scores(counts), **counts}

    @classmethod
    def mean(cls, parts: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
        """Scores averaged over classes; those without a score are left out."""
        means = {name: _mean([part[name] for part in parts]) for name in cls.NAMES}
        return {**cls.combined(parts), **means}


def _mean(values: Sequence[float]) -> float:
    scored = [value for value in values if not math.isnan(value)]
    return sum(scored) / len(scored) if scored else math.nan


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


class VideoPanopticQuality(Measure):
    """VPQ: panoptic quality of tubes, over every window of 1, 2, 4 and 6 frames; `VPQ` is the mean of the four.

    A tube is what an object covers within a window. Two match above an IoU of one half; an unmatched tube of which more
    than half is void in the truth is no false positive. Windows longer than the sequence do not exist.
    """

    NAMES = ("VPQ", *(f"VPQ-{k}" for k in WINDOWS))
    COUNTS = tuple(f"VPQ-{k}_{what}" for k in WINDOWS for what in ("IoU", "TP", "FP", "FN"))

    def __init__(self) -> None:
        super().__init__()
        self._frames: deque[MatchedFrame | None] = deque(maxlen=max(WINDOWS))
        self._sums = dict.fromkeys(self.COUNTS, 0.0)

    def skip(self, count: int) -> None:
        for _ in range(min(count, max(WINDOWS))):
            self._push(None)

    def _add(self, frame: MatchedFrame) -> None:
        self._push(frame)

    def _push(self, frame: MatchedFrame | None) -> None:
        self._frames.append(frame)
        for k in WINDOWS:
            window = [each for each in list(self._frames)[-k:] if each is not None]
            if len(self._frames) >= k and window:
                for what, value in _matched_tubes(window).items():
                    self._sums[f"VPQ-{k}_{what}"] += value

    def _counts(self) -> dict[str, float]:
        return dict(self._sums)

    @staticmethod
    def scores(counts: Counts) -> dict[str, float]:
        by_window = {}
        for k in WINDOWS:
            iou, hits, false, missed = (counts[f"VPQ-{k}_{what}"] for what in ("IoU", "TP", "FP", "FN"))
            by_window[f"VPQ-{k}"] = _share(iou, hits + (false + missed) / 2)
        return {"VPQ": _mean(list(by_window.values())), **by_window}


def _matched_tubes(window: Sequence[MatchedFrame]) -> dict[str, float]:
    """IoU summed over the matched tubes of a window, and numbers of matched, superfluous and missed tubes."""
    true_ids, true_rows = _rows([frame.true_ids for frame in window])
    track_ids, track_rows = _rows([frame.track_ids for frame in window])
    shared = np.zeros((len(true_ids), len(track_ids)), np.int64)
    true_areas, track_areas = np.zeros(len(true_ids), np.int64), np.zeros(len(track_ids), np.int64)
    for frame, rows, columns in zip(window, true_rows, track_rows, strict=True):
        pixels, true_pixels, track_pixels = frame.pixels()
        shared[np.ix_(rows, columns)] += pixels
        true_areas[rows] += true_pixels
        track_areas[columns] += track_pixels
    void = sum((Counter(frame.void_areas) for frame in window), Counter[int]())
    void_areas = np.array([void[identity] for identity in track_ids.tolist()], np.int64)
    union = true_areas[:, None] + track_areas[None] - shared
    iou = np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)
    matched = iou > MATCHED
    mostly_void = void_areas > MATCHED * (track_areas + void_areas)
    return {
        "IoU": float(iou[matched].sum()),
        "TP": float(np.count_nonzero(matched)),
        "FP": float(np.count_nonzero(~matched.any(0) & ~mostly_void)),
        "FN": float(np.count_nonzero(~matched.any(1))),
    }


def _rows(frames: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], list[NDArray[np.intp]]]:
    """All ids of some frames, ascending, and the position of each frame's among them."""
    unique = np.unique(np.concatenate(frames))
    return unique, [np.searchsorted(unique, ids) for ids in frames]


class SegmentationTrackingQuality(Measure):
    """STQ = √(AQ · SQ): how much of each object lies in how pure tracks (AQ), and the IoU of the class (SQ).

    AQ weighs, for each object, the tracks by their pixels in it times the IoU of the two over the whole sequence.
    Several classes combine as in the paper: SQ is their mean IoU, AQ the mean over all objects. A track counts for its
    own class.
    """

    NAMES = ("STQ", "AQ", "SQ")
    COUNTS = ("AQ_sum", "AQ_tubes", "SQ_intersection", "SQ_union")

    def __init__(self) -> None:
        super().__init__()
        self._shared: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._true_areas: Counter[int] = Counter()
        self._track_areas: Counter[int] = Counter()
        self._intersection = 0

    def _add(self, frame: MatchedFrame) -> None:
        shared, true_areas, track_areas = frame.pixels()
        self._intersection += int(shared.sum())
        true_ids, track_ids = frame.true_ids.tolist(), frame.track_ids.tolist()
        for identity, area in zip(true_ids, true_areas.tolist(), strict=True):
            self._true_areas[identity] += area
        for identity, area in zip(track_ids, track_areas.tolist(), strict=True):
            self._track_areas[identity] += area
        for row, column in np.argwhere(shared).tolist():
            self._shared[true_ids[row]][track_ids[column]] += int(shared[row, column])

    def _counts(self) -> dict[str, float]:
        quality = 0.0
        for identity, tracks in self._shared.items():
            area = self._true_areas[identity]
            ious = (shared * shared / (area + self._track_areas[track] - shared) for track, shared in tracks.items())
            quality += sum(ious) / area
        union = self._true_areas.total() + self._track_areas.total() - self._intersection
        counts = (quality, len(self._true_areas), self._intersection, union)
        return dict(zip(self.COUNTS, map(float, counts), strict=True))

    @staticmethod
    def scores(counts: Counts) -> dict[str, float]:
        association = _share(counts["AQ_sum"], counts["AQ_tubes"])
        segmentation = _share(counts["SQ_intersection"], counts["SQ_union"])
        return {"STQ": math.sqrt(association * segmentation), "AQ": association, "SQ": segmentation}

    @classmethod
    def mean(cls, parts: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
        whole = {**cls.combined(parts), "SQ": _mean([part["SQ"] for part in parts])}
        return {**whole, "STQ": math.sqrt(whole["AQ"] * whole["SQ"])}


class Lifetime(Measure):
    """How long an object keeps one identity, and how many tracks there are of it.

    A track follows the object that it overlaps most, if their IoU is above one half.

    - `Lifetime`: share of an object's frames on which one track, its longest, follows it; mean over the objects.
    - `Tracks`: how many tracks follow an object, at once or in turns; mean over objects that any follows. 1 is best.
    - `Duplicates`: how many tracks beyond the first follow an object at once; mean over followed objects and frames.
    """

    NAMES = ("Lifetime", "Tracks", "Duplicates")
    COUNTS = ("Lifetime_sum", "Objects", "Objects_followed", "Followers", "Dets_followed", "Dets_duplicate")

    def __init__(self) -> None:
        super().__init__()
        self._frames: Counter[int] = Counter()
        self._followed: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._once = self._again = 0

    def _add(self, frame: MatchedFrame) -> None:
        self._frames.update(frame.true_ids.tolist())
        if not frame.similarity.size:
            return
        best = frame.similarity.argmax(0)
        follows = frame.similarity.max(0) > MATCHED
        for row, track in zip(best[follows].tolist(), frame.track_ids[follows].tolist(), strict=True):
            self._followed[int(frame.true_ids[row])][track] += 1
        once = len(np.unique(best[follows]))
        self._once += once
        self._again += int(follows.sum()) - once

    def _counts(self) -> dict[str, float]:
        longest = sum(max(tracks.values()) / self._frames[identity] for identity, tracks in self._followed.items())
        followers = sum(map(len, self._followed.values()))
        counts = (longest, len(self._frames), len(self._followed), followers, self._once, self._again)
        return dict(zip(self.COUNTS, map(float, counts), strict=True))

    @staticmethod
    def scores(counts: Counts) -> dict[str, float]:
        return {
            "Lifetime": _share(counts["Lifetime_sum"], counts["Objects"]),
            "Tracks": _share(counts["Followers"], counts["Objects_followed"]),
            "Duplicates": _share(counts["Dets_duplicate"], counts["Dets_followed"]),
        }


class Nestedness(Measure):
    """How far the tracks of a level lie in those of the next coarser one; the truth plays no part.

    - `Nested`: share of the tracks of which at least 0.95 of the pixels, over their lives, lie in one coarser track.
    - `Inside`: share of the pixels of all tracks that lie in the coarser track which holds most of theirs.
    """

    NAMES = ("Nested", "Inside")
    COUNTS = ("Nested_tracks", "Nested_of", "Inside_pixels", "Inside_of")

    def __init__(self) -> None:
        super().__init__()
        self._areas: Counter[int] = Counter()
        self._inside: defaultdict[int, Counter[int]] = defaultdict(Counter)

    def _add(self, frame: MatchedFrame) -> None:
        if frame.wholes is not None:
            self.add_wholes(frame.wholes)

    def add_wholes(self, wholes: TracksInWholes) -> None:
        """One frame, without a truth."""
        tracks, outer = wholes.track_ids.tolist(), wholes.whole_ids.tolist()
        for track, area in zip(tracks, wholes.areas.tolist(), strict=True):
            self._areas[track] += area
        for row, column in np.argwhere(wholes.shared).tolist():
            self._inside[tracks[row]][outer[column]] += int(wholes.shared[row, column])

    def _counts(self) -> dict[str, float]:
        most = {track: max(inside.values()) for track, inside in self._inside.items()}
        nested = sum(pixels >= NESTED * self._areas[track] for track, pixels in most.items())
        counts = (nested, len(self._areas), sum(most.values()), self._areas.total())
        return dict(zip(self.COUNTS, map(float, counts), strict=True))

    @staticmethod
    def scores(counts: Counts) -> dict[str, float]:
        return {
            "Nested": _share(counts["Nested_tracks"], counts["Nested_of"]),
            "Inside": _share(counts["Inside_pixels"], counts["Inside_of"]),
        }


MEASURES: Mapping[Metric, type[Measure]] = {
    Metric.vpq: VideoPanopticQuality,
    Metric.stq: SegmentationTrackingQuality,
    Metric.lifetime: Lifetime,
    Metric.nestedness: Nestedness,
}
