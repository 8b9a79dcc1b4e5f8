"""`TrackletMargins`: the learned scorer asked about finished tracks: does a later one go on where an earlier one ended?

What a running tracker asks of the first detection after a gap, once a video is tracked, can also be asked backwards in
time: is the earlier tracklet's last box what the later one comes from? Both answers together say more than either.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trackweave.association.model_inputs import COSINE_UNKNOWN, FrameBatch, model_inputs
from trackweave.association.scorer import LearnedScorer
from trackweave.association.track_memory import CLEAR_VISIBILITY, MEMORY_LENGTH, REFERENCE_WINDOW, SLOTS, centred
from trackweave.structures.tracks import Tracks

PAIRS_AT_ONCE = 2000
"""Pairs of one call of the model, about: its memory grows with them."""
VELOCITY_SECONDS, VELOCITY_BOXES = 0.6, 8
"""The motion of a tracklet's end is a line through so many boxes of so much time."""


class TrackletMargins:
    """Satisfies the protocol of stitching.

    Args:
        scorer: whose model is asked; its memory of running tracks is neither read nor changed.
        frame_rate: frames per second.
        size: `(H, W)` of the frames.
    """

    def __init__(self, scorer: LearnedScorer, frame_rate: float, size: tuple[int, int]) -> None:
        self._scorer, self._rate, self._size = scorer, frame_rate, size

    def margins(
        self,
        tracks: Tracks,
        visibility: NDArray[np.float32],
        pairs: NDArray[np.int64],
        camera: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float32]:
        """What the model says of pairs of tracklets.

        Args:
            tracks: N observations.
            visibility: `(N,)` of each, in [0, 1].
            pairs: `(P, 2)` ids, the earlier tracklet first; they share no frame.
            camera: `(F, 3, 3)` by frame index, maps pixels of one common image to those of the frame; None: it stood
                still.

        Returns:
            `(P, 2)` log-odds forwards and backwards in time, see `AssociationOutput.logit_margin`.

        Raises:
            ArtifactError: the model fails.
        """
        ends = _Ends(tracks, visibility, camera, self._rate, backwards=False)
        beginnings = _Ends(tracks, visibility, camera, self._rate, backwards=True)
        return np.stack(
            [
                self._one_way(ends, beginnings, pairs[:, 0], pairs[:, 1]),
                self._one_way(beginnings, ends, pairs[:, 1], pairs[:, 0]),
            ],
            axis=1,
        )

    def _one_way(
        self, known: _Ends, found: _Ends, track: NDArray[np.int64], other: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """`(P,)`: does `other`, whose nearest box is a detection, go on with `track`?"""
        margins = np.empty(len(track), np.float32)
        order = np.lexsort((track, other))
        for chosen in _parts(other[order]):
            rows = order[chosen]
            batch = known.batch(found, track[rows], other[rows], self._size)
            frame = int(found.frame[found.row(other[rows[:1]])[0], 0])
            margins[rows] = self._scorer.margins(model_inputs(batch), frame)
        return margins


def _parts(group: NDArray[np.int64]) -> Iterator[slice]:
    """Slices of about `PAIRS_AT_ONCE` rows that part no group of equal values."""
    start = 0
    while start < len(group):
        last = group[min(start + PAIRS_AT_ONCE, len(group)) - 1]
        stop = start + int(np.searchsorted(group[start:], last, side="right"))
        yield slice(start, stop)
        start = stop


class _Ends:
    """The last boxes of every tracklet, the newest first; or the first ones, for time that runs backwards."""

    def __init__(
        self,
        tracks: Tracks,
        visibility: NDArray[np.float32],
        camera: NDArray[np.float64] | None,
        frame_rate: float,
        *,
        backwards: bool,
    ) -> None:
        order = np.lexsort((tracks.frame if backwards else -tracks.frame, tracks.track_id))
        self.ids, start, count = np.unique(tracks.track_id[order], return_index=True, return_counts=True)
        step = np.arange(MEMORY_LENGTH)
        rows = order[start[:, None] + np.minimum(step, count[:, None] - 1)]  # the oldest one repeats
        self.counts = np.minimum(count, MEMORY_LENGTH)
        self.frame = tracks.frame[rows]
        self.boxes = centred(tracks.xyxy[rows].reshape(-1, 4)).reshape(*rows.shape, 4)
        self.score, self.visibility = tracks.score[rows], visibility[rows]
        length = np.abs(tracks.frame[order[start + count - 1]] - tracks.frame[order[start]])
        self.lifetime = (length / frame_rate).astype(np.float32)
        self._camera, self._rate = camera, frame_rate

    def row(self, ids: NDArray[np.int64]) -> NDArray[np.intp]:
        return np.searchsorted(self.ids, ids)

    def batch(
        self, found: _Ends, track: NDArray[np.int64], other: NDArray[np.int64], size: tuple[int, int]
    ) -> FrameBatch:
        """A frame of the model for each value of `other`, with every track that it is compared with."""
        t, d = self.row(track), found.row(np.unique(other))
        frame_of = np.searchsorted(np.unique(other), other)
        at = found.frame[d, 0][frame_of]
        boxes = self._seen_from(t, at)
        ages = (np.abs(at[:, None] - self.frame[t]) / self._rate).astype(np.float32)
        velocity = self._velocity(boxes, ages, self.counts[t])
        predicted = boxes[:, 0].copy()
        predicted[:, :2] += velocity * ages[:, :1]
        frame_size = np.array(size, np.float32)
        P, D = len(t), len(d)
        return FrameBatch(
            track_frame=frame_of,
            det_frame=np.arange(D),
            boxes=boxes[:, SLOTS],
            ages=ages[:, SLOTS],
            scores=self.score[t][:, SLOTS],
            visibility=self.visibility[t][:, SLOTS],
            counts=np.searchsorted(SLOTS, self.counts[t]).astype(np.int64),
            predicted=predicted,
            velocity=velocity,
            lifetime=self.lifetime[t] + ages[:, 0],
            reference_size=self._reference_size(boxes, t),
            track_overlap=np.zeros(P, np.float32),
            track_size=np.broadcast_to(frame_size, (P, 2)).copy(),
            det_boxes=found.boxes[d, 0],
            det_scores=found.score[d, 0],
            det_visibility=found.visibility[d, 0],
            det_overlap=np.zeros(D, np.float32),
            det_size=np.broadcast_to(frame_size, (D, 2)).copy(),
            pairs=np.stack([np.arange(P), frame_of], axis=1),
            cosine=np.full(P, COSINE_UNKNOWN, np.float32),
        )

    def _seen_from(self, rows: NDArray[np.intp], frame: NDArray[np.int64]) -> NDArray[np.float32]:
        """`(P, MEMORY_LENGTH, 4)` boxes of tracklets, where the camera of other frames would show them."""
        boxes = self.boxes[rows]
        if self._camera is None:
            return boxes
        motion = self._camera[frame][:, None] @ np.linalg.inv(self._camera[self.frame[rows]])
        centre = np.einsum("pkij,pkj->pki", motion[..., :2, :2], boxes[..., :2]) + motion[..., :2, 2]
        zoom = np.sqrt(np.abs(np.linalg.det(motion[..., :2, :2])))
        return np.concatenate([centre, boxes[..., 2:] * zoom[..., None]], axis=2).astype(np.float32)

    def _velocity(
        self, boxes: NDArray[np.float32], ages: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """`(P, 2)` pixels per second of the lines through the last boxes."""
        time = ages[:, :1] - ages[:, :VELOCITY_BOXES]
        used = (np.arange(VELOCITY_BOXES) < counts[:, None]) & (time >= -VELOCITY_SECONDS)
        weight = used / used.sum(axis=1, keepdims=True)
        time = time - (weight * time).sum(axis=1, keepdims=True)
        slope = ((weight * time)[..., None] * boxes[:, :VELOCITY_BOXES, :2]).sum(axis=1)
        spread = (weight * time**2).sum(axis=1, keepdims=True) + (0.02) ** 2  # a single box stands still
        return np.asarray(slope / spread, np.float32)

    def _reference_size(self, boxes: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """`(P, 3)` as `TrackMemory.reference_size`, over the boxes that are kept."""
        is_kept = np.arange(MEMORY_LENGTH) < self.counts[rows, None]
        clear = is_kept & (self.visibility[rows] >= CLEAR_VISIBILITY)
        count = clear.sum(axis=1)
        weight = np.where(count[:, None] > 0, clear, np.arange(MEMORY_LENGTH) == 0)
        size = (weight[..., None] * np.log(boxes[..., 2:])).sum(axis=1) / weight.sum(axis=1, keepdims=True)
        return np.column_stack([size, np.minimum(count, REFERENCE_WINDOW)]).astype(np.float32)
