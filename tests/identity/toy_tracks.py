"""Tracks of rectangles for tests of identities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trackweave.identity.overlaps import LevelObjects
from trackweave.ids import FrameIndex, Level
from trackweave.masks.packed import PackedMasks
from trackweave.structures.tracks import FrameObjects

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
