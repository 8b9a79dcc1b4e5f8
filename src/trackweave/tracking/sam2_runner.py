"""The guide's names for prompting and propagation, each a call of the engine (`mask_tracker`) or a part of it.

They were written for SAM 2; the predictor may be another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from trackweave.frames.cuts import find_cuts
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import LocalIndex, TrackId
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.progress import ProgressDisplay, TimingAggregator
from trackweave.structures.candidates import CandidateFrame
from trackweave.tracking.candidate_loader import (
    CandidatePrompts,
    PreparedCandidates,
    add_prompts,
    filter_new_candidates,
    prepare_candidates,
)
from trackweave.tracking.mask_tracker import MaskTracker, TrackedLevel, propagate_frame_predictions
from trackweave.tracking.pipeline_context import LONG_TAIL_AREA
from trackweave.tracking.settings import PromptMode, TrackingSettings
from trackweave.tracking.stores import (
    DedupStore,
    FrameResultStore,
    PromptType,
    TrackingArtifacts,
    build_tracking_result,
)


def sam2_tracking(
    subset_dir: Path | FrameSource,
    predictor: VideoPredictor,
    candidate_iter: Iterable[CandidateFrame],
    *,
    frame_store: FrameResultStore,
    settings: TrackingSettings | None = None,
    dedup_store: DedupStore | None = None,
    session: PredictorSession | None = None,
    preview_local_indices: Sequence[LocalIndex] = (),
    timer: TimingAggregator | None = None,
    progress: ProgressDisplay | None = None,
) -> TrackingArtifacts:
    """Tracks every new candidate of every candidate frame through the video.

    Args:
        subset_dir: the sampled frames: a folder, a video, or a source.
        predictor: what moves masks.
        candidate_iter: candidate frames in order of time, loaded one by one.
        frame_store: takes the results; candidate frames that its journal holds are not tracked again.
        settings: how to track; without `long_tail_area`, that of candidates of which nothing is known.
        dedup_store: what counts as known; None = what `frame_store` holds.
        session: see `MaskTracker`.
        preview_local_indices: positions to keep preview material of.
        timer: takes the durations.
        progress: is updated after each finished candidate frame, and closed in the end.

    Raises:
        PredictorError: the predictor failed; what was stored before stays in `frame_store`.
    """
    chosen, clock = settings or TrackingSettings(), timer or TimingAggregator()
    with ExitStack() as stack:
        frames = subset_dir if isinstance(subset_dir, FrameSource) else stack.enter_context(open_frames(subset_dir))
        source = CandidatePrompts(
            _timed(candidate_iter, clock),
            dedup_store if dedup_store is not None else DedupStore(frame_store),
            chosen,
            frames.size,
            long_tail_area=LONG_TAIL_AREA if chosen.long_tail_area is None else chosen.long_tail_area,
            preview_positions=preview_local_indices,
        )
        level = TrackedLevel(source, frame_store, timer=clock)
        cuts = find_cuts(frames) if chosen.cuts == "detect" else ()
        tracker = MaskTracker(predictor, frames, [level], chosen, session=session, cuts=cuts)
        tracker.run(on_finished=None if progress is None else stack.enter_context(progress).update)
        return level.result()


def _timed(candidates: Iterable[CandidateFrame], timer: TimingAggregator) -> Iterator[CandidateFrame]:
    """The same, with the time that loading takes."""
    source = iter(candidates)
    while True:
        with timer.track("track.load"):
            frame = next(source, None)
        if frame is None:
            return
        yield frame


def _add_prompts_to_predictor(
    predictor: VideoPredictor,
    state: PredictorSession,
    candidates: PreparedCandidates,
    prompt_mode: PromptMode,
    *,
    frame: LocalIndex,
    ids: Sequence[TrackId],
) -> dict[TrackId, PromptType]:
    """Prompts each candidate on a frame, all of them by box where the mode is `box`; what each was prompted by."""
    if prompt_mode == "box":
        candidates = replace(candidates, by_box=np.ones(len(candidates), np.bool_))
    return dict(zip(ids, add_prompts(state, candidates, frame, ids), strict=True))


# Names of the guide.
_prepare_prompt_candidates = prepare_candidates
_filter_new_candidates = filter_new_candidates
_propagate_frame_predictions = propagate_frame_predictions
_build_tracking_result = build_tracking_result
