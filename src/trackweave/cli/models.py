"""`trackweave models`: which predictors can be used now, and what is missing for the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from trackweave.cli.masks import MASKS
from trackweave.errors import how_to_install
from trackweave.options.flags import with_settings
from trackweave.options.sources import ResolvedSettings
from trackweave.predictors.sam.settings import SamSettings

if TYPE_CHECKING:
    from trackweave.predictors.registry import Availability, BackendAvailability


@with_settings(MASKS.narrowed("predictor"))
def models(
    settings: ResolvedSettings,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """List the predictors of `masks`: what can be used now, what is missing, where weights are looked for.

    Nothing is downloaded: fetch a repository of the name shown with your own tools, and put it where it is looked for.
    """
    from trackweave.predictors.registry import check_availability

    availability = check_availability(settings[SamSettings])
    if as_json:
        typer.echo(json.dumps(availability.to_json(), indent=1))
        return
    for line in _lines(availability):
        typer.echo(line)


def _lines(availability: Availability) -> Iterator[str]:
    yield availability.automatic
    devices = ", ".join(f"{name} ({what})" for name, what in availability.devices.items())
    yield f"devices: {devices or 'unknown without torch'}"
    folder = availability.folder or "not set"
    yield f"weights are looked for in TRACKWEAVE_WEIGHTS ({folder}) and the Hugging Face cache ({availability.cache})"
    yield ""
    for name, about in (("flow", "needs no weights"), ("static", "needs no weights; the baseline for comparisons")):
        yield _row(name, "ready", about)
    yield _row("replay=PATH", "ready", "plays recorded masks")
    for entry in availability.backends:
        yield from _backend_lines(entry)


def _backend_lines(entry: BackendAvailability) -> Iterator[str]:
    versions = ", ".join(f"{package} {version}" for package, version in entry.versions.items())
    if entry.missing:
        yield _row(entry.name, entry.state, f"{', '.join(entry.missing)}: {how_to_install(entry.extra)}")
    else:
        yield _row(entry.name, entry.state, versions)
    for weights in entry.weights:
        yield _row("", "found", f"{weights.name}: {weights.size / 2**20:.0f} MiB, {weights.origin}, {weights.path}")
        if weights.problem is not None:
            yield _row("", "unusable", weights.problem)
    found = {weights.name for weights in entry.weights}
    missing = [name for name in entry.checkpoints if name not in found]
    if missing:
        yield _row("", "would run", ", ".join(missing))


def _row(name: str, state: str, about: str) -> str:
    return f"{name:<13} {state:<14} {about}".rstrip()
