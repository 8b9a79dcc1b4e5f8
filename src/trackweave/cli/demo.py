"""`trackweave demo`: the main job on a real clip, or on a generated scene whose truth is known."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trackweave.errors import RunFolderError

if TYPE_CHECKING:
    from trackweave.frames.source import FrameSource
    from trackweave.pipelines.run import Run
    from trackweave.structures.run_summary import MaskSummary

MARKER, SHEET = ".trackweave-demo", "sheet.png"
CLIP_LEVELS = (2, 4)
"""Things and their parts: the finest level would be three fifths of the time, and is in none of the pictures."""


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
    if synthetic:
        run_synthetic_demo(output)
    else:
        run_clip_demo(output, clip)


def run_clip_demo(output: Path, clip: Path | None = None) -> None:
    """Finds candidates, tracks them, writes pictures, an overlay video and the report; prints where they are."""
    from trackweave.frames.open import open_frames

    path = clip if clip is not None else packaged_clip()
    with open_frames(path) as frames:
        height, width = frames.size
        typer.echo(f"{path.name}: {len(frames)} frames of {width}×{height}")
        result = _run(frames, output, CLIP_LEVELS)
        _show(result, frames, overlay_level=2)


def run_synthetic_demo(output: Path) -> None:
    """The same on a generated scene; prints how well its known objects were followed."""
    from trackweave.evaluation.identity import best_track_per_object
    from trackweave.pipelines.mask_inputs import ALL_LEVELS
    from trackweave.simulation.video import SyntheticScene

    scene = SyntheticScene()
    height, width = scene.size
    typer.echo(f"generated scene: {len(scene)} frames of {width}×{height}, {len(scene.object_ids)} objects")
    result = _run(scene, output, ALL_LEVELS)
    _show(result, scene, overlay_level=2)
    for level in result.levels:
        with result.masks(level) as video:
            scores = best_track_per_object({scene.indices[k]: scene.labels(k) for k in range(len(scene))}, video)
        followed = sum(match.j_mean > 0.5 for match in scores.objects)
        typer.echo(
            f"level {level}: mean J of the best track per object {scores.j_mean:.3f}, "
            f"{followed} of {len(scores.objects)} objects with J > 0.5"
        )


def packaged_clip() -> Path:
    """The clip that comes with the package: a motorbike passes behind two planters while the camera turns.

    Its author and licence are in `clips/README.md`.
    """
    return Path(str(files("trackweave.cli") / "clips" / "motorbike.mp4"))


def _run(frames: FrameSource, output: Path, levels: tuple[int, ...]) -> Run[MaskSummary]:
    from trackweave.pipelines.masks import track_masks
    from trackweave.tracking.settings import TrackingSettings

    _clear_earlier_demo(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / MARKER).touch()  # before the run: the next demo takes the place of one that was interrupted
    try:
        return track_masks(
            frames,
            output,
            settings=TrackingSettings(preview_max=6),
            candidate_stride=20,
            levels=levels,
            progress=True,
        )
    except KeyboardInterrupt as interrupt:
        interrupt.__notes__ = ["the same command begins anew"]
        raise


def _clear_earlier_demo(output: Path) -> None:
    """A demo may be run again: what the one before wrote is removed, and nothing else."""
    from trackweave.storage.run import remove_run

    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / MARKER).is_file():
        raise RunFolderError(f"{output}: is not empty and no demo made it: choose another -o")
    remove_run(output, SHEET, MARKER)


def _show(result: Run[MaskSummary], frames: FrameSource, overlay_level: int) -> None:
    from trackweave.exporters import write_contact_sheet
    from trackweave.reports.page import report as write_report

    sheet = write_contact_sheet(result.root, result.root / SHEET, level=overlay_level, frames=frames)
    report = write_report(result)
    for level, part in result.summary.levels.items():
        typer.echo(
            f"level {level}: {part.counts['candidates']} candidates, {part.counts['prompts']} new, "
            f"{part.counts['objects']} tracks on {part.counts['object_frames']} object-frames"
        )
    for name, path in (
        ("sheet", sheet),
        ("pictures", result.paths.level(overlay_level).compare),
        ("video", result.paths.overlay),
        ("report", report),
    ):
        typer.echo(f"{name + ':':10}{path.resolve()}")
