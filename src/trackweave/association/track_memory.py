"""`TrackMemory`: the last observations of every live track, from which a learned scorer computes the model's inputs.

The tracker itself keeps only a motion state. Every observer learns what it matched, so the memory is built beside the
tracker, frame by frame, and in the same way from logged samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackweave.structures.assignment import AssignmentState

SLOTS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 28, 35, 44, 55)
"""Which of a track's observations the model is given, counted back from the newest: all of the last few and fewer of
those before, so that a long occlusion does not push out what the track was before it."""
HISTORY_LENGTH = len(SLOTS)
"""Observations that the model is given per track."""
MEMORY_LENGTH = SLOTS[-1] + 1
"""Observations that are kept per track, the newest first."""
CLEAR_VISIBILITY = 0.8
"""Visibility from which an observation counts towards a track's reference size."""
REFERENCE_WINDOW = 50.0
"""Unoccluded observations after which the reference size forgets older ones."""
DEFAULT_FPS = 30.0
"""Frames per second of states without a time."""


class TrackMemory:
    """Rows are tracks, in the order of the state that was entered last.

    Call `enter` with a state before its tracks are scored, and `update` when its assignment is known.

    Attributes:
        ids: `(T,)` int64.
        boxes: `(T, MEMORY_LENGTH, 4)` float32 centre x, centre y, width, height in pixels of the current frame: the
            camera's motion is applied where the tracker applied it. Entries beyond `counts` repeat the oldest
            observation.
        times: `(T, MEMORY_LENGTH)` float64 seconds.
        scores: `(T, MEMORY_LENGTH)` float32.
        visibility: `(T, MEMORY_LENGTH)` float32.
        counts: `(T,)` int64 observations, at most `MEMORY_LENGTH`.
        reference_size: `(T, 3)` float32 logarithms of the track's width and height where nothing occludes it, and how
            many observations they are the mean of, at most `REFERENCE_WINDOW`; with 0, those of the newest box.
        time: seconds of the frame that was entered last, None before the first one.
        frame_interval: seconds between two consecutive frames, from the two that were entered last.
        frame_step: frames from the one before to the one that was entered last; 1 before there are two.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self.time: float | None = None
        self.frame_interval = 1.0 / DEFAULT_FPS
        self.frame_step = 1
        self._frame: int | None = None
        self._allocate(0)

    def _allocate(self, rows: int) -> None:
        self.ids = np.zeros(rows, np.int64)
        self.boxes = np.zeros((rows, MEMORY_LENGTH, 4), np.float32)
        self.times = np.zeros((rows, MEMORY_LENGTH))
        self.scores = np.zeros((rows, MEMORY_LENGTH), np.float32)
        self.visibility = np.ones((rows, MEMORY_LENGTH), np.float32)
        self.counts = np.zeros(rows, np.int64)
        self.reference_size = np.zeros((rows, 3), np.float32)

    def enter(self, state: AssignmentState) -> None:
        """Brings the rows into the state's order; tracks that it does not have are forgotten.

        A track without a row (the log began later, or left a frame out) gets one observation, extrapolated from its
        motion: its box at the last match. Entering a frame twice changes nothing.
        """
        if self._frame == int(state.frame):
            return
        time = state_time(state)
        if self._frame is not None and self.time is not None and int(state.frame) > self._frame and time > self.time:
            self.frame_interval = (time - self.time) / (int(state.frame) - self._frame)
        self.frame_step = 1 if self._frame is None else int(state.frame) - self._frame
        self._frame, self.time = int(state.frame), time
        if state.camera is not None and len(self.ids):
            self._apply_camera_motion(np.asarray(state.camera, np.float64))
        if np.array_equal(self.ids, state.track_ids):
            return
        rows, has_row = _rows_of(self.ids, state.track_ids)
        rows = np.where(has_row, rows, 0)
        if len(self.ids):
            for name in ("boxes", "times", "scores", "visibility", "counts", "reference_size"):
                setattr(self, name, getattr(self, name)[rows])
        else:
            self._allocate(len(state.track_ids))
        self.ids = state.track_ids.copy()
        if not has_row.all():
            self._extrapolate(state, np.flatnonzero(~has_row))

    def update(self, state: AssignmentState) -> None:
        """Adds the frame's assignment: matched tracks get an observation, new tracks a row."""
        self.enter(state)
        assigned = state.assigned_track_ids
        if not len(assigned):
            return
        detections = state.detections
        boxes = centred(detections.xyxy)
        visibility = np.ones(len(detections), np.float32) if detections.visibility is None else detections.visibility
        rows, has_row = _rows_of(self.ids, assigned)
        matched, columns = rows[has_row], np.flatnonzero(has_row)
        values = ((self.boxes, boxes), (self.scores, detections.score), (self.visibility, visibility))
        for array, observed in values:
            array[matched, 1:] = array[matched, :-1]
            array[matched, 0] = observed[columns]
        self.times[matched, 1:] = self.times[matched, :-1]
        self.times[matched, 0] = self.time
        self.counts[matched] = np.minimum(self.counts[matched] + 1, MEMORY_LENGTH)
        self.reference_size[matched] = _updated_reference_size(
            self.reference_size[matched], boxes[columns], visibility[columns]
        )
        new = np.flatnonzero(~has_row & (assigned >= 0))
        if len(new):
            self._append(assigned[new], boxes[new], detections.score[new], visibility[new])

    def _apply_camera_motion(self, camera: NDArray[np.float64]) -> None:
        """Moves every box as the camera moved the image."""
        matrix = camera[:, :2]
        zoom = float(np.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])))
        self.boxes[..., :2] = self.boxes[..., :2] @ matrix.T + camera[:, 2]
        self.boxes[..., 2:] *= zoom
        self.reference_size[:, :2] += np.float32(np.log(zoom))

    def _extrapolate(self, state: AssignmentState, rows: NDArray[np.int64]) -> None:
        """Fills rows with one observation each: the track's box at its last match, from the predicted one."""
        gap = state.track_gap[rows].astype(np.float64)
        boxes = centred(state.track_boxes[rows])
        boxes[:, :2] -= (state.track_velocity[rows] * gap[:, None]).astype(np.float32)
        self.boxes[rows] = boxes[:, None]
        assert self.time is not None
        self.times[rows] = (self.time - gap * self.frame_interval)[:, None]
        self.scores[rows] = state.track_score[rows, None]
        self.visibility[rows] = state.track_visibility[rows, None]
        self.counts[rows] = 1
        self.reference_size[rows] = _updated_reference_size(
            np.zeros((len(rows), 3), np.float32), boxes, state.track_visibility[rows]
        )

    def _append(
        self,
        ids: NDArray[np.int64],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        visibility: NDArray[np.float32],
    ) -> None:
        def repeated(rows: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.repeat(rows[:, None].astype(np.float32), MEMORY_LENGTH, 1)

        self.ids = np.concatenate([self.ids, ids])
        self.boxes = np.concatenate([self.boxes, repeated(boxes)])
        self.times = np.concatenate([self.times, np.full((len(ids), MEMORY_LENGTH), self.time)])
        self.scores = np.concatenate([self.scores, repeated(scores)])
        self.visibility = np.concatenate([self.visibility, repeated(visibility)])
        self.counts = np.concatenate([self.counts, np.ones(len(ids), np.int64)])
        self.reference_size = np.concatenate(
            [self.reference_size, _updated_reference_size(np.zeros((len(ids), 3), np.float32), boxes, visibility)]
        )


def _updated_reference_size(
    current: NDArray[np.float32], boxes: NDArray[np.float32], visibility: NDArray[np.floating]
) -> NDArray[np.float32]:
    """`(N, 3)` reference sizes after one more observation of each track: running means over the unoccluded ones."""
    clear = np.asarray(visibility) >= CLEAR_VISIBILITY
    count = np.minimum(current[:, 2] + clear, REFERENCE_WINDOW)
    weight = np.where(current[:, 2] == 0, 1.0, clear / np.maximum(count, 1))
    size = current[:, :2] + weight[:, None] * (np.log(boxes[:, 2:]) - current[:, :2])
    return np.concatenate([size, count[:, None]], axis=1).astype(np.float32)


def state_time(state: AssignmentState) -> float:
    """Seconds at which a frame was taken; its index at `DEFAULT_FPS` where the state has no time."""
    return int(state.frame) / DEFAULT_FPS if state.time is None else float(state.time)


def centred(xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(N, 4)` float32 centre x, centre y, width, height; no side is shorter than a hundredth of a pixel."""
    size = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0.01)
    return np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, size], axis=1).astype(np.float32)


def _rows_of(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows of the wanted ids in `ids`, and whether each is there; the row of one that is not is arbitrary."""
    if not len(ids):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    order = np.argsort(ids, kind="stable")
    position = np.minimum(np.searchsorted(ids[order], wanted), len(ids) - 1)
    rows = order[position]
    return rows, ids[rows] == wanted
