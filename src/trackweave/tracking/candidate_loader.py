"""Loads filtered candidates frame by frame; the files themselves are `storage.candidates`' business."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trackweave.boxes import scale_boxes
from trackweave.errors import CandidateError
from trackweave.frames.source import FrameSource
from trackweave.masks.ops import rescale_masks
from trackweave.storage.candidates import (
    BadItems,
    FilteredFrame,
    FilteredManifest,
    filtered_path,
    read_candidates,
    read_filtered,
)
from trackweave.structures.candidates import CandidateFrame, Candidates, PreviewSegment
from trackweave.tracking.pipeline_context import frame_at

FrameCandidateBatch = CandidateFrame
"""One frame's candidates with their local and absolute index."""

Schedule = Sequence[tuple[int, FilteredFrame]]


def load_filtered_manifest(level_root: Path, bad: BadItems | None = None) -> FilteredManifest:
    """Reads `level_root/filtered/filtered.json`.

    Raises:
        ArtifactError: missing or not JSON.
        CandidateError: a key is missing or of the wrong kind.
    """
    return read_filtered(filtered_path(level_root), bad or BadItems())


def iter_candidate_batches(
    manifest: FilteredManifest, schedule: Schedule, frames: FrameSource, bad: BadItems | None = None
) -> Iterator[FrameCandidateBatch]:
    """Candidate frames in order of time, each loaded when asked for. Frames without candidates are passed over."""
    policy = bad or BadItems()
    for local, entry in schedule:
        batch = _load_frame_candidates(manifest, entry, local, frames, policy)
        if len(batch):
            yield batch


def load_filtered_frame_by_index(
    manifest: FilteredManifest, schedule: Schedule, frames: FrameSource, local_index: int, bad: BadItems | None = None
) -> FrameCandidateBatch:
    """The candidates of one local position.

    Raises:
        CandidateError: no candidate frame lies there.
    """
    for local, entry in schedule:
        if local == local_index:
            return _load_frame_candidates(manifest, entry, local, frames, bad or BadItems())
    raise CandidateError(f"{manifest.path}: has no candidates for local frame {local_index}")


def _load_frame_candidates(
    manifest: FilteredManifest,
    entry: FilteredFrame,
    local: int,
    frames: FrameSource,
    bad: BadItems,
    target_size: tuple[int, int] | None = None,
) -> FrameCandidateBatch:
    """One frame's candidates, rescaled to `target_size` (H, W) when that is given."""
    candidates = read_candidates(manifest, entry, frames.size, bad)
    if target_size is not None:
        candidates = rescale_candidates(candidates, target_size)
    index, name = frame_at(frames, local)
    return FrameCandidateBatch(local, index, name, candidates)


def rescale_candidates(candidates: Candidates, size: tuple[int, int]) -> Candidates:
    """The same candidates for an image of another size `(H, W)`: masks, boxes and areas."""
    if candidates.size == size:
        return candidates
    (height, width), (rows, cols) = candidates.size, size
    factor = (rows * cols) / (height * width)
    masks = rescale_masks(candidates.masks, rows, cols, method="nearest")
    estimated = np.maximum(np.round(candidates.area * factor), 1).astype(np.int64)
    return Candidates(
        candidates.id,
        scale_boxes(candidates.xyxy, cols / width, rows / height),
        candidates.score,
        np.where(masks.areas > 0, masks.areas, estimated),
        masks,
    )


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


def build_preview_segments(candidates: Candidates, ids: Sequence[int] | None = None) -> list[PreviewSegment]:
    """Previews of all candidates of a frame."""
    return [
        _build_preview_segment(candidates, row, None if ids is None else int(ids[row]))
        for row in range(len(candidates))
    ]
