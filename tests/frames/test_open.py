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


def animation(path: Path, count: int = 4) -> Path:
    first, *rest = (Image.fromarray(np.full((8, 12, 3), 40 * k, np.uint8)) for k in range(count))
    first.save(path, save_all=True, append_images=rest, duration=50)
    return path


def test_an_animated_png_is_a_video(tmp_path: Path) -> None:
    with open_frames(animation(tmp_path / "a.png")) as source:
        assert [int(frame[0, 0, 0]) for frame in source] == [0, 40, 80, 120]
        assert source.frame_rate == pytest.approx(20)


def test_an_animated_webp_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"a\.webp is an animated WebP, which is not read as a video: convert it"):
        open_frames(animation(tmp_path / "a.webp"))


@pytest.mark.parametrize("suffix", ["tif", "png", "webp"])
def test_a_folder_with_a_stack_says_that_only_its_first_picture_counts(tmp_path: Path, suffix: str) -> None:
    animation(tmp_path / f"a.{suffix}")
    (note,) = open_frames(tmp_path).notes
    assert note.left_out == 3
    remedy = "save them as files of their own" if suffix == "webp" else "give that file itself, not its folder"
    assert f"a.{suffix} holds 4 pictures, of which the first alone is a frame: {remedy}" in note.message


def test_thumbnails_behind_an_image_are_no_frames(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((8, 12, 3), np.uint8))
    image.save(tmp_path / "a.tif", save_all=True, append_images=[image.resize((6, 4))])
    assert open_frames(tmp_path).notes == ()
