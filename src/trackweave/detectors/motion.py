"""`MotionDetector`: whatever moves before a static camera, by background subtraction. Needs no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.base import check_image
from trackweave.detectors.settings import MotionSettings
from trackweave.masks.packed import PackedMasks
from trackweave.structures.detections import Detections

SHADOW = 127
"""OpenCV's label of pixels that are only darker than the background."""
FULL_CONTRAST = 64.0
"""Mean grey difference from the background, of 255, that counts as complete."""


class MotionDetector:
    """The connected regions of a background model's foreground, one detection with a mask each (Zivkovic 2004 `mog2`,
    Zivkovic and van der Heijden 2006 `knn`).

    Frames are worked on at a smaller size. While the model learns, and when most of the frame changes at once (a cut,
    the light switched on), nothing is reported; after such a change the background is learned anew. The score of a
    region is `sqrt(fill · contrast)`: its share of its box, and its mean grey difference from the background, 1 at 64
    of 255.

    Args:
        settings: None for the defaults.

    Attributes:
        name: `motion`.
        class_names: None: what moves has no class.
        scene_changes: frames without result because most of the frame moved, since the last `reset`.
    """

    name = "motion"
    class_names: Mapping[int, str] | None = None

    def __init__(self, settings: MotionSettings | None = None) -> None:
        self._settings = settings or MotionSettings()
        self.reset()

    def reset(self) -> None:
        """Another video begins: forgets the background and the counts."""
        self.scene_changes = 0
        self._frames = 0
        self._size: tuple[int, int] | None = None
        self._start_learning()

    def close(self) -> None:
        """Frees the background model."""
        self.reset()

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """Moving regions of the next frame, with masks; best score first.

        Args:
            image: `(H, W, 3)` uint8 RGB; a frame of another size than the one before starts anew.

        Raises:
            InputError: not such an image.
        """
        check_image(self.name, image)
        size = (image.shape[0], image.shape[1])
        if size != self._size:
            self._size = size
            self._start_learning()
        small = cv2.blur(cv2.resize(image, self._working_size(size), interpolation=cv2.INTER_AREA), (3, 3))
        # The mean of the first frames, then slowly: objects that pass must not become background.
        rate = 1 / (self._frames + 1) if self._frames < self._settings.warm_up else 1 / self._settings.history
        foreground = np.asarray(self._background.apply(small, learningRate=rate), np.uint8)
        self._frames += 1
        if self._frames <= self._settings.warm_up:
            return Detections.empty()
        moving = np.asarray(foreground > SHADOW, np.uint8)
        if moving.mean() > self._settings.max_change:
            self.scene_changes += 1
            self._start_learning()
            self._background.apply(small, learningRate=1.0)
            self._frames = 1
            return Detections.empty()
        return self._regions(_closed(moving), small, size)

    def _start_learning(self) -> None:
        create: Any = (
            cv2.createBackgroundSubtractorMOG2 if self._settings.model == "mog2" else cv2.createBackgroundSubtractorKNN
        )
        self._background = create(history=self._settings.history, detectShadows=True)
        self._frames = 0

    def _working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """`(width, height)` to work at."""
        ratio = min(1.0, self._settings.working_side / max(size))
        return max(1, round(size[1] * ratio)), max(1, round(size[0] * ratio))

    def _regions(self, moving: NDArray[np.uint8], small: Any, size: tuple[int, int]) -> Detections:
        """One detection per connected region of `moving`."""
        _, labels, stats, _ = cv2.connectedComponentsWithStats(moving, connectivity=8)
        area = stats[:, cv2.CC_STAT_AREA]
        large = np.flatnonzero(area >= max(1.0, self._settings.min_area * moving.size))
        large = large[large != 0]
        if not len(large):
            return Detections.empty()
        difference = cv2.absdiff(small, self._background.getBackgroundImage()).max(axis=2)
        boxes, scores, crops, origins = [], [], [], []
        for region in large:
            x, y, w, h, pixels = (int(v) for v in stats[region])
            inside = labels[y : y + h, x : x + w] == region
            contrast = min(1.0, float(difference[y : y + h, x : x + w][inside].mean()) / FULL_CONTRAST)
            scores.append((contrast * pixels / (w * h)) ** 0.5)
            box, crop = _enlarged(inside, (x, y), (moving.shape[0], moving.shape[1]), size)
            boxes.append(box)
            crops.append(crop)
            origins.append((box[1], box[0]))
        masks = PackedMasks.from_crops(crops, np.array(origins), *size)
        detections = Detections.of(boxes, scores, masks=masks)
        order = np.argsort(-detections.score, kind="stable")
        return detections[order[detections.score[order] >= self._settings.score_threshold]]


def _closed(moving: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Morphological opening, which removes specks, then closing, which fills gaps inside an object."""
    small, wide = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in (3, 9))
    opened = cv2.morphologyEx(moving, cv2.MORPH_OPEN, small)
    return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, wide), np.uint8)


def _enlarged(
    inside: NDArray[np.bool_], corner: tuple[int, int], working: tuple[int, int], size: tuple[int, int]
) -> tuple[tuple[int, int, int, int], NDArray[np.bool_]]:
    """Box xyxy and crop in the frame of a region at working size."""
    scale_y, scale_x = size[0] / working[0], size[1] / working[1]
    left, top = round(corner[0] * scale_x), round(corner[1] * scale_y)
    right = max(left + 1, round((corner[0] + inside.shape[1]) * scale_x))
    bottom = max(top + 1, round((corner[1] + inside.shape[0]) * scale_y))
    crop = cv2.resize(inside.view(np.uint8), (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
    return (left, top, right, bottom), np.asarray(crop, np.bool_)
