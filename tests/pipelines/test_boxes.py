"""Box tracking from its inputs to its run folder."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.toy_boxes import (
    COLOURS,
    FPS,
    HEIGHT,
    WIDTH,
    box_of,
    detection_lines,
    image_of,
    make_clip,
    make_sequence,
    mot_line,
    write_lines,
)
from trackweave.association.inspection import inspect_samples
from trackweave.association.settings import LogSettings, ScorerSettings
from trackweave.errors import ArtifactError, FrameError, InputError, RunFolderError, SettingError
from trackweave.formats.mot import read_mot
from trackweave.formats.readers import read_detections
from trackweave.frames.live import LiveFrames, StreamFailure
from trackweave.frames.open import open_frames
from trackweave.frames.source import RGBFrame, WholeVideo
from trackweave.masks.packed import PackedMasks
from trackweave.mot.settings import RefinementSettings, preset
from trackweave.mot.tracker import Tracker
from trackweave.pipelines import video_input
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.detection_source import DetectionsArgument
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import Run
from trackweave.pipelines.samples import build_samples
from trackweave.pipelines.settings import InputSettings, PerceptionSettings
from trackweave.reports.page import report as write_report
from trackweave.storage.files import LOCK_NAME
from trackweave.storage.samples import read_sample
from trackweave.structures.detections import Detections
from trackweave.structures.tracks import Tracks

EASY = preset("adaptive", instant_score=0.5)
"""New tracks are shown at once."""


class ColourDetector:
    """Sees the two coloured boxes exactly, with their masks."""

    name = "colour"
    class_names: Mapping[int, str] | None = None

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        insides = [np.abs(image.astype(int) - colour).max(axis=2) < 40 for colour in COLOURS.values()]
        masks = PackedMasks.from_bool(np.stack(insides))
        masks = masks[np.flatnonzero(masks.areas)]
        return Detections.of(masks.boxes, np.full(len(masks), 0.9), masks=masks)

    def reset(self) -> None:
        return

    def close(self) -> None:
        return


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_two_objects(tracks: Tracks, frames: Sequence[int]) -> None:
    """Each object has one identity on all frames, and its own boxes."""
    assert len(tracks.track_ids) == 2
    for track, top in ((1, 10), (2, 50)):
        mine = tracks[np.abs(tracks.xyxy[:, 1] - top) < 3]
        assert mine.frame.tolist() == list(frames)
        assert len(np.unique(mine.track_id)) == 1
        np.testing.assert_allclose(mine.xyxy, [box_of(track, k) for k in frames], atol=2)


def codes(run: Run) -> list[str]:
    return [warning.code for warning in run.warnings]


def record(run: Run) -> dict[str, Any]:
    """What `summary.json` holds."""
    content: dict[str, Any] = json.loads(run.paths.summary.read_text())
    return content


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_second_run_into_a_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    sequence, run = make_sequence(tmp_path / "toy", images=12), tmp_path / "run"
    refused: list[str] = []

    def begin_another(done: int, total: int, label: str) -> None:
        if done == 4:
            with pytest.raises(RunFolderError) as caught:
                track_boxes(sequence, run, tracker=EASY)
            refused.append(str(caught.value))

    result = track_boxes(sequence, run, tracker=EASY, progress=begin_another)
    assert refused == [f"{run}: another job of this process is working in this folder: wait for it, or choose another"]
    assert_two_objects(result.tracks(), range(12))
    assert not [name for name in names(run) if name.startswith(".")]


def test_a_run_does_not_write_over_its_input(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "overlay.mp4")
    content = clip.read_bytes()
    with pytest.raises(
        InputError, match=r"overlay\.mp4: is an input, and would be written over: choose another output"
    ):
        track_boxes(clip, tmp_path, detections=ColourDetector(), tracker=EASY)
    assert clip.read_bytes() == content
    rows = write_lines(tmp_path / "other" / "tracks.mot.txt", detection_lines(12))
    (tmp_path / "link.txt").symlink_to(rows)
    with pytest.raises(InputError, match=r"tracks\.mot\.txt: is an input"):
        track_boxes(clip, tmp_path / "other", detections=tmp_path / "link.txt", tracker=EASY)
    assert names(tmp_path / "other") == ["tracks.mot.txt"]


def test_another_run_takes_the_folder_when_asked(tmp_path: Path) -> None:
    sequence, run = make_sequence(tmp_path / "toy", images=4), tmp_path / "run"
    track_boxes(sequence, run, tracker=EASY)
    (run / "notes.txt").touch()
    with pytest.raises(RunFolderError, match="overwrite=True"):
        track_boxes(sequence, run, tracker=EASY)
    with pytest.raises(InputError):  # what is wrong with the input shows before anything is removed
        track_boxes(tmp_path / "missing", run, tracker=EASY, overwrite=True)
    with pytest.raises(InputError, match="is an input"):
        track_boxes(sequence, run, detections=run / "tracks.mot.txt", tracker=EASY, overwrite=True)
    assert (run / "overlay.mp4").is_file()
    track_boxes(sequence, run, tracker=EASY, overlay=False, overwrite=True)
    assert not (run / "overlay.mp4").exists()
    assert (run / "notes.txt").is_file()


def test_hidden_files_of_another_program_stay(tmp_path: Path) -> None:
    run = tmp_path / "run"
    foreign = [run / ".download.zip.partial", run / "deep" / ".video.mkv.partial"]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    track_boxes(make_sequence(tmp_path / "toy"), run, tracker=EASY)
    assert all(path.read_text() == "mine" for path in foreign)


# --- sources ----------------------------------------------------------------------------------------------------------


def test_a_sequence_folder_as_it_is(tmp_path: Path) -> None:
    folder, run = make_sequence(tmp_path / "toy", images=12), tmp_path / "run"
    result = track_boxes(folder, run, tracker=EASY)
    assert_two_objects(result.tracks(), range(12))
    assert_two_objects(read_mot(run / "tracks.mot.txt"), range(12))
    assert names(run) == [
        "frames.json",
        "manifest.json",
        "overlay.mp4",
        "summary.json",
        "tracks.mot.txt",
        "tracks.npz",
    ]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["command"] == "boxes"
    assert summary["input"]["frame_rate"] == FPS
    assert (summary["totals"]["frames"], summary["totals"]["detections"]) == (12, 24)
    assert (summary["totals"]["tracks"], summary["totals"]["boxes"], summary["totals"]["births"]) == (2, 24, 2)
    assert [life["spans"] for life in summary["longest_tracks"]] == [[[0, 11]], [[0, 11]]]
    assert summary["association_fps"] > 0
    assert {"open", "detect", "track", "write", "overlay"} <= set(summary["durations"])
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["tracks"]["archive"] == "tracks.npz"
    assert manifest["config"]["tracker"]["instant_score"] == 0.5
    with open_frames(run / "overlay.mp4") as video:
        assert (len(video), video.size) == (12, (HEIGHT, WIDTH))
        assert video.times is not None
        assert video.times[1] == pytest.approx(1 / FPS)
        assert np.abs(video[11].astype(int) - image_of(11)).max() > 60  # something is drawn


def with_scores(folder: Path, score: Callable[[int], float]) -> Path:
    """The sequence with other scores in its `det.txt`, by the row."""
    path = folder / "det" / "det.txt"
    fields = [line.split(",") for line in path.read_text().splitlines()]
    write_lines(path, [",".join([*row[:6], f"{score(n):g}", *row[7:]]) for n, row in enumerate(fields)])
    return folder


@pytest.mark.parametrize(
    ("score", "says"),
    [
        (lambda n: 90 + n % 9, "det.txt: scores reach 98: read as percent, divided by 100 (tracker.score_range=given"),
        (lambda n: -1, "det.txt: all scores are -1: read as not given, every detection is a sure one"),
        (lambda n: 0, "det.txt: all scores are 0: read as not given"),
        (lambda n: 0.38 + n % 5 * 0.02, "det.txt: the best scores are about 0.46, where usual detectors reach 0.9"),
    ],
)
@pytest.mark.parametrize("tracker", ["adaptive", "bytetrack"])
def test_scores_of_any_scale(tmp_path: Path, tracker: str, score: Callable[[int], float], says: str) -> None:
    folder = with_scores(make_sequence(tmp_path / "toy"), score)
    result = track_boxes(folder, tmp_path / "run", tracker=tracker)
    assert_two_objects(result.tracks(), range(12))
    (warning,) = [warning for warning in result.warnings if warning.code == "score-scale"]
    assert says in warning.message
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert set(manifest["detections"]["scores"]) == {"unit", "full", "stretch"}
    assert 0 <= result.tracks().score.min() <= result.tracks().score.max() <= 1


def test_logits(tmp_path: Path) -> None:
    folder = with_scores(make_sequence(tmp_path / "toy"), lambda n: -0.5 if n == 23 else 1 + n % 3)
    result = track_boxes(folder, tmp_path / "run")
    assert_two_objects(result.tracks(), range(12))
    assert "det.txt: scores from -0.5 to 3: read as logits, 1 / (1 + exp(−score))" in result.warnings[-1].message


def test_a_weak_detector_is_followed_frame_by_frame(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Weak(ColourDetector):
        def detect(self, image: NDArray[np.uint8]) -> Detections:
            found = super().detect(image)
            return replace(found, score=found.score * np.float32(0.4))

    clip = make_clip(tmp_path / "clip.mp4", 30)
    result = track_boxes(clip, tmp_path / "run", detections=Weak(), tracker="bytetrack", overlay=False)
    assert len(result.tracks().track_ids) == 2
    assert codes(result) == ["score-scale"]
    assert sum("times as high" in record.getMessage() for record in caplog.records) == 1


def test_usual_scores_are_not_touched(tmp_path: Path) -> None:
    folder = with_scores(make_sequence(tmp_path / "toy"), lambda n: 0.9 if n % 3 else 0.55)
    result = track_boxes(folder, tmp_path / "run")
    assert "score-scale" not in codes(result)
    assert "scores" not in json.loads((tmp_path / "run" / "manifest.json").read_text())["detections"]


def test_no_tracks_say_why(tmp_path: Path) -> None:
    folder = with_scores(make_sequence(tmp_path / "toy"), lambda n: 0.3 + n % 5 * 0.04)
    given = preset("bytetrack", score_range="given")
    assert [w.message for w in track_boxes(folder, tmp_path / "a", tracker=given).warnings if w.stage == "track"] == [
        "no track on 12 frames: best score 0.46, tracks begin at 0.7: lower tracker.birth_score"
    ]
    strict = preset("bytetrack", confidence_threshold=0.9)
    (why,) = [w for w in track_boxes(folder, tmp_path / "b", tracker=strict).warnings if w.stage == "track"]
    assert "best score 0.46, lower ones than 0.9 are ignored: lower tracker.confidence_threshold" in why.message
    removed = track_boxes(folder, tmp_path / "c", refinement=RefinementSettings(min_track_length=50))
    (why,) = [w for w in removed.warnings if w.stage == "refine"]
    assert why.message == "the refinement removed all 2 tracks: see refinement.min_track_length and min_mean_score"


def test_samples_and_visibility_see_shares(tmp_path: Path) -> None:
    folder = with_scores(make_sequence(tmp_path / "toy"), lambda n: 45 + n % 5)
    track_boxes(folder, tmp_path / "run", log=LogSettings(dir=tmp_path / "logs"))
    files = sorted((tmp_path / "logs").glob("sample_*.npz"))
    assert files
    assert all(read_sample(file).det_features[:, 4].min() > 0.85 for file in files)
    build_samples([folder], tmp_path / "built")
    built = [read_sample(file) for file in sorted((tmp_path / "built").glob("sample_*.npz"))]
    assert built
    assert all(sample.det_features[:, 4].min() > 0.85 for sample in built)


def test_images_of_some_frames(tmp_path: Path) -> None:
    result = track_boxes(make_sequence(tmp_path / "toy", images=3), tmp_path / "run", tracker=EASY)
    assert_two_objects(result.tracks(), range(12))
    with open_frames(result.paths.overlay) as video:
        assert len(video) == 3
    assert not result.paths.frames.exists()


def test_no_images_at_all(tmp_path: Path) -> None:
    det = write_lines(tmp_path / "det.txt", detection_lines(12))
    result = track_boxes(
        None, tmp_path / "run", detections=det, tracker=EASY, video=InputSettings(fps=10, size=(160, 96))
    )
    assert_two_objects(result.tracks(), range(12))
    assert names(tmp_path / "run") == ["manifest.json", "summary.json", "tracks.mot.txt", "tracks.npz"]
    assert (record(result)["input"]["height"], record(result)["input"]["kind"]) == (96, "detections")
    with result.archive() as archive:
        assert archive.rows().time[:4].tolist() == pytest.approx([0, 0, 0.1, 0.1])


def test_a_clip_with_a_detector(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 8)
    result = track_boxes(clip, tmp_path / "run", detections=ColourDetector(), tracker=EASY)
    tracks = result.tracks()
    assert_two_objects(tracks, range(8))
    assert tracks.masks is not None
    assert (np.abs(tracks.masks.areas - 20 * 36) < 80).all()
    assert record(result)["detections"] == {"kind": "detector", "name": "colour", "reason": "given by the caller"}
    with open_frames(clip) as frames:
        again = track_boxes(frames, tmp_path / "again", detections=ColourDetector(), tracker=EASY)
    assert again.paths.mot.read_bytes() == result.paths.mot.read_bytes()


def test_a_clip_alone_is_tracked_with_the_motion_detector(tmp_path: Path) -> None:
    result = track_boxes(make_clip(tmp_path / "clip.mp4", 20), tmp_path / "run")
    assert record(result)["detections"]["name"] == "motion"
    assert record(result)["totals"]["detections"] > 0


def test_some_of_the_frames(tmp_path: Path) -> None:
    """Every second frame: indices stay those of the video, time steps are twice as long."""
    folder = make_sequence(tmp_path / "toy", images=12)
    result = track_boxes(folder, tmp_path / "run", tracker=EASY, video=InputSettings(frames="2::2", max_frames=4))
    assert_two_objects(result.tracks(), [2, 4, 6, 8])
    assert record(result)["longest_tracks"][0]["spans"] == [[2, 8]]
    frames = json.loads(result.paths.frames.read_text())["frames"]
    assert [row["index"] for row in frames] == [2, 4, 6, 8]
    assert [row["time"] for row in frames] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_given_camera_motion_is_used(tmp_path: Path) -> None:
    """The camera jumps by 40 pixels: without its motion the objects would be new ones."""
    folder = make_sequence(tmp_path / "toy", frames=8)
    jump = {k: 40 if k >= 4 else 0 for k in range(8)}
    lines = []
    for k in range(8):
        for track in (1, 2):
            x1, y1, x2, y2 = box_of(track, k)
            lines.append(mot_line(k, -1, (x1 + jump[k], y1, x2 + jump[k], y2), 0.9))
    write_lines(folder / "det" / "det.txt", lines)
    without = track_boxes(folder, tmp_path / "without", tracker=EASY)
    assert record(without)["camera"] is None
    assert record(without)["totals"]["tracks"] == 4
    write_lines(folder / "gmc.txt", [f"{k} 1 0 {40 if k == 4 else 0} 0 1 0" for k in range(8)])
    result = track_boxes(folder, tmp_path / "run", tracker=EASY)
    assert record(result)["camera"] == {"kind": "given", "missing": 0}
    assert record(result)["totals"]["tracks"] == 2


MOT17 = Path(__file__).parents[2] / "shared" / "data" / "mot" / "MOT17" / "MOT17-09-FRCNN"


@pytest.mark.skipif(not MOT17.is_dir(), reason="MOT17 is not beside the project")
def test_a_real_sequence(tmp_path: Path) -> None:
    """525 frames of a street, of which four have their picture."""
    result = track_boxes(MOT17, tmp_path / "run", log=LogSettings(dir=tmp_path / "log"))
    totals = record(result)["totals"]
    assert totals["frames"] == 525
    assert 20 < totals["tracks"] < 60  # 26 people are annotated
    assert totals["boxes"] > 0.9 * totals["detections"]
    assert record(result)["camera"] == {"kind": "given", "missing": 0}
    assert record(result)["log"]["logged"] == inspect_samples(tmp_path / "log").samples == 524
    with open_frames(result.paths.overlay) as video:
        assert (len(video), video.size) == (4, (720, 1280))


# --- refinement -------------------------------------------------------------------------------------------------------


def test_stitching_after_the_pass(tmp_path: Path) -> None:
    """Two things that the tracker forgets over ten frames without a detection."""
    folder = make_sequence(tmp_path / "toy", frames=40)
    frames = [*range(15), *range(25, 40)]
    lines = [mot_line(k, -1, (8 + 0.3 * k, y, 16 + 0.3 * k, y + 14), 0.9) for k in frames for y in (3, 25)]
    write_lines(folder / "det" / "det.txt", lines)
    forgetful = EASY.model_copy(update={"lost_seconds": 0.1})
    plain = track_boxes(folder, tmp_path / "plain", tracker=forgetful)
    settings = RefinementSettings(stitch=True, stitch_probability=0.3)
    result = track_boxes(folder, tmp_path / "run", tracker=forgetful, refinement=settings)
    before, after = record(plain)["totals"], record(result)["totals"]
    assert (before["tracks"], before["stitched"]) == (4, 0)
    assert (after["tracks"], after["stitched"], after["boxes"]) == (2, 2, before["boxes"])
    assert set(result.tracks().track_id) < set(plain.tracks().track_id)


def test_refinement_after_the_pass(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "toy", images=12)
    lines = [line for line in detection_lines(12) if not line.startswith(("5,-1,27,", "6,-1,31,"))]
    write_lines(folder / "det" / "det.txt", [*lines, mot_line(7, -1, (2, 2, 8, 9), 0.95)])
    plain = track_boxes(folder, tmp_path / "plain", tracker=EASY)
    assert (record(plain)["totals"]["tracks"], record(plain)["totals"]["boxes"]) == (3, 23)
    settings = RefinementSettings(interpolate_max_gap=5, min_track_length=3)
    result = track_boxes(folder, tmp_path / "run", tracker=EASY, refinement=settings)
    assert_two_objects(result.tracks(), range(12))
    assert (record(result)["totals"]["interpolated"], record(result)["totals"]["removed"]) == (2, 1)
    with open_frames(result.paths.overlay) as video:
        assert len(video) == 12


# --- samples ----------------------------------------------------------------------------------------------------------


def test_samples_are_logged(tmp_path: Path) -> None:
    folder, log = make_sequence(tmp_path / "toy"), tmp_path / "a" / "log"
    result = track_boxes(folder, tmp_path / "run", tracker=EASY, log=LogSettings(dir=log, embed_dim=8))
    assert record(result)["log"] == {"directory": str(log), "sequence": "toy", "logged": 11, "dropped": 0}
    report = inspect_samples(log)
    assert report.usable
    assert (report.samples, report.sequences[0].sequence) == (11, "toy")
    sample = read_sample(log / "sample_0000000.npz")
    assert sample.metadata.fps == FPS
    assert (sample.metadata.width, sample.metadata.height) == (WIDTH, HEIGHT)
    assert sample.det_embeddings.shape == (2, 8)
    assert (sample.det_features[:, 5] == 1).all()  # visibility, from the boxes
    tracks = result.tracks()
    assert sorted(sample.assigned_track_ids.tolist()) == tracks.at(sample.frame_idx).track_id.tolist()


def test_samples_need_a_size(tmp_path: Path) -> None:
    det = write_lines(tmp_path / "det.txt", detection_lines(3))
    with pytest.raises(SettingError, match="give size="):
        track_boxes(None, tmp_path / "run", detections=det, log=LogSettings(dir=tmp_path / "log"))
    assert not (tmp_path / "log").exists()
    assert not (tmp_path / "run").exists()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    with pytest.raises(ArtifactError, match="log"):
        track_boxes(make_sequence(tmp_path / "toy"), tmp_path / "run", log=LogSettings(dir=tmp_path / "log"))
    assert names(tmp_path / "run") == []


def test_samples_with_their_truth(tmp_path: Path) -> None:
    first, second = (make_sequence(tmp_path / name, name=name) for name in ("one", "two"))
    stray = [*detection_lines(12), *(mot_line(k, -1, (60, 2, 70, 8), 0.9) for k in range(12))]
    write_lines(second / "det" / "det.txt", stray)
    built = build_samples([first, second], tmp_path / "log", tracker=EASY)
    assert [(one.sequence, one.samples, one.detections, one.identified) for one in built] == [
        ("one", 11, 24, 24),
        ("two", 11, 36, 24),
    ]
    report = inspect_samples(tmp_path / "log")
    assert report.label_sources == {"ground_truth": 22}
    assert [sequence.true_id_switches for sequence in report.sequences] == [0, 0]
    sample = read_sample(tmp_path / "log" / "sample_0000021.npz")
    assert sample.gt_track_ids is not None
    assert sorted(sample.gt_track_ids.tolist()) == [-1, 1, 2]


def test_a_folder_per_sequence_and_another_truth(tmp_path: Path) -> None:
    first, second = (make_sequence(tmp_path / name, name=name) for name in ("one", "two"))
    build_samples([first, second], tmp_path / "log", by="sequence", tracker=EASY)
    assert names(tmp_path / "log") == ["one", "two"]
    truth = write_lines(tmp_path / "gt.txt", [mot_line(k, 77, box_of(1, k), 1, 1, 1) for k in range(12)])
    (built,) = build_samples([first], tmp_path / "other", truth=truth, tracker=EASY)
    assert built.identified == 12
    with pytest.raises(SettingError, match="for one sequence, not 2"):
        build_samples([first, second], tmp_path / "both", truth=truth)
    (second / "gt" / "gt.txt").unlink()
    with pytest.raises(InputError, match=r"gt\.txt"):
        build_samples([first, second], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_appearance_and_segmentation_reach_the_samples(tmp_path: Path) -> None:
    clip, log = make_clip(tmp_path / "clip.mp4", 6), tmp_path / "log"
    result = track_boxes(
        clip,
        tmp_path / "run",
        detections=ColourDetector(),
        tracker=preset("adaptive", instant_score=0.5, appearance_memory=True),
        perception=PerceptionSettings(segmentation=True),
        log=LogSettings(dir=log),
    )
    assert record(result)["embedder"] == {"name": "layout", "width": 192}
    assert record(result)["visibility"]["mask"] == 12
    assert np.linalg.norm(read_sample(log / "sample_0000000.npz").det_embeddings, axis=1) == pytest.approx(1, abs=1e-3)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    folder, run = make_sequence(tmp_path / "toy"), tmp_path / "run"
    track_boxes(folder, run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(RunFolderError, match="already holds a run"):
        track_boxes(folder, run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    with pytest.raises(RunFolderError, match="is a file"):
        track_boxes(folder, run / "summary.json")
    with pytest.raises(RunFolderError, match="already holds a run"):
        track_masks(make_clip(tmp_path / "clip.mp4", 2), run, predictor="static")


class Broken(WholeVideo):
    """Pictures of which some cannot be read, and times that may run backwards."""

    path = None

    def __init__(self, count: int, bad: Sequence[int] = (), times: Sequence[float] | None = None) -> None:
        self._count, self._bad, self._given = count, bad, times

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> tuple[int, int]:
        return HEIGHT, WIDTH

    @property
    def times(self) -> Sequence[float] | None:
        return self._given

    def _read(self, position: int) -> RGBFrame:
        if position in self._bad:
            raise FrameError(f"frame {position} is damaged")
        return image_of(position)


@pytest.mark.parametrize("source", ["detector", "file"])
def test_a_frame_that_cannot_be_read(tmp_path: Path, source: str) -> None:
    det = read_detections(write_lines(tmp_path / "det.txt", detection_lines(8)))
    detections: DetectionsArgument = ColourDetector() if source == "detector" else det
    with pytest.raises(FrameError, match="frame 3 is damaged"):
        track_boxes(Broken(8, [3]), tmp_path / "run", detections=detections)
    assert names(tmp_path / "run") == []
    video = InputSettings(on_bad_item="skip")
    result = track_boxes(Broken(8, [3, 4]), tmp_path / "run", detections=detections, tracker=EASY, video=video)
    # A detector sees nothing there; the file's boxes are still good.
    assert_two_objects(result.tracks(), [0, 1, 2, 5, 6, 7] if source == "detector" else range(8))
    assert record(result)["skipped"]["frame-unreadable"] == 2
    assert codes(result).count("frame-unreadable") == 1


def test_times_that_run_backwards(tmp_path: Path) -> None:
    det = read_detections(write_lines(tmp_path / "det.txt", detection_lines(6)))
    times = [0.0, 0.1, 0.2, 0.15, 0.4, 0.5]
    strict = preset("adaptive", on_bad_item="error")
    with pytest.raises(InputError, match="frame 3"):
        track_boxes(Broken(6, times=times), tmp_path / "run", detections=det, tracker=strict, overlay=False)
    assert names(tmp_path / "run") == []
    result = track_boxes(Broken(6, times=times), tmp_path / "run", detections=det, tracker=EASY, overlay=False)
    assert sum(record(result)["skipped"].values()) == 1
    assert record(result)["totals"]["frames"] == 5
    assert_two_objects(result.tracks(), [0, 1, 2, 4, 5])


class ChangingEmbeddings(ColourDetector):
    """Describes what it sees; from frame 4 on of another width."""

    def __init__(self) -> None:
        self._calls = 0

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        detections = super().detect(image)
        width, self._calls = (8 if self._calls < 4 else 6), self._calls + 1
        return replace(detections, embedding=np.ones((len(detections), width), np.float32))


def test_embeddings_that_change_their_width(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 8)
    strict = preset("adaptive", appearance_memory=True, on_bad_item="error")
    log = LogSettings(dir=tmp_path / "log")
    perception = PerceptionSettings(embedder="none")
    with pytest.raises(InputError, match="frame 4"):
        track_boxes(
            clip, tmp_path / "run", detections=ChangingEmbeddings(), tracker=strict, perception=perception, log=log
        )
    assert names(tmp_path / "run") == []
    report = inspect_samples(tmp_path / "log")  # what was seen before is safe
    assert report.usable
    assert report.samples == 3
    lenient = preset("adaptive", instant_score=0.5, appearance_memory=True)
    result = track_boxes(
        clip, tmp_path / "run", detections=ChangingEmbeddings(), tracker=lenient, perception=perception
    )
    assert_two_objects(result.tracks(), range(8))
    assert sum(record(result)["skipped"].values()) == 8


def test_bad_rows_of_a_file_are_counted(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "toy")
    write_lines(folder / "det" / "det.txt", [*detection_lines(12), "3,-1,nan,1,5,5,0.9", "99,-1,1,1,5,5,0.9"])
    with pytest.raises(InputError, match=r"det\.txt, line 25"):
        track_boxes(folder, tmp_path / "run")
    result = track_boxes(folder, tmp_path / "run", tracker=EASY, video=InputSettings(on_bad_item="skip"))
    assert sum(record(result)["skipped"].values()) == 2
    assert_two_objects(result.tracks(), range(12))


def test_an_overlay_that_cannot_be_written_leaves_no_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise ArtifactError("the disk is full")

    monkeypatch.setattr("trackweave.visualization.video.Mp4Writer.write", fail)
    with pytest.raises(ArtifactError, match="the disk is full"):
        track_boxes(make_sequence(tmp_path / "toy", images=12), tmp_path / "run")
    assert names(tmp_path / "run") == []


SLOW = """
import sys, time
from trackweave.mot.tracker import Tracker
from trackweave.pipelines.boxes import track_boxes

update = Tracker.update
def slowly(self, detections, frame):
    if frame.index == 6:
        print("half way", flush=True)
        time.sleep(60)
    return update(self, detections, frame)
Tracker.update = slowly
track_boxes(sys.argv[1], sys.argv[2])
"""


def test_a_killed_run_leaves_temporaries_that_the_next_one_clears(tmp_path: Path) -> None:
    folder, run = make_sequence(tmp_path / "toy", images=12), tmp_path / "run"
    command = [sys.executable, "-c", SLOW, str(folder), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "half way\n"
        finally:
            process.kill()
    left = [name for name in names(run) if name != LOCK_NAME]
    assert left
    assert all(name.endswith(".partial") for name in left)
    result = track_boxes(folder, run, tracker=EASY)
    assert_two_objects(result.tracks(), range(12))
    assert not [name for name in names(run) if name.endswith(".partial")]


# --- live -------------------------------------------------------------------------------------------------------------


class Camera:
    """A live stream of pictures; `fails_at` breaks off, `stop_at` sets an event."""

    name, dropped, restamped = "camera", 2, 0
    ending: str | None = None

    def __init__(self, count: int, fails_at: int | None = None) -> None:
        self._count, self._fails_at, self._next = count, fails_at, 0

    def read(self) -> tuple[float, RGBFrame] | None:
        if self._next == self._fails_at:
            raise StreamFailure("cable out")
        if self._next == self._count:
            return None
        self._next += 1
        return (self._next - 1) / FPS, image_of(self._next - 1)

    def close(self) -> None:
        return


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> dict[str, Camera]:
    """Webcam 0 is whatever is put under `0`."""
    cameras: dict[str, Camera] = {}

    def opened(source: int | str, *, max_frames: int | None = None) -> LiveFrames:
        return LiveFrames(cameras[str(source)], max_frames=max_frames)

    monkeypatch.setattr(video_input, "open_live", opened)
    return cameras


def test_a_webcam(tmp_path: Path, camera: dict[str, Camera]) -> None:
    camera["0"] = Camera(1000)
    result = track_boxes(
        0,
        tmp_path / "run",
        detections=ColourDetector(),
        tracker=EASY,
        video=InputSettings(max_frames=6),
        log=LogSettings(dir=tmp_path / "log"),
    )
    assert_two_objects(result.tracks(), range(6))
    assert record(result)["log"]["logged"] == 5
    assert read_sample(tmp_path / "log" / "sample_0000000.npz").metadata.sequence == "webcam-0"
    assert (record(result)["input"]["kind"], record(result)["input"]["name"]) == ("live", "webcam-0")
    assert (record(result)["input"]["height"], record(result)["input"]["width"]) == (HEIGHT, WIDTH)
    assert record(result)["skipped"] == {"picture-dropped": 2}
    assert "frames.json" not in names(tmp_path / "run")
    with open_frames(result.paths.overlay) as video:
        assert len(video) == 6


def test_a_webcam_is_tracked_by_the_default_as_a_video_is(tmp_path: Path, camera: dict[str, Camera]) -> None:
    camera["0"] = Camera(1000)
    result = track_boxes(0, tmp_path / "run", detections=ColourDetector(), video=InputSettings(max_frames=6))
    config = json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]
    assert config["scorer"]["enabled"]
    assert "size-unknown" not in codes(result)


def test_a_stream_that_breaks_off_keeps_what_it_showed(tmp_path: Path, camera: dict[str, Camera]) -> None:
    camera["0"] = Camera(1000, fails_at=5)
    result = track_boxes("0", tmp_path / "run", detections=ColourDetector(), tracker=EASY)
    assert_two_objects(result.tracks(), range(5))
    assert "stream-broke-off" in codes(result)
    camera["0"] = Camera(1000, fails_at=0)
    with pytest.raises(FrameError, match="cable out"):
        track_boxes("0", tmp_path / "other", detections=ColourDetector())
    assert names(tmp_path / "other") == []


def test_a_stop_event_ends_the_run(tmp_path: Path, camera: dict[str, Camera]) -> None:
    camera["0"], stop = Camera(100_000), threading.Event()
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    result = track_boxes(0, tmp_path / "run", detections=ColourDetector(), overlay=False, stop=stop, tracker=EASY)
    assert time.monotonic() - started < 60
    assert 0 < record(result)["totals"]["frames"] < 100_000
    assert result.paths.manifest.is_file()


def test_an_argument_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'trackers'"):
        track_boxes(tmp_path, tmp_path / "run", trackers="sort")  # type: ignore[call-arg]


def test_the_summary_is_what_the_file_says(tmp_path: Path) -> None:
    run = track_boxes(make_sequence(tmp_path / "toy"), tmp_path / "run", tracker=EASY)
    assert run.summary.to_json() == record(run)
    assert run.summary.totals["frames"] == 12
    assert [track.spans for track in run.summary.longest_tracks] == [[(0, 11)], [(0, 11)]]


def test_the_same_run_gives_the_same_tracks(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "toy")
    one, two = (track_boxes(folder, tmp_path / name, tracker=EASY) for name in ("one", "two"))
    assert one.paths.mot.read_bytes() == two.paths.mot.read_bytes()
    assert one.paths.tracks.read_bytes() == two.paths.tracks.read_bytes()


def test_detections_of_class_columns(tmp_path: Path) -> None:
    lines = [mot_line(k, -1, box_of(track, k), 0.9, track + 4) for k in range(6) for track in (1, 2)]
    det = write_lines(tmp_path / "det.txt", lines)
    result = track_boxes(None, tmp_path / "run", detections=det, tracker=EASY, video=InputSettings(class_column=8))
    assert set(result.tracks().class_id.tolist()) == {5, 6}


def test_images_of_another_size_are_not_drawn_on(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "toy", images=2)
    for name in ("000001.png", "000002.png"):
        cv2.imwrite(str(folder / "img1" / name), np.zeros((10, 10, 3), np.uint8))
    result = track_boxes(folder, tmp_path / "run")
    assert not result.paths.overlay.exists()
    assert record(result)["skipped"] == {"picture-size": 2}


# --- frames without detections ----------------------------------------------------------------------------------------


def sparse_lines(seed: int) -> list[str]:
    """Two objects on some frames of 400, with gaps of all lengths and low scores among them."""
    rng = np.random.default_rng(seed)
    lines = []
    for track in (1, 2):
        frame = int(rng.integers(0, 30))
        while frame < 400:
            for _ in range(int(rng.integers(1, 12))):
                lines.append(mot_line(frame, -1, box_of(track, frame % 12), float(rng.choice([0.9, 0.6, 0.3]))))
                frame += int(rng.choice([1, 1, 1, 2, 3]))
            frame += int(rng.choice([2, 20, 40, 90]))
    return lines


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["adaptive", "learned"])
def test_frames_without_tracks_and_detections_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, seed: int
) -> None:
    """They are passed over where there are no images; the result is that of going through them."""
    det = write_lines(tmp_path / "det.txt", sparse_lines(seed))
    options: dict[str, Any] = {
        "detections": det,
        "tracker": preset(name, diagnostics=True, lost_seconds=0.5),
        "video": InputSettings(fps=30, size=(WIDTH, HEIGHT)),
        "scorer": ScorerSettings(enabled=name == "learned"),
    }
    visited: list[int] = []
    update = Tracker.update

    def counted(self: Tracker, detections: Any, frame: Any = None, **more: Any) -> Any:
        visited.append(frame.index)
        return update(self, detections, frame, **more)

    monkeypatch.setattr(Tracker, "update", counted)
    quick = track_boxes(None, tmp_path / "quick", log=LogSettings(dir=tmp_path / "a"), **options)
    count = len(visited)
    monkeypatch.setattr(Tracker, "is_idle", False)
    slow = track_boxes(None, tmp_path / "slow", log=LogSettings(dir=tmp_path / "b"), **options)
    assert len(visited) - count > count + 50
    assert quick.paths.mot.read_bytes() == slow.paths.mot.read_bytes()
    for key in ("input", "totals", "suspected_switches", "longest_tracks", "track_lengths", "skipped"):
        assert record(quick)[key] == record(slow)[key], key
    assert record(quick)["log"]["logged"] == record(slow)["log"]["logged"]
    for sample in sorted((tmp_path / "a").glob("*.npz")):
        one, other = read_sample(sample), read_sample(tmp_path / "b" / sample.name)
        np.testing.assert_array_equal(one.cost_matrix, other.cost_matrix)
        assert one.frame_idx == other.frame_idx


@pytest.mark.parametrize("refinement", [None, RefinementSettings(interpolate_max_gap=5, smooth_window=5)])
def test_a_far_frame_costs_nothing(tmp_path: Path, refinement: RefinementSettings | None) -> None:
    lines = [*detection_lines(12), mot_line(2**31 - 2, -1, box_of(1, 3), 0.9)]
    det = write_lines(tmp_path / "det.txt", lines)
    run = track_boxes(
        None, tmp_path / "run", detections=det, video=InputSettings(fps=30, size=(160, 96)), refinement=refinement
    )
    assert_two_objects(run.tracks()[run.tracks().frame < 12], range(12))
    assert record(run)["totals"]["frames"] == 2**31 - 1
    assert "frame-far" in codes(run)
    write_report(run.root)
    assert run.paths.report.is_file()


def test_a_far_frame_of_a_sequence_with_some_pictures(tmp_path: Path) -> None:
    """The pictures are drawn on, whatever lies between them."""
    folder = make_sequence(tmp_path / "toy", images=3)
    info = (folder / "seqinfo.ini").read_text()
    (folder / "seqinfo.ini").write_text(info.replace("seqLength=12", "seqLength=2000000000"))
    last = mot_line(1_999_999_999, -1, (1, 2, 30, 40), 0.9)
    write_lines(folder / "det" / "det.txt", [*detection_lines(12)[:4], last])
    run = track_boxes(folder, tmp_path / "run", tracker=EASY)
    assert record(run)["totals"]["frames"] == 2_000_000_000
    with open_frames(run.paths.overlay) as video:
        assert len(video) == 3


def test_milliseconds_as_frames(tmp_path: Path) -> None:
    """At 1000 frames a second only those with detections are frames; else the user learns of it."""
    times = [round(k * 1000 / 30) for k in range(12)]
    lines = [mot_line(times[k], -1, box_of(track, k), 0.9) for k in range(12) for track in (1, 2)]
    det = write_lines(tmp_path / "det.txt", lines)
    ticks = InputSettings(fps=1000, size=(160, 96))
    run = track_boxes(None, tmp_path / "run", detections=det, video=ticks)
    assert (record(run)["totals"]["tracks"], record(run)["totals"]["boxes"]) == (2, 24)
    assert record(run)["totals"]["frames"] == 12
    assert "frames-are-times" in codes(run)
    assert run.tracks().frame.tolist()[::2] == times
    for chosen, kept in (({"max_frames": 5}, times[:5]), ({"frames": "1::2"}, times[1::2])):
        some = ticks.model_copy(update=chosen)
        part = track_boxes(None, tmp_path / str(kept[0]), tracker=EASY, detections=det, video=some)
        assert record(part)["totals"]["frames"] == len(kept)
        assert sorted(set(part.tracks().frame.tolist())) == kept
    with pytest.raises(SettingError, match=r"det\.txt: its frames are taken as times"):
        track_boxes(
            None, tmp_path / "no", detections=det, video=ticks, refinement=RefinementSettings(interpolate_max_gap=5)
        )
    run = track_boxes(None, tmp_path / "warned", detections=det, video=InputSettings(fps=30, size=(160, 96)))
    assert "frames-apart" in codes(run)
    assert "if the numbers are times" in run.warnings[0].message


def test_detections_of_every_tenth_frame(tmp_path: Path) -> None:
    lines = [mot_line(10 * k, -1, box_of(track, k), 0.9) for k in range(12) for track in (1, 2)]
    det = write_lines(tmp_path / "det.txt", lines)
    video = InputSettings(fps=300, size=(160, 96))
    run = track_boxes(None, tmp_path / "run", detections=det, video=video)
    assert run.warnings[0].message.endswith("those between count as empty: frames='::10' tracks only these")
    every = video.model_copy(update={"frames": "::10"})
    run = track_boxes(None, tmp_path / "every", detections=det, video=every)
    assert (record(run)["totals"]["tracks"], record(run)["totals"]["boxes"]) == (2, 24)
    assert codes(run) == []


# --- the tracker that is taken by default -----------------------------------------------------------------------------


def tracker_of(run: Run) -> tuple[bool, bool]:
    """Does the tracker leave decisions to a scorer, and is there one?"""
    config = json.loads(run.paths.manifest.read_text())["config"]
    return config["tracker"]["scorer_decides"], "scorer" in config


def test_by_default_a_learned_scorer_decides(tmp_path: Path) -> None:
    sequence = make_sequence(tmp_path / "toy")
    run = track_boxes(sequence, tmp_path / "run", tracker={"lost_seconds": 3.0})
    assert tracker_of(run) == (True, True)
    assert json.loads(run.paths.manifest.read_text())["config"]["tracker"]["lost_seconds"] == 3.0
    assert tracker_of(track_boxes(sequence, tmp_path / "said", tracker="learned", overlay=False)) == (True, True)
    with pytest.raises(SettingError, match="learned scorer: add scorer="):
        track_boxes(sequence, tmp_path / "no", tracker="learned", scorer=ScorerSettings())
    for name, chosen in (("named", "adaptive"), ("off", None)):
        scorer = ScorerSettings() if chosen is None else None
        run = track_boxes(sequence, tmp_path / name, tracker=chosen, scorer=scorer, overlay=False)
        assert tracker_of(run) == (False, False)


def test_where_the_size_is_not_known_the_default_says_so(tmp_path: Path) -> None:
    rows = write_lines(tmp_path / "rows.txt", detection_lines(12))
    video = InputSettings(fps=10)
    run = track_boxes(None, tmp_path / "run", detections=rows, video=video)
    assert tracker_of(run) == (False, False)
    message = next(one.message for one in run.warnings if one.code == "size-unknown")
    assert message.startswith("detections: the frames' size is not known")
    assert message.endswith("size=(W, H))")
    with pytest.raises(SettingError, match=r"needs the frames' size: give video=InputSettings\(size=\(W, H\)\)"):
        track_boxes(None, tmp_path / "said", detections=rows, video=video, tracker="learned")
    assert not (tmp_path / "said").exists()  # and not after a first frame
    known = track_boxes(None, tmp_path / "known", detections=rows, video=InputSettings(fps=10, size=(WIDTH, HEIGHT)))
    assert tracker_of(known) == (True, True)


def test_what_is_logged_by_default_are_the_decisions_of_adaptive(tmp_path: Path) -> None:
    log = LogSettings(dir=tmp_path / "log")
    run = track_boxes(make_sequence(tmp_path / "toy"), tmp_path / "run", log=log, overlay=False)
    assert tracker_of(run) == (False, False)
    assert set(inspect_samples(tmp_path / "log").label_sources) == {"tracker"}
