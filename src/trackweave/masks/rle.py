"""COCO run-length encoding, both ways, through faster-coco-eval (the COCO API's C code)."""

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
    from faster_coco_eval.core import mask as coco

    if not entries:
        raise ValueError("no RLE entries: an empty result would have no size")
    sizes = {(int(entry["size"][0]), int(entry["size"][1])) for entry in entries if "size" in entry}
    if len(sizes) != 1 or any("size" not in entry or "counts" not in entry for entry in entries):
        raise ValueError(f"RLE entries need `counts` and one common `size`; sizes found: {sorted(sizes)}")
    height, width = sizes.pop()
    parts = []
    for n, entry in enumerate(entries):
        runs = _uncompressed_runs(entry["counts"])
        if sum(runs) != height * width or any(run < 0 for run in runs):
            raise ValueError(f"RLE entry {n} covers {sum(runs)} pixels, its size {height}×{width} has {height * width}")
        compressed = coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)
        parts.append(PackedMasks.from_bool(coco.decode(compressed)))
    return PackedMasks.concat(parts)


def _uncompressed_runs(counts: Any) -> list[int]:
    """Run lengths of either form.

    Decoded here because the C decoder trusts its input: runs beyond the size would write past the mask.
    The format is COCO's `rleFrString`: five bits a character, little end first, every run from the fourth on
    stored as the difference from the one before the last.
    """
    if not isinstance(counts, str | bytes):
        return [int(run) for run in counts]
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
