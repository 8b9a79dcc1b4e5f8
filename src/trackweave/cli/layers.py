"""Settings in layers: a YAML file, environment variables, flags. What each command makes of them stands beside this.

One file may hold the settings of several commands: a command passes by the sections of the others, but a name that no
command knows is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from trackweave.errors import InputError, SettingError


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
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        origin = given[f"{section}.{name}"].origin if f"{section}.{name}" in given else "together"
        message = str(first["msg"]).removeprefix("Value error, ")
        raise SettingError(
            f"{origin}: {section}{'.' if name else ''}{name}: {message}, not {first['input']!r}"
        ) from None
