"""`FrameSource`: a video as a lazy, random-access sequence of RGB frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.ids import FrameIndex

RGBFrame = NDArray[np.uint8]
_Source = TypeVar("_Source", bound="FrameSource")


class FrameSource(ABC):
    """A video's frames, read when asked for and never all held.

    *Local* positions `0 … len-1` address this source; `indices[local]` is the *absolute* index of that frame in the
    original video. `select` samples without copying, so a subset of a subset still knows its absolute indices.
    Reading the same position twice gives equal arrays; sources are safe to read from several threads.
    """

    path: Path | None
    """Where the frames come from; None for frames that were in memory."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, local: int) -> RGBFrame:
        """Frame at a local position: `(H, W, 3)` uint8, RGB, C-contiguous, not to be written to.

        Raises:
            FrameError: the frame cannot be read or has another size than `size`.
            IndexError: no such position.
        """

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """`(H, W)` in pixels, the same for every frame."""

    @property
    @abstractmethod
    def indices(self) -> Sequence[FrameIndex]:
        """Absolute index of each local position, strictly increasing."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """One name per local position: the image's file name, or `frame_NNNNNN` for videos and arrays."""

    @property
    @abstractmethod
    def times(self) -> Sequence[float] | None:
        """Presentation time in seconds per local position; None where the source knows none."""

    @abstractmethod
    def select(self, positions: Sequence[int]) -> FrameSource:
        """The same video, only these local positions (strictly increasing), still lazy."""

    def close(self) -> None:
        """Releases decoders; the source is not used afterwards."""
        return

    def __iter__(self) -> Iterator[RGBFrame]:
        for local in range(len(self)):
            yield self[local]

    def __enter__(self: _Source) -> _Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
