"""What makes a mask doubtful."""

from __future__ import annotations

import pytest

from trackweave.predictors.flow.appearance import objectness


def test_a_certain_and_similar_mask_at_the_expected_position_is_the_object() -> None:
    assert objectness(0.99, 0.1, 1.0) > 0.9


@pytest.mark.parametrize(("certainty", "displacement", "resemblance"), [(0.8, 0.1, 1), (0.99, 2, 1), (0.99, 0.1, 0)])
def test_each_doubt_lowers_it(certainty: float, displacement: float, resemblance: float) -> None:
    assert objectness(certainty, displacement, resemblance) < objectness(0.99, 0.1, 1.0) - 0.1


@pytest.mark.parametrize("extreme", [-1e9, 1e9])
def test_it_stays_a_probability(extreme: float) -> None:
    assert 0 < objectness(1.0, 1e9, extreme) < 1
    assert 0 < objectness(-1.0, 0.0, extreme) < 1
    assert 0 < objectness(1.0, 0.0, extreme) < 1
