from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.boxes import box_iou
from trackweave.detectors.base import non_maximum_suppression as nms

BOXES = st.lists(
    st.tuples(
        st.integers(-60, 60), st.integers(-60, 60), st.integers(1, 60), st.integers(1, 60), st.integers(0, 5),
        st.integers(-1, 2),
    ),
    max_size=25,
)  # fmt: skip


def columns(rows: list[tuple[int, ...]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return boxes, table[:, 4] / 5, table[:, 5].astype(np.int64)


def plain(boxes: NDArray[Any], score: NDArray[Any], class_id: NDArray[Any], threshold: float) -> list[int]:
    """The definition, written out."""
    kept: list[int] = []
    for n in sorted(range(len(boxes)), key=lambda n: -score[n]):
        rivals = [m for m in kept if class_id[m] == class_id[n]]
        if not rivals or box_iou(boxes[rivals], boxes[n]).max() <= threshold:
            kept.append(n)
    return kept


@given(BOXES, st.sampled_from([0.0, 0.317, 0.514, 0.777, 1.0]))
def test_it_agrees_with_the_definition(rows: list[tuple[int, ...]], threshold: float) -> None:
    boxes, score, class_id = columns(rows)
    assert nms(boxes, score, class_id, threshold).tolist() == plain(boxes, score, class_id, threshold)


@given(BOXES)
def test_kept_boxes_are_sorted_and_kept_again(rows: list[tuple[int, ...]]) -> None:
    boxes, score, class_id = columns(rows)
    kept = nms(boxes, score, class_id, 0.5)
    assert (np.diff(score[kept]) <= 0).all()
    again = nms(boxes[kept], score[kept], class_id[kept], 0.5)
    assert again.tolist() == list(range(len(kept)))


def test_only_the_best_take_part() -> None:
    boxes = np.array([[0, 0, 4, 4], [10, 0, 14, 4], [20, 0, 24, 4]], np.float32)
    assert nms(boxes, np.array([0.1, 0.9, 0.5], np.float32), np.zeros(3, np.int64), 0.5, max_compared=2).tolist() == [
        1,
        2,
    ]


def test_far_classes_do_not_disturb_each_other() -> None:
    """Class ids as large as those of open vocabularies, which would lose digits as an offset of coordinates."""
    boxes = np.tile(np.array([[0, 0, 40, 40]], np.float32), (3, 1))
    kept = nms(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 2**40, 2**41]), 0.5)
    assert kept.tolist() == [0, 1, 2]
