"""Training in rounds, as the package's model is made, at small size."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.association.small_training import QUICK, trained_model, training_set
from trackweave.association.dataset import TrainingSet
from trackweave.association.scorer import LearnedScorer
from trackweave.association.training.checkpoint import load_checkpoint
from trackweave.association.training.loop import BEST
from trackweave.association.training.rounds import MODEL, train_in_rounds, train_on_stream

ONCE = QUICK.model_copy(update={"epochs": 1})


def test_rounds_follow_each_other_and_finished_ones_are_kept(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    calls: list[tuple[int, Path | None]] = []
    lines: list[str] = []

    def collect(number: int, model: Path | None) -> TrainingSet:
        calls.append((number, model))
        return training_set()

    last = train_in_rounds(collect, tmp_path, [ONCE, ONCE], log=lines.append)
    assert last == tmp_path / "round-2"
    assert calls == [(0, None), (1, tmp_path / "round-1" / MODEL)]
    assert [line.split(":")[0] for line in lines] == ["round 1", "round 2"]
    assert LearnedScorer(last / MODEL).header.metadata["fingerprint"] == training_set().metadata["fingerprint"]
    before = (last / MODEL).stat().st_mtime_ns
    assert train_in_rounds(collect, tmp_path, [ONCE, ONCE, ONCE]) == tmp_path / "round-3"
    assert (last / MODEL).stat().st_mtime_ns == before
    assert len(calls) == 5


def test_a_stream_continues_a_model_and_collects_each_round_with_it(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    models: list[Path] = []

    def collect(number: int, model: Path) -> TrainingSet:
        assert number == len(models)
        models.append(model)
        return training_set()

    settings = QUICK.model_copy(update={"epochs": 1, "average": 0.9})
    folder = train_on_stream(collect, tmp_path / "stream", trained_model().best, rounds=3, settings=settings)
    # The second round was collected while the first one was learned from; no file changes under those who read it.
    start = load_checkpoint(trained_model().best).metadata["epoch"]
    assert [LearnedScorer(model).header.metadata["epoch"] for model in models] == [start, start, 1]
    metadata = LearnedScorer(folder / MODEL).header.metadata
    assert metadata["epoch"] == 3
    assert metadata["fingerprint"] == training_set().metadata["fingerprint"]
    assert "nan" not in (folder / "report.html").read_text().lower()
    before, after = (load_checkpoint(path).model.state_dict() for path in (trained_model().best, folder / BEST))
    assert not torch.equal(before["logit.weight"], after["logit.weight"])
