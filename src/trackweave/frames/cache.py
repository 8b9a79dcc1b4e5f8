"""`FrameCache`: the decoded frames used last, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from trackweave.frames.source import RGBFrame


class FrameCache:
    """Decoded frames by position; the one used longest ago leaves first. Safe to use from several threads.

    Frames that were handed in are frozen (`flags.writeable = False`), because every reader gets the same array.

    >>> import numpy as np
    >>> cache = FrameCache(max_bytes=30)
    >>> for position in range(3):
    ...     _ = cache.put(position, np.zeros((2, 2, 3), np.uint8))
    >>> cache.get(0) is None, len(cache), cache.nbytes
    (True, 2, 24)
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._frames: OrderedDict[int, RGBFrame] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._frames)

    def get(self, position: int) -> RGBFrame | None:
        """The frame at a position, now the most recently used; None when it is not held."""
        with self._lock:
            frame = self._frames.get(position)
            if frame is not None:
                self._frames.move_to_end(position)
            return frame

    def put(self, position: int, frame: RGBFrame) -> RGBFrame:
        """Freezes the frame and holds it unless it alone is larger than `max_bytes`; returns it."""
        frame.flags.writeable = False
        with self._lock:
            old = self._frames.pop(position, None)
            self.nbytes -= 0 if old is None else old.nbytes
            if frame.nbytes <= self.max_bytes:
                self._frames[position] = frame
                self.nbytes += frame.nbytes
            while self.nbytes > self.max_bytes:
                self.nbytes -= self._frames.popitem(last=False)[1].nbytes
        return frame

    def clear(self) -> None:
        """Lets go of every frame."""
        with self._lock:
            self._frames.clear()
            self.nbytes = 0
