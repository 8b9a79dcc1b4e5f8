"""Plans whose inputs and outputs lie in an object store: a server of S3 on the loopback interface."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.frames.videos import write_video
from tests.plans.toy import InThisProcess, box_plan, computed, run_all, write_sequence
from trackweave.errors import InputError, RunFolderError, SettingError
from trackweave.plans import runner
from trackweave.plans.remote import Stores
from trackweave.plans.settings import StorageSettings, load_plan

pytest.importorskip("s3fs", reason="object stores need the extra s3")
moto_server = pytest.importorskip("moto.server", reason="the server of S3 is not installed")

SECRET = "hunter2hunter2"


class Bucket:
    """What a test sees of the bucket `bkt`."""

    def __init__(self, endpoint: str) -> None:
        import boto3

        self.options: dict[str, Any] = {"endpoint_url": endpoint, "key": "AKIAHUNTER", "secret": SECRET}
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="AKIAHUNTER",
            aws_secret_access_key=SECRET,
        )

    def put(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.client.upload_file(str(path), "bkt", f"{prefix}/{path.relative_to(folder).as_posix()}")

    def keys(self, prefix: str) -> list[str]:
        return [one["Key"] for one in self.client.list_objects_v2(Bucket="bkt", Prefix=prefix).get("Contents", ())]

    def read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket="bkt", Key=key)["Body"].read()
        return content


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str) -> Iterator[Bucket]:
    found = Bucket(server)
    found.client.create_bucket(Bucket="bkt")
    yield found
    for key in found.keys(""):
        found.client.delete_object(Bucket="bkt", Key=key)
    found.client.close()


def stores(bucket: Bucket, cache: Path, **more: Any) -> Stores:
    return Stores(StorageSettings(options=bucket.options, **more), str(cache))


def test_from_a_store_to_a_store_and_nothing_twice(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("c1", "c2"):
        bucket.put(write_sequence(tmp_path / "data" / name), f"data/{name}")
    plan = box_plan(Path("x"), Path("y"))
    plan |= {"inputs": [{"path": "s3://bkt/data/c*", "truth": "{input}"}], "output": "s3://bkt/out/"}
    plan["inputs"].append("s3://bkt/none.mp4")
    plan["storage"] = {"options": bucket.options, "local": str(tmp_path / "here")}
    items, events = run_all(plan)
    assert {item.name: item.failure and item.failure.message for item in items} == {
        "c1": None,
        "c2": None,
        "none": "s3://bkt/none.mp4: does not exist",
    }
    assert ("c1", "store") in computed(events)
    monkeypatch.setattr(runner, "LocalEngine", InThisProcess)
    there = bucket.keys("out/")
    assert {"out/runs/c1/manifest.json", "out/runs/c1/evaluation.json", "out/index.html", "out/items.csv"} <= {*there}
    local = tmp_path / "here" / "runs" / "c1"
    for key in bucket.keys("out/runs/c1/"):
        path = local / key.removeprefix("out/runs/c1/")
        if path.name != "record.json":  # which says since that it was put
            assert bucket.read(key) == path.read_bytes()
    assert computed(run_all(plan)[1]) == []

    text = (tmp_path / "data" / "c1" / "det" / "det.txt").read_text().replace("0.9", "0.8")
    bucket.client.put_object(Bucket="bkt", Key="data/c1/det/det.txt", Body=text.encode())
    assert {name for name, _ in computed(run_all(plan)[1])} == {"c1"}

    # Another machine fetches what is done, and computes nothing but what no store has.
    plan["storage"] = {**plan["storage"], "local": str(tmp_path / "there")}
    assert {stage for name, stage in computed(run_all(plan)[1]) if name != "none"} == {"store"}

    everything = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    everything += [bucket.read(key) for key in bucket.keys("")]
    assert not any(SECRET.encode() in content or b"AKIAHUNTER" in content for content in everything)
    assert "hunter" not in "".join(json.dumps(event.to_json()).lower() for event in events)


def test_a_video_is_fetched_once_for_all_stages_and_variants(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "clip.mp4", 12)
    bucket.client.upload_file(str(video), "bkt", "clip.mp4")
    det = tmp_path / "det.txt"
    det.write_text("".join(f"{frame},-1,{10 + frame},20,12,14,0.9\n" for frame in range(1, 13)))
    store = stores(bucket, tmp_path / "cache")._store("s3://bkt")[1]
    get_file, fetched = store.get_file, list[int]()

    def counted(key: str, path: str) -> None:
        get_file(key, path)
        fetched.append(Path(path).stat().st_size)

    def unused(*_: Any, **__: Any) -> Any:
        raise AssertionError("is read by range, too")

    monkeypatch.setattr(store, "get_file", counted)
    for name in ("open", "cat_file", "read_block"):
        monkeypatch.setattr(store, name, unused)
    plan = box_plan(Path("x"), tmp_path / "out", matrix={"tracker": ["sort", "ocsort"]})
    plan["inputs"] = [{"path": "s3://bkt/clip.mp4", "detections": str(det)}]
    plan["storage"] = {"options": bucket.options}
    monkeypatch.setattr(runner, "LocalEngine", InThisProcess)
    items, events = run_all(plan)
    assert [item.failure for item in items] == [None, None]
    assert computed(events) == [("clip", stage) for stage in ("report", "report", "track", "track")]
    assert fetched == [video.stat().st_size]


def test_the_longest_come_first(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, frames in (("a", 4), ("b", 40), ("c", 12)):
        bucket.put(write_sequence(tmp_path / name, frames=frames), f"data/{name}")
    plan = box_plan(Path("x"), tmp_path / "out", engine={"name": "ray", "workers": 1})
    plan |= {"inputs": ["s3://bkt/data/*", "s3://bkt/none.mp4"], "storage": {"options": bucket.options}}
    monkeypatch.setattr(runner, "RayEngine", InThisProcess)
    items, _ = run_all(plan)
    assert [item.name for item in items] == ["b", "c", "a", "none"]


def test_what_was_used_longest_ago_goes_first(bucket: Bucket, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        bucket.client.put_object(Bucket="bkt", Key=f"{name}.bin", Body=name.encode() * 1000)
    found = stores(bucket, tmp_path, cache_gb=2.5e-6)
    with found.fetched("s3://bkt/a.bin") as first:
        with found.fetched("s3://bkt/b.bin") as second:
            assert Path(second).read_bytes() == b"b" * 1000
        with found.fetched("s3://bkt/c.bin") as third, found.fetched("s3://bkt/c.bin") as again:
            assert third == again
            assert not Path(second).exists()
            assert Path(first).read_bytes() == b"a" * 1000  # older, but it is read
    with pytest.raises(InputError, match=r"s3://bkt/a\.bin: 0\.0 GB, and storage\.cache_gb is 1e-07"):
        stores(bucket, tmp_path, cache_gb=1e-7).fetched("s3://bkt/a.bin").__enter__()
    assert sorted(one.below for one in found.files("s3://bkt")) == ["a.bin", "b.bin", "c.bin"]


def test_a_run_in_a_store_is_whole_or_has_no_manifest(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, found = tmp_path / "run", stores(bucket, tmp_path / "cache")
    (run / "stages").mkdir(parents=True)
    for name in ("manifest.json", "tracks.npz", "stages/record.json", ".lock"):
        (run / name).write_text(f"{name} 1")
    assert found.put(run, "s3://bkt/run") == 3
    assert found.put(run, "s3://bkt/run") == 0
    (run / "tracks.npz").write_text("tracks.npz 2")
    store = found._store("s3://bkt")[1]
    put_file = store.put_file

    def breaks(*args: Any) -> None:
        raise OSError(f"the line is cut, said {SECRET}")

    monkeypatch.setattr(store, "put_file", breaks)
    with pytest.raises(RunFolderError, match=r"s3://bkt/run: cannot be written: the line is cut, said …"):
        found.put(run, "s3://bkt/run")
    assert bucket.keys("run/") == ["run/tracks.npz"]  # as it was, and no run for any reader
    found.restore("s3://bkt/run", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    monkeypatch.setattr(store, "put_file", put_file)
    (run / "more.txt").write_text("x")
    (run / "manifest.json").write_text("manifest 2")
    assert found.put(run, "s3://bkt/run") == 4
    (run / "more.txt").unlink()
    found.put(run, "s3://bkt/run")
    assert bucket.keys("run/") == ["run/manifest.json", "run/stages/record.json", "run/tracks.npz"]
    found.restore("s3://bkt/run", tmp_path / "again")
    assert (tmp_path / "again" / "tracks.npz").read_text() == "tracks.npz 2"

    monkeypatch.setattr(store, "put_file", lambda *_: None)  # a store that loses what it is sent
    (run / "tracks.npz").write_text("tracks.npz 3")
    with pytest.raises(RunFolderError, match=r"the store has another content than was sent|does not exist"):
        found.put(run, "s3://bkt/run")


def test_a_store_that_does_not_answer_is_no_empty_one(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(write_sequence(tmp_path / "data" / "c1"), "data/c1")
    plan = box_plan(Path("x"), Path("y")) | {"inputs": ["s3://bkt/data/c1"], "output": "s3://bkt/out"}
    plan["stages"] = {"report": False}
    plan["storage"] = {"options": bucket.options, "local": str(tmp_path / "here")}
    monkeypatch.setattr(runner, "LocalEngine", InThisProcess)
    assert ("c1", "track") in computed(run_all(plan)[1])

    found = stores(bucket, tmp_path / "cache")
    store = found._store("s3://bkt")[1]
    find, down, refused = store.find, list[str](), list[str]()

    def answers(root: str, **options: Any) -> Any:
        if any(root.startswith(one) for one in down):
            raise ConnectionError("no route to the store")
        if any(root.startswith(one) for one in refused):
            raise PermissionError("Forbidden")
        return find(root, **options)

    monkeypatch.setattr(store, "find", answers)
    said = "no route to the store: what lies there is not known: the same command goes on when it answers"
    down.append("bkt/out/runs")  # another machine, which does not know what is done
    plan["storage"] = {**plan["storage"], "local": str(tmp_path / "there")}
    (item,), events = run_all(plan)
    assert computed(events) == [("c1", "open")]
    assert item.failure is not None
    assert (item.failure.kind, item.failure.message) == ("store", f"s3://bkt/out/runs/c1: cannot be read: {said}")
    with pytest.raises(InputError, match="no route to the store"):  # what is there would stay beside what is put
        found.put(tmp_path / "here" / "runs" / "c1", "s3://bkt/out/runs/c1")
    down.clear()
    items, events = run_all(plan)  # tried again without being asked
    assert ([item.failure for item in items], computed(events)) == ([None], [("c1", "store")])

    down.append("bkt/data")  # also whether there are detections is not known
    with pytest.raises(InputError, match=f"s3://bkt/data/c1: cannot be read: {said}"):
        run_all(plan)
    down.clear()
    refused.append("bkt/data")  # that is the item's own
    (item,), _ = run_all(plan)
    assert item.failure is not None
    assert (item.failure.kind, item.failure.message) == ("input", "s3://bkt/data/c1: cannot be read: Forbidden")


def test_what_cannot_be_reached_is_one_line_without_secrets(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stores(bucket, tmp_path)
    with pytest.raises(InputError, match=r"s3://…@bkt/x: an account in an address: give it as storage\.options"):
        found.files("s3://me:pw@bkt/x")
    with pytest.raises(InputError, match="s3://other/x: does not exist"):
        found.files("s3://other/x")
    nobody = {**bucket.options, "endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}}
    with pytest.raises(InputError, match="s3://bkt/x: cannot be read: ") as caught:
        Stores(StorageSettings(options=nobody), str(tmp_path)).files("s3://bkt/x")
    assert SECRET not in str(caught.value)
    with pytest.raises(SettingError, match=r"plan: output: ftp://…@x/y: is a folder, s3://… or gs://…"):
        load_plan({"name": "p", "inputs": ["a"], "output": "ftp://me:pw@x/y"})
    monkeypatch.setattr(runner, "LocalEngine", InThisProcess)
    write_sequence(tmp_path / "data" / "c1")
    plan = box_plan(tmp_path / "data", tmp_path / "out") | {"output": "s3://gone/out"}
    plan["storage"] = {"options": bucket.options, "local": str(tmp_path / "out")}
    with pytest.raises(RunFolderError, match="s3://gone/out: cannot be written: "):
        run_all(plan)
    assert (tmp_path / "out" / "index.html").is_file()


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_workers_of_ray_put_runs_into_the_store(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="pip install -e '.[ray]' brings what this test needs")
    for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_worker_niceness", "0")):
        monkeypatch.setenv(name, value)
    write_sequence(tmp_path / "data" / "c1")
    plan = box_plan(tmp_path / "data", Path("y"), engine={"name": "ray", "address": "local", "workers": 1})
    plan |= {"output": "s3://bkt/out/", "storage": {"options": bucket.options, "local": str(tmp_path / "here")}}
    (item,), _ = run_all(plan)
    assert item.failure is None
    assert [*item.records][-2:] == ["report", "store"]
    assert any(key.endswith("report.html") for key in bucket.keys("out/"))
