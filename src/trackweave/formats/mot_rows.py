"""MOT text with every number as the file has it: ground truth and results for evaluation.

`mot.py` and `motchallenge.py` read the same files into the project's own conventions (0-based pixels, float32).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.formats.annotations import AnnotationTable, in_frame_order, repeated
from trackweave.formats.detections_mot import line_numbers, numbers_at_once, read_text

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
