"""SAM's automatic masks: what a model of the SAM 2 family finds at the points of a grid (Kirillov et al., "Segment
Anything", ICCV 2023, section 4 and appendix B), decoded from the features that the session keeps for tracking.

A point gives three masks. By their size they are a level each: the largest is coarse (2), the next medium (4), the
smallest fine (6).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import SettingError
from trackweave.ids import LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import MaskLimits, PointMasks, PointSegmenter
from trackweave.proposals.refine import suppressed
from trackweave.proposals.settings import PointGridSettings
from trackweave.structures.candidates import Candidates

RANK_LEVELS = {2: 0, 4: 1, 6: 2}
"""Level → which of a point's masks, the largest first."""
EDGE_REACH = 20
"""Pixels from the edge of a part of the frame within which a mask's box is taken for cut off there."""
RAW_LIMIT = 0.5
"""Predicted IoU and stability from which a mask is kept as a raw candidate."""


class Window(NamedTuple):
    """A part of a frame.

    Attributes:
        layer: 0 the whole frame, k one of 2^k × 2^k parts.
        xyxy: pixels, right and bottom exclusive.
    """

    layer: int
    xyxy: tuple[int, int, int, int]


class AutomaticMasks:
    """Masks at the points of a grid.

    Args:
        segmenter: an open session on the frames.
        size: `(H, W)` of the frames.
        settings: None for the defaults.
        files: what the model was loaded from.
    """

    def __init__(
        self,
        segmenter: PointSegmenter,
        size: tuple[int, int],
        settings: PointGridSettings | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        self._segmenter, self._size, self.files = segmenter, size, files
        self._raw: tuple[LocalIndex, list[tuple[Window, PointMasks]]] | None = None
        self.settings = settings or PointGridSettings()

    def check_levels(self, levels: Iterable[int]) -> None:
        """Refuses levels that it does not have.

        Raises:
            SettingError: there is one.
        """
        for level in levels:
            if level not in RANK_LEVELS:
                valid = ", ".join(map(str, RANK_LEVELS))
                raise SettingError(f"level {level}: a model's automatic masks have levels {valid}")

    def propose_at(self, position: LocalIndex, levels: Iterable[int]) -> dict[int, Candidates]:
        """Candidates of a frame per level, best predicted IoU first; scores are the masks' stability.

        Raises:
            SettingError: an unknown level.
            PredictorError: the model failed.
        """
        wanted = list(levels)
        self.check_levels(wanted)
        parts = [(window, self._reliable(found)) for window, found in self._masks_at(position, self._limits)]
        return {level: self._candidates(parts, {RANK_LEVELS[level]}) for level in wanted}

    def propose_all(self, position: LocalIndex) -> Candidates:
        """Candidates of all granularities together, as SAM 2's own generator gives them."""
        return self._candidates(self._masks_at(position, self._limits), set(RANK_LEVELS.values()))

    def raw_at(self, position: LocalIndex, levels: Iterable[int]) -> dict[int, Candidates]:
        """Everything that `propose_at` chooses from, and what is somewhat less reliable; best predicted IoU first.

        What it finds is at hand for a call of `propose_at` on the same frame.
        """
        loose = replace(
            self._limits,
            predicted_iou=min(self._limits.predicted_iou, RAW_LIMIT),
            stability=min(self._limits.stability, RAW_LIMIT),
        )
        self._raw = (position, self._masks_at(position, loose))
        parts = [found for _, found in self._raw[1]]
        raw: dict[int, Candidates] = {}
        for level in levels:
            some = [found[found.rank == RANK_LEVELS[level]] for found in parts]
            joined = _joined(some)
            raw[level] = _as_candidates(joined[np.argsort(-joined.predicted_iou, kind="stable")])
        return raw

    @property
    def limits(self) -> dict[str, float]:
        """By which limits `propose_at` chooses, as settings of candidates."""
        settings = self.settings
        return {
            "min_predicted_iou": settings.min_predicted_iou,
            "min_stability": settings.min_stability,
            "nms_iou": settings.nms_iou,
        }

    @property
    def _limits(self) -> MaskLimits:
        settings = self.settings
        return MaskLimits(
            settings.min_predicted_iou, settings.min_stability, settings.stability_offset, settings.points_per_batch
        )

    def _reliable(self, found: PointMasks) -> PointMasks:
        """Those within the limits."""
        limits = self._limits
        return found[(found.predicted_iou > limits.predicted_iou) & (found.stability >= limits.stability)]

    def _masks_at(self, position: LocalIndex, limits: MaskLimits) -> list[tuple[Window, PointMasks]]:
        """Masks of the whole frame and of its parts, none of them cut off, at the frame's size."""
        settings, found = self.settings, list[tuple[Window, PointMasks]]()
        if self._raw is not None and self._raw[0] == position:
            (_, found), self._raw = self._raw, None
            return found
        for window in windows(self._size, settings.crop_layers, settings.crop_overlap):
            left, top, right, bottom = window.xyxy
            side = max(1, settings.points_per_side // settings.crop_points_factor**window.layer)
            points = (point_grid(side) * (right - left, bottom - top)).astype(np.float32)
            if window.layer == 0:
                found.append((window, self._segmenter.segment_points(position, points, limits)))
                continue
            masks = self._segmenter.segment_points(position, points, limits, window.xyxy)
            whole = masks[~is_cut_off(masks.masks.boxes, window.xyxy, self._size)]
            found.append((window, replace(whole, masks=pasted(whole.masks, window.xyxy, self._size))))
        return found

    def _candidates(self, parts: Sequence[tuple[Window, PointMasks]], ranks: set[int]) -> Candidates:
        """What stays of some granularities: duplicates are dropped in each part, then between parts."""
        kept, preference = list[PointMasks](), list[NDArray[np.float32]]()
        for window, found in parts:
            some = found[np.isin(found.rank, list(ranks))]
            some = some[suppressed(some.masks.boxes, some.predicted_iou, self.settings.nms_iou)]
            left, top, right, bottom = window.xyxy
            kept.append(some)
            preference.append(np.full(len(some), 1 / ((right - left) * (bottom - top)), np.float32))
        joined = _joined(kept)
        if len(parts) > 1:  # of what two parts show, the smaller part shows more
            joined = joined[suppressed(joined.masks.boxes, np.concatenate(preference), self.settings.crop_nms_iou)]
        return _as_candidates(joined)


def _joined(parts: Sequence[PointMasks]) -> PointMasks:
    """One after the other; parts without rows, too, know the masks' size."""
    return PointMasks(
        np.concatenate([part.point for part in parts]),
        np.concatenate([part.rank for part in parts]),
        np.concatenate([part.predicted_iou for part in parts]),
        np.concatenate([part.stability for part in parts]),
        PackedMasks.concat([part.masks for part in parts]),
    )


def _as_candidates(found: PointMasks) -> Candidates:
    return Candidates(
        id=np.arange(len(found), dtype=np.int64),
        xyxy=found.masks.boxes.astype(np.float32),
        score=found.stability,
        area=found.masks.areas,
        masks=found.masks,
        predicted_iou=found.predicted_iou,
    )


def point_grid(side: int) -> NDArray[np.float64]:
    """`(side², 2)` x, y in the unit square, row by row, in the middle of equal cells.

    >>> point_grid(2).tolist()
    [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    offset = 1 / (2 * side)
    line = np.linspace(offset, 1 - offset, side)
    return np.stack(np.meshgrid(line, line), axis=2).reshape(-1, 2)


def windows(size: tuple[int, int], layers: int, overlap: float) -> list[Window]:
    """The whole frame `(H, W)`, and of each layer its parts, which overlap by a share of the shorter side.

    >>> [window.xyxy for window in windows((60, 90), 1, 0.1)]
    [(0, 0, 90, 60), (0, 0, 48, 33), (0, 27, 48, 60), (42, 0, 90, 33), (42, 27, 90, 60)]
    """
    height, width = size
    parts = [Window(0, (0, 0, width, height))]
    for layer in range(1, layers + 1):
        count = 2**layer
        shared = int(overlap * min(size) * (2 / count))
        across, down = (math.ceil((shared * (count - 1) + side) / count) for side in (width, height))
        for i, j in product(range(count), range(count)):
            left, top = (across - shared) * i, (down - shared) * j
            if left < width and top < height:  # a frame of few pixels has fewer parts
                parts.append(Window(layer, (left, top, min(left + across, width), min(top + down, height))))
    return parts


def is_cut_off(
    boxes: NDArray[Any], window: tuple[int, int, int, int], size: tuple[int, int], reach: float = EDGE_REACH
) -> NDArray[np.bool_]:
    """`(M,)` which boxes xyxy in a window reach its edge where that is not the frame's, of `(H, W)`."""
    left, top, _, _ = window
    whole = boxes + np.array([left, top, left - 1, top - 1])  # to the last pixel
    near, at_frame = (np.abs(whole - edge) <= reach for edge in (window, (0, 0, size[1], size[0])))
    return np.asarray(np.any(near & ~at_frame, axis=1))


def pasted(masks: PackedMasks, window: tuple[int, int, int, int], size: tuple[int, int]) -> PackedMasks:
    """Masks of a window as masks of the frame."""
    origins = np.tile((window[1], window[0]), (len(masks), 1))
    return PackedMasks.from_crops([mask.to_bool()[0] for mask in masks], origins, *size)
