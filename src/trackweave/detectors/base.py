"""`Detector`: the one protocol behind which models and weights-free detectors stand, and what detectors share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.structures.detections import Detections

MAX_COMPARED = 3000
"""The largest number of boxes that suppression compares, best first: its time grows with the square."""


@runtime_checkable
class Detector(Protocol):
    """Detects objects on frames, one frame at a time, in the order of the video."""

    @property
    def name(self) -> str:
        """The name on the command line."""

    @property
    def class_names(self) -> Mapping[int, str] | None:
        """Names by class id; None when the detector does not know."""

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """Detections of one frame, best score first, boxes clipped to the frame.

        Args:
            image: `(H, W, 3)` uint8 RGB; not written to.

        Raises:
            InputError: the frame cannot be used, or the detector failed on it.
        """

    def reset(self) -> None:
        """Another video begins: forgets what was learned from this one."""

    def close(self) -> None:
        """Releases memory and devices."""


def check_image(name: str, image: NDArray[np.uint8]) -> None:
    """Refuses what is not a frame.

    Args:
        name: of the detector, for the message.
        image: anything.

    Raises:
        InputError: not `(H, W, 3)` uint8 with H, W ≥ 1.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(f"{name}: a frame is (H, W, 3) uint8, not {image.shape} {image.dtype}")


def non_maximum_suppression(
    xyxy: NDArray[np.float32],
    score: NDArray[np.float32],
    class_id: NDArray[np.int64],
    iou_threshold: float,
    max_compared: int = MAX_COMPARED,
) -> NDArray[np.int64]:
    """Greedy class-wise suppression, by OpenCV: of boxes of one class that overlap, the best stays.

    Args:
        xyxy: `(N, 4)` float32 boxes.
        score: `(N,)` float32.
        class_id: `(N,)` int64; boxes of different classes never suppress each other.
        iou_threshold: a box is dropped when its IoU with a better box that stays is above this.
        max_compared: number of boxes that take part at all, best first.

    Returns:
        `(K,)` int64 rows that stay, best score first; equal scores in the order of the input.
    """
    import cv2

    order = np.argsort(-score, kind="stable")[:max_compared]
    if not len(order):
        return order
    boxes = xyxy[order].astype(np.float64)
    # OpenCV keeps classes apart by moving each beyond the largest coordinate: that needs coordinates from 0 up.
    boxes[:, :2], boxes[:, 2:] = boxes[:, :2] - boxes[:, :2].min(0), boxes[:, 2:] - boxes[:, :2]
    # It sorts by score itself, but not stably: ranks as scores keep our order.
    rank = np.arange(len(order), 0, -1, dtype=np.float32)
    classes = np.unique(class_id[order], return_inverse=True)[1].astype(np.int32)
    batched: Any = cv2.dnn.NMSBoxesBatched  # its stubs know sequences of floats only; arrays are faster
    kept = batched(boxes, rank, classes, -1.0, iou_threshold)
    return order[np.sort(np.asarray(kept, np.int64).reshape(-1))]
