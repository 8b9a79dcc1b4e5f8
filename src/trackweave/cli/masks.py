"""`trackweave masks`: from frames to objects that are followed."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trackweave.errors import SettingError

if TYPE_CHECKING:
    from trackweave.cli.config import MaskSettings


FREE_OF_WEIGHTS = ("flow", "static", "replay")


class PromptModeName(StrEnum):
    """Values of --prompt-mode."""

    mask = "mask"
    box = "box"
    auto = "auto"


class BadItemPolicy(StrEnum):
    """Values of --on-bad-item."""

    error = "error"
    skip = "skip"


Candidates = Annotated[Path | None, typer.Option(metavar="DIR", help="folder with level_L/filtered/filtered.json")]
Prompts = Annotated[
    list[str] | None,
    typer.Option(metavar="[FRAME:]LABEL.png", help="indexed image of objects to track; may be repeated"),
]
Generator = Annotated[
    str | None, typer.Option(help="candidate generator when neither of the above is given [default: regions]")
]
Stride = Annotated[int | None, typer.Option(help="frames between two on which the generator runs [default: 10]")]
Levels = Annotated[
    str | None,
    typer.Option("--levels", metavar="2,4,6", help="coarse, medium, fine [default: those of the candidates]"),
]
PredictorName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[=WEIGHTS]",
        help="auto, sam2-hf, sam2, sam3-tracker, edgetam, flow, static, replay=PATH [default: auto]",
    ),
]
Weights = Annotated[
    Path | None, typer.Option(metavar="PATH|NAME", help="weights of the predictor [default: see `trackweave models`]")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps [default: auto]")]
Absent = Annotated[
    int | None, typer.Option(metavar="N", help="give up an object after N frames without it; 0 never does [default: 0]")
]
Compile = Annotated[bool | None, typer.Option("--compile/--no-compile", help="torch.compile the model's parts")]
Sampling = Annotated[str | None, typer.Option("--frames", metavar="START:END:STEP", help="which frames, as a slice")]
PromptMode = Annotated[PromptModeName | None, typer.Option(help="auto prompts small objects by box [default: mask]")]
Threshold = Annotated[
    float | None, typer.Option(help="a candidate is new when its best IoU is at or below [default: 0.6]")
]
Reach = Annotated[int | None, typer.Option(help="frames each way from the prompt [default: all]")]
Scale = Annotated[float | None, typer.Option(help="stored mask size over frame size [default: 1.0]")]
BadItems = Annotated[
    BadItemPolicy | None, typer.Option(help="stop at a bad candidate or frame, or leave it out [default: error]")
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="settings as YAML")]
Pairs = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="any setting of `trackweave config`; may be repeated"),
]


def masks(
    frames: Annotated[str, typer.Argument(metavar="FRAMES|VIDEO", help="a folder of images or a video file")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="the run folder to write")],
    candidates: Candidates = None,
    prompts: Prompts = None,
    generator: Generator = None,
    candidate_stride: Stride = None,
    levels: Levels = None,
    predictor: PredictorName = None,
    weights: Weights = None,
    device: Device = None,
    no_feature_store: Annotated[
        bool, typer.Option("--no-feature-store", help="the stock predictor, reset for every prompt frame: slow")
    ] = False,
    stop_after_absent: Absent = None,
    compile_model: Compile = None,
    sampling: Sampling = None,
    prompt_mode: PromptMode = None,
    iou_threshold: Threshold = None,
    max_propagate: Reach = None,
    mask_scale: Scale = None,
    on_bad_item: BadItems = None,
    resume: Annotated[bool, typer.Option("--resume", help="finish a run that was cut off")] = False,
    no_viz: Annotated[bool, typer.Option("--no-viz", help="no comparison pictures")] = False,
    config: Config = None,
    pairs: Pairs = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Follow the objects of a video through time: masks, boxes, pictures and a report.

    Without --candidates and --prompts, candidates are found by the built-in generator, at the coarse level unless
    --levels asks for more. Nothing is downloaded.
    """
    from trackweave.cli.config import effective_mask_settings

    settings = effective_mask_settings(
        file=config,
        environment=os.environ,
        flags={
            "masks.predictor": predictor,
            "masks.generator": generator,
            "masks.candidate_stride": candidate_stride,
            "masks.levels": levels,
            "masks.frames": sampling,
            "tracking.prompt_mode": None if prompt_mode is None else prompt_mode.value,
            "tracking.iou_threshold": iou_threshold,
            "tracking.max_propagate": max_propagate,
            "tracking.mask_scale_ratio": mask_scale,
            "tracking.on_bad_item": None if on_bad_item is None else on_bad_item.value,
            "tracking.render_viz": False if no_viz else None,
            "predictor.weights": weights,
            "predictor.device": device,
            "predictor.feature_store": False if no_feature_store else None,
            "predictor.stop_after_absent": stop_after_absent,
            "predictor.compile": None if compile_model is None else ("on" if compile_model else "off"),
        },
        pairs=pairs or (),
    )
    name = settings.masks.predictor.partition("=")[0]
    if weights is not None and name in FREE_OF_WEIGHTS:
        raise SettingError(f"predictor {name} has no weights: leave --weights out, or choose another --predictor")
    _run(frames, output, settings, candidates, prompts or None, resume=resume, as_json=as_json)


def _run(
    frames: str,
    output: Path,
    settings: MaskSettings,
    candidates: Path | None,
    prompts: list[str] | None,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    from trackweave.pipelines.masks import parse_levels, track_masks
    from trackweave.progress import ProgressPrinter
    from trackweave.reports.page import report as write_report

    asked = settings.masks
    result = track_masks(
        frames,
        output,
        candidates=candidates,
        prompts=prompts,
        generator=asked.generator,
        candidate_stride=asked.candidate_stride,
        levels=parse_levels(asked.levels),
        predictor=asked.predictor,
        predictor_settings=settings.predictor,
        sampling=asked.frames,
        settings=settings.tracking,
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
