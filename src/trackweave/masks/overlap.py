"""How much masks overlap: intersection, IoU and containment of every pair, on packed words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackweave.masks import kernels
from trackweave.masks.packed import PackedMasks


def mask_intersection(a: PackedMasks, b: PackedMasks) -> NDArray[np.int64]:
    """Shared pixels of every pair: `(N,), (M,) → (N, M)` int64.

    Raises:
        ValueError: masks of different sizes.
    """
    if a.size != b.size:
        raise ValueError(f"masks of different sizes: {a.size} and {b.size}; rescale one of them first")
    return np.asarray(kernels.intersections(a.words, a.boxes, b.words, b.boxes, a.width))


def mask_iou(a: PackedMasks, b: PackedMasks) -> NDArray[np.float64]:
    """Intersection over union of every pair, `(N, M)` float64 in [0, 1]; 0 where both are empty.

    >>> square = PackedMasks.from_bool(np.array([[1, 1, 0], [1, 1, 0]]))
    >>> row = PackedMasks.from_bool(np.array([[1, 1, 1], [0, 0, 0]]))
    >>> mask_iou(square, row).tolist()
    [[0.4]]
    """
    return overlap(a, b)[0]


def mask_containment(a: PackedMasks, b: PackedMasks) -> NDArray[np.float64]:
    """Intersection over the smaller area of every pair, `(N, M)` float64; tells a part from a duplicate."""
    return overlap(a, b)[1]


def overlap(a: PackedMasks, b: PackedMasks) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IoU and containment of every pair from one pass over the pixels."""
    shared = mask_intersection(a, b).astype(np.float64)
    area_a, area_b = a.areas[:, None], b.areas[None, :]
    return shared / np.maximum(area_a + area_b - shared, 1), shared / np.maximum(np.minimum(area_a, area_b), 1)
