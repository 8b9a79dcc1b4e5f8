"""From a box to a mask on one frame, at working size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.predictors.flow.window import Window

_ROUNDS = 4
_SMALLEST_SIDE = 6  # working pixels; below it there is nothing for colour models to learn from
_LEAST, _MOST = 0.1, 0.98  # share of the box that a believable object covers


def mask_in_box(rgb: NDArray[np.uint8], box: Window) -> NDArray[np.bool_]:
    """Cuts an object out of its box by GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004).

    Where the cut is not believable, or the box is tiny, the ellipse inside the box is taken.

    Args:
        rgb: `(h, w, 3)` uint8.
        box: not empty.

    Returns:
        `(h, w)` bool, not empty, inside the box.
    """
    frame = rgb.shape[0], rgb.shape[1]
    out = np.zeros(frame, np.bool_)
    rows, columns = box.shape
    if min(rows, columns) >= _SMALLEST_SIDE:
        area = box.grow(max(8.0, 0.4 * max(rows, columns)), frame)
        cut = _grab_cut(np.ascontiguousarray(rgb[area.slices]), box, area)
        if _LEAST * rows * columns <= cut.sum() <= _MOST * rows * columns:
            out[area.slices] = cut
            return out
    out[box.slices] = _ellipse(rows, columns)
    return out


def _grab_cut(crop: NDArray[np.uint8], box: Window, area: Window) -> NDArray[np.bool_]:
    labels = np.full(crop.shape[:2], cv2.GC_BGD, np.uint8)
    inner = (
        slice(box.top - area.top, box.bottom - area.top),
        slice(box.left - area.left, box.right - area.left),
    )
    labels[inner] = cv2.GC_PR_BGD
    labels[inner][_ellipse(*box.shape)] = cv2.GC_PR_FGD
    if np.all(labels != cv2.GC_BGD):  # the box is the whole frame: its rim has to stand for the background
        labels[[0, -1], :] = labels[:, [0, -1]] = cv2.GC_BGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its k-means is seeded per thread
    cv2.grabCut(crop, labels, None, models[0], models[1], _ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), np.bool_)


def _ellipse(rows: int, columns: int) -> NDArray[np.bool_]:
    y = (np.arange(rows) + 0.5) / rows * 2 - 1
    x = (np.arange(columns) + 0.5) / columns * 2 - 1
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2 <= 1, np.bool_)
