"""Conversion between box forms. Boxes are pixels; xyxy has exclusive right and bottom edges, so `w = x2 - x1`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def as_boxes(boxes: Any) -> NDArray[np.float64]:
    """Anything box-like as `(N, 4)` float64; an empty input gives `(0, 4)`.

    Raises:
        ValueError: not four numbers per box.
    """
    array = np.asarray(boxes, np.float64)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes are (N, 4), not {array.shape}")
    return array


def xywh_to_xyxy(boxes: Any) -> Boxes:
    """`(N, 4)` x, y, width, height → `(N, 4)` float32 xyxy.

    >>> xywh_to_xyxy([[10, 20, 5, 6]]).tolist()
    [[10.0, 20.0, 15.0, 26.0]]
    """
    array = as_boxes(boxes)
    return np.concatenate([array[:, :2], array[:, :2] + array[:, 2:]], axis=1).astype(np.float32)


def xyxy_to_xywh(boxes: Any) -> Boxes:
    """`(N, 4)` xyxy → `(N, 4)` float32 x, y, width, height.

    >>> xyxy_to_xywh([[10, 20, 15, 26]]).tolist()
    [[10.0, 20.0, 5.0, 6.0]]
    """
    array = as_boxes(boxes)
    return np.concatenate([array[:, :2], array[:, 2:] - array[:, :2]], axis=1).astype(np.float32)


def scale_boxes(boxes: Any, scale_x: float, scale_y: float) -> Boxes:
    """Boxes times `(scale_x, scale_y)`, float32, never rounded: scaling there and back gives the same box.

    >>> scale_boxes([[1, 2, 3, 4]], 2, 0.5).tolist()
    [[2.0, 1.0, 6.0, 2.0]]
    """
    scaled: NDArray[np.float64] = as_boxes(boxes) * np.array([scale_x, scale_y, scale_x, scale_y])
    return scaled.astype(np.float32)


def pixels_inside(box: Any, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The pixels `left, top, right, bottom` that a box xyxy touches in an image `(H, W)`; None where it has none.

    >>> pixels_inside([-3, 1.5, 2.5, 4], (10, 10)), pixels_inside([10, 1, 12, 4], (10, 10))
    ((0, 1, 3, 4), None)
    """
    array = np.asarray(box, np.float32)
    height, width = size
    x1, y1, x2, y2 = np.clip(array, 0, [width, height, width, height])
    left, top, right, bottom = int(np.floor(x1)), int(np.floor(y1)), int(np.ceil(x2)), int(np.ceil(y2))
    if array[2] <= array[0] or array[3] <= array[1] or right <= left or bottom <= top:
        return None
    return left, top, right, bottom


def clip_boxes(boxes: Any, height: int, width: int) -> Boxes:
    """Boxes xyxy cut to the frame; a box outside it gets zero area on the nearest edge."""
    limits = np.array([width, height, width, height])
    return np.clip(as_boxes(boxes), 0, limits).astype(np.float32)


def box_areas(boxes: Any) -> NDArray[np.float64]:
    """`(N,)` areas of xyxy boxes; 0 for an inverted box."""
    array = as_boxes(boxes)
    return np.asarray(np.prod(np.maximum(array[:, 2:] - array[:, :2], 0), axis=1))


def box_overlap(a: Any, b: Any) -> NDArray[np.float64]:
    """Area that every pair of xyxy boxes shares, `(N, M)` float64."""
    first, second = as_boxes(a), as_boxes(b)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=2))


def box_iou(a: Any, b: Any) -> NDArray[np.float64]:
    """IoU of every pair of xyxy boxes, `(N, M)` float64; 0 where a box is empty.

    >>> box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]]).round(3).tolist()
    [[0.333, 0.0]]
    """
    shared = box_overlap(a, b)
    union = box_areas(a)[:, None] + box_areas(b)[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


# The two below are for compiled loops: `inner(pair_iou)`. They are plain Python here, because most that import this
# module compile nothing.


def pair_iou(a: Any, b: Any) -> float:
    """IoU of two boxes, each four numbers xyxy; 0 where they do not overlap.

    >>> pair_iou((0.0, 0.0, 2.0, 2.0), (1.0, 0.0, 3.0, 2.0))
    0.3333333333333333
    """
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    iou: float = shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
    return iou  # without `float()`: a kernel over float32 boxes stays in float32


def centred_iou(dx: float, dy: float, width: float, height: float, other_width: float, other_height: float) -> float:
    """IoU of two boxes by the distance of their centres and their sizes; 0 where they do not overlap.

    >>> centred_iou(1.0, 0.0, 2.0, 2.0, 2.0, 2.0)
    0.3333333333333333
    """
    across = min(width, other_width, 0.5 * (width + other_width) - abs(dx))
    down = min(height, other_height, 0.5 * (height + other_height) - abs(dy))
    if across <= 0.0 or down <= 0.0:
        return 0.0
    shared = across * down
    return shared / (width * height + other_width * other_height - shared)
