"""Tracks that arrive, newly born or back from a gap, where another track was: did they take over its object?

Pairs of tracks that overlap for a while: did they come out as they went in?

How likely an identity changed tracks: evidence from the lines of tracks before and after, and logistic scores.

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
from numba import njit
from numpy.typing import NDArray

from trackweave.mot.track_history import Segment, TrackHistory
from trackweave.structures.assignment import AssignmentState

LOOK_WEIGHT = 8.0  # logits per half the cosine distance
SAME_LOOK = 0.12  # half the cosine distance at which appearance speaks neither for nor against

# Standardised evidence was fitted; the weights here are per unit.
BORN: Mapping[str, float] = {
    "bias": -2.06,
    "position_squared": -4.14,
    "height": -1.97,
    "log_gap": -0.98,
    "log_boxes_before": 0.83,
    "border": -0.86,
    "score": 2.01,
    "appearance": LOOK_WEIGHT,
}
"""A track was born where another one, gone by now, had been."""

BORN_OWNER_LIVES: Mapping[str, float] = {
    "bias": -1.43,
    "own_position": 2.82,
    "position_at_arrival": -5.22,
    "gain_height": 1.20,
    "gain_width": 0.76,
    "log_gap": -1.17,
    "log_boxes_before": -0.61,
    "appearance": LOOK_WEIGHT,
}
"""A track was born where another one had been that is matched elsewhere now."""

RETURNED: Mapping[str, float] = {
    "bias": -0.10,
    "position_squared": -6.18,
    "height": -0.81,
    "width": -1.29,
    "log_gap": -0.72,
    "score": 1.35,
    "appearance": LOOK_WEIGHT,
}
"""A lost track came back where another one, gone by now, had been meanwhile."""

RETURNED_OWNER_LIVES: Mapping[str, float] = {
    "bias": 5.36,
    "position_at_arrival": -5.02,
    "gain_position": 2.24,
    "gain_velocity": 0.71,
    "gain_height": 1.01,
    "gain_width": 0.60,
    "log_boxes_before": -1.12,
    "log_boxes_after": -0.94,
    "appearance": LOOK_WEIGHT,
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
    "appearance": LOOK_WEIGHT,
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
    "appearance": LOOK_WEIGHT,
}
"""Two tracks overlapped and one of them went on."""


class Misfit(NamedTuple):
    """How badly one line continues another.

    Each number is in [0, 1) and saturates, so that one outlier cannot outvote the rest.

    Attributes:
        position: distance of the two lines in the middle of the gap, over size and time; ½ at half a size after 0.7 s.
        velocity: change of velocity; ½ at one size per second.
        height, width: change of the logarithm; ½ at 0.1 and 0.2.
        appearance: half the cosine distance, `SAME_LOOK` when one side has none.
    """

    position: float
    velocity: float
    height: float
    width: float
    appearance: float


def misfit(before: Segment, after: Segment, frame_rate: float) -> Misfit:
    """Compares two pieces of tracks, the earlier one first."""
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
        _look(before, after),
    )


def _saturated(value: float, scale: float) -> float:
    return value / (value + scale)


def _look(before: Segment, after: Segment) -> float:
    one, other = before.appearance, after.appearance
    if one is None or other is None or len(one) != len(other):
        return SAME_LOOK
    return min(1.0, max(0.0, 0.5 - 0.5 * float(one @ other)))


def probability(weights: Mapping[str, float], evidence: Mapping[str, float]) -> float:
    """Logistic score; `bias` is the constant, evidence without a weight does not count.

    >>> probability({"bias": 0.0, "gap": -1.0}, {"gap": 0.0})
    0.5
    """
    logit = weights["bias"] + sum(weight * evidence[name] for name, weight in weights.items() if name != "bias")
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))


REACH = 2.0  # sizes between an arrival and the last box of a track that it may have replaced
REACH_LIVING = 1.0  # the same for a track that is still matched
OWNERS = 4  # earlier owners looked at per arrival
INSIDE = 1.0  # box widths or heights from the border: farther inside says nothing more
AT_BORDER = 0.1  # box widths or heights from the border: an ordinary entry
SECOND_BOX = 0.7  # IoU with a living track from which an arrival is a second box of its object
MIN_BOXES = 2  # an arrival with fewer boxes was noise


class Owner(NamedTuple):
    """A track that was there before an arrival.

    Attributes:
        track: its id.
        line: its last boxes before.
    """

    track: int
    line: Segment


@dataclass(frozen=True)
class Arrival:
    """A track's first box, or its first after a gap.

    Attributes:
        track: its id.
        frame: of that box.
        returned: whether the track was known before.
        border: distance of the box to the nearest border of the image in box widths or heights, at most `INSIDE`.
        score: of the detection.
        owners: the tracks that were there before.
    """

    track: int
    frame: int
    returned: bool
    border: float
    score: float
    owners: tuple[Owner, ...]


class Takeover(NamedTuple):
    """The earlier owner of an arrival's object, and how likely it is that."""

    owner: int
    confidence: float


def arrival(
    state: AssignmentState, row: int, history: TrackHistory, span: int, depth: int, away: int = 0
) -> Arrival | None:
    """What is to be remembered of an arrival until it is judged; None when no other track was near.

    Args:
        state: the frame.
        row: of the detection.
        history: with this frame added.
        span: frames of a line.
        depth: frames for which an owner may be gone.
        away: of a track that returns, frames since its last box: only tracks seen since then can be its owners.
    """
    frame, track = int(state.frame), int(state.assigned_track_ids[row])
    x1, y1, x2, y2 = state.detections.xyxy[row].tolist()
    width, height = max(x2 - x1, 1e-3), max(y2 - y1, 1e-3)
    size = math.sqrt(width * height)
    depth = min(depth, away - 1) if away else depth
    border = INSIDE
    if state.size is not None:
        border = min(INSIDE, x1 / width, y1 / height, (state.size[1] - x2) / width, (state.size[0] - y2) / height)
    owners: list[Owner] = []
    for distance, owner in history.near((x1 + x2) / 2, (y1 + y2) / 2, frame, depth, REACH * size):
        if owner == track:
            continue
        if history.last_frame(owner) == frame and (distance > REACH_LIVING * size or _covers(owner, track, history)):
            continue
        line = history.recent(owner, frame, span, depth)
        if line is None or (border < AT_BORDER and _is_outside(history.in_frame(*line.at(frame)), state.size)):
            continue  # one went out, another one came in
        owners.append(Owner(owner, line))
        if len(owners) == OWNERS:
            break
    if not owners:
        return None
    return Arrival(track, frame, away > 0, max(0.0, border), float(state.detections.score[row]), tuple(owners))


def _is_outside(point: tuple[float, float], size: tuple[int, int] | None) -> bool:
    return size is not None and not (0 <= point[0] < size[1] and 0 <= point[1] < size[0])


def _covers(owner: int, track: int, history: TrackHistory) -> bool:
    """Whether two tracks have nearly the same box now."""
    frame = history.last_frame(track)
    one, other = history.segment(owner, frame, frame + 1), history.segment(track, frame, frame + 1)
    return one is not None and other is not None and one.overlap(other) > SECOND_BOX


def judge_arrival(given: Arrival, frame: int, history: TrackHistory, span: int, frame_rate: float) -> Takeover | None:
    """The likeliest takeover, judged `span` frames after the arrival; None when the arrival was noise."""
    after = history.segment(given.track, given.frame, given.frame + span + 1)
    if after is None or after.boxes < MIN_BOXES:
        return None
    found = []
    for owner in given.owners:
        gone_on = history.segment(owner.track, given.frame, frame + 1)
        if gone_on is None:
            weights = RETURNED if given.returned else BORN
            evidence = _owner_gone(given, owner, after, frame_rate)
        else:
            weights = RETURNED_OWNER_LIVES if given.returned else BORN_OWNER_LIVES
            earlier = history.recent(owner.track, given.frame - span, span, 2 * span) or owner.line
            earlier = earlier._replace(appearance=owner.line.appearance)
            evidence = _owner_lives(given, owner.line, earlier, gone_on, after, frame_rate)
        found.append(Takeover(owner.track, probability(weights, evidence)))
    return max(found, key=lambda one: one.confidence)


def _owner_gone(given: Arrival, owner: Owner, after: Segment, frame_rate: float) -> dict[str, float]:
    """Does the arrival go on where the owner ended?"""
    line = owner.line
    fit = misfit(line, after, frame_rate)
    return {
        "position_squared": fit.position**2,
        "height": fit.height,
        "width": fit.width,
        "log_gap": math.log((given.frame - line.last) / frame_rate),
        "log_boxes_before": math.log(line.boxes),
        "border": given.border,
        "score": given.score,
        "appearance": SAME_LOOK - fit.appearance,
    }


def _owner_lives(
    given: Arrival, line: Segment, earlier: Segment, gone_on: Segment, after: Segment, frame_rate: float
) -> dict[str, float]:
    """Does the arrival continue the owner's line better than the owner itself does?"""
    arrived, own = misfit(earlier, after, frame_rate), misfit(earlier, gone_on, frame_rate)
    return {
        "own_position": own.position,
        "position_at_arrival": misfit(line, after, frame_rate).position,
        "gain_position": own.position - arrived.position,
        "gain_velocity": own.velocity - arrived.velocity,
        "gain_height": own.height - arrived.height,
        "gain_width": own.width - arrived.width,
        "log_gap": math.log((given.frame - line.last) / frame_rate),
        "log_boxes_before": math.log(line.boxes),
        "log_boxes_after": math.log(after.boxes),
        "appearance": own.appearance - arrived.appearance,
    }


CLOSE = 0.3  # IoU
MIN_BOXES_TOGETHER = 3  # of a line before or after
CERTAIN = 0.5  # summed IoU by which the pairing as decided beats the other one: no doubt from there on


@dataclass
class Encounter:
    """Two tracks while they are close.

    Attributes:
        tracks: their ids, ascending.
        start: first frame.
        before: their lines up to then.
        last_close: last frame on which they were close.
        frames: number of such frames.
        overlap: largest IoU.
        overlap_frame: frame of that: where a switch is suspected.
        jump: largest distance of a matched box from its track's prediction, in sizes.
        margin: smallest IoU by which the pairing as decided fitted the predictions better than the other one.
        doubt: sum over the frames of what the margin lacked to `CERTAIN`.
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

    def see(self, frame: int, overlap: float, margin: float, jump: float) -> None:
        """Takes a frame on which they are close."""
        self.last_close = frame
        self.frames += 1
        self.jump = max(self.jump, jump)
        self.margin = min(self.margin, margin)
        self.doubt += max(0.0, CERTAIN - margin)
        if overlap > self.overlap:
            self.overlap, self.overlap_frame = overlap, frame


class Outcome(NamedTuple):
    """How an encounter probably ended: tracks (for a takeover the object's old and new one), and how likely."""

    exchanged: bool
    tracks: tuple[int, int]
    confidence: float


class Close(NamedTuple):
    """A close pair of one frame: two ids, and what `Encounter.see` takes."""

    one: int
    other: int
    overlap: float
    margin: float
    jump: float


def close_pairs(state: AssignmentState, matched: NDArray[np.int64], depth: int) -> list[Close]:
    """Pairs of tracks that overlap on a frame, at least one of them matched; a lost one counts where it is predicted.

    Args:
        state: the frame.
        matched: rows of the matched detections.
        depth: frames for which a track may be lost.
    """
    live = state.assigned_track_ids[matched]
    row_of = {track: row for row, track in enumerate(state.track_ids.tolist())}
    rows = np.array([row_of.get(track, -1) for track in live.tolist()], np.int64)
    is_lost = state.track_gap <= depth
    is_lost[rows[rows >= 0]] = False
    lost = np.flatnonzero(is_lost)
    pairs, numbers = _overlaps(state.detections.xyxy[matched], rows, state.track_boxes, lost, CLOSE)
    if not len(pairs):
        return []
    ids = np.concatenate([live, state.track_ids[lost]])[pairs].tolist()
    return [
        Close(one, other, overlap, margin, jump)
        for (one, other), (overlap, margin, jump) in zip(ids, numbers.tolist(), strict=True)
    ]


def judge_encounter(met: Encounter, frame: int, history: TrackHistory, span: int, frame_rate: float) -> Outcome | None:
    """Compares the lines after with those before, straight and swapped; None when neither went on."""
    end = met.last_close + 1 if met.last_close <= frame - span else frame - span
    after = [history.segment(track, end, frame + 1) for track in met.tracks]
    went_on = [k for k, line in enumerate(after) if line is not None and line.boxes >= MIN_BOXES_TOGETHER]
    if not went_on:
        return None
    gains = np.zeros(5)
    for k in went_on:
        line = after[k]
        assert line is not None
        straight = misfit(met.before[k], line, frame_rate)
        swapped = misfit(met.before[1 - k], line, frame_rate)
        gains += np.subtract(straight, swapped)
    evidence = _evidence(met, gains.tolist(), frame_rate)
    if len(went_on) == 2:
        return Outcome(True, met.tracks, probability(EXCHANGE, evidence))
    new = went_on[0]
    return Outcome(False, (met.tracks[1 - new], met.tracks[new]), probability(TAKEOVER, evidence))


def _evidence(met: Encounter, gains: list[float], frame_rate: float) -> dict[str, float]:
    alike = misfit(*met.before, frame_rate)
    return {
        **dict(zip(("gain_position", "gain_velocity", "gain_height", "gain_width", "appearance"), gains, strict=True)),
        "overlap": met.overlap,
        "log_frames": math.log(met.frames),
        "jump": min(2.0, met.jump),
        "margin": met.margin,
        "log_doubt": math.log1p(met.doubt),
        "apart": alike.position,
    }


@njit(cache=True, nogil=True)
def _iou(a: Any, b: Any) -> Any:
    """IoU of two boxes xyxy."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@njit(cache=True, nogil=True)
def _overlaps(boxes: Any, rows: Any, predicted: Any, lost: Any, close: Any) -> Any:
    """Pairs `(P, 2)` of positions in matched + lost, and their overlap, margin and jump `(P, 3)`.

    `rows` are the rows of `predicted` that belong to the matched boxes, −1 for a newborn track.
    """
    n, m = len(boxes), len(boxes) + len(lost)
    everyone = np.concatenate((boxes, predicted[lost]))
    near = np.zeros((n, m), np.bool_)
    count = 0
    for i in range(n):
        for j in range(i + 1, m):
            if _iou(everyone[i], everyone[j]) > close:
                near[i, j] = True
                count += 1
    pairs, numbers = np.empty((count, 2), np.int64), np.empty((count, 3))
    k = 0
    for i in range(n):
        for j in range(i + 1, m):
            if not near[i, j]:
                continue
            box_i, box_j = everyone[i], everyone[j]
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


@njit(cache=True, nogil=True)
def _jump(predicted: Any, box: Any) -> Any:
    """Distance of the centres in roots of the box's area."""
    x = (box[0] + box[2] - predicted[0] - predicted[2]) / 2
    y = (box[1] + box[3] - predicted[1] - predicted[3]) / 2
    area = (box[2] - box[0]) * (box[3] - box[1])
    return np.sqrt((x * x + y * y) / max(area, 1e-6))
