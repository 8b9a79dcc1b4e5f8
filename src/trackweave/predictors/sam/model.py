"""`SamModel`: what the engine asks of a model of the SAM 2 family, one batch of objects at a time.

`ObjectMemory`: what a batch of objects remembers, pruned exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, device, dtype

Features = tuple[Tensor, ...]
"""One frame's feature maps, high resolution first, as the model's decoder wants them; without position encodings."""

Entry = dict[str, Any]
"""What a model remembers of B objects on one frame. Tensors have the objects on the axis that `SamModel.axis` tells."""


@dataclass(frozen=True)
class Outcome:
    """One frame's result for B objects.

    Attributes:
        logits: `(B, 1, h, w)` float, mask logits at the model's low resolution (a quarter of its image size).
        scores: `(B,)` float32, logit of "the object is there".
        entry: what is to be remembered of the frame.
    """

    logits: Tensor
    scores: Tensor
    entry: Entry


class MemoryView(Protocol):
    """What a model looks back at: entries of B objects by frame."""

    @property
    def conditioning(self) -> dict[int, Entry]:
        """Entries of prompted frames."""

    @property
    def tracked(self) -> dict[int, Entry]:
        """Entries of other frames."""


class SamModel(Protocol):
    """A loaded model. Stateless: everything that it remembers lies in the entries that it hands out.

    Attributes:
        name: for messages.
        image_size: side S of its square input, in pixels.
        mean, std: `(3,)` per RGB channel of pixels in [0, 1].
        device, dtype: where it lies and what its weights are.
        memory_frames: tracked frames before the current one whose whole entry it looks at.
        pointer_frames: tracked frames before the current one whose pointer it looks at.
        pointer_keys: keys of an entry that belong to the pointer; the others are the spatial memory.
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

    def box_input(self, box: NDArray[np.float32], frame_size: tuple[int, int]) -> Tensor:
        """`(4,)` xyxy in pixels of a frame `(H, W)` → `(4,)` xyxy in pixels of the input, rounded as upstream does."""

    def encode(self, pixels: Tensor) -> Features:
        """The image encoder: the one expensive step per frame."""

    def prompt_masks(self, features: Features, masks: Tensor) -> Outcome:
        """Objects given by masks `(B, 1, S, S)` in {0, 1} on this frame."""

    def prompt_boxes(self, features: Features, boxes: Tensor) -> Outcome:
        """Objects given by boxes `(B, 4)` xyxy in pixels of the S×S input on this frame."""

    def track(self, features: Features, memory: MemoryView, frame: int, length: int, reverse: bool) -> Outcome:
        """B objects on a frame, from what is remembered of other frames."""

    def axis(self, key: str) -> int:
        """Axis of an entry's tensor `key` along which objects lie."""


class ObjectMemory:
    """Entries of B objects that are moved together; see `MemoryView`.

    A model looks back at the whole entry of its last `memory_frames` tracked frames, at the pointer of its last
    `pointer_frames`, and at every prompted frame. `prune` forgets the rest, which changes no result. A backward pass
    that starts where a forward one did also looks at the first frames after the start: `side` keeps those.
    """

    def __init__(self, model: SamModel, conditioning: Mapping[int, Entry], side: Mapping[int, Entry] | None = None):
        self._model = model
        self.conditioning = dict(conditioning)
        self.tracked = dict(side or {})
        self.side: dict[int, Entry] = {}

    def remember(self, frame: int, entry: Entry) -> None:
        """Takes a tracked frame's entry."""
        self.tracked[frame] = entry

    def keep_side(self, start: int, frame: int) -> None:
        """Notes a forward pass's entry for the backward pass from the same start, if there is anything behind it."""
        ahead = frame - start if start > 0 else 0
        # The backward pass first stands at start − 1, one frame further away.
        if 0 < ahead < self._model.memory_frames:
            self.side[frame] = self.tracked[frame]
        elif 0 < ahead < self._model.pointer_frames:
            self.side[frame] = self._pointer(self.tracked[frame])

    def prune(self, frame: int, reverse: bool) -> None:
        """Forgets what no frame after `frame` (before it, with `reverse`) will look at."""
        for known in list(self.tracked):
            # Steps from the next frame back to the known one.
            back = known - frame + 1 if reverse else frame + 1 - known
            if back > self._model.pointer_frames:
                del self.tracked[known]
            elif back > self._model.memory_frames:
                self.tracked[known] = self._pointer(self.tracked[known])

    def select(self, rows: Tensor) -> ObjectMemory:
        """The memory of some of the objects.

        Args:
            rows: `(b,)` int64 on the model's device.
        """
        chosen = ObjectMemory(self._model, self._each(self.conditioning, rows), self._each(self.tracked, rows))
        chosen.side = self._each(self.side, rows)
        return chosen

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor that is held; shared ones count once."""
        entries = [*self.conditioning.values(), *self.tracked.values(), *self.side.values()]
        held = {tensor.data_ptr(): tensor.nbytes for entry in entries for tensor in entry.values()}
        return sum(held.values())

    def _pointer(self, entry: Entry) -> Entry:
        return {key: value for key, value in entry.items() if key in self._model.pointer_keys}

    def _each(self, entries: Mapping[int, Entry], rows: Tensor) -> dict[int, Entry]:
        return {frame: select_objects(entry, rows, self._model.axis) for frame, entry in entries.items()}


def select_objects(entry: Entry, rows: Tensor, axis: Callable[[str], int]) -> Entry:
    """Some objects of an entry, in the order of `rows`."""
    return {key: value.index_select(axis(key), rows) for key, value in entry.items()}


def join_objects(entries: Sequence[Entry], axis: Callable[[str], int]) -> Entry:
    """One entry of the objects of several."""
    if len(entries) == 1:
        return entries[0]
    return {key: torch.cat([entry[key] for entry in entries], dim=axis(key)) for key in entries[0]}
