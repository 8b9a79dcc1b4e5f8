"""`TrackHistory`: the last observations of every live track, as a learned scorer remembers them.

The tracker itself keeps only a motion state. What it matched is seen by every observer, so the history is built beside
it, frame by frame, and in the same way from logged samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackweave.structures.assignment import AssignmentState

SLOTS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 28, 35, 44, 55)
"""Which of a track's observations a model is shown, counted back from the newest: every one of the last few, fewer of
those before, so that what a track was before a long occlusion is not forgotten in it."""
HISTORY = len(SLOTS)
"""Observations that a model is shown per track."""
REMEMBERED = SLOTS[-1] + 1
"""Observations that are remembered per track, the newest first."""
CLEAR = 0.8
"""Visibility from which an observation tells a track's usual size."""
USUAL_LENGTH = 50.0
"""Clear observations after which the usual size forgets older ones."""
ASSUMED_RATE = 30.0
"""Frames per second where a state does not tell its time."""


class TrackHistory:
    """Rows are tracks, in the order of the state that was shown last.

    `enter` a state before its tracks are judged, `learn` it when its decisions are known.

    Attributes:
        ids: `(T,)` int64.
        boxes: `(T, REMEMBERED, 4)` float32 centre x, centre y, width, height in pixels of the current frame: the
            camera's motion is applied where the tracker applied it. Places that were never filled repeat the oldest
            observation.
        times: `(T, REMEMBERED)` float64 seconds.
        scores: `(T, REMEMBERED)` float32.
        visibility: `(T, REMEMBERED)` float32.
        counts: `(T,)` int64 observations, at most `REMEMBERED`.
        usual: `(T, 3)` float32 logarithms of width and height as they are when nothing hides the track, and how many
            observations say so, at most `USUAL_LENGTH`; without one, the newest box's.
        now: time of the frame that was entered last, None before the first one.
        step: seconds between two frames, by the two that were entered last.
        frames: frames from the one before to the one that was entered last.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self.now: float | None = None
        self.step = 1.0 / ASSUMED_RATE
        self.frames = 1
        self._frame: int | None = None
        self._fill(0)

    def _fill(self, rows: int) -> None:
        self.ids = np.zeros(rows, np.int64)
        self.boxes = np.zeros((rows, REMEMBERED, 4), np.float32)
        self.times = np.zeros((rows, REMEMBERED))
        self.scores = np.zeros((rows, REMEMBERED), np.float32)
        self.visibility = np.ones((rows, REMEMBERED), np.float32)
        self.counts = np.zeros(rows, np.int64)
        self.usual = np.zeros((rows, 3), np.float32)

    def enter(self, state: AssignmentState) -> None:
        """Brings the rows into the state's order; tracks that are gone are forgotten.

        A track that was never seen here (the log began later, or left a frame out) gets one observation, worked out
        from its motion: its box at the last match. Entering a frame twice changes nothing.
        """
        if self._frame == int(state.frame):
            return
        time = state_time(state)
        if self._frame is not None and self.now is not None and int(state.frame) > self._frame and time > self.now:
            self.step = (time - self.now) / (int(state.frame) - self._frame)
        self.frames = 1 if self._frame is None else int(state.frame) - self._frame
        self._frame, self.now = int(state.frame), time
        if state.camera is not None and len(self.ids):
            self._follow(np.asarray(state.camera, np.float64))
        if np.array_equal(self.ids, state.track_ids):
            return
        order, known = _rows_of(self.ids, state.track_ids)
        taken = np.where(known, order, 0)
        if len(self.ids):
            for name in ("boxes", "times", "scores", "visibility", "counts", "usual"):
                setattr(self, name, getattr(self, name)[taken])
        else:
            self._fill(len(state.track_ids))
        self.ids = state.track_ids.copy()
        if not known.all():
            self._work_out(state, np.flatnonzero(~known))

    def learn(self, state: AssignmentState) -> None:
        """Takes in the frame's decisions: matched tracks get an observation, new tracks a row."""
        self.enter(state)
        assigned = state.assigned_track_ids
        if not len(assigned):
            return
        seen = state.detections
        boxes = centred(seen.xyxy)
        visible = np.ones(len(seen), np.float32) if seen.visibility is None else seen.visibility
        rows, known = _rows_of(self.ids, assigned)
        old, columns = rows[known], np.flatnonzero(known)
        values = ((self.boxes, boxes), (self.scores, seen.score), (self.visibility, visible))
        for array, found in values:
            array[old, 1:] = array[old, :-1]
            array[old, 0] = found[columns]
        self.times[old, 1:] = self.times[old, :-1]
        self.times[old, 0] = self.now
        self.counts[old] = np.minimum(self.counts[old] + 1, REMEMBERED)
        self.usual[old] = _usual(self.usual[old], boxes[columns], visible[columns])
        born = np.flatnonzero(~known & (assigned >= 0))
        if len(born):
            self._append(assigned[born], boxes[born], seen.score[born], visible[born])

    def _follow(self, camera: NDArray[np.float64]) -> None:
        """Moves every remembered box as the camera moved the picture."""
        matrix = camera[:, :2]
        zoom = float(np.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])))
        self.boxes[..., :2] = self.boxes[..., :2] @ matrix.T + camera[:, 2]
        self.boxes[..., 2:] *= zoom
        self.usual[:, :2] += np.float32(np.log(zoom))

    def _work_out(self, state: AssignmentState, rows: NDArray[np.int64]) -> None:
        gap = state.track_gap[rows].astype(np.float64)
        boxes = centred(state.track_boxes[rows])
        boxes[:, :2] -= (state.track_velocity[rows] * gap[:, None]).astype(np.float32)
        self.boxes[rows] = boxes[:, None]
        assert self.now is not None
        self.times[rows] = (self.now - gap * self.step)[:, None]
        self.scores[rows] = state.track_score[rows, None]
        self.visibility[rows] = state.track_visibility[rows, None]
        self.counts[rows] = 1
        self.usual[rows] = _usual(np.zeros((len(rows), 3), np.float32), boxes, state.track_visibility[rows])

    def _append(
        self,
        ids: NDArray[np.int64],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        visible: NDArray[np.float32],
    ) -> None:
        def spread(rows: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.repeat(rows[:, None].astype(np.float32), REMEMBERED, 1)

        self.ids = np.concatenate([self.ids, ids])
        self.boxes = np.concatenate([self.boxes, spread(boxes)])
        self.times = np.concatenate([self.times, np.full((len(ids), REMEMBERED), self.now)])
        self.scores = np.concatenate([self.scores, spread(scores)])
        self.visibility = np.concatenate([self.visibility, spread(visible)])
        self.counts = np.concatenate([self.counts, np.ones(len(ids), np.int64)])
        self.usual = np.concatenate([self.usual, _usual(np.zeros((len(ids), 3), np.float32), boxes, visible)])


def _usual(
    before: NDArray[np.float32], boxes: NDArray[np.float32], visible: NDArray[np.floating]
) -> NDArray[np.float32]:
    """The usual sizes after one more observation of each track."""
    clear = np.asarray(visible) >= CLEAR
    count = np.minimum(before[:, 2] + clear, USUAL_LENGTH)
    share = np.where(before[:, 2] == 0, 1.0, clear / np.maximum(count, 1))
    size = before[:, :2] + share[:, None] * (np.log(boxes[:, 2:]) - before[:, :2])
    return np.concatenate([size, count[:, None]], axis=1).astype(np.float32)


def state_time(state: AssignmentState) -> float:
    """Seconds at which a frame was taken; by its index at 30 frames per second where nobody tells."""
    return int(state.frame) / ASSUMED_RATE if state.time is None else float(state.time)


def centred(xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(N, 4)` float32 centre x, centre y, width, height; no side is shorter than a hundredth of a pixel."""
    size = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0.01)
    return np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, size], axis=1).astype(np.float32)


def _rows_of(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each wanted id is among `ids`, and whether it is."""
    if not len(ids):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids[order], wanted), len(ids) - 1)
    rows = order[place]
    return rows, ids[rows] == wanted
