"""`LevelTracker`: one level while it is tracked, step by step, so that several levels can advance side by side.

One cohort of all levels: what they prompted on one candidate frame moves through the video together.

Objects of a cohort do not influence each other, so each moves as it would with its own level alone. But the frames are
gone through once instead of once per level, and a model is called with all objects at once, which is what a GPU wants.

What the levels share is divided among them so that totals stay right. Time in the predictor and in packing goes by
the number of objects, as all of them visit the same frames; so does the counter `object_frames`, in whole numbers. Any
other counter (passes of an encoder, calls of a model) counts work that no object caused alone: it goes to the first
level with an object in the cohort, as do remarks.

What happens to the candidates of one frame: prepare, filter, prompt, propagate.

`sam2_runner` hands these names on: there the pipeline's guide has them.

`CohortRecord`: what one finished candidate frame adds to a level; the journal holds one per frame.

Masks and boxes are not in it: they lie in the journal before it (`storage.journal`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import box_iou, scale_boxes
from trackweave.errors import ArtifactError
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, IdAllocator, LocalIndex, TrackId
from trackweave.masks.ops import mask_iou, rescale_masks, scaled_size
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.progress import TimingAggregator
from trackweave.structures.candidates import Candidates, PreviewSegment
from trackweave.structures.run_log import RunWarning
from trackweave.structures.tracks import FrameObjects
from trackweave.tracking.candidate_loader import FrameCandidateBatch, build_preview_segments
from trackweave.tracking.pipeline_context import LONG_TAIL_AREA, frame_at
from trackweave.tracking.settings import PromptMode, TrackingSettings
from trackweave.tracking.stores import DedupStats, DedupStore, FrameResultStore, PreviewFrame, TrackingArtifacts

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

    def mask(self, row: int) -> PackedMasks:
        """One candidate's mask in the predictor's space."""
        mask = rescale_masks(self.candidates.masks[row], *self.frame_size, method="area")
        if not mask.areas[0]:  # thinner than half a pixel after scaling down
            mask = rescale_masks(self.candidates.masks[row], *self.frame_size, method="nearest")
        return mask


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
        by_box = by_box | (candidates.area <= long_tail_area)
    return PromptBatch(
        candidates,
        scale_boxes(candidates.xyxy, width / cols, height / rows),
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
    for row in np.lexsort((-prepared.candidates.area, -prepared.candidates.score)):
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
            state.add_box(LocalIndex(frame), track_id, candidates.boxes[row])
            kinds[track_id] = "box"
        else:
            state.add_mask(LocalIndex(frame), track_id, candidates.mask(row))
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
        predictions = state.propagate(LocalIndex(start), reverse=reverse, max_frames=max_propagate)
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
                    prediction.score,
                )
            yield record


@dataclass(frozen=True)
class CohortRecord:
    """One candidate frame (or, of a person's prompts, one frame with new objects), after it was tracked.

    Attributes:
        local: its position among the sampled frames.
        frame: its absolute index.
        name: its name.
        dedup: statistics of the filter on this frame alone.
        kinds: id of each object that was prompted → `mask` or `box`.
        previews: preview material, if the frame is a preview frame and an object was prompted.
        seconds: durations by stage.
        work: what the predictor counted meanwhile.
        remarks: everything that the predictor has said of itself so far, if that has changed.
        omissions: candidates that were only found to be bad when they were loaded.
        together: objects of the cohort, of all levels.
    """

    local: int
    frame: FrameIndex
    name: str
    dedup: DedupStats
    kinds: Mapping[TrackId, str]
    previews: Sequence[PreviewSegment] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    work: Mapping[str, float] = field(default_factory=dict)
    remarks: Sequence[RunWarning] = ()
    omissions: Sequence[RunWarning] = ()
    together: int = 0

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for the journal."""
        return {
            "local": self.local,
            "frame": int(self.frame),
            "name": self.name,
            "dedup": asdict(self.dedup),
            "kinds": [[int(track_id), kind] for track_id, kind in self.kinds.items()],
            "previews": [asdict(segment) for segment in self.previews],
            "seconds": dict(self.seconds),
            "work": dict(self.work),
            "remarks": [warning.to_json() for warning in self.remarks],
            "omissions": [warning.to_json() for warning in self.omissions],
            "together": self.together,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CohortRecord:
        """The record back.

        Raises:
            KeyError, TypeError, ValueError: not what `to_json` gave.
        """
        dedup = dict(data["dedup"])
        dedup["frames"] = {int(frame): (int(pair[0]), int(pair[1])) for frame, pair in dedup["frames"].items()}
        return cls(
            int(data["local"]),
            FrameIndex(int(data["frame"])),
            str(data["name"]),
            DedupStats(**dedup),
            {TrackId(int(track_id)): str(kind) for track_id, kind in data["kinds"]},
            [PreviewSegment(**{**segment, "box": tuple(segment["box"])}) for segment in data["previews"]],
            dict(data["seconds"]),
            dict(data["work"]),
            [RunWarning.from_json(warning) for warning in data["remarks"]],
            [RunWarning.from_json(warning) for warning in data["omissions"]],
            int(data["together"]),
        )


def read_cohorts(committed: Iterable[Mapping[str, Any]], where: str) -> list[CohortRecord]:
    """What a journal holds, as records.

    Args:
        committed: what `CohortRecord.to_json` gave.
        where: the file, for the message.

    Raises:
        ArtifactError: something else than records.
    """
    try:
        return [CohortRecord.from_json(data) for data in committed]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{where}: the journal lacks or misspells {error}; remove it") from None


class SessionWatch:
    """A session, and what it has said of itself since it was last asked.

    Levels that share a session share its watch: work goes to the level that caused it.
    """

    def __init__(self, session: PredictorSession) -> None:
        self.session = session
        self._remarks: list[RunWarning] = []
        self._counters: dict[str, float] = {}

    def work(self) -> dict[str, float]:
        """What was counted since the last call."""
        before, self._counters = self._counters, dict(self.session.counters)
        return {name: value - before.get(name, 0) for name, value in self._counters.items()}

    def remarks(self) -> list[RunWarning]:
        """All remarks, if they are others than at the last call; else none."""
        before, self._remarks = self._remarks, list(self.session.warnings)
        return list(self._remarks) if self._remarks != before else []


def add_work(total: dict[str, float], work: Mapping[str, float]) -> None:
    """Adds counters to a total, name by name."""
    for name, value in work.items():
        total[name] = total.get(name, 0) + value


def fold_remarks(snapshots: Iterable[Sequence[RunWarning]]) -> list[RunWarning]:
    """One list of what a predictor said of itself, from what it had said at several times, in one process or more.

    A later snapshot replaces what an earlier one says under the same code: a session words its remarks anew as it goes.
    """
    found: list[RunWarning] = []
    for snapshot in snapshots:
        codes = {remark.code for remark in snapshot}
        found = [remark for remark in found if remark.code not in codes] + list(snapshot)
    return found


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
            session.release_frames_before(LocalIndex(following[0] - max_propagate))
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
        own = record[np.flatnonzero(np.isin(record.track_id, numbers))]
        return replace(own, track_id=own.track_id - self.shift)


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
                    session.add_mask(LocalIndex(local), track_id, PackedMasks.from_bool(mask))
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


BY_OBJECTS = "object_frames"
"""The counter that every object adds to alike."""


def move_cohort(
    parts: Sequence[CohortPart], watch: SessionWatch, frames: FrameSource, settings: TrackingSettings
) -> None:
    """Moves the objects of all parts forward and backward, and finishes the candidate frame of each level.

    Predictions go to their levels frame by frame. Only when all are stored are the levels committed, one after the
    other; of a cohort that a kill splits there, see `level_schedule.forget_split_cohorts`.

    Args:
        parts: of one candidate frame, one per level, prompted in this order.
        watch: the session that they were prompted in.
        frames: the sampled frames.
        settings: `max_propagate` and `mask_scale_ratio` count; the same for all levels.

    Raises:
        PredictorError: the predictor failed; none of the levels has the frame.
        RunFolderError: results cannot be stored.
    """
    shared = TimingAggregator()
    prompted = [part for part in parts if part.kinds]
    if prompted:
        start = prompted[0].local
        records = _propagate_frame_predictions(
            watch.session,
            start,
            frames,
            max_propagate=settings.max_propagate,
            mask_scale_ratio=settings.mask_scale_ratio,
            timer=shared,
        )
        for record in records:
            for part in prompted:
                with part.clock.track("track.store"):
                    part.level.store(part.own(record))
        watch.session.forget_objects(LocalIndex(start))
    counts = [len(part.kinds) for part in parts]
    for stage, seconds in shared.items():
        for part in prompted:
            part.clock.add(stage, seconds * len(part.kinds) / sum(counts))
    first = parts.index(prompted[0]) if prompted else 0
    remarks = watch.remarks()
    for k, (part, work) in enumerate(zip(parts, divide_work(watch.work(), counts, first), strict=True)):
        part.level.finish(part, work, remarks if k == first else [], together=sum(counts))


def divide_work(work: Mapping[str, float], counts: Sequence[int], first: int) -> list[dict[str, float]]:
    """Each level's share of what was counted, see above.

    Args:
        work: what the session counted for the cohort.
        counts: objects of each level.
        first: position of the level that takes what is not divided.

    >>> divide_work({"object_frames": 10, "encoder_passes": 7}, [0, 1, 2], first=1)
    [{'object_frames': 0, 'encoder_passes': 0}, {'object_frames': 3, 'encoder_passes': 7}, \
{'object_frames': 7, 'encoder_passes': 0}]
    """
    shares = [{name: value if k == first else 0 for name, value in work.items()} for k in range(len(counts))]
    total = sum(counts)
    if BY_OBJECTS in work and total:
        # Rounded where parts meet, so that the shares of any amount add up to it.
        edges = [round(work[BY_OBJECTS] * known / total) for known in accumulate(counts, initial=0)]
        for share, (low, high) in zip(shares, pairwise(edges), strict=True):
            share[BY_OBJECTS] = high - low
    return shares
