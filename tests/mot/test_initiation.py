"""Objects that move farther than their own size: the second box of a track, and turns of fast ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from trackweave.mot.settings import PRESETS
from trackweave.mot.tracker import Tracker
from trackweave.structures.detections import Detections

Place = Callable[[int], tuple[float, float]]
SIZE = (1080, 1920)
OURS = ["adaptive", "learned"]


def flight(vx: float, vy: float = 0.0, x: float = 60, y: float = 300) -> Place:
    return lambda frame: (x + vx * frame, y + vy * frame)


def identities(
    tracker: Tracker,
    places: Sequence[Place],
    *,
    frames: int = 20,
    step: int = 1,
    side: float = 12,
    jitter: float = 0,
    scores: tuple[float, float] = (0.9, 0.9),
) -> list[list[int]]:
    """Ids of each object, in the order in which it had them; −1 where it had none."""
    rng = np.random.default_rng(5)
    found: list[list[int]] = [[] for _ in places]
    for frame in range(frames):
        corner = np.array([place(frame) for place in places])
        boxes: NDArray[np.float64] = np.hstack([corner, corner + side]) + rng.normal(0, jitter, (len(places), 4))
        detections = Detections.of(boxes, rng.uniform(*scores, len(places)))
        tracked = tracker.update(detections, frame * step, untracked=True)
        assert tracked.track_id is not None
        for ids, track in zip(found, tracked.track_id.tolist(), strict=True):
            if track not in ids:
                ids.append(track)
    return found


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("speed", [8, 10, 12, 16, 20, 24, 30, 40, 60])
def test_a_small_fast_object_keeps_one_id(name: str, speed: float) -> None:
    assert identities(Tracker(name, size=SIZE), [flight(speed)]) == [[1]]
    assert identities(Tracker(name, size=SIZE), [flight(speed)], scores=(0.55, 0.9)) == [[1]]
    assert identities(Tracker(name, size=SIZE), [flight(0.6 * speed, -0.8 * speed, 60, 1000)], jitter=0.5) == [[1]]


def test_the_size_of_frames_need_not_be_known() -> None:
    assert identities(Tracker(), [flight(24)]) == [[1]]
    assert identities(Tracker("adaptive", size=(480, 640)), [flight(24)]) == [[1]]


@pytest.mark.parametrize("name", OURS)
def test_low_frame_rates_and_left_out_frames(name: str) -> None:
    assert identities(Tracker(name, size=SIZE, frame_rate=3), [flight(30)]) == [[1]]
    assert identities(Tracker(name, size=SIZE), [flight(30)], step=10) == [[1]]


@pytest.mark.parametrize("name", OURS)
def test_several_fast_objects_side_by_side(name: str) -> None:
    flock = [flight(24, y=300 + 30 * number) for number in range(3)]
    assert identities(Tracker(name, size=SIZE), flock) == [[1], [2], [3]]


@pytest.mark.parametrize("name", OURS)
def test_a_fast_object_may_turn(name: str) -> None:
    def bounce(frame: int) -> tuple[float, float]:
        return 60 + 24 * frame, 300 + 12 * abs(frame - 10)

    def fall(frame: int) -> tuple[float, float]:
        return 60 + 20 * frame, 200 + frame**2

    assert identities(Tracker(name, size=SIZE), [bounce]) == [[1]]
    assert identities(Tracker(name, size=SIZE), [fall]) == [[1]]


def test_the_setting_is_a_number_of_box_sizes() -> None:
    assert identities(Tracker(initiation_distance=2.1), [flight(24)]) == [[1]]
    assert len(identities(Tracker(initiation_distance=1.9), [flight(24)])[0]) == 20
    assert len(identities(Tracker(initiation_distance=0), [flight(24)])[0]) == 20


def test_published_trackers_have_no_such_round() -> None:
    assert {name for name in PRESETS if PRESETS[name].initiation_distance} == {"adaptive", "learned"}


def second_id(first: list[float], *second: list[float], tracker: Tracker | None = None) -> list[int]:
    """Ids on the second frame, after one box on the first."""
    tracker = tracker or Tracker("adaptive", size=SIZE)
    tracker.update(Detections.of([first], [0.9]))
    tracked = tracker.update(Detections.of(list(second), [0.9] * len(second)))
    assert tracked.track_id is not None
    return [int(track) for track in tracked.track_id]


HERE = [100.0, 100, 120, 120]


def test_what_has_another_shape_is_another_object() -> None:
    assert second_id(HERE, [150, 100, 170, 120]) == [1]
    assert second_id(HERE, [150, 100, 180, 130]) == [2]
    assert second_id(HERE, [150, 100, 160, 140]) == [2]


def test_of_two_that_are_as_near_none_is_taken() -> None:
    assert second_id(HERE, [150, 100, 170, 120], [50, 100, 70, 120]) == [2, 3]
    assert second_id(HERE, [150, 100, 170, 120], [100, 210, 120, 230]) == [1, 2]


def test_nothing_is_reached_beyond_another_track() -> None:
    tracker = Tracker("adaptive", size=SIZE)
    tracker.update(Detections.of([HERE, [140, 100, 160, 120]], [0.9, 0.9]))
    tracked = tracker.update(Detections.of([[142, 100, 162, 120], [180, 100, 200, 120]], [0.9, 0.9]))
    assert tracked.track_id is not None
    assert tracked.track_id.tolist() == [2, 3]


def test_nothing_crosses_the_picture_in_a_frame() -> None:
    large = [100.0, 100, 300, 300]
    assert second_id(large, [320, 100, 520, 300]) == [1]
    assert second_id(large, [330, 100, 530, 300]) == [2]


def test_a_missed_frame_makes_the_second_box_another_object() -> None:
    tracker = Tracker("adaptive", size=SIZE)
    tracker.update(Detections.of([HERE], [0.9]))
    tracker.update(Detections.empty())
    tracked = tracker.update(Detections.of([[150, 100, 170, 120]], [0.9]))
    assert tracked.track_id is not None
    assert tracked.track_id.tolist() == [2]
