"""`ResultLog`: append-only file of tracking results, so that memory does not grow with the video.

Prompt batches reach a frame at different times; archives want each frame once. Results are appended as they come and
read back by frame at the end. Only `(frame → places in the file)` stays in memory. Nothing written is ever rewritten.

The file is a row of records, each framed by its length and a checksum (as in write-ahead logs, e.g. LevelDB's), so that
whoever reads it after a kill can tell where the last whole one ends.

`ResultJournal` is such a file with a name, so that a run that was cut off goes on. Its first record says what run it
belongs to. When a prompt batch is finished, a *commit* record follows its results; it holds what else is needed to go
on, as JSON. The order is what makes a kill harmless: a commit vouches for everything before it, and whatever comes
after the last whole commit belongs to a batch that was cut off, and is cut off too when the file is opened.

A killed process loses nothing that was committed. When the machine itself goes down, the commits of the last
`SYNC_SECONDS` may be lost, never more: asking the disk after every batch would cost more than tracking some of them.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, cast

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from trackweave.errors import ArtifactError, RunFolderError, shortened_line
from trackweave.masks.codecs import check_pixels
from trackweave.masks.packed import PackedMasks, packed_length
from trackweave.storage.files import check_version, lock_file, parse_json
from trackweave.storage.mask_archive import OBJECT_DTYPE
from trackweave.storage.npz import COMPRESSION_LEVEL
from trackweave.structures.run_summary import JsonRecord

RecordKind = Literal[b"H", b"R", b"C"]
"""Header, results, commit."""

_HEAD = struct.Struct("<cIqQ")  # kind, rows, frame, bytes that follow
_CRC = struct.Struct("<I")  # CRC-32 of the head and of what follows
DAMAGED: tuple[type[Exception], ...] = (cast("type[Exception]", isal_zlib.error), ValueError)
"""What comes of inflating something else than was compressed."""
MOST_INFLATED = 1032
"""Bytes that one byte of deflate data stands for at most."""
_NO_ROWS: NDArray[Any] = np.zeros(0, OBJECT_DTYPE)


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of the file.

    Attributes:
        kind: what it is.
        rows: of results, how many.
        frame: of results, their frame.
        offset: where its body begins.
        body: of results, rows (OBJECT_DTYPE) and compressed masks; else JSON.
    """

    kind: bytes
    rows: int
    frame: int
    offset: int
    body: bytes

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + len(self.body)


def read_records(file: BinaryIO) -> Iterator[LogRecord]:
    """The records of a file up to its end, or up to the first that is torn or damaged."""
    size = file.seek(0, 2)
    offset = file.seek(0)
    while True:
        head = file.read(_HEAD.size + _CRC.size)
        offset += len(head)
        if len(head) < _HEAD.size + _CRC.size:
            return
        kind, rows, frame, length = _HEAD.unpack_from(head)
        if kind not in (b"H", b"R", b"C") or length > size - offset:
            return
        body = file.read(length)
        if _checksum(head[: _HEAD.size], body) != _CRC.unpack_from(head, _HEAD.size)[0]:
            return
        yield LogRecord(kind, rows, frame, offset, body)
        offset = file.seek(offset + length)  # the consumer may have read elsewhere


def _checksum(*parts: Any) -> int:
    crc = 0
    for part in parts:
        crc = isal_zlib.crc32(part, crc)
    return crc


class ResultLog:
    """Rows and packed masks by frame, on disk until closed.

    Args:
        folder: where the nameless scratch file lies; None = the system's temporary folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - lives as long as the log
        except OSError as error:
            raise RunFolderError(f"{folder}: no scratch file can be made here: {error.strerror or error}") from error
        self._attach(file, folder or Path(tempfile.gettempdir()))

    def _attach(self, file: Any, where: Path) -> None:
        self._file = file
        self._where = where
        self._places: dict[int, array[int]] = {}  # frame → offset, rows, compressed length, …
        self._end = 0
        self.size: tuple[int, int] | None = None
        self.id_offset = 0
        """Is added to every id that is read: levels that are tracked together get their run's ids afterwards."""

    @property
    def frames(self) -> list[int]:
        """Frames with results, ascending."""
        return sorted(self._places)

    def count(self, frame: int) -> int:
        """Rows on one frame."""
        return sum(self._places.get(frame, array("q"))[1::3])

    def append(self, frame: int, rows: NDArray[Any], masks: PackedMasks) -> None:
        """Adds rows (OBJECT_DTYPE) and their masks to a frame.

        Raises:
            ValueError: not one mask per row, or masks of another size than before.
            RunFolderError: the disk is full.
        """
        if len(rows) != len(masks):
            raise ValueError(f"{len(rows)} rows and {len(masks)} masks")
        if self.size is not None and masks.size != self.size:
            raise ValueError(f"frame {frame}: masks of {masks.size} after masks of {self.size}")
        if not len(rows):
            return
        self.size = masks.size
        payload = isal_zlib.compress(masks.bits.data, COMPRESSION_LEVEL)
        offset = self._write(b"R", rows.tobytes(), payload, rows=len(rows), frame=frame)
        self._place(frame, offset, len(rows), len(payload))

    def _place(self, frame: int, offset: int, rows: int, length: int) -> None:
        self._places.setdefault(frame, array("q")).extend((offset, rows, length))

    def _write(self, kind: RecordKind, *parts: bytes, rows: int = 0, frame: int = 0) -> int:
        """Appends a record; returns where its body begins."""
        head = _HEAD.pack(kind, rows, frame, sum(map(len, parts)))
        record = b"".join([head, _CRC.pack(_checksum(head, *parts)), *parts])
        try:
            self._file.seek(self._end)
            rest = memoryview(record)
            while rest:  # nothing is buffered: a full disk is reported here, not at some later read
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise RunFolderError(f"{self._where}: results cannot be stored: {error.strerror or error}") from error
        offset = self._end + len(head) + _CRC.size
        self._end += len(record)
        return offset

    def read_rows(self, frame: int) -> NDArray[Any]:
        """All rows of a frame in the order in which they came, without their masks."""
        rows = np.concatenate([_NO_ROWS, *(rows for rows, _ in self._chunks(frame, with_masks=False))])
        rows["id"] += self.id_offset
        return rows

    def read(self, frame: int) -> tuple[NDArray[Any], PackedMasks]:
        """All rows of a frame in the order in which they came, with their masks."""
        height, width = self.size or (1, 1)
        length = packed_length(height, width)
        places = self._places.get(frame, array("q"))
        if self.count(frame) * length > MOST_INFLATED * (sum(places[2::3]) + 64):
            raise ArtifactError(f"{self._where}: masks of frame {frame} are damaged: too few bytes for their size")
        rows = np.empty(self.count(frame), OBJECT_DTYPE)
        bits = np.empty((len(rows), length), np.uint8)
        filled = 0
        for chunk_rows, payload in self._chunks(frame, with_masks=True):
            following = filled + len(chunk_rows)
            rows[filled:following] = chunk_rows
            bits[filled:following] = self._unpacked(frame, payload, len(chunk_rows), length)
            filled = following
        rows["id"] += self.id_offset
        return rows, PackedMasks(bits, height, width)

    def _unpacked(self, frame: int, payload: memoryview, count: int, length: int) -> NDArray[np.uint8]:
        """Inflates masks.

        Raises:
            ArtifactError: they are not what was written, although their checksum is right.
        """
        try:
            unpacked = isal_zlib.decompress(payload, bufsize=max(count * length, 1))
            return np.frombuffer(unpacked, np.uint8).reshape(count, length)
        except DAMAGED as error:
            raise ArtifactError(
                f"{self._where}: masks of frame {frame} are damaged ({shortened_line(str(error))})"
            ) from None

    def _chunks(self, frame: int, *, with_masks: bool) -> Iterator[tuple[NDArray[Any], memoryview]]:
        places = self._places.get(frame, array("q"))
        for k in range(0, len(places), 3):
            offset, count, length = places[k : k + 3]
            head = count * OBJECT_DTYPE.itemsize
            wanted = head + length * with_masks
            self._file.seek(offset)
            chunk = self._file.read(wanted)
            if len(chunk) != wanted:
                raise ArtifactError(f"scratch file is shorter than what was written for frame {frame}")
            yield np.frombuffer(chunk, OBJECT_DTYPE, count), memoryview(chunk)[head:]

    def close(self) -> None:
        """Closes the file; a nameless one is gone then."""
        with suppress(OSError):  # a disk that is full or gone; `append` has said so already
            self._file.close()
        self._places.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


SCHEMA_VERSION = 1
SYNC_SECONDS = 5.0


class ResultJournal(ResultLog):
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
        self._attach(file, path)
        self.path = path
        self.committed: list[JsonRecord] = []
        self._safe_end = 0  # behind the last commit
        self._synced = time.monotonic()
        try:
            self._lock()
            if not (resume and self._load(key)):
                self._start(key)
            self._key = key
            self._file.truncate(self._end)
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        """Holds the file until it is closed; on systems without locks nothing is held."""
        try:
            lock_file(self._file.fileno())
        except BlockingIOError:
            raise RunFolderError(f"{self.path}: another process is working on this run: wait for it") from None

    def _load(self, key: str, most: int | None = None) -> bool:
        """Takes over what was committed, at most so many batches; False when the file is of another run, or of none.

        Raises:
            ArtifactError: its records are whole and hold something else than was written.
        """
        try:
            return self._take_over(key, most)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            reason = shortened_line(f"{type(error).__name__}: {error}")
            raise ArtifactError(
                f"{self.path}: damaged ({reason}): remove it, and what it holds is done again"
            ) from None

    def _take_over(self, key: str, most: int | None) -> bool:
        records = read_records(self._file)
        header = next(records, None)
        if header is None or header.kind != b"H":
            return False
        content = parse_json(header.body)
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
                if masks < 0:
                    raise ValueError(f"{record.rows} rows in {len(record.body)} bytes")
                pending.append((record.frame, record.offset, record.rows, masks))
            elif record.kind == b"C":
                self._accept(parse_json(record.body), pending)
                pending.clear()
                self._end = record.end
        self._safe_end = self._end
        return True

    def truncate(self, count: int) -> None:
        """Forgets all but the first `count` of the batches that earlier processes committed, before any is added.

        Raises:
            RunFolderError: the file cannot be cut.
        """
        self._places.clear()
        self.committed, self.size = [], None
        self._load(self._key, count)
        try:
            self._file.truncate(self._end)
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def _accept(self, commit: JsonRecord, pending: Sequence[tuple[int, int, int, int]]) -> None:
        for place in pending:
            self._place(*place)
        size = commit["mask_size"]
        if size is not None:
            height, width = int(size[0]), int(size[1])
            check_pixels(height, width)
            if min(height, width) < 1 or self.size not in (None, (height, width)):
                raise ValueError(f"masks of {height}×{width} pixels")
            self.size = height, width
        self.committed.append(commit["cohort"])

    def _start(self, key: str) -> None:
        """Begins the file."""
        self._end = 0
        self._write(b"H", json.dumps({"schema_version": SCHEMA_VERSION, "key": key}).encode())
        self._safe_end = self._end

    def commit(self, batch: Mapping[str, object]) -> None:
        """Marks everything appended so far as finished.

        Args:
            batch: what else is needed to go on, as JSON values.

        Raises:
            RunFolderError: the disk is full.
        """
        content = {"mask_size": self.size, "cohort": batch}
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
        """Closes the file, which stays; what was not committed is cut off."""
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
