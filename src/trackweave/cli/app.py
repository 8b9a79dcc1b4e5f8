"""The `trackweave` command. Each function reads its arguments, calls the library, says where the results are.

Nothing heavy is imported here: a command imports what it needs when it runs.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from trackweave.cli.assoc import assoc
from trackweave.cli.boxes import boxes
from trackweave.cli.config import config
from trackweave.cli.evaluate import evaluate
from trackweave.cli.masks import masks
from trackweave.cli.models import models
from trackweave.errors import SettingError, TrackweaveError

app = typer.Typer(
    name="trackweave",
    help="Weave per-frame masks and boxes into identities.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class ExportFormat(StrEnum):
    """Values of --to."""

    davis = "davis"
    mot = "mot"
    mp4 = "mp4"


Frames = Annotated[str, typer.Argument(metavar="FRAMES|VIDEO", help="a folder of images or a video file")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]
Sampling = Annotated[str | None, typer.Option("--frames", metavar="START:END:STEP", help="which frames, as a slice")]
Levels = Annotated[
    str | None,
    typer.Option("--levels", metavar="2,4,6", help="coarse, medium, fine [default: those of the candidates]"),
]


def _version(wanted: bool) -> None:
    if wanted:
        import trackweave

        typer.echo(f"trackweave {trackweave.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Weave per-frame masks and boxes into identities."""


app.command()(masks)


@app.command()
def propose(
    frames: Frames,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="folder for level_L/filtered")],
    levels: Levels = None,
    candidate_stride: Annotated[int, typer.Option(help="frames between two on which the generator runs")] = 10,
    sampling: Sampling = None,
) -> None:
    """Find candidates with the built-in generator and write them for `masks --candidates`."""
    from trackweave.frames.open import open_frames
    from trackweave.frames.source import sample_evenly
    from trackweave.ids import Level
    from trackweave.pipelines.masks import ALL_LEVELS, parse_levels, propose_candidates
    from trackweave.progress import ProgressPrinter

    if candidate_stride < 1:
        raise SettingError(f"candidate_stride is at least 1, not {candidate_stride}")
    asked = [Level(level) for level in parse_levels(levels) or ALL_LEVELS]
    with open_frames(frames, sampling=sampling) as source:
        display = ProgressPrinter(len(sample_evenly(range(len(source)), candidate_stride)), "finding candidates")
        try:
            propose_candidates(source, output, asked, stride=candidate_stride, progress=display)
        finally:
            display.close()
    typer.echo(f"candidates: {output}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="where the results go")] = Path(
        "runs/demo"
    ),
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="a generated scene with known truth, and scores")
    ] = False,
    clip: Annotated[Path | None, typer.Option(help="another clip instead of the packaged one")] = None,
) -> None:
    """Run the main job on a real clip (or a generated scene): no weights, no network."""
    from trackweave.cli.demo import run_clip_demo, run_synthetic_demo

    if synthetic:
        run_synthetic_demo(output)
    else:
        run_clip_demo(output, clip)


@app.command()
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


@app.command()
def report(run: Run) -> None:
    """Write the static page `RUN/report.html` again."""
    from trackweave.reports.page import report as write_report

    typer.echo(f"report: {write_report(run)}")


app.command()(boxes)
app.command()(models)
app.command()(config)
app.command()(evaluate)
app.add_typer(assoc)


def main() -> None:
    """Entry point: 0 done, 1 a failure with a one-line reason, 2 bad usage."""
    import logging

    # Commands print a run's warnings themselves; without a handler `logging` would print them a second time.
    logging.getLogger("trackweave").addHandler(logging.NullHandler())
    try:
        app()
    except SettingError as error:
        _fail(error, 2)
    except (TrackweaveError, OSError) as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        _fail("interrupted; the same command with --resume goes on", 1)


def _fail(reason: object, code: int) -> None:
    text = " ".join(str(reason).split())
    typer.echo(f"error: {text}", err=True)
    sys.exit(code)
