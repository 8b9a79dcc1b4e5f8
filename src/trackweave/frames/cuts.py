"""Hard cuts: where one shot ends and the next begins. `CutDetector` for frames as they come, `find_cuts` for a source.

A frame begins a shot when two measures agree:

- It differs from the frame before by much more than that one did from its own predecessor: the score of FFmpeg's
  filter `scdet`, which lasting fast motion does not raise, but flashes do.
- Hardly any corner of the frame before is found again (Lucas–Kanade flow, there and back) once both have been brought
  to the same local brightness and contrast, so that flashes are not taken for cuts.

Frames without texture, such as black ones, are passed over: what follows is compared with the last frame that had some.
Dissolves and fades into each other are not looked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.errors import FrameError
from trackweave.frames.source import FrameSource, RGBFrame
from trackweave.ids import LocalIndex

MIN_SCORE = 6.0
"""Of `scdet`, in percent of the range of brightness; FFmpeg's own threshold is 10, without a second measure."""
MIN_RISE = 0.4
"""Score over difference: where frames lie far apart in time, all differ much, and some by a little more."""
MAX_FOLLOWED = 0.17
"""Share of corners found again up to which nothing of a frame is left in the next."""
_SIDE = 320
"""Longer side of the frames that are compared, in pixels; differences are taken at half of it."""
_CORNERS = {"maxCorners": 200, "qualityLevel": 0.01, "minDistance": 6}
_FLOW: dict[str, Any] = {"winSize": (13, 13), "maxLevel": 3}
_MAX_RETURN = 0.7
"""A corner is found again when it ends this near to where it began, in pixels, once followed there and back."""
_MIN_CORNERS = 12
_MIN_CONTRAST = 3.0
"""Standard deviation of brightness below which a frame counts as without texture."""


class _Step(NamedTuple):
    """From one frame with texture to the next: position, difference of brightness, share of corners found again."""

    position: int
    difference: float
    followed: float


class CutDetector:
    """Says of each frame whether a new shot begins with it. Frames may change their size; then nothing is said.

    >>> detector = CutDetector()
    >>> detector.update(np.zeros((40, 60, 3), np.uint8))
    False
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets the frames before: another video begins."""
        self._grey: NDArray[np.uint8] | None = None
        self._difference: float | None = None

    def update(self, image: RGBFrame) -> bool:
        """Whether the frame, `(H, W, 3)` uint8 RGB, begins a new shot. Of the second frame that is never said, as
        there is no difference to compare its own with."""
        previous = self._difference
        step = self._step(image)
        return step is not None and previous is not None and _is_cut(step, previous)

    def _step(self, image: RGBFrame, position: int = 0) -> _Step | None:
        """From the last frame with texture to this one; None where there is none before, or this one has none."""
        grey = _reduced(image)
        if float(grey.std()) < _MIN_CONTRAST:
            return None
        before, self._grey = self._grey, grey
        if before is None or before.shape != grey.shape:
            self._difference = None
            return None
        previous, difference = self._difference, _difference(before, grey)
        self._difference = difference
        # Corners cost ten times the difference: they are only followed where it matters.
        matters = previous is None or _stands_out(difference, previous)
        return _Step(position, difference, _followed(before, grey) if matters else 1.0)


def find_cuts(frames: FrameSource, on_frame: Callable[[int], object] | None = None) -> tuple[LocalIndex, ...]:
    """Positions of the frames that begin a new shot, ascending; the first frame is not among them.

    Every frame is decoded once. One that cannot be read is passed over.

    Args:
        frames: all of them, not a sample: frames far apart in time are hard to tell from a cut.
        on_frame: is called with the number of frames that are done.
    """
    steps = list(_steps(frames, on_frame))
    differences = [step.difference for step in steps]
    # The first difference has none before it: the one after it serves.
    before = [*differences[1:2], *differences[:-1]]
    return tuple(LocalIndex(step.position) for step, other in zip(steps, before, strict=False) if _is_cut(step, other))


def _steps(frames: FrameSource, on_frame: Callable[[int], object] | None) -> Iterator[_Step]:
    detector = CutDetector()
    for position in range(len(frames)):
        if on_frame is not None:
            on_frame(position + 1)
        with suppress(FrameError):  # whoever needs the frame says so
            step = detector._step(frames[position], position)
            if step is not None:
                yield step


def sampled_cuts(cuts: Sequence[int], whole: FrameSource, sampled: FrameSource) -> tuple[LocalIndex, ...]:
    """Positions among the sampled frames of the first frame of each shot, of cuts at positions of the whole video."""
    firsts = {bisect_left(sampled.indices, whole.indices[cut]) for cut in cuts}
    return tuple(LocalIndex(first) for first in sorted(firsts) if 0 < first < len(sampled))


def shot_of(position: int, cuts: Sequence[int], length: int) -> range:
    """The positions of the shot that a position lies in.

    >>> shot_of(4, [3, 7], 10), shot_of(7, [3, 7], 10), shot_of(0, [], 10)
    (range(3, 7), range(7, 10), range(0, 10))
    """
    first = max((cut for cut in cuts if cut <= position), default=0)
    return range(first, min((cut for cut in cuts if cut > position), default=length))


def _is_cut(step: _Step, previous: float) -> bool:
    return _stands_out(step.difference, previous) and step.followed <= MAX_FOLLOWED


def _stands_out(difference: float, previous: float) -> bool:
    score = min(difference, abs(difference - previous))
    return score >= max(MIN_SCORE, MIN_RISE * difference)


def _reduced(image: RGBFrame) -> NDArray[np.uint8]:
    """The frame in grey, its longer side at most `_SIDE`."""
    height, width = image.shape[:2]
    factor = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    # Colours after size: fewer pixels to convert.
    return np.asarray(cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY), np.uint8)


def _difference(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> float:
    """Mean absolute difference of brightness in percent of its range, as `scdet` has it."""
    half = [cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for grey in (before, now)]
    return float(cv2.absdiff(half[0], half[1]).mean()) * 100 / 256


def _followed(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> float:
    """Share of the corners of one frame that are found again in the other; 1 where there are too few to tell."""
    start, end = _levelled(before), _levelled(now)
    corners = cv2.goodFeaturesToTrack(start, **_CORNERS)  # type: ignore[call-overload]
    if corners is None or len(corners) < _MIN_CORNERS:
        return 1.0
    there, found, _ = cv2.calcOpticalFlowPyrLK(start, end, corners, None, **_FLOW)  # type: ignore[call-overload]
    back, returned, _ = cv2.calcOpticalFlowPyrLK(end, start, there, None, **_FLOW)  # type: ignore[call-overload]
    gap = np.abs(back - corners).reshape(-1, 2).max(axis=1)
    return float(np.mean((found.ravel() == 1) & (returned.ravel() == 1) & (gap < _MAX_RETURN)))


def _levelled(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brightness less its local mean, over its local spread: the same for a frame and its brightened copy."""
    values = grey.astype(np.float32)
    centred = values - cv2.GaussianBlur(values, (0, 0), 6)
    spread = np.sqrt(cv2.GaussianBlur(centred**2, (0, 0), 6) + 4)
    return np.asarray(np.clip(128 + 40 * centred / spread, 0, 255), np.uint8)
