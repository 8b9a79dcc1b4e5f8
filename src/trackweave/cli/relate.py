"""`trackweave relate`: identities of a finished run of masks, without tracking again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer

from trackweave.identity.settings import IdentitySettings
from trackweave.options.commands import AsJson
from trackweave.options.flags import with_settings
from trackweave.options.schema import Schema
from trackweave.options.sources import ResolvedSettings

RELATE = Schema(("identity",))


@with_settings(RELATE)
def relate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")],
    settings: ResolvedSettings,
    identity: Annotated[
        Literal["on", "off"], typer.Option("--identity", help="off: every track is its own again")
    ] = "on",
    video: Annotated[
        Path | None, typer.Option(metavar="PATH", help="where the run's frames lie now, if not where they lay")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Join a run's tracks that are one thing, and nest parts in wholes.

    Nothing is tracked again and the archives stay as they are: run it again with other settings, or with
    `--identity off` to undo it.
    """
    from trackweave.pipelines.identity import relate as relate_run
    from trackweave.reports.page import report

    related = relate_run(run, settings[IdentitySettings] if identity == "on" else False, video=video, progress=True)
    table, tree = related.identities(), related.tree()
    report(run)
    levels = {
        int(level): {
            "tracks": int((table.level == level).sum()),
            "identities": int((tree.level == level).sum()),
            "parts": int(((tree.level == level) & (tree.parents > 0)).sum()),
        }
        for level in related.levels
    }
    links = Counter(link.kind for link in table.links)
    if as_json:
        typer.echo(json.dumps({"levels": levels, "merged": links["merge"], "stitched": links["stitch"]}))
        return
    if identity == "off":
        typer.echo(f"every track is its own: {len(table)} tracks")
        return
    for warning in related.warnings:
        if warning.stage == "identity":
            typer.echo(f"warning: {warning.message}", err=True)
    for level, counts in levels.items():
        things = f"{counts['identities']} things, {counts['parts']} of them parts"
        typer.echo(f"level {level}: {counts['tracks']} tracks are {things}")
    typer.echo(f"identities: {related.paths.identity}")
