"""`Scene`: what a camera has before it: true boxes in pixels and how much of them can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.association.simulation.occlusion import Sightings


@dataclass(frozen=True, eq=False)
class Scene:
    """N objects on F frames.

    Attributes:
        size: `(H, W)` pixels.
        dt: seconds between frames, on average.
        boxes: `(F, N, 4)` float64 xyxy of the whole objects.
        there: `(F, N)` bool: in the picture, and something that a detector looks for.
        seen: how much of them is visible.
        track_id: `(N,)` int64, above 0.
        class_id: `(N,)` int64.
        camera: `(F, 2, 3)` float64, how the picture moved since the frame before.
    """

    size: tuple[int, int]
    dt: float
    boxes: NDArray[np.float64]
    there: NDArray[np.bool_]
    seen: Sightings
    track_id: NDArray[np.int64]
    class_id: NDArray[np.int64]
    camera: NDArray[np.float64]
