from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.storage.scratch import ScratchFile


def held(scratch: ScratchFile, key: object) -> bytes:
    found = scratch.get(key)
    assert found is not None
    return bytes(found)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "get", "drop"]), st.integers(0, 7), st.integers(0, 60)), max_size=60
    ),
    limit=st.integers(0, 120),
)
def test_values_survive_and_the_bound_holds(steps: list[tuple[str, int, int]], limit: int) -> None:
    scratch = ScratchFile(limit)
    values: dict[object, bytes] = {}
    for action, key, size in steps:
        if action == "put" and key not in scratch:
            content = os.urandom(size)
            assert scratch.put(key, [content[: size // 2], content[size // 2 :]]) == (size <= limit)
            values[key] = content
        elif action == "get":
            found = scratch.get(key)
            assert (found is None) == (key not in scratch)
            assert found is None or found == values[key]
        elif key in scratch:
            scratch.drop(key)
        assert scratch.used == sum(len(values[kept]) for kept in scratch.kept) <= limit
        assert all(held(scratch, kept) == values[kept] for kept in scratch.kept)
    scratch.close()


def test_the_least_recently_used_give_way(tmp_path: Path) -> None:
    scratch = ScratchFile(30, tmp_path)
    for key in "abc":
        assert scratch.put(key, [key.encode() * 10])
    assert held(scratch, "a") == b"a" * 10
    assert scratch.put("d", [b"d" * 10])
    assert scratch.kept == ["c", "a", "d"]
    assert list(tmp_path.iterdir()) == []  # no name that a killed process would leave
    assert not scratch.put("e", [b"e" * 31])
    assert scratch.kept == ["c", "a", "d"]
    scratch.close()
    assert scratch.get("a") is None
    assert not scratch.put("a", [b"a"])


class FullDisk:
    """A file that takes so many bytes."""

    def __init__(self, file: Any, most: int) -> None:
        self._file, self._most = file, most

    def write(self, content: Any) -> int:
        if self._file.tell() + len(content) > self._most:
            raise OSError(28, "No space left on device")
        return int(self._file.write(content))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_full_disk_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: FullDisk(plain(**options), 25))
    scratch = ScratchFile(1000)
    assert scratch.put("a", [b"a" * 10])
    assert scratch.put("b", [b"b" * 10])
    assert scratch.put("c", [b"c" * 10])  # in the place of the first
    assert (scratch.kept, scratch.problem) == (["b", "c"], "No space left on device")
    assert held(scratch, "c") == b"c" * 10
    assert not scratch.put("d", [b"d" * 21])
    assert scratch.kept == ["b", "c"]
    scratch.close()


def test_without_a_temporary_folder_nothing_is_kept(tmp_path: Path) -> None:
    scratch = ScratchFile(1000, tmp_path / "missing")
    assert not scratch.put("a", [b"a"])
    assert scratch.problem == "No such file or directory"
    assert scratch.get("a") is None
    scratch.close()
