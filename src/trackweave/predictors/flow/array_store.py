"""`ArrayStore`: what is computed once per frame, kept in bounded memory and, beyond it, in temporary files."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = tuple[NDArray[Any], ...]


class ArrayStore:
    """Least recently used first: tuples of arrays move from memory to disk, and from there into oblivion.

    Owns a temporary folder, made when the first file is needed and removed by `close`. Not safe for threads by
    itself; its owner holds a lock.
    """

    def __init__(self, memory_bytes: int, disk_bytes: int) -> None:
        self._memory_limit, self._disk_limit = memory_bytes, disk_bytes
        self._memory: OrderedDict[Hashable, Arrays] = OrderedDict()
        self._files: OrderedDict[Hashable, tuple[Path, int]] = OrderedDict()
        self._folder: Path | None = None
        self._cleaner: weakref.finalize[..., ArrayStore] | None = None
        self._written = 0
        self.memory_used = 0
        self.disk_used = 0

    def get(self, key: Hashable) -> Arrays | None:
        """What was put under `key`, if it is still there."""
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        if key not in self._files:
            return None
        self._files.move_to_end(key)
        with np.load(self._files[key][0], allow_pickle=False) as file:
            arrays = tuple(file[name] for name in file.files)
        self._remember(key, arrays)
        return arrays

    def put(self, key: Hashable, arrays: Arrays) -> None:
        """Keeps arrays; they are not to be written to afterwards."""
        self._remember(key, arrays)

    def close(self) -> None:
        """Forgets everything, removes the temporary folder, and keeps nothing from now on."""
        self._memory.clear()
        self._files.clear()
        self.memory_used = self.disk_used = 0
        self._memory_limit = self._disk_limit = 0  # a prefetch may still be on its way
        if self._cleaner is not None:
            self._cleaner()
        self._folder = None

    def _remember(self, key: Hashable, arrays: Arrays) -> None:
        self._memory[key] = arrays
        self._memory.move_to_end(key)
        self.memory_used += _size(arrays)
        while self.memory_used > self._memory_limit and self._memory:
            old, evicted = self._memory.popitem(last=False)
            self.memory_used -= _size(evicted)
            if old not in self._files:
                self._write(old, evicted)

    def _write(self, key: Hashable, arrays: Arrays) -> None:
        size = _size(arrays)
        if size > self._disk_limit:
            return
        while self.disk_used + size > self._disk_limit:
            _, (path, freed) = self._files.popitem(last=False)
            path.unlink(missing_ok=True)
            self.disk_used -= freed
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="trackweave-flow-"))
            # A session that nobody closes must not leave gigabytes behind.
            self._cleaner = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{self._written:07d}.npz"
        self._written += 1
        with path.open("wb") as file:
            np.savez(file, *arrays)
        self._files[key] = (path, size)
        self.disk_used += size


def _size(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays)
