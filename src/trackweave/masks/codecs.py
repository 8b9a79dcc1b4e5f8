"""Masks in the forms that other code and files hold: mappings of packed bits, and COCO's run-length encoding.

A mask as a mapping is `{"packed_bits": uint8 array, "shape": (H, W)}` in memory and `{"packed_bits_b64": str,
"shape": [H, W]}` in JSON; both may carry `full_resolution_shape`, the `(H, W)` of the frame when the mask is stored
smaller. The guide's functions take a mask as this mapping, as a `PackedMasks` of one mask, or as a `(H, W)` array.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from trackweave.masks import kernels
from trackweave.masks.ops import crop_at
from trackweave.masks.packed import PackedMasks, packed_length

MOST_PIXELS = 2**28
"""Pixels of the largest mask that is read, 16384 × 16384: a size in a file says what is allocated."""
MOST_OUTLINE = 2**22
"""Pixels of the longest outline of a polygon that is read."""
MOST_BYTES = 2**32
"""Packed bytes of the masks that are read at once, as many as one frame has."""


class JsonMask(TypedDict, total=False):
    """One packed mask as JSON; `packed_bits_b64` and `shape` are always there."""

    packed_bits_b64: str
    shape: list[int]
    full_resolution_shape: list[int]


class MaskMapping(TypedDict, total=False):
    """One packed mask as a mapping; `packed_bits` and `shape` are always there."""

    packed_bits: NDArray[np.uint8]
    shape: tuple[int, int]
    full_resolution_shape: tuple[int, int]


MaskLike = PackedMasks | Mapping[str, object] | NDArray[Any]


def mask_mapping(mask: PackedMasks, full_resolution_shape: tuple[int, int] | None = None) -> MaskMapping:
    """The mapping form of a single mask.

    Raises:
        ValueError: not exactly one mask.
    """
    if len(mask) != 1:
        raise ValueError(f"an entry holds one mask, not {len(mask)}")
    mapping: MaskMapping = {"packed_bits": mask.bits[0], "shape": mask.size}
    if full_resolution_shape is not None:
        mapping["full_resolution_shape"] = full_resolution_shape
    return mapping


def as_packed(mask: MaskLike) -> PackedMasks:
    """Any accepted form as a `PackedMasks` of one mask.

    >>> as_packed(np.ones((2, 3), bool)).areas.tolist()
    [6]
    >>> as_packed({"packed_bits": np.array([0b10100000], np.uint8), "shape": (1, 3)}).areas.tolist()
    [2]

    Raises:
        ValueError: bits missing or of another length than `shape` asks for, or several masks.
    """
    if isinstance(mask, PackedMasks):
        packed = mask
    elif isinstance(mask, Mapping):
        packed = _from_mapping(mask)
    else:
        packed = PackedMasks.from_bool(np.asarray(mask))
    if len(packed) != 1:
        raise ValueError(f"one mask is expected, not {len(packed)}")
    return packed


def full_shape(mask: MaskLike) -> tuple[int, int] | None:
    """`(H, W)` of the frame that a stored mask was scaled from, when the mask carries it."""
    shape = mask.get("full_resolution_shape") if isinstance(mask, Mapping) else None
    return None if shape is None else _pair(shape, "full_resolution_shape")


def encode_mask(mask: MaskLike) -> JsonMask:
    """JSON form of a mask, with `full_resolution_shape` when it carries one.

    >>> encode_mask(np.array([[True, False], [True, True]]))
    {'packed_bits_b64': 'sA==', 'shape': [2, 2]}
    """
    packed = as_packed(mask)
    payload: JsonMask = {
        "packed_bits_b64": base64.b64encode(packed.bits[0].tobytes()).decode("ascii"),
        "shape": list(packed.size),
    }
    if (full := full_shape(mask)) is not None:
        payload["full_resolution_shape"] = list(full)
    return payload


def decode_mask(payload: Mapping[str, object]) -> MaskMapping:
    """Inverse of `encode_mask`.

    Raises:
        ValueError: a key is missing, the text is not base64, or its length does not fit `shape`.
    """
    return mask_mapping(_from_mapping(payload), full_shape(payload))


def _pair(shape: Any, key: str) -> tuple[int, int]:
    """`(H, W)` from JSON or memory."""
    try:
        sides = [int(side) for side in shape]
    except (TypeError, ValueError, OverflowError):
        sides = []
    if len(sides) == 3 and sides[0] == 1:  # (1, H, W), as some predictors' masks were stored
        sides = sides[1:]
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"`{key}` is (H, W) of at least one pixel, not {shape!r:.60}")
    check_pixels(*sides)
    return sides[0], sides[1]


def check_pixels(height: int, width: int) -> None:
    """Refuses a size from a file before anything of that size is allocated.

    Raises:
        ValueError: more than `MOST_PIXELS`.
    """
    if height * width > MOST_PIXELS:
        raise ValueError(f"a mask has more pixels than the {MOST_PIXELS} of the largest that is read")


def _from_mapping(mask: Mapping[str, object]) -> PackedMasks:
    if "shape" not in mask:
        raise ValueError("a packed mask needs `shape`")
    height, width = _pair(mask["shape"], "shape")
    if "packed_bits" in mask:
        bits = np.asarray(mask["packed_bits"], np.uint8).reshape(-1)
    elif "packed_bits_b64" in mask:
        try:
            text = base64.b64decode(cast("str", mask["packed_bits_b64"]), validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise ValueError(f"`packed_bits_b64` is not base64: {error}") from None
        bits = np.frombuffer(text, np.uint8)
    else:
        raise ValueError("a packed mask needs `packed_bits` or `packed_bits_b64`")
    if len(bits) != packed_length(height, width):
        raise ValueError(
            f"{len(bits)} packed bytes for a mask of {height}×{width}, which takes {packed_length(height, width)}"
        )
    spare = 8 * len(bits) - height * width
    if spare and bits[-1] & ((1 << spare) - 1):
        bits = bits.copy()
        bits[-1] &= 0xFF << spare & 0xFF  # kernels count whole words: bits beyond the mask must be zero
    return PackedMasks(bits[None], height, width)


LONGEST_RUN_BITS = 60


class CocoRLE(TypedDict):
    """COCO's compressed RLE: `size` is `[H, W]`, `counts` the ASCII string of column-major runs."""

    size: list[int]
    counts: str


def encode_rle(masks: PackedMasks) -> list[CocoRLE]:
    """One compressed RLE per mask.

    >>> encode_rle(PackedMasks.from_bool(np.ones((1, 2, 2), bool)))
    [{'size': [2, 2], 'counts': '04'}]
    """
    codes, ends = kernels.encode_run_lengths(masks.bits, masks.boxes, masks.height, masks.width)
    text, starts = codes.tobytes().decode("ascii"), [0, *ends.tolist()]
    counts = (text[start:end] for start, end in pairwise(starts))
    return [{"size": [masks.height, masks.width], "counts": code} for code in counts]


@dataclass(frozen=True)
class RunLengths:
    """One RLE entry, checked, its mask not drawn.

    Attributes:
        height: of the mask.
        width: of the mask.
        runs: column-major, background first; they fill the size.
    """

    height: int
    width: int
    runs: Sequence[int]

    @classmethod
    def of(cls, entry: Mapping[str, object], n: int = 0) -> RunLengths:
        """Reads an entry, number `n` of several.

        Raises:
            ValueError: a missing key, runs that do not fill the size, or a size of more than `MOST_PIXELS`.
        """
        height, width = _size(entry)
        runs = _runs(entry)
        if min(runs, default=0) < 0 or max(runs, default=0) > height * width or sum(runs) != height * width:
            covered = f"{sum(runs)} pixels" if all(abs(run) <= MOST_PIXELS for run in runs) else "runs out of range"
            raise ValueError(f"RLE entry {n} covers {covered}, its size {height}×{width} has {height * width}")
        return cls(height, width, runs)

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """xyxy of the pixels inside, right and bottom exclusive; None without any.

        >>> RunLengths.of({"size": [2, 3], "counts": [2, 2, 2]}).box
        (1, 0, 2, 2)
        """
        runs = np.array(self.runs, np.int64)
        stops = np.cumsum(runs)
        inside = (np.arange(len(runs)) % 2 == 1) & (runs > 0)
        first, last = (stops - runs)[inside], stops[inside] - 1
        if not len(first):
            return None
        left, right = int(first[0] // self.height), int(last[-1] // self.height) + 1
        if np.any(first // self.height != last // self.height):  # from the bottom of a column to the top of the next
            return left, 0, right, self.height
        return left, int((first % self.height).min()), right, int((last % self.height).max()) + 1

    def packed(self) -> PackedMasks:
        """The mask."""
        mask = PackedMasks.empty(self.height, self.width, 1)
        kernels.fill_run_lengths(mask.bits[0], np.array(self.runs, np.int64), self.height, self.width)
        return mask


def decode_rle(entries: Sequence[Mapping[str, object]]) -> PackedMasks:
    """Packs RLE entries of one size; `counts` may be compressed (str, bytes) or a list of run lengths.

    Raises:
        ValueError: no entry, entries of different sizes, or what `RunLengths.of` raises.
    """
    if not entries:
        raise ValueError("no RLE entries: an empty result would have no size")
    height, width = _size(entries[0])
    for entry in entries:
        if _size(entry) != (height, width):
            raise ValueError(f"RLE entries of one size are expected, not {_size(entry)} after {(height, width)}")
    masks = [RunLengths.of(entry, n) for n, entry in enumerate(entries)]  # before anything of this size is made
    if len(entries) * packed_length(height, width) > MOST_BYTES:
        raise ValueError(f"{len(entries)} masks of {height}×{width} pixels at once are more than what is read")
    out = PackedMasks.empty(height, width, len(entries))
    for n, mask in enumerate(masks):
        out.bits[n] = mask.packed().bits[0]
    return out


def fill_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> CocoRLE:
    """Polygons `[x, y, x, y, …]` filled as the COCO API does, all of them one mask.

    Raises:
        ValueError: no polygon, one of less than three corners or of an outline beyond `MOST_OUTLINE`, or a size of
            more than `MOST_PIXELS`.
    """
    from faster_coco_eval.core import mask as coco

    if not polygons or any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise ValueError("a polygon is x, y, x, y, … of at least three corners")
    check_pixels(height, width)  # the filler allocates what the size says, and for every pixel of the outline
    for polygon in polygons:
        corners = np.asarray(polygon, np.float64).reshape(-1, 2)
        if not np.abs(np.diff(corners, axis=0, append=corners[:1])).sum() <= MOST_OUTLINE:
            raise ValueError("a polygon whose outline is longer than any that is read")
    merged = coco.merge(coco.frPyObjects([list(polygon) for polygon in polygons], height, width))
    return {"size": [height, width], "counts": merged["counts"].decode("ascii")}


def mask_polygons(masks: PackedMasks, tolerance: float = 0) -> list[list[NDArray[np.int64]]]:
    """The outlines of each mask along the edges of its pixels, one polygon for each part.

    Holes, and whatever else one line cannot go around, are joined to the outline by a line there and back. Filled by
    the rule of the COCO API (`fill_polygons`) they give the mask again, to the pixel.

    Args:
        masks: N masks.
        tolerance: pixels that an outline may be moved to have fewer corners.

    Returns:
        for each mask its polygons, `(K, 2)` int64 corners x, y; none for an empty mask.

    >>> [polygon.tolist() for polygon in mask_polygons(PackedMasks.from_bool(np.ones((1, 2, 3), bool)))[0]]
    [[[0, 0], [0, 2], [3, 2], [3, 0]]]
    """
    import cv2

    found: list[list[NDArray[np.int64]]] = []
    for n in range(len(masks)):
        crop = crop_at(masks, n, masks.size)
        polygons: list[NDArray[np.int64]] = []
        if crop is not None:
            # At twice the size the outermost pixels of a part lie on both sides of every edge between pixels.
            large = crop.inside.repeat(2, axis=0).repeat(2, axis=1)
            contours, tree = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            rings = [_corners((contour[:, 0].astype(np.int64) + 1) >> 1, tolerance) for contour in contours]
            corner = np.array([crop.left, crop.top])
            if len(rings) == 1:
                found.append([rings[0] + corner])
                continue
            for outer in np.flatnonzero(tree[0, :, 3] < 0).tolist():
                polygon = [rings[outer]]
                for hole in np.flatnonzero(tree[0, :, 3] == outer).tolist():
                    polygon += [rings[outer][:1], rings[hole], rings[hole][:1]]
                polygons.append(
                    np.concatenate([*polygon, rings[outer][:1]][: len(polygon) + (len(polygon) > 1)]) + corner
                )
        found.append(polygons)
    return found


def join_polygons(polygons: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Several polygons `(K, 2)` as one, by lines there and back, for formats that have one polygon for an object."""
    first = polygons[0][:1]
    rings = [part for polygon in polygons[1:] for part in (first, polygon, polygon[:1])]
    return np.concatenate([polygons[0], *rings, *([first] if rings else [])])


def _corners(ring: NDArray[np.int64], tolerance: float) -> NDArray[np.int64]:
    """A closed line without the points that lie on a straight part of it."""
    import cv2

    # Only where the direction changes; steps are of one pixel, or of none where two sides of an edge became one. A
    # point is one number, so that each comparison is one.
    point = (ring[:, 1] << 32) + ring[:, 0]
    is_new = point != np.concatenate([point[-1:], point[:-1]])
    ring, point = ring[is_new], point[is_new]
    step = np.concatenate([point[1:], point[:1]]) - point
    ring = ring[step != np.concatenate([step[-1:], step[:-1]])]
    if tolerance:
        simple = cv2.approxPolyDP(ring.astype(np.int32)[:, None], tolerance, True)[:, 0].astype(np.int64)
        return simple if len(simple) > 2 else ring
    return ring


def _size(entry: Mapping[str, object]) -> tuple[int, int]:
    try:
        height, width = map(int, cast("Sequence[int]", entry["size"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError("an RLE entry needs `size`: [H, W]") from None
    if height < 1 or width < 1:
        raise ValueError(f"a mask has at least one pixel, not {height}×{width}")
    check_pixels(height, width)
    return height, width


def _runs(entry: Mapping[str, object]) -> list[int]:
    """Run lengths of either form, background first.

    Decoded here because the COCO API's C decoder trusts its input: runs beyond the size would write past the mask.
    The compressed form is its `rleFrString`: five bits a character, little end first, every run from the fourth on
    stored as the difference from the one before the last.
    """
    counts = entry.get("counts")
    if not isinstance(counts, str | bytes):
        try:
            return [int(run) for run in cast("Iterable[int]", counts)]
        except (TypeError, ValueError, OverflowError):
            raise ValueError("an RLE entry needs `counts`: a string, or a list of run lengths") from None
    text = counts.encode("ascii") if isinstance(counts, str) else counts
    runs: list[int] = []
    value = shift = 0
    for character in text:
        digit = character - 48
        if not 0 <= digit < 64:
            raise ValueError(f"RLE counts hold an invalid character {chr(character)!r}")
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            if shift > LONGEST_RUN_BITS:  # a number that grows with every character would take time without end
                raise ValueError("RLE counts hold a run that is out of range")
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("RLE counts end in the middle of a number")
    return runs
