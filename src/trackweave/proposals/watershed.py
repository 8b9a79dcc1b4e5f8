"""Watershed by flooding from a grid of seeds: cuts an image into small regions along its edges.

Beucher & Meyer, "The Morphological Approach to Segmentation: The Watershed Transformation" (1993); the order of the
queue, height first and then time of entry, is that of Soille & Ansoult, Signal Processing 20 (1990). The labels equal
those of `skimage.segmentation.watershed(heights, count)` of scikit-image 0.26.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def watershed(heights: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Labels of the basins that grow from about `count` regularly spaced seeds.

    Args:
        heights: `(H, W)` float32, for example edge strength; low places are flooded first.
        count: number of seeds wanted; the grid's spacing is rounded to whole pixels.

    Returns:
        `(H, W)` int64, labels 1 … N in the order of the seeds, row by row. Every basin is 4-connected.

    >>> watershed(np.array([[0, 0, 9, 0, 0, 0]], np.float32), 2)
    array([[1, 1, 1, 2, 2, 2]])
    """
    rows, columns = seed_grid(heights.shape[0], heights.shape[1], count)
    # A rim labelled -1 keeps the flood inside without a test for the image's border at every step.
    labels = np.full((heights.shape[0] + 2, heights.shape[1] + 2), -1, np.int64)
    inside = labels[1:-1, 1:-1]
    inside[:] = 0
    seeds = inside[rows, columns]
    seeds[:] = np.arange(1, seeds.size + 1).reshape(seeds.shape)
    padded = np.zeros(labels.shape, np.float32)
    padded[1:-1, 1:-1] = heights
    _flood(padded.ravel(), labels.ravel(), labels.shape[1])
    return inside.copy()


def seed_grid(height: int, width: int, count: int) -> tuple[slice, slice]:
    """Rows and columns of about `count` seeds at equal distances in both directions."""
    if height * width <= count:
        return slice(None), slice(None)
    spacing = (height * width / count) ** 0.5
    steps = [spacing, spacing]
    shorter = 0 if height <= width else 1
    if min(height, width) < spacing:  # too thin for that spacing: one line of seeds
        steps[shorter], steps[1 - shorter] = float(min(height, width)), max(height, width) / count
    rows, columns = (slice(int(step // 2), None, round(step)) for step in steps)
    return rows, columns


@njit(cache=True, nogil=True)
def _flood(heights: NDArray[np.float32], labels: NDArray[np.int64], stride: int) -> None:
    """Spreads the positive labels over all zeros, in place; both arrays `(P,)`, rows of `stride` pixels.

    A pixel gets its label when it enters the queue, which is final: nothing can reach it from a lower place later. So
    each pixel enters once, and the queue never holds more than there are pixels. Of two pixels of one height the one
    that entered first comes first; this makes the labels reproducible and splits plateaus in the middle. `heights` is
    overwritten: a pixel below the water is raised to the level at which the flood reaches it.
    """
    queue = np.empty(len(labels), np.int64)  # pixels as a binary heap, the lowest first
    entered = np.zeros(len(labels), np.int64)  # time of entry; all seeds enter at time 0
    size = 0
    for pixel in range(len(labels)):
        if labels[pixel] > 0:
            _push(queue, size, pixel, heights, entered)
            size += 1
    time = 1
    while size > 0:
        pixel = queue[0]
        size -= 1
        _pop(queue, size, heights, entered)
        for step in (-stride, -1, 1, stride):
            neighbour = pixel + step
            if labels[neighbour] == 0:
                labels[neighbour] = labels[pixel]
                heights[neighbour] = max(heights[neighbour], heights[pixel])
                time += 1
                entered[neighbour] = time
                _push(queue, size, neighbour, heights, entered)
                size += 1


@njit(cache=True, nogil=True, inline="always")
def _before(a: int, b: int, heights: NDArray[np.float32], entered: NDArray[np.int64]) -> bool:
    """Whether pixel `a` leaves the queue before pixel `b`."""
    if heights[a] != heights[b]:
        return bool(heights[a] < heights[b])
    return bool(entered[a] < entered[b])


@njit(cache=True, nogil=True)
def _push(
    queue: NDArray[np.int64], size: int, pixel: int, heights: NDArray[np.float32], entered: NDArray[np.int64]
) -> None:
    """Adds a pixel to a heap of `size` pixels."""
    child = size
    queue[child] = pixel
    while child > 0:
        parent = (child - 1) // 2
        if not _before(queue[child], queue[parent], heights, entered):
            return
        queue[child], queue[parent] = queue[parent], queue[child]
        child = parent


@njit(cache=True, nogil=True)
def _pop(queue: NDArray[np.int64], size: int, heights: NDArray[np.float32], entered: NDArray[np.int64]) -> None:
    """Removes the first pixel of a heap that then has `size` pixels."""
    queue[0] = queue[size]
    parent = 0
    while True:
        first = parent
        for child in (2 * parent + 1, 2 * parent + 2):
            if child < size and _before(queue[child], queue[first], heights, entered):
                first = child
        if first == parent:
            return
        queue[parent], queue[first] = queue[first], queue[parent]
        parent = first
