"""What the model of association is given: one module for training and for use.

Lengths are in units of the track's own size (the square root of its last box's area), times in seconds, so that a
model does not depend on resolution and depends on the frame rate only through time. A change of any column's meaning
needs a new `INPUT_VERSION`: a checkpoint is only used with the version that it was trained with.

`Scenes`: what a learned scorer is asked about one frame or many, as arrays in pixels and seconds.

Frames lie one after another in the same arrays, so that a batch of frames of any sizes costs no padding. A scene is
raw: augmentation changes boxes and times here, and `inputs.model_inputs` turns the result into numbers for the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.association.track_memory import HISTORY, SLOTS, TrackHistory, centred
from trackweave.structures.assignment import AssignmentState

COSINE_UNKNOWN = 2.0
"""Stands for the cosine of a pair where one side has no embedding."""
MEASUREMENT_SHARE, DRIFT_SHARE = 0.1, 1.0
"""Spread of a centre about its prediction, as shares of the box's height: at once, and per second without a match."""


@dataclass(frozen=True, eq=False)
class Scenes:
    """F frames with T tracks, D detections and P pairs together; boxes are centre x, centre y, width, height.

    Attributes:
        track_frame: `(T,)` int64, the frame of each track, ascending.
        det_frame: `(D,)` int64, the frame of each detection, ascending.
        boxes: `(T, K, 4)` float32 pixels, last observations, the newest first.
        ages: `(T, K)` float32, seconds since each observation.
        scores: `(T, K)` float32 of the detections that were observed.
        visibility: `(T, K)` float32 of them.
        counts: `(T,)` int64 observations that are real; the others repeat the oldest.
        predicted: `(T, 4)` float32 pixels, where the motion model expects the track.
        velocity: `(T, 2)` float32 pixels per second.
        lifetime: `(T,)` float32 seconds since birth.
        usual: `(T, 3)` float32 logarithms of width and height when nothing hides the track, see `TrackHistory.usual`.
        track_crowd: `(T,)` float32, largest overlap (IoU) with another track's predicted box.
        track_size: `(T, 2)` float32, height and width of the frame.
        det_boxes: `(D, 4)` float32 pixels.
        det_scores: `(D,)` float32.
        det_visibility: `(D,)` float32.
        det_crowd: `(D,)` float32, largest overlap (IoU) with another detection.
        det_size: `(D, 2)` float32, height and width of the frame.
        pairs: `(P, 2)` int64 rows of tracks and detections, sorted: those that the gates let through.
        cosine: `(P,)` float32 of the embeddings, `COSINE_UNKNOWN` where one side has none.
    """

    track_frame: NDArray[np.int64]
    det_frame: NDArray[np.int64]
    boxes: NDArray[np.float32]
    ages: NDArray[np.float32]
    scores: NDArray[np.float32]
    visibility: NDArray[np.float32]
    counts: NDArray[np.int64]
    predicted: NDArray[np.float32]
    velocity: NDArray[np.float32]
    lifetime: NDArray[np.float32]
    usual: NDArray[np.float32]
    track_crowd: NDArray[np.float32]
    track_size: NDArray[np.float32]
    det_boxes: NDArray[np.float32]
    det_scores: NDArray[np.float32]
    det_visibility: NDArray[np.float32]
    det_crowd: NDArray[np.float32]
    det_size: NDArray[np.float32]
    pairs: NDArray[np.int64]
    cosine: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def scene_of(state: AssignmentState, history: TrackHistory, size: tuple[int, int]) -> Scenes:
    """One frame as a scene; the history has entered it, its decisions are not needed.

    Args:
        state: the frame.
        history: of its tracks.
        size: `(H, W)` in pixels.
    """
    history.enter(state)
    tracks, seen = len(state.track_ids), state.detections
    D, now = len(seen), float(history.now or 0.0)
    pairs = np.argwhere(state.allowed)
    predicted, found = centred(state.track_boxes), centred(seen.xyxy)
    shape = np.array(size, np.float32)
    step = history.step
    return Scenes(
        track_frame=np.zeros(tracks, np.int64),
        det_frame=np.zeros(D, np.int64),
        boxes=history.boxes[:tracks, SLOTS],
        ages=np.clip(now - history.times[:tracks, SLOTS], 0, 1e6).astype(np.float32),
        scores=history.scores[:tracks, SLOTS],
        visibility=history.visibility[:tracks, SLOTS],
        counts=np.searchsorted(SLOTS, history.counts[:tracks]).astype(np.int64),
        predicted=predicted,
        velocity=(state.track_velocity / step).astype(np.float32),
        lifetime=(state.track_age * step).astype(np.float32),
        usual=history.usual[:tracks].copy(),
        track_crowd=_crowd(predicted),
        track_size=np.broadcast_to(shape, (tracks, 2)).copy(),
        det_boxes=found,
        det_scores=np.asarray(seen.score, np.float32).copy(),
        det_visibility=np.ones(D, np.float32) if seen.visibility is None else seen.visibility.astype(np.float32),
        det_crowd=_crowd(found),
        det_size=np.broadcast_to(shape, (D, 2)).copy(),
        pairs=pairs,
        cosine=_cosine(state, pairs),
    )


def concat(scenes: Sequence[Scenes]) -> Scenes:
    """Frames one after another; indices of frames and rows are moved on.

    Raises:
        ValueError: nothing to put together.
    """
    if not scenes:
        raise ValueError("no scenes to put together")
    joined = {name: np.concatenate([getattr(one, name) for one in scenes]) for name in scenes[0].arrays()}
    frames = np.cumsum([0] + [_frames(one) for one in scenes[:-1]])
    tracks = np.cumsum([0] + [len(one.counts) for one in scenes[:-1]])
    detections = np.cumsum([0] + [len(one.det_scores) for one in scenes[:-1]])
    joined["track_frame"] += np.repeat(frames, [len(one.counts) for one in scenes])
    joined["det_frame"] += np.repeat(frames, [len(one.det_scores) for one in scenes])
    each = [len(one.pairs) for one in scenes]
    joined["pairs"] = joined["pairs"] + np.stack([np.repeat(tracks, each), np.repeat(detections, each)], axis=1)
    return Scenes(**joined)


def _frames(scene: Scenes) -> int:
    last = [int(part[-1]) for part in (scene.track_frame, scene.det_frame) if len(part)]
    return 1 + max(last, default=0)


def pair_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(P,)` IoU of boxes `(P, 4)` in pairs, both centre and size.

    >>> one, other = np.array([[5, 5, 10, 10]], np.float32), np.array([[10, 5, 10, 10]], np.float32)
    >>> round(float(pair_iou(one, other)[0]), 4)
    0.3333
    """
    apart = np.abs(a[..., :2] - b[..., :2])
    sides = np.minimum(np.minimum(a[..., 2:], b[..., 2:]), (a[..., 2:] + b[..., 2:]) / 2 - apart)
    shared = np.maximum(sides, 0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared
    return np.asarray(shared / np.maximum(union, 1e-9), np.float32)


def _crowd(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(N,)` largest IoU of each box with another one."""
    if len(boxes) < 2:
        return np.zeros(len(boxes), np.float32)
    overlap = pair_iou(boxes[:, None], boxes[None])
    np.fill_diagonal(overlap, 0)
    return np.asarray(overlap.max(axis=1), np.float32)


def _cosine(state: AssignmentState, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    tracks, detections = state.track_embeddings, state.detections.embedding
    if tracks is None or detections is None or tracks.shape[1] != detections.shape[1]:
        return np.full(len(pairs), COSINE_UNKNOWN, np.float32)
    a, b = tracks[pairs[:, 0]].astype(np.float64), detections[pairs[:, 1]].astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    known = np.isfinite(lengths) & (lengths > 0)
    product = np.einsum("pe,pe->p", a, b)
    return np.where(known, product / np.where(known, lengths, 1), COSINE_UNKNOWN).astype(np.float32)


INPUT_VERSION = 2
WINDOWS = (1, 3, 6, 9)
"""Observations over which a track's velocity is measured to tell where it should be now."""
HISTORY_COLUMNS = 11
TRACK_COLUMNS = 25
DET_COLUMNS = 11
PAIR_COLUMNS = 21 + 2 * len(WINDOWS)
_SHORTEST = 1e-3


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """The numbers of T tracks, D detections and P pairs; finite everywhere.

    Attributes:
        history: `(T, HISTORY, HISTORY_COLUMNS)` float32; rows that repeat the oldest observation are zeros.
        tracks: `(T, TRACK_COLUMNS)` float32.
        detections: `(D, DET_COLUMNS)` float32.
        pairs: `(P, 2)` int64.
        pair_features: `(P, PAIR_COLUMNS)` float32.
    """

    history: NDArray[np.float32]
    tracks: NDArray[np.float32]
    detections: NDArray[np.float32]
    pairs: NDArray[np.int64]
    pair_features: NDArray[np.float32]


def model_inputs(scene: Scenes) -> ModelInputs:
    """The model's view of a scene."""
    last = scene.boxes[:, 0]
    unit = np.sqrt(np.maximum(last[:, 2] * last[:, 3], 1e-4)).astype(np.float32)
    return ModelInputs(
        _finite(_history(scene, unit)),
        _finite(_tracks(scene, unit)),
        _finite(_detections(scene)),
        scene.pairs,
        _finite(_pairs(scene, unit)),
    )


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    if np.isfinite(values.sum()):  # a sum that is finite has finite parts, and costs a tenth of looking at each
        return values
    return np.nan_to_num(values, copy=False, nan=0.0, posinf=10.0, neginf=-10.0)


def _squash(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Fine near zero, logarithmic far away."""
    return np.asarray(np.arcsinh(values * np.float32(4)), np.float32)


def _history(scene: Scenes, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each observation against the newest, and the step from it to the next newer one."""
    T, K = scene.ages.shape
    columns = np.zeros((T, K, HISTORY_COLUMNS), np.float32)
    boxes, ages = scene.boxes, scene.ages
    columns[..., :2] = _squash((boxes[..., :2] - boxes[:, :1, :2]) / unit[:, None, None]) / 2
    columns[..., 2:4] = 2 * np.log(boxes[..., 2:] / boxes[:, :1, 2:])
    columns[..., 4] = np.minimum(ages, 4)
    columns[..., 5] = np.log1p(10 * ages) / 2
    columns[..., 6] = scene.scores
    columns[..., 7] = scene.visibility
    elapsed = np.maximum(ages[:, 1:] - ages[:, :-1], _SHORTEST)
    steps = (boxes[:, :-1, :2] - boxes[:, 1:, :2]) / unit[:, None, None] / elapsed[..., None]
    columns[:, :-1, 8:10] = _squash(steps / 2) / 2
    columns[..., 10] = 1
    columns[np.arange(K) >= scene.counts[:, None]] = 0
    return columns


def _extrapolated(scene: Scenes) -> NDArray[np.float32]:
    """`(T, windows, 2)` where the mean velocity over the last observations leads."""
    oldest = np.minimum(WINDOWS, scene.counts[:, None] - 1)
    rows = np.arange(len(oldest))[:, None]
    elapsed = scene.ages[rows, oldest] - scene.ages[:, :1]
    pace = np.where(elapsed > _SHORTEST, scene.ages[:, :1] / np.maximum(elapsed, _SHORTEST), 0)
    last = scene.boxes[:, :1, :2]
    return np.asarray(last + (last - scene.boxes[rows, oldest, :2]) * pace[..., None], np.float32)


def _edges(boxes: NDArray[np.float32], size: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(N, 4)` distance to the left, right, upper and lower edge of the frame in box sizes, at most 2."""
    x, y, w, h = boxes.T
    H, W = size.T
    gaps = np.stack([(x - w / 2) / w, (W - x - w / 2) / w, (y - h / 2) / h, (H - y - h / 2) / h], axis=1)
    return np.asarray(np.clip(gaps, -1, 2), np.float32)


def _tracks(scene: Scenes, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    last, expected = scene.boxes[:, 0], scene.predicted
    gap = scene.ages[:, 0]
    H, W = scene.track_size.T
    columns = np.empty((len(unit), TRACK_COLUMNS), np.float32)
    columns[:, 0] = np.minimum(gap, 4)
    columns[:, 1] = np.log1p(10 * gap) / 2
    columns[:, 2] = np.log1p(scene.lifetime) / 2
    columns[:, 3] = scene.counts / HISTORY
    columns[:, 4] = scene.scores[:, 0]
    columns[:, 5] = scene.visibility[:, 0]
    columns[:, 6:8] = _squash(scene.velocity / unit[:, None] / 2) / 2
    columns[:, 8:10] = _squash((expected[:, :2] - last[:, :2]) / unit[:, None]) / 2
    columns[:, 10:12] = 2 * np.log(expected[:, 2:] / last[:, 2:])
    columns[:, 12] = 2 * expected[:, 0] / W - 1
    columns[:, 13] = 2 * expected[:, 1] / H - 1
    columns[:, 14] = np.log(unit / H) + 1.5
    columns[:, 15] = np.log(last[:, 3] / last[:, 2])
    columns[:, 16:20] = _edges(expected, scene.track_size)
    columns[:, 20] = scene.track_crowd
    columns[:, 21] = scene.visibility.mean(axis=1) if len(unit) else 0
    columns[:, 22:24] = 3 * (np.log(last[:, 2:]) - scene.usual[:, :2])
    columns[:, 24] = np.log1p(scene.usual[:, 2]) / 4
    return columns


def _detections(scene: Scenes) -> NDArray[np.float32]:
    boxes = scene.det_boxes
    x, y, w, h = boxes.T
    H, W = scene.det_size.T
    columns = np.empty((len(boxes), DET_COLUMNS), np.float32)
    columns[:, 0] = 2 * x / W - 1
    columns[:, 1] = 2 * y / H - 1
    columns[:, 2] = np.log(np.sqrt(w * h) / H) + 1.5
    columns[:, 3] = np.log(h / w)
    columns[:, 4] = scene.det_scores
    columns[:, 5] = scene.det_visibility
    columns[:, 6:10] = _edges(boxes, scene.det_size)
    columns[:, 10] = scene.det_crowd
    return columns


def _pairs(scene: Scenes, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    t, d = scene.pairs[:, 0], scene.pairs[:, 1]
    found, last, expected = scene.det_boxes[d], scene.boxes[t, 0], scene.predicted[t]
    size, gap = unit[t, None], scene.ages[t, 0]
    away = (found[:, :2] - expected[:, :2]) / size
    moved = (found[:, :2] - last[:, :2]) / size
    half = (found[:, 2:] - expected[:, 2:]) / 2 / size
    distance = np.sqrt((away * away).sum(axis=1))
    columns = np.empty((len(t), PAIR_COLUMNS), np.float32)
    columns[:, 0] = pair_iou(found, expected)
    columns[:, 1] = pair_iou(found, last)
    columns[:, 2:4] = away
    columns[:, 4:6] = moved
    columns[:, 6:8] = 3 * np.log(found[:, 2:] / last[:, 2:])
    columns[:, 8:10] = away - half
    columns[:, 10:12] = away + half
    columns[:, 12] = distance
    spread = (MEASUREMENT_SHARE + DRIFT_SHARE * gap) * expected[:, 3] / unit[t]
    columns[:, 13] = np.log1p((distance / spread) ** 2)  # squared Mahalanobis distance of the centre
    columns[:, 14] = np.arcsinh(2 * np.sqrt((moved * moved).sum(axis=1)) / np.maximum(gap, _SHORTEST)) / 2
    known = scene.cosine != COSINE_UNKNOWN
    columns[:, 15] = np.where(known, scene.cosine, 0)
    columns[:, 16] = known
    columns[:, 17] = scene.det_scores[d] - scene.scores[t, 0]
    columns[:, 18] = scene.det_visibility[d] - scene.visibility[t, 0]
    columns[:, 19:21] = 3 * (np.log(found[:, 2:]) - scene.usual[t, :2])
    places = (found[:, None, :2] - _extrapolated(scene)[t]) / size[:, None]
    columns[:, 21:] = places.reshape(len(t), 2 * len(WINDOWS))
    for part in (columns[:, 2:6], columns[:, 8:13], columns[:, 21:]):
        part[:] = _squash(part)
    return columns
