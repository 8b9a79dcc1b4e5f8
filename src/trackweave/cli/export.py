"""`trackweave export`, `convert` and `report`: a finished run in other forms, and tracks from one format to another."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from trackweave.errors import SettingError
from trackweave.options.flags import with_settings
from trackweave.options.schema import Schema, short
from trackweave.options.sources import ResolvedSettings
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.run_log import RunLog
from trackweave.visualization.settings import OverlaySettings


class LabelIds(StrEnum):
    """Values of --ids."""

    run = "run"
    level = "level"


FORMAT_FLAGS = (
    short("--shapes", "format.shapes"),
    short("--tolerance", "format.tolerance"),
    short("--margin", "format.margin"),
    short("--background", "format.background"),
    short("--codec", "format.codec"),
)
EXPORT = Schema(
    ("overlay", "format"),
    flags=(short("--style", "overlay.style"), short("--trail", "overlay.trail"), *FORMAT_FLAGS),
)
CONVERT = Schema(
    ("format",),
    flags=(*FORMAT_FLAGS, short("--ids", "format.ids"), short("--bits", "format.bits"), short("--fps", "format.fps")),
)

_OUTLINES = ("cvat", "labelme", "yolo", "coco", "coco-vid", "tao", "ytvis")
USED_BY = {
    "format.shapes": _OUTLINES,
    "format.tolerance": _OUTLINES,
    "format.ids": ("davis", "youtube-vos", "mots", "mots-png"),
    "format.bits": ("davis", "youtube-vos"),
    "format.frame_base": ("mots",),
    "format.margin": ("cutouts", "clips"),
    "format.background": ("cutouts",),
    "format.codec": ("mov",),
    "format.width": ("gif",),
    "format.fps": ("mp4", "gif", "mov", "clips", "label-studio", "sav"),
    "overlay": ("mp4", "gif"),
}
"""The formats that read a setting, or a section."""

Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]


def _formats(text: str) -> list[str]:
    from trackweave.formats.registry import writable

    return [name for name in writable() if name.startswith(text)]


def _readable(text: str) -> list[str]:
    from trackweave.formats.registry import readable

    return [name for name in readable() if name.startswith(text)]


TO_HELP = "davis: indexed PNGs; mot: boxes; cvat; coco-vid; parquet; mp4: overlay video; … (docs/formats.md)"


@with_settings(EXPORT)
def export(
    run: Run,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="file or folder to write")],
    settings: ResolvedSettings,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help=TO_HELP, autocompletion=_formats)],
    level: Annotated[
        int | None, typer.Option(help="which level [default: the only one; all in formats that have levels]")
    ] = None,
    frames: Annotated[str | None, typer.Option(help="frames or video to draw on, when the run's have moved")] = None,
    fps: Annotated[float, typer.Option(help="frames per second of an mp4 whose source has no times")] = 10.0,
    ids: Annotated[
        LabelIds, typer.Option("--ids", help="labels of davis: the run's ids, or 1, 2, … of the level, with ids.csv")
    ] = LabelIds.run,
    bits: Annotated[
        int | None, typer.Option(help="8 or 16 of a davis label [default: 16 where ids are above 254]")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="tracks as they were tracked, not by identity")] = False,
) -> None:
    """Write a run's tracks in another format.

    Example: trackweave export runs/clip --to cvat -o clip.xml
    """
    from trackweave.exporters import export as export_run

    given = {"format.ids": ids is not LabelIds.run, "format.bits": bits is not None}
    _refuse_idle(to, settings, [key for key, is_given in given.items() if is_given])
    log = RunLog(package=None)
    files = export_run(
        run,
        to,
        output,
        level=level,
        frames=frames,
        fps=fps,
        ids=ids.value,
        bits=bits,
        overlay=settings[OverlaySettings],
        options=settings[FormatSettings],
        raw=raw,
        log=log,
    )
    _say(to, files, output, log)


@with_settings(CONVERT)
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="tracks: a file or folder of any format that is read")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="file or folder to write")],
    settings: ResolvedSettings,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="FORMAT", help=f"{TO_HELP} [default: by OUT's suffix]", autocompletion=_formats),
    ] = None,
    source_format: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FORMAT", help="of IN [default: its content shows it]", autocompletion=_readable
        ),
    ] = None,
    frames: Annotated[
        str | None, typer.Option(help="the video: sizes, names and times that IN does not say, and pictures")
    ] = None,
    video: Annotated[str | None, typer.Option("--video-name", help="which of several videos in IN")] = None,
) -> None:
    """Write tracks of one format in another, without a run.

    Example: trackweave convert tracks.json tracks.parquet
    """
    from trackweave.exporters import convert as convert_tracks
    from trackweave.formats.registry import find_format

    log, options = RunLog(package=None), settings[FormatSettings]
    name = find_format(to, output).name
    _refuse_idle(name, settings)
    files = convert_tracks(
        source, output, to=name, source_format=source_format, frames=frames, video=video, options=options, log=log
    )
    _say(name, files, output, log)


def _refuse_idle(to: str, settings: ResolvedSettings, others: Sequence[str] = ()) -> None:
    """Refuses flags that the format does not read; files of settings may hold those of other formats.

    Args:
        to: the format.
        settings: as given.
        others: keys of further flags that were given.

    Raises:
        SettingError: there is one.
    """
    flags = {key: one.origin for key, one in settings.provided.items() if one.origin.startswith("flag")}
    flags |= {key: f"flag --{key.partition('.')[2]}" for key in others}
    for key, origin in flags.items():
        used_by = USED_BY.get(key, USED_BY.get(key.partition(".")[0]))
        if used_by is not None and to not in used_by:
            raise SettingError(f"{origin}: {key} has no effect with --to {to}: it is for {', '.join(used_by)}")


def _say(to: str, files: Sequence[Path], output: Path, log: RunLog) -> None:
    """Prints what was written and where, and what the format could not hold."""
    count = sum(file.suffix == ".png" for file in files)
    what = {"davis": f"{count} label images", "mot": "boxes", "mp4": "video"}.get(to)
    typer.echo(f"{what or to + (f', {len(files)} files' if len(files) > 1 else '')}: {output}")
    for warning in log.warnings:
        typer.echo(f"note: {warning.message}", err=True)


def report(run: Run) -> None:
    """Write the static page `RUN/report.html` again."""
    from trackweave.reports.page import report as write_report

    typer.echo(f"report: {write_report(run)}")
