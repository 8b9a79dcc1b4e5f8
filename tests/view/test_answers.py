"""Answers: what was confirmed is on the disk, whoever asks hears of it, and tracks follow."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.view.conftest import Serve
from tests.view.test_app import ask
from trackweave.errors import InputError
from trackweave.pipelines.run import open_run
from trackweave.storage.corrections import read_corrections
from trackweave.structures.corrections import Named
from trackweave.view.answers import BoxAnswers, OutdatedError
from trackweave.view.mask_answers import open_answers
from trackweave.view.opened_run import OpenedRun
from trackweave.view.server import Viewer

KILLS = int(os.environ.get("TRACKWEAVE_KILLS", "2"))
"""Rounds of the test of kills; `TRACKWEAVE_KILLS=50 pytest -k kill` is the long one."""


@pytest.fixture
def run(match_run: Path, tmp_path: Path) -> Path:
    """A copy that may be corrected."""
    shutil.copytree(match_run, tmp_path / "run")
    return tmp_path / "run"


@contextmanager
def answering(run: Path) -> Iterator[tuple[BoxAnswers, OpenedRun]]:
    with OpenedRun(run) as opened, open_answers(opened) as answers:
        yield answers, opened


def longest(opened: OpenedRun) -> tuple[int, int, int]:
    """Id, first and last frame of the longest track."""
    table = opened.shown.table
    row = int(np.argmax(table.count))
    return int(table.track_id[row]), int(table.first[row]), int(table.last[row])


def test_a_name_a_split_and_undo(run: Path) -> None:
    with answering(run) as (answers, opened):
        before = opened.tracks_json()
        track, first, last = longest(opened)
        state = answers.act({"act": "name", "track": track, "frame": first, "name": "Ann", "version": answers.version})
        assert "Ann" in state["names"].values()
        middle = (first + last) // 2
        state = answers.act({"act": "split", "track": track, "frame": middle, "version": state["version"]})
        assert len(opened.tracks_json()["id"]) == len(before["id"]) + 1
        assert (state["undo"], state["redo"], state["count"]) == (True, False, 2)
        state = answers.act({"act": "undo"})
        state = answers.act({"act": "undo"})
        assert opened.tracks_json()["id"] == before["id"]
        assert (state["undo"], state["redo"], state["names"]) == (False, True, {})


def test_parts_that_are_merged_are_one_again(run: Path) -> None:
    with answering(run) as (answers, opened):
        before = opened.tracks_json()
        track, first, last = longest(opened)
        answers.act({"act": "split", "track": track, "frame": (first + last) // 2, "version": answers.version})
        parts = sorted(set(opened.shown.table.track_id.tolist()) - set(before["id"]) | {track})
        answers.act({"act": "merge", "tracks": parts, "version": answers.version})
        assert len(opened.tracks_json()["id"]) == len(before["id"])


def test_a_split_of_a_named_object_is_taken_back_by_a_merge(run: Path) -> None:
    with answering(run) as (answers, opened):
        before = opened.tracks_json()
        track, first, _ = longest(opened)
        record = {"act": "name", "track": track, "frame": first + 30, "name": "Ann", "version": answers.version}
        state = answers.act(record)
        state = answers.act({"act": "split", "track": track, "frame": first + 12, "version": state["version"]})
        parts = sorted(set(opened.shown.table.track_id.tolist()) - set(before["id"]) | {track})
        assert len(parts) == 2
        state = answers.act({"act": "merge", "tracks": parts, "version": state["version"]})
        assert (opened.tracks_json()["id"], opened.tracks_json()["count"]) == (before["id"], before["count"])
        assert state["names"] == {str(track): "Ann"}


def test_what_is_closed_is_in_the_files_of_the_run(run: Path) -> None:
    original = (run / "tracks.npz").read_bytes()
    with answering(run) as (answers, opened):
        track, first, _ = longest(opened)
        answers.act({"act": "nobody", "track": track, "frame": first, "version": answers.version})
        shown = opened.shown.tracks
    written = open_run(run).tracks(with_masks=False)
    assert written.track_id.tolist() == shown.track_id.tolist()
    assert len(written) < len(open_run(run).summary.extra) + 10**6
    with answering(run) as (answers, opened):
        assert opened.shown.tracks.track_id.tolist() == written.track_id.tolist()
        assert answers.state()["count"] == 1
        answers.act({"act": "undo"})
    assert (run / "tracks.npz").read_bytes() == original


def test_questions_are_skipped_and_answered(run: Path) -> None:
    with answering(run) as (answers, _):
        (first, *_rest) = answers.state()["questions"]
        state = answers.act({"act": "skip", "at": first["at"], "version": answers.version})
        assert first["at"] not in [question["at"] for question in state["questions"]]
        question = state["questions"][0]
        state = answers.act({"act": "name", "at": question["at"], "name": "Bo", "version": state["version"]})
        assert "Bo" in state["names"].values()
        assert question["at"] not in [each["at"] for each in state["questions"]]


def test_what_is_accepted_never_changes(run: Path) -> None:
    with answering(run) as (answers, opened):
        state = answers.act({"act": "accept", "first": 0, "last": 30, "version": answers.version})
        assert state["accepted"] == [[0, 30]]
        track, first, _ = longest(opened)
        with pytest.raises(InputError):
            answers.act({"act": "split", "track": track, "frame": first + 5, "version": answers.version})


@pytest.mark.parametrize(
    "record",
    [
        {"act": "sing"},
        {"act": "name", "track": 1, "frame": 0},
        {"act": "name", "track": 1, "frame": 0, "name": "\x1b[31m"},
        {"act": "name", "track": 10**6, "frame": 0, "name": "A"},
        {"act": "name", "track": "1", "frame": 0, "name": "A"},
        {"act": "merge", "tracks": [1]},
        {"act": "merge", "tracks": [1, 1]},
        {"act": "split", "track": 1, "frame": 0},
        {"act": "skip", "at": [1]},
        {"act": "redo"},
        {"act": "undo"},
        {},
    ],
)
def test_what_makes_no_sense_is_refused(run: Path, record: dict[str, Any]) -> None:
    with answering(run) as (answers, _):
        with pytest.raises(InputError):
            answers.act({**record, "version": answers.version})
        assert answers.state()["count"] == 0
    assert not (run / "corrections.jsonl").exists()


def test_an_act_for_tracks_that_have_changed_is_refused(run: Path) -> None:
    with answering(run) as (answers, opened):
        track, first, _ = longest(opened)
        record = {"act": "name", "track": track, "frame": first, "name": "Ann", "version": answers.version}
        answers.act(record)
        with pytest.raises(OutdatedError):
            answers.act(record)
        assert answers.state()["count"] == 1


def test_a_second_viewer_only_looks(run: Path) -> None:
    with answering(run), answering(run) as (second, opened):
        state = second.state()
        assert not state["writable"]
        assert "another process" in state["notice"]
        with pytest.raises(InputError, match="another process"):
            second.act({"act": "undo"})
        assert len(opened.tracks_json()["id"])


def post(viewer: Viewer, record: Any, **headers: str) -> Any:
    headers = {"Content_Type": "application/json", **headers}
    return ask(viewer, "api/answers", method="POST", body=json.dumps(record), **headers)


def test_acts_by_http(serve: Serve, run: Path) -> None:
    with serve([run]) as viewer:
        state = json.loads(ask(viewer, "api/answers").body)
        question = state["questions"][0]
        record = {"act": "name", "at": question["at"], "name": "<b>Ann</b>", "version": state["version"]}
        assert post(viewer, record, Origin="http://evil.example").status == 403
        assert post(viewer, record, Content_Type="text/plain").status == 415
        assert ask(viewer, "api/answers", method="POST", body="{", Content_Type="application/json").status == 400
        assert post(viewer, [1]).status == 422
        assert post(viewer, {**record, "version": "0"}).status == 409
        answer = post(viewer, record)
        assert answer.status == 200
        assert list(json.loads(answer.body)["names"].values()) == ["<b>Ann</b>"]
        frame, item = question["at"]
        assert ask(viewer, f"api/0/crop/item.jpg?frame={frame}&item={item}").status in (200, 204)
        assert ask(viewer, f"api/0/crop/item.jpg?frame={frame}&item=999").status == 204
        assert read_corrections(run / "corrections.jsonl").acts[0].kind == "name"


def test_a_body_without_length_is_bounded(serve: Serve, run: Path) -> None:
    with serve([run]) as viewer:
        address = urlsplit(viewer.address)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        chunks = (b"x" * 65536 for _ in range(16))
        headers = {"Content-Type": "application/json"}
        try:
            connection.request("POST", address.path + "api/answers", chunks, headers, encode_chunked=True)
            assert connection.getresponse().status == 413
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up before everything was sent
        finally:
            connection.close()
        assert ask(viewer, "api/answers").status == 200


def test_pages_hear_of_acts(serve: Serve, run: Path) -> None:
    with serve([run]) as viewer:
        address = urlsplit(viewer.address)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        connection.request("GET", address.path + "api/events")
        response = connection.getresponse()
        assert response.headers["content-type"].startswith("text/event-stream")
        first = response.readline() + response.readline()
        state = json.loads(ask(viewer, "api/answers").body)
        assert first == f"data: {state['version']}\n\n".encode()
        record = {"act": "skip", "at": state["questions"][0]["at"], "version": state["version"]}
        after = json.loads(post(viewer, record).body)
        assert response.readline() + response.readline() == f"data: {after['version']}\n\n".encode()
        connection.close()


@pytest.mark.timeout(120 * KILLS)
def test_a_kill_loses_nothing_that_was_confirmed(run: Path) -> None:
    """`kill -9` of the server in the middle of answers."""
    rng = random.Random(0)
    command = [sys.executable, "-m", "trackweave", "view", str(run), "--port", "0", "--no-browser"]
    confirmed: list[str] = []
    for _ in range(KILLS):
        before = len(confirmed)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            answer_until_killed(process, process.stdout.readline().split()[-1], confirmed, rng)
        said = [act.name for act in read_corrections(run / "corrections.jsonl").acts if isinstance(act, Named)]
        assert [name for name in confirmed if name not in said] == []
        assert len(confirmed) > before


def answer_until_killed(process: subprocess.Popen[str], address: str, confirmed: list[str], rng: random.Random) -> None:
    """Says one name after another, and kills the server at some time after the first one was confirmed."""
    parts, timer = urlsplit(address), None
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=300)
    try:
        connection.request("GET", parts.path + "api/answers")
        state = json.loads(connection.getresponse().read())
        at = state["questions"][0]["at"]
        while True:
            record = {"act": "name", "at": at, "name": f"{len(confirmed)} {rng.random()}", "version": state["version"]}
            connection.request(
                "POST", parts.path + "api/answers", json.dumps(record), {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content
            confirmed.append(str(record["name"]))
            state = json.loads(content)
            if timer is None:
                timer = threading.Timer(rng.uniform(0, 0.2), process.send_signal, [signal.SIGKILL])
                timer.start()
    except (ConnectionError, http.client.HTTPException):
        pass  # it is dead
    finally:
        if timer is not None:
            timer.join()
        process.kill()
        connection.close()
