"""`occlusion`: what is visible of each object behind those that are nearer to the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import njit

COLUMNS, ROWS = 10, 14
"""Grid of points of each box whose visibility is tested."""
BODY = 0.8
"""Width of an occluding body, share of its box: the background shows between its limbs."""


@dataclass(frozen=True, eq=False)
class Occlusion:
    """What is visible of N objects at T moments.

    Attributes:
        visible: `(T, N)` float32, the share of the box that is inside the image and not occluded.
        inside: `(T, N)` float32, the share that is inside the image.
        extent: `(T, N, 4)` float64 xyxy around what is visible; the whole box where nothing is.
        occluder: `(T, N)` int64, the object that occludes most, −1 = none.
    """

    visible: NDArray[np.float32]
    inside: NDArray[np.float32]
    extent: NDArray[np.float64]
    occluder: NDArray[np.int64]


def occlusion(
    boxes: NDArray[np.float64],
    depth: NDArray[np.float64],
    present: NDArray[np.bool_],
    solid: NDArray[np.bool_],
    size: tuple[int, int],
) -> Occlusion:
    """Tests the visibility of a grid of points of every box.

    Args:
        boxes: `(T, N, 4)` xyxy pixels.
        depth: `(T, N)` metres; the nearer object occludes the further one.
        present: `(T, N)`; the others neither occlude nor are occluded.
        solid: `(N,)`: occludes over the whole width of its box.
        size: `(H, W)` pixels.
    """
    shape = depth.shape
    visible, inside = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    extent, occluder = boxes.copy(), np.full(shape, -1, np.int64)
    if not depth.size:
        return Occlusion(visible, inside, extent, occluder)
    _test_grids(
        np.ascontiguousarray(boxes), np.ascontiguousarray(depth), np.ascontiguousarray(present), solid,
        float(size[0]), float(size[1]), visible, inside, extent, occluder,
    )  # fmt: skip
    return Occlusion(visible, inside, extent, occluder)


@njit
def _measure(
    is_visible: NDArray[np.bool_],
    t: int,
    i: int,
    boxes: NDArray[np.float64],
    step_x: float,
    step_y: float,
    visible: NDArray[np.float32],
    extent: NDArray[np.float64],
) -> None:
    """The share of visible points, and the box around them."""
    count, first_row, last_row, first_column, last_column = 0, ROWS, -1, COLUMNS, -1
    for row in range(ROWS):
        for column in range(COLUMNS):
            if is_visible[row, column]:
                count += 1
                first_row, last_row = min(first_row, row), max(last_row, row)
                first_column, last_column = min(first_column, column), max(last_column, column)
    visible[t, i] = count / (COLUMNS * ROWS)
    if count:
        left, top = boxes[t, i, 0], boxes[t, i, 1]
        extent[t, i, 0], extent[t, i, 2] = left + first_column * step_x, left + (last_column + 1) * step_x
        extent[t, i, 1], extent[t, i, 3] = top + first_row * step_y, top + (last_row + 1) * step_y


@njit
def _test_grids(
    boxes: NDArray[np.float64],
    depth: NDArray[np.float64],
    present: NDArray[np.bool_],
    solid: NDArray[np.bool_],
    height: float,
    width: float,
    visible: NDArray[np.float32],
    inside: NDArray[np.float32],
    extent: NDArray[np.float64],
    occluder: NDArray[np.int64],
) -> None:
    steps, n = depth.shape
    is_visible = np.empty((ROWS, COLUMNS), np.bool_)
    for t in range(steps):
        for i in range(n):
            if not present[t, i]:
                continue
            left, top, right, bottom = boxes[t, i, 0], boxes[t, i, 1], boxes[t, i, 2], boxes[t, i, 3]
            step_x, step_y = (right - left) / COLUMNS, (bottom - top) / ROWS
            count = 0
            for row in range(ROWS):
                y = top + (row + 0.5) * step_y
                for column in range(COLUMNS):
                    x = left + (column + 0.5) * step_x
                    is_visible[row, column] = 0 <= x < width and 0 <= y < height
                    count += is_visible[row, column]
            inside[t, i] = count / (COLUMNS * ROWS)
            most = 0
            for j in range(n):
                if j == i or not present[t, j] or depth[t, j] >= depth[t, i]:
                    continue
                margin = 0.0 if solid[j] else (1.0 - BODY) / 2 * (boxes[t, j, 2] - boxes[t, j, 0])
                low_x, high_x = boxes[t, j, 0] + margin, boxes[t, j, 2] - margin
                low_y, high_y = boxes[t, j, 1], boxes[t, j, 3]
                if low_x >= right or high_x <= left or low_y >= bottom or high_y <= top:
                    continue
                hidden = 0
                for row in range(ROWS):
                    y = top + (row + 0.5) * step_y
                    if y < low_y or y >= high_y:
                        continue
                    for column in range(COLUMNS):
                        x = left + (column + 0.5) * step_x
                        if is_visible[row, column] and low_x <= x < high_x:
                            is_visible[row, column] = False
                            hidden += 1
                if hidden > most:
                    most = hidden
                    occluder[t, i] = j
            _measure(is_visible, t, i, boxes, step_x, step_y, visible, extent)
