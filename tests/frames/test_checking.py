from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trackweave.errors import FrameError
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.open import open_frames
from trackweave.frames.source import exclude_unreadable


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
