"""`trackweave config`: every setting of box and mask tracking, its value, and where it came from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer


def config(
    file: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="settings as YAML")] = None,
    pairs: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a setting; repeatable")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON, with descriptions")] = False,
) -> None:
    """Show the settings of `boxes` and `masks` that are in force, and where each came from."""
    from trackweave.cli.mask_sections import MASKS
    from trackweave.cli.mask_settings import effective_mask_settings
    from trackweave.cli.settings import effective_settings

    of_masks = [pair for pair in pairs or () if pair.partition(".")[0].strip() in MASKS.sections]
    of_boxes = [pair for pair in pairs or () if pair not in of_masks]
    settings = effective_settings(file=file, environment=os.environ, pairs=of_boxes)
    masks = effective_mask_settings(file=file, environment=os.environ, pairs=of_masks)
    rows = [*settings.rows(), *masks.rows()]
    if as_json:
        listed = {row.key: {k: v for k, v in row._asdict().items() if k != "key"} for row in rows}
        typer.echo(json.dumps({"settings": listed, "warnings": [w.to_json() for w in settings.warnings]}, indent=1))
        return
    texts = [(row.key, _text(row.value), row.origin) for row in rows]
    widths = [max(len(text[column]) for text in texts) for column in (0, 1)]
    for key, value, origin in texts:
        typer.echo(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
    for warning in settings.warnings:
        typer.echo(f"warning: {warning.message}", err=True)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
