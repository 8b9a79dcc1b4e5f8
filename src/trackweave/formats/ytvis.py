"""Tracks of many videos in one JSON: YouTube-VIS (a track per item) and COCO-VID (an object of one image per item).

Ground truth of both is `{"videos": […], "categories": […], "annotations": […]}`; COCO-VID lists `images`, too.

- YouTube-VIS: an annotation has `video_id`, `category_id` and, per frame, `segmentations` (COCO RLE, polygons or null)
  and `bboxes`. Results are a list of such items with `score`; each is a track of its own.
  https://github.com/youtubevos/cocoapi
- COCO-VID: an annotation has `image_id`, `category_id`, `bbox`, `segmentation`, and its identity as `track_id` or
  `instance_id`. Results are a list of such items, or a whole document. https://github.com/open-mmlab/mmtracking

Frames are the order of `file_names`, or of the images by `frame_id`. Pixels count from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trackweave.errors import InputError, shortened, shortened_line, wording
from trackweave.formats.tables import (
    NO_BOX,
    AnnotationTable,
    EncodedMask,
    JsonObject,
    category_names,
    finite_number,
    in_frame_order,
    read_json,
    repeated,
    whole_number,
)
from trackweave.masks.codecs import fill_polygons


class VideoJsonKind(StrEnum):
    """The layout of a document."""

    ytvis = "ytvis"
    coco_vid = "coco-vid"


@dataclass(frozen=True)
class VideoEntry:
    """One video of a document.

    Attributes:
        id: as its items name it.
        name: of the video: `name`, else the folder of its first file, else the id.
        frame_names: file name of each frame.
        size: `(H, W)`, or None.
        frame_of_image: COCO-VID's image id → frame; empty for YouTube-VIS.
        numbers: index of each frame in the video, where the file says them.
        times: seconds of each frame, where the file says them.
        rate: frames per second, where the file says it.
    """

    id: int
    name: str
    frame_names: Sequence[str]
    size: tuple[int, int] | None
    frame_of_image: Mapping[int, int]
    numbers: Sequence[int] | None = None
    times: Sequence[float] | None = None
    rate: float | None = None


class _ObjectRow(NamedTuple):
    frame: int
    track_id: int
    xyxy: tuple[float, ...]
    score: float
    class_id: int
    counts: bool
    segmentation: EncodedMask | None
    level: int = -1


LARGEST_RATE = 1e6
LONGEST_NAME = 200
"""Characters of a video's name."""


class VideoJson:
    """A document, parsed; each video becomes an `AnnotationTable` when it is asked for.

    Attributes:
        path: the file.
        kind: its layout.
        videos: by name, in the order of the file.
        categories: number → name; empty where the file has none.

    Raises:
        InputError: unreadable, no JSON, neither layout, a list of results without the document that names its videos,
            or an item of a video or image that is not listed.
    """

    def __init__(self, path: Path | str, truth: VideoJson | None = None) -> None:
        self.path = Path(path)
        document = read_json(self.path)
        items = document if isinstance(document, list) else None
        try:
            if items is None:
                items = list(document["annotations"])
                self.categories: Mapping[int, str] = category_names(document.get("categories", ()))
                self.kind, self.videos = _videos(document, self.path)
            elif truth is None:
                raise InputError(
                    f"{self.path}: a list of results: it needs ground truth of the same kind{wording('', ' (--gt)')}"
                )
            else:
                self.kind, self.videos, self.categories = truth.kind, truth.videos, truth.categories
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = shortened_line(repr(error))
            raise InputError(f"{self.path}: neither YouTube-VIS nor COCO-VID: {reason}") from error
        self._items = self._by_video(items)

    @property
    def has_masks(self) -> bool | None:
        """Has any item a mask? None when there are no items."""
        items = [item for own in self._items.values() for _, item in own]
        if not items:
            return None
        key = "segmentations" if self.kind is VideoJsonKind.ytvis else "segmentation"
        return any(item.get(key) for item in items)

    @property
    def used_categories(self) -> Sequence[int]:
        """Numbers of the categories that items have, ascending.

        Raises:
            InputError: one is no number.
        """
        items = [numbered for own in self._items.values() for numbered in own]
        try:
            return sorted({whole_number(item.get("category_id", -1), "category_id") for _, item in items})
        except ValueError as error:
            raise InputError(f"{self.path}: {error}") from error

    def table(self, name: str) -> AnnotationTable:
        """The objects of one video.

        Raises:
            InputError: an item is bad (named by its position in the file), or an identity is twice on a frame.
        """
        video = self.videos[name]
        rows: list[_ObjectRow] = []
        for position, item in self._items[video.id]:
            try:
                if self.kind is VideoJsonKind.ytvis:
                    rows += _ytvis_rows(item, position, video)
                else:
                    rows.append(_coco_row(item, video))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                missing = shortened_line(f"{error} is missing" if isinstance(error, KeyError) else str(error))
                raise InputError(f"{self.path}, item {position}: {missing}") from error
        return self._table(video, rows)

    def _by_video(self, items: Sequence[Any]) -> dict[int, list[tuple[int, Any]]]:
        video_of_image = {image: video.id for video in self.videos.values() for image in video.frame_of_image}
        items_of: dict[int, list[tuple[int, Any]]] = {video.id: [] for video in self.videos.values()}
        for position, item in enumerate(items):
            key = "video_id" if self.kind is VideoJsonKind.ytvis else "image_id"
            try:
                number = whole_number(item[key], key)
                item.get("category_id")
            except (KeyError, TypeError, ValueError, AttributeError):
                raise InputError(f"{self.path}, item {position}: an object with {key} is expected") from None
            video = number if self.kind is VideoJsonKind.ytvis else video_of_image.get(number)
            if video is None or video not in items_of:
                raise InputError(f"{self.path}, item {position}: {key} {number} is not in the list of the ground truth")
            items_of[video].append((position, item))
        return items_of

    def _table(self, video: VideoEntry, rows: list[_ObjectRow]) -> AnnotationTable:
        where = f"{self.path}, video {video.name}"
        frame = np.array([row.frame for row in rows], np.int64)
        order = in_frame_order(frame)
        rows, frame = [rows[n] for n in order.tolist()], frame[order]
        track_id = np.array([row.track_id for row in rows], np.int64)
        twice = repeated(frame, track_id)
        if twice is not None:
            raise InputError(f"{where}: identity {track_id[twice[0]]} is twice on frame {frame[twice[0]]}")
        masks = [row.segmentation for row in rows]
        level = np.array([row.level for row in rows], np.int64)
        return AnnotationTable(
            source=where,
            frame=frame,
            track_id=track_id,
            xyxy=np.array([row.xyxy for row in rows], np.float64).reshape(-1, 4),
            score=np.array([row.score for row in rows], np.float64),
            class_id=np.array([row.class_id for row in rows], np.int64),
            counts=np.array([row.counts for row in rows], np.bool_),
            is_hard=np.zeros(len(rows), np.bool_),
            class_names=self.categories,
            length=len(video.frame_names),
            size=video.size,
            frame_names=video.frame_names,
            segmentation=masks if any(entry is not None for entry in masks) else None,
            level=level if len(rows) and (level >= 0).all() else None,
            frame_numbers=video.numbers,
            times=video.times,
            rate=video.rate,
            video=video.name,
        )


def _videos(document: JsonObject, path: Path) -> tuple[VideoJsonKind, dict[str, VideoEntry]]:
    """The layout, and the videos by name."""
    if "images" in document:
        kind, entries = VideoJsonKind.coco_vid, _coco_videos(document, path)
    else:
        kind, entries = VideoJsonKind.ytvis, [_ytvis_video(video) for video in document["videos"]]
    videos = {entry.name: entry for entry in entries}
    if len(videos) < len(entries):
        raise ValueError("two videos have one name")
    return kind, videos


def _ytvis_video(video: JsonObject) -> VideoEntry:
    names = [str(name) for name in video["file_names"]]
    number, name = whole_number(video["id"], "a video's id"), _video_name(video, names)
    numbers, times = frame_numbers(video.get("frame_ids"), len(names)), frame_times(video.get("timestamps"), len(names))
    return VideoEntry(number, name, names, picture_size(video), {}, numbers, times, frame_rate(video.get("fps")))


def frame_numbers(values: Any, count: int) -> list[int] | None:
    """Indices of the frames as a file says them; None where it does not, or they are not those of `count` frames."""
    try:
        numbers = [whole_number(value, "frame_id") for value in values]
    except (TypeError, ValueError):
        return None
    is_rising = all(earlier < later for earlier, later in pairwise([-1, *numbers]))
    return numbers if len(numbers) == count and is_rising else None


def frame_times(values: Any, count: int) -> list[float] | None:
    """Seconds of the frames as a file says them; None where it does not, or they are not those of `count` frames."""
    try:
        times = [finite_number(value, "timestamp") for value in values]
    except (TypeError, ValueError):
        return None
    return times if len(times) == count else None


def frame_rate(value: Any) -> float | None:
    """Frames per second as a file says them, or None."""
    try:
        rate = finite_number(value, "fps")
    except ValueError:
        return None
    return rate if 0 < rate < LARGEST_RATE else None


def _coco_videos(document: JsonObject, path: Path) -> list[VideoEntry]:
    """Without a list of videos, the images are those of one."""
    images: dict[int, list[JsonObject]] = {}
    for image in document["images"]:
        images.setdefault(whole_number(image.get("video_id", 0), "video_id"), []).append(image)
    listed = {whole_number(video["id"], "a video's id"): video for video in document.get("videos", ())}
    entries = []
    for number, own in images.items():
        key = "frame_id" if all("frame_id" in image for image in own) else "file_name"
        own.sort(key=lambda image, key=key: image[key])  # type: ignore[misc]
        names = [str(image.get("file_name", image["id"])) for image in own]
        alone = {"name": _info_of(document).get("description") or path.stem} if len(images) == 1 else {"id": number}
        described = listed.get(number) or alone
        frame_of_image = {whole_number(image["id"], "an image's id"): frame for frame, image in enumerate(own)}
        numbers = frame_numbers([image.get("frame_id") for image in own], len(own))
        times = frame_times([image.get("timestamp") for image in own], len(own))
        rate = frame_rate(described.get("fps") or _info_of(document).get("fps"))
        name, size = _video_name(described, names), picture_size(own[0])
        entries.append(VideoEntry(number, name, names, size, frame_of_image, numbers, times, rate))
    return entries


def _info_of(document: JsonObject) -> JsonObject:
    info = document.get("info")
    return info if isinstance(info, Mapping) else {}


def _video_name(video: JsonObject, files: Sequence[str]) -> str:
    if "name" in video:
        return shortened_line(str(video["name"]), LONGEST_NAME)
    folder = shortened_line(Path(files[0]).parent.name, LONGEST_NAME) if files else ""
    return folder or str(video["id"])


def picture_size(entry: JsonObject) -> tuple[int, int] | None:
    """`(H, W)` of a video or an image, None where it does not say."""
    if entry.get("height") is None or entry.get("width") is None:
        return None
    height, width = (whole_number(entry[key], key) for key in ("height", "width"))
    if height < 1 or width < 1:
        raise ValueError(f"a picture has at least one pixel, not {height}×{width}")
    return height, width


def _ytvis_rows(item: JsonObject, position: int, video: VideoEntry) -> Iterable[_ObjectRow]:
    """A track's rows; one without `id`, as results are, is named by its position."""
    masks, boxes = item.get("segmentations"), item.get("bboxes")
    length = len(video.frame_names)
    for name, values in (("segmentations", masks), ("bboxes", boxes)):
        if values is not None and len(values) != length:
            raise ValueError(f"{name} of {len(values)} frames, but video {video.name} has {length}")
    if masks is None and boxes is None:
        raise ValueError("neither segmentations nor bboxes")
    track_id, score = whole_number(item.get("id", position), "id"), finite_number(item.get("score", 1.0), "score")
    class_id, counts = whole_number(item.get("category_id", -1), "category_id"), not item.get("iscrowd", 0)
    for frame in range(length):
        mask = encoded_mask(masks[frame], video.size) if masks is not None else None
        box = boxes[frame] if boxes is not None else None
        if mask is not None or box:
            yield _ObjectRow(frame, track_id, _corners(box) if box else NO_BOX, score, class_id, counts, mask)


def _coco_row(item: JsonObject, video: VideoEntry) -> _ObjectRow:
    key = next((key for key in ("track_id", "instance_id") if key in item), None)
    if key is None:
        raise ValueError("neither track_id nor instance_id")
    mask = encoded_mask(item.get("segmentation"), video.size)
    if mask is None and not item.get("bbox"):
        raise ValueError("neither bbox nor segmentation")
    return _ObjectRow(
        video.frame_of_image[whole_number(item["image_id"], "image_id")],
        whole_number(item[key], key),
        _corners(item["bbox"]) if item.get("bbox") else NO_BOX,
        finite_number(item.get("score", 1.0), "score"),
        whole_number(item.get("category_id", -1), "category_id"),
        not item.get("iscrowd", 0),
        mask,
        -1 if item.get("level") is None else whole_number(item["level"], "level"),
    )


def _corners(box: Sequence[Any]) -> tuple[float, ...]:
    sides = [finite_number(side, "a side of bbox") for side in box]
    if len(sides) != 4 or sides[2] < 0 or sides[3] < 0:
        raise ValueError(f"bbox {shortened(box)} is not [x, y, w, h] of a box")
    x, y, w, h = sides
    return x, y, x + w, y + h


def encoded_mask(mask: Any, size: tuple[int, int] | None) -> EncodedMask | None:
    """RLE as it is, polygons filled as the COCO API does; None for none.

    Args:
        mask: what a file has as `segmentation`.
        size: `(H, W)` of the picture, which polygons need.

    Raises:
        ValueError: a bad polygon, or one in a picture of unknown or absurd size.
    """
    if not mask:
        return None
    if isinstance(mask, Mapping):
        return mask
    if not isinstance(mask, list) or not all(isinstance(polygon, list) for polygon in mask):
        raise ValueError(f"a segmentation is RLE or a list of polygons, not {shortened(mask, 40)}")
    if size is None:
        raise ValueError("a polygon, and the video has no height and width")
    polygons = [[finite_number(value, "a polygon's corner") for value in polygon] for polygon in mask]
    return dict(fill_polygons(polygons, *size))
