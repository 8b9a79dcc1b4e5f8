"""Sequence matching: both sources frame by frame, preprocessed, to the metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import box_areas, box_iou, box_overlap
from trackweave.errors import InputError, argument, wording
from trackweave.evaluation.annotations import (
    AnnotationSource,
    EmptyAnnotations,
    FrameAnnotations,
    TableAnnotations,
    align_masks,
    frame_label,
    masks_of,
)
from trackweave.evaluation.classes import UNKNOWN_CLASS, ClassPairs, EvaluatedClass
from trackweave.evaluation.jf import ENDS, RegionByBest, RegionByIds, RegionFrames, RegionFromAppearance
from trackweave.evaluation.measures import MEASURES, MatchedFrame, TracksInWholes
from trackweave.evaluation.metrics import PairedFrames, TrackEval, sequence_scores
from trackweave.evaluation.protocols import PreprocessingFlags, preprocessing_flags, scored_tracks
from trackweave.evaluation.scores import Scores, merge_scores, region_scores
from trackweave.evaluation.settings import OF_LABELS, OF_MASKS, Matching, Metric, Overlap, Protocol
from trackweave.masks.ops import mask_intersection, mask_iou
from trackweave.masks.packed import PackedMasks

MOST_FRAMES = 10_000_000
"""Frames of a sequence that J and F are measured on at most: each is a number per object."""
SHIFTED_GAIN = 0.03
"""By so much the mean overlap must grow with the neighbouring frame, that a result counts as one frame off."""
MISREAD_GAIN = 0.25
"""By so much it must grow with another reading of the numbers, that this is noted."""
MOST_COMPARED = 100
"""Frames on which other readings are tried."""
MANY_OFF, MANY_LATE = 0.25, 0.05
"""Shares of a result's boxes on frames between those of the truth, and behind its last; and of frames at its end."""
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
    """Scores of a sequence by class, and what should be known about them.

    Attributes:
        classes: by name.
        notes: for the reader.
        has_truth: whether the ground truth has an object on the scored frames.
        has_tracks: whether the result has one there.
        result: where it comes from.
        is_disjoint: none of the result's classes has the name of one that is scored; None: names were not compared.
        class_names: of the result's classes by number; empty without names.
    """

    classes: Mapping[str, Scores]
    notes: Sequence[str]
    has_truth: bool
    has_tracks: bool
    result: str = ""
    is_disjoint: bool | None = None
    class_names: Mapping[int, str] = field(default_factory=dict)


def score_sequence(
    name: str, truth: AnnotationSource, tracks: AnnotationSource, rules: ScoringRules, trackeval: TrackEval
) -> SequenceScores:
    """Scores one sequence; holds overlaps of all its frames, and the masks of one.

    Raises:
        InputError: the two do not fit each other: other frames, masks of another size, no classes, negative ids.
    """
    length = common_length(name, truth, tracks)
    frames = scored_frames(name, length, rules)
    matcher = _SequenceMatcher(name, truth, tracks, rules, given_objects(truth, rules, frames))
    position = frames.start
    for frame in occupied_frames(truth, tracks, frames):
        matcher.skip(int(frame) - position)
        matcher.add(int(frame))
        position = int(frame) + 1
    matcher.skip(frames.stop - position)
    scores = {}
    for evaluated, matches in zip(rules.classes, matcher.matches, strict=True):
        parts = [trackeval.sequence(matches.pairs)] if trackeval else []
        parts += sequence_scores(matches.measures)
        if matches.regions is not None:
            parts.append(region_scores(matches.regions.objects()))
        scores[evaluated.name] = merge_scores(parts)
    notes, found = matcher.notes(len(frames)), matcher.class_pairs.is_disjoint
    return SequenceScores(
        scores, notes, matcher.has_truth, matcher.has_tracks, tracks.source, found, tracks.class_names
    )


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
        InputError: none is left, or too many for J and F.
    """
    if Metric.jf in rules.metrics and length > MOST_FRAMES:
        raise InputError(
            f"{name}: {length} frames, but J and F are measured on at most {MOST_FRAMES}: is a frame number wrong?"
        )
    start, stop = (int(length * rules.start_fraction) + 1 if rules.start_fraction > 0 else 0), length
    if _is_semi_supervised(rules):
        start = max(start, 1)
        stop = length if rules.matching is Matching.first_appearance else length - 1
    if start >= stop:
        left_out = ENDS if rules.matching is Matching.ids else 1
        least = f", and J and F leave out {left_out} of them" if _is_semi_supervised(rules) else ""
        raise InputError(f"{name}: no frame to score: it has {length}{least}")
    return range(start, stop)


def occupied_frames(truth: AnnotationSource, tracks: AnnotationSource, frames: range) -> Iterable[int]:
    """Those of the frames that can have an object in one of the two, ascending; the others are not looked at."""
    if truth.occupied is None or tracks.occupied is None:
        return frames
    either = np.union1d(truth.occupied, tracks.occupied)
    scored: list[int] = either[(either >= frames.start) & (either < frames.stop)].tolist()
    return scored


def given_objects(truth: AnnotationSource, rules: ScoringRules, frames: range) -> Sequence[int]:
    """The objects that a semi-supervised method is given before the first scored frame, by their ids.

    Those of the first frame; where every object is scored from its first appearance, of all frames up to there.
    """
    if not _is_semi_supervised(rules):
        return []
    before = range(frames.start if rules.matching is Matching.first_appearance else 1)
    return sorted({identity for frame in before for identity in truth.at(frame, with_masks=True).track_id.tolist()})


def _is_semi_supervised(rules: ScoringRules) -> bool:
    return Metric.jf in rules.metrics and rules.matching.is_by_ids


class _ClassMatches:
    """Pairs of truth and tracks of one class, for each kind of metrics."""

    def __init__(self, regions: RegionFrames | None, metrics: Sequence[Metric]) -> None:
        self.pairs = PairedFrames()
        self.regions = regions
        self.measures = [measure() for metric, measure in MEASURES.items() if metric in metrics]


class _SequenceMatcher:
    """Goes over the frames of a sequence, for all classes at once."""

    def __init__(
        self, name: str, truth: AnnotationSource, tracks: AnnotationSource, rules: ScoringRules, objects: Sequence[int]
    ) -> None:
        self._name, self._truth, self._tracks, self._rules = name, truth, tracks, rules
        self._objects, self._shift = objects, truth.origin - tracks.origin
        self.class_pairs = ClassPairs.of(rules.classes, truth, tracks, rules.protocol)
        self._has_classes = False
        self.matches = [_ClassMatches(self._regions(), rules.metrics) for _ in rules.classes]
        self._of_labels = [metric for metric in rules.metrics if metric in OF_LABELS]
        self._counts_pixels = any(metric in OF_MASKS for metric in rules.metrics if metric in MEASURES)
        self._neighbours, self._whole = _Neighbours(), _Whole()
        self._missing = 0
        self._true_ids: set[int] = set()
        self._track_ids: set[int] = set()
        self.has_truth = self.has_tracks = False

    def _regions(self) -> RegionFrames | None:
        if Metric.jf not in self._rules.metrics:
            return None
        if self._rules.matching is Matching.best:
            return RegionByBest()
        by_ids = RegionByIds if self._rules.matching is Matching.ids else RegionFromAppearance
        return by_ids(self._objects)

    def skip(self, count: int) -> None:
        """Frames on which neither source has an object."""
        if isinstance(self._tracks, EmptyAnnotations):
            self._missing += count
        for matches in self.matches:
            matches.pairs.skip(count)
            if matches.regions is not None:
                matches.regions.skip(count)
            for measure in matches.measures:
                measure.skip(count)

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
        whole = tracks
        if by_masks:
            true_masks, tracks = align_masks(truth, tracks, where)
            overlaps: _FrameOverlaps = _MaskOverlaps(true_masks, masks_of(tracks))
        else:
            true_masks = None
            overlaps = _BoxOverlaps(truth.xyxy, tracks.xyxy + self._shift)
        if _is_semi_supervised(self._rules):
            self._true_ids.update(truth.track_id.tolist())
            self._track_ids.update(tracks.track_id.tolist())
        self._neighbours.add(frame, truth.xyxy[truth.counts], tracks.xyxy + self._shift)
        self._whole.add(frame, truth.xyxy[truth.counts], tracks.xyxy + self._shift)
        self.has_truth |= bool(truth.counts.any())
        self.has_tracks |= len(tracks) > 0
        self._has_classes = self._has_classes or bool((tracks.class_id >= 0).any())
        for evaluated, number, matches in zip(
            self.class_pairs.classes, self.class_pairs.numbers, self.matches, strict=True
        ):
            mine = np.flatnonzero(self._of_class(tracks, number, where))
            flags = preprocessing_flags(self._rules.protocol, truth, evaluated)
            rows, columns = np.flatnonzero(flags.scored), mine[self._scored(flags, overlaps, tracks, mine)]
            true_ids, track_ids = truth.track_id[rows], tracks.track_id[columns]
            matches.pairs.add(true_ids, track_ids, overlaps.similarity[np.ix_(rows, columns)])
            pixels: tuple[Any, ...] = ()
            wholes = self._wholes(frame, whole[self._of_class(whole, number, where)])
            if true_masks is not None:
                mine_true, mine_tracks = true_masks[rows], masks_of(tracks)[columns]
                if matches.regions is not None:
                    matches.regions.add(true_ids, mine_true, track_ids, mine_tracks)
                if self._of_labels:
                    self._check_disjoint(mine_true, frame_label(self._truth, frame))
                    self._check_disjoint(mine_tracks, where)
                if self._counts_pixels:
                    shared = mask_intersection(mine_true, mine_tracks)
                    void = _void_areas(truth, whole[self._of_class(whole, number, where)])
                    pixels = (shared, mine_true.areas, mine_tracks.areas, void)
            similarity = overlaps.similarity[np.ix_(rows, columns)]
            matched = replace(MatchedFrame(true_ids, track_ids, similarity, *pixels), wholes=wholes)
            for measure in matches.measures:
                measure.add(matched)

    def _wholes(self, frame: int, tracks: FrameAnnotations) -> TracksInWholes | None:
        """How some tracks lie in those of the coarser level, if that is asked for.

        Raises:
            InputError: there is none.
        """
        if Metric.nestedness not in self._rules.metrics or isinstance(self._tracks, EmptyAnnotations):
            return None
        coarser = self._tracks.coarser_at(frame)
        if coarser is None:
            raise InputError(
                f"{self._tracks.source}: nestedness is of a level of a mask run that has a coarser one: see "
                f"{argument('level')}"
            )
        masks = masks_of(tracks) if len(tracks) else PackedMasks.empty(*masks_of(coarser).size)
        shared = mask_intersection(masks, masks_of(coarser))
        return TracksInWholes(tracks.track_id, masks.areas, coarser.track_id, shared)

    def _check_disjoint(self, masks: PackedMasks, where: str) -> None:
        """Is no pixel in two masks?

        Raises:
            InputError: some are.
        """
        if len(masks) < 2:
            return
        union = PackedMasks(np.bitwise_or.reduce(masks.bits, axis=0)[None], *masks.size)
        overlapping = int(masks.areas.sum() - union.areas[0])
        if overlapping:
            writes = wording("export(run, 'davis')", "trackweave export RUN --to davis")
            raise InputError(
                f"{where}: masks overlap ({overlapping} pixels): {', '.join(self._of_labels)} score label images, "
                f"where a pixel is one object's; `{writes}` writes them"
            )

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
                f"name one with {argument('classes', flag='--class')}, or give "
                f"{wording('class_agnostic=True', '--class-agnostic')}"
            )
        if number == UNKNOWN_CLASS and not has_none.all():
            raise InputError(
                f"{where}: class {tracks.class_id[~has_none][0]} has no name, and the ground truth has no numbers: "
                f"give {argument('classes', 'NAME=NUMBER', flag='--class')}, such as car=3"
            )
        return np.asarray(has_none | (tracks.class_id == number))

    def notes(self, frames: int) -> list[str]:
        """What a reader of the scores should know."""
        notes = []
        if self._missing:
            notes.append(f"{self._name}: {self._missing} of {frames} frames have no result and count as empty")
        for source, whose in ((self._truth, "the ground truth"), (self._tracks, "the result")):
            notes += [f"{whose} {note}" for note in source.notes]
        if self._truth.needs_named_classes and all(each.number is None for each in self._rules.classes):
            named = argument("classes", flag="--class")
            notes.append(f"the ground truth has classes, which are scored where they are named ({named})")
        notes += self.class_pairs.notes
        if self._has_classes and self.class_pairs.by_number:
            numbers = listing([f"{name} is {number}" for name, number in self.class_pairs.by_number.items()])
            notes.append(f"the result's classes have no names: their numbers are compared ({numbers})")
        shifted = self._neighbours.note()
        if shifted and not (self._truth.frame_names or self._tracks.frame_names):
            shifted += "? Frames of KITTI count from 0, those of MOT text from 1"
        elif shifted:
            shifted += "? Frames belong together by their names"
        odd = [shifted] if shifted else self._whole.notes(self._truth.origin)
        return notes + self._notes_on_scores() + [f"{self._name}: {note}" for note in odd] + self._notes_on_ids()

    def _notes_on_scores(self) -> list[str]:
        """Objects of the truth whose flag, whether they count, is a score between 0 and 1."""
        if not isinstance(self._truth, TableAnnotations):
            return []
        table = self._truth.table
        fractions = table.score[~table.counts & (np.abs(table.score) > 0)]
        if not len(fractions):
            return []
        text = f"{len(fractions)} of {len(table)} objects whose column 7 is a fraction, such as {fractions[0]:g}"
        return [f"{self._name}: the ground truth leaves out {text}, as TrackEval does: 1 is an object that counts"]

    def _notes_on_ids(self) -> list[str]:
        """Objects and tracks that a comparison by ids leaves out."""
        if not _is_semi_supervised(self._rules):
            return []
        notes, objects = [], set(self._objects)
        late = sorted(self._true_ids - objects)
        if self._rules.matching is Matching.first_appearance:
            objects |= self._true_ids
        elif late:
            notes.append(
                f"{self._name}: J and F leave out objects {listing(late)}, which enter after the first frame; "
                f"{argument('matching', 'first-appearance')} scores them, as YouTube-VOS does"
            )
        unknown = sorted(self._track_ids - objects - set(late))
        if unknown:
            whose = "the truth" if self._rules.matching is Matching.first_appearance else "the first frame of the truth"
            notes.append(f"{self._name}: J and F ignore ids {listing(unknown)}, which {whose} has not")
        if not objects:
            notes.append(f"{self._name}: J and F have nothing to score: the first frame of the truth has no object")
        return notes


def _void_areas(truth: FrameAnnotations, tracks: FrameAnnotations) -> Mapping[int, int]:
    """Pixels of tracks that are void in the truth, by track; of those that have some."""
    if truth.void is None or not len(tracks):
        return {}
    areas = mask_intersection(truth.void, masks_of(tracks))[0]
    return {track: area for track, area in zip(tracks.track_id.tolist(), areas.tolist(), strict=True) if area}


class _Neighbours:
    """Does a result fit the truth of the frame before or after better than that of its own? Its frames are then
    likely numbered from another base. It must also fit that frame better than the next but one: what lags behind or
    stands still, such as a copied prompt, fits the better the farther one goes back. Boxes alone are compared."""

    def __init__(self) -> None:
        self._frame = -2
        self._before: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        self._objects = 0
        self._overlaps = np.zeros(5)

    def add(self, frame: int, truth: NDArray[np.float64], tracks: NDArray[np.float64]) -> None:
        """Takes in the boxes of one frame, `(N, 4)` and `(M, 4)`; only three frames in a row are compared."""
        before = self._before if frame == self._frame + 1 else []
        if len(truth) and len(before) == 2 and all(len(past) for past, _ in before):
            self._objects += len(truth)
            # Of the truth two frames before, one before, of this frame; then of the tracks one and two before.
            late = [_overlap(past, tracks) * len(truth) / len(past) for past, _ in before]
            early = [_overlap(truth, past) for _, past in reversed(before)]
            self._overlaps += [*late, _overlap(truth, tracks), *early]
        self._frame, self._before = frame, [*before[-1:], (truth, tracks)]

    def note(self) -> str | None:
        """What a reader of the scores should know, as the beginning of a question."""
        farther_before, before, same, after, farther_after = self._overlaps.tolist()
        best, farther = max((before, farther_before), (after, farther_after))
        if not self._objects or best - same < SHIFTED_GAIN * self._objects or best <= farther:
            return None
        where, which = ("before", "late") if before > after else ("after", "early")
        shares = f"{best / self._objects:.2f} instead of {same / self._objects:.2f}"
        return (
            f"the result fits the truth of the frame {where} better (mean overlap {shares}): are its frames one too "
            f"{which}"
        )


class _Whole:
    """Do a result and its truth cover the same frames, in the same coordinates? Boxes alone are compared."""

    def __init__(self) -> None:
        self._true_frames: list[int] = []
        self._counts: dict[int, int] = {}
        self._pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        self._every, self._both = 1, 0

    def add(self, frame: int, truth: NDArray[np.float64], tracks: NDArray[np.float64]) -> None:
        """Takes in the boxes of one frame, `(N, 4)` and `(M, 4)`."""
        if len(truth):
            self._true_frames.append(frame)
        if len(tracks):
            self._counts[frame] = len(tracks)
        if not len(truth) or not len(tracks):
            return
        if self._both % self._every == 0:
            self._pairs.append((truth, tracks))
        self._both += 1
        if len(self._pairs) > MOST_COMPARED:
            self._pairs, self._every = self._pairs[::2], 2 * self._every

    def notes(self, base: int) -> list[str]:
        """What a reader of the scores should know; `base` is the number of the first frame."""
        if not self._true_frames or not self._counts:
            return []
        coordinates = self._note_on_coordinates()
        return [*self._notes_on_frames(base), *([coordinates] if coordinates else [])]

    def _notes_on_frames(self, base: int) -> list[str]:
        frames, counts = np.array(list(self._counts)), np.array(list(self._counts.values()))
        true, boxes = np.array(self._true_frames), int(counts.sum())
        first, last = int(true[0]), int(true[-1])
        off = int(counts[~np.isin(frames, true)].sum())
        if len(true) > 2 and np.median(np.diff(true)) >= 2 and off >= MANY_OFF * boxes:
            text = f"objects on {len(true)} of {last + 1 - first} frames, and {off / boxes:.0%} of the result's boxes"
            return [f"the truth has {text} lie on others, and count as false".replace("%", " %")]
        late = int(counts[frames > last].sum())
        if late >= MANY_LATE * boxes:
            text = (
                f"{late} of its {boxes} boxes lie behind frame {last + base}, the last of the truth, and count as false"
            )
            return [f"the result is longer: {text}"]
        if last - frames[-1] >= MANY_OFF * (last + 1 - first):
            return [f"the result ends on frame {frames[-1] + base}, the truth on frame {last + base}"]
        return []

    def _note_on_coordinates(self) -> str | None:
        """Does one of the two fit much better if its numbers mean something else?"""
        objects = sum(len(truth) for truth, _ in self._pairs)
        if not objects:
            return None
        reach = [np.max([pair[side][:, 2:].max(0) for pair in self._pairs], axis=0) for side in (0, 1)]
        scale = np.tile(np.divide(reach[0], reach[1], out=np.ones(2), where=reach[1] > 0), 2)
        scaled = f"the result fits better scaled to {scale[0]:.0%} × {scale[1]:.0%}".replace("%", " %")
        edges = "fits better with its width and height read as a right and bottom edge"
        readings = {
            "": [_overlap(truth, tracks) for truth, tracks in self._pairs],
            f"the result {edges}": [_overlap(truth, _as_corners(tracks)) for truth, tracks in self._pairs],
            f"the truth {edges}": [_overlap(_as_corners(truth), tracks) for truth, tracks in self._pairs],
            scaled: [_overlap(truth, tracks * scale) for truth, tracks in self._pairs],
        }
        means = {text: sum(overlaps) / objects for text, overlaps in readings.items()}
        best = max(means, key=lambda text: means[text])
        if means[best] - means[""] < MISREAD_GAIN:
            return None
        return f"{best} (mean overlap {means[best]:.2f} instead of {means['']:.2f})"


def _as_corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes whose width and height were the right and bottom edge."""
    return np.column_stack([boxes[:, :2], np.maximum(boxes[:, 2:] - boxes[:, :2], boxes[:, :2])])


def _overlap(truth: NDArray[np.float64], tracks: NDArray[np.float64]) -> float:
    """The sum over true boxes of the best IoU."""
    return float(box_iou(truth, tracks).max(axis=1).sum()) if len(truth) and len(tracks) else 0.0


def listing(names: Sequence[str] | Sequence[int]) -> str:
    """Names or numbers for a message: the first of many, and how many more there are."""
    text = ", ".join(str(name) for name in names[:MAX_LISTED])
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
