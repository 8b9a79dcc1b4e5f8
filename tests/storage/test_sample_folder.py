"""The folder of samples: numbering, crashes, several writers; and its manifest."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.association.toy import toy_sample
from trackweave.errors import ArtifactError
from trackweave.storage import sample_folder
from trackweave.storage.sample_folder import ManifestEntry, SampleFolder, read_sample_manifest, remove_samples
from trackweave.storage.samples import encode_sample, read_sample, sample_name

ROOT = Path(__file__).parents[2]


def listed(folder: Path) -> list[str]:
    """Names in the manifest, line by line; every line must be whole."""
    return [json.loads(line)["npz"] for line in (folder / "manifest.jsonl").read_text().splitlines()]


def present(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("sample_*"))


def codes(folder: SampleFolder) -> dict[str, list[str]]:
    return {warning.code: warning.details["names"] for warning in folder.warnings}


def leave_dead(folder: Path, name: str = "1-0000dead") -> Path:
    """What a killed writer leaves: its lock file, which nobody holds, and a temporary file."""
    (folder / f".logger-{name}.lock").touch()
    partial = folder / f".logger-{name}.partial"
    partial.write_bytes(b"half")
    return partial


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_samples_are_numbered_and_listed(tmp_path: Path) -> None:
    with SampleFolder(tmp_path / "a" / "b") as folder:
        names = [folder.write(toy_sample(frame)) for frame in range(3)]
        assert folder.stored == 3
        assert folder.warnings == []
    assert names == [sample_name(i) for i in range(3)] == listed(folder.directory) == present(folder.directory)
    assert [read_sample(folder.directory / name).frame_idx for name in names] == [0, 1, 2]
    assert {path.name for path in folder.directory.iterdir()} == {*names, "manifest.jsonl", ".start.lock"}


def test_numbering_continues_behind_what_is_there_and_what_is_listed(tmp_path: Path) -> None:
    with SampleFolder(tmp_path) as folder:
        folder.write(toy_sample())
    (tmp_path / sample_name(41)).write_bytes(encode_sample(toy_sample(41)))
    with SampleFolder(tmp_path) as folder:
        assert folder.write(toy_sample()) == sample_name(42)
    (tmp_path / sample_name(42)).unlink()
    with SampleFolder(tmp_path) as folder:
        assert folder.write(toy_sample()) == sample_name(43)


def test_samples_that_are_not_listed_are_adopted_once(tmp_path: Path) -> None:
    (tmp_path / sample_name(0)).write_bytes(encode_sample(toy_sample(6)))
    with SampleFolder(tmp_path) as folder:
        assert codes(folder) == {"sample-adopted": [sample_name(0)]}
    line = json.loads((tmp_path / "manifest.jsonl").read_text())
    assert (line["npz"], line["frame_idx"], line["matches"]) == (sample_name(0), 6, 3)
    with SampleFolder(tmp_path) as folder:
        assert folder.warnings == []
    assert listed(tmp_path) == [sample_name(0)]


def test_truncated_and_foreign_files_are_named_and_left_alone(tmp_path: Path) -> None:
    content = encode_sample(toy_sample())
    files = {
        sample_name(3): content[: len(content) // 2],
        sample_name(4): b"",
        "sample_9.npz": content,
        "sample_0000001 (1).npz": content,
        "notes.txt": b"hello",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with SampleFolder(tmp_path) as folder:
        assert codes(folder) == {
            "sample-unreadable": [sample_name(3), sample_name(4)],
            "sample-foreign": ["sample_0000001 (1).npz", "sample_9.npz"],
        }
        assert all(str(tmp_path) in warning.message and "2 " in warning.message for warning in folder.warnings)
        assert folder.write(toy_sample()) == sample_name(5)
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
    assert listed(tmp_path) == [sample_name(5)]


def test_an_unfinished_line_is_cut_off_and_its_sample_adopted(tmp_path: Path) -> None:
    with SampleFolder(tmp_path) as folder:
        for frame in range(2):
            folder.write(toy_sample(frame))
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    with SampleFolder(tmp_path) as folder:
        assert codes(folder) == {"manifest-repaired": [], "sample-adopted": [sample_name(1)]}
        folder.write(toy_sample(2))
    assert listed(tmp_path) == [sample_name(i) for i in range(3)]


def test_beside_a_live_writer_an_unfinished_line_is_ended(tmp_path: Path) -> None:
    with SampleFolder(tmp_path) as live:
        live.write(toy_sample(0))
        with (tmp_path / "manifest.jsonl").open("ab") as manifest:
            manifest.write(b'{"npz": "sam')
        with SampleFolder(tmp_path) as second:
            assert codes(second) == {"manifest-repaired": []}
            assert second.write(toy_sample(1)) == sample_name(1)
        live.write(toy_sample(2))
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert lines[1] == '{"npz": "sam'
    assert [json.loads(lines[i])["npz"] for i in (0, 2, 3)] == [sample_name(i) for i in range(3)]
    with SampleFolder(tmp_path) as third:
        assert codes(third) == {"manifest-lines-skipped": ["2"]}


def test_temporary_files_of_dead_writers_are_removed_and_of_live_ones_kept(tmp_path: Path) -> None:
    with SampleFolder(tmp_path) as live:
        dead = leave_dead(tmp_path)
        orphan = tmp_path / ".logger-2-00006042.partial"
        orphan.touch()
        mine = tmp_path / ".logger-mine.partial"
        mine.touch()
        live_partial = tmp_path / f".logger-{live.run}.partial"
        live_partial.touch()
        with SampleFolder(tmp_path):
            assert live_partial.exists()
        assert mine.exists()
        assert not dead.exists()
        assert not dead.with_suffix(".lock").exists()
        assert not orphan.exists()
        assert live_partial.with_suffix(".lock").exists()


def test_a_sample_that_a_live_writer_has_yet_to_list_is_not_adopted(tmp_path: Path) -> None:
    with SampleFolder(tmp_path) as live:
        partial = tmp_path / f".logger-{live.run}.partial"
        partial.write_bytes(encode_sample(toy_sample()))
        os.link(partial, tmp_path / sample_name(0))
        with SampleFolder(tmp_path) as second:
            assert second.warnings == []
            assert second.write(toy_sample(1)) == sample_name(1)
        assert listed(tmp_path) == [sample_name(1)]
    partial.with_suffix(".lock").touch()  # as if it had been killed there
    with SampleFolder(tmp_path) as third:
        assert codes(third) == {"sample-adopted": [sample_name(0)]}
    assert not partial.exists()
    assert listed(tmp_path) == [sample_name(1), sample_name(0)]


def test_a_used_number_is_never_overwritten(tmp_path: Path) -> None:
    with SampleFolder(tmp_path) as first, SampleFolder(tmp_path) as second:
        names = [folder.write(toy_sample(i)) for i in range(3) for folder in (first, second, second)]
    assert names == [sample_name(i) for i in range(9)] == listed(tmp_path)


def test_without_links_the_name_is_claimed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with SampleFolder(tmp_path) as first, SampleFolder(tmp_path) as second:
        names = [folder.write(toy_sample(i)) for i in range(3) for folder in (first, second)]
    assert names == [sample_name(i) for i in range(6)] == listed(tmp_path)
    assert [read_sample(tmp_path / name).frame_idx for name in names] == [0, 0, 1, 1, 2, 2]
    assert len(list(tmp_path.iterdir())) == 8


def test_without_locks_no_writer_counts_as_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    partial = leave_dead(tmp_path)
    with SampleFolder(tmp_path) as folder:
        assert folder.write(toy_sample()) == sample_name(0)
    assert partial.exists()


class FullDisk:
    """Writes half of what does not fit, then fails, as a file system does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capacity: int) -> None:
        self.capacity = capacity
        self._write = os.write
        monkeypatch.setattr(sample_folder, "_write_all", self.write)

    def write(self, file: int, content: bytes) -> None:
        if len(content) > self.capacity:
            self._write(file, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        self.capacity -= len(content)
        self._write(file, content)


@pytest.mark.parametrize("capacity", [0, 4000, 4300])
def test_a_full_disk_leaves_no_half_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capacity: int) -> None:
    content = encode_sample(toy_sample())
    capacity += len(content) - 4000 if capacity else 0
    with SampleFolder(tmp_path) as folder, monkeypatch.context() as patch:
        FullDisk(patch, capacity)
        with pytest.raises(ArtifactError, match=rf"{tmp_path.name}: cannot be written: No space"):
            [folder.write(toy_sample()) for _ in range(2)]
    assert not list(tmp_path.glob(".logger-*"))
    with SampleFolder(tmp_path) as again:  # there is space again
        again.write(toy_sample(5))
    assert listed(tmp_path) == present(tmp_path)
    assert all(read_sample(tmp_path / name) for name in present(tmp_path))


def test_folders_that_cannot_be_written_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="file: cannot be logged to: File exists"):
        SampleFolder(tmp_path / "file")
    with pytest.raises(ArtifactError, match="below: cannot be logged to: Not a directory"):
        SampleFolder(tmp_path / "file" / "below")

    opened = os.open

    def read_only(path: Any, flags: int, *mode: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, flags, *mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        with pytest.raises(ArtifactError, match=f"{tmp_path.name}: cannot be logged to: Read-only file system"):
            SampleFolder(tmp_path)


def test_a_folder_with_a_nul_in_its_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be logged to"):
        SampleFolder(tmp_path / "a\0b")


def test_a_failed_start_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").mkdir()
    with pytest.raises(ArtifactError, match="cannot be logged to"):
        SampleFolder(tmp_path)
    assert not list(tmp_path.glob(".logger-*"))


def test_a_removed_folder_is_named(tmp_path: Path) -> None:
    with SampleFolder(tmp_path / "gone") as folder:
        folder.write(toy_sample())
        shutil.rmtree(tmp_path / "gone")
        with pytest.raises(ArtifactError, match="gone: cannot be written: No such file"):
            folder.write(toy_sample())


TWO = """
import sys, time
from pathlib import Path
from tests.association.toy import toy_sample
from trackweave.storage.sample_folder import SampleFolder
directory, start, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
while not (Path(directory) / "go").exists():
    time.sleep(0.001)
with SampleFolder(directory) as folder:
    for frame in range(start, start + count):
        folder.write(toy_sample(frame, width=300))
"""


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    count = 150
    children = [run(TWO, tmp_path, 1000 * i, count) for i in range(2)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    for child in children:
        child.communicate()
        assert child.returncode == 0
    names = [sample_name(i) for i in range(2 * count)]
    assert present(tmp_path) == names == sorted(listed(tmp_path))
    frames = [read_sample(tmp_path / name).frame_idx for name in names]
    assert sorted(frames) == [1000 * i + frame for i in range(2) for frame in range(count)]
    assert not list(tmp_path.glob(".logger-*"))
    with SampleFolder(tmp_path) as folder:
        assert folder.warnings == []


KILLS = """
import hashlib, os, random, signal, sys, time
from pathlib import Path
from tests.association.toy import toy_state
from trackweave.association.data_collection import SampleLogger
directory = Path(sys.argv[1])
states = [toy_state(frame, width=300) for frame in range(40)]
dice = random.Random(0)
before = {}
for kill in range(20):
    child = os.fork()
    if child == 0:
        logger = SampleLogger(directory, sequence=f"take {kill}", embed_dim=300)
        while True:
            for state in states:
                logger.observe(state)
    # Its first samples say that it logs, however long that takes on a busy machine; every fourth dies whenever.
    wanted = len(before) + (dice.randint(1, 4) if kill % 4 else 0)
    while sum(1 for _ in directory.glob("sample_*")) < wanted:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the logger ended of itself"
        time.sleep(0.001)
    time.sleep(dice.uniform(0, 0.03) if kill % 4 else dice.uniform(0.005, 0.12))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    now = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.glob("sample_*")}
    assert before.items() <= now.items(), "a sample was changed or removed"
    fresh = sorted(now.keys() - before.keys())
    assert not before or not fresh or fresh[0] > max(before), "numbering went back"
    before = now
    print(len(fresh), (directory / "manifest.jsonl").exists() and sum(1 for _ in open(directory / "manifest.jsonl")))
"""


def test_killed_twenty_times_while_logging(tmp_path: Path) -> None:
    child = run(KILLS, tmp_path)
    written = [int(line.split()[0]) for line in child.communicate()[0].splitlines()]
    assert child.returncode == 0
    assert len(written) == 20
    assert sum(count > 0 for count in written) >= 15  # it did die while logging, not before
    with SampleFolder(tmp_path) as folder:
        assert set(codes(folder)) <= {"sample-adopted", "manifest-repaired"}
        next_one = folder.write(toy_sample())
    names = present(tmp_path)
    assert names == [sample_name(i) for i in range(sum(written) + 1)]
    assert names[-1] == next_one
    assert sorted(listed(tmp_path)) == names  # each line whole, each sample once
    assert all(np.isfinite(read_sample(tmp_path / name).cost_matrix).all() for name in names)
    assert not list(tmp_path.glob(".logger-*"))


# --- the manifest -----------------------------------------------------------------------------------------------------


def test_a_line_says_what_the_sample_holds() -> None:
    line = ManifestEntry.of("sample_0000000.npz", toy_sample(8, assigned_track_ids=np.array([10, 99, -1, 12]))).line()
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "npz": "sample_0000000.npz",
        "frame_idx": 8,
        "sequence": "toy",
        "run": None,
        "tracks": 3,
        "detections": 4,
        "matches": 2,
        "label_source": "tracker",
        "est_id_switches": None,
        "est_id_switches_frame": None,
    }


def test_an_unfinished_last_line_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    lines = [ManifestEntry.of(f"sample_000000{i}.npz", toy_sample(i)).line() for i in range(2)]
    for cut in range(1, len(lines[1])):
        path.write_bytes(lines[0] + lines[1][:cut])
        manifest = read_sample_manifest(path)
        assert list(manifest.entries) == ["sample_0000000.npz"]
        assert manifest.unfinished
        assert manifest.finished_bytes == len(lines[0])
        assert manifest.damaged == ()


def test_lines_of_other_trackers_and_lines_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(
        '{"npz": "sample_0000000.npz"}\n\n{"npz": "sample_0000\n[1]\n{"npz": 4}\n{"npz": "../sample_0000001.npz"}\n'
        '{"npz": "sample_0000002.npz", "frame_idx": "7", "tracks": 3, "weather": "fine"}\n'
        '{"npz": "sample_0000000.npz", "frame_idx": 5}\n'
    )
    manifest = read_sample_manifest(path)
    assert manifest.entries == {
        "sample_0000000.npz": ManifestEntry("sample_0000000.npz", 5),
        "sample_0000002.npz": ManifestEntry("sample_0000002.npz", tracks=3),
    }
    assert manifest.damaged == (3, 4, 5, 6)
    assert not manifest.unfinished


def test_no_manifest_lists_nothing_and_a_folder_is_none(tmp_path: Path) -> None:
    assert read_sample_manifest(tmp_path / "manifest.jsonl").entries == {}
    with pytest.raises(ArtifactError, match="manifest cannot be read"):
        read_sample_manifest(tmp_path)


def test_a_line_nested_too_deeply_is_a_damaged_line(tmp_path: Path) -> None:
    with SampleFolder(tmp_path) as folder:
        folder.write(toy_sample())
    with (tmp_path / "manifest.jsonl").open("a") as manifest:
        manifest.write("[" * 100_000 + "\n")
    assert read_sample_manifest(tmp_path / "manifest.jsonl").damaged == (2,)
    with SampleFolder(tmp_path) as folder:
        assert codes(folder) == {"manifest-lines-skipped": ["2"]}


def test_samples_are_removed_and_all_else_stays(tmp_path: Path) -> None:
    with SampleFolder(tmp_path) as folder:
        for _ in range(2):
            folder.write(toy_sample())
        with pytest.raises(ArtifactError, match="being logged"):
            remove_samples(tmp_path)
    mine = {"notes.txt", sample_name(7)}
    for name in mine:
        (tmp_path / name).write_text("mine")
    remove_samples(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == mine
