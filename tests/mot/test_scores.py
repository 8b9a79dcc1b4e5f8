"""Scores of any unit and height, thresholds that are set, and what is said when there are no tracks."""

from __future__ import annotations

import copy
import logging
import pickle
from typing import Any

import numpy as np
import pytest

from trackweave.mot.settings import PRESETS, TrackerSettings, preset
from trackweave.mot.tracker import PATIENT_FRAMES, Tracker, TrackerSummary
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections
from trackweave.structures.score_scale import FIRST_JUDGED, ScoreScale, ScoreUnit

FRAMES = 60
CLASSICAL = [name for name in PRESETS if name != "learned"]


def walkers(frame: int, seed: int = 5) -> Detections:
    """Four people who walk apart, as a usual detector sees them, and two false boxes of low scores."""
    rng = np.random.default_rng((seed, frame))
    left = np.array([100 + 3 * frame, 900 - 3 * frame, 100 + 2 * frame, 900 - 2 * frame], np.float64)
    top = np.array([50, 200, 400, 600], np.float64)
    people = np.stack([left, top, left + 50, top + 120], axis=1) + rng.normal(0, 1, (4, 4))
    corner = rng.uniform(0, 900, (2, 2))
    false = np.concatenate([corner, corner + np.array([40, 100])], axis=1)
    score = np.concatenate([np.clip(rng.normal(0.9, 0.04, 4), 0, 0.97), rng.uniform(0.05, 0.25, 2)])
    return Detections.of(np.concatenate([people, false]), score)


def tracked(settings: TrackerSettings | str, scores: Any, frames: int = FRAMES) -> tuple[list[Any], TrackerSummary]:
    """Ids and rows of each frame, with the scores that a function makes of the usual ones; the summary."""
    tracker = Tracker(settings)
    results = []
    for frame in range(frames):
        usual = walkers(frame)
        found = tracker.update(Detections.of(usual.xyxy, scores(usual.score)), frame)
        assert found.track_id is not None
        assert found.index is not None
        results.append((found.track_id.tolist(), found.index.tolist()))
        assert found.score.tolist() == scores(usual.score).astype(np.float32)[found.index].tolist()
    return results, tracker.summary


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda s: 100 * s, "percent"),
        (lambda s: np.log(s / (1 - s)), "logits"),
        (lambda s: 10 * s, "neither shares of 1 nor percent"),
    ],
)
def test_another_unit_gives_the_same_tracks(name: str, scores: Any, message: str) -> None:
    usual, _ = tracked(name, lambda s: s)
    other, summary = tracked(name, scores)
    assert sum(a == b for a, b in zip(usual, other, strict=True)) >= 0.95 * FRAMES
    (warning,) = summary.warnings
    assert warning.code == "score-scale"
    assert message in warning.message


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("factor", [0.35, 0.5, 0.6, 0.75])
def test_weak_scores_give_the_same_tracks_soon(name: str, factor: float) -> None:
    usual, _ = tracked(name, lambda s: s)
    weak, summary = tracked(name, lambda s: factor * s)
    late = FIRST_JUDGED + 8
    assert [sorted(rows) for _, rows in weak[-late:]] == [sorted(rows) for _, rows in usual[-late:]]
    assert summary.tracks == 4
    assert any("times as high" in warning.message for warning in summary.warnings)


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("score", [-1, 0, 0.05, 0.3, 0.45, 3, 50])
def test_constant_scores_give_tracks(name: str, score: float) -> None:
    tracker = Tracker(name)
    for frame in range(40):
        tracker.update(Detections.of([[100 + 2 * frame, 100, 160 + 2 * frame, 250]], [score]), frame)
    assert tracker.summary.tracks == 1
    assert "score-scale" in {warning.code for warning in tracker.summary.warnings}


def test_a_scale_that_is_known_is_not_sought() -> None:
    tracker = Tracker("bytetrack", score_scale=ScoreScale(stretch=2.0))
    found = tracker.update(Detections.of([[0, 0, 30, 60]], [0.45]), 0)
    assert (len(found), found.score[0]) == (1, np.float32(0.45))
    assert tracker.summary.warnings == ()


def test_scores_may_be_taken_as_they_are() -> None:
    results, summary = tracked(preset("bytetrack", score_range="given"), lambda s: 0.5 * s)
    assert all(not ids for ids, _ in results)
    (warning,) = summary.warnings
    assert warning.code == "nearly-no-tracks"


def test_the_unit_may_be_said() -> None:
    results, summary = tracked(preset("bytetrack", score_range="percent"), lambda s: 15 * s)
    assert all(not ids for ids, _ in results)  # 15 % is nothing
    assert any("best score 0.15" in warning.message for warning in summary.warnings)
    assert tracked(preset("bytetrack", score_range="none"), lambda s: s)[1].tracks > 4


def test_a_reset_forgets_the_scale() -> None:
    tracker = Tracker("bytetrack")
    tracker.update(Detections.of([[0, 0, 30, 60]], [95.0]), 0)
    tracker.reset()
    assert not len(tracker.update(Detections.of([[0, 0, 30, 60]], [0.5]), 0))
    assert tracker.summary.warnings[0].code == "nearly-no-tracks"


def test_a_tracker_with_weak_scores_can_be_copied() -> None:
    tracker = Tracker("bytetrack")
    for frame in range(20):
        usual = walkers(frame)
        tracker.update(Detections.of(usual.xyxy, usual.score / 2), frame)
    twins = copy.deepcopy(tracker), pickle.loads(pickle.dumps(tracker))
    usual = walkers(20)
    ids = [each.update(Detections.of(usual.xyxy, usual.score / 2), 20).track_id for each in (tracker, *twins)]
    first, *others = (np.asarray(one).tolist() for one in ids)
    assert others == [first, first]
    assert sorted(first) == [1, 2, 3, 4]


class Scores:
    """An observer that keeps the scores that it and a scorer are shown."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def observe(self, state: AssignmentState) -> None:
        self.seen += [*state.detections.score.tolist(), *state.track_score.tolist()]


@pytest.mark.parametrize("scores", [lambda s: 100 * s, lambda s: 0.5 * s, lambda s: np.where(s == s.max(), 0.8, s / 2)])
def test_scorers_and_observers_see_shares(scores: Any) -> None:
    observer = Scores()
    tracker = Tracker("bytetrack", observer=observer)
    for frame in range(FRAMES):
        usual = walkers(frame)
        tracker.update(Detections.of(usual.xyxy, scores(usual.score)), frame)
    assert 0.85 < max(observer.seen) <= 1
    assert min(observer.seen) >= 0


# --- settings that hold -------------------------------------------------------------------------------------------


def rows(score: float, name: str = "adaptive", **overrides: Any) -> int:
    """Boxes of one object of a constant score, with thresholds that are set; scores are taken as they are."""
    tracker = Tracker(preset(name, score_range="given", **overrides))
    box = np.array([100, 100, 160, 250])
    return sum(
        len(tracker.update(Detections.of([box + 2 * t * np.array([1, 0, 1, 0])], [score]), t)) for t in range(40)
    )


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_birth_score_that_is_set_holds(name: str) -> None:
    assert rows(0.4, name, birth_score=0.35, confidence_threshold=0.1) >= 36
    assert rows(0.3, name, birth_score=0.35, confidence_threshold=0.1) == 0


def test_a_birth_score_holds_in_clutter_unless_that_is_set_too() -> None:
    assert rows(0.4, birth_score=0.2, high_score=0.2) == 40
    assert rows(0.4, birth_score=0.2, clutter_birth_score=0.7) <= 2
    assert rows(0.4, high_score=0.2) == 0  # the score of births is another setting


def test_a_high_score_that_is_set_keeps_lower_ones_from_beginning() -> None:
    assert rows(0.75, high_score=0.8) == 0
    assert rows(0.75, high_score=0.8, birth_score=0.7) == 40


@pytest.mark.parametrize(
    ("name", "twin", "value"),
    [
        ("high_score", "clutter_high_score", 0.3),
        ("score_weight", "clutter_score_weight", 0.1),
        ("lost_height_power", "clutter_lost_height_power", 1.0),
        ("distance_share", "unsteady_distance_share", 0.0),
    ],
)
def test_settings_take_their_counterparts_along(name: str, twin: str, value: float) -> None:
    for settings, expected in [
        (preset("adaptive", **{name: value}), name),
        (preset("adaptive", **{name: value, twin: 0.9}), twin),
        (preset("adaptive"), twin),
        (TrackerSettings.checked(preset("adaptive", **{name: value}), lost_seconds=2.0), name),
        (pickle.loads(pickle.dumps(preset("adaptive", **{name: value}))), name),
    ]:
        assert settings.extreme(name) == expected


@pytest.mark.parametrize("factor", [0.5, 100])
def test_thresholds_that_are_set_mean_shares_of_what_was_given(factor: float) -> None:
    unit = 0.01 if factor == 100 else 1.0
    for threshold in (0.3, 0.6):
        tracker = Tracker("adaptive", birth_score=threshold)
        best = 0.0
        for frame in range(FRAMES):
            usual = walkers(frame)
            tracker.update(Detections.of(usual.xyxy, factor * usual.score), frame)
            best = max(best, factor * unit * float(usual.score.max()))
        assert (tracker.summary.tracks > 0) == (best >= threshold)


def test_thresholds_are_shares_of_one() -> None:
    with pytest.raises(Exception, match=r"of those in percent \(0.5 is 50 %\), is less than or equal to 1, not 50"):
        preset("adaptive", confidence_threshold=50)


# --- what is said -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "overrides", "message"),
    [
        (
            0.49,
            {"score_range": "given"},
            "no track on 40 frames: best score 0.49, tracks begin at 0.7: lower tracker.b",
        ),
        (0.49, {"birth_score": 0.6}, "no track on 40 frames: best score 0.49, tracks begin at 0.6: lower tracker.b"),
        (0.9, {"confidence_threshold": 0.95}, "best score 0.9, lower ones than 0.95 are ignored: lower tracker.conf"),
        (0.9, {"confirm_hits": 90, "instant_score": None}, "0.9, 1 begun at 0.5 or more, shown after 90 matches: "),
    ],
)
def test_an_empty_result_says_why(score: float, overrides: dict[str, Any], message: str) -> None:
    tracker = Tracker("adaptive", **overrides)
    tracker.update(Detections.empty(), 0)
    for t in range(1, 40):
        tracker.update(Detections.of([[100 + 2 * t, 100, 160 + 2 * t, 250]], [score]), t)
    warnings = [one.message for one in tracker.summary.warnings if one.code == "nearly-no-tracks"]
    assert len(warnings) == 1
    assert message in warnings[0]


def test_frames_without_detections_and_bad_ones_say_so() -> None:
    tracker = Tracker("adaptive")
    assert not tracker.summary.warnings
    tracker.update(Detections.empty(), 0)
    assert tracker.summary.warnings[0].message == "no track on 1 frame: nothing was detected"
    tracker.update(Detections.of([[0, 0, 0, 0]], [0.9]), 1)
    assert tracker.summary.warnings[-1].message == "no track on 2 frames: every detection was left out"


def test_a_nearly_empty_result_says_why() -> None:
    tracker = Tracker("bytetrack", score_range="given")
    for t in range(200):
        tracker.update(Detections.of([[100, 100, 160, 250]], [0.9 if t in (50, 51) else 0.09]), t)
    (warning,) = tracker.summary.warnings
    assert warning.message.startswith("only 1 box on 200 frames: best score 0.9, 1 begun at 0.7 or more, shown after")


def test_a_tracker_alone_speaks_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "trackweave.mot"):
        tracked("bytetrack", lambda s: 100 * s)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["frame 0"]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "trackweave.mot"):
        tracked(preset("bytetrack", score_range="given"), lambda s: 0.4 * s)
    assert len(caplog.records) == 1
    assert f"no track on {PATIENT_FRAMES} frames: best score 0.39, tracks begin at 0.7" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "trackweave.mot"):
        tracked("bytetrack", lambda s: s)
    assert not caplog.records


def test_units_have_names() -> None:
    assert {str(unit) for unit in ScoreUnit} == {"share", "percent", "logits", "other", "none"}
