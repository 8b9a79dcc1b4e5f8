"""Figures that the official tools gave, digit by digit."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from trackweave.evaluation.evaluate import evaluate
from trackweave.evaluation.scores import RegimeScores, Scores

pytest.importorskip("trackeval")

CROWD = Path(__file__).parent / "golden" / "crowd"
"""An invented crowd; its file of figures was written by trackeval 1.3.0 with its own readers."""
MOT = Path(__file__).parents[2] / ".." / "shared" / "data" / "mot"
OLDER_NAMES = {"RHOTA": "OWTA"}
FLOAT32 = 1e-6
"""What is left when thousands of overlaps are summed in float32, as the tool behind one of the files did."""
WHOLE = ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "MT", "PT", "ML", "Frag", "CLR_Frames", "IDTP", "IDFN", "IDFP")

needs_data = pytest.mark.skipif(not (MOT / "golden").is_dir(), reason="the golden files are not beside the project")


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row.pop("seq"): row for row in csv.DictReader(file)}


def value(scores: Scores, column: str) -> float:
    """What a column of TrackEval's detailed files has: `HOTA___50`, `HOTA___AUC`, `MOTA`."""
    name, _, place = column.partition("___")
    name = OLDER_NAMES.get(name, name)
    return scores[name] if place in ("", "AUC") else scores.curves[name][int(place) // 5 - 1]


def assert_all(
    found: Mapping[str, Scores], expected: Mapping[str, Mapping[str, str]], same: Callable[[str, float, float], bool]
) -> None:
    assert found.keys() == expected.keys()
    compared = 0
    for sequence, row in expected.items():
        for column, text in row.items():
            mine = value(found[sequence], column)
            assert same(column, mine, float(text)), f"{sequence} {column}: {mine!r}, not {text}"
            compared += 1
    assert compared > 250 * len(found)


def exactly(column: str, mine: float, theirs: float) -> bool:
    return mine == theirs


def within_float32(column: str, mine: float, theirs: float) -> bool:
    counted = column.split("___")[0] in (*WHOLE, "HOTA_TP", "HOTA_FN", "HOTA_FP", "Dets", "GT_Dets", "IDs", "GT_IDs")
    return (
        abs(mine - theirs) <= FLOAT32 * max(1.0, abs(theirs)) if not counted else np.float32(mine) == np.float32(theirs)
    )


def whole(found: RegimeScores) -> dict[str, Scores]:
    (pedestrians,) = found.classes
    return {**pedestrians.sequences, "COMBINED": pedestrians.combined}


def test_invented_crowd() -> None:
    assert_all(whole(evaluate(CROWD / "pred", CROWD / "gt")), rows_of(CROWD / "pedestrian_detailed.csv"), exactly)


@needs_data
def test_mot17_train(tmp_path: Path) -> None:
    """Lif_T on 15 sequences: every printed digit."""
    folder = MOT / "golden" / "MOT17-train_Lif_T"
    for file in (folder / "pred").iterdir():  # the truth is the same for all detectors
        truth = MOT / "MOT17" / f"{file.stem.rsplit('-', 1)[0]}-FRCNN"
        (tmp_path / file.stem).symlink_to(truth.resolve(), target_is_directory=True)
    found = evaluate(folder / "pred", tmp_path)
    assert_all(found["pedestrian"].sequences, rows_of(folder / "pedestrian_detailed.csv"), exactly)


@needs_data
def test_mot17_second_half() -> None:
    """BoostTrack on five sequences: counts exactly, shares to the precision they were computed in."""
    folder = MOT / "golden" / "MOT17-val-half_BoostTrack"
    found = evaluate(folder / "pred", folder / "gt")
    assert_all(found["pedestrian"].sequences, rows_of(folder / "pedestrian_detailed.csv"), within_float32)


@needs_data
def test_tud() -> None:
    """py-motmetrics' own example: what its documentation prints for IDF1, switches and MOTA of the two."""
    found = evaluate(MOT / "golden" / "motmetrics_TUD" / "pred", MOT / "MOT15")["pedestrian"]
    printed = {
        name: (round(100 * scores["IDF1"], 1), int(scores["IDSW"]), round(100 * scores["MOTA"], 1))
        for name, scores in found.sequences.items()
    }
    assert printed == {"TUD-Campus": (55.8, 7, 52.6), "TUD-Stadtmitte": (64.5, 7, 56.4)}
