"""`SimulatedSequence`: the frames of one simulated video: detections, and the truth behind them.

`simulate`: from settings and a seed to a sequence with truth.

Simulated sequences as MOTChallenge folders, which any tracker and any evaluation reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import RunFolderError, SettingError
from trackweave.formats.tables import GroundTruth
from trackweave.simulation.camera import NEAREST, CameraPath
from trackweave.simulation.detector import Reports, detect, embed
from trackweave.simulation.motions_traffic import CrowdSettings
from trackweave.simulation.occlusion import sightings
from trackweave.simulation.scene import Actors, Scene
from trackweave.simulation.settings import SequenceSettings
from trackweave.storage.files import replacing
from trackweave.structures.detections import GT_COLUMN, Detections


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


Known = TypeVar("Known", Actors, CameraPath)
AHEAD_SECONDS = 4.0
"""How far ahead of a moving camera the background is that its motion is told by."""
LARGEST = 4.0
"""Sides of the picture beyond which a box is one of something that brushes past the lens, and does not count."""


def simulate(settings: CrowdSettings, seed: int) -> SimulatedSequence:
    """Makes a sequence; the same settings and seed give the same bytes.

    Raises:
        SettingError: a seed below 0.

    >>> sequence = simulate(CrowdSettings(frames=50), seed=1)
    >>> len(sequence), bool(sequence.gt_track_ids.max() > 0)
    (50, True)
    """
    if seed < 0:
        raise SettingError(f"seed: {seed}, a seed is 0 or above")
    world, eye, extra = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(3))
    dt = 1 / settings.fps
    actors, path = settings.motion.enact(world, settings.camera, (settings.height, settings.width), settings.frames, dt)
    frames, times = _moments(settings, extra)
    scene = view(settings, _at(actors, times * settings.fps), _at(path, times * settings.fps), float(times[-1]))
    found = detect(scene, settings.detector, eye)
    embedding = None if settings.embedding is None else embed(scene, found, settings.embedding, extra)
    return sequence_of(
        scene,
        found,
        settings=settings,
        seed=seed,
        name=f"{settings.motion.kind}-{seed:08d}",
        fps=settings.fps,
        frames=frames,
        times=times,
        camera=_told(settings, scene, extra),
        embedding=embedding,
        clips=settings.clips,
    )


def view(settings: CrowdSettings, actors: Actors, path: CameraPath, seconds: float) -> Scene:
    """What the camera sees of the actors."""
    steps = len(path.x)
    boxes, depth = path.boxes(actors)
    high, wide = path.size
    side = boxes[..., 2:] - boxes[..., :2]
    lies = (boxes[..., 2] > 0) & (boxes[..., 0] < wide) & (boxes[..., 3] > 0) & (boxes[..., 1] < high)
    usual = (side[..., 1] >= settings.smallest) & (side[..., 1] < LARGEST * high) & (side[..., 0] < LARGEST * wide)
    present = actors.present & (depth > 2 * NEAREST) & lies & usual
    solid = actors.class_id < 0
    seen = sightings(boxes, depth, present, solid, path.size)
    there = present & ~solid & (seen.inside >= settings.inside)
    if settings.clips:
        limit = np.array([wide, high, wide, high], np.float64)
        boxes = np.clip(boxes, 0, limit)
    ever = there.any(axis=0)
    track_id = np.where(ever, np.cumsum(ever), 0)
    return Scene(
        path.size,
        seconds / max(steps - 1, 1) or 1 / settings.fps,
        boxes,
        there,
        seen,
        track_id.astype(np.int64),
        actors.class_id,
        path.motion(settings.camera.distance + AHEAD_SECONDS * settings.camera.speed),
    )


def _moments(settings: CrowdSettings, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Indices and times of the frames that are taken."""
    n = settings.frames
    kept = rng.random(n) >= settings.skips
    kept[0] = True
    frames = np.flatnonzero(kept)
    shift = settings.time_jitter * rng.uniform(-1, 1, n) if settings.time_jitter else np.zeros(n)
    return frames.astype(np.int64), np.clip(frames + shift[frames], 0, n - 1) / settings.fps


def _at(known: Known, rows: NDArray[np.float64]) -> Known:
    """Columns over time at fractional rows."""
    low = np.minimum(rows.astype(np.int64), len(known.x) - 1)
    if np.array_equal(low, np.arange(len(known.x))) and np.allclose(rows, low):
        return known
    high, part = np.minimum(low + 1, len(known.x) - 1), rows - low

    def between(column: Any) -> Any:
        share = part if column.ndim == 1 else part[:, None]
        return (1 - share) * column[low] + share * column[high]

    moved: dict[str, Any] = {
        name: between(value)
        for name, value in known.__dict__.items()
        if isinstance(value, np.ndarray) and value.dtype == np.float64
    }
    if isinstance(known, Actors):
        moved["present"] = known.present[low]
    return replace(known, **moved)


def _told(settings: CrowdSettings, scene: Scene, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """The camera's motion as an estimate of it would be: with errors; None when it is withheld."""
    if settings.camera.matrices == "withheld":
        return None
    told = scene.camera.copy()
    error = settings.camera.matrix_noise * rng.standard_normal((len(told), 2))
    error[np.abs(scene.camera - np.eye(2, 3)).max(axis=(1, 2)) == 0] = 0  # of a picture that stands it is known
    told[:, :, 2] += error
    return told


def write_mot_folder(sequence: SimulatedSequence, parent: Path | str) -> Path:
    """Writes `seqinfo.ini`, `det/det.txt`, `gt/gt.txt`, `settings.json`, and `gmc.txt` when camera motion is told.

    Frames and pixels count from 1 in `det.txt` and `gt.txt`, the class is the eighth column; skipped frames are empty.
    `seqinfo.ini` comes last: a folder without it is not finished.

    Returns:
        The folder, `parent/NAME`.

    Raises:
        RunFolderError: it exists and is not empty, or cannot be written.
    """
    folder = Path(parent) / sequence.name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(f"{folder}: exists already: choose another folder or seed, or remove it")
    truth = sequence.truth
    boxes = zip(
        sequence.frame.tolist(),
        sequence.xyxy.tolist(),
        sequence.score.tolist(),
        sequence.class_id.tolist(),
        strict=True,
    )
    _write(folder / "det" / "det.txt", (f"{f + 1},-1,{_xywh(box)},{s:.4f},{c},-1,-1" for f, box, s, c in boxes))
    known = zip(
        truth.frame.tolist(),
        truth.track_id.tolist(),
        truth.xyxy.tolist(),
        truth.class_id.tolist(),
        truth.visibility.tolist(),
        strict=True,
    )
    _write(folder / "gt" / "gt.txt", (f"{f + 1},{i},{_xywh(box)},1,{c},{v:.3f}" for f, i, box, c, v in known))
    if sequence.camera is not None:
        _write(folder / "gmc.txt", _motion(sequence))
    _write(folder / "settings.json", [sequence.settings.to_json().rstrip()])
    _write(folder / "seqinfo.ini", _info(sequence))
    return folder


def _motion(sequence: SimulatedSequence) -> Iterable[str]:
    """Lines of camera motion; that of a frame after skipped ones covers the whole gap."""
    assert sequence.camera is not None
    for frame, matrix in zip(sequence.frames.tolist(), sequence.camera, strict=True):
        yield f"{frame} " + " ".join(f"{value:.9g}" for value in matrix.ravel())


def _info(sequence: SimulatedSequence) -> list[str]:
    height, width = sequence.size
    return [
        "[Sequence]",
        f"name={sequence.name}",
        "imDir=img1",
        f"frameRate={np.format_float_positional(sequence.fps, trim='-')}",
        f"seqLength={sequence.settings.frames}",
        f"imWidth={width}",
        f"imHeight={height}",
        "imExt=.jpg",
    ]


def _xywh(box: list[float]) -> str:
    left, top, right, bottom = box
    return f"{left + 1:.2f},{top + 1:.2f},{max(right - left, 0.01):.2f},{max(bottom - top, 0.01):.2f}"


def _write(path: Path, lines: Iterable[str]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
