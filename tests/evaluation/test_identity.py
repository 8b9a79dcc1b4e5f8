from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from trackweave.evaluation.identity import best_track_per_object
from trackweave.ids import FrameIndex
from trackweave.masks.ops import rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.structures.tracks import FrameObjects


def label_map(*boxes: tuple[int, int], side: int = 6) -> NDArray[np.uint8]:
    """Squares 1, 2, … with their corners at these `(y, x)`; a negative corner leaves one out."""
    labels = np.zeros((24, 40), np.uint8)
    for label, (y, x) in enumerate(boxes, start=1):
        if x >= 0:
            labels[y : y + side, x : x + side] = label
    return labels


def tracked(frame: int, labels: NDArray[np.uint8], names: dict[int, int]) -> FrameObjects:
    """Tracks that cover the labels exactly, under other ids: `names` is label → track id."""
    present = sorted((track, label) for label, track in names.items() if (labels == label).any())
    masks = [labels == label for _, label in present]
    packed = PackedMasks.from_bool(np.stack(masks)) if masks else PackedMasks.empty(*labels.shape)
    ids = np.array([track for track, _ in present], np.int64)
    boxes, scores = packed.boxes.astype(np.float32), np.ones(len(ids), np.float32)
    return FrameObjects(FrameIndex(frame), f"{frame}", ids, packed, boxes, packed.areas, scores)


TRUTH = {FrameIndex(k): label_map((2, 2 + 3 * k), (14, 30 - 3 * k)) for k in range(8)}


def test_perfect_tracks_under_any_id() -> None:
    scores = best_track_per_object(TRUTH, [tracked(k, labels, {1: 9, 2: 4}) for k, labels in TRUTH.items()])
    assert [(m.label, m.track_id, m.j_mean, m.recall, m.fragments, m.frames) for m in scores.objects] == [
        (1, 9, 1.0, 1.0, 1, 8),
        (2, 4, 1.0, 1.0, 1, 8),
    ]
    assert (scores.j_mean, scores.recall) == (1.0, 1.0)


def test_swapped_identities_are_fragments() -> None:
    predicted = [tracked(k, labels, {1: 1, 2: 2} if k < 5 else {1: 2, 2: 1}) for k, labels in TRUTH.items()]
    scores = best_track_per_object(TRUTH, predicted)
    assert [match.fragments for match in scores.objects] == [2, 2]
    assert [match.recall for match in scores.objects] == [5 / 8, 5 / 8]
    assert scores.j_mean == pytest.approx(5 / 8)


def test_a_track_serves_one_object_only() -> None:
    predicted = [tracked(k, labels, {1: 5}) for k, labels in TRUTH.items()]
    scores = best_track_per_object(TRUTH, predicted)
    assert [(match.track_id, match.j_mean) for match in scores.objects] == [(5, 1.0), (None, 0.0)]
    assert scores.recall == 0.5


def test_a_track_that_stays_when_the_object_left_is_charged() -> None:
    truth = {FrameIndex(k): label_map((2, 2) if k < 4 else (2, -1)) for k in range(8)}
    predicted = [tracked(k, label_map((2, 2)), {1: 1}) for k in range(8)]
    match = best_track_per_object(truth, predicted).objects[0]
    assert (match.j_mean, match.recall, match.frames) == (0.5, 1.0, 4)


def test_frames_that_neither_overlap_count_once() -> None:
    truth = {FrameIndex(k): label_map((2, 2)) for k in range(4)}
    predicted = [tracked(k, label_map((2, 2) if k < 2 else (12, 20)), {1: 1}) for k in range(4)]
    assert best_track_per_object(truth, predicted).objects[0].j_mean == 0.5


def test_assignment_maximises_the_sum_not_the_first_choice() -> None:
    # Track 1 fits both objects of the frame; track 2 fits only object 1.
    labels = np.zeros((10, 30), np.uint8)
    labels[:, :10], labels[:, 10:20] = 1, 2
    masks = np.zeros((2, 10, 30), np.bool_)
    masks[0, :, 1:20] = True
    masks[1, :, :6] = True
    packed = PackedMasks.from_bool(masks)
    boxes, ones = packed.boxes.astype(np.float32), np.ones(2, np.float32)
    frame = FrameObjects(FrameIndex(0), "0", np.array([1, 2]), packed, boxes, packed.areas, ones)
    scores = best_track_per_object({FrameIndex(0): labels}, [frame])
    assert [match.track_id for match in scores.objects] == [2, 1]


def test_masks_at_another_scale_and_frames_without_truth() -> None:
    predicted = []
    for k, labels in TRUTH.items():
        frame = tracked(k, np.kron(labels, np.ones((2, 2), np.uint8)), {1: 1, 2: 2})
        assert rescale_masks(frame.masks, 24, 40).size == (24, 40)
        predicted.append(frame)
    predicted.append(tracked(99, TRUTH[FrameIndex(0)], {1: 7, 2: 8}))
    scores = best_track_per_object(TRUTH, predicted)
    assert scores.j_mean == 1.0
    assert [match.track_id for match in scores.objects] == [1, 2]


def test_nothing_tracked_and_nothing_to_track() -> None:
    assert [(m.track_id, m.frames) for m in best_track_per_object(TRUTH, []).objects] == [(None, 8), (None, 8)]
    void = {FrameIndex(0): np.full((4, 4), 255, np.uint8)}
    nothing = best_track_per_object(void, [tracked(0, label_map((2, 2))[:4, :4], {1: 1})])
    assert nothing.objects == ()
    assert math.isnan(nothing.j_mean)
    assert math.isnan(nothing.recall)


def test_255_is_an_id_where_labels_are_larger() -> None:
    truth = {FrameIndex(0): np.array([[0, 254, 255]], np.int64), FrameIndex(1): np.array([[256, 255, 255]], np.int64)}
    assert [(match.label, match.frames) for match in best_track_per_object(truth, []).objects] == [
        (254, 1),
        (255, 2),
        (256, 1),
    ]
    truth[FrameIndex(1)][0, 0] = 0
    assert [match.label for match in best_track_per_object(truth, []).objects] == [254]
