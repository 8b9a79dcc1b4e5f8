"""A small training set of simulated scenes and a small model trained on it; made once for all tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from trackweave.association.dataset import TrainingSet, load_samples
from trackweave.association.settings import TrainSettings
from trackweave.association.training.loop import TrainingResult, train
from trackweave.pipelines.samples import simulate_samples
from trackweave.pipelines.settings import SimulateSettings

QUICK = TrainSettings(epochs=3, batch_size=16, width=16, warmup=5, val_split=0.25, lr=5e-3)


@cache
def sample_folder() -> Path:
    """160 frames of four videos; embeddings of width 1 (none)."""
    folder = Path(mkdtemp(prefix="trackweave-samples-"))
    scenes = SimulateSettings(frames=160, seed=3, regime="dance", sequence_frames=40)
    simulate_samples(scenes, folder, embed_dim=1)
    return folder


@cache
def training_set() -> TrainingSet:
    """The samples of `sample_folder`."""
    return load_samples([sample_folder()])


@cache
def trained_model() -> TrainingResult:
    """A model that was trained on them for three epochs."""
    return train(training_set(), Path(mkdtemp(prefix="trackweave-training-")), QUICK)
