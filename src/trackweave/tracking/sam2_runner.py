"""Turns candidates into prompts and prompts into tracks, on any video predictor.

For each candidate frame: prepare its candidates, drop those that an earlier track already covers, prompt the rest,
propagate them forward and backward, store what comes back. The session is never reset between candidate frames:
objects prompted on one frame are a cohort of their own, and what was computed per frame serves all of them.

The names follow the pipeline's guide, which was written for SAM 2; the predictor may be another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes.convert import box_iou, scale_boxes
from trackweave.frames.opening import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, IdAllocator, TrackId
from trackweave.masks.overlap import mask_iou
from trackweave.masks.packed import PackedMasks
from trackweave.masks.rescale import rescale_masks, scaled_size
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.structures.candidates import Candidates
from trackweave.structures.tracks import FrameObjects
from trackweave.tracking.candidate_loader import FrameCandidateBatch, build_preview_segments
from trackweave.tracking.helpers import ProgressPrinter, TimingAggregator
from trackweave.tracking.pipeline_context import LONG_TAIL_AREA, PromptMode, TrackingSettings, frame_at
from trackweave.tracking.stores import (
    DedupStats,
    DedupStore,
    FrameResultStore,
    PreviewFrame,
    TrackingArtifacts,
)

PART_CONTAINMENT = 0.9
"""From this containment on, a prompt counts as part (or whole) of a known mask in the statistics."""


@dataclass(frozen=True)
class PromptBatch:
    """Candidates of one frame, ready to be prompted.

    Attributes:
        candidates: as loaded, in candidate pixels.
        boxes: `(N, 4)` float32 xyxy in frame pixels.
        stored: N masks at the stored size, for deduplication; empty for a candidate without a mask.
        by_box: `(N,)` bool, prompt by box instead of by mask.
        frame_size: `(H, W)` of the frames.
    """

    candidates: Candidates
    boxes: NDArray[np.float32]
    stored: PackedMasks
    by_box: NDArray[np.bool_]
    frame_size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.candidates)

    def __getitem__(self, index: NDArray[np.int64]) -> PromptBatch:
        return PromptBatch(
            self.candidates[index], self.boxes[index], self.stored[index], self.by_box[index], self.frame_size
        )

    def mask(self, row: int) -> NDArray[np.bool_]:
        """One candidate's mask in the predictor's space, `(H, W)` bool."""
        mask = rescale_masks(self.candidates.masks[row], *self.frame_size, method="area")
        if not mask.areas[0]:  # thinner than half a pixel after scaling down
            mask = rescale_masks(self.candidates.masks[row], *self.frame_size, method="nearest")
        return np.asarray(mask.to_bool()[0])


def _prepare_prompt_candidates(
    candidates: Candidates,
    frame_size: tuple[int, int],
    *,
    prompt_mode: PromptMode = "mask",
    long_tail_area: float = LONG_TAIL_AREA,
    mask_scale_ratio: float = 1.0,
) -> PromptBatch:
    """Brings candidates into the predictor's space and decides for each: mask, or box.

    `mask` prompts by mask and by box where there is none; `box` by box throughout; `auto` by box for objects of at
    most `long_tail_area` candidate pixels (on tiny masks a box prompt is the better one), else by mask.
    """
    height, width = frame_size
    rows, cols = candidates.size
    by_box = ~candidates.has_mask
    if prompt_mode == "box":
        by_box = np.ones(len(candidates), np.bool_)
    elif prompt_mode == "auto":
        by_box = by_box | (candidates.areas <= long_tail_area)
    return PromptBatch(
        candidates,
        scale_boxes(candidates.boxes, width / cols, height / rows),
        rescale_masks(candidates.masks, *scaled_size(height, width, mask_scale_ratio), method="nearest"),
        by_box,
        frame_size,
    )


def _filter_new_candidates(
    prepared: PromptBatch, dedup_store: DedupStore, abs_idx: int, iou_threshold: float, stats: DedupStats | None = None
) -> PromptBatch:
    """Keeps candidates whose best IoU with what is known on the frame is at or below the threshold.

    Candidates also compete among themselves: best first (score, then area), each is tested against those accepted
    before it, so that of two duplicates one survives. The result keeps the order of acceptance.
    """
    counted = stats if stats is not None else DedupStats()
    covered = dedup_store.coverage(abs_idx, prepared.stored)
    best = covered.iou.copy()
    boxed = ~(prepared.stored.areas > 0)
    if boxed.any():
        best[boxed] = dedup_store.box_coverage(abs_idx, prepared.boxes[boxed], prepared.frame_size)
    fresh = best <= iou_threshold
    among = _similarity(prepared, boxed)
    accepted: list[int] = []
    for row in np.lexsort((-prepared.candidates.areas, -prepared.candidates.scores)):
        if not fresh[row]:
            continue
        if accepted and among[row, accepted].max() > iou_threshold:
            counted.duplicates_in_frame += 1
            continue
        accepted.append(int(row))
    chosen = np.array(accepted, np.int64)
    counted.candidates += len(prepared)
    counted.covered_by_tracks += int(np.count_nonzero(~fresh))
    counted.parts += int(np.count_nonzero(covered.containment[chosen] >= PART_CONTAINMENT))
    counted.frames[int(abs_idx)] = (len(prepared), len(chosen))
    return prepared[chosen]


def _similarity(prepared: PromptBatch, boxed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU among candidates of one frame: of masks, and of boxes where either side has only a box."""
    among = mask_iou(prepared.stored, prepared.stored)
    if boxed.any():
        by_box = box_iou(prepared.boxes, prepared.boxes)
        either = boxed[:, None] | boxed[None, :]
        among[either] = by_box[either]
    return among


def _add_prompts_to_predictor(
    predictor: VideoPredictor,
    state: PredictorSession,
    candidates: PromptBatch,
    prompt_mode: PromptMode,
    *,
    frame: int,
    ids: Sequence[TrackId],
) -> dict[TrackId, str]:
    """Prompts each candidate on local position `frame`; returns what each was prompted by (`mask` or `box`)."""
    kinds: dict[TrackId, str] = {}
    for row, track_id in enumerate(ids):
        if prompt_mode == "box" or candidates.by_box[row]:
            state.add_box(frame, track_id, candidates.boxes[row])
            kinds[track_id] = "box"
        else:
            state.add_mask(frame, track_id, candidates.mask(row))
            kinds[track_id] = "mask"
    return kinds


def _propagate_frame_predictions(
    state: PredictorSession,
    start: int,
    frames: FrameSource,
    *,
    max_propagate: int | None = None,
    mask_scale_ratio: float = 1.0,
    timer: TimingAggregator | None = None,
) -> Iterator[FrameObjects]:
    """Runs the cohort of `start` forward, then backward; yields its masks frame by frame at the stored size.

    The prompt frame comes once, first. Boxes are measured at frame size, before masks are scaled.
    """
    clock = timer or TimingAggregator()
    for reverse in (False, True):
        predictions = state.propagate(start, reverse=reverse, max_frames=max_propagate)
        while True:
            with clock.track("track.predictor"):
                prediction = next(predictions, None)
            if prediction is None:
                break
            if reverse and prediction.frame == start:
                continue
            with clock.track("track.pack"):
                index, name = frame_at(frames, prediction.frame)
                stored = scaled_size(*prediction.masks.size, mask_scale_ratio)
                masks = rescale_masks(prediction.masks, *stored, method="nearest")
                record = FrameObjects(
                    index,
                    name,
                    prediction.object_ids,
                    masks,
                    prediction.masks.boxes.astype(np.float32),
                    masks.areas,
                    prediction.scores,
                )
            yield record


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
        frame_store: takes the results.
        settings: how to track.
        dedup_store: what counts as seen; None = what `frame_store` holds.
        session: an open session over the same frames, to share what it computed; it is left open. None = a new one.
        ids: hands out track ids.
        long_tail_area: see `_prepare_prompt_candidates`.
        preview_local_indices: positions to keep preview material of.
        timer: takes the durations.
        progress: is told of each finished candidate frame.

    Raises:
        PredictorError: the predictor failed; what was stored before stays in `frame_store`.
    """
    how = settings or TrackingSettings()
    clock = timer or TimingAggregator()
    allocator = ids or IdAllocator()
    frames = subset_dir if isinstance(subset_dir, FrameSource) else open_frames(subset_dir)
    frame_store.full_resolution_shape = frames.size
    dedup = dedup_store if dedup_store is not None else DedupStore(frame_store)
    state = session if session is not None else predictor.open(frames)
    stats = DedupStats()
    prompted = _Prompted({}, {})
    previews = set(preview_local_indices)
    try:
        for done, batch in enumerate(_timed(candidate_iter, clock, "track.load"), start=1):
            with clock.track("track.filter"):
                prepared = _prepare_prompt_candidates(
                    batch.candidates,
                    frames.size,
                    prompt_mode=how.prompt_mode,
                    long_tail_area=long_tail_area,
                    mask_scale_ratio=how.mask_scale_ratio,
                )
                filtered = _filter_new_candidates(prepared, dedup, batch.abs_index, how.iou_threshold, stats)
            if len(filtered):
                taken = allocator.take(len(filtered))
                with clock.track("track.prompt"):
                    kinds = _add_prompts_to_predictor(
                        predictor, state, filtered, how.prompt_mode, frame=batch.local_index, ids=taken
                    )
                prompted.add(batch.abs_index, kinds)
                _store(state, batch.local_index, frames, how, frame_store, clock)
                if batch.local_index in previews:
                    segments = build_preview_segments(filtered.candidates, taken)
                    frame_store.update(batch.abs_index, batch.frame_name, {}, segments)
            if progress is not None:
                progress.update(done, batch.abs_index)
    finally:
        if session is None:
            state.close()
        if frames is not subset_dir:
            frames.close()
    return _build_tracking_result(frame_store, stats, prompted)


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
        frame_store: takes the results.
        session: see `sam2_tracking`.
        timer: takes the durations.
        progress: is told of each finished prompt frame.
    """
    clock = timer or TimingAggregator()
    frame_store.full_resolution_shape = frames.size
    state = session if session is not None else predictor.open(frames)
    prompted = _Prompted({}, {})
    stats = DedupStats()
    starts: list[int] = []
    try:
        with clock.track("track.prompt"):
            for local, masks in sorted(prompts.items()):
                fresh = [track_id for track_id in masks if track_id not in prompted.kinds]
                for track_id, mask in masks.items():
                    state.add_mask(local, track_id, mask)
                stats.candidates += len(fresh)
                if fresh:
                    starts.append(local)
                    prompted.add(frames.indices[local], dict.fromkeys(fresh, "mask"))
        for done, local in enumerate(starts, start=1):
            _store(state, local, frames, settings, frame_store, clock)
            if progress is not None:
                progress.update(done, frames.indices[local])
    finally:
        if session is None:
            state.close()
    return _build_tracking_result(frame_store, stats, prompted)


@dataclass
class _Prompted:
    """Which object was prompted where and how."""

    frames: dict[TrackId, FrameIndex]
    kinds: dict[TrackId, str]

    def add(self, frame: FrameIndex, kinds: Mapping[TrackId, str]) -> None:
        self.kinds.update(kinds)
        self.frames.update(dict.fromkeys(kinds, frame))


def _store(
    state: PredictorSession,
    start: int,
    frames: FrameSource,
    how: TrackingSettings,
    results: FrameResultStore,
    clock: TimingAggregator,
) -> None:
    segments = _propagate_frame_predictions(
        state,
        start,
        frames,
        max_propagate=how.max_propagate,
        mask_scale_ratio=how.mask_scale_ratio,
        timer=clock,
    )
    for record in segments:
        with clock.track("track.store"):
            results.update(record.frame, record.name, record)


def _timed(
    batches: Iterable[FrameCandidateBatch], clock: TimingAggregator, stage: str
) -> Iterator[FrameCandidateBatch]:
    source = iter(batches)
    while True:
        with clock.track(stage):
            batch = next(source, None)
        if batch is None:
            return
        yield batch


def _build_tracking_result(frame_store: FrameResultStore, stats: DedupStats, prompted: _Prompted) -> TrackingArtifacts:
    """Fuses the filter's statistics, the records by frame and the previews."""
    previews: list[PreviewFrame] = list(frame_store.iter_preview_segments())
    return TrackingArtifacts(
        frame_store.object_references(), previews, stats, sorted(prompted.kinds), prompted.frames, prompted.kinds
    )
