"""`trackweave models`: which predictors can be used now, and what is missing for the others."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from trackweave.cli.masks import MASKS
from trackweave.errors import SettingError, how_to_install
from trackweave.options.flags import with_settings
from trackweave.options.sources import ResolvedSettings
from trackweave.predictors.sam.settings import SamSettings

WEIGHT_SUFFIXES = (".pt", ".safetensors")

if TYPE_CHECKING:
    from trackweave.predictors.registry import Availability, BackendAvailability


@with_settings(MASKS.narrowed("predictor"))
def models(
    settings: ResolvedSettings,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[fetch NAME]", help="download published weights, after asking once")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="fetch: a commit of the repository [default: the pinned one]")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="fetch: do not ask")] = False,
) -> None:
    """List the predictors of `masks`: what can be used now, what is missing, where weights are looked for.

    Nothing is downloaded but by `trackweave models fetch NAME`, which asks first.
    """
    from trackweave.predictors.registry import check_availability

    if words:
        if words[0] != "fetch" or len(words) != 2:
            raise SettingError(f"models {' '.join(words)}: only `models fetch NAME` is known")
        _fetch(words[1], revision, yes=yes)
        return
    if revision is not None or yes:
        raise SettingError("--revision and --yes belong to `models fetch NAME`")
    availability = check_availability(settings[SamSettings])
    if as_json:
        typer.echo(json.dumps(availability.to_json(), indent=1))
        return
    for line in _lines(availability):
        typer.echo(line)


def _fetch(name: str, revision: str | None, *, yes: bool) -> None:
    """Downloads weights after one question."""
    from trackweave.predictors.fetch import fetch, look_up

    weights = look_up(name, revision)
    files = ", ".join(file.name for file in weights.files)
    what = f"{files} of {weights.hub_name} at {weights.revision[:12]}"
    if not yes:
        if not sys.stdin.isatty():
            raise SettingError(f"{what}: nobody is there to be asked: add --yes")
        if not typer.confirm(f"Download {what}: {weights.size / 1e6:.0f} MB into {weights.place}?"):
            typer.echo("nothing was downloaded")
            return
    typer.echo(f"weights: {fetch(weights)}")
    unchecked = [file.name for file in weights.files if file.sha256 is None and file.name.endswith(WEIGHT_SUFFIXES)]
    if unchecked:
        typer.echo(f"warning: neither a pin nor the hub has a checksum of {', '.join(unchecked)}", err=True)


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
