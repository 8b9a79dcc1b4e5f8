"""`Target`: one object on its way through the video.

From a box to a mask on one frame, at working size.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.predictors.flow.appearance import Appearance, Features, objectness, training_window
from trackweave.predictors.flow.motion import Motion
from trackweave.predictors.flow.redetection import Quest, motion_evidence, prior, search, signed_distance, warp
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.smoothing import smooth
from trackweave.predictors.flow.windows import Window

_CERTAIN = 8.0
_MOVING = 1.5
"""Speed relative to the camera, pixels per frame, from which the object is known to move."""

_DWINDLED = 0.15
"""Share of the expected area below which the whole frame is searched."""

_STRANGE = 0.2
"""Resemblance to the prompt, as a share of the prompt's own, below which a mask is held to be something else …"""

_PATIENCE = 3
"""… when it stays so for this many frames."""

_SHRINK = 0.99
"""What the expected area keeps per frame: an object that recedes slowly is not one that hides."""

_STRAY = 3.0
"""Pixels per frame by which the place of an object becomes less certain while it is not wholly in sight."""

_NOWHERE = np.full((1, 1), -_CERTAIN, np.float32), Window(0, 1, 0, 1)


class Target:
    """State of one object on the last frame it was moved to, in working pixels.

    Attributes:
        logits: log-odds inside `window`, float32; positive exactly where the object is.
        window: where they lie.
        score: objectness in [0, 1]. Below `FlowSettings.report_above` the object is followed but not shown.
    """

    def __init__(self, appearance: Appearance, settings: FlowSettings) -> None:
        self._settings, self._appearance = settings, appearance
        self._frames = 0
        self._strange = 0
        self._unseen = 0
        self.logits = np.zeros((1, 1), np.float32)
        self.window = Window(0, 1, 0, 1)
        self.score = 0.0
        self._tight: Window | None = None
        self._area = 0
        self._expected_area = 1.0
        self._centre = np.zeros(2)
        self._half_size = np.zeros(2)
        self._velocity = np.zeros(2)

    @property
    def outline(self) -> tuple[NDArray[np.float32], Window]:
        """Log-odds cut to the object with a rim, and where they lie; nowhere positive while it is too doubtful."""
        if self._tight is None or self.score < self._settings.report_above:
            return _NOWHERE
        near = Window(
            max(self._tight.top - 2, self.window.top),
            min(self._tight.bottom + 2, self.window.bottom),
            max(self._tight.left - 2, self.window.left),
            min(self._tight.right + 2, self.window.right),
        )
        rows = slice(near.top - self.window.top, near.bottom - self.window.top)
        columns = slice(near.left - self.window.left, near.right - self.window.left)
        return self.logits[rows, columns], near

    def anchor(self, mask: NDArray[np.bool_]) -> None:
        """Puts the object where a prompt says it is; `mask` is `(h, w)` bool, not empty."""
        self._tight = Window.around(mask)
        self.window = self._tight.grow(2, mask.shape)
        self.logits = np.where(mask[self.window.slices], _CERTAIN, -_CERTAIN).astype(np.float32)
        self.score = 1.0
        self._strange = self._unseen = 0
        self._area = int(mask.sum())
        self._expected_area = float(self._area)
        self._centre, self._half_size = np.array(self._tight.centre), np.array(self._tight.half_size)

    def step(self, motion: Motion, features: Features) -> None:
        """Moves on to the next frame, whose features these are."""
        self._frames += 1
        shift = self._predict(motion)
        was_lost = self._dwindled
        found = self._search(motion, features)
        if found is not None and was_lost and np.count_nonzero(found) > 2 * self._area:
            self._lose()  # what is left is more likely a leak than the object
        if self._tight is None and found is None:
            return
        window = self._look_at(found, shift, motion.back.shape[:2])
        warped = warp(_probability(self.logits), self.window, motion, window)
        if found is not None:
            found = found[window.slices]
            warped |= found
        if not warped.any():
            self._lose()
            return
        logits, appearance = self._decide(warped, found, motion, features, window)
        mask = _keep_parts(logits > 0, warped)
        mask = self._drop_static_parts(mask, motion.own[window.slices])
        self._accept(logits, mask, window, features)
        if self._tight is not None:
            self._judge(mask, appearance)
        if found is not None and was_lost and self.score < self._settings.find_above:
            self._lose()  # something alike where the object is not expected

    def _predict(self, motion: Motion) -> float:
        """Follows the object's centre, velocity relative to the camera, and largest shift in pixels."""
        shift = 0.0
        height, width = motion.back.shape[:2]
        if self._tight is not None:
            ys, xs = np.nonzero(self.logits > 0)
            every = len(ys) // 500 + 1
            ys, xs = ys[::every] + self.window.top, xs[::every] + self.window.left
            ahead = motion.ahead[ys, xs]
            shift = float(np.abs(np.median(ahead, axis=0)).max())
            if self._area > 0.3 * self._expected_area:
                own = np.median(ahead - motion.camera_ahead[ys, xs], axis=0)
                self._velocity = 0.6 * self._velocity + 0.4 * own
            if self._area > 0.7 * self._expected_area:
                self._centre, self._half_size = np.array(self._tight.centre), np.array(self._tight.half_size)
                self._unseen = 0
        self._unseen += 1
        x, y = np.clip(self._centre, 0, [width - 1, height - 1]).astype(int)
        self._centre = self._centre + self._velocity + motion.camera_ahead[y, x]
        return shift

    @property
    def _dwindled(self) -> bool:
        """Whether so little is left that the object may well be elsewhere."""
        return self._area < _DWINDLED * self._expected_area

    def _search(self, motion: Motion, features: Features) -> NDArray[np.bool_] | None:
        if self._area >= self._settings.search_below * self._expected_area:
            return None
        quest = Quest(
            None if self._dwindled else self._tight,
            self._area,
            self._expected_area,
            self._centre,
            self._half_size,
            self._velocity,
            _probability(self.logits),
            self.window,
        )
        return search(quest, self._appearance, motion, features, self._settings)

    def _look_at(self, found: NDArray[np.bool_] | None, shift: float, frame: tuple[int, int]) -> Window:
        """The window of this step: around what there was and what was found, with a margin."""
        tight = self._tight
        if found is not None:
            fresh = Window.around(found)
            tight = fresh if tight is None else tight.join(fresh)
        assert tight is not None
        return tight.grow(tight.margin() + int(shift), frame)

    def _decide(
        self,
        warped: NDArray[np.bool_],
        found: NDArray[np.bool_] | None,
        motion: Motion,
        features: Features,
        window: Window,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Adds up the evidence and smooths it; also tells the evidence of appearance by itself."""
        settings = self._settings
        distance = signed_distance(warped)
        place = Window.around(warped, window.top, window.left)
        appearance = self._appearance.evidence(features, window, place)
        logits = prior(distance, found, motion, window, settings) + appearance
        if settings.motion_weight:
            logits += settings.motion_weight * motion_evidence(
                distance, appearance, motion, window, settings.motion_limit
            )
        smoothed = smooth(logits, features, window, settings.smoothing, settings.smoothing_rounds)
        return smoothed, appearance

    def _drop_static_parts(self, mask: NDArray[np.bool_], own: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Drops detached small parts that stay with the scene while the object moves through it."""
        speed = float(np.hypot(*self._velocity))
        if speed < _MOVING:
            return mask
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        keep = np.ones(count, np.bool_)
        for k in range(1, count):
            if areas[k] < 0.5 * areas[1:].max():
                x, y, width, height = stats[k, :4]
                inside = labels[y : y + height, x : x + width] == k
                moves = -np.median(own[y : y + height, x : x + width][inside], axis=0)
                keep[k] = moves @ self._velocity > 0.3 * speed**2
        return mask if keep.all() else np.asarray(keep[labels] & mask, np.bool_)

    def _accept(self, logits: NDArray[np.float32], mask: NDArray[np.bool_], window: Window, features: Features) -> None:
        if not mask.any():
            self._lose()
            return
        sure = np.where(mask, np.clip(logits, 0.05, _CERTAIN), np.clip(logits, -_CERTAIN, -0.05)).astype(np.float32)
        self.logits, self.window = sure, window
        self._tight = Window.around(mask, window.top, window.left)
        self._area = int(np.count_nonzero(mask))
        self._expected_area = max(float(self._area), _SHRINK * self._expected_area)
        if self._frames % self._settings.refresh_every == 0:
            self._refresh(mask, features)

    def _judge(self, mask: NDArray[np.bool_], appearance: NDArray[np.float32]) -> None:
        """Scores how sure the outline is, how near to the expected place, and how much it resembles the prompt.

        What has not resembled it for a while is not the object.
        """
        assert self._tight is not None
        resemblance = float(appearance[mask].mean()) / self._appearance.reference
        self._strange = self._strange + 1 if resemblance < _STRANGE else 0
        if self._strange >= _PATIENCE:
            self._lose()
            return
        certainty = 2 * float(_probability(self.logits)[mask].mean()) - 1
        extent = np.hypot(*self._half_size) + _STRAY * (self._unseen - 1)
        away = np.hypot(*(self._tight.centre - self._centre)) / extent
        self.score = objectness(certainty, float(away), resemblance)

    def _refresh(self, mask: NDArray[np.bool_], features: Features) -> None:
        assert self._tight is not None
        frame = features.codes.shape[:2]
        train = training_window(self._tight, frame)
        around = np.zeros(train.shape, np.bool_)
        inner = mask[
            self._tight.top - self.window.top : self._tight.bottom - self.window.top,
            self._tight.left - self.window.left : self._tight.right - self.window.left,
        ]
        top, left = self._tight.top - train.top, self._tight.left - train.left
        around[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        self._appearance.refresh(features, around, self._tight, self._settings.refresh_every)

    def _lose(self) -> None:
        self._tight, self._area, self.score, self._strange = None, 0, 0.0, 0
        self.logits, self.window = _NOWHERE


def _probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def _keep_parts(mask: NDArray[np.bool_], warped: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drops specks, and parts that the warped mask does not vouch for; the best part stays."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA]
    vouched = np.bincount(labels[warped], minlength=count)
    keep = (vouched > 0.3 * areas) & (areas >= min(0.02 * areas[1:].max(), 30))
    keep[1 + int(np.argmax(vouched[1:]))] = True
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)


_ROUNDS = 4
_SMALLEST_SIDE = 6  # working pixels; below it there is nothing for colour models to learn from
_LEAST, _MOST = 0.1, 0.98  # share of the box that a believable object covers


def mask_in_box(rgb: NDArray[np.uint8], box: Window) -> NDArray[np.bool_]:
    """Cuts an object out of its box by GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004).

    Where the cut is not believable, or the box is tiny, the ellipse inside the box is taken.

    Args:
        rgb: `(h, w, 3)` uint8.
        box: not empty.

    Returns:
        `(h, w)` bool, not empty, inside the box.
    """
    frame = rgb.shape[0], rgb.shape[1]
    out = np.zeros(frame, np.bool_)
    rows, columns = box.shape
    if min(rows, columns) >= _SMALLEST_SIDE:
        area = box.grow(max(8.0, 0.4 * max(rows, columns)), frame)
        cut = _grab_cut(np.ascontiguousarray(rgb[area.slices]), box, area)
        if _LEAST * rows * columns <= cut.sum() <= _MOST * rows * columns:
            out[area.slices] = cut
            return out
    out[box.slices] = _ellipse(rows, columns)
    return out


def _grab_cut(crop: NDArray[np.uint8], box: Window, area: Window) -> NDArray[np.bool_]:
    labels = np.full(crop.shape[:2], cv2.GC_BGD, np.uint8)
    inner = (
        slice(box.top - area.top, box.bottom - area.top),
        slice(box.left - area.left, box.right - area.left),
    )
    labels[inner] = cv2.GC_PR_BGD
    labels[inner][_ellipse(*box.shape)] = cv2.GC_PR_FGD
    if np.all(labels != cv2.GC_BGD):  # the box is the whole frame: its rim has to stand for the background
        labels[[0, -1], :] = labels[:, [0, -1]] = cv2.GC_BGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its k-means is seeded per thread
    cv2.grabCut(crop, labels, None, models[0], models[1], _ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), np.bool_)


def _ellipse(rows: int, columns: int) -> NDArray[np.bool_]:
    y = (np.arange(rows) + 0.5) / rows * 2 - 1
    x = (np.arange(columns) + 0.5) / columns * 2 - 1
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2 <= 1, np.bool_)
