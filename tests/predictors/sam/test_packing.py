from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional

from trackweave.masks.packed import PackedMasks
from trackweave.predictors.sam import session as packing


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 4), st.integers(1, 70))))
def test_packing_on_a_device_is_numpy_s(masks: np.ndarray) -> None:
    np.testing.assert_array_equal(packing.pack_on_device(torch.from_numpy(masks)).numpy(), np.packbits(masks, axis=1))


@given(
    logits=hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 5), st.just(1), st.just(4), st.just(6)),
        elements={"min_value": -9, "max_value": 9},
    ),
    size=st.tuples(st.integers(1, 19), st.integers(1, 23)),
)
def test_masks_are_what_lies_above_zero_after_enlarging(logits: np.ndarray, size: tuple[int, int]) -> None:
    expected = (
        functional.interpolate(torch.from_numpy(logits), size=size, mode="bilinear", align_corners=False)[:, 0] > 0
    )
    packed = packing.pack_logits(torch.from_numpy(logits), *size)
    assert packed == PackedMasks.from_bool(expected.numpy()) if len(logits) else len(packed) == 0


def test_many_large_masks_are_enlarged_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(7, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = packing.pack_logits(logits, 30, 40)
    monkeypatch.setattr(packing, "MAX_ENLARGED_PIXELS", 30 * 40 * 2)
    assert packing.pack_logits(logits, 30, 40) == whole
