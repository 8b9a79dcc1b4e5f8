"""`Trajectories` of recorded videos, and `resimulate`: a simulated detector on new scenes of such trajectories.

Real motion with exact labels: in a scene that is composed of trajectories every identity is known, whatever a detector
does. Real detections have no such truth, least of all where bodies overlap, where a few percent of IoU decide which of
two a box shows. Composing scenes follows copy-paste augmentation (Ghiasi et al., "Simple Copy-Paste", CVPR 2021). The
command line calls this `assoc remix`.

`simulate_detections` runs a simulated detector on a sequence as it is.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trackweave.errors import ArtifactError
from trackweave.formats.tables import DetectionTable, GroundTruth
from trackweave.simulation.detector import detect
from trackweave.simulation.occlusion import occlusion
from trackweave.simulation.presets import varied_detector
from trackweave.simulation.scene import Scene
from trackweave.simulation.sequence import FrameTiming, SimulatedSequence, sequence_from_scene
from trackweave.simulation.settings import DETECTORS, DetectorNoise, SequenceSettings
from trackweave.structures.assignment import AssignmentState

MAX_GAP = 2.0
"""Seconds without a box through which a track is interpolated: the object was there, hidden."""
MIN_SECONDS = 2.0
"""Seconds of boxes below which a track is left out."""
SCENE_FRAMES = 400
"""Frames of a scene, by default."""
UNCHANGED_SHARE = 0.25
"""Share of the scenes without objects of other videos."""
TWO_GUESTS_SHARE = 0.3
"""Share of the others, to which objects of two videos are added."""
SPREAD = (0.7, 0.5)
"""Standard deviation of the place of added objects about the middle of the scene's own, in standard deviations of
their places across and down."""
SCALE = 0.15
"""Standard deviation of the logarithm of how much larger added objects are than the scene's own."""
MIN_INSIDE = 0.3
"""Share of a box inside the image from which an object is present."""
HALVED_SHARE = 0.15
"""Share of the scenes at half the frame rate."""
MIN_COMMON = 5
"""Objects whose median motion is taken for the camera's."""
DETECTOR_SHARES = {"strong": 0.75, "everything": 0.1, "shaky": 0.15}
"""Share of the scenes of each detector."""


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Boxes of N objects on F frames of a recorded video.

    Attributes:
        size: `(H, W)` pixels.
        fps: frames per second.
        boxes: `(F, N, 4)` float64 xyxy pixels.
        present: `(F, N)` bool.
        track_id: `(N,)` int64.
        class_id: `(N,)` int64, −1 = unknown.
        camera: `(F, 2, 3)` float64, motion of the image since the frame before; None: unknown.
    """

    size: tuple[int, int]
    fps: float
    boxes: NDArray[np.float64]
    present: NDArray[np.bool_]
    track_id: NDArray[np.int64]
    class_id: NDArray[np.int64]
    camera: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def from_truth(
        cls,
        truth: GroundTruth,
        *,
        size: tuple[int, int],
        fps: float,
        length: int,
        camera: NDArray[np.float64] | None = None,
    ) -> Trajectories:
        """Trajectories of the true boxes that count; where `camera` `(≤ F, 2, 3)` ends, the image stands still."""
        truth = truth[truth.counts & (truth.track_id >= 0) & (truth.frame < length)]
        ids, column = np.unique(truth.track_id, return_inverse=True)
        boxes, present = np.zeros((length, len(ids), 4)), np.zeros((length, len(ids)), np.bool_)
        boxes[truth.frame, column], present[truth.frame, column] = truth.xyxy, True
        class_id = np.full(len(ids), -1, np.int64)
        class_id[column] = truth.class_id
        motion: NDArray[np.float64] | None = None
        if camera is not None:
            motion = np.tile(np.eye(2, 3), (length, 1, 1))
            motion[: len(camera)] = camera[:length]
        return cls(size, fps, boxes, present, ids, class_id, motion)

    @classmethod
    def from_states(cls, states: Sequence[AssignmentState], *, fps: float) -> Trajectories | None:
        """Trajectories of a tracker's tracks, from its states frame by frame; gaps are interpolated. None: no tracks.

        A track may hold two objects where its tracker has mixed them up. Here it is one object all the same, that moves
        like the first and then like the second. That is wrong about motion, which does less harm than labels that are
        wrong about identities.
        """
        if not states or states[0].size is None:
            return None
        first, length = int(states[0].frame), int(states[-1].frame) - int(states[0].frame) + 1
        motion, has_motion = np.tile(np.eye(2, 3), (length, 1, 1)), False
        tracks: dict[int, dict[int, NDArray[np.float32]]] = {}
        for state in states:
            frame = int(state.frame) - first
            if state.camera is not None:
                motion[frame], has_motion = state.camera, True
            for track_id, box in zip(state.assigned_track_ids.tolist(), state.detections.xyxy, strict=True):
                if track_id >= 0:
                    tracks.setdefault(track_id, {})[frame] = box
        parts = [
            part
            for track in tracks.values()
            for part in _split_at_gaps(track, MAX_GAP * fps)
            if len(part) >= MIN_SECONDS * fps
        ]
        if not parts:
            return None
        boxes, present = np.zeros((length, len(parts), 4)), np.zeros((length, len(parts)), np.bool_)
        for column, part in enumerate(parts):
            frames = np.array(sorted(part))
            rows = np.arange(frames[0], frames[-1] + 1)
            values = np.array([part[frame] for frame in frames.tolist()])
            boxes[rows, column] = np.stack([np.interp(rows, frames, side) for side in values.T], axis=1)
            present[rows, column] = True
        number = np.arange(1, len(parts) + 1, dtype=np.int64)
        camera = motion if has_motion else None
        return cls(states[0].size, fps, boxes, present, number, np.full(len(parts), -1), camera)

    def to_scene(self) -> Scene:
        """The trajectories as a scene: a box whose lower edge is lower in the image is nearer."""
        motion = np.tile(np.eye(2, 3), (len(self), 1, 1)) if self.camera is None else self.camera
        solid = np.zeros(len(self.track_id), np.bool_)
        hidden = occlusion(self.boxes, -self.boxes[..., 3], self.present, solid, self.size)
        return Scene(self.size, 1 / self.fps, self.boxes, self.present, hidden, self.track_id, self.class_id, motion)


def _split_at_gaps(track: dict[int, NDArray[np.float32]], max_gap: float) -> list[dict[int, NDArray[np.float32]]]:
    """A track's boxes by frame, split where more frames than `max_gap` lie between two of them."""
    parts: list[dict[int, NDArray[np.float32]]] = []
    last = -np.inf
    for frame in sorted(track):
        if frame - last > max_gap:
            parts.append({})
        parts[-1][frame] = track[frame]
        last = frame
    return parts


class ResimulationSettings(SequenceSettings):
    """What a scene was made from, besides its seed and the videos."""

    noun = "settings of a remix"

    detector: DetectorNoise = Field(default_factory=DetectorNoise, description="errors of the detector")
    halved: bool = Field(default=False, description="whether it has every second frame of the videos")


def resimulate(
    videos: Sequence[Trajectories],
    number: int,
    *,
    seed: int = 0,
    frames: int = SCENE_FRAMES,
    detector: DetectorNoise | None = None,
) -> SimulatedSequence:
    """A scene of a random part of one video, mirrored or not, with objects of other videos among its own.

    Args:
        videos: trajectories; objects of one are put among those of another, so sizes and rates should be alike.
        number: which scene.
        seed: of the random numbers.
        frames: length of the scene; no longer than the video that it is made from.
        detector: errors of the detector; None: mostly those of a good one, with every number varied.

    Raises:
        ArtifactError: no objects in the videos.
    """
    videos = [video for video in videos if video.present.any()]
    if not videos:
        raise ArtifactError("there are no objects in these videos: nothing can be re-simulated")
    rng = np.random.default_rng([seed, number])
    scene = _random_part(videos[int(rng.integers(len(videos)))], rng, frames)
    if rng.random() >= UNCHANGED_SHARE:
        for _ in range(2 if rng.random() < TWO_GUESTS_SHARE else 1):
            guests = _random_part(videos[int(rng.integers(len(videos)))], rng, frames)
            scene = _with_guests(scene, guests, rng)
    count = len(scene.track_id)
    scene = replace(scene, track_id=np.arange(1, count + 1), class_id=np.full(count, -1, np.int64))
    if detector is None:
        name = str(rng.choice(list(DETECTOR_SHARES), p=list(DETECTOR_SHARES.values())))
        detector = varied_detector(rng, DETECTORS[name])
    halved = bool(rng.random() < HALVED_SHARE)
    if halved:
        scene = _halved(scene)
    projected = scene.to_scene()
    return sequence_from_scene(
        projected,
        detect(projected, detector, rng),
        FrameTiming(scene.fps, np.arange(len(scene)), np.arange(len(scene)) / scene.fps),
        settings=ResimulationSettings(detector=detector, frames=len(scene), halved=halved),
        seed=seed,
        name=f"remix-{seed}-{number:05d}",
        camera=scene.camera,
        clips=True,
    )


def _random_part(video: Trajectories, rng: np.random.Generator, frames: int) -> Trajectories:
    """A random part of a video, as it is, mirrored, or (where the camera's motion is unknown) backwards."""
    length = min(frames, len(video))
    begin = int(rng.integers(0, len(video) - length + 1))
    rows = slice(begin, begin + length)
    boxes, present = video.boxes[rows].copy(), video.present[rows]
    camera = None if video.camera is None else video.camera[rows].copy()
    if camera is None and rng.random() < 0.5:
        boxes, present = boxes[::-1], present[::-1]
    if rng.random() < 0.5:
        wide = video.size[1]
        boxes[..., [0, 2]] = wide - boxes[..., [2, 0]]
        if camera is not None:
            camera = _mirrored(camera, wide)
    kept = present.any(axis=0)
    return replace(
        video,
        boxes=boxes[:, kept],
        present=present[:, kept],
        track_id=video.track_id[kept],
        class_id=video.class_id[kept],
        camera=camera,
    )


def _mirrored(camera: NDArray[np.float64], wide: float) -> NDArray[np.float64]:
    """Motions `(F, 2, 3)` of an image as they are in its mirror image: mirror, motion, and mirror again."""
    mirror = np.array([[-1, 0, wide], [0, 1, 0], [0, 0, 1.0]])
    return np.asarray((mirror @ _homogeneous(camera) @ mirror)[:, :2])


def _halved(scene: Trajectories) -> Trajectories:
    """Every second frame, with the camera's motion since the one before."""
    camera = scene.camera
    if camera is not None:
        matrices = _homogeneous(camera)
        camera = camera[::2].copy()
        camera[1:] = (matrices[2::2] @ matrices[1::2][: len(camera) - 1])[:, :2]
    return replace(scene, fps=scene.fps / 2, boxes=scene.boxes[::2], present=scene.present[::2], camera=camera)


def _homogeneous(camera: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(F, 3, 3)` homogeneous matrices of motions."""
    return np.concatenate([camera, np.broadcast_to([[[0, 0, 1.0]]], (len(camera), 1, 3))], axis=1)


def _with_guests(scene: Trajectories, guests: Trajectories, rng: np.random.Generator) -> Trajectories:
    """A scene with some objects of another one, scaled and moved to the scene's own; no longer than the shorter one."""
    length = min(len(scene), len(guests))
    chosen = rng.random(len(guests.track_id)) < rng.uniform(0.3, 1)
    boxes, present = guests.boxes[:length, chosen], guests.present[:length, chosen]
    own_present = scene.present[:length]
    if not present.any() or not own_present.any():
        return scene
    own = scene.boxes[:length]
    boxes = boxes * (_median_height(own, own_present) / _median_height(boxes, present) * np.exp(rng.normal(0, SCALE)))
    if scene.camera is None:  # the camera may pan: all objects share the motion that those of the scene have in common
        boxes = boxes + np.tile(_drift(own, own_present) - _drift(boxes, present), 2)[:, None]
    centres, guest_centres = _centres(own)[own_present], _centres(boxes)[present]
    offset = np.median(centres, axis=0) - np.median(guest_centres, axis=0)
    boxes = boxes + np.tile(offset + rng.normal(0, SPREAD, 2) * centres.std(axis=0), 2)
    high, wide = scene.size
    inside = np.clip(boxes, 0, (wide, high, wide, high))
    present = present & (_area(inside) > MIN_INSIDE * np.maximum(_area(boxes), 1e-6))
    count = boxes.shape[1]
    return replace(
        scene,
        boxes=np.concatenate([own, np.where(present[..., None], inside, 0)], axis=1),
        present=np.concatenate([own_present, present], axis=1),
        track_id=np.concatenate([scene.track_id, np.zeros(count, np.int64)]),
        class_id=np.concatenate([scene.class_id, np.full(count, -1)]),
        camera=None if scene.camera is None else scene.camera[:length],
    )


def _median_height(boxes: NDArray[np.float64], present: NDArray[np.bool_]) -> float:
    return float(np.median((boxes[..., 3] - boxes[..., 1])[present]))


def _centres(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(axis=-1))


def _drift(boxes: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`(F, 2)` pixels that all objects have moved in common since the first frame; steps of few objects are 0."""
    both = present[1:] & present[:-1]
    steps = np.where(both[..., None], np.diff(_centres(boxes), axis=0), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of frames without objects
        common = np.nan_to_num(np.nanmedian(steps, axis=1))
    common[both.sum(axis=1) < MIN_COMMON] = 0
    return np.concatenate([np.zeros((1, 2)), np.cumsum(common, axis=0)])


def simulate_detections(
    truth: GroundTruth,
    noise: DetectorNoise,
    *,
    size: tuple[int, int],
    fps: float,
    length: int,
    seed: int,
    name: str,
    camera: NDArray[np.float64] | None = None,
) -> DetectionTable:
    """Simulated detections of true boxes that count; a box whose lower edge is lower in the image is nearer.

    Args:
        truth: true boxes.
        noise: errors of the detector.
        size: `(H, W)` pixels.
        fps: frames per second.
        length: frames.
        seed: of the random numbers, together with `name`, so that sequences do not depend on each other.
        name: of the sequence.
        camera: `(F, 2, 3)` motion of the image, which false positives on the background follow; None: none.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    trajectories = Trajectories.from_truth(truth, size=size, fps=fps, length=length, camera=camera)
    detections = detect(trajectories.to_scene(), noise, rng)
    boxes = detections.boxes.astype(np.float32)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    classes = np.where(detections.class_id < 0, -1, detections.class_id)
    return DetectionTable(
        detections.frame[kept],
        boxes[kept],
        detections.score.astype(np.float32)[kept],
        classes[kept],
        length=length,
        source=f"simulated detections of {name}",
    )
