from __future__ import annotations

import json
from pathlib import Path

from tests.toy_scenes import candidates_of, toy_scene
from trackweave.ids import IdAllocator, Level
from trackweave.predictors.replay import ReplayPredictor
from trackweave.storage.run import RunPaths
from trackweave.tracking.level_runner import _build_level_stats, run_level_tracking, spans
from trackweave.tracking.pipeline_context import build_pipeline_context
from trackweave.tracking.settings import TrackingSettings

SCENE = toy_scene(
    """
    aa....
    aa..bb
    """,
    """
    ..aa..
    ..aa..
    """,
    """
    ....aa
    bb..aa
    """,
)


def test_a_level_from_manifest_to_pictures(tmp_path: Path) -> None:
    candidates = candidates_of(SCENE, tmp_path / "c", [0, 2])
    run = RunPaths(tmp_path / "run")
    ids = IdAllocator(11)
    result = run_level_tracking(
        Level(2),
        ReplayPredictor(SCENE.record(tmp_path / "truth.npz")),
        candidates_root=candidates,
        frames=SCENE.frames,
        run=run,
        ids=ids,
    )
    assert result.files == {
        "video_segments": "level_2/tracking/video_segments.npz",
        "object_segments": "level_2/tracking/object_segments.npz",
        "compare": "level_2/viz/compare/compare.json",
    }
    assert all((run.root / name).is_file() for name in result.files.values())
    stats = result.stats
    counted = [stats.counts[name] for name in ("candidates", "prompts", "objects", "object_frames")]
    assert counted == [4, 2, 2, 5]
    assert stats.dedup["duplicates"] == 2
    by_id = {track.track_id: track for track in stats.tracks}
    assert set(by_id) == {11, 12}
    assert sorted(list(track.spans) for track in by_id.values()) == [[(0, 0), (2, 2)], [(0, 2)]]
    assert {"track.load", "track.predictor", "persist.video_segments", "compare"} <= set(stats.durations)
    assert result.comparison is not None
    assert len(result.comparison.images) == 2
    manifest = json.loads(run.manifest.read_text())
    assert manifest["artifacts"]["2"] == result.files
    assert manifest["derived"]["levels"]["2"]["objects"] == 2
    assert ids.next_id == 13
    assert not list((run.root / "journal").iterdir())  # the scratch file has no name


def test_pictures_can_be_left_out(tmp_path: Path) -> None:
    candidates = candidates_of(SCENE, tmp_path / "c", [0])
    run = RunPaths(tmp_path / "run")
    result = run_level_tracking(
        Level(2),
        ReplayPredictor(SCENE.record(tmp_path / "truth.npz")),
        candidates_root=candidates,
        frames=SCENE.frames,
        run=run,
        settings=TrackingSettings(render_viz=False),
    )
    assert result.comparison is None
    assert "compare" not in result.files
    context = build_pipeline_context(candidates, Level(2), SCENE.frames, run, TrackingSettings())
    assert _build_level_stats(context, result.artifacts, [], result.timer).counts["candidate_frames"] == 1


def test_spans() -> None:
    assert spans([]) == []
    assert spans([4]) == [(4, 4)]
