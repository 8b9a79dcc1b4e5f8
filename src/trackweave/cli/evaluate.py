"""`trackweave evaluate`: scores of runs, files and folders against ground truth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from trackweave.errors import SettingError
from trackweave.evaluation.settings import CompareSettings, EvaluationSettings
from trackweave.options.flags import with_settings
from trackweave.options.schema import Schema, short
from trackweave.options.sources import ResolvedSettings

if TYPE_CHECKING:
    from rich.table import Table

    from trackweave.evaluation.evaluate import OnSequence, Regime


WIDE = 200
"""Columns that a table may take: a narrow terminal breaks its lines, nothing is cut off."""


class _NamedInput(NamedTuple):
    """`NAME=VALUE`, or a value alone."""

    name: str | None
    value: str


EVALUATE = Schema(
    ("evaluate", "compare"),
    flags=(
        short("--metrics", "evaluate.metrics"),
        short("--format", "evaluate.format"),
        short("--gt-format", "evaluate.gt_format"),
        short("--class", "evaluate.classes"),
        short("--class-agnostic", "evaluate.class_agnostic"),
        short("--by", "evaluate.by"),
        short("--matching", "evaluate.matching"),
        short("--level", "evaluate.level"),
        short("--sequences", "evaluate.sequences"),
        short("--missing", "evaluate.missing"),
        short("--resamples", "compare.resamples"),
        short("--confidence", "compare.confidence"),
        short("--seed", "compare.seed"),
    ),
)


@with_settings(EVALUATE)
def evaluate(
    results: Annotated[
        list[str],
        typer.Argument(
            metavar="RESULT",
            help="a run folder, MOT or KITTI text, YouTube-VIS or COCO-VID JSON, label images, or a folder of them by "
            "sequence; several, as [NAME=]PATH, are regimes",
        ),
    ],
    gt: Annotated[
        list[str], typer.Option("--gt", metavar="[NAME=]PATH", help="ground truth; one for all, or one per result")
    ],
    settings: ResolvedSettings,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol",
            metavar="[NAME=]RULE",
            help="mot15, mot17, mot20, kitti, kitti-simple, plain; of one regime or all [default: by data]",
        ),
    ] = None,
    start_fraction: Annotated[
        list[str] | None,
        typer.Option(
            "--start-fraction",
            metavar="[NAME=]F",
            help="leave out the first part of one regime or all; 0.5 = MOT17's val half",
        ),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="differences of two results, with intervals")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Score results against ground truth: HOTA, CLEAR, identity (by `trackeval`), and J and F of masks.

    Example: trackweave evaluate runs/09 --gt MOT17-09-FRCNN
    """
    from trackweave.evaluation.evaluate import Regime

    pairs = _pairs(results, gt)
    names = [name for name, _, _ in pairs]
    protocols = _by_name(protocol, names, "--protocol")
    starts = _by_name(start_fraction, names, "--start-fraction")
    regimes = []
    for (name, path, truth), rule, start in zip(pairs, protocols, starts, strict=True):
        own = {"protocol": rule, "start_fraction": start}
        values = settings[EvaluationSettings].model_dump()
        values |= {key: value for key, value in own.items() if value is not None}
        regimes.append(Regime(path, truth, name, EvaluationSettings.checked(values)))
    idle = next((one for key, one in settings.provided.items() if key.startswith("compare.")), None)
    if not compare and idle is not None and idle.origin.startswith("flag"):
        raise SettingError(f"{idle.origin} has no effect without --compare")
    if compare:
        _compare(regimes, settings[CompareSettings], as_json)
    else:
        _score(regimes, as_json)


def _score(regimes: Sequence[Regime], as_json: bool) -> None:
    from trackweave.evaluation.compare import evaluation_tables
    from trackweave.evaluation.evaluate import evaluate_regimes

    with _Progress() as on_sequence:
        evaluation = evaluate_regimes(regimes, on_sequence)
    if as_json:
        typer.echo(json.dumps(evaluation.to_json(), allow_nan=False))
    else:
        _print_tables(evaluation_tables(evaluation))
    _print_notes(note for regime in evaluation.regimes for note in regime.notes)


def _compare(regimes: Sequence[Regime], settings: CompareSettings, as_json: bool) -> None:
    from dataclasses import replace

    from trackweave.evaluation.compare import compare, comparison_tables
    from trackweave.evaluation.evaluate import evaluate_regimes

    if len(regimes) != 2:
        raise SettingError(f"--compare: two results are compared, not {len(regimes)}")
    with _Progress() as on_sequence:
        one, other = (evaluate_regimes([replace(regime, name="")], on_sequence) for regime in regimes)
        comparison = compare(one, other, settings)
    if as_json:
        typer.echo(json.dumps(comparison.to_json(), allow_nan=False))
    else:
        typer.echo(f"first:  {regimes[0].results}\nsecond: {regimes[1].results}")
        _print_tables(comparison_tables(comparison))
    _print_notes(note for part in (one, other) for regime in part.regimes for note in regime.notes)
    _print_notes(comparison.notes)


def _pairs(results: Sequence[str], gt: Sequence[str]) -> list[tuple[str, Path, Path]]:
    """Name, result and truth of each regime; the name of a single one is empty.

    Raises:
        SettingError: numbers or names of results and truths do not fit.
    """
    predictions, truths = [_named(text) for text in results], [_named(text) for text in gt]
    if len(truths) not in (1, len(predictions)):
        raise SettingError(
            f"{len(predictions)} results and {len(truths)} times --gt: give one for all, or one per result"
        )
    names = [name or ("" if len(predictions) == 1 else Path(path).name) for name, path in predictions]
    if len(set(names)) < len(names) and len(truths) > 1:
        raise SettingError(f"two results are called alike: {', '.join(names)}; give NAME=PATH")
    if len(truths) == 1:
        truths *= len(predictions)
    elif all(name is not None for name, _ in truths):
        by_name = {name: truth for truth in truths for name in [truth.name]}
        unmatched = sorted(set(names) ^ {str(name) for name in by_name})
        if unmatched:
            raise SettingError(f"names of --gt and of results differ: {', '.join(unmatched)}")
        truths = [by_name[name] for name in names]
    return [
        (name, Path(one.value), Path(truth.value)) for name, one, truth in zip(names, predictions, truths, strict=True)
    ]


def _named(text: str) -> _NamedInput:
    """Splits `NAME=PATH`; a text that is the path of something is not split."""
    name, equals, value = text.partition("=")
    if not equals or not name or "/" in name or Path(text).exists():
        return _NamedInput(None, text)
    return _NamedInput(name, value)


def _by_name(texts: Sequence[str] | None, names: Sequence[str], flag: str) -> list[str | None]:
    """The value of each regime: its own, or the one without a name.

    Raises:
        SettingError: a name that no regime has, or a value given twice.
    """
    values: dict[str | None, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        key = name if equals else None
        if key is not None and key not in names:
            raise SettingError(f"{flag} {text}: no result is called {name}")
        if key in values:
            raise SettingError(f"{flag} {text}: given twice")
        values[key] = value if equals else text
    return [values.get(name, values.get(None)) for name in names]


class _Progress:
    """Shows on a terminal which sequence is being scored."""

    def __enter__(self) -> OnSequence:
        from rich.console import Console

        self._status = Console(stderr=True).status("reading")
        self._status.start()
        return lambda name: self._status.update(f"scoring {name}")

    def __exit__(self, *exc: object) -> None:
        self._status.stop()


def _print_tables(tables: Iterable[Table]) -> None:
    from rich.console import Console

    console = Console(width=WIDE, highlight=False)
    for table in tables:
        console.print(table)


def _print_notes(notes: Iterable[str]) -> None:
    for note in dict.fromkeys(notes):
        typer.echo(f"note: {note}", err=True)
