"""Turns candidates into prompts and prompts into tracks, on any video predictor.

For each candidate frame: prepare its candidates, drop those that an earlier track already covers, prompt the rest,
propagate them forward and backward, store what comes back. Objects prompted on one frame are a cohort of their own. The
session is never reset between candidate frames: it forgets a cohort that is finished and frames that no cohort to come
can reach, and what it computed per frame serves all cohorts. `LevelTracker` takes one such step at a time, so that
several levels can advance side by side.

The names follow the pipeline's guide, which was written for SAM 2; the predictor may be another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes.convert import box_iou, scale_boxes
from trackweave.errors import ArtifactError
from trackweave.frames.opening import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, IdAllocator, TrackId
from trackweave.masks.overlap import mask_iou
from trackweave.masks.packed import PackedMasks
from trackweave.masks.rescale import rescale_masks, scaled_size
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.structures.candidates import Candidates, PreviewSegment
from trackweave.structures.tracks import FrameObjects
from trackweave.structures.warning import RunWarning
from trackweave.tracking.candidate_loader import FrameCandidateBatch, build_preview_segments
from trackweave.tracking.cohort_record import CohortRecord, SessionWatch, add_work
from trackweave.tracking.helpers import ProgressPrinter, TimingAggregator
from trackweave.tracking.pipeline_context import LONG_TAIL_AREA, PromptMode, TrackingSettings, frame_at
from trackweave.tracking.stores import (
    DedupStats,
    DedupStore,
    FrameResultStore,
    PreviewFrame,
    TrackingArtifacts,
)

Step = TypeVar("Step")

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


def windowed(steps: Iterable[tuple[int, Step]], session: PredictorSession, max_propagate: int | None) -> Iterator[Step]:
    """Hands out steps in order; after each, the session retires the frames that no step to come can reach.

    A step at position p visits p − `max_propagate` … p + `max_propagate`. In order of p, a session that keeps
    2 · `max_propagate` + 1 frames therefore computes each frame once, however long the video is.

    Args:
        steps: `(local position, step)`, positions ascending.
        session: what moves the cohorts.
        max_propagate: None = a step visits every frame, so none is ever retired.
    """
    coming = iter(steps)
    current = next(coming, None)
    while current is not None:
        yield current[1]
        following = next(coming, None)
        if following is not None and max_propagate is not None and following[0] > max_propagate:
            session.retire(following[0] - max_propagate)
        current = following


class LevelTracker:
    """One level while it is tracked, one candidate frame after the other.

    Whatever a step adds to the level goes through a `CohortRecord`, fresh or out of the journal. So a level that goes
    on after a kill stands where it would stand had it never stopped.

    Args:
        frames: the sampled frames.
        frame_store: takes the results; what its journal holds is taken over.
        settings: how to track.
        dedup_store: what counts as seen; None = what `frame_store` holds.
        ids: hands out track ids; None = from 1.
        long_tail_area: see `_prepare_prompt_candidates`.
        preview_local_indices: positions to keep preview material of.
        timer: takes the durations.

    Attributes:
        recalled: last local position that the journal held; −1 for none. Steps up to it are not due any more.

    Raises:
        ArtifactError: the journal holds something else than records.
    """

    def __init__(
        self,
        frames: FrameSource,
        frame_store: FrameResultStore,
        settings: TrackingSettings,
        *,
        dedup_store: DedupStore | None = None,
        ids: IdAllocator | None = None,
        long_tail_area: float = LONG_TAIL_AREA,
        preview_local_indices: Sequence[int] = (),
        timer: TimingAggregator | None = None,
    ) -> None:
        self._frames, self._store, self._how = frames, frame_store, settings
        self._dedup = dedup_store if dedup_store is not None else DedupStore(frame_store)
        self._ids = ids or IdAllocator()
        self._long_tail_area = long_tail_area
        self._preview_positions = frozenset(preview_local_indices)
        self._timer = timer or TimingAggregator()
        self._done = _Done()
        self.recalled = -1
        frame_store.full_resolution_shape = frames.size
        self._recall()

    def _recall(self) -> None:
        names = {int(index): name for index, name in zip(self._frames.indices, self._frames.names, strict=True)}
        try:
            for data in self._store.recall(names):
                record = CohortRecord.from_json(data)
                self._add(record)
                self._ids.take(len(record.kinds))
                self.recalled = record.local
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{self._store.where}: the journal lacks or misspells {error}; remove it") from None

    @property
    def steps(self) -> int:
        """Candidate frames that are finished."""
        return self._done.steps

    @property
    def prompts(self) -> int:
        """Objects that were prompted so far."""
        return len(self._done.kinds)

    @property
    def remarks(self) -> Sequence[tuple[int, Sequence[RunWarning]]]:
        """See `TrackingArtifacts.remarks`."""
        return self._done.remarks

    def step(
        self,
        predictor: VideoPredictor,
        watch: SessionWatch,
        batch: FrameCandidateBatch,
        clock: TimingAggregator,
        omissions: Sequence[RunWarning] = (),
    ) -> None:
        """Tracks what is new on one candidate frame.

        Args:
            predictor: what `watch` watches a session of.
            watch: the session that moves the cohort.
            batch: the frame's candidates.
            clock: what loading them took; goes to the level's durations.
            omissions: candidates that were found to be bad on that occasion.
        """
        stats = DedupStats()
        with clock.track("track.filter"):
            prepared = _prepare_prompt_candidates(
                batch.candidates,
                self._frames.size,
                prompt_mode=self._how.prompt_mode,
                long_tail_area=self._long_tail_area,
                mask_scale_ratio=self._how.mask_scale_ratio,
            )
            filtered = _filter_new_candidates(prepared, self._dedup, batch.abs_index, self._how.iou_threshold, stats)
        kinds: dict[TrackId, str] = {}
        previews: list[PreviewSegment] = []
        if len(filtered):
            taken = self._ids.take(len(filtered))
            with clock.track("track.prompt"):
                kinds = _add_prompts_to_predictor(
                    predictor, watch.session, filtered, self._how.prompt_mode, frame=batch.local_index, ids=taken
                )
            self._move(watch.session, batch.local_index, clock)
            if batch.local_index in self._preview_positions:
                previews = build_preview_segments(filtered.candidates, taken)
        self._finish(watch, batch.local_index, stats, kinds, clock, previews, omissions)

    def step_prompts(
        self, watch: SessionWatch, start: int, prompts: Mapping[int, Mapping[TrackId, NDArray[np.bool_]]]
    ) -> None:
        """Tracks objects that a person marked first on position `start`.

        Args:
            watch: the session that moves the cohort.
            start: where they were first marked.
            prompts: local position → `{id: (H, W) bool mask}`, of these objects alone.
        """
        clock = TimingAggregator()
        with clock.track("track.prompt"):
            for local, masks in sorted(prompts.items()):
                for track_id, mask in masks.items():
                    watch.session.add_mask(local, track_id, mask)
        self._move(watch.session, start, clock)
        kinds = dict.fromkeys(prompts[start], "mask")
        self._finish(watch, start, DedupStats(candidates=len(kinds)), kinds, clock)

    def _move(self, session: PredictorSession, start: int, clock: TimingAggregator) -> None:
        """Propagates the cohort of `start`, stores what comes back, and lets the session forget it."""
        segments = _propagate_frame_predictions(
            session,
            start,
            self._frames,
            max_propagate=self._how.max_propagate,
            mask_scale_ratio=self._how.mask_scale_ratio,
            timer=clock,
        )
        for record in segments:
            with clock.track("track.store"):
                self._store.update(record.frame, record.name, record)
        session.finish(start)

    def _finish(
        self,
        watch: SessionWatch,
        local: int,
        stats: DedupStats,
        kinds: Mapping[TrackId, str],
        clock: TimingAggregator,
        previews: Sequence[PreviewSegment] = (),
        omissions: Sequence[RunWarning] = (),
    ) -> None:
        frame, name = frame_at(self._frames, local)
        record = CohortRecord(
            local, frame, name, stats, kinds, previews, dict(clock.items()), watch.work(), watch.remarks(), omissions
        )
        with self._timer.track("track.store"):
            self._store.commit(record.to_json())
        self._add(record)

    def _add(self, record: CohortRecord) -> None:
        self._done.add(record)
        if record.previews:
            self._store.update(record.frame, record.name, {}, record.previews)
        for stage, seconds in record.seconds.items():
            self._timer.add(stage, seconds)

    def result(self) -> TrackingArtifacts:
        """What the level is so far."""
        return _build_tracking_result(self._store, self._done)


@dataclass
class _Done:
    """What the finished candidate frames of a level add up to."""

    steps: int = 0
    stats: DedupStats = field(default_factory=DedupStats)
    frames: dict[TrackId, FrameIndex] = field(default_factory=dict)
    kinds: dict[TrackId, str] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    remarks: list[tuple[int, Sequence[RunWarning]]] = field(default_factory=list)
    omissions: list[RunWarning] = field(default_factory=list)

    def add(self, record: CohortRecord) -> None:
        self.steps += 1
        self.stats.add(record.dedup)
        self.kinds.update(record.kinds)
        self.frames.update(dict.fromkeys(record.kinds, record.frame))
        add_work(self.work, record.work)
        if record.remarks:
            self.remarks.append((record.local, record.remarks))
        self.omissions += record.omissions


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
            tracker.step(predictor, watch, batch, clock)
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
            tracker.step_prompts(watch, start, own)
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


def load_timed(batches: Iterable[FrameCandidateBatch]) -> Iterator[tuple[FrameCandidateBatch, TimingAggregator]]:
    """Each batch with the time that it took to load."""
    source = iter(batches)
    while True:
        clock = TimingAggregator()
        with clock.track("track.load"):
            batch = next(source, None)
        if batch is None:
            return
        yield batch, clock


def _build_tracking_result(frame_store: FrameResultStore, done: _Done) -> TrackingArtifacts:
    """Fuses what the steps added up to, the records by frame and the previews; ids as the store numbers them."""
    previews: list[PreviewFrame] = list(frame_store.iter_preview_segments())
    number = {track_id: TrackId(track_id + frame_store.id_offset) for track_id in sorted(done.kinds)}
    return TrackingArtifacts(
        frame_store.object_references(),
        previews,
        done.stats,
        list(number.values()),
        {number[track_id]: frame for track_id, frame in done.frames.items()},
        {number[track_id]: kind for track_id, kind in done.kinds.items()},
        done.work,
        done.remarks,
        done.omissions,
    )
