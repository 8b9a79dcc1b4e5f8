"""COCO run-length encoding, both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from trackweave.masks.packed import PackedMasks


class CocoRLE(TypedDict):
    """COCO's compressed RLE: `size` is `[H, W]`, `counts` the ASCII string of column-major runs."""

    size: list[int]
    counts: str


def encode_rle(masks: PackedMasks) -> list[CocoRLE]:
    """One compressed RLE per mask.

    >>> encode_rle(PackedMasks.from_bool(np.ones((1, 2, 2), bool)))
    [{'size': [2, 2], 'counts': '04'}]
    """
    from faster_coco_eval.core import mask as coco

    # One mask at a time: N unpacked masks would be eight times what packing saves.
    rows = (coco.encode(np.asfortranarray(mask.to_bool()[0].view(np.uint8)[..., None]))[0] for mask in masks)
    return [{"size": [masks.height, masks.width], "counts": row["counts"].decode("ascii")} for row in rows]


def decode_rle(entries: Sequence[Mapping[str, Any]]) -> PackedMasks:
    """Packs RLE entries of one size; `counts` may be compressed (str, bytes) or a list of run lengths.

    Raises:
        ValueError: no entry, a missing key, entries of different sizes, or runs that do not fill the size.
    """
    if not entries:
        raise ValueError("no RLE entries: an empty result would have no size")
    height, width = _size(entries[0])
    out = PackedMasks.empty(height, width, len(entries))
    for n, entry in enumerate(entries):
        if _size(entry) != (height, width):
            raise ValueError(f"RLE entries of one size are expected, not {_size(entry)} after {(height, width)}")
        runs = _runs(entry)
        if sum(runs) != height * width or min(runs) < 0:
            raise ValueError(f"RLE entry {n} covers {sum(runs)} pixels, its size {height}×{width} has {height * width}")
        inside = np.arange(len(runs)) % 2 == 1
        out.bits[n] = np.packbits(np.repeat(inside, runs).reshape(width, height).T)
    return out


def _size(entry: Mapping[str, Any]) -> tuple[int, int]:
    try:
        height, width = (int(value) for value in entry["size"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("an RLE entry needs `size`: [H, W]") from None
    return height, width


def _runs(entry: Mapping[str, Any]) -> list[int]:
    """Run lengths of either form, background first.

    Decoded here because the COCO API's C decoder trusts its input: runs beyond the size would write past the mask.
    The compressed form is its `rleFrString`: five bits a character, little end first, every run from the fourth on
    stored as the difference from the one before the last.
    """
    counts = entry.get("counts")
    if not isinstance(counts, str | bytes):
        try:
            return [int(run) for run in counts]  # type: ignore[union-attr]
        except TypeError:
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
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("RLE counts end in the middle of a number")
    return runs
