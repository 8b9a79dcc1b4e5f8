"""Who hides whom::

+-------+
|   1   |      2 is nearer and hides the right half of 1;
|   +---+---+  3 is nearer still and outside of both.
|   | 2     |
"""

from __future__ import annotations

import numpy as np

from trackweave.simulation.occlusion import BODY, Sightings, sightings

SIZE = (100, 200)


def look(boxes: list[list[float]], depth: list[float], *, solid: bool = True, present: bool = True) -> Sightings:
    n = len(boxes)
    return sightings(
        np.array([boxes], np.float64),
        np.array([depth], np.float64),
        np.full((1, n), present),
        np.full(n, solid),
        SIZE,
    )


def test_the_nearer_hides_the_further() -> None:
    seen = look([[10, 10, 50, 90], [30, 10, 70, 90], [150, 10, 190, 90]], [3, 2, 1])
    assert np.allclose(seen.visible[0], [0.5, 1, 1])
    assert seen.hider[0].tolist() == [1, -1, -1]
    assert np.allclose(seen.extent[0, 0], [10, 10, 30, 90])


def test_between_limbs_one_sees_through() -> None:
    boxes: list[list[float]] = [[10, 10, 50, 90], [10, 10, 50, 90]]
    assert np.isclose(look(boxes, [2, 1], solid=False).visible[0, 0], 1 - BODY)
    assert look(boxes, [2, 1], solid=True).visible[0, 0] == 0


def test_what_leaves_the_picture_is_not_seen() -> None:
    seen = look([[-20, 10, 20, 90], [190, 60, 210, 140]], [2, 1])
    assert np.allclose(seen.visible[0], [0.5, 0.25], atol=0.02)
    assert np.allclose(seen.inside[0], seen.visible[0])


def test_the_absent_neither_hide_nor_are_hidden() -> None:
    seen = look([[10, 10, 50, 90], [10, 10, 50, 90]], [2, 1], present=False)
    assert seen.hider.max() == -1
    assert seen.visible.max() == 0


def test_no_objects() -> None:
    assert look([], []).visible.shape == (1, 0)
