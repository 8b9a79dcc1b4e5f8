"""Writers of JSON formats of tracked videos: COCO-VID, COCO, TAO, YouTube-VIS, BURST, SA-V; readers of the last two.

COCO-VID, COCO and TAO list an object of one image per item, with `track_id`; YouTube-VIS a track with all its frames;
BURST and SA-V the objects of each frame. Everything is written as it comes; `formats.ytvis` reads the first four.

- COCO-VID: https://github.com/open-mmlab/mmtracking; COCO: https://cocodataset.org/#format-data
- TAO: https://github.com/TAO-Dataset/tao; BURST: https://github.com/Ali2500/BURST-benchmark
- SA-V: https://github.com/facebookresearch/sam2/tree/main/sav_dataset
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trackweave.errors import InputError, listed, shortened_line
from trackweave.formats.spool import TrackSpool
from trackweave.formats.tables import AnnotationRows, category_names, read_json, whole_number
from trackweave.formats.videos import MOST_UNLISTED, TableVideo, unlisted_names
from trackweave.formats.ytvis import VideoJson, frame_numbers, frame_rate, frame_times, picture_size
from trackweave.masks.codecs import RunLengths, encode_rle, mask_polygons
from trackweave.masks.packed import PackedMasks
from trackweave.storage.files import replacing
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import DEFAULT_CLASS, Losses, TrackedVideo, VideoInfo, shown_objects
from trackweave.structures.tracks import Tracks


def _write(
    path: Path, head: Mapping[str, Any], key: str, items: Iterable[str], tail: Callable[[], Mapping[str, Any]] = dict
) -> list[Path]:
    """Writes an object of JSON whose one long list is written item by item.

    Args:
        path: the file.
        head: what comes before the list.
        key: of the list.
        items: each as JSON.
        tail: gives what comes after the list, when it is written.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("{")
        for name, value in head.items():
            file.write(f"{json.dumps(name)}: {json.dumps(value)},\n")
        file.write(f"{json.dumps(key)}: [")
        for n, item in enumerate(items):
            file.write(f",\n{item}" if n else f"\n{item}")
        file.write("\n]")
        for name, value in tail().items():
            file.write(f",\n{json.dumps(name)}: {json.dumps(value)}")
        file.write("}\n")
    return [path]


@dataclass(frozen=True)
class _Categories:
    """The classes of a video as categories; objects without class have one of their own.

    Attributes:
        number: of the category of each class.
        entries: the list of the file.
    """

    number: Mapping[int, int]
    entries: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, info: VideoInfo, used: Iterable[int]) -> _Categories:
        """Those that are used or named."""
        classes = sorted({*used, *info.class_names} - {-1})
        number = {class_id: class_id for class_id in classes}
        if -1 in set(used) or not classes:
            number[-1] = max(classes, default=0) + 1
        entries = [{"id": number[one], "name": info.class_name(one), "supercategory": DEFAULT_CLASS} for one in number]
        return cls(number, entries)


def _encoded(tracks: Tracks, settings: FormatSettings) -> Iterator[str | None]:
    """The mask of each object as JSON: run lengths, or polygons where they are asked for; None without one."""
    masks = tracks.masks
    if masks is None or settings.shapes == "boxes":
        yield from [None] * len(tracks)
    elif settings.shapes == "polygons":
        for polygons in mask_polygons(masks, settings.tolerance):
            corners = [polygon.reshape(-1).tolist() for polygon in polygons]
            yield json.dumps(corners) if corners else None
    else:
        size = json.dumps(list(masks.size))
        for code, area in zip(encode_rle(masks), masks.areas.tolist(), strict=True):
            yield f'{{"size": {size}, "counts": {json.dumps(code["counts"])}}}' if area else None


def _boxes(tracks: Tracks) -> list[str]:
    """`[x, y, w, h]` of each object."""
    corner, opposite = tracks.xyxy[:, :2].astype(np.float64), tracks.xyxy[:, 2:].astype(np.float64)
    sides = np.concatenate([corner, opposite - corner], axis=1)
    return [json.dumps(row) for row in sides.tolist()]


def _items(
    video: TrackedVideo, settings: FormatSettings, categories: _Categories, extra: Callable[[int], str]
) -> Iterator[str]:
    """An item for each object of each image."""
    number = 0
    for position, (_, tracks) in enumerate(video.sized_frames()):
        if not len(tracks):
            continue
        areas = (tracks.xyxy[:, 2] - tracks.xyxy[:, 0]) * (tracks.xyxy[:, 3] - tracks.xyxy[:, 1])
        if tracks.masks is not None:
            areas = np.where(tracks.masks.areas > 0, tracks.masks.areas, areas)
        levels = [None] * len(tracks) if tracks.level is None else tracks.level.tolist()
        ids, classes, scores = tracks.track_id.tolist(), tracks.class_id.tolist(), tracks.score.astype(str).tolist()
        rows = zip(
            ids, classes, scores, areas.tolist(), levels, _boxes(tracks), _encoded(tracks, settings), strict=True
        )
        for track_id, class_id, score, area, level, box, mask in rows:
            number += 1
            yield (
                f'{{"id": {number}, "image_id": {position + 1}, "category_id": {categories.number[class_id]}, '
                f'"track_id": {track_id}, {extra(track_id)}"bbox": {box}, "area": {area:.9g}, "iscrowd": 0, '
                + (f'"segmentation": {mask}, ' if mask is not None else "")
                + (f'"level": {level}, ' if level is not None else "")
                + f'"score": {score}}}'
            )


def _images(info: VideoInfo, more: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every frame as an image; `frame_id` is its index."""
    size = {} if info.size is None else {"width": info.size[1], "height": info.size[0]}
    images = []
    for position, (index, name) in enumerate(zip(info.indices, info.names, strict=True)):
        time = {} if info.times is None else {"timestamp": float(info.times[position])}
        images.append({"id": position + 1, "file_name": name, "frame_id": int(index), **size, **time, **more})
    return images


def _video(info: VideoInfo) -> dict[str, Any]:
    size = {} if info.size is None else {"width": info.size[1], "height": info.size[0]}
    return {"id": 1, "name": info.name, **size, **({} if info.rate is None else {"fps": info.rate})}


def _classes(video: TrackedVideo) -> _Categories:
    used: set[int] = set()
    for _, tracks in video.frames(with_masks=False):
        used.update(tracks.class_id.tolist())
    return _Categories.of(video.info, used)


def write_coco_vid(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes COCO-VID."""
    categories = _classes(video)
    head = {
        "videos": [_video(video.info)],
        "categories": categories.entries,
        "images": _images(video.info, {"video_id": 1}),
    }
    items = _items(video, settings, categories, lambda track_id: f'"instance_id": {track_id}, "video_id": 1, ')
    return _write(path, head, "annotations", items)


def write_coco(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes COCO, each frame an image of its own; the ids also as attributes, as CVAT and datumaro have them."""
    categories = _classes(video)
    info = {"description": video.info.name} | ({} if video.info.rate is None else {"fps": video.info.rate})
    head = {"info": info, "licenses": [], "categories": categories.entries, "images": _images(video.info, {})}
    items = _items(video, settings, categories, lambda track_id: f'"attributes": {{"track_id": {track_id}}}, ')
    return _write(path, head, "annotations", items)


def write_tao(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes TAO: COCO-VID with a list of tracks."""
    info, spans, categories = video.info, video.spans(), _classes(video)
    described = {
        **_video(info),
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
        "metadata": {"dataset": "trackweave"},
    }
    images = [
        {**image, "frame_index": image["frame_id"], "video": info.name} for image in _images(info, {"video_id": 1})
    ]
    tracks = [
        {"id": track_id, "category_id": categories.number[span.class_id], "video_id": 1}
        for track_id, span in spans.items()
    ]
    head = {
        "info": {"description": info.name}, "licenses": [], "videos": [described],
        "categories": categories.entries, "tracks": tracks, "images": images,
    }  # fmt: skip
    return _write(path, head, "annotations", _items(video, settings, categories, lambda _: '"video_id": 1, '))


def write_ytvis(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes YouTube-VIS: a track is one item with its box and its mask on every frame."""
    info, spans, categories = video.info, video.spans(), _classes(video)
    described = {**_video(info), "file_names": list(info.names), "length": len(info.names)}
    described |= {"frame_ids": [int(index) for index in info.indices]}
    if info.times is not None:
        described["timestamps"] = [float(time) for time in info.times]
    head = {"info": {"description": info.name}, "videos": [described], "categories": categories.entries}
    with TrackSpool(path.parent) as spool:
        for position, (_, tracks) in enumerate(video.sized_frames()):
            areas = [0] * len(tracks) if tracks.masks is None else tracks.masks.areas.tolist()
            rows = zip(tracks.track_id.tolist(), _boxes(tracks), areas, _encoded(tracks, settings), strict=True)
            for track_id, box, area, mask in rows:
                spool.add(track_id, f"{position}\t{box}\t{mask or 'null'}\t{area or 'null'}")
        size = "" if info.size is None else f'"width": {info.size[1]}, "height": {info.size[0]}, '
        count = len(info.names)

        def items() -> Iterator[str]:
            for track_id, pieces in spool.tracks():
                columns = [["null"] * count for _ in range(3)]
                for piece in pieces:
                    position, *values = piece.split("\t")
                    for column, value in zip(columns, values, strict=True):
                        column[int(position)] = value
                boxes, masks, areas = (", ".join(column) for column in columns)
                category = categories.number[spans[track_id].class_id]
                yield (
                    f'{{"id": {track_id}, "video_id": 1, "category_id": {category}, "iscrowd": 0, {size}"length": 1, '
                    f'"bboxes": [{boxes}], "segmentations": [{masks}], "areas": [{areas}]}}'
                )

        return _write(path, head, "annotations", items())


def read_coco_tracks(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads COCO-VID, COCO with `track_id`, TAO or YouTube-VIS.

    Raises:
        InputError: as `VideoJson`, or several videos and none named.
    """
    document = VideoJson(path)
    names = list(document.videos)
    if name is None and len(names) != 1:
        raise InputError(f"{path}: has {len(names)} videos; name one (video=, --video-name): {listed(names)}")
    if name is not None and name not in document.videos:
        raise InputError(f"{path}: has no video {shortened_line(name)}; there: {listed(names)}")
    return TableVideo(document.table(names[0] if name is None else name), hints)


# --- BURST ------------------------------------------------------------------------------------------------------------


def write_burst(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes BURST: the masks of each frame by the id of their track."""
    info, spans, categories = video.info, video.spans(), _classes(video)
    names = list(info.names)
    sequence = {
        "id": 1, "seq_name": info.name, "dataset": "trackweave", "fps": info.rate,
        "all_image_paths": names, "annotated_image_paths": names, "frame_ids": [int(index) for index in info.indices],
        "neg_category_ids": [], "not_exhaustive_category_ids": [],
        "track_category_ids": {str(one): categories.number[span.class_id] for one, span in spans.items()},
    }  # fmt: skip
    if info.size is not None:
        sequence |= {"width": info.size[1], "height": info.size[0]}
    if info.times is not None:
        sequence["timestamps"] = [float(time) for time in info.times]

    def frames() -> Iterator[str]:
        for index, tracks in video.sized_frames():
            shown = shown_objects(index, "", tracks, losses, may_overlap=True)
            rows = [] if shown is None else zip(shown.track_id.tolist(), encode_rle(shown.masks), strict=True)
            yield (
                "{"
                + ", ".join(f'"{n}": {{"rle": {json.dumps(code["counts"])}, "is_gt": true}}' for n, code in rows)
                + "}"
            )

    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"split": "all", "categories": {json.dumps(categories.entries)},\n"sequences": [')
        file.write(f'{json.dumps(sequence)[:-1]},\n"segmentations": [')
        for n, frame in enumerate(frames()):
            file.write(f",\n{frame}" if n else f"\n{frame}")
        file.write("\n]}]}\n")
    return [path]


def read_burst(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads one sequence of BURST.

    Raises:
        InputError: it cannot be read, is no BURST, or several sequences and none named.
    """
    document = read_json(path)
    try:
        sequences = {str(one["seq_name"]): one for one in document["sequences"]}
        classes = category_names(document.get("categories", ()))
        if (name is None and len(sequences) != 1) or (name is not None and name not in sequences):
            raise InputError(f"{path}: name one of its sequences (video=, --video-name): {listed(sequences)}")
        sequence = sequences[next(iter(sequences)) if name is None else name]
        size = picture_size(sequence)
        if size is None:
            raise ValueError("width and height are missing")
        category = {str(one): number for one, number in sequence.get("track_category_ids", {}).items()}
        rows = AnnotationRows(str(path))
        for position, frame in enumerate(sequence["segmentations"]):
            for track_id, mask in frame.items():
                code = {"size": list(size), "counts": mask["rle"]}
                rows.add(position, track_id, mask=code, class_id=category.get(track_id, -1))
        images = sequence.get("annotated_image_paths") or sequence["all_image_paths"]
        shared: dict[str, Any] = {
            "frame_names": list(map(str, images)),
            "video": str(sequence["seq_name"]),
            "size": size,
        }
        shared |= {"frame_numbers": frame_numbers(sequence.get("frame_ids"), len(images)), "class_names": classes}
        shared |= {
            "times": frame_times(sequence.get("timestamps"), len(images)),
            "rate": frame_rate(sequence.get("fps")),
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: not BURST: {shortened_line(repr(error))}") from error
    return TableVideo(rows.table(**shared), hints)


# --- SA-V -------------------------------------------------------------------------------------------------------------


def write_sav(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes SA-V masklets: on each frame the masks of all objects, those not in view without a pixel."""
    info, spans = video.info, video.spans()
    ids, count = list(spans), len(info.names)
    size = info.size or (1, 1)
    nothing = json.dumps(dict(encode_rle(PackedMasks.empty(*size, 1))[0]))
    area = dict.fromkeys(ids, 0)
    seen: dict[int, list[int]] = {track_id: [] for track_id in ids}  # first and last frame, frames, changes
    position_of = {track_id: n for n, track_id in enumerate(ids)}

    def frames() -> Iterator[str]:
        for position, (index, tracks) in enumerate(video.sized_frames()):
            codes = [nothing] * len(ids)
            shown = shown_objects(index, "", tracks, losses, may_overlap=True)
            if shown is not None:
                rows = zip(shown.track_id.tolist(), shown.area.tolist(), encode_rle(shown.masks), strict=True)
                for track_id, pixels, code in rows:
                    codes[position_of[track_id]] = json.dumps(dict(code))
                    area[track_id] += pixels
                    one = seen[track_id]
                    if not one:
                        one.extend([position, position, 0, 0])
                    one[3] += position > one[1] + 1
                    one[1], one[2] = position, one[2] + 1
            yield f"[{', '.join(codes)}]"

    pixels = size[0] * size[1]
    rate = info.rate or settings.fps
    head = {
        "video_id": info.name, "video_duration": count / rate, "video_frame_count": count,
        "video_height": size[0], "video_width": size[1], "video_resolution": pixels,
        "video_environment": "", "video_split": "",
    }  # fmt: skip

    def tail() -> dict[str, Any]:
        facts = [seen[one] or [0, 0, 0, 0] for one in ids]
        mean = [area[one] / max(fact[2], 1) for one, fact in zip(ids, facts, strict=True)]
        return {
            "masklet_id": ids,
            "masklet_size_rel": [value / pixels for value in mean],
            "masklet_size_abs": mean,
            "masklet_size_bucket": ["small" if one < 32**2 else "medium" if one < 96**2 else "large" for one in mean],
            "masklet_visibility_changes": [fact[3] for fact in facts],
            "masklet_first_appeared_frame": [fact[0] for fact in facts],
            "masklet_frame_count": [count] * len(ids),
            "masklet_edited_frame_count": [0] * len(ids),
            "masklet_type": ["auto"] * len(ids),
            "masklet_stability_score": [None] * len(ids),
            "masklet_num": len(ids),
        }

    return _write(path, head, "masklet", frames(), tail)


def read_sav(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads SA-V masklets; objects without a pixel are not there.

    Raises:
        InputError: it cannot be read, or is no SA-V.
    """
    document = read_json(path)
    try:
        size = (
            whole_number(document["video_height"], "video_height"),
            whole_number(document["video_width"], "video_width"),
        )
        ids = document["masklet_id"]
        rows = AnnotationRows(str(path))
        for position, codes in enumerate(document["masklet"]):
            for track_id, code in zip(ids, codes, strict=True):
                if RunLengths.of(code).box is not None:
                    rows.add(position, track_id, mask=code)
        count = len(document["masklet"])
        whole, duration = (float(document.get(key) or 0) for key in ("video_frame_count", "video_duration"))
        shared: dict[str, Any] = {"length": count, "video": str(document["video_id"]), "size": size}
        if math.isfinite(whole) and count and count < whole < MOST_UNLISTED:  # every fourth frame, in the data set
            shared |= {
                "frame_numbers": [n * math.ceil(whole / count) for n in range(count)],
                "frame_names": unlisted_names(count),
            }
        shared |= {"rate": frame_rate(whole / duration) if duration > 0 else None}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: not SA-V: {shortened_line(repr(error))}") from error
    return TableVideo(rows.table(**shared), hints)
