"""`Window`: a rectangle of a working frame."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class Window(NamedTuple):
    """Rows `top … bottom`, columns `left … right`, ends exclusive, in working pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, mask: NDArray[np.bool_], top: int = 0, left: int = 0) -> Window:
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
        """How far around a mask with this window one looks: a share of its size, but never little."""
        rows, columns = self.shape
        return int(max(20, 0.2 * np.sqrt(rows * columns)))

    def grow(self, by: float, frame: tuple[int, int]) -> Window:
        """Larger by `by` on each side, within a frame `(h, w)`."""
        return Window(
            int(max(self.top - by, 0)),
            int(min(self.bottom + by, frame[0])),
            int(max(self.left - by, 0)),
            int(min(self.right + by, frame[1])),
        )

    def join(self, other: Window) -> Window:
        """The smallest window around both."""
        return Window(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )
