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

from pydantic import BaseModel, ConfigDict, Field

from trackweave.association.log_settings import LogSettings
from trackweave.association.scorer_settings import ScorerSettings
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
    "scorer": ScorerSettings,
    "run": RunSettings,
}

ENVIRONMENT: Mapping[str, str] = {
    "TRANSFORMER_LOG_DIR": "log.dir",
    "TRANSFORMER_LOG_EMBED_DIM": "log.embed_dim",
    "APPEAR_MEMORY_ENABLE": "tracker.appearance_memory",
    "CONFIDENCE_THRESHOLD": "tracker.confidence_threshold",
    "SEG_ENABLE": "perception.segmentation",
    "DIAG": "tracker.diagnostics",
    "TRANSFORMER_ASSOC_ENABLE": "scorer.enabled",
    "TRANSFORMER_ASSOC_WEIGHTS": "scorer.weights",
    "TRANSFORMER_ASSOC_WEIGHT": "tracker.scorer_weight",
    "TRANSFORMER_ASSOC_EMBED_DIM": "scorer.embed_dim",
}
"""Variable → the setting that it is another name of."""
LEARNED = "learned"
"""The preset that is the default when a learned scorer is on."""

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
    "scorer.enabled": "--scorer",
    "scorer.weights": "--scorer",
}
"""Setting → its own flag; every other setting has `--set KEY=VALUE`."""

BOXES = Layout(SECTIONS, ENVIRONMENT, FLAGS, more=(PRESET,))


@dataclass(frozen=True)
class BoxSettings:
    """What is in force.

    Attributes:
        preset: name of the tracker's preset.
        tracker, input, perception, refinement, log, scorer, run: the rooms' settings.
        origins: key → where its value came from.
        warnings: what was asked for and has no effect.
    """

    preset: str
    tracker: TrackerSettings
    input: InputSettings
    perception: PerceptionSettings
    refinement: RefinementSettings
    log: LogSettings
    scorer: ScorerSettings
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
    scorer = validated("scorer", ScorerSettings, {}, given)
    assert isinstance(scorer, ScorerSettings)
    assumed = Given(LEARNED, "scorer.enabled") if scorer.enabled else Given(DEFAULT_PRESET, "default")
    name = _preset_name(given.pop(PRESET, assumed))
    base = {"tracker": PRESETS[name.value].model_dump()}
    sections = {section: validated(section, model, base.get(section, {}), given) for section, model in SECTIONS.items()}
    plain = PRESETS[DEFAULT_PRESET]
    origins = {PRESET: name.origin}
    for key in known_keys()[1:]:
        section, field = key.split(".", 1)
        changed = section == "tracker" and getattr(PRESETS[name.value], field) != getattr(plain, field)
        origins[key] = given[key].origin if key in given else f"preset {name.value}" if changed else "default"
    return BoxSettings(name.value, **sections, origins=origins, warnings=_without_effect(scorer, given))  # type: ignore[arg-type]


# --- layers -----------------------------------------------------------------------------------------------------------


def _mask_layout() -> Layout:
    from trackweave.cli.mask_sections import MASKS  # loads compiled kernels: only when a file speaks of masks

    return MASKS


def _from_environment(variables: Mapping[str, str]) -> dict[str, Given]:
    return from_environment(variables, BOXES)


def _without_effect(scorer: ScorerSettings, given: Mapping[str, Given]) -> tuple[RunWarning, ...]:
    """Settings of a learned scorer that is not on."""
    told = () if scorer.enabled else [given[key] for key in ("scorer.weights", "scorer.embed_dim") if key in given]
    return tuple(
        RunWarning(
            "settings",
            None,
            "setting-ignored",
            f"{one.origin}: {one.value} has no effect: the learned scorer is off (--scorer learned, "
            "or TRANSFORMER_ASSOC_ENABLE=1)",
        )
        for one in told
    )


# --- values -----------------------------------------------------------------------------------------------------------


def _preset_name(given: Given) -> Given:
    if given.value in PRESETS:
        return given
    near = difflib.get_close_matches(str(given.value), PRESETS, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(PRESETS)}"
    raise SettingError(f"{given.origin}: {PRESET}: there is no preset {given.value!r}; {hint}")
