"""`tracks.npz`: the tracks of a box run, in parts of some thousand observations, so that neither side holds all.

Each part has its columns as plain arrays::

    part_000000/frame.npy       (N,) int64, absolute index, ascending
    part_000000/time.npy        (N,) float64 seconds, NaN = unknown
    part_000000/track_id.npy    (N,) int64
    part_000000/xyxy.npy        (N, 4) float32 pixels, right and bottom exclusive
    part_000000/score.npy       (N,) float32
    part_000000/class_id.npy    (N,) int64, −1 = no class
    part_000000/detection.npy   (N,) int64, row of the frame's detections, −1 = interpolated
    part_000000/masks.npy       (N, ceil(H*W/8)) uint8, `numpy.packbits`; only in parts with masks

and `manifest.json` lists the parts; where classes have names, its `metadata` has `"classes": {"2": "car"}`. The file
opens with `numpy.load(path, allow_pickle=False)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import ArtifactError
from trackweave.ids import FrameIndex
from trackweave.masks.packed import PackedMasks
from trackweave.storage.npz import NpzReader, NpzWriter
from trackweave.structures.tracks import Tracks

SCHEMA_VERSION = 1
KIND = "tracks"
CLASSES = "classes"
_COLUMNS = ("frame", "track_id", "xyxy", "score", "class_id")


@dataclass(frozen=True, eq=False)
class TrackRows:
    """Observations of some consecutive frames, with what `Tracks` has no column for.

    Attributes:
        tracks: N observations, ordered by frame, then track id.
        detection: `(N,)` int64, row of the frame's detections; −1 = interpolated.
        time: `(N,)` float64 seconds; NaN = unknown.

    Raises:
        ValueError: columns of different lengths.
    """

    tracks: Tracks
    detection: NDArray[np.int64]
    time: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not len(self.tracks) == len(self.detection) == len(self.time):
            raise ValueError(f"{len(self.tracks)} rows, {len(self.detection)} detections, {len(self.time)} times")

    def __len__(self) -> int:
        return len(self.tracks)

    @classmethod
    def concat(cls, parts: list[TrackRows]) -> TrackRows:
        """One after the other; when only some have masks of one size, the others get empty ones.

        Raises:
            ValueError: masks of different sizes.
        """
        parts = [part for part in parts if len(part)]
        sizes = {part.tracks.masks.size for part in parts if part.tracks.masks is not None}
        if len(sizes) > 1:
            raise ValueError(f"masks of different sizes: {sorted(sizes)}")
        size = next(iter(sizes), None)
        return cls(
            Tracks.concat([_with_masks(part.tracks, size) for part in parts]),
            np.concatenate([part.detection for part in parts] or [np.zeros(0, np.int64)]),
            np.concatenate([part.time for part in parts] or [np.zeros(0)]),
        )


def _with_masks(tracks: Tracks, size: tuple[int, int] | None) -> Tracks:
    if size is None or tracks.masks is not None:
        return tracks
    return replace(tracks, masks=PackedMasks.empty(*size, count=len(tracks)))


class TracksArchiveWriter:
    """Writes the archive part by part; it appears under its name only when the `with` block ends well.

    Args:
        path: the file.
        metadata: further JSON values for its manifest.
        class_names: names of the classes by number.
    """

    def __init__(
        self,
        path: Path,
        metadata: Mapping[str, object] | None = None,
        class_names: Mapping[int, str] | None = None,
    ) -> None:
        self._archive = NpzWriter(path)
        self._metadata = dict(metadata or {})
        if class_names:
            self._metadata[CLASSES] = {str(number): name for number, name in sorted(class_names.items())}
        self._parts: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._archive.__enter__()
        return self

    def write(self, rows: TrackRows) -> None:
        """Appends a part; one without rows is passed over.

        Raises:
            ValueError: its first frame is not after the last one written.
            RunFolderError: the file cannot be written.
        """
        if not len(rows):
            return
        first, last = int(rows.tracks.frame[0]), int(rows.tracks.frame[-1])
        if self._parts and first <= self._parts[-1]["last"]:
            raise ValueError(f"frame {first} comes after frame {self._parts[-1]['last']}")
        name = _part_name(len(self._parts))
        for column in _COLUMNS:
            self._archive.add_array(f"{name}/{column}", getattr(rows.tracks, column))
        self._archive.add_array(f"{name}/detection", rows.detection)
        self._archive.add_array(f"{name}/time", rows.time)
        masks = rows.tracks.masks
        if masks is not None:
            self._archive.add_array(f"{name}/masks", masks.bits)
        shape = None if masks is None else list(masks.size)
        self._parts.append({"first": first, "last": last, "rows": len(rows), "mask_shape": shape})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._archive.add_manifest(
                    {"kind": KIND, "schema_version": SCHEMA_VERSION, "parts": self._parts, "metadata": self._metadata}
                )
        except BaseException as failure:
            self._archive.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._archive.__exit__(kind, error, trace)


@dataclass(frozen=True)
class _Part:
    name: str
    first: int
    last: int
    rows: int
    mask_shape: tuple[int, int] | None


class TracksArchive:
    """Reader of `tracks.npz`: whole, part by part, or one frame at a time; holds one part.

    Attributes:
        metadata: further JSON values that the writer was given.
        class_names: names of the classes by number; empty where they have none.

    Raises:
        ArtifactError: not such an archive, or damaged.
        ArtifactVersionError: of a newer schema.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._archive = NpzReader(self.path, KIND, SCHEMA_VERSION)
        try:
            self.metadata: Mapping[str, object] = dict(self._archive.manifest.get("metadata", {}))
            names: Mapping[str, object] = self._archive.manifest.get("metadata", {}).get(CLASSES, {})
            self.class_names: Mapping[int, str] = {int(number): str(name) for number, name in names.items()}
            self._parts = [_part(n, record) for n, record in enumerate(self._archive.manifest["parts"])]
            for before, part in pairwise(self._parts):
                if part.first <= before.last:
                    raise ValueError(f"parts in order: {part.name} begins before {before.name} ends")
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
            self.close()
            raise ArtifactError(f"{self.path}: its manifest.json lacks or misspells {error}") from None
        self._held: tuple[int, TrackRows] | None = None

    def __len__(self) -> int:
        """Observations."""
        return sum(part.rows for part in self._parts)

    @property
    def last(self) -> int:
        """The last frame with an observation; −1 when there is none."""
        return self._parts[-1].last if self._parts else -1

    @property
    def mask_size(self) -> tuple[int, int] | None:
        """`(H, W)` of the masks of the first part that has some; None without masks."""
        return next((part.mask_shape for part in self._parts if part.mask_shape is not None), None)

    @property
    def has_masks(self) -> bool:
        """Are there masks in any part?"""
        return any(part.mask_shape is not None for part in self._parts)

    def parts(self, *, with_masks: bool = True) -> Iterator[TrackRows]:
        """The observations as they were written."""
        for number in range(len(self._parts)):
            yield self._read(number, with_masks)

    def rows(self, *, with_masks: bool = True) -> TrackRows:
        """All observations in memory.

        Raises:
            ArtifactError: masks of different sizes; read them part by part.
        """
        try:
            return TrackRows.concat(list(self.parts(with_masks=with_masks)))
        except ValueError as error:
            raise ArtifactError(f"{self.path}: {error}: read its parts, or without masks") from None

    def tracks(self, *, with_masks: bool = True) -> Tracks:
        """The tracks in memory; see `rows`."""
        return self.rows(with_masks=with_masks).tracks

    def at(self, frame: FrameIndex | int) -> Tracks:
        """The tracks of one frame; none is normal."""
        for number, part in enumerate(self._parts):
            if part.first <= frame <= part.last:
                if self._held is None or self._held[0] != number:
                    self._held = number, self._read(number, True)
                return self._held[1].tracks.at(FrameIndex(int(frame)))
        return Tracks.empty()

    def _read(self, number: int, with_masks: bool) -> TrackRows:
        part = self._parts[number]
        columns: dict[str, Any] = {column: self._column(part, column) for column in _COLUMNS}
        detection, time = (self._column(part, column) for column in ("detection", "time"))
        try:
            masks = None
            if with_masks and part.mask_shape is not None:
                masks = PackedMasks(self._archive.array(f"{part.name}/masks"), *part.mask_shape)
            _check_frames(part, columns["frame"])
            return TrackRows(Tracks.from_columns(**columns, masks=masks), detection, time)
        except (TypeError, ValueError, IndexError) as error:
            raise ArtifactError(f"{self.path}: {part.name} is damaged: {error}") from None

    def _column(self, part: _Part, column: str) -> NDArray[Any]:
        """A column, of the shape, the kind and the values that it was written with.

        Raises:
            ArtifactError: of another one.
        """
        values = self._archive.array(f"{part.name}/{column}")
        shape = (part.rows, 4) if column == "xyxy" else (part.rows,)
        kinds = "f" if column in ("xyxy", "score", "time") else "iu"
        if values.shape != shape or values.dtype.kind not in kinds:
            raise ArtifactError(f"{self.path}: {part.name}/{column} is damaged: {values.shape} of {values.dtype}")
        if column in ("xyxy", "score") and not np.all(np.isfinite(values)):
            raise ArtifactError(f"{self.path}: {part.name}/{column} is damaged: it holds values that are not finite")
        if column == "xyxy" and np.any(values[:, 2:] < values[:, :2]):
            raise ArtifactError(f"{self.path}: {part.name}/{column} is damaged: it holds a box without extent")
        return values

    def close(self) -> None:
        """Closes the file."""
        self._archive.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _check_frames(part: _Part, frame: NDArray[np.integer[Any]]) -> None:
    """Raises ValueError where they do not rise from the first to the last frame of their part."""
    if np.any(frame[1:] < frame[:-1]) or (len(frame) and (int(frame[0]), int(frame[-1])) != (part.first, part.last)):
        raise ValueError(f"its frames do not rise from {part.first} to {part.last}")


def _part_name(number: int) -> str:
    return f"part_{number:06d}"


def _part(number: int, record: Any) -> _Part:
    shape = record["mask_shape"]
    return _Part(
        _part_name(number),
        int(record["first"]),
        int(record["last"]),
        int(record["rows"]),
        None if shape is None else (int(shape[0]), int(shape[1])),
    )
