"""The observations that a learned scorer keeps of each track."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.association.toy import toy_state
from trackweave.association.track_memory import MEMORY_LENGTH, REFERENCE_WINDOW, TrackMemory, centred


def test_matches_are_kept_newest_first() -> None:
    memory = TrackMemory()
    states = [toy_state(frame, width=None) for frame in range(1, 5)]
    for state in states:
        memory.update(state)
    assert memory.ids.tolist() == [10, 11, 12]
    for back, state in enumerate(reversed(states)):
        np.testing.assert_allclose(memory.boxes[:, back], centred(state.detections.xyxy[:3]), rtol=1e-6)
        np.testing.assert_allclose(memory.times[:, back], state.time)
    assert memory.counts.tolist() == [5, 5, 5]  # one was extrapolated on the first frame


def test_an_unknown_track_is_extrapolated_from_its_motion() -> None:
    state = toy_state(30, width=None, track_gap=np.array([1, 2, 5]))
    memory = TrackMemory()
    memory.enter(state)
    expected = centred(state.track_boxes)
    expected[:, :2] -= state.track_velocity * np.array([[1], [2], [5]])
    np.testing.assert_allclose(memory.boxes[:, 0], expected, rtol=1e-5)
    assert memory.counts.tolist() == [1, 1, 1]
    np.testing.assert_allclose(memory.times[:, 0], 3.0 - np.array([1, 2, 5]) / 30, rtol=1e-6)


def test_new_tracks_get_a_row_and_removed_ones_lose_it() -> None:
    first = toy_state(1, width=None)
    first = replace(first, assigned_track_ids=np.array([10, 11, -1, 99]))
    memory = TrackMemory()
    memory.update(first)
    assert memory.ids.tolist() == [10, 11, 12, 99]
    second = replace(toy_state(2, tracks=2, width=None), track_ids=np.array([99, 11]))
    memory.enter(second)
    assert memory.ids.tolist() == [99, 11]
    np.testing.assert_allclose(memory.boxes[0, 0], centred(first.detections.xyxy)[3], rtol=1e-6)
    assert memory.counts.tolist() == [1, 2]


def test_camera_motion_moves_the_kept_boxes() -> None:
    memory = TrackMemory()
    memory.update(toy_state(1, width=None))
    before = memory.boxes.copy()
    camera = np.array([[2.0, 0, 5], [0, 2.0, -3]])
    memory.enter(toy_state(2, width=None, camera=camera))
    np.testing.assert_allclose(memory.boxes[..., 0], before[..., 0] * 2 + 5, rtol=1e-5)
    np.testing.assert_allclose(memory.boxes[..., 1], before[..., 1] * 2 - 3, rtol=1e-5)
    np.testing.assert_allclose(memory.boxes[..., 2:], before[..., 2:] * 2, rtol=1e-5)


def test_entering_twice_changes_nothing() -> None:
    memory = TrackMemory()
    memory.update(toy_state(1, width=None))
    state = toy_state(2, width=None, camera=np.array([[1.0, 0, 5], [0, 1.0, 0]]))
    memory.enter(state)
    before = memory.boxes.copy()
    memory.enter(state)
    np.testing.assert_array_equal(memory.boxes, before)


def test_the_number_of_kept_observations_is_bounded() -> None:
    memory = TrackMemory()
    for frame in range(1, MEMORY_LENGTH + 10):
        memory.update(toy_state(frame, width=None))
    assert memory.counts.tolist() == [MEMORY_LENGTH] * 3
    assert memory.boxes.shape == (3, MEMORY_LENGTH, 4)
    memory.reset()
    assert memory.time is None
    assert not len(memory.ids)


def test_the_reference_size_is_the_mean_of_unoccluded_boxes() -> None:
    memory = TrackMemory()
    sides = []
    for frame in range(1, 30):
        clear = frame % 3 != 0
        visible = np.array([1.0 if clear else 0.4] * 4, np.float32)
        state = toy_state(frame, width=None, det={"visibility": visible})
        memory.update(state)
        if clear:
            sides.append(np.log(centred(state.detections.xyxy)[:3, 2:]))
    first = np.log(centred(toy_state(1, width=None).track_boxes)[:, 2:])  # extrapolated
    np.testing.assert_allclose(memory.reference_size[:, :2], np.mean([first, *sides], axis=0), rtol=1e-4)
    assert memory.reference_size[:, 2].tolist() == [len(sides) + 1] * 3
    memory.enter(toy_state(30, width=None, camera=np.array([[2.0, 0, 0], [0, 2.0, 0]])))
    np.testing.assert_allclose(memory.reference_size[:, :2], np.mean([first, *sides], axis=0) + np.log(2), rtol=1e-4)
    for frame in range(31, 200):
        memory.update(toy_state(frame, width=None))
    assert memory.reference_size[0, 2] == REFERENCE_WINDOW


def test_the_reference_size_of_an_occluded_track_is_its_newest_box() -> None:
    memory = TrackMemory()
    for frame in range(1, 5):
        state = toy_state(
            frame,
            width=None,
            track_visibility=np.zeros(3, np.float32),
            det={"visibility": np.zeros(4, np.float32)},
        )
        memory.update(state)
    np.testing.assert_allclose(memory.reference_size[:, :2], np.log(memory.boxes[:, 0, 2:]), rtol=1e-5)
    assert not memory.reference_size[:, 2].any()
