from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.toy_boxes import HIGH, BoxScene, StateRecorder, distinct, track_scene, walk
from trackweave.mot.appearance import LEARNING_RATE, SAME_APPEARANCE, AppearanceMemory
from trackweave.mot.settings import preset
from trackweave.mot.tracker import DOUBT_FRAMES, Tracker
from trackweave.structures.detections import Detections

Array = NDArray[np.float32]
E1, E2, E3 = np.eye(3, dtype=np.float32)


def unit(*values: float) -> Array:
    vector = np.array(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def memory(tracks: int = 1, prototypes: int = 3, width: int = 3) -> AppearanceMemory:
    memory_ = AppearanceMemory(prototypes)
    memory_.set_width(width)
    memory_.reorder(np.full(tracks, -1))
    return memory_


def teach(memory_: AppearanceMemory, *embeddings: Any, row: int = 0) -> None:
    for embedding in embeddings:
        memory_.learn(np.array([row]), np.array([embedding], np.float32), np.array([True]))


class PlainMemory:
    """The same as lists of embeddings, a list for every track."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tracks: list[dict[str, Any]] = []

    def reorder(self, source: list[int]) -> None:
        fresh: list[dict[str, Any]] = []
        for row in source:
            old: dict[str, Any] = self.tracks[row] if row >= 0 else {"embeddings": [], "uses": [], "frozen": 0}
            fresh.append({**old, "frozen": max(0, old["frozen"] - 1)})
        self.tracks = fresh

    def learn(self, row: int, embedding: Array) -> None:
        track = self.tracks[row]
        if track["frozen"]:
            return
        cosines = [float(one @ embedding) for one in track["embeddings"]]
        if cosines and max(cosines) >= SAME_APPEARANCE:
            k = int(np.argmax(cosines))
            mixed = (1 - LEARNING_RATE) * track["embeddings"][k] + LEARNING_RATE * embedding
            track["embeddings"][k] = mixed / np.linalg.norm(mixed)
            track["uses"][k] += 1
        elif len(track["embeddings"]) < self.most:
            track["embeddings"].append(embedding)
            track["uses"].append(1)
        else:
            k = int(np.argmin(track["uses"]))
            track["embeddings"][k], track["uses"][k] = embedding, 1


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_tracks_that_begin_and_end_as_with_lists(seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    memory_, plain = AppearanceMemory(most), PlainMemory(most)
    for _ in range(40):
        n = len(plain.tracks)
        survivors = np.flatnonzero(rng.random(n) < 0.85)
        source = np.concatenate([survivors, np.full(rng.integers(0, 3), -1)]).astype(np.int64)
        memory_.reorder(source)
        plain.reorder(source.tolist())
        memory_.set_width(4)
        n = len(source)
        assert len(memory_) == n
        rows = rng.permutation(n)[: rng.integers(0, n + 1)]
        embeddings = np.array([unit(*vector) for vector in rng.uniform(0, 1, (len(rows), 4))], np.float32).reshape(
            -1, 4
        )
        trusted = rng.random(len(rows)) < 0.7
        memory_.learn(rows, embeddings, trusted)
        for row, embedding, sure in zip(rows.tolist(), embeddings, trusted.tolist(), strict=True):
            if sure:
                plain.learn(row, embedding)
        doubtful = np.flatnonzero(rng.random(n) < 0.1)
        memory_.freeze(doubtful, 3)
        for row in doubtful.tolist():
            plain.tracks[row]["frozen"] = 3
        asked = np.array([unit(*vector) for vector in rng.uniform(-1, 1, (5, 4))], np.float32)
        expected = np.full((n, 5), np.nan)
        best = np.zeros((n, 4))
        for row, track in enumerate(plain.tracks):
            if track["embeddings"]:
                expected[row] = (np.array(track["embeddings"]) @ asked.T).max(axis=0)
                best[row] = track["embeddings"][int(np.argmax(track["uses"]))]
        np.testing.assert_allclose(memory_.cosine(asked), expected, atol=1e-5)
        np.testing.assert_allclose(memory_.best(), best, atol=1e-5)


def test_an_embedding_refines_its_nearest_prototype_or_becomes_one() -> None:
    memory_ = memory()
    teach(memory_, E1, unit(1, 0.1, 0), E2)
    assert memory_._uses[0].tolist() == [2, 1, 0]
    np.testing.assert_allclose(np.linalg.norm(memory_._vectors[0, :2], axis=1), 1, rtol=1e-5)
    assert 0 < memory_._vectors[0, 0, 1] < 0.05  # it followed, a little
    np.testing.assert_array_equal(memory_._vectors[0, 1], E2)
    assert memory_.cosine(np.stack([E1, E2, E3])).round(2).tolist() == [[1, 1, 0]]
    np.testing.assert_array_equal(memory_.best()[0], memory_._vectors[0, 0])


def test_the_prototype_used_least_is_replaced() -> None:
    memory_ = memory(prototypes=2)
    teach(memory_, E1, E1, E2, E3)
    assert memory_.cosine(np.stack([E1, E2, E3])).tolist() == [[1, 0, 1]]


def test_what_is_not_trusted_or_not_described_teaches_nothing() -> None:
    memory_ = memory(2)
    memory_.learn(np.array([0, 1]), np.stack([E1, np.zeros(3, np.float32)]), np.array([False, True]))
    assert np.isnan(memory_.cosine(np.stack([E1]))).all()
    assert memory_.best().tolist() == [[0, 0, 0]] * 2


def test_without_an_embedding_there_is_no_cosine() -> None:
    memory_ = memory(2)
    teach(memory_, E1)
    cosine = memory_.cosine(np.stack([E1, np.zeros(3, np.float32)]))
    np.testing.assert_array_equal(cosine, [[1, np.nan], [np.nan, np.nan]])
    assert memory_.cosine(np.zeros((0, 3), np.float32)).shape == (2, 0)
    assert memory(0).cosine(np.stack([E1])).shape == (0, 1)
    assert AppearanceMemory(3).cosine(np.stack([E1])).shape == (0, 1)


def test_a_frozen_track_learns_nothing_for_a_while() -> None:
    memory_ = memory()
    memory_.freeze(np.array([0]), 2)
    for _ in range(2):
        teach(memory_, E1)
        assert np.isnan(memory_.cosine(np.stack([E1]))).all()
        memory_.reorder(np.array([0]))
    teach(memory_, E1)
    assert memory_.cosine(np.stack([E1])).tolist() == [[1]]


def test_the_width_is_set_once() -> None:
    memory_ = memory(width=3)
    memory_.set_width(3)
    with pytest.raises(ValueError, match="embeddings were 3 wide and are now 4"):
        memory_.set_width(4)


@given(st.lists(st.floats(-1, 1), max_size=5), st.lists(st.floats(-1, 1), max_size=5), st.floats(-1, 1))
def test_costs_are_in_the_scale_of_the_stream(same: list[float], other: list[float], cosine: float) -> None:
    memory_ = memory()
    for _ in range(50):
        memory_.calibrate(np.array(same, np.float32), np.array(other, np.float32))
    cost = memory_.cost(np.array([[cosine, memory_.same, -1.0 if memory_.same > -0.9 else np.nan, np.nan]], np.float32))
    assert 0 <= cost[0, 0] <= 1
    assert cost[0, 1] == pytest.approx(0, abs=1e-5)
    assert np.isnan(cost[0, 3])
    if memory_.same - memory_.other > 0.05:
        assert memory_.cost(np.array([[memory_.other]], np.float32))[0, 0] == pytest.approx(1, abs=1e-5)


def test_the_scale_follows_the_means() -> None:
    memory_ = memory()
    for _ in range(400):
        memory_.calibrate(np.array([0.5, 0.7], np.float32), np.array([0.1], np.float32))
    assert memory_.same == pytest.approx(0.6, abs=0.01)
    assert memory_.other == pytest.approx(0.1, abs=0.01)
    before = memory_.same, memory_.other
    memory_.calibrate(np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert (memory_.same, memory_.other) == before


# --- in the tracker -----------------------------------------------------------------------------------------------

SETTINGS = preset("adaptive", appearance_memory=True)


def prototypes_of(tracker: Tracker) -> Array:
    assert tracker._memory is not None
    return tracker._memory.best()


def one(embedding: Any, *, score: float = HIGH, visibility: float = 1.0, x: float = 0) -> Detections:
    return Detections.of([[x, 0, x + 40, 80]], [score], embedding=[embedding], visibility=[visibility])


@pytest.mark.parametrize(
    ("second", "learned"),
    [({}, True), ({"score": 0.3}, False), ({"visibility": 0.5}, False), ({"visibility": 0.7}, True)],
)
def test_only_sure_and_visible_detections_teach(second: dict[str, float], learned: bool) -> None:
    tracker = Tracker(SETTINGS)
    tracker.update(one(E1), 0)
    tracker.update(one(E2, **second), 1)
    assert tracker._memory is not None
    assert tracker._memory.cosine(E2[None]).tolist() == [[float(learned)]]
    assert tracker._memory.cosine(E1[None]).tolist() == [[1]]


@pytest.mark.parametrize(("gap", "learned"), [(1, False), (30, True)])
def test_an_ambiguous_match_teaches_no_appearance(gap: float, learned: bool) -> None:
    """Two detections `gap` pixels apart, on two tracks that stood as close."""
    tracker = Tracker(preset("adaptive", appearance_memory=True, appearance_weight=0))
    boxes = [[0, 0, 40, 80], [gap, 0, gap + 40, 80]]
    tracker.update(Detections.of(boxes, [0.9, 0.9], embedding=[E1, E2]), 0)
    tracker.update(Detections.of(boxes, [0.9, 0.9], embedding=[E3, E3]), 1)
    assert tracker._memory is not None
    assert (tracker._memory.cosine(E3[None]) == 1).all() == learned


def suspected(recorder: StateRecorder) -> list[int]:
    suspects = recorder.states[-1].suspect_tracks
    assert suspects is not None
    return [int(track) for track in suspects]


def test_a_suspected_switch_stops_learning() -> None:
    """Two pass each other and have exchanged their embeddings: both are frozen, and forget nothing for it."""
    settings_ = preset("adaptive", appearance_memory=True, appearance_weight=0, diagnostics=True)
    tracker, recorder = Tracker(settings_), StateRecorder()
    tracker._observer = recorder
    frames = 60
    for frame in range(frames):
        embeddings = (E1, E2) if frame < 20 else (E2, E1)
        boxes = [[4 * frame, 0, 4 * frame + 32, 64], [156 - 4 * frame, 0, 188 - 4 * frame, 64]]
        tracker.update(Detections.of(boxes, [0.9, 0.9], embedding=embeddings), frame)
        if suspected(recorder):
            break
    assert suspected(recorder) == [1, 2]
    assert tracker._memory is not None
    before = tracker._memory._uses.copy()
    for later in range(frame + 1, frame + 1 + DOUBT_FRAMES + 3):
        boxes = [[4 * later, 0, 4 * later + 32, 64], [156 - 4 * later, 0, 188 - 4 * later, 64]]
        tracker.update(Detections.of(boxes, [0.9, 0.9], embedding=[E3, E3]), later)
        changed = not np.array_equal(tracker._memory._uses, before)
        assert changed == (later - frame >= DOUBT_FRAMES)
        if changed:
            break
    else:
        pytest.fail("learning never went on")


def test_prototypes_are_forgotten_with_their_track() -> None:
    tracker = Tracker(preset("adaptive", appearance_memory=True, lost_seconds=0.1))
    for frame in range(4):
        detections = Detections.of([[0, 0, 40, 80], [200, 0, 240, 80], [400, 0, 440, 80]], embedding=[E1, E2, E3])
        tracker.update(detections, frame)
    assert prototypes_of(tracker).tolist() == [E1.tolist(), E2.tolist(), E3.tolist()]
    for frame in range(4, 15):
        detections = Detections.of([[0, 0, 40, 80], [400, 0, 440, 80]], embedding=[E1, E3])
        tracker.update(detections, frame)
    assert prototypes_of(tracker).tolist() == [E1.tolist(), E3.tolist()]
    assert tracker._memory is not None
    assert tracker._memory.cosine(np.stack([E1, E2, E3])).tolist() == [[1, 0, 0], [0, 0, 1]]
    tracker.update(Detections.of([[200, 0, 240, 80], [400, 0, 440, 80]], embedding=[E1, E3]), 15)
    tracker.reset()
    assert tracker._memory is not None
    assert len(tracker._memory) == 0


def meeting() -> BoxScene:
    """Two of one size meet, stand together unseen for four frames, and turn round: motion says that they went on."""
    there = [(("A", 2.0 * k, 0.0, HIGH), ("B", 80 - 2.0 * k, 0.0, HIGH)) for k in range(20)]
    back = [(("A", 38 - 2.0 * k, 0.0, HIGH), ("B", 42 + 2.0 * k, 0.0, HIGH)) for k in range(20)]
    return BoxScene((*there, *((),) * 4, *back))


def test_appearance_decides_where_motion_misleads() -> None:
    embeddings = {"A": (1.0, 0.1, 0.0), "B": (0.1, 1.0, 0.0)}
    plain = track_scene(Tracker(), meeting(), embeddings=embeddings)
    assert distinct(plain["A"]) == [1, 2]
    assert distinct(plain["B"]) == [2, 1]
    with_memory = track_scene(Tracker(SETTINGS), meeting(), embeddings=embeddings)
    assert distinct(with_memory["A"]) == [1]
    assert distinct(with_memory["B"]) == [2]
    same = track_scene(Tracker(SETTINGS), meeting(), embeddings={"A": (1.0, 0, 0), "B": (1.0, 0, 0)})
    assert distinct(same["A"]) == [1, 2]


def test_appearance_never_forbids_a_match() -> None:
    """Alone inside the gate: a match, however different."""
    for weight in (0.3, 1.0):
        tracker = Tracker(preset("adaptive", appearance_memory=True, appearance_weight=weight))
        for frame, embedding in enumerate((E1, E1, -E1, E2, -E2, E3)):
            tracked = tracker.update(one(embedding, x=3 * frame), frame)
            assert tracked.track_id is not None
            assert tracked.track_id.tolist() == [1]


def test_appearance_opens_no_gate() -> None:
    tracker = Tracker("adaptive", appearance_memory=True, appearance_weight=1.0, initiation_distance=0)
    tracker.update(one(E1), 0)
    tracked = tracker.update(one(E1, x=300), 1)
    assert tracked.track_id is not None
    assert tracked.track_id.tolist() == [2]


def test_without_embeddings_all_is_as_without_memory() -> None:
    scene = meeting()
    for embeddings in (None, {"A": (0.0, 0, 0), "B": (0.0, 0, 0)}):
        assert track_scene(Tracker(SETTINGS), scene, embeddings=embeddings) == track_scene(Tracker(), scene)


def test_states_hold_the_best_prototype() -> None:
    recorder = StateRecorder()
    tracker = Tracker(SETTINGS, observer=recorder)
    track_scene(tracker, walk(3), embeddings=None)
    assert recorder.states[2].track_embeddings is None
    for frame, expected in ((3, [[0, 0, 0]]), (4, [E1.tolist()])):
        tracker.update(one(2 * E1, x=4 * frame), frame)
        embeddings = recorder.states[-1].track_embeddings
        assert embeddings is not None
        assert embeddings.tolist() == expected
