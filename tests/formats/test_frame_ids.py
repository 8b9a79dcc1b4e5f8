"""Which frames files of detections mean by their numbers and names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trackweave.errors import InputError
from trackweave.formats.columns import detections_from_columns
from trackweave.formats.frame_ids import FrameHints, frames_by_name
from trackweave.formats.readers import read_detections
from trackweave.formats.tables import DetectionTable

PADDED = frames_by_name([f"{n:06d}.jpg" for n in range(1, 11)], range(10))
NAMED = frames_by_name([f"img1/frame_{n}.png" for n in range(10)], range(10))


def results(path: Path, ids: Any, **more: Any) -> Path:
    """COCO results with one box per image; its left side is ten times its place in the file."""
    items = [
        {"image_id": one, "category_id": 1, "bbox": [10 * n, 50, 40, 80], "score": 0.9, **more}
        for n, one in enumerate(ids)
    ]
    path.write_text(json.dumps(items))
    return path


def listing(path: Path, images: Any, **more: Any) -> Path:
    path.write_text(json.dumps({"images": images, **more}))
    return path


def lines(path: Path, header: str, frames: Any, row: str = "{f},-1,{x},50,40,80,0.9") -> Path:
    path.write_text("\n".join([header, *(row.format(f=f, x=10 * n) for n, f in enumerate(frames))]) + "\n")
    return path


def codes(table: DetectionTable) -> list[str]:
    return [warning.code for warning in table.warnings]


# --- COCO: without a list of images -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "hints", "frames", "sure"),
    [
        (range(10), FrameHints(), range(10), True),
        (range(1, 11), FrameHints(), range(10), False),
        (range(1, 11), FrameHints(length=10), range(10), True),  # 10 frames: the last is number 10
        (range(1, 10), FrameHints(length=10), range(9), False),
        (range(1, 11), FrameHints(base=0), range(1, 11), True),
        (range(1, 11), FrameHints(base=1), range(10), True),
        (range(5, 15), FrameHints(), range(5, 15), False),
        (range(1, 11), FrameHints(length=10, names=PADDED), range(10), True),
        ((3, 5), FrameHints(length=10, names=PADDED), (2, 4), True),  # the pictures 000003.jpg and 000005.jpg
        (range(10), FrameHints(length=10, names=PADDED), range(10), True),  # 0 is no picture's name
        (("frame_3", "a/frame_5.png"), FrameHints(length=10, names=NAMED), (3, 5), True),
        (("000003", 5), FrameHints(length=10, names=PADDED), (2, 4), True),  # ultralytics: some stems are numbers
        (("clip_000001", "clip_000004"), FrameHints(), (0, 3), False),
        (range(0, 90_000, 9000), FrameHints(), range(0, 90_000, 9000), True),  # there is a frame 0
        (range(139, 2000, 146), FrameHints(base=0), range(139, 2000, 146), True),
    ],
)
def test_image_ids(tmp_path: Path, ids: Any, hints: FrameHints, frames: Any, sure: bool) -> None:
    table = read_detections(results(tmp_path / "r.json", ids), hints=hints)
    assert table.frame.tolist() == list(frames)
    assert codes(table) == ([] if sure else ["frame-base"])
    assert table.reading is not None
    assert "image ids" in str(table.reading)


def test_the_guess_is_named(tmp_path: Path) -> None:
    table = read_detections(results(tmp_path / "r.json", range(1, 11)))
    assert table.warnings[0].message == (
        f"{tmp_path}/r.json: image ids 1…10 were taken as frames 0…9 (counted from 0): "
        "images= or frame_base= says otherwise"
    )


@pytest.mark.parametrize(
    ("ids", "hints", "message"),
    [
        (range(139, 2000, 146), FrameHints(), r"image ids from 139 to 1891 \(13 of them\) are not frames of one video"),
        (range(397133, 397143), FrameHints(), "image ids from 397133 to 397142 .*images="),
        (range(397133, 397143), FrameHints(length=10), "are not the 10 frames of the video"),
        (
            ("frame_1", "image_2"),
            FrameHints(),
            "image ids such as frame_1, image_2 are no frames of the video: im",
        ),
        (
            ("left", "right"),
            FrameHints(length=10, names=NAMED),
            "no frames of the video; the pictures are frame_0",
        ),
        (
            range(5, 12),
            FrameHints(length=10),
            r"frame 10 is beyond the 10 frames of the video; images=",
        ),
        (range(1_700_000_000, 1_700_000_009), FrameHints(base=0), "look like time stamps"),
    ],
)
def test_image_ids_that_are_no_frames(tmp_path: Path, ids: Any, hints: FrameHints, message: str) -> None:
    with pytest.raises(InputError, match=rf"r\.json.*: .*{message}"):
        read_detections(results(tmp_path / "r.json", ids), hints=hints)


@pytest.mark.parametrize("value", [None, True, [1], {}, float("nan"), float("inf"), 10**30, 1e300])
def test_an_image_id_that_is_none(tmp_path: Path, value: Any) -> None:
    path = results(tmp_path / "r.json", [0, value, 1])
    with pytest.raises(InputError, match=r"r\.json, item 1: image_id .* is not a number"):
        read_detections(path)
    assert read_detections(path, on_bad_item="skip").frame.tolist() == [0, 1]


# --- COCO: with a list of images --------------------------------------------------------------------------------------


def test_images_of_a_data_set(tmp_path: Path) -> None:
    """Sparse ids, in an order of their own; the list gives frames, names of classes and the size."""
    ids = [139, 285, 632, 724, 776]
    images = [{"id": one, "file_name": f"street_{n}.jpg", "width": 640, "height": 480} for n, one in enumerate(ids)]
    where = listing(tmp_path / "i.json", images[::-1], categories=[{"id": 1, "name": "person"}])
    table = read_detections(results(tmp_path / "r.json", ids[::-1]), images=where)
    assert table.frame.tolist() == [0, 1, 2, 3, 4]
    assert table.xyxy[:, 0].tolist() == [40, 30, 20, 10, 0]
    assert (table.size, table.length, table.class_names, table.warnings) == ((480, 640), 5, {1: "person"}, ())
    assert "in the order of file_name" in str(table.reading)


def test_file_names_are_ordered_by_their_numbers(tmp_path: Path) -> None:
    images = [{"id": 100 + n, "file_name": f"f{n}.jpg"} for n in (10, 9, 2, 1)]
    table = read_detections(
        results(tmp_path / "r.json", [101, 102, 109, 110]), images=listing(tmp_path / "i.json", images)
    )
    assert table.frame.tolist() == [0, 1, 2, 3]


def test_images_are_the_pictures_of_their_name(tmp_path: Path) -> None:
    """The list has every second picture of the video."""
    images = [{"id": 70 + n, "file_name": f"train/img1/{n:06d}.jpg"} for n in range(2, 11, 2)]
    where = listing(tmp_path / "i.json", images)
    path = results(tmp_path / "r.json", [72, 76])
    assert read_detections(path, images=where, hints=FrameHints(10, PADDED)).frame.tolist() == [1, 5]
    assert read_detections(path, images=where).frame.tolist() == [0, 2]
    with pytest.raises(InputError, match=r"i\.json: 5 images for a video of 9 frames, and none is called as a picture"):
        read_detections(path, images=where, hints=FrameHints(length=9))


def test_frame_ids_with_gaps_are_named(tmp_path: Path) -> None:
    images = [{"id": 5 + n, "file_name": f"{n}.jpg", "frame_id": n} for n in (0, 10, 20)]
    table = read_detections(results(tmp_path / "r.json", [5, 15, 25]), images=listing(tmp_path / "i.json", images))
    assert table.frame.tolist() == [0, 1, 2]
    assert codes(table) == ["frame-base"]
    assert "in the order of frame_id, which has gaps" in table.warnings[0].message


VIDEOS = [
    {"id": 10 * video + n, "file_name": f"{name}/{n}.jpg", "frame_id": n, "video_id": video}
    for video, name in ((1, "street"), (2, "park"))
    for n in range(3)
]


@pytest.mark.parametrize("by", ["video_id", "folder"])
def test_several_videos_in_one_list(tmp_path: Path, by: str) -> None:
    images = [image if by == "video_id" else {k: v for k, v in image.items() if k != "video_id"} for image in VIDEOS]
    named = [{"id": 1, "name": "street"}, {"id": 2, "name": "park"}]
    where = listing(tmp_path / "i.json", images, videos=named if by == "video_id" else [])
    one = results(tmp_path / "one.json", [20, 21, 22])
    assert read_detections(one, images=where).frame.tolist() == [0, 1, 2]
    both = results(tmp_path / "both.json", [10, 11, 21, 22])
    with pytest.raises(
        InputError, match=r"both\.json: detections of 2 videos \(street, park\): give one as video_name="
    ):
        read_detections(both, images=where)
    for hints in (FrameHints(video="park"), FrameHints(name="park")):
        table = read_detections(both, images=where, hints=hints)
        assert (table.frame.tolist(), table.xyxy[:, 0].tolist()) == ([1, 2], [20, 30])
        assert "2 detections of other videos than park left out" in table.warnings[0].message
    with pytest.raises(InputError, match=r"i\.json: has no video zoo; there: street, park"):
        read_detections(both, images=where, hints=FrameHints(video="zoo"))


def test_a_data_set_with_its_annotations(tmp_path: Path) -> None:
    """Annotations serve as detections; polygons become masks in pictures whose size is known."""
    polygon = [[0, 0, 8, 0, 8, 8, 0, 8]]
    annotations = [
        {"id": n, "image_id": 7, "category_id": 1, "bbox": [n, 0, 8, 8], "segmentation": polygon} for n in range(2)
    ]
    document = {"images": [{"id": 7, "file_name": "a.jpg", "width": 20, "height": 10}], "annotations": annotations}
    path = tmp_path / "set.json"
    path.write_text(json.dumps(document))
    table = read_detections(path)
    assert (table.frame.tolist(), table.score.tolist(), table.size) == ([0, 0], [1, 1], (10, 20))
    masks = table.at(0).masks
    assert masks is not None
    assert masks.areas.tolist() == [64, 64]


def test_a_list_of_images_for_another_format(tmp_path: Path) -> None:
    path = lines(tmp_path / "det.txt", "1,-1,3,50,40,80,0.9", range(2, 4))
    with pytest.raises(InputError, match=r"det\.txt: a list of images .* belongs to COCO results"):
        read_detections(path, images=listing(tmp_path / "i.json", []))


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "frame,id,bb_left,bb_top,bb_width,bb_height,conf",
        "<frame>,<id>,<bb_left>,<bb_top>,<bb_width>,<bb_height>,<conf>",
        "#frame,id,x,y,w,h,score",
        "FrameId,Id,X,Y,Width,Height,Confidence",
        "frame,track_id,left,top,width,height,score",
        "frame_id,tracker_id,bbox_left,bbox_top,bbox_width,bbox_height,score",
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
def test_mot_text_with_a_header_counts_from_one(tmp_path: Path, header: str, separator: str) -> None:
    path = lines(tmp_path / "det.csv", header, range(1, 5))
    path.write_text(path.read_text().replace(",", separator))
    table = read_detections(path)
    assert table.frame.tolist() == [0, 1, 2, 3]
    assert table.xyxy[1].tolist() == [9, 49, 49, 129]
    assert table.score.tolist() == pytest.approx([0.9] * 4)
    assert table.warnings == ()
    assert table.reading is not None
    assert (table.reading.pixels, table.reading.frames) == (1, "frames count from 1")


def test_mot_columns_that_count_from_zero(tmp_path: Path) -> None:
    """Columns in MOT's order with a frame 0 are an ordinary table; under MOT's names they are refused."""
    table = read_detections(lines(tmp_path / "a.csv", "frame,id,x,y,w,h,score", range(4)))
    assert (table.frame.tolist(), table.xyxy[1, 0], table.warnings) == ([0, 1, 2, 3], 10, ())
    path = lines(tmp_path / "b.csv", "frame,id,bb_left,bb_top,bb_width,bb_height,conf", range(4))
    with pytest.raises(InputError, match=r"line 2: frame 0: frames count from 1 \(frame_base=0: from 0\)"):
        read_detections(path)
    table = read_detections(path, frame_base=0)
    assert (table.frame.tolist(), table.xyxy[1, 0]) == ([0, 1, 2, 3], 10)


def test_mot_text_that_counts_from_zero(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.txt", "", range(4))
    with pytest.raises(InputError, match=r"line 2: frame 0: frames count from 1 \(frame_base=0: from 0\)"):
        read_detections(path)
    table = read_detections(path, frame_base=0)
    assert (table.frame.tolist(), table.xyxy[1, 0]) == ([0, 1, 2, 3], 10)
    assert str(table.reading) == "MOT text: columns frame, x, y, w, h, score; frames count from 0, pixels count from 0"


def test_tracks_of_a_table_as_detections_are_a_guess(tmp_path: Path) -> None:
    """In MOT's order, but the ids are no −1: which base it is stays open."""
    path = lines(tmp_path / "a.csv", "frame,id,x,y,w,h,score", range(1, 5), "{f},{x},{x},50,40,80,0.9")
    table = read_detections(path)
    assert (table.frame.tolist(), codes(table)) == ([0, 1, 2, 3], ["frame-base"])
    assert "frame 1…4 was taken as frames 0…3 (counted from 0): frame_base=0 says" in table.warnings[0].message
    assert codes(read_detections(path, length=4)) == []


@pytest.mark.parametrize(
    ("frames", "hints", "expected", "sure"),
    [
        (range(4), FrameHints(), range(4), True),
        (range(1, 5), FrameHints(), range(1, 5), False),
        (range(1, 5), FrameHints(length=4), range(4), True),
        (range(1, 5), FrameHints(length=10, names=PADDED), range(4), True),  # the pictures count from 1, too
        (range(1, 5), FrameHints(length=10, names=NAMED), range(1, 5), True),
        (range(2, 5), FrameHints(), range(2, 5), True),
        (range(1, 5), FrameHints(base=1), range(4), True),
    ],
)
def test_the_base_of_a_table(tmp_path: Path, frames: Any, hints: FrameHints, expected: Any, sure: bool) -> None:
    path = lines(tmp_path / "a.csv", "frame,x1,y1,x2,y2,score", frames, "{f},{x},50,90,130,0.9")
    table = read_detections(path, hints=hints)
    assert table.frame.tolist() == list(expected)
    assert table.xyxy[1].tolist() == [10, 50, 90, 130]
    assert codes(table) == ([] if sure else ["frame-base"])


def test_frames_of_a_table_by_the_numbers_of_pictures(tmp_path: Path) -> None:
    """Pictures 100 … 109: as places in the video these numbers would lie beyond it."""
    names = frames_by_name([f"{n}.jpg" for n in range(100, 110)], range(10))
    path = lines(tmp_path / "a.csv", "frame,x1,y1,x2,y2", (100, 103, 109), "{f},{x},50,90,130")
    table = read_detections(path, hints=FrameHints(10, names))
    assert (table.frame.tolist(), table.warnings) == ([0, 3, 9], ())
    assert "frames are the numbers of the pictures" in str(table.reading)
    path = lines(tmp_path / "a.csv", "frame,x1,y1,x2,y2", (100, 103, 110), "{f},{x},50,90,130")
    with pytest.raises(InputError, match="frame 100 is beyond the 10 frames"):
        read_detections(path, hints=FrameHints(10, names))


SUPERVISION = "x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,frame_index"


@pytest.mark.parametrize(
    ("header", "row", "score", "class_id"),
    [
        (SUPERVISION, "10,20,50,100,2,0.5,,{f}", 0.5, 2),
        (SUPERVISION, "10,20,50,100,,0.5,,{f}", 0.5, -1),  # a detector without classes
        ("xmin,ymin,xmax,ymax,confidence,class,name,frame_number", "10,20,50,100,0.5,2,car,{f}", 0.5, 2),
        (",frame_idx,X1,Y1,X2,Y2,Conf,Cls", "7,{f},10,20,50,100,0.5,2", 0.5, 2),
        ("Frame Number,x0,y0,x1,y1", "{f},10,20,50,100", 1, -1),
        ("image_id,cx,cy,width,height,label", "{f},30,60,40,80,3", 1, 3),
        ("frame,left,top,right,bottom,prob", "{f},10,20,50,100,0.5", 0.5, -1),
        ("frame left top width height", "{f} 10   20 40 80", 1, -1),
        ("frame.id,bbox.x1,bbox.y1,bbox.x2,bbox.y2,category", "{f},10,20,50,100,1", 1, 1),
    ],
)
def test_names_that_other_tools_give_columns(
    tmp_path: Path, header: str, row: str, score: float, class_id: int
) -> None:
    table = read_detections(lines(tmp_path / "a.csv", header, range(3), row))
    assert table.frame.tolist() == [0, 1, 2]
    assert table.xyxy[2].tolist() == [10, 20, 50, 100]
    assert (table.score[0], table.class_id[0]) == (score, class_id)
    assert table.warnings == ()
    assert table.reading is not None
    assert len(table.reading.columns) == 5 + (score != 1) + (class_id >= 0 or header == SUPERVISION)


def test_blank_lines_before_a_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n \nframe,x1,y1,x2,y2\n0,1,2,3,4\n1,1,x,3,4\n")
    with pytest.raises(InputError, match=r"a\.csv, line 5: .*'x'"):
        read_detections(path)
    path.write_text("\n \nframe,x1,y1,x2,y2\n0,1,2,3,4\n1,1,nan,3,4\n")
    with pytest.raises(InputError, match=r"a\.csv, line 5: a value is not finite"):
        read_detections(path)


def test_classes_that_are_words(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("frame,x1,y1,x2,y2,label\n0,1,2,3,4,dog\n0,9,2,13,4,cat\n1,1,2,3,4,dog\n")
    table = read_detections(path)
    assert (table.class_id.tolist(), table.class_names) == ([1, 0, 1], {0: "cat", 1: "dog"})
    frame = pd.read_csv(path)
    assert detections_from_columns(frame).class_id.tolist() == [1, 0, 1]


def test_pictures_named_in_a_table(tmp_path: Path) -> None:
    """As TensorFlow's tables do: width and height are the picture's."""
    header = "filename,width,height,class,xmin,ymin,xmax,ymax"
    path = lines(tmp_path / "a.csv", header, (3, 5), "img/{f:06d}.jpg,640,480,car,{x},1,99,50")
    table = read_detections(path, hints=FrameHints(10, PADDED))
    assert table.frame.tolist() == [2, 4]
    assert table.xyxy[1].tolist() == [10, 1, 99, 50]
    path = lines(tmp_path / "a.csv", "filename,xmin,ymin,xmax,ymax", (3, 99), "{f:06d}.jpg,{x},1,99,50")
    with pytest.raises(InputError, match=r"a\.csv, line 3: no picture is called '000099'"):
        read_detections(path, hints=FrameHints(10, PADDED))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("time,x1,y1,x2,y2", "no column frame among time, x1, y1, x2, y2"),
        ("frame,name,class,confidence,box", "no column x1, y1, x2, y2 among frame"),
        ("frame,x,y,r,score,a,b,c,d,e,f,g,h,i", "no column w among .* and 2 more; needed are frame and"),
        ("a" * 900 + ",x1,y1,x2,y2,\x1b[31m", r"no column frame among a{30}…, x1, y1, x2, y2, \\x1b\[31m;"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"a\.csv: {message}"):
        read_detections(lines(tmp_path / "a.csv", header, range(3), "{f},1,2,3,4"))


def test_data_frames_have_the_same_names_and_bases() -> None:
    ones = [1, 1]
    frame = pd.DataFrame({"bb_left": [1.0, 2], "bb_top": ones, "bb_width": ones, "bb_height": ones, "frame": [1, 2]})
    table = detections_from_columns(frame)
    assert (table.frame.tolist(), table.xyxy[0].tolist()) == ([0, 1], [0, 0, 1, 1])
    assert "columns frame, bb_left, bb_top, bb_width, bb_height; frames count from 1, pixels count from 1" in str(
        table.reading
    )


@pytest.mark.parametrize("kind", ["csv", "frame", "coco"])
def test_detections_of_several_videos_in_one_file(tmp_path: Path, kind: str) -> None:
    """The one that is called as the frames are, or the one that is asked for; never all of them as one."""
    frame = pd.DataFrame({"video": ["a.mp4", "b.mp4"] * 3, "frame": [0, 0, 1, 1, 2, 2], "x1": [0, 50, 1, 51, 2, 52]})
    frame = frame.assign(y1=0, x2=90, y2=40)

    def read(**hints: Any) -> DetectionTable:
        if kind == "frame":
            return detections_from_columns(frame, hints=FrameHints(**hints))
        path = tmp_path / "d"
        frame.to_csv(path, index=False)
        if kind == "coco":
            rows = frame.to_dict("records")
            items = [{"image_id": r["frame"], "video_id": r["video"], "bbox": [r["x1"], 0, 9, 9]} for r in rows]
            path.write_text(json.dumps(items))
        return read_detections(path, hints=FrameHints(**hints))

    with pytest.raises(InputError, match=r"detections of 2 videos \(a.mp4, b.mp4\): give one as video_name="):
        read()
    with pytest.raises(InputError, match=r"has no video c; there: a\.mp4"):
        read(video="c")
    for hints in ({"video": "b.mp4"}, {"name": "b"}):
        table = read(**hints)
        assert (table.frame.tolist(), table.xyxy[:, 0].tolist()) == ([0, 1, 2], [50, 51, 52])
        assert "3 detections of other videos than b.mp4 left out" in table.warnings[0].message
    frame = frame.assign(video=range(6))
    assert kind == "coco" or len(read()) == 6  # a number of each row


# --- numbers that are no frames, boxes that are no pixels -------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (
            (1_700_000_000, 1_700_000_001),
            "frames from 1700000000 to 1700000001 look like time stamps: number the frames",
        ),
        ((1.7e9 + 0.25, 1.7e9 + 0.5), "frames from 1700000000.25 to .* look like time stamps"),
        ((0, 0.04), r"frame 0\.04 is not a whole number: is it a time"),
        ((1, 1_700_000_000_000_000_000), r"frame 1\.7e\+18 is too large: is it a time"),
    ],
)
def test_times_for_frames(tmp_path: Path, frames: Any, message: str) -> None:
    path = lines(tmp_path / "a.csv", "frame,x1,y1,x2,y2", frames, "{f},1,2,30,40")
    with pytest.raises(InputError, match=rf"a\.csv.*: {message}"):
        read_detections(path)


def test_boxes_in_shares_of_the_frame(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.csv", "frame,x1,y1,x2,y2", range(3), "{f},0.25,0.1,0.5,1")
    with pytest.raises(InputError, match=r"a\.csv: all boxes lie between 0 and 1, as shares of the frame: multiply"):
        read_detections(path)
    with pytest.raises(InputError, match="shares of the frame"):
        read_detections(results(tmp_path / "r.json", range(3), bbox=[0.1, 0.2, 0.3, 0.4]))
    with pytest.raises(InputError, match="shares of the frame"):  # pixels of MOT text count from 1
        read_detections(lines(tmp_path / "m.txt", "", range(1, 4), "{f},-1,0.25,0.1,0.5,0.4,0.9"))
    assert len(read_detections(lines(tmp_path / "b.csv", "frame,x1,y1,x2,y2", range(3), "{f},0,0,1,1"))) == 3


def test_far_frames_cost_nothing(tmp_path: Path) -> None:
    table = read_detections(lines(tmp_path / "a.csv", "frame,x1,y1,x2,y2", (0, 2**31 - 1), "{f},1,2,30,40"))
    assert table.frame_count == 2**31
    np.testing.assert_array_equal(table.frames, [0, 2**31 - 1])
