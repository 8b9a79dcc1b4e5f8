"""A real indoor scan with Semantic-SAM candidates, where the data lies beside the project; skipped elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trackweave.storage.run import RunManifest, RunPaths
from trackweave.track_from_candidates import track_masks
from trackweave.tracking.pipeline_context import TrackingSettings

SCENE = Path(__file__).parents[2] / "shared" / "data" / "vos" / "multiscan_scene"

pytestmark = pytest.mark.skipif(not SCENE.is_dir(), reason="the MultiScan scene is not beside the project")


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scan") / "candidates"
    subprocess.run([sys.executable, SCENE / "make_candidates.py", root], check=True, capture_output=True)
    return root


def test_replay_finishes_with_the_counts(candidates: Path, tmp_path: Path) -> None:
    """Level 2 has its masks as `.npy`, level 4 inline; candidates are 853×640, frames 1920×1440."""
    result = track_masks(
        SCENE / "frames",
        tmp_path / "run",
        candidates=candidates,
        levels=[2, 4],
        predictor=f"replay={SCENE / 'recorded'}",
        settings=TrackingSettings(render_viz=False, mask_scale_ratio=0.3),
    )
    counts = {int(level): (stats["candidates"], stats["prompts"]) for level, stats in result.levels.items()}
    assert {level: candidates for level, (candidates, _) in counts.items()} == {2: 142, 4: 353}
    # The recording was made by prompting 32 and 150 of them; where duplicates begin depends on a few borderline IoUs.
    assert counts[2][1] == pytest.approx(32, abs=3)
    assert counts[4][1] == pytest.approx(150, abs=8)
    for level in (2, 4):
        path = RunManifest.load(RunPaths(tmp_path / "run").manifest).artifact(level, "video_segments")
        assert path.name == "video_segments_scale0.3x.npz"
        with np.load(path, allow_pickle=False) as plain:
            assert plain["frame_000000/masks"].shape[1] == 432 * 576 // 8
