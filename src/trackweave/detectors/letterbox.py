"""Fitting frames to a model's input, and the model's boxes back to the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.boxes.convert import clip_boxes

Resize = Literal["letterbox", "corner", "stretch"]
"""`letterbox`: aspect kept, centred; `corner`: aspect kept, in the top left corner; `stretch`: aspect not kept."""

GREY = 114
"""What the YOLO family pads with."""


@dataclass(frozen=True)
class Placement:
    """Where a frame lies in the model's input: `input = frame · scale + offset`, per axis.

    Attributes:
        scale: `(x, y)`, input pixels per frame pixel, after rounding to whole pixels.
        offset: `(x, y)` input pixels of padding before the frame.
        size: `(H, W)` of the frame.
    """

    scale: tuple[float, float]
    offset: tuple[int, int]
    size: tuple[int, int]

    def to_frame(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """`(N, 4)` xyxy of the input → `(N, 4)` float32 xyxy of the frame, clipped to it."""
        boxes = (xyxy - np.array(self.offset * 2, np.float64)) / np.array(self.scale * 2, np.float64)
        return clip_boxes(boxes, *self.size)


def fit(image: NDArray[np.uint8], size: tuple[int, int], how: Resize) -> tuple[NDArray[np.uint8], Placement]:
    """Resizes a frame to a model's input.

    Args:
        image: `(H, W, 3)` uint8.
        size: `(H, W)` of the input.
        how: keeps the aspect and pads with grey, or stretches.

    Returns:
        `(*size, 3)` uint8, and where the frame lies in it.
    """
    (height, width), (frame_height, frame_width) = size, image.shape[:2]
    ratio = min(height / frame_height, width / frame_width)
    inner_height, inner_width = (max(1, round(side * ratio)) for side in (frame_height, frame_width))
    if how == "stretch":
        inner_height, inner_width = height, width
    top, left = ((height - inner_height) // 2, (width - inner_width) // 2) if how == "letterbox" else (0, 0)
    placement = Placement(
        (inner_width / frame_width, inner_height / frame_height), (left, top), (frame_height, frame_width)
    )
    inner: NDArray[np.uint8] = image
    if (inner_height, inner_width) != (frame_height, frame_width):
        inner = np.asarray(cv2.resize(image, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR), np.uint8)
    if (inner_height, inner_width) == (height, width):
        return inner, placement
    padded = np.full((height, width, 3), GREY, np.uint8)
    padded[top : top + inner_height, left : left + inner_width] = inner
    return padded, placement
