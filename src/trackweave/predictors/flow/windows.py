"""Coordinates of the flow predictor: `PixelWindow`, a rectangle of a working frame, and `WorkingSize`, the conversion
between the video's own pixels and the working pixels, usually fewer, in which objects are propagated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class PixelWindow(NamedTuple):
    """Rows `top … bottom`, columns `left … right`, ends exclusive, in working pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, mask: NDArray[np.bool_], top: int = 0, left: int = 0) -> PixelWindow:
        """The tight window of a mask that is not empty; `top` and `left` say where the mask's own corner lies."""
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        return cls(top + y, top + y + height, left + x, left + x + width)

    @property
    def shape(self) -> tuple[int, int]:
        """`(rows, columns)`."""
        return self.bottom - self.top, self.right - self.left

    @property
    def centre(self) -> tuple[float, float]:
        """`(x, y)`."""
        return (self.left + self.right - 1) / 2, (self.top + self.bottom - 1) / 2

    @property
    def half_size(self) -> tuple[float, float]:
        """`(x, y)`, at least 4 pixels each."""
        return max((self.right - self.left + 1) / 2, 4.0), max((self.bottom - self.top + 1) / 2, 4.0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing an array of the whole frame."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def margin(self) -> int:
        """Pixels around a mask with this window that a step considers: a fifth of its size, at least 20."""
        rows, columns = self.shape
        return int(max(20, 0.2 * np.sqrt(rows * columns)))

    def grow(self, by: float, frame: tuple[int, int]) -> PixelWindow:
        """Larger by `by` on each side, within a frame `(h, w)`."""
        return PixelWindow(
            int(max(self.top - by, 0)),
            int(min(self.bottom + by, frame[0])),
            int(max(self.left - by, 0)),
            int(min(self.right + by, frame[1])),
        )

    def join(self, other: PixelWindow) -> PixelWindow:
        """The smallest window around both."""
        return PixelWindow(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )


_MIN_SIDE = 16
"""Shortest side of a working frame, in pixels; OpenCV's DIS flow needs somewhat less."""


@dataclass(frozen=True, slots=True)
class WorkingSize:
    """The size `(H, W)` of a video's frames and the working size `(h, w)`."""

    frame: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of(cls, frame: tuple[int, int], longer_side: int) -> WorkingSize:
        """The working size for a longer side: keeps the aspect and enlarges only frames too small for the flow.

        >>> WorkingSize.of((480, 854), 432).size
        (243, 432)
        """
        height, width = frame
        scale = min(1.0, longer_side / max(height, width))
        return cls(frame, (max(_MIN_SIDE, round(height * scale)), max(_MIN_SIDE, round(width * scale))))

    @property
    def scale(self) -> tuple[float, float]:
        """Frame pixels per working pixel, `(y, x)`."""
        return self.frame[0] / self.size[0], self.frame[1] / self.size[1]

    def shrink_frame(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`(H, W, 3)` uint8 to `(h, w, 3)`."""
        if self.frame == self.size:
            return rgb
        return np.asarray(cv2.resize(rgb, self.size[::-1], interpolation=cv2.INTER_AREA), np.uint8)

    def shrink_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """`(H, W)` bool to `(h, w)`: pixels at least half covered, or else, for tiny objects, the most covered ones."""
        if self.frame == self.size:
            return mask
        share = cv2.resize(mask.astype(np.float32), self.size[::-1], interpolation=cv2.INTER_AREA)
        return np.asarray(share >= min(0.5, float(share.max())), np.bool_)

    def enlarge(self, logits: NDArray[np.float32], top: int, left: int) -> tuple[NDArray[np.bool_], tuple[int, int]]:
        """Enlarges a crop of log-odds to frame pixels and thresholds it at zero.

        Args:
            logits: `(h', w')` float32.
            top: working row of the crop's first row.
            left: working column of the crop's first column.

        Returns:
            The crop in frame pixels, bool, and its `(y, x)` in the frame.
        """
        if self.frame == self.size:
            return logits > 0, (top, left)
        scale_y, scale_x = self.scale
        y0, x0 = int(np.ceil(top * scale_y)), int(np.ceil(left * scale_x))
        y1 = min(self.frame[0], int(np.floor((top + logits.shape[0]) * scale_y)))
        x1 = min(self.frame[1], int(np.floor((left + logits.shape[1]) * scale_x)))
        # Pixel centres: frame pixel y lies at working coordinate (y + 0.5) / scale - 0.5.
        matrix = np.array(
            [
                [1 / scale_x, 0, (x0 + 0.5) / scale_x - 0.5 - left],
                [0, 1 / scale_y, (y0 + 0.5) / scale_y - 0.5 - top],
            ]
        )
        enlarged = cv2.warpAffine(
            logits,
            matrix,
            (max(x1 - x0, 1), max(y1 - y0, 1)),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(enlarged > 0, np.bool_), (y0, x0)
