"""Overlap, rescaling and crops of packed masks, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tests.formats.worlds import discs
from tests.masks.plain import Stack, drawing, nearest, pairs, shared, sizes, stacks
from trackweave.masks.ops import (
    Method,
    crop_at,
    mask_containment,
    mask_intersection,
    mask_iou,
    overlap,
    rescale_masks,
    scaled_size,
)
from trackweave.masks.packed import PackedMasks


@given(pairs())
def test_every_pair_as_plain_numpy_has_it(pair: tuple[Stack, Stack]) -> None:
    a, b = pair
    packed_a, packed_b = PackedMasks.from_bool(a), PackedMasks.from_bool(b)
    common = shared(a, b)
    union = (a[:, None] | b[None]).sum(axis=(2, 3))
    smaller = np.minimum(a.sum(axis=(1, 2))[:, None], b.sum(axis=(1, 2))[None])
    np.testing.assert_array_equal(mask_intersection(packed_a, packed_b), common)
    np.testing.assert_allclose(mask_iou(packed_a, packed_b), common / np.maximum(union, 1))
    np.testing.assert_allclose(mask_containment(packed_a, packed_b), common / np.maximum(smaller, 1))
    iou, containment = overlap(packed_a, packed_b)
    np.testing.assert_array_equal(iou, mask_iou(packed_a, packed_b))
    np.testing.assert_array_equal(containment, mask_containment(packed_a, packed_b))


@given(stacks())
def test_a_mask_covers_itself_unless_it_is_empty(masks: Stack) -> None:
    packed = PackedMasks.from_bool(masks)
    visible = packed.areas > 0
    np.testing.assert_array_equal(np.diagonal(mask_iou(packed, packed)), visible)
    np.testing.assert_array_equal(np.diagonal(mask_containment(packed, packed)), visible)


def test_a_part_is_contained_but_no_duplicate() -> None:
    whole = PackedMasks.from_bool(drawing("####", "####"))
    part = PackedMasks.from_bool(drawing("##..", "...."))
    assert (mask_iou(whole, part).item(), mask_containment(whole, part).item()) == (0.25, 1.0)


def test_two_rows_in_one_word_are_counted_once_each() -> None:
    # Width 3: twenty rows share a word; boxes overlap in the middle column only.
    a = PackedMasks.from_bool(np.repeat(drawing("##."), 30, axis=0))
    b = PackedMasks.from_bool(np.repeat(drawing(".##"), 30, axis=0))
    assert mask_intersection(a, b).tolist() == [[30]]


def test_no_masks_give_an_empty_table() -> None:
    none, one = PackedMasks.empty(4, 5), PackedMasks.empty(4, 5, 1)
    assert mask_iou(none, one).shape == (0, 1)
    assert mask_iou(one, none).shape == (1, 0)


def test_masks_of_different_sizes() -> None:
    with pytest.raises(ValueError, match="rescale one of them first"):
        mask_iou(PackedMasks.empty(2, 6, 1), PackedMasks.empty(3, 4, 1))


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
    scaled = rescale_masks(PackedMasks.from_bool(drawing("#.", "#.")), 4, 4)
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


def whole(masks: PackedMasks, n: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    image = np.zeros(size, np.bool_)
    crop = crop_at(masks, n, size)
    if crop is not None:
        image[crop.window] = crop.inside.view(np.bool_)
    return image


@settings(deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 19))))
def test_crops_at_the_masks_own_size_are_exact(masks: NDArray[np.bool_]) -> None:
    packed = PackedMasks.from_bool(masks)
    for n, mask in enumerate(masks):
        assert np.array_equal(whole(packed, n, mask.shape), mask)
        assert (crop_at(packed, n, mask.shape) is None) == (not mask.any())


def test_growing_agrees_with_rescaling_of_whole_masks() -> None:
    masks = PackedMasks.from_bool(discs(12, 36, 48))
    grown = rescale_masks(masks, 121, 160).to_bool()
    for n, expected in enumerate(grown):
        assert np.count_nonzero(whole(masks, n, (121, 160)) ^ expected) <= 0.03 * np.count_nonzero(expected)


@settings(deadline=None)
@given(
    hnp.arrays(np.bool_, st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 9))),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_any_scale_stays_inside_the_image_and_full_masks_stay_full(
    masks: NDArray[np.bool_], size: tuple[int, int]
) -> None:
    packed = PackedMasks.from_bool(masks)
    crop = crop_at(packed, 0, size)
    if crop is not None:
        assert whole(packed, 0, size)[crop.window].shape == crop.inside.shape
    assert whole(PackedMasks.from_bool(np.ones_like(masks)), 0, size).all()
