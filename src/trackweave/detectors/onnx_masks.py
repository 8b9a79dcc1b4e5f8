"""Masks of YOLO's segment models: linear combinations of prototypes, cut to each box, at the frame's size.

Bolya et al., "YOLACT", arXiv 1904.02689, section 3; as in Ultralytics a pixel is inside where the combination is
positive, interpolated linearly at the frame's pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.onnx_session import Placement
from trackweave.masks.packed import PackedMasks

Float = NDArray[np.float32]


@np.errstate(over="ignore", invalid="ignore")  # a pixel whose value is no number is outside
def decode_masks(
    coefficients: Float, prototypes: Float, xyxy: Float, placement: Placement, size: tuple[int, int]
) -> PackedMasks:
    """The masks of K detections; one whose box holds no pixel is empty.

    Args:
        coefficients: `(K, C)`.
        prototypes: `(C, h, w)`, over the whole input.
        xyxy: `(K, 4)` boxes in pixels of the frame, inside it.
        placement: of the frame in the input.
        size: `(H, W)` of the input.

    Returns:
        K masks of the frame's size.
    """
    height, width = placement.size
    shape = prototypes.shape[1:]
    windows = np.clip(np.ceil(xyxy), 0, [width, height, width, height]).astype(np.int64)
    rows = _Samples.of(height, placement.scale[1], placement.offset[1], shape[0] / size[0], shape[0])
    columns = _Samples.of(width, placement.scale[0], placement.offset[0], shape[1] / size[1], shape[1])
    crops = [
        _combine(weights, prototypes, rows.part(top, bottom), columns.part(left, right)) > 0
        for weights, (left, top, right, bottom) in zip(coefficients, windows.tolist(), strict=True)
    ]
    return PackedMasks.from_crops(crops, windows[:, [1, 0]], height, width)


class _Samples:
    """Where the pixels of a frame's side lie between the cells of the prototypes' side.

    Attributes:
        before: `(n,)` int64, the cell before each pixel's centre.
        after: `(n,)` int64, the one after it; the same at the border.
        share: `(n,)` float32, the weight of `after`.
    """

    def __init__(self, before: NDArray[np.int64], after: NDArray[np.int64], share: Float) -> None:
        self.before, self.after, self.share = before, after, share

    @classmethod
    def of(cls, pixels: int, scale: float, offset: float, cells_per_pixel: float, cells: int) -> _Samples:
        """Centres of cells and of pixels lie half a unit behind their edges."""
        place = ((np.arange(pixels) + 0.5) * scale + offset) * cells_per_pixel - 0.5
        place = np.clip(place, 0, cells - 1)
        before = np.floor(place).astype(np.int64)
        return cls(before, np.minimum(before + 1, cells - 1), (place - before).astype(np.float32))

    def part(self, start: int, stop: int) -> _Samples:
        """Those of pixels `start … stop - 1`."""
        return _Samples(self.before[start:stop], self.after[start:stop], self.share[start:stop])


def _combine(weights: Float, prototypes: Float, rows: _Samples, columns: _Samples) -> Float:
    """`(h, w)` float32 at the samples, computed from the cells around them only."""
    if not len(rows.share) or not len(columns.share):
        return np.zeros((len(rows.share), len(columns.share)), np.float32)
    top, left = int(rows.before[0]), int(columns.before[0])
    part = prototypes[:, top : int(rows.after[-1]) + 1, left : int(columns.after[-1]) + 1]
    cells = np.tensordot(weights, part, axes=1)
    across = cells[:, columns.before - left] * (1 - columns.share) + cells[:, columns.after - left] * columns.share
    share = rows.share[:, None]
    return np.asarray(across[rows.before - top] * (1 - share) + across[rows.after - top] * share, np.float32)
