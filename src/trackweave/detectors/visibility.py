"""`VisibilityEstimator`: which part of each detected object can be seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.visibility_occlusion import finite_boxes, nearer_pairs, visible_shares
from trackweave.errors import SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.structures.detections import Detections

LOWEST = 0.05
"""What is detected can be seen a little: an estimate is never 0, which would read as "unknown" elsewhere."""
ISOLATED = 0.98
"""Visible share, by boxes, from which an object teaches how much of a box its class fills."""
FIRST_CROP_MS = 3.0
"""What a crop is expected to cost before the first was timed."""


class VisibilityMethod(IntEnum):
    """What an estimate rests on."""

    OCCLUSION = 0
    GRABCUT = 1
    MASK = 2


class VisibilityEstimate(NamedTuple):
    """One estimate per detection.

    Attributes:
        visibility: `(N,)` float32 in [0.05, 1].
        how: `(N,)` int8, a `VisibilityMethod` each.
    """

    visibility: NDArray[np.float32]
    how: NDArray[np.int8]


class VisibilityEstimator:
    """Estimates visibility from masks, else from GrabCut, else from nearer boxes.

    - *Mask*: pixels of the mask that no nearer mask claims, over the silhouette expected in this box: box area × the
      share that wholly visible objects of the class fill. The share is learnt from detections that no box hides (a
      running lower quartile, so that three of four of them count as wholly visible).
    - *GrabCut*: the same with the foreground of the crop, but never more than boxes leave visible: it finds what hides
      an object without being detected itself (a car, a pillar). A coarse cue: on 64 pixels it often loses legs, and an
      object whose upper middle shows never gets less than half. Crops are taken while the frame's time budget lasts,
      the least certain (half hidden by boxes) first.
    - *Occlusion*: what nearer boxes and the frame's border leave (`visible_shares`).

    A missing or empty mask, a crop that GrabCut cannot start from, or a spent budget lead to the next way.

    Args:
        mode: `segment` for all three; `occlusion` for boxes alone, which needs no image.
        time_budget_ms: for GrabCut per frame. The number of crops depends on the machine; with 0 there are none, with
            `inf` all.
        min_occluder_score: detections below do not hide others.
        clock: seconds; for tests.

    Attributes:
        counts: detections estimated so far by each method.

    Raises:
        SettingError: an unknown mode or a negative budget.
    """

    def __init__(
        self,
        mode: Literal["segment", "occlusion"] = "segment",
        *,
        time_budget_ms: float = 10.0,
        min_occluder_score: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if mode not in ("segment", "occlusion"):
            raise SettingError(f"visibility mode {mode!r}: give segment or occlusion")
        if not time_budget_ms >= 0:
            raise SettingError(f"a time budget of {time_budget_ms} ms: give 0 or more")
        self.mode = mode
        self.time_budget_ms = time_budget_ms
        self.min_occluder_score = min_occluder_score
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forgets what was learnt and counted: another video begins."""
        self.counts = dict.fromkeys(VisibilityMethod, 0)
        self._mask_fill = TypicalFill(0.5)
        self._crop_fill = TypicalFill(0.25)
        self._crop_ms = FIRST_CROP_MS

    def estimate(
        self,
        detections: Detections,
        image: NDArray[np.uint8] | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> VisibilityEstimate:
        """Estimates every detection of a frame.

        Args:
            detections: N detections; their masks may be at another scale than the frame.
            image: `(H, W, 3)` uint8 RGB, for GrabCut.
            size: `(H, W)` of the frame where there is no image; without both nothing counts as outside.

        Returns:
            `(N,)` float32 in [0.05, 1] and the method of each; a box without area or that is not finite gets 1.
        """
        frame = size if image is None else (image.shape[0], image.shape[1])
        by_boxes = visible_shares(detections.xyxy, frame, detections.score >= self.min_occluder_score)
        visibility = by_boxes.copy()
        how = np.full(len(detections), VisibilityMethod.OCCLUSION, np.int8)
        if self.mode == "segment" and len(detections):
            self._from_masks(detections, frame, by_boxes, visibility, how)
            if image is not None and self.time_budget_ms > 0:
                self._from_crops(detections, image, by_boxes, visibility, how)
        for method in VisibilityMethod:
            self.counts[method] += int(np.count_nonzero(how == method))
        return VisibilityEstimate(np.clip(visibility, LOWEST, 1.0).astype(np.float32), how)

    def _from_masks(
        self,
        detections: Detections,
        frame: tuple[int, int] | None,
        by_boxes: NDArray[np.float64],
        visibility: NDArray[np.float64],
        how: NDArray[np.int8],
    ) -> None:
        """Fills the rows whose mask has a pixel."""
        if detections.masks is None:
            return
        masks = detections.masks
        pixel = 1.0 if frame is None else frame[0] * frame[1] / (masks.height * masks.width)
        areas = finite_boxes(detections.xyxy)[1]
        rows = np.flatnonzero((masks.areas > 0) & (areas > 0))
        share = _unclaimed_areas(masks, nearer_pairs(detections.xyxy))[rows] * pixel / areas[rows]
        self._mask_fill.learn(detections.class_id[rows], share, by_boxes[rows])
        visibility[rows] = share / self._mask_fill.of(detections.class_id[rows])
        how[rows] = VisibilityMethod.MASK

    def _from_crops(
        self,
        detections: Detections,
        image: NDArray[np.uint8],
        by_boxes: NDArray[np.float64],
        visibility: NDArray[np.float64],
        how: NDArray[np.int8],
    ) -> None:
        """Lowers rows without a mask by GrabCut, the least certain first, until the budget is spent."""
        from trackweave.detectors.visibility_segment import foreground_share  # OpenCV, only where it is used

        boxes, areas = finite_boxes(detections.xyxy)
        open_rows = np.flatnonzero((how == VisibilityMethod.OCCLUSION) & (areas > 0))
        nearer = nearer_pairs(boxes) & (detections.score >= self.min_occluder_score)
        uncertainty = by_boxes * (1 - by_boxes)
        start = self._clock()
        done: list[int] = []
        shares: list[float] = []
        for row in open_rows[np.lexsort((-detections.score[open_rows], -uncertainty[open_rows]))].tolist():
            before = self._clock()
            if 1000 * (before - start) + self._crop_ms > self.time_budget_ms:
                break
            share = foreground_share(image, boxes[row], boxes[nearer[row]])
            self._crop_ms += 0.2 * (1000 * (self._clock() - before) - self._crop_ms)
            if share is not None:
                done.append(row)
                shares.append(share)
        if not done:
            return
        share_of, classes = np.array(shares), detections.class_id[done]
        self._crop_fill.learn(classes, share_of, by_boxes[done])
        visibility[done] = np.minimum(by_boxes[done], share_of / self._crop_fill.of(classes))
        how[done] = VisibilityMethod.GRABCUT


class TypicalFill:
    """Share of its box that a wholly visible object covers, per class: a running lower quartile.

    Args:
        first: the share before anything was seen.
    """

    def __init__(self, first: float) -> None:
        self._first = first
        self._fill: dict[int, float] = {}

    def learn(self, class_id: NDArray[np.int64], share: NDArray[np.float64], by_boxes: NDArray[np.float64]) -> None:
        """Takes the shares of detections that no box hides; a step down when below the quartile, a third of it up."""
        for row in np.flatnonzero(by_boxes >= ISOLATED).tolist():
            known = self._fill.get(int(class_id[row]), self._first)
            step = 0.0025 if share[row] > known else -0.0075
            self._fill[int(class_id[row])] = float(np.clip(known + step, 0.1, 1.0))

    def of(self, class_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """`(N,)` float64, the share per class."""
        return np.array([self._fill.get(int(k), self._first) for k in class_id], np.float64)


def _unclaimed_areas(masks: PackedMasks, nearer: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`(N,)` float64: pixels of each mask that no mask of a nearer, overlapping box claims too."""
    areas = masks.areas.astype(np.float64)
    rows = np.flatnonzero(nearer.any(axis=1))
    if len(rows):
        left = np.stack([masks.bits[i] & ~np.bitwise_or.reduce(masks.bits[nearer[i]], axis=0) for i in rows])
        areas[rows] = PackedMasks(left, masks.height, masks.width).areas
    return areas
