"""`TrailPainter`: tracked boxes over a video, each with the way it came."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes.convert import scale_boxes
from trackweave.formats.colours import track_colour
from trackweave.formats.overlay import draw_objects
from trackweave.structures.tracks import Tracks

Image = NDArray[np.uint8]
WIDE = 960
"""Pictures of this width, in pixels, and more get thicker lines."""
FRACTION_BITS = 4
"""OpenCV takes line ends as whole numbers of 1/16 pixel."""


class TrailPainter:
    """Draws boxes, ids, masks where there are any, and where each box stood on the frames before.

    Frames come in order; memory holds the last `length` frames of the tracks that were seen on them.

    Args:
        length: frames that a trail reaches back.
        max_width: wider pictures are made smaller to this width, in pixels.
    """

    def __init__(self, length: int = 45, max_width: int = 1280) -> None:
        self._length, self._max_width = length, max_width
        self._trails: dict[int, deque[tuple[int, float, float]]] = {}

    def follow(self, frame: int, tracks: Tracks) -> None:
        """Takes the tracks of the next frame into the trails; call it also for frames that are not drawn."""
        feet = np.stack([(tracks.xyxy[:, 0] + tracks.xyxy[:, 2]) / 2, tracks.xyxy[:, 3]], axis=1)
        for track_id, (x, y) in zip(tracks.track_id.tolist(), feet.tolist(), strict=True):
            self._trails.setdefault(track_id, deque()).append((frame, x, y))
        for track_id in list(self._trails):
            trail = self._trails[track_id]
            while trail and trail[0][0] <= frame - self._length:
                trail.popleft()
            if not trail:
                del self._trails[track_id]

    def paint(self, image: Image, tracks: Tracks) -> Image:
        """The frame that was followed last, with its tracks.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            tracks: boxes in pixels of the image.

        Returns:
            `(h, w, 3)` uint8 RGB of at most `max_width`.
        """
        import cv2

        height, width = image.shape[:2]
        ratio = min(1.0, self._max_width / width)
        if ratio < 1:
            size = (round(width * ratio), round(height * ratio))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        scale = np.array([image.shape[1] / width, image.shape[0] / height])
        boxes = scale_boxes(tracks.xyxy, float(scale[0]), float(scale[1]))
        thickness = 2 if image.shape[1] >= WIDE else 1
        canvas = draw_objects(image, tracks.track_id, tracks.masks, boxes, thickness=thickness)
        for track_id in tracks.track_id.tolist():
            self._line(canvas, track_id, scale)
        return canvas

    def _line(self, canvas: Image, track_id: int, scale: NDArray[Any]) -> None:
        import cv2

        trail = self._trails.get(track_id)
        if trail is None or len(trail) < 2:
            return
        points = np.rint(np.array([point[1:] for point in trail]) * scale * (1 << FRACTION_BITS))
        line = np.clip(points, -(2**30), 2**30).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(canvas, [line], False, track_colour(track_id), 2, cv2.LINE_AA, FRACTION_BITS)
