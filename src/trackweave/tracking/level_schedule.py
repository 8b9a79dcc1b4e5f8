"""All levels of a run side by side, in order of time, so that what is computed per frame is computed once for all.

Tracked one after the other, each level would go through the whole video, and a store of bounded size would compute
every frame once per level. Side by side, all levels need the same few frames at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from trackweave.frames.source import FrameSource
from trackweave.ids import IdAllocator
from trackweave.predictors.base import VideoPredictor
from trackweave.storage.candidates import FilteredFrame
from trackweave.storage.journal import CohortJournal
from trackweave.structures.warning import RunWarning
from trackweave.tracking.candidate_loader import iter_candidate_batches
from trackweave.tracking.cohort_record import SessionWatch
from trackweave.tracking.helpers import ProgressPrinter, TimingAggregator
from trackweave.tracking.level_runner import LevelRunResult, finish_level
from trackweave.tracking.level_tracker import LevelTracker, load_timed, windowed
from trackweave.tracking.pipeline_context import PipelineContext
from trackweave.tracking.stores import FrameResultStore


class ScheduledLevel:
    """One of the levels that advance together: what it is, how far it has come, where its results are.

    Objects are numbered from 1 in each level while they are tracked, so that their numbers do not depend on what other
    levels do meanwhile; `finish` gives them the run's numbers.

    Args:
        context: the checked level.
        key: what run the journal must belong to.
        resume: take over the cohorts that the journal holds.

    Raises:
        ArtifactError: the journal cannot be read or written; see `CohortJournal` and `LevelTracker`.
    """

    def __init__(self, context: PipelineContext, *, key: str, resume: bool) -> None:
        self.context = context
        self._timer = TimingAggregator()
        self.store = FrameResultStore(journal=CohortJournal(context.run.cohorts(context.level), key, resume=resume))
        try:
            self._tracker = LevelTracker(
                context.frames,
                self.store,
                context.settings,
                ids=IdAllocator(),
                long_tail_area=context.long_tail_area,
                preview_local_indices=context.preview_local_indices,
                timer=self._timer,
            )
        except BaseException:
            self.store.close()
            raise

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

    def step(self, predictor: VideoPredictor, watch: SessionWatch, local: int, entry: FilteredFrame) -> None:
        """Loads and tracks one candidate frame."""
        context = self.context
        known = len(context.bad.warnings)
        batches = iter_candidate_batches(context.manifest, [(local, entry)], context.frames, context.bad)
        for batch, clock in load_timed(batches):
            self._tracker.step(predictor, watch, batch, clock, context.bad.warnings[known:])

    def finish(self, first_id: int, *, base_frames: Path | FrameSource | None = None) -> LevelRunResult:
        """Writes the level's files; its first object gets the number `first_id`. See `level_runner.finish_level`."""
        self.store.renumber(first_id)
        return finish_level(self.context, self.store, self._tracker.result(), self._timer, base_frames=base_frames)

    def __enter__(self) -> ScheduledLevel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.store.close()


def track_side_by_side(
    levels: Sequence[ScheduledLevel],
    predictor: VideoPredictor,
    frames: FrameSource,
    *,
    max_propagate: int | None,
    progress: Callable[[int], ProgressPrinter] | None = None,
) -> None:
    """Tracks every candidate frame of every level that is still to come, on one session.

    In order of time, and on one frame in the order of `levels`. Results are the same as level by level.

    Args:
        levels: what to track; afterwards they are ready to be finished.
        predictor: what moves masks; opened only if there is anything to do.
        frames: the sampled frames.
        max_propagate: frames each way from a prompt; None = all.
        progress: makes the progress display for a number of candidate frames.

    Raises:
        TrackweaveError: what was finished before stays in the journals.
    """
    due = sorted(
        ((local, rank, entry) for rank, level in enumerate(levels) for local, entry in level.due),
        key=lambda step: step[:2],
    )
    if not due:
        return
    with ExitStack() as stack:
        session = predictor.open(frames)
        stack.callback(session.close)
        display = progress(len(due)) if progress is not None else None
        if display is not None:
            stack.callback(display.close)
        watch = SessionWatch(session)
        steps = windowed(((step[0], step) for step in due), session, max_propagate)
        for done, (local, rank, entry) in enumerate(steps, start=1):
            levels[rank].step(predictor, watch, local, entry)
            if display is not None:
                display.update(done, frames.indices[local])
