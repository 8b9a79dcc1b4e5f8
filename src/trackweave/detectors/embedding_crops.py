"""Pieces of a frame under its boxes, and unit vectors: what every embedder does first and last."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.masks.packed import PackedMasks


def pixel_boxes(xyxy: NDArray[Any], height: int, width: int) -> NDArray[np.int64]:
    """Boxes as whole pixels inside a frame.

    Args:
        xyxy: `(N, 4)`, pixels, right and bottom exclusive.
        height: of the frame, in pixels.
        width: of the frame, in pixels.

    Returns:
        `(N, 4)` int64: every pixel that the box touches; without pixels (right ≤ left or bottom ≤ top) where the box
        is inverted, not finite or outside the frame.

    >>> pixel_boxes(np.array([[-3.0, 1.5, 2.2, 4.0], [9, 9, 12, 12], [np.nan, 0, 1, 1]]), 8, 8).tolist()
    [[0, 1, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    usable: NDArray[np.bool_] = np.isfinite(boxes).all(axis=1) & np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    limits = np.array([width, height, width, height])
    inside = np.clip(np.where(usable[:, None], boxes, 0.0), 0, limits)
    whole: NDArray[np.int64] = np.concatenate([np.floor(inside[:, :2]), np.ceil(inside[:, 2:])], axis=1).astype(
        np.int64
    )
    whole[(whole[:, 2] <= whole[:, 0]) | (whole[:, 3] <= whole[:, 1])] = 0
    return whole


def mask_crop(masks: PackedMasks, row: int, box: NDArray[np.int64]) -> NDArray[np.uint8]:
    """One mask under a box `(4,)` int64 inside it, as `(h, w)` uint8 of 0 and 1; the rest stays packed."""
    left, top, right, bottom = (int(v) for v in box)
    first, last = top * masks.width, bottom * masks.width
    bits = np.unpackbits(masks.bits[row, first // 8 : -(-last // 8)])
    lines = bits[first % 8 : first % 8 + last - first].reshape(bottom - top, masks.width)
    return lines[:, left:right]


def unit_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    """`(N, E)` float32, every row divided by its length; a row of zeros stays one."""
    rows = np.asarray(rows, np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-12))
