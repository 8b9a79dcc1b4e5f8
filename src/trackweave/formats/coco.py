"""Detections as COCO results: `[{"image_id", "category_id", "bbox": [x, y, w, h], "score", "segmentation"}, …]`.

Also a whole data set, `{"images", "categories", "annotations"}`, whose annotations are the detections.
Format: https://cocodataset.org/#format-results. Coordinates are 0-based there as here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from trackweave.errors import InputError, listed, shortened, shortened_line, wording
from trackweave.formats.frame_ids import FrameHints, ImageId, frames_of_ids, image_id, one_video, refuse_video, stem_of
from trackweave.formats.tables import (
    DetectionTable,
    EncodedMask,
    FileReading,
    JsonObject,
    RawDetections,
    build_table,
    category_names,
    finite_number,
    left_out,
    read_json,
    whole_number,
)
from trackweave.formats.ytvis import encoded_mask, picture_size
from trackweave.masks.codecs import decode_rle
from trackweave.structures.run_log import OnBadItem, RunLog, RunWarning

IMAGE_FOLDERS = {"img1", "images", "image", "frames", "rgb", "jpegimages"}
"""Folders of pictures inside the folder of a video, which is what the video is called."""


def read_coco_detections(
    path: Path | str,
    *,
    images: Path | str | None = None,
    hints: FrameHints | None = None,
    on_bad_item: OnBadItem = "error",
) -> DetectionTable:
    """Reads COCO results of one video.

    An item without `bbox` gets the box of its mask. Masks are kept when every item has one; else they are left out
    with a warning.

    Args:
        path: the results.
        images: a COCO file whose `images` list the video's frames: by the names of the pictures, where these are
            known, else in the order of `frame_id` when each has one, else of `file_name`. It also gives the names of
            classes, and of several videos the one that `hints` or the results name. None: `image_id` is the name of a
            picture or the number of a frame, see `frames_of_ids`.
        hints: what is known about the frames.
        on_bad_item: `error`, or `skip` to leave bad items out and count them in `warnings`.

    Raises:
        InputError: a file cannot be read or is not COCO, an image cannot be one of the frames, or an item is bad; the
            message names it by position.
    """
    path, hints, log = Path(path), hints or FrameHints(), RunLog(on_bad_item, None)
    document = read_json(path)
    items = document.get("annotations") if isinstance(document, Mapping) else document
    if not isinstance(items, list):
        raise InputError(f"{path}: COCO results are a list of detections, not {type(document).__name__}")
    listing = _image_list(path, document, images)
    parsed = _parsed_items(path, items, listing, log)
    chosen = _in_video(path, parsed, listing, hints) if listing is not None else _by_id(path, parsed, hints)
    known = [item for item in chosen.items if item.image in chosen.frame_of]
    for item in chosen.items:
        if item.image not in chosen.frame_of:
            text = f"image_id {shortened_line(str(item.image), 40)} is not among the images"
            log.skip("image", f"{path}, item {item.position}: {text}", stage="detections")
    table = _table(path, known, chosen, log, names=(listing.categories if listing is not None else None) or None)
    reading = FileReading("COCO results", chosen.reading)
    return replace(table, size=chosen.size, reading=reading, warnings=(*chosen.warnings, *table.warnings))


class _Chosen(NamedTuple):
    """The items of the video, and what their images are.

    Attributes:
        items: without those of other videos.
        frame_of: image → frame.
        reading: one line that says how they were taken.
        warnings: what is not sure, and what is left out.
        length: frames of the video, or None.
        size: `(H, W)` of the frames, or None.
    """

    items: Sequence[_CocoItem]
    frame_of: Mapping[ImageId, int]
    reading: str
    warnings: list[RunWarning]
    length: int | None
    size: tuple[int, int] | None = None


def _by_id(path: Path, items: Sequence[_CocoItem], hints: FrameHints) -> _Chosen:
    """Without a list of images; results may name their video."""
    video = one_video((item.video for item in items if item.video is not None), hints, str(path))
    if video is None:
        refuse_video(hints, str(path))
    others = [item for item in items if item.video not in (None, video)]
    items = [item for item in items if item.video in (None, video)]
    frame_of, reading, is_sure = frames_of_ids((item.image for item in items), hints, str(path))
    settles = wording("images= or frame_base=", "--images FILE.json or --frame-base")
    message = f"{path}: {reading}: {settles} says otherwise"
    warnings = [] if is_sure else [RunWarning("detections", None, "frame-base", message)]
    if others:
        warnings.append(left_out(path, len(others), str(video)))
    return _Chosen(items, frame_of, reading, warnings, hints.length)


def _in_video(path: Path, items: Sequence[_CocoItem], listing: ImageList, hints: FrameHints) -> _Chosen:
    """With a list of images."""
    video = listing.of_video([item.image for item in items], hints, str(path))
    frame_of, reading, is_sure = video.frames(hints)
    warnings = [] if is_sure else [RunWarning("detections", None, "frame-base", f"{path}: {reading}")]
    foreign = listing.images.keys() - video.images.keys()
    kept = [item for item in items if item.image not in foreign]
    if len(kept) < len(items):
        warnings.append(left_out(path, len(items) - len(kept), video.name))
    return _Chosen(kept, frame_of, reading, warnings, hints.length or video.length, video.size)


class _CocoItem(NamedTuple):
    """One detection: its position in the file, its image; xyxy, score, class; its mask; its video, where it says so."""

    position: int
    image: ImageId
    numbers: tuple[float, ...]
    mask: EncodedMask | None
    video: str | None


def _table(
    path: Path,
    items: Sequence[_CocoItem],
    chosen: _Chosen,
    log: RunLog,
    *,
    names: Mapping[int, str] | None,
) -> DetectionTable:
    masks = [item.mask for item in items if item.mask is not None]
    numbers = np.array([item.numbers for item in items], np.float64).reshape(-1, 6)
    rows = RawDetections(
        np.array([chosen.frame_of[item.image] for item in items], np.float64),
        numbers[:, :4],
        numbers[:, 4],
        numbers[:, 5],
        masks if masks and len(masks) == len(items) else None,
        locate=lambda n: f"item {items[n].position}",
        advice=f"; {wording('images=', '--images FILE.json')} says which image is which frame",
    )
    table = build_table(rows, str(path), log, length=chosen.length, class_names=names)
    if not masks or rows.segmentation is not None:
        return table
    message = f"{path}: masks left out: only {len(masks)} of {len(items)} detections have one"
    warning = RunWarning("detections", None, "masks-left-out", message, {"count": len(masks)})
    return replace(table, warnings=(*table.warnings, warning))


def _parsed_items(path: Path, items: Sequence[object], listing: ImageList | None, log: RunLog) -> list[_CocoItem]:
    parsed, images = [], listing.images if listing is not None else {}
    for position, item in enumerate(items):
        try:
            video = item.get("video_id") if isinstance(item, Mapping) else None
            parsed.append(_CocoItem(position, *_parse(item, images), None if video is None else str(video)))
        except ValueError as error:
            log.skip("item", f"{path}, item {position}: {error}", stage="detections")
    return parsed


def _parse(item: Any, images: Mapping[ImageId, CocoImage]) -> tuple[ImageId, tuple[float, ...], EncodedMask | None]:
    """Image; xyxy, score, class; and the mask. `ValueError` says what is wrong."""
    if not isinstance(item, Mapping):
        raise ValueError(f"an object is expected, not {shortened(item, 40)}")
    if "image_id" not in item:
        raise ValueError("image_id is missing")
    image = image_id(item["image_id"])
    size = images[image].size if image in images else None
    mask = encoded_mask(item.get("segmentation"), size)
    if mask is not None and not {"size", "counts"} <= mask.keys():
        raise ValueError("segmentation needs `size` and `counts`")
    if item.get("bbox") is not None:
        x, y, w, h = _box(item["bbox"])
        box: tuple[float, ...] = (x, y, x + w, y + h)
    elif mask is not None:
        box = tuple(float(edge) for edge in decode_rle([mask]).boxes[0])
    else:
        raise ValueError("neither bbox nor segmentation")
    score = finite_number(item["score"], "score") if "score" in item else 1.0
    class_id = float(whole_number(item["category_id"], "category_id")) if "category_id" in item else -1.0
    return image, (*box, score, class_id), mask


def _box(value: Any) -> list[float]:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"bbox is [x, y, w, h], not {shortened(value, 40)}")
    return [finite_number(side, "a side of bbox") for side in value]


# --- lists of images --------------------------------------------------------------------------------------------------


class CocoImage(NamedTuple):
    """An entry of `images`.

    Attributes:
        id: as items name it.
        name: `file_name`, or empty.
        frame: `frame_id`, or None.
        size: `(H, W)`, or None.
    """

    id: ImageId
    name: str
    frame: int | None
    size: tuple[int, int] | None


@dataclass(frozen=True)
class ImageList:
    """The images of a COCO file by video.

    Attributes:
        source: what messages call it.
        videos: one after another.
        categories: names by class id.
    """

    source: str
    videos: Sequence[VideoImages]
    categories: Mapping[int, str]

    @cached_property
    def images(self) -> Mapping[ImageId, CocoImage]:
        """Of all videos by id."""
        return {key: image for video in self.videos for key, image in video.images.items()}

    def of_video(self, ids: Iterable[ImageId], hints: FrameHints, source: str) -> VideoImages:
        """The video that is asked for, the only one that results are of, or the one that is called as the frames are.

        Raises:
            InputError: there is none, or several could be meant.
        """
        if hints.video is not None:
            asked = [video for video in self.videos if hints.video in (video.name, video.id)]
            if len(asked) != 1:
                there = listed(video.name for video in self.videos)
                raise InputError(f"{self.source}: has no video {shortened_line(hints.video, 40)}; there: {there}")
            return asked[0]
        found = set(ids)
        having = [video for video in self.videos if found & video.images.keys()] or list(self.videos)
        if len(having) > 1:
            called = [video for video in having if hints.name in (video.name, PurePosixPath(video.name).stem)]
            having = called if len(called) == 1 else having
        if len(having) != 1:
            names = listed(video.name for video in having)
            raise InputError(
                f"{source}: detections of {len(having)} videos ({names}): give one as "
                f"{wording('video_name=', '--video-name')}"
            )
        return having[0]


@dataclass(frozen=True)
class VideoImages:
    """The images of one video.

    Attributes:
        id: of the video, as text.
        name: of the video.
        images: by id.
        source: what messages call the list.
    """

    id: str
    name: str
    images: Mapping[ImageId, CocoImage]
    source: str

    @property
    def length(self) -> int:
        """How many there are."""
        return len(self.images)

    @property
    def size(self) -> tuple[int, int] | None:
        """`(H, W)` of all of them, or None."""
        sizes = {image.size for image in self.images.values()}
        return next(iter(sizes)) if len(sizes) == 1 else None

    def frames(self, hints: FrameHints) -> tuple[Mapping[ImageId, int], str, bool]:
        """Image id → frame; how that was taken; whether it is sure.

        Raises:
            InputError: the video has another number of frames, and no name says which they are.
        """
        images = list(self.images.values())
        names = hints.names or {}
        named = {image.id: names[stem] for image in images if (stem := stem_of(image.name)) in names}
        if named:
            return named, f"images of {self.source} by the names of the pictures", True
        by_id = all(image.frame is not None for image in images)
        images.sort(key=lambda image: (image.frame if by_id else 0, _sortable(image.name)))
        key = "frame_id" if by_id else "file_name"
        if hints.length is not None and hints.length != len(images):
            raise InputError(
                f"{self.source}: {len(images)} images for a video of {hints.length} frames, and none is called as a "
                "picture: list every frame"
            )
        numbers = [image.frame or 0 for image in images]
        has_gaps = by_id and numbers != list(range(numbers[0], numbers[0] + len(numbers))) if numbers else False
        reading = f"images of {self.source} in the order of {key}" + (", which has gaps," if has_gaps else "")
        return {image.id: frame for frame, image in enumerate(images)}, reading, not has_gaps


def _image_list(path: Path, document: Any, images: Path | str | None) -> ImageList | None:
    """The images of the results' own document or of another; None where neither has them."""
    if images is not None:
        return read_image_list(Path(images))
    return _listed_images(path, document) if isinstance(document, Mapping) else None


def read_image_list(path: Path) -> ImageList:
    """Reads the `images`, `videos` and `categories` of a COCO file.

    Raises:
        InputError: it cannot be read, is no such file, or has an id twice.
    """
    return _listed_images(path, read_json(path))


def _listed_images(path: Path, document: Any) -> ImageList:
    try:
        videos = {str(video["id"]): str(video["name"]) for video in document.get("videos", ()) if "name" in video}
        images = [_image(image) for image in document["images"]]
        categories = category_names(document.get("categories", ()))
        of_video = _by_video(document["images"], images)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = shortened_line(repr(error) if isinstance(error, KeyError) else str(error))
        raise InputError(f"{path}: not a COCO file with `images` of id and file_name: {reason}") from error
    if len({image.id for image in images}) < len(images):
        raise InputError(f"{path}: an image id occurs twice")
    unnamed = path.stem if len(of_video) == 1 else None
    named = [
        VideoImages(key, videos.get(key, unnamed or key), {one.id: one for one in own}, str(path))
        for key, own in of_video.items()
    ]
    return ImageList(str(path), named, categories)


def _image(entry: JsonObject) -> CocoImage:
    frame = None if entry.get("frame_id") is None else whole_number(entry["frame_id"], "frame_id")
    name = str(entry["file_name"]) if frame is None or "file_name" in entry else ""
    return CocoImage(image_id(entry["id"]), name, frame, picture_size(entry))


def _by_video(entries: Sequence[JsonObject], images: Sequence[CocoImage]) -> dict[str, list[CocoImage]]:
    """By `video_id`, else by the folder of each file; a folder of pictures inside the video's does not count."""
    has_video = any(entry.get("video_id") is not None for entry in entries)
    videos: dict[str, list[CocoImage]] = {}
    for entry, image in zip(entries, images, strict=True):
        folders = [part for part in PurePosixPath(image.name).parts[:-1] if part.lower() not in IMAGE_FOLDERS]
        key = str(entry.get("video_id")) if has_video else folders[-1] if folders else ""
        videos.setdefault(key, []).append(image)
    return videos


def _sortable(name: str) -> tuple[tuple[int, int, str], ...]:
    """Orders names with numbers by their value."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)
