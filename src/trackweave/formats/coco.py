"""Detections as COCO results: `[{"image_id", "category_id", "bbox": [x, y, w, h], "score", "segmentation"}, …]`.

Format: https://cocodataset.org/#format-results. Coordinates are 0-based there as here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trackweave.errors import InputError
from trackweave.formats.tables import DetectionTable, EncodedMask, JsonObject, RawDetections, build_table, read_json
from trackweave.masks.codecs import decode_rle
from trackweave.structures.run_log import OnBadItem, RunLog, RunWarning


def read_coco_detections(
    path: Path | str,
    *,
    images: Path | str | None = None,
    length: int | None = None,
    on_bad_item: OnBadItem = "error",
) -> DetectionTable:
    """Reads COCO results of one video.

    An item without `bbox` gets the box of its mask. Masks are kept when every item has one; else they are left out
    with a warning.

    Args:
        path: the results.
        images: a COCO file whose `images` list the video's frames, in the order of `frame_id` when each has one, else
            of `file_name`; an image's place in that order is its frame. It also gives the class names. None:
            `image_id` itself is the 0-based frame.
        length: frames of the video; items beyond are bad. `images` gives it too.
        on_bad_item: `error`, or `skip` to leave bad items out and count them in `warnings`.

    Raises:
        InputError: a file cannot be read or is not COCO, or an item is bad; the message names it by position.
    """
    path = Path(path)
    items = read_json(path)
    if not isinstance(items, list):
        raise InputError(f"{path}: COCO results are a list of detections, not {type(items).__name__}")
    frame_of_image, names = _read_images(Path(images)) if images is not None else (None, None)
    if length is None and frame_of_image is not None:
        length = len(frame_of_image)
    log = RunLog(on_bad_item, None)
    parsed = _parsed_items(path, items, frame_of_image, log)
    masks = [item.mask for item in parsed if item.mask is not None]
    numbers = np.array([item.numbers for item in parsed], np.float64).reshape(-1, 7)
    rows = RawDetections(
        numbers[:, 0],
        numbers[:, 1:5],
        numbers[:, 5],
        numbers[:, 6],
        masks if masks and len(masks) == len(parsed) else None,
        locate=lambda n: f"item {parsed[n].position}",
    )
    table = build_table(rows, str(path), log, length=length, class_names=names)
    if not masks or rows.segmentation is not None:
        return table
    message = f"{path}: masks left out: only {len(masks)} of {len(parsed)} detections have one"
    warning = RunWarning("detections", None, "masks-left-out", message, {"count": len(masks)})
    return replace(table, warnings=(*table.warnings, warning))


class _CocoItem(NamedTuple):
    """One detection: its position in the file; frame, xyxy, score, class; and its mask."""

    position: int
    numbers: tuple[float, ...]
    mask: EncodedMask | None


def _parsed_items(
    path: Path, items: Sequence[object], frame_of_image: Mapping[int, int] | None, log: RunLog
) -> list[_CocoItem]:
    parsed = []
    for position, item in enumerate(items):
        try:
            parsed.append(_CocoItem(position, *_parse(item, frame_of_image)))
        except ValueError as error:
            log.skip("item", f"{path}, item {position}: {error}", stage="detections")
    return parsed


def _parse(item: Any, frame_of_image: Mapping[int, int] | None) -> tuple[tuple[float, ...], EncodedMask | None]:
    """Frame, xyxy, score, class; and the mask. `ValueError` says what is wrong."""
    if not isinstance(item, Mapping):
        raise ValueError(f"an object is expected, not {item!r:.40}")
    frame = _number(item, "image_id")
    if frame_of_image is not None:
        if frame not in frame_of_image:
            raise ValueError(f"image_id {item['image_id']} is not among the images")
        frame = float(frame_of_image[int(frame)])
    mask = item.get("segmentation")
    if isinstance(mask, list):
        raise ValueError("segmentation is a polygon; results have RLE: {size, counts}")
    if mask is not None and not (isinstance(mask, Mapping) and {"size", "counts"} <= mask.keys()):
        raise ValueError("segmentation needs `size` and `counts`")
    if "bbox" in item:
        x, y, w, h = _box(item["bbox"])
        box: tuple[float, ...] = (x, y, x + w, y + h)
    elif mask is not None:
        box = tuple(float(edge) for edge in decode_rle([mask]).boxes[0])
    else:
        raise ValueError("neither bbox nor segmentation")
    score = _number(item, "score") if "score" in item else 1.0
    class_id = _number(item, "category_id") if "category_id" in item else -1.0
    return (frame, *box, score, class_id), mask


def _box(value: Any) -> list[float]:
    try:
        box = [float(side) for side in value]
    except (TypeError, ValueError):
        box = []
    if len(box) != 4:
        raise ValueError(f"bbox is [x, y, w, h], not {value!r:.40}")
    return box


def _number(item: JsonObject, key: str) -> float:
    try:
        return float(item[key])
    except KeyError:
        raise ValueError(f"{key} is missing") from None
    except (TypeError, ValueError):
        raise ValueError(f"{key} {item[key]!r:.40} is not a number") from None


def _read_images(path: Path) -> tuple[dict[int, int], dict[int, str] | None]:
    """`image_id` → frame, and the names of categories."""
    document = read_json(path)
    try:
        images = list(document["images"])
        ordered = all("frame_id" in image for image in images)
        videos = {image.get("video_id") for image in images}
        key = "frame_id" if ordered else "file_name"
        images.sort(key=lambda image: image[key])
        frame_of_image = {int(image["id"]): frame for frame, image in enumerate(images)}
        categories = {int(entry["id"]): str(entry["name"]) for entry in document.get("categories", ())}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a COCO file with `images` of id and file_name: {error!r}") from error
    if len(videos) > 1:
        raise InputError(f"{path}: images of {len(videos)} videos; give one video's at a time")
    if len(frame_of_image) < len(images):
        raise InputError(f"{path}: an image id occurs twice")
    return frame_of_image, categories or None
