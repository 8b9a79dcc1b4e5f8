"""`SeenArea`: how much of a frame was in view when candidates were last looked for; what came since is worth a look.

What was seen moves along with the image: each pixel is traced back to the frame before by dense optical flow (DIS;
Kroeger et al., ECCV 2016). A pixel that came in over the border, or from behind something (its way back and forth does
not close), was not seen.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.masks.ops import rescale_masks
from trackweave.structures.candidates import Candidates

NEW_SHARE = 0.1
"""Share of the frame that was not in view at the last look from which another look is due."""
MIN_NEW = 0.5
"""Share of a candidate's pixels that have to be new."""
MIN_GAP = 5
"""Frames between two looks at least: where flow fails altogether, everything seems new on every frame."""
_SIDE = 192
"""Longer side of the frames that flow is computed on, in pixels."""
_CLOSES, _CLOSES_RELATIVE = 1.0, 0.1
"""A pixel's way back and forth ends at most this far from where it began: pixels, and share of the way."""


class SeenArea:
    """The part of the current frame that was in view when `look` was called last; frames come in order.

    Attributes:
        frames_since: frames that came since that call.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._grey: NDArray[np.uint8] | None = None
        self._seen: NDArray[np.float32] = np.zeros((1, 1), np.float32)
        self.frames_since = 0

    def move_to(self, image: NDArray[np.uint8]) -> None:
        """Goes on to the next frame, `(H, W, 3)` uint8 RGB."""
        grey = _reduced(image)
        if self._grey is None or self._grey.shape != grey.shape:
            self._seen = np.zeros(grey.shape, np.float32)
        else:
            self._seen = self._moved(self._grey, grey)
        self._grey = grey
        self.frames_since += 1

    def advance(self, image: NDArray[np.uint8], *, starts: bool) -> bool:
        """Goes on to the next frame, `(H, W, 3)` uint8 RGB; returns whether candidates are to be looked for on it.

        They are on the first frame of a shot (`starts`), and where enough of the frame is new.
        """
        if starts:
            self.forget()
        self.move_to(image)
        return starts or (self.frames_since >= MIN_GAP and self.new_share >= NEW_SHARE)

    def look(self) -> None:
        """Candidates were looked for on this frame: from now on all that is in view counts as seen."""
        self._seen = np.ones_like(self._seen)
        self.frames_since = 0

    def forget(self) -> None:
        """Another shot begins with the next frame: nothing of it was seen."""
        self._grey = None

    @property
    def new_share(self) -> float:
        """Share of the frame that was not in view at the last look."""
        return float(np.mean(self._new))

    def new_candidates(self, candidates: Candidates) -> Candidates:
        """Those that mostly lie where nothing was seen."""
        small = rescale_masks(candidates.masks, *self._seen.shape)
        # A mask may be too small for this size; then it counts as new.
        shares = [1.0 if not mask.any() else float(self._new[mask].mean()) for mask in small.to_bool()]
        return candidates[np.flatnonzero(np.array(shares) >= MIN_NEW)]

    @property
    def _new(self) -> NDArray[np.bool_]:
        return self._seen < 0.5

    def _moved(self, before: NDArray[np.uint8], now: NDArray[np.uint8]) -> NDArray[np.float32]:
        back = self._flow.calc(now, before, None)  # type: ignore[call-overload]
        forth = self._flow.calc(before, now, None)  # type: ignore[call-overload]
        height, width = now.shape
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        x, y = columns + back[..., 0], rows + back[..., 1]
        returned = cv2.remap(forth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        gap = np.linalg.norm(back + returned, axis=2)
        closes = gap <= _CLOSES + _CLOSES_RELATIVE * np.linalg.norm(back, axis=2)
        # Single pixels at the edges of motion do not count as new.
        closes = cv2.morphologyEx(closes.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0
        seen = cv2.remap(self._seen, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
        return np.asarray(seen * (closes & inside), np.float32)


def _reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = min(1.0, _SIDE / max(height, width))
    # DIS needs a dozen pixels.
    size = (max(16, round(width * factor)), max(16, round(height * factor)))
    return np.asarray(cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY), np.uint8)
