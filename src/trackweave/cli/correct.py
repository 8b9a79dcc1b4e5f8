"""`trackweave correct` and `trackweave ask`: what a person says about a run, and what to ask next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trackweave.errors import SettingError
from trackweave.options.commands import AsJson

if TYPE_CHECKING:
    from trackweave.corrections.mask_queue import MaskQuestion
    from trackweave.corrections.queue import Question

Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]


def correct(
    run: Run,
    answers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="acts to write down first, a JSON object a line; docs/proofreading.md"),
    ] = None,
    tracks: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="tracks that were edited elsewhere, CVAT's and others': ids there hold"),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(metavar="DIR", help="training samples that the run logged [default: where it says]")
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", help="give the samples that the run logged the answers as their truth, and write them there"
        ),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(metavar="VIDEO", help="of a run of masks: frames for its prompts, when the input has moved"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide the tracks of a run again under what a person said, and write them into its files.

    Exports, evaluate and report read the corrected tracks. With no act in force the files are those of the run again.
    In a run of masks, objects that were prompted anew are moved by the run's predictor; call it again after a kill.
    """
    from trackweave.pipelines.corrections import accept_edited, label_samples
    from trackweave.pipelines.corrections import correct as correct_run
    from trackweave.reports.page import report as write_report
    from trackweave.storage.corrections import read_steps

    if samples is not None and labelled is None:
        raise SettingError("--samples says where samples are, --labelled where they go: give both")
    edited = None if tracks is None else accept_edited(run, tracks)
    result = correct_run(run, [] if answers is None else read_steps(answers), frames=frames, progress=True)
    report = write_report(run)
    count = None if labelled is None else label_samples(run, labelled, samples)
    if as_json:
        typer.echo(json.dumps(result.summary.to_json()))
        return
    said = result.summary.extra.get("corrections") or {"acts": 0, "names": {}}
    for warning in result.warnings:
        if warning.stage == "corrections":
            typer.echo(f"warning: {warning.message}", err=True)
    if edited is not None:
        changed = f"{edited.renamed} ids changed, {edited.removed} objects removed"
        typer.echo(f"{tracks}: {changed}, frames {edited.first} to {edited.last}")
    if edited is not None and edited.moved + edited.drawn:
        text = f"{edited.moved} boxes were moved and {edited.drawn} drawn there, which are not taken over"
        typer.echo(f"warning: {tracks}: {text}; `trackweave convert {tracks} OUT` has them", err=True)
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
    """List what to ask a person about a run next: where an answer is expected to repair most boxes or masks."""
    from trackweave.pipelines.corrections import Proofreading, open_proofreading

    proofreading = open_proofreading(run)
    if isinstance(proofreading, Proofreading):
        boxes, switches = proofreading.questions(count), proofreading.forecast()
        records = [question.to_json() for question in boxes]
        lines = [f"about {switches.expected:.0f} identity switches in its tracks ({switches.low} to {switches.high})"]
        lines += map(_box_line, boxes)
    else:
        masks, switches = proofreading.questions(count), None
        records, lines = [question.to_json() for question in masks], list(map(_mask_line, masks))
    if as_json:
        said = len(proofreading.corrections.acts)
        record = {"schema_version": 1, "acts": said, "switches": None if switches is None else switches.to_json()}
        typer.echo(json.dumps({**record, "questions": records}))
        return
    for line in lines:
        typer.echo(line)
    if not records:
        typer.echo("nothing is worth asking")


def _box_line(question: Question) -> str:
    who = question.name or f"track {question.track_id}"
    likely = ", ".join(f"{one.name or one.track_id} {one.probability:.0%}" for one in question.candidates[:3])
    worth = f"doubt {question.doubt:.0%}, repairs {question.repair:.0f} boxes{f'; {likely}' if likely else ''}"
    again = ", which other answers contradict" if question.contradicted else ""
    return f"frame {question.at.frame}, box {question.at.item}: {who}{again}? {worth}"


def _mask_line(question: MaskQuestion) -> str:
    who = question.name or f"track {question.track_id}"
    asked = f"{who}: is its mask right?"
    if question.other is not None:
        asked = f"are tracks {question.at.item} and {question.other.item} one object?"
    return f"frame {question.at.frame}, {asked} doubt {question.doubt:.0%}, repairs {question.repair:.0f} masks"
