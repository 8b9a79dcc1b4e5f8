"""`VideoFile`: the frames of a video file, each exactly addressable."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import FrameError
from trackweave.frames.cache import FrameCache
from trackweave.frames.selection import WholeVideo, numbered_names, size_text
from trackweave.frames.source import RGBFrame
from trackweave.frames.video_decoder import VideoDecoder
from trackweave.frames.video_index import VideoIndex, index_video

CACHE_BYTES = 256 * 2**20


class VideoFile(WholeVideo):
    """The first video stream of a file, decoded when asked for.

    Opening reads the file once to list its timestamps. Going forward decodes each frame once; a jump decodes from the
    keyframe before; going backward keeps what it passes, so that a group of pictures is not decoded once per frame.
    Decoded frames are held up to `cache_bytes`.

    `times` are seconds after the first frame, as stamped (variable frame rate stays variable), None for streams
    without timestamps (raw H.264); those can only be decoded from their start. Frames are turned upright by the
    file's display matrix. Pixels are as stored: an aspect ratio other than 1:1 is not stretched.

    Attributes:
        damage: one line when the file is known to hold fewer frames than its header promises, else None. The frames
            that are there can be used.

    Raises:
        FrameError: missing, not a video, or without a frame.
    """

    def __init__(self, path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        path = Path(path)
        self.path: Path | None = path
        self.cache = FrameCache(cache_bytes)
        self._index: VideoIndex = index_video(path)
        self.damage = self._index.damage
        self._names = numbered_names(self._index.count)
        self._times = self._index.times
        self._decoder = VideoDecoder(path, self._index)
        self._size: tuple[int, int] | None = None
        self._lock = RLock()
        self._closed = False
        self._asked = -1

    def __len__(self) -> int:
        return self._index.count

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def times(self) -> Sequence[float] | None:
        return self._times

    @property
    def size(self) -> tuple[int, int]:
        with self._lock:
            if self._size is None:
                self._size = self._first_readable_size()
            return self._size

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._decoder.close()
            self.cache.clear()

    def _read(self, position: int) -> RGBFrame:
        frame = self.cache.get(position)
        if frame is not None:
            return frame
        with self._lock:
            if self._closed:
                raise FrameError(f"{self.path} is closed: open it again")
            found = self.cache.get(position)  # another thread may have decoded it while this one waited
            frame = self._decode(position) if found is None else found
            if frame.shape[:2] != self.size:
                raise FrameError(
                    f"{self.path} frame {position} is {size_text(frame.shape)}, but the video began with "
                    f"{size_text(self.size)}: re-encode it at one size"
                )
            return frame

    def _decode(self, position: int) -> RGBFrame:
        """Decodes up to the frame; what lies before it is kept only when the reader goes backward."""
        if position in self._index.corrupt:
            raise self._missing(position, "its data is incomplete")
        backward, self._asked = position < self._asked, position
        seek_point = self._index.seek_point_before(position)
        if not seek_point <= self._decoder.next_position <= position:
            self._decoder.start(seek_point)
        while self._decoder.next_position <= position:
            found = self._decoder.read()
            if found is None:
                break
            here, coded = found
            if here == position:
                return self.cache.put(position, upright(coded))
            if here > position or (backward and self._worth_keeping(coded, position - here)):
                self.cache.put(here, upright(coded))
        raise self._missing(position, self._decoder.refusal or "the decoder gave no picture for it")

    def _worth_keeping(self, coded: Any, ahead: int) -> bool:
        """Whether a frame would still be in the cache when the target, `ahead` frames later, is decoded."""
        return bool((ahead + 1) * coded.width * coded.height * 3 <= self.cache.max_bytes)

    def _missing(self, position: int, reason: str) -> FrameError:
        return FrameError(f"{self.path} frame {position} cannot be decoded ({reason}): the file is damaged there")

    def _first_readable_size(self) -> tuple[int, int]:
        for position in range(len(self)):
            with suppress(FrameError):  # reading that frame reports it
                height, width = self._decode(position).shape[:2]
                return height, width
        raise FrameError(f"{self.path}: none of the {len(self)} frames can be decoded: the file is damaged")


def upright(coded: Any) -> RGBFrame:
    """A decoded picture as `(H, W, 3)` RGB uint8, turned by its display matrix when it has one."""
    frame: RGBFrame = coded.to_ndarray(format="rgb24")
    data = coded.side_data.get("DISPLAYMATRIX")
    if data is not None:
        frame = turned(frame, np.frombuffer(bytes(data), "<i4", count=9))
    return np.ascontiguousarray(frame)


def turned(frame: RGBFrame, matrix: NDArray[np.int32]) -> RGBFrame:
    """The frame as it is to be shown, by the nearest right angle.

    Args:
        frame: `(H, W, 3)` uint8 as stored.
        matrix: `(9,)` int32 display matrix `a b u c d v x y w` of MP4: a stored pixel at (x, y), y downward, is shown
            at (a·x + c·y, b·x + d·y), shifted back into view.

    >>> stored = np.arange(2, dtype=np.uint8).reshape(1, 2, 1)  # left 0, right 1
    >>> turned(stored, np.array([0, 1, 0, -1, 0, 0, 0, 0, 1], np.int32))[:, :, 0].tolist()  # a quarter clockwise
    [[0], [1]]
    """
    a, b, _, c, d = matrix.tolist()[:5]
    if abs(b) > abs(a):
        frame, right, down = frame.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return frame[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
