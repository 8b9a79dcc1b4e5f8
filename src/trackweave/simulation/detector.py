"""`detect`: a simulated detector, from true boxes to detections with the errors of `DetectorNoise`.

`embed` adds appearance: embeddings whose similarity within and between identities is set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import expit, ndtr

from trackweave.compiled import njit
from trackweave.settings import Settings
from trackweave.simulation.random_processes import ornstein_uhlenbeck
from trackweave.simulation.scene import Scene
from trackweave.simulation.settings import DetectorNoise
from trackweave.structures.columns import Columns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SIZE_SOFTNESS = 0.35
"""How slowly recall rises with the logarithm of an object's height."""
MERGE_VISIBILITY = 0.75
"""Visible share below which a box may merge with that of its occluder."""


@dataclass(frozen=True, eq=False)
class SimulatedDetections(Columns):
    """M detections of all frames, ordered by frame, then by falling score.

    Attributes:
        frame: `(M,)` int64, position of the frame.
        object_index: `(M,)` int64, position of the object in the scene; −1 = none.
        boxes: `(M, 4)` float64 xyxy.
        score: `(M,)` float64.
        visible: `(M,)` float64 visible share of the object; 1 where there is none.
        class_id: `(M,)` int64.
        is_duplicate: `(M,)` bool: not the object's first box.
        embedding: `(M, E)` float32, or None.
    """

    frame: Ints
    object_index: Ints
    boxes: Floats
    score: Floats
    visible: Floats
    class_id: Ints
    is_duplicate: NDArray[np.bool_]
    embedding: NDArray[np.float32] | None = None

    @classmethod
    def empty(cls) -> Self:
        """No detections."""
        ints, floats = np.zeros(0, np.int64), np.zeros(0)
        return cls(ints, ints, np.zeros((0, 4)), floats, floats, ints, np.zeros(0, np.bool_))


class EmbeddingSettings(Settings):
    """How well appearance distinguishes objects; similarities are expected cosines of wholly visible objects."""

    width: int = Field(default=64, ge=2, le=4096, description="numbers per embedding")
    genuine: float = Field(default=0.85, ge=0, le=1, description="of two views of one object")
    teammates: float = Field(default=0.6, ge=0, le=1, description="of two objects of one team, that are dressed alike")
    impostor: float = Field(default=0.45, ge=0, le=1, description="of two others")
    teams: int = Field(default=2, ge=1, le=1000, description="number of teams")
    occlusion: float = Field(default=0.8, ge=0, le=1, description="how far a hidden object resembles its occluder")

    @model_validator(mode="after")
    def _is_ordered(self) -> EmbeddingSettings:
        if not self.impostor <= self.teammates <= self.genuine:
            raise ValueError("impostor ≤ teammates ≤ genuine, or similarity would not distinguish objects")
        return self


def detect(scene: Scene, noise: DetectorNoise, rng: np.random.Generator) -> SimulatedDetections:
    """Detects objects on every frame of a scene.

    At most one box per object and frame has the object's index: its own, or a duplicate where suppression left only
    that.
    """
    own, merged = _detect_objects(scene, noise, rng)
    parts = [own, _duplicates(own, noise, rng), _false_positives(scene, noise, rng), merged]
    detections = SimulatedDetections.concat(parts)
    detections = detections[detections.score >= noise.floor]
    detections = detections[np.lexsort((-detections.score, detections.frame))]
    if noise.nms_iou < 1:
        kept = np.ones(len(detections), np.bool_)
        _suppress(detections.frame, np.ascontiguousarray(detections.boxes), noise.nms_iou, kept)
        detections = detections[kept]
    return _with_unique_objects(detections)


def embed(
    scene: Scene, detections: SimulatedDetections, settings: EmbeddingSettings, rng: np.random.Generator
) -> SimulatedDetections:
    """Detections with embeddings of unit length.

    An embedding is a sum of independent random directions: one common to all, one of the team, one of the object and
    one of the view; their weights give the similarities. A hidden object's embedding is mixed with its occluder's.
    """
    n, width = len(scene.track_id), settings.width
    parts = np.array([settings.impostor, settings.teammates - settings.impostor, settings.genuine - settings.teammates])
    common, team, own = (_directions(rng, count, width) for count in (1, settings.teams, n))
    team_of = rng.integers(settings.teams, size=n)
    objects = np.sqrt(parts[0]) * common + np.sqrt(parts[1]) * team[team_of] + np.sqrt(parts[2]) * own
    background = np.sqrt(settings.impostor) * common + np.sqrt(1 - settings.impostor) * _directions(
        rng, len(detections), width
    )
    is_object = detections.object_index >= 0
    values = np.where(is_object[:, None], objects[detections.object_index] if n else 0.0, background)
    if n:
        occluder = scene.occlusion.occluder[detections.frame, np.maximum(detections.object_index, 0)]
        share = np.where(is_object & (occluder >= 0), settings.occlusion * (1 - detections.visible), 0.0)[:, None]
        values = (1 - share) * values + share * objects[occluder]
    values = values + np.sqrt(1 - settings.genuine) * _directions(rng, len(detections), width)
    length = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    return replace(detections, embedding=np.asarray(values / length, np.float32))


def _directions(rng: np.random.Generator, count: int, width: int) -> Floats:
    """`(count, width)` random vectors of expected length 1."""
    return np.asarray(rng.standard_normal((count, width)) / np.sqrt(width))


def _detect_objects(
    scene: Scene, noise: DetectorNoise, rng: np.random.Generator
) -> tuple[SimulatedDetections, SimulatedDetections]:
    """Boxes of detected objects, and apart from them the boxes that two objects share."""
    steps, n = scene.present.shape
    visible = np.asarray(scene.occlusion.visible, np.float64)
    latent = ornstein_uhlenbeck(rng, steps, n, seconds=noise.miss_seconds, dt=scene.dt)
    detected = scene.present & (ndtr(latent) < _recall(scene, visible, noise))
    logit = _logits(visible, latent, scene, noise, rng)
    boxes = _noisy_boxes(scene, visible, noise, rng)
    merges = ndtr(ornstein_uhlenbeck(rng, steps, n, seconds=0.3, dt=scene.dt)) < noise.merge
    merges &= detected & (scene.occlusion.occluder >= 0) & (visible < MERGE_VISIBILITY)
    row, column = np.nonzero(merges)
    occluder = scene.occlusion.occluder[row, column]
    valid = scene.present[row, occluder]
    row, column, occluder = row[valid], column[valid], occluder[valid]
    union = np.concatenate(
        [
            np.minimum(boxes[row, column, :2], boxes[row, occluder, :2]),
            np.maximum(boxes[row, column, 2:], boxes[row, occluder, 2:]),
        ],
        axis=1,
    )
    merged = _detections(scene, row, occluder, union, logit[row, occluder])
    detected[row, column] = False
    detected[row, occluder] = False
    row, column = np.nonzero(detected)
    return _detections(scene, row, column, boxes[row, column], logit[row, column]), merged


def _detections(scene: Scene, row: Ints, column: Ints, boxes: Floats, logit: Floats) -> SimulatedDetections:
    return SimulatedDetections(
        row.astype(np.int64),
        column.astype(np.int64),
        boxes,
        np.asarray(expit(logit)),
        np.asarray(scene.occlusion.visible, np.float64)[row, column],
        scene.class_id[column],
        np.zeros(len(row), np.bool_),
    )


def _recall(scene: Scene, visible: Floats, noise: DetectorNoise) -> Floats:
    """`(F, N)` probability that an object is detected."""
    recall = noise.recall * expit((visible - noise.half_visibility) / noise.visibility_softness)
    if noise.small_height:
        height = np.maximum(scene.boxes[..., 3] - scene.boxes[..., 1], 1e-3)
        recall = recall * expit(np.log(height / noise.small_height) / SIZE_SOFTNESS)
    return np.asarray(recall)


def _logits(visible: Floats, latent: Floats, scene: Scene, noise: DetectorNoise, rng: np.random.Generator) -> Floats:
    """`(F, N)` logits of scores: lower for hidden and for nearly missed objects."""
    own = ornstein_uhlenbeck(rng, *latent.shape, seconds=noise.score_seconds, dt=scene.dt)
    spread = noise.score_spread * (1 + 0.5 * (1 - visible))
    return noise.score - noise.score_hidden * (1 - visible) + spread * (0.8 * own - 0.6 * latent)


def _noisy_boxes(scene: Scene, visible: Floats, noise: DetectorNoise, rng: np.random.Generator) -> Floats:
    """`(F, N, 4)` boxes with the detector's errors."""
    steps, n = visible.shape
    hidden = (1 - visible)[..., None]
    boxes = scene.boxes
    if noise.shrink:
        pull = noise.shrink * np.clip(2 * ndtr(ornstein_uhlenbeck(rng, steps, n, seconds=0.5, dt=scene.dt)) - 1, 0, 1)
        boxes = boxes + pull[..., None] * (scene.occlusion.extent - boxes)
    slow = ornstein_uhlenbeck(rng, steps, 4 * n, seconds=noise.jitter_seconds, dt=scene.dt)
    error = np.sqrt(1 - noise.jitter_white) * slow + np.sqrt(noise.jitter_white) * rng.standard_normal((steps, 4 * n))
    error = error.reshape(steps, n, 4)
    if noise.jitter_tail:
        scale = ornstein_uhlenbeck(rng, steps, n, seconds=noise.jitter_seconds, dt=scene.dt)[..., None]
        error = error * np.exp(noise.jitter_tail * scale)
    size = np.sqrt(np.maximum((scene.boxes[..., 2:] - scene.boxes[..., :2]).prod(-1), 1e-6))[..., None]
    return _ordered(boxes + error * size * (noise.jitter + noise.jitter_hidden * hidden**1.5))


def _ordered(boxes: Floats) -> Floats:
    """Boxes with their edges in order and at least half a pixel apart."""
    low, high = np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])
    return np.concatenate([low, np.maximum(high, low + 0.5)], axis=-1)


def _duplicates(own: SimulatedDetections, noise: DetectorNoise, rng: np.random.Generator) -> SimulatedDetections:
    """Duplicate boxes of detected objects."""
    chosen = own[np.repeat(np.arange(len(own)), rng.poisson(noise.duplicates, len(own)))]
    size = np.sqrt((chosen.boxes[:, 2:] - chosen.boxes[:, :2]).prod(1))[:, None]
    boxes = _ordered(chosen.boxes + rng.standard_normal((len(chosen), 4)) * size * noise.duplicate_jitter)
    score = expit(noise.false_score + noise.false_spread * rng.standard_normal(len(chosen)))
    return replace(chosen, boxes=boxes, score=score, is_duplicate=np.ones(len(chosen), np.bool_))


def _false_positives(scene: Scene, noise: DetectorNoise, rng: np.random.Generator) -> SimulatedDetections:
    """False positives, each on some consecutive frames: on a part of an object, or on the background."""
    steps = len(scene.present)
    mean = max(1.0, noise.false_seconds / scene.dt)
    count = int(rng.poisson(noise.false_rate * (steps + mean - 1) / mean))
    length = rng.geometric(1 / mean, count) if mean > 1 else np.ones(count, np.int64)
    start = np.floor(rng.uniform(1 - length, steps)).astype(np.int64)
    which = np.repeat(np.arange(count), length)
    frame = start[which] + np.arange(len(which)) - np.repeat(np.cumsum(length) - length, length)
    inside = (frame >= 0) & (frame < steps)
    which, frame = which[inside], frame[inside]
    if not len(which) or not scene.present.any():
        return SimulatedDetections.empty()
    near = rng.random(count) < noise.false_near
    model = _model_objects(scene, start, rng)
    on_objects = _on_objects(scene, model, which, frame, rng)
    boxes = np.where(near[which, None], on_objects, _on_background(scene, model, start, which, frame, rng))
    logit = noise.false_score + noise.false_spread * (
        0.8 * rng.standard_normal(count)[which] + 0.6 * rng.standard_normal(len(which))
    )
    kept = np.where(near[which], scene.present[frame, model[which]], True)
    detections = SimulatedDetections(
        frame, np.full(len(frame), -1, np.int64), boxes, expit(logit), np.ones(len(frame)),
        scene.class_id[model[which]], np.zeros(len(frame), np.bool_),
    )  # fmt: skip
    return detections[kept]


def _model_objects(scene: Scene, start: Ints, rng: np.random.Generator) -> Ints:
    """For each false positive an object that is present when it starts, for place and size; any where there is none."""
    present = scene.present[np.clip(start, 0, len(scene.present) - 1)]
    priority = rng.random(present.shape) + present + 0.5 * scene.present.any(axis=0)
    return np.argmax(priority, axis=1) if present.size else np.zeros(len(start), np.int64)


def _on_objects(scene: Scene, model: Ints, which: Ints, frame: Ints, rng: np.random.Generator) -> Floats:
    """Boxes on or beside a part of an object, that move with it."""
    count = len(model)
    boxes = scene.boxes[frame, model[which]]
    size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    offset = rng.normal(0, 0.3, (count, 4))
    return _ordered(boxes + size * (offset[which] + rng.normal(0, 0.03, (len(which), 4))))


def _on_background(
    scene: Scene, model: Ints, start: Ints, which: Ints, frame: Ints, rng: np.random.Generator
) -> Floats:
    """Boxes anywhere in the image, as large as an object, that move with the background."""
    count, steps = len(model), len(scene.present)
    begin = np.clip(start, 0, steps - 1)
    high, wide = scene.size
    like = scene.boxes[begin, model]
    side = np.clip(like[:, 2:] - like[:, :2], 4, max(high, wide)) * rng.lognormal(0, 0.3, (count, 2))
    centre = rng.uniform(0, 1, (count, 2)) * np.array([wide, high])
    shift = np.cumsum(
        scene.camera[:, :, 2] + scene.camera[:, :, :2] @ np.array([wide / 2, high / 2]) - [wide / 2, high / 2], axis=0
    )
    moved = centre[which] + shift[frame] - shift[begin[which]]
    moved = moved + rng.normal(0, 0.02, (len(which), 2)) * side[which]
    half = side[which] / 2 * np.exp(rng.normal(0, 0.02, (len(which), 2)))
    return np.concatenate([moved - half, moved + half], axis=1)


@njit
def _suppress(frame: Ints, boxes: Floats, limit: float, kept: NDArray[np.bool_]) -> None:
    """Greedy non-maximum suppression per frame; rows are ordered by frame, then by falling score."""
    for i in range(len(frame)):
        area = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
        j = i - 1
        while j >= 0 and frame[j] == frame[i]:
            if kept[j]:
                across = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
                down = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
                if across > 0 and down > 0:
                    other = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
                    if across * down > limit * (area + other - across * down):
                        kept[i] = False
                        break
            j -= 1


def _with_unique_objects(detections: SimulatedDetections) -> SimulatedDetections:
    """At most one box per object and frame keeps its object: its own, else the best of the others."""
    order = np.flatnonzero(detections.object_index >= 0)
    frame, index = detections.frame, detections.object_index
    order = order[np.lexsort((-detections.score[order], detections.is_duplicate[order], index[order], frame[order]))]
    repeated = np.zeros(len(order), np.bool_)
    repeated[1:] = (frame[order[1:]] == frame[order[:-1]]) & (index[order[1:]] == index[order[:-1]])
    unique = index.copy()
    unique[order[repeated]] = -1
    return replace(detections, object_index=unique)
