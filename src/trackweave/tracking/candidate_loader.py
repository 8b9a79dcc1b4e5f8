"""From `filtered.json` to prompts: the candidates of a frame are loaded, prepared, filtered and prompted.

The files themselves are read by `storage.candidates`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import box_iou, pixels_inside, scale_boxes
from trackweave.errors import CandidateError
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, IdAllocator, LocalIndex, TrackId
from trackweave.masks.ops import mask_iou, rescale_masks, scaled_size
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import PredictorSession
from trackweave.progress import TimingAggregator
from trackweave.storage.candidates import (
    FilteredFrame,
    FilteredManifest,
    filtered_path,
    leave_out,
    omission,
    read_candidates,
    read_filtered,
)
from trackweave.structures.candidates import CandidateFrame, Candidates, PreviewSegment
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracks import TrackClass
from trackweave.tracking.pipeline_context import LONG_TAIL_AREA, PipelineContext, ScheduledFrame, frame_at
from trackweave.tracking.settings import PromptMode, TrackingSettings
from trackweave.tracking.stores import BatchRecord, DedupStats, DedupStore, PromptType

PART_CONTAINMENT = 0.9
"""From this containment on, a prompt counts as part (or whole) of a known mask in the statistics."""

# --- loading ---------------------------------------------------------------------------------------------------------


def load_filtered_manifest(level_root: Path, log: RunLog | None = None) -> FilteredManifest:
    """Reads `level_root/filtered/filtered.json`.

    Args:
        level_root: `CANDIDATES/level_L`.
        log: what happens to entries that cannot be used; None = they are errors.

    Raises:
        ArtifactError: missing or not JSON.
        CandidateError: a key is missing or of the wrong kind.
    """
    manifest = read_filtered(filtered_path(level_root))
    leave_out(manifest.problems, log or RunLog(), None)
    return manifest


def load_scheduled_frame(context: PipelineContext, scheduled: ScheduledFrame) -> CandidateFrame:
    """Reads the candidates of one frame of a level's schedule; the log remembers what is left out.

    Raises:
        CandidateError: a candidate cannot be used, and the level's settings do not leave it out.
    """
    loaded = load_frame_candidates(context.manifest, scheduled.entry, scheduled.local, context.frames)
    leave_out(loaded.problems, context.log, context.level)
    return loaded


def load_frame_candidates(
    manifest: FilteredManifest,
    entry: FilteredFrame,
    local: LocalIndex,
    frames: FrameSource,
    target_size: tuple[int, int] | None = None,
) -> CandidateFrame:
    """One frame's candidates, rescaled to `target_size` (H, W) when that is given, and what is wrong with others."""
    candidates, problems = read_candidates(manifest, entry, frames.size)
    if target_size is not None:
        candidates = rescale_candidates(candidates, target_size)
    return CandidateFrame(local, *frame_at(frames, local), candidates, problems)


def iter_candidate_batches(
    manifest: FilteredManifest, schedule: Sequence[ScheduledFrame], frames: FrameSource, log: RunLog | None = None
) -> Iterator[CandidateFrame]:
    """Candidate frames in order of time, each loaded when asked for. Frames without candidates are passed over."""
    for local, entry in schedule:
        loaded = load_frame_candidates(manifest, entry, local, frames)
        leave_out(loaded.problems, log or RunLog(), None)
        if len(loaded):
            yield loaded


def load_filtered_frame_by_index(
    manifest: FilteredManifest,
    schedule: Sequence[ScheduledFrame],
    frames: FrameSource,
    local_index: LocalIndex,
    log: RunLog | None = None,
) -> CandidateFrame:
    """The candidates of one local position.

    Raises:
        CandidateError: no candidate frame lies there.
    """
    for local, entry in schedule:
        if local == local_index:
            loaded = load_frame_candidates(manifest, entry, local, frames)
            leave_out(loaded.problems, log or RunLog(), None)
            return loaded
    raise CandidateError(f"{manifest.path}: has no candidates for local frame {local_index}")


def rescale_candidates(candidates: Candidates, size: tuple[int, int]) -> Candidates:
    """The same candidates for an image of another size `(H, W)`: masks, boxes and areas."""
    if candidates.size == size:
        return candidates
    (height, width), (rows, cols) = candidates.size, size
    factor = (rows * cols) / (height * width)
    masks = rescale_masks(candidates.masks, rows, cols, method="nearest")
    estimated = np.maximum(np.round(candidates.area * factor), 1).astype(np.int64)
    return replace(
        candidates,
        xyxy=scale_boxes(candidates.xyxy, cols / width, rows / height),
        area=np.where(masks.areas > 0, masks.areas, estimated),
        masks=masks,
    )


# --- preparing and filtering -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class PreparedCandidates(Candidates):
    """Candidates of one frame, ready to be compared with known masks and to be prompted.

    Attributes:
        frame_xyxy: `(N, 4)` float32 in frame pixels.
        stored_masks: N masks at the stored size, for deduplication; empty for a candidate without a mask.
        by_box: `(N,)` bool, prompt by box instead of by mask.
        frame_size: `(H, W)` of the frames.
    """

    SHARED = ("frame_size",)

    frame_xyxy: NDArray[np.float32]
    stored_masks: PackedMasks
    by_box: NDArray[np.bool_]
    frame_size: tuple[int, int]

    def prompt_mask(self, row: int) -> PackedMasks:
        """One candidate's mask at the size of the frames."""
        mask = rescale_masks(self.masks[row], *self.frame_size, method="area")
        if not mask.areas[0]:  # thinner than half a pixel after scaling down
            mask = rescale_masks(self.masks[row], *self.frame_size, method="nearest")
        return mask if mask.areas[0] else self._smallest_mask(row)

    def _smallest_mask(self, row: int) -> PackedMasks:
        """The pixels of the frame that the box of a mask touches: of a mask that fell between all sampled pixels."""
        (height, width), (rows, columns) = self.frame_size, self.size
        box = scale_boxes(self.masks[row].boxes, width / columns, height / rows)[0]
        left, top, right, bottom = pixels_inside(box, self.frame_size) or (0, 0, 1, 1)
        filled = np.ones((bottom - top, right - left), np.bool_)
        return PackedMasks.from_crops([filled], np.array([[top, left]]), height, width)


def prepare_candidates(
    candidates: Candidates,
    frame_size: tuple[int, int],
    *,
    prompt_mode: PromptMode = "mask",
    long_tail_area: float = LONG_TAIL_AREA,
    mask_scale_ratio: float = 1.0,
) -> PreparedCandidates:
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
    return PreparedCandidates(
        candidates.id,
        candidates.xyxy,
        candidates.score,
        candidates.area,
        candidates.masks,
        candidates.predicted_iou,
        candidates.class_id,
        frame_xyxy=scale_boxes(candidates.xyxy, width / cols, height / rows),
        stored_masks=rescale_masks(candidates.masks, *scaled_size(height, width, mask_scale_ratio), method="nearest"),
        by_box=by_box,
        frame_size=frame_size,
    )


def filter_new_candidates(
    prepared: PreparedCandidates,
    dedup_store: DedupStore,
    frame: FrameIndex,
    iou_threshold: float,
    stats: DedupStats | None = None,
) -> PreparedCandidates:
    """Keeps candidates whose best IoU with what is known on the frame is at or below the threshold.

    Candidates also compete among themselves: best first (score, then area), each is tested against those accepted
    before it, so that of two duplicates one survives. The result keeps the order of acceptance.
    """
    counted = stats if stats is not None else DedupStats()
    covered = dedup_store.coverage(frame, prepared.stored_masks)
    best = covered.iou.copy()
    boxed = ~(prepared.stored_masks.areas > 0)
    if boxed.any():
        best[boxed] = dedup_store.box_coverage(frame, prepared.frame_xyxy[boxed], prepared.frame_size)
    fresh = best <= iou_threshold
    similarity = _similarity(prepared, boxed)
    accepted: list[int] = []
    for row in np.lexsort((-prepared.area, -prepared.score)):
        if not fresh[row]:
            continue
        if accepted and similarity[row, accepted].max() > iou_threshold:
            counted.duplicates_in_frame += 1
            continue
        accepted.append(int(row))
    chosen = np.array(accepted, np.int64)
    counted.candidates += len(prepared)
    counted.covered_by_tracks += int(np.count_nonzero(~fresh))
    counted.parts += int(np.count_nonzero(covered.containment[chosen] >= PART_CONTAINMENT))
    counted.frames[int(frame)] = (len(prepared), len(chosen))
    return prepared[chosen]


def _similarity(prepared: PreparedCandidates, boxed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU among candidates of one frame: of masks, and of boxes where either side has only a box."""
    similarity = mask_iou(prepared.stored_masks, prepared.stored_masks)
    if boxed.any():
        by_box = box_iou(prepared.frame_xyxy, prepared.frame_xyxy)
        either = boxed[:, None] | boxed[None, :]
        similarity[either] = by_box[either]
    return similarity


# --- prompting -------------------------------------------------------------------------------------------------------


class CandidatePrompts:
    """Prompts the candidates that no track of their level covers yet.

    Args:
        candidates: a level's schedule, or candidates that are loaded already; in order of time.
        dedup_store: what counts as known.
        settings: how to prepare and to filter.
        frame_size: `(H, W)` of the frames.
        context: the level that the schedule is of.
        long_tail_area: see `prepare_candidates`.
        preview_positions: positions of which preview material is kept.
    """

    def __init__(
        self,
        candidates: Iterable[ScheduledFrame | CandidateFrame],
        dedup_store: DedupStore,
        settings: TrackingSettings,
        frame_size: tuple[int, int],
        *,
        context: PipelineContext | None = None,
        long_tail_area: float = LONG_TAIL_AREA,
        preview_positions: Iterable[LocalIndex] = (),
    ) -> None:
        self._candidates, self._dedup, self._context = candidates, dedup_store, context
        self._settings, self._frame_size, self._long_tail_area = settings, frame_size, long_tail_area
        self._preview_positions = frozenset(preview_positions)

    @classmethod
    def of_level(cls, context: PipelineContext, dedup_store: DedupStore) -> CandidatePrompts:
        """The candidates of a checked level."""
        return cls(
            context.schedule,
            dedup_store,
            context.settings,
            context.frames.size,
            context=context,
            long_tail_area=context.long_tail_area,
            preview_positions=context.preview_local_indices,
        )

    @property
    def positions(self) -> Sequence[LocalIndex]:
        """See `mask_tracker.PromptSource.positions`."""
        return [] if self._context is None else [frame.local for frame in self._context.schedule]

    @property
    def sizes(self) -> None:
        """See `mask_tracker.PromptSource.sizes`: what is new on a frame shows when it is compared."""
        return None

    def frames(self) -> Iterator[ScheduledFrame | CandidateFrame]:
        """See `mask_tracker.PromptSource.frames`."""
        return iter(self._candidates)

    def prompt(
        self,
        frame: ScheduledFrame | CandidateFrame,
        session: PredictorSession,
        ids: IdAllocator,
        above: int,
        timer: TimingAggregator,
    ) -> tuple[BatchRecord, int]:
        """See `mask_tracker.PromptSource.prompt`: load, prepare, filter, prompt."""
        with timer.track("track.load"):
            loaded = self._load(frame)
        level = None if self._context is None else self._context.level
        skipped = [omission(problem, level) for problem in loaded.problems]
        record = BatchRecord(loaded.local, loaded.frame, loaded.name, DedupStats(), skipped=skipped)
        if not len(loaded):
            return record, 0
        with timer.track("track.filter"):
            prepared = prepare_candidates(
                loaded.candidates,
                self._frame_size,
                prompt_mode=self._settings.prompt_mode,
                long_tail_area=self._long_tail_area,
                mask_scale_ratio=self._settings.mask_scale_ratio,
            )
            new = filter_new_candidates(prepared, self._dedup, loaded.frame, self._settings.iou_threshold, record.dedup)
        new_ids = ids.take(len(new))
        id_offset = max(0, above + 1 - min(new_ids, default=1))
        with timer.track("track.prompt"):
            types = add_prompts(session, new, loaded.local, [track_id + id_offset for track_id in new_ids])
        previews = build_preview_segments(new, new_ids) if loaded.local in self._preview_positions else []
        prompt_types = dict(zip(new_ids, types, strict=True))
        classes = dict(_classes(new, new_ids))
        return replace(record, prompt_types=prompt_types, previews=previews, classes=classes), id_offset

    def _load(self, frame: ScheduledFrame | CandidateFrame) -> CandidateFrame:
        if isinstance(frame, CandidateFrame):
            return frame
        assert self._context is not None
        return load_scheduled_frame(self._context, frame)


def _classes(candidates: Candidates, ids: Sequence[TrackId]) -> Iterator[tuple[TrackId, TrackClass]]:
    """Class and score of each candidate that has a class, by the id of its track."""
    if candidates.class_id is not None:
        columns = zip(ids, candidates.class_id.tolist(), candidates.score.tolist(), strict=True)
        yield from ((one, TrackClass(number, round(score, 6))) for one, number, score in columns if number >= 0)


def add_prompts(
    session: PredictorSession, candidates: PreparedCandidates, local: LocalIndex, object_ids: Sequence[int]
) -> list[PromptType]:
    """Prompts each candidate on a frame; gives what each was prompted by."""
    types: list[PromptType] = []
    for row, object_id in enumerate(object_ids):
        if candidates.by_box[row]:
            session.add_box(local, object_id, candidates.frame_xyxy[row])
        else:
            session.add_mask(local, object_id, candidates.prompt_mask(row))
        types.append("box" if candidates.by_box[row] else "mask")
    return types


# --- previews --------------------------------------------------------------------------------------------------------


def build_preview_segments(candidates: Candidates, ids: Sequence[int] | None = None) -> list[PreviewSegment]:
    """Previews of all candidates of a frame, under their own ids or others."""
    return [
        _build_preview_segment(candidates, row, None if ids is None else int(ids[row]))
        for row in range(len(candidates))
    ]


def _build_preview_segment(candidates: Candidates, row: int, segment_id: int | None = None) -> PreviewSegment:
    """Preview of a candidate that has a mask; of one that has none, its stub."""
    if not candidates.has_mask[row]:
        return _build_preview_stub(candidates, row, segment_id)
    return _preview(candidates, row, segment_id, has_mask=True)


def _build_preview_stub(candidates: Candidates, row: int, segment_id: int | None = None) -> PreviewSegment:
    """Preview of a candidate of which only the box is known."""
    return _preview(candidates, row, segment_id, has_mask=False)


def _preview(candidates: Candidates, row: int, segment_id: int | None, *, has_mask: bool) -> PreviewSegment:
    x1, y1, x2, y2 = (float(value) for value in candidates.xyxy[row])
    return PreviewSegment(
        int(candidates.id[row]) if segment_id is None else segment_id,
        (x1, y1, x2, y2),
        int(candidates.area[row]),
        float(candidates.score[row]),
        has_mask,
    )


# Names of the guide.
FrameCandidateBatch = CandidateFrame
_load_frame_candidates = load_frame_candidates
