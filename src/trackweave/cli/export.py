"""`trackweave export` and `trackweave report`: a finished run in other forms."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from trackweave.options.flags import with_settings
from trackweave.options.schema import Schema, short
from trackweave.options.sources import ResolvedSettings
from trackweave.visualization.settings import OverlaySettings


class ExportFormat(StrEnum):
    """Values of --to."""

    davis = "davis"
    mot = "mot"
    mp4 = "mp4"


class LabelIds(StrEnum):
    """Values of --ids."""

    run = "run"
    level = "level"


EXPORT = Schema(("overlay",), flags=(short("--style", "overlay.style"), short("--trail", "overlay.trail")))

Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]


@with_settings(EXPORT)
def export(
    run: Run,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="file or folder to write")],
    settings: ResolvedSettings,
    to: Annotated[ExportFormat, typer.Option("--to", help="davis: indexed PNGs; mot: boxes; mp4: overlay video")],
    level: Annotated[int | None, typer.Option(help="which level [default: the only one]")] = None,
    frames: Annotated[str | None, typer.Option(help="frames or video to draw on, when the run's have moved")] = None,
    fps: Annotated[float, typer.Option(help="frames per second of an mp4 whose source has no times")] = 10.0,
    ids: Annotated[
        LabelIds, typer.Option("--ids", help="labels of davis: the run's ids, or 1, 2, … of the level, with ids.csv")
    ] = LabelIds.run,
    bits: Annotated[
        int | None, typer.Option(help="8 or 16 of a davis label [default: 16 where ids are above 254]")
    ] = None,
) -> None:
    """Write a run's tracks in another format."""
    from trackweave.exporters import export as export_run
    from trackweave.structures.run_log import RunLog

    log = RunLog(package=None)
    files = export_run(
        run,
        to.value,
        output,
        level=level,
        frames=frames,
        fps=fps,
        ids=ids.value,
        bits=bits,
        overlay=settings[OverlaySettings],
        log=log,
    )
    count = sum(file.suffix == ".png" for file in files)
    what = {"davis": f"{count} label images", "mot": "boxes", "mp4": "video"}[to.value]
    typer.echo(f"{what}: {output}")
    for warning in log.warnings:
        typer.echo(f"note: {warning.message}", err=True)


def report(run: Run) -> None:
    """Write the static page `RUN/report.html` again."""
    from trackweave.reports.page import report as write_report

    typer.echo(f"report: {write_report(run)}")
