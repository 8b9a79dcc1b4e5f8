"""`read_detections` and `read_tracks`: detections or tracks of a sequence from a file, whatever its format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trackweave.errors import InputError, argument, listed, shortened_line
from trackweave.formats.coco import read_coco_detections
from trackweave.formats.columns import (
    detections_from_columns,
    is_header,
    read_csv_detections,
    read_parquet_detections,
    read_yolo_detections,
)
from trackweave.formats.frame_ids import FrameHints, refuse_video
from trackweave.formats.kitti import is_kitti_line, read_kitti_annotations
from trackweave.formats.mot import read_mot, read_mot_detections
from trackweave.formats.registry import read_video, recognised
from trackweave.formats.tables import AnnotationTable, DetectionTable, read_start, read_text
from trackweave.formats.videos import collected
from trackweave.formats.ytvis import VideoJson
from trackweave.masks.packed import PackedMasks
from trackweave.storage import mask_archive, track_archive
from trackweave.storage.npz import archive_kind
from trackweave.structures.run_log import OnBadItem
from trackweave.structures.tracks import Tracks

__all__ = ["DetectionTable", "annotated_tracks", "detections_from_columns", "read_detections", "read_tracks"]

PARQUET_START = b"PAR1"


def read_detections(
    path: Path | str,
    *,
    class_column: int | None = None,
    length: int | None = None,
    on_bad_item: OnBadItem = "error",
    images: Path | str | None = None,
    frame_base: int | None = None,
    hints: FrameHints | None = None,
) -> DetectionTable:
    """Reads detections of one sequence.

    The format shows in the content: Parquet by its first bytes, JSON (COCO results) by its bracket, a table by its
    header; everything else is MOTChallenge text. A folder of text files is YOLO's. An empty file has no detections.
    `reading` of the result says how the file was understood, `warnings` what of that is not sure.

    Args:
        path: the file, or YOLO's folder.
        class_column: 1-based column of the class in MOT text (8 in KITTI's files); None = no class.
        length: frames of the video; rows beyond are bad.
        on_bad_item: `error`, or `skip` to leave bad rows out and count them by reason in `warnings`. Bad are values
            that are not numbers or not finite, lines of the wrong width, frames outside the video and inverted boxes.
            Repeated rows and boxes without area are left out and counted in either case: published files hold them.
            Boxes outside the image are not bad.
        images: for COCO results, the COCO file that lists the video's images; see `read_coco_detections`.
        frame_base: the number that the file gives the first frame, 0 or 1; None: as the format has it, or as the
            numbers show.
        hints: what else is known about the frames, such as the names of the pictures.

    Raises:
        InputError: the file cannot be read, or a row is bad; the message names the file and the line.
        MissingExtraError: a Parquet file without pyarrow.
        ValueError: `on_bad_item` or `frame_base` is something else.
    """
    path, hints = Path(path), hints or FrameHints()
    length, base = hints.length if length is None else length, hints.base if frame_base is None else frame_base
    hints = replace(hints, length=length, base=base)
    if path.is_dir():
        if class_column is not None or images is not None:
            given = argument("images", str(images)) if class_column is None else argument("class_column", class_column)
            raise InputError(f"{path}: {given} is for files of other formats, and a folder is YOLO's")
        return read_yolo_detections(path, hints=hints, on_bad_item=on_bad_item)
    start = read_start(path)
    if start.startswith(PARQUET_START):
        return read_parquet_detections(path, hints=hints, on_bad_item=on_bad_item)
    text = start.decode("utf-8-sig", errors="replace").lstrip()
    is_json, is_table = text.startswith(("[", "{")), is_header(text.partition("\n")[0])
    if class_column is not None and (is_json or is_table):
        raise InputError(
            f"{path}: {argument('class_column', class_column)} is for MOT text, and this names its columns"
        )
    if is_json:
        return read_coco_detections(path, images=images, hints=hints, on_bad_item=on_bad_item)
    if images is not None:
        raise InputError(f"{path}: a list of images ({images}) belongs to COCO results, and this is another format")
    if is_table:
        return read_csv_detections(path, hints=hints, on_bad_item=on_bad_item)
    refuse_video(hints, str(path))
    return read_mot_detections(path, class_column=class_column, hints=hints, on_bad_item=on_bad_item)


ZIP_START = b"PK"


def read_tracks(
    path: str | os.PathLike[str],
    *,
    sequence: str | None = None,
    ground_truth: str | os.PathLike[str] | None = None,
    with_masks: bool = True,
) -> Tracks:
    """Reads the tracks of one sequence.

    The format shows in the content: our archives (`tracks.npz`, `video_segments.npz`), JSON of YouTube-VIS or
    COCO-VID, KITTI tracking text by the type's name in its third column, and whatever else `formats.registry`
    recognises (CSV, Parquet, CVAT, MOTS, label images, …); everything else is MOTChallenge text. Of KITTI, regions
    without identity (DontCare) are left out. Where only some rows have a mask, the masks of the others are empty.

    Args:
        path: the file, or a folder of a format that is one.
        sequence: which video of a JSON; None = the only one.
        ground_truth: the JSON that lists the videos, for a JSON that is a list of results.
        with_masks: False leaves the masks out, which keeps memory small.

    Raises:
        InputError: the file cannot be read or is none of these, or several videos and none named.
        ArtifactError: a damaged archive.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "manifest.json").is_file() or recognised(path) is None:
            raise InputError(f"{path}: is a folder; the tracks of a run are open_run(path).tracks()")
        return _read_other(path, sequence, with_masks)
    start = read_start(path)
    if start.startswith(ZIP_START):
        return _read_archive(path, with_masks)
    text = start.decode("utf-8-sig", errors="replace").lstrip()
    if ground_truth is None and recognised(path) not in (None, "mot", "kitti", "coco-vid", "ytvis"):
        return _read_other(path, sequence, with_masks)
    if text.startswith(("[", "{")):
        table = _read_json(path, sequence, ground_truth)
        return annotated_tracks(table, with_masks=with_masks)
    first = next((line for line in read_text(path).splitlines() if line.strip()), "")
    if is_kitti_line(first):
        return annotated_tracks(read_kitti_annotations(path), with_masks=with_masks)
    return read_mot(path)


def _read_other(path: Path, sequence: str | None, with_masks: bool) -> Tracks:
    tracks = collected(read_video(path, name=sequence))
    return tracks if with_masks else replace(tracks, masks=None)


def _read_archive(path: Path, with_masks: bool) -> Tracks:
    kind = archive_kind(path)
    if kind == track_archive.KIND:
        with track_archive.TracksArchive(path) as tracks:
            return tracks.tracks(with_masks=with_masks)
    if kind == mask_archive.VIDEO_KIND:
        with mask_archive.VideoSegments(path) as video:
            level = video.info.metadata.get("level")
            return Tracks.from_frames(video, level=level, with_masks=with_masks)
    if kind == mask_archive.OBJECT_KIND:
        raise InputError(f"{path}: its masks are in the video_segments.npz beside it: give that file")
    raise InputError(f"{path}: holds no tracks; archives of tracks are tracks.npz and video_segments.npz")


def _read_json(path: Path, sequence: str | None, ground_truth: str | os.PathLike[str] | None) -> AnnotationTable:
    document = VideoJson(path, None if ground_truth is None else VideoJson(Path(ground_truth)))
    names: Sequence[str] = list(document.videos)
    if sequence is None and len(names) != 1:
        raise InputError(f"{path}: has {len(names)} videos; name one as sequence: {listed(names)}")
    name = names[0] if sequence is None else sequence
    if name not in document.videos:
        raise InputError(f"{path}: has no video {shortened_line(name)}; there: {listed(names)}")
    return document.table(name)


def annotated_tracks(table: AnnotationTable, *, with_masks: bool = True) -> Tracks:
    """The rows of a table that have an identity, in the project's own conventions: pixels count from 0, float32.

    Raises:
        InputError: a mask cannot be decoded, or a row has neither box nor mask.
    """
    table = table[table.track_id >= 0]
    has_gap = bool(np.isnan(table.xyxy).any())
    masks = _masks(table) if with_masks or has_gap else None
    xyxy = table.xyxy - table.origin
    if has_gap and masks is not None:
        xyxy = np.where(np.isnan(xyxy), masks.boxes, xyxy)
    tracks = Tracks.from_columns(table.frame, table.track_id, xyxy, table.score, table.class_id, masks)
    return tracks if with_masks else replace(tracks, masks=None)


def _masks(table: AnnotationTable) -> PackedMasks | None:
    """Masks of all rows; empty where a row has none."""
    if table.segmentation is None:
        return None
    has_mask = np.array([entry is not None for entry in table.segmentation], np.bool_)
    masked = table[has_mask]
    parts = [masked.masks(masked.rows(frame)) for frame in masked.frames.tolist()]
    try:
        decoded = PackedMasks.concat([part for part in parts if part is not None])
    except ValueError as error:
        raise InputError(f"{table.source}: {error}") from error
    masks = PackedMasks.empty(*decoded.size, len(table))
    masks.bits[has_mask] = decoded.bits
    return masks
