"""Track management: matched tracks are updated, others age and end, new ones begin; and the adaptive thresholds.

`LowScoreRatio` and `BoxJitter` measure the detector on the stream, `AdaptiveParameters` moves the tracker's
thresholds with them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import centred_iou
from trackweave.compiled import njit
from trackweave.mot.kalman import copy_matrix, copy_vector, correct, initiate, re_update
from trackweave.mot.settings import SCORE_THRESHOLDS, TrackerSettings
from trackweave.mot.state import (
    AGE,
    CLASS,
    CONFIRMED,
    GAP,
    HITS,
    ID,
    NEVER,
    RECENT,
    SCORE,
    SEEN,
    SINCE,
    STREAK,
    VISIBILITY,
    VOTES,
    Parameters,
    changed,
    kernel_parameters,
)

CLEAN_RATIO, CLUTTERED_RATIO = 0.1, 0.3
"""Shares of low scores between which a detector passes from clean to cluttered."""
MEMORY_DETECTIONS = 2000.0
"""Detections that are remembered: some seconds of a street, a minute of a lone walker."""
LOW_SCORE = 0.5
"""Scores below are low."""
SMALL_JITTER, LARGE_JITTER = 0.02, 0.035
"""Mean changes of height, as logarithms, between which boxes pass from steady to jittering."""
MAX_CHANGE = 0.2
"""A larger change of height, as a logarithm, counts as this much: it was a mistake or another object."""
MAX_VIRTUAL_STEPS = 120
"""A longer gap is re-updated in so many steps: frame indices may be anything, nanoseconds even."""

Boxes = NDArray[np.float64]


class LowScoreRatio:
    """The share of low scores among a detector's detections, a running mean.

    A detector whose file was cut at its own working point has few low scores, and nearly all it reports is there. One
    that reports everything down to a score of a few percent has false boxes among its middling scores too, and a
    track should not begin on those. On MOT17, half of YOLOX's boxes between 0.5 and 0.6 are false; of a KITTI
    detector that stops at 0.4, or of DanceTrack's, far fewer.
    """

    def __init__(self) -> None:
        self._low = self._all = 0.0

    def observe(self, scores: NDArray[np.float64]) -> None:
        """Takes in the scores of a frame, `(D,)`, those below the tracker's own threshold left out."""
        n = len(scores)
        kept = max(0.0, 1 - n / MEMORY_DETECTIONS)
        self._low = kept * self._low + float(np.count_nonzero(scores < LOW_SCORE))
        self._all = kept * self._all + n

    @property
    def level(self) -> float:
        """0: clean; 1: cluttered."""
        ratio = self._low / self._all if self._all else 0.0
        return min(1.0, max(0.0, (ratio - CLEAN_RATIO) / (CLUTTERED_RATIO - CLEAN_RATIO)))


class BoxJitter:
    """How much the height of boxes changes from one frame to the next, a running mean over all tracks.

    Heights of detected boxes hardly change within a thirtieth of a second; what is seen is the detector's jitter, and
    at low frame rates or from a moving car true change. Where it is large, overlaps say less and distances say more.
    """

    def __init__(self) -> None:
        self._sum = self._all = 0.0

    def observe(self, total: float, count: int) -> None:
        """Takes in a frame: the sum of absolute changes of the logarithm of the height, and of how many boxes."""
        kept = max(0.0, 1 - count / MEMORY_DETECTIONS)
        self._sum = kept * self._sum + total
        self._all = kept * self._all + count

    @property
    def mean(self) -> float:
        """Mean absolute change of the logarithm of the height."""
        return self._sum / self._all if self._all else 0.0

    @property
    def level(self) -> float:
        """0: steady; 1: jittering."""
        return min(1.0, max(0.0, (self.mean - SMALL_JITTER) / (LARGE_JITTER - SMALL_JITTER)))


class AdaptiveParameters:
    """The parameters that the stream asks for: each value lies between a setting and its counterpart for the other
    extreme.

    Args:
        settings: the tracker's.
        stretch: by how much the scores of the stream are raised, see `ScoreScale`; thresholds that are set
            explicitly are raised with them, and so mean the scores as they were.
    """

    def __init__(self, settings: TrackerSettings, stretch: float = 1.0) -> None:
        explicit = settings.model_fields_set

        def value(name: str) -> float:
            given: float = getattr(settings, name)
            return given * stretch if name in SCORE_THRESHOLDS and name in explicit else given

        def span(name: str) -> tuple[float, float]:
            """The value at level 0, and how much is added up to level 1."""
            return value(name), value(settings.extreme(name)) - value(name)

        self._high, self._birth, self._distance = span("high_score"), span("birth_score"), span("distance_share")
        self._weight, self._power = span("score_weight"), span("lost_height_power")
        self._birth_is_set, self._high_is_set = "birth_score" in explicit, "high_score" in explicit
        instant = NEVER if settings.instant_score is None else value("instant_score")
        self._plain = changed(kernel_parameters(settings), instant_score=instant)

    def at(self, clutter: float, jitter: float) -> Parameters:
        """The parameters at levels of low scores and of jitter, both in [0, 1]."""
        high, birth = self._high[0] + clutter * self._high[1], self._birth[0] + clutter * self._birth[1]
        # Tracks begin on high scores; of the two settings one that is not set explicitly gives way.
        if not self._birth_is_set:
            birth = max(birth, high)
        elif not self._high_is_set:
            high = min(birth, high)
        return changed(
            self._plain,
            high_score=high,
            birth_score=birth,
            score_weight=self._weight[0] + clutter * self._weight[1],
            lost_height_power=self._power[0] + clutter * self._power[1],
            distance_share=self._distance[0] + jitter * self._distance[1],
        )


_iou = njit(inline="always")(centred_iou)


@njit
def vote(votes: NDArray[np.float64], class_id: int, score: float) -> int:
    """Adds a vote to one track's `(VOTES, 2)` and returns the class that leads; the weakest class gives way.

    −1, no class, leads only where nothing else was voted for.
    """
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
    best = slot
    for k in range(VOTES - 1, -1, -1):  # of equal ones the first
        known, leading = votes[k, 0] >= 0.0, votes[best, 0] >= 0.0
        if votes[k, 1] > 0.0 and (known > leading or (known == leading and votes[k, 1] >= votes[best, 1])):
            best = k
    return int(votes[best, 0])


@njit(inline="always")
def begin_tracks(
    motion: Boxes,
    matched: Boxes,
    recent: Boxes,
    counts: NDArray[np.int64],
    values: NDArray[np.float64],
    votes: NDArray[np.float64],
    n: int,
    boxes: Boxes,
    scores: NDArray[np.float64],
    classes: NDArray[np.int64],
    visibility: NDArray[np.float64],
    opening: bool,
    next_id: int,
    p: Parameters,
    assigned: NDArray[np.int64],
    row_of: NDArray[np.int64],
    reported: NDArray[np.bool_],
    source: NDArray[np.int64],
) -> tuple[int, int]:
    """Begins a track on each detection that is sure and has none, below the `n` rows of the table that are taken.

    Arguments as for `update_tracks`; returns T afterwards and the next free id.
    """
    kept = n
    for d in range(len(boxes)):
        if assigned[d] >= 0 or scores[d] < p.birth_score:
            continue
        is_duplicate = False
        if p.duplicate_overlap <= 1.0:
            for e in range(len(boxes)):
                # Rows below `n` are old tracks: two new ones may well begin side by side.
                if assigned[e] >= 0 and row_of[e] < n:
                    dx, dy = boxes[d, 0] - boxes[e, 0], boxes[d, 1] - boxes[e, 1]
                    iou = _iou(dx, dy, boxes[d, 2], boxes[d, 3], boxes[e, 2], boxes[e, 3])
                    is_duplicate |= iou > p.duplicate_overlap
        if is_duplicate:
            continue
        row = kept
        kept += 1
        initiate(motion[row], boxes[d], p)
        copy_matrix(matched[row], motion[row])
        copy_vector(recent[row, 0], boxes[d])
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
        reported[d] = counts[row, CONFIRMED] == 1
    return kept, next_id


@njit(inline="always")  # a call would cost more than what it does
def update_matched(
    motion: Boxes,
    matched: Boxes,
    recent: Boxes,
    counts: NDArray[np.int64],
    values: NDArray[np.float64],
    votes: NDArray[np.float64],
    row: int,
    box: NDArray[np.float64],
    score: float,
    class_id: int,
    visibility: float,
    frames: int,
    p: Parameters,
) -> tuple[bool, float]:
    """Updates the track in `row` with its detection; other arguments as for `update_tracks`.

    Returns:
        Whether the track was confirmed and lost, and the absolute change of its height since the frame before as a
        logarithm, −1 when it was not matched there.
    """
    gap = counts[row, GAP] + frames
    if p.observation_centred == 1.0 and gap > 1:
        elapsed = values[row, SINCE]
        steps = min(gap, MAX_VIRTUAL_STEPS)
        re_update(motion[row], matched[row], recent[row, 0], box, steps, elapsed / steps, p)
    else:
        correct(motion[row], box, p)
    was_lost = counts[row, GAP] > 0 and counts[row, CONFIRMED] == 1
    counts[row, STREAK] = counts[row, STREAK] + 1 if gap <= frames else 1
    counts[row, HITS] += 1
    counts[row, GAP] = 0
    counts[row, SEEN] += 1
    for k in range(RECENT - 1, 0, -1):
        copy_vector(recent[row, k], recent[row, k - 1])
    change = min(MAX_CHANGE, abs(math.log(box[3] / recent[row, 0, 3]))) if gap <= frames else -1.0
    copy_vector(recent[row, 0], box)
    copy_matrix(matched[row], motion[row])
    values[row, SCORE] = score
    values[row, VISIBILITY] = visibility
    values[row, SINCE] = 0.0
    if p.class_votes == 1.0:
        counts[row, CLASS] = vote(votes[row], class_id, score)
    if counts[row, HITS] >= p.confirm_hits:
        counts[row, CONFIRMED] = 1
    return was_lost, change


@njit
def update_tracks(
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
    reported: NDArray[np.bool_],
    source: NDArray[np.int64],
) -> tuple[int, int, int, int, float]:
    """Updates the table in place.

    Args:
        motion … votes: the arrays of a `TrackTable` with at least `n + D` rows, predicted for this frame.
        n: T, live tracks.
        match: `(T,)` column of each track's detection, or −1.
        boxes, scores, classes, visibility: the D detections; boxes as centre x, centre y, width, height.
        frames: frames since the one before.
        opening: this is the first frame, whose tracks need no confirmation.
        next_id: first free id.
        p: parameters.
        assigned: `(D,)` out: id of each detection's track, or −1.
        row_of: `(D,)` out: its row in the table afterwards, or −1.
        reported: `(D,)` out: whether the track is returned on this frame.
        source: `(n + D,)` out: the row that each row of the table came from; −1 for a new track.

    Returns:
        T afterwards, the next free id, how many lost tracks were found again, and how many tracks were matched on
        this frame and the one before, with the sum of their changes of height as absolute logarithms.
    """
    assigned[:] = -1
    row_of[:] = -1
    reported[:] = False
    reactivated = 0
    kept = 0
    continued = 0
    changes = 0.0
    for row in range(n):
        d = match[row]
        counts[row, AGE] += frames
        if d >= 0:
            was_lost, change = update_matched(
                motion, matched, recent, counts, values, votes, row,
                boxes[d], scores[d], classes[d], visibility[d], frames, p,
            )  # fmt: skip
            reactivated += was_lost
            if change >= 0.0:
                continued += 1
                changes += change
            assigned[d] = counts[row, ID]
            row_of[d] = kept
            streak_needed = min(p.streak_to_show, float(counts[row, HITS]))
            reported[d] = counts[row, CONFIRMED] == 1 and counts[row, STREAK] >= streak_needed
        else:
            counts[row, GAP] += frames
            counts[row, STREAK] = 0
            if counts[row, CONFIRMED] == 0 or values[row, SINCE] > p.lost_steps:
                continue
        if kept != row:
            copy_matrix(motion[kept], motion[row])
            copy_matrix(matched[kept], matched[row])
            copy_matrix(recent[kept], recent[row])
            copy_vector(counts[kept], counts[row])
            copy_vector(values[kept], values[row])
            copy_matrix(votes[kept], votes[row])
        source[kept] = row
        kept += 1
    kept, next_id = begin_tracks(
        motion, matched, recent, counts, values, votes, kept, boxes, scores, classes, visibility, opening, next_id, p,
        assigned, row_of, reported, source,
    )  # fmt: skip
    return kept, next_id, reactivated, continued, changes
