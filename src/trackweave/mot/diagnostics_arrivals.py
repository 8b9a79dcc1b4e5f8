"""Tracks that arrive, newly born or back from a gap, where another track was: did they take over its object?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from trackweave.mot.diagnostics_history import Segment, TrackHistory
from trackweave.mot.diagnostics_scoring import (
    BORN,
    BORN_OWNER_LIVES,
    RETURNED,
    RETURNED_OWNER_LIVES,
    SAME_LOOK,
    misfit,
    probability,
)
from trackweave.structures.assignment import AssignmentState

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
