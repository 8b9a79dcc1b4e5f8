"""Training in rounds, as the package's model is made, at small size."""

from __future__ import annotations

from pathlib import Path

import torch
from benchmarks.train_default import gather
from benchmarks.training_rounds import MODEL, train_in_rounds, train_on_stream

from tests.association.learning import QUICK, store, trained
from trackweave.association.dataset import SceneStore
from trackweave.association.scorer import LearnedScorer
from trackweave.association.training.checkpoint import load_checkpoint
from trackweave.association.training.loop import BEST

ONCE = QUICK.model_copy(update={"epochs": 1})


def test_rounds_follow_each_other_and_finished_ones_are_kept(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    asked: list[tuple[int, Path | None]] = []

    def meet(number: int, model: Path | None) -> SceneStore:
        asked.append((number, model))
        return store()

    last = train_in_rounds(meet, tmp_path, [ONCE, ONCE])
    assert last == tmp_path / "round-2"
    assert asked == [(0, None), (1, tmp_path / "round-1" / MODEL)]
    assert LearnedScorer(last / MODEL).header.facts["fingerprint"] == store().facts["fingerprint"]
    before = (last / MODEL).stat().st_mtime_ns
    assert train_in_rounds(meet, tmp_path, [ONCE, ONCE, ONCE]) == tmp_path / "round-3"
    assert (last / MODEL).stat().st_mtime_ns == before
    assert len(asked) == 5


def test_a_stream_goes_on_from_a_model_and_meets_each_round_with_it(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    asked: list[Path] = []

    def meet(number: int, model: Path) -> SceneStore:
        assert number == len(asked)
        asked.append(model)
        return store()

    how = QUICK.model_copy(update={"epochs": 1, "average": 0.9})
    folder = train_on_stream(meet, tmp_path / "stream", trained().best, rounds=3, how=how)
    # The second round was met while the first one was learned from; no file changes under those who read it.
    began = load_checkpoint(trained().best).facts["epoch"]
    assert [LearnedScorer(model).header.facts["epoch"] for model in asked] == [began, began, 1]
    facts = LearnedScorer(folder / MODEL).header.facts
    assert facts["epoch"] == 3
    assert facts["fingerprint"] == store().facts["fingerprint"]
    assert "nan" not in (folder / "report.html").read_text().lower()
    before, after = (load_checkpoint(path).model.state_dict() for path in (trained().best, folder / BEST))
    assert not torch.equal(before["logit.weight"], after["logit.weight"])


def test_what_the_default_model_learns_from_is_simulated_and_repeats() -> None:
    one, other = (gather(600, 7, "dance", None, 1) for _ in range(2))
    assert len(one.sequences) == 2
    assert one.facts["label_sources"] == ["simulated"]
    assert one.facts["embed_dim"] is None
    assert (one.scenes.boxes == other.scenes.boxes).all()
