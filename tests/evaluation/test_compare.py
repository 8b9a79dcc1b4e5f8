from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.crowd import mot_lines, result, truth, write_crowd
from tests.toy_boxes import write_lines
from trackweave.errors import InputError
from trackweave.evaluation.compare import ResultComparison, compare
from trackweave.evaluation.evaluate import Regime, evaluate_regimes
from trackweave.evaluation.metrics import TrackEval, combined, combiner
from trackweave.evaluation.scores import Evaluation
from trackweave.evaluation.settings import CompareSettings

pytest.importorskip("trackeval")

NAMES = tuple("abcdef")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Evaluation]:
    """A result, and one with more jitter, on six sequences."""
    root = tmp_path_factory.mktemp("compare")
    for seed, name in enumerate(NAMES):
        gt, pred = write_crowd(root, name, seed)
        worse = mot_lines(result(seed, truth(seed), jitter=12))
        write_lines(root / "worse" / f"{name}.txt", worse)
    return evaluate_regimes([Regime(pred, gt)]), evaluate_regimes([Regime(root / "worse", gt)])


def only(evaluation: Evaluation, names: tuple[str, ...]) -> Evaluation:
    (regime,) = evaluation.regimes
    (found,) = regime.classes
    kept = replace(found, sequences={name: found.sequences[name] for name in names})
    return Evaluation([replace(regime, classes=[kept])])


def test_a_clear_difference(both: tuple[Evaluation, Evaluation]) -> None:
    found = compare(*both, CompareSettings(resamples=200))
    (pedestrians,) = found.classes
    assert (list(pedestrians.sequences), found.notes) == (list(NAMES), [])
    hota = pedestrians["HOTA"]
    assert hota.difference == hota.other - hota.one < 0
    assert hota.low is not None
    assert hota.high is not None
    assert hota.low < hota.difference < hota.high < 0
    assert hota.is_clear


def test_counts_are_summed_not_averaged(both: tuple[Evaluation, Evaluation]) -> None:
    """The differences are of the combined scores, and every draw is combined alike."""
    (pedestrians,) = compare(*both, CompareSettings(resamples=50)).classes
    one, other = (side.regimes[0].classes[0] for side in both)
    assert pedestrians["MOTA"].one == one.combined["MOTA"]
    assert pedestrians["MOTA"].one != np.mean([scores["MOTA"] for scores in one.sequences.values()])
    switches = sum(scores["IDSW"] for scores in other.sequences.values())
    assert pedestrians["IDSW"].other == switches


def test_a_draw_is_combined_like_any_sequences(both: tuple[Evaluation, Evaluation]) -> None:
    scores, trackeval = both[0].regimes[0].classes[0].sequences, TrackEval(both[0].regimes[0].metrics)
    drawn = ["a", "c", "c", "f"]
    assert combiner(scores, trackeval)(drawn) == combined([scores[name] for name in drawn], trackeval)


def test_a_draw_is_paired(both: tuple[Evaluation, Evaluation]) -> None:
    """A result against itself never differs, whatever is drawn."""
    (pedestrians,) = compare(both[0], both[0], CompareSettings(resamples=50)).classes
    assert {(row.difference, row.low, row.high) for row in pedestrians.differences} == {(0, 0, 0)}
    assert not pedestrians["HOTA"].is_clear


def test_seeds(both: tuple[Evaluation, Evaluation]) -> None:
    def interval(found: ResultComparison) -> tuple[float | None, float | None]:
        return found.classes[0]["HOTA"].low, found.classes[0]["HOTA"].high

    first, again, other = (compare(*both, CompareSettings(resamples=40, seed=seed)) for seed in (1, 1, 2))
    assert interval(first) == interval(again) != interval(other)
    wide, narrow = (compare(*both, CompareSettings(resamples=200, confidence=share)) for share in (0.99, 0.5))
    assert interval(wide)[0] < interval(narrow)[0] < interval(narrow)[1] < interval(wide)[1]  # type: ignore[operator]


def test_few_sequences(both: tuple[Evaluation, Evaluation]) -> None:
    few = compare(only(both[0], ("a", "b")), only(both[1], ("a", "b")), CompareSettings(resamples=20))
    assert few.notes == ["pedestrian: 2 sequences: the interval says little; 5 or more are needed"]
    one = compare(only(both[0], ("a",)), only(both[1], ("a",)), CompareSettings(resamples=20))
    assert one.notes == ["pedestrian: 1 sequence: there is no interval; 5 or more are needed"]
    assert (one.classes[0]["HOTA"].low, one.classes[0]["HOTA"].is_clear) == (None, False)


def test_results_that_cannot_be_compared(both: tuple[Evaluation, Evaluation], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sequences of one result alone: a; "):
        compare(both[0], only(both[1], NAMES[1:]))
    regime = both[1].regimes[0]
    with pytest.raises(InputError, match="scored by boxes, mot17 and boxes, mot15"):
        compare(both[0], Evaluation([replace(regime, protocol="mot15")]))
    with pytest.raises(InputError, match="regimes of one result alone: , x"):
        compare(both[0], Evaluation([replace(regime, name="x")]))


def test_json(both: tuple[Evaluation, Evaluation]) -> None:
    record = compare(*both, CompareSettings(resamples=20)).to_json()
    assert record["comparisons"][0]["sequences"] == list(NAMES)
    assert record["comparisons"][0]["differences"]["IDSW"].keys() == {"one", "other", "difference", "low", "high"}
