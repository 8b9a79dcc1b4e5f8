"""`trackweave assoc`: training samples of association: look through them, and log videos whose truth is known."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from trackweave.pipelines.samples import BuiltSamples
    from trackweave.structures.run_log import RunWarning


DETECTOR_HELP = "strong, weak, everything, driving, shaky, perfect or what `assoc fit-detector` wrote"


class Grouping(StrEnum):
    """Values of --by."""

    sequence = "sequence"
    video = "video"


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
    from trackweave.association.inspection import inspect_samples, render_text

    report = inspect_samples(*directories)
    if picture is not None:
        report.write_figure(picture)
    typer.echo(json.dumps(report.to_json(), indent=1) if as_json else render_text(report))
    if not report.usable:
        raise typer.Exit(1)


@assoc.command()
def build(
    sequences: Annotated[
        list[Path],
        typer.Argument(
            metavar="SEQUENCE|DATASET...",
            help="MOTChallenge folders with gt/gt.txt, or folders of them (MOT17, DanceTrack, SportsMOT, KITTI)",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="folder of the samples")],
    gt: Annotated[
        Path | None, typer.Option("--gt", metavar="FILE", help="true boxes of the one sequence [default: gt/gt.txt]")
    ] = None,
    separate: Annotated[bool, typer.Option("--separate", help="the same as --by sequence")] = False,
    by: Annotated[
        Grouping | None, typer.Option("--by", help="a folder below DIR per sequence, or per video they were cut from")
    ] = None,
    detections: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="detections, such as det_yolox [default: det/det.txt]")
    ] = None,
    detector: DetectorName = None,
    simulate_detector: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE.json", help="simulate detections on the truth; " + DETECTOR_HELP)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of simulated detections")] = 0,
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
    from trackweave.cli.config import effective_settings
    from trackweave.pipelines.samples import build_samples
    from trackweave.progress import ProgressPrinter
    from trackweave.simulation.settings import detector_noise

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
        by=None if by is None else by.value,
        detections=settings.run.detections,
        simulated=None if simulate_detector is None else detector_noise(simulate_detector),
        seed=seed,
        tracker=settings.tracker,
        video=settings.input,
        perception=settings.perception,
        embed_dim=settings.log.embed_dim,
        progress=lambda label, total: ProgressPrinter(total, label),
    )
    _tell(built, settings.warnings, as_json=as_json)


@assoc.command()
def simulate(
    frames: Annotated[int, typer.Option(metavar="N", min=1, help="of all sequences together")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="the same seed makes the same samples")] = 0,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="DIR", help="folder of the samples")] = None,
    regime: Annotated[str, typer.Option(help="mixed, dance, sport, street or traffic")] = "mixed",
    detector: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE.json", help=DETECTOR_HELP + " [default: as suits the regime]")
    ] = None,
    sequence_frames: Annotated[int, typer.Option(metavar="N", min=1, help="frames of one sequence")] = 300,
    mot: Annotated[
        Path | None, typer.Option("--mot", metavar="DIR", help="write MOTChallenge folders (det, gt, gmc.txt) there")
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="draw the first sequences")] = None,
    tracker: TrackerName = None,
    log_embed_dim: EmbedDim = None,
    config: Config = None,
    pairs: Pairs = None,
    as_json: AsJson = False,
) -> None:
    """Track simulated crowds, and log every frame with the true identity of each detection.

    Needs no data: dancers, players, pedestrians or traffic before a camera, seen by a detector that errs.
    """
    from trackweave.cli.config import effective_settings
    from trackweave.pipelines.samples import simulate_samples
    from trackweave.progress import ProgressPrinter
    from trackweave.simulation.settings import detector_noise

    settings = effective_settings(
        file=config,
        environment=os.environ,
        flags={"tracker.preset": tracker, "log.embed_dim": log_embed_dim},
        pairs=pairs or (),
    )
    built = simulate_samples(
        output,
        frames=frames,
        seed=seed,
        regime=regime,
        detector=None if detector is None else detector_noise(detector),
        sequence_frames=sequence_frames,
        tracker=settings.tracker,
        embed_dim=settings.log.embed_dim,
        mot=mot,
        picture=picture,
        progress=lambda label, total: ProgressPrinter(total, label),
    )
    _tell(built, settings.warnings, as_json=as_json)


@assoc.command()
def remix(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOG|SEQUENCE...", help="samples that a tracker logged, or MOTChallenge folders with gt/gt.txt"
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="folder of the samples")],
    frames: Annotated[int, typer.Option(metavar="N", min=1, help="frames of all scenes together")] = 30_000,
    seed: Annotated[int, typer.Option(min=0, help="of everything that is random")] = 0,
    weights: Annotated[
        Path | None,
        typer.Option("--scorer", metavar="MODEL.onnx", help="judges pairs meanwhile [default: the package's model]"),
    ] = None,
    detector: Annotated[str | None, typer.Option(metavar="PRESET|FILE.json", help=DETECTOR_HELP)] = None,
    scene_frames: Annotated[int, typer.Option(metavar="N", min=1, help="frames of one scene")] = 400,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="draw the first scenes")] = None,
    allow_blended: Annotated[
        bool, typer.Option("--allow-blended", help="take tracks that a learned scorer decided about, too")
    ] = False,
    skip_corrupt: Annotated[bool, typer.Option("--skip-corrupt", help="leave out samples that cannot be read")] = False,
    log_embed_dim: EmbedDim = None,
    as_json: AsJson = False,
) -> None:
    """Put people of recorded videos together in new scenes, track them, and log with the true identities.

    How people move before one's own camera can be learned from a tracker's log without truth:
    then `assoc train --data DIR --labels truth --start default --epochs 2`.
    """
    from trackweave.association.scorer import LearnedScorer
    from trackweave.association.settings import DEFAULT_EMBED_DIM
    from trackweave.pipelines.samples import recorded_people, remix_samples
    from trackweave.progress import ProgressPrinter
    from trackweave.simulation.settings import detector_noise

    built = remix_samples(
        recorded_people(sources, allow_blended=allow_blended, skip_corrupt=skip_corrupt),
        output,
        frames=frames,
        seed=seed,
        detector=None if detector is None else detector_noise(detector),
        scene_frames=scene_frames,
        scorer=LearnedScorer(weights),
        embed_dim=DEFAULT_EMBED_DIM if log_embed_dim is None else log_embed_dim,
        picture=picture,
        progress=lambda label, total: ProgressPrinter(total, label),
    )
    _tell(built, (), as_json=as_json)


@assoc.command("fit-detector")
def fit_detector_command(
    sequence: Annotated[Path, typer.Argument(metavar="SEQUENCE", help="MOTChallenge folder with det and gt/gt.txt")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.json", help="the detector's errors")],
    detections: Annotated[str | None, typer.Option(metavar="NAME", help="such as det_yolox [default: det]")] = None,
    class_id: Annotated[int | None, typer.Option("--class", help="only this class, as 3 for cars in KITTI's")] = None,
) -> None:
    """Measure how a detector errs on a sequence whose truth is known; for --detector and --simulate-detector."""
    from trackweave.simulation.detector_fit import fit_sequence
    from trackweave.storage.files import replacing

    noise = fit_sequence(sequence, detections=detections, class_id=class_id)
    with replacing(output) as temporary:
        temporary.write_text(noise.to_json(), encoding="utf-8")
    typer.echo(
        f"{output}: recall {noise.recall:.0%}, jitter {noise.jitter:.1%} of a box, "
        f"{noise.false_rate:.2g} false boxes per frame"
    )


@assoc.command(
    "train",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
    help="Train a model on samples: --data DIR… --output TRAINING; --help lists every flag.",
)
def train_command(context: typer.Context) -> None:
    """Hands everything to `train_assoc`, which has the flags."""
    from trackweave.association.training.train_assoc import main

    raise typer.Exit(main(context.args, prog="trackweave assoc train"))


@assoc.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="best.pt of a training")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="MODEL.onnx", help="for --scorer learned=MODEL")],
) -> None:
    """Write a trained model as ONNX, which the tracker runs without torch; both must answer alike."""
    with _needs_torch():
        from trackweave.association.training.checkpoint import export_onnx
    typer.echo(f"model: {export_onnx(checkpoint, output)}")


@assoc.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="best.pt of a training")],
    data: Annotated[list[Path], typer.Option("--data", metavar="DIR", help="folder of samples; repeatable")],
    labels: Annotated[str, typer.Option(help="truth, tracker or both")] = "both",
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="the curves as a page")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a trained model on samples that it has not seen: matches, calibration, confusion by gap length."""
    with _needs_torch():
        from trackweave.association.training.report import evaluate_checkpoint
    found = evaluate_checkpoint(checkpoint, data, labels=labels, report=report)
    typer.echo(json.dumps(found.to_json(), indent=1) if as_json else found.text())


@contextmanager
def _needs_torch() -> Iterator[None]:
    """Turns a missing torch into the error that names the extra."""
    from trackweave.errors import MissingExtraError

    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("torch", "train") from None


def _tell(built: list[BuiltSamples], warnings: Sequence[RunWarning], *, as_json: bool) -> None:
    for warning in [*warnings, *(warning for one in built for warning in one.warnings)]:
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
