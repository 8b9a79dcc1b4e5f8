from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.detectors import onnx_models
from tests.detectors.onnx_models import LAYOUTS, NAMES, SCORE, WANTED, Graph, draw, image_info
from trackweave.detectors.base import Detector
from trackweave.detectors.onnx import OnnxDetector
from trackweave.detectors.registry import make_detector
from trackweave.detectors.settings import IMAGENET, OnnxSettings
from trackweave.errors import InputError, SettingError


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (100, 192, (30, 40, 90, 78)),  # wide: half size, padding above and below
        (128, 96, (10, 20, 50, 120)),  # high: half size, padding at the sides
        (64, 96, (5, 7, 60, 33)),  # as it is
    ],
)
def test_every_layout_detects_the_rectangle(
    tmp_path: Path, layout: str, height: int, width: int, box: tuple[int, int, int, int]
) -> None:
    family, build = LAYOUTS[layout]
    detector = OnnxDetector(build(tmp_path / "m.onnx"))
    assert detector.family == family
    detections = detector.detect(draw(height, width, box))
    assert len(detections) == 1
    # Halved edges at even places are exact; where the frame is stretched they may be off by half an input pixel.
    scale = max(height / 64, width / 96)
    np.testing.assert_allclose(detections.xyxy[0], box, atol=1e-3 if detector._resize != "stretch" else scale)
    assert detections.score[0] == pytest.approx(SCORE, abs=1e-3)
    assert detections.class_id.tolist() == [WANTED]


@pytest.mark.parametrize("layout", ["rt-detr", "rf-detr", "torchvision", "rt-detr of ultralytics"])
def test_stretched_frames_are_exact_where_the_ratio_is_whole(tmp_path: Path, layout: str) -> None:
    detector = OnnxDetector(LAYOUTS[layout][1](tmp_path / "m.onnx"))
    box = (30, 40, 93, 78)
    detections = detector.detect(draw(2 * 64, 3 * 96, box))
    np.testing.assert_allclose(detections.xyxy[0], box, atol=1e-3)


def test_a_detector_is_one(tmp_path: Path) -> None:
    assert isinstance(OnnxDetector(onnx_models.yolov8(tmp_path / "small.onnx")), Detector)
    assert OnnxDetector(tmp_path / "small.onnx").name == "onnx:small"


def test_names_and_classes_come_from_the_metadata(tmp_path: Path) -> None:
    path = onnx_models.yolov8_transposed(tmp_path / "m.onnx")
    image = draw(64, 96, (5, 7, 60, 33))
    assert OnnxDetector(path).class_names == {0: "cat", 1: "dog", 2: "owl"}
    assert len(OnnxDetector(path, OnnxSettings(classes=("owl",))).detect(image)) == 1
    assert len(OnnxDetector(path, OnnxSettings(classes=(0, "dog"))).detect(image)) == 0
    with pytest.raises(
        SettingError, match=r"no class 'cow' in onnx:m; did you mean 'owl'. .known: 0 cat, 1 dog, 2 owl."
    ):
        OnnxDetector(path, OnnxSettings(classes=("cow",)))


def test_the_score_threshold_is_the_lowest_score_kept(tmp_path: Path) -> None:
    path = onnx_models.end_to_end(tmp_path / "m.onnx")
    image = draw(64, 96, (5, 7, 60, 33))
    assert len(OnnxDetector(path, OnnxSettings(score_threshold=SCORE)).detect(image)) == 1
    assert len(OnnxDetector(path, OnnxSettings(score_threshold=SCORE + 0.01)).detect(image)) == 0


def test_duplicates_go_only_where_a_family_leaves_them(tmp_path: Path) -> None:
    def model(path: Path, transposed: bool) -> Path:
        g = Graph()
        if transposed:
            rows = np.zeros((1, 7, 126), np.float32)
            rows[0, :4], rows[0, 4, :3] = 20, (0.5, 0.9, 0.7)
        else:
            rows = np.zeros((1, 20, 6), np.float32)
            rows[0, :, :4], rows[0, :3, 4] = (10, 10, 30, 30), (0.5, 0.9, 0.7)
        return g.save(path, [image_info()], {"out": g.constant(rows)})

    image = draw(64, 96, (0, 0, 1, 1))
    assert OnnxDetector(model(tmp_path / "a.onnx", True)).detect(image).score.tolist() == pytest.approx([0.9])
    kept = OnnxDetector(model(tmp_path / "b.onnx", False)).detect(image)
    assert kept.score.tolist() == pytest.approx([0.9, 0.7, 0.5])
    few = OnnxDetector(tmp_path / "b.onnx", OnnxSettings(max_detections=2)).detect(image)
    assert few.score.tolist() == pytest.approx([0.9, 0.7])


def test_boxes_are_clipped_and_those_outside_or_endless_are_left_out(tmp_path: Path) -> None:
    rows = np.zeros((1, 20, 6), np.float32)
    rows[0, :4, 4] = (0.9, 0.8, 0.7, 0.6)
    rows[0, :4, :4] = np.array([[-5, -5, 500, 500], [0, 0, 96, 3], [np.nan, 0, 9, 9], [0, 0, np.inf, 9]])
    g = Graph()
    detector = OnnxDetector(g.save(tmp_path / "m.onnx", [image_info()], {"out": g.constant(rows)}))
    detections = detector.detect(draw(100, 192, (0, 0, 1, 1)))  # 7 rows of padding above: the second box is all padding
    assert detections.xyxy.tolist() == [[0, 0, 192, 100]]


@pytest.mark.parametrize(
    ("family", "output", "row"),
    [
        ("yolo-end2end", "output0", [0, 7, 96, 57, 0.9, 1]),  # the frame lies in the middle
        ("yolox-decoded", "output", [48, 25, 96, 50, 0.9, 1, 0, 0]),  # in the corner
        ("yolox", "output", [48 / 8, 25 / 8, np.log(96 / 8), np.log(50 / 8), 0.9, 1, 0, 0]),  # the same in cells
    ],
)
def test_padding_lies_where_the_family_puts_it(tmp_path: Path, family: str, output: str, row: list[float]) -> None:
    count = 300 if len(row) == 6 else onnx_models.CELLS
    table = np.zeros((1, count, len(row))) if family == "yolox" else onnx_models.quiet(count, len(row))[None]
    table[0, 0] = row
    g = Graph()
    detector = OnnxDetector(g.save(tmp_path / "m.onnx", [image_info()], {output: g.constant(table)}))
    assert detector.family == family
    detections = detector.detect(draw(100, 192, (0, 0, 1, 1)))
    np.testing.assert_allclose(detections.xyxy, [[0, 0, 192, 100]], atol=1e-3)


@pytest.mark.parametrize("kind", ["channels last", "half", "bytes", "open size", "open batch", "batch of two"])
def test_inputs_of_every_kind(tmp_path: Path, kind: str) -> None:
    """The same detector behind other inputs."""
    g = Graph()
    shape: tuple[int | str, ...] = (1, 3, 64, 96)
    dtype, image, threshold = TensorProto.FLOAT, "images", 0.7
    if kind == "channels last":
        shape, image = (1, 64, 96, 3), g.node("Transpose", "images", perm=[0, 3, 1, 2])
    elif kind == "half":
        dtype, image = TensorProto.FLOAT16, g.node("Cast", "images", to=TensorProto.FLOAT)
    elif kind == "bytes":
        dtype, image, threshold = TensorProto.UINT8, g.node("Cast", "images", to=TensorProto.FLOAT), 0.7 * 255
    elif kind == "open size":
        shape = (1, 3, "height", "width")
    elif kind == "open batch":
        shape = ("batch", 3, 64, 96)
    else:
        shape = (2, 3, 64, 96)
    row = g.row(g.rectangle(image, 0, threshold), g.constant([[SCORE, WANTED]]))
    rows = g.among(row, 20, 0, np.zeros((20, 6), np.float32))
    if kind == "half":
        rows = g.node("Cast", rows, to=TensorProto.FLOAT16)
    path = g.save(tmp_path / "m.onnx", [image_info(shape, dtype)], {"output0": rows})
    detector = OnnxDetector(path, OnnxSettings(input_size=(64, 96) if kind == "open size" else None))
    detections = detector.detect(draw(100, 192, (30, 40, 90, 78)))
    np.testing.assert_allclose(detections.xyxy, [[30, 40, 90, 78]], atol=0.1)
    assert detector.input_size == (64, 96)


@pytest.mark.parametrize("batch", ["batch", 2, 1])
def test_a_batch_gives_every_frame_its_own_boxes(tmp_path: Path, batch: int | str) -> None:
    """The model answers with the mean brightness of each image as the box's right edge."""
    g = Graph()
    mean = g.node("Mul", g.node("ReduceMean", "images", axes=[1, 2, 3], keepdims=1), g.constant(100.0))
    edge = g.node("Reshape", mean, g.constant([-1, 1, 1], np.int64))
    zero = g.node("Mul", edge, g.constant(0.0))
    rest = [g.node("Add", zero, g.constant(v)) for v in (40.0, SCORE, WANTED)]
    rows = g.node("Concat", zero, zero, edge, *rest, axis=2)
    shape: tuple[int | str, ...] = (batch, 3, 64, 96)
    detector = OnnxDetector(g.save(tmp_path / "m.onnx", [image_info(shape)], {"output0": rows}))
    images = [np.full((64 * n, 96 * n, 3), value, np.uint8) for n, value in ((1, 51), (2, 102), (1, 153))]
    edges = [detections.xyxy[0, 2] for detections in detector.detect_batch(images)]
    np.testing.assert_allclose(edges, [20, 2 * 40, 60], rtol=1e-4)
    assert detector.detect_batch([]) == []


def test_outputs_without_a_batch_are_asked_for_one_by_one(tmp_path: Path) -> None:
    g = Graph()
    outputs = {
        "boxes": g.rectangle("images", 0, 0.7),
        "labels": g.constant([WANTED], np.int64),
        "scores": g.constant([SCORE]),
    }
    detector = OnnxDetector(g.save(tmp_path / "m.onnx", [image_info(("batch", 3, 64, 96))], outputs))
    boxes = [(5, 7, 60, 33), (50, 20, 90, 60)]
    detections = detector.detect_batch([draw(64, 96, box) for box in boxes])
    assert [tuple(each.xyxy[0].tolist()) for each in detections] == boxes


def test_the_size_of_an_open_input_comes_from_the_metadata(tmp_path: Path) -> None:
    def model(metadata: dict[str, str]) -> Path:
        g = Graph()
        size = g.node("Shape", "images")
        image = g.node("Cast", g.node("Gather", size, g.constant([3, 2, 3, 2], np.int64)), to=TensorProto.FLOAT)
        row = g.row(g.node("Unsqueeze", image, g.constant([0], np.int64)), g.constant([[SCORE, WANTED]]))
        rows = g.node("Unsqueeze", row, g.constant([0], np.int64))
        return g.save(tmp_path / "m.onnx", [image_info((1, 3, "h", "w"))], {"output0": rows}, metadata)

    assert OnnxDetector(model({})).input_size == (640, 640)
    assert OnnxDetector(model({"imgsz": "[32, 64]"})).input_size == (32, 64)
    assert OnnxDetector(model({"imgsz": "[32, 64]"}), OnnxSettings(input_size=96)).input_size == (96, 96)
    assert OnnxDetector(model({"imgsz": "__import__('os')"})).input_size == (640, 640)
    with pytest.raises(InputError, match="takes images of 64×96 only"):
        OnnxDetector(onnx_models.yolov8(tmp_path / "fixed.onnx"), OnnxSettings(input_size=640))


def test_normalisation_and_resizing_can_be_set(tmp_path: Path) -> None:
    path = onnx_models.yolov8(tmp_path / "m.onnx")
    image = draw(100, 192, (30, 40, 90, 78))
    image[image == 255] = 170  # below 0.7 as it is, above when normalised: (0.667 − 0.485) / 0.229 = 0.79
    usual, normalised = (
        OnnxDetector(path).detect(image),
        OnnxDetector(path, OnnxSettings(pixels=IMAGENET)).detect(image),
    )
    assert usual.xyxy.tolist() == [[0, 0, 192, 100]]  # nothing is bright: the model says "everywhere"
    np.testing.assert_allclose(normalised.xyxy, [[30, 40, 90, 78]], atol=1e-3)
    stretched = OnnxDetector(path, OnnxSettings(resize="stretch")).detect(draw(100, 192, (30, 40, 90, 78)))
    np.testing.assert_allclose(stretched.xyxy, [[30, 40, 90, 78]], atol=1.6)


def test_one_class_of_a_bytetrack_yolox_is_not_taken_for_decoded_boxes(tmp_path: Path) -> None:
    g = Graph()
    rows = np.zeros((1, 126, 6), np.float32)
    detector = OnnxDetector(g.save(tmp_path / "m.onnx", [image_info()], {"output": g.constant(rows)}))
    assert detector.family == "yolox"


def test_a_family_can_be_named(tmp_path: Path) -> None:
    path = onnx_models.rt_detr_raw(tmp_path / "m.onnx")
    assert OnnxDetector(path, OnnxSettings(family="rf-detr")).family == "rf-detr"
    with pytest.raises(InputError, match=r"not outputs of family yolov8: logits \(1, 300, 3\) float32"):
        OnnxDetector(path, OnnxSettings(family="yolov8"))
    with pytest.raises(SettingError, match="no family 'yolo9000'; known: auto, nms"):
        OnnxDetector(path, OnnxSettings(family="yolo9000"))


def test_outputs_of_no_known_family_are_listed(tmp_path: Path) -> None:
    g = Graph()
    outputs = {"embedding": g.constant(np.zeros((1, 512))), "heat": g.constant(np.zeros((1, 4, 16, 24)))}
    path = g.save(tmp_path / "m.onnx", [image_info()], outputs)
    with pytest.raises(InputError) as caught:
        OnnxDetector(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("m.onnx", "embedding (1, 512) float32", "images (1, 3, 64, 96) float", "heat", "yolov8", "rf-detr"):
        assert part in message


@pytest.mark.parametrize("task", ["obb", "classify"])
def test_models_of_other_tasks_are_refused(tmp_path: Path, task: str) -> None:
    g = Graph()
    path = g.save(
        tmp_path / "m.onnx", [image_info()], {"o": g.constant(np.zeros((1, 8, 126)))}, {**NAMES, "task": task}
    )
    with pytest.raises(InputError, match=f"a model of task {task}"):
        OnnxDetector(path)


def test_inputs_that_cannot_be_fed_are_listed(tmp_path: Path) -> None:
    g = Graph()
    extra = helper.make_tensor_value_info("prompt", TensorProto.FLOAT, [1, 7])
    path = g.save(tmp_path / "two.onnx", [image_info(), extra], {"o": g.constant(np.zeros((1, 20, 6)))})
    with pytest.raises(InputError, match=r"only orig_target_sizes or pixel_mask .*prompt \(1, 7\)"):
        OnnxDetector(path)
    path = g.save(tmp_path / "none.onnx", [extra], {"o2": g.constant(np.zeros((1, 20, 6)))})
    with pytest.raises(InputError, match=r"one image input.*found inputs prompt \(1, 7\) float"):
        OnnxDetector(path)


def test_a_pixel_mask_is_fed(tmp_path: Path) -> None:
    g = Graph()
    unseen = g.node("ReduceMin", g.node("Cast", "pixel_mask", to=TensorProto.FLOAT), axes=[1, 2], keepdims=1)
    logits = g.node("Mul", g.constant(np.full((1, 50, 3), 2.0)), unseen)
    outputs = {"logits": logits, "pred_boxes": g.constant(np.full((1, 50, 4), 0.5))}
    mask = helper.make_tensor_value_info("pixel_mask", TensorProto.INT64, [1, 64, 96])
    detector = OnnxDetector(g.save(tmp_path / "m.onnx", [image_info(), mask], outputs))
    assert detector.family == "rf-detr"
    assert detector.detect(draw(64, 96, (0, 0, 1, 1))).score[0] == pytest.approx(0.8808, abs=1e-3)


def test_files_that_are_no_models_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(onnx_models.yolov8(tmp_path / "m.onnx").read_bytes()[:500])
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "empty.onnx").touch()
    for name in ("broken.onnx", "text.onnx", "empty.onnx"):
        with pytest.raises(InputError, match=rf"{name}: cannot be opened as an ONNX model") as caught:
            OnnxDetector(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"absent\.onnx: there is no such"):
        OnnxDetector(tmp_path / "absent.onnx")


def test_frames_and_settings_that_cannot_be_used(tmp_path: Path) -> None:
    path = onnx_models.yolov8(tmp_path / "m.onnx")
    detector = OnnxDetector(path)
    for frame in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(InputError, match="a frame is"):
            detector.detect(frame)  # type: ignore[arg-type]
    wrong: list[dict[str, Any]] = [
        {"score_threshold": 1.5},
        {"iou_threshold": -1.0},
        {"resize": "crop"},
        {"providers": ["Abacus"]},
    ]
    for settings in wrong:
        with pytest.raises(SettingError):
            make_detector(path, **settings)
    assert len(OnnxDetector(path, OnnxSettings(providers="auto", threads=1)).detect(draw(64, 96, (5, 7, 60, 33)))) == 1
    detector.close()
    with pytest.raises(InputError, match="closed"):
        detector.detect(draw(64, 96, (0, 0, 1, 1)))


def test_a_model_that_fails_on_a_frame_is_an_input_error(tmp_path: Path) -> None:
    g = Graph()
    bad = g.node("Reshape", "images", g.constant([1, 7, 6], np.int64))
    path = g.save(tmp_path / "m.onnx", [image_info((1, 3, "h", "w"))], {"o": bad})
    with pytest.raises(InputError, match=r"m\.onnx: the model fails on images \(1, 3, 640, 640\)"):
        OnnxDetector(path)
