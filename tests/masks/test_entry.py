from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.masks.plain import Stack, picture, sizes, stacks
from trackweave.masks.codecs import as_packed, decode_entry, encode_entry, full_shape, make_entry
from trackweave.masks.packed import PackedMasks


@given(stacks(min_masks=1), st.none() | sizes())
def test_json_and_back(masks: Stack, full: tuple[int, int] | None) -> None:
    packed = PackedMasks.from_bool(masks[0])
    entry = make_entry(packed, full)
    back = decode_entry(json.loads(json.dumps(encode_entry(entry))))
    assert as_packed(back) == packed
    assert (full_shape(entry), full_shape(back)) == (full, full)
    assert back["shape"] == packed.size
    np.testing.assert_array_equal(back["packed_bits"], np.packbits(masks[0].reshape(-1)))


def test_the_json_form_is_the_documented_one() -> None:
    mask = picture("###", "...", "..#")
    assert encode_entry(make_entry(PackedMasks.from_bool(mask), (6, 6))) == {
        "packed_bits_b64": "4IA=",
        "shape": [3, 3],
        "full_resolution_shape": [6, 6],
    }
    assert "full_resolution_shape" not in encode_entry(mask)


@pytest.mark.parametrize(
    "form",
    [
        picture("#.", "##"),
        picture("#.", "##")[None],
        picture("#.", "##").astype(np.float32),
        PackedMasks.from_bool(picture("#.", "##")),
        {"packed_bits": np.array([0b10110000], np.uint8), "shape": (2, 2)},
        {"packed_bits": [0b10110000], "shape": np.array([2, 2])},
        {"packed_bits": np.array([[0b10110000]], np.uint8), "shape": [1, 2, 2]},
        {"packed_bits_b64": "sA==", "shape": [2, 2]},
    ],
)
def test_every_form_is_the_same_mask(form: Any) -> None:
    assert as_packed(form) == PackedMasks.from_bool(picture("#.", "##"))


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
        decode_entry(entry)


@pytest.mark.parametrize("count", [0, 2])
def test_an_entry_is_one_mask(count: int) -> None:
    with pytest.raises(ValueError, match=f"not {count}"):
        make_entry(PackedMasks.empty(2, 2, count))
    with pytest.raises(ValueError, match=f"not {count}"):
        as_packed(PackedMasks.empty(2, 2, count))
