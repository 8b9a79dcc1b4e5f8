"""The `trackweave` command. Each function reads its arguments, calls the library, says where the results are.

Nothing heavy is imported here: a command imports what it needs when it runs.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from trackweave.cli.assoc import assoc
from trackweave.cli.boxes import boxes
from trackweave.cli.config import config
from trackweave.cli.evaluate import evaluate
from trackweave.errors import SettingError, TrackweaveError

app = typer.Typer(
    name="trackweave",
    help="Weave per-frame masks and boxes into identities.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class PromptModeName(StrEnum):
    """Values of --prompt-mode."""

    mask = "mask"
    box = "box"
    auto = "auto"


class BadItemPolicy(StrEnum):
    """Values of --on-bad-item."""

    error = "error"
    skip = "skip"


class ExportFormat(StrEnum):
    """Values of --to."""

    davis = "davis"
    mot = "mot"
    mp4 = "mp4"


Frames = Annotated[str, typer.Argument(metavar="FRAMES|VIDEO", help="a folder of images or a video file")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="the run folder to write")]
Sampling = Annotated[str | None, typer.Option("--frames", metavar="START:END:STEP", help="which frames, as a slice")]
Levels = Annotated[
    str | None,
    typer.Option("--levels", metavar="2,4,6", help="coarse, medium, fine [default: those of the candidates]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"trackweave {version('trackweave')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Weave per-frame masks and boxes into identities."""


@app.command()
def masks(
    frames: Frames,
    output: Output,
    candidates: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with level_L/filtered/filtered.json")
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(metavar="[FRAME:]LABEL.png", help="indexed image of objects to track; may be repeated"),
    ] = None,
    generator: Annotated[str, typer.Option(help="candidate generator when neither of the above is given")] = "regions",
    candidate_stride: Annotated[int, typer.Option(help="frames between two on which the generator runs")] = 10,
    levels: Levels = None,
    predictor: Annotated[str, typer.Option(help="auto, flow, static, replay=PATH")] = "auto",
    sampling: Sampling = None,
    prompt_mode: Annotated[
        PromptModeName, typer.Option(help="auto prompts small objects by box")
    ] = PromptModeName.mask,
    iou_threshold: Annotated[float, typer.Option(help="a candidate is new when its best IoU is at or below")] = 0.6,
    max_propagate: Annotated[int | None, typer.Option(help="frames each way from the prompt [default: all]")] = None,
    mask_scale: Annotated[float, typer.Option(help="stored mask size over frame size")] = 1.0,
    on_bad_item: Annotated[
        BadItemPolicy, typer.Option(help="stop at a bad candidate or frame, or leave it out")
    ] = BadItemPolicy.error,
    resume: Annotated[bool, typer.Option("--resume", help="finish a run that was cut off")] = False,
    no_viz: Annotated[bool, typer.Option("--no-viz", help="no comparison pictures")] = False,
    as_json: AsJson = False,
) -> None:
    """Follow the objects of a video through time: masks, boxes, pictures and a report.

    Without --candidates and --prompts, candidates are found by the built-in generator, at the coarse level unless
    --levels asks for more. Nothing is downloaded.
    """
    from trackweave.report.page import write_report
    from trackweave.track_from_candidates import checked_settings, parse_levels, track_masks
    from trackweave.tracking.helpers import ProgressPrinter

    result = track_masks(
        frames,
        output,
        candidates=candidates,
        prompts=prompts or None,
        generator=generator,
        candidate_stride=candidate_stride,
        levels=parse_levels(levels),
        predictor=predictor,
        sampling=sampling,
        settings=checked_settings(
            prompt_mode=prompt_mode.value,
            iou_threshold=iou_threshold,
            max_propagate=max_propagate,
            mask_scale_ratio=mask_scale,
            on_bad_item=on_bad_item.value,
            render_viz=not no_viz,
        ),
        resume=resume,
        progress=lambda label, total: ProgressPrinter(total, label),
    )
    report = write_report(output)
    if as_json:
        typer.echo(json.dumps(result.summary))
        return
    _tell(result.summary, report)


def _tell(summary: Any, report: Path) -> None:
    totals, predictor = summary["totals"], summary["predictor"]
    for warning in summary["warnings"]:
        typer.echo(f"warning: {warning['message']}", err=True)
    typer.echo(f"predictor: {predictor['name']} ({predictor['reason']})")
    typer.echo(f"{totals['objects']} objects on {totals['object_frames']} object-frames in {_levels(totals['levels'])}")
    if totals["candidates"] > totals["prompts"]:
        typer.echo(f"{totals['duplicates']} of {totals['candidates']} candidates were already tracked or duplicates")
    typer.echo(f"report: {report}")


def _levels(levels: list[int]) -> str:
    return f"level {levels[0]}" if len(levels) == 1 else f"levels {', '.join(map(str, levels))}"


@app.command()
def propose(
    frames: Frames,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="folder for level_L/filtered")],
    levels: Levels = None,
    candidate_stride: Annotated[int, typer.Option(help="frames between two on which the generator runs")] = 10,
    sampling: Sampling = None,
) -> None:
    """Find candidates with the built-in generator and write them for `masks --candidates`."""
    from trackweave.frames.opening import open_frames
    from trackweave.ids import Level
    from trackweave.track_from_candidates import ALL_LEVELS, parse_levels, propose_candidates
    from trackweave.tracking.helpers import ProgressPrinter, sample_evenly

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
    from trackweave.report.exports import export_davis_run, export_mot_run, export_mp4_run

    if to is ExportFormat.davis:
        files = export_davis_run(run, output, level)
        typer.echo(f"{len(files)} label images: {output}")
    elif to is ExportFormat.mot:
        typer.echo(f"boxes: {export_mot_run(run, output, level)}")
    else:
        typer.echo(f"video: {export_mp4_run(run, output, level, frames, fps)}")


@app.command()
def report(run: Run) -> None:
    """Write the static page `RUN/report.html` again."""
    from trackweave.report.page import write_report

    typer.echo(f"report: {write_report(run)}")


app.command()(boxes)
app.command()(config)
app.command()(evaluate)
app.add_typer(assoc)


def main() -> None:
    """Entry point: 0 done, 1 a failure with a one-line reason, 2 bad usage."""
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
