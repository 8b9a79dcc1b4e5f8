from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from trackweave.errors import ArtifactError, ArtifactVersionError, InputError, RunFolderError
from trackweave.formats.readers import read_detections, read_tracks
from trackweave.storage.files import (
    LOCK_NAME,
    check_regular,
    check_version,
    content_digest,
    locked_folder,
    parse_json,
    read_json_object,
    remove_leftovers,
    replacing,
    safe_name,
    scratch_folder,
    temporary_beside,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["b.txt"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_crash_in_the_middle_leaves_the_old_file(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_and_fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write_and_fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_pipes_and_devices_are_refused_before_they_are_opened(tmp_path: Path) -> None:
    """A pipe that nobody writes to would wait for good, /dev/zero would fill the memory."""
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "pipe"), (Path("/dev/zero"), "device")):
        with pytest.raises(InputError, match=f"{path}: is a {kind}, not a file"):
            check_regular(path)
        with pytest.raises(ArtifactError, match=f"{path}: is a {kind}, not a file"):
            read_json_object(path, "list")
        with pytest.raises(InputError, match=f"{path}: is "):
            read_detections(path)
        with pytest.raises(InputError, match=f"{path}: is "):
            read_tracks(path)
    check_regular(tmp_path)
    check_regular(tmp_path / "absent")


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunFolderError, match=r"taken.x\.json: cannot be written: "):
        write_json(tmp_path / "taken" / "x.json", {})


def test_a_full_disk_is_reported_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunFolderError, match=r"x\.json: cannot be written: No space left on device"):
        write_json(path, {"new": 1})
    monkeypatch.undo()
    assert json.loads(path.read_text()) == {"old": 1}


def leftover(path: Path) -> Path:
    """The temporary file of a process that was killed while it wrote `path`."""
    writing = temporary_beside(path)
    temporary = writing.__enter__()
    dead = path.with_name(temporary.name.replace(str(os.getpid()), "4194303"))
    os.link(temporary, dead)
    writing.__exit__(None, None, None)
    return dead


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = leftover(tmp_path / "video_segments.npz")
    foreign = [
        tmp_path / name for name in (".download.zip.partial", ".x.12-abcdef01.partial.zip", "deep/.v.mkv.partial")
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    below = leftover(tmp_path / "deep" / "x")
    with replacing(tmp_path / "tracks.npz") as live:
        remove_leftovers([tmp_path])
        assert not dead.exists()
        assert live.exists()
        assert below.exists()
        assert all(path.read_text() == "mine" for path in foreign)


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Two processes, or two threads, that write one file: each writes its own, and the last one stays."""
    path = tmp_path / "tracks.npz"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["tracks.npz"]


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr(secrets, "token_hex", lambda _: "00000000")
    (tmp_path / f".x.txt.{os.getpid()}-00000000.partial").symlink_to(victim)
    with pytest.raises(RunFolderError, match=r"x\.txt: cannot be written"), replacing(tmp_path / "x.txt") as temporary:
        temporary.write_text("half")
    (tmp_path / LOCK_NAME).symlink_to(victim)
    with pytest.raises(RunFolderError, match="it is a link"), locked_folder(tmp_path):
        pass
    assert victim.read_text() == "precious"


def test_a_long_name_is_written_too(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 125)
    write_json(path, 1)
    assert names(tmp_path) == [path.name]


class TestLockedFolder:
    def test_a_second_job_is_refused_until_the_first_is_over(self, tmp_path: Path) -> None:
        with locked_folder(tmp_path / "run"):
            message = r"run: another job of this process is working in this folder"
            with pytest.raises(RunFolderError, match=message), locked_folder(tmp_path / "run"):
                pass
        with locked_folder(tmp_path / "run"):
            pass
        assert names(tmp_path / "run") == []

    def test_another_process_is_named_and_a_killed_one_is_not_waited_for(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from trackweave.storage.files import locked_folder\n"
            "with locked_folder(Path(sys.argv[1])): print('locked', flush=True); input()"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "locked\n"
            message = rf"another process \({other.pid}\) is working in this folder: wait for it, or choose another"
            with pytest.raises(RunFolderError, match=message), locked_folder(tmp_path):
                pass
            other.kill()
        assert names(tmp_path) == [LOCK_NAME]
        with locked_folder(tmp_path):
            pass
        assert names(tmp_path) == []

    def test_who_waits_goes_on_when_the_folder_is_free(self, tmp_path: Path) -> None:
        order: list[str] = []

        def wait() -> None:
            with locked_folder(tmp_path, wait=True):
                order.append("second")

        thread = threading.Thread(target=wait)
        with locked_folder(tmp_path):
            thread.start()
            thread.join(0.05)
            order.append("first")
        thread.join(5)
        assert order == ["first", "second"]
        assert names(tmp_path) == []


def test_scratch_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, ".davis-") as folder:
        dead = tmp_path / ".davis-4194303-00000000"
        shutil.copytree(folder, dead)
        mine = tmp_path / ".davis-mine"
        mine.mkdir()
        with scratch_folder(tmp_path, ".davis-"):
            assert folder.exists()
            assert not dead.exists()
    assert names(tmp_path) == [mine.name]


def test_json_keeps_every_text(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    value = {"name": "früh.jpg", "not utf-8": "\udcff.jpg"}
    write_json(path, value)
    assert read_json_object(path, "list") == value
    assert "früh" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [{"x": float("nan")}, {"x": object()}])
def test_what_is_not_json_leaves_the_old_file(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, value)
    assert read_json_object(path, "list") == {"old": 1}
    assert names(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no run manifest here"),
        (b"{", "the run manifest is not JSON"),
        (b"\xff\xfe", "the run manifest is not JSON"),
        (b"[1]", "should be a JSON object, not list"),
    ],
)
def test_json_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_json_object(path, "run manifest")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_json_object(tmp_path, "run manifest")


@pytest.mark.parametrize("found", [1, 2])
def test_versions_that_are_read(found: int) -> None:
    check_version(found, 2, "x.json")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (3, r"x\.json: schema_version 3 is newer than 2, .* upgrade it"),
        (0, "unknown schema_version 0"),
        (None, "unknown schema_version None"),
        ("2", "unknown schema_version '2'"),
        (True, "unknown schema_version True"),
        (1.0, "unknown schema_version 1.0"),
    ],
)
def test_versions_that_are_refused(found: Any, message: str) -> None:
    with pytest.raises(ArtifactVersionError, match=message):
        check_version(found, 2, "x.json")


@pytest.mark.parametrize("text", ["", ".", "..", "/", "a/b", "../a", "/abs", "a/", "./a", "a\0b", "x" * 3 + "/" * 500])
def test_texts_that_are_no_file_names_are_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(InputError, match=r"seqinfo: name .* cannot be the name of a file or folder") as caught:
        safe_name(text, "seqinfo: name")
    assert "\0" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["a", "MOT17-02-FRCNN", "a b", "...", ".a", "~", "caf\udce9", "日本"])
def test_other_texts_are_file_names_as_they_are(text: str) -> None:
    assert safe_name(text, "x") == text


OUT_OF_RANGE = ["1e400", "-1e999", "NaN", "Infinity", "-Infinity", "1" * 30, "-" + "9" * 19, "9" * 5000, str(2**63)]


@pytest.mark.parametrize("number", OUT_OF_RANGE)
def test_numbers_out_of_range_are_refused_in_files_of_ours_and_not_a_number_in_others(
    tmp_path: Path, number: str
) -> None:
    (tmp_path / "x.json").write_text(f'{{"a": [1, {number}]}}')
    with pytest.raises(ArtifactError, match=r"x\.json: the list is not JSON: the number .* is out of range") as caught:
        read_json_object(tmp_path / "x.json", "list")
    assert len(str(caught.value)) < 200 + len(str(tmp_path))
    (first, second) = read_json_object(tmp_path / "x.json", "list", finite=False)["a"]
    assert first == 1
    assert math.isnan(second)


@pytest.mark.parametrize("number", ["1e308", "-1.5e-400", str(2**63 - 1), str(-(2**63)), "0.1234567890123456789"])
def test_numbers_at_the_end_of_the_range_are_read(number: str) -> None:
    assert parse_json(f"[{number}]") == json.loads(f"[{number}]")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_deep_nesting_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ArtifactError, match="not JSON: it is nested too deeply"):
        read_json_object(tmp_path / "x.json", "list")
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(text.encode())


def test_a_digest_is_of_the_content_alone(tmp_path: Path) -> None:
    path, copy = tmp_path / "a", tmp_path / "b"
    content = bytearray(os.urandom(5 << 20))
    path.write_bytes(content)
    copy.write_bytes(content)
    assert content_digest(path) == content_digest(copy)
    for position in (0, 3 << 20, len(content) - 1):
        content[position] ^= 1
        copy.write_bytes(content)
        assert content_digest(path) != content_digest(copy)
        content[position] ^= 1
    copy.write_bytes(content + b"\0")
    assert content_digest(path) != content_digest(copy)
    with pytest.raises(InputError, match="missing: cannot be read: No such file"):
        content_digest(tmp_path / "missing")


def test_of_a_large_file_blocks_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trackweave.storage.files._WHOLE", 4 << 20)
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(20 << 20)
        before = content_digest(path)
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    assert content_digest(path) != before
