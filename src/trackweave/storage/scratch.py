"""`ScratchFile`: what need not be computed again while it is on disk; bounded, and gone with the process."""

from __future__ import annotations

import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

Content = bytes | bytearray | memoryview


class ScratchFile:
    """Bytes by key in one temporary file without a name; the least recently used give way.

    The file is made when it is first needed and disappears when the process ends, however it ends. A full disk is no
    error: what cannot be written is not kept. Not safe for threads by itself.

    Args:
        limit: most bytes on disk.
        folder: where; None = the system's temporary folder.

    Attributes:
        used: bytes of what is kept.
        problem: why less is kept than the limit allows; None = it is not.
    """

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self.used = 0
        self.problem: str | None = None
        self._limit, self._folder = limit, folder
        self._file: Any = None
        self._places: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()  # offset, size
        self._gaps: list[tuple[int, int]] = []  # ascending, never side by side
        self._end = 0

    @property
    def kept(self) -> list[Hashable]:
        """Keys, the least recently used first."""
        return list(self._places)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._places

    def put(self, key: Hashable, parts: Sequence[Content]) -> bool:
        """Keeps bytes under a new key; others give way. False: they are not kept."""
        size = sum(len(part) for part in parts)
        while size <= self._limit:
            offset = self._space(size)
            if offset is None:
                self.drop(next(iter(self._places)))
                continue
            try:
                self._write(offset, parts)
            except OSError as error:
                self._give_up(offset, error)
                continue
            self._take(offset, size)
            self._places[key] = offset, size
            self.used += size
            return True
        return False

    def get(self, key: Hashable) -> bytearray | None:
        """The bytes under a key, which count as used now; None when they are not there any more."""
        if key not in self._places:
            return None
        self._places.move_to_end(key)
        offset, size = self._places[key]
        content = bytearray(size)
        try:
            self._file.seek(offset)
            if self._file.readinto(content) == size:
                return content
        except OSError as error:
            self.problem = error.strerror or str(error)
        self.drop(key)
        return None

    def drop(self, key: Hashable) -> None:
        """Forgets a key; its place is free."""
        offset, size = self._places.pop(key)
        self.used -= size
        gaps = sorted([*self._gaps, (offset, size)])
        self._gaps = gaps[:1]
        for start, length in gaps[1:]:
            before, width = self._gaps[-1]
            if before + width == start:
                self._gaps[-1] = before, width + length
            else:
                self._gaps.append((start, length))
        if self._gaps and sum(self._gaps[-1]) == self._end:
            self._end = self._gaps.pop()[0]

    def close(self) -> None:
        """Forgets everything, and keeps nothing from now on."""
        self._places.clear()
        self._gaps.clear()
        self.used = self._end = self._limit = 0
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def _space(self, size: int) -> int | None:
        """Where so many bytes may lie; None: something has to give way."""
        for offset, width in self._gaps:
            if width >= size:
                return offset
        return self._end if self._end + size <= self._limit else None

    def _take(self, offset: int, size: int) -> None:
        """Marks a place as used."""
        if offset == self._end:
            self._end += size
            return
        at = next(k for k, gap in enumerate(self._gaps) if gap[0] == offset)
        width = self._gaps.pop(at)[1]
        if width > size:
            self._gaps.insert(at, (offset + size, width - size))

    def _write(self, offset: int, parts: Sequence[Content]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 - until `close`
            weakref.finalize(self, self._file.close)  # one that nobody closes must not hold gigabytes
        self._file.seek(offset)
        for part in parts:
            rest = memoryview(part).cast("B")
            while rest:
                rest = rest[self._file.write(rest) :]

    def _give_up(self, offset: int, error: OSError) -> None:
        """The disk takes no more: the file stays as long as it is, or where even that fails, nothing is added."""
        self.problem = error.strerror or str(error)
        self._limit = self._end if offset == self._end and self._file is not None else 0
        if self._file is not None:
            with suppress(OSError):
                self._file.truncate(self._end)
