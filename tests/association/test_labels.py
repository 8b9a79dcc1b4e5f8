"""Targets of tracks and detections, and true identities of detections."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.association.labels import (
    UNKNOWN,
    UNMATCHED,
    TrueIdentities,
    assigned_targets,
    gt_track_ids,
    true_targets,
)
from trackweave.boxes import box_iou
from trackweave.formats.tables import GroundTruth

PAIRS = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 1]])


def test_pairs_of_one_identity_are_targets() -> None:
    targets = true_targets(PAIRS, np.array([7, 8, 9]), np.array([8, 7, 5]), np.array([1, 1, 1]))
    assert targets.tracks.tolist() == [1, 2, UNMATCHED]
    assert targets.detections.tolist() == [2, 1, UNMATCHED]


def test_of_two_tracks_of_one_object_the_one_with_more_support_continues() -> None:
    targets = true_targets(PAIRS, np.array([7, 7, 9]), np.array([7, 5]), np.array([1, 4, 1]))
    assert targets.tracks.tolist() == [UNMATCHED, 2, UNMATCHED]
    assert targets.detections.tolist() == [2, UNMATCHED]


def test_unknown_identities_have_unknown_targets() -> None:
    targets = true_targets(PAIRS, np.array([-1, 8, 9]), np.array([-1, 8]), np.array([1, 1, 1]))
    assert targets.tracks.tolist() == [UNKNOWN, 3, UNMATCHED]
    assert targets.detections.tolist() == [UNKNOWN, 3]


def test_where_few_are_named_an_unmatched_end_is_only_certain_among_the_known() -> None:
    """Track 7 may be the nameless detection beside it, so it is not known to have ended."""
    track_identity, det_identity, support = np.array([7, 8, 9]), np.array([-1, 8]), np.array([1, 1, 1])
    whole = true_targets(PAIRS, track_identity, det_identity, support)
    partial = true_targets(PAIRS, track_identity, det_identity, support, is_partial=True)
    assert whole.tracks.tolist() == [UNMATCHED, 3, UNMATCHED]
    assert partial.tracks.tolist() == [UNKNOWN, 3, UNMATCHED]
    begun = true_targets(PAIRS, np.array([-1, 8, 9]), np.array([5, 6]), support, is_partial=True)
    assert begun.detections.tolist() == [UNKNOWN, UNKNOWN]
    assert true_targets(PAIRS, np.array([4, 8, 9]), np.array([5, 6]), support, is_partial=True).detections.tolist() == [
        UNMATCHED,
        UNMATCHED,
    ]


def test_a_second_track_of_a_named_object_that_is_seen_has_ended() -> None:
    targets = true_targets(PAIRS, np.array([8, 8, 9]), np.array([-1, 8]), np.array([1, 4, 1]), is_partial=True)
    assert targets.tracks.tolist() == [UNMATCHED, 3, UNMATCHED]


def test_a_partner_outside_the_gates_is_no_target() -> None:
    targets = true_targets(PAIRS[:1], np.array([7, 8]), np.array([5, 8]), np.array([1, 1]))
    assert targets.tracks.tolist() == [UNMATCHED, UNMATCHED]


def test_assigned_targets_follow_the_tracker() -> None:
    targets = assigned_targets(PAIRS, np.array([10, 11, 12]), np.array([11, 99, -1]))
    assert targets.tracks.tolist() == [UNMATCHED, 2, UNMATCHED]
    assert targets.detections.tolist() == [2, UNMATCHED, UNMATCHED]


def identities_at(identities: TrueIdentities, frame: int, *tracks: int) -> list[int]:
    return list(identities.at(frame, np.array(tracks))[0])


def test_a_track_has_the_identity_of_its_last_match() -> None:
    identities = TrueIdentities()
    identities.update(1, np.array([10, 11]), np.array([3, -1]))
    identities.update(2, np.array([10, 11]), np.array([-1, 5]))
    assert identities_at(identities, 3, 10, 11, 12) == [3, 5, -1]


def test_a_short_mistake_keeps_the_identity_a_lasting_one_changes_it() -> None:
    identities = TrueIdentities()
    for frame in range(100):
        identities.update(frame, np.array([10, 11]), np.array([3, 5]))
    changed = []
    for frame in range(100, 140):
        identities.update(frame, np.array([10, -1]), np.array([5, 3]))
        changed.append(identities_at(identities, frame + 1, 10) == [5])
    assert changed.index(True) in range(10, 20)
    assert all(changed[changed.index(True) :])


def test_support_decays_while_a_track_is_lost() -> None:
    identities = TrueIdentities()
    for frame in range(100):
        identities.update(frame, np.array([10]), np.array([3]))
    for frame in range(100, 160):
        identities.update(frame, np.array([11]), np.array([3]))
        _, support = identities.at(frame + 1, np.array([10, 11]))
        if frame == 104:
            assert support[0] > support[1]
    assert support[0] < support[1]


def test_tracks_that_keep_switching_have_the_identity_of_their_last_match() -> None:
    identities = TrueIdentities()
    for frame in range(100):
        identities.update(frame, np.array([10, 11]), np.array([3, 5]))
    for frame in range(100, 160):
        pair = [3, 5] if frame % 2 else [5, 3]
        identities.update(frame, np.array([10, 11]), np.array(pair))
        if frame > 140:
            assert identities_at(identities, frame + 1, 10, 11) == pair


def test_of_two_tracks_of_one_object_the_older_one_continues() -> None:
    identities = TrueIdentities()
    identities.update(0, np.array([10]), np.array([3]))
    for frame in range(1, 40):
        identities.update(frame, np.array([10 if frame % 2 else 11]), np.array([3]))
        _, support = identities.at(frame + 1, np.array([11, 10]))
        assert support[1] > support[0]


# --- true identities of detections ------------------------------------------------------------------------------------


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
