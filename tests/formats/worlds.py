"""Small scenes for the tests of formats."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trackweave.ids import FrameIndex
from trackweave.masks.packed import PackedMasks
from trackweave.structures.tracks import FrameObjects


def objects(ids: Sequence[int], masks: NDArray[np.bool_], frame: int = 0, name: str = "00000.jpg") -> FrameObjects:
    """Objects with these ids and `(M, H, W)` masks, boxes and scores to match."""
    packed = PackedMasks.from_bool(masks)
    boxes, scores = packed.boxes.astype(np.float32), np.ones(len(ids), np.float32)
    return FrameObjects(FrameIndex(frame), name, np.array(ids, np.int64), packed, boxes, packed.areas, scores)


def discs(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.bool_]:
    """`(count, height, width)` masks of discs anywhere, some cut by the border."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[:height, :width]
    centres = rng.uniform(0, [height, width], (count, 2))
    radii = rng.uniform(3, min(height, width) / 4, count)
    return np.stack([(y - cy) ** 2 + (x - cx) ** 2 <= r * r for (cy, cx), r in zip(centres, radii, strict=True)])


def break_renames(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every rename fails as on a full disk."""

    def refuse(self: Path, target: Path | str) -> Path:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", refuse)
