"""Tiny ONNX detectors: each finds the one red rectangle of its input and says so in the layout of a family.

The rectangle is where the red channel is above 0.7 of its range, so a model sees it only when colours, their order and
the normalisation arrive as its family expects. Its input is 64×96; a usual head has 126 cells there (8×12 + 4×6 + 2×3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH = 64, 96
CELLS = 126
CLASSES = 3
WANTED = 2
"""The class that every model gives its rectangle."""
SCORE = 0.75


@dataclass
class Graph:
    """Nodes and constants of a model under construction; methods give names of tensors."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def name(self, tensor: str, name: str) -> str:
        self.nodes.append(helper.make_node("Identity", [tensor], [name]))
        return name

    def rectangle(self, image: str, channel: int, threshold: float) -> str:
        """`(1, 4)` float xyxy of the bright pixels of a channel of the first NCHW image."""
        first = self.node("Gather", image, self.constant([0], np.int64), axis=0)
        plane = self.node("Gather", first, self.constant([channel], np.int64), axis=1)
        bright = self.node("Cast", self.node("Greater", plane, self.constant(threshold)), to=TensorProto.FLOAT)
        edges = []
        for last, axes in ((0, (1, 2)), (0, (1, 3)), (1, (1, 2)), (1, (1, 3))):
            line = self.node("ReduceMax", bright, axes=list(axes), keepdims=0)
            edge = self.node("ArgMax", line, axis=1, keepdims=1, select_last_index=last)
            edge = self.node("Cast", edge, to=TensorProto.FLOAT)
            edges.append(self.node("Add", edge, self.constant([[float(last)]])))
        return self.node("Concat", *edges, axis=1)

    def centred(self, xyxy: str) -> str:
        """`(1, 4)` xyxy → cxcywh."""
        to_centre = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]])
        return self.node("MatMul", xyxy, self.constant(to_centre))

    def scaled(self, tensor: str, factors: Sequence[float]) -> str:
        return self.node("Mul", tensor, self.constant([factors]))

    def row(self, *parts: str) -> str:
        """Joins `(1, …)` pieces to one `(1, C)`."""
        return self.node("Concat", *parts, axis=1)

    def among(self, row: str, count: int, at: int, filler: NDArray[np.float32]) -> str:
        """`(1, count, C)`: the row at position `at`, `(count, C)` fillers elsewhere."""
        rows = [self.constant(filler[:at]), row, self.constant(filler[at + 1 : count])]
        stacked = self.node("Concat", *rows, axis=0)
        return self.node("Unsqueeze", stacked, self.constant([0], np.int64))

    def save(
        self, path: Path, inputs: Sequence[Any], outputs: Mapping[str, str], metadata: Mapping[str, str] | None = None
    ) -> Path:
        """Writes the model; `outputs` maps names to tensors of this graph."""
        infos = []
        for name, tensor in outputs.items():
            self.name(tensor, name)
            infos.append(helper.make_empty_tensor_value_info(name))
        graph = helper.make_graph(self.nodes, "detector", list(inputs), infos, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if metadata:
            helper.set_model_props(model, dict(metadata))
        onnx.save(onnx.shape_inference.infer_shapes(model), str(path))
        return path


def image_info(shape: Sequence[int | str] = (1, 3, HEIGHT, WIDTH), dtype: int = TensorProto.FLOAT) -> Any:
    """The image input."""
    return helper.make_tensor_value_info("images", dtype, list(shape))


def class_scores(value: float = SCORE) -> list[list[float]]:
    """`(1, CLASSES)`: the wanted class."""
    scores = [[0.0] * CLASSES]
    scores[0][WANTED] = value
    return scores


NAMES = {"names": "{0: 'cat', 1: 'dog', 2: 'owl'}", "task": "detect"}
GREY = np.array([WIDTH / 2, HEIGHT / 2, 10, 10], np.float32)


def quiet(count: int, columns: int) -> NDArray[np.float32]:
    """`(count, columns)` anchors spread over the input that have no score."""
    rows = np.zeros((count, columns), np.float32)
    rows[:, :2] = np.linspace((0, 0), (WIDTH, HEIGHT), count)
    rows[:, 2:4] = 8
    return rows


Build = Callable[[Path], Path]


def yolov8(path: Path) -> Path:
    g = Graph()
    row = g.row(g.centred(g.rectangle("images", 0, 0.7)), g.constant(class_scores()))
    rows = g.among(row, CELLS, 40, quiet(CELLS, 4 + CLASSES))
    return g.save(path, [image_info()], {"output0": g.node("Transpose", rows, perm=[0, 2, 1])})


def yolov8_transposed(path: Path) -> Path:
    g = Graph()
    row = g.row(g.centred(g.rectangle("images", 0, 0.7)), g.constant(class_scores()))
    return g.save(path, [image_info()], {"output0": g.among(row, CELLS, 125, quiet(CELLS, 4 + CLASSES))}, NAMES)


def yolov8_segment(path: Path) -> Path:
    g = Graph()
    row = g.row(g.centred(g.rectangle("images", 0, 0.7)), g.constant(class_scores()), g.constant(np.full((1, 8), 5.0)))
    rows = g.among(row, CELLS, 0, quiet(CELLS, 4 + CLASSES + 8))
    outputs = {"output0": g.node("Transpose", rows, perm=[0, 2, 1]), "output1": g.constant(np.zeros((1, 8, 16, 24)))}
    return g.save(path, [image_info()], outputs, {**NAMES, "task": "segment"})


def yolov5(path: Path) -> Path:
    g = Graph()
    row = g.row(g.centred(g.rectangle("images", 0, 0.7)), g.constant([[0.8]]), g.constant(class_scores(SCORE / 0.8)))
    return g.save(path, [image_info()], {"output": g.among(row, 3 * CELLS, 7, quiet(3 * CELLS, 5 + CLASSES))})


def yolov7(path: Path) -> Path:
    """Exported with --grid: the raw heads are outputs too."""
    g = Graph()
    row = g.row(g.centred(g.rectangle("images", 0, 0.7)), g.constant([[0.8]]), g.constant(class_scores(SCORE / 0.8)))
    outputs = {"output": g.among(row, 3 * CELLS, 7, quiet(3 * CELLS, 5 + CLASSES))}
    for stride in (8, 16, 32):
        shape = (1, 3, HEIGHT // stride, WIDTH // stride, 5 + CLASSES)
        outputs[f"head{stride}"] = g.constant(np.zeros(shape, np.float32))
    return g.save(path, [image_info()], outputs)


def yolov9(path: Path) -> Path:
    """With its auxiliary head, which comes second."""
    g = Graph()
    row = g.row(g.centred(g.rectangle("images", 0, 0.7)), g.constant(class_scores()))
    rows = g.among(row, CELLS, 40, quiet(CELLS, 4 + CLASSES))
    outputs = {"output0": g.node("Transpose", rows, perm=[0, 2, 1])}
    outputs["output1"] = g.constant(np.ones((1, 4 + CLASSES, CELLS), np.float32))
    return g.save(path, [image_info()], outputs)


def yolox(path: Path) -> Path:
    """Not decoded: the rectangle is in the cell at row 1, column 2 of stride 16."""
    g = Graph()
    box = g.scaled(g.centred(g.rectangle("images", 2, 0.7 * 255)), [1 / 16] * 4)
    centre, extent = (g.node("Gather", box, g.constant(axes, np.int64), axis=1) for axes in ([0, 1], [2, 3]))
    offset = g.node("Sub", centre, g.constant([[2.0, 1.0]]))
    row = g.row(offset, g.node("Log", extent), g.constant([[0.8]]), g.constant(class_scores(SCORE / 0.8)))
    filler = np.zeros((CELLS, 5 + CLASSES), np.float32)
    return g.save(path, [image_info()], {"output": g.among(row, CELLS, 96 + 6 + 2, filler)})


def yolox_decoded(path: Path) -> Path:
    g = Graph()
    box = g.centred(g.rectangle("images", 2, 0.7 * 255))
    row = g.row(box, g.constant([[0.8]]), g.constant(class_scores(SCORE / 0.8)))
    return g.save(path, [image_info()], {"output": g.among(row, CELLS, 3, quiet(CELLS, 5 + CLASSES))})


def end_to_end(path: Path) -> Path:
    g = Graph()
    row = g.row(g.rectangle("images", 0, 0.7), g.constant([[SCORE, WANTED]]))
    return g.save(path, [image_info()], {"output0": g.among(row, 300, 1, np.zeros((300, 6), np.float32))})


def batch_indexed(path: Path) -> Path:
    """Its first row belongs to a second image and must not be read for the first."""
    g = Graph()
    row = g.row(g.constant([[0.0]]), g.rectangle("images", 0, 0.7), g.constant([[WANTED, SCORE]]))
    other = g.constant([[1.0, 1, 1, 9, 9, 0, 0.9]])
    return g.save(path, [image_info()], {"output": g.node("Concat", other, row, axis=0)})


def counted(path: Path) -> Path:
    """Its second row is beyond `num_dets` and must not be read."""
    g = Graph()
    boxes = g.among(g.rectangle("images", 0, 0.7), 2, 0, np.array([[0, 0, 0, 0], [1, 1, 9, 9]], np.float32))
    outputs = {
        "num_dets": g.constant([[1]], np.int32),
        "det_boxes": boxes,
        "det_scores": g.constant([[SCORE, 0.9]]),
        "det_classes": g.constant([[WANTED, 0]], np.int32),
    }
    return g.save(path, [image_info()], outputs)


def rt_detr(path: Path) -> Path:
    """With a postprocessor that takes `(W, H)` of the frame."""
    g = Graph()
    unit = g.scaled(g.rectangle("images", 0, 0.7), [1 / WIDTH, 1 / HEIGHT] * 2)
    size = g.node("Cast", "orig_target_sizes", to=TensorProto.FLOAT)
    frame = g.node("Mul", unit, g.node("Concat", size, size, axis=1))
    outputs = {
        "labels": g.constant([[WANTED, 0]], np.int64),
        "boxes": g.among(frame, 2, 0, np.zeros((2, 4), np.float32)),
        "scores": g.constant([[SCORE, 0.01]]),
    }
    sizes = helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2])
    return g.save(path, [image_info(), sizes], outputs)


def labelled(path: Path) -> Path:
    """torchvision's outputs, which have no batch."""
    g = Graph()
    box = g.rectangle("images", 0, 0.7)
    outputs = {"boxes": box, "labels": g.constant([WANTED], np.int64), "scores": g.constant([SCORE])}
    return g.save(path, [image_info()], outputs)


def mmdeploy(path: Path) -> Path:
    g = Graph()
    box = g.rectangle("images", 2, (0.7 - 0.485) / 0.229)  # ImageNet's red, in the last channel
    rows = g.among(g.row(box, g.constant([[SCORE]])), 2, 0, np.zeros((2, 5), np.float32))
    return g.save(path, [image_info()], {"dets": rows, "labels": g.constant([[WANTED, 0]], np.int64)})


def _queries(path: Path, count: int, threshold: float, logits: list[float], names: tuple[str, str]) -> Path:
    """DETR's two outputs; the rectangle is query 3."""
    g = Graph()
    box = g.scaled(g.centred(g.rectangle("images", 0, threshold)), [1 / WIDTH, 1 / HEIGHT] * 2)
    boxes = g.among(box, count, 3, np.full((count, 4), 0.5, np.float32))
    silent = np.full((count, len(logits)), -9, np.float32)
    silent[:, -1] = 9 if len(logits) > CLASSES else -9
    return g.save(path, [image_info()], {names[0]: g.among(g.constant([logits]), count, 3, silent), names[1]: boxes})


IMAGENET_RED = (0.7 - 0.485) / 0.229
LOGIT = float(np.log(SCORE / (1 - SCORE)))


def rf_detr(path: Path) -> Path:
    return _queries(path, 300, IMAGENET_RED, [-9.0, -9.0, LOGIT], ("labels", "dets"))


def rt_detr_raw(path: Path) -> Path:
    return _queries(path, 300, 0.7, [-9.0, -9.0, LOGIT], ("logits", "pred_boxes"))


def detr(path: Path) -> Path:
    """The last logit is "no object": softmax over (−∞, −∞, log 3, 0) is 0.75."""
    return _queries(path, 100, IMAGENET_RED, [-99.0, -99.0, float(np.log(3)), 0.0], ("logits", "pred_boxes"))


def rt_detr_ultralytics(path: Path) -> Path:
    g = Graph()
    box = g.scaled(g.centred(g.rectangle("images", 0, 0.7)), [1 / WIDTH, 1 / HEIGHT] * 2)
    rows = g.among(g.row(box, g.constant(class_scores())), 300, 9, np.full((300, 4 + CLASSES), 0.01, np.float32))
    return g.save(path, [image_info()], {"output0": rows}, NAMES)


def segment_model(path: Path, kind: str) -> Path:
    """The first prototype is how red the picture is; the mask of the red rectangle is all of it but its left third."""
    g = Graph()
    corners = g.rectangle("images", 0, 0.7)
    red = g.node("Slice", "images", *(g.constant([n], np.int64) for n in (0, 1, 1)))
    cells = g.node("Sub", g.node("AveragePool", red, kernel_shape=[4, 4], strides=[4, 4]), g.constant(0.5))
    ramp = np.tile(np.linspace(-1, 1, WIDTH // 4, dtype=np.float32), (1, 1, HEIGHT // 4, 1))
    others = np.concatenate([ramp, np.zeros((1, 6, HEIGHT // 4, WIDTH // 4), np.float32)], axis=1)
    prototypes = g.node("Concat", cells, g.constant(others), axis=1)
    coefficients = g.constant([[4.0, 0, 1, 2, -3, 1, 1, 1]])
    score = g.constant([[SCORE, WANTED]])
    if kind in ("nms", "end2end"):
        row = g.row(corners, score, coefficients)
        rows = g.among(row, 300, 0, np.zeros((300, 14), np.float32))
        metadata = {"args": "{'nms': True}"} if kind == "nms" else {"end2end": "True"}
    elif kind == "yolov5":
        row = g.row(g.centred(corners), g.constant([[1, 0, 0, SCORE]]), coefficients)
        rows = g.among(row, 378, 5, quiet(378, 16))
        metadata = {}
    else:
        row = g.row(g.centred(corners), g.constant([[0, 0, SCORE]]), coefficients)
        rows = g.node("Transpose", g.among(row, 126, 5, quiet(126, 15)), perm=[0, 2, 1])
        metadata = {}
    metadata |= NAMES if kind == "yolov5" else {**NAMES, "task": "segment"}
    return g.save(path, [image_info()], {"output0": rows, "output1": prototypes}, metadata)


def switched(g: Graph, quiet_row: list[float], row: list[float]) -> str:
    """`(1, 300, 6)`: one row on dark pictures, the other on bright ones; drawn pictures are dark."""
    mean = g.node("ReduceMean", "images", axes=[1, 2, 3], keepdims=1)
    bright = g.node("Greater", g.node("Reshape", mean, g.constant([1, 1], np.int64)), g.constant([[0.8]]))
    chosen = g.node("Where", bright, g.constant([row]), g.constant([quiet_row]))
    return g.among(chosen, 300, 0, np.zeros((300, 6), np.float32))


LAYOUTS: dict[str, tuple[str, Build]] = {
    "yolov8": ("yolov8", yolov8),
    "yolov8 transposed": ("yolov8", yolov8_transposed),
    "yolov8 with masks": ("yolov8", yolov8_segment),
    "yolov5": ("yolov5", yolov5),
    "yolov7 with raw heads": ("yolov5", yolov7),
    "yolov9 with two heads": ("yolov8", yolov9),
    "yolox": ("yolox", yolox),
    "yolox decoded": ("yolox-decoded", yolox_decoded),
    "end to end": ("yolo-end2end", end_to_end),
    "batch-indexed": ("yolov7-end2end", batch_indexed),
    "EfficientNMS": ("nms", counted),
    "rt-detr": ("rt-detr", rt_detr),
    "torchvision": ("labelled", labelled),
    "mmdeploy": ("mmdeploy", mmdeploy),
    "rf-detr": ("rf-detr", rf_detr),
    "rt-detr of transformers": ("rt-detr-raw", rt_detr_raw),
    "detr": ("detr", detr),
    "rt-detr of ultralytics": ("rt-detr-ultralytics", rt_detr_ultralytics),
}
"""Name of the layout → family, and what builds the model."""


def draw(height: int, width: int, xyxy: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """A dark frame with one red rectangle."""
    image = np.full((height, width, 3), 20, np.uint8)
    left, top, right, bottom = xyxy
    image[top:bottom, left:right] = (255, 0, 0)
    return image
