"""`trackweave boxes`: from detections, or a detector, to identities."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trackweave.errors import SettingError, TrackweaveError

if TYPE_CHECKING:
    from trackweave.cli.config import BoxSettings
    from trackweave.pipelines.run_folder import BoxRunResult


class LogLevel(StrEnum):
    """Values of --log-level."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="settings as YAML")]
Pairs = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="any setting of `trackweave config`; repeatable")
]
Detections = Annotated[
    str | None, typer.Option(metavar="FILE", help="MOT text, COCO results, CSV or Parquet [default: det/det.txt]")
]
DetectorName = Annotated[
    str | None, typer.Option("--detector", metavar="NAME|MODEL.onnx", help="motion, hog or a model [default: motion]")
]
TrackerName = Annotated[
    str | None,
    typer.Option("--tracker", help="adaptive, bytetrack, sort, ocsort, botsort, learned [default: adaptive]"),
]
Scorer = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        metavar="iou|learned|learned=MODEL.onnx",
        help="who judges pairs: overlap and motion, or a learned scorer, the package's own or a trained one "
        "[default: iou]",
    ),
]
Confidence = Annotated[float | None, typer.Option(help="detections below are not looked at")]
Embedder = Annotated[str | None, typer.Option(help="none, layout or MODEL.onnx [default: layout with --appearance]")]
Appearance = Annotated[bool | None, typer.Option("--appearance/--no-appearance", help="remember what tracks look like")]
Segmentation = Annotated[
    bool | None, typer.Option("--segmentation/--no-segmentation", help="visibility from masks and crops, not boxes")
]
Diagnostics = Annotated[bool | None, typer.Option("--diagnostics/--no-diagnostics", help="look for identity switches")]
CameraName = Annotated[
    str | None, typer.Option("--camera", help="given (gmc.txt), estimate, off or auto [default: auto]")
]
Fps = Annotated[float | None, typer.Option(help="frames per second, when the source does not say or is wrong")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="size of the frames, when there are no pictures")]
ClassColumn = Annotated[int | None, typer.Option(help="1-based column of the class in MOT text; 8 in KITTI's")]
EmbedDim = Annotated[int | None, typer.Option("--log-embed-dim", help="width of the logged embeddings [default: 256]")]
BadItems = Annotated[
    str | None,
    typer.Option(
        "--on-bad-item",
        help="error or skip [default: error for frames and rows of files, skip for single detections]",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def boxes(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="the run folder to write")],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SEQUENCE|VIDEO|FRAMES|CAMERA]",
            help="a MOTChallenge folder, a video, a folder of images, a webcam's number or a stream's address; "
            "without it --detections alone is tracked",
        ),
    ] = None,
    detections: Detections = None,
    detector: DetectorName = None,
    tracker: TrackerName = None,
    scorer: Scorer = None,
    fps: Fps = None,
    size: Size = None,
    class_column: ClassColumn = None,
    confidence: Confidence = None,
    embedder: Embedder = None,
    appearance: Appearance = None,
    segmentation: Segmentation = None,
    diagnostics: Diagnostics = None,
    camera: CameraName = None,
    log_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="log training samples there")] = None,
    log_embed_dim: EmbedDim = None,
    sequence: Annotated[str | None, typer.Option(help="id of the video in the samples [default: its name]")] = None,
    interpolate: Annotated[int | None, typer.Option(metavar="N", help="fill gaps of up to N frames at the end")] = None,
    min_length: Annotated[int | None, typer.Option(metavar="N", help="remove tracks of fewer boxes at the end")] = None,
    smooth: Annotated[int | None, typer.Option(metavar="W", help="smooth boxes over W frames (odd) at the end")] = None,
    output_boxes: Annotated[str | None, typer.Option(help="detected or smoothed [default: detected]")] = None,
    max_frames: Annotated[int | None, typer.Option(help="stop after so many frames")] = None,
    frames: Annotated[str | None, typer.Option(metavar="START:END:STEP", help="which frames, as a slice")] = None,
    on_bad_item: BadItems = None,
    no_viz: Annotated[bool, typer.Option("--no-viz", help="no overlay video")] = False,
    config: Config = None,
    pairs: Pairs = None,
    log_level: Annotated[LogLevel, typer.Option(help="how much to say on standard error")] = LogLevel.info,
    as_json: AsJson = False,
) -> None:
    """Give the boxes of a video identities: tracks, an archive, an overlay video and a report.

    Without --detections and --detector, a sequence's own det/det.txt is taken, and for other sources whatever moves.
    Refinements (--interpolate, --min-length, --smooth) hold all tracks in memory. Nothing is downloaded.
    """
    from trackweave.cli.config import effective_settings

    settings = effective_settings(
        file=config,
        environment=os.environ,
        flags={
            "run.detections": detections,
            "run.overlay": False if no_viz else None,
            "perception.detector": detector,
            "perception.embedder": embedder,
            "perception.segmentation": segmentation,
            "perception.camera": camera,
            "tracker.preset": tracker,
            "tracker.confidence_threshold": confidence,
            "tracker.appearance_memory": appearance,
            "tracker.diagnostics": diagnostics,
            "tracker.output_boxes": output_boxes,
            "tracker.on_bad_item": on_bad_item,
            "input.on_bad_item": on_bad_item,
            "input.fps": fps,
            "input.size": size,
            "input.class_column": class_column,
            "input.max_frames": max_frames,
            "input.frames": frames,
            "refinement.interpolate_max_gap": interpolate,
            "refinement.min_track_length": min_length,
            "refinement.smooth_window": smooth,
            "log.dir": log_dir,
            "log.embed_dim": log_embed_dim,
            "log.sequence": sequence,
            **scorer_flags(scorer),
        },
        pairs=pairs or (),
    )
    if log_level is LogLevel.debug:
        for row in settings.rows():
            typer.echo(f"setting {row.key} = {row.value} ({row.origin})", err=True)
    result = _run(source, output, settings, shows_progress=log_level in (LogLevel.debug, LogLevel.info))
    from trackweave.reports.page import report as write_report

    report = write_report(output)
    if log_level is not LogLevel.error:
        for warning in result.warnings:
            typer.echo(f"warning: {warning.message}", err=True)
    if as_json:
        typer.echo(json.dumps(result.summary))
    else:
        _tell(result, report)


def scorer_flags(text: str | None) -> dict[str, Any]:
    """Settings that `--scorer` stands for.

    Raises:
        SettingError: none of its values.
    """
    if text is None:
        return {}
    kind, _, path = text.partition("=")
    if text == "iou":
        return {"scorer.enabled": False}
    if kind != "learned" or (path == "" and "=" in text):
        raise SettingError(f"flag --scorer: {text!r} is none of iou, learned, learned=MODEL.onnx")
    return {"scorer.enabled": True, **({"scorer.weights": path} if path else {})}


def _run(source: str | None, output: Path, settings: BoxSettings, *, shows_progress: bool) -> BoxRunResult:
    from trackweave.frames.live import is_live
    from trackweave.pipelines.boxes import track_boxes
    from trackweave.progress import ProgressPrinter

    live = source is not None and is_live(source)
    if live and shows_progress:
        typer.echo("live: Ctrl-C ends the run and keeps what is there", err=True)
    try:
        with _stop_at_interrupt(active=live) as stop:
            return track_boxes(
                source,
                output,
                detections=settings.run.detections,
                tracker=settings.tracker,
                video=settings.input,
                perception=settings.perception,
                refinement=settings.refinement,
                log=settings.log,
                scorer=settings.scorer,
                overlay=settings.run.overlay,
                stop=stop,
                warnings=settings.warnings,
                progress=(lambda label, total: ProgressPrinter(total, label)) if shows_progress else None,
            )
    except KeyboardInterrupt:
        raise TrackweaveError(f"interrupted: {output} holds no tracks of this run") from None


@contextmanager
def _stop_at_interrupt(*, active: bool) -> Iterator[threading.Event]:
    """With `active`, the first Ctrl-C asks for an orderly end, the second one interrupts."""
    stop = threading.Event()
    if not active:
        yield stop
        return

    def handle(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _tell(result: BoxRunResult, report: Path) -> None:
    summary = result.summary
    totals, seen_by = summary["totals"], summary["detections"]
    if seen_by["kind"] == "file":
        typer.echo(f"detections: {seen_by['path']}")
    else:
        typer.echo(f"detector: {seen_by['name']} ({seen_by['reason']})")
    typer.echo(f"{totals['tracks']} tracks with {totals['boxes']} boxes on {totals['frames']} frames")
    if summary["association_fps"] is not None:
        typer.echo(f"association alone: {summary['association_fps']:.0f} frames per second")
    if totals["est_id_switches"] is not None:
        typer.echo(f"suspected identity switches: {totals['est_id_switches']}")
    for reason, count in summary["skipped"].items():
        typer.echo(f"left out: {count} × {reason}")
    if summary["log"] is not None:
        typer.echo(f"samples: {summary['log']['logged']} in {summary['log']['directory']}")
    if result.run.overlay.is_file():
        typer.echo(f"video: {result.run.overlay}")
    typer.echo(f"report: {report}")
