"""Trains a model of association on logged samples, or looks through them first.

    python -m trackweave.association.training.train_assoc --data DIR [DIR …] --inspect [--json] [--picture FILE.svg]
    python -m trackweave.association.training.train_assoc --data DIR [DIR …] --output TRAINING
        [--epochs 20] [--batch-size 32] [--lr 0.002] [--val-split 0.2] [--device auto] [--seed 0] [--resume]
        [--start CHECKPOINT|default] …

Exit codes: 0 done (inspection: usable), 1 something is not, 2 bad usage. Inspection needs no torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trackweave.association.dataset import DataSettings, SceneStore, load_samples
from trackweave.association.inspection import inspect_samples
from trackweave.association.inspection_text import render_text
from trackweave.association.training.settings import AugmentSettings, TrainSettings
from trackweave.errors import MissingExtraError, SettingError, TrackweaveError

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
    from trackweave.association.training.progress import TrainingDisplay

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
        first = error.errors()[0]
        flag = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        raise SettingError(f"{flag}: {first['msg']}, not {first['input']!r}") from None


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
