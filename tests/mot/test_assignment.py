from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

from trackweave.mot.assignment import MATCH, TAKEN, UNMATCHED_COST, Workspace, assign


def solve(
    cost: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    rounds: NDArray[np.int64] | None = None,
    match: list[int] | None = None,
    turn: int = 0,
) -> NDArray[np.int64]:
    """The partners after one round; `match` are those of earlier ones."""
    n, width = cost.shape
    rows, columns = allowed.nonzero()
    turns = np.zeros(len(rows)) if rounds is None else rounds[rows, columns]
    work = Workspace()
    work.reserve(n, width)
    work.integers[:], work.floats[:] = 7, np.nan  # what earlier frames left must not matter
    work.integers[MATCH, :n] = -1 if match is None else match
    taken = work.integers[TAKEN, :width]
    taken[:] = np.isin(np.arange(width), work.integers[MATCH, :n])
    assign(n, cost, allowed, np.array([rows, columns, turns], np.int32), len(rows), turn, work.integers, work.floats)
    found = work.integers[MATCH, :n]
    assert taken.tolist() == np.isin(np.arange(width), found).tolist()
    return found


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


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 4, 64]),
    st.sampled_from([0.1, 0.3, 0.7, 1.0]),
)
def test_the_solver_chooses_what_scipy_chooses(T: int, D: int, seed: int, steps: int, density: float) -> None:
    """Also among many equally cheap assignments: costs come in few steps. Rows and columns that no chain of pairs
    joins are problems of their own."""
    rng = np.random.default_rng(seed)
    cost = (rng.integers(-1, steps + 2, (T, D)) / steps).astype(np.float32)
    is_open = (rng.random((T, D)) < density) & (cost < UNMATCHED_COST)
    graph = np.zeros((T + D, T + D), np.bool_)
    graph[:T, T:] = is_open
    expected = np.full(T, -1)
    _, group = connected_components(graph, directed=False)
    for number in range(group.max() + 1):
        rows, columns = np.flatnonzero(group[:T] == number), np.flatnonzero(group[T:] == number)
        price = np.where(is_open, cost, np.float32(UNMATCHED_COST))[np.ix_(rows, columns)]
        for row, column in zip(*linear_sum_assignment(price), strict=True):
            if price[row, column] < UNMATCHED_COST:
                expected[rows[row]] = columns[column]
    np.testing.assert_array_equal(solve(cost, is_open), expected)


@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_large_problems_cost_what_scipys_solution_costs(T: int, D: int, seed: int) -> None:
    cost = np.random.default_rng(seed).uniform(0, 0.99, (T, D)).astype(np.float32)
    match = solve(cost, np.ones((T, D), np.bool_))
    np.testing.assert_array_equal(np.flatnonzero(match >= 0), linear_sum_assignment(cost)[0])
    np.testing.assert_array_equal(match[match >= 0], linear_sum_assignment(cost)[1])


@given(st.integers(0, 2**32 - 1))
def test_only_pairs_of_the_round_without_partners_take_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost, allowed = rng.uniform(0, 1.2, (6, 5)).astype(np.float32), rng.random((6, 5)) < 0.7
    row_turn, column_turn = rng.integers(0, 2, 6), rng.integers(0, 2, 5)
    rounds = np.where(row_turn[:, None] == column_turn, row_turn[:, None], 2)
    match = solve(cost, allowed, rounds, turn=1)
    rows, columns = row_turn == 1, column_turn == 1
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
    everything = np.ones((2, 4), np.bool_)
    cost = np.array([[0.1, 0.1, 0.1, 0.1], [0.5, 0.4, 0.5, 0.1]], np.float32)
    assert solve(cost, everything, match=[3, -1]).tolist() == [3, 1]
    assert solve(cost, everything, match=[1, 2]).tolist() == [1, 2]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_assign(shape: tuple[int, int]) -> None:
    assert solve(np.empty(shape, np.float32), np.empty(shape, np.bool_)).tolist() == [-1] * shape[0]
