from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from trackweave.evaluation.jf import (
    boundary_measure,
    boundary_measures,
    edges_of,
    region_similarities,
    region_similarity,
)
from trackweave.masks.packed import PackedMasks


@st.composite
def masks(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two sets of masks of one size: noise, rectangles, empty and full ones."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))

    def one() -> NDArray[np.bool_]:
        kind = draw(st.sampled_from(("noise", "box", "empty", "full")))
        if kind == "noise":
            return draw(arrays(np.bool_, (height, width)))
        found = np.full((height, width), kind == "full")
        if kind == "box":
            y1, y2 = sorted(draw(st.tuples(st.integers(0, height), st.integers(0, height))))
            x1, x2 = sorted(draw(st.tuples(st.integers(0, width), st.integers(0, width))))
            found[y1:y2, x1:x2] = True
        return found

    return tuple(np.array([one() for _ in range(draw(st.integers(1, 3)))]) for _ in range(2))  # type: ignore[return-value]


@given(masks(), st.sampled_from((0.008, 0.05, 1, 3)))
def test_pairs_are_what_the_single_measures_say(
    given_masks: tuple[NDArray[np.bool_], NDArray[np.bool_]], bound: float
) -> None:
    one, other = given_masks
    packed = [PackedMasks.from_bool(side) for side in given_masks]
    region = region_similarities(*packed)
    boundary = boundary_measures(*(edges_of(side, bound) for side in packed))
    assert region.tolist() == [[region_similarity(a, b) for b in other] for a in one]
    assert boundary.tolist() == [[boundary_measure(a, b, bound) for b in other] for a in one]


def test_no_masks() -> None:
    nothing, some = PackedMasks.empty(4, 5), PackedMasks.empty(4, 5, 2)
    assert region_similarities(nothing, some).shape == (0, 2)
    assert boundary_measures(edges_of(some), edges_of(nothing)).shape == (2, 0)


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="different sizes"):
        region_similarities(PackedMasks.empty(4, 5, 1), PackedMasks.empty(5, 4, 1))
