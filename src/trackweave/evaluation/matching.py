"""One sequence: walks both sides frame by frame, drops what is not fair, and hands the rest to the metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import box_areas, box_iou, box_overlap
from trackweave.errors import InputError
from trackweave.evaluation.annotations import FrameItems, Side, comparable, masks_of, place
from trackweave.evaluation.jf import ENDS, RegionByBest, RegionByIds, RegionFrames
from trackweave.evaluation.metrics import PairedFrames, TrackEval
from trackweave.evaluation.protocols import Target, kept_tracks, roles
from trackweave.evaluation.scores import Scores, joined, region_scores
from trackweave.evaluation.settings import Matching, Metric, Overlap, Protocol
from trackweave.masks.ops import mask_intersection, mask_iou
from trackweave.masks.packed import PackedMasks

UNKNOWN_CLASS = -3
"""Nobody said which number of the result is meant."""
NO_CLASS = -2
"""A number that no track has: the result does not know the class."""
SHOWN = 5
"""How many of many names a message lists."""


@dataclass(frozen=True)
class Rules:
    """How sequences are scored.

    Attributes:
        metrics: what is asked for.
        overlap: of boxes or of masks.
        protocol: what is fair.
        targets: the classes.
        matching: which track J and F hold against which object.
        start_fraction: share of the frames, from the first on, that are not scored: F of N frames leaves
            `int(F·N) + 1` out, as the "val half" of MOT17 does.
    """

    metrics: Sequence[Metric]
    overlap: Overlap
    protocol: Protocol
    targets: Sequence[Target]
    matching: Matching
    start_fraction: float = 0.0


@dataclass(frozen=True)
class SequenceScores:
    """Scores of a sequence by class, and what should be known about them."""

    classes: Mapping[str, Scores]
    notes: Sequence[str]


def score_sequence(name: str, truth: Side, tracks: Side, rules: Rules, trackeval: TrackEval) -> SequenceScores:
    """Scores one sequence; holds overlaps of all its frames, and the masks of one.

    Raises:
        InputError: the sides do not fit each other: other frames, masks of another size, no classes, negative ids.
    """
    length = common_length(name, truth, tracks)
    walk = _Walk(name, truth, tracks, rules, first_objects(truth, rules))
    frames = scored_frames(name, length, rules)
    for frame in frames:
        walk.add(frame)
    found = {}
    for target, collected in zip(rules.targets, walk.collected, strict=True):
        parts = [trackeval.sequence(collected.pairs)] if trackeval else []
        if collected.regions is not None:
            parts.append(region_scores(collected.regions.objects()))
        found[target.name] = joined(parts)
    return SequenceScores(found, walk.notes(len(frames)))


def common_length(name: str, truth: Side, tracks: Side) -> int:
    """Frames of the sequence.

    Raises:
        InputError: the result has frames that the truth has not.
    """
    if truth.length is None:
        return max(truth.last, tracks.last)
    if tracks.last > truth.length:
        raise InputError(f"{tracks.source}: frame {tracks.last - 1} is beyond the {truth.length} frames of {name}")
    return truth.length


def scored_frames(name: str, length: int, rules: Rules) -> range:
    """The frames that count.

    Raises:
        InputError: none is left.
    """
    start, stop = (int(length * rules.start_fraction) + 1 if rules.start_fraction > 0 else 0), length
    if _is_semi_supervised(rules):
        start, stop = max(start, 1), length - 1
    if start >= stop:
        least = f", and J and F leave out {ENDS} of them" if _is_semi_supervised(rules) else ""
        raise InputError(f"{name}: no frame to score: it has {length}{least}")
    return range(start, stop)


def first_objects(truth: Side, rules: Rules) -> Sequence[int]:
    """What a semi-supervised method is given: the objects of the first frame."""
    return truth.at(0, with_masks=True).ids.tolist() if _is_semi_supervised(rules) else []


def _is_semi_supervised(rules: Rules) -> bool:
    return Metric.jf in rules.metrics and rules.matching is Matching.ids


class _Collected:
    """What one class has gathered."""

    def __init__(self, regions: RegionFrames | None) -> None:
        self.pairs = PairedFrames()
        self.regions = regions


class _Walk:
    """Goes over the frames of a sequence, for all classes at once."""

    def __init__(self, name: str, truth: Side, tracks: Side, rules: Rules, objects: Sequence[int]) -> None:
        self._name, self._truth, self._tracks, self._rules = name, truth, tracks, rules
        self._objects, self._shift = objects, truth.origin - tracks.origin
        self._numbers = [track_class(target, truth, tracks, rules.protocol) for target in rules.targets]
        self.collected = [_Collected(self._regions()) for _ in rules.targets]
        self._missing = 0
        self._unknown: set[int] = set()

    def _regions(self) -> RegionFrames | None:
        if Metric.jf not in self._rules.metrics:
            return None
        return RegionByIds(self._objects) if self._rules.matching is Matching.ids else RegionByBest()

    def add(self, frame: int) -> None:
        """One frame of both sides."""
        by_masks = self._rules.overlap is Overlap.masks
        truth = self._truth.at(frame, with_masks=by_masks)
        tracks = self._tracks.at(frame, with_masks=by_masks)
        where = place(self._tracks, frame)
        tracks = tracks[(tracks.ids >= 0) | tracks.counts]  # regions without identity, such as KITTI's DontCare
        if len(tracks) and tracks.ids.min() < 0:
            raise InputError(f"{where}: a track id below 0: these are detections, not tracks")
        self._missing += tracks.is_missing
        if by_masks:
            true_masks, tracks = comparable(truth, tracks, where)
            overlaps: _Overlaps = _MaskOverlaps(true_masks, masks_of(tracks))
        else:
            true_masks = None
            overlaps = _BoxOverlaps(truth.xyxy, tracks.xyxy + self._shift)
        if _is_semi_supervised(self._rules):
            self._unknown.update(set(tracks.ids.tolist()) - set(self._objects))
        for target, number, collected in zip(self._rules.targets, self._numbers, self.collected, strict=True):
            self._add_class(target, number, collected, truth, tracks, overlaps, true_masks, where)

    def _add_class(
        self,
        target: Target,
        number: int | None,
        collected: _Collected,
        truth: FrameItems,
        tracks: FrameItems,
        overlaps: _Overlaps,
        true_masks: PackedMasks | None,
        where: str,
    ) -> None:
        mine = np.flatnonzero(self._of_class(tracks, number, where))
        given = roles(self._rules.protocol, truth, target)
        kept = kept_tracks(
            self._rules.protocol,
            given,
            overlaps.similarity[:, mine],
            lambda: overlaps.inside()[:, mine],
            tracks.xyxy[mine, 3] - tracks.xyxy[mine, 1],
        )
        rows, columns = np.flatnonzero(given.scored), mine[kept]
        collected.pairs.add(truth.ids[rows], tracks.ids[columns], overlaps.similarity[np.ix_(rows, columns)])
        if collected.regions is not None and true_masks is not None:
            collected.regions.add(truth.ids[rows], true_masks[rows], tracks.ids[columns], masks_of(tracks)[columns])

    def _of_class(self, tracks: FrameItems, number: int | None, where: str) -> NDArray[np.bool_]:
        """Which tracks are of a class; those without one are of the only class there is."""
        if number is None:
            return np.ones(len(tracks), np.bool_)
        unsaid = tracks.class_id < 0
        if unsaid.any() and len(self._rules.targets) > 1:
            raise InputError(
                f"{where}: track {tracks.ids[unsaid][0]} has no class, and {len(self._rules.targets)} classes are "
                "scored: name one with --class, or give --class-agnostic"
            )
        if number == UNKNOWN_CLASS and not unsaid.all():
            raise InputError(
                f"{where}: class {tracks.class_id[~unsaid][0]} has no name, and the ground truth has no numbers: give "
                "--class NAME=NUMBER, such as car=3"
            )
        return np.asarray(unsaid | (tracks.class_id == number))

    def notes(self, frames: int) -> list[str]:
        """What happened on the way."""
        notes = []
        if self._missing:
            notes.append(f"{self._name}: {self._missing} of {frames} frames have no result and count as empty")
        if self._unknown:
            some = ", ".join(str(identity) for identity in sorted(self._unknown)[:SHOWN])
            more = "" if len(self._unknown) <= SHOWN else f" and {len(self._unknown) - SHOWN} more"
            notes.append(f"{self._name}: J and F ignore ids {some}{more}, which the first frame of the truth has not")
        return notes


def track_class(target: Target, truth: Side, tracks: Side, protocol: Protocol) -> int | None:
    """Number of a class in the result: by name where both sides have names. None: every track is of it."""
    if target.number is None:
        return None
    if not truth.class_names or not tracks.class_names:
        if target.track_number is not None:
            return target.track_number
        # KITTI has names alone, so a number of the result's can mean anything.
        return UNKNOWN_CLASS if protocol is Protocol.kitti else target.number
    by_name = {name.lower(): number for number, name in tracks.class_names.items()}
    return by_name.get(target.name.lower(), NO_CLASS)


class _Overlaps(ABC):
    """How truth and tracks of a frame overlap, `(N, M)`."""

    similarity: NDArray[np.float64]

    @abstractmethod
    def inside(self) -> NDArray[np.float64]:
        """The share of each track that lies in each true object."""


class _BoxOverlaps(_Overlaps):
    def __init__(self, truth: NDArray[np.float64], tracks: NDArray[np.float64]) -> None:
        self._truth, self._tracks = truth, tracks
        self.similarity = box_iou(truth, tracks)

    def inside(self) -> NDArray[np.float64]:
        shared, areas = box_overlap(self._truth, self._tracks), box_areas(self._tracks)[None]
        return np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0)


class _MaskOverlaps(_Overlaps):
    def __init__(self, truth: PackedMasks, tracks: PackedMasks) -> None:
        self._truth, self._tracks = truth, tracks
        self.similarity = mask_iou(truth, tracks)

    def inside(self) -> NDArray[np.float64]:
        return mask_intersection(self._truth, self._tracks) / np.maximum(self._tracks.areas, 1)[None]
