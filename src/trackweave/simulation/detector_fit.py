"""`fit_detector`: the errors of a real detector, measured on a sequence whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, minimize
from scipy.special import expit, logit

from trackweave.boxes import box_iou
from trackweave.errors import InputError
from trackweave.formats.mot import read_ground_truth
from trackweave.formats.motchallenge import class_column_of, read_sequence
from trackweave.formats.readers import read_detections
from trackweave.formats.tables import DetectionTable, GroundTruth
from trackweave.simulation.detector import SIZE_SOFTNESS
from trackweave.simulation.occlusion import occlusion
from trackweave.simulation.settings import DetectorNoise
from trackweave.structures.detections import MIN_IOU
from trackweave.structures.score_scale import scale_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


MIN_MATCHES = 50
"""Matches with truth; from fewer nothing is measured."""
DUPLICATE_IOU = 0.5
"""IoU with a true box from which an unmatched detection is a duplicate."""
NEAR_IOU = 0.05
"""IoU with a true box from which a false positive lies on an object."""
MAD_TO_SD = 1.4826
"""Median absolute deviation → standard deviation of a normal distribution."""


@dataclass(frozen=True, eq=False)
class DetectorMatches:
    """Detections of a sequence beside its truth: N true boxes that count, by frame, and M detections without a match.

    Attributes:
        frame, track_id: `(N,)` int64.
        truth: `(N, 4)` float64 xyxy.
        visible: `(N,)` float64 share.
        extent: `(N, 4)` float64 xyxy around what is visible.
        occluder: `(N,)` int64 row of the object that occludes most, −1 = none, or one that does not count.
        matched: `(N,)` bool.
        boxes: `(N, 4)` float64 xyxy of the detection; zeros where there is none.
        score: `(N,)` float64; 0 where there is none.
        false_frame: `(M,)` int64.
        false_boxes: `(M, 4)` float64 xyxy.
        false_score: `(M,)` float64.
        false_overlap: `(M,)` float64 IoU with the nearest true box.
        false_near: `(M,)` int64 row of that box, −1 = none that counts.
        largest_iou: `(frames,)` float64, of two detections of one frame.
    """

    frame: Ints
    track_id: Ints
    truth: Floats
    visible: Floats
    extent: Floats
    occluder: Ints
    matched: NDArray[np.bool_]
    boxes: Floats
    score: Floats
    false_frame: Ints
    false_boxes: Floats
    false_score: Floats
    false_overlap: Floats
    false_near: Ints
    largest_iou: Floats


def fit_detector(
    detections: DetectionTable, truth: GroundTruth, *, fps: float, length: int | None = None
) -> DetectorNoise:
    """Estimates the errors of the detector that made these detections.

    Every number is a moment or a quantile of matched or unmatched boxes, but recall, which is a maximum-likelihood fit.
    Boxes that miss their object by more than IoU 0.5, were suppressed or merged with another count as missed: recall of
    mostly hidden objects is underestimated, and so are large errors.

    Args:
        detections: of one sequence.
        truth: of the same sequence.
        fps: frames per second.
        length: frames; None: up to the last box.

    Raises:
        InputError: fewer than 50 detections match truth.
    """
    matches = match_detector(detections, truth)
    if matches.matched.sum() < MIN_MATCHES:
        raise InputError(
            f"{detections.source}: {int(matches.matched.sum())} of {len(detections)} detections match truth; a "
            f"detector is fitted from {MIN_MATCHES} on: are they of the same sequence?"
        )
    last = max(int(matches.frame.max(initial=0)), int(matches.false_frame.max(initial=0))) + 1
    values = {
        **_recall(matches, fps),
        **_scores(matches, fps),
        **_jitter(matches, fps),
        **_shrink_and_merge(matches),
        **_false_positives(matches, fps, length or last),
    }
    values["floor"] = float(np.clip(np.quantile(detections.score, 0.001), 0, 0.9))
    values["nms_iou"] = float(np.clip(np.quantile(matches.largest_iou, 0.99), 0.3, 1.0))
    return DetectorNoise.nearest(values)


def fit_sequence(folder: Path | str, *, detections: str | None = None, class_id: int | None = None) -> DetectorNoise:
    """`fit_detector` of a MOTChallenge sequence folder.

    Args:
        folder: with `seqinfo.ini`, `det/` and `gt/gt.txt`.
        detections: which file below `det/`; None: `det`.
        class_id: only objects and detections of this class; where the detections have no class, all of them.

    Raises:
        InputError: a file is missing, or there is too little to measure.
    """
    sequence, truth = read_sequence(folder), read_ground_truth(folder)
    path, length = sequence.detections(detections), sequence.known_length()
    column = class_column_of(truth, path)
    table = read_detections(path, class_column=column, length=length, on_bad_item="skip")
    table = replace(table, score=scale_of(table.frame, table.score).shares(table.score))
    if class_id is not None:
        truth = replace(truth, counts=truth.counts & (truth.class_id == class_id))
        rows = (table.class_id == class_id) | (table.class_id < 0)
        table = replace(table, segmentation=None)[rows]
    return fit_detector(table, truth, fps=sequence.known_frame_rate(), length=length)


def match_detector(detections: DetectionTable, truth: GroundTruth) -> DetectorMatches:
    """Matches each frame's detections and true boxes one to one at IoU 0.5, without matches of boxes that do not count.

    Visibility is taken from the truth where it has any, else computed: the lower box is nearer.
    """
    parts = []
    start = 0
    has_visibility = len(np.unique(truth.visibility)) > 1
    for frame in np.union1d(np.unique(truth.frame), detections.frames).tolist():
        part = _frame(frame, detections, truth.at(frame), has_visibility=has_visibility, start=start)
        start += len(part.frame)
        parts.append(part)
    if not parts:
        parts = [_frame(0, detections, truth.at(0), has_visibility=has_visibility, start=0)]
    return DetectorMatches(
        *(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(DetectorMatches))
    )


def _frame(
    frame: int, table: DetectionTable, truth: GroundTruth, *, has_visibility: bool, start: int
) -> DetectorMatches:
    """One frame; `start` is the row of its first true box that counts."""
    detections = table.at(frame)
    boxes, true = detections.xyxy.astype(np.float64), truth.xyxy.astype(np.float64)
    overlap = box_iou(true, boxes) if len(true) and len(boxes) else np.zeros((len(true), len(boxes)))
    rows, columns = linear_sum_assignment(np.where(overlap >= MIN_IOU, overlap, 0.0), maximize=True)
    valid = overlap[rows, columns] >= MIN_IOU
    match = np.full(len(true), -1)
    match[rows[valid]] = columns[valid]
    visible, extent, occluder = _occlusion(true)
    counts = truth.counts & (truth.track_id >= 0)
    row_of = np.where(counts, start + np.cumsum(counts) - 1, -1)
    unmatched = np.setdiff1d(np.arange(len(boxes)), match)
    nearest = overlap[:, unmatched].argmax(axis=0) if len(true) and len(unmatched) else np.full(len(unmatched), -1)
    between = box_iou(boxes, boxes) if len(boxes) > 1 else np.zeros((1, 1))
    np.fill_diagonal(between, 0.0)
    match = match[counts]
    matched, column = match >= 0, np.maximum(match, 0)
    n = len(matched)
    return DetectorMatches(
        np.full(n, frame, np.int64),
        truth.track_id[counts],
        true[counts],
        truth.visibility[counts].astype(np.float64) if has_visibility else visible[counts],
        extent[counts],
        np.where(occluder >= 0, row_of[occluder] if len(true) else -1, -1)[counts].astype(np.int64),
        matched,
        np.where(matched[:, None], boxes[column], 0.0) if len(boxes) else np.zeros((n, 4)),
        np.where(matched, detections.score[column], 0.0).astype(np.float64) if len(boxes) else np.zeros(n),
        np.full(len(unmatched), frame, np.int64),
        boxes[unmatched],
        detections.score[unmatched].astype(np.float64),
        overlap[nearest, unmatched] if len(true) else np.zeros(len(unmatched)),
        (row_of[nearest] if len(true) else nearest).astype(np.int64),
        np.array([between.max()]),
    )


def _occlusion(true: Floats) -> tuple[Floats, Floats, Ints]:
    """Visible shares, boxes around what is visible, and occluders of one frame's boxes, by their lower edges."""
    if not len(true):
        return np.zeros(0), np.zeros((0, 4)), np.zeros(0, np.int64)
    unbounded = (1 << 30, 1 << 30)
    low = true[:, :2].min(axis=0)
    shifted = true - np.tile(low, 2)
    n = len(true)
    hidden = occlusion(shifted[None], -shifted[None, :, 3], np.ones((1, n), np.bool_), np.zeros(n, np.bool_), unbounded)
    return hidden.visible[0].astype(np.float64), hidden.extent[0] + np.tile(low, 2), hidden.occluder[0]


def _successors(
    matches: DetectorMatches, chosen: NDArray[np.bool_], ahead: int = 1
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of chosen boxes, and the rows of the same objects `ahead` frames later, where these are chosen, too."""
    rows = np.flatnonzero(chosen)
    order = rows[np.lexsort((matches.frame[rows], matches.track_id[rows]))]
    if len(order) <= ahead:
        return order[:0], order[:0]
    now, later = order[:-ahead], order[ahead:]
    same = (matches.track_id[now] == matches.track_id[later]) & (matches.frame[later] - matches.frame[now] == ahead)
    return now[same], later[same]


def _correlation(a: Floats, b: Floats) -> float:
    """Correlation of winsorised values, so that no outlier decides it; 0 of fewer than ten."""
    if len(a) < 10:
        return 0.0
    low, high = np.quantile(np.concatenate([a, b]), (0.02, 0.98))
    a, b = np.clip(a, low, high), np.clip(b, low, high)
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _correlation_time(correlation: float, seconds: float) -> float:
    """Seconds over which an exponential correlation falls to 1/e."""
    return 0.0 if correlation <= 0.05 else float(-seconds / np.log(min(correlation, 0.995)))


def _recall(matches: DetectorMatches, fps: float) -> dict[str, float]:
    height = np.log(np.maximum(matches.truth[:, 3] - matches.truth[:, 1], 1.0))
    rows = np.linspace(0, len(height) - 1, min(len(height), 40_000)).astype(int)
    visible, heights, hit = matches.visible[rows], height[rows], matches.matched[rows]

    def chance(p: Floats, visible: Floats, height: Floats) -> Floats:
        value = expit(p[0]) * expit((visible - p[1]) / np.exp(p[2])) * expit((height - p[3]) / SIZE_SOFTNESS)
        return np.asarray(np.clip(value, 1e-6, 1 - 1e-6))

    def cost(p: Floats) -> float:
        value = chance(p, visible, heights)
        prior = 1e-3 * (p[1] ** 2 + (p[2] + 2) ** 2) + 1e-4 * ((p[3] - 2) ** 2 + (p[0] - 3) ** 2)
        return float(-np.where(hit, np.log(value), np.log(1 - value)).mean() + prior)

    starts = [np.array([3.0, middle, -2.0, 2.0]) for middle in (0.0, 0.5)]
    best = min(
        (minimize(cost, start, method="Nelder-Mead", options={"maxiter": 800}) for start in starts),
        key=lambda fit: fit.fun,
    ).x
    likely = chance(best, matches.visible, height)
    rest = (matches.matched - likely) / np.sqrt(likely * (1 - likely))
    now, later = _successors(matches, (likely > 0.05) & (likely < 0.99))
    both = float(np.mean(rest[now] * rest[later])) if len(now) > 10 else 0.0
    return {
        "recall": float(expit(best[0])),
        "half_visibility": float(best[1]),
        "visibility_softness": float(np.exp(best[2])),
        "small_height": float(np.exp(best[3])),
        # the correlation of two signs, as that of the normal variables behind them
        "miss_seconds": _correlation_time(float(np.sin(np.pi / 2 * np.clip(both, 0, 0.98))), 1 / fps),
    }


def _scores(matches: DetectorMatches, fps: float) -> dict[str, float]:
    hit = matches.matched
    value = logit(np.clip(matches.score[hit], 0.005, 0.9975))
    hidden = 1 - matches.visible[hit]
    line = np.array([np.median(value), 0.0])
    design = np.column_stack([np.ones_like(hidden), -hidden])
    for _ in range(10):  # least absolute deviations by reweighting: scores have long tails
        weight = 1 / np.maximum(np.abs(value - design @ line), 0.05)
        line = np.linalg.lstsq(design * np.sqrt(weight)[:, None], value * np.sqrt(weight), rcond=None)[0]
    rest = np.zeros(len(hit))
    rest[hit] = (value - design @ line) / (1 + 0.5 * hidden)
    now, later = _successors(matches, hit)
    return {
        "score": float(line[0]),
        "score_hidden": float(max(line[1], 0.0)),
        "score_spread": float(MAD_TO_SD * np.median(np.abs(rest[hit]))),
        "score_seconds": _correlation_time(_correlation(rest[now], rest[later]), 1 / fps),
    }


def _jitter(matches: DetectorMatches, fps: float) -> dict[str, float]:
    hit = matches.matched
    side = matches.truth[:, 2:] - matches.truth[:, :2]
    size = np.sqrt(np.maximum(side.prod(axis=1), 1e-6))[:, None]
    error = np.where(hit[:, None], (matches.boxes - matches.truth) / size, 0.0)
    error -= np.median(error[hit], axis=0)
    clear = hit & (matches.visible > 0.9)
    if clear.sum() < MIN_MATCHES:
        clear = hit
    width, tail = _normal_with_tail(error[clear])
    part = hit & (matches.visible < 0.7)
    hidden = (1 - matches.visible[part]) ** 1.5
    more = 0.0
    if part.sum() >= MIN_MATCHES:
        spread = MAD_TO_SD * np.median(np.abs(error[part]) / hidden[:, None]) if width == 0 else None
        typical = np.median(np.abs(error[part]).mean(axis=1) * MAD_TO_SD / 1.18)
        more = float(spread if spread is not None else max(typical - width, 0.0) / np.median(hidden))
    far = max(2, round(0.3 * fps))
    near = [_correlation(error[a, k], error[b, k]) for a, b in [_successors(matches, clear)] for k in range(4)]
    late = [_correlation(error[a, k], error[b, k]) for a, b in [_successors(matches, clear, far)] for k in range(4)]
    first, last = max(float(np.mean(near)), 0.0), max(float(np.mean(late)), 0.0)
    ratio = np.clip(last / first, 0.01, 0.99) if first > 0.05 else 0.0
    seconds = float(-(far - 1) / fps / np.log(ratio)) if ratio else 0.0
    slow = min(1.0, first * np.exp(1 / fps / seconds)) if seconds else 0.0
    return {
        "jitter": width,
        "jitter_hidden": more,
        "jitter_tail": tail,
        "jitter_seconds": seconds,
        "jitter_white": 1 - slow,
    }


def _normal_with_tail(error: Floats) -> tuple[float, float]:
    """Standard deviation of a normal error, and how much it varies itself, from two quantiles of `|error|`."""
    middle, outer = np.quantile(np.abs(error), (0.5, 0.95))
    if middle <= 0:
        return 0.0, 0.0
    normal = np.random.default_rng(0).standard_normal((2, 20_000))
    tails = np.linspace(0, 2, 21)
    mixed = np.abs(normal[0] * np.exp(tails[:, None] * normal[1]))
    medians, outers = np.quantile(mixed, (0.5, 0.95), axis=1)
    tail = float(np.interp(outer / middle, outers / medians, tails))
    return float(middle / np.interp(tail, tails, medians)), tail


def _shrink_and_merge(matches: DetectorMatches) -> dict[str, float]:
    """How far boxes shrink to the visible part, and how often two merge."""
    part = matches.matched & (matches.visible > 0.2) & (matches.visible < 0.9)
    toward = matches.extent[part] - matches.truth[part]
    pull = float(((matches.boxes - matches.truth)[part] * toward).sum() / max((toward**2).sum(), 1e-9))
    hidden = np.flatnonzero((matches.occluder >= 0) & (matches.visible < 0.75))
    occluders = matches.occluder[hidden]
    merged = 0
    lost = ~matches.matched[hidden] & matches.matched[occluders]
    for row, occluder in zip(hidden[lost], occluders[lost], strict=True):
        one, other, box = matches.truth[row], matches.truth[occluder], matches.boxes[occluder]
        both = np.concatenate([np.minimum(one[:2], other[:2]), np.maximum(one[2:], other[2:])])
        merged += bool(np.abs(box - both).sum() < np.abs(box - other).sum())
    return {"shrink": 4 * max(pull, 0.0), "merge": merged / max(len(hidden), 1)}


def _false_positives(matches: DetectorMatches, fps: float, length: int) -> dict[str, float]:
    duplicate = (matches.false_overlap > DUPLICATE_IOU) & (matches.false_near >= 0)
    near = ~duplicate & (matches.false_overlap > NEAR_IOU)
    false = ~duplicate
    values = {
        "duplicates": float(duplicate.sum() / max(matches.matched.sum(), 1)),
        "false_rate": float(false.sum() / length),
        "false_near": float(near.sum() / max(false.sum(), 1)),
    }
    if duplicate.sum() >= 10:
        true = matches.truth[matches.false_near[duplicate]]
        size = np.sqrt((true[:, 2:] - true[:, :2]).prod(axis=1))[:, None]
        error = (matches.false_boxes[duplicate] - true) / size
        values["duplicate_jitter"] = float(MAD_TO_SD * np.median(np.abs(error)))
    if len(matches.false_score) >= 10:
        value = logit(np.clip(matches.false_score, 0.002, 0.998))
        values["false_score"] = float(np.median(value))
        values["false_spread"] = float(MAD_TO_SD * np.median(np.abs(value - np.median(value))))
    if false.sum() >= 10:
        lasting = _lasting_share(matches.false_frame[false], matches.false_boxes[false])
        values["false_seconds"] = 0.0 if lasting < 0.2 else min(1 / (1 - min(lasting, 0.999)) / fps, 60.0)
    return values


def _lasting_share(frame: NDArray[np.int64], boxes: Floats) -> float:
    """Share of false positives that have one in the same place on the next frame."""
    lasting = total = 0
    for now in np.unique(frame)[:-1].tolist():
        current, following = (boxes[slice(*np.searchsorted(frame, (f, f + 1)))] for f in (now, now + 1))
        total += len(current)
        if len(current) and len(following):
            lasting += int((box_iou(current, following).max(axis=1) > 0.5).sum())
    return lasting / max(total, 1)
