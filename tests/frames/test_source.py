from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trackweave.errors import FrameError, SettingError
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.open import open_frames
from trackweave.frames.source import Selection, exclude_unreadable, parse_sampling, sampled_positions
from trackweave.simulation.video import SyntheticScene

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


def frames(count: int) -> ArrayFrames:
    return ArrayFrames(np.zeros((count, 2, 3, 3), np.uint8))


@pytest.mark.parametrize("local", [-1, 3])
def test_positions_outside_are_index_errors(local: int) -> None:
    source = frames(3)
    for each in (source, source.select([0, 1, 2])):
        with pytest.raises(IndexError, match="there are 3 frames"):
            each[local]


@pytest.mark.parametrize("positions", [[1, 1], [2, 0]])
def test_positions_increase(positions: list[int]) -> None:
    with pytest.raises(ValueError, match="increase strictly"):
        frames(3).select(positions)


def test_a_position_that_is_not_there_cannot_be_selected() -> None:
    with pytest.raises(IndexError):
        frames(3).select([1, 3])


def test_numpy_positions_do() -> None:
    assert list(frames(5).select(np.array([1, 4])).indices) == [1, 4]  # type: ignore[arg-type]


def test_a_selection_keeps_times_and_size_and_does_not_stack() -> None:
    scene = SyntheticScene(height=32, width=40, length=10, fps=10)
    sample = scene.select(range(0, 10, 2)).select([1, 3])
    assert sample.times == (0.2, 0.6)
    assert sample.size == (32, 40)
    assert isinstance(sample, Selection)
    assert sample._source is scene


def test_closing_a_selection_closes_its_source() -> None:
    closed = []

    class Closing(ArrayFrames):
        def close(self) -> None:
            closed.append(True)

    with Closing(np.zeros((4, 2, 3, 3), np.uint8)).select([0, 2]) as sample:
        assert len(sample) == 2
    assert closed == [True]


def test_the_frame_rate_is_that_of_the_median_step() -> None:
    scene = SyntheticScene(height=32, width=40, length=10, fps=10)
    assert scene.frame_rate == pytest.approx(10)
    assert scene.select([0, 2, 4, 9]).frame_rate == pytest.approx(5)
    assert scene.select([3]).frame_rate is None
    assert frames(3).frame_rate is None


def folder_with_faults(tmp_path: Path) -> Path:
    (tmp_path / "0.png").write_bytes(b"no image")
    for k, height in ((1, 4), (2, 4), (3, 5), (4, 4)):
        Image.fromarray(np.full((height, 6, 3), k, np.uint8)).save(tmp_path / f"{k}.png")
    return tmp_path


def test_nothing_wrong_gives_the_source_itself() -> None:
    source = ArrayFrames(np.zeros((3, 4, 6, 3), np.uint8))
    assert exclude_unreadable(source) == (source, [])


def test_bad_frames_are_left_out_by_name_and_reason(tmp_path: Path) -> None:
    kept, excluded = exclude_unreadable(open_frames(folder_with_faults(tmp_path)))
    assert list(kept.names) == ["1.png", "2.png", "4.png"]
    assert list(kept.indices) == [1, 2, 4]
    assert kept.size == (4, 6)
    assert [int(frame[0, 0, 0]) for frame in kept] == [1, 2, 4]
    (zero, name, unreadable), (three, _, other_size) = excluded
    assert (zero, name, three) == (0, "0.png", 3)
    assert "cannot be read" in unreadable
    assert "6×5 pixels" in other_size


def test_indices_stay_absolute_in_a_sample(tmp_path: Path) -> None:
    kept, excluded = exclude_unreadable(open_frames(folder_with_faults(tmp_path), sampling="2:"))
    assert list(kept.indices) == [2, 4]
    assert [index for index, _, _ in excluded] == [3]


def test_all_bad(tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / f"{k}.png").write_bytes(b"no image")
    with pytest.raises(FrameError, match=r"none of the 2 frames can be read; the first: .*0\.png"):
        exclude_unreadable(open_frames(tmp_path))
