"""The same figures as TrackEval's own readers and rules, on invented crowds."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.evaluation.crowd import kitti_lines, result, truth, write_crowd
from tests.toy_boxes import write_lines
from trackweave.evaluation.evaluate import evaluate
from trackweave.evaluation.scores import Scores
from trackweave.evaluation.settings import EvaluationSettings, Protocol

with contextlib.redirect_stdout(io.StringIO()):
    trackeval = pytest.importorskip("trackeval")

YARDSTICK = Path(__file__).parents[2] / ".." / "shared" / "tools" / "eval_mot.py"
NAMES = ("one", "three", "two")  # as folders list them: sums depend on the order
LENGTH = 30
EVERY_CLASS = (1, 2, 7, 1, 8, 12, 6, 1, 3)


def theirs(dataset: Any, names: tuple[str, ...], class_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """TrackEval's results by sequence, and combined."""
    metrics = [getattr(trackeval.metrics, name)({"PRINT_CONFIG": False}) for name in ("HOTA", "CLEAR", "Identity")]
    metrics.append(trackeval.metrics.Count())
    each: dict[str, Any] = {}
    for name in names:
        data = dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("ours", name), class_name)
        each[name] = [metric.eval_sequence(data) for metric in metrics]
    combined: dict[str, Any] = {}
    for k, metric in enumerate(metrics):
        combined |= metric.combine_sequences({name: found[k] for name, found in each.items()})
    return {name: {k: v for part in found for k, v in part.items()} for name, found in each.items()}, combined


def assert_same(ours: Scores, theirs: Mapping[str, Any]) -> None:
    """Every field, to the last bit."""
    assert len(ours.names) > 40
    for name in ours.names:
        mine = np.array(ours.curves[name]) if name in ours.curves else ours.values[name]
        np.testing.assert_array_equal(mine, theirs[name], err_msg=name)


def their_mot(gt: Path, pred: Path, benchmark: str) -> Any:
    trackers = pred.parent / "trackers" / "ours" / "data"
    for name in NAMES:
        write_lines(trackers / f"{name}.txt", (pred / f"{name}.txt").read_text().splitlines())
        # TrackEval takes no class but 1 (or less) in results.
        rows = [line.split(",") for line in (trackers / f"{name}.txt").read_text().splitlines()]
        write_lines(trackers / f"{name}.txt", [",".join([*row[:7], "1", "1"]) for row in rows])
    config = {
        "GT_FOLDER": str(gt),
        "TRACKERS_FOLDER": str(pred.parent / "trackers"),
        "TRACKERS_TO_EVAL": ["ours"],
        "SEQ_INFO": dict.fromkeys(NAMES, LENGTH),
        "SKIP_SPLIT_FOL": True,
        "BENCHMARK": benchmark,
        "PRINT_CONFIG": False,
    }
    return trackeval.datasets.MotChallenge2DBox(config)


@pytest.mark.parametrize("benchmark", ["MOT15", "MOT17", "MOT20"])
def test_mot(tmp_path: Path, benchmark: str) -> None:
    for seed, name in enumerate(NAMES):
        gt, pred = write_crowd(tmp_path, name, seed, classes=EVERY_CLASS)
    found = evaluate(pred, gt, EvaluationSettings(protocol=Protocol(benchmark.lower())))
    each, combined = theirs(their_mot(gt, pred, benchmark), NAMES, "pedestrian")
    assert combined["CLR_TP"] > 25
    assert combined["IDSW"] > 2
    for name, scores in found["pedestrian"].sequences.items():
        assert_same(scores, each[name])
    assert_same(found["pedestrian"].combined, combined)
    assert found.protocol == benchmark.lower()


def test_rules_differ_on_this_data(tmp_path: Path) -> None:
    """Else the test above would say little."""
    for seed, name in enumerate(NAMES):
        gt, pred = write_crowd(tmp_path, name, seed, classes=EVERY_CLASS)
    false_positives = {
        protocol: evaluate(pred, gt, EvaluationSettings(protocol=protocol))["pedestrian"].combined["CLR_FP"]
        for protocol in (Protocol.mot15, Protocol.mot17, Protocol.mot20)
    }
    assert len(set(false_positives.values())) == 3


def test_kitti(tmp_path: Path) -> None:
    names = {1: "Car", 2: "Van", 3: "Pedestrian", 4: "Person_sitting", 5: "DontCare", 6: "Cyclist"}
    official = {**names, 4: "Person"}
    for seed, sequence in enumerate(NAMES):
        true = truth(seed, objects=14, classes=(1, 2, 3, 4, 1, 3, 6))
        regions = [item._replace(identity=-1, class_id=5) for item in true if item.identity == 3 and item.frame % 2]
        true = sorted([*(item for item in true if item.identity != 3), *regions], key=lambda item: item.frame)
        found = result(seed, truth(seed, objects=14, classes=(1, 1, 3, 3, 1, 3)), jitter=3)
        found += [
            item._replace(identity=item.identity + 2000, box=(item.box[0], item.box[1], 9.0, 9.0)) for item in found
        ]
        found.sort(key=lambda item: item.frame)
        for side, items, types in (("gt", true, names), ("official", true, official), ("pred", found, names)):
            write_lines(tmp_path / side / f"{sequence}.txt", kitti_lines(items, types))
    ours = evaluate(tmp_path / "pred", tmp_path / "gt")
    assert (ours.protocol, [found.name for found in ours.classes]) == ("kitti", ["car", "pedestrian"])
    dataset = their_kitti(tmp_path)
    for scored in ours.classes:
        each, combined = theirs(dataset, NAMES, scored.name)
        assert combined["CLR_TP"] > 20
        for sequence, scores in scored.sequences.items():
            assert_same(scores, each[sequence])
        assert_same(scored.combined, combined)


def their_kitti(root: Path) -> Any:
    for name in NAMES:
        write_lines(
            root / "kitti" / "label_02" / f"{name}.txt", (root / "official" / f"{name}.txt").read_text().splitlines()
        )
        lines = (root / "pred" / f"{name}.txt").read_text().replace("Person_sitting", "Person").splitlines()
        write_lines(root / "theirs" / "ours" / "data" / f"{name}.txt", [f"{line} 1" for line in lines])
    seqmap = [f"{name} empty 000000 {LENGTH:06d}" for name in NAMES]
    write_lines(root / "kitti" / "evaluate_tracking.seqmap.training", seqmap)
    config = {
        "GT_FOLDER": str(root / "kitti"),
        "TRACKERS_FOLDER": str(root / "theirs"),
        "TRACKERS_TO_EVAL": ["ours"],
        "SPLIT_TO_EVAL": "training",
        "PRINT_CONFIG": False,
    }
    return trackeval.datasets.Kitti2DBox(config)


@pytest.fixture(scope="module")
def yardstick() -> ModuleType:
    """The evaluation script that lies beside the project; absent elsewhere."""
    if not YARDSTICK.is_file():
        pytest.skip("no MOT evaluation script beside the checkout")
    spec = importlib.util.spec_from_file_location("eval_mot", YARDSTICK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with contextlib.redirect_stdout(io.StringIO()):
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("start_fraction", [0.0, 0.4])
def test_kitti_simple(tmp_path: Path, yardstick: ModuleType, start_fraction: float) -> None:
    names = ["KITTI-0001", "KITTI-0002"]
    for seed, name in enumerate(names):
        gt, pred = write_crowd(tmp_path, name, seed, classes=(1, 3, 3, 4))
    expected = yardstick.evaluate(gt, pred, names, start_fraction, {"car": 3, "pedestrian": 1})
    found = evaluate(pred, gt, EvaluationSettings(start_fraction=start_fraction))
    assert found.protocol == "kitti-simple"
    for name, rows in expected.items():
        assert rows["combined"] == row_of(found[name].combined)
        assert rows["per_sequence"] == {key: row_of(scores) for key, scores in found[name].sequences.items()}


def row_of(scores: Scores) -> dict[str, float]:
    """As the yardstick rounds."""
    row: dict[str, float] = {name: round(100 * scores[name], 3) for name in ("HOTA", "DetA", "AssA", "IDF1", "MOTA")}
    return row | {name: int(scores[name]) for name in ("IDSW", "Frag")}
