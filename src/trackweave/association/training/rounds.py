"""Training in rounds on what the tracker meets with the previous round's model in its loop: the recipe of the package's
model.

DAgger (Ross et al., AISTATS 2011): the labels come from true identities, the frames from the tracker's own mistakes.
`train_in_rounds` keeps the frames of all rounds; `train_on_stream` then learns from much fresh video, each frame in one
round alone. Both only learn from frames that the current model is unsure of (`hard_frames`).
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trackweave.association.dataset import LabelledFrame, TrainingSet
from trackweave.association.labels import UNKNOWN
from trackweave.association.models.associator import Associator
from trackweave.association.settings import TrainSettings
from trackweave.association.training.batches import iterate_batches, make_batch
from trackweave.association.training.checkpoint import ModelCheckpoint, export_onnx, load_checkpoint, save_checkpoint
from trackweave.association.training.loop import BEST, REPORT, EpochCallback, Learner, model_metadata, train
from trackweave.association.training.metrics import (
    FRAMES_AT_ONCE,
    AssociationMetrics,
    EpochRecord,
    compute_metrics,
    target_log_probability,
)
from trackweave.association.training.report import write_report
from trackweave.errors import TrackweaveError
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import GT_COLUMN

MODEL = "model.onnx"
LOOP_THRESHOLD = 0.4
"""Threshold of the model in the tracker's loop."""
EASY_PROBABILITY = 0.9
"""A frame is easy when the model gives every target at least this probability."""
EASY_SHARE = 0.2
"""Share of the easy frames that are learned from all the same, so that the model does not forget them."""
LATER_LR = 1.5e-3
"""Learning rate of a round that starts from the model of another one."""
MIN_LR_SHARE = 0.05
"""Share of the learning rate that is left at the end of a stream."""
MEASURE_STRIDE = 7
"""Of every so many frames of a stream's round one is used to measure the model."""


class StateRecorder:
    """An observer that keeps every state of a tracker."""

    def __init__(self) -> None:
        self.states: list[AssignmentState] = []

    def observe(self, state: AssignmentState) -> None:
        """Keeps one state."""
        self.states.append(state)

    def labelled(self, sequence: str) -> Iterator[LabelledFrame]:
        """The states of a video with the true identities that its detections carry in the column `gt_track_id`."""
        for state in self.states:
            yield LabelledFrame(sequence, state, state.detections.data[GT_COLUMN])


def hard_frames(model: Associator, training_set: TrainingSet, *, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the frames on which the model is unsure or wrong, and of a random `EASY_SHARE` of the others.

    Args:
        model: evaluates the frames.
        training_set: frames with labels.
        rng: selects the easy ones that stay.
    """
    model.eval()
    device = next(model.parameters()).device
    lowest = np.ones(len(training_set), np.float32)
    with torch.no_grad():
        for start in range(0, len(training_set), FRAMES_AT_ONCE):
            positions = np.arange(start, min(start + FRAMES_AT_ONCE, len(training_set)))
            tensors, batch = make_batch(training_set, positions, device)
            output = model(*tensors.inputs)
            views = (
                (output.track_log_probabilities, output.track_unmatched, tensors.tracks, batch.track_frame),
                (output.det_log_probabilities, output.det_unmatched, tensors.detections, batch.det_frame),
            )
            for pairs, unmatched, targets, frame in views:
                log_probability = target_log_probability(pairs, unmatched, targets)
                log_probability = torch.where(targets == UNKNOWN, torch.zeros_like(log_probability), log_probability)
                np.minimum.at(lowest, start + frame, log_probability.exp().cpu().numpy())
    return np.flatnonzero((lowest < EASY_PROBABILITY) | (rng.random(len(training_set)) < EASY_SHARE))


def train_in_rounds(
    collect: Callable[[int, Path | None], TrainingSet],
    output: Path,
    rounds: Sequence[TrainSettings],
    *,
    start: Path | None = None,
    validation: Callable[[TrainingSet], tuple[str, ...]] | None = None,
    log: Callable[[str], None] | None = None,
    on_epoch_end: EpochCallback | None = None,
) -> Path:
    """Trains once per settings, in folders `round-1`, … of `output`.

    A round whose folder is complete is not trained again; its frames are collected again, because a round also learns
    from those of the rounds before.

    Args:
        collect: runs the tracker and returns its frames, by the round's number from 0 and the exported model in the
            loop; None: there is no model yet.
        output: the folder.
        rounds: settings of each.
        start: a checkpoint to start from; None: the first round has no model in the loop, and later rounds do not
            learn from its frames.
        validation: chooses videos to hold out; None: at random.
        log: receives a line per round.
        on_epoch_end: called after every epoch.

    Returns:
        The last round's folder: `best.pt`, `model.onnx`, `report.html`.
    """
    network: Associator | None = None if start is None else load_checkpoint(start).model
    model = None if start is None else export_onnx(start, output / "start.onnx")
    collected: list[TrainingSet] = []
    for number, settings in enumerate(rounds):
        folder = output / f"round-{number + 1}"
        frames = collect(number, model)
        if network is not None:
            collected.append(frames)
        if not (folder / MODEL).exists():
            hard = None
            if network is not None:
                frames = TrainingSet.concat(collected)
                hard = hard_frames(network, frames, rng=np.random.default_rng([settings.seed, number]))
                settings = settings.model_copy(update={"lr": LATER_LR})
            if log is not None:
                used = len(frames) if hard is None else len(hard)
                log(f"round {number + 1}: {used} of {len(frames)} frames of {len(frames.sequences)} videos")
            held_out = None if validation is None else validation(frames)
            result = train(
                frames,
                folder,
                settings,
                start_from=network,
                frames=hard,
                validation=held_out,
                on_epoch_end=on_epoch_end,
            )
            export_onnx(result.best, folder / MODEL)
        network, model = load_checkpoint(folder / BEST).model, folder / MODEL
    return folder


def train_on_stream(
    collect: Callable[[int, Path], TrainingSet],
    output: Path,
    start: Path,
    *,
    rounds: int,
    settings: TrainSettings,
    validation: TrainingSet | None = None,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Trains one model through many small rounds, each frame in one of them alone; always from the first round.

    While a round is learned from, the frames of the next one are collected with the model of the round before. The
    learning rate falls along one cosine over all rounds.

    Args:
        collect: runs the tracker and returns its frames, by the round's number from 0 and the exported model in the
            loop.
        output: folder that gets `best.pt` and `model.onnx` of the last round.
        start: the checkpoint to start from.
        rounds: how many.
        settings: hyperparameters; `epochs` are those of each round.
        validation: frames that the threshold is calibrated on; None: those of the last round, which were learned from.
        log: receives a line per round.

    Returns:
        The folder.
    """
    output.mkdir(parents=True, exist_ok=True)
    learner = Learner(load_checkpoint(start).model, settings)
    model = export_onnx(start, output / "round-0.onnx")  # a file per round: collecting still reads the one before
    epochs: list[EpochRecord] = []
    with ThreadPoolExecutor(1) as background:
        upcoming = background.submit(collect, 0, model)
        for number in range(rounds):
            frames = upcoming.result()
            if number + 1 < rounds:
                upcoming = background.submit(collect, number + 1, model)
            loss, used = _learn_round(learner, frames, number, rounds)
            evaluated = frames if validation is None else validation
            metrics = compute_metrics(learner.mean, evaluated, np.arange(0, len(evaluated), MEASURE_STRIDE))
            epochs.append(_round_record(number + 1, loss, metrics))
            metadata = model_metadata(learner, frames, number + 1, metrics)
            checkpoint = ModelCheckpoint(learner.mean, metrics.threshold, metadata)
            save_checkpoint(output / BEST, checkpoint)
            model = export_onnx(checkpoint, output / f"round-{number + 1}.onnx")
            if log is not None:
                log(
                    f"round {number + 1}: {used} of {len(frames)} frames, loss {loss:.4f}, then {metrics.loss:.4f}, "
                    f"threshold {metrics.threshold}"
                )
    shutil.copyfile(model, output / MODEL)
    write_report(output / REPORT, checkpoint, metrics, epochs)
    return output


def _round_record(epoch: int, loss: float, metrics: AssociationMetrics) -> EpochRecord:
    return {
        "epoch": epoch,
        "loss": loss,
        "val_loss": metrics.loss,
        "precision": metrics.precision,
        "recall": metrics.recall,
    }


def _learn_round(learner: Learner, frames: TrainingSet, number: int, rounds: int) -> tuple[float, int]:
    """Learns from one round's frames; mean loss, and how many frames were hard enough to be used."""
    settings = learner.settings
    rng = np.random.default_rng([settings.seed, number])
    hard = hard_frames(learner.mean, frames, rng=rng)
    learner.model.train()
    losses = []
    for epoch in range(settings.epochs):
        batches = list(iterate_batches(hard, frames.frame_sizes(), settings.batch_size, rng))
        for position, members in enumerate(batches):
            done = (number + (epoch + position / len(batches)) / settings.epochs) / rounds
            batch, _ = make_batch(frames, members, torch.device("cpu"), settings.augment, rng)
            share = MIN_LR_SHARE + (1 - MIN_LR_SHARE) * (1 + math.cos(math.pi * done)) / 2
            losses.append(learner.step(batch, settings.lr * share))
            if not math.isfinite(losses[-1]):
                raise TrackweaveError(f"round {number + 1}: the loss is not a number: lower the learning rate")
    return float(np.mean(losses)), len(hard)
