"""The scene of things with parts: its levels nest, and its things do what they are said to."""

from __future__ import annotations

import numpy as np
import pytest

from trackweave.frames.cuts import find_cuts
from trackweave.simulation.nested import NestedScene

LENGTH = 31


def scene(seed: int, *, cuts: bool = False) -> NestedScene:
    return NestedScene(seed, 120, 160, LENGTH, cuts=cuts)


@pytest.mark.parametrize("seed", range(3))
def test_levels_nest_and_cover_the_same_pixels(seed: int) -> None:
    made = scene(seed, cuts=seed == 1)
    seen = set()
    for local in range(0, LENGTH, 5):
        coarse, medium, fine = (made.labels(local, level) for level in made.LEVELS)
        assert np.array_equal(coarse > 0, medium > 0)
        assert np.array_equal(coarse > 0, fine > 0)
        for level, inner, outer in ((4, medium, coarse), (6, fine, medium)):
            for number in np.unique(inner[inner > 0]).tolist():
                assert set(np.unique(outer[inner == number]).tolist()) == {made.parents[level, number]}
                seen.add((level, number))
    assert len(seen) > 0.8 * len(made.parents)
    assert {made.thing_of(level, number) for level, number in seen} == set(made.object_ids)


@pytest.mark.parametrize("seed", range(4))
def test_things_hide_leave_return_and_arrive(seed: int) -> None:
    made = scene(seed)
    areas = {k: np.array([np.sum(made.labels(t) == k) for t in range(LENGTH)]) for k in made.object_ids}
    for number in (3, 4):
        gone = np.flatnonzero(areas[number] == 0)
        assert len(gone)
        assert gone[0] > 3
        assert areas[number][-1] > 25
    assert areas[5][0] == 0
    assert areas[5][areas[4] == 0].max() > 25
    assert min(areas[1].min(), areas[2].min()) > 100


def test_twins_look_alike() -> None:
    made = scene(0, cuts=True)
    twins = {k + 1: thing.twin_of for k, thing in enumerate(made.things) if thing.twin_of}
    assert twins == {2: 1, 5: 4, 8: 3}
    for one, other in twins.items():
        assert made.things[one - 1].sprite is made.things[other - 1].sprite


def test_cuts_are_found_and_the_same_things_return() -> None:
    made = scene(5, cuts=True)
    assert [int(cut) for cut in find_cuts(made)] == made.cuts
    before, between, after = (set(np.unique(made.labels(t)).tolist()) for t in (0, LENGTH // 2, LENGTH - 1))
    assert between == {0, 8, 9}
    assert {1, 2, 3, 4} <= before & after
    assert scene(5).cuts == []


def test_frames_are_the_same_in_any_order() -> None:
    assert np.array_equal(scene(2, cuts=True)[15], list(scene(2, cuts=True))[15])


def test_an_unknown_level() -> None:
    with pytest.raises(ValueError, match="levels are"):
        scene(0).labels(0, 3)
