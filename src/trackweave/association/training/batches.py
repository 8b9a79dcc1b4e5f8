"""Batches of frames as tensors.

Frames as they could have been: mirrored, at another rate, with noisier boxes, gaps, switches and missing cues.

Every step works on raw scenes (pixels and seconds), so that all features change together.

Which frames are worth learning from: most of video is a matter of course.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackweave.association.dataset import SceneStore
from trackweave.association.labels import UNKNOWN, UNMATCHED, Targets
from trackweave.association.model_inputs import COSINE_UNKNOWN, Scenes, model_inputs, pair_iou
from trackweave.association.models.associator import Associator
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


class Batch(NamedTuple):
    """What a step needs.

    Attributes:
        inputs: arguments of `Associator.forward`, in their order.
        tracks: `(T,)` int64 targets, rows of pairs.
        detections: `(D,)` int64 targets, rows of pairs.
        track_weight: `(T,)` float32.
        det_weight: `(D,)` float32.
    """

    inputs: tuple[Tensor, ...]
    tracks: Tensor
    detections: Tensor
    track_weight: Tensor
    det_weight: Tensor


def make_batch(
    store: SceneStore,
    frames: NDArray[np.int64],
    device: torch.device,
    augment: AugmentSettings | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[Batch, Scenes]:
    """Gathers frames, changes them where asked, and computes what the model is given."""
    scene, targets = store.take(frames)
    if augment is not None and rng is not None:
        scene, targets = augmented(scene, targets, augment, rng)
    return to_tensors(scene, targets, store.weight[frames], device), scene


def to_tensors(scene: Scenes, targets: Targets, weight: NDArray[np.float32], device: torch.device) -> Batch:
    """A batch of frames with `(F,)` weights as tensors."""
    given = model_inputs(scene)
    arrays = (given.history, given.tracks, given.detections, given.pairs, given.pair_features)
    place, absent = joint_places(scene)
    tensors = [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in (*arrays, place, absent)]
    rest = (targets.tracks, targets.detections, weight[scene.track_frame], weight[scene.det_frame])
    return Batch(tuple(tensors), *(torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in rest))


def joint_places(scene: Scenes) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """`(F, L)` rows of each frame's tokens among tracks followed by detections, and where a row only fills up."""
    frame = np.concatenate([scene.track_frame, scene.det_frame])
    order = np.argsort(frame, kind="stable")
    count = np.bincount(frame)
    first = np.cumsum(count) - count
    column = np.arange(len(frame)) - np.repeat(first, count)
    place = np.zeros((len(count), int(count.max())), np.int64)
    absent = np.ones(place.shape, np.bool_)
    place[frame[order], column] = order
    absent[frame[order], column] = False
    return place, absent


SURE = 0.9
"""A frame whose every right answer has at least this probability is easy."""


def hard_frames(
    model: Associator,
    store: SceneStore,
    *,
    easy_share: float = 0.2,
    rng: np.random.Generator,
    batch_size: int = 64,
) -> NDArray[np.int64]:
    """Frames on which the model is unsure or wrong, and a share of the others so that it does not forget them.

    Args:
        model: judges.
        store: frames with labels.
        easy_share: of the easy frames that stay.
        rng: picks them.
        batch_size: frames at once.
    """
    model.eval()
    device = next(model.parameters()).device
    surest = np.ones(len(store), np.float32)
    with torch.no_grad():
        for start in range(0, len(store), batch_size):
            frames = np.arange(start, min(start + batch_size, len(store)))
            batch, scene = make_batch(store, frames, device)
            judged = model(*batch.inputs)
            sides = (
                (judged.by_track, judged.track_alone, batch.tracks, scene.track_frame),
                (judged.by_det, judged.det_alone, batch.detections, scene.det_frame),
            )
            for pair, alone, target, frame in sides:
                right = alone
                if len(pair):
                    right = torch.where(target >= 0, pair.index_select(0, target.clamp(min=0)), alone)
                likely = torch.where(target == UNKNOWN, torch.zeros_like(right), right).exp().cpu().numpy()
                np.minimum.at(surest, start + frame, likely)
    return np.flatnonzero((surest < SURE) | (rng.random(len(store)) < easy_share))
