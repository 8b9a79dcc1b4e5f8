"""`HogDetector`: upright people by histograms of gradients, as OpenCV ships it. Needs no weights.

Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import clip_boxes
from trackweave.detectors.onnx import suppress
from trackweave.errors import InputError, SettingError
from trackweave.structures.detections import Detections

PERSON = 0
WINDOW = (64, 128)
MARGINS = (0.20, 0.12, 0.20, 0.14)
"""Left, top, right, bottom part of the window around a person: medians over pedestrians of MOT17."""
EVEN_MARGIN, STEEPNESS = 1.0, 3.0
"""Where the classifier's margin is right half of the time, and how fast that changes: the same pedestrians."""
LARGEST_GROWTH = 2.0


class HogDetector:
    """People that stand or walk and are seen whole; at `working_height` they must be about 100 pixels high.

    The score is `1 / (1 + exp(−3 · (m − 1)))` of the classifier's margin m: about the share of such windows that hold
    a person. Boxes are the windows less the margin that the classifier was trained with.

    Args:
        score_threshold: lowest score of a detection.
        iou_threshold: a window that overlaps a better one by more is left out.
        working_height: height to which frames are resized (grown at most twice); higher finds smaller people and
            costs the square: 0.4 s of one core for 720.
        scale: ratio of neighbouring sizes that are searched.

    Attributes:
        name: `hog`.
        class_names: `{0: "person"}`.

    Raises:
        SettingError: a setting out of its range.
    """

    name = "hog"
    class_names: Mapping[int, str] | None = {PERSON: "person"}

    def __init__(
        self,
        *,
        score_threshold: float = 0.1,
        iou_threshold: float = 0.5,
        working_height: int = 720,
        scale: float = 1.05,
    ) -> None:
        if not (0 < score_threshold < 1 and 0 <= iou_threshold <= 1):
            raise SettingError("hog: score_threshold is between 0 and 1, iou_threshold in [0, 1]")
        if working_height < WINDOW[1] or not 1.01 <= scale <= 2:
            raise SettingError(f"hog: working_height is at least {WINDOW[1]} pixels, scale from 1.01 to 2")
        self._lowest = EVEN_MARGIN + float(np.log(score_threshold / (1 - score_threshold))) / STEEPNESS
        self._iou, self._height, self._scale = iou_threshold, working_height, scale
        self._descriptor = cv2.HOGDescriptor()
        self._descriptor.setSVMDetector(np.asarray(cv2.HOGDescriptor.getDefaultPeopleDetector()))

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """People on one frame, best first.

        Args:
            image: `(H, W, 3)` uint8 RGB; smaller than one window (64×128) at working size: nobody is found.

        Raises:
            InputError: not such an image.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(f"hog: a frame is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        ratio = min(LARGEST_GROWTH, self._height / image.shape[0])
        width, height = round(image.shape[1] * ratio), round(image.shape[0] * ratio)
        if width < WINDOW[0] or height < WINDOW[1]:
            return Detections.empty()
        way = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        windows, margins = self._search(np.asarray(cv2.resize(image, (width, height), interpolation=way), np.uint8))
        sides = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        boxes = clip_boxes(_persons(windows) * sides, image.shape[0], image.shape[1])
        score = (1 / (1 + np.exp(-STEEPNESS * (margins - EVEN_MARGIN)))).astype(np.float32)
        classes = np.full(len(boxes), PERSON, np.int64)
        kept = suppress(boxes, score, classes, self._iou)
        found = Detections.of(boxes[kept], score[kept], classes[kept])
        return found[np.flatnonzero((found.xyxy[:, 2:] > found.xyxy[:, :2]).all(axis=1))]

    def reset(self) -> None:
        """Nothing to forget: frames do not know each other."""

    def close(self) -> None:
        """Holds nothing."""

    def _search(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Windows `(N, 4)` x, y, w, h at working size, ungrouped, and their margins `(N,)`."""
        windows, margins = self._descriptor.detectMultiScale(
            cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
            hitThreshold=self._lowest,
            winStride=(8, 8),
            padding=(16, 16),
            scale=self._scale,
            groupThreshold=0,
        )
        return np.asarray(windows, np.float64).reshape(-1, 4), np.asarray(margins, np.float64).reshape(-1)


def _persons(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Windows x, y, w, h → xyxy of the person inside."""
    left, top, right, bottom = MARGINS
    x, y, w, h = windows.T
    return np.stack([x + left * w, y + top * h, x + (1 - right) * w, y + (1 - bottom) * h], axis=1)
