"""Training in rounds on what the tracker meets with the model of the round before in its loop: DAgger (Ross et al.,
AISTATS 2011). The right answers come from true identities, the situations from the tracker's own mistakes."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trackweave.association.dataset import SceneStore, iterate_batches, join_stores
from trackweave.association.models.associator import Associator
from trackweave.association.training.batches import hard_frames, make_batch
from trackweave.association.training.checkpoint import Checkpoint, export, load_checkpoint, save_checkpoint
from trackweave.association.training.loop import BEST, Learner, train
from trackweave.association.training.metrics import measure
from trackweave.association.training.report import write_report
from trackweave.association.training.settings import TrainSettings
from trackweave.errors import TrackweaveError
from trackweave.structures.assignment import AssignmentState

MODEL = "model.onnx"
THRESHOLD = 0.4
"""Of the model in the tracker's loop."""
EASY_SHARE = 0.2
LATER_RATE = 1.5e-3
"""Learning rate of a round that begins with the model of another one."""

LEAST_RATE = 0.05
"""Share of the learning rate that is left at the end of a stream."""
JUDGED = 7
"""One frame of so many is looked at to measure a model."""


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


def train_on_stream(
    meet: Callable[[int, Path], SceneStore],
    output: Path,
    start: Path,
    *,
    rounds: int,
    how: TrainSettings,
    validation: SceneStore | None = None,
) -> Path:
    """Trains in many small rounds of which each frame is learned from in one alone; one model goes through all.

    While a round is learned from, the frames of the next one are met with the model of the round before. The learning
    rate falls along one cosine over all rounds. Finished rounds are not taken up: it begins anew.

    Args:
        meet: what the tracker meets in a round, by its number from 0 and the exported model in the loop.
        output: folder that gets `best.pt` and `model.onnx` of the last round.
        start: the checkpoint to begin with.
        rounds: how many.
        how: settings; `epochs` are those of each round.
        validation: frames by which the threshold is calibrated; None: those of the last round, which were learned from.

    Returns:
        The folder.
    """
    output.mkdir(parents=True, exist_ok=True)
    learner = Learner(load_checkpoint(start).model, how)
    model = export(start, output / "round-0.onnx")  # a file per round: the next one is met while this one is written
    epochs: list[dict[str, Any]] = []
    with ThreadPoolExecutor(1) as behind:
        coming = behind.submit(meet, 0, model)
        for number in range(rounds):
            store = coming.result()
            if number + 1 < rounds:
                coming = behind.submit(meet, number + 1, model)
            loss, learned = _one_round(learner, store, how, number, rounds)
            judged = store if validation is None else validation
            measures = measure(learner.mean, judged, np.arange(0, len(judged), JUDGED))
            epochs.append(
                {
                    "epoch": number + 1,
                    "loss": loss,
                    "val_loss": measures.loss,
                    "precision": measures.precision,
                    "recall": measures.recall,
                }
            )
            facts = {
                **store.facts,
                "epoch": number + 1,
                "measures": json.loads(json.dumps(measures.to_json())),
                "settings": how.model_dump(mode="json"),
                "parameters": sum(part.numel() for part in learner.mean.parameters()),
            }
            found = Checkpoint(learner.mean, measures.threshold, facts, None)
            save_checkpoint(output / BEST, found)
            model = export(found, output / f"round-{number + 1}.onnx")
            print(
                f"round {number + 1}: {learned} of {len(store)} frames, loss {loss:.4f}, then {measures.loss:.4f}, "
                f"threshold {measures.threshold}",
                flush=True,
            )
    shutil.copyfile(model, output / MODEL)
    write_report(output / "report.html", found, measures, epochs)
    return output


def _one_round(learner: Learner, store: SceneStore, how: TrainSettings, number: int, rounds: int) -> tuple[float, int]:
    """Learns from a round's frames; mean loss, and how many frames were worth it."""
    rng = np.random.default_rng([how.seed, number])
    hard = hard_frames(learner.mean, store, easy_share=EASY_SHARE, rng=rng)
    learner.model.train()
    losses = []
    for epoch in range(how.epochs):
        batches = list(iterate_batches(hard, store.sizes(), how.batch_size, rng))
        for place, frames in enumerate(batches):
            done = (number + (epoch + place / len(batches)) / how.epochs) / rounds
            batch, _ = make_batch(store, frames, torch.device("cpu"), how.augment, rng)
            fallen = LEAST_RATE + (1 - LEAST_RATE) * (1 + math.cos(math.pi * done)) / 2
            losses.append(learner.learn(batch, how.lr * fallen))
            if not math.isfinite(losses[-1]):
                raise TrackweaveError(f"round {number + 1}: the loss is not a number: lower the learning rate")
    return float(np.mean(losses)), len(hard)
