"""The composition root: the Python call, its own command line, resuming after a kill, full disks."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import trackweave
from tests.toy_scenes import CROSSING, candidates_of, write_candidates
from trackweave.errors import CandidateError, PromptError, RunFolderError, SettingError
from trackweave.formats.davis import write_label_png
from trackweave.frames.source import FrameSource
from trackweave.pipelines.masks import track_masks
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.replay import ReplayPredictor
from trackweave.predictors.static import StaticPredictor, StaticSession
from trackweave.storage.files import PARTIAL_SUFFIX
from trackweave.track_from_candidates import main
from trackweave.tracking.level_runner import LevelRunResult, finish_level
from trackweave.tracking.mask_tracker import TrackedLevel
from trackweave.tracking.pipeline_context import LevelContext
from trackweave.tracking.settings import TrackingSettings

SCENE = CROSSING


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    root = candidates_of(SCENE, tmp_path / "candidates", range(3))
    return candidates_of(SCENE, root, [0, 2], level=4)


class Counting(StaticPredictor):
    """Counts sessions."""

    def __init__(self) -> None:
        self.sessions: list[StaticSession] = []

    def open(self, frames: FrameSource) -> StaticSession:
        self.sessions.append(super().open(frames))
        return self.sessions[-1]


def test_levels_share_one_session_and_one_range_of_ids(candidates: Path, tmp_path: Path) -> None:
    predictor = Counting()
    result = track_masks(SCENE.frames, tmp_path / "run", candidates=candidates, predictor=predictor)
    assert len(predictor.sessions) == 1
    ids = [set(result.tracks(level).track_ids.tolist()) for level in result.levels]
    assert ids[0].isdisjoint(ids[1])
    assert list(result.levels) == [2, 4]


def test_bad_candidates_show_before_the_frames_are_read(candidates: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def cuts(*given: object) -> Any:
        raise AssertionError

    monkeypatch.setattr("trackweave.pipelines.mask_inputs.find_cuts", cuts)
    manifest = candidates / "level_4/filtered/filtered.json"
    manifest.write_text(manifest.read_text().replace('"count"', '"counted"').replace('"id"', '"name"'))
    with pytest.raises(CandidateError, match=r"level_4.*`id` is missing"):
        track_masks(SCENE.frames, tmp_path / "run", candidates=candidates, predictor="static")
    with pytest.raises(RunFolderError, match="is there already"):
        track_masks(SCENE.frames, candidates, levels=[2], predictor="static")


def test_candidates_of_nothing_are_said(tmp_path: Path) -> None:
    empty = write_candidates(tmp_path / "empty", {0: [], 1: []})
    run = track_masks(CROSSING.frames, tmp_path / "run", candidates=empty, predictor="static")
    (warning,) = run.summary.warnings
    assert warning.code == "nothing-found"
    assert "filtered.json: has no candidate on any frame" in warning.message


def test_settings_for_a_predictor_that_is_an_object_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="asked for by name"):
        track_masks(SCENE.frames, tmp_path / "run", predictor=StaticPredictor(), predictor_settings=FlowSettings())


def test_another_run_takes_the_folder_when_asked(candidates: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    track_masks(SCENE.frames, root, candidates=candidates, predictor="static")
    (root / "notes.txt").touch()
    with pytest.raises(RunFolderError, match="overwrite=True"):
        track_masks(SCENE.frames, root, candidates=candidates, levels=[2], predictor="static")
    result = track_masks(SCENE.frames, root, candidates=candidates, levels=[2], predictor="static", overwrite=True)
    assert result.levels == [2]
    assert (root / "notes.txt").is_file()
    assert not (root / "level_4").exists()
    with pytest.raises(SettingError, match="give one of them"):
        track_masks(SCENE.frames, root, candidates=candidates, predictor="static", overwrite=True, resume=True)


def test_candidates_in_the_run_folder_are_kept(candidates: Path) -> None:
    before = (candidates / "level_2/filtered/filtered.json").read_bytes()
    with pytest.raises(RunFolderError, match="is there already"):
        track_masks(SCENE.frames, candidates, predictor="static")
    for overwrite in (False, True):
        track_masks(SCENE.frames, candidates, candidates=candidates, predictor="static", overwrite=overwrite)
    with pytest.raises(RunFolderError, match="is there already"):
        track_masks(SCENE.frames, candidates, predictor="static", overwrite=True)
    assert (candidates / "level_2/filtered/filtered.json").read_bytes() == before


def test_the_python_call_gives_tracks(candidates: Path, tmp_path: Path) -> None:
    result = trackweave.track_masks(
        SCENE.frames,
        tmp_path / "run",
        candidates=candidates,
        levels=[2],
        predictor=ReplayPredictor(SCENE.record(tmp_path / "truth.npz")),
        settings=trackweave.TrackingSettings(render_viz=False),
    )
    tracks = result.tracks(2)
    assert tracks.masks is not None
    assert tracks.at(1).xyxy.tolist() == [[8, 0, 16, 8], [16, 0, 24, 8]]
    with result.masks(2) as video:
        assert np.array_equal(video.frame(0).masks.to_bool()[0], SCENE.mask(0, "a"))
    assert result.summary.input.path == "memory"


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_every_run_leaves_a_video(candidates: Path, tmp_path: Path, scale: float) -> None:
    settings = TrackingSettings(mask_scale_ratio=scale)
    run = track_masks(SCENE.frames, tmp_path / "one", candidates=candidates, predictor="static", settings=settings)
    with trackweave.open_frames(run.paths.overlay) as video:
        assert len(video) == len(SCENE.frames)
    assert not run.paths.level(4).overlay.exists()
    every = track_masks(
        SCENE.frames,
        tmp_path / "all",
        candidates=candidates,
        predictor="static",
        overlay=trackweave.OverlaySettings(style="fill", scores=True),
        overlay_levels="all",
    )
    assert every.paths.overlay.is_file()
    assert every.paths.level(4).overlay.is_file()
    labels = {0: SCENE.labels[0]}
    prompted = track_masks(SCENE.frames, tmp_path / "prompted", prompts=labels, predictor="static")
    assert prompted.paths.overlay.is_file()


def test_no_video_when_no_pictures_are_wanted(candidates: Path, tmp_path: Path) -> None:
    quiet = TrackingSettings(render_viz=False)
    run = track_masks(SCENE.frames, tmp_path / "run", candidates=candidates, predictor="static", settings=quiet)
    off = track_masks(SCENE.frames, tmp_path / "off", candidates=candidates, predictor="static", overlay=False)
    assert not run.paths.overlay.exists()
    assert not off.paths.overlay.exists()
    with pytest.raises(SettingError, match="first or all"):
        track_masks(SCENE.frames, tmp_path / "no", candidates=candidates, predictor="static", overlay_levels="some")


def test_prompts_in_memory(tmp_path: Path) -> None:
    result = track_masks(SCENE.frames, tmp_path / "run", prompts={1: SCENE.labels[1] * 5}, predictor="static")
    assert result.tracks(0).track_ids.tolist() == [5, 10]


def test_results_may_go_into_the_candidates_own_folder(candidates: Path) -> None:
    (candidates / "manifest.json").write_text(json.dumps({"mode": "candidates_only", "levels": [2, 4, 6]}))
    track_masks(SCENE.frames, candidates, candidates=candidates, predictor="static")
    manifest = json.loads((candidates / "manifest.json").read_text())
    assert manifest["mode"] == "candidates_only"
    assert set(manifest["artifacts"]) == {"2", "4"}


def test_two_equal_runs_write_equal_bytes(candidates: Path, tmp_path: Path) -> None:
    for name in "ab":
        track_masks(SCENE.frames, tmp_path / name, candidates=candidates, predictor="static")
    first, second = (archives(tmp_path / name) for name in "ab")
    assert first == second
    assert len(first) == 4
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in "ab"]
    for manifest in manifests:
        measured = [manifest["derived"].pop(key) for key in ("durations", "peak_rss_mb")]
        assert measured[0]["track.predictor"] > 0
        assert measured[1] > 10
        assert manifest["derived"]["totals"].pop("seconds") > 0
        assert all(stats.pop("durations") for stats in manifest["derived"]["levels"].values())
    assert manifests[0] == manifests[1]


def archives(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*.npz"))}


def test_module_command_line(candidates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = tmp_path / "frames.npy"
    np.save(frames, np.stack(list(SCENE.frames)))
    arguments = ["--data-path", str(frames), "--candidates-root", str(candidates), "--output", str(tmp_path / "run")]
    assert main([*arguments, "--predictor", "static", "--levels", "2", "--no-viz"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run")
    assert main([*arguments, "--predictor", "static", "--levels", "6"]) == 1
    assert "level 6" in capsys.readouterr().err
    assert main([*arguments, "--iou-threshold", "7"]) == 2


# --- cut off ---------------------------------------------------------------------------------------------------------


def test_resume_keeps_finished_levels_and_ends_with_the_same_archives(
    candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = track_masks(SCENE.frames, tmp_path / "whole", candidates=candidates, predictor=StaticPredictor())
    run = tmp_path / "cut"

    def cut(context: LevelContext, tracked: TrackedLevel) -> LevelRunResult:
        if context.level == 4:
            raise KeyboardInterrupt
        return finish_level(context, tracked)

    monkeypatch.setattr("trackweave.pipelines.masks.finish_level", cut)
    with pytest.raises(KeyboardInterrupt):
        track_masks(SCENE.frames, run, candidates=candidates, predictor=StaticPredictor())
    monkeypatch.undo()
    finished = run / "level_2" / "tracking" / "video_segments.npz"
    stamp = finished.stat().st_mtime_ns
    assert not (run / "level_4").exists()
    assert not (run / "summary.json").exists()
    predictor = Counting()
    resumed = track_masks(SCENE.frames, run, candidates=candidates, predictor=predictor, resume=True)
    assert predictor.sessions == []  # level 4 was tracked, only its files were missing
    assert finished.stat().st_mtime_ns == stamp
    assert archives(run) == archives(tmp_path / "whole")
    assert (run / "tracks.mot.txt").read_bytes() == (tmp_path / "whole" / "tracks.mot.txt").read_bytes()
    assert resumed.summary.totals["objects"] == whole.summary.totals["objects"]


def test_resume_redoes_a_level_whose_archive_was_cut(candidates: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    track_masks(SCENE.frames, run, candidates=candidates, predictor="static")
    before = archives(run)
    damaged = run / "level_4" / "tracking" / "video_segments.npz"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    track_masks(SCENE.frames, run, candidates=candidates, predictor="static", resume=True)
    assert archives(run) == before


KILLED = """
import sys, time
import numpy as np
from trackweave.predictors.static import StaticPredictor
from trackweave.track_from_candidates import track_masks

class Slow(StaticPredictor):
    def open(self, frames):
        session = super().open(frames)
        propagate = session.propagate
        def slowly(start, **options):
            for prediction in propagate(start, **options):
                time.sleep(0.02)
                yield prediction
        session.propagate = slowly
        return session

frames, candidates, run = sys.argv[1:]
print("ready", flush=True)
track_masks(frames, run, candidates=candidates, predictor=Slow(), resume=True)
"""


@pytest.mark.parametrize("after", [0.05, 0.25, 0.45])
def test_kill_9_leaves_nothing_half_written(candidates: Path, tmp_path: Path, after: float) -> None:
    frames = tmp_path / "frames.npy"
    np.save(frames, np.stack(list(SCENE.frames)))
    run = tmp_path / "run"
    arguments = [sys.executable, "-c", KILLED, str(frames), str(candidates), str(run)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(after)
        os.kill(process.pid, signal.SIGKILL)
    for file in run.rglob("*"):
        if file.is_file() and not file.name.endswith(PARTIAL_SUFFIX) and file.suffix in (".json", ".npz"):
            readable(file)
    subprocess.run(arguments, check=True, capture_output=True)
    assert not list(run.rglob(f"*{PARTIAL_SUFFIX}"))
    track_masks(str(frames), tmp_path / "whole", candidates=candidates, predictor=StaticPredictor())
    assert archives(run) == archives(tmp_path / "whole")


def readable(file: Path) -> None:
    if file.suffix == ".json":
        json.loads(file.read_text())
    else:
        with np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                archive[name]


# --- the disk --------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written(candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return plain(path, flags, *args, **kwargs)

    plain = os.open
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunFolderError, match=r"run: cannot be written: Read-only file system"):
        track_masks(SCENE.frames, tmp_path / "run", candidates=candidates, predictor="static")


def test_a_disk_that_fills_up_keeps_the_finished_level(
    candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trackweave.storage.npz import NpzWriter

    add = NpzWriter.add_array
    written: list[str] = []

    def fills(self: NpzWriter, name: str, array: np.ndarray) -> None:
        written.append(name)
        if len(written) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, name, array)

    monkeypatch.setattr(NpzWriter, "add_array", fills)
    run = tmp_path / "run"
    with pytest.raises(RunFolderError, match=r"level_4/tracking/.*No space left on device"):
        track_masks(
            SCENE.frames,
            run,
            candidates=candidates,
            predictor="static",
            settings=TrackingSettings(render_viz=False),
        )
    readable(run / "level_2" / "tracking" / "video_segments.npz")
    assert not list(run.rglob(f"*{PARTIAL_SUFFIX}"))
    assert not (run / "level_4" / "tracking" / "video_segments.npz").exists()


def test_proposed_candidates_are_tracked(tmp_path: Path) -> None:
    frames = trackweave.open_frames(np.asarray(SCENE.frames))
    root = trackweave.propose(frames, tmp_path / "candidates", levels=[2], candidate_stride=2)
    run = track_masks(frames, tmp_path / "run", candidates=root, predictor="static")
    assert run.levels == [2]
    with pytest.raises(SettingError, match="no generator 'everything'; known: regions"):
        trackweave.propose(frames, tmp_path / "more", generator="everything")
    with pytest.raises(SettingError, match="at least 1, not 0"):
        track_masks(frames, tmp_path / "none", candidate_stride=0)
    with pytest.raises(TypeError, match="stride"):
        track_masks(frames, tmp_path / "none", stride=2)  # type: ignore[call-overload]


class TestLabelImagesByName:
    """Frames 00000, 00005, 00010 …, as YouTube-VOS numbers them."""

    @pytest.fixture
    def frames(self, tmp_path: Path) -> Path:
        folder = tmp_path / "frames"
        folder.mkdir()
        for k, image in enumerate(SCENE.frames):
            Image.fromarray(image).save(folder / f"{5 * k:05d}.png")
        return folder

    def label(self, path: Path, frame: int) -> str:
        write_label_png(path, SCENE.labels[frame].astype(np.uint8))
        return str(path)

    def prompted(self, frames: Path, run: Path, *prompts: str, **options: Any) -> list[str]:
        result = track_masks(
            frames, run, prompts=prompts, predictor="static", settings=TrackingSettings(max_propagate=0), **options
        )
        return [result.frames.names[k] for k in result.tracks().frames]

    def test_a_label_image_belongs_to_the_frame_of_its_name(self, frames: Path, tmp_path: Path) -> None:
        label = self.label(tmp_path / "00005.png", 1)
        assert self.prompted(frames, tmp_path / "named", label) == ["00005.png"]
        assert self.prompted(frames, tmp_path / "said", f"1:{label}") == ["00005.png"]
        free = self.label(tmp_path / "first.png", 0)
        assert self.prompted(frames, tmp_path / "first", free) == ["00000.png"]

    def test_a_number_that_contradicts_the_name_is_refused(self, frames: Path, tmp_path: Path) -> None:
        label = self.label(tmp_path / "00005.png", 1)
        with pytest.raises(PromptError, match=r"frame 0 was asked for, but the frame of this name is frame 1.*give 1:"):
            self.prompted(frames, tmp_path / "run", f"0:{label}")
        with pytest.raises(PromptError, match=r"no frame is named 00007: say which one is meant, as FRAME:"):
            self.prompted(frames, tmp_path / "run", self.label(tmp_path / "00007.png", 1))

    def test_the_number_of_another_frame_is_no_first_frame(self, frames: Path, tmp_path: Path) -> None:
        label = self.label(tmp_path / "00005_mask.png", 1)
        with pytest.raises(
            PromptError, match=r"has no frame's name, but the number of frame 1: say which .* as 1:.* or 0:"
        ):
            self.prompted(frames, tmp_path / "run", label)
        assert self.prompted(frames, tmp_path / "said", f"1:{label}") == ["00005.png"]

    def test_one_bad_image_of_several_is_a_bad_item(self, frames: Path, tmp_path: Path) -> None:
        labels = [self.label(tmp_path / "00005.png", 1), self.label(tmp_path / "00007.png", 1)]
        with pytest.raises(
            PromptError, match=r"00007.png: no frame is named 00007.*\(on_bad_item=skip leaves it out\)"
        ):
            self.prompted(frames, tmp_path / "run", *labels)
        skip = TrackingSettings(on_bad_item="skip", max_propagate=0)
        run = track_masks(frames, tmp_path / "run", prompts=labels, predictor="static", settings=skip)
        assert run.tracks().frames.tolist() == [1]
        assert [warning.code for warning in run.warnings] == ["prompt-skipped"]
        with pytest.raises(PromptError, match="no frame is named 00007"):
            track_masks(frames, tmp_path / "none", prompts=labels[1:] * 2, predictor="static", settings=skip)

    def test_a_single_name_is_one_prompt(self, frames: Path, tmp_path: Path) -> None:
        label: Any = self.label(tmp_path / "00005.png", 1)
        run = track_masks(frames, tmp_path / "run", prompts=label, predictor="static")
        assert len(run.tracks()) > 0

    def test_a_first_frame_that_cannot_be_read_does_not_move_the_prompt(self, frames: Path, tmp_path: Path) -> None:
        (frames / "00000.png").write_bytes(b"x")
        with pytest.raises(PromptError, match="frame 0 is not among the frames that are tracked"):
            track_masks(
                frames,
                tmp_path / "run",
                prompts=[self.label(tmp_path / "first.png", 0)],
                predictor="static",
                settings=TrackingSettings(on_bad_item="skip"),
            )


def test_a_mask_with_soft_edges_is_no_label_image(tmp_path: Path) -> None:
    hard = np.zeros((96, 128), np.uint8)
    hard[20:70, 30:90] = 255
    soft = cv2.GaussianBlur(hard, (9, 9), 2)
    Image.fromarray(soft).save(tmp_path / "soft.png")
    frames = np.zeros((2, 96, 128, 3), np.uint8)
    with pytest.raises(PromptError, match=r"soft.png: \d+ grey values lie along the outline of one object"):
        track_masks(frames, tmp_path / "run", prompts=[tmp_path / "soft.png"], predictor="static")
    parts = np.zeros((96, 128), np.uint8)  # many small objects beside a large one are a label image
    parts[20:70, 30:90] = 20
    for k in range(12):
        parts[2 + 7 * k : 6 + 7 * k, 2:6] = k + 1
    Image.fromarray(parts).save(tmp_path / "parts.png")
    result = track_masks(frames, tmp_path / "parts", prompts=[tmp_path / "parts.png"], predictor="static")
    assert len(result.tracks().track_ids) == 13


@pytest.mark.parametrize(
    ("dtype", "values", "ids"),
    [
        (np.uint8, (7, 255), [7, 255]),
        (np.uint16, (7, 255), [7, 255]),
        (np.uint8, (255, 255), [1]),
        (np.uint16, (65535, 65535), [1]),
        (np.bool_, (True, True), [1]),
        (np.float32, (1, 1), [1]),
    ],
)
@pytest.mark.parametrize("in_memory", [True, False])
def test_what_255_means_in_a_prompt(
    tmp_path: Path, dtype: Any, values: tuple[int, int], ids: list[int], in_memory: bool
) -> None:
    labels = np.zeros((24, 32), dtype)
    labels[2:8, 2:8], labels[12:20, 12:20] = values
    path = tmp_path / f"label.{'tif' if dtype == np.float32 else 'png'}"
    Image.fromarray(labels).save(path)
    frames = np.zeros((2, 24, 32, 3), np.uint8)
    prompts: Any = {0: labels} if in_memory else [path]
    run = track_masks(frames, tmp_path / "run", prompts=prompts, predictor="static")
    assert run.tracks().track_ids.tolist() == ids
    assert any("void only in images with a palette" in warning.message for warning in run.warnings) == (
        dtype == np.uint8 and values == (7, 255)
    )


def test_255_of_a_palette_is_void(tmp_path: Path) -> None:
    labels = np.zeros((24, 32), np.uint8)
    labels[2:8, 2:8], labels[12:20, 12:20] = 7, 255
    write_label_png(tmp_path / "label.png", labels)
    frames = np.zeros((2, 24, 32, 3), np.uint8)
    run = track_masks(frames, tmp_path / "run", prompts=[tmp_path / "label.png"], predictor="static")
    assert run.tracks().track_ids.tolist() == [7]
    assert [warning.code for warning in run.warnings] == ["void-label"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((24, 32), 0.5), r"prompt on frame 0: holds values such as 0\.5, not labels"),
        (np.full((24, 32), np.nan), "holds values such as nan, not labels"),
        (np.full((24, 32), -1), "holds -1: a label is 0 or more"),
        (np.ones((24, 32, 1), np.uint8), r"is \(24, 32, 1\) uint8: a label map is \(H, W\) integers"),
    ],
)
def test_a_prompt_in_memory_that_is_no_label_map(tmp_path: Path, labels: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        track_masks(np.zeros((2, 24, 32, 3), np.uint8), tmp_path / "run", prompts={0: labels}, predictor="static")
