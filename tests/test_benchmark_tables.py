"""The accuracy tables of the docs are what was measured, not typed by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.accuracy import COLUMNS, PAGE, RECORD, merged, rendered, with_tables
from benchmarks.box_accuracy import Corpus, measure, rows_of

from tests.plans.toy import InThisProcess, write_sequence
from trackweave.plans import runner


def test_the_page_shows_the_record() -> None:
    page = PAGE.read_text(encoding="utf-8")
    tables = rendered(json.loads(RECORD.read_text()))
    assert {"boxes, evaluation", "masks"} <= tables.keys()
    assert with_tables(page, tables) == page


def test_new_rows_and_columns_leave_the_others() -> None:
    cell = {"hota": 50.0, "ass_a": 40.0, "det_a": 60.0, "idf1": 55.0, "mota": 45.0, "idsw": 3, "sequences": 2}
    record = {"boxes, training": {"adaptive": {"tud": cell, "dancetrack": cell}}}
    merged(record, "boxes, training", {"adaptive": {"tud": cell | {"hota": 51.0}}, "learned, real": {"tud": cell}})
    head, _, first, second = rendered(record)["boxes, training"].splitlines()
    assert head == f"|  | {COLUMNS['dancetrack']} (2) | {COLUMNS['tud']} (2) |"
    assert first == "| `adaptive` | 50.00/40.00/60.00/55.00/3 | 51.00/40.00/60.00/55.00/3 |"
    assert second == "| `learned`, real | – | 50.00/40.00/60.00/55.00/3 |"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(SystemExit, match="there is no mark <!-- accuracy masks -->"):
        with_tables("nothing", {"masks": ""})


def test_a_learned_scorer_is_a_row_of_its_own() -> None:
    rows = list(rows_of(["adaptive", "sort"], ["iou", "learned", "learned=models/real.onnx@0.6"]))
    assert [row.name for row in rows] == ["adaptive", "sort", "learned", "learned, real, 0.6"]
    own = {"scorer.enabled": True, "scorer.weights": "models/real.onnx", "scorer.threshold": 0.6}
    assert rows[-1].settings == {"tracker.preset": "learned", **own}
    rows = list(rows_of(["adaptive"], ["iou", "learned=models/own.onnx"], rank=True))
    assert [row.name for row in rows] == ["adaptive", "adaptive ranked by learned, own"]
    assert rows[-1].stitched().folder == "adaptive-ranked-by-learned-own-stitched-gaps-filled"


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_all_rows_are_one_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    pytest.importorskip("trackeval", reason="pip install -e '.[eval]' brings what is measured with")
    monkeypatch.setattr(runner, "LocalEngine", InThisProcess)
    for name in ("Campus", "Stadtmitte"):
        write_sequence(tmp_path / "MOT15" / f"TUD-{name}")
    rows = [row for sort in rows_of(["sort"], ["iou"]) for row in (sort, sort.refined())]
    for _ in range(2):  # the second time all is found
        figures = measure(
            Corpus(tmp_path, None, "evaluation"), rows, ["tud"], output=tmp_path / "out", score_factor=factor
        )
    assert {name: (row["tud"].hota, row["tud"].sequences) for name, row in figures.items()} == {
        "sort": (100.0, 2),
        "sort, gaps filled": (100.0, 2),
    }
    assert (tmp_path / "out" / "sort-gaps-filled" / "TUD-Campus" / "tracks.npz").is_file()
