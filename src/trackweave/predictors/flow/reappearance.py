"""Where an object, or a hidden part of it, shows again: `search`."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.predictors.flow.appearance import Appearance
from trackweave.predictors.flow.evidence import warp
from trackweave.predictors.flow.features import Features
from trackweave.predictors.flow.motion import Motion
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.window import Window

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
