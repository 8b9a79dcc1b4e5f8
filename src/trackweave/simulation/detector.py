"""A simulated detector at work: from true boxes to what `DetectorNoise` makes of them.

Simulated appearance: embeddings whose likeness within and between identities is set.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numba
import numpy as np
from numba import boolean, float64, int64, void
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import expit, ndtr

from trackweave.simulation.random_processes import wander
from trackweave.simulation.scene import Scene
from trackweave.simulation.settings import DetectorNoise

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SIZE_SOFTNESS = 0.35
"""How slowly recall rises with the logarithm of an object's height."""
HIDDEN_ENOUGH = 0.75
"""Visible share below which a box may melt with the one before it."""


@dataclass(frozen=True, eq=False)
class Reports:
    """What the detector says, M rows ordered by frame, then by falling score.

    Attributes:
        frame: `(M,)` int64, position of the frame.
        owner: `(M,)` int64, the object's position; −1 = none.
        boxes: `(M, 4)` float64 xyxy.
        score: `(M,)` float64.
        visible: `(M,)` float64 of the object; 1 where there is none.
        class_id: `(M,)` int64.
        is_double: `(M,)` bool: not the object's first box.
    """

    frame: Ints
    owner: Ints
    boxes: Floats
    score: Floats
    visible: Floats
    class_id: Ints
    is_double: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Reports:
        return Reports(*(getattr(self, column.name)[rows] for column in fields(self)))

    @classmethod
    def none(cls) -> Reports:
        """Nothing is reported."""
        whole, real = np.zeros(0, np.int64), np.zeros(0)
        return cls(whole, whole, np.zeros((0, 4)), real, real, whole, np.zeros(0, np.bool_))

    @classmethod
    def concat(cls, parts: list[Reports]) -> Reports:
        """All rows."""
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))


def detect(scene: Scene, noise: DetectorNoise, rng: np.random.Generator) -> Reports:
    """Looks at every frame of a scene.

    An object's own box carries its identity; where it was suppressed by a second box of the same object, that one does.
    """
    own, merged = _objects(scene, noise, rng)
    parts = [own, _doubles(own, scene, noise, rng), _falsehoods(scene, noise, rng), merged]
    found = Reports.concat([part for part in parts if len(part)] or [own])
    found = found[found.score >= noise.floor]
    found = found[np.lexsort((-found.score, found.frame))]
    if noise.nms_iou < 1:
        kept = np.ones(len(found), np.bool_)
        _suppress(found.frame, np.ascontiguousarray(found.boxes), noise.nms_iou, kept)
        found = found[kept]
    return _once(found)


def _objects(scene: Scene, noise: DetectorNoise, rng: np.random.Generator) -> tuple[Reports, Reports]:
    """The boxes of objects that are found; those of objects that melted with the ones before them apart."""
    steps, n = scene.there.shape
    visible = np.asarray(scene.seen.visible, np.float64)
    luck = wander(rng, steps, n, seconds=noise.miss_seconds, dt=scene.dt)
    found = scene.there & (ndtr(luck) < _chance(scene, visible, noise))
    logit = _logits(visible, luck, scene, noise, rng)
    boxes = _boxes(scene, visible, noise, rng)
    hider = scene.seen.hider
    melts = ndtr(wander(rng, steps, n, seconds=0.3, dt=scene.dt)) < noise.merge
    melts &= found & (hider >= 0) & (visible < HIDDEN_ENOUGH)
    row, column = np.nonzero(melts)
    before = hider[row, column]
    real = scene.there[row, before]
    row, column, before = row[real], column[real], before[real]
    both = np.concatenate(
        [
            np.minimum(boxes[row, column, :2], boxes[row, before, :2]),
            np.maximum(boxes[row, column, 2:], boxes[row, before, 2:]),
        ],
        axis=1,
    )
    merged = _reports(scene, row, before, both, logit[row, before], visible)
    found[row, column] = False
    found[row, before] = False
    row, column = np.nonzero(found)
    return _reports(scene, row, column, boxes[row, column], logit[row, column], visible), merged


def _reports(scene: Scene, row: Ints, column: Ints, boxes: Floats, logit: Floats, visible: Floats) -> Reports:
    return Reports(
        row.astype(np.int64),
        column.astype(np.int64),
        boxes,
        np.asarray(expit(logit)),
        visible[row, column],
        scene.class_id[column],
        np.zeros(len(row), np.bool_),
    )


def _chance(scene: Scene, visible: Floats, noise: DetectorNoise) -> Floats:
    """`(F, N)` probability that an object is found."""
    chance = noise.recall * expit((visible - noise.half_visibility) / noise.visibility_softness)
    if noise.small_height:
        height = np.maximum(scene.boxes[..., 3] - scene.boxes[..., 1], 1e-3)
        chance = chance * expit(np.log(height / noise.small_height) / SIZE_SOFTNESS)
    return np.asarray(chance)


def _logits(visible: Floats, luck: Floats, scene: Scene, noise: DetectorNoise, rng: np.random.Generator) -> Floats:
    """`(F, N)` logits of scores: lower for what is hidden, and for what is nearly missed."""
    own = wander(rng, *luck.shape, seconds=noise.score_seconds, dt=scene.dt)
    spread = noise.score_spread * (1 + 0.5 * (1 - visible))
    return noise.score - noise.score_hidden * (1 - visible) + spread * (0.8 * own - 0.6 * luck)


def _boxes(scene: Scene, visible: Floats, noise: DetectorNoise, rng: np.random.Generator) -> Floats:
    """`(F, N, 4)` boxes with the detector's errors."""
    steps, n = visible.shape
    hidden = (1 - visible)[..., None]
    boxes = scene.boxes
    if noise.shrink:
        pull = noise.shrink * np.clip(2 * ndtr(wander(rng, steps, n, seconds=0.5, dt=scene.dt)) - 1, 0, 1)
        boxes = boxes + pull[..., None] * (scene.seen.extent - boxes)
    slow = wander(rng, steps, 4 * n, seconds=noise.jitter_seconds, dt=scene.dt)
    error = np.sqrt(1 - noise.jitter_white) * slow + np.sqrt(noise.jitter_white) * rng.standard_normal((steps, 4 * n))
    error = error.reshape(steps, n, 4)
    if noise.jitter_tail:
        wild = wander(rng, steps, n, seconds=noise.jitter_seconds, dt=scene.dt)[..., None]
        error = error * np.exp(noise.jitter_tail * wild)
    size = np.sqrt(np.maximum((scene.boxes[..., 2:] - scene.boxes[..., :2]).prod(-1), 1e-6))[..., None]
    return _ordered(boxes + error * size * (noise.jitter + noise.jitter_hidden * hidden**1.5))


def _ordered(boxes: Floats) -> Floats:
    """Boxes of at least half a pixel, whatever happened to their edges."""
    low, high = np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])
    return np.concatenate([low, np.maximum(high, low + 0.5)], axis=-1)


def _doubles(own: Reports, scene: Scene, noise: DetectorNoise, rng: np.random.Generator) -> Reports:
    """Second boxes of objects that were found."""
    chosen = own[np.repeat(np.arange(len(own)), rng.poisson(noise.doubles, len(own)))]
    size = np.sqrt((chosen.boxes[:, 2:] - chosen.boxes[:, :2]).prod(1))[:, None]
    boxes = _ordered(chosen.boxes + rng.standard_normal((len(chosen), 4)) * size * noise.double_jitter)
    score = expit(noise.false_score + noise.false_spread * rng.standard_normal(len(chosen)))
    return Reports(
        chosen.frame, chosen.owner, boxes, score, chosen.visible, chosen.class_id, np.ones(len(chosen), np.bool_)
    )


def _falsehoods(scene: Scene, noise: DetectorNoise, rng: np.random.Generator) -> Reports:
    """Boxes that show no object, each over some consecutive frames: on a part of an object, or on the background."""
    steps = len(scene.there)
    mean = max(1.0, noise.false_seconds / scene.dt)
    count = int(rng.poisson(noise.false_rate * (steps + mean - 1) / mean))
    length = rng.geometric(1 / mean, count) if mean > 1 else np.ones(count, np.int64)
    start = np.floor(rng.uniform(1 - length, steps)).astype(np.int64)
    which = np.repeat(np.arange(count), length)
    frame = start[which] + np.arange(len(which)) - np.repeat(np.cumsum(length) - length, length)
    inside = (frame >= 0) & (frame < steps)
    which, frame = which[inside], frame[inside]
    objects = np.flatnonzero(scene.there.any(axis=0))
    if not len(which) or not len(objects):
        return Reports.none()
    near = rng.random(count) < noise.false_near
    model = _present(scene, start, rng)
    boxes = np.where(
        near[which, None], _parts(scene, model, which, frame, rng), _background(scene, model, start, which, frame, rng)
    )
    logit = noise.false_score + noise.false_spread * (
        0.8 * rng.standard_normal(count)[which] + 0.6 * rng.standard_normal(len(which))
    )
    shown = np.where(near[which], scene.there[frame, model[which]], True)
    found = Reports(
        frame, np.full(len(frame), -1, np.int64), boxes, expit(logit), np.ones(len(frame)),
        scene.class_id[model[which]], np.zeros(len(frame), np.bool_),
    )  # fmt: skip
    return found[shown]


def _present(scene: Scene, start: Ints, rng: np.random.Generator) -> Ints:
    """For each false track, an object that is there when it begins; any where nothing is."""
    there = scene.there[np.clip(start, 0, len(scene.there) - 1)]
    draw = rng.random(there.shape) + there + 0.5 * scene.there.any(axis=0)
    return np.argmax(draw, axis=1) if there.size else np.zeros(len(start), np.int64)


def _parts(scene: Scene, model: Ints, which: Ints, frame: Ints, rng: np.random.Generator) -> Floats:
    """Boxes around a part of an object, or beside it, that move with it."""
    count = len(model)
    boxes = scene.boxes[frame, model[which]]
    size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    offset = rng.normal(0, 0.3, (count, 4))
    return _ordered(boxes + size * (offset[which] + rng.normal(0, 0.03, (len(which), 4))))


def _background(scene: Scene, model: Ints, start: Ints, which: Ints, frame: Ints, rng: np.random.Generator) -> Floats:
    """Boxes somewhere in the picture that move with the background, as large as an object."""
    count, steps = len(model), len(scene.there)
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


@numba.njit(void(int64[::1], float64[:, ::1], float64, boolean[::1]), cache=True)
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


def _once(found: Reports) -> Reports:
    """At most one box per object and frame keeps its owner: its own, else the best of the others."""
    named = np.flatnonzero(found.owner >= 0)
    order = named[np.lexsort((-found.score[named], found.is_double[named], found.owner[named], found.frame[named]))]
    again = np.zeros(len(order), np.bool_)
    again[1:] = (found.frame[order[1:]] == found.frame[order[:-1]]) & (
        found.owner[order[1:]] == found.owner[order[:-1]]
    )
    owner = found.owner.copy()
    owner[order[again]] = -1
    return Reports(found.frame, owner, found.boxes, found.score, found.visible, found.class_id, found.is_double)


class EmbeddingSettings(BaseModel):
    """How well appearance tells objects apart; likenesses are expected cosines of wholly visible objects."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: int = Field(default=64, ge=2, le=4096, description="numbers per embedding")
    genuine: float = Field(default=0.85, ge=0, le=1, description="of two views of one object")
    teammates: float = Field(default=0.6, ge=0, le=1, description="of two objects that are dressed alike")
    impostor: float = Field(default=0.45, ge=0, le=1, description="of two others")
    teams: int = Field(default=2, ge=1, le=1000, description="ways to be dressed")
    occlusion: float = Field(default=0.8, ge=0, le=1, description="how far a hidden object looks like its hider")

    @model_validator(mode="after")
    def _rises(self) -> EmbeddingSettings:
        if not self.impostor <= self.teammates <= self.genuine:
            raise ValueError("impostor ≤ teammates ≤ genuine, or likeness would not tell objects apart")
        return self


def embed(scene: Scene, found: Reports, settings: EmbeddingSettings, rng: np.random.Generator) -> NDArray[np.float32]:
    """`(M, width)` float32 embeddings of unit length.

    What is common to all, to a team, to an object and to one view are independent random directions; their shares give
    the likenesses. A hidden object's is mixed with that of its hider.
    """
    n, width = len(scene.track_id), settings.width
    parts = np.array([settings.impostor, settings.teammates - settings.impostor, settings.genuine - settings.teammates])
    common, team, own = (_directions(rng, count, width) for count in (1, settings.teams, n))
    dressed = rng.integers(settings.teams, size=n)
    looks = np.sqrt(parts[0]) * common + np.sqrt(parts[1]) * team[dressed] + np.sqrt(parts[2]) * own
    strange = np.sqrt(settings.impostor) * common + np.sqrt(1 - settings.impostor) * _directions(rng, len(found), width)
    known = found.owner >= 0
    shown = np.where(known[:, None], looks[found.owner] if n else 0.0, strange)
    if n:
        hider = scene.seen.hider[found.frame, np.maximum(found.owner, 0)]
        mix = np.where(known & (hider >= 0), settings.occlusion * (1 - found.visible), 0.0)[:, None]
        shown = (1 - mix) * shown + mix * looks[hider]
    shown = shown + np.sqrt(1 - settings.genuine) * _directions(rng, len(found), width)
    length = np.maximum(np.linalg.norm(shown, axis=1, keepdims=True), 1e-9)
    return np.asarray(shown / length, np.float32)


def _directions(rng: np.random.Generator, count: int, width: int) -> NDArray[np.float64]:
    return np.asarray(rng.standard_normal((count, width)) / np.sqrt(width))
