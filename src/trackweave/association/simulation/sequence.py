"""`SimulatedSequence`: the frames of one simulated video: detections, and the truth behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trackweave.association.data_collection import GT_COLUMN
from trackweave.association.simulation.detector import Reports
from trackweave.association.simulation.json_record import SequenceSettings
from trackweave.association.simulation.scene import Scene
from trackweave.formats.motchallenge import GroundTruth
from trackweave.structures.detections import Detections


@dataclass(frozen=True, eq=False)
class SimulatedSequence:
    """F frames with D detections and N true boxes.

    Attributes:
        name: unique by settings and seed.
        settings: what it was made from.
        seed: and from which random numbers.
        size: `(H, W)` pixels.
        fps: frames per second.
        frames: `(F,)` int64, indices of the frames that were not skipped, ascending.
        times: `(F,)` float64 seconds.
        camera: `(F, 2, 3)` float64, pixels of the frame before → of this one; None = withheld.
        frame: `(D,)` int64 index of each detection's frame, ascending; within a frame scores fall.
        xyxy: `(D, 4)` float32 pixels.
        score: `(D,)` float32.
        class_id: `(D,)` int64: 1 person, 3 car, 4 cyclist.
        visibility: `(D,)` float32, the truly visible share of the object; 1 where there is none.
        embedding: `(D, E)` float32, or None.
        gt_track_ids: `(D,)` int64, the object that a detection shows; −1 = a false positive.
        truth: the true boxes.
    """

    name: str
    settings: SequenceSettings
    seed: int
    size: tuple[int, int]
    fps: float
    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    camera: NDArray[np.float64] | None
    frame: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int64]
    visibility: NDArray[np.float32]
    embedding: NDArray[np.float32] | None
    gt_track_ids: NDArray[np.int64]
    truth: GroundTruth

    def __len__(self) -> int:
        return len(self.frames)

    def rows(self, frame: int) -> slice:
        """Where the detections of a frame are in the columns."""
        start, stop = np.searchsorted(self.frame, (frame, frame + 1))
        return slice(int(start), int(stop))

    def at(self, frame: int) -> Detections:
        """The detections of a frame by its index, with the column `gt_track_id`."""
        rows = self.rows(frame)
        return Detections(
            self.xyxy[rows],
            self.score[rows],
            self.class_id[rows],
            embedding=None if self.embedding is None else self.embedding[rows],
            visibility=self.visibility[rows],
            data={GT_COLUMN: self.gt_track_ids[rows]},
        )

    def __iter__(self) -> Iterator[tuple[int, float, NDArray[np.float64] | None, Detections]]:
        """Frame index, seconds, camera matrix and detections, frame by frame."""
        for place, (frame, time) in enumerate(zip(self.frames.tolist(), self.times.tolist(), strict=True)):
            yield frame, time, None if self.camera is None else self.camera[place], self.at(frame)

    def head(self, count: int) -> SimulatedSequence:
        """The first `count` frames."""
        frames = self.frames[:count]
        end = int(frames[-1]) + 1 if len(frames) else 0
        rows = slice(0, int(np.searchsorted(self.frame, end)))
        columns = ("frame", "xyxy", "score", "class_id", "visibility", "gt_track_ids")
        return replace(
            self,
            frames=frames,
            times=self.times[:count],
            camera=None if self.camera is None else self.camera[:count],
            embedding=None if self.embedding is None else self.embedding[rows],
            truth=self.truth[: int(np.searchsorted(self.truth.frame, end))],
            **{name: getattr(self, name)[rows] for name in columns},
        )


def sequence_of(
    scene: Scene,
    found: Reports,
    *,
    settings: SequenceSettings,
    seed: int,
    name: str,
    fps: float,
    frames: NDArray[np.int64],
    times: NDArray[np.float64],
    camera: NDArray[np.float64] | None,
    embedding: NDArray[np.float32] | None = None,
    clips: bool,
) -> SimulatedSequence:
    """A scene and what a detector reported of it, with the columns of `SimulatedSequence`.

    Args:
        scene: the truth.
        found: the reports; `embedding` has a row for each.
        settings, seed, name, fps, frames, times, camera, embedding: as in `SimulatedSequence`.
        clips: whether detected boxes end at the picture's edges.
    """
    row, column = np.nonzero(scene.there)
    truth = GroundTruth(
        frames[row],
        scene.track_id[column],
        scene.boxes[row, column].astype(np.float32),
        np.ones(len(row), np.bool_),
        scene.class_id[column],
        scene.seen.visible[row, column],
    )
    boxes = found.boxes
    if clips:
        high, wide = scene.size
        boxes = np.clip(boxes, 0, np.array([wide, high, wide, high], np.float64))
    boxes32 = boxes.astype(np.float32)
    kept = (boxes32[:, 2:] > boxes32[:, :2]).all(axis=1)
    owner = np.where(found.owner >= 0, scene.track_id[np.maximum(found.owner, 0)] if len(scene.track_id) else -1, -1)
    return SimulatedSequence(
        name,
        settings,
        seed,
        scene.size,
        fps,
        frames,
        times,
        camera,
        frames[found.frame][kept],
        boxes32[kept],
        found.score.astype(np.float32)[kept],
        found.class_id[kept],
        found.visible.astype(np.float32)[kept],
        None if embedding is None else embedding[kept],
        owner.astype(np.int64)[kept],
        truth,
    )
