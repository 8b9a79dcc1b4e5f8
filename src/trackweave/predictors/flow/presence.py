"""Is the object there? What speaks for it on one frame (`Evidence`), the probability that follows (`objectness`), and
what has to be remembered for it: where the background is known (`BackgroundAge`) and whether the object moves by itself
(`OwnMotion`).

A mask that lives on after its object has left or was hidden lies on background that was uncovered: it resembles the
prompt less, and above all it moves as its surroundings do, although the object had a motion of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.predictors.flow.motion import Motion, carry
from trackweave.predictors.flow.windows import PixelWindow

_MIN_UNCERTAINTY, _MAX_DISPLACEMENT = 1e-3, 3.0

_BIAS, _UNCERTAINTY_WEIGHT, _DISPLACEMENT_WEIGHT, _JUMP_WEIGHT = -2.3, -1.0, -1.2, -1.8
_RESEMBLANCE_WEIGHT, _SIMILARITY_WEIGHT = 2.6, 1.5
_STILLNESS_WEIGHT, _KNOWN_WEIGHT, _AMBIGUITY_WEIGHT = -5.3, -6.0, -1.0
"""From logistic regressions of "IoU with the truth of at least one half" on some 2100 masks: the scenes of
`benchmarks/absence_scenes.py` from half of the objects, and the development sequences, all frames and every third. What
is decided changes what is seen next, so of several fits the one was kept that errs least when it decides. Ambiguity
counts less than in the fit: else what returns among look-alikes is never found."""

KNOWN_AGE = 4
"""Frames after which a pixel that was always outside the mask is known to be background."""

_MAX_AGE = 16
_CLEARANCE = 3.0
"""Distance from the mask, working pixels, beyond which a pixel is certainly outside."""

_OWN_MOTION, _PARALLAX = 0.7, 0.2
"""Difference to the surroundings' motion from which an object moves by itself: pixels per frame, and a share of the
camera's motion, since near and far move differently."""

_FIRST_STILL_FRAME = 0.8
"""What a single still frame counts: a moment of it says less than two frames."""

_HABIT_DECAY = 0.97
"""Share of the memory of own motion that is kept per frame."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a mask on one frame.

    Attributes:
        certainty: of the mask's pixels, 0 for undecided, 1 for sure.
        displacement: from where the object was expected, in half diagonals of its reference extent.
        resemblance: of colours at their places inside the object to the prompt, as a share of the prompt's own.
        similarity: of colours wherever they are, likewise.
        unison: 1 for a mask that moves exactly as its surroundings, for the second frame or longer; towards 0 for one
            that moves by itself.
        habit: share of the frames so far on which the object moved by itself.
        known_background: share of the mask's pixels that are known to be background.
        ambiguity: after a loss, how much what else was on the prompt frame resembles the object, as far as that is not
            known to be background; 0 for an object that was never lost.
    """

    certainty: float
    displacement: float
    resemblance: float
    similarity: float
    unison: float
    habit: float
    known_background: float
    ambiguity: float


def objectness(evidence: Evidence) -> float:
    """Probability that a mask is the object: overlaps it by an IoU of at least one half. In (0, 1)."""
    displacement = min(evidence.displacement, _MAX_DISPLACEMENT)
    logit = (
        _BIAS
        + _UNCERTAINTY_WEIGHT * math.log(max(1 - evidence.certainty, _MIN_UNCERTAINTY))
        + (_DISPLACEMENT_WEIGHT + _JUMP_WEIGHT * (1 - evidence.habit)) * displacement
        + _RESEMBLANCE_WEIGHT * min(max(evidence.resemblance, 0.0), 1.1)
        + _SIMILARITY_WEIGHT * min(max(evidence.similarity, -0.5), 1.1)
        + _STILLNESS_WEIGHT * evidence.habit * evidence.unison
        + _KNOWN_WEIGHT * evidence.known_background
        + _AMBIGUITY_WEIGHT * evidence.ambiguity
    )
    return 1 / (1 + math.exp(-logit))


class OwnMotion:
    """How often the object moved otherwise than its surroundings, on the frames on which it was surely seen."""

    def __init__(self) -> None:
        self._seen, self._moved = 2.0, 1.0
        self._was_still = False
        self._difference = 0.0  # of the frame measured last, 1 where own motion begins

    def unison(self, mask: NDArray[np.bool_], motion: Motion, window: PixelWindow) -> float:
        """Compares the motion of a mask `(rows, columns)` of `window` with its surroundings'; see `Evidence`."""
        residual = motion.residual[window.slices]
        distance = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)
        ring = (distance > _CLEARANCE) & (distance < 4 * _CLEARANCE)
        inner, outer = residual[mask], residual[ring]
        if not len(outer):
            self._difference = math.inf  # fills the window: nothing to compare it with
            return 0.0
        inner, outer = inner[:: len(inner) // 800 + 1], outer[:: len(outer) // 800 + 1]
        difference = float(np.hypot(*(np.median(inner, axis=0) - np.median(outer, axis=0))))
        y, x = (window.top + window.bottom) // 2, (window.left + window.right) // 2
        camera = float(np.hypot(*motion.camera_forward[y, x]))
        self._difference = difference / (_OWN_MOTION + _PARALLAX * camera)
        was_still, self._was_still = self._was_still, self._difference <= 1
        return math.exp(-_OWN_MOTION * self._difference) * (1.0 if was_still else _FIRST_STILL_FRAME)

    @property
    def habit(self) -> float:
        """Share of frames on which the object moved by itself."""
        return self._moved / self._seen

    def learn(self) -> None:
        """Counts the frame that was measured last: the object was surely seen on it."""
        if math.isfinite(self._difference):
            self._seen = _HABIT_DECAY * self._seen + 1
            self._moved = _HABIT_DECAY * self._moved + (self._difference > 1)


class BackgroundAge:
    """For how many frames each pixel has been seen outside the object, followed along the flow: what was there before
    the object was lost is not the object.

    Attributes:
        age: `(h, w)` uint8, 0 for what appeared just now.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        outside = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)
        self.age = np.where(outside > _CLEARANCE, np.uint8(_MAX_AGE), np.uint8(0))

    def step(self, motion: Motion) -> None:
        """To the next frame."""
        self.age = carry(self.age, motion)

    def known(self, window: PixelWindow) -> NDArray[np.bool_]:
        """Pixels of a window that are known to be background."""
        return np.asarray(self.age[window.slices] >= KNOWN_AGE, np.bool_)

    @property
    def unknown_share(self) -> float:
        """Share of the frame's pixels that may be anything."""
        return float(np.mean(self.age < KNOWN_AGE))

    def learn(self, mask: NDArray[np.bool_], window: PixelWindow) -> None:
        """The object is surely seen: all that is not near it grows older. `mask` covers `window`."""
        here = self.age[window.slices]
        outside = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3) > _CLEARANCE
        older = np.minimum(here + 1, _MAX_AGE)
        inside = np.where(mask, here - np.minimum(here, 1), np.where(outside, older, here))
        np.minimum(self.age + np.uint8(1), np.uint8(_MAX_AGE), out=self.age)
        self.age[window.slices] = inside

    def refuse(self, mask: NDArray[np.bool_], window: PixelWindow) -> None:
        """The mask turned out not to be the object."""
        self.age[window.slices][mask] = _MAX_AGE
