"""Operations on packed masks: overlap of every pair, rescaling, and crops at an image's size.

None of them unpacks more than one mask at a time; overlap is counted on words of 64 pixels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trackweave.masks import kernels
from trackweave.masks.packed import PackedMasks


class MaskWords(Protocol):
    """What overlap reads of masks: those of `PackedMasks`, or of whoever keeps many masks in arrays of its own."""

    @property
    def size(self) -> tuple[int, int]:
        """`(H, W)`."""

    @property
    def words(self) -> NDArray[np.uint64]:
        """As `PackedMasks.words`."""

    @property
    def areas(self) -> NDArray[np.int64]:
        """As `PackedMasks.areas`."""

    @property
    def boxes(self) -> NDArray[np.int32]:
        """As `PackedMasks.boxes`."""


def mask_intersection(a: MaskWords, b: MaskWords) -> NDArray[np.int64]:
    """Shared pixels of every pair: `(N,), (M,) → (N, M)` int64.

    Raises:
        ValueError: masks of different sizes.
    """
    if a.size != b.size:
        raise ValueError(f"masks of different sizes: {a.size} and {b.size}; rescale one of them first")
    out = np.empty((len(a.words), len(b.words)), np.int64)
    kernels.intersections(a.words, a.boxes, b.words, b.boxes, a.size[1], out)
    return out


def mask_iou(a: PackedMasks, b: PackedMasks) -> NDArray[np.float64]:
    """Intersection over union of every pair, `(N, M)` float64 in [0, 1]; 0 where both are empty.

    >>> square = PackedMasks.from_bool(np.array([[1, 1, 0], [1, 1, 0]]))
    >>> row = PackedMasks.from_bool(np.array([[1, 1, 1], [0, 0, 0]]))
    >>> mask_iou(square, row).tolist()
    [[0.4]]
    """
    return overlap(a, b)[0]


def mask_containment(a: PackedMasks, b: PackedMasks) -> NDArray[np.float64]:
    """Intersection over the smaller area of every pair, `(N, M)` float64; tells a part from a duplicate."""
    return overlap(a, b)[1]


def overlap(a: MaskWords, b: MaskWords) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IoU and containment of every pair from one pass over the pixels."""
    shared = mask_intersection(a, b).astype(np.float64)
    area_a, area_b = a.areas[:, None], b.areas[None, :]
    return shared / np.maximum(area_a + area_b - shared, 1), shared / np.maximum(np.minimum(area_a, area_b), 1)


def is_covered(mask: MaskWords, known: MaskWords, threshold: float) -> bool:
    """Has one mask an IoU above a threshold with one of M known masks of its size?"""
    box, area = mask.boxes[0], int(mask.areas[0])
    return bool(
        kernels.is_covered(
            mask.words[0], box, area, known.words, known.boxes, known.areas, mask.size[1], float(threshold)
        )
    )


Method = Literal["nearest", "area"]


def rescale_masks(masks: PackedMasks, height: int, width: int, method: Method = "area") -> PackedMasks:
    """The same masks at another size.

    Args:
        masks: N masks.
        height: target H.
        width: target W.
        method: `nearest` takes the pixel under the target pixel's centre (fast; thin parts may break);
            `area` keeps a pixel when at least half of its footprint was inside (box filter when shrinking,
            bilinear when growing).

    Raises:
        ValueError: an unknown method or a target without pixels.
    """
    if method not in ("nearest", "area"):
        raise ValueError(f"method is 'nearest' or 'area', not {method!r}")
    if masks.size == (height, width):
        return masks
    out = PackedMasks.empty(height, width, len(masks))
    if method == "nearest":
        kernels.sample_nearest(masks.bits, masks.boxes, masks.size, (height, width), out.bits)
    else:
        _rescale_area(masks, out)
    return out


def _rescale_area(masks: PackedMasks, out: PackedMasks) -> None:
    import cv2

    height, width = out.size
    shrinking = height <= masks.height and width <= masks.width
    for n, mask in enumerate(masks):  # one unpacked mask at a time
        image = mask.to_bool()[0].astype(np.float32)
        scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
        # A hair below one half: the filter's sums are float32, an exact half must stay inside.
        out.bits[n] = np.packbits(scaled >= 0.5 - 1e-5)


def scaled_size(height: int, width: int, ratio: float) -> tuple[int, int]:
    """`(H, W)` at a ratio, at least one pixel each.

    >>> scaled_size(1440, 1920, 0.3)
    (432, 576)
    """
    return max(1, round(height * ratio)), max(1, round(width * ratio))


class Crop(NamedTuple):
    """The part of an image that one mask covers.

    Attributes:
        inside: `(h, w)` uint8, 1 inside the mask.
        top: row of the image where the crop starts.
        left: column of the image where the crop starts.
    """

    inside: NDArray[np.uint8]
    top: int
    left: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the image under the crop."""
        height, width = self.inside.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def crop_at(masks: PackedMasks, n: int, size: tuple[int, int]) -> Crop | None:
    """Mask `n` on an image of `size` `(H, W)`; None when it has no pixel there.

    At another scale the mask is interpolated linearly between pixel centres and cut at one half, the rule of
    `rescale_masks` when growing; only pixels near the mask's box are computed.
    """
    x0, y0, x1, y1 = (int(v) for v in masks.boxes[n])
    if x1 <= x0:
        return None
    if masks.size == size:
        return Crop(_rows(masks, n, y0, y1)[:, x0:x1], y0, x0)
    # One pixel of margin each way: the interpolation reaches half a pixel beyond the box.
    x0, y0, x1, y1 = max(x0 - 1, 0), max(y0 - 1, 0), min(x1 + 1, masks.width), min(y1 + 1, masks.height)
    return _resample(_rows(masks, n, y0, y1)[:, x0:x1], y0, x0, masks.size, size)


def _rows(masks: PackedMasks, n: int, first: int, last: int) -> NDArray[np.uint8]:
    """Rows `first … last-1` of one mask, `(rows, W)` uint8; the other rows are not unpacked."""
    start, stop = first * masks.width, last * masks.width
    bits = np.unpackbits(masks.bits[n, start >> 3 : -(-stop >> 3)])
    return bits[start & 7 : (start & 7) + stop - start].reshape(last - first, masks.width)


def _resample(
    part: NDArray[np.uint8], top: int, left: int, source: tuple[int, int], target: tuple[int, int]
) -> Crop | None:
    """A piece of a mask of size `source`, its corner at `(top, left)`, as a crop of an image of size `target`."""
    import cv2

    step_y, step_x = source[0] / target[0], source[1] / target[1]
    y0, x0 = int(top / step_y), int(left / step_x)
    y1 = min(int((top + part.shape[0]) / step_y) + 1, target[0])
    x1 = min(int((left + part.shape[1]) / step_x) + 1, target[1])
    # Target pixel X has its centre at (X + 0.5) * step - 0.5 in the source.
    matrix = np.array(
        [[step_x, 0, (x0 + 0.5) * step_x - 0.5 - left], [0, step_y, (y0 + 0.5) * step_y - 0.5 - top]], np.float64
    )
    scaled = cv2.warpAffine(
        part * np.uint8(254),
        matrix,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    inside = (scaled >= 127).view(np.uint8)
    return Crop(inside, y0, x0) if inside.any() else None
