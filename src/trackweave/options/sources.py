"""Where settings come from: defaults, then a YAML file, the environment, `--set` and flags; later sources win.

A value from any source is checked by the class that declares it. A wrong one is a `SettingError` of one line that names
the source and the setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from trackweave.errors import InputError, SettingError, shortened, shortened_line
from trackweave.options.schema import PRESET, SECTIONS, Schema, SettingField, section_class
from trackweave.options.yaml_values import MOST_CHARACTERS, parse_yaml
from trackweave.settings import LONGEST_NAME, Settings, first_problem

S = TypeVar("S", bound=Settings)


class ProvidedValue(NamedTuple):
    """A value that was given, and where: `file c.yaml`, `environment DIAG`, `flag --size`."""

    value: Any
    origin: str


class Entry(NamedTuple):
    """One setting that is in force, for people.

    Attributes:
        key: as `section.name`.
        value: as JSON has it.
        origin: where it comes from: `default`, `preset NAME`, or as in `ProvidedValue`.
        description: what it means.
        variable: its environment variable, if any.
        flag: its flag, the short one if there is one.
    """

    key: str
    value: Any
    origin: str
    description: str
    variable: str | None
    flag: str


@dataclass(frozen=True)
class ResolvedSettings:
    """What is in force; `resolved[TrackingSettings]` are the settings of that class.

    Attributes:
        schema: which settings there are.
        sections: section → its settings.
        presets: section → the name of its preset, where its class has presets.
        provided: key → the value that was given.
    """

    schema: Schema
    sections: Mapping[str, Settings]
    presets: Mapping[str, str]
    provided: Mapping[str, ProvidedValue]

    def __getitem__(self, model: type[S]) -> S:
        for settings in self.sections.values():
            if isinstance(settings, model):
                return settings
        raise KeyError(model.__name__)

    def value(self, key: str) -> Any:
        """A setting's value, as JSON has it."""
        section, *names = key.split(".")
        if names == [PRESET]:
            return self.presets[section]
        value: Any = self.sections[section].model_dump(mode="json")
        for name in names:
            value = value[name]
        return value

    def origin(self, key: str) -> str:
        """Where a setting's value comes from, as in `Entry`."""
        if key in self.provided:
            return self.provided[key].origin
        section, _, name = key.partition(".")
        if section not in self.presets or name == PRESET:
            return "default"
        presets = self.schema.classes[section].presets()
        chosen, first = presets[self.presets[section]], next(iter(presets.values()))
        changed = getattr(chosen, name) != getattr(first, name)
        return f"preset {self.presets[section]}" if changed else "default"

    def entries(self) -> Iterator[Entry]:
        """Every setting, section by section."""
        variables = {key: name for name, key in self.schema.environment.items()}
        for key, one in self.schema.fields.items():
            about, flag = one.info.description or "", self.schema.flag_names[key]
            yield Entry(key, self.value(key), self.origin(key), about, variables.get(key), flag)


def resolve(
    schema: Schema,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    pairs: Sequence[str] = (),
    flags: Mapping[str, ProvidedValue] | None = None,
) -> ResolvedSettings:
    """Puts the sources of a command's settings over each other.

    Args:
        schema: which settings there are.
        file: YAML with sections, or keys like `tracker.diagnostics`; the sections of other commands are passed by.
        environment: variables by name; empty ones count as not set.
        pairs: `KEY=VALUE` texts of `--set`.
        flags: values by key.

    Raises:
        InputError: the file cannot be read.
        SettingError: an unknown key (the nearest known one is named), or a value that does not fit.
    """
    provided: dict[str, ProvidedValue] = {}
    if file is not None:
        provided.update(from_file(file, schema))
    provided.update(from_environment(environment or {}, schema))
    provided.update(from_pairs(pairs, schema))
    provided.update(flags or {})
    for switch, (key, value) in schema.implied.items():
        section, _, name = switch.partition(".")
        if key not in provided and getattr(_validated(schema.classes[section], section, None, provided), name):
            provided[key] = ProvidedValue(value, switch)
        elif switch not in provided and key in provided and provided[key].value == value:
            provided[switch] = ProvidedValue(True, key)
    sections: dict[str, Settings] = {}
    presets: dict[str, str] = {}
    for section, model in schema.classes.items():
        base = None
        if model.presets():
            presets[section] = _preset(model, section, provided)
            base = model.presets()[presets[section]]
        sections[section] = _validated(model, section, base, provided)
    return ResolvedSettings(schema, sections, presets, provided)


def from_file(path: Path, schema: Schema) -> dict[str, ProvidedValue]:
    """The settings of a YAML file: sections with values, or keys like `tracker.diagnostics`.

    Raises:
        InputError: the file cannot be read.
        SettingError: not sections with values, or a setting that no command has.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no file: a file with settings in YAML is expected")
    try:
        if path.stat().st_size > MOST_CHARACTERS:
            raise InputError(f"{path}: {path.stat().st_size} bytes: settings take at most {MOST_CHARACTERS}")
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    except SettingError as error:
        raise SettingError(f"file {path}, {error}") from None
    if content is None:
        return {}
    return from_mapping(content, schema, f"file {path}", others_pass=True)


def from_mapping(content: Any, schema: Schema, origin: str, *, others_pass: bool = False) -> dict[str, ProvidedValue]:
    """The settings of a mapping: sections with values, or keys like `tracker.diagnostics`.

    Args:
        content: the mapping, as YAML gives it.
        schema: which settings there are.
        origin: what messages call it.
        others_pass: settings that only other commands have are passed by; otherwise they are unknown.

    Raises:
        SettingError: not sections with values, or a setting that there is not.
    """
    if not isinstance(content, Mapping):
        raise SettingError(f"{origin}: settings are sections with values, not {type(content).__name__}")
    for name, value in content.items():
        if name in SECTIONS and not isinstance(value, dict):
            raise SettingError(f"{origin}: {name} is a section with values, not {shortened(value)}")
    values = {key: value for name, inner in content.items() for key, value in _flattened(str(name), inner)}
    known = schema
    if others_pass and not values.keys() <= schema.fields.keys():  # perhaps another command's: load what all have
        known = Schema(tuple(dict.fromkeys((*schema.sections, *SECTIONS))))
    for key in values:
        _check_key(key, origin, known)
    return {key: ProvidedValue(value, origin) for key, value in values.items() if key in schema.fields}


def _flattened(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Values by key: mappings of sections and of nested settings are taken apart, those that are values are not."""
    if isinstance(value, dict) and _is_class(name):
        for inner, one in value.items():
            yield from _flattened(f"{name}.{inner}", one)
    else:
        yield name, value


def _is_class(key: str) -> bool:
    """Does the key name a section, or settings nested in one?"""
    section, *names = key.split(".")
    kind: Any = section_class(section) if section in SECTIONS else None
    for name in names:
        info = kind.model_fields.get(name) if isinstance(kind, type) and issubclass(kind, Settings) else None
        kind = None if info is None else info.annotation
    return isinstance(kind, type) and issubclass(kind, Settings)


def from_environment(variables: Mapping[str, str], schema: Schema) -> dict[str, ProvidedValue]:
    """The settings of variables that are set; empty ones count as not set."""
    return {
        key: from_text(schema.fields[key], variables[name], f"environment {name}")
        for name, key in schema.environment.items()
        if variables.get(name, "").strip()
    }


def from_pairs(pairs: Sequence[str], schema: Schema) -> dict[str, ProvidedValue]:
    """The settings of `KEY=VALUE` texts; of a predictor's setting the name alone is enough.

    Raises:
        SettingError: an unknown key, or a text that is no pair.
    """
    provided: dict[str, ProvidedValue] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not equals:
            raise SettingError(f"flag --set: {shortened(pair)} is not KEY=VALUE")
        key = f"predictor.{key}" if f"predictor.{key}" in schema.fields else key
        _check_key(key, "flag --set", schema)
        provided[key] = from_text(schema.fields[key], text, "flag --set")
    return provided


def from_texts(texts: Mapping[str, str], schema: Schema, origin: str) -> dict[str, ProvidedValue]:
    """The settings of texts by key, such as the cells of a row.

    Raises:
        SettingError: an unknown key, or a text that cannot be read.
    """
    for key in texts:
        _check_key(key, origin, schema)
    return {key: from_text(schema.fields[key], text, origin) for key, text in texts.items()}


def from_text(field: SettingField, text: str, origin: str) -> ProvidedValue:
    """The value that a text stands for.

    Raises:
        SettingError: a list or a mapping that is not YAML.
    """
    try:
        return ProvidedValue(field.parsed(text), origin)
    except SettingError as error:
        raise SettingError(f"{origin}: {error}") from None


def _check_key(key: str, origin: str, schema: Schema) -> None:
    """Refuses a setting that does not exist.

    Raises:
        SettingError: names the nearest one that does.
    """
    if key in schema.fields:
        return
    names = {name.split(".", 1)[1]: name for name in schema.fields}
    start = key[:LONGEST_NAME]  # a long one resembles none, and would take long to compare
    near = get_close_matches(start, schema.fields, 1, 0.6) or [
        names[name] for name in get_close_matches(start.rsplit(".", 1)[-1], names, 1, 0.6)
    ]
    hint = f"did you mean {near[0]}?" if near else f"sections are {', '.join(schema.sections)}"
    raise SettingError(f"{origin}: there is no setting {shortened_line(key, LONGEST_NAME)}; {hint}")


def _validated(model: type[S], section: str, base: S | None, provided: Mapping[str, ProvidedValue]) -> S:
    """A section's settings: what was provided over `base`, or over the defaults of its class.

    Raises:
        SettingError: a value that does not fit; names its origin.
    """
    values: dict[str, Any] = {}
    for key, (value, _) in provided.items():
        head, *names, last = key.split(".")
        if head == section and last != PRESET:
            inner = values
            for name in names:
                inner = inner.setdefault(name, {})
            inner[last] = value
    try:
        return model.model_validate(values) if base is None else model.based_on(base, values)
    except ValidationError as error:
        problem = first_problem(error)
        place = f"{section}.{problem.name}."
        origin = next((one.origin for key, one in provided.items() if place.startswith(f"{key}.")), "together")
        raise SettingError(f"{origin}: {problem.text(f'{section}.')}") from None


def _preset(model: type[Settings], section: str, provided: Mapping[str, ProvidedValue]) -> str:
    """The name of a section's preset.

    Raises:
        SettingError: there is none of that name; the nearest is named.
    """
    presets, key = model.presets(), f"{section}.{PRESET}"
    if key not in provided:
        return next(iter(presets))
    value, origin = provided[key]
    if isinstance(value, str) and value in presets:
        return value
    near = get_close_matches(str(value)[:LONGEST_NAME], presets, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(presets)}"
    raise SettingError(f"{origin}: {key}: there is no preset {shortened(value)}; {hint}")
