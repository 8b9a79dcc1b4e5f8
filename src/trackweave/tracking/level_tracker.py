"""`LevelTracker`: one level while it is tracked, step by step, so that several levels can advance side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, IdAllocator, TrackId
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.structures.candidates import PreviewSegment
from trackweave.structures.tracks import FrameObjects
from trackweave.structures.warning import RunWarning
from trackweave.tracking.candidate_loader import FrameCandidateBatch, build_preview_segments
from trackweave.tracking.cohort_record import CohortRecord, add_work, read_cohorts
from trackweave.tracking.cohort_steps import (
    _add_prompts_to_predictor,
    _filter_new_candidates,
    _prepare_prompt_candidates,
)
from trackweave.tracking.helpers import TimingAggregator
from trackweave.tracking.pipeline_context import LONG_TAIL_AREA, TrackingSettings, frame_at
from trackweave.tracking.stores import DedupStats, DedupStore, FrameResultStore, PreviewFrame, TrackingArtifacts

Step = TypeVar("Step")


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


@dataclass(frozen=True)
class CohortPart:
    """The objects that one level brings to the cohort of a candidate frame; none when nothing there was new.

    Attributes:
        level: whose they are.
        local: position of the candidate frame.
        clock: what the frame takes the level.
        stats: what the filter counted on it.
        kinds: the level's id of each object → `mask` or `box`.
        shift: what the session's number of an object is above its id: levels count from 1 each.
        previews: preview material, if the frame is a preview frame.
        omissions: candidates that were found to be bad.
    """

    level: LevelTracker
    local: int
    clock: TimingAggregator
    stats: DedupStats
    kinds: Mapping[TrackId, str] = field(default_factory=dict)
    shift: int = 0
    previews: Sequence[PreviewSegment] = ()
    omissions: Sequence[RunWarning] = ()

    @property
    def last_number(self) -> int:
        """The highest number of one of them in the session; 0 without objects."""
        return max(self.kinds, default=0) + self.shift

    def own(self, record: FrameObjects) -> FrameObjects:
        """What a prediction of the whole cohort says of these objects, under their own ids."""
        numbers = np.fromiter(self.kinds, np.int64, len(self.kinds)) + self.shift
        own = record[np.flatnonzero(np.isin(record.ids, numbers))]
        return replace(own, ids=own.ids - self.shift)


class LevelTracker:
    """One level while it is tracked, one candidate frame after the other: `begin`, `joint_cohort.move_cohort`.

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
        for record in read_cohorts(self._store.recall(names), self._store.where):
            self._add(record)
            self._ids.take(len(record.kinds))
            self.recalled = record.local

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

    def begin(
        self,
        session: PredictorSession,
        predictor: VideoPredictor,
        batch: FrameCandidateBatch,
        clock: TimingAggregator,
        omissions: Sequence[RunWarning] = (),
        *,
        above: int = 0,
    ) -> CohortPart:
        """Prompts what is new on one candidate frame; `joint_cohort.move_cohort` moves it and finishes the frame.

        Args:
            session: the session that moves the cohort.
            predictor: what it is a session of.
            batch: the frame's candidates.
            clock: what loading them took; goes to the level's durations.
            omissions: candidates that were found to be bad on that occasion.
            above: in the session, this level's objects get numbers above this one.
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
        part = CohortPart(self, batch.local_index, clock, stats, omissions=omissions)
        if not len(filtered):
            return part
        ids = self._ids.take(len(filtered))
        shift = max(0, above + 1 - ids[0])
        numbers = [TrackId(track_id + shift) for track_id in ids]
        with clock.track("track.prompt"):
            kinds = _add_prompts_to_predictor(
                predictor, session, filtered, self._how.prompt_mode, frame=batch.local_index, ids=numbers
            )
        shown = batch.local_index in self._preview_positions
        previews = build_preview_segments(filtered.candidates, ids) if shown else []
        kinds = {TrackId(number - shift): kind for number, kind in kinds.items()}
        return replace(part, kinds=kinds, shift=shift, previews=previews)

    def begin_prompts(
        self, session: PredictorSession, start: int, prompts: Mapping[int, Mapping[TrackId, NDArray[np.bool_]]]
    ) -> CohortPart:
        """Prompts objects that a person marked first on position `start`; see `begin`.

        Args:
            session: the session that moves the cohort.
            start: where they were first marked.
            prompts: local position → `{id: (H, W) bool mask}`, of these objects alone.
        """
        clock = TimingAggregator()
        with clock.track("track.prompt"):
            for local, masks in sorted(prompts.items()):
                for track_id, mask in masks.items():
                    session.add_mask(local, track_id, mask)
        kinds = dict.fromkeys(prompts[start], "mask")
        return CohortPart(self, start, clock, DedupStats(candidates=len(kinds)), kinds)

    def store(self, record: FrameObjects) -> None:
        """Stores what the predictor says of this level's objects on one frame."""
        self._store.update(record.frame, record.name, record)

    def finish(
        self, part: CohortPart, work: Mapping[str, float], remarks: Sequence[RunWarning], *, together: int
    ) -> None:
        """Commits a candidate frame.

        Args:
            part: the level's part of its cohort, all stored.
            work: what the predictor counted for it.
            remarks: everything that the predictor has said of itself so far, if that has changed.
            together: objects of the cohort, of all levels.
        """
        frame, name = frame_at(self._frames, part.local)
        record = CohortRecord(
            part.local,
            frame,
            name,
            part.stats,
            part.kinds,
            part.previews,
            dict(part.clock.items()),
            work,
            remarks,
            part.omissions,
            together,
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
