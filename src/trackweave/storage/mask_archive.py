"""The two archives of a level: masks by frame, and by object where those masks are.

`video_segments.npz` is frame-major. For each frame with objects::

    frame_000012/objects.npy   (M,) OBJECT_DTYPE: id, score, area, box; ids ascending
    frame_000012/masks.npy     (M, ceil(H*W/8)) uint8, `numpy.packbits` of the row-major mask

`object_segments.npz` is object-major and refers to it::

    object_000007/frames.npy   (F,) REFERENCE_DTYPE: frame, row in that frame's arrays, score, area, box

Each has a `manifest.json` entry (`kind`, `schema_version`, `mask_shape`, `full_resolution_shape`, `mask_scale_ratio`,
and the list of frames or objects; `classes`, where a track has one: `tracks`, rows of id, class and score, and `names`
of the classes). Both open with `numpy.load(path, allow_pickle=False)`.

The older pipeline of the tracking guide wrote both as zip files of JSON, under the same names; they are read as well:

    manifest.json              {"meta": {…}, "frames": [{"frame_index", "frame_name", "entry", "objects": [ids]}]}
    frames/frame_000012.json   {"frame_index", "frame_name", "objects": {id: {"packed_bits_b64", "shape", …}}}

and, object-major, `{"meta": {…}, "objects": {id: [{"frame_index", "frame_entry"}]}}`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import scale_boxes
from trackweave.errors import ArtifactError, shortened, shortened_line
from trackweave.ids import FrameIndex, TrackId
from trackweave.masks.codecs import as_packed, decode_mask, full_shape
from trackweave.masks.packed import PackedMasks, packed_length
from trackweave.storage.npz import NpzReader, NpzWriter
from trackweave.structures.run_summary import JsonRecord
from trackweave.structures.tracks import FrameObjects, TrackClasses, Tracks

SCHEMA_VERSION = 1
VIDEO_KIND = "video_segments"
OBJECT_KIND = "object_segments"

_COLUMNS = [("score", "<f4"), ("area", "<i8"), ("box", "<f4", (4,))]
OBJECT_DTYPE = np.dtype([("id", "<i8"), *_COLUMNS])
REFERENCE_DTYPE = np.dtype([("frame", "<i8"), ("row", "<i8"), *_COLUMNS])


def frame_entry_name(frame: int) -> str:
    """Name of a frame's entries in an archive.

    >>> frame_entry_name(12)
    'frame_000012'
    """
    return f"frame_{frame:06d}"


def object_entry_name(track_id: int) -> str:
    """Name of an object's entries in an archive.

    >>> object_entry_name(7)
    'object_000007'
    """
    return f"object_{track_id:06d}"


@dataclass(frozen=True)
class SegmentsInfo:
    """What an archive's manifest says.

    Attributes:
        mask_shape: `(H, W)` of the stored masks; None in an archive without any.
        full_resolution_shape: `(H, W)` of the frames, when known.
        mask_scale_ratio: stored size over frame size.
        metadata: what the writer was given besides.
        classes: of the tracks.
    """

    mask_shape: tuple[int, int] | None
    full_resolution_shape: tuple[int, int] | None
    mask_scale_ratio: float
    metadata: JsonRecord
    classes: TrackClasses = field(default_factory=TrackClasses)

    @classmethod
    def from_manifest(cls, manifest: JsonRecord) -> SegmentsInfo:
        """Reads the keys back."""

        def pair(value: Any) -> tuple[int, int] | None:
            return None if value is None else (int(value[0]), int(value[1]))

        return cls(
            pair(manifest.get("mask_shape")),
            pair(manifest.get("full_resolution_shape")),
            float(manifest.get("mask_scale_ratio", 1.0)),
            manifest.get("metadata", {}),
            TrackClasses.from_json(manifest["classes"]) if "classes" in manifest else TrackClasses(),
        )

    @classmethod
    def from_older(cls, manifest: JsonRecord) -> SegmentsInfo:
        """Reads the keys of an older archive; what only its masks say is still to come."""
        return cls(None, None, float(manifest["meta"].get("mask_scale_ratio", 1.0)), manifest["meta"])

    def to_manifest(self, kind: str) -> JsonRecord:
        """The keys that both archives share."""
        classes = {"classes": self.classes.to_json()} if self.classes else {}
        return {
            "kind": kind,
            "schema_version": SCHEMA_VERSION,
            "mask_shape": self.mask_shape and list(self.mask_shape),
            "full_resolution_shape": self.full_resolution_shape and list(self.full_resolution_shape),
            "mask_scale_ratio": self.mask_scale_ratio,
            "metadata": dict(self.metadata),
            **classes,
        }


def object_rows(objects: FrameObjects) -> NDArray[Any]:
    """`(M,)` OBJECT_DTYPE of one frame."""
    rows = np.zeros(len(objects), OBJECT_DTYPE)
    rows["id"], rows["score"] = objects.track_id, objects.score
    rows["area"], rows["box"] = objects.area, objects.xyxy
    return rows


def write_video_segments(
    path: Path,
    frames: Iterable[FrameObjects],
    *,
    mask_scale_ratio: float,
    full_resolution_shape: tuple[int, int] | None,
    metadata: Mapping[str, object],
    classes: TrackClasses | None = None,
) -> int:
    """Writes the frame-major archive from a stream of frames; returns the number of object-frames.

    Raises:
        ValueError: frames not strictly increasing, ids not strictly increasing, or masks of different sizes.
        RunFolderError: the file cannot be written.
    """
    listed: list[list[Any]] = []
    mask_shape: tuple[int, int] | None = None
    with NpzWriter(path) as archive:
        for objects in frames:
            if not len(objects):
                continue
            if listed and objects.frame <= listed[-1][0]:
                raise ValueError(f"frame {objects.frame} comes after frame {listed[-1][0]}")
            if np.any(objects.track_id[1:] <= objects.track_id[:-1]):
                raise ValueError(f"frame {objects.frame}: ids must be strictly increasing")
            if mask_shape is not None and objects.masks.size != mask_shape:
                raise ValueError(f"frame {objects.frame}: masks of {objects.masks.size} after {mask_shape}")
            mask_shape = objects.masks.size
            name = frame_entry_name(objects.frame)
            archive.add_array(f"{name}/objects", object_rows(objects))
            archive.add_array(f"{name}/masks", objects.masks.bits)
            listed.append([int(objects.frame), objects.name, len(objects)])
        known = classes or TrackClasses()
        info = SegmentsInfo(mask_shape, full_resolution_shape, mask_scale_ratio, metadata, known)
        archive.add_manifest({**info.to_manifest(VIDEO_KIND), "frames": listed})
    return sum(count for _, _, count in listed)


class _Segments(ABC):
    """What the readers of both archives share: opening, the manifest, closing."""

    def __init__(self, path: str | Path, kind: str) -> None:
        self._archive = NpzReader(Path(path), kind, SCHEMA_VERSION)
        self.path = path
        try:
            read = SegmentsInfo.from_older if self._archive.is_older else SegmentsInfo.from_manifest
            self.info = read(self._archive.manifest)
            self._read_listing(self._archive.manifest)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
            self.close()
            raise ArtifactError(f"{self._archive.path}: its manifest.json lacks or misspells {error}") from None

    @abstractmethod
    def _read_listing(self, manifest: JsonRecord) -> None:
        """Takes the list of frames or objects from the manifest."""

    def close(self) -> None:
        """Closes the file."""
        self._archive.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class VideoSegments(_Segments):
    """Reader of the frame-major archive: one frame at a time, or a stream.

    Attributes:
        listed: frames that the archive lists, ascending; an older one lists some without objects, too.

    Raises:
        ArtifactError: not such an archive, or damaged.
        ArtifactVersionError: of a newer schema.
    """

    def __init__(self, path: str | Path) -> None:
        self._entries: dict[FrameIndex, tuple[str, list[int]]] = {}
        self.listed: list[FrameIndex] = []
        super().__init__(path, VIDEO_KIND)
        if self._archive.is_older:
            self._read_older_sizes()

    def _read_listing(self, manifest: JsonRecord) -> None:
        if not self._archive.is_older:
            self._names = {FrameIndex(int(frame)): str(name) for frame, name, _ in manifest["frames"]}
            self.listed = list(self._names)
            return
        rows = sorted(manifest["frames"], key=lambda row: int(row["frame_index"]))
        names = {FrameIndex(int(row["frame_index"])): row.get("frame_name") for row in rows}
        if len(names) < len(rows) or (names and min(names) < 0):
            raise ValueError("a frame twice, or one below 0")
        self.listed = list(names)
        self._names = {frame: str(name or frame_entry_name(frame)) for frame, name in names.items()}
        self._entries = {
            FrameIndex(int(row["frame_index"])): (str(row["entry"]), sorted(int(one) for one in row.get("objects", ())))
            for row in rows
        }

    def _read_older_sizes(self) -> None:
        """The size of masks and frames, which in an older archive only the masks say."""
        try:
            for frame in self.listed:
                masks, full = self._older_masks(frame)
                if masks:
                    shape = next(iter(masks.values())).size
                    ratio = self.info.mask_scale_ratio or 1.0
                    guess = (round(shape[0] / ratio), round(shape[1] / ratio))
                    self.info = replace(self.info, mask_shape=shape, full_resolution_shape=full or guess)
                    return
        except BaseException:
            self.close()
            raise

    def ids_on(self, frame: FrameIndex | int) -> list[int]:
        """Ids of the objects on a frame, ascending; of an older archive as its manifest lists them."""
        index = FrameIndex(int(frame))
        if self._archive.is_older:
            return self._entries[index][1] if index in self._entries else []
        return [int(one) for one in self._rows(index)["id"]] if index in self._names else []

    def _older_masks(self, frame: FrameIndex) -> tuple[dict[int, PackedMasks], tuple[int, int] | None]:
        """Masks of one frame of an older archive by id, empty ones left out, and `(H, W)` of the frame."""
        name, _ = self._entries[frame]
        objects = self._archive.json(name).get("objects", {})
        if not isinstance(objects, dict):
            raise ArtifactError(f"{self.path}: entry {name}: its `objects` are not masks by id")
        masks: dict[int, PackedMasks] = {}
        full: tuple[int, int] | None = None
        for text, payload in objects.items():
            try:
                track_id, mask = int(text), as_packed(decode_mask(payload))
                full = full_shape(payload) or full
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                reason = shortened_line(str(error))
                raise ArtifactError(f"{self.path}: entry {name}: object {shortened(text)}: {reason}") from None
            if not 0 <= track_id < 1 << 62 or track_id in masks:
                raise ArtifactError(f"{self.path}: entry {name}: object {shortened(text)} is no id, or occurs twice")
            if mask.areas[0]:
                masks[track_id] = mask
        shapes = {mask.size for mask in masks.values()} | ({self.info.mask_shape} if self.info.mask_shape else set())
        if len(shapes) > 1:
            raise ArtifactError(f"{self.path}: entry {name}: masks of different sizes: {sorted(shapes)}")
        return dict(sorted(masks.items())), full

    def _older_frame(self, index: FrameIndex) -> FrameObjects:
        """One frame of an older archive; what it does not hold, scores, are 1."""
        by_id, _ = self._older_masks(index)
        (height, width), full = self.info.mask_shape or (1, 1), self.info.full_resolution_shape or (1, 1)
        masks = PackedMasks.concat(list(by_id.values())) if by_id else PackedMasks.empty(height, width)
        return FrameObjects(
            index,
            self._names[index],
            np.array(list(by_id), np.int64),
            masks,
            scale_boxes(masks.boxes, full[1] / width, full[0] / height),
            masks.areas,
            np.ones(len(masks), np.float32),
        )

    @property
    def frames(self) -> list[FrameIndex]:
        """Frames with at least one object, ascending."""
        return list(self._names)

    def frame_name(self, frame: FrameIndex | int) -> str:
        """The name of a frame; `frame_000012` of one without objects, which the archive does not list."""
        return self._names.get(FrameIndex(int(frame))) or frame_entry_name(int(frame))

    def frame(self, frame: FrameIndex | int) -> FrameObjects:
        """Objects of one frame; a frame that has none gives an empty record."""
        index = FrameIndex(int(frame))
        if self._archive.is_older and index in self._entries:
            return self._older_frame(index)
        height, width = self.info.mask_shape or (1, 1)
        if index not in self._names:
            rows, masks = np.zeros(0, OBJECT_DTYPE), PackedMasks.empty(height, width)
        else:
            rows = self._rows(index)
            bits = self._archive.array(f"{frame_entry_name(index)}/masks")
            if bits.dtype != np.uint8 or bits.shape != (len(rows), packed_length(height, width)):
                raise ArtifactError(f"{self.path}: frame {index}: its two entries do not belong together")
            masks = PackedMasks(bits, height, width)
        ids = np.ascontiguousarray(rows["id"])
        return FrameObjects(
            index,
            self._names.get(index, ""),
            ids,
            masks,
            np.ascontiguousarray(rows["box"]),
            np.ascontiguousarray(rows["area"]),
            np.ascontiguousarray(rows["score"]),
            self.info.classes.of(ids) if self.info.classes else None,
        )

    def boxes(self, frame: FrameIndex | int, level: int | None = None) -> Tracks:
        """One frame's tracks without reading its masks."""
        index = FrameIndex(int(frame))
        if index not in self._names:
            return Tracks.empty()
        rows = object_rows(self._older_frame(index)) if self._archive.is_older else self._rows(index)
        count = len(rows)
        levels = None if level is None else np.full(count, level)
        classes = self.info.classes.of(rows["id"]) if self.info.classes else None
        return Tracks.from_columns(np.full(count, index), rows["id"], rows["box"], rows["score"], classes, level=levels)

    def _rows(self, index: FrameIndex) -> NDArray[Any]:
        rows = self._archive.array(f"{frame_entry_name(index)}/objects")
        if rows.dtype != OBJECT_DTYPE or rows.ndim != 1:
            raise ArtifactError(
                f"{self.path}: frame {index}: an array {rows.shape} of {rows.dtype}, not rows of {OBJECT_DTYPE}"
            )
        if len(np.unique(rows["id"])) < len(rows):
            raise ArtifactError(f"{self.path}: frame {index}: an object occurs twice")
        if not (np.all(np.isfinite(rows["box"])) and np.all(np.isfinite(rows["score"]))):
            raise ArtifactError(f"{self.path}: frame {index}: a box or a score is not finite")
        if np.any(rows["box"][:, 2:] < rows["box"][:, :2]):
            raise ArtifactError(f"{self.path}: frame {index}: a box without extent")
        return rows

    def __iter__(self) -> Iterator[FrameObjects]:
        return (self.frame(frame) for frame in self._names)

    def __len__(self) -> int:
        return len(self._names)


def write_object_segments(
    path: Path,
    objects: Iterable[tuple[TrackId, NDArray[Any]]],
    *,
    mask_shape: tuple[int, int] | None,
    mask_scale_ratio: float,
    full_resolution_shape: tuple[int, int] | None,
    metadata: Mapping[str, object],
    classes: TrackClasses | None = None,
) -> int:
    """Writes the object-major archive from a stream of `(id, (F,) REFERENCE_DTYPE)`; returns the number of objects.

    Raises:
        ValueError: ids not strictly increasing, references of another dtype, or not in order of frames.
        RunFolderError: the file cannot be written.
    """
    listed: list[list[int]] = []
    with NpzWriter(path) as archive:
        for track_id, references in objects:
            if listed and track_id <= listed[-1][0]:
                raise ValueError(f"object {track_id} comes after object {listed[-1][0]}")
            if references.dtype != REFERENCE_DTYPE:
                raise ValueError(f"object {track_id}: references are {REFERENCE_DTYPE}, not {references.dtype}")
            if np.any(references["frame"][1:] <= references["frame"][:-1]):
                raise ValueError(f"object {track_id}: frames must be strictly increasing")
            archive.add_array(f"{object_entry_name(track_id)}/frames", references)
            listed.append([int(track_id), len(references)])
        known = classes or TrackClasses()
        info = SegmentsInfo(mask_shape, full_resolution_shape, mask_scale_ratio, metadata, known)
        archive.add_manifest({**info.to_manifest(OBJECT_KIND), "objects": listed, "masks_in": VIDEO_KIND})
    return len(listed)


class ObjectSegments(_Segments):
    """Reader of the object-major archive; masks come from the frame-major archive it refers to.

    Raises:
        ArtifactError: not such an archive, or damaged.
        ArtifactVersionError: of a newer schema.
    """

    def __init__(self, path: str | Path) -> None:
        self._older: dict[TrackId, NDArray[Any]] | None = None
        super().__init__(path, OBJECT_KIND)

    def _read_listing(self, manifest: JsonRecord) -> None:
        if self._archive.is_older:
            counts = {TrackId(int(track)): len(entries) for track, entries in manifest["objects"].items()}
            self.counts = dict(sorted(counts.items()))
            return
        self.counts = {TrackId(int(track)): int(count) for track, count in manifest["objects"]}

    def _older_references(self) -> dict[TrackId, NDArray[Any]]:
        """References of an older archive, which lists frames alone: the rest is in the frame-major one beside it."""
        path = Path(self.path)
        rows: dict[TrackId, list[Any]] = {track: [] for track in self.counts}
        with VideoSegments(path.with_name(path.name.replace(OBJECT_KIND, VIDEO_KIND))) as video:
            for objects in video:
                for row, one in enumerate(object_rows(objects)):
                    seen = (objects.frame, row, one["score"], one["area"], one["box"])
                    rows.setdefault(TrackId(int(one["id"])), []).append(seen)
        return {track: np.array(seen, REFERENCE_DTYPE) for track, seen in rows.items()}

    @property
    def ids(self) -> list[TrackId]:
        """Ids of all objects, ascending."""
        return list(self.counts)

    def references(self, track_id: TrackId | int) -> NDArray[Any]:
        """`(F,)` REFERENCE_DTYPE: where one object was seen.

        Raises:
            KeyError: no such object.
            ArtifactError: they are damaged.
        """
        if track_id not in self.counts:
            raise KeyError(f"{self.path}: no object {track_id}")
        if self._archive.is_older:
            self._older = self._older_references() if self._older is None else self._older
            return self._older[TrackId(int(track_id))]
        references = self._archive.array(f"{object_entry_name(track_id)}/frames")
        if references.dtype != REFERENCE_DTYPE or references.ndim != 1:
            raise ArtifactError(
                f"{self.path}: object {track_id}: an array {references.shape} of {references.dtype}, "
                f"not rows of {REFERENCE_DTYPE}"
            )
        return references

    def over_time(self, track_id: TrackId | int, video: VideoSegments) -> Iterator[FrameObjects]:
        """One object's masks, frame after frame, each as a record of one row."""
        for reference in self.references(track_id):
            objects = video.frame(int(reference["frame"]))
            row = int(reference["row"])
            if not 0 <= row < len(objects) or objects.track_id[row] != track_id:
                raise ArtifactError(f"{self.path}: object {track_id} is not at row {row} of {video.path}")
            yield objects[row : row + 1]
