"""`PictureStore`: the right frame, quickly, in bounded space."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.view.match import Match
from trackweave.errors import FrameError
from trackweave.frames.open import open_frames
from trackweave.frames.source import RGBFrame
from trackweave.frames.video import VideoFile
from trackweave.view import pictures
from trackweave.view.pictures import PictureStore, encode_jpeg


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Match(frames=40, players=3, size=(96, 160)).write_video(tmp_path_factory.mktemp("video") / "m.mp4")


def decoded(content: bytes) -> RGBFrame:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def wait_for(store: PictureStore, count: int) -> None:
    deadline = time.monotonic() + 60
    while store.kept < count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert store.kept == count


def test_each_frame_is_itself(video: Path) -> None:
    with open_frames(video) as source:
        store = PictureStore(source)
        frames = [np.asarray(frame, np.float64) for frame in source]
        for place in (39, 0, 17, 18, 17):
            shown = decoded(store.picture(place)).astype(np.float64)
            assert np.argmin([np.abs(shown - frame).mean() for frame in frames]) == place
        store.close()


def test_the_thread_keeps_every_frame(video: Path) -> None:
    with open_frames(video) as source:
        store = PictureStore(source, lambda: open_frames(video))
        store.start()
        wait_for(store, 40)
        assert not store.is_small
        assert np.abs(decoded(store.picture(31)).astype(float) - source[31]).mean() < 4
        store.close()
        assert store.problem is None


def test_while_a_frame_is_decoded_a_near_one_is_there(video: Path) -> None:
    with open_frames(video) as source:
        store = PictureStore(source, lambda: open_frames(video))
        assert store.near(7) is None
        store.start()
        wait_for(store, 40)
        for place in (0, 7, 39):
            found = store.near(place)
            assert found is not None
            assert found[0] == place
        store.close()


def test_a_wish_that_is_given_up_is_not_decoded(video: Path) -> None:
    with open_frames(video) as source, ThreadPoolExecutor(3) as pool:
        store = PictureStore(source)
        with store._decoding:  # the decoder is at work for another request
            first = pool.submit(store.wished, 5, "me")
            while store._wished.get("me") != 5:
                time.sleep(0.001)
            other = pool.submit(store.wished, 9, "another reader")
            second = pool.submit(store.wished, 30, "me")
            while store._wished.get("me") != 30 or store._waiting < 3:
                time.sleep(0.001)
        assert first.result() is None
        assert second.result() is not None
        assert other.result() is not None
        store.close()


@pytest.mark.parametrize("asked", ["wished", "ahead"])
def test_a_frame_is_given_up_on_the_way(asked: str, video: Path) -> None:
    with VideoFile(video) as source, ThreadPoolExecutor(2) as pool:
        store, read, begun = PictureStore(source), threading.Event(), threading.Event()
        expected = encode_jpeg(source[20])
        source.cache.clear()
        reading = source._decoder.read

        def slowly() -> Any:
            begun.set()
            read.wait(60)
            return reading()

        source._decoder.read = slowly  # type: ignore[method-assign]
        first = pool.submit(getattr(store, asked), 39)
        begun.wait(60)
        second = pool.submit(store.wished, 20)
        while store._wished.get("") != 20:
            time.sleep(0.001)
        read.set()
        assert first.result() is None
        assert second.result() == expected
        store.close()


def test_where_space_is_scarce_frames_are_kept_small(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "LEAST_WIDTH", 32)
    with open_frames(video) as source:
        store = PictureStore(source, lambda: open_frames(video), disk_bytes=80_000)
        store.start()
        wait_for(store, 40)
        assert store.is_small
        assert decoded(store.picture(3)).shape[1] < 160
        assert decoded(store.picture(3, whole=True)).shape == (96, 160, 3)
        store.close()


def test_a_small_picture_is_kept_for_playing(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOVING_WIDTH", 80)
    with open_frames(video) as source:
        store = PictureStore(source, lambda: open_frames(video))
        first = store.moving(3)
        assert first is not None
        assert decoded(first).shape == (96, 160, 3)  # no smaller one is there yet
        store.start()
        wait_for(store, 40)
        frames = [np.asarray(pictures.fit(frame, 80), np.float64) for frame in source]
        for place in (0, 17, 39):
            small = store.moving(place)
            assert small is not None
            shown = decoded(small).astype(np.float64)
            assert shown.shape == (48, 80, 3)
            assert np.argmin([np.abs(shown - frame).mean() for frame in frames]) == place
        assert decoded(store.picture(39)).shape == (96, 160, 3)
        store.close()


def test_a_full_disk_is_no_error(video: Path) -> None:
    with open_frames(video) as source:
        store = PictureStore(source, lambda: open_frames(video), disk_bytes=3000)
        store.start()
        assert store._thread is not None
        store._thread.join()
        assert decoded(store.picture(5)).shape == (96, 160, 3)
        store.close()


def test_a_crop_is_around_its_box(video: Path) -> None:
    with open_frames(video) as source:
        store = PictureStore(source)
        content = store.crop(4, np.array([40, 20, 60, 60], np.float32), 100)
        assert content is not None
        crop = decoded(content).astype(float)
        expected = source[4][14:66, 24:76]
        assert crop.shape == expected.shape
        assert np.abs(crop - expected).mean() < 8
        tiny = store.crop(4, np.array([80, 40, 82, 42], np.float32), 100)
        assert tiny is not None
        assert decoded(tiny).shape == (32, 32, 3)  # what is around it, too
        outside = store.crop(4, np.array([-90, -90, -80, -80], np.float32), 100)
        assert outside is not None
        assert decoded(outside).size
        store.close()


def test_memory_is_bounded(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MEMORY_BYTES", 20_000)
    with open_frames(video) as source:
        store = PictureStore(source)
        for place in range(40):
            store.picture(place)
        assert store._used <= 20_000
        assert 1 <= len(store._memory) < 40
        store.close()


def test_no_such_frame(video: Path) -> None:
    with open_frames(video) as source:
        store = PictureStore(source)
        with pytest.raises(IndexError):
            store.picture(40)
        store.close()


def test_a_picture_too_large_for_jpeg() -> None:
    with pytest.raises(FrameError, match="no JPEG"):
        pictures.encode_jpeg(np.zeros((1, 70_000, 3), np.uint8))
