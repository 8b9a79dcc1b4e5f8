from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.boxes import (
    as_boxes,
    box_areas,
    box_iou,
    centred_iou,
    clip_boxes,
    pair_iou,
    scale_boxes,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

COORDINATE = st.integers(-20, 40)
BOX = st.tuples(COORDINATE, COORDINATE, st.integers(1, 30), st.integers(1, 30)).map(
    lambda box: [box[0], box[1], box[0] + box[2], box[1] + box[3]]
)
BOXES = st.lists(BOX, max_size=4)


@given(BOXES)
def test_both_forms_and_back(boxes: list[list[int]]) -> None:
    there = xyxy_to_xywh(boxes)
    assert there.dtype == np.float32
    assert there.shape == (len(boxes), 4)
    assert xywh_to_xyxy(there).tolist() == boxes


@given(BOXES, st.floats(0.1, 10), st.floats(0.1, 10))
def test_scaling_there_and_back(boxes: list[list[int]], scale_x: float, scale_y: float) -> None:
    back = scale_boxes(scale_boxes(boxes, scale_x, scale_y), 1 / scale_x, 1 / scale_y)
    np.testing.assert_allclose(back, as_boxes(boxes), atol=1e-4)


def test_scaling_does_not_round() -> None:
    assert scale_boxes([[1, 1, 2, 3]], 0.25, 0.5).tolist() == [[0.25, 0.5, 0.5, 1.5]]


def paint(box: list[int]) -> set[tuple[int, int]]:
    return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}


@given(BOXES, BOXES)
def test_iou_and_areas_are_those_of_the_pixels(a: list[list[int]], b: list[list[int]]) -> None:
    painted_a, painted_b = [paint(box) for box in a], [paint(box) for box in b]
    expected = [[len(p & q) / len(p | q) for q in painted_b] for p in painted_a]
    assert box_iou(a, b).shape == (len(a), len(b))
    np.testing.assert_allclose(box_iou(a, b), np.array(expected).reshape(len(a), len(b)))
    assert box_areas(a).tolist() == [len(p) for p in painted_a]


@given(BOX, BOX)
def test_the_iou_of_two_boxes_is_that_of_arrays(a: list[int], b: list[int]) -> None:
    expected = pytest.approx(float(box_iou([a], [b])[0, 0]))
    assert pair_iou(a, b) == expected
    (x1, y1, w1, h1), (x2, y2, w2, h2) = ([*box[:2], box[2] - box[0], box[3] - box[1]] for box in (a, b))
    dx, dy = x1 + w1 / 2 - x2 - w2 / 2, y1 + h1 / 2 - y2 - h2 / 2
    assert centred_iou(dx, dy, w1, h1, w2, h2) == expected


@pytest.mark.parametrize("empty", [[3, 3, 3, 8], [3, 3, 1, 8], [5, 9, 2, 1]])
def test_an_empty_or_inverted_box_overlaps_nothing(empty: list[int]) -> None:
    assert box_areas([empty]).tolist() == [0]
    assert box_iou([empty], [empty, [0, 0, 10, 10]]).tolist() == [[0, 0]]


def test_clipping() -> None:
    boxes = [[-3, 2, 4, 99], [20, 20, 30, 30], [1, 1, 2, 2]]
    assert clip_boxes(boxes, height=10, width=8).tolist() == [[0, 2, 4, 10], [8, 10, 8, 10], [1, 1, 2, 2]]


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), np.zeros(0)])
def test_no_boxes(boxes: Any) -> None:
    for convert in (xywh_to_xyxy, xyxy_to_xywh):
        assert convert(boxes).shape == (0, 4)
    assert box_areas(boxes).shape == (0,)


def test_one_box_alone_is_a_row() -> None:
    assert xywh_to_xyxy([1, 2, 3, 4]).tolist() == [[1, 2, 4, 6]]


@pytest.mark.parametrize("boxes", [[[1, 2, 3]], [1, 2, 3], np.ones((1, 1, 4))])
def test_not_four_numbers(boxes: Any) -> None:
    with pytest.raises(ValueError, match=r"boxes are \(N, 4\)"):
        as_boxes(boxes)
