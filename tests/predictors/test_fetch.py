"""Fetching weights, from a hub that is served on loopback."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from tests.cli.shell import Shell
from trackweave.errors import PredictorUnavailable, SettingError
from trackweave.predictors import catalog, fetch
from trackweave.predictors.fetch import RemoteWeights, look_up
from trackweave.predictors.weights import FOLDER_VARIABLE, find_weights

TINY = "facebook/sam2.1-hiera-tiny"
COMMIT = "c0ffee" + "0" * 34
CONTENT = {"config.json": b'{"model_type": "sam2_video"}', "model.safetensors": b"w" * 4096}


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line."""
    return Shell(monkeypatch, capsys)


class Hub:
    """A hub with one repository, whose large files carry their SHA-256 as the real one's do.

    Attributes:
        files: content by name.
        promised: what it says the SHA-256 of a file is, where that differs.
        downloads: the names of files whose content was asked for.
    """

    def __init__(self) -> None:
        self.files = dict(CONTENT)
        self.promised: dict[str, str] = {}
        self.downloads: list[str] = []

    def etag(self, name: str) -> str:
        if name == "config.json":
            return hashlib.sha1(self.files[name]).hexdigest()
        return self.promised.get(name) or hashlib.sha256(self.files[name]).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    served = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, *, with_body: bool) -> None:
            prefix = f"/{TINY}/resolve/{COMMIT}/"
            name = self.path.removeprefix(prefix).partition("?")[0]
            if not self.path.startswith(prefix) or name not in served.files:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{served.etag(name)}"')
            self.send_header("Content-Length", str(len(served.files[name])))
            self.end_headers()
            if with_body:
                served.downloads.append(name)
                self.wfile.write(served.files[name])

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_request(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    pinned = {"model.safetensors": hashlib.sha256(CONTENT["model.safetensors"]).hexdigest()}
    ours = [
        replace(one, revision=COMMIT, sha256=pinned) if one.hub_name == TINY else one for one in catalog.CHECKPOINTS
    ]
    monkeypatch.setattr(catalog, "CHECKPOINTS", tuple(ours))
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_fetched_is_found(hub: Hub) -> None:
    weights = look_up("sam2.1-hiera-tiny")
    assert (weights.hub_name, weights.revision, weights.folder) == (TINY, COMMIT, None)
    assert weights.size == sum(map(len, CONTENT.values()))
    assert not hub.downloads
    folder = fetch.fetch(weights)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == CONTENT
    (found,) = find_weights("sam2-hf", {})
    assert (found.path, found.revision) == (folder, COMMIT)


def test_a_folder_of_weights_gets_them_where_it_is_searched(hub: Hub, tmp_path: Path) -> None:
    environment = {FOLDER_VARIABLE: str(tmp_path)}
    weights = look_up(TINY, environment=environment)
    assert fetch.fetch(weights) == tmp_path / TINY
    assert [one.path for one in find_weights("sam2-hf", environment)] == [tmp_path / TINY]


def test_another_content_than_the_pinned_one_is_not_fetched(hub: Hub) -> None:
    hub.files["model.safetensors"] = b"x" * 4096
    with pytest.raises(PredictorUnavailable, match=r"the hub has sha256 .*, pinned is .*: nothing is fetched"):
        look_up(TINY)
    assert not hub.downloads


@pytest.mark.parametrize("in_folder", [False, True])
def test_what_differs_from_its_checksum_is_removed(hub: Hub, tmp_path: Path, in_folder: bool) -> None:
    environment = {FOLDER_VARIABLE: str(tmp_path)} if in_folder else {}
    weights: RemoteWeights = look_up(TINY, environment=environment)
    hub.promised["model.safetensors"] = hashlib.sha256(CONTENT["model.safetensors"]).hexdigest()
    hub.files["model.safetensors"] = b"x" * 4096
    with pytest.raises(PredictorUnavailable, match=r"model\.safetensors: sha256 .* it was removed: fetch it again"):
        fetch.fetch(weights)
    assert find_weights("sam2-hf", environment) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == 4096]
    hub.files["model.safetensors"] = CONTENT["model.safetensors"]
    fetch.fetch(weights)
    assert len(find_weights("sam2-hf", environment)) == 1


@pytest.mark.parametrize(
    ("name", "revision", "error", "message"),
    [
        ("sam9", None, SettingError, "no published weights 'sam9'; known: facebook/sam3"),
        ("yonigozlan/EdgeTAM-hf", None, SettingError, r"no commit of it is pinned: give revision=COMMIT"),
        (TINY, "main", SettingError, r"'main' is no commit"),
        (TINY, "d" * 40, PredictorUnavailable, "there is no such repository, or it is not open to you"),
        ("facebook/sam3", COMMIT, PredictorUnavailable, "cannot be fetched"),
    ],
)
def test_what_cannot_be_fetched(hub: Hub, name: str, revision: str | None, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        look_up(name, revision)


def test_a_hub_that_is_not_there(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PredictorUnavailable, match="HF_HUB_OFFLINE is set"):
        look_up(TINY)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_command_asks_once(hub: Hub, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    done = shell("models", "fetch", TINY)
    assert (done.code, "nobody is there to be asked: add --yes" in done.err) == (2, True)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    done = shell("models", "fetch", TINY)
    assert done.code == 0
    assert "0 MB into the Hugging Face cache? [y/N]" in done.out
    assert "nothing was downloaded" in done.out
    assert not hub.downloads
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    done = shell("models", "fetch", TINY)
    assert done.code == 0, done.err
    assert "weights: " in done.out
    assert shell("models", "fetch", TINY, "--yes").code == 0
    assert f"{TINY}: 0 MiB, Hugging Face cache" in shell("models").out


@pytest.mark.parametrize("words", [("fetch",), ("get", TINY), ("--yes",), ("--revision", COMMIT)])
def test_other_words_are_refused(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell("models", *words)
    assert (done.code, "models fetch NAME" in done.err) == (2, True)


def test_pins_are_commits_and_checksums() -> None:
    pinned = [one for one in catalog.CHECKPOINTS if one.revision is not None]
    assert len(pinned) == 4
    for one in pinned:
        assert fetch.COMMIT.fullmatch(one.revision or "")
        assert set(one.sha256) == {"model.safetensors", one.file}
        assert all(fetch.CHECKSUM.fullmatch(checksum) for checksum in one.sha256.values())
    every = [checksum for one in pinned for checksum in one.sha256.values()]
    assert len(set(every)) == len(every)
