from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trackweave.predictors.flow.frame_features import ArrayStore


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30),
    memory=st.integers(0, 300),
    disk=st.integers(0, 400),
)
def test_bounds_hold_and_values_survive(steps: list[tuple[bool, int]], memory: int, disk: int) -> None:
    store = ArrayStore(memory, disk)
    try:
        for put, key in steps:
            value = np.full(50, key, np.uint8), np.full((2, 10), -key, np.int8)
            if put and store.get(key) is None:
                store.put(key, value)
            stored = store.get(key)
            assert stored is None or all(np.array_equal(a, b) for a, b in zip(stored, value, strict=True))
            assert store.memory_used <= memory
            assert store.disk_used <= disk
    finally:
        store.close()


def test_nothing_is_lost_while_disk_holds_it() -> None:
    store = ArrayStore(memory_bytes=100, disk_bytes=10_000)
    for key in range(20):
        store.put(key, (np.full(60, key, np.uint8),))
    for key in range(20):
        stored = store.get(key)
        assert stored is not None
        assert (stored[0] == key).all()
    store.close()
    assert store.get(0) is None


def test_arrays_come_back_as_they_were() -> None:
    """Writable and aligned: other arrays would be another type for the compiled loops."""
    store = ArrayStore(memory_bytes=0, disk_bytes=10_000)
    arrays: tuple[np.ndarray, ...] = (
        np.arange(5, dtype=np.float16),
        np.arange(6.0).reshape(2, 3),
        np.zeros((0, 2), np.uint8),
    )
    store.put(0, arrays)
    stored = store.get(0)
    assert stored is not None
    for found, array in zip(stored, arrays, strict=True):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
        assert found.flags.writeable
        assert found.flags.aligned
