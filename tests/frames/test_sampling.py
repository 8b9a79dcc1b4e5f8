from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.errors import SettingError
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.source import parse_sampling, sampled_positions

bounds = st.none() | st.integers(-40, 40)
steps = st.none() | st.integers(1, 12)


def text_of(sampling: slice) -> str:
    return ":".join("" if part is None else str(part) for part in (sampling.start, sampling.stop, sampling.step))


@given(st.builds(slice, bounds, bounds, steps))
def test_parsing_reads_what_python_writes(sampling: slice) -> None:
    assert parse_sampling(text_of(sampling)) == sampling


@given(st.builds(slice, bounds, bounds, steps), st.integers(0, 30))
def test_positions_are_those_of_a_python_slice(sampling: slice, count: int) -> None:
    expected = list(range(count))[sampling]
    for given_as in (sampling, text_of(sampling)):
        if expected:
            assert list(sampled_positions(given_as, count)) == expected
        else:
            with pytest.raises(SettingError, match=f"takes none of the {count} frames"):
                sampled_positions(given_as, count)


@given(st.sets(st.integers(0, 19)), st.data())
def test_selecting_from_a_selection_composes(first: set[int], data: st.DataObject) -> None:
    source = ArrayFrames(np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8))
    outer = sorted(first)
    inner = sorted(data.draw(st.sets(st.integers(0, len(outer) - 1))) if outer else set())
    composed = [outer[k] for k in inner]
    twice, once = source.select(outer).select(inner), source.select(composed)
    assert list(twice.indices) == list(once.indices) == composed
    assert list(twice.names) == [f"frame_{k:06d}" for k in composed]
    assert [int(frame[0, 0, 0]) for frame in twice] == composed


@pytest.mark.parametrize("text", [" 2 : 9 : 3 ", "2:9:3"])
def test_spaces_do_not_matter(text: str) -> None:
    assert parse_sampling(text) == slice(2, 9, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "write '5:6'"),
        ("-1", "write '-1:'"),
        ("-3", "write '-3:-2'"),
        ("", "write ':' for all frames"),
        ("a:b", "is not start:end:step of whole numbers"),
        ("1.5:", "is not start:end:step of whole numbers"),
        ("1:2:3:4", "more than three parts"),
        ("::0", "step 0"),
        ("9:1:-1", "step -1"),
    ],
)
def test_faulty_sampling_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        sampled_positions(text, 10)


@pytest.mark.parametrize("sampling", [slice(None, None, -2), slice(0.5, None), slice(None, None, "2"), slice("a", "b")])
def test_faulty_slices_are_setting_errors(sampling: slice) -> None:
    with pytest.raises(SettingError):
        sampled_positions(sampling, 10)


def test_no_sampling_takes_all() -> None:
    assert sampled_positions(None, 3) == range(3)
