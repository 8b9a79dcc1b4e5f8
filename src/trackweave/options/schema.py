"""`Schema`: which settings a command has, and under which flags and variables.

A setting is declared once, as a field of a class of settings: name, type, default, bounds, description. Its key is
`SECTION.NAME`, such as `tracking.max_propagate`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo

from trackweave.errors import SettingError, shortened
from trackweave.options.yaml_values import parse_yaml
from trackweave.settings import Settings

SECTIONS: Mapping[str, str] = {
    "masks": "trackweave.pipelines.settings:MaskRunSettings",
    "tracking": "trackweave.tracking.settings:TrackingSettings",
    "online": "trackweave.tracking.settings:OnlineSettings",
    "predictor": "trackweave.predictors.sam.settings:SamSettings",
    "flow": "trackweave.predictors.flow.settings:FlowSettings",
    "text": "trackweave.predictors.sam.settings:TextSettings",
    "regions": "trackweave.proposals.settings:RegionSettings",
    "grid": "trackweave.proposals.settings:PointGridSettings",
    "candidates": "trackweave.proposals.settings:CandidateSettings",
    "identity": "trackweave.identity.settings:IdentitySettings",
    "overlay": "trackweave.visualization.settings:OverlaySettings",
    "format": "trackweave.structures.format_settings:FormatSettings",
    "tracker": "trackweave.mot.settings:TrackerSettings",
    "input": "trackweave.pipelines.settings:InputSettings",
    "perception": "trackweave.pipelines.settings:PerceptionSettings",
    "refinement": "trackweave.mot.settings:RefinementSettings",
    "log": "trackweave.association.settings:LogSettings",
    "scorer": "trackweave.association.settings:ScorerSettings",
    "run": "trackweave.pipelines.settings:BoxRunSettings",
    "evaluate": "trackweave.evaluation.settings:EvaluationSettings",
    "compare": "trackweave.evaluation.settings:CompareSettings",
    "simulate": "trackweave.pipelines.settings:SimulateSettings",
    "remix": "trackweave.pipelines.settings:RemixSettings",
    "train": "trackweave.association.settings:TrainSettings",
    "data": "trackweave.association.settings:DataSettings",
}
"""Section → its class. By name only, so that a command loads the classes that it has and no others."""

PRESET = "preset"
"""In a section whose class has presets: the setting that says where the others start from."""


def section_class(section: str) -> type[Settings]:
    """The class of a section."""
    module, _, name = SECTIONS[section].partition(":")
    model: type[Settings] = getattr(import_module(module), name)
    return model


class SettingField(NamedTuple):
    """One setting.

    Attributes:
        key: as `section.name`; of nested settings `section.name.inner`.
        info: pydantic's: type, default, bounds, description.
    """

    key: str
    info: FieldInfo

    @property
    def flag(self) -> str:
        """The flag that it has in every command that has the setting."""
        return f"--{self.key.replace('_', '-')}"

    @property
    def types(self) -> tuple[Any, ...]:
        """The types of its values: those of a union apart."""
        annotation = self.info.annotation
        return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)

    @property
    def is_switch(self) -> bool:
        """Is it true or false?"""
        return self.types == (bool,)

    @property
    def is_list(self) -> bool:
        """Is it a list of names, which flags may give one at a time?"""
        return any(get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis for kind in self.types)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it may be; empty where other values are possible."""
        words: list[str] = []
        for kind in self.types:
            if get_origin(kind) is Literal:
                words += [str(word) for word in get_args(kind)]
            elif isinstance(kind, type) and issubclass(kind, Enum):
                words += [str(member.value) for member in kind]
            elif kind is not NoneType:
                return ()
        return tuple(words)

    @property
    def metavar(self) -> str:
        """What stands for its value in help."""
        extra = self.info.json_schema_extra
        if isinstance(extra, dict) and "metavar" in extra:
            return str(extra["metavar"])
        if self.choices:
            return "|".join(self.choices)
        if self.is_switch:
            return "true|false"
        kinds = [get_origin(kind) or kind for kind in self.types]
        names = {int: "N", float: "X", Path: "PATH", tuple: "NAME,..."}
        return next((names[kind] for kind in kinds if kind in names), "YAML" if self._is_mapping else "TEXT")

    @property
    def _is_mapping(self) -> bool:
        kinds = (get_origin(kind) or kind for kind in self.types)
        return any(isinstance(kind, type) and issubclass(kind, Mapping) for kind in kinds)

    @property
    def bounds(self) -> str:
        """Its limits, such as `>= 0, <= 1`; empty where there are none."""
        signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "a multiple of"}
        limits = ((sign, getattr(item, name, None)) for item in self.info.metadata for name, sign in signs.items())
        return ", ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)

    @property
    def default(self) -> str:
        """The default as `as_text` has it."""
        return as_text(self.info.get_default(call_default_factory=True))

    def parsed(self, text: str) -> Any:
        """A value from a text, such as a flag's; whether it fits is for the class to say.

        Raises:
            SettingError: a list or a mapping that is not YAML.
        """
        text = text.strip()
        if text in ("null", "~") and NoneType in self.types:
            return None
        is_sequence = any(get_origin(kind) is tuple for kind in self.types)
        if self._is_mapping or (is_sequence and text.startswith("[")):
            try:
                return parse_yaml(text)
            except ValueError:
                raise SettingError(f"{self.key}: {shortened(text)} is not a value in YAML") from None
            except SettingError as error:
                raise SettingError(f"{self.key}: {shortened(text)}: {error}") from None
        for number in (int, float):
            if number in self.types or float in self.types:
                try:
                    return number(text)
                except ValueError:
                    continue
        return text


def as_text(value: object) -> str:
    """A setting's value on one line, as YAML would have it."""
    if isinstance(value, str | Path):
        return str(value)
    plain = {str(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else value
    return json.dumps(plain, default=str)


def fields_of(model: type[Settings], section: str) -> Iterator[SettingField]:
    """Every setting of a class, those of nested classes included."""
    presets = list(model.presets())
    if presets:
        about: FieldInfo = Field(  # type: ignore[assignment]  # typed as the default, for class bodies
            default=presets[0],
            description="where the other settings of the section start from",
        )
        about.annotation = Literal[tuple(presets)]  # type: ignore[assignment]
        yield SettingField(f"{section}.{PRESET}", about)
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Settings):
            yield from fields_of(info.annotation, f"{section}.{name}")
        else:
            yield SettingField(f"{section}.{name}", info)


@dataclass(frozen=True)
class ShortFlag:
    """A further flag of a command, shorter than `--SECTION.NAME`.

    Attributes:
        name: such as `--confidence`; `--compile/--no-compile` where a setting with more values is a switch as well.
        keys: the settings that it sets, all to the same value unless there is `expand`.
        expand: values by key from its text.
        metavar: what stands for its value in help; None: as for the setting.
        description: None: the setting's.
        default: None: the setting's.
    """

    name: str
    keys: tuple[str, ...]
    expand: Callable[[str], Mapping[str, object]] | None = None
    metavar: str | None = None
    description: str | None = None
    default: str | None = None


def short(name: str, *keys: str) -> ShortFlag:
    """A short flag of one setting, or of several that get the same value."""
    return ShortFlag(name, keys)


def short_flags_of(section: str) -> tuple[ShortFlag, ...]:
    """A short flag `--NAME` for every setting of a section; of nested settings `--NAME-INNER`."""
    return tuple(
        short(f"--{one.key.partition('.')[2].replace('_', '-').replace('.', '-')}", one.key)
        for one in fields_of(section_class(section), section)
    )


@dataclass(frozen=True)
class Schema:
    """The settings that a command has.

    Attributes:
        sections: their names, see `SECTIONS`.
        flags: its short flags, in the order of its help.
        environment: variable → the setting that it is another name of.
        implied: switch → a setting and the value that it has when the switch is on and nobody gave it; the value
            switches on, too.
        without: settings of these sections that the command decides itself.
    """

    sections: tuple[str, ...]
    flags: tuple[ShortFlag, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    implied: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    without: frozenset[str] = frozenset()

    @cached_property
    def classes(self) -> Mapping[str, type[Settings]]:
        """Section → its class."""
        return {section: section_class(section) for section in self.sections}

    @cached_property
    def fields(self) -> Mapping[str, SettingField]:
        """Every setting by its key."""
        every = (one for section, model in self.classes.items() for one in fields_of(model, section))
        return {one.key: one for one in every if one.key not in self.without}

    @cached_property
    def flag_names(self) -> Mapping[str, str]:
        """Setting → the flag to show: its short one where it has one, of a switch the one that changes the default."""
        names = {key: one.name.partition("/")[0] for one in reversed(self.flags) for key in one.keys}
        flags = {key: names.get(key, one.flag) for key, one in self.fields.items()}
        on = {key for key, one in self.fields.items() if one.is_switch and one.info.default is True}
        return {key: negated(name) if key in on else name for key, name in flags.items()}

    def has_short_flag(self, key: str) -> bool:
        """Has the setting a flag besides its own?"""
        return any(key in one.keys for one in self.flags)

    def narrowed(self, *sections: str, without: Iterable[str] = ()) -> Schema:
        """Only these sections, and not these settings."""
        left_out = self.without | frozenset(without)

        def has(key: str) -> bool:
            return key.partition(".")[0] in sections and key not in left_out

        return Schema(
            sections,
            tuple(one for one in self.flags if all(map(has, one.keys))),
            {name: key for name, key in self.environment.items() if has(key)},
            {key: target for key, target in self.implied.items() if has(key) and has(target[0])},
            left_out,
        )

    def __add__(self, other: Schema) -> Schema:
        return Schema(
            tuple(dict.fromkeys((*self.sections, *other.sections))),
            (*self.flags, *other.flags),
            {**self.environment, **other.environment},
            {**self.implied, **other.implied},
            self.without | other.without,
        )


def negated(flag: str) -> str:
    """The flag that switches off what `flag` switches on.

    >>> negated("--compile")
    '--no-compile'
    """
    return f"--no-{flag.removeprefix('--')}"
