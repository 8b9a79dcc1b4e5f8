"""Rescaling of masks, packed to packed."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trackweave.masks import kernels
from trackweave.masks.packed import PackedMasks

Method = Literal["nearest", "area"]


def rescale_masks(masks: PackedMasks, height: int, width: int, method: Method = "area") -> PackedMasks:
    """The same masks at another size.

    Args:
        masks: N masks.
        height: target H.
        width: target W.
        method: `nearest` takes the pixel under the target pixel's centre (fast; thin parts may break);
            `area` keeps a pixel when at least half of its footprint was inside (box filter when shrinking,
            bilinear when growing).

    Raises:
        ValueError: an unknown method or a target without pixels.
    """
    if method not in ("nearest", "area"):
        raise ValueError(f"method is 'nearest' or 'area', not {method!r}")
    if masks.size == (height, width):
        return masks
    out = PackedMasks.empty(height, width, len(masks))
    if method == "nearest":
        kernels.sample_nearest(masks.bits, masks.boxes, masks.size, (height, width), out.bits)
    else:
        _rescale_area(masks, out)
    return out


def _rescale_area(masks: PackedMasks, out: PackedMasks) -> None:
    import cv2

    height, width = out.size
    shrinking = height <= masks.height and width <= masks.width
    for n, mask in enumerate(masks):  # one unpacked mask at a time
        image = mask.to_bool()[0].astype(np.float32)
        scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
        # A hair below one half: the filter's sums are float32, an exact half must stay inside.
        out.bits[n] = np.packbits(scaled >= 0.5 - 1e-5)


def scaled_size(height: int, width: int, ratio: float) -> tuple[int, int]:
    """`(H, W)` at a ratio, at least one pixel each.

    >>> scaled_size(1440, 1920, 0.3)
    (432, 576)
    """
    return max(1, round(height * ratio)), max(1, round(width * ratio))
