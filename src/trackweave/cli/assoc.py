"""`trackweave assoc`: samples of association, from truth or simulated, and models that learn from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trackweave.association.settings import LogSettings
from trackweave.association.training.train_assoc import TrainingOptions, training_command
from trackweave.cli.boxes import BOXES
from trackweave.mot.settings import TrackerSettings
from trackweave.options.commands import AsJson
from trackweave.options.flags import with_settings
from trackweave.options.schema import Schema, short_flags_of
from trackweave.options.sources import ResolvedSettings
from trackweave.pipelines.settings import (
    DETECTOR_HELP,
    DETECTOR_METAVAR,
    BoxRunSettings,
    InputSettings,
    PerceptionSettings,
    RemixSettings,
    SimulateSettings,
)

if TYPE_CHECKING:
    from trackweave.pipelines.samples import BuiltSamples

INPUTS = BOXES.narrowed(
    "tracker",
    "input",
    "perception",
    "log",
    "run",
    without=("log.dir", "log.sequence", "run.overlay", "input.fps", "input.size"),
)
TRACKED = BOXES.narrowed("tracker", "log", without=("log.dir", "log.sequence"))
SIMULATE = TRACKED + Schema(("simulate",), short_flags_of("simulate"))
REMIX = TRACKED.narrowed("log") + Schema(("remix",), short_flags_of("remix"))


class Grouping(StrEnum):
    """Values of --by."""

    sequence = "sequence"
    video = "video"


Figure = Annotated[Path | None, typer.Option("--picture", metavar="FILE.png", help="draw the first sequences")]
Samples = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="folder of the samples")]


def inspect(
    directories: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR", help="folders of samples [default: $TRANSFORMER_LOG_DIR]")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="draw the distributions of features and cost")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Report what logged samples hold; exit code 1 when something is not usable."""
    from trackweave.association.training.train_assoc import print_inspection

    print_inspection(directories or (), picture, as_json=as_json)


@with_settings(INPUTS)
def build(
    sequences: Annotated[
        list[Path],
        typer.Argument(
            metavar="SEQUENCE|DATASET",
            help="MOTChallenge folders with gt/gt.txt, or folders of them (MOT17, DanceTrack, SportsMOT, KITTI)",
        ),
    ],
    output: Samples,
    settings: ResolvedSettings,
    gt: Annotated[
        Path | None, typer.Option("--gt", metavar="FILE", help="true boxes of the one sequence [default: gt/gt.txt]")
    ] = None,
    separate: Annotated[bool, typer.Option("--separate", help="the same as --by sequence")] = False,
    by: Annotated[
        Grouping | None, typer.Option("--by", help="a folder below DIR per sequence, or per video they were cut from")
    ] = None,
    simulate_detector: Annotated[
        str | None,
        typer.Option(metavar=DETECTOR_METAVAR, help=f"simulate detections on the truth: {DETECTOR_HELP}"),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="of simulated detections")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="remove the samples that DIR holds; other files in it stay")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Track sequences whose truth is known, and log every frame with the true identity of each detection."""
    from trackweave.errors import SettingError
    from trackweave.pipelines.samples import SimulatedDetector, build_samples
    from trackweave.simulation.settings import detector_noise

    detections: str | Path | SimulatedDetector | None = settings[BoxRunSettings].detections
    if simulate_detector is not None:
        if detections is not None:
            raise SettingError(f"both detections ({detections}) and a simulated detector are given: leave one out")
        detections = SimulatedDetector(detector_noise(simulate_detector), seed)
    grouping = Grouping.sequence if separate else by
    built = build_samples(
        sequences,
        output,
        truth=gt,
        by=None if grouping is None else grouping.value,
        detections=detections,
        tracker=settings[TrackerSettings],
        video=settings[InputSettings],
        perception=settings[PerceptionSettings],
        embed_dim=settings[LogSettings].embed_dim,
        overwrite=overwrite,
        progress=True,
    )
    _print_built(built, as_json=as_json)


@with_settings(SIMULATE)
def simulate(
    settings: ResolvedSettings,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="DIR", help="folder of the samples")] = None,
    mot: Annotated[
        Path | None, typer.Option("--mot", metavar="DIR", help="write MOTChallenge folders (det, gt, gmc.txt) there")
    ] = None,
    picture: Figure = None,
    as_json: AsJson = False,
) -> None:
    """Track simulated scenes, and log every frame with the true identity of each detection.

    Needs no data: dancers, players, pedestrians or traffic before a camera, seen by a detector that errs.
    """
    from trackweave.pipelines.samples import simulate_samples

    built = simulate_samples(
        settings[SimulateSettings],
        output,
        tracker=settings[TrackerSettings],
        embed_dim=settings[LogSettings].embed_dim,
        mot=mot,
        preview=picture,
        progress=True,
    )
    _print_built(built, as_json=as_json)


@with_settings(REMIX)
def remix(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOG|SEQUENCE", help="samples that a tracker logged, or MOTChallenge folders with gt/gt.txt"
        ),
    ],
    output: Samples,
    settings: ResolvedSettings,
    weights: Annotated[
        Path | None,
        typer.Option("--scorer", metavar="MODEL.onnx", help="scores pairs meanwhile [default: the package's model]"),
    ] = None,
    picture: Figure = None,
    allow_blended: Annotated[
        bool, typer.Option("--allow-blended", help="take tracks that a learned scorer decided about, too")
    ] = False,
    skip_corrupt: Annotated[bool, typer.Option("--skip-corrupt", help="leave out samples that cannot be read")] = False,
    as_json: AsJson = False,
) -> None:
    """Re-simulate on recorded trajectories: track them in new scenes, and log with the true identities.

    How objects move before one's own camera can be learned from a tracker's log without truth:
    then `assoc train --data DIR --labels truth --start default --epochs 2`.
    """
    from trackweave.association.scorer import LearnedScorer
    from trackweave.pipelines.samples import read_trajectories, resimulate_samples

    built = resimulate_samples(
        read_trajectories(sources, allow_blended=allow_blended, skip_corrupt=skip_corrupt),
        settings[RemixSettings],
        output,
        scorer=LearnedScorer(weights),
        embed_dim=settings[LogSettings].embed_dim,
        preview=picture,
        progress=True,
    )
    _print_built(built, as_json=as_json)


def fit_detector(
    sequence: Annotated[Path, typer.Argument(metavar="SEQUENCE", help="MOTChallenge folder with det and gt/gt.txt")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.json", help="the detector's errors")],
    detections: Annotated[str | None, typer.Option(metavar="NAME", help="such as det_yolox [default: det]")] = None,
    class_id: Annotated[int | None, typer.Option("--class", help="only this class, as 3 for cars in KITTI's")] = None,
) -> None:
    """Measure how a detector errs on a sequence whose truth is known; for --detector and --simulate-detector."""
    from trackweave.simulation.detector_fit import fit_sequence
    from trackweave.storage.files import refuse_overwriting, replacing

    refuse_overwriting([output], [path for pattern in ("*.ini", "gt/*", "det/*") for path in sequence.glob(pattern)])
    noise = fit_sequence(sequence, detections=detections, class_id=class_id)
    with replacing(output) as temporary:
        temporary.write_text(noise.to_json(), encoding="utf-8")
    typer.echo(
        f"{output}: recall {noise.recall:.0%}, jitter {noise.jitter:.1%} of a box, "
        f"{noise.false_rate:.2g} false boxes per frame"
    )


def _learn(data: Sequence[Path], output: Path, options: TrainingOptions) -> str:
    from trackweave.pipelines.learning import learn

    return learn(data, output, options)


train = training_command(_learn)


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="best.pt of a training")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="MODEL.onnx", help="for --scorer learned=MODEL")],
) -> None:
    """Write a trained model as ONNX, which the tracker runs without torch; both must answer alike."""
    with _needs_torch():
        from trackweave.association.training.checkpoint import export_onnx
    typer.echo(f"model: {export_onnx(checkpoint, output)}")


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
    metrics = evaluate_checkpoint(checkpoint, data, labels=labels, report=report)
    typer.echo(json.dumps(metrics.to_json(), indent=1) if as_json else metrics.text())


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


def _print_built(built: list[BuiltSamples], *, as_json: bool) -> None:
    for warning in [warning for one in built for warning in one.warnings]:
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
