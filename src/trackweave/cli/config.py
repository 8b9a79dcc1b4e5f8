"""`trackweave config`: every setting, its value, and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Annotated

import typer

from trackweave.errors import SettingError
from trackweave.options.flags import with_settings
from trackweave.options.schema import SECTIONS, Schema, as_text
from trackweave.options.sources import ResolvedSettings


@cache
def all_settings() -> Schema:
    """Every setting of every command, with their short flags."""
    from trackweave.association.training.train_assoc import TRAIN
    from trackweave.cli.assoc import REMIX, SIMULATE
    from trackweave.cli.boxes import BOXES
    from trackweave.cli.evaluate import EVALUATE
    from trackweave.cli.masks import MASKS

    every = MASKS + BOXES + EVALUATE + SIMULATE + REMIX + TRAIN
    return replace(every, sections=tuple(SECTIONS), without=frozenset())


@with_settings(replace(all_settings(), flags=()))
def config(
    settings: ResolvedSettings,
    sections: Annotated[
        list[str] | None, typer.Argument(metavar="SECTION", help="only these sections, such as tracker")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON, with descriptions")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print a reference of all settings")] = False,
) -> None:
    """Show the settings of all commands that are in force, and where each came from."""
    from trackweave.cli.boxes import BOXES, ignored_settings, with_default_tracker

    for section in sections or ():
        if section not in SECTIONS:
            raise SettingError(f"there is no section {section!r}; known: {', '.join(SECTIONS)}")
    if as_markdown:
        typer.echo("\n".join(markdown()))
        return
    warnings = ignored_settings(settings)
    settings = with_default_tracker(settings)
    names = all_settings().flag_names
    entries = [
        entry._replace(flag=names[entry.key])
        for entry in settings.entries()
        if not sections or entry.key.partition(".")[0] in sections
    ]
    if as_json:
        listed = {entry.key: {k: v for k, v in entry._asdict().items() if k != "key"} for entry in entries}
        typer.echo(json.dumps({"settings": listed, "warnings": [w.to_json() for w in warnings]}, indent=1))
        return
    lines = [(entry.key, as_text(entry.value), entry.origin) for entry in entries]
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    for key, value, origin in lines:
        typer.echo(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
    for warning in warnings:
        typer.echo(f"warning: {warning.message}", err=True)
    if ("tracker.preset", "learned", "default") in lines:
        taken = next(flag.default for flag in BOXES.flags if flag.name == "--tracker")
        typer.echo(f"note: --tracker, where none is chosen: {taken}", err=True)


def markdown() -> Iterator[str]:
    """The lines of a reference: a table per section."""
    schema = all_settings()
    variables = {key: name for name, key in schema.environment.items()}
    taken = {one.keys[0]: one.default for one in schema.flags if len(one.keys) == 1 and one.default}
    for section, model in schema.classes.items():
        about = (model.__doc__ or "").strip().partition("\n")[0]
        yield from ("", f"## `{section}`", "", f"{about} In Python: `{model.__module__}.{model.__name__}`.", "")
        yield from ("| setting | short flag | values | default | meaning |", "|---|---|---|---|---|")
        for key, field in schema.fields.items():
            if key.partition(".")[0] == section:
                flag = f"`{schema.flag_names[key]}`" if schema.has_short_flag(key) else ""
                values = f"`{field.metavar}` {field.bounds}".strip().replace("|", "\\|")
                meaning = f"{field.info.description}{f'; `{variables[key]}`' if key in variables else ''}"
                default = taken.get(key) or f"`{field.default}`"
                yield f"| `{key}` | {flag} | {values} | {default} | {meaning} |"
