from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.toy_boxes import FPS, HEIGHT, WIDTH, image_of, make_clip, make_sequence
from trackweave.errors import FrameError, InputError, SettingError
from trackweave.frames.open import open_frames
from trackweave.pipelines.detection_source import open_detections
from trackweave.pipelines.settings import InputSettings
from trackweave.pipelines.video_input import open_input
from trackweave.structures.run_log import RunLog


def test_a_sequence_with_all_its_images(tmp_path: Path) -> None:
    with open_input(make_sequence(tmp_path / "toy", frames=4, images=4)) as video:
        assert (video.kind, video.name, video.frame_rate, video.size) == ("sequence", "toy", FPS, (HEIGHT, WIDTH))
        assert video.has_images
        frames = list(video.frames())
        assert [frame.index for frame in frames] == [0, 1, 2, 3]
        assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3])
        image = frames[2].image()
        assert image is not None
        np.testing.assert_array_equal(image, image_of(2))
        assert frames[2].image() is image


def test_images_of_some_source_are_drawn_on_only(tmp_path: Path) -> None:
    with open_input(make_sequence(tmp_path / "toy", frames=4, images=2)) as video:
        assert not video.has_images
        frames = list(video.frames())
        assert [frame.image() is None for frame in frames] == [True] * 4
        assert [frame.display_image() is None for frame in frames] == [False, False, True, True]
        assert frames[1].is_preview
        assert video.source() is None


def test_a_clip_has_its_own_times(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 5, fps=8)
    with open_input(clip) as video:
        assert (video.kind, video.name, video.length) == ("frames", "clip", 5)
        assert video.frame_rate == pytest.approx(8)
        assert [frame.time for frame in video.frames()] == pytest.approx([k / 8 for k in range(5)])
    with open_input(clip, InputSettings(fps=2)) as video:
        assert [frame.time for frame in video.frames()] == [0, 0.5, 1, 1.5, 2]
        assert video.times is None


def test_a_choice_of_source_keeps_their_indices(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 10)
    with open_input(clip, InputSettings(frames="2::3", max_frames=2)) as video:
        assert [frame.index for frame in video.frames()] == [2, 5]
        assert (video.step, video.length) == (3, 10)
        source = video.source()
        assert source is not None
        assert list(source.indices) == [2, 5]
    with open_frames(clip, sampling="1::4") as source_, open_input(source_) as video:
        assert [frame.index for frame in video.frames()] == [1, 5, 9]
        assert video.length == 10


def test_no_images_at_all() -> None:
    with open_input(None, InputSettings.model_validate({"fps": 4, "size": "64x48"})) as video:
        assert video.size == (48, 64)
        with pytest.raises(InputError, match="number of frames is not known"):
            video.frames()
        video.set_length(3)
        assert [(frame.index, frame.time, frame.display_image()) for frame in video.frames()] == [
            (0, 0.0, None),
            (1, 0.25, None),
            (2, 0.5, None),
        ]


def test_images_without_a_rate_say_so(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "toy", frames=3, images=3) / "img1"
    with open_input(folder) as video:
        assert [frame.time for frame in video.frames()] == [None] * 3
        assert [warning.code for warning in video.warnings] == ["frame-rate-unknown"]
    with open_input(folder, InputSettings(fps=5)) as video:
        assert video.warnings == []


def test_live_sources_have_no_source_to_choose_from() -> None:
    with pytest.raises(SettingError, match="no frames to choose from"):
        open_input("rtsp://camera/main", InputSettings(frames="1:2"))


def test_the_callers_source_stays_open(tmp_path: Path) -> None:
    with open_frames(make_clip(tmp_path / "clip.mp4", 3)) as source_:
        open_input(source_).close()
        assert source_[1].shape == (HEIGHT, WIDTH, 3)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="does not exist"):
        open_input(tmp_path / "none.mp4")


@pytest.mark.parametrize("size", ["64", "0x48", "64x48x3", "wide", [64, 0], "-1x4"])
def test_sizes_that_cannot_be(size: object) -> None:
    with pytest.raises(ValidationError, match=r"size"):
        InputSettings.model_validate({"size": size})


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (lambda n: f"{n:06d}.png", "pictures count from 0: '000000.png' is the first frame"),
        (lambda n: f"{n + 1:06d}.jpg", r"there are no pictures .png \(imExt\): those of .jpg are taken"),
        (lambda n: f"frame_{n + 1}.png", "pictures are called 'frame_1.png', …"),
        (lambda n: f"{chr(97 + n)}.png", "12 others are taken in the order of their names"),
    ],
)
def test_pictures_of_a_sequence_under_other_names(tmp_path: Path, rename: Callable[[int], str], message: str) -> None:
    folder = make_sequence(tmp_path / "toy", images=12)
    for n, file in enumerate(sorted((folder / "img1").iterdir())):
        file.rename(folder / "img1" / f"new_{n}")
    for n in range(12):
        (folder / "img1" / f"new_{n}").rename(folder / "img1" / rename(n))
    with open_input(folder) as video:
        assert (video.has_images, video.length) == (True, 12)
        for frame in video.frames():
            image = frame.image()
            assert image is not None
            assert np.abs(image.astype(int) - image_of(frame.index)).mean() < 20
        assert [re.search(message, warning.message) is not None for warning in video.warnings] == [True]


def test_a_detector_says_which_pictures_it_lacks(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "toy", images=12)
    (folder / "img1" / "000003.png").unlink()
    with open_input(folder) as video, pytest.raises(InputError, match="has those of 11 of 12 frames, frame 3 has none"):
        open_detections("motion", video, RunLog())


def test_pictures_of_another_size_than_the_sequence_says(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "toy", images=12)
    info = (folder / "seqinfo.ini").read_text()
    (folder / "seqinfo.ini").write_text(info.replace(f"imWidth={WIDTH}", "imWidth=1920"))
    with open_input(folder) as video:
        assert f"pictures of {WIDTH}×{HEIGHT}, but seqinfo.ini says 1920×{HEIGHT}" in video.warnings[0].message


def test_a_folder_of_sequences_is_not_one(tmp_path: Path) -> None:
    for name in ("MOT17-02", "MOT17-04"):
        make_sequence(tmp_path / name)
    with pytest.raises(FrameError, match=r"holds 2 sequences \(MOT17-02, MOT17-04\): give one of them"):
        open_input(tmp_path)
