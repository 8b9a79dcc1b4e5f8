"""Tracks of rectangles for tests of identities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.identity.overlaps import LevelObjects
from trackweave.ids import FrameIndex, Level
from trackweave.masks.packed import PackedMasks
from trackweave.structures.tracks import FrameObjects, Tracks

SIZE = (20, 30)
Box = tuple[int, int, int, int]
"""x1, y1, x2, y2, right and bottom exclusive."""


def frame_objects(frame: int, boxes: Mapping[int, Box], scores: Mapping[int, float] | None = None) -> FrameObjects:
    """One frame; boxes by track id."""
    ids = sorted(boxes)
    masks = np.zeros((len(ids), *SIZE), np.bool_)
    for mask, one in zip(masks, ids, strict=True):
        x1, y1, x2, y2 = boxes[one]
        mask[y1:y2, x1:x2] = True
    packed = PackedMasks.from_bool(masks) if ids else PackedMasks.empty(*SIZE)
    score = np.array([(scores or {}).get(one, 0.9) for one in ids], np.float32)
    xyxy = packed.boxes.astype(np.float32)
    return FrameObjects(FrameIndex(frame), f"{frame}.png", np.array(ids, np.int64), packed, xyxy, packed.areas, score)


def video(levels: Mapping[int, Sequence[Mapping[int, Box]]]) -> list[list[LevelObjects]]:
    """Frames of levels: level → boxes by track id, frame after frame."""
    count = max(map(len, levels.values()))
    return [
        [(Level(level), frame_objects(n, frames[n])) for level, frames in sorted(levels.items()) if n < len(frames)]
        for n in range(count)
    ]


class Says:
    """A scorer that gives every pair the same log-odds."""

    def __init__(self, margin: float) -> None:
        self.margin = margin

    def margins(
        self,
        tracks: Tracks,
        visibility: NDArray[np.float32],
        pairs: NDArray[np.int64],
        camera: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float32]:
        assert len(visibility) == len(tracks)
        return np.full((len(pairs), 2), self.margin, np.float32)


def boxes() -> st.SearchStrategy[Box]:
    """Boxes in an image of `SIZE`."""
    corners = st.tuples(*(st.integers(0, side - 1) for side in SIZE[::-1]))
    sides = st.tuples(*(st.integers(1, side) for side in SIZE[::-1]))
    return st.builds(
        lambda at, size: (at[0], at[1], min(at[0] + size[0], SIZE[1]), min(at[1] + size[1], SIZE[0])), corners, sides
    )


def videos(most: int = 6) -> st.SearchStrategy[list[dict[int, Box]]]:
    """Frames with up to `most` tracks."""
    return st.lists(st.dictionaries(st.integers(1, most), boxes(), max_size=most), min_size=1, max_size=5)
