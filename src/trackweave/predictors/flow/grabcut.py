"""From a box or points to a mask, by GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004); all in working pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.predictors.flow.windows import PixelWindow

_ROUNDS = 4
_MIN_SIDE = 6
"""Below it there is nothing for colour models to learn from."""
_MIN_BOX_SHARE, _MAX_BOX_SHARE = 0.1, 0.98
"""Share of the box that a plausible object covers."""
_REACH = 0.28
"""Radius around a point within which its object is looked for first, as a share of the frame's shorter side."""
_SURE, _LIKELY, _POSSIBLE = 0.15, 0.7, 1.8
"""In radii: what is the object's for sure, what more likely than not, and beyond what it does not reach."""


def mask_in_box(rgb: NDArray[np.uint8], box: PixelWindow) -> NDArray[np.bool_]:
    """Segments the object in a box. Where the result is not plausible, or the box is tiny, it is the ellipse inside.

    Args:
        rgb: `(h, w, 3)` uint8.
        box: not empty.

    Returns:
        `(h, w)` bool, not empty, inside the box.
    """
    frame = rgb.shape[0], rgb.shape[1]
    out = np.zeros(frame, np.bool_)
    rows, columns = box.shape
    if min(rows, columns) >= _MIN_SIDE:
        crop = box.grow(max(8.0, 0.4 * max(rows, columns)), frame)
        mask = _grab_cut(rgb, crop, _labels_of_box(box, crop))
        if _MIN_BOX_SHARE * rows * columns <= mask.sum() <= _MAX_BOX_SHARE * rows * columns:
            out[crop.slices] = mask
            return out
    out[box.slices] = _ellipse(rows, columns)
    return out


def mask_at_points(
    rgb: NDArray[np.uint8], points: NDArray[np.float32], labels: NDArray[np.int32], box: PixelWindow | None = None
) -> NDArray[np.bool_]:
    """Segments the object that points lie in; parts that hold none of the points inside do not belong to it.

    How far an object reaches from a single point is not known: it is looked for within about a quarter of the frame.

    Args:
        rgb: `(h, w, 3)` uint8.
        points: `(P, 2)` x, y.
        labels: `(P,)` 1 inside the object, 0 outside.
        box: around the object, if it is known; else at least one point is inside.

    Returns:
        `(h, w)` bool, not empty, without the pixels of the points outside.
    """
    frame = rgb.shape[0], rgb.shape[1]
    inside, outside = (np.minimum(points[labels == label], (frame[1] - 0.5, frame[0] - 0.5)) for label in (1, 0))
    span = float(np.ptp(inside, axis=0).max()) if len(inside) else 0.0
    reach = max(_REACH * min(frame), span / 2, 3.0)
    if box is None:
        low, high = inside.min(axis=0), inside.max(axis=0)
        around = PixelWindow(int(low[1]), int(high[1]) + 1, int(low[0]), int(high[0]) + 1)
        crop = around.grow(2 * reach, frame)
        near = _distance(crop, inside)
        marks = np.full(crop.shape, cv2.GC_BGD, np.uint8)
        marks[near < _POSSIBLE * reach] = cv2.GC_PR_BGD
        marks[near < _LIKELY * reach] = cv2.GC_PR_FGD
    else:
        reach = min(reach, max(box.shape) / 2)
        crop = box.grow(max(8.0, 0.4 * max(box.shape)), frame)
        near, marks = _distance(crop, inside), _labels_of_box(box, crop)
    away = _distance(crop, outside)
    possible = marks != cv2.GC_BGD
    marks[possible & (away < near)] = cv2.GC_PR_BGD
    marks[possible & (near <= np.minimum(max(_SURE * reach, 1.0), away / 2))] = cv2.GC_FGD
    marks[away <= np.minimum(max(_SURE * reach, 1.0), near / 2)] = cv2.GC_BGD
    if np.all(marks != cv2.GC_BGD):
        marks[[0, -1], :] = marks[:, [0, -1]] = cv2.GC_BGD
    held = (inside - (crop.left, crop.top)).astype(np.int64)
    marks[held[:, 1], held[:, 0]] = cv2.GC_FGD
    mask = _grab_cut(rgb, crop, marks) if (marks == cv2.GC_BGD).any() else marks == cv2.GC_FGD
    if len(held):
        _, parts = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
        mask = np.isin(parts, parts[held[:, 1], held[:, 0]]) & mask
    out = np.zeros(frame, np.bool_)
    out[crop.slices] = mask
    return out if mask.any() or box is None else mask_in_box(rgb, box)


def _labels_of_box(box: PixelWindow, crop: PixelWindow) -> NDArray[np.uint8]:
    """GrabCut's labels for the object in `box`, which lies in `crop`."""
    labels = np.full(crop.shape, cv2.GC_BGD, np.uint8)
    inner = slice(box.top - crop.top, box.bottom - crop.top), slice(box.left - crop.left, box.right - crop.left)
    labels[inner] = cv2.GC_PR_BGD
    labels[inner][_ellipse(*box.shape)] = cv2.GC_PR_FGD
    if np.all(labels != cv2.GC_BGD):  # the box is the whole frame: its rim has to stand for the background
        labels[[0, -1], :] = labels[:, [0, -1]] = cv2.GC_BGD
    return labels


def _grab_cut(rgb: NDArray[np.uint8], crop: PixelWindow, labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """`labels` are those of the pixels of `crop`; changed."""
    likely = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    if not likely.any() or likely.all():
        return np.asarray(likely, np.bool_)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    # GrabCut's k-means uses OpenCV's random generator of this thread: unseeded, masks depend on what ran before.
    cv2.setRNGSeed(0)
    part = np.ascontiguousarray(rgb[crop.slices])
    cv2.grabCut(part, labels, None, background, foreground, _ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), np.bool_)


def _distance(crop: PixelWindow, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(h, w)` float32, from each pixel of `crop` to the nearest point; infinite without points."""
    rows = np.arange(crop.top, crop.bottom, dtype=np.float32)[:, None] + 0.5
    columns = np.arange(crop.left, crop.right, dtype=np.float32)[None, :] + 0.5
    nearest = np.full(crop.shape, np.inf, np.float32)
    for x, y in points:
        np.minimum(nearest, np.hypot(rows - y, columns - x), out=nearest)
    return nearest


def _ellipse(rows: int, columns: int) -> NDArray[np.bool_]:
    y = (np.arange(rows) + 0.5) / rows * 2 - 1
    x = (np.arange(columns) + 0.5) / columns * 2 - 1
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2 <= 1, np.bool_)
