"""Label Studio's video boxes: a task whose regions are objects, each with a sequence of key frames.

Frames count from 1, places are percent of the frame. A key frame that is `enabled` holds until the next one, boxes
between them move evenly; one that is not is the last of an appearance.
Format: https://labelstud.io/tags/videorectangle
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from trackweave.errors import InputError, SettingError, shortened_line, wording
from trackweave.formats.spool import TrackSpool
from trackweave.formats.tables import AnnotationRows, finite_number, read_json, whole_number
from trackweave.formats.videos import LONGEST_FILLED, MOST_UNLISTED, TableVideo
from trackweave.formats.ytvis import frame_rate
from trackweave.storage.files import replacing
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import DEFAULT_CLASS, Losses, TrackedVideo, VideoInfo

LABEL_TAG, VIDEO_TAG = "box", "video"
"""Names of the tags in the labelling configuration, which says `<VideoRectangle name="box" toName="video"/>`."""


def write_label_studio(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes one task with one annotation; `data.video` is the video's name: put its address there.

    Raises:
        SettingError: the size of the frames is not known.
    """
    info = video.info
    if info.size is None:
        given = wording("frames=", "--frames")
        raise SettingError(f"label-studio needs the size of the frames: name the video with {given}")
    height, width = info.size
    labels = {track_id: info.class_name(span.class_id) for track_id, span in video.spans().items()}
    count = int(info.indices[-1]) + 1 if len(info.indices) else 0
    rate = info.rate or settings.fps
    facts = f'"framesCount": {count}, "duration": {count / rate:.9g}'
    with TrackSpool(path.parent) as spool, replacing(path) as temporary:
        for index, tracks in video.frames(with_masks=False):
            time = info.time_of(int(index))
            seconds = int(index) / rate if time is None else time
            for track_id, (x1, y1, x2, y2) in zip(tracks.track_id.tolist(), tracks.xyxy.tolist(), strict=True):
                spool.add(
                    track_id,
                    f'{index}\t"x": {100 * x1 / width:.10g}, "y": {100 * y1 / height:.10g}, '
                    f'"width": {100 * (x2 - x1) / width:.10g}, "height": {100 * (y2 - y1) / height:.10g}, '
                    f'"rotation": 0, "time": {seconds:.9g}',
                )
        following = dict(pairwise(map(int, info.indices)))
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            data = json.dumps({"video": info.name})
            file.write(f'[{{"data": {data}, "annotations": [{{"result": [')
            for n, (track_id, pieces) in enumerate(spool.tracks()):
                frames = ",\n".join(_key_frames(pieces, following))
                label = json.dumps([labels[track_id]])
                file.write(
                    f'{"," if n else ""}\n{{"id": "{track_id}", "type": "videorectangle", "from_name": "{LABEL_TAG}", '
                    f'"to_name": "{VIDEO_TAG}", "origin": "prediction", "value": {{{facts}, "labels": {label}, '
                    f'"sequence": [\n{frames}]}}}}'
                )
            file.write("\n]}]}]\n")
    return [path]


def _key_frames(pieces: Iterator[str], following: Mapping[int, int]) -> Iterator[str]:
    """A key frame for each frame; the last of an appearance is not enabled."""
    rows = [piece.split("\t") for piece in pieces]
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        goes_on = after is not None and following.get(int(row[0])) == int(after[0])
        yield f'{{"frame": {int(row[0]) + 1}, "enabled": {json.dumps(goes_on)}, {row[1]}}}'


def is_label_studio(document: Any) -> bool:
    """Is it a list of tasks?"""
    return isinstance(document, list) and bool(document) and isinstance(document[0], dict) and "data" in document[0]


def read_label_studio(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads the first annotation, else the first prediction, of a task of an export as JSON.

    A region whose id is a number is that object; others are numbered after them.

    Raises:
        InputError: not such tasks, several and none named by its video, or the size of the frames is not known.
    """
    if hints is None or hints.size is None:
        given = wording("frames=", "--frames")
        raise InputError(f"{path}: holds shares of the frames, whose size it does not say: give the video ({given})")
    document = read_json(path)
    rows = AnnotationRows(str(path))
    count, rate = 0, None
    try:
        tasks = {str(task["data"].get("video", n)): task for n, task in enumerate(document)}
        if (name is None and len(tasks) != 1) or (name is not None and name not in tasks):
            raise InputError(f"{path}: holds {len(tasks)} tasks: name one by its video (video=, --video-name)")
        video, task = next((key, task) for key, task in tasks.items() if name in (None, key))
        answers = [*(task.get("annotations") or ()), *(task.get("predictions") or ())]
        regions = [one for one in (answers[0]["result"] if answers else []) if one.get("type") == "videorectangle"]
        known = {
            str(one["id"]): int(one["id"]) for one in regions if str(one["id"]).isdecimal() and len(str(one["id"])) < 18
        }
        free = max(known.values(), default=0)
        for one in regions:
            track_id = known.get(str(one["id"]))
            if track_id is None:
                free, track_id = free + 1, free + 1
            value = one["value"]
            count = max(count, whole_number(value.get("framesCount", 0), "framesCount"))
            rate = rate or frame_rate(count / value["duration"] if value.get("duration") else None)
            label = str(next(iter(value.get("labels") or [DEFAULT_CLASS])))
            keys = {whole_number(key["frame"], "frame") - 1 for key in value["sequence"]}
            for frame, box in _boxes(value["sequence"], hints.size, min(count, MOST_UNLISTED)):
                if frame not in keys and len(hints.names) and frame not in hints.positions:
                    continue  # between two frames of the video
                rows.add(frame, track_id, box, class_id=rows.class_number(label))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise InputError(f"{path}: not Label Studio's video boxes: {shortened_line(repr(error))}") from error
    shared: dict[str, Any] = {
        "length": count if count < MOST_UNLISTED else None,
        "video": video,
        "size": hints.size,
        "rate": rate,
    }
    return TableVideo(rows.table(**shared), hints)


def _boxes(
    sequence: Sequence[Mapping[str, Any]], size: tuple[int, int], count: int
) -> Iterator[tuple[int, tuple[float, ...]]]:
    """The boxes of an object on every frame, those between key frames too."""
    height, width = size
    keys: list[tuple[int, bool, tuple[float, ...]]] = []
    for key in sequence:
        x, y, w, h = (finite_number(key[side], side) for side in ("x", "y", "width", "height"))
        box = (x * width / 100, y * height / 100, (x + w) * width / 100, (y + h) * height / 100)
        keys.append((whole_number(key["frame"], "frame") - 1, bool(key.get("enabled", True)), box))
    keys.sort(key=lambda key: key[0])
    for (frame, is_enabled, place), after in zip(keys, [*keys[1:], None][: len(keys)], strict=True):
        yield frame, place
        if not is_enabled:
            continue
        if (count if after is None else after[0]) - frame > LONGEST_FILLED:
            raise ValueError(f"frame {count if after is None else after[0] + 1} is too far after frame {frame + 1}")
        if after is None:  # it stays until the end
            yield from ((later, place) for later in range(frame + 1, count))
            continue
        for between in range(frame + 1, after[0]):
            share = (between - frame) / (after[0] - frame)
            yield between, tuple(a + share * (b - a) for a, b in zip(place, after[2], strict=True))
