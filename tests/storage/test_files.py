from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from trackweave.errors import ArtifactError, ArtifactVersionError, InputError, RunFolderError
from trackweave.formats.readers import read_detections, read_tracks
from trackweave.storage.files import (
    check_regular,
    check_version,
    parse_json,
    read_json_object,
    remove_partials,
    replacing,
    safe_name,
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


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "level_2" / ".video_segments.npz.partial"
    kept = tmp_path / "level_2" / "video_segments.npz"
    left.parent.mkdir()
    left.write_text("")
    kept.write_text("")
    remove_partials(tmp_path)
    assert names(tmp_path / "level_2") == [kept.name]


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
