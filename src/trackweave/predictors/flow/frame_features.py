"""What is computed once per frame or pair of frames, for all objects and both directions.

`FrameFeatureCache` gives the features of a frame (`PixelFeatures`: bins of the appearance histograms, affinities of
neighbouring pixels) and the motion between neighbouring frames (`Motion`). It keeps compact forms of both in an
`ArrayStore`, bounded in memory and on disk.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import inner, njit
from trackweave.frames.source import FrameSource
from trackweave.predictors.flow.motion import Motion, camera_homography, dense_flow, motion_between
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.windows import WorkingSize
from trackweave.storage.scratch import ScratchFile

Arrays = tuple[NDArray[Any], ...]
Key = TypeVar("Key")
View = TypeVar("View")

_UNPACKED_VIEWS = 2
"""Frames and pairs whose unpacked form is kept: the step in progress and the one that is prepared meanwhile."""


class FrameFeatureCache:
    """Features of frames and motion of neighbouring pairs, computed when they are first asked for.

    Safe for threads. Flows are kept as float16 and colour planes as uint8, also for the first use: so results do not
    depend on whether something was still in the store.

    Attributes:
        working: video and working size.
        pairs_computed: optical flow pairs that were really computed.
    """

    def __init__(self, frames: FrameSource, settings: FlowSettings) -> None:
        self.working = WorkingSize.of(frames.size, settings.working_side)
        self.pairs_computed = 0
        self._frames, self._settings = frames, settings
        self._store = ArrayStore(settings.memory_bytes, settings.disk_bytes)
        self._features: dict[int, PixelFeatures] = {}
        self._motions: dict[tuple[int, int], Motion] = {}
        self._lock = threading.RLock()

    @property
    def problem(self) -> str | None:
        """Why less is kept on disk than the settings allow; None = it is not."""
        return self._store.problem

    def close(self) -> None:
        """Releases memory and temporary files."""
        with self._lock:
            self._features.clear()
            self._motions.clear()
            self._store.close()

    def release_before(self, frame: int) -> None:
        """Drops what is kept of frames below `frame`, and of pairs that begin there."""
        with self._lock:
            self._store.drop(lambda key: key[1] < frame)

    def features(self, frame: int) -> PixelFeatures:
        """Features of a frame, by its position among the session's frames."""
        with self._lock:
            if frame not in self._features:
                _evict_oldest(self._features)
                planes = self._planes(frame)[0]
                self._features[frame] = compute_features(planes, self._settings.edge_contrast)
            return self._features[frame]

    def motion(self, source: int, target: int) -> Motion:
        """The step from a frame to a neighbouring one, in either direction."""
        with self._lock:
            if (source, target) not in self._motions:
                _evict_oldest(self._motions)
                first = min(source, target)
                forward, backward, homographies = self._pair(first)
                there, back = forward.astype(np.float32), backward.astype(np.float32)
                if source != first:
                    there, back, homographies = back, there, homographies[::-1]
                colours = self._planes(source)[0], self._planes(target)[0]
                self._motions[source, target] = motion_between(there, back, homographies[0], homographies[1], colours)
            return self._motions[source, target]

    def working_frame(self, frame: int) -> NDArray[np.uint8]:
        """The frame at working size, `(h, w, 3)` uint8 RGB."""
        return self.working.shrink_frame(self._frames[frame])

    def _planes(self, frame: int) -> Arrays:
        """Colour planes and grey image of a frame."""
        arrays = self._store.get(("planes", frame))
        if arrays is None:
            rgb = self.working_frame(frame)
            arrays = (colour_planes(rgb), cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
            self._store.put(("planes", frame), arrays)
        return arrays

    def _pair(self, first: int) -> Arrays:
        """Flow from `first` to the next frame, flow back, and the camera's homographies `(2, 3, 3)` of both."""
        arrays = self._store.get(("pair", first))
        if arrays is None:
            grey, next_grey = self._planes(first)[1], self._planes(first + 1)[1]
            forward, backward = dense_flow(grey, next_grey), dense_flow(next_grey, grey)
            homographies = np.stack([camera_homography(forward), camera_homography(backward)])
            arrays = (forward.astype(np.float16), backward.astype(np.float16), homographies)
            self._store.put(("pair", first), arrays)
            self.pairs_computed += 1
        return arrays


def _evict_oldest(views: dict[Key, View]) -> None:
    while len(views) >= _UNPACKED_VIEWS:
        del views[next(iter(views))]


class ArrayStore:
    """Tuples of arrays by key: the least recently used move from memory to a temporary file, and then are dropped.

    Not safe for threads by itself; its owner holds a lock.

    Attributes:
        memory_used: bytes of arrays in memory.
    """

    def __init__(self, memory_bytes: int, disk_bytes: int) -> None:
        self._memory_limit = memory_bytes
        self._memory: OrderedDict[Hashable, Arrays] = OrderedDict()
        self._layouts: dict[Hashable, list[tuple[np.dtype[Any], tuple[int, ...]]]] = {}
        self._file = ScratchFile(disk_bytes)
        self.memory_used = 0

    @property
    def disk_used(self) -> int:
        """Bytes in the file."""
        return self._file.used

    @property
    def problem(self) -> str | None:
        """Why the disk takes less than it should; None = it does not."""
        return self._file.problem

    def get(self, key: Hashable) -> Arrays | None:
        """What was put under `key`, or None when it is not there any more."""
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        content = self._file.get(key)
        if content is None:
            return None
        arrays, offset = [], 0
        for dtype, shape in self._layouts[key]:
            count = math.prod(shape)
            arrays.append(np.frombuffer(content, dtype, count, offset).reshape(shape))
            offset += _padded(count * dtype.itemsize)
        self.put(key, tuple(arrays))
        return tuple(arrays)

    def put(self, key: Hashable, arrays: Arrays) -> None:
        """Keeps arrays; nobody may write to them afterwards, since they are not copied."""
        self._memory[key] = arrays
        self._memory.move_to_end(key)
        self.memory_used += _bytes_of(arrays)
        while self.memory_used > self._memory_limit and self._memory:
            evicted_key, evicted = self._memory.popitem(last=False)
            self.memory_used -= _bytes_of(evicted)
            if evicted_key not in self._file:
                self._write(evicted_key, evicted)

    def drop(self, is_due: Callable[[Any], bool]) -> None:
        """Drops what lies under the keys that are due."""
        for key in [key for key in self._memory if is_due(key)]:
            self.memory_used -= _bytes_of(self._memory.pop(key))
        for key in [key for key in self._layouts if is_due(key)]:
            del self._layouts[key]
            if key in self._file:
                self._file.drop(key)

    def close(self) -> None:
        """Drops everything, and keeps nothing from now on."""
        self._memory.clear()
        self._layouts.clear()
        self._file.close()
        self.memory_used = self._memory_limit = 0  # a prefetch that is still running puts its result afterwards

    def _write(self, key: Hashable, arrays: Arrays) -> None:
        parts: list[bytes] = []
        for array in arrays:
            content = array.tobytes()
            parts += content, bytes(_padded(len(content)) - len(content))
        if self._file.put(key, parts):
            self._layouts[key] = [(array.dtype, array.shape) for array in arrays]


def _padded(size: int) -> int:
    """Up to the next multiple of 16, so that arrays of every type are aligned when they are read."""
    return -(-size // 16) * 16


def _bytes_of(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays)


TABLES = 10
"""Histograms of an appearance model: four of fine colour, four of coarse colour and texture, two of colour and
position."""

TABLE_BITS = 13
TABLE_SIZE = 1 << TABLE_BITS

NEIGHBOUR_OFFSETS: NDArray[np.int32] = np.array(
    [(0, 1), (1, 0), (1, 1), (1, -1), (0, 3), (3, 0), (2, 2), (2, -2), (0, 6), (6, 0), (5, 5), (5, -5)], np.int32
)
"""Half of each pixel's neighbours, `(y, x)`, in three rings; the other half are its mirror image. `y` is never negative
and (0, x) has x > 0, so that each pair of pixels occurs once."""

# Averaged shifted histograms (Scott 1985): four grids, each shifted by a quarter of a bin in another order.
_SHIFTS: NDArray[np.int32] = np.array(
    [[0, 0, 0], [4, 8, 12], [8, 4, 8], [12, 12, 4], [0, 4, 8], [4, 12, 0], [8, 0, 12], [12, 8, 4]], np.int32
)
_FINE_SIGMA, _COARSE_SIGMA, _TEXTURE_WINDOW = 0.7, 3.0, 7  # working pixels


@dataclass(frozen=True, slots=True)
class PixelFeatures:
    """Features of the pixels of one frame at working size.

    Attributes:
        codes: `(h, w, TABLES)` uint16, the bin of each pixel in each histogram; in the last two the position inside
            the object is still missing.
        affinity: `(len(NEIGHBOUR_OFFSETS), h, w)` float32 in [0, 1], colour similarity of a pixel and its neighbour at
            each offset; 0 where the neighbour lies outside the frame.
    """

    codes: NDArray[np.uint16]
    affinity: NDArray[np.float32]


def colour_planes(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The seven planes that describe a frame.

    Args:
        rgb: `(h, w, 3)` uint8.

    Returns:
        `(h, w, 7)` uint8: L, a, b slightly smoothed; L, a, b strongly smoothed; texture in 0 … 7, the logarithm of
        the local standard deviation of L.
    """
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    fine = cv2.GaussianBlur(lab, (0, 0), _FINE_SIGMA)
    coarse = cv2.GaussianBlur(lab, (0, 0), _COARSE_SIGMA)
    lightness = lab[..., 0].astype(np.float32)
    window = (_TEXTURE_WINDOW, _TEXTURE_WINDOW)
    variance = cv2.blur(lightness * lightness, window) - cv2.blur(lightness, window) ** 2
    texture = np.minimum(np.log2(1 + np.sqrt(np.maximum(variance, 0))) * 1.3, 7).astype(np.uint8)
    return np.concatenate([fine, coarse, texture[..., None]], axis=2)


def compute_features(planes: NDArray[np.uint8], edge_contrast: float) -> PixelFeatures:
    """Histogram bins and affinities from `colour_planes`."""
    height, width = planes.shape[:2]
    codes = np.empty((height, width, TABLES), np.uint16)
    _encode(planes, _SHIFTS, codes)
    affinity = np.zeros((len(NEIGHBOUR_OFFSETS), height, width), np.float32)
    # Squared distances count chroma three times: 8-bit Lab stretches L to 255 but leaves a and b as they are.
    fall_off = np.exp(-8.0 * np.arange(1024) / (2 * edge_contrast**2)).astype(np.float32)
    _compare_neighbours(planes, NEIGHBOUR_OFFSETS, fall_off, affinity)
    return PixelFeatures(codes, affinity)


@inner
def _hash(value: int) -> int:  # Fibonacci hashing (Knuth, TAOCP 3, 6.4)
    return int(((value * 2654435761) & 0xFFFFFFFF) >> (32 - TABLE_BITS))


@njit(nogil=True)
def _encode(planes: NDArray[np.uint8], shifts: NDArray[np.int32], codes: NDArray[np.uint16]) -> None:
    for y in range(planes.shape[0]):
        for x in range(planes.shape[1]):
            light, red, blue = np.int64(planes[y, x, 0]), np.int64(planes[y, x, 1]), np.int64(planes[y, x, 2])
            for f in range(4):
                s = shifts[f]
                bins = ((light + s[0]) >> 4) * 4096 + ((red + (s[1] >> 1)) >> 3) * 64 + ((blue + (s[2] >> 1)) >> 3)
                codes[y, x, f] = _hash(bins)
            for f in range(2):
                s = shifts[f]
                bins = (light + s[0]) // 24 * 4096 + (red + s[1]) // 12 * 64 + (blue + s[2]) // 12
                codes[y, x, 8 + f] = bins & 0xFFFF
            light, red, blue = np.int64(planes[y, x, 3]), np.int64(planes[y, x, 4]), np.int64(planes[y, x, 5])
            texture = np.int64(planes[y, x, 6])
            for f in range(4, 8):
                s = shifts[f]
                bins = ((light + s[0]) >> 4) * 4096 + ((red + (s[1] >> 1)) >> 3) * 64 + ((blue + (s[2] >> 1)) >> 3)
                codes[y, x, f] = _hash(bins * 8 + texture)


@njit(nogil=True, fastmath=True)
def _compare_neighbours(
    planes: NDArray[np.uint8], offsets: NDArray[np.int32], fall_off: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    height, width = planes.shape[:2]
    for k in range(offsets.shape[0]):
        dy, dx = offsets[k, 0], offsets[k, 1]
        for y in range(height - dy):
            for x in range(max(0, -dx), min(width, width - dx)):
                light = np.int32(planes[y, x, 0]) - np.int32(planes[y + dy, x + dx, 0])
                red = np.int32(planes[y, x, 1]) - np.int32(planes[y + dy, x + dx, 1])
                blue = np.int32(planes[y, x, 2]) - np.int32(planes[y + dy, x + dx, 2])
                difference = (light * light + 3 * (red * red + blue * blue)) >> 3
                out[k, y, x] = fall_off[difference if difference < 1023 else 1023]
