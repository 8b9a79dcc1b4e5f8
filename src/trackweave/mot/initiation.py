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
from trackweave.compiled import inner, njit
from trackweave.mot.assignment import (
    HIGH_ROUND,
    MATCH,
    TAKEN,
    UNMATCHED_COST,
    Costs,
    Flags,
    Integers,
    Workspace,
    assign,
)
from trackweave.mot.kalman import forget_velocity, is_unsure
from trackweave.mot.matching import changes_class
from trackweave.mot.state import (
    BOXES,
    CLASS,
    DET_CLASS,
    DET_SCORE,
    POSITION,
    SEEN,
    SINCE,
    VELOCITY,
    ParameterArray,
    Rows,
)

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

iou = inner(centred_iou)


@inner
def nearest_taken(x: float, y: float, detections: Rows, match: Integers) -> float:
    """Distance of a place to the nearest detection that has a track; infinite when none has."""
    nearest = np.inf
    for row in range(len(match)):
        if match[row] >= 0:
            dx, dy = detections[match[row], 0] - x, detections[match[row], 1] - y
            nearest = min(nearest, dx * dx + dy * dy)
    return math.sqrt(nearest)


@njit
def far_pairs(
    tracks: Rows,
    detections: Rows,
    free: NDArray[np.int64],
    allowed: Flags,
    match: Integers,
    dt: float,
    longest: float,
    parameters: ParameterArray,
    cost: Costs,
) -> int:
    """Tracks and detections without a partner that may be one object; returns how many pairs there are.

    A track reaches `initiation_distance` box sizes on the frame after its first box; a fast one (`kalman.FAST`) reaches
    as far as it travels, for `PATIENCE` frames. Nothing reaches beyond a detection that an earlier round matched.

    Args:
        tracks, detections: T and D rows, predicted.
        free: columns of those that have no track and may begin one.
        allowed: `(T, D)` what the gates of the rounds before let through.
        match: `(T,)` their result.
        dt: steps since the frame before.
        longest: pixels that no track reaches beyond.
        parameters: one record.
        cost: `(T, D)` out: of those pairs, the squared distance in reaches, in [0, 1).
    """
    p, found = parameters[0], 0
    for row in range(len(match)):
        track = tracks[row]
        if match[row] >= 0 or not is_unsure(track, dt) or track[SINCE] > (PATIENCE + 0.5) * dt:
            continue
        x, y, width, height = track[POSITION], track[POSITION + 1], track[BOXES + 2], track[BOXES + 3]
        size, is_young, nearest = math.sqrt(width * height), track[SEEN] == 1.0, -1.0
        travel = math.hypot(track[VELOCITY], track[VELOCITY + 1]) * track[SINCE]
        reach = min(longest, p.initiation_distance * size if is_young else travel)
        for d in free:
            distance = math.hypot(detections[d, 0] - x, detections[d, 1] - y)
            if distance >= reach or (allowed[row, d] and distance < JUDGED * size):
                continue
            box = detections[d]
            if is_young and distance >= p.initiation_distance * math.sqrt(box[2] * box[3]):
                continue
            if p.separate_classes == 1.0 and changes_class(track[CLASS], box[DET_CLASS]):
                continue
            if iou(0.0, 0.0, width, height, box[2], box[3]) < ALIKE:
                continue
            if nearest < 0.0:
                nearest = nearest_taken(x, y, detections, match)
            if distance < nearest:
                cost[row, d] = (distance / min(reach, nearest)) ** 2
                found += 1
    return found


def match_far(
    tracks: Rows,
    detections: Rows,
    allowed: Flags,
    match: Integers,
    dt: float,
    size: tuple[int, int] | None,
    parameters: ParameterArray,
) -> None:
    """Adds to `match` `(T,)` the pairs of `far_pairs` that are beyond doubt; they give their tracks a velocity.

    Args:
        tracks … parameters: as for `far_pairs`.
        size: `(H, W)` of the frame, or None.
    """
    p = parameters[0]
    taken = np.zeros(len(detections), np.bool_)
    taken[match[match >= 0]] = True
    free = np.flatnonzero(~taken & (detections[:, DET_SCORE] >= p.birth_score))
    longest = np.inf if size is None else LARGEST_LEAP * math.hypot(*size)
    cost = np.full(allowed.shape, UNMATCHED_COST, np.float32)
    if far_pairs(tracks, detections, free, allowed, match, dt, longest, parameters, cost):
        for row, column in beyond_doubt(cost):
            match[row] = column
            forget_velocity(tracks[row], tracks[row, SINCE], p)


def beyond_doubt(cost: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Pairs of the cheapest assignment of a `(T, D)` cost, a squared distance, that no rival contests: no third one
    without a partner is less than `RIVAL` times as far from either side."""
    (n, width), work = cost.shape, Workspace()
    work.reserve(n, width)
    allowed = cost < UNMATCHED_COST
    pairs = np.array([*allowed.nonzero(), np.full(np.count_nonzero(allowed), HIGH_ROUND)], np.int32)
    work.integers[MATCH, :n], work.integers[TAKEN, :width] = -1, 0
    assign(n, cost, allowed, pairs, pairs.shape[1], HIGH_ROUND, work.integers, work.floats)
    partner = work.integers[MATCH, :n]
    alone, rest = partner < 0, np.ones(width, np.bool_)
    rest[partner[~alone]] = False
    for row in np.flatnonzero(~alone).tolist():
        column = int(partner[row])
        rival = min(cost[row].min(where=rest, initial=np.inf), cost[:, column].min(where=alone, initial=np.inf))
        if rival >= UNMATCHED_COST or rival >= RIVAL**2 * cost[row, column]:
            yield row, column
