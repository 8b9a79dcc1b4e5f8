"""`fit_detector`: the errors of a real detector, measured on a sequence whose truth is known.

`DetectorMatches`: detections of a sequence beside its truth, as columns: what errors are measured on.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, minimize
from scipy.special import expit, logit

from trackweave.boxes import box_iou
from trackweave.errors import InputError
from trackweave.formats.detections import read_detections
from trackweave.formats.mot import read_ground_truth
from trackweave.formats.motchallenge import class_column_of, read_sequence
from trackweave.formats.tables import DetectionTable, GroundTruth
from trackweave.simulation.detector import SIZE_SOFTNESS
from trackweave.simulation.occlusion import sightings
from trackweave.simulation.settings import DetectorNoise
from trackweave.structures.detections import MIN_IOU

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DetectorMatches:
    """N true boxes that count, ordered by frame, and M detections that match none.

    Attributes:
        frame, track_id: `(N,)` int64.
        truth: `(N, 4)` float64 xyxy.
        visible: `(N,)` float64 share.
        extent: `(N, 4)` float64 xyxy around what is visible.
        hider: `(N,)` int64 row of the object that hides most, −1 = none, or one that does not count.
        found: `(N,)` bool.
        boxes: `(N, 4)` float64 xyxy of the detection; zeros where there is none.
        score: `(N,)` float64; 0 where there is none.
        false_frame: `(M,)` int64.
        false_boxes: `(M, 4)` float64 xyxy.
        false_score: `(M,)` float64.
        false_overlap: `(M,)` float64 IoU with the nearest true box.
        false_near: `(M,)` int64 row of that box, −1 = none that counts.
        closest: `(frames,)` float64, largest IoU of two detections of one frame.
    """

    frame: Ints
    track_id: Ints
    truth: Floats
    visible: Floats
    extent: Floats
    hider: Ints
    found: NDArray[np.bool_]
    boxes: Floats
    score: Floats
    false_frame: Ints
    false_boxes: Floats
    false_score: Floats
    false_overlap: Floats
    false_near: Ints
    closest: Floats


def match_detector(detections: DetectionTable, truth: GroundTruth) -> DetectorMatches:
    """Matches each frame's detections and true boxes one to one at IoU 0.5; what matches a box that does not count is
    left out.

    How much is visible is taken from the truth when it says so, else worked out: what stands lower is nearer.
    """
    parts = []
    start = 0
    told = len(np.unique(truth.visibility)) > 1
    for frame in np.union1d(np.unique(truth.frame), detections.frames).tolist():
        part = _frame(frame, detections, truth.at(frame), told=told, start=start)
        start += len(part.frame)
        parts.append(part)
    if not parts:
        parts = [_frame(0, detections, truth.at(0), told=told, start=0)]
    return DetectorMatches(
        *(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(DetectorMatches))
    )


def _frame(frame: int, detections: DetectionTable, truth: GroundTruth, *, told: bool, start: int) -> DetectorMatches:
    given = detections.at(frame)
    boxes, true = given.xyxy.astype(np.float64), truth.xyxy.astype(np.float64)
    overlap = box_iou(true, boxes) if len(true) and len(boxes) else np.zeros((len(true), len(boxes)))
    rows, columns = linear_sum_assignment(np.where(overlap >= MIN_IOU, overlap, 0.0), maximize=True)
    good = overlap[rows, columns] >= MIN_IOU
    match = np.full(len(true), -1)
    match[rows[good]] = columns[good]
    seen = _sightings(true)
    counts = truth.counts & (truth.track_id >= 0)
    place = np.where(counts, start + np.cumsum(counts) - 1, -1)
    hider = np.where(seen[2] >= 0, place[seen[2]] if len(true) else -1, -1)
    spare = np.setdiff1d(np.arange(len(boxes)), match)
    best = overlap[:, spare].argmax(axis=0) if len(true) and len(spare) else np.full(len(spare), -1)
    among = box_iou(boxes, boxes) if len(boxes) > 1 else np.zeros((1, 1))
    np.fill_diagonal(among, 0.0)
    matched = match[counts]
    at = np.maximum(matched, 0)
    found = matched >= 0
    n = len(found)
    return DetectorMatches(
        np.full(n, frame, np.int64),
        truth.track_id[counts],
        true[counts],
        truth.visibility[counts].astype(np.float64) if told else seen[0][counts],
        seen[1][counts],
        hider[counts].astype(np.int64),
        found,
        np.where(found[:, None], boxes[at], 0.0) if len(boxes) else np.zeros((n, 4)),
        np.where(found, given.score[at], 0.0).astype(np.float64) if len(boxes) else np.zeros(n),
        np.full(len(spare), frame, np.int64),
        boxes[spare],
        given.score[spare].astype(np.float64),
        overlap[best, spare] if len(true) else np.zeros(len(spare)),
        (place[best] if len(true) else best).astype(np.int64),
        np.array([among.max()]),
    )


def _sightings(true: Floats) -> tuple[Floats, Floats, Ints]:
    """Visible shares, what is visible and hiders of one frame's boxes, by their lower edges."""
    if not len(true):
        return np.zeros(0), np.zeros((0, 4)), np.zeros(0, np.int64)
    everywhere = (1 << 30, 1 << 30)
    low = true[:, :2].min(axis=0)
    moved = true - np.tile(low, 2)
    n = len(true)
    seen = sightings(moved[None], -moved[None, :, 3], np.ones((1, n), np.bool_), np.zeros(n, np.bool_), everywhere)
    return seen.visible[0].astype(np.float64), seen.extent[0] + np.tile(low, 2), seen.hider[0]


LEAST_FOUND = 50
"""Detections that match truth; fewer say nothing about a detector."""
DOUBLE_IOU = 0.5
NEAR_IOU = 0.05
TO_SD = 1.4826
"""Median absolute deviation → standard deviation of a normal distribution."""


def fit_detector(
    detections: DetectionTable, truth: GroundTruth, *, fps: float, length: int | None = None
) -> DetectorNoise:
    """A detector that errs like the one that made these detections.

    Every number is a moment or a quantile of matched or unmatched boxes, but recall, which is a maximum-likelihood fit.
    Boxes that miss their object by more than IoU 0.5, were suppressed or melted with another count as missed: recall of
    the mostly hidden comes out lower than it is, and large errors smaller.

    Args:
        detections: of one sequence.
        truth: of the same.
        fps: frames per second.
        length: frames; None: up to the last box.

    Raises:
        InputError: fewer than 50 detections match truth.
    """
    found = match_detector(detections, truth)
    if found.found.sum() < LEAST_FOUND:
        raise InputError(
            f"{detections.source}: {int(found.found.sum())} of {len(detections)} detections match truth; a detector "
            f"is fitted from {LEAST_FOUND} on: are they of the same sequence?"
        )
    last = max(int(found.frame.max(initial=0)), int(found.false_frame.max(initial=0))) + 1
    values = {
        **_recall(found, fps),
        **_scores(found, fps),
        **_jitter(found, fps),
        **_pulls(found),
        **_falsehoods(found, fps, length or last),
    }
    values["floor"] = float(np.clip(np.quantile(detections.score, 0.001), 0, 0.9))
    values["nms_iou"] = float(np.clip(np.quantile(found.closest, 0.99), 0.3, 1.0))
    return DetectorNoise.nearest(values)


def fit_sequence(folder: Path | str, *, detections: str | None = None, class_id: int | None = None) -> DetectorNoise:
    """`fit_detector` of a MOTChallenge sequence folder.

    Args:
        folder: with `seqinfo.ini`, `det/` and `gt/gt.txt`.
        detections: which file below `det/`; None: `det`.
        class_id: only objects and detections of this class; where the detections have no class, all of them.

    Raises:
        InputError: something is missing, or there is too little to measure.
    """
    sequence, truth = read_sequence(folder), read_ground_truth(folder)
    path, length = sequence.detections(detections), sequence.known_length()
    column = class_column_of(truth, path)
    table = read_detections(path, class_column=column, length=length, on_bad_item="skip")
    if class_id is not None:
        truth = replace(truth, counts=truth.counts & (truth.class_id == class_id))
        rows = (table.class_id == class_id) | (table.class_id < 0)
        table = replace(table, segmentation=None)[rows]
    return fit_detector(table, truth, fps=sequence.known_frame_rate(), length=length)


def _successors(
    found: DetectorMatches, chosen: NDArray[np.bool_], ahead: int = 1
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of chosen boxes, and the rows of the same objects `ahead` frames later, where these are chosen, too."""
    rows = np.flatnonzero(chosen)
    order = rows[np.lexsort((found.frame[rows], found.track_id[rows]))]
    if len(order) <= ahead:
        return order[:0], order[:0]
    now, later = order[:-ahead], order[ahead:]
    same = (found.track_id[now] == found.track_id[later]) & (found.frame[later] - found.frame[now] == ahead)
    return now[same], later[same]


def _correlation(a: Floats, b: Floats) -> float:
    """Of what was winsorised: one wild value does not decide. 0 where there is too little."""
    if len(a) < 10:
        return 0.0
    low, high = np.quantile(np.concatenate([a, b]), (0.02, 0.98))
    a, b = np.clip(a, low, high), np.clip(b, low, high)
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _lasting(correlation: float, seconds: float) -> float:
    """Seconds over which an exponential correlation falls to 1/e."""
    return 0.0 if correlation <= 0.05 else float(-seconds / np.log(min(correlation, 0.995)))


def _recall(found: DetectorMatches, fps: float) -> dict[str, float]:
    height = np.log(np.maximum(found.truth[:, 3] - found.truth[:, 1], 1.0))
    rows = np.linspace(0, len(height) - 1, min(len(height), 40_000)).astype(int)
    seen, tall, hit = found.visible[rows], height[rows], found.found[rows]

    def chance(p: Floats, visible: Floats, height: Floats) -> Floats:
        value = expit(p[0]) * expit((visible - p[1]) / np.exp(p[2])) * expit((height - p[3]) / SIZE_SOFTNESS)
        return np.asarray(np.clip(value, 1e-6, 1 - 1e-6))

    def cost(p: Floats) -> float:
        value = chance(p, seen, tall)
        weak = 1e-3 * (p[1] ** 2 + (p[2] + 2) ** 2) + 1e-4 * ((p[3] - 2) ** 2 + (p[0] - 3) ** 2)
        return float(-np.where(hit, np.log(value), np.log(1 - value)).mean() + weak)

    starts = [np.array([3.0, middle, -2.0, 2.0]) for middle in (0.0, 0.5)]
    best = min(
        (minimize(cost, start, method="Nelder-Mead", options={"maxiter": 800}) for start in starts),
        key=lambda fit: fit.fun,
    ).x
    likely = chance(best, found.visible, height)
    rest = (found.found - likely) / np.sqrt(likely * (1 - likely))
    now, later = _successors(found, (likely > 0.05) & (likely < 0.99))
    both = float(np.mean(rest[now] * rest[later])) if len(now) > 10 else 0.0
    return {
        "recall": float(expit(best[0])),
        "half_visibility": float(best[1]),
        "visibility_softness": float(np.exp(best[2])),
        "small_height": float(np.exp(best[3])),
        # the correlation of two signs, as that of the normal variables behind them
        "miss_seconds": _lasting(float(np.sin(np.pi / 2 * np.clip(both, 0, 0.98))), 1 / fps),
    }


def _scores(found: DetectorMatches, fps: float) -> dict[str, float]:
    hit = found.found
    value = logit(np.clip(found.score[hit], 0.005, 0.9975))
    hidden = 1 - found.visible[hit]
    line = np.array([np.median(value), 0.0])
    design = np.column_stack([np.ones_like(hidden), -hidden])
    for _ in range(10):  # least absolute deviations by reweighting: scores have long tails
        weight = 1 / np.maximum(np.abs(value - design @ line), 0.05)
        line = np.linalg.lstsq(design * np.sqrt(weight)[:, None], value * np.sqrt(weight), rcond=None)[0]
    rest = np.zeros(len(hit))
    rest[hit] = (value - design @ line) / (1 + 0.5 * hidden)
    now, later = _successors(found, hit)
    return {
        "score": float(line[0]),
        "score_hidden": float(max(line[1], 0.0)),
        "score_spread": float(TO_SD * np.median(np.abs(rest[hit]))),
        "score_seconds": _lasting(_correlation(rest[now], rest[later]), 1 / fps),
    }


def _jitter(found: DetectorMatches, fps: float) -> dict[str, float]:
    hit = found.found
    side = found.truth[:, 2:] - found.truth[:, :2]
    size = np.sqrt(np.maximum(side.prod(axis=1), 1e-6))[:, None]
    error = np.where(hit[:, None], (found.boxes - found.truth) / size, 0.0)
    error -= np.median(error[hit], axis=0)
    clear = hit & (found.visible > 0.9)
    if clear.sum() < LEAST_FOUND:
        clear = hit
    width, tail = _wild(error[clear])
    part = hit & (found.visible < 0.7)
    hidden = (1 - found.visible[part]) ** 1.5
    more = 0.0
    if part.sum() >= LEAST_FOUND:
        spread = TO_SD * np.median(np.abs(error[part]) / hidden[:, None]) if width == 0 else None
        typical = np.median(np.abs(error[part]).mean(axis=1) * TO_SD / 1.18)
        more = float(spread if spread is not None else max(typical - width, 0.0) / np.median(hidden))
    far = max(2, round(0.3 * fps))
    near = [_correlation(error[a, k], error[b, k]) for a, b in [_successors(found, clear)] for k in range(4)]
    late = [_correlation(error[a, k], error[b, k]) for a, b in [_successors(found, clear, far)] for k in range(4)]
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


def _wild(error: Floats) -> tuple[float, float]:
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


def _pulls(found: DetectorMatches) -> dict[str, float]:
    """How far boxes draw back to what is visible, and how often two melt."""
    part = found.found & (found.visible > 0.2) & (found.visible < 0.9)
    toward = found.extent[part] - found.truth[part]
    pull = float(((found.boxes - found.truth)[part] * toward).sum() / max((toward**2).sum(), 1e-9))
    hidden = np.flatnonzero((found.hider >= 0) & (found.visible < 0.75))
    before = found.hider[hidden]
    melted = 0
    lost = ~found.found[hidden] & found.found[before]
    for row, hider in zip(hidden[lost], before[lost], strict=True):
        one, other, seen = found.truth[row], found.truth[hider], found.boxes[hider]
        both = np.concatenate([np.minimum(one[:2], other[:2]), np.maximum(one[2:], other[2:])])
        melted += bool(np.abs(seen - both).sum() < np.abs(seen - other).sum())
    return {"shrink": 4 * max(pull, 0.0), "merge": melted / max(len(hidden), 1)}


def _falsehoods(found: DetectorMatches, fps: float, length: int) -> dict[str, float]:
    double = (found.false_overlap > DOUBLE_IOU) & (found.false_near >= 0)
    near = ~double & (found.false_overlap > NEAR_IOU)
    false = ~double
    values = {
        "doubles": float(double.sum() / max(found.found.sum(), 1)),
        "false_rate": float(false.sum() / length),
        "false_near": float(near.sum() / max(false.sum(), 1)),
    }
    if double.sum() >= 10:
        true = found.truth[found.false_near[double]]
        size = np.sqrt((true[:, 2:] - true[:, :2]).prod(axis=1))[:, None]
        values["double_jitter"] = float(TO_SD * np.median(np.abs((found.false_boxes[double] - true) / size)))
    if len(found.false_score) >= 10:
        value = logit(np.clip(found.false_score, 0.002, 0.998))
        values["false_score"] = float(np.median(value))
        values["false_spread"] = float(TO_SD * np.median(np.abs(value - np.median(value))))
    if false.sum() >= 10:
        stays = _staying(found.false_frame[false], found.false_boxes[false])
        values["false_seconds"] = 0.0 if stays < 0.2 else min(1 / (1 - min(stays, 0.999)) / fps, 60.0)
    return values


def _staying(frame: NDArray[np.int64], boxes: Floats) -> float:
    """Share of false boxes that are there on the next frame, too."""

    again = total = 0
    for now in np.unique(frame)[:-1].tolist():
        here, there = (boxes[slice(*np.searchsorted(frame, (f, f + 1)))] for f in (now, now + 1))
        total += len(here)
        if len(here) and len(there):
            again += int((box_iou(here, there).max(axis=1) > 0.5).sum())
    return again / max(total, 1)
