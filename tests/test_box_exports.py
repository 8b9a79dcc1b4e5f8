"""Pages and exports of runs of boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.toy_boxes import HEIGHT, WIDTH, box_of, detection_lines, make_clip, make_sequence, write_lines
from trackweave.errors import ArtifactError, InputError, SettingError
from trackweave.exporters import export
from trackweave.formats.davis import read_label_png
from trackweave.frames.open import open_frames
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.mot.settings import preset
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.settings import InputSettings
from trackweave.reports.contents import read_contents
from trackweave.reports.page import render_report
from trackweave.reports.page import report as write_report

EASY = preset("adaptive", instant_score=0.5)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    track_boxes(make_sequence(tmp_path / "toy", images=12), tmp_path / "run", tracker=EASY)
    return tmp_path / "run"


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_relative_input_is_found_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_sequence(tmp_path / "toy", images=12)
    monkeypatch.chdir(tmp_path)
    track_boxes("toy", "run", detections="toy/det/det.txt", tracker=EASY)
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    export("../run", "mp4", "a.mp4")
    with pytest.raises(InputError, match="is an input of the run"):
        export("../run", "mot", "../toy/det/det.txt")


def test_the_page_of_a_run_of_boxes(run: Path) -> None:
    contents = read_contents(run)
    (part,) = contents.levels
    assert (part.title, part.counts["tracks"], part.counts["boxes"]) == ("Tracks", 2, 24)
    assert [life.spans for life in part.tracks] == [[(0, 11)]] * 2
    assert {"tracks.npz", "tracks.mot.txt", "overlay.mp4"} <= set(contents.files)
    assert contents.size == (HEIGHT, WIDTH)
    page = render_report(contents)
    for text in (
        "detections ",
        "det.txt",
        "Length of tracks, in boxes",
        "10 – 29",
        "frames/s association",
        "overlay.mp4",
    ):
        assert text in page
    assert "prompted" not in page
    assert "Suspected identity switches" not in page
    assert write_report(run) == run / "report.html"


def test_the_page_lists_what_was_left_out_and_suspected(run: Path) -> None:
    switch = {"frame": 7, "tracks": [1, 2], "cause": "exchange", "confidence": 0.81}
    summary = json.loads((run / "summary.json").read_text())
    totals = summary["totals"] | {"tracks": 500, "est_id_switches": 2}
    changed(run / "summary.json", totals=totals, suspected_switches=[switch] * 60, skipped={"frame-unreadable": 3})
    contents = read_contents(run)
    assert contents.levels[0].unlisted == 498
    page = render_report(contents)
    assert "frame-unreadable" in page
    assert "exchange, tracks 1, 2, confidence 0.81" in page
    assert "40 more in summary.json" in page
    assert contents.viewer is not None
    assert "498 shorter" not in page  # the tracks are there, all of them
    (run / "tracks.npz").unlink()
    assert "498 shorter tracks are not" in render_report(read_contents(run))
    assert "suspected switches" in page


def test_the_page_without_frames(tmp_path: Path) -> None:
    det = write_lines(tmp_path / "det.txt", detection_lines(6))
    track_boxes(None, tmp_path / "run", detections=det, tracker=EASY, video=InputSettings(size=(WIDTH, HEIGHT)))
    contents = read_contents(tmp_path / "run")
    assert contents.size == (HEIGHT, WIDTH)
    assert contents.video is None
    assert "2</b><span>tracks" in render_report(contents)


def test_a_summary_that_is_damaged(run: Path) -> None:
    changed(run / "summary.json", totals=None)
    with pytest.raises(ArtifactError, match="the run summary is damaged"):
        read_contents(run)


def test_mot_text(run: Path, tmp_path: Path) -> None:
    export(run, "mot", tmp_path / "t.txt")
    assert (tmp_path / "t.txt").read_bytes() == (run / "tracks.mot.txt").read_bytes()


def test_the_video_is_that_of_the_run(run: Path, tmp_path: Path) -> None:
    # The pictures, not the bytes: the encoder owes nobody the same file twice.
    export(run, "mp4", tmp_path / "a.mp4")
    with open_frames(tmp_path / "a.mp4") as exported, open_frames(run / "overlay.mp4") as written:
        assert len(exported) == len(written) == 12
        for a, b in zip(exported, written, strict=True):
            assert np.abs(a.astype(np.int16) - b).mean() < 1


def test_the_video_of_some_frames(tmp_path: Path) -> None:
    clip, run = make_clip(tmp_path / "clip.mp4", 10), tmp_path / "run"
    det = write_lines(tmp_path / "det.txt", detection_lines(10))
    track_boxes(clip, run, detections=det, tracker=EASY, overlay=False, video=InputSettings(frames="1::3"))
    export(run, "mp4", tmp_path / "a.mp4")
    with open_frames(tmp_path / "a.mp4") as video:
        assert len(video) == 3
        assert video.times is not None
        assert video.times[1] == pytest.approx(0.3)


def test_frames_that_moved_are_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "toy").rename(tmp_path / "moved")
    with pytest.raises(ArtifactError, match="are not there any more: name them with frames="):
        export(run, "mp4", tmp_path / "a.mp4")
    export(run, "mp4", tmp_path / "a.mp4", frames=tmp_path / "moved" / "img1")
    assert (tmp_path / "a.mp4").stat().st_size > 0


def test_frames_that_are_not_the_runs(run: Path, tmp_path: Path) -> None:
    from trackweave.simulation.video import SyntheticScene

    with pytest.raises(ArtifactError, match="these are not the run's frames"):
        export(run, "mp4", tmp_path / "a.mp4", frames=SyntheticScene(length=12, height=48, width=64))
    assert not (tmp_path / "a.mp4").exists()


def test_a_run_without_images(tmp_path: Path) -> None:
    track_boxes(make_sequence(tmp_path / "toy"), tmp_path / "run")
    with pytest.raises(ArtifactError, match="has no pictures to draw on"):
        export(tmp_path / "run", "mp4", tmp_path / "a.mp4")


def test_there_are_no_levels(run: Path) -> None:
    with pytest.raises(SettingError, match="is a run of boxes, which has no levels, so no level 2"):
        export(run, "mot", run / "t.txt", level=2)
    with pytest.raises(SettingError, match="davis has masks, and toy has boxes alone: choose mot"):
        export(run, "davis", run / "davis")


def test_masks_of_the_detections_become_label_images(tmp_path: Path) -> None:
    masks = np.zeros((6, 2, HEIGHT, WIDTH), np.bool_)
    for frame, track in np.ndindex(6, 2):
        x1, y1, x2, y2 = box_of(track + 1, frame)
        masks[frame, track, y1 + 2 : y2, x1:x2] = True
    items = [
        {"image_id": frame, "category_id": 1, "score": 0.9, "segmentation": entry}
        for frame in range(6)
        for entry in encode_rle(PackedMasks.from_bool(masks[frame]))
    ]
    (tmp_path / "dets.json").write_text(json.dumps(items))
    for source, names in ((None, "frame_000000"), (make_sequence(tmp_path / "toy", frames=6, images=6), "000001")):
        run = tmp_path / f"run-{names}"
        track_boxes(source, run, detections=tmp_path / "dets.json", tracker=EASY)
        files = export(run, "davis", tmp_path / names)
        assert (len(files), files[0].stem) == (6, names)
        labels = read_label_png(files[3])
        for row in range(2):
            (track_id,) = np.unique(labels[masks[3][row]])
            assert track_id > 0
            assert ((labels == track_id) == masks[3][row]).all()


def test_a_manifest_that_is_damaged(run: Path, tmp_path: Path) -> None:
    changed(run / "manifest.json", config={})
    with pytest.raises(ArtifactError, match="lacks or misspells 'input'"):
        export(run, "mp4", tmp_path / "a.mp4")


def test_an_export_does_not_go_over_the_images_of_a_sequence(tmp_path: Path) -> None:
    sequence = make_sequence(tmp_path / "toy", images=12)
    root = track_boxes(sequence, tmp_path / "run", tracker=EASY).root
    with pytest.raises(InputError, match="export to another place"):
        export(root, "davis", sequence / "img1")
    with pytest.raises(InputError, match="export to another place"):
        export(root, "mot", sequence / "det" / "det.txt")
