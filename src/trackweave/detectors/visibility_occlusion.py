"""How much of each box nearer boxes and the frame's border hide: geometry alone, exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


def visible_shares(
    xyxy: NDArray[Any], size: tuple[int, int] | None = None, occluders: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Share of each box that no nearer box covers and that lies inside the frame.

    Nearer is the box whose bottom edge is lower: things stand on one ground and the camera looks slightly down. Of two
    with one bottom the larger is nearer; of two alike neither is. Overlapping nearer boxes count once (exact union).
    This is how MOTChallenge's ground truth defines visibility (Milan et al., "MOT16", arXiv 1603.00831).

    Args:
        xyxy: `(N, 4)`, pixels.
        size: `(H, W)` of the frame; what lies outside is hidden. None: nothing is outside.
        occluders: `(N,)` bool, the boxes that hide others; all when None.

    Returns:
        `(N,)` float64 in [0, 1]; 1 for a box without area or that is not finite, which says nothing.

    >>> visible_shares(np.array([[0, 0, 4, 8], [2, 4, 6, 12]])).tolist()
    [0.75, 1.0]
    """
    boxes, areas = finite_boxes(xyxy)
    hides = (areas > 0) if occluders is None else occluders & (areas > 0)
    low, high = np.array([-np.inf, -np.inf]), np.array([np.inf, np.inf])
    if size is not None:
        low, high = np.zeros(2), np.array([size[1], size[0]], np.float64)
    inside = np.concatenate([np.maximum(boxes[:, :2], low), np.minimum(boxes[:, 2:], high)], axis=1)
    shown = np.prod(np.maximum(inside[:, 2:] - inside[:, :2], 0.0), axis=1) - _covered(boxes, inside, areas, hides)
    return np.asarray(np.clip(np.divide(shown, areas, out=np.ones_like(areas), where=areas > 0), 0.0, 1.0))


def finite_boxes(xyxy: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes `(N, 4)` float64, all zero where not finite, and their areas `(N,)`, 0 where inverted."""
    boxes = np.array(xyxy, np.float64).reshape(-1, 4)
    boxes[~np.isfinite(boxes).all(axis=1)] = 0.0
    return boxes, np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)


def nearer_pairs(xyxy: NDArray[Any]) -> NDArray[np.bool_]:
    """`(N, N)` bool: box `j` (column) is nearer than box `i` (row) and overlaps it; the order of `visible_shares`."""
    boxes, areas = finite_boxes(xyxy)
    bottom = boxes[:, 3]
    nearer = (bottom > bottom[:, None]) | ((bottom == bottom[:, None]) & (areas > areas[:, None]))
    overlap = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    return np.asarray(nearer & (overlap > 0).all(axis=2))


@njit(cache=True, nogil=True)
def _covered(boxes: Any, inside: Any, areas: Any, hides: Any) -> Any:
    """Area of the union of nearer boxes within each `inside` box, `(N,)`."""
    n = len(boxes)
    out = np.zeros(n)
    parts = np.empty((n, 3))
    edges = np.empty(2 * n)
    for i in range(n):
        count = 0
        for j in range(n):
            lower = boxes[j, 3] > boxes[i, 3] or (boxes[j, 3] == boxes[i, 3] and areas[j] > areas[i])
            left, right = max(inside[i, 0], boxes[j, 0]), min(inside[i, 2], boxes[j, 2])
            top = max(inside[i, 1], boxes[j, 1])
            if lower and hides[j] and left < right and top < inside[i, 3]:
                parts[count, 0], parts[count, 1], parts[count, 2] = left, top, right
                edges[2 * count], edges[2 * count + 1] = left, right
                count += 1
        if count:
            out[i] = _union(parts[:count], np.sort(edges[: 2 * count]), inside[i, 3])
    return out


@njit(cache=True, nogil=True)
def _union(parts: Any, edges: Any, bottom: float) -> float:
    """Area of the union of boxes `(K, 3)` left, top, right that all end at `bottom`, as nearer boxes do.

    Between two neighbouring vertical edges `(2 K,)`, sorted, the box with the highest top holds all others.
    """
    total = 0.0
    for k in range(len(edges) - 1):
        highest = bottom
        for m in range(len(parts)):
            if parts[m, 0] <= edges[k] and parts[m, 2] >= edges[k + 1]:
                highest = min(highest, parts[m, 1])
        total += (edges[k + 1] - edges[k]) * (bottom - highest)
    return total
