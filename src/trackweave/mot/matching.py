"""Which detections take part, the cost of every pair of track and detection, and their one-to-one assignment."""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import centred_iou
from trackweave.compiled import njit
from trackweave.errors import InputError
from trackweave.mot.state import CLASS, CONFIRMED, GAP, POSITION, SEEN, SINCE, VAR_POSITION, Parameters
from trackweave.structures.detections import Detections

_iou = njit(inline="always")(centred_iou)


@njit(inline="always")
def turning(recent: NDArray[np.float64], count: int, x: float, y: float) -> float:
    """How far a move to (x, y) turns from the direction of travel: −0.5 straight on, 0.5 back; 0 without one."""
    oldest = min(count, recent.shape[0]) - 1
    if oldest < 1:
        return 0.0
    ax, ay = recent[0, 0] - recent[oldest, 0], recent[0, 1] - recent[oldest, 1]
    bx, by = x - recent[0, 0], y - recent[0, 1]
    lengths = math.sqrt(ax * ax + ay * ay) * math.sqrt(bx * bx + by * by)
    if lengths < 1e-9:
        return 0.0
    return math.acos(min(1.0, max(-1.0, (ax * bx + ay * by) / lengths))) / math.pi - 0.5


LEAST_SIMILARITY = 1e-3
"""Of centres: what is farther apart is never compared."""


@njit(inline="always")
def distance_reach(p: Parameters) -> float:
    """Box sizes within which centres alone, without any overlap, pass the widest gate; 0: they never do."""
    gate = min(p.min_similarity, p.min_similarity_low, p.min_similarity_tentative)
    if p.overlap_gate == 1.0 or p.distance_share <= gate:
        return 0.0
    return p.distance_scale * math.sqrt(2.0 * math.log(p.distance_share / max(gate, LEAST_SIMILARITY)))


CLASS_CHANGE = 0.1
"""What a pair whose classes differ loses of its similarity, so that one of equal classes goes before it."""
SAME_SHAPE, SAME_SHAPE_LOST = 0.6, 0.75
"""IoU of a track's box and a detection laid on one centre from which they may be one object under two classes; of a
lost track. A detector that changes its mind leaves the box as it was; a car that hides a walker does not."""


@njit(inline="always")
def changes_class(before: int, after: int) -> bool:
    """Whether two classes differ; −1 is no class."""
    return before != after and before >= 0 and after >= 0


@njit
def _first_from(boxes: NDArray[np.float64], order: NDArray[np.int64], x: float) -> int:
    """Place in `order` of the first box whose centre is not left of `x`; numba's own search takes long to compile."""
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if boxes[order[middle], 0] < x:
            low = middle + 1
        else:
            high = middle
    return low


@njit
def pair_costs(
    motion: NDArray[np.float64],
    recent: NDArray[np.float64],
    counts: NDArray[np.int64],
    values: NDArray[np.float64],
    n: int,
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    classes: NDArray[np.int64],
    order: NDArray[np.int64],
    p: Parameters,
    cost: NDArray[np.float32],
    allowed: NDArray[np.bool_],
) -> None:
    """Fills `cost` and `allowed`, both `(n, D)`, for `boxes` `(D, 4)` centre x, centre y, width, height.

    Boxes are visited in the `order` `(D,)` of their centre x: those out of a track's reach are never compared.

    The similarity is the IoU of the widened boxes (C-BIoU: Yang et al., WACV 2023), times the ratio of heights to a
    power (Hybrid-SORT: Yang et al., AAAI 2024), mixed with a Gaussian of the centre distance. The cost is one minus
    it, in units of the pair's own gate: 1 is the price of leaving both without a partner, so `allowed` pairs cost at
    most 1 (more only where a low score or a turn speaks against them), and one assignment may hold pairs of different
    gates.
    """
    widest = 0.0
    for d in range(boxes.shape[0]):
        widest = max(widest, boxes[d, 2])
    first_price, tentative_price, low_price = (
        np.float32(1.0 / (1.0 - p.min_similarity)),
        np.float32(1.0 / (1.0 - p.min_similarity_tentative)),
        np.float32(1.0 / (1.0 - p.min_similarity_low)),
    )
    longest = distance_reach(p)
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
        same_shape = SAME_SHAPE_LOST if lost else SAME_SHAPE
        first = confirmed or p.tentative_first == 1.0
        high_price = first_price if first else tentative_price
        allowed[row] = False
        for d in range(boxes.shape[0]):
            cost[row, d] = high_price if scores[d] >= p.high_score else low_price
        apart = longest * math.sqrt(width * height)
        reach = max(apart, 0.5 * (w1 + widest * widen))
        for k in range(_first_from(boxes, order, x - reach), len(order)):
            d = order[k]
            if boxes[d, 0] > x + reach:
                break
            high = scores[d] >= p.high_score
            gate = (p.min_similarity if first else p.min_similarity_tentative) if high else p.min_similarity_low
            w2, h2 = boxes[d, 2] * widen, boxes[d, 3] * widen
            dx, dy = boxes[d, 0] - x, boxes[d, 1] - y
            similarity = _iou(dx, dy, w1, h1, w2, h2)
            if similarity <= 0.0 and dx * dx + dy * dy >= apart * apart:
                continue
            height_ratio = 1.0
            if p.height_power > 0.0:
                taller = max(compared_height, boxes[d, 3])
                height_ratio = (min(compared_height, boxes[d, 3]) / taller) ** power
                similarity *= height_ratio
            if p.distance_share > 0.0:
                far = (dx * dx + dy * dy) / (p.distance_scale * p.distance_scale * width * height)
                similarity += p.distance_share * (math.exp(-0.5 * far) * height_ratio - similarity)
            weighted = similarity * (1.0 - p.score_weight * (1.0 - scores[d]))
            if p.direction_weight > 0.0:
                turn = turning(recent[row], counts[row, SEEN], boxes[d, 0], boxes[d, 1])
                weighted -= p.direction_weight * turn * scores[d]
            if p.class_votes == 1.0 and changes_class(counts[row, CLASS], classes[d]):
                weighted -= CLASS_CHANGE
                is_alike = _iou(0.0, 0.0, width, height, boxes[d, 2], boxes[d, 3]) >= same_shape
                similarity = min(similarity, weighted) if is_alike else -1.0
            cost[row, d] = (1.0 - weighted) / (1.0 - gate)
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


@njit
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
            dx, dy = boxes[d, 0] - motion[row, 0, POSITION], boxes[d, 1] - motion[row, 1, POSITION]
            w, h = motion[row, 2, POSITION], motion[row, 3, POSITION]
            iou = _iou(dx, dy, w, h, boxes[d, 2], boxes[d, 3])
            if iou > most:
                best, most = row, iou
        for axis in range(2):
            moved[d, axis] = 0.0 if best < 0 else boxes[d, axis] - recent[best, 0, axis]


UNMATCHED_COST = 1.0
"""What it costs to leave a track and a detection without each other."""


@njit
def take_undisputed(
    cost: NDArray[np.float32],
    pairs: NDArray[np.int64],
    rows: NDArray[np.bool_],
    columns: NDArray[np.bool_],
    match: NDArray[np.int64],
    row_place: NDArray[np.int64],
    column_place: NDArray[np.int64],
    open_pairs: NDArray[np.bool_],
) -> tuple[int, int]:
    """Matches pairs that have only each other among the `rows` and `columns` that take part.

    Writes their columns to `match`, marks the disputed pairs in `open_pairs` and numbers the rows and columns of those
    in `row_place` and `column_place`; returns how many rows and columns are disputed.
    """
    width = len(columns)
    row_place[:] = 0
    column_place[:] = 0
    for k in range(len(pairs)):
        r, c = pairs[k] // width, pairs[k] % width
        open_pairs[k] = rows[r] and columns[c] and cost[r, c] < UNMATCHED_COST
        if open_pairs[k]:
            row_place[r] += 1
            column_place[c] += 1
    for k in range(len(pairs)):
        r, c = pairs[k] // width, pairs[k] % width
        if open_pairs[k] and row_place[r] == 1 and column_place[c] == 1:
            match[r] = c
            open_pairs[k] = False
            row_place[r] = 0
            column_place[c] = 0
    disputed_rows = 0
    for r in range(len(rows)):
        if row_place[r] > 0:
            row_place[r] = disputed_rows
            disputed_rows += 1
    disputed_columns = 0
    for c in range(width):
        if column_place[c] > 0:
            column_place[c] = disputed_columns
            disputed_columns += 1
    return disputed_rows, disputed_columns


@njit
def fill_prices(
    cost: NDArray[np.float32],
    pairs: NDArray[np.int64],
    open_pairs: NDArray[np.bool_],
    row_place: NDArray[np.int64],
    column_place: NDArray[np.int64],
    price: NDArray[np.float32],
    row_of: NDArray[np.int64],
    column_of: NDArray[np.int64],
) -> None:
    """The small matrix of the disputed rows and columns, and where they came from."""
    price[:] = UNMATCHED_COST
    width = cost.shape[1]
    for k in range(len(pairs)):
        if open_pairs[k]:
            r, c = pairs[k] // width, pairs[k] % width
            price[row_place[r], column_place[c]] = cost[r, c]
            row_of[row_place[r]] = r
            column_of[column_place[c]] = c


def assign(
    cost: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    columns: NDArray[np.bool_],
    match: NDArray[np.int64],
    pairs: NDArray[np.int64] | None = None,
) -> None:
    """Adds to `match` `(T,)` the best partners between the `rows` `(T,)` and `columns` `(D,)` that take part.

    Minimises the sum of `cost` `(T, D)` over matched pairs plus `UNMATCHED_COST` per pair left out; only `allowed`
    pairs below `UNMATCHED_COST` are matched. Most rows of real video have a single choice and are settled at once;
    what is left goes to SciPy's solver (Crouse, IEEE TAES 2016).

    `pairs` are the flat indices of the allowed pairs, where the caller has them already.
    """
    if pairs is None:
        (pairs,) = allowed.ravel().nonzero()
    row_place, column_place = np.empty(len(rows), np.int64), np.empty(len(columns), np.int64)
    open_pairs = np.empty(len(pairs), np.bool_)
    height, width = take_undisputed(cost, pairs, rows, columns, match, row_place, column_place, open_pairs)
    if not height:
        return
    from scipy.optimize import linear_sum_assignment

    price = np.empty((height, width), np.float32)
    row_of, column_of = np.empty(height, np.int64), np.empty(width, np.int64)
    fill_prices(cost, pairs, open_pairs, row_place, column_place, price, row_of, column_of)
    chosen_rows, chosen_columns = linear_sum_assignment(price)
    settled = price[chosen_rows, chosen_columns] < UNMATCHED_COST
    match[row_of[chosen_rows[settled]]] = column_of[chosen_columns[settled]]


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
    rows: NDArray[np.int64],
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    classes: NDArray[np.int64],
    status: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Picks the detections that take part.

    Args:
        xyxy, score, class_id: N detections.
        threshold: of the score.
        height, width: of the image; infinite where not known.
        rows: `(N,)` out: which take part.
        boxes: `(N, 4)` out: centre x, centre y, width and height of those.
        scores, classes: `(N,)` out: of those.
        status: `(N,)` out: of all: 0 takes part, −1 below the threshold, else the number of the fault in `FAULTS`.

    Returns:
        How many take part, the number of faults, and 1 when classes differ.
    """
    kept, faults, is_mixed = 0, 0, 0
    for d in range(len(xyxy)):
        x1, y1, x2, y2 = xyxy[d, 0], xyxy[d, 1], xyxy[d, 2], xyxy[d, 3]
        status[d] = 0
        if not (np.isfinite(x1) and np.isfinite(y1) and np.isfinite(x2) and np.isfinite(y2) and np.isfinite(score[d])):
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
        else:
            x, y = 0.5 * (np.float64(x1) + x2), 0.5 * (np.float64(y1) + y2)
            w, h = np.float64(x2) - x1, np.float64(y2) - y1
            for k in range(kept):
                same = boxes[k, 0] == x and boxes[k, 1] == y and boxes[k, 2] == w and boxes[k, 3] == h
                if same and classes[k] == class_id[d]:
                    status[d] = 5
                    break
        if status[d] > 0:
            faults += 1
            continue
        boxes[kept, 0], boxes[kept, 1], boxes[kept, 2], boxes[kept, 3] = x, y, w, h
        rows[kept], scores[kept], classes[kept] = d, score[d], class_id[d]
        is_mixed |= class_id[d] != classes[0]
        kept += 1
    return kept, faults, is_mixed


SAME_BOX = 0.8
"""IoU above which two boxes of different classes are one object that the detector reported twice."""
SECOND_CLASS = "it is the box of a better one under another class"


def best_of_classes(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], classes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """`(D,)` which detections stay when one object is reported once, under its best class.

    Non-maximum suppression between classes alone (class-agnostic NMS), for detectors whose own knows each class by
    itself: of boxes of different classes that overlap by more than `SAME_BOX` the one of the highest score stays, of
    equal scores the first. Boxes are centre x, centre y, width, height.
    """
    stays = np.ones(len(boxes), np.bool_)
    _suppress_other_classes(boxes, classes, np.argsort(-scores, kind="stable"), stays)
    return stays


@njit
def _suppress_other_classes(
    boxes: NDArray[np.float64], classes: NDArray[np.int64], order: NDArray[np.int64], stays: NDArray[np.bool_]
) -> None:
    # Sorting stays with NumPy: numba's own takes seconds to compile.
    for k in range(len(order)):
        d = order[k]
        if not stays[d]:
            continue
        for j in range(k + 1, len(order)):
            e = order[j]
            if classes[e] != classes[d]:
                dx, dy = boxes[e, 0] - boxes[d, 0], boxes[e, 1] - boxes[d, 1]
                if _iou(dx, dy, boxes[e, 2], boxes[e, 3], boxes[d, 2], boxes[d, 3]) > SAME_BOX:
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
