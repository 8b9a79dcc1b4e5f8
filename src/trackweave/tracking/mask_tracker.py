"""`MaskTracker`: the one engine of mask tracking. Levels of prompts go in, masks over time come out in their stores.

A *level* is an id space with a source of prompts: filtered candidates (`CandidatePrompts`) or a user's label images
(`LabelPrompts`). What all levels prompt on one frame is a *prompt batch*. For each prompt frame, in order of time:
every level prompts what is new to it; the batch is propagated forward, then backward; each level stores its share of
what comes back, and logs a `BatchRecord`.

What holds throughout:

- All levels advance together in time. One after the other, each would go through the whole video, and a predictor that
  keeps the features of a bounded number of frames would compute every frame once per level. Together they need the same
  few frames at the same time, and a model is called once with all objects, which is what a GPU wants.
- Objects do not influence each other, so a level's results are those of the level alone, whatever other levels do. So
  are its ids: each level counts its objects from 1 in the order in which they were prompted, however the prompt frames
  of other levels lie between. Only inside the session do they differ, by an offset per level and batch.
- Whatever a batch adds to a level goes through its record, fresh or out of the journal. So a level that goes on after a
  kill stands where it would stand had it never stopped.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.frames.cuts import shot_of
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, IdAllocator, LocalIndex, TrackId
from trackweave.masks.ops import rescale_masks, scaled_size
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.progress import ProgressDisplay, TimingAggregator
from trackweave.structures.prompts import Prompt
from trackweave.structures.run_log import RunWarning
from trackweave.structures.tracks import FrameObjects, TrackClass
from trackweave.tracking.pipeline_context import frame_at, local_positions
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import (
    BatchRecord,
    DedupStats,
    FrameResultStore,
    PromptType,
    TrackingArtifacts,
    build_tracking_result,
)

PER_OBJECT_COUNTER = "object_frames"
"""The one counter of sessions that every object adds to alike."""

# --- where prompts come from -----------------------------------------------------------------------------------------


class PromptFrame(Protocol):
    """A frame on which a level has prompts."""

    @property
    def local(self) -> LocalIndex:
        """Its position among the sampled frames."""


FrameT = TypeVar("FrameT", bound=PromptFrame)


class PromptSource(Protocol[FrameT]):
    """Where a level's prompts come from."""

    @property
    def positions(self) -> Sequence[LocalIndex]:
        """Positions of the prompt frames; empty where they are not known beforehand."""

    @property
    def sizes(self) -> Sequence[int] | None:
        """How many objects each of `positions` will prompt; None where that shows only then."""

    def frames(self) -> Iterator[FrameT]:
        """The prompt frames in order of time; one is asked for when the batch of the one before is finished."""

    def prompt(
        self, frame: FrameT, session: PredictorSession, ids: IdAllocator, above: int, timer: TimingAggregator
    ) -> tuple[BatchRecord, int]:
        """Prompts what is new on a frame.

        Args:
            frame: one of `frames`.
            session: what to prompt.
            ids: the level's.
            above: the session's object ids have to be greater than this.
            timer: takes the durations.

        Returns:
            what the level logs of the frame so far, and by how much the session's object ids exceed the level's.
        """


class MarkedFrame(NamedTuple):
    """A frame on which a user marked objects first."""

    local: LocalIndex
    ids: Sequence[TrackId]


class LabelPrompts:
    """Prompts exactly the objects that a user marked: nothing is filtered, ids are the label values.

    An object that is marked on several frames of a shot is prompted on all of them at once, and re-anchored on its way.
    In another shot it is another prompt, with the same id.

    Args:
        labels: position among the sampled frames → label image `(H, W)` of integers; 0 and below is background.
        frames: the sampled frames.
        cuts: see `MaskTracker`.
        marks: position → prompts of single objects, by their id; masks are packed, at the frame's size.
        classes: of objects that were given one, by their id.
    """

    def __init__(
        self,
        labels: Mapping[LocalIndex, NDArray[np.integer[Any]]],
        frames: FrameSource,
        cuts: Sequence[LocalIndex] = (),
        marks: Mapping[LocalIndex, Mapping[TrackId, Prompt]] | None = None,
        classes: Mapping[int, TrackClass] | None = None,
    ) -> None:
        self._labels, self._frames, self._cuts = dict(labels), frames, cuts
        self._marks, self._classes = marks or {}, classes or {}
        self._ids = {local: self._ids_on(local) for local in sorted({*self._labels, *self._marks})}

    @property
    def positions(self) -> Sequence[LocalIndex]:
        """See `PromptSource.positions`."""
        return [frame.local for frame in self.frames()]

    @property
    def sizes(self) -> Sequence[int]:
        """See `PromptSource.sizes`."""
        return [len(frame.ids) for frame in self.frames()]

    def frames(self) -> Iterator[MarkedFrame]:
        """See `PromptSource.frames`."""
        marked: set[tuple[int, TrackId]] = set()
        for local, ids in self._ids.items():
            shot = bisect_right(self._cuts, local)
            first = [track_id for track_id in ids if (shot, track_id) not in marked]
            marked.update((shot, track_id) for track_id in first)
            if first:
                yield MarkedFrame(local, first)

    def _ids_on(self, local: LocalIndex) -> list[TrackId]:
        """The objects that are marked on a frame, ascending."""
        labels = np.unique(self._labels[local]) if local in self._labels else ()
        return sorted({*(TrackId(int(value)) for value in labels if value > 0), *self._marks.get(local, ())})

    def _add_prompt(self, session: PredictorSession, local: LocalIndex, track_id: TrackId, object_id: int) -> None:
        mark = self._marks.get(local, {}).get(track_id)
        if mark is None:
            session.add_mask(local, object_id, PackedMasks.from_bool(self._labels[local] == track_id))
        else:
            add_mark(session, local, object_id, mark)

    def prompt(
        self, frame: MarkedFrame, session: PredictorSession, ids: IdAllocator, above: int, timer: TimingAggregator
    ) -> tuple[BatchRecord, int]:
        """See `PromptSource.prompt`; `ids` is not asked."""
        id_offset = max(0, above + 1 - min(frame.ids))
        with timer.track("track.prompt"):
            shot = shot_of(frame.local, self._cuts, len(self._frames))
            for local, marked in self._ids.items():
                for track_id in marked:
                    if local in shot and track_id in frame.ids:
                        self._add_prompt(session, local, track_id, track_id + id_offset)
        marks = self._marks.get(frame.local, {})
        types: dict[TrackId, PromptType] = {
            track_id: marks[track_id].kind if track_id in marks else "mask" for track_id in frame.ids
        }
        dedup = DedupStats(candidates=len(types))
        classes = {track_id: self._classes[track_id] for track_id in frame.ids if track_id in self._classes}
        record = BatchRecord(frame.local, *frame_at(self._frames, frame.local), dedup, types, classes=classes)
        return record, id_offset


def add_mark(session: PredictorSession, local: LocalIndex, object_id: int, mark: Prompt) -> None:
    """Prompts an object by what a person marked it with; a mask is packed, at the frame's size."""
    if isinstance(mark.mask, PackedMasks):
        session.add_mask(local, object_id, mark.mask)
        return
    box = None if mark.box is None else np.asarray(mark.box, np.float32)
    if mark.points:
        session.add_points(local, object_id, np.asarray(mark.points, np.float32), np.asarray(mark.labels), box)
    elif box is not None:
        session.add_box(local, object_id, box)


# --- levels ----------------------------------------------------------------------------------------------------------


class TrackedLevel:
    """One id space while it is tracked: where its prompts come from, where its results go, what it has so far.

    Args:
        source: its prompts.
        store: takes its results; what its journal holds is taken over by the engine.
        ids: hands out its track ids; None = from 1.
        timer: takes its durations.

    Attributes:
        records: one per finished prompt frame, in order of time. Everything else that is known of the level's past
            is a sum over them.
    """

    def __init__(
        self,
        source: PromptSource[Any],
        store: FrameResultStore,
        *,
        ids: IdAllocator | None = None,
        timer: TimingAggregator | None = None,
    ) -> None:
        self.source, self.store = source, store
        self.ids, self.timer = ids or IdAllocator(), timer or TimingAggregator()
        self.records: list[BatchRecord] = []

    @property
    def last_position(self) -> int:
        """Position of the last finished prompt frame; −1 before the first."""
        return self.records[-1].local if self.records else -1

    @property
    def pending_count(self) -> int:
        """Prompt frames that are still to come, as far as they are known beforehand."""
        return sum(position > self.last_position for position in self.source.positions)

    @property
    def object_count(self) -> int:
        """Objects that were prompted so far."""
        return sum(len(record.prompt_types) for record in self.records)

    def pending(self) -> Iterator[PromptFrame]:
        """Prompt frames that are still to come, in order of time."""
        last = self.last_position
        return (frame for frame in self.source.frames() if frame.local > last)

    def add(self, record: BatchRecord) -> None:
        """Adds a finished prompt frame, of this process or an earlier one."""
        self.records.append(record)
        if record.previews:
            self.store.update(record.frame, record.name, {}, record.previews)
        for stage, seconds in record.seconds.items():
            self.timer.add(stage, seconds)

    def result(self) -> TrackingArtifacts:
        """What the level is so far."""
        return build_tracking_result(self.store, self.records)


# --- the engine ------------------------------------------------------------------------------------------------------


class _Share(NamedTuple):
    """What one level brings to a prompt batch; no object when nothing on the frame was new to it.

    Attributes:
        level: whose share it is.
        record: what the level logs of it, so far.
        id_offset: by how much the session's object ids exceed the level's.
        timer: what the batch takes the level.
    """

    level: TrackedLevel
    record: BatchRecord
    id_offset: int
    timer: TimingAggregator

    @property
    def size(self) -> int:
        return len(self.record.prompt_types)

    @property
    def last_object_id(self) -> int:
        """The greatest of its ids in the session; 0 without objects."""
        return max(self.record.prompt_types, default=0) + self.id_offset

    def of(self, objects: FrameObjects) -> FrameObjects:
        """What a prediction of the whole batch says of this share's objects, under the level's own ids."""
        object_ids = np.fromiter(self.record.prompt_types, np.int64, self.size) + self.id_offset
        own = objects[np.flatnonzero(np.isin(objects.track_id, object_ids))]
        return replace(own, track_id=own.track_id - self.id_offset)


class _Work:
    """Counts a run's work in object-frames: what is done, and how much there will be, as far as that is known.

    How many objects of a candidate frame are new shows only on that frame. Until then it counts for the mean of those
    before it: of the first ones of their shots, where everything is new, or of the others.

    Attributes:
        display: shows it; None: not yet, or nothing does.
        done: object-frames of this process.
    """

    def __init__(
        self, levels: Sequence[TrackedLevel], cuts: Sequence[LocalIndex], visits: Callable[[LocalIndex], int]
    ) -> None:
        self.display: ProgressDisplay | None = None
        self.done = 0
        self._objects = self._rest = 0
        self._visits, self._levels = visits, levels
        self._positions = [np.array(level.source.positions, np.int64) for level in levels]
        self._frames = [np.array([visits(LocalIndex(int(p))) for p in own], np.int64) for own in self._positions]
        self._is_first = []
        for own in self._positions:
            shots = np.searchsorted(np.array(cuts, np.int64), own, side="right")
            self._is_first.append(np.diff(shots, prepend=-1) > 0)

    def begin(self, local: LocalIndex, objects: int) -> None:
        """A batch of so many objects is prompted."""
        self._objects, self._rest = objects, objects * self._visits(local)
        self._expect(local)

    def go_on(self, frame: int) -> None:
        """The batch has come through another frame."""
        self.done, self._rest = self.done + self._objects, self._rest - self._objects
        if self.display is not None:
            self.display.update(self.done, frame)

    def end(self, local: LocalIndex, frame: int) -> None:
        """The batch is finished, perhaps before the last frame that it could have gone to."""
        self._rest = 0
        self._expect(local)
        if self.display is not None:
            self.display.update(self.done, frame)

    def _expect(self, local: LocalIndex) -> None:
        if self.display is not None:
            self.display.expect(self.total(local + 1), is_known=self._is_known(local + 1))

    def _is_known(self, begin: int) -> bool:
        return all(
            level.source.sizes is not None or not (own >= begin).any()
            for level, own in zip(self._levels, self._positions, strict=True)
        )

    def total(self, begin: int) -> int:
        """Object-frames in all; the prompt frames from position `begin` on are still to come."""
        coming = 0.0
        for level, own, frames, first in zip(self._levels, self._positions, self._frames, self._is_first, strict=True):
            due = (own >= begin) & (own > level.last_position)
            if level.source.sizes is not None:
                coming += float(frames[due] @ np.array(level.source.sizes)[due])
                continue
            seen: dict[int, int] = {record.local: len(record.prompt_types) for record in level.records}
            for kind in (first, ~first):
                sizes = [seen[int(p)] for p in own[kind] if int(p) in seen]
                coming += float(frames[due & kind].sum()) * (float(np.mean(sizes)) if sizes else 0.0)
        return self.done + max(self._rest, 0) + round(coming)


class MaskTracker:
    """Tracks every prompt frame of every level that is still to come, on one session.

    A new one has already taken over what the levels' journals hold; `pending_count` frames are due, `run` tracks them.

    Args:
        predictor: what moves masks; opened only if there is anything to do.
        frames: the sampled frames.
        levels: what to track. On a frame that several have prompts on, they prompt in this order.
        settings: `max_propagate` and `mask_scale_ratio` count; the same for all levels.
        session: an open session over the same frames, shared with others: it is left open, and its frames are
            not released. None = a new one.
        cuts: positions at which a new shot begins, ascending; no batch goes on beyond its shot.

    Raises:
        ArtifactError: a journal holds something else than records.
        RunFolderError: a journal cannot be cut.
    """

    def __init__(
        self,
        predictor: VideoPredictor,
        frames: FrameSource,
        levels: Sequence[TrackedLevel],
        settings: TrackingSettings,
        *,
        session: PredictorSession | None = None,
        cuts: Sequence[LocalIndex] = (),
    ) -> None:
        self._predictor, self._frames, self._levels, self._settings = predictor, frames, levels, settings
        self._cuts = cuts
        self._shared_session = session
        self._counters: dict[str, float] = dict(session.counters) if session is not None else {}
        self._warnings: list[RunWarning] = []
        self._take_over_journals()

    def _take_over_journals(self) -> None:
        names = {frame: self._frames.names[local] for frame, local in local_positions(self._frames).items()}
        committed = [level.store.committed for level in self._levels]
        for level, records in zip(self._levels, _without_split_batches(self._levels, committed), strict=True):
            level.store.full_resolution_shape = self._frames.size
            prompted = {int(track_id) for record in records for track_id in record.prompt_types}
            level.store.take_over(len(records), names, prompted)
            for record in records:
                level.add(record)
                level.ids.take(len(record.prompt_types))

    @property
    def pending_count(self) -> int:
        """Prompt frames that are still to come, level by level, as far as they are known beforehand."""
        return sum(level.pending_count for level in self._levels)

    def run(
        self,
        progress: Callable[[int], ProgressDisplay] | None = None,
        on_finished: Callable[[int, FrameIndex], None] | None = None,
    ) -> None:
        """Tracks all that is due; afterwards the levels have their results.

        Args:
            progress: makes the progress display for a number of object-frames, each one object on one frame.
            on_finished: gets how many prompt frames are finished, counted level by level, and the index of the last.

        Raises:
            TrackweaveError: what was finished before stays in the stores and journals.
        """
        finished, session = 0, self._shared_session
        work = _Work(self._levels, self._cuts, self._visits)
        with ExitStack() as stack:
            for local, prompt_frames in self._in_order_of_time():
                if session is None:
                    session = self._predictor.open(self._frames)
                    stack.callback(session.close)
                if work.display is None and progress is not None:
                    work.display = stack.enter_context(progress(work.total(local)))
                self._release_frames(session, local)
                shares = self._prompt(session, prompt_frames)
                work.begin(local, sum(share.size for share in shares))
                self._propagate(session, local, shares, work)
                self._commit(session, shares)
                work.end(local, self._frames.indices[local])
                finished += len(shares)
                if on_finished is not None:
                    on_finished(finished, self._frames.indices[local])

    def _visits(self, local: LocalIndex) -> int:
        """Frames that a batch at a position goes over."""
        shot = shot_of(local, self._cuts, len(self._frames))
        return 1 + sum(_limits(local, shot, self._settings.max_propagate))

    def _in_order_of_time(self) -> Iterator[tuple[LocalIndex, list[tuple[TrackedLevel, PromptFrame]]]]:
        """Each position with the levels that have prompts there. The next is looked for when this one is finished."""
        pending = [level.pending() for level in self._levels]
        coming = [next(frames, None) for frames in pending]
        while any(frame is not None for frame in coming):
            local = min(frame.local for frame in coming if frame is not None)
            due = [k for k, frame in enumerate(coming) if frame is not None and frame.local == local]
            yield local, [(self._levels[k], frame) for k in due if (frame := coming[k]) is not None]
            for k in due:
                coming[k] = next(pending[k], None)

    def _release_frames(self, session: PredictorSession, local: LocalIndex) -> None:
        """Lets go of the frames that no batch from `local` on can reach.

        A batch at position p visits p − `max_propagate` … p + `max_propagate` of its shot, and p never falls, because
        all levels advance together. So a session that keeps 2 · `max_propagate` + 1 frames computes each frame once,
        however long the video is. Whoever shares the session may still need them, and without a limit every batch
        visits all of its shot.
        """
        reach, shot = self._settings.max_propagate, shot_of(local, self._cuts, len(self._frames))
        first = shot.start if reach is None else max(shot.start, local - reach)
        if self._shared_session is None and first > 0:
            session.release_frames_before(LocalIndex(first))

    def _prompt(
        self, session: PredictorSession, prompt_frames: Sequence[tuple[TrackedLevel, PromptFrame]]
    ) -> list[_Share]:
        """Each level's share of the batch, prompted under object ids above those of the levels before it."""
        shares: list[_Share] = []
        for level, frame in prompt_frames:
            timer = TimingAggregator()
            above = max((share.last_object_id for share in shares if share.size), default=0)
            record, id_offset = level.source.prompt(frame, session, level.ids, above, timer)
            shares.append(_Share(level, record, id_offset, timer))
        return shares

    def _propagate(self, session: PredictorSession, local: LocalIndex, shares: Sequence[_Share], work: _Work) -> None:
        """Moves the batch both ways, and stores it frame by frame: no frame's masks outlive the next prediction.

        All objects visit the same frames, so the time that it takes is divided by their number.
        """
        shared = TimingAggregator()
        prompted = [share for share in shares if share.size]
        if not prompted:
            return
        for objects in propagate_frame_predictions(
            session,
            local,
            self._frames,
            max_propagate=self._settings.max_propagate,
            mask_scale_ratio=self._settings.mask_scale_ratio,
            timer=shared,
            cuts=self._cuts,
        ):
            for share in prompted:
                with share.timer.track("track.store"):
                    share.level.store.update(objects.frame, objects.name, share.of(objects))
            work.go_on(objects.frame)
        session.forget_objects(local)
        total = sum(share.size for share in prompted)
        for stage, seconds in shared.items():
            for share in prompted:
                share.timer.add(stage, seconds * share.size / total)

    def _commit(self, session: PredictorSession, shares: Sequence[_Share]) -> None:
        """Logs the batch in every level that has a share of it, one level after the other.

        Only now, when all masks of all levels are stored: a commit vouches for the masks before it in the journal. A
        kill between two levels' commits splits the batch; see `_without_split_batches`.
        """
        counts = [share.size for share in shares]
        first = next((k for k, count in enumerate(counts) if count), 0)
        counters = divide_counters(self._new_counters(session), counts, first)
        warnings = self._changed_warnings(session)
        for k, share in enumerate(shares):
            record = replace(
                share.record,
                seconds=dict(share.timer.items()),
                counters=counters[k],
                warnings=warnings if k == first else [],
                batch_size=sum(counts),
            )
            with share.level.timer.track("track.store"):
                share.level.store.commit(record)
            share.level.add(record)

    def _new_counters(self, session: PredictorSession) -> dict[str, float]:
        """What the session has counted since the last call."""
        before, self._counters = self._counters, dict(session.counters)
        return {name: value - before.get(name, 0) for name, value in self._counters.items()}

    def _changed_warnings(self, session: PredictorSession) -> list[RunWarning]:
        """All warnings of the session, if they are others than at the last call; else none."""
        before, self._warnings = self._warnings, list(session.warnings)
        return list(self._warnings) if self._warnings != before else []


def propagate_frame_predictions(
    session: PredictorSession,
    start: LocalIndex,
    frames: FrameSource,
    *,
    max_propagate: int | None = None,
    mask_scale_ratio: float = 1.0,
    timer: TimingAggregator | None = None,
    cuts: Sequence[LocalIndex] = (),
) -> Iterator[FrameObjects]:
    """Moves the prompt batch of `start` forward, then backward, as far as its shot goes; yields its masks frame by
    frame at the stored size.

    The prompt frame comes once, first. Boxes are measured at frame size, before masks are scaled. Ids are the
    session's object ids, in the order in which they were prompted.
    """
    clock = timer or TimingAggregator()
    limits = _limits(start, shot_of(start, cuts, len(frames)), max_propagate) if cuts else (max_propagate,) * 2
    for reverse, limit in zip((False, True), limits, strict=True):
        yield from propagate_one_way(
            session, start, frames, reverse=reverse, limit=limit, mask_scale_ratio=mask_scale_ratio, timer=clock
        )


def propagate_one_way(
    session: PredictorSession,
    start: LocalIndex,
    frames: FrameSource,
    *,
    reverse: bool,
    limit: int | None,
    mask_scale_ratio: float = 1.0,
    timer: TimingAggregator | None = None,
) -> Iterator[FrameObjects]:
    """One direction of `propagate_frame_predictions`, up to `limit` frames; forward the prompt frame comes first."""
    clock = timer or TimingAggregator()
    predictions = session.propagate(start, reverse=reverse, max_frames=limit)
    while True:
        with clock.track("track.predictor"):
            prediction = next(predictions, None)
        if prediction is None:
            return
        if reverse and prediction.frame == start:
            continue
        with clock.track("track.pack"):
            stored_size = scaled_size(*prediction.masks.size, mask_scale_ratio)
            masks = rescale_masks(prediction.masks, *stored_size, method="nearest")
            objects = FrameObjects(
                *frame_at(frames, prediction.frame),
                prediction.object_ids,
                masks,
                prediction.masks.boxes.astype(np.float32),
                masks.areas,
                prediction.score,
            )
        yield objects


def _limits(start: int, shot: range, max_propagate: int | None) -> tuple[int, int]:
    """Frames that a batch may go forward and backward without leaving its shot."""
    forward, backward = shot.stop - 1 - start, start - shot.start
    reach = len(shot) if max_propagate is None else max_propagate
    return min(forward, reach), min(backward, reach)


def divide_counters(counters: Mapping[str, float], counts: Sequence[int], first: int) -> list[dict[str, float]]:
    """Each level's share of what the session counted for a batch, so that totals over levels stay right.

    What every object adds to alike goes by the number of objects, in whole numbers. Anything else (passes of an
    encoder, calls of a model) is work that no object caused alone: it goes to the first level that has an object.

    Args:
        counters: what the session counted.
        counts: objects of each level.
        first: position of the level that takes what is not divided.

    >>> divide_counters({"object_frames": 10, "encoder_passes": 7}, [0, 1, 2], first=1)
    [{'object_frames': 0, 'encoder_passes': 0}, {'object_frames': 3, 'encoder_passes': 7}, \
{'object_frames': 7, 'encoder_passes': 0}]
    """
    shares = [{name: value if k == first else 0 for name, value in counters.items()} for k in range(len(counts))]
    total = sum(counts)
    if PER_OBJECT_COUNTER in counters and total:
        # Rounded where shares meet, so that the shares of any amount add up to it.
        edges = [round(counters[PER_OBJECT_COUNTER] * count / total) for count in accumulate(counts, initial=0)]
        for share, (low, high) in zip(shares, pairwise(edges), strict=True):
            share[PER_OBJECT_COUNTER] = high - low
    return shares


def _without_split_batches(
    levels: Sequence[TrackedLevel], committed: Sequence[Sequence[BatchRecord]]
) -> list[list[BatchRecord]]:
    """The levels' records without batches of which another level's share was lost in a kill, and what follows them.

    Such a batch then moves as a whole again. Were only the lost share moved, masks could differ in their last bits from
    those of a run that was not cut off: how a model rounds may depend on how many objects go through it at once.
    """
    kept = [{record.local: record for record in records} for records in committed]
    positions = [frozenset(level.source.positions) for level in levels]
    while (split := _first_split(positions, kept)) is not None:  # what follows it goes too, and may be shared in turn
        kept = [
            {local: record for local, record in own.items() if local < split} if split in own else own for own in kept
        ]
    return [list(own.values()) for own in kept]


def _first_split(
    positions: Sequence[frozenset[LocalIndex]], kept: Sequence[Mapping[LocalIndex, BatchRecord]]
) -> LocalIndex | None:
    """First position whose batch not all of its levels have committed."""
    for local in sorted({local for own in kept for local in own}):
        records = [own[local] for own in kept if local in own]
        awaited = any(local in expected and local not in own for expected, own in zip(positions, kept, strict=True))
        if awaited and sum(len(record.prompt_types) for record in records) < records[0].batch_size:
            return local
    return None
