"""`relate`: which tracks of a mask run are one thing, and which thing is part of which."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from trackweave.errors import ArtifactError, FrameError, InputError, wording
from trackweave.formats.mot import write_mot_frames
from trackweave.frames.source import FrameSource
from trackweave.identity.merge import merge
from trackweave.identity.nest import Nesting, nest
from trackweave.identity.overlaps import LevelObjects, gather
from trackweave.identity.settings import IdentitySettings
from trackweave.ids import PROMPTED_LEVEL, FrameIndex, Level
from trackweave.pipelines.mask_corrections import restore, write_corrected
from trackweave.pipelines.run import Run
from trackweave.pipelines.stitching import MaskStitcher
from trackweave.progress import Progress, ProgressDisplay, open_progress
from trackweave.storage.corrected_masks import open_masks
from trackweave.storage.files import locked_folder, remove_leftovers, write_json
from trackweave.storage.identity import (
    Fusion,
    IdentityRecord,
    archive_sizes,
    write_index,
    write_relations,
)
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.run import FrameList, RunManifest, RunPaths
from trackweave.structures.identity import IdentityTable
from trackweave.structures.run_log import RunWarning
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import run_colours
from trackweave.visualization.settings import OverlaySettings
from trackweave.visualization.video import write_mask_overlay

OVERLAY_RATE = 10.0
"""Frames per second of an overlay video of frames without times."""


def relate(
    run: str | os.PathLike[str],
    settings: IdentitySettings | bool = True,
    *,
    video: str | os.PathLike[str] | FrameSource | None = None,
    progress: Progress = None,
) -> Run:
    """Finds which tracks of a finished mask run are one thing and which thing is part of which, and writes it down.

    Nothing is tracked again, and the archives stay as they are. `identity.json`, `relations.json`, `index.json` and
    `tracks.mot.txt` are written anew; `identity.json`, by which the run is read, comes last. What a person said about
    the run holds on top of it. Then its videos of tracks over frames are drawn anew, where it has some; comparison
    pictures stay: they show tracks as they were tracked.

    Args:
        run: a run, or its folder.
        settings: how; True = the defaults; False = removes the identities: every track is its own again.
        video: the frames, or where they lie now; None = where they lay. Where they are not there any more nothing is
            stitched or drawn, and a warning says so.
        progress: None = shown by itself in a terminal or a notebook; or a function of `(done, total, label)`.

    Raises:
        ArtifactError: no finished run, a run without masks or of a person's objects alone, or a damaged file.
        InputError: `video` is not the run's.
        RunFolderError: another process works in the folder, or a file cannot be written.
    """
    finished = Run(run)
    if finished.kind == "boxes":
        raise ArtifactError(f"{finished.root}: is a run of boxes: only masks lie in each other")
    levels = finished.levels
    chosen = (IdentitySettings() if settings else None) if isinstance(settings, bool) else settings
    if chosen is not None and not related_levels(levels):
        raise ArtifactError(
            f"{finished.root}: its objects are those that a person marked: they keep their ids, nothing is joined"
        )
    overlays = {level: path for level in levels if (path := overlay_path(finished.paths, levels, level)).is_file()}
    with ExitStack() as stack:
        frames, gone = None, None
        is_stitched = chosen is not None and chosen.stitch
        if is_stitched or overlays:
            frames, gone = _frames_of(finished, video, stack)
        stitcher = MaskStitcher(frames, finished.summary.input.cuts or ()) if is_stitched and frames else None
        stack.enter_context(locked_folder(finished.root))
        remove_leftovers([finished.root])
        restore(finished.paths)
        write_identities(finished.paths, levels, chosen, progress, stitcher)
        write_corrected(finished.paths)  # what a person said holds on top of any identities
        if frames is not None and overlays:
            draw_overlays(finished.paths, overlays, frames, progress=progress)
        _replace_warnings(Run(run), _left_undone(gone, is_stitched=is_stitched, has_overlay=bool(overlays)))
    return Run(run)


def _frames_of(
    run: Run, video: str | os.PathLike[str] | FrameSource | None, stack: ExitStack
) -> tuple[FrameSource | None, str | None]:
    """The frames that a run went over; or None, and why."""
    if isinstance(video, FrameSource):
        return video, None
    try:
        return stack.enter_context(run.video(video)), None
    except (InputError, FrameError) as error:
        if video is not None:
            raise
        return None, str(error)


def _left_undone(gone: str | None, *, is_stitched: bool, has_overlay: bool) -> list[RunWarning]:
    """What was not done where the frames are gone, and why."""
    again = wording("relate(run, video=…)", "trackweave relate RUN --video PATH")
    undone = [
        ("not-stitched", "nothing is stitched over gaps and cuts", is_stitched),
        ("overlay-outdated", "overlay.mp4 shows the tracks of before", has_overlay),
    ]
    return [
        RunWarning("identity", None, code, f"{text}: {gone} ({again})")
        for code, text, is_asked in undone
        if is_asked and gone is not None
    ]


def _replace_warnings(run: Run, warnings: Sequence[RunWarning]) -> None:
    """Puts these in the place of what an earlier call warned of."""
    before = run.warnings
    now = [*(one for one in before if one.stage != "identity"), *warnings]
    if now != before:
        manifest = RunManifest.load(run.paths.manifest)
        manifest.replace_warnings(warnings, stages=("identity",), level=None)
        manifest.write()
        write_json(run.paths.summary, replace(run.summary, warnings=now).to_json())


def overlay_path(run: RunPaths, levels: Sequence[Level], level: Level) -> Path:
    """Where the overlay video of a level lies: that of the run's first is the run's."""
    return run.overlay if level == levels[0] else run.level(level).overlay


def draw_overlays(
    run: RunPaths,
    videos: Mapping[Level, Path],
    frames: FrameSource,
    drawing: OverlaySettings | None = None,
    progress: Progress = None,
) -> None:
    """Writes videos of a run's tracks over its frames, in the colours of their families.

    Args:
        run: the run folder.
        videos: level → file.
        frames: all frames of the run.
        drawing: how; None = as before.
        progress: see `relate`.

    Raises:
        FrameError: a frame cannot be read.
        ArtifactError: a file cannot be written.
    """
    manifest = RunManifest.load(run.manifest)
    if drawing is None:
        recorded = manifest.data.get("overlay")
        drawing = OverlaySettings.checked(recorded if isinstance(recorded, dict) else {})
    else:
        manifest.merge({"overlay": drawing.model_dump(mode="json")})
        manifest.write()
    rate = FrameList(frames.indices, frames.names, frames.times, frames.size).rate or OVERLAY_RATE
    colours = run_colours(run)
    steps = count(1)
    with open_progress(progress, len(frames) * len(videos), "overlay video") as display:
        for level, path in videos.items():
            with open_masks(run, level, unfinished=True) as archive:
                write_mask_overlay(
                    path,
                    archive,
                    frames,
                    rate,
                    drawing,
                    colours,
                    written=lambda frame: display.update(next(steps), frame),
                )


def related_levels(levels: Sequence[Level]) -> list[Level]:
    """Those whose tracks may be joined: a person's objects keep the person's ids."""
    return [level for level in levels if level != PROMPTED_LEVEL]


def write_identities(
    paths: RunPaths,
    levels: Sequence[Level],
    settings: IdentitySettings | None,
    progress: Progress = None,
    stitcher: MaskStitcher | None = None,
) -> IdentityRecord | None:
    """Writes everything about the identities of a run whose folder is locked, and the boxes by them.

    Args:
        paths: the run folder.
        levels: those whose boxes are written where there are no identities; identities are of all its levels.
        settings: None = no identities: their files are removed.
        progress: see `relate`.
        stitcher: what knows the pictures; None = nothing is stitched.

    Returns:
        What was found; None without settings, or where all objects are a person's.
    """
    manifest = RunManifest.load(paths.manifest)
    is_related = settings is not None and bool(related_levels(levels))
    levels = manifest.tracked_levels if is_related else levels
    stitcher = stitcher if settings is not None and settings.stitch else None
    with ExitStack() as stack:
        videos = {
            level: stack.enter_context(VideoSegments(manifest.artifact(level, "video_segments"))) for level in levels
        }
        if settings is None or not is_related:
            write_mot_frames(paths.mot, _raw_boxes(videos))
            for path in (paths.identity, paths.relations, paths.index):
                path.unlink(missing_ok=True)
            return None
        frames = sorted({int(frame) for video in videos.values() for frame in video.frames})
        with open_progress(progress, 2 * len(frames), "identities") as display:
            table, nesting = _find_identities(videos, frames, settings, stitcher, display)
            recorded = settings.model_dump(mode="json")
            record = IdentityRecord(table, nesting.tree, archive_sizes(manifest, levels), recorded, nesting.split)
            index: dict[int, list[int]] = {}
            write_mot_frames(paths.mot, _boxes_by_identity(videos, frames, record, index, display))
    write_relations(paths.relations, nesting.tree, nesting.pairs)
    write_index(paths.index, index, nesting.tree)
    record.write(paths.identity)
    return record


def _find_identities(
    videos: Mapping[Level, VideoSegments],
    frames: Sequence[int],
    settings: IdentitySettings,
    stitcher: MaskStitcher | None,
    display: ProgressDisplay,
) -> tuple[IdentityTable, Nesting]:
    """Which tracks are one thing, and what is part of what: one pass over the masks of all frames.

    The tree is made twice: stitching a part asks which whole it lies in, and what is joined then may lie elsewhere.
    """

    def passing() -> Iterator[list[LevelObjects]]:
        for position, frame in enumerate(frames):
            objects = _raw_objects(videos, frame)
            if stitcher is not None:
                stitcher.add(frame, objects)
            yield objects
            display.update(position + 1, frame)

    evidence = gather(passing(), settings.merge_iou)
    links = merge(evidence, settings, fixed_levels=(PROMPTED_LEVEL,))
    table = IdentityTable.from_links(evidence.track_id, evidence.level, links)
    if stitcher is not None:
        wholes = nest(evidence, table, settings).tree
        raw = partial(_raw_objects, videos)
        links += stitcher.links(evidence, table, wholes, frames, raw, settings.stitch_probability)
        table = IdentityTable.from_links(evidence.track_id, evidence.level, links)
    return table, nest(evidence, table, settings)


def _boxes_by_identity(
    videos: Mapping[Level, VideoSegments],
    frames: Sequence[int],
    record: IdentityRecord,
    index: dict[int, list[int]],
    display: ProgressDisplay,
) -> Iterator[Tracks]:
    """The boxes of all levels frame after frame; `index` gets the identities of each frame."""
    fusion = Fusion(record)
    for position, frame in enumerate(frames):
        fused = fusion.fuse(dict(_raw_objects(videos, frame)), _full_size(videos))
        parts = [
            Tracks.from_frames([objects], level=int(level), with_masks=False)
            for level, objects in sorted(fused.items())
        ]
        tracks = Tracks.concat(parts)
        index[frame] = tracks.track_id.tolist()
        yield tracks
        display.update(len(frames) + position + 1, frame)


def _raw_objects(videos: Mapping[Level, VideoSegments], frame: int) -> list[LevelObjects]:
    """The objects of a frame level by level, as they were tracked."""
    return [(level, video.frame(frame)) for level, video in videos.items()]


def _full_size(videos: Mapping[Level, VideoSegments]) -> tuple[int, int]:
    infos = [video.info for video in videos.values()]
    sizes = [info.full_resolution_shape or info.mask_shape for info in infos]
    return next((size for size in sizes if size is not None), (1, 1))


def _raw_boxes(videos: Mapping[Level, VideoSegments]) -> Iterator[Tracks]:
    """Boxes of every level, frame after frame, without holding more than one frame."""
    for frame in sorted({frame for video in videos.values() for frame in video.frames}):
        yield Tracks.concat([video.boxes(FrameIndex(frame), int(level)) for level, video in videos.items()])
