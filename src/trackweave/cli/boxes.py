"""`trackweave boxes`, and `python -m cli --video V`, the same under the name that the guide to samples gives it."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trackweave.association.settings import LogSettings, ScorerSettings
from trackweave.errors import SettingError
from trackweave.options.commands import AsJson, Overwrite, command_of, run_command
from trackweave.options.flags import with_settings
from trackweave.options.schema import Schema, ShortFlag, short
from trackweave.options.sources import ProvidedValue, ResolvedSettings, resolve
from trackweave.pipelines.settings import BoxRunSettings
from trackweave.structures.run_log import RunWarning

if TYPE_CHECKING:
    from trackweave.pipelines.run import Run
    from trackweave.structures.run_summary import BoxSummary


def scorer_settings(text: str) -> dict[str, object]:
    """The settings that `--scorer` stands for.

    Raises:
        SettingError: none of its values.
    """
    kind, equals, path = text.partition("=")
    if text == "iou":
        return {"scorer.enabled": False}
    if kind != "learned" or (equals and not path):
        raise SettingError(f"flag --scorer: {text!r} is none of iou, learned, learned=MODEL.onnx")
    return {"scorer.enabled": True, **({"scorer.weights": path} if path else {})}


BOXES = Schema(
    ("tracker", "input", "perception", "refinement", "log", "scorer", "run", "overlay"),
    flags=(
        short("--detections", "run.detections"),
        short("--viz", "run.overlay"),
        short("--style", "overlay.style"),
        short("--detector", "perception.detector"),
        short("--text", "perception.text"),
        short("--embedder", "perception.embedder"),
        short("--segmentation", "perception.segmentation"),
        short("--camera", "perception.camera"),
        short("--cuts", "perception.cuts"),
        ShortFlag(
            "--tracker", ("tracker.preset",), default="learned; adaptive without --size and where samples are logged"
        ),
        ShortFlag(
            "--scorer",
            ("scorer.enabled", "scorer.weights"),
            scorer_settings,
            "iou|learned|learned=MODEL.onnx",
            "what scores pairs: overlap and motion, or a learned scorer, the package's own or a trained one",
            "learned, where the tracker is",
        ),
        short("--confidence", "tracker.confidence_threshold"),
        short("--appearance", "tracker.appearance_memory"),
        short("--diagnostics", "tracker.diagnostics"),
        short("--output-boxes", "tracker.output_boxes"),
        short("--fps", "input.fps"),
        short("--size", "input.size"),
        short("--class-column", "input.class_column"),
        short("--classes", "input.classes"),
        short("--images", "input.images"),
        short("--video-name", "input.video_name"),
        short("--frame-base", "input.frame_base"),
        short("--max-frames", "input.max_frames"),
        short("--frames", "input.frames"),
        ShortFlag(
            "--on-bad-item",
            ("input.on_bad_item", "tracker.on_bad_item"),
            description="what cannot be used stops the run, or is left out; for single detections the default is skip",
        ),
        short("--stitch", "refinement.stitch"),
        short("--interpolate", "refinement.interpolate_max_gap"),
        short("--min-length", "refinement.min_track_length"),
        short("--smooth", "refinement.smooth_window"),
        short("--log-dir", "log.dir"),
        short("--log-embed-dim", "log.embed_dim"),
        short("--sequence", "log.sequence"),
    ),
    environment={
        "TRANSFORMER_LOG_DIR": "log.dir",
        "TRANSFORMER_LOG_EMBED_DIM": "log.embed_dim",
        "APPEAR_MEMORY_ENABLE": "tracker.appearance_memory",
        "CONFIDENCE_THRESHOLD": "tracker.confidence_threshold",
        "SEG_ENABLE": "perception.segmentation",
        "DIAG": "tracker.diagnostics",
        "TRANSFORMER_ASSOC_ENABLE": "scorer.enabled",
        "TRANSFORMER_ASSOC_WEIGHTS": "scorer.weights",
        "TRANSFORMER_ASSOC_WEIGHT": "tracker.scorer_weight",
        "TRANSFORMER_ASSOC_EMBED_DIM": "scorer.embed_dim",
    },
    implied={"scorer.enabled": ("tracker.preset", "learned")},
)


class LogLevel(StrEnum):
    """Values of --log-level."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


LogLevelOption = Annotated[
    LogLevel, typer.Option("--log-level", case_sensitive=False, help="how much to say on standard error")
]


@with_settings(BOXES)
def boxes(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="the run folder to write")],
    settings: ResolvedSettings,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SEQUENCE|VIDEO|FRAMES|CAMERA",
            help="a MOTChallenge folder, a video, a folder of images, a webcam's number or a stream's address; "
            "without it --detections alone is tracked",
        ),
    ] = None,
    overwrite: Overwrite = False,
    log_level: LogLevelOption = LogLevel.info,
    as_json: AsJson = False,
) -> None:
    """Give the boxes of a video identities: tracks, an archive, an overlay video and a report.

    Without --detections and --detector, a sequence's own det/det.txt is taken, and for other sources whatever moves.
    Refinements (--stitch, --interpolate, --min-length, --smooth) hold all tracks in memory. Nothing is downloaded.

    Example: trackweave boxes clip.mp4 --detections det.csv -o runs/clip
    """
    run_boxes(source, output, settings, log_level, overwrite=overwrite, as_json=as_json)


def run_boxes(
    source: str | None,
    output: Path,
    settings: ResolvedSettings,
    log_level: LogLevel,
    *,
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Tracks, writes the report, and prints what came of it."""
    from trackweave.reports.page import report as write_report

    if log_level is LogLevel.debug:
        for entry in settings.entries():
            typer.echo(f"setting {entry.key} = {entry.value} ({entry.origin})", err=True)
    shows_progress = log_level in (LogLevel.debug, LogLevel.info)
    result = _track(source, output, settings, overwrite=overwrite, shows_progress=shows_progress)
    report = write_report(output)
    if log_level is not LogLevel.error:
        for warning in result.warnings:
            typer.echo(f"warning: {warning.message}", err=True)
    if as_json:
        typer.echo(json.dumps(result.summary.to_json()))
    else:
        _print_summary(result, report)


def _track(
    source: str | None, output: Path, settings: ResolvedSettings, *, overwrite: bool, shows_progress: bool
) -> Run[BoxSummary]:
    from trackweave.frames.live import is_live
    from trackweave.pipelines.boxes import track_boxes
    from trackweave.pipelines.resolved import box_options, tracker_of

    live = source is not None and is_live(source)
    if live and shows_progress:
        typer.echo("live: Ctrl-C ends the run and keeps what is there", err=True)
    with stop_at_interrupt(active=live) as stop:
        return track_boxes(
            source,
            output,
            detections=settings[BoxRunSettings].detections,
            tracker=tracker_of(settings),
            overwrite=overwrite,
            stop=stop,
            warnings=ignored_settings(settings),
            progress=shows_progress,
            **box_options(settings),
        )


def with_default_tracker(settings: ResolvedSettings) -> ResolvedSettings:
    """The settings with the tracker that `boxes` takes of frames whose size is known, where none was chosen."""
    from trackweave.pipelines.resolved import changes_of_default

    if changes_of_default(settings) is None or settings[LogSettings].dir is not None:
        return settings
    preset, learned = BOXES.implied["scorer.enabled"]
    defaults = {key: ProvidedValue(value, "default") for key, value in ((preset, learned), ("scorer.enabled", True))}
    return resolve(settings.schema, flags={**settings.provided, **defaults})


def ignored_settings(settings: ResolvedSettings) -> tuple[RunWarning, ...]:
    """Settings that were given and have no effect: of a scorer, a log or an overlay that is off."""
    sections = settings.sections
    off: dict[str, str] = {}
    if "scorer" in sections and not settings[ScorerSettings].enabled:
        off["scorer"] = "the learned scorer is off (--scorer learned, or TRANSFORMER_ASSOC_ENABLE=1)"
    if "log" in sections and settings[LogSettings].dir is None:
        off["log"] = "no samples are logged (--log-dir)"
    if "overlay" in sections and "run" in sections and not settings[BoxRunSettings].overlay:
        off["overlay"] = "no video is drawn (--no-viz)"
    ignored = [
        (one, off[section])
        for key, one in settings.provided.items()
        for section, _, name in [key.partition(".")]
        if section in off and not (section == "scorer" and name == "enabled") and one.value is not None
    ]
    return tuple(
        RunWarning("settings", None, "setting-ignored", f"{one.origin}: {one.value} has no effect: {why}")
        for one, why in ignored
    )


@contextmanager
def stop_at_interrupt(*, active: bool) -> Iterator[threading.Event]:
    """With `active`, the first Ctrl-C or SIGTERM asks for an orderly end, the second one interrupts."""
    stop = threading.Event()
    if not active:
        yield stop
        return

    def handle(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_summary(result: Run[BoxSummary], report: Path) -> None:
    summary = result.summary
    totals, detections = summary.totals, summary.detections
    if detections["kind"] == "file":
        reading = f" ({detections['reading']})" if detections.get("reading") else ""
        typer.echo(f"detections: {detections['path']}{reading}")
    else:
        reading = f", read as {detections['reading']}" if detections.get("reading") else ""
        typer.echo(f"detector: {detections['name']} ({detections['reason']}){reading}")
    typer.echo(f"{totals['tracks']} tracks with {totals['boxes']} boxes on {totals['frames']} frames")
    if summary.association_fps is not None:
        typer.echo(f"association alone: {summary.association_fps:.0f} frames per second")
    if totals.get("stitched"):
        typer.echo(f"stitched: {totals['stitched']} gaps between tracks of one object")
    if totals["est_id_switches"] is not None:
        typer.echo(f"suspected identity switches: {totals['est_id_switches']}")
    for reason, count in summary.skipped.items():
        typer.echo(f"left out: {count} × {reason}")
    if summary.log is not None:
        typer.echo(f"samples: {summary.log['logged']} in {summary.log['directory']}")
    if result.paths.overlay.is_file():
        typer.echo(f"video: {result.paths.overlay}")
    typer.echo(f"report: {report}")


@with_settings(BOXES)
def video(
    video: Annotated[str, typer.Option(metavar="V", help="a video, a folder, a webcam's number or a stream's address")],
    settings: ResolvedSettings,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="RUN", help="the run folder [default: runs/NAME]")
    ] = None,
    overwrite: Overwrite = False,
    log_level: LogLevelOption = LogLevel.info,
    as_json: AsJson = False,
) -> None:
    """Track a video and, with TRANSFORMER_LOG_DIR, log training samples; options are those of `trackweave boxes`.

    Without --detector and --detections a MOTChallenge folder's own detections are taken, and of other videos whatever
    moves (--detector motion).
    """
    folder = output or Path("runs") / (Path(video).stem or "video")
    run_boxes(video, folder, settings, log_level, overwrite=overwrite, as_json=as_json)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    sys.exit(run_command(command_of(video), arguments, prog="cli"))
