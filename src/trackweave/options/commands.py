"""Commands of the command line: their help, how they are run, and how they are loaded when they run.

Nothing of settings is imported here, so that `trackweave --help` is quick.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from trackweave.errors import SettingError, TrackweaveError, command_wording, shortened_line

Function = Callable[..., None]
HELP_NAMES = {"help_option_names": ["-h", "--help"]}
HELP_ALL = "trackweave.help-all"
"""In a context: help lists every setting."""
PANELS = {"Arguments": 0, "Options": 1, "Settings": 3}
"""Place of a panel in help; sections of settings stand at 2."""
LONGEST_REASON = 2000
"""Characters of an error that are printed."""

AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="remove a run that RUN holds; other files in it stay")]


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

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; a terminal shows at once that it starts, until the first line overwrites that."""
        if sys.stderr is not None and sys.stderr.isatty():
            print(f"{ctx.command_path}: starting", end="\r", file=sys.stderr, flush=True)
        return super().invoke(ctx)

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
    """Runs a command.

    Returns:
        the exit code: 0 done, 1 a failure with a one-line reason, 2 bad usage; 128 and the signal's number when it was
        stopped by a signal: 130 by Ctrl-C, 143 by SIGTERM.
    """
    prepare_streams()
    logger = logging.getLogger("trackweave")
    if not logger.handlers:  # commands print a run's warnings themselves; `logging` would print them a second time
        logger.addHandler(logging.NullHandler())
        waits = logging.getLogger("trackweave.compiled")  # what a first run waits for
        waits.addHandler(_PrintingHandler())
        waits.setLevel(logging.INFO)
    reason: object
    try:
        with _signals_raise(), command_wording():
            command(args=None if arguments is None else [str(argument) for argument in arguments], prog_name=prog)
        return 0
    except SystemExit as stop:
        interrupt = _interrupt_behind(stop)  # typer makes an exit of it
        if interrupt is None:
            return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        reason, code = _stopped(interrupt)
    except KeyboardInterrupt as interrupt:
        reason, code = _stopped(interrupt)
    except (TrackweaveError, OSError) as error:
        reason, code = error, 2 if isinstance(error, SettingError) else 1
    print("error:", shortened_line(str(reason), LONGEST_REASON), file=sys.stderr)
    return code


class _PrintingHandler(logging.Handler):
    """Prints to what is standard error at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one message."""
        print(record.getMessage(), file=sys.stderr, flush=True)


class Terminated(KeyboardInterrupt):
    """A signal that asks the process to end: what runs cleans up, as after Ctrl-C.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Terminated`, unless the process ignores them (`nohup`) or has handlers of its own."""

    def terminate(number: int, frame: object) -> None:
        raise Terminated(number)

    changed = []
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, terminate)
                changed.append(number)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that led to an exit; None when there was none."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return error
        error = error.__cause__ or error.__context__
    return None


def _stopped(interrupt: KeyboardInterrupt) -> tuple[str, int]:
    """What is said of an interrupt, with the notes of whoever knows what is kept, and the exit code."""
    number = interrupt.number if isinstance(interrupt, Terminated) else int(signal.SIGINT)
    name = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    return ": ".join([name, "; ".join(getattr(interrupt, "__notes__", []))]).removesuffix(": "), 128 + number


PLAIN = str.maketrans(
    {"–": "-", "—": "-", "−": "-", "·": "-", "…": "...", "×": "x", "±": "+/-", "≤": "<=", "≥": ">=", "→": "->"}
    | {"\u202f": " ", "\xa0": " ", "½": "1/2", "²": "^2", "≈": "~"}
)
"""What stands for a character that the terminal cannot show; others are escaped."""


def prepare_streams() -> None:
    """Output goes on whatever the terminal is: closed streams lead nowhere, and no character is an error."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would get its number, and what libraries print
            os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):  # a script whose shell had them closed has the script itself there, to be read
        if not _takes_output(descriptor):
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    codecs.register_error("trackweave", _plain_text)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="trackweave")


def _takes_output(descriptor: int) -> bool:
    """Whether a descriptor that is open may be written to; True where that cannot be asked."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def _plain_text(error: UnicodeError) -> tuple[str, int]:
    """What is printed for characters that an encoding has not."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


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
        if args and args[0] not in self.lazy and "masks" in self.lazy and Path(args[0]).exists():
            ctx.fail(
                f"{args[0]!r} is no command: one stands before it, as in `{ctx.command_path} masks {args[0]} -o RUN`"
            )
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
