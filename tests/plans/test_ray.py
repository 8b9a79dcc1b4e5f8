"""Plans on a Ray cluster: the same results as without one, also when a node is lost; what does not fit is said.

The cluster of these tests is of this machine alone. `pytest -m "not ray"` leaves out what starts one.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.plans.toy import assert_same_results, box_plan, computed, mask_plan, run_all, write_scenes, write_sequence
from trackweave.errors import InputError, MissingExtraError, SettingError
from trackweave.plans import ray_engine
from trackweave.plans.runner import forecast, run
from trackweave.plans.settings import EngineSettings, StageShare, load_plan
from trackweave.plans.stages import Job
from trackweave.plans.state import NAME, PlanState
from trackweave.storage.files import locked_folder

NAMES = ("s1", "s2", "s3")
STORE = 80 * 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one processor, on the loopback interface."""
    pytest.importorskip("ray", reason="pip install -e '.[ray]' brings what these tests need")
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
        patch.setenv(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_worker_niceness", "0")  # on a busy machine nice workers would not get to work at all
        patch.setenv("RAY_enable_worker_prestart", "0")
        patch.setattr(ray_engine, "IDLE", 1.0)
        head = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()


def on(cluster: Any, **more: Any) -> dict[str, Any]:
    """The engine of a plan."""
    return {"name": "ray", "address": cluster.address, **more}


def poll_to_the_end(engine: ray_engine.RayEngine) -> None:
    for _ in range(600):
        if any(event.is_over for event in engine.poll(1)):
            return


@pytest.mark.ray
@pytest.mark.timeout(900)  # on a busy machine each process of Ray takes many seconds to begin
def test_stages_of_different_shares_take_turns_on_one_processor(cluster: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_sequence(data / "short")
    write_sequence(data / "tall", frames=40)
    run_all(box_plan(data, tmp_path / "local"))
    plan = box_plan(data, tmp_path / "ray", engine=on(cluster, stages={"report": {"cpus": 0.8}}))
    items, events = run_all(plan)
    assert [(item.name, item.failure) for item in items] == [("tall", None), ("short", None)]  # long ones first
    assert computed(events) == [
        (name, stage) for name in ("short", "tall") for stage in ("evaluate", "report", "track")
    ]
    assert_same_results(tmp_path / "ray", tmp_path / "local")

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with ray_engine.RayEngine("boxes", ["track"], load_plan(plan).engine, elsewhere, 1) as engine:
        engine.submit(Job("c", "runs", "boxes", {"input": "c"}, {}, ["track"], (), str(elsewhere / "c"), ""))
        with pytest.raises(InputError, match=f"does not see {elsewhere}: output and inputs have to lie where"):
            poll_to_the_end(engine)

    with pytest.raises(SettingError, match=r"no node of the Ray cluster has 1 CPU, 1 GPU for a worker \(detect, track"):
        run_all({**plan, "engine": on(cluster, gpus=1), "output": str(tmp_path / "gpu")})


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_node_is_lost_and_every_item_ends_as_if_undisturbed(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes, out = write_scenes(tmp_path / "scenes", *NAMES), tmp_path / "out"
    run_all(mask_plan(scenes, tmp_path / "whole"))
    lost = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    with ExitStack() as held:
        for name in NAMES:  # whoever comes to an item waits for it, until the node is gone
            held.enter_context(locked_folder(out / "runs" / name / "stages"))
        breaker = threading.Thread(target=_lose, args=(cluster, lost, out, held.pop_all()))
        breaker.start()
        items, events = run_all(mask_plan(scenes, out, engine=on(cluster)))
        breaker.join()
    assert sorted((item.name, item.failure) for item in items) == [(name, None) for name in NAMES]
    assert not [event for event in events if event.name == "lost"]  # Ray did it again by itself
    with PlanState(out, "toy", "masks") as state:
        assert set(state.computed().values()) <= {0, 1}  # 0: what the lost worker had finished was found so
    assert_same_results(out, tmp_path / "whole")
    assert capsys.readouterr().out == ""  # what Ray says of it is no event


def _lose(cluster: Any, node: Any, out: Path, held: ExitStack) -> None:
    """Takes a node away when every node has an item in hand."""
    with held:
        for _ in range(2400):
            time.sleep(0.25)
            if (out / NAME).is_file():
                with closing(sqlite3.connect(f"{(out / NAME).as_uri()}?mode=ro", uri=True)) as state:
                    tables = state.execute("SELECT 1 FROM sqlite_master WHERE name = 'inputs'").fetchall()
                    if tables and state.execute("SELECT COUNT(DISTINCT item) FROM inputs").fetchone()[0] >= 2:
                        break
        cluster.remove_node(node, allow_graceful=False)


# --- without a cluster ------------------------------------------------------------------------------------------------


def engine_of(tmp_path: Path, engine: Any) -> EngineSettings:
    return load_plan({"kind": "boxes", "inputs": ["x"], "output": str(tmp_path / "out"), "engine": engine}).engine


def test_the_engine_of_a_plan(tmp_path: Path) -> None:
    assert engine_of(tmp_path, "ray").name == "ray"
    engine = engine_of(tmp_path, {"name": "ray", "gpus": 0.25, "memory_gb": 4, "stages": {"report": {"gpus": 0}}})
    assert engine.share_of("track") == StageShare(cpus=1, gpus=0.25, memory_gb=4)
    assert engine.share_of("report") == StageShare(cpus=1, gpus=0, memory_gb=4)


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"gpus": 1}, "engine: gpus: is of the engine ray, and this one is local"),
        ({"name": "ray", "gpu": 1}, "there is no setting gpu; did you mean gpus?"),
        ({"name": "ray", "gpus": 1.5}, "a part of one GPU, or a whole number of them"),
        ({"name": "ray", "stages": {"trak": {}}}, "engine: stages: there is no stage trak; there are detect, track"),
        ({"name": "ray", "stages": {"track": 1}}, r"engine: stages: track: is {cpus, gpus, memory_gb}, not 1"),
        ({"name": "ray", "stages": {"track": {"gpu": 1}}}, "stages: track: there is no setting gpu"),
        ("rays", "local"),
    ],
)
def test_what_the_engine_of_a_plan_cannot_be(tmp_path: Path, engine: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        engine_of(tmp_path, engine)


class FakeRay(SimpleNamespace):
    """What `ray` is asked for before there is a cluster."""

    def __init__(self, error: Exception | None = None, release: str = "2.60.0") -> None:
        super().__init__(__version__=release, exceptions=SimpleNamespace(RayError=OSError))
        self._error, self.asked, self.environment = error, dict[str, Any](), dict[str, str]()

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: Any) -> None:
        self.asked, self.environment = options, dict(os.environ)
        if self._error is not None:
            raise self._error


def connect(monkeypatch: pytest.MonkeyPatch, ray: Any, **engine: Any) -> None:
    constants = SimpleNamespace(ENABLE_RAY_CLUSTERS_ENV_VAR="RAY_LOOPBACK", ENABLE_RAY_CLUSTER=True)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray._private", SimpleNamespace(ray_constants=constants))
    settings = EngineSettings(name="ray", **engine)
    ray_engine._connected(settings, [ray_engine._Pool(settings.share_of("track"), ("track",))], 2)


def test_a_cluster_of_its_own_is_of_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay()
    connect(monkeypatch, ray, workers=5)
    assert ray.asked["address"] == "local"
    assert ray.asked["include_dashboard"] is False
    assert ray.asked["num_cpus"] >= 2
    assert ray.environment["RAY_USAGE_STATS_ENABLED"] == ray.environment["RAY_LOOPBACK"] == "0"
    assert "RAY_LOOPBACK" not in os.environ


def test_a_cluster_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"Ray 2.9.1 is installed, 2.50 or newer is needed"):
        connect(monkeypatch, FakeRay(release="2.9.1"))
    mismatch = RuntimeError("Version mismatch: The cluster was started with:\n  Ray: 2.55.0\n  Python: 3.12.1\n")
    with pytest.raises(InputError, match=r"^Ray cluster auto: Version mismatch: .* Ray: 2.55.0 Python: 3.12.1$"):
        connect(monkeypatch, FakeRay(mismatch), address="auto")
    with pytest.raises(InputError, match="Ray cluster auto: no instance: `ray start --head` begins one"):
        connect(monkeypatch, FakeRay(ConnectionError("no instance")), address="auto")


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        port = unused.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            with pytest.raises(InputError, match=f"^Ray cluster {address}: is not there .*`address: local` needs none"):
                connect(monkeypatch, FakeRay(), address=address)
        where = rf"^Ray cluster auto \(127.0.0.1:{port}\): is not there"
        monkeypatch.setattr(ray_engine, "_last_begun", lambda: f"127.0.0.1:{port}")
        with pytest.raises(InputError, match=where):  # Ray itself asks for minutes
            connect(monkeypatch, FakeRay(), address="auto")
        monkeypatch.setattr(ray_engine, "_last_begun", lambda: None)
        connect(monkeypatch, FakeRay(), address="auto")
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        with pytest.raises(InputError, match=where):
            connect(monkeypatch, FakeRay(), address="auto")
    for address in ("cluster", "http://a:1", "a:b", "ray://a"):
        with pytest.raises(SettingError, match="engine: address: is local, auto, HOST:PORT or ray://HOST:PORT, not"):
            connect(monkeypatch, FakeRay(), address=address)


def test_what_listens_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # as a head that hangs: Ray itself waits for minutes
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        for address in (place, f"ray://{place}"):
            with pytest.raises(InputError, match=rf"^Ray cluster {address}: does not answer within 0.2 s: `ray start"):
                connect(monkeypatch, FakeRay(), address=address)


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),  # Ray's dashboard, or any web server
        (b"SSH-2.0-OpenSSH_9.6\r\n", False),
        (bytes.fromhex("000024040000000000") + bytes(36), True),  # SETTINGS of HTTP/2
        (b"", True),  # whatever hangs up is Ray's to judge
    ],
)
def test_what_answers_is_no_cluster(monkeypatch: pytest.MonkeyPatch, answer: bytes, fits: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if fits:
            connect(monkeypatch, FakeRay(), address=address)
        else:
            with pytest.raises(InputError, match=f"^Ray cluster {address}: what listens there is not Ray"):
                connect(monkeypatch, FakeRay(), address=address)
        thread.join()


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_sequence(tmp_path / "data" / "c1")
    monkeypatch.setitem(sys.modules, "ray", None)
    plan = box_plan(tmp_path / "data", tmp_path / "out", engine="ray")
    assert len(forecast(load_plan(plan)).due) == 1
    with pytest.raises(MissingExtraError, match=r"ray is not installed: pip install 'trackweave\[ray\]'"):
        list(run(plan))


def test_why_a_job_came_to_nothing() -> None:
    assert ray_engine._why(Exception("The actor died because its node has died.")).startswith("cluster: ")
    assert ray_engine._why(Exception("Worker killed due to memory pressure (OOM)")).startswith("memory: ")
    assert ray_engine._why(Exception("SYSTEM_ERROR")) == "crash: SYSTEM_ERROR"


@pytest.mark.ray
def test_pieces_of_a_long_video_are_joined_as_without_ray(tmp_path: Path, cluster: Any) -> None:
    write_sequence(tmp_path / "data" / "c1", frames=40)
    plan = {"split": {"frames": 16, "overlap": 4}}
    run_all(box_plan(tmp_path / "data", tmp_path / "local", **plan))
    shares = {"report": {"cpus": 0.5}}  # of two pools: an item waits for its pieces in neither
    items, events = run_all(box_plan(tmp_path / "data", tmp_path / "out", engine=on(cluster, stages=shares), **plan))
    assert [item.failure for item in items] == [None]
    assert computed(events).count(("c1", "track")) == 4
    assert_same_results(tmp_path / "out", tmp_path / "local")
