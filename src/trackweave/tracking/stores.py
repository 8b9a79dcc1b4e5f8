"""What tracking keeps while it runs: results on disk, what each finished batch added, and which masks are known.

Results go into an append-only file as they come, so memory does not grow with the video, and nothing that was written
is written again. `DedupStore` reads the same file instead of keeping a second copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import box_iou, scale_boxes
from trackweave.errors import ArtifactError, shortened, shortened_line
from trackweave.ids import FrameIndex, LocalIndex, TrackId
from trackweave.masks.codecs import MaskLike, as_packed, full_shape
from trackweave.masks.ops import is_covered, overlap, rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import REFERENCE_DTYPE, frame_entry_name, object_rows
from trackweave.storage.result_log import ResultJournal, ResultLog
from trackweave.structures.candidates import PreviewSegment
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import JsonRecord
from trackweave.structures.tracks import FrameObjects, TrackClass, TrackClasses

REFERENCE_BATCH_BYTES = 8 << 20
PromptType = Literal["mask", "box", "point"]

# --- deduplication ---------------------------------------------------------------------------------------------------


class EmittedMasks(Protocol):
    """Where the masks that tracking has emitted can be read back."""

    def masks_at(self, frame: FrameIndex) -> PackedMasks | None:
        """Every mask emitted on a frame so far; None when there is none."""

    def emitted_frames(self) -> Sequence[FrameIndex]:
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


class _AddedMasks:
    """The masks that were added on one frame, in arrays that grow by doubling: one more does not copy the others.

    Args:
        first: the mask whose size is that of all.
    """

    def __init__(self, first: PackedMasks) -> None:
        self.size = first.size
        self._length = first.bits.shape[1]
        self._count = 0
        self._words = np.empty((8, first.words.shape[1]), np.uint64)
        self._boxes = np.empty((8, 4), np.int32)
        self._areas = np.empty(8, np.int64)

    def append(self, mask: PackedMasks) -> None:
        """Adds a mask, at the size of the first."""
        mask = rescale_masks(mask, *self.size, method="nearest")
        n = self._count
        if n == len(self._areas):
            for name in ("_words", "_boxes", "_areas"):
                full = getattr(self, name)
                setattr(self, name, np.concatenate([full, np.empty_like(full)]))
        self._words[n], self._boxes[n], self._areas[n] = mask.words[0], mask.boxes[0], mask.areas[0]
        self._count += 1

    @property
    def words(self) -> NDArray[np.uint64]:
        """As `PackedMasks.words`."""
        return self._words[: self._count]

    @property
    def boxes(self) -> NDArray[np.int32]:
        """As `PackedMasks.boxes`."""
        return self._boxes[: self._count]

    @property
    def areas(self) -> NDArray[np.int64]:
        """As `PackedMasks.areas`."""
        return self._areas[: self._count]

    def packed(self) -> PackedMasks:
        """A copy of the masks."""
        return PackedMasks(self.words.view(np.uint8)[:, : self._length], *self.size)


class DedupStore:
    """Every mask already emitted, by frame, whether a track came to it forward or backward.

    The engine asks `coverage` and `box_coverage`; `add_packed`, `objects_at`, `seen_packed` and `seen` are the guide's,
    for callers that keep their masks themselves.

    Args:
        emitted: a store whose masks count as seen without being added here; None = only what is added.
    """

    def __init__(self, emitted: EmittedMasks | None = None) -> None:
        self._emitted = emitted
        self._added: dict[FrameIndex, _AddedMasks] = {}
        self._objects: dict[FrameIndex, list[int]] = {}

    def masks_at(self, frame: FrameIndex) -> PackedMasks | None:
        """Every mask known on a frame."""
        parts = [part.packed() if isinstance(part, _AddedMasks) else part for part in self._parts(frame)]
        return PackedMasks.concat(parts) if parts else None

    def _parts(self, frame: FrameIndex) -> list[PackedMasks | _AddedMasks]:
        """The masks known on a frame, those that were emitted first; all of one size."""
        emitted = self._emitted.masks_at(frame) if self._emitted is not None else None
        added = self._added.get(frame)
        if emitted is None:
            return [] if added is None else [added]
        if added is None or added.size == emitted.size:
            return [emitted] if added is None else [emitted, added]
        return [emitted, rescale_masks(added.packed(), *emitted.size, method="nearest")]

    def frames(self) -> list[FrameIndex]:
        """Frames with a known mask, ascending."""
        emitted = self._emitted.emitted_frames() if self._emitted is not None else ()
        return sorted({*self._added, *emitted})

    def coverage(self, frame: FrameIndex, masks: PackedMasks) -> Coverage:
        """How each of N masks is covered on a frame, exact, at the size of the known masks."""
        best = Coverage(np.zeros(len(masks)), np.zeros(len(masks)))
        for part in self._parts(frame):
            if len(part.areas):
                iou, contained = overlap(rescale_masks(masks, *part.size, method="nearest"), part)
                best = Coverage(
                    np.maximum(best.iou, iou.max(axis=1)), np.maximum(best.containment, contained.max(axis=1))
                )
        return best

    def box_coverage(self, frame: FrameIndex, boxes: Any, size: tuple[int, int]) -> NDArray[np.float64]:
        """Best IoU of each of N boxes (xyxy in an image of `size`) with the boxes of the known masks, `(N,)`."""
        existing = self.masks_at(frame)
        if existing is None or not len(existing):
            return np.zeros(len(boxes))
        scaled = scale_boxes(boxes, existing.width / size[1], existing.height / size[0])
        return np.asarray(box_iou(scaled, existing.boxes).max(axis=1))

    def add_packed(self, abs_idx: int, obj_id: int, mask_entry: MaskLike) -> None:
        """Registers a mask on a frame. All masks of one frame have one size; an empty mask covers nothing."""
        packed, frame = as_packed(mask_entry), FrameIndex(int(abs_idx))
        if frame not in self._added:
            self._added[frame] = _AddedMasks(packed)
        self._added[frame].append(packed)
        self._objects.setdefault(frame, []).append(int(obj_id))

    def objects_at(self, frame: int) -> list[int]:
        """Ids added on a frame, in the order of adding."""
        return list(self._objects.get(FrameIndex(int(frame)), ()))

    def seen_packed(self, mask_entry: MaskLike, iou_threshold: float, frame_idx: int | None = None) -> bool:
        """Is a mask covered (IoU above the threshold) on a frame?

        Args:
            mask_entry: the mask; a mapping may carry its own `frame_idx`.
            iou_threshold: at or below it a mask is new.
            frame_idx: index of the frame in the video; None = the one the entry carries, or any frame.
        """
        packed = as_packed(mask_entry)
        parts = (part for frame in self._frames_to_search(mask_entry, frame_idx) for part in self._parts(frame))
        return any(
            is_covered(rescale_masks(packed, *part.size, method="nearest"), part, iou_threshold) for part in parts
        )

    def seen(self, box: Any, mask_entry: MaskLike | None, iou_threshold: float, frame_idx: int | None = None) -> bool:
        """The same question when only a raw mask, or only a box, is at hand.

        Args:
            box: xyxy in pixels of the known masks; used when `mask_entry` is None or empty.
            mask_entry: a raw `(H, W)` array, an entry, or None.
            iou_threshold: at or below it a box or mask is new.
            frame_idx: index of the frame in the video; None = the one the entry carries, or any frame.

        Raises:
            ValueError: neither a box nor a mask.
        """
        if mask_entry is not None and (box is None or as_packed(mask_entry).areas[0]):
            return self.seen_packed(mask_entry, iou_threshold, frame_idx)
        if box is None:
            raise ValueError("neither a box nor a mask to look for")
        for frame in self._frames_to_search(None, frame_idx):
            existing = self.masks_at(frame)
            if existing is not None and self.box_coverage(frame, [box], existing.size)[0] > iou_threshold:
                return True
        return False

    def _frames_to_search(self, mask_entry: MaskLike | None, frame_idx: int | None) -> list[FrameIndex]:
        if frame_idx is None and isinstance(mask_entry, Mapping):
            frame_idx = cast("int | None", mask_entry.get("frame_idx"))
        return self.frames() if frame_idx is None else [FrameIndex(int(frame_idx))]


@dataclass
class DedupStats:
    """How many candidates became prompts, and why the others did not.

    Attributes:
        candidates: all that were compared.
        covered_by_tracks: IoU with a mask already tracked there was above the threshold.
        duplicates_in_frame: IoU with a better candidate of the same frame was above the threshold.
        parts: prompts that lie almost wholly inside a known mask (or hold one) without being a duplicate.
        frames: index of the frame → `(candidates, prompts)`.
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

    def to_json(self) -> dict[str, int]:
        """For the summary."""
        return {
            "candidates": self.candidates,
            "prompts": self.prompts,
            "duplicates": self.covered_by_tracks + self.duplicates_in_frame,
            "covered_by_tracks": self.covered_by_tracks,
            "duplicates_in_frame": self.duplicates_in_frame,
            "parts": self.parts,
        }


# --- results ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BatchRecord:
    """What one finished prompt batch added to a level; the level's journal holds one per prompt frame.

    Masks and boxes are not in it: they lie in the journal before it. Whatever a level knows of its past is the list of
    its records, so a level that goes on after a kill stands where it would stand had it never stopped.

    Attributes:
        local: position of the prompt frame among the sampled frames.
        frame: its index in the video.
        name: its name.
        dedup: statistics of the filter on this frame alone.
        prompt_types: id of each object that was prompted → `mask` or `box`.
        previews: preview material, if the frame is a preview frame and an object was prompted.
        seconds: durations by stage.
        counters: what the predictor counted meanwhile.
        warnings: everything that the predictor has warned of so far, if that has changed.
        skipped: candidates of the frame that were left out.
        batch_size: objects of the prompt batch, of all levels.
        classes: id of each object whose candidate has a class → it.
    """

    local: LocalIndex
    frame: FrameIndex
    name: str
    dedup: DedupStats
    prompt_types: Mapping[TrackId, PromptType] = field(default_factory=dict)
    previews: Sequence[PreviewSegment] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[RunWarning] = ()
    skipped: Sequence[RunWarning] = ()
    batch_size: int = 0
    classes: Mapping[TrackId, TrackClass] = field(default_factory=dict)

    def to_json(self) -> JsonRecord:
        """As JSON values, under the keys that journals on disk have."""
        classes = [[int(track_id), own.class_id, own.score] for track_id, own in self.classes.items()]
        return {
            "local": self.local,
            "frame": int(self.frame),
            "name": self.name,
            "dedup": asdict(self.dedup),
            "kinds": [[int(track_id), prompt_type] for track_id, prompt_type in self.prompt_types.items()],
            "previews": [asdict(segment) for segment in self.previews],
            "seconds": dict(self.seconds),
            "work": dict(self.counters),
            "remarks": [warning.to_json() for warning in self.warnings],
            "omissions": [warning.to_json() for warning in self.skipped],
            "together": self.batch_size,
            **({"classes": classes} if classes else {}),
        }

    @classmethod
    def from_json(cls, data: JsonRecord) -> BatchRecord:
        """The record back.

        Raises:
            KeyError, TypeError, ValueError: not what `to_json` gave.
        """
        dedup = dict(data["dedup"])
        frames = {int(frame): (int(pair[0]), int(pair[1])) for frame, pair in dedup.pop("frames").items()}
        return cls(
            LocalIndex(int(data["local"])),
            FrameIndex(int(data["frame"])),
            str(data["name"]),
            DedupStats(**{name: int(count) for name, count in dedup.items()}, frames=frames),
            {TrackId(int(track_id)): prompt_type_of(kind) for track_id, kind in data["kinds"]},
            [_preview(segment) for segment in data["previews"]],
            {str(stage): _number(seconds) for stage, seconds in data["seconds"].items()},
            {str(name): _number(count) for name, count in data["work"].items()},
            [RunWarning.from_json(warning) for warning in data["remarks"]],
            [RunWarning.from_json(warning) for warning in data["omissions"]],
            int(data["together"]),
            {
                TrackId(int(track_id)): TrackClass(int(number), float(_number(score)))
                for track_id, number, score in data.get("classes", ())
            },
        )


def _number(value: Any) -> float:
    """A number as it is, whole or not; anything else is an error."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{shortened(value)} is no number")
    return value


def prompt_type_of(kind: Any) -> PromptType:
    """A type of prompts as journals and summaries name it.

    Raises:
        ValueError: there is no such type.
    """
    if kind not in get_args(PromptType):
        raise ValueError(f"there are no prompts of type {shortened(kind)}")
    found: PromptType = kind
    return found


def _preview(record: JsonRecord) -> PreviewSegment:
    left, top, right, bottom = map(float, record["box"])
    has_mask = bool(record["has_mask"])
    return PreviewSegment(
        int(record["id"]), (left, top, right, bottom), int(record["area"]), float(record["score"]), has_mask
    )


@dataclass(frozen=True)
class PreviewFrame:
    """Preview material of one frame."""

    frame: FrameIndex
    name: str
    segments: Sequence[PreviewSegment]


class FrameResultStore:
    """Tracking results by frame, on disk; a frame may be given results many times.

    Args:
        folder: where the nameless scratch file lies; None = the system's temporary folder.
        journal: a file that outlives the process, instead; the store closes it.

    Attributes:
        full_resolution_shape: `(H, W)` of the frames, once known.
        finished: prompt batches that were committed, by earlier processes too.
    """

    def __init__(self, folder: Path | None = None, *, journal: ResultJournal | None = None) -> None:
        self._journal = journal
        self._log: ResultLog = journal if journal is not None else ResultLog(folder)
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
            abs_idx: index of the frame in the video.
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
        self._log.append(int(abs_idx), object_rows(objects), objects.masks)

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
                PackedMasks.empty(*(self._log.size or (1, 1))),
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
    def committed(self) -> list[BatchRecord]:
        """Prompt batches that earlier processes finished, in order; none without a journal.

        Raises:
            ArtifactError: the journal holds something else than records.
        """
        if self._journal is None:
            return []
        try:
            return [BatchRecord.from_json(data) for data in self._journal.committed]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            text = f"{self._journal.path}: the journal lacks or misspells {shortened_line(str(error))}; remove it"
            raise ArtifactError(text) from None

    def take_over(self, count: int, names: Mapping[FrameIndex, str], ids: Set[int] | None = None) -> None:
        """Goes on behind the first `count` of the committed batches; the others are forgotten.

        Args:
            count: how many are kept.
            names: name of each frame that may have results already.
            ids: of all objects that may have results; None = any.

        Raises:
            RunFolderError: the journal cannot be cut.
            ArtifactError: it has results that cannot be this run's.
        """
        if self._journal is not None and count < len(self._journal.committed):
            self._journal.truncate(count)
        self.finished = count
        if self._journal is not None:
            for frame in self._log.frames:
                problem = "the video does not have it" if FrameIndex(frame) not in names else self._odd(frame, ids)
                if problem:
                    raise ArtifactError(f"{self._journal.path}: frame {frame}: {problem}; remove the journal")
        self._names.update({frame: names[FrameIndex(frame)] for frame in self._log.frames})

    def _odd(self, frame: int, ids: Set[int] | None) -> str | None:
        """What cannot be among the results of a frame; its checksum does not tell."""
        rows = self._log.read_rows(frame)
        if ids is not None and not ids >= set(rows["id"].tolist()):
            return "has objects that were not prompted"
        if not (np.all(np.isfinite(rows["box"])) and np.all(np.isfinite(rows["score"]))):
            return "has boxes or scores that are not finite"
        return "has a box without extent" if np.any(rows["box"][:, 2:] < rows["box"][:, :2]) else None

    def commit(self, record: BatchRecord) -> None:
        """Makes a finished prompt batch durable, when there is a journal; all of its results were stored before."""
        self.finished += 1
        if self._journal is not None:
            self._journal.commit(record.to_json())

    @property
    def id_offset(self) -> int:
        """Is added to every id that is read from now on; what is stored stays as it is."""
        return self._log.id_offset

    @id_offset.setter
    def id_offset(self, offset: int) -> None:
        self._log.id_offset = offset

    def masks_at(self, frame: FrameIndex) -> PackedMasks | None:
        """Every mask on a frame so far; None when there is none."""
        return self._log.read(frame)[1] if self._log.count(frame) else None

    @property
    def mask_shape(self) -> tuple[int, int] | None:
        """`(H, W)` of the stored masks; None before the first."""
        return self._log.size

    def emitted_frames(self) -> Sequence[FrameIndex]:
        """Frames with a mask, ascending."""
        return [FrameIndex(frame) for frame in self._log.frames]

    def iter_frames(self) -> Iterator[FrameObjects]:
        """Frames with objects in order of time, each complete, ids ascending.

        Raises:
            ArtifactError: an object is twice on a frame: a journal's commits do not belong to its results.
        """
        for frame, name in self._iter_sorted(self._names):
            rows, masks = self._log.read(frame)
            if not len(rows):
                continue
            if np.any(rows["id"][1:] <= rows["id"][:-1]):
                order = np.argsort(rows["id"], kind="stable")
                rows, masks = rows[order], masks[order]
                if self._journal is not None and np.any(rows["id"][1:] == rows["id"][:-1]):
                    raise ArtifactError(f"{self._journal.path}: frame {frame}: has an object twice; remove the journal")
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
        return ObjectReferences(self._log)

    @staticmethod
    def _iter_sorted(items: Mapping[int, Any]) -> Iterator[tuple[int, Any]]:
        """By frame, so that two runs write the same bytes whatever the order of their prompt batches."""
        return iter(sorted(items.items(), key=lambda item: item[0]))

    def close(self) -> None:
        """Closes the file; a nameless one is gone then, a journal stays."""
        self._log.close()

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
    """For each object the frames it was seen on, read from the results' file in parts of bounded size.

    Iterating gives `(track id, (F,) REFERENCE_DTYPE)`, ids ascending; `row` is the object's position in the frame's
    arrays as the frame-major archive stores them.
    """

    def __init__(self, log: ResultLog) -> None:
        self._log = log

    def counts(self) -> dict[int, int]:
        """Frames per object, ids ascending."""
        total: Counter[int] = Counter()
        for frame in self._log.frames:
            total.update(self._log.read_rows(frame)["id"].tolist())
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
        parts = [self._frame_references(frame, ids[0], ids[-1]) for frame in self._log.frames]
        owners = np.concatenate([owner for owner, _ in parts])
        references = np.concatenate([reference for _, reference in parts])
        order = np.argsort(owners, kind="stable")
        starts = np.searchsorted(owners[order], ids)
        for track_id, where in zip(ids, np.split(order, starts[1:]), strict=True):
            yield TrackId(track_id), references[where]

    def _frame_references(self, frame: int, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        rows = self._log.read_rows(frame)
        rows = rows[np.argsort(rows["id"], kind="stable")]
        chosen = np.flatnonzero((rows["id"] >= low) & (rows["id"] <= high))
        references = np.zeros(len(chosen), REFERENCE_DTYPE)
        references["frame"], references["row"] = frame, chosen
        for column in ("score", "area", "box"):
            references[column] = rows[column][chosen]
        return rows["id"][chosen], references


@dataclass(frozen=True)
class TrackingArtifacts:
    """What tracking a level leaves for the stages after it.

    Attributes:
        object_refs: each object's frames.
        preview_segments: what the preview frames were prompted with.
        dedup: statistics of the filter.
        objects: ids of all objects that were prompted, ascending.
        prompt_frames: track id → frame of its first prompt.
        prompt_types: track id → `mask` or `box`.
        counters: what the predictor counted for it.
        warnings: `(local position, all that the predictor had warned of by then)`, wherever that changed.
        skipped: candidates that were left out on the frames that were tracked.
        classes: of the objects whose candidates have one, without names.
    """

    object_refs: ObjectReferences
    preview_segments: Sequence[PreviewFrame]
    dedup: DedupStats
    objects: Sequence[TrackId]
    prompt_frames: Mapping[TrackId, FrameIndex]
    prompt_types: Mapping[TrackId, PromptType]
    counters: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[tuple[LocalIndex, Sequence[RunWarning]]] = ()
    skipped: Sequence[RunWarning] = ()
    classes: TrackClasses = field(default_factory=TrackClasses)


def build_tracking_result(frame_store: FrameResultStore, records: Sequence[BatchRecord]) -> TrackingArtifacts:
    """Fuses what the batches added up to, the records by frame and the previews; ids as the store numbers them."""
    dedup, counters = DedupStats(), dict[str, float]()
    frames, types = dict[TrackId, FrameIndex](), dict[TrackId, PromptType]()
    classes = dict[int, TrackClass]()
    for record in records:
        dedup.add(record.dedup)
        add_counters(counters, record.counters)
        for track_id, prompt_type in record.prompt_types.items():
            # A user's object that was marked in several shots was prompted in each; the first one counts.
            frames.setdefault(TrackId(track_id + frame_store.id_offset), record.frame)
            types.setdefault(TrackId(track_id + frame_store.id_offset), prompt_type)
        for track_id, own in record.classes.items():
            classes.setdefault(track_id + frame_store.id_offset, own)
    return TrackingArtifacts(
        frame_store.object_references(),
        list(frame_store.iter_preview_segments()),
        dedup,
        sorted(types),
        frames,
        types,
        counters,
        [(record.local, record.warnings) for record in records if record.warnings],
        [warning for record in records for warning in record.skipped],
        TrackClasses(classes),
    )


def add_counters(total: dict[str, float], counters: Mapping[str, float]) -> None:
    """Adds counters to a total, name by name."""
    for name, value in counters.items():
        total[name] = total.get(name, 0) + value


def latest_warnings(snapshots: Iterable[Sequence[RunWarning]]) -> list[RunWarning]:
    """One list of what a predictor warned of, from what it had said at several times, in one process or more.

    A later snapshot replaces what an earlier one says under the same code: sessions word their warnings anew.
    """
    latest: list[RunWarning] = []
    for snapshot in snapshots:
        codes = {warning.code for warning in snapshot}
        latest = [warning for warning in latest if warning.code not in codes] + list(snapshot)
    return latest


# Names of the guide.
_frame_entry_name = frame_entry_name
