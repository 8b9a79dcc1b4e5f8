"""The tracking guide's entry point: its names, and `trackweave masks --candidates` with the flags that the guide uses.

`python -m trackweave.track_from_candidates --data-path FRAMES --candidates-root DIR --output RUN --levels 2,4,6`
does from the shell what `track_masks` does in Python.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from trackweave.cli.masks import MASKS, track
from trackweave.options.commands import command_of, run_command
from trackweave.options.flags import with_settings
from trackweave.options.schema import short
from trackweave.options.sources import ResolvedSettings
from trackweave.pipelines.masks import track_masks

__all__ = ["main", "track_masks"]

GUIDE = replace(MASKS, flags=(*MASKS.flags, short("--mask-scale-ratio", "tracking.mask_scale_ratio")))


@with_settings(GUIDE)
def track_from_candidates(
    data_path: Annotated[str, typer.Option(metavar="FRAMES|VIDEO", help="folder of frames, or a video")],
    candidates_root: Annotated[Path, typer.Option(metavar="DIR", help="folder with level_L/filtered/filtered.json")],
    output: Annotated[Path, typer.Option(metavar="RUN", help="run folder")],
    settings: ResolvedSettings,
    resume: Annotated[bool, typer.Option("--resume", help="finish a run that was cut off")] = False,
) -> None:
    """Track filtered candidates; prints the run folder."""
    result = track(data_path, output, settings, candidates=candidates_root, resume=resume)
    typer.echo(result.root)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m trackweave.track_from_candidates`; returns the exit code."""
    return run_command(command_of(track_from_candidates), arguments, prog="trackweave.track_from_candidates")


if __name__ == "__main__":
    sys.exit(main())
