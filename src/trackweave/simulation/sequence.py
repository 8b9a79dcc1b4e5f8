"""`simulate`: from settings and a seed to a `SimulatedSequence`, the detections of a video and their truth.

`write_mot_folder` writes a sequence as a MOTChallenge folder, which any tracker and any evaluation reads;
a preview draws a frame of each sequence with true boxes and trails, and detected boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import RunFolderError, SettingError
from trackweave.formats.tables import GroundTruth
from trackweave.simulation.camera import NEAREST, CameraPath
from trackweave.simulation.detector import SimulatedDetections, detect, embed
from trackweave.simulation.occlusion import occlusion
from trackweave.simulation.presets import SceneSettings
from trackweave.simulation.scene import Actors, Scene
from trackweave.simulation.settings import SequenceSettings
from trackweave.storage.files import replacing, safe_name
from trackweave.structures.detections import GT_COLUMN, Detections
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import OverlayPainter, contact_sheet, draw_boxes, write_png
from trackweave.visualization.settings import OverlaySettings

Motion = TypeVar("Motion", Actors, CameraPath)
AHEAD_SECONDS = 4.0
"""How far ahead of a moving camera the background is from which its motion would be estimated."""
MAX_SIDE = 4.0
"""Sides of the image beyond which a box does not count: the object brushes past the lens."""


@dataclass(frozen=True, eq=False)
class SimulatedSequence:
    """F frames with D detections and N true boxes.

    Attributes:
        name: unique by settings and seed.
        settings: what it was made from.
        seed: of its random numbers.
        size: `(H, W)` pixels.
        fps: frames per second.
        frames: `(F,)` int64, indices of the frames that were not skipped, ascending.
        times: `(F,)` float64 seconds.
        camera: `(F, 2, 3)` float64, pixels of the frame before → of this one, as the tracker knows it; None = unknown.
        frame: `(D,)` int64 index of each detection's frame, ascending; within a frame scores fall.
        xyxy: `(D, 4)` float32 pixels.
        score: `(D,)` float32.
        class_id: `(D,)` int64: 1 person, 3 car, 4 cyclist.
        visibility: `(D,)` float32, the truly visible share of the object; 1 where there is none.
        embedding: `(D, E)` float32, or None.
        gt_track_ids: `(D,)` int64 true identity of each detection; −1 = a false positive.
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
        """Rows of a frame's detections."""
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
        for position, (frame, time) in enumerate(zip(self.frames.tolist(), self.times.tolist(), strict=True)):
            yield frame, time, None if self.camera is None else self.camera[position], self.at(frame)

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


class FrameTiming(NamedTuple):
    """Which frames a sequence has.

    Attributes:
        fps: frames per second.
        frames: `(F,)` int64 indices, ascending.
        times: `(F,)` float64 seconds.
    """

    fps: float
    frames: NDArray[np.int64]
    times: NDArray[np.float64]


def simulate(settings: SceneSettings, seed: int) -> SimulatedSequence:
    """Simulates a sequence; the same settings and seed give the same bytes.

    Raises:
        SettingError: a seed below 0.

    >>> sequence = simulate(SceneSettings(frames=50), seed=1)
    >>> len(sequence), bool(sequence.gt_track_ids.max() > 0)
    (50, True)
    """
    if seed < 0:
        raise SettingError(f"seed: {seed}, a seed is 0 or above")
    scene_rng, detector_rng, other_rng = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(3))
    size, steps, dt = (settings.height, settings.width), settings.frames, 1 / settings.fps
    actors, path = settings.motion.simulate(scene_rng, settings.camera, size, steps, dt)
    timing = _timing(settings, other_rng)
    rows = timing.times * settings.fps
    scene = _scene(settings, _interpolated(actors, rows), _interpolated(path, rows), float(timing.times[-1]))
    detections = detect(scene, settings.detector, detector_rng)
    if settings.embedding is not None:
        detections = embed(scene, detections, settings.embedding, other_rng)
    return sequence_from_scene(
        scene,
        detections,
        timing,
        settings=settings,
        seed=seed,
        name=f"{settings.motion.kind}-{seed:08d}",
        camera=_known_camera(settings, scene, other_rng),
        clips=settings.clips,
    )


def sequence_from_scene(
    scene: Scene,
    detections: SimulatedDetections,
    timing: FrameTiming,
    *,
    settings: SequenceSettings,
    seed: int,
    name: str,
    camera: NDArray[np.float64] | None,
    clips: bool,
) -> SimulatedSequence:
    """A scene and its detections as a sequence.

    Args:
        scene: the truth.
        detections: of the scene.
        timing: which frames the scene has.
        settings, seed, name, camera: as in `SimulatedSequence`.
        clips: whether detected boxes end at the image's edges.
    """
    row, column = np.nonzero(scene.present)
    truth = GroundTruth(
        timing.frames[row],
        scene.track_id[column],
        scene.boxes[row, column].astype(np.float32),
        np.ones(len(row), np.bool_),
        scene.class_id[column],
        scene.occlusion.visible[row, column],
    )
    boxes = detections.boxes
    if clips:
        high, wide = scene.size
        boxes = np.clip(boxes, 0, np.array([wide, high, wide, high], np.float64))
    xyxy = boxes.astype(np.float32)
    kept = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)
    identity = np.full(len(detections), -1, np.int64)
    is_object = detections.object_index >= 0
    identity[is_object] = scene.track_id[detections.object_index[is_object]]
    return SimulatedSequence(
        name,
        settings,
        seed,
        scene.size,
        timing.fps,
        timing.frames,
        timing.times,
        camera,
        timing.frames[detections.frame][kept],
        xyxy[kept],
        detections.score.astype(np.float32)[kept],
        detections.class_id[kept],
        detections.visible.astype(np.float32)[kept],
        None if detections.embedding is None else detections.embedding[kept],
        identity[kept],
        truth,
    )


def _scene(settings: SceneSettings, actors: Actors, path: CameraPath, seconds: float) -> Scene:
    """The actors as the camera sees them."""
    steps = len(path.x)
    boxes, depth = path.boxes(actors)
    high, wide = path.size
    side = boxes[..., 2:] - boxes[..., :2]
    touches = (boxes[..., 2] > 0) & (boxes[..., 0] < wide) & (boxes[..., 3] > 0) & (boxes[..., 1] < high)
    counts = (side[..., 1] >= settings.smallest) & (side[..., 1] < MAX_SIDE * high) & (side[..., 0] < MAX_SIDE * wide)
    present = actors.present & (depth > 2 * NEAREST) & touches & counts
    is_obstacle = actors.class_id < 0
    hidden = occlusion(boxes, depth, present, is_obstacle, path.size)
    present = present & ~is_obstacle & (hidden.inside >= settings.inside)
    if settings.clips:
        boxes = np.clip(boxes, 0, np.array([wide, high, wide, high], np.float64))
    ever = present.any(axis=0)
    track_id = np.where(ever, np.cumsum(ever), 0)
    return Scene(
        path.size,
        seconds / max(steps - 1, 1) or 1 / settings.fps,
        boxes,
        present,
        hidden,
        track_id.astype(np.int64),
        actors.class_id,
        path.motion(settings.camera.distance + AHEAD_SECONDS * settings.camera.speed),
    )


def _timing(settings: SceneSettings, rng: np.random.Generator) -> FrameTiming:
    """The frames that are not skipped, at irregular times where the settings say so."""
    n = settings.frames
    kept = rng.random(n) >= settings.skips
    kept[0] = True
    frames = np.flatnonzero(kept).astype(np.int64)
    shift = settings.time_jitter * rng.uniform(-1, 1, n) if settings.time_jitter else np.zeros(n)
    return FrameTiming(settings.fps, frames, np.clip(frames + shift[frames], 0, n - 1) / settings.fps)


def _interpolated(motion: Motion, rows: NDArray[np.float64]) -> Motion:
    """Columns over time at fractional rows."""
    low = np.minimum(rows.astype(np.int64), len(motion.x) - 1)
    if np.array_equal(low, np.arange(len(motion.x))) and np.allclose(rows, low):
        return motion
    high, part = np.minimum(low + 1, len(motion.x) - 1), rows - low

    def between(column: Any) -> Any:
        share = part if column.ndim == 1 else part[:, None]
        return (1 - share) * column[low] + share * column[high]

    columns: dict[str, Any] = {
        name: between(value)
        for name, value in motion.__dict__.items()
        if isinstance(value, np.ndarray) and value.dtype == np.float64
    }
    if isinstance(motion, Actors):
        columns["present"] = motion.present[low]
    return replace(motion, **columns)


def _known_camera(settings: SceneSettings, scene: Scene, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """The camera's motion with the errors of an estimate; None when it is withheld from the tracker."""
    if settings.camera.matrices == "withheld":
        return None
    camera = scene.camera.copy()
    error = settings.camera.matrix_noise * rng.standard_normal((len(camera), 2))
    error[np.abs(scene.camera - np.eye(2, 3)).max(axis=(1, 2)) == 0] = 0  # standing still is known exactly
    camera[:, :, 2] += error
    return camera


def write_mot_folder(sequence: SimulatedSequence, parent: Path | str) -> Path:
    """Writes `seqinfo.ini`, `det/det.txt`, `gt/gt.txt`, `settings.json`, and `gmc.txt` where camera motion is known.

    Frames and pixels count from 1 in `det.txt` and `gt.txt`, the class is the eighth column; skipped frames are empty.
    `seqinfo.ini` is written last: a folder without it is not finished.

    Returns:
        The folder, `parent/NAME`.

    Raises:
        InputError: the sequence's name cannot be a folder's.
        RunFolderError: it exists and is not empty, or cannot be written.
    """
    folder = Path(parent) / safe_name(sequence.name, "simulated sequence")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(f"{folder}: exists already: choose another folder or seed, or remove it")
    truth = sequence.truth
    detections = zip(
        sequence.frame.tolist(),
        sequence.xyxy.tolist(),
        sequence.score.tolist(),
        sequence.class_id.tolist(),
        strict=True,
    )
    _write(folder / "det" / "det.txt", (f"{f + 1},-1,{_xywh(box)},{s:.4f},{c},-1,-1" for f, box, s, c in detections))
    objects = zip(
        truth.frame.tolist(),
        truth.track_id.tolist(),
        truth.xyxy.tolist(),
        truth.class_id.tolist(),
        truth.visibility.tolist(),
        strict=True,
    )
    _write(folder / "gt" / "gt.txt", (f"{f + 1},{i},{_xywh(box)},1,{c},{v:.3f}" for f, i, box, c, v in objects))
    if sequence.camera is not None:
        _write(folder / "gmc.txt", _camera_lines(sequence))
    _write(folder / "settings.json", [sequence.settings.to_json().rstrip()])
    _write(folder / "seqinfo.ini", _info(sequence))
    return folder


def _camera_lines(sequence: SimulatedSequence) -> Iterable[str]:
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


PANEL_WIDTH = 640
"""Pixels of a panel."""
TRAIL = 60
"""Frames that trails reach back."""
BACKGROUND = 28
"""Grey level of a panel."""
DETECTION_COLOUR = (235, 235, 235)


def write_preview(path: Path, sequences: Sequence[SimulatedSequence]) -> None:
    """Draws every sequence in the middle of its time.

    Raises:
        RunFolderError: the file cannot be written.
    """
    panels = [_panel(sequence) for sequence in sequences]
    captions = [
        f"{sequence.name}: {sequence.fps:g} fps, {len(np.unique(sequence.truth.track_id))} objects, "
        f"{np.mean(sequence.gt_track_ids < 0) if len(sequence.gt_track_ids) else 0:.0%} false, camera "
        f"motion {'unknown' if sequence.camera is None else 'known'}"
        for sequence in sequences
    ]
    write_png(path, contact_sheet(panels, min(3, len(panels)), captions))


def _panel(sequence: SimulatedSequence) -> NDArray[np.uint8]:
    """One frame: trails and true boxes in colours, detected boxes in white."""
    height, width = sequence.size
    scale = PANEL_WIDTH / width
    image = np.full((max(1, round(height * scale)), PANEL_WIDTH, 3), BACKGROUND, np.uint8)
    painter = OverlayPainter(OverlaySettings(trail=TRAIL), max_width=PANEL_WIDTH)
    middle = len(sequence) // 2
    frames = sequence.frames[max(0, middle - TRAIL) : middle + 1].tolist()
    tracks = Tracks.empty()
    for frame in frames:
        truth = sequence.truth.at(frame)
        tracks = Tracks.from_columns(
            truth.frame, truth.track_id, np.clip(truth.xyxy, -width, 2 * width) * np.float32(scale)
        )
        painter.follow(frame, tracks)
    image = painter.paint(image, tracks)
    detected = np.clip(sequence.at(frames[-1]).xyxy, -width, 2 * width) * scale
    draw_boxes(image, detected.round().astype(np.int64), DETECTION_COLOUR)
    return image
