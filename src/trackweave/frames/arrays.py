"""Frames of an array in memory (`ArrayFrames`), of an iterator (`IteratorFrames`), or of a stream (`StreamFrames`)."""

from __future__ import annotations

import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import FrameError, InputError
from trackweave.frames.source import FrameSource, RGBFrame, WholeVideo, checked_position, size_text


def as_rgb(values: Any, what: str) -> RGBFrame:
    """One frame as `(H, W, 3)` uint8 RGB, C-contiguous and frozen: grey is repeated, alpha is dropped.

    Args:
        values: `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)` uint8, RGB order; left as it is.
        what: name of the frame in an error.

    Raises:
        FrameError: another shape or dtype.
    """
    array = np.asarray(values)
    if array.dtype != np.uint8:
        raise FrameError(f"{what} has dtype {array.dtype}: frames are uint8, 0 … 255")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        hint = ", channels last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise FrameError(f"{what} has shape {array.shape}: frames are (H, W) or (H, W, 3){hint}")
    rgb = np.broadcast_to(array, (*array.shape[:2], 3)) if array.shape[2] == 1 else array[..., :3]
    frame = np.ascontiguousarray(rgb).view()
    frame.flags.writeable = False
    return frame


def _checked_size(frame: RGBFrame, expected: tuple[int, int], what: str) -> RGBFrame:
    if frame.shape[:2] != expected:
        raise FrameError(
            f"{what} is {size_text(frame.shape)}, but the first is {size_text(expected)}: all frames need one size"
        )
    return frame


class ArrayFrames(WholeVideo):
    """Frames in one array or a list of arrays; nothing is copied until it is read, so memory maps stay on disk.

    Args:
        frames: `(N, H, W, 3)` or `(N, H, W)` uint8 (also 1 or 4 channels), or a sequence of N such frames, RGB order.
        path: the file behind a memory map.

    Raises:
        FrameError: no frame, or an array that is one frame rather than many; a frame's own faults when it is read.
    """

    def __init__(self, frames: NDArray[Any] | Sequence[Any], *, path: Path | None = None) -> None:
        self.path: Path | None = path
        self._frames = frames
        if isinstance(frames, np.ndarray):
            _refuse_single_frame(frames)
        if not len(frames):
            raise FrameError("the array of frames is empty: give at least one frame")
        self._size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size(self) -> tuple[int, int]:
        if self._size is None:
            height, width = as_rgb(self._frames[0], "array frame 0").shape[:2]
            self._size = (height, width)
        return self._size

    def _read(self, position: int) -> RGBFrame:
        what = f"array frame {position}"
        return _checked_size(as_rgb(self._frames[position], what), self.size, what)


def _refuse_single_frame(frames: NDArray[Any]) -> None:
    if frames.ndim not in (3, 4) or (frames.ndim == 3 and frames.shape[-1] in (3, 4)):
        raise FrameError(f"an array of shape {frames.shape} is not (N, H, W, 3) or (N, H, W): one frame is frame[None]")


class IteratorFrames(WholeVideo):
    """Frames from an iterator, written uncompressed to an unnamed temporary file as they come.

    Memory holds one frame at a time; afterwards every frame can be read in any order. Iterating takes from the
    iterator as it goes; `len` (and all that needs it) takes everything. The disk space is `H·W·3` bytes per frame in
    the system's temporary folder (`TMPDIR`), and is free again after `close`, also when the process dies.

    Args:
        frames: frames as in `ArrayFrames`; consumed.

    Raises:
        FrameError: when read: a frame of another size, shape or dtype, no frame at all, or the disk is full. What the
            iterator itself raises passes through; after a failure the source stays unusable.
    """

    def __init__(self, frames: Iterable[Any]) -> None:
        self.path: Path | None = None
        self._incoming: Iterator[Any] | None = iter(frames)
        self._spool = tempfile.TemporaryFile(prefix="trackweave-frames-")  # noqa: SIM115 (closed in `close`)
        self._size: tuple[int, int] | None = None
        self._spooled = 0
        self._failure: Exception | None = None
        self._lock = RLock()

    def __len__(self) -> int:
        with self._lock:
            while self._pull():
                pass
            return self._spooled

    def __iter__(self) -> Iterator[RGBFrame]:
        position = 0
        while True:
            with self._lock:
                if position >= self._spooled and not self._pull():
                    return
                frame = self._read(position)
            yield frame
            position += 1

    def __getitem__(self, local: int) -> RGBFrame:
        with self._lock:
            while local >= self._spooled and self._pull():
                pass
            return self._read(checked_position(local, self._spooled))

    @property
    def size(self) -> tuple[int, int]:
        with self._lock:
            if self._size is None:
                self._pull()
            if self._size is None:
                raise FrameError("the iterator gave no frame: give at least one")
            return self._size

    def close(self) -> None:
        with self._lock:
            self._incoming = None
            self._spool.close()

    def _read(self, position: int) -> RGBFrame:
        height, width = self.size
        frame = np.empty((height, width, 3), np.uint8)
        with self._lock:
            if self._spool.closed:
                raise FrameError("the frames of this iterator are closed: open a new one")
            self._spool.seek(position * frame.nbytes)
            self._spool.readinto(frame.data)
        frame.flags.writeable = False
        return frame

    def _pull(self) -> bool:
        """Spools one more frame; False at the end."""
        if self._failure is not None:
            raise FrameError(f"the iterator of frames failed before: {self._failure}") from self._failure
        if self._incoming is None:
            return False
        try:
            self._append(next(self._incoming))
        except StopIteration:
            self._incoming = None
            return False
        except Exception as error:
            self._failure = error
            raise
        return True

    def _append(self, values: Any) -> None:
        what = f"iterator frame {self._spooled}"
        frame = as_rgb(values, what)
        if self._size is None:
            self._size = (frame.shape[0], frame.shape[1])
        _checked_size(frame, self._size, what)
        try:
            self._spool.seek(self._spooled * frame.nbytes)
            self._spool.write(frame.data)
            self._spool.flush()
        except OSError as error:
            where = tempfile.gettempdir()
            raise FrameError(
                f"{what} cannot be spooled to {where} ({error.strerror}): set TMPDIR to a larger disk"
            ) from None
        self._spooled += 1


def array_source(frames: Any) -> FrameSource:
    """The source for something in memory: an array, a sequence of arrays, or an iterable of frames.

    Raises:
        InputError: none of these.
    """
    if isinstance(frames, Sequence) and frames and isinstance(frames[0], str | Path):
        raise InputError("a list of paths is no source of frames: give the folder that holds the images")
    if isinstance(frames, np.ndarray | Sequence):
        return ArrayFrames(frames)
    if hasattr(frames, "__array__"):
        return ArrayFrames(np.asarray(frames))
    if isinstance(frames, Iterable):
        return IteratorFrames(frames)
    raise InputError(f"{type(frames).__name__} is not a path, an array or an iterable of frames")


def stream_frame(values: Any, number: int, size: tuple[int, int] | None) -> RGBFrame:
    """A frame as a stream takes it, see `as_rgb`.

    Args:
        values: as it came.
        number: how many came before.
        size: `(H, W)` of those; None = it is the first.

    Raises:
        FrameError: no frame, or of another size than the first.
    """
    what = f"frame {number} of the stream"
    frame = as_rgb(values, what)
    return frame if size is None else _checked_size(frame, size, what)


class FrameNotThere(FrameError):
    """A frame of a stream that has not come yet, or is gone."""


class StreamFrames(WholeVideo):
    """The frames of a stream that came last: nobody knows how many will come, and those before are gone.

    Until `end` its length is beyond all bounds.

    Args:
        size: `(H, W)` of its frames.
    """

    HELD = 2

    def __init__(self, size: tuple[int, int]) -> None:
        self.path: Path | None = None
        self._frames: deque[RGBFrame] = deque(maxlen=self.HELD)
        self._size = size
        self._count, self._length = 0, sys.maxsize

    def push(self, frame: RGBFrame) -> None:
        """Takes the next frame, as `stream_frame` gives it."""
        self._frames.append(frame)
        self._count += 1

    def end(self) -> None:
        """No frame comes any more: from now on the length is how many came."""
        self._length = self._count

    @property
    def count(self) -> int:
        """How many frames came."""
        return self._count

    def __len__(self) -> int:
        return self._length

    def is_there(self, local: int) -> bool:
        return self._count - len(self._frames) <= local < self._count

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    @property
    def names(self) -> Sequence[str]:
        return _FrameNames(self._length)

    def _read(self, position: int) -> RGBFrame:
        if not self.is_there(position):
            first, last = self._count - len(self._frames), self._count - 1
            raise FrameNotThere(f"frame {position} of the stream is not there: it holds frames {first} … {last}")
        return self._frames[position - self._count]


class _FrameNames(Sequence[str]):
    """The names that frames without a name have, however many."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        positions = range(self._count)[index]
        return f"frame_{positions:06d}" if isinstance(positions, int) else [f"frame_{k:06d}" for k in positions]
