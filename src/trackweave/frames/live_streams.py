"""What a live source is read with: PyAV for network streams, OpenCV for webcams and as the second way."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from typing import Any, Protocol

from trackweave.errors import FrameError
from trackweave.frames.source import RGBFrame

_UNSTAMPED = ("mpjpeg", "image2", "h264", "hevc")
"""Formats whose pictures carry no time; FFmpeg makes up 25 per second."""
_MISSES = 10
"""Pictures in a row that a webcam may fail to give."""


class Refusal(Exception):
    """A stream that cannot go on: one reason, without the stream's name."""


class LiveStream(Protocol):
    """An open stream that a single thread reads."""

    name: str
    dropped: int
    ending: str | None

    @property
    def restamped(self) -> int:
        """Pictures whose time came from the clock although the stream stamps them."""
        ...

    def read(self) -> tuple[float, RGBFrame] | None:
        """Seconds after the first picture and the picture; None at the end.

        Raises:
            Refusal: the stream broke off.
        """
        ...

    def close(self) -> None:
        """Releases the source."""
        ...


def open_url(url: str, name: str, timeout_s: float) -> LiveStream:
    """A network stream, by PyAV or else by OpenCV.

    Args:
        url: with everything that is needed to log in.
        name: the URL as messages may show it.
        timeout_s: for the connection and for each packet.

    Raises:
        FrameError: neither opens it.
    """
    try:
        return PyAVStream(url, name, timeout_s)
    except Refusal as error:
        refusal = str(error)
    milliseconds = int(1000 * timeout_s)
    import cv2

    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)
    if capture.isOpened():
        return OpenCVStream(capture, name, may_end=True)
    raise FrameError(
        f"{name} cannot be opened (PyAV: {refusal}; OpenCV: refused as well): "
        "is the address right, and is the source running?"
    )


def open_device(number: int) -> LiveStream:
    """A webcam.

    Raises:
        FrameError: no such webcam, or another program has it.
    """
    import cv2

    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise FrameError(
            f"webcam {number} cannot be opened (OpenCV): is it plugged in, free, and may this program use it?"
        )
    return OpenCVStream(capture, f"webcam {number}", may_end=False)


class PyAVStream:
    """A network stream through FFmpeg; stamps are the stream's own where it has them.

    Raises:
        Refusal: it cannot be opened, or has no video.
    """

    def __init__(self, url: str, name: str, timeout_s: float) -> None:
        import av

        self.name = name
        self.dropped = 0
        self.ending: str | None = None
        self._clock = _Clock()
        # UDP loses packets, and each loss smears the picture until the next keyframe.
        options = {"rtsp_transport": "tcp"} if url.lower().startswith("rtsp") else {}
        try:
            self._container: Any = av.open(url, timeout=timeout_s, options=options)
        except (av.FFmpegError, OSError) as error:
            raise Refusal(_reason(error, timeout_s)) from error
        if not self._container.streams.video:
            self._container.close()
            raise Refusal("no video stream")
        self._timeout_s = timeout_s
        # FFmpeg calls every end of an HTTP stream of unknown length an input/output error.
        self._is_http = url.lower().startswith("http")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._is_stamped = not set(self._container.format.name.split(",")) & set(_UNSTAMPED)
        self._pictures = self._decode()

    @property
    def restamped(self) -> int:
        return self._clock.restamped

    def read(self) -> tuple[float, RGBFrame] | None:
        from trackweave.frames.video import upright

        coded = next(self._pictures, None)
        if coded is None:
            return None
        stamp = None
        if self._is_stamped and coded.pts is not None:
            stamp = float(coded.pts * self._stream.time_base)
        return self._clock.time(stamp, expected=self._is_stamped), upright(coded)

    def close(self) -> None:
        self._pictures = iter(())
        self._container.close()

    def _decode(self) -> Iterator[Any]:
        """Every good picture; one that breaks off gives what the decoder still holds before it says so."""
        import av

        try:
            for packet in self._container.demux(self._stream):
                yield from self._pictures_of(packet)
        except (av.FFmpegError, OSError) as error:
            yield from self._pictures_of(av.Packet())  # an empty packet ends the decoding
            if not (self._is_http and error.errno == errno.EIO):
                raise Refusal(_reason(error, self._timeout_s)) from error
            self.ending = "the server closed the connection"

    def _pictures_of(self, packet: Any) -> Iterator[Any]:
        import av

        try:
            pictures = self._stream.decode(packet)
        except av.FFmpegError:
            self.dropped += 1
            return
        for picture in pictures:
            if picture.is_corrupt:
                self.dropped += 1
            else:
                yield picture


class OpenCVStream:
    """A webcam or stream through OpenCV; times are by the clock.

    Args:
        capture: an open `cv2.VideoCapture`.
        name: for messages.
        may_end: whether a picture that fails to come is the end (a stream), or a fault (a webcam).
    """

    def __init__(self, capture: Any, name: str, *, may_end: bool) -> None:
        self.name = name
        self.dropped = 0
        self.ending: str | None = None
        self._capture = capture
        self._may_end = may_end
        self._clock = _Clock()

    @property
    def restamped(self) -> int:
        return self._clock.restamped

    def read(self) -> tuple[float, RGBFrame] | None:
        import cv2

        for _ in range(_MISSES):
            there, picture = self._capture.read()
            if there:
                return self._clock.time(None, expected=False), cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            if self._may_end:
                return None
            self.dropped += 1
        raise Refusal(f"{_MISSES} pictures in a row failed")

    def close(self) -> None:
        self._capture.release()


class _Clock:
    """Times that start at 0 and rise: the stream's stamps, or the time of arrival where they fail."""

    def __init__(self) -> None:
        self.restamped = 0
        self._offset: float | None = None
        self._last = 0.0
        self._arrival: float | None = None

    def time(self, stamp: float | None, *, expected: bool) -> float:
        """Seconds after the first picture; `expected`: whether a missing stamp is a fault to be counted."""
        now = time.monotonic()
        if self._arrival is None:
            moment = 0.0
        else:
            moment = self._last + max(now - self._arrival, 1e-6)
            if stamp is not None and self._offset is not None and stamp - self._offset > self._last:
                moment = stamp - self._offset
            else:
                self.restamped += expected
        if stamp is not None:
            self._offset = stamp - moment  # unchanged unless the stream's clock was set anew
        self._last, self._arrival = moment, now
        return moment


def _reason(error: Exception, timeout_s: float) -> str:
    """FFmpeg's reason in words; when a timeout ends a call, it says "Immediate exit requested"."""
    import av

    if isinstance(error, av.error.ExitError):
        return f"no data for {timeout_s:g} s"
    return str(getattr(error, "strerror", None) or error)
