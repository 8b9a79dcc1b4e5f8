"""Appearance without learned weights: `LayoutDescriptor` of upright boxes, `MaskDescriptor` of masks any way up.

`pixel_boxes`, `mask_crop` and `unit_rows` are shared by all embedders: the pixels under a box, and vectors of length 1.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import njit
from trackweave.masks.packed import PackedMasks

ROWS, COLS = 64, 32
STRIPES = 6
LIGHTNESS_BINS, CHROMA_BINS, ORIENTATIONS = 8, 8, 8
BLOCK = LIGHTNESS_BINS + 2 * CHROMA_BINS + ORIENTATIONS
CHROMA_SCALE = 8.0
"""Assumed mean absolute a and b of a pixel, in Lab units: most pixels are nearly grey."""
MIDDLE_LIGHTNESS, LIGHTNESS_SCALE = 90.0, 20.0
"""Assumed middle and spread of 8-bit lightness (logistic): dark clothes are more common than light ones."""
GRADIENT_WEIGHT = 1.5
"""Orientations weigh more than colours: they are less distinctive, but what they have is not shared by all crops."""
MIN_EDGE_STRENGTH = 4.0
"""Lightness difference (8-bit) below which a gradient is noise."""


class LayoutDescriptor:
    """Colour and gradient layout of a crop: 6 horizontal stripes × (8 lightness, 8 + 8 chroma, 8 orientation) bins.

    The crop is brought to 64×32. Each stripe gets soft histograms of L, a and b (CIE Lab) and of gradient
    orientations weighted by magnitude. A pixel weighs less the farther it lies from the vertical middle line, or as
    much as the mask says where one is given. Parts of a box outside the frame weigh nothing.

    Two people share most of a raw histogram, so a plain cosine tells little. Three things move unrelated crops towards
    a cosine of 0: bins are narrow where pixels are common (equally likely under a plain distribution assumed for each
    channel), a square root (Hellinger kernel; Arandjelović & Zisserman, "Three things everyone should know", CVPR 2012)
    damps large bins, and each histogram's own mean is taken away. Lightness is measured relative to the crop's mean,
    half of the way, so that a change of exposure moves few bins. Stripes: Farenzena et al., "SDALF", CVPR 2010;
    gradients: Dalal & Triggs, CVPR 2005.
    """

    name = "layout"
    width = STRIPES * BLOCK

    def embed(
        self, image: NDArray[np.uint8], xyxy: NDArray[np.float32], masks: PackedMasks | None = None
    ) -> NDArray[np.float32]:
        """Embeds N boxes of a frame.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            xyxy: `(N, 4)` float32, pixels, right and bottom exclusive; may reach outside the frame.
            masks: N masks of the frame, at its size or another; an empty mask counts as none.

        Returns:
            `(N, 192)` float32 of length 1; zeros for a box without a pixel inside the frame.
        """
        height, width = image.shape[:2]
        pixels = pixel_boxes(xyxy, height, width)
        rows = np.zeros((len(pixels), self.width), np.float32)
        for n, (box, inside) in enumerate(zip(xyxy.tolist(), pixels.tolist(), strict=True)):
            if inside[2] == inside[0]:
                continue
            patch, weights = _canonical(image, box, inside, masks, n)
            _describe(cv2.cvtColor(patch, cv2.COLOR_RGB2LAB), weights, rows[n])
        return unit_rows(rows)


MASK_SIDE = 48
"""Pixels of the longer side of a masked crop."""
MIXED = 9
"""The local binary pattern of all pixels whose brighter neighbours do not lie in one arc."""
PATTERN_STEP = 2
"""Lightness by which a neighbour is brighter; less is noise."""
INNER_PIXELS = 12.0
"""Pixels that a mask must have inside its outline for its outline to be left out."""
LIGHT_BIN_OF = np.clip(LIGHTNESS_BINS / (1 + np.exp((110 - np.arange(256.0)) / 35)) - 0.5, 0, LIGHTNESS_BINS - 1)
"""Soft bin of an 8-bit lightness; wider than that of clothes."""
COLOUR_GAIN, TEXTURE_GAIN = 1.5, 0.7
"""Weights of the histograms of colour and of texture, that of lightness being 1."""


class MaskDescriptor:
    """Colours and texture of what a mask covers, whichever way it is turned.

    Soft histograms of lightness (8 bins), of a and b together (8×8; CIE Lab), and of the rotation-invariant uniform
    local binary patterns of lightness (10; Ojala, Pietikäinen and Mäenpää, PAMI 2002), each as in `LayoutDescriptor`:
    narrow bins where pixels are common, square root, less its mean. The outline of the mask is left out where it can.
    """

    name = "mask"
    width = LIGHTNESS_BINS + CHROMA_BINS**2 + MIXED + 1

    def embed(
        self, image: NDArray[np.uint8], xyxy: NDArray[np.float32], masks: PackedMasks | None = None
    ) -> NDArray[np.float32]:
        """Embeds N masks of a frame.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            xyxy: `(N, 4)` float32, pixels; used where there are no masks.
            masks: N masks of the frame, at its size or another.

        Returns:
            `(N, 82)` float32 of length 1; zeros for an empty mask, or a box without a pixel inside the frame.
        """
        height, width = image.shape[:2]
        boxes = np.asarray(xyxy, np.float64)
        if masks is not None:
            boxes = masks.boxes * np.array([width / masks.width, height / masks.height] * 2)
        rows = np.zeros((len(boxes), self.width), np.float32)
        for n, inside in enumerate(pixel_boxes(boxes, height, width).tolist()):
            if inside[2] > inside[0]:
                rows[n] = _masked_histograms(image, inside, masks, n)
        return unit_rows(rows)


def _masked_histograms(
    image: NDArray[np.uint8], inside: list[int], masks: PackedMasks | None, row: int
) -> NDArray[np.float64]:
    left, top, right, bottom = inside
    scale = min(1.0, MASK_SIDE / max(bottom - top, right - left))
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    lab = cv2.cvtColor(cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    weight = np.ones(size[::-1], np.float32)
    if masks is not None:
        weight = _silhouette(masks, row, inside, image.shape[:2], size)
        inner = cv2.erode(weight, np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        weight = np.asarray(inner, np.float32) if inner.sum() >= INNER_PIXELS else weight
    weight = weight.reshape(-1)
    light, a, b = (lab[..., k].reshape(-1) for k in range(3))
    colours = _soft_histogram(_CHROMA_BIN_OF[a], _CHROMA_BIN_OF[b], weight)
    parts = (
        (_soft_line(LIGHT_BIN_OF[light], weight), 1.0),
        (colours.reshape(-1), COLOUR_GAIN),
        (np.bincount(_binary_patterns(lab[..., 0]).reshape(-1), weight, MIXED + 1), TEXTURE_GAIN),
    )
    roots = [(np.sqrt(counts / max(float(counts.sum()), 1e-9)), gain) for counts, gain in parts]
    return np.concatenate([gain * (root - root.mean()) for root, gain in roots])


def _soft_line(x: NDArray[Any], weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """`(8,)`: weights split between the two bins around positions in [0, 7]."""
    i = np.floor(x).astype(np.int64)
    f = x - i
    return np.asarray((np.bincount(i, weight * (1 - f), 9) + np.bincount(i + 1, weight * f, 9))[:8])


def _soft_histogram(x: NDArray[Any], y: NDArray[Any], weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """`(8, 8)`: weights split between the four bins around positions in [0, 7]²."""
    i, j = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    f, g = x - i, y - j
    total = np.zeros(81)
    for down, share in ((0, 1 - f), (1, f)):
        for along, part in ((0, 1 - g), (1, g)):
            total += np.bincount((i + down) * 9 + j + along, weight * share * part, 81)
    return total.reshape(9, 9)[:8, :8]


def _binary_patterns(light: NDArray[Any]) -> NDArray[np.int64]:
    """Per pixel how many of its eight neighbours are brighter, in one arc; `MIXED` where they are in several."""
    padded = np.pad(light.astype(np.int16), 1, mode="edge")
    height, width = light.shape
    least = padded[1:-1, 1:-1] + PATTERN_STEP
    pattern = np.zeros((height, width), np.uint8)
    for bit, (dy, dx) in enumerate(_RING):
        neighbour = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        pattern |= (neighbour >= least).view(np.uint8) << np.uint8(bit)
    return _KIND_OF_PATTERN[pattern]


_RING = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""Neighbours of a pixel, down and along, once around."""


def _kinds_of_patterns() -> NDArray[np.int64]:
    """`(256,)` by which of the neighbours are brighter, a bit each."""
    brighter = (np.arange(256)[:, None] >> np.arange(len(_RING))) & 1
    changes = (brighter != np.roll(brighter, 1, axis=1)).sum(axis=1)
    return np.where(changes <= 2, brighter.sum(axis=1), MIXED)


_KIND_OF_PATTERN = _kinds_of_patterns()


def pixel_boxes(xyxy: NDArray[Any], height: int, width: int) -> NDArray[np.int64]:
    """Boxes as whole pixels inside a frame.

    Args:
        xyxy: `(N, 4)`, pixels, right and bottom exclusive.
        height: of the frame, in pixels.
        width: of the frame, in pixels.

    Returns:
        `(N, 4)` int64: every pixel that the box touches; without pixels (right ≤ left or bottom ≤ top) where the box
        is inverted, not finite or outside the frame.

    >>> pixel_boxes(np.array([[-3.0, 1.5, 2.2, 4.0], [9, 9, 12, 12], [np.nan, 0, 1, 1]]), 8, 8).tolist()
    [[0, 1, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    usable: NDArray[np.bool_] = np.isfinite(boxes).all(axis=1) & np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    limits = np.array([width, height, width, height])
    inside = np.clip(np.where(usable[:, None], boxes, 0.0), 0, limits)
    whole: NDArray[np.int64] = np.concatenate([np.floor(inside[:, :2]), np.ceil(inside[:, 2:])], axis=1).astype(
        np.int64
    )
    whole[(whole[:, 2] <= whole[:, 0]) | (whole[:, 3] <= whole[:, 1])] = 0
    return whole


def mask_crop(masks: PackedMasks, row: int, box: NDArray[np.int64]) -> NDArray[np.uint8]:
    """One mask under a box `(4,)` int64 inside it, as `(h, w)` uint8 of 0 and 1; the rest stays packed."""
    left, top, right, bottom = (int(v) for v in box)
    first, last = top * masks.width, bottom * masks.width
    bits = np.unpackbits(masks.bits[row, first // 8 : -(-last // 8)])
    lines = bits[first % 8 : first % 8 + last - first].reshape(bottom - top, masks.width)
    return lines[:, left:right]


def unit_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    """`(N, E)` float32, every row divided by its length; a row of zeros stays one."""
    rows = np.asarray(rows, np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-12))


def _canonical(
    image: NDArray[np.uint8], box: list[float], inside: list[int], masks: PackedMasks | None, row: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The box resized to `(64, 32, 3)` uint8, and the weight of each pixel: 0 for the part outside the frame."""
    left, top, right, bottom = inside
    cells = _cells_inside(box, inside)
    y, x = slice(cells[1], cells[3]), slice(cells[0], cells[2])
    size = (cells[2] - cells[0], cells[3] - cells[1])
    patch = np.zeros((ROWS, COLS, 3), np.uint8)
    patch[y, x] = cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
    weights = np.zeros((ROWS, COLS), np.float32)
    weights[y, x] = _CENTRE_WEIGHTS[y, x]
    if masks is not None:
        silhouette = _silhouette(masks, row, inside, image.shape[:2], size)
        if silhouette.any():
            weights[y, x] = silhouette
    return patch, weights


def _cells_inside(box: list[float], inside: list[int]) -> tuple[int, int, int, int]:
    """The part of a box inside the frame on the 64×32 grid, as xyxy of at least one cell."""
    left, right = _span(box[0], box[2], inside[0], inside[2], COLS)
    top, bottom = _span(box[1], box[3], inside[1], inside[3], ROWS)
    return left, top, right, bottom


def _span(low: float, high: float, first: int, last: int, cells: int) -> tuple[int, int]:
    """Cells of a grid over `[low, high)` that the pixels `[first, last)` fill."""
    scale = cells / (high - low)
    start = min(max(round((first - low) * scale), 0), cells - 1)
    return start, min(max(round((last - low) * scale), start + 1), cells)


def _silhouette(
    masks: PackedMasks, row: int, inside: list[int], frame: tuple[int, ...], size: tuple[int, int]
) -> NDArray[np.float32]:
    """The mask under the box at `size` (width, height): share of each grid pixel inside it."""
    scale = np.array([masks.width / frame[1], masks.height / frame[0]] * 2)
    box = pixel_boxes(np.array(inside) * scale, masks.height, masks.width)[0]
    crop = mask_crop(masks, row, box).astype(np.float32)
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.float32)


def _centre_weights() -> NDArray[np.float32]:
    """Weights `(64, 32)` without a mask: objects are in the middle of their boxes."""
    offset = (np.arange(COLS) + 0.5) / COLS - 0.5
    return np.asarray(np.tile(np.exp(-0.5 * (offset / 0.22) ** 2), (ROWS, 1)), np.float32)


def _chroma_bins() -> NDArray[np.float32]:
    """Soft bin position of each 8-bit chroma value: the quantile of its Lab value under a Laplace distribution."""
    value = np.arange(256) - 128.0
    tail = 0.5 * np.exp(-np.abs(value) / CHROMA_SCALE)
    quantile = np.where(value < 0, tail, 1 - tail)
    return np.asarray(np.clip(quantile * CHROMA_BINS - 0.5, 0, CHROMA_BINS - 1), np.float32)


def _lightness_bins() -> NDArray[np.float32]:
    """Soft bin position of each 8-bit lightness: its quantile under a logistic distribution."""
    quantile = 1 / (1 + np.exp((MIDDLE_LIGHTNESS - np.arange(256.0)) / LIGHTNESS_SCALE))
    return np.asarray(np.clip(quantile * LIGHTNESS_BINS - 0.5, 0, LIGHTNESS_BINS - 1), np.float32)


_CENTRE_WEIGHTS = _centre_weights()
_LIGHTNESS_BIN_OF = _lightness_bins()
_CHROMA_BIN_OF = _chroma_bins()


@njit(nogil=True)
def _add(histogram: Any, position: float, weight: float) -> None:
    """Splits a weight between the two bins next to a position in `[0, bins - 1]`."""
    low = int(position)
    share = position - low
    histogram[low] += weight * (1.0 - share)
    if share > 0.0:
        histogram[low + 1] += weight * share


@njit(nogil=True)
def _hellinger(block: Any, start: int, end: int, gain: float) -> None:
    """A histogram in place: to shares, square root, minus its mean; nothing where it is empty."""
    total = 0.0
    for k in range(start, end):
        total += block[k]
    if total <= 0.0:
        return
    mean = 0.0
    for k in range(start, end):
        block[k] = np.sqrt(block[k] / total)
        mean += block[k] / (end - start)
    for k in range(start, end):
        block[k] = gain * (block[k] - mean)


@njit(nogil=True)
def _fill(lab: Any, weights: Any, lightness: Any, chroma: Any, out: Any) -> None:
    rows, cols = weights.shape
    total, mean = 1e-9, 0.0
    for y in range(rows):
        for x in range(cols):
            total += weights[y, x]
            mean += weights[y, x] * lab[y, x, 0]
    mean /= total
    for y in range(rows):
        block = out[(y * STRIPES // rows) * BLOCK :]
        for x in range(cols):
            w = weights[y, x]
            if w <= 0.0:
                continue
            light = lab[y, x, 0] - 0.5 * (mean - MIDDLE_LIGHTNESS)
            _add(block, lightness[int(min(max(light, 0.0), 255.0))], w)
            _add(block[LIGHTNESS_BINS:], chroma[lab[y, x, 1]], w)
            _add(block[LIGHTNESS_BINS + CHROMA_BINS :], chroma[lab[y, x, 2]], w)
            # Gradients only between pixels that both count: the edge of the frame or of the mask is not texture.
            if 0 < y < rows - 1 and 0 < x < cols - 1:
                w *= min(min(weights[y, x - 1], weights[y, x + 1]), min(weights[y - 1, x], weights[y + 1, x]))
                dx = np.float64(lab[y, x + 1, 0]) - lab[y, x - 1, 0]
                dy = np.float64(lab[y + 1, x, 0]) - lab[y - 1, x, 0]
                strength = np.sqrt(dx * dx + dy * dy)
                if w > 0.0 and strength > MIN_EDGE_STRENGTH:
                    turn = (np.arctan2(dy, dx) / np.pi % 1.0) * ORIENTATIONS
                    low = int(turn) % ORIENTATIONS
                    share = turn - int(turn)
                    edges = block[LIGHTNESS_BINS + 2 * CHROMA_BINS :]
                    edges[low] += w * strength * (1.0 - share)
                    edges[(low + 1) % ORIENTATIONS] += w * strength * share


@njit(nogil=True)
def _finish(out: Any) -> None:
    for stripe in range(STRIPES):
        block = out[stripe * BLOCK : (stripe + 1) * BLOCK]
        _hellinger(block, 0, LIGHTNESS_BINS, 1.0)
        _hellinger(block, LIGHTNESS_BINS, LIGHTNESS_BINS + CHROMA_BINS, 1.0)
        _hellinger(block, LIGHTNESS_BINS + CHROMA_BINS, LIGHTNESS_BINS + 2 * CHROMA_BINS, 1.0)
        _hellinger(block, LIGHTNESS_BINS + 2 * CHROMA_BINS, BLOCK, GRADIENT_WEIGHT)


def _describe(lab: Any, weights: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Writes the descriptor of a patch `(64, 32, 3)` uint8 Lab with weights `(64, 32)` into zeros `(192,)`."""
    _fill(lab, weights, _LIGHTNESS_BIN_OF, _CHROMA_BIN_OF, out)
    _finish(out)
