"""Batches of frames as tensors, and their augmentation.

Every augmentation works on a `FrameBatch` (pixels and seconds) before features are computed, so that all features
change consistently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackweave.association.dataset import TrainingSet
from trackweave.association.labels import UNMATCHED, Targets
from trackweave.association.model_inputs import COSINE_UNKNOWN, FrameBatch, model_inputs, pair_iou
from trackweave.association.settings import AugmentSettings

POOL_BATCHES = 16
"""Batches whose frames are sorted by size together."""
MAX_OCCLUSION = 10
"""Observations that an artificial occlusion removes at most."""
MAX_SWITCH = 6
"""Observations since an artificial identity switch, at most."""
SWITCH_IOU = 0.1
"""IoU of predicted boxes from which two tracks can have switched identities."""


class TrainingBatch(NamedTuple):
    """Tensors of one training step.

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


def iterate_batches(
    frames: NDArray[np.int64], sizes: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Random batches of frames of similar size: joint attention pads to the largest frame of a batch.

    Args:
        frames: positions in the training set.
        sizes: `(F,)` of all frames of the training set.
        batch_size: frames per batch.
        rng: the only source of randomness.
    """
    order = rng.permutation(frames)
    pool = POOL_BATCHES * batch_size
    chunks = [order[start : start + pool] for start in range(0, len(order), pool)]
    batches = [
        batch
        for chunk in chunks
        for batch in np.array_split(
            chunk[np.argsort(sizes[chunk], kind="stable")], max(1, round(len(chunk) / batch_size))
        )
    ]
    for number in rng.permutation(len(batches)):
        yield batches[number]


def make_batch(
    training_set: TrainingSet,
    frames: NDArray[np.int64],
    device: torch.device,
    augment: AugmentSettings | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[TrainingBatch, FrameBatch]:
    """Gathers frames, augments them where asked, and computes the model's inputs; also the frames themselves."""
    batch, targets = training_set.take(frames)
    if augment is not None and rng is not None:
        batch, targets = augmented(batch, targets, augment, rng)
    return to_tensors(batch, targets, training_set.weight[frames], device), batch


def to_tensors(batch: FrameBatch, targets: Targets, weight: NDArray[np.float32], device: torch.device) -> TrainingBatch:
    """A batch of frames with `(F,)` weights as tensors."""
    inputs = model_inputs(batch)
    arrays = (inputs.history, inputs.tracks, inputs.detections, inputs.pairs, inputs.pair_features)
    positions, padding = token_positions(batch)
    tensors = [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in (*arrays, positions, padding)]
    labels = (targets.tracks, targets.detections, weight[batch.track_frame], weight[batch.det_frame])
    return TrainingBatch(
        tuple(tensors), *(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in labels)
    )


def token_positions(batch: FrameBatch) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """`(F, L)` rows of each frame's tokens among tracks followed by detections, and where a position is padding."""
    frame = np.concatenate([batch.track_frame, batch.det_frame])
    order = np.argsort(frame, kind="stable")
    count = np.bincount(frame)
    first = np.cumsum(count) - count
    column = np.arange(len(frame)) - np.repeat(first, count)
    positions = np.zeros((len(count), int(count.max())), np.int64)
    padding = np.ones(positions.shape, np.bool_)
    positions[frame[order], column] = order
    padding[frame[order], column] = False
    return positions, padding


def augmented(
    batch: FrameBatch, targets: Targets, settings: AugmentSettings, rng: np.random.Generator
) -> tuple[FrameBatch, Targets]:
    """A changed copy of a batch."""
    batch = FrameBatch(**{name: array.copy() for name, array in batch.arrays().items()})
    frames = batch.frame_count
    _mirror(batch, rng.random(frames) < settings.mirror)
    stretch = np.exp(rng.uniform(-1, 1, frames) * settings.frame_rate)
    _stretch_time(batch, stretch.astype(np.float32))
    strength = (rng.random(frames) < 0.5) * rng.uniform(0, 1, frames) * settings.jitter
    _jitter(batch, strength, rng)
    if settings.switch:
        _switch_identities(batch, settings.switch, rng)
    if settings.occlusion:
        _occlude(batch, rng.random(len(batch.counts)) < settings.occlusion, rng)
    cut = rng.random(len(batch.counts)) < settings.forget
    shorter = np.minimum(batch.counts, rng.integers(1, batch.boxes.shape[1] + 1, len(batch.counts)))
    batch.counts[cut] = shorter[cut]
    without_visibility = rng.random(frames) < settings.blind
    batch.visibility[without_visibility[batch.track_frame]] = 1
    batch.det_visibility[without_visibility[batch.det_frame]] = 1
    without_appearance = rng.random(frames) < settings.appearance
    batch.cosine[without_appearance[batch.track_frame[batch.pairs[:, 0]]]] = COSINE_UNKNOWN
    if settings.drop:
        return drop_detections(batch, targets, rng.random(len(batch.det_scores)) < settings.drop)
    return batch, targets


def drop_detections(batch: FrameBatch, targets: Targets, dropped: NDArray[np.bool_]) -> tuple[FrameBatch, Targets]:
    """The batch without some detections, `(D,)`, whose tracks become unmatched. The last one of a frame stays."""
    dropped = dropped.copy()
    last = np.flatnonzero(np.diff(batch.det_frame, append=-1) != 0)
    dropped[last] = False
    kept_pairs = ~dropped[batch.pairs[:, 1]]
    new_det, new_pair = np.cumsum(~dropped) - 1, np.cumsum(kept_pairs) - 1

    def renumbered(old: NDArray[np.int64]) -> NDArray[np.int64]:
        row = np.maximum(old, 0)
        if not len(kept_pairs):
            return old
        return np.where(old >= 0, np.where(kept_pairs[row], new_pair[row], UNMATCHED), old)

    pairs = batch.pairs[kept_pairs]
    detections = {name: getattr(batch, name)[~dropped] for name in batch.arrays() if name.startswith("det_")}
    changed = replace(
        batch,
        **detections,
        pairs=np.stack([pairs[:, 0], new_det[pairs[:, 1]]], axis=1),
        cosine=batch.cosine[kept_pairs],
    )
    return changed, Targets(renumbered(targets.tracks), renumbered(targets.detections)[~dropped])


def _mirror(batch: FrameBatch, mirrored: NDArray[np.bool_]) -> None:
    tracks, detections = mirrored[batch.track_frame], mirrored[batch.det_frame]
    width = batch.track_size[tracks, 1]
    batch.boxes[tracks, :, 0] = width[:, None] - batch.boxes[tracks, :, 0]
    batch.predicted[tracks, 0] = width - batch.predicted[tracks, 0]
    batch.velocity[tracks, 0] *= -1
    batch.det_boxes[detections, 0] = batch.det_size[detections, 1] - batch.det_boxes[detections, 0]


def _stretch_time(batch: FrameBatch, factor: NDArray[np.float32]) -> None:
    """The same boxes at another frame rate, by a factor `(F,)`."""
    track_factor = factor[batch.track_frame]
    batch.ages[:] *= track_factor[:, None]
    batch.lifetime[:] *= track_factor
    batch.velocity[:] /= track_factor[:, None]


def _jitter(batch: FrameBatch, strength: NDArray[np.float64], rng: np.random.Generator) -> None:
    for boxes, frame in ((batch.det_boxes, batch.det_frame), (batch.boxes, batch.track_frame)):
        box_strength = strength[frame].reshape(-1, *[1] * (boxes.ndim - 1))
        noise = (rng.standard_normal(boxes.shape) * box_strength).astype(np.float32)
        boxes[..., :2] += noise[..., :2] * boxes[..., 2:]
        boxes[..., 2:] *= np.exp(noise[..., 2:])


def _switch_identities(batch: FrameBatch, share: float, rng: np.random.Generator) -> None:
    """Two overlapping tracks exchange some of their newest observations: the tracker has recently mixed them up.

    Either they exchange all of the newest few, and the older ones show the right identity; or they exchange any but
    the newest, and this one shows it. A model that learned from the first kind only would exchange two tracks again on
    every frame once they were mixed up.
    """
    rows = np.flatnonzero((rng.random(len(batch.counts)) < share) & (batch.track_overlap > SWITCH_IOU))
    for row in rows.tolist():
        mates = np.flatnonzero(batch.track_frame == batch.track_frame[row])
        overlap = pair_iou(batch.predicted[row][None], batch.predicted[mates])
        overlap[mates == row] = 0
        other = int(mates[int(overlap.argmax())])
        shared = min(batch.counts[row], batch.counts[other])
        if overlap.max() < SWITCH_IOU or shared < 4:
            continue
        if rng.random() < 0.5:
            slots = np.arange(rng.integers(1, min(shared // 2, MAX_SWITCH) + 1))
            for array in (batch.predicted, batch.velocity, batch.track_overlap):
                array[[row, other]] = array[[other, row]]
        else:
            slots = 1 + np.flatnonzero(rng.random(int(rng.integers(1, shared))) < 0.5)
        for array in (batch.boxes, batch.ages, batch.scores, batch.visibility):
            array[row, slots], array[other, slots] = array[other, slots].copy(), array[row, slots].copy()


def _occlude(batch: FrameBatch, occluded: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Removes the newest observations of some tracks; their motion is estimated anew from those before."""
    lengths = rng.integers(1, MAX_OCCLUSION + 1, len(batch.counts))
    rows = np.flatnonzero(occluded & (batch.counts > lengths + 1))
    for row in rows.tolist():
        removed = int(lengths[row])
        for array in (batch.boxes, batch.ages, batch.scores, batch.visibility):
            array[row, :-removed] = array[row, removed:].copy()
        batch.counts[row] -= removed
        oldest = min(int(batch.counts[row]) - 1, 5)
        elapsed = max(float(batch.ages[row, oldest] - batch.ages[row, 0]), 1e-3)
        batch.velocity[row] = (batch.boxes[row, 0, :2] - batch.boxes[row, oldest, :2]) / elapsed
        batch.predicted[row, 2:] = batch.boxes[row, 0, 2:]
        batch.predicted[row, :2] = batch.boxes[row, 0, :2] + batch.velocity[row] * batch.ages[row, 0]
