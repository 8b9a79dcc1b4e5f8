"""How one frame moves into the next: dense flow both ways, where the two agree, and the camera's part of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

Flow = NDArray[np.float32]
"""`(h, w, 2)` float32: where a pixel goes, `(x, y)` in working pixels."""

MOTION_BINS = 32
_AGREEMENT_SIGMA = 1.5  # working pixels of forward/backward error
_BIN_UNIT = 0.5  # working pixels: motions below it share a bin, larger ones are binned by their logarithm
_CAMERA_STEP = 8  # one sample of the flow per so many pixels and axis
_PROBE_SCALE = 3  # halvings at which a rough flow tells how far apart two frames are …
_PROBE_LEAST = 128  # … if their shorter side allows for them
_WIDE = 1 / 32
"""Median shift, as a share of the longer side, from which two frames are far apart."""


@dataclass(frozen=True, slots=True)
class Motion:
    """The step from one frame (*here*) to a neighbouring one (*there*), seen from there.

    Attributes:
        ahead: flow here → there.
        back: flow there → here.
        agreement: `(h, w)` float32 in [0, 1]: does `ahead` bring a pixel that went `back` home again?
        camera_ahead: flow here → there of the static scene.
        own: `(h, w, 2)` float32: `back` minus the static scene's flow back.
        code: `(h, w)` uint16: `own` as one of `MOTION_BINS`² bins.
    """

    ahead: Flow
    back: Flow
    agreement: NDArray[np.float32]
    camera_ahead: Flow
    own: Flow
    code: NDArray[np.uint16]


def dense_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Flow:
    """Dense inverse search flow of grey frames `(h, w)` uint8 (Kroeger et al., ECCV 2016), by OpenCV.

    Its fast preset, but down to the finest scale: at working size an outline is a few pixels from being lost. Frames
    taken far apart are worth the denser patches and longer descent of its medium preset.
    """
    far = min(first.shape) >= _PROBE_LEAST and _median_shift(first, second) > _WIDE * max(first.shape)
    preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM if far else cv2.DISOPTICAL_FLOW_PRESET_FAST
    return _inverse_search(first, second, preset, 0)


def _inverse_search(first: NDArray[np.uint8], second: NDArray[np.uint8], preset: int, finest: int) -> Flow:
    engine = cv2.DISOpticalFlow.create(preset)
    engine.setFinestScale(finest)
    return np.asarray(engine.calc(first, second, None), np.float32)  # type: ignore[call-overload]


def _median_shift(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Roughly, in pixels, and in about a millisecond."""
    rough = _inverse_search(first, second, cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, _PROBE_SCALE)
    x, y = np.moveaxis(rough[::_CAMERA_STEP, ::_CAMERA_STEP], -1, 0)
    return float(np.median(np.hypot(x, y)))


def camera_homography(flow: Flow) -> NDArray[np.float64]:
    """The dominant plane motion of a flow, `(3, 3)`, by RANSAC over a grid of vectors; identity when there is none."""
    height, width = flow.shape[:2]
    ys, xs = np.mgrid[_CAMERA_STEP // 2 : height : _CAMERA_STEP, _CAMERA_STEP // 2 : width : _CAMERA_STEP]
    points = np.stack([xs.ravel(), ys.ravel()], axis=1).astype(np.float32)
    if len(points) < 8:
        return np.eye(3)
    found, _ = cv2.findHomography(points, points + flow[ys.ravel(), xs.ravel()], cv2.RANSAC, 1.0, maxIters=200)
    return np.eye(3) if found is None else np.asarray(found, np.float64)


def motion_between(
    ahead: Flow, back: Flow, camera_ahead: NDArray[np.float64], camera_back: NDArray[np.float64]
) -> Motion:
    """Derives from two flows and two homographies what every object of the frame needs."""
    height, width = ahead.shape[:2]
    agreement = np.empty((height, width), np.float32)
    scene_ahead, own = np.empty_like(ahead), np.empty_like(back)
    code = np.empty((height, width), np.uint16)
    _derive(ahead, back, camera_ahead, camera_back, agreement, scene_ahead, own, code)
    return Motion(ahead, back, agreement, scene_ahead, own, code)


@njit(cache=True, nogil=True)
def _plane_flow(homography: NDArray[np.float64], x: int, y: int) -> tuple[float, float]:
    h = homography
    w = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    if abs(w) < 1e-6:
        return 0.0, 0.0
    return (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / w - x, (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / w - y


@njit(cache=True, nogil=True)
def _derive(
    ahead: Flow,
    back: Flow,
    camera_ahead: NDArray[np.float64],
    camera_back: NDArray[np.float64],
    agreement: NDArray[np.float32],
    scene_ahead: Flow,
    own: Flow,
    code: NDArray[np.uint16],
) -> None:
    height, width = ahead.shape[:2]
    for y in range(height):
        for x in range(width):
            scene_ahead[y, x, 0], scene_ahead[y, x, 1] = _plane_flow(camera_ahead, x, y)
            plane_x, plane_y = _plane_flow(camera_back, x, y)
            own[y, x, 0], own[y, x, 1] = back[y, x, 0] - plane_x, back[y, x, 1] - plane_y
            bin_x = min(max(round(np.arcsinh(own[y, x, 0] / _BIN_UNIT) * 2) + MOTION_BINS // 2, 0), MOTION_BINS - 1)
            bin_y = min(max(round(np.arcsinh(own[y, x, 1] / _BIN_UNIT) * 2) + MOTION_BINS // 2, 0), MOTION_BINS - 1)
            code[y, x] = bin_y * MOTION_BINS + bin_x
            source_x = min(max(x + back[y, x, 0], 0.0), width - 1.001)
            source_y = min(max(y + back[y, x, 1], 0.0), height - 1.001)
            x0, y0 = int(source_x), int(source_y)
            u, v = source_x - x0, source_y - y0
            error = 0.0
            for c in range(2):
                upper = (1 - u) * ahead[y0, x0, c] + u * ahead[y0, x0 + 1, c]
                lower = (1 - u) * ahead[y0 + 1, x0, c] + u * ahead[y0 + 1, x0 + 1, c]
                error += (back[y, x, c] + (1 - v) * upper + v * lower) ** 2
            agreement[y, x] = np.exp(-error / (2 * _AGREEMENT_SIGMA**2))
