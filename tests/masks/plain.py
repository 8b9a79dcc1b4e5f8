"""Masks to try, and what the kernels compute, said in plain numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Stack = NDArray[np.bool_]

# Widths around bytes and words: rows start in the middle of both.
HEIGHTS = st.integers(1, 9)
WIDTHS = st.one_of(st.integers(1, 20), st.sampled_from([31, 63, 64, 65, 127, 128, 130]))


def sizes() -> st.SearchStrategy[tuple[int, int]]:
    """`(H, W)`."""
    return st.tuples(HEIGHTS, WIDTHS)


@st.composite
def stacks(draw: st.DrawFn, size: tuple[int, int] | None = None, min_masks: int = 0) -> Stack:
    """`(N, H, W)` bool: noise, rectangles, single pixels, empty and full masks."""
    height, width = size or draw(sizes())
    kinds = draw(st.lists(st.sampled_from(["noise", "box", "pixel", "empty", "full"]), min_size=min_masks, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    out = np.zeros((len(kinds), height, width), np.bool_)
    for mask, kind in zip(out, kinds, strict=True):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        if kind == "noise":
            mask[:] = rng.random((height, width)) < rng.choice([0.03, 0.5, 0.97])
        elif kind == "box":
            mask[top : top + int(rng.integers(1, height + 1)), left : left + int(rng.integers(1, width + 1))] = True
        elif kind == "pixel":
            mask[top, left] = True
        elif kind == "full":
            mask[:] = True
    return out


def pairs() -> st.SearchStrategy[tuple[Stack, Stack]]:
    """Two stacks of one size."""
    return sizes().flatmap(lambda size: st.tuples(stacks(size), stacks(size)))


def boxes(masks: Stack) -> list[list[int]]:
    """Tight xyxy boxes, right and bottom exclusive."""
    found = []
    for mask in masks:
        ys, xs = np.nonzero(mask)
        found.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else [0, 0, 0, 0])
    return [[int(value) for value in box] for box in found]


def shared(a: Stack, b: Stack) -> NDArray[np.int64]:
    """`(N, M)` common pixels."""
    return np.asarray((a[:, None] & b[None]).sum(axis=(2, 3)), np.int64)


def runs(mask: Stack) -> list[int]:
    """COCO's run lengths of one mask: column after column, background first."""
    lengths, inside = [0], False
    for pixel in mask.T.reshape(-1):
        if bool(pixel) != inside:
            lengths.append(0)
            inside = not inside
        lengths[-1] += 1
    return lengths


def nearest(masks: Stack, height: int, width: int) -> Stack:
    """The pixel under each target pixel's centre."""
    rows = [(2 * y + 1) * masks.shape[1] // (2 * height) for y in range(height)]
    cols = [(2 * x + 1) * masks.shape[2] // (2 * width) for x in range(width)]
    return masks[:, rows][:, :, cols]


def drawing(*rows: str) -> Stack:
    """A mask drawn with `#`.

    >>> drawing("#.", ".#").tolist()
    [[True, False], [False, True]]
    """
    lines: Sequence[str] = rows
    return np.array([[character == "#" for character in line] for line in lines])
