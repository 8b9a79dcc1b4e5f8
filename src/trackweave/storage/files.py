"""How files come to be: written aside, then renamed; a reader never sees half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from isal import isal_zlib

from trackweave.errors import (
    ArtifactError,
    ArtifactVersionError,
    InputError,
    RunFolderError,
    TrackweaveError,
    shortened,
    wording,
)

PARTIAL_SUFFIX = ".partial"
LOCK_NAME = ".trackweave.lock"
_PARTIAL_NAME = re.compile(rf"\..+\.\d+-[0-9a-f]{{8}}{re.escape(PARTIAL_SUFFIX)}")
_SCRATCH_NAME = re.compile(r"\d+-[0-9a-f]{8}")
_LONGEST_NAME = 220
"""Bytes of a file's name in its temporary name: most file systems take 255."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`; renames it to `path` at the end, removes it when the body fails.

    Raises:
        RunFolderError: the file system refused (read-only, full, no such folder).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_beside(path) as temporary:
            yield temporary
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A new empty file `.NAME.PROCESS-RANDOM.partial` in the folder of `path`, removed at the end if it is still there.

    It is locked until then, so that `remove_leftovers` knows it from the file of a process that was killed. A link that
    another program planted under this name is not followed.

    Raises:
        OSError: the file system refused.
    """
    temporary = path.with_name(f"{_partial_start(path)}{os.getpid()}-{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    file = _open_locked(temporary, os.O_EXCL, wait=True)
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if file is not None:
            os.close(file)


def _partial_start(path: Path) -> str:
    """What the names of the temporary files of a file begin with."""
    name = os.fsencode(path.name)
    short = path.name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME].decode("utf-8", "ignore")
    return f".{short}."


def remove_leftovers(folders: Iterable[Path], start: str = ".") -> None:
    """Removes the temporary files of killed processes from these folders, and nothing else; not from folders below.

    Args:
        folders: where.
        start: what their names begin with.
    """
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                is_ours = entry.name.startswith(start) and _PARTIAL_NAME.fullmatch(entry.name)
                if is_ours and entry.is_file(follow_symlinks=False) and is_abandoned(Path(entry.path)):
                    with suppress(OSError):
                        Path(entry.path).unlink()


def remove_leftovers_of(path: Path) -> None:
    """Removes the temporary files of killed processes that were to become this file; others' beside it stay."""
    remove_leftovers([path.parent], _partial_start(path))


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent` that is removed at the end; those that killed processes left there are removed too.

    Args:
        parent: where; made when it is not there.
        prefix: what the names of such folders begin with.

    Raises:
        RunFolderError: the file system refused.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for folder in parent.glob(f"{prefix}*"):
            is_ours = _SCRATCH_NAME.fullmatch(folder.name.removeprefix(prefix)) and not folder.is_symlink()
            if is_ours and (folder / LOCK_NAME).is_file() and is_abandoned(folder / LOCK_NAME):
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise RunFolderError(f"{parent}: cannot be written: {error.strerror or error}") from error
    folder = parent / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with locked_folder(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def filled_folder(folder: Path, written: list[Path]) -> Iterator[Path]:
    """Gives a hidden folder inside `folder`; what was put there moves to `folder` at the end, and only then.

    Other files in the folder stay. Two that fill one folder wait for each other.

    Args:
        folder: made when it is not there.
        written: takes the files, in the order of their names.

    Raises:
        RunFolderError: the file system refused.
    """
    with locked_folder(folder, wait=True), scratch_folder(folder, ".export-") as staging:
        yield staging
        try:
            for path in sorted(staging.rglob("*")):
                target = folder / path.relative_to(staging)
                if path.is_dir():
                    target.mkdir(exist_ok=True)
                elif path.name != LOCK_NAME:
                    written.append(path.replace(target))
        except OSError as error:
            raise RunFolderError(f"{folder}: cannot be written: {error.strerror or error}") from error


def is_abandoned(path: Path) -> bool:
    """Whether the process that locked a file is dead; False where there are no locks, as it cannot be known."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return lock_file(file)
    except BlockingIOError:
        return False
    finally:
        os.close(file)


@contextmanager
def locked_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps other processes, and other jobs of this one, from working in a folder until the block ends.

    The lock is a hidden file with the number of the process; the system frees it when the process dies, whatever the
    cause. Where there are no locks (Windows, some network file systems) nothing is held.

    Args:
        folder: the folder; made when it is not there.
        wait: until the folder is free.

    Raises:
        RunFolderError: another process works in it and `wait` is False, or the folder cannot be written.
    """
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path, 0, wait=wait)
    except BlockingIOError:
        holder = _read_holder(path)
        is_own = holder == str(os.getpid())
        who = "another job of this process" if is_own else f"another process{f' ({holder})' if holder else ''}"
        raise RunFolderError(f"{folder}: {who} is working in this folder: wait for it, or choose another") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL character
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise RunFolderError(f"{folder}: cannot be written: {reason}") from error
    try:
        if file is not None:
            with suppress(OSError):  # on a full disk the lock holds all the same
                os.ftruncate(file, 0)
                os.write(file, str(os.getpid()).encode())
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        if file is not None:
            os.close(file)


def _open_locked(path: Path, flags: int, *, wait: bool) -> int | None:
    """Opens and locks a file; made anew when whoever held it before has removed it meanwhile.

    Returns:
        None where there are no locks: the file is closed then, since on Windows an open one can be neither renamed nor
        removed.

    Raises:
        BlockingIOError: another process holds the lock and `wait` is False.
        OSError: it cannot be made, or is a link.
    """
    while True:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link")
        file = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
        keep = False
        try:
            if not lock_file(file, wait=wait):
                return None
            with suppress(FileNotFoundError):
                keep = os.path.samestat(os.fstat(file), path.lstat())
        finally:
            if not keep:
                os.close(file)
        if keep:
            return file


def _read_holder(path: Path) -> str:
    """The number of the process that holds a lock; empty when it is not known."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")[:20]
    except OSError:
        return ""
    return text if text.isdecimal() else ""


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Refuses to write over what is read, however it is spelled or linked; files that are not there do not count.

    Raises:
        InputError: an output is one of the inputs.
    """
    there = {(status.st_dev, status.st_ino) for path in inputs if (status := _status(path)) is not None}
    for output in outputs:
        status = _status(output)
        if status is not None and (status.st_dev, status.st_ino) in there:
            raise InputError(
                f"{output}: is an input, and would be written over: choose another {wording('output', '-o')}"
            )


def _status(path: str | Path) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except (OSError, ValueError):
        return None


def recorded_path(path: str | Path) -> str:
    """How a manifest names an input: absolute, so that it is found from every working folder.

    What is no file or folder, such as the address of a stream, stays as it is.
    """
    return str(Path(path).absolute() if Path(path).exists() else path)


_BLOCK = 1 << 20
_WHOLE = 1 << 30
"""Bytes of a file up to which all of it is read for its digest; of a larger one so many in blocks over all of it."""


def content_digest(path: Path) -> bytes:
    """A digest that tells a file's content from another's: of its length and two checksums of each block.

    It is as quick as reading: meant for accidents, not against someone who forges a file of equal digest.

    Raises:
        InputError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            length = file.seek(0, os.SEEK_END)
            count = -(-length // _BLOCK)
            most = _WHOLE // _BLOCK
            starts = range(count) if count <= most else (k * (count - 1) // (most - 1) for k in range(most))
            digest.update(length.to_bytes(8, "little"))
            for start in starts:
                file.seek(start * _BLOCK)
                block = file.read(_BLOCK)
                checksums = (isal_zlib.crc32(block), isal_zlib.adler32(block))
                digest.update(b"".join(value.to_bytes(4, "little") for value in checksums))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.digest()


def safe_name(text: str, where: str, error: type[TrackweaveError] = InputError) -> str:
    """Text of an input file as the name of one file or folder; every path that such a text takes part in is built so.

    Args:
        text: the text.
        where: file and item that it comes from, for the message.
        error: what is raised.

    Returns:
        `text`.

    Raises:
        TrackweaveError: of the type `error`: it is empty, `.`, `..`, an absolute path or one with folders, or holds a
            NUL character: it would lead out of the folder, or is no name.

    >>> safe_name("dancetrack0001", "seqinfo.ini: name")
    'dancetrack0001'
    """
    # `Path(text).name` is the text itself exactly where it has no folder, no drive and is not `.`.
    if not text or text == ".." or "\0" in text or Path(text).name != text:
        raise error(f"{where} {shortened(text)} cannot be the name of a file or folder: rename it, without / and ..")
    return text


def path_inside(folder: Path, text: str, where: str) -> Path:
    """The file below `folder` that a file of ours names.

    Raises:
        ArtifactError: the name leads out of the folder; says `where` it comes from.
    """
    if not text or "\0" in text or Path(text).is_absolute() or Path(text).drive or ".." in Path(text).parts:
        raise ArtifactError(f"{where} {shortened(text)} does not lie inside {folder}")
    return folder / text


def check_regular(path: Path, error: type[TrackweaveError] = InputError) -> None:
    """Refuses what is no regular file before it is opened: a pipe gives its content once and waits for a writer, a
    device may never end. What does not exist, or is a folder, is left to the one who opens it.

    Raises:
        TrackweaveError: of the type `error`.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL character in the name
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise error(f"{path}: is a {kind}, not a file: save its content to a file first")


def lock_file(file: int, *, wait: bool = False) -> bool:
    """Takes an exclusive lock on an open file; it ends when the file is closed or the process dies.

    Returns:
        False where there are no such locks: on Windows, and on some network file systems. Nothing is held then.

    Raises:
        BlockingIOError: another process holds the lock and `wait` is False.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return False
    return True


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all."""
    with replacing(path) as temporary:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        # A file name that is not UTF-8 holds lone surrogates; as `\udcXX` they are JSON and come back as they were.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


_SUSPECT_NUMBER = re.compile(r"[eE]\+?\d{3}|\d{19}")
"""What every number that float64 or int64 cannot hold looks like, and a few others."""


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """What a JSON text holds; every reader of JSON parses with this.

    Args:
        text: the text, bytes in UTF-8.
        finite: NaN, infinity, and numbers beyond float64 or int64 are errors; otherwise they become NaN, which the
            checks of single items refuse, so that one bad item does not cost the others.

    Raises:
        ValueError: not JSON, nested too deeply, or numbers out of range; in one short line.

    >>> parse_json('{"a": [1, 2.5]}'), parse_json("[1e999]", finite=False)
    ({'a': [1, 2.5]}, [nan])
    """
    text = text.decode("utf-8") if isinstance(text, bytes) else text

    def out_of_range(number: str) -> float:
        if finite:
            raise ValueError(f"the number {shortened(number, 20)} is out of range")
        return math.nan

    def parse_float(number: str) -> float:
        value = float(number)
        return value if math.isfinite(value) else out_of_range(number)

    def parse_int(number: str) -> float:
        value = int(number) if len(number) <= 20 else 1 << 64
        return value if -(1 << 63) <= value < 1 << 63 else out_of_range(number)

    # Functions of our own for every number would halve the speed on large files: they serve where they may be needed.
    is_suspect = _SUSPECT_NUMBER.search(text) is not None
    try:
        return json.loads(
            text,
            parse_constant=out_of_range,
            parse_float=parse_float if is_suspect else None,
            parse_int=parse_int if is_suspect else None,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json_object(path: Path, kind: str, *, finite: bool = True) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        path: the file.
        kind: what it should be, for the message.
        finite: as for `parse_json`.

    Raises:
        ArtifactError: missing, unreadable, not JSON, or not an object.
    """
    check_regular(path, ArtifactError)
    try:
        value = parse_json(path.read_text(encoding="utf-8"), finite=finite)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: there is no {kind} here") from None
    except OSError as error:
        raise ArtifactError(f"{path}: the {kind} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # both JSONDecodeError and UnicodeDecodeError
        raise ArtifactError(f"{path}: the {kind} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: the {kind} should be a JSON object, not {type(value).__name__}")
    return value


def check_version(found: Any, supported: int, where: object) -> None:
    """Refuses artifacts of another schema.

    Raises:
        ArtifactVersionError: newer than `supported`, or not a version number at all.
    """
    if isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= supported:
        return
    if isinstance(found, int) and not isinstance(found, bool) and found > supported:
        raise ArtifactVersionError(
            f"{where}: schema_version {found} is newer than {supported}, the newest this trackweave reads: upgrade it"
        )
    raise ArtifactVersionError(
        f"{where}: unknown schema_version {shortened(found, 40)} (this trackweave reads 1 to {supported})"
    )
