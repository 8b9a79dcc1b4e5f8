"""Training in rounds on what the tracker meets with the model of the round before in its loop: DAgger (Ross et al.,
AISTATS 2011). The right answers come from true identities, the situations from the tracker's own mistakes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trackweave.association.dataset import SceneStore, join_stores
from trackweave.association.models.associator import Associator
from trackweave.association.training.checkpoint import load_checkpoint
from trackweave.association.training.export import export
from trackweave.association.training.loop import BEST, train
from trackweave.association.training.mining import hard_frames
from trackweave.association.training.settings import TrainSettings
from trackweave.structures.assignment import AssignmentState

MODEL = "model.onnx"
THRESHOLD = 0.4
"""Of the model in the tracker's loop."""
EASY_SHARE = 0.2
LATER_RATE = 1.5e-3
"""Learning rate of a round that begins with the model of another one."""


class Watcher:
    """Keeps every state that a tracker shows."""

    def __init__(self) -> None:
        self.states: list[AssignmentState] = []

    def observe(self, state: AssignmentState) -> None:
        """Takes one."""
        self.states.append(state)


def told(epoch: int, row: dict[str, Any]) -> None:
    """One line per epoch."""
    print(
        f"epoch {epoch}: loss {row['loss']:.4f}, validation {row['val_loss']:.4f}, precision {row['precision']:.3f}, "
        f"recall {row['recall']:.3f}, {row['frames_per_second']:.0f} frames/s",
        file=sys.stderr,
        flush=True,
    )


def train_in_rounds(
    meet: Callable[[int, Path | None], SceneStore],
    output: Path,
    rounds: Sequence[TrainSettings],
    *,
    start: Path | None = None,
    validation: Callable[[SceneStore], tuple[str, ...]] | None = None,
) -> Path:
    """Trains once per settings, in folders `round-1`, … of `output`. A round whose folder is complete is not trained
    again; its frames are met again, because a round also learns from those of the rounds before.

    Args:
        meet: what the tracker meets in a round, by its number from 0 and the exported model in the loop; None: there
            is no model yet.
        output: the folder.
        rounds: settings of each.
        start: a checkpoint to begin with; None: the first round is without a model, and what the classical cost met
            there is not learned from again.
        validation: chooses videos to hold out; None: by chance.

    Returns:
        The last round's folder: `best.pt`, `model.onnx`, `report.html`.
    """
    net: Associator | None = None if start is None else load_checkpoint(start).model
    model = None if start is None else export(start, output / "start.onnx")
    kept: list[SceneStore] = []
    for number, how in enumerate(rounds):
        folder = output / f"round-{number + 1}"
        store = meet(number, model)
        if net is not None:
            kept.append(store)
        if not (folder / MODEL).exists():
            store = store if net is None else join_stores(kept)
            only = None
            if net is not None:
                only = hard_frames(net, store, easy_share=EASY_SHARE, rng=np.random.default_rng([how.seed, number]))
                how = how.model_copy(update={"lr": LATER_RATE})
            learned = len(store) if only is None else len(only)
            print(f"round {number + 1}: {learned} of {len(store)} frames of {len(store.sequences)} videos", flush=True)
            held = None if validation is None else validation(store)
            best = train(store, folder, how, start_from=net, only=only, validation=held, told=told).best
            export(best, folder / MODEL)
        net, model = load_checkpoint(folder / BEST).model, folder / MODEL
    return folder
