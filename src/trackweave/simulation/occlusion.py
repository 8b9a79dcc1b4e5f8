"""What can be seen of each object: those that are nearer hide those behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numba import boolean, float32, float64, int64, void
from numpy.typing import NDArray

ACROSS, DOWN = 10, 14
"""Points of each box that are looked at."""
BODY = 0.8
"""Breadth of a body that hides others, share of its box: between its limbs one sees through."""


@dataclass(frozen=True, eq=False)
class Sightings:
    """What is left of N objects at T moments.

    Attributes:
        visible: `(T, N)` float32, the share of the box that is in the picture and not hidden.
        inside: `(T, N)` float32, the share that is in the picture.
        extent: `(T, N, 4)` float64 xyxy around what is visible; the whole box where nothing is.
        hider: `(T, N)` int64, the object that hides most, −1 = none.
    """

    visible: NDArray[np.float32]
    inside: NDArray[np.float32]
    extent: NDArray[np.float64]
    hider: NDArray[np.int64]


def sightings(
    boxes: NDArray[np.float64],
    depth: NDArray[np.float64],
    present: NDArray[np.bool_],
    solid: NDArray[np.bool_],
    size: tuple[int, int],
) -> Sightings:
    """Looks at a grid of points of every box.

    Args:
        boxes: `(T, N, 4)` xyxy pixels.
        depth: `(T, N)` metres; the nearer hides the further.
        present: `(T, N)`; the others neither hide nor are hidden.
        solid: `(N,)`: hides over its whole breadth.
        size: `(H, W)` pixels.
    """
    shape = depth.shape
    visible, inside = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    extent, hider = boxes.copy(), np.full(shape, -1, np.int64)
    if not depth.size:
        return Sightings(visible, inside, extent, hider)
    _look(
        np.ascontiguousarray(boxes), np.ascontiguousarray(depth), np.ascontiguousarray(present), solid,
        float(size[0]), float(size[1]), visible, inside, extent, hider,
    )  # fmt: skip
    return Sightings(visible, inside, extent, hider)


@numba.njit(cache=True)
def _measure(
    seen: NDArray[np.bool_],
    t: int,
    i: int,
    boxes: NDArray[np.float64],
    step_x: float,
    step_y: float,
    visible: NDArray[np.float32],
    extent: NDArray[np.float64],
) -> None:
    """The share of points that are seen, and the box around them."""
    count, first_row, last_row, first_column, last_column = 0, DOWN, -1, ACROSS, -1
    for row in range(DOWN):
        for column in range(ACROSS):
            if seen[row, column]:
                count += 1
                first_row, last_row = min(first_row, row), max(last_row, row)
                first_column, last_column = min(first_column, column), max(last_column, column)
    visible[t, i] = count / (ACROSS * DOWN)
    if count:
        left, top = boxes[t, i, 0], boxes[t, i, 1]
        extent[t, i, 0], extent[t, i, 2] = left + first_column * step_x, left + (last_column + 1) * step_x
        extent[t, i, 1], extent[t, i, 3] = top + first_row * step_y, top + (last_row + 1) * step_y


@numba.njit(
    void(
        float64[:, :, ::1], float64[:, ::1], boolean[:, ::1], boolean[::1], float64, float64,
        float32[:, ::1], float32[:, ::1], float64[:, :, ::1], int64[:, ::1],
    ),
    cache=True,
)  # fmt: skip
def _look(
    boxes: NDArray[np.float64],
    depth: NDArray[np.float64],
    present: NDArray[np.bool_],
    solid: NDArray[np.bool_],
    high: float,
    wide: float,
    visible: NDArray[np.float32],
    inside: NDArray[np.float32],
    extent: NDArray[np.float64],
    hider: NDArray[np.int64],
) -> None:
    steps, n = depth.shape
    seen = np.empty((DOWN, ACROSS), np.bool_)
    for t in range(steps):
        for i in range(n):
            if not present[t, i]:
                continue
            left, top, right, bottom = boxes[t, i, 0], boxes[t, i, 1], boxes[t, i, 2], boxes[t, i, 3]
            step_x, step_y = (right - left) / ACROSS, (bottom - top) / DOWN
            count = 0
            for row in range(DOWN):
                y = top + (row + 0.5) * step_y
                for column in range(ACROSS):
                    x = left + (column + 0.5) * step_x
                    seen[row, column] = 0 <= x < wide and 0 <= y < high
                    count += seen[row, column]
            inside[t, i] = count / (ACROSS * DOWN)
            most = 0
            for j in range(n):
                if j == i or not present[t, j] or depth[t, j] >= depth[t, i]:
                    continue
                margin = 0.0 if solid[j] else (1.0 - BODY) / 2 * (boxes[t, j, 2] - boxes[t, j, 0])
                low_x, high_x = boxes[t, j, 0] + margin, boxes[t, j, 2] - margin
                low_y, high_y = boxes[t, j, 1], boxes[t, j, 3]
                if low_x >= right or high_x <= left or low_y >= bottom or high_y <= top:
                    continue
                taken = 0
                for row in range(DOWN):
                    y = top + (row + 0.5) * step_y
                    if y < low_y or y >= high_y:
                        continue
                    for column in range(ACROSS):
                        x = left + (column + 0.5) * step_x
                        if seen[row, column] and low_x <= x < high_x:
                            seen[row, column] = False
                            taken += 1
                if taken > most:
                    most = taken
                    hider[t, i] = j
            _measure(seen, t, i, boxes, step_x, step_y, visible, extent)
