"""All levels of a run side by side, in order of time, so that what is computed per frame is computed once for all.

Tracked one after the other, each level would go through the whole video, and a store of bounded size would compute
every frame once per level. Side by side, all levels need the same few frames at the same time; and what they prompt on
one candidate frame is one cohort, which goes through these frames once (`joint_cohort`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from trackweave.frames.source import FrameSource
from trackweave.ids import IdAllocator
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.storage.candidates import FilteredFrame
from trackweave.storage.journal import CohortJournal
from trackweave.structures.warning import RunWarning
from trackweave.tracking.candidate_loader import iter_candidate_batches
from trackweave.tracking.cohort_record import CohortRecord, SessionWatch, read_cohorts
from trackweave.tracking.helpers import ProgressPrinter, TimingAggregator
from trackweave.tracking.joint_cohort import move_cohort
from trackweave.tracking.level_runner import LevelRunResult, finish_level
from trackweave.tracking.level_tracker import CohortPart, LevelTracker, load_timed, windowed
from trackweave.tracking.pipeline_context import PipelineContext, TrackingSettings
from trackweave.tracking.stores import DedupStats, FrameResultStore


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
