"""Similarity and cost of every pair of track and detection, as one compiled kernel."""

from __future__ import annotations

import math

import numba
import numpy as np
from numba import boolean, float32, float64, int64, void
from numpy.typing import NDArray

from trackweave.mot.parameters import PARAMETERS, Parameters
from trackweave.mot.track_table import CLASS, CONFIRMED, GAP, POSITION, SEEN, SINCE, VAR_POSITION


@numba.njit(float64(float64[:, ::1], int64, float64, float64), cache=True, inline="always")
def turning(recent: NDArray[np.float64], seen: int, x: float, y: float) -> float:
    """How far a move to (x, y) turns from the direction of travel: −0.5 straight on, 0.5 back; 0 when unknown."""
    oldest = min(seen, recent.shape[0]) - 1
    if oldest < 1:
        return 0.0
    ax, ay = recent[0, 0] - recent[oldest, 0], recent[0, 1] - recent[oldest, 1]
    bx, by = x - recent[0, 0], y - recent[0, 1]
    lengths = math.sqrt(ax * ax + ay * ay) * math.sqrt(bx * bx + by * by)
    if lengths < 1e-9:
        return 0.0
    return math.acos(min(1.0, max(-1.0, (ax * bx + ay * by) / lengths))) / math.pi - 0.5


@numba.njit(
    void(
        float64[:, :, ::1],
        float64[:, :, ::1],
        int64[:, ::1],
        float64[:, ::1],
        int64,
        float64[:, ::1],
        float64[::1],
        int64[::1],
        PARAMETERS,
        float32[:, ::1],
        boolean[:, ::1],
    ),
    cache=True,
)
def pair_costs(
    motion: NDArray[np.float64],
    recent: NDArray[np.float64],
    counts: NDArray[np.int64],
    values: NDArray[np.float64],
    n: int,
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    classes: NDArray[np.int64],
    p: Parameters,
    cost: NDArray[np.float32],
    allowed: NDArray[np.bool_],
) -> None:
    """Fills `cost` and `allowed`, both `(n, D)`, for `boxes` `(D, 4)` centre x, centre y, width, height.

    The similarity is the IoU of the widened boxes (C-BIoU: Yang et al., WACV 2023), times the ratio of heights to a
    power (Hybrid-SORT: Yang et al., AAAI 2024), mixed with a Gaussian of the centre distance. The cost is one minus
    it, in units of the pair's own gate: 1 is the price of leaving both without a partner, so `allowed` pairs cost at
    most 1 (more only where a low score or a turn speaks against them), and one assignment may hold pairs of different
    gates.
    """
    # Boxes are visited in the order of their centres: those out of a track's reach are never looked at.
    order = np.argsort(boxes[:, 0])
    centres = boxes[order, 0]
    widest = boxes[:, 2].max()
    first_price, tentative_price, low_price = (
        np.float32(1.0 / (1.0 - p.min_similarity)),
        np.float32(1.0 / (1.0 - p.min_similarity_tentative)),
        np.float32(1.0 / (1.0 - p.min_similarity_low)),
    )
    for row in range(n):
        x, y = motion[row, 0, POSITION], motion[row, 1, POSITION]
        width, height = motion[row, 2, POSITION], motion[row, 3, POSITION]
        since = values[row, SINCE]
        widen = 1.0 + 2.0 * min(p.buffer_limit, p.buffer + p.buffer_growth * since)
        compared_height = recent[row, 0, 3] if p.observed_height == 1.0 else height
        w1, h1 = width * widen, height * widen
        vx, vy = motion[row, 0, VAR_POSITION], motion[row, 1, VAR_POSITION]
        confirmed, lost = counts[row, CONFIRMED] == 1, counts[row, GAP] > 0
        power = p.lost_height_power if lost else p.height_power
        first = confirmed or p.tentative_first == 1.0
        high_price = first_price if first else tentative_price
        allowed[row] = False
        for d in range(boxes.shape[0]):
            cost[row, d] = high_price if scores[d] >= p.high_score else low_price
        reach = 0.5 * (w1 + widest * widen)
        for k in range(np.searchsorted(centres, x - reach), len(order)):
            d = order[k]
            if boxes[d, 0] > x + reach:
                break
            high = scores[d] >= p.high_score
            gate = (p.min_similarity if first else p.min_similarity_tentative) if high else p.min_similarity_low
            w2, h2 = boxes[d, 2] * widen, boxes[d, 3] * widen
            dx, dy = boxes[d, 0] - x, boxes[d, 1] - y
            across = min(w1, w2, 0.5 * (w1 + w2) - abs(dx))
            if across <= 0.0:
                continue
            down = min(h1, h2, 0.5 * (h1 + h2) - abs(dy))
            if down <= 0.0:
                continue
            overlap = across * down
            similarity = overlap / (w1 * h1 + w2 * h2 - overlap)
            likeness = 1.0
            if p.height_power > 0.0:
                taller = max(compared_height, boxes[d, 3])
                likeness = (min(compared_height, boxes[d, 3]) / taller) ** power
                similarity *= likeness
            if p.distance_share > 0.0:
                far = (dx * dx + dy * dy) / (p.distance_scale * p.distance_scale * width * height)
                similarity += p.distance_share * (math.exp(-0.5 * far) * likeness - similarity)
            judged = similarity * (1.0 - p.score_weight * (1.0 - scores[d]))
            if p.direction_weight > 0.0:
                turn = turning(recent[row], counts[row, SEEN], boxes[d, 0], boxes[d, 1])
                judged -= p.direction_weight * turn * scores[d]
            cost[row, d] = (1.0 - judged) / (1.0 - gate)
            if similarity < gate or (p.separate_classes == 1.0 and classes[d] != counts[row, CLASS]):
                continue
            if not high and (not p.low_scores or (lost and not p.low_scores_reactivate)):
                continue
            if not high and not confirmed and not p.tentative_first:
                continue
            if dx * dx + dy * dy > p.max_distance * p.max_distance * width * height:
                continue
            noise = p.measurement_noise * height
            if dx * dx / (vx + noise * noise) + dy * dy / (vy + noise * noise) > p.max_mahalanobis:
                continue
            allowed[row, d] = True


@numba.njit(void(float64[:, :, ::1], float64[:, :, ::1], int64, float64[:, ::1], float32[:, ::1]), cache=True)
def displacement(
    motion: NDArray[np.float64],
    recent: NDArray[np.float64],
    n: int,
    boxes: NDArray[np.float64],
    moved: NDArray[np.float32],
) -> None:
    """Writes to `moved` `(D, 2)` how far each detection lies from the last place of the track that overlaps it best;
    0 where none does."""
    for d in range(len(boxes)):
        best, most = -1, 0.0
        for row in range(n):
            w, h = motion[row, 2, POSITION], motion[row, 3, POSITION]
            apart = abs(boxes[d, 0] - motion[row, 0, POSITION])
            across = min(w, boxes[d, 2], 0.5 * (w + boxes[d, 2]) - apart)
            down = min(h, boxes[d, 3], 0.5 * (h + boxes[d, 3]) - abs(boxes[d, 1] - motion[row, 1, POSITION]))
            if across > 0.0 and down > 0.0:
                shared = across * down
                overlap = shared / (w * h + boxes[d, 2] * boxes[d, 3] - shared)
                if overlap > most:
                    best, most = row, overlap
        for axis in range(2):
            moved[d, axis] = 0.0 if best < 0 else boxes[d, axis] - recent[best, 0, axis]
