"""Sources of annotations: ground truth or results of one video, frame by frame, whatever they come from."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, argument
from trackweave.formats.davis import VOID, LabelPixels, frame_stem, read_label_pixels
from trackweave.formats.tables import AnnotationTable
from trackweave.formats.videos import unlisted_names
from trackweave.ids import FrameIndex
from trackweave.masks.ops import rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.track_archive import TracksArchive
from trackweave.structures.columns import Columns
from trackweave.structures.tracked_video import TrackedVideo
from trackweave.structures.tracks import Tracks

Size = tuple[int, int]
NO_SIZE: Size = (1, 1)
"""Size of an empty set of masks where the size of the frame is not known."""


@dataclass(frozen=True, eq=False)
class FrameAnnotations(Columns):
    """N objects of one frame.

    Attributes:
        track_id: `(N,)` int64.
        class_id: `(N,)` int64; −1 = not said.
        xyxy: `(N, 4)` float64 in the source's own pixels.
        counts: `(N,)` bool, see `AnnotationTable`.
        is_hard: `(N,)` bool, see `AnnotationTable`.
        masks: N masks, or None.
        void: one mask of the pixels that are not scored, or None.
        is_missing: there is no file for this frame, where there could be one.
    """

    SHARED: ClassVar[tuple[str, ...]] = ("void", "is_missing")

    track_id: NDArray[np.int64]
    class_id: NDArray[np.int64]
    xyxy: NDArray[np.float64]
    counts: NDArray[np.bool_]
    is_hard: NDArray[np.bool_]
    masks: PackedMasks | None = None
    void: PackedMasks | None = None
    is_missing: bool = False

    @classmethod
    def of(
        cls,
        track_id: NDArray[np.int64],
        masks: PackedMasks,
        *,
        boxes: NDArray[np.floating] | None = None,
        void: PackedMasks | None = None,
        is_missing: bool = False,
    ) -> FrameAnnotations:
        """Objects without classes that all count; boxes are the masks' unless given."""
        n = len(track_id)
        xyxy = np.asarray(masks.boxes if boxes is None else boxes, np.float64).reshape(-1, 4)
        return cls(track_id, np.full(n, -1), xyxy, np.ones(n, np.bool_), np.zeros(n, np.bool_), masks, void, is_missing)


class AnnotationSource(ABC):
    """One video of the ground truth or of the results.

    Attributes:
        source: its name in messages.
        length: frames of the video, or None.
        size: `(H, W)` of the frames, or None.
        origin: coordinate of the top left pixel.
        frame_names: file name of each frame, or None.
        class_names: names of the classes by number; empty where the source has none.
        has_masks: whether there are masks.
        needs_named_classes: objects have classes, which are scored only where they are named.
        notes: what a reader of the scores should know of it; each goes on after "the result" or "the ground truth".
    """

    source: str
    length: int | None = None
    size: Size | None = None
    origin: int = 0
    frame_names: Sequence[str] | None = None
    class_names: Mapping[int, str] = {}
    has_masks: bool = True
    needs_named_classes: bool = False

    @property
    def notes(self) -> Sequence[str]:
        return ()

    @property
    def occupied(self) -> NDArray[np.int64] | None:
        """The frames that can have an object, ascending; None: any up to `last`."""
        return None

    @property
    @abstractmethod
    def last(self) -> int:
        """Frames up to the last that has an object."""

    @abstractmethod
    def at(self, frame: int, *, with_masks: bool) -> FrameAnnotations:
        """The objects of a frame.

        Raises:
            InputError: they cannot be read.
        """

    def coarser_at(self, frame: int) -> FrameAnnotations | None:
        """The objects of the next coarser level, with masks; None where there is no such level."""
        return None

    def close(self) -> None:
        """Closes files."""
        return


class TableAnnotations(AnnotationSource):
    """Rows of a file: MOT, KITTI, COCO-VID, YouTube-VIS; for the notes see `AnnotationSource`."""

    def __init__(self, table: AnnotationTable, notes: Sequence[str] = ()) -> None:
        self.table, self._notes = table, notes
        self.source, self.length, self.size = table.source, table.length, table.size
        self.origin, self.frame_names, self.class_names = table.origin, table.frame_names, table.class_names
        self.has_masks = table.segmentation is not None

    @property
    def notes(self) -> Sequence[str]:
        return self._notes

    @property
    def last(self) -> int:
        return int(self.table.frame[-1]) + 1 if len(self.table) else 0

    @property
    def occupied(self) -> NDArray[np.int64]:
        return self.table.frames

    def at(self, frame: int, *, with_masks: bool) -> FrameAnnotations:
        """The objects of a frame; a row without box gets that of its mask."""
        table, rows = self.table, self.table.rows(frame)
        boxes = table.xyxy[rows]
        has_gap = bool(np.isnan(boxes).any())
        masks = table.masks(rows) if with_masks or has_gap else None
        if has_gap and masks is not None:
            boxes = np.where(np.isnan(boxes), masks.boxes, boxes)
        columns = (table.track_id[rows], table.class_id[rows], boxes, table.counts[rows], table.is_hard[rows])
        return FrameAnnotations(*columns, masks)


class LabelFolderAnnotations(AnnotationSource):
    """A folder of label images, one per frame, as DAVIS has them.

    Label 255 is void in images of 8 bits with a palette, and an id in all others. Where no image of the folder has
    another label than 0 and 255 (16 bits: 65535), as in DAVIS 2016, they are black and white masks of one object, id 1;
    without palettes, some images may hold 0 and 1 instead.

    Args:
        folder: the images.
        names: names of the frames to look for; None: those of the folder, in order. A frame without a file is empty.
            Where no name is the same, but the numbers at their ends are the same set, these count.
    """

    def __init__(self, folder: Path, names: Sequence[str] | None = None) -> None:
        self.source = str(folder)
        self._files = {path.stem: path for path in label_images(folder)}
        self._stems = list(self._files) if names is None else [frame_stem(name) for name in names]
        self._own_name = ""
        if self._files and not self._files.keys() & set(self._stems):
            by_number = {_last_number(stem): path for stem, path in self._files.items()}
            numbers = [_last_number(stem) for stem in self._stems]
            is_one_series = len(by_number) == len(self._files) and len(set(numbers)) == len(numbers)
            if None not in by_number and is_one_series and by_number.keys() == set(numbers):
                self._own_name = next(iter(self._files))
                self._files = {stem: by_number[number] for stem, number in zip(self._stems, numbers, strict=True)}
        self.frame_names = self._stems
        self.length = len(self._stems)
        self._has_grey_255 = False

    @property
    def last(self) -> int:
        return len(self._stems)

    def check(self) -> None:
        """Is there a label image of any of these frames?

        Raises:
            InputError: no such folder, or no label image of these frames in it.
        """
        if not self._files:
            raise InputError(f"{self.source}: holds no label images (*.png)")
        if not self._files.keys() & set(self._stems):
            raise InputError(
                f"{self.source}: its images are named like {next(iter(self._files))}.png, "
                f"the frames of the ground truth like {self._stems[0]}: rename them, or score the run that wrote them"
            )

    def at(self, frame: int, *, with_masks: bool) -> FrameAnnotations:
        """The labels of one image, without its void pixels."""
        path = self._files.get(self._stems[frame]) if frame < len(self._stems) else None
        if path is None:
            return _missing(NO_SIZE)
        image = read_label_pixels(path)
        if self.is_black_and_white:
            image = LabelPixels((image.labels > 0).astype(np.int32), image.is_eight_bit)
        self._has_grey_255 |= not image.has_palette and image.is_eight_bit and bool((image.labels == VOID).any())
        void = image.void
        labels = np.where(void, 0, image.labels)
        ids = np.unique(labels[labels > 0]).astype(np.int64)
        height, width = labels.shape
        masks = PackedMasks.empty(height, width, len(ids))
        for row, label in enumerate(ids):  # one unpacked mask at a time
            masks.bits[row] = np.packbits(labels == label)
        return FrameAnnotations.of(ids, masks, void=PackedMasks.from_bool(void) if void.any() else None)

    @cached_property
    def is_black_and_white(self) -> bool:
        """All images are masks of one object, and at least one is black and white."""
        has_white = False
        for path in self._files.values():
            image = read_label_pixels(path)
            white = image.labels == image.white
            others = image.labels[~white & (image.labels > 0)]
            if len(others) and (image.has_palette or white.any() or np.any(others != 1)):
                return False
            has_white |= bool(white.any())
        return has_white

    @property
    def notes(self) -> Sequence[str]:
        other = (f"is named like {self._own_name}.png, the ground truth like {self._stems[0]}: numbers count",)
        return (*(other if self._own_name else ()), *self._notes_on_labels())

    def _notes_on_labels(self) -> Sequence[str]:
        if self.is_black_and_white:
            return ("holds black and white masks (0 and 255): one object, id 1",)
        if self._has_grey_255:
            return ("has label 255 in grey images: an object there, void only in images with a palette",)
        return ()


def _last_number(stem: str) -> int | None:
    """The number at the end of a name.

    >>> _last_number("frame_000012"), _last_number("left")
    (12, None)
    """
    found = re.search(r"\d{1,15}$", stem)
    return int(found[0]) if found else None


def label_images(folder: Path) -> list[Path]:
    """The label images of a folder, by name; hidden files, such as the `._` of macOS, are none."""
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))


class MaskRunAnnotations(AnnotationSource):
    """One level of a mask run of ours.

    Args:
        video: its frame-major archive.
        frames: absolute index in the run of each frame of the ground truth; None: they are the same.
        size: `(H, W)` of the run's frames.
        notes: see `AnnotationSource`.
        coarser: the archive of the next coarser level, or None.

    Its classes are those of the level's candidates.
    """

    def __init__(
        self,
        video: VideoSegments,
        frames: Sequence[int | None] | None,
        size: Size,
        notes: Sequence[str] = (),
        coarser: VideoSegments | None = None,
    ) -> None:
        self._video, self._frames, self._size, self._notes = video, frames, size, notes
        self._coarser = coarser
        self.source, self.size = str(video.path), size
        self.length = None if frames is None else len(frames)
        self.class_names = video.info.classes.names

    @property
    def last(self) -> int:
        if self._frames is not None:
            return len(self._frames)
        return int(self._video.frames[-1]) + 1 if len(self._video) else 0

    @property
    def occupied(self) -> NDArray[np.int64] | None:
        return None if self._frames is not None else np.asarray(self._video.frames, np.int64)

    @property
    def notes(self) -> Sequence[str]:
        return self._notes

    def at(self, frame: int, *, with_masks: bool) -> FrameAnnotations:
        """The objects of a frame; masks at the frame's size, whatever they are stored at."""
        return self._read(self._video, frame, with_masks)

    def coarser_at(self, frame: int) -> FrameAnnotations | None:
        return None if self._coarser is None else self._read(self._coarser, frame, with_masks=True)

    def _read(self, video: VideoSegments, frame: int, with_masks: bool) -> FrameAnnotations:
        index = frame if self._frames is None else self._frames[frame]
        if index is None:
            return _missing(self._size)
        objects = video.frame(index)
        masks = rescale_masks(objects.masks, *self._size) if with_masks else objects.masks
        found = FrameAnnotations.of(objects.track_id, masks, boxes=objects.xyxy)
        return found if objects.class_id is None else replace(found, class_id=objects.class_id)

    def close(self) -> None:
        self._video.close()
        if self._coarser is not None:
            self._coarser.close()


class BoxRunAnnotations(AnnotationSource):
    """A box run of ours whose detections had masks.

    Args:
        archive: its tracks.
        notes: see `AnnotationSource`.
    """

    def __init__(self, archive: TracksArchive, notes: Sequence[str] = ()) -> None:
        self._archive, self._notes = archive, notes
        self.source, self.class_names = str(archive.path), archive.class_names

    @property
    def notes(self) -> Sequence[str]:
        return self._notes

    @property
    def last(self) -> int:
        return self._archive.last + 1

    @property
    def occupied(self) -> NDArray[np.int64]:
        parts = [rows.tracks.frame for rows in self._archive.parts(with_masks=False)]
        return np.unique(np.concatenate([*parts, np.zeros(0, np.int64)]))

    def at(self, frame: int, *, with_masks: bool) -> FrameAnnotations:
        tracks = self._archive.at(frame)
        n, boxes = len(tracks), tracks.xyxy.astype(np.float64)
        counts, is_hard = np.ones(n, np.bool_), np.zeros(n, np.bool_)
        return FrameAnnotations(tracks.track_id, tracks.class_id, boxes, counts, is_hard, tracks.masks)

    def close(self) -> None:
        self._archive.close()


class VideoAnnotations(AnnotationSource):
    """A video in any format that `formats.registry` reads, gone through frame by frame.

    Args:
        video: its objects.
        source: its name in messages.
        frame_names: those of the ground truth; frames are theirs by name, else by number. None: this is the truth.
        level: which level of granularity; None: the only one.
        notes: see `AnnotationSource`.

    Raises:
        InputError: several levels and none chosen, or one that is not there.
    """

    def __init__(
        self,
        video: TrackedVideo,
        source: str,
        frame_names: Sequence[str] | None = None,
        level: int | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        info, self._notes = video.info, notes
        self._video, self.source, self.size, self.class_names = video, source, info.size, info.class_names
        self.has_masks = video.has_masks
        names = info.names
        if unlisted_names(len(names)) != names:
            self.frame_names = names
        self._indices: Sequence[int | None] | None = None  # of each frame; None: a frame is its number
        if frame_names is None and self.frame_names is not None:
            self._indices = list(map(int, info.indices))
        elif frame_names:
            index_of = {frame_stem(name): int(index) for name, index in zip(names, info.indices, strict=True)}
            stems = list(map(frame_stem, frame_names))
            if index_of.keys() & set(stems):
                self._indices = [index_of.get(stem) for stem in stems]
        self.length = None if self._indices is None else len(self._indices)
        self._level, self._occupied, self.needs_named_classes = self._look_through(level)
        self._rows: Iterator[tuple[FrameIndex, Tracks]] = iter(())
        self._at, self._held, self._with_masks = -1, Tracks.empty(), False

    def _look_through(self, level: int | None) -> tuple[int | None, NDArray[np.int64], bool]:
        """The level, the frames that have an object of it, and whether any has a class."""
        levels: set[int] = set()
        there: list[int] = []
        has_classes = False
        for index, tracks in self._video.frames(with_masks=False):
            found = set() if tracks.level is None else set(tracks.level.tolist())
            levels |= found
            has_classes |= bool((tracks.class_id >= 0).any())
            if len(tracks) and (level is None or not found or level in found):
                there.append(int(index))
        if (level is None and len(levels) > 1) or (level is not None and levels and level not in levels):
            raise InputError(f"{self.source}: has levels {sorted(levels)}: {argument('level')} names one of them")
        frames = there
        if self._indices is not None:
            frame_of = {index: frame for frame, index in enumerate(self._indices)}
            frames = sorted(frame_of[index] for index in there if index in frame_of)
        return (level if levels else None), np.array(frames, np.int64), has_classes

    @property
    def last(self) -> int:
        return int(self._occupied[-1]) + 1 if len(self._occupied) else 0

    @property
    def occupied(self) -> NDArray[np.int64]:
        return self._occupied

    @property
    def notes(self) -> Sequence[str]:
        return self._notes

    def at(self, frame: int, *, with_masks: bool) -> FrameAnnotations:
        """The objects of a frame; quick in the order of the frames."""
        index = frame if self._indices is None else self._indices[frame] if frame < len(self._indices) else None
        if index is None:
            return _missing(self.size or NO_SIZE)
        tracks = self._read(index, with_masks)
        n, boxes = len(tracks), tracks.xyxy.astype(np.float64)
        if with_masks and n and (tracks.masks is None or not tracks.masks.areas.all()):
            raise InputError(f"{self.source}, frame {frame}: an object has a box and no mask")
        counts, is_hard = np.ones(n, np.bool_), np.zeros(n, np.bool_)
        return FrameAnnotations(tracks.track_id, tracks.class_id, boxes, counts, is_hard, tracks.masks)

    def _read(self, index: int, with_masks: bool) -> Tracks:
        """One frame's objects; begins again for a frame that lies behind."""
        if index < self._at or with_masks is not self._with_masks or self._at < 0:
            self._rows = self._video.sized_frames() if with_masks else self._video.frames(with_masks=False)
            self._at, self._held, self._with_masks = -1, Tracks.empty(), with_masks
        while self._at < index:
            self._at, self._held = next(self._rows, (END, Tracks.empty()))
        tracks = self._held if self._at == index else Tracks.empty()
        return tracks if self._level is None or tracks.level is None else tracks[tracks.level == self._level]


END = FrameIndex(1 << 62)
"""After the last frame of any video."""


class EmptyAnnotations(AnnotationSource):
    """A result without any object.

    Args:
        name: of the sequence.
    """

    last = 0
    occupied = np.zeros(0, np.int64)

    def __init__(self, name: str) -> None:
        self.source = f"no result of {name}"

    def at(self, frame: int, *, with_masks: bool) -> FrameAnnotations:
        return _missing(NO_SIZE)


def _missing(size: Size) -> FrameAnnotations:
    """A frame without a file."""
    return FrameAnnotations.of(np.zeros(0, np.int64), PackedMasks.empty(*size), is_missing=True)


def align_masks(truth: FrameAnnotations, tracks: FrameAnnotations, where: str) -> tuple[PackedMasks, FrameAnnotations]:
    """Masks of one frame's ground truth, and its tracks with masks of that size, without the void pixels.

    Tracks that only have void pixels are left out.

    Raises:
        InputError: masks of different sizes, or objects without masks.
    """
    for items, whose in ((truth, "the ground truth"), (tracks, "the result")):
        if items.masks is None and len(items):
            raise InputError(f"{where}: {whose} has boxes without masks: {argument('by', 'boxes')} compares boxes")
    sizes = [items.masks.size for items in (truth, tracks) if items.masks is not None and not items.is_missing]
    size = sizes[0] if sizes else NO_SIZE
    if len(tracks) and sizes[-1] != size:
        raise InputError(f"{where}: masks of {sizes[-1]}, but {size} in the ground truth (height, width)")
    true_masks = truth.masks if truth.masks is not None and len(truth) else PackedMasks.empty(*size)
    masks = tracks.masks if tracks.masks is not None and len(tracks) else PackedMasks.empty(*size)
    if truth.void is not None and len(masks):
        masks = PackedMasks(masks.bits & ~truth.void.bits, *size)
        left = masks.areas > 0
        return true_masks, replace(tracks, masks=masks)[left]
    return true_masks, replace(tracks, masks=masks)


def frame_label(source: AnnotationSource, frame: int) -> str:
    """A frame of a source, for messages; by its name where frames have names."""
    names = source.frame_names
    return f"{source.source}, frame {frame if names is None or frame >= len(names) else names[frame]}"


def masks_of(items: FrameAnnotations) -> PackedMasks:
    """The masks of what `align_masks` gave."""
    assert items.masks is not None
    return items.masks
