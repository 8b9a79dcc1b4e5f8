"""The model's inputs, and that logged samples give the same ones as a running tracker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.association.toy import toy_state
from trackweave.association.data_collection import SampleOrigin, make_sample
from trackweave.association.logged_samples import assignment_state, read_samples
from trackweave.association.model_inputs import (
    COSINE_UNKNOWN,
    FrameBatch,
    ModelColumns,
    ModelInputs,
    frame_batch,
    model_inputs,
    pair_iou,
)
from trackweave.association.track_memory import HISTORY_LENGTH, SLOTS, TrackMemory
from trackweave.boxes import box_iou
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.mot.settings import preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.pipelines.samples import simulate_samples, simulated_sequences
from trackweave.pipelines.settings import SimulateSettings
from trackweave.structures.assignment import AssignmentState

SIZE = (100, 200)


@given(seed=st.integers(0, 1000), tracks=st.integers(0, 6), detections=st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_inputs_are_finite_and_of_the_named_columns(seed: int, tracks: int, detections: int) -> None:
    state = toy_state(seed, tracks, detections)
    memory = TrackMemory()
    for frame in range(max(0, seed - 3), seed):
        memory.update(toy_state(frame, tracks, detections))
    inputs = model_inputs(frame_batch(state, memory, SIZE))
    assert inputs.history.shape == (tracks, HISTORY_LENGTH, len(ModelColumns.HISTORY))
    assert inputs.tracks.shape == (tracks, len(ModelColumns.TRACKS))
    assert inputs.detections.shape == (detections, len(ModelColumns.DETECTIONS))
    assert inputs.pair_features.shape == (tracks * detections, len(ModelColumns.PAIRS))
    for part in (inputs.history, inputs.tracks, inputs.detections, inputs.pair_features):
        assert part.dtype == np.float32
        assert np.isfinite(part).all()
        assert np.abs(part).max(initial=0) < 50


def test_resolution_does_not_matter() -> None:
    plain = toy_state(4, width=None)
    big = toy_state(
        4,
        width=None,
        size=(200, 400),
        track_boxes=plain.track_boxes * 2,
        track_velocity=plain.track_velocity * 2,
        det={"xyxy": plain.detections.xyxy * 2},
    )
    one, other = (model_inputs(frame_batch(state, TrackMemory(), state.size)) for state in (plain, big))
    np.testing.assert_allclose(one.pair_features, other.pair_features, atol=1e-4)
    np.testing.assert_allclose(one.tracks, other.tracks, atol=1e-4)
    np.testing.assert_allclose(one.detections, other.detections, atol=1e-4)


def test_only_allowed_pairs_are_in_a_batch() -> None:
    allowed = np.zeros((3, 4), np.bool_)
    allowed[0, 2] = allowed[2, 1] = True
    batch = frame_batch(toy_state(3, allowed=allowed), TrackMemory(), SIZE)
    assert batch.pairs.tolist() == [[0, 2], [2, 1]]


def test_older_observations_are_sampled_more_sparsely() -> None:
    memory = TrackMemory()
    for frame in range(1, 60):
        memory.update(toy_state(frame, width=None))
    batch = frame_batch(toy_state(60, width=None), memory, SIZE)
    np.testing.assert_allclose(batch.ages[0], (np.array(SLOTS) + 1) / 10, rtol=1e-4)
    assert batch.counts.tolist() == [HISTORY_LENGTH] * 3
    young = TrackMemory()
    for frame in range(1, 12):
        young.update(toy_state(frame, width=None))
    counts = frame_batch(toy_state(12, width=None), young, SIZE).counts
    assert counts.tolist() == [sum(slot < young.counts[0] for slot in SLOTS)] * 3


def test_cosine_is_that_of_the_embeddings() -> None:
    state = toy_state(3)
    batch = frame_batch(state, TrackMemory(), SIZE)
    a, b = state.track_embeddings[1], state.detections.embedding[2]
    assert batch.cosine[1 * 4 + 2] == pytest.approx(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), abs=1e-5)
    assert (frame_batch(toy_state(3, width=None), TrackMemory(), SIZE).cosine == COSINE_UNKNOWN).all()


def test_a_batch_has_the_inputs_of_its_frames() -> None:
    states = [toy_state(frame, tracks=frame % 4, detections=frame % 5) for frame in (3, 8, 11)]
    batches = [frame_batch(state, TrackMemory(), SIZE) for state in states]
    together = model_inputs(FrameBatch.concat(batches))
    alone = [model_inputs(batch) for batch in batches]
    for name in ("history", "tracks", "detections", "pair_features"):
        np.testing.assert_allclose(
            getattr(together, name), np.concatenate([getattr(one, name) for one in alone]), atol=1e-6
        )
    assert together.pairs[-1].tolist() == [3 + 0 + 3 - 1, 3 + 3 + 1 - 1]


def test_pair_iou_agrees_with_box_iou() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 10, (20, 2))
    xyxy = np.concatenate([low, low + rng.uniform(1, 10, (20, 2))], axis=1)
    middle = np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1).astype(np.float32)
    np.testing.assert_allclose(pair_iou(middle[:, None], middle[None]), box_iou(xyxy, xyxy), atol=1e-5)


class InputRecorder:
    """Computes the inputs that a scorer would compute."""

    def __init__(self) -> None:
        self.memory = TrackMemory()
        self.inputs: dict[int, ModelInputs] = {}

    def observe(self, state: AssignmentState) -> None:
        if len(state.track_ids) and len(state.detections):
            assert state.size is not None
            self.inputs[int(state.frame)] = model_inputs(frame_batch(state, self.memory, state.size))
        self.memory.update(state)


def test_logged_samples_give_the_inputs_of_the_running_tracker(tmp_path: Path) -> None:
    """From the tracker's states, and from the samples that were logged of them; camera motion included."""
    scenes = SimulateSettings(frames=80, seed=11, regime="dance")
    simulate_samples(scenes, tmp_path, embed_dim=1)
    listing = read_samples([tmp_path])
    assert listing.count > 40
    ((_, samples),) = listing.runs.items()
    (sequence,) = simulated_sequences(scenes)
    recorder = InputRecorder()
    tracker = Tracker(preset("adaptive"), frame_rate=sequence.fps, size=sequence.size, observer=recorder)
    visibility = VisibilityEstimator("occlusion", min_occluder_score=0.1)
    for frame, time, camera, detections in sequence:
        estimate = visibility.estimate(detections, size=sequence.size).visibility
        tracker.update(replace(detections, visibility=estimate), FrameContext(frame, time, camera))
    memory = TrackMemory()
    for number, (_, sample) in enumerate(samples):
        state = assignment_state(sample)
        assert state.size == sequence.size
        again = model_inputs(frame_batch(state, memory, sequence.size))
        memory.update(state)
        live = recorder.inputs[sample.frame_idx]
        np.testing.assert_array_equal(again.pairs, live.pairs)
        if number > SLOTS[-1]:  # the first frame has no sample: its boxes are extrapolated
            for name in ("history", "tracks", "detections", "pair_features"):
                np.testing.assert_allclose(getattr(again, name), getattr(live, name), atol=0.02)


def test_a_sample_keeps_time_and_camera() -> None:
    camera = np.array([[1.0, 0.1, 5], [-0.1, 1.0, 2]])
    sample, _ = make_sample(toy_state(1, camera=camera), SampleOrigin("toy"))
    again = assignment_state(sample)
    assert again.time == pytest.approx(0.1)
    assert again.camera is not None
    np.testing.assert_allclose(again.camera, camera)
