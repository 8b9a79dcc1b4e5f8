"""Edge-aware smoothing of log-odds: mean field of a dense random field with truncated, sparse neighbourhoods.

After Krähenbühl and Koltun (NIPS 2011) and, for the truncation, Teichmann and Cipolla's ConvCRF (2018). The
affinities belong to the frame, so objects share them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import inner, njit
from trackweave.predictors.flow.frame_features import NEIGHBOUR_OFFSETS, PixelFeatures
from trackweave.predictors.flow.windows import PixelWindow

_RING_WEIGHTS = (1 / np.hypot(NEIGHBOUR_OFFSETS[:, 0], NEIGHBOUR_OFFSETS[:, 1])).astype(np.float32)
_RING_WEIGHTS /= _RING_WEIGHTS.sum() / 4


def smooth(
    logits: NDArray[np.float32], features: PixelFeatures, window: PixelWindow, strength: float, rounds: int
) -> NDArray[np.float32]:
    """Smooths log-odds along the image.

    Args:
        logits: `(rows, columns)` float32 of `window`.
        features: of the frame.
        window: window of the logits.
        strength: total weight of a pixel's neighbours, if all have its colour, over eight.
        rounds: iterations of mean field.

    Returns:
        New log-odds of the same shape; pixels that no neighbourhood could turn over are left as they are.
    """
    if not rounds or not strength:
        return logits
    weights = _RING_WEIGHTS * np.float32(strength)
    # A message is at most the sum of all weights (affinities and labels are at most 1; each offset counts twice):
    # beyond that bound the sign is certain, and the pixel is skipped.
    spans = np.zeros((len(logits), 2), np.int64)
    _undecided_spans(logits, 2 * float(weights.sum()), spans)
    label, messages = np.empty_like(logits), np.zeros_like(logits)
    _mean_field(
        logits, features.affinity, NEIGHBOUR_OFFSETS, window.top, window.left, weights, rounds, spans, label, messages
    )
    return logits + messages


@njit(nogil=True)
def _undecided_spans(logits: NDArray[np.float32], bound: float, spans: NDArray[np.int64]) -> None:
    """First and last-plus-one column per row whose sign smoothing may change, into the zeros of `spans` `(H, 2)`."""
    height, width = logits.shape
    for y in range(height):
        first, last = 0, width - 1
        while first < width and abs(logits[y, first]) >= bound:
            first += 1
        while last > first and abs(logits[y, last]) >= bound:
            last -= 1
        if first < width:
            spans[y, 0], spans[y, 1] = first, last + 1


@njit(nogil=True, fastmath=True)
def _mean_field(
    logits: NDArray[np.float32],
    affinity: NDArray[np.float32],
    offsets: NDArray[np.int32],
    top: int,
    left: int,
    weights: NDArray[np.float32],
    rounds: int,
    spans: NDArray[np.int64],
    label: NDArray[np.float32],
    messages: NDArray[np.float32],
) -> None:
    height, width = logits.shape
    for _ in range(rounds):
        for y in range(height):
            _half_tanh(logits[y], messages[y], label[y])
        for y in range(height):
            start, stop = spans[y, 0], spans[y, 1]
            if start == stop:
                continue
            row = messages[y]
            for x in range(start, stop):
                row[x] = 0
            for k in range(offsets.shape[0]):
                dy, dx = offsets[k, 0], offsets[k, 1]
                if y + dy < height:
                    first, last = max(start, -dx), min(stop, width - dx)
                    _gather(row, affinity[k, top + y], left, label[y + dy], dx, weights[k], first, last)
                if y >= dy:
                    first, last = max(start, dx), min(stop, width + dx)
                    _gather(row, affinity[k, top + y - dy], left - dx, label[y - dy], -dx, weights[k], first, last)


@inner(fastmath=True)
def _half_tanh(logits: NDArray[np.float32], messages: NDArray[np.float32], label: NDArray[np.float32]) -> None:
    """tanh of half the log-odds, by its Padé approximant, which vector units can do; exactly ±1 at the clipped ends."""
    for x in range(label.shape[0]):
        half = (logits[x] + messages[x]) * np.float32(0.5)
        half = min(max(half, np.float32(-3)), np.float32(3))
        square = half * half
        label[x] = half * (np.float32(27) + square) / (np.float32(27) + np.float32(9) * square)


@inner(fastmath=True)
def _gather(
    row: NDArray[np.float32],
    affinity: NDArray[np.float32],
    shift: int,
    label: NDArray[np.float32],
    dx: int,
    weight: np.float32,
    first: int,
    last: int,
) -> None:
    for x in range(first, last):
        row[x] += weight * affinity[x + shift] * label[x + dx]
