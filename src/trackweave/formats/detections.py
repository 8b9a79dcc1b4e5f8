"""Detections of a whole sequence from a file, whatever its format."""

from __future__ import annotations

from pathlib import Path

from trackweave.errors import InputError
from trackweave.formats.coco import read_coco_detections
from trackweave.formats.columns import detections_from_columns, read_csv_detections, read_parquet_detections
from trackweave.formats.mot import read_mot_detections
from trackweave.formats.tables import DetectionTable
from trackweave.structures.run_log import OnBadItem

__all__ = ["DetectionTable", "detections_from_columns", "read_detections"]

PARQUET_START = b"PAR1"


def read_detections(
    path: Path | str,
    *,
    class_column: int | None = None,
    length: int | None = None,
    on_bad_item: OnBadItem = "error",
    images: Path | str | None = None,
) -> DetectionTable:
    """Reads detections of one sequence.

    The format shows in the content: Parquet by its first bytes, JSON (COCO results) by its bracket, a table by its
    header; everything else is MOTChallenge text. An empty file has no detections.

    Args:
        path: the file.
        class_column: 1-based column of the class in MOT text (8 in KITTI's files); None = no class.
        length: frames of the video; rows beyond are bad.
        on_bad_item: `error`, or `skip` to leave bad rows out and count them by reason in `warnings`. Bad are values
            that are not numbers or not finite, lines of the wrong width, frames outside the video and inverted boxes.
            Repeated rows and boxes without area are left out and counted in either case: published files hold them.
            Boxes outside the image are not bad.
        images: for COCO results, the COCO file that lists the video's images; see `read_coco_detections`.

    Raises:
        InputError: the file cannot be read, or a row is bad; the message names the file and the line.
        MissingExtraError: a Parquet file without pyarrow.
        ValueError: `on_bad_item` is something else.
    """
    path = Path(path)
    start = _start(path)
    if start.startswith(PARQUET_START):
        return read_parquet_detections(path, length=length, on_bad_item=on_bad_item)
    text = start.decode("utf-8-sig", errors="replace").lstrip()
    if text.startswith(("[", "{")):
        return read_coco_detections(path, images=images, length=length, on_bad_item=on_bad_item)
    if _is_header(text.partition("\n")[0]):
        return read_csv_detections(path, length=length, on_bad_item=on_bad_item)
    return read_mot_detections(path, class_column=class_column, length=length, on_bad_item=on_bad_item)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _is_header(line: str) -> bool:
    """Is it a table's first line: with a column named as one of frames?"""
    names = {name.strip().strip('"').lower() for name in line.replace(";", ",").replace("\t", ",").split(",")}
    return bool(names & {"frame", "frame_idx", "frame_index"})
