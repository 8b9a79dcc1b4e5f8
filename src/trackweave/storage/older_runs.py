"""Runs of the tracking guide's older pipeline, opened as they are.

Such a run folder has archives `level_L/tracking/video_segments*.npz` that are zip files of JSON: an entry
`frames/frame_000012.json` for each frame, and a `manifest.json` that lists them (`mask_archive` reads both). What a run
of ours has besides, it lacks: the list of artifacts, `frames.json`, `summary.json`. They are made of the archives here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from trackweave.ids import FrameIndex, Level
from trackweave.storage.mask_archive import OBJECT_KIND, VIDEO_KIND, VideoSegments
from trackweave.structures.run_summary import InputSummary, LevelSummary, MaskSummary, TrackSummary

LEVEL_FOLDER = re.compile(r"level_(\d{1,9})")


def older_artifacts(root: Path) -> dict[str, dict[str, str]]:
    """Level → kind of archive → its path below the run folder; empty where there are no archives.

    Of several scales of a level the largest file counts: it has the most pixels.
    """
    found: dict[str, dict[str, str]] = {}
    for folder in sorted(root.glob("level_*/tracking")):
        match = LEVEL_FOLDER.fullmatch(folder.parent.name)
        if match is None:
            continue
        for kind in (VIDEO_KIND, OBJECT_KIND):
            files = sorted(folder.glob(f"{kind}*.npz"), key=lambda path: (path.stat().st_size, path.name))
            if files:
                found.setdefault(str(int(match[1])), {})[kind] = files[-1].relative_to(root).as_posix()
    return {level: files for level, files in found.items() if VIDEO_KIND in files}


def older_frames(root: Path) -> tuple[list[FrameIndex], list[str], tuple[int, int]]:
    """Indices and names of the frames that any level lists, and `(H, W)` of the video.

    Raises:
        ArtifactError: an archive is damaged, or all of them are empty.
    """
    names: dict[FrameIndex, str] = {}
    size = (1, 1)
    with ExitStack() as stack:
        for level in older_artifacts(root).values():
            archive = stack.enter_context(VideoSegments(root / level[VIDEO_KIND]))
            names |= {frame: archive.frame_name(frame) for frame in archive.listed}
            size = max(size, archive.info.full_resolution_shape or (1, 1))
    ordered = sorted(names)
    return ordered, [names[frame] for frame in ordered], size


def older_summary(root: Path) -> MaskSummary:
    """What the archives say of a run: counts and tracks; how long it took and by which predictor is not known.

    Raises:
        ArtifactError: an archive is damaged.
    """
    frames, _, size = older_frames(root)
    positions = {frame: position for position, frame in enumerate(frames)}
    levels: dict[Level, LevelSummary] = {}
    for level, files in sorted(older_artifacts(root).items(), key=lambda pair: int(pair[0])):
        with VideoSegments(root / files[VIDEO_KIND]) as archive:
            seen: dict[int, list[FrameIndex]] = {}
            for frame in archive.listed:
                for track_id in archive.ids_on(frame):
                    seen.setdefault(int(track_id), []).append(frame)
        tracks = [TrackSummary(one, _spans(on, positions), len(on)) for one, on in sorted(seen.items())]
        counts = {"frames": len(frames), "objects": len(tracks), "object_frames": sum(map(len, seen.values()))}
        levels[Level(int(level))] = LevelSummary(counts, tracks=tracks)
    totals = {key: sum(level.counts[key] for level in levels.values()) for key in ("objects", "object_frames")}
    return MaskSummary("masks", InputSummary(None, len(frames), size), totals, levels=levels)


def _spans(frames: list[FrameIndex], positions: Mapping[FrameIndex, int]) -> list[tuple[int, int]]:
    """Runs of frames that follow each other in the video."""
    spans: list[tuple[int, int]] = []
    for frame in sorted(frames):
        if spans and positions[frame] == positions[FrameIndex(spans[-1][1])] + 1:
            spans[-1] = (spans[-1][0], int(frame))
        else:
            spans.append((int(frame), int(frame)))
    return spans
