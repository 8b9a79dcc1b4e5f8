"""The layouts of detectors' outputs: which tensor plays which role, what tells a layout, and how one image is read.

A `fits_…` says whether a model's trial outputs look like a layout; a `decode_…` reads one image of such outputs, and
raises `ValueError` when they are of another layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.detectors import onnx_decoding as decoding
from trackweave.detectors.onnx_decoding import Candidates, anchors_per_cell

Arrays = Mapping[str, NDArray[Any]]
Found = TypeVar("Found")
COCO_CLASSES = 80
DETR_QUERIES = 100


@dataclass(frozen=True)
class Facts:
    """What is known of a model: its answer to a grey image, and what its metadata say.

    Attributes:
        outputs: by name, of one trial run.
        inputs: names of all inputs.
        size: `(H, W)` of the image input.
        classes: how many, when the metadata name them.
        metadata: of the model.
    """

    outputs: Arrays
    inputs: tuple[str, ...]
    size: tuple[int, int]
    classes: int | None
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Call:
    """One decoding: the outputs of a run, which image of the batch, and what decoders need beside them."""

    outputs: Arrays
    image: int
    size: tuple[int, int]
    classes: int | None
    threshold: float


def _needed(value: Found | None) -> Found:
    """`ValueError` where a family that was asked for does not fit."""
    if value is None:
        raise ValueError("outputs of another layout")
    return value


def _role(outputs: Arrays, *words: str) -> str | None:
    """The output whose name holds one of these words, earlier words first."""
    return next((name for word in words for name in outputs if word in name.lower()), None)


def _dense(outputs: Arrays) -> NDArray[Any] | None:
    """The `(B, a, b)` output of YOLO models.

    Beside it may be what is not looked at: mask prototypes `(B, C, h, w)`, raw heads of YOLOv5 and v7 in five
    dimensions, a second head of YOLOv9 of the same shape.
    """
    found = [array for array in outputs.values() if array.ndim == 3]
    one_shape = len({array.shape for array in found}) == 1
    return found[0] if one_shape and all(array.ndim >= 3 for array in outputs.values()) else None


def _dense_rows(call: Call) -> NDArray[np.float32]:
    """One image's `(a, b)` of the dense output."""
    return np.asarray(_needed(_dense(call.outputs))[call.image], np.float32)


def _shape(facts: Facts) -> tuple[int, int]:
    """The last two sides of the dense output; `(0, 0)` when there is none."""
    dense = _dense(facts.outputs)
    return (0, 0) if dense is None else (dense.shape[1], dense.shape[2])


# Finished boxes -----------------------------------------------------------------------------------------------------


def counted_roles(outputs: Arrays) -> tuple[str, str, str, str] | None:
    """Names of count, boxes, scores and classes of EfficientNMS; None when the outputs are others."""
    count = _role(outputs, "num")
    boxes, scores, classes = _role(outputs, "box"), _role(outputs, "score"), _role(outputs, "class", "label")
    if len(outputs) != 4 or not (count and boxes and scores and classes):
        return None
    return count, boxes, scores, classes


def decode_counted(call: Call) -> Candidates:
    """The first `num_dets` rows."""
    roles = _needed(counted_roles(call.outputs))
    count, boxes, scores, classes = (call.outputs[name][call.image] for name in roles)
    n = int(np.asarray(count).reshape(-1)[0])
    return decoding.decode_rows(boxes[:n], scores[:n], classes[:n], call.threshold)


def labelled_roles(outputs: Arrays) -> tuple[str, str, str] | None:
    """Names of labels, boxes `(…, N, 4)` and scores; None when the outputs are others."""
    labels, boxes, scores = _role(outputs, "label", "class"), _role(outputs, "box"), _role(outputs, "score")
    if len(outputs) != 3 or not (labels and boxes and scores) or outputs[boxes].shape[-1] != 4:
        return None
    return labels, boxes, scores


def decode_labelled(call: Call) -> Candidates:
    """Labels, boxes and scores, with a batch or without."""
    roles = _needed(labelled_roles(call.outputs))
    arrays = [call.outputs[name] for name in roles]
    batched = arrays[1].ndim == 3
    labels, boxes, scores = (array[call.image] if batched else array for array in arrays)
    return decoding.decode_rows(boxes, scores, labels, call.threshold)


def scored_roles(outputs: Arrays) -> tuple[str, str] | None:
    """mmdeploy: `dets` `(B, N, 5)` and `labels` `(B, N)`."""
    dets = next((name for name, a in outputs.items() if a.ndim == 3 and a.shape[2] == 5), None)
    labels = next((name for name, a in outputs.items() if a.ndim == 2), None)
    return (dets, labels) if dets and labels and len(outputs) in (2, 3) else None


def decode_scored(call: Call) -> Candidates:
    """Boxes with their score in the fifth column."""
    roles = _needed(scored_roles(call.outputs))
    rows, labels = (call.outputs[name][call.image] for name in roles)
    return decoding.decode_rows(rows[:, :4], rows[:, 4], labels, call.threshold)


def fits_end_to_end(facts: Facts) -> bool:
    """`(B, N, 6)`, where N is no grid; key points and mask coefficients may follow when the metadata say end2end."""
    rows, columns = _shape(facts)
    if facts.metadata.get("end2end", "").lower() == "true":
        return columns >= 6
    grid = anchors_per_cell(facts.size, rows) is not None  # then it is a one-class model with objectness
    return columns == 6 and not grid and not is_ultralytics_detr(facts)


def decode_end_to_end(call: Call) -> Candidates:
    """Rows of xyxy, score, class."""
    rows = _dense_rows(call)
    return decoding.decode_rows(rows[:, :4], rows[:, 4], rows[:, 5], call.threshold)


def fits_batch_indexed(facts: Facts) -> bool:
    """`(N, 7)` and nothing else."""
    arrays = list(facts.outputs.values())
    return len(arrays) == 1 and arrays[0].ndim == 2 and arrays[0].shape[1] == 7


def decode_batch_indexed(call: Call) -> Candidates:
    """Rows of image, xyxy, class, score."""
    rows = next(iter(call.outputs.values()))
    rows = rows[rows[:, 0] == call.image]
    return decoding.decode_rows(rows[:, 1:5], rows[:, 6], rows[:, 5], call.threshold)


# Queries ------------------------------------------------------------------------------------------------------------


def query_roles(outputs: Arrays) -> tuple[str, str] | None:
    """Names of logits `(B, Q, classes)` and boxes `(B, Q, 4)`; other outputs, such as hidden states, may be there."""
    dense = {name: array for name, array in outputs.items() if array.ndim == 3}
    boxes = _role({n: a for n, a in dense.items() if a.shape[2] == 4}, "box", "det")
    rest = {n: a for n, a in dense.items() if n != boxes and boxes and a.shape[1] == dense[boxes].shape[1]}
    logits = _role(rest, "logit", "label", "class")
    return (logits, boxes) if logits and boxes else None


def query_decoder(no_object: bool) -> Callable[[Call], Candidates]:
    """The decoder of DETR's queries; `no_object` as in `decode_queries`."""

    def decode(call: Call) -> Candidates:
        roles = _needed(query_roles(call.outputs))
        logits, boxes = (np.asarray(call.outputs[name][call.image], np.float32) for name in roles)
        return decoding.decode_queries(logits, boxes, call.threshold, no_object)

    return decode


def fits_softmax_detr(facts: Facts) -> bool:
    """The 100 queries of the first DETR; its successors have 300 or more and a sigmoid."""
    roles = query_roles(facts.outputs)
    return roles is not None and facts.outputs[roles[1]].shape[1] == DETR_QUERIES and "logit" in roles[0].lower()


def fits_imagenet_detr(facts: Facts) -> bool:
    """RF-DETR calls its logits `labels`; transformers feed a pixel mask to models that normalise like ImageNet."""
    roles = query_roles(facts.outputs)
    return roles is not None and ("label" in roles[0].lower() or "pixel_mask" in facts.inputs)


# Dense heads --------------------------------------------------------------------------------------------------------


def is_ultralytics_detr(facts: Facts) -> bool:
    """Ultralytics' RT-DETR: `(B, 300, 4 + classes)`, finished scores, boxes in [0, 1]."""
    rows, columns = _shape(facts)
    named = "rtdetr" in facts.metadata.get("description", "").lower().replace("-", "")
    no_grid = bool(rows) and anchors_per_cell(facts.size, rows) is None
    return no_grid and columns > 4 and (named or (columns != 6 and columns - 4 == facts.classes))


def fits_classes(facts: Facts) -> bool:
    """Boxes and class scores without objectness, either way round."""
    rows, columns = _shape(facts)
    if rows < 5 or columns < 5:
        return False
    if facts.classes is not None:
        extra = facts.metadata.get("task") in ("segment", "pose")  # mask coefficients, key points
        widths = [rows, columns]
        return any(width == 4 + facts.classes or (extra and width > 4 + facts.classes) for width in widths)
    return rows < columns or (columns == 4 + COCO_CLASSES and anchors_per_cell(facts.size, rows) == 1)


def decode_classes(call: Call) -> Candidates:
    """Boxes and class scores, either way round."""
    rows = _dense_rows(call)
    channels_first = rows.shape[0] < rows.shape[1]
    if call.classes is not None and rows.shape[0] != rows.shape[1]:
        wanted = 4 + call.classes
        channels_first = rows.shape[0] == wanted if wanted in rows.shape else channels_first
    return decoding.decode_classes(rows.T if channels_first else rows, call.classes, call.threshold)


def has_objectness(facts: Facts) -> bool:
    """`(B, anchors, 5 + classes)` of a usual grid."""
    rows, columns = _shape(facts)
    fits = columns == 5 + facts.classes if facts.classes is not None else columns >= 5
    return fits and anchors_per_cell(facts.size, rows) is not None


def decode_objectness(call: Call) -> Candidates:
    """Boxes in pixels, objectness, class scores."""
    return decoding.decode_objectness(_dense_rows(call), call.classes, call.threshold)


def decode_yolox(call: Call) -> Candidates:
    """The same with boxes in cells."""
    rows = _dense_rows(call)
    return decoding.decode_objectness(decoding.decode_grid(rows, call.size), call.classes, call.threshold)


def _is_raw(facts: Facts) -> bool:
    """Offsets within cells instead of pixels: centres of finished boxes spread over the whole input."""
    dense = _needed(_dense(facts.outputs))
    return bool(np.abs(dense[0, :, :2]).max() < min(facts.size) / 4)


def fits_yolox(facts: Facts) -> bool:
    """One anchor per cell, boxes in cells."""
    return has_objectness(facts) and anchors_per_cell(facts.size, _shape(facts)[0]) == 1 and _is_raw(facts)


def fits_yolox_decoded(facts: Facts) -> bool:
    """One anchor per cell, boxes in pixels, and YOLOX's name of the output."""
    one = has_objectness(facts) and anchors_per_cell(facts.size, _shape(facts)[0]) == 1
    return one and list(facts.outputs) == ["output"]  # YOLOv6, finished and of the same shape, says `outputs`
