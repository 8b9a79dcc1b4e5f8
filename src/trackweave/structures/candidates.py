"""Candidates: what a generator proposes on one frame, after filtering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.ids import FrameIndex, LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.structures.columns import Columns


@dataclass(frozen=True, eq=False)
class Candidates(Columns):
    """N candidates of one frame as columns of one length; indexing gives `Candidates`.

    Attributes:
        id: `(N,)` int64, the generator's own ids, unique within the frame.
        xyxy: `(N, 4)` float32 in pixels of the candidate image, right and bottom exclusive.
        score: `(N,)` float32, the generator's stability score.
        area: `(N,)` int64, pixels of the candidate image.
        masks: N masks of the candidate image; the mask of a candidate that has none is empty.
        predicted_iou: `(N,)` float32, how well the generator's model expects the masks to match; None: it does not say.
        class_id: `(N,)` int64, −1 = no class; None: the generator knows no classes.
    """

    id: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    area: NDArray[np.int64]
    masks: PackedMasks
    predicted_iou: NDArray[np.float32] | None = None
    class_id: NDArray[np.int64] | None = None

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
        local: position among the sampled frames that tracking runs over.
        frame: index in the original video.
        name: file name or label of the frame.
        candidates: what was proposed there.
        problems: a line for each candidate that cannot be used and is left out.
    """

    local: LocalIndex
    frame: FrameIndex
    name: str
    candidates: Candidates
    problems: Sequence[str] = ()

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
