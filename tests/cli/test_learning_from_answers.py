"""Answers about runs teach the model, and tracking again decides whether it is better."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.shell import Shell
from trackweave.association.labels import gt_track_ids
from trackweave.association.logged_samples import read_samples
from trackweave.association.models.associator import Associator, AssociatorShape
from trackweave.association.settings import LogSettings, ScorerSettings
from trackweave.association.training.checkpoint import (
    ModelCheckpoint,
    default_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from trackweave.formats.mot import read_ground_truth
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.corrections import Proofreading, correct
from trackweave.pipelines.learning import hota_of_detections, replayed_hota
from trackweave.pipelines.samples import simulate_samples
from trackweave.pipelines.settings import SimulateSettings
from trackweave.structures.corrections import Act, Named, Observation

EVERY = 10
"""Frames between two answers about an object."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def crowds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two videos of dancers with the package's model, logged, and answered about."""
    root = tmp_path_factory.mktemp("crowds")
    scenes = SimulateSettings(frames=120, seed=3, regime="dance", sequence_frames=60)
    simulate_samples(scenes, mot=root / "mot")
    for path in sorted((root / "mot").iterdir()):
        run, log = root / "runs" / path.name, LogSettings(dir=root / "log", embed_dim=1)
        track_boxes(path, run, tracker="learned", scorer=ScorerSettings(enabled=True), log=log, overlay=False)
        correct(run, answers(run, path))
    return root


def answers(run: Path, sequence: Path) -> list[Act]:
    """Who each object is, every so many frames."""
    truth, proofreading = read_ground_truth(sequence), Proofreading(run)
    acts: list[Act] = []
    for frame in range(0, 60, EVERY):
        here = proofreading.tracks.frame == frame
        for item, number in zip(
            proofreading.items[here].tolist(),
            gt_track_ids(proofreading.tracks.xyxy[here], truth.at(frame)).tolist(),
            strict=True,
        ):
            acts += [Named(Observation(frame, item), str(number))] if number >= 0 else []
    return acts


def runs_of(crowds: Path) -> list[Path]:
    return sorted((crowds / "runs").iterdir())


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_checkpoint(path).model.state_dict() for path in (one, other))
    return all(bool((first[name] == second[name]).all()) for name in first)


def test_a_worse_model_is_never_the_result(shell: Shell, crowds: Path, tmp_path: Path) -> None:
    done = shell(
        "assoc", "train", "--data", *runs_of(crowds), "--start", "default", "-o", tmp_path, "--epochs", 1, "--lr", 0.5
    )
    assert done.code == 0, done.err
    assert "at best: not better by 1, kept the start" in done.out
    assert same_weights(tmp_path / "best.pt", default_checkpoint())
    assert load_checkpoint(tmp_path / "best.pt").threshold == load_checkpoint(default_checkpoint()).threshold
    assert len(list((tmp_path / "samples").iterdir())) == 2  # with the answers as their truth


def test_a_better_model_is(shell: Shell, crowds: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = tmp_path / "start.pt"
    save_checkpoint(start, ModelCheckpoint(Associator(AssociatorShape(width=16)), 0.5, {"embed_dim": None}))
    options = ("--epochs", 3, "--lr", 5e-3, "--warmup", 5, "--batch-size", 8, "--average", 0)
    done = shell("assoc", "train", "--data", *runs_of(crowds), "--start", start, "-o", tmp_path / "t", *options)
    assert done.code == 0, done.err
    before, after = load_checkpoint(start), load_checkpoint(tmp_path / "t" / "best.pt")
    assert "held out and tracked again" in done.out
    assert not same_weights(start, tmp_path / "t" / "best.pt")
    (held_out,) = after.metadata["validation_sequences"]
    samples = [each for _, each in next(
        run for key, run in read_samples([tmp_path / "t" / "samples"]).runs.items() if key.sequence == held_out
    )]  # fmt: skip
    first, last = (replayed_hota([samples], model) for model in (before, after))
    assert first == pytest.approx(after.metadata["start_hota"], abs=1e-3)
    assert first < last


def test_tracking_again_from_samples_is_the_run(crowds: Path) -> None:
    """As far as its tracks go: what a person named of them, they have."""
    start = load_checkpoint(default_checkpoint())
    run = runs_of(crowds)[0]
    samples = [each for _, each in next(iter(read_samples([crowds / "log"]).runs.values()))]
    with Proofreading(run).run.archive() as archive:
        assert archive.rows(with_masks=False).tracks.frame[-1] == samples[-1].frame_idx
    own = [
        type(sample)(**{**vars(sample), "gt_track_ids": sample.assigned_track_ids})  # its own tracks as the truth
        for sample in samples
    ]
    assert replayed_hota([own], start) > 95


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), max_size=40))
def test_hota_does_not_depend_on_numbers_and_is_one_for_the_truth(pairs: list[tuple[int, int]]) -> None:
    true, track = np.array(pairs, np.int64).reshape(-1, 2).T
    value = hota_of_detections(true, track)
    assert 0 <= value <= 1
    assert value == pytest.approx(hota_of_detections(np.where(true >= 0, 9 - true, -1), track * 7 + 6 * (track < 0)))
    assert hota_of_detections(true, true) == float((true >= 0).any())


def test_what_cannot_teach_is_refused(shell: Shell, crowds: Path, tmp_path: Path) -> None:
    one, other = runs_of(crowds)
    train = ("assoc", "train", "-o", tmp_path / "t", "--data")
    assert "give --start default" in shell(*train, one, other).err
    assert "one video alone" in shell(*train, one, "--start", "default").err
    moved = Path(shutil.copytree(one, tmp_path / "moved"))
    summary = (moved / "summary.json").read_text()
    (moved / "summary.json").write_text(summary.replace(str(crowds / "log"), str(tmp_path / "gone")))
    refused = shell(*train, moved, other, "--start", "default")
    assert (refused.code, "are not in" in refused.err, refused.err.count("\n")) == (1, True, 1)
    plain = track_boxes(crowds / "mot" / one.name, tmp_path / "plain")
    named = correct(plain, [Named(Observation(3, 0), "Ann")])
    refused = shell(*train, named.root, other, "--start", "default")
    assert "logged no samples to learn from" in refused.err
