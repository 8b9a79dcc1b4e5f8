"""Long videos in pieces: the run that comes of them is that of the whole, whoever did them and whatever ended them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import trackweave
from tests.plans.toy import InThisProcess, assert_same_results, box_plan, computed, run_all, write_sequence
from tests.run_folders import unmeasured
from trackweave.errors import ArtifactError, InputError, RunFolderError, SettingError
from trackweave.formats.archives import read_detection_table
from trackweave.ids import Level
from trackweave.masks.ops import mask_iou
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import open_run
from trackweave.pipelines.settings import InputSettings
from trackweave.plans import runner, stages
from trackweave.plans.runner import ItemSelection, forecast, run
from trackweave.plans.settings import load_plan
from trackweave.plans.state import PlanState
from trackweave.plans.workers import LocalEngine
from trackweave.storage.mask_archive import VideoSegments
from trackweave.structures.run_summary import MaskSummary
from trackweave.tracking.settings import TrackingSettings

SPLIT = {"frames": 20, "overlap": 6}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """All stages are done in this process, which is quicker than to begin others."""
    monkeypatch.setattr(runner, "LocalEngine", InThisProcess)


def split_plan(data: Path, output: Path, **more: Any) -> dict[str, Any]:
    return box_plan(data, output, **{"split": SPLIT, "stages": {"report": False}, **more})


def pieces_of(out: Path, name: str, variant: str = "runs") -> list[str]:
    return sorted(path.name for path in (out / "pieces" / variant / name).iterdir())


def write_crowd(folder: Path, *, frames: int = 50) -> Path:
    """People who come and go, some detections missing; the second half of them comes after the first piece."""
    rng = np.random.default_rng(3)
    write_sequence(folder, frames=frames)
    rows = []
    for k in range(8):
        first = 7 * k
        for t in range(max(first, 1), min(first + 30, frames) + 1):
            if rng.random() > 0.1:
                x, y = 10 + 5 * (t - first) + rng.normal(), 55 * k + rng.normal()
                rows.append((t, f"{t},-1,{x:.2f},{y:.2f},30,50,{0.7 + 0.3 * rng.random():.3f}"))
    (folder / "det" / "det.txt").write_text("\n".join(text for _, text in sorted(rows)))
    return folder


def same_but_for_ids(one: Path, other: Path) -> None:
    """The same boxes on the same frames, and ids that are the same but for their numbers."""
    a, b = open_run(one).tracks(), open_run(other).tracks()
    key_a = np.lexsort((*a.xyxy.T, a.frame))
    key_b = np.lexsort((*b.xyxy.T, b.frame))
    assert np.array_equal(a.frame[key_a], b.frame[key_b])
    assert np.array_equal(a.xyxy[key_a], b.xyxy[key_b])
    pairs = set(zip(a.track_id[key_a].tolist(), b.track_id[key_b].tolist(), strict=True))
    assert len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


@pytest.mark.parametrize("settings", [{"tracker": "sort"}, {}])
@pytest.mark.usefixtures("here")
def test_a_split_video_is_the_run_of_the_whole(tmp_path: Path, settings: dict[str, Any]) -> None:
    data = tmp_path / "data"
    write_crowd(data / "long")
    write_sequence(data / "short")
    stages_of_plan = {"export": {"to": ["mot"]}}
    plan = {"settings": settings, "stages": stages_of_plan}
    run_all(box_plan(data, tmp_path / "whole", **plan))
    items, events = run_all(split_plan(data, tmp_path / "out", **plan))
    assert [item.failure for item in items] == [None, None]
    assert pieces_of(tmp_path / "out", "long") == ["0-20-1", "14-34-1", "28-48-1", "42-50-1"]
    assert not (tmp_path / "out" / "pieces" / "runs" / "short").exists()
    assert [pair for pair in computed(events) if pair[1] in ("track", "split")] == [
        ("long", "split"),
        *[("long", "track")] * 5,
        ("short", "split"),
        ("short", "track"),
    ]
    assert all(name.startswith(("long", "short")) and "@" not in name for name, _ in computed(events))
    one, other = (tmp_path / name / "runs" / "long" for name in ("out", "whole"))
    same_but_for_ids(one, other)
    names = {path.name for path in other.iterdir()}
    assert {path.name for path in one.iterdir()} == names
    assert {"tracks.npz", "tracks.mot.txt", "manifest.json", "summary.json", "report.html", "export"} <= names
    joined, whole = (unmeasured(json.loads((path / "summary.json").read_text())) for path in (one, other))
    for name in ("births", "reactivations"):  # of frames that pieces share both count
        assert joined["totals"].pop(name) >= whole["totals"].pop(name)
    assert joined["totals"] == whole["totals"]
    assert joined["input"] == whole["input"]
    assert joined["detections"] == whole["detections"]
    manifest, plain = (json.loads((path / "manifest.json").read_text()) for path in (one, other))
    assert json.loads((one / "summary.json").read_text())["association_fps"] is None  # nothing was tracked there
    assert manifest["pieces"] == ["0:20:1", "14:34:1", "28:48:1", "42:50:1"]
    assert manifest["fingerprint"] == plain["fingerprint"]
    assert_same_scores(one, other)
    assert open_run(one).summary.track_count == len(np.unique(open_run(one).tracks().track_id))


def assert_same_scores(one: Path, other: Path) -> None:
    first, second = (json.loads((path / "evaluation.json").read_text())["classes"] for path in (one, other))
    assert first == second


def test_one_worker_and_two_give_the_same(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("c1", "c2"):
        write_crowd(data / name)
    run_all(split_plan(data, tmp_path / "one"))
    items, _ = run_all(split_plan(data, tmp_path / "two", engine={"workers": 2}))
    assert [item.failure for item in items] == [None, None]
    assert_same_results(tmp_path / "two", tmp_path / "one")


@pytest.mark.usefixtures("here")
def test_pieces_are_done_again_one_by_one(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_crowd(data / "c1")
    plan = split_plan(data, out)
    run_all(plan)
    items, events = run_all(plan)
    assert ([item.is_reused for item in items], computed(events)) == ([True], [])
    # Without the folder of the run, of the pieces that are there none is tracked again.
    shutil.rmtree(out / "runs")
    shutil.rmtree(out / "pieces" / "runs" / "c1" / "14-34-1")
    items, events = run_all(plan)
    assert [event.values.get("frames") for event in events if event.values.get("stage") == "track"] == ["14:34:1", None]
    run_all(split_plan(data, tmp_path / "fresh"))
    assert_same_results(out, tmp_path / "fresh")
    # Without the pieces a finished item stays finished; another setting tracks them all.
    shutil.rmtree(out / "pieces")
    assert computed(run_all(plan)[1]) == []
    plan["stages"] = {"report": False, "export": {"to": ["kitti"]}}
    assert computed(run_all(plan)[1]) == [("c1", "export")]
    plan["settings"] = {"tracker": "bytetrack"}
    assert [stage for _, stage in computed(run_all(plan)[1])].count("track") == 5
    plan["split"] = {"frames": 25, "overlap": 5}
    assert [stage for _, stage in computed(run_all(plan)[1])].count("track") == 4
    plan["split"] = {"frames": 50, "overlap": 5}  # it is not longer
    assert [stage for _, stage in computed(run_all(plan)[1])].count("track") == 1


@pytest.mark.usefixtures("here")
def test_a_piece_that_fails_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_crowd(data / "c1")
    real = stages._ItemWork._track_boxes

    def broken(work: Any) -> Any:
        if work._job.item.endswith("@28-48-1"):
            raise ArtifactError("it broke")
        return real(work)

    with monkeypatch.context() as patch:
        patch.setattr(stages._ItemWork, "_track_boxes", broken)
        (item,), events = run_all(split_plan(data, out))
    assert item.failure is not None
    assert (item.failure.stage, item.failure.kind) == ("track", "artifact")
    assert item.failure.message == "frames 28:48:1: it broke"
    assert not (out / "runs" / "c1" / "manifest.json").exists()
    (item,), events = run_all(split_plan(data, out))
    assert (item.failure is not None, item.is_reused) == (True, True)
    (item,), events = run_all(split_plan(data, out), ItemSelection(retry_failed=True))
    assert item.failure is None
    assert [event.values.get("frames") for event in events if event.values.get("stage") == "track"] == ["28:48:1", None]


def kill_at(monkeypatch: pytest.MonkeyPatch, piece: str) -> list[str]:
    """Kills the worker that gets a piece, the first time; returns the list that gets the piece's name then."""
    killed: list[str] = []

    class Killing(LocalEngine):
        def submit(self, job: Any, *, alone: bool = False) -> None:
            super().submit(job, alone=alone)
            if job.item.endswith(f"@{piece}") and not killed:
                killed.append(job.item)
                for worker in self._workers:
                    if worker.job is not None and worker.job.item == job.item:
                        worker._process.kill()

    monkeypatch.setattr(runner, "LocalEngine", Killing)
    return killed


def test_a_killed_piece_is_tried_alone_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_crowd(data / "c1")

    killed = kill_at(monkeypatch, "14-34-1")
    (item,), events = run_all(split_plan(data, out, engine={"workers": 2}))
    assert killed
    assert item.failure is None
    assert [event.values["frames"] for event in events if event.name == "lost"] == ["14:34:1"]
    run_all(split_plan(data, tmp_path / "fresh"))
    assert_same_results(out, tmp_path / "fresh")


def write_shots(path: Path, lengths: tuple[int, ...] = (14, 16)) -> Path:
    """A video of two shots: squares that move before noise, other noise in each."""
    rng = np.random.default_rng(5)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    for n, length in enumerate(lengths):
        ground = cv2.resize(rng.integers(0, 255, (24, 32, 3), np.uint8), (160, 120), interpolation=cv2.INTER_NEAREST)
        for t in range(length):
            image = ground.copy()
            cv2.rectangle(image, (10 + 4 * t, 40), (40 + 4 * t, 80), (255 * (n == 0), 255, 0), -1)
            writer.write(image)
    writer.release()
    return path


@pytest.mark.usefixtures("here")
def test_pieces_end_at_cuts_and_detections_of_pieces_are_those_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_shots(tmp_path / "data" / "shots.mp4")
    plan = split_plan(tmp_path / "data", tmp_path / "out", settings={"tracker": "sort", "detector": "motion"})
    plan["inputs"] = [f"{tmp_path}/data/*.mp4"]
    (item,), events = run_all(plan)
    assert item.failure is None
    assert pieces_of(tmp_path / "out", "shots") == ["0-14-1", "14-30-1"]
    found = computed(events)
    assert (found.count(("shots", "detect")), found.count(("shots", "track"))) == (2, 3)
    joined = open_run(item)
    assert joined.summary.input.cuts == [14]
    assert joined.summary.totals["detections"] == sum(
        len(read_detection_table(path)) for path in (tmp_path / "out" / "shared").glob("*/detections.npz")
    )
    tracks = joined.tracks()
    before, after = (set(tracks.track_id[chosen].tolist()) for chosen in (tracks.frame < 14, tracks.frame >= 14))
    assert before
    assert after
    assert not before & after
    assert joined.paths.overlay.is_file()
    # Where the tracker goes on over cuts, pieces do not end there.
    plan["settings"] |= {"perception": {"cuts": "ignore"}}
    run_all(plan)
    assert "14-30-1" not in pieces_of(tmp_path / "out", "shots")[1:2] or "0-20-1" in pieces_of(
        tmp_path / "out", "shots"
    )


@pytest.mark.usefixtures("here")
def test_refinements_are_of_the_whole(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_crowd(data / "c1")
    plan = {"settings": {"tracker": "sort", "refinement": {"interpolate_max_gap": 5, "stitch": True}}}
    run_all(box_plan(data, tmp_path / "whole", stages={"report": False}, **plan))
    (item,), _ = run_all(split_plan(data, tmp_path / "out", **plan))
    assert item.failure is None
    same_but_for_ids(tmp_path / "out" / "runs" / "c1", tmp_path / "whole" / "runs" / "c1")
    totals = [json.loads((tmp_path / name / "runs/c1/summary.json").read_text())["totals"] for name in ("out", "whole")]
    assert totals[0]["interpolated"] == totals[1]["interpolated"] > 0
    assert totals[0]["stitched"] == totals[1]["stitched"]


@pytest.mark.usefixtures("here")
def test_detections_alone_are_divided(tmp_path: Path) -> None:
    write_crowd(tmp_path / "c1")
    table = tmp_path / "c1.txt"
    shutil.copyfile(tmp_path / "c1" / "det" / "det.txt", table)
    plan = split_plan(tmp_path, tmp_path / "out", inputs=[str(table)])
    (item,), _ = run_all(plan)
    assert item.failure is None
    assert len(pieces_of(tmp_path / "out", "c1")) == 4
    (whole,), _ = run_all(box_plan(tmp_path, tmp_path / "whole", inputs=[str(table)]))
    same_but_for_ids(item.folder, whole.folder)


@pytest.mark.usefixtures("here")
def test_what_cannot_be_split_is_refused_in_one_line(tmp_path: Path) -> None:
    data = write_crowd(tmp_path / "data" / "c1").parent
    for split, text in (
        ({"frames": 20}, "overlap"),
        ({"frames": 20, "overlap": 11}, "more than half"),
        ({"frames": 20, "overlap": 6, "overlaps": 3}, "did you mean overlap"),
    ):
        with pytest.raises(SettingError, match=text):
            load_plan(split_plan(data, tmp_path / "out", split=split))
    with pytest.raises(SettingError, match="samples of pieces have no common identities"):
        load_plan({**split_plan(data, tmp_path / "out", stages={}), "kind": "association"})
    # Frame numbers that are times.
    times = tmp_path / "times.txt"
    times.write_text("\n".join(f"{40 * t + 1},-1,10,10,30,60,0.9" for t in range(60)))
    plan = split_plan(
        tmp_path, tmp_path / "out", inputs=[str(times)], settings={"tracker": "sort", "input": {"fps": 1000}}
    )
    (item,), _ = run_all(plan)
    assert item.failure is not None
    assert "frame numbers are times" in item.failure.message
    # No boxes, and nothing that detects.
    write_shots(tmp_path / "shots.mp4")
    plan = split_plan(tmp_path, tmp_path / "other", inputs=[f"{tmp_path}/shots.mp4"], stages={"detect": False})
    (item,), _ = run_all(plan)
    assert item.failure is not None
    assert "needs the stage detect" in item.failure.message


def test_pieces_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    sequence = write_crowd(tmp_path / "c1")

    def piece(frames: str, tracker: str = "sort", **more: Any) -> Path:
        folder = tmp_path / f"{tracker}-{frames.replace(':', '-')}-{len(more)}"
        video = InputSettings(frames=frames)
        return track_boxes(sequence, folder, tracker=tracker, overlay=False, video=video, **more).root

    first, second = piece("0:30"), piece("20:50")
    joined = track_boxes(sequence, tmp_path / "joined", tracker="sort", pieces=[first, second])
    assert joined.summary.input.frames == 50
    for n, (pieces, tracker, text) in enumerate(
        (
            ([second, first], "sort", "do not follow"),
            ([first], "sort", "from 30 on are in no piece"),
            ([first, piece("35:50")], "sort", "do not follow"),
            ([first, second], "bytetrack", "other settings"),
            ([joined.root], "sort", "not tracked over a part"),
        )
    ):
        with pytest.raises(RunFolderError, match=text):
            track_boxes(sequence, tmp_path / f"none{n}", tracker=tracker, pieces=pieces)
        assert not (tmp_path / f"none{n}" / "manifest.json").exists()
    fewer = (sequence / "det" / "det.txt").read_text().splitlines()
    (sequence / "det" / "det.txt").write_text("\n".join(line for line in fewer if not line.startswith("45,")))
    with pytest.raises(ArtifactError, match="other detections"):
        track_boxes(sequence, tmp_path / "none", tracker="sort", pieces=[first, second])


@pytest.mark.usefixtures("here")
def test_the_estimate_is_of_items_with_their_pieces(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_crowd(data / "c1")
    plan = split_plan(data, out)
    list(run(plan))
    write_crowd(data / "c2")
    with PlanState(out, "toy", "boxes") as state:
        (track,) = (cost for cost in state.costs() if cost.stage == "track")
        assert track.items == 1
        rows = [row for row in state.history() if row.stage == "track"]
        assert len(rows) == 5
        assert track.seconds == pytest.approx(sum(row.seconds for row in rows))
    (item,) = run(plan, selection=ItemSelection(only=["c1"]))
    assert item.seconds >= track.seconds - 1e-3  # with its pieces
    found = forecast(load_plan(plan))
    assert found.due == [("c2", "runs")]
    assert found.seconds is not None


# --- masks ------------------------------------------------------------------------------------------------------------


def write_discs(folder: Path, *, frames: int = 24, appears: int | None = None) -> Path:
    """Discs that move before noise; another one from frame `appears` on."""
    rng = np.random.default_rng(2)
    ground = rng.integers(90, 110, (96, 160, 3), np.uint8)
    folder.mkdir(parents=True)
    for t in range(frames):
        picture = ground.copy()
        cv2.circle(picture, (20 + 2 * t, 30), 12, (230, 40, 40), -1)
        cv2.circle(picture, (140 - 2 * t, 70), 12, (40, 40, 230), -1)
        if appears is not None and t >= appears:
            cv2.circle(picture, (80, 20), 10, (40, 230, 40), -1)
        cv2.imwrite(str(folder / f"{t:04d}.png"), picture)
    return folder


def split_masks(source: Path, output: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "kind": "masks",
        "inputs": [str(source)],
        "settings": {"predictor": "flow"},
        "output": str(output),
        "engine": {"workers": 1},
        "split": {"frames": 10, "overlap": 3},
        **more,
    }


def mask_spans(folder: Path, level: int = 2) -> dict[int, list[tuple[int, int]]]:
    summary = open_run(folder).summary
    assert isinstance(summary, MaskSummary)
    return {track.track_id: list(track.spans) for track in summary.levels[Level(level)].tracks}


@pytest.mark.usefixtures("here")
def test_split_masks_are_the_run_of_the_whole(tmp_path: Path) -> None:
    video = write_discs(tmp_path / "video", appears=12)
    settings = {"predictor": "flow", "levels": [2, 4]}
    run_all(split_masks(video, tmp_path / "whole", settings=settings) | {"split": None})
    (item,), events = run_all(split_masks(video, tmp_path / "out", settings=settings))
    assert item.failure is None
    assert pieces_of(tmp_path / "out", "video") == ["0-10-1", "14-24-1", "7-17-1"]
    assert computed(events).count(("video", "propose")) == 3
    assert computed(events).count(("video", "track")) == 4
    one, other = (tmp_path / name / "runs" / "video" for name in ("out", "whole"))
    assert mask_spans(one) == mask_spans(other) == {1: [(0, 23)], 2: [(0, 23)], 3: [(12, 23)]}
    finer = mask_spans(one, 4)
    assert list(finer) == list(range(4, 4 + len(finer)))  # ids of levels follow each other
    assert list(finer.values())[:3] == [[(0, 23)]] * 3  # the ground, and both discs
    assert {path.name for path in other.iterdir()} <= {path.name for path in one.iterdir()}
    summary = open_run(one).summary
    assert isinstance(summary, MaskSummary)
    counts, dedup = summary.levels[Level(2)].counts, summary.levels[Level(2)].dedup
    assert counts["prompts"] == dedup["prompts"] == counts["objects"] == 3
    assert counts["frames"] == 24
    prompts = json.loads((one / "manifest.json").read_text())["config"]["prompts"]
    assert prompts == {"kind": "pieces", "pieces": ["0:10", "7:17", "14:24"]}
    for own in range(24):
        with VideoSegments(one / "level_2/tracking/video_segments.npz") as video_of_one:
            joined_masks = video_of_one.frame(own).masks
        with VideoSegments(other / "level_2/tracking/video_segments.npz") as video_of_other:
            assert np.diag(mask_iou(joined_masks, video_of_other.frame(own).masks)).min() > 0.9
    assert computed(run_all(split_masks(video, tmp_path / "out", settings=settings))[1]) == []


def test_masks_of_one_worker_and_two_are_the_same_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_discs(tmp_path / "video", appears=12)
    run_all(split_masks(video, tmp_path / "one", stages={"report": False}))

    killed = kill_at(monkeypatch, "7-17-1")
    (item,), _ = run_all(split_masks(video, tmp_path / "two", engine={"workers": 2}, stages={"report": False}))
    assert killed
    assert item.failure is None
    assert_same_results(tmp_path / "two", tmp_path / "one")


@pytest.mark.usefixtures("here")
def test_candidates_of_the_whole_are_those_of_its_pieces(tmp_path: Path) -> None:
    video = write_discs(tmp_path / "video")
    candidates = trackweave.propose(video, tmp_path / "candidates", levels=[2], candidate_stride=5)
    entry = {"path": str(video), "candidates": str(candidates)}
    plan = split_masks(video, tmp_path / "out", inputs=[entry], stages={"report": False})
    (item,), events = run_all(plan)
    assert item.failure is None
    assert "propose" not in {stage for _, stage in computed(events)}
    prompts = json.loads((item.folder / "manifest.json").read_text())["config"]["prompts"]
    assert prompts == {"kind": "candidates", "root": str(candidates), "pieces": ["0:10", "7:17", "14:24"]}
    assert list(mask_spans(item.folder).values())[:2] == [[(0, 23)], [(0, 23)]]
    assert not [warning.code for warning in open_run(item).summary.warnings]
    # Chosen of them anew for each piece.
    plan |= {
        "output": str(tmp_path / "chosen"),
        "stages": {"report": False, "filter": {"candidates": {"min_area": 200}}},
    }
    (item,), _ = run_all(plan)
    assert item.failure is None
    assert list(mask_spans(item.folder).values())[:2] == [[(0, 23)], [(0, 23)]]
    assert json.loads((item.folder / "manifest.json").read_text())["config"]["prompts"]["kind"] == "pieces"
    assert json.loads((item.folder / "level_2/filtered/filtered.json").read_text())["limits"]["min_area"] == 200
    # A piece without any has nothing to track.
    first = trackweave.propose(video, tmp_path / "first", levels=[2], candidate_stride=100)
    plan = split_masks(video, tmp_path / "none", inputs=[{"path": str(video), "candidates": str(first)}])
    (item,), _ = run_all(plan)
    assert item.failure is not None
    assert item.failure.message.startswith("frames 7:17:1: ")
    assert "none of its" in item.failure.message


@pytest.mark.usefixtures("here")
def test_prompts_of_a_person_are_not_split(tmp_path: Path) -> None:
    video = write_discs(tmp_path / "video")
    marks = tmp_path / "marks.json"
    marks.write_text(json.dumps([{"frame": 0, "id": 1, "box": [8, 18, 32, 42]}]))
    plan = split_masks(video, tmp_path / "out", inputs=[{"path": str(video), "prompts": str(marks)}])
    (item,), _ = run_all(plan)
    assert item.failure is not None
    assert "leave `split` out" in item.failure.message
    (item,), _ = run_all(plan | {"split": {"frames": 24, "overlap": 3}, "output": str(tmp_path / "whole")})
    assert item.failure is None  # it is not longer than a piece
    assert not (tmp_path / "whole" / "pieces").exists()


@pytest.mark.usefixtures("here")
def test_pieces_of_masks_end_at_cuts(tmp_path: Path) -> None:
    write_shots(tmp_path / "shots.mp4")
    (item,), _ = run_all(
        split_masks(
            tmp_path / "shots.mp4", tmp_path / "out", split={"frames": 20, "overlap": 6}, stages={"report": False}
        )
    )
    assert item.failure is None
    assert pieces_of(tmp_path / "out", "shots") == ["0-14-1", "14-30-1"]
    assert open_run(item).summary.input.cuts == [14]
    assert all(last < 14 or first >= 14 for spans in mask_spans(item.folder).values() for first, last in spans)


def test_pieces_of_masks_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    video = write_discs(tmp_path / "video")

    def piece(frames: str, **more: Any) -> Path:
        folder = tmp_path / f"{frames.replace(':', '-')}-{len(list(tmp_path.iterdir()))}"
        options: dict[str, Any] = {"predictor": "static", "overlay": False, "sampling": frames, **more}
        run_of_piece: trackweave.Run[MaskSummary] = track_masks(video, folder, **options)
        return run_of_piece.root

    first, second = piece("0:14"), piece("10:24")
    joined = track_masks(video, tmp_path / "joined", predictor="static", pieces=[first, second], overlay=False)
    assert [track.first for track in joined.summary.levels[Level(2)].tracks][:2] == [0, 0]
    assert (tmp_path / "joined" / "level_2" / "filtered" / "filtered.json").is_file()
    again = track_masks(video, tmp_path / "joined", predictor="static", pieces=[first, second], overwrite=True)
    assert again.summary.totals["objects"] == joined.summary.totals["objects"]
    boxed = track_boxes(video, tmp_path / "boxes", tracker="sort", detections="motion", overlay=False).root
    other_video = write_discs(tmp_path / "other", frames=30)
    refused: list[tuple[list[Path], str, dict[str, Any]]] = [
        ([second, first], "do not follow", {}),
        ([first], "from 14 on are in no piece", {}),
        ([first, piece("10:24", settings=TrackingSettings(max_propagate=3))], "another max_propagate", {}),
        ([first, piece("10:24", predictor="flow")], "by predictor flow than", {}),
        ([first, second], "tracked by static, not by flow", {"predictor": "flow"}),
        ([first, piece("10:24", levels=[4])], "other levels", {}),
        ([first, piece("10:24", candidate_stride=2)], "found otherwise", {}),
        ([first, boxed], "no run of masks", {}),
        ([first, tmp_path / "nothing"], "nothing", {}),
        ([first, second], "levels 2, not 4", {"levels": [4]}),
        ([first, second], "candidates has no effect with pieces", {"candidates": first}),
        ([first, second], "resume has no effect with pieces", {"resume": True}),
    ]
    for n, (folders, text, more) in enumerate(refused):
        with pytest.raises((ArtifactError, RunFolderError, SettingError), match=text):
            track_masks(video, tmp_path / f"none{n}", pieces=folders, **more)
        assert not (tmp_path / f"none{n}" / "manifest.json").exists()
    own = trackweave.propose(video, tmp_path / "candidates", levels=[2], candidate_stride=20) / "level_2/filtered"
    before = (own / "filtered.json").read_bytes()
    with pytest.raises(RunFolderError, match="is there already"):  # candidates that no run of ours found
        track_masks(video, tmp_path / "candidates", pieces=[first, second])
    assert (own / "filtered.json").read_bytes() == before
    with pytest.raises(RunFolderError, match=r"in no piece|of another video"):
        track_masks(other_video, tmp_path / "none", predictor="static", pieces=[first, second])
    with pytest.raises(InputError, match=r"lies where the run writes|written over"):
        track_masks(video, first, predictor="static", pieces=[first, second], overwrite=True)
    assert (first / "summary.json").is_file()
