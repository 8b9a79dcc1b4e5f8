"""`remix`: people from recorded videos in scenes that never were, seen by a simulated detector.

Real motion, and exact labels: in a scene that is put together everybody is known, whatever a detector makes of them.
Real detections have no such truth; where bodies overlap, and only there it matters, which of two a box shows is decided
by a few percent of IoU. After the copying of objects between pictures (Ghiasi et al., "Simple Copy-Paste", CVPR 2021).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trackweave.association.simulation.detector import detect
from trackweave.association.simulation.detector_noise import DETECTORS, DetectorNoise
from trackweave.association.simulation.json_record import SequenceSettings
from trackweave.association.simulation.people import People
from trackweave.association.simulation.regimes import varied
from trackweave.association.simulation.sequence import SimulatedSequence, sequence_of
from trackweave.errors import ArtifactError

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
