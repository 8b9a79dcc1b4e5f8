"""`SampleFolder`: the writer of a folder of samples, which several processes may share, and `manifest.jsonl` in it.

The manifest holds one JSON object per line, in the order of writing. What keeps the folder consistent:

- A sample is written to a temporary file and then *linked* to its name. A link never replaces a file, so a number
  belongs to whoever links it first, and a sample is there completely or not at all.
- Its manifest line follows in one appending write; only then the temporary name is removed. A sample with a second
  name is therefore one whose writer has yet to list it, and a sample with one name that is not listed is an orphan of a
  crash: the next start lists it.
- Every writer holds a lock on a file of its own as long as it lives. The system drops the lock when the process dies,
  so the temporary file of a dead writer is known from what a live one is about to link, without guessing by age or
  process number.

Nothing is flushed to the disk sample by sample: what was written survives the death of the process (it is in the
system's hands), but a power cut may cost the last seconds, and leave samples that are cut off. Readers name those. A
training set can be logged again, and a flush would cost a hundred times the write.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackweave.errors import ArtifactError
from trackweave.storage.files import is_abandoned, lock_file, parse_json
from trackweave.storage.samples import AssociationSample, encode_sample, read_sample, sample_name, sample_number
from trackweave.structures.run_log import RunWarning

MANIFEST_NAME = "manifest.jsonl"


@dataclass(frozen=True)
class ManifestEntry:
    """One line; all but the file name may be missing in manifests of other trackers.

    Attributes:
        npz: file name of the sample, in the manifest's folder.
        frame_idx: its frame.
        sequence: its video.
        run: the logger that wrote it.
        tracks: T.
        detections: D.
        matches: detections that went to a track which was there before the frame.
        label_source: who decided `assigned_track_ids`.
        est_id_switches: suspected identity switches of the run up to and including this frame; None: not measured.
        est_id_switches_frame: those of them that were suspected on this frame; None likewise.
    """

    npz: str
    frame_idx: int | None = None
    sequence: str | None = None
    run: str | None = None
    tracks: int | None = None
    detections: int | None = None
    matches: int | None = None
    label_source: str | None = None
    est_id_switches: int | None = None
    est_id_switches_frame: int | None = None

    @classmethod
    def of(cls, name: str, sample: AssociationSample) -> ManifestEntry:
        """The line of a sample."""
        return cls(
            name,
            sample.frame_idx,
            sample.metadata.sequence,
            sample.metadata.run,
            len(sample.track_ids),
            sample.detection_count,
            int(sample.matched.sum()),
            sample.metadata.label_source,
            sample.metadata.diagnostics.est_id_switches,
            sample.metadata.diagnostics.est_id_switches_frame,
        )

    def line(self) -> bytes:
        """The line as it is written, its end included."""
        return json.dumps(self.__dict__).encode("ascii") + b"\n"


@dataclass(frozen=True)
class SampleManifest:
    """What a manifest lists.

    Attributes:
        entries: by file name; of a sample that is listed twice, the last line.
        damaged: numbers of lines that are not entries, from 1; an unfinished last line is not among them.
        unfinished: the last line has no end: its writer was stopped, the line does not count.
        finished_bytes: length of the file without an unfinished last line.
    """

    entries: dict[str, ManifestEntry]
    damaged: tuple[int, ...]
    unfinished: bool
    finished_bytes: int


def read_sample_manifest(path: Path) -> SampleManifest:
    """Reads a manifest; one that does not exist lists nothing.

    Raises:
        ArtifactError: the file cannot be read.
    """
    entries: dict[str, ManifestEntry] = {}
    damaged: list[int] = []
    finished = 0
    unfinished = False
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                unfinished = not line.endswith(b"\n")
                if unfinished:
                    break
                finished += len(line)
                entry = _parse(line)
                if entry is not None:
                    entries[entry.npz] = entry
                elif line.strip():
                    damaged.append(number)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ArtifactError(f"{path}: the manifest cannot be read: {error.strerror or error}") from error
    return SampleManifest(entries, tuple(damaged), unfinished, finished)


def _parse(line: bytes) -> ManifestEntry | None:
    try:
        record = parse_json(line)
    except ValueError:
        return None
    name = record.get("npz") if isinstance(record, dict) else None
    if not isinstance(name, str) or not name or "/" in name or "\\" in name:
        return None

    def typed(key: str, kind: type) -> Any:
        value = record.get(key)
        return value if isinstance(value, kind) and not isinstance(value, bool) else None

    return ManifestEntry(
        name,
        typed("frame_idx", int),
        typed("sequence", str),
        typed("run", str),
        typed("tracks", int),
        typed("detections", int),
        typed("matches", int),
        typed("label_source", str),
        typed("est_id_switches", int),
        typed("est_id_switches_frame", int),
    )


START_LOCK = ".start.lock"
_LOCK, _PARTIAL = ".lock", ".partial"
_WRITER = ".logger-"
_RUN_NAME = re.compile(r"\d+-[0-9a-f]{8}")
"""Of a writer: its process and a random number."""
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_MAX_NAMES = 10
_WRITE = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)


class SampleFolder:
    """Appends samples to a folder, behind those that are there.

    Attributes:
        directory: the folder, absolute.
        run: the name of this writer, unique.
        stored: samples written so far.
        warnings: what was found on opening: adopted, unreadable and foreign files, a manifest that needed repair.

    Raises:
        ArtifactError: the folder cannot be made, read or written.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).absolute()
        self.run = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.stored = 0
        self.warnings: list[RunWarning] = []
        self._partial = self.directory / f"{_WRITER}{self.run}{_PARTIAL}"
        self._writer_lock = self.directory / f"{_WRITER}{self.run}{_LOCK}"
        self._prefix = str(self.directory) + os.sep
        self._manifest = -1
        self._lock = -1
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with _starting(self.directory):
                self._lock = os.open(self._writer_lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                _try_lock(self._lock)
                self._open()
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL character
            self.close()
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise ArtifactError(f"{self.directory}: cannot be logged to: {reason}") from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Reads the folder's state and repairs the manifest; no other writer starts meanwhile, but others may write."""
        alone = _remove_dead(self.directory, self.run)
        # The folder is read before the manifest: a sample that has lost its second name by now is in the manifest then.
        present, settled, foreign = _scan(self.directory, alone)
        path = self.directory / MANIFEST_NAME
        self._manifest = os.open(path, _WRITE | os.O_APPEND, 0o666)
        manifest = read_sample_manifest(path)
        if manifest.unfinished:
            if alone:
                os.ftruncate(self._manifest, manifest.finished_bytes)
            else:
                os.write(self._manifest, b"\n")  # others append after it: the line stays, and readers skip it
            self._warn("manifest-repaired", "its last line was unfinished", [])
        if manifest.damaged:
            self._warn("manifest-lines-skipped", "lines that are not entries", [str(n) for n in manifest.damaged])
        numbers = [number for name in (*present, *manifest.entries) if (number := sample_number(name)) is not None]
        self._next = max(numbers, default=-1) + 1
        self._adopt([name for name in settled if name not in manifest.entries])
        if foreign:
            self._warn("sample-foreign", "left alone, not named like samples", foreign)

    def _adopt(self, names: list[str]) -> None:
        """Lists the samples that a stopped writer could not."""
        adopted, unreadable = [], []
        for name in names:
            try:
                entry = ManifestEntry.of(name, read_sample(self.directory / name))
            except ArtifactError:
                unreadable.append(name)
                continue
            _write_all(self._manifest, entry.line())
            adopted.append(name)
        if adopted:
            self._warn("sample-adopted", "were not in the manifest, and are now", adopted)
        if unreadable:
            self._warn("sample-unreadable", "left alone, cannot be read", unreadable)

    def _warn(self, code: str, problem: str, names: list[str]) -> None:
        listed = ", ".join(names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
        message = f"{self.directory}: {len(names)} {problem}: {listed}" if names else f"{self.directory}: {problem}"
        self.warnings.append(RunWarning("log", None, code, message, {"count": len(names), "names": names}))

    def write(self, sample: AssociationSample) -> str:
        """Appends a sample and its manifest line; returns the sample's file name.

        Raises:
            ValueError: the sample breaks the schema.
            ArtifactError: the folder cannot be written: full, removed, read-only.
        """
        content = encode_sample(sample)
        try:
            name = self._store(content)
            self.stored += 1
            _write_all(self._manifest, ManifestEntry.of(name, sample).line())
            self._partial.unlink(missing_ok=True)  # it was renamed where there are no links
        except OSError as error:
            with suppress(OSError):
                self._partial.unlink()
            raise ArtifactError(f"{self.directory}: cannot be written: {error.strerror or error}") from error
        return name

    def _store(self, content: bytes) -> str:
        """Writes the temporary file and links it to the first free number."""
        # O_EXCL: an existing temporary file may be a sample's second name, and writing into it would change the sample.
        file = os.open(self._partial, _WRITE | os.O_EXCL, 0o666)
        try:
            _write_all(file, content)
        finally:
            os.close(file)
        while True:
            name = sample_name(self._next)
            self._next += 1
            try:
                _claim(self._partial, self._prefix + name)
            except FileExistsError:
                continue
            return name

    def close(self) -> None:
        """Releases the folder; the samples are complete already."""
        for name in ("_manifest", "_lock"):
            if getattr(self, name) >= 0:
                with suppress(OSError):
                    os.close(getattr(self, name))
                if name == "_lock":
                    with suppress(OSError):
                        self._writer_lock.unlink()
                setattr(self, name, -1)

    def __enter__(self) -> SampleFolder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def remove_samples(directory: Path) -> None:
    """Removes the samples of a folder and their manifest; what is only named like samples stays, and all else.

    Raises:
        ArtifactError: a logger writes there, or a file cannot be removed.
    """
    path = directory / MANIFEST_NAME
    if not path.is_file():
        return
    try:
        with _starting(directory):
            alone = _remove_dead(directory, "")
            if not alone:
                raise ArtifactError(
                    f"{directory}: samples are being logged here: wait for it, or choose another folder"
                )
            listed = read_sample_manifest(path).entries
            for name in _scan(directory, alone)[0]:
                if name in listed or _is_sample(directory / name):
                    (directory / name).unlink()
            path.unlink()
    except OSError as error:
        raise ArtifactError(f"{directory}: samples cannot be removed: {error.strerror or error}") from error


def _is_sample(path: Path) -> bool:
    try:
        read_sample(path)
    except ArtifactError:
        return False
    return True


def _claim(partial: Path, name: str) -> None:
    """Gives the file its final name; `FileExistsError` when it is taken."""
    try:
        os.link(partial, name)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without links (FAT, some network shares): the name is claimed empty, then filled at once.
        os.close(os.open(name, _WRITE | os.O_EXCL, 0o666))
        partial.replace(name)


def _write_all(file: int, content: bytes) -> None:
    """One write for all of it, unless the system takes only a part."""
    written = os.write(file, content)
    while written < len(content):
        written += os.write(file, content[written:])


def _scan(directory: Path, alone: bool) -> tuple[list[str], list[str], list[str]]:
    """Names of all samples, of those that no live writer has yet to list, and of files only named like samples."""
    present, settled, foreign = [], [], []
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.startswith("sample_"):
                continue
            if sample_number(entry.name) is None:
                foreign.append(entry.name)
                continue
            present.append(entry.name)
            if alone or entry.stat().st_nlink == 1:
                settled.append(entry.name)
    return sorted(present), sorted(settled), sorted(foreign)


@contextmanager
def _starting(directory: Path) -> Iterator[None]:
    """Keeps two writers from taking over one folder at the same time."""
    file = os.open(directory / START_LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _try_lock(file, wait=True)
        yield
    finally:
        os.close(file)


def _remove_dead(directory: Path, own: str) -> bool:
    """Removes temporary files of dead writers; returns whether no other writer is known to be alive."""
    alone = True
    for lock in sorted(directory.glob(f"{_WRITER}*{_LOCK}")):
        writer = lock.name.removeprefix(_WRITER).removesuffix(_LOCK)
        if writer == own or not _RUN_NAME.fullmatch(writer):
            continue
        if is_abandoned(lock):
            (directory / f"{_WRITER}{writer}{_PARTIAL}").unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
        else:
            alone = False
    for partial in directory.glob(f"{_WRITER}*{_PARTIAL}"):
        writer = partial.name.removeprefix(_WRITER).removesuffix(_PARTIAL)
        if _RUN_NAME.fullmatch(writer) and not partial.with_suffix(_LOCK).exists():
            partial.unlink(missing_ok=True)
    return alone


def _try_lock(file: int, wait: bool = False) -> bool:
    """Takes an exclusive lock that ends with the process; False when it is held, or there are no locks here.

    Without locks two starts at once may list an orphan twice, which readers take for one, and nothing is cleaned up.
    """
    try:
        return lock_file(file, wait=wait)
    except BlockingIOError:
        return False
