"""Which frames a file of detections means by its numbers and names, and how sure that is.

Formats count frames from 0 or from 1; data sets number the images of all videos together; others name images by their
file. A number shows its base where it can (a frame 0, a frame as large as the number of frames); names are compared
with those of the pictures. What is left is a guess, which is reported, or no guess at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, argument, listed, shortened, shortened_line, wording
from trackweave.formats.davis import frame_stem

FIRST_TIME = 10**9
"""Unix time in seconds has been larger since 2001; a video of 30 frames a second reaches such a frame after a year."""
LARGEST_ID = 2**62
FEW_NUMBERS = 100
"""Below, numbers with gaps may well be frames, of which some have no detection."""
LARGEST_GAP = 2
"""Numbers of which fewer than one in so many occurs are those of a data set rather than the frames of a video."""
_NUMBERED = re.compile(r"(.*?)(\d+)")


@dataclass(frozen=True)
class FrameHints:
    """What is known about the frames when a file of detections is read.

    Attributes:
        length: frames of the video, or None.
        names: stem of each picture's file name → its frame; empty where there are no pictures, or they have no names.
        size: `(H, W)` of the frames, or None.
        base: the number of the first frame in the file, where the user says so.
        video: which of several videos in one file, where the user says so: its name or id.
        name: what the video is called, which chooses among several in one file as well; or None.

    Raises:
        ValueError: another base.
    """

    length: int | None = None
    names: Mapping[str, int] | None = None
    size: tuple[int, int] | None = None
    base: int | None = None
    video: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.base not in (None, 0, 1):
            raise ValueError(f"frames count from 0 or from 1, not from {self.base}")


class FrameBase(NamedTuple):
    """The number that a file gives the first frame.

    Attributes:
        first: 0 or 1.
        is_sure: the numbers themselves, or the user, say so; else it is the format's custom.
    """

    first: int
    is_sure: bool


def frame_base(numbers: NDArray[np.float64], hints: FrameHints, custom: int) -> FrameBase:
    """From which number the frames of a file count.

    Args:
        numbers: frame numbers as in the file; those that are none are not looked at.
        hints: what else is known.
        custom: the format's own base.

    >>> frame_base(np.array([1.0, 10]), FrameHints(length=10), 0)
    FrameBase(first=1, is_sure=True)
    >>> frame_base(np.array([1.0, 9]), FrameHints(length=10), 0)
    FrameBase(first=0, is_sure=False)
    """
    if hints.base is not None:
        return FrameBase(hints.base, True)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return FrameBase(custom, True)
    low, high = numbers.min(), numbers.max()
    if low <= 0:
        return FrameBase(0, True)
    if hints.length is not None and high >= hints.length:
        return FrameBase(1, True) if high == hints.length else FrameBase(custom, True)  # beyond: refused in any case
    named = sorted(number for name in hints.names or () if (number := _number(name)) is not None)
    if named and named[0] in (0, 1) and len(named) == len(hints.names or ()):
        return FrameBase(1 if named[0] == 1 else 0, True)
    return FrameBase(custom, bool(low > 1))


def refuse_times(numbers: NDArray[np.float64], source: str, what: str = "frame") -> None:
    """Refuses frame numbers that are time stamps: no detection before a frame that no video reaches.

    Raises:
        InputError: they are.
    """
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) and numbers.min() >= FIRST_TIME:
        low, high = numbers.min(), numbers.max()
        raise InputError(
            f"{source}: {what}s from {low:.15g} to {high:.15g} look like time stamps: number the frames from 0 or 1, "
            f"or subtract the first time and give the ticks of a second as {argument('fps')}"
        )


def stem_of(name: str) -> str:
    """An image's name without folders and suffix; dots of other names belong to them.

    >>> stem_of("a/00012.jpg"), stem_of("clip.0012")
    ('00012', 'clip.0012')
    """
    return frame_stem(name.replace("\\", "/"))


def frames_by_name(names: Iterable[str], indices: Iterable[int]) -> dict[str, int]:
    """Stem → frame, for `FrameHints.names`."""
    return {stem_of(name): int(index) for name, index in zip(names, indices, strict=True)}


def _number(name: str) -> int | None:
    """The number at the end of a name."""
    match = _NUMBERED.fullmatch(stem_of(name))
    return int(match[2]) if match and len(match[2]) < 19 else None


def _by_number(names: Mapping[str, int]) -> Mapping[int, int]:
    """Number of a picture whose whole name is a number → its frame; empty where two have one."""
    numbers = {int(name): frame for name, frame in names.items() if name.isdecimal() and len(name) < 19}
    return numbers if len(numbers) == len(names) else {}


def picture_numbers(numbers: NDArray[np.float64], hints: FrameHints) -> NDArray[np.float64] | None:
    """Frames by the numbers in the names of the pictures, where as places in the video they would lie beyond it."""
    by_number = _by_number(hints.names or {})
    known = numbers[np.isfinite(numbers)]
    if not by_number or hints.base is not None or not len(known) or known.max() <= len(by_number):
        return None
    if not all(number in by_number for number in np.unique(known).tolist()):
        return None
    return np.array([by_number.get(int(n), -1) if np.isfinite(n) else np.nan for n in numbers.tolist()], np.float64)


ImageId = int | str


def image_id(value: object) -> ImageId:
    """An image's id as a file has it: a whole number, or a name without folders and suffix.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        is_number = re.fullmatch(r"0|[1-9][0-9]{0,17}", value.strip()) is not None
        return int(value) if is_number else stem_of(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST_ID:
        raise ValueError(f"image_id {shortened(value, 40)} is not a number")
    return int(value) if isinstance(value, int) or value.is_integer() else str(value)


def refuse_video(hints: FrameHints, source: str) -> None:
    """For files that name no videos.

    Raises:
        InputError: one of several was asked for.
    """
    if hints.video is not None:
        asked = argument("video_name", shortened_line(hints.video, 40))
        raise InputError(f"{source}: names no videos, and {asked} asks for one: leave that out")


def one_video(videos: Iterable[str], hints: FrameHints, source: str) -> str | None:
    """Which of the videos that a file names is meant; None when it names none.

    Raises:
        InputError: several, and neither the user nor the frames' own name says which; or not the one that is asked for.
    """
    distinct = list(dict.fromkeys(videos))
    if hints.video is not None and distinct:
        if hints.video not in distinct:
            there = listed(distinct)
            raise InputError(f"{source}: has no video {shortened_line(hints.video, 40)}; there: {there}")
        return hints.video
    if len(distinct) > 1:
        called = [video for video in distinct if hints.name in (video, PurePosixPath(video).stem)]
        if len(called) != 1:
            names = listed(distinct)
            raise InputError(
                f"{source}: detections of {len(distinct)} videos ({names}): give one as "
                f"{wording('video_name=', '--video-name')}"
            )
        return called[0]
    return distinct[0] if distinct else None


class FramesOfIds(NamedTuple):
    """What image ids mean.

    Attributes:
        frame_of: id → frame; the ids that are not there are no frames.
        reading: one line that says how they were taken.
        is_sure: whether that is known rather than guessed.
    """

    frame_of: Mapping[ImageId, int]
    reading: str
    is_sure: bool


def frames_of_ids(ids: Iterable[ImageId], hints: FrameHints, source: str) -> FramesOfIds:
    """What the image ids of results mean when no list of images tells.

    Names, and numbers that are the names of the pictures, are those pictures; other numbers are frames where they can
    be.

    Raises:
        InputError: numbers that cannot be frames of one video.
    """
    distinct = sorted(set(ids), key=lambda one: (isinstance(one, str), one))
    numbers = [one for one in distinct if isinstance(one, int)]
    texts = [one for one in distinct if isinstance(one, str)]
    names = hints.names or {}
    by_number = _by_number(names)
    are_names = bool(names) and all(number in by_number for number in numbers)
    are_names &= not texts or any(text in names for text in texts)
    if are_names and hints.base is None and distinct:
        frame_of: dict[ImageId, int] = {number: by_number[number] for number in numbers}
        frame_of.update((text, names[text]) for text in texts if text in names)
        return FramesOfIds(frame_of, "image ids are the names of the pictures", True)
    if texts and not numbers:
        return _frames_of_names(texts, hints, source)
    return _frames_of_numbers(numbers, hints, source)


def _frames_of_names(texts: Sequence[str], hints: FrameHints, source: str) -> FramesOfIds:
    """Names that no picture has: their numbers are taken, where they have one and differ in nothing else."""
    matches = [_NUMBERED.fullmatch(text) for text in texts]
    if hints.names or not all(matches) or len({match[1] for match in matches if match}) > 1:
        there = f"; the pictures are {listed(hints.names, 3)}" if hints.names else ""
        raise InputError(
            f"{source}: image ids such as {listed(texts, 3)} are no frames of the video{there}: "
            f"{wording('images=', '--images FILE.json')} lists the images"
        )
    number_of = {text: int(match[2]) for text, match in zip(texts, matches, strict=True) if match}
    numbers = _frames_of_numbers(sorted(number_of.values()), hints, source)
    frame_of: dict[ImageId, int] = {
        text: numbers.frame_of[number] for text, number in number_of.items() if number in numbers.frame_of
    }
    return FramesOfIds(frame_of, numbers.reading.replace("image ids", "the numbers in image ids"), numbers.is_sure)


def _frames_of_numbers(numbers: Sequence[int], hints: FrameHints, source: str) -> FramesOfIds:
    values = np.array(numbers, np.float64)
    if not len(values):
        return FramesOfIds({}, "no image ids", True)
    low, high = numbers[0], numbers[-1]
    custom: int = 1 if low == 1 else 0
    first, is_sure = frame_base(values, hints, custom)
    if hints.base is None:
        is_sparse = low > 0 and high >= FEW_NUMBERS and len(numbers) * LARGEST_GAP < high + 1
        is_beyond = hints.length is not None and low - first >= hints.length
        if (is_sparse and hints.length is None) or is_beyond:
            what = f"the {hints.length} frames of the video" if is_beyond else "frames of one video"
            raise InputError(
                f"{source}: image ids from {low} to {high} ({len(numbers)} of them) are not {what}: if they are a data "
                f"set's, "
                f"{wording('images=', '--images FILE.json')} lists its images; "
                f"if they are frames, {wording('frame_base=', '--frame-base')} says from which number"
            )
        is_sure &= low <= 1
    frames = f"frames {low - first}…{high - first}" if high > low else f"frame {low - first}"
    taken = f"image ids {low}…{high} were taken as {frames}" if high > low else f"image id {low} was taken as {frames}"
    return FramesOfIds({number: number - first for number in numbers}, f"{taken} (counted from 0)", is_sure)
