"""Prompts in files: our own JSON and CSV, labelme, COCO, YouTube-VIS, CVAT's XML.

Our own JSON is a list of objects, `{"frame": 0, "id": 1, "points": [[x, y], [x, y, 0]], "box": [x1, y1, x2, y2],
"polygons": [[x, y, …]], "rle": {"size", "counts"}, "class_id": 2, "class_name": "car"}`: `frame` is an index from 0 or
a frame's name, a point's third number its label; a class may have a number, a name or both. Our own CSV has columns
`frame`, `id`, and `x`, `y`, `label` and/or `x1`, `y1`, `x2`, `y2`, and `class_id`, `class_name`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path, PureWindowsPath
from typing import Any

from trackweave.errors import PromptError, listed, shortened
from trackweave.formats.cvat import read_cvat_prompts
from trackweave.formats.tables import finite_number, read_json, read_text, whole_number
from trackweave.structures.prompts import Prompt, frame_of_text

PROMPT_SUFFIXES = (".json", ".csv", ".xml")
CLASS_KEYS = ("class_id", "class_name")
OWN_KEYS = frozenset({"frame", "id", "points", "box", "polygons", "rle", *CLASS_KEYS})
CSV_COLUMNS = frozenset({"frame", "id", "x", "y", "label", "x1", "y1", "x2", "y2", *CLASS_KEYS})


def read_prompts(path: Path | str) -> list[Prompt]:
    """The prompts of a file, in its order.

    Raises:
        PromptError: an item cannot be used; says which and why.
        InputError: the file cannot be read.
    """
    source = Path(path)
    if source.suffix.lower() == ".csv":
        items = _csv_items(source)
    elif source.suffix.lower() == ".xml":
        items = read_cvat_prompts(source)
    else:
        data = read_json(source)
        if isinstance(data, list):
            items = ((f"item {n}", _own(item)) for n, item in enumerate(data, start=1))
        elif isinstance(data, Mapping) and isinstance(data.get("shapes"), list):
            items = _labelme(data)
        elif isinstance(data, Mapping) and isinstance(data.get("annotations"), list):
            items = _coco(data)
        else:
            raise PromptError(f"{source}: is no list of prompts, and neither labelme, COCO nor YouTube-VIS")
    found: list[tuple[str, Prompt]] = []
    try:
        found.extend(items)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, PromptError) as error:
        text = f"has no {error}" if isinstance(error, KeyError) else str(error)
        place = f"the item after {found[-1][0]}" if found else "its first item"
        raise PromptError(f"{source}: {place}: {text}") from None
    prompts = [prompt for _, prompt in found]
    if not prompts:
        raise PromptError(f"{source}: holds no prompt")
    return prompts


def _own(item: Any) -> Prompt:
    if not isinstance(item, Mapping):
        raise ValueError(f"a prompt is an object, not {shortened(item, 40)}")
    if unknown := set(item) - OWN_KEYS:
        raise ValueError(f"unknown {listed(sorted(map(str, unknown)))}: a prompt has {', '.join(sorted(OWN_KEYS))}")
    points = [tuple(finite_number(value, "a point's") for value in point) for point in item.get("points", ())]
    if any(len(point) not in (2, 3) for point in points):
        raise ValueError("a point is [x, y] or [x, y, label]")
    return Prompt(
        _frame(item["frame"]),
        None if item.get("id") is None else whole_number(item["id"], "id"),
        [(point[0], point[1]) for point in points],
        [whole_number(point[2], "label") if len(point) == 3 else 1 for point in points],
        None if item.get("box") is None else [finite_number(side, "a side of box") for side in item["box"]],
        item.get("rle"),
        _polygons(item.get("polygons", ())),
        *_class_of(item),
    )


def _class_of(item: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """The class that a prompt says: its number and its name."""
    number, name = (item.get(key) for key in CLASS_KEYS)
    if name is not None and not isinstance(name, str):
        raise ValueError(f"class_name {shortened(name, 40)} is not text")
    return None if number is None else whole_number(number, "class_id"), None if name is None else name.strip()


def _frame(value: Any) -> int | str:
    return value if isinstance(value, str) else whole_number(value, "frame")


def _polygons(polygons: Any) -> list[list[float]]:
    return [[finite_number(value, "a polygon's corner") for value in polygon] for polygon in polygons]


def _csv_items(source: Path) -> Iterator[tuple[str, Prompt]]:
    rows = csv.DictReader(StringIO(read_text(source), newline=""))
    header = [str(name).strip().lower() for name in rows.fieldnames or ()]
    unknown = sorted(set(header) - CSV_COLUMNS)
    if "frame" not in header or unknown:
        raise PromptError(
            f"its first line names no column frame, or {listed(unknown) or 'nothing'} besides: a table of prompts has "
            "frame, id, and x, y, label or x1, y1, x2, y2; and class_id, class_name"
        )
    rows.fieldnames = header
    for row in rows:
        cells = {name: cell.strip() for name, cell in row.items() if name and cell and cell.strip()}
        frame = cells["frame"]
        point = [finite_number(cells[name], name) for name in ("x", "y") if name in cells]
        box = [finite_number(cells[name], name) for name in ("x1", "y1", "x2", "y2") if name in cells]
        if len(point) == 1 or len(box) not in (0, 4):
            raise ValueError("a point is x and y, a box x1, y1, x2 and y2")
        prompt = Prompt(
            frame_of_text(frame),
            whole_number(cells["id"], "id") if "id" in cells else None,
            [(point[0], point[1])] if point else (),
            [whole_number(cells.get("label", "1"), "label")] if point else (),
            box or None,
            class_id=whole_number(cells["class_id"], "class_id") if "class_id" in cells else None,
            class_name=cells.get("class_name"),
        )
        yield f"line {rows.line_num}", prompt


def _labelme(data: Mapping[str, Any]) -> Iterator[tuple[str, Prompt]]:
    """Shapes on one picture; polygons of one `group_id` are the parts of one object, and its points belong together."""
    frame = PureWindowsPath(str(data["imagePath"])).name
    places: dict[tuple[str, int], int] = {}
    found: list[tuple[str, Prompt]] = []
    for n, shape in enumerate(data["shapes"], start=1):
        corners = [(finite_number(x, "x"), finite_number(y, "y")) for x, y in shape["points"]]
        group, kind = shape.get("group_id"), shape.get("shape_type") or "polygon"
        track_id = None if group is None else whole_number(group, "group_id")
        if kind == "point":
            prompt = Prompt(frame, track_id, corners)
        elif kind == "rectangle":
            columns, rows = zip(*corners, strict=True)
            prompt = Prompt(frame, track_id, box=[min(columns), min(rows), max(columns), max(rows)])
        elif kind == "polygon":
            prompt = Prompt(frame, track_id, polygons=[[value for corner in corners for value in corner]])
        else:
            raise ValueError(f"a shape of type {shortened(kind, 20)}: only points, rectangles and polygons are prompts")
        place = None if track_id is None or kind == "rectangle" else places.get((kind, track_id))
        if place is not None:
            first, other = found[place]
            points, polygons = [*other.points, *prompt.points], [*other.polygons, *prompt.polygons]
            found[place] = first, Prompt(frame, track_id, points, polygons=polygons)
            continue
        if track_id is not None:
            places[kind, track_id] = len(found)
        found.append((f"shape {n}", prompt))
    yield from found


def _coco(data: Mapping[str, Any]) -> Iterator[tuple[str, Prompt]]:
    """Annotations of pictures (`image_id`, also with a track's id), or of videos (`segmentations` per frame)."""
    names = {image["id"]: PureWindowsPath(str(image["file_name"])).name for image in data.get("images", ())}
    files = {video["id"]: list(video.get("file_names", ())) for video in data.get("videos", ())}
    if len(files) > 1 and not names:
        raise PromptError(f"holds {len(files)} videos: prompts are of one")
    for n, item in enumerate(data["annotations"], start=1):
        if "segmentations" in item:
            track_id, listed_names = whole_number(item["id"], "id"), files.get(item.get("video_id"), [])
            shapes = zip(item["segmentations"], item.get("bboxes") or [None] * len(item["segmentations"]), strict=False)
            for k, (shape, box) in enumerate(shapes):
                if shape or box:
                    frame = PureWindowsPath(listed_names[k]).name if k < len(listed_names) else k
                    yield f"annotation {n}", _coco_prompt(frame, track_id, shape, box)
            continue
        attributes = item.get("attributes")
        spelled = [item, attributes if isinstance(attributes, Mapping) else {}]
        found = [group[key] for group in spelled for key in ("track_id", "instance_id") if group.get(key) is not None]
        track_id_or_none = whole_number(found[0], "track_id") if found else None
        frame = names[item["image_id"]] if names else whole_number(item["image_id"], "image_id")
        yield f"annotation {n}", _coco_prompt(frame, track_id_or_none, item.get("segmentation"), item.get("bbox"))


def _coco_prompt(frame: int | str, track_id: int | None, shape: Any, box: Sequence[Any] | None) -> Prompt:
    if isinstance(shape, Mapping):
        return Prompt(frame, track_id, mask=shape)
    if shape:
        return Prompt(frame, track_id, polygons=_polygons(shape))
    if box is None:
        raise ValueError("has neither segmentation nor bbox")
    x, y, width, height = (finite_number(side, "a side of bbox") for side in box)
    return Prompt(frame, track_id, box=[x, y, x + width, y + height])
