"""Nothing that only POSIX systems have is needed: the same code runs on Windows."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest

import trackweave
from tests.association.toy import toy_sample
from trackweave.progress import peak_rss_mb
from trackweave.storage.files import lock_file
from trackweave.storage.result_log import ResultJournal
from trackweave.storage.sample_folder import SampleFolder

POSIX_MODULES = {"curses", "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_CALLS = {
    "chown", "fchmod", "fork", "forkpty", "getloadavg", "getpgid", "geteuid", "getuid", "killpg", "mkfifo", "nice",
    "pread", "pwrite", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "setsid", "statvfs", "sysconf",
    "uname", "wait4", "posix_fallocate", "posix_fadvise", "fdatasync", "sendfile", "O_CLOEXEC", "O_DIRECTORY",
    "O_NOFOLLOW", "O_SYNC", "O_TMPFILE",
}  # fmt: skip
SOURCES = sorted(Path(trackweave.__file__).parent.rglob("*.py"))


def guarded(tree: ast.Module) -> set[ast.AST]:
    """Nodes inside a `try` that has an `except ImportError`."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(
            isinstance(handler.type, ast.Name) and handler.type.id == "ImportError" for handler in node.handlers
        ):
            inside.update(child for statement in node.body for child in ast.walk(statement))
    return inside


def test_modules_of_posix_are_imported_with_a_fallback_only() -> None:
    for source in SOURCES:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        safe = guarded(tree)
        for node in ast.walk(tree):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert node in safe or not POSIX_MODULES & {name.split(".")[0] for name in names}, source


def test_calls_of_posix_are_not_used() -> None:
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr not in POSIX_CALLS, f"{source}: os.{node.attr}"


@pytest.fixture
def _windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in POSIX_MODULES:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("_windows")
def test_peak_memory_is_unknown_where_nobody_tells_it() -> None:
    assert peak_rss_mb() is None


@pytest.mark.usefixtures("_windows")
def test_without_locks_files_are_written_all_the_same(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert not lock_file(file.fileno())
    with ResultJournal(tmp_path / "journal", "k"), SampleFolder(tmp_path / "log") as folder:
        folder.write(toy_sample())
    assert len(list((tmp_path / "log").glob("sample_*.npz"))) == 1


def test_a_lock_is_held_until_its_file_is_closed(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    first, second = (os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert lock_file(first)
    with pytest.raises(BlockingIOError):
        lock_file(second)
    os.close(first)
    assert lock_file(second)
    os.close(second)
