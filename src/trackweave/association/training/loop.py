"""`train`: from a training set to a checkpoint and its report.

A training leaves `best.pt` (the best epoch by validation loss, a copy of its own), `last.pt` (to resume from),
`history.json` and `report.html` in its folder. Every epoch seeds its random numbers with the seed and its own number,
so a training that was interrupted and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from trackweave.association.dataset import TrainingSet, require_enough_data
from trackweave.association.models.associator import Associator, AssociatorShape
from trackweave.association.settings import TrainSettings
from trackweave.association.training.batches import TrainingBatch, iterate_batches, make_batch
from trackweave.association.training.checkpoint import (
    ModelCheckpoint,
    ModelMetadata,
    TrainingProgress,
    load_checkpoint,
    save_checkpoint,
)
from trackweave.association.training.metrics import AssociationMetrics, EpochRecord, association_loss, compute_metrics
from trackweave.association.training.report import write_report
from trackweave.errors import ArtifactError, SettingError, TrackweaveError, argument, shortened, shortened_line, wording
from trackweave.storage.files import locked_folder, remove_leftovers, write_json

BEST, LAST, HISTORY, REPORT, NAN_BATCH = "best.pt", "last.pt", "history.json", "report.html", "nan_batch.json"
AVERAGE_WARMUP = 10
"""Steps after which the mean of the weights begins to reach back as far as `TrainSettings.average` says."""
START_SHARE = 0.6
"""Of the start in the weights of a model that a `ClosedLoop` judges; the rest is of the learned ones. Between two such
models lie better ones than either, on footage unlike what was learned from most of all (Wortsman et al., Robust
fine-tuning of zero-shot models, CVPR 2022)."""

EpochCallback = Callable[[int, EpochRecord], None]
"""Called after every epoch with its number, from 1, and its record."""
StepCallback = Callable[[int, int], None]
"""Called after every step with the steps of this epoch that are done, and how many it has."""
CHANCE = 1.0
"""Points of HOTA by which a model must be better than the start in a `ClosedLoop`: less is chance, as when two people
are mixed up a little later."""


@dataclass(frozen=True)
class ClosedLoop:
    """Videos that the tracker goes over again with a model in its loop: what decides which epoch is the best.

    The loss does not: a model that is better frame by frame can make the one mistake that costs a whole track.

    Attributes:
        videos: names of the videos, which are held out.
        hota: of the videos with a model, in percent.
        threshold: of all models; it is that of the start, because partial labels cannot calibrate one.
    """

    videos: tuple[str, ...]
    hota: Callable[[ModelCheckpoint], float]
    threshold: float


@dataclass(frozen=True)
class TrainingResult:
    """Where a training's results lie, and what they are.

    Attributes:
        directory: its folder.
        best: the best checkpoint.
        metrics: of the best epoch on the validation videos.
        epochs: a record of each epoch.
        frames: of the training set.
        videos: of the training set.
        held_out: names of the validation videos.
        start_hota: of the model that it started from, in a `ClosedLoop`; None: there was none.
    """

    directory: Path
    best: Path
    metrics: AssociationMetrics
    epochs: list[EpochRecord]
    frames: int
    videos: int
    held_out: tuple[str, ...]
    start_hota: float | None = None


def split_by_sequence(training_set: TrainingSet, share: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of videos to train on and to validate on: at least one each, never parts of one video in both.

    Raises:
        ArtifactError: there is only one video.
    """
    require_enough_data(training_set)
    sequences = training_set.sequences
    names = [sequences[number] for number in np.random.default_rng(seed).permutation(len(sequences))]
    held_out = min(max(1, round(share * len(names))), len(names) - 1)
    return tuple(sorted(names[held_out:])), tuple(sorted(names[:held_out]))


def train(
    training_set: TrainingSet,
    output: Path | str,
    settings: TrainSettings | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    start_from: Associator | None = None,
    validation: tuple[str, ...] | ClosedLoop | None = None,
    frames: NDArray[np.int64] | None = None,
    on_epoch_end: EpochCallback | None = None,
    on_step: StepCallback | None = None,
) -> TrainingResult:
    """Trains a model.

    Args:
        training_set: frames with labels.
        output: folder of the results.
        settings: hyperparameters.
        resume: continue an interrupted training in this folder; settings and data must be the same.
        overwrite: a training that the folder holds is removed first; other files stay.
        start_from: a model whose weights the training starts from; it is the result where no epoch is better on the
            held-out videos.
        validation: names of the videos that are held out; None: `settings.val_split` of them at random. A `ClosedLoop`:
            the best epoch is that of the highest HOTA there, instead of the lowest loss.
        frames: positions of the frames that may be trained on, see `rounds.hard_frames`; None: all.
        on_epoch_end: called after every epoch.
        on_step: called after every step.

    Raises:
        ArtifactError: too little data, nothing to resume, a damaged training, or a folder that cannot be written or
            that another process trains in.
        SettingError: no such device, a start model of another shape, or other settings than those of the training that
            is resumed.
        TrackweaveError: the loss is not a number; the batch's frames are in `nan_batch.json`.
    """
    settings = settings or TrainSettings()
    output = Path(output)
    with locked_folder(output):
        training = _Training(training_set, output, settings, validation, start_from)
        if frames is not None:
            training.frames = np.intersect1d(training.frames, frames)
        if resume:
            training.resume()
        elif (output / LAST).exists():
            if not overwrite:
                ways = wording(
                    "resume=True goes on with it, overwrite=True removes it",
                    "--resume goes on with it, --overwrite removes it",
                )
                raise SettingError(f"{output}: holds a training already: {ways}, or choose another folder")
            for name in (BEST, HISTORY, REPORT, NAN_BATCH, LAST):
                (output / name).unlink(missing_ok=True)
        remove_leftovers([output])
        if start_from is not None and not resume:
            training.measure_start()
        try:
            while training.epoch < settings.epochs and training.waited < settings.patience:
                training.run_epoch(on_step)
                if on_epoch_end is not None:
                    on_epoch_end(training.epoch, training.epochs[-1])
            return training.finish()
        except KeyboardInterrupt as interrupt:
            again = wording("the same call with resume=True", "the same command with --resume")
            kept = f"{again} goes on" if (output / LAST).exists() else "no epoch was finished"
            interrupt.add_note(f"{output}: {kept}")
            raise


def pick_device(name: str) -> torch.device:
    """The device by name; `auto` is CUDA where there is one.

    Raises:
        SettingError: CUDA is asked for and not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError(f"device cuda: torch finds no CUDA device: {argument('device', 'cpu')}")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class Learner:
    """A model with its optimizer and the running mean of its weights.

    Attributes:
        model: the newest weights.
        mean: their running mean, the result of a training: it generalises better than the newest weights (Polyak and
            Juditsky, SIAM J. Control Optim. 30, 1992). Without `settings.average` the newest weights themselves.
        settings: hyperparameters.
        optimizer: AdamW.
        steps: taken so far.
    """

    def __init__(self, model: Associator, settings: TrainSettings) -> None:
        self.model = model
        self.mean = copy.deepcopy(model) if settings.average else model
        self.settings = settings
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.steps = 0

    def step(self, batch: TrainingBatch, lr: float) -> float:
        """Takes one step with a learning rate (`lr` after the warm-up); returns the loss.

        Without a step when the loss is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr * min(1.0, (self.steps + 1) / max(1, self.settings.warmup))
        loss = association_loss(self.model(*batch.inputs), batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.steps += 1
        if self.settings.average:
            kept = min(self.settings.average, self.steps / (self.steps + AVERAGE_WARMUP))
            with torch.no_grad():
                for mean, newest in zip(self.mean.parameters(), self.model.parameters(), strict=True):
                    mean.lerp_(newest, 1 - kept)
        return value


def model_metadata(
    learner: Learner, training_set: TrainingSet, epoch: int, metrics: AssociationMetrics
) -> ModelMetadata:
    """Metadata of a checkpoint, without the names of the videos."""
    return {
        **cast(ModelMetadata, training_set.metadata),
        "epoch": epoch,
        "measures": json.loads(json.dumps(metrics.to_json())),
        "settings": learner.settings.model_dump(mode="json"),
        "parameters": sum(part.numel() for part in learner.mean.parameters()),
    }


class _Training:
    """A training in progress.

    Attributes:
        frames: positions of the frames that are trained on.
        epoch: epochs that are done.
        waited: epochs since the best one.
        epochs: a record of each.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        output: Path,
        settings: TrainSettings,
        validation: tuple[str, ...] | ClosedLoop | None,
        start_from: Associator | None,
    ) -> None:
        self._set, self._output, self._settings = training_set, output, settings
        self._device = pick_device(settings.device)
        self._loop = validation if isinstance(validation, ClosedLoop) else None
        if validation is None:
            self._train_videos, self._val_videos = split_by_sequence(training_set, settings.val_split, settings.seed)
        else:
            self._val_videos = validation.videos if isinstance(validation, ClosedLoop) else validation
            self._train_videos = tuple(name for name in training_set.sequences if name not in self._val_videos)
        if not self._train_videos or not self._val_videos:
            raise ArtifactError("training and validation need at least one video each")
        self.frames = training_set.frames_of(self._train_videos)
        self._val_frames = training_set.frames_of(self._val_videos)
        torch.manual_seed(settings.seed)
        self._learner = Learner(_new_model(settings, start_from).to(self._device), settings)
        self.epoch = self.waited = 0
        self._best_loss = math.inf
        self._start = None if self._loop is None else copy.deepcopy(self._learner.model)
        self._start_hota: float | None = None
        self.epochs: list[EpochRecord] = []

    def measure_start(self) -> None:
        """Keeps the model that the training starts from until an epoch is better on the held-out videos."""
        metrics = compute_metrics(self._model(), self._set, self._val_frames)
        self._best_loss = metrics.loss
        if self._loop is not None:
            self._start_hota = round(self._loop.hota(self._checkpoint(metrics)), 3)
            self._best_loss = -self._start_hota - CHANCE
        save_checkpoint(self._output / BEST, self._checkpoint(metrics))

    def _model(self) -> Associator:
        """What has been learned so far: the mean of the weights, in a closed loop with its share of the start."""
        if self._start is None or self._learner.steps == 0:
            return self._learner.mean
        model = copy.deepcopy(self._learner.mean)
        with torch.no_grad():
            for weights, before in zip(model.parameters(), self._start.parameters(), strict=True):
                weights.lerp_(before, START_SHARE)
        return model

    def run_epoch(self, on_step: StepCallback | None) -> None:
        started = time.perf_counter()
        rng = np.random.default_rng([self._settings.seed, self.epoch])
        batches = list(iterate_batches(self.frames, self._set.frame_sizes(), self._settings.batch_size, rng))
        self._learner.model.train()
        losses = []
        for number, frames in enumerate(batches):
            losses.append(self._step(frames, rng, len(batches)))
            if on_step is not None:
                on_step(number + 1, len(batches))
        self.epoch += 1
        metrics = compute_metrics(self._model(), self._set, self._val_frames)
        seconds = time.perf_counter() - started
        self.epochs.append(
            {
                "epoch": self.epoch,
                "loss": float(np.mean(losses)),
                "val_loss": metrics.loss,
                "precision": metrics.precision,
                "recall": metrics.recall,
                "threshold": metrics.threshold,
                "lr": self._learning_rate(len(batches)),
                "seconds": round(seconds, 2),
                "frames_per_second": round(len(self.frames) / seconds, 1),
            }
        )
        self._save(metrics)

    def _step(self, frames: NDArray[np.int64], rng: np.random.Generator, steps_per_epoch: int) -> float:
        batch, _ = make_batch(self._set, frames, self._device, self._settings.augment, rng)
        loss = self._learner.step(batch, self._learning_rate(steps_per_epoch))
        if not math.isfinite(loss):
            self._stop_at_nan(frames)
        return loss

    def _learning_rate(self, steps_per_epoch: int) -> float:
        total = max(1, self._settings.epochs * steps_per_epoch)
        return self._settings.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, self._learner.steps / total)))

    def _stop_at_nan(self, frames: NDArray[np.int64]) -> None:
        data = self._set
        named = [
            {"sequence": data.sequences[data.sequence[frame]], "frame_idx": int(data.frame_idx[frame])}
            for frame in frames.tolist()
        ]
        write_json(self._output / NAN_BATCH, named)
        raise TrackweaveError(
            f"epoch {self.epoch + 1}: the loss is not a number; the batch's frames are in {self._output / NAN_BATCH}: "
            f"look at them, or lower {argument('lr')}"
        )

    def _save(self, metrics: AssociationMetrics) -> None:
        self.waited += 1
        loss, checkpoint = metrics.loss, self._checkpoint(metrics)
        if self._loop is not None:
            self.epochs[-1]["hota"] = round(self._loop.hota(checkpoint), 3)
            loss = -self.epochs[-1]["hota"]
        if loss < self._best_loss:
            self._best_loss, self.waited = loss, 0
            save_checkpoint(self._output / BEST, checkpoint)
        save_checkpoint(self._output / LAST, self._checkpoint(metrics, self._progress()))
        write_json(self._output / HISTORY, self.epochs)

    def _checkpoint(self, metrics: AssociationMetrics, progress: TrainingProgress | None = None) -> ModelCheckpoint:
        learner = self._learner
        metadata: ModelMetadata = {
            **cast(ModelMetadata, self._set.metadata),
            "training_sequences": list(self._train_videos),
            "validation_sequences": list(self._val_videos),
            **model_metadata(learner, self._set, self.epoch, metrics),
        }
        if self._start_hota is not None:
            metadata["start_hota"] = self._start_hota
        threshold = metrics.threshold if self._loop is None else self._loop.threshold
        model = self._model() if progress is None else learner.mean  # which a resumed training goes on with
        return ModelCheckpoint(model, threshold, metadata, progress)

    def _progress(self) -> TrainingProgress:
        return {
            "newest": self._learner.model.state_dict(),
            "optimizer": self._learner.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self._learner.steps,
            "waited": self.waited,
            "best_loss": self._best_loss,
            "epochs": self.epochs,
        }

    def resume(self) -> None:
        """Restores the state of `last.pt`."""
        path = self._output / LAST
        if not path.exists():
            raise ArtifactError(f"{path}: there is no training to resume here")
        checkpoint = load_checkpoint(path, self._device)
        progress = checkpoint.progress
        if progress is None:
            raise ArtifactError(f"{path}: not the checkpoint of a training under way")
        if checkpoint.metadata.get("fingerprint") != self._set.metadata.get("fingerprint"):
            raise SettingError(f"{path}: was trained on other samples; choose another folder")
        try:
            self._check_settings(path, TrainSettings.model_validate(checkpoint.metadata["settings"]))
            self._restore(checkpoint.model.state_dict(), progress, checkpoint.metadata)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
            reason = shortened_line(f"{type(error).__name__}: {error}")
            raise ArtifactError(
                f"{path}: the training's state is damaged ({reason}): begin in another folder"
            ) from None

    def _check_settings(self, path: Path, settings: TrainSettings) -> None:
        changed = [
            name
            for name in TrainSettings.model_fields
            if name not in ("device", "patience") and getattr(settings, name) != getattr(self._settings, name)
        ]
        if changed:
            raise SettingError(f"{path}: was trained with other settings ({', '.join(changed)}); choose another folder")

    def _restore(self, mean: Mapping[str, torch.Tensor], progress: TrainingProgress, facts: ModelMetadata) -> None:
        """Takes over a training's state; any exception says that it is damaged."""
        learner = self._learner
        learner.mean.load_state_dict(mean)
        learner.model.load_state_dict(progress.get("newest", mean))
        _check_optimizer(learner.optimizer, progress["optimizer"])
        learner.optimizer.load_state_dict(dict(progress["optimizer"]))
        epochs = [cast(EpochRecord, dict(record)) for record in progress["epochs"]]
        numbers = [int(progress["epoch"]), int(progress["step"]), int(progress["waited"])]
        if min(numbers) < 0 or numbers[0] != len(epochs):
            raise ValueError(f"{len(epochs)} epochs are recorded, and {numbers[0]} were done")
        for record in epochs:
            for name in EpochRecord.__annotations__.keys() - ({"hota"} if self._loop is None else set()):
                if not math.isfinite(record[name]):  # type: ignore[literal-required]
                    raise ValueError(f"{name} of an epoch is not finite")
        best_loss = float(progress["best_loss"])
        if math.isnan(best_loss):
            raise ValueError("the best loss is not a number")
        self.epoch, learner.steps, self.waited = numbers
        self._best_loss, self.epochs = best_loss, epochs
        start_hota = facts.get("start_hota")
        self._start_hota = None if start_hota is None else float(start_hota)

    def finish(self) -> TrainingResult:
        """Measures the best epoch once more, and writes the report and the history.

        The history again: a training that was killed right after its last epoch was saved has one without that epoch.
        """
        write_json(self._output / HISTORY, self.epochs)
        best = load_checkpoint(self._output / BEST, self._device)
        metrics = compute_metrics(best.model, self._set, self._val_frames)
        write_report(self._output / REPORT, best, metrics, self.epochs)
        return TrainingResult(
            self._output,
            self._output / BEST,
            metrics,
            self.epochs,
            frames=len(self._set),
            videos=len(self._set.sequences),
            held_out=self._val_videos,
            start_hota=self._start_hota,
        )


def _check_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Raises `ValueError` where a saved optimizer is not of this model: torch finds out in the middle of a step."""
    groups, fresh = state["param_groups"], optimizer.state_dict()["param_groups"]
    if [set(group) for group in groups] != [set(group) for group in fresh]:
        raise ValueError("the optimizer's groups are others")
    for group, expected in zip(groups, fresh, strict=True):
        for name, value in expected.items():
            # The settings are the same, so all but the learning rate, which every step sets, has to be.
            found = group[name]
            is_same = type(found) is type(value) and found == value
            if not (isinstance(found, float) and math.isfinite(found) if name == "lr" else is_same):
                raise ValueError(f"the optimizer's {name} is {shortened(str(found))}")
    parameters = [part for group in optimizer.param_groups for part in group["params"]]
    for number, moments in state["state"].items():
        for name in ("exp_avg", "exp_avg_sq"):
            if moments[name].shape != parameters[number].shape:
                raise ValueError(f"{name} of the optimizer is of another shape")


def _new_model(settings: TrainSettings, start_from: Associator | None) -> Associator:
    """A model of the shape of the settings, with the weights of `start_from` where it is given."""
    shape = AssociatorShape(
        width=settings.width,
        layers=settings.layers,
        use_history=settings.use_history,
        use_pairs=settings.use_pairs,
        use_unmatched=settings.use_unmatched,
    )
    model = Associator(shape)
    if start_from is not None:
        if start_from.shape != shape:
            raise SettingError(f"the model to begin with has another shape: {start_from.shape}, not {shape}")
        model.load_state_dict(start_from.state_dict())
    return model
