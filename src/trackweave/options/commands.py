"""Commands of the command line: their help, how they are run, and how they are loaded when they run.

Nothing of settings is imported here, so that `trackweave --help` is quick.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from trackweave.errors import SettingError, TrackweaveError, shortened_line

Function = Callable[..., None]
HELP_NAMES = {"help_option_names": ["-h", "--help"]}
HELP_ALL = "trackweave.help-all"
"""In a context: help lists every setting."""
PANELS = {"Arguments": 0, "Options": 1, "Settings": 3}
"""Place of a panel in help; sections of settings stand at 2."""
LONGEST_REASON = 2000
"""Characters of an error that are printed."""
INTERRUPTED = 130
"""What typer exits with after Ctrl-C."""


class SettingsCommand(TyperCommand):
    """A command whose help lists options in panels, and settings without a short flag only with `--help-all`.

    In a command without positional arguments an option that may be repeated takes several values at once, too:
    `--data A B` is `--data A --data B`.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the panels; those of sections of settings in the order in which they first occur."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            listed = copy(param)
            if ctx.meta.get(HELP_ALL):
                listed.hidden = False  # type: ignore[attr-defined]
            else:
                listed.opts = [name for name in param.opts if "." not in name] or param.opts
                listed.secondary_opts = [name for name in param.secondary_opts if "." not in name]
            record = listed.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name == "argument":
                title, record = "Arguments", (record[0].partition(" <")[0], record[1])
            else:
                title = getattr(param, "rich_help_panel", None) or "Options"
            panels.setdefault(title, []).append(record)
        for title in sorted(panels, key=lambda title: PANELS.get(title, 2)):
            with formatter.section(title):
                formatter.write_dl(panels[title])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the command line."""
        if not any(param.param_type_name == "argument" for param in self.params):
            args = _repeated(
                args, {name for one in self.params if getattr(one, "multiple", False) for name in one.opts}
            )
        return super().parse_args(ctx, args)


def _repeated(arguments: Sequence[str], names: set[str]) -> list[str]:
    """Writes the name of a repeatable option before each of its values.

    >>> _repeated(["--data", "a", "b", "--lr", "1"], {"--data"})
    ['--data', 'a', '--data', 'b', '--lr', '1']
    """
    repeated: list[str] = []
    name, has_value = "", False
    for argument in arguments:
        if argument.startswith("-"):
            name, has_value = argument.partition("=")[0], "=" in argument
        elif name in names and has_value:
            repeated.append(name)
        else:
            has_value = True
        repeated.append(argument)
    return repeated


def command_of(function: Function, name: str | None = None) -> Any:
    """A function as a command that `run_command` runs."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name, cls=SettingsCommand, context_settings=HELP_NAMES)(function)
    return typer.main.get_command(app)


def run_command(command: Any, arguments: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Runs a command; the exit code is 0 done, 1 a failure with a one-line reason, 2 bad usage."""
    logger = logging.getLogger("trackweave")
    if not logger.handlers:  # commands print a run's warnings themselves; `logging` would print them a second time
        logger.addHandler(logging.NullHandler())
    reason: object = "interrupted; the same command with --resume goes on"
    code = 1
    try:
        command(args=None if arguments is None else [str(argument) for argument in arguments], prog_name=prog)
        return 0
    except SystemExit as stop:
        if stop.code != INTERRUPTED:
            return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        pass
    except (TrackweaveError, OSError) as error:
        reason, code = error, 2 if isinstance(error, SettingError) else 1
    print("error:", shortened_line(str(reason), LONGEST_REASON), file=sys.stderr)
    return code


class LazyCommand(NamedTuple):
    """A command that is imported when it runs.

    Attributes:
        target: `module:name` of a function, or of a group of commands.
        summary: its line in the list of commands.
    """

    target: str
    summary: str

    def load(self, name: str) -> Any:
        """The command itself."""
        module, _, attribute = self.target.partition(":")
        target = getattr(import_module(module), attribute)
        return typer.main.get_command(target) if isinstance(target, typer.Typer) else command_of(target, name)


class _Summary(TyperCommand):
    """Stands for a command that is not loaded, in a list of commands: its line is not cut."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """The whole line."""
        return self.help or ""


class LazyGroup(TyperGroup):
    """A group whose commands are known by name and summary; the one that is called is loaded."""

    lazy: Mapping[str, LazyCommand] = {}

    def loaded(self) -> dict[str, Any]:
        """Every command by its name, loaded."""
        return {name: command.load(name) for name, command in self.lazy.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Name, command and remaining arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, self.lazy[name].load(name) if name and name in self.lazy else command, rest


def lazy_group(commands: Mapping[str, LazyCommand], **options: Any) -> typer.Typer:
    """A group of commands that are imported when they run."""
    group = typer.Typer(
        cls=type("Group", (LazyGroup,), {"lazy": commands}),
        context_settings=HELP_NAMES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        **options,
    )
    for name, command in commands.items():
        group.command(name, cls=_Summary, help=command.summary)(lambda: None)
    return group
