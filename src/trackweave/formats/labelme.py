"""labelme and X-AnyLabeling: a JSON file for each frame, its shapes with the id of their track as `group_id`.

Shapes are polygons (several with one `group_id` are one object), rectangles, or masks (a PNG in base64, two corners).
Format: https://github.com/wkentaro/labelme, https://github.com/CVHub520/X-AnyLabeling
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, shortened_line
from trackweave.formats.davis import frame_stem
from trackweave.formats.tables import AnnotationRows, finite_number, read_json, whole_number
from trackweave.formats.videos import TableVideo
from trackweave.masks.codecs import RunLengths, check_pixels, encode_rle, fill_polygons, mask_polygons
from trackweave.masks.ops import crop_at
from trackweave.masks.packed import PackedMasks
from trackweave.storage.files import filled_folder, safe_name
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import DEFAULT_CLASS, Losses, TrackedVideo, VideoInfo
from trackweave.structures.tracks import Tracks

PNG_START = b"\x89PNG\r\n\x1a\n"
VERSION = "5.5.0"
"""Of labelme, whose layout the files have."""


def write_labelme(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes a folder of JSON files; put the frames' images beside them.

    With `shapes` `auto` or `polygons` an object with a mask has a polygon for each of its parts.
    """
    info = video.info
    files: list[Path] = []
    with filled_folder(path, files) as staging:
        for (index, tracks), name in zip(video.sized_frames(), info.names, strict=True):
            stem = safe_name(frame_stem(name), f"{path}: frame")
            height, width = (None, None) if info.size is None else info.size
            head: dict[str, Any] = {
                "version": VERSION,
                "flags": {},
                "imagePath": name,
                "imageData": None,
                "imageHeight": height,
                "imageWidth": width,
                "frame": int(index),
            }
            # A shape a line, and gone when it is text: the corners of a whole frame as lists are most of the time.
            shapes = ",\n".join(json.dumps(shape, ensure_ascii=False) for shape in _shapes(tracks, info, settings))
            text = f'{json.dumps(head, ensure_ascii=False)[:-1]}, "shapes": [\n{shapes}\n]}}\n'
            (staging / f"{stem}.json").write_text(text, encoding="utf-8")
    return files


def _shapes(tracks: Tracks, info: VideoInfo, settings: FormatSettings) -> Iterator[dict[str, Any]]:
    masks = tracks.masks if settings.shapes != "boxes" else None
    polygons = None if masks is None or settings.shapes == "masks" else mask_polygons(masks, settings.tolerance)
    for n, track_id in enumerate(tracks.track_id.tolist()):
        attributes = {} if tracks.level is None else {"level": int(tracks.level[n])}
        shared: dict[str, Any] = {
            "label": info.class_name(int(tracks.class_id[n])),
            "group_id": track_id,
            "description": "",
            "flags": {},
            "difficult": False,
            "score": float(tracks.score[n]),
            "attributes": attributes,
        }
        crop = crop_at(masks, n, masks.size) if masks is not None and polygons is None else None
        if polygons is not None and polygons[n]:
            for polygon in polygons[n]:
                yield {**shared, "shape_type": "polygon", "points": polygon.astype(float).tolist(), "mask": None}
        elif crop is not None:
            rows, columns = crop.inside.shape
            corners = [[crop.left, crop.top], [crop.left + columns - 1, crop.top + rows - 1]]
            yield {**shared, "shape_type": "mask", "points": corners, "mask": _png(crop.inside)}
        else:
            left, top, right, bottom = tracks.xyxy[n].tolist()
            yield {**shared, "shape_type": "rectangle", "points": [[left, top], [right, bottom]], "mask": None}


def _png(inside: NDArray[np.uint8]) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(inside.view(np.bool_)).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")


def is_labelme(path: Path) -> bool:
    """Is it a folder with a JSON file that has `shapes`?"""
    first = next(iter(sorted(path.glob("*.json"))), None)
    if first is None:
        return False
    with first.open("rb") as file:
        return b'"shapes"' in file.read(1 << 16)


def read_labelme(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads a folder of JSON files, whose order is that of their names, unless the video is given.

    Raises:
        InputError: no such files, a shape without `group_id`, or one that is no object.
    """
    files = sorted(file for file in path.glob("*.json") if not file.name.startswith("."))
    if not files:
        raise InputError(f"{path}: holds no files of labelme (*.json)")
    rows = AnnotationRows(str(path))
    names, numbers, size = [], [], None
    positions = None if hints is None else {frame_stem(one): n for n, one in enumerate(hints.names)}
    for order, file in enumerate(files):
        document = read_json(file)
        try:
            size = _size(document) or size
            position = order
            if positions is not None and hints is not None:
                if file.stem not in positions:
                    raise ValueError(
                        f"is none of the frames, which are named like {hints.names[0] if hints.names else '—'}"
                    )
                position = positions[file.stem]
            names.append(str(document.get("imagePath") or file.stem))
            numbers.append(document.get("frame"))
            known = _size(document) or (hints.size if hints is not None else None)
            _add(rows, position, document["shapes"], known)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{file}: {shortened_line(missing)}") from error
    if hints is not None and len(hints.names):
        shared: dict[str, Any] = {
            "frame_names": hints.names,
            "frame_numbers": hints.indices,
            "size": hints.size or size,
        }
        return TableVideo(rows.table(**shared, times=hints.times, rate=hints.rate, video=hints.name))
    return TableVideo(rows.table(frame_names=names, frame_numbers=_rising(numbers), size=size, video=path.name))


def _rising(numbers: list[Any]) -> list[int] | None:
    whole = [number for number in numbers if isinstance(number, int) and number >= 0]
    return whole if len(whole) == len(numbers) and sorted(set(whole)) == whole else None


def _size(document: Mapping[str, Any]) -> tuple[int, int] | None:
    if document.get("imageHeight") is None or document.get("imageWidth") is None:
        return None
    height, width = (
        whole_number(document["imageHeight"], "imageHeight"),
        whole_number(document["imageWidth"], "imageWidth"),
    )
    if min(height, width) < 1:
        raise ValueError(f"an image of {width}×{height} pixels")
    check_pixels(height, width)
    return height, width


def _add(rows: AnnotationRows, frame: int, shapes: Any, size: tuple[int, int] | None) -> None:
    """Adds the objects of a frame: the shapes of one `group_id` are one."""
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for shape in shapes:
        if shape.get("group_id") is None:
            raise ValueError(
                f"a shape of {shortened_line(str(shape.get('label')), 40)} has no group_id: these are no tracks"
            )
        groups.setdefault(whole_number(shape["group_id"], "group_id"), []).append(shape)
    for track_id, parts in groups.items():
        first = parts[0]
        facts: dict[str, Any] = {
            "score": 1 if first.get("score") is None else first["score"],
            "class_id": rows.class_number(str(first.get("label", DEFAULT_CLASS))),
            "level": (first.get("attributes") or {}).get("level"),
        }
        if first["shape_type"] == "rectangle" and len(parts) == 1:
            corners = [[finite_number(value, "a corner") for value in corner] for corner in first["points"]]
            (x1, x2), (y1, y2) = (sorted(corner[k] for corner in (corners[0], corners[-1])) for k in (0, 1))
            if len(corners) == 4:  # X-AnyLabeling has all four
                (x1, x2), (y1, y2) = ((min(c[k] for c in corners), max(c[k] for c in corners)) for k in (0, 1))
            rows.add(frame, track_id, (x1, y1, x2, y2), **facts)
            continue
        if size is None:
            raise ValueError("a polygon or a mask, and no imageHeight and imageWidth")
        rows.add(frame, track_id, mask=_united([_encoded(part, size) for part in parts], size), **facts)


def _encoded(shape: Mapping[str, Any], size: tuple[int, int]) -> Mapping[str, Any]:
    """One polygon or mask as run lengths."""
    points = [[finite_number(value, "a corner") for value in corner] for corner in shape["points"]]
    if shape["shape_type"] == "polygon":
        return dict(fill_polygons([[value for corner in points for value in corner]], *size))
    if shape["shape_type"] != "mask":
        raise ValueError(f"a shape of the kind {shortened_line(str(shape['shape_type']), 40)} is no object")
    (left, top), (right, bottom) = ((int(corner[0]), int(corner[1])) for corner in (points[0], points[1]))
    if not (0 <= left <= right < size[1] and 0 <= top <= bottom < size[0]):
        raise ValueError("a mask whose two corners do not lie in the image")
    inside = _pixels(shape["mask"], (bottom - top + 1, right - left + 1))
    return dict(encode_rle(PackedMasks.from_crops([inside], np.array([[top, left]]), *size))[0])


def _pixels(text: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A PNG in base64, of this size."""
    import cv2

    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"a mask that is not base64: {error}") from None
    # Nothing is decoded that is not of the size that its corners say.
    sides = struct.unpack(">II", content[16:24]) if content.startswith(PNG_START) and len(content) > 24 else (0, 0)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if sides[::-1] == size else None
    if pixels is None or pixels.shape != size:
        raise ValueError("a mask that is no PNG of the size that its two corners say")
    return np.asarray(pixels > 0)


def _united(parts: list[Mapping[str, Any]], size: tuple[int, int]) -> Mapping[str, Any]:
    """Several masks as one."""
    if len(parts) == 1:
        return parts[0]
    bits = np.bitwise_or.reduce(np.concatenate([RunLengths.of(part).packed().bits for part in parts]), axis=0)
    return dict(encode_rle(PackedMasks(bits[None], *size))[0])
