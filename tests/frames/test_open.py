from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.frames.videos import write_video
from trackweave.errors import FrameError, InputError, SettingError
from trackweave.frames.arrays import ArrayFrames, IteratorFrames
from trackweave.frames.images import ImageFolder, TiffPages
from trackweave.frames.open import open_frames
from trackweave.frames.video import VideoFile

FRAMES = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)


def folder_of(tmp_path: Path) -> Path:
    for k in range(3):
        Image.fromarray(FRAMES[k]).save(tmp_path / f"{k}.png")
    return tmp_path


def test_each_kind_of_input(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    np.save(tmp_path / "clip.npy", FRAMES)
    stack = tmp_path / "stack" / "stack.tiff"
    stack.parent.mkdir()
    Image.fromarray(FRAMES[0]).save(stack)
    video = write_video(tmp_path / "clip.mp4", 2)
    for given, kind in (
        (FRAMES, ArrayFrames),
        (list(FRAMES), ArrayFrames),
        (iter(FRAMES), IteratorFrames),
        (tmp_path / "clip.npy", ArrayFrames),
        (str(folder), ImageFolder),
        (stack, TiffPages),
        (video, VideoFile),
    ):
        with open_frames(given) as source:
            assert type(source) is kind
            assert len(source[0].shape) == 3


def test_a_memory_map_knows_its_path(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", FRAMES)
    source = open_frames(tmp_path / "clip.npy")
    assert source.path == tmp_path / "clip.npy"
    np.testing.assert_array_equal(source[7], FRAMES[7])


@pytest.mark.parametrize("sampling", ["-6::2", slice(4, None, 2)])
def test_sampling_keeps_absolute_indices(sampling: str | slice) -> None:
    source = open_frames(FRAMES, sampling=sampling)
    assert list(source.indices) == [4, 6, 8]
    assert [int(frame[0, 0, 0]) for frame in source] == [4, 6, 8]


def test_a_source_is_sampled_again() -> None:
    source = open_frames(FRAMES, sampling="::2")
    assert open_frames(source) is source
    assert list(open_frames(source, sampling="1:3").indices) == [2, 4]


def test_a_faulty_sampling_closes_what_it_opened_and_nothing_else() -> None:
    with pytest.raises(SettingError, match="takes none of the 10 frames"):
        open_frames(iter(FRAMES), sampling="20:")  # an unclosed temporary file would warn
    with open_frames(iter(FRAMES)) as source:
        with pytest.raises(SettingError):
            open_frames(source, sampling="20:")
        assert len(source) == 10


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="nowhere does not exist: give a folder of images or a video file"):
        open_frames(tmp_path / "nowhere")


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="has no images"):
        open_frames(tmp_path)


def test_single_image(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="is a single image: give the folder"):
        open_frames(folder_of(tmp_path) / "1.png")


@pytest.mark.parametrize("content", [b"", b"a few words\n" * 9, bytes(range(256)) * 40])
@pytest.mark.parametrize("name", ["notes.txt", "clip.mp4", "data.npy"])
def test_unsupported_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FrameError, match=name):
        open_frames(tmp_path / name)


HEADERS = [
    "('<i8', ",
    "('|S0', 'fortran_order': False, 'shape': (-1,), }",
    "'|O', 'fortran_order': False, 'shape': (2,), }",
]


@pytest.mark.parametrize("header", HEADERS)
def test_an_array_file_with_a_damaged_header_is_refused(tmp_path: Path, header: str) -> None:
    body = f"{{'descr': {header}\n".encode()
    (tmp_path / "clip.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body + bytes(64))
    with pytest.raises(FrameError, match=r"clip\.npy cannot be read as an array"):
        open_frames(tmp_path / "clip.npy")


def test_neither_path_nor_frames() -> None:
    with pytest.raises(InputError, match="int is not a path, an array or an iterable of frames"):
        open_frames(3)  # type: ignore[arg-type]


def test_importing_open_frames_loads_no_decoder() -> None:
    code = "import sys, trackweave.frames; print(sorted({'av', 'cv2', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
