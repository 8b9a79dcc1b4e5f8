"""The built-in candidate generator: regions of colour and texture at three granularities; no weights, no network.

A frame is cut into some hundred small regions (watershed of a two-scale colour gradient), which are merged into one
hierarchy; each level of granularity is a cut of it, so that levels share nearly all the work and nest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.proposals.hierarchy import Hierarchy, RegionGraph, merge_regions
from trackweave.proposals.settings import RegionSettings
from trackweave.proposals.watershed import watershed
from trackweave.structures.candidates import Candidates

Image = NDArray[np.uint8]
Labels = NDArray[np.int64]

BINS = 16
EDGE_SCALES = (1.3, 3.25)  # pixels; the wider one quietens texture
REFERENCE_PIXELS = 640 * 360
SMOOTHING = 1.2  # pixels of the working image
MARGIN = 4
NEIGHBOURS = ((np.s_[:-1, :], np.s_[1:, :]), (np.s_[:, :-1], np.s_[:, 1:]))
"""Index pairs: each pixel and the one below it, each pixel and the one to its right."""


class _Analysis(NamedTuple):
    """What all levels of one image share: small regions and edges at working size `(H, W)`, and the hierarchy."""

    pieces: Labels
    gradient: NDArray[np.float32]
    hierarchy: Hierarchy


class RegionProposals:
    """Proposes the regions of an image at a level of granularity. Same image and settings, same candidates.

    Args:
        settings: the defaults when left out.
    """

    def __init__(self, settings: RegionSettings | None = None) -> None:
        self.settings = settings or RegionSettings()

    @property
    def levels(self) -> list[int]:
        """The levels it knows, coarse to fine."""
        return sorted(self.settings.heights)

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
            region with those inside it: 1 has none inside. Nothing is proposed on a picture without contrast.

        Raises:
            SettingError: an unknown level.
            ValueError: not an RGB image.
        """
        wanted = list(levels)
        for level in wanted:
            if level not in self.settings.heights:
                known = ", ".join(map(str, self.levels))
                raise SettingError(f"level {level}: the built-in proposals have levels {known}")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"an image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        analysis = self._analyse(image)
        size = (image.shape[0], image.shape[1])
        return {level: self._cut(analysis, self.settings.heights[level], size) for level in wanted}

    def _analyse(self, image: Image) -> _Analysis:
        """The work that levels share."""
        lab = _smooth_lab(image, self.settings.long_side)
        gradient = _edge_strength(lab)
        count = max(1, round(self.settings.pieces * gradient.size / REFERENCE_PIXELS))
        pieces = watershed(gradient, count) - 1
        return _Analysis(pieces, gradient, merge_regions(_graph(pieces, lab, gradient)))

    def _cut(self, analysis: _Analysis, height: float, size: tuple[int, int]) -> Candidates:
        """One level: parts that are neither specks nor background, smoothed and at the image's size."""
        labels = analysis.hierarchy.cut(height)[analysis.pieces]
        scores = _scores(labels, analysis.gradient)
        areas = np.bincount(labels.ravel(), minlength=len(scores)) / labels.size
        background = (areas > self.settings.background_area) & (
            _border_share(labels, len(scores)) > self.settings.background_border
        )
        chosen = np.flatnonzero((areas >= self.settings.min_area) & ~background)
        chosen = chosen[np.lexsort((-areas[chosen], -scores[chosen]))][: self.settings.max_count]
        masks = _masks(labels, chosen, size)
        visible = masks.areas > 0  # smoothing may leave nothing of a hair
        masks = masks[visible]
        return Candidates(
            id=np.arange(len(masks), dtype=np.int64),
            xyxy=masks.boxes.astype(np.float32),
            score=scores[chosen][visible].astype(np.float32),
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


def _graph(pieces: Labels, lab: NDArray[np.float32], gradient: NDArray[np.float32]) -> RegionGraph:
    """The small regions' colours, and the edges along their common borders."""
    count, flat = int(pieces.max()) + 1, pieces.ravel()
    sums = [np.bincount(flat, lab[..., c].ravel(), count) for c in range(3)]
    colour = np.stack(sums, axis=1).astype(np.float64)
    # L runs over 0 … 100; a and b of photographs hardly leave ±40.
    bins = np.stack([lab[..., 0] * (BINS / 100), *((lab[..., c] + 40) * (BINS / 80) for c in (1, 2))])
    bins = np.clip(bins, 0, BINS - 1).astype(np.int64)
    histogram = [np.bincount(flat * BINS + b.ravel(), minlength=count * BINS).reshape(count, BINS) for b in bins]
    border, edge = np.zeros(count * count), np.zeros(count * count)
    for here, there in NEIGHBOURS:
        crossing = pieces[here] != pieces[there]
        pairs = pieces[here][crossing] * count + pieces[there][crossing]
        strength = np.maximum(gradient[here], gradient[there])[crossing]
        border += np.bincount(pairs, minlength=count * count)
        edge += np.bincount(pairs, strength, count * count)
    borders, edges = border.reshape(count, count), edge.reshape(count, count)
    area = np.bincount(flat, minlength=count).astype(np.float64)
    joined = np.concatenate(histogram, axis=1).astype(np.float64)
    return RegionGraph(area, colour, joined, borders + borders.T, edges + edges.T)


def _scores(labels: Labels, gradient: NDArray[np.float32]) -> NDArray[np.float64]:
    """Per part, mean edge strength on its border B and inside I as B / (B + I), `(P,)`; 0 without a border.

    Of several such measures this one told parts that match an object best from others, on DAVIS 2016 and an indoor
    scan.
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
    """Which share of the picture's outermost pixels each part has, `(P,)`."""
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.asarray(np.bincount(rim, minlength=count) / len(rim))


def _masks(labels: Labels, chosen: NDArray[np.integer[Any]], size: tuple[int, int]) -> PackedMasks:
    """The chosen parts as masks of the image's size, their outlines rounded."""
    if not len(chosen):
        return PackedMasks.empty(*size)
    crops, origins = [], []
    windows = _windows(labels, int(labels.max()) + 1)
    for part in chosen.tolist():
        crop, origin = _outline(labels, part, windows[part], size)
        crops.append(crop)
        origins.append(origin)
    return PackedMasks.from_crops(crops, np.array(origins), *size)


def _windows(labels: Labels, count: int) -> list[tuple[slice, slice]]:
    """Rows and columns that each part spans."""
    from scipy.ndimage import find_objects

    return list(find_objects(labels + 1, count))


def _outline(
    labels: Labels, part: int, window: tuple[slice, slice], size: tuple[int, int]
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """One part, blurred and brought to the image's scale, cut at one half: a crop and the `(y, x)` of its corner."""
    import cv2

    top, bottom = max(window[0].start - MARGIN, 0), min(window[0].stop + MARGIN, labels.shape[0])
    left, right = max(window[1].start - MARGIN, 0), min(window[1].stop + MARGIN, labels.shape[1])
    inside = (labels[top:bottom, left:right] == part).astype(np.float32)
    # Beyond the picture's edge a part goes on: replicate. Elsewhere the margin is wider than the blur.
    soft = cv2.GaussianBlur(inside, (0, 0), SMOOTHING, borderType=cv2.BORDER_REPLICATE)
    step_y, step_x = size[0] / labels.shape[0], size[1] / labels.shape[1]
    y0, y1, x0, x1 = round(top * step_y), round(bottom * step_y), round(left * step_x), round(right * step_x)
    if (y1 - y0, x1 - x0) != soft.shape:
        soft = cv2.resize(soft, (max(x1 - x0, 1), max(y1 - y0, 1)), interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft > 0.5), (y0, x0)
