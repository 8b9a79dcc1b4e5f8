"""J and F of every pair of two sets of masks, on packed words: what a matrix of overlaps is to boxes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.evaluation.region import boundary_of, boundary_radius, disk
from trackweave.masks.overlap import mask_intersection, mask_iou
from trackweave.masks.packed import PackedMasks

BOUND_TH = 0.008


class Edges(NamedTuple):
    """Boundaries of N masks, and what lies near them, packed."""

    lines: PackedMasks
    near: PackedMasks


def region_similarities(one: PackedMasks, other: PackedMasks) -> NDArray[np.float64]:
    """`(N, M)` J; two empty masks agree (1).

    Raises:
        ValueError: masks of different sizes.
    """
    both_empty = (one.areas == 0)[:, None] & (other.areas == 0)[None]
    return np.where(both_empty, 1.0, mask_iou(one, other))


def edges_of(masks: PackedMasks, bound_th: float = BOUND_TH) -> Edges:
    """Boundaries of masks and the pixels within the radius of `boundary_measure` around them."""
    import cv2

    radius = boundary_radius(masks.size, bound_th)
    lines = PackedMasks.empty(*masks.size, len(masks))
    near = PackedMasks.empty(*masks.size, len(masks))
    around = disk(radius)
    for n, (x1, y1, x2, y2) in enumerate(masks.boxes.tolist()):
        if x1 == x2:
            continue
        # The boundary and all that is near lie in this window: nothing else is unpacked work.
        top, left = max(y1 - radius - 2, 0), max(x1 - radius - 2, 0)
        window = np.s_[top : y2 + radius + 2, left : x2 + radius + 2]
        edge = _boundary_in(masks[n].to_bool()[0], window)
        for target, crop in ((lines, edge), (near, cv2.dilate(edge.view(np.uint8), around).view(np.bool_))):
            target.bits[n] = PackedMasks.from_crops([crop], np.array([[top, left]]), *masks.size).bits[0]
    return Edges(lines, near)


def _boundary_in(mask: NDArray[np.bool_], window: tuple[slice, slice]) -> NDArray[np.bool_]:
    """The boundary inside a window that is wider than the mask, unless it ends with the image."""
    return boundary_of(np.ascontiguousarray(mask[window]))


def boundary_measures(one: Edges, other: Edges) -> NDArray[np.float64]:
    """`(N, M)` F, equal to `boundary_measure` of each pair.

    Raises:
        ValueError: masks of different sizes.
    """
    n_one, n_other = one.lines.areas[:, None], other.lines.areas[None]
    precision = mask_intersection(one.lines, other.near) / np.maximum(n_one, 1)
    recall = mask_intersection(one.near, other.lines) / np.maximum(n_other, 1)
    total = precision + recall
    found = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return np.where((n_one == 0) | (n_other == 0), (n_one == n_other).astype(np.float64), found)
