"""The integers that name things: frames, tracks and granularity levels."""

from __future__ import annotations

from typing import NewType

FrameIndex = NewType("FrameIndex", int)
"""Position of a frame in the original video, 0-based ("absolute"). File formats convert at their border."""

LocalIndex = NewType("LocalIndex", int)
"""Position of a frame among the sampled frames that a predictor's session is opened on, 0-based; `FrameSource.indices`
gives the `FrameIndex` of each."""

TrackId = NewType("TrackId", int)
"""Identity of one object within one run, 1-based; 0 never names an object."""

Level = NewType("Level", int)
"""Granularity level of a candidate generator (Semantic-SAM's 1 … 6); 0 = objects that a person prompted."""

PROMPTED_LEVEL = Level(0)


class IdAllocator:
    """Hands out track ids of one run, in order; two runs never share one.

    >>> ids = IdAllocator()
    >>> ids.take(2), ids.take(1), ids.next_id
    ([1, 2], [3], 4)
    """

    def __init__(self, next_id: int = 1) -> None:
        if next_id < 1:
            raise ValueError(f"track ids start at 1, not {next_id}")
        self.next_id = next_id

    def take(self, count: int) -> list[TrackId]:
        """The next `count` ids."""
        first = self.next_id
        self.next_id += count
        return [TrackId(i) for i in range(first, self.next_id)]
