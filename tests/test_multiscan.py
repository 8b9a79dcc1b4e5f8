"""A real indoor scan with Semantic-SAM candidates, where the data lies beside the project; skipped elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trackweave.masks.ops import mask_intersection
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import Run
from trackweave.storage.run import RunManifest, RunPaths
from trackweave.structures.run_summary import MaskSummary
from trackweave.tracking.settings import TrackingSettings

SCENE = Path(__file__).parents[2] / "shared" / "data" / "vos" / "multiscan_scene"

pytestmark = pytest.mark.skipif(not SCENE.is_dir(), reason="the MultiScan scene is not beside the project")


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scan") / "candidates"
    subprocess.run([sys.executable, SCENE / "make_candidates.py", root], check=True, capture_output=True)
    return root


@pytest.fixture(scope="module")
def replayed(candidates: Path, tmp_path_factory: pytest.TempPathFactory) -> Run[MaskSummary]:
    """Levels 2 and 4 as SAM 2 tracked them."""
    return track_masks(
        SCENE / "frames",
        tmp_path_factory.mktemp("replayed") / "run",
        candidates=candidates,
        levels=[2, 4],
        predictor=f"replay={SCENE / 'recorded'}",
        settings=TrackingSettings(render_viz=False, mask_scale_ratio=0.3),
    )


def test_replay_finishes_with_the_counts(replayed: Run[MaskSummary]) -> None:
    """Level 2 has its masks as `.npy`, level 4 inline; candidates are 853×640, frames 1920×1440."""
    result = replayed
    counts = {
        int(level): (stats.counts["candidates"], stats.counts["prompts"])
        for level, stats in result.summary.levels.items()
    }
    assert {level: candidates for level, (candidates, _) in counts.items()} == {2: 142, 4: 353}
    # The recording was made by prompting 32 and 150 of them; where duplicates begin depends on a few borderline IoUs.
    assert counts[2][1] == pytest.approx(32, abs=3)
    assert counts[4][1] == pytest.approx(150, abs=8)
    for level in (2, 4):
        path = RunManifest.load(result.paths.manifest).artifact(level, "video_segments")
        assert path.name == "video_segments_scale0.3x.npz"
        with np.load(path, allow_pickle=False) as plain:
            assert plain["frame_000000/masks"].shape[1] == 432 * 576 // 8


def few_candidates(whole: Path, root: Path, frames: Sequence[int], count: int) -> Path:
    """Some frames' first candidates, of each level."""
    for level in (2, 4, 6):
        source, folder = (part / f"level_{level}" / "filtered" for part in (whole, root))
        folder.mkdir(parents=True)
        content = json.loads((source / "filtered.json").read_text())
        chosen = [content["frames"][frame] for frame in frames]
        for frame in chosen:
            frame["items"], frame["count"] = frame["items"][:count], count
            masks = source / f"seg_frame_{frame['frame_idx']:05d}.npy"
            if masks.is_file():
                np.save(folder / masks.name, np.load(masks)[:count])
        (folder / "filtered.json").write_text(json.dumps({"frames": chosen}))
    return root


def test_a_tiny_model_goes_through_the_whole_pipeline(candidates: Path, tmp_path: Path) -> None:
    """Random weights: what it says of the scene is no matter, that all of it arrives is."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.predictors.sam.adapters import predictor

    starts, count, reach, run = (0, 3), 4, 2, tmp_path / "run"
    result = track_masks(
        SCENE / "frames",
        run,
        candidates=few_candidates(candidates, tmp_path / "few", starts, count),
        levels=[2, 4, 6],
        predictor=predictor("sam2-hf", device="cpu"),
        settings=TrackingSettings(mask_scale_ratio=0.3, max_propagate=reach, iou_threshold=1.0),
    )
    assert {int(level): stats.counts["prompts"] for level, stats in result.summary.levels.items()} == dict.fromkeys(
        (2, 4, 6), 8
    )
    counters = result.summary.counters
    assert counters["encoder_passes"] == 6  # frames 0 to 5
    assert counters["model_calls"] == 2 + 4  # forward and backward, once for all levels
    assert counters["object_frames"] == 3 * count * counters["model_calls"]
    # The candidates name the frames of the whole recording, the images here are numbered from 0.
    assert {warning.code for warning in result.warnings} == {"placed-by-index"}
    for level in (2, 4, 6):
        pictures = run / f"level_{level}" / "viz" / "compare"
        assert sorted(path.name for path in pictures.glob("*.png")) == [f"frame_{k:06d}.png" for k in starts]
        video = RunManifest.load(RunPaths(run).manifest).artifact(level, "video_segments")
        with np.load(video, allow_pickle=False) as plain:
            ids = {int(row) for name in plain.files if name.endswith("/objects") for row in plain[name]["id"]}
        first = 1 + (level // 2 - 1) * 8
        assert ids <= set(range(first, first + 8))
        assert len(ids) > 5  # a random mask may be empty wherever it goes


def test_identities_of_the_scan(replayed: Run[MaskSummary]) -> None:
    """No two tracks of a level alike, no pixel in two, hardly one lost, parts in wholes."""
    tree, table = replayed.tree(), replayed.identities()
    wholes: dict[int, dict[int, NDArray[np.uint8]]] = {}
    seen: dict[int, set[int]] = {}
    for level in replayed.levels:
        covered = before = 0
        shared: dict[tuple[int, int], list[int]] = {}
        with replayed.masks(level) as video, replayed.masks(level, raw=True) as raw:
            for frame in video.frames:
                objects, tracked = video.frame(frame), raw.frame(frame)
                claimed = np.bitwise_or.reduce(objects.masks.bits, axis=0)
                covered += int(np.bitwise_count(claimed).sum())
                assert int(objects.area.sum()) == int(np.bitwise_count(claimed).sum())  # no pixel in two
                before += int(np.bitwise_count(np.bitwise_or.reduce(tracked.masks.bits, axis=0)).sum())
                # Tracks that stay apart, as they were tracked, on the frames that show both.
                first = tracked[np.flatnonzero(table.of(tracked.track_id) == tracked.track_id)]
                common = mask_intersection(first.masks, first.masks)
                union = np.add.outer(first.area, first.area) - common
                for a, b in np.argwhere(np.triu(common > 0, 1)).tolist():
                    pair = shared.setdefault((int(first.track_id[a]), int(first.track_id[b])), [0, 0, 0])
                    pair[:] = [pair[0] + int(common[a, b]), pair[1] + int(union[a, b]), pair[2] + 1]
                # A part lies in its whole and what lies on that, where the whole is seen.
                around = wholes.setdefault(int(frame), {})
                seen.setdefault(int(frame), set()).update(table.of(tracked.track_id).tolist())
                for n, one in enumerate(objects.track_id.tolist()):
                    above = [other for other in tree.path(one)[:-1] if tree.level_of(other) < level]
                    for other in seen[int(frame)].intersection(above):
                        assert not np.any(objects.masks.bits[n] & ~around.get(other, np.uint8(0)))
                    same = [other for other in tree.path(one) if tree.level_of(other) == level]
                    for other in same:
                        around[other] = around.get(other, 0) | objects.masks.bits[n]
        assert covered >= 0.97 * before, covered / before
        # As they were tracked, 6 and 128 pairs agree; what is left are wholes and large parts of them.
        alike = [ids for ids, (inter, union, frames) in shared.items() if frames > 1 and inter > 0.65 * union]
        assert len(alike) <= 2, alike
    parts = [tree.parent(one) for one in tree.identity[tree.level == 4].tolist()]
    assert np.mean([parent > 0 for parent in parts]) > 0.9
    counts = {int(level): ((table.level == level).sum(), (tree.level == level).sum()) for level in replayed.levels}
    assert counts[2][0] > counts[2][1]
    assert counts[4][0] > 1.4 * counts[4][1]
