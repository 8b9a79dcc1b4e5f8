"""`TrackedVideo`: a video's objects frame by frame, whatever they come from; what every export reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trackweave.ids import FrameIndex
from trackweave.masks.ops import rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracks import FrameObjects, Tracks

Colours = Callable[[int], tuple[int, int, int]]
"""The colour of a track, RGB 0 … 255."""
Pictures = Callable[[FrameIndex], NDArray[np.uint8]]
"""The picture of a frame, `(H, W, 3)` uint8 RGB."""
DEFAULT_CLASS = "object"
"""What an object without class is called in formats where each has one."""


class RangePositions(Mapping[int, int]):
    """Position by absolute index where the indices are a range: however long, it holds nothing.

    >>> positions = RangePositions(range(10, 10**9, 5))
    >>> positions[20], 21 in positions, len(positions)
    (2, False, 199999998)
    """

    def __init__(self, indices: range) -> None:
        self._indices = indices

    def __getitem__(self, index: int) -> int:
        try:
            return self._indices.index(int(index))  # of an int at once; NumPy's would be looked for one by one
        except ValueError:
            raise KeyError(index) from None

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int | np.integer) and int(index) in self._indices

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video besides its objects.

    Attributes:
        name: of the video.
        indices: absolute index of each frame, strictly increasing.
        names: file name or label of each frame.
        size: `(H, W)` of the frames, or None.
        times: seconds of each frame, or None.
        rate: frames per second, or None.
        class_names: names of the classes by number.
        default_class: the name that stands for no class where the source gives each object one.
    """

    name: str
    indices: Sequence[int]
    names: Sequence[str]
    size: tuple[int, int] | None = None
    times: Sequence[float] | None = None
    rate: float | None = None
    class_names: Mapping[int, str] = field(default_factory=dict)
    default_class: str = DEFAULT_CLASS

    @cached_property
    def positions(self) -> Mapping[int, int]:
        """Position by absolute index."""
        if isinstance(self.indices, range):
            return RangePositions(self.indices)
        return {int(index): position for position, index in enumerate(self.indices)}

    def time_of(self, index: int) -> float | None:
        """Seconds of a frame: its time stamp, or what the rate says; None when neither is known."""
        if self.times is not None:
            return float(self.times[self.positions[int(index)]])
        return None if self.rate is None else int(index) / self.rate

    def class_name(self, class_id: int) -> str:
        """The name of a class; `object` for none, `class_7` for one without a name.

        >>> VideoInfo("v", [], [], class_names={1: "cat"}).class_name(1)
        'cat'
        """
        if class_id < 0:
            return DEFAULT_CLASS
        return self.class_names.get(class_id, f"class_{class_id}")

    def is_class(self, class_id: int) -> bool:
        """Does a class say anything, or does it stand for none?

        >>> info = VideoInfo("v", [], [], class_names={1: "cat", 2: "object"})
        >>> info.is_class(1), info.is_class(2), info.is_class(-1)
        (True, False, False)
        """
        return class_id >= 0 and self.class_names.get(class_id) != self.default_class


class TrackedVideo(ABC):
    """The objects of a video. It may be gone through several times.

    Attributes:
        info: of the video.
        has_masks: may objects have masks?
        has_levels: are the objects of several levels of granularity?
        has_classes: may objects have a class?
        pictures: the frames' pictures, where they are at hand.
        colours: of its objects; None = by their ids alone.
    """

    info: VideoInfo
    has_masks: bool = True
    has_levels: bool = False
    has_classes: bool = True
    pictures: Pictures | None = None
    colours: Colours | None = None

    @abstractmethod
    def frames(self, *, with_masks: bool = True) -> Iterator[tuple[FrameIndex, Tracks]]:
        """Every frame of `info` in order, also those without objects, one at a time.

        Masks are at any scale; an empty mask means that an object has none.
        """

    def sized_frames(self) -> Iterator[tuple[FrameIndex, Tracks]]:
        """The same with the masks at the size of the frames; without masks where there are none."""
        for index, tracks in self.frames(with_masks=self.has_masks):
            masks, size = tracks.masks, self.info.size
            if masks is not None and size is not None and masks.size != size:
                yield index, replace(tracks, masks=rescale_masks(masks, *size))
            else:
                yield index, tracks

    def spans(self) -> dict[int, TrackSpan]:
        """Where each object is seen, by its id, ascending; goes through the video once, without masks."""
        spans: dict[int, TrackSpan] = {}
        for index, tracks in self.frames(with_masks=False):
            sides = tracks.xyxy[:, 2:] - tracks.xyxy[:, :2]
            rows = zip(tracks.track_id.tolist(), sides.tolist(), tracks.class_id.tolist(), strict=True)
            for track_id, (width, height), class_id in rows:
                span = spans.get(track_id)
                if span is None:
                    spans[track_id] = TrackSpan(int(index), int(index), 1, width, height, class_id)
                else:
                    span.last, span.count = int(index), span.count + 1
                    span.width, span.height = max(span.width, width), max(span.height, height)
        return dict(sorted(spans.items()))


@dataclass
class TrackSpan:
    """Where an object is seen.

    Attributes:
        first: index of its first frame.
        last: index of its last frame.
        count: frames that it is seen on.
        width: of its widest box.
        height: of its highest box.
        class_id: on its first frame.
    """

    first: int
    last: int
    count: int
    width: float
    height: float
    class_id: int


class Losses:
    """What a format cannot hold of a video: counted, and said once for each kind.

    Attributes:
        counts: how many, by kind.
        log: takes what else there is to say about the files.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.log = RunLog(package=None)
        self._texts: dict[str, str] = {}

    def add(self, code: str, text: str, count: int = 1) -> None:
        """Counts something; `text` says what, after the number: `3 masks are left out`."""
        if count:
            self.counts[code] += count
            self._texts.setdefault(code, text)

    def report(self, log: RunLog, where: object) -> None:
        """Hands one warning for each kind to a log, and the others."""
        log.merge(self.log.warnings)
        for code, count in self.counts.items():
            log.warn("export", code, f"{where}: {count} {self._texts[code]}", count=count)


def shown_objects(
    index: FrameIndex, name: str, tracks: Tracks, losses: Losses, *, may_overlap: bool
) -> FrameObjects | None:
    """What a format of masks holds of a frame: the objects that have one; None without any.

    Args:
        index: of the frame.
        name: of the frame.
        tracks: its objects.
        losses: counts the objects without a mask.
        may_overlap: False: frames on which masks overlap are counted too.
    """
    masks = tracks.masks
    is_there = np.zeros(len(tracks), np.bool_) if masks is None else masks.areas > 0
    losses.add("no-mask", "objects without a mask are left out", int((~is_there).sum()))
    if masks is None or not is_there.any():
        return None
    if not is_there.all():
        tracks = tracks[is_there]
        masks = tracks.masks
        assert masks is not None
    if not may_overlap and len(masks) > 1:
        union = PackedMasks(np.bitwise_or.reduce(masks.bits, axis=0, keepdims=True), *masks.size)
        if int(union.areas[0]) < int(masks.areas.sum()):
            losses.add("overlap", "frames have masks that overlap: a pixel shows the smaller object")
    return FrameObjects(index, name, tracks.track_id, masks, tracks.xyxy, masks.areas, tracks.score)


def without_overlap(masks: PackedMasks) -> PackedMasks:
    """The same masks, each pixel in one of them: the smallest that has it; one that lies behind others is empty."""
    if len(masks) < 2:
        return masks
    bits = masks.bits.copy()
    taken = np.zeros_like(bits[0])
    for n in np.argsort(masks.areas, kind="stable").tolist():
        bits[n] &= ~taken
        taken |= masks.bits[n]
    return PackedMasks(bits, *masks.size)
