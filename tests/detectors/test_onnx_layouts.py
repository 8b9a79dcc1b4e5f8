"""Layouts that shapes alone do not tell: each model gives the right box, or is refused in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from tests.detectors.onnx_models import (
    CELLS,
    CLASSES,
    HEIGHT,
    LOGIT,
    NAMES,
    SCORE,
    WANTED,
    WIDTH,
    Graph,
    class_scores,
    draw,
    image_info,
    quiet,
    switched,
)
from trackweave.detectors.onnx import OnnxDetector
from trackweave.detectors.onnx_families import FAMILY_NAMES
from trackweave.detectors.settings import UNIT, BoxFormat, OnnxSettings
from trackweave.errors import InputError

FRAME, BOX = (128, 192), (30, 40, 90, 78)
FORMATS: dict[BoxFormat, NDArray[np.float64]] = {
    "xyxy": np.eye(4),
    "yxyx": np.eye(4)[[1, 0, 3, 2]],
    "xywh": np.array([[1, 0, 0, 0], [0, 1, 0, 0], [-1, 0, 1, 0], [0, -1, 0, 1]]),
    "cxcywh": np.array([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [-1, 0, 1, 0], [0, -1, 0, 1]]),
}
"""From xyxy to each order, multiplied from the left."""
Part = str | list[list[float]]
SHAPES = ([WIDTH, HEIGHT] * 2, [HEIGHT, WIDTH] * 2)
SCORE_ROW: list[list[float]] = [[SCORE, WANTED]]
SEGMENT = {**NAMES, "task": "segment"}
POSE = {**NAMES, "task": "pose", "kpt_shape": "[17, 3]"}
NMS, END2END = {"args": "{'batch': 1, 'nms': True}"}, {"end2end": "True"}
COEFFICIENTS: list[list[float]] = [[5.0, -3.0] * 4]
KEY_POINTS: list[list[float]] = [[33.0] * 51]
PROTOTYPES = np.ones((1, 8, 16, 24))


def box(g: Graph, order: BoxFormat = "xyxy", space: str = "input") -> str:
    """`(1, 4)`: the red rectangle in an order, in pixels of the input or in shares of it."""
    corners = g.rectangle("images", 0, 0.7)
    if space == "unit":
        corners = g.scaled(corners, [1 / WIDTH, 1 / HEIGHT] * 2)
    return g.node("MatMul", corners, g.constant(FORMATS[order].T))


def rows(g: Graph, *parts: Part, count: int = 300, at: int = 3, filler: NDArray[np.float32] | None = None) -> str:
    """`(1, count, C)`: a row of these parts, and empty ones."""
    width = sum(4 if isinstance(part, str) else len(part[0]) for part in parts)
    row = g.row(*(part if isinstance(part, str) else g.constant(part) for part in parts))
    return g.among(row, count, at, np.zeros((count, width), np.float32) if filler is None else filler)


def anchors(g: Graph, *parts: Part, count: int = CELLS, channels_first: bool = True) -> str:
    """The same among anchors that spread over the input, `(1, C, count)` or transposed."""
    width = sum(4 if isinstance(part, str) else len(part[0]) for part in parts)
    table = rows(g, *parts, count=count, filler=quiet(count, width))
    return g.node("Transpose", table, perm=[0, 2, 1]) if channels_first else table


def save(g: Graph, folder: Path, outputs: Mapping[str, str], metadata: Mapping[str, str] | None = None) -> Path:
    return g.save(folder / "m.onnx", [image_info()], outputs, metadata)


def assert_finds(path: Path, settings: OnnxSettings | None = None, *, atol: float = 1e-3) -> OnnxDetector:
    detector = OnnxDetector(path, settings)
    detections = detector.detect(draw(*FRAME, BOX))
    np.testing.assert_allclose(detections.xyxy, [BOX], atol=atol)
    assert detections.score.tolist() == pytest.approx([SCORE], abs=2e-3)
    assert detections.class_id.tolist() == [WANTED]
    return detector


def refusal(path: Path, settings: OnnxSettings | None = None) -> str:
    """The one line with which a model is refused, when it is opened or on the first frame."""
    with pytest.raises(InputError) as caught:
        OnnxDetector(path, settings).detect(draw(*FRAME, BOX))
    message = str(caught.value)
    assert "m.onnx: " in message
    assert "\n" not in message
    assert len(message) < 3500
    return message


# --- recognised -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", FORMATS)
@pytest.mark.parametrize("space", ["input", "unit"])
@pytest.mark.parametrize("kind", ["rows", "class first", "labelled", "counted", "mmdeploy"])
def test_boxes_of_every_order_and_scale_are_recognised(tmp_path: Path, order: BoxFormat, space: str, kind: str) -> None:
    g = Graph()
    corners = box(g, order, space)
    if kind == "rows":
        outputs = {"output0": rows(g, corners, SCORE_ROW)}
    elif kind == "class first":
        outputs = {"output0": rows(g, corners, [SCORE_ROW[0][::-1]])}
    elif kind == "labelled":
        outputs = {"boxes": corners, "labels": g.constant([WANTED], np.int64), "scores": g.constant([SCORE])}
    elif kind == "mmdeploy":
        dets = rows(g, corners, [[SCORE]], count=2, at=0)
        outputs = {"dets": dets, "labels": g.constant([[WANTED, 0]], np.int64)}
    else:
        outputs = {
            "num_dets": g.constant([[1]], np.int32),
            "det_boxes": rows(g, corners, count=5, at=0),
            "det_scores": g.constant([[SCORE, 0, 0, 0, 0]]),
            "det_classes": g.constant([[WANTED, 0, 0, 0, 0]], np.int32),
        }
    detector = assert_finds(save(g, tmp_path, outputs), OnnxSettings(pixels=UNIT))
    assert f": {order} in" in detector.layout
    assert ("class first" in detector.layout) == (kind == "class first")


@pytest.mark.parametrize(("dtype", "others"), [(np.float32, False), (np.float32, True), (np.int64, False)])
@pytest.mark.parametrize("suffix", ["", ":0"])
def test_tensorflow_has_y_first(tmp_path: Path, dtype: Any, suffix: str, others: bool) -> None:
    g = Graph()
    outputs = {
        f"detection_boxes{suffix}": rows(g, box(g, "yxyx", "unit"), count=5, at=0),
        f"detection_classes{suffix}": g.constant([[WANTED, 1, 1, 1, 1]], dtype),
        f"detection_scores{suffix}": g.constant([[SCORE, 0, 0, 0, 0]]),
        f"num_detections{suffix}": g.constant([1], dtype),
    }
    if others:
        outputs |= {
            f"raw_detection_boxes{suffix}": g.constant(np.ones((1, 90, 4))),
            f"raw_detection_scores{suffix}": g.constant(np.ones((1, 90, 3))),
        }
    assert_finds(save(g, tmp_path, outputs))


def test_tensorflow_with_its_own_kind_of_input(tmp_path: Path) -> None:
    """Bytes, channels last, size and batch open; what it says does not depend on the picture."""
    g = Graph()
    outputs = {
        "detection_boxes": g.constant([[[0.25, 0.5, 0.75, 1.0]]]),
        "detection_classes": g.constant([[WANTED]]),
        "detection_scores": g.constant([[SCORE]]),
        "num_detections": g.constant([1.0]),
    }
    image = image_info(("unk", "h", "w", 3), TensorProto.UINT8)
    detector = OnnxDetector(g.save(tmp_path / "m.onnx", [image], outputs))
    assert detector.family == "tf-od"
    assert detector.detect(draw(100, 200, BOX)).xyxy.tolist() == [[100, 25, 200, 75]]


def test_efficient_nms_with_tensorflows_names_keeps_its_pixels(tmp_path: Path) -> None:
    g = Graph()
    outputs = {
        "num_detections": g.constant([[1]], np.int32),
        "detection_boxes": rows(g, box(g), count=5, at=0),
        "detection_scores": g.constant([[SCORE, 0, 0, 0, 0]]),
        "detection_classes": g.constant([[WANTED, 0, 0, 0, 0]], np.int32),
    }
    assert assert_finds(save(g, tmp_path, outputs)).family == "nms"


@pytest.mark.parametrize(
    ("metadata", "further"),
    [
        ({**SEGMENT, **NMS}, COEFFICIENTS),
        ({**SEGMENT, **END2END}, COEFFICIENTS),
        (SEGMENT, COEFFICIENTS),  # exporters that did not write `args` yet
        (None, COEFFICIENTS),
        ({**POSE, **NMS}, KEY_POINTS),
        ({**POSE, **END2END}, KEY_POINTS),
        (POSE, KEY_POINTS),
        ({**NAMES, "task": "pose"}, KEY_POINTS),
        ({**NAMES, **NMS}, None),
        ({**NAMES, **END2END}, None),
        (NAMES, None),
    ],
)
def test_end_to_end_rows_of_ultralytics(
    tmp_path: Path, metadata: dict[str, str] | None, further: list[list[float]] | None
) -> None:
    g = Graph()
    parts: list[Part] = [box(g), SCORE_ROW, *([] if further is None else [further])]
    outputs = {"output0": rows(g, *parts)}
    if further is COEFFICIENTS:
        outputs["output1"] = g.constant(PROTOTYPES)
    detector = assert_finds(save(g, tmp_path, outputs, metadata))
    assert detector.family == "yolo-end2end"


@pytest.mark.parametrize(
    ("metadata", "further", "objectness", "channels_first"),
    [
        (SEGMENT, COEFFICIENTS, False, True),
        (SEGMENT, COEFFICIENTS, False, False),
        (None, COEFFICIENTS, False, True),
        (POSE, KEY_POINTS, False, True),
        (POSE, KEY_POINTS, False, False),
        ({**NAMES, "task": "pose"}, KEY_POINTS, False, True),
        (NAMES, None, False, True),
        (None, None, False, True),
        (NAMES, COEFFICIENTS, True, False),  # YOLOv5 writes stride and names only
        (None, COEFFICIENTS, True, False),
        (NAMES, None, True, False),
        (None, None, True, False),
    ],
)
@pytest.mark.parametrize("space", ["input", "unit"])
def test_raw_heads_of_yolo(
    tmp_path: Path,
    metadata: dict[str, str] | None,
    further: list[list[float]] | None,
    objectness: bool,
    channels_first: bool,
    space: str,
) -> None:
    g = Graph()
    scores: list[Part] = [[[0.8]], class_scores(SCORE / 0.8)] if objectness else [class_scores()]
    parts: list[Part] = [box(g, "cxcywh", space), *scores, *([] if further is None else [further])]
    count = 3 * CELLS if objectness else CELLS
    width = 4 + sum(len(part[0]) for part in parts[1:])
    filler = quiet(count, width)
    filler[:, :4] /= SHAPES[0] if space == "unit" else 1
    table = rows(g, *parts, count=count, filler=filler)
    outputs = {"output0": g.node("Transpose", table, perm=[0, 2, 1]) if channels_first else table}
    if further is COEFFICIENTS:
        outputs["output1"] = g.constant(PROTOTYPES)
    detector = assert_finds(save(g, tmp_path, outputs, metadata))
    assert detector.family == ("yolov5" if objectness else "yolov8")


@pytest.mark.parametrize("order", FORMATS)
@pytest.mark.parametrize("metadata", [None, NAMES])
def test_raw_heads_with_boxes_of_another_order(
    tmp_path: Path, order: BoxFormat, metadata: dict[str, str] | None
) -> None:
    g = Graph()
    assert_finds(save(g, tmp_path, {"output0": anchors(g, box(g, order), class_scores())}, metadata))


def test_rows_of_yolo_nas_have_the_score_first(tmp_path: Path) -> None:
    g = Graph()
    row = g.row(g.constant([[0.0]]), box(g), g.constant(SCORE_ROW))
    assert assert_finds(save(g, tmp_path, {"flat": row})).family == "yolov7-end2end"


@pytest.mark.parametrize("order", FORMATS)
@pytest.mark.parametrize("space", ["input", "unit"])
@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_queries_of_every_kind(tmp_path: Path, order: BoxFormat, space: str, scores: str) -> None:
    g = Graph()
    filler = np.full((300, 4), 0.5, np.float32) * (SHAPES[0] if space == "input" else 1)
    boxes = rows(g, box(g, order, space), filler=filler)
    found = [[-9.0, -9.0, LOGIT]] if scores == "logits" else class_scores()
    silent = np.full((300, CLASSES), -9.0 if scores == "logits" else 0.01, np.float32)
    path = save(g, tmp_path, {"logits": g.among(g.constant(found), 300, 3, silent), "pred_boxes": boxes})
    assert_finds(path, atol=1.1)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.INT64, TensorProto.DOUBLE])
def test_numbers_of_every_type(tmp_path: Path, dtype: int) -> None:
    g = Graph()
    outputs = {
        "boxes": g.node("Cast", box(g), to=dtype),
        "labels": g.constant([WANTED], np.int32),
        "scores": g.constant([SCORE], np.float64 if dtype == TensorProto.DOUBLE else np.float16),
    }
    assert_finds(save(g, tmp_path, outputs), atol=0.1)


def test_rows_that_no_picture_changes_are_read_by_their_values(tmp_path: Path) -> None:
    """Nothing can be mirrored here: class before score, and shares, show all the same."""
    for row, expected in (
        ([10, 20, 50, 60, 2, 0.75], [20, 40, 100, 120]),
        ([0.125, 0.25, 0.5, 0.75, 0.75, 2], [24, 32, 96, 96]),
        ([0.125, 0.25, 0.5, 0.75, 2, 0.75], [24, 32, 96, 96]),
        ([10, 20, 50, 60, 0, 0.75], [20, 40, 100, 120]),
    ):
        table = np.zeros((1, 300, 6), np.float32)
        table[0, 0] = row
        g = Graph()
        found = OnnxDetector(save(g, tmp_path, {"output0": g.constant(table)})).detect(draw(*FRAME, BOX))
        np.testing.assert_allclose(found.xyxy, [expected], atol=1e-3)
        assert found.score.tolist() == [0.75]
        assert found.class_id.tolist() == [0 if row[4] == 0 else 2]


def test_a_model_that_ignores_its_picture_is_not_read_in_another_order(tmp_path: Path) -> None:
    """A box near the middle is almost its own mirror image; that must not look as if it were mirrored."""
    rng = np.random.default_rng(0)
    picture = draw(HEIGHT, WIDTH, (0, 0, 1, 1))
    for k in range(30):
        low = rng.uniform(0, 0.5, 2) * [WIDTH, HEIGHT]
        corners = np.concatenate([low, low + rng.uniform(0.05, 0.5, 2) * [WIDTH, HEIGHT]])
        g = Graph()
        path = save(g, tmp_path, {"output0": rows(g, g.constant([corners]), [[0.9, k % 3]])})
        detector = OnnxDetector(path)
        for _ in range(6):
            np.testing.assert_allclose(detector.detect(picture).xyxy, [corners], atol=1e-3)


# --- refused, with a way out ------------------------------------------------------------------------------------------


def pose_without_metadata(g: Graph) -> dict[str, str]:
    return {"output0": anchors(g, box(g, "cxcywh"), [[SCORE]], [[300.0, 200, 1] * 17])}


def test_key_points_are_not_scores(tmp_path: Path) -> None:
    g = Graph()
    path = save(g, tmp_path, pose_without_metadata(g))
    message = refusal(path)
    for part in ("scores reach 300", "output0 (1, 56, 126) float32", "class_count", "family"):
        assert part in message
    detections = OnnxDetector(path, OnnxSettings(class_count=1)).detect(draw(*FRAME, BOX))
    np.testing.assert_allclose(detections.xyxy, [BOX], atol=1e-3)
    assert detections.score.tolist() == pytest.approx([SCORE])


def test_key_points_of_yolov7_are_not_scores(tmp_path: Path) -> None:
    """Nothing is detected on the drawn picture: the columns of its anchors show it all the same."""
    g = Graph()
    table = np.hstack([quiet(3 * CELLS, 6), np.full((3 * CELLS, 51), 40, np.float32)])
    assert "class scores are 0 … 40" in refusal(save(g, tmp_path, {"output": g.constant(table[None])}))


@pytest.mark.parametrize(("queries", "columns"), [(125, CLASSES + 1), (100, CLASSES), (300, CLASSES)])
def test_softmax_or_sigmoid_shows_in_the_values(tmp_path: Path, queries: int, columns: int) -> None:
    """Of Table Transformer's 125 queries most say "nothing here"; of 100 with a sigmoid most say no to all classes."""
    g = Graph()
    silent = np.full((queries, columns), -4.0, np.float32)
    found = np.full((1, columns), -4.0)
    found[0, WANTED] = LOGIT
    if columns > CLASSES:
        silent[:, -1], found = 8, np.array([[-99.0, -99.0, np.log(3), 0]])
    outputs = {
        "logits": g.among(g.constant(found), queries, 3, silent),
        "pred_boxes": rows(g, box(g, "cxcywh", "unit"), count=queries, filler=np.full((queries, 4), 0.5, np.float32)),
    }
    detector = assert_finds(save(g, tmp_path, outputs), OnnxSettings(pixels=UNIT), atol=1.1)
    assert detector.family == ("detr" if columns > CLASSES else "rt-detr-raw")


def test_counts_that_are_no_counts_are_refused(tmp_path: Path) -> None:
    for count in (np.nan, np.inf):
        g = Graph()
        outputs = {
            "num_dets": g.constant([[count]]),
            "det_boxes": g.constant(np.zeros((1, 5, 4))),
            "det_scores": g.constant(np.zeros((1, 5))),
            "det_classes": g.constant(np.zeros((1, 5)), np.int32),
        }
        assert "not outputs of family nms" in refusal(save(g, tmp_path, outputs))


def test_an_angle_is_not_a_score(tmp_path: Path) -> None:
    for angle in (-0.6, 0.5, 1.4):
        g = Graph()
        filler = quiet(CELLS, 8)
        filler[:, 7] = angle
        table = rows(g, box(g, "cxcywh"), class_scores(), [[angle]], count=CELLS, filler=filler)
        path = save(g, tmp_path, {"output0": g.node("Transpose", table, perm=[0, 2, 1])})
        assert "class_count" in refusal(path)


def test_scores_in_percent(tmp_path: Path) -> None:
    g = Graph()
    path = save(g, tmp_path, {"output0": rows(g, box(g), [[100 * SCORE, WANTED]])})
    message = refusal(path)
    for part in (
        "scores reach 75",
        "output0 (1, 300, 6) float32, by column 0…",
        "0…75, 0…2",
        "xyxy in pixels",
        "scores",
    ):
        assert part in message
    assert_finds(path, OnnxSettings(scores="percent"))


@pytest.mark.parametrize(("kind", "row"), [("rows", [75, 0]), ("rows", [75, 1]), ("rows", [0, 75]), ("nas", [75, 0])])
def test_whole_percent_are_taken_for_no_class(tmp_path: Path, kind: str, row: list[float]) -> None:
    g = Graph()
    if kind == "rows":
        outputs = {"output0": rows(g, box(g), [row])}
    else:
        outputs = {"flat": g.row(g.constant([[0.0]]), box(g), g.constant([row]))}
    message = refusal(save(g, tmp_path, outputs))
    assert "scores reach 75" in message or "all scores are 0" in message


def test_probabilities_and_percent_among_queries(tmp_path: Path) -> None:
    g = Graph()
    scores = g.among(g.constant([[1.0, 2.0, 75.0]]), 300, 3, np.full((300, CLASSES), 0.5, np.float32))
    path = save(g, tmp_path, {"logits": scores, "pred_boxes": rows(g, box(g, "cxcywh", "unit"))})
    assert "logits lie in 0.5 … 75, none below 0" in refusal(path)
    assert_finds(path, OnnxSettings(scores="percent"), atol=1.1)


def test_classes_that_are_no_classes(tmp_path: Path) -> None:
    for class_id, words in (
        (1.5, "not whole numbers"),
        (np.nan, "not whole"),
        (np.inf, "not whole"),
        (-7, "down to -7"),
    ):
        g = Graph()
        path = save(g, tmp_path, {"output0": rows(g, box(g), [[SCORE, class_id]])})
        assert words in refusal(path)
    g = Graph()
    path = save(g, tmp_path, {"output0": rows(g, box(g), [[SCORE, 7]])}, NAMES)
    assert "classes reach 7, of 3" in refusal(path)


@pytest.mark.parametrize("objectness", [False, True])
def test_logits(tmp_path: Path, objectness: bool) -> None:
    g = Graph()
    found: list[Part] = [[[40.0]]] if objectness else []
    filler = np.hstack([quiet(3 * CELLS, 4), np.full((3 * CELLS, CLASSES + len(found)), -6, np.float32)])
    filler = filler if objectness else filler[:CELLS]
    table = rows(g, box(g, "cxcywh"), *found, [[-9.0, -9.0, LOGIT]], count=len(filler), filler=filler)
    path = save(g, tmp_path, {"output0": table if objectness else g.node("Transpose", table, perm=[0, 2, 1])}, NAMES)
    assert "scores" in refusal(path)
    assert_finds(path, OnnxSettings(scores="logits"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["rows", "raw", "objectness", "queries"])
def test_scores_that_are_no_numbers(tmp_path: Path, value: float, kind: str) -> None:
    g = Graph()
    if kind == "rows":
        outputs = {"output0": rows(g, box(g), [[value, WANTED]])}
    elif kind == "raw":
        outputs = {"output0": anchors(g, box(g, "cxcywh"), [[0.1, 0.1, value]])}
    elif kind == "objectness":
        parts: list[Part] = [[[value]], class_scores()]
        outputs = {"output": anchors(g, box(g, "cxcywh"), *parts, count=3 * CELLS, channels_first=False)}
    else:
        silent = np.full((300, CLASSES), -9.0, np.float32)
        logits = g.among(g.constant([[value, -9.0, -9.0]]), 300, 3, silent)
        outputs = {"logits": logits, "pred_boxes": rows(g, box(g, "cxcywh", "unit"))}
    path = save(g, tmp_path, outputs)
    if value < 0 and kind == "queries":  # a class that is masked out
        assert len(OnnxDetector(path).detect(draw(*FRAME, BOX))) == 0
    else:
        assert "m.onnx" in refusal(path)


@pytest.mark.parametrize(
    "row",
    [[60, 50, 20, 10, SCORE, 2], [48, 32, 48, 8, SCORE, 2], [48, 32, 10, 8, SCORE, 2], [0.5, 0.5, 0.2, 0.2, SCORE, 2]],
)
def test_boxes_of_an_order_that_does_not_show_are_refused(tmp_path: Path, row: list[float]) -> None:
    g = Graph()
    path = save(g, tmp_path, {"output0": rows(g, g.constant([row[:4]]), [row[4:]])})
    message = refusal(path)
    assert "1 of 1 boxes do not lie in a picture of 64×96" in message
    assert "box_format" in message
    if row[0] != 60:
        centred = OnnxSettings(box_format="cxcywh")
        assert len(OnnxDetector(path, centred).detect(draw(*FRAME, BOX))) == 1


def test_a_message_has_an_end(tmp_path: Path) -> None:
    g = Graph()
    outputs = {f"{'x' * 999}{k}": g.constant(np.zeros((1, 3))) for k in range(300)}
    refusal(save(g, tmp_path, outputs))


def test_unknown_rows_of_57_columns_are_refused_and_can_be_named(tmp_path: Path) -> None:
    g = Graph()
    path = save(g, tmp_path, {"output0": rows(g, box(g), SCORE_ROW, KEY_POINTS)})
    assert "no family of detectors explains" in refusal(path)
    assert_finds(path, OnnxSettings(family="yolo-end2end"))


def test_a_family_that_is_named_is_held_to_its_values(tmp_path: Path) -> None:
    g = Graph()
    path = save(g, tmp_path, {"output0": rows(g, box(g), SCORE_ROW, KEY_POINTS)}, POSE)
    assert "scores reach" in refusal(path, OnnxSettings(family="yolov8"))


@pytest.mark.parametrize("task", ["obb", "classify", "semantic", "depth"])
def test_other_tasks_are_refused_with_nms_too(tmp_path: Path, task: str) -> None:
    g = Graph()
    path = save(g, tmp_path, {"output0": rows(g, box(g, "cxcywh"), SCORE_ROW, [[0.3]])}, {**NAMES, **NMS, "task": task})
    assert f"a model of task {task}" in refusal(path)


# --- on frames --------------------------------------------------------------------------------------------------------


WHITE = np.full((*FRAME, 3), 255, np.uint8)
SILENT = [0.0] * 6


@pytest.mark.parametrize(
    ("usual", "row", "words"),
    [
        (SILENT, [10, 20, 50, 60, 87, 1], "scores reach 87"),
        (SILENT, [10, 20, 50, 60, np.nan, 1], "not finite"),
        (SILENT, [10, 20, 50, 60, 0.9, 1.5], "not whole numbers"),
        (SILENT, [60, 50, 20, 10, 0.9, 1], "do not lie in a picture"),
        ([10, 20, 50, 60, 0.9, 1], [10, 20, 50, 60, 87, 1], "scores reach 87"),
        ([10, 20, 50, 60, 0.9, 1], [10, 20, 5000, 6000, 0.9, 1], "do not lie in a picture"),
        ([0.1, 0.2, 0.5, 0.6, 0.9, 1], [10, 20, 50, 60, 0.9, 1], "do not lie in a picture"),
        ([10, 20, 50, 60, 1, 0.9], [10, 20, 50, 60, 0.9, 1], "not whole numbers"),
    ],
)
def test_what_only_shows_on_a_frame_is_refused_there(
    tmp_path: Path, usual: list[float], row: list[float], words: str
) -> None:
    g = Graph()
    detector = OnnxDetector(save(g, tmp_path, {"output0": switched(g, usual, row)}))
    for _ in range(7):
        assert len(detector.detect(draw(*FRAME, BOX))) == (usual != SILENT)
    with pytest.raises(InputError, match=words):
        detector.detect(WHITE)


def test_what_only_shows_on_a_frame_is_recognised_there(tmp_path: Path) -> None:
    for row, score, class_id in (
        ([0.125, 0.25, 0.5, 0.75, 0.75, 2], 0.75, 2),
        ([12, 16, 48, 48, 2, 0.75], 0.75, 2),
        ([12, 16, 48, 48, 0, 0.75], 0.75, 0),
    ):
        g = Graph()
        detector = OnnxDetector(save(g, tmp_path, {"output0": switched(g, SILENT, row)}))
        assert len(detector.detect(draw(*FRAME, BOX))) == 0
        found = detector.detect(WHITE)
        np.testing.assert_allclose(found.xyxy, [[24, 32, 96, 96]], atol=1e-3)
        assert (found.score.tolist(), found.class_id.tolist()) == ([score], [class_id])


def test_a_box_without_extent_or_in_the_padding_alone_refuses_nothing(tmp_path: Path) -> None:
    for row in ([10, 20, 10, 60, 0.9, 1], [0, 0, 96, 3, 0.9, 1], [-20, 10, 60, 70, 0.9, 1]):
        g = Graph()
        detector = OnnxDetector(save(g, tmp_path, {"output0": switched(g, SILENT, row)}))
        detector.detect(WHITE[:100])


# --- whatever comes ---------------------------------------------------------------------------------------------------

ROLES = (
    ("boxes", "labels", "scores"),
    ("num_dets", "boxes", "scores", "classes"),
    ("num_detections", "detection_boxes", "detection_scores", "detection_classes"),
    ("logits", "pred_boxes"),
    ("output0",),
    ("output0", "output1"),
    ("dets", "labels"),
)
METADATA: tuple[dict[str, str], ...] = (
    {},
    NAMES,
    SEGMENT,
    POSE,
    {**SEGMENT, **NMS},
    {"names": "[1, 2]", "args": "[", "kpt_shape": "[-1, 3]", "task": "pose"},
)


def random_output(rng: np.random.Generator, name: str, count: int) -> NDArray[Any]:
    """Numbers of any kind and type, mostly of a shape that belongs to the name."""
    shapes: dict[str, tuple[int, ...]] = {
        "output0": (1, int(rng.choice([300, 7, 14, CELLS, 378])), int(rng.choice([6, 7, 14, 57, CELLS]))),
        "output1": (1, int(rng.choice([8, 32])), 16, 24),
        "logits": (1, count, int(rng.integers(1, 6))),
        "dets": (1, count, 5),
    }
    shape = shapes.get(name, (1, count, 4) if "boxes" in name else (1, 1) if "num" in name else (1, count))
    if rng.uniform() < 0.2:
        shape = tuple(int(side) for side in rng.integers(0, 9, rng.integers(0, 5)))
    odd = np.array([np.nan, np.inf, -np.inf, 0, 1, 2, 50.5, 3e38, -1])
    values = (rng.normal(size=shape) * 1e3, rng.uniform(size=shape), rng.choice(odd, shape), rng.integers(0, 90, shape))
    with np.errstate(all="ignore"):
        kind = rng.choice(np.array([np.float32, np.float32, np.float16, np.int64, np.uint8, np.float64]))
        return np.asarray(values[rng.integers(4)]).astype(kind)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_whatever_a_model_says_is_a_detection_or_one_line(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    messages: list[str] = []
    for _ in range(60):
        g, count = Graph(), int(rng.choice([0, 1, 5, 100, 300]))
        arrays = {name: random_output(rng, name, count) for name in ROLES[rng.integers(len(ROLES))]}
        outputs = {name: g.constant(array, array.dtype) for name, array in arrays.items()}
        path = save(g, tmp_path, outputs, METADATA[rng.integers(len(METADATA))])
        said: dict[str, Any] = {"score_threshold": float(rng.choice([0, 0.1, 1]))}
        if rng.uniform() < 0.4:
            said |= {"family": str(rng.choice(FAMILY_NAMES)), "class_count": int(rng.integers(1, 90))}
        if rng.uniform() < 0.3:
            said |= {"scores": str(rng.choice(["percent", "logits"])), "box_format": str(rng.choice(list(FORMATS)))}
        try:
            detections = OnnxDetector(path, OnnxSettings(**said)).detect(draw(*FRAME, BOX))
        except InputError as error:
            messages.append(str(error))
            continue
        assert np.isfinite(detections.xyxy).all()
        assert ((detections.score >= 0) & (detections.score <= 1)).all()
    assert all("m.onnx" in message and "\n" not in message and len(message) < 4000 for message in messages)
