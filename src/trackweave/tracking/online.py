"""`OnlineTracker`: masks of a stream, forward only. After `update` the masks of a frame are final.

It makes the decisions of `MaskTracker`, with the same parts, as far as the future is not needed for them: on a prompt
frame every level prompts what no track covers there, and what is prompted together moves on together. There, too, a
prompt frame sees only what earlier prompts became on their way forward. So the masks are those that `MaskTracker` finds
forward. What differs:

- Nothing is moved backward: an object begins on the frame on which it is prompted.
- All prompt batches that are alive go one frame further when a frame comes, where `MaskTracker` moves one after the
  other through the video. So memory and time per frame grow with the objects that are alive: one that was absent for
  `OnlineSettings.max_absent` frames in a row ends.
- An object that is prompted again begins anew there; `MaskTracker` knows all its prompts beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import PredictorError
from trackweave.frames.arrays import FrameNotThere, StreamFrames
from trackweave.ids import FrameIndex, IdAllocator, LocalIndex, TrackId
from trackweave.masks.ops import scaled_size
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.progress import TimingAggregator
from trackweave.structures.tracks import FrameObjects, TrackClass, TrackClasses
from trackweave.tracking.mask_tracker import PromptFrame, PromptSource, TrackedLevel, propagate_one_way
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import BatchRecord


class NewestMasks:
    """The masks of a level on the frame that came last, as `DedupStore` reads them."""

    def __init__(self) -> None:
        self._frame, self._masks = FrameIndex(-1), list[PackedMasks]()

    def move_to(self, frame: FrameIndex) -> None:
        """Another frame came."""
        self._frame, self._masks = frame, []

    def add(self, masks: PackedMasks) -> None:
        """Adds masks of that frame, none of them empty."""
        self._masks.append(masks)

    def masks_at(self, frame: FrameIndex) -> PackedMasks | None:
        """See `EmittedMasks.masks_at`."""
        is_known = frame == self._frame and any(len(masks) for masks in self._masks)
        return PackedMasks.concat(self._masks) if is_known else None

    def emitted_frames(self) -> Sequence[FrameIndex]:
        """See `EmittedMasks.emitted_frames`."""
        return [self._frame] if self._masks else []


@dataclass(frozen=True, eq=False)
class OnlineLevel:
    """One id space: where its results go while frames come.

    Attributes:
        ids: hands out its track ids; where several levels share it, ids are unique over all of them.
        newest: its masks on the last frame.
        tracked: keeps what it finds for files of a run; None = nothing is kept.
        classes: of its tracks, as they come.
    """

    ids: IdAllocator
    newest: NewestMasks = field(default_factory=NewestMasks)
    tracked: TrackedLevel | None = None
    classes: dict[int, TrackClass] = field(default_factory=dict)


class LevelPrompts(NamedTuple):
    """What one level prompts on the frame that came last.

    Attributes:
        level: which level.
        source: its prompts.
        frame: what of them is due.
        again: ids that it may have prompted before: those objects begin anew.
    """

    level: OnlineLevel
    source: PromptSource[Any]
    frame: PromptFrame
    again: Sequence[TrackId] = ()


@dataclass
class _Batch:
    """What was prompted on one frame, on its way.

    Attributes:
        start: that frame.
        predictions: its objects frame by frame, under the session's ids.
        levels: `(N,)` row of the level of each object.
        track_ids: `(N,)` int64, of each object in its level.
        object_ids: `(N,)` int64, of each object in the session.
        absent: `(N,)` frames in a row on which it was not seen.
        ended: `(N,)` it has ended: nothing more is said of it.
    """

    start: LocalIndex
    predictions: Iterator[FrameObjects]
    levels: NDArray[np.int64]
    track_ids: NDArray[np.int64]
    object_ids: NDArray[np.int64]
    absent: NDArray[np.int64]
    ended: NDArray[np.bool_]


class OnlineTracker:
    """Tracks levels of prompts forward over a stream, see the module.

    Args:
        predictor: what moves masks; opened now.
        frames: the stream; `update` goes over the frame that came last.
        levels: what to track.
        settings: `max_propagate` and `mask_scale_ratio` count.
        max_absent: see `OnlineSettings`.
        session: an open session over the stream, shared with others: it is left open. None = a new one.

    Raises:
        PredictorError: the predictor cannot be opened on a stream.
    """

    def __init__(
        self,
        predictor: VideoPredictor,
        frames: StreamFrames,
        levels: Sequence[OnlineLevel],
        settings: TrackingSettings,
        *,
        max_absent: int | None = None,
        session: PredictorSession | None = None,
    ) -> None:
        self._name, self._frames, self._levels, self._settings = predictor.name, frames, levels, settings
        self._max_absent = max_absent
        self._owns_session = session is None
        self._batches: list[_Batch] = []
        self._last_object_id = 0
        self.timer = TimingAggregator()
        if session is None:
            try:
                session = predictor.open(frames)
            except (FrameNotThere, MemoryError, OverflowError) as error:
                raise self._refusal(error) from None
        self.session: PredictorSession = session
        for level in levels:
            if level.tracked is not None:
                level.tracked.store.full_resolution_shape = frames.size

    def update(self, prompts: Sequence[LevelPrompts] = (), *, is_cut: bool = False) -> list[FrameObjects]:
        """Goes on to the frame that came last.

        Args:
            prompts: what is prompted on it; of candidates only those that no track covers.
            is_cut: a new shot begins with it: every object ends.

        Returns:
            The visible objects of each level, ids ascending.

        Raises:
            PredictorError: the predictor failed, or needs more of the video than has come.
        """
        try:
            return self._update(prompts, is_cut=is_cut)
        except FrameNotThere as error:
            raise self._refusal(error) from None

    def _update(self, prompts: Sequence[LevelPrompts], *, is_cut: bool) -> list[FrameObjects]:
        local = LocalIndex(self._frames.count - 1)
        index, name = FrameIndex(local), self._frames.names[local]
        found: list[list[FrameObjects]] = [[] for _ in self._levels]
        for level in self._levels:
            level.newest.move_to(index)
        if is_cut:
            self._end(list(self._batches))
        for one in prompts:
            self._end_objects(self._levels.index(one.level), one.again)
        for batch in list(self._batches):
            self._advance(batch, local, found)
        prompted = self._prompt(local, prompts)
        if prompted is not None:
            self._batches.append(prompted)
            self._advance(prompted, local, found)
        self.session.release_frames_before(local)
        results = [self._joined(index, name, parts) for parts in found]
        for level, objects in zip(self._levels, results, strict=True):
            if level.tracked is not None:
                with level.tracked.timer.track("track.store"):
                    level.tracked.store.update(index, name, objects)
        return [TrackClasses(level.classes).onto(own) for level, own in zip(self._levels, results, strict=True)]

    def _joined(self, index: FrameIndex, name: str, parts: Sequence[FrameObjects]) -> FrameObjects:
        if not any(len(part) for part in parts):
            size = scaled_size(*self._frames.size, self._settings.mask_scale_ratio)
            none = np.zeros(0, np.int64)
            boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
            return FrameObjects(index, name, none, PackedMasks.empty(*size), boxes, none, scores)
        joined = FrameObjects.concat(list(parts))
        return joined[np.argsort(joined.track_id, kind="stable")]

    def _prompt(self, local: LocalIndex, prompts: Sequence[LevelPrompts]) -> _Batch | None:
        """Prompts what is new on the frame; None where nothing is."""
        levels, track_ids, object_ids = list[int](), list[int](), list[int]()
        for one in prompts:
            above = self._last_object_id
            record, offset = one.source.prompt(one.frame, self.session, one.level.ids, above, self.timer)
            ids = [int(track_id) for track_id in record.prompt_types]
            self._last_object_id = max([self._last_object_id, *(track_id + offset for track_id in ids)])
            levels += [self._levels.index(one.level)] * len(ids)
            track_ids += ids
            object_ids += [track_id + offset for track_id in ids]
            self._commit(one.level, record)
        if not track_ids:
            return None
        limit = self._settings.max_propagate
        predictions = propagate_one_way(
            self.session,
            local,
            self._frames,
            reverse=False,
            limit=limit,
            mask_scale_ratio=self._settings.mask_scale_ratio,
            timer=self.timer,
        )
        count = len(track_ids)
        return _Batch(
            local,
            predictions,
            np.array(levels, np.int64),
            np.array(track_ids, np.int64),
            np.array(object_ids, np.int64),
            np.zeros(count, np.int64),
            np.zeros(count, np.bool_),
        )

    def _commit(self, level: OnlineLevel, record: BatchRecord) -> None:
        level.classes.update({int(track_id): own for track_id, own in record.classes.items()})
        if level.tracked is not None:
            level.tracked.add(replace(record, batch_size=len(record.prompt_types)))
            level.tracked.store.commit(record)

    def _advance(self, batch: _Batch, local: LocalIndex, found: list[list[FrameObjects]]) -> None:
        """Moves a batch to the frame, and adds its visible objects to what is found there, level by level."""
        objects = next(batch.predictions, None)
        if objects is None:  # `max_propagate`, or the predictor is through with it
            self._end([batch])
            return
        if int(objects.frame) != local or not np.array_equal(objects.track_id, batch.object_ids):
            raise PredictorError(
                f"predictor {self._name} said something of frame {objects.frame} or of other objects when frame "
                f"{local} was asked for: it cannot run online"
            )
        seen = objects.area > 0
        batch.absent = np.where(seen, 0, batch.absent + 1)
        if self._max_absent is not None:
            batch.ended |= batch.absent >= self._max_absent
        for row, level in enumerate(self._levels):
            chosen = np.flatnonzero((batch.levels == row) & seen & ~batch.ended)
            if len(chosen):
                found[row].append(replace(objects[chosen], track_id=batch.track_ids[chosen]))
                level.newest.add(objects.masks[chosen])
        if batch.ended.all():
            self._end([batch])

    def _end_objects(self, row: int, track_ids: Sequence[int]) -> None:
        """Ends objects of a level."""
        for batch in list(self._batches):
            batch.ended |= (batch.levels == row) & np.isin(batch.track_ids, track_ids)
            if batch.ended.all():
                self._end([batch])

    def _end(self, batches: Sequence[_Batch]) -> None:
        for batch in batches:
            close = getattr(batch.predictions, "close", None)
            if close is not None:
                close()
            self.session.forget_objects(batch.start)
            self._batches = [one for one in self._batches if one is not batch]

    def _refusal(self, error: BaseException) -> PredictorError:
        asked = str(error) or "its number of frames is not known"
        return PredictorError(
            f"predictor {self._name} cannot run online, as it needs more of the video than has come ({asked}): take "
            "flow, static, or one of the SAM 2 family with its feature store on"
        )

    def close(self) -> None:
        """Ends every object, and the session unless it is shared."""
        with suppress(PredictorError):
            self._end(list(self._batches))
        if self._owns_session:
            self.session.close()
