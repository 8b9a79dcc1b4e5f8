"""`trackweave masks` and `trackweave propose`: from frames to candidates, and to objects that are followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trackweave.errors import SettingError, TrackweaveError
from trackweave.options.commands import AsJson, Overwrite
from trackweave.options.flags import with_settings
from trackweave.options.schema import Schema, ShortFlag, short
from trackweave.options.sources import ResolvedSettings
from trackweave.pipelines.settings import MaskRunSettings
from trackweave.predictors.catalog import BACKENDS
from trackweave.predictors.sam.settings import SamSettings
from trackweave.proposals.settings import CandidateSettings
from trackweave.tracking.settings import OnlineSettings, TrackingSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackweave.pipelines.online_masks import MaskStream
    from trackweave.pipelines.run import Run
    from trackweave.structures.prompts import Prompt
    from trackweave.structures.run_summary import MaskSummary

WEIGHTS_FREE = ("flow", "static", "replay")
LEVELS_ONLY = ("masks.levels", "tracking.iou_threshold", "tracking.prompt_mode", "tracking.long_tail_area")
"""Settings of candidates: a user's label images have no levels and are taken as they are."""
PICTURES_ONLY = ("masks.overlay_levels", "tracking.preview_stride", "tracking.preview_max")

MASKS = Schema(
    (
        "masks",
        "tracking",
        "online",
        "predictor",
        "flow",
        "regions",
        "grid",
        "text",
        "candidates",
        "identity",
        "overlay",
    ),
    flags=(
        short("--generator", "masks.generator"),
        short("--text", "text.prompts"),
        short("--candidate-stride", "masks.candidate_stride"),
        short("--region", "candidates.region"),
        short("--gap-area", "candidates.gap_area"),
        short("--tile-size", "candidates.tile_size"),
        ShortFlag("--nest", ("candidates.nest",)),
        short("--levels", "masks.levels"),
        short("--frames", "masks.frames"),
        short("--predictor", "masks.predictor"),
        short("--prompt-mode", "tracking.prompt_mode"),
        short("--iou-threshold", "tracking.iou_threshold"),
        short("--max-propagate", "tracking.max_propagate"),
        short("--mask-scale", "tracking.mask_scale_ratio"),
        short("--on-bad-item", "tracking.on_bad_item"),
        short("--cuts", "tracking.cuts"),
        short("--max-frames", "online.max_frames"),
        short("--max-absent", "online.max_absent"),
        short("--viz", "tracking.render_viz"),
        short("--identity", "masks.identity"),
        short("--style", "overlay.style"),
        short("--overlay-levels", "masks.overlay_levels"),
        short("--weights", "predictor.weights"),
        short("--device", "predictor.device"),
        short("--feature-store", "predictor.feature_store"),
        short("--stop-after-absent", "predictor.stop_after_absent"),
        ShortFlag("--compile/--no-compile", ("predictor.compile",)),
    ),
    environment={"TRACKWEAVE_PREDICTOR": "masks.predictor", "TRACKWEAVE_DEVICE": "predictor.device"},
)
PROPOSE = MASKS.narrowed(
    "masks",
    "predictor",
    "regions",
    "grid",
    "text",
    "candidates",
    without=("masks.predictor", "masks.overlay_levels", "masks.identity", "predictor.stop_after_absent"),
)

LIMITS = ("min_area", "max_area", "min_stability", "min_predicted_iou", "nms_iou", "max_count", "region", "gap_area")
FILTER = Schema(
    ("candidates",),
    flags=(
        *(short(f"--{name.replace('_', '-')}", f"candidates.{name}") for name in LIMITS),
        ShortFlag("--nest", ("candidates.nest",)),
    ),
    without=frozenset({"candidates.tile_size", "candidates.tile_overlap"}),
)

Frames = Annotated[str, typer.Argument(metavar="FRAMES|VIDEO", help="a folder of images or a video file")]
FramesOrLive = Annotated[
    str,
    typer.Argument(
        metavar="FRAMES|VIDEO|LIVE", help="a folder of images, a video file, a webcam's number or a stream's address"
    ),
]


@with_settings(MASKS)
def masks(
    frames: FramesOrLive,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="the run folder to write")],
    settings: ResolvedSettings,
    candidates: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE",
            help="folder with level_L/filtered/filtered.json, or COCO, SAM's JSON, label images, PNG masks, arrays",
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FRAME:]LABEL.png|FILE",
            help="indexed image of objects to track, or JSON or CSV of points, boxes, polygons and masks; repeatable",
        ),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FRAME,X,Y[,ID[,0]]", help="a point in an object to track, or (0) outside of it; repeatable"
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="FRAME,X1,Y1,X2,Y2[,ID]", help="a box around an object to track; repeatable"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="finish a run that was cut off")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Follow the objects of a video through time: masks, boxes, images and a report.

    Without --candidates, --prompts, --point and --box, candidates are found by the built-in generator, at the coarse
    level unless --levels asks for more. Live sources are followed forward only, until Ctrl-C. Nothing is downloaded.

    Example: trackweave masks clip.mp4 -o runs/clip --levels 2,4
    """
    from trackweave.reports.page import report as write_report

    marked = [*(prompts or ()), *map(_point, point or ()), *map(_box, box or ())]
    result = track(frames, output, settings, candidates=candidates, prompts=marked, resume=resume, overwrite=overwrite)
    report = write_report(output)
    if as_json:
        typer.echo(json.dumps(result.summary.to_json()))
    else:
        _print_summary(result, report)


def track(
    frames: str,
    output: Path,
    settings: ResolvedSettings,
    *,
    candidates: Path | None = None,
    prompts: Sequence[str | Prompt] = (),
    resume: bool = False,
    overwrite: bool = False,
) -> Run[MaskSummary]:
    """Runs `track_masks` with the settings of a command line.

    Raises:
        SettingError: a flag that has no effect with this predictor or these prompts.
    """
    from trackweave.frames.live import is_live
    from trackweave.pipelines.masks import track_masks
    from trackweave.pipelines.resolved import mask_options, tracking_of

    run, live = settings[MaskRunSettings], is_live(frames)
    _refuse_without_effect(settings, run, proposes=candidates is None and not prompts, has_labels=bool(prompts))
    _refuse_of_live(settings, live=live, resume=resume)
    if live:
        return _follow(
            track_masks(
                frames,
                output,
                candidates=candidates,
                prompts=prompts or None,
                levels=run.levels,
                predictor=run.predictor,
                settings=tracking_of(settings),
                online=settings[OnlineSettings],
                **mask_options(settings, overwrite=overwrite),
            )
        )
    return track_masks(
        frames,
        output,
        candidates=candidates,
        prompts=prompts or None,
        levels=run.levels,
        predictor=run.predictor,
        settings=tracking_of(settings),
        resume=resume,
        progress=True,
        **mask_options(settings, overwrite=overwrite),
    )


def _follow(stream: MaskStream) -> Run[MaskSummary]:
    """Follows a live source until it ends or Ctrl-C; what came before an error is kept.

    Raises:
        TrackweaveError: the source broke off or the predictor failed; the message says what is kept.
    """
    from trackweave.cli.boxes import stop_at_interrupt
    from trackweave.progress import ProgressPrinter

    typer.echo("live: Ctrl-C ends the run and keeps what is there", err=True)
    with stop_at_interrupt(active=True) as stop, ProgressPrinter(None, "tracking", unit="frames") as display:
        count = 0
        try:
            for count, _ in enumerate(stream, start=1):
                display.update(count, count - 1)
                if stop.is_set():
                    break
        except TrackweaveError as error:
            if count and stream.close() is not None:
                error.args = (f"{error}; the run of the {count} frames before it is written",)
            raise
    run = stream.close()
    assert run is not None  # an output was given, and a frame came
    return run


def _refuse_of_live(settings: ResolvedSettings, *, live: bool, resume: bool) -> None:
    """Refuses flags of live sources where there is none, and those that a live source cannot have.

    Raises:
        SettingError: one was given.
    """
    if live and resume:
        raise SettingError("--resume has no effect: the frames of a live source come once")
    for key, provided in settings.provided.items():
        is_flag = provided.origin.startswith("flag")
        if is_flag and key.startswith("online.") and not live:
            raise SettingError(f"{provided.origin}: {key} has no effect: FRAMES is no live source")
        if is_flag and live and key in ("masks.frames", "masks.overlay_levels"):
            raise SettingError(f"{provided.origin}: {key} has no effect with a live source")


def _point(text: str) -> Prompt:
    """`FRAME,X,Y[,ID[,0]]`."""
    from trackweave.structures.prompts import Prompt

    frame, numbers = _numbers("--point", text, (2, 3, 4))
    x, y, *rest = numbers
    track_id = int(rest[0]) if rest else None
    return Prompt(frame, track_id, points=[(x, y)], labels=[int(rest[1])] if len(rest) > 1 else [1])


def _box(text: str) -> Prompt:
    """`FRAME,X1,Y1,X2,Y2[,ID]`."""
    from trackweave.structures.prompts import Prompt

    frame, numbers = _numbers("--box", text, (4, 5))
    return Prompt(frame, int(numbers[4]) if len(numbers) > 4 else None, box=numbers[:4])


def _numbers(flag: str, text: str, counts: Sequence[int]) -> tuple[int | str, list[float]]:
    """The frame, its index or its name, and the numbers behind it.

    Raises:
        SettingError: not as many numbers.
    """
    from trackweave.structures.prompts import frame_of_text

    frame, *rest = (part.strip() for part in text.split(","))
    try:
        numbers = [float(part) for part in rest]
    except ValueError:
        numbers = []
    whole = numbers[2:] if flag == "--point" else numbers[4:]
    if len(numbers) not in counts or not all(number.is_integer() for number in whole):
        form = "FRAME,X,Y[,ID[,0]]" if flag == "--point" else "FRAME,X1,Y1,X2,Y2[,ID]"
        raise SettingError(f"{flag} {text}: is not {form}")
    return frame_of_text(frame), numbers


def _refuse_without_effect(
    settings: ResolvedSettings, run: MaskRunSettings, *, proposes: bool, has_labels: bool
) -> None:
    """A flag means something; a file may hold settings for other runs as well.

    Raises:
        SettingError: a flag that has no effect with this predictor or these prompts.
    """
    from trackweave.pipelines.resolved import generator_of

    name, generator = run.predictor.partition("=")[0], generator_of(settings).kind
    is_model = generator in (*BACKENDS, "sam3")
    may_be_own = generator == "auto" and name not in WEIGHTS_FREE
    for key, provided in settings.provided.items():
        if not provided.origin.startswith("flag"):
            continue
        if key == "predictor.weights" and name in WEIGHTS_FREE and not is_model:
            raise SettingError(f"predictor {name} has no weights: leave --weights out, or choose another --predictor")
        where = None
        if (
            (key.startswith("flow.") and name not in ("flow", "auto"))
            or (key.startswith("predictor.") and name in WEIGHTS_FREE and not is_model)
            or (key == "predictor.config" and name not in ("sam2", "auto") and generator != "sam2")
        ):
            where = f"with --predictor {name}"
        elif key.startswith("regions.") and not (proposes and generator in ("auto", "regions")):
            where = "where the generator `regions` is not used"
        elif key.startswith("grid.") and not (proposes and (generator in ("predictor", *BACKENDS) or may_be_own)):
            where = "where no model's automatic masks are candidates"
        elif (key in ("masks.generator", "masks.candidate_stride") or key.startswith("text.")) and not proposes:
            where = "where candidates or prompts are given"
        elif key.startswith("candidates.") and not proposes:
            where = "where candidates or prompts are given: trackweave filter chooses from candidates"
        elif key.startswith("text.") and generator != "sam3":
            where = f"with --generator {run.generator}: only sam3 understands a text"
        elif key in LEVELS_ONLY and has_labels:
            where = "with --prompts"
        elif (key.startswith("overlay.") or key in PICTURES_ONLY) and not settings[TrackingSettings].render_viz:
            where = "with --no-viz"
        elif key.startswith("identity.") and run.identity == "off":
            where = "with --identity off"
        if where is not None:
            raise SettingError(f"{provided.origin}: {key} has no effect {where}")


def _print_summary(result: Run[MaskSummary], report: Path) -> None:
    totals, predictor = result.summary.totals, result.summary.predictor
    levels = ", ".join(map(str, result.summary.levels))
    for warning in result.warnings:
        typer.echo(f"warning: {warning.message}", err=True)
    if predictor is not None:
        typer.echo(f"predictor: {predictor.name} ({predictor.reason})")
    objects = f"{totals['objects']} object{'' if totals['objects'] == 1 else 's'}"
    typer.echo(
        f"{objects} on {totals['object_frames']} object-frames in "
        f"level{'s' if len(result.summary.levels) > 1 else ''} {levels}"
    )
    if (totals["candidates"] or 0) > (totals["prompts"] or 0):
        typer.echo(f"{totals['duplicates']} of {totals['candidates']} candidates were already tracked or duplicates")
    if result.paths.overlay.is_file():
        typer.echo(f"video: {result.paths.overlay}")
    typer.echo(f"report: {report}")


@with_settings(PROPOSE)
def propose(
    frames: Frames,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="folder for level_L/filtered")],
    settings: ResolvedSettings,
) -> None:
    """Find candidates and write them for `masks --candidates`."""
    from trackweave.pipelines.mask_inputs import ALL_LEVELS, GENERATED_LEVELS
    from trackweave.pipelines.proposing import propose as propose_for
    from trackweave.pipelines.resolved import generator_of

    run = settings[MaskRunSettings]
    # Nothing is tracked: what a predictor would do is of no matter but for the model that a generator may be.
    kind = generator_of(settings).kind
    is_model = kind in (*BACKENDS, "sam3")
    for key, provided in settings.provided.items():
        if key.startswith("predictor.") and provided.origin.startswith("flag") and not is_model:
            raise SettingError(f"{provided.origin}: {key} has no effect without the model of a --generator")
    _refuse_without_effect(
        settings,
        run.model_copy(update={"predictor": run.generator if kind in BACKENDS else "flow"}),
        proposes=True,
        has_labels=False,
    )
    has_levels = kind in ("auto", "regions", *BACKENDS)
    propose_for(
        frames,
        output,
        levels=run.levels or (ALL_LEVELS if has_levels else GENERATED_LEVELS),
        generator=generator_of(settings),
        candidate_stride=run.candidate_stride,
        sampling=run.frames,
        predictor_settings=settings[SamSettings],
        progress=True,
    )
    typer.echo(f"candidates: {output}")


@with_settings(FILTER)
def filter_command(
    candidates: Annotated[Path, typer.Argument(metavar="DIR", help="folder with level_L/raw or level_L/filtered")],
    settings: ResolvedSettings,
    levels: Annotated[str | None, typer.Option(metavar="2,4,6", help="which levels; all without it")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="write there, and leave the candidates alone")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Choose candidates anew, without generating them again.

    What is not given stays as it was when they were made. Unfiltered candidates stay in level_L/raw: run it again with
    other limits.
    """
    from trackweave.pipelines.filtering import filter_candidates

    wanted = MaskRunSettings(levels=levels).levels if levels is not None else None  # type: ignore[arg-type]
    stats = filter_candidates(candidates, settings[CandidateSettings], levels=wanted, output=output)
    if as_json:
        typer.echo(json.dumps({"levels": {str(level): one.to_json() for level, one in stats.items()}}))
        return
    for level, one in stats.items():
        why = ", ".join(f"{count} by {reason}" for reason, count in one.reasons.items())
        gaps = f", {one.gaps} of them fill gaps" if one.gaps else ""
        typer.echo(f"level {level}: {one.kept} candidates on {one.frames} frames{gaps}; dropped {why or 'none'}")
    typer.echo(f"candidates: {output or candidates}")
