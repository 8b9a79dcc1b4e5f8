"""The built-in candidate generator: regions of colour and texture at several granularities, without learned weights.

A frame is cut into some hundred superpixels (watershed of a two-scale colour gradient), which are merged into one
hierarchy; each level of granularity is a cut of it, so that levels nest and share nearly all the work.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.proposals.hierarchy import Hierarchy, RegionGraph, merge_regions, watershed
from trackweave.proposals.settings import RegionSettings
from trackweave.structures.candidates import Candidates

Image = NDArray[np.uint8]
Labels = NDArray[np.int64]

BINS = 16
EDGE_SCALES = (1.3, 3.25)  # pixels; the wider one suppresses texture
REFERENCE_PIXELS = 640 * 360
MASK_BLUR = 1.2  # sigma in pixels of the working image
MASK_MARGIN = 4  # the same; wider than the blur reaches
NEIGHBOURS = ((np.s_[:-1, :], np.s_[1:, :]), (np.s_[:, :-1], np.s_[:, 1:]))
"""Index pairs: each pixel and the one below it, each pixel and the one to its right."""


class _Segmentation(NamedTuple):
    """What all levels of one image share: superpixels and edges at working size `(H, W)`, and the hierarchy."""

    superpixels: Labels
    gradient: NDArray[np.float32]
    hierarchy: Hierarchy


class RegionProposals:
    """Proposes the regions of an image at a level of granularity, deterministically.

    Args:
        settings: None for the defaults.
    """

    def __init__(self, settings: RegionSettings | None = None) -> None:
        self.settings = settings or RegionSettings()
        self._held: tuple[Image, _Segmentation] | None = None

    @property
    def limits(self) -> dict[str, float]:
        """By which limits `propose_levels` chooses, as settings of candidates."""
        return {"min_area": self.settings.min_area, "max_count": self.settings.max_count}

    @property
    def files(self) -> list[Path]:
        """None: nothing is learned."""
        return []

    @property
    def levels(self) -> list[int]:
        """The levels of the settings, coarse to fine."""
        return sorted(self.settings.heights)

    def check_levels(self, levels: Iterable[int]) -> None:
        """Refuses levels that the settings do not have.

        Raises:
            SettingError: there is one.
        """
        for level in levels:
            if level not in self.settings.heights:
                valid = ", ".join(map(str, self.levels))
                raise SettingError(f"level {level}: the built-in proposals have levels {valid}")

    def propose(self, image: Image, level: int) -> Candidates:
        """Candidates of one level; see `propose_levels`."""
        return self.propose_levels(image, [level])[level]

    def propose_levels(self, image: Image, levels: Iterable[int]) -> dict[int, Candidates]:
        """Candidates of several levels from one hierarchy.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            levels: some of `self.levels`.

        Returns:
            per level the candidates, best score first, masks `(H, W)`. A score in [0, 1] compares the edges around a
            region with those inside it: 1 has none inside. An image without contrast has no candidates.

        Raises:
            SettingError: an unknown level.
            ValueError: not an RGB image.
        """
        requested = list(levels)
        self.check_levels(requested)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"an image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        held, self._held = self._held, None
        segmentation = held[1] if held is not None and held[0] is image else self._segment(image)
        size = (image.shape[0], image.shape[1])
        return {level: self._cut(segmentation, self.settings.heights[level], size) for level in requested}

    def raw_levels(self, image: Image, levels: Iterable[int]) -> dict[int, Candidates]:
        """What `propose_levels` chooses from: every region that is no background, of whatever area.

        The segmentation is at hand for a call of `propose_levels` on the same image.
        """
        loose = RegionProposals(self.settings.model_copy(update={"min_area": 0.0, "max_count": 1 << 30}))
        self._held = (image, self._segment(image))
        loose._held = self._held
        return loose.propose_levels(image, levels)

    def _segment(self, image: Image) -> _Segmentation:
        lab = _smooth_lab(image, self.settings.long_side)
        gradient = _edge_strength(lab)
        count = max(1, round(self.settings.pieces * gradient.size / REFERENCE_PIXELS))
        superpixels = watershed(gradient, count) - 1
        return _Segmentation(superpixels, gradient, merge_regions(_graph(superpixels, lab, gradient)))

    def _cut(self, segmentation: _Segmentation, height: float, size: tuple[int, int]) -> Candidates:
        """One level: regions that are neither specks nor background, smoothed and at the image's size."""
        labels = segmentation.hierarchy.cut(height)[segmentation.superpixels]
        scores = _scores(labels, segmentation.gradient)
        areas = np.bincount(labels.ravel(), minlength=len(scores)) / labels.size
        background = (areas > self.settings.background_area) & (
            _border_share(labels, len(scores)) > self.settings.background_border
        )
        chosen = np.flatnonzero((areas >= self.settings.min_area) & ~background)
        chosen = chosen[np.lexsort((-areas[chosen], -scores[chosen]))][: self.settings.max_count]
        masks = _masks(labels, chosen, size)
        remaining = masks.areas > 0  # smoothing may leave nothing of a thin region
        masks = masks[remaining]
        return Candidates(
            id=np.arange(len(masks), dtype=np.int64),
            xyxy=masks.boxes.astype(np.float32),
            score=scores[chosen][remaining].astype(np.float32),
            area=masks.areas,
            masks=masks,
        )


def _smooth_lab(image: Image, long_side: int) -> NDArray[np.float32]:
    """The image at working size in CIELAB, its texture smoothed and its edges kept."""
    import cv2

    scale = long_side / max(image.shape[:2])
    if scale < 1:
        width, height = (max(1, round(scale * side)) for side in image.shape[1::-1])
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    smooth = cv2.bilateralFilter(np.ascontiguousarray(image), 7, 30, 5)
    return np.asarray(cv2.cvtColor(smooth.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def _edge_strength(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(H, W)` colour gradient, summed over two scales; each in CIELAB units per width of its scale."""
    import cv2

    strength = np.zeros(lab.shape[:2], np.float32)
    for sigma in EDGE_SCALES:
        blurred = cv2.GaussianBlur(lab, (0, 0), sigma)
        across, down = (cv2.Sobel(blurred, cv2.CV_32F, dx, 1 - dx, scale=sigma / 8) for dx in (1, 0))
        strength += np.sqrt((across * across + down * down).sum(axis=2))
    return strength


def _graph(superpixels: Labels, lab: NDArray[np.float32], gradient: NDArray[np.float32]) -> RegionGraph:
    """The superpixels' colours, and the edges along their common borders."""
    count, flat = int(superpixels.max()) + 1, superpixels.ravel()
    sums = [np.bincount(flat, lab[..., c].ravel(), count) for c in range(3)]
    colour = np.stack(sums, axis=1).astype(np.float64)
    # L is in 0 … 100; a and b of photographs are hardly ever beyond ±40.
    bins = np.stack([lab[..., 0] * (BINS / 100), *((lab[..., c] + 40) * (BINS / 80) for c in (1, 2))])
    bins = np.clip(bins, 0, BINS - 1).astype(np.int64)
    histogram = [np.bincount(flat * BINS + b.ravel(), minlength=count * BINS).reshape(count, BINS) for b in bins]
    border, edge = np.zeros(count * count), np.zeros(count * count)
    for here, there in NEIGHBOURS:
        crossing = superpixels[here] != superpixels[there]
        pairs = superpixels[here][crossing] * count + superpixels[there][crossing]
        strength = np.maximum(gradient[here], gradient[there])[crossing]
        border += np.bincount(pairs, minlength=count * count)
        edge += np.bincount(pairs, strength, count * count)
    borders, edges = border.reshape(count, count), edge.reshape(count, count)
    area = np.bincount(flat, minlength=count).astype(np.float64)
    joined = np.concatenate(histogram, axis=1).astype(np.float64)
    return RegionGraph(area, colour, joined, borders + borders.T, edges + edges.T)


def _scores(labels: Labels, gradient: NDArray[np.float32]) -> NDArray[np.float64]:
    """Per region, mean edge strength on its border B and inside I as B / (B + I), `(P,)`; 0 without a border.

    Of several such measures this one separated regions that match an object best from others, on DAVIS 2016 and an
    indoor scan.
    """
    on_border = np.zeros(labels.shape, np.bool_)
    for here, there in NEIGHBOURS:
        crossing = labels[here] != labels[there]
        on_border[here] |= crossing
        on_border[there] |= crossing
    count = int(labels.max()) + 1
    means = []
    for where in (on_border, ~on_border):
        pixels = np.bincount(labels[where], minlength=count)
        means.append(np.bincount(labels[where], gradient[where], count) / np.maximum(pixels, 1))
    border, inside = means
    return np.asarray(border / np.maximum(border + inside, 1e-9))


def _border_share(labels: Labels, count: int) -> NDArray[np.float64]:
    """Share of the image's outermost pixels that each region has, `(P,)`."""
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.asarray(np.bincount(rim, minlength=count) / len(rim))


def _masks(labels: Labels, chosen: NDArray[np.integer[Any]], size: tuple[int, int]) -> PackedMasks:
    """The chosen regions as masks of the image's size, their boundaries smoothed."""
    if not len(chosen):
        return PackedMasks.empty(*size)
    from scipy.ndimage import find_objects

    crops, origins = [], []
    bounds = find_objects(labels + 1, int(labels.max()) + 1)
    for region in chosen.tolist():
        crop, origin = _smooth_mask(labels, region, bounds[region], size)
        crops.append(crop)
        origins.append(origin)
    return PackedMasks.from_crops(crops, np.array(origins), *size)


def _smooth_mask(
    labels: Labels, region: int, window: tuple[slice, slice], size: tuple[int, int]
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """One region, blurred, resized to the image's scale and thresholded at one half: a crop and its corner `(y, x)`."""
    import cv2

    top, bottom = max(window[0].start - MASK_MARGIN, 0), min(window[0].stop + MASK_MARGIN, labels.shape[0])
    left, right = max(window[1].start - MASK_MARGIN, 0), min(window[1].stop + MASK_MARGIN, labels.shape[1])
    inside = (labels[top:bottom, left:right] == region).astype(np.float32)
    # A region continues beyond the image's border: replicate. Elsewhere the margin is wider than the blur.
    soft = cv2.GaussianBlur(inside, (0, 0), MASK_BLUR, borderType=cv2.BORDER_REPLICATE)
    step_y, step_x = size[0] / labels.shape[0], size[1] / labels.shape[1]
    y0, y1, x0, x1 = round(top * step_y), round(bottom * step_y), round(left * step_x), round(right * step_x)
    if (y1 - y0, x1 - x0) != soft.shape:
        soft = cv2.resize(soft, (max(x1 - x0, 1), max(y1 - y0, 1)), interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft > 0.5), (y0, x0)
