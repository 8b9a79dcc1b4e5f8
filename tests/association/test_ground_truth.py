from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.association.labels import gt_track_ids
from trackweave.boxes import box_iou
from trackweave.formats.tables import GroundTruth


def truth(boxes: object, ids: list[int], counts: list[bool] | None = None) -> GroundTruth:
    n = len(ids)
    return GroundTruth(
        np.zeros(n, np.int64),
        np.array(ids, np.int64),
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.ones(n, np.bool_) if counts is None else np.array(counts),
        np.ones(n, np.int64),
        np.ones(n, np.float32),
    )


def test_each_identity_is_matched_once() -> None:
    """Two detections of one object: the better one has the identity, the other none."""
    identities = gt_track_ids(np.array([[0, 1, 10, 20], [0, 0, 10, 20]]), truth([[0, 0, 10, 20]], [5]))
    assert identities.tolist() == [-1, 5]


def test_the_least_overlap_is_one_half() -> None:
    one = truth([[0, 0, 10, 10]], [5])
    assert gt_track_ids(np.array([[0, 0, 10, 20]]), one).tolist() == [5]
    assert gt_track_ids(np.array([[0, 0, 10, 20.1]]), one).tolist() == [-1]


def test_boxes_that_do_not_count_still_match() -> None:
    """A passenger in a car stands behind a walker: the detection of the passenger is not the walker."""
    boxes, ids = [[0, 0, 10, 20], [3, 0, 13, 20]], [1, 2]
    detection = np.array([[3, 0, 13, 20]])
    assert gt_track_ids(detection, truth(boxes, ids, [True, False])).tolist() == [-1]
    assert gt_track_ids(detection, truth(boxes[:1], ids[:1])).tolist() == [1]


def test_regions_without_identity_give_none() -> None:
    assert gt_track_ids(np.array([[0, 0, 10, 20]]), truth([[0, 0, 10, 20]], [-1])).tolist() == [-1]


@pytest.mark.parametrize("detections", [0, 2])
def test_empty_inputs(detections: int) -> None:
    boxes = np.tile([[0.0, 0, 4, 4]], (detections, 1))
    assert gt_track_ids(boxes, truth([], [])).tolist() == [-1] * detections
    assert gt_track_ids(boxes[:0], truth([[0, 0, 4, 4]], [1])).shape == (0,)


def boxes_near(seed: int, count: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 6, (count, 2)).astype(float)
    return np.concatenate([corner, corner + rng.integers(4, 9, (count, 2))], axis=1)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
def test_the_matching_has_the_largest_overlap(seed: int, n: int, m: int) -> None:
    detections, true = boxes_near(seed, n), boxes_near(seed + 1, m)
    identities = gt_track_ids(detections, truth(true, list(range(10, 10 + m))))
    overlap = box_iou(detections, true)
    overlap[overlap < 0.5] = 0
    matched = np.flatnonzero(identities >= 0)
    assert len(np.unique(identities[matched])) == len(matched)
    assert (overlap[matched, identities[matched] - 10] >= 0.5).all()
    square = np.zeros((max(n, m),) * 2)
    square[:n, :m] = overlap
    best = max(square[np.arange(len(square)), list(order)].sum() for order in permutations(range(len(square))))
    assert overlap[matched, identities[matched] - 10].sum() == pytest.approx(best)


def test_a_detection_of_another_class_has_no_identity() -> None:
    boxes = np.array([[0, 0, 4, 8], [20, 0, 24, 8], [40, 0, 44, 8]], np.float32)
    truth = GroundTruth(
        np.zeros(3, np.int64),
        np.array([5, 6, 7]),
        boxes,
        np.ones(3, np.bool_),
        np.array([3, 1, -1]),
        np.ones(3, np.float32),
    )
    assert gt_track_ids(boxes, truth).tolist() == [5, 6, 7]
    assert gt_track_ids(boxes, truth, class_id=np.array([3, 3, 3])).tolist() == [5, -1, 7]
    assert gt_track_ids(boxes, truth, class_id=np.array([-1, -1, 1])).tolist() == [5, 6, 7]
