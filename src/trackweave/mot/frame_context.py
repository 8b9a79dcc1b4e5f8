"""`FrameContext`: what a tracker is told about a frame besides its detections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FrameContext:
    """One frame of a stream.

    Attributes:
        index: frame index, larger than that of the frame before.
        time: seconds, larger than before; None: the index over the frame rate.
        camera: `(2, 3)` float64 that maps pixels of the frame before to this one's; None: the camera stood still.
        size: `(H, W)` in pixels; None: as told to the tracker.
    """

    index: int
    time: float | None = None
    camera: NDArray[np.float64] | None = None
    size: tuple[int, int] | None = None
