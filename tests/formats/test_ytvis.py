from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trackweave.errors import InputError
from trackweave.formats.ytvis import VideoJson, VideoJsonKind
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks

SIZE = (6, 8)
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 4, "name": "dog"}]


def rle(x1: int, x2: int) -> Any:
    mask = np.zeros(SIZE, np.bool_)
    mask[1:4, x1:x2] = True
    return encode_rle(PackedMasks.from_bool(mask))[0]


def ytvis(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    videos = [{"id": 7, "height": 6, "width": 8, "file_names": ["clip/000.jpg", "clip/005.jpg", "clip/010.jpg"]}]
    return {"videos": videos, "categories": CATEGORIES, "annotations": annotations}


def coco_vid(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    images = [
        {"id": 30 + k, "video_id": 2, "frame_id": k, "file_name": f"v/{k}.jpg", "height": 6, "width": 8}
        for k in (2, 0, 1)
    ]
    images += [{"id": 99, "video_id": 3, "frame_id": 0, "file_name": "w/0.jpg"}]
    videos = [{"id": 2, "name": "street"}, {"id": 3, "name": "park"}]
    return {"images": images, "videos": videos, "categories": CATEGORIES, "annotations": annotations}


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def track(**others: Any) -> dict[str, Any]:
    return {"id": 11, "video_id": 7, "category_id": 4, "segmentations": [rle(0, 2), None, rle(1, 4)], **others}


def box(**others: Any) -> dict[str, Any]:
    return {"image_id": 31, "category_id": 1, "track_id": 5, "bbox": [1, 2, 3, 2], **others}


def test_ytvis(tmp_path: Path) -> None:
    document = VideoJson(write(tmp_path / "gt.json", ytvis([track(bboxes=[[0, 1, 2, 3], None, None])])))
    assert (document.kind, list(document.videos), document.has_masks) == (VideoJsonKind.ytvis, ["clip"], True)
    table = document.table("clip")
    assert (table.frame.tolist(), table.track_id.tolist(), table.length) == ([0, 2], [11, 11], 3)
    assert table.xyxy[0].tolist() == [0, 1, 2, 4]
    assert np.isnan(table.xyxy[1]).all()
    masks = table.masks(table.rows(2))
    assert masks is not None
    assert masks.boxes.tolist() == [[1, 1, 4, 4]]
    assert table.masks(table.rows(1)) is None
    assert table.class_names == {1: "cat", 4: "dog"}


def test_ytvis_results_are_tracks_by_position(tmp_path: Path) -> None:
    truth = VideoJson(write(tmp_path / "gt.json", ytvis([track()])))
    items = [{key: value for key, value in track(score=s).items() if key != "id"} for s in (0.5, 0.25)]
    table = VideoJson(write(tmp_path / "r.json", items), truth).table("clip")
    assert (table.track_id.tolist(), table.score.tolist()) == ([0, 1, 0, 1], [0.5, 0.25, 0.5, 0.25])


def test_coco_vid(tmp_path: Path) -> None:
    truth = VideoJson(write(tmp_path / "gt.json", coco_vid([box(), box(image_id=30, iscrowd=1), box(image_id=99)])))
    assert (truth.kind, list(truth.videos), truth.has_masks) == (VideoJsonKind.coco_vid, ["street", "park"], False)
    table = truth.table("street")
    assert (table.frame.tolist(), table.counts.tolist(), table.length) == ([0, 1], [False, True], 3)
    assert table.xyxy[1].tolist() == [1, 2, 4, 4]
    assert table.frame_names == ["v/0.jpg", "v/1.jpg", "v/2.jpg"]
    results = VideoJson(write(tmp_path / "r.json", [box(instance_id=3, score=0.5)]), truth)
    assert results.table("park").frame.tolist() == []
    assert results.table("street").track_id.tolist() == [5]
    assert VideoJson(write(tmp_path / "e.json", []), truth).has_masks is None


def test_images_without_videos_are_one(tmp_path: Path) -> None:
    document = coco_vid([box()])
    document["images"] = [{key: v for key, v in image.items() if key != "video_id"} for image in document["images"][:3]]
    del document["videos"]
    assert list(VideoJson(write(tmp_path / "corridor.json", document)).videos) == ["corridor"]


def test_polygons(tmp_path: Path) -> None:
    square = [[1, 1, 5, 1, 5, 4, 1, 4]]
    document = VideoJson(write(tmp_path / "gt.json", coco_vid([box(segmentation=square)])))
    table = document.table("street")
    masks = table.masks(table.rows(1))
    assert masks is not None
    assert (masks.areas.tolist(), masks.boxes.tolist()) == ([12], [[1, 1, 5, 4]])


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (track(segmentations=[None]), "segmentations of 1 frames, but video clip has 3"),
        (track(segmentations=None), "neither segmentations nor bboxes"),
        (track(video_id=8), "video_id 8 is not in the list"),
        (track(bboxes=[[0, 0, -1, 2], None, None]), "is not .x, y, w, h. of a box"),
        ({"id": 1}, "an object with video_id is expected"),
        (track(segmentations=[[[1, 2]], None, None]), "at least three corners"),
        (track(segmentations=[[[1e300, 2, 3, 4, 5, 6]], None, None]), "corner 1e.300 is out of range"),
        (track(id=1e300), "id 1e.300 is not a whole number"),
        (track(category_id="9" * 40), "category_id '9+' is not a whole number"),
        (track(score="high"), "score 'high' is not a number"),
        (track(bboxes=[[0, 0, 1, 1e39], None, None]), "a side of bbox 1e.39 is out of range"),
        ([], "an object with video_id is expected"),
    ],
)
def test_bad_tracks_are_named(tmp_path: Path, annotation: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "gt.json", ytvis([track(), annotation]))
    with pytest.raises(InputError, match=f"gt.json, item 1: .*{message}"):
        VideoJson(path).table("clip")


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"image_id": 31, "bbox": [0, 0, 1, 1]}, "neither track_id nor instance_id"),
        (box(bbox=None), "neither bbox nor segmentation"),
        (box(image_id=5), "image_id 5 is not in the list"),
    ],
)
def test_bad_boxes_are_named(tmp_path: Path, annotation: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "gt.json", coco_vid([annotation]))
    with pytest.raises(InputError, match=f"gt.json, item 0: {message}"):
        VideoJson(path).table("street")


def test_an_identity_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "gt.json", coco_vid([box(), box()]))
    with pytest.raises(InputError, match="video street: identity 5 is twice on frame 1"):
        VideoJson(path).table("street")


def test_a_damaged_mask_names_its_frame(tmp_path: Path) -> None:
    damaged = {"size": list(SIZE), "counts": [1, 2, 3]}
    table = VideoJson(write(tmp_path / "gt.json", ytvis([track(segmentations=[damaged, None, None])]))).table("clip")
    with pytest.raises(InputError, match="video clip, frame 0: RLE entry 0 covers 6 pixels"):
        table.masks(table.rows(0))


@pytest.mark.parametrize("value", [{}, {"annotations": 3}, {"annotations": [], "videos": [{}]}, "text", 4])
def test_other_json(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match="neither YouTube-VIS nor COCO-VID"):
        VideoJson(write(tmp_path / "gt.json", value))


@pytest.mark.parametrize("size", [(10**6, 10**6), (30_000, 30_000), (2**62, 2**62)])
def test_a_polygon_in_a_picture_of_absurd_size(tmp_path: Path, size: tuple[int, int]) -> None:
    document = ytvis([track(segmentations=[[[0, 0, 4, 0, 4, 4]], None, None])])
    for video in document["videos"]:
        video["height"], video["width"] = size
    with pytest.raises(InputError, match=r"gt\.json, item 0: a mask has more pixels than"):
        VideoJson(write(tmp_path / "gt.json", document)).table("clip")


@pytest.mark.parametrize(("height", "message"), [(0, "at least one pixel"), (1e300, "height 1e.300 is not a whole")])
def test_a_size_that_is_none(tmp_path: Path, height: float, message: str) -> None:
    document = ytvis([])
    document["videos"][0]["height"] = height
    with pytest.raises(InputError, match=rf"gt\.json: .*{message}"):
        VideoJson(write(tmp_path / "gt.json", document))


def test_results_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs ground truth of the same kind"):
        VideoJson(write(tmp_path / "r.json", []))
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        VideoJson(tmp_path / "r.json")
