"""Where an object, or a hidden part of it, shows again: `search`.

The three things a step knows before it looks at appearance: the warped mask, its outline, and what moves alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from trackweave.predictors.flow.appearance import Appearance, Features
from trackweave.predictors.flow.motion import MOTION_BINS, Motion
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.windows import Window

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


_ROOM = 1.3
"""Times its expected area that an object may have after a find."""


@dataclass(frozen=True, slots=True)
class Quest:
    """Who is searched for.

    Attributes:
        tight: window of what is still visible; None for an object that is lost, or so small that it may be elsewhere.
        area: pixels still visible.
        expected_area: pixels it should have.
        centre: `(x, y)` where it should be.
        half_size: `(x, y)`, half its usual width and height.
        velocity: `(x, y)` relative to the camera, pixels per frame.
        probability: of the previous frame inside `window`.
        window: where it lies.
    """

    tight: Window | None
    area: int
    expected_area: float
    centre: NDArray[np.float64]
    half_size: NDArray[np.float64]
    velocity: NDArray[np.float64]
    probability: NDArray[np.float32]
    window: Window


def search(
    quest: Quest, appearance: Appearance, motion: Motion, features: Features, settings: FlowSettings
) -> NDArray[np.bool_] | None:
    """Looks for patches that look like the prompt.

    A part of an object still in sight must also move as the object does; a lost object must look more alike, and
    either move on its own or look very much alike, so that the static scene does not attract it.

    Returns:
        `(h, w)` bool of the whole frame, or None when nothing was found.
    """
    window = _where(quest, motion.back.shape[:2])
    if min(window.shape) < 5:
        return None
    likeness = appearance.likeness(features, window)
    alike = (likeness > 1).view(np.uint8)
    if quest.area:
        known = warp(quest.probability, quest.window, motion, window)
        alike &= cv2.dilate(known.view(np.uint8), np.ones((5, 5), np.uint8)) == 0
    count, drawn, stats, _ = cv2.connectedComponentsWithStats(alike, connectivity=8)
    if count <= 1:
        return None
    labels, areas = np.asarray(drawn, np.int32), np.asarray(stats[:, cv2.CC_STAT_AREA], np.int32)
    scores = np.bincount(labels.ravel(), weights=likeness.ravel(), minlength=count) / (areas * appearance.reference)
    own = motion.own[window.slices]
    room = _ROOM * quest.expected_area - quest.area
    finds = []
    for k in _plausible(areas, scores, quest, room, _required(quest, appearance, settings)):
        x, y, width, height, area = stats[k]
        inside = labels[y : y + height, x : x + width] == k
        moves = -np.median(own[y : y + height, x : x + width][inside], axis=0)
        if _moves_right(moves, scores[k], quest):
            finds.append((scores[k] * np.sqrt(area), int(k), int(area)))
    return _paint(sorted(finds, reverse=True), labels, window, room, motion.back.shape[:2])


def _where(quest: Quest, frame: tuple[int, int]) -> Window:
    if quest.tight is None:
        return Window(0, frame[0], 0, frame[1])
    (x, y), (half_x, half_y) = quest.centre, quest.half_size
    expected = Window(int(y - half_y), int(y + half_y) + 1, int(x - half_x), int(x + half_x) + 1)
    return quest.tight.join(expected).grow(1.2 * np.sqrt(half_x * half_y), frame)


def _required(quest: Quest, appearance: Appearance, settings: FlowSettings) -> float:
    """Share of the prompt's likeness that a find needs: a lost object more than what resembled it at first."""
    if quest.tight is not None:
        return settings.part_likeness
    return max(settings.object_likeness, appearance.confusion + settings.clearance)


def _plausible(
    areas: NDArray[np.int32], scores: NDArray[np.float64], quest: Quest, room: float, required: float
) -> NDArray[np.int64]:
    """Labels of patches whose size and likeness are right."""
    fits = (scores > required) & (areas >= max(12, 0.02 * quest.expected_area)) & (areas <= 1.6 * quest.expected_area)
    if quest.tight is None:
        fits &= areas > 0.1 * quest.expected_area
    else:
        fits &= areas <= room
    fits[0] = False
    return np.flatnonzero(fits)


def _moves_right(moves: NDArray[np.float32], score: float, quest: Quest) -> bool:
    if quest.tight is None:
        return bool(np.hypot(*moves) > 0.7 or score > 0.9)
    speed = float(np.hypot(*quest.velocity))
    if speed <= 0.5:
        return False
    return bool(0.4 < moves @ quest.velocity / (speed**2 + 0.1) < 2.5)


def _paint(
    finds: list[tuple[float, int, int]], labels: NDArray[np.int32], window: Window, room: float, frame: tuple[int, int]
) -> NDArray[np.bool_] | None:
    if not finds:
        return None
    chosen: list[int] = []
    total = 0
    for _, k, area in finds:
        if not chosen or total + area <= room:
            chosen.append(k)
            total += area
    out = np.zeros(frame, np.bool_)
    out[window.slices] = np.isin(labels, chosen)
    return out
