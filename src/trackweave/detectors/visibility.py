"""`VisibilityEstimator`: the visible share of each detected object, from masks, GrabCut or boxes.

`visible_shares` is the part that needs boxes alone: what nearer boxes and the frame's border hide, exactly.
`foreground_share` is one round of GrabCut on one detection's crop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import inner, njit
from trackweave.errors import SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.structures.detections import Detections

MIN_VISIBILITY = 0.05
"""What is detected is a little visible: an estimate is never 0, which means "unknown" elsewhere."""
UNOCCLUDED_SHARE = 0.98
"""Visible share by boxes from which an object updates the share of a box that its class fills."""
INITIAL_CROP_MS = 3.0
"""Expected time of one crop, milliseconds, before the first is measured."""


class VisibilityMethod(IntEnum):
    """How a visibility was estimated."""

    OCCLUSION = 0
    GRABCUT = 1
    MASK = 2


class VisibilityEstimate(NamedTuple):
    """One estimate per detection.

    Attributes:
        visibility: `(N,)` float32 in [0.05, 1].
        method: `(N,)` int8, a `VisibilityMethod` each.
    """

    visibility: NDArray[np.float32]
    method: NDArray[np.int8]


class VisibilityEstimator:
    """Estimates visibility from masks, else from GrabCut, else from nearer boxes.

    - *Mask*: pixels of the mask that no nearer mask covers, over the silhouette expected in this box: box area × the
      share that wholly visible objects of the class fill. That share is learned from detections that no box occludes (a
      running lower quartile, so that three of four of them count as wholly visible).
    - *GrabCut*: the same with the foreground of the crop, but never more than boxes leave visible: it detects occluders
      that are not detections themselves (a car, a pillar). A coarse cue: on 64 pixels it often loses legs, and an
      object whose upper middle is visible never gets less than half. Crops are taken while the frame's time budget
      lasts, the least certain (half hidden by boxes) first.
    - *Occlusion*: what nearer boxes and the frame's border leave (`visible_shares`).

    After a missing or empty mask, a crop that GrabCut cannot start from, or a spent budget the next method is used.

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
        """Another video begins: forgets what was learned and counted."""
        self.counts = dict.fromkeys(VisibilityMethod, 0)
        self._mask_fill = TypicalFill(0.5)
        self._crop_fill = TypicalFill(0.25)
        self._crop_ms = INITIAL_CROP_MS

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
            `(N,)` float32 in [0.05, 1] and the method of each; a box that has no area or is not finite gets 1.
        """
        frame = size if image is None else (image.shape[0], image.shape[1])
        by_boxes = visible_shares(detections.xyxy, frame, detections.score >= self.min_occluder_score)
        visibility = by_boxes.copy()
        method = np.full(len(detections), VisibilityMethod.OCCLUSION, np.int8)
        if self.mode == "segment" and len(detections):
            self._from_masks(detections, frame, by_boxes, visibility, method)
            if image is not None and self.time_budget_ms > 0:
                self._from_crops(detections, image, by_boxes, visibility, method)
        for kind in VisibilityMethod:
            self.counts[kind] += int(np.count_nonzero(method == kind))
        return VisibilityEstimate(np.clip(visibility, MIN_VISIBILITY, 1.0).astype(np.float32), method)

    def _from_masks(
        self,
        detections: Detections,
        frame: tuple[int, int] | None,
        by_boxes: NDArray[np.float64],
        visibility: NDArray[np.float64],
        method: NDArray[np.int8],
    ) -> None:
        """Overwrites the rows whose mask is not empty."""
        if detections.masks is None:
            return
        masks = detections.masks
        pixel = 1.0 if frame is None else frame[0] * frame[1] / (masks.height * masks.width)
        areas = finite_boxes(detections.xyxy)[1]
        rows = np.flatnonzero((masks.areas > 0) & (areas > 0))
        share = _unoccluded_areas(masks, nearer_pairs(detections.xyxy))[rows] * pixel / areas[rows]
        self._mask_fill.learn(detections.class_id[rows], share, by_boxes[rows])
        visibility[rows] = share / self._mask_fill.of(detections.class_id[rows])
        method[rows] = VisibilityMethod.MASK

    def _from_crops(
        self,
        detections: Detections,
        image: NDArray[np.uint8],
        by_boxes: NDArray[np.float64],
        visibility: NDArray[np.float64],
        method: NDArray[np.int8],
    ) -> None:
        """Lowers rows without a mask by GrabCut, the least certain first, until the budget is spent."""
        boxes, areas = finite_boxes(detections.xyxy)
        remaining = np.flatnonzero((method == VisibilityMethod.OCCLUSION) & (areas > 0))
        nearer = nearer_pairs(boxes) & (detections.score >= self.min_occluder_score)
        uncertainty = by_boxes * (1 - by_boxes)
        start = self._clock()
        segmented: list[int] = []
        shares: list[float] = []
        for row in remaining[np.lexsort((-detections.score[remaining], -uncertainty[remaining]))].tolist():
            before = self._clock()
            if 1000 * (before - start) + self._crop_ms > self.time_budget_ms:
                break
            foreground = foreground_share(image, boxes[row], boxes[nearer[row]])
            self._crop_ms += 0.2 * (1000 * (self._clock() - before) - self._crop_ms)
            if foreground is not None:
                segmented.append(row)
                shares.append(foreground)
        if not segmented:
            return
        share, classes = np.array(shares), detections.class_id[segmented]
        self._crop_fill.learn(classes, share, by_boxes[segmented])
        visibility[segmented] = np.minimum(by_boxes[segmented], share / self._crop_fill.of(classes))
        method[segmented] = VisibilityMethod.GRABCUT


class TypicalFill:
    """Share of its box that a wholly visible object covers, per class: a running lower quartile.

    Args:
        initial: the share before the first observation.
    """

    def __init__(self, initial: float) -> None:
        self._initial = initial
        self._fill: dict[int, float] = {}

    def learn(self, class_id: NDArray[np.int64], share: NDArray[np.float64], by_boxes: NDArray[np.float64]) -> None:
        """Updates by detections that no box occludes: a step down when below the estimate, a third of that step up."""
        for row in np.flatnonzero(by_boxes >= UNOCCLUDED_SHARE).tolist():
            fill = self._fill.get(int(class_id[row]), self._initial)
            # Steps of 1 : 3 balance where three of four shares lie above: at the lower quartile.
            step = 0.0025 if share[row] > fill else -0.0075
            self._fill[int(class_id[row])] = float(np.clip(fill + step, 0.1, 1.0))

    def of(self, class_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """`(N,)` float64, the share per class."""
        return np.array([self._fill.get(int(k), self._initial) for k in class_id], np.float64)


def _unoccluded_areas(masks: PackedMasks, nearer: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`(N,)` float64: pixels of each mask that no mask of a nearer, overlapping box covers."""
    areas = masks.areas.astype(np.float64)
    rows = np.flatnonzero(nearer.any(axis=1))
    if len(rows):
        visible = np.stack([masks.bits[i] & ~np.bitwise_or.reduce(masks.bits[nearer[i]], axis=0) for i in rows])
        areas[rows] = PackedMasks(visible, masks.height, masks.width).areas
    return areas


def visible_shares(
    xyxy: NDArray[Any], size: tuple[int, int] | None = None, occluders: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Share of each box that no nearer box covers and that lies inside the frame.

    Nearer is the box whose bottom edge is lower: things stand on one ground and the camera looks slightly down. Of two
    with one bottom the larger is nearer; of two equal ones neither. Overlapping nearer boxes count once (exact union).
    This is how MOTChallenge's ground truth defines visibility (Milan et al., "MOT16", arXiv 1603.00831).

    Args:
        xyxy: `(N, 4)`, pixels.
        size: `(H, W)` of the frame; what lies outside is hidden. None: nothing is outside.
        occluders: `(N,)` bool, the boxes that hide others; all when None.

    Returns:
        `(N,)` float64 in [0, 1]; 1 for a box that has no area or is not finite.

    >>> visible_shares(np.array([[0, 0, 4, 8], [2, 4, 6, 12]])).tolist()
    [0.75, 1.0]
    """
    boxes, areas = finite_boxes(xyxy)
    occludes = (areas > 0) if occluders is None else occluders & (areas > 0)
    low, high = np.array([-np.inf, -np.inf]), np.array([np.inf, np.inf])
    if size is not None:
        low, high = np.zeros(2), np.array([size[1], size[0]], np.float64)
    inside = np.concatenate([np.maximum(boxes[:, :2], low), np.minimum(boxes[:, 2:], high)], axis=1)
    visible = np.prod(np.maximum(inside[:, 2:] - inside[:, :2], 0.0), axis=1)
    _subtract_covered(boxes, inside, areas, occludes, np.empty((len(boxes), 3)), np.empty(2 * len(boxes)), visible)
    return np.asarray(np.clip(np.divide(visible, areas, out=np.ones_like(areas), where=areas > 0), 0.0, 1.0))


def finite_boxes(xyxy: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes `(N, 4)` float64, all zero where not finite, and their areas `(N,)`, 0 where inverted."""
    boxes = np.array(xyxy, np.float64).reshape(-1, 4)
    boxes[~np.isfinite(boxes).all(axis=1)] = 0.0
    return boxes, np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)


def nearer_pairs(xyxy: NDArray[Any]) -> NDArray[np.bool_]:
    """`(N, N)` bool: box `j` (column) is nearer than box `i` (row) and overlaps it; the order of `visible_shares`."""
    boxes, areas = finite_boxes(xyxy)
    bottom = boxes[:, 3]
    nearer = (bottom > bottom[:, None]) | ((bottom == bottom[:, None]) & (areas > areas[:, None]))
    overlap = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    return np.asarray(nearer & (overlap > 0).all(axis=2))


@njit(nogil=True)
def _subtract_covered(boxes: Any, inside: Any, areas: Any, occludes: Any, parts: Any, edges: Any, visible: Any) -> None:
    """Takes from `visible` `(N,)` the area of the union of nearer boxes within each `inside` box; `parts` `(N, 3)` and
    `edges` `(2 N,)` are arrays to work in: where a loop makes them, they take long to compile."""
    for i in range(len(boxes)):
        own, bounds, count = boxes[i], inside[i], 0
        for j in range(len(boxes)):
            other = boxes[j]
            lower = other[3] > own[3] or (other[3] == own[3] and areas[j] > areas[i])
            left, right, top = max(bounds[0], other[0]), min(bounds[2], other[2]), max(bounds[1], other[1])
            if lower and occludes[j] and left < right and top < bounds[3]:
                part = parts[count]
                part[0], part[1], part[2] = left, top, right
                edges[2 * count], edges[2 * count + 1] = left, right
                count += 1
        if count:
            _sort(edges, 2 * count)
            visible[i] -= _union(parts, edges, count, bounds[3])


@inner
def _sort(values: Any, count: int) -> None:
    """Sorts the first few values by insertion; `np.sort` would take a second to compile."""
    for k in range(1, count):
        value, at = values[k], k
        while at > 0 and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value


@inner
def _union(parts: Any, edges: Any, count: int, bottom: float) -> float:
    """Area of the union of the first `count` boxes `(K, 3)` left, top, right that all end at `bottom`, as nearer boxes
    do.

    Between two neighbouring vertical edges `(2 K,)`, sorted, the box with the highest top holds all others.
    """
    total = 0.0
    for k in range(2 * count - 1):
        left, right, highest = edges[k], edges[k + 1], bottom
        for m in range(count):
            part = parts[m]
            if part[0] <= left and part[2] >= right:
                highest = min(highest, part[1])
        total += (right - left) * (bottom - highest)
    return total


CROP_SIDE = 64
"""Longer side, in pixels, of the crop that is segmented: 2 ms; twice the side is four times slower and no better."""

# Shares of the box: x and y for the margin around it, xyxy for the parts inside.
_MARGIN = (0.2, 0.1)
_PROBABLE_FOREGROUND = (0.2, 0.02, 0.8, 0.98)
_SURE_FOREGROUND = (0.38, 0.1, 0.62, 0.6)


def foreground_share(image: NDArray[np.uint8], box: NDArray[np.float64], nearer: NDArray[np.float64]) -> float | None:
    """Share of a box that one round of GrabCut labels as foreground.

    The middle column of the upper half is surely the object, the rest of the middle probably, the box's sides and what
    nearer boxes cover probably not, the outside surely not. The same crop gives the same result: OpenCV's random
    numbers are seeded. Rother et al., "GrabCut", SIGGRAPH 2004.

    Args:
        image: `(H, W, 3)` uint8.
        box: `(4,)` xyxy, pixels.
        nearer: `(K, 4)` xyxy, boxes in front of it.

    Returns:
        Share of the whole box, with its parts outside the frame; None when GrabCut cannot start (the middle is hidden,
        the crop is tiny or has one label only).
    """
    left, top, right, bottom = _crop_window(image, box)
    if right - left < 4 or bottom - top < 8:
        return None
    scale = min(1.0, CROP_SIDE / max(right - left, bottom - top))
    size = (max(4, round((right - left) * scale)), max(8, round((bottom - top) * scale)))
    crop = cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
    pixel = np.array([size[0] / (right - left), size[1] / (bottom - top)])
    labels = _initial_labels(box, nearer, np.array([left, top]), pixel, size)
    if not (labels == cv2.GC_FGD).any() or not (labels == cv2.GC_BGD).any():
        return None
    cv2.setRNGSeed(0)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(crop, labels, None, background, foreground, 1, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    extent = (box[2:] - box[:2]) * pixel
    return float(np.count_nonzero(labels & 1) / (extent[0] * extent[1]))  # both foreground labels are odd


def _crop_window(image: NDArray[np.uint8], box: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """The box with a margin, inside the frame, as xyxy."""
    margin = np.array(_MARGIN) * (box[2:] - box[:2])
    limits = [image.shape[1], image.shape[0]] * 2
    grown = np.clip(np.concatenate([box[:2] - margin, box[2:] + margin]), 0, limits).astype(int)
    return int(grown[0]), int(grown[1]), int(grown[2]), int(grown[3])


def _initial_labels(
    box: NDArray[np.float64],
    nearer: NDArray[np.float64],
    corner: NDArray[np.int64],
    pixel: NDArray[np.float64],
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    """GrabCut's labels `(h, w)` uint8 to start from; `corner` `(x, y)` and `pixel` map frame to crop coordinates."""
    labels = np.full(size[::-1], cv2.GC_BGD, np.uint8)

    def under(target: NDArray[np.float64], part: tuple[float, ...]) -> NDArray[np.uint8]:
        """View of the labels under a part (given as shares) of a box."""
        extent = np.tile(target[2:] - target[:2], 2)
        inside = (np.tile(target[:2], 2) + np.array(part) * extent - np.tile(corner, 2)) * np.tile(pixel, 2)
        x1, y1, x2, y2 = np.clip(np.round(inside), 0, [*size, *size]).astype(int)
        return labels[y1:y2, x1:x2]

    under(box, (0, 0, 1, 1))[:] = cv2.GC_PR_BGD
    under(box, _PROBABLE_FOREGROUND)[:] = cv2.GC_PR_FGD
    under(box, _SURE_FOREGROUND)[:] = cv2.GC_FGD
    for front in nearer:
        covered = under(front, (0, 0, 1, 1))
        covered[covered != cv2.GC_BGD] = cv2.GC_PR_BGD
    return labels
