"""Runs one level from its manifest to its pictures.

All levels of a run side by side, in order of time, so that what is computed per frame is computed once for all.

Tracked one after the other, each level would go through the whole video, and a store of bounded size would compute
every frame once per level. Side by side, all levels need the same few frames at the same time; and what they prompt on
one candidate frame is one cohort, which goes through these frames once (`joint_cohort`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trackweave.frames.source import FrameSource
from trackweave.ids import IdAllocator, Level
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.progress import ProgressPrinter, TimingAggregator
from trackweave.storage.candidates import FilteredFrame
from trackweave.storage.result_log import CohortJournal
from trackweave.storage.run import LevelPaths, RunPaths
from trackweave.structures.run_log import RunWarning
from trackweave.tracking.candidate_loader import iter_candidate_batches
from trackweave.tracking.mask_tracker import (
    CohortPart,
    CohortRecord,
    LevelTracker,
    SessionWatch,
    load_timed,
    move_cohort,
    read_cohorts,
    windowed,
)
from trackweave.tracking.outputs import (
    Comparison,
    build_object_segments_archive,
    build_video_segments_archive,
    save_comparison_proposals,
)
from trackweave.tracking.pipeline_context import PipelineContext, build_pipeline_context, update_tracking_manifest
from trackweave.tracking.sam2_runner import sam2_tracking
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import DedupStats, DedupStore, FrameResultStore, TrackingArtifacts


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


class ScheduledLevel:
    """One of the levels that advance together: what it is, how far it has come, where its results are.

    Objects are numbered from 1 in each level while they are tracked, so that their numbers do not depend on what other
    levels do meanwhile; `finish` gives them the run's numbers.

    Args:
        context: the checked level.
        key: what run the journal must belong to.
        resume: take over the cohorts that the journal holds.

    Raises:
        RunFolderError: the journal cannot be written; see `CohortJournal`.
    """

    def __init__(self, context: PipelineContext, *, key: str, resume: bool) -> None:
        self.context = context
        self._timer = TimingAggregator()
        self.store = FrameResultStore(journal=CohortJournal(context.run.cohorts(context.level), key, resume=resume))

    @cached_property
    def _tracker(self) -> LevelTracker:
        """Takes over what the journal holds as soon as anybody asks how far the level has come."""
        return LevelTracker(
            self.context.frames,
            self.store,
            self.context.settings,
            ids=IdAllocator(),
            long_tail_area=self.context.long_tail_area,
            preview_local_indices=self.context.preview_local_indices,
            timer=self._timer,
        )

    @property
    def positions(self) -> set[int]:
        """Local positions of all of its candidate frames."""
        return {local for local, _ in self.context.schedule}

    @property
    def due(self) -> list[tuple[int, FilteredFrame]]:
        """Candidate frames that are still to come: local position and manifest entry, ascending."""
        return [(local, entry) for local, entry in self.context.schedule if local > self._tracker.recalled]

    @property
    def prompts(self) -> int:
        """Objects that were prompted so far."""
        return self._tracker.prompts

    @property
    def remarks(self) -> Sequence[tuple[int, Sequence[RunWarning]]]:
        """`(local position, all that the predictor had said of itself by then)`, wherever that changed."""
        return self._tracker.remarks

    def begin(
        self, session: PredictorSession, predictor: VideoPredictor, local: int, entry: FilteredFrame, *, above: int
    ) -> CohortPart:
        """Loads one candidate frame and prompts what is new on it; see `LevelTracker.begin`."""
        context = self.context
        known = len(context.bad.warnings)
        batches = iter_candidate_batches(context.manifest, [(local, entry)], context.frames, context.bad)
        loaded = next(load_timed(batches), None)
        omissions = context.bad.warnings[known:]
        if loaded is None:  # a frame without candidates, or with bad ones only
            return CohortPart(self._tracker, local, TimingAggregator(), DedupStats(), omissions=omissions)
        return self._tracker.begin(session, predictor, *loaded, omissions, above=above)

    def finish(self, first_id: int, *, base_frames: Path | FrameSource | None = None) -> LevelRunResult:
        """Writes the level's files; its first object gets the number `first_id`. See `level_runner.finish_level`."""
        self.store.renumber(first_id)
        return finish_level(self.context, self.store, self._tracker.result(), self._timer, base_frames=base_frames)

    def __enter__(self) -> ScheduledLevel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.store.close()


def forget_split_cohorts(levels: Sequence[ScheduledLevel]) -> None:
    """Rewinds the journals of levels that have committed a cohort of which another level's part was lost in a kill.

    The cohort then moves as a whole again. Were only the lost part moved, masks could differ in their last bits from
    those of a run that was not cut off: how a model rounds may depend on how many objects go through it at once.

    Args:
        levels: opened, and not yet asked for anything.

    Raises:
        ArtifactError: a journal holds something else than records.
    """
    committed = [read_cohorts(level.store.committed, level.store.where) for level in levels]
    kept = [{record.local: record for record in records} for records in committed]
    while (split := _first_split(levels, kept)) is not None:  # what follows it goes too, and may be shared in turn
        kept = [
            {local: record for local, record in own.items() if local < split} if split in own else own for own in kept
        ]
    for level, records, own in zip(levels, committed, kept, strict=True):
        if len(own) < len(records):
            level.store.rewind(len(own))


def _first_split(levels: Sequence[ScheduledLevel], kept: Sequence[Mapping[int, CohortRecord]]) -> int | None:
    """First position whose cohort not all of its levels have committed."""
    for local in sorted({local for own in kept for local in own}):
        parts = [own[local] for own in kept if local in own]
        awaited = any(local not in own and local in level.positions for level, own in zip(levels, kept, strict=True))
        if awaited and sum(len(part.kinds) for part in parts) < parts[0].together:
            return local
    return None


def track_side_by_side(
    levels: Sequence[ScheduledLevel],
    predictor: VideoPredictor,
    frames: FrameSource,
    *,
    settings: TrackingSettings,
    progress: Callable[[int], ProgressPrinter] | None = None,
) -> None:
    """Tracks every candidate frame of every level that is still to come, on one session.

    In order of time; what the levels prompt on one frame, in the order of `levels`, moves as one cohort. Results are
    the same as level by level.

    Args:
        levels: what to track; afterwards they are ready to be finished.
        predictor: what moves masks; opened only if there is anything to do.
        frames: the sampled frames.
        settings: how to track, the same for all levels.
        progress: makes the progress display for a number of candidate frames, counted level by level.

    Raises:
        TrackweaveError: what was finished before stays in the journals.
    """
    forget_split_cohorts(levels)
    due: dict[int, list[tuple[ScheduledLevel, FilteredFrame]]] = {}
    for level in levels:
        for local, entry in level.due:
            due.setdefault(local, []).append((level, entry))
    if not due:
        return
    with ExitStack() as stack:
        session = predictor.open(frames)
        stack.callback(session.close)
        display = progress(sum(map(len, due.values()))) if progress is not None else None
        if display is not None:
            stack.callback(display.close)
        watch, done = SessionWatch(session), 0
        steps = ((local, (local, due[local])) for local in sorted(due))
        for local, step in windowed(steps, session, settings.max_propagate):
            parts: list[CohortPart] = []
            for level, entry in step:
                taken = max((part.last_number for part in parts), default=0)
                parts.append(level.begin(session, predictor, local, entry, above=taken))
            move_cohort(parts, watch, frames, settings)
            done += len(parts)
            if display is not None:
                display.update(done, frames.indices[local])
