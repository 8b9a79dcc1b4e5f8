from __future__ import annotations

import numpy as np
import pytest

from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.source import Selection
from trackweave.simulation.video import SyntheticScene


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
