from __future__ import annotations

import hashlib
import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.proposals.hierarchy import seed_grid, watershed

SIZES = ((1, 1), (1, 9), (17, 5), (40, 61), (64, 48))
STEPS = ((-1, 0), (0, -1), (0, 1), (1, 0))


def flooded(heights: NDArray[np.float32], seeds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The definition: the lowest pixel beside the flood is taken next. Right only without equal heights."""
    labels = seeds.copy()
    queue: list[tuple[float, int, int]] = [(float(heights[y, x]), y, x) for y, x in np.argwhere(labels).tolist()]
    heapq.heapify(queue)
    while queue:
        _, y, x = heapq.heappop(queue)
        for dy, dx in STEPS:
            b, a = y + dy, x + dx
            if 0 <= b < labels.shape[0] and 0 <= a < labels.shape[1] and not labels[b, a]:
                labels[b, a] = labels[y, x]
                heapq.heappush(queue, (float(heights[b, a]), b, a))
    return labels


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 450), st.integers(0, 2**32 - 1))
def test_labels_are_those_of_the_definition(height: int, width: int, count: int, seed: int) -> None:
    heights = np.random.default_rng(seed).permutation(height * width).reshape(height, width).astype(np.float32)
    seeds = np.zeros((height, width), np.int64)
    grid = seeds[seed_grid(height, width, count)]
    grid[:] = np.arange(1, grid.size + 1).reshape(grid.shape)
    before = heights.copy()
    assert np.array_equal(watershed(heights, count), flooded(heights, seeds))
    assert np.array_equal(heights, before)


@pytest.mark.parametrize(
    ("levels", "digest"),
    [
        (1, "c39f65016437a92b"),
        (3, "e702965f91b1e6e3"),
        (30, "4b78898ef54e1c07"),
        (1 << 20, "682966aae2331704"),
    ],
)
def test_labels_equal_those_of_scikit_image(levels: int, digest: str) -> None:
    """Digests of `skimage.segmentation.watershed` 0.26.0, also where many heights are equal (few levels)."""
    rng = np.random.default_rng(levels)
    hashed = hashlib.sha256()
    for height, width in SIZES:
        heights = rng.integers(0, levels, (height, width)).astype(np.float32)
        for count in (1, 7, height * width // 9 + 1, height * width):
            hashed.update(watershed(heights, count).astype(np.int64).tobytes())
    assert hashed.hexdigest()[:16] == digest
