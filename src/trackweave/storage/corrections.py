"""`corrections.jsonl`: what a person said about a run, a line per act; append-only.

The first line is a header, `{"kind": "corrections", "schema_version": 1, "run": FINGERPRINT}`; every other one is a
step as `structures.corrections` writes it, with its number `n` from 1 and the time `at_time` when it was said (ISO
8601, UTC). A line counts once its newline is on the disk; what a killed process left behind the last newline is cut
off by the next writer and passed over by readers.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trackweave.errors import ArtifactError, InputError, RunFolderError, shortened_line
from trackweave.storage.files import check_regular, check_version, lock_file, parse_json
from trackweave.structures.corrections import Corrections, Spoken, Step, spoken_from_json, step_from_json, step_to_json

SCHEMA_VERSION = 1
KIND = "corrections"
LONGEST_STEP = 64 * 2**20
"""Bytes of one line: of an accepted stretch with a million observations."""


def read_corrections(path: Path, run: str | None = None) -> Corrections:
    """What was said; nothing where there is no file.

    Args:
        path: the file; another process may be appending to it.
        run: fingerprint of the run that it must be about; None: of any.

    Raises:
        ArtifactError: damaged, or about another run; the message names the line.
        ArtifactVersionError: of a newer schema.
    """
    try:
        check_regular(path, ArtifactError)
        content = path.read_bytes()
    except FileNotFoundError:
        return Corrections()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error
    return _parsed(content, path, run)[0]


def read_steps(path: Path) -> list[Spoken]:
    """Steps of a file that others wrote: a line each, as in `corrections.jsonl`; a header is passed over, and `accept`
    needs no tracks.

    Raises:
        InputError: it cannot be read, or a line is not a step; the message names the line.
    """
    try:
        check_regular(path)
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    steps: list[Spoken] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
            if not (isinstance(record, dict) and record.get("kind") == KIND):
                steps.append(spoken_from_json(record))
        except (ValueError, InputError) as error:
            raise InputError(f"{path}, line {number}: {shortened_line(str(error))}") from None
    return steps


def _parsed(content: bytes, path: Path, run: str | None) -> tuple[Corrections, int]:
    """What whole lines say, and the byte after the last of them."""
    end = content.rfind(b"\n") + 1
    corrections = Corrections()
    for number, line in enumerate(content[:end].splitlines()):
        try:
            record = parse_json(line)
            if number == 0:
                _check_header(record, path, run)
                continue
            if not isinstance(record, dict) or record.get("n") != number:
                raise ValueError(f"a step number {number} belongs here")
            corrections = corrections.then(step_from_json(record))
        except (ValueError, InputError) as error:
            reason = shortened_line(str(error))
            raise ArtifactError(
                f"{path}, line {number + 1}: damaged ({reason}): keep a copy, and remove the lines from here on"
            ) from None
    return corrections, end


def _check_header(record: Any, path: Path, run: str | None) -> None:
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise ValueError("no header of corrections")
    check_version(record.get("schema_version"), SCHEMA_VERSION, path)
    about = record.get("run")
    if run is not None and about is not None and about != run:
        raise ArtifactError(f"{path}: is about another run than the one in this folder: move it elsewhere")


class CorrectionsJournal:
    """The one writer of `corrections.jsonl`; a `with` block. What `append` returned from is on the disk.

    Args:
        path: the file; made by the first append.
        run: fingerprint of the run that it is about.

    Attributes:
        corrections: what was said so far.

    Raises:
        ArtifactError: the file is damaged, or about another run.
        RunFolderError: another process writes it, or it cannot be written.
    """

    def __init__(self, path: Path, run: str | None = None) -> None:
        self.path = Path(path)
        self._run = run
        self._file = -1
        self._end = 0
        self.corrections = Corrections()

    def __enter__(self) -> Self:
        try:
            check_regular(self.path, ArtifactError)
            is_new = not self.path.exists()
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            try:
                lock_file(self._file)
                if is_new:
                    _sync_folder(self.path.parent)
                with os.fdopen(os.dup(self._file), "rb") as reader:
                    content = reader.read()
                self.corrections, self._end = _parsed(content, self.path, self._run)
                os.ftruncate(self._file, self._end)
            except BaseException:
                self._close()
                raise
        except BlockingIOError:
            raise RunFolderError(f"{self.path}: another process writes down answers: close it first") from None
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def append(self, step: Step) -> int:
        """Writes a step down. When this returns, it survives a kill and a loss of power.

        Returns:
            Its number, from 1.

        Raises:
            InputError: nothing to undo or to redo.
            RunFolderError: the disk is full, or the file cannot be written; nothing was added then.
        """
        following = self.corrections.then(step)
        number = len(following.steps)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = {"n": number, **step_to_json(step), "at_time": now}
        line = json.dumps(record, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        if len(line) > LONGEST_STEP:
            raise InputError(f"one act of {len(line)} bytes is too long: accept shorter stretches")
        if self._end == 0:
            header = {"kind": KIND, "schema_version": SCHEMA_VERSION, "run": self._run}
            line = json.dumps(header).encode() + b"\n" + line
        try:
            self._write(line)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise self._unwritable(error) from error
        self._end += len(line)
        self.corrections = following
        return number

    def _write(self, line: bytes) -> None:
        os.lseek(self._file, self._end, os.SEEK_SET)
        view = memoryview(line)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)

    def _unwritable(self, error: OSError) -> RunFolderError:
        return RunFolderError(f"{self.path}: answers cannot be stored: {error.strerror or error}")

    def _close(self) -> None:
        os.close(self._file)
        self._file = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._end:  # nothing was said: without the file it is the old run
            with suppress(OSError):
                self.path.unlink()
        self._close()


def _sync_folder(folder: Path) -> None:
    """The name of a new file is on the disk, too; where folders cannot be synced (Windows) nothing is done."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
