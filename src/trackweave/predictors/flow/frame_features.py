"""`FrameAnalysis`: everything that is computed per frame or frame pair, once, for all objects and both directions.

`ArrayStore`: what is computed once per frame, kept in bounded memory and, beyond it, in temporary files.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.frames.source import FrameSource
from trackweave.predictors.flow.appearance import Features, colour_planes, features_of
from trackweave.predictors.flow.motion import Motion, camera_homography, dense_flow, motion_between
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.windows import WorkingSize

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


_VIEWS = 2
"""Steps whose unpacked form stays at hand: the one in progress and the one prepared meanwhile."""


class FrameAnalysis:
    """Reads frames lazily and keeps, in bounded space, the planes of frames and the flows of neighbouring pairs.

    Flows are kept as half precision, planes as bytes; what objects work with (`Features`, `Motion`) is unpacked from
    them per step. `pairs_computed` counts the flow pairs that were really computed.
    """

    def __init__(self, frames: FrameSource, settings: FlowSettings) -> None:
        self.working = WorkingSize.of(frames.size, settings.working_side)
        self.pairs_computed = 0
        self._frames, self._settings = frames, settings
        self._store = ArrayStore(settings.memory_bytes, settings.disk_bytes)
        self._features: dict[int, Features] = {}
        self._motions: dict[tuple[int, int], Motion] = {}
        self._lock = threading.RLock()

    def close(self) -> None:
        """Releases memory and temporary files."""
        with self._lock:
            self._features.clear()
            self._motions.clear()
            self._store.close()

    def features(self, frame: int) -> Features:
        """Appearance codes and edges of a frame."""
        with self._lock:
            if frame not in self._features:
                _make_room(self._features)
                planes = self._planes(frame)[0]
                self._features[frame] = features_of(planes, self._settings.edge_contrast)
            return self._features[frame]

    def motion(self, here: int, there: int) -> Motion:
        """The step between two neighbouring frames, in either direction."""
        with self._lock:
            if (here, there) not in self._motions:
                _make_room(self._motions)
                first = min(here, there)
                forward, backward, planes = self._pair(first)
                flows = [forward.astype(np.float32), backward.astype(np.float32)]
                if here != first:
                    flows, planes = flows[::-1], planes[::-1]
                self._motions[here, there] = motion_between(flows[0], flows[1], planes[0], planes[1])
            return self._motions[here, there]

    def small_frame(self, frame: int) -> NDArray[np.uint8]:
        """The frame at working size, `(h, w, 3)` uint8 RGB."""
        return self.working.shrink_frame(self._frames[frame])

    def _planes(self, frame: int) -> Arrays:
        kept = self._store.get(("planes", frame))
        if kept is None:
            small = self.small_frame(frame)
            kept = (colour_planes(small), cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
            self._store.put(("planes", frame), kept)
        return kept

    def _pair(self, first: int) -> Arrays:
        kept = self._store.get(("pair", first))
        if kept is None:
            one, two = self._planes(first)[1], self._planes(first + 1)[1]
            forward, backward = dense_flow(one, two), dense_flow(two, one)
            homographies = np.stack([camera_homography(forward), camera_homography(backward)])
            kept = (forward.astype(np.float16), backward.astype(np.float16), homographies)
            self._store.put(("pair", first), kept)
            self.pairs_computed += 1
        return kept


def _make_room(views: dict) -> None:  # type: ignore[type-arg]
    while len(views) >= _VIEWS:
        del views[next(iter(views))]
