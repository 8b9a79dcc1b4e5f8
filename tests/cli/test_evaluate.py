"""`trackweave evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.evaluation.crowd import write_crowd
from tests.evaluation.test_evaluate import LABELS, perfect, write_labels

pytest.importorskip("trackeval")


def test_tables(shell: Shell, tmp_path: Path) -> None:
    pred, gt = perfect(tmp_path)
    done = shell("evaluate", pred, "--gt", gt)
    assert done.code == 0, done.err
    assert "pedestrian (boxes, mot17)" in done.out
    rows = [line.split() for line in done.out.splitlines()]
    assert ["one", *["100.00"] * 5, "0", "0", "0", "0"] in rows
    assert ["combined", *["100.00"] * 5, "0", "0", "0", "0"] in rows


def test_json(shell: Shell, tmp_path: Path) -> None:
    pred, gt = perfect(tmp_path)
    (regime,) = json.loads(shell("evaluate", pred, "--gt", gt, "--json", "--metrics", "hota").out)["regimes"]
    scores = regime["classes"]["pedestrian"]["combined"]
    assert (regime["metrics"], scores["HOTA"], scores["GT_Dets"]) == (["hota"], 1, 48)
    assert "MOTA" not in scores


def test_regimes(shell: Shell, tmp_path: Path) -> None:
    pred, gt = perfect(tmp_path / "a")
    crowd_gt, crowd_pred = write_crowd(tmp_path / "b", "KITTI-0001", 3, classes=(1, 3))
    options = ("--gt", f"crowd={crowd_gt}", "--gt", f"easy={gt}", "--start-fraction", "easy=0.5")
    done = shell("evaluate", f"easy={pred}", f"crowd={crowd_pred}", *options)
    assert done.code == 0, done.err
    table = done.out[done.out.index("regimes") :]
    assert [line.split("  ")[0].strip() for line in table.splitlines() if "." in line] == [
        "easy",
        "crowd, car",
        "crowd, pedestrian",
    ]
    assert "all classes" in done.out
    regimes = json.loads(shell("evaluate", f"easy={pred}", f"crowd={crowd_pred}", *options, "--json").out)["regimes"]
    assert regimes[0]["classes"]["pedestrian"]["combined"]["GT_Dets"] == 20


def test_masks(shell: Shell, tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "cows", LABELS)
    done = shell("evaluate", folder, "--gt", folder, "--metrics", "jf")
    assert done.code == 0, done.err
    assert "object (masks, plain)" in done.out
    assert "J&F" in done.out
    assert "HOTA" not in done.out


def test_compare(shell: Shell, tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        gt, pred = write_crowd(tmp_path, name, seed)
    done = shell("evaluate", "--compare", pred, pred, "--gt", gt, "--resamples", 20)
    assert done.code == 0, done.err
    assert "pedestrian, 3 sequences" in done.out
    assert "note: pedestrian: 3 sequences: the interval says little; 5 or more are needed" in done.err
    record = json.loads(shell("evaluate", "--compare", pred, pred, "--gt", gt, "--resamples", 20, "--json").out)
    assert record["comparisons"][0]["differences"]["HOTA"]["difference"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("{pred}", "--gt", "{gt}/none"), 1, "no such ground truth"),
        (("{pred}", "--gt", "{gt}", "--metrics", "speed"), 2, "metrics.0"),
        (("{pred}", "--gt", "{gt}", "--compare"), 2, "two results are compared, not 1"),
        (("{pred}", "{pred}", "{pred}", "--gt", "{gt}", "--gt", "{gt}"), 2, "3 results and 2 times --gt"),
        (("a={pred}", "a={pred}", "--gt", "a={gt}", "--gt", "b={gt}"), 2, "two results are called alike"),
        (("a={pred}", "b={pred}", "--gt", "a={gt}", "--gt", "c={gt}"), 2, "names of --gt and of results differ: b, c"),
        (("{pred}", "--gt", "{gt}", "--start-fraction", "x=0.5"), 2, "no result is called x"),
        (("{pred}", "--gt", "{gt}", "--protocol", "mot15", "--protocol", "mot17"), 2, "given twice"),
        (("{pred}", "--gt", "{gt}", "--start-fraction", "half"), 2, "start_fraction"),
        (
            ("{pred}", "--gt", "{gt}", "--confidence", "2"),
            2,
            "--confidence: compare.confidence: Input should be less",
        ),
        (("{pred}", "--gt", "{gt}", "--class", "car"), 2, "give car=NUMBER"),
    ],
)
def test_one_clear_line(shell: Shell, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    pred, gt = perfect(tmp_path)
    done = shell("evaluate", *(text.format(pred=pred, gt=gt) for text in arguments))
    assert done.code == code
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
