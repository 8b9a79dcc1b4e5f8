"""Settings of mask tracking from four layers: built-in defaults < YAML < environment < flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackweave.cli.layers import Given, Row, from_environment, from_file, from_flags, validated
from trackweave.cli.mask_sections import MASKS, MaskRunSettings
from trackweave.cli.settings import BOXES
from trackweave.predictors.sam.settings import SamSettings
from trackweave.tracking.pipeline_context import TrackingSettings


@dataclass(frozen=True)
class MaskSettings:
    """What is in force.

    Attributes:
        masks: what is tracked, and by which predictor.
        tracking: how candidates become tracks.
        predictor: how a model of the SAM 2 family runs.
        origins: key → where its value came from.
    """

    masks: MaskRunSettings
    tracking: TrackingSettings
    predictor: SamSettings
    origins: Mapping[str, str]

    def rows(self) -> Iterator[Row]:
        """Every setting, section by section."""
        variables = {key: name for name, key in MASKS.environment.items()}
        for key in MASKS.keys:
            section, name = key.split(".", 1)
            value = getattr(self, section).model_dump(mode="json")[name]
            about = MASKS.sections[section].model_fields[name].description or ""
            yield Row(key, value, self.origins[key], about, variables.get(key), MASKS.flags.get(key, "--set"))


def effective_mask_settings(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    pairs: Sequence[str] = (),
) -> MaskSettings:
    """Puts the layers over each other.

    Args:
        file: YAML with the sections `masks`, `tracking` and `predictor`; those of `trackweave boxes` are passed by.
        environment: variables by name; empty ones count as not set.
        flags: values by key; None = the flag was not given.
        pairs: `KEY=VALUE` texts of `--set`; a predictor's setting needs no section before its name.

    Raises:
        InputError: the file cannot be read.
        SettingError: an unknown key (names the nearest known one), or a value that does not fit (names its origin).
    """
    given: dict[str, Given] = {}
    if file is not None:
        given.update(from_file(file, MASKS, lambda: BOXES))
    given.update(from_environment(environment or {}, MASKS))
    given.update(from_flags(flags or {}, [_whole(pair) for pair in pairs], MASKS))
    found = {section: validated(section, model, {}, given) for section, model in MASKS.sections.items()}
    origins = {key: given[key].origin if key in given else "default" for key in MASKS.keys}
    return MaskSettings(**found, origins=origins)  # type: ignore[arg-type]


def _whole(pair: str) -> str:
    """`batch=8` is short for `predictor.batch=8`."""
    name = pair.partition("=")[0].strip()
    return f"predictor.{pair.lstrip()}" if name in SamSettings.model_fields else pair
