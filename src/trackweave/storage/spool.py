"""`ResultSpool`: append-only scratch file of tracking results, so that memory does not grow with the video.

Cohorts reach a frame at different times; archives want each frame once. Results are appended as they come and read
back by frame at the end. Only `(frame → places in the file)` stays in memory. Nothing written is ever rewritten.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from trackweave.errors import ArtifactError, RunFolderError
from trackweave.masks.packed import PackedMasks, packed_length
from trackweave.storage.npz import COMPRESSION_LEVEL
from trackweave.storage.segments import OBJECT_DTYPE

_NO_ROWS: NDArray[Any] = np.zeros(0, OBJECT_DTYPE)


class ResultSpool:
    """Rows and packed masks by frame, on disk until closed.

    Args:
        folder: where the nameless scratch file lies; None = the system's temporary folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the spool
        except OSError as error:
            raise RunFolderError(f"{folder}: no scratch file can be made here: {error.strerror or error}") from error
        self._where = folder or Path(tempfile.gettempdir())
        self._places: dict[int, array[int]] = {}  # frame → offset, rows, compressed length, …
        self._end = 0
        self.size: tuple[int, int] | None = None

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
        try:
            self._file.seek(self._end)
            self._file.write(rows.tobytes())
            self._file.write(payload)
            self._file.flush()  # a full disk is reported here, not at some later read
        except OSError as error:
            raise RunFolderError(f"{self._where}: results cannot be stored: {error.strerror or error}") from error
        self._places.setdefault(frame, array("q")).extend((self._end, len(rows), len(payload)))
        self._end += rows.nbytes + len(payload)

    def read_rows(self, frame: int) -> NDArray[Any]:
        """All rows of a frame in the order in which they came, without their masks."""
        return np.concatenate([_NO_ROWS, *(rows for rows, _ in self._chunks(frame, with_masks=False))])

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
        """Removes the scratch file."""
        with suppress(OSError):  # on a full disk what is still buffered fails again; `append` has said so already
            self._file.close()
        self._places.clear()

    def __enter__(self) -> ResultSpool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
