"""Detections as tables: CSV and Parquet files, YOLO's folders, or columns in memory such as a pandas data frame's.

A name of a column is compared without case, blanks and punctuation, so that `x_min`, `xMin` and `<x min>` are one.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, MissingExtraError, argument, listed, shortened, shortened_line, wording
from trackweave.formats.frame_ids import (
    FrameBase,
    FrameHints,
    frame_base,
    frames_of_ids,
    one_video,
    picture_numbers,
    refuse_video,
    stem_of,
)
from trackweave.formats.tables import (
    DetectionTable,
    FileReading,
    RawDetections,
    add_class_name,
    build_table,
    left_out,
    read_text,
)
from trackweave.storage.files import check_regular
from trackweave.structures.run_log import OnBadItem, RunLog, RunWarning

FRAME = ("frame", "frameindex", "frameidx", "frameid", "framenumber", "framenum", "frameno", "framenr", "imageid")
FRAME_NAMES = ("filename", "imagename", "image", "imagepath", "filepath", "imagefile", "path")
"""Columns that name the picture instead."""
IDENTITY = ("id", "trackid", "trackerid", "targetid", "objectid", "tid", "identity")
VIDEO = ("video", "videoid", "videoname", "sequence", "sequencename", "sequenceid", "seqname", "clipname")
SCORE = ("score", "confidence", "conf", "probability", "prob", "detectionscore", "scores")
CLASS = ("classid", "categoryid", "class", "cls", "objectcategory", "labelid", "category", "label", "classname")
CLASS_NAME = ("classname", "categoryname", "labelname", "class", "category", "label")
"""Columns that may name the class beside a column of its number."""
LAYOUTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "corners": (
        ("x1", "xmin", "left", "boxx1", "bboxx1", "bboxxmin", "xtl"),
        ("y1", "ymin", "top", "boxy1", "bboxy1", "bboxymin", "ytl"),
        ("x2", "xmax", "right", "boxx2", "bboxx2", "bboxxmax", "xbr"),
        ("y2", "ymax", "bottom", "boxy2", "bboxy2", "bboxymax", "ybr"),
    ),
    "corners from 0": (("x0",), ("y0",), ("x1",), ("y1",)),
    "centre": (
        ("cx", "xcenter", "xcentre", "centerx", "centrex", "xc", "bboxcx"),
        ("cy", "ycenter", "ycentre", "centery", "centrey", "yc", "bboxcy"),
        ("w", "width", "bboxw", "bboxwidth", "boxw"),
        ("h", "height", "bboxh", "bboxheight", "boxh"),
    ),
    "size": (
        ("x", "bbleft", "bboxleft", "left", "bbx", "bboxx", "boxx", "x1", "xmin"),
        ("y", "bbtop", "bboxtop", "top", "bby", "bboxy", "boxy", "y1", "ymin"),
        ("w", "width", "bbwidth", "bboxwidth", "bbw", "bboxw", "boxw"),
        ("h", "height", "bbheight", "bboxheight", "bbh", "bboxh", "boxh"),
    ),
}
"""How four columns make a box → names of each; the first that a table has whole is taken."""
MOT_NAMES = frozenset({"bbleft", "bbtop", "bbwidth", "bbheight"})
"""Names of MOTChallenge text, whose frames and pixels count from 1."""
NEEDED = "needed are frame and x1,y1,x2,y2 or x,y,w,h"
SEPARATORS = ",;\t"


class _Layout(NamedTuple):
    """The columns that are read.

    Attributes:
        kind: a key of `LAYOUTS`.
        frame, box, score, class_id, identity, video: positions in the header; None where there is none.
        frame_is_name: the frame's column names pictures.
        is_mot: the columns are MOTChallenge's by their names: frames and pixels count from 1.
        may_be_mot: they are MOTChallenge's by their order alone.
        class_name, class_label: position and name of a second column that may name the class; None where there is none.
        names: of the columns that are read, as the file has them.
    """

    kind: str
    frame: int
    box: tuple[int, ...]
    score: int | None
    class_id: int | None
    identity: int | None
    video: int | None
    frame_is_name: bool
    is_mot: bool
    may_be_mot: bool
    names: tuple[str, ...]
    class_name: int | None = None
    class_label: str = ""


def canonical(name: object) -> str:
    """A column's name for comparison.

    >>> canonical("<bb_left> "), canonical("X Min")
    ('bbleft', 'xmin')
    """
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def find_columns(header: Sequence[object], source: str) -> _Layout:
    """Which columns of a table are what.

    Raises:
        InputError: there is no frame or no box.
    """
    place = {name: n for n, name in reversed(list(enumerate(map(canonical, header))))}

    def first(names: Sequence[str]) -> int | None:
        return next((place[name] for name in names if name in place), None)

    found = {kind: tuple(first(names) for names in layout) for kind, layout in LAYOUTS.items()}
    kind = next((kind for kind, columns in found.items() if None not in columns), "")
    frame, name = first(FRAME), first(FRAME_NAMES)
    if not kind or (frame is None and name is None):
        there = listed((shortened_line(str(one), 30) for one in header), 12)
        lacks = ["frame"] if frame is None and name is None else []
        near = max(found, key=lambda one: sum(column is not None for column in found[one]))
        lacks += [] if kind else [LAYOUTS[near][n][0] for n, column in enumerate(found[near]) if column is None]
        raise InputError(f"{source}: no column {', '.join(lacks)} among {there}; {NEEDED}")
    box = tuple(column for column in found[kind] if column is not None)
    score, class_id, identity = first(SCORE), first(CLASS), first(IDENTITY)
    at = name if frame is None else frame
    assert at is not None
    second = first([name for name in CLASS_NAME if place.get(name) != class_id])
    second = None if class_id is None or second in (at, *box, score, identity, first(VIDEO)) else second
    read = [at, *box, *(column for column in (score, class_id) if column is not None)]
    return _Layout(
        kind,
        at,
        box,
        score,
        class_id,
        identity,
        first(VIDEO),
        frame is None,
        kind == "size" and bool(MOT_NAMES & {canonical(header[column]) for column in box}),
        kind == "size" and (at, identity, *box) == (0, 1, 2, 3, 4, 5),
        tuple(shortened_line(str(header[column]), 40) for column in read),
        second,
        "" if second is None else shortened_line(str(header[second]), 40),
    )


def is_header(line: str) -> bool:
    """Is it a table's first line: with a letter that no number has, and not KITTI's?

    >>> is_header("frame,x,y"), is_header("1,-1,nan,4e5,inf"), is_header("0 2 Car 0 0 1 2 3 4 5"), is_header("1,2,x")
    (True, False, False, False)
    """
    fields = split_line(line)
    names = {canonical(field) for field in fields}
    if names & {*FRAME, *FRAME_NAMES}:
        return True
    # Without a name that is known: names alone are a header, a word among numbers is a line that cannot be read.
    return len(fields) >= 4 and all(re.search(r"[^\W\d_]", field) and not is_number(field) for field in fields)


def split_line(line: str) -> list[str]:
    """The fields of a line by the separator that it has most of, else by blanks."""
    separator = _separator(line)
    return line.split(separator) if separator else line.split()


def _separator(line: str) -> str | None:
    separator = max(SEPARATORS, key=line.count)
    return separator if separator in line else None


def is_number(field: str) -> bool:
    """Is a field a number, and no word?"""
    try:
        float(field)
    except ValueError:
        return False
    return True


def read_csv_detections(
    path: Path | str, *, hints: FrameHints | None = None, on_bad_item: OnBadItem = "error"
) -> DetectionTable:
    """Reads a table with a header; commas, semicolons, tabs or blanks separate.

    Columns: the frame, counted from 0 (`frame`, `frame_index`, `frame_id`, …) or the name of its picture (`file_name`,
    …); the box as `x1,y1,x2,y2`, `x,y,w,h` or `cx,cy,w,h` under the names that supervision, pandas and YOLO give them,
    in pixels from 0, right and bottom exclusive; and if there a score and a class, which may be a word or a number,
    also with its name in a column besides (`class_id` and `class_name`, `category_id` and `category`). Columns of
    MOTChallenge (`frame,id,bb_left,bb_top,bb_width,bb_height`) count from 1. Others are not read.

    Args:
        path: the file.
        hints: what is known about the frames.
        on_bad_item: `error`, or `skip` to leave bad rows out and count them in `warnings`.

    Raises:
        InputError: the file cannot be read, a column is missing, or a row is bad; the message names the line.
    """
    path, log = Path(path), RunLog(on_bad_item, None)
    whole = read_text(path)
    text = whole.lstrip()
    blank = whole[: len(whole) - len(text)].count("\n")
    first = text.partition("\n")[0]
    separator = _separator(first)
    if separator is None:
        separator, text = ",", "\n".join(",".join(line.split()) for line in text.splitlines())
        first = text.partition("\n")[0]
    header = next(csv.reader([first.strip()], delimiter=separator), [])
    layout = find_columns(header, str(path))
    table = _read_table(text, separator, layout, 1 + blank, lambda cause: _skip(log, path, cause))
    return _detections(table, layout, str(path), log, hints or FrameHints(), "CSV")


def _skip(log: RunLog, path: Path, cause: str) -> None:
    log.skip("not-a-number", f"{path}, {cause}", stage="detections")


def read_parquet_detections(
    path: Path | str, *, hints: FrameHints | None = None, on_bad_item: OnBadItem = "error"
) -> DetectionTable:
    """Reads a Parquet file with the columns of `read_csv_detections`.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InputError: the file cannot be read, a column is missing or not of numbers, or a row is bad.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", "tables", ", or give the detections as CSV") from error
    check_regular(Path(path))
    try:
        table = pq.read_table(path)
        columns = dict(zip(table.column_names, (column.to_numpy() for column in table.columns), strict=True))
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: also names that are not UTF-8
        raise InputError(f"{path}: cannot be read as Parquet: {shortened_line(str(error))}") from error
    found = detections_from_columns(columns, hints=hints, on_bad_item=on_bad_item, source=str(path))
    return replace(found, reading=None if found.reading is None else replace(found.reading, format="Parquet"))


def detections_from_columns(
    columns: Any, *, hints: FrameHints | None = None, on_bad_item: OnBadItem = "error", source: str = "table"
) -> DetectionTable:
    """A pandas data frame, or a mapping of columns by name, with the columns of `read_csv_detections`.

    Raises:
        InputError: a column is missing or not of numbers, or a row is bad.
    """
    header = list(columns)
    layout = find_columns(header, source)
    numbers: dict[int, NDArray[np.float64]] = {}
    words: dict[int, list[str]] = {}
    for column in _read_columns(layout):
        values = np.asarray(columns[header[column]])
        try:
            if column == layout.video:
                raise ValueError("names, even where they are numbers")
            numbers[column] = values.astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            if column not in (layout.frame, layout.class_id, layout.class_name, layout.video):
                name = shortened_line(str(header[column]), 40)
                raise InputError(f"{source}: column {name} is not of numbers: {shortened_line(str(error))}") from error
            words[column] = ["" if value is None or value != value else str(value) for value in values.tolist()]
    table = _Table(numbers, words, "row {}".format)
    return _detections(table, layout, source, RunLog(on_bad_item, None), hints or FrameHints(), "table")


def read_yolo_detections(
    folder: Path, *, hints: FrameHints | None = None, on_bad_item: OnBadItem = "error"
) -> DetectionTable:
    """Reads YOLO's text of detections (`save_txt`, `save_conf`): a file for each frame, a line for each object.

    A line is `class x y w h`, perhaps with a score and an id behind it, or `class x1 y1 x2 y2 …`, an outline, perhaps
    with a score: shares of the frame, x and y the centre. The outline's box counts; ids are not read. Files have the
    names of the pictures, or of a video `NAME_NUMBER`, counted from 1. `classes.txt` names the classes.

    Args:
        folder: of the text files.
        hints: what is known about the frames; their size has to be.
        on_bad_item: `error`, or `skip` to leave bad rows out and count them in `warnings`.

    Raises:
        InputError: no text files, no size, a file of no frame, or a bad row; the message names file and line.
    """
    hints, log = hints or FrameHints(), RunLog(on_bad_item, None)
    named = folder / YOLO_CLASSES
    files = sorted(file for file in folder.glob("*.txt") if file != named)
    if not files:
        remedy = "give a file, or YOLO's folder of a text file for each frame"
        raise InputError(f"{folder}: is a folder without text files of detections: {remedy}")
    if hints.size is None:
        given = wording("the video, or `size`", "the video, or --size")
        raise InputError(f"{folder}: holds shares of the frames, whose size is not known: give {given}")
    scale = np.array([*hints.size[::-1], *hints.size[::-1], 1, 1], np.float64)
    refuse_video(hints, str(folder))
    if hints.base is None and not hints.names and not any(re.search(r"(?<!\d)0+$", file.stem) for file in files):
        hints = replace(hints, base=1)
    rows: list[tuple[float, ...]] = []
    stems: list[str] = []
    places: list[str] = []
    for file in files:
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            if not line.strip():
                continue
            place = f"{file.name}, line {number}"
            try:
                row = _yolo_row(line.split())
            except ValueError as error:
                _skip(log, folder, f"{place}: {error}")
                continue
            rows.append(row)
            stems.append(file.stem)
            places.append(place)
    try:
        frames_of_ids(stems, hints, str(folder))
    except InputError:
        named_like = f"like the pictures ({listed(hints.names, 3)})" if hints.names else "NAME_NUMBER"
        shown = listed([f"{stem}.txt" for stem in dict.fromkeys(stems)], 3)
        raise InputError(
            f"{folder}: files such as {shown} are no frames of the video: name them {named_like}"
        ) from None
    values = np.array(rows, np.float64).reshape(-1, 6) * scale
    columns: dict[int, NDArray[np.float64]] = {n + 1: values[:, n] for n in range(6)}
    words: dict[int, Sequence[str]] = {0: stems}
    if named.is_file():
        labels = read_text(named).splitlines()
        words[7] = [labels[int(one)] if one in range(len(labels)) else "" for one in columns[6].tolist()]
    layout = find_columns(("filename", "cx", "cy", "w", "h", "score", "class_id", "class_name"), str(folder))
    found = _detections(
        _Table(columns, words, lambda n: places[n]), layout, str(folder), log, hints, "YOLO text of shares"
    )
    return replace(found, reading=None if found.reading is None else replace(found.reading, columns=()))


YOLO_CLASSES = "classes.txt"


def _yolo_row(fields: Sequence[str]) -> tuple[float, ...]:
    """Centre, size, score and class of a line.

    Raises:
        ValueError: it is none of these; without a place.
    """
    values = [float(field) for field in fields]
    shares = values[1:]
    has_id = len(shares) == 6 and shares[-1] % 1 == 0
    if len(shares) in (4, 5) or has_id:
        if len(shares) == 5 and not 0 <= shares[4] <= 1:
            raise ValueError(f"{fields[5]} is no score: of boxes with ids and without scores write the scores, too")
        return (*shares[:4], shares[4] if len(shares) > 4 else 1.0, values[0])
    if len(shares) < 6:
        raise ValueError(f"{len(fields)} fields, expected class x y w h, perhaps score and id, or an outline")
    score = shares.pop() if len(shares) % 2 else 1.0
    x, y = shares[::2], shares[1::2]
    width, height = max(x) - min(x), max(y) - min(y)
    return min(x) + width / 2, min(y) + height / 2, width, height, score, values[0]


# --- columns to detections --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """The values of the columns that are read, by position in the header; the frame and the class may be words."""

    numbers: Mapping[int, NDArray[np.float64]]
    words: Mapping[int, Sequence[str]]
    locate: Callable[[int], str]

    def rows(self, chosen: NDArray[np.intp]) -> _Table:
        """Some of the rows."""
        numbers = {column: values[chosen] for column, values in self.numbers.items()}
        words = {column: [values[n] for n in chosen.tolist()] for column, values in self.words.items()}
        return _Table(numbers, words, lambda n: self.locate(int(chosen[n])))


def _read_columns(layout: _Layout) -> list[int]:
    """Positions of the columns that are read, each once."""
    wanted = (
        *(layout.frame, *layout.box, layout.score, layout.class_id, layout.identity, layout.video),
        layout.class_name,
    )
    return list(dict.fromkeys(column for column in wanted if column is not None))


def _detections(
    table: _Table, layout: _Layout, source: str, log: RunLog, hints: FrameHints, kind: str
) -> DetectionTable:
    table, warnings = _of_one_video(table, layout, source, hints)
    numbers = table.numbers
    if layout.frame in table.words:
        frame, reading, base = _named_frames(table.words[layout.frame], hints, source, log, table.locate)
    else:
        identity = None if layout.identity is None else numbers.get(layout.identity)
        by_name = picture_numbers(numbers[layout.frame], hints)
        if by_name is not None:
            frame, reading, base = by_name, "frames are the numbers of the pictures", FrameBase(0, True)
        else:
            base = _base(numbers[layout.frame], layout, identity, hints)
            frame, reading = numbers[layout.frame] - base.first, f"frames count from {base.first}"
    n = len(frame)
    pixels = 1 if (layout.is_mot or layout.may_be_mot) and base.first == 1 else 0
    class_id, class_names = _classes(table, layout, n, source)
    raw = RawDetections(
        frame,
        _boxes(layout.kind, [numbers[column] - pixels * (k < 2) for k, column in enumerate(layout.box)]),
        np.ones(n) if layout.score is None else numbers.get(layout.score, np.ones(n)),
        class_id,
        first_frame=base.first,
        locate=table.locate,
    )
    found = build_table(raw, source, log, length=hints.length, class_names=class_names)
    if not base.is_sure and len(found):
        low, high = int(found.frame[0]), int(found.frame[-1])
        taken = f"{layout.names[0]} {low + base.first}…{high + base.first} was taken as frames {low}…{high}"
        message = f"{source}: {taken} (counted from 0): {argument('frame_base', 1 - base.first)} says otherwise"
        warnings.append(RunWarning("detections", None, "frame-base", message))
    is_named = class_names is not None and layout.class_name in table.words
    columns = (*layout.names, layout.class_label) if is_named else layout.names
    understood = FileReading(kind, reading, pixels, columns)
    return replace(found, warnings=(*warnings, *found.warnings), reading=understood)


def _of_one_video(table: _Table, layout: _Layout, source: str, hints: FrameHints) -> tuple[_Table, list[RunWarning]]:
    """The rows of the video that is meant, where a column names videos."""
    if layout.video is None or layout.video not in table.words:
        refuse_video(hints, source)
        return table, []
    names = [name.strip() for name in table.words[layout.video]]
    if hints.video is None and len(set(names)) == len(names):  # a number of each row is no video
        return table, []
    video = one_video(names, hints, source)
    chosen = np.flatnonzero([name == video for name in names])
    if len(chosen) == len(names):
        return table, []
    return table.rows(chosen), [left_out(source, len(names) - len(chosen), str(video))]


def _base(
    numbers: NDArray[np.float64], layout: _Layout, identity: NDArray[np.float64] | None, hints: FrameHints
) -> FrameBase:
    """From which number frames count; columns of MOTChallenge count from 1."""
    if layout.is_mot:
        return FrameBase(1 if hints.base is None else hints.base, True)
    if layout.may_be_mot:
        base = frame_base(numbers, hints, 1)
        is_detections = identity is not None and len(identity) > 0 and bool((identity == -1).all())
        return FrameBase(base.first, base.is_sure or is_detections)
    return frame_base(numbers, hints, 0)


def _named_frames(
    names: Sequence[str], hints: FrameHints, source: str, log: RunLog, locate: Callable[[int], str]
) -> tuple[NDArray[np.float64], str, FrameBase]:
    """Frames by the names of pictures; NaN, and counted as bad, where there is none of the name."""
    stems = [stem_of(name.strip()) for name in names]
    found = frames_of_ids(stems, hints, source)
    for n, stem in enumerate(stems):
        if stem not in found.frame_of:
            log.skip("image", f"{source}, {locate(n)}: no picture is called {shortened(stem, 40)}", stage="detections")
    frame = np.array([found.frame_of.get(stem, np.nan) for stem in stems], np.float64)
    return frame, found.reading.replace("image ids", "the names of images"), FrameBase(0, found.is_sure)


def _classes(
    table: _Table, layout: _Layout, n: int, source: str
) -> tuple[NDArray[np.float64], Mapping[int, str] | None]:
    """`(N,)` numbers of classes, −1 without; words are numbered in the order of the alphabet.

    Raises:
        InputError: a number has two names.
    """
    columns = [column for column in (layout.class_id, layout.class_name) if column is not None]
    words = next((table.words[column] for column in columns if column in table.words), None)
    numbers = None if layout.class_id is None else table.numbers.get(layout.class_id)
    if numbers is not None:
        return numbers, None if words is None else _named(numbers, words, source, table.locate)
    if words is None:
        return np.full(n, -1.0), None
    words = [word.strip() for word in words]
    names = dict(enumerate(sorted({*words} - {""})))
    number_of = {word: number for number, word in names.items()}
    return np.array([number_of.get(word, -1) for word in words], np.float64), names


def _named(
    numbers: NDArray[np.float64], words: Sequence[str], source: str, locate: Callable[[int], str]
) -> Mapping[int, str] | None:
    """Names by number; None without any.

    Raises:
        InputError: a number has two.
    """
    names: dict[int, str] = {}
    seen: set[tuple[float, str]] = set()
    for n, pair in enumerate(zip(numbers.tolist(), words, strict=True)):
        if pair in seen or pair[0] % 1 != 0:  # what is no whole number is refused, or left out, with its row
            continue
        seen.add(pair)
        try:
            add_class_name(names, int(pair[0]), pair[1])
        except ValueError as error:
            raise InputError(f"{source}, {locate(n)}: {error}") from None
    return names or None


def _boxes(kind: str, columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """`(N, 4)` xyxy from the four columns."""
    a, b, c, d = columns
    if kind == "centre":
        return np.column_stack([a - c / 2, b - d / 2, a + c / 2, b + d / 2])
    return np.column_stack([a, b, a + c, b + d] if kind == "size" else [a, b, c, d])


# --- text to columns --------------------------------------------------------------------------------------------------


def _read_table(text: str, separator: str, layout: _Layout, line: int, bad: Callable[[str], None]) -> _Table:
    """The values of the columns that are read, and the line of each row; the header is in `line`."""
    body = text.partition("\n")[2]
    columns = _read_columns(layout)
    if body.strip() and layout.video is not None:
        return _read_by_line(text, separator, layout, line, bad)
    if not body.strip():
        return _Table({column: np.zeros(0) for column in columns}, {}, "line {}".format)
    try:
        values = np.loadtxt(
            io.StringIO(body), np.float64, delimiter=separator, usecols=columns, ndmin=2, comments=None, quotechar='"'
        )
    except ValueError:
        return _read_by_line(text, separator, layout, line, bad)
    lines = [n for n, row in enumerate(body.splitlines(), start=line + 1) if row.strip()]
    return _Table(dict(zip(columns, values.T, strict=True)), {}, lambda n: f"line {lines[n]}")


def _read_by_line(text: str, separator: str, layout: _Layout, line: int, bad: Callable[[str], None]) -> _Table:
    """The same line by line: a bad one is named, frames and classes may be words, columns may be empty throughout."""
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    next(reader)
    rows = [(reader.line_num + line - 1, fields) for fields in reader if any(field.strip() for field in fields)]
    named = layout.class_name
    needed = [column for column in _read_columns(layout) if column != named]
    whole = [fields for _, fields in rows if len(fields) > max(needed)]
    optional = {column for column in (layout.score, layout.class_id, layout.identity) if column is not None}
    empty = {column for column in optional if not any(fields[column].strip() for fields in whole)}
    wordy = {column for column in (layout.frame, layout.class_id) if column is not None and column not in empty}
    wordy = {column for column in wordy if whole and not any(is_number(fields[column]) for fields in whole)}
    wordy |= set() if layout.video is None else {layout.video}
    numeric = [column for column in needed if column not in empty | wordy]
    names = [""] * len(rows) if named is None else [row[named] if named < len(row) else "" for _, row in rows]
    is_named = any(name.strip() and not is_number(name) for name in names)
    kept: list[list[float]] = []
    words: dict[int, list[str]] = {
        column: [] for column in (*wordy, *([named] if is_named and named is not None else []))
    }
    lines: list[int] = []
    for (number, fields), name in zip(rows, names, strict=True):
        try:
            row = [float(fields[column]) for column in numeric]
            texts = {column: name if column == named else fields[column] for column in words}
        except (ValueError, IndexError) as error:
            cause = f"{len(fields)} fields" if isinstance(error, IndexError) else shortened_line(str(error), 80)
            bad(f"line {number}: {cause}")
            continue
        kept.append(row)
        lines.append(number)
        for column, text_of in texts.items():
            words[column].append(text_of)
    values = np.array(kept, np.float64).reshape(-1, len(numeric))
    return _Table(dict(zip(numeric, values.T, strict=True)), words, lambda n: f"line {lines[n]}")
