from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.association.toy import toy_sample
from trackweave.errors import ArtifactError
from trackweave.storage.sample_folder import ManifestEntry, read_sample_manifest


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
        "est_id_switches": 0,
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
