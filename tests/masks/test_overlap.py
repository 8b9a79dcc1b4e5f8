from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tests.masks.plain import Stack, pairs, picture, shared, stacks
from trackweave.masks.ops import mask_containment, mask_intersection, mask_iou, overlap
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
    whole = PackedMasks.from_bool(picture("####", "####"))
    part = PackedMasks.from_bool(picture("##..", "...."))
    assert (mask_iou(whole, part).item(), mask_containment(whole, part).item()) == (0.25, 1.0)


def test_two_rows_in_one_word_are_counted_once_each() -> None:
    # Width 3: twenty rows share a word; boxes overlap in the middle column only.
    a = PackedMasks.from_bool(np.repeat(picture("##."), 30, axis=0))
    b = PackedMasks.from_bool(np.repeat(picture(".##"), 30, axis=0))
    assert mask_intersection(a, b).tolist() == [[30]]


def test_no_masks_give_an_empty_table() -> None:
    none, one = PackedMasks.empty(4, 5), PackedMasks.empty(4, 5, 1)
    assert mask_iou(none, one).shape == (0, 1)
    assert mask_iou(one, none).shape == (1, 0)


def test_masks_of_different_sizes() -> None:
    with pytest.raises(ValueError, match="rescale one of them first"):
        mask_iou(PackedMasks.empty(2, 6, 1), PackedMasks.empty(3, 4, 1))
