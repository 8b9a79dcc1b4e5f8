"""Reader and writer of filtered candidates: `level_L/filtered/filtered.json` and its mask files.

`filtered.json` is `{"frames": [{"frame_idx", "count", "items": [{"frame_idx", "frame_name", "bbox" (xywh), "area",
"stability_score", "level", "id"}]}]}`. Masks come as `seg_frame_NNNNN.npy` `(N, H, W)` beside it, or in each item: as
`mask` (packed bits in base64) or `segmentation` (COCO RLE, or polygons in pixels of the image). An item may have only a
box.

A whole manifest is checked before anything is tracked (`check_candidates`), so that a run does not die of its last
frame; masks are decoded one frame at a time, when the frame is tracked (`read_candidates`). What cannot be used is a
*problem*: one line with the file, the frame and the item. The caller decides whether it ends the run (`leave_out`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import box_iou, pixels_inside, xywh_to_xyxy, xyxy_to_xywh
from trackweave.errors import ArtifactError, CandidateError, shortened
from trackweave.masks.codecs import encode_rle
from trackweave.masks.ops import rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.storage.candidate_masks import MaskStack, PixelBox, Size, StoredMask
from trackweave.storage.files import check_version, read_json_object, write_json
from trackweave.structures.candidates import Candidates
from trackweave.structures.run_log import RunLog, RunWarning
from trackweave.structures.run_summary import JsonRecord

SCHEMA_VERSION = 1
ASPECT_TOLERANCE = 0.05
"""Share by which the aspect of masks may differ from that of the frames: sides rounded to a multiple of 32, or so."""
BOX_REACH = 1.2
"""Boxes that reach so many times as far as the frame does were perhaps made on another one."""
LARGEST_MASK = 2**26
"""Pixels of a mask, 8192 × 8192, that are read whatever the size of the frames …"""
LARGEST_SCALE = 4
"""… and from which on it has at most so many times the pixels of a frame."""
MASK_FILE = re.compile(r"seg_frame_(\d{1,18})\.npy")
_LARGEST = 2**53  # what JSON numbers hold exactly; excludes inf and NaN as well
T = TypeVar("T")


@dataclass(frozen=True)
class FilteredFrame:
    """One entry of the manifest's `frames`, still without masks.

    Attributes:
        frame_idx: the index that the generator gave the frame.
        frame_name: its file name, or None when no item names it.
        items: the raw items.
        mask_file: `seg_frame_NNNNN.npy`, when there is one; the number counts, however many digits it has.
        is_partial: candidates were looked for where something new was seen, and not on all of the frame.
        size: `(H, W)` of the image that boxes and polygons are in pixels of; None: of the masks, or of the frame.
    """

    frame_idx: int
    frame_name: str | None
    items: Sequence[JsonRecord]
    mask_file: Path | None
    is_partial: bool = False
    size: Size | None = None


@dataclass(frozen=True)
class FilteredManifest:
    """A level's `filtered.json`.

    Attributes:
        path: the file.
        frames: its entries, ascending by `frame_idx`.
        min_area: smallest area that the filter let through, when the manifest says so.
        problems: entries that cannot be used, one line each.
        unused: names of files beside it that look like masks of frames and belong to none of its entries.
        limits: the settings by which the filtered candidates were chosen.
        size: `(H, W)` of the candidate images, where the manifest says so.
        class_names: names of the classes by number, as far as they are known.
    """

    path: Path
    frames: Sequence[FilteredFrame]
    min_area: float | None
    problems: Sequence[str] = ()
    unused: Sequence[str] = ()
    limits: Mapping[str, float | str] = field(default_factory=dict)
    size: Size | None = None
    class_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def without_masks(self) -> tuple[int, int]:
        """How many items have no mask, and how many there are."""
        items = [(frame, item) for frame in self.frames for item in frame.items if isinstance(item, dict)]
        lacking = [f.mask_file is None and not (item.get("mask") or item.get("segmentation")) for f, item in items]
        return sum(lacking), len(items)


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
    stacks, unused = _mask_files(path.parent)
    for position, entry in enumerate(entries):
        try:
            frame = _read_entry(path, position, entry, stacks)
            if frame.frame_idx in frames:
                raise CandidateError(f"{path}: frames[{position}]: frame_idx {frame.frame_idx} occurs twice")
        except CandidateError as error:
            problems.append(str(error))
            continue
        frames[frame.frame_idx] = frame
    min_area = data.get("min_area")
    ordered = [frames[index] for index in sorted(frames)]
    unused += [file.name for index, files in stacks.items() if index not in frames for file in files]
    smallest = float(min_area) if _is_number(min_area) else None
    limits, size = data.get("limits"), data.get("size")
    return FilteredManifest(
        path,
        ordered,
        smallest,
        problems,
        sorted(unused),
        {key: value for key, value in limits.items() if _is_limit(value)} if isinstance(limits, dict) else {},
        (size[0], size[1]) if isinstance(size, list) and len(size) == 2 and all(map(_is_side, size)) else None,
        _class_names(data.get("classes")),
    )


def _class_names(record: Any) -> dict[int, str]:
    """Names by number; what is none is passed over."""
    items = record.items() if isinstance(record, dict) else ()
    return {int(key): name for key, name in items if key.isdecimal() and len(key) < 16 and isinstance(name, str)}


def _mask_files(folder: Path) -> tuple[dict[int, list[Path]], list[str]]:
    """The mask stacks of a folder by the number of their frame, and names of other files that look like masks."""
    stacks: dict[int, list[Path]] = {}
    others: list[str] = []
    for file in sorted(folder.glob("seg_frame*")):
        match = MASK_FILE.fullmatch(file.name)
        if match is None:
            others.append(file.name)
        else:
            stacks.setdefault(int(match[1]), []).append(file)
    return stacks, others


def _read_entry(path: Path, position: int, entry: Any, stacks: Mapping[int, Sequence[Path]]) -> FilteredFrame:
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
    files = stacks.get(int(index), ())
    if len(files) > 1:
        raise CandidateError(f"{where}: has two mask stacks, {files[0].name} and {files[1].name}: keep one of them")
    return FilteredFrame(int(index), name, items, files[0] if files else None, entry.get("partial") is True)


def check_candidates(manifest: FilteredManifest, entry: FilteredFrame, frame_size: Size) -> list[str]:
    """What `read_candidates` would find wrong on one frame, in its words, without drawing a mask."""
    problems: list[str] = []
    _usable(manifest, entry, frame_size, problems)
    return problems


def read_candidates(manifest: FilteredManifest, entry: FilteredFrame, frame_size: Size) -> tuple[Candidates, list[str]]:
    """One frame's candidates with their masks, and the problems of those that are left out.

    Args:
        manifest: the level's manifest.
        entry: one of its frames.
        frame_size: `(H, W)` of the video; the candidate image is assumed to have it where no mask tells its size.

    Returns:
        the candidates, and a line per item that cannot be used; one line for all of them when the frame's masks
        cannot be trusted.
    """
    problems: list[str] = []
    items, size = _usable(manifest, entry, frame_size, problems)
    masks = [
        PackedMasks.empty(*size, 1)
        if item.mask is None
        else rescale_masks(item.mask.packed(size), *size, method="nearest")
        for item in items
    ]
    packed = PackedMasks.concat(masks) if masks else PackedMasks.empty(*size)
    candidates = Candidates(
        np.array([item.id for item in items], np.int64),
        np.array([item.xyxy for item in items], np.float32).reshape(-1, 4),
        np.array([item.score for item in items], np.float32),
        np.where(packed.areas > 0, packed.areas, np.array([_area(item) for item in items], np.int64)),
        packed,
        _optional_column([item.predicted_iou for item in items], np.float32),
        _class_column([item.class_id for item in items]),
    )
    return candidates, problems


def _optional_column(values: Sequence[Any], dtype: type[np.generic]) -> NDArray[Any] | None:
    """A column that is there where every item has a value."""
    return np.array(values, dtype) if values and None not in values else None


def _class_column(values: Sequence[int | None]) -> NDArray[np.int64] | None:
    """Classes, −1 of an item without; None where no item has one."""
    numbers = np.array([-1 if value is None else value for value in values], np.int64)
    return numbers if (numbers >= 0).any() else None


class _Item(NamedTuple):
    """One item as read; `xyxy` is in pixels of the candidate image."""

    id: int
    xyxy: NDArray[np.float32]
    score: float
    area: int
    mask: StoredMask | None
    predicted_iou: float | None = None
    class_id: int | None = None


def _usable(
    manifest: FilteredManifest, entry: FilteredFrame, frame_size: Size, problems: list[str]
) -> tuple[list[_Item], Size]:
    """The items of a frame that can be used, and `(H, W)` of the candidate image; adds the problems of the others."""
    where = f"{manifest.path}: frame {entry.frame_idx}"
    masks: dict[int, StoredMask | None] = {}
    faults: dict[int, str] = {}
    try:
        other = None if entry.size is None else other_shape(entry.size, frame_size)
        if other is not None:
            raise CandidateError(f"{where}: its image is {other}")
        stack = MaskStack(entry.mask_file, len(entry.items), where)
        for position, item in enumerate(entry.items):
            try:
                named = _check_numbers(position, item)
                masks[position] = _decoded(named, partial(stack.mask_of, item, position))
            except CandidateError as error:
                faults[position] = str(error)
        _refuse_other_shapes(where, masks, frame_size, faults)
        if masks and not any(masks.values()):
            boxes = [entry.items[position].get("bbox") for position in masks]
            _refuse_turned_boxes(where, boxes, entry.size or frame_size)
    except CandidateError as error:
        problems += [f"{where}, {fault}" for fault in faults.values()]
        problems.append(str(error))
        return [], frame_size
    sizes = [mask.size for position, mask in masks.items() if mask is not None and position not in faults]
    own = entry.size or frame_size
    image = max((size for size in sizes if size is not None), key=lambda size: size[0] * size[1], default=own)
    items: dict[int, _Item] = {}
    for position, mask in masks.items():
        if position in faults:
            continue
        try:
            read = _read_item(position, entry.items[position], mask, image)
            if read.id in items:
                raise CandidateError(f"item {position}: id {read.id} occurs twice on the frame")
        except CandidateError as error:
            faults[position] = str(error)
            continue
        items[read.id] = read
    problems += [f"{where}, {faults[position]}" for position in sorted(faults)]
    return list(items.values()), image


def _refuse_other_shapes(
    where: str, masks: Mapping[int, StoredMask | None], frame_size: Size, faults: dict[int, str]
) -> None:
    """Finds masks that cannot be of the frame; adds a fault for each.

    Raises:
        CandidateError: all of the frame's masks have one such size.
    """
    sizes = {position: mask.size for position, mask in masks.items() if mask is not None and mask.size is not None}
    if len(sizes) > 1 and len(set(sizes.values())) == 1:
        other = other_shape(next(iter(sizes.values())), frame_size)
        if other is not None:
            raise CandidateError(f"{where}: its {len(sizes)} masks are {other}")
    for position, size in sizes.items():
        other = other_shape(size, frame_size)
        if other is not None:
            faults[position] = f"item {position}: its mask is {other}"


def _refuse_turned_boxes(where: str, boxes: Sequence[Any], frame: Size) -> None:
    """Finds boxes that were made on the frame before it was turned upright.

    Raises:
        CandidateError: some reach far beyond the frame, and all lie inside of the turned one.
    """
    corners = [(box[0] + box[2], box[1] + box[3]) for box in boxes if _is_box(box)]
    if not corners:
        return
    (right, bottom), (height, width) = np.max(corners, axis=0), frame
    is_beyond = right > BOX_REACH * width or bottom > BOX_REACH * height
    if is_beyond and right <= height + 1 and bottom <= width + 1:
        reach = f"its boxes reach to ({right:g}, {bottom:g}), the frames are {width}×{height}"
        raise CandidateError(f"{where}: {reach}: made without the images' EXIF rotation?")


def other_shape(mask: Size, frame: Size) -> str | None:
    """How the shape `(H, W)` of a mask differs from the frame's, and why it may; None where one is the other scaled.

    >>> other_shape((480, 640), (968, 1296))
    >>> other_shape((96, 128), (128, 96))
    "128×96, the frames are 96×128: made without the images' EXIF rotation, or `size` given as [W, H]?"
    """
    height, width = mask
    differ = f"{width}×{height}, the frames are {frame[1]}×{frame[0]}"
    if height * width > max(LARGEST_MASK, LARGEST_SCALE * frame[0] * frame[1]):
        return f"{differ}: too large to be of them"
    if _is_scaled(mask, frame):
        return None
    if _is_scaled((width, height), frame):
        return f"{differ}: made without the images' EXIF rotation, or `size` given as [W, H]?"
    if height == width:
        return f"{differ}: padded or squeezed to a square? Cut the padding off, or scale back"
    return f"{differ}, of another shape: made on other images?"


def _is_scaled(mask: Size, frame: Size) -> bool:
    """Have the two one shape, but for rounding of the sides and a few percent (1296×968 and 640×480)?"""
    height, width = mask
    exact = height * frame[1] / frame[0]
    back = width * frame[0] / frame[1]
    return abs(width - exact) <= max(ASPECT_TOLERANCE * exact, 1) or abs(height - back) <= 1


def _read_item(position: int, item: JsonRecord, mask: StoredMask | None, image: Size) -> _Item:
    """One item, its mask not drawn.

    Raises:
        CandidateError: an empty mask, or a box that is none or lies elsewhere.
    """
    where = f"item {position} (id {item['id']})"
    inner = None if mask is None else _decoded(where, partial(mask.box, image))
    if mask is not None and inner is None:
        raise CandidateError(f"{where}: its mask is empty")
    if _box_is_usable(where, item, has_mask=mask is not None):
        xyxy = np.asarray(xywh_to_xyxy([item["bbox"]])[0])
        _check_place(where, item["bbox"], inner, image if mask is None else mask.size or image, image)
    else:
        xyxy = np.asarray(inner, np.float32)
    predicted, class_id = item.get("predicted_iou"), item.get("class_id")
    return _Item(
        int(item["id"]),
        xyxy,
        float(item["stability_score"]),
        int(item["area"]),
        mask,
        float(predicted) if _is_number(predicted) else None,
        int(class_id) if _is_index(class_id) else None,
    )


def _check_place(where: str, box: Sequence[float], inner: PixelBox | None, own: Size, image: Size) -> None:
    """Does a box lie in the image, and touch its mask, whose own box is `inner` in an image of size `own`?"""
    x, y, width, height = box
    text = f"{where}: its box {shortened(list(box))}"
    if pixels_inside(xywh_to_xyxy([box])[0], image) is None:
        raise CandidateError(f"{text} lies outside the image of {image[1]}×{image[0]}")
    if inner is None:
        if width < 1 and height < 1:
            raise CandidateError(f"{text} is smaller than a pixel: shares of the image? Boxes are in pixels")
        return
    scale_x, scale_y = image[1] / own[1], image[0] / own[0]
    scaled = [inner[0] * scale_x, inner[1] * scale_y, inner[2] * scale_x, inner[3] * scale_y]
    if not any(box_iou([[x, y, x + width, y + height]], [each])[0, 0] > 0 for each in (inner, scaled)):
        mask = [inner[0], inner[1], inner[2] - inner[0], inner[3] - inner[1]]
        raise CandidateError(f"{text} does not touch its mask, whose box is {mask}")
    as_xywh, as_xyxy = box_iou([[x, y, x + width, y + height], [x, y, width, height]], [inner])[:, 0].tolist()
    if as_xywh < 0.5 and as_xyxy > 0.9:
        raise CandidateError(f"{text} holds the corners of its mask: `bbox` is [x, y, width, height]")


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


def _decoded(where: str, decode: Callable[[], T]) -> T:
    try:
        return decode()
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
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
    if not _is_box(box):
        raise CandidateError(f"{where}: `bbox` is [x, y, width, height], not {shortened(box, 60)}")
    if box[2] <= 0 or box[3] <= 0:
        if not has_mask:
            raise CandidateError(f"{where}: its box {box} is empty and it has no mask")
        return False  # Semantic-SAM gives width 0 to masks one pixel wide
    return True


def _is_box(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and len(value) == 4 and all(_is_number(side) for side in value)


def _area(item: _Item) -> int:
    x1, y1, x2, y2 = item.xyxy
    return item.area or int((x2 - x1) * (y2 - y1))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_limit(value: Any) -> TypeGuard[float | str]:
    return _is_number(value) or isinstance(value, bool | str)


def _is_index(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def raw_path(level_root: Path) -> Path:
    """Where a level keeps candidates that no filter has seen."""
    return level_root / "raw" / "raw.json"


def _is_side(value: Any) -> bool:
    return _is_index(value) and 0 < value <= 1 << 20


def write_filtered(
    level_root: Path,
    level: int,
    frames: Iterator[tuple[int, str, Candidates]],
    *,
    min_area: float | None = None,
    path: Path | None = None,
    limits: Mapping[str, float | str] | None = None,
    partial: Collection[int] = (),
    class_names: Mapping[int, str] | None = None,
) -> Path:
    """Writes candidates of one level, masks as COCO RLE: a hundredth of the packed layout's size.

    Args:
        level_root: `RUN/level_L`.
        level: L.
        frames: `(frame_idx, frame_name, candidates)`.
        min_area: smallest area that was let through, in pixels of the candidate image.
        path: the file; None = `filtered_path`.
        limits: the settings by which these, or of raw candidates the filtered ones, were chosen.
        partial: indices of frames on which candidates were looked for only where something new was seen.
        class_names: names of the classes by number.
    """
    entries: list[dict[str, Any]] = []
    size: Size | None = None
    for index, name, candidates in frames:
        boxes, size = xyxy_to_xywh(candidates.xyxy), size or candidates.size
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
            if candidates.predicted_iou is not None:
                item["predicted_iou"] = round(float(candidates.predicted_iou[n]), 6)
            if candidates.class_id is not None and candidates.class_id[n] >= 0:
                item["class_id"] = int(candidates.class_id[n])
            if has_mask[n]:
                item["segmentation"] = segmentations[n]
            items.append(item)
        entry = {"frame_idx": index, "frame_name": name, "count": len(items), "items": items}
        entries.append(entry | ({"partial": True} if index in partial else {}))
    path = path or filtered_path(level_root)
    _write_manifest(path, level, entries, min_area, limits, size, class_names)
    return path


def _write_manifest(
    path: Path,
    level: int,
    entries: Sequence[JsonRecord],
    min_area: float | None,
    limits: Mapping[str, float | str] | None,
    size: Size | None,
    class_names: Mapping[int, str] | None,
) -> None:
    content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "level": level, "frames": entries}
    if limits is not None:
        content |= {"limits": dict(limits), "size": size and list(size)}
    if min_area is not None:
        content["min_area"] = min_area
    if class_names:
        content["classes"] = {str(number): name for number, name in sorted(class_names.items())}
    write_json(path, content)


def write_joined_manifest(path: Path, level: int, manifests: Sequence[FilteredManifest]) -> None:
    """Writes the candidates of several manifests, each of other frames of one video, as one.

    Of a frame that several have the entry of the first counts; limits and size are those of the first.

    Args:
        path: the file.
        level: L.
        manifests: their masks are in their items, as `write_filtered` leaves them.

    Raises:
        CandidateError: masks lie in files of their own, an entry cannot be used, or a class has two names.
    """
    entries: dict[int, JsonRecord] = {}
    class_names: dict[int, str] = {}
    for manifest in manifests:
        if manifest.problems:
            raise CandidateError(manifest.problems[0])
        for number, name in manifest.class_names.items():
            if class_names.setdefault(number, name) != name:
                raise CandidateError(f"{manifest.path}: class {number} is {name!r}, and {class_names[number]!r} before")
        for frame in manifest.frames:
            if frame.mask_file is not None:
                raise CandidateError(f"{frame.mask_file}: candidates with masks in files of their own are not joined")
            entry = {"frame_idx": frame.frame_idx, "frame_name": frame.frame_name, "count": len(frame.items)}
            own = entry | {"items": frame.items} | ({"partial": True} if frame.is_partial else {})
            entries.setdefault(frame.frame_idx, own)
    first = manifests[0]
    ordered = [entries[index] for index in sorted(entries)]
    _write_manifest(path, level, ordered, first.min_area, first.limits or None, first.size, class_names)


Parents = Mapping[tuple[int, int], tuple[int, int] | None]
"""Level and id of a candidate → those of its parent, or None."""


def write_parents(path: Path, frames: Iterable[tuple[int, str, Parents]]) -> None:
    """Writes `tree.json`: of each frame `(index, name, parents)`, which candidate is part of which."""
    entries = [
        {
            "frame_idx": index,
            "frame_name": name,
            "candidates": [
                {"level": level, "id": one, "parent": None if parent is None else {"level": parent[0], "id": parent[1]}}
                for (level, one), parent in sorted(parents.items())
            ],
        }
        for index, name, parents in frames
    ]
    write_json(path, {"schema_version": SCHEMA_VERSION, "frames": entries})


def read_parents(path: Path) -> dict[int, Parents]:
    """Frame → parents of its candidates, as `write_parents` wrote them.

    Raises:
        ArtifactError: missing or damaged.
        ArtifactVersionError: of a newer schema.
    """
    data = read_json_object(path, "tree of candidates")
    check_version(data.get("schema_version"), SCHEMA_VERSION, path)
    try:
        return {
            int(frame["frame_idx"]): {
                (int(one["level"]), int(one["id"])): None
                if one["parent"] is None
                else (int(one["parent"]["level"]), int(one["parent"]["id"]))
                for one in frame["candidates"]
            }
            for frame in data["frames"]
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArtifactError(f"{path}: the tree of candidates is damaged: {shortened(str(error))}") from None
