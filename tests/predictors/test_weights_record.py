"""Checksums: taken once, compared ever after."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from trackweave.errors import PredictorUnavailable
from trackweave.predictors import weights as weights_record
from trackweave.predictors.weights import WeightsRecord


def weights(folder: Path, content: bytes = b"weights") -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(content)
    return path


def record(folder: Path) -> WeightsRecord:
    return WeightsRecord.of_user({"XDG_STATE_HOME": str(folder / "state")})


def test_a_checksum_is_that_of_the_content(tmp_path: Path) -> None:
    path = weights(tmp_path)
    (file,) = record(tmp_path).check([path])
    assert file.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert file.to_json() == {"file": str(path), "bytes": 7, "sha256": file.sha256}


def test_a_recorded_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = weights(tmp_path)
    first = record(tmp_path).check([path])
    monkeypatch.setattr(weights_record, "_sha256", None)  # reading it would fail
    again = record(tmp_path)
    assert again.check([path]) == first
    assert again.warnings == []


def test_a_file_that_changed_is_warned_of_once(tmp_path: Path) -> None:
    path = weights(tmp_path)
    record(tmp_path).check([path])
    weights(tmp_path, b"others")
    second = record(tmp_path)
    (file,) = second.check([path])
    (warning,) = second.warnings
    assert (warning.stage, warning.code) == ("weights", "weights-changed")
    assert str(path) in warning.message
    assert file.sha256[:12] in warning.message
    third = record(tmp_path)
    third.check([path])
    assert third.warnings == []


def test_a_file_that_was_only_touched_is_not_warned_of(tmp_path: Path) -> None:
    path = weights(tmp_path)
    record(tmp_path).check([path])
    os.utime(path, ns=(1, 1))
    again = record(tmp_path)
    again.check([path])
    assert again.warnings == []


def test_links_count_as_what_they_point_to(tmp_path: Path) -> None:
    path = weights(tmp_path)
    link = tmp_path / "link.safetensors"
    link.symlink_to(path)
    (file,) = record(tmp_path).check([link])
    assert file.path == path


def test_the_cache_s_name_must_be_the_content_s(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"whole").hexdigest()
    blob = tmp_path / digest
    blob.write_bytes(b"whole")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert record(tmp_path).check([link])[0].sha256 == digest
    blob.write_bytes(b"whale")
    with pytest.raises(PredictorUnavailable, match="damaged: its content is not what the cache calls it"):
        record(tmp_path).check([link])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 9, "files": {}}', '{"schema_version": 1}',
                                  '{"schema_version": 1, "files": {"a": 3}}'])  # fmt: skip
def test_a_record_that_cannot_be_read_begins_anew(tmp_path: Path, text: str) -> None:
    path, kept = weights(tmp_path), record(tmp_path)
    kept.path.parent.mkdir(parents=True)
    kept.path.write_text(text)
    kept.check([path])
    assert [warning.code for warning in kept.warnings] == ["weights-record"]
    assert str(path) in json.loads(kept.path.read_text())["files"]


def test_a_record_that_cannot_be_written_is_only_a_warning(tmp_path: Path) -> None:
    path = weights(tmp_path)
    (tmp_path / "state").write_text("a file where a folder should be")
    kept = record(tmp_path)
    assert len(kept.check([path])) == 1
    assert [warning.code for warning in kept.warnings] == ["weights-record"]
    assert "will not be noticed" in kept.warnings[0].message


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(PredictorUnavailable, match="cannot be read: No such file"):
        record(tmp_path).check([tmp_path / "none.safetensors"])
