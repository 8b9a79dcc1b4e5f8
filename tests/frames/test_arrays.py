from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.errors import FrameError, InputError
from trackweave.frames.arrays import ArrayFrames, IteratorFrames, array_source


def numbered(count: int) -> Iterator[NDArray[np.uint8]]:
    for k in range(count):
        yield np.full((2, 3, 3), k, np.uint8)


class TestArrayFrames:
    @pytest.mark.parametrize("shape", [(5, 2, 7), (5, 2, 7, 1), (5, 2, 7, 3), (5, 2, 7, 4)])
    def test_grey_rgb_and_rgba(self, shape: tuple[int, ...]) -> None:
        values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        source = ArrayFrames(values)
        frame = source[3]
        expected = values[3].reshape(2, 7, -1)[..., :3]
        np.testing.assert_array_equal(frame, np.broadcast_to(expected, (2, 7, 3)))
        assert frame.flags.c_contiguous
        assert not frame.flags.writeable
        assert values.flags.writeable
        assert (len(source), source.size, source.path, source.times) == (5, (2, 7), None, None)
        assert list(source.indices) == [0, 1, 2, 3, 4]

    def test_a_list_of_frames(self) -> None:
        assert [int(frame[0, 0, 0]) for frame in ArrayFrames(list(numbered(3)))] == [0, 1, 2]

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            (np.zeros((4, 5, 3), np.uint8), r"one frame is frame\[None\]"),
            (np.zeros((4, 5), np.uint8), r"one frame is frame\[None\]"),
            (np.zeros((0, 4, 5, 3), np.uint8), "at least one frame"),
            ([], "at least one frame"),
        ],
    )
    def test_no_video(self, frames: Any, message: str) -> None:
        with pytest.raises(FrameError, match=message):
            ArrayFrames(frames)

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            (np.zeros((2, 4, 5, 3), np.float32), "dtype float32: frames are uint8"),
            (np.zeros((2, 3, 4, 5), np.uint8), "channels last"),
            (np.zeros((2, 4, 5, 7), np.uint8), "has shape"),
            (np.zeros((2, 0, 5, 3), np.uint8), "has shape"),
        ],
    )
    def test_faulty_frames(self, frames: Any, message: str) -> None:
        with pytest.raises(FrameError, match=message):
            ArrayFrames(frames)[0]

    def test_another_size(self) -> None:
        source = ArrayFrames([np.zeros((2, 3), np.uint8), np.zeros((4, 3), np.uint8)])
        with pytest.raises(FrameError, match="array frame 1 is 3×4 pixels, but the first is 3×2"):
            source[1]


class TestIteratorFrames:
    @given(st.lists(st.integers(0, 11), min_size=1))
    def test_any_order_after_one_pass(self, order: list[int]) -> None:
        with IteratorFrames(numbered(12)) as source:
            assert [int(source[k][0, 0, 0]) for k in order] == order
            assert len(source) == 12
            assert [int(frame[1, 2, 2]) for frame in source] == list(range(12))
            assert source.names[11] == "frame_000011"

    def test_takes_no_more_than_it_needs(self) -> None:
        taken = []

        def frames() -> Iterator[NDArray[np.uint8]]:
            for k, frame in enumerate(numbered(10)):
                taken.append(k)
                yield frame

        with IteratorFrames(frames()) as source:
            assert taken == []
            assert source.size == (2, 3)
            assert taken == [0]
            assert source[4][0, 0, 0] == 4
            assert taken == [0, 1, 2, 3, 4]
            for k, _ in enumerate(source):
                assert len(taken) == max(5, k + 1)

    def test_memory_holds_one_frame_and_the_disk_the_rest(self) -> None:
        with IteratorFrames(numbered(50)) as source:
            assert len(source) == 50
            held = [value for value in vars(source).values() if isinstance(value, np.ndarray | list)]
            assert held == []
            assert os.fstat(source._spool.fileno()).st_size == 50 * 18

    def test_close_frees_the_disk(self) -> None:
        source = IteratorFrames(numbered(3))
        assert source[2][0, 0, 0] == 2
        source.close()
        assert source._spool.closed
        with pytest.raises(FrameError, match="closed"):
            source[0]

    def test_selections_and_positions(self) -> None:
        with IteratorFrames(numbered(6)) as source:
            assert [int(frame[0, 0, 0]) for frame in source.select([1, 5])] == [1, 5]
            for local in (-1, 6):
                with pytest.raises(IndexError):
                    source[local]

    def test_another_size_names_the_frame_and_stays_a_failure(self) -> None:
        with IteratorFrames([np.zeros((2, 3), np.uint8), np.zeros((4, 3), np.uint8)]) as source:
            with pytest.raises(FrameError, match="iterator frame 1 is 3×4 pixels, but the first is 3×2"):
                len(source)
            with pytest.raises(FrameError, match="failed before"):
                len(source)

    def test_the_iterators_own_error_passes_through(self) -> None:
        def failing() -> Iterator[NDArray[np.uint8]]:
            yield np.zeros((2, 3), np.uint8)
            raise ConnectionError("camera gone")

        with IteratorFrames(failing()) as source:
            with pytest.raises(ConnectionError):
                source[1]
            with pytest.raises(FrameError, match="failed before: camera gone"):
                source[1]
            assert source[0].shape == (2, 3, 3)

    def test_none_is_not_the_end(self) -> None:
        with IteratorFrames([None]) as source, pytest.raises(FrameError, match="iterator frame 0"):
            len(source)

    def test_an_empty_iterator(self) -> None:
        with IteratorFrames(iter(())) as source:
            assert len(source) == 0
            with pytest.raises(FrameError, match="gave no frame"):
                assert source.size

    def test_a_full_disk_says_where(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class FullDisk:
            closed = False

            def seek(self, _: int) -> None:
                raise OSError(28, "No space left on device")

            def close(self) -> None: ...

        with IteratorFrames(numbered(2)) as source:
            source._spool.close()
            monkeypatch.setattr(source, "_spool", FullDisk())
            with pytest.raises(FrameError, match=r"cannot be spooled to .*No space left.*TMPDIR"):
                source[0]


class TestArraySource:
    def test_what_becomes_what(self) -> None:
        assert isinstance(array_source(np.zeros((2, 4, 5, 3), np.uint8)), ArrayFrames)
        assert isinstance(array_source([np.zeros((4, 5, 3), np.uint8)]), ArrayFrames)
        with array_source(numbered(2)) as source:
            assert isinstance(source, IteratorFrames)

    def test_an_array_like(self) -> None:
        class Tensor:
            def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[np.uint8]:
                return np.zeros((2, 4, 5, 3), np.uint8)

        assert len(array_source(Tensor())) == 2

    @pytest.mark.parametrize(("given", "message"), [(7, "int is not a path"), (["a.png"], "give the folder")])
    def test_what_cannot_be_frames(self, given: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            array_source(given)
