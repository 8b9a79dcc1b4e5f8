"""`python -m cli --video V`: `trackweave boxes` under the name and with the options of the guide to data collection."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trackweave.cli.boxes import BOXES, AsJson, LogLevel, LogLevelOption, run_boxes
from trackweave.options.commands import command_of, run_command
from trackweave.options.flags import with_settings
from trackweave.options.sources import ResolvedSettings


@with_settings(BOXES)
def video(
    video: Annotated[str, typer.Option(metavar="V", help="a video, a folder, a webcam's number or a stream's address")],
    settings: ResolvedSettings,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="RUN", help="the run folder [default: runs/NAME]")
    ] = None,
    log_level: LogLevelOption = LogLevel.info,
    as_json: AsJson = False,
) -> None:
    """Track a video and, with TRANSFORMER_LOG_DIR, log training samples; options are those of `trackweave boxes`.

    Without --detector and --detections a MOTChallenge folder's own detections are taken, and of other videos whatever
    moves (--detector motion).
    """
    run_boxes(video, output or Path("runs") / (Path(video).stem or "video"), settings, log_level, as_json=as_json)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    sys.exit(run_command(command_of(video), arguments, prog="cli"))
