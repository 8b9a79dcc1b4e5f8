from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.masks.plain import Stack, nearest, picture, sizes, stacks
from trackweave.masks.ops import Method, rescale_masks, scaled_size
from trackweave.masks.packed import PackedMasks

METHODS: list[Method] = ["nearest", "area"]


@given(stacks(), sizes())
def test_nearest_takes_the_pixel_under_the_centre(masks: Stack, target: tuple[int, int]) -> None:
    scaled = rescale_masks(PackedMasks.from_bool(masks), *target, method="nearest")
    np.testing.assert_array_equal(scaled.to_bool(), nearest(masks, *target))


@given(stacks((3, 11)), st.integers(1, 4), st.integers(1, 7))
def test_nearest_up_and_back_loses_nothing(masks: Stack, tall: int, wide: int) -> None:
    packed = PackedMasks.from_bool(masks)
    larger = rescale_masks(packed, 3 * tall, 11 * wide, method="nearest")
    assert larger.areas.tolist() == (packed.areas * tall * wide).tolist()
    assert rescale_masks(larger, 3, 11, method="nearest") == packed


@given(stacks((6, 12)), st.sampled_from([(3, 4), (2, 3), (6, 4), (1, 1), (3, 12)]))
def test_area_keeps_what_was_half_inside(masks: Stack, target: tuple[int, int]) -> None:
    height, width = target
    blocks = masks.reshape(-1, height, 6 // height, width, 12 // width).mean(axis=(2, 4))
    scaled = rescale_masks(PackedMasks.from_bool(masks), height, width)
    np.testing.assert_array_equal(scaled.to_bool(), blocks >= 0.5)


def test_area_grows_smoothly() -> None:
    scaled = rescale_masks(PackedMasks.from_bool(picture("#.", "#.")), 4, 4)
    assert scaled.boxes.tolist() == [[0, 0, 2, 4]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [(2, 3), (9, 40), (2, 40)])
def test_full_stays_full_and_empty_stays_empty(method: Method, target: tuple[int, int]) -> None:
    masks = PackedMasks.from_bool(np.stack([np.ones((5, 13), np.bool_), np.zeros((5, 13), np.bool_)]))
    assert rescale_masks(masks, *target, method=method).areas.tolist() == [target[0] * target[1], 0]


@pytest.mark.parametrize("method", METHODS)
def test_no_masks_and_the_same_size(method: Method) -> None:
    assert rescale_masks(PackedMasks.empty(4, 5), 7, 3, method=method) == PackedMasks.empty(7, 3)
    masks = PackedMasks.empty(4, 5, 2)
    assert rescale_masks(masks, 4, 5, method=method) is masks


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [(0, 3), (3, 0), (-1, -1)])
def test_a_target_without_pixels(method: Method, target: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        rescale_masks(PackedMasks.empty(4, 5, 1), *target, method=method)


def test_an_unknown_method() -> None:
    with pytest.raises(ValueError, match="'nearest' or 'area', not 'cubic'"):
        rescale_masks(PackedMasks.empty(4, 5, 1), 2, 2, method="cubic")  # type: ignore[arg-type]


def test_a_size_never_vanishes() -> None:
    assert scaled_size(3, 1000, 0.01) == (1, 10)
