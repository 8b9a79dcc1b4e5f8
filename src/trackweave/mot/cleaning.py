"""Which of a frame's detections a tracker can use, and why not the others."""

from __future__ import annotations

from enum import StrEnum

import numba
import numpy as np
from numba import float32, float64, int64, types
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.structures.detections import Detections


class Fault(StrEnum):
    """Why a detection is left out."""

    not_finite = "a coordinate or the score is not a finite number"
    inverted = "its right or bottom lies before its left or top"
    zero_size = "it has no area"
    outside = "it lies outside the image"
    duplicate = "it repeats another one"


FAULTS = (None, *Fault)


def _read(dtype: types.Type, dimensions: int) -> types.Array:
    """An array that need not be writable: columns of tables and memory maps are not."""
    return types.Array(dtype, dimensions, "A", readonly=True)


@numba.njit(
    int64(
        _read(float32, 2), _read(float32, 1), _read(int64, 1), float64, float64, float64, float64[:, ::1], int64[::1]
    ),
    cache=True,
)
def usable(
    xyxy: NDArray[np.float32],
    scores: NDArray[np.float32],
    classes: NDArray[np.int64],
    threshold: float,
    height: float,
    width: float,
    boxes: NDArray[np.float64],
    verdict: NDArray[np.int64],
) -> int:
    """Writes boxes as centre x, centre y, width, height and a verdict each: 0 good, −1 below the threshold, else the
    number of the fault in `FAULTS`; returns the number of faults.

    `height` and `width` of the image may be infinite.
    """
    faults = 0
    n = len(xyxy)
    for d in range(n):
        x1, y1, x2, y2, score = xyxy[d, 0], xyxy[d, 1], xyxy[d, 2], xyxy[d, 3], scores[d]
        verdict[d] = 0
        if not (np.isfinite(x1) and np.isfinite(y1) and np.isfinite(x2) and np.isfinite(y2) and np.isfinite(score)):
            verdict[d] = 1
        elif x2 < x1 or y2 < y1:
            verdict[d] = 2
        elif x2 == x1 or y2 == y1:
            verdict[d] = 3
        elif x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
            verdict[d] = 4
        elif score < threshold:
            verdict[d] = -1
        if verdict[d] > 0:
            faults += 1
        boxes[d, 0], boxes[d, 1] = 0.5 * (float64(x1) + x2), 0.5 * (float64(y1) + y2)
        boxes[d, 2], boxes[d, 3] = float64(x2) - x1, float64(y2) - y1
    for d in range(n):
        if verdict[d] != 0:
            continue
        for e in range(d):
            same = boxes[d, 0] == boxes[e, 0] and boxes[d, 1] == boxes[e, 1] and boxes[d, 2] == boxes[e, 2]
            if same and verdict[e] == 0 and boxes[d, 3] == boxes[e, 3] and classes[d] == classes[e]:
                verdict[d] = 5
                faults += 1
                break
    return faults


def complain(frame: int, detections: Detections, verdict: NDArray[np.int64]) -> InputError:
    """The error that names a frame's first fault."""
    row = int(np.flatnonzero(verdict > 0)[0])
    box = ", ".join(f"{value:g}" for value in detections.xyxy[row])
    reason = FAULTS[int(verdict[row])]
    return InputError(
        f"frame {frame}, detection {row} ({box}; score {detections.score[row]:g}): {reason} "
        f"(on_bad_item='skip' leaves such detections out)"
    )
