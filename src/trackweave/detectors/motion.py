"""`MotionDetector`: what moves before a camera that does not, by background subtraction. Needs no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.structures.detections import Detections

SHADOW = 127
"""OpenCV's mark for pixels that are only darker than the background."""
FULL_CONTRAST = 64.0
"""Mean grey difference from the background, of 255, that counts as complete."""


class MotionDetector:
    """Foreground of a background model (Zivkovic 2004 `mog2`, Zivkovic and van der Heijden 2006 `knn`), in pieces.

    Each connected piece gives one detection with its mask. Frames are worked on at a smaller size. While the model
    learns, and when most of the frame changes at once (a cut, the light switched on), nothing is reported; after such
    a change the background is learnt anew. The score of a piece is `sqrt(fill · contrast)`: its share of its box, and
    its mean grey difference from the background, complete at 64 of 255.

    Args:
        model: `mog2` or `knn`.
        min_area: smallest piece as part of the frame's area.
        max_change: largest part of the frame that may move; more is a change of the whole scene.
        warm_up: frames that only teach the background, at the start and after a change of scene.
        history: frames that the background remembers.
        working_side: longer side, in pixels, of the frames that are worked on.
        score_threshold: lowest score of a detection.

    Attributes:
        name: `motion`.
        class_names: None: what moves has no class.
        scene_changes: frames without result because most of the frame moved, since the last `reset`.

    Raises:
        SettingError: a setting out of its range.
    """

    name = "motion"
    class_names: Mapping[int, str] | None = None

    def __init__(
        self,
        *,
        model: Literal["mog2", "knn"] = "mog2",
        min_area: float = 0.0005,
        max_change: float = 0.5,
        warm_up: int = 5,
        history: int = 300,
        working_side: int = 640,
        score_threshold: float = 0.0,
    ) -> None:
        _check(model, min_area, max_change, warm_up, history, working_side)
        self._model = model
        self._min_area, self._max_change = min_area, max_change
        self._warm_up, self._history = warm_up, history
        self._side, self._threshold = working_side, score_threshold
        self.reset()

    def reset(self) -> None:
        """Another video begins: forgets the background and the counts."""
        self.scene_changes = 0
        self._seen = 0
        self._size: tuple[int, int] | None = None
        self._start_learning()

    def close(self) -> None:
        """Frees the background model."""
        self.reset()

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """What moves on the next frame, with masks; best score first.

        Args:
            image: `(H, W, 3)` uint8 RGB; a frame of another size than the one before starts anew.

        Raises:
            InputError: not such an image.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(f"motion: a frame is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        size = (image.shape[0], image.shape[1])
        if size != self._size:
            self._size = size
            self._start_learning()
        small = cv2.blur(cv2.resize(image, self._working_size(size), interpolation=cv2.INTER_AREA), (3, 3))
        # The mean of the first frames, then slowly: what moves through must not become background.
        rate = 1 / (self._seen + 1) if self._seen < self._warm_up else 1 / self._history
        foreground = np.asarray(self._background.apply(small, learningRate=rate), np.uint8)
        self._seen += 1
        if self._seen <= self._warm_up:
            return Detections.empty()
        moving = np.asarray(foreground > SHADOW, np.uint8)
        if moving.mean() > self._max_change:
            self.scene_changes += 1
            self._start_learning()
            self._background.apply(small, learningRate=1.0)
            self._seen = 1
            return Detections.empty()
        return self._pieces(_closed(moving), small, size)

    def _start_learning(self) -> None:
        make: Any = cv2.createBackgroundSubtractorMOG2 if self._model == "mog2" else cv2.createBackgroundSubtractorKNN
        self._background = make(history=self._history, detectShadows=True)
        self._seen = 0

    def _working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """`(width, height)` to work at."""
        ratio = min(1.0, self._side / max(size))
        return max(1, round(size[1] * ratio)), max(1, round(size[0] * ratio))

    def _pieces(self, moving: NDArray[np.uint8], small: Any, size: tuple[int, int]) -> Detections:
        """One detection per connected piece of `moving`."""
        _, labels, stats, _ = cv2.connectedComponentsWithStats(moving, connectivity=8)
        area = stats[:, cv2.CC_STAT_AREA]
        big = np.flatnonzero(area >= max(1.0, self._min_area * moving.size))
        big = big[big != 0]
        if not len(big):
            return Detections.empty()
        difference = cv2.absdiff(small, self._background.getBackgroundImage()).max(axis=2)
        boxes, scores, crops, origins = [], [], [], []
        for piece in big:
            x, y, w, h, pixels = (int(v) for v in stats[piece])
            inside = labels[y : y + h, x : x + w] == piece
            contrast = min(1.0, float(difference[y : y + h, x : x + w][inside].mean()) / FULL_CONTRAST)
            scores.append((contrast * pixels / (w * h)) ** 0.5)
            box, crop = _enlarged(inside, (x, y), (moving.shape[0], moving.shape[1]), size)
            boxes.append(box)
            crops.append(crop)
            origins.append((box[1], box[0]))
        masks = PackedMasks.from_crops(crops, np.array(origins), *size)
        found = Detections.of(boxes, scores, masks=masks)
        order = np.argsort(-found.score, kind="stable")
        return found[order[found.score[order] >= self._threshold]]


def _closed(moving: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without specks, and with the gaps inside an object filled."""
    small, large = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in (3, 9))
    opened = cv2.morphologyEx(moving, cv2.MORPH_OPEN, small)
    return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, large), np.uint8)


def _enlarged(
    inside: NDArray[np.bool_], corner: tuple[int, int], working: tuple[int, int], size: tuple[int, int]
) -> tuple[tuple[int, int, int, int], NDArray[np.bool_]]:
    """A piece at working size as its box xyxy and crop in the frame."""
    scale_y, scale_x = size[0] / working[0], size[1] / working[1]
    left, top = round(corner[0] * scale_x), round(corner[1] * scale_y)
    right = max(left + 1, round((corner[0] + inside.shape[1]) * scale_x))
    bottom = max(top + 1, round((corner[1] + inside.shape[0]) * scale_y))
    crop = cv2.resize(inside.view(np.uint8), (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
    return (left, top, right, bottom), np.asarray(crop, np.bool_)


def _check(model: str, min_area: float, max_change: float, warm_up: int, history: int, side: int) -> None:
    if model not in ("mog2", "knn"):
        raise SettingError(f"motion: there is no background model {model!r}; known: mog2, knn")
    if not (0 <= min_area < 1 and 0 < max_change <= 1):
        raise SettingError("motion: min_area and max_change are parts of the frame, between 0 and 1")
    if warm_up < 1 or history < 1 or side < 16:
        raise SettingError("motion: warm_up and history are at least 1 frame, working_side 16 pixels")
