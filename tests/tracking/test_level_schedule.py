"""Levels side by side: every frame is computed once, and the results are those of one level after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bounded_predictor import BoundedPredictor
from tests.worlds import World, candidates_of
from trackweave.errors import PredictorError
from trackweave.ids import IdAllocator, Level, TrackId
from trackweave.pipelines.masks import track_masks
from trackweave.storage.run import RunPaths
from trackweave.tracking.level_runner import ScheduledLevel, run_level_tracking, track_side_by_side
from trackweave.tracking.mask_tracker import windowed
from trackweave.tracking.pipeline_context import PipelineContext, build_pipeline_context
from trackweave.tracking.sam2_runner import prompt_tracking
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import FrameResultStore

LENGTH, REACH = 40, 8
SETTINGS = TrackingSettings(max_propagate=REACH, render_viz=False)
CANDIDATE_FRAMES = {2: range(0, LENGTH, 2), 4: range(1, LENGTH, 2), 6: range(0, LENGTH, 2)}


def drifting() -> World:
    """Four squares that drift apart, so that copies of old masks stop covering them after a few frames."""
    labels = np.zeros((LENGTH, 24, 64), np.int64)
    for frame in range(LENGTH):
        for k in range(4):
            left = (k * 16 + frame * (k + 1) // 2) % 56
            labels[frame, 6 * k : 6 * k + 5, left : left + 8] = k + 1
    return World(labels, "abcd")


SCENE = drifting()


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    for level, frames in CANDIDATE_FRAMES.items():
        candidates_of(SCENE, tmp_path / "candidates", frames, level=level)
    return tmp_path / "candidates"


def contexts(candidates: Path, run: RunPaths, settings: TrackingSettings = SETTINGS) -> list[PipelineContext]:
    return [build_pipeline_context(candidates, Level(n), SCENE.frames, run, settings) for n in CANDIDATE_FRAMES]


def test_every_frame_is_encoded_once_with_room_for_one_window(candidates: Path, tmp_path: Path) -> None:
    """N=40, K=20, L=3, P=8, room for 2P+1 = 17 frames."""
    predictor = BoundedPredictor(room=2 * REACH + 1)
    result = track_masks(SCENE.frames, tmp_path / "run", candidates=candidates, predictor=predictor, settings=SETTINGS)
    assert predictor.session.encoded == list(range(LENGTH))
    assert result.summary["predictor"]["counters"]["encoder_passes"] == LENGTH
    assert result.summary["totals"]["prompts"] > 3 * 20  # every level goes on finding new objects


def test_one_level_after_the_other_would_encode_most_frames_again(candidates: Path, tmp_path: Path) -> None:
    """The measure can fail: what the schedule is for."""
    predictor = BoundedPredictor(room=2 * REACH + 1)
    session = predictor.open(SCENE.frames)
    run, ids = RunPaths(tmp_path / "run"), IdAllocator()
    for ready in contexts(candidates, run):
        run_level_tracking(
            ready.level, predictor, candidates_root=candidates, frames=SCENE.frames, run=run, context=ready,
            session=session, ids=ids,
        )  # fmt: skip
    assert len(session.encoded) > 2 * LENGTH


def test_results_are_those_of_one_level_after_the_other(candidates: Path, tmp_path: Path) -> None:
    """Ids too: each level's follow the level before."""
    track_masks(SCENE.frames, tmp_path / "run", candidates=candidates, predictor=BoundedPredictor(), settings=SETTINGS)
    run, ids = RunPaths(tmp_path / "apart"), IdAllocator()
    for ready in contexts(candidates, run):
        first = ids.next_id
        alone = run_level_tracking(
            ready.level, BoundedPredictor(), candidates_root=candidates, frames=SCENE.frames, run=run, context=ready,
            ids=ids,
        )  # fmt: skip
        assert min(alone.artifacts.objects) == first
        for name in alone.files.values():
            assert (tmp_path / "run" / name).read_bytes() == (run.root / name).read_bytes(), name


def test_time_first_then_levels_and_nothing_is_reset(candidates: Path, tmp_path: Path) -> None:
    predictor = BoundedPredictor()
    track_masks(SCENE.frames, tmp_path / "run", candidates=candidates, predictor=predictor, settings=SETTINGS)
    calls = predictor.session.calls
    starts = [start for call, start in calls if call == "forward"]
    assert starts == sorted(starts)
    assert len(starts) == len(set(starts))  # levels 2 and 6 on one frame: one cohort
    assert [start for call, start in calls if call == "backward"] == starts
    assert [start for call, start in calls if call == "forget_objects"] == starts
    assert ("reset", 0) not in calls
    assert predictor.session.most_objects == 0  # only the cohort under way is known
    retired = [before for call, before in calls if call == "release_frames_before"]
    assert retired == sorted(retired)
    assert set(retired) == set(range(1, LENGTH - REACH))
    for position, (call, before) in enumerate(calls):
        if call == "release_frames_before":  # all that follows stays above it
            assert all(start - REACH >= before for later, start in calls[position:] if later == "forward")


def test_without_a_reach_nothing_is_retired(candidates: Path, tmp_path: Path) -> None:
    predictor = BoundedPredictor()
    settings = TrackingSettings(render_viz=False)
    track_masks(SCENE.frames, tmp_path / "run", candidates=candidates, predictor=predictor, settings=settings)
    assert "release_frames_before" not in {call for call, _ in predictor.session.calls}
    assert predictor.session.encoded == list(range(LENGTH))


def test_levels_do_not_see_each_others_masks(candidates: Path, tmp_path: Path) -> None:
    """Levels 2 and 6 have the same candidates: each tracks them all."""
    result = track_masks(
        SCENE.frames, tmp_path / "run", candidates=candidates, predictor=BoundedPredictor(), settings=SETTINGS
    )
    counts = {int(level): stats["prompts"] for level, stats in result.levels.items()}
    assert counts[2] == counts[6] > 0


def test_nothing_due_opens_no_session(candidates: Path, tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "run")
    for due in (3 * 20, 0):
        predictor = BoundedPredictor()
        levels = [ScheduledLevel(ready, key="k", resume=True) for ready in contexts(candidates, run)]
        assert sum(len(level.due) for level in levels) == due
        track_side_by_side(levels, predictor, SCENE.frames, settings=SETTINGS)
        assert len(predictor.sessions) == (due > 0)
        assert levels[0].prompts == levels[2].prompts
        for level in levels:
            level.store.close()


def test_a_session_is_closed_when_a_step_fails(candidates: Path, tmp_path: Path) -> None:
    closed: list[bool] = []

    def fail(done: int) -> None:
        raise PredictorError("out of luck")

    class Closing(BoundedPredictor):
        def open(self, frames):  # type: ignore[no-untyped-def]
            session = super().open(frames)
            session.close = lambda: closed.append(True)  # type: ignore[method-assign]
            return session

    with pytest.raises(PredictorError, match=r"^out of luck$"):  # nothing is finished: nothing is said of going on
        track_masks(SCENE.frames, tmp_path / "run", candidates=candidates, predictor=Closing(on_visit=fail))
    assert closed == [True]


def test_the_window_moves_between_steps_only() -> None:
    predictor = BoundedPredictor()
    session = predictor.open(SCENE.frames)
    seen = []
    for step in windowed([(0, "a"), (3, "b"), (3, "c"), (9, "d")], session, 2):
        seen.append(step)
        session.calls.append((step, 0))
    assert seen == list("abcd")
    assert session.calls == [
        ("a", 0),
        ("release_frames_before", 1),
        ("b", 0),
        ("release_frames_before", 1),
        ("c", 0),
        ("release_frames_before", 7),
        ("d", 0),
    ]
    assert list(windowed([], session, 2)) == []


def test_prompts_of_a_person_go_the_same_way() -> None:
    """Object 1 is marked again on frame 20; object 2 is first marked there."""
    a, b = SCENE.mask(0, "a"), SCENE.mask(20, "b")
    prompts = {20: {TrackId(1): SCENE.mask(20, "a"), TrackId(2): b}, 0: {TrackId(1): a}, 30: {TrackId(3): a}}
    predictor = BoundedPredictor(room=2 * REACH + 1)
    with FrameResultStore() as store:
        artifacts = prompt_tracking(SCENE.frames, predictor, prompts, settings=SETTINGS, frame_store=store)
        assert artifacts.prompt_frames == {1: 0, 2: 20, 3: 30}
        assert store.emitted_frames() == [*range(9), *range(12, 39)]
    calls = predictor.session.calls
    assert [start for call, start in calls if call == "forget_objects"] == [0, 20, 30]
    assert [before for call, before in calls if call == "release_frames_before"] == [12, 22]
    assert predictor.session.most_objects == 0
    assert len(predictor.session.encoded) == len(set(predictor.session.encoded))


def test_a_level_alone_retires_frames_of_its_own_session_only(candidates: Path, tmp_path: Path) -> None:
    ready = contexts(candidates, RunPaths(tmp_path / "run"))[0]
    predictor = BoundedPredictor(room=2 * REACH + 1)
    shared = predictor.open(SCENE.frames)
    for session in (None, shared):
        run_level_tracking(
            ready.level, predictor, candidates_root=candidates, frames=SCENE.frames, run=ready.run, context=ready,
            session=session,
        )  # fmt: skip
    own = predictor.sessions[1]
    assert own.encoded == list(range(LENGTH))
    assert "release_frames_before" in {call for call, _ in own.calls}
    assert "release_frames_before" not in {call for call, _ in shared.calls}
