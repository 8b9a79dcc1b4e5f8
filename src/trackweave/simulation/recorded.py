"""`People`: the boxes of everybody in a recorded video, by the truth or by what a tracker logged.

`remix`: people from recorded videos in scenes that never were, seen by a simulated detector.

Real motion, and exact labels: in a scene that is put together everybody is known, whatever a detector makes of them.
Real detections have no such truth; where bodies overlap, and only there it matters, which of two a box shows is decided
by a few percent of IoU. After the copying of objects between pictures (Ghiasi et al., "Simple Copy-Paste", CVPR 2021).

`detect_truth`: what a simulated detector would have reported of a real sequence whose truth is known.
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
from trackweave.simulation.occlusion import sightings
from trackweave.simulation.presets import varied
from trackweave.simulation.scene import Scene
from trackweave.simulation.sequence import SimulatedSequence, sequence_of
from trackweave.simulation.settings import DETECTORS, DetectorNoise, SequenceSettings
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


SCENE_FRAMES = 400
"""Frames of a scene, when nobody says."""
ALONE_SHARE = 0.25
"""Of the scenes, in which nobody is added to a video's own people."""
TWICE_SHARE = 0.3
"""Of the others, to which people of two videos are added."""
SPREAD = (0.7, 0.5)
"""Where guests stand about the middle of the others, in spreads of the others across and down."""
SCALE = 0.15
"""How much larger or smaller guests are than the others, as a logarithm."""
LEAST_INSIDE = 0.3
"""Share of a box inside the picture from which somebody is there."""
HALVED_SHARE = 0.15
"""Of the scenes, that have half the frame rate."""
COMMON = 5
"""People whose median motion is taken for the camera's."""
CHANCES = {"strong": 0.75, "everything": 0.1, "shaky": 0.15}


class RemixSettings(SequenceSettings):
    """What a scene was made from, besides its seed and the videos."""

    noun = "settings of a remix"

    detector: DetectorNoise = Field(default_factory=DetectorNoise, description="how the detector errs")
    halved: bool = Field(default=False, description="whether it has every second frame of the videos")


def remix(
    videos: Sequence[People],
    number: int,
    *,
    seed: int = 0,
    frames: int = SCENE_FRAMES,
    detector: DetectorNoise | None = None,
) -> SimulatedSequence:
    """The scene of that number: a part of one video, mirrored or not, with people of others among its own.

    Args:
        videos: recorded; people of one are put among those of another, so sizes and rates should be alike.
        number: which scene.
        seed: of the random numbers.
        frames: its length; no longer than the video that it is made from.
        detector: how the detector errs; None: as a good one does, mostly, with its numbers varied.

    Raises:
        ArtifactError: nobody is in the videos.
    """
    videos = [video for video in videos if video.there.any()]
    if not videos:
        raise ArtifactError("nobody is in these videos: there is nothing to put together")
    rng = np.random.default_rng([seed, number])
    scene = _part(videos[int(rng.integers(len(videos)))], rng, frames)
    if rng.random() >= ALONE_SHARE:
        for _ in range(2 if rng.random() < TWICE_SHARE else 1):
            scene = _joined(scene, _part(videos[int(rng.integers(len(videos)))], rng, frames), rng)
    count = len(scene.track_id)
    scene = replace(scene, track_id=np.arange(1, count + 1), class_id=np.full(count, -1, np.int64))
    if detector is None:
        detector = varied(rng, DETECTORS[str(rng.choice(list(CHANCES), p=list(CHANCES.values())))])
    halved = bool(rng.random() < HALVED_SHARE)
    if halved:
        scene = _halved(scene)
    seen = scene.scene()
    return sequence_of(
        seen,
        detect(seen, detector, rng),
        settings=RemixSettings(detector=detector, frames=len(scene), halved=halved),
        seed=seed,
        name=f"remix-{seed}-{number:05d}",
        fps=scene.fps,
        frames=np.arange(len(scene)),
        times=np.arange(len(scene)) / scene.fps,
        camera=scene.camera,
        clips=True,
    )


def _part(video: People, rng: np.random.Generator, frames: int) -> People:
    """A random part of a video, as it was, mirrored, or (where no camera is told of) backwards."""
    length = min(frames, len(video))
    begin = int(rng.integers(0, len(video) - length + 1))
    rows = slice(begin, begin + length)
    boxes, there = video.boxes[rows].copy(), video.there[rows]
    camera = None if video.camera is None else video.camera[rows].copy()
    if camera is None and rng.random() < 0.5:
        boxes, there = boxes[::-1], there[::-1]
    if rng.random() < 0.5:
        wide = video.size[1]
        boxes[..., [0, 2]] = wide - boxes[..., [2, 0]]
        if camera is not None:
            camera = _mirrored(camera, wide)
    kept = there.any(axis=0)
    return replace(
        video,
        boxes=boxes[:, kept],
        there=there[:, kept],
        track_id=video.track_id[kept],
        class_id=video.class_id[kept],
        camera=camera,
    )


def _mirrored(camera: NDArray[np.float64], wide: float) -> NDArray[np.float64]:
    """Motions `(F, 2, 3)` of a picture as they are in its mirror image: the mirror, the motion, the mirror again."""
    mirror = np.array([[-1, 0, wide], [0, 1, 0], [0, 0, 1.0]])
    return np.asarray((mirror @ _square(camera) @ mirror)[:, :2])


def _halved(scene: People) -> People:
    """Every second frame, with the camera's motion since the one before."""
    camera = scene.camera
    if camera is not None:
        whole = _square(camera)
        camera = camera[::2].copy()
        camera[1:] = (whole[2::2] @ whole[1::2][: len(camera) - 1])[:, :2]
    return replace(scene, fps=scene.fps / 2, boxes=scene.boxes[::2], there=scene.there[::2], camera=camera)


def _square(camera: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(F, 3, 3)`: motions with the row that makes products of them."""
    return np.concatenate([camera, np.broadcast_to([[[0, 0, 1.0]]], (len(camera), 1, 3))], axis=1)


def _joined(scene: People, guests: People, rng: np.random.Generator) -> People:
    """Some of the guests among the people of a scene, as large as those, and never longer there."""
    length = min(len(scene), len(guests))
    chosen = rng.random(len(guests.track_id)) < rng.uniform(0.3, 1)
    boxes, there = guests.boxes[:length, chosen], guests.there[:length, chosen]
    here = scene.there[:length]
    if not there.any() or not here.any():
        return scene
    own = scene.boxes[:length]
    boxes = boxes * (_height(own, here) / _height(boxes, there) * np.exp(rng.normal(0, SCALE)))
    if scene.camera is None:  # the picture pans, and nobody tells how: all go with it
        boxes = boxes + np.tile(_drift(own, here) - _drift(boxes, there), 2)[:, None]
    middles, others = _middles(own)[here], _middles(boxes)[there]
    away = np.median(middles, axis=0) - np.median(others, axis=0)
    boxes = boxes + np.tile(away + rng.normal(0, SPREAD, 2) * middles.std(axis=0), 2)
    high, wide = scene.size
    inside = np.clip(boxes, 0, (wide, high, wide, high))
    there = there & (_area(inside) > LEAST_INSIDE * np.maximum(_area(boxes), 1e-6))
    count = boxes.shape[1]
    return replace(
        scene,
        boxes=np.concatenate([own, np.where(there[..., None], inside, 0)], axis=1),
        there=np.concatenate([here, there], axis=1),
        track_id=np.concatenate([scene.track_id, np.zeros(count, np.int64)]),
        class_id=np.concatenate([scene.class_id, np.full(count, -1)]),
        camera=None if scene.camera is None else scene.camera[:length],
    )


def _height(boxes: NDArray[np.float64], there: NDArray[np.bool_]) -> float:
    return float(np.median((boxes[..., 3] - boxes[..., 1])[there]))


def _middles(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(axis=-1))


def _drift(boxes: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`(F, 2)` pixels by which all have moved together since the first frame; nothing where few are there."""
    both = there[1:] & there[:-1]
    steps = np.where(both[..., None], np.diff(_middles(boxes), axis=0), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of frames without anybody
        common = np.nan_to_num(np.nanmedian(steps, axis=1))
    common[both.sum(axis=1) < COMMON] = 0
    return np.concatenate([np.zeros((1, 2)), np.cumsum(common, axis=0)])


def detect_truth(
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
    """Detections of the boxes that count; what stands lower in the picture hides what stands higher.

    Args:
        truth: true boxes.
        noise: how the detector errs.
        size: `(H, W)` pixels.
        fps: frames per second.
        length: frames.
        seed: of the random numbers, together with `name`: sequences do not depend on each other.
        name: of the sequence.
        camera: `(F, 2, 3)` motion of the picture, which false boxes on the background follow; None: it stands.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    people = People.of_truth(truth, size=size, fps=fps, length=length, camera=camera)
    found = detect(people.scene(), noise, rng)
    boxes = found.boxes.astype(np.float32)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    classes = np.where(found.class_id < 0, -1, found.class_id)
    return DetectionTable(
        found.frame[kept],
        boxes[kept],
        found.score.astype(np.float32)[kept],
        classes[kept],
        length=length,
        source=f"simulated detections of {name}",
    )
