"""Subsets of logged samples by `jq`, as the documentation has them, and by the same rule in Python."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.association.toy import toy_sample
from trackweave.association.inspection import inspect_samples
from trackweave.storage.sample_folder import SampleFolder
from trackweave.storage.samples import SampleDiagnostics, SampleMetadata

PAGE = Path(__file__).parents[2] / "docs" / "association.md"
SWITCHES = {5: 1, 6: 2, 7: 1, 150: 1, 260: 3, 261: 1}
"""Frame → switches suspected on it."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    total = 0
    with SampleFolder(tmp_path / "log") as folder:
        for frame in sorted({*range(0, 300, 10), *SWITCHES}):
            count = SWITCHES.get(frame, 0)
            total += count
            metadata = SampleMetadata(sequence="toy", run="r", diagnostics=SampleDiagnostics(total, (), count))
            folder.write(toy_sample(frame, metadata=metadata))
    return tmp_path / "log"


def kept_frames(log: Path) -> tuple[list[int], list[int]]:
    """Frames without a suspected switch, and those of segments of 100 frames with at most 3."""
    lines = [json.loads(line) for line in (log / "manifest.jsonl").read_text().splitlines()]
    calm = [line["frame_idx"] for line in lines if line["est_id_switches_frame"] == 0]
    sums: dict[int, int] = {}
    for line in lines:
        segment = line["frame_idx"] // 100
        sums[segment] = sums.get(segment, 0) + line["est_id_switches_frame"]
    return calm, [line["frame_idx"] for line in lines if sums[line["frame_idx"] // 100] <= 3]


def test_segments_with_many_suspected_switches_differ_by_the_count_of_each_frame(log: Path) -> None:
    calm, segments = kept_frames(log)
    assert not set(calm) & set(SWITCHES)
    assert {frame // 100 for frame in segments} == {1}
    last = json.loads((log / "manifest.jsonl").read_text().splitlines()[-1])
    assert (last["est_id_switches"], last["est_id_switches_frame"]) == (sum(SWITCHES.values()), 0)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_jq_examples_of_the_documentation(log: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    (block,) = (block for block in blocks if "jq " in block)
    done = subprocess.run(["sh", "-euc", block], cwd=log.parent, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    for name, frames in zip(("calm", "segments"), kept_frames(log), strict=True):
        manifest = (log.parent / name / "manifest.jsonl").read_text().splitlines()
        assert [json.loads(line)["frame_idx"] for line in manifest] == frames
        report = inspect_samples(log.parent / name)
        assert (report.samples, report.usable, report.unlisted) == (len(frames), True, ())
