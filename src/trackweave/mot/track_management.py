"""What a frame's decisions do to the tracks: matched ones are updated, others age and end, new ones begin.

`Clutter` and `Unsteadiness`: what a tracker learns about its detector from the stream.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba import boolean, float64, int64, types
from numpy.typing import NDArray

from trackweave.mot.kalman import begin, correct, retrace
from trackweave.mot.parameters import PARAMETERS, Parameters
from trackweave.mot.state import (
    AGE,
    CLASS,
    CONFIRMED,
    GAP,
    HITS,
    ID,
    RECENT,
    SCORE,
    SEEN,
    SINCE,
    STREAK,
    VISIBILITY,
    VOTES,
)

LITTLE, MUCH = 0.1, 0.3
"""Shares of low scores between which a detector passes from clean to cluttered."""
MEMORY = 2000.0
"""Detections that are remembered: some seconds of a street, a minute of a lone walker."""
MIDDLE = 0.5
"""Scores below are low."""

STEADY, UNSTEADY = 0.02, 0.035
"""Mean changes of height, as logarithms, between which boxes pass from steady to unsteady."""
LARGE_CHANGE = 0.2


class Clutter:
    """How much of what a detector reports are low scores.

    A detector whose file was cut at its own working point has few of them, and nearly all it reports is there. One
    that reports everything down to a score of a few percent has false boxes among its middling scores too, and a
    track should not begin on those. On MOT17, half of YOLOX's boxes between 0.5 and 0.6 are false; of a KITTI
    detector that stops at 0.4, or of DanceTrack's, far fewer.
    """

    def __init__(self) -> None:
        self._low = self._all = 0.0

    def observe(self, scores: NDArray[np.float64]) -> None:
        """Takes in the scores of a frame, `(D,)`, those below the tracker's own threshold left out."""
        n = len(scores)
        kept = max(0.0, 1 - n / MEMORY)
        self._low = kept * self._low + float(np.count_nonzero(scores < MIDDLE))
        self._all = kept * self._all + n

    @property
    def level(self) -> float:
        """0: clean; 1: cluttered."""
        share = self._low / self._all if self._all else 0.0
        return min(1.0, max(0.0, (share - LITTLE) / (MUCH - LITTLE)))


class Unsteadiness:
    """How much a box's height changes from one frame to the next, on the mean over all tracks.

    Heights of detected boxes hardly change within a thirtieth of a second; what is seen is the detector's jitter, and
    at low frame rates or from a moving car true change. Where it is large, overlaps say less and places say more.
    """

    def __init__(self) -> None:
        self._sum = self._all = 0.0

    def observe(self, total: float, count: int) -> None:
        """Takes in a frame: the sum of absolute changes of the logarithm of the height, and of how many boxes."""
        kept = max(0.0, 1 - count / MEMORY)
        self._sum = kept * self._sum + total
        self._all = kept * self._all + count

    @property
    def mean(self) -> float:
        """Mean absolute change of the logarithm of the height."""
        return self._sum / self._all if self._all else 0.0

    @property
    def level(self) -> float:
        """0: steady; 1: unsteady."""
        return min(1.0, max(0.0, (self.mean - STEADY) / (UNSTEADY - STEADY)))


Boxes = NDArray[np.float64]
MOST_RETRACED = 120
"""A longer gap is retraced in so many steps: frame indices may be anything, nanoseconds even."""


@numba.njit(float64(float64[::1], float64[::1]), cache=True, inline="always")
def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """IoU of two boxes as centre x, centre y, width, height."""
    across = min(a[2], b[2], 0.5 * (a[2] + b[2]) - abs(a[0] - b[0]))
    down = min(a[3], b[3], 0.5 * (a[3] + b[3]) - abs(a[1] - b[1]))
    if across <= 0.0 or down <= 0.0:
        return 0.0
    shared = across * down
    return float(shared / (a[2] * a[3] + b[2] * b[3] - shared))


@numba.njit(int64(float64[:, ::1], int64, float64), cache=True)
def vote(votes: NDArray[np.float64], class_id: int, score: float) -> int:
    """Adds a vote to one track's `(VOTES, 2)` and returns the class that leads; the weakest class gives way."""
    slot, weakest = -1, 0
    for k in range(VOTES):
        if votes[k, 1] > 0.0 and votes[k, 0] == class_id:
            slot = k
        if votes[k, 1] < votes[weakest, 1]:
            weakest = k
    if slot < 0:
        slot = weakest
        votes[slot, 0] = class_id
        votes[slot, 1] = 0.0
    votes[slot, 1] += score
    best = 0
    for k in range(VOTES):
        if votes[k, 1] > votes[best, 1]:
            best = k
    return int(votes[best, 0])


@numba.njit(
    types.Tuple((int64, int64, int64, int64, float64))(  # type: ignore[no-untyped-call]
        float64[:, :, ::1],
        float64[:, :, ::1],
        float64[:, :, ::1],
        int64[:, ::1],
        float64[:, ::1],
        float64[:, :, ::1],
        int64,
        int64[::1],
        float64[:, ::1],
        float64[::1],
        int64[::1],
        float64[::1],
        int64,
        boolean,
        int64,
        PARAMETERS,
        int64[::1],
        int64[::1],
        boolean[::1],
        int64[::1],
    ),
    cache=True,
)
def commit(
    motion: Boxes,
    matched: Boxes,
    recent: Boxes,
    counts: NDArray[np.int64],
    values: NDArray[np.float64],
    votes: NDArray[np.float64],
    n: int,
    match: NDArray[np.int64],
    boxes: Boxes,
    scores: NDArray[np.float64],
    classes: NDArray[np.int64],
    visibility: NDArray[np.float64],
    frames: int,
    opening: bool,
    next_id: int,
    p: Parameters,
    assigned: NDArray[np.int64],
    row_of: NDArray[np.int64],
    shown: NDArray[np.bool_],
    source: NDArray[np.int64],
) -> tuple[int, int, int, int, float]:
    """Updates the table in place.

    Args:
        motion … votes: the arrays of a `TrackTable` with room for `n + D` rows, predicted for this frame.
        n: T, live tracks.
        match: `(T,)` column of each track's detection, or −1.
        boxes, scores, classes, visibility: the D detections; boxes as centre x, centre y, width, height.
        frames: frames since the one before.
        opening: this is the first frame, whose tracks need no confirmation.
        next_id: first free id.
        p: parameters.
        assigned: `(D,)` out: id of each detection's track, or −1.
        row_of: `(D,)` out: its row in the table afterwards, or −1.
        shown: `(D,)` out: whether the track may be shown on this frame.
        source: `(n + D,)` out: the row that each row of the table came from; −1 for a new track.

    Returns:
        T afterwards, the next free id, how many lost tracks were found again, and how many tracks were matched on
        this frame and the one before, with the sum of their changes of height as absolute logarithms.
    """
    assigned[:] = -1
    row_of[:] = -1
    shown[:] = False
    found = 0
    kept = 0
    steady = 0
    changes = 0.0
    for row in range(n):
        d = match[row]
        counts[row, AGE] += frames
        if d >= 0:
            elapsed = values[row, SINCE]
            gap = counts[row, GAP] + frames
            if p.observation_centred == 1.0 and gap > 1:
                steps = min(gap, MOST_RETRACED)
                retrace(motion[row], matched[row], recent[row, 0], boxes[d], steps, elapsed / steps, p)
            else:
                correct(motion[row], boxes[d], p)
            found += counts[row, GAP] > 0 and counts[row, CONFIRMED] == 1
            counts[row, STREAK] = counts[row, STREAK] + 1 if gap <= frames else 1
            counts[row, HITS] += 1
            counts[row, GAP] = 0
            counts[row, SEEN] += 1
            for k in range(RECENT - 1, 0, -1):
                recent[row, k] = recent[row, k - 1]
            if gap <= frames:
                steady += 1
                changes += min(LARGE_CHANGE, abs(math.log(boxes[d, 3] / recent[row, 0, 3])))
            recent[row, 0] = boxes[d]
            matched[row] = motion[row]
            values[row, SCORE] = scores[d]
            values[row, VISIBILITY] = visibility[d]
            values[row, SINCE] = 0.0
            if p.class_votes == 1.0:
                counts[row, CLASS] = vote(votes[row], classes[d], scores[d])
            if counts[row, HITS] >= p.confirm_hits:
                counts[row, CONFIRMED] = 1
            assigned[d] = counts[row, ID]
            row_of[d] = kept
            streak_needed = min(p.streak_to_show, float(counts[row, HITS]))
            shown[d] = counts[row, CONFIRMED] == 1 and counts[row, STREAK] >= streak_needed
        else:
            counts[row, GAP] += frames
            counts[row, STREAK] = 0
            if counts[row, CONFIRMED] == 0 or values[row, SINCE] > p.lost_steps:
                continue
        if kept != row:
            motion[kept] = motion[row]
            matched[kept] = matched[row]
            recent[kept] = recent[row]
            counts[kept] = counts[row]
            values[kept] = values[row]
            votes[kept] = votes[row]
        source[kept] = row
        kept += 1
    for d in range(len(boxes)):
        if assigned[d] >= 0 or scores[d] < p.high_score or scores[d] < p.birth_score:
            continue
        doubled = False
        if p.duplicate_overlap <= 1.0:
            for other in range(len(boxes)):
                # Rows below `kept` are old tracks: two new ones may well begin side by side.
                if assigned[other] >= 0 and source[row_of[other]] >= 0:
                    doubled |= overlap(boxes[d], boxes[other]) > p.duplicate_overlap
        if doubled:
            continue
        row = kept
        kept += 1
        begin(motion[row], boxes[d], p)
        matched[row] = motion[row]
        recent[row, 0] = boxes[d]
        counts[row] = 0
        counts[row, ID] = next_id
        next_id += 1
        counts[row, HITS] = 1
        counts[row, STREAK] = 1
        counts[row, SEEN] = 1
        counts[row, CLASS] = classes[d]
        values[row, SCORE] = scores[d]
        values[row, VISIBILITY] = visibility[d]
        values[row, SINCE] = 0.0
        votes[row] = 0.0
        votes[row, 0, 0] = classes[d]
        votes[row, 0, 1] = scores[d]
        at_once = opening or scores[d] >= p.instant_score
        counts[row, CONFIRMED] = 1 if at_once or p.confirm_hits <= 1.0 else 0
        source[row] = -1
        assigned[d] = counts[row, ID]
        row_of[d] = row
        shown[d] = counts[row, CONFIRMED] == 1
    return kept, next_id, found, steady, changes
