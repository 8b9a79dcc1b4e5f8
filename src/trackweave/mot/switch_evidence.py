"""Evidence that an identity changed tracks: around a track's start, and around an encounter of two tracks.

A *start* is a track's first box, or its first one after a gap, where another track (the prior one) had been: did it
take over the object? An *encounter* is a time during which two tracks overlap: did each go on with its own object?
Both compare straight segments of tracks before and after, and give a logistic score.

The weights were fitted to the true switches of the adaptive tracker on training sequences of MOT17 (02, 05, 13; two
detectors), DanceTrack (eleven), KITTI (0000 to 0010) and SportsMOT (a third of them, simulated detections); those of
appearance were set by hand, since that data has none. A confidence of 0.4 means: of such suspicions, taken alone, four
in ten were true there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import pair_iou
from trackweave.compiled import inner, njit
from trackweave.mot.track_history import Segment, TrackHistory
from trackweave.structures.assignment import AssignmentState

APPEARANCE_WEIGHT = 8.0  # logits per half the cosine distance
NEUTRAL_APPEARANCE = 0.12  # half the cosine distance at which appearance speaks neither for nor against

# Standardised evidence was fitted; the weights here are per unit.
NEW_PRIOR_LOST: Mapping[str, float] = {
    "bias": -2.06,
    "position_squared": -4.14,
    "height": -1.97,
    "log_gap": -0.98,
    "log_boxes_before": 0.83,
    "border": -0.86,
    "score": 2.01,
    "appearance": APPEARANCE_WEIGHT,
}
"""A new track began where another one, lost by now, had been."""

NEW_PRIOR_MATCHED: Mapping[str, float] = {
    "bias": -1.43,
    "own_position": 2.82,
    "position_at_arrival": -5.22,
    "gain_height": 1.20,
    "gain_width": 0.76,
    "log_gap": -1.17,
    "log_boxes_before": -0.61,
    "appearance": APPEARANCE_WEIGHT,
}
"""A new track began where another one had been that is matched elsewhere now."""

RETURNED_PRIOR_LOST: Mapping[str, float] = {
    "bias": -0.10,
    "position_squared": -6.18,
    "height": -0.81,
    "width": -1.29,
    "log_gap": -0.72,
    "score": 1.35,
    "appearance": APPEARANCE_WEIGHT,
}
"""A lost track came back where another one, lost by now, had been meanwhile."""

RETURNED_PRIOR_MATCHED: Mapping[str, float] = {
    "bias": 5.36,
    "position_at_arrival": -5.02,
    "gain_position": 2.24,
    "gain_velocity": 0.71,
    "gain_height": 1.01,
    "gain_width": 0.60,
    "log_boxes_before": -1.12,
    "log_boxes_after": -0.94,
    "appearance": APPEARANCE_WEIGHT,
}
"""A lost track came back where another one had been that is matched elsewhere now."""

EXCHANGE: Mapping[str, float] = {
    "bias": -0.48,
    "gain_position": 0.87,
    "gain_velocity": 1.95,
    "gain_height": 1.31,
    "gain_width": 0.56,
    "overlap": 2.06,
    "log_frames": -0.79,
    "jump": 1.76,
    "margin": -1.14,
    "log_doubt": 1.40,
    "apart": -2.22,
    "appearance": APPEARANCE_WEIGHT,
}
"""Two tracks overlapped and both went on."""

TAKEOVER: Mapping[str, float] = {
    "bias": -0.45,
    "gain_position": 0.85,
    "gain_velocity": 1.01,
    "gain_height": 1.25,
    "gain_width": 0.59,
    "overlap": 1.49,
    "log_frames": -0.35,
    "jump": 1.06,
    "margin": -3.69,
    "appearance": APPEARANCE_WEIGHT,
}
"""Two tracks overlapped and one of them went on."""


class Misfit(NamedTuple):
    """How badly one segment continues another.

    Each number is in [0, 1) and saturates, so that one outlier cannot outvote the rest.

    Attributes:
        position: distance of the two in the middle of the gap, over size and time; ½ at half a size after 0.7 s.
        velocity: change of velocity; ½ at one size per second.
        height, width: change of the logarithm; ½ at 0.1 and 0.2.
        appearance: half the cosine distance, `NEUTRAL_APPEARANCE` when one side has none.
    """

    position: float
    velocity: float
    height: float
    width: float
    appearance: float


def misfit(before: Segment, after: Segment, frame_rate: float) -> Misfit:
    """Compares two segments, the earlier one first."""
    middle = (before.last + after.first) / 2
    x0, y0 = before.at(middle)
    x1, y1 = after.at(middle)
    size = math.sqrt(before.size * after.size)
    seconds = abs(after.first - before.last) / frame_rate
    return Misfit(
        _saturated(math.hypot(x1 - x0, y1 - y0) / (size * (0.3 + seconds)), 0.5),
        _saturated(math.hypot(after.vx - before.vx, after.vy - before.vy) * frame_rate / size, 1.0),
        _saturated(abs(after.height - before.height), 0.1),
        _saturated(abs(after.width - before.width), 0.2),
        _appearance_distance(before, after),
    )


def _saturated(value: float, scale: float) -> float:
    return value / (value + scale)


def _appearance_distance(before: Segment, after: Segment) -> float:
    one, other = before.appearance, after.appearance
    if one is None or other is None or len(one) != len(other):
        return NEUTRAL_APPEARANCE
    return min(1.0, max(0.0, 0.5 - 0.5 * float(one @ other)))


def probability(weights: Mapping[str, float], evidence: Mapping[str, float]) -> float:
    """Logistic score; `bias` is the constant, evidence without a weight does not count.

    >>> probability({"bias": 0.0, "gap": -1.0}, {"gap": 0.0})
    0.5
    """
    logit = weights["bias"] + sum(weight * evidence[name] for name, weight in weights.items() if name != "bias")
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))


# --- starts -----------------------------------------------------------------------------------------------------------

REACH = 2.0  # sizes between a start and the last box of a track that it may have replaced
REACH_MATCHED = 1.0  # the same for a track that is still matched
MAX_PRIOR = 4  # prior tracks that are compared with a start
MAX_BORDER = 1.0  # box widths or heights from the border: farther inside says nothing more
AT_BORDER = 0.1  # box widths or heights from the border: an ordinary entry
SECOND_BOX = 0.7  # IoU with a matched track from which a start is a second box of its object
MIN_BOXES = 2  # a start with fewer boxes was noise


class PriorTrack(NamedTuple):
    """A track that was there before a start.

    Attributes:
        track: its id.
        segment: its last boxes before.
    """

    track: int
    segment: Segment


@dataclass(frozen=True)
class TrackStart:
    """A track's first box, or its first after a gap.

    Attributes:
        track: its id.
        frame: of that box.
        returned: whether it is the first box after a gap.
        border: distance of the box to the nearest border of the image in box widths or heights, at most `MAX_BORDER`.
        score: of the detection.
        prior: the tracks that were there before.
    """

    track: int
    frame: int
    returned: bool
    border: float
    score: float
    prior: tuple[PriorTrack, ...]


class Takeover(NamedTuple):
    """The track that a start's object had before, and how likely it is that."""

    prior: int
    confidence: float


def track_start(
    state: AssignmentState, row: int, history: TrackHistory, span: int, max_age: int, gap: int = 0
) -> TrackStart | None:
    """A start with the tracks that were there before; None when there was none.

    Args:
        state: the frame.
        row: of the detection.
        history: with this frame added.
        span: frames of a segment.
        max_age: frames for which a prior track may be lost.
        gap: of a track that returns, frames since its last box: only tracks matched since then can be prior.
    """
    frame, track = int(state.frame), int(state.assigned_track_ids[row])
    x1, y1, x2, y2 = state.detections.xyxy[row].tolist()
    width, height = max(x2 - x1, 1e-3), max(y2 - y1, 1e-3)
    size = math.sqrt(width * height)
    max_age = min(max_age, gap - 1) if gap else max_age
    border = MAX_BORDER
    if state.size is not None:
        border = min(MAX_BORDER, x1 / width, y1 / height, (state.size[1] - x2) / width, (state.size[0] - y2) / height)
    prior: list[PriorTrack] = []
    for distance, other in history.near((x1 + x2) / 2, (y1 + y2) / 2, frame, max_age, REACH * size):
        if other == track:
            continue
        is_matched = history.last_frame(other) == frame
        if is_matched and (distance > REACH_MATCHED * size or _covers(other, track, history)):
            continue
        segment = history.recent(other, frame, span, max_age)
        if segment is None or (border < AT_BORDER and _is_outside(history.in_frame(*segment.at(frame)), state.size)):
            continue  # one went out, another one came in
        prior.append(PriorTrack(other, segment))
        if len(prior) == MAX_PRIOR:
            break
    if not prior:
        return None
    return TrackStart(track, frame, gap > 0, max(0.0, border), float(state.detections.score[row]), tuple(prior))


def _is_outside(point: tuple[float, float], size: tuple[int, int] | None) -> bool:
    return size is not None and not (0 <= point[0] < size[1] and 0 <= point[1] < size[0])


def _covers(other: int, track: int, history: TrackHistory) -> bool:
    """Whether two tracks have nearly the same box now."""
    frame = history.last_frame(track)
    first, second = history.segment(other, frame, frame + 1), history.segment(track, frame, frame + 1)
    return first is not None and second is not None and first.overlap(second) > SECOND_BOX


def takeover_at_start(
    start: TrackStart, frame: int, history: TrackHistory, span: int, frame_rate: float
) -> Takeover | None:
    """The likeliest takeover, `span` frames after the start; None when the start was noise."""
    after = history.segment(start.track, start.frame, start.frame + span + 1)
    if after is None or after.boxes < MIN_BOXES:
        return None
    takeovers = []
    for track, segment in start.prior:
        continuation = history.segment(track, start.frame, frame + 1)
        if continuation is None:
            weights = RETURNED_PRIOR_LOST if start.returned else NEW_PRIOR_LOST
            evidence = _evidence_of_lost(start, segment, after, frame_rate)
        else:
            weights = RETURNED_PRIOR_MATCHED if start.returned else NEW_PRIOR_MATCHED
            earlier = history.recent(track, start.frame - span, span, 2 * span) or segment
            earlier = earlier._replace(appearance=segment.appearance)
            evidence = _evidence_of_matched(start, segment, earlier, continuation, after, frame_rate)
        takeovers.append(Takeover(track, probability(weights, evidence)))
    return max(takeovers, key=lambda takeover: takeover.confidence)


def _evidence_of_lost(start: TrackStart, prior: Segment, after: Segment, frame_rate: float) -> dict[str, float]:
    """Does the start go on where the prior track ended?"""
    fit = misfit(prior, after, frame_rate)
    return {
        "position_squared": fit.position**2,
        "height": fit.height,
        "width": fit.width,
        "log_gap": math.log((start.frame - prior.last) / frame_rate),
        "log_boxes_before": math.log(prior.boxes),
        "border": start.border,
        "score": start.score,
        "appearance": NEUTRAL_APPEARANCE - fit.appearance,
    }


def _evidence_of_matched(
    start: TrackStart, prior: Segment, earlier: Segment, continuation: Segment, after: Segment, frame_rate: float
) -> dict[str, float]:
    """Does the start continue the prior track better than the prior track itself does?"""
    arrived, own = misfit(earlier, after, frame_rate), misfit(earlier, continuation, frame_rate)
    return {
        "own_position": own.position,
        "position_at_arrival": misfit(prior, after, frame_rate).position,
        "gain_position": own.position - arrived.position,
        "gain_velocity": own.velocity - arrived.velocity,
        "gain_height": own.height - arrived.height,
        "gain_width": own.width - arrived.width,
        "log_gap": math.log((start.frame - prior.last) / frame_rate),
        "log_boxes_before": math.log(prior.boxes),
        "log_boxes_after": math.log(after.boxes),
        "appearance": own.appearance - arrived.appearance,
    }


# --- encounters -------------------------------------------------------------------------------------------------------

CLOSE = 0.3  # IoU
MIN_SEGMENT_BOXES = 3  # of a segment before or after an encounter
CLEAR_MARGIN = 0.5  # summed IoU by which the assignment beats the swapped one: no doubt from there on


@dataclass
class Encounter:
    """Two tracks while they are close.

    Attributes:
        tracks: their ids, ascending.
        start: first frame.
        before: their segments up to then.
        last_close: last frame on which they were close.
        frames: number of such frames.
        overlap: largest IoU.
        overlap_frame: frame of that: where a switch is suspected.
        jump: largest distance of a matched box from its track's prediction, in sizes.
        margin: smallest IoU by which the assignment fitted the predictions better than the swapped one.
        doubt: sum over the frames of what the margin lacked to `CLEAR_MARGIN`.
    """

    tracks: tuple[int, int]
    start: int
    before: tuple[Segment, Segment]
    last_close: int = -1
    frames: int = 0
    overlap: float = 0.0
    overlap_frame: int = -1
    jump: float = 0.0
    margin: float = 2.0
    doubt: float = 0.0

    def update(self, frame: int, overlap: float, margin: float, jump: float) -> None:
        """Takes a frame on which they are close."""
        self.last_close = frame
        self.frames += 1
        self.jump = max(self.jump, jump)
        self.margin = min(self.margin, margin)
        self.doubt += max(0.0, CLEAR_MARGIN - margin)
        if overlap > self.overlap:
            self.overlap, self.overlap_frame = overlap, frame


class EncounterOutcome(NamedTuple):
    """How an encounter probably ended: tracks (for a takeover the object's old and new one), and how likely."""

    exchanged: bool
    tracks: tuple[int, int]
    confidence: float


class ClosePair(NamedTuple):
    """A close pair of one frame: two ids, and what `Encounter.update` takes."""

    one: int
    other: int
    overlap: float
    margin: float
    jump: float


def close_pairs(state: AssignmentState, matched: NDArray[np.int64], max_age: int) -> list[ClosePair]:
    """Pairs of tracks that overlap on a frame, at least one of them matched; a lost one counts where it is predicted.

    Args:
        state: the frame.
        matched: rows of the matched detections.
        max_age: frames for which a track may be lost.
    """
    live = state.assigned_track_ids[matched]
    row_of = {track: row for row, track in enumerate(state.track_ids.tolist())}
    rows = np.array([row_of.get(track, -1) for track in live.tolist()], np.int64)
    is_lost = state.track_gap <= max_age
    is_lost[rows[rows >= 0]] = False
    lost = np.flatnonzero(is_lost)
    pairs, numbers = _overlaps(state.detections.xyxy[matched], rows, state.track_boxes, lost, CLOSE)
    if not len(pairs):
        return []
    ids = np.concatenate([live, state.track_ids[lost]])[pairs].tolist()
    return [
        ClosePair(one, other, overlap, margin, jump)
        for (one, other), (overlap, margin, jump) in zip(ids, numbers.tolist(), strict=True)
    ]


def encounter_outcome(
    encounter: Encounter, frame: int, history: TrackHistory, span: int, frame_rate: float
) -> EncounterOutcome | None:
    """Compares the segments after with those before, straight and swapped; None when neither track went on."""
    end = encounter.last_close + 1 if encounter.last_close <= frame - span else frame - span
    after = [history.segment(track, end, frame + 1) for track in encounter.tracks]
    gains, continued = np.zeros(5), []
    for k, segment in enumerate(after):
        if segment is None or segment.boxes < MIN_SEGMENT_BOXES:
            continue
        continued.append(k)
        straight = misfit(encounter.before[k], segment, frame_rate)
        swapped = misfit(encounter.before[1 - k], segment, frame_rate)
        gains += np.subtract(straight, swapped)
    if not continued:
        return None
    evidence = _evidence_of_encounter(encounter, gains.tolist(), frame_rate)
    if len(continued) == 2:
        return EncounterOutcome(True, encounter.tracks, probability(EXCHANGE, evidence))
    new = continued[0]
    tracks = encounter.tracks[1 - new], encounter.tracks[new]
    return EncounterOutcome(False, tracks, probability(TAKEOVER, evidence))


def _evidence_of_encounter(encounter: Encounter, gains: list[float], frame_rate: float) -> dict[str, float]:
    between = misfit(*encounter.before, frame_rate)
    return {
        **dict(zip(("gain_position", "gain_velocity", "gain_height", "gain_width", "appearance"), gains, strict=True)),
        "overlap": encounter.overlap,
        "log_frames": math.log(encounter.frames),
        "jump": min(2.0, encounter.jump),
        "margin": encounter.margin,
        "log_doubt": math.log1p(encounter.doubt),
        "apart": between.position,
    }


_iou = inner(pair_iou)


@njit(nogil=True)
def _overlaps(boxes: Any, rows: Any, predicted: Any, lost: Any, close: Any) -> Any:
    """Pairs `(P, 2)` of positions in matched + lost, and their overlap, margin and jump `(P, 3)`.

    `rows` are the rows of `predicted` that belong to the matched boxes, −1 for a new track.
    """
    n, m = len(boxes), len(boxes) + len(lost)
    all_boxes = np.concatenate((boxes, predicted[lost]))
    near = np.zeros((n, m), np.bool_)
    count = 0
    for i in range(n):
        for j in range(i + 1, m):
            if _iou(all_boxes[i], all_boxes[j]) > close:
                near[i, j] = True
                count += 1
    pairs, numbers = np.empty((count, 2), np.int64), np.empty((count, 3))
    k = 0
    for i in range(n):
        for j in range(i + 1, m):
            if not near[i, j]:
                continue
            box_i, box_j = all_boxes[i], all_boxes[j]
            before_i = predicted[rows[i]] if rows[i] >= 0 else box_i
            before_j = predicted[rows[j]] if j < n and rows[j] >= 0 else box_j
            margin = _iou(before_i, box_i) - _iou(before_j, box_i)
            jump = _jump(before_i, box_i)
            if j < n:
                margin += _iou(before_j, box_j) - _iou(before_i, box_j)
                jump = max(jump, _jump(before_j, box_j))
            pairs[k, 0], pairs[k, 1] = i, j
            numbers[k, 0], numbers[k, 1], numbers[k, 2] = _iou(box_i, box_j), margin, jump
            k += 1
    return pairs, numbers


@njit(nogil=True)
def _jump(predicted: Any, box: Any) -> Any:
    """Distance of the centres in roots of the box's area."""
    x = (box[0] + box[2] - predicted[0] - predicted[2]) / 2
    y = (box[1] + box[3] - predicted[1] - predicted[3]) / 2
    area = (box[2] - box[0]) * (box[3] - box[1])
    return np.sqrt((x * x + y * y) / max(area, 1e-6))
