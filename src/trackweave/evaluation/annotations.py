"""The two sides of a comparison, truth and result, frame by frame, whatever file or folder they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.formats.davis import VOID, frame_stem, read_label_png
from trackweave.formats.tables import AnnotationTable
from trackweave.masks.ops import rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.track_archive import TracksArchive
from trackweave.structures.tracks import FrameObjects

Size = tuple[int, int]
SOME_SIZE: Size = (1, 1)
"""Of no masks, where nobody knows a size."""


@dataclass(frozen=True, eq=False)
class FrameItems:
    """N objects of one frame.

    Attributes:
        ids: `(N,)` int64.
        class_id: `(N,)` int64; −1 = not said.
        xyxy: `(N, 4)` float64 in the side's own pixels.
        counts: `(N,)` bool, see `AnnotationTable`.
        is_hard: `(N,)` bool, see `AnnotationTable`.
        masks: N masks, or None.
        void: one mask of pixels that nobody is to judge, or None.
        is_missing: there is no file for this frame, where there could be one.
    """

    ids: NDArray[np.int64]
    class_id: NDArray[np.int64]
    xyxy: NDArray[np.float64]
    counts: NDArray[np.bool_]
    is_hard: NDArray[np.bool_]
    masks: PackedMasks | None = None
    void: PackedMasks | None = None
    is_missing: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: NDArray[np.bool_]) -> FrameItems:
        masks = None if self.masks is None else self.masks[index]
        return FrameItems(
            self.ids[index],
            self.class_id[index],
            self.xyxy[index],
            self.counts[index],
            self.is_hard[index],
            masks,
            self.void,
            self.is_missing,
        )

    @classmethod
    def of(
        cls,
        ids: NDArray[np.int64],
        masks: PackedMasks,
        *,
        boxes: NDArray[np.floating] | None = None,
        void: PackedMasks | None = None,
        is_missing: bool = False,
    ) -> FrameItems:
        """Objects without classes that all count; boxes are the masks' unless given."""
        n = len(ids)
        xyxy = np.asarray(masks.boxes if boxes is None else boxes, np.float64).reshape(-1, 4)
        return cls(ids, np.full(n, -1), xyxy, np.ones(n, np.bool_), np.zeros(n, np.bool_), masks, void, is_missing)


class Side(Protocol):
    """One video of the truth or of the results."""

    @property
    def source(self) -> str:
        """What messages call it."""

    @property
    def length(self) -> int | None:
        """Frames of the video, when known."""

    @property
    def last(self) -> int:
        """Frames up to the last that has an object."""

    @property
    def origin(self) -> int:
        """Coordinate of the top left pixel."""

    @property
    def size(self) -> Size | None:
        """`(H, W)` of the frames, when known."""

    @property
    def frame_names(self) -> Sequence[str] | None:
        """File name of each frame, when known."""

    @property
    def class_names(self) -> Mapping[int, str]:
        """What classes are called; empty where nobody says."""

    @property
    def has_masks(self) -> bool:
        """Are there masks?"""

    def at(self, frame: int, *, with_masks: bool) -> FrameItems:
        """The objects of a frame.

        Raises:
            InputError: they cannot be read.
        """

    def close(self) -> None:
        """Lets files go."""


class TableSide:
    """Rows of a file: MOT, KITTI, COCO-VID, YouTube-VIS."""

    def __init__(self, table: AnnotationTable) -> None:
        self.table = table
        self.source, self.length, self.size = table.source, table.length, table.size
        self.origin, self.frame_names, self.class_names = table.origin, table.frame_names, table.class_names
        self.has_masks = table.segmentation is not None

    @property
    def last(self) -> int:
        """Frames up to the last that has an object."""
        return int(self.table.frame[-1]) + 1 if len(self.table) else 0

    def at(self, frame: int, *, with_masks: bool) -> FrameItems:
        """The objects of a frame; a row without box gets that of its mask."""
        table, rows = self.table, self.table.rows(frame)
        boxes = table.xyxy[rows]
        has_gap = bool(np.isnan(boxes).any())
        masks = table.masks(rows) if with_masks or has_gap else None
        if has_gap and masks is not None:
            boxes = np.where(np.isnan(boxes), masks.boxes, boxes)
        columns = (table.track_id[rows], table.class_id[rows], boxes, table.counts[rows], table.is_hard[rows])
        return FrameItems(*columns, masks)

    def close(self) -> None:
        """Nothing is open."""


class LabelFolderSide:
    """A folder of label images, one per frame, as DAVIS has them.

    Args:
        folder: the images.
        names: names of the frames to look for; None: those of the folder, in order. A frame without a file is empty.
    """

    origin = 0
    has_masks = True
    class_names: Mapping[int, str] = {}

    def __init__(self, folder: Path, names: Sequence[str] | None = None) -> None:
        self.source = str(folder)
        self._files = {path.stem: path for path in sorted(folder.glob("*.png"))}
        self._stems = list(self._files) if names is None else [frame_stem(name) for name in names]
        self.frame_names: Sequence[str] = self._stems
        self.length: int | None = len(self._stems)
        self.last = len(self._stems)
        self.size: Size | None = None

    def check(self) -> None:
        """Is there anything?

        Raises:
            InputError: no such folder, or no label image of these frames in it.
        """
        if not self._files:
            raise InputError(f"{self.source}: holds no label images (*.png)")
        if not self._files.keys() & set(self._stems):
            raise InputError(
                f"{self.source}: its images are named like {next(iter(self._files))}.png, "
                f"the frames of the ground truth like {self._stems[0]}"
            )

    def at(self, frame: int, *, with_masks: bool) -> FrameItems:
        """The labels of one image; pixels of label 255 are void."""
        path = self._files.get(self._stems[frame]) if frame < len(self._stems) else None
        if path is None:
            return FrameItems.of(np.zeros(0, np.int64), PackedMasks.empty(*SOME_SIZE), is_missing=True)
        labels = read_label_png(path)
        ids = np.array([label for label in np.unique(labels) if label not in (0, VOID)], np.int64)
        height, width = labels.shape
        masks = PackedMasks.empty(height, width, len(ids))
        for row, label in enumerate(ids):  # one unpacked mask at a time
            masks.bits[row] = np.packbits(labels == label)
        void = PackedMasks.from_bool(labels == VOID) if (labels == VOID).any() else None
        return FrameItems.of(ids, masks, void=void)

    def close(self) -> None:
        """Nothing is open."""


class SegmentsSide:
    """One level of a mask run of ours.

    Args:
        video: its frame-major archive.
        frames: absolute index in the run of each frame of the truth; None: they are the same.
        size: `(H, W)` of the run's frames.
    """

    origin = 0
    has_masks = True
    class_names: Mapping[int, str] = {}
    frame_names: Sequence[str] | None = None

    def __init__(self, video: VideoSegments, frames: Sequence[int | None] | None, size: Size) -> None:
        self._video, self._frames = video, frames
        self.source, self.size = str(video.path), size
        self.length: int | None = None if frames is None else len(frames)

    @property
    def last(self) -> int:
        """Frames up to the last that has an object."""
        if self._frames is not None:
            return len(self._frames)
        return int(self._video.frames[-1]) + 1 if len(self._video) else 0

    def at(self, frame: int, *, with_masks: bool) -> FrameItems:
        """The objects of a frame; masks at the frame's size, whatever they are stored at."""
        index = frame if self._frames is None else self._frames[frame]
        if index is None:
            return FrameItems.of(np.zeros(0, np.int64), PackedMasks.empty(*self.size), is_missing=True)
        found: FrameObjects = self._video.frame(index)
        if not with_masks:
            return FrameItems.of(found.track_id, found.masks, boxes=found.xyxy)
        return FrameItems.of(found.track_id, rescale_masks(found.masks, *self.size), boxes=found.xyxy)

    def close(self) -> None:
        """Closes the archive."""
        self._video.close()


class ArchiveSide:
    """A run of boxes of ours whose detections had masks.

    Args:
        archive: its tracks.
    """

    origin = 0
    has_masks = True
    length: int | None = None
    size: Size | None = None
    frame_names: Sequence[str] | None = None
    class_names: Mapping[int, str] = {}

    def __init__(self, archive: TracksArchive) -> None:
        self._archive = archive
        self.source = str(archive.path)
        self.last = archive.last + 1

    def at(self, frame: int, *, with_masks: bool) -> FrameItems:
        """The tracks of a frame."""
        tracks = self._archive.at(frame)
        n = len(tracks)
        boxes = tracks.xyxy.astype(np.float64)
        return FrameItems(
            tracks.track_id, tracks.class_id, boxes, np.ones(n, np.bool_), np.zeros(n, np.bool_), tracks.masks
        )

    def close(self) -> None:
        """Closes the archive."""
        self._archive.close()


class EmptySide:
    """Nothing was found.

    Args:
        name: of the sequence.
    """

    origin = last = 0
    has_masks = True
    length: int | None = None
    size: Size | None = None
    frame_names: Sequence[str] | None = None
    class_names: Mapping[int, str] = {}

    def __init__(self, name: str) -> None:
        self.source = f"no result of {name}"

    def at(self, frame: int, *, with_masks: bool) -> FrameItems:
        """No object."""
        return FrameItems.of(np.zeros(0, np.int64), PackedMasks.empty(*SOME_SIZE), is_missing=True)

    def close(self) -> None:
        """Nothing is open."""


def comparable(truth: FrameItems, tracks: FrameItems, where: str) -> tuple[PackedMasks, FrameItems]:
    """Masks of one frame's truth, and its tracks with masks of that size, void pixels taken away.

    Tracks that only showed void pixels are gone.

    Raises:
        InputError: masks of different sizes, or objects without masks.
    """
    for items, whose in ((truth, "the ground truth"), (tracks, "the result")):
        if items.masks is None and len(items):
            raise InputError(f"{where}: {whose} has boxes without masks: --by boxes compares boxes")
    sizes = [items.masks.size for items in (truth, tracks) if items.masks is not None and not items.is_missing]
    size = sizes[0] if sizes else SOME_SIZE
    if len(tracks) and sizes[-1] != size:
        raise InputError(f"{where}: masks of {sizes[-1]}, but {size} in the ground truth (height, width)")
    true_masks = truth.masks if truth.masks is not None and len(truth) else PackedMasks.empty(*size)
    masks = tracks.masks if tracks.masks is not None and len(tracks) else PackedMasks.empty(*size)
    if truth.void is not None and len(masks):
        masks = PackedMasks(masks.bits & ~truth.void.bits, *size)
        left = masks.areas > 0
        return true_masks, replace(tracks, masks=masks)[left]
    return true_masks, replace(tracks, masks=masks)


def place(side: Side, frame: int) -> str:
    """A frame of a side, for messages; by its name where frames have names."""
    names = side.frame_names
    return f"{side.source}, frame {frame if names is None or frame >= len(names) else names[frame]}"


def masks_of(items: FrameItems) -> PackedMasks:
    """The masks of items that `comparable` gave."""
    assert items.masks is not None
    return items.masks
