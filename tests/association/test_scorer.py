"""The learned scorer in a running tracker."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.association.toy import toy_state
from trackweave.association.model_inputs import INPUT_VERSION, frame_batch
from trackweave.association.scorer import (
    HEADER,
    KEEP_ODDS,
    MAX_COST,
    MIN_NEW_TRACK_SCORE,
    SCALE,
    LearnedScorer,
    default_weights,
)
from trackweave.association.track_memory import TrackMemory
from trackweave.errors import ArtifactError, ArtifactVersionError, SettingError
from trackweave.mot.settings import preset
from trackweave.mot.tracker import Tracker
from trackweave.structures.detections import Detections


def changed(path: Path, **header: object) -> Path:
    """The package's model with another header."""
    model = onnx.load(str(default_weights()))
    (entry,) = (prop for prop in model.metadata_props if prop.key == HEADER)
    entry.value = json.dumps({**json.loads(entry.value), **header})
    onnx.save(model, str(path))
    return path


def test_the_package_model_was_trained_on_simulation_only() -> None:
    scorer = LearnedScorer()
    assert scorer.header.metadata["label_sources"] == ["simulated"]
    assert scorer.header.metadata["parameters"] <= 120_000
    assert scorer.header.metadata["fingerprint"].startswith("simulated-")
    assert default_weights().stat().st_size < 1_000_000


def test_allowed_pairs_have_costs_in_range_others_nan() -> None:
    allowed = np.ones((3, 4), np.bool_)
    allowed[1] = False
    state = toy_state(5, width=None, allowed=allowed)
    cost = LearnedScorer().cost(state)
    assert cost.shape == (3, 4)
    assert cost.dtype == np.float32
    assert np.isnan(cost[1]).all()
    assert ((cost[[0, 2]] >= 0) & (cost[[0, 2]] <= MAX_COST)).all()


def test_a_straight_path_keeps_its_identity() -> None:
    scorer = LearnedScorer()
    tracker = Tracker(preset("learned"), frame_rate=25, size=(400, 600), scorer=scorer)
    for frame in range(12):
        x = 100 + 8 * frame
        tracked = tracker.update(Detections.of([[x, 100, x + 40, 200], [400, 100, 440, 200]], [0.9, 0.9]), frame)
        assert tracked.track_id is not None
        assert tracked.track_id.tolist() == [1, 2]


def test_crossing_walkers_keep_their_identities() -> None:
    tracker = Tracker(preset("learned"), frame_rate=25, size=(400, 800), scorer=LearnedScorer())
    for frame in range(60):
        a, b = 100 + 8 * frame, 580 - 8 * frame
        tracked = tracker.update(Detections.of([[a, 100, a + 40, 200], [b, 104, b + 40, 204]], [0.9, 0.9]), frame)
    assert tracked.track_id is not None
    assert tracked.track_id.tolist() == [1, 2]


def test_after_reset_the_same_video_gives_the_same_tracks() -> None:
    scorer = LearnedScorer()
    tracker = Tracker(preset("learned"), frame_rate=25, size=(100, 200), scorer=scorer)
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 60, (30, 6, 2))
    boxes = np.concatenate([low, low + 30], axis=2)
    runs = []
    for _ in range(2):
        ids = [tracker.update(Detections.of(boxes[frame], np.full(6, 0.9)), frame).track_id for frame in range(30)]
        runs.append([None if track_ids is None else track_ids.tolist() for track_ids in ids])
        tracker.reset()
    assert runs[0] == runs[1]


def test_a_scorer_that_only_ranks_never_rejects_a_pair() -> None:
    """`scorer_decides` off: whatever the scorer says, a pair inside the gates stays better than no match."""

    class RejectsEverything:
        def cost(self, state: object) -> np.ndarray:
            return np.full(state.cost.shape, MAX_COST, np.float32)  # type: ignore[attr-defined]

        def observe(self, state: object) -> None:
            pass

        def reset(self) -> None:
            pass

    for decides, expected in ((False, [1]), (True, [2])):
        settings = preset("adaptive", scorer_decides=decides, scorer_weight=1.0)
        tracker = Tracker(settings, frame_rate=25, size=(100, 200), scorer=RejectsEverything())
        for frame in range(2):
            tracked = tracker.update(Detections.of([[10, 10, 40, 90]], [0.9]), frame)
        assert tracked.track_id is not None
        assert tracked.track_id.tolist() == expected


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"input_version": 99}, f"input_version 99, this trackweave has {INPUT_VERSION}"),
        ({"feature_version": 0}, "feature_version 0"),
        ({"version": 7}, "version 7"),
    ],
)
def test_a_model_of_another_version_is_refused(tmp_path: Path, header: dict[str, int], words: str) -> None:
    with pytest.raises(ArtifactVersionError, match=words):
        LearnedScorer(changed(tmp_path / "model.onnx", **header))


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a model of association"):
        LearnedScorer(changed(tmp_path / "model.onnx", format="something"))
    (tmp_path / "text.onnx").write_text("nothing")
    with pytest.raises(ArtifactError, match="not a model that can be run"):
        LearnedScorer(tmp_path / "text.onnx")
    with pytest.raises(ArtifactError, match="there is no model here"):
        LearnedScorer(tmp_path / "missing.onnx")


def test_other_embedding_widths_and_thresholds_are_refused(tmp_path: Path) -> None:
    model = changed(tmp_path / "model.onnx", embed_dim=4)
    with pytest.raises(SettingError, match="width 4, not 8"):
        LearnedScorer(model, embed_dim=8)
    with pytest.raises(SettingError, match="embeddings are 5 wide, the model was trained with 4"):
        LearnedScorer(model).cost(toy_state(3))
    with pytest.raises(SettingError, match="not between 0 and 1"):
        LearnedScorer(threshold=1.0)


def test_a_frame_of_unknown_size_is_refused() -> None:
    with pytest.raises(SettingError, match="size="):
        LearnedScorer().cost(toy_state(3, size=None))
    assert LearnedScorer(size=(100, 200)).cost(toy_state(3, size=None, width=None)).shape == (3, 4)


def test_running_needs_no_torch() -> None:
    code = (
        "import sys; from trackweave.association.scorer import LearnedScorer; LearnedScorer(); "
        "raise SystemExit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_frame_is_scored_fast_enough() -> None:
    """Far above the measured time, so that only a loss of an order of magnitude fails; see the speed benchmark."""
    state = toy_state(5, tracks=30, detections=30, width=None)
    scorer = LearnedScorer()
    scorer.cost(state)
    started = time.process_time()
    for _ in range(5):
        scorer.cost(state)
    assert (time.process_time() - started) / 5 < 0.1
    assert len(frame_batch(state, TrackMemory(), (100, 200)).pairs) == 900


def test_a_lost_track_needs_larger_odds_than_one_just_matched() -> None:
    """The same pair costs more when its track was lost, by `KEEP_ODDS` in units of the logit margin."""
    scorer, confident = LearnedScorer(), {"score": np.full(4, 0.9)}
    scorer.observe(toy_state(1, width=None))
    state = toy_state(2, width=None, track_gap=np.array([1, 1, 2]), det=dict(confident))
    cost = scorer.cost(state)
    scorer.reset()
    scorer.observe(toy_state(1, width=None))
    matched_cost = scorer.cost(toy_state(2, width=None, track_gap=np.array([1, 1, 1]), det=dict(confident)))
    step = np.log(KEEP_ODDS) / SCALE
    np.testing.assert_allclose(cost[:2], matched_cost[:2], atol=1e-6)
    inside = (cost[2] > 0) & (cost[2] < MAX_COST) & (matched_cost[2] > 0)
    assert inside.any()
    np.testing.assert_allclose(cost[2][inside], matched_cost[2][inside] + step, atol=1e-5)


def test_a_lost_track_needs_larger_odds_for_a_detection_of_low_score() -> None:
    """The threshold moves, on top of the model's own view of the score; not for a track that was just matched."""
    scorer = LearnedScorer()
    margins = np.array([[1.0, 1.0], [1.0, 1.0]], np.float32)

    class Fixed:
        def get_inputs(self) -> list[object]:
            return []

        def run(self, names: list[str], feed: dict[str, object]) -> list[NDArray[np.float32]]:
            return [margins.ravel()]

    scorer._session = Fixed()
    boxes = [[10, 10, 50, 90], [100, 10, 140, 90]]
    state = toy_state(
        0,
        tracks=2,
        detections=2,
        width=None,
        track_gap=np.array([1, 9]),
        allowed=np.ones((2, 2), np.bool_),
        det={"xyxy": boxes, "score": [MIN_NEW_TRACK_SCORE + 0.01, MIN_NEW_TRACK_SCORE - 0.01]},
    )
    cost = scorer.cost(state)
    step = np.log(KEEP_ODDS) / SCALE
    (high_matched, low_matched), (high_lost, low_lost) = cost.tolist()
    assert high_matched == low_matched
    np.testing.assert_allclose([high_lost - high_matched, low_lost - high_lost], [step, step], atol=1e-5)


def test_two_tracks_of_one_detection_do_not_start_a_third() -> None:
    """The margin of a pair does not depend on rivals, whereas plain probabilities halve with each rival."""
    rng = np.random.default_rng(1)
    tracker = Tracker(preset("learned"), frame_rate=25, size=(400, 600), scorer=LearnedScorer())
    one, two = np.array([100.0, 100, 140, 200]), np.array([104.0, 100, 144, 200])
    for frame in range(20):
        shift = np.array([2.0 * frame, 0] * 2) + rng.normal(0, 0.3, 4)
        tracker.update(Detections.of([one + shift, two + shift], [0.9, 0.9]), frame)
    for frame in range(20, 60):
        shift = np.array([2.0 * frame, 0] * 2) + rng.normal(0, 0.3, 4)
        tracker.update(Detections.of([one + shift], [0.9]), frame)
    assert tracker.summary.tracks <= 2


def test_a_deciding_scorer_assigns_high_and_low_scores_in_one_round() -> None:
    """It prefers the low score; in two rounds the high one would have been given the track before."""

    class PrefersTheSecond:
        def cost(self, state: object) -> np.ndarray:
            return np.tile(np.array([0.5, 0.1], np.float32), (len(state.track_ids), 1))  # type: ignore[attr-defined]

        def observe(self, state: object) -> None:
            pass

        def reset(self) -> None:
            pass

    tracker = Tracker(preset("learned"), frame_rate=25, size=(400, 600), scorer=PrefersTheSecond())
    tracker.update(Detections.of([[100, 100, 140, 200]], [0.9]), 0)
    tracked = tracker.update(Detections.of([[102, 100, 142, 200], [98, 100, 138, 200]], [0.9, 0.3]), 1)
    assert tracked.track_id is not None
    assert tracked.index is not None
    assert dict(zip(tracked.track_id.tolist(), tracked.index.tolist(), strict=True))[1] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_with_damaged_weights_is_named(tmp_path: Path, value: float) -> None:
    model = onnx.load(str(default_weights()))
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.raw_data = np.full(tuple(tensor.dims), value, np.float32).tobytes()
    onnx.save(model, str(tmp_path / "nan.onnx"))
    with pytest.raises(
        ArtifactError, match=r"nan\.onnx: the model does not give a finite number for each pair of frame 5"
    ):
        LearnedScorer(tmp_path / "nan.onnx").cost(toy_state(5, width=None))


def test_a_model_that_fails_is_named(tmp_path: Path) -> None:
    model = onnx.load(str(default_weights()))
    for entry in model.graph.input:
        entry.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, str(tmp_path / "one.onnx"))
    with pytest.raises(ArtifactError, match=r"one\.onnx: the model fails on frame 5: "):
        LearnedScorer(tmp_path / "one.onnx").cost(toy_state(5, width=None))
