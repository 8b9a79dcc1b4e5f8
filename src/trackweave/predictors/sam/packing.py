"""From mask logits to packed bits, where the logits are."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trackweave.masks.packed import PackedMasks, packed_length

PIXELS_AT_ONCE = 1 << 24
"""Pixels that are enlarged together: 64 MiB of float32."""


def pack_logits(logits: Tensor, height: int, width: int) -> PackedMasks:
    """Masks of frame size: bilinear enlargement, then everything above 0.

    Args:
        logits: `(B, 1, h, w)`.
        height: of the frame, pixels.
        width: of the frame, pixels.
    """
    step = max(1, PIXELS_AT_ONCE // (height * width))
    packed = np.empty((len(logits), packed_length(height, width)), np.uint8)
    for first in range(0, len(logits), step):
        part = logits[first : first + step].float()
        if part.shape[-2:] != (height, width):
            part = functional.interpolate(part, size=(height, width), mode="bilinear", align_corners=False)
        packed[first : first + step] = _pack((part > 0).flatten(1))
    return PackedMasks(packed, height, width)


def _pack(masks: Tensor) -> NDArray[np.uint8]:
    """`(B, n)` bool → `(B, ceil(n/8))` uint8, first pixel in the highest bit as `numpy.packbits` has it."""
    return np.packbits(masks.numpy(), axis=1) if masks.device.type == "cpu" else pack_there(masks).cpu().numpy()


def pack_there(masks: Tensor) -> Tensor:
    """The same on the device where the masks are: an eighth of them crosses the bus."""
    padded = functional.pad(masks.to(torch.uint8), (0, -masks.shape[1] % 8))
    weights = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=masks.device)
    return (padded.view(len(masks), -1, 8) * weights).sum(dim=2, dtype=torch.uint8)
