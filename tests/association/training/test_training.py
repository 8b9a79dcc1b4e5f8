"""Training at small size: it learns, repeats, resumes, stops, exports and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.association.learning import QUICK, sample_folder, store, trained
from tests.association.worlds import make_state
from trackweave.association.labels import UNKNOWN, UNMATCHED
from trackweave.association.model_inputs import INPUT_VERSION
from trackweave.association.models.associator import LOGIT_LIMIT, Associator, AssociatorShape
from trackweave.association.scorer import SCALE, LearnedScorer, default_weights
from trackweave.association.training.batches import augmented, make_batch, to_tensors, without
from trackweave.association.training.checkpoint import (
    Checkpoint,
    default_checkpoint,
    export,
    load_checkpoint,
    parity,
    save_checkpoint,
)
from trackweave.association.training.loop import HISTORY, LAST, NAN, split_by_sequence, train
from trackweave.association.training.metrics import association_loss
from trackweave.association.training.report import evaluate_checkpoint
from trackweave.association.training.settings import AugmentSettings, TrainSettings
from trackweave.errors import ArtifactError, ArtifactVersionError, SettingError, TrackweaveError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model.state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


# --- the model --------------------------------------------------------------------------------------------------------


def test_the_default_model_is_small() -> None:
    assert sum(part.numel() for part in Associator().parameters()) <= 120_000


def test_a_batch_is_judged_like_its_frames_alone() -> None:
    model = Associator(AssociatorShape(width=16)).eval()
    frames = np.array([3, 40, 77, 90])
    batch, _ = make_batch(store(), frames, CPU)
    with torch.no_grad():
        together = model(*batch.inputs).probability
        alone = [model(*make_batch(store(), np.array([frame]), CPU)[0].inputs[:5]).probability for frame in frames]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_probabilities_of_a_row_and_a_column_sum_to_one() -> None:
    batch, scene = make_batch(store(), np.array([5, 60]), CPU)
    with torch.no_grad():
        judged = Associator(AssociatorShape(width=16))(*batch.inputs)
    row = np.bincount(scene.pairs[:, 0], judged.by_track.exp().numpy(), len(scene.counts))
    column = np.bincount(scene.pairs[:, 1], judged.by_det.exp().numpy(), len(scene.det_scores))
    np.testing.assert_allclose(row + judged.track_alone.exp().numpy(), 1, atol=1e-5)
    np.testing.assert_allclose(column + judged.det_alone.exp().numpy(), 1, atol=1e-5)


def test_a_gain_is_what_a_match_is_likelier_than_none() -> None:
    """The mean of both views' odds; rivals do not lower it."""
    batch, scene = make_batch(store(), np.array([5, 60]), CPU)
    with torch.no_grad():
        judged = Associator(AssociatorShape(width=16))(*batch.inputs)
    t, d = scene.pairs.T
    odds = judged.by_track - judged.track_alone[t] + judged.by_det - judged.det_alone[d]
    torch.testing.assert_close(judged.gain, odds / 2, atol=1e-4, rtol=1e-4)
    assert SCALE == 2 * LOGIT_LIMIT  # a gain is the difference of two limited numbers


@pytest.mark.parametrize("part", ["use_history", "use_pairs", "use_unmatched"])
def test_every_part_can_be_left_out(part: str) -> None:
    model = Associator(AssociatorShape(width=16, **{part: False}))
    batch, _ = make_batch(store(), np.arange(4), CPU)
    loss = association_loss(model(*batch.inputs), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_without_any_augmentation_nothing_changes() -> None:
    scene, targets = store().take(np.arange(20))
    changed, right = augmented(scene, targets, AugmentSettings.none(), np.random.default_rng(0))
    for name, array in scene.arrays().items():
        np.testing.assert_allclose(array, getattr(changed, name), rtol=1e-6)
    np.testing.assert_array_equal(right.tracks, targets.tracks)


@pytest.mark.parametrize("name", list(AugmentSettings.model_fields))
def test_each_augmentation_changes_something_and_keeps_the_rest_in_order(name: str) -> None:
    scene, targets = store().take(np.arange(60))
    scene.cosine[:] = 0.5
    scene.visibility[:] = 0.7
    how = AugmentSettings(**{**AugmentSettings.none().model_dump(), name: 0.3 if name == "jitter" else 1.0})
    before = {key: array.copy() for key, array in scene.arrays().items()}
    changed, right = augmented(scene, targets, how, np.random.default_rng(0))
    assert any(not np.array_equal(before[key], array) for key, array in changed.arrays().items())
    assert all(np.array_equal(before[key], array) for key, array in scene.arrays().items())  # the store is untouched
    batch = to_tensors(changed, right, np.ones(60, np.float32), CPU)
    assert all(torch.isfinite(part).all() for part in batch.inputs[:3])
    matched = np.flatnonzero(right.tracks >= 0)
    np.testing.assert_array_equal(changed.pairs[right.tracks[matched], 0], matched)


def test_a_mirrored_frame_is_mirrored_back() -> None:
    scene, targets = store().take(np.arange(10))
    how = AugmentSettings(**{**AugmentSettings.none().model_dump(), "mirror": 1.0})
    once, _ = augmented(scene, targets, how, np.random.default_rng(0))
    twice, _ = augmented(once, targets, how, np.random.default_rng(0))
    assert not np.allclose(once.det_boxes, scene.det_boxes)
    np.testing.assert_allclose(twice.boxes, scene.boxes, atol=1e-3)
    np.testing.assert_allclose(twice.velocity, scene.velocity)


def test_a_track_whose_detection_is_taken_away_has_no_partner() -> None:
    scene, targets = store().take(np.arange(30))
    gone = np.zeros(len(scene.det_scores), np.bool_)
    partner = scene.pairs[targets.tracks, 1]  # of tracks that have one
    not_last = scene.det_frame[np.minimum(partner + 1, len(gone) - 1)] == scene.det_frame[partner]
    victim = int(np.flatnonzero((targets.tracks >= 0) & not_last & (partner + 1 < len(gone)))[0])
    gone[partner[victim]] = True
    changed, right = without(scene, targets, gone)
    assert right.tracks[victim] == UNMATCHED
    assert len(changed.det_scores) == len(gone) - 1
    others = np.flatnonzero((targets.tracks >= 0) & (np.arange(len(targets.tracks)) != victim))
    found = changed.det_boxes[changed.pairs[right.tracks[others], 1]]
    np.testing.assert_array_equal(found, scene.det_boxes[partner[others]])


# --- training ---------------------------------------------------------------------------------------------------------


def test_training_learns_and_leaves_what_it_promises() -> None:
    found = trained()
    assert found.epochs[-1]["loss"] < 0.8 * found.epochs[0]["loss"]
    assert found.measures.precision > 0.8
    assert found.measures.recall > 0.8
    page = (found.directory / "report.html").read_text(encoding="utf-8")
    for words in ("Loss by epoch", "Calibration", "Confusion by length of the gap", "<svg", "fingerprint"):
        assert words in page
    assert json.loads((found.directory / HISTORY).read_text())[-1]["epoch"] == QUICK.epochs
    facts = load_checkpoint(found.best).facts
    assert facts["fingerprint"] == store().facts["fingerprint"]
    assert facts["label_sources"] == ["simulated"]
    assert set(facts["training_sequences"]).isdisjoint(facts["validation_sequences"])
    total = sum(row["right"] + row["wrong"] + row["missed"] + row["rightly_unmatched"] for row in found.measures.gaps)
    assert total > 100


def test_the_model_is_the_mean_of_the_weights(tmp_path: Path) -> None:
    """Without, it is the newest ones; with, it lies between those and the older ones."""
    once = QUICK.model_copy(update={"epochs": 1, "average": 0.0})
    plain = train(store(), tmp_path / "newest", once)
    mean = train(store(), tmp_path / "mean", once.model_copy(update={"average": 0.9}))
    newest = load_checkpoint(mean.directory / LAST).progress
    assert newest is not None
    assert same(weights(plain.best), newest["newest"])  # the steps are the same
    assert not same(weights(mean.best), newest["newest"])


def test_the_best_checkpoint_is_a_copy_of_its_own() -> None:
    found = trained()
    best = load_checkpoint(found.best)
    losses = [row["val_loss"] for row in found.epochs]
    assert best.facts["epoch"] == 1 + int(np.argmin(losses))
    assert not found.best.is_symlink()
    assert best.progress is None


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(epoch: int, row: dict[str, object]) -> None:
        if epoch == 1:
            raise Stop

    with pytest.raises(Stop):
        train(store(), tmp_path, QUICK, told=stop)
    with pytest.raises(SettingError, match="--resume"):
        train(store(), tmp_path, QUICK)
    found = train(store(), tmp_path, QUICK, resume=True)
    assert same(weights(found.best), weights(trained().best))
    assert [row["loss"] for row in found.epochs] == [row["loss"] for row in trained().epochs]


def test_resuming_refuses_other_settings_and_other_data(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no training to resume"):
        train(store(), tmp_path, QUICK, resume=True)
    folder = tmp_path / "t"
    shutil.copytree(trained().directory, folder)
    with pytest.raises(SettingError, match=r"other settings \(lr\)"):
        train(store(), folder, QUICK.model_copy(update={"lr": 0.1}), resume=True)
    found = load_checkpoint(folder / LAST)
    found.facts["fingerprint"] = "another"
    save_checkpoint(folder / LAST, found)
    with pytest.raises(SettingError, match="other samples"):
        train(store(), folder, QUICK, resume=True)


def test_training_stops_early_and_seeds_differ(tmp_path: Path) -> None:
    how = TrainSettings(epochs=30, batch_size=16, width=16, lr=1e-9, patience=1, seed=4, warmup=0)
    found = train(store(), tmp_path, how)
    assert len(found.epochs) < 30
    assert not same(weights(found.best), weights(trained().best))


def test_a_loss_that_is_no_number_stops_and_names_the_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(judged: object, batch: object) -> torch.Tensor:
        return torch.tensor(float("nan"), requires_grad=True)

    monkeypatch.setattr("trackweave.association.training.loop.association_loss", broken)
    with pytest.raises(TrackweaveError, match=r"not a number.*nan_batch\.json"):
        train(store(), tmp_path, QUICK)
    named = json.loads((tmp_path / NAN).read_text())
    assert named[0]["sequence"] in store().sequences
    assert isinstance(named[0]["frame_idx"], int)


def test_split_is_by_video() -> None:
    training, validation = split_by_sequence(store(), 0.25, 0)
    assert len(validation) == 1
    assert set(training) | set(validation) == set(store().sequences)


def test_cuda_that_is_not_there_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SettingError, match="no CUDA device"):
        train(store(), tmp_path, QUICK.model_copy(update={"device": "cuda"}))


# --- checkpoints, export, evaluation ----------------------------------------------------------------------------------


def test_a_checkpoint_of_other_features_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(trained().best, tmp_path / "best.pt")
    monkeypatch.setattr("trackweave.association.training.checkpoint.INPUT_VERSION", 99)
    with pytest.raises(ArtifactVersionError, match=f"input_version {INPUT_VERSION}, this trackweave has 99"):
        load_checkpoint(tmp_path / "best.pt")


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ArtifactError, match="not a model of association"):
        load_checkpoint(tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("nothing")
    with pytest.raises(ArtifactError, match=r"not a readable checkpoint \(damaged.*best.pt$"):
        load_checkpoint(tmp_path / "text.pt")
    with pytest.raises(ArtifactError, match="no checkpoint here"):
        load_checkpoint(tmp_path / "missing.pt")
    content = torch.load(trained().best, weights_only=True)
    content["shape"]["width"] = 32
    torch.save(content, tmp_path / "wrong.pt")
    with pytest.raises(ArtifactError, match="weights do not fit"):
        load_checkpoint(tmp_path / "wrong.pt")


def test_the_exported_model_answers_like_the_checkpoint(tmp_path: Path) -> None:
    model = export(trained().best, tmp_path / "model.onnx")
    assert parity(load_checkpoint(trained().best), model) < 1e-5
    scorer = LearnedScorer(model)
    assert scorer.threshold == trained().measures.threshold
    assert scorer.header.facts["fingerprint"] == store().facts["fingerprint"]


def test_the_package_has_its_model_twice_alike() -> None:
    """As an exported model for the tracker, and as a checkpoint for trainings that begin with it."""
    assert parity(load_checkpoint(default_checkpoint()), default_weights()) < 1e-4


@pytest.mark.parametrize("part", ["use_history", "use_pairs", "use_unmatched"])
def test_a_model_without_a_part_is_exported_and_runs(tmp_path: Path, part: str) -> None:
    checkpoint = Checkpoint(Associator(AssociatorShape(width=16, **{part: False})).eval(), 0.5)
    scorer = LearnedScorer(export(checkpoint, tmp_path / "model.onnx"))
    assert np.isfinite(scorer.cost(make_state(3, width=None))).all()


def test_an_export_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trackweave.association.training.checkpoint.parity", lambda *given: 0.5)
    with pytest.raises(ArtifactError, match="differs from the checkpoint"):
        export(trained().best, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_evaluation_measures_a_checkpoint(tmp_path: Path) -> None:
    found = evaluate_checkpoint(trained().best, [sample_folder()], report=tmp_path / "page.html")
    assert found.precision > 0.8
    assert "since last match" in found.text()
    assert (tmp_path / "page.html").exists()
    with pytest.raises(SettingError, match="none of truth"):
        evaluate_checkpoint(trained().best, [sample_folder()], labels="nonsense")


def test_unknown_ones_do_not_count() -> None:
    batch, _ = make_batch(store(), np.arange(6), CPU)
    model = Associator(AssociatorShape(width=16)).eval()
    judged = model(*batch.inputs)
    silent = batch._replace(
        tracks=torch.full_like(batch.tracks, UNKNOWN), detections=torch.full_like(batch.detections, UNKNOWN)
    )
    assert float(association_loss(judged, silent).detach()) == 0.0
    assert isinstance(Checkpoint(model, 0.5).header()["shape"], dict)
