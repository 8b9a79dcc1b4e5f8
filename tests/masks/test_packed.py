from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.masks.plain import Stack, boxes, drawing, stacks
from trackweave.masks.packed import PackedMasks, packed_length


@given(stacks())
def test_packing_keeps_every_pixel(masks: Stack) -> None:
    packed = PackedMasks.from_bool(masks)
    assert packed.bits.shape == (len(masks), packed_length(*masks.shape[1:]))
    for row, mask in zip(packed.bits, masks, strict=True):
        np.testing.assert_array_equal(row, np.packbits(mask.reshape(-1)))
    np.testing.assert_array_equal(packed.to_bool(), masks)
    assert packed.to_bool().dtype == np.bool_


@given(stacks())
def test_areas_and_boxes_are_those_of_the_pixels(masks: Stack) -> None:
    packed = PackedMasks.from_bool(masks)
    assert packed.areas.tolist() == masks.sum(axis=(1, 2)).tolist()
    assert packed.boxes.tolist() == boxes(masks)


@given(stacks(min_masks=1), st.data())
def test_a_part_has_the_areas_and_boxes_of_the_part(masks: Stack, data: st.DataObject) -> None:
    # A slice is a view that need not start at a whole word.
    start = data.draw(st.integers(0, len(masks)))
    part = PackedMasks.from_bool(masks)[start:]
    assert part.areas.tolist() == masks[start:].sum(axis=(1, 2)).tolist()
    assert part.boxes.tolist() == boxes(masks[start:])


THREE = np.random.default_rng(5).random((3, 5, 7)) < 0.5


@pytest.mark.parametrize(
    "index",
    [
        slice(1, None),
        slice(None, None, -1),
        slice(0, 0),
        [2, 0, 0],
        [],
        [True, False, True],
        np.array([False, True, False]),
        np.array([1, -1]),
        np.array([], np.int64),
    ],
)
def test_an_index_gives_the_same_type(index: Any) -> None:
    chosen = PackedMasks.from_bool(THREE)[index]
    expected = THREE[index] if not isinstance(index, list) or index else THREE[:0]
    np.testing.assert_array_equal(chosen.to_bool(), expected)
    assert chosen.bits.flags.c_contiguous


@pytest.mark.parametrize("index", [0, 2, -1, np.int64(1)])
def test_an_int_gives_one_mask(index: int) -> None:
    np.testing.assert_array_equal(PackedMasks.from_bool(THREE)[index].to_bool(), THREE[index][None])


def test_an_int_beyond_the_end() -> None:
    with pytest.raises(IndexError):
        PackedMasks.from_bool(THREE)[3]


def test_iteration_and_equality() -> None:
    masks = PackedMasks.from_bool(THREE)
    assert PackedMasks.concat(list(masks)) == masks
    assert masks[:2] != masks
    assert PackedMasks.empty(2, 6) != PackedMasks.empty(3, 4)
    assert masks != "masks"
    with pytest.raises(TypeError, match="unhashable"):
        hash(masks)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.bool_])
def test_any_non_zero_value_is_inside(dtype: type) -> None:
    values = np.array([[0, 1, 0], [1, 0, 1]])
    scaled: NDArray[Any] = (
        values * 0.5 if dtype is np.float32 else values * 200 if dtype is np.uint8 else values
    ).astype(dtype)
    np.testing.assert_array_equal(PackedMasks.from_bool(scaled).to_bool()[0], values == 1)


def test_logits_above_the_threshold_are_inside() -> None:
    logits = np.array([[[[-1.0, 0.0, 0.5]]]], np.float32)
    assert PackedMasks.from_logits(logits).to_bool().tolist() == [[[False, False, True]]]
    assert PackedMasks.from_logits(logits[:, 0], 0.5).areas.tolist() == [0]
    with pytest.raises(ValueError, match=r"logits are \(N, H, W\)"):
        PackedMasks.from_logits(np.zeros((2, 3, 4, 5), np.float32))


@given(stacks(), st.integers(0, 3), st.integers(0, 70), st.integers(0, 3), st.integers(0, 70))
def test_crops_land_where_they_are_put(crops: Stack, top: int, left: int, below: int, right: int) -> None:
    padded = np.pad(crops, ((0, 0), (top, below), (left, right)))
    origins = np.tile([top, left], (len(crops), 1))
    placed = PackedMasks.from_crops(list(crops), origins, *padded.shape[1:])
    np.testing.assert_array_equal(placed.to_bool(), padded)


@pytest.mark.parametrize("origin", [(-1, 0), (0, -1), (2, 0), (0, 3)])
def test_a_crop_may_not_leave_the_mask(origin: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"crop 0 of \(2, 2\) .* leaves 3×4"):
        PackedMasks.from_crops([drawing("##", "##")], np.array([origin]), 3, 4)


def test_what_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="nothing to concatenate"):
        PackedMasks.concat([])
    with pytest.raises(ValueError, match="different sizes"):
        PackedMasks.concat([PackedMasks.empty(2, 3), PackedMasks.empty(3, 2)])


@pytest.mark.parametrize(
    ("bits", "height", "width", "message"),
    [
        (np.zeros((1, 2), np.uint8), 3, 3, None),
        (np.zeros((1, 1), np.uint8), 3, 3, r"are \(N, 2\) uint8"),
        (np.zeros((1, 2), np.int8), 3, 3, r"are \(N, 2\) uint8"),
        (np.zeros(2, np.uint8), 3, 3, r"are \(N, 2\) uint8"),
        (np.zeros((1, 0), np.uint8), 0, 3, "at least one pixel"),
    ],
)
def test_bits_fit_the_size(bits: Any, height: int, width: int, message: str | None) -> None:
    if message is None:
        assert PackedMasks(bits, height, width).size == (height, width)
        return
    with pytest.raises(ValueError, match=message):
        PackedMasks(bits, height, width)


@pytest.mark.parametrize("shape", [(3,), (1, 1, 2, 2)])
def test_another_number_of_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, H, W\) or \(H, W\)"):
        PackedMasks.from_bool(np.zeros(shape, np.bool_))


def test_bits_that_are_no_view_of_words_are_counted_all_the_same() -> None:
    raw = bytes([0]) + np.packbits(np.ones(128, np.bool_)).tobytes()
    bits = np.frombuffer(raw, np.uint8)[1:].reshape(1, 16)  # read-only, and off a word's boundary
    masks = PackedMasks(bits, 8, 16)
    assert (masks.areas.tolist(), masks.boxes.tolist()) == ([128], [[0, 0, 16, 8]])
    spread = np.asfortranarray(np.repeat(bits, 3, axis=0))
    assert PackedMasks(spread, 8, 16).areas.tolist() == [128, 128, 128]
