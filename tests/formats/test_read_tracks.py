from __future__ import annotations

import json
import tracemalloc
from itertools import islice
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest

from tests.formats.test_ytvis import SIZE, box, coco_vid, track, write, ytvis
from tests.formats.worlds import discs, objects
from tests.toy_boxes import write_lines
from trackweave.errors import InputError, SettingError
from trackweave.formats.prompts import read_prompts
from trackweave.formats.readers import read_detections, read_tracks
from trackweave.formats.registry import FORMATS, read_video, write_video
from trackweave.formats.videos import TracksVideo
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import write_video_segments
from trackweave.storage.track_archive import TrackRows, TracksArchiveWriter
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracked_video import VideoInfo
from trackweave.structures.tracks import Tracks


def test_mot_text(tmp_path: Path) -> None:
    tracks = read_tracks(write_lines(tmp_path / "t.txt", ["2,7,11,21,5,6,0.5", "1,7,11,21,5,6,0.5"]))
    assert tracks.frame.tolist() == [0, 1]
    assert tracks.xyxy[0].tolist() == [10, 20, 15, 26]


def test_kitti_without_its_regions(tmp_path: Path) -> None:
    lines = ["0 2 Car 0 0 -10 5 6 9 12 1 1 1 0 0 9 0 0.5", "0 -1 DontCare -1 -1 -10 1 1 2 2 -1 -1 -1 -1 -1 -1 -1"]
    tracks = read_tracks(write_lines(tmp_path / "t.txt", lines))
    assert (tracks.track_id.tolist(), tracks.class_id.tolist(), tracks.score.tolist()) == ([2], [1], [0.5])
    assert tracks.xyxy.tolist() == [[5, 6, 9, 12]]


def test_youtube_vis_with_masks_where_there_are_some(tmp_path: Path) -> None:
    boxes = {"id": 12, "video_id": 7, "category_id": 1, "bboxes": [None, [1, 2, 3, 3], None]}
    path = write(tmp_path / "t.json", ytvis([track(), boxes]))
    tracks = read_tracks(path)
    assert (tracks.frame.tolist(), tracks.track_id.tolist()) == ([0, 1, 2], [11, 12, 11])
    assert tracks.xyxy.tolist() == [[0, 1, 2, 4], [1, 2, 4, 5], [1, 1, 4, 4]]
    assert tracks.masks is not None
    assert (tracks.masks.size, tracks.masks.areas.tolist()) == (SIZE, [6, 0, 9])
    alone = read_tracks(path, with_masks=False)
    assert (alone.masks, alone.xyxy.tolist()) == (None, tracks.xyxy.tolist())


def test_coco_vid_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", coco_vid([box(), box(image_id=99)]))
    assert read_tracks(path, sequence="street").frame.tolist() == [1]
    with pytest.raises(InputError, match="has 2 videos; name one as sequence: street, park"):
        read_tracks(path)
    with pytest.raises(InputError, match="has no video zoo; there: street, park"):
        read_tracks(path, sequence="zoo")


def test_results_need_the_truth_that_lists_the_videos(tmp_path: Path) -> None:
    truth = write(tmp_path / "gt.json", ytvis([track()]))
    results = write(tmp_path / "r.json", [track(score=0.5)])
    assert read_tracks(results, ground_truth=truth).score.tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match="it needs ground truth"):
        read_tracks(results)


def test_our_archives(tmp_path: Path) -> None:
    masks = discs(2, 20, 30)
    tracks = Tracks.from_columns([0, 0], [1, 2], np.ones((2, 4)), masks=PackedMasks.from_bool(masks))
    with TracksArchiveWriter(tmp_path / "tracks.npz") as writer:
        writer.write(TrackRows(tracks, np.zeros(2, np.int64), np.zeros(2)))
    again = read_tracks(tmp_path / "tracks.npz")
    assert again.track_id.tolist() == [1, 2]
    assert again.masks is not None
    assert read_tracks(tmp_path / "tracks.npz", with_masks=False).masks is None
    written: Any = [objects([3, 4], masks, 5)]
    path = tmp_path / "video_segments.npz"
    write_video_segments(path, written, mask_scale_ratio=1.0, full_resolution_shape=None, metadata={"level": 4})
    level = read_tracks(path)
    assert level.level is not None
    assert (level.frame.tolist(), level.track_id.tolist(), level.level.tolist()) == ([5, 5], [3, 4], [4, 4])


def test_what_holds_no_tracks_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    (tmp_path / "broken.npz").write_bytes(b"PK and no more")
    for name, message in (
        ("other.npz", "holds no tracks"),
        ("broken.npz", "holds no tracks"),
        ("absent.txt", "cannot be read"),
        (".", "is a folder; the tracks of a run"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_tracks(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["csv", "cvat", "mots", "labelme", "davis"])
def test_every_format_that_is_recognised_is_read(name: str, tmp_path: Path) -> None:
    masks = PackedMasks.from_bool(np.ones((1, 4, 6), np.bool_))
    video = TracksVideo(Tracks.from_columns([1], [7], masks.boxes, masks=masks))
    write_video(video, tmp_path / "tracks", FORMATS[name], log=RunLog(package=None))
    tracks = read_tracks(tmp_path / "tracks")
    assert (tracks.frame.tolist(), tracks.track_id.tolist(), tracks.xyxy.tolist()) == ([1], [7], [[0, 0, 6, 4]])
    assert tracks.masks == masks
    assert read_tracks(tmp_path / "tracks", with_masks=False).masks is None


@pytest.mark.parametrize(
    ("number", "name"), [("class_id", "class_name"), ("category_id", "category"), ("class", "label")]
)
def test_a_class_of_a_table_has_a_number_and_a_name(number: str, name: str, tmp_path: Path) -> None:
    head, rows = (
        f"frame,track_id,x1,y1,x2,y2,{number},{name}",
        ["0,1,0,0,4,4,3,bus", "0,2,4,4,8,8,5,bus", "1,1,0,0,4,4,3,"],
    )
    path = tmp_path / "t.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    video = read_video(path)
    assert video.info.class_names == {3: "bus", 5: "bus"}
    assert [tracks.class_id.tolist() for _, tracks in video.frames()] == [[3, 5], [3]]
    path.write_text("\n".join([head, *rows, "2,1,0,0,4,4,3,car"]) + "\n")
    with pytest.raises(InputError, match="line 5: class 3 is called bus and car"):
        read_video(path)
    path.write_text("\n".join([head, "0,1,0,0,4,4,3.5,bus"]) + "\n")
    with pytest.raises(InputError, match=r"line 2: class '?3.5'? is not a whole number"):
        read_video(path)


def test_a_category_with_two_names_is_refused(tmp_path: Path) -> None:
    twice = [{"id": 1, "name": "bus"}, {"id": 1, "name": "car"}]
    images = [{"id": 0, "file_name": "0.jpg", "height": 8, "width": 8}]
    item = {"image_id": 0, "track_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4]}
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"images": images, "annotations": [item], "categories": twice}))
    for read in (read_video, read_detections):
        with pytest.raises(InputError, match="category 1 is called bus and car"):
            read(path)


LONG = 9_999_998
CVAT_HEAD = (
    f"<annotations><meta><task><name>v</name><start_frame>0</start_frame><stop_frame>{LONG}</stop_frame>"
    "</task></meta>{}</annotations>"
)
CVAT_BOX = '<box {} xtl="1" ytl="1" xbr="5" ybr="5"><attribute name="track_id">3</attribute></box>'


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("track.xml", CVAT_HEAD.format('<track id="0">' + CVAT_BOX.format('frame="1"') + "</track>")),
        ("image.xml", CVAT_HEAD.format('<image id="1" name="x.png">' + CVAT_BOX.format("") + "</image>")),
        ("mot.txt", f"1,1,1,1,5,5,1,1,1\n{LONG},1,1,1,5,5,1,1,1\n"),
        ("kitti.txt", f"{LONG} 1 Car 0 0 0 1 1 5 5 -1 -1 -1 0 0 0 0\n"),
        ("tracks.csv", f"frame,track_id,x1,y1,x2,y2\n1,1,1,1,5,5\n{LONG},1,1,1,5,5\n"),
    ],
)
def test_a_number_of_frames_takes_no_memory(file: str, text: str, tmp_path: Path) -> None:
    """What a head or a single row says of the length of the video: ten million frames took 2 GB."""
    path = tmp_path / file
    path.write_text(text)
    tracemalloc.start()
    try:
        video = read_video(path)
        first = list(islice(video.frames(), 3))
        assert LONG - 1 in video.info.positions
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(video.info.names) >= LONG - 1
    assert video.info.names[2] == "frame_000002"
    assert [int(index) for index, _ in first] == [0, 1, 2]
    assert sum(len(tracks) for _, tracks in first) == (file != "kitti.txt")
    assert peak < 20e6


def test_a_class_that_would_fill_a_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("frame,track_id,x1,y1,x2,y2,class_id\n0,1,1,1,5,5,1000000000\n")
    video = read_video(path, hints=VideoInfo("v", range(2), ["0.png", "1.png"], (80, 100)))
    with pytest.raises(SettingError, match=r"yolo: .*: class 1000000000: classes.txt has a line for each number"):
        write_video(video, tmp_path / "out", FORMATS["yolo"])


@pytest.mark.parametrize("last", [600_000, 2**31 - 2, 2**62])
def test_a_key_frame_that_is_too_far_away_is_refused_at_once(last: int, tmp_path: Path) -> None:
    """Its frames in between would be billions of boxes."""
    shape = '<box frame="{}" keyframe="1" outside="0" xtl="0" ytl="0" xbr="3" ybr="3"/>'
    shapes = shape.format(0) + shape.format(last)
    (tmp_path / "a.xml").write_text(f'<annotations><track id="0" label="van">{shapes}</track></annotations>')
    place = {"x": 1, "y": 1, "width": 2, "height": 2}
    info = VideoInfo("v", range(0, 20, 10), ["a", "b"], (20, 20))
    for hints in (None, info):
        with pytest.raises(InputError, match=rf"track 0: frame {last} is too far after frame 0|out of range"):
            read_video(tmp_path / "a.xml", "cvat", hints=hints)
    for sequence, count in (([{"frame": 1}, {"frame": last}], 5), ([{"frame": 1}], last)):
        value = {"framesCount": count, "labels": ["van"], "sequence": [key | place for key in sequence]}
        region = {"type": "videorectangle", "id": "1", "value": value}
        task = {"data": {"video": "v"}, "annotations": [{"result": [region]}]}
        (tmp_path / "a.json").write_text(json.dumps([task]))
        with pytest.raises(InputError, match="is too far after frame 1"):
            read_video(tmp_path / "a.json", "label-studio", hints=info)


def test_tracks_in_tracks_are_read_in_no_time(tmp_path: Path) -> None:
    """Fifty thousand, each in the one before: looking through all of each would be a billion steps."""
    depth = 50_000
    (tmp_path / "a.xml").write_text(f"<annotations>{'<track>' * depth}{'</track>' * depth}</annotations>")
    started = process_time()
    assert len(read_tracks(tmp_path / "a.xml")) == 0
    with pytest.raises(InputError):
        read_prompts(tmp_path / "a.xml")
    assert process_time() - started < 5


def test_a_track_without_shapes_is_no_object(tmp_path: Path) -> None:
    box = '<box frame="1" xtl="0" ytl="0" xbr="3" ybr="3"/>'
    tracks = f'<track label="a"/><track label="b">{box}</track>'
    (tmp_path / "a.xml").write_text(f"<annotations>{tracks}</annotations>")
    found = read_tracks(tmp_path / "a.xml")
    assert (found.frame.tolist(), found.xyxy.tolist()) == ([1], [[0, 0, 3, 3]])
