"""`Clutter` and `Unsteadiness`: what a tracker learns about its detector from the stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LITTLE, MUCH = 0.1, 0.3
"""Shares of low scores between which a detector passes from clean to cluttered."""
MEMORY = 2000.0
"""Detections that are remembered: some seconds of a street, a minute of a lone walker."""
MIDDLE = 0.5
"""Scores below are low."""

STEADY, UNSTEADY = 0.02, 0.035
"""Mean changes of height, as logarithms, between which boxes pass from steady to unsteady."""
LARGE_CHANGE = 0.2


class Clutter:
    """How much of what a detector reports are low scores.

    A detector whose file was cut at its own working point has few of them, and nearly all it reports is there. One
    that reports everything down to a score of a few percent has false boxes among its middling scores too, and a
    track should not begin on those. On MOT17, half of YOLOX's boxes between 0.5 and 0.6 are false; of a KITTI
    detector that stops at 0.4, or of DanceTrack's, far fewer.
    """

    def __init__(self) -> None:
        self._low = self._all = 0.0

    def observe(self, scores: NDArray[np.float64]) -> None:
        """Takes in the scores of a frame, `(D,)`, those below the tracker's own threshold left out."""
        n = len(scores)
        kept = max(0.0, 1 - n / MEMORY)
        self._low = kept * self._low + float(np.count_nonzero(scores < MIDDLE))
        self._all = kept * self._all + n

    @property
    def level(self) -> float:
        """0: clean; 1: cluttered."""
        share = self._low / self._all if self._all else 0.0
        return min(1.0, max(0.0, (share - LITTLE) / (MUCH - LITTLE)))


class Unsteadiness:
    """How much a box's height changes from one frame to the next, on the mean over all tracks.

    Heights of detected boxes hardly change within a thirtieth of a second; what is seen is the detector's jitter, and
    at low frame rates or from a moving car true change. Where it is large, overlaps say less and places say more.
    """

    def __init__(self) -> None:
        self._sum = self._all = 0.0

    def observe(self, total: float, count: int) -> None:
        """Takes in a frame: the sum of absolute changes of the logarithm of the height, and of how many boxes."""
        kept = max(0.0, 1 - count / MEMORY)
        self._sum = kept * self._sum + total
        self._all = kept * self._all + count

    @property
    def mean(self) -> float:
        """Mean absolute change of the logarithm of the height."""
        return self._sum / self._all if self._all else 0.0

    @property
    def level(self) -> float:
        """0: steady; 1: unsteady."""
        return min(1.0, max(0.0, (self.mean - STEADY) / (UNSTEADY - STEADY)))
