"""The named scratch file: what was committed survives a kill anywhere; what was not is cut off."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackweave.errors import ArtifactVersionError, RunFolderError
from trackweave.masks.packed import PackedMasks
from trackweave.storage import result_log as journal_file
from trackweave.storage.mask_archive import OBJECT_DTYPE
from trackweave.storage.result_log import CohortJournal, read_records

SIZE = (4, 9)
COHORTS = st.lists(st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(1, 99), max_size=3)), max_size=4))


def put(spool: CohortJournal, frame: int, ids: list[int]) -> None:
    rows = np.zeros(len(ids), OBJECT_DTYPE)
    rows["id"] = ids
    masks = np.array([np.random.default_rng(k).random(SIZE) < 0.5 for k in ids]).reshape(-1, *SIZE)
    spool.append(frame, rows, PackedMasks.from_bool(masks))


def write(path: Path, cohorts: list[list[tuple[int, list[int]]]], key: str = "k") -> list[int]:
    """Writes cohorts; returns the length of the file after each commit."""
    ends = []
    with CohortJournal(path, key, resume=False) as spool:
        for number, appends in enumerate(cohorts):
            for frame, ids in appends:
                put(spool, frame, ids)
            spool.commit({"number": number})
            ends.append(path.stat().st_size)
    return ends


def content(spool: CohortJournal) -> dict[int, tuple[list[int], list[bytes]]]:
    found = {}
    for frame in spool.frames:
        rows, masks = spool.read(frame)
        found[frame] = (rows["id"].tolist(), [row.tobytes() for row in masks.bits])
    return found


@settings(max_examples=60)
@given(COHORTS, st.data())
def test_cut_anywhere_keeps_exactly_the_cohorts_committed_before(
    tmp_path_factory: pytest.TempPathFactory, cohorts: list[list[tuple[int, list[int]]]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = folder / "level_2.cohorts"
    ends = write(path, cohorts)
    cut = data.draw(st.integers(0, path.stat().st_size))
    os.truncate(path, cut)
    kept = sum(end <= cut for end in ends)
    write(folder / "expected", cohorts[:kept])
    with CohortJournal(path, "k") as spool, CohortJournal(folder / "expected", "k") as expected:
        assert [cohort["number"] for cohort in spool.committed] == list(range(kept))
        assert content(spool) == content(expected)
        for appends in cohorts[kept:]:  # going on gives the file that was never cut
            for frame, ids in appends:
                put(spool, frame, ids)
            spool.commit({"number": -1})
    write(folder / "whole", cohorts)
    with CohortJournal(path, "k") as spool, CohortJournal(folder / "whole", "k") as whole:
        assert content(spool) == content(whole)
        assert len(spool.committed) == len(cohorts)


@settings(max_examples=60)
@given(COHORTS, st.data())
def test_rewinding_leaves_the_file_of_the_first_cohorts(
    tmp_path_factory: pytest.TempPathFactory, cohorts: list[list[tuple[int, list[int]]]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    write(folder / "whole", cohorts)
    kept = data.draw(st.integers(0, len(cohorts)))
    write(folder / "expected", cohorts[:kept])
    with CohortJournal(folder / "whole", "k") as spool, CohortJournal(folder / "expected", "k") as expected:
        spool.rewind(kept)
        assert spool.committed == expected.committed
        assert content(spool) == content(expected)
        assert spool.size == expected.size
        assert (folder / "whole").read_bytes() == (folder / "expected").read_bytes()
        put(spool, 3, [7])
        spool.commit({"number": -1})
    with CohortJournal(folder / "whole", "k") as spool:
        assert len(spool.committed) == kept + 1


@settings(max_examples=60)
@given(st.data())
def test_a_byte_that_changed_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("journal") / "level_2.cohorts"
    ends = write(path, [[(0, [1, 2])], [(1, [1])], [(0, [3])]])
    damaged = bytearray(path.read_bytes())
    with path.open("rb") as file:
        start = next(read_records(file)).end  # behind the header
    where = data.draw(st.integers(start, len(damaged) - 1))
    damaged[where] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    with CohortJournal(path, "k") as spool:
        assert len(spool.committed) == sum(end <= where for end in ends)


def test_what_was_not_committed_is_gone_and_gives_its_room_back(tmp_path: Path) -> None:
    path = tmp_path / "a" / "level_2.cohorts"
    with CohortJournal(path, "k") as spool:
        put(spool, 0, [1])
        spool.commit({"n": 0})
        size = path.stat().st_size
        put(spool, 1, [2])
        assert path.stat().st_size > size
    assert path.stat().st_size == size
    with CohortJournal(path, "k") as spool:
        assert (spool.frames, spool.size, spool.committed) == ([0], SIZE, [{"n": 0}])
        with pytest.raises(ValueError, match="masks of"):
            spool.append(1, np.zeros(1, OBJECT_DTYPE), PackedMasks.empty(2, 2, 1))


@pytest.mark.parametrize(("key", "resume"), [("other", True), ("k", False)])
def test_another_run_starts_anew(tmp_path: Path, key: str, resume: bool) -> None:
    path = tmp_path / "level_2.cohorts"
    write(path, [[(0, [1])], [(3, [2])]])
    with CohortJournal(path, key, resume=resume) as spool:
        assert (spool.frames, spool.committed) == ([], [])
    with CohortJournal(path, key) as spool:
        assert spool.frames == []


@pytest.mark.parametrize("rubbish", [b"", b"x", b"\0" * 4096, b"C" + b"\xff" * 99])
def test_a_file_that_is_no_journal_starts_anew(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "level_2.cohorts"
    path.write_bytes(rubbish)
    with CohortJournal(path, "k") as spool:
        put(spool, 0, [1])
        spool.commit({})
    with CohortJournal(path, "k") as spool:
        assert spool.frames == [0]


def test_zeros_behind_the_last_commit_as_a_power_cut_may_leave_them(tmp_path: Path) -> None:
    path = tmp_path / "level_2.cohorts"
    ends = write(path, [[(0, [1])]])
    with path.open("ab") as file:
        file.write(b"\0" * 1000)
    with CohortJournal(path, "k") as spool:
        assert spool.frames == [0]
        assert path.stat().st_size == ends[-1]


def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "level_2.cohorts"
    with monkeypatch.context() as newer:
        newer.setattr(journal_file, "SCHEMA_VERSION", 2)
        write(path, [[(0, [1])]])
    before = path.read_bytes()
    with pytest.raises(ArtifactVersionError, match=r"level_2\.cohorts: schema_version 2 is newer"):
        CohortJournal(path, "k")
    assert path.read_bytes() == before


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "level_2.cohorts"
    with CohortJournal(path, "k"), pytest.raises(RunFolderError, match="another process is working on this run"):
        CohortJournal(path, "other")
    with CohortJournal(path, "k") as spool:  # the refused one has not touched it
        assert spool.committed == []


class Filling:
    """A file on a disk that takes so many more bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(len(data), self._room)
        self._room -= taken
        return int(self._file.write(data[:taken]))


@pytest.mark.parametrize("room", [0, 1, 30, 90, 120])
def test_a_full_disk_leaves_what_was_committed(tmp_path: Path, room: int) -> None:
    path = tmp_path / "level_2.cohorts"

    def fill() -> None:
        with CohortJournal(path, "k") as spool:
            put(spool, 0, [1])
            spool.commit({"n": 0})
            spool._file = Filling(spool._file, room)
            put(spool, 1, [2])
            spool.commit({"n": 1})
            pytest.fail("the disk was not full")

    with pytest.raises(RunFolderError, match=r"level_2\.cohorts: results cannot be stored: No space left on device"):
        fill()
    with CohortJournal(path, "k") as spool:
        assert (spool.frames, spool.committed) == ([0], [{"n": 0}])


def test_a_folder_that_takes_no_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunFolderError, match=r"level_2\.cohorts: cannot be written"):
        CohortJournal(tmp_path / "taken" / "level_2.cohorts", "k")


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    spool = CohortJournal(tmp_path / "level_2.cohorts", "k")
    spool.remove()
    assert not list(tmp_path.iterdir())


def test_the_disk_is_asked_now_and_then_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    now = [0.0]
    monkeypatch.setattr("trackweave.storage.result_log.time.monotonic", lambda: now[0])
    monkeypatch.setattr("trackweave.storage.result_log.os.fsync", asked.append)
    with CohortJournal(tmp_path / "level_2.cohorts", "k") as spool:
        for second in range(12):
            now[0] = float(second)
            spool.commit({})
        assert len(asked) == 2
    assert len(asked) == 3


def test_ids_may_be_shifted_when_read(tmp_path: Path) -> None:
    with CohortJournal(tmp_path / "level_2.cohorts", "k") as spool:
        put(spool, 0, [1, 2])
        spool.id_offset = 40
        assert spool.read(0)[0]["id"].tolist() == spool.read_rows(0)["id"].tolist() == [41, 42]
        spool.id_offset = 0
        assert spool.read_rows(0)["id"].tolist() == [1, 2]


def test_the_commit_is_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "level_2.cohorts"
    write(path, [[(0, [1])]])
    with path.open("rb") as file:
        records = list(read_records(file))
    assert [record.kind for record in records] == [b"H", b"R", b"C"]
    assert json.loads(records[-1].body) == {"mask_size": list(SIZE), "cohort": {"number": 0}}
