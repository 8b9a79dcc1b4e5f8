from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.mot.worlds import walk
from trackweave.mot.settings import PRESETS, TrackerSettings
from trackweave.mot.track_management import LARGE_CHANGE, LITTLE, MEMORY, MUCH, STEADY, UNSTEADY, Clutter, Unsteadiness
from trackweave.mot.tracker import ByteTracker
from trackweave.structures.detections import Detections


@pytest.mark.parametrize(("share", "level"), [(0, 0), (LITTLE, 0), ((LITTLE + MUCH) / 2, 0.5), (MUCH, 1), (0.9, 1)])
def test_clutter_is_the_share_of_low_scores(share: float, level: float) -> None:
    clutter = Clutter()
    assert clutter.level == 0
    scores = np.where(np.arange(100) < round(100 * share), 0.2, 0.9)
    for _ in range(3):
        clutter.observe(scores)
        assert clutter.level == pytest.approx(level)
        clutter.observe(np.zeros(0))


def test_clutter_follows_the_last_thousands() -> None:
    clutter = Clutter()
    for _ in range(100):
        clutter.observe(np.full(100, 0.2))
    for _ in range(int(4 * MEMORY / 100)):
        clutter.observe(np.full(100, 0.9))
    assert clutter.level == 0
    clutter.observe(np.full(10 * int(MEMORY), 0.2))  # one frame may hold more than is remembered
    assert clutter.level == 1


@pytest.mark.parametrize(
    ("mean", "level"), [(0, 0), (STEADY, 0), ((STEADY + UNSTEADY) / 2, 0.5), (UNSTEADY, 1), (LARGE_CHANGE, 1)]
)
def test_unsteadiness_is_the_mean_change(mean: float, level: float) -> None:
    unsteadiness = Unsteadiness()
    assert (unsteadiness.mean, unsteadiness.level) == (0, 0)
    for count in (10, 0, 30):
        unsteadiness.observe(mean * count, count)
        assert unsteadiness.mean == pytest.approx(mean)
        assert unsteadiness.level == pytest.approx(level)


def born(before: int, score: float = 0.65, **settings: Any) -> bool:
    """Whether a track begins on a middling score after frames with one sure and `before` low scores each."""
    tracker = ByteTracker(TrackerSettings(**settings))
    for frame in range(20):
        low = [(300 + 40 * k, 300, 330 + 40 * k, 350) for k in range(before)]
        tracker.update(frame, Detections.of([(0, 0, 30, 60), *low], [0.9] + [0.2] * before))
    tracker.update(20, Detections.of([(600, 0, 630, 60)], [score]))
    return tracker.summary.tracks == 2


def test_a_cluttered_detector_needs_higher_scores() -> None:
    assert born(0)
    assert not born(3)
    assert born(3, score=0.75)
    assert born(3, clutter_high_score=0.5, clutter_birth_score=0.5)


def observed(jitter: float) -> float:
    """What a tracker's stream shows of a walk whose heights change by turns."""
    tracker = ByteTracker()
    scene = walk(30, speed=1)
    for frame in range(30):
        boxes = scene.detections(frame).xyxy.copy()
        boxes[:, 3] = boxes[:, 1] + 64 * np.exp(jitter * (frame % 2))
        tracker.update(frame, Detections.of(boxes, [0.9]))
    return tracker._unsteadiness.mean


@pytest.mark.parametrize("jitter", [0.0, 0.03, 0.1])
def test_a_tracker_measures_how_heights_change(jitter: float) -> None:
    assert observed(jitter) == pytest.approx(jitter, abs=1e-5)


def test_a_tracker_moves_between_its_extremes() -> None:
    tracker = ByteTracker(TrackerSettings(distance_share=0.2, unsteady_distance_share=0.6))
    for frame in range(5):
        tracker.update(frame, Detections.of([(0, 0, 30, 60), (100, 0, 130, 60)], [0.9, 0.9]))
    assert tracker._parameters.distance_share == 0.2
    tracker._unsteadiness.observe(1e6 * (STEADY + UNSTEADY) / 2, int(1e6))
    tracker.update(5, Detections.empty())
    assert tracker._parameters.distance_share == pytest.approx(0.4)
    tracker.reset()
    assert tracker._parameters.distance_share == 0.2


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ("adaptive", "learned")])
def test_published_presets_stay_as_they_are(name: str) -> None:
    tracker = ByteTracker(PRESETS[name])
    before = tracker._parameters
    for frame in range(10):
        boxes = [(0, 0, 30, 60 * (1 + frame % 2 / 5)), *((90 * k, 100, 90 * k + 30, 160) for k in range(9))]
        tracker.update(frame, Detections.of(boxes, [0.9] + [0.3] * 9))
    assert tracker._clutter.level == 1
    assert tracker._parameters == before
