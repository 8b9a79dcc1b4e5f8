"""One-to-one assignment of tracks to detections at least total cost."""

from __future__ import annotations

import numba
import numpy as np
from numba import boolean, float32, int64
from numpy.typing import NDArray

UNMATCHED = 1.0
"""What it costs to leave a track and a detection without each other."""


@numba.njit(
    int64(float32[:, ::1], boolean[:, ::1], boolean[::1], boolean[::1], int64[::1], int64[::1], int64[::1]), cache=True
)
def take_undisputed(
    cost: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    columns: NDArray[np.bool_],
    match: NDArray[np.int64],
    row_choices: NDArray[np.int64],
    column_choices: NDArray[np.int64],
) -> int:
    """Matches pairs that have only each other among the `rows` and `columns` that take part.

    Writes their columns to `match` and counts each row's and column's choices; returns how many rows are disputed.
    """
    row_choices[:] = 0
    column_choices[:] = 0
    for r in range(len(rows)):
        if rows[r]:
            for c in range(len(columns)):
                if columns[c] and allowed[r, c] and cost[r, c] < UNMATCHED:
                    row_choices[r] += 1
                    column_choices[c] += 1
    disputed = 0
    for r in range(len(rows)):
        if row_choices[r] == 0:
            continue
        if row_choices[r] == 1:
            for c in range(len(columns)):
                if columns[c] and allowed[r, c] and cost[r, c] < UNMATCHED:
                    if column_choices[c] == 1:
                        match[r] = c
                        row_choices[r] = 0
                        column_choices[c] = 0
                    break
        if row_choices[r] > 0:
            disputed += 1
    return disputed


def assign(
    cost: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    columns: NDArray[np.bool_],
    match: NDArray[np.int64],
) -> None:
    """Adds to `match` `(T,)` the best partners between the `rows` `(T,)` and `columns` `(D,)` that take part.

    Minimises the sum of `cost` `(T, D)` over matched pairs plus `UNMATCHED` per pair left out; only `allowed` pairs
    below `UNMATCHED` are matched. Most rows of real video have a single choice and are settled at once; what is left
    goes to SciPy's solver (Crouse, IEEE TAES 2016).
    """
    row_choices = np.empty(len(rows), np.int64)
    column_choices = np.empty(len(columns), np.int64)
    if not take_undisputed(cost, allowed, rows, columns, match, row_choices, column_choices):
        return
    from scipy.optimize import linear_sum_assignment

    r, c = np.flatnonzero(row_choices), np.flatnonzero(column_choices)
    block = np.ix_(r, c)
    price = np.where(allowed[block], np.minimum(cost[block], UNMATCHED), UNMATCHED)
    chosen_rows, chosen_columns = linear_sum_assignment(price)
    settled = price[chosen_rows, chosen_columns] < UNMATCHED
    match[r[chosen_rows[settled]]] = c[chosen_columns[settled]]
