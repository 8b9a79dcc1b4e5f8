"""`HogDetector`: upright people by histograms of gradients, as OpenCV ships it. Needs no weights.

Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import clip_boxes
from trackweave.detectors.base import check_image, non_maximum_suppression
from trackweave.detectors.settings import HogSettings
from trackweave.structures.detections import Detections

PERSON = 0
WINDOW = (64, 128)
MARGINS = (0.20, 0.12, 0.20, 0.14)
"""Margins of a window around a person, left, top, right, bottom, as shares of its size: medians over MOT17."""
LOGISTIC_CENTRE, LOGISTIC_SLOPE = 1.0, 3.0
"""Of the probability that a window holds a person, as a function of the classifier's margin: fitted on MOT17 too."""
MAX_ENLARGEMENT = 2.0


class HogDetector:
    """People that stand or walk and are wholly visible; at `working_height` they must be about 100 pixels high.

    The score is `1 / (1 + exp(−3 · (m − 1)))` of the classifier's margin m: about the share of such windows that hold
    a person. Boxes are the windows less the margin that the classifier was trained with.

    Args:
        settings: None for the defaults.

    Attributes:
        name: `hog`.
        class_names: `{0: "person"}`.
    """

    name = "hog"
    class_names: Mapping[int, str] | None = {PERSON: "person"}

    def __init__(self, settings: HogSettings | None = None) -> None:
        self._settings = settings or HogSettings()
        odds = self._settings.score_threshold / (1 - self._settings.score_threshold)
        self._min_margin = LOGISTIC_CENTRE + float(np.log(odds)) / LOGISTIC_SLOPE
        self._descriptor = cv2.HOGDescriptor()
        self._descriptor.setSVMDetector(np.asarray(cv2.HOGDescriptor.getDefaultPeopleDetector()))

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """People on one frame, best first.

        Args:
            image: `(H, W, 3)` uint8 RGB; smaller than one window (64×128) at working size: no detections.

        Raises:
            InputError: not such an image.
        """
        check_image(self.name, image)
        ratio = min(MAX_ENLARGEMENT, self._settings.working_height / image.shape[0])
        width, height = round(image.shape[1] * ratio), round(image.shape[0] * ratio)
        if width < WINDOW[0] or height < WINDOW[1]:
            return Detections.empty()
        interpolation = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        resized = np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)
        windows, margins = self._search(resized)
        scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        boxes = clip_boxes(_person_boxes(windows) * scale, image.shape[0], image.shape[1])
        score = (1 / (1 + np.exp(-LOGISTIC_SLOPE * (margins - LOGISTIC_CENTRE)))).astype(np.float32)
        classes = np.full(len(boxes), PERSON, np.int64)
        kept = non_maximum_suppression(boxes, score, classes, self._settings.iou_threshold)
        detections = Detections.of(boxes[kept], score[kept], classes[kept])
        return detections[np.flatnonzero((detections.xyxy[:, 2:] > detections.xyxy[:, :2]).all(axis=1))]

    def reset(self) -> None:
        """Nothing to do: nothing is kept between frames."""

    def close(self) -> None:
        """Nothing to do: nothing is held."""

    def _search(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Windows `(N, 4)` x, y, w, h at working size, ungrouped, and their margins `(N,)`."""
        windows, margins = self._descriptor.detectMultiScale(
            cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
            hitThreshold=self._min_margin,
            winStride=(8, 8),
            padding=(16, 16),
            scale=self._settings.scale,
            groupThreshold=0,
        )
        return np.asarray(windows, np.float64).reshape(-1, 4), np.asarray(margins, np.float64).reshape(-1)


def _person_boxes(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Windows x, y, w, h → xyxy of the person inside."""
    left, top, right, bottom = MARGINS
    x, y, w, h = windows.T
    return np.stack([x + left * w, y + top * h, x + (1 - right) * w, y + (1 - bottom) * h], axis=1)
