"""`trackweave export` and `trackweave report`: a finished run in other forms."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ExportFormat(StrEnum):
    """Values of --to."""

    davis = "davis"
    mot = "mot"
    mp4 = "mp4"


Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]


def export(
    run: Run,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="file or folder to write")],
    to: Annotated[ExportFormat, typer.Option("--to", help="davis: indexed PNGs; mot: boxes; mp4: overlay video")],
    level: Annotated[int | None, typer.Option(help="which level [default: the only one]")] = None,
    frames: Annotated[str | None, typer.Option(help="frames or video to draw on, when the run's have moved")] = None,
    fps: Annotated[float, typer.Option(help="frames per second of an mp4 whose source has no times")] = 10.0,
) -> None:
    """Write a run's tracks in another format."""
    from trackweave.exporters import export as export_run

    files = export_run(run, to.value, output, level=level, frames=frames, fps=fps)
    what = {"davis": f"{len(files)} label images", "mot": "boxes", "mp4": "video"}[to.value]
    typer.echo(f"{what}: {output}")


def report(run: Run) -> None:
    """Write the static page `RUN/report.html` again."""
    from trackweave.reports.page import report as write_report

    typer.echo(f"report: {write_report(run)}")
