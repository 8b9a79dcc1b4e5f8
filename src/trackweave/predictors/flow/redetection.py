"""Re-detection: finds an object that was lost, or parts of it that were hidden, by their similarity to the prompt."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.predictors.flow.appearance import Appearance
from trackweave.predictors.flow.frame_features import PixelFeatures
from trackweave.predictors.flow.motion import Motion, warp
from trackweave.predictors.flow.presence import BackgroundAge
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.windows import PixelWindow

_MAX_GROWTH = 1.3
"""Area after a re-detection, as a multiple of the expected area, beyond which further patches are refused."""

_MIN_PATCH_AREA = 12  # working pixels
_MIN_PATCH_SHARE = 0.02
"""Smallest patch, as a share of the expected area; a lost object has to appear as a patch of `_MIN_OBJECT_SHARE`."""
_MIN_OBJECT_SHARE = 0.1
_MAX_PATCH_SHARE = 1.6

_CLEARANCE = 0.1
"""By how much a lost object must be more similar than what else was on the prompt frame, where that may have moved."""

_RING = 4
"""Width of the ring around a mask, working pixels, that should not resemble the prompt."""

_FAR_PENALTY = 0.3
"""Fit that a place at the end of the reach must have more than one where the object is expected."""

_MIN_OWN_MOTION = 0.7
"""Speed relative to the camera, pixels per frame, that a lost object needs …"""
_MOTIONLESS_SIMILARITY = 0.9
"""… unless it is at least this similar to the prompt: else the static scene would attract it."""


@dataclass(frozen=True, slots=True)
class RedetectionQuery:
    """The object that is searched for.

    Attributes:
        visible: tight window of what is still visible; None for an object that is lost, or so small that it may be
            elsewhere.
        area: pixels still visible.
        expected_area: pixels it should have.
        centre: `(x, y)` where it should be.
        half_size: `(x, y)`, half its reference width and height.
        velocity: `(x, y)` relative to the camera, pixels per frame.
        probability: of the previous frame inside `window`.
        window: window of `probability`.
    """

    visible: PixelWindow | None
    area: int
    expected_area: float
    centre: NDArray[np.float64]
    half_size: NDArray[np.float64]
    velocity: NDArray[np.float64]
    probability: NDArray[np.float32]
    window: PixelWindow

    @property
    def free_area(self) -> float:
        """Pixels that re-detected patches may add."""
        return _MAX_GROWTH * self.expected_area - self.area


def redetect(
    query: RedetectionQuery,
    appearance: Appearance,
    motion: Motion,
    features: PixelFeatures,
    settings: FlowSettings,
    background: BackgroundAge,
) -> NDArray[np.bool_] | None:
    """Finds patches that are similar to the prompt.

    A part of an object that is still visible must also move as the object does; a lost object must be more similar,
    and either move relative to the camera or be very similar.

    Returns:
        `(h, w)` bool of the whole frame, or None when there is no such patch.
    """
    frame = motion.backward.shape[:2]
    window = _search_window(query, frame)
    if min(window.shape) < 5:
        return None
    similarity = appearance.similarity(features, window)
    similar = ((similarity > 1) & ~background.known(window)).view(np.uint8)
    if query.area:
        warped = warp(query.probability, query.window, motion, window)
        similar &= cv2.dilate(warped.view(np.uint8), np.ones((5, 5), np.uint8)) == 0
    count, components, stats, _ = cv2.connectedComponentsWithStats(similar, connectivity=8)
    if count <= 1:
        return None
    labels, areas = np.asarray(components, np.int32), np.asarray(stats[:, cv2.CC_STAT_AREA], np.int32)
    mean_similarity = np.bincount(labels.ravel(), weights=similarity.ravel(), minlength=count)
    scores = mean_similarity / (areas * appearance.reference)
    residual = motion.residual[window.slices]
    patches = []
    required = _required_similarity(query, appearance, settings, background)
    for k in _plausible_labels(areas, scores, query, required):
        x, y, width, height, area = stats[k]
        inside = labels[y : y + height, x : x + width] == k
        # The residual is a flow back in time: its negative is the patch's motion.
        patch_motion = -np.median(residual[y : y + height, x : x + width][inside], axis=0)
        if _motion_is_plausible(patch_motion, scores[k], query):
            patches.append((scores[k] * np.sqrt(area), int(k), int(area)))
    return _paint(sorted(patches, reverse=True), labels, window, query.free_area, frame)


def find_displaced(
    mask: NDArray[np.bool_],
    origin: PixelWindow,
    reach: float,
    appearance: Appearance,
    features: PixelFeatures,
    background: BackgroundAge,
) -> tuple[PixelWindow, float] | None:
    """Where a mask fits by its appearance, for an object that moved too fast for the flow: the place at which the
    inside is most similar to the prompt and a ring around it least, the nearer the better.

    Args:
        mask: `(rows, columns)` bool, tight.
        origin: tight window around where it is expected, of the mask's shape; it may lie partly outside the frame.
        reach: pixels that it may lie elsewhere.
        appearance, features, background: of the object and the frame.

    Returns:
        The window of the mask's new place inside the frame, and its fit, as a share of the prompt's similarity; None
        when it does not fit in there.
    """
    frame = features.codes.shape[:2]
    search = origin.grow(reach, frame)
    padded = np.pad(mask, _RING).astype(np.uint8)
    if search.shape[0] < mask.shape[0] or search.shape[1] < mask.shape[1]:
        return None
    ring = cv2.dilate(padded, np.ones((2 * _RING + 1, 2 * _RING + 1), np.uint8)) - padded
    kernel = padded / np.float32(padded.sum()) - 0.5 * ring / np.float32(ring.sum())
    similarity = appearance.similarity(features, search) / np.float32(appearance.reference)
    similarity[background.known(search)] = similarity.min(initial=-1.0)
    border = cv2.copyMakeBorder(similarity, _RING, _RING, _RING, _RING, cv2.BORDER_CONSTANT, value=0.0)
    fit = cv2.matchTemplate(border, kernel.astype(np.float32), cv2.TM_CCORR)
    ys, xs = np.mgrid[: fit.shape[0], : fit.shape[1]]
    distance = np.hypot(ys + search.top - origin.top, xs + search.left - origin.left)
    y, x = np.unravel_index(int(np.argmax(fit - _FAR_PENALTY * distance / reach)), fit.shape)
    top, left = search.top + int(y), search.left + int(x)
    return PixelWindow(top, top + mask.shape[0], left, left + mask.shape[1]), float(fit[y, x])


def _search_window(query: RedetectionQuery, frame: tuple[int, int]) -> PixelWindow:
    if query.visible is None:
        return PixelWindow(0, frame[0], 0, frame[1])
    (x, y), (half_x, half_y) = query.centre, query.half_size
    expected = PixelWindow(int(y - half_y), int(y + half_y) + 1, int(x - half_x), int(x + half_x) + 1)
    return query.visible.join(expected).grow(1.2 * np.sqrt(half_x * half_y), frame)


def _required_similarity(
    query: RedetectionQuery, appearance: Appearance, settings: FlowSettings, background: BackgroundAge
) -> float:
    """Share of the prompt's similarity that a patch needs: a lost object more than what resembled it at first, as
    far as that is not known to be background."""
    if query.visible is not None:
        return settings.part_likeness
    return settings.object_likeness + background.unknown_share * max(
        appearance.confusion + _CLEARANCE - settings.object_likeness, 0.0
    )


def _plausible_labels(
    areas: NDArray[np.int32], scores: NDArray[np.float64], query: RedetectionQuery, required: float
) -> NDArray[np.int64]:
    """Labels of patches whose size and similarity are right."""
    smallest = max(_MIN_PATCH_AREA, _MIN_PATCH_SHARE * query.expected_area)
    is_plausible = (scores > required) & (areas >= smallest) & (areas <= _MAX_PATCH_SHARE * query.expected_area)
    if query.visible is None:
        is_plausible &= areas > _MIN_OBJECT_SHARE * query.expected_area
    else:
        is_plausible &= areas <= query.free_area
    is_plausible[0] = False  # label 0 is what is not similar
    return np.flatnonzero(is_plausible)


def _motion_is_plausible(patch_motion: NDArray[np.float32], score: float, query: RedetectionQuery) -> bool:
    if query.visible is None:
        return bool(np.hypot(*patch_motion) > _MIN_OWN_MOTION or score > _MOTIONLESS_SIMILARITY)
    speed = float(np.hypot(*query.velocity))
    if speed <= 0.5:
        return False
    return bool(0.4 < patch_motion @ query.velocity / (speed**2 + 0.1) < 2.5)


def _paint(
    patches: list[tuple[float, int, int]],
    labels: NDArray[np.int32],
    window: PixelWindow,
    free_area: float,
    frame: tuple[int, int],
) -> NDArray[np.bool_] | None:
    """The best patches, (score, label, area) best first, as far as their area fits; the first one always."""
    if not patches:
        return None
    chosen: list[int] = []
    total = 0
    for _, k, area in patches:
        if not chosen or total + area <= free_area:
            chosen.append(k)
            total += area
    out = np.zeros(frame, np.bool_)
    out[window.slices] = np.isin(labels, chosen)
    return out
