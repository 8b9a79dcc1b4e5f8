from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tests.formats.worlds import discs
from trackweave.masks.ops import crop_at, rescale_masks
from trackweave.masks.packed import PackedMasks


def whole(masks: PackedMasks, n: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    image = np.zeros(size, np.bool_)
    crop = crop_at(masks, n, size)
    if crop is not None:
        image[crop.window] = crop.inside.view(np.bool_)
    return image


@settings(deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 19))))
def test_crops_at_the_masks_own_size_are_exact(masks: NDArray[np.bool_]) -> None:
    packed = PackedMasks.from_bool(masks)
    for n, mask in enumerate(masks):
        assert np.array_equal(whole(packed, n, mask.shape), mask)
        assert (crop_at(packed, n, mask.shape) is None) == (not mask.any())


def test_growing_agrees_with_rescaling_of_whole_masks() -> None:
    masks = PackedMasks.from_bool(discs(12, 36, 48))
    grown = rescale_masks(masks, 121, 160).to_bool()
    for n, expected in enumerate(grown):
        assert np.count_nonzero(whole(masks, n, (121, 160)) ^ expected) <= 0.03 * np.count_nonzero(expected)


@settings(deadline=None)
@given(
    hnp.arrays(np.bool_, st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 9))),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_any_scale_stays_inside_the_image_and_full_masks_stay_full(
    masks: NDArray[np.bool_], size: tuple[int, int]
) -> None:
    packed = PackedMasks.from_bool(masks)
    crop = crop_at(packed, 0, size)
    if crop is not None:
        assert whole(packed, 0, size)[crop.window].shape == crop.inside.shape
    assert whole(PackedMasks.from_bool(np.ones_like(masks)), 0, size).all()
