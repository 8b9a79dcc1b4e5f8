"""The engine: levels together compute every frame once, and end with the results of each level alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.bounded_predictor import BoundedPredictor, BoundedSession
from tests.toy_scenes import ToyScene, candidates_of, item, toy_scene, write_candidates
from trackweave.errors import PredictorError
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, IdAllocator, Level, LocalIndex, TrackId
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import Run
from trackweave.predictors.base import PredictorSession
from trackweave.progress import TimingAggregator
from trackweave.storage.result_log import ResultJournal
from trackweave.storage.run import LevelRecord, RunManifest, RunPaths
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import MaskSummary
from trackweave.structures.tracks import Tracks
from trackweave.tracking.candidate_loader import CandidatePrompts
from trackweave.tracking.level_runner import run_level_tracking
from trackweave.tracking.mask_tracker import LabelPrompts, MarkedFrame, MaskTracker, TrackedLevel, divide_counters
from trackweave.tracking.pipeline_context import PipelineContext, build_pipeline_context
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import (
    BatchRecord,
    DedupStats,
    DedupStore,
    FrameResultStore,
    PromptType,
    TrackingArtifacts,
)

STILL = toy_scene(*["aa..bb..cc\n..........\ndd........"] * 5)
"""Four objects that stay where they are."""

PLAIN = TrackingSettings(render_viz=False)
LENGTH, REACH = 40, 8
NEAR = TrackingSettings(max_propagate=REACH, render_viz=False)
CANDIDATE_FRAMES = {2: range(0, LENGTH, 2), 4: range(1, LENGTH, 2), 6: range(0, LENGTH, 2)}


def drifting() -> ToyScene:
    """Four squares that drift apart, so that copies of old masks stop covering them after a few frames."""
    labels = np.zeros((LENGTH, 24, 64), np.int64)
    for frame in range(LENGTH):
        for k in range(4):
            left = (k * 16 + frame * (k + 1) // 2) % 56
            labels[frame, 6 * k : 6 * k + 5, left : left + 8] = k + 1
    return ToyScene(labels, "abcd")


DRIFTING = drifting()


def propose(root: Path, level: int, letters: dict[int, str], scene: ToyScene = STILL) -> None:
    """Candidates of a level: some of the objects, by frame."""
    items = {
        frame: [item(n, scene.mask(frame, letter), frame=frame) for n, letter in enumerate(found)]
        for frame, found in letters.items()
    }
    write_candidates(root, items, level)


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    """Level 2 has three objects on frame 2, level 4 one of the same and one more, level 6 none before frame 3."""
    for level, letters in {2: {2: "abc"}, 4: {2: "ad"}, 6: {3: "b"}}.items():
        propose(tmp_path / "candidates", level, letters)
    return tmp_path / "candidates"


def track(
    candidates: Path, run: Path, predictor: BoundedPredictor | None = None, levels: list[int] | None = None
) -> Run[MaskSummary]:
    chosen = predictor or BoundedPredictor()
    return track_masks(STILL.frames, run, candidates=candidates, levels=levels, predictor=chosen, settings=PLAIN)


class Engine:
    """The engine on levels whose candidates lie in one folder, with stores that have no name."""

    def __init__(
        self,
        root: Path,
        levels: Iterable[int],
        predictor: BoundedPredictor,
        *,
        scene: ToyScene = STILL,
        settings: TrackingSettings = PLAIN,
        ids: Sequence[IdAllocator] = (),
    ) -> None:
        self.predictor, self.scene, self.settings = predictor, scene, settings
        self.contexts = [contexts(root, root / "run", scene, [n], settings)[0] for n in levels]
        self.stores = [FrameResultStore() for _ in self.contexts]
        self.levels = [
            TrackedLevel(
                CandidatePrompts.of_level(context, DedupStore(store)), store, ids=ids[k] if ids else IdAllocator()
            )
            for k, (context, store) in enumerate(zip(self.contexts, self.stores, strict=True))
        ]

    def run(self) -> list[TrackingArtifacts]:
        MaskTracker(self.predictor, self.scene.frames, self.levels, self.settings).run()
        return [level.result() for level in self.levels]

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        for store in self.stores:
            store.close()


def contexts(
    root: Path,
    run: Path,
    scene: ToyScene = DRIFTING,
    levels: Iterable[int] = CANDIDATE_FRAMES,
    settings: TrackingSettings = NEAR,
) -> list[PipelineContext]:
    return [build_pipeline_context(root, Level(n), scene.frames, RunPaths(run), settings) for n in levels]


# --- levels that share a batch ---------------------------------------------------------------------------------------


def test_a_frame_on_which_a_level_found_nothing(tmp_path: Path) -> None:
    root = tmp_path / "candidates"
    propose(root, 2, {2: "ab"})
    propose(root, 4, {2: "", 3: "d"})
    predictor = BoundedPredictor()
    result = track(root, tmp_path / "run", predictor)
    assert predictor.session.objects_moved == [2, 1]
    assert [level.counts["candidate_frames"] for level in result.summary.levels.values()] == [1, 2]


def test_levels_go_through_the_frames_once(candidates: Path, tmp_path: Path) -> None:
    predictor = BoundedPredictor()
    track(candidates, tmp_path / "run", predictor)
    assert predictor.session.objects_moved == [5, 1]
    assert [start for call, start in predictor.session.calls if call == "forget_objects"] == [2, 3]


def test_each_level_gets_its_own_objects(candidates: Path, tmp_path: Path) -> None:
    """The same object of two levels is two objects, each with its level's number."""
    result = track(candidates, tmp_path / "run")
    expected = {2: "abc", 4: "ad", 6: "b"}
    first = 1
    for level, letters in expected.items():
        tracks = result.tracks(Level(level))
        assert sorted(set(tracks.track_id.tolist())) == list(range(first, first + len(letters)))
        for k, letter in enumerate(letters):
            masks = tracks.masks[tracks.track_id == first + k] if tracks.masks is not None else None
            assert masks is not None
            assert len(masks) == len(STILL.labels)
            assert all(np.array_equal(mask, STILL.mask(0, letter)) for mask in masks.to_bool())
        first += len(letters)


def test_files_are_those_of_levels_alone(candidates: Path, tmp_path: Path) -> None:
    """Of the first level to the last byte; those after it count on."""
    track(candidates, tmp_path / "run")
    track(candidates, tmp_path / "alone", levels=[2])
    for path in (tmp_path / "alone" / "level_2" / "tracking").iterdir():
        assert path.read_bytes() == (tmp_path / "run" / "level_2" / "tracking" / path.name).read_bytes()


def test_counters_and_time_are_divided_and_nothing_is_lost(
    candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that is one second further at each call."""
    ticks = count()
    monkeypatch.setattr("trackweave.progress.time.perf_counter", lambda: float(next(ticks)))
    result = track(candidates, tmp_path / "run")
    fingerprint = RunManifest.load(result.paths.manifest).fingerprint
    assert fingerprint is not None
    records = {level: LevelRecord.read(result.paths.journal(level), fingerprint) for level in result.levels}
    visits = len(STILL.labels) + 1  # the prompt frame is visited both ways
    assert {level: dict(record.counters) for level, record in records.items() if record is not None} == {
        2: {"encoder_passes": 5, "object_frames": 3 * visits},
        4: {"encoder_passes": 0, "object_frames": 2 * visits},
        6: {"encoder_passes": 0, "object_frames": visits},
    }
    assert result.summary.counters == {"encoder_passes": 5, "object_frames": 6 * visits}
    seconds = {level: stats.durations["track.predictor"] for level, stats in result.summary.levels.items()}
    asked = visits + 2  # each direction is asked once more to learn that it is over
    assert seconds == {2: pytest.approx(asked * 3 / 5), 4: pytest.approx(asked * 2 / 5), 6: pytest.approx(asked)}
    packed = {level: stats.durations["track.pack"] for level, stats in result.summary.levels.items()}
    assert packed == {2: pytest.approx(3.0), 4: pytest.approx(2.0), 6: pytest.approx(5.0)}


@given(
    st.dictionaries(st.sampled_from(["object_frames", "encoder_passes", "model_calls"]), st.integers(0, 10**6)),
    st.lists(st.integers(0, 500), min_size=1, max_size=6),
    st.data(),
)
def test_shares_add_up(counters: dict[str, int], counts: list[int], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(counts) - 1))
    shares = divide_counters(counters, counts, first)
    assert {name: sum(share[name] for share in shares) for name in counters} == counters
    assert all(value >= 0 for share in shares for value in share.values())
    if sum(counts):
        idle = [share for share, n in zip(shares, counts, strict=True) if not n]
        assert all(share.get("object_frames", 0) == 0 for share in idle)


class Prompted(BoundedPredictor):
    """Remembers the object ids that its session is prompted with, by frame."""

    def __init__(self) -> None:
        super().__init__()
        self.object_ids: dict[int, list[int]] = {}

    def open(self, frames: FrameSource) -> BoundedSession:
        session = super().open(frames)
        add_mask = session.add_mask

        def remember(frame: int, obj_id: int, mask: PackedMasks) -> None:
            self.object_ids.setdefault(frame, []).append(obj_id)
            add_mask(frame, obj_id, mask)

        session.add_mask = remember  # type: ignore[method-assign,assignment]
        return session


def test_object_ids_in_the_session_are_unique(tmp_path: Path) -> None:
    """A level on its own keeps its ids there; one that comes after others counts above them, and no further."""
    propose(tmp_path, 2, {1: "ab", 3: "ab"})
    propose(tmp_path, 4, {1: "ab", 3: "abd"})
    predictor = Prompted()
    with Engine(tmp_path, [2, 4], predictor, ids=[IdAllocator(7), IdAllocator(2)]) as engine:
        high, low = engine.run()
        assert predictor.object_ids == {1: [7, 8, 9, 10], 3: [4]}  # on frame 3 nothing of level 2 needs an offset
        assert [list(next(store.iter_frames()).track_id) for store in engine.stores] == [[7, 8], [2, 3, 4]]
    assert high.prompt_types == {TrackId(7): "mask", TrackId(8): "mask"}
    assert low.objects == [2, 3, 4]


def test_a_frame_without_anything_new_moves_nothing(tmp_path: Path) -> None:
    propose(tmp_path, 2, {1: "ab", 2: "ab"})
    predictor = BoundedPredictor()
    with Engine(tmp_path, [2], predictor) as engine:
        (artifacts,) = engine.run()
        assert predictor.session.objects_moved == [2]
        assert [record.local for record in engine.levels[0].records] == [1, 2]
    assert artifacts.counters["object_frames"] == 2 * (len(STILL.labels) + 1)


def test_what_is_not_divided_goes_to_the_first_with_an_object(tmp_path: Path) -> None:
    """On frame 2 the first level has seen everything before."""
    propose(tmp_path, 2, {1: "ab", 2: "ab"})
    propose(tmp_path, 4, {2: "ab"})

    def forget_features(done: int) -> None:
        if done == 12:  # before the second batch
            predictor.session.said = [RunWarning("predictor", None, "halved", "to 1")]
            predictor.session._kept.clear()

    predictor = BoundedPredictor(on_visit=forget_features)
    with Engine(tmp_path, [2, 4], predictor) as engine:
        first, second = engine.run()
    assert first.counters["encoder_passes"] == second.counters["encoder_passes"] == len(STILL.labels)
    assert (first.warnings, second.warnings) == ([], [(2, predictor.session.said)])


def test_warnings_are_logged_when_they_change(tmp_path: Path) -> None:
    """Each time all of them: a session may reword what it said under the same code."""
    propose(tmp_path, 2, {0: "a", 1: "b", 2: "c", 3: "d"})
    says = {6: "no device", 18: "still no device"}  # six predictions per batch

    def say(done: int) -> None:
        if done in says:
            predictor.session.said = [RunWarning("predictor", None, "slow", says[done])]

    predictor = BoundedPredictor(on_visit=say)
    with Engine(tmp_path, [2], predictor) as engine:
        (artifacts,) = engine.run()
    assert [(local, [warning.message for warning in said]) for local, said in artifacts.warnings] == [
        (1, ["no device"]), (3, ["still no device"]),
    ]  # fmt: skip


# --- time first, then levels -----------------------------------------------------------------------------------------


@pytest.fixture
def drifting_candidates(tmp_path: Path) -> Path:
    for level, frames in CANDIDATE_FRAMES.items():
        candidates_of(DRIFTING, tmp_path / "candidates", frames, level=level)
    return tmp_path / "candidates"


def track_drifting(
    candidates: Path, run: Path, predictor: BoundedPredictor, settings: TrackingSettings = NEAR
) -> Run[MaskSummary]:
    return track_masks(DRIFTING.frames, run, candidates=candidates, predictor=predictor, settings=settings)


def test_every_frame_is_encoded_once_with_capacity_for_one_window(drifting_candidates: Path, tmp_path: Path) -> None:
    """N=40, K=20, L=3, P=8, capacity for 2P+1 = 17 frames."""
    predictor = BoundedPredictor(capacity=2 * REACH + 1)
    result = track_drifting(drifting_candidates, tmp_path / "run", predictor)
    assert predictor.session.encoded == list(range(LENGTH))
    assert result.summary.counters["encoder_passes"] == LENGTH
    assert (result.summary.totals["prompts"] or 0) > 3 * 20  # every level goes on finding new objects


def test_one_level_after_the_other_would_encode_most_frames_again(drifting_candidates: Path, tmp_path: Path) -> None:
    """The measure can fail: why the levels advance together."""
    predictor = BoundedPredictor(capacity=2 * REACH + 1)
    session = predictor.open(DRIFTING.frames)
    run, ids = RunPaths(tmp_path / "run"), IdAllocator()
    counted = 0.0
    for level in CANDIDATE_FRAMES:
        alone = run_level_tracking(
            Level(level), predictor, candidates_root=drifting_candidates, frames=DRIFTING.frames, run=run,
            settings=NEAR, session=session, ids=ids,
        )  # fmt: skip
        counted += alone.artifacts.counters["encoder_passes"]
    assert len(session.encoded) > 2 * LENGTH
    assert counted == len(session.encoded)  # each level counts what it caused, not what the session did before


def test_results_are_those_of_one_level_after_the_other(drifting_candidates: Path, tmp_path: Path) -> None:
    """Ids too: each level's follow the level before."""
    track_drifting(drifting_candidates, tmp_path / "run", BoundedPredictor())
    run, ids = RunPaths(tmp_path / "apart"), IdAllocator()
    for level in CANDIDATE_FRAMES:
        first = ids.next_id
        alone = run_level_tracking(
            Level(level), BoundedPredictor(), candidates_root=drifting_candidates, frames=DRIFTING.frames, run=run,
            settings=NEAR, ids=ids,
        )  # fmt: skip
        assert min(alone.artifacts.objects) == first
        for name in alone.files.values():
            assert (tmp_path / "run" / name).read_bytes() == (run.root / name).read_bytes(), name


def test_time_first_then_levels_and_nothing_is_reset(drifting_candidates: Path, tmp_path: Path) -> None:
    predictor = BoundedPredictor()
    track_drifting(drifting_candidates, tmp_path / "run", predictor)
    calls = predictor.session.calls
    starts = [start for call, start in calls if call == "forward"]
    assert starts == sorted(starts)
    assert len(starts) == len(set(starts))  # levels 2 and 6 on one frame: one batch
    assert [start for call, start in calls if call == "backward"] == starts
    assert [start for call, start in calls if call == "forget_objects"] == starts
    assert ("reset", 0) not in calls
    assert predictor.session.most_objects == 0  # only the batch under way is known
    released = [before for call, before in calls if call == "release_frames_before"]
    assert released == sorted(released)
    assert set(released) == set(range(1, LENGTH - REACH))
    for position, (call, before) in enumerate(calls):
        if call == "release_frames_before":  # all that follows stays above it
            assert all(start - REACH >= before for later, start in calls[position:] if later == "forward")


def test_frames_are_released_between_batches_only(tmp_path: Path) -> None:
    candidates_of(DRIFTING, tmp_path, [0, 3, 9], level=2)
    candidates_of(DRIFTING, tmp_path, [3], level=4)
    predictor = BoundedPredictor()
    settings = TrackingSettings(max_propagate=2)
    with Engine(tmp_path, [2, 4], predictor, scene=DRIFTING, settings=settings) as engine:
        engine.run()
    batch = ["forward", "backward", "forget_objects"]
    assert predictor.session.calls == [
        *[(call, 0) for call in batch],
        ("release_frames_before", 1), *[(call, 3) for call in batch],
        ("release_frames_before", 7), *[(call, 9) for call in batch],
    ]  # fmt: skip


def test_without_a_reach_nothing_is_released(drifting_candidates: Path, tmp_path: Path) -> None:
    predictor = BoundedPredictor()
    track_drifting(drifting_candidates, tmp_path / "run", predictor, PLAIN)
    assert "release_frames_before" not in {call for call, _ in predictor.session.calls}
    assert predictor.session.encoded == list(range(LENGTH))


def test_a_level_alone_releases_frames_of_its_own_session_only(drifting_candidates: Path, tmp_path: Path) -> None:
    predictor = BoundedPredictor(capacity=2 * REACH + 1)
    shared = predictor.open(DRIFTING.frames)
    for session in (None, shared):
        run_level_tracking(
            Level(2), predictor, candidates_root=drifting_candidates, frames=DRIFTING.frames,
            run=RunPaths(tmp_path / "run"), settings=NEAR, session=session,
        )  # fmt: skip
    own = predictor.sessions[1]
    assert own.encoded == list(range(LENGTH))
    assert "release_frames_before" in {call for call, _ in own.calls}
    assert "release_frames_before" not in {call for call, _ in shared.calls}


def test_levels_do_not_see_each_others_masks(drifting_candidates: Path, tmp_path: Path) -> None:
    """Levels 2 and 6 have the same candidates: each tracks them all."""
    result = track_drifting(drifting_candidates, tmp_path / "run", BoundedPredictor())
    counts = {int(level): stats.counts["prompts"] for level, stats in result.summary.levels.items()}
    assert counts[2] == counts[6] > 0


def test_nothing_due_opens_no_session(drifting_candidates: Path, tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "run")
    prompted = []
    for due in (3 * 20, 0):
        predictor = BoundedPredictor()
        with ExitStack() as stack:
            levels = []
            for ready in contexts(drifting_candidates, run.root):
                journal = ResultJournal(run.finished_batches(ready.level), "k")
                store = stack.enter_context(FrameResultStore(journal=journal))
                levels.append(TrackedLevel(CandidatePrompts.of_level(ready, DedupStore(store)), store))
            tracker = MaskTracker(predictor, DRIFTING.frames, levels, NEAR)
            assert tracker.pending_count == due
            tracker.run()
            assert tracker.pending_count == 0
            assert len(predictor.sessions) == (due > 0)
            prompted.append([level.object_count for level in levels])
    assert prompted[0] == prompted[1]
    assert prompted[0][0] == prompted[0][2]


def test_a_session_is_closed_when_a_batch_fails(drifting_candidates: Path, tmp_path: Path) -> None:
    closed: list[bool] = []

    def fail(done: int) -> None:
        raise PredictorError("out of luck")

    class Closing(BoundedPredictor):
        def open(self, frames: FrameSource) -> BoundedSession:
            session = super().open(frames)
            session.close = lambda: closed.append(True)  # type: ignore[method-assign]
            return session

    with pytest.raises(PredictorError, match=r"^out of luck$"):  # nothing is finished: nothing is said of going on
        track_drifting(drifting_candidates, tmp_path / "run", Closing(on_visit=fail))
    assert closed == [True]


def test_the_display_counts_objects_on_frames_of_all_levels(candidates: Path, tmp_path: Path) -> None:
    shown: list[tuple[int, int, str]] = []
    run = track_masks(
        STILL.frames, tmp_path / "run", candidates=candidates, predictor=BoundedPredictor(), settings=PLAIN,
        progress=lambda *step: shown.append(step),
    )  # fmt: skip
    counts = [(done, total) for done, total, label in shown if label == "levels 2, 4, 6"]
    assert {label for _, _, label in shown} >= {"looking for cuts", "levels 2, 4, 6"}
    objects = int(run.summary.totals["objects"] or 0)
    assert counts[-1] == (objects * len(STILL.labels), objects * len(STILL.labels))
    assert counts == sorted(counts)
    assert all(done <= total for done, total in counts)


def test_objects_that_a_user_marked_are_counted_beforehand(tmp_path: Path) -> None:
    shown: list[tuple[int, int, str]] = []
    first, later = np.zeros((2, *DRIFTING.frames.size), np.int64)
    first[:4, :4], later[:4, 4:8] = 1, 2
    track_masks(
        DRIFTING.frames, tmp_path / "run", prompts={0: first, 3: later}, predictor="static",
        settings=TrackingSettings(max_propagate=2, render_viz=False, cuts="ignore"),
        progress=lambda *step: shown.append(step),
    )  # fmt: skip
    work = 3 + 2 + min(3, len(DRIFTING.labels) - 3)  # from frame 0 onwards; from frame 3 both ways
    counts = [(done, total) for done, total, label in shown if label == "tracking prompts"]
    assert {total for _, total in counts} == {work}
    assert sorted({done for done, _ in counts}) == list(range(1, work + 1))


class Shown:
    """A display that keeps what it is to expect."""

    def __init__(self, total: int) -> None:
        self.expected: list[tuple[int, bool]] = [(total, True)]

    def expect(self, total: int, *, is_known: bool = True) -> None:
        self.expected.append((total, is_known))

    def update(self, index: int, abs_frame: int) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


class SomeNew:
    """So many new objects on each of a level's frames, which shows only there."""

    sizes = None

    def __init__(self, new: Mapping[int, int]) -> None:
        self._new = new
        self.positions = [LocalIndex(local) for local in new]

    def frames(self) -> Iterator[MarkedFrame]:
        return (MarkedFrame(local, [TrackId(0)] * self._new[local]) for local in self.positions)

    def prompt(
        self, frame: MarkedFrame, session: PredictorSession, ids: IdAllocator, above: int, timer: TimingAggregator
    ) -> tuple[BatchRecord, int]:
        taken = ids.take(len(frame.ids))
        for track_id in taken:
            session.add_box(frame.local, track_id, np.array([0, 0, 4, 4], np.float32))
        types: dict[TrackId, PromptType] = dict.fromkeys(taken, "box")
        return BatchRecord(frame.local, FrameIndex(frame.local), "", DedupStats(), types), 0


def test_what_is_still_to_come_is_estimated_by_what_came(store: FrameResultStore) -> None:
    frames = ArrayFrames(np.zeros((8, 16, 16, 3), np.uint8))
    level = TrackedLevel(SomeNew({0: 3, 2: 1, 3: 2, 4: 4, 6: 0}), store)
    display = Shown(0)
    tracker = MaskTracker(BoundedPredictor(), frames, [level], TrackingSettings(), cuts=[LocalIndex(4)])
    tracker.run(lambda total: display)
    # Two shots of four frames. Known at first: 3 · 4; then, with as many new objects in the other shot: 3 · 8, …
    assert display.expected[1:] == [
        (12, False), (24, False),  # frame 0 begins, and is finished
        (28, False), (4 * (3 + 1 + 1 + 3 + 1), False),
        (4 * (3 + 1 + 2 + 3) + 4 * 1, False), (4 * (3 + 1 + 2 + 3) + 6, False),
        (4 * (3 + 1 + 2 + 4) + 6, False), (4 * (3 + 1 + 2 + 4) + 6, False),
        (40, True), (40, True),
    ]  # fmt: skip


# --- a user's label images -------------------------------------------------------------------------------------------


@pytest.fixture
def store() -> Iterator[FrameResultStore]:
    with FrameResultStore() as opened:
        yield opened


def track_labels(
    labels: dict[int, NDArray[np.int64]],
    store: FrameResultStore,
    predictor: BoundedPredictor,
    scene: ToyScene,
    settings: TrackingSettings,
) -> TrackingArtifacts:
    source = LabelPrompts({LocalIndex(local): values for local, values in labels.items()}, scene.frames)
    level = TrackedLevel(source, store)
    MaskTracker(predictor, scene.frames, [level], settings).run()
    return level.result()


def test_label_images_go_the_same_way(store: FrameResultStore) -> None:
    """Object 1 is marked again on frame 20; object 2 is first marked there."""
    a, both = DRIFTING.mask(0, "a"), DRIFTING.labels[20] * (DRIFTING.labels[20] <= 2)
    predictor = BoundedPredictor(capacity=2 * REACH + 1)
    artifacts = track_labels({20: both, 0: a * 1, 30: a * 3}, store, predictor, DRIFTING, NEAR)
    assert artifacts.prompt_frames == {1: 0, 2: 20, 3: 30}
    assert artifacts.prompt_types == dict.fromkeys([1, 2, 3], "mask")
    assert artifacts.dedup.candidates == artifacts.dedup.prompts == 3
    assert store.emitted_frames() == [*range(9), *range(12, 39)]
    calls = predictor.session.calls
    assert [start for call, start in calls if call == "forget_objects"] == [0, 20, 30]
    assert [before for call, before in calls if call == "release_frames_before"] == [12, 22]
    assert predictor.session.most_objects == 0
    assert len(predictor.session.encoded) == len(set(predictor.session.encoded))


def test_marked_objects_keep_their_ids_and_are_re_anchored(store: FrameResultStore) -> None:
    """Ids are label values, whatever their order; the second mask of an object counts, not a copy of the first."""
    labels = {0: STILL.mask(0, "a") * 7, 2: STILL.mask(2, "c") * 7 + STILL.mask(2, "b") * 3}
    artifacts = track_labels(labels, store, BoundedPredictor(), STILL, PLAIN)
    tracks = Tracks.from_frames(store.iter_frames())
    assert artifacts.objects == [3, 7]
    assert artifacts.prompt_frames == {7: 0, 3: 2}
    seven = tracks.of(7)
    assert seven.frame.tolist() == [0, 1, 2, 3, 4]
    assert seven.masks is not None
    letters = [next(c for c in "abcd" if np.array_equal(mask, STILL.mask(0, c))) for mask in seven.masks.to_bool()]
    assert letters == ["a", "a", "c", "c", "c"]


def test_labels_and_candidates_may_share_a_session(tmp_path: Path) -> None:
    """Levels of either kind have the same offset."""
    propose(tmp_path, 2, {1: "ab"})
    predictor = Prompted()
    with Engine(tmp_path, [2], predictor) as engine, FrameResultStore() as store:
        marked = TrackedLevel(LabelPrompts({LocalIndex(1): STILL.mask(1, "d") * 2}, STILL.frames), store)
        engine.levels.append(marked)
        engine.run()
        assert predictor.object_ids == {1: [1, 2, 3]}
        assert [list(frame.track_id) for frame in store.iter_frames()] == [[2]] * len(STILL.labels)
        assert marked.result().objects == [2]
