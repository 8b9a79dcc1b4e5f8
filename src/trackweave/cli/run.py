"""`trackweave run`: works through a plan, and shows how far it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from trackweave.plans.metrics import PlanMetrics
    from trackweave.plans.runner import Forecast, PlanEvent
    from trackweave.plans.settings import Plan
    from trackweave.plans.stages import FinishedItem

LISTED = 40
"""Items that a dry run lists, and lines of failures."""


def run(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="what is worked through, see docs/plans.md")],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="DIR", help="the folder to fill, or s3://… [default: the plan's]"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.NAME=VALUE", help="a setting of all items; repeatable"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="instead of the plan's engine.workers")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="items of these names, or ITEM/VARIANT; repeatable")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, metavar="N", help="so many of those that are not done")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="try those again that failed before")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going/--no-keep-going", help="after a failure the others go on")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what is done, what would be done, and how long that takes")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print events as JSON, one a line")] = False,
    metrics: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="serve Prometheus metrics at 127.0.0.1:PORT; 0: a free one"
        ),
    ] = None,
) -> None:
    """Work through a plan: many videos, every core, nothing done twice, one page over all.

    The same command goes on where the last one ended, whatever ended it: what is finished is used again as long as
    nothing that it depends on changed. The exit code is 1 when an item failed.

    Example: trackweave run plan.yaml, where plan.yaml holds {inputs: ["clips/*.mp4"], output: runs/clips}
    """
    from trackweave.plans.runner import ItemSelection, failures_by_kind, forecast
    from trackweave.plans.runner import run as run_plan
    from trackweave.plans.settings import load_plan, redacted

    loaded = load_plan(plan, output=output, pairs=settings or (), workers=workers)
    selection = ItemSelection(tuple(only or ()), limit, retry_failed, keep_going)
    if dry_run:
        _print_forecast(loaded, forecast(loaded, selection), as_json=as_json)
        return
    failed: list[FinishedItem] = []
    counts = {"finished": 0, "reused": 0}
    with _Display(as_json=as_json) as display, _served(loaded.name, metrics) as served:

        def tell(event: PlanEvent) -> None:
            if served is not None:
                served(event)
            display.event(event)

        for item in run_plan(loaded, selection=selection, on_event=tell):
            if item.failure is not None:
                failed.append(item)
            else:
                counts["reused" if item.is_reused else "finished"] += 1
    if not as_json:
        done = f"{counts['finished']} finished, {counts['reused']} were finished, {len(failed)} failed"
        typer.echo(f"{loaded.name}: {done}")
        for fault, count, message in failures_by_kind(failed):
            typer.echo(f"{fault}: {count} × such as {message}" if count > 1 else f"{fault}: {message}")
        typer.echo(f"page: {loaded.output / 'index.html'}")
        if loaded.remote:
            typer.echo(f"also in {redacted(loaded.remote)}")
    if failed:
        if not as_json and not retry_failed and any(item.is_reused for item in failed):
            typer.echo("note: what failed before was not tried again (--retry-failed)", err=True)
        raise typer.Exit(1)


@contextmanager
def _served(name: str, port: int | None) -> Iterator[PlanMetrics | None]:
    """Metrics on a port, if one is named."""
    if port is None:
        yield None
        return
    from trackweave.plans.metrics import PlanMetrics

    with PlanMetrics(name, port) as metrics:
        typer.echo(f"metrics: {metrics.address}", err=True)
        yield metrics


def _print_forecast(plan: Plan, forecast: Forecast, *, as_json: bool) -> None:
    from trackweave.plans.stages import describe
    from trackweave.progress import format_duration_precise

    variants = [variant.name for variant in plan.variants]
    if as_json:
        record: dict[str, Any] = {
            "name": plan.name,
            "items": list(forecast.items),
            "variants": variants,
            "stages": list(plan.stages),
            "done": forecast.done,
            "failed": forecast.failed,
            "due": [list(pair) for pair in forecast.due],
            "seconds": forecast.seconds,
        }
        typer.echo(json.dumps(record))
        return
    typer.echo(f"{plan.name}: {len(forecast.items)} items × {len(variants)} variants: {', '.join(variants)}")
    typer.echo(f"stages: {' → '.join(plan.stages)}")
    for variant in plan.variants:
        for key, value, origin in describe(plan.resolved(variant, {})):
            typer.echo(f"  {variant.name}: {key} = {value} ({origin})")
    for name, variant_name in forecast.due[:LISTED]:
        typer.echo(f"to do: {name}" if len(variants) == 1 else f"to do: {name} ({variant_name})")
        for key, value, origin in forecast.settings.get(name, ()) if variant_name == variants[0] else ():
            typer.echo(f"  {name}: {key} = {value} ({origin})")
    if len(forecast.due) > LISTED:
        typer.echo(f"to do: {len(forecast.due) - LISTED} more")
    typer.echo(f"{forecast.done} done, {forecast.failed} failed before, {len(forecast.due)} to do")
    if not forecast.due:
        return
    if forecast.seconds is None:
        typer.echo("no estimate: nothing of it has finished before (--limit 1 tries one)")
    else:
        typer.echo(f"about {format_duration_precise(forecast.seconds)}, by what finished items took")


class _Display:
    """How far it is: bars in a terminal, a line per item elsewhere, or events as JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._bars: Any = None
        self._tasks: dict[tuple[str, str], Any] = {}

    def __enter__(self) -> _Display:
        from trackweave.progress import standard_error

        stream = standard_error()
        if not self._as_json and stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bars = Progress(*columns, console=Console(file=stream))
            self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def event(self, event: PlanEvent) -> None:
        """Shows one."""
        if self._as_json:
            typer.echo(json.dumps(event.to_json()))
        elif self._bars is not None:
            self._move(event)
        elif event.name in ("finished", "failed", "lost", "planned"):
            typer.echo(_line(event), err=True)

    def _move(self, event: PlanEvent) -> None:
        of = event.item, event.variant
        values = event.values
        if event.name == "planned":
            self._tasks["", ""] = self._bars.add_task("items", total=values["due"])
        elif event.name == "started":
            self._tasks[of] = self._bars.add_task(_name(event), total=None)
        elif event.name == "progress" and of in self._tasks:
            text = f"{_name(event)} · {values['stage']}"
            self._bars.update(self._tasks[of], description=text, completed=values["done"], total=values["total"])
        elif event.name in ("finished", "failed", "lost"):
            task = self._tasks.pop(of, None)  # none where a piece of it was lost before
            if task is not None:
                self._bars.remove_task(task)
            if event.name != "lost":
                self._bars.advance(self._tasks["", ""])
            if event.name != "finished":
                self._bars.console.print(_line(event), markup=False, highlight=False)


def _name(event: PlanEvent) -> str:
    return event.item if event.variant == "runs" else f"{event.item} ({event.variant})"


def _line(event: PlanEvent) -> str:
    values = event.values
    if event.name == "planned":
        parts = [
            f"{values['due']} to do",
            *_counted(values, ("reused", "were finished"), ("failed_before", "failed before")),
        ]
        return f"{values['items']} items: {', '.join(parts)}"
    if event.name == "lost":
        return f"{_name(event)}: {values['message']}; it is tried again alone"
    if event.name == "failed":
        return f"{_name(event)}: {values['stage']} failed: {values['message']}"
    names = ("frames", "tracks", "things", "boxes", "samples")
    text = ", ".join(f"{values[name]} {name}" for name in names if name in values)
    text += "".join(f", {name} {values[name]:.3f}" for name in ("precision", "recall") if name in values)
    scores = ", ".join(
        f"{name} {100 * value:.1f}" for name, value in values.get("scores", {}).items() if name != "IDSW"
    )
    return f"{_name(event)}: {text}{f'; {scores}' if scores else ''} in {values['seconds']:.1f} s"


def _counted(values: Any, *names: tuple[str, str]) -> Sequence[str]:
    return [f"{values[key]} {text}" for key, text in names if values.get(key)]
