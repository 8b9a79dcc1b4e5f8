"""`trackweave assoc`: samples from sequences whose truth is known, and what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.toy_boxes import box_of, make_sequence, mot_line, write_lines
from trackweave.storage.samples import read_sample


@pytest.fixture
def sequences(tmp_path: Path) -> list[Path]:
    return [make_sequence(tmp_path / name, name=name) for name in ("one", "two")]


def test_build_then_inspect(shell: Shell, sequences: list[Path], tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = shell("assoc", "build", *sequences, "-o", log, "--diagnostics")
    assert done.code == 0, done.err
    assert f"one: 11 samples of 12 frames in {log}; 100% of 24 detections have a true identity" in done.out
    done = shell("assoc", "inspect", log, "--picture", tmp_path / "picture.svg")
    assert done.code == 0, done.err
    assert "samples          22" in done.out
    assert "ground_truth (22)" in done.out
    assert (tmp_path / "picture.svg").read_text().startswith("<svg")
    report = json.loads(shell("assoc", "inspect", log, "--json").out)
    assert report["usable"]
    assert [row["true_id_switches"] for row in report["sequences"]] == [0, 0]


def test_build_with_its_options(shell: Shell, sequences: list[Path], tmp_path: Path) -> None:
    truth = write_lines(tmp_path / "gt.txt", [mot_line(k, 5, box_of(1, k), 1, 1, 1) for k in range(12)])
    log = tmp_path / "log"
    options = ("--gt", truth, "--separate", "--tracker", "bytetrack", "--log-embed-dim", 4, "--json")
    done = shell("assoc", "build", sequences[0], "-o", log, *options)
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert (row["directory"], row["identified"]) == (str(log / "one"), 12)
    sample = read_sample(log / "one" / "sample_0000000.npz")
    assert sample.det_embeddings.shape[1] == 4
    assert sample.metadata.label_source == "ground_truth"


def test_environment_reaches_build(
    shell: Shell, sequences: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFIDENCE_THRESHOLD", "0.95")
    done = shell("assoc", "build", sequences[0], "-o", tmp_path / "log")
    assert "one: 0 samples" in done.out


def test_what_cannot_be_built(shell: Shell, sequences: list[Path], tmp_path: Path) -> None:
    done = shell("assoc", "build", *sequences, "-o", tmp_path / "log", "--gt", tmp_path / "gt.txt")
    assert (done.code, "for one sequence, not 2" in done.err) == (2, True)
    (tmp_path / "empty").mkdir()
    done = shell("assoc", "build", tmp_path / "empty", "-o", tmp_path / "log")
    assert (done.code, "gt.txt" in done.err) == (1, True)
    done = shell("assoc", "build", *sequences, "-o", tmp_path / "log", "--simulate-detector", "keen")
    assert (done.code, "no simulated detector 'keen'" in done.err) == (2, True)
    options = ("--simulate-detector", "shaky", "--detections", "det")
    done = shell("assoc", "build", *sequences, "-o", tmp_path / "log", *options)
    assert (done.code, "and a simulated detector are given" in done.err) == (2, True)
    assert not (tmp_path / "log").exists()


def test_inspect_says_when_something_is_not_usable(shell: Shell, tmp_path: Path) -> None:
    done = shell("assoc", "inspect", tmp_path)
    assert done.code == 1
    assert "NOT USABLE" in done.out
    done = shell("assoc", "inspect", tmp_path / "none")
    assert (done.code, "not a folder of samples" in done.err) == (1, True)
    make_sequence(tmp_path / "toy")
    shell("assoc", "build", tmp_path / "toy", "-o", tmp_path / "log")
    done = shell("assoc", "inspect", tmp_path / "log", "--picture", tmp_path / "picture.png")
    assert (done.code, "picture.svg" in done.err) == (2, True)


def test_a_data_set_by_video(shell: Shell, tmp_path: Path) -> None:
    for clip in ("match_c001", "match_c002", "final_c001"):
        make_sequence(tmp_path / "set" / "train" / clip, name=clip)
    options = ("--by", "video", "--simulate-detector", "perfect", "--log-embed-dim", 4)
    done = shell("assoc", "build", tmp_path / "set", "-o", tmp_path / "log", *options)
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["final", "match"]
    assert f"match_c002: 11 samples of 12 frames in {tmp_path / 'log' / 'match'}" in done.out


def test_simulate_then_fit(shell: Shell, tmp_path: Path) -> None:
    log, mot = tmp_path / "log", tmp_path / "mot"
    options = ("--frames", 120, "--seed", 5, "--regime", "dance", "--detector", "strong", "--log-embed-dim", 4)
    done = shell("assoc", "simulate", "-o", log, "--mot", mot, "--picture", tmp_path / "seen.png", *options)
    assert done.code == 0, done.err
    assert "dance-5-00000: " in done.out
    assert (tmp_path / "seen.png").is_file()
    (sequence,) = mot.iterdir()
    done = shell("assoc", "fit-detector", sequence, "-o", tmp_path / "fit.json")
    assert done.code == 0, done.err
    assert "recall 9" in done.out or "recall 100" in done.out
    done = shell("assoc", "simulate", "--frames", 20, "--detector", tmp_path / "fit.json", "-o", log, "--json")
    assert [row["frames"] for row in json.loads(done.out)] == [20]
    done = shell("assoc", "simulate", "--regime", "chess", "-o", log)
    assert (done.code, "no regime 'chess'" in done.err) == (2, True)
