"""`simulate`: from settings and a seed to a sequence with truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.association.simulation.actors import Actors
from trackweave.association.simulation.camera import NEAREST, CameraPath
from trackweave.association.simulation.crowd import CrowdSettings
from trackweave.association.simulation.detector import detect
from trackweave.association.simulation.embeddings import embed
from trackweave.association.simulation.occlusion import sightings
from trackweave.association.simulation.scene import Scene
from trackweave.association.simulation.sequence import SimulatedSequence, sequence_of
from trackweave.errors import SettingError

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
