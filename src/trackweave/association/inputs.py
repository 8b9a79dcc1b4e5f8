"""What the model of association is given: one module for training and for use.

Lengths are in units of the track's own size (the square root of its last box's area), times in seconds, so that a
model does not depend on resolution and depends on the frame rate only through time. A change of any column's meaning
needs a new `INPUT_VERSION`: a checkpoint is only used with the version that it was trained with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.association.history import HISTORY
from trackweave.association.scene import COSINE_UNKNOWN, DRIFT_SHARE, MEASUREMENT_SHARE, Scenes, pair_iou

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
