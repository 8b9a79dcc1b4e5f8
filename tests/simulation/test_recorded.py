"""Trajectories of recorded videos, and scenes that are composed of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.association.toy import toy_state
from trackweave.boxes import box_iou
from trackweave.errors import ArtifactError
from trackweave.simulation.presets import random_settings
from trackweave.simulation.recorded import Trajectories, _halved, _mirrored, resimulate
from trackweave.simulation.sequence import simulate
from trackweave.simulation.settings import DETECTORS
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import GT_COLUMN, Detections


def walkers(*, frames: int = 60, camera: bool = False) -> Trajectories:
    """Three people who walk to the right, 100, 110 and 120 pixels tall."""
    t, n = np.arange(frames)[:, None], np.arange(3)[None]
    x, y, h = 50 + 4.0 * t + 150 * n, 200.0 + 20 * n + 0 * t, 100.0 + 10 * n + 0 * t
    boxes = np.stack([x, y, x + 40, y + h], axis=2)
    motion = np.tile(np.array([[1, 0, 2.0], [0, 1, 0]]), (frames, 1, 1)) if camera else None
    return Trajectories(
        (480, 1280), 20.0, boxes, np.ones((frames, 3), np.bool_), np.arange(1, 4), np.full(3, -1), motion
    )


def logged(tracks: dict[int, list[int]]) -> list[AssignmentState]:
    """A log in which each track has boxes on its frames, at a place of its own that moves by 3 pixels a frame."""
    last = max(frame for frames in tracks.values() for frame in frames)
    states = []
    for frame in range(last + 1):
        ids = [track for track, frames in tracks.items() if frame in frames]
        boxes = np.array([[100 * track + 3 * frame, 50, 100 * track + 3 * frame + 40, 150] for track in ids])
        detections = Detections.of(boxes.reshape(-1, 4), [0.9] * len(ids))
        state: AssignmentState = toy_state(frame, size=(480, 1280))
        states.append(replace(state, detections=detections, assigned_track_ids=np.array(ids, np.int64)))
    return states


def test_gaps_of_logged_tracks_are_interpolated() -> None:
    frames = [*range(40), *range(50, 80)]
    trajectories = Trajectories.from_states(logged({1: frames, 2: list(range(10)), 3: list(range(80))}), fps=10.0)
    assert trajectories is not None
    assert trajectories.boxes.shape == (80, 2, 4)  # the second was there for a second only
    assert trajectories.present.all()
    np.testing.assert_allclose(trajectories.boxes[45, 0], [100 + 3 * 45, 50, 140 + 3 * 45, 150])
    assert trajectories.camera is None


def test_a_track_with_a_long_gap_becomes_two_trajectories() -> None:
    trajectories = Trajectories.from_states(logged({1: [*range(30), *range(70, 100)], 2: list(range(100))}), fps=10.0)
    assert trajectories is not None
    assert trajectories.present.sum(axis=0).tolist() == [30, 30, 100]
    assert Trajectories.from_states(logged({1: list(range(5))}), fps=10.0) is None
    assert Trajectories.from_states([], fps=10.0) is None


def test_a_scene_depends_on_its_number() -> None:
    videos = [walkers(), walkers(camera=True)]
    one, again, other = (resimulate(videos, number, seed=3) for number in (0, 0, 1))
    assert np.array_equal(one.xyxy, again.xyxy)
    assert one.name == again.name != other.name
    assert not np.array_equal(one.xyxy, other.xyxy)


def test_detections_are_where_the_truth_is() -> None:
    """Detections have the identity of the box that they were sampled from, also those of added objects."""
    crowded = 0
    for number in range(12):
        video = resimulate([walkers(), walkers(camera=True)], number, seed=1, detector=DETECTORS["perfect"])
        crowded += len(np.unique(video.truth.track_id)) > 3
        for frame, _, _, detections in video:
            truth = video.truth.at(frame)
            boxes = {int(track): box for track, box in zip(truth.track_id, truth.xyxy, strict=True)}
            for track, box in zip(detections.data[GT_COLUMN].tolist(), detections.xyxy, strict=True):
                assert box_iou(box[None], boxes[track][None])[0, 0] > 0.6
    assert crowded > 4


def test_added_objects_are_scaled_to_the_scene() -> None:
    small = walkers()
    small = replace(small, boxes=small.boxes * 0.2)
    heights = [
        float(np.ptp(video.truth.xyxy[:, [1, 3]], axis=1).max())
        for video in (resimulate([walkers(), small], number, seed=2) for number in range(20))
    ]
    assert min(heights) < 40  # a scene of the small video
    assert max(heights) < 240


def test_videos_without_objects_are_refused() -> None:
    empty = walkers()
    with pytest.raises(ArtifactError, match="there are no objects in these videos"):
        resimulate([replace(empty, present=np.zeros_like(empty.present))], 0)


numbers = st.floats(-0.2, 0.2, allow_nan=False)


@given(st.lists(numbers, min_size=6, max_size=6), st.floats(0, 1000), st.floats(0, 500))
def test_a_mirrored_motion_moves_mirrored_points(values: list[float], x: float, y: float) -> None:
    matrix = np.eye(2, 3) + np.array(values).reshape(2, 3) * [[1, 1, 100]]
    point, wide = np.array([x, y, 1.0]), 1000.0
    moved = matrix @ point
    mirrored = _mirrored(matrix[None], wide)[0] @ np.array([wide - x, y, 1.0])
    np.testing.assert_allclose(mirrored, [wide - moved[0], moved[1]], atol=1e-6)


def test_a_halved_frame_rate_has_the_motion_of_two_frames() -> None:
    for frames in (8, 9):
        half = _halved(walkers(frames=frames, camera=True))
        assert len(half) == (frames + 1) // 2
        assert half.fps == 10
        assert half.camera is not None
        assert half.camera[1:, 0, 2].tolist() == [4] * (len(half) - 1)


def test_settings_are_written_and_read_as_json() -> None:
    video = resimulate([walkers()], 0)
    assert type(video.settings).from_json(video.settings.to_json()) == video.settings
    simulated = simulate(random_settings(np.random.default_rng(0), "dance", frames=20), 0)
    assert simulated.settings.frames == 20
