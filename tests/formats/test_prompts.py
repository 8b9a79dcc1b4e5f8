"""Prompts in files, and the record itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.errors import InputError, PromptError
from trackweave.formats.prompts import read_prompts
from trackweave.structures.prompts import Prompt


def saved(path: Path, data: object) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def fields(prompt: Prompt) -> tuple[Any, ...]:
    return prompt.frame, prompt.track_id, prompt.points, prompt.labels, prompt.box, prompt.mask, prompt.polygons


numbers = st.floats(0, 4000, width=32)
boxes = st.lists(numbers, min_size=4, max_size=4)
points = st.lists(st.tuples(numbers, numbers, st.integers(0, 1)), min_size=1, max_size=4)
frames = st.one_of(st.integers(0, 10**6), st.sampled_from(["00012.jpg", "a b.png"]))


@given(st.lists(st.tuples(frames, st.none() | st.integers(1, 999), points, st.none() | boxes), min_size=1, max_size=5))
def test_our_own_json_says_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.mktemp("prompts") / "p.json"
    items = [
        {"frame": frame, "points": marks} | ({"id": i} if i else {}) | ({"box": box} if box else {})
        for frame, i, marks, box in rows
    ]
    for prompt, (frame, i, marks, box) in zip(read_prompts(saved(path, items)), rows, strict=True):
        expected = Prompt(frame, i, [(x, y) for x, y, _ in marks], [label for *_, label in marks], box)
        assert fields(prompt) == fields(expected)


def test_a_table(tmp_path: Path) -> None:
    table = (
        "frame,id,x,y,label,x1,y1,x2,y2\n0,1,10,20,,,,,\n0,1,30,5,0,,,,\n00012.jpg,,,,,1,2,3,4\n7,2,8,9,1,1,2,30,40\n"
    )
    found = [fields(prompt)[:5] for prompt in read_prompts(saved(tmp_path / "p.csv", table))]
    assert found == [
        (0, 1, ((10, 20),), (1,), None),
        (0, 1, ((30, 5),), (0,), None),
        ("00012.jpg", None, (), (), (1, 2, 3, 4)),
        (7, 2, ((8, 9),), (1,), (1, 2, 30, 40)),
    ]


def test_cvat(tmp_path: Path) -> None:
    """Key frames of tracks, and shapes of single images; what CVAT put between two key frames is no prompt."""
    box = '<box frame="{}" keyframe="{}" outside="{}" xtl="1" ytl="2" xbr="30" ybr="40">{}</box>'
    attribute = '<attribute name="track_id">7</attribute>'
    size = "<original_size><width>64</width><height>48</height></original_size>"
    car = box.format(3, 1, 0, attribute) + box.format(4, 0, 0, "") + box.format(5, 1, 1, "")
    video = f"""<annotations><meta><task>{size}</task></meta>
      <track id="0" label="car">{car}</track>
      <track id="1" label="dog"><polygon frame="2" keyframe="1" outside="0" points="1,2;9,2;9,8"/>
        <points frame="6" keyframe="1" outside="0" points="4,5;6,7"/></track></annotations>"""
    found = [fields(prompt) for prompt in read_prompts(saved(tmp_path / "video.xml", video))]
    assert found == [
        (3, 7, (), (), (1, 2, 30, 40), None, ()),
        (2, 8, (), (), None, None, ((1, 2, 9, 2, 9, 8),)),
        (6, 8, ((4, 5), (6, 7)), (1, 1), None, None, ()),
    ]
    images = f"""<annotations><image id="3" name="a/00012.jpg" width="64" height="48">
      <box xtl="1" ytl="2" xbr="30" ybr="40">{attribute}</box><points points="4,5"/></image>
      <image id="9" name="frame_000009.PNG"><points points="4,5"/></image></annotations>"""
    found = [fields(prompt)[:2] for prompt in read_prompts(saved(tmp_path / "images.xml", images))]
    assert found == [("00012.jpg", 7), ("00012.jpg", None), (9, None)]
    mask = '<mask frame="0" rle="1,2,1" left="1" top="1" width="2" height="2"/>'
    sized = video.replace("</annotations>", f'<track id="2" label="x">{mask}</track></annotations>')
    prompt = read_prompts(saved(tmp_path / "mask.xml", sized))[-1]
    assert isinstance(prompt.mask, dict)
    assert prompt.mask["size"] == [48, 64]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<polyline frame="0" points="1,2;3,4"/>', "polyline: only box, polygon, mask and points are"),
        ('<box frame="0" xtl="1" ytl="2" xbr="30"/>', "has no 'ybr'"),
        ('<points frame="-1" points="1,2"/>', "frames count from 0"),
        ("", "holds no prompt"),
    ],
)
def test_cvat_that_is_no_prompt(tmp_path: Path, shape: str, message: str) -> None:
    text = f'<annotations><track id="0" label="car">{shape}</track></annotations>'
    with pytest.raises(PromptError, match=message):
        read_prompts(saved(tmp_path / "p.xml", text))


def test_labelme(tmp_path: Path) -> None:
    shapes: list[dict[str, Any]] = [
        {"label": "cat", "group_id": 3, "shape_type": "rectangle", "points": [[30, 40], [10, 20]]},
        {"label": "cat", "group_id": None, "shape_type": "polygon", "points": [[0, 0], [4, 0], [4, 4]]},
        {"label": "dog", "shape_type": "point", "points": [[5, 6]]},
    ]
    path = saved(tmp_path / "p.json", {"version": "5", "imagePath": "..\\frames\\00012.jpg", "shapes": shapes})
    rectangle, polygon, point = read_prompts(path)
    assert fields(rectangle)[:2] == ("00012.jpg", 3)
    assert fields(rectangle)[4] == (10, 20, 30, 40)
    assert fields(polygon)[1:] == (None, (), (), None, None, ((0, 0, 4, 0, 4, 4),))
    assert fields(point)[2] == ((5, 6),)
    shapes[0]["shape_type"] = "circle"
    with pytest.raises(PromptError, match=r"p.json: its first item: a shape of type 'circle': only points, rect"):
        read_prompts(saved(path, {"imagePath": "1.jpg", "shapes": shapes}))


def test_shapes_of_one_group_in_labelme_are_one_object(tmp_path: Path) -> None:
    """As `export --to labelme` writes an object that something hides in the middle."""
    corners = [[[0, 0], [4, 0], [4, 4]], [[8, 0], [12, 0], [12, 4]]]
    shapes: list[dict[str, Any]] = [
        *({"group_id": 3, "shape_type": "polygon", "points": each} for each in corners),
        *({"group_id": 5, "shape_type": "point", "points": [[x, 6]]} for x in (5, 7)),
        *({"shape_type": "polygon", "points": each} for each in corners),
    ]
    parts, points, *alone = read_prompts(saved(tmp_path / "p.json", {"imagePath": "12.jpg", "shapes": shapes}))
    assert (parts.track_id, points.track_id, len(alone)) == (3, 5, 2)
    assert fields(parts)[6] == ((0, 0, 4, 0, 4, 4), (8, 0, 12, 0, 12, 4))
    assert fields(points)[2] == ((5, 6), (7, 6))


def test_coco_and_youtube_vis(tmp_path: Path) -> None:
    rle = {"size": [6, 8], "counts": "0N00000001000"}
    coco = {
        "images": [{"id": 4, "file_name": "v/00004.jpg"}],
        "annotations": [
            {"image_id": 4, "id": 1, "track_id": 9, "segmentation": rle, "bbox": [1, 2, 3, 4]},
            {"image_id": 4, "id": 2, "segmentation": [[0, 0, 4, 0, 4, 4]]},
            {"image_id": 4, "id": 3, "attributes": {"track_id": 5}, "bbox": [1, 2, 3, 4], "segmentation": []},
        ],
    }
    masked, outlined, boxed = read_prompts(saved(tmp_path / "c.json", coco))
    assert (masked.frame, masked.track_id, masked.mask) == ("00004.jpg", 9, rle)
    assert (outlined.track_id, outlined.kind) == (None, "mask")
    assert (boxed.track_id, boxed.box) == (5, (1, 2, 4, 6))
    videos = {
        "videos": [{"id": 1, "file_names": ["v/00000.jpg", "v/00005.jpg"]}],
        "annotations": [{"id": 3, "video_id": 1, "segmentations": [None, rle], "bboxes": [[1, 2, 3, 4], None]}],
    }
    first, second = read_prompts(saved(tmp_path / "y.json", videos))
    assert (first.frame, first.track_id, first.box) == ("00000.jpg", 3, (1, 2, 4, 6))
    assert (second.frame, second.track_id, second.mask) == ("00005.jpg", 3, rle)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("p.json", "{", "p.json: not JSON"),
        ("p.json", {"boxes": []}, "p.json: is no list of prompts, and neither labelme, COCO nor YouTube-VIS"),
        ("p.json", [], "p.json: holds no prompt"),
        ("p.json", [7], "p.json: its first item: a prompt is an object, not 7"),
        (
            "p.json",
            [{"frame": 0, "bbox": [1, 2, 3, 4]}],
            "unknown bbox: a prompt has box, class_id, class_name, frame, id",
        ),
        ("p.json", [{"box": [1, 2, 3, 4]}], "its first item: has no 'frame'"),
        ("p.json", [{"frame": 0, "points": [[1, 2]]}, {"frame": 0}], "the item after item 1: prompt on frame 0: give"),
        ("p.json", [{"frame": 0, "points": [[1]]}], r"a point is \[x, y\] or \[x, y, label\]"),
        ("p.json", [{"frame": 0, "points": [[1, 2, 5]]}], "each point has a label"),
        ("p.json", [{"frame": -1, "points": [[1, 2]]}], "frames count from 0"),
        ("p.json", [{"frame": 0, "id": 0, "points": [[1, 2]]}], "ids are 1 or more, not 0"),
        ("p.json", [{"frame": 0, "box": [1, 2, 3]}], "a point is two finite numbers, and a box four"),
        ("p.json", [{"frame": 0, "box": [1, 2, 3, 1e999]}], "a side of box is not finite"),
        ("p.csv", "a,b\n1,2\n", "its first line names no column frame, or a, b besides"),
        ("p.csv", "frame,x,y\n0,1,\n", "a point is x and y, a box x1, y1, x2 and y2"),
        ("p.csv", "frame,x,y\n,1,2\n", "has no 'frame'"),
        ("p.csv", "frame,x,y\n", "p.csv: holds no prompt"),
        ("p.csv", "", "names no column frame"),
        ("p.json", {"annotations": [{"image_id": 0}]}, "has neither segmentation nor bbox"),
        ("p.json", {"videos": [{"id": 1}, {"id": 2}], "annotations": [{"segmentations": []}]}, "holds 2 videos"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, data: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_prompts(saved(tmp_path / name, data))


def test_one_kind_marks_an_object() -> None:
    mask = np.ones((4, 4), np.bool_)
    for marks in ({}, {"mask": mask, "box": (0, 0, 1, 1)}, {"mask": mask, "polygons": [[0, 0, 1, 0, 1, 1]]}):
        with pytest.raises(PromptError, match="prompt on frame 3: give points or a box, or a mask, or polygons"):
            Prompt(3, **marks)  # type: ignore[arg-type]
    assert Prompt(3, points=[(1, 2)], box=(0, 0, 9, 9)).kind == "point"
