"""Our own archives as a format: the columns of tracks as NPZ, the masks of a run, and what a detector found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from trackweave.errors import ArtifactError, InputError
from trackweave.formats.tables import DetectionTable
from trackweave.formats.videos import MaskArchiveVideo, TrackArchiveVideo, info_to_json
from trackweave.masks.packed import PackedMasks
from trackweave.storage import mask_archive, track_archive
from trackweave.storage.npz import NpzReader, NpzWriter, archive_kind
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import Losses, TrackedVideo, VideoInfo
from trackweave.structures.tracks import Tracks

PART_ROWS, PART_BYTES = 4096, 16 << 20
"""Rows, and bytes of masks, of a part that is held until it is written."""


def write_npz(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes the columns of all tracks in parts, as `tracks.npz` of a box run has them."""
    info = video.info
    with track_archive.TracksArchiveWriter(path, {"video": info_to_json(info)}) as archive:
        held: list[Tracks] = []
        rows = size = 0
        for _, tracks in video.sized_frames():
            if not len(tracks):
                continue
            if video.has_masks and tracks.masks is None and info.size is not None:
                tracks = replace(tracks, masks=PackedMasks.empty(*info.size, len(tracks)))
            held.append(replace(tracks, level=None))
            rows += len(tracks)
            size += 0 if tracks.masks is None else tracks.masks.bits.nbytes
            if rows >= PART_ROWS or size >= PART_BYTES:
                archive.write(_part(held, info))
                held, rows, size = [], 0, 0
        if held:
            archive.write(_part(held, info))
    return [path]


def _part(held: list[Tracks], info: VideoInfo) -> track_archive.TrackRows:
    tracks = Tracks.concat(held)
    times = [info.time_of(frame) for frame in tracks.frame.tolist()]
    seconds = np.array([np.nan if time is None else time for time in times], np.float64)
    return track_archive.TrackRows(tracks, np.full(len(tracks), -1, np.int64), seconds)


def read_npz(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Opens `tracks.npz` or `video_segments.npz`.

    Raises:
        InputError: an archive of another kind.
        ArtifactError: a damaged one.
    """
    kind = archive_kind(path)
    if kind == track_archive.KIND:
        return TrackArchiveVideo(track_archive.TracksArchive(path), hints)
    if kind == mask_archive.VIDEO_KIND:
        archive = mask_archive.VideoSegments(path)
        level = archive.info.metadata.get("level")
        if hints is None:
            last = archive.frames[-1] if archive.frames else -1
            frames = range(int(last) + 1)
            names = [archive.frame_name(frame) for frame in frames]
            hints = VideoInfo(path.stem, frames, names, archive.info.full_resolution_shape or archive.info.mask_shape)
        return MaskArchiveVideo({None if level is None else int(level): archive}, hints)
    raise InputError(f"{path}: holds no tracks; archives of tracks are tracks.npz and video_segments.npz")


DETECTIONS_KIND, DETECTIONS_VERSION = "detections", 1


def write_detection_table(path: Path, table: DetectionTable) -> None:
    """Writes what a detector found in a video, number by number as it is; `read_detection_table` reads it.

    Raises:
        RunFolderError: the file cannot be written.
    """
    names = None if table.class_names is None else {str(key): name for key, name in table.class_names.items()}
    masks = None if table.segmentation is None else [dict(code) for code in table.segmentation]
    with NpzWriter(path) as archive:
        for name in ("frame", "xyxy", "score", "class_id"):
            archive.add_array(name, getattr(table, name))
        archive.add_array("masks", np.frombuffer(json.dumps(masks).encode(), np.uint8))
        record = {"kind": DETECTIONS_KIND, "schema_version": DETECTIONS_VERSION, "class_names": names}
        archive.add_manifest(record | {"length": table.length, "source": table.source})


def read_detection_table(path: Path) -> DetectionTable:
    """Reads what `write_detection_table` wrote.

    Raises:
        ArtifactError: missing or damaged.
        ArtifactVersionError: of a newer schema.
    """
    with NpzReader(path, DETECTIONS_KIND, DETECTIONS_VERSION) as archive:
        try:
            names, length = archive.manifest["class_names"], archive.manifest["length"]
            frame, xyxy = archive.array("frame"), archive.array("xyxy")
            score, class_id = archive.array("score"), archive.array("class_id")
            return DetectionTable(
                frame,
                xyxy,
                score,
                class_id,
                None if names is None else {int(key): str(name) for key, name in names.items()},
                json.loads(archive.array("masks").tobytes()),
                None if length is None else int(length),
                source=str(archive.manifest["source"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path}: the detections are damaged: {error}") from None
