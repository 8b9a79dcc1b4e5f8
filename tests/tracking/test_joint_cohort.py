"""What several levels prompt on one frame moves as one cohort; each gets its own results and its share of the work."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bounded_predictor import BoundedPredictor
from tests.worlds import World, item, world, write_candidates
from trackweave.ids import IdAllocator, Level, TrackId
from trackweave.pipelines.masks import RunResult, track_masks
from trackweave.progress import TimingAggregator
from trackweave.storage.candidates import BadItems, read_filtered
from trackweave.storage.run import LevelRecord, RunManifest
from trackweave.structures.run_log import RunWarning
from trackweave.tracking.candidate_loader import FrameCandidateBatch, iter_candidate_batches
from trackweave.tracking.mask_tracker import LevelTracker, SessionWatch, divide_work, move_cohort
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import FrameResultStore

SCENE = world(*["aa..bb..cc\n..........\ndd........"] * 5)
"""Four objects that stay where they are."""

SETTINGS = TrackingSettings(render_viz=False)


def some(root: Path, level: int, frame: int, letters: str) -> None:
    """Candidates of a level: some of the objects, on one frame."""
    write_candidates(
        root, {frame: [item(n, SCENE.mask(frame, letter), frame=frame) for n, letter in enumerate(letters)]}, level
    )


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    """Level 2 has three objects on frame 2, level 4 one of the same and one more, level 6 none before frame 3."""
    some(tmp_path / "candidates", 2, 2, "abc")
    some(tmp_path / "candidates", 4, 2, "ad")
    some(tmp_path / "candidates", 6, 3, "b")
    return tmp_path / "candidates"


def track(candidates: Path, run: Path, predictor: BoundedPredictor, levels: list[int] | None = None) -> RunResult:
    return track_masks(SCENE.frames, run, candidates=candidates, levels=levels, predictor=predictor, settings=SETTINGS)


def test_a_frame_on_which_a_level_found_nothing(tmp_path: Path) -> None:
    root = tmp_path / "candidates"
    some(root, 2, 2, "ab")
    write_candidates(root, {2: [], 3: [item(0, SCENE.mask(3, "d"), frame=3)]}, 4)
    predictor = BoundedPredictor()
    result = track(root, tmp_path / "run", predictor)
    assert predictor.session.objects_moved == [2, 1]
    assert [level["candidate_frames"] for level in result.summary["levels"].values()] == [1, 2]


def test_levels_go_through_the_frames_once(candidates: Path, tmp_path: Path) -> None:
    predictor = BoundedPredictor()
    track(candidates, tmp_path / "run", predictor)
    assert predictor.session.objects_moved == [5, 1]
    assert [start for call, start in predictor.session.calls if call == "forget_objects"] == [2, 3]


def test_each_level_gets_its_own_objects(candidates: Path, tmp_path: Path) -> None:
    """The same object of two levels is two objects, each with its level's number."""
    result = track(candidates, tmp_path / "run", BoundedPredictor())
    expected = {2: "abc", 4: "ad", 6: "b"}
    first = 1
    for level, letters in expected.items():
        tracks = result.tracks(Level(level))
        assert sorted(set(tracks.track_id.tolist())) == list(range(first, first + len(letters)))
        for k, letter in enumerate(letters):
            masks = tracks.masks[tracks.track_id == first + k] if tracks.masks is not None else None
            assert masks is not None
            assert len(masks) == len(SCENE.labels)
            assert all(np.array_equal(mask, SCENE.mask(0, letter)) for mask in masks.to_bool())
        first += len(letters)


def test_files_are_those_of_levels_alone(candidates: Path, tmp_path: Path) -> None:
    """Of the first level to the last byte; those after it count on."""
    track(candidates, tmp_path / "run", BoundedPredictor())
    track(candidates, tmp_path / "alone", BoundedPredictor(), [2])
    for path in (tmp_path / "alone" / "level_2" / "tracking").iterdir():
        assert path.read_bytes() == (tmp_path / "run" / "level_2" / "tracking" / path.name).read_bytes()


def test_work_and_time_are_divided_and_nothing_is_lost(
    candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that is one second further whenever somebody looks."""
    ticks = count()
    monkeypatch.setattr("trackweave.progress.time.perf_counter", lambda: float(next(ticks)))
    result = track(candidates, tmp_path / "run", BoundedPredictor())
    fingerprint = RunManifest.load(result.run.manifest).fingerprint
    assert fingerprint is not None
    records = {level: LevelRecord.read(result.run.journal(level), fingerprint) for level in result.levels}
    visits = len(SCENE.labels) + 1  # the prompt frame is visited both ways
    assert {level: dict(record.work) for level, record in records.items() if record is not None} == {
        2: {"encoder_passes": 5, "object_frames": 3 * visits},
        4: {"encoder_passes": 0, "object_frames": 2 * visits},
        6: {"encoder_passes": 0, "object_frames": visits},
    }
    assert result.summary["predictor"]["counters"] == {"encoder_passes": 5, "object_frames": 6 * visits}
    seconds = {level: stats["durations"]["track.predictor"] for level, stats in result.levels.items()}
    asked = visits + 2  # each direction is asked once more to learn that it is over
    assert seconds == {2: pytest.approx(asked * 3 / 5), 4: pytest.approx(asked * 2 / 5), 6: pytest.approx(asked)}
    packed = {level: stats["durations"]["track.pack"] for level, stats in result.levels.items()}
    assert packed == {2: pytest.approx(3.0), 4: pytest.approx(2.0), 6: pytest.approx(5.0)}


@given(
    st.dictionaries(st.sampled_from(["object_frames", "encoder_passes", "model_calls"]), st.integers(0, 10**6)),
    st.lists(st.integers(0, 500), min_size=1, max_size=6),
    st.data(),
)
def test_shares_add_up(work: dict[str, int], counts: list[int], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(counts) - 1))
    shares = divide_work(work, counts, first)
    assert {name: sum(share[name] for share in shares) for name in work} == work
    assert all(value >= 0 for share in shares for value in share.values())
    if sum(counts):
        idle = [share for share, n in zip(shares, counts, strict=True) if not n]
        assert all(share.get("object_frames", 0) == 0 for share in idle)


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stores() -> Iterator[list[FrameResultStore]]:
    opened = [FrameResultStore(), FrameResultStore()]
    yield opened
    for store in opened:
        store.close()


def batch_of(root: Path, scene: World, frame: int, letters: str) -> FrameCandidateBatch:
    some(root, 2, frame, letters)
    manifest = read_filtered(root / "level_2" / "filtered" / "filtered.json", BadItems("error", Level(2)))
    (batch,) = iter_candidate_batches(manifest, [(frame, manifest.frames[0])], scene.frames, BadItems())
    return batch


def test_numbers_in_the_session_are_told_apart(tmp_path: Path, stores: list[FrameResultStore]) -> None:
    """A level on its own keeps its ids there; one that comes after others counts above them, and no further."""
    predictor = BoundedPredictor()
    session = predictor.open(SCENE.frames)
    high = LevelTracker(SCENE.frames, stores[0], SETTINGS, ids=IdAllocator(7))
    low = LevelTracker(SCENE.frames, stores[1], SETTINGS, ids=IdAllocator(2))
    batch = batch_of(tmp_path, SCENE, 1, "ab")
    first = high.begin(session, predictor, batch, TimingAggregator())
    second = low.begin(session, predictor, batch, TimingAggregator(), above=first.last_number)
    assert (list(first.kinds), first.shift, first.last_number) == ([7, 8], 0, 8)
    assert (list(second.kinds), second.shift, second.last_number) == ([2, 3], 7, 10)
    assert session._book.first_prompted_on(1) == [7, 8, 9, 10]
    move_cohort([first, second], SessionWatch(session), SCENE.frames, SETTINGS)
    assert [list(next(store.iter_frames()).track_id) for store in stores] == [[7, 8], [2, 3]]
    third = high.begin(session, predictor, batch, TimingAggregator(), above=3)  # all seen: nothing to tell apart
    assert (third.kinds, third.last_number) == ({}, 0)
    assert high.result().prompt_kinds == {TrackId(7): "mask", TrackId(8): "mask"}


def test_a_frame_without_anything_new_moves_nothing(tmp_path: Path, stores: list[FrameResultStore]) -> None:
    predictor = BoundedPredictor()
    session = predictor.open(SCENE.frames)
    session.said = [RunWarning("predictor", None, "slow", "no device")]
    trackers = [LevelTracker(SCENE.frames, store, SETTINGS) for store in stores]
    watch = SessionWatch(session)
    batch = batch_of(tmp_path, SCENE, 1, "ab")
    for expected in (1, 1):
        parts = [tracker.begin(session, predictor, batch, TimingAggregator()) for tracker in trackers[:1]]
        move_cohort(parts, watch, SCENE.frames, SETTINGS)
        assert len(session.objects_moved) == expected
    assert trackers[0].steps == 2
    assert [said for _, said in trackers[0].remarks] == [session.said]  # once
    assert trackers[0].result().work["object_frames"] == 2 * (len(SCENE.labels) + 1)


def test_what_is_not_divided_goes_to_the_first_with_an_object(tmp_path: Path, stores: list[FrameResultStore]) -> None:
    """The first level has seen everything before."""
    predictor = BoundedPredictor()
    session = predictor.open(SCENE.frames)
    watch = SessionWatch(session)
    first, second = (LevelTracker(SCENE.frames, store, SETTINGS) for store in stores)
    batch = batch_of(tmp_path, SCENE, 1, "ab")
    move_cohort([first.begin(session, predictor, batch, TimingAggregator())], watch, SCENE.frames, SETTINGS)
    session.said = [RunWarning("predictor", None, "halved", "to 1")]
    session._kept.clear()
    parts = [tracker.begin(session, predictor, batch, TimingAggregator()) for tracker in (first, second)]
    move_cohort(parts, watch, SCENE.frames, SETTINGS)
    assert (first.steps, second.steps) == (2, 1)
    assert first.result().work["encoder_passes"] == second.result().work["encoder_passes"] == len(SCENE.labels)
    assert (first.remarks, [said for _, said in second.remarks]) == ([], [session.said])
