"""Runs one level from its manifest to its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackweave.frames.source import FrameSource
from trackweave.ids import IdAllocator, Level
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.storage.run import LevelPaths, RunPaths
from trackweave.structures.warning import RunWarning
from trackweave.tracking.candidate_loader import iter_candidate_batches
from trackweave.tracking.helpers import ProgressPrinter, TimingAggregator
from trackweave.tracking.outputs import (
    Comparison,
    build_object_segments_archive,
    build_video_segments_archive,
    save_comparison_proposals,
)
from trackweave.tracking.pipeline_context import (
    PipelineContext,
    TrackingSettings,
    build_pipeline_context,
    update_tracking_manifest,
)
from trackweave.tracking.sam2_runner import sam2_tracking
from trackweave.tracking.stores import DedupStore, FrameResultStore, TrackingArtifacts


@dataclass(frozen=True)
class LevelRunResult:
    """What running one level gives.

    Attributes:
        artifacts: what tracking left.
        files: artifact name → path below the run folder.
        comparison: the pictures; None when they were not wanted.
        warnings: everything that was done differently from what was asked.
        stats: counts, durations, dedup statistics and the spans of every track, as `summary.json` holds them.
        timer: durations by stage.
    """

    artifacts: TrackingArtifacts
    files: Mapping[str, str]
    comparison: Comparison | None
    warnings: Sequence[RunWarning]
    stats: Mapping[str, Any]
    timer: TimingAggregator


def run_level_tracking(
    level: Level,
    predictor: VideoPredictor,
    *,
    candidates_root: Path,
    frames: FrameSource,
    run: RunPaths,
    settings: TrackingSettings | None = None,
    context: PipelineContext | None = None,
    session: PredictorSession | None = None,
    ids: IdAllocator | None = None,
    base_frames: Path | FrameSource | None = None,
    progress: Callable[[int], ProgressPrinter] | None = None,
) -> LevelRunResult:
    """Loads a level's manifest, tracks its candidates, writes the archives, draws the comparison.

    Args:
        level: granularity level.
        predictor: what moves masks.
        candidates_root: folder with `level_L/filtered/filtered.json`.
        frames: the sampled frames.
        run: where results go.
        settings: how to track.
        context: the checked level, when the caller has built it already.
        session: an open session over the same frames, shared by levels.
        ids: hands out track ids, shared by levels.
        base_frames: what comparison pictures are drawn on; None = `frames`.
        progress: makes the progress display for a number of candidate frames.

    Raises:
        TrackweaveError: see `build_pipeline_context`, `sam2_tracking` and the archive writers.
    """
    timer = TimingAggregator()
    with timer.track("prepare"):
        ready = context or build_pipeline_context(candidates_root, level, frames, run, settings or TrackingSettings())
    batches = iter_candidate_batches(ready.manifest, ready.schedule, frames, ready.bad)
    display = progress(len(ready.schedule)) if progress is not None else None
    with FrameResultStore(run.root / "journal") as frame_store:
        try:
            artifacts = sam2_tracking(
                frames,
                predictor,
                batches,
                settings=ready.settings,
                dedup_store=DedupStore(frame_store),
                frame_store=frame_store,
                session=session,
                ids=ids,
                long_tail_area=ready.long_tail_area,
                preview_local_indices=ready.preview_local_indices,
                timer=timer,
                progress=display,
            )
        finally:
            if display is not None:
                display.close()
        return finish_level(ready, frame_store, artifacts, timer, base_frames=base_frames)


def finish_level(
    context: PipelineContext,
    frame_store: FrameResultStore,
    artifacts: TrackingArtifacts,
    timer: TimingAggregator,
    *,
    base_frames: Path | FrameSource | None = None,
) -> LevelRunResult:
    """What follows once a level is tracked: archives, comparison pictures, its part of the manifest.

    Args:
        context: the level.
        frame_store: its results.
        artifacts: what tracking left.
        timer: its durations so far; takes those of this part too.
        base_frames: see `run_level_tracking`.

    Raises:
        RunFolderError: a file cannot be written.
    """
    run, level = context.run, context.level
    files = _persist_level_outputs(context.paths, run, level, frame_store, artifacts, context.settings, timer)
    tracks = describe_tracks(artifacts)
    comparison = None
    if context.settings.render_viz:
        with timer.track("compare"):
            comparison = _render_comparison(context, run.root / files["video_segments"], base_frames)
        files["compare"] = str((comparison.folder / "compare.json").relative_to(run.root))
    warnings = [*context.notes, *_later(context, artifacts), *(comparison.warnings if comparison else ())]
    stats = _build_level_stats(context, artifacts, tracks, timer)
    update_tracking_manifest(run, level=level, artifacts=files, stats=manifest_stats(stats), warnings=warnings)
    return LevelRunResult(artifacts, files, comparison, warnings, stats, timer)


def _later(context: PipelineContext, artifacts: TrackingArtifacts) -> list[RunWarning]:
    """Omissions that were only found while tracking, by this process or an earlier one."""
    later: list[RunWarning] = []
    for warning in (*artifacts.omissions, *context.bad.warnings):
        if warning not in context.notes and warning not in later:
            later.append(warning)
    return later


def persist_level_outputs(
    paths: LevelPaths,
    run: RunPaths,
    level: Level,
    frame_store: FrameResultStore,
    artifacts: TrackingArtifacts,
    settings: TrackingSettings,
    timer: TimingAggregator,
) -> dict[str, str]:
    """Writes both archives of a level; returns artifact name → path below the run folder."""
    ratio = settings.mask_scale_ratio
    metadata = {"level": int(level), "iou_threshold": settings.iou_threshold, "max_propagate": settings.max_propagate}
    with timer.track("persist.video_segments"):
        video = build_video_segments_archive(
            frame_store.iter_frames(),
            paths.tracking / "video_segments.npz",
            ratio,
            metadata,
            full_resolution_shape=frame_store.full_resolution_shape,
        )
    with timer.track("persist.object_segments"):
        objects = build_object_segments_archive(
            artifacts.object_refs,
            paths.tracking / "object_segments.npz",
            ratio,
            metadata,
            mask_shape=frame_store.mask_shape,
            full_resolution_shape=frame_store.full_resolution_shape,
        )
    return {
        "video_segments": str(video.relative_to(run.root)),
        "object_segments": str(objects.relative_to(run.root)),
    }


_persist_level_outputs = persist_level_outputs
"""The step's name in the pipeline's guide."""


def describe_tracks(artifacts: TrackingArtifacts) -> list[dict[str, Any]]:
    """Per track: where it was prompted, the spans of frames on which it was seen, its mean area and score."""
    described = []
    for track_id, references in artifacts.object_refs:
        frames = references["frame"]
        described.append(
            {
                "id": int(track_id),
                "prompt_frame": int(artifacts.prompt_frames[track_id]),
                "prompt": artifacts.prompt_kinds[track_id],
                "frames": len(references),
                "first": int(frames[0]),
                "last": int(frames[-1]),
                "spans": spans(frames.tolist()),
                "mean_area": round(float(references["area"].mean()), 1),
                "mean_score": round(float(references["score"].mean()), 4),
            }
        )
    return described


def spans(frames: Sequence[int]) -> list[list[int]]:
    """Runs of an ascending sequence as `[first, last]`, both inclusive.

    >>> spans([3, 4, 5, 9, 11, 12])
    [[3, 5], [9, 9], [11, 12]]
    """
    found: list[list[int]] = []
    for frame in frames:
        if found and found[-1][1] == frame - 1:
            found[-1][1] = frame
        else:
            found.append([frame, frame])
    return found


def _build_level_stats(
    context: PipelineContext, artifacts: TrackingArtifacts, tracks: Sequence[Mapping[str, Any]], timer: TimingAggregator
) -> dict[str, Any]:
    """Counts, durations and dedup statistics of a level."""
    return level_stats(
        frames=len(context.frames),
        candidate_frames=len(context.schedule),
        artifacts=artifacts,
        tracks=tracks,
        timer=timer,
    )


def level_stats(
    *,
    frames: int,
    candidate_frames: int,
    artifacts: TrackingArtifacts,
    tracks: Sequence[Mapping[str, Any]],
    timer: TimingAggregator,
) -> dict[str, Any]:
    """The level's part of `summary.json`."""
    return {
        "frames": frames,
        "candidate_frames": candidate_frames,
        "candidates": artifacts.dedup.candidates,
        "prompts": len(artifacts.objects),
        "objects": len(tracks),
        "object_frames": sum(int(track["frames"]) for track in tracks),
        "dedup": artifacts.dedup.to_json(),
        "durations": {stage: round(seconds, 4) for stage, seconds in timer.items()},
        "tracks": list(tracks),
    }


def manifest_stats(stats: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest keeps of a level's statistics: everything but the single tracks."""
    return {key: value for key, value in stats.items() if key != "tracks"}


def _render_comparison(
    context: PipelineContext, video_segments: Path, base_frames: Path | FrameSource | None
) -> Comparison:
    """Draws the comparison pictures of the context's preview frames."""
    return save_comparison_proposals(context.paths.compare, base_frames, context, video_segments)


__all__ = [
    "LevelRunResult",
    "describe_tracks",
    "finish_level",
    "level_stats",
    "manifest_stats",
    "persist_level_outputs",
    "run_level_tracking",
    "spans",
]
