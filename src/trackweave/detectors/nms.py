"""Non-maximum suppression: of boxes of one class that overlap, the best stays."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

MOST = 3000
"""The most boxes that are compared, best first: the time grows with their square."""


def suppress(
    xyxy: NDArray[np.float32],
    score: NDArray[np.float32],
    class_id: NDArray[np.int64],
    iou_threshold: float,
    most: int = MOST,
) -> NDArray[np.int64]:
    """Greedy class-wise suppression by OpenCV.

    Args:
        xyxy: `(N, 4)` float32 boxes.
        score: `(N,)` float32.
        class_id: `(N,)` int64; boxes of different classes never suppress each other.
        iou_threshold: a box goes when its IoU with a better box that stays is above this.
        most: boxes that take part at all, best first.

    Returns:
        `(K,)` int64 rows that stay, best score first; ties in the order given.
    """
    order = np.argsort(-score, kind="stable")[:most]
    if not len(order):
        return order
    boxes = xyxy[order].astype(np.float64)
    # OpenCV keeps classes apart by moving each beyond the largest coordinate: that needs coordinates from 0 up.
    boxes[:, :2], boxes[:, 2:] = boxes[:, :2] - boxes[:, :2].min(0), boxes[:, 2:] - boxes[:, :2]
    # It sorts by score itself, but not stably: ranks keep the order.
    rank = np.arange(len(order), 0, -1, dtype=np.float32)
    classes = np.unique(class_id[order], return_inverse=True)[1].astype(np.int32)
    batched: Any = cv2.dnn.NMSBoxesBatched  # its stubs know sequences of floats only; arrays are faster
    kept = batched(boxes, rank, classes, -1.0, iou_threshold)
    return order[np.sort(np.asarray(kept, np.int64).reshape(-1))]
