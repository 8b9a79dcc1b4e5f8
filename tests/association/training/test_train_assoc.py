from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.association.toy import toy_sample
from trackweave.association.training.train_assoc import main
from trackweave.storage.sample_folder import SampleFolder
from trackweave.storage.samples import sample_name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with SampleFolder(tmp_path / "log") as opened:
        for frame in range(3):
            opened.write(toy_sample(frame))
    return tmp_path / "log"


def test_inspect_prints_a_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(folder), "--inspect"]) == 0
    printed = capsys.readouterr().out
    assert "matched pairs    9: too few" in printed
    assert printed.endswith("usable\n")


def test_json_of_several_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(folder), str(folder), "--inspect", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 6


def test_unusable_samples_give_exit_code_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / sample_name(1)).write_bytes(b"")
    assert main(["--data", str(folder), "--inspect"]) == 1
    assert f"{folder / sample_name(1)}: " in capsys.readouterr().out


def test_the_figure(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(folder), "--inspect", "--picture", str(tmp_path / "p.svg")]) == 0
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert main(["--data", str(folder), "--inspect", "--picture", str(tmp_path / "p.png")]) == 2
    assert "p.svg" in capsys.readouterr().err


def test_a_missing_folder_is_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "absent"), "--inspect"]) == 1
    error = capsys.readouterr().err
    assert "absent: not a folder of samples" in error
    assert error.count("\n") == 1


def test_training_needs_an_output_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(folder)]) == 2
    assert "give --output DIR, or --inspect" in capsys.readouterr().err


def test_the_module_runs_without_torch(folder: Path) -> None:
    script = (
        "import runpy, sys; sys.argv = ['train_assoc', '--data', sys.argv[1], '--inspect'];"
        "sys.modules['torch'] = sys.modules['matplotlib'] = None;"
        "runpy.run_module('trackweave.association.training.train_assoc', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "usable" in done.stdout


def test_inspect_reads_the_log_folder_of_the_environment(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRANSFORMER_LOG_DIR", raising=False)
    assert main(["--inspect"]) == 2
    assert "name their folder, or set TRANSFORMER_LOG_DIR" in capsys.readouterr().err
    monkeypatch.setenv("TRANSFORMER_LOG_DIR", str(folder))
    assert main(["--inspect"]) == 0
    assert f"3 in {folder}" in capsys.readouterr().out
    assert main(["--output", str(folder.parent / "t")]) == 2
    assert "which samples? give --data DIR" in capsys.readouterr().err


def test_the_file_of_the_checkout_runs(folder: Path) -> None:
    file = Path(__file__).parents[3] / "training" / "train_assoc.py"
    done = subprocess.run(
        [sys.executable, str(file), "--data", str(folder), "--inspect"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("usable\n")


def test_inspection_and_training_agree_on_what_is_enough(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three samples of one video: what the training refuses, the inspection names in the same words."""
    assert main(["--data", str(folder), "--output", str(folder.parent / "t")]) == 1
    refusal = capsys.readouterr().err.removeprefix("error: ").strip()
    assert "9 matched pairs are too few to learn from" in refusal
    assert "all samples are of one video" in refusal
    assert main(["--data", str(folder), "--inspect"]) == 0
    assert f"training         refuses these samples: {refusal}" in capsys.readouterr().out


def test_folders_below_are_inspected_as_they_are_trained_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(folder.parent), "--inspect", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 3
