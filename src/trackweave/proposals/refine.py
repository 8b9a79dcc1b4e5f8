"""What is done with a generator's candidates: filtered, completed where nothing covers the frame, nested in each other.

All of it works on candidates that are there already, so that a person may choose anew without generating again
(`trackweave filter`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.base import non_maximum_suppression
from trackweave.masks.ops import mask_intersection
from trackweave.masks.packed import PackedMasks
from trackweave.proposals.settings import CandidateSettings
from trackweave.structures.candidates import Candidates

REASONS = ("region", "min_area", "max_area", "min_stability", "min_predicted_iou", "nms_iou", "max_count")
"""Why a candidate is dropped: the setting, in the order in which they are applied."""
IN_REGION = 0.5
"""Share of a candidate that has to lie in the region of interest."""
IN_PARENT = 0.5
"""Share of a candidate that has to lie in another one of a coarser level for that to be its parent."""
LOST_IN_PARENT = 0.2
"""Share of a nested candidate below which what is left of it in its parent is no candidate any more."""
GAP_OPENING = 5
"""Pixels: slivers between candidates that are thinner are no gaps."""


@dataclass
class FilterStats:
    """Candidates of a level over all frames.

    Attributes:
        found: before the filter.
        kept: after it.
        dropped: by reason, see `REASONS`; `parent` counts those of which too little lies in their parents.
        gaps: added where nothing covered the frame.
        frames: frames with candidates.
    """

    found: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    frames: int = 0

    @property
    def reasons(self) -> dict[str, int]:
        """What was dropped, without the reasons that dropped nothing."""
        return {reason: self.dropped[reason] for reason in (*REASONS, "parent") if self.dropped[reason]}

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        counts = {"frames": self.frames, "found": self.found, "kept": self.kept, "gaps": self.gaps}
        return {**counts, "dropped": self.reasons}


@dataclass(frozen=True)
class Refined:
    """Candidates of one frame after `refine`.

    Attributes:
        levels: by level.
        parents: of each candidate by level and id, the level and id of its parent; empty where nothing is nested.
    """

    levels: Mapping[int, Candidates]
    parents: Mapping[tuple[int, int], tuple[int, int] | None]


def refine(
    levels: Mapping[int, Candidates],
    settings: CandidateSettings,
    stats: dict[int, FilterStats] | None = None,
    *,
    fills_gaps: bool = True,
    coarser: Mapping[int, Candidates] | None = None,
) -> Refined:
    """The candidates of one frame, filtered, completed and nested as the settings say; ids count from 0 again.

    Args:
        levels: level → candidates, masks of one size.
        settings: what is wanted.
        stats: takes what happened, by level.
        fills_gaps: False where the candidates are not all of the frame's.
        coarser: refined candidates of further levels, which these may be nested in.
    """
    refined: dict[int, Candidates] = {}
    parents: dict[tuple[int, int], tuple[int, int] | None] = {}
    for level in sorted(levels):
        counted = FilterStats() if stats is None else stats.setdefault(level, FilterStats())
        candidates, dropped = apply_limits(levels[level], settings)
        counted.found += len(levels[level])
        counted.dropped += dropped
        counted.frames += 1
        if settings.gap_area and fills_gaps:
            gaps = find_gaps(candidates, settings)
            counted.gaps += len(gaps)
            candidates = _joined(candidates, gaps)
        above: list[tuple[int, int] | None] = []
        if settings.nest:
            around = {key: one for key, one in {**(coarser or {}), **refined}.items() if key < level}
            candidates, above = nest_candidates(candidates, around)
            counted.dropped["parent"] += len(above) - len(candidates)
            above = [parent for parent in above if parent != DROPPED]
        refined[level] = replace(candidates, id=np.arange(len(candidates), dtype=np.int64))
        parents |= {(level, n): parent for n, parent in enumerate(above)}
        counted.kept += len(candidates)
    return Refined(refined, parents)


def apply_limits(candidates: Candidates, settings: CandidateSettings) -> tuple[Candidates, Counter[str]]:
    """Those that the settings let through, in their order, and how many were dropped for which reason.

    An area below 1 is a share of the image. Without `nms_iou` nothing is a duplicate; with it the better one stays: by
    predicted IoU, or where there is none by score.
    """
    height, width = candidates.size
    dropped: Counter[str] = Counter()
    kept = np.ones(len(candidates), np.bool_)

    def drop(reason: str, out: NDArray[np.bool_]) -> None:
        dropped[reason] += int((kept & out).sum())
        kept[out] = False

    if settings.region:
        drop("region", _share_inside(candidates, settings.region_mask((height, width))) < IN_REGION)
    for reason, limit in (("min_area", settings.min_area), ("max_area", settings.max_area)):
        if limit is not None:
            pixels = limit * height * width if limit < 1 else limit
            drop(reason, candidates.area < pixels if reason == "min_area" else candidates.area > pixels)
    if settings.min_stability is not None:
        drop("min_stability", candidates.score < np.float32(settings.min_stability))
    if settings.min_predicted_iou is not None and candidates.predicted_iou is not None:
        drop("min_predicted_iou", candidates.predicted_iou <= np.float32(settings.min_predicted_iou))
    best = candidates.score if candidates.predicted_iou is None else candidates.predicted_iou
    rows = np.flatnonzero(kept)
    if settings.nms_iou is not None:
        stays = suppressed(candidates.xyxy[rows], best[rows], settings.nms_iou)
        drop("nms_iou", ~np.isin(np.arange(len(candidates)), rows[stays]))
        rows = rows[stays]
    if settings.max_count is not None and len(rows) > settings.max_count:
        order = rows[np.argsort(-candidates.score[rows], kind="stable")]
        drop("max_count", np.isin(np.arange(len(candidates)), order[settings.max_count :]))
        rows = rows[kept[rows]]
    return candidates[rows], dropped


def suppressed(xyxy: NDArray[np.number[Any]], score: NDArray[np.float32], iou: float) -> NDArray[np.int64]:
    """Rows that stay, best first: of boxes with a greater IoU the better one.

    Boxes reach to the last pixel, not beyond it, as SAM 2's generator has them; there, boxes without an area share
    nothing with any other.
    """
    boxes = xyxy.astype(np.float32)
    boxes[:, 2:] -= 1
    has_area = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    rows = np.flatnonzero(has_area)
    kept = non_maximum_suppression(boxes[rows], score[rows], np.zeros(len(rows), np.int64), iou, len(rows))
    stays = ~has_area
    stays[rows[kept]] = True
    order: NDArray[np.int64] = np.argsort(-score, kind="stable")
    return np.asarray(order[stays[order]])


def _share_inside(candidates: Candidates, region: PackedMasks) -> NDArray[np.float64]:
    """`(N,)` the share of each mask that lies in the region; of a box, whether its middle does."""
    inside = mask_intersection(candidates.masks, region)[:, 0] / np.maximum(candidates.masks.areas, 1)
    height, width = candidates.size
    middle = (candidates.xyxy[:, :2] + candidates.xyxy[:, 2:]) / 2
    columns, rows = np.clip(middle, 0, (width - 1, height - 1)).astype(np.int64).T
    return np.asarray(np.where(candidates.has_mask, inside, region.to_bool()[0][rows, columns]))


def find_gaps(candidates: Candidates, settings: CandidateSettings) -> Candidates:
    """Parts of the frame, or of the region of interest, that no mask covers, of `gap_area` at least; score 0.

    An area below 1 is a share of the image.
    """
    height, width = candidates.size
    area = settings.gap_area or 0.0
    smallest = max(area * height * width if area < 1 else area, 1)
    free = np.ones((height, width), np.bool_)
    if settings.region:
        free = settings.region_mask((height, width)).to_bool()[0]
    for mask in candidates.masks:
        free &= ~mask.to_bool()[0]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (GAP_OPENING, GAP_OPENING))
    padded = cv2.copyMakeBorder(free.view(np.uint8), *(GAP_OPENING,) * 4, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[GAP_OPENING:-GAP_OPENING, GAP_OPENING:-GAP_OPENING]
    count, parts, sizes, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(np.where(free, opened, 0), np.uint8), connectivity=4
    )
    large = [k for k in range(1, count) if sizes[k, cv2.CC_STAT_AREA] >= smallest]
    large.sort(key=lambda k: -int(sizes[k, cv2.CC_STAT_AREA]))
    masks = PackedMasks.from_bool(np.stack([parts == k for k in large])) if large else PackedMasks.empty(height, width)
    return Candidates(
        np.arange(len(large), dtype=np.int64),
        masks.boxes.astype(np.float32),
        np.zeros(len(large), np.float32),
        masks.areas,
        masks,
        None if candidates.predicted_iou is None else np.zeros(len(large), np.float32),
        None if candidates.class_id is None else np.full(len(large), -1, np.int64),
    )


def _joined(one: Candidates, other: Candidates) -> Candidates:
    """One after the other; of no rows there is nothing to join."""
    return one if not len(other) else Candidates.concat([one, other])


DROPPED = (-1, -1)
"""In place of a parent: too little of the candidate lies in it."""


def nest_candidates(
    candidates: Candidates, coarser: Mapping[int, Candidates]
) -> tuple[Candidates, list[tuple[int, int] | None]]:
    """Candidates cut to their parents in the coarser levels, and of each the parent.

    The parent is that of the nearest coarser level, as long as at least half of the candidate lies in it: of several
    the one that holds most, then the smaller one. What is left of a candidate in its parent has to be a fifth of it.

    Returns:
        those that are left, and of every one that was given its parent `(level, id)`, None, or `DROPPED`.
    """
    parents: list[tuple[int, int] | None] = [None] * len(candidates)
    bits = candidates.masks.bits.copy()
    for level in sorted(coarser, reverse=True):
        above = coarser[level]
        if not len(above) or not len(candidates):
            continue
        shared = mask_intersection(candidates.masks, above.masks) / np.maximum(candidates.masks.areas, 1)[:, None]
        best = np.lexsort((np.broadcast_to(above.area, shared.shape), -shared), axis=1)[:, 0]
        for n in range(len(candidates)):
            if parents[n] is None and shared[n, best[n]] >= IN_PARENT:
                parents[n] = (level, int(best[n]))
                bits[n] &= above.masks.bits[best[n]]
    masks = PackedMasks(bits, *candidates.size)
    small = masks.areas < LOST_IN_PARENT * candidates.masks.areas
    parents = [DROPPED if small[n] else parent for n, parent in enumerate(parents)]
    rows = np.flatnonzero(~small)
    left = masks[rows]
    boxes = np.where((left.areas > 0)[:, None], left.boxes, candidates.xyxy[rows]).astype(np.float32)
    area = np.where(left.areas > 0, left.areas, candidates.area[rows])
    return replace(candidates[rows], xyxy=boxes, masks=left, area=area), parents
