"""`SamModel`: the interface of a model of the SAM 2 family to the engine, for one batch of objects at a time, and
`ObjectMemory`: the memory bank of a batch of objects, of bounded size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, device, dtype

Features = tuple[Tensor, ...]
"""One frame's feature maps, high resolution first, in the layout of the model's decoder; without position encodings."""

MemoryEntry = dict[str, Tensor]
"""The memory of B objects on one frame, under upstream's keys. `SamModel.axis` says which axis the objects are on."""


@dataclass(frozen=True)
class SamOutput:
    """A model's output for B objects on one frame.

    Attributes:
        logits: `(B, 1, h, w)` float, mask logits at the model's low resolution (a quarter of its image size).
        scores: `(B,)` float32, logit of "the object is visible".
        entry: the memory of the frame.
    """

    logits: Tensor
    scores: Tensor
    entry: MemoryEntry


class MemoryView(Protocol):
    """The memory that a model attends to: entries of B objects by frame."""

    @property
    def conditioning(self) -> dict[int, MemoryEntry]:
        """Entries of prompted frames."""

    @property
    def tracked(self) -> dict[int, MemoryEntry]:
        """Entries of other frames."""


class SamModel(Protocol):
    """A loaded model. It has no state of its own: everything that it remembers lies in the entries that it returns.

    Attributes:
        name: for messages.
        image_size: side S of its square input, in pixels.
        mean, std: `(3,)` per RGB channel of pixels in [0, 1].
        device, dtype: of its weights.
        memory_frames: number of tracked frames before the current one whose whole entry it attends to.
        pointer_frames: number of tracked frames before the current one whose object pointer it attends to.
        pointer_keys: keys of an entry that belong to the object pointer; the others are the spatial memory.
    """

    name: str
    image_size: int
    device: device
    dtype: dtype
    memory_frames: int
    pointer_frames: int
    pointer_keys: frozenset[str]

    def pixels(self, image: NDArray[np.uint8]) -> Tensor:
        """`(H, W, 3)` uint8 RGB → `(1, 3, S, S)` normalised on the device, exactly as upstream does."""

    def point_input(self, points: NDArray[np.float32], frame_size: tuple[int, int]) -> Tensor:
        """`(P, 2)` x, y in pixels of a frame `(H, W)` → `(P, 2)` in pixels of the input, rounded as upstream does."""

    def encode(self, pixels: Tensor) -> Features:
        """The image encoder: the one step per frame that is expensive whatever the number of objects."""

    def prompt_masks(self, features: Features, masks: Tensor) -> SamOutput:
        """B objects that are prompted on this frame by masks `(B, 1, S, S)` in {0, 1}."""

    def prompt_points(self, features: Features, points: Tensor, labels: Tensor) -> SamOutput:
        """B objects that are prompted on this frame by points `(B, P, 2)` x, y in pixels of the S×S input with labels
        `(B, P)` int32: 1 inside, 0 outside; 2 and 3 are the corners of a box, which come first."""

    def point_masks(self, features: Features, points: Tensor) -> tuple[Tensor, Tensor]:
        """What lies at B single points, `(B, 2)` x, y in pixels of the S×S input, at three granularities.

        Returns:
            mask logits `(B, 3, h, w)` at the model's low resolution, and `(B, 3)` the IoUs that it predicts for them.
        """

    def track(self, features: Features, memory: MemoryView, frame: int, length: int, reverse: bool) -> SamOutput:
        """B objects on a frame, from their memory of other frames."""

    def axis(self, key: str) -> int:
        """Axis of an entry's tensor `key` along which objects lie."""


class ObjectMemory:
    """The memory bank of B objects that are propagated together; see `MemoryView`.

    A model attends to the whole entry of its last `memory_frames` tracked frames, to the object pointer of its last
    `pointer_frames`, and to every prompted frame. `prune` drops the rest, which changes no bit of the result.

    Attributes:
        conditioning: entries of prompted frames.
        tracked: entries of other frames.
        for_backward: entries of the first frames after the start of a forward pass: the backward pass from the same
            start attends to them.
    """

    def __init__(
        self, model: SamModel, conditioning: Mapping[int, MemoryEntry], tracked: Mapping[int, MemoryEntry] | None = None
    ):
        self._model = model
        self.conditioning = dict(conditioning)
        self.tracked = dict(tracked or {})
        self.for_backward: dict[int, MemoryEntry] = {}

    def remember(self, frame: int, entry: MemoryEntry) -> None:
        """Adds a tracked frame's entry."""
        self.tracked[frame] = entry

    def keep_for_backward(self, start: int, frame: int) -> None:
        """Keeps a forward pass's entry of `frame` for the backward pass from the same start, if one may follow."""
        ahead = frame - start if start > 0 else 0  # nothing lies before frame 0
        # Strictly less: the backward pass first visits start - 1, which is one frame further away than the start.
        if 0 < ahead < self._model.memory_frames:
            self.for_backward[frame] = self.tracked[frame]
        elif 0 < ahead < self._model.pointer_frames:
            self.for_backward[frame] = self._pointer(self.tracked[frame])

    def prune(self, frame: int, reverse: bool) -> None:
        """Drops what no frame after `frame` (before it, with `reverse`) will attend to."""
        for past in list(self.tracked):
            # Counted from the next frame, which is the first that would still need the entry.
            distance = past - frame + 1 if reverse else frame + 1 - past
            if distance > self._model.pointer_frames:
                del self.tracked[past]
            elif distance > self._model.memory_frames:
                self.tracked[past] = self._pointer(self.tracked[past])

    def select(self, rows: Tensor) -> ObjectMemory:
        """The memory of some of the objects.

        Args:
            rows: `(b,)` int64 on the model's device.
        """
        selected = ObjectMemory(self._model, self._select(self.conditioning, rows), self._select(self.tracked, rows))
        selected.for_backward = self._select(self.for_backward, rows)
        return selected

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors; shared ones count once."""
        entries = [*self.conditioning.values(), *self.tracked.values(), *self.for_backward.values()]
        sizes = {tensor.data_ptr(): tensor.nbytes for entry in entries for tensor in entry.values()}
        return sum(sizes.values())

    def _pointer(self, entry: MemoryEntry) -> MemoryEntry:
        return {key: value for key, value in entry.items() if key in self._model.pointer_keys}

    def _select(self, entries: Mapping[int, MemoryEntry], rows: Tensor) -> dict[int, MemoryEntry]:
        return {frame: select_objects(entry, rows, self._model.axis) for frame, entry in entries.items()}


def select_objects(entry: MemoryEntry, rows: Tensor, axis: Callable[[str], int]) -> MemoryEntry:
    """Some objects of an entry, in the order of `rows`."""
    return {key: value.index_select(axis(key), rows) for key, value in entry.items()}


def join_objects(entries: Sequence[MemoryEntry], axis: Callable[[str], int]) -> MemoryEntry:
    """One entry with the objects of several."""
    if len(entries) == 1:
        return entries[0]
    return {key: torch.cat([entry[key] for entry in entries], dim=axis(key)) for key in entries[0]}
