from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco
from hypothesis import given
from hypothesis import strategies as st

from tests.masks.plain import Stack, runs, stacks
from trackweave.masks.codecs import decode_rle, encode_rle
from trackweave.masks.packed import PackedMasks


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
    ],
)
def test_entries_that_do_not_describe_a_mask(entry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        decode_rle([entry])
    assert "\n" not in str(caught.value)


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
