"""MOTChallenge text: one line per box, `frame,id,x,y,w,h,conf,class,visibility`.

Frames and pixel coordinates are 1-based there (the benchmark was made with MATLAB): the top left pixel of the first
frame is `1,…,1,1`. Inside trackweave both are 0-based, so reading subtracts one and writing adds one. Many trackers
leave out the shift of the coordinates; their boxes then lie one pixel to the upper left.
Format: https://motchallenge.net/instructions/ and Milan et al., "MOT16", arXiv 1603.00831, table 3.

MOT text with every number as the file has it: ground truth and results for evaluation.

`mot.py` and `motchallenge.py` read the same files into the project's own conventions (0-based pixels, float32).

Detections as MOTChallenge text: `frame,-1,x,y,w,h,score,class,…`, 1-based like the tracks of `formats/mot.py`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.formats.tables import (
    AnnotationTable,
    DetectionTable,
    Rows,
    Skipped,
    build_table,
    in_frame_order,
    repeated,
)
from trackweave.storage.files import replacing
from trackweave.structures.run_log import OnBadItem
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
    # MOT text has no column for a level of granularity: where there is no class, the level stands in its place.
    classes = tracks.class_id if tracks.level is None else np.where(tracks.class_id < 0, tracks.level, tracks.class_id)
    columns = (tracks.frame + 1, tracks.track_id, corner, extent, score, classes)
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


FEWEST_COLUMNS = 6
MOST_COLUMNS = 32


def read_mot_detections(
    path: Path | str, *, class_column: int | None = None, length: int | None = None, on_bad_item: OnBadItem = "error"
) -> DetectionTable:
    """Reads MOTChallenge detections; frames and pixel coordinates become 0-based, the id column is ignored.

    Commas or blanks separate; a missing score is 1. Boxes are computed as `read_mot` does, so that `write_mot` of
    them gives the file's numbers again.

    Args:
        path: the file.
        class_column: 1-based column of the class (8 in KITTI's files); None = no class.
        length: frames of the video; rows beyond are bad.
        on_bad_item: `error`, or `skip` to leave bad rows out and count them in `warnings`.

    Raises:
        InputError: the file cannot be read, or a row is bad; the message names the line.
    """
    if class_column is not None and not 7 <= class_column <= MOST_COLUMNS:
        raise InputError(f"class column {class_column}: the columns after the box are 7 to {MOST_COLUMNS}")
    path = Path(path)
    text = read_text(path)
    skipped = Skipped(str(path), on_bad_item)
    numbers = numbers_at_once(text)
    lines: NDArray[np.int64] | None = None
    if numbers is None:
        numbers, lines = _parse_by_line(text, skipped)
    if class_column is not None and len(numbers) and numbers.shape[1] < class_column:
        raise InputError(f"{path}: class column {class_column}, but the lines have {numbers.shape[1]} fields")

    def place(row: int) -> str:
        known = lines if lines is not None else line_numbers(text)
        return f"line {known[row]}"

    return build_table(_rows(numbers, class_column, place), skipped, length=length)


def read_text(path: Path) -> str:
    """A file's text without byte order mark.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {getattr(error, 'strerror', None) or error}") from error


def _rows(numbers: NDArray[np.float64], class_column: int | None, place: object) -> Rows:
    if not len(numbers):
        numbers = np.zeros((0, 7))
    n, width = numbers.shape
    corner = numbers[:, 2:4] - 1
    return Rows(
        numbers[:, 0] - 1,
        np.concatenate([corner, corner + numbers[:, 4:6]], axis=1),
        numbers[:, 6] if width > 6 else np.ones(n),
        np.full(n, -1.0) if class_column is None else numbers[:, class_column - 1],
        first_frame=1,
        place=place,  # type: ignore[arg-type]
    )


def numbers_at_once(text: str) -> NDArray[np.float64] | None:
    """`(N, columns)` by numpy's C parser; None when a line is not like the others, or too short."""
    if not text.strip():
        return np.zeros((0, FEWEST_COLUMNS))
    delimiter = "," if "," in text[:4096] else None
    try:
        numbers = np.loadtxt(io.StringIO(text), np.float64, delimiter=delimiter, ndmin=2, comments=None)
    except ValueError:
        return None
    return numbers if FEWEST_COLUMNS <= numbers.shape[1] <= MOST_COLUMNS else None


def _parse_by_line(text: str, skipped: Skipped) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The same line by line, so that a bad one can be named; also for lines of different widths.

    A line without score gets 1, one without some later column −1.
    """
    found: list[list[float]] = []
    numbers: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        if not FEWEST_COLUMNS <= len(fields) <= MOST_COLUMNS:
            skipped.add("width", f"line {number}: {len(fields)} fields, expected frame,id,x,y,w,h,score and more")
            continue
        try:
            found.append([float(field) for field in fields])
        except ValueError as error:
            skipped.add("not-a-number", f"line {number}: {error}")
            continue
        numbers.append(number)
    width = max((len(row) for row in found), default=FEWEST_COLUMNS)
    missing = [-1.0] * width
    missing[FEWEST_COLUMNS : FEWEST_COLUMNS + 1] = [1.0][: width - FEWEST_COLUMNS]
    rows = [row + missing[len(row) :] for row in found]
    return np.array(rows, np.float64).reshape(-1, width), np.array(numbers, np.int64)


def line_numbers(text: str) -> NDArray[np.int64]:
    """`(N,)` 1-based numbers of the lines that are not empty."""
    return np.array([n for n, line in enumerate(text.splitlines(), start=1) if line.strip()], np.int64)


NARROWEST, KEPT, WIDEST = 6, 9, 10
"""Columns that a line has at least, that are read, and that it may have."""
DEFAULTS = (1.0, -1.0, -1.0)
"""Confidence, class and visibility of a line that leaves them out."""


def read_mot_annotations(path: Path | str, *, length: int | None = None, is_truth: bool = False) -> AnnotationTable:
    """Reads `frame,id,x,y,w,h,conf,class,…`; commas or blanks separate, columns after the sixth may be missing.

    Args:
        path: the file.
        length: frames of the video, when known.
        is_truth: ids below 0 are regions without identity; in results they are an error.

    Raises:
        InputError: missing or unreadable, a line that is not such numbers, a frame below 1 or beyond `length`, a
            negative size, an id below 0 in results, or one identity twice on a frame.
    """
    path = Path(path)
    rows, lines = checked_rows(path)
    if not is_truth:
        _refuse(path, lines, rows[:, 1] < 0, "track id below 0: these are detections, not tracks")
    if length is not None:
        _refuse(path, lines, rows[:, 0] > length, f"a frame beyond the {length} frames of the sequence")
    corner, classes = rows[:, 2:4], rows[:, 7]
    # MOT15 has world coordinates where later years have the class.
    is_class = bool((classes % 1 == 0).all())
    n = len(rows)
    return AnnotationTable(
        source=str(path),
        frame=rows[:, 0].astype(np.int64) - 1,
        track_id=rows[:, 1].astype(np.int64),
        xyxy=np.concatenate([corner, corner + rows[:, 4:6]], axis=1),
        score=rows[:, 6],
        class_id=classes.astype(np.int64) if is_class else np.full(n, -1, np.int64),
        # TrackEval takes the whole part: 0.5 does not count.
        counts=rows[:, 6].astype(np.int64) != 0,
        is_hard=np.zeros(n, np.bool_),
        origin=1,
        length=length,
    )


def checked_rows(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`(N, 9)` values ordered by frame, and each row's line; missing values as `DEFAULTS`.

    Raises:
        InputError: as `read_mot_annotations`, but for ids below 0 and lengths.
    """
    rows, lines = _number_lines(path)
    _refuse(path, lines, ~np.isfinite(rows).all(1), "a value is not finite")
    whole = (rows[:, :2] % 1 == 0).all(1) & (np.abs(rows[:, :2]) <= 2**53).all(1)
    _refuse(path, lines, ~whole, "frame or id is not a whole number")
    _refuse(path, lines, rows[:, 0] < 1, "frames count from 1")
    _refuse(path, lines, (rows[:, 4:6] < 0).any(1), "a negative width or height")
    order = in_frame_order(rows[:, 0].astype(np.int64))
    rows, lines = rows[order], lines[order]
    twice = repeated(rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64))
    if twice is not None:
        frame, identity = (int(value) for value in rows[twice[0], :2])
        raise InputError(
            f"{path}, line {lines[twice[1]]}: identity {identity} is on frame {frame} already in line {lines[twice[0]]}"
        )
    return rows, lines


def _refuse(path: Path, lines: NDArray[np.int64], bad: Any, message: str) -> None:
    if bad.any():
        raise InputError(f"{path}, line {lines[int(np.flatnonzero(bad)[0])]}: {message}")


def _number_lines(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    text = read_text(path)
    numbers = numbers_at_once(text)
    if numbers is None or numbers.shape[1] > WIDEST:
        return _line_by_line(path, text)
    missing = DEFAULTS[numbers.shape[1] - NARROWEST :]
    rows = np.concatenate([numbers[:, :KEPT], np.tile(missing, (len(numbers), 1))], axis=1)
    return rows, line_numbers(text)


def _line_by_line(path: Path, text: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The same for lines of different widths, and to name the bad one."""
    rows: list[list[float]] = []
    lines: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        if not NARROWEST <= len(fields) <= WIDEST:
            raise InputError(f"{path}, line {number}: {len(fields)} fields, expected frame,id,x,y,w,h,conf,class,…")
        try:
            values = [float(field) for field in fields[:KEPT]]
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        rows.append([*values, *DEFAULTS[len(values) - NARROWEST :]])
        lines.append(number)
    return np.array(rows, np.float64).reshape(-1, KEPT), np.array(lines, np.int64)
