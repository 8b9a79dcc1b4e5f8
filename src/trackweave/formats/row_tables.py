"""Tracks as tables of one row per object and frame: CSV, Parquet, Arrow IPC.

Columns: `frame` from 0, `name` and `time` of the frame, `track_id`, `level`, `class_id`, `class_name`, `score`,
`x1 y1 x2 y2` in pixels from 0 (right and bottom exclusive), and the mask as COCO's compressed run lengths:
`mask_height`, `mask_width`, `mask_counts`, empty where there is none. Parquet and Arrow also keep, in the metadata of
their schema, what is known of the video: its name and size, all frames with names and times.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from io import StringIO
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, MissingExtraError, shortened_line
from trackweave.formats.columns import canonical, find_columns, is_number
from trackweave.formats.tables import AnnotationRows, read_text, whole_number
from trackweave.formats.videos import TableVideo, info_from_text, info_to_json, listed_frames
from trackweave.masks.codecs import encode_rle
from trackweave.storage.files import check_regular, replacing
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import Losses, TrackedVideo, VideoInfo
from trackweave.structures.tracks import Tracks

COLUMNS = (
    *("frame", "name", "time", "track_id", "level", "class_id", "class_name", "score"),
    *("x1", "y1", "x2", "y2", "mask_height", "mask_width", "mask_counts"),
)
METADATA_KEY = b"trackweave"
ROW_GROUP = 4096
"""Rows that are held until they are written: with masks about a megabyte, and several until it is compressed."""


def _rows(video: TrackedVideo) -> Iterator[Mapping[str, Sequence[Any] | NDArray[Any]]]:
    """The columns of each frame that has objects; None where there is nothing to say."""
    info, has_levels = video.info, video.has_levels
    for index, tracks in video.sized_frames():
        n = len(tracks)
        if not n:
            continue
        yield {
            "frame": [int(index)] * n,
            "name": [info.names[info.positions[int(index)]]] * n,
            "time": [info.time_of(int(index))] * n,
            "track_id": tracks.track_id.tolist(),
            "level": tracks.level.tolist() if has_levels and tracks.level is not None else [None] * n,
            "class_id": tracks.class_id.tolist(),
            "class_name": [info.class_name(number) if number >= 0 else None for number in tracks.class_id.tolist()],
            "score": tracks.score,
            **{name: tracks.xyxy[:, k] for k, name in enumerate(("x1", "y1", "x2", "y2"))},
            **_masks(tracks),
        }


def _masks(tracks: Tracks) -> Mapping[str, Sequence[Any]]:
    n = len(tracks)
    if tracks.masks is None:
        return {name: [None] * n for name in ("mask_height", "mask_width", "mask_counts")}
    present = (tracks.masks.areas > 0).tolist()
    codes = [
        code["counts"] if is_there else None for code, is_there in zip(encode_rle(tracks.masks), present, strict=True)
    ]
    height, width = tracks.masks.size
    return {
        "mask_height": [height if is_there else None for is_there in present],
        "mask_width": [width if is_there else None for is_there in present],
        "mask_counts": codes,
    }


def write_csv(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes a CSV; numbers have the fewest digits that give the same float32 again."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for columns in _rows(video):
            texts = [
                column.astype(str).tolist() if isinstance(column, np.ndarray) else column
                for column in (columns[name] for name in COLUMNS)
            ]
            writer.writerows(zip(*texts, strict=True))
    return [path]


def read_csv(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads a CSV of ours or of others, with the names of columns that `read_csv_detections` knows, and an id.

    Raises:
        InputError: it cannot be read, a column is missing, or a row is bad.
    """
    reader = csv.reader(StringIO(read_text(path), newline=""))  # by lines a name of two would lose its break
    try:
        header = next(reader, [])
        rows = ((f"line {reader.line_num}", row) for row in reader if any(row))
        return TableVideo(_read(path, header, rows).table(), hints)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from error


def _read(path: Path, header: Sequence[str], rows: Iterator[tuple[str, Sequence[Any]]]) -> AnnotationRows:
    """Rows of any of the tables; a column is found by its name.

    Raises:
        InputError: a column is missing, or a row is bad.
    """
    source = str(path)
    layout = find_columns(header, source)
    if layout.identity is None:
        raise InputError(f"{source}: no column track_id: these are detections, not tracks")
    if layout.frame_is_name or layout.kind == "centre":
        raise InputError(f"{source}: tracks need a column frame, and boxes as corners or as corner and size")
    place = {canonical(column): n for n, column in enumerate(header)}
    optional = {key: place.get(key) for key in ("level", "maskheight", "maskwidth", "maskcounts")}
    base = 1 if layout.is_mot else 0
    found = AnnotationRows(source)
    for where, row in rows:

        def value(at: int | None, row: Sequence[Any] = row) -> Any:
            return None if at is None or row[at] is None or row[at] == "" else row[at]

        try:
            box = [float(row[at]) for at in layout.box]
            if layout.kind == "size":
                box = [box[0] - base, box[1] - base, box[0] - base + box[2], box[1] - base + box[3]]
            counts = value(optional["maskcounts"])
            mask = None
            if counts is not None:
                size = [int(value(optional[key])) for key in ("maskheight", "maskwidth")]
                mask = {"size": size, "counts": counts}
            class_id = _class_of(found, value(layout.class_id), value(layout.class_name))
            score = value(layout.score)
            found.add(
                _whole(row[layout.frame]) - base,
                row[layout.identity],
                box,
                score=1.0 if score is None else score,
                class_id=class_id,
                mask=mask,
                level=value(optional["level"]),
            )
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            reason = "too few fields" if isinstance(error, IndexError) else shortened_line(str(error))
            raise InputError(f"{source}, {where}: {reason}") from error
    return found


def _class_of(found: AnnotationRows, value: Any, name: Any) -> int:
    """The class of a row: its number, which may have a name, or its name; −1 without both."""
    if value is None:
        return -1 if name is None else found.class_number(str(name))
    try:
        float(value)
    except (TypeError, ValueError):
        return found.class_number(str(value))
    is_named = name is not None and not is_number(str(name))
    return found.numbered_class(whole_number(value, "class"), str(name) if is_named else "")


def _whole(value: Any) -> int:
    number = float(value)
    if number % 1:
        raise ValueError(f"frame {number:g} is not a whole number: is it a time?")
    return int(number)


# --- Parquet and Arrow ------------------------------------------------------------------------------------------------


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("pyarrow", "tables", ", or write CSV") from error
    return pyarrow


def _schema(info: VideoInfo) -> Any:
    pa = _arrow()
    whole, real, text = pa.int64(), pa.float32(), pa.string()
    types = (whole, text, pa.float64(), whole, whole, whole, text, real, real, real, real, real, whole, whole, text)
    fields = [pa.field(name, kind) for name, kind in zip(COLUMNS, types, strict=True)]
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(info_to_json(info)).encode()})


def _batches(video: TrackedVideo, schema: Any) -> Iterator[Any]:
    """Record batches of some thousand rows."""
    pa = _arrow()
    held: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for columns in _rows(video):
        for name in COLUMNS:
            held[name].append(pa.array(columns[name], schema.field(name).type))
        if sum(map(len, held["frame"])) >= ROW_GROUP:
            yield pa.record_batch([pa.concat_arrays(held[name]) for name in COLUMNS], schema=schema)
            held = {name: [] for name in COLUMNS}
    if held["frame"]:
        yield pa.record_batch([pa.concat_arrays(held[name]) for name in COLUMNS], schema=schema)


def _write(
    path: Path, video: TrackedVideo, open_writer: Callable[[Path, Any], AbstractContextManager[Any]]
) -> list[Path]:
    schema = _schema(video.info)
    with replacing(path) as temporary, open_writer(temporary, schema) as writer:
        for batch in _batches(video, schema):
            writer.write_batch(batch)
    return [path]


def write_parquet(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes Parquet, a row group for every few thousand rows.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    _arrow()
    import pyarrow.parquet as pq

    return _write(path, video, lambda target, schema: pq.ParquetWriter(target, schema, compression="zstd"))


def write_arrow(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes an Arrow IPC file (also called Feather).

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    _arrow()
    from pyarrow import ipc

    return _write(path, video, lambda target, schema: ipc.new_file(str(target), schema))


def read_arrow(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads Parquet or an Arrow IPC file, of ours or of others.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InputError: it cannot be read, a column is missing, or a row is bad.
        ArtifactError: its record of the video is damaged.
    """
    pa = _arrow()
    from pyarrow import ipc
    from pyarrow import parquet as pq

    check_regular(path)
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            table = pq.read_table(path)
        else:
            with pa.OSFile(str(path), "rb") as file:
                table = ipc.open_file(file).read_all()
        table.validate(full=True)
        columns = [column.to_pylist() for column in table.columns]
        metadata = (table.schema.metadata or {}).get(METADATA_KEY)
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as a table: {shortened_line(str(error))}") from error
    rows = zip(
        (f"row {n}" for n in range(table.num_rows)), zip(*columns, strict=True) if columns else repeat(()), strict=False
    )
    found = _read(path, [str(one) for one in table.column_names], rows)
    if metadata is None:
        return TableVideo(found.table(), hints)
    info = info_from_text(metadata.decode("utf-8", "replace"), path, 0)
    shared = listed_frames(info) | {"class_names": info.class_names or found.class_names}
    return TableVideo(found.table(info.positions, **shared))
