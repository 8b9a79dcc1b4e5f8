"""`TrackSpool`: text that comes frame by frame and leaves object by object, on the disk in between."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np


class TrackSpool:
    """Pieces of text by object, in the order in which they came; memory holds 24 bytes for each.

    For formats that list an object with all its frames: what is written frame by frame goes to a nameless temporary
    file beside the output. Use it in a `with` block.

    Args:
        folder: where the file lies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._track, self._start, self._length = array("q"), array("q"), array("q")
        self._end = 0

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, track_id: int, text: str) -> None:
        """Keeps a piece of an object's text."""
        content = text.encode("utf-8")
        self._file.write(content)
        self._track.append(track_id)
        self._start.append(self._end)
        self._length.append(len(content))
        self._end += len(content)

    def tracks(self) -> Iterator[tuple[int, Iterator[str]]]:
        """Each object's pieces, ids ascending; take all of one before the next."""
        tracks = np.array(self._track, np.int64)
        order = np.argsort(tracks, kind="stable")
        bounds = [0, *(np.flatnonzero(np.diff(tracks[order])) + 1).tolist(), len(order)]
        for first, last in pairwise(bounds):
            if last > first:
                yield int(tracks[order[first]]), self._pieces(order[first:last].tolist())

    def _pieces(self, rows: list[int]) -> Iterator[str]:
        for row in rows:
            self._file.seek(self._start[row])
            yield self._file.read(self._length[row]).decode("utf-8")
