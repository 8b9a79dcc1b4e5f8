"""`WorkingSize`: between the frames' own pixels and the smaller ones that are worked on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_SMALLEST = 16
"""Shortest side that the optical flow accepts with room to spare."""


@dataclass(frozen=True, slots=True)
class WorkingSize:
    """Frames of `frame` `(H, W)` pixels, worked on at `size` `(h, w)`."""

    frame: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of(cls, frame: tuple[int, int], longer_side: int) -> WorkingSize:
        """Keeps the aspect; never enlarges, except frames too small for the flow.

        >>> WorkingSize.of((480, 854), 432).size
        (243, 432)
        """
        height, width = frame
        scale = min(1.0, longer_side / max(height, width))
        return cls(frame, (max(_SMALLEST, round(height * scale)), max(_SMALLEST, round(width * scale))))

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

    def grow(self, logits: NDArray[np.float32], top: int, left: int) -> tuple[NDArray[np.bool_], tuple[int, int]]:
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
        grown = cv2.warpAffine(
            logits,
            matrix,
            (max(x1 - x0, 1), max(y1 - y0, 1)),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(grown > 0, np.bool_), (y0, x0)
