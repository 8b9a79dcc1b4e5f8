"""What all sources share: positions that are checked, and `Selection`, a sample of another source."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np

from trackweave.frames.source import FrameSource, RGBFrame
from trackweave.ids import FrameIndex


def checked_position(local: int, count: int) -> int:
    """`local` as an int in `0 … count-1`.

    Raises:
        IndexError: it is not; negative positions do not count from the end, because they are mostly slips.
    """
    position = operator.index(local)
    if not 0 <= position < count:
        raise IndexError(f"no frame at position {position}: there are {count} frames, 0 … {count - 1}")
    return position


@lru_cache(maxsize=4)
def numbered_names(count: int) -> Sequence[str]:
    """Names for frames that have none; kept, because a run asks for them frame by frame.

    >>> numbered_names(2)
    ('frame_000000', 'frame_000001')
    """
    return tuple(f"frame_{index:06d}" for index in range(count))


def size_text(size: Sequence[int]) -> str:
    """`(H, W, ...)` for a message.

    >>> size_text((480, 640, 3))
    '640×480 pixels'
    """
    return f"{size[1]}×{size[0]} pixels"


class WholeVideo(FrameSource):
    """Base of the sources that hold all frames of a video: local positions and absolute indices are the same."""

    @abstractmethod
    def _read(self, position: int) -> RGBFrame:
        """The frame at a position that was already checked; as `FrameSource.__getitem__`."""

    def __getitem__(self, local: int) -> RGBFrame:
        return self._read(checked_position(local, len(self)))

    @property
    def indices(self) -> Sequence[FrameIndex]:
        return cast("Sequence[FrameIndex]", range(len(self)))

    @property
    def names(self) -> Sequence[str]:
        return numbered_names(len(self))

    @property
    def times(self) -> Sequence[float] | None:
        return None

    def select(self, positions: Sequence[int]) -> FrameSource:
        return Selection(self, positions)


class Selection(FrameSource):
    """Some frames of another source, which owns the files and decoders: closing either one closes both.

    Args:
        source: the source to take frames from.
        positions: local positions in `source`, strictly increasing; may be empty.

    Raises:
        IndexError: a position that `source` does not have.
        ValueError: positions that do not increase.
    """

    def __init__(self, source: FrameSource, positions: Sequence[int]) -> None:
        self.path: Path | None = source.path
        self._source = source
        self._positions = _increasing(positions, len(source))
        indices, names, times = source.indices, source.names, source.times
        self._indices = tuple(indices[k] for k in self._positions)
        self._names = tuple(names[k] for k in self._positions)
        self._times = None if times is None else tuple(times[k] for k in self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, local: int) -> RGBFrame:
        return self._source[self._positions[checked_position(local, len(self))]]

    @property
    def size(self) -> tuple[int, int]:
        return self._source.size

    @property
    def indices(self) -> Sequence[FrameIndex]:
        return self._indices

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def times(self) -> Sequence[float] | None:
        return self._times

    def select(self, positions: Sequence[int]) -> FrameSource:
        # Composed here rather than stacked, so that reading costs one step however often one samples.
        chosen = _increasing(positions, len(self))
        return Selection(self._source, [self._positions[k] for k in chosen])

    def close(self) -> None:
        self._source.close()


def _increasing(positions: Sequence[int], count: int) -> tuple[int, ...]:
    chosen = tuple(checked_position(position, count) for position in positions)
    if np.any(np.diff(chosen) <= 0):
        raise ValueError("positions of a selection increase strictly: each frame once, in the order of time")
    return chosen
