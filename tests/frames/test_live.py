from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.frames.videos import HEIGHT, MOTION_JPEG, WIDTH, decoded_in_order, picture, serving, write_video
from trackweave.errors import FrameError, SettingError
from trackweave.frames.live import (
    HELD,
    LiveFrame,
    LiveFrames,
    PyAVStream,
    StreamFailure,
    is_live,
    open_live,
    without_password,
)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(
        tmp_path / "clip.ts", 20, milliseconds=[0, *range(50, 1000, 50)], bf="0", g="5", preset="ultrafast"
    )


@pytest.mark.parametrize("has_length", [True, False])
def test_frames_of_a_stream_in_order_with_their_times(clip: Path, has_length: bool) -> None:
    with serving(clip.read_bytes(), has_length=has_length) as url, open_live(url) as frames:
        found = list(frames)
    wanted = decoded_in_order(clip)
    assert [one.frame for one in found] == list(range(20))
    np.testing.assert_allclose([one.time for one in found], 0.05 * np.arange(20), atol=1e-6)
    for one, image in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.image, image)
        assert one.image.flags.c_contiguous
    assert (frames.dropped, frames.restamped) == (0, 0)
    assert frames.ending == (None if has_length else "the server closed the connection")
    assert not frames._thread.is_alive()


def test_the_size_is_that_of_the_first_frame_which_is_not_lost(clip: Path) -> None:
    with serving(clip.read_bytes()) as url, open_live(url, max_frames=3) as frames:
        assert frames.size == frames.size == (HEIGHT, WIDTH)
        assert [frame for frame, _, _ in frames] == [0, 1, 2]
        assert frames.size == (HEIGHT, WIDTH)


class Unplugged:
    """A stream without a frame."""

    name, dropped, restamped = "camera", 0, 0
    ending: str | None = None

    def read(self) -> None:
        raise StreamFailure("cable out")

    def close(self) -> None: ...


def test_a_stream_without_a_frame_has_no_size() -> None:
    with LiveFrames(Unplugged()) as stream:
        assert stream.size is None
        with pytest.raises(FrameError, match=r"broke off after 0 frames .cable out"):
            next(stream)
        assert stream.size is None


def test_a_maximum_of_frames(clip: Path) -> None:
    with serving(clip.read_bytes()) as url:
        frames = open_live(url, max_frames=3)
        assert [frame for frame, _, _ in frames] == [0, 1, 2]
        assert list(frames) == []
        assert not frames._thread.is_alive()


def test_a_stream_that_breaks_off(clip: Path) -> None:
    """The camera's computer crashes: the connection is reset."""
    with socket.socket() as camera:
        camera.bind(("127.0.0.1", 0))
        camera.listen()

        def crash() -> None:
            line, _ = camera.accept()
            line.recv(4096)
            line.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n" + clip.read_bytes())
            time.sleep(0.5)  # a reset takes along what was not read yet
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.close()

        thread = threading.Thread(target=crash)
        thread.start()
        with open_live(f"http://127.0.0.1:{camera.getsockname()[1]}/") as frames:
            seen: list[LiveFrame] = []
            with pytest.raises(FrameError, match=r"broke off after \d+ frames \(Connection reset by peer\)"):
                seen.extend(frames)
        thread.join()
    assert len(seen) == 20, "what had arrived is not lost"


def jpeg(k: int) -> bytes:
    done, data = cv2.imencode(".jpg", picture(k))
    assert done
    return b"--next\r\nContent-Type: image/jpeg\r\n\r\n" + data.tobytes() + b"\r\n"


def test_motion_jpeg_has_the_times_of_the_clock() -> None:
    with serving(*(jpeg(k) for k in range(8)), kind=MOTION_JPEG) as url, open_live(url) as frames:
        found = list(frames)
    assert len(found) == 7, "FFmpeg ends a picture when the next begins: the last one never is"
    times = [one.time for one in found]
    assert times[0] == 0
    assert all(b > a for a, b in pairwise(times))
    assert times[-1] < 6 / 25 - 0.02, "sent at once, not at the 25 per second that FFmpeg makes up"
    assert np.abs(found[3].image[20].astype(int) - picture(3)[20, :, ::-1]).mean() < 12


def test_no_server_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: no one else gets it either
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FrameError, match=r"cannot be opened \(PyAV: Connection refused; OpenCV: ") as caught:
            open_live(f"http://me:secret@{address}/camera", timeout_s=5)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_page_instead_of_a_stream() -> None:
    with serving(b"<html>hello</html>", kind="text/html") as url, pytest.raises(FrameError, match="cannot be opened"):
        open_live(url, timeout_s=5)


def test_a_source_that_hangs(clip: Path) -> None:
    hold = threading.Event()
    with serving(clip.read_bytes(), then_wait=hold) as url:
        frames = open_live(url, timeout_s=1)
        seen: list[LiveFrame] = []
        with pytest.raises(FrameError, match=r"broke off after \d+ frames \(no .* for 1 s\)"):
            seen.extend(frames)
        assert list(frames) == []
    assert len(seen) >= 10


def test_a_source_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(FrameError, match=r"PyAV: no data for 0\.5 s"):
            open_live(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.5)
        assert time.monotonic() - start < 20


def test_frames_that_cannot_be_decoded_are_counted() -> None:
    pictures = [jpeg(k) for k in range(8)]
    pictures[3] = pictures[3][:60] + b"\r\n"  # the head of a picture without its body
    with serving(*pictures, kind=MOTION_JPEG) as url, open_live(url) as frames:
        found = list(frames)
    assert frames.dropped == 1
    assert [one.frame for one in found] == list(range(6))


class FakeCapture:
    """A webcam that gives the pictures it was made with; None for one that fails."""

    def __init__(self, pictures: Sequence[Any], *, is_open: bool = True) -> None:
        self.pictures, self.is_open = list(pictures), is_open
        self.reads = self.releases = 0

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.is_open

    def read(self) -> tuple[bool, Any]:
        self.reads += 1
        found = self.pictures.pop(0) if self.pictures else None
        return found is not None, found

    def release(self) -> None:
        self.releases += 1


def plug_in(monkeypatch: pytest.MonkeyPatch, camera: FakeCapture) -> list[Any]:
    asked: list[Any] = []

    def capture(*arguments: Any) -> FakeCapture:
        asked.append(arguments)
        return camera

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    return asked


def test_a_webcam(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCapture([picture(k)[:, :, ::-1] if k != 2 else None for k in range(6)])
    asked = plug_in(monkeypatch, camera)
    with open_live("3", max_frames=5) as frames:
        found = list(frames)
    assert asked == [(3,)]
    assert frames.dropped == 1
    for one, k in zip(found, (0, 1, 3, 4, 5), strict=True):
        np.testing.assert_array_equal(one.image, picture(k))
    times = [one.time for one in found]
    assert times[0] == 0
    assert sorted(set(times)) == times
    assert camera.releases == 1


def test_a_webcam_that_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCapture([picture(0)])
    plug_in(monkeypatch, camera)
    frames = open_live(0)
    next(frames)
    with pytest.raises(FrameError, match=r"webcam 0 broke off after 1 frames \(10 pictures in a row failed\)"):
        next(frames)
    assert camera.releases == 1


def test_of_a_webcam_that_is_not_there_only_our_line_is_seen(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FrameError, match="webcam 97 cannot be opened"):
        open_live(97)
    assert capfd.readouterr().err == ""


def test_no_webcam(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, FakeCapture([], is_open=False))
    with pytest.raises(FrameError, match="webcam 7 cannot be opened"):
        open_live(7)


def test_opencv_is_the_second_way(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCapture([picture(0), picture(1)])
    asked = plug_in(monkeypatch, camera)
    with serving(b"nothing that FFmpeg knows") as url, open_live(url, timeout_s=5) as frames:
        assert len(list(frames)) == 2
    assert asked[0][0] == url
    assert camera.releases == 1


def test_only_a_few_frames_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCapture([picture(k) for k in range(100)])
    plug_in(monkeypatch, camera)
    with open_live(0) as frames:
        next(frames)
        time.sleep(0.3)
        assert camera.reads <= HELD + 2
    assert camera.releases == 1


def test_a_frame_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, FakeCapture([picture(0), picture(1)[:-2]]))
    frames = open_live(0)
    next(frames)
    with pytest.raises(FrameError, match=f"webcam 0 frame 1 is {WIDTH}.{HEIGHT - 2} .* with {WIDTH}.{HEIGHT}"):
        next(frames)


def test_an_unexpected_error_reaches_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCapture(["no picture at all"])
    plug_in(monkeypatch, camera)
    with open_live(0) as frames, pytest.raises(cv2.error):
        next(frames)
    assert camera.releases == 1


def test_stamps_that_jump_back_are_replaced(tmp_path: Path) -> None:
    """Two recordings, one after the other: the second's stamps begin at zero again."""
    one = write_video(tmp_path / "one.ts", 6, milliseconds=range(0, 300, 50), bf="0", g="2")
    with serving(one.read_bytes(), one.read_bytes()) as url, open_live(url) as frames:
        times = [frame.time for frame in frames]
    assert len(times) >= 10
    assert all(b > a for a, b in pairwise(times))
    assert frames.restamped >= 1


@pytest.mark.parametrize("source", ["clip.mp4", "-1", "ftp://host/clip", "/dev/video0", "", "²"])
def test_what_is_not_live(source: str) -> None:
    assert not is_live(source)
    with pytest.raises(FrameError, match="no live source"):
        open_live(source)


@pytest.mark.parametrize(
    "source", ["0", "12", "RTSP://camera/1", "rtsps://c/1", "rtmp://c/1", "https://c", "udp://:99"]
)
def test_what_is_live(source: str) -> None:
    assert is_live(source)


@pytest.mark.parametrize("wrong", [{"max_frames": 0}, {"timeout_s": 0}, {"timeout_s": float("nan")}])
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        open_live(0, **wrong)


def test_addresses_without_passwords() -> None:
    assert without_password("rtsp://a@b/x") == "rtsp://a:***@b/x"
    assert without_password("http://u:p@ss@host:80/x@y") == "http://u:***@host:80/x@y"


def test_a_stream_without_video(tmp_path: Path) -> None:
    """Sound alone: PyAV opens it, finds nothing to show, and OpenCV does not either."""
    import av

    with av.open(str(tmp_path / "sound.ts"), "w") as container:
        stream: Any = container.add_stream("mp2", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1152 * 40), np.int16), format="s16", layout="mono")
        sound.rate = 44100
        for part in (sound, None):
            container.mux(stream.encode(part))
    with serving((tmp_path / "sound.ts").read_bytes()) as url, pytest.raises(FrameError, match="PyAV: no video stream"):
        open_live(url, timeout_s=5)


def test_closing_early_ends_the_thread(clip: Path) -> None:
    with serving(clip.read_bytes()) as url:
        frames = LiveFrames(PyAVStream(url, "camera", 5.0))
        next(frames)
        frames.close()
        frames.close()
        assert not frames._thread.is_alive()
        with pytest.raises(StopIteration):
            next(frames)
