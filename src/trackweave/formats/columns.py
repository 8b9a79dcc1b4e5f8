"""Detections as tables: CSV and Parquet files, or columns in memory such as those of a pandas data frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, MissingExtraError
from trackweave.formats.tables import DetectionTable, RawDetections, build_table, read_text
from trackweave.structures.run_log import OnBadItem, RunLog

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
    text, log = read_text(path), RunLog(on_bad_item, None)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    header = next(csv.reader([first.strip()], delimiter=delimiter), [])
    chosen = _chosen_columns(header, str(path))
    positions = [header.index(name) for name in chosen.values()]
    numbers, lines = _read_numbers(text, delimiter, positions, lambda cause: _skip(log, path, cause))
    rows = _raw_detections(dict(zip(chosen, numbers.T, strict=True)), lambda n: f"line {lines[n]}")
    return build_table(rows, str(path), log, length=length)


def _skip(log: RunLog, path: Path, cause: str) -> None:
    log.skip("not-a-number", f"{path}, {cause}", stage="detections")


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
    numbers: dict[str, NDArray[np.float64]] = {}
    for ours, name in _chosen_columns(list(columns), source).items():
        try:
            numbers[ours] = np.asarray(columns[name]).astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{source}: column {name} is not of numbers: {error}") from error
    rows = _raw_detections(numbers, "row {}".format)
    return build_table(rows, source, RunLog(on_bad_item, None), length=length)


def _chosen_columns(header: Sequence[str], source: str) -> dict[str, str]:
    """Our name → the file's name of every column to read."""
    clean = {str(name).strip().lower(): name for name in header}
    present = {ours: next((clean[n] for n in names if n in clean), None) for ours, names in NAMES.items()}
    box = CORNERS if all(present[name] is not None for name in CORNERS) else SIZED
    missing = [name for name in ("frame", *box) if present[name] is None]
    if missing:
        raise InputError(
            f"{source}: no column {', '.join(missing)} among {', '.join(map(str, header)) or 'none'}; "
            f"needed are frame and {','.join(CORNERS)} or {','.join(SIZED)}"
        )
    return {ours: name for ours in ("frame", *box, *OPTIONAL) if (name := present[ours]) is not None}


def _raw_detections(columns: Mapping[str, NDArray[np.float64]], locate: Callable[[int], str]) -> RawDetections:
    n = len(columns["frame"])
    if "x1" in columns:
        box = np.column_stack([columns[name] for name in CORNERS])
    else:
        x, y, w, h = (columns[name] for name in SIZED)
        box = np.column_stack([x, y, x + w, y + h])
    score, class_id = columns.get("score", np.ones(n)), columns.get("class_id", np.full(n, -1.0))
    return RawDetections(columns["frame"], box, score, class_id, locate=locate)


def _read_numbers(
    text: str, delimiter: str, positions: list[int], bad: Callable[[str], None]
) -> tuple[NDArray[np.float64], Sequence[int]]:
    """`(N, columns)` values of the columns at these positions, and the line of each row."""
    body = text.partition("\n")[2]
    if not body.strip():
        return np.zeros((0, len(positions))), []
    try:
        values = np.loadtxt(
            io.StringIO(body), np.float64, delimiter=delimiter, usecols=positions, ndmin=2, comments=None, quotechar='"'
        )
    except ValueError:
        return _read_numbers_by_line(text, delimiter, positions, bad)
    return values, [n for n, line in enumerate(body.splitlines(), start=2) if line.strip()]


def _read_numbers_by_line(
    text: str, delimiter: str, positions: list[int], bad: Callable[[str], None]
) -> tuple[NDArray[np.float64], list[int]]:
    """The same line by line, so that a bad one can be named."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    next(reader)
    rows: list[list[float]] = []
    lines: list[int] = []
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue
        try:
            row = [float(fields[column]) for column in positions]
        except (ValueError, IndexError) as error:
            cause = f"{len(fields)} fields" if isinstance(error, IndexError) else str(error)
            bad(f"line {reader.line_num}: {cause}")
            continue
        rows.append(row)
        lines.append(reader.line_num)
    return np.array(rows, np.float64).reshape(-1, len(positions)), lines
