from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.association.worlds import make_sample, make_state
from trackweave.association.data_collection import SampleLogger
from trackweave.association.replay import assignment_cost, reassign
from trackweave.storage.samples import read_sample


def best(cost: NDArray[np.float32], allowed: NDArray[np.bool_]) -> tuple[int, float]:
    """Pairs and cost of the best assignment, by trying all."""
    T, D = cost.shape
    found = []
    for order in permutations(range(max(T, D)), T):
        pairs = [(t, d) for t, d in enumerate(order) if d < D and allowed[t, d]]
        found.append((-len(pairs), sum(float(cost[pair]) for pair in pairs)))
    pairs_found, total = min(found)
    return -pairs_found, total


@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_it_is_the_cheapest_of_the_fullest_assignments(tracks: int, detections: int, data: st.DataObject) -> None:
    shape = (tracks, detections)
    cost = data.draw(arrays.arrays(np.float32, shape, elements=st.integers(-20, 20)))
    mask = data.draw(arrays.arrays(np.bool_, shape))
    sample = make_sample(tracks=tracks, detections=detections, cost_matrix=cost, mask_matrix=mask.astype(np.float32))
    assigned = reassign(sample)
    assert assigned.dtype == np.int64
    rows, columns = np.nonzero(sample.track_ids[:, None] == assigned)
    assert mask[rows, columns].all()
    assert len(set(rows)) == len(rows) == (assigned >= 0).sum()
    assert (len(rows), assignment_cost(sample, assigned)) == best(cost, mask)


def test_two_dear_pairs_are_better_than_one_cheap_one() -> None:
    cost = np.array([[-5, 5], [5, 0]], np.float32)
    mask = np.array([[1, 1], [1, 0]], np.float32)
    sample = make_sample(tracks=2, detections=2, cost_matrix=cost, mask_matrix=mask)
    assert reassign(sample).tolist() == [11, 10]


def test_earlier_stages_choose_first() -> None:
    # One track: the sure detection is served although the unsure one is nearer.
    cost = np.array([[0.1, 0.4]], np.float32)
    sample = make_sample(tracks=1, detections=2, cost_matrix=cost, mask_matrix=np.ones((1, 2), np.float32))
    assert reassign(sample).tolist() == [10, -1]
    assert reassign(sample, stage=np.array([1, 0])).tolist() == [-1, 10]


def test_nothing_to_assign() -> None:
    assert reassign(make_sample(tracks=0)).tolist() == [-1, -1, -1, -1]
    assert reassign(make_sample(detections=0)).tolist() == []
    assert reassign(make_sample(mask_matrix=np.zeros((3, 4), np.float32))).tolist() == [-1, -1, -1, -1]


def test_a_logged_assignment_is_found_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    decisions = []
    with SampleLogger(tmp_path, sequence="toy") as logger:
        for frame in range(30):
            cost = rng.random((4, 4), np.float32)
            sums = {order: sum(cost[t, d] for t, d in enumerate(order)) for order in permutations(range(4))}
            order = min(sums, key=lambda order: sums[order])
            assigned = np.empty(4, np.int64)
            assigned[list(order)] = 10 + np.arange(4)
            decisions.append(assigned)
            logger.observe(make_state(frame, tracks=4, cost=cost, assigned_track_ids=assigned))
    samples = [read_sample(path) for path in sorted(tmp_path.glob("sample_*"))]
    for sample, assigned in zip(samples, decisions, strict=True):
        np.testing.assert_array_equal(reassign(sample), assigned)
        np.testing.assert_array_equal(sample.assigned_track_ids, assigned)
