from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.formats.worlds import break_renames
from trackweave.errors import ArtifactError
from trackweave.visualization.video import Mp4Writer


def frame(value: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def read(path: Path) -> tuple[list[NDArray[Any]], float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        rate = float(stream.average_rate or 0)
        return [picture.to_ndarray(format="rgb24") for picture in container.decode(stream)], rate


def test_frames_come_back_in_order_with_their_rate(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "clip.mp4"
    with Mp4Writer(path, 12.5) as writer:
        for value in (0, 80, 160, 240):
            writer.write(frame(value))
    frames, rate = read(path)
    assert [round(float(f.mean()) / 80) for f in frames] == [0, 1, 2, 3]
    assert rate == 12.5
    assert writer.written == 4
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("height", "width"), [(47, 63), (1, 1), (2, 3)])
def test_odd_sizes_are_padded_to_even(tmp_path: Path, height: int, width: int) -> None:
    with Mp4Writer(tmp_path / "odd.mp4", 25) as writer:
        writer.write(frame(200, height, width))
    frames, _ = read(tmp_path / "odd.mp4")
    assert frames[0].shape == (height + height % 2, width + width % 2, 3)
    assert abs(float(frames[0].mean()) - 200) < 4


def test_failure_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    def one_frame_then_failure() -> None:
        with Mp4Writer(tmp_path / "a.mp4", 25) as writer:
            writer.write(frame(1))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        one_frame_then_failure()
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_video_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    break_renames(monkeypatch)
    with pytest.raises(ArtifactError, match=r"a\.mp4: the video cannot be written: No space"), Mp4Writer(path, 25) as w:
        w.write(frame(1))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"clip\.mp4"), Mp4Writer(tmp_path / "file" / "clip.mp4", 25) as writer:
        writer.write(frame(1))


def test_without_frames_no_file(tmp_path: Path) -> None:
    with Mp4Writer(tmp_path / "a.mp4", 25):
        pass
    assert list(tmp_path.iterdir()) == []


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Mp4Writer(tmp_path / "a.mp4", 0)
    with pytest.raises(ValueError, match="uint8"), Mp4Writer(tmp_path / "a.mp4", 25) as writer:
        writer.write(np.zeros((4, 4), np.uint8))
    with Mp4Writer(tmp_path / "b.mp4", 25) as writer:
        writer.write(frame(1))
        with pytest.raises(ValueError, match="the ones before"):
            writer.write(frame(1, 50))
    assert [path.name for path in tmp_path.iterdir()] == ["b.mp4"]
