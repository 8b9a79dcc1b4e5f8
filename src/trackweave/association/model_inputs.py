"""The inputs of the association model: `FrameBatch` in pixels and seconds, `model_inputs` as numbers without units.

One module serves training and use. The frames of a batch lie one after another in the same arrays, so that frames of
any sizes need no padding. Augmentation changes boxes and times of a `FrameBatch`; `model_inputs` then computes all
features from it. There lengths are in units of the track's own size (the square root of its last box's area) and times
in seconds, so that a model does not depend on resolution and depends on the frame rate only through time. A change of
any column's meaning needs a new `INPUT_VERSION`: a checkpoint is only used with the version that it was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.association.track_memory import HISTORY_LENGTH, SLOTS, TrackMemory, centred
from trackweave.structures.assignment import AssignmentState

INPUT_VERSION = 2
COSINE_UNKNOWN = 2.0
"""Stands for the cosine of a pair of which one side has no embedding."""
VELOCITY_WINDOWS = (1, 3, 6, 9)
"""Observations over which a track's mean velocity is measured, to extrapolate where it is now."""
MEASUREMENT_SHARE, DRIFT_SHARE = 0.1, 1.0
"""Standard deviation of a centre about its prediction, as shares of the box's height: at once, and per second without a
match."""
_MIN_SECONDS = 1e-3


class ModelColumns:
    """Columns of the model's inputs, in order; those of a logged sample are `samples.SampleColumns`.

    Attributes:
        HISTORY: one observation of a track against the newest one: place and size, age, score, visibility, velocity to
            the next newer one, and 1 (0 in rows that only fill up).
        TRACKS: a track: time since its last match, age, observations, velocity, where the motion model predicts it and
            how it differs from the last box, distance to the frame's edges, overlap with other tracks, reference size.
        DETECTIONS: a detection: place, size, score, visibility, distance to the frame's edges, overlap with others.
        PAIRS: a detection against the prediction and the last box of a track, against its reference size, and against
            its extrapolations over `VELOCITY_WINDOWS`.
    """

    HISTORY = ("dx", "dy", "log_w", "log_h", "age", "log_age", "score", "visibility", "vx", "vy", "present")
    TRACKS = (
        "gap", "log_gap", "log_lifetime", "observations", "score", "visibility", "vx", "vy", "predicted_dx",
        "predicted_dy", "predicted_log_w", "predicted_log_h", "predicted_x", "predicted_y", "log_size", "log_aspect",
        "left", "right", "top", "bottom", "overlap", "mean_visibility", "reference_log_w", "reference_log_h",
        "log_reference_count",
    )  # fmt: skip
    DETECTIONS = (
        "x", "y", "log_size", "log_aspect", "score", "visibility", "left", "right", "top", "bottom", "overlap",
    )  # fmt: skip
    PAIRS = (
        "predicted_iou", "last_iou", "predicted_dx", "predicted_dy", "last_dx", "last_dy", "log_w", "log_h", "dx1",
        "dy1", "dx2", "dy2", "distance", "log_mahalanobis", "speed", "cosine", "has_cosine", "score_change",
        "visibility_change", "reference_log_w", "reference_log_h",
        *(f"extrapolated_{window}_d{axis}" for window in VELOCITY_WINDOWS for axis in "xy"),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """F frames with T tracks, D detections and P pairs together; boxes are centre x, centre y, width, height.

    Attributes:
        track_frame: `(T,)` int64, the frame of each track in the batch, ascending.
        det_frame: `(D,)` int64, the frame of each detection in the batch, ascending.
        boxes: `(T, K, 4)` float32 pixels, last observations, the newest first; K is `HISTORY_LENGTH`.
        ages: `(T, K)` float32, seconds since each observation.
        scores: `(T, K)` float32 of the observed detections.
        visibility: `(T, K)` float32 of them.
        counts: `(T,)` int64 valid observations; the others repeat the oldest.
        predicted: `(T, 4)` float32 pixels, where the motion model predicts the track.
        velocity: `(T, 2)` float32 pixels per second.
        lifetime: `(T,)` float32 seconds since the track began.
        reference_size: `(T, 3)` float32, see `TrackMemory.reference_size`.
        track_overlap: `(T,)` float32, largest IoU with another track's predicted box.
        track_size: `(T, 2)` float32, height and width of the frame.
        det_boxes: `(D, 4)` float32 pixels.
        det_scores: `(D,)` float32.
        det_visibility: `(D,)` float32.
        det_overlap: `(D,)` float32, largest IoU with another detection.
        det_size: `(D, 2)` float32, height and width of the frame.
        pairs: `(P, 2)` int64 rows of tracks and detections that the gates let through, sorted.
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
    reference_size: NDArray[np.float32]
    track_overlap: NDArray[np.float32]
    track_size: NDArray[np.float32]
    det_boxes: NDArray[np.float32]
    det_scores: NDArray[np.float32]
    det_visibility: NDArray[np.float32]
    det_overlap: NDArray[np.float32]
    det_size: NDArray[np.float32]
    pairs: NDArray[np.int64]
    cosine: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def frame_count(self) -> int:
        """F, from the last frame with a track or a detection; 1 for a batch without either."""
        last = [int(rows[-1]) for rows in (self.track_frame, self.det_frame) if len(rows)]
        return 1 + max(last, default=0)

    @classmethod
    def concat(cls, batches: Sequence[FrameBatch]) -> FrameBatch:
        """Batches one after another; frame numbers and rows of pairs are shifted.

        Raises:
            ValueError: no batches.
        """
        if not batches:
            raise ValueError("no frames to concatenate")
        joined = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in batches[0].arrays()}
        frames = np.cumsum([0] + [batch.frame_count for batch in batches[:-1]])
        tracks = np.cumsum([0] + [len(batch.counts) for batch in batches[:-1]])
        detections = np.cumsum([0] + [len(batch.det_scores) for batch in batches[:-1]])
        joined["track_frame"] += np.repeat(frames, [len(batch.counts) for batch in batches])
        joined["det_frame"] += np.repeat(frames, [len(batch.det_scores) for batch in batches])
        pairs = [len(batch.pairs) for batch in batches]
        joined["pairs"] = joined["pairs"] + np.stack([np.repeat(tracks, pairs), np.repeat(detections, pairs)], axis=1)
        return cls(**joined)


def frame_batch(state: AssignmentState, memory: TrackMemory, size: tuple[int, int]) -> FrameBatch:
    """One frame as a batch; its assignment is not needed.

    Args:
        state: the frame; the memory enters it where it has not yet.
        memory: observations of its tracks.
        size: `(H, W)` in pixels.
    """
    memory.enter(state)
    T, detections = len(state.track_ids), state.detections
    D, time = len(detections), float(memory.time or 0.0)
    pairs = np.argwhere(state.allowed)
    predicted, det_boxes = centred(state.track_boxes), centred(detections.xyxy)
    frame_size = np.array(size, np.float32)
    interval = memory.frame_interval
    visibility = detections.visibility
    return FrameBatch(
        track_frame=np.zeros(T, np.int64),
        det_frame=np.zeros(D, np.int64),
        boxes=memory.boxes[:T, SLOTS],
        ages=np.clip(time - memory.times[:T, SLOTS], 0, 1e6).astype(np.float32),
        scores=memory.scores[:T, SLOTS],
        visibility=memory.visibility[:T, SLOTS],
        counts=np.searchsorted(SLOTS, memory.counts[:T]).astype(np.int64),
        predicted=predicted,
        velocity=(state.track_velocity / interval).astype(np.float32),
        lifetime=(state.track_age * interval).astype(np.float32),
        reference_size=memory.reference_size[:T].copy(),
        track_overlap=_largest_overlap(predicted),
        track_size=np.broadcast_to(frame_size, (T, 2)).copy(),
        det_boxes=det_boxes,
        det_scores=np.asarray(detections.score, np.float32).copy(),
        det_visibility=np.ones(D, np.float32) if visibility is None else visibility.astype(np.float32),
        det_overlap=_largest_overlap(det_boxes),
        det_size=np.broadcast_to(frame_size, (D, 2)).copy(),
        pairs=pairs,
        cosine=_cosine(state, pairs),
    )


def pair_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(P,)` IoU of boxes `(P, 4)` in pairs, both centre and size.

    >>> one, other = np.array([[5, 5, 10, 10]], np.float32), np.array([[10, 5, 10, 10]], np.float32)
    >>> round(float(pair_iou(one, other)[0]), 4)
    0.3333
    """
    distance = np.abs(a[..., :2] - b[..., :2])
    sides = np.minimum(np.minimum(a[..., 2:], b[..., 2:]), (a[..., 2:] + b[..., 2:]) / 2 - distance)
    intersection = np.maximum(sides, 0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - intersection
    return np.asarray(intersection / np.maximum(union, 1e-9), np.float32)


def _largest_overlap(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
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
    valid = np.isfinite(lengths) & (lengths > 0)
    product = np.einsum("pe,pe->p", a, b)
    return np.where(valid, product / np.where(valid, lengths, 1), COSINE_UNKNOWN).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """The model's arguments for T tracks, D detections and P pairs; all finite.

    Attributes:
        history: `(T, K, 11)` float32, columns `ModelColumns.HISTORY`, the newest observation first.
        tracks: `(T, 25)` float32, columns `ModelColumns.TRACKS`.
        detections: `(D, 11)` float32, columns `ModelColumns.DETECTIONS`.
        pairs: `(P, 2)` int64 rows of tracks and detections.
        pair_features: `(P, 29)` float32, columns `ModelColumns.PAIRS`.
    """

    history: NDArray[np.float32]
    tracks: NDArray[np.float32]
    detections: NDArray[np.float32]
    pairs: NDArray[np.int64]
    pair_features: NDArray[np.float32]


def model_inputs(batch: FrameBatch) -> ModelInputs:
    """Computes the model's inputs from frames."""
    last = batch.boxes[:, 0]
    unit = np.sqrt(np.maximum(last[:, 2] * last[:, 3], 1e-4)).astype(np.float32)
    return ModelInputs(
        _finite(_history(batch, unit)),
        _finite(_tracks(batch, unit)),
        _finite(_detections(batch)),
        batch.pairs,
        _finite(_pairs(batch, unit)),
    )


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    if np.isfinite(values.sum()):  # a finite sum has finite terms, and costs a tenth of a check of each
        return values
    return np.nan_to_num(values, copy=False, nan=0.0, posinf=10.0, neginf=-10.0)


def _squash(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Nearly linear around 0, logarithmic for large values."""
    return np.asarray(np.arcsinh(values * np.float32(4)), np.float32)


def _history(batch: FrameBatch, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(T, K, 11)`: each observation against the newest one; rows beyond `counts` are zeros."""
    T, K = batch.ages.shape
    columns = np.zeros((T, K, len(ModelColumns.HISTORY)), np.float32)
    boxes, ages = batch.boxes, batch.ages
    columns[..., :2] = _squash((boxes[..., :2] - boxes[:, :1, :2]) / unit[:, None, None]) / 2
    columns[..., 2:4] = 2 * np.log(boxes[..., 2:] / boxes[:, :1, 2:])
    columns[..., 4] = np.minimum(ages, 4)
    columns[..., 5] = np.log1p(10 * ages) / 2
    columns[..., 6] = batch.scores
    columns[..., 7] = batch.visibility
    elapsed = np.maximum(ages[:, 1:] - ages[:, :-1], _MIN_SECONDS)
    steps = (boxes[:, :-1, :2] - boxes[:, 1:, :2]) / unit[:, None, None] / elapsed[..., None]
    columns[:, :-1, 8:10] = _squash(steps / 2) / 2
    columns[..., 10] = 1
    columns[np.arange(K) >= batch.counts[:, None]] = 0
    return columns


def _extrapolated(batch: FrameBatch) -> NDArray[np.float32]:
    """`(T, windows, 2)` pixels: centres extrapolated with the mean velocity over the last observations."""
    oldest = np.minimum(VELOCITY_WINDOWS, batch.counts[:, None] - 1)
    rows = np.arange(len(oldest))[:, None]
    elapsed = batch.ages[rows, oldest] - batch.ages[:, :1]
    ratio = np.where(elapsed > _MIN_SECONDS, batch.ages[:, :1] / np.maximum(elapsed, _MIN_SECONDS), 0)
    last = batch.boxes[:, :1, :2]
    return np.asarray(last + (last - batch.boxes[rows, oldest, :2]) * ratio[..., None], np.float32)


def _edge_distances(boxes: NDArray[np.float32], size: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(N, 4)` distance to the left, right, upper and lower edge of the frame in box sizes, between −1 and 2."""
    x, y, w, h = boxes.T
    H, W = size.T
    distances = np.stack([(x - w / 2) / w, (W - x - w / 2) / w, (y - h / 2) / h, (H - y - h / 2) / h], axis=1)
    return np.asarray(np.clip(distances, -1, 2), np.float32)


def _tracks(batch: FrameBatch, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    last, predicted = batch.boxes[:, 0], batch.predicted
    gap = batch.ages[:, 0]
    H, W = batch.track_size.T
    columns = np.empty((len(unit), len(ModelColumns.TRACKS)), np.float32)
    columns[:, 0] = np.minimum(gap, 4)
    columns[:, 1] = np.log1p(10 * gap) / 2
    columns[:, 2] = np.log1p(batch.lifetime) / 2
    columns[:, 3] = batch.counts / HISTORY_LENGTH
    columns[:, 4] = batch.scores[:, 0]
    columns[:, 5] = batch.visibility[:, 0]
    columns[:, 6:8] = _squash(batch.velocity / unit[:, None] / 2) / 2
    columns[:, 8:10] = _squash((predicted[:, :2] - last[:, :2]) / unit[:, None]) / 2
    columns[:, 10:12] = 2 * np.log(predicted[:, 2:] / last[:, 2:])
    columns[:, 12] = 2 * predicted[:, 0] / W - 1
    columns[:, 13] = 2 * predicted[:, 1] / H - 1
    columns[:, 14] = np.log(unit / H) + 1.5
    columns[:, 15] = np.log(last[:, 3] / last[:, 2])
    columns[:, 16:20] = _edge_distances(predicted, batch.track_size)
    columns[:, 20] = batch.track_overlap
    columns[:, 21] = batch.visibility.mean(axis=1) if len(unit) else 0
    columns[:, 22:24] = 3 * (np.log(last[:, 2:]) - batch.reference_size[:, :2])
    columns[:, 24] = np.log1p(batch.reference_size[:, 2]) / 4
    return columns


def _detections(batch: FrameBatch) -> NDArray[np.float32]:
    boxes = batch.det_boxes
    x, y, w, h = boxes.T
    H, W = batch.det_size.T
    columns = np.empty((len(boxes), len(ModelColumns.DETECTIONS)), np.float32)
    columns[:, 0] = 2 * x / W - 1
    columns[:, 1] = 2 * y / H - 1
    columns[:, 2] = np.log(np.sqrt(w * h) / H) + 1.5
    columns[:, 3] = np.log(h / w)
    columns[:, 4] = batch.det_scores
    columns[:, 5] = batch.det_visibility
    columns[:, 6:10] = _edge_distances(boxes, batch.det_size)
    columns[:, 10] = batch.det_overlap
    return columns


def _pairs(batch: FrameBatch, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    t, d = batch.pairs[:, 0], batch.pairs[:, 1]
    detected, last, predicted = batch.det_boxes[d], batch.boxes[t, 0], batch.predicted[t]
    size, gap = unit[t, None], batch.ages[t, 0]
    offset = (detected[:, :2] - predicted[:, :2]) / size
    displacement = (detected[:, :2] - last[:, :2]) / size
    growth = (detected[:, 2:] - predicted[:, 2:]) / 2 / size
    distance = np.sqrt((offset * offset).sum(axis=1))
    columns = np.empty((len(t), len(ModelColumns.PAIRS)), np.float32)
    columns[:, 0] = pair_iou(detected, predicted)
    columns[:, 1] = pair_iou(detected, last)
    columns[:, 2:4] = offset
    columns[:, 4:6] = displacement
    columns[:, 6:8] = 3 * np.log(detected[:, 2:] / last[:, 2:])
    columns[:, 8:10] = offset - growth
    columns[:, 10:12] = offset + growth
    columns[:, 12] = distance
    spread = (MEASUREMENT_SHARE + DRIFT_SHARE * gap) * predicted[:, 3] / unit[t]
    columns[:, 13] = np.log1p((distance / spread) ** 2)  # squared Mahalanobis distance of the centre
    columns[:, 14] = (
        np.arcsinh(2 * np.sqrt((displacement * displacement).sum(axis=1)) / np.maximum(gap, _MIN_SECONDS)) / 2
    )
    has_cosine = batch.cosine != COSINE_UNKNOWN
    columns[:, 15] = np.where(has_cosine, batch.cosine, 0)
    columns[:, 16] = has_cosine
    columns[:, 17] = batch.det_scores[d] - batch.scores[t, 0]
    columns[:, 18] = batch.det_visibility[d] - batch.visibility[t, 0]
    columns[:, 19:21] = 3 * (np.log(detected[:, 2:]) - batch.reference_size[t, :2])
    extrapolated = (detected[:, None, :2] - _extrapolated(batch)[t]) / size[:, None]
    columns[:, 21:] = extrapolated.reshape(len(t), 2 * len(VELOCITY_WINDOWS))
    for part in (columns[:, 2:6], columns[:, 8:13], columns[:, 21:]):
        part[:] = _squash(part)
    return columns
