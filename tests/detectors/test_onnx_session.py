from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.detectors.onnx_session import PADDING_GREY, Placement, fit
from trackweave.detectors.settings import Resize

SIDES = st.integers(1, 90)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["letterbox", "corner", "stretch"]))
def test_the_whole_frame_comes_back(height: int, width: int, rows: int, columns: int, resize: Resize) -> None:
    fitted, placement = fit(np.full((height, width, 3), 200, np.uint8), (rows, columns), resize)
    assert fitted.shape == (rows, columns, 3)
    y, x = np.nonzero((fitted != PADDING_GREY).any(axis=2))
    inner = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32)
    np.testing.assert_allclose(placement.to_frame(inner), [[0, 0, width, height]], atol=1e-4)
    assert (fitted[y.min() : y.max() + 1, x.min() : x.max() + 1] == 200).all()


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["letterbox", "corner"]))
def test_aspect_is_kept_and_one_side_is_full(height: int, width: int, rows: int, columns: int, resize: Resize) -> None:
    fitted, _ = fit(np.full((height, width, 3), 200, np.uint8), (rows, columns), resize)
    y, x = np.nonzero((fitted != PADDING_GREY).any(axis=2))
    inner_height, inner_width = y.max() + 1 - y.min(), x.max() + 1 - x.min()
    assert inner_height == rows or inner_width == columns
    ratio = min(rows / height, columns / width)
    assert abs(inner_height - max(1, height * ratio)) <= 0.5
    assert abs(inner_width - max(1, width * ratio)) <= 0.5
    before, after = np.array([x.min(), y.min()]), np.array([columns - x.max() - 1, rows - y.max() - 1])
    assert (before == 0).all() if resize == "corner" else (abs(after - before) <= 1).all()


def test_boxes_outside_are_clipped() -> None:
    _, placement = fit(np.zeros((50, 100, 3), np.uint8), (100, 100), "letterbox")
    assert placement.to_frame(np.array([[-9.0, 0, 300, 99]])).tolist() == [[0, 0, 100, 50]]


def test_the_frame_is_not_written_to() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image.setflags(write=False)
    fitted, _ = fit(image, (8, 16), "letterbox")
    assert fitted[0, 0].tolist() == [PADDING_GREY] * 3


@pytest.mark.parametrize("resize", ["letterbox", "corner", "stretch"])
def test_a_frame_of_the_input_size_stays_as_it_is(resize: Resize) -> None:
    image = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    fitted, placement = fit(image, (8, 12), resize)
    np.testing.assert_array_equal(fitted, image)
    assert placement == Placement((1, 1), (0, 0), (8, 12))
