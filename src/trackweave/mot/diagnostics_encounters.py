"""Pairs of tracks that overlap for a while: did they come out as they went in?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from trackweave.mot.diagnostics_history import Segment, TrackHistory
from trackweave.mot.diagnostics_scoring import EXCHANGE, TAKEOVER, misfit, probability
from trackweave.structures.assignment import AssignmentState

CLOSE = 0.3  # IoU
MIN_BOXES = 3  # of a line before or after
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
    went_on = [k for k, line in enumerate(after) if line is not None and line.boxes >= MIN_BOXES]
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
