"""How commands end, and how they are loaded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import typer

from trackweave.errors import InputError, SettingError
from trackweave.options.commands import command_of, run_command


def raising(error: BaseException) -> Callable[..., None]:
    def command() -> None:
        """Fails."""
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("clip.mp4:\n  is empty"), 1, "error: clip.mp4: is empty\n"),
        (SettingError("flag --fps: too slow"), 2, "error: flag --fps: too slow\n"),
        (PermissionError(13, "Permission denied", "run"), 1, "error: [Errno 13] Permission denied: 'run'\n"),
        (InputError("name\x1b[31m" + "x" * 9000), 1, "error: name\\x1b[31m" + "x" * 1991 + "…\n"),
        (KeyboardInterrupt(), 1, "error: interrupted; the same command with --resume goes on\n"),
        (typer.Exit(1), 1, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_one_line_and_a_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(command_of(raising(error)), [], prog="test") == code
    assert capsys.readouterr().err == line


def test_bad_usage_and_success(capsys: pytest.CaptureFixture[str]) -> None:
    def command(number: int) -> None:
        """Prints a number."""
        typer.echo(number)

    assert run_command(command_of(command), ["3"], prog="test") == 0
    assert capsys.readouterr().out == "3\n"
    assert run_command(command_of(command), ["three"], prog="test") == 2
    assert run_command(command_of(command), ["3", "--loud"], prog="test") == 2
