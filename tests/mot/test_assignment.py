from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.mot.matching import UNMATCHED_COST, assign


def solve(
    cost: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    rows: list[bool] | None = None,
    cols: list[bool] | None = None,
) -> NDArray[np.int64]:
    T, D = cost.shape
    match = np.full(T, -1, np.int64)
    chosen_rows = np.ones(T, np.bool_) if rows is None else np.array(rows)
    chosen_columns = np.ones(D, np.bool_) if cols is None else np.array(cols)
    assign(cost, allowed, chosen_rows, chosen_columns, match)
    return match


def price(cost: NDArray[np.float32], match: NDArray[np.int64]) -> float:
    """Matched pairs at their cost; a track and a detection that might have been together and are not, at one."""
    pairs = np.flatnonzero(match >= 0)
    paid: list[float] = cost[pairs, match[pairs]].tolist()
    left: int = min(cost.shape) - len(pairs)
    return sum(paid) + UNMATCHED_COST * left


def all_matchings(T: int, D: int) -> list[NDArray[np.int64]]:
    matchings = []
    for k in range(min(T, D) + 1):
        for chosen in combinations(range(T), k):
            for columns in permutations(range(D), k):
                match = np.full(T, -1, np.int64)
                match[list(chosen)] = columns
                matchings.append(match)
    return matchings


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_no_partial_matching_is_cheaper(T: int, D: int, seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.uniform(-0.2, 1.4, (T, D)).astype(np.float32)  # continuous: no ties
    allowed = rng.random((T, D)) < density
    match = solve(cost, allowed)
    pairs = np.flatnonzero(match >= 0)
    assert allowed[pairs, match[pairs]].all()
    assert (cost[pairs, match[pairs]] < UNMATCHED_COST).all()
    assert len(set(match[pairs].tolist())) == len(pairs)

    def possible(other: NDArray[np.int64]) -> bool:
        rows = np.flatnonzero(other >= 0)
        return bool(allowed[rows, other[rows]].all())

    best = min((m for m in all_matchings(T, D) if possible(m)), key=lambda m: price(cost, m))
    np.testing.assert_array_equal(match, best)


@given(st.integers(0, 2**32 - 1))
def test_only_rows_and_columns_that_take_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost, allowed = rng.uniform(0, 1.2, (6, 5)).astype(np.float32), rng.random((6, 5)) < 0.7
    rows, columns = rng.random(6) < 0.6, rng.random(5) < 0.6
    match = solve(cost, allowed, rows.tolist(), columns.tolist())
    assert (match[~rows] == -1).all()
    assert columns[match[match >= 0]].all()
    part = solve(np.ascontiguousarray(cost[rows][:, columns]), np.ascontiguousarray(allowed[rows][:, columns]))
    where = np.flatnonzero(columns)
    np.testing.assert_array_equal(match[rows], [where[c] if c >= 0 else -1 for c in part])


def test_two_fair_pairs_beat_one_good_one() -> None:
    cost = np.array([[0.1, 0.5], [0.4, 0.99]], np.float32)
    assert solve(cost, np.ones((2, 2), np.bool_)).tolist() == [1, 0]
    assert solve(cost, np.array([[True, False], [True, True]])).tolist() == [0, 1]


def test_a_pair_at_the_unmatched_cost_is_not_matched() -> None:
    assert solve(np.array([[1.0]], np.float32), np.ones((1, 1), np.bool_)).tolist() == [-1]
    assert solve(np.array([[0.999]], np.float32), np.ones((1, 1), np.bool_)).tolist() == [0]
    # Each would be well served by 0, but both together cost more with 1 than one of them left out.
    cost = np.array([[0.1, 1.2], [0.2, 1.2]], np.float32)
    assert solve(cost, np.ones((2, 2), np.bool_)).tolist() == [0, -1]


def test_earlier_matches_stay() -> None:
    match = np.array([3, -1], np.int64)
    assign(np.full((2, 4), 0.5, np.float32), np.eye(2, 4, dtype=np.bool_), match < 0, np.ones(4, np.bool_), match)
    assert match.tolist() == [3, 1]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_assign(shape: tuple[int, int]) -> None:
    assert solve(np.empty(shape, np.float32), np.empty(shape, np.bool_)).tolist() == [-1] * shape[0]
