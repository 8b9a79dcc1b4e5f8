from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formats.test_ytvis import SIZE, box, coco_vid, track, write, ytvis
from tests.formats.worlds import discs, objects
from tests.toy_boxes import write_lines
from trackweave.errors import InputError
from trackweave.formats.readers import read_tracks
from trackweave.formats.registry import FORMATS, write_video
from trackweave.formats.videos import TracksVideo
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import write_video_segments
from trackweave.storage.track_archive import TrackRows, TracksArchiveWriter
from trackweave.structures.run_log import RunLog
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
