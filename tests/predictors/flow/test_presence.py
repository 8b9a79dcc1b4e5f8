"""What speaks for and against a mask, and what is remembered for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from trackweave.predictors.flow.motion import Motion, motion_between
from trackweave.predictors.flow.presence import BackgroundAge, Evidence, OwnMotion, objectness
from trackweave.predictors.flow.windows import PixelWindow

SURE = Evidence(
    certainty=0.99,
    displacement=0.1,
    resemblance=1.0,
    similarity=1.0,
    unison=0.0,
    known_background=0.0,
    habit=0.5,
    ambiguity=0.0,
)
WHOLE = PixelWindow(0, 60, 0, 80)


def shifted(x: float, y: float, inside: NDArray[np.bool_] | None = None, by: float = 0.0) -> Motion:
    """The scene moves by (x, y); what lies `inside` moves `by` further to the right."""
    forward = np.full((60, 80, 2), (x, y), np.float32)
    backward = -forward
    colours = np.zeros((60, 80, 7), np.uint8)
    if inside is not None:
        backward[inside] -= (by, 0)
    scene = np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])
    return motion_between(forward, backward, scene, np.linalg.inv(scene), (colours, colours))


def square() -> NDArray[np.bool_]:
    mask = np.zeros((60, 80), np.bool_)
    mask[20:35, 30:50] = True
    return mask


def test_a_sure_and_similar_mask_at_the_expected_position_is_the_object() -> None:
    assert objectness(SURE) > 0.9


@pytest.mark.parametrize(
    "doubt",
    [
        {"certainty": 0.8},
        {"displacement": 2.0},
        {"resemblance": 0.0},
        {"similarity": -0.5},
        {"ambiguity": 1.0},
        {"unison": 1.0},
        {"known_background": 1.0},
    ],
)
def test_each_doubt_lowers_it(doubt: dict[str, float]) -> None:
    unsure = replace(SURE, certainty=0.9, resemblance=0.5, similarity=0.5)
    assert objectness(replace(unsure, **doubt)) < objectness(unsure) - 0.01


def test_what_never_moved_does_not_jump() -> None:
    at_rest, mobile = (replace(SURE, displacement=2.0, habit=habit) for habit in (0.1, 0.9))
    assert objectness(at_rest) < objectness(mobile) - 0.1


@pytest.mark.parametrize("extreme", [-1e9, 1e9])
def test_it_stays_a_probability(extreme: float) -> None:
    for name in ("resemblance", "similarity"):
        assert 0 < objectness(replace(SURE, **{name: extreme})) < 1
    assert 0 < objectness(replace(SURE, certainty=1.0, displacement=1e9)) < 1


def test_what_was_outside_stays_background_while_it_moves_with_the_scene() -> None:
    background = BackgroundAge(square())
    background.step(shifted(5, 3))
    known = background.known(WHOLE)
    moved = np.roll(square(), (3, 5), (0, 1))
    assert not known[moved].any()
    assert known[10:20, 10:70].all()
    assert not known[:3].any()  # it has just come into view
    assert not known[:, :5].any()


def test_background_is_learned_around_the_object_and_where_a_mask_was_refused() -> None:
    mask = square()
    background = BackgroundAge(np.ones_like(mask))
    for _ in range(3):
        background.learn(mask, WHOLE)
    assert not background.known(WHOLE).any()
    background.learn(mask, WHOLE)
    assert background.known(WHOLE)[:15].all()
    assert not background.known(WHOLE)[mask].any()
    background.refuse(mask, WHOLE)
    assert background.known(WHOLE)[mask].all()


def test_own_motion_is_that_against_the_surroundings() -> None:
    mask, own = square(), OwnMotion()
    for _ in range(20):
        assert own.unison(mask, shifted(2, 0, mask, 4.0), WHOLE) < 0.1
        own.learn()
    assert own.habit > 0.9
    assert 0.7 < own.unison(mask, shifted(2, 0), WHOLE) < 0.9
    assert own.unison(mask, shifted(2, 0), WHOLE) > 0.9  # for the second frame
    resting = OwnMotion()
    for _ in range(20):
        assert resting.unison(mask, shifted(2, 0), WHOLE) > 0.75
        resting.learn()
    assert resting.habit < 0.1


def test_an_object_that_fills_its_window_is_compared_with_nothing() -> None:
    own, whole = OwnMotion(), np.ones((60, 80), np.bool_)
    assert own.unison(whole, shifted(2, 0), WHOLE) == 0
    own.learn()
    assert own.habit == 0.5
