"""`CohortJournal`: a level's results with a name on disk, cohort by cohort, so that a run that was cut off goes on.

The file is a `ResultSpool` whose first record says what run it belongs to. When a cohort (the objects of one candidate
frame) is finished, a *commit* record follows its results; it holds what else is needed to go on, as JSON. Whatever
comes after the last whole commit belongs to a cohort that was cut off, and is cut off too when the file is opened.

A killed process loses nothing that was committed. When the machine itself goes down, the commits of the last
`SYNC_SECONDS` may be lost, never more: asking the disk after every cohort would cost more than tracking some of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from trackweave.errors import RunFolderError
from trackweave.storage.files import check_version
from trackweave.storage.segments import OBJECT_DTYPE
from trackweave.storage.spool import ResultSpool, read_records

SCHEMA_VERSION = 1
SYNC_SECONDS = 5.0


class CohortJournal(ResultSpool):
    """Rows and packed masks by frame in a named file that outlives the process.

    Args:
        path: the file; made when it is not there.
        key: what run it belongs to; a file of another run is started anew.
        resume: False starts anew in any case.

    Attributes:
        committed: what `commit` was given by earlier processes, in order; whoever goes on takes it from here.

    Raises:
        RunFolderError: the file cannot be written, or another process writes it.
        ArtifactVersionError: of a newer schema.
    """

    def __init__(self, path: Path, key: str, *, resume: bool = True) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written: {error.strerror or error}") from error
        self._take(file, path)
        self.path = path
        self.committed: list[Mapping[str, Any]] = []
        self._safe_end = 0  # behind the last commit
        self._synced = time.monotonic()
        try:
            self._lock()
            if not (resume and self._recall(key)):
                self._start(key)
            self._key = key
            self._file.truncate(self._end)
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        """Holds the file until it is closed; on systems without locks nothing is held."""
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(f"{self.path}: another process is working on this run: wait for it") from None
        except OSError:
            return  # a file system without locks

    def _recall(self, key: str, most: int | None = None) -> bool:
        """Takes over what was committed, at most so many cohorts; False when the file is of another run, or of none."""
        records = read_records(self._file)
        header = next(records, None)
        if header is None or header.kind != b"H":
            return False
        content = json.loads(header.body)
        check_version(content.get("schema_version"), SCHEMA_VERSION, self.path)
        if content.get("key") != key:
            return False
        self._end = header.end
        pending: list[tuple[int, int, int, int]] = []
        for record in records:
            if len(self.committed) == most:
                break
            if record.kind == b"R":
                masks = len(record.body) - record.rows * OBJECT_DTYPE.itemsize
                pending.append((record.frame, record.offset, record.rows, masks))
            elif record.kind == b"C":
                self._accept(json.loads(record.body), pending)
                pending.clear()
                self._end = record.end
        self._safe_end = self._end
        return True

    def rewind(self, count: int) -> None:
        """Forgets all but the first `count` of the cohorts that earlier processes committed, before any is added.

        Raises:
            RunFolderError: the file cannot be cut.
        """
        self._places.clear()
        self.committed, self.size = [], None
        self._recall(self._key, count)
        try:
            self._file.truncate(self._end)
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def _accept(self, commit: Mapping[str, Any], pending: Sequence[tuple[int, int, int, int]]) -> None:
        for place in pending:
            self._place(*place)
        size = commit["mask_size"]
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.committed.append(commit["cohort"])

    def _start(self, key: str) -> None:
        """Begins the file."""
        self._end = 0
        self._write(b"H", json.dumps({"schema_version": SCHEMA_VERSION, "key": key}).encode())
        self._safe_end = self._end

    def commit(self, cohort: Mapping[str, Any]) -> None:
        """Marks everything appended so far as finished.

        Args:
            cohort: what else is needed to go on, as JSON values.

        Raises:
            RunFolderError: the disk is full.
        """
        content = {"mask_size": self.size, "cohort": cohort}
        self._write(b"C", json.dumps(content, ensure_ascii=True, allow_nan=False).encode())
        self._safe_end = self._end
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RunFolderError(f"{self.path}: results cannot be stored: {error.strerror or error}") from error
        self._synced = time.monotonic()

    def close(self) -> None:
        """Closes the file, which stays; what was not committed is cut off and its room on the disk given back."""
        if not self._file.closed:
            with suppress(OSError, RunFolderError):  # whoever opens the file next cuts it off as well
                self._file.truncate(self._safe_end)
                self._sync()
        super().close()

    def remove(self) -> None:
        """Closes and removes the file: the results have found their place elsewhere."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        super().close()
