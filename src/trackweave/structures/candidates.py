"""Candidates: what a generator proposes on one frame, after filtering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.ids import FrameIndex
from trackweave.masks.packed import PackedMasks, as_rows

Index = slice | NDArray[np.bool_] | NDArray[np.integer[Any]] | Sequence[int]


@dataclass(frozen=True)
class Candidates:
    """N candidates of one frame as columns of one length; indexing gives `Candidates`.

    Attributes:
        ids: `(N,)` int64, the generator's own ids, unique within the frame.
        boxes: `(N, 4)` float32 xyxy in pixels of the candidate image.
        scores: `(N,)` float32, the generator's stability score.
        areas: `(N,)` int64, pixels of the candidate image.
        masks: N masks of the candidate image; the mask of a candidate that has none is empty.
    """

    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    areas: NDArray[np.int64]
    masks: PackedMasks

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.boxes), len(self.scores), len(self.areas), len(self.masks)}
        if len(lengths) > 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Index) -> Candidates:
        chosen = as_rows(index)
        return Candidates(
            self.ids[chosen], self.boxes[chosen], self.scores[chosen], self.areas[chosen], self.masks[chosen]
        )

    @property
    def has_mask(self) -> NDArray[np.bool_]:
        """`(N,)` bool: False where only a box is known."""
        return self.masks.areas > 0

    @property
    def size(self) -> tuple[int, int]:
        """`(H, W)` of the candidate image, which need not be the frame's."""
        return self.masks.size


@dataclass(frozen=True)
class CandidateFrame:
    """One frame's candidates and where that frame lies.

    Attributes:
        local_index: position in the sampled frames that tracking runs over.
        abs_index: index in the original video.
        frame_name: file name or label of the frame.
        candidates: what was proposed there.
    """

    local_index: int
    abs_index: FrameIndex
    frame_name: str
    candidates: Candidates

    def __len__(self) -> int:
        return len(self.candidates)


@dataclass(frozen=True)
class PreviewSegment:
    """What a preview tells of one candidate without its mask.

    Attributes:
        id: the candidate's id, or the track's once it has one.
        box: xyxy in candidate pixels.
        area: candidate pixels.
        score: the generator's stability score.
        has_mask: False for a stub: only its box is known.
    """

    id: int
    box: tuple[float, float, float, float]
    area: int
    score: float
    has_mask: bool
