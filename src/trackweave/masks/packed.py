"""`PackedMasks`: N binary masks of one size, eight pixels to the byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.masks import kernels

Index = int | slice | NDArray[np.bool_] | NDArray[np.integer[Any]] | Sequence[int]


@dataclass(frozen=True, eq=False)  # equality is written out below; arrays have no hash
class PackedMasks:
    """N masks of one size, packed; what travels from the predictor to the archive.

    Indexing with an int, a slice, a bool array or an index array gives `PackedMasks` again.

    >>> masks = PackedMasks.from_bool(np.eye(3, dtype=bool)[None])
    >>> len(masks), masks.areas.tolist(), masks.boxes.tolist()
    (1, [3], [[0, 0, 3, 3]])
    >>> masks[0].to_bool()[0, 2].tolist()
    [False, False, True]

    Attributes:
        bits: `(N, ceil(H*W/8))` uint8, C-contiguous; each row is `numpy.packbits` of the row-major mask. Bits beyond
            `H*W` are zero.
        height: H in pixels.
        width: W in pixels.

    Raises:
        ValueError: `bits` has another shape or dtype than the size asks for.
    """

    bits: NDArray[np.uint8]
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a mask has at least one pixel, not {self.height}×{self.width}")
        expected = packed_length(self.height, self.width)
        if self.bits.dtype != np.uint8 or self.bits.ndim != 2 or self.bits.shape[1] != expected:
            raise ValueError(
                f"packed masks of {self.height}×{self.width} are (N, {expected}) uint8, "
                f"not {self.bits.shape} {self.bits.dtype}"
            )
        if not self.bits.flags.c_contiguous:
            object.__setattr__(self, "bits", np.ascontiguousarray(self.bits))

    @classmethod
    def empty(cls, height: int, width: int, count: int = 0) -> PackedMasks:
        """`count` masks without a pixel."""
        return cls(np.zeros((count, packed_length(height, width)), np.uint8), height, width)

    @classmethod
    def from_bool(cls, masks: NDArray[Any]) -> PackedMasks:
        """Packs `(N, H, W)` or `(H, W)`; any non-zero value is inside.

        Raises:
            ValueError: another number of axes.
        """
        if masks.ndim == 2:
            masks = masks[None]
        if masks.ndim != 3:
            raise ValueError(f"masks are (N, H, W) or (H, W), not {masks.shape}")
        n, height, width = masks.shape
        if masks.dtype.kind not in "bui":
            masks = masks != 0
        return cls(np.packbits(masks.reshape(n, height * width), axis=1), height, width)

    @classmethod
    def from_logits(cls, logits: NDArray[np.floating[Any]], threshold: float = 0.0) -> PackedMasks:
        """Packs predictor output: `(N, H, W)` or `(N, 1, H, W)` float, inside where the value exceeds `threshold`.

        Raises:
            ValueError: another shape.
        """
        if logits.ndim == 4 and logits.shape[1] == 1:
            logits = logits[:, 0]
        if logits.ndim != 3:
            raise ValueError(f"logits are (N, H, W) or (N, 1, H, W), not {logits.shape}")
        n, height, width = logits.shape
        out = cls.empty(height, width, n)
        inside = np.empty((height, width), np.bool_)  # one mask's, reused: it stays in the processor's cache
        for bits, plane in zip(out.bits, logits, strict=True):
            np.greater(plane, threshold, out=inside)
            bits[:] = np.packbits(inside.reshape(-1))
        return out

    @classmethod
    def from_crops(
        cls, crops: Sequence[NDArray[np.bool_]], origins: NDArray[np.integer[Any]], height: int, width: int
    ) -> PackedMasks:
        """Places bool crops into empty masks without ever unpacking a whole one.

        Args:
            crops: N arrays `(h, w)` bool.
            origins: `(N, 2)` integer, the `(y, x)` of each crop's top left corner.
            height: H of the masks.
            width: W of the masks.

        Raises:
            ValueError: a crop reaches outside the mask.
        """
        out = cls.empty(height, width, len(crops))
        for n, (crop, (top, left)) in enumerate(zip(crops, origins, strict=True)):
            if top < 0 or left < 0 or top + crop.shape[0] > height or left + crop.shape[1] > width:
                raise ValueError(f"crop {n} of {crop.shape} at {(int(top), int(left))} leaves {height}×{width}")
            kernels.paste_crop(out.bits[n], np.asarray(crop, np.bool_), int(top), int(left), width)
        return out

    @classmethod
    def concat(cls, parts: Sequence[PackedMasks]) -> PackedMasks:
        """One after the other.

        Raises:
            ValueError: no part, or parts of different sizes.
        """
        if not parts:
            raise ValueError("nothing to concatenate: an empty result would have no size")
        sizes = {part.size for part in parts}
        if len(sizes) > 1:
            raise ValueError(f"masks of different sizes: {sorted(sizes)}")
        if len(parts) == 1:
            return parts[0]
        return cls(np.concatenate([part.bits for part in parts]), parts[0].height, parts[0].width)

    def __len__(self) -> int:
        return int(self.bits.shape[0])

    def __getitem__(self, index: Index) -> PackedMasks:
        if isinstance(index, int | np.integer):
            n = range(len(self))[int(index)]  # IndexError, negatives
            index = slice(n, n + 1)
        return PackedMasks(self.bits[as_rows(index)], self.height, self.width)

    def __iter__(self) -> Iterator[PackedMasks]:
        return (self[n] for n in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedMasks):
            return NotImplemented
        return self.size == other.size and np.array_equal(self.bits, other.bits)

    @property
    def size(self) -> tuple[int, int]:
        """`(H, W)` in pixels."""
        return self.height, self.width

    def to_bool(self) -> NDArray[np.bool_]:
        """`(N, H, W)` bool."""
        flat = np.unpackbits(self.bits, axis=1, count=self.height * self.width)
        return flat.view(np.bool_).reshape(len(self), self.height, self.width)

    @cached_property
    def words(self) -> NDArray[np.uint64]:
        """`(N, ceil(bytes/8))` uint64: the same bits for kernels that count. A view where the length allows it."""
        n, length = self.bits.shape
        if length % 8 == 0 and self.bits.ctypes.data % 8 == 0:
            return self.bits.view(np.uint64)
        padded = np.zeros((n, -(-length // 8) * 8), np.uint8)
        padded[:, :length] = self.bits
        return padded.view(np.uint64)

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """`(N,)` int64, pixels inside each mask."""
        out = np.empty(len(self), np.int64)
        kernels.count_bits(self.words, out)
        return out

    @cached_property
    def boxes(self) -> NDArray[np.int32]:
        """`(N, 4)` int32 xyxy, tight, right and bottom exclusive; all zero for an empty mask."""
        out = np.zeros((len(self), 4), np.int32)
        kernels.bounding_boxes(self.bits, self.words, self.width, out)
        return out


def as_rows(index: slice | NDArray[Any] | Sequence[int]) -> slice | NDArray[Any]:
    """What numpy takes for an index of rows; an empty list would become floats.

    >>> np.arange(3)[as_rows([])].tolist(), np.arange(3)[as_rows([2, 0])].tolist()
    ([], [2, 0])
    """
    if isinstance(index, slice):
        return index
    return np.asarray(index) if len(index) else np.zeros(0, np.intp)


def packed_length(height: int, width: int) -> int:
    """Bytes of one packed mask."""
    return -(-height * width // 8)
