"""Which detections take part, and the cost of every pair of track and detection."""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import centred_iou
from trackweave.compiled import inner, njit
from trackweave.errors import InputError
from trackweave.mot.adaptive_thresholds import Stream, adapt
from trackweave.mot.assignment import HIGH_ROUND, LOW_ROUND, TENTATIVE_ROUND, Costs, Flags, Pairs
from trackweave.mot.kalman import Row, predict
from trackweave.mot.state import (
    AXES,
    BOXES,
    CLASS,
    CONFIRMED,
    DET_CLASS,
    DET_ROW,
    DET_SCORE,
    DET_VISIBILITY,
    GAP,
    POSITION,
    RECENT,
    SEEN,
    SINCE,
    VAR_POSITION,
    ParameterArray,
    Parameters,
    Rows,
)
from trackweave.structures.detections import Detections

iou = inner(centred_iou)


@inner
def turning(track: Row, x: float, y: float) -> float:
    """How far a move to (x, y) turns from the direction of travel: −0.5 straight on, 0.5 back; 0 without one."""
    oldest = BOXES + AXES * (min(int(track[SEEN]), RECENT) - 1)
    if oldest <= BOXES:
        return 0.0
    ax, ay = track[BOXES] - track[oldest], track[BOXES + 1] - track[oldest + 1]
    bx, by = x - track[BOXES], y - track[BOXES + 1]
    lengths = math.sqrt(ax * ax + ay * ay) * math.sqrt(bx * bx + by * by)
    if lengths < 1e-9:
        return 0.0
    return math.acos(min(1.0, max(-1.0, (ax * bx + ay * by) / lengths))) / math.pi - 0.5


LEAST_SIMILARITY = 1e-3
"""Of centres: what is farther apart is never compared."""


@inner
def distance_reach(p: Parameters) -> float:
    """Box sizes within which centres alone, without any overlap, pass the widest gate; 0: they never do."""
    gate = max(LEAST_SIMILARITY, min(p.min_similarity, p.min_similarity_low, p.min_similarity_tentative))
    if p.overlap_gate == 1.0 or p.distance_share <= gate:
        return 0.0
    return p.distance_scale * math.sqrt(2.0 * math.log(p.distance_share / gate))


CLASS_CHANGE = 0.1
"""What a pair whose classes differ loses of its similarity, so that one of equal classes goes before it."""
SAME_SHAPE, SAME_SHAPE_LOST = 0.6, 0.75
"""IoU of a track's box and a detection laid on one centre from which they may be one object under two classes; of a
lost track. A detector that changes its mind leaves the box as it was; a car that hides a walker does not."""


@inner
def changes_class(before: float, after: float) -> bool:
    """Whether two classes differ; −1 is no class."""
    return before != after and before >= 0 and after >= 0


@njit
def compare(
    tracks: Rows,
    detections: Rows,
    dt: float,
    parameters: ParameterArray,
    stream: Stream,
    cost: Costs,
    allowed: Flags,
    pairs: Pairs,
) -> tuple[int, bool]:
    """Adapts the parameters to the stream, moves every track on to this frame, and compares it with the detections.

    Args:
        tracks, detections: T and D rows.
        dt: steps since the frame before.
        parameters: one record.
        stream: what is known of the stream, see `adaptive_thresholds`.
        cost, allowed, pairs: as for `pair_costs`.

    Returns:
        How many pairs are allowed, and whether a track may be far from where it is predicted.
    """
    p = parameters[0]
    adapt(p, stream, detections)
    any_unsure = predict(tracks, dt, p)
    return pair_costs(tracks, detections, p, cost, allowed, pairs), any_unsure


@inner
def pair_costs(tracks: Rows, detections: Rows, p: Parameters, cost: Costs, allowed: Flags, pairs: Pairs) -> int:
    """Fills `cost` and `allowed`, both `(T, D)`, and lists the allowed pairs in `pairs` `(3, T · D)`; returns how many
    there are.

    The similarity is the IoU of the widened boxes (C-BIoU: Yang et al., WACV 2023), times the ratio of heights to a
    power (Hybrid-SORT: Yang et al., AAAI 2024), mixed with a Gaussian of the centre distance. The cost is one minus
    it, in units of the pair's own gate: 1 is the price of leaving both without a partner, so `allowed` pairs cost at
    most 1 (more only where a low score or a turn speaks against them), and one assignment may hold pairs of different
    gates.
    """
    widest, tallest, found = 0.0, 0.0, 0
    for d in range(len(detections)):
        widest, tallest = max(widest, detections[d, 2]), max(tallest, detections[d, 3])
    low_price = np.float32(1.0 / (1.0 - p.min_similarity_low))
    longest = distance_reach(p)
    for row in range(len(tracks)):
        track, costs, passes = tracks[row], cost[row], allowed[row]
        x, y, w, h = track[POSITION], track[POSITION + 1], track[POSITION + 2], track[POSITION + 3]
        widen = 1.0 + 2.0 * min(p.buffer_limit, p.buffer + p.buffer_growth * track[SINCE])
        compared_height = track[BOXES + 3] if p.observed_height == 1.0 else h
        w1, h1 = w * widen, h * widen
        confirmed, lost = track[CONFIRMED] == 1.0, track[GAP] > 0.0
        power = p.lost_height_power if lost else p.height_power
        same_shape = SAME_SHAPE_LOST if lost else SAME_SHAPE
        first = confirmed or p.tentative_first == 1.0
        high_gate = p.min_similarity if first else p.min_similarity_tentative
        takes_low = p.low_scores == 1.0 and first and not (lost and p.low_scores_reactivate == 0.0)
        high_price, high_round = np.float32(1.0 / (1.0 - high_gate)), HIGH_ROUND if first else TENTATIVE_ROUND
        apart = longest * math.sqrt(w * h)
        reach, reach_down = max(apart, 0.5 * (w1 + widest * widen)), max(apart, 0.5 * (h1 + tallest * widen))
        noise = p.measurement_noise * h
        for d in range(len(detections)):
            # Most pairs end here; a row, which counts its references, is taken of the others only.
            score = detections[d, DET_SCORE]
            high = score >= p.high_score
            costs[d] = high_price if high else low_price
            passes[d] = False
            dx, dy = detections[d, 0] - x, detections[d, 1] - y
            if abs(dx) > reach or abs(dy) > reach_down:
                continue
            box = detections[d]
            gate = high_gate if high else p.min_similarity_low
            similarity = iou(dx, dy, w1, h1, box[2] * widen, box[3] * widen)
            far = dx * dx + dy * dy
            if similarity <= 0.0 and far >= apart * apart:
                continue
            height_ratio = 1.0
            if p.height_power > 0.0:
                height_ratio = (min(compared_height, box[3]) / max(compared_height, box[3])) ** power
                similarity *= height_ratio
            if p.distance_share > 0.0:
                scaled = far / (p.distance_scale * p.distance_scale * w * h)
                similarity += p.distance_share * (math.exp(-0.5 * scaled) * height_ratio - similarity)
            weighted = similarity * (1.0 - p.score_weight * (1.0 - score))
            if p.direction_weight > 0.0:
                weighted -= p.direction_weight * turning(track, box[0], box[1]) * score
            if p.class_votes == 1.0 and changes_class(track[CLASS], box[DET_CLASS]):
                weighted -= CLASS_CHANGE
                is_alike = iou(0.0, 0.0, w, h, box[2], box[3]) >= same_shape
                similarity = min(similarity, weighted) if is_alike else -1.0
            costs[d] = (1.0 - weighted) / (1.0 - gate)
            if similarity < gate or not (high or takes_low):
                continue
            if p.separate_classes == 1.0 and box[DET_CLASS] != track[CLASS]:
                continue
            if far > p.max_distance * p.max_distance * w * h:
                continue
            across, down = track[VAR_POSITION] + noise * noise, track[VAR_POSITION + 1] + noise * noise
            if dx * dx / across + dy * dy / down > p.max_mahalanobis:
                continue
            passes[d] = True
            pairs[0, found], pairs[1, found] = row, d
            pairs[2, found] = HIGH_ROUND if p.one_round == 1.0 else high_round if high else LOW_ROUND
            found += 1
    return found


@njit
def displacement(tracks: Rows, detections: Rows, moved: NDArray[np.float32]) -> None:
    """Writes to `moved` `(D, 2)` how far each detection lies from the last place of the track that overlaps it best;
    0 where none does."""
    for d in range(len(detections)):
        box, move, most = detections[d], moved[d], 0.0
        move[0] = move[1] = 0.0
        for row in range(len(tracks)):
            track = tracks[row]
            dx, dy = box[0] - track[POSITION], box[1] - track[POSITION + 1]
            overlap = iou(dx, dy, track[POSITION + 2], track[POSITION + 3], box[2], box[3])
            if overlap > most:
                most = overlap
                move[0], move[1] = box[0] - track[BOXES], box[1] - track[BOXES + 1]


class Fault(StrEnum):
    """Why a detection is left out."""

    not_finite = "a coordinate or the score is not a finite number"
    inverted = "its right or bottom lies before its left or top"
    zero_size = "it has no area"
    outside = "it lies outside the image"
    duplicate = "it repeats another one"


FAULTS = (None, *Fault)


@njit
def validate_detections(
    xyxy: NDArray[np.float32],
    score: NDArray[np.float32],
    class_id: NDArray[np.int64],
    threshold: float,
    height: float,
    width: float,
    detections: Rows,
    status: NDArray[np.int64],
) -> tuple[int, int, bool]:
    """Picks the detections that take part.

    Args:
        xyxy, score, class_id: N detections.
        threshold: of the score.
        height, width: of the image; infinite where not known.
        detections: at least N rows, out: box, score and class of those that take part, their rows in `xyxy`, and
            visibility 1.
        status: at least N, out: of all: 0 takes part, −1 below the threshold, else the number of the fault in `FAULTS`.

    Returns:
        How many take part, the number of faults, and whether classes differ.
    """
    kept, faults, is_mixed = 0, 0, False
    for d in range(len(xyxy)):
        x1, y1, x2, y2 = xyxy[d, 0], xyxy[d, 1], xyxy[d, 2], xyxy[d, 3]
        status[d] = 0
        if not abs(np.float64(x1) + y1 + x2 + y2 + score[d]) < math.inf:  # one of them is not finite
            status[d] = 1
        elif x2 < x1 or y2 < y1:
            status[d] = 2
        elif x2 == x1 or y2 == y1:
            status[d] = 3
        elif x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
            status[d] = 4
        elif score[d] < threshold:
            status[d] = -1
            continue
        if status[d] > 0:
            faults += 1
            continue
        own = detections[kept]
        own[0], own[1] = 0.5 * (np.float64(x1) + x2), 0.5 * (np.float64(y1) + y2)
        own[2], own[3] = np.float64(x2) - x1, np.float64(y2) - y1
        own[DET_SCORE], own[DET_CLASS], own[DET_VISIBILITY], own[DET_ROW] = score[d], class_id[d], 1.0, d
        x, y = own[0], own[1]
        for k in range(kept):
            if detections[k, 0] != x or detections[k, 1] != y:
                continue
            other = detections[k]
            if own[2] == other[2] and own[3] == other[3] and own[DET_CLASS] == other[DET_CLASS]:
                status[d] = 5
                faults += 1
                break
        if status[d] == 0:
            is_mixed |= own[DET_CLASS] != detections[0, DET_CLASS]
            kept += 1
    return kept, faults, is_mixed


SAME_BOX = 0.8
"""IoU above which two boxes of different classes are one object that the detector reported twice."""
SECOND_CLASS = "it is the box of a better one under another class"


def best_of_classes(detections: Rows) -> NDArray[np.bool_]:
    """`(D,)` which detections stay when one object is reported once, under its best class.

    Non-maximum suppression between classes alone (class-agnostic NMS), for detectors whose own knows each class by
    itself: of boxes of different classes that overlap by more than `SAME_BOX` the one of the highest score stays, of
    equal scores the first.
    """
    stays = np.ones(len(detections), np.bool_)
    _suppress_other_classes(detections, np.argsort(-detections[:, DET_SCORE], kind="stable"), stays)
    return stays


@njit
def _suppress_other_classes(detections: Rows, order: NDArray[np.int64], stays: NDArray[np.bool_]) -> None:
    # Sorting stays with NumPy: numba's own takes seconds to compile.
    for k in range(len(order)):
        best = detections[order[k]]
        if not stays[order[k]]:
            continue
        for j in range(k + 1, len(order)):
            e = order[j]
            if detections[e, DET_CLASS] != best[DET_CLASS]:
                dx, dy = detections[e, 0] - best[0], detections[e, 1] - best[1]
                if iou(dx, dy, detections[e, 2], detections[e, 3], best[2], best[3]) > SAME_BOX:
                    stays[e] = False


def fault_error(frame: int, detections: Detections, status: NDArray[np.int64]) -> InputError:
    """The error that names a frame's first fault."""
    row = int(np.flatnonzero(status > 0)[0])
    box = ", ".join(f"{value:g}" for value in detections.xyxy[row])
    reason = FAULTS[int(status[row])]
    return InputError(
        f"frame {frame}, detection {row} ({box}; score {detections.score[row]:g}): {reason} "
        f"(on_bad_item='skip' leaves such detections out)"
    )
