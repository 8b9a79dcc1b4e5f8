"""The last round: what moved too far for every gate, because its velocity was not known.

A track of one box says nothing of where the next one will be; a small object that flies twenty pixels a frame then
shares no pixel with itself. Radar trackers initiate such tracks from two points: the second may lie anywhere within
what is possible at all, and the difference of both is the velocity (Bar-Shalom, Li, Kirubarajan: "Estimation with
Applications to Tracking and Navigation", 2001, 5.5.3). From the third box on the filter's own gate suffices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import centred_iou
from trackweave.compiled import njit
from trackweave.mot.kalman import forget_velocity, is_unsure
from trackweave.mot.matching import UNMATCHED_COST, assign, changes_class
from trackweave.mot.state import CLASS, POSITION, SEEN, SINCE, VELOCITY, Parameters, TrackTable

ALIKE = 0.6
"""IoU of two boxes laid on one centre from which they may be one object."""
PATIENCE = 3.0
"""Frames since its last box up to which a fast track takes part."""
JUDGED = 0.6
"""Box sizes within which a pair that the gates let through was judged by an earlier round, and stays refused."""
LARGEST_LEAP = 0.1
"""Share of the image's diagonal that nothing crosses between two frames."""
RIVAL = 2.0
"""A match is ambiguous when a partner that stays without one is not this many times farther away."""

_iou = njit(inline="always")(centred_iou)


@njit(inline="always")
def nearest_taken(x: float, y: float, boxes: NDArray[np.float64], match: NDArray[np.int64]) -> float:
    """Distance of a place to the nearest detection that has a track; infinite when none has."""
    nearest = np.inf
    for row in range(len(match)):
        if match[row] >= 0:
            dx, dy = boxes[match[row], 0] - x, boxes[match[row], 1] - y
            nearest = min(nearest, dx * dx + dy * dy)
    return math.sqrt(nearest)


@njit
def far_pairs(
    motion: NDArray[np.float64],
    recent: NDArray[np.float64],
    counts: NDArray[np.int64],
    values: NDArray[np.float64],
    boxes: NDArray[np.float64],
    classes: NDArray[np.int64],
    free: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    match: NDArray[np.int64],
    dt: float,
    longest: float,
    p: Parameters,
    pairs: NDArray[np.int64],
    cost: NDArray[np.float64],
) -> int:
    """Tracks and detections without a partner that may be one object; returns how many pairs there are.

    A track reaches `initiation_distance` box sizes on the frame after its first box; a fast one (`kalman.FAST`) reaches
    as far as it travels, for `PATIENCE` frames. Nothing reaches beyond a detection that an earlier round matched.

    Args:
        motion, recent, counts, values: of a `TrackTable`, predicted.
        boxes, classes: the D detections.
        free: columns of those that have no track and may begin one.
        allowed: `(T, D)` what the gates of the rounds before let through.
        match: `(T,)` their result.
        dt: steps since the frame before.
        longest: pixels that no track reaches beyond.
        p: parameters.
        pairs: `(T · free,)` out: row · D + column of each pair.
        cost: `(T · free,)` out: its squared distance in reaches, in [0, 1).
    """
    found = 0
    for row in range(len(match)):
        if match[row] >= 0 or not is_unsure(motion[row], counts[row], dt) or values[row, SINCE] > (PATIENCE + 0.5) * dt:
            continue
        x, y, width, height = motion[row, 0, POSITION], motion[row, 1, POSITION], recent[row, 0, 2], recent[row, 0, 3]
        size, is_young, nearest = math.sqrt(width * height), counts[row, SEEN] == 1, -1.0
        travel = math.hypot(motion[row, 0, VELOCITY], motion[row, 1, VELOCITY]) * values[row, SINCE]
        reach = min(longest, p.initiation_distance * size if is_young else travel)
        for d in free:
            distance = math.hypot(boxes[d, 0] - x, boxes[d, 1] - y)
            is_small = is_young and distance >= p.initiation_distance * math.sqrt(boxes[d, 2] * boxes[d, 3])
            if distance >= reach or is_small or (allowed[row, d] and distance < JUDGED * size):
                continue
            if p.separate_classes == 1.0 and changes_class(counts[row, CLASS], classes[d]):
                continue
            if _iou(0.0, 0.0, width, height, boxes[d, 2], boxes[d, 3]) < ALIKE:
                continue
            if nearest < 0.0:
                nearest = nearest_taken(x, y, boxes, match)
            if distance < nearest:
                pairs[found], cost[found] = row * len(boxes) + d, (distance / min(reach, nearest)) ** 2
                found += 1
    return found


def match_far(
    table: TrackTable,
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    classes: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    match: NDArray[np.int64],
    dt: float,
    size: tuple[int, int] | None,
    p: Parameters,
) -> None:
    """Adds to `match` `(T,)` the pairs of `far_pairs` that are beyond doubt; they give their tracks a velocity.

    Args:
        table, boxes … dt, p: as for `far_pairs`.
        size: `(H, W)` of the frame, or None.
    """
    taken = np.zeros(len(boxes), np.bool_)
    taken[match[match >= 0]] = True
    free = np.flatnonzero(~taken & (scores >= p.birth_score))
    if not len(free):
        return
    longest = np.inf if size is None else LARGEST_LEAP * math.hypot(*size)
    pairs, costs = np.empty(len(match) * len(free), np.int64), np.empty(len(match) * len(free))
    found = far_pairs(
        table.motion, table.recent, table.counts, table.values, boxes, classes, free, allowed, match, dt, longest, p,
        pairs, costs,
    )  # fmt: skip
    if not found:
        return
    cost = np.full(allowed.shape, UNMATCHED_COST, np.float32)
    cost.flat[pairs[:found]] = costs[:found]
    for row, column in beyond_doubt(cost):
        match[row] = column
        forget_velocity(table.motion[row], table.recent[row, 0], table.values[row, SINCE], p)


def beyond_doubt(cost: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Pairs of the cheapest assignment of a `(T, D)` cost, a squared distance, that no rival contests: no third one
    without a partner is less than `RIVAL` times as far from either side."""
    (n, width), partner = cost.shape, np.full(len(cost), -1)
    assign(cost, cost < UNMATCHED_COST, np.ones(n, np.bool_), np.ones(width, np.bool_), partner)
    alone, rest = partner < 0, np.ones(width, np.bool_)
    rest[partner[~alone]] = False
    for row in np.flatnonzero(~alone).tolist():
        column = int(partner[row])
        rival = min(cost[row].min(where=rest, initial=np.inf), cost[:, column].min(where=alone, initial=np.inf))
        if rival >= UNMATCHED_COST or rival >= RIVAL**2 * cost[row, column]:
            yield row, column
