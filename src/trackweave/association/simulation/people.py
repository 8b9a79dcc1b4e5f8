"""`People`: the boxes of everybody in a recorded video, by the truth or by what a tracker logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.association.simulation.occlusion import sightings
from trackweave.association.simulation.scene import Scene
from trackweave.formats.motchallenge import GroundTruth
from trackweave.structures.assignment import AssignmentState

LONGEST_GAP = 2.0
"""Seconds without a box through which somebody is taken to have been there, hidden."""
SHORTEST = 2.0
"""Seconds of boxes below which a track tells too little."""


@dataclass(frozen=True, eq=False)
class People:
    """N people, or other objects, on F frames.

    Attributes:
        size: `(H, W)` pixels.
        fps: frames per second.
        boxes: `(F, N, 4)` float64 xyxy pixels.
        there: `(F, N)` bool.
        track_id: `(N,)` int64.
        class_id: `(N,)` int64, −1 = not said.
        camera: `(F, 2, 3)` float64, how the picture moved since the frame before; None: nobody knows.
    """

    size: tuple[int, int]
    fps: float
    boxes: NDArray[np.float64]
    there: NDArray[np.bool_]
    track_id: NDArray[np.int64]
    class_id: NDArray[np.int64]
    camera: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of_truth(
        cls,
        truth: GroundTruth,
        *,
        size: tuple[int, int],
        fps: float,
        length: int,
        camera: NDArray[np.float64] | None = None,
    ) -> People:
        """Those whose boxes count; `camera` `(≤ F, 2, 3)`, the frames that it leaves out stand still."""
        truth = truth[truth.counts & (truth.track_id >= 0) & (truth.frame < length)]
        ids, column = np.unique(truth.track_id, return_inverse=True)
        boxes, there = np.zeros((length, len(ids), 4)), np.zeros((length, len(ids)), np.bool_)
        boxes[truth.frame, column], there[truth.frame, column] = truth.xyxy, True
        class_id = np.full(len(ids), -1, np.int64)
        class_id[column] = truth.class_id
        motion: NDArray[np.float64] | None = None
        if camera is not None:
            motion = np.tile(np.eye(2, 3), (length, 1, 1))
            motion[: len(camera)] = camera[:length]
        return cls(size, fps, boxes, there, ids, class_id, motion)

    @classmethod
    def of_log(cls, states: Sequence[AssignmentState], *, fps: float) -> People | None:
        """The tracks that a log tells of, frame after frame; gaps are filled along a line. None: there are none.

        A track may hold two people where its tracker has mixed them up. Here it is one person all the same: somebody
        who moves like the first and then like the second. That is wrong about how people move, which does less harm
        than labels that are wrong about who is who.
        """
        if not states or states[0].size is None:
            return None
        first, length = int(states[0].frame), int(states[-1].frame) - int(states[0].frame) + 1
        motion, told = np.tile(np.eye(2, 3), (length, 1, 1)), False
        seen: dict[int, dict[int, NDArray[np.float32]]] = {}
        for state in states:
            frame = int(state.frame) - first
            if state.camera is not None:
                motion[frame], told = state.camera, True
            for track, box in zip(state.assigned_track_ids.tolist(), state.detections.xyxy, strict=True):
                if track >= 0:
                    seen.setdefault(track, {})[frame] = box
        parts = [
            (track, part)
            for track, found in seen.items()
            for part in _parts(found, LONGEST_GAP * fps)
            if len(part) >= SHORTEST * fps
        ]
        if not parts:
            return None
        boxes, there = np.zeros((length, len(parts), 4)), np.zeros((length, len(parts)), np.bool_)
        for column, (_, part) in enumerate(parts):
            known = np.array(sorted(part))
            rows = np.arange(known[0], known[-1] + 1)
            values = np.array([part[frame] for frame in known.tolist()])
            boxes[rows, column] = np.stack([np.interp(rows, known, side) for side in values.T], axis=1)
            there[rows, column] = True
        number = np.arange(1, len(parts) + 1, dtype=np.int64)
        return cls(states[0].size, fps, boxes, there, number, np.full(len(parts), -1), motion if told else None)

    def scene(self) -> Scene:
        """What a camera sees of them: what stands lower in the picture hides what stands higher."""
        motion = np.tile(np.eye(2, 3), (len(self), 1, 1)) if self.camera is None else self.camera
        nobody = np.zeros(len(self.track_id), np.bool_)
        seen = sightings(self.boxes, -self.boxes[..., 3], self.there, nobody, self.size)
        return Scene(self.size, 1 / self.fps, self.boxes, self.there, seen, self.track_id, self.class_id, motion)


def _parts(found: dict[int, NDArray[np.float32]], longest: float) -> list[dict[int, NDArray[np.float32]]]:
    """A track's boxes by frame, cut where it was away for longer."""
    parts: list[dict[int, NDArray[np.float32]]] = []
    last = -np.inf
    for frame in sorted(found):
        if frame - last > longest:
            parts.append({})
        parts[-1][frame] = found[frame]
        last = frame
    return parts
