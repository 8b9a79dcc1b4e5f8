"""Who belongs to whom: the rounds of a frame's assignment, and the solver of one.

Most rows of real video have a single choice and are settled at once; the rest falls into groups of a few rows and
columns that no chain of pairs joins, and each is solved by shortest augmenting paths
(Jonker and Volgenant, Computing 1987), in the variant for rectangular matrices of Crouse, "On implementing 2D
rectangular assignment algorithms", IEEE TAES 2016. It takes every step as SciPy's `linear_sum_assignment` does, so that
of equally cheap assignments both find the same one. The solver is here and not SciPy's because a frame with few objects
lasts as long as two calls from Python.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import inner, njit
from trackweave.mot.state import DET_SCORE, Parameters, Rows

UNMATCHED_COST = 1.0
"""What it costs to leave a track and a detection without each other."""

# Rounds of a frame; each pair takes part in one of them.
HIGH_ROUND, LOW_ROUND, TENTATIVE_ROUND = range(3)
# Rows of the whole numbers that a frame works with.
MATCH, SOURCE, TAKEN, ROW_OF, COLUMN_OF, ROW_PAIRS, COLUMN_PAIRS, PATH, PARTNER, OWNER, REMAINING = range(11)
OPEN_ROW, FIRST_COLUMN, GROUP = range(11, 14)
# Rows of the numbers that the solver works with.
ROW_PRICE, COLUMN_PRICE, SHORTEST = range(3)

Costs = NDArray[np.float32]
Flags = NDArray[np.bool_]
Pairs = NDArray[np.int32]
"""`(3, P)` row, column and round of pairs, row by row."""
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class Workspace:
    """Arrays that the kernels of a frame write to and no later frame reads.

    Attributes:
        integers: `(14, capacity)` int64.
        floats: `(3, capacity)` float64.
        pairs: `(3, pair_capacity)` int32.
        capacity: at least T + D.
        pair_capacity: at least T · D.
    """

    def __init__(self) -> None:
        self.capacity = self.pair_capacity = 0
        self.reserve(32, 32)

    def reserve(self, n: int, width: int) -> None:
        """Allocates for T = `n` tracks and D = `width` detections, or gives memory back when there were many more."""
        rows, pairs = n + width, n * width
        if rows > self.capacity or self.capacity > 512 + 8 * rows:
            self.capacity = max(128, 2 * rows)
            self.integers: Integers = np.zeros((GROUP + 1, self.capacity), np.int64)
            self.floats: Floats = np.zeros((SHORTEST + 1, self.capacity))
        if pairs > self.pair_capacity or self.pair_capacity > 16384 + 32 * pairs:
            self.pair_capacity = max(1024, 2 * pairs)
            self.pairs: Pairs = np.zeros((3, self.pair_capacity), np.int32)


@inner
def associate(
    n: int,
    detections: Rows,
    cost: Costs,
    allowed: Flags,
    pairs: Pairs,
    found: int,
    p: Parameters,
    integers: Integers,
    floats: Floats,
) -> bool:
    """Gives the first `n` tracks their detections, columns of `integers[MATCH]`, or −1.

    High scores first, low ones for what is left, tentative tracks where the settings say so; a scorer that decides has
    the scores among what it judges by, and one round for all.

    Args:
        n: T.
        detections: D rows.
        cost, allowed: `(T, D)`.
        pairs, found: the allowed pairs, as by `pair_costs`.
        p: parameters.
        integers, floats: of a `Workspace`.

    Returns:
        Whether a detection without a track is sure enough to begin one.
    """
    match, taken = integers[MATCH], integers[TAKEN]
    for row in range(n):
        match[row] = -1
    for column in range(len(detections)):
        taken[column] = 0
    for turn in range(TENTATIVE_ROUND + 1):
        assign(n, cost, allowed, pairs, found, turn, integers, floats)
    any_free = False
    for column in range(len(detections)):
        any_free |= taken[column] == 0 and detections[column, DET_SCORE] >= p.birth_score
    return any_free


@njit
def assign(
    n: int, cost: Costs, allowed: Flags, pairs: Pairs, found: int, turn: int, integers: Integers, floats: Floats
) -> None:
    """Adds to `integers[MATCH]` the best partners between the tracks and detections without one, and to `TAKEN`.

    Minimises the sum of `cost` over matched pairs plus `UNMATCHED_COST` per pair left out; only pairs of the round
    `turn` that cost less than `UNMATCHED_COST` are matched. Arguments as for `associate`.
    """
    match, taken = integers[MATCH], integers[TAKEN]
    row_pairs, column_pairs = integers[ROW_PAIRS], integers[COLUMN_PAIRS]
    rows, columns, turns = pairs[0], pairs[1], pairs[2]
    width = cost.shape[1]
    for row in range(n):
        row_pairs[row] = 0
    for column in range(width):
        column_pairs[column] = 0
    for k in range(found):
        row, column = rows[k], columns[k]
        if turns[k] == turn and match[row] < 0 and taken[column] == 0 and cost[row, column] < UNMATCHED_COST:
            row_pairs[row] += 1
            column_pairs[column] += 1
    # Pairs that have only each other are settled; the others fall into groups without a pair between them, and each
    # group is solved alone. A group is known by its first column.
    open_row, first_column, group = integers[OPEN_ROW], integers[FIRST_COLUMN], integers[GROUP]
    for column in range(width):
        group[column] = column
    count, last = 0, -1
    for k in range(found):
        row, column = rows[k], columns[k]
        if row_pairs[row] == 0 or column_pairs[column] == 0 or cost[row, column] >= UNMATCHED_COST:
            continue
        if row_pairs[row] == 1 and column_pairs[column] == 1:
            match[row] = column
            taken[column] = 1
            column_pairs[column] = 0
        elif row != last:
            open_row[count], first_column[count], last = row, column, row
            count += 1
        else:
            a, b = first_column[count - 1], np.int64(column)
            while group[a] != a:
                a = group[a]
            while group[b] != b:
                b = group[b]
            group[max(a, b)] = min(a, b)
    if count == 0:
        return
    for column in range(width):
        group[column] = group[group[column]]  # an earlier column, which knows its first one by now
    row_of, column_of = integers[ROW_OF], integers[COLUMN_OF]
    for first in range(width):
        if group[first] != first or column_pairs[first] == 0:
            continue
        height, across = 0, 0
        for column in range(first, width):
            if column_pairs[column] > 0 and group[column] == first:
                column_of[across] = column
                across += 1
        for k in range(count):
            if group[first_column[k]] == first:
                row_of[height] = open_row[k]
                height += 1
        _solve(height, across, cost, allowed, integers, floats)


@inner
def _price(cost: Costs, allowed: Flags, row: int, column: int) -> float:
    """What a pair costs the solver: no more than none."""
    price = float(cost[row, column])
    return price if price < UNMATCHED_COST and allowed[row, column] else UNMATCHED_COST


@inner
def _solve(height: int, width: int, cost: Costs, allowed: Flags, integers: Integers, floats: Floats) -> None:
    """The cheapest assignment of the rows and columns that `integers` lists in `ROW_OF` and `COLUMN_OF`; pairs that
    cost less than none are added to its `MATCH`."""
    row_of, column_of = integers[ROW_OF], integers[COLUMN_OF]
    is_turned = width < height  # the shorter side is what is searched for partners
    if is_turned:
        row_of, column_of, height, width = column_of, row_of, width, height
    path, partner, owner, remaining = integers[PATH], integers[PARTNER], integers[OWNER], integers[REMAINING]
    row_price, column_price, shortest = floats[ROW_PRICE], floats[COLUMN_PRICE], floats[SHORTEST]
    for j in range(width):
        column_price[j] = 0.0
        owner[j] = -1
    for begin in range(height):
        # The shortest path from a row without a partner to a column without one.
        row_price[begin] = 0.0
        for j in range(width):
            shortest[j] = math.inf
            remaining[j] = width - 1 - j  # backwards, as SciPy does: it decides between equals
        left, i, distance, sink = width, begin, 0.0, -1
        while sink < 0:
            best, lowest = -1, math.inf
            for k in range(left):
                j = remaining[k]
                row, column = row_of[i], column_of[j]
                if is_turned:
                    row, column = column, row
                reduced = distance + _price(cost, allowed, row, column) - row_price[i] - column_price[j]
                if reduced < shortest[j]:
                    path[j] = i
                    shortest[j] = reduced
                if shortest[j] < lowest or (shortest[j] == lowest and owner[j] < 0):
                    best, lowest = k, shortest[j]
            distance = lowest
            j = remaining[best]
            i = owner[j]
            if i < 0:
                sink = j
            left -= 1
            remaining[best] = remaining[left]
            remaining[left] = j  # those that were reached follow those that were not
        row_price[begin] += distance
        for k in range(left, width):
            j = remaining[k]
            excess = distance - shortest[j]
            if j != sink:
                row_price[owner[j]] += excess
            column_price[j] -= excess
        i = -1
        while i != begin:
            i = path[sink]
            owner[sink] = i
            sink, partner[i] = partner[i], sink
    match, taken = integers[MATCH], integers[TAKEN]
    for i in range(height):
        row, column = row_of[i], column_of[partner[i]]
        if is_turned:
            row, column = column, row
        if _price(cost, allowed, row, column) < UNMATCHED_COST:
            match[row] = column
            taken[column] = 1
