"""Runs one level from its manifest to its comparison images, and writes what a tracked level leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trackweave.frames.cuts import find_cuts
from trackweave.frames.source import FrameSource
from trackweave.ids import IdAllocator, Level
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.progress import ProgressDisplay, TimingAggregator
from trackweave.storage.run import RunPaths
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import LevelSummary, TrackSummary
from trackweave.tracking.candidate_loader import CandidatePrompts
from trackweave.tracking.mask_tracker import LabelPrompts, MaskTracker, PromptSource, TrackedLevel
from trackweave.tracking.outputs import (
    Comparison,
    build_object_segments_archive,
    build_video_segments_archive,
    save_comparison_proposals,
)
from trackweave.tracking.pipeline_context import (
    LabelContext,
    LevelContext,
    PipelineContext,
    build_pipeline_context,
    update_tracking_manifest,
)
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import DedupStore, FrameResultStore, TrackingArtifacts


@dataclass(frozen=True)
class LevelRunResult:
    """What running one level gives.

    Attributes:
        artifacts: what tracking left.
        files: artifact name → path below the run folder.
        comparison: the comparison images; None when they were not wanted.
        warnings: everything that was done differently from what was asked.
        stats: counts, durations, dedup statistics and every track, as `summary.json` holds them.
        timer: durations by stage.
    """

    artifacts: TrackingArtifacts
    files: Mapping[str, str]
    comparison: Comparison | None
    warnings: Sequence[RunWarning]
    stats: LevelSummary
    timer: TimingAggregator


def run_level_tracking(
    level: Level,
    predictor: VideoPredictor,
    *,
    candidates_root: Path,
    frames: FrameSource,
    run: RunPaths,
    settings: TrackingSettings | None = None,
    session: PredictorSession | None = None,
    ids: IdAllocator | None = None,
    base_frames: Path | FrameSource | None = None,
    progress: Callable[[int], ProgressDisplay] | None = None,
) -> LevelRunResult:
    """Loads a level's manifest, tracks its candidates, writes the archives, draws the comparison.

    Args:
        level: granularity level.
        predictor: what moves masks.
        candidates_root: folder with `level_L/filtered/filtered.json`.
        frames: the sampled frames.
        run: where results go.
        settings: how to track.
        session: an open session over the same frames, shared by levels.
        ids: hands out track ids, shared by levels.
        base_frames: what comparison images are drawn on; None = `frames`.
        progress: makes the progress display for a number of object-frames.

    Raises:
        TrackweaveError: see `build_pipeline_context`, `MaskTracker` and the archive writers.
    """
    timer = TimingAggregator()
    with timer.track("prepare"):
        chosen = settings or TrackingSettings()
        cuts = find_cuts(frames) if chosen.cuts == "detect" else ()
        context = build_pipeline_context(candidates_root, level, frames, run, chosen, cuts=cuts)
    with FrameResultStore(run.root / "journal") as store:
        tracked = TrackedLevel(prompts_of(context, store), store, ids=ids, timer=timer)
        MaskTracker(predictor, frames, [tracked], chosen, session=session, cuts=cuts).run(progress)
        return finish_level(context, tracked, base_frames=base_frames)


def prompts_of(context: LevelContext, store: FrameResultStore) -> PromptSource[Any]:
    """Where the level's prompts come from; candidates are compared with what `store` holds."""
    if isinstance(context, LabelContext):
        return LabelPrompts(context.labels, context.frames, context.cuts, context.marks, context.classes.tracks)
    assert isinstance(context, PipelineContext)
    return CandidatePrompts.of_level(context, DedupStore(store))


def finish_level(
    context: LevelContext,
    tracked: TrackedLevel,
    *,
    base_frames: Path | FrameSource | None = None,
    class_names: Mapping[int, str] | None = None,
) -> LevelRunResult:
    """What follows once a level is tracked: archives, comparison images of candidates, its part of the manifest.

    Args:
        context: the level.
        tracked: what is known of it; its timer takes the durations of this part too.
        base_frames: see `run_level_tracking`.
        class_names: names of the classes by number; None = as the candidates have them.

    Raises:
        RunFolderError: a file cannot be written.
    """
    run, timer, artifacts = context.run, tracked.timer, tracked.result()
    if class_names is None:
        marked = context.classes.names if isinstance(context, LabelContext) else {}
        class_names = context.manifest.class_names if isinstance(context, PipelineContext) else marked
    artifacts = replace(artifacts, classes=replace(artifacts.classes, names=class_names))
    files = persist_level_outputs(context, tracked.store, artifacts, timer)
    tracks = list(describe_tracks(artifacts))
    comparison, warnings = None, list[RunWarning]()
    if isinstance(context, PipelineContext):
        if context.settings.render_viz:
            with timer.track("compare"):
                comparison = _render_comparison(context, run.root / files["video_segments"], base_frames)
            files["compare"] = str((comparison.folder / "compare.json").relative_to(run.root))
        warnings = [*_warnings_so_far(context, artifacts), *(comparison.warnings if comparison else ())]
    stats = build_level_stats(context, artifacts, tracks, timer)
    # Single tracks stay out of the manifest: it is read often, and they grow with the video.
    counts = {key: value for key, value in stats.to_json().items() if key != "tracks"}
    update_tracking_manifest(run, level=context.level, artifacts=files, stats=counts, warnings=warnings)
    return LevelRunResult(artifacts, files, comparison, warnings, stats, timer)


def _warnings_so_far(context: PipelineContext, artifacts: TrackingArtifacts) -> list[RunWarning]:
    """What the check has found, and what was only found while tracking, by this process or an earlier one."""
    warnings = context.warnings
    for warning in artifacts.skipped:
        if warning not in warnings:
            warnings.append(warning)
    return warnings


def persist_level_outputs(
    context: LevelContext, frame_store: FrameResultStore, artifacts: TrackingArtifacts, timer: TimingAggregator
) -> dict[str, str]:
    """Writes both archives of a level; returns artifact name → path below the run folder."""
    settings, folder, root = context.settings, context.paths.tracking, context.run.root
    metadata = {
        "level": int(context.level),
        "iou_threshold": settings.iou_threshold,
        "max_propagate": settings.max_propagate,
        "cuts": [int(context.frames.indices[cut]) for cut in context.cuts],
    }
    with timer.track("persist.video_segments"):
        video = build_video_segments_archive(
            frame_store.iter_frames(),
            folder / "video_segments.npz",
            settings.mask_scale_ratio,
            metadata,
            full_resolution_shape=frame_store.full_resolution_shape,
            classes=artifacts.classes,
        )
    with timer.track("persist.object_segments"):
        objects = build_object_segments_archive(
            artifacts.object_refs,
            folder / "object_segments.npz",
            settings.mask_scale_ratio,
            metadata,
            mask_shape=frame_store.mask_shape,
            full_resolution_shape=frame_store.full_resolution_shape,
            classes=artifacts.classes,
        )
    return {"video_segments": str(video.relative_to(root)), "object_segments": str(objects.relative_to(root))}


def describe_tracks(artifacts: TrackingArtifacts) -> Iterator[TrackSummary]:
    """Per track: where it was prompted, the spans of frames on which it was visible, its class, mean area and score."""
    for track_id, references in artifacts.object_refs:
        own = artifacts.classes.tracks.get(track_id)
        yield TrackSummary(
            int(track_id),
            spans(references["frame"].tolist()),
            len(references),
            class_id=None if own is None else own.class_id,
            class_score=None if own is None else own.score,
            prompt_frame=int(artifacts.prompt_frames[track_id]),
            prompt=artifacts.prompt_types[track_id],
            mean_area=round(float(references["area"].mean()), 1),
            mean_score=round(float(references["score"].mean()), 4),
        )


def spans(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of an ascending sequence as `(first, last)`, both inclusive.

    >>> spans([3, 4, 5, 9, 11, 12])
    [(3, 5), (9, 9), (11, 12)]
    """
    runs: list[tuple[int, int]] = []
    for frame in frames:
        if runs and runs[-1][1] == frame - 1:
            runs[-1] = (runs[-1][0], frame)
        else:
            runs.append((frame, frame))
    return runs


def build_level_stats(
    context: LevelContext, artifacts: TrackingArtifacts, tracks: Sequence[TrackSummary], timer: TimingAggregator
) -> LevelSummary:
    """Counts, durations and dedup statistics of a level: its part of `summary.json`."""
    counts = {
        "frames": len(context.frames),
        "candidate_frames": context.prompt_frames,
        "candidates": artifacts.dedup.candidates,
        "prompts": len(artifacts.objects),
        "objects": len(tracks),
        "object_frames": sum(track.frames for track in tracks),
    }
    durations = {stage: round(seconds, 4) for stage, seconds in timer.items()}
    return LevelSummary(counts, artifacts.dedup.to_json(), durations, tracks)


def _render_comparison(
    context: PipelineContext, video_segments: Path, base_frames: Path | FrameSource | None
) -> Comparison:
    """Draws the comparison images of the context's preview frames."""
    return save_comparison_proposals(context.paths.compare, base_frames, context, video_segments)


# Names of the guide.
_build_level_stats = build_level_stats
_persist_level_outputs = persist_level_outputs
