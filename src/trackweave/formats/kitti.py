"""KITTI tracking text: `frame id type truncated occluded alpha x1 y1 x2 y2 h w l x y z ry [score]`, blanks between.

Frames and pixels count from 0. Format: the development kit of http://www.cvlibs.net/datasets/kitti/eval_tracking.php.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trackweave.errors import InputError, shortened
from trackweave.formats.tables import AnnotationTable, finite_number, in_frame_order, read_text, repeated, whole_number
from trackweave.formats.videos import TableVideo
from trackweave.storage.files import replacing
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import Losses, TrackedVideo, VideoInfo

KITTI_CLASSES: Mapping[int, str] = dict(
    enumerate(("car", "van", "truck", "pedestrian", "person", "cyclist", "tram", "misc", "dontcare"), start=1)
)
"""The types in lower case; the numbers are ours, in the order of the development kit."""
KITTI_TYPES: Mapping[str, str] = {
    name: name.capitalize() for name in ("car", "van", "truck", "pedestrian", "cyclist", "tram", "misc")
} | {"person": "Person_sitting"}
"""What each is called in a file."""
DONT_CARE = "dontcare"
_MISC = "misc"  # also what has no class
_ALIASES = {"person_sitting": "person", "car_2": "car"}
MAX_TRUNCATION = 0
MAX_OCCLUSION = 2


class _KittiRow(NamedTuple):
    frame: int
    track_id: int
    class_id: int
    xyxy: tuple[float, ...]
    score: float
    is_hard: bool


def is_kitti_line(line: str) -> bool:
    """Does a line have the name of a type in its third place, as no other text format does?

    >>> is_kitti_line("0 2 Car 0 0 -1.6 564 172 654 257 1 1 1 0 0 0 0"), is_kitti_line("1,2,3,4,5,6,1")
    (True, False)
    """
    fields = line.split()
    return len(fields) >= 10 and fields[2].replace("_", "").isalpha()


def read_kitti_annotations(path: Path | str, *, length: int | None = None) -> AnnotationTable:
    """Reads a file of labels or of results; a missing score is 1.

    Args:
        path: the file.
        length: frames of the video, when known.

    Raises:
        InputError: missing or unreadable, a bad line, a frame beyond `length`, or one id twice on a frame.
    """
    path = Path(path)
    numbers = {name: number for number, name in KITTI_CLASSES.items()}
    parsed: list[_KittiRow] = []
    lines: list[int] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            parsed.append(_parse(fields, numbers, length))
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        lines.append(number)
    frame = np.array([line.frame for line in parsed], np.int64)
    order = in_frame_order(frame)
    rows = [parsed[n] for n in order.tolist()]
    frame, track_id = frame[order], np.array([line.track_id for line in rows], np.int64)
    twice = repeated(frame, track_id)
    if twice is not None:
        first, second = (lines[order[n]] for n in twice)
        raise InputError(
            f"{path}, line {second}: id {track_id[twice[0]]} is on frame {frame[twice[0]]} already in line {first}"
        )
    class_id = np.array([line.class_id for line in rows], np.int64)
    return AnnotationTable(
        source=str(path),
        frame=frame,
        track_id=track_id,
        xyxy=np.array([line.xyxy for line in rows], np.float64).reshape(-1, 4),
        score=np.array([line.score for line in rows], np.float64),
        class_id=class_id,
        counts=class_id != numbers[DONT_CARE],
        is_hard=np.array([line.is_hard for line in rows], np.bool_),
        class_names=KITTI_CLASSES,
        length=length,
    )


def _parse(fields: list[str], numbers: Mapping[str, int], length: int | None) -> _KittiRow:
    """One line; `ValueError` says what is wrong with it."""
    if not 10 <= len(fields) <= 18:
        raise ValueError(f"{len(fields)} fields, expected frame id type truncated occluded alpha x1 y1 x2 y2 …")
    name = fields[2].lower()
    class_id = numbers.get(_ALIASES.get(name, name))
    if class_id is None:
        raise ValueError(f"type {shortened(fields[2], 30)} is none of KITTI's: {', '.join(numbers)}")
    frame, track_id = whole_number(fields[0], "frame"), whole_number(fields[1], "id")
    truncation = int(finite_number(fields[3], "truncation"))
    occlusion = int(finite_number(fields[4], "occlusion"))
    box = tuple(finite_number(field, "a side of the box") for field in fields[6:10])
    score = finite_number(fields[17], "score") if len(fields) == 18 else 1.0
    if frame < 0 or (length is not None and frame >= length):
        raise ValueError(f"frame {frame}: frames count from 0" + ("" if length is None else f" to {length - 1}"))
    if box[2] < box[0] or box[3] < box[1]:
        raise ValueError("a box whose right or bottom lies before its left or top")
    if track_id < 0 and name != DONT_CARE:
        raise ValueError(f"id {track_id} of a {name}: only DontCare has none")
    is_hard = truncation > MAX_TRUNCATION or occlusion > MAX_OCCLUSION
    return _KittiRow(frame, track_id, class_id, box, score, is_hard)


NO_3D = "-1 -1 -1 -1000 -1000 -1000 -10"
"""Height, width, length, place and turn of an object of which only the box in the image is known."""


def write_kitti(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes results: what is in the image, with a score; a class that is none of KITTI's is `Misc`."""
    with replacing(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        for index, tracks in video.frames(with_masks=False):
            boxes, scores = tracks.xyxy.astype(str).tolist(), tracks.score.astype(str).tolist()
            rows = zip(tracks.track_id.tolist(), tracks.class_id.tolist(), boxes, scores, strict=True)
            for track_id, class_id, box, score in rows:
                name = video.info.class_name(class_id).lower()
                name = _ALIASES.get(name, name)
                if name not in KITTI_TYPES and video.info.is_class(class_id):
                    losses.add("classes", "objects of a class that KITTI has no type for are Misc")
                kind = KITTI_TYPES.get(name, KITTI_TYPES[_MISC])
                file.write(f"{index} {track_id} {kind} -1 -1 -10 {' '.join(box)} {NO_3D} {score}\n")
    return [path]


def read_kitti(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads labels or results as a video, without DontCare.

    Raises:
        InputError: as `read_kitti_annotations`.
    """
    found = TableVideo(read_kitti_annotations(path), hints)
    found.info = replace(found.info, default_class=_MISC)
    return found
