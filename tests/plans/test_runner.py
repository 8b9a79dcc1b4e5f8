"""Plans worked through: what is computed, and what is not computed again."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from tests.plans.toy import (
    InThisProcess,
    assert_same_results,
    box_plan,
    computed,
    mask_plan,
    run_all,
    write_scenes,
    write_sequence,
)
from trackweave.association.settings import ScorerSettings
from trackweave.errors import InputError, RunFolderError, SettingError
from trackweave.evaluation.evaluate import evaluate
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.run import open_run
from trackweave.plans import runner, workers
from trackweave.plans.metrics import PlanMetrics
from trackweave.plans.runner import ItemSelection, failures_by_kind, forecast, run
from trackweave.plans.settings import load_plan
from trackweave.plans.stages import Job
from trackweave.plans.state import NAME, PlanState
from trackweave.simulation.video import SyntheticScene
from trackweave.storage.files import locked_folder


def test_masks_from_candidates_to_the_page_and_only_what_changed_again(tmp_path: Path) -> None:
    scenes, out = write_scenes(tmp_path / "scenes", "s1", "s2"), tmp_path / "out"
    plan = mask_plan(scenes, out, stages={"export": {"to": "davis", "format": {}}}, settings={"predictor": "static"})
    plan["inputs"][0]["settings"] = {"levels": [2]}
    items, events = run_all(plan)
    assert [(item.name, item.failure) for item in items] == [("s1", None), ("s2", None)]
    assert computed(events) == [
        (name, stage) for name in ("s1", "s2") for stage in ("export", "identity", "report", "track")
    ]
    assert open_run(items[0]).levels == [2]
    assert items[0].facts["frames"] == 3
    assert (out / "index.html").is_file()
    assert sorted(path.name for path in (out / "runs" / "s1" / "export" / "davis").glob("*.png"))

    items, events = run_all(plan)
    assert [item.is_reused for item in items] == [True, True]
    assert computed(events) == []

    plan["stages"] = {"export": {"to": ["davis", "mot"]}}
    assert computed(run_all(plan)[1]) == [("s1", "export"), ("s2", "export")]

    (scenes / "s1" / "frames" / "00002.png").write_bytes((scenes / "s1" / "frames" / "00001.png").read_bytes())
    for path in (scenes / "s2" / "frames").iterdir():  # of another time, but of the same content: only looked at
        os.utime(path, (1, 1))
    assert {name for name, _ in computed(run_all(plan)[1])} == {"s1"}

    shutil.rmtree(out / "runs" / "s2" / "level_2")
    fresh = tmp_path / "fresh"
    assert ("s2", "track") in computed(run_all(plan)[1])
    run_all({**plan, "output": str(fresh)})
    assert_same_results(out, fresh)

    # Without its state a folder is looked at again, and nothing is computed but the pages that the comparison removed.
    for path in out.glob(f"{NAME}*"):
        path.unlink()
    assert computed(run_all(plan)[1]) == [("s1", "report"), ("s2", "report")]

    plan["stages"]["identity"] = False
    assert {stage for _, stage in computed(run_all(plan)[1])} == {"export", "report"}
    assert not (out / "runs" / "s1" / "identity.json").exists()


def test_boxes_are_scored_together_and_variants_compared(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for name in ("c1", "c2"):
        write_sequence(data / name)
    plan = box_plan(data, out, settings={}, matrix={"tracker": ["sort", "bytetrack"]})
    items, events = run_all(plan)
    assert [(item.name, item.variant) for item in items] == [
        (name, variant) for variant in ("sort", "bytetrack") for name in ("c1", "c2")
    ]
    assert {stage for _, stage in computed(events)} == {"track", "evaluate", "report"}
    scores = json.loads((out / "evaluation.json").read_text())
    combined = scores["variants"]["bytetrack"]["regimes"][0]["classes"]["pedestrian"]["combined"]
    assert combined["GT_Dets"] == 2 * 12 * 3
    whole = evaluate(out / "bytetrack", data)["pedestrian"].combined  # what the runs give when scored together
    assert {name: combined[name] for name in ("HOTA", "IDF1", "MOTA")} == pytest.approx(
        {name: whole[name] for name in ("HOTA", "IDF1", "MOTA")}
    )
    differences = scores["comparisons"]["bytetrack"]["comparisons"][0]["differences"]["HOTA"]
    assert differences["other"] == combined["HOTA"]

    text = (data / "c1" / "gt" / "gt.txt").read_text()
    (data / "c1" / "gt" / "gt.txt").write_text("\n".join(text.splitlines()[:-1]))
    assert computed(run_all(plan)[1]) == [("c1", "evaluate"), ("c1", "evaluate")]

    page = (out / "index.html").read_text(encoding="utf-8")
    tables = [path.name for pattern in ("*.csv", "*.parquet") for path in out.glob(pattern)]
    assert [name for name in tables if f'<a href="{name}">' not in page] == []
    rows = (out / "items.csv").read_text().splitlines()
    assert len(rows) == 5
    assert rows[0].startswith("item,variant,state,frames")
    page = (out / "index.html").read_text()
    assert 'href="sort/c1/report.html"' in page
    assert page.count("data:image/jpeg;base64,") == 4


def test_detections_and_candidates_are_shared_by_variants(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", "s1")
    plan = mask_plan(scenes, tmp_path / "boxes", kind="boxes", settings={}, matrix={"tracker": ["sort", "bytetrack"]})
    plan["inputs"] = [str(scenes / "s1" / "frames")]
    items, events = run_all(plan)
    assert [item.failure for item in items] == [None, None]
    assert len(list((tmp_path / "boxes" / "shared").glob("s1-*/detections.npz"))) == 1
    plan = mask_plan(scenes, tmp_path / "masks", matrix={"tracking.iou_threshold": [0.3, 0.6]})
    plan["inputs"] = [str(scenes / "s1" / "frames")]
    items, events = run_all(plan)
    assert [item.failure for item in items] == [None, None]
    assert len(list((tmp_path / "masks" / "shared").glob("s1-*/level_2/filtered/filtered.json"))) == 1
    assert [stage for _, stage in computed(events)].count("propose") == 2  # the second found it done


def test_candidates_are_chosen_anew_without_being_found_anew(tmp_path: Path) -> None:
    scenes, out = write_scenes(tmp_path / "scenes", "s1"), tmp_path / "out"
    clip = tmp_path / "s1" / "frames"
    clip.mkdir(parents=True)
    for n, image in enumerate(SyntheticScene(length=3, height=96, width=128)):
        Image.fromarray(np.asarray(image)).save(clip / f"{n}.png")
    plan = mask_plan(scenes, out, stages={"report": False, "identity": False, "filter": True})
    plan["inputs"] = [str(clip)]
    plan["settings"] |= {"generator": "regions", "levels": [2]}
    items, events = run_all(plan)
    assert [stage for _, stage in computed(events)] == ["filter", "propose", "track"]
    everything = items[0].facts["candidates"]
    (raw,) = (out / "shared").glob("s1-*/level_2/raw/raw.json")
    written = raw.stat().st_mtime_ns
    plan["stages"]["filter"] = {"candidates": {"max_count": 1}}
    items, events = run_all(plan)
    assert [stage for _, stage in computed(events)] == ["filter", "track"]
    assert 0 < items[0].facts["candidates"] < everything
    assert raw.stat().st_mtime_ns == written
    fresh = tmp_path / "fresh"
    run_all({**plan, "output": str(fresh)})
    for path in (out / "runs" / "s1" / "level_2" / "tracking").glob("*.npz"):
        assert path.read_bytes() == (fresh / path.relative_to(out)).read_bytes()

    # Those that a person gives stay as they are; what is chosen of them lies in the plan's folder.
    given = scenes / "s1" / "candidates"
    before = {path: path.read_bytes() for path in given.rglob("*") if path.is_file()}
    plan["inputs"] = [{"path": str(scenes / "s1" / "frames"), "candidates": str(given)}]
    items, events = run_all(plan)
    assert ([stage for _, stage in computed(events)], items[0].facts["candidates"]) == (["filter", "track"], 3)
    assert {path: path.read_bytes() for path in given.rglob("*") if path.is_file()} == before


def test_a_model_is_trained_on_the_samples_of_all_items(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for name in ("c1", "c2", "c3"):
        write_sequence(data / name, frames=50)
    (data / "c3" / "gt" / "gt.txt").write_text("no,number\n")
    plan: dict[str, Any] = {
        "name": "learn",
        "kind": "association",
        "inputs": [f"{data}/*"],
        "stages": {"train": {"train": {"epochs": 1, "width": 8, "layers": 0, "batch_size": 16}}},
        "output": str(out),
        "engine": {"workers": 1},
    }
    items, events = run_all(plan)
    assert [(item.name, None if item.failure is None else item.failure.kind) for item in items] == [
        ("c1", None),
        ("c2", None),
        ("c3", "input"),
        ("training", None),
    ]
    assert computed(events) == [("c1", "build"), ("c2", "build"), ("c3", "build"), ("training", "train")]
    trained = items[-1].facts
    assert trained["samples"] == sum(item.facts["samples"] for item in items[:2])
    model = out / "runs" / "training" / "model.onnx"
    track_boxes(data / "c1", tmp_path / "run", tracker="learned", scorer=ScorerSettings(enabled=True, weights=model))
    assert "training" in (out / "index.html").read_text()

    items, events = run_all(plan)
    assert (computed(events), [item.is_reused for item in items]) == ([], [True] * 4)
    plan["stages"]["train"]["train"]["epochs"] = 2
    assert forecast(load_plan(plan), ItemSelection(only=("training",))).due == [("training", "runs")]
    (data / "c3" / "gt" / "gt.txt").write_text((data / "c2" / "gt" / "gt.txt").read_text())
    assert computed(run_all(plan)[1]) == [("c3", "build"), ("training", "train")]  # of one video more
    assert forecast(load_plan({**plan, "stages": {"train": False}})).due == []
    plan["inputs"] = [{"path": f"{data}/c1", "name": "training"}]
    with pytest.raises(SettingError, match="an item is called training"):
        forecast(load_plan(plan))


def test_failures_are_kept_apart_and_tried_again_when_asked(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for name in ("c1", "c2", "c3"):
        write_sequence(data / name)
    (data / "c2" / "det" / "det.txt").write_text("no,number\n")
    plan = box_plan(data, out)
    plan["inputs"] += [str(tmp_path / "gone.mp4"), "s3://me:hunter2@host/far?token=hunter3"]
    items, events = run_all(plan)
    failures = {item.name: item.failure for item in items}
    assert failures.pop("far") is not None
    assert "hunter" not in "".join(str(event.to_json()) for event in events)
    assert [path for path in out.rglob("*") if path.is_file() and b"hunter" in path.read_bytes()] == []
    assert (failures["c1"], failures["c3"]) == (None, None)
    assert failures["c2"] is not None
    assert (failures["c2"].stage, failures["c2"].kind) == ("track", "input")
    assert failures["gone"] is not None
    assert failures["gone"].message.endswith("gone.mp4: does not exist")

    assert computed(run_all(plan)[1]) == []
    again = run_all(plan, ItemSelection(retry_failed=True))[1]
    assert sorted(event.item for event in again if event.name == "failed") == ["c2", "far", "gone"]

    (data / "c2" / "det" / "det.txt").write_text((data / "c1" / "det" / "det.txt").read_text())
    items, events = run_all(plan)
    assert ("c2", "track") in computed(events)
    assert [item.name for item in items if item.failure is not None] == ["gone", "far"]


def test_the_page_lists_failures_by_stage_and_once_for_all_variants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sequence(tmp_path / "data" / "c1")
    (tmp_path / "data" / "c1" / "gt" / "gt.txt").unlink()
    plan = box_plan(tmp_path / "data", tmp_path / "out", matrix={"tracker": ["sort", "ocsort"]})
    plan["inputs"].append(str(tmp_path / "gone.mp4"))
    monkeypatch.setattr(runner, "LocalEngine", InThisProcess)
    items, _ = run_all(plan)
    assert [row[:2] for row in failures_by_kind(items)] == [("evaluate failed: input", 2), ("open failed: input", 2)]
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<code>evaluate failed: input</code> × 2") == 1
    assert page.count(f"<li>gone (sort, ocsort): {tmp_path}/gone.mp4: does not exist</li>") == 1


def test_the_first_failure_can_end_it(tmp_path: Path) -> None:
    for name in ("c1", "c2"):
        write_sequence(tmp_path / "data" / name)
    (tmp_path / "data" / "c1" / "det" / "det.txt").write_text("no,number\n")
    items, _ = run_all(box_plan(tmp_path / "data", tmp_path / "out"), ItemSelection(keep_going=False))
    assert [item.name for item in items] == ["c1"]


def test_forecasts_only_and_limit(tmp_path: Path) -> None:
    for name in ("c1", "c2", "d1"):
        write_sequence(tmp_path / "data" / name)
    content = box_plan(tmp_path / "data", tmp_path / "out", stages={"evaluate": False})
    plan = load_plan(content)
    seen = forecast(plan)
    assert (seen.due, seen.seconds) == ([("c1", "runs"), ("c2", "runs"), ("d1", "runs")], None)
    assert [item.name for item in run_all(content, ItemSelection(only=("c*",), limit=1))[0]] == ["c1"]
    seen = forecast(plan)
    assert (seen.done, [name for name, _ in seen.due]) == (1, ["c2", "d1"])
    assert seen.seconds is not None
    assert seen.seconds > 0
    det = tmp_path / "data" / "c1" / "det" / "det.txt"
    det.write_text(det.read_text() + "\n")  # whether its content is another is only found out by working on it
    seen = forecast(plan, ItemSelection(only=("c1",)))
    assert seen.due == [("c1", "runs")]
    assert seen.seconds is not None
    assert seen.seconds > 0
    with pytest.raises(SettingError, match="no item is called x"):
        forecast(plan, ItemSelection(only=("x",)))


def test_folders_that_are_not_this_plans(tmp_path: Path) -> None:
    write_sequence(tmp_path / "data" / "c1")
    plan = box_plan(tmp_path / "data", tmp_path / "out")
    forecast(load_plan(plan))
    with pytest.raises(RunFolderError, match="holds the plan toy of boxes, not other of boxes"):
        list(run({**plan, "name": "other"}))
    with locked_folder(tmp_path / "out"), pytest.raises(RunFolderError, match="is working in this folder"):
        list(run(plan))
    (tmp_path / "out" / NAME).write_bytes(b"no database" * 100)
    with pytest.raises(Exception, match=r"the state is damaged .*: remove it"):
        list(run(plan))
    with pytest.raises(InputError, match="there is nothing"):
        list(run({**plan, "inputs": [f"{tmp_path}/none*"]}))


@pytest.mark.parametrize("name", ["items.csv", "index.html", "plan.json"])
def test_files_that_no_plan_wrote_are_not_written_over(tmp_path: Path, name: str) -> None:
    write_sequence(tmp_path / "data" / "c1")
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir()
    theirs.write_text("{}")
    with pytest.raises(RunFolderError, match=rf"out: holds {name}, which no plan wrote: choose another output"):
        list(run(box_plan(tmp_path / "data", tmp_path / "out")))
    assert [path.name for path in theirs.parent.iterdir()] == [name]
    assert theirs.read_text() == "{}"


def test_a_plan_does_not_write_into_its_inputs(tmp_path: Path) -> None:
    sequence = write_sequence(tmp_path / "data" / "c1")
    for output in (sequence, sequence / "runs"):  # its content would be another one with every call
        with pytest.raises(RunFolderError, match=rf"c1.*: lies in the input {sequence}: choose another output"):
            list(run(box_plan(tmp_path / "data", output)))
    assert sorted(path.name for path in sequence.iterdir()) == ["det", "gt", "seqinfo.ini"]


def test_the_history_is_of_every_call_and_metrics_of_this_one(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    for name in ("c1", "c2"):
        write_sequence(tmp_path / "data" / name)
    (tmp_path / "data" / "c2" / "det" / "det.txt").write_text("no,number\n")
    plan = box_plan(tmp_path / "data", tmp_path / "out")
    with PlanMetrics('the "plan"', 0) as metrics:
        assert len(list(run(plan, on_event=metrics))) == 2
        with urlopen(metrics.address) as answer:
            said = answer.read().decode().splitlines()
        with pytest.raises(HTTPError, match="404") as caught:
            urlopen(metrics.address.replace("metrics", "other"))
        caught.value.close()
        with pytest.raises(SettingError, match=r"port \d+: .*: choose another port"):
            PlanMetrics("p", int(metrics.address.split(":")[2].partition("/")[0]))
    label = 'plan="the \\"plan\\""'
    assert f'trackweave_plan_items_total{{{label},result="failed"}} 1' in said
    assert f'trackweave_plan_stages_total{{{label},stage="track",result="finished"}} 1' in said
    assert f"trackweave_plan_frames_total{{{label}}} 12" in said
    assert f"trackweave_plan_running{{{label}}} 0" in said
    assert all(re.fullmatch(r"# (HELP|TYPE) .*|[a-z_]+\{.*\} [-+.e0-9]+", line) for line in said)
    peak = next(line for line in said if line.startswith("trackweave_plan_stage_peak_rss_bytes"))
    assert float(peak.rpartition(" ")[2]) > 1e7

    plan["stages"] = {"report": False, "evaluate": {"evaluate": {"class_agnostic": True}}}
    run_all(plan)
    rows = pq.read_table(tmp_path / "out" / "history.parquet").to_pylist()
    done = [(row["item"], row["stage"], row["failure"]) for row in rows]
    assert sorted(done, key=str) == [
        ("c1", "evaluate", None),
        ("c1", "evaluate", None),
        ("c1", "report", None),
        ("c1", "track", None),
        ("c2", "track", "input"),
    ]
    assert len({row["call"] for row in rows}) == 2
    assert [row["HOTA"] for row in rows if row["stage"] == "evaluate"] == pytest.approx([1, 1])
    assert all(row["seconds"] >= 0 and row["peak_gpu_mb"] is None and row["version"] for row in rows)


def test_the_state_counts_what_is_computed(tmp_path: Path) -> None:
    write_sequence(tmp_path / "data" / "c1")
    plan = box_plan(tmp_path / "data", tmp_path / "out")
    for _ in range(2):
        run_all(plan)
    with PlanState(tmp_path / "out", "toy", "boxes") as state:
        assert set(state.computed().values()) == {1}
        assert [call[2:5] for call in state.calls()] == [(0, 1, 0), (1, 0, 0)]


EXPORTED = [("davis", ""), ("mot-s1", ".txt"), ("mots-s1", ".txt")]


def test_each_level_is_exported_where_a_format_has_one(tmp_path: Path) -> None:
    scenes, out = write_scenes(tmp_path / "scenes", "s1"), tmp_path / "out"
    settings = {"predictor": "static", "levels": [2, 4]}
    plan = mask_plan(
        scenes, out, settings=settings, stages={"export": {"to": ["davis", "mot", "mots"]}, "report": False}
    )
    (item,), _ = run_all(plan)
    assert item.failure is None
    written = sorted(path.name for path in (out / "runs" / "s1" / "export").iterdir())
    assert written == [f"{name}_L0{level}{suffix}" for name, suffix in EXPORTED for level in (2, 4)]
    assert list((out / "runs" / "s1" / "export" / "davis_L04").glob("*.png"))
    assert computed(run_all(plan)[1]) == []


def test_workers_share_the_gpus_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, names in (("0,GPU-7", ["0", "GPU-7"]), ("", []), ("1,-1,2", ["1"]), (" 3 , 4 ", ["3", "4"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert workers.visible_gpus() == names

    class Unstarted(workers._Worker):
        job: Job | None = None
        is_alive = True

        def __init__(self, context: Any, threads: int, log: Path, gpu: str | None = None) -> None:
            self.gpu = gpu

        def begin(self, job: Job, limit: float) -> None:
            self.job = job

        def end(self) -> None: ...

    monkeypatch.setattr(workers, "_Worker", Unstarted)
    job = Job("c1", "runs", "boxes", {}, {}, (), (), str(tmp_path), str(tmp_path))
    with workers.LocalEngine("boxes", 3, None, tmp_path / "log", ["0", "GPU-7"]) as engine:
        for _ in range(3):
            engine.submit(job)
        assert [worker.gpu for worker in engine._workers] == ["0", "GPU-7", "0"]
        engine._workers.pop(1)
        engine.submit(job)
        assert engine._workers[-1].gpu == "GPU-7"
    with workers.LocalEngine("boxes", 1, None, tmp_path / "log") as engine:
        engine.submit(job)
        assert engine._workers[0].gpu is None


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"predictor": "flow"}, None),
        ({"predictor": "sam2-hf"}, 3),
        ({"predictor": "sam2-hf=weights"}, 3),
        ({"predictor": {"device": "cpu"}, "masks": {"predictor": "sam2-hf"}}, None),
        ({"predictor": {"device": "cuda:1"}, "masks": {"predictor": "sam2-hf"}}, None),
        ({"predictor": "flow", "generator": "sam2-hf"}, 3),
        ({}, None),
    ],
)
def test_there_are_as_many_workers_as_gpus_where_a_model_computes_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], count: int | None
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    plan = load_plan(mask_plan(tmp_path, tmp_path / "out", settings=settings))
    assert runner.default_workers(plan) == (workers.cores() if count is None else count)
