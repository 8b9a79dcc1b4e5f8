"""MOTS: masks of tracked objects as text or as label images, of which no two overlap.

A line is `frame id class height width rle`, the run lengths as COCO has them; a pixel of an image of 16 bits is
`1000 · class + number`. Classes are 1 = car and 2 = pedestrian. KITTI MOTS counts frames from 0, MOTSChallenge from 1.
Format: https://www.vision.rwth-aachen.de/page/mots
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from trackweave.errors import ArtifactError, InputError, shortened_line, wording
from trackweave.formats.davis import LabelFolderVideo, export_davis, write_id_table
from trackweave.formats.tables import AnnotationRows, read_text, whole_number
from trackweave.formats.videos import TableVideo
from trackweave.masks.codecs import RunLengths, encode_rle
from trackweave.storage.files import locked_folder, remove_leftovers, replacing
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import (
    Losses,
    TrackedVideo,
    VideoInfo,
    shown_objects,
    without_overlap,
)

CLASSES: Mapping[int, str] = {1: "car", 2: "pedestrian"}
_NUMBERS: Mapping[str, int] = {"car": 1, "pedestrian": 2, "person": 2}
IGNORED_CLASS = 10
"""Regions that are not scored."""
PER_CLASS = 1000
"""Numbers of objects of a class in an image."""
LARGEST_CLASS = 64


def is_mots_line(line: str) -> bool:
    """Does a line have a number in its first five places and run lengths in its sixth, as no other format does?

    >>> is_mots_line("0 2005 2 4 6 04"), is_mots_line("0 2 Car 0 0 1 2 3 4 5"), is_mots_line("1,2,3,4,5,6,1")
    (True, False, False)
    """
    fields = line.split()
    return len(fields) == 6 and all(field.isdecimal() for field in fields[:5])


def _class_of(info: VideoInfo, class_id: int, losses: Losses) -> int:
    """The number that MOTS has for a class; 0 for none."""
    if not info.is_class(class_id):
        return 0
    name = info.class_name(class_id)
    number = _NUMBERS.get(name.lower(), class_id if 0 < class_id <= LARGEST_CLASS and class_id not in CLASSES else 0)
    if not number:
        losses.add("classes", "objects lose their class: MOTS has car, pedestrian and numbers from 3 on")
    elif number not in CLASSES and class_id in info.class_names:
        losses.add("class-names", "objects lose the name of their class: MOTS has numbers, car and pedestrian")
    return number


def write_mots(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes the text; where masks overlap, a pixel is the smaller object's."""
    base = settings.frame_base or 0
    with replacing(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        for index, tracks in video.sized_frames():
            shown = shown_objects(index, "", tracks, losses, may_overlap=False)
            if shown is None:
                continue
            masks = without_overlap(shown.masks)
            class_of = dict(zip(tracks.track_id.tolist(), tracks.class_id.tolist(), strict=True))
            for track_id, code, area in zip(
                shown.track_id.tolist(), encode_rle(masks), masks.areas.tolist(), strict=True
            ):
                if not area:
                    losses.add("hidden", "objects are left out that lie behind others")
                    continue
                kind = _class_of(video.info, class_of[track_id], losses)
                height, width = code["size"]
                file.write(f"{index + base} {track_id} {kind} {height} {width} {code['counts']}\n")
    return [path]


def read_mots(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads the text. Frames count from 0 where there is a frame 0, or a video of so many frames; else from 1.

    Raises:
        InputError: a bad line.
    """
    lines: list[tuple[int, list[str]]] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if fields:
            lines.append((number, fields))
    known = None if hints is None or not len(hints.names) else hints
    rows = AnnotationRows(str(path))
    size: tuple[int, int] | None = None
    at = 0
    try:
        frames = {whole_number(fields[0], "frame") for _, fields in lines}
        base = 0 if (known is not None and max(frames, default=0) < int(known.indices[-1]) + 1) or 0 in frames else 1
        base = base if known is not None or 0 in frames else 0
        for at, fields in lines:  # noqa: B007 - the message names the last one
            if len(fields) != 6:
                raise ValueError(f"{len(fields)} fields, expected frame id class height width rle")
            kind = whole_number(fields[2], "class")
            if kind == IGNORED_CLASS:
                continue
            height, width = (whole_number(fields[k], "a side") for k in (3, 4))
            mask = {"size": [height, width], "counts": fields[5]}
            size = size or (height, width)
            if RunLengths.of(mask).box is not None:
                rows.add(whole_number(fields[0], "frame") - base, fields[1], mask=mask, class_id=kind or -1)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}, line {at}: {shortened_line(str(error))}") from error
    return TableVideo(rows.table(class_names=CLASSES, size=size), hints)


def write_mots_png(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes label images of 16 bits and `ids.csv`, which says whose each label is.

    Raises:
        ArtifactError: ids that an image cannot hold.
    """
    spans, info = video.spans(), video.info
    if info.size is None:
        raise ArtifactError(f"{info.name}: the size of its frames is not known")
    numbers = {}
    counts: dict[int, int] = {}
    for track_id, span in spans.items():
        kind = _class_of(info, span.class_id, losses)
        counts[kind] = counts.get(kind, 0) + 1
        number = track_id if settings.ids == "run" else counts[kind]
        if not 0 < number < PER_CLASS:
            remedy = wording("ids='level' numbers them from 1", "--ids level numbers them from 1")
            raise ArtifactError(f"{path}: id {track_id} does not fit an image of MOTS (1 … {PER_CLASS - 1}): {remedy}")
        numbers[track_id] = PER_CLASS * kind + number
    with locked_folder(path, wait=True):
        remove_leftovers([path])
        names = dict(zip(info.indices, info.names, strict=True))
        objects = (
            shown
            for index, tracks in video.frames()
            if (shown := shown_objects(index, names[int(index)], tracks, losses, may_overlap=False)) is not None
        )
        files = export_davis(objects, path, info.size, list(info.names), numbers=numbers, bits=16, log=losses.log)
        return [*files, *write_id_table(path, numbers)]


def read_mots_png(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Opens a folder of label images; an object is its label where no table beside them says more.

    Raises:
        InputError: there are none.
    """

    def class_of(label: int) -> int:
        return label // PER_CLASS or -1

    found = LabelFolderVideo(
        path, hints, classes=class_of, ignored=lambda label: label // PER_CLASS == IGNORED_CLASS, is_sure=True
    )
    found.info = replace(found.info, class_names=CLASSES)
    return found
