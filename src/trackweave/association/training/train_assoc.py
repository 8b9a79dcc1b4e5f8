"""Trains a model of association on logged samples, or looks through them first.

    python -m trackweave.association.training.train_assoc --data DIR [DIR …] --inspect [--json] [--picture FILE.svg]
    python -m trackweave.association.training.train_assoc --data DIR [DIR …] --output TRAINING
        [--epochs 20] [--batch-size 32] [--lr 0.002] [--val-split 0.2] [--device auto] [--seed 0] [--resume]
        [--start CHECKPOINT|default] …

Exit codes: 0 done (inspection: usable), 1 something is not, 2 bad usage. Inspection needs no torch.

`TrainingDisplay`: a bar per epoch on a terminal, one line per epoch elsewhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trackweave.association.dataset import SceneStore, load_samples
from trackweave.association.inspection import inspect_samples, render_text
from trackweave.association.settings import DataSettings
from trackweave.association.training.settings import AugmentSettings, TrainSettings
from trackweave.errors import MissingExtraError, SettingError, TrackweaveError
from trackweave.settings import first_problem

DEFAULT = "default"
LATER = {"lr": 1.5e-3, "average": 0.999}
"""Settings of a training that begins with a model, where nobody says."""
SHAPE = ("width", "layers", "use_history", "use_pairs", "use_unmatched")
"""Settings that a model to begin with brings along."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "train_assoc") -> int:
    """Runs the command; returns the exit code."""
    parser = _parser(prog)
    given = parser.parse_args(arguments)
    if not given.inspect and given.output is None:
        parser.error("where to? give --output DIR, or --inspect to look at the samples only")
    try:
        if not given.inspect:
            print(run_training(given.data, given.output, vars(given)))
            return 0
        report = inspect_samples(*given.data)
        if given.picture is not None:
            report.write_picture(given.picture)
    except TrackweaveError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingError) else 1
    print(json.dumps(report.to_json(), indent=1) if given.json else render_text(report))
    return 0 if report.usable else 1


def run_training(data: Sequence[Path], output: Path, options: dict[str, Any]) -> str:
    """Reads the samples, trains with a progress bar, and tells the result in a few lines.

    Args:
        data: folders of samples, or one `.npz` cache.
        output: folder of the training.
        options: values of `TrainSettings`, `AugmentSettings` (`augment_NAME`) and `DataSettings` by name, None = not
            given; `resume`, `start`, `cache`, `no_augment`.

    Raises:
        MissingExtraError: torch is missing.
        TrackweaveError: as `load_samples` and `train`.
    """
    how, which = _settings(options)
    try:
        from trackweave.association.training.checkpoint import default_checkpoint, load_checkpoint
        from trackweave.association.training.loop import train
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("torch", "train") from None

    start, begin = options.get("start"), None
    if start is not None:
        begin = load_checkpoint(default_checkpoint() if str(start) == DEFAULT else start).model
        kept = {name: getattr(begin.shape, name) for name in SHAPE if options.get(name) is None}
        later = {name: value for name, value in LATER.items() if options.get(name) is None}
        how = how.model_copy(update={**kept, **later})
    store = _store(data, which, options.get("cache"))
    with TrainingDisplay(how.epochs) as display:
        found = train(
            store,
            output,
            how,
            resume=bool(options.get("resume")),
            start_from=begin,
            told=display.epoch,
            stepped=display.step,
        )
    measures = found.measures
    return (
        f"{len(store)} frames of {len(store.sequences)} videos, {len(found.epochs)} epochs; on held-out videos "
        f"precision {measures.precision:.3f} and recall {measures.recall:.3f} at {measures.threshold:.2f}\n"
        f"checkpoint: {found.best}\nreport: {found.directory / 'report.html'}"
    )


def _settings(options: dict[str, Any]) -> tuple[TrainSettings, DataSettings]:
    def chosen(model: type[TrainSettings | AugmentSettings | DataSettings], prefix: str = "") -> dict[str, Any]:
        names = {name: f"{prefix}{name}" for name in model.model_fields}
        return {name: options[key] for name, key in names.items() if options.get(key) is not None}

    try:
        if options.get("no_augment"):
            augment = AugmentSettings.none()
        else:
            augment = AugmentSettings(**chosen(AugmentSettings, "augment_"))
        return TrainSettings(**{**chosen(TrainSettings), "augment": augment}), DataSettings(**chosen(DataSettings))
    except ValidationError as error:
        problem = first_problem(error)
        flag = problem.name.replace(".", "-").replace("_", "-")
        raise SettingError(f"--{flag}: {problem.message}") from None


def _store(data: Sequence[Path], which: DataSettings, cache: Path | None) -> SceneStore:
    if len(data) == 1 and data[0].suffix == ".npz":
        return SceneStore.load(data[0])
    if cache is not None and cache.exists():
        raise SettingError(f"{cache}: is there already: train from it (--data {cache}), or remove it")
    store = load_samples(data, which)
    if cache is not None:
        store.save(cache)
    return store


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Trains a model of association, or inspects.")
    parser.add_argument(
        "--data", nargs="+", type=Path, required=True, metavar="DIR", help="folders of samples, or one .npz cache"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the training")
    parser.add_argument("--resume", action="store_true", help="go on where the training in --output was interrupted")
    parser.add_argument(
        "--start",
        type=Path,
        metavar="CHECKPOINT",
        help=f"a model to begin with, or `{DEFAULT}`: the one of the package; then "
        + ", ".join(f"--{name} is {value:g}" for name, value in LATER.items())
        + " unless given",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="FILE.npz", help="keep what was read there, for the next training"
    )
    parser.add_argument("--no-augment", action="store_true", help="frames as they are")
    parser.add_argument("--inspect", action="store_true", help="report what the samples hold; exit 1 when not usable")
    parser.add_argument("--json", action="store_true", help="the report of --inspect as JSON")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw the distributions of features and cost")
    for model, prefix in ((TrainSettings, ""), (AugmentSettings, "augment_"), (DataSettings, "")):
        for name, field in model.model_fields.items():
            if name == "augment":
                continue
            flag = f"--{prefix}{name}".replace("_", "-")
            text = f"{field.description} [default: {field.default}]"
            if field.annotation is bool:
                parser.add_argument(
                    flag, action=argparse.BooleanOptionalAction, default=None, dest=f"{prefix}{name}", help=text
                )
            else:
                kind: Any = field.annotation if field.annotation in (int, float) else str
                parser.add_argument(flag, type=kind, dest=f"{prefix}{name}", metavar=name.upper(), help=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())


class TrainingDisplay:
    """Tells what a training does.

    Args:
        epochs: how many there will be.
        stream: where to print; None = standard error.
    """

    def __init__(self, epochs: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
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

    def step(self, done: int, total: int) -> None:
        """Of this epoch so many steps are done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=self._label(), completed=done, total=total)

    def epoch(self, number: int, row: dict[str, Any]) -> None:
        """An epoch ended."""
        self._done = number
        text = (
            f"epoch {number} of {self._epochs}: loss {row['loss']:.4f}, validation {row['val_loss']:.4f}, "
            f"precision {row['precision']:.3f}, recall {row['recall']:.3f}, {row['frames_per_second']:.0f} frames/s"
        )
        if self._bar is not None:
            self._bar.console.print(text)
        else:
            print(text, file=self._stream, flush=True)
