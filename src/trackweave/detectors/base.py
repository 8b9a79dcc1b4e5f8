"""What a detector is: the one Protocol behind which models and weights-free detectors stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trackweave.structures.detections import Detections


@runtime_checkable
class Detector(Protocol):
    """Sees objects on frames, one frame at a time, in the order of the video."""

    @property
    def name(self) -> str:
        """The name on the command line."""

    @property
    def class_names(self) -> Mapping[int, str] | None:
        """Names by class id; None when the detector does not know."""

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """Detections of one frame, best score first, boxes clipped to the frame.

        Args:
            image: `(H, W, 3)` uint8 RGB; not written to.

        Raises:
            InputError: the frame cannot be used, or the detector failed on it.
        """

    def reset(self) -> None:
        """Another video begins: forgets what was learnt from this one."""

    def close(self) -> None:
        """Releases memory and devices."""
