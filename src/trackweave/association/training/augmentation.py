"""Frames as they could have been: mirrored, at another rate, with noisier boxes, gaps, switches and missing cues.

Every step works on raw scenes (pixels and seconds), so that all features change together.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trackweave.association.labels import UNMATCHED, Targets
from trackweave.association.scene import COSINE_UNKNOWN, Scenes, pair_iou
from trackweave.association.training.settings import AugmentSettings

LONGEST_OCCLUSION = 10
"""Observations that an artificial occlusion takes away at most."""
LONGEST_SWITCH = 6
"""Observations since two tracks were mixed up, at most."""
SWITCH_REACH = 0.1
"""Overlap (IoU of predicted boxes) from which two tracks may have been mixed up."""


def augmented(
    scene: Scenes, targets: Targets, how: AugmentSettings, rng: np.random.Generator
) -> tuple[Scenes, Targets]:
    """A changed copy of a batch."""
    scene = Scenes(**{name: array.copy() for name, array in scene.arrays().items()})
    frames = 1 + int(max(scene.track_frame[-1:].max(initial=0), scene.det_frame[-1:].max(initial=0)))
    _mirror(scene, rng.random(frames) < how.mirror)
    stretch = np.exp(rng.uniform(-1, 1, frames) * how.frame_rate)
    _stretch(scene, stretch.astype(np.float32))
    strength = (rng.random(frames) < 0.5) * rng.uniform(0, 1, frames) * how.jitter
    _jitter(scene, strength, rng)
    if how.switch:
        _switch(scene, how.switch, rng)
    if how.occlusion:
        _occlude(scene, rng.random(len(scene.counts)) < how.occlusion, rng)
    cut = rng.random(len(scene.counts)) < how.forget
    shorter = np.minimum(scene.counts, rng.integers(1, scene.boxes.shape[1] + 1, len(scene.counts)))
    scene.counts[cut] = shorter[cut]
    blind = rng.random(frames) < how.blind
    scene.visibility[blind[scene.track_frame]] = 1
    scene.det_visibility[blind[scene.det_frame]] = 1
    faceless = rng.random(frames) < how.appearance
    scene.cosine[faceless[scene.track_frame[scene.pairs[:, 0]]]] = COSINE_UNKNOWN
    if how.drop:
        return without(scene, targets, rng.random(len(scene.det_scores)) < how.drop)
    return scene, targets


def without(scene: Scenes, targets: Targets, gone: NDArray[np.bool_]) -> tuple[Scenes, Targets]:
    """The batch without some detections, `(D,)`; their tracks have no partner then. Each frame keeps its last one."""
    gone = gone.copy()
    last = np.flatnonzero(np.diff(scene.det_frame, append=-1) != 0)
    gone[last] = False
    kept_pairs = ~gone[scene.pairs[:, 1]]
    new_det, new_pair = np.cumsum(~gone) - 1, np.cumsum(kept_pairs) - 1

    def moved(old: NDArray[np.int64]) -> NDArray[np.int64]:
        row = np.maximum(old, 0)
        if not len(kept_pairs):
            return old
        return np.where(old >= 0, np.where(kept_pairs[row], new_pair[row], UNMATCHED), old)

    pairs = scene.pairs[kept_pairs]
    detections = {name: getattr(scene, name)[~gone] for name in scene.arrays() if name.startswith("det_")}
    changed = replace(
        scene,
        **detections,
        pairs=np.stack([pairs[:, 0], new_det[pairs[:, 1]]], axis=1),
        cosine=scene.cosine[kept_pairs],
    )
    return changed, Targets(moved(targets.tracks), moved(targets.detections)[~gone])


def _mirror(scene: Scenes, flipped: NDArray[np.bool_]) -> None:
    tracks, dets = flipped[scene.track_frame], flipped[scene.det_frame]
    width = scene.track_size[tracks, 1]
    scene.boxes[tracks, :, 0] = width[:, None] - scene.boxes[tracks, :, 0]
    scene.predicted[tracks, 0] = width - scene.predicted[tracks, 0]
    scene.velocity[tracks, 0] *= -1
    scene.det_boxes[dets, 0] = scene.det_size[dets, 1] - scene.det_boxes[dets, 0]


def _stretch(scene: Scenes, factor: NDArray[np.float32]) -> None:
    """The same boxes at another pace."""
    each = factor[scene.track_frame]
    scene.ages[:] *= each[:, None]
    scene.lifetime[:] *= each
    scene.velocity[:] /= each[:, None]


def _jitter(scene: Scenes, strength: NDArray[np.float64], rng: np.random.Generator) -> None:
    for boxes, frame in ((scene.det_boxes, scene.det_frame), (scene.boxes, scene.track_frame)):
        each = strength[frame].reshape(-1, *[1] * (boxes.ndim - 1))
        noise = (rng.standard_normal(boxes.shape) * each).astype(np.float32)
        boxes[..., :2] += noise[..., :2] * boxes[..., 2:]
        boxes[..., 2:] *= np.exp(noise[..., 2:])


def _switch(scene: Scenes, share: float, rng: np.random.Generator) -> None:
    """Two overlapping tracks exchange some of their newest observations: the tracker has mixed them up of late.

    Either all of the newest few, and what is right is told by the older ones; or any but the newest, and what is right
    is told by it: a model that only knew the former would exchange two tracks for ever once they were mixed up.
    """
    rows = np.flatnonzero((rng.random(len(scene.counts)) < share) & (scene.track_crowd > SWITCH_REACH))
    for row in rows.tolist():
        mates = np.flatnonzero(scene.track_frame == scene.track_frame[row])
        overlap = pair_iou(scene.predicted[row][None], scene.predicted[mates])
        overlap[mates == row] = 0
        other = int(mates[int(overlap.argmax())])
        shared = min(scene.counts[row], scene.counts[other])
        if overlap.max() < SWITCH_REACH or shared < 4:
            continue
        if rng.random() < 0.5:
            slots = np.arange(rng.integers(1, min(shared // 2, LONGEST_SWITCH) + 1))
            for whole in (scene.predicted, scene.velocity, scene.track_crowd):
                whole[[row, other]] = whole[[other, row]]
        else:
            slots = 1 + np.flatnonzero(rng.random(int(rng.integers(1, shared))) < 0.5)
        for array in (scene.boxes, scene.ages, scene.scores, scene.visibility):
            array[row, slots], array[other, slots] = array[other, slots].copy(), array[row, slots].copy()


def _occlude(scene: Scenes, chosen: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """The newest observations of some tracks never happened; the motion is guessed from those before."""
    lengths = rng.integers(1, LONGEST_OCCLUSION + 1, len(scene.counts))
    rows = np.flatnonzero(chosen & (scene.counts > lengths + 1))
    for row in rows.tolist():
        lost = int(lengths[row])
        for array in (scene.boxes, scene.ages, scene.scores, scene.visibility):
            array[row, :-lost] = array[row, lost:].copy()
        scene.counts[row] -= lost
        oldest = min(int(scene.counts[row]) - 1, 5)
        elapsed = max(float(scene.ages[row, oldest] - scene.ages[row, 0]), 1e-3)
        scene.velocity[row] = (scene.boxes[row, 0, :2] - scene.boxes[row, oldest, :2]) / elapsed
        scene.predicted[row, 2:] = scene.boxes[row, 0, 2:]
        scene.predicted[row, :2] = scene.boxes[row, 0, :2] + scene.velocity[row] * scene.ages[row, 0]
