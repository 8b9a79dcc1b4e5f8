"""`TrackedVideo` of what was read: rows of a file, and our own archives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np

from trackweave.errors import ArtifactError, InputError
from trackweave.formats.tables import LARGEST_FRAME, AnnotationTable
from trackweave.ids import FrameIndex
from trackweave.masks.codecs import decode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.track_archive import TracksArchive
from trackweave.structures.tracked_video import TrackedVideo, VideoInfo
from trackweave.structures.tracks import Tracks

MOST_UNLISTED = 10_000_000
"""Frames of a video whose file does not list them, but only names the last."""
LONGEST_FILLED = 500_000
"""Largest number of frames between two key frames that are filled: more than four hours at 30 frames per second."""


class NumberedNames(Sequence[str]):
    """What frames are called that have no name, `frame_000012`; made as they are asked for.

    Args:
        numbers: of the frames; a range takes no memory, however long it is.
        known: names of some, by number.

    >>> names = NumberedNames(range(0, 10**9, 5))
    >>> names[2], len(names), names[1:3] == ["frame_000005", "frame_000010"]
    ('frame_000010', 200000000, True)
    """

    def __init__(self, numbers: range, known: Mapping[int, str] | None = None) -> None:
        self._numbers, self._known = numbers, known or {}

    @overload
    def __getitem__(self, position: int) -> str: ...

    @overload
    def __getitem__(self, position: slice) -> NumberedNames: ...

    def __getitem__(self, position: int | slice) -> str | NumberedNames:
        if isinstance(position, slice):
            return NumberedNames(self._numbers[position], self._known)
        number = self._numbers[position]
        return self._known.get(number) or f"frame_{number:06d}"

    def __len__(self) -> int:
        return len(self._numbers)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, NumberedNames) and not (self._known or other._known):
            return self._numbers == other._numbers
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def unlisted_names(count: int) -> Sequence[str]:
    """What frames are called that have no name: `frame_000012`."""
    return NumberedNames(range(count))


class TableVideo(TrackedVideo):
    """The rows of a file that have an identity.

    Args:
        table: the rows.
        hints: what is known of the video from elsewhere; the file's own word counts where it has one.

    Raises:
        InputError: a row beyond the frames that the file or the hints have.
    """

    def __init__(self, table: AnnotationTable, hints: VideoInfo | None = None) -> None:
        self._table = table[table.track_id >= 0]
        self.has_masks = table.segmentation is not None
        self.has_levels = table.level is not None
        names, numbers = table.frame_names, table.frame_numbers
        last = int(self._table.frame[-1]) if len(self._table) else -1
        if names is None and hints is not None and len(hints.names):
            names, numbers = hints.names, hints.indices
            # Rows of such a file name frames by their absolute index.
            positions = hints.positions
            beyond = [frame for frame in self._table.frames.tolist() if frame not in positions]
            if beyond:
                raise InputError(f"{table.source}: frame {beyond[0]} is none of the {len(names)} frames of the video")
            frame = np.array([positions[frame] for frame in self._table.frame.tolist()], np.int64)
            self._table = replace(self._table, frame=frame)
            last = int(frame[-1]) if len(frame) else -1
        elif names is None:
            count = max(last + 1, table.length or 0)
            if count > min(MOST_UNLISTED, LARGEST_FRAME):
                raise InputError(f"{table.source}: frame {count - 1} is too large: is it a time?")
            names = unlisted_names(count)
        if last >= len(names):
            raise InputError(f"{table.source}: frame {last} is beyond the {len(names)} frames of the video")
        self.info = VideoInfo(
            table.video or (hints.name if hints is not None else Path(table.source.partition(",")[0]).stem),
            range(len(names)) if numbers is None else numbers if isinstance(numbers, range) else list(numbers),
            names if isinstance(names, NumberedNames) else list(names),
            table.size or _mask_size(table) or (hints.size if hints is not None else None),
            table.times if table.times is not None else hints.times if hints is not None else None,
            table.rate if table.rate is not None else hints.rate if hints is not None else None,
            table.class_names or (hints.class_names if hints is not None else {}),
        )

    def frames(self, *, with_masks: bool = True) -> Iterator[tuple[FrameIndex, Tracks]]:
        """Every frame, its masks decoded now."""
        table = self._table
        has_gap = bool(np.isnan(table.xyxy).any())
        occupied, starts = np.unique(table.frame, return_index=True)
        bounds = zip(starts.tolist(), [*starts[1:].tolist(), len(table)], strict=True) if len(starts) else ()
        rows_of = {frame: slice(*ends) for frame, ends in zip(occupied.tolist(), bounds, strict=True)}
        for position, index in enumerate(self.info.indices):
            rows = rows_of.get(position)
            if rows is None:
                yield FrameIndex(int(index)), Tracks.empty()
                continue
            masks = self._masks(rows) if self.has_masks and (with_masks or has_gap) else None
            xyxy = table.xyxy[rows] - table.origin
            if has_gap and masks is not None:
                xyxy = np.where(np.isnan(xyxy), masks.boxes, xyxy)
            yield (
                FrameIndex(int(index)),
                Tracks.from_columns(
                    np.full(rows.stop - rows.start, index),
                    table.track_id[rows],
                    xyxy,
                    table.score[rows],
                    table.class_id[rows],
                    masks if with_masks else None,
                    None if table.level is None else table.level[rows],
                ),
            )

    def _masks(self, rows: slice) -> PackedMasks | None:
        """Masks of some rows of one frame; empty where a row has none."""
        assert self._table.segmentation is not None
        entries = self._table.segmentation[rows]
        present = [n for n, entry in enumerate(entries) if entry is not None]
        if not present:
            return None
        try:
            decoded = decode_rle([entries[n] for n in present])  # type: ignore[misc]
        except ValueError as error:
            frame = int(self._table.frame[rows.start])
            raise InputError(f"{self._table.source}, frame {frame}: {error}") from error
        masks = PackedMasks.empty(*decoded.size, len(entries))
        masks.bits[present] = decoded.bits
        return masks


def _mask_size(table: AnnotationTable) -> tuple[int, int] | None:
    """`(H, W)` of the first mask of a table."""
    entry = next((entry for entry in table.segmentation or () if entry is not None), None)
    try:
        return None if entry is None else (int(entry["size"][0]), int(entry["size"][1]))
    except (KeyError, TypeError, ValueError, IndexError):
        return None  # whoever decodes it says so


class MaskArchiveVideo(TrackedVideo):
    """One or more levels of a mask run, from their frame-major archives.

    Args:
        archives: by level; None: the objects have no level.
        info: of the video.
    """

    def __init__(self, archives: Mapping[int | None, VideoSegments], info: VideoInfo) -> None:
        self._archives, self.info = dict(archives), info
        self.has_levels = None not in self._archives
        self.has_classes = any(archive.info.classes for archive in self._archives.values())

    def frames(self, *, with_masks: bool = True) -> Iterator[tuple[FrameIndex, Tracks]]:
        """Every frame, read now."""
        for index in self.info.indices:
            parts = []
            for level, archive in self._archives.items():
                if with_masks:
                    parts.append(Tracks.from_frames([archive.frame(index)], level=level))
                else:
                    parts.append(archive.boxes(index, level))
            yield FrameIndex(int(index)), parts[0] if len(parts) == 1 else Tracks.concat(parts)


class TrackArchiveVideo(TrackedVideo):
    """The tracks of a box run, or of what was exported as such an archive.

    Args:
        archive: the tracks.
        info: of the video; None: what the archive says.
    """

    def __init__(self, archive: TracksArchive, info: VideoInfo | None = None) -> None:
        self._archive = archive
        recorded = archive.metadata.get("video")
        own = info_from_json(recorded, archive.path, archive.last + 1) if info is None or recorded else info
        names = (info or own).class_names or own.class_names or archive.class_names
        self.info = replace(own if info is None else info, class_names=names)
        if self.info.size is None and archive.mask_size is not None:
            self.info = replace(self.info, size=archive.mask_size)
        self.has_masks = archive.has_masks

    def frames(self, *, with_masks: bool = True) -> Iterator[tuple[FrameIndex, Tracks]]:
        """Every frame; one part of the archive is in memory at a time."""
        parts = (rows.tracks for rows in self._archive.parts(with_masks=with_masks))
        held: dict[int, Tracks] = {}
        last = -1
        for index in self.info.indices:
            while last < index:
                part = next(parts, None)
                if part is None:
                    break
                held |= {int(frame): tracks for frame, tracks in part}
                last = int(part.frame[-1])
            yield FrameIndex(int(index)), held.pop(int(index), Tracks.empty())


class TracksVideo(TrackedVideo):
    """Tracks in memory.

    Args:
        tracks: of one video.
        info: of the video; None: its frames are those up to the last observation.
    """

    def __init__(self, tracks: Tracks, info: VideoInfo | None = None) -> None:
        self._tracks = tracks
        count = int(tracks.frame[-1]) + 1 if len(tracks) else 0
        size = None if tracks.masks is None else tracks.masks.size
        self.info = info or VideoInfo("video", range(count), unlisted_names(count), size)
        self.has_masks, self.has_levels = tracks.masks is not None, tracks.level is not None

    def frames(self, *, with_masks: bool = True) -> Iterator[tuple[FrameIndex, Tracks]]:
        """Every frame."""
        for index in self.info.indices:
            tracks = self._tracks.at(index)
            yield FrameIndex(int(index)), tracks if with_masks else replace(tracks, masks=None)


# --- what is known of the video, as JSON beside the rows --------------------------------------------------------------


def info_to_json(info: VideoInfo) -> dict[str, Any]:
    """What the metadata of an archive or a table holds of a video."""
    return {
        "name": info.name,
        "size": None if info.size is None else list(info.size),
        "rate": info.rate,
        "indices": [int(index) for index in info.indices],
        "names": list(info.names),
        "times": None if info.times is None else [float(time) for time in info.times],
        "classes": {str(number): name for number, name in info.class_names.items()},
    }


def info_from_json(record: Any, path: Path, length: int) -> VideoInfo:
    """Inverse of `info_to_json`; without a record, `length` frames without names.

    Raises:
        ArtifactError: the record is damaged.
    """
    if record is None:
        if length > MOST_UNLISTED:
            raise ArtifactError(f"{path}: frame {length - 1} is too large")
        return VideoInfo(path.stem, range(length), unlisted_names(length))
    try:
        indices, names, times = [int(index) for index in record["indices"]], record["names"], record["times"]
        size, rate = record["size"], record["rate"]
        if len(names) != len(indices) or (times is not None and len(times) != len(indices)):
            raise ValueError(f"{len(indices)} frames, but {len(names)} names")
        _check_increasing(indices)
        checked = None if size is None else (int(size[0]), int(size[1]))
        if checked is not None and min(checked) < 1:
            raise ValueError(f"a size of {checked}")
        return VideoInfo(
            str(record["name"]),
            indices,
            [str(name) for name in names],
            checked,
            None if times is None else [float(time) for time in times],
            None if rate is None else float(rate),
            {int(number): str(name) for number, name in record["classes"].items()},
        )
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        raise ArtifactError(f"{path}: what it says of the video lacks or misspells {error}") from None


def _check_increasing(indices: Sequence[int]) -> None:
    if any(later <= earlier for earlier, later in pairwise(indices)) or (indices and indices[0] < 0):
        raise ValueError("frames that do not follow each other")


def info_from_text(text: str, path: Path, length: int) -> VideoInfo:
    """The same from JSON text."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        raise ArtifactError(f"{path}: what it says of the video is not JSON") from None
    return info_from_json(record, path, length)


def listed_frames(info: VideoInfo) -> dict[str, Any]:
    """What a file says of its video, as the shared fields of an `AnnotationTable`."""
    return {
        "frame_names": info.names,
        "frame_numbers": info.indices,
        "times": info.times,
        "rate": info.rate,
        "size": info.size,
        "video": info.name,
    }


def collected(video: TrackedVideo) -> Tracks:
    """All objects of a video in memory; a frame's rows without masks have empty ones."""
    parts: list[Tracks] = [tracks for _, tracks in video.frames() if len(tracks)]
    return Tracks.concat(list(_with_masks(parts)))


def _with_masks(parts: Iterable[Tracks]) -> Iterator[Tracks]:
    parts = list(parts)
    size = next((part.masks.size for part in parts if part.masks is not None), None)
    for part in parts:
        if size is not None and part.masks is None:
            yield replace(part, masks=PackedMasks.empty(*size, len(part)))
        else:
            yield part
