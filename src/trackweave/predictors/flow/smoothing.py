"""Edge-aware smoothing of log-odds: mean field of a dense random field with truncated, sparse neighbourhoods.

After Krähenbühl and Koltun (NIPS 2011) and, for the truncation, Teichmann and Cipolla's ConvCRF (2018). The
affinities belong to the frame, so objects share them.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from trackweave.predictors.flow.features import OFFSETS, Features
from trackweave.predictors.flow.window import Window

_RING_WEIGHTS = (1 / np.hypot(OFFSETS[:, 0], OFFSETS[:, 1])).astype(np.float32)
_RING_WEIGHTS /= _RING_WEIGHTS.sum() / 4


def smooth(
    logits: NDArray[np.float32], features: Features, window: Window, strength: float, rounds: int
) -> NDArray[np.float32]:
    """Smooths log-odds along the image.

    Args:
        logits: `(rows, columns)` float32 of `window`.
        features: of the frame.
        window: where the logits lie.
        strength: how much all neighbours of the same colour weigh against a pixel's own evidence, over four.
        rounds: of mean field.

    Returns:
        New log-odds of the same shape.
    """
    if not rounds or not strength:
        return logits
    return _mean_field(logits, features.affinity, OFFSETS, window.top, window.left, _RING_WEIGHTS * strength, rounds)


@njit(cache=True, nogil=True, fastmath=True)
def _mean_field(
    logits: NDArray[np.float32],
    affinity: NDArray[np.float32],
    offsets: NDArray[np.int32],
    top: int,
    left: int,
    weights: NDArray[np.float32],
    rounds: int,
) -> NDArray[np.float32]:
    height, width = logits.shape
    current = logits
    label = np.empty_like(logits)
    message = np.empty_like(logits)
    for _ in range(rounds):
        for y in range(height):
            for x in range(width):
                decay = np.exp(-min(max(current[y, x], np.float32(-12)), np.float32(12)))
                label[y, x] = (1 - decay) / (1 + decay)
                message[y, x] = 0
        for k in range(offsets.shape[0]):
            dy, dx = offsets[k]
            weight = weights[k]
            start, stop = max(0, -dx), min(width, width - dx)
            for y in range(height - dy):
                for x in range(start, stop):
                    message[y, x] += weight * affinity[k, top + y, left + x] * label[y + dy, x + dx]
                for x in range(start, stop):
                    message[y + dy, x + dx] += weight * affinity[k, top + y, left + x] * label[y, x]
        current = logits + message
    return current
