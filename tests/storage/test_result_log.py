"""Results by frame in a file. In the named one, what was committed survives a kill anywhere; the rest is cut off."""

from __future__ import annotations

import errno
import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackweave.errors import ArtifactError, ArtifactVersionError, RunFolderError
from trackweave.masks.packed import PackedMasks
from trackweave.storage import result_log as journal_file
from trackweave.storage.mask_archive import OBJECT_DTYPE
from trackweave.storage.result_log import ResultJournal, ResultLog, read_records

SIZE = (4, 9)
APPENDS = st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(1, 99), max_size=3)), max_size=8)


@given(APPENDS)
def test_results_come_back_by_frame_in_the_order_of_arrival(appends: list[tuple[int, list[int]]]) -> None:
    expected: dict[int, list[int]] = {}
    with ResultLog() as log:
        for frame, ids in appends:
            rows = np.zeros(len(ids), OBJECT_DTYPE)
            rows["id"] = ids
            masks = np.array([np.random.default_rng(k).random(SIZE) < 0.5 for k in ids]).reshape(-1, *SIZE)
            log.append(frame, rows, PackedMasks.from_bool(masks))
            if ids:
                expected.setdefault(frame, []).extend(ids)
        assert log.frames == sorted(expected)
        for frame in range(6):
            ids = expected.get(frame, [])
            rows, packed = log.read(frame)
            assert log.count(frame) == len(ids)
            assert rows["id"].tolist() == log.read_rows(frame)["id"].tolist() == ids
            masks = np.array([np.random.default_rng(k).random(SIZE) < 0.5 for k in ids], np.bool_)
            if ids:
                np.testing.assert_array_equal(packed.to_bool(), masks)
            else:
                assert len(packed) == 0


def test_rows_and_masks_belong_together() -> None:
    with ResultLog() as log:
        with pytest.raises(ValueError, match="2 rows and 1 masks"):
            log.append(0, np.zeros(2, OBJECT_DTYPE), PackedMasks.empty(*SIZE, 1))
        log.append(0, np.zeros(1, OBJECT_DTYPE), PackedMasks.empty(*SIZE, 1))
        with pytest.raises(ValueError, match=r"frame 1: masks of \(2, 2\) after masks of \(4, 9\)"):
            log.append(1, np.zeros(1, OBJECT_DTYPE), PackedMasks.empty(2, 2, 1))


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    with ResultLog(tmp_path / "journal") as log:
        log.append(0, np.zeros(1, OBJECT_DTYPE), PackedMasks.empty(*SIZE, 1))
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_folder_that_takes_no_scratch_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunFolderError, match="taken: no scratch file can be made here"):
        ResultLog(tmp_path / "taken")


class FullDisk(io.BytesIO):
    """Takes nothing, and fails again when it is closed with what it could not write."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        super().close()
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_reported_once_and_names_the_folder(tmp_path: Path) -> None:
    def fill() -> None:
        with ResultLog(tmp_path) as log:
            log._file.close()
            log._file = FullDisk()
            log.append(0, np.zeros(1, OBJECT_DTYPE), PackedMasks.from_bool(np.ones((1, 2, 2), bool)))

    with pytest.raises(RunFolderError, match=r"results cannot be stored: No space left on device") as caught:
        fill()
    assert str(tmp_path) in str(caught.value)


# --- the journal -----------------------------------------------------------------------------------------------------

BATCHES = st.lists(st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(1, 99), max_size=3)), max_size=4))


def put(journal: ResultJournal, frame: int, ids: list[int]) -> None:
    rows = np.zeros(len(ids), OBJECT_DTYPE)
    rows["id"] = ids
    masks = np.array([np.random.default_rng(k).random(SIZE) < 0.5 for k in ids]).reshape(-1, *SIZE)
    journal.append(frame, rows, PackedMasks.from_bool(masks))


def write(path: Path, batches: list[list[tuple[int, list[int]]]], key: str = "k") -> list[int]:
    """Writes batches; returns the length of the file after each commit."""
    ends = []
    with ResultJournal(path, key, resume=False) as journal:
        for number, appends in enumerate(batches):
            for frame, ids in appends:
                put(journal, frame, ids)
            journal.commit({"number": number})
            ends.append(path.stat().st_size)
    return ends


def content(journal: ResultJournal) -> dict[int, tuple[list[int], list[bytes]]]:
    found = {}
    for frame in journal.frames:
        rows, masks = journal.read(frame)
        found[frame] = (rows["id"].tolist(), [row.tobytes() for row in masks.bits])
    return found


@settings(max_examples=60)
@given(BATCHES, st.data())
def test_cut_anywhere_keeps_exactly_the_batches_committed_before(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, list[int]]]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = folder / "level_2.cohorts"
    ends = write(path, batches)
    cut = data.draw(st.integers(0, path.stat().st_size))
    os.truncate(path, cut)
    kept = sum(end <= cut for end in ends)
    write(folder / "expected", batches[:kept])
    with ResultJournal(path, "k") as journal, ResultJournal(folder / "expected", "k") as expected:
        assert [batch["number"] for batch in journal.committed] == list(range(kept))
        assert content(journal) == content(expected)
        for appends in batches[kept:]:  # going on gives the file that was never cut
            for frame, ids in appends:
                put(journal, frame, ids)
            journal.commit({"number": -1})
    write(folder / "whole", batches)
    with ResultJournal(path, "k") as journal, ResultJournal(folder / "whole", "k") as whole:
        assert content(journal) == content(whole)
        assert len(journal.committed) == len(batches)


@settings(max_examples=60)
@given(BATCHES, st.data())
def test_truncating_leaves_the_file_of_the_first_batches(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, list[int]]]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    write(folder / "whole", batches)
    kept = data.draw(st.integers(0, len(batches)))
    write(folder / "expected", batches[:kept])
    with ResultJournal(folder / "whole", "k") as journal, ResultJournal(folder / "expected", "k") as expected:
        journal.truncate(kept)
        assert journal.committed == expected.committed
        assert content(journal) == content(expected)
        assert journal.size == expected.size
        assert (folder / "whole").read_bytes() == (folder / "expected").read_bytes()
        put(journal, 3, [7])
        journal.commit({"number": -1})
    with ResultJournal(folder / "whole", "k") as journal:
        assert len(journal.committed) == kept + 1


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
    with ResultJournal(path, "k") as journal:
        assert len(journal.committed) == sum(end <= where for end in ends)


def test_what_was_not_committed_is_gone_and_frees_its_disk_space(tmp_path: Path) -> None:
    path = tmp_path / "a" / "level_2.cohorts"
    with ResultJournal(path, "k") as journal:
        put(journal, 0, [1])
        journal.commit({"n": 0})
        size = path.stat().st_size
        put(journal, 1, [2])
        assert path.stat().st_size > size
    assert path.stat().st_size == size
    with ResultJournal(path, "k") as journal:
        assert (journal.frames, journal.size, journal.committed) == ([0], SIZE, [{"n": 0}])
        with pytest.raises(ValueError, match="masks of"):
            journal.append(1, np.zeros(1, OBJECT_DTYPE), PackedMasks.empty(2, 2, 1))


@pytest.mark.parametrize(("key", "resume"), [("other", True), ("k", False)])
def test_another_run_starts_anew(tmp_path: Path, key: str, resume: bool) -> None:
    path = tmp_path / "level_2.cohorts"
    write(path, [[(0, [1])], [(3, [2])]])
    with ResultJournal(path, key, resume=resume) as journal:
        assert (journal.frames, journal.committed) == ([], [])
    with ResultJournal(path, key) as journal:
        assert journal.frames == []


@pytest.mark.parametrize("rubbish", [b"", b"x", b"\0" * 4096, b"C" + b"\xff" * 99])
def test_a_file_that_is_no_journal_starts_anew(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "level_2.cohorts"
    path.write_bytes(rubbish)
    with ResultJournal(path, "k") as journal:
        put(journal, 0, [1])
        journal.commit({})
    with ResultJournal(path, "k") as journal:
        assert journal.frames == [0]


def test_zeros_behind_the_last_commit_as_a_power_cut_may_leave_them(tmp_path: Path) -> None:
    path = tmp_path / "level_2.cohorts"
    ends = write(path, [[(0, [1])]])
    with path.open("ab") as file:
        file.write(b"\0" * 1000)
    with ResultJournal(path, "k") as journal:
        assert journal.frames == [0]
        assert path.stat().st_size == ends[-1]


def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "level_2.cohorts"
    with monkeypatch.context() as newer:
        newer.setattr(journal_file, "SCHEMA_VERSION", 2)
        write(path, [[(0, [1])]])
    before = path.read_bytes()
    with pytest.raises(ArtifactVersionError, match=r"level_2\.cohorts: schema_version 2 is newer"):
        ResultJournal(path, "k")
    assert path.read_bytes() == before


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "level_2.cohorts"
    with ResultJournal(path, "k"), pytest.raises(RunFolderError, match="another process is working on this run"):
        ResultJournal(path, "other")
    with ResultJournal(path, "k") as journal:  # the refused one has not touched it
        assert journal.committed == []


class Filling:
    """A file on a disk that takes so many more bytes."""

    def __init__(self, file: Any, capacity: int) -> None:
        self._file, self._capacity = file, capacity

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        if not self._capacity:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(len(data), self._capacity)
        self._capacity -= taken
        return int(self._file.write(data[:taken]))


@pytest.mark.parametrize("capacity", [0, 1, 30, 90, 120])
def test_a_full_disk_leaves_what_was_committed(tmp_path: Path, capacity: int) -> None:
    path = tmp_path / "level_2.cohorts"

    def fill() -> None:
        with ResultJournal(path, "k") as journal:
            put(journal, 0, [1])
            journal.commit({"n": 0})
            journal._file = Filling(journal._file, capacity)
            put(journal, 1, [2])
            journal.commit({"n": 1})
            pytest.fail("the disk was not full")

    with pytest.raises(RunFolderError, match=r"level_2\.cohorts: results cannot be stored: No space left on device"):
        fill()
    with ResultJournal(path, "k") as journal:
        assert (journal.frames, journal.committed) == ([0], [{"n": 0}])


def test_a_folder_that_takes_no_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunFolderError, match=r"level_2\.cohorts: cannot be written"):
        ResultJournal(tmp_path / "taken" / "level_2.cohorts", "k")


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    journal = ResultJournal(tmp_path / "level_2.cohorts", "k")
    journal.remove()
    assert not list(tmp_path.iterdir())


def test_the_disk_is_asked_now_and_then_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    now = [0.0]
    monkeypatch.setattr("trackweave.storage.result_log.time.monotonic", lambda: now[0])
    monkeypatch.setattr("trackweave.storage.result_log.os.fsync", asked.append)
    with ResultJournal(tmp_path / "level_2.cohorts", "k") as journal:
        for second in range(12):
            now[0] = float(second)
            journal.commit({})
        assert len(asked) == 2
    assert len(asked) == 3


def test_ids_may_be_shifted_when_read(tmp_path: Path) -> None:
    with ResultJournal(tmp_path / "level_2.cohorts", "k") as journal:
        put(journal, 0, [1, 2])
        journal.id_offset = 40
        assert journal.read(0)[0]["id"].tolist() == journal.read_rows(0)["id"].tolist() == [41, 42]
        journal.id_offset = 0
        assert journal.read_rows(0)["id"].tolist() == [1, 2]


def test_the_commit_is_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "level_2.cohorts"
    write(path, [[(0, [1])]])
    with path.open("rb") as file:
        records = list(read_records(file))
    assert [record.kind for record in records] == [b"H", b"R", b"C"]
    assert json.loads(records[-1].body) == {"mask_size": list(SIZE), "cohort": {"number": 0}}


def zipped(masks: int, size: tuple[int, int] = SIZE) -> bytes:
    return zlib.compress(bytes(masks * ((size[0] * size[1] + 7) // 8)))


@pytest.mark.parametrize(
    ("rows", "masks", "size"),
    [
        (1, b"no deflate data", list(SIZE)),
        (1, zipped(1)[:-4], list(SIZE)),
        (1, zipped(1)[:-1] + b"x", list(SIZE)),
        (1, zipped(2), list(SIZE)),
        (1, b"", list(SIZE)),
        (1, zipped(1), [4000, 9000]),
        (1, zipped(1), [1 << 20, 1 << 20]),
        (1, zipped(1), [-4, -9]),
        (1, zipped(1), [4]),
        (1, zipped(1), 7),
        (1 << 31, zipped(1), list(SIZE)),
    ],
)
def test_whole_by_its_checksum_and_odd_by_its_content(tmp_path: Path, rows: int, masks: bytes, size: Any) -> None:
    """Damage does not do that: its checksum is wrong, and it is cut off."""
    path = tmp_path / "journal"
    with ResultJournal(path, "k") as journal:
        journal._write(b"R", np.zeros(1, OBJECT_DTYPE).tobytes(), masks, rows=rows, frame=3)
        content = json.dumps({"mask_size": size, "cohort": {}}).encode()
        journal._write(b"C", content)
        journal._safe_end = journal._end
    with pytest.raises(ArtifactError, match="damaged") as refused, ResultJournal(path, "k") as journal:
        journal.read(3)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
