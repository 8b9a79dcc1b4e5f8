"""`Scenes`: what a learned scorer is asked about one frame or many, as arrays in pixels and seconds.

Frames lie one after another in the same arrays, so that a batch of frames of any sizes costs no padding. A scene is
raw: augmentation changes boxes and times here, and `inputs.model_inputs` turns the result into numbers for the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.association.history import SLOTS, TrackHistory, centred
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
