"""`trackweave config`: every setting of box and mask tracking, its value, and where it came from.

Settings in layers: a YAML file, environment variables, flags. What each command makes of them stands beside this.

One file may hold the settings of several commands: a command passes by the sections of the others, but a name that no
command knows is an error.

Settings of box tracking from four layers: built-in defaults < YAML < environment < flags.

Every room has its own settings; here they are put side by side, and each value remembers where it came from
(`layers` reads them).

Settings of mask tracking from four layers: built-in defaults < YAML < environment < flags.

Which settings `trackweave masks` has, and by which variables and flags they go.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
import yaml
from pydantic import BaseModel, Field, ValidationError

from trackweave.association.settings import LogSettings, ScorerSettings
from trackweave.errors import InputError, SettingError
from trackweave.mot.settings import PRESETS, RefinementSettings, TrackerSettings
from trackweave.pipelines.settings import InputSettings, PerceptionSettings
from trackweave.predictors.sam.settings import SamSettings
from trackweave.settings import Settings, first_problem
from trackweave.structures.run_log import RunWarning
from trackweave.tracking.settings import TrackingSettings


def config(
    file: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="settings as YAML")] = None,
    pairs: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a setting; repeatable")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON, with descriptions")] = False,
) -> None:
    """Show the settings of `boxes` and `masks` that are in force, and where each came from."""

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


class Given(NamedTuple):
    """A value as it was given, and by what."""

    value: Any
    origin: str


class Row(NamedTuple):
    """One effective setting, for people."""

    key: str
    value: Any
    origin: str
    description: str
    variable: str | None
    flag: str


@dataclass(frozen=True)
class Layout:
    """The settings of one command.

    Attributes:
        sections: name → the room's settings.
        environment: variable → the setting that it is another name of.
        flags: setting → its own flag; every other setting has `--set KEY=VALUE`.
        more: keys that are no field of a section.
    """

    sections: Mapping[str, type[BaseModel]]
    environment: Mapping[str, str]
    flags: Mapping[str, str]
    more: tuple[str, ...] = ()

    @property
    def keys(self) -> list[str]:
        """Every setting as `section.name`."""
        fields = [f"{section}.{name}" for section, model in self.sections.items() for name in model.model_fields]
        return [*self.more, *fields]


def from_file(path: Path, layout: Layout, others: Callable[[], Layout]) -> dict[str, Given]:
    """The settings of a YAML file: sections with values, or keys like `tracker.diagnostics`.

    Args:
        path: the file.
        layout: of this command.
        others: settings of other commands; asked for only when the file holds more than this command's.

    Raises:
        InputError: the file cannot be read.
        SettingError: not sections with values, or a setting that no command has.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    origin = f"file {path}"
    if not isinstance(content, dict):
        raise SettingError(f"{origin}: settings are sections with values, not {type(content).__name__}")
    own = set(layout.keys)
    mine = [str(name) in layout.sections or str(name) in own for name in content]
    known = [layout] if all(mine) else [layout, others()]
    sections = [name for one in known for name in one.sections]
    found: dict[str, Given] = {}
    for name, value in content.items():
        if name in sections:
            if not isinstance(value, dict):
                raise SettingError(f"{origin}: {name} is a section with values, not {value!r}")
            found.update({f"{name}.{field}": Given(inner, origin) for field, inner in value.items()})
        else:
            found[str(name)] = Given(value, origin)
    for key in found:
        check_key(key, origin, *known)
    return {key: given for key, given in found.items() if key in own}


def from_environment(variables: Mapping[str, str], layout: Layout) -> dict[str, Given]:
    """The settings of variables that are set; empty ones count as not set."""
    return {
        key: Given(variables[name].strip(), f"environment {name}")
        for name, key in layout.environment.items()
        if variables.get(name, "").strip()
    }


def from_flags(flags: Mapping[str, Any], pairs: Sequence[str], layout: Layout) -> dict[str, Given]:
    """The settings of a command line.

    Args:
        flags: values by key; None = the flag was not given.
        pairs: `KEY=VALUE` texts of `--set`.
        layout: of this command.

    Raises:
        SettingError: an unknown key, or a text that is no pair.
    """
    found: dict[str, Given] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise SettingError(f"flag --set: {pair!r} is not KEY=VALUE")
        check_key(key.strip(), "flag --set", layout)
        try:
            found[key.strip()] = Given(yaml.safe_load(text), "flag --set")
        except yaml.YAMLError:
            raise SettingError(f"flag --set: {key.strip()}: {text!r} is not a value in YAML") from None
    for key, value in flags.items():
        if value is not None:
            check_key(key, "flag", layout)
            found[key] = Given(value, f"flag {layout.flags[key]}")
    return found


def check_key(key: str, origin: str, *layouts: Layout) -> None:
    """Refuses a setting that does not exist.

    Raises:
        SettingError: names the nearest one that does.
    """
    known = [name for layout in layouts for name in layout.keys]
    if key in known:
        return
    short = {name.split(".", 1)[1]: name for name in known}
    near = difflib.get_close_matches(key, known, 1, 0.6) or [
        short[name] for name in difflib.get_close_matches(key.rsplit(".", 1)[-1], short, 1, 0.6)
    ]
    sections = ", ".join(section for layout in layouts for section in layout.sections)
    hint = f"did you mean {near[0]}?" if near else f"sections are {sections}"
    raise SettingError(f"{origin}: there is no setting {key}; {hint}")


def validated(section: str, model: type[BaseModel], base: Mapping[str, Any], given: Mapping[str, Given]) -> BaseModel:
    """A section's settings: what was given over `base` over the model's defaults.

    Raises:
        SettingError: a value that does not fit; names its origin.
    """
    values = dict(base)
    for key, (value, _) in given.items():
        head, _, name = key.partition(".")
        if head == section:
            values[name] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = first_problem(error)
        key = f"{section}.{problem.name.partition('.')[0]}"
        origin = given[key].origin if key in given else "together"
        raise SettingError(f"{origin}: {problem.text(f'{section}.')}") from None


DEFAULT_PRESET = "adaptive"
PRESET = "tracker.preset"


class RunSettings(Settings):
    """What a run reads and leaves besides its tracks."""

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


class MaskRunSettings(Settings):
    """What is tracked, and by which predictor."""

    predictor: str = Field(
        default="auto", description="auto, flow, static, replay=PATH, or a backend of `trackweave models`."
    )
    generator: str = Field(
        default="regions", description="Finds candidates when neither candidates nor prompts are given."
    )
    candidate_stride: int = Field(default=10, description="Frames between two on which the generator runs.")
    levels: str | None = Field(default=None, description="Like 2,4,6; none = those of the candidates, else 2.")
    frames: str | None = Field(default=None, description="Which frames, as a slice START:END:STEP.")


MASKS = Layout(
    sections={"masks": MaskRunSettings, "tracking": TrackingSettings, "predictor": SamSettings},
    environment={
        "TRACKWEAVE_PREDICTOR": "masks.predictor",
        "TRACKWEAVE_DEVICE": "predictor.device",
    },
    flags={
        "masks.predictor": "--predictor",
        "masks.generator": "--generator",
        "masks.candidate_stride": "--candidate-stride",
        "masks.levels": "--levels",
        "masks.frames": "--frames",
        "tracking.prompt_mode": "--prompt-mode",
        "tracking.iou_threshold": "--iou-threshold",
        "tracking.max_propagate": "--max-propagate",
        "tracking.mask_scale_ratio": "--mask-scale",
        "tracking.on_bad_item": "--on-bad-item",
        "tracking.render_viz": "--no-viz",
        "predictor.weights": "--weights",
        "predictor.device": "--device",
        "predictor.feature_store": "--no-feature-store",
        "predictor.stop_after_absent": "--stop-after-absent",
        "predictor.compile": "--compile",
    },
)


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
