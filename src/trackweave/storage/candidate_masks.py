"""Masks of candidates as they are stored: packed bits, COCO RLE, polygons, or a row of a stack beside the manifest.

Size and box of a stored mask are known without drawing it, so that a whole manifest is checked quickly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import CandidateError, shortened_line
from trackweave.masks.codecs import MaskMapping, RunLengths, as_packed, decode_mask, fill_polygons
from trackweave.masks.ops import rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.storage.npz import map_npy
from trackweave.structures.run_summary import JsonRecord

Size = tuple[int, int]
PixelBox = tuple[int, int, int, int]
"""xyxy, right and bottom exclusive."""


class StoredMask(ABC):
    """One mask, not yet drawn."""

    @property
    @abstractmethod
    def size(self) -> Size | None:
        """`(H, W)` of the image whose pixels its item's box is in; None where the mask does not tell."""

    @abstractmethod
    def box(self, image: Size) -> PixelBox | None:
        """Box of its pixels in an image of `size`, or of this size where it has none; None where it is empty.

        Raises:
            ValueError: it cannot be drawn.
        """

    @abstractmethod
    def packed(self, image: Size) -> PackedMasks:
        """The mask, of `size` or of this size; raises what `box` raises."""


class PackedBits(StoredMask):
    """Bits in base64; a mask that was stored smaller than its image is brought up to it.

    Args:
        payload: what `encode_mask` gives.

    Raises:
        ValueError: it is not such a mask.
    """

    def __init__(self, payload: Any) -> None:
        self._entry: MaskMapping = decode_mask(payload)

    @property
    def size(self) -> Size:
        return self._entry.get("full_resolution_shape", self._entry["shape"])

    @cached_property
    def _mask(self) -> PackedMasks:
        return rescale_masks(as_packed(self._entry), *self.size, "nearest")

    def box(self, image: Size) -> PixelBox | None:
        if not self._mask.areas[0]:
            return None
        x1, y1, x2, y2 = self._mask.boxes[0].tolist()
        return x1, y1, x2, y2

    def packed(self, image: Size) -> PackedMasks:
        return self._mask


class RleMask(StoredMask):
    """COCO's run lengths; raises `ValueError` where they cannot be decoded."""

    def __init__(self, entry: Mapping[str, object]) -> None:
        self._runs = RunLengths.of(entry)

    @property
    def size(self) -> Size:
        return self._runs.height, self._runs.width

    def box(self, image: Size) -> PixelBox | None:
        return self._runs.box

    def packed(self, image: Size) -> PackedMasks:
        return self._runs.packed()


class Polygons(StoredMask):
    """Outlines `[x, y, x, y, …]`, all of one mask, in pixels of an image that they do not name.

    Args:
        outlines: a list of polygons, or one polygon.

    Raises:
        ValueError: they are not polygons.
    """

    REACH = 1.05
    """Polygons that reach further beyond the image than this were made on another one."""

    def __init__(self, outlines: Sequence[Any]) -> None:
        polygons: list[Any] = list(outlines) if isinstance(outlines[0], list) else [outlines]
        if not all(isinstance(polygon, list) and all(map(_is_finite, polygon)) for polygon in polygons):
            raise ValueError("`segmentation` is neither an RLE (`size`, `counts`) nor polygons [x, y, x, y, …]")
        self._polygons: list[list[float]] = polygons

    size = None

    def _runs(self, image: Size) -> RunLengths:
        filled = fill_polygons(self._polygons, *image)
        right, bottom = (max(max(polygon[k::2]) for polygon in self._polygons) for k in (0, 1))
        if right > self.REACH * image[1] + 1 or bottom > self.REACH * image[0] + 1:
            reach = f"its polygons reach to ({right:g}, {bottom:g}), the image is {image[1]}×{image[0]}"
            raise ValueError(f"{reach}: made on an image of another size?")
        return RunLengths.of(filled)

    def box(self, image: Size) -> PixelBox | None:
        return self._runs(image).box

    def packed(self, image: Size) -> PackedMasks:
        return self._runs(image).packed()


class StackRow(StoredMask):
    """A row of a frame's stack, `(H, W)` of 0 and 1."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self._pixels = pixels

    @property
    def size(self) -> Size:
        height, width = self._pixels.shape
        return height, width

    def box(self, image: Size) -> PixelBox | None:
        columns = np.flatnonzero(self._pixels.any(0))
        if not len(columns):
            return None
        rows = np.flatnonzero(self._pixels.any(1))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def packed(self, image: Size) -> PackedMasks:
        return PackedMasks.from_bool(np.asarray(self._pixels))


class MaskStack:
    """The `.npy` stack of one frame, opened lazily and checked against the manifest; without a file it is empty.

    Args:
        file: the stack, or None.
        count: items of the frame.
        where: what to call the frame.

    Raises:
        CandidateError: the file is not such a stack.
    """

    def __init__(self, file: Path | None, count: int, where: str) -> None:
        self._array: NDArray[Any] | None = None
        if file is None:
            return
        try:
            array = map_npy(file)
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or shortened_line(str(error))
            raise CandidateError(f"{file}: not a readable mask stack: {reason}") from None
        if array.ndim != 3 or len(array) != count or 0 in array.shape[1:] or array.dtype.kind not in "bui":
            raise CandidateError(
                f"{file}: is {array.shape} {array.dtype}, but {where} has {count} items: "
                f"({count}, H, W) of 0 and 1 is expected"
            )
        self._array = array

    def mask_of(self, item: JsonRecord, position: int) -> StoredMask | None:
        """The mask of an item, whichever form it has; None without one.

        Raises:
            ValueError, TypeError, OverflowError: it cannot be decoded.
        """
        outline: Any = item.get("segmentation")
        if item.get("mask") is not None:
            return PackedBits(item["mask"])
        if isinstance(outline, list) and outline:
            return Polygons(outline)
        if outline is not None and outline != []:  # COCO's way to say that there is only a box
            return RleMask(outline)
        return None if self._array is None else StackRow(self._array[position])


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**31
