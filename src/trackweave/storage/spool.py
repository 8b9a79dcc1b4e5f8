"""`ResultSpool`: append-only scratch file of tracking results, so that memory does not grow with the video.

Cohorts reach a frame at different times; archives want each frame once. Results are appended as they come and read
back by frame at the end. Only `(frame → places in the file)` stays in memory. Nothing written is ever rewritten.

The file is a row of records, each framed by its length and a checksum (as in write-ahead logs, e.g. LevelDB's), so that
whoever reads it after a kill can tell where the last whole one ends. `storage.journal` gives the file a name.
"""

from __future__ import annotations

import struct
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from trackweave.errors import ArtifactError, RunFolderError
from trackweave.masks.packed import PackedMasks, packed_length
from trackweave.storage.npz import COMPRESSION_LEVEL
from trackweave.storage.segments import OBJECT_DTYPE

RecordKind = Literal[b"H", b"R", b"C"]
"""Header, results, commit."""

_HEAD = struct.Struct("<cIqQ")  # kind, rows, frame, bytes that follow
_CRC = struct.Struct("<I")  # CRC-32 of the head and of what follows
_NO_ROWS: NDArray[Any] = np.zeros(0, OBJECT_DTYPE)


@dataclass(frozen=True, slots=True)
class SpoolRecord:
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


def read_records(file: BinaryIO) -> Iterator[SpoolRecord]:
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
        yield SpoolRecord(kind, rows, frame, offset, body)
        offset = file.seek(offset + length)  # the consumer may have read elsewhere


def _checksum(*parts: Any) -> int:
    crc = 0
    for part in parts:
        crc = isal_zlib.crc32(part, crc)
    return crc


class ResultSpool:
    """Rows and packed masks by frame, on disk until closed.

    Args:
        folder: where the nameless scratch file lies; None = the system's temporary folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - lives as long as the spool
        except OSError as error:
            raise RunFolderError(f"{folder}: no scratch file can be made here: {error.strerror or error}") from error
        self._take(file, folder or Path(tempfile.gettempdir()))

    def _take(self, file: Any, where: Path) -> None:
        self._file = file
        self._where = where
        self._places: dict[int, array[int]] = {}  # frame → offset, rows, compressed length, …
        self._end = 0
        self.size: tuple[int, int] | None = None
        self.id_offset = 0
        """Is added to every id that is read: levels that were tracked side by side are numbered afterwards."""

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
        rows = np.empty(self.count(frame), OBJECT_DTYPE)
        bits = np.empty((len(rows), length), np.uint8)
        filled = 0
        for chunk_rows, payload in self._chunks(frame, with_masks=True):
            following = filled + len(chunk_rows)
            rows[filled:following] = chunk_rows
            unpacked = isal_zlib.decompress(payload, bufsize=len(chunk_rows) * length)
            bits[filled:following] = np.frombuffer(unpacked, np.uint8).reshape(-1, length)
            filled = following
        rows["id"] += self.id_offset
        return rows, PackedMasks(bits, height, width)

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
