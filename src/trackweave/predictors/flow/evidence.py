"""The three things a step knows before it looks at appearance: the warped mask, its outline, and what moves alike."""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from trackweave.predictors.flow.motion import MOTION_BINS, Motion
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.window import Window

_RARE_MOTION = 2e-3
_DISAGREEING = 0.3
"""Share of the warped mask's evidence that is left where the flows disagree."""


def warp(probability: NDArray[np.float32], origin: Window, motion: Motion, window: Window) -> NDArray[np.bool_]:
    """Fetches the object along the backward flow.

    Args:
        probability: of the previous frame, inside `origin`; zero elsewhere.
        origin: where it lies.
        motion: the step.
        window: where to fetch it to.

    Returns:
        `(rows, columns)` bool: more likely the object than not.
    """
    out = np.empty(window.shape, np.bool_)
    _warp(probability, origin.top, origin.left, motion.back, window.top, window.left, out)
    return out


def signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance to the outline, positive inside, in pixels."""
    inside = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(inside - outside, np.float32)


def prior(
    distance: NDArray[np.float32],
    found: NDArray[np.bool_] | None,
    motion: Motion,
    window: Window,
    settings: FlowSettings,
) -> NDArray[np.float32]:
    """Log-odds from the warped mask: undecided along its outline, weak where the flows disagree, never far away.

    Args:
        distance: from `signed_distance`.
        found: pixels that were not warped but found again; their place is trusted.
        motion: the step.
        window: where all of this lies.
        settings: band, weight and reach.
    """
    out = np.empty(window.shape, np.float32)
    agreement = motion.agreement[window.slices]
    if found is not None:
        agreement = np.where(found, np.float32(1), agreement)
    steady = np.asarray(cv2.blur(agreement, (9, 9)), np.float32)
    limits = np.array(
        [
            settings.boundary_width,
            settings.boundary_slack,
            settings.prior_weight,
            settings.reach,
            settings.reach_penalty,
            _DISAGREEING,
        ],
        np.float32,
    )
    _prior(distance, agreement, steady, limits, out)
    return out


def motion_evidence(
    distance: NDArray[np.float32], appearance: NDArray[np.float32], motion: Motion, window: Window, limit: float
) -> NDArray[np.float32]:
    """Log-odds that a pixel moves like the object rather than like its surroundings.

    Both histograms of motion relative to the camera are taken on this very frame, from the inside and the outside of
    the warped mask; where the two move alike the ratio is flat and nothing is said.
    """
    counts = np.zeros((2, MOTION_BINS * MOTION_BINS), np.float32)
    agreement, code = motion.agreement[window.slices], motion.code[window.slices]
    _count_motion(distance, appearance, agreement, code, counts)
    smooth = [cv2.GaussianBlur(one.reshape(MOTION_BINS, MOTION_BINS), (0, 0), 0.8).ravel() for one in counts]
    share = [one / (one.sum() + 1e-6) for one in smooth]
    ratio = np.log((share[0] + _RARE_MOTION) / (share[1] + _RARE_MOTION))
    return np.asarray(np.clip(ratio, -limit, limit).astype(np.float32)[code] * agreement, np.float32)


@njit(cache=True, nogil=True, fastmath=True)
def _warp(
    probability: NDArray[np.float32],
    from_top: int,
    from_left: int,
    back: NDArray[np.float32],
    top: int,
    left: int,
    out: NDArray[np.bool_],
) -> None:
    frame_height, frame_width = back.shape[:2]
    height, width = probability.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            # Beyond the frame's edge the edge is repeated, so that objects enter and leave smoothly.
            source_x = min(max(left + x + back[top + y, left + x, 0], 0.0), frame_width - 1.0) - from_left
            source_y = min(max(top + y + back[top + y, left + x, 1], 0.0), frame_height - 1.0) - from_top
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


@njit(cache=True, nogil=True, fastmath=True)
def _at_rim(probability: NDArray[np.float32], y0: int, x0: int, v: float, u: float) -> float:
    """Bilinear value where some of the four neighbours lie outside and count as zero."""
    value = 0.0
    for dy in range(2):
        for dx in range(2):
            y, x = y0 + dy, x0 + dx
            if 0 <= y < probability.shape[0] and 0 <= x < probability.shape[1]:
                value += probability[y, x] * (v if dy else 1 - v) * (u if dx else 1 - u)
    return value


@njit(cache=True, nogil=True, fastmath=True)
def _prior(
    distance: NDArray[np.float32],
    agreement: NDArray[np.float32],
    steady: NDArray[np.float32],
    limits: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    width, slack, weight, reach, penalty, least = limits
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            depth = distance[y, x] / (width + slack * (1 - steady[y, x]))
            depth = min(max(depth, np.float32(-1)), np.float32(1))
            value = depth * weight * (least + (1 - least) * agreement[y, x])
            out[y, x] = value - max(-distance[y, x] - reach, np.float32(0)) * penalty


@njit(cache=True, nogil=True, fastmath=True)
def _count_motion(
    distance: NDArray[np.float32],
    appearance: NDArray[np.float32],
    agreement: NDArray[np.float32],
    code: NDArray[np.uint16],
    counts: NDArray[np.float32],
) -> None:
    for y in range(distance.shape[0]):
        for x in range(distance.shape[1]):
            depth = distance[y, x]
            if depth > 0:
                if appearance[y, x] > -1:
                    counts[0, code[y, x]] += min(depth / 4, np.float32(1)) * agreement[y, x]
            elif depth < -2:
                near = 1 / (1 + (depth / 30) ** 2)
                counts[1, code[y, x]] += min(-depth / 4 - np.float32(0.5), np.float32(1)) * agreement[y, x] * near
