"""`train`: from a store of frames to a checkpoint and its report.

A training leaves `best.pt` (the best epoch by validation loss, a copy of its own), `last.pt` (to resume from),
`history.json` and `report.html` in its folder. Every epoch draws its chance from the seed and its own number, so a
training that was interrupted and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trackweave.association.dataset import SceneStore, check_enough, iterate_batches
from trackweave.association.models.associator import Associator, AssociatorShape
from trackweave.association.training.batches import Batch, make_batch
from trackweave.association.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from trackweave.association.training.metrics import Measures, association_loss, measure
from trackweave.association.training.settings import TrainSettings
from trackweave.errors import ArtifactError, SettingError, TrackweaveError
from trackweave.storage.files import write_json

BEST, LAST, HISTORY, NAN = "best.pt", "last.pt", "history.json", "nan_batch.json"
MEAN_WARMUP = 10
"""Steps after which the mean of the weights begins to reach back as far as it is asked to."""
Told = Callable[[int, dict[str, Any]], None]
"""Is told of every epoch that ends."""
Stepped = Callable[[int, int], None]
"""Is told of every step: how many are done in this epoch, of how many."""


@dataclass(frozen=True)
class Trained:
    """Where a training's results lie, and what they are.

    Attributes:
        directory: its folder.
        best: the best checkpoint.
        measures: of the best epoch on the validation videos.
        epochs: what happened in each epoch.
    """

    directory: Path
    best: Path
    measures: Measures
    epochs: list[dict[str, Any]]


def split_by_sequence(store: SceneStore, share: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of videos to train on and to validate on: at least one each, never parts of one video in both.

    Raises:
        ArtifactError: there is only one video.
    """
    check_enough(store)
    names = [store.sequences[number] for number in np.random.default_rng(seed).permutation(len(store.sequences))]
    held = min(max(1, round(share * len(names))), len(names) - 1)
    return tuple(sorted(names[held:])), tuple(sorted(names[:held]))


def train(
    store: SceneStore,
    output: Path | str,
    settings: TrainSettings | None = None,
    *,
    resume: bool = False,
    start_from: Associator | None = None,
    validation: tuple[str, ...] | None = None,
    only: NDArray[np.int64] | None = None,
    told: Told | None = None,
    stepped: Stepped | None = None,
) -> Trained:
    """Trains a model.

    Args:
        store: frames with labels.
        output: folder of the results.
        settings: how.
        resume: go on where a training in this folder was interrupted; settings and data must be the same.
        start_from: a model whose weights are the beginning.
        validation: names of the videos that are held out; None: `settings.val_split` of them by chance.
        only: frames of the store that may be trained on, see `mining.hard_frames`; None: all.
        told: is told of every epoch.
        stepped: is told of every step.

    Raises:
        ArtifactError: too little data, or nothing to resume.
        SettingError: no such device, a beginning of another shape, or other settings than those of the training that is
            resumed.
        TrackweaveError: the loss is not a number; the batch's frames are in `nan_batch.json`.
    """
    how = settings or TrainSettings()
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    run = _Run(store, output, how, validation, start_from)
    if only is not None:
        run.frames = np.intersect1d(run.frames, only)
    if resume:
        run.resume()
    elif (output / LAST).exists():
        raise SettingError(f"{output}: holds a training already: --resume goes on with it, or choose another folder")
    while run.epoch < how.epochs and run.waited < how.patience:
        run.one_epoch(stepped)
        if told is not None:
            told(run.epoch, run.epochs[-1])
    return run.finish()


def pick_device(name: str) -> torch.device:
    """The device by name; `auto` is CUDA where there is one.

    Raises:
        SettingError: CUDA is asked for and not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError("device cuda: torch finds no CUDA device: --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class Learner:
    """A model that learns from one batch after another, and the running mean of its weights.

    Attributes:
        model: the newest weights.
        mean: their mean, which is what a training gives: it errs less than any of those that it is the mean of (Polyak
            and Juditsky, SIAM J. Control Optim. 30, 1992). Without `how.average` the newest ones themselves.
        optimizer: AdamW.
        steps: taken so far.
    """

    def __init__(self, model: Associator, how: TrainSettings) -> None:
        self.model = model
        self.mean = copy.deepcopy(model) if how.average else model
        self.how = how
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=how.lr, weight_decay=how.weight_decay, fused=True)
        self.steps = 0

    def learn(self, batch: Batch, rate: float) -> float:
        """Takes one step; `rate` is the learning rate after the warm-up. Returns the loss; no step when it is none."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1.0, (self.steps + 1) / max(1, self.how.warmup))
        loss = association_loss(self.model(*batch.inputs), batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.how.clip)
        self.optimizer.step()
        self.steps += 1
        if self.how.average:
            kept = min(self.how.average, self.steps / (self.steps + MEAN_WARMUP))
            with torch.no_grad():
                for mean, newest in zip(self.mean.parameters(), self.model.parameters(), strict=True):
                    mean.lerp_(newest, 1 - kept)
        return value


class _Run:
    """A training under way."""

    def __init__(
        self,
        store: SceneStore,
        output: Path,
        how: TrainSettings,
        validation: tuple[str, ...] | None,
        start_from: Associator | None,
    ) -> None:
        self.store, self.output, self.how = store, output, how
        self.device = pick_device(how.device)
        if validation is None:
            self.training, self.validation = split_by_sequence(store, how.val_split, how.seed)
        else:
            self.validation = validation
            self.training = tuple(name for name in store.sequences if name not in validation)
        if not self.training or not self.validation:
            raise ArtifactError("training and validation need at least one video each")
        self.frames, self.held = store.of_sequences(self.training), store.of_sequences(self.validation)
        torch.manual_seed(how.seed)
        shape = AssociatorShape(
            width=how.width,
            layers=how.layers,
            use_history=how.use_history,
            use_pairs=how.use_pairs,
            use_unmatched=how.use_unmatched,
        )
        model = Associator(shape)
        if start_from is not None:
            if start_from.shape != shape:
                raise SettingError(f"the model to begin with has another shape: {start_from.shape}, not {shape}")
            model.load_state_dict(start_from.state_dict())
        self.learner = Learner(model.to(self.device), how)
        self.epoch = self.waited = 0
        self.best_loss = math.inf
        self.epochs: list[dict[str, Any]] = []

    def one_epoch(self, stepped: Stepped | None) -> None:
        started = time.perf_counter()
        rng = np.random.default_rng([self.how.seed, self.epoch])
        batches = list(iterate_batches(self.frames, self.store.sizes(), self.how.batch_size, rng))
        self.learner.model.train()
        losses = []
        for number, frames in enumerate(batches):
            losses.append(self._one_step(frames, rng, len(batches)))
            if stepped is not None:
                stepped(number + 1, len(batches))
        self.epoch += 1
        measures = measure(self.learner.mean, self.store, self.held)
        seconds = time.perf_counter() - started
        self.epochs.append(
            {
                "epoch": self.epoch,
                "loss": float(np.mean(losses)),
                "val_loss": measures.loss,
                "precision": measures.precision,
                "recall": measures.recall,
                "threshold": measures.threshold,
                "lr": self._rate(len(batches)),
                "seconds": round(seconds, 2),
                "frames_per_second": round(len(self.frames) / seconds, 1),
            }
        )
        self.waited += 1
        if measures.loss < self.best_loss:
            self.best_loss, self.waited = measures.loss, 0
            save_checkpoint(self.output / BEST, self._checkpoint(measures))
        save_checkpoint(self.output / LAST, self._checkpoint(measures, progress=True))
        write_json(self.output / HISTORY, self.epochs)

    def _rate(self, steps_per_epoch: int) -> float:
        total = max(1, self.how.epochs * steps_per_epoch)
        return self.how.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, self.learner.steps / total)))

    def _one_step(self, frames: NDArray[np.int64], rng: np.random.Generator, steps_per_epoch: int) -> float:
        batch, _ = make_batch(self.store, frames, self.device, self.how.augment, rng)
        value = self.learner.learn(batch, self._rate(steps_per_epoch))
        if not math.isfinite(value):
            self._stop_at_nan(frames)
        return value

    def _stop_at_nan(self, frames: NDArray[np.int64]) -> None:
        store = self.store
        named = [
            {"sequence": store.sequences[store.sequence[frame]], "frame_idx": int(store.frame_idx[frame])}
            for frame in frames.tolist()
        ]
        write_json(self.output / NAN, named)
        raise TrackweaveError(
            f"epoch {self.epoch + 1}: the loss is not a number; the batch's frames are in {self.output / NAN}: "
            "look at them, or lower --lr"
        )

    def _checkpoint(self, measures: Measures, *, progress: bool = False) -> Checkpoint:
        facts = {
            **self.store.facts,
            "training_sequences": list(self.training),
            "validation_sequences": list(self.validation),
            "epoch": self.epoch,
            "measures": json.loads(json.dumps(measures.to_json())),
            "settings": self.how.model_dump(mode="json"),
            "parameters": sum(part.numel() for part in self.learner.mean.parameters()),
        }
        state: dict[str, Any] | None = None
        if progress:
            state = {
                "newest": self.learner.model.state_dict(),
                "optimizer": self.learner.optimizer.state_dict(),
                "epoch": self.epoch,
                "step": self.learner.steps,
                "waited": self.waited,
                "best_loss": self.best_loss,
                "epochs": self.epochs,
            }
        return Checkpoint(self.learner.mean, measures.threshold, facts, state)

    def resume(self) -> None:
        """Takes up the state of `last.pt`."""
        path = self.output / LAST
        if not path.exists():
            raise ArtifactError(f"{path}: there is no training to resume here")
        found = load_checkpoint(path, self.device)
        if found.progress is None:
            raise ArtifactError(f"{path}: not the checkpoint of a training under way")
        if found.facts.get("fingerprint") != self.store.facts.get("fingerprint"):
            raise SettingError(f"{path}: was trained on other samples; choose another folder")
        before = TrainSettings.model_validate(found.facts["settings"])
        changed = [
            name
            for name in TrainSettings.model_fields
            if name not in ("device", "patience") and getattr(before, name) != getattr(self.how, name)
        ]
        if changed:
            raise SettingError(f"{path}: was trained with other settings ({', '.join(changed)}); choose another folder")
        learner, mean = self.learner, found.model.state_dict()
        learner.mean.load_state_dict(mean)
        learner.model.load_state_dict(found.progress.get("newest", mean))
        learner.optimizer.load_state_dict(found.progress["optimizer"])
        self.epoch, learner.steps = int(found.progress["epoch"]), int(found.progress["step"])
        self.waited, self.best_loss = int(found.progress["waited"]), float(found.progress["best_loss"])
        self.epochs = list(found.progress["epochs"])

    def finish(self) -> Trained:
        """Measures the best epoch once more and writes the report."""
        from trackweave.association.training.report import write_report

        best = load_checkpoint(self.output / BEST, self.device)
        measures = measure(best.model, self.store, self.held)
        write_report(self.output / "report.html", best, measures, self.epochs)
        return Trained(self.output, self.output / BEST, measures, self.epochs)
