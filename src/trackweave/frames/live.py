"""`LiveFrames`: frames as they come from a webcam or a network stream, in order and once.

Network streams are read by PyAV, webcams by OpenCV, which is also the second choice for streams.
"""

from __future__ import annotations

import errno
import itertools
import time
from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from trackweave.errors import FrameError, SettingError
from trackweave.frames.source import RGBFrame, size_text
from trackweave.ids import FrameIndex

SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "http", "https", "udp"})
TIMEOUT_S = 10.0
"""Seconds without a frame after which a source counts as stalled."""
HELD = 3
"""Frames that wait for the reader at most; a source that is faster waits, or drops by itself."""
_POLL_S = 0.1
_PROTOCOLS = "http,https,httpproxy,tls,tcp,udp,rtp,srtp,rtmp,rtmps,rtmpt,rtmpts,rtmpe,ffrtmphttp,ffrtmpcrypt,crypto"
"""What a stream may use; never `file`, which a playlist on a server could name."""
_UNSTAMPED = ("mpjpeg", "image2", "h264", "hevc")
"""Formats whose frames carry no time; FFmpeg makes up 25 per second."""
_MAX_MISSES = 10
"""Frames in a row that a webcam may fail to deliver."""


class LiveFrame(NamedTuple):
    """One frame of a live source.

    Attributes:
        frame: counts from 0.
        time: seconds after the first frame, strictly rising: as stamped, by the clock where stamps fail.
        image: `(H, W, 3)` uint8 RGB.
    """

    frame: FrameIndex
    time: float
    image: RGBFrame


def is_live(text: str) -> bool:
    """Whether a source's name means a webcam (digits alone) or a stream (by its scheme), not a file.

    >>> [is_live(text) for text in ("0", "rtsp://camera/main", "clip.mp4", "C:/clip.mp4", "file:///clip.mp4")]
    [True, True, False, False, False]
    """
    return (text.isascii() and text.isdigit()) or ("://" in text and text.split("://")[0].lower() in SCHEMES)


def open_live(source: int | str, *, max_frames: int | None = None, timeout_s: float = TIMEOUT_S) -> LiveFrames:
    """Opens a webcam or a network stream.

    A URL is opened by PyAV, and by OpenCV where PyAV refuses; a webcam by OpenCV.

    Args:
        source: number of a webcam, as int or digits; or a URL of scheme rtsp(s), rtmp, http(s) or udp.
        max_frames: frames after which the iteration ends; None for all that come.
        timeout_s: seconds to wait for the connection, and for each frame.

    Raises:
        FrameError: not a live source, or one that cannot be opened; the message says what was tried.
        SettingError: `max_frames` or `timeout_s` not above 0.
    """
    if not timeout_s > 0:
        raise SettingError(f"a live source's timeout is above 0 seconds, not {timeout_s}")
    if max_frames is not None and max_frames < 1:
        raise SettingError(f"max_frames is 1 or more, not {max_frames}")
    text = str(source)
    if not is_live(text):
        raise FrameError(f"{text} is no live source: give a webcam's number or an rtsp, rtmp, http or udp address")
    stream = open_device(int(text)) if text.isdigit() else open_url(text, without_password(text), timeout_s)
    return LiveFrames(stream, max_frames=max_frames, timeout_s=timeout_s)


_Item = tuple[float, RGBFrame] | Exception | None
"""Time and frame, an error, or the end."""


class LiveFrames(Iterator[LiveFrame]):
    """Frames of an open stream; use it in a `with` block, or `close` it.

    A thread reads ahead by up to three frames, so memory stays bounded and a source that hangs cannot hang the
    reader. The thread owns the stream and closes it: at the end, after `max_frames`, on an error or on `close`.

    Attributes:
        dropped: frames lost so far because the decoder refused their data.
        ending: why the stream ended without having announced it; None while it runs and when it did. An HTTP server
            that closes the connection may have finished, or failed.
        restamped: frames whose time came from the clock because their stamp was missing or did not rise.

    Raises (while iterating):
        FrameError: the stream breaks off, stalls for longer than the timeout, or changes its frame size.
    """

    def __init__(self, stream: LiveStream, *, max_frames: int | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.name = stream.name
        self._stream = stream
        self._max_frames = max_frames
        self._timeout_s = timeout_s
        self._next = 0
        self._size: tuple[int, int] | None = None
        self._waiting: list[_Item] = []
        self._ended = False
        self._stop = Event()
        self._queue: Queue[_Item] = Queue(HELD)
        self._thread = Thread(target=self._read_ahead, name=f"live {stream.name}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._stream.dropped

    @property
    def ending(self) -> str | None:
        return self._stream.ending

    @property
    def restamped(self) -> int:
        return self._stream.restamped

    def __next__(self) -> LiveFrame:
        if self._ended:
            raise StopIteration
        item = self._waiting.pop() if self._waiting else self._take()
        if item is None:
            self.close()
            raise StopIteration
        if isinstance(item, Exception):
            self.close()
            raise FrameError(self._broken(str(item))) if isinstance(item, StreamFailure) else item
        time, image = item
        self._check_size(image)
        self._next += 1
        return LiveFrame(FrameIndex(self._next - 1), time, image)

    @property
    def size(self) -> tuple[int, int] | None:
        """`(H, W)` of the frames, by the first one, which is waited for; None where none comes."""
        if self._size is None and not self._ended:
            self._waiting = self._waiting or [self._take()]
            (item,) = self._waiting
            if isinstance(item, tuple):
                return item[1].shape[0], item[1].shape[1]
        return self._size

    def _take(self) -> _Item:
        """What the thread has read next: a frame, the end, or an error."""
        try:
            return self._queue.get(timeout=self._timeout_s)
        except Empty:
            return FrameError(self._broken(f"no picture for {self._timeout_s:g} s"))

    def __enter__(self) -> LiveFrames:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the reading; frames that wait are gone. May be called twice."""
        self._ended = True
        self._stop.set()
        # A thread that hangs in the source is left behind; it closes the stream when the source lets go of it.
        self._thread.join(timeout=5 * _POLL_S)

    def _read_ahead(self) -> None:
        """The thread: reads until the end, `max_frames`, an error or `close`, and hands everything over."""
        try:
            for count in itertools.count():
                item = None if count == self._max_frames else self._stream.read()
                self._enqueue(item)
                if item is None or self._stop.is_set():
                    break
        except Exception as error:  # noqa: BLE001 - raised again where the frames are asked for
            self._enqueue(error)
        finally:
            self._stream.close()

    def _enqueue(self, item: _Item) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except Full:
                continue
            return

    def _check_size(self, image: RGBFrame) -> None:
        size = (image.shape[0], image.shape[1])
        if self._size is None:
            self._size = size
        elif size != self._size:
            self.close()
            raise FrameError(
                f"{self.name} frame {self._next} is {size_text(size)}, but the stream began with "
                f"{size_text(self._size)}: open it again"
            )

    def _broken(self, reason: str) -> str:
        return f"{self.name} broke off after {self._next} frames ({reason}): is the source still running?"


def without_password(url: str) -> str:
    """A URL as messages may show it.

    >>> without_password("rtsp://me:secret@camera/main"), without_password("http://camera/main")
    ('rtsp://me:***@camera/main', 'http://camera/main')
    """
    host = urlsplit(url).netloc
    if "@" not in host:
        return url
    user, address = host.rsplit("@", 1)
    return url.replace(host, f"{user.split(':')[0]}:***@{address}", 1)


class StreamFailure(Exception):
    """A stream cannot be opened or continued: one reason, without the stream's name."""


class LiveStream(Protocol):
    """An open stream that a single thread reads."""

    name: str
    dropped: int
    ending: str | None

    @property
    def restamped(self) -> int:
        """Frames whose time came from the clock although the stream stamps them."""
        ...

    def read(self) -> tuple[float, RGBFrame] | None:
        """Seconds after the first frame and the frame; None at the end.

        Raises:
            StreamFailure: the stream broke off.
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
    except StreamFailure as error:
        refusal = str(error)
    milliseconds = int(1000 * timeout_s)
    import cv2

    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
    capture = _opened_by_opencv(url, cv2.CAP_FFMPEG, options)
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
    capture = _opened_by_opencv(number)
    if not capture.isOpened():
        raise FrameError(
            f"webcam {number} cannot be opened (OpenCV): is it plugged in, free, and may this program use it?"
        )
    return OpenCVStream(capture, f"webcam {number}", may_end=False)


def _opened_by_opencv(*source: Any) -> Any:
    """A `cv2.VideoCapture`; what OpenCV warns of on standard error would stand before the line that says it."""
    import cv2

    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        return cv2.VideoCapture(*source)
    finally:
        cv2.utils.logging.setLogLevel(before)


class PyAVStream:
    """A network stream through FFmpeg; stamps are the stream's own where it has them.

    Raises:
        StreamFailure: it cannot be opened, or has no video.
    """

    def __init__(self, url: str, name: str, timeout_s: float) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self.name = name
        self.dropped = 0
        self.ending: str | None = None
        self._clock = _Clock()
        # UDP loses packets, and each loss smears the frame until the next keyframe.
        options = {"protocol_whitelist": _PROTOCOLS}
        if url.lower().startswith("rtsp"):
            options["rtsp_transport"] = "tcp"
        try:
            self._container: Any = av.open(url, timeout=timeout_s, options=options, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            raise StreamFailure(_reason(error, timeout_s)) from error
        streams = [stream for stream in self._container.streams.video if stream.codec_context is not None]
        if not streams:
            self._container.close()
            raise StreamFailure("no video stream that FFmpeg can decode")
        self._timeout_s = timeout_s
        # FFmpeg calls every end of an HTTP stream of unknown length an input/output error.
        self._is_http = url.lower().startswith("http")
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        self._is_stamped = not set(self._container.format.name.split(",")) & set(_UNSTAMPED)
        self._reformatter = VideoReformatter()
        self._frames = self._decode()

    @property
    def restamped(self) -> int:
        return self._clock.restamped

    def read(self) -> tuple[float, RGBFrame] | None:
        from trackweave.frames.video import upright

        coded = next(self._frames, None)
        if coded is None:
            return None
        stamp = None
        if self._is_stamped and coded.pts is not None:
            stamp = float(coded.pts * self._stream.time_base)
        return self._clock.time(stamp, expected=self._is_stamped), upright(coded, self._reformatter)

    def close(self) -> None:
        self._frames = iter(())
        self._container.close()

    def _decode(self) -> Iterator[Any]:
        """Every good frame; before an error, also the frames that the decoder still holds."""
        import av

        try:
            for packet in self._container.demux(self._stream):
                yield from self._decoded(packet)
        except (av.FFmpegError, OSError) as error:
            yield from self._decoded(av.Packet())  # an empty packet ends the decoding
            if not (self._is_http and error.errno == errno.EIO):
                raise StreamFailure(_reason(error, self._timeout_s)) from error
            self.ending = "the server closed the connection"

    def _decoded(self, packet: Any) -> Iterator[Any]:
        import av

        try:
            frames = self._stream.decode(packet)
        except av.FFmpegError:
            self.dropped += 1
            return
        for frame in frames:
            if frame.is_corrupt:
                self.dropped += 1
            else:
                yield frame


class OpenCVStream:
    """A webcam or stream through OpenCV; times are by the clock.

    Args:
        capture: an open `cv2.VideoCapture`.
        name: for messages.
        may_end: whether a frame that fails to come is the end (a stream), or a fault (a webcam).
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

        for _ in range(_MAX_MISSES):
            success, frame = self._capture.read()
            if success:
                return self._clock.time(None, expected=False), cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            if self._may_end:
                return None
            self.dropped += 1
        raise StreamFailure(f"{_MAX_MISSES} pictures in a row failed")

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
        """Seconds after the first frame; `expected`: whether a missing stamp is a fault to be counted."""
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
