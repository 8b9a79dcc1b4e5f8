"""Candidates in the layouts of other tools: read as what `filtered.json` would say of them.

A file or a folder: COCO annotations or results (polygons, run lengths), SAM's automatic masks as JSON (a list of
records, or SA-1B's file of one image), Detectron2's dictionaries of a data set, label images of 8 or 16 bits or coded
by colour, alone or with a list of their segments (COCO panoptic, DEVA), a folder of PNG masks for each frame or for
each object, `.npy` and `.npz` stacks of masks.
In memory: masks, label maps, records, and what supervision and Detectron2 have of one frame.

A frame is known by the name of its image, or of the file; where names do not say it, by the number in them.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import xyxy_to_xywh
from trackweave.errors import (
    CandidateError,
    InputError,
    PromptError,
    TrackweaveError,
    listed,
    shortened,
    shortened_line,
)
from trackweave.formats.davis import IMAGE_SUFFIXES, VOID, frame_stem, read_label_pixels, solid_labels
from trackweave.formats.tables import add_class_name, read_json, read_text
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.storage.candidates import FilteredFrame, FilteredManifest, read_filtered
from trackweave.storage.npz import ZIP_ERRORS, decode_npy, map_npy, member_limit, read_member
from trackweave.structures.candidates import Candidates
from trackweave.structures.detections import CLASS_NAME, Detections
from trackweave.structures.run_summary import JsonRecord

Item = dict[str, Any]
Frame = tuple[str, int | None, list[Item]]
"""Name, index where it is known, and objects."""
ARRAY_SUFFIXES = (".npy", ".npz")
MOST_COLOURS = 4096
"""Colours of an image whose colours are objects; a photograph has more."""
MOST_THIN = 8
"""So many colours that are nowhere three pixels wide, and no fewer than the others, are those of soft outlines."""
IMAGE_SIZE = "image_size"
NUMBER = re.compile(r"(\d{1,15})\D*$")


def read_candidate_files(path: Path, known: Collection[str] = ()) -> FilteredManifest:
    """Candidates of one level in any of the layouts of this module, or a `filtered.json` outside of a run folder.

    Args:
        path: a file or folder.
        known: names of the video's frames, without suffix.

    Raises:
        InputError: nothing there can be read as candidates; says what was found.
    """
    if not path.exists():
        raise CandidateError(f"{path}: there are no such candidates")
    if path.is_dir():
        native = path / "filtered.json"
        return read_filtered(native) if native.is_file() else _manifest(path, _folder(path, known))
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return _manifest(path, _array_file(path, known))
    document = read_json(path)
    if isinstance(document, dict) and isinstance(document.get("frames"), list):
        return read_filtered(path)
    return _manifest(path, _document(path, document))


def read_raw_folder(folder: Path) -> FilteredManifest:
    """Unfiltered candidates as the older pipeline of the tracking guide kept them: `frame_00012.json` (`candidates`,
    each with its `raw_index`), and beside it `frame_00012.npz` (`masks` `(N, H, W)`, `has_mask`).

    Raises:
        InputError: there are none, or a file is damaged.
    """

    def frames() -> Iterator[Frame]:
        for path in sorted(folder.glob("frame_*.json")):
            document = read_json(path)
            arrays = _arrays(path.with_suffix(".npz"))
            masks, items = arrays["masks"], []
            has_mask = arrays.get("has_mask", np.ones(len(masks), np.bool_)).astype(np.bool_)
            for n, one in enumerate(document["candidates"]):
                row = int(one["raw_index"])
                if not 0 <= row < len(masks):
                    raise CandidateError(f"{path}: candidate {n}: there is no mask {row}")
                item = _record(f"{path}: candidate {n}", {key: one[key] for key in one if key != "segmentation"})
                items.append(item | ({"segmentation": _encoded(masks[row][None] != 0)[0]} if has_mask[row] else {}))
            yield str(document.get("frame_name") or path.stem), int(document["frame_idx"]), items

    return _manifest(folder, frames())


def candidates_in_memory(given: Mapping[int, object]) -> FilteredManifest:
    """Candidates of frames by their index in the video.

    Args:
        given: of each frame `(N, H, W)` masks of 0 and 1, a label map `(H, W)` of integers, `Candidates`, detections of
            ours or of supervision, Detectron2's `Instances` or the dictionary of their fields, or records such as SAM's
            automatic generator gives (`segmentation`, `bbox` xywh, `stability_score`).

    Raises:
        CandidateError: what is given for a frame is none of these.
    """
    frames = (
        (str(index), int(index), _objects(f"candidates of frame {index}", value)) for index, value in given.items()
    )
    manifest = _manifest(Path("candidates"), frames)
    return FilteredManifest(
        manifest.path,
        [FilteredFrame(frame.frame_idx, None, frame.items, None) for frame in manifest.frames],
        None,
        class_names=manifest.class_names,
    )


def _manifest(path: Path, frames: Iterator[Frame]) -> FilteredManifest:
    """Frames `(name, index or None, items)`; without an index the number in the name is it, or else the position."""
    try:
        read = list(frames)
    except TrackweaveError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        text = f"has no {error}" if isinstance(error, KeyError) else shortened_line(str(error))
        raise CandidateError(f"{path}: cannot be read as candidates: {text}") from None
    if not read:
        raise CandidateError(f"{path}: holds no candidates")
    numbers = [_number(name) if index is None else index for name, index, _ in read]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(len(read)))
    entries = []
    class_names: dict[int, str] = {}
    for (name, _, items), number in zip(read, numbers, strict=True):
        size = None
        for position, item in enumerate(items):
            size = item.pop(IMAGE_SIZE, None)
            called = item.pop(CLASS_NAME, None)
            if isinstance(called, str) and "class_id" in item:
                try:
                    add_class_name(class_names, item["class_id"], called)
                except ValueError as error:
                    raise CandidateError(f"{path}: {error}") from None
            item["id"] = position
            item.setdefault("area", 0)
            item.setdefault("stability_score", 1.0)
        entries.append(FilteredFrame(int(number or 0), frame_stem(name), items, None, size=size))
    entries.sort(key=lambda entry: entry.frame_idx)
    return FilteredManifest(path, entries, None, class_names=class_names)


def _number(name: str) -> int | None:
    match = NUMBER.search(frame_stem(name))
    return None if match is None else int(match[1])


# --- JSON -------------------------------------------------------------------------------------------------------------


def _document(path: Path, document: Any) -> Iterator[Frame]:
    """What a JSON file holds of one or many frames."""
    if isinstance(document, dict) and isinstance(document.get("annotations"), list):
        if document["annotations"] and "segments_info" in document["annotations"][0]:
            yield from _panoptic(path, document)
            return
        if isinstance(document.get("image"), dict):  # SA-1B: a file of one image
            name = document["image"].get("file_name") or path.stem
            items = [_record(f"{path}: annotation {n}", one) for n, one in enumerate(document["annotations"])]
            yield _base(name), None, [{**item, IMAGE_SIZE: _size_of(document["image"])} for item in items]
            return
        if isinstance(document.get("images"), list):
            yield from _coco(path, document)
            return
    if isinstance(document, list) and all(isinstance(one, dict) for one in document):
        if document and all(isinstance(one.get("annotations"), list) for one in document):
            for one in document:  # Detectron2's data sets
                items = [_record(f"{path}: an annotation", each) for each in one["annotations"]]
                yield _base(one["file_name"]), None, [{**item, IMAGE_SIZE: _size_of(one)} for item in items]
            return
        if document and all("image_id" in one for one in document):
            yield from _by_image(path, document, None)
            return
        yield path.stem, None, [_record(f"{path}: item {n}", one) for n, one in enumerate(document)]
        return
    raise CandidateError(
        f"{path}: is neither COCO, SAM's automatic masks, Detectron2's dictionaries nor a filtered.json"
    )


def _coco(path: Path, document: JsonRecord) -> Iterator[Frame]:
    names = {image["id"]: _base(image["file_name"]) for image in document["images"]}
    sizes = {_base(image["file_name"]): _size_of(image) for image in document["images"]}
    called = _category_names(document)
    for name, index, items in _by_image(path, document["annotations"], names):
        for item in items:
            item[CLASS_NAME] = called.get(item.get("class_id"))
            item[IMAGE_SIZE] = sizes[name]
        yield name, index, items


def _size_of(image: JsonRecord) -> tuple[int, int] | None:
    """`(H, W)` of an image, where its record says it."""
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0 else None


def _category_names(document: JsonRecord) -> dict[Any, str]:
    """Names of COCO's categories by number, as far as there are any."""
    listed = document.get("categories")
    known = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, Sequence) else []
    return {one["id"]: str(one["name"]) for one in known if isinstance(one.get("id"), int) and one.get("name")}


def _by_image(path: Path, annotations: Sequence[Any], names: Mapping[Any, str] | None) -> Iterator[Frame]:
    by_image: dict[Any, list[Item]] = {}
    for n, one in enumerate(annotations):
        by_image.setdefault(one["image_id"], []).append(_record(f"{path}: annotation {n}", one))
    for image, items in by_image.items():
        if names is not None and image not in names:
            raise CandidateError(f"{path}: annotates image {shortened(image)}, which its list of images lacks")
        yield str(image) if names is None else names[image], None, items


def _record(where: str, one: Any) -> Item:
    """One annotation as an item: COCO's, SAM's or Detectron2's names for the same things."""
    if not isinstance(one, Mapping):
        raise CandidateError(f"{where}: is no object")
    item: Item = {}
    shape = one.get("segmentation")
    if isinstance(shape, np.ndarray):
        item["segmentation"] = _encoded(shape[None])[0]
    elif shape is not None:
        item["segmentation"] = shape
    box = one.get("bbox")
    if box is not None:
        box = [float(side) for side in box]
        if len(box) != 4:
            raise CandidateError(f"{where}: `bbox` has four numbers, not {shortened(box, 60)}")
        # Detectron2's BoxMode: 0 is xyxy, 1 xywh, which is everybody else's.
        item["bbox"] = xyxy_to_xywh([box])[0].tolist() if one.get("bbox_mode") == 0 else box
    for name, keys in {
        "stability_score": ("stability_score", "score"),
        "area": ("area",),
        "predicted_iou": ("predicted_iou",),
        "class_id": ("category_id", "class_id"),
    }.items():
        value = next((one[key] for key in keys if one.get(key) is not None), None)
        if value is not None:
            item[name] = int(value) if name == "class_id" else float(value)
    item[CLASS_NAME] = next((one[key] for key in (CLASS_NAME, "category_name") if one.get(key)), None)
    return item


def _base(name: Any) -> str:
    return PureWindowsPath(str(name)).name


# --- images and arrays ------------------------------------------------------------------------------------------------


def _folder(path: Path, known: Collection[str]) -> Iterator[Frame]:
    """A folder of one file for each frame, or of one folder of masks for each frame or object."""
    files = [one for one in sorted(path.iterdir()) if one.is_file() and not one.name.startswith(".")]
    kinds: dict[str, list[Path]] = {}
    for one in files:
        suffix = one.suffix.lower()
        kind = "image" if suffix in IMAGE_SUFFIXES else "array" if suffix in ARRAY_SUFFIXES else suffix
        kinds.setdefault(kind, []).append(one)
    readers: dict[str, Callable[[Path], Iterable[Frame]]] = {
        "image": lambda one: [(one.name, None, _labelled(one))],
        "array": _array_file,
        ".json": lambda one: _document(one, read_json(one)),
    }
    if {"image", ".json"} <= kinds.keys():
        yield from _described(path, kinds["image"], kinds[".json"])
        return
    usable = [kind for kind in readers if kind in kinds]
    if len(usable) > 1:
        raise CandidateError(f"{path}: holds files of several kinds ({', '.join(usable)}): candidates are of one")
    if usable:
        for one in kinds[usable[0]]:
            yield from readers[usable[0]](one)
        return
    yield from _mask_folders(path, known)


def _mask_folders(path: Path, known: Collection[str]) -> Iterator[Frame]:
    """A folder of PNG masks for each frame, or for each object; SAM's own writer leaves a table in those of frames.

    Raises:
        CandidateError: names do not say which of both they are.
    """
    folders = [one for one in sorted(path.iterdir()) if one.is_dir() and not one.name.startswith(".")]
    masks = {
        folder: [one for one in sorted(folder.iterdir()) if one.suffix.lower() in IMAGE_SUFFIXES] for folder in folders
    }
    stems = {one.stem for files in masks.values() for one in files}
    if not stems:
        raise CandidateError(f"{path}: holds neither images, arrays, JSON files nor folders of masks")
    are_frames = any(_has_table(folder) for folder in folders) or any(folder.name in known for folder in folders)
    if are_frames == any(stem in known for stem in stems):
        which = "both its folders and their masks" if are_frames else "neither its folders nor their masks"
        raise CandidateError(f"{path}: {which} have names of frames: a folder is a frame, or an object")
    if are_frames:
        for folder, files in masks.items():
            table = _sam_table(folder)
            yield folder.name, None, [{**_binary(one), **table.get(one.stem, {})} for one in files]
        return
    by_frame: dict[str, list[Item]] = {}
    for files in masks.values():
        for one in files:
            by_frame.setdefault(one.name, []).extend([_binary(one)])
    for name in sorted(by_frame):
        yield name, None, by_frame[name]


def _has_table(folder: Path) -> bool:
    return (folder / "metadata.csv").is_file()


def _sam_table(folder: Path) -> dict[str, Item]:
    """Scores of SAM's `metadata.csv` by the number of the mask; empty without one."""
    if not _has_table(folder):
        return {}
    rows = csv.DictReader(StringIO(read_text(folder / "metadata.csv"), newline=""))
    return {
        str(row["id"]): {key: float(row[key]) for key in ("stability_score", "predicted_iou") if row.get(key)}
        for row in rows
    }


def _binary(path: Path) -> Item:
    """One mask of a PNG: everything that is not black."""
    labels = read_label_pixels(path).labels
    return {"segmentation": _encoded((labels > 0)[None])[0]}


def _described(path: Path, images: Sequence[Path], documents: Sequence[Path]) -> Iterator[Frame]:
    """Label images, and beside each a list of its segments: `id`, `category_id`, `score` (DEVA, detectors)."""
    by_stem = {one.stem: one for one in documents}
    if by_stem.keys() != {one.stem for one in images}:
        text = "holds files of several kinds (image, .json): candidates are of one, or each image has a JSON of its"
        raise CandidateError(f"{path}: {text} segments, named as it is")
    for image in images:
        document = read_json(by_stem[image.stem])
        segments = document.get("segments_info") if isinstance(document, Mapping) else document
        yield image.name, None, _segments(image, segments, by_stem[image.stem])


def _panoptic(path: Path, document: JsonRecord) -> Iterator[Frame]:
    """COCO panoptic: the JSON, and its PNG in the folder of the same name, or beside it."""
    folder = path.with_suffix("") if path.with_suffix("").is_dir() else path.parent
    names = {image["id"]: _base(image["file_name"]) for image in document.get("images", ())}
    called = _category_names(document)
    for one in document["annotations"]:
        items = _segments(folder / _base(one["file_name"]), one["segments_info"], path)
        for item in items:
            item[CLASS_NAME] = called.get(item.get("class_id"))
        yield names.get(one["image_id"], _base(one["file_name"])), None, items


def _segments(image: Path, segments: Any, source: Path) -> list[Item]:
    """The objects of a label image with what is said of each.

    Raises:
        CandidateError: a segment is none, or is not in the image.
    """
    if not isinstance(segments, Sequence) or not all(isinstance(one, Mapping) and "id" in one for one in segments):
        raise CandidateError(f"{source}: is no list of segments with an `id` each")
    if not image.is_file():
        raise CandidateError(f"{source}: {image} is not there: its label image")
    labels = _label_values(image)
    said = {int(one["id"]): one for one in segments}
    missing = sorted(said.keys() - set(np.unique(labels).tolist()) - {0})
    if missing:
        raise CandidateError(f"{source}: segment {missing[0]} is not in {image.name}")
    items = []
    for value in np.unique(labels[labels > 0]).tolist():
        known = said.get(value, {})
        fields = {key: known[key] for key in ("category_id", "score", CLASS_NAME, "category_name") if key in known}
        items.append({**_record(str(source), fields), "segmentation": _encoded((labels == value)[None])[0]})
    return items


def _labelled(path: Path) -> list[Item]:
    """The objects of a label image: values from 1 on, or colours other than black; 255 of a palette means void."""
    return _split(_label_values(path))


def _label_values(path: Path) -> NDArray[np.int64]:
    """`(H, W)` int64 of a label image: 0 is nothing."""
    from PIL import Image

    try:
        pixels = read_label_pixels(path)
    except PromptError as error:
        if "a colour image" not in str(error):
            raise
        with Image.open(path) as image:
            colours = np.asarray(image.convert("RGB"), np.int64)
        labels = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        values = np.unique(labels[labels > 0])
        if len(values) > MOST_COLOURS:
            raise CandidateError(f"{path}: has {len(values)} colours: a photograph, not objects") from None
        bodies = np.unique(labels[solid_labels(np.searchsorted(values, labels) + (labels > 0))])
        thin = len(values) - len(bodies)
        if thin >= max(MOST_THIN, len(bodies)):
            text = f"{thin} colours along the outlines of {len(bodies)} objects"
            raise CandidateError(f"{path}: {text}: save it without smoothing (nearest neighbour)") from None
        return labels
    values = np.asarray(pixels.labels, np.int64)
    return np.where(pixels.void, 0, values) if (values[values != VOID] > 0).any() else values


def _split(labels: NDArray[np.integer[Any]]) -> list[Item]:
    """Each value above 0 as a mask."""
    return [{"segmentation": _encoded((labels == value)[None])[0]} for value in np.unique(labels[labels > 0])]


def _array_file(path: Path, known: Collection[str] = ()) -> Iterator[Frame]:
    """`.npy`: the masks or labels of one frame. `.npz`: of one frame, or an array for each of several.

    `known`: names of the video's frames, where the file is the only one.
    """
    try:
        if path.suffix.lower() == ".npy":
            yield path.stem, None, _of_one_frame(path, map_npy(path), known)
            return
    except ZIP_ERRORS as error:
        raise _unreadable(path, error) from None
    arrays = _arrays(path)
    masks = arrays.get("masks", arrays.get("arr_0") if len(arrays) == 1 else None)
    if masks is not None:  # of one frame; Semantic-SAM's has `has_mask` beside it
        has_mask = arrays.get("has_mask")
        if has_mask is not None and masks.ndim == 3 and has_mask.shape == (len(masks),):
            masks = masks[has_mask.astype(np.bool_)]
        yield path.stem, None, _of_one_frame(path, masks, known)
        return
    for name, array in arrays.items():
        yield name, None, _stack(f"{path}: {name}", array)


def _of_one_frame(path: Path, array: NDArray[Any], known: Collection[str]) -> list[Item]:
    """The masks of the only file.

    Raises:
        CandidateError: it may as well be one mask for each frame of the video.
    """
    items = _stack(str(path), array)
    if array.ndim == 3 and len(array) == len(known) > 1 and path.stem not in known:
        text = f"{len(array)} masks, and the video has {len(known)} frames"
        raise CandidateError(
            f"{path}: {text}: if they are of one frame, name it after its frame; else give a file each"
        )
    return items


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of a `.npz`."""
    try:
        with zipfile.ZipFile(path) as archive:
            limit = member_limit(path)
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): decode_npy(read_member(archive, name, limit)) for name in names}
    except ZIP_ERRORS as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: BaseException) -> CandidateError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return CandidateError(f"{path}: not a readable array: {shortened_line(reason)}")


def _stack(where: str, array: NDArray[Any]) -> list[Item]:
    """`(N, H, W)` masks of 0 and 1, or a label map `(H, W)`."""
    if array.dtype.kind not in "bui" or array.ndim not in (2, 3) or 0 in array.shape[-2:]:
        text = f"is {array.shape} {array.dtype}: masks are (N, H, W) of 0 and 1, a label map is (H, W) integers"
        raise CandidateError(f"{where}: {text}")
    if array.ndim == 2:
        return _split(np.asarray(array).astype(np.int64) if array.dtype.kind != "b" else np.asarray(array, np.int64))
    masks = np.asarray(array)
    highest = masks.max(initial=0)
    other = masks[(masks != 0) & (masks != (highest if highest == VOID else 1))]
    if other.size:
        text = f"holds {other.flat[0]} besides 0 and 1: masks are (N, H, W) of 0 and 1, a label map is (H, W)"
        raise CandidateError(f"{where}: {text}")
    return [{"segmentation": entry} for entry in _encoded(masks != 0) if entry is not None]


def _encoded(masks: NDArray[Any]) -> list[Any]:
    return list(encode_rle(PackedMasks.from_bool(np.asarray(masks, np.bool_))))


# --- memory -----------------------------------------------------------------------------------------------------------


def _objects(where: str, value: Any) -> list[Item]:
    """What is given of one frame."""
    given = value
    if isinstance(value, Candidates):
        value = Detections.of(value.xyxy, value.score, value.class_id, masks=value.masks)
    fields = value.get_fields() if hasattr(value, "get_fields") else value  # Detectron2's Instances
    if isinstance(fields, Mapping):
        value = _instances(where, fields)
    elif isinstance(fields, Sequence) and not isinstance(fields, str):
        return [_record(f"{where}: item {n}", one) for n, one in enumerate(fields)]
    elif isinstance(fields, np.ndarray):
        return _stack(where, fields)
    elif not isinstance(fields, Detections):
        try:
            value = Detections.from_any(fields)
        except (InputError, ValueError, TypeError, AttributeError) as error:
            text = f"{type(fields).__name__} is no array of masks, detections or records"
            raise CandidateError(f"{where}: {text}: {shortened_line(str(error))}") from None
    encoded = [None] * len(value) if value.masks is None else _encoded(value.masks.to_bool())
    boxes = xyxy_to_xywh(value.xyxy)
    has_mask = np.zeros(len(value), np.bool_) if value.masks is None else value.masks.areas > 0
    names, items = _names_of(given, value), list[Item]()
    for n in range(len(value)):
        item: Item = {"bbox": boxes[n].tolist(), "stability_score": float(value.score[n])}
        if value.class_id is not None and value.class_id[n] >= 0:
            item["class_id"] = int(value.class_id[n])
            item[CLASS_NAME] = names(n)
        if has_mask[n]:
            item["segmentation"] = encoded[n]
        items.append(item)
    return items


def _names_of(given: Any, found: Detections) -> Callable[[int], str | None]:
    """The name of a row's class: supervision has names beside the rows, Ultralytics by number."""
    column, by_number = found.data.get(CLASS_NAME), getattr(given, "names", None)
    if column is not None:
        return lambda row: str(column[row])
    known = by_number if isinstance(by_number, Mapping) else {}
    return lambda row: known.get(int(found.class_id[row]))


def _instances(where: str, fields: Mapping[Any, Any]) -> Detections:
    """Fields of Detectron2's `Instances`: `pred_masks`, `pred_boxes`, `scores`, `pred_classes`, or without `pred_`."""

    def field(*names: str) -> NDArray[Any] | None:
        found = next((fields[name] for name in names if name in fields), None)
        if found is None:
            return None
        found = getattr(found, "tensor", found)
        return np.asarray(found.cpu() if hasattr(found, "cpu") else found)

    masks, boxes = field("pred_masks", "gt_masks", "masks"), field("pred_boxes", "gt_boxes", "boxes")
    if masks is None and boxes is None:
        raise CandidateError(f"{where}: has neither pred_masks nor pred_boxes, only {listed(sorted(map(str, fields)))}")
    packed = None if masks is None else PackedMasks.from_bool(masks.astype(np.bool_))
    xyxy = packed.boxes if boxes is None and packed is not None else boxes
    scores, classes = field("scores"), field("pred_classes", "gt_classes", "classes")
    count = len(packed) if packed is not None else 0 if boxes is None else len(boxes)
    try:
        return Detections.of(xyxy, np.ones(count) if scores is None else scores, classes, masks=packed)
    except (ValueError, InputError) as error:
        raise CandidateError(f"{where}: {shortened_line(str(error))}") from None
