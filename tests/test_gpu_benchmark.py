"""The GPU benchmark at tiny size on a processor, so that it runs where a GPU is at last to be had."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_sam2.py"
SMALL = [
    "--models",
    "toy",
    "--frames",
    "6",
    "--candidates",
    "3",
    "--size",
    "48x32",
    "--threads",
    "1",
    "--device",
    "cpu",
]


def test_it_compares_both_ways_and_writes_the_table(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--objects", "5", "--levels", "2", "--reach", "2", "--upstream-candidates", "2", "--json", str(figures)]
    done = subprocess.run([sys.executable, SCRIPT, *SMALL, *options], capture_output=True, text=True, check=True)
    assert "| toy |" in done.stdout
    (row,) = json.loads(figures.read_text())["rows"]
    assert row["engine"]["encoder_passes"] == 6
    spans = [2, 4, 2]  # frames that the candidates on 0, 2 and 5 are moved over: 2, 2 + 2, 2
    counts = [2 * ((k + 1) * 5 // 3 - k * 5 // 3) for k in range(3)]
    assert row["engine"]["object_frames"] == sum(span * count for span, count in zip(spans, counts, strict=True))
    assert 0 < row["upstream_share"] < 1
    assert row["upstream"]["encoder_passes"] > 2 * 2 * 2
    assert row["ratio"] == pytest.approx(row["upstream"]["seconds"] / row["upstream_share"] / row["engine"]["seconds"])


def test_memory_by_length() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, *SMALL, "--lengths", "8", "16"], capture_output=True, text=True, check=True
    )
    rows = [line.split("|") for line in done.stdout.splitlines() if line[:3] in ("| 8", "| 1")]
    assert [int(row[1]) for row in rows] == [8, 16]
    assert all(float(row[3]) > 50 for row in rows)
