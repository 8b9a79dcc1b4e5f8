"""Which object occludes which::

+-------+
|   1   |      2 is nearer and occludes the right half of 1;
|   +---+---+  3 is nearer still and outside of both.
|   | 2     |
"""

from __future__ import annotations

import numpy as np

from trackweave.simulation.occlusion import BODY, Occlusion, occlusion

SIZE = (100, 200)


def occluded(boxes: list[list[float]], depth: list[float], *, solid: bool = True, present: bool = True) -> Occlusion:
    n = len(boxes)
    return occlusion(
        np.array([boxes], np.float64),
        np.array([depth], np.float64),
        np.full((1, n), present),
        np.full(n, solid),
        SIZE,
    )


def test_the_nearer_object_occludes_the_further() -> None:
    result = occluded([[10, 10, 50, 90], [30, 10, 70, 90], [150, 10, 190, 90]], [3, 2, 1])
    assert np.allclose(result.visible[0], [0.5, 1, 1])
    assert result.occluder[0].tolist() == [1, -1, -1]
    assert np.allclose(result.extent[0, 0], [10, 10, 30, 90])


def test_the_background_shows_between_limbs() -> None:
    boxes: list[list[float]] = [[10, 10, 50, 90], [10, 10, 50, 90]]
    assert np.isclose(occluded(boxes, [2, 1], solid=False).visible[0, 0], 1 - BODY)
    assert occluded(boxes, [2, 1], solid=True).visible[0, 0] == 0


def test_parts_outside_the_image_are_invisible() -> None:
    result = occluded([[-20, 10, 20, 90], [190, 60, 210, 140]], [2, 1])
    assert np.allclose(result.visible[0], [0.5, 0.25], atol=0.02)
    assert np.allclose(result.inside[0], result.visible[0])


def test_absent_objects_do_not_take_part() -> None:
    result = occluded([[10, 10, 50, 90], [10, 10, 50, 90]], [2, 1], present=False)
    assert result.occluder.max() == -1
    assert result.visible.max() == 0


def test_no_objects() -> None:
    assert occluded([], []).visible.shape == (1, 0)
