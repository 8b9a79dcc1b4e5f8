from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.frames.source import FrameCache


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40))), st.integers(0, 100))
def test_never_more_bytes_than_allowed(puts: list[tuple[int, int]], max_bytes: int) -> None:
    cache = FrameCache(max_bytes)
    for position, size in puts:
        cache.put(position, np.zeros((1, size, 3), np.uint8))
        held = [frame for k in range(10) if (frame := cache.get(k)) is not None]
        assert cache.nbytes == sum(frame.nbytes for frame in held) <= max_bytes
        assert len(cache) == len(held)


def test_the_frame_used_longest_ago_leaves() -> None:
    cache = FrameCache(12)
    for position in (0, 1):
        cache.put(position, np.zeros((1, 2, 3), np.uint8))
    assert cache.get(0) is not None
    cache.put(2, np.zeros((1, 2, 3), np.uint8))
    assert cache.get(1) is None
    assert cache.get(0) is not None


def test_held_frames_cannot_be_written_to() -> None:
    frame = FrameCache(100).put(0, np.zeros((1, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        frame[0] = 1


def test_clear_lets_go() -> None:
    cache = FrameCache(100)
    cache.put(0, np.zeros((1, 2, 3), np.uint8))
    cache.clear()
    assert (len(cache), cache.nbytes, cache.get(0)) == (0, 0, None)
