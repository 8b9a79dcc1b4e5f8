"""`trackweave view`: a run in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from trackweave.errors import MissingExtraError


def view(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="a run folder; two are shown side by side")],
    frames: Annotated[
        Path | None, typer.Option(help="frames or video to show, when the run's have moved or it had none")
    ] = None,
    gt: Annotated[
        Path | None, typer.Option(help="ground truth to compare with, as evaluate takes it; it is seen beside the run")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="address to listen on, with --token [default: this machine alone]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="[default: 8710, else a free one; 0: a free one]")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="first part of the page's address [default: a new random one]")
    ] = None,
    disk: Annotated[
        float, typer.Option(min=0, metavar="GB", help="most that decoded pictures take in the temporary folder")
    ] = 4.0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open the page")] = True,
) -> None:
    """Open a page on which a run is seen frame by frame, the doubtful parts first."""
    try:
        from trackweave.view.server import open_viewer, serve
    except ImportError as error:
        raise MissingExtraError(error.name or "starlette", "view") from error

    def ready(address: str) -> None:
        typer.echo(f"page: {address}\nCtrl-C ends it")
        if browser:
            webbrowser.open(address)

    with open_viewer(
        runs, frames=frames, truth=gt, host=host, port=port, token=token, disk_bytes=int(disk * 2**30)
    ) as viewer:
        serve(viewer, ready)
