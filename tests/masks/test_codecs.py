"""Masks as mappings, as JSON and as COCO run lengths, there and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco
from hypothesis import given
from hypothesis import strategies as st

from tests.masks.plain import Stack, drawing, runs, sizes, stacks
from trackweave.masks.codecs import (
    as_packed,
    decode_mask,
    decode_rle,
    encode_mask,
    encode_rle,
    full_shape,
    mask_mapping,
)
from trackweave.masks.packed import PackedMasks


@given(stacks(min_masks=1), st.none() | sizes())
def test_json_and_back(masks: Stack, full: tuple[int, int] | None) -> None:
    packed = PackedMasks.from_bool(masks[0])
    entry = mask_mapping(packed, full)
    back = decode_mask(json.loads(json.dumps(encode_mask(entry))))
    assert as_packed(back) == packed
    assert (full_shape(entry), full_shape(back)) == (full, full)
    assert back["shape"] == packed.size
    np.testing.assert_array_equal(back["packed_bits"], np.packbits(masks[0].reshape(-1)))


def test_the_json_form_is_the_documented_one() -> None:
    mask = drawing("###", "...", "..#")
    assert encode_mask(mask_mapping(PackedMasks.from_bool(mask), (6, 6))) == {
        "packed_bits_b64": "4IA=",
        "shape": [3, 3],
        "full_resolution_shape": [6, 6],
    }
    assert "full_resolution_shape" not in encode_mask(mask)


@pytest.mark.parametrize(
    "form",
    [
        drawing("#.", "##"),
        drawing("#.", "##")[None],
        drawing("#.", "##").astype(np.float32),
        PackedMasks.from_bool(drawing("#.", "##")),
        {"packed_bits": np.array([0b10110000], np.uint8), "shape": (2, 2)},
        {"packed_bits": [0b10110000], "shape": np.array([2, 2])},
        {"packed_bits": np.array([[0b10110000]], np.uint8), "shape": [1, 2, 2]},
        {"packed_bits_b64": "sA==", "shape": [2, 2]},
    ],
)
def test_every_form_is_the_same_mask(form: Any) -> None:
    assert as_packed(form) == PackedMasks.from_bool(drawing("#.", "##"))


def test_bits_beyond_the_mask_are_dropped_and_the_giver_keeps_them() -> None:
    bits = np.array([0xFF, 0xFF], np.uint8)
    packed = as_packed({"packed_bits": bits, "shape": (3, 3)})
    assert (packed.areas.tolist(), packed.boxes.tolist()) == ([9], [[0, 0, 3, 3]])
    assert bits.tolist() == [0xFF, 0xFF]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"packed_bits": [0]}, "needs `shape`"),
        ({"shape": [2, 2]}, "needs `packed_bits` or `packed_bits_b64`"),
        ({"packed_bits": [0, 0], "shape": [2, 2]}, "2 packed bytes for a mask of 2×2, which takes 1"),
        ({"packed_bits": [0], "shape": [2]}, r"`shape` is \(H, W\)"),
        ({"packed_bits": [0], "shape": 2}, r"`shape` is \(H, W\)"),
        ({"packed_bits": [0], "shape": ["a", "b"]}, r"`shape` is \(H, W\)"),
        ({"packed_bits": [0], "shape": [2, 2, 2]}, r"`shape` is \(H, W\)"),
        ({"packed_bits": [], "shape": [0, 2]}, "at least one pixel"),
        ({"packed_bits_b64": "sA=!", "shape": [2, 2]}, "not base64"),
        ({"packed_bits_b64": "é", "shape": [2, 2]}, "not base64"),
        ({"packed_bits_b64": 7, "shape": [2, 2]}, "not base64"),
        ({"packed_bits_b64": "sA==", "shape": [2, 2], "full_resolution_shape": 5}, "`full_resolution_shape` is"),
        ({"packed_bits_b64": "sA==", "shape": [2, 2], "full_resolution_shape": [4]}, "`full_resolution_shape` is"),
    ],
)
def test_an_entry_that_is_no_mask(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_mask(entry)


@pytest.mark.parametrize("count", [0, 2])
def test_an_entry_is_one_mask(count: int) -> None:
    with pytest.raises(ValueError, match=f"not {count}"):
        mask_mapping(PackedMasks.empty(2, 2, count))
    with pytest.raises(ValueError, match=f"not {count}"):
        as_packed(PackedMasks.empty(2, 2, count))


@given(stacks(min_masks=1))
def test_both_forms_come_back(masks: Stack) -> None:
    packed = PackedMasks.from_bool(masks)
    entries = encode_rle(packed)
    assert decode_rle(entries) == packed
    assert decode_rle([{**entry, "counts": entry["counts"].encode()} for entry in entries]) == packed
    assert decode_rle([{"size": masks.shape[1:], "counts": runs(mask)} for mask in masks]) == packed


@given(stacks(min_masks=1))
def test_the_coco_api_reads_what_is_written_and_writes_what_is_read(masks: Stack) -> None:
    height, width = masks.shape[1:]
    for mask, entry in zip(masks, encode_rle(PackedMasks.from_bool(masks)), strict=True):
        np.testing.assert_array_equal(coco.decode(entry), mask)
        written = coco.frPyObjects({"size": [height, width], "counts": runs(mask)}, height, width)
        assert written["counts"].decode() == entry["counts"]
        np.testing.assert_array_equal(decode_rle([written]).to_bool()[0], mask)


def test_runs_of_nothing_are_allowed() -> None:
    assert decode_rle([{"size": [2, 2], "counts": [0, 1, 0, 1, 2]}]).to_bool()[0].tolist() == [[1, 0], [1, 0]]


def test_no_masks() -> None:
    assert encode_rle(PackedMasks.empty(2, 2)) == []
    with pytest.raises(ValueError, match="no RLE entries"):
        decode_rle([])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"counts": [4]}, r"needs `size`: \[H, W\]"),
        ({"size": 4, "counts": [4]}, r"needs `size`: \[H, W\]"),
        ({"size": [4], "counts": [4]}, r"needs `size`: \[H, W\]"),
        ([[0.0, 0.0, 1.0, 1.0]], r"needs `size`: \[H, W\]"),
        ({"size": [2, 2]}, "needs `counts`"),
        ({"size": [2, 2], "counts": None}, "needs `counts`"),
        ({"size": [2, 2], "counts": [[4]]}, "needs `counts`"),
        ({"size": [2, 2], "counts": []}, "covers 0 pixels, its size 2×2 has 4"),
        ({"size": [2, 2], "counts": [5]}, "covers 5 pixels"),
        ({"size": [2, 2], "counts": [-1, 5]}, "covers 4 pixels"),
        ({"size": [0, 4], "counts": []}, "at least one pixel"),
        ({"size": [-2, -2], "counts": [4]}, "at least one pixel"),
        ({"size": [2, 2], "counts": "\x1f"}, "invalid character"),
        ({"size": [2, 2], "counts": "é"}, "ascii"),
        ({"size": [2, 2], "counts": "T"}, "in the middle of a number"),
        ({"size": [2, 2], "counts": "1"}, "covers 1 pixels"),
        ({"size": [2, 2], "counts": [float("inf")]}, "needs `counts`"),
        ({"size": [float("inf"), 2], "counts": [4]}, r"needs `size`: \[H, W\]"),
        ({"size": [10**6, 10**6], "counts": [0, 5]}, "more pixels than"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "more pixels than"),
        ({"size": [30000, 30000], "counts": [900_000_000]}, "more pixels than"),
        ({"size": [16384, 16384], "counts": [0, 5]}, "covers 5 pixels"),
        ({"size": [10**400, 2], "counts": [4]}, "more pixels than"),
        ({"size": [2, 2], "counts": [10**400, 4]}, "runs out of range"),
        ({"size": [2, 2], "counts": "o" * 3_000_000}, "a run that is out of range"),
    ],
)
def test_entries_that_do_not_describe_a_mask(entry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        decode_rle([entry])
    assert "\n" not in str(caught.value)


def test_masks_that_take_more_memory_than_there_is() -> None:
    entry = {"size": [16384, 16384], "counts": [2**28]}
    with pytest.raises(ValueError, match="200 masks of 16384×16384 pixels at once"):
        decode_rle([entry] * 200)


def test_a_frame_of_odd_size() -> None:
    mask = encode_mask(np.ones((2, 2), bool))
    for shape, message in (([60000, 60000], "more pixels than"), ([float("inf"), 2], "`full_resolution_shape` is")):
        with pytest.raises(ValueError, match=message):
            decode_mask({**mask, "full_resolution_shape": shape})


def test_entries_of_two_sizes() -> None:
    with pytest.raises(ValueError, match=r"not \(1, 4\) after \(2, 2\)"):
        decode_rle([{"size": [2, 2], "counts": [4]}, {"size": [1, 4], "counts": [4]}])


@given(st.binary(max_size=12))
def test_garbage_never_reaches_beyond_the_mask(counts: bytes) -> None:
    try:
        masks = decode_rle([{"size": [3, 3], "counts": counts}])
    except ValueError:
        return
    assert masks.areas.tolist() == [int(masks.to_bool().sum())]
