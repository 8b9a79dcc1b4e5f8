"""Reader and writer of filtered candidates: `level_L/filtered/filtered.json` and its mask files.

`filtered.json` is `{"frames": [{"frame_idx", "count", "items": [{"frame_idx", "frame_name", "bbox" (xywh), "area",
"stability_score", "level", "id"}]}]}`. Masks come as `seg_frame_NNNNN.npy` `(N, H, W)` beside it, or in each item: as
`mask` (packed bits in base64) or `segmentation` (COCO RLE). An item may have only a box.

A whole manifest is checked before anything is tracked, so that a run does not die of its last frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import xywh_to_xyxy, xyxy_to_xywh
from trackweave.errors import CandidateError
from trackweave.masks.codecs import as_packed, decode_entry, decode_rle, encode_rle
from trackweave.masks.ops import rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.storage.files import check_version, read_json_object, write_json
from trackweave.structures.candidates import Candidates
from trackweave.structures.run_log import OnBadItem, RunWarning

SCHEMA_VERSION = 1
_LARGEST = 2**53  # what JSON numbers hold exactly; excludes inf and NaN as well


@dataclass(frozen=True)
class FilteredFrame:
    """One entry of the manifest's `frames`, still without masks.

    Attributes:
        frame_idx: the index that the generator gave the frame.
        frame_name: its file name, or None when no item names it.
        items: the raw items.
        mask_file: `seg_frame_NNNNN.npy`, when there is one.
    """

    frame_idx: int
    frame_name: str | None
    items: Sequence[dict[str, Any]]
    mask_file: Path | None


@dataclass(frozen=True)
class FilteredManifest:
    """A level's `filtered.json`.

    Attributes:
        path: the file.
        frames: its entries, ascending by `frame_idx`.
        min_area: smallest area that the filter let through, when the manifest says so.
    """

    path: Path
    frames: Sequence[FilteredFrame]
    min_area: float | None


class BadItems:
    """Decides what a bad candidate does: stop the run, or be left out and remembered.

    A manifest is read more than once (checked, tracked, rendered); a candidate is remembered once.
    """

    def __init__(self, policy: OnBadItem = "error", level: int | None = None) -> None:
        self.policy = policy
        self.level = level
        self._warnings: dict[str, RunWarning] = {}

    def report(self, message: str) -> None:
        """Raises `CandidateError`, or records the omission."""
        if self.policy == "error":
            raise CandidateError(f"{message} (--on-bad-item skip leaves it out)")
        self._warnings.setdefault(
            message, RunWarning("candidates", self.level, "candidate-skipped", f"left out: {message}")
        )

    @property
    def warnings(self) -> list[RunWarning]:
        """One record per omission."""
        return list(self._warnings.values())


def filtered_path(level_root: Path) -> Path:
    """Where a level keeps its manifest of candidates."""
    return level_root / "filtered" / "filtered.json"


def read_filtered(path: Path, bad: BadItems) -> FilteredManifest:
    """Reads a manifest and checks its structure; masks are read later, frame by frame.

    Raises:
        ArtifactError: missing or not JSON.
        ArtifactVersionError: of a newer schema.
        CandidateError: a key is missing or of the wrong kind; names the frame. Unless `bad` leaves such frames out.
    """
    data = read_json_object(path, "manifest of candidates")
    if "schema_version" in data:
        check_version(data["schema_version"], SCHEMA_VERSION, path)
    entries = data.get("frames")
    if not isinstance(entries, list):
        raise CandidateError(f"{path}: `frames` is missing or not a list")
    frames: dict[int, FilteredFrame] = {}
    for position, entry in enumerate(entries):
        try:
            frame = _read_entry(path, position, entry)
            if frame.frame_idx in frames:
                raise CandidateError(f"{path}: frames[{position}]: frame_idx {frame.frame_idx} occurs twice")
        except CandidateError as error:
            bad.report(str(error))
            continue
        frames[frame.frame_idx] = frame
    min_area = data.get("min_area")
    ordered = [frames[index] for index in sorted(frames)]
    return FilteredManifest(path, ordered, float(min_area) if _is_number(min_area) else None)


def _read_entry(path: Path, position: int, entry: Any) -> FilteredFrame:
    where = f"{path}: frames[{position}]"
    if not isinstance(entry, dict):
        raise CandidateError(f"{where} is not an object")
    index, items = entry.get("frame_idx"), entry.get("items")
    if not _is_index(index):
        raise CandidateError(f"{where}: `frame_idx` is missing or not an index ≥ 0")
    where = f"{path}: frame {index}"
    if not isinstance(items, list):
        raise CandidateError(f"{where}: `items` is missing or not a list")
    if entry.get("count", len(items)) != len(items):
        raise CandidateError(f"{where}: `count` says {entry['count']}, but there are {len(items)} items")
    names = [item["frame_name"] for item in items if isinstance(item, dict) and isinstance(item.get("frame_name"), str)]
    if len(set(names)) > 1:
        raise CandidateError(f"{where}: its items name different frames: {sorted(set(names))[:3]}")
    name = entry.get("frame_name") or (names[0] if names else None)
    if name is not None and not isinstance(name, str):
        raise CandidateError(f"{where}: `frame_name` is not a text")
    mask_file = path.parent / f"seg_frame_{int(index):05d}.npy"
    return FilteredFrame(int(index), name, items, mask_file if mask_file.is_file() else None)


def read_candidates(
    manifest: FilteredManifest, entry: FilteredFrame, frame_size: tuple[int, int], bad: BadItems
) -> Candidates:
    """One frame's candidates with their masks.

    Args:
        manifest: the level's manifest.
        entry: one of its frames.
        frame_size: `(H, W)` of the video; the candidate image is assumed to have it when only boxes are there.
        bad: what to do with a bad item.

    Raises:
        CandidateError: names the file, the frame and the item. Unless `bad` leaves it out: the item, or the whole frame
            when its mask stack cannot be trusted.
    """
    where = f"{manifest.path}: frame {entry.frame_idx}"
    try:
        stack = _MaskStack(entry, where)
    except CandidateError as error:
        bad.report(str(error))
        return _no_candidates(frame_size)
    kept: list[tuple[int, NDArray[np.float32], float, int | None, PackedMasks | None]] = []
    seen: set[int] = set()
    for position, item in enumerate(entry.items):
        try:
            parsed = _read_item(position, item, stack)
            if parsed[0] in seen:
                raise CandidateError(f"item {position}: id {parsed[0]} occurs twice on the frame")
        except CandidateError as error:
            bad.report(f"{where}, {error}")
            continue
        seen.add(parsed[0])
        kept.append(parsed)
    size = _common_size([mask for *_, mask in kept if mask is not None], frame_size)
    masks = [
        PackedMasks.empty(*size, 1) if mask is None else rescale_masks(mask, *size, method="nearest")
        for *_, mask in kept
    ]
    packed = PackedMasks.concat(masks) if masks else PackedMasks.empty(*size)
    boxes = np.array([box for _, box, *_ in kept], np.float32).reshape(-1, 4)
    areas = [_area(area, box) for _, box, _, area, _ in kept]
    return Candidates(
        np.array([row[0] for row in kept], np.int64),
        boxes,
        np.array([row[2] for row in kept], np.float32),
        np.where(packed.areas > 0, packed.areas, np.array(areas, np.int64)),
        packed,
    )


class _MaskStack:
    """The `.npy` stack of one frame, opened lazily and checked against the manifest."""

    def __init__(self, entry: FilteredFrame, where: str) -> None:
        self._array: NDArray[Any] | None = None
        if entry.mask_file is None:
            return
        try:
            array = np.lib.format.open_memmap(entry.mask_file, mode="r")
        except (OSError, ValueError, EOFError) as error:
            reason = " ".join(str(error).split())
            raise CandidateError(f"{entry.mask_file}: not a readable mask stack: {reason}") from None
        if array.ndim != 3 or len(array) != len(entry.items) or array.dtype.kind not in "bui":
            raise CandidateError(
                f"{entry.mask_file}: is {array.shape} {array.dtype}, but {where} has {len(entry.items)} items: "
                f"({len(entry.items)}, H, W) of 0 and 1 is expected"
            )
        self._array = array

    def mask(self, position: int) -> PackedMasks | None:
        return None if self._array is None else PackedMasks.from_bool(np.asarray(self._array[position]))


def _read_item(
    position: int, item: Any, stack: _MaskStack
) -> tuple[int, NDArray[np.float32], float, int | None, PackedMasks | None]:
    where = f"item {position}"
    if not isinstance(item, dict):
        raise CandidateError(f"{where} is not an object")
    if not _is_index(item.get("id")):
        raise CandidateError(f"{where}: `id` is missing or not an integer ≥ 0")
    where = f"item {position} (id {item['id']})"
    for key in ("area", "stability_score"):
        if not _is_number(item.get(key)):
            raise CandidateError(f"{where}: `{key}` is missing or not a number")
    mask = _item_mask(where, item, lambda: stack.mask(position))
    if mask is not None and not mask.areas[0]:
        raise CandidateError(f"{where}: its mask is empty")
    box = _item_box(where, item, mask)
    return int(item["id"]), box, float(item["stability_score"]), int(item["area"]), mask


def _item_mask(where: str, item: dict[str, Any], from_stack: Callable[[], PackedMasks | None]) -> PackedMasks | None:
    try:
        if item.get("mask") is not None:
            entry = decode_entry(item["mask"])
            # The box is in pixels of the full size; a mask that was stored smaller is brought up to it.
            return rescale_masks(as_packed(entry), *entry.get("full_resolution_shape", entry["shape"]), "nearest")
        if item.get("segmentation") is not None:
            return decode_rle([item["segmentation"]])
    except (ValueError, TypeError, OverflowError) as error:
        raise CandidateError(f"{where}: its mask cannot be decoded: {error}") from None
    return from_stack()


def _item_box(where: str, item: dict[str, Any], mask: PackedMasks | None) -> NDArray[np.float32]:
    box = item.get("bbox")
    if box is None:
        if mask is None:
            raise CandidateError(f"{where}: has neither a mask nor a `bbox`")
        return np.asarray(mask.boxes[0], np.float32)
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise CandidateError(f"{where}: `bbox` is [x, y, width, height], not {box!r:.60}")
    if box[2] <= 0 or box[3] <= 0:
        if mask is None:
            raise CandidateError(f"{where}: its box {box} is empty and it has no mask")
        return np.asarray(mask.boxes[0], np.float32)  # Semantic-SAM gives width 0 to masks one pixel wide
    return np.asarray(xywh_to_xyxy([box])[0])


def _common_size(masks: Sequence[PackedMasks], fallback: tuple[int, int]) -> tuple[int, int]:
    """The largest size: masks that were stored smaller are brought up to it."""
    return max((mask.size for mask in masks), key=lambda size: size[0] * size[1], default=fallback)


def _no_candidates(size: tuple[int, int]) -> Candidates:
    none = np.zeros(0, np.int64)
    return Candidates(none, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none, PackedMasks.empty(*size))


def _area(area: int | None, box: NDArray[np.float32]) -> int:
    return int(area) if area else int((box[2] - box[0]) * (box[3] - box[1]))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_index(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def write_filtered(
    level_root: Path, level: int, frames: Iterator[tuple[int, str, Candidates]], *, min_area: float | None = None
) -> Path:
    """Writes candidates of one level, masks as COCO RLE: a hundredth of the packed layout's size.

    Args:
        level_root: `RUN/level_L`.
        level: L.
        frames: `(frame_idx, frame_name, candidates)`.
        min_area: smallest area that was let through, in pixels of the candidate image.
    """
    entries = []
    for index, name, candidates in frames:
        boxes = xyxy_to_xywh(candidates.xyxy)
        has_mask = candidates.has_mask
        segmentations = encode_rle(candidates.masks)
        items: list[dict[str, Any]] = []
        for n in range(len(candidates)):
            item = {
                "frame_idx": index,
                "frame_name": name,
                "bbox": [round(float(value), 3) for value in boxes[n]],
                "area": int(candidates.area[n]),
                "stability_score": round(float(candidates.score[n]), 6),
                "level": level,
                "id": int(candidates.id[n]),
            }
            if has_mask[n]:
                item["segmentation"] = segmentations[n]
            items.append(item)
        entries.append({"frame_idx": index, "frame_name": name, "count": len(items), "items": items})
    path = filtered_path(level_root)
    content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "level": level, "frames": entries}
    if min_area is not None:
        content["min_area"] = min_area
    write_json(path, content)
    return path
