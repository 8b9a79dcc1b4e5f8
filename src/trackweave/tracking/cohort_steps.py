"""What happens to the candidates of one frame: prepare, filter, prompt, propagate.

`sam2_runner` hands these names on: there the pipeline's guide has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes.convert import box_iou, scale_boxes
from trackweave.frames.source import FrameSource
from trackweave.ids import TrackId
from trackweave.masks.overlap import mask_iou
from trackweave.masks.packed import PackedMasks
from trackweave.masks.rescale import rescale_masks, scaled_size
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.structures.candidates import Candidates
from trackweave.structures.tracks import FrameObjects
from trackweave.tracking.helpers import TimingAggregator
from trackweave.tracking.pipeline_context import LONG_TAIL_AREA, PromptMode, frame_at
from trackweave.tracking.stores import DedupStats, DedupStore

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
