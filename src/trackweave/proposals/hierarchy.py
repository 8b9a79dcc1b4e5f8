"""Small regions by a watershed, and the hierarchy that merges them.

The watershed floods from a grid of seeds: Beucher & Meyer, "The Morphological Approach to
Segmentation: The Watershed Transformation" (1993); the order of the queue, height first and then time of entry, is that
of Soille & Ansoult, Signal Processing 20 (1990). The labels equal those of `skimage.segmentation.watershed(heights,
count)` of scikit-image 0.26.

Hierarchical region merging: the two neighbours with the least contrast become one, until no regions touch.

The contrast of two regions is the strength of the edge along their common border, plus the distances of their mean
colours and of their colour histograms. It is weighted with the area of the smaller region, so that specks merge first
and a height of the hierarchy is a granularity: the larger a region, the less contrast it needs to remain. Related:
Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation", TPAMI 2011 (edges along borders); Uijlings et
al., "Selective Search", IJCV 2013 (histograms, small regions first).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import inner, njit


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
    queue, entered = np.empty(labels.size, np.int64), np.zeros(labels.size, np.int64)
    _flood(padded.ravel(), labels.ravel(), labels.shape[1], queue, entered)
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


@njit(nogil=True)
def _flood(
    heights: NDArray[np.float32],
    labels: NDArray[np.int64],
    stride: int,
    queue: NDArray[np.int64],
    entered: NDArray[np.int64],
) -> None:
    """Spreads the positive labels over all zeros, in place; all arrays `(P,)`, rows of `stride` pixels.

    A pixel gets its label when it enters the queue, which is final: nothing can reach it from a lower place later. So
    each pixel enters once, and the queue never holds more than there are pixels. Of two pixels of one height the one
    that entered first comes first; this makes the labels reproducible and splits plateaus in the middle. `heights` is
    overwritten: a pixel below the water is raised to the level at which the flood reaches it. `queue` holds pixels as
    a binary heap, the lowest first; `entered` the time of entry, zeros at first: all seeds enter at time 0.
    """
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


@inner
def _before(a: int, b: int, heights: NDArray[np.float32], entered: NDArray[np.int64]) -> bool:
    """Whether pixel `a` leaves the queue before pixel `b`."""
    if heights[a] != heights[b]:
        return bool(heights[a] < heights[b])
    return bool(entered[a] < entered[b])


@inner
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


@inner
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


Floats = NDArray[np.float64]

# Chosen on DAVIS 2016 training frames and on Semantic-SAM's candidates of an indoor scan.
EDGE_WEIGHT = 2.0
COLOUR_WEIGHT = 0.15
HISTOGRAM_WEIGHT = 15.0  # of the L1 distance, which is at most 2 per channel
AREA_POWER = 0.4


@dataclass(frozen=True)
class RegionGraph:
    """R regions of an image and their common borders. Sums, not means, so that merging is addition.

    Attributes:
        area: `(R,)` pixels.
        colour: `(R, 3)` sum of CIELAB values.
        histogram: `(R, B)` pixels per colour bin, all channels one after the other.
        border: `(R, R)` number of pixel pairs across a common border, symmetric; 0 = no neighbours.
        edge: `(R, R)` sum of the edge strength over those pairs.
    """

    area: Floats
    colour: Floats
    histogram: Floats
    border: Floats
    edge: Floats


@dataclass(frozen=True)
class Hierarchy:
    """The order in which R regions merged.

    Attributes:
        survivor: `(K,)` int64, the region of merge k that keeps its number.
        absorbed: `(K,)` int64, the region that it absorbs.
        heights: `(K,)` float64, never falling.
        regions: R.
    """

    survivor: NDArray[np.int64]
    absorbed: NDArray[np.int64]
    heights: Floats
    regions: int

    def cut(self, height: float) -> NDArray[np.int64]:
        """The partition just above `height`: `(R,)` int64, the part of each region, 0 … P-1."""
        last = int(np.searchsorted(self.heights, height, side="right"))
        owner = np.arange(self.regions)
        # Latest merge first, so that an owner is final before it is passed on.
        for survivor, absorbed in zip(
            self.survivor[:last][::-1].tolist(), self.absorbed[:last][::-1].tolist(), strict=True
        ):
            owner[absorbed] = owner[survivor]
        return np.asarray(np.unique(owner, return_inverse=True)[1], np.int64)


def merge_regions(graph: RegionGraph) -> Hierarchy:
    """Merges until no two regions touch; time grows with R², memory too (R ≈ 1000: 25 ms)."""
    count = len(graph.area)
    cost, nearest, merges = np.full((count, count), np.inf), np.zeros(count, np.int64), np.empty((count, 3))
    merged = _merge(
        graph.area.copy(), graph.colour.copy(), graph.histogram.copy(), graph.border.copy(), graph.edge.copy(),
        float(graph.area.sum()), cost, nearest, merges,
    )  # fmt: skip
    merges = merges[:merged]
    return Hierarchy(merges[:, 0].astype(np.int64), merges[:, 1].astype(np.int64), merges[:, 2].copy(), count)


@njit(nogil=True)
def _merge(
    area: Floats,
    colour: Floats,
    histogram: Floats,
    border: Floats,
    edge: Floats,
    total: float,
    cost: Floats,
    nearest: NDArray[np.int64],
    merges: Floats,
) -> int:
    """Writes `merges` as rows `(survivor, absorbed, height)` and returns how many; the arguments are overwritten.

    `cost` `(R, R)` is infinite at first; `nearest` `(R,)` holds the column of each row's smallest cost.
    """
    count = area.shape[0]
    for i in range(count):
        for j in range(count):
            if border[i, j] > 0:
                cost[i, j] = _contrast(area, colour, histogram, border, edge, i, j, total)
        nearest[i] = _cheapest(cost, i)
    height = 0.0
    for k in range(count - 1):
        i = 0
        for r in range(1, count):
            if cost[r, nearest[r]] < cost[i, nearest[i]]:
                i = r
        j = nearest[i]
        if cost[i, j] == np.inf:
            return int(k)
        # A merge may make a pair cheaper than the last height; the heights of a hierarchy must not fall, or cuts
        # would not nest.
        height = max(height, cost[i, j])
        if area[j] > area[i]:
            i, j = j, i
        merges[k, 0], merges[k, 1], merges[k, 2] = i, j, height
        _absorb(area, colour, histogram, border, edge, cost, i, j)
        for r in range(count):
            if border[i, r] > 0:
                cost[i, r] = _contrast(area, colour, histogram, border, edge, i, r, total)
                cost[r, i] = cost[i, r]
        # `nearest` must stay the argmin of every row: rows that pointed at i or j are searched again, in others only
        # column i can have become cheaper.
        for r in range(count):
            if r == i or nearest[r] == i or nearest[r] == j:
                nearest[r] = _cheapest(cost, r)
            elif cost[r, i] < cost[r, nearest[r]]:
                nearest[r] = i
    return int(max(count - 1, 0))


@inner
def _cheapest(cost: Floats, row: int) -> int:
    """The first column of a row's smallest cost; `numpy.argmin` takes longer to compile."""
    best = 0
    for column in range(1, cost.shape[1]):
        if cost[row, column] < cost[row, best]:
            best = column
    return best


@inner
def _contrast(
    area: Floats,
    colour: Floats,
    histogram: Floats,
    border: Floats,
    edge: Floats,
    i: int,
    j: int,
    total: float,
) -> float:
    squared = 0.0
    for c in range(colour.shape[1]):
        squared += (colour[i, c] / area[i] - colour[j, c] / area[j]) ** 2
    histogram_distance = 0.0
    for b in range(histogram.shape[1]):
        histogram_distance += abs(histogram[i, b] / area[i] - histogram[j, b] / area[j])
    histogram_distance /= colour.shape[1]
    contrast = (
        EDGE_WEIGHT * edge[i, j] / border[i, j]
        + COLOUR_WEIGHT * np.sqrt(squared)
        + HISTOGRAM_WEIGHT * histogram_distance
    )
    weighted: float = contrast * (min(area[i], area[j]) / total) ** AREA_POWER
    return weighted


@inner
def _absorb(
    area: Floats, colour: Floats, histogram: Floats, border: Floats, edge: Floats, cost: Floats, i: int, j: int
) -> None:
    """Adds region `j` to region `i`; `j` has no neighbours from then on."""
    area[i] += area[j]
    # One by one: adding rows would bring a second of compiled code for the error of unequal shapes.
    for k in range(colour.shape[1]):
        colour[i, k] += colour[j, k]
    for k in range(histogram.shape[1]):
        histogram[i, k] += histogram[j, k]
    for r in range(area.shape[0]):
        if border[j, r] > 0:
            border[i, r] += border[j, r]
            border[r, i] = border[i, r]
            edge[i, r] += edge[j, r]
            edge[r, i] = edge[i, r]
            border[j, r] = border[r, j] = 0.0
            cost[j, r] = cost[r, j] = np.inf
    border[i, i] = 0.0
    cost[i, i] = np.inf
