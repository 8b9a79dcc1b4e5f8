"""How likely a link of a track is wrong, from boxes alone: of any tracker's tracks, and of masks by their boxes.

A link joins two observations that follow each other in one track. What speaks against it: exchanging it with the link
of another track would fit as well, the boxes overlap others, the box lies far from where it was expected, time has
passed. A logistic regression weighs these; `benchmarks/questions.py --fit` fits its weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import inner, njit
from trackweave.structures.tracks import Tracks

VELOCITY_LINKS, VELOCITY_FRAMES = 5, 10
"""The velocity of a track is that over its last links, of at most so many frames each."""
MOST_STEPS, MOST_GAP = 15, 30
"""A track is moved on by at most so many frames; more frames without it make it no less certain."""
DISTANCE, HEIGHT, WIDTH = 0.06, 0.08, 0.3
"""By how much boxes usually differ from frame to frame: centres in heights, heights and widths as logarithms."""
MOST_COST = 50.0
LEAPING = 10.0
"""Links that cost more may be exchanged with far ones: they are compared with all of their frame."""
ROWS_AT_ONCE = 65_536
"""Observations that are compared together, or those of one frame."""
# Columns of what an observation is compared by: its centre, the logarithms of its height and width, its height; the
# same of the one before it in its track, where it is expected; the cost of a distance of one height, and of a height
# that is e times the other; the cost of the link itself, infinite where there is none.
X, Y, LOG_HEIGHT, LOG_WIDTH, HEIGHT_HERE, X_EXPECTED, Y_EXPECTED, LOG_HEIGHT_BEFORE, LOG_WIDTH_BEFORE = range(9)
HEIGHT_BEFORE, FOR_DISTANCE, FOR_HEIGHT, OWN = range(9, 13)


class _LinkColumn(IntEnum):
    """Columns of what is measured of a link, `(N, 10)`; 0 where an observation has no link into it.

    Attributes:
        EXCHANGE: cost of the best exchange with another link of the frame, over that of both links as they are.
        OWN: cost of the link.
        OVERLAP: largest IoU with another observation of the frame.
        RIVAL: cost of the best other observation, over that of the link.
        OVERLAP_BEFORE: as `OVERLAP`, of the observations that the links of the frame come from.
        GAP: logarithm of the frames since the observation before.
        SCORE, SCORE_BEFORE: of the observation, and of the one before.
        DISTANCE: between the centre and where it was expected, in heights.
        HEIGHT: change of the height, the absolute logarithm of the ratio.
    """

    EXCHANGE = 0
    OWN = 1
    OVERLAP = 2
    RIVAL = 3
    OVERLAP_BEFORE = 4
    GAP = 5
    SCORE = 6
    SCORE_BEFORE = 7
    DISTANCE = 8
    HEIGHT = 9


FEATURES = (
    "exchange", "own", "overlap", "rival", "overlap before", "gap", "score", "score before", "distance", "height",
    "overlap × exchange", "exchange²", "overlap × gap",
)  # fmt: skip
"""Columns of `link_features`."""
WEIGHTS: tuple[float, ...] = (
    -1.34, -0.265, 0.924, 2.123, -0.184, 0.997, 0.729, -0.549, -1.447, 0.405, -2.176, -1.005, -0.026, -0.932,
)  # fmt: skip
"""Of the constant and of each feature."""


@dataclass(frozen=True, eq=False)
class Links:
    """The link into each of N observations, ordered by frame, then track.

    Attributes:
        previous: `(N,)` int64, row of the observation before in the same track; −1 for a track's first.
        doubt: `(N,)` float64, probability that the link joins two objects; 0 where there is none.
        partner: `(N,)` int64, row on the same frame with which it would be exchanged; −1 = none.
        overlap: `(N,)` float64, largest IoU with another observation of the frame.
    """

    previous: NDArray[np.int64]
    doubt: NDArray[np.float64]
    partner: NDArray[np.int64]
    overlap: NDArray[np.float64]


def link_doubt(tracks: Tracks) -> Links:
    """The links of tracks and how doubtful each is.

    Args:
        tracks: of one level; boxes of one track in the order of frames.
    """
    previous = previous_rows(tracks)
    features, partner = link_features(tracks, previous)
    constant, *factors = WEIGHTS
    doubt = np.zeros(len(tracks))
    linked = previous >= 0
    doubt[linked] = 1 / (1 + np.exp(-np.clip(constant + features[linked] @ np.array(factors), -30, 30)))
    return Links(previous, np.minimum(doubt, 0.5), partner, features[:, FEATURES.index("overlap")])


def previous_rows(tracks: Tracks) -> NDArray[np.int64]:
    """`(N,)` row of the observation before in the same track, or −1."""
    order = np.lexsort((tracks.frame, tracks.track_id))
    previous = np.full(len(tracks), -1, np.int64)
    same = tracks.track_id[order[1:]] == tracks.track_id[order[:-1]]
    previous[order[1:][same]] = order[:-1][same]
    return previous


def link_features(tracks: Tracks, previous: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`(N, F)` what speaks for and against each link, zeros but for the overlap where there is none; and `partner`."""
    n = len(tracks)
    boxes = tracks.xyxy.astype(np.float64)
    state = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)], axis=1)
    velocity = _velocity(tracks.frame, state, previous)
    raw, partner = np.zeros((n, len(_LinkColumn))), np.full(n, -1, np.int64)
    for rows in _batches(tracks.frame):
        raw[rows, _LinkColumn.OVERLAP] = _largest_overlap(tracks.frame[rows], boxes[rows])
        linked = rows[previous[rows] >= 0]
        raw[linked, _LinkColumn.OVERLAP_BEFORE] = _largest_overlap(tracks.frame[linked], boxes[previous[linked]])
        compared, raw[linked, _LinkColumn.DISTANCE] = _columns(tracks.frame, state, velocity, rows, previous)
        order = np.lexsort((compared[:, X], _leaps(compared), tracks.frame[rows]))
        best, other = np.full((len(rows), 2), MOST_COST), np.full(len(rows), -1, np.int64)
        starts = np.append(_starts(tracks.frame[rows]), len(rows))
        middles = starts[1:] - np.add.reduceat(_leaps(compared).astype(np.int64), starts[:-1])
        _compare(starts, middles, rows[order], compared[order], best, other)
        is_linked = previous[rows[order]] >= 0
        sorted_rows = rows[order][is_linked]
        raw[sorted_rows, _LinkColumn.EXCHANGE], raw[sorted_rows, _LinkColumn.RIVAL] = best[is_linked].T
        raw[sorted_rows, _LinkColumn.OWN] = compared[order, OWN][is_linked]
        partner[sorted_rows] = other[is_linked]
    linked = np.flatnonzero(previous >= 0)
    before = previous[linked]
    raw[linked, _LinkColumn.GAP] = np.log(tracks.frame[linked] - tracks.frame[before])
    raw[linked, _LinkColumn.SCORE], raw[linked, _LinkColumn.SCORE_BEFORE] = tracks.score[linked], tracks.score[before]
    raw[linked, _LinkColumn.HEIGHT] = np.abs(np.log(state[before, 3] / state[linked, 3]))
    return _scaled(raw), partner


def _starts(frame: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows at which each frame starts in a column of ascending frames, `(F,)`."""
    return np.flatnonzero(np.diff(frame, prepend=-1)) if len(frame) else np.zeros(0, np.int64)


def _batches(frame: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows of whole frames, about `ROWS_AT_ONCE`."""
    starts = np.append(_starts(frame), len(frame))
    first = 0
    while first < len(starts) - 1:
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + ROWS_AT_ONCE, "right")) - 1)
        yield np.arange(starts[first], starts[last])
        first = last


def _scaled(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(N, F)` the columns of `FEATURES`: costs by their order of magnitude, and products of columns."""
    measures = (_LinkColumn.EXCHANGE, _LinkColumn.RIVAL)
    exchange, rival = (np.sign(raw[:, k]) * np.log1p(np.abs(raw[:, k])) for k in measures)
    overlap, gap = raw[:, _LinkColumn.OVERLAP], raw[:, _LinkColumn.GAP]
    return np.stack(
        [
            exchange,
            np.log1p(raw[:, _LinkColumn.OWN]),
            overlap,
            rival,
            raw[:, _LinkColumn.OVERLAP_BEFORE],
            gap,
            raw[:, _LinkColumn.SCORE],
            raw[:, _LinkColumn.SCORE_BEFORE],
            np.log(raw[:, _LinkColumn.DISTANCE] + 0.003),
            raw[:, _LinkColumn.HEIGHT],
            overlap * exchange,
            exchange**2,
            overlap * gap,
        ],
        axis=1,
    )


def _velocity(frame: NDArray[np.int64], state: NDArray[np.float64], previous: NDArray[np.int64]) -> NDArray[np.float64]:
    """`(N, 2)` pixels per frame of each observation's centre, over the last links of its track."""
    rows = np.arange(len(frame))
    back = rows.copy()
    for _ in range(VELOCITY_LINKS):
        before = previous[back]
        back = np.where((before >= 0) & (frame - frame[before] <= VELOCITY_FRAMES), before, back)
    elapsed = frame - frame[back]
    return np.asarray((state[rows, :2] - state[back, :2]) / np.maximum(elapsed, 1)[:, None], np.float64)


def _columns(
    frame: NDArray[np.int64],
    state: NDArray[np.float64],
    velocity: NDArray[np.float64],
    rows: NDArray[np.int64],
    previous: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(R, 13)` what observations are compared by; and of those with a link the distance to where it was expected, in
    heights."""
    columns = np.zeros((len(rows), OWN + 1))
    columns[:, [X, Y, HEIGHT_HERE]] = state[rows][:, [0, 1, 3]]
    columns[:, [LOG_HEIGHT, LOG_WIDTH]] = np.log(state[rows][:, [3, 2]])
    columns[:, OWN] = np.inf
    linked = np.flatnonzero(previous[rows] >= 0)
    before = previous[rows[linked]]
    gap = frame[rows[linked]] - frame[before]
    expected = state[before, :2] + velocity[before] * np.minimum(gap, MOST_STEPS)[:, None]
    spread = np.sqrt(np.minimum(gap, MOST_GAP))
    columns[linked, X_EXPECTED], columns[linked, Y_EXPECTED] = expected.T
    columns[linked, LOG_HEIGHT_BEFORE], columns[linked, LOG_WIDTH_BEFORE] = np.log(state[before][:, [3, 2]]).T
    columns[linked, HEIGHT_BEFORE] = state[before, 3]
    columns[linked, FOR_DISTANCE], columns[linked, FOR_HEIGHT] = DISTANCE * spread, HEIGHT * np.sqrt(spread)
    there = columns[linked]
    across, down = there[:, X_EXPECTED] - there[:, X], there[:, Y_EXPECTED] - there[:, Y]
    distance = np.sqrt(across * across + down * down) / np.sqrt(there[:, HEIGHT_BEFORE] * there[:, HEIGHT_HERE])
    height = np.abs(there[:, LOG_HEIGHT_BEFORE] - there[:, LOG_HEIGHT])
    width = np.abs(there[:, LOG_WIDTH_BEFORE] - there[:, LOG_WIDTH])
    columns[linked, OWN] = distance / there[:, FOR_DISTANCE] + height / there[:, FOR_HEIGHT] + width / WIDTH
    return columns, distance


def _leaps(columns: NDArray[np.float64]) -> NDArray[np.bool_]:
    """`(R,)` which links cost so much that an exchange with a far one may be cheaper."""
    return (columns[:, OWN] > LEAPING) & (columns[:, OWN] < np.inf)


@inner
def _cost(columns: NDArray[np.float64], one: int, other: int) -> float:
    """What it costs to link the observation before `one` with `other`."""
    across = columns[one, X_EXPECTED] - columns[other, X]
    down = columns[one, Y_EXPECTED] - columns[other, Y]
    distance = math.sqrt(across * across + down * down)
    distance /= math.sqrt(columns[one, HEIGHT_BEFORE] * columns[other, HEIGHT_HERE])
    height = abs(columns[one, LOG_HEIGHT_BEFORE] - columns[other, LOG_HEIGHT])
    width = abs(columns[one, LOG_WIDTH_BEFORE] - columns[other, LOG_WIDTH])
    return float(distance / columns[one, FOR_DISTANCE] + height / columns[one, FOR_HEIGHT] + width / WIDTH)


@njit
def _compare(
    starts: NDArray[np.int64],
    middles: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.float64],
    best: NDArray[np.float64],
    partner: NDArray[np.int64],
) -> None:
    """Compares each link with those into the other observations of its frame, from its expected place outwards, until
    what is farther can be no better: the result is that of all pairs.

    Args:
        starts: `(F + 1,)` where each frame starts.
        middles: `(F,)` where its links that leap start, which are compared with all.
        rows: `(R,)` rows of the tracks; of a frame those that do not leap are ordered by X, then come the others.
        columns: `(R, 13)`.
        best: `(R, 2)` cost of the best exchange over that of both links, and of the best other observation over that of
            the link, both at most `MOST_COST`, which they are before.
        partner: `(R,)` row with which the best exchange would be, of equal ones the first; −1 before.
    """
    for f in range(len(middles)):
        low, middle, high = starts[f], middles[f], starts[f + 1]
        tallest = 1e-3
        for k in range(low, middle):
            tallest = max(tallest, columns[k, HEIGHT_HERE])
        for one in range(low, high):
            own, x = columns[one, OWN], columns[one, X_EXPECTED]
            if own == math.inf:
                continue
            per_pixel = (1.0 - 1e-9) / (math.sqrt(columns[one, HEIGHT_BEFORE] * tallest) * columns[one, FOR_DISTANCE])
            left, right = low, middle
            while left < right:
                half = (left + right) // 2
                if columns[half, X] < x:
                    left = half + 1
                else:
                    right = half
            left -= 1
            leaping = middle
            exchange, rival = math.inf, own + MOST_COST
            while True:
                if leaping < high:  # first, as they may be anywhere
                    other, leaping = leaping, leaping + 1
                elif left >= low and (right == middle or x - columns[left, X] <= columns[right, X] - x):
                    other, left = left, left - 1
                elif right < middle:
                    other, right = right, right + 1
                else:
                    break
                if other < middle:
                    least = abs(columns[other, X] - x) * per_pixel
                    if least > rival and least - own - LEAPING > exchange:
                        break
                if other == one:
                    continue
                cost = _cost(columns, one, other)
                rival = min(rival, cost)
                its_own = columns[other, OWN]
                if its_own < math.inf:
                    both = cost + _cost(columns, other, one) - own - its_own
                    if both < exchange or (both == exchange and rows[other] < partner[one]):
                        exchange = both
                        partner[one] = rows[other]
            best[one, 0], best[one, 1] = min(exchange, MOST_COST), min(rival - own, MOST_COST)


def _largest_overlap(frame: NDArray[np.int64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(R,)` largest IoU of each of the boxes `(R, 4)` with another one of its frame."""
    order = np.lexsort((boxes[:, 0], frame))
    found = np.zeros(len(boxes))
    _overlaps(frame[order], boxes[order], found)
    largest = np.empty(len(boxes))
    largest[order] = found
    return largest


@njit
def _overlaps(frame: NDArray[np.int64], boxes: NDArray[np.float64], largest: NDArray[np.float64]) -> None:
    """Writes the largest IoU of each box with another one of its frame to `largest`, zeros before; boxes are ordered by
    frame, then x1."""
    for one in range(len(boxes)):
        x1, y1, x2, y2 = boxes[one]
        area = max(x2 - x1, 0.0) * max(y2 - y1, 0.0)
        for other in range(one + 1, len(boxes)):
            if boxes[other, 0] >= x2 or frame[other] != frame[one]:
                break
            across = min(x2, boxes[other, 2]) - max(x1, boxes[other, 0])
            down = min(y2, boxes[other, 3]) - max(y1, boxes[other, 1])
            if across > 0.0 and down > 0.0:
                shared = across * down
                whole = area + (boxes[other, 2] - boxes[other, 0]) * (boxes[other, 3] - boxes[other, 1]) - shared
                iou = shared / whole
                largest[one], largest[other] = max(largest[one], iou), max(largest[other], iou)
