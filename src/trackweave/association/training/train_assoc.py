"""Trains a model of association on logged samples, or inspects them first.

    python -m trackweave.association.training.train_assoc [--data DIR [DIR …]] --inspect [--json] [--picture FILE.svg]
    python -m trackweave.association.training.train_assoc --data DIR [DIR …] --output TRAINING
        [--epochs 20] [--batch-size 32] [--lr 0.002] [--val-split 0.2] [--device auto] [--seed 0] [--resume]
        [--start CHECKPOINT|default] …

In a checkout `training/train_assoc.py` is the same. Without `--data`, `--inspect` reads the folder that
`TRANSFORMER_LOG_DIR` names.

Exit codes: 0 success (inspection: usable), 1 failure, 2 bad usage, 130 Ctrl-C. Inspection needs no torch.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from trackweave.association.settings import ENOUGH_TO_START, AugmentSettings, DataSettings, TrainSettings, pairs_advice
from trackweave.errors import MissingExtraError, SettingError
from trackweave.options.commands import command_of, run_command
from trackweave.options.flags import with_settings
from trackweave.options.schema import Schema, short_flags_of
from trackweave.options.sources import ResolvedSettings
from trackweave.progress import standard_error
from trackweave.storage.files import refuse_overwriting

if TYPE_CHECKING:
    from trackweave.association.dataset import TrainingSet
    from trackweave.association.training.loop import ClosedLoop, EpochCallback, StepCallback, TrainingResult
    from trackweave.association.training.metrics import EpochRecord

TRAIN = Schema(("train", "data"), (*short_flags_of("train"), *short_flags_of("data")))

LOG_DIR_VARIABLE = "TRANSFORMER_LOG_DIR"
"""Where the tracker logs samples: what `--inspect` reads when no folder is named."""
DEFAULT = "default"
"""`--start` with the package's own model."""
START_DEFAULTS = {"lr": 1.5e-3, "average": 0.999}
"""Settings, unless given, of a training that starts from a model."""
START_HELP = (
    f"a model to begin with, or `{DEFAULT}`: the one of the package; then "
    + ", ".join(f"--{name} is {value:g}" for name, value in START_DEFAULTS.items())
    + " unless given"
)
SHAPE_SETTINGS = ("width", "layers", "use_history", "use_pairs", "use_unmatched")
"""Settings that are, unless given, those of the model that a training starts from."""


@dataclass(frozen=True)
class TrainingOptions:
    """What a training is asked to do.

    Attributes:
        settings: hyperparameters.
        data: which samples and labels.
        explicit: names of the fields of `settings` that were set explicitly.
        resume: continue an interrupted training.
        overwrite: remove a training that is in the folder.
        start: checkpoint to start from, or `DEFAULT`; None: random weights.
        cache: NPZ file to keep the training set in.
        closed_loop: videos that decide which epoch is the best, by the threshold of the start; None: the loss does.
    """

    settings: TrainSettings = field(default_factory=TrainSettings)
    data: DataSettings = field(default_factory=DataSettings)
    explicit: frozenset[str] = frozenset()
    resume: bool = False
    overwrite: bool = False
    start: Path | None = None
    cache: Path | None = None
    closed_loop: Callable[[float], ClosedLoop] | None = None


def print_inspection(data: Sequence[Path], picture: Path | None, *, as_json: bool) -> None:
    """Prints what samples hold, and draws it.

    Args:
        data: folders of samples; none: the folder that `TRANSFORMER_LOG_DIR` names, where the tracker logged them.
        picture: an SVG of the distributions.
        as_json: the report as JSON.

    Raises:
        Exit: with code 1, when something is not usable.
        SettingError: no folder is named.
    """
    from trackweave.association.inspection import inspect_samples, render_text

    logged = os.environ.get(LOG_DIR_VARIABLE)
    folders = data or ([Path(logged)] if logged else [])
    if not folders:
        raise SettingError(f"which samples? name their folder, or set {LOG_DIR_VARIABLE}")
    report = inspect_samples(*folders)
    if picture is not None:
        report.write_figure(picture)
    typer.echo(json.dumps(report.to_json(), indent=1) if as_json else render_text(report))
    if not report.usable:
        raise typer.Exit(1)


def training_command(train: Callable[[Sequence[Path], Path, TrainingOptions], str]) -> Callable[..., None]:
    """The command of training, over what trains: on samples, or on runs as well where these can be opened."""

    @with_settings(TRAIN)
    def train_command(
        settings: ResolvedSettings,
        data: Annotated[
            list[Path] | None,
            typer.Option(
                "--data",
                metavar="DIR...",
                help=f"folders of samples, answered runs, one .npz cache [--inspect without it: ${LOG_DIR_VARIABLE}]",
            ),
        ] = None,
        output: Annotated[
            Path | None, typer.Option("-o", "--output", metavar="DIR", help="folder of the training")
        ] = None,
        resume: Annotated[
            bool, typer.Option("--resume", help="go on where the training in --output was interrupted")
        ] = False,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="remove a training that --output holds; other files in it stay")
        ] = False,
        start: Annotated[Path | None, typer.Option("--start", metavar="CHECKPOINT|default", help=START_HELP)] = None,
        cache: Annotated[
            Path | None, typer.Option("--cache", metavar="FILE.npz", help="keep what was read, for the next training")
        ] = None,
        no_augment: Annotated[bool, typer.Option("--no-augment", help="frames as they are")] = False,
        inspect: Annotated[
            bool, typer.Option("--inspect", help="report what the samples hold; exit 1 when not usable")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="the report of --inspect as JSON")] = False,
        picture: Annotated[
            Path | None,
            typer.Option(metavar="FILE.svg", help="with --inspect: draw distributions of features and cost"),
        ] = None,
    ) -> None:
        """Train a model on samples: --data DIR… --output TRAINING; or --inspect them first."""
        if inspect:
            print_inspection(data or (), picture, as_json=as_json)
            return
        if not data:
            raise SettingError("which samples? give --data DIR, or --inspect to look at the samples only")
        if output is None:
            raise SettingError("where to? give --output DIR, or --inspect to look at the samples only")
        if resume and overwrite:
            raise SettingError("--resume keeps a training and --overwrite removes it: give one of them")
        training = settings[TrainSettings]
        if no_augment:
            training = training.model_copy(update={"augment": AugmentSettings.none()})
        explicit = frozenset(key.removeprefix("train.") for key in settings.provided if key.startswith("train."))
        options = TrainingOptions(training, settings[DataSettings], explicit, resume, overwrite, start, cache)
        typer.echo(train(data, output, options))

    return train_command


def main(arguments: Sequence[str] | None = None, *, prog: str = "train_assoc") -> int:
    """Runs the command; returns the exit code."""
    return run_command(command_of(training_command(run_training)), arguments, prog=prog)


def run_training(data: Sequence[Path], output: Path, options: TrainingOptions) -> str:
    """Trains with a progress bar, and returns the result in a few lines.

    Args:
        data: folders of samples, or one `.npz` cache.
        output: folder of the training.
        options: hyperparameters, samples and start.

    Raises:
        MissingExtraError: torch is missing.
        TrackweaveError: as `load_samples` and `train`.
    """
    with TrainingDisplay(options.settings.epochs) as display:
        result = trained(data, output, options, display.on_epoch_end, display.on_step)
    metrics = result.metrics
    kept = ""
    if result.start_hota is not None:
        from trackweave.association.training.loop import CHANCE

        best = max(record["hota"] for record in result.epochs)
        is_better = best > result.start_hota + CHANCE
        found = f"{best:.2f} after" if is_better else f"{best:.2f} at best: not better by {CHANCE:g}, kept the start"
        kept = f"HOTA of {', '.join(result.held_out)}, held out and tracked again: {result.start_hota:.2f}, {found}\n"
    elif options.start is not None and all(record["val_loss"] > metrics.loss for record in result.epochs):
        kept = "no epoch was better on held-out videos than the model it started from: that is the result\n"
    return (
        f"{result.frames} frames of {result.videos} videos, {len(result.epochs)} epochs; on held-out "
        f"videos precision {metrics.precision:.3f} and recall {metrics.recall:.3f} at {metrics.threshold:.2f}\n{kept}"
        f"checkpoint: {result.best}\nreport: {result.directory / 'report.html'}"
    )


def trained(
    data: Sequence[Path],
    output: Path,
    options: TrainingOptions,
    on_epoch_end: EpochCallback | None = None,
    on_step: StepCallback | None = None,
) -> TrainingResult:
    """Reads the samples and trains; arguments and errors as of `run_training`, callbacks as of `train`."""
    try:
        from trackweave.association.training.checkpoint import default_checkpoint, load_checkpoint
        from trackweave.association.training.loop import BEST, LAST, train
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("torch", "train") from None

    settings, model, validation = options.settings, None, None
    if options.start is not None:
        if not options.resume:
            refuse_overwriting([output / BEST, output / LAST], [options.start])
        start = load_checkpoint(default_checkpoint() if str(options.start) == DEFAULT else options.start)
        model = start.model
        validation = None if options.closed_loop is None else options.closed_loop(start.threshold)
        shape = {name: getattr(model.shape, name) for name in SHAPE_SETTINGS if name not in options.explicit}
        defaults = {name: value for name, value in START_DEFAULTS.items() if name not in options.explicit}
        settings = settings.model_copy(update={**shape, **defaults})
    training_set = _training_set(data, options)
    if training_set.matched_pairs < ENOUGH_TO_START:
        matched = training_set.matched_pairs
        typer.echo(f"warning: {matched:,} matched pairs are {pairs_advice(matched)}", err=True)
    return train(
        training_set,
        output,
        settings,
        resume=options.resume,
        overwrite=options.overwrite,
        start_from=model,
        validation=validation,
        on_epoch_end=on_epoch_end,
        on_step=on_step,
    )


def _training_set(data: Sequence[Path], options: TrainingOptions) -> TrainingSet:
    from trackweave.association.dataset import TrainingSet, load_samples

    cache = options.cache
    if len(data) == 1 and data[0].suffix == ".npz":
        return TrainingSet.load(data[0])
    if cache is not None and cache.exists():
        raise SettingError(f"{cache}: is there already: train from it (--data {cache}), or remove it")
    training_set = load_samples(data, options.data)
    if cache is not None:
        training_set.save(cache)
    return training_set


def epoch_line(number: int, record: EpochRecord, epochs: int | None = None) -> str:
    """An epoch in one line; `epochs` is how many there will be, None = unknown."""
    hota = record.get("hota")
    position = f"epoch {number}" if epochs is None else f"epoch {number} of {epochs}"
    return (
        f"{position}: loss {record['loss']:.4f}, validation {record['val_loss']:.4f}, "
        f"precision {record['precision']:.3f}, recall {record['recall']:.3f}, "
        f"{record['frames_per_second']:.0f} frames/s{f', HOTA {hota:.2f}' if hota is not None else ''}"
    )


class TrainingDisplay:
    """Shows the progress of a training: a bar per epoch on a terminal, one line per epoch elsewhere.

    Args:
        epochs: how many there will be.
    """

    def __init__(self, epochs: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._stream = standard_error()
        self._epochs = epochs
        self._done = 0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(file=self._stream)) if self._stream.isatty() else None
        self._task = None if self._bar is None else self._bar.add_task(self._label(), total=None)

    def _label(self) -> str:
        return f"epoch {min(self._done + 1, self._epochs)} of {self._epochs}"

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_step(self, done: int, total: int) -> None:
        """Shows how many steps of this epoch are done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=self._label(), completed=done, total=total)

    def on_epoch_end(self, number: int, record: EpochRecord) -> None:
        """Prints an epoch's line."""
        self._done = number
        line = epoch_line(number, record, self._epochs)
        if self._bar is not None:
            self._bar.console.print(line)
        else:
            print(line, file=self._stream, flush=True)


if __name__ == "__main__":
    sys.exit(main())
