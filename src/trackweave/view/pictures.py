"""`PictureStore`: frames as JPEG, at once: kept on disk while the page is open, and decoded ahead."""

from __future__ import annotations

import bisect
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trackweave.errors import FrameError, TrackweaveError
from trackweave.frames.source import FrameSource, RGBFrame
from trackweave.frames.video import VideoFile
from trackweave.storage.scratch import ScratchFile

QUALITY, SMALL_QUALITY = 88, 80
MEMORY_BYTES = 192 * 2**20
DISK_BYTES = 4 * 2**30
LEAST_WIDTH = 640
MOVING_WIDTH = 960
"""Of pictures while a video plays, where it is wider by half or more."""
MOST_WISHES = 60
MOST_READERS = 64
MOST_STARTS = 100
"""Keyframes that are kept before all else."""
BACKGROUND_NICE = 10
PAUSE_SECONDS = 0.005
CROP_MARGIN = 0.15
"""Of a box's sides, around it."""
LEAST_CROP = 32
"""Pixels of the frame across: of what is smaller, what is around it is seen, too."""

Opener = Callable[[], FrameSource]


def encode_jpeg(image: RGBFrame, quality: int = QUALITY) -> bytes:
    """`(H, W, 3)` uint8 RGB as a JPEG.

    Raises:
        FrameError: more pixels on a side than JPEG has.
    """
    content = io.BytesIO()
    try:
        Image.fromarray(image).save(content, "JPEG", quality=quality)
    except (OSError, ValueError) as error:
        raise FrameError(f"a frame of {image.shape[1]}×{image.shape[0]} pixels is no JPEG: {error}") from None
    return content.getvalue()


def fit(image: RGBFrame, width: int) -> RGBFrame:
    """The image, made narrower where it is wider than `width`."""
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


class PictureStore:
    """JPEGs of a video's frames by place; safe to use from several threads.

    What was asked for stays in memory, up to `MEMORY_BYTES`. A video file can be decoded from its keyframes alone, so
    a jump costs up to a group of pictures: a thread of low priority goes through the whole file, first keyframes all
    over it, which are what can be shown at once meanwhile, then from where the reader is, and keeps every frame as a
    JPEG in a file without a name, of the frame's size where `disk_bytes` allow that, else smaller. Such a frame is
    decoded again when it is asked for at its full size. Of large frames a small JPEG is kept besides, for playing: it
    is read, sent and decoded in a fraction of the time.

    Args:
        source: the frames.
        reopen: opens the same frames once more, for the thread; None = nothing is decoded ahead.
        disk_bytes: most that the file may hold.
    """

    def __init__(self, source: FrameSource, reopen: Opener | None = None, *, disk_bytes: int = DISK_BYTES) -> None:
        self._source, self._reopen = source, reopen
        self._memory: OrderedDict[int, bytes] = OrderedDict()
        self._used = 0
        self._disk = ScratchFile(disk_bytes)
        self._disk_bytes = disk_bytes
        self._lock, self._decoding = threading.Lock(), threading.Lock()
        self._here = 0
        self._width, self._is_moving = 0, False
        self._kept: set[int] = set()
        self._ascending: list[int] = []
        self._wished: OrderedDict[str, int] = OrderedDict()  # by reader
        self._waiting = 0
        self._wishes: OrderedDict[int, None] = OrderedDict()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.problem: str | None = None

    def start(self) -> None:
        """Begins to decode ahead, when there is something to open."""
        if self._reopen is not None and self._thread is None and not self._ended.is_set():
            self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
            self._thread.start()

    @property
    def kept(self) -> int:
        """Frames that a jump to costs nothing."""
        with self._lock:
            return len(self._kept)

    @property
    def is_small(self) -> bool:
        """Are kept frames smaller than the video's?"""
        return 0 < self._width < self._source.size[1]

    def picture(self, place: int, *, whole: bool = False) -> bytes:
        """A frame's JPEG.

        Args:
            place: in the source.
            whole: of the frame's own size, also where a smaller one is there already.

        Raises:
            FrameError: it cannot be decoded.
            IndexError: no such place.
        """
        content = self._picture(place, whole, lambda: False)
        assert content is not None
        return content

    def near(self, place: int) -> tuple[int, bytes] | None:
        """The nearest frame that costs nothing: its place and JPEG; None where there is none yet."""
        with self._lock:
            at = bisect.bisect_left(self._ascending, place)
            around = self._ascending[max(at - 1, 0) : at + 1]
        for nearest in sorted(around, key=lambda each: abs(each - place)):
            content = self._found(nearest, whole=False)
            if content is not None:
                return nearest, content
        return None

    def wished(self, place: int, reader: str = "", *, whole: bool = False) -> bytes | None:
        """The JPEG of the frame that a reader wants to see; None when it wished for another one before this was there.

        Args:
            place, whole: as of `picture`; errors, too.
            reader: whose wish it is; those of others give up nothing.
        """
        with self._lock:
            self._wished[reader] = place
            self._wished.move_to_end(reader)
            while len(self._wished) > MOST_READERS:
                self._wished.popitem(last=False)
            self._waiting += 1
        try:
            return self._picture(place, whole, lambda: self._wished.get(reader) != place)
        finally:
            with self._lock:
                self._waiting -= 1

    def ahead(self, place: int, *, whole: bool = False) -> bytes | None:
        """The JPEG of a frame that may be seen next; None where a reader waits for another one. Else as `picture`."""
        return self._picture(place, whole, lambda: self._waiting > 0)

    def moving(self, place: int) -> bytes | None:
        """As `ahead`, for playing: at most about `MOVING_WIDTH` wide."""
        with self._lock:
            small = self._disk.get((place, MOVING_WIDTH)) if (place, MOVING_WIDTH) in self._disk else None
        return self.ahead(place) if small is None else bytes(small)

    def _picture(self, place: int, whole: bool, given_up: Callable[[], bool]) -> bytes | None:
        self._here = place
        content = self._found(place, whole)
        if content is not None:
            return content
        with self._decoding:  # one after the other: a later request does not slow down the one before
            content = self._found(place, whole)
            if content is None and not given_up():
                source = self._source
                image = source.frame_unless(place, given_up) if isinstance(source, VideoFile) else source[place]
                if image is not None:
                    content = encode_jpeg(image)
                    self._remember(place, content)
            return content

    def crop(self, place: int, box: NDArray[np.float32], width: int) -> bytes | None:
        """A JPEG of a frame's part around a box, at most `width` wide; None: not yet, ask again.

        A crop never holds up the frame that is looked at: what has to be decoded first is left to the thread.

        Args:
            place: in the source.
            box: xyxy in pixels of the frame.
            width: of the picture.

        Raises:
            FrameError: it cannot be decoded.
        """
        content = self._found(place, whole=False)
        if content is None and self._thread is not None and self._thread.is_alive():
            with self._lock:
                self._wishes[place] = None
                while len(self._wishes) > MOST_WISHES:
                    self._wishes.popitem(last=False)
            return None
        content = self.picture(place) if content is None else content
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise FrameError(f"frame {place} is no picture")
        image = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
        scale = image.shape[1] / self._source.size[1]
        x1, y1, x2, y2 = (box.astype(np.float64) * scale).tolist()
        side = max((max(x2 - x1, y2 - y1)) * (0.5 + CROP_MARGIN), scale * LEAST_CROP / 2)
        middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
        left, top = max(int(middle_x - side), 0), max(int(middle_y - side), 0)
        part = image[top : max(int(middle_y + side), top + 2), left : max(int(middle_x + side), left + 2)]
        if not part.size:
            part = image[-2:, -2:]
        return encode_jpeg(fit(np.ascontiguousarray(part), width), SMALL_QUALITY)

    def close(self) -> None:
        """Ends the thread and lets go of everything; the source stays open."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._memory.clear()
            self._used = 0
            self._disk.close()

    def _found(self, place: int, whole: bool) -> bytes | None:
        with self._lock:
            content = self._memory.get(place)
            if content is not None:
                self._memory.move_to_end(place)
                return content
            if place in self._kept and not (whole and self.is_small):
                read = self._disk.get(place)
                if read is not None:
                    return bytes(read)
                self._kept.discard(place)
        return None

    def _remember(self, place: int, content: bytes) -> None:
        with self._lock:
            self._used += len(content) - len(self._memory.pop(place, b""))
            self._memory[place] = content
            while self._used > MEMORY_BYTES and len(self._memory) > 1:
                self._used -= len(self._memory.popitem(last=False)[1])

    def _run(self) -> None:
        """The thread: goes through the video, from where the reader is."""
        with suppress(OSError, AttributeError):  # Linux gives threads priorities of their own, others do not
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICE)
        try:
            assert self._reopen is not None
            with self._reopen() as source:
                self._keep_all(source)
        except (TrackweaveError, OSError) as error:
            self.problem = str(error)

    def _keep_all(self, source: FrameSource) -> None:
        count, failed = len(source), set[int]()
        starts = iter(_coarse_to_fine(source.starts, MOST_STARTS) if isinstance(source, VideoFile) else ())
        place = jumped_to = self._here
        while not self._ended.is_set():
            if self._decoding.locked():  # the reader waits for a frame: it gets the processor
                self._ended.wait(PAUSE_SECONDS)
                continue
            if self._here != jumped_to and self._here not in self._kept:
                place = jumped_to = self._here  # the reader went elsewhere: what follows there comes first
            missing = self._next_wish(failed)
            if missing is None:
                missing = next((start for start in starts if start not in self._kept), None)
            if missing is None:
                missing = self._next_missing(place, count, failed)
                if missing is None:
                    return
                place = missing + 1
            try:
                image = source[missing]
            except FrameError:
                failed.add(missing)
                continue
            if not self._keep(missing, image, count):
                return

    def _next_wish(self, failed: set[int]) -> int | None:
        """The frame of a crop that was asked for, the latest first."""
        with self._lock:
            while self._wishes:
                place = self._wishes.popitem()[0]
                if place not in self._kept and place not in failed:
                    return place
        return None

    def _next_missing(self, place: int, count: int, failed: set[int]) -> int | None:
        for start, stop in ((place, count), (0, place)):
            for each in range(start, stop):
                if each not in self._kept and each not in failed:
                    return each
        return None

    def _keep(self, place: int, image: RGBFrame, count: int) -> bool:
        """Puts a frame on the disk; False when there is no space for more."""
        if not self._width:
            self._width = self._fitting_width(image, count)
        content = encode_jpeg(fit(image, self._width), QUALITY if self._width >= image.shape[1] else SMALL_QUALITY)
        small = encode_jpeg(fit(image, MOVING_WIDTH), SMALL_QUALITY) if self._is_moving else b""
        with self._lock:
            if self._disk.used + len(content) + len(small) > self._disk_bytes or not self._disk.put(place, [content]):
                self.problem = self._disk.problem
                return False
            if small:
                self._disk.put((place, MOVING_WIDTH), [small])
            self._kept.add(place)
            bisect.insort(self._ascending, place)
        return True

    def _fitting_width(self, image: RGBFrame, count: int) -> int:
        """The width at which all frames find space, by the size of one of them."""
        width, share = int(image.shape[1]), self._disk_bytes / count
        needed = len(encode_jpeg(image))
        if width >= 1.5 * MOVING_WIDTH:
            small = len(encode_jpeg(fit(image, MOVING_WIDTH), SMALL_QUALITY))
            self._is_moving = (needed + small) * 1.2 <= share
        if needed * 1.2 <= share:
            return width
        return max(min(LEAST_WIDTH, width), int(width * (share / (needed * 1.2)) ** 0.5))


def _coarse_to_fine(places: Sequence[int], most: int) -> list[int]:
    """At most so many of the places, all over them: the ends of halves, then of quarters, and so on.

    >>> _coarse_to_fine(range(0, 80, 10), 8)
    [0, 40, 20, 60, 10, 50, 30, 70]
    """
    chosen = places[:: max(1, -(-len(places) // most))]
    bits = len(chosen).bit_length()
    return [chosen[k] for k in sorted(range(len(chosen)), key=lambda k: f"{k:0{bits}b}"[::-1])]


def status(store: PictureStore | None, count: int) -> dict[str, Any]:
    """How far the thread is, for the page."""
    if store is None:
        return {"kept": 0, "frames": count, "small": False, "problem": None}
    return {"kept": store.kept, "frames": count, "small": store.is_small, "problem": store.problem}
