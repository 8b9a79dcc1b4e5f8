"""Kills at any moment, workers without memory, full disks: what is finished stays, and the rest is as if undisturbed.

Few kills here; `TRACKWEAVE_PLAN_KILLS=100 pytest tests/plans/test_faults.py -k Warm -s` makes more.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

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
from trackweave.errors import PredictorOutOfMemory, RunFolderError
from trackweave.options.sources import ResolvedSettings
from trackweave.plans import runner, stages, workers
from trackweave.plans.runner import ItemSelection, PlanEvent, run
from trackweave.plans.stages import WARM, StageRecord
from trackweave.plans.state import PlanState
from trackweave.predictors.registry import ChosenPredictor
from trackweave.predictors.static import StaticPredictor

KILLS = int(os.environ.get("TRACKWEAVE_PLAN_KILLS", "2"))
NAMES = ("s1", "s2", "s3")


class Command:
    """`trackweave run`, begun."""

    def __init__(self, plan: Path) -> None:
        command = [sys.executable, "-m", "trackweave", "run", str(plan), "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.kill = self.process.kill
        self.pid = self.process.pid
        self._first = psutil.Process(self.pid)

    def wait_for(self, events: int) -> None:
        """Reads so many events, or all that there are."""
        assert self.process.stdout is not None
        for _ in range(events):
            if not self.process.stdout.readline():
                return

    def workers(self) -> list[psutil.Process]:
        """Its processes."""
        found: list[psutil.Process] = self._first.children(recursive=True)
        return found

    def kill_all(self) -> None:
        """With its workers."""
        os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Until it is gone."""
        self.process.communicate()


class Warm:
    """`trackweave.run` in a process that is forked, as its workers are, from a server that has the libraries loaded.

    A kill of a command costs seconds for what its processes import; of this one a part of that.
    """

    def __init__(self, plan: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        server: Any = forkserver._forkserver
        self._server = psutil.Process(server._forkserver_pid)
        self._others = {one.pid for one in self._server.children()}
        self._heard, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=work_through, args=(plan, sender, server._forkserver_address))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid
        sender.close()
        self.kill = self.process.kill

    def wait_for(self, events: int) -> None:
        """Hears so many events, or all that there are."""
        with suppress(EOFError):
            for _ in range(events):
                self._heard.recv()

    def workers(self) -> list[psutil.Process]:
        """Its processes."""
        return [one for one in self._server.children() if one.pid not in {*self._others, self.pid}]

    def kill_all(self) -> None:
        """With its workers."""
        with suppress(ProcessLookupError):  # it has come to its end
            os.kill(self.pid, signal.SIGSTOP)  # it shall not give the work of one to the next
        for one in self.workers():
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.kill()

    def wait(self) -> None:
        """Until it is gone."""
        self.process.join()
        self._heard.close()


def work_through(plan: Path, sender: Connection, server: str) -> None:
    """The life of a `Warm`: its workers come from the server that it comes from."""
    known: Any = forkserver._forkserver
    known._forkserver_address, known.ensure_running = server, lambda: None
    for _ in run(json.loads(plan.read_text()), on_event=lambda event: sender.send(event.name)):
        pass


def finished_records(out: Path) -> dict[tuple[str, str], Mapping[str, Any]]:
    """What stands beside the runs about finished stages: measured times among it, so that doing it again shows."""
    return {
        (path.parents[1].name, stage): record
        for path in out.glob("runs/*/stages/record.json")
        for stage, record in json.loads(path.read_text())["done"].items()
    }


@pytest.mark.timeout(900 + 60 * KILLS)  # each command is a process, and its server of workers another
@pytest.mark.parametrize(("begin", "kills"), [(Command, 2), (Warm, KILLS)])
def test_killed_at_any_moment_it_ends_as_if_undisturbed(
    tmp_path: Path, begin: type[Command | Warm], kills: int
) -> None:
    chance = random.Random(int(os.environ.get("TRACKWEAVE_PLAN_SEED", "1")))
    scenes = write_scenes(tmp_path / "scenes", *NAMES)
    if begin is Warm:  # before a plan has begun the server
        libraries = [*WARM["masks"], "trackweave.plans.overview", "pyarrow.parquet", "tests.plans.test_faults"]
        multiprocessing.get_context("forkserver").set_forkserver_preload(libraries)
        forkserver.ensure_running()
    run_all(mask_plan(scenes, tmp_path / "whole", engine={"workers": 2}))
    out, plan = tmp_path / "out", tmp_path / "toy.json"
    plan.write_text(json.dumps(mask_plan(scenes, out, engine={"workers": 2})))
    kept = 0
    for n in range(kills):
        before = finished_records(out)
        if len(before) == 3 * len(NAMES) and (out / "index.html").is_file():  # nothing is left to be cut off
            assert_same_results(out, tmp_path / "whole")
            assert not list(out.rglob("*.partial"))
            shutil.rmtree(out)
            before = {}
        begun = begin(plan)
        begun.wait_for(chance.randint(1, 9))
        time.sleep(chance.uniform(0, 0.3))
        workers = begun.workers()
        if n % 3 == 0:
            begun.kill()
        elif n % 3 == 1:
            begun.kill_all()
        else:  # all workers at once: the coordinator goes on, and is killed after it
            with suppress(ProcessLookupError):
                os.kill(begun.pid, signal.SIGSTOP)
            workers = begun.workers()
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
            with suppress(ProcessLookupError):
                os.kill(begun.pid, signal.SIGCONT)
            begun.wait_for(chance.randint(1, 3))
            workers += [one for one in begun.workers() if one not in workers]
            begun.kill()
        begun.wait()
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive  # workers end with their coordinator, whatever ended it
        after = finished_records(out)
        assert {key: after.get(key) for key in before} == before
        kept += len(before)
    if kills >= 20:
        print(f"{kills} kills, {kept} finished stages found again, none computed again")
    before = finished_records(out)
    command = Command(plan)
    command.wait_for(chance.randint(2, 4))
    busy = [one for one in command.workers() if one.ppid() != command.process.pid]
    for worker in busy[:1]:
        worker.kill()
    said, _ = command.process.communicate(timeout=200)
    assert command.process.returncode == 0
    assert json.loads(said.splitlines()[-1])["event"] == "ended"
    after = finished_records(out)
    assert {key: after.get(key) for key in before} == before  # nothing finished was computed again
    assert_same_results(out, tmp_path / "whole")
    assert not list(out.rglob("*.partial"))


def test_a_worker_that_died_without_work_costs_no_item_its_try(tmp_path: Path) -> None:
    for name in ("c1", "c2"):
        write_sequence(tmp_path / "data" / name)
    events = list[PlanEvent]()

    def kill_idle(event: PlanEvent) -> None:
        events.append(event)
        if event.name == "finished":
            for worker in multiprocessing.active_children():
                worker.kill()
                worker.join()

    items = list(run(box_plan(tmp_path / "data", tmp_path / "out"), on_event=kill_idle))
    assert [item.failure for item in items] == [None, None]
    assert not [event for event in events if event.name == "lost"]


def test_why_a_worker_died(tmp_path: Path) -> None:
    log = tmp_path / "workers.log"
    worker = workers._Worker(multiprocessing.get_context("forkserver"), 1, log)
    worker._process.terminate()
    assert worker.died() == f"crash: the process ended by SIGTERM: {log} has what it printed"


def test_a_script_that_its_workers_run_again_is_said(tmp_path: Path) -> None:
    write_sequence(tmp_path / "data" / "c1")
    plan, script = box_plan(tmp_path / "data", tmp_path / "out"), tmp_path / "script.py"
    script.write_text(f"import trackweave\nfor item in trackweave.run({plan!r}):\n    print(item.name)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith(
        "SettingError: trackweave.run is called by whoever imports the script, as its workers do: "
        'put the call under `if __name__ == "__main__":`\n'
    )
    items, _ = run_all(plan)
    assert [item.failure for item in items] == [None]


def test_a_worker_that_takes_too_much_is_tried_alone(tmp_path: Path) -> None:
    write_sequence(tmp_path / "data" / "c1")
    plan = box_plan(tmp_path / "data", tmp_path / "out", engine={"workers": 1, "memory_gb": 0.03})
    items, events = run_all(plan)
    (lost,) = (event for event in events if event.name == "lost")
    assert lost.values["message"].startswith("memory: took 0.")
    assert [item.failure for item in items] == [None]


def test_and_then_it_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "machine_memory", lambda: 2e7)
    for name in ("c1", "c2"):
        write_sequence(tmp_path / "data" / name)
    plan = box_plan(tmp_path / "data", tmp_path / "out")
    items, _ = run_all(plan)
    failures = [item.failure for item in items]
    assert [failure.kind for failure in failures if failure] == ["memory", "memory"]
    assert all(failure and failure.message.endswith("tried alone, too") for failure in failures)
    monkeypatch.undo()
    assert [item.failure is None for item in run_all(plan)[0]] == [False, False]  # not without being asked


def test_a_model_that_lacks_memory_is_tried_with_half_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = list[int]()

    def choose(settings: ResolvedSettings) -> ChosenPredictor:
        batches.append(settings.value("predictor.batch"))
        predictor = StaticPredictor()
        predictor.name = "sam2-hf"
        if batches[-1] > 8:
            monkeypatch.setattr(predictor, "open", _too_much)
        return ChosenPredictor(predictor, "sam2-hf", "asked for")

    monkeypatch.setattr(stages, "_predictor", choose)
    monkeypatch.setattr(runner, "LocalEngine", InThisProcess)
    scenes = write_scenes(tmp_path / "scenes", "s1", "s2")
    plan = mask_plan(scenes, tmp_path / "out", settings={"predictor": "sam2-hf", "predictor.batch": 16})
    items, events = run_all(plan)
    assert [item.failure for item in items] == [None, None]
    assert batches == [16, 16, 16, 8, 16, 8]  # all once, then each alone
    assert [event.values["message"] for event in events if event.name == "lost"] == ["memory: out of memory"] * 2
    assert all(item.facts["is_halved"] for item in items)
    assert "half the batch" in (tmp_path / "out" / "items.csv").read_text()
    assert [item.is_reused for item in run_all(plan)[0]] == [True, True]

    batches.clear()
    monkeypatch.setattr(stages, "HALVED", ())
    (failure, *_), _ = run_all({**plan, "output": str(tmp_path / "other")}, ItemSelection(only=("s1",)))
    assert failure.failure is not None
    assert (failure.failure.kind, failure.failure.message) == ("memory", "out of memory")


def _too_much(*_: object) -> Any:
    raise PredictorOutOfMemory("out of memory")


def test_a_full_disk_is_tried_again_by_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        raise RunFolderError(f"{path}: cannot be written: no space") from OSError(errno.ENOSPC, "no space")

    with PlanState(tmp_path, "p", "masks") as state:
        state._database.execute("PRAGMA max_page_count = 12")
        failure = _raised(lambda: _fill(state))
        assert "state.sqlite: cannot be written: database or disk is full" in str(failure)
    monkeypatch.setattr(stages, "write_json", full)
    folder = tmp_path / "run"
    record = stages._failure("track", "k", _raised(lambda: stages.StageRecords(folder).start("track", "k")), folder)
    assert record.kind == "disk full"


def test_a_full_disk_of_one_item_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("c1", "c2"):
        write_sequence(tmp_path / "data" / name)
    monkeypatch.setattr(runner, "LocalEngine", InThisProcess)
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if Path(target).match("c1/tracks.npz"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, target)

    plan = box_plan(tmp_path / "data", tmp_path / "out", stages={"report": False, "evaluate": False})
    with monkeypatch.context() as disk:
        disk.setattr(Path, "replace", full)
        failed, finished = sorted((item for item in run_all(plan)[0]), key=lambda item: item.name)
    assert failed.failure is not None
    assert failed.failure.kind == "disk full"
    assert failed.failure.message.endswith("tracks.npz: cannot be written: No space left on device")
    assert finished.failure is None
    assert not (failed.folder / "tracks.npz").exists()
    items, events = run_all(plan)  # tried again without being asked, and nothing else
    assert ([item.failure for item in items], computed(events)) == ([None, None], [("c1", "track")])


def _fill(state: PlanState) -> None:
    for n in range(2000):
        state.keep("runs", f"item{n}", StageRecord("track", "k" * 16, message="m" * 200))


def _raised(call: Any) -> Exception:
    try:
        call()
    except RunFolderError as error:
        return error
    raise AssertionError("nothing was raised")
