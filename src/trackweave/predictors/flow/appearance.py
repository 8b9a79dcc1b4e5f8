"""The appearance of an object against its surroundings, learned online.

`Appearance`: class-balanced log-likelihood ratios from averaged shifted histograms (Scott, "Averaged shifted
histograms", 1985) over three cues: fine colour, coarse colour with texture, and colour with the position inside the
object. Both classes count with mass one however large they are, which keeps small objects alive. The object's
histograms come from prompts alone, since an object model that learns from its own results drifts; the background's
follow the video, since new surroundings keep appearing.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import inner, njit
from trackweave.predictors.flow.frame_features import TABLE_SIZE, TABLES, PixelFeatures
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.windows import PixelWindow

_RARE_SHARE = 1e-3
"""Share of a class below which a histogram bin says little."""

_RARE_PIXELS = 0.3
"""The same in pixels, for objects so small that one pixel is a large share."""

_CELLS = 8
"""Rows and columns of the object-centred grid that stands for the position inside the object."""

# Fine colour, coarse colour with texture, colour with position:
_GRIDS_PER_CUE = np.array([4.0, 4.0, 2.0], np.float32)
_ALL_CUES = np.array([1.0, 1.0, 1.0], np.float32)
_WITHOUT_POSITION = np.array([1.5, 1.5, 0.0], np.float32)


class Appearance:
    """Histograms of one object and its background, and the log-ratio of the two, `(TABLES, TABLE_SIZE)` each.

    The histograms are kept in half precision, since there may be hundreds of objects.

    Args:
        settings: weight and limit of the log-odds, and how fast the background model changes.

    Attributes:
        reference: mean similarity of the object on its prompt frame, log-odds.
        confusion: similarity of the most similar other thing on the prompt frame, as a share of `reference`: an object
            among look-alikes cannot be identified by its appearance.
    """

    def __init__(self, settings: FlowSettings) -> None:
        self._recent_share, self._decay = settings.background_share, settings.background_decay
        self._weights = _ALL_CUES * np.float32(settings.appearance_weight)
        self._limit = settings.appearance_limit
        self._object = np.zeros((TABLES, TABLE_SIZE), np.float16)
        self._prompt_background = np.zeros((TABLES, TABLE_SIZE), np.float16)
        self._recent_background: NDArray[np.float16] | None = None
        self._log_ratio = np.zeros((TABLES, TABLE_SIZE), np.float32)
        self._prompts = 0
        self._rare = _RARE_SHARE
        self.reference = self._limit
        self.confusion = 0.0

    def learn_prompt(self, features: PixelFeatures, mask: NDArray[np.bool_]) -> None:
        """Learns object and background from a prompt; several prompts count alike.

        Args:
            features: of the prompt frame.
            mask: `(h, w)` bool, working size, not empty.
        """
        self._prompts += 1
        tight = PixelWindow.around(mask)
        inside, outside = _histograms(features, mask[training_window(tight, mask.shape).slices], tight)
        share = 1 / self._prompts
        self._object = _interpolate(self._object, inside, share)
        self._prompt_background = _interpolate(self._prompt_background, outside, share)
        self._rare = max(_RARE_SHARE, _RARE_PIXELS / float(mask.sum()))
        self._update_log_ratio()
        similarity = self.similarity(features, PixelWindow(0, mask.shape[0], 0, mask.shape[1]))
        self.reference = max(float(similarity[mask].mean()), 0.1)
        self.confusion = max(self.confusion, _most_similar_other(similarity, mask) / self.reference)

    def update_background(
        self, features: PixelFeatures, mask: NDArray[np.bool_], tight: PixelWindow, frames: int
    ) -> None:
        """Learns the present background.

        Args:
            features: of the present frame.
            mask: bool, the object inside `training_window(tight)`.
            tight: window of the object without a margin.
            frames: number of frames since the last update.
        """
        _, outside = _histograms(features, mask, tight)
        share = 1.0 if self._recent_background is None else 1 - self._decay**frames
        previous = self._prompt_background if self._recent_background is None else self._recent_background
        self._recent_background = _interpolate(previous, outside, share)
        self._update_log_ratio()

    def log_odds(self, features: PixelFeatures, window: PixelWindow, expected: PixelWindow) -> NDArray[np.float32]:
        """Log-odds that the pixels of `window` belong to the object, clipped, `(rows, columns)` float32.

        Args:
            features: of the frame.
            window: pixels to judge.
            expected: tight around where the object is expected, for the position inside it.
        """
        return self._look_up(features, window, expected, self._weights)

    def similarity(self, features: PixelFeatures, window: PixelWindow) -> NDArray[np.float32]:
        """Like `log_odds` but regardless of position, and averaged over 5×5 pixels."""
        log_odds = self._look_up(features, window, window, _WITHOUT_POSITION)
        return np.asarray(cv2.blur(log_odds, (5, 5)), np.float32)

    def _look_up(
        self, features: PixelFeatures, window: PixelWindow, expected: PixelWindow, weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        out = np.empty(window.shape, np.float32)
        rows, columns = _cells(window, expected)
        scale = weights / _GRIDS_PER_CUE
        _look_up(features.codes, window.top, window.left, rows, columns, self._log_ratio, scale, self._limit, out)
        return out

    def _update_log_ratio(self) -> None:
        background = self._prompt_background.astype(np.float32)
        if self._recent_background is not None:
            background += np.float32(self._recent_share) * (self._recent_background - background)
        _log_ratio(self._object.astype(np.float32), background, np.float32(self._rare), self._log_ratio)


def _interpolate(start: NDArray[np.float16], end: NDArray[np.float32], share: float) -> NDArray[np.float16]:
    """`start` moved by `share` of the way to `end`."""
    return np.asarray(start + np.float32(share) * (end - start), np.float16)


def _most_similar_other(similarity: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Mean similarity of the most similar patch beside the object; 0 when none has a quarter of its size."""
    near = cv2.dilate(mask.view(np.uint8), np.ones((7, 7), np.uint8))
    similar = ((similarity > 1) & (near == 0)).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(similar, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    means = np.bincount(labels.ravel(), weights=similarity.ravel(), minlength=count) / areas
    means[(areas < 0.25 * np.count_nonzero(mask)) | (np.arange(count) == 0)] = 0
    return float(means.max())


def training_window(tight: PixelWindow, frame: tuple[int, int]) -> PixelWindow:
    """Where the background of an object with this tight window is learned, in a frame `(h, w)`."""
    return tight.grow(2 * tight.margin(), frame)


def _cells(window: PixelWindow, expected: PixelWindow) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column cell of the object-centred grid, for each row and column of `window`."""
    centre, half = expected.centre, expected.half_size
    columns = (np.arange(window.left, window.right) - centre[0]) / half[0] * 3 + _CELLS / 2
    rows = (np.arange(window.top, window.bottom) - centre[1]) / half[1] * 3 + _CELLS / 2
    return np.clip(rows, 0, _CELLS - 1).astype(np.int64), np.clip(columns, 0, _CELLS - 1).astype(np.int64)


def _histograms(
    features: PixelFeatures, mask: NDArray[np.bool_], tight: PixelWindow
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Shares of object and background per bin. `mask` covers the training window of `tight`."""
    window = training_window(tight, features.codes.shape[:2])
    weights = _sample_weights(mask, float(tight.margin()))
    rows, columns = _cells(window, tight)
    inside = np.zeros((TABLES, TABLE_SIZE), np.float32)
    outside = np.zeros((TABLES, TABLE_SIZE), np.float32)
    _accumulate(features.codes, window.top, window.left, rows, columns, weights, inside, outside)
    inside /= max(float(weights[weights > 0].sum()), 1.0)
    outside /= max(float(-weights[weights < 0].sum()), 1.0)
    return inside, outside


def _sample_weights(mask: NDArray[np.bool_], margin: float) -> NDArray[np.float32]:
    """Weight of each pixel as a sample: positive for the object, negative for the background.

    Background counts less with distance, and pixels along the boundary count half, since they mix both.
    """
    outside = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)
    inside = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 3)
    weights = np.where(mask, np.float32(1), -np.exp(-outside / margin))
    weights[(inside + outside) <= 1] *= 0.5
    return np.asarray(weights, np.float32)


@inner
def _bin_in_cell(code: Any, row: Any, column: Any) -> Any:
    """Bin of a colour code in a cell of the object-centred grid; the same for counting and for looking up."""
    return (code * 61 + (row * 8 + column) * 1031) & (TABLE_SIZE - 1)


@njit(nogil=True)
def _accumulate(
    codes: NDArray[np.uint16],
    top: int,
    left: int,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    weights: NDArray[np.float32],
    inside: NDArray[np.float32],
    outside: NDArray[np.float32],
) -> None:
    height, width = weights.shape
    for y in range(height):
        for x in range(width):
            table = inside if weights[y, x] > 0 else outside
            weight = abs(weights[y, x])
            for f in range(8):
                table[f, codes[top + y, left + x, f]] += weight
            for f in range(8, 10):
                table[f, _bin_in_cell(np.int64(codes[top + y, left + x, f]), rows[y], columns[x])] += weight


@njit(nogil=True, fastmath=True)
def _look_up(
    codes: NDArray[np.uint16],
    top: int,
    left: int,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    table: NDArray[np.float32],
    scale: NDArray[np.float32],
    limit: float,
    out: NDArray[np.float32],
) -> None:
    height, width = out.shape
    lowest, highest = np.float32(-limit), np.float32(limit)
    for y in range(height):
        for x in range(width):
            fine, coarse, placed = np.float32(0), np.float32(0), np.float32(0)
            for f in range(4):
                fine += table[f, codes[top + y, left + x, f]]
            for f in range(4, 8):
                coarse += table[f, codes[top + y, left + x, f]]
            if scale[2] > 0:
                for f in range(8, 10):
                    placed += table[f, _bin_in_cell(np.int64(codes[top + y, left + x, f]), rows[y], columns[x])]
            total = scale[0] * fine + scale[1] * coarse + scale[2] * placed
            out[y, x] = min(max(total, lowest), highest)


@njit(nogil=True, fastmath=True)
def _log_ratio(
    inside: NDArray[np.float32], outside: NDArray[np.float32], rare: np.float32, out: NDArray[np.float32]
) -> None:
    for f in range(inside.shape[0]):
        for k in range(inside.shape[1]):
            if inside[f, k] == 0 and outside[f, k] == 0:
                out[f, k] = 0
            else:
                out[f, k] = np.log((inside[f, k] + rare) / (outside[f, k] + rare))
