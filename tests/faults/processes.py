"""Commands in forked children that meet a fault on their way: a kill, a full disk, a signal, too few descriptors.

The parent loads everything once; a child is the process that a shell would start, without the seconds of imports.
Where a fault strikes is counted in operations on files below one folder, as Python's audit events tell them, so that a
fault can strike before each of them in turn.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import mmap
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVENTS = frozenset(("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.symlink"))
TAKES_SPACE = frozenset(("os.rename", "os.mkdir", "os.link", "os.symlink"))
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
Fault = Callable[[], None]
"""Is called in the child before the command begins."""


@dataclass(frozen=True)
class Ended:
    """A child that has ended.

    Attributes:
        code: exit code; −N where signal N ended it; None where it was still running at the time limit.
        out: standard output.
        err: standard error.
        operations: how many operations on files there were below the watched folder.
    """

    code: int | None
    out: str
    err: str
    operations: int

    @property
    def is_clean(self) -> bool:
        """Ended by itself, without a traceback, and with one line of reason where it failed."""
        if self.code is None or "Traceback" in self.err or "Error in sys.excepthook" in self.err:
            return False
        errors = [line for line in self.err.splitlines() if line.startswith("error:")]
        return self.code in (0, 2) or self.code < 0 or (self.code in (1, 129, 130, 143) and len(errors) == 1)


class Child:
    """A command in a forked process."""

    def __init__(self, arguments: Sequence[object], work: Path, *faults: Fault, watched: Path | None = None) -> None:
        self.counter = mmap.mmap(-1, 8)
        # Pipes: bounds of disks and of files do not hold for them; what commands say fits into their buffers.
        pipes = os.pipe(), os.pipe()
        self._read = [reading for reading, _ in pipes]
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            written = [writing for _, writing in pipes]
            self._run([str(argument) for argument in arguments], work, faults, watched or work, written)
        for _, writing in pipes:
            os.close(writing)

    def _run(
        self, arguments: list[str], work: Path, faults: Sequence[Fault], watched: Path, written: Sequence[int]
    ) -> None:
        code = 70
        try:
            for number, pipe in enumerate(written, start=1):
                os.dup2(pipe, number)
            for pipe in (*written, *self._read):
                os.close(pipe)
            faulthandler.register(signal.SIGUSR1)  # says where it hangs
            os.chdir(work)
            count_operations(watched, self.counter)
            for fault in faults:
                fault()
            sys.stdout, sys.stderr = _stream(1), _stream(2)
            code = _main(arguments)
        except BaseException:  # noqa: BLE001 - what Python itself would do at the end of a process
            traceback.print_exc()
            code = 1
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    @property
    def operations(self) -> int:
        """Operations on files so far."""
        return int(struct.unpack_from("<q", self.counter)[0])

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = 300.0) -> Ended:
        """Waits for the end; a child that takes longer is killed."""
        descriptor = os.pidfd_open(self.pid)
        try:
            is_over = bool(select.select([descriptor], [], [], seconds)[0])
        finally:
            os.close(descriptor)
        if not is_over:
            self.kill(signal.SIGUSR1)
            time.sleep(0.5)
            self.kill()
        _, status = os.waitpid(self.pid, 0)
        out, err = (_all_of(pipe) for pipe in self._read)
        return Ended(os.waitstatus_to_exitcode(status) if is_over else None, out, err, self.operations)


def _stream(number: int) -> Any:
    """What Python makes of a descriptor at its start: None where it is closed."""
    try:
        os.fstat(number)
    except OSError:
        return None
    return os.fdopen(number, "w", buffering=1 if number == 2 else -1, encoding="utf-8", closefd=False)


def _all_of(pipe: int) -> str:
    with os.fdopen(pipe, "rb") as file:
        os.set_blocking(pipe, False)  # a grandchild may still hold the other end
        return (file.read() or b"").decode(errors="replace")


def _main(arguments: list[str]) -> int:
    from trackweave.cli.app import main

    sys.argv = ["trackweave", *arguments]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def run(arguments: Sequence[object], work: Path, *faults: Fault, watched: Path | None = None) -> Ended:
    """A command from its beginning to its end."""
    return Child(arguments, work, *faults, watched=watched).wait()


def forked(function: Callable[[], str]) -> str:
    """What a function says, in a child: libraries that begin threads stay out of the parent, which forks again."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = function()
        except BaseException:  # noqa: BLE001 - the parent hears of it
            text = traceback.format_exc()
        os.write(writing, text.encode()[:4096])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    os.waitpid(pid, 0)
    return text


# --- faults -----------------------------------------------------------------------------------------------------------

_STRIKES: list[tuple[int, bool, Callable[[], None]]] = []


def count_operations(folder: Path, counter: mmap.mmap) -> None:
    """Counts operations on files below a folder from now on, and strikes where a fault asks for it."""
    root, count = str(folder), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        paths = arguments[: 2 if event in ("os.rename", "os.link") else 1]
        if event not in EVENTS or not any(_below(root, path) for path in paths):
            return
        count += 1
        struct.pack_into("<q", counter, 0, count)
        writes = event in TAKES_SPACE or (event == "open" and bool(int(arguments[2] or 0) & WRITES))
        for number, only_writes, strike in _STRIKES:
            if count >= number and (writes or not only_writes):
                strike()

    sys.addaudithook(hook)


def _below(root: str, path: object) -> bool:
    if isinstance(path, bytes | str):
        text = os.fsdecode(path)
        return (text if text.startswith("/") else os.path.join(os.getcwd(), text)).startswith(root)  # noqa: PTH109, PTH118
    return False


def killed_at(number: int) -> Fault:
    """Kill −9 right before an operation."""
    return lambda: _STRIKES.append((number, False, lambda: os.kill(os.getpid(), signal.SIGKILL)))


def signalled_at(number: int, which: int) -> Fault:
    """A signal right before an operation."""

    def strike() -> None:
        _STRIKES.clear()
        os.kill(os.getpid(), which)

    return lambda: _STRIKES.append((number, False, strike))


def refused_from(number: int, reason: int = errno.ENOSPC) -> Fault:
    """From an operation on, nothing can be opened for writing, made or renamed; removing goes on."""

    def strike() -> None:
        raise OSError(reason, os.strerror(reason))

    return lambda: _STRIKES.append((number, True, strike))


def killed_after(seconds: float) -> Fault:
    """Kill −9 after a time, wherever the process is; also in the middle of a write."""

    def fault() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # nobody can catch it, nothing is tidied up
        signal.setitimer(signal.ITIMER_REAL, seconds)

    return fault


def file_size(most: int) -> Fault:
    """No file can grow beyond so many bytes: a write fails in its middle."""

    def fault() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return fault


def descriptors(most: int) -> Fault:
    """No more than so many open files."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def unprivileged() -> None:
    """Root without its privileges, so that permissions hold (`capset`, see capabilities(7))."""
    header, nothing = struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", *[0] * 6)
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def output_to(path: str) -> Fault:
    """Standard output goes to a file."""

    def fault() -> None:
        file = os.open(path, os.O_WRONLY)
        os.dup2(file, 1)
        os.close(file)

    return fault


# --- processes of their own, where the interpreter itself is to start differently -------------------------------------


def fresh(
    arguments: Sequence[object],
    work: Path,
    *,
    flags: Sequence[str] = (),
    environment: Mapping[str, str | None] | None = None,
    closed: Sequence[int] = (),
) -> Ended:
    """A command in an interpreter with these flags and variables (None: not set); descriptors that are closed."""
    variables = {**os.environ, **{name: value for name, value in (environment or {}).items() if value is not None}}
    for name, value in (environment or {}).items():
        if value is None:
            variables.pop(name, None)
    command = [sys.executable, *flags, "-m", "trackweave", *map(str, arguments)]

    def close() -> None:
        for number in closed:
            os.close(number)

    done = subprocess.run(command, cwd=work, env=variables, capture_output=True, timeout=300, preexec_fn=close)
    return Ended(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), 0)
