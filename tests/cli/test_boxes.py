"""`trackweave boxes` as its user meets it, and what each environment variable does to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.cli.shell import Shell
from tests.detectors.onnx_models import Graph, draw, image_info, segment_model, switched
from tests.frames.videos import MOTION_JPEG, serving
from tests.toy_boxes import box_of, detection_lines, image_of, make_clip, make_sequence, mot_line, write_lines
from trackweave.association.logged_samples import BLENDED
from trackweave.cli.boxes import BOXES
from trackweave.formats.mot import read_mot
from trackweave.frames.open import open_frames
from trackweave.pipelines.run import open_run
from trackweave.storage.samples import AssociationSample, read_sample
from trackweave.storage.track_archive import TracksArchive

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BOXES.environment:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    return make_sequence(tmp_path / "toy", images=12)


def summary_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def first_sample(folder: Path) -> AssociationSample:
    return read_sample(folder / "sample_0000000.npz")


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_sequence_from_the_shell(shell: Shell, sequence: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = shell("boxes", sequence, "-o", run)
    assert done.code == 0, done.err
    assert "2 tracks with " in done.out
    assert f"video: {run / 'overlay.mp4'}" in done.out
    for name in ("manifest.json", "frames.json", "summary.json", "report.html", "tracks.mot.txt", "tracks.npz"):
        assert (run / name).stat().st_size > 0
    assert not list(run.rglob("*.partial"))
    assert "tracking: 12/12" in done.err


def test_json_goes_to_standard_output_alone(shell: Shell, sequence: Path, tmp_path: Path) -> None:
    done = shell("boxes", sequence, "-o", tmp_path / "run", "--no-viz", "--json", "--log-level", "error")
    assert json.loads(done.out)["totals"]["tracks"] == 2
    assert done.err == ""
    assert not (tmp_path / "run" / "overlay.mp4").exists()


def test_debug_tells_every_setting(shell: Shell, sequence: Path, tmp_path: Path) -> None:
    done = shell("boxes", sequence, "-o", tmp_path / "run", "--log-level", "debug", "--confidence", "0.25")
    assert "setting tracker.confidence_threshold = 0.25 (flag --confidence)" in done.err


def test_no_frames(shell: Shell, tmp_path: Path) -> None:
    det = write_lines(tmp_path / "det.txt", detection_lines(6))
    done = shell("boxes", "--detections", det, "-o", tmp_path / "run", "--fps", "10", "--size", "160x96")
    assert done.code == 0, done.err
    summary = summary_of(tmp_path / "run")
    assert (summary["input"]["height"], summary["input"]["frame_rate"]) == (96, 10)
    assert "6 frames" in done.out


def test_the_run_says_how_detections_were_read(shell: Shell, tmp_path: Path) -> None:
    header = "frame,id,bb_left,bb_top,bb_width,bb_height,conf"
    path = write_lines(tmp_path / "det.csv", [header, *detection_lines(12)])
    done = shell("boxes", "--detections", path, "--fps", "10", "--size", "160x96", "-o", tmp_path / "run")
    assert done.code == 0, done.err
    columns = header.replace(",id", "").replace(",", ", ")
    assert f"{path} (CSV: columns {columns}; frames count from 1, pixels count from 1)" in done.out
    assert (tmp_path / "run" / "tracks.mot.txt").read_text().startswith("1,1,11,")
    assert "frames count from 1" in summary_of(tmp_path / "run")["detections"]["reading"]
    assert "frames count from 1" in (tmp_path / "run" / "manifest.json").read_text()


def test_image_ids_from_one(shell: Shell, tmp_path: Path) -> None:
    items = [{"image_id": n, "category_id": 1, "bbox": [100 + 4 * n, 50, 40, 80], "score": 0.9} for n in range(1, 11)]
    (tmp_path / "c.json").write_text(json.dumps(items))
    arguments = ("boxes", "--detections", tmp_path / "c.json", "--fps", "30", "--size", "1920x1080")
    done = shell(*arguments, "-o", tmp_path / "run")
    assert "1 tracks with 10 boxes on 10 frames" in done.out
    assert "warning: " in done.err
    assert "image ids 1…10 were taken as frames 0…9" in done.err
    assert "image ids" not in shell(*arguments, "-o", tmp_path / "sure", "--frame-base", "1").err
    items = [{**item, "image_id": 139 + 146 * n} for n, item in enumerate(items)]
    (tmp_path / "c.json").write_text(json.dumps(items))
    done = shell(*arguments, "-o", tmp_path / "sparse")
    assert (done.code, "--images FILE.json lists its images" in done.err) == (1, True)
    images = [{"id": item["image_id"], "file_name": f"{n}.jpg"} for n, item in enumerate(items)]
    (tmp_path / "i.json").write_text(json.dumps({"images": images}))
    done = shell(*arguments, "-o", tmp_path / "sparse", "--images", tmp_path / "i.json")
    assert "1 tracks with 10 boxes on 10 frames" in done.out


def test_some_classes_only(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    rows = [f"{frame},{x},0,{x + 40},80,0.9,{name}" for frame in range(6) for x, name in ((0, "person"), (200, "car"))]
    path.write_text("\n".join(["frame,x1,y1,x2,y2,score,class", *rows]) + "\n")
    arguments = ["--detections", path, "--fps", 25, "--size", "640x480", "--tracker", "adaptive", "-o"]
    assert "2 tracks with 12 boxes" in shell("boxes", *arguments, tmp_path / "all").out
    assert "1 tracks with 6 boxes" in shell("boxes", *arguments, tmp_path / "cars", "--classes", "Car").out
    wrong = shell("boxes", *arguments, tmp_path / "wrong", "--classes", "cat")
    assert wrong.code == 2
    assert "--classes: there is no class 'cat'" in wrong.err
    assert "did you mean 'car'?" in wrong.err
    assert not (tmp_path / "wrong").exists()


def test_refinement_flags(shell: Shell, sequence: Path, tmp_path: Path) -> None:
    lines = [line for line in detection_lines(12) if not line.startswith("6,-1,31,")]
    write_lines(sequence / "det" / "det.txt", lines)
    refined = ("--interpolate", 3, "--min-length", 2, "--smooth", 5)
    done = shell("boxes", sequence, "-o", tmp_path / "run", *refined, "--output-boxes", "smoothed")
    assert done.code == 0, done.err
    assert summary_of(tmp_path / "run")["totals"]["interpolated"] == 1
    assert summary_of(tmp_path / "run")["tracker"]["output_boxes"] == "smoothed"


def test_a_config_file(shell: Shell, sequence: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("input: {max_frames: 5}\nrun: {overlay: false}\ntracker: {preset: bytetrack}\n")
    done = shell("boxes", sequence, "-o", tmp_path / "run", "--config", config, "--set", "tracker.lost_seconds=3")
    assert done.code == 0, done.err
    summary = summary_of(tmp_path / "run")
    assert summary["totals"]["frames"] == 5
    assert (summary["tracker"]["lost_seconds"], summary["tracker"]["birth_score"]) == (3, 0.7)


def test_a_clip_with_motion_detector_report_and_exports(shell: Shell, tmp_path: Path) -> None:
    clip, run = make_clip(tmp_path / "clip.mp4", 20), tmp_path / "run"
    done = shell("boxes", clip, "-o", run, "--set", "perception.detector_options={warm_up: 2}")
    assert done.code == 0, done.err
    assert (
        "detector: motion (neither detections nor a detector were given: what moves before a still camera)" in done.out
    )
    assert shell("report", run).code == 0
    assert shell("export", run, "--to", "mot", "-o", tmp_path / "t.txt").code == 0
    assert (tmp_path / "t.txt").read_bytes() == (run / "tracks.mot.txt").read_bytes()
    assert shell("export", run, "--to", "mp4", "-o", tmp_path / "t.mp4").code == 0
    with open_frames(tmp_path / "t.mp4") as video:
        assert len(video) == 20
    assert shell("export", run, "--to", "davis", "-o", tmp_path / "davis").code == 0  # the detector gives masks
    assert len(list((tmp_path / "davis").glob("*.png"))) == 20


def test_masks_of_a_segment_model_are_logged_drawn_exported_and_evaluated(shell: Shell, tmp_path: Path) -> None:
    frames, run, log = tmp_path / "frames", tmp_path / "run", tmp_path / "log"
    frames.mkdir()
    for k in range(6):
        picture = draw(128, 192, (16 + 8 * k, 24, 56 + 8 * k, 80))
        cv2.imwrite(str(frames / f"{k:05d}.png"), picture[..., ::-1])
    model = segment_model(tmp_path / "seg.onnx", "nms")
    options = ("--fps", 10, "--detector", model, "--log-dir", log, "--segmentation")
    done = shell("boxes", frames, "-o", run, *options)
    assert done.code == 0, done.err
    assert "1 tracks with 6 boxes" in done.out
    assert "detector: onnx:seg (asked for), read as yolo-end2end: xyxy in pixels" in done.out
    masks = open_run(run).tracks().masks
    assert masks is not None
    assert masks.size == (128, 192)
    assert masks.boxes[:, 0].tolist() == [16 + 8 * k for k in range(6)]
    with TracksArchive(run / "tracks.npz") as archive:
        assert archive.rows().detection.tolist() == [0] * 6
    assert len(list(log.glob("sample_*.npz"))) == 5
    assert shell("export", run, "--to", "coco", "-o", tmp_path / "coco.json").code == 0
    coco = json.loads((tmp_path / "coco.json").read_text())
    called = {one["id"]: one["name"] for one in coco["categories"]}
    assert list(called.values()) == ["cat", "dog", "owl"]  # of the model's metadata
    assert {called[one["category_id"]] for one in coco["annotations"]} == {"owl"}
    assert shell("export", run, "--to", "davis", "-o", tmp_path / "davis").code == 0
    done = shell("evaluate", run, "--gt", tmp_path / "davis", "--by", "masks")
    assert done.code == 0, done.err
    assert "J&F" in done.out


def test_a_model_that_is_misread_is_refused_by_frame(shell: Shell, tmp_path: Path) -> None:
    """Scores in percent, which only show where something is detected; an option of the detector says so."""
    frames, run = tmp_path / "frames", tmp_path / "run"
    frames.mkdir()
    for k, value in enumerate((10, 10, 250, 250)):
        cv2.imwrite(str(frames / f"{k:05d}.png"), np.full((64, 96, 3), value, np.uint8))
    g = Graph()
    model = g.save(tmp_path / "m.onnx", [image_info()], {"o": switched(g, [0] * 6, [10, 20, 50, 60, 87, 1])})
    usual = ("boxes", frames, "--fps", 10, "--detector", model, "-o", run)
    done = shell(*usual)
    assert done.code == 1
    assert "frame 2 (00002.png)" in done.err
    assert "scores reach 87" in " ".join(done.err.split())
    assert not (run / "manifest.json").exists()
    done = shell(*usual, "--set", "perception.detector_options={scores: percent}")
    assert done.code == 0, done.err
    assert open_run(run).tracks().score.tolist() == pytest.approx([0.87] * 2)


def test_label_images_need_masks(shell: Shell, sequence: Path, tmp_path: Path) -> None:
    shell("boxes", sequence, "-o", tmp_path / "run", "--no-viz")
    done = shell("export", tmp_path / "run", "--to", "davis", "-o", tmp_path / "davis")
    assert (done.code, "davis has masks, and toy has boxes alone: choose mot" in done.err) == (2, True)


# --- environment ------------------------------------------------------------------------------------------------------


def test_log_dir(shell: Shell, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRANSFORMER_LOG_DIR turns logging on; the folder is made."""
    log = tmp_path / "artifacts" / "assoc_logs"
    monkeypatch.setenv("TRANSFORMER_LOG_DIR", str(log))
    done = shell("boxes", sequence, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert f"samples: 11 in {log}" in done.out
    assert len(list(log.glob("sample_*.npz"))) == 11
    assert len((log / "manifest.jsonl").read_text().splitlines()) == 11
    assert summary_of(tmp_path / "run")["log"] == {
        "directory": str(log),
        "sequence": "toy",
        "logged": 11,
        "dropped": 0,
    }
    done = shell("boxes", sequence, "-o", tmp_path / "again", "--log-dir", tmp_path / "other", "--sequence", "gate")
    assert len(list(log.glob("sample_*.npz"))) == 11  # the flag is stronger
    assert first_sample(tmp_path / "other").metadata.sequence == "gate"


def test_log_embed_dim(shell: Shell, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRANSFORMER_LOG_EMBED_DIM is the width of the logged embeddings."""
    monkeypatch.setenv("TRANSFORMER_LOG_EMBED_DIM", "16")
    done = shell("boxes", sequence, "-o", tmp_path / "run", "--log-dir", tmp_path / "log", "--appearance")
    assert done.code == 0, done.err
    sample = first_sample(tmp_path / "log")
    assert sample.det_embeddings.shape[1] == 16
    assert sample.metadata.embedding_truncated
    assert "embedding-truncated" in [w["code"] for w in summary_of(tmp_path / "run")["warnings"]]


@pytest.mark.parametrize("text", ["1", "0"])
def test_appearance_memory(
    shell: Shell, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """APPEAR_MEMORY_ENABLE gives tracks an appearance, which the samples show."""
    monkeypatch.setenv("APPEAR_MEMORY_ENABLE", text)
    shell("boxes", sequence, "-o", tmp_path / "run", "--log-dir", tmp_path / "log")
    last = read_sample(tmp_path / "log" / "sample_0000010.npz")
    assert last.track_embeddings.any() == last.det_embeddings.any() == (text == "1")
    assert (summary_of(tmp_path / "run")["embedder"] is not None) == (text == "1")


def test_confidence_threshold(shell: Shell, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONFIDENCE_THRESHOLD decides which detections are looked at."""
    lines = [mot_line(k, -1, box_of(track, k), 0.9 if track == 1 else 0.7) for k in range(12) for track in (1, 2)]
    write_lines(sequence / "det" / "det.txt", lines)
    shell("boxes", sequence, "-o", tmp_path / "all", "--no-viz")
    monkeypatch.setenv("CONFIDENCE_THRESHOLD", "0.8")
    shell("boxes", sequence, "-o", tmp_path / "few", "--no-viz")
    assert len(read_mot(tmp_path / "all" / "tracks.mot.txt").track_ids) == 2
    assert len(read_mot(tmp_path / "few" / "tracks.mot.txt").track_ids) == 1


@pytest.mark.parametrize("text", ["1", "0"])
def test_segmentation(shell: Shell, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """SEG_ENABLE takes visibility from pictures; else it comes from boxes."""
    monkeypatch.setenv("SEG_ENABLE", text)
    unhurried = ("--set", "perception.segmentation_budget_ms=1e6")
    done = shell("boxes", sequence, "-o", tmp_path / "run", "--log-dir", tmp_path / "log", *unhurried)
    assert done.code == 0, done.err
    counts = summary_of(tmp_path / "run")["visibility"]
    assert (counts["grabcut"] > 0) == (text == "1")
    assert sum(counts.values()) == 24
    assert (first_sample(tmp_path / "log").det_features[:, 5] > 0).all()


@pytest.mark.parametrize("text", ["1", "0"])
def test_diagnostics(shell: Shell, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """DIAG counts suspected identity switches, and tells the samples."""
    monkeypatch.setenv("DIAG", text)
    done = shell("boxes", sequence, "-o", tmp_path / "run", "--log-dir", tmp_path / "log")
    assert summary_of(tmp_path / "run")["totals"]["est_id_switches"] == (0 if text == "1" else None)
    assert ("suspected identity switches: 0" in done.out) == (text == "1")


def test_scorer_weight(shell: Shell, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRANSFORMER_ASSOC_WEIGHT is the tracker's `scorer_weight`."""
    monkeypatch.setenv("TRANSFORMER_ASSOC_WEIGHT", "0.75")
    shell("boxes", sequence, "-o", tmp_path / "run", "--no-viz")
    assert summary_of(tmp_path / "run")["tracker"]["scorer_weight"] == 0.75


def test_the_learned_scorer(shell: Shell, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRANSFORMER_ASSOC_ENABLE=1 is --scorer learned; logged decisions are marked as the scorer's."""
    for name, arguments in {"variable": (), "flag": ("--scorer", "learned")}.items():
        if not arguments:
            monkeypatch.setenv("TRANSFORMER_ASSOC_ENABLE", "1")
        else:
            monkeypatch.delenv("TRANSFORMER_ASSOC_ENABLE")
        log = tmp_path / f"{name}-log"
        done = shell("boxes", sequence, "-o", tmp_path / name, "--no-viz", "--log-dir", log, *arguments)
        assert done.code == 0, done.err
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert manifest["config"]["scorer"]["enabled"] is True
        assert manifest["config"]["tracker"]["scorer_decides"] is True
        assert "appearance" not in done.err  # nobody asked for it
        assert read_sample(log / "sample_0000000.npz").metadata.label_source == BLENDED
    one, other = (TracksArchive(tmp_path / name / "tracks.npz").tracks() for name in ("variable", "flag"))
    assert one.track_id.tolist() == other.track_id.tolist()


def test_weights_and_width_of_the_scorer(
    shell: Shell, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRANSFORMER_ASSOC_WEIGHTS names an exported model, TRANSFORMER_ASSOC_EMBED_DIM what it must have been trained
    with; without TRANSFORMER_ASSOC_ENABLE they have no effect, and the manifest says so."""
    monkeypatch.setenv("TRANSFORMER_ASSOC_WEIGHTS", str(tmp_path / "missing.onnx"))
    monkeypatch.setenv("TRANSFORMER_ASSOC_EMBED_DIM", "128")
    done = shell("boxes", sequence, "-o", tmp_path / "run", "--no-viz")
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [w["code"] for w in manifest["warnings"]] == ["setting-ignored"] * 2
    done = shell("boxes", sequence, "-o", tmp_path / "other", "--scorer", "learned")
    assert done.code == 1
    assert "missing.onnx: there is no model here" in done.err
    assert not (tmp_path / "other").exists()


def test_thresholds_that_are_set_hold_in_clutter(shell: Shell, tmp_path: Path) -> None:
    """public report: ultralytics#18339, supervision#1320."""
    lines = detection_lines(20)
    weak = [",".join([*line.split(",")[:6], f"{0.3 + k % 4 * 0.05:g}", "-1,-1,-1"]) for k, line in enumerate(lines)]
    det = write_lines(tmp_path / "det.txt", weak)
    alone = ["--detections", det, "--fps", "30", "--size", "1920x1080"]
    for name, options, tracks in [
        ("auto", [], 2),
        ("given", ["--tracker.score-range", "given"], 0),
        ("both", ["--tracker.score-range", "given", "--confidence", "0.2", "--set", "tracker.birth_score=0.2"], 2),
        ("set", ["--confidence", "0.2", "--set", "tracker.birth_score=0.2"], 2),
        ("high", ["--set", "tracker.birth_score=0.5"], 0),
    ]:
        done = shell("boxes", *alone, "-o", tmp_path / name, *options)
        assert done.code == 0, done.err
        assert f"{tracks} tracks" in done.out, name
        assert ("best score 0.45, tracks begin at" in done.err) == (tracks == 0), name


# --- bad usage and bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scorer", "learnt"], "flag --scorer: 'learnt' is none of iou, learned, learned=MODEL.onnx"),
        (["--tracker", "learned", "--scorer", "iou"], "leaves decisions to a learned scorer: add --scorer learned"),
        (["--tracker", "kalman"], "there is no preset 'kalman'"),
        (["--confidence", "2"], "flag --confidence: tracker.confidence_threshold"),
        (["--confidence", "50"], "those in percent (0.5 is 50 %), is less than or equal to 1, not 50"),
        (["--size", "big"], "a size is WxH"),
        (["--fps", "0"], "flag --fps: input.fps"),
        (["--smooth", "4"], "flag --smooth"),
        (["--embedder", "magic"], "embedder 'magic'"),
        (["--detector", "yolo"], "there is no detector 'yolo'"),
        (["--detector", "motion", "--detections", "x.txt"], "leave one out"),
        (["--camera", "shaky"], "flag --camera: perception.camera"),
        (["--frames", "5"], "sampling '5' has no colon"),
        (["--on-bad-item", "shrug"], "flag --on-bad-item"),
        (["--set", "tracker.speed=3"], "there is no setting tracker.speed"),
        (["--log-level", "loud"], "loud"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_bad_usage(shell: Shell, sequence: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    done = shell("boxes", sequence, "-o", tmp_path / "run", *arguments)
    assert done.code == 2
    assert says in done.err
    assert not (tmp_path / "run").exists()


def broken_model(sequence: Path) -> list[str]:
    (sequence / "broken.onnx").write_bytes(b"no model")
    return ["--detector", str(sequence / "broken.onnx")]


def bad_row(sequence: Path) -> list[str]:
    write_lines(sequence / "det" / "det.txt", ["1,-1,nan,1,1,1,1"])
    return []


def beyond(sequence: Path) -> list[str]:
    write_lines(sequence / "det" / "det.txt", detection_lines(13))
    return []


def damaged_picture(sequence: Path) -> list[str]:
    (sequence / "img1" / "000005.png").write_bytes(b"no picture")
    return []


def no_detections(sequence: Path) -> list[str]:
    return ["--detections", str(sequence / "none.txt")]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (broken_model, "broken.onnx"),
        (bad_row, "det.txt, line 1: "),
        (beyond, "det.txt, line 25: frame 13"),
        (damaged_picture, "000005.png"),
        (no_detections, "none.txt: cannot be read"),
    ],
)
def test_bad_input(shell: Shell, sequence: Path, tmp_path: Path, spoil: Any, says: str) -> None:
    done = shell("boxes", sequence, "-o", tmp_path / "run", *spoil(sequence), "--log-level", "error")
    assert done.code == 1
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("spoil", [bad_row, beyond, damaged_picture])
def test_bad_input_is_left_out_when_asked(shell: Shell, sequence: Path, tmp_path: Path, spoil: Any) -> None:
    done = shell("boxes", sequence, "-o", tmp_path / "run", *spoil(sequence), "--on-bad-item", "skip")
    assert done.code == 0, done.err
    assert "left out: " in done.out
    assert sum(summary_of(tmp_path / "run")["skipped"].values()) in (1, 2)


def test_an_interrupted_run_leaves_nothing(
    shell: Shell, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trackweave.visualization.video.Mp4Writer.write", interrupt)
    done = shell("boxes", sequence, "-o", tmp_path / "run", "--log-level", "error")
    assert (done.code, done.err) == (130, f"error: interrupted: {tmp_path / 'run'} holds nothing of this run\n")
    assert list((tmp_path / "run").iterdir()) == []


# --- live, and the root shim ------------------------------------------------------------------------------------------


@pytest.fixture
def camera() -> Iterator[str]:
    """A motion-JPEG stream of minutes."""
    parts = []
    for frame in range(12):
        done, encoded = cv2.imencode(".jpg", image_of(frame)[:, :, ::-1])
        assert done
        parts.append(b"--next\r\nContent-Type: image/jpeg\r\n\r\n" + encoded.tobytes() + b"\r\n")
    with serving(*(400 * parts), kind=MOTION_JPEG) as url:
        yield url


SLOWLY = """
import time
from trackweave.cli.app import main
from trackweave.mot.tracker import Tracker

update = Tracker.update
def slowly(self, detections, frame):
    if frame.index == 10:
        print("ten", flush=True)
    time.sleep(0.05)
    return update(self, detections, frame)
Tracker.update = slowly
main()
"""


def test_ctrl_c_ends_a_live_run_with_what_is_there(camera: str, tmp_path: Path) -> None:
    """The tracks so far are kept, and the exit code is 0."""
    run = tmp_path / "run"
    command = [sys.executable, "-c", SLOWLY, "boxes", camera, "-o", str(run), "--detector", "motion"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ten\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert 10 <= summary_of(run)["totals"]["frames"] < 4000
    assert (run / "tracks.mot.txt").is_file()
    assert "report: " in out


def test_max_frames_of_a_live_source(shell: Shell, camera: str, tmp_path: Path) -> None:
    done = shell("boxes", camera, "-o", tmp_path / "run", "--max-frames", 5)
    assert done.code == 0, done.err
    assert "tracking: 5 frames in" in done.err
    assert summary_of(tmp_path / "run")["totals"]["frames"] == 5


def test_python_m_cli_from_a_checkout(sequence: Path, tmp_path: Path) -> None:
    """As the guide to data collection has it: variables, then `python -m cli`."""
    log = tmp_path / "logs"
    variables = {"TRANSFORMER_LOG_DIR": str(log), "TRANSFORMER_LOG_EMBED_DIM": "32", "APPEAR_MEMORY_ENABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "cli", "--video", sequence, "--log-level", "INFO", "-o", tmp_path / "run", "--no-viz"],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "samples: 11" in done.stdout
    sample = first_sample(log)
    assert sample.det_embeddings.shape == (2, 32)
    assert np.abs(sample.det_embeddings).sum() > 0
