"""Motion between neighbouring frames, and what it says about one object.

For the frame pair (`Motion`): dense flow both ways, where the two agree, and the camera's share of it. For an object:
its mask warped along the flow (`warp`), the log-odds that follow from the warped mask (`warped_mask_prior`) and those
from motion that differs from the surroundings' (`motion_log_odds`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import inner, njit
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.windows import PixelWindow

Flow = NDArray[np.float32]
"""`(h, w, 2)` float32: where a pixel goes, `(x, y)` in working pixels."""

MOTION_BINS = 32
_AGREEMENT_SIGMA = 1.5  # working pixels of forward/backward error
_BIN_UNIT = 0.5  # working pixels: motions below it share a bin, larger ones are binned by their logarithm
_GRID_STEP = 8  # one sample of the flow per so many pixels and axis
_PROBE_SCALE = 3  # halvings at which a rough flow tells how far apart two frames are …
_PROBE_MIN_SIDE = 128  # … if their shorter side allows for them
_WIDE_BASELINE = 1 / 32
"""Median shift, as a share of the longer side, from which two frames count as far apart."""

_RARE_MOTION_SHARE = 2e-3
"""Share of the object's or background's pixels below which a bin of motion says little."""

_STEADY_AGREEMENT, _SAME_COLOUR = 0.5, 24
"""Agreement of the flows above which, and distance in 8-bit Lab (chroma counts three times) below which a pixel is held
to be the one that it came from."""

_MIN_FLOW_TRUST = 0.3
"""Share of the warped mask's log-odds that is left where the two flows disagree completely."""


@dataclass(frozen=True, slots=True)
class Motion:
    """The step from one frame (the source) to a neighbouring one (the target); arrays lie on the target's pixels
    unless they are flows from the source.

    Attributes:
        forward: flow source → target, on the source's pixels.
        backward: flow target → source.
        agreement: `(h, w)` float32 in [0, 1]: does `forward` bring a pixel that went `backward` home again?
        source: `(h, w)` int32: the source's pixel from which a pixel came, as row · w + column; -1 where it appeared:
            the flows do not agree, or the colours differ.
        camera_forward: flow source → target of the static scene, on the source's pixels.
        residual: `(h, w, 2)` float32: `backward` minus the static scene's flow back.
        residual_bin: `(h, w)` uint16: `residual` as one of `MOTION_BINS`² bins.
    """

    forward: Flow
    backward: Flow
    agreement: NDArray[np.float32]
    source: NDArray[np.int32]
    camera_forward: Flow
    residual: Flow
    residual_bin: NDArray[np.uint16]


def dense_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Flow:
    """Dense inverse search flow of grey frames `(h, w)` uint8 (Kroeger et al., ECCV 2016), by OpenCV.

    Its fast preset, but down to the finest scale: at working size a few pixels decide whether a mask is lost. Frames
    taken far apart are worth the denser patches and longer descent of its medium preset.
    """
    is_wide = min(first.shape) >= _PROBE_MIN_SIDE and _median_shift(first, second) > _WIDE_BASELINE * max(first.shape)
    preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM if is_wide else cv2.DISOPTICAL_FLOW_PRESET_FAST
    return _inverse_search(first, second, preset, 0)


def _inverse_search(first: NDArray[np.uint8], second: NDArray[np.uint8], preset: int, finest_scale: int) -> Flow:
    engine = cv2.DISOpticalFlow.create(preset)
    engine.setFinestScale(finest_scale)
    return np.asarray(engine.calc(first, second, None), np.float32)  # type: ignore[call-overload]


def _median_shift(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Roughly, in pixels; takes about a millisecond."""
    rough = _inverse_search(first, second, cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, _PROBE_SCALE)
    x, y = np.moveaxis(rough[::_GRID_STEP, ::_GRID_STEP], -1, 0)
    return float(np.median(np.hypot(x, y)))


def camera_homography(flow: Flow) -> NDArray[np.float64]:
    """The dominant plane motion of a flow, `(3, 3)`, by RANSAC over a grid of vectors; identity when there is none."""
    height, width = flow.shape[:2]
    ys, xs = np.mgrid[_GRID_STEP // 2 : height : _GRID_STEP, _GRID_STEP // 2 : width : _GRID_STEP]
    points = np.stack([xs.ravel(), ys.ravel()], axis=1).astype(np.float32)
    if len(points) < 8:
        return np.eye(3)
    homography, _ = cv2.findHomography(points, points + flow[ys.ravel(), xs.ravel()], cv2.RANSAC, 1.0, maxIters=200)
    return np.eye(3) if homography is None else np.asarray(homography, np.float64)


def motion_between(
    forward: Flow,
    backward: Flow,
    camera_forward: NDArray[np.float64],
    camera_backward: NDArray[np.float64],
    colours: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> Motion:
    """Derives what all objects need from two flows, the camera's two homographies `(3, 3)`, and the `colour_planes` of
    the source and the target."""
    height, width = forward.shape[:2]
    agreement = np.empty((height, width), np.float32)
    scene_forward, residual = np.empty_like(forward), np.empty_like(backward)
    residual_bin = np.empty((height, width), np.uint16)
    _derive(forward, backward, camera_forward, camera_backward, agreement, scene_forward, residual, residual_bin)
    source = np.empty((height, width), np.int32)
    _find_source(backward, agreement, colours[0], colours[1], source)
    return Motion(forward, backward, agreement, source, scene_forward, residual, residual_bin)


def warp(
    probability: NDArray[np.float32], origin: PixelWindow, motion: Motion, window: PixelWindow
) -> NDArray[np.bool_]:
    """Warps an object into the target frame, along the backward flow.

    Args:
        probability: of the source frame, inside `origin`; zero elsewhere.
        origin: window of `probability`.
        motion: the step.
        window: window of the result in the target frame.

    Returns:
        `(rows, columns)` bool: the object is more likely than not.
    """
    out = np.empty(window.shape, np.bool_)
    _warp(probability, origin.top, origin.left, motion.backward, window.top, window.left, out)
    return out


def carry(values: NDArray[np.uint8], motion: Motion) -> NDArray[np.uint8]:
    """Moves a plane `(h, w)` of the source frame's pixels to the target's; 0 where something appeared."""
    return np.where(motion.source >= 0, values.ravel()[motion.source], np.uint8(0))


def signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance to the mask's boundary, positive inside, in pixels."""
    inside = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(inside - outside, np.float32)


def warped_mask_prior(
    distance: NDArray[np.float32],
    redetected: NDArray[np.bool_] | None,
    motion: Motion,
    window: PixelWindow,
    settings: FlowSettings,
) -> NDArray[np.float32]:
    """Log-odds from the warped mask: undecided along its boundary, weak where the flows disagree, never far away.

    Args:
        distance: `signed_distance` of the warped mask.
        redetected: pixels that were not warped but re-detected; their position is trusted.
        motion: the step.
        window: window of the arrays.
        settings: band, weight and reach.
    """
    out = np.empty(window.shape, np.float32)
    agreement = np.ascontiguousarray(motion.agreement[window.slices])  # of one layout: the loop is compiled once
    if redetected is not None:
        agreement = np.where(redetected, np.float32(1), agreement)
    smooth_agreement = np.asarray(cv2.blur(agreement, (9, 9)), np.float32)
    limits = np.array(
        [
            settings.boundary_width,
            settings.boundary_slack,
            settings.prior_weight,
            settings.reach,
            settings.reach_penalty,
            _MIN_FLOW_TRUST,
        ],
        np.float32,
    )
    _prior(distance, agreement, smooth_agreement, limits, out)
    return out


def motion_log_odds(
    distance: NDArray[np.float32], appearance: NDArray[np.float32], motion: Motion, window: PixelWindow, limit: float
) -> NDArray[np.float32]:
    """Log-odds that a pixel moves like the object rather than like its surroundings.

    Both histograms of motion relative to the camera are taken on this very frame, from the inside and the outside of
    the warped mask; where the two move alike the ratio is flat and nothing is said.
    """
    counts = np.zeros((2, MOTION_BINS * MOTION_BINS), np.float32)
    agreement = np.ascontiguousarray(motion.agreement[window.slices])  # as above
    bins = np.ascontiguousarray(motion.residual_bin[window.slices])
    _count_motion(distance, appearance, agreement, bins, counts)
    smooth = [cv2.GaussianBlur(one.reshape(MOTION_BINS, MOTION_BINS), (0, 0), 0.8).ravel() for one in counts]
    share = [one / (one.sum() + 1e-6) for one in smooth]
    ratio = np.log((share[0] + _RARE_MOTION_SHARE) / (share[1] + _RARE_MOTION_SHARE))
    return np.asarray(np.clip(ratio, -limit, limit).astype(np.float32)[bins] * agreement, np.float32)


@inner
def _plane_flow(homography: NDArray[np.float64], x: int, y: int) -> tuple[float, float]:
    h = homography
    w = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    if abs(w) < 1e-6:
        return 0.0, 0.0
    return (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / w - x, (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / w - y


@njit(nogil=True)
def _derive(
    forward: Flow,
    backward: Flow,
    camera_forward: NDArray[np.float64],
    camera_backward: NDArray[np.float64],
    agreement: NDArray[np.float32],
    scene_forward: Flow,
    residual: Flow,
    residual_bin: NDArray[np.uint16],
) -> None:
    height, width = forward.shape[:2]
    for y in range(height):
        for x in range(width):
            scene_forward[y, x, 0], scene_forward[y, x, 1] = _plane_flow(camera_forward, x, y)
            plane_x, plane_y = _plane_flow(camera_backward, x, y)
            residual[y, x, 0], residual[y, x, 1] = backward[y, x, 0] - plane_x, backward[y, x, 1] - plane_y
            bin_x = min(
                max(round(np.arcsinh(residual[y, x, 0] / _BIN_UNIT) * 2) + MOTION_BINS // 2, 0), MOTION_BINS - 1
            )
            bin_y = min(
                max(round(np.arcsinh(residual[y, x, 1] / _BIN_UNIT) * 2) + MOTION_BINS // 2, 0), MOTION_BINS - 1
            )
            residual_bin[y, x] = bin_y * MOTION_BINS + bin_x
            source_x = min(max(x + backward[y, x, 0], 0.0), width - 1.001)
            source_y = min(max(y + backward[y, x, 1], 0.0), height - 1.001)
            x0, y0 = int(source_x), int(source_y)
            u, v = source_x - x0, source_y - y0
            error = 0.0
            for c in range(2):
                upper = (1 - u) * forward[y0, x0, c] + u * forward[y0, x0 + 1, c]
                lower = (1 - u) * forward[y0 + 1, x0, c] + u * forward[y0 + 1, x0 + 1, c]
                error += (backward[y, x, c] + (1 - v) * upper + v * lower) ** 2
            agreement[y, x] = np.exp(-error / (2 * _AGREEMENT_SIGMA**2))


@njit(nogil=True)
def _find_source(
    backward: Flow,
    agreement: NDArray[np.float32],
    source_colours: NDArray[np.uint8],
    target_colours: NDArray[np.uint8],
    out: NDArray[np.int32],
) -> None:
    height, width = agreement.shape
    for y in range(height):
        for x in range(width):
            out[y, x] = -1
            if agreement[y, x] <= _STEADY_AGREEMENT:
                continue
            from_y, from_x = round(y + backward[y, x, 1]), round(x + backward[y, x, 0])
            if not (0 <= from_y < height and 0 <= from_x < width):
                continue
            distance = np.int32(0)
            for c in range(3):
                difference = np.int32(target_colours[y, x, c]) - np.int32(source_colours[from_y, from_x, c])
                distance += difference * difference * (3 if c else 1)
            if distance < _SAME_COLOUR * _SAME_COLOUR:
                out[y, x] = from_y * width + from_x


@njit(nogil=True, fastmath=True)
def _warp(
    probability: NDArray[np.float32],
    from_top: int,
    from_left: int,
    backward: NDArray[np.float32],
    top: int,
    left: int,
    out: NDArray[np.bool_],
) -> None:
    frame_height, frame_width = backward.shape[:2]
    height, width = probability.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            # Beyond the frame's edge the edge is repeated, so that objects enter and leave smoothly.
            source_x = min(max(left + x + backward[top + y, left + x, 0], 0.0), frame_width - 1.0) - from_left
            source_y = min(max(top + y + backward[top + y, left + x, 1], 0.0), frame_height - 1.0) - from_top
            x0, y0 = int(np.floor(source_x)), int(np.floor(source_y))
            u, v = source_x - x0, source_y - y0
            value = 0.0
            if 0 <= y0 < height - 1 and 0 <= x0 < width - 1:
                upper = (1 - u) * probability[y0, x0] + u * probability[y0, x0 + 1]
                lower = (1 - u) * probability[y0 + 1, x0] + u * probability[y0 + 1, x0 + 1]
                value = (1 - v) * upper + v * lower
            elif -1 <= y0 < height and -1 <= x0 < width:
                value = _at_rim(probability, y0, x0, v, u)
            out[y, x] = value > 0.5


@inner(fastmath=True)
def _at_rim(probability: NDArray[np.float32], y0: int, x0: int, v: float, u: float) -> float:
    """Bilinear value where some of the four neighbours lie outside and count as zero."""
    value = 0.0
    for dy in range(2):
        for dx in range(2):
            y, x = y0 + dy, x0 + dx
            if 0 <= y < probability.shape[0] and 0 <= x < probability.shape[1]:
                value += probability[y, x] * (v if dy else 1 - v) * (u if dx else 1 - u)
    return value


@njit(nogil=True, fastmath=True)
def _prior(
    distance: NDArray[np.float32],
    agreement: NDArray[np.float32],
    smooth_agreement: NDArray[np.float32],
    limits: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    width, slack, weight, reach, penalty, least = limits
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            depth = distance[y, x] / (width + slack * (1 - smooth_agreement[y, x]))
            depth = min(max(depth, np.float32(-1)), np.float32(1))
            value = depth * weight * (least + (1 - least) * agreement[y, x])
            out[y, x] = value - max(-distance[y, x] - reach, np.float32(0)) * penalty


@njit(nogil=True, fastmath=True)
def _count_motion(
    distance: NDArray[np.float32],
    appearance: NDArray[np.float32],
    agreement: NDArray[np.float32],
    bins: NDArray[np.uint16],
    counts: NDArray[np.float32],
) -> None:
    for y in range(distance.shape[0]):
        for x in range(distance.shape[1]):
            depth = distance[y, x]
            if depth > 0:
                if appearance[y, x] > -1:
                    counts[0, bins[y, x]] += min(depth / 4, np.float32(1)) * agreement[y, x]
            elif depth < -2:
                near = 1 / (1 + (depth / 30) ** 2)
                counts[1, bins[y, x]] += min(-depth / 4 - np.float32(0.5), np.float32(1)) * agreement[y, x] * near
