"""How commands end, and how they are loaded."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from trackweave.errors import InputError, SettingError
from trackweave.options.commands import command_of, run_command


def raising(error: BaseException) -> Callable[..., None]:
    def command() -> None:
        """Fails."""
        raise error

    return command


def with_notes(error: BaseException, *notes: str) -> BaseException:
    for note in notes:
        error.add_note(note)
    return error


KEPT = "error: interrupted: 2 frames are kept; run: goes on\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("clip.mp4:\n  is empty"), 1, "error: clip.mp4: is empty\n"),
        (SettingError("flag --fps: too slow"), 2, "error: flag --fps: too slow\n"),
        (PermissionError(13, "Permission denied", "run"), 1, "error: [Errno 13] Permission denied: 'run'\n"),
        (InputError("name\x1b[31m" + "x" * 9000), 1, "error: name\\x1b[31m" + "x" * 691 + " … " + "x" * 290 + "\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (with_notes(KeyboardInterrupt(), "2 frames are kept", "run: goes on"), 130, KEPT),
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


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_in_one_line_and_its_number(name: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    cleaned: list[str] = []

    def command() -> None:
        """Is stopped."""
        try:
            signal.raise_signal(getattr(signal, name))
            time.sleep(5)
        finally:
            cleaned.append(name)

    before = signal.getsignal(getattr(signal, name))
    assert run_command(command_of(command), [], prog="test") == code
    said = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    assert capsys.readouterr().err == f"error: {said}\n"
    assert cleaned == [name]
    assert signal.getsignal(getattr(signal, name)) is before


def test_signals_that_are_ignored_or_handled_stay_so() -> None:
    seen: list[object] = []

    def command() -> None:
        """Is not stopped."""
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)

    before = [
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number)),
        signal.signal(signal.SIGHUP, signal.SIG_IGN),
    ]
    try:
        assert run_command(command_of(command), [], prog="test") == 0
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])
    assert seen == [signal.SIGTERM]


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "error: +/-2 - <=3 -> caf\\xe9 \\udcff...\n"),
        ("latin-1", "error: ±2 - <=3 -> café \\udcff...\n"),
        ("utf-8", "error: ±2 – ≤3 → café \\udcff…\n"),
    ],
)
def test_every_terminal_shows_something(encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    assert run_command(command_of(raising(InputError("±2 – ≤3 → café \udcff…"))), [], prog="test") == 1
    sys.stderr.flush()
    assert raw.getvalue().decode(encoding) == shown


CLOSED = """
import sys
from trackweave.options.commands import command_of, run_command

def command() -> None:
    import os
    with open(sys.argv[1], "w") as file:
        os.write(2, b"what a library says")
        print("a line", file=sys.stderr, flush=True)
        file.write(f"{file.fileno()} {sys.stderr is None}")

sys.exit(run_command(command_of(command), [], prog="test"))
"""


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-", "2<script.py", ">&2 2<script.py"])
def test_closed_streams_lead_nowhere(tmp_path: Path, closed: str) -> None:
    """Otherwise the first file that is opened gets the number of standard error, and what libraries print."""
    (tmp_path / "script.py").write_text(CLOSED)
    line = f"exec {sys.executable} script.py out.txt {closed}"
    assert subprocess.run(["sh", "-c", line], cwd=tmp_path, check=False).returncode == 0
    number, is_none = (tmp_path / "out.txt").read_text().split()
    assert (int(number) > 2, is_none) == (True, "False")
