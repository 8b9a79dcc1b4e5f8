from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.mot.worlds import HIGH, BoxWorld, Witness, distinct, follow, walk
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
    made = AppearanceMemory(prototypes)
    made.set_width(width)
    made.reorder(np.full(tracks, -1))
    return made


def teach(made: AppearanceMemory, *looks: Any, row: int = 0) -> None:
    for look in looks:
        made.learn(np.array([row]), np.array([look], np.float32), np.array([True]))


class PlainMemory:
    """The same as lists of looks, a list for every track."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tracks: list[dict[str, Any]] = []

    def reorder(self, source: list[int]) -> None:
        fresh: list[dict[str, Any]] = []
        for row in source:
            old: dict[str, Any] = self.tracks[row] if row >= 0 else {"looks": [], "uses": [], "frozen": 0}
            fresh.append({**old, "frozen": max(0, old["frozen"] - 1)})
        self.tracks = fresh

    def learn(self, row: int, look: Array) -> None:
        track = self.tracks[row]
        if track["frozen"]:
            return
        cosines = [float(one @ look) for one in track["looks"]]
        if cosines and max(cosines) >= SAME_APPEARANCE:
            k = int(np.argmax(cosines))
            mixed = (1 - LEARNING_RATE) * track["looks"][k] + LEARNING_RATE * look
            track["looks"][k] = mixed / np.linalg.norm(mixed)
            track["uses"][k] += 1
        elif len(track["looks"]) < self.most:
            track["looks"].append(look)
            track["uses"].append(1)
        else:
            k = int(np.argmin(track["uses"]))
            track["looks"][k], track["uses"][k] = look, 1


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_tracks_that_begin_and_end_as_with_lists(seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    made, plain = AppearanceMemory(most), PlainMemory(most)
    for _ in range(40):
        n = len(plain.tracks)
        survivors = np.flatnonzero(rng.random(n) < 0.85)
        source = np.concatenate([survivors, np.full(rng.integers(0, 3), -1)]).astype(np.int64)
        made.reorder(source)
        plain.reorder(source.tolist())
        made.set_width(4)
        n = len(source)
        assert len(made) == n
        rows = rng.permutation(n)[: rng.integers(0, n + 1)]
        looks = np.array([unit(*vector) for vector in rng.uniform(0, 1, (len(rows), 4))], np.float32).reshape(-1, 4)
        trusted = rng.random(len(rows)) < 0.7
        made.learn(rows, looks, trusted)
        for row, look, sure in zip(rows.tolist(), looks, trusted.tolist(), strict=True):
            if sure:
                plain.learn(row, look)
        doubtful = np.flatnonzero(rng.random(n) < 0.1)
        made.freeze(doubtful, 3)
        for row in doubtful.tolist():
            plain.tracks[row]["frozen"] = 3
        asked = np.array([unit(*vector) for vector in rng.uniform(-1, 1, (5, 4))], np.float32)
        expected = np.full((n, 5), np.nan)
        best = np.zeros((n, 4))
        for row, track in enumerate(plain.tracks):
            if track["looks"]:
                expected[row] = (np.array(track["looks"]) @ asked.T).max(axis=0)
                best[row] = track["looks"][int(np.argmax(track["uses"]))]
        np.testing.assert_allclose(made.cosine(asked), expected, atol=1e-5)
        np.testing.assert_allclose(made.best(), best, atol=1e-5)


def test_an_embedding_refines_its_nearest_prototype_or_becomes_one() -> None:
    made = memory()
    teach(made, E1, unit(1, 0.1, 0), E2)
    assert made._uses[0].tolist() == [2, 1, 0]
    np.testing.assert_allclose(np.linalg.norm(made._vectors[0, :2], axis=1), 1, rtol=1e-5)
    assert 0 < made._vectors[0, 0, 1] < 0.05  # it followed, a little
    np.testing.assert_array_equal(made._vectors[0, 1], E2)
    assert made.cosine(np.stack([E1, E2, E3])).round(2).tolist() == [[1, 1, 0]]
    np.testing.assert_array_equal(made.best()[0], made._vectors[0, 0])


def test_the_prototype_used_least_is_replaced() -> None:
    made = memory(prototypes=2)
    teach(made, E1, E1, E2, E3)
    assert made.cosine(np.stack([E1, E2, E3])).tolist() == [[1, 0, 1]]


def test_what_is_not_trusted_or_not_described_teaches_nothing() -> None:
    made = memory(2)
    made.learn(np.array([0, 1]), np.stack([E1, np.zeros(3, np.float32)]), np.array([False, True]))
    assert np.isnan(made.cosine(np.stack([E1]))).all()
    assert made.best().tolist() == [[0, 0, 0]] * 2


def test_without_an_embedding_there_is_no_cosine() -> None:
    made = memory(2)
    teach(made, E1)
    cosine = made.cosine(np.stack([E1, np.zeros(3, np.float32)]))
    np.testing.assert_array_equal(cosine, [[1, np.nan], [np.nan, np.nan]])
    assert made.cosine(np.zeros((0, 3), np.float32)).shape == (2, 0)
    assert memory(0).cosine(np.stack([E1])).shape == (0, 1)
    assert AppearanceMemory(3).cosine(np.stack([E1])).shape == (0, 1)


def test_a_frozen_track_learns_nothing_for_a_while() -> None:
    made = memory()
    made.freeze(np.array([0]), 2)
    for _ in range(2):
        teach(made, E1)
        assert np.isnan(made.cosine(np.stack([E1]))).all()
        made.reorder(np.array([0]))
    teach(made, E1)
    assert made.cosine(np.stack([E1])).tolist() == [[1]]


def test_the_width_is_set_once() -> None:
    made = memory(width=3)
    made.set_width(3)
    with pytest.raises(ValueError, match="embeddings were 3 wide and are now 4"):
        made.set_width(4)


@given(st.lists(st.floats(-1, 1), max_size=5), st.lists(st.floats(-1, 1), max_size=5), st.floats(-1, 1))
def test_costs_are_in_the_scale_of_the_stream(same: list[float], other: list[float], cosine: float) -> None:
    made = memory()
    for _ in range(50):
        made.calibrate(np.array(same, np.float32), np.array(other, np.float32))
    cost = made.cost(np.array([[cosine, made.same, -1.0 if made.same > -0.9 else np.nan, np.nan]], np.float32))
    assert 0 <= cost[0, 0] <= 1
    assert cost[0, 1] == pytest.approx(0, abs=1e-5)
    assert np.isnan(cost[0, 3])
    if made.same - made.other > 0.05:
        assert made.cost(np.array([[made.other]], np.float32))[0, 0] == pytest.approx(1, abs=1e-5)


def test_the_scale_follows_the_means() -> None:
    made = memory()
    for _ in range(400):
        made.calibrate(np.array([0.5, 0.7], np.float32), np.array([0.1], np.float32))
    assert made.same == pytest.approx(0.6, abs=0.01)
    assert made.other == pytest.approx(0.1, abs=0.01)
    before = made.same, made.other
    made.calibrate(np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert (made.same, made.other) == before


# --- in the tracker -----------------------------------------------------------------------------------------------

SETTINGS = preset("adaptive", appearance_memory=True)


def looks_of(tracker: Tracker) -> Array:
    assert tracker._memory is not None
    return tracker._memory.best()


def one(look: Any, *, score: float = HIGH, visibility: float = 1.0, x: float = 0) -> Detections:
    return Detections.of([[x, 0, x + 40, 80]], [score], embedding=[look], visibility=[visibility])


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
def test_a_detection_that_another_wanted_teaches_nothing(gap: float, learned: bool) -> None:
    """Two detections `gap` pixels apart, on two tracks that stood as close."""
    tracker = Tracker(preset("adaptive", appearance_memory=True, appearance_weight=0))
    boxes = [[0, 0, 40, 80], [gap, 0, gap + 40, 80]]
    tracker.update(Detections.of(boxes, [0.9, 0.9], embedding=[E1, E2]), 0)
    tracker.update(Detections.of(boxes, [0.9, 0.9], embedding=[E3, E3]), 1)
    assert tracker._memory is not None
    assert (tracker._memory.cosine(E3[None]) == 1).all() == learned


def suspected(witness: Witness) -> list[int]:
    suspects = witness.states[-1].suspect_tracks
    assert suspects is not None
    return [int(track) for track in suspects]


def test_a_suspected_switch_stops_learning() -> None:
    """Two pass each other and have changed their looks: both are frozen, and forget nothing for it."""
    settings_ = preset("adaptive", appearance_memory=True, appearance_weight=0, diagnostics=True)
    tracker, witness = Tracker(settings_), Witness()
    tracker._observer = witness
    frames = 60
    for frame in range(frames):
        looks = (E1, E2) if frame < 20 else (E2, E1)
        boxes = [[4 * frame, 0, 4 * frame + 32, 64], [156 - 4 * frame, 0, 188 - 4 * frame, 64]]
        tracker.update(Detections.of(boxes, [0.9, 0.9], embedding=looks), frame)
        if suspected(witness):
            break
    assert suspected(witness) == [1, 2]
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


def test_looks_are_forgotten_with_their_track() -> None:
    tracker = Tracker(preset("adaptive", appearance_memory=True, lost_seconds=0.1))
    for frame in range(4):
        found = Detections.of([[0, 0, 40, 80], [200, 0, 240, 80], [400, 0, 440, 80]], embedding=[E1, E2, E3])
        tracker.update(found, frame)
    assert looks_of(tracker).tolist() == [E1.tolist(), E2.tolist(), E3.tolist()]
    for frame in range(4, 15):
        found = Detections.of([[0, 0, 40, 80], [400, 0, 440, 80]], embedding=[E1, E3])
        tracker.update(found, frame)
    assert looks_of(tracker).tolist() == [E1.tolist(), E3.tolist()]
    assert tracker._memory is not None
    assert tracker._memory.cosine(np.stack([E1, E2, E3])).tolist() == [[1, 0, 0], [0, 0, 1]]
    tracker.update(Detections.of([[200, 0, 240, 80], [400, 0, 440, 80]], embedding=[E1, E3]), 15)
    tracker.reset()
    assert tracker._memory is not None
    assert len(tracker._memory) == 0


def meeting() -> BoxWorld:
    """Two of one size meet, stand together unseen for four frames, and turn round: motion says that they went on."""
    there = [(("A", 2.0 * k, 0.0, HIGH), ("B", 80 - 2.0 * k, 0.0, HIGH)) for k in range(20)]
    back = [(("A", 38 - 2.0 * k, 0.0, HIGH), ("B", 42 + 2.0 * k, 0.0, HIGH)) for k in range(20)]
    return BoxWorld((*there, *((),) * 4, *back))


def test_looks_decide_where_motion_misleads() -> None:
    looks = {"A": (1.0, 0.1, 0.0), "B": (0.1, 1.0, 0.0)}
    plain = follow(Tracker(), meeting(), looks=looks)
    assert distinct(plain["A"]) == [1, 2]
    assert distinct(plain["B"]) == [2, 1]
    seen = follow(Tracker(SETTINGS), meeting(), looks=looks)
    assert distinct(seen["A"]) == [1]
    assert distinct(seen["B"]) == [2]
    same = follow(Tracker(SETTINGS), meeting(), looks={"A": (1.0, 0, 0), "B": (1.0, 0, 0)})
    assert distinct(same["A"]) == [1, 2]


def test_a_look_never_vetoes() -> None:
    """Alone inside the gate: a match, however different."""
    for weight in (0.3, 1.0):
        tracker = Tracker(preset("adaptive", appearance_memory=True, appearance_weight=weight))
        for frame, look in enumerate((E1, E1, -E1, E2, -E2, E3)):
            found = tracker.update(one(look, x=3 * frame), frame)
            assert found.track_id is not None
            assert found.track_id.tolist() == [1]


def test_a_look_opens_no_gate() -> None:
    tracker = Tracker(preset("adaptive", appearance_memory=True, appearance_weight=1.0))
    tracker.update(one(E1), 0)
    found = tracker.update(one(E1, x=300), 1)
    assert found.track_id is not None
    assert found.track_id.tolist() == [2]


def test_without_looks_all_is_as_without_memory() -> None:
    scene = meeting()
    for looks in (None, {"A": (0.0, 0, 0), "B": (0.0, 0, 0)}):
        assert follow(Tracker(SETTINGS), scene, looks=looks) == follow(Tracker(), scene)


def test_observers_are_shown_the_best_look() -> None:
    witness = Witness()
    tracker = Tracker(SETTINGS, observer=witness)
    follow(tracker, walk(3), looks=None)
    assert witness.states[2].track_embeddings is None
    for frame, expected in ((3, [[0, 0, 0]]), (4, [E1.tolist()])):
        tracker.update(one(2 * E1, x=4 * frame), frame)
        shown = witness.states[-1].track_embeddings
        assert shown is not None
        assert shown.tolist() == expected
