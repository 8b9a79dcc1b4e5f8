"""The benchmark that makes the package's model, at small size."""

from __future__ import annotations

from benchmarks.train_default import collect


def test_frames_of_the_default_model_are_simulated_and_repeat() -> None:
    one, other = (collect(600, 7, "dance", None, 1) for _ in range(2))
    assert len(one.sequences) == 2
    assert one.metadata["label_sources"] == ["simulated"]
    assert one.metadata["embed_dim"] is None
    assert (one.frames.boxes == other.frames.boxes).all()
