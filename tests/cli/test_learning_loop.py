"""The whole loop by commands: log, inspect, train, export, run, evaluate; at small size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.association.small_training import sample_folder, trained_model
from tests.cli.shell import Shell


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_log_inspect_train_export_run_evaluate(shell: Shell, tmp_path: Path) -> None:
    crowds, log, model = tmp_path / "crowds", tmp_path / "log", tmp_path / "model.onnx"
    done = shell(
        "assoc", "simulate", "--mot", crowds, "--frames", "160", "--sequence-frames", "40", "--regime", "dance"
    )
    assert done.code == 0, done.err
    sequences = sorted(path for path in crowds.iterdir() if path.is_dir())
    assert len(sequences) == 4

    for sequence in sequences:  # log: the tracker's own decisions, as on footage without truth
        done = shell("boxes", sequence, "-o", tmp_path / "runs" / sequence.name, "--no-viz", "--log-dir", log)
        assert done.code == 0, done.err
    assert shell("assoc", "inspect", log).code == 0

    options = (
        "--labels",
        "tracker",
        "--epochs",
        "2",
        "--width",
        "16",
        "--batch-size",
        "16",
        "--cache",
        tmp_path / "c.npz",
    )
    done = shell("assoc", "train", "--data", log, "--output", tmp_path / "training", *options)
    assert done.code == 0, done.err
    assert "checkpoint: " in done.out
    assert "epoch 2 of 2: loss" in done.err
    done = shell("assoc", "train", "--data", tmp_path / "c.npz", "--output", tmp_path / "again", "--epochs", "1")
    assert done.code == 0, done.err  # from the cache

    done = shell("assoc", "export", tmp_path / "training" / "best.pt", "-o", model)
    assert done.code == 0, done.err
    run = tmp_path / "runs" / "learned"
    done = shell("boxes", sequences[0], "-o", run, "--no-viz", "--scorer", f"learned={model}")
    assert done.code == 0, done.err
    done = shell("evaluate", run / "tracks.mot.txt", "--gt", sequences[0], "--json")
    assert done.code == 0, done.err
    assert "HOTA" in done.out


def test_a_log_without_truth_improves_the_package_model(shell: Shell, tmp_path: Path) -> None:
    """Remix, train from the package's checkpoint, export, run."""
    log, scenes, training, model = (tmp_path / name for name in ("log", "scenes", "training", "model.onnx"))
    done = shell("assoc", "simulate", "-o", log, "--frames", "240", "--sequence-frames", "120", "--regime", "dance")
    assert done.code == 0, done.err
    done = shell("assoc", "remix", log, "-o", scenes, "--frames", "150", "--scene-frames", "50", "--log-embed-dim", "1")
    assert done.code == 0, done.err
    assert "remix-0-00000: " in done.out
    options = ("--labels", "truth", "--start", "default", "--epochs", "1")
    done = shell("assoc", "train", "--data", scenes, "--output", training, *options)
    assert done.code == 0, done.err
    history = json.loads((training / "history.json").read_text())
    assert history[0]["val_loss"] < 2  # a model from nothing has more than 4 after so few steps
    assert shell("assoc", "export", training / "best.pt", "-o", model).code == 0
    done = shell("assoc", "remix", log, "-o", tmp_path / "more", "--frames", "40", "--scorer", model)
    assert done.code == 0, done.err

    done = shell("assoc", "train", "--data", scenes, "--output", tmp_path / "t", "--start", "default", "--width", "32")
    assert done.code == 2
    assert "another shape" in done.err
    done = shell("assoc", "train", "--data", scenes, "--output", tmp_path / "t", "--start", tmp_path / "none.pt")
    assert done.code == 1
    assert "no checkpoint here" in done.err


def test_bad_input_is_one_line(shell: Shell, tmp_path: Path) -> None:
    def attempt(*arguments: object) -> tuple[int, str]:
        done = shell("assoc", *arguments)
        assert sum(not line.startswith("warning: ") for line in done.err.splitlines()) == 1, done.err
        return done.code, done.err

    assert attempt("train", "--data", tmp_path / "none", "--output", tmp_path / "t")[0] == 1
    code, text = attempt("train", "--data", sample_folder(), "--output", tmp_path / "t", "--epochs", "0")
    assert (code, "flag --epochs: train.epochs: Input should be greater than or equal to 1, not 0" in text) == (2, True)
    code, text = attempt("train", "--data", sample_folder(), "--output", tmp_path / "t", "--resume")
    assert (code, "no training to resume" in text) == (1, True)
    code, text = attempt("export", tmp_path / "none.pt", "-o", tmp_path / "m.onnx")
    assert (code, "no checkpoint here" in text) == (1, True)


def test_evaluate_measures_a_checkpoint_on_samples(shell: Shell, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = shell("assoc", "evaluate", trained_model().best, "--data", sample_folder(), "--json", "--report", page)
    assert done.code == 0, done.err
    assert json.loads(done.out)["precision"] > 0.8
    assert page.is_file()


def test_every_flag_of_the_specification_is_there(shell: Shell) -> None:
    done = shell("assoc", "train", "--help")
    assert done.code == 0
    for flag in ("data", "output", "epochs", "batch-size", "lr", "val-split", "device", "seed", "resume", "inspect"):
        assert f"--{flag} " in done.out
