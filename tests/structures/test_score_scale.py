from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trackweave.structures.score_scale import (
    AS_GIVEN,
    FIRST_JUDGED,
    ScoreRange,
    ScoreScale,
    ScoreUnit,
    scale_of,
    top_of,
    usual_frames,
)


def detector(frames: int = 120, boxes: int = 6, seed: int = 1) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Frames and scores of a usual detector that reports everything from 0.02 on."""
    rng = np.random.default_rng(seed)
    score = np.clip(rng.choice([0.9, 0.3], (frames, boxes)) + rng.normal(0, 0.06, (frames, boxes)), 0.02, 0.97)
    return np.repeat(np.arange(frames), boxes), score.astype(np.float32).ravel()


def streamed(frame: NDArray[np.int64], score: NDArray[np.float32]) -> ScoreScale:
    scores = ScoreRange()
    for one in np.unique(frame):
        scores.observe(score[frame == one])
    return scores.scale


def test_usual_scores_are_taken_as_they_are() -> None:
    frame, score = detector()
    assert scale_of(frame, score).is_usual
    assert streamed(frame, score).is_usual
    assert scale_of(frame, score).shares(score) is score
    assert scale_of(frame, score).message() is None


@pytest.mark.parametrize("factor", [0.3, 0.5, 0.69, 0.75])
def test_weak_scores_are_stretched_to_the_full_range(factor: float) -> None:
    frame, score = detector()
    for scale in (scale_of(frame, score * np.float32(factor)), streamed(frame, score * np.float32(factor))):
        assert scale.unit is ScoreUnit.share
        assert scale.stretch * factor == pytest.approx(1 / top_of(score.reshape(120, -1).max(1)), rel=0.1)
        assert "times as high" in (scale.message() or "")


@pytest.mark.parametrize(
    ("scores", "unit", "message"),
    [
        (lambda s: 100 * s, ScoreUnit.percent, "read as percent, divided by 100"),
        (lambda s: 60 * s, ScoreUnit.percent, "read as percent, divided by 100; the best scores are about 0.5"),
        (lambda s: 10 * s, ScoreUnit.other, "neither shares of 1 nor percent: divided by 9."),
        (lambda s: 255 * s, ScoreUnit.other, "neither shares of 1 nor percent: divided by 2"),
        (lambda s: np.log(s / (1 - s)), ScoreUnit.logits, "read as logits, 1 / (1 + exp(−score))"),
        (lambda s: 4 * s - 1.2, ScoreUnit.logits, "read as logits"),
        (lambda s: 0 * s, ScoreUnit.none, "all scores are 0: read as not given"),
        (lambda s: 0 * s - 1, ScoreUnit.none, "all scores are -1: read as not given"),
        (lambda s: 0 * s + 0.07, ScoreUnit.none, "all scores are 0.07: read as not given"),
        (lambda s: 0 * s + 7, ScoreUnit.none, "all scores are 7: read as not given"),
        (lambda s: 0 * s + 0.4, ScoreUnit.share, "times as high"),
    ],
)
def test_units(scores: object, unit: ScoreUnit, message: str) -> None:
    frame, score = detector()
    assert callable(scores)
    given = scores(score).astype(np.float32)
    for scale in (scale_of(frame, given), streamed(frame, given)):
        assert scale.unit is unit
        assert message in (scale.message() or "")
        shares = scale.shares(given)
        assert shares.dtype == np.float32
        assert 0 <= shares.min() <= shares.max() <= 1.05
        assert (np.argsort(shares, kind="stable") == np.argsort(given, kind="stable")).all()


def test_percent_and_logits_come_back_to_what_they_were() -> None:
    frame, score = detector()
    for given in (100 * score, np.log(score / (1 - score))):
        np.testing.assert_allclose(scale_of(frame, given).shares(given), score, rtol=1e-5)


def test_another_unit_shows_in_the_first_frame() -> None:
    for first in ([97.0, 12.0], [-1.5, 2.0], [-1.0, -1.0]):
        scores = ScoreRange()
        scores.observe(np.array(first, np.float32))
        assert scores.scale.unit is not ScoreUnit.share


def test_a_score_of_minus_one_among_others_is_not_given() -> None:
    frame, score = detector()
    score[::5] = -1
    for scale in (scale_of(frame, score), streamed(frame, score)):
        assert (scale.unit, scale.has_gaps) == (ScoreUnit.share, True)
        assert (scale.shares(score)[::5] == 1).all()
        assert (scale.shares(score)[1::5] == score[1::5]).all()
        assert "−1" in (scale.message() or "")


def test_a_stream_that_begins_far_away_is_not_weak() -> None:
    frame, score = detector(40)
    far = np.linspace(0.45, 0.99, 40)[frame].astype(np.float32)
    scores = ScoreRange()
    for one in range(40):
        scores.observe((score * far)[frame == one])
        assert scores.scale.is_usual or one >= FIRST_JUDGED - 1
    assert scores.scale.is_usual


def test_a_weak_stream_that_turns_out_usual() -> None:
    scores = ScoreRange()
    for _ in range(30):
        scores.observe(np.full(4, 0.3, np.float32))
    assert scores.scale.stretch > 2
    for _ in range(3):
        scores.observe(np.array([0.93, 0.2], np.float32))
    assert scores.scale.is_usual
    scores.observe(np.array([0.1], np.float32))
    assert scores.scale.is_usual


def test_single_mistakes_do_not_make_a_detector_usual() -> None:
    frame, score = detector()
    score = score / np.float32(2)
    score[7] = 0.99
    assert scale_of(frame, score).stretch > 1.8
    score[7] = 55  # nor percent
    for scale in (scale_of(frame, score), scale_of(frame[:24], score[:24]), streamed(frame, score)):
        assert scale.unit is ScoreUnit.share
        assert (scale.message() or "").startswith("single scores of up to 55 among shares of 1: these detections are")
        assert scale.shares(score)[7] == 1


def test_nine_tenths_are_usual() -> None:
    frame, score = np.arange(30), np.full(30, 0.9, np.float32)
    assert scale_of(frame, score).is_usual
    assert streamed(frame, score).is_usual


def test_someone_in_hours_of_an_empty_street() -> None:
    score = np.full(20_000, 0.3, np.float32)
    score[5000:5030] = 0.92
    assert scale_of(np.arange(20_000), score).is_usual
    assert usual_frames(20_000) == 10


@pytest.mark.parametrize("score", [[], [np.nan], [np.inf, np.nan]])
def test_nothing_to_judge_by(score: list[float]) -> None:
    given = np.array(score, np.float32)
    assert scale_of(np.zeros(len(given), np.int64), given) == AS_GIVEN
    scores = ScoreRange()
    scores.observe(given)
    assert scores.scale == AS_GIVEN


def test_what_is_not_finite_stays_so() -> None:
    given = np.array([np.nan, np.inf, -np.inf, 0], np.float32)
    logits = ScoreScale(ScoreUnit.logits).shares(given)
    assert np.isnan(logits[0])
    assert logits[1:].tolist() == [1, 0, 0.5]
    assert np.isnan(ScoreScale(ScoreUnit.none).shares(given)[0])
    frame, score = detector()
    score[3] = np.nan
    assert scale_of(frame, score).is_usual


def test_the_unit_may_be_said() -> None:
    frame = np.zeros(3, np.int64)
    low = np.array([3, 9, 12], np.float32)
    assert scale_of(frame, low).unit is ScoreUnit.other
    assert scale_of(frame, low, ScoreUnit.percent).full == 100
    assert scale_of(frame, low, ScoreUnit.logits).unit is ScoreUnit.logits
    assert scale_of(frame, low, ScoreUnit.none).shares(low).tolist() == [1, 1, 1]
    assert ScoreRange(ScoreUnit.percent).scale.full == 100
