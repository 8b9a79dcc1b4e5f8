"""The mapping form of one packed mask, in memory and in JSON.

In memory `{"packed_bits": uint8 array, "shape": (H, W)}`, in JSON `{"packed_bits_b64": str, "shape": [H, W]}`; both may
carry `full_resolution_shape`, the `(H, W)` of the frame when the mask is stored smaller. Functions of the tracking room
that take a mask take this mapping, a `PackedMasks` of one mask, or a plain `(H, W)` array.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from trackweave.masks.packed import PackedMasks, packed_length


class PackedMaskEntry(TypedDict, total=False):
    """One packed mask as a mapping; `packed_bits` and `shape` are always there."""

    packed_bits: NDArray[np.uint8]
    shape: tuple[int, int]
    full_resolution_shape: tuple[int, int]


MaskLike = PackedMasks | Mapping[str, Any] | NDArray[Any]


def make_entry(mask: PackedMasks, full_resolution_shape: tuple[int, int] | None = None) -> PackedMaskEntry:
    """The mapping form of a single mask.

    Raises:
        ValueError: not exactly one mask.
    """
    if len(mask) != 1:
        raise ValueError(f"an entry holds one mask, not {len(mask)}")
    entry: PackedMaskEntry = {"packed_bits": mask.bits[0], "shape": mask.size}
    if full_resolution_shape is not None:
        entry["full_resolution_shape"] = full_resolution_shape
    return entry


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


def encode_entry(mask: MaskLike) -> dict[str, Any]:
    """JSON form of a mask, with `full_resolution_shape` when it carries one."""
    packed = as_packed(mask)
    payload: dict[str, Any] = {
        "packed_bits_b64": base64.b64encode(packed.bits[0].tobytes()).decode("ascii"),
        "shape": list(packed.size),
    }
    if (full := full_shape(mask)) is not None:
        payload["full_resolution_shape"] = list(full)
    return payload


def decode_entry(payload: Mapping[str, Any]) -> PackedMaskEntry:
    """Inverse of `encode_entry`.

    Raises:
        ValueError: a key is missing, the text is not base64, or its length does not fit `shape`.
    """
    return make_entry(_from_mapping(payload), full_shape(payload))


def _pair(shape: Any, key: str) -> tuple[int, int]:
    """`(H, W)` from JSON or memory."""
    try:
        sides = [int(side) for side in shape]
    except (TypeError, ValueError):
        sides = []
    if len(sides) == 3 and sides[0] == 1:  # (1, H, W), as some predictors' masks were stored
        sides = sides[1:]
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"`{key}` is (H, W) of at least one pixel, not {shape!r:.60}")
    return sides[0], sides[1]


def _from_mapping(mask: Mapping[str, Any]) -> PackedMasks:
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
