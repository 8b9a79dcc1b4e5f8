"""`SamModel`: what the engine asks of a model of the SAM 2 family, one batch of objects at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
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
