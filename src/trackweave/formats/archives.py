"""Our own archives as a format: the columns of tracks as NPZ, and the masks of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from trackweave.errors import InputError
from trackweave.formats.videos import MaskArchiveVideo, TrackArchiveVideo, info_to_json
from trackweave.masks.packed import PackedMasks
from trackweave.storage import mask_archive, track_archive
from trackweave.storage.npz import archive_kind
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
