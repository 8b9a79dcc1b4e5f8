"""`TrackedObject`: one object that is propagated frame by frame, by flow, appearance and re-detection."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.predictors.flow.appearance import Appearance, training_window
from trackweave.predictors.flow.frame_features import PixelFeatures
from trackweave.predictors.flow.motion import Motion, motion_log_odds, signed_distance, warp, warped_mask_prior
from trackweave.predictors.flow.presence import BackgroundAge, Evidence, OwnMotion, objectness
from trackweave.predictors.flow.redetection import RedetectionQuery, find_displaced, redetect
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.smoothing import smooth
from trackweave.predictors.flow.windows import PixelWindow

_MAX_LOG_ODDS = 8.0
_MIN_LOG_ODDS = 0.05
"""Least log-odds of a pixel that belongs to the mask; negated, the largest of one that does not."""

_MOVING_SPEED = 1.5
"""Speed relative to the camera, pixels per frame, from which the object is known to move."""

_LOST_AREA_SHARE = 0.15
"""Share of the expected area below which the whole frame is searched."""

_SURELY_WRONG, _MAX_DOUBTFUL_FRAMES = 0.2, 3
"""Objectness below which, for so many consecutive frames, the mask is held to be something else and the object lost."""

_SURELY_SEEN = 0.5
"""Objectness from which a frame teaches what is background and how the object moves."""

_AREA_DECAY = 0.99
"""Share of the expected area that is kept per frame: an object that recedes slowly is not one that hides."""

_POSITION_DRIFT = 3.0
"""Pixels per frame by which the object's position becomes less certain while it is not wholly visible."""

_MIN_TRUSTED_SHARE = 0.5
"""Share of the mask that must be followed along the flow; below it the mask is looked for by its appearance."""

_MIN_REACH, _REACH_SHARE, _REACH_SPEED = 16.0, 0.5, 1.5
"""How far from where it is expected: working pixels, or a share of its half diagonal, and a multiple of its speed."""

_MIN_FIT = 0.6
"""Similarity to the prompt, more than that of a ring around it, that the mask needs at another place."""

_NO_LOGITS = np.full((1, 1), -_MAX_LOG_ODDS, np.float32), PixelWindow(0, 1, 0, 1)
"""Log-odds of an object that is nowhere, and their window. Shared: nobody writes to it."""


class TrackedObject:
    """State of one object on the last frame that it was moved to, in working pixels.

    Attributes:
        logits: log-odds inside `window`, float32; positive exactly where the object is.
        window: window of `logits`.
        score: objectness in [0, 1]. Below `FlowSettings.report_above` the object is propagated but not reported.
    """

    def __init__(self, appearance: Appearance, settings: FlowSettings) -> None:
        self._settings, self._appearance = settings, appearance
        self._frames = 0
        self._doubtful_frames = 0
        self._frames_since_whole = 0
        self.logits = np.zeros((1, 1), np.float32)
        self.window = PixelWindow(0, 1, 0, 1)
        self.score = 0.0
        self._tight: PixelWindow | None = None  # of the mask; None while the object is lost
        self._area = 0
        self._expected_area = 1.0
        self._centre = np.zeros(2)
        self._half_size = np.zeros(2)
        self._velocity = np.zeros(2)
        self._own_motion = OwnMotion()
        self._ambiguity = 0.0
        self._background = BackgroundAge(np.zeros((1, 1), np.bool_))

    @property
    def reported_logits(self) -> tuple[NDArray[np.float32], PixelWindow]:
        """Log-odds cut to the mask with a margin of two pixels, and their window; nowhere positive while the score is
        too low."""
        if self._tight is None or self.score < self._settings.report_above:
            return _NO_LOGITS
        near = PixelWindow(
            max(self._tight.top - 2, self.window.top),
            min(self._tight.bottom + 2, self.window.bottom),
            max(self._tight.left - 2, self.window.left),
            min(self._tight.right + 2, self.window.right),
        )
        rows = slice(near.top - self.window.top, near.bottom - self.window.top)
        columns = slice(near.left - self.window.left, near.right - self.window.left)
        return self.logits[rows, columns], near

    def anchor(self, mask: NDArray[np.bool_]) -> None:
        """Sets the object to a prompt's mask, `(h, w)` bool, not empty."""
        self._tight = PixelWindow.around(mask)
        self.window = self._tight.grow(2, mask.shape)
        self.logits = np.where(mask[self.window.slices], _MAX_LOG_ODDS, -_MAX_LOG_ODDS).astype(np.float32)
        self.score = 1.0
        self._doubtful_frames = self._frames_since_whole = 0
        self._background = BackgroundAge(mask)
        self._area = int(mask.sum())
        self._ambiguity = 0.0
        self._expected_area = float(self._area)
        self._centre, self._half_size = np.array(self._tight.centre), np.array(self._tight.half_size)

    def step(self, motion: Motion, features: PixelFeatures) -> None:
        """Moves the object to the next frame, whose features these are."""
        self._frames += 1
        shift = self._predict_position(motion)
        self._background.step(motion)
        was_lost = self._is_mostly_lost
        redetected = self._redetect(motion, features)
        if redetected is not None and was_lost and np.count_nonzero(redetected) > 2 * self._area:
            self._mark_lost()  # the remainder is more likely a leak into the background than the object
        if self._tight is None and redetected is None:
            return
        if redetected is not None and was_lost:
            self._ambiguity = self._background.unknown_share * self._appearance.confusion
        window = self._step_window(redetected, shift, motion.backward.shape[:2])
        warped = warp(_probability(self.logits), self.window, motion, window)
        if redetected is not None:
            redetected = redetected[window.slices]
            warped |= redetected
        elif self._tight is not None:
            window, warped = self._follow_fast_motion(window, warped, motion, features)
        if not warped.any():
            self._mark_lost()
            return
        logits, appearance = self._segment(warped, redetected, motion, features, window)
        mask = _keep_warped_parts(logits > 0, warped)
        mask = self._drop_static_parts(mask, motion.residual[window.slices])
        self._set_mask(logits, mask, window, features)
        if self._tight is not None:
            self._update_score(mask, appearance, motion, features)
        if redetected is not None and was_lost and self.score < self._settings.find_above:
            self._mark_lost()  # something similar where the object is not expected

    def _predict_position(self, motion: Motion) -> float:
        """Updates the object's centre and its velocity relative to the camera; returns its largest shift in pixels."""
        shift = 0.0
        height, width = motion.backward.shape[:2]
        if self._tight is not None:
            ys, xs = np.nonzero(self.logits > 0)
            every = len(ys) // 500 + 1
            ys, xs = ys[::every] + self.window.top, xs[::every] + self.window.left
            forward = motion.forward[ys, xs]
            shift = float(np.abs(np.median(forward, axis=0)).max())
            if self._area > 0.3 * self._expected_area:
                velocity = np.median(forward - motion.camera_forward[ys, xs], axis=0)
                self._velocity = 0.6 * self._velocity + 0.4 * velocity
            if self._area > 0.7 * self._expected_area:
                self._centre, self._half_size = np.array(self._tight.centre), np.array(self._tight.half_size)
                self._frames_since_whole = 0
        self._frames_since_whole += 1
        x, y = np.clip(self._centre, 0, [width - 1, height - 1]).astype(int)
        self._centre = self._centre + self._velocity + motion.camera_forward[y, x]
        return shift

    @property
    def _is_mostly_lost(self) -> bool:
        """Whether so little is left that the object may well be elsewhere."""
        return self._area < _LOST_AREA_SHARE * self._expected_area

    def _redetect(self, motion: Motion, features: PixelFeatures) -> NDArray[np.bool_] | None:
        if self._area >= self._settings.search_below * self._expected_area:
            return None
        query = RedetectionQuery(
            None if self._is_mostly_lost else self._tight,
            self._area,
            self._expected_area,
            self._centre,
            self._half_size,
            self._velocity,
            _probability(self.logits),
            self.window,
        )
        return redetect(query, self._appearance, motion, features, self._settings, self._background)

    def _step_window(self, redetected: NDArray[np.bool_] | None, shift: float, frame: tuple[int, int]) -> PixelWindow:
        """The window of this step: around the previous mask and the re-detected patches, with a margin."""
        tight = self._tight
        if redetected is not None:
            patches = PixelWindow.around(redetected)
            tight = patches if tight is None else tight.join(patches)
        assert tight is not None
        return tight.grow(tight.margin() + int(shift), frame)

    def _follow_fast_motion(
        self, window: PixelWindow, warped: NDArray[np.bool_], motion: Motion, features: PixelFeatures
    ) -> tuple[PixelWindow, NDArray[np.bool_]]:
        """Replaces the warped mask, where the flow cannot be trusted, by the previous mask at the place that fits."""
        assert self._tight is not None
        followed = motion.source[window.slices][warped] >= 0
        if np.count_nonzero(followed) > _MIN_TRUSTED_SHARE * self._area:
            return window, warped
        tight, frame = self._tight, motion.backward.shape[:2]
        previous = _inside(self.logits > 0, self.window, tight)
        y, x = np.round(self._centre[::-1] - np.array(tight.centre)[::-1]).astype(int)
        expected = PixelWindow(tight.top + y, tight.bottom + y, tight.left + x, tight.right + x)
        reach = max(_MIN_REACH, _REACH_SHARE * float(np.hypot(*tight.half_size)))
        reach += _REACH_SPEED * float(np.hypot(*self._velocity))
        found = find_displaced(previous, expected, reach, self._appearance, features, self._background)
        if found is None:
            return window, warped
        similarity = self._appearance.similarity(features, window) / self._appearance.reference
        here = float(similarity[warped].mean()) if warped.any() else -1.0
        place, fit = found
        if fit < max(here, _MIN_FIT):
            return window, warped
        window = place.grow(place.margin(), frame)
        displaced = np.zeros(window.shape, np.bool_)
        displaced[
            place.top - window.top : place.bottom - window.top, place.left - window.left : place.right - window.left
        ] = previous
        return window, displaced

    def _segment(
        self,
        warped: NDArray[np.bool_],
        redetected: NDArray[np.bool_] | None,
        motion: Motion,
        features: PixelFeatures,
        window: PixelWindow,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Sums the log-odds of all cues and smooths them; also returns the log-odds of appearance by itself."""
        settings = self._settings
        distance = signed_distance(warped)
        expected = PixelWindow.around(warped, window.top, window.left)
        appearance = self._appearance.log_odds(features, window, expected)
        logits = warped_mask_prior(distance, redetected, motion, window, settings) + appearance
        if settings.motion_weight:
            logits += settings.motion_weight * motion_log_odds(
                distance, appearance, motion, window, settings.motion_limit
            )
        smoothed = smooth(logits, features, window, settings.smoothing, settings.smoothing_rounds)
        return smoothed, appearance

    def _drop_static_parts(self, mask: NDArray[np.bool_], residual: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Drops detached small parts that stay with the scene while the object moves through it."""
        speed = float(np.hypot(*self._velocity))
        if speed < _MOVING_SPEED:
            return mask
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        keep = np.ones(count, np.bool_)
        for k in range(1, count):
            if areas[k] < 0.5 * areas[1:].max():
                x, y, width, height = stats[k, :4]
                inside = labels[y : y + height, x : x + width] == k
                part_motion = -np.median(residual[y : y + height, x : x + width][inside], axis=0)
                keep[k] = part_motion @ self._velocity > 0.3 * speed**2
        return mask if keep.all() else np.asarray(keep[labels] & mask, np.bool_)

    def _set_mask(
        self, logits: NDArray[np.float32], mask: NDArray[np.bool_], window: PixelWindow, features: PixelFeatures
    ) -> None:
        """Takes over this frame's mask; the logits are clipped so that their sign says what the mask says."""
        if not mask.any():
            self._mark_lost()
            return
        inside, outside = np.clip(logits, _MIN_LOG_ODDS, _MAX_LOG_ODDS), np.clip(logits, -_MAX_LOG_ODDS, -_MIN_LOG_ODDS)
        self.logits, self.window = np.where(mask, inside, outside).astype(np.float32), window
        self._tight = PixelWindow.around(mask, window.top, window.left)
        self._area = int(np.count_nonzero(mask))
        self._expected_area = max(float(self._area), _AREA_DECAY * self._expected_area)
        if self._frames % self._settings.refresh_every == 0:
            self._update_background(mask, features)

    def _update_score(
        self, mask: NDArray[np.bool_], appearance: NDArray[np.float32], motion: Motion, features: PixelFeatures
    ) -> None:
        """Scores the mask, and learns from it when it surely is the object. A mask that has been doubtful for several
        frames is not the object."""
        assert self._tight is not None
        reference, window = self._appearance.reference, self.window
        extent = np.hypot(*self._half_size) + _POSITION_DRIFT * (self._frames_since_whole - 1)
        evidence = Evidence(
            certainty=2 * float(_probability(self.logits)[mask].mean()) - 1,
            displacement=float(np.hypot(*(self._tight.centre - self._centre)) / extent),
            resemblance=float(appearance[mask].mean()) / reference,
            similarity=float(self._appearance.similarity(features, window)[mask].mean()) / reference,
            unison=self._own_motion.unison(mask, motion, window),
            habit=self._own_motion.habit,
            known_background=float(self._background.known(window)[mask].mean()),
            ambiguity=self._ambiguity,
        )
        self.evidence = evidence
        self.score = objectness(evidence)
        if self.score >= _SURELY_SEEN:
            self._own_motion.learn()
            self._background.learn(mask, window)
        self._doubtful_frames = self._doubtful_frames + 1 if self.score < _SURELY_WRONG else 0
        if self._doubtful_frames >= _MAX_DOUBTFUL_FRAMES:
            self._background.refuse(mask, window)
            self._mark_lost()

    def _update_background(self, mask: NDArray[np.bool_], features: PixelFeatures) -> None:
        assert self._tight is not None
        train = training_window(self._tight, features.codes.shape[:2])
        around = np.zeros(train.shape, np.bool_)
        inner = mask[
            self._tight.top - self.window.top : self._tight.bottom - self.window.top,
            self._tight.left - self.window.left : self._tight.right - self.window.left,
        ]
        top, left = self._tight.top - train.top, self._tight.left - train.left
        around[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        self._appearance.update_background(features, around, self._tight, self._settings.refresh_every)

    def _mark_lost(self) -> None:
        """Nothing is left of the mask. Expected area, position and velocity stay: re-detection needs them."""
        self._tight, self._area, self.score, self._doubtful_frames = None, 0, 0.0, 0
        self.logits, self.window = _NO_LOGITS


def _probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def _inside(mask: NDArray[np.bool_], window: PixelWindow, part: PixelWindow) -> NDArray[np.bool_]:
    """The part of a mask of `window` that lies in a window inside it."""
    top, left = part.top - window.top, part.left - window.left
    return mask[top : top + part.shape[0], left : left + part.shape[1]]


def _keep_warped_parts(mask: NDArray[np.bool_], warped: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drops specks, and parts of which the warped mask covers less than 30 %; the best covered part stays."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA]
    covered = np.bincount(labels[warped], minlength=count)
    keep = (covered > 0.3 * areas) & (areas >= min(0.02 * areas[1:].max(), 30))
    keep[1 + int(np.argmax(covered[1:]))] = True
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)
