"""Sequence matching: both sources frame by frame, preprocessed, to the metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import box_areas, box_iou, box_overlap
from trackweave.errors import InputError
from trackweave.evaluation.annotations import AnnotationSource, FrameAnnotations, align_masks, frame_label, masks_of
from trackweave.evaluation.jf import ENDS, RegionByBest, RegionByIds, RegionFrames
from trackweave.evaluation.metrics import PairedFrames, TrackEval
from trackweave.evaluation.protocols import EvaluatedClass, PreprocessingFlags, preprocessing_flags, scored_tracks
from trackweave.evaluation.scores import Scores, merge_scores, region_scores
from trackweave.evaluation.settings import Matching, Metric, Overlap, Protocol
from trackweave.masks.ops import mask_intersection, mask_iou
from trackweave.masks.packed import PackedMasks

UNKNOWN_CLASS = -3
"""The number that the result gives a class is not known."""
NO_CLASS = -2
"""A number that no track has: the result does not have the class."""
MAX_LISTED = 5
"""Names that a message lists at most."""


@dataclass(frozen=True)
class ScoringRules:
    """How sequences are scored.

    Attributes:
        metrics: what is asked for.
        overlap: of boxes or of masks.
        protocol: how truth and tracks are preprocessed.
        classes: those that are scored.
        matching: which track J and F compare with which object.
        start_fraction: share of the frames, from the first on, that are not scored: F of N frames leaves
            `int(F·N) + 1` out, as the "val half" of MOT17 does.
    """

    metrics: Sequence[Metric]
    overlap: Overlap
    protocol: Protocol
    classes: Sequence[EvaluatedClass]
    matching: Matching
    start_fraction: float = 0.0


@dataclass(frozen=True)
class SequenceScores:
    """Scores of a sequence by class, and what should be known about them."""

    classes: Mapping[str, Scores]
    notes: Sequence[str]


def score_sequence(
    name: str, truth: AnnotationSource, tracks: AnnotationSource, rules: ScoringRules, trackeval: TrackEval
) -> SequenceScores:
    """Scores one sequence; holds overlaps of all its frames, and the masks of one.

    Raises:
        InputError: the two do not fit each other: other frames, masks of another size, no classes, negative ids.
    """
    length = common_length(name, truth, tracks)
    matcher = _SequenceMatcher(name, truth, tracks, rules, first_objects(truth, rules))
    frames = scored_frames(name, length, rules)
    for frame in frames:
        matcher.add(frame)
    scores = {}
    for evaluated, matches in zip(rules.classes, matcher.matches, strict=True):
        parts = [trackeval.sequence(matches.pairs)] if trackeval else []
        if matches.regions is not None:
            parts.append(region_scores(matches.regions.objects()))
        scores[evaluated.name] = merge_scores(parts)
    return SequenceScores(scores, matcher.notes(len(frames)))


def common_length(name: str, truth: AnnotationSource, tracks: AnnotationSource) -> int:
    """Frames of the sequence.

    Raises:
        InputError: the result has frames that the truth has not.
    """
    if truth.length is None:
        return max(truth.last, tracks.last)
    if tracks.last > truth.length:
        raise InputError(f"{tracks.source}: frame {tracks.last - 1} is beyond the {truth.length} frames of {name}")
    return truth.length


def scored_frames(name: str, length: int, rules: ScoringRules) -> range:
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


def first_objects(truth: AnnotationSource, rules: ScoringRules) -> Sequence[int]:
    """The objects of the first frame, which a semi-supervised method is given."""
    return truth.at(0, with_masks=True).track_id.tolist() if _is_semi_supervised(rules) else []


def _is_semi_supervised(rules: ScoringRules) -> bool:
    return Metric.jf in rules.metrics and rules.matching is Matching.ids


class _ClassMatches:
    """Pairs of truth and tracks of one class, for each kind of metrics."""

    def __init__(self, regions: RegionFrames | None) -> None:
        self.pairs = PairedFrames()
        self.regions = regions


class _SequenceMatcher:
    """Goes over the frames of a sequence, for all classes at once."""

    def __init__(
        self, name: str, truth: AnnotationSource, tracks: AnnotationSource, rules: ScoringRules, objects: Sequence[int]
    ) -> None:
        self._name, self._truth, self._tracks, self._rules = name, truth, tracks, rules
        self._objects, self._shift = objects, truth.origin - tracks.origin
        self._numbers = [track_class(each, truth, tracks, rules.protocol) for each in rules.classes]
        self.matches = [_ClassMatches(self._regions()) for _ in rules.classes]
        self._missing = 0
        self._unknown: set[int] = set()

    def _regions(self) -> RegionFrames | None:
        if Metric.jf not in self._rules.metrics:
            return None
        return RegionByIds(self._objects) if self._rules.matching is Matching.ids else RegionByBest()

    def add(self, frame: int) -> None:
        """One frame of both sources."""
        by_masks = self._rules.overlap is Overlap.masks
        truth = self._truth.at(frame, with_masks=by_masks)
        tracks = self._tracks.at(frame, with_masks=by_masks)
        where = frame_label(self._tracks, frame)
        tracks = tracks[(tracks.track_id >= 0) | tracks.counts]  # regions without identity, such as KITTI's DontCare
        if len(tracks) and tracks.track_id.min() < 0:
            raise InputError(f"{where}: a track id below 0: these are detections, not tracks")
        self._missing += tracks.is_missing
        if by_masks:
            true_masks, tracks = align_masks(truth, tracks, where)
            overlaps: _FrameOverlaps = _MaskOverlaps(true_masks, masks_of(tracks))
        else:
            true_masks = None
            overlaps = _BoxOverlaps(truth.xyxy, tracks.xyxy + self._shift)
        if _is_semi_supervised(self._rules):
            self._unknown.update(set(tracks.track_id.tolist()) - set(self._objects))
        for evaluated, number, matches in zip(self._rules.classes, self._numbers, self.matches, strict=True):
            mine = np.flatnonzero(self._of_class(tracks, number, where))
            flags = preprocessing_flags(self._rules.protocol, truth, evaluated)
            rows, columns = np.flatnonzero(flags.scored), mine[self._scored(flags, overlaps, tracks, mine)]
            true_ids, track_ids = truth.track_id[rows], tracks.track_id[columns]
            matches.pairs.add(true_ids, track_ids, overlaps.similarity[np.ix_(rows, columns)])
            if matches.regions is not None and true_masks is not None:
                matches.regions.add(true_ids, true_masks[rows], track_ids, masks_of(tracks)[columns])

    def _scored(
        self,
        flags: PreprocessingFlags,
        overlaps: _FrameOverlaps,
        tracks: FrameAnnotations,
        mine: NDArray[np.intp],
    ) -> NDArray[np.bool_]:
        """Which of the tracks `mine`, those of a class, are not dropped."""
        heights = tracks.xyxy[mine, 3] - tracks.xyxy[mine, 1]
        similarity = overlaps.similarity[:, mine]
        return scored_tracks(self._rules.protocol, flags, similarity, lambda: overlaps.inside()[:, mine], heights)

    def _of_class(self, tracks: FrameAnnotations, number: int | None, where: str) -> NDArray[np.bool_]:
        """Which tracks are of a class; those without one are of the only class there is."""
        if number is None:
            return np.ones(len(tracks), np.bool_)
        has_none = tracks.class_id < 0
        if has_none.any() and len(self._rules.classes) > 1:
            first, count = tracks.track_id[has_none][0], len(self._rules.classes)
            raise InputError(
                f"{where}: track {first} has no class, and {count} classes are scored: "
                "name one with --class, or give --class-agnostic"
            )
        if number == UNKNOWN_CLASS and not has_none.all():
            raise InputError(
                f"{where}: class {tracks.class_id[~has_none][0]} has no name, and the ground truth has no numbers: "
                "give --class NAME=NUMBER, such as car=3"
            )
        return np.asarray(has_none | (tracks.class_id == number))

    def notes(self, frames: int) -> list[str]:
        """What a reader of the scores should know."""
        notes = []
        if self._missing:
            notes.append(f"{self._name}: {self._missing} of {frames} frames have no result and count as empty")
        if self._unknown:
            ids = listing([str(identity) for identity in sorted(self._unknown)])
            notes.append(f"{self._name}: J and F ignore ids {ids}, which the first frame of the truth has not")
        return notes


def track_class(
    evaluated: EvaluatedClass, truth: AnnotationSource, tracks: AnnotationSource, protocol: Protocol
) -> int | None:
    """Number of a class in the result: by name where both sources have names. None: every track is of it."""
    if evaluated.number is None:
        return None
    if not truth.class_names or not tracks.class_names:
        if evaluated.track_number is not None:
            return evaluated.track_number
        # KITTI has names alone, so a number of the result's can mean anything.
        return UNKNOWN_CLASS if protocol is Protocol.kitti else evaluated.number
    by_name = {name.lower(): number for number, name in tracks.class_names.items()}
    return by_name.get(evaluated.name.lower(), NO_CLASS)


def listing(names: Sequence[str]) -> str:
    """Names for a message: the first of many, and how many more there are."""
    text = ", ".join(names[:MAX_LISTED])
    return text if len(names) <= MAX_LISTED else f"{text} and {len(names) - MAX_LISTED} more"


class _FrameOverlaps(ABC):
    """Overlaps of the truth and the tracks of a frame, `(N, M)`."""

    similarity: NDArray[np.float64]

    @abstractmethod
    def inside(self) -> NDArray[np.float64]:
        """The share of each track that lies in each true object."""


class _BoxOverlaps(_FrameOverlaps):
    def __init__(self, truth: NDArray[np.float64], tracks: NDArray[np.float64]) -> None:
        self._truth, self._tracks = truth, tracks
        self.similarity = box_iou(truth, tracks)

    def inside(self) -> NDArray[np.float64]:
        shared, areas = box_overlap(self._truth, self._tracks), box_areas(self._tracks)[None]
        return np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0)


class _MaskOverlaps(_FrameOverlaps):
    def __init__(self, truth: PackedMasks, tracks: PackedMasks) -> None:
        self._truth, self._tracks = truth, tracks
        self.similarity = mask_iou(truth, tracks)

    def inside(self) -> NDArray[np.float64]:
        return mask_intersection(self._truth, self._tracks) / np.maximum(self._tracks.areas, 1)[None]
