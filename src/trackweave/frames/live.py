"""`LiveFrames`: frames as they come from a webcam or a network stream, in order, once, without an end in sight."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import NamedTuple
from urllib.parse import urlsplit

from trackweave.errors import FrameError, SettingError
from trackweave.frames.live_streams import LiveStream, Refusal, open_device, open_url
from trackweave.frames.selection import size_text
from trackweave.frames.source import RGBFrame
from trackweave.ids import FrameIndex

SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "http", "https", "udp"})
TIMEOUT_S = 10.0
"""Seconds without a picture after which a source counts as stalled."""
HELD = 3
"""Pictures that wait for the reader at most; a source that is faster waits, or drops by itself."""
_PATIENCE_S = 0.1


class LiveFrame(NamedTuple):
    """One picture of a live source.

    Attributes:
        frame: counts from 0.
        time: seconds after the first picture, strictly rising: as stamped, by the clock where stamps fail.
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
        max_frames: pictures after which the iteration ends; None for all that come.
        timeout_s: seconds to wait for the connection, and for each picture.

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


class LiveFrames(Iterator[LiveFrame]):
    """Pictures of an open stream; use it in a `with` block, or `close` it.

    A thread reads ahead by up to three pictures, so memory stays bounded and a source that hangs cannot hang the
    reader. The thread owns the stream and closes it: at the end, after `max_frames`, on an error or on `close`.

    Attributes:
        dropped: pictures lost so far because the decoder refused their data.
        ending: why the stream ended without having announced it; None while it runs and when it did. An HTTP server
            that closes the connection may have finished, or failed.
        restamped: pictures whose time came from the clock because their stamp was missing or did not rise.

    Raises (while iterating):
        FrameError: the stream breaks off, stalls for longer than the timeout, or changes its picture size.
    """

    def __init__(self, stream: LiveStream, *, max_frames: int | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.name = stream.name
        self._stream = stream
        self._max_frames = max_frames
        self._timeout_s = timeout_s
        self._next = 0
        self._size: tuple[int, int] | None = None
        self._ended = False
        self._stop = Event()
        self._queue: Queue[tuple[float, RGBFrame] | Exception | None] = Queue(HELD)
        self._thread = Thread(target=self._pump, name=f"live {stream.name}", daemon=True)
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
        try:
            found = self._queue.get(timeout=self._timeout_s)
        except Empty:
            found = FrameError(self._broken(f"no picture for {self._timeout_s:g} s"))
        if found is None:
            self.close()
            raise StopIteration
        if isinstance(found, Exception):
            self.close()
            raise FrameError(self._broken(str(found))) if isinstance(found, Refusal) else found
        time, image = found
        self._check_size(image)
        self._next += 1
        return LiveFrame(FrameIndex(self._next - 1), time, image)

    def __enter__(self) -> LiveFrames:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the reading; pictures that wait are gone. May be called twice."""
        self._ended = True
        self._stop.set()
        # A thread that hangs in the source is left behind; it closes the stream when the source lets go of it.
        self._thread.join(timeout=5 * _PATIENCE_S)

    def _pump(self) -> None:
        """The thread: reads until the end, `max_frames`, an error or `close`, and hands over what it finds."""
        try:
            for count in itertools.count():
                found = None if count == self._max_frames else self._stream.read()
                self._hand_over(found)
                if found is None or self._stop.is_set():
                    break
        except Exception as error:  # noqa: BLE001 - raised again where the pictures are asked for
            self._hand_over(error)
        finally:
            self._stream.close()

    def _hand_over(self, found: tuple[float, RGBFrame] | Exception | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(found, timeout=_PATIENCE_S)
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
