"""Reader of recorded masks: `FFFFF_OOO` entries of another system's run, or a run's own archive."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import ArtifactError
from trackweave.ids import FrameIndex
from trackweave.masks.codecs import as_packed
from trackweave.masks.packed import PackedMasks, packed_length
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.npz import MANIFEST_NAME, ZIP_ERRORS, decode_npy, member_limit, read_member

_ENTRY = re.compile(r"(\d+)_(\d+)$")


class Recording(Protocol):
    """Masks by frame and object, read when asked for."""

    path: Path

    @property
    def size(self) -> tuple[int, int]:
        """`(H, W)` of the masks."""

    def objects(self, frame: FrameIndex) -> list[int]:
        """Objects recorded on a frame, ascending."""

    def masks(self, frame: FrameIndex, objects: Sequence[int]) -> PackedMasks:
        """Their masks; empty for an object that is not on the frame."""

    def close(self) -> None:
        """Closes the file."""


def open_recording(path: Path) -> Recording:
    """Opens either form.

    Raises:
        ArtifactError: not a recording.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            own = MANIFEST_NAME in archive.namelist()
        return ArchiveRecording(path) if own else EntryRecording(path)
    except ZIP_ERRORS as error:
        raise ArtifactError(f"{path}: not a readable recording: {error}") from None


class EntryRecording:
    """An `.npz` with an entry per object-frame and `shape`.

    Raises:
        ArtifactError: no `shape`, no entry, or bits of another length.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names: dict[FrameIndex, dict[int, str]] = {}
        with ExitStack() as stack:
            self._archive = stack.enter_context(zipfile.ZipFile(path))
            self._limit = member_limit(path)
            for member in self._archive.namelist():
                name = member.removesuffix(".npy")
                if match := _ENTRY.match(name):
                    self._names.setdefault(FrameIndex(int(match[1])), {})[int(match[2])] = name
            if not self._names:
                raise ArtifactError(f"{path}: a recording has entries named FFFFF_OOO (frame, object); there are none")
            shape = self._entry("shape")
            if shape.shape != (2,) or shape.dtype.kind not in "ui" or shape.min() < 1:
                found = shape.tolist() if shape.size < 9 else f"an array {shape.shape}"
                raise ArtifactError(f"{path}: entry shape is (H, W) of at least one pixel, not {found}")
            self._size = (int(shape[0]), int(shape[1]))
            # Before rows of this size are made: a mask is at most as large as the largest entry.
            largest = max(entry.file_size for entry in self._archive.infolist())
            if packed_length(*self._size) > largest:
                raise ArtifactError(f"{path}: entry shape is {self._size[0]}×{self._size[1]}, more than any mask holds")
            stack.pop_all()  # it can be read: stays open

    @property
    def size(self) -> tuple[int, int]:
        """`(H, W)` of the masks."""
        return self._size

    def objects(self, frame: FrameIndex) -> list[int]:
        """Objects recorded on a frame, ascending."""
        return sorted(self._names.get(frame, ()))

    def masks(self, frame: FrameIndex, objects: Sequence[int]) -> PackedMasks:
        """Their masks; empty for an object that is not on the frame."""
        height, width = self._size
        out = PackedMasks.empty(height, width, len(objects))
        for row, obj in enumerate(objects):
            name = self._names.get(frame, {}).get(obj)
            if name is None:
                continue
            bits = self._entry(name)
            if bits.dtype != np.uint8 or bits.shape != (packed_length(height, width),):
                raise ArtifactError(f"{self.path}: entry {name} is not a packed mask of {height}×{width}")
            out.bits[row] = as_packed({"packed_bits": bits, "shape": self._size}).bits
        return out

    def _entry(self, name: str) -> NDArray[Any]:
        try:
            return decode_npy(read_member(self._archive, f"{name}.npy", self._limit))
        except KeyError:
            raise ArtifactError(f"{self.path}: a recording needs an entry `{name}`") from None
        except ZIP_ERRORS as error:
            raise ArtifactError(f"{self.path}: entry {name} is damaged: {error}") from None

    def close(self) -> None:
        """Closes the file."""
        self._archive.close()


class ArchiveRecording:
    """A run's `video_segments` archive as a recording."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._video = VideoSegments(path)
        if self._video.info.mask_shape is None:
            self._video.close()
            raise ArtifactError(f"{path}: holds no mask to replay")
        self._size = self._video.info.mask_shape

    @property
    def size(self) -> tuple[int, int]:
        """`(H, W)` of the masks."""
        return self._size

    def objects(self, frame: FrameIndex) -> list[int]:
        """Objects recorded on a frame, ascending."""
        return [int(track) for track in self._video.boxes(frame).track_id]

    def masks(self, frame: FrameIndex, objects: Sequence[int]) -> PackedMasks:
        """Their masks; empty for an object that is not on the frame."""
        recorded = self._video.frame(frame)
        out = PackedMasks.empty(*self._size, len(objects))
        rows = {int(track): row for row, track in enumerate(recorded.track_id)}
        for n, obj in enumerate(objects):
            if obj in rows:
                out.bits[n] = recorded.masks.bits[rows[obj]]
        return out

    def close(self) -> None:
        """Closes the file."""
        self._video.close()
