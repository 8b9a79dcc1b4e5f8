"""`trackweave assoc`: training samples of association: look through them, and log videos whose truth is known."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from trackweave.cli.boxes import (
    Appearance,
    AsJson,
    BadItems,
    CameraName,
    ClassColumn,
    Confidence,
    Config,
    DetectorName,
    Diagnostics,
    Embedder,
    EmbedDim,
    Pairs,
    Segmentation,
    TrackerName,
)

assoc = typer.Typer(name="assoc", help="Training samples of association.", no_args_is_help=True, rich_markup_mode=None)


@assoc.command()
def inspect(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="folders of samples")],
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="draw the distributions of features and cost")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Report what logged samples hold; exit code 1 when something is not usable."""
    from trackweave.association.inspection import inspect_samples
    from trackweave.association.inspection_text import render_text

    report = inspect_samples(*directories)
    if picture is not None:
        report.write_picture(picture)
    typer.echo(json.dumps(report.to_json(), indent=1) if as_json else render_text(report))
    if not report.usable:
        raise typer.Exit(1)


@assoc.command()
def build(
    sequences: Annotated[list[Path], typer.Argument(metavar="SEQUENCE...", help="MOTChallenge folders with gt/gt.txt")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="folder of the samples")],
    gt: Annotated[
        Path | None, typer.Option("--gt", metavar="FILE", help="true boxes of the one sequence [default: gt/gt.txt]")
    ] = None,
    separate: Annotated[bool, typer.Option("--separate", help="a folder per sequence below DIR")] = False,
    detections: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="detections, such as det_yolox [default: det/det.txt]")
    ] = None,
    detector: DetectorName = None,
    tracker: TrackerName = None,
    class_column: ClassColumn = None,
    confidence: Confidence = None,
    embedder: Embedder = None,
    appearance: Appearance = None,
    segmentation: Segmentation = None,
    diagnostics: Diagnostics = None,
    camera: CameraName = None,
    log_embed_dim: EmbedDim = None,
    on_bad_item: BadItems = None,
    config: Config = None,
    pairs: Pairs = None,
    as_json: AsJson = False,
) -> None:
    """Track sequences whose truth is known, and log every frame with the true identity of each detection."""
    from trackweave.cli.settings import effective_settings
    from trackweave.track_from_detections import build_samples
    from trackweave.tracking.helpers import ProgressPrinter

    settings = effective_settings(
        file=config,
        environment=os.environ,
        flags={
            "run.detections": detections,
            "perception.detector": detector,
            "perception.embedder": embedder,
            "perception.segmentation": segmentation,
            "perception.camera": camera,
            "tracker.preset": tracker,
            "tracker.confidence_threshold": confidence,
            "tracker.appearance_memory": appearance,
            "tracker.diagnostics": diagnostics,
            "tracker.on_bad_item": on_bad_item,
            "input.on_bad_item": on_bad_item,
            "input.class_column": class_column,
            "log.embed_dim": log_embed_dim,
        },
        pairs=pairs or (),
    )
    built = build_samples(
        sequences,
        output,
        truth=gt,
        separate=separate,
        detections=settings.run.detections,
        tracker=settings.tracker,
        video=settings.input,
        perception=settings.perception,
        embed_dim=settings.log.embed_dim,
        progress=lambda label, total: ProgressPrinter(total, label),
    )
    for warning in [*settings.warnings, *(warning for one in built for warning in one.warnings)]:
        typer.echo(f"warning: {warning.message}", err=True)
    if as_json:
        typer.echo(json.dumps([one.to_json() for one in built]))
        return
    for one in built:
        share = one.identified / one.detections if one.detections else 0.0
        typer.echo(
            f"{one.sequence}: {one.samples} samples of {one.frames} frames in {one.directory}; "
            f"{share:.0%} of {one.detections} detections have a true identity"
        )
