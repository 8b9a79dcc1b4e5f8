"""Confirmation, loss, return and end of tracks, and their class by votes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toy_boxes import HIGH, StateRecorder, combined, distinct, scene_of, track_scene, walk
from trackweave.mot.matching import SECOND_CLASS
from trackweave.mot.settings import PRESETS, TrackerSettings, preset
from trackweave.mot.state import COLUMNS, VOTED, VOTES, FrameContext
from trackweave.mot.track_management import vote
from trackweave.mot.tracker import Tracker
from trackweave.structures.detections import Detections


@given(st.lists(st.tuples(st.integers(-1, VOTES - 2), st.floats(0.1, 1)), min_size=1, max_size=30))
def test_the_class_with_most_score_leads(ballots: list[tuple[int, float]]) -> None:
    track = np.zeros(COLUMNS)
    sums: defaultdict[int, float] = defaultdict(float)
    for class_id, score in ballots:
        leader = int(vote(track, class_id, score))
        sums[class_id] += score
        named = {key: total for key, total in sums.items() if key >= 0} or sums  # -1 is no class
        assert named[leader] == pytest.approx(max(named.values()))


def test_a_new_class_takes_the_place_of_the_weakest() -> None:
    track = np.zeros(COLUMNS)
    for class_id, score in ((1, 0.9), (2, 0.2), (3, 0.5), (4, 0.6)):
        vote(track, class_id, score)
    assert vote(track, 5, 0.3) == 1
    assert sorted(track[VOTED::2].tolist()) == [1, 3, 4, 5]
    assert vote(track, 5, 0.7) == 5  # 1.0 by now: what class 2 had was not handed on
    assert track[VOTED + 1 :: 2].max() == pytest.approx(1.0)


# --- births -------------------------------------------------------------------------------------------------------

LATE = scene_of(
    """
    B.....
    B.....
    B....|...A
    B....|...A
    B....|...A
    """
)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"instant_score": None}, [0, 2, 2]),
        ({"instant_score": None, "confirm_hits": 3}, [0, 0, 2]),
        ({"instant_score": None, "confirm_hits": 1}, [2, 2, 2]),
        ({"instant_score": 0.95}, [0, 2, 2]),
        ({"instant_score": 0.85}, [2, 2, 2]),
        ({"tentative_first": False, "instant_score": None}, [0, 2, 2]),
    ],
)
def test_a_track_is_returned_once_confirmed(settings: dict[str, Any], expected: list[int]) -> None:
    track_ids = track_scene(Tracker(TrackerSettings(**settings)), LATE)
    assert track_ids == {"A": expected, "B": [1] * 5}


def test_tracks_of_the_first_frame_need_no_confirmation() -> None:
    track_ids = track_scene(Tracker(TrackerSettings(instant_score=None, confirm_hits=3)), LATE)
    assert track_ids["B"] == [1] * 5


def test_a_tentative_track_ends_with_its_first_miss() -> None:
    scene = walk(1, y=400, letter="B") + walk(6, speed=0, gaps=[1])
    track_ids = track_scene(Tracker(TrackerSettings(instant_score=None)), scene)
    assert track_ids["A"] == [0, 0, 3, 3, 3]


def test_a_hundred_hits_are_not_a_streak() -> None:
    settings = TrackerSettings(streak_to_show=3)
    track_ids = track_scene(Tracker(settings), walk(12, gaps=[5]))
    # A new track is shown from its first match; after a miss three in a row are asked for.
    assert track_ids["A"] == [1] * 5 + [0, 0] + [1] * 4


@pytest.mark.parametrize(("score", "begins"), [(0.49, False), (0.51, True)])
def test_a_track_begins_from_the_birth_score_on(score: float, begins: bool) -> None:
    tracker = Tracker(TrackerSettings(high_score=0.3, birth_score=0.5))
    assert len(tracker.update(Detections.of([[0, 0, 30, 60]], [score]), 0)) == begins
    assert tracker.summary.tracks == begins


def test_low_scores_keep_a_track_alive_and_start_none() -> None:
    scene = walk(8, speed=8) + scene_of(
        """
        ........A....|.b
        .........a...|..b
        ..........a..|...b
        ...........a.|....b
        ............A|.....b
        """
    )
    assert track_scene(Tracker(), scene) == {"A": [1] * 13, "B": [0] * 5}
    without = track_scene(Tracker(TrackerSettings(low_scores=False)), scene)
    assert without["A"] == [1] * 9 + [0, 0, 0, 1]


def test_low_scores_find_a_lost_track_only_where_they_may() -> None:
    scene = scene_of(
        """
        A....
        A....
        .....
        a....
        a....
        """
    )
    assert track_scene(Tracker(), scene)["A"] == [1, 1, 0, 0]
    assert track_scene(Tracker(TrackerSettings(low_scores_reactivate=True)), scene)["A"] == [1, 1, 1, 1]


def doubled(**settings: Any) -> Tracker:
    """A track, and on its second frame a detection beside its own that overlaps it by 0.8."""
    tracker = Tracker(TrackerSettings(**settings))
    tracker.update(Detections.of([[0, 0, 50, 100]], [0.9]), 0)
    tracker.update(Detections.of([[0, 0, 50, 100], [0, 0, 50, 80]], [0.9, 0.9]), 1)
    return tracker


def test_no_track_begins_on_a_duplicate() -> None:
    assert doubled().summary.tracks == 1
    assert doubled(duplicate_overlap=0.85).summary.tracks == 2
    assert doubled(duplicate_overlap=None).summary.tracks == 2


def test_two_new_tracks_may_begin_side_by_side() -> None:
    tracker = Tracker()
    tracker.update(Detections.empty(), 0)
    assert len(tracker.update(Detections.of([[0, 0, 50, 100], [0, 0, 50, 80]], [0.9, 0.9]), 1)) == 2


# --- loss and return ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "sort"])
def test_a_gap_of_ten_frames_keeps_the_id(name: str) -> None:
    tracker = Tracker(PRESETS[name], size=(720, 1280))
    track_ids = track_scene(tracker, walk(40, speed=3, gaps=range(15, 25)))
    assert distinct(track_ids["A"]) == [1]
    assert tracker.summary.reactivations == 1


@pytest.mark.parametrize(("rate", "away", "ids"), [(30, 29, [1]), (30, 31, [1, 2]), (10, 9, [1]), (10, 11, [1, 2])])
def test_a_track_that_returns_in_time_has_its_history(rate: float, away: int, ids: list[int]) -> None:
    scene = walk(away + 20, speed=0, gaps=range(10, 10 + away))
    assert distinct(track_scene(Tracker(frame_rate=rate), scene)["A"]) == ids


@pytest.mark.parametrize(("lost", "ids"), [(0.3, [1, 2]), (0.5, [1])])
@pytest.mark.parametrize("rate", [10.0, 25.0, 60.0])
def test_lost_seconds_are_seconds_at_every_rate(rate: float, lost: float, ids: list[int]) -> None:
    away = round(0.4 * rate)
    scene = walk(away + 20, speed=0, gaps=range(10, 10 + away))

    def clock(frame: int) -> FrameContext:
        return FrameContext(frame, time=frame / rate)

    settings = TrackerSettings(lost_seconds=lost)
    assert distinct(track_scene(Tracker(settings, frame_rate=rate), scene)["A"]) == ids
    assert distinct(track_scene(Tracker(settings, frame_rate=1), scene, context=clock)["A"]) == ids


@pytest.mark.parametrize("rate", [14.0, 24.0, 25.0, 50.0, 60.0])
@pytest.mark.parametrize("start", [0.0, 3600.0])
def test_a_gap_of_exactly_lost_seconds_is_not_too_long(rate: float, start: float) -> None:
    """Whatever the rounding of times, and with them or without: a sum of steps is hardly ever a round number."""
    away = round(rate)  # the last frame of the gap comes one second after the last box
    scene = walk(away + 20, speed=0, gaps=range(10, 10 + away))

    def clock(frame: int) -> FrameContext:
        return FrameContext(frame, time=start + frame / rate)

    settings = TrackerSettings(lost_seconds=1.0)
    assert distinct(track_scene(Tracker(settings, frame_rate=rate), scene)["A"]) == [1]
    assert distinct(track_scene(Tracker(settings, frame_rate=rate), scene, context=clock)["A"]) == [1]


def test_a_stream_slower_than_lost_seconds_is_still_tracked() -> None:
    # The frame after a match always counts, however long it took to come.
    assert track_scene(Tracker(frame_rate=0.5), walk(6, speed=0))["A"] == [1] * 6


def test_a_lost_track_is_not_returned_but_in_the_states() -> None:
    recorder = StateRecorder()
    track_scene(Tracker(observer=recorder), walk(8, gaps=[4, 5]))
    assert [state.track_ids.tolist() for state in recorder.states] == [[]] + [[1]] * 7
    assert [state.track_gap.tolist() for state in recorder.states[1:]] == [[1], [1], [1], [1], [2], [3], [1]]
    assert [state.track_age.tolist() for state in recorder.states[1:]] == [[k] for k in range(1, 8)]


@pytest.mark.parametrize("mode", ["separate", "votes"])
def test_a_new_track_inherits_nothing_of_an_ended_one(mode: str) -> None:
    """Rows move up when an earlier track ends: each keeps its own boxes, score and class."""
    first = walk(60, y=0, letter="A", speed=0, gaps=range(5, 60))
    scene = combined(first, walk(60, y=100, letter="B", speed=1), walk(60, y=200, letter="C", speed=2))
    recorder = StateRecorder()
    tracker = Tracker(preset("adaptive", classes=mode), observer=recorder)
    for frame in range(60):
        detections = scene.detections(frame)
        classes = np.array([" ABC".index(letter) for letter in scene.letters(frame)])
        scores = HIGH - classes / 100
        visibility = classes / 10
        columns = Detections.of(detections.xyxy, scores, classes, visibility=visibility)
        tracker.update(columns, frame)
    last = recorder.states[-1]
    assert last.track_ids.tolist() == [2, 3]
    for state in recorder.states:  # each id has its class, score and visibility, on every frame
        np.testing.assert_array_equal(state.track_class, state.track_ids)
        np.testing.assert_allclose(state.track_score, HIGH - state.track_ids / 100, atol=1e-6)
        np.testing.assert_allclose(state.track_visibility, state.track_ids / 10, atol=1e-6)
        np.testing.assert_array_equal(state.track_gap[state.track_ids > 1], 1)
    np.testing.assert_allclose(last.track_velocity, [[1, 0], [2, 0]], atol=0.05)
    np.testing.assert_allclose(last.track_boxes, scene.detections(59).xyxy, atol=0.5)


# --- classes ------------------------------------------------------------------------------------------------------


def classed(mode: str, classes: list[int]) -> tuple[list[int], list[int]]:
    """Ids and classes of one box that stands still and changes its class."""
    tracker = Tracker(preset("adaptive", classes=mode))
    ids, class_ids = [], []
    for frame, class_id in enumerate(classes):
        tracked = tracker.update(Detections.of([[0, 0, 30, 60]], [0.9], [class_id]), frame)
        assert tracked.track_id is not None
        ids += tracked.track_id.tolist()
        class_ids += tracked.class_id.tolist()
    return ids, class_ids


def test_separate_classes_do_not_mix() -> None:
    assert classed("separate", [1, 1, 2, 1, 2]) == ([1, 1, 2, 1, 2], [1, 1, 2, 1, 2])


def test_the_majority_gives_the_class() -> None:
    assert classed("votes", [1, 1, 2, 1, 2, 2, 2]) == ([1] * 7, [1, 1, 1, 1, 1, 1, 2])


def test_no_class_leads_only_where_there_is_no_other() -> None:
    track = np.zeros(COLUMNS)
    assert [vote(track, class_id, 0.9) for class_id in (-1, -1, 3, -1, -1, 5, 5)] == [-1, -1, 3, 3, 3, 3, 5]


CAR, TRUCK, WALKER = 2, 7, 0


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_a_class_that_flickers_does_not_split_a_track(name: str, share: float) -> None:
    rng = np.random.default_rng(3)
    tracker = Tracker(name, size=(1080, 1920))
    true_classes, owners = np.array([CAR, TRUCK, CAR]), set()
    for frame in range(80):
        corner = np.array([[100 + 6 * frame, 100], [1700 - 8 * frame, 400], [300, 600 + 2 * frame]])
        boxes = np.hstack([corner, corner + np.array([120, 80])]) + rng.normal(0, 2, (3, 4))
        flips = rng.random(3) < share
        tracked = tracker.update(
            Detections.of(boxes, [0.9] * 3, np.where(flips, 9 - true_classes, true_classes)), frame
        )
        assert tracked.track_id is not None
        assert tracked.index is not None
        owners |= set(zip(tracked.track_id.tolist(), tracked.index.tolist(), strict=True))
    assert owners == {(1, 0), (2, 1), (3, 2)}
    assert tracked.class_id.tolist() == true_classes.tolist()


@pytest.mark.parametrize("mode", ["votes", "ignored"])
def test_one_box_under_two_classes_is_one_track(mode: str) -> None:
    tracker = Tracker(classes=mode)
    for frame in range(12):
        x = 100.0 + 5 * frame
        boxes = [[x + 1, 100, x + 121, 181], [x, 100, x + 120, 180], [x + 60, 100, x + 180, 180]]
        tracked = tracker.update(Detections.of(boxes, [0.6, 0.9, 0.8], [TRUCK, CAR, TRUCK]), frame)
        assert tracked.track_id is not None
        assert tracked.index is not None
        assert list(zip(tracked.track_id.tolist(), tracked.index.tolist(), strict=True)) == [(1, 1), (2, 2)]
    assert tracker.summary.skipped == {SECOND_CLASS: 12}


def test_boxes_of_one_class_are_never_one_object() -> None:
    boxes = Detections.of([[0, 0, 30, 60], [0, 0, 30, 61]], [0.9, 0.8], [CAR, CAR])
    assert len(Tracker().update(boxes)) == 2


@pytest.mark.parametrize("name", ["adaptive", "bytetrack"])
def test_a_car_does_not_take_the_walker_that_it_hides(name: str) -> None:
    tracker = Tracker(name)
    walker, car = [200, 100, 230, 190], [150, 110, 290, 190]
    for frame in range(5):
        tracker.update(Detections.of([walker], [0.9], [WALKER]), frame)
    for frame in range(5, 9):
        tracked = tracker.update(Detections.of([car], [0.9], [CAR]), frame)
    assert tracked.track_id is not None
    assert (tracked.track_id.tolist(), tracked.class_id.tolist()) == ([2], [CAR])


def test_of_two_that_fit_a_track_takes_that_of_its_class() -> None:
    tracker = Tracker()
    for frame in range(5):
        tracker.update(Detections.of([[100, 100, 160, 160]], [0.9], [CAR]), frame)
    boxes = [[95, 100, 155, 160], [107, 100, 167, 160]]
    tracked = tracker.update(Detections.of(boxes, [0.9, 0.9], [TRUCK, CAR]), 5, untracked=True)
    assert tracked.track_id is not None
    assert tracked.track_id.tolist()[1] == 1


def test_classes_may_be_ignored() -> None:
    assert classed("ignored", [1, 2, 3, 4]) == ([1] * 4, [1, 2, 3, 4])
