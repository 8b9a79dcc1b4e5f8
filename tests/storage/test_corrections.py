"""`corrections.jsonl`: what `append` returned from survives whatever happens."""

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

import pytest

from trackweave.errors import ArtifactError, ArtifactVersionError, InputError, RunFolderError
from trackweave.storage.corrections import CorrectionsJournal, read_corrections, read_steps
from trackweave.structures.corrections import Named, Nobody, Observation, Redone, Undone

ANN, BOB = Named(Observation(3, 0), "Ann"), Named(Observation(3, 1), "Bøb")


def written(path: Path) -> bytes:
    with CorrectionsJournal(path, "abc") as journal:
        assert [journal.append(step) for step in (ANN, BOB, Undone(), Nobody(Observation(9, 2)))] == [1, 2, 3, 4]
    return path.read_bytes()


def test_what_was_said_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "corrections.jsonl"
    assert read_corrections(path).steps == ()
    written(path)
    assert read_corrections(path, "abc").acts == (ANN, Nobody(Observation(9, 2)))
    assert read_corrections(path).steps == read_corrections(path, "abc").steps
    with CorrectionsJournal(path, "abc") as journal:
        journal.append(Undone())
        journal.append(Redone())
        with pytest.raises(InputError, match="nothing to redo"):
            journal.append(Redone())
    assert len(read_corrections(path).steps) == 6
    assert [json.loads(line).get("n") for line in path.read_text().splitlines()] == [None, 1, 2, 3, 4, 5, 6]
    assert read_steps(path) == list(read_corrections(path).steps)


def test_nothing_said_leaves_no_file(tmp_path: Path) -> None:
    with CorrectionsJournal(tmp_path / "corrections.jsonl"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_line_cut_anywhere_costs_that_line_alone(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.jsonl")
    path = tmp_path / "corrections.jsonl"
    for length in range(len(whole)):
        path.write_bytes(whole[:length] + b"\0" * (length % 3))
        lines = whole[:length].count(b"\n")
        assert len(read_corrections(path).steps) == max(0, lines - 1)
    with CorrectionsJournal(path, "abc") as journal:
        assert len(journal.corrections.steps) == 3
        journal.append(Nobody(Observation(9, 2)))
    assert len(path.read_bytes()) == len(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0], lines[2]], "line 2: damaged .a step number 1"),
        (lambda lines: [lines[0], b"{}", *lines[2:]], "line 2: damaged"),
        (lambda lines: [lines[0], b'\xff"', *lines[2:]], "line 2: damaged"),
        (lambda lines: [b"[]", *lines[1:]], "line 1: damaged .no header"),
        (lambda lines: [lines[0], lines[3].replace(b'"n": 3', b'"n": 1')], "nothing to undo"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "corrections.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in change(written(path).splitlines())))
    with pytest.raises(ArtifactError, match=message):
        read_corrections(path)
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match=message), CorrectionsJournal(path):
        pass
    assert path.read_bytes() == before


def test_answers_about_another_run_and_of_a_newer_schema_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "corrections.jsonl"
    content = written(path)
    with pytest.raises(ArtifactError, match="about another run"):
        read_corrections(path, "other")
    path.write_bytes(content.replace(b'"schema_version": 1', b'"schema_version": 2'))
    with pytest.raises(ArtifactVersionError, match="newer"):
        read_corrections(path)


def test_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "corrections.jsonl"
    with CorrectionsJournal(path) as journal:
        journal.append(ANN)
        with pytest.raises(RunFolderError, match="another process writes down answers"), CorrectionsJournal(path):
            pass
        journal.append(BOB)
    assert read_corrections(path).acts == (ANN, BOB)


def test_a_full_disk_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "corrections.jsonl"
    write = os.write
    with CorrectionsJournal(path) as journal:
        journal.append(ANN)

        def full(file: int, data: Any) -> int:
            if len(data) > 20:
                return write(file, data[:20])
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(RunFolderError, match="answers cannot be stored: No space"):
                journal.append(BOB)
        assert read_corrections(path).acts == journal.corrections.acts == (ANN,)
        journal.append(BOB)
    assert read_corrections(path).acts == (ANN, BOB)


def test_steps_of_others_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"act": "nobody", "at": [4, 1]}\n\n{"act": "name", "at": [4, 1]}\n')
    with pytest.raises(InputError, match="line 3: act name lacks 'name'"):
        read_steps(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_steps(tmp_path / "none.jsonl")


WRITER = """
import sys
from pathlib import Path
from trackweave.storage.corrections import CorrectionsJournal
from trackweave.structures.corrections import Named, Observation
with CorrectionsJournal(Path(sys.argv[1])) as journal:
    while True:
        print(journal.append(Named(Observation(len(journal.corrections.steps), 1), "x" * 150)), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_kill_in_the_middle_of_answers_loses_nothing_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "corrections.jsonl"
    confirmed = 0
    for attempt in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(0.01 * attempt)
            child.send_signal(signal.SIGKILL)
            lines = [first, *child.stdout.readlines()]
        numbers = [int(line) for line in lines if line.endswith(b"\n")]
        assert numbers[0] == confirmed + 1 or numbers[0] == confirmed + 2  # written down, the kill came before the word
        confirmed = len(read_corrections(path).steps)
        assert confirmed >= numbers[-1]
