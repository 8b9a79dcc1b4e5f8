from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trackweave.masks import kernels


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3), max_size=5))
def test_set_bits_of_whole_words(rows: list[list[int]]) -> None:
    words = np.array(rows, np.uint64).reshape(-1, 3)
    out = np.empty(len(words), np.int64)
    kernels.count_bits(words, out)
    assert out.tolist() == [sum(word.bit_count() for word in row) for row in rows]


def test_pasting_adds_and_never_clears() -> None:
    bits = np.full(2, 0b10000001, np.uint8)
    kernels.paste_crop(bits, np.array([[False, True]]), 1, 1, 5)
    assert np.flatnonzero(np.unpackbits(bits)).tolist() == [0, 7, 8, 15]
    kernels.paste_crop(bits, np.array([[True, True]]), 2, 0, 5)
    assert np.flatnonzero(np.unpackbits(bits)).tolist() == [0, 7, 8, 10, 11, 15]


def test_words_beyond_the_last_byte_of_a_row_are_not_read_as_pixels() -> None:
    bits = np.zeros((1, 9), np.uint8)
    bits[0, 8] = 0b10000000
    words = np.zeros((1, 16), np.uint8)
    words[:, :9] = bits
    out = np.zeros((1, 4), np.int32)
    kernels.bounding_boxes(bits, words.view(np.uint64), 72, out)
    assert out.tolist() == [[64, 0, 65, 1]]
