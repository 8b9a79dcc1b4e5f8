"""YOLO's text of tracks, as ultralytics saves it: a file for each frame, a line `class x y w h score id` per object.

Numbers are shares of the frame's size; x and y are the centre. With masks a line is `class x1 y1 x2 y2 … score id`.
`classes.txt` names the classes. Format: https://docs.ultralytics.com/modes/track/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trackweave.errors import InputError, SettingError, shortened_line, wording
from trackweave.formats.davis import frame_stem
from trackweave.formats.tables import AnnotationRows, finite_number, read_text, whole_number
from trackweave.formats.videos import TableVideo
from trackweave.masks.codecs import fill_polygons, join_polygons, mask_polygons
from trackweave.storage.files import filled_folder, safe_name
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import DEFAULT_CLASS, Losses, TrackedVideo, VideoInfo

CLASSES_FILE = "classes.txt"
MOST_CLASSES = 100_000
"""Lines of that file at most."""


def write_yolo(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes a folder of text; boxes, or with `shapes` `polygons` the outlines of masks.

    Raises:
        SettingError: the size of the frames is not known.
    """
    info = video.info
    if info.size is None:
        raise SettingError(f"yolo needs the size of the frames: name the video with {wording('frames=', '--frames')}")
    used = {span.class_id for span in video.spans().values()}
    none = max({*used, *info.class_names, -1}) + 1
    if none > MOST_CLASSES:
        raise SettingError(
            f"yolo: {path}: class {none - 1}: {CLASSES_FILE} has a line for each number up to it; csv and coco keep it"
        )
    stems = {
        int(index): safe_name(frame_stem(name), f"{path}: frame")
        for index, name in zip(info.indices, info.names, strict=True)
    }
    scale = np.array([info.size[1], info.size[0]], np.float64)
    with_outlines = video.has_masks and settings.shapes in ("polygons", "masks")
    files: list[Path] = []
    with filled_folder(path, files) as staging:
        for index, tracks in video.sized_frames() if with_outlines else video.frames(with_masks=False):
            lines = []
            if video.has_masks and not with_outlines:
                losses.add(
                    "masks", "objects lose their masks: shapes=polygons (--shapes polygons) keeps them", len(tracks)
                )
            boxes = tracks.xyxy.astype(np.float64)
            places = np.concatenate(
                [(boxes[:, :2] + boxes[:, 2:]) / 2 / scale, (boxes[:, 2:] - boxes[:, :2]) / scale], 1
            )
            polygons = (
                mask_polygons(tracks.masks, settings.tolerance) if with_outlines and tracks.masks is not None else None
            )
            rows = zip(
                tracks.class_id.tolist(),
                places.tolist(),
                tracks.score.astype(str).tolist(),
                tracks.track_id.tolist(),
                strict=True,
            )
            for n, (class_id, place, score, track_id) in enumerate(rows):
                if polygons is not None and polygons[n]:
                    place = (join_polygons(polygons[n]) / scale).reshape(-1).tolist()
                numbers = " ".join(f"{value:.10g}" for value in place)
                lines.append(f"{class_id if class_id >= 0 else none} {numbers} {score} {track_id}\n")
            (staging / f"{stems[int(index)]}.txt").write_text("".join(lines), encoding="ascii")
        names = [info.class_names.get(n, f"class_{n}") for n in range(none)] + [DEFAULT_CLASS] * (-1 in used)
        lines = [" ".join(name.splitlines()) + "\n" for name in names]
        (staging / CLASSES_FILE).write_text("".join(lines), encoding="utf-8")
    return files


def is_yolo(path: Path) -> bool:
    """Is it a folder with `classes.txt` and other text files?"""
    return (path / CLASSES_FILE).is_file()


def read_yolo(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads a folder of text; a frame without a file has no objects.

    Raises:
        InputError: no such files, lines without an id, or the size of the frames is not known.
    """
    if hints is None or hints.size is None:
        given = wording("frames=", "--frames")
        raise InputError(f"{path}: holds shares of the frames, whose size it does not say: give the video ({given})")
    files = {file.stem: file for file in sorted(path.glob("*.txt")) if file.name != CLASSES_FILE}
    if not files:
        raise InputError(f"{path}: holds no text files of frames")
    stems = {frame_stem(one): position for position, one in enumerate(hints.names)}
    height, width = hints.size
    rows = AnnotationRows(str(path))
    classes = read_text(path / CLASSES_FILE).splitlines() if (path / CLASSES_FILE).is_file() else []
    for stem, file in files.items():
        if stem not in stems:
            raise InputError(
                f"{file}: is none of the frames, which are named like {hints.names[0] if hints.names else '—'}"
            )
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            fields = line.split()
            if not fields:
                continue
            try:
                class_id = whole_number(fields[0], "class")
                label = classes[class_id] if 0 <= class_id < len(classes) else f"class_{class_id}"
                shown = rows.class_number(label) if label == DEFAULT_CLASS else class_id
                _add(rows, stems[stem], fields[1:], (height, width), shown)
            except (ValueError, OverflowError) as error:
                raise InputError(f"{file}, line {number}: {shortened_line(str(error))}") from error
    named = {n: one for n, one in enumerate(classes) if one not in (DEFAULT_CLASS, f"class_{n}")}
    shared: dict[str, Any] = {
        "frame_names": hints.names,
        "frame_numbers": hints.indices,
        "size": hints.size,
        "class_names": named,
    }
    return TableVideo(rows.table(**shared, times=hints.times, rate=hints.rate, video=hints.name))


def _add(rows: AnnotationRows, frame: int, fields: list[str], size: tuple[int, int], class_id: int) -> None:
    """Adds one line: a box with an id, or score and id; or an outline with both."""
    values = [finite_number(field, "a number") for field in fields]
    height, width = size
    if len(values) in (5, 6):
        x, y, w, h = (value * side for value, side in zip(values[:4], (width, height, width, height), strict=True))
        box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        rows.add(frame, values[-1], box, score=values[4] if len(values) == 6 else 1, class_id=class_id)
        return
    if len(values) < 8 or len(values) % 2:
        raise ValueError(f"{1 + len(values)} fields, expected class x y w h score id, or an outline, score and id")
    corners = [value * side for value, side in zip(values[:-2], (width, height) * (len(values) // 2 - 1), strict=True)]
    rows.add(frame, values[-1], mask=dict(fill_polygons([corners], *size)), score=values[-2], class_id=class_id)
