"""Turns candidates into prompts and prompts into tracks, on any video predictor.

For each candidate frame: prepare its candidates, drop those that an earlier track already covers, prompt the rest,
propagate them forward and backward, store what comes back. Objects prompted on one frame are a cohort of their own. The
session is never reset between candidate frames: it forgets a cohort that is finished and frames that no cohort to come
can reach, and what it computed per frame serves all cohorts. `LevelTracker` takes one such step at a time, so that
several levels can advance side by side, and what they prompt on one frame can be one cohort (`joint_cohort`).

The names follow the pipeline's guide, which was written for SAM 2; the predictor may be another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import IdAllocator, TrackId
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.progress import ProgressPrinter, TimingAggregator
from trackweave.tracking.candidate_loader import FrameCandidateBatch
from trackweave.tracking.mask_tracker import (
    LevelTracker,
    PromptBatch,
    SessionWatch,
    _add_prompts_to_predictor,
    _build_tracking_result,
    _filter_new_candidates,
    _prepare_prompt_candidates,
    _propagate_frame_predictions,
    load_timed,
    move_cohort,
    windowed,
)
from trackweave.tracking.pipeline_context import LONG_TAIL_AREA
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import DedupStore, FrameResultStore, TrackingArtifacts

__all__ = [
    "PromptBatch",
    "_add_prompts_to_predictor",
    "_build_tracking_result",
    "_filter_new_candidates",
    "_prepare_prompt_candidates",
    "_propagate_frame_predictions",
    "prompt_tracking",
    "sam2_tracking",
]


def sam2_tracking(
    subset_dir: Path | FrameSource,
    predictor: VideoPredictor,
    candidate_iter: Iterable[FrameCandidateBatch],
    *,
    frame_store: FrameResultStore,
    settings: TrackingSettings | None = None,
    dedup_store: DedupStore | None = None,
    session: PredictorSession | None = None,
    ids: IdAllocator | None = None,
    long_tail_area: float = LONG_TAIL_AREA,
    preview_local_indices: Sequence[int] = (),
    timer: TimingAggregator | None = None,
    progress: ProgressPrinter | None = None,
) -> TrackingArtifacts:
    """Tracks every new candidate of every candidate frame through the video.

    Args:
        subset_dir: the sampled frames: a folder, a video, or a source.
        predictor: what moves masks.
        candidate_iter: candidate frames in order of time.
        frame_store: takes the results; candidate frames that its journal holds are not tracked again.
        settings: how to track.
        dedup_store: what counts as seen; None = what `frame_store` holds.
        session: an open session over the same frames, to share what it computed: it is left open, and frames are not
            retired, since somebody else may still need them. None = a new one.
        ids: hands out track ids.
        long_tail_area: see `_prepare_prompt_candidates`.
        preview_local_indices: positions to keep preview material of.
        timer: takes the durations.
        progress: is told of each finished candidate frame.

    Raises:
        PredictorError: the predictor failed; what was stored before stays in `frame_store`.
    """
    how = settings or TrackingSettings()
    frames = subset_dir if isinstance(subset_dir, FrameSource) else open_frames(subset_dir)
    with ExitStack() as stack:
        if frames is not subset_dir:
            stack.callback(frames.close)
        tracker = LevelTracker(
            frames,
            frame_store,
            how,
            dedup_store=dedup_store,
            ids=ids,
            long_tail_area=long_tail_area,
            preview_local_indices=preview_local_indices,
            timer=timer,
        )
        watch = SessionWatch(session if session is not None else predictor.open(frames))
        if session is None:
            stack.callback(watch.session.close)
        due = (
            (batch.local_index, (batch, clock))
            for batch, clock in load_timed(candidate_iter)
            if batch.local_index > tracker.recalled
        )
        for batch, clock in windowed(due, watch.session, how.max_propagate if session is None else None):
            part = tracker.begin(watch.session, predictor, batch, clock)
            move_cohort([part], watch, frames, how)
            if progress is not None:
                progress.update(tracker.steps, batch.abs_index)
    return tracker.result()


def prompt_tracking(
    frames: FrameSource,
    predictor: VideoPredictor,
    prompts: Mapping[int, Mapping[TrackId, NDArray[np.bool_]]],
    *,
    settings: TrackingSettings,
    frame_store: FrameResultStore,
    session: PredictorSession | None = None,
    timer: TimingAggregator | None = None,
    progress: ProgressPrinter | None = None,
) -> TrackingArtifacts:
    """Tracks exactly the objects that a person marked: nothing is filtered, ids are theirs.

    Args:
        frames: the sampled frames.
        predictor: what moves masks.
        prompts: local position → `{id: (H, W) bool mask}`. An object prompted on several frames is re-anchored there.
        settings: `max_propagate` and `mask_scale_ratio` count.
        frame_store: takes the results; see `sam2_tracking`.
        session: see `sam2_tracking`.
        timer: takes the durations.
        progress: is told of each finished prompt frame.
    """
    tracker = LevelTracker(frames, frame_store, settings, timer=timer)
    due = [(start, (start, fresh)) for start, fresh in _first_prompts(prompts).items() if start > tracker.recalled]
    if not due:
        return tracker.result()
    watch = SessionWatch(session if session is not None else predictor.open(frames))
    try:
        for start, fresh in windowed(due, watch.session, settings.max_propagate if session is None else None):
            own = {
                local: {track_id: mask for track_id, mask in masks.items() if track_id in fresh}
                for local, masks in prompts.items()
            }
            move_cohort([tracker.begin_prompts(watch.session, start, own)], watch, frames, settings)
            if progress is not None:
                progress.update(tracker.steps, frames.indices[start])
    finally:
        if session is None:
            watch.session.close()
    return tracker.result()


def _first_prompts(prompts: Mapping[int, Mapping[TrackId, NDArray[np.bool_]]]) -> dict[int, list[TrackId]]:
    """Local position → objects that are first marked there, positions ascending."""
    first: dict[TrackId, int] = {}
    for local in sorted(prompts):
        for track_id in prompts[local]:
            first.setdefault(track_id, local)
    starts: dict[int, list[TrackId]] = {}
    for track_id, local in first.items():
        starts.setdefault(local, []).append(track_id)
    return starts
