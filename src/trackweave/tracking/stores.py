"""What tracking keeps while it runs: results on disk, and the question whether a mask was seen before.

Results go into an append-only scratch file as they come, so memory does not grow with the video, and nothing that was
written is written again. `DedupStore` reads the same file instead of keeping a second copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import box_iou, scale_boxes
from trackweave.ids import FrameIndex, TrackId
from trackweave.masks.codecs import MaskLike, as_packed, full_shape
from trackweave.masks.ops import overlap, rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import REFERENCE_DTYPE, frame_entry_name, object_rows
from trackweave.storage.result_log import CohortJournal, ResultSpool
from trackweave.structures.candidates import PreviewSegment
from trackweave.structures.run_log import RunWarning
from trackweave.structures.tracks import FrameObjects

REFERENCE_BATCH_BYTES = 8 << 20


def _frame_entry_name(frame_idx: int) -> str:
    """Name of a frame's entries in an archive."""
    return frame_entry_name(frame_idx)


class EmittedMasks(Protocol):
    """Where the masks that tracking has emitted can be read back."""

    def masks_at(self, abs_idx: int) -> PackedMasks | None:
        """Every mask emitted on a frame so far; None when there is none."""

    def emitted_frames(self) -> Sequence[int]:
        """Frames with an emitted mask."""


@dataclass(frozen=True)
class Coverage:
    """How N masks are covered by those already there on a frame.

    Attributes:
        iou: `(N,)` float64, best IoU.
        containment: `(N,)` float64, best intersection over the smaller area; high with a low IoU means part or whole.
    """

    iou: NDArray[np.float64]
    containment: NDArray[np.float64]


class DedupStore:
    """Every mask already emitted, by absolute frame, forward or backward.

    Args:
        emitted: a store whose masks count as seen without being added here; None = only what is added.
    """

    def __init__(self, emitted: EmittedMasks | None = None) -> None:
        self._emitted = emitted
        self._added: dict[int, list[PackedMasks]] = {}
        self._objects: dict[int, list[int]] = {}

    def add_packed(self, abs_idx: int, obj_id: int, mask_entry: MaskLike) -> None:
        """Registers a mask on a frame. All masks of one frame have one size; an empty mask covers nothing."""
        packed = as_packed(mask_entry)
        known = self._added.setdefault(int(abs_idx), [])
        if known and known[0].size != packed.size:
            packed = rescale_masks(packed, *known[0].size, method="nearest")
        known.append(packed)
        self._objects.setdefault(int(abs_idx), []).append(int(obj_id))

    def objects_at(self, abs_idx: int) -> list[int]:
        """Ids added on a frame, in the order of adding."""
        return list(self._objects.get(int(abs_idx), ()))

    def masks_at(self, abs_idx: int) -> PackedMasks | None:
        """Every mask known on a frame."""
        emitted = self._emitted.masks_at(abs_idx) if self._emitted is not None else None
        added = self._added.get(int(abs_idx), [])
        parts = ([emitted] if emitted is not None else []) + added
        if not parts:
            return None
        size = parts[0].size
        return PackedMasks.concat([rescale_masks(part, *size, method="nearest") for part in parts])

    def frames(self) -> list[int]:
        """Frames with a known mask, ascending."""
        emitted = self._emitted.emitted_frames() if self._emitted is not None else ()
        return sorted({*self._added, *emitted})

    def coverage(self, abs_idx: int, masks: PackedMasks) -> Coverage:
        """How each of N masks is covered on a frame, exact, at the size of the known masks."""
        known = self.masks_at(abs_idx)
        if known is None or not len(known):
            return Coverage(np.zeros(len(masks)), np.zeros(len(masks)))
        iou, contained = overlap(rescale_masks(masks, *known.size, method="nearest"), known)
        return Coverage(iou.max(axis=1), contained.max(axis=1))

    def box_coverage(self, abs_idx: int, boxes: Any, size: tuple[int, int]) -> NDArray[np.float64]:
        """Best IoU of each of N boxes (xyxy in an image of `size`) with the boxes of the known masks, `(N,)`."""
        known = self.masks_at(abs_idx)
        if known is None or not len(known):
            return np.zeros(len(boxes))
        scaled = scale_boxes(boxes, known.width / size[1], known.height / size[0])
        return np.asarray(box_iou(scaled, known.boxes).max(axis=1))

    def seen_packed(self, mask_entry: MaskLike, iou_threshold: float, frame_idx: int | None = None) -> bool:
        """Is a mask covered (IoU above the threshold) on a frame?

        Args:
            mask_entry: the mask; a mapping may carry its own `frame_idx`.
            iou_threshold: at or below it a mask is new.
            frame_idx: absolute frame; None = the one the entry carries, or any frame.
        """
        packed = as_packed(mask_entry)
        return any(self.coverage(frame, packed).iou[0] > iou_threshold for frame in self._asked(mask_entry, frame_idx))

    def seen(self, box: Any, mask_entry: MaskLike | None, iou_threshold: float, frame_idx: int | None = None) -> bool:
        """The same question when only a raw mask, or only a box, is at hand.

        Args:
            box: xyxy in pixels of the known masks; used when `mask_entry` is None or empty.
            mask_entry: a raw `(H, W)` array, an entry, or None.
            iou_threshold: at or below it a box or mask is new.
            frame_idx: absolute frame; None = the one the entry carries, or any frame.

        Raises:
            ValueError: neither a box nor a mask.
        """
        if mask_entry is not None:
            packed = as_packed(mask_entry)
            if packed.areas[0] or box is None:
                return any(
                    self.coverage(frame, packed).iou[0] > iou_threshold for frame in self._asked(mask_entry, frame_idx)
                )
        if box is None:
            raise ValueError("neither a box nor a mask to look for")
        for frame in self._asked(None, frame_idx):
            known = self.masks_at(frame)
            if known is not None and self.box_coverage(frame, [box], known.size)[0] > iou_threshold:
                return True
        return False

    def _asked(self, mask_entry: MaskLike | None, frame_idx: int | None) -> list[int]:
        if frame_idx is None and isinstance(mask_entry, Mapping):
            frame_idx = mask_entry.get("frame_idx")
        return self.frames() if frame_idx is None else [int(frame_idx)]


@dataclass(frozen=True)
class PreviewFrame:
    """Preview material of one frame."""

    frame: FrameIndex
    name: str
    segments: Sequence[PreviewSegment]


class FrameResultStore:
    """Tracking results by absolute frame, on disk; a frame may be given results many times.

    Args:
        folder: where the nameless scratch file lies; None = the system's temporary folder.
        journal: a file that outlives the process, instead; the store closes it.

    Attributes:
        full_resolution_shape: `(H, W)` of the frames, once known.
        finished: cohorts that were committed, by earlier processes too.
    """

    def __init__(self, folder: Path | None = None, *, journal: CohortJournal | None = None) -> None:
        self._journal = journal
        self._spool: ResultSpool = journal if journal is not None else ResultSpool(folder)
        self.finished = len(journal.committed) if journal is not None else 0
        self._names: dict[int, str] = {}
        self._previews: dict[int, list[PreviewSegment]] = {}
        self.full_resolution_shape: tuple[int, int] | None = None

    def update(
        self,
        abs_idx: int,
        frame_name: str,
        packed_masks: Mapping[int, MaskLike] | FrameObjects,
        preview: Iterable[PreviewSegment] | None = None,
    ) -> None:
        """Adds objects to a frame; empty masks are left out.

        Args:
            abs_idx: absolute frame index.
            frame_name: its name.
            packed_masks: `{object id: mask}`, or a whole record.
            preview: what a preview of this frame shows.
        """
        objects = self._as_record(abs_idx, frame_name, packed_masks)
        self._names.setdefault(int(abs_idx), frame_name)
        if preview is not None:
            self._previews.setdefault(int(abs_idx), []).extend(preview)
        visible = np.flatnonzero(objects.area > 0)
        if len(visible) < len(objects):
            objects = objects[visible]
        self._spool.append(int(abs_idx), object_rows(objects), objects.masks)

    def _as_record(
        self, abs_idx: int, frame_name: str, packed_masks: Mapping[int, MaskLike] | FrameObjects
    ) -> FrameObjects:
        if isinstance(packed_masks, FrameObjects):
            return packed_masks
        if not packed_masks:
            return FrameObjects(
                FrameIndex(int(abs_idx)),
                frame_name,
                np.zeros(0, np.int64),
                PackedMasks.empty(*(self._spool.size or (1, 1))),
                np.zeros((0, 4), np.float32),
                np.zeros(0, np.int64),
                np.zeros(0, np.float32),
            )
        masks = PackedMasks.concat([as_packed(mask) for mask in packed_masks.values()])
        full = next((shape for mask in packed_masks.values() if (shape := full_shape(mask))), masks.size)
        self.full_resolution_shape = full
        return FrameObjects(
            FrameIndex(int(abs_idx)),
            frame_name,
            np.array(list(packed_masks), np.int64),
            masks,
            scale_boxes(masks.boxes, full[1] / masks.width, full[0] / masks.height),
            masks.areas,
            np.ones(len(masks), np.float32),
        )

    @property
    def where(self) -> str:
        """What to call it in a message."""
        return str(self._journal.path) if self._journal is not None else "the scratch file"

    @property
    def committed(self) -> Sequence[Mapping[str, Any]]:
        """What earlier processes committed and `recall` has not handed out yet."""
        return self._journal.committed if self._journal is not None else []

    def rewind(self, count: int) -> None:
        """Forgets all but the first `count` of what earlier processes committed, before it is recalled."""
        if self._journal is not None:
            self._journal.rewind(count)
        self.finished = count

    def recall(self, names: Mapping[int, str]) -> list[Mapping[str, Any]]:
        """What earlier processes committed, in order; nothing without a journal, nor the second time.

        Args:
            names: absolute frame → name, for the frames that have results already.
        """
        if self._journal is None:
            return []
        self._names.update({frame: names[frame] for frame in self._spool.frames})
        committed, self._journal.committed = self._journal.committed, []
        return committed

    def commit(self, cohort: Mapping[str, Any]) -> None:
        """Makes a finished cohort durable, when there is a journal.

        Args:
            cohort: what is needed to go on after it, as JSON values.
        """
        self.finished += 1
        if self._journal is not None:
            self._journal.commit(cohort)

    def renumber(self, first_id: int) -> None:
        """Object 1 reads as `first_id` from now on, 2 as the next; what is stored stays as it is."""
        self._spool.id_offset = first_id - 1

    @property
    def id_offset(self) -> int:
        """What `renumber` adds to every id."""
        return self._spool.id_offset

    def masks_at(self, abs_idx: int) -> PackedMasks | None:
        """Every mask on a frame so far; None when there is none."""
        return self._spool.read(int(abs_idx))[1] if self._spool.count(int(abs_idx)) else None

    @property
    def mask_shape(self) -> tuple[int, int] | None:
        """`(H, W)` of the stored masks; None before the first."""
        return self._spool.size

    def emitted_frames(self) -> Sequence[int]:
        """Frames with a mask, ascending."""
        return self._spool.frames

    def iter_frames(self) -> Iterator[FrameObjects]:
        """Frames with objects in order of time, each complete, ids ascending."""
        for frame, name in self._iter_sorted(self._names):
            rows, masks = self._spool.read(frame)
            if not len(rows):
                continue
            if np.any(rows["id"][1:] <= rows["id"][:-1]):
                order = np.argsort(rows["id"], kind="stable")
                rows, masks = rows[order], masks[order]
            yield FrameObjects(
                FrameIndex(frame),
                name,
                np.ascontiguousarray(rows["id"]),
                masks,
                np.ascontiguousarray(rows["box"]),
                np.ascontiguousarray(rows["area"]),
                np.ascontiguousarray(rows["score"]),
            )

    def iter_preview_segments(self) -> Iterator[PreviewFrame]:
        """Preview material in order of time."""
        for frame, segments in self._iter_sorted(self._previews):
            numbered = [replace(segment, id=segment.id + self.id_offset) for segment in segments]
            yield PreviewFrame(FrameIndex(frame), self._names[frame], numbered)

    def object_references(self) -> ObjectReferences:
        """Where each object was seen."""
        return ObjectReferences(self._spool)

    @staticmethod
    def _iter_sorted(items: Mapping[int, Any]) -> Iterator[tuple[int, Any]]:
        """By frame, so that two runs write the same bytes whatever the order of their cohorts."""
        return iter(sorted(items.items(), key=lambda item: item[0]))

    def close(self) -> None:
        """Closes the file; a nameless one is gone then, a journal stays."""
        self._spool.close()

    def discard(self) -> None:
        """Closes and removes the file."""
        if self._journal is not None:
            self._journal.remove()
        else:
            self.close()

    def __enter__(self) -> FrameResultStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ObjectReferences:
    """For each object the frames it was seen on, read from the scratch file in batches of bounded size.

    Iterating gives `(track id, (F,) REFERENCE_DTYPE)`, ids ascending; `row` is the object's position in the frame's
    arrays as the frame-major archive stores them.
    """

    def __init__(self, spool: ResultSpool) -> None:
        self._spool = spool

    def counts(self) -> dict[int, int]:
        """Frames per object, ids ascending."""
        total: Counter[int] = Counter()
        for frame in self._spool.frames:
            total.update(self._spool.read_rows(frame)["id"].tolist())
        return dict(sorted(total.items()))

    def __iter__(self) -> Iterator[tuple[TrackId, NDArray[Any]]]:
        batch: list[int] = []
        pending = 0
        for track_id, count in self.counts().items():
            batch.append(track_id)
            pending += count
            if pending * REFERENCE_DTYPE.itemsize >= REFERENCE_BATCH_BYTES:
                yield from self._gather(batch)
                batch, pending = [], 0
        yield from self._gather(batch)

    def _gather(self, ids: Sequence[int]) -> Iterator[tuple[TrackId, NDArray[Any]]]:
        if not ids:
            return
        # Ids ascend over batches, so a range test selects a batch's objects.
        parts = [self._frame_references(frame, ids[0], ids[-1]) for frame in self._spool.frames]
        owners = np.concatenate([owner for owner, _ in parts])
        references = np.concatenate([reference for _, reference in parts])
        order = np.argsort(owners, kind="stable")
        starts = np.searchsorted(owners[order], ids)
        for track_id, where in zip(ids, np.split(order, starts[1:]), strict=True):
            yield TrackId(track_id), references[where]

    def _frame_references(self, frame: int, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        rows = self._spool.read_rows(frame)
        rows = rows[np.argsort(rows["id"], kind="stable")]
        chosen = np.flatnonzero((rows["id"] >= low) & (rows["id"] <= high))
        references = np.zeros(len(chosen), REFERENCE_DTYPE)
        references["frame"], references["row"] = frame, chosen
        for column in ("score", "area", "box"):
            references[column] = rows[column][chosen]
        return rows["id"][chosen], references


@dataclass
class DedupStats:
    """How many candidates became prompts, and why the others did not.

    Attributes:
        candidates: all that were looked at.
        covered_by_tracks: IoU with a mask already tracked there was above the threshold.
        duplicates_in_frame: IoU with a better candidate of the same frame was above the threshold.
        parts: prompts that lie almost wholly inside a known mask (or hold one) without being a duplicate.
        frames: absolute frame → `[candidates, prompts]`.
    """

    candidates: int = 0
    covered_by_tracks: int = 0
    duplicates_in_frame: int = 0
    parts: int = 0
    frames: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, other: DedupStats) -> None:
        """Adds what was counted on other frames."""
        self.candidates += other.candidates
        self.covered_by_tracks += other.covered_by_tracks
        self.duplicates_in_frame += other.duplicates_in_frame
        self.parts += other.parts
        self.frames.update(other.frames)

    @property
    def prompts(self) -> int:
        """Candidates that were new."""
        return self.candidates - self.covered_by_tracks - self.duplicates_in_frame

    def to_json(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "candidates": self.candidates,
            "prompts": self.prompts,
            "duplicates": self.covered_by_tracks + self.duplicates_in_frame,
            "covered_by_tracks": self.covered_by_tracks,
            "duplicates_in_frame": self.duplicates_in_frame,
            "parts": self.parts,
        }


@dataclass(frozen=True)
class TrackingArtifacts:
    """What tracking a level leaves for the stages after it.

    Attributes:
        object_refs: each object's frames.
        preview_segments: what the preview frames were prompted with.
        dedup: statistics of the filter.
        objects: ids of all objects that were prompted, in order.
        prompt_frames: track id → absolute frame of its prompt.
        prompt_kinds: track id → `mask` or `box`.
        work: what the predictor counted for it.
        remarks: `(local position, all that the predictor had said of itself by then)`, wherever that changed.
        omissions: candidates that were only found to be bad when they were loaded.
    """

    object_refs: ObjectReferences
    preview_segments: Sequence[PreviewFrame]
    dedup: DedupStats
    objects: Sequence[TrackId]
    prompt_frames: Mapping[TrackId, FrameIndex]
    prompt_kinds: Mapping[TrackId, str]
    work: Mapping[str, float] = field(default_factory=dict)
    remarks: Sequence[tuple[int, Sequence[RunWarning]]] = ()
    omissions: Sequence[RunWarning] = ()
