"""Options of a command, made from classes of settings.

Every setting of a command's schema is a flag `--SECTION.NAME`; those that matter most have a short one as well.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer

from trackweave.options.commands import HELP_ALL, Function
from trackweave.options.schema import Schema, SettingField, ShortFlag, negated, section_class
from trackweave.options.sources import ProvidedValue, from_text, resolve

OptionValue = bool | str | list[str] | None
"""What a command line gives of an option: a switch, a text, the texts of a repeatable one; None: it was not given."""


class SettingOption(NamedTuple):
    """An option that sets settings.

    Attributes:
        parameter: name of the parameter that typer gives its value to.
        flag: its name on the command line.
        declared: which settings it sets.
        annotation: the parameter's type, with typer's description.
    """

    parameter: str
    flag: str
    declared: ShortFlag
    annotation: Any


def options_of(schema: Schema) -> Iterator[SettingOption]:
    """The options of a command: its short flags, then every other setting, which only `--help-all` lists.

    A short flag that is short for one setting and nothing else is one option with the setting's own flag.
    """
    merged: set[str] = set()
    for one in schema.flags:
        field = schema.fields[one.keys[0]]
        is_alias = len(one.keys) == 1 and one.expand is None and (field.is_switch or "/" not in one.name)
        yield _option(
            schema, field, one, [one.name, field.flag] if is_alias and field.key not in merged else [one.name]
        )
        merged |= {field.key} if is_alias else set()
    for key, field in schema.fields.items():
        if key not in merged:
            yield _option(schema, field, ShortFlag(field.flag, (key,)), [field.flag], hidden=True)


def _option(
    schema: Schema, field: SettingField, declared: ShortFlag, names: Sequence[str], *, hidden: bool = False
) -> SettingOption:
    if field.is_switch and declared.expand is None:
        names = [f"{name}/{negated(name)}" for name in dict.fromkeys(names)]
    is_switch, choices = "/" in names[0], field.choices
    flag = names[0].partition("/")[0]
    variable = next((name for name, key in schema.environment.items() if key == field.key), None)
    notes = [*([f"env: {variable}"] if variable else []), f"default: {declared.default or field.default}"]
    described = typer.Option(
        *dict.fromkeys(names),
        help=f"{declared.description or field.info.description} [{'; '.join(notes)}]",
        metavar=None if is_switch else declared.metavar or field.metavar,
        show_default=False,
        hidden=hidden,
        autocompletion=(lambda: list(choices)) if choices and not is_switch else None,
        rich_help_panel=_panel(field),
    )
    kind: Any = bool if is_switch else list[str] if field.is_list else str
    parameter = flag.strip("-").replace("-", "_").replace(".", "__") + "_"
    return SettingOption(parameter, flag, declared, Annotated[kind | None, described])


def _panel(field: SettingField) -> str:
    section = field.key.partition(".")[0]
    about = (inspect.getdoc(section_class(section)) or "").partition("\n")[0]  # none with -OO
    return f"{section}: {about.rstrip('.').partition(';')[0]}".removesuffix(": ")


def provided_by(
    options: Sequence[SettingOption], arguments: Mapping[str, OptionValue], schema: Schema
) -> dict[str, ProvidedValue]:
    """The settings that a command line gave.

    Args:
        options: of the command.
        arguments: value by parameter; None: the option was not given.
        schema: which settings there are.

    Raises:
        SettingError: a text that cannot be read.
    """
    provided: dict[str, ProvidedValue] = {}
    for option in options:
        value, declared = arguments[option.parameter], option.declared
        if value is None:
            continue
        origin = f"flag {negated(option.flag) if value is False else option.flag}"
        if declared.expand is not None:
            provided.update({key: ProvidedValue(one, origin) for key, one in declared.expand(str(value)).items()})
        elif isinstance(value, bool):
            provided.update({key: ProvidedValue(value, origin) for key in declared.keys})
        else:
            text = ",".join(value) if isinstance(value, list) else value
            provided.update({key: from_text(schema.fields[key], text, origin) for key in declared.keys})
    return provided


def _show_all(context: typer.Context, wanted: bool) -> None:
    """Prints the help with every setting, and ends."""
    if wanted:
        context.meta[HELP_ALL] = True
        typer.echo(context.get_help())
        raise typer.Exit


_COMMON: Mapping[str, tuple[Any, Any]] = {
    "config_": (
        Annotated[
            Path | None, typer.Option("--config", metavar="FILE", help="settings as YAML", rich_help_panel="Settings")
        ],
        None,
    ),
    "set_": (
        Annotated[
            list[str] | None,
            typer.Option(
                "--set",
                metavar="SECTION.NAME=VALUE",
                help="any setting of --help-all; repeatable",
                rich_help_panel="Settings",
            ),
        ],
        None,
    ),
    "help_all_": (
        Annotated[
            bool,
            typer.Option(
                "--help-all", help="show every setting", is_eager=True, callback=_show_all, rich_help_panel="Settings"
            ),
        ],
        False,
    ),
}
"""Parameter → type and default of the options that every command with settings has."""


def with_settings(schema: Schema) -> Callable[[Function], Function]:
    """Makes a command of a function that takes `settings: ResolvedSettings`.

    The command has the function's other parameters, an option for every setting of the schema, `--config FILE`,
    `--set SECTION.NAME=VALUE` and `--help-all`.
    """
    options = list(options_of(schema))

    def decorate(function: Function) -> Function:
        hints = get_type_hints(function, include_extras=True)
        own = [one for name, one in inspect.signature(function).parameters.items() if name != "settings"]
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            *(one.replace(annotation=hints[one.name], kind=keyword) for one in own),
            *(inspect.Parameter(one.parameter, keyword, default=None, annotation=one.annotation) for one in options),
            *(
                inspect.Parameter(name, keyword, default=default, annotation=annotation)
                for name, (annotation, default) in _COMMON.items()
            ),
        ]

        @wraps(function)
        def command(**arguments: Any) -> None:
            settings = resolve(
                schema,
                file=arguments["config_"],
                environment=os.environ,
                pairs=arguments["set_"] or (),
                flags=provided_by(options, arguments, schema),
            )
            function(**{one.name: arguments[one.name] for one in own}, settings=settings)

        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return decorate
