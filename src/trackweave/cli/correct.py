"""`trackweave correct` and `trackweave ask`: what a person says about a run, and what to ask next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trackweave.errors import SettingError
from trackweave.options.commands import AsJson

Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]


def correct(
    run: Run,
    answers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="acts to write down first, a JSON object a line; docs/proofreading.md"),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(metavar="DIR", help="training samples that the run logged, to be given the answers")
    ] = None,
    labelled: Annotated[
        Path | None, typer.Option(metavar="OUT", help="where those samples go, with what was said as their truth")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide the tracks of a run again under what a person said, and write them into its files.

    Exports, evaluate and report read the corrected tracks. With no act in force the files are those of the run again.
    """
    from trackweave.pipelines.corrections import correct as correct_run
    from trackweave.pipelines.corrections import label_samples
    from trackweave.reports.page import report as write_report
    from trackweave.storage.corrections import read_steps

    if (samples is None) != (labelled is None):
        raise SettingError("--samples and --labelled belong together: where samples are, and where they go")
    result = correct_run(run, [] if answers is None else read_steps(answers))
    report = write_report(run)
    count = None if samples is None or labelled is None else label_samples(run, samples, labelled)
    if as_json:
        typer.echo(json.dumps(result.summary.to_json()))
        return
    said = result.summary.extra.get("corrections") or {"acts": 0, "names": {}}
    for warning in result.warnings:
        if warning.stage == "corrections":
            typer.echo(f"warning: {warning.message}", err=True)
    names = said["names"]
    typer.echo(f"{said['acts']} acts in force, {len(names)} names; {result.summary.track_count} tracks")
    if count is not None:
        typer.echo(f"samples with answers: {count} in {labelled}")
    typer.echo(f"report: {report}")


def ask(
    run: Run,
    count: Annotated[int, typer.Option("--count", min=1, help="questions at most")] = 10,
    as_json: AsJson = False,
) -> None:
    """List what to ask a person about a run next: where an answer is expected to repair most boxes."""
    from trackweave.pipelines.corrections import Proofreading

    proofreading = Proofreading(run)
    asked = proofreading.questions(count)
    if as_json:
        said = len(proofreading.corrections.acts)
        record = {"schema_version": 1, "acts": said, "switches": proofreading.forecast().to_json()}
        typer.echo(json.dumps({**record, "questions": [question.to_json() for question in asked]}))
        return
    expected = proofreading.forecast()
    typer.echo(f"about {expected.expected:.0f} wrong links in its tracks ({expected.low:.0f} to {expected.high:.0f})")
    for question in asked:
        who = question.name or f"track {question.track_id}"
        likely = ", ".join(f"{one.name or one.track_id} {one.probability:.0%}" for one in question.candidates[:3])
        typer.echo(
            f"frame {question.at.frame}, box {question.at.item}: {who}? doubt {question.doubt:.0%}, "
            f"repairs {question.repair:.0f} boxes{f'; {likely}' if likely else ''}"
        )
    if not asked:
        typer.echo("nothing is worth asking")
