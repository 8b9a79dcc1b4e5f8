"""CVAT's XML 1.1 for videos: a track with a shape for each frame; boxes, polygons, and masks as run lengths.

What an object is called in CVAT changes with every export of it; so each shape has our id as the attribute `track_id`,
which the labels of the task have to have (`cvat_labels`). CVAT does not track masks: each becomes a shape of one frame
there, and the attribute alone says which of them are one object.
Format: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, shortened_line
from trackweave.formats.spool import TrackSpool
from trackweave.formats.tables import NO_BOX, AnnotationRows, finite_number, read_text, whole_number
from trackweave.formats.videos import LONGEST_FILLED, MOST_UNLISTED, NumberedNames, TableVideo
from trackweave.masks.codecs import check_pixels, encode_rle, fill_polygons, join_polygons, mask_polygons
from trackweave.masks.ops import crop_at
from trackweave.masks.packed import PackedMasks
from trackweave.storage.files import replacing
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.prompts import Prompt
from trackweave.structures.tracked_video import DEFAULT_CLASS, Losses, RangePositions, TrackedVideo, VideoInfo
from trackweave.structures.tracks import Tracks

ID_ATTRIBUTE, SCORE_ATTRIBUTE, LEVEL_ATTRIBUTE = "track_id", "score", "level"
NO_ID = "-1"
"""What a track has as its id that was drawn in CVAT."""
LABELS_FILE = "labels.json"


def cvat_labels(names: Iterable[str]) -> list[dict[str, Any]]:
    """The labels of a CVAT task that keep ids, scores and levels, for its constructor's field *Raw*."""

    def attribute(name: str, default: str, *, mutable: bool) -> dict[str, Any]:
        return {"name": name, "mutable": mutable, "input_type": "text", "default_value": default, "values": [default]}

    attributes = [
        attribute(ID_ATTRIBUTE, NO_ID, mutable=False),
        attribute(SCORE_ATTRIBUTE, "1", mutable=True),
        attribute(LEVEL_ATTRIBUTE, "", mutable=False),
    ]
    return [{"name": name, "attributes": attributes} for name in names]


def write_cvat(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes the XML, and beside it `NAME.labels.json`, the labels that the task needs.

    With `shapes` `auto` or `polygons` an object with a mask is a polygon; `masks` keeps masks as run lengths.
    """
    info = video.info
    labels = {track_id: info.class_name(span.class_id) for track_id, span in video.spans().items()}
    following = dict(pairwise(map(int, info.indices)))
    names = sorted(set(labels.values())) or [DEFAULT_CLASS]
    shown: dict[int, tuple[int, str]] = {}  # each object's last frame, and its shape there
    free = max(labels, default=0)  # masks are tracks of one frame, with numbers after all ids
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(_meta(info, names))
        with TrackSpool(path.parent) as spool:
            for index, tracks in video.sized_frames():
                now, ids = int(index), tracks.track_id.tolist()
                for track_id, (tag, place), attributes in zip(
                    ids, _shapes(tracks, settings), _attributes(tracks), strict=True
                ):
                    shape = f'occluded="0" {place} z_order="0">{attributes}</{tag}>\n'
                    if tag == "mask":
                        free += 1
                        file.write(_track(free, labels[track_id], [_shape(tag, now, shape)]))
                        continue
                    before = shown.get(track_id)
                    if before is not None and following[before[0]] != now:
                        spool.add(track_id, _shape(tag, following[before[0]], before[1], outside=1))
                    spool.add(track_id, _shape(tag, now, shape))
                    shown[track_id] = now, shape
            for track_id, (last, shape) in shown.items():
                if last in following:
                    spool.add(track_id, _shape(shape.rpartition("</")[2][:-2], following[last], shape, outside=1))
            for track_id, pieces in spool.tracks():
                file.write(_track(track_id, labels[track_id], pieces))
        file.write("</annotations>\n")
    labels_path = path.with_name(f"{path.stem}.{LABELS_FILE}")
    with replacing(labels_path) as temporary:
        temporary.write_text(json.dumps(cvat_labels(names), indent=1) + "\n", encoding="utf-8")
    return [path, labels_path]


def _shape(tag: str, frame: int, shape: str, *, outside: int = 0) -> str:
    return f'    <{tag} frame="{frame}" keyframe="1" outside="{outside}" {shape}'


def _track(number: int, label: str, shapes: Iterable[str]) -> str:
    return f'  <track id="{number}" label={quoteattr(label)} source="file">\n{"".join(shapes)}  </track>\n'


def _shapes(tracks: Tracks, settings: FormatSettings) -> Iterator[tuple[str, str]]:
    """The element and the attributes of place of each object's shape."""
    masks = tracks.masks if settings.shapes != "boxes" else None
    polygons = None if masks is None or settings.shapes == "masks" else mask_polygons(masks, settings.tolerance)
    for n, (left, top, right, bottom) in enumerate(tracks.xyxy.astype(str).tolist()):
        if polygons is not None and polygons[n]:
            corners = join_polygons(polygons[n])
            yield "polygon", f'points="{("%d,%d;" * len(corners) % tuple(corners.reshape(-1).tolist()))[:-1]}"'
            continue
        crop = crop_at(masks, n, masks.size) if masks is not None and polygons is None else None
        if crop is None:
            yield "box", f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"'
        else:
            height, width = crop.inside.shape
            runs = ", ".join(map(str, _runs(crop.inside)))
            yield "mask", f'rle="{runs}" left="{crop.left}" top="{crop.top}" width="{width}" height="{height}"'


def _runs(inside: NDArray[np.uint8]) -> list[int]:
    """Row-major run lengths of a crop, background first."""
    flat = inside.reshape(-1)
    changes = np.flatnonzero(np.diff(flat, prepend=np.uint8(0)))
    return [int(run) for run in np.diff(changes, prepend=0, append=len(flat))]


def _attributes(tracks: Tracks) -> Iterator[str]:
    levels = [None] * len(tracks) if tracks.level is None else tracks.level.tolist()
    for track_id, score, level in zip(tracks.track_id.tolist(), tracks.score.astype(str).tolist(), levels, strict=True):
        values = {ID_ATTRIBUTE: track_id, SCORE_ATTRIBUTE: score} | ({} if level is None else {LEVEL_ATTRIBUTE: level})
        yield "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in values.items())


def _meta(info: VideoInfo, names: Sequence[str]) -> str:
    """The head of the document; frames are those of the task, whose step is a filter there."""
    indices = list(map(int, info.indices)) or [0]
    steps = {later - earlier for earlier, later in pairwise(indices)}
    step = steps.pop() if len(steps) == 1 else 1
    labels = "".join(_label(name) for name in names)
    size = (
        ""
        if info.size is None
        else f"<original_size><width>{info.size[1]}</width><height>{info.size[0]}</height></original_size>"
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta><task>'
        f"<name>{escape(info.name)}</name><size>{len(info.indices)}</size><mode>interpolation</mode>"
        f"<start_frame>{indices[0]}</start_frame><stop_frame>{indices[-1]}</stop_frame>"
        f"<frame_filter>{f'step={step}' if step > 1 else ''}</frame_filter><labels>{labels}</labels>"
        f"{size}</task></meta>\n"
    )


def _label(name: str) -> str:
    attributes = "".join(
        f"<attribute><name>{one['name']}</name><mutable>{one['mutable']}</mutable><input_type>text</input_type>"
        f"<default_value>{one['default_value']}</default_value><values>{one['default_value']}</values></attribute>"
        for one in cvat_labels([name])[0]["attributes"]
    )
    return f"<label><name>{escape(name)}</name><attributes>{attributes}</attributes></label>"


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Seen:
    """One shape of a track.

    Attributes:
        frame: index.
        outside: the object is not there.
        box: xyxy, or none.
        polygon: `[x, y, x, y, …]`, or none.
        mask: run lengths, or none.
        score: as its attribute says.
        level: as its attribute says.
    """

    frame: int
    outside: bool
    box: tuple[float, ...] | None = None
    polygon: list[float] | None = None
    mask: Mapping[str, Any] | None = None
    score: str | None = None
    level: str | None = None


SHAPES = ("box", "polygon", "mask")
OTHER_SHAPES = ("polyline", "points", "ellipse", "cuboid", "skeleton")


def read_cvat(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads an export of a task or a job: `CVAT for video`, or `CVAT for images` whose shapes have a `track_id`.

    Tracks with one `track_id` are one object; one without it gets a number after all others. Frames between two key
    frames are as CVAT shows them: boxes move evenly.

    Raises:
        InputError: no such file, not CVAT's XML, a shape of a kind that is no object, or an object twice on a frame.
    """
    root = _root(path)
    where = str(path)
    try:
        meta = _TaskMeta.read(root, hints)
        rows = AnnotationRows(where)
        found: list[tuple[int | None, str, list[_Seen]]] = []
        for number, element in enumerate(root.findall("track")):
            where = f"{path}, track {number}"
            seen = [_seen(shape, meta) for shape in element if shape.tag in SHAPES]
            _refuse_others(element)
            found.append((_track_id(element), element.get("label", DEFAULT_CLASS), _filled(seen, meta)))
        names = _read_images(root, path, meta, found)
        where = str(path)
        _add(rows, found, meta.size)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{where}: {shortened_line(missing)}") from error
    return TableVideo(rows.table(meta.positions, **meta.shared(names)), None)


def _root(path: Path) -> ElementTree.Element:
    """The document.

    Raises:
        InputError: not CVAT's XML.
    """
    text = read_text(path)
    if re.search(r"<!(DOCTYPE|ENTITY)", text):
        raise InputError(f"{path}: declares entities, which are not read")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not XML: {shortened_line(str(error))}") from error
    if root.tag != "annotations":
        raise InputError(f"{path}: is not CVAT's XML: it begins with <{shortened_line(root.tag, 40)}>")
    return root


VIDEO_FRAME = re.compile(r"frame_(\d+)(\.\w+)?", re.IGNORECASE)
"""Name that CVAT gives to a frame of a video."""


def read_cvat_prompts(path: Path) -> Iterator[tuple[str, Prompt]]:
    """What a person drew on key frames, and where it stands in the file: boxes, polygons, masks and points.

    Shapes of a track are prompts of one object; a shape of a single image without `track_id` is one of its own.

    Raises:
        InputError: not CVAT's XML.
        ValueError, KeyError: a shape that is no prompt.
    """
    root = _root(path)
    meta = _TaskMeta.read(root, None)
    tracks = [(number, element, _track_id(element)) for number, element in enumerate(root.findall("track"))]
    images = root.findall("image")
    known = [track_id for _, _, track_id in tracks] + [_track_id(shape) for image in images for shape in image]
    free = max((track_id for track_id in known if track_id is not None), default=0)
    for number, element, track_id in tracks:
        if track_id is None:
            free += 1
        for shape in element:
            if shape.tag != "attribute" and shape.get("keyframe", "1") == "1" and shape.get("outside") != "1":
                frame = whole_number(shape.attrib["frame"], "frame")
                yield f"track {number}", _prompt(shape, meta, frame, free if track_id is None else track_id)
    for image in images:
        number, name = whole_number(image.attrib["id"], "an image's id"), image.get("name", "")
        called = PureWindowsPath(name).name
        frame_or_name = number if not called or VIDEO_FRAME.fullmatch(called) else called
        for shape in image:
            yield f"image {number}", _prompt(shape, meta, frame_or_name, _track_id(shape))


def _prompt(shape: ElementTree.Element, meta: _TaskMeta, frame: int | str, track_id: int | None) -> Prompt:
    if shape.tag == "points":
        pairs = [pair.split(",") for pair in shape.attrib["points"].split(";")]
        return Prompt(frame, track_id, [(finite_number(x, "x"), finite_number(y, "y")) for x, y in pairs])
    if shape.tag not in SHAPES:
        raise ValueError(
            f"a shape of the kind {shortened_line(shape.tag, 20)}: only {', '.join(SHAPES)} and points are"
        )
    seen = _seen(shape, meta, 0)
    polygons = [] if seen.polygon is None else [seen.polygon]
    return Prompt(frame, track_id, box=seen.box and list(seen.box), mask=seen.mask, polygons=polygons)


@dataclass(frozen=True)
class _TaskMeta:
    """What the head of the document says of the video.

    Attributes:
        name: of the task.
        size: `(H, W)` of its frames, or None.
        indices: its frames; empty where it does not say.
        hints: what is known from elsewhere.
    """

    name: str
    size: tuple[int, int] | None
    indices: range
    hints: VideoInfo | None

    @classmethod
    def read(cls, root: ElementTree.Element, hints: VideoInfo | None) -> _TaskMeta:
        """Of a task or of a job."""
        about = next((found for kind in ("task", "job") if (found := root.find(f"meta/{kind}")) is not None), None)
        if about is None:
            return cls("", hints.size if hints else None, range(0), hints)
        sides = ("width", "height")
        width, height = (
            about.findtext(f"original_size/{side}") or root.findtext(f"meta/original_size/{side}") for side in sides
        )
        size = None if not width or not height else (whole_number(height, "height"), whole_number(width, "width"))
        if size is not None:
            if min(size) < 1:
                raise ValueError(f"frames of {size[1]}×{size[0]} pixels")
            check_pixels(*size)
        step = re.fullmatch(r"\s*step=(\d{1,6})\s*", about.findtext("frame_filter") or "")
        start, stop = (about.findtext(key) for key in ("start_frame", "stop_frame"))
        indices = range(0)
        if start is not None and stop is not None:
            first, last = whole_number(start, "start_frame"), whole_number(stop, "stop_frame")
            if not 0 <= first <= last < MOST_UNLISTED:
                raise ValueError(f"frames {first} to {last}")
            indices = range(first, last + 1, max(int(step[1]), 1) if step else 1)
        return cls(about.findtext("name") or "", size or (hints.size if hints else None), indices, hints)

    @property
    def step(self) -> int:
        """Frames from one to the next."""
        return self.indices.step

    @property
    def listed(self) -> Sequence[int]:
        """The frames of the video, as far as they are known."""
        return self.hints.indices if self.hints is not None and len(self.hints.indices) else self.indices

    @property
    def positions(self) -> Mapping[int, int] | None:
        """Position of each frame; None where nothing says which there are."""
        if not len(self.listed):
            return None
        if isinstance(self.listed, range):  # of which the head alone knows how long it is
            return RangePositions(self.listed)
        return {int(index): n for n, index in enumerate(self.listed)}

    def shared(self, names: Mapping[int, str]) -> dict[str, Any]:
        """What belongs to all rows of the table."""
        shared: dict[str, Any] = {"size": self.size, "video": self.name or (self.hints.name if self.hints else None)}
        if len(self.listed):
            known = dict(zip(self.hints.indices, self.hints.names, strict=True)) if self.hints is not None else {}
            shared["frame_numbers"] = self.listed
            called = {**known, **{number: name for number, name in names.items() if name}}
            if isinstance(self.listed, range):
                shared["frame_names"] = NumberedNames(self.listed, called)
            else:
                shared["frame_names"] = [called.get(k) or f"frame_{k:06d}" for k in map(int, self.listed)]
        if self.hints is not None:
            shared |= {"times": self.hints.times, "rate": self.hints.rate}
        return shared


def _track_id(element: ElementTree.Element) -> int | None:
    """The id that the attribute of a shape, or of a track or one of its shapes, says; None where there is none."""
    for attribute in (*element.findall("attribute"), *element.findall("*/attribute")):
        if attribute.get("name") == ID_ATTRIBUTE:
            text = (attribute.text or "").strip()
            if text and text != NO_ID:
                return whole_number(text, ID_ATTRIBUTE)
    return None


def _seen(shape: ElementTree.Element, meta: _TaskMeta, frame: int | None = None) -> _Seen:
    """One shape."""
    values = {one.get("name"): (one.text or "").strip() for one in shape.findall("attribute")}
    seen = _Seen(whole_number(shape.attrib["frame"], "frame") if frame is None else frame, shape.get("outside") == "1")
    seen.score, seen.level = values.get(SCORE_ATTRIBUTE) or None, values.get(LEVEL_ATTRIBUTE) or None
    if shape.tag == "box":
        sides = tuple(finite_number(shape.attrib[key], key) for key in ("xtl", "ytl", "xbr", "ybr"))
        seen.box = _turned(sides, finite_number(shape.get("rotation", 0), "rotation"))
    elif shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.attrib["points"].split(";")]
        seen.polygon = [finite_number(value, "a corner") for x, y in pairs for value in (x, y)]
    else:
        seen.mask = _mask(shape, meta)
    return seen


def _turned(box: tuple[float, ...], degrees: float) -> tuple[float, ...]:
    """The upright box around a turned one."""
    if not degrees:
        return box
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = box[2] - box[0], box[3] - box[1]
    across, down = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return x - across, y - down, x + across, y + down


def _mask(shape: ElementTree.Element, meta: _TaskMeta) -> Mapping[str, Any]:
    """Row-major runs inside a box as COCO's run lengths of the frame."""
    left, top, width, height = (whole_number(shape.attrib[key], key) for key in ("left", "top", "width", "height"))
    if meta.size is None:
        raise ValueError("a mask, and the size of the frames is not said: give the video (--frames)")
    if min(left, top) < 0 or min(width, height) < 1 or top + height > meta.size[0] or left + width > meta.size[1]:
        raise ValueError(
            f"a mask of {width}×{height} at {left},{top} leaves the frame of {meta.size[1]}×{meta.size[0]}"
        )
    runs = [whole_number(run, "a run") for run in shape.attrib["rle"].split(",")]
    if min(runs) < 0 or max(runs) > width * height or sum(runs) != width * height:
        raise ValueError(f"run lengths do not fill their box of {width}×{height}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return dict(encode_rle(PackedMasks.from_crops([inside], np.array([[top, left]]), *meta.size))[0])


def _refuse_others(element: ElementTree.Element) -> None:
    other = next((shape.tag for shape in element if shape.tag in OTHER_SHAPES), None)
    if other is not None:
        raise ValueError(f"a shape of the kind {other} is no object: tracks are boxes, polygons and masks")


def _filled(seen: list[_Seen], meta: _TaskMeta) -> list[_Seen]:
    """The shapes of the frames on which a track is there, also of those between two that the file lists."""
    seen.sort(key=lambda one: one.frame)
    filled: list[_Seen] = []
    for one, after in zip(seen, [*seen[1:], None][: len(seen)], strict=True):
        if one.outside:
            continue
        filled.append(one)
        if after is None or after.frame - one.frame <= meta.step:
            continue
        between = range(one.frame + meta.step, after.frame, meta.step)
        if len(between) > LONGEST_FILLED:
            raise ValueError(f"frame {after.frame} is too far after frame {one.frame}: is it a time?")
        if meta.hints is not None and not any(frame in meta.hints.positions for frame in between):
            continue
        if one.box is None or after.box is None:
            raise ValueError(f"is not there on frame {between[0]}, between two shapes: export it with all frames")
        for frame in between:
            share = (frame - one.frame) / (after.frame - one.frame) if not after.outside else 0
            box = tuple(a + share * (b - a) for a, b in zip(one.box, after.box, strict=True))
            filled.append(_Seen(frame, False, box, score=one.score, level=one.level))
    return filled


def _read_images(
    root: ElementTree.Element, path: Path, meta: _TaskMeta, found: list[tuple[int | None, str, list[_Seen]]]
) -> dict[int, str]:
    """Shapes of single images, as `CVAT for images` has them; returns the images' names."""
    names: dict[int, str] = {}
    for element in root.findall("image"):
        frame = whole_number(element.attrib["id"], "an image's id")
        names[frame] = element.get("name", "")
        _refuse_others(element)
        for shape in element:
            if shape.tag in SHAPES:
                track_id = _track_id(shape)
                if track_id is None:
                    raise ValueError(f"image {frame}: a shape without {ID_ATTRIBUTE}: these are no tracks")
                found.append((track_id, shape.get("label", DEFAULT_CLASS), [_seen(shape, meta, frame)]))
    return names


def _add(rows: AnnotationRows, found: list[tuple[int | None, str, list[_Seen]]], size: tuple[int, int] | None) -> None:
    """Adds all shapes; tracks without an id are numbered after the others."""
    free = max((track_id for track_id, *_ in found if track_id is not None), default=0)
    for track_id, label, shapes in found:
        if track_id is None:
            free += 1
        for one in shapes:
            mask = one.mask
            if one.polygon is not None:
                if size is None:
                    raise ValueError("a polygon, and the size of the frames is not said: give the video (--frames)")
                mask = dict(fill_polygons([one.polygon], *size))
            rows.add(
                one.frame,
                free if track_id is None else track_id,
                NO_BOX if one.box is None else one.box,
                score=1 if one.score is None else one.score,
                class_id=rows.class_number(label),
                mask=mask,
                level=one.level,
            )
