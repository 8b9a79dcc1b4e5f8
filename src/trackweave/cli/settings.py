"""Settings of box tracking from four layers: built-in defaults < YAML < environment < flags.

Every room has its own settings; here they are put side by side, and each value remembers where it came from
(`layers` reads them).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from trackweave.association.log_settings import LogSettings
from trackweave.cli.layers import Given, Layout, Row, from_environment, from_file, from_flags, validated
from trackweave.errors import SettingError
from trackweave.mot.perception import PerceptionSettings
from trackweave.mot.refinement import RefinementSettings
from trackweave.mot.settings import PRESETS, TrackerSettings
from trackweave.mot.video_input import InputSettings
from trackweave.structures.warning import RunWarning

DEFAULT_PRESET = "adaptive"
PRESET = "tracker.preset"


class RunSettings(BaseModel):
    """What a run reads and leaves besides its tracks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detections: str | None = Field(default=None, description="File of detections, or the name of one of a sequence's.")
    overlay: bool = Field(default=True, description="Draw the tracks over the frames, where there are any.")


SECTIONS: Mapping[str, type[BaseModel]] = {
    "tracker": TrackerSettings,
    "input": InputSettings,
    "perception": PerceptionSettings,
    "refinement": RefinementSettings,
    "log": LogSettings,
    "run": RunSettings,
}

ENVIRONMENT: Mapping[str, str] = {
    "TRANSFORMER_LOG_DIR": "log.dir",
    "TRANSFORMER_LOG_EMBED_DIM": "log.embed_dim",
    "APPEAR_MEMORY_ENABLE": "tracker.appearance_memory",
    "CONFIDENCE_THRESHOLD": "tracker.confidence_threshold",
    "SEG_ENABLE": "perception.segmentation",
    "DIAG": "tracker.diagnostics",
    "TRANSFORMER_ASSOC_WEIGHT": "tracker.scorer_weight",
}
"""Variable → the setting that it is another name of."""

LEARNED_SCORER = "TRANSFORMER_ASSOC_ENABLE"
WITHOUT_EFFECT = ("TRANSFORMER_ASSOC_WEIGHTS", "TRANSFORMER_ASSOC_EMBED_DIM")
"""Variables of the learned scorer, which this version does not have."""

FLAGS: Mapping[str, str] = {
    "run.detections": "--detections",
    "run.overlay": "--no-viz",
    "perception.detector": "--detector",
    "perception.embedder": "--embedder",
    "perception.segmentation": "--segmentation",
    "perception.camera": "--camera",
    PRESET: "--tracker",
    "tracker.confidence_threshold": "--confidence",
    "tracker.appearance_memory": "--appearance",
    "tracker.diagnostics": "--diagnostics",
    "tracker.output_boxes": "--output-boxes",
    "tracker.on_bad_item": "--on-bad-item",
    "input.on_bad_item": "--on-bad-item",
    "input.fps": "--fps",
    "input.size": "--size",
    "input.frames": "--frames",
    "input.max_frames": "--max-frames",
    "input.class_column": "--class-column",
    "refinement.interpolate_max_gap": "--interpolate",
    "refinement.min_track_length": "--min-length",
    "refinement.smooth_window": "--smooth",
    "log.dir": "--log-dir",
    "log.embed_dim": "--log-embed-dim",
    "log.sequence": "--sequence",
}
"""Setting → its own flag; every other setting has `--set KEY=VALUE`."""

BOXES = Layout(SECTIONS, ENVIRONMENT, FLAGS, more=(PRESET,))


@dataclass(frozen=True)
class BoxSettings:
    """What is in force.

    Attributes:
        preset: name of the tracker's preset.
        tracker, input, perception, refinement, log, run: the rooms' settings.
        origins: key → where its value came from.
        warnings: variables that are set and have no effect.
    """

    preset: str
    tracker: TrackerSettings
    input: InputSettings
    perception: PerceptionSettings
    refinement: RefinementSettings
    log: LogSettings
    run: RunSettings
    origins: Mapping[str, str]
    warnings: tuple[RunWarning, ...] = ()

    def rows(self) -> Iterator[Row]:
        """Every setting, section by section."""
        variables = {key: name for name, key in ENVIRONMENT.items()}
        for key in known_keys():
            section, name = key.split(".", 1)
            if key == PRESET:
                value, about = self.preset, f"Where the tracker's settings start from: {', '.join(PRESETS)}."
            else:
                value = getattr(self, section).model_dump(mode="json")[name]
                about = SECTIONS[section].model_fields[name].description or ""
            yield Row(key, value, self.origins[key], about, variables.get(key), FLAGS.get(key, "--set"))


def known_keys() -> list[str]:
    """Every setting as `section.name`."""
    return BOXES.keys


def effective_settings(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    pairs: Sequence[str] = (),
) -> BoxSettings:
    """Puts the layers over each other.

    Args:
        file: YAML with the sections of `SECTIONS`, or keys like `tracker.diagnostics`.
        environment: variables by name; empty ones count as not set.
        flags: values by key; None = the flag was not given.
        pairs: `KEY=VALUE` texts of `--set`.

    Raises:
        InputError: the file cannot be read.
        SettingError: an unknown key (names the nearest known one), or a value that does not fit (names its origin).
    """
    given: dict[str, Given] = {}
    if file is not None:
        given.update(from_file(file, BOXES, _mask_layout))
    variables = {name: text for name, text in (environment or {}).items() if text.strip()}
    given.update(_from_environment(variables))
    given.update(from_flags(flags or {}, pairs, BOXES))
    name = _preset_name(given.pop(PRESET, Given(DEFAULT_PRESET, "default")))
    base = {"tracker": PRESETS[name.value].model_dump()}
    sections = {section: validated(section, model, base.get(section, {}), given) for section, model in SECTIONS.items()}
    plain = PRESETS[DEFAULT_PRESET]
    origins = {PRESET: name.origin}
    for key in known_keys()[1:]:
        section, field = key.split(".", 1)
        changed = section == "tracker" and getattr(PRESETS[name.value], field) != getattr(plain, field)
        origins[key] = given[key].origin if key in given else f"preset {name.value}" if changed else "default"
    return BoxSettings(name.value, **sections, origins=origins, warnings=_without_effect(variables))  # type: ignore[arg-type]


# --- layers -----------------------------------------------------------------------------------------------------------


def _mask_layout() -> Layout:
    from trackweave.cli.mask_sections import MASKS  # loads compiled kernels: only when a file speaks of masks

    return MASKS


def _from_environment(variables: Mapping[str, str]) -> dict[str, Given]:
    if LEARNED_SCORER in variables:
        text = variables[LEARNED_SCORER]
        try:
            wanted = TypeAdapter(bool).validate_python(text.strip())
        except ValidationError:
            raise SettingError(f"environment {LEARNED_SCORER}: {text!r} is neither on nor off (1 or 0)") from None
        if wanted:
            raise SettingError(f"environment {LEARNED_SCORER}: this version has no learned scorer: unset it, or set 0")
    return from_environment(variables, BOXES)


def _without_effect(variables: Mapping[str, str]) -> tuple[RunWarning, ...]:
    return tuple(
        RunWarning("settings", None, "variable-ignored", f"{name} is set, but this version has no learned scorer")
        for name in WITHOUT_EFFECT
        if name in variables
    )


# --- values -----------------------------------------------------------------------------------------------------------


def _preset_name(given: Given) -> Given:
    if given.value in PRESETS:
        return given
    near = difflib.get_close_matches(str(given.value), PRESETS, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(PRESETS)}"
    raise SettingError(f"{given.origin}: {PRESET}: there is no preset {given.value!r}; {hint}")
