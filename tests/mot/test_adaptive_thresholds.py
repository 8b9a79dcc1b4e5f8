from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.toy_boxes import walk
from trackweave.mot.settings import PRESETS, TrackerSettings
from trackweave.mot.track_management import (
    CLEAN_RATIO,
    CLUTTERED_RATIO,
    LARGE_JITTER,
    MAX_CHANGE,
    MEMORY_DETECTIONS,
    SMALL_JITTER,
    BoxJitter,
    LowScoreRatio,
)
from trackweave.mot.tracker import Tracker
from trackweave.structures.detections import Detections


@pytest.mark.parametrize(
    ("share", "level"),
    [(0, 0), (CLEAN_RATIO, 0), ((CLEAN_RATIO + CLUTTERED_RATIO) / 2, 0.5), (CLUTTERED_RATIO, 1), (0.9, 1)],
)
def test_low_score_ratio_is_the_share_of_low_scores(share: float, level: float) -> None:
    ratio = LowScoreRatio()
    assert ratio.level == 0
    scores = np.where(np.arange(100) < round(100 * share), 0.2, 0.9)
    for _ in range(3):
        ratio.observe(scores)
        assert ratio.level == pytest.approx(level)
        ratio.observe(np.zeros(0))


def test_low_score_ratio_follows_the_last_thousands() -> None:
    ratio = LowScoreRatio()
    for _ in range(100):
        ratio.observe(np.full(100, 0.2))
    for _ in range(int(4 * MEMORY_DETECTIONS / 100)):
        ratio.observe(np.full(100, 0.9))
    assert ratio.level == 0
    ratio.observe(np.full(10 * int(MEMORY_DETECTIONS), 0.2))  # one frame may hold more than is remembered
    assert ratio.level == 1


@pytest.mark.parametrize(
    ("mean", "level"),
    [(0, 0), (SMALL_JITTER, 0), ((SMALL_JITTER + LARGE_JITTER) / 2, 0.5), (LARGE_JITTER, 1), (MAX_CHANGE, 1)],
)
def test_box_jitter_is_the_mean_change(mean: float, level: float) -> None:
    jitter = BoxJitter()
    assert (jitter.mean, jitter.level) == (0, 0)
    for count in (10, 0, 30):
        jitter.observe(mean * count, count)
        assert jitter.mean == pytest.approx(mean)
        assert jitter.level == pytest.approx(level)


def begins(before: int, score: float = 0.65, **settings: Any) -> bool:
    """Whether a track begins on a middling score after frames with one sure and `before` low scores each."""
    tracker = Tracker(TrackerSettings(**settings))
    for frame in range(20):
        low = [(300 + 40 * k, 300, 330 + 40 * k, 350) for k in range(before)]
        tracker.update(Detections.of([(0, 0, 30, 60), *low], [0.9] + [0.2] * before), frame)
    tracker.update(Detections.of([(600, 0, 630, 60)], [score]), 20)
    return tracker.summary.tracks == 2


def test_a_cluttered_detector_needs_higher_scores() -> None:
    assert begins(0)
    assert not begins(3)
    assert begins(3, score=0.75)
    assert begins(3, clutter_high_score=0.5, clutter_birth_score=0.5)


def observed(jitter: float) -> float:
    """What a tracker's stream shows of a walk whose heights change by turns."""
    tracker = Tracker()
    scene = walk(30, speed=1)
    for frame in range(30):
        boxes = scene.detections(frame).xyxy.copy()
        boxes[:, 3] = boxes[:, 1] + 64 * np.exp(jitter * (frame % 2))
        tracker.update(Detections.of(boxes, [0.9]), frame)
    return tracker._jitter.mean


@pytest.mark.parametrize("jitter", [0.0, 0.03, 0.1])
def test_a_tracker_measures_how_heights_change(jitter: float) -> None:
    assert observed(jitter) == pytest.approx(jitter, abs=1e-5)


def test_a_tracker_moves_between_its_extremes() -> None:
    tracker = Tracker(TrackerSettings(distance_share=0.2, unsteady_distance_share=0.6))
    for frame in range(5):
        tracker.update(Detections.of([(0, 0, 30, 60), (100, 0, 130, 60)], [0.9, 0.9]), frame)
    assert tracker._parameters.distance_share == 0.2
    tracker._jitter.observe(1e6 * (SMALL_JITTER + LARGE_JITTER) / 2, int(1e6))
    tracker.update(Detections.empty(), 5)
    assert tracker._parameters.distance_share == pytest.approx(0.4)
    tracker.reset()
    assert tracker._parameters.distance_share == 0.2


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ("adaptive", "learned")])
def test_published_presets_stay_as_they_are(name: str) -> None:
    tracker = Tracker(PRESETS[name])
    before = tracker._parameters
    for frame in range(10):
        boxes = [(0, 0, 30, 60 * (1 + frame % 2 / 5)), *((90 * k, 100, 90 * k + 30, 160) for k in range(9))]
        tracker.update(Detections.of(boxes, [0.9] + [0.3] * 9), frame)
    assert tracker._low_scores.level == 1
    assert tracker._parameters == before
