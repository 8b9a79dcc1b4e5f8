"""Detections as tables: CSV and Parquet files, or columns in memory such as those of a pandas data frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, MissingExtraError
from trackweave.formats.mot import read_text
from trackweave.formats.tables import DetectionTable, Rows, Skipped, build_table
from trackweave.structures.run_log import OnBadItem

NAMES = {
    "frame": ("frame", "frame_idx", "frame_index"),
    "x1": ("x1", "xmin", "left"),
    "y1": ("y1", "ymin", "top"),
    "x2": ("x2", "xmax", "right"),
    "y2": ("y2", "ymax", "bottom"),
    "x": ("x", "bb_left"),
    "y": ("y", "bb_top"),
    "w": ("w", "width", "bb_width"),
    "h": ("h", "height", "bb_height"),
    "score": ("score", "confidence", "conf"),
    "class_id": ("class_id", "category_id", "class"),
}
"""Our name of a column → names that files give it."""
CORNERS, SIZED = ("x1", "y1", "x2", "y2"), ("x", "y", "w", "h")
OPTIONAL = ("score", "class_id")


def read_csv_detections(
    path: Path | str, *, length: int | None = None, on_bad_item: OnBadItem = "error"
) -> DetectionTable:
    """Reads a table with a header; commas, semicolons or tabs separate.

    Columns: `frame` (0-based), `x1,y1,x2,y2` or `x,y,w,h` (0-based pixels, right and bottom exclusive), and if there
    `score` and `class_id`; other columns are not read.

    Raises:
        InputError: the file cannot be read, a column is missing, or a row is bad; the message names the line.
    """
    path = Path(path)
    text = read_text(path)
    skipped = Skipped(str(path), on_bad_item)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    header = next(csv.reader([first.strip()], delimiter=delimiter), [])
    wanted = _chosen(header, str(path))
    at = [header.index(there) for there in wanted.values()]
    numbers, lines = _parse(text, delimiter, at, skipped)
    columns = dict(zip(wanted, numbers.T, strict=True))
    return build_table(_rows(columns, lambda n: f"line {lines[n]}"), skipped, length=length)


def read_parquet_detections(
    path: Path | str, *, length: int | None = None, on_bad_item: OnBadItem = "error"
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
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    columns = {name: table[name].to_numpy() for name in table.column_names}
    return detections_from_columns(columns, length=length, on_bad_item=on_bad_item, source=str(path))


def detections_from_columns(
    columns: Any, *, length: int | None = None, on_bad_item: OnBadItem = "error", source: str = "table"
) -> DetectionTable:
    """A pandas data frame, or a mapping of columns by name, with the columns of `read_csv_detections`.

    Raises:
        InputError: a column is missing or not of numbers, or a row is bad.
    """
    wanted = _chosen(list(columns), source)
    found: dict[str, NDArray[np.float64]] = {}
    for name, there in wanted.items():
        try:
            found[name] = np.asarray(columns[there]).astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{source}: column {there} is not of numbers: {error}") from error
    return build_table(_rows(found, "row {}".format), Skipped(source, on_bad_item), length=length)


def _chosen(header: Sequence[str], source: str) -> dict[str, str]:
    """Our name → the file's name of every column to read."""
    clean = {str(name).strip().lower(): name for name in header}
    known = {ours: next((clean[n] for n in names if n in clean), None) for ours, names in NAMES.items()}
    box = CORNERS if all(known[name] is not None for name in CORNERS) else SIZED
    missing = [name for name in ("frame", *box) if known[name] is None]
    if missing:
        raise InputError(
            f"{source}: no column {', '.join(missing)} among {', '.join(map(str, header)) or 'none'}; "
            f"needed are frame and {','.join(CORNERS)} or {','.join(SIZED)}"
        )
    return {name: there for name in ("frame", *box, *OPTIONAL) if (there := known[name]) is not None}


def _rows(columns: dict[str, NDArray[np.float64]], place: Any) -> Rows:
    n = len(columns["frame"])
    if "x1" in columns:
        box = np.column_stack([columns[name] for name in CORNERS])
    else:
        x, y, w, h = (columns[name] for name in SIZED)
        box = np.column_stack([x, y, x + w, y + h])
    score, class_id = columns.get("score", np.ones(n)), columns.get("class_id", np.full(n, -1.0))
    return Rows(columns["frame"], box, score, class_id, place=place)


def _parse(
    text: str, delimiter: str, at: list[int], skipped: Skipped
) -> tuple[NDArray[np.float64], Sequence[int] | NDArray[np.int64]]:
    """`(N, len(at))` values of the columns `at`, and the line of each row."""
    body = text.partition("\n")[2]
    if not body.strip():
        return np.zeros((0, len(at))), []
    try:
        values = np.loadtxt(
            io.StringIO(body), np.float64, delimiter=delimiter, usecols=at, ndmin=2, comments=None, quotechar='"'
        )
    except ValueError:
        return _parse_by_line(text, delimiter, at, skipped)
    filled = [n for n, line in enumerate(body.splitlines(), start=2) if line.strip()]
    return values, filled


def _parse_by_line(text: str, delimiter: str, at: list[int], skipped: Skipped) -> tuple[NDArray[np.float64], list[int]]:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    next(reader)
    rows: list[list[float]] = []
    lines: list[int] = []
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue
        try:
            row = [float(fields[column]) for column in at]
        except (ValueError, IndexError) as error:
            cause = f"{len(fields)} fields" if isinstance(error, IndexError) else str(error)
            skipped.add("not-a-number", f"line {reader.line_num}: {cause}")
            continue
        rows.append(row)
        lines.append(reader.line_num)
    return np.array(rows, np.float64).reshape(-1, len(at)), lines
