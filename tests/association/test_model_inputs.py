"""What the model is given, and that logging and running give it the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.association.worlds import make_state
from trackweave.association.data_collection import SampleOrigin, make_sample
from trackweave.association.dataset import read_samples, state_of
from trackweave.association.model_inputs import (
    COSINE_UNKNOWN,
    DET_COLUMNS,
    HISTORY_COLUMNS,
    PAIR_COLUMNS,
    TRACK_COLUMNS,
    ModelInputs,
    concat,
    model_inputs,
    pair_iou,
    scene_of,
)
from trackweave.association.track_memory import HISTORY, SLOTS, TrackHistory
from trackweave.boxes import box_iou
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.mot.settings import preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import ByteTracker
from trackweave.pipelines.samples import crowds, simulate_samples
from trackweave.structures.assignment import AssignmentState

SIZE = (100, 200)


@given(seed=st.integers(0, 1000), tracks=st.integers(0, 6), detections=st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_any_frame_gives_finite_numbers(seed: int, tracks: int, detections: int) -> None:
    state = make_state(seed, tracks, detections)
    history = TrackHistory()
    for frame in range(max(0, seed - 3), seed):
        history.learn(make_state(frame, tracks, detections))
    found = model_inputs(scene_of(state, history, SIZE))
    assert found.history.shape == (tracks, HISTORY, HISTORY_COLUMNS)
    assert found.tracks.shape == (tracks, TRACK_COLUMNS)
    assert found.detections.shape == (detections, DET_COLUMNS)
    assert found.pair_features.shape == (tracks * detections, PAIR_COLUMNS)
    for part in (found.history, found.tracks, found.detections, found.pair_features):
        assert part.dtype == np.float32
        assert np.isfinite(part).all()
        assert np.abs(part).max(initial=0) < 50


def test_resolution_does_not_matter() -> None:
    plain = make_state(4, width=None)
    big = make_state(
        4,
        width=None,
        size=(200, 400),
        track_boxes=plain.track_boxes * 2,
        track_velocity=plain.track_velocity * 2,
        det={"xyxy": plain.detections.xyxy * 2},
    )
    one, other = (model_inputs(scene_of(state, TrackHistory(), state.size)) for state in (plain, big))
    np.testing.assert_allclose(one.pair_features, other.pair_features, atol=1e-4)
    np.testing.assert_allclose(one.tracks, other.tracks, atol=1e-4)
    np.testing.assert_allclose(one.detections, other.detections, atol=1e-4)


def test_only_pairs_inside_the_gates_are_asked_about() -> None:
    allowed = np.zeros((3, 4), np.bool_)
    allowed[0, 2] = allowed[2, 1] = True
    scene = scene_of(make_state(3, allowed=allowed), TrackHistory(), SIZE)
    assert scene.pairs.tolist() == [[0, 2], [2, 1]]


def test_of_older_observations_fewer_are_shown() -> None:
    history = TrackHistory()
    for frame in range(1, 60):
        history.learn(make_state(frame, width=None))
    scene = scene_of(make_state(60, width=None), history, SIZE)
    np.testing.assert_allclose(scene.ages[0], (np.array(SLOTS) + 1) / 10, rtol=1e-4)
    assert scene.counts.tolist() == [HISTORY] * 3
    young = TrackHistory()
    for frame in range(1, 12):
        young.learn(make_state(frame, width=None))
    shown = scene_of(make_state(12, width=None), young, SIZE).counts
    assert shown.tolist() == [sum(slot < young.counts[0] for slot in SLOTS)] * 3


def test_cosine_is_that_of_the_embeddings() -> None:
    state = make_state(3)
    scene = scene_of(state, TrackHistory(), SIZE)
    a, b = state.track_embeddings[1], state.detections.embedding[2]
    assert scene.cosine[1 * 4 + 2] == pytest.approx(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), abs=1e-5)
    assert (scene_of(make_state(3, width=None), TrackHistory(), SIZE).cosine == COSINE_UNKNOWN).all()


def test_frames_together_are_what_they_are_alone() -> None:
    states = [make_state(frame, tracks=frame % 4, detections=frame % 5) for frame in (3, 8, 11)]
    scenes = [scene_of(state, TrackHistory(), SIZE) for state in states]
    together = model_inputs(concat(scenes))
    alone = [model_inputs(scene) for scene in scenes]
    for name in ("history", "tracks", "detections", "pair_features"):
        np.testing.assert_allclose(
            getattr(together, name), np.concatenate([getattr(one, name) for one in alone]), atol=1e-6
        )
    assert together.pairs[-1].tolist() == [3 + 0 + 3 - 1, 3 + 3 + 1 - 1]


def test_overlap_is_that_of_boxes() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 10, (20, 2))
    xyxy = np.concatenate([low, low + rng.uniform(1, 10, (20, 2))], axis=1)
    middle = np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1).astype(np.float32)
    np.testing.assert_allclose(pair_iou(middle[:, None], middle[None]), box_iou(xyxy, xyxy), atol=1e-5)


class Asker:
    """Keeps what a scorer would be given."""

    def __init__(self) -> None:
        self.history = TrackHistory()
        self.inputs: dict[int, ModelInputs] = {}

    def observe(self, state: AssignmentState) -> None:
        if len(state.track_ids) and len(state.detections):
            assert state.size is not None
            self.inputs[int(state.frame)] = model_inputs(scene_of(state, self.history, state.size))
        self.history.learn(state)


def test_logged_samples_give_what_the_runtime_gives(tmp_path: Path) -> None:
    """One module, two ways: the tracker's states, and the samples that were logged of them, camera motion included."""
    simulate_samples(tmp_path, frames=80, seed=11, regime="dance", embed_dim=1)
    listing = read_samples([tmp_path])
    assert listing.count > 40
    ((_, samples),) = listing.runs.items()
    (sequence,) = crowds(80, seed=11, regime="dance")
    asker = Asker()
    tracker = ByteTracker(preset("adaptive"), frame_rate=sequence.fps, size=sequence.size, observer=asker)
    eyes = VisibilityEstimator("occlusion", min_occluder_score=0.1)
    for frame, time, camera, found in sequence:
        seen = replace(found, visibility=eyes.estimate(found, size=sequence.size).visibility)
        tracker.update(FrameContext(frame, time, camera), seen)
    history = TrackHistory()
    for number, (_, sample) in enumerate(samples):
        state = state_of(sample)
        assert state.size == sequence.size
        again = model_inputs(scene_of(state, history, sequence.size))
        history.learn(state)
        live = asker.inputs[sample.frame_idx]
        np.testing.assert_array_equal(again.pairs, live.pairs)
        if number > SLOTS[-1]:  # the first frame has no tracks and no sample: its boxes are worked out
            for name in ("history", "tracks", "detections", "pair_features"):
                np.testing.assert_allclose(getattr(again, name), getattr(live, name), atol=0.02)


def test_a_sample_keeps_time_and_camera() -> None:
    camera = np.array([[1.0, 0.1, 5], [-0.1, 1.0, 2]])
    sample, _ = make_sample(make_state(1, camera=camera), SampleOrigin("toy"))
    again = state_of(sample)
    assert again.time == pytest.approx(0.1)
    assert again.camera is not None
    np.testing.assert_allclose(again.camera, camera)
