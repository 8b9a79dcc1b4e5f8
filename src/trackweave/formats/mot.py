"""MOTChallenge text: one line per box, `frame,id,x,y,w,h,conf,class,visibility`.

Frames and pixel coordinates are 1-based there (the benchmark was made with MATLAB): the top left pixel of the first
frame is `1,…,1,1`. Inside trackweave both are 0-based, so reading subtracts one and writing adds one. Many trackers
leave out the shift of the coordinates; their boxes then lie one pixel to the upper left. Detections have an id of −1.
Commas or blanks separate; empty lines are skipped; columns after the sixth may be missing.
Format: https://motchallenge.net/instructions/ and Milan et al., "MOT16", arXiv 1603.00831, table 3.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, shortened_line
from trackweave.formats.frame_ids import FrameHints
from trackweave.formats.tables import (
    AnnotationTable,
    DetectionTable,
    FileReading,
    GroundTruth,
    RawDetections,
    build_table,
    in_frame_order,
    read_text,
    repeated,
)
from trackweave.formats.videos import TableVideo
from trackweave.storage.files import replacing
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.run_log import OnBadItem, RunLog
from trackweave.structures.tracked_video import Losses, TrackedVideo, VideoInfo
from trackweave.structures.tracks import Tracks

CLASS_COLUMN = 8
"""1-based column of the class."""
FEWEST_COLUMNS = 6
MOST_COLUMNS = 10
"""Of tracks and ground truth; MOT15 has three world coordinates at the end."""
MOST_DETECTION_COLUMNS = 32
"""Of detections, to which trackers append features."""
READ_COLUMNS = 9
"""Of tracks and ground truth; what stands in the tenth need not be a number."""
DECIMAL_COMMA, BLANK_SEPARATED = re.compile(r"\d+,\d+"), re.compile(r"\d[ \t]+[+-]?\d")
"""A line with both has commas inside of its numbers."""
MISSING = (1.0, -1.0)
"""What a line without a score has as its score, and what one without a later column has there."""
LARGEST_EXACT = 2**53
"""Up to here float64 holds every whole number."""
LARGEST_FLOAT = float(np.finfo(np.float32).max)
LARGEST_ID = 2**62
DECIMALS = (0, 1, 2, 3, 4, 6, 8, 12)


def write_mot(path: Path | str, tracks: Tracks) -> None:
    """Writes tracks as MOTChallenge text, whole or not at all.

    Numbers have the fewest decimals that `read_mot` turns into the same float32; visibility is written as 1. Tracks of
    a mask run, which have a level and no class, have the level in the class column.

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


def write_mot_video(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes the boxes of a video; objects of several levels have theirs in the class column."""

    def counted() -> Iterator[Tracks]:
        for _, tracks in video.frames(with_masks=False):
            named = sum(number in video.info.class_names for number in tracks.class_id.tolist())
            losses.add("class-names", "objects lose the name of their class: mot has its number alone", named)
            yield tracks

    write_mot_frames(path, counted())
    return [path]


def read_mot_video(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads tracks as a video.

    Raises:
        InputError: as `read_mot`.
    """
    return TableVideo(read_mot_annotations(path), hints)


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
    classes = tracks.class_id if tracks.level is None else tracks.level
    columns = (tracks.frame + 1, tracks.track_id, corner, extent, score, classes)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for frame, track_id, (x, y), (w, h), conf, class_id in rows:
        yield f"{frame},{track_id},{x},{y},{w},{h},{conf},{class_id},1\n"


def _shortest(
    values: NDArray[np.float64],
    read: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    expected: NDArray[np.float32],
) -> NDArray[np.str_]:
    """Values as text with the fewest decimals for which `read` of the text gives `expected` again as float32."""
    texts = np.empty(values.shape, object)
    is_open = np.ones(values.shape, np.bool_)
    for decimals in DECIMALS:
        fits = is_open & (read(np.round(values, decimals)).astype(np.float32) == expected)
        texts[fits] = [f"{v:.{decimals}f}" for v in values[fits].tolist()]
        is_open &= ~fits
    texts[is_open] = [repr(v) for v in values[is_open].tolist()]
    return texts


def read_mot(path: Path | str) -> Tracks:
    """Reads tracks: results, or ground truth.

    Columns after the sixth may be missing: score is then 1, class −1. Visibility is not kept.

    Raises:
        InputError: the file or one of its lines cannot be read, or names one track twice on a frame; the message
            names the line.
    """
    rows = _checked_rows(Path(path))
    rows.refuse(rows.track_id < 0, lambda n: f"track id {rows.track_id[n]}: these are detections, not tracks")
    rows.refuse_fractions(CLASS_COLUMN - 1, "class")
    score, classes = rows.values[:, 6], rows.values[:, CLASS_COLUMN - 1]
    return Tracks.from_columns(rows.frame, rows.track_id, rows.xyxy(origin=0), score, classes)


def read_mot_annotations(path: Path | str, *, length: int | None = None, is_truth: bool = False) -> AnnotationTable:
    """Reads ground truth or results for evaluation: boxes stay in the file's own pixels.

    Args:
        path: the file.
        length: frames of the video, when known.
        is_truth: ids below 0 are regions without identity; in results they are an error.

    Raises:
        InputError: as `read_mot`, or a frame beyond `length`.
    """
    rows = _checked_rows(Path(path))
    if not is_truth:
        rows.refuse(rows.track_id < 0, lambda n: f"track id {rows.track_id[n]}: these are detections, not tracks")
    if length is not None:
        rows.refuse(rows.frame >= length, lambda n: f"a frame beyond the {length} frames of the sequence")
    score, classes = rows.values[:, 6], rows.values[:, CLASS_COLUMN - 1]
    # MOT15 has world coordinates where later years have the class.
    is_class = bool((classes % 1 == 0).all())
    n = len(score)
    return AnnotationTable(
        source=str(path),
        frame=rows.frame,
        track_id=rows.track_id,
        xyxy=rows.xyxy(origin=1),
        score=score,
        class_id=classes.astype(np.int64) if is_class else np.full(n, -1, np.int64),
        # TrackEval takes the whole part: 0.5 does not count.
        counts=np.abs(score) >= 1,
        is_hard=np.zeros(n, np.bool_),
        origin=1,
        length=length,
    )


def read_ground_truth(path: Path | str, *, class_column: bool = True) -> GroundTruth:
    """Reads `gt/gt.txt` of a sequence folder, or such a file: `frame,id,x,y,w,h,conf,class,visibility`.

    Args:
        path: a sequence folder or the file.
        class_column: whether the eighth column is a class; False: every class is −1.

    Raises:
        InputError: as `read_mot`, but for ids below 0.
    """
    path = Path(path)
    rows = _checked_rows(path / "gt" / "gt.txt" if path.is_dir() else path)
    classes, visibility = rows.values[:, CLASS_COLUMN - 1], rows.values[:, 8]
    return GroundTruth(
        rows.frame,
        rows.track_id,
        rows.xyxy(origin=0).astype(np.float32),
        rows.values[:, 6] != 0,
        classes.astype(np.int64) if class_column else np.full(len(classes), -1, np.int64),
        np.where(visibility < 0, 1, np.minimum(visibility, 1)).astype(np.float32),
    )


def read_mot_detections(
    path: Path | str,
    *,
    class_column: int | None = None,
    hints: FrameHints | None = None,
    on_bad_item: OnBadItem = "error",
) -> DetectionTable:
    """Reads detections: the id column is ignored, a missing score is 1.

    Boxes are computed as `read_mot` does, so that `write_mot` of them gives the file's numbers again.

    Args:
        path: the file.
        class_column: 1-based column of the class (8 in KITTI's files); None = no class.
        hints: what is known about the frames; rows beyond `length` are bad, and with the base 0 frames and pixels count
            from 0.
        on_bad_item: `error`, or `skip` to leave bad rows out and count them in `warnings`.

    Raises:
        InputError: the file cannot be read, or a row is bad; the message names the line.
    """
    if class_column is not None and not 7 <= class_column <= MOST_DETECTION_COLUMNS:
        raise InputError(f"class column {class_column}: the columns after the box are 7 to {MOST_DETECTION_COLUMNS}")
    path, log = Path(path), RunLog(on_bad_item, None)
    rows = _read_rows(
        path,
        MOST_DETECTION_COLUMNS,
        MOST_DETECTION_COLUMNS,
        lambda code, message: log.skip(code, message, stage="detections"),
    )
    n, width = rows.values.shape
    if class_column is not None and n and width < class_column:
        raise InputError(f"{path}: class column {class_column}, but the lines have {width} fields")
    hints = hints or FrameHints()
    base = 1 if hints.base is None else hints.base
    raw = RawDetections(
        rows.values[:, 0] - base,
        rows.xyxy(origin=1 - base),
        rows.values[:, 6] if width > 6 else np.ones(n),
        rows.values[:, class_column - 1] if class_column is not None and n else np.full(n, -1.0),
        first_frame=base,
        locate=rows.locate,
    )
    table = build_table(raw, str(path), log, length=hints.length)
    score, class_id = ("score",)[: width > 6], () if class_column is None else (f"class (column {class_column})",)
    columns = ("frame", "x", "y", "w", "h", *score, *class_id)
    return replace(table, reading=FileReading("MOT text", f"frames count from {base}", base, columns))


class _Rows:
    """The numbers of a file, one row per line that could be read.

    Attributes:
        path: the file.
        values: `(N, columns)` float64, as in the file.
    """

    def __init__(self, path: Path, text: str, values: NDArray[np.float64], lines: list[int] | None = None) -> None:
        self.path, self.values = path, values
        self._text, self._known_lines = text, lines

    @cached_property
    def lines(self) -> NDArray[np.int64]:
        """`(N,)` int64, 1-based number of each row's line; worked out when a message or an order needs it."""
        lines = self._known_lines
        if lines is None:
            lines = [n for n, line in enumerate(self._text.splitlines(), start=1) if line.strip()]
        return np.array(lines, np.int64)

    @cached_property
    def frame(self) -> NDArray[np.int64]:
        """`(N,)` int64, 0-based."""
        return self._integers(0) - 1

    @cached_property
    def track_id(self) -> NDArray[np.int64]:
        """`(N,)` int64."""
        return self._integers(1)

    def _integers(self, column: int) -> NDArray[np.int64]:
        values = self.values[:, column]
        if (np.abs(values) <= LARGEST_EXACT).all():
            return values.astype(np.int64)
        lines = self._text.splitlines()
        fields = [lines[number - 1].replace(",", " ").split()[column] for number in self.lines]
        return np.array([_integer(field) for field in fields], np.int64)

    def xyxy(self, *, origin: int) -> NDArray[np.float64]:
        """`(N, 4)` float64 where the top left pixel is at `origin`, 0 or 1; right and bottom exclusive."""
        corner = self.values[:, 2:4] - (1 - origin)
        return np.concatenate([corner, corner + self.values[:, 4:6]], axis=1)

    def locate(self, row: int) -> str:
        """Names a row in messages."""
        return f"line {self.lines[row]}"

    def refuse(self, bad: NDArray[np.bool_] | np.bool_, message: Callable[[int], str]) -> None:
        """Names the first bad row of the file.

        Raises:
            InputError: there is one.
        """
        rows = np.flatnonzero(bad)
        if len(rows):
            first = int(rows[np.argmin(self.lines[rows])])
            raise InputError(f"{self.path}, {self.locate(first)}: {message(first)}")

    def refuse_fractions(self, column: int, name: str) -> None:
        """Names the first row whose value is not a whole number that int64 holds."""
        values = self.values[:, column]
        self.refuse(values % 1 != 0, lambda n: f"{name} {values[n]:g} is not a whole number")
        self.refuse(np.abs(values) > LARGEST_ID, lambda n: f"{name} {values[n]:g} is out of range")

    def in_frame_order(self) -> _Rows:
        """The same rows ordered by frame."""
        order = in_frame_order(self.frame)
        ordered = _Rows(self.path, self._text, self.values[order], self.lines[order].tolist())
        ordered.frame, ordered.track_id = self.frame[order], self.track_id[order]
        return ordered


def _checked_rows(path: Path) -> _Rows:
    """Rows `(N, 9)` of tracks or of ground truth, ordered by frame.

    Raises:
        InputError: missing or unreadable, a line that is not such numbers, a frame below 1, a negative size, or one
            identity twice on a frame.
    """

    def refuse(code: str, message: str) -> NoReturn:
        raise InputError(message)

    rows = _read_rows(path, MOST_COLUMNS, READ_COLUMNS, refuse)
    rows.values = values = _filled(rows.values, READ_COLUMNS)
    rows.refuse(~np.isfinite(values).all(axis=1), lambda n: "a value is not finite")
    rows.refuse_fractions(0, "frame")
    rows.refuse_fractions(1, "track id")
    with np.errstate(over="ignore"):
        sides = np.abs(np.concatenate([values[:, 2:], values[:, 2:4] + values[:, 4:6]], axis=1))
    rows.refuse((sides > LARGEST_FLOAT).any(1), lambda n: f"{sides[n].max():g} is more than a 32-bit float holds")
    classes = values[:, CLASS_COLUMN - 1]
    rows.refuse(np.abs(classes) > LARGEST_EXACT, lambda n: f"class {classes[n]:g} is out of range")
    rows.refuse(rows.frame < 0, lambda n: f"frame {rows.frame[n] + 1}: frames count from 1")
    rows.refuse((values[:, 4:6] < 0).any(1), lambda n: f"a box of {values[n, 4]:g} × {values[n, 5]:g} pixels")
    rows = rows.in_frame_order()
    twice = repeated(rows.frame, rows.track_id)
    if twice is not None:
        first, second = twice
        text = f"identity {rows.track_id[first]} is on frame {rows.frame[first] + 1} already in {rows.locate(first)}"
        raise InputError(f"{path}, {rows.locate(second)}: {text}")
    return rows


def _read_rows(path: Path, widest: int, kept: int, bad: Callable[[str, str], None]) -> _Rows:
    """Every line as numbers.

    Args:
        path: the file.
        widest: columns that a line may have.
        kept: columns that are read; those after it need not be numbers.
        bad: is given the code and the message of each line that cannot be read.

    Raises:
        InputError: the file cannot be read.
    """
    text = read_text(path)
    numbers, lines = _numbers_at_once(text), None
    if numbers is None or numbers.shape[1] > widest:
        numbers, lines = _numbers_by_line(path, text, widest, kept, bad)
    return _Rows(path, text, numbers[:, :kept], lines)


def _numbers_at_once(text: str) -> NDArray[np.float64] | None:
    """`(N, columns)` by numpy's C parser; None when a line is not like the others, or too short."""
    if not text.strip():
        return np.zeros((0, FEWEST_COLUMNS))
    delimiter = "," if "," in text[:4096] else None
    try:
        numbers = np.loadtxt(io.StringIO(text), np.float64, delimiter=delimiter, ndmin=2, comments=None)
    except ValueError:
        return None
    return numbers if numbers.shape[1] >= FEWEST_COLUMNS else None


def _numbers_by_line(
    path: Path, text: str, widest: int, kept: int, bad: Callable[[str, str], None]
) -> tuple[NDArray[np.float64], list[int]]:
    """The same line by line, so that a bad one can be named; also for lines of different widths.

    A line is filled up to the widest one's columns, see `MISSING`.
    """
    rows: list[list[float]] = []
    lines: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        comma = DECIMAL_COMMA.search(line)
        if comma is not None and BLANK_SEPARATED.search(line):
            found = f"commas inside of numbers ({comma[0]!r}): write decimal points"
            bad("decimal-comma", f"{path}, line {number}: {found}")
            continue
        if not FEWEST_COLUMNS <= len(fields) <= widest:
            bad("width", f"{path}, line {number}: {len(fields)} fields, expected frame,id,x,y,w,h,score and more")
            continue
        try:
            rows.append([float(field) for field in fields[:kept]])
        except ValueError as error:
            field = str(error).rpartition(": ")[2]
            bad("not-a-number", f"{path}, line {number}: {shortened_line(field, 40)} is not a number")
            continue
        lines.append(number)
    width = max(map(len, rows), default=FEWEST_COLUMNS)
    filled = [row + _missing(len(row), width) for row in rows]
    return np.array(filled, np.float64).reshape(-1, width), lines


def _filled(numbers: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The rows with so many columns."""
    missing = _missing(numbers.shape[1], width)
    return np.concatenate([numbers, np.tile(missing, (len(numbers), 1))], axis=1) if missing else numbers


def _missing(present: int, width: int) -> list[float]:
    """The values of the columns that are missing."""
    score, later = MISSING
    return [score if column == FEWEST_COLUMNS else later for column in range(present, width)]


def _integer(field: str) -> int:
    """A whole number, exactly, also one written as `3.0`."""
    try:
        return int(field)
    except ValueError:
        return int(float(field))
