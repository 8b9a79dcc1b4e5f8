"""How likely a link of a track is wrong, from boxes alone: of any tracker's tracks, and of masks by their boxes.

A link joins two observations that follow each other in one track. What speaks against it: exchanging it with the link
of another track would fit as well, the boxes overlap others, the box lies far from where it was expected, time has
passed. A logistic regression weighs these; `benchmarks/questions.py --fit` fits its weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.structures.tracks import Tracks

VELOCITY_LINKS, VELOCITY_FRAMES = 5, 10
"""The velocity of a track is that over its last links, of at most so many frames each."""
MOST_STEPS, MOST_GAP = 15, 30
"""A track is moved on by at most so many frames; more frames without it make it no less certain."""
DISTANCE, HEIGHT, WIDTH = 0.06, 0.08, 0.3
"""By how much boxes usually differ from frame to frame: centres in heights, heights and widths as logarithms."""
MOST_COST = 50.0
MOST_PAIRS = 50_000
"""Pairs of boxes that are looked at together."""
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


def link_doubt(tracks: Tracks, weights: tuple[float, ...] | None = None) -> Links:
    """The links of tracks and how doubtful each is.

    Args:
        tracks: of one level; boxes of one track in the order of frames.
        weights: other ones than `WEIGHTS`.
    """
    previous = previous_rows(tracks)
    features, partner = link_features(tracks, previous)
    constant, *factors = WEIGHTS if weights is None else weights
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
    raw, partner = np.zeros((n, 10)), np.full(n, -1, np.int64)
    for rows in _batches(tracks.frame):
        here = boxes[rows]
        raw[rows[rows >= 0], 2] = _largest_overlap(here, rows >= 0)[rows >= 0]
        before = np.where(rows >= 0, previous[rows], -1)
        is_linked = before >= 0
        linked = rows[is_linked]
        compared = _compare(tracks, state, velocity, rows, before)
        raw[linked, :2], raw[linked, 3], raw[linked, 8], partner[linked] = (part[is_linked] for part in compared)
        raw[linked, 4] = _largest_overlap(boxes[before], is_linked)[is_linked]
    linked = np.flatnonzero(previous >= 0)
    before = previous[linked]
    raw[linked, 5] = np.log(tracks.frame[linked] - tracks.frame[before])
    raw[linked, 6], raw[linked, 7] = tracks.score[linked], tracks.score[before]
    raw[linked, 9] = np.abs(np.log(state[before, 3] / state[linked, 3]))
    return _scaled(raw), partner


def _batches(frame: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """`(F, D)` rows of so many frames as fit into `MOST_PAIRS`, a line each; −1 behind the last of a frame."""
    starts = np.flatnonzero(np.diff(frame, prepend=-1)) if len(frame) else np.zeros(0, np.int64)
    counts = np.diff(np.r_[starts, len(frame)])
    first = 0
    while first < len(starts):
        most = np.maximum.accumulate(counts[first:])
        last = first + max(1, int(np.searchsorted(most**2 * np.arange(1, len(most) + 1), MOST_PAIRS, "right")))
        place = np.arange(int(counts[first:last].max()))
        inside = place < counts[first:last, None]
        yield np.where(inside, starts[first:last, None] + place, -1)
        first = last


def _scaled(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences of cost by their order of magnitude, and the products of `FEATURES`."""
    exchange, rival = (np.sign(raw[:, k]) * np.log1p(np.abs(raw[:, k])) for k in (0, 3))
    overlap, gap = raw[:, 2], raw[:, 5]
    return np.stack(
        [
            exchange, np.log1p(raw[:, 1]), overlap, rival, raw[:, 4], gap, raw[:, 6], raw[:, 7],
            np.log(raw[:, 8] + 0.003), raw[:, 9], overlap * exchange, exchange**2, overlap * gap,
        ],
        axis=1,
    )  # fmt: skip


def _velocity(frame: NDArray[np.int64], state: NDArray[np.float64], previous: NDArray[np.int64]) -> NDArray[np.float64]:
    """`(N, 2)` pixels per frame of each observation's centre, over the last links of its track."""
    rows = np.arange(len(frame))
    back = rows.copy()
    for _ in range(VELOCITY_LINKS):
        before = previous[back]
        back = np.where((before >= 0) & (frame - frame[before] <= VELOCITY_FRAMES), before, back)
    elapsed = frame - frame[back]
    return np.asarray((state[rows, :2] - state[back, :2]) / np.maximum(elapsed, 1)[:, None], np.float64)


def _compare(
    tracks: Tracks,
    state: NDArray[np.float64],
    velocity: NDArray[np.float64],
    rows: NDArray[np.int64],
    before: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The links into the D observations of each of F frames, `rows`, from those `before`, −1 = none.

    Returns:
        `(F, D, 2)` cost of the best exchange over that of the link, and that of the link; `(F, D)` the cost of the best
        other observation over that of the link; distance to where it was expected, in heights; `partner`.
    """
    is_linked = before >= 0
    gap = np.where(is_linked, tracks.frame[rows] - tracks.frame[before], 1)
    expected = state[before, :2] + velocity[before] * np.minimum(gap, MOST_STEPS)[..., None]
    heights = np.sqrt(state[before, 3][:, :, None] * state[rows, 3][:, None])
    distance = np.hypot(*(expected[:, :, None, k] - state[rows, k][:, None] for k in (0, 1))) / heights
    height, width = (np.abs(np.log(state[before, k][:, :, None] / state[rows, k][:, None])) for k in (3, 2))
    spread = np.sqrt(np.minimum(gap, MOST_GAP))[..., None]
    cost = distance / (DISTANCE * spread) + height / (HEIGHT * np.sqrt(spread)) + width / WIDTH
    itself = np.arange(rows.shape[1])
    own = cost[:, itself, itself]
    exchange = cost + cost.transpose(0, 2, 1) - own[:, :, None] - own[:, None]
    exchange[~(is_linked[:, :, None] & is_linked[:, None])] = np.inf
    exchange[:, itself, itself] = np.inf
    partner = np.take_along_axis(rows, exchange.argmin(axis=2), axis=1)
    partner[is_linked.sum(axis=1) < 2] = -1
    cost[np.broadcast_to(rows[:, None] < 0, cost.shape)] = np.inf
    cost[:, itself, itself] = np.inf
    best = np.stack([np.minimum(exchange.min(axis=2), MOST_COST), own], axis=2)
    rival = np.where(is_linked, np.minimum(cost.min(axis=2) - own, MOST_COST), MOST_COST)
    return best, rival, distance[:, itself, itself], partner


def _largest_overlap(boxes: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`(F, D)` of the boxes `(F, D, 4)` with any other that is there on the same frame."""
    low = np.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = np.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=3)
    areas = np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=2)
    union = areas[:, :, None] + areas[:, None] - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=(union > 0) & there[:, None])
    itself = np.arange(boxes.shape[1])
    iou[:, itself, itself] = 0
    return np.asarray(iou.max(axis=2), np.float64)
