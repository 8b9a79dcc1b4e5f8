from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.toy_boxes import walk
from trackweave.mot.adaptive_thresholds import (
    CHANGED,
    CHANGES,
    CLEAN_RATIO,
    CLUTTERED_RATIO,
    LARGE_JITTER,
    LOW_SCORES,
    MAX_CHANGE,
    MEMORY_DETECTIONS,
    SCORES,
    SMALL_JITTER,
    adapt,
    observe_changes,
    set_levels,
)
from trackweave.mot.settings import PRESETS, TrackerSettings
from trackweave.mot.state import DET_COLUMNS, DET_SCORE, Parameters, kernel_parameters
from trackweave.mot.tracker import Tracker
from trackweave.structures.detections import Detections


class Stream:
    """The parameters of a stream that was observed; their score weight is the level of low scores, their share of the
    distance that of the jitter."""

    def __init__(self) -> None:
        settings = TrackerSettings(score_weight=0, clutter_score_weight=1, distance_share=0, unsteady_distance_share=1)
        self.p: Parameters = kernel_parameters(settings)[0]
        self.known = np.zeros(CHANGED + 1)

    def clutter(self, scores: NDArray[np.float64]) -> float:
        """The level after a frame with these scores."""
        detections = np.zeros((len(scores), DET_COLUMNS))
        detections[:, DET_SCORE] = scores
        adapt(self.p, self.known, detections)
        return self.p.score_weight

    def jitter(self, total: float, count: int) -> float:
        """The level after a frame with so many changes of height."""
        observe_changes(self.known, total, count)
        set_levels(self.p, self.known)
        return self.p.distance_share


@pytest.mark.parametrize(
    ("share", "level"),
    [(0, 0), (CLEAN_RATIO, 0), ((CLEAN_RATIO + CLUTTERED_RATIO) / 2, 0.5), (CLUTTERED_RATIO, 1), (0.9, 1)],
)
def test_clutter_is_the_share_of_low_scores(share: float, level: float) -> None:
    stream = Stream()
    assert stream.clutter(np.zeros(0)) == 0
    scores = np.where(np.arange(100) < round(100 * share), 0.2, 0.9)
    for _ in range(3):
        assert stream.clutter(scores) == pytest.approx(level)
        assert stream.clutter(np.zeros(0)) == pytest.approx(level)


def test_the_share_of_low_scores_follows_the_last_thousands() -> None:
    stream = Stream()
    for _ in range(100):
        stream.clutter(np.full(100, 0.2))
    for _ in range(int(4 * MEMORY_DETECTIONS / 100)):
        level = stream.clutter(np.full(100, 0.9))
    assert level == 0
    assert stream.clutter(np.full(10 * int(MEMORY_DETECTIONS), 0.2)) == 1  # one frame may hold more than is remembered


@pytest.mark.parametrize(
    ("mean", "level"),
    [(0, 0), (SMALL_JITTER, 0), ((SMALL_JITTER + LARGE_JITTER) / 2, 0.5), (LARGE_JITTER, 1), (MAX_CHANGE, 1)],
)
def test_jitter_is_the_mean_change(mean: float, level: float) -> None:
    stream = Stream()
    assert stream.jitter(0.0, 0) == 0
    for count in (10, 0, 30):
        assert stream.jitter(mean * count, count) == pytest.approx(level)
        assert stream.known[CHANGES] / stream.known[CHANGED] == pytest.approx(mean)


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
    return float(tracker._stream[CHANGES] / tracker._stream[CHANGED])


@pytest.mark.parametrize("jitter", [0.0, 0.03, 0.1])
def test_a_tracker_measures_how_heights_change(jitter: float) -> None:
    assert observed(jitter) == pytest.approx(jitter, abs=1e-5)


def test_a_tracker_moves_between_its_extremes() -> None:
    tracker = Tracker(TrackerSettings(distance_share=0.2, unsteady_distance_share=0.6))
    for frame in range(5):
        tracker.update(Detections.of([(0, 0, 30, 60), (100, 0, 130, 60)], [0.9, 0.9]), frame)
    assert tracker._parameters["distance_share"] == 0.2
    observe_changes(tracker._stream, 1e6 * (SMALL_JITTER + LARGE_JITTER) / 2, 1e6)
    tracker.update(Detections.empty(), 5)
    assert tracker._parameters["distance_share"] == pytest.approx(0.4)
    tracker.reset()
    assert tracker._parameters["distance_share"] == 0.2


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ("adaptive", "learned")])
def test_published_presets_stay_as_they_are(name: str) -> None:
    tracker = Tracker(PRESETS[name])
    before = tracker._parameters.copy()
    for frame in range(10):
        boxes = [(0, 0, 30, 60 * (1 + frame % 2 / 5)), *((90 * k, 100, 90 * k + 30, 160) for k in range(9))]
        tracker.update(Detections.of(boxes, [0.9] + [0.3] * 9), frame)
    assert tracker._stream[LOW_SCORES] >= CLUTTERED_RATIO * tracker._stream[SCORES] > 0
    assert tracker._parameters == before
