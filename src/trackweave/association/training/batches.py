"""Batches of frames as tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackweave.association.dataset import SceneStore
from trackweave.association.inputs import model_inputs
from trackweave.association.labels import Targets
from trackweave.association.scene import Scenes
from trackweave.association.training.augmentation import augmented
from trackweave.association.training.settings import AugmentSettings


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
