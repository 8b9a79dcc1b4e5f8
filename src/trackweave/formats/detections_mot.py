"""Detections as MOTChallenge text: `frame,-1,x,y,w,h,score,class,…`, 1-based like the tracks of `formats/mot.py`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.formats.detections_table import DetectionTable, OnBadItem, Rows, Skipped, build_table

NARROWEST = 6
WIDEST = 32


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
    if class_column is not None and not 7 <= class_column <= WIDEST:
        raise InputError(f"class column {class_column}: the columns after the box are 7 to {WIDEST}")
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
        return np.zeros((0, NARROWEST))
    delimiter = "," if "," in text[:4096] else None
    try:
        numbers = np.loadtxt(io.StringIO(text), np.float64, delimiter=delimiter, ndmin=2, comments=None)
    except ValueError:
        return None
    return numbers if NARROWEST <= numbers.shape[1] <= WIDEST else None


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
        if not NARROWEST <= len(fields) <= WIDEST:
            skipped.add("width", f"line {number}: {len(fields)} fields, expected frame,id,x,y,w,h,score and more")
            continue
        try:
            found.append([float(field) for field in fields])
        except ValueError as error:
            skipped.add("not-a-number", f"line {number}: {error}")
            continue
        numbers.append(number)
    width = max((len(row) for row in found), default=NARROWEST)
    missing = [-1.0] * width
    missing[NARROWEST : NARROWEST + 1] = [1.0][: width - NARROWEST]
    rows = [row + missing[len(row) :] for row in found]
    return np.array(rows, np.float64).reshape(-1, width), np.array(numbers, np.int64)


def line_numbers(text: str) -> NDArray[np.int64]:
    """`(N,)` 1-based numbers of the lines that are not empty."""
    return np.array([n for n, line in enumerate(text.splitlines(), start=1) if line.strip()], np.int64)
