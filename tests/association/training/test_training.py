"""Training at small size: it learns, repeats, resumes, stops, exports and refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.association.small_training import QUICK, sample_folder, trained_model, training_set
from tests.association.toy import toy_state
from trackweave.association.labels import UNKNOWN, UNMATCHED
from trackweave.association.model_inputs import INPUT_VERSION
from trackweave.association.models.associator import LOGIT_LIMIT, Associator, AssociatorShape
from trackweave.association.scorer import SCALE, LearnedScorer, default_weights
from trackweave.association.settings import AugmentSettings, TrainSettings
from trackweave.association.training.batches import augmented, drop_detections, make_batch, to_tensors
from trackweave.association.training.checkpoint import (
    ModelCheckpoint,
    default_checkpoint,
    export_difference,
    export_onnx,
    load_checkpoint,
    save_checkpoint,
)
from trackweave.association.training.loop import HISTORY, LAST, NAN_BATCH, split_by_sequence, train
from trackweave.association.training.metrics import EpochRecord, association_loss
from trackweave.association.training.report import evaluate_checkpoint
from trackweave.association.training.train_assoc import TrainingOptions, run_training
from trackweave.errors import ArtifactError, ArtifactVersionError, InputError, SettingError, TrackweaveError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model.state_dict()


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


# --- the model --------------------------------------------------------------------------------------------------------


def test_the_default_model_is_small() -> None:
    assert sum(part.numel() for part in Associator().parameters()) <= 120_000


def test_a_batch_has_the_outputs_of_its_frames() -> None:
    model = Associator(AssociatorShape(width=16)).eval()
    frames = np.array([3, 40, 77, 90])
    batch, _ = make_batch(training_set(), frames, CPU)
    with torch.no_grad():
        together = model(*batch.inputs).probability
        alone = [
            model(*make_batch(training_set(), np.array([frame]), CPU)[0].inputs[:5]).probability for frame in frames
        ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_probabilities_of_a_row_and_a_column_sum_to_one() -> None:
    tensors, batch = make_batch(training_set(), np.array([5, 60]), CPU)
    with torch.no_grad():
        output = Associator(AssociatorShape(width=16))(*tensors.inputs)
    row = np.bincount(batch.pairs[:, 0], output.track_log_probabilities.exp().numpy(), len(batch.counts))
    column = np.bincount(batch.pairs[:, 1], output.det_log_probabilities.exp().numpy(), len(batch.det_scores))
    np.testing.assert_allclose(row + output.track_unmatched.exp().numpy(), 1, atol=1e-5)
    np.testing.assert_allclose(column + output.det_unmatched.exp().numpy(), 1, atol=1e-5)


def test_the_logit_margin_is_the_log_odds_of_a_match_against_none() -> None:
    """The mean of both views; rivals do not lower it."""
    tensors, batch = make_batch(training_set(), np.array([5, 60]), CPU)
    with torch.no_grad():
        output = Associator(AssociatorShape(width=16))(*tensors.inputs)
    t, d = batch.pairs.T
    odds = (
        output.track_log_probabilities
        - output.track_unmatched[t]
        + output.det_log_probabilities
        - output.det_unmatched[d]
    )
    torch.testing.assert_close(output.logit_margin, odds / 2, atol=1e-4, rtol=1e-4)
    assert SCALE == 2 * LOGIT_LIMIT  # a margin is the difference of two limited logits


@pytest.mark.parametrize("part", ["use_history", "use_pairs", "use_unmatched"])
def test_every_part_of_the_model_is_optional(part: str) -> None:
    model = Associator(AssociatorShape(width=16, **{part: False}))
    batch, _ = make_batch(training_set(), np.arange(4), CPU)
    loss = association_loss(model(*batch.inputs), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_no_augmentation_changes_nothing() -> None:
    batch, targets = training_set().take(np.arange(20))
    changed, labels = augmented(batch, targets, AugmentSettings.none(), np.random.default_rng(0))
    for name, array in batch.arrays().items():
        np.testing.assert_allclose(array, getattr(changed, name), rtol=1e-6)
    np.testing.assert_array_equal(labels.tracks, targets.tracks)


@pytest.mark.parametrize("name", list(AugmentSettings.model_fields))
def test_each_augmentation_keeps_a_consistent_batch(name: str) -> None:
    batch, targets = training_set().take(np.arange(60))
    batch.cosine[:] = 0.5
    batch.visibility[:] = 0.7
    settings = AugmentSettings(**{**AugmentSettings.none().model_dump(), name: 0.3 if name == "jitter" else 1.0})
    before = {key: array.copy() for key, array in batch.arrays().items()}
    changed, labels = augmented(batch, targets, settings, np.random.default_rng(0))
    assert any(not np.array_equal(before[key], array) for key, array in changed.arrays().items())
    assert all(np.array_equal(before[key], array) for key, array in batch.arrays().items())
    tensors = to_tensors(changed, labels, np.ones(60, np.float32), CPU)
    assert all(torch.isfinite(part).all() for part in tensors.inputs[:3])
    matched = np.flatnonzero(labels.tracks >= 0)
    np.testing.assert_array_equal(changed.pairs[labels.tracks[matched], 0], matched)


def test_mirroring_twice_restores_a_frame() -> None:
    batch, targets = training_set().take(np.arange(10))
    settings = AugmentSettings(**{**AugmentSettings.none().model_dump(), "mirror": 1.0})
    once, _ = augmented(batch, targets, settings, np.random.default_rng(0))
    twice, _ = augmented(once, targets, settings, np.random.default_rng(0))
    assert not np.allclose(once.det_boxes, batch.det_boxes)
    np.testing.assert_allclose(twice.boxes, batch.boxes, atol=1e-3)
    np.testing.assert_allclose(twice.velocity, batch.velocity)


def test_a_track_whose_detection_is_dropped_is_unmatched() -> None:
    batch, targets = training_set().take(np.arange(30))
    dropped = np.zeros(len(batch.det_scores), np.bool_)
    partner = batch.pairs[targets.tracks, 1]  # of tracks that have one
    not_last = batch.det_frame[np.minimum(partner + 1, len(dropped) - 1)] == batch.det_frame[partner]
    victim = int(np.flatnonzero((targets.tracks >= 0) & not_last & (partner + 1 < len(dropped)))[0])
    dropped[partner[victim]] = True
    changed, labels = drop_detections(batch, targets, dropped)
    assert labels.tracks[victim] == UNMATCHED
    assert len(changed.det_scores) == len(dropped) - 1
    others = np.flatnonzero((targets.tracks >= 0) & (np.arange(len(targets.tracks)) != victim))
    boxes = changed.det_boxes[changed.pairs[labels.tracks[others], 1]]
    np.testing.assert_array_equal(boxes, batch.det_boxes[partner[others]])


# --- training ---------------------------------------------------------------------------------------------------------


def test_training_learns_and_leaves_its_files() -> None:
    result = trained_model()
    assert result.epochs[-1]["loss"] < 0.8 * result.epochs[0]["loss"]
    assert result.metrics.precision > 0.8
    assert result.metrics.recall > 0.8
    page = (result.directory / "report.html").read_text(encoding="utf-8")
    for words in ("Loss by epoch", "Calibration", "Confusion by length of the gap", "<svg", "fingerprint"):
        assert words in page
    assert json.loads((result.directory / HISTORY).read_text())[-1]["epoch"] == QUICK.epochs
    metadata = load_checkpoint(result.best).metadata
    assert metadata["fingerprint"] == training_set().metadata["fingerprint"]
    assert metadata["label_sources"] == ["simulated"]
    assert set(metadata["training_sequences"]).isdisjoint(metadata["validation_sequences"])
    total = sum(row["right"] + row["wrong"] + row["missed"] + row["rightly_unmatched"] for row in result.metrics.gaps)
    assert total > 100


def test_the_model_is_the_mean_of_the_weights(tmp_path: Path) -> None:
    """Without, it is the newest ones; with, it lies between those and the older ones."""
    once = QUICK.model_copy(update={"epochs": 1, "average": 0.0})
    plain = train(training_set(), tmp_path / "newest", once)
    mean = train(training_set(), tmp_path / "mean", once.model_copy(update={"average": 0.9}))
    newest = load_checkpoint(mean.directory / LAST).progress
    assert newest is not None
    assert same(weights(plain.best), newest["newest"])  # the steps are the same
    assert not same(weights(mean.best), newest["newest"])


def test_the_best_checkpoint_is_a_file_of_its_own() -> None:
    result = trained_model()
    best = load_checkpoint(result.best)
    losses = [row["val_loss"] for row in result.epochs]
    assert best.metadata["epoch"] == 1 + int(np.argmin(losses))
    assert not result.best.is_symlink()
    assert best.progress is None


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(epoch: int, record: EpochRecord) -> None:
        if epoch == 1:
            raise Stop

    with pytest.raises(Stop):
        train(training_set(), tmp_path, QUICK, on_epoch_end=stop)
    with pytest.raises(SettingError, match="resume=True"):
        train(training_set(), tmp_path, QUICK)
    result = train(training_set(), tmp_path, QUICK, resume=True)
    assert same(weights(result.best), weights(trained_model().best))
    assert [row["loss"] for row in result.epochs] == [row["loss"] for row in trained_model().epochs]
    (tmp_path / "notes.txt").touch()
    with pytest.raises(Stop):
        train(training_set(), tmp_path, QUICK, overwrite=True, on_epoch_end=stop)
    assert len(json.loads((tmp_path / HISTORY).read_text())) == 1
    assert (tmp_path / "notes.txt").exists()


def test_the_history_is_whole_after_a_kill_behind_the_last_epoch(tmp_path: Path) -> None:
    """The last checkpoint was written, the history with its epoch was not."""
    folder = Path(shutil.copytree(trained_model().directory, tmp_path / "training"))
    whole = (folder / HISTORY).read_bytes()
    (folder / HISTORY).write_text(json.dumps(json.loads(whole)[:-1]))
    train(training_set(), folder, QUICK, resume=True)
    assert (folder / HISTORY).read_bytes() == whole


ODD_VALUES: tuple[object, ...] = ("x", -7, float("nan"), [], {}, [1])
ODD_GROUPS: tuple[object, ...] = ([], [{}], {}, None)
ODD_STATES: list[tuple[str, object]] = [
    *((key, None) for key in ("optimizer", "epoch", "step", "waited", "best_loss", "epochs")),
    *((key, value) for key in ("newest", "optimizer", "epoch", "step", "waited", "epochs") for value in ODD_VALUES),
    *(("best_loss", value) for value in ODD_VALUES if value != -7),
    *(("optimizer", {"state": {}, "param_groups": groups}) for groups in ODD_GROUPS),
]


@pytest.mark.parametrize(("key", "value"), ODD_STATES)
def test_a_training_with_one_odd_value_is_refused(tmp_path: Path, key: str, value: object) -> None:
    folder = Path(shutil.copytree(trained_model().directory, tmp_path / "training"))
    checkpoint = load_checkpoint(folder / LAST)
    progress: Any = dict(checkpoint.progress or {})
    progress[key] = value
    if value is None:
        del progress[key]
    save_checkpoint(folder / LAST, replace(checkpoint, progress=progress))
    with pytest.raises(ArtifactError, match=r"last\.pt: the training's state is damaged"):
        train(training_set(), folder, QUICK, resume=True)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    checkpoint = load_checkpoint(trained_model().best)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ArtifactError, match=r"x\.pt: cannot be written: .*is the disk full\?") as caught:
        save_checkpoint(tmp_path / "x.pt", checkpoint)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"file.t: cannot be written: Not a directory"):
        train(training_set(), tmp_path / "file" / "t", QUICK)


def test_a_second_training_in_a_folder_is_refused(tmp_path: Path) -> None:
    refused: list[str] = []

    def begin_another(epoch: int, record: object) -> None:
        if not refused:
            with pytest.raises(ArtifactError, match="is working in this folder") as caught:
                train(training_set(), tmp_path, QUICK, resume=True)
            refused.append(str(caught.value))

    train(training_set(), tmp_path, QUICK, on_epoch_end=begin_another)
    assert refused
    assert not list(tmp_path.glob(".*"))


def test_outputs_do_not_go_over_the_checkpoint_that_is_read(tmp_path: Path) -> None:
    best = Path(shutil.copy(trained_model().best, tmp_path / "best.pt"))
    content = best.read_bytes()
    with pytest.raises(InputError, match=r"best\.pt: is an input"):
        export_onnx(best, best)
    with pytest.raises(InputError, match=r"best\.pt: is an input"):
        run_training([], tmp_path, TrainingOptions(start=best))
    assert best.read_bytes() == content


def test_an_interrupted_training_says_what_is_kept(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        train(training_set(), tmp_path / "early", QUICK, on_step=interrupt)
    assert caught.value.__notes__ == [f"{tmp_path / 'early'}: no epoch was finished"]
    with pytest.raises(KeyboardInterrupt) as caught:
        train(training_set(), tmp_path / "late", QUICK, on_epoch_end=interrupt)
    assert caught.value.__notes__ == [f"{tmp_path / 'late'}: the same call with resume=True goes on"]


def test_resuming_refuses_other_settings_and_other_data(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no training to resume"):
        train(training_set(), tmp_path, QUICK, resume=True)
    folder = tmp_path / "t"
    shutil.copytree(trained_model().directory, folder)
    with pytest.raises(SettingError, match=r"other settings \(lr\)"):
        train(training_set(), folder, QUICK.model_copy(update={"lr": 0.1}), resume=True)
    checkpoint = load_checkpoint(folder / LAST)
    checkpoint.metadata["fingerprint"] = "another"
    save_checkpoint(folder / LAST, checkpoint)
    with pytest.raises(SettingError, match="other samples"):
        train(training_set(), folder, QUICK, resume=True)


def test_training_stops_early_and_seeds_differ(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=30, batch_size=16, width=16, lr=1e-9, patience=1, seed=4, warmup=0)
    result = train(training_set(), tmp_path, settings)
    assert len(result.epochs) < 30
    assert not same(weights(result.best), weights(trained_model().best))


def test_a_training_that_makes_its_start_worse_ends_with_the_start(tmp_path: Path) -> None:
    start = load_checkpoint(trained_model().best).model
    ruined = QUICK.model_copy(update={"epochs": 1, "lr": 10.0, "average": 0.0, "warmup": 1})
    result = train(training_set(), tmp_path / "ruined", ruined, start_from=start)
    assert result.epochs[0]["val_loss"] > result.metrics.loss
    assert same(weights(result.best), start.state_dict())
    better = train(training_set(), tmp_path / "better", QUICK, start_from=start)
    assert not same(weights(better.best), start.state_dict())


def test_a_nan_loss_stops_and_names_the_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(output: object, batch: object) -> torch.Tensor:
        return torch.tensor(float("nan"), requires_grad=True)

    monkeypatch.setattr("trackweave.association.training.loop.association_loss", broken)
    with pytest.raises(TrackweaveError, match=r"not a number.*nan_batch\.json"):
        train(training_set(), tmp_path, QUICK)
    named = json.loads((tmp_path / NAN_BATCH).read_text())
    assert named[0]["sequence"] in training_set().sequences
    assert isinstance(named[0]["frame_idx"], int)


def test_split_is_by_video() -> None:
    training, validation = split_by_sequence(training_set(), 0.25, 0)
    assert len(validation) == 1
    assert set(training) | set(validation) == set(training_set().sequences)


def test_missing_cuda_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SettingError, match="no CUDA device"):
        train(training_set(), tmp_path, QUICK.model_copy(update={"device": "cuda"}))


# --- checkpoints, export, evaluation ----------------------------------------------------------------------------------


def test_a_checkpoint_of_other_features_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(trained_model().best, tmp_path / "best.pt")
    monkeypatch.setattr("trackweave.association.training.checkpoint.INPUT_VERSION", 99)
    with pytest.raises(ArtifactVersionError, match=f"input_version {INPUT_VERSION}, this trackweave has 99"):
        load_checkpoint(tmp_path / "best.pt")


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ArtifactError, match="not a model of association"):
        load_checkpoint(tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("nothing")
    with pytest.raises(ArtifactError, match=r"not a readable checkpoint \(damaged.*best.pt$"):
        load_checkpoint(tmp_path / "text.pt")
    with pytest.raises(ArtifactError, match="no checkpoint here"):
        load_checkpoint(tmp_path / "missing.pt")
    content = torch.load(trained_model().best, weights_only=True)
    content["shape"]["width"] = 32
    torch.save(content, tmp_path / "wrong.pt")
    with pytest.raises(ArtifactError, match="weights do not fit"):
        load_checkpoint(tmp_path / "wrong.pt")


def test_the_exported_model_answers_like_the_checkpoint(tmp_path: Path) -> None:
    model = export_onnx(trained_model().best, tmp_path / "model.onnx")
    assert export_difference(load_checkpoint(trained_model().best), model) < 1e-5
    scorer = LearnedScorer(model)
    assert scorer.threshold == trained_model().metrics.threshold
    assert scorer.header.metadata["fingerprint"] == training_set().metadata["fingerprint"]


def test_the_package_model_and_its_checkpoint_agree() -> None:
    """As an exported model for the tracker, and as a checkpoint for trainings that begin with it."""
    assert export_difference(load_checkpoint(default_checkpoint()), default_weights()) < 1e-4


@pytest.mark.parametrize("part", ["use_history", "use_pairs", "use_unmatched"])
def test_a_model_without_a_part_is_exported_and_runs(tmp_path: Path, part: str) -> None:
    checkpoint = ModelCheckpoint(Associator(AssociatorShape(width=16, **{part: False})).eval(), 0.5)
    scorer = LearnedScorer(export_onnx(checkpoint, tmp_path / "model.onnx"))
    assert np.isfinite(scorer.cost(toy_state(3, width=None))).all()


def test_a_differing_export_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trackweave.association.training.checkpoint.export_difference", lambda *given: 0.5)
    with pytest.raises(ArtifactError, match="differs from the checkpoint"):
        export_onnx(trained_model().best, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_evaluation_measures_a_checkpoint(tmp_path: Path) -> None:
    metrics = evaluate_checkpoint(trained_model().best, [sample_folder()], report=tmp_path / "page.html")
    assert metrics.precision > 0.8
    assert "since last match" in metrics.text()
    assert (tmp_path / "page.html").exists()
    with pytest.raises(SettingError, match="labels: Input should be 'truth'"):
        evaluate_checkpoint(trained_model().best, [sample_folder()], labels="nonsense")


def test_unknown_targets_do_not_count() -> None:
    batch, _ = make_batch(training_set(), np.arange(6), CPU)
    model = Associator(AssociatorShape(width=16)).eval()
    output = model(*batch.inputs)
    silent = batch._replace(
        tracks=torch.full_like(batch.tracks, UNKNOWN), detections=torch.full_like(batch.detections, UNKNOWN)
    )
    assert float(association_loss(output, silent).detach()) == 0.0
    assert isinstance(ModelCheckpoint(model, 0.5).header()["shape"], dict)


@pytest.mark.parametrize(("name", "value"), [("amsgrad", True), ("eps", 0.0), ("betas", (0.9, 2.0)), ("lr", [1.0])])
def test_an_optimizer_with_another_setting_is_refused(tmp_path: Path, name: str, value: object) -> None:
    folder = Path(shutil.copytree(trained_model().directory, tmp_path / "training"))
    content = torch.load(folder / LAST, weights_only=True)
    content["progress"]["optimizer"]["param_groups"][0][name] = value
    torch.save(content, folder / LAST)
    with pytest.raises(ArtifactError, match=f"the optimizer's {name} is "):
        train(training_set(), folder, QUICK, resume=True)
