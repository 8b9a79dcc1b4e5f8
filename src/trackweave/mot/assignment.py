"""One-to-one assignment of tracks to detections at least total cost."""

from __future__ import annotations

import numba
import numpy as np
from numba import boolean, float32, int64, types, void
from numpy.typing import NDArray

UNMATCHED = 1.0
"""What it costs to leave a track and a detection without each other."""


@numba.njit(
    types.UniTuple(int64, 2)(  # type: ignore[no-untyped-call]
        float32[:, ::1], int64[::1], boolean[::1], boolean[::1], int64[::1], int64[::1], int64[::1], boolean[::1]
    ),
    cache=True,
)
def take_undisputed(
    cost: NDArray[np.float32],
    pairs: NDArray[np.int64],
    rows: NDArray[np.bool_],
    columns: NDArray[np.bool_],
    match: NDArray[np.int64],
    row_place: NDArray[np.int64],
    column_place: NDArray[np.int64],
    open_pairs: NDArray[np.bool_],
) -> tuple[int, int]:
    """Matches pairs that have only each other among the `rows` and `columns` that take part.

    Writes their columns to `match`, marks the disputed pairs in `open_pairs` and numbers the rows and columns of those
    in `row_place` and `column_place`; returns how many rows and columns are disputed.
    """
    width = len(columns)
    row_place[:] = 0
    column_place[:] = 0
    for k in range(len(pairs)):
        r, c = pairs[k] // width, pairs[k] % width
        open_pairs[k] = rows[r] and columns[c] and cost[r, c] < UNMATCHED
        if open_pairs[k]:
            row_place[r] += 1
            column_place[c] += 1
    for k in range(len(pairs)):
        r, c = pairs[k] // width, pairs[k] % width
        if open_pairs[k] and row_place[r] == 1 and column_place[c] == 1:
            match[r] = c
            open_pairs[k] = False
            row_place[r] = 0
            column_place[c] = 0
    disputed_rows = 0
    for r in range(len(rows)):
        if row_place[r] > 0:
            row_place[r] = disputed_rows
            disputed_rows += 1
    disputed_columns = 0
    for c in range(width):
        if column_place[c] > 0:
            column_place[c] = disputed_columns
            disputed_columns += 1
    return disputed_rows, disputed_columns


@numba.njit(
    void(float32[:, ::1], int64[::1], boolean[::1], int64[::1], int64[::1], float32[:, ::1], int64[::1], int64[::1]),
    cache=True,
)
def fill_prices(
    cost: NDArray[np.float32],
    pairs: NDArray[np.int64],
    open_pairs: NDArray[np.bool_],
    row_place: NDArray[np.int64],
    column_place: NDArray[np.int64],
    price: NDArray[np.float32],
    row_of: NDArray[np.int64],
    column_of: NDArray[np.int64],
) -> None:
    """The small matrix of the disputed rows and columns, and where they came from."""
    price[:] = UNMATCHED
    width = cost.shape[1]
    for k in range(len(pairs)):
        if open_pairs[k]:
            r, c = pairs[k] // width, pairs[k] % width
            price[row_place[r], column_place[c]] = cost[r, c]
            row_of[row_place[r]] = r
            column_of[column_place[c]] = c


def assign(
    cost: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    columns: NDArray[np.bool_],
    match: NDArray[np.int64],
    pairs: NDArray[np.int64] | None = None,
) -> None:
    """Adds to `match` `(T,)` the best partners between the `rows` `(T,)` and `columns` `(D,)` that take part.

    Minimises the sum of `cost` `(T, D)` over matched pairs plus `UNMATCHED` per pair left out; only `allowed` pairs
    below `UNMATCHED` are matched. Most rows of real video have a single choice and are settled at once; what is left
    goes to SciPy's solver (Crouse, IEEE TAES 2016).

    `pairs` are the flat indices of the allowed pairs, where the caller has them already.
    """
    if pairs is None:
        pairs = np.flatnonzero(allowed)
    row_place, column_place = np.empty(len(rows), np.int64), np.empty(len(columns), np.int64)
    open_pairs = np.empty(len(pairs), np.bool_)
    height, width = take_undisputed(cost, pairs, rows, columns, match, row_place, column_place, open_pairs)
    if not height:
        return
    from scipy.optimize import linear_sum_assignment

    price = np.empty((height, width), np.float32)
    row_of, column_of = np.empty(height, np.int64), np.empty(width, np.int64)
    fill_prices(cost, pairs, open_pairs, row_place, column_place, price, row_of, column_of)
    chosen_rows, chosen_columns = linear_sum_assignment(price)
    settled = price[chosen_rows, chosen_columns] < UNMATCHED
    match[row_of[chosen_rows[settled]]] = column_of[chosen_columns[settled]]
