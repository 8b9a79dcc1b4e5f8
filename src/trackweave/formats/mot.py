"""MOTChallenge text: one line per box, `frame,id,x,y,w,h,conf,class,visibility`.

Frames and pixel coordinates are 1-based there (the benchmark was made with MATLAB): the top left pixel of the first
frame is `1,…,1,1`. Inside trackweave both are 0-based, so reading subtracts one and writing adds one. Many trackers
leave out the shift of the coordinates; their boxes then lie one pixel to the upper left.
Format: https://motchallenge.net/instructions/ and Milan et al., "MOT16", arXiv 1603.00831, table 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.storage.files import replacing
from trackweave.structures.tracks import Tracks

LARGEST = 2**62
DECIMALS = (0, 1, 2, 3, 4, 6, 8, 12)


class _Line(NamedTuple):
    frame: int
    track_id: int
    xyxy: tuple[float, float, float, float]
    score: float
    class_id: int


def write_mot(path: Path | str, tracks: Tracks) -> None:
    """Writes tracks as MOTChallenge text, whole or not at all.

    Numbers have the fewest decimals that `read_mot` turns into the same float32; visibility is written as 1.

    Args:
        path: the file to write; folders above it are made.
        tracks: masks are not written.

    Raises:
        ValueError: a box or score that is not finite, or a box whose right or bottom lies before its left or top.
        ArtifactError: the file cannot be written.
    """
    write_mot_frames(path, [tracks])


def write_mot_frames(path: Path | str, parts: Iterable[Tracks]) -> None:
    """The same for tracks that come in parts, such as frame by frame, without holding more than one part."""
    with MotWriter(path) as writer:
        for tracks in parts:
            writer.write(tracks)


class MotWriter:
    """The same for tracks that are handed over part by part; the file appears when the `with` block ends well.

    Args:
        path: the file to write; folders above it are made.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._path))
            self._file = stack.enter_context(temporary.open("w", encoding="ascii", newline="\n"))
            self._stack = stack.pop_all()
        return self

    def write(self, tracks: Tracks) -> None:
        """Appends tracks.

        Raises:
            ValueError: as `write_mot`.
        """
        self._file.writelines(_lines(tracks))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def _lines(tracks: Tracks) -> Iterator[str]:
    boxes = tracks.xyxy.astype(np.float64)
    if not (np.isfinite(boxes).all() and np.isfinite(tracks.score).all()):
        raise ValueError("boxes and scores of MOT text are finite numbers")
    if np.any(boxes[:, 2:] < boxes[:, :2]):
        raise ValueError("a box whose right or bottom lies before its left or top has no width and height")
    corner = _shortest(boxes[:, :2] + 1, lambda text: text - 1, tracks.xyxy[:, :2])
    start = np.array(corner, np.float64).reshape(-1, 2) - 1  # as the reader will see it
    extent = _shortest(boxes[:, 2:] - start, lambda text: start + text, tracks.xyxy[:, 2:])
    score = _shortest(tracks.score.astype(np.float64), lambda text: text, tracks.score)
    columns = (tracks.frame + 1, tracks.track_id, corner, extent, score, tracks.class_id)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for frame, track_id, (x, y), (w, h), conf, class_id in rows:
        yield f"{frame},{track_id},{x},{y},{w},{h},{conf},{class_id},1\n"


def read_mot(path: Path | str) -> Tracks:
    """Reads MOTChallenge text of tracks: results, or ground truth.

    Columns after the sixth may be missing: score is then 1, class −1. Visibility is not kept. Commas or blanks
    separate; empty lines are skipped.

    Raises:
        InputError: the file or one of its lines cannot be read, or names one track twice on a frame; the message
            names the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as MOT text: {getattr(error, 'strerror', None) or error}") from error
    seen: dict[tuple[int, int], int] = {}
    lines: list[_Line] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        try:
            parsed = _parse(fields)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        first = seen.setdefault((parsed.frame, parsed.track_id), number)
        if first != number:
            raise InputError(
                f"{path}, line {number}: track {parsed.track_id} is on frame {parsed.frame + 1} already in line {first}"
            )
        lines.append(parsed)
    if not lines:
        return Tracks.empty()
    frame, track_id, xyxy, score, class_id = zip(*lines, strict=True)
    return Tracks.from_columns(frame, track_id, xyxy, score, class_id)


def _parse(fields: list[str]) -> _Line:
    """One line's fields in our own conventions; `ValueError` says what is wrong with them."""
    if not 6 <= len(fields) <= 10:
        raise ValueError(f"{len(fields)} fields, expected frame,id,x,y,w,h and up to four more")
    try:
        values = [float(field) for field in fields]
    except ValueError:
        bad = next(field for field in fields if not _is_number(field))
        raise ValueError(f"{bad!r} is not a number") from None
    if not all(math.isfinite(value) for value in values):
        raise ValueError("a value is not finite")
    frame, track_id = _whole(fields[0], "frame"), _whole(fields[1], "track id")
    if frame < 1:
        raise ValueError(f"frame {frame}: frames count from 1")
    if track_id < 0:
        raise ValueError(f"track id {track_id}: these are detections, not tracks")
    x, y, w, h = values[2:6]
    if w < 0 or h < 0:
        raise ValueError(f"a box of {fields[4]} × {fields[5]} pixels")
    score = values[6] if len(values) > 6 else 1.0
    class_id = _whole(fields[7], "class") if len(fields) > 7 else -1
    return _Line(frame - 1, track_id, (x - 1, y - 1, x - 1 + w, y - 1 + h), score, class_id)


def _whole(field: str, name: str) -> int:
    """A whole number, also one written as `3.0`."""
    try:
        value = int(field)
    except ValueError:
        if float(field) % 1:
            raise ValueError(f"{name} {field} is not a whole number") from None
        value = int(float(field))
    if abs(value) > LARGEST:
        raise ValueError(f"{name} {field} is out of range")
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shortest(values: NDArray[np.float64], read: Any, wanted: NDArray[np.float32]) -> NDArray[np.str_]:
    """Values as text with the fewest decimals for which `read` of the text gives `wanted` again as float32."""
    texts = np.empty(values.shape, object)
    open_ones = np.ones(values.shape, np.bool_)
    for decimals in DECIMALS:
        fits = open_ones & (read(np.round(values, decimals)).astype(np.float32) == wanted)
        texts[fits] = [f"{v:.{decimals}f}" for v in values[fits].tolist()]
        open_ones &= ~fits
    texts[open_ones] = [repr(v) for v in values[open_ones].tolist()]
    return texts
