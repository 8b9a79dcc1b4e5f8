"""The guide's helpers: scale, shape and IoU of masks in any form; progress, timing, boxes and names of files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import scale_boxes, xywh_to_xyxy
from trackweave.masks.codecs import MaskLike, as_packed, full_shape
from trackweave.masks.ops import mask_iou, rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.progress import ProgressPrinter, TimingAggregator, format_duration_precise
from trackweave.storage.run import format_scale_suffix, scaled_npz_path

__all__ = [
    "ProgressPrinter",
    "TimingAggregator",
    "bbox_scalar_fit",
    "bbox_transform_xywh_to_xyxy",
    "compute_iou",
    "determine_mask_shape",
    "format_duration_precise",
    "format_scale_suffix",
    "infer_relative_scale",
    "resize_mask_to_shape",
    "scaled_npz_path",
]


def resize_mask_to_shape(mask: NDArray[Any], target_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask `(H, W)` at another shape by nearest neighbour, `(h, w)` bool."""
    packed = rescale_masks(PackedMasks.from_bool(np.asarray(mask)), *target_shape, method="nearest")
    return np.asarray(packed.to_bool()[0])


def determine_mask_shape(mask_entry: MaskLike, fallback: tuple[int, int] | None = None) -> tuple[int, int]:
    """`(H, W)` of the frame that a stored mask belongs to.

    The entry's own `full_resolution_shape` wins, then `fallback`, then the shape of the mask itself.
    """
    return full_shape(mask_entry) or fallback or as_packed(mask_entry).size


def infer_relative_scale(mask_entry: MaskLike) -> float:
    """Stored size over frame size of a packed mask; 1.0 when it carries no `full_resolution_shape`.

    >>> infer_relative_scale({"packed_bits": np.zeros(2, np.uint8), "shape": (3, 4), "full_resolution_shape": (6, 8)})
    0.5
    """
    full = full_shape(mask_entry)
    if full is None:
        return 1.0
    height, width = as_packed(mask_entry).size
    # Either axis alone is off by its rounding; the longer one is off by less.
    return height / full[0] if full[0] >= full[1] else width / full[1]


def compute_iou(mask1: MaskLike, mask2: MaskLike) -> float:
    """IoU of two masks; the smaller image is brought to the larger one's shape first. 0 when both are empty.

    >>> compute_iou(np.ones((2, 2)), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    0.25
    """
    first, second = as_packed(mask1), as_packed(mask2)
    target = max(first.size, second.size, key=lambda size: size[0] * size[1])
    return float(mask_iou(rescale_masks(first, *target, "nearest"), rescale_masks(second, *target, "nearest"))[0, 0])


# Names of the guide.
bbox_transform_xywh_to_xyxy = xywh_to_xyxy
bbox_scalar_fit = scale_boxes
