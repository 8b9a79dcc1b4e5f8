"""`OpenedRun`: what the page learns about a run is what the run holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tests.toy_scenes import CROSSING
from trackweave.corrections.doubt import Links
from trackweave.errors import ArtifactError, InputError
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.run import open_run
from trackweave.pipelines.settings import InputSettings
from trackweave.reports.doubt import find_doubts
from trackweave.reports.track_table import track_table
from trackweave.structures.run_summary import SwitchRecord
from trackweave.structures.tracks import Tracks
from trackweave.view.opened_run import OpenedRun, run_lengths


def test_a_box_run(match_run: Path) -> None:
    tracks = open_run(match_run).tracks()
    with OpenedRun(match_run) as opened:
        info = opened.info()
        assert (info["kind"], info["frames"], info["width"], info["height"]) == ("boxes", 60, 320, 180)
        assert info["pictures"] is True
        assert info["indices"] == [[0, 0]]
        answer = opened.objects_json(10, 3, with_masks=True)
        for k, frame in enumerate(answer["frames"]):
            here = tracks.at(10 + k)
            assert frame["id"] == here.track_id.tolist()
            assert np.allclose(np.reshape(frame["box"], (-1, 4)), here.xyxy, atol=0.051)
        columns = opened.tracks_json()
        assert columns["id"] == tracks.track_ids.tolist()
        spans = np.reshape(columns["spans"], (-1, 2))
        for row, track_id in enumerate(columns["id"]):
            frames = tracks.of(track_id).frame
            own = spans[columns["starts"][row] : columns["starts"][row + 1]]
            assert np.concatenate([np.arange(*span) for span in own]).tolist() == frames.tolist()
        json.dumps([info, answer, columns], allow_nan=False)


def test_objects_beyond_the_ends_are_none(match_run: Path) -> None:
    with OpenedRun(match_run) as opened:
        last = opened.objects_json(58, 100, with_masks=False)["frames"][-1]
        assert last["id"] == opened.shown.tracks.at(59).track_id.tolist()
        assert opened.objects_json(1000, 5, with_masks=False)["frames"] == []
        assert opened.objects_json(-7, 0, with_masks=False) == {"first": 0, "frames": []}


def test_a_mask_run(mask_run: Path) -> None:
    run = open_run(mask_run)
    with OpenedRun(mask_run) as opened:
        assert opened.info()["levels"] == [2, 4]
        (frame,) = opened.objects_json(2, 1, with_masks=True)["frames"]
        found: dict[tuple[int, int], NDArray[np.bool_]] = {}
        for level in run.levels:
            with run.masks(level) as video:
                objects = video.frame(2)
                found |= {
                    (int(level), t): m for t, m in zip(objects.track_id.tolist(), objects.masks.to_bool(), strict=True)
                }
        assert set(zip(frame["level"], frame["id"], strict=True)) == set(found)
        for level, track_id, mask in zip(frame["level"], frame["id"], frame["masks"], strict=True):
            assert np.array_equal(decoded(mask), found[level, track_id])


def decoded(mask: dict[str, list[int]]) -> np.ndarray:
    """What the page draws."""
    inside = np.zeros(mask["size"], bool)
    values = np.repeat(np.arange(len(mask["runs"])) % 2 == 1, mask["runs"])
    x, y, w, h = (int(mask[key]) for key in "xywh")  # type: ignore[call-overload]
    inside[y : y + h, x : x + w] = values.reshape(h, w)
    return inside


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 20)), elements=st.integers(0, 1)),
    st.tuples(*[st.integers(0, 9)] * 4),
)
def test_runs_are_the_mask(inside: np.ndarray, around: tuple[int, ...]) -> None:
    image = np.pad(inside, (around[:2], around[2:])).astype(bool)
    runs = run_lengths(PackedMasks.from_bool(image[None]), 0)
    if not image.any():
        assert runs is None
        return
    assert runs is not None
    assert all(runs["runs"][1:])  # only the first may be empty
    assert sum(runs["runs"]) == runs["w"] * runs["h"]
    assert np.array_equal(decoded({**runs, "size": list(image.shape)}), image)


def test_detections_alone_are_shown_without_pictures(tmp_path: Path) -> None:
    rows = "".join(f"{t},-1,{10 + 4 * t},20,40,100,0.9\n" for t in range(3, 12))
    (tmp_path / "det.txt").write_text(rows)
    track_boxes(
        None, tmp_path / "run", detections=str(tmp_path / "det.txt"), video=InputSettings(fps=10, size=(320, 240))
    )
    with OpenedRun(tmp_path / "run") as opened:
        info = opened.info()
        assert (info["frames"], info["width"], info["height"], info["rate"]) == (11, 320, 240, 10)
        assert info["pictures"] is False
        assert "frames" in info["notice"]
        assert opened.shown.table.first.tolist() == [2]


def test_frames_that_moved_are_named(match_run: Path, tmp_path: Path) -> None:
    manifest = json.loads((match_run / "summary.json").read_text())
    video = Path(manifest["input"]["path"])
    copy, elsewhere = tmp_path / "run", tmp_path / "elsewhere.mp4"
    shutil.copytree(match_run, copy)
    shutil.copy(video, elsewhere)
    manifest["input"]["path"] = str(tmp_path / "gone.mp4")
    (copy / "summary.json").write_text(json.dumps(manifest))
    with OpenedRun(copy) as opened:
        assert "gone.mp4 is gone" in opened.info()["notice"]
    with OpenedRun(copy, frames=elsewhere) as opened:
        assert opened.info()["pictures"] is True


def test_frames_of_another_size_are_refused(match_run: Path, mask_run: Path) -> None:
    with pytest.raises(InputError, match="the run's are 320×180"):
        OpenedRun(match_run, frames=mask_run.parent / "frames")


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is no run folder"):
        OpenedRun(tmp_path)


def test_a_track_that_breaks_off_in_the_picture_is_doubtful() -> None:
    """Track 1 walks from border to border, track 2 ends in the middle, track 3 is seen once."""
    x = np.arange(0, 300, 10)
    frame = np.concatenate([np.arange(30), np.arange(15), [20]])
    ids = np.repeat([1, 2, 3], [30, 15, 1])
    left = np.concatenate([x, x[:15], [150]])
    boxes = np.stack([left, np.full(46, 40), left + 20, np.full(46, 90)], axis=1)
    tracks = Tracks.from_columns(frame, ids, boxes, np.full(46, 0.9))
    table = track_table(tracks, tracks.frame)
    switches: list[SwitchRecord] = [{"frame": 9, "tracks": [1, 2], "cause": "exchange", "confidence": 0.4}]
    places, no_cuts = np.arange(30), np.zeros(0, np.int64)
    plain = find_doubts(tracks, table, places, no_cuts, [], size=(240, 310), rate=10, begins_anywhere=False)
    assert plain.track[0] == 0
    assert plain.reasons[1] == ["ends inside the picture"]
    assert "short" in plain.reasons[2]
    assert plain.track[2] > plain.track[1] > 0
    suspected = find_doubts(tracks, table, places, no_cuts, switches, size=(240, 310), rate=10, begins_anywhere=False)
    assert suspected.reasons[0] == ["exchange suspected on frame 9"]
    assert suspected.track[0] == pytest.approx(0.4)
    assert suspected.frame[9] == pytest.approx(0.4)
    cut = find_doubts(tracks, table, places, np.array([15]), [], size=(240, 310), rate=10, begins_anywhere=False)
    assert cut.reasons[1] == []
    doubt, partner = np.zeros(46), np.full(46, -1)
    rows = np.flatnonzero(tracks.frame == 7)
    doubt[rows], partner[rows] = 0.3, rows[::-1]
    links = Links(np.full(46, -1), doubt, partner, np.zeros(46))
    linked = find_doubts(
        tracks, table, places, no_cuts, [], size=(240, 310), rate=10, begins_anywhere=False, links=links
    )
    assert linked.switches == [{"position": 7, "tracks": [1, 2], "cause": "exchange", "confidence": 0.3}]
    assert linked.frame[7] == pytest.approx(1 - 0.7**2)
    assert linked.frame[:7].max() == 0


def test_the_toy_scene_is_what_was_tracked(mask_run: Path) -> None:
    with OpenedRun(mask_run) as opened:
        assert opened.size == CROSSING.labels.shape[1:]
        assert len(opened) == len(CROSSING.labels)
