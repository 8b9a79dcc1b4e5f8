"""`FrameSource`: a video as a lazy, random-access sequence of RGB frames; and what all sources share.

Sampling as `start:end:step` in Python slice syntax; `Selection`, a sample of another source; the frames of a source
that cannot be decoded; `FrameCache`, the decoded frames used last.
"""

from __future__ import annotations

import mmap
import operator
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import FrameError, SettingError, wording
from trackweave.ids import FrameIndex
from trackweave.structures.run_log import RunLog

RGBFrame = NDArray[np.uint8]
SHORTEST_STEP = 1e-3
"""Seconds between two frames below which time stamps are not believed."""
_Source = TypeVar("_Source", bound="FrameSource")


class SourceNote(NamedTuple):
    """What a caller should know about a source although its frames can be read.

    Attributes:
        code: machine-readable kind, kebab-case.
        message: one line with the remedy.
        left_out: how many images are there but not among the frames; 0 where nothing is missing.
    """

    code: str
    message: str
    left_out: int


class FrameSource(ABC):
    """A video's frames, read when asked for and never all held.

    *Local* positions `0 … len-1` address this source; `indices[local]` is the *absolute* index of that frame in the
    original video. `select` samples without copying, so a subset of a subset still has its absolute indices.
    Reading the same position twice gives equal arrays; sources are safe to read from several threads.
    """

    path: Path | None
    """Where the frames come from; None for frames that were in memory."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, local: int) -> RGBFrame:
        """Frame at a local position: `(H, W, 3)` uint8, RGB, C-contiguous, not to be written to.

        Raises:
            FrameError: the frame cannot be read or has another size than `size`.
            IndexError: no such position.
        """

    def fault(self, local: int) -> str | None:
        """Why the frame at a local position cannot be read, as far as that shows without decoding all frames: one line.

        None where nothing speaks against it; reading it may fail all the same.
        """
        return None

    def is_there(self, local: int) -> bool:
        """Whether the frame at a local position can be read by now: always, but of streams, whose frames come one by
        one: a caller that reads ahead asks first."""
        return True

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """`(H, W)` in pixels, the same for every frame."""

    @property
    @abstractmethod
    def indices(self) -> Sequence[FrameIndex]:
        """Absolute index of each local position, strictly increasing."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """One name per local position: the image's file name, or `frame_NNNNNN` for videos and arrays."""

    @property
    @abstractmethod
    def times(self) -> Sequence[float] | None:
        """Presentation time in seconds per local position; None where the source has none."""

    @property
    def frame_rate(self) -> float | None:
        """Frames per second by the median step of `times`; None without times, or with steps below a millisecond."""
        times = self.times
        if times is None or len(times) < 2:
            return None
        step = float(np.median(np.diff(np.asarray(times, np.float64))))
        return 1 / step if step > SHORTEST_STEP else None

    @property
    def notes(self) -> Sequence[SourceNote]:
        """What was noticed about the files; empty when there is nothing to say."""
        return ()

    @property
    def late_notes(self) -> Sequence[SourceNote]:
        """What was noticed about the frames that have been decoded so far."""
        return ()

    @property
    def files(self) -> Sequence[Path]:
        """The files behind the frames: an image for each, or the video; empty where frames were in memory."""
        return () if self.path is None else (self.path,)

    @abstractmethod
    def select(self, positions: Sequence[int]) -> FrameSource:
        """The same video, only these local positions (strictly increasing), still lazy."""

    def close(self) -> None:
        """Releases decoders; the source is not used afterwards."""
        return

    def __iter__(self) -> Iterator[RGBFrame]:
        for local in range(len(self)):
            yield self[local]

    def __enter__(self: _Source) -> _Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def parse_sampling(text: str) -> slice:
    """`"start:end:step"` as a slice; each part may be left out, start and end may be negative.

    >>> parse_sampling("10:-5:2")
    slice(10, -5, 2)
    >>> parse_sampling("::3")
    slice(None, None, 3)

    Raises:
        SettingError: not of this form, or a step below 1.
    """
    parts = [part.strip() for part in text.split(":")]
    try:
        numbers = [int(part) if part else None for part in parts]
    except ValueError:
        raise SettingError(f"sampling {text!r} is not start:end:step of whole numbers, as in '10:200:2'") from None
    if len(numbers) == 1:
        raise SettingError(f"sampling {text!r} has no colon: {_one_frame(numbers[0])}")
    if len(numbers) > 3:
        raise SettingError(f"sampling {text!r} has more than three parts: write start:end:step, as in '10:200:2'")
    sampling = slice(*numbers)
    _checked_step(sampling, text)
    return sampling


def sampled_positions(sampling: str | slice | None, count: int) -> range:
    """The positions that a sampling takes of `count` frames; None takes all.

    >>> sampled_positions("-4::2", 10)
    range(6, 10, 2)

    Raises:
        SettingError: a sampling that cannot be understood, steps below 1, or takes no frame.
    """
    if sampling is None:
        return range(count)
    if isinstance(sampling, str):
        text, sampling = sampling, parse_sampling(sampling)
    else:
        parts = (sampling.start, sampling.stop, sampling.step)
        text = ":".join("" if part is None else str(part) for part in parts)
        _checked_step(sampling, text)
    try:
        positions = range(count)[sampling]
    except TypeError:
        raise SettingError(f"sampling {text!r} is not a slice of whole numbers") from None
    if not positions:
        raise SettingError(f"sampling {text!r} takes none of the {count} frames: use positions 0 … {count}")
    return positions


def _checked_step(sampling: slice, text: str) -> None:
    try:
        step = 1 if sampling.step is None else operator.index(sampling.step)
    except TypeError:
        raise SettingError(f"sampling {text!r} is not a slice of whole numbers") from None
    if step < 1:
        raise SettingError(f"sampling {text!r} has step {step}: frames go forward in time, so 1 or more")


def _one_frame(number: int | None) -> str:
    if number is None:
        return "write ':' for all frames, or start:end:step"
    end = "" if number == -1 else number + 1
    return f"for that frame alone write '{number}:{end}', for every {abs(number) or 1}th one '::{abs(number) or 1}'"


def checked_position(local: int, count: int) -> int:
    """`local` as an int in `0 … count-1`.

    Raises:
        IndexError: it is not; negative positions do not count from the end, because they are mostly slips.
    """
    position = operator.index(local)
    if not 0 <= position < count:
        raise IndexError(f"no frame at position {position}: there are {count} frames, 0 … {count - 1}")
    return position


@lru_cache(maxsize=4)
def numbered_names(count: int) -> Sequence[str]:
    """Names for frames that have none; kept, because a run asks for them frame by frame.

    >>> numbered_names(2)
    ('frame_000000', 'frame_000001')
    """
    return tuple(f"frame_{index:06d}" for index in range(count))


def size_text(size: Sequence[int]) -> str:
    """`(H, W, ...)` for a message.

    >>> size_text((480, 640, 3))
    '640×480 pixels'
    """
    return f"{size[1]}×{size[0]} pixels"


class WholeVideo(FrameSource):
    """Base of the sources that hold all frames of a video: local positions and absolute indices are the same."""

    @abstractmethod
    def _read(self, position: int) -> RGBFrame:
        """The frame at a position that was already checked; as `FrameSource.__getitem__`."""

    def __getitem__(self, local: int) -> RGBFrame:
        return self._read(checked_position(local, len(self)))

    @property
    def indices(self) -> Sequence[FrameIndex]:
        return cast("Sequence[FrameIndex]", range(len(self)))

    @property
    def names(self) -> Sequence[str]:
        return numbered_names(len(self))

    @property
    def times(self) -> Sequence[float] | None:
        return None

    def select(self, positions: Sequence[int]) -> FrameSource:
        return Selection(self, positions)


class Selection(FrameSource):
    """Some frames of another source, which owns the files and decoders: closing either one closes both.

    Args:
        source: the source to take frames from.
        positions: local positions in `source`, strictly increasing; may be empty.

    Raises:
        IndexError: a position that `source` does not have.
        ValueError: positions that do not increase.
    """

    def __init__(self, source: FrameSource, positions: Sequence[int]) -> None:
        self.path: Path | None = source.path
        self._source = source
        self._positions = _increasing(positions, len(source))
        indices, names, times = source.indices, source.names, source.times
        self._indices = tuple(indices[k] for k in self._positions)
        self._names = tuple(names[k] for k in self._positions)
        self._times = None if times is None else tuple(times[k] for k in self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, local: int) -> RGBFrame:
        return self._source[self._positions[checked_position(local, len(self))]]

    def fault(self, local: int) -> str | None:
        return self._source.fault(self._positions[checked_position(local, len(self))])

    def is_there(self, local: int) -> bool:
        return self._source.is_there(self._positions[checked_position(local, len(self))])

    @property
    def size(self) -> tuple[int, int]:
        return self._source.size

    @property
    def indices(self) -> Sequence[FrameIndex]:
        return self._indices

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def times(self) -> Sequence[float] | None:
        return self._times

    @property
    def notes(self) -> Sequence[SourceNote]:
        return self._source.notes

    @property
    def late_notes(self) -> Sequence[SourceNote]:
        return self._source.late_notes

    @property
    def files(self) -> Sequence[Path]:
        files = self._source.files
        return [files[k] for k in self._positions] if len(files) == len(self._source) else files

    def select(self, positions: Sequence[int]) -> FrameSource:
        # Composed here rather than stacked, so that reading costs one step however often one samples.
        chosen = _increasing(positions, len(self))
        return Selection(self._source, [self._positions[k] for k in chosen])

    def close(self) -> None:
        self._source.close()


def _increasing(positions: Sequence[int], count: int) -> tuple[int, ...]:
    chosen = tuple(checked_position(position, count) for position in positions)
    if np.any(np.diff(chosen) <= 0):
        raise ValueError("positions of a selection increase strictly: each frame once, in the order of time")
    return chosen


def report_source(source: FrameSource, log: RunLog) -> None:
    """Tells the log what a source lacks and what was noticed about its files.

    Raises:
        FrameError: it lacks frames, and the log's policy is `error`.
    """
    damage = getattr(source, "damage", None)
    if damage is not None:  # a video that was cut off still has frames; whether they will do is the user's choice
        if log.on_bad_item == "error":
            raise FrameError(
                f"{damage} ("
                f"{wording('on_bad_item=skip', '--on-bad-item skip')} tracks the {len(source)} frames that are there)"
            )
        log.warn("frames", "video-damaged", str(damage))
    for note in source.notes:
        if note.left_out:
            log.skip(note.code, note.message, note.left_out, error=FrameError, each=True)
        else:
            log.warn("frames", note.code, note.message)


def report_decoded(source: FrameSource, log: RunLog) -> None:
    """Tells the log, once, what was noticed about the frames that have been decoded."""
    for note in source.late_notes:
        if all(warning.code != note.code for warning in log.warnings):
            log.warn("frames", note.code, note.message)


def check_readable(source: FrameSource) -> None:
    """Looks for frames that cannot be read, without decoding all.

    Raises:
        FrameError: the first that was found, and how many more.
    """
    faults = [reason for local in range(len(source)) if (reason := source.fault(local)) is not None]
    if faults:
        more = f"; {len(faults) - 1} more frames cannot be read" if len(faults) > 1 else ""
        raise FrameError(
            f"{faults[0]}{more} ({wording('on_bad_item=skip', '--on-bad-item skip')} leaves unreadable frames out)"
        )


def exclude_unreadable(source: FrameSource) -> tuple[FrameSource, list[tuple[FrameIndex, str, str]]]:
    """Decodes every frame once and leaves out those that fail: unreadable, truncated or of another size.

    The size that counts is `source.size`, for a folder of images that of its first readable file.

    Returns:
        The source without the bad frames (`source` itself when there are none), still with absolute `indices`, and
        `(absolute index, name, one-line reason)` of each frame left out.

    Raises:
        FrameError: no frame is left.
    """
    indices, names = source.indices, source.names
    good: list[int] = []
    excluded: list[tuple[FrameIndex, str, str]] = []
    for local in range(len(source)):
        reason = _fault(source, local)
        if reason is None:
            good.append(local)
        else:
            excluded.append((indices[local], names[local], reason))
    if not good:
        what = source.path or "the source"
        first = f"; the first: {excluded[0][2]}" if excluded else ""
        raise FrameError(f"{what}: none of the {len(source)} frames can be read{first}")
    return (source.select(good) if excluded else source), excluded


def _fault(source: FrameSource, local: int) -> str | None:
    try:
        source[local]
    except FrameError as error:
        return str(error)
    return None


T = TypeVar("T")


def sample_evenly(values: Sequence[T], stride: int = 1, cap: int | None = None) -> list[T]:
    """First and last, every `stride`-th between, then evenly thinned to `cap`.

    >>> sample_evenly(range(10), stride=4), sample_evenly(range(10), cap=3), sample_evenly(range(10), cap=1)
    ([0, 4, 8, 9], [0, 4, 9], [0])
    """
    if not values:
        return []
    chosen = list(values[::stride])
    if (len(values) - 1) % stride:
        chosen.append(values[-1])
    if cap is None or len(chosen) <= cap:
        return chosen
    if cap <= 1:
        return chosen[:cap]
    return [chosen[k * (len(chosen) - 1) // (cap - 1)] for k in range(cap)]


PAGES_FROM = 64 * 2**10
"""Bytes of a frame that gets pages of its own: systems limit how many such places a process has."""
SPARE_FRAMES = 4
"""Memory of frames let go that waits for the next ones: to get it anew costs more than to copy a frame."""


class FrameCache:
    """Decoded frames by position; the one used longest ago leaves first. Safe to use from several threads.

    Frames that are held are frozen (`flags.writeable = False`), because every reader gets the same array. All but tiny
    ones lie on pages of their own, outside the heap: there, what is allocated later would settle in the place that a
    frame leaves, the next one would not fit, and a long video would grow the process by every frame.

    >>> import numpy as np
    >>> cache = FrameCache(max_bytes=30)
    >>> for position in range(3):
    ...     _ = cache.put(position, np.zeros((2, 2, 3), np.uint8))
    >>> cache.get(0) is None, len(cache), cache.nbytes
    (True, 2, 24)
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._frames: OrderedDict[int, RGBFrame] = OrderedDict()
        self._spare: deque[mmap.mmap] = deque(maxlen=SPARE_FRAMES)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._frames)

    def get(self, position: int) -> RGBFrame | None:
        """The frame at a position, now the most recently used; None when it is not held."""
        with self._lock:
            frame = self._frames.get(position)
            if frame is not None:
                self._frames.move_to_end(position)
            return frame

    def put(self, position: int, frame: RGBFrame) -> RGBFrame:
        """Holds the frame unless it alone is larger than `max_bytes`; returns it or the copy that is held, frozen."""
        if PAGES_FROM <= frame.nbytes <= self.max_bytes:
            frame = self._copied(frame)
        frame.flags.writeable = False
        with self._lock:
            old = self._frames.pop(position, None)
            self.nbytes -= 0 if old is None else old.nbytes
            if frame.nbytes <= self.max_bytes:
                self._frames[position] = frame
                self.nbytes += frame.nbytes
            while self.nbytes > self.max_bytes:
                self.nbytes -= self._frames.popitem(last=False)[1].nbytes
        return frame

    def _copied(self, frame: RGBFrame) -> RGBFrame:
        try:
            pages = self._spare.popleft()
        except IndexError:
            pages = None
        if pages is None or len(pages) != frame.nbytes:
            pages = mmap.mmap(-1, frame.nbytes)
        flat = np.frombuffer(pages, np.uint8)
        # Every array that shows the frame holds this one.
        weakref.finalize(flat, self._spare.append, pages).atexit = False
        copy = flat.reshape(frame.shape)
        copy[...] = frame
        return copy

    def clear(self) -> None:
        """Lets go of every frame."""
        with self._lock:
            self._frames.clear()
            self.nbytes = 0
