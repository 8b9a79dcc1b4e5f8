"""Reader and writer of filtered candidates: `level_L/filtered/filtered.json` and its mask files.

`filtered.json` is `{"frames": [{"frame_idx", "count", "items": [{"frame_idx", "frame_name", "bbox" (xywh), "area",
"stability_score", "level", "id"}]}]}`. Masks come as `seg_frame_NNNNN.npy` `(N, H, W)` beside it, or in each item: as
`mask` (packed bits in base64) or `segmentation` (COCO RLE). An item may have only a box.

A whole manifest is checked before anything is tracked (`check_candidates`), so that a run does not die of its last
frame; masks are decoded one frame at a time, when the frame is tracked (`read_candidates`). What cannot be used is a
*problem*: one line with the file, the frame and the item. The caller decides whether it ends the run (`leave_out`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import xywh_to_xyxy, xyxy_to_xywh
from trackweave.errors import CandidateError, shortened_line
from trackweave.masks.codecs import as_packed, decode_mask, decode_rle, encode_rle, rle_area
from trackweave.masks.ops import rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.storage.files import check_version, read_json_object, write_json
from trackweave.storage.npz import map_npy
from trackweave.structures.candidates import Candidates
from trackweave.structures.run_log import RunLog, RunWarning
from trackweave.structures.run_summary import JsonRecord

SCHEMA_VERSION = 1
_LARGEST = 2**53  # what JSON numbers hold exactly; excludes inf and NaN as well
T = TypeVar("T")


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
    items: Sequence[JsonRecord]
    mask_file: Path | None


@dataclass(frozen=True)
class FilteredManifest:
    """A level's `filtered.json`.

    Attributes:
        path: the file.
        frames: its entries, ascending by `frame_idx`.
        min_area: smallest area that the filter let through, when the manifest says so.
        problems: entries that cannot be used, one line each.
    """

    path: Path
    frames: Sequence[FilteredFrame]
    min_area: float | None
    problems: Sequence[str] = ()


def leave_out(problems: Iterable[str], log: RunLog, level: int | None) -> None:
    """Records what cannot be used, each problem once, however often its file is read.

    Raises:
        CandidateError: the first problem, where the log's policy is `error`.
    """
    for problem in problems:
        message = problem if log.on_bad_item == "error" else omission(problem, level).message
        log.skip("candidate-skipped", message, stage="candidates", level=level, error=CandidateError, each=True)


def omission(problem: str, level: int | None) -> RunWarning:
    """The warning that a log holds of a problem that was left out."""
    return RunWarning("candidates", level, "candidate-skipped", f"left out: {problem}")


def filtered_path(level_root: Path) -> Path:
    """Where a level keeps its manifest of candidates."""
    return level_root / "filtered" / "filtered.json"


def read_filtered(path: Path) -> FilteredManifest:
    """Reads a manifest and checks its structure; items are checked and masks are read later, frame by frame.

    Raises:
        ArtifactError: missing or not JSON.
        ArtifactVersionError: of a newer schema.
        CandidateError: it has no list of frames.
    """
    data = read_json_object(path, "manifest of candidates", finite=False)
    if "schema_version" in data:
        check_version(data["schema_version"], SCHEMA_VERSION, path)
    entries = data.get("frames")
    if not isinstance(entries, list):
        raise CandidateError(f"{path}: `frames` is missing or not a list")
    frames: dict[int, FilteredFrame] = {}
    problems: list[str] = []
    for position, entry in enumerate(entries):
        try:
            frame = _read_entry(path, position, entry)
            if frame.frame_idx in frames:
                raise CandidateError(f"{path}: frames[{position}]: frame_idx {frame.frame_idx} occurs twice")
        except CandidateError as error:
            problems.append(str(error))
            continue
        frames[frame.frame_idx] = frame
    min_area = data.get("min_area")
    ordered = [frames[index] for index in sorted(frames)]
    return FilteredManifest(path, ordered, float(min_area) if _is_number(min_area) else None, problems)


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


def check_candidates(manifest: FilteredManifest, entry: FilteredFrame) -> list[str]:
    """What `read_candidates` would find wrong on one frame, in its words, without building a mask."""
    problems: list[str] = []
    for _ in _usable(manifest, entry, _check_item, problems):
        pass
    return problems


def read_candidates(
    manifest: FilteredManifest, entry: FilteredFrame, frame_size: tuple[int, int]
) -> tuple[Candidates, list[str]]:
    """One frame's candidates with their masks, and the problems of those that are left out.

    Args:
        manifest: the level's manifest.
        entry: one of its frames.
        frame_size: `(H, W)` of the video; the candidate image is assumed to have it when only boxes are there.

    Returns:
        the candidates, and a line per item that cannot be used; one line for all of them when the frame's mask stack
        cannot be trusted.
    """
    problems: list[str] = []
    items = list(_usable(manifest, entry, _read_item, problems))
    size = _common_size([item.mask for item in items if item.mask is not None], frame_size)
    masks = [
        PackedMasks.empty(*size, 1) if item.mask is None else rescale_masks(item.mask, *size, method="nearest")
        for item in items
    ]
    packed = PackedMasks.concat(masks) if masks else PackedMasks.empty(*size)
    candidates = Candidates(
        np.array([item.id for item in items], np.int64),
        np.array([item.xyxy for item in items], np.float32).reshape(-1, 4),
        np.array([item.score for item in items], np.float32),
        np.where(packed.areas > 0, packed.areas, np.array([_area(item) for item in items], np.int64)),
        packed,
    )
    return candidates, problems


class _Item(NamedTuple):
    """One item as read."""

    id: int
    xyxy: NDArray[np.float32]
    score: float
    area: int
    mask: PackedMasks | None


def _usable(
    manifest: FilteredManifest,
    entry: FilteredFrame,
    parse: Callable[[int, Any, _MaskStack], T],
    problems: list[str],
) -> Iterator[T]:
    """What `parse` makes of every item that can be used; adds a problem for each of the others."""
    where = f"{manifest.path}: frame {entry.frame_idx}"
    try:
        stack = _MaskStack(entry, where)
    except CandidateError as error:
        problems.append(str(error))
        return
    ids: set[int] = set()
    for position, item in enumerate(entry.items):
        try:
            parsed = parse(position, item, stack)
            if item["id"] in ids:
                raise CandidateError(f"item {position}: id {item['id']} occurs twice on the frame")
        except CandidateError as error:
            problems.append(f"{where}, {error}")
            continue
        ids.add(item["id"])
        yield parsed


class _MaskStack:
    """The `.npy` stack of one frame, opened lazily and checked against the manifest."""

    def __init__(self, entry: FilteredFrame, where: str) -> None:
        self._array: NDArray[Any] | None = None
        if entry.mask_file is None:
            return
        try:
            array = map_npy(entry.mask_file)
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or shortened_line(str(error))
            raise CandidateError(f"{entry.mask_file}: not a readable mask stack: {reason}") from None
        if array.ndim != 3 or len(array) != len(entry.items) or 0 in array.shape[1:] or array.dtype.kind not in "bui":
            raise CandidateError(
                f"{entry.mask_file}: is {array.shape} {array.dtype}, but {where} has {len(entry.items)} items: "
                f"({len(entry.items)}, H, W) of 0 and 1 is expected"
            )
        self._array = array

    def mask(self, position: int) -> PackedMasks | None:
        return None if self._array is None else PackedMasks.from_bool(np.asarray(self._array[position]))

    def has_pixels(self, position: int) -> bool | None:
        return None if self._array is None else bool(self._array[position].any())


def _check_item(position: int, item: Any, stack: _MaskStack) -> None:
    """Raises what `_read_item` raises; cheaper, since a mask is only looked at."""
    where = _check_numbers(position, item)
    has_pixels = _mask_has_pixels(where, item, position, stack)
    if has_pixels is False:
        raise CandidateError(f"{where}: its mask is empty")
    _box_is_usable(where, item, has_mask=has_pixels is not None)


def _read_item(position: int, item: Any, stack: _MaskStack) -> _Item:
    where = _check_numbers(position, item)
    mask = _item_mask(where, item, position, stack)
    if mask is not None and not mask.areas[0]:
        raise CandidateError(f"{where}: its mask is empty")
    if _box_is_usable(where, item, has_mask=mask is not None):
        xyxy = np.asarray(xywh_to_xyxy([item["bbox"]])[0])
    else:
        assert mask is not None
        xyxy = np.asarray(mask.boxes[0], np.float32)
    return _Item(int(item["id"]), xyxy, float(item["stability_score"]), int(item["area"]), mask)


def _check_numbers(position: int, item: Any) -> str:
    """Checks id, area and score; returns what to call the item in a message."""
    where = f"item {position}"
    if not isinstance(item, dict):
        raise CandidateError(f"{where} is not an object")
    if not _is_index(item.get("id")):
        raise CandidateError(f"{where}: `id` is missing or not an integer ≥ 0")
    where = f"item {position} (id {item['id']})"
    for key in ("area", "stability_score"):
        if not _is_number(item.get(key)):
            raise CandidateError(f"{where}: `{key}` is missing or not a number")
    return where


def _item_mask(where: str, item: JsonRecord, position: int, stack: _MaskStack) -> PackedMasks | None:
    """The mask, whichever of the three forms it has; None without one."""
    if item.get("mask") is not None:
        return _decoded(where, lambda: _packed_entry(item["mask"]))
    if item.get("segmentation") is not None:
        return _decoded(where, lambda: decode_rle([item["segmentation"]]))
    return stack.mask(position)


def _mask_has_pixels(where: str, item: JsonRecord, position: int, stack: _MaskStack) -> bool | None:
    """Whether the mask has a pixel; None without a mask. Runs are added up instead of drawn."""
    if item.get("mask") is not None:
        return _decoded(where, lambda: bool(_packed_entry(item["mask"]).areas[0]))
    if item.get("segmentation") is not None:
        return _decoded(where, lambda: rle_area(item["segmentation"]) > 0)
    return stack.has_pixels(position)


def _packed_entry(payload: Any) -> PackedMasks:
    entry = decode_mask(payload)
    # The box is in pixels of the full size; a mask that was stored smaller is brought up to it.
    return rescale_masks(as_packed(entry), *entry.get("full_resolution_shape", entry["shape"]), "nearest")


def _decoded(where: str, decode: Callable[[], T]) -> T:
    try:
        return decode()
    except (ValueError, TypeError, OverflowError) as error:
        raise CandidateError(f"{where}: its mask cannot be decoded: {error}") from None


def _box_is_usable(where: str, item: JsonRecord, *, has_mask: bool) -> bool:
    """Whether `bbox` is a box; False where the mask's own box has to stand for it.

    Raises:
        CandidateError: neither will do.
    """
    box = item.get("bbox")
    if box is None:
        if not has_mask:
            raise CandidateError(f"{where}: has neither a mask nor a `bbox`")
        return False
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise CandidateError(f"{where}: `bbox` is [x, y, width, height], not {box!r:.60}")
    if box[2] <= 0 or box[3] <= 0:
        if not has_mask:
            raise CandidateError(f"{where}: its box {box} is empty and it has no mask")
        return False  # Semantic-SAM gives width 0 to masks one pixel wide
    return True


def _common_size(masks: Sequence[PackedMasks], fallback: tuple[int, int]) -> tuple[int, int]:
    """The largest size: masks that were stored smaller are brought up to it."""
    return max((mask.size for mask in masks), key=lambda size: size[0] * size[1], default=fallback)


def _area(item: _Item) -> int:
    x1, y1, x2, y2 = item.xyxy
    return item.area or int((x2 - x1) * (y2 - y1))


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
