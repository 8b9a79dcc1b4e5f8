"""What a frame looks like: colour and texture planes, the codes of the appearance tables, and edges.

Everything here depends on the frame alone, so that all objects of a frame share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

TABLES = 10
"""Tables of an appearance model: four of fine colour, four of coarse colour and texture, two of colour and position."""

# numba's cache does not see a constant change in another file: clear it (or touch appearance.py) when changing these.
TABLE_BITS = 13
TABLE_SIZE = 1 << TABLE_BITS

OFFSETS: NDArray[np.int32] = np.array(
    [(0, 1), (1, 0), (1, 1), (1, -1), (0, 3), (3, 0), (2, 2), (2, -2), (0, 6), (6, 0), (5, 5), (5, -5)], np.int32
)
"""Half of each pixel's neighbours, `(y, x)`, in three rings; the other half are its mirror image."""

# Averaged shifted histograms (Scott 1985): four grids, each shifted by a quarter of a bin in another order.
_SHIFTS: NDArray[np.int32] = np.array(
    [[0, 0, 0], [4, 8, 12], [8, 4, 8], [12, 12, 4], [0, 4, 8], [4, 12, 0], [8, 0, 12], [12, 8, 4]], np.int32
)
_FINE_SIGMA, _COARSE_SIGMA, _TEXTURE_WINDOW = 0.7, 3.0, 7


@dataclass(frozen=True, slots=True)
class Features:
    """One frame at working size.

    Attributes:
        codes: `(h, w, TABLES)` uint16, the bin of each pixel in each table; the last two lack the position.
        affinity: `(len(OFFSETS), h, w)` float32 in [0, 1], likeness of a pixel and its neighbour at each offset.
    """

    codes: NDArray[np.uint16]
    affinity: NDArray[np.float32]


def colour_planes(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The seven planes a frame is described by.

    Args:
        rgb: `(h, w, 3)` uint8.

    Returns:
        `(h, w, 7)` uint8: L, a, b slightly smoothed; L, a, b strongly smoothed; texture in 0 … 7, the logarithm of
        the local deviation of L.
    """
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    fine = cv2.GaussianBlur(lab, (0, 0), _FINE_SIGMA)
    coarse = cv2.GaussianBlur(lab, (0, 0), _COARSE_SIGMA)
    light = lab[..., 0].astype(np.float32)
    window = (_TEXTURE_WINDOW, _TEXTURE_WINDOW)
    variance = cv2.blur(light * light, window) - cv2.blur(light, window) ** 2
    texture = np.minimum(np.log2(1 + np.sqrt(np.maximum(variance, 0))) * 1.3, 7).astype(np.uint8)
    return np.concatenate([fine, coarse, texture[..., None]], axis=2)


def features_of(planes: NDArray[np.uint8], edge_contrast: float) -> Features:
    """Codes and edges from `colour_planes`."""
    height, width = planes.shape[:2]
    codes = np.empty((height, width, TABLES), np.uint16)
    _encode(planes, _SHIFTS, codes)
    affinity = np.zeros((len(OFFSETS), height, width), np.float32)
    # Squared distances count chroma three times: 8-bit Lab squeezes L to 255 but leaves a and b as they are.
    fall_off = np.exp(-8.0 * np.arange(1024) / (2 * edge_contrast**2)).astype(np.float32)
    _compare(planes, OFFSETS, fall_off, affinity)
    return Features(codes, affinity)


@njit(cache=True, nogil=True)
def _hash(value: int) -> int:  # Fibonacci hashing (Knuth, TAOCP 3, 6.4)
    return int(((value * 2654435761) & 0xFFFFFFFF) >> (32 - TABLE_BITS))


@njit(cache=True, nogil=True)
def _encode(planes: NDArray[np.uint8], shifts: NDArray[np.int32], codes: NDArray[np.uint16]) -> None:
    for y in range(planes.shape[0]):
        for x in range(planes.shape[1]):
            light, red, blue = np.int64(planes[y, x, 0]), np.int64(planes[y, x, 1]), np.int64(planes[y, x, 2])
            for f in range(4):
                s = shifts[f]
                bins = ((light + s[0]) >> 4) * 4096 + ((red + (s[1] >> 1)) >> 3) * 64 + ((blue + (s[2] >> 1)) >> 3)
                codes[y, x, f] = _hash(bins)
            for f in range(2):
                s = shifts[f]
                bins = (light + s[0]) // 24 * 4096 + (red + s[1]) // 12 * 64 + (blue + s[2]) // 12
                codes[y, x, 8 + f] = bins & 0xFFFF
            light, red, blue = np.int64(planes[y, x, 3]), np.int64(planes[y, x, 4]), np.int64(planes[y, x, 5])
            texture = np.int64(planes[y, x, 6])
            for f in range(4, 8):
                s = shifts[f]
                bins = ((light + s[0]) >> 4) * 4096 + ((red + (s[1] >> 1)) >> 3) * 64 + ((blue + (s[2] >> 1)) >> 3)
                codes[y, x, f] = _hash(bins * 8 + texture)


@njit(cache=True, nogil=True, fastmath=True)
def _compare(
    planes: NDArray[np.uint8], offsets: NDArray[np.int32], fall_off: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    height, width = planes.shape[:2]
    for k in range(offsets.shape[0]):
        dy, dx = offsets[k]
        for y in range(height - dy):
            for x in range(max(0, -dx), min(width, width - dx)):
                light = np.int32(planes[y, x, 0]) - np.int32(planes[y + dy, x + dx, 0])
                red = np.int32(planes[y, x, 1]) - np.int32(planes[y + dy, x + dx, 1])
                blue = np.int32(planes[y, x, 2]) - np.int32(planes[y + dy, x + dx, 2])
                difference = (light * light + 3 * (red * red + blue * blue)) >> 3
                out[k, y, x] = fall_off[difference if difference < 1023 else 1023]
