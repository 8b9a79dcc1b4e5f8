"""What a learned scorer remembers of tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.association.worlds import make_state
from trackweave.association.track_memory import REMEMBERED, USUAL_LENGTH, TrackHistory, centred


def test_matches_are_remembered_newest_first() -> None:
    history = TrackHistory()
    states = [make_state(frame, width=None) for frame in range(1, 5)]
    for state in states:
        history.learn(state)
    assert history.ids.tolist() == [10, 11, 12]
    for back, state in enumerate(reversed(states)):
        np.testing.assert_allclose(history.boxes[:, back], centred(state.detections.xyxy[:3]), rtol=1e-6)
        np.testing.assert_allclose(history.times[:, back], state.time)
    assert history.counts.tolist() == [5, 5, 5]  # one was worked out from the motion on the first frame


def test_a_track_that_was_never_seen_is_worked_out_from_its_motion() -> None:
    state = make_state(30, width=None, track_gap=np.array([1, 2, 5]))
    history = TrackHistory()
    history.enter(state)
    expected = centred(state.track_boxes)
    expected[:, :2] -= state.track_velocity * np.array([[1], [2], [5]])
    np.testing.assert_allclose(history.boxes[:, 0], expected, rtol=1e-5)
    assert history.counts.tolist() == [1, 1, 1]
    np.testing.assert_allclose(history.times[:, 0], 3.0 - np.array([1, 2, 5]) / 30, rtol=1e-6)


def test_new_tracks_get_a_row_and_gone_ones_lose_it() -> None:
    first = make_state(1, width=None)
    first = replace(first, assigned_track_ids=np.array([10, 11, -1, 99]))
    history = TrackHistory()
    history.learn(first)
    assert history.ids.tolist() == [10, 11, 12, 99]
    second = replace(make_state(2, tracks=2, width=None), track_ids=np.array([99, 11]))
    history.enter(second)
    assert history.ids.tolist() == [99, 11]
    np.testing.assert_allclose(history.boxes[0, 0], centred(first.detections.xyxy)[3], rtol=1e-6)
    assert history.counts.tolist() == [1, 2]


def test_the_camera_moves_what_is_remembered() -> None:
    history = TrackHistory()
    history.learn(make_state(1, width=None))
    before = history.boxes.copy()
    camera = np.array([[2.0, 0, 5], [0, 2.0, -3]])
    history.enter(make_state(2, width=None, camera=camera))
    np.testing.assert_allclose(history.boxes[..., 0], before[..., 0] * 2 + 5, rtol=1e-5)
    np.testing.assert_allclose(history.boxes[..., 1], before[..., 1] * 2 - 3, rtol=1e-5)
    np.testing.assert_allclose(history.boxes[..., 2:], before[..., 2:] * 2, rtol=1e-5)


def test_entering_twice_changes_nothing() -> None:
    history = TrackHistory()
    history.learn(make_state(1, width=None))
    state = make_state(2, width=None, camera=np.array([[1.0, 0, 5], [0, 1.0, 0]]))
    history.enter(state)
    before = history.boxes.copy()
    history.enter(state)
    np.testing.assert_array_equal(history.boxes, before)


def test_only_so_many_observations_are_kept() -> None:
    history = TrackHistory()
    for frame in range(1, REMEMBERED + 10):
        history.learn(make_state(frame, width=None))
    assert history.counts.tolist() == [REMEMBERED] * 3
    assert history.boxes.shape == (3, REMEMBERED, 4)
    history.reset()
    assert history.now is None
    assert not len(history.ids)


def test_the_usual_size_is_that_of_clear_sight() -> None:
    history = TrackHistory()
    sides = []
    for frame in range(1, 30):
        clear = frame % 3 != 0
        visible = np.array([1.0 if clear else 0.4] * 4, np.float32)
        state = make_state(frame, width=None, det={"visibility": visible})
        history.learn(state)
        if clear:
            sides.append(np.log(centred(state.detections.xyxy)[:3, 2:]))
    first = np.log(centred(make_state(1, width=None).track_boxes)[:, 2:])  # worked out from the motion
    np.testing.assert_allclose(history.usual[:, :2], np.mean([first, *sides], axis=0), rtol=1e-4)
    assert history.usual[:, 2].tolist() == [len(sides) + 1] * 3
    history.enter(make_state(30, width=None, camera=np.array([[2.0, 0, 0], [0, 2.0, 0]])))
    np.testing.assert_allclose(history.usual[:, :2], np.mean([first, *sides], axis=0) + np.log(2), rtol=1e-4)
    for frame in range(31, 200):
        history.learn(make_state(frame, width=None))
    assert history.usual[0, 2] == USUAL_LENGTH


def test_a_track_that_was_never_clear_has_the_size_it_has() -> None:
    history = TrackHistory()
    for frame in range(1, 5):
        state = make_state(
            frame,
            width=None,
            track_visibility=np.zeros(3, np.float32),
            det={"visibility": np.zeros(4, np.float32)},
        )
        history.learn(state)
    np.testing.assert_allclose(history.usual[:, :2], np.log(history.boxes[:, 0, 2:]), rtol=1e-5)
    assert not history.usual[:, 2].any()
