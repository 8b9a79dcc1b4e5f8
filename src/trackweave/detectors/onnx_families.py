"""The families of ONNX detectors: how each is recognised by a model's inputs and outputs, fed, and decoded to boxes.

`FAMILIES` at the end is the table. Above it, per layout of outputs: `…_roles` finds the tensors by name and shape,
`fits_…` says whether the outputs of a trial run have the layout, `decode_…` reads one image, and raises `ValueError`
when the outputs are of another layout. All of them are pure functions. What the numbers of a box and of a score mean
is a `Reading`; `onnx_reading.py` finds out by their values which of a family's readings holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.onnx_decoding import (
    Arrays,
    DecodedBoxes,
    DecoderInput,
    Float,
    Reading,
    TrialRun,
    anchors_per_cell,
    decode_classes,
    decode_grid,
    decode_objectness,
    decode_queries,
    decode_rows,
    literal,
)
from trackweave.detectors.settings import IMAGENET, RAW_BGR, UNIT, PixelRule, Resize

T = TypeVar("T")
COCO_CLASSES = 80
DETR_QUERIES = 100


def _require(value: T | None) -> T:
    """The value; `ValueError` instead of None: a family that was named does not fit."""
    if value is None:
        raise ValueError("outputs of another layout")
    return value


def _output_named(outputs: Arrays, *words: str) -> str | None:
    """The output whose name contains one of these words, earlier words first."""
    return next((name for word in words for name in outputs if word in name.lower()), None)


def _dense(outputs: Arrays) -> NDArray[Any] | None:
    """The `(B, a, b)` output of YOLO models.

    Ignored beside it: mask prototypes `(B, C, h, w)`, raw heads of YOLOv5 and v7 in five dimensions, a second head of
    YOLOv9 of the same shape.
    """
    dense = [array for array in outputs.values() if array.ndim == 3]
    one_shape = len({array.shape for array in dense}) == 1
    return dense[0] if one_shape and all(array.ndim >= 3 for array in outputs.values()) else None


def prototypes_of(outputs: Arrays) -> str | None:
    """Name of YOLO's mask prototypes `(B, C, h, w)`, the only output of four dimensions beside the dense one."""
    names = [name for name, array in outputs.items() if array.ndim == 4]
    dense = _dense(outputs)
    if len(names) != 1 or dense is None or dense.dtype.kind != "f":
        return None
    # The coefficients are columns of the dense output, behind the box and at least one score.
    return names[0] if outputs[names[0]].shape[1] + 5 <= max(dense.shape[1:]) else None


def _dense_rows(run: DecoderInput) -> NDArray[np.float32]:
    """One image's `(a, b)` of the dense output."""
    return np.asarray(_require(_dense(run.outputs))[run.image], np.float32)


def _shape(trial: TrialRun) -> tuple[int, int]:
    """The last two sides of the dense output; `(0, 0)` when there is none."""
    dense = _dense(trial.outputs)
    return (0, 0) if dense is None else (dense.shape[1], dense.shape[2])


def extra_columns(trial: TrialRun) -> int | None:
    """Columns behind the class scores: mask coefficients, or key points; None when their number is not known."""
    name = prototypes_of(trial.outputs)
    if name is not None:
        count = int(trial.outputs[name].shape[1])
        plain = trial.classes is not None and any(base + trial.classes in _shape(trial) for base in (4, 5))
        return 0 if plain else count  # what looked like prototypes is something else
    if trial.metadata.get("task") != "pose":
        return None if trial.open_ended else 0
    shape = literal(trial.metadata.get("kpt_shape"))
    is_pair = isinstance(shape, list | tuple) and len(shape) == 2
    is_shape = is_pair and all(isinstance(side, int) and side > 0 for side in shape)
    return shape[0] * shape[1] if is_shape else None


# Finished boxes -----------------------------------------------------------------------------------------------------


def counted_roles(outputs: Arrays) -> tuple[str, str, str, str] | None:
    """Names of count, boxes, scores and classes of EfficientNMS; None when the outputs are others."""
    count = _output_named(outputs, "num")
    boxes, scores, classes = (
        _output_named(outputs, "box"),
        _output_named(outputs, "score"),
        _output_named(outputs, "class", "label"),
    )
    if len(outputs) != 4 or not (count and boxes and scores and classes):
        return None
    return count, boxes, scores, classes


def _decode_first(run: DecoderInput, roles: tuple[str, str, str, str]) -> DecodedBoxes:
    """The first rows, as many as the count says."""
    count, boxes, scores, classes = (run.outputs[name][run.image] for name in roles)
    n = max(0, int(np.asarray(count).reshape(-1)[0]))
    return decode_rows(boxes[:n], scores[:n], classes[:n], run)


def decode_counted(run: DecoderInput) -> DecodedBoxes:
    """The first `num_dets` rows."""
    return _decode_first(run, _require(counted_roles(run.outputs)))


TENSORFLOW = ("num_detections", "detection_boxes", "detection_scores", "detection_classes")


def tensorflow_roles(outputs: Arrays) -> tuple[str, str, str, str] | None:
    """Names of count, boxes, scores and classes of TensorFlow's Object Detection API, which may have others beside."""
    plain = {name.split(":")[0].split("/")[-1]: name for name in outputs}
    if not all(name in plain for name in TENSORFLOW):
        return None
    count, boxes, scores, classes = (plain[name] for name in TENSORFLOW)
    return count, boxes, scores, classes


def fits_tensorflow(trial: TrialRun) -> bool:
    """The names, and numbers of classes as floats or an image whose channels are last; EfficientNMS has neither."""
    roles = tensorflow_roles(trial.outputs)
    return roles is not None and (trial.channels_last or trial.outputs[roles[3]].dtype.kind == "f")


def decode_tensorflow(run: DecoderInput) -> DecodedBoxes:
    """The first `num_detections` rows."""
    return _decode_first(run, _require(tensorflow_roles(run.outputs)))


def labelled_roles(outputs: Arrays) -> tuple[str, str, str] | None:
    """Names of labels, boxes `(…, N, 4)` and scores; None when the outputs are others.

    Masks and key points, as torchvision's Mask and Keypoint R-CNN have them, may be there.
    """
    outputs = {name: a for name, a in outputs.items() if not any(word in name.lower() for word in ("mask", "keypoint"))}
    labels, boxes, scores = (
        _output_named(outputs, "label", "class"),
        _output_named(outputs, "box"),
        _output_named(outputs, "score"),
    )
    if len(outputs) != 3 or not (labels and boxes and scores) or outputs[boxes].shape[-1:] != (4,):
        return None
    return labels, boxes, scores


def decode_labelled(run: DecoderInput) -> DecodedBoxes:
    """Labels, boxes and scores, with a batch or without."""
    roles = _require(labelled_roles(run.outputs))
    arrays = [run.outputs[name] for name in roles]
    batched = arrays[1].ndim == 3
    labels, boxes, scores = (array[run.image] if batched else array for array in arrays)
    return decode_rows(boxes, scores, labels, run)


def scored_roles(outputs: Arrays) -> tuple[str, str] | None:
    """mmdeploy: `dets` `(B, N, 5)` and `labels` `(B, N)`."""
    dets = next((name for name, a in outputs.items() if a.ndim == 3 and a.shape[2] == 5), None)
    labels = next((name for name, a in outputs.items() if a.ndim == 2), None)
    return (dets, labels) if dets and labels and len(outputs) in (2, 3) else None


def decode_scored(run: DecoderInput) -> DecodedBoxes:
    """Boxes with their score in the fifth column."""
    roles = _require(scored_roles(run.outputs))
    rows, labels = (run.outputs[name][run.image] for name in roles)
    return decode_rows(rows[:, :4], rows[:, 4], labels, run)


def fits_end_to_end(trial: TrialRun) -> bool:
    """`(B, N, 6)`, where N is no grid; mask coefficients or key points may follow."""
    rows, columns = _shape(trial)
    if trial.is_end_to_end:
        return columns >= 6
    extra = extra_columns(trial)
    width = columns >= 6 + 3 if extra is None else columns == 6 + extra
    # A grid: a one-class model with objectness, or rows of a raw model that were transposed.
    no_grid = anchors_per_cell(trial.size, rows) is None and anchors_per_cell(trial.size, columns) is None
    return width and no_grid and not is_ultralytics_detr(trial)


def decode_end_to_end(run: DecoderInput) -> DecodedBoxes:
    """Rows of box, score, class, or of box, class, score; the rest follows."""
    rows = _dense_rows(run)
    score, class_id = (5, 4) if run.reading.class_first else (4, 5)
    return decode_rows(rows[:, :4], rows[:, score], rows[:, class_id], run, rows[:, 6:])


def fits_batch_indexed(trial: TrialRun) -> bool:
    """`(N, 7)` and nothing else."""
    arrays = list(trial.outputs.values())
    return len(arrays) == 1 and arrays[0].ndim == 2 and arrays[0].shape[1] == 7


def decode_batch_indexed(run: DecoderInput) -> DecodedBoxes:
    """Rows of image, box, class, score; or of image, box, score, class.

    Raises:
        ValueError: the first column holds no images.
    """
    rows = np.asarray(next(iter(run.outputs.values())), np.float32)
    if not np.isin(rows[:, 0], np.arange(-1, max(1, len(rows)))).all():
        raise ValueError("the first column is not the number of an image")
    rows = rows[rows[:, 0] == run.image]
    score, class_id = (6, 5) if run.reading.class_first else (5, 6)
    return decode_rows(rows[:, 1:5], rows[:, score], rows[:, class_id], run)


# Queries ------------------------------------------------------------------------------------------------------------


def query_roles(outputs: Arrays) -> tuple[str, str] | None:
    """Names of logits `(B, Q, classes)` and boxes `(B, Q, 4)`; other outputs, such as hidden states, may be there."""
    dense = {name: array for name, array in outputs.items() if array.ndim == 3}
    boxes = _output_named({n: a for n, a in dense.items() if a.shape[2] == 4}, "box", "det")
    rest = {n: a for n, a in dense.items() if n != boxes and boxes and a.shape[1] == dense[boxes].shape[1]}
    logits = _output_named(rest, "logit", "label", "class")
    return (logits, boxes) if logits and boxes else None


def query_decoder(no_object: bool) -> Callable[[DecoderInput], DecodedBoxes]:
    """The decoder of DETR's queries; `no_object` as in `decode_queries`."""

    def decode(run: DecoderInput) -> DecodedBoxes:
        roles = _require(query_roles(run.outputs))
        logits, boxes = (np.asarray(run.outputs[name][run.image], np.float32) for name in roles)
        return decode_queries(logits, boxes, run, no_object)

    return decode


def fits_softmax_detr(trial: TrialRun) -> bool:
    """The last class is "nothing here": most queries of a picture with little in it say so.

    In models with a sigmoid per class most queries say no to every class. Where the values tell neither, the first DETR
    and its kin have 100 queries, and its successors with a sigmoid 300 or more.
    """
    roles = query_roles(trial.outputs)
    if roles is None or not trial.outputs[roles[0]].size:
        return False
    logits = np.asarray(trial.outputs[roles[0]][0], np.float32)
    if trial.classes is not None and logits.shape[1] - trial.classes in (0, 1):
        return bool(logits.shape[1] == trial.classes + 1)
    says_nothing = (logits.argmax(axis=1) == logits.shape[1] - 1) & (logits[:, -1] > 0)
    if logits.shape[1] > 1 and says_nothing.mean() > 0.5:
        return True
    if (logits.max(axis=1) < 0).mean() > 0.5:
        return False
    return len(logits) == DETR_QUERIES and "logit" in roles[0].lower()


def fits_imagenet_detr(trial: TrialRun) -> bool:
    """RF-DETR calls its logits `labels`; transformers feed a pixel mask to models that normalise like ImageNet."""
    roles = query_roles(trial.outputs)
    return roles is not None and ("label" in roles[0].lower() or "pixel_mask" in trial.inputs)


# Dense heads --------------------------------------------------------------------------------------------------------


def is_ultralytics_detr(trial: TrialRun) -> bool:
    """Ultralytics' RT-DETR: `(B, 300, 4 + classes)`, finished scores, boxes in [0, 1]."""
    rows, columns = _shape(trial)
    named = "rtdetr" in trial.metadata.get("description", "").lower().replace("-", "")
    no_grid = bool(rows) and anchors_per_cell(trial.size, rows) is None
    return no_grid and columns > 4 and (named or (columns != 6 and columns - 4 == trial.classes))


def fits_classes(trial: TrialRun) -> bool:
    """Boxes and class scores without objectness, anchors first or last."""
    rows, columns = _shape(trial)
    extra = extra_columns(trial)
    if min(rows, columns) < 5 + (extra or 0):
        return False
    sides = ((rows, columns), (columns, rows))
    if trial.classes is not None:
        if extra is None:  # key points of unknown number
            width = 4 + trial.classes
            return any(side > width and anchors_per_cell(trial.size, other) == 1 for side, other in sides)
        return 4 + trial.classes + extra in (rows, columns)
    if extra is None:
        return False
    return rows < columns or (columns == 4 + COCO_CLASSES + extra and anchors_per_cell(trial.size, rows) == 1)


def _class_rows(run: DecoderInput) -> tuple[Float, int]:
    """One image's `(anchors, channels)`, and the number of classes."""
    rows = _dense_rows(run)
    channels_first = rows.shape[0] < rows.shape[1]
    if run.classes is not None and run.extra is not None and rows.shape[0] != rows.shape[1]:
        channels = 4 + run.classes + run.extra
        channels_first = rows.shape[0] == channels if channels in rows.shape else channels_first
    rows = rows.T if channels_first else rows
    return rows, rows.shape[1] - 4 - (run.extra or 0) if run.classes is None else run.classes


def decode_class_rows(run: DecoderInput) -> DecodedBoxes:
    """Boxes and class scores, anchors first or last."""
    rows, classes = _class_rows(run)
    return decode_classes(rows, classes, run)


def class_scores(run: DecoderInput) -> Float:
    """`(anchors, classes)` as the model gives them."""
    rows, classes = _class_rows(run)
    return rows[:, 4 : 4 + classes]


def has_objectness(trial: TrialRun) -> bool:
    """`(B, anchors, 5 + classes)` of a common head's grid."""
    rows, columns = _shape(trial)
    extra = extra_columns(trial)
    if trial.classes is not None and extra is not None:
        fits = columns == 5 + trial.classes + extra
    else:
        fits = columns >= 5 + (trial.classes or 0) + (extra or 0)
    return fits and anchors_per_cell(trial.size, rows) is not None


def _object_classes(run: DecoderInput, rows: Float) -> int:
    return rows.shape[1] - 5 - (run.extra or 0) if run.classes is None else run.classes


def object_class_scores(run: DecoderInput) -> Float:
    """`(anchors, classes)` as the model gives them."""
    rows = _dense_rows(run)
    return rows[:, 5 : 5 + _object_classes(run, rows)]


def decode_objectness_rows(run: DecoderInput) -> DecodedBoxes:
    """Boxes in pixels, objectness, class scores."""
    rows = _dense_rows(run)
    return decode_objectness(rows, _object_classes(run, rows), run)


def decode_yolox(run: DecoderInput) -> DecodedBoxes:
    """The same with boxes in cells."""
    rows = _dense_rows(run)
    return decode_objectness(decode_grid(rows, run.size), _object_classes(run, rows), run)


def _is_raw(trial: TrialRun) -> bool:
    """Offsets within cells instead of pixels: centres of decoded boxes spread over the whole input.

    Shares of the input are small as well, but spread evenly from 0 to 1, and no extent is negative, as logarithms are.
    """
    boxes = _require(_dense(trial.outputs))[0, :, :4]
    shares = boxes.min() >= 0 and boxes.max() <= 1.5 and bool((boxes[:, :2].std(axis=0) > 0.1).all())
    return bool(np.abs(boxes[:, :2]).max() < min(trial.size) / 4) and not shares


def fits_yolox(trial: TrialRun) -> bool:
    """One anchor per cell, boxes in cells."""
    return has_objectness(trial) and anchors_per_cell(trial.size, _shape(trial)[0]) == 1 and _is_raw(trial)


def fits_yolox_decoded(trial: TrialRun) -> bool:
    """One anchor per cell, boxes in pixels, and YOLOX's name of the output."""
    one = has_objectness(trial) and anchors_per_cell(trial.size, _shape(trial)[0]) == 1
    return one and list(trial.outputs) == ["output"]  # YOLOv6, decoded and of the same shape, calls it `outputs`


CORNERS = (Reading(), Reading(space="unit"))
CENTRES = (Reading("cxcywh"), Reading("cxcywh", "unit"))
QUERIES = (
    Reading("cxcywh", "unit", "logits"),
    Reading("cxcywh", "unit"),
    Reading("cxcywh", "input", "logits"),
    Reading("cxcywh"),
)


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        name: for `OnnxSettings.family`.
        layout: outputs in words, and who exports them.
        fits: whether a trial run has the family's outputs. The first that fits in the order of `FAMILIES` is taken:
            layouts that contain a stricter one come after it.
        decode: boxes of one image.
        readings: what the numbers may mean, the usual first.
        resize: how frames are brought to the input's size.
        pixels: normalisation.
        has_duplicates: whether the outputs need non-maximum suppression.
        one_image_per_run: whether the outputs do not say which image of a batch they belong to.
        has_coefficients: whether the rows of segment models end in mask coefficients.
        scores_of: all class scores of one image, where a trial can judge them: those of raw heads.
    """

    name: str
    layout: str
    fits: Callable[[TrialRun], bool]
    decode: Callable[[DecoderInput], DecodedBoxes]
    readings: tuple[Reading, ...] = CORNERS
    resize: Resize = "letterbox"
    pixels: PixelRule = UNIT
    has_duplicates: bool = False
    one_image_per_run: bool = False
    has_coefficients: bool = False
    scores_of: Callable[[DecoderInput], Float] | None = None


FAMILIES: tuple[Family, ...] = (
    Family(
        "nms",
        "num_dets (B, 1), boxes (B, N, 4) xyxy, scores (B, N), classes (B, N): YOLO with EfficientNMS",
        lambda trial: counted_roles(trial.outputs) is not None and not fits_tensorflow(trial),
        decode_counted,
    ),
    Family(
        "tf-od",
        "num_detections (B), detection_boxes (B, N, 4) yxyx in [0, 1], detection_scores (B, N), detection_classes "
        "(B, N): TensorFlow's Object Detection API",
        fits_tensorflow,
        decode_tensorflow,
        (Reading("yxyx", "unit"), Reading()),
        resize="stretch",
    ),
    Family(
        "rt-detr",
        "labels (B, N), boxes (B, N, 4) in frame pixels, scores (B, N), with an input orig_target_sizes: RT-DETR, "
        "D-FINE, DEIM with their postprocessor",
        lambda trial: labelled_roles(trial.outputs) is not None and "orig_target_sizes" in trial.inputs,
        decode_labelled,
        (Reading(space="frame"), Reading(space="unit")),
        resize="stretch",
    ),
    Family(
        "labelled",
        "labels (N), boxes (N, 4) in input pixels, scores (N), with or without batch: torchvision and others",
        lambda trial: labelled_roles(trial.outputs) is not None,
        decode_labelled,
        resize="stretch",
        one_image_per_run=True,
    ),
    Family(
        "mmdeploy",
        "dets (B, N, 5) xyxy and score, labels (B, N): mmdeploy",
        lambda trial: scored_roles(trial.outputs) is not None,
        decode_scored,
        resize="corner",
        # RTMDet's normalisation; mmdeploy's YOLOX takes raw pixels.
        pixels=replace(IMAGENET, bgr=True),
    ),
    Family(
        "detr",
        "logits (B, Q, classes + 1), pred_boxes (B, Q, 4) cxcywh in [0, 1], softmax: DETR, YOLOS, Table Transformer",
        fits_softmax_detr,
        query_decoder(no_object=True),
        QUERIES,
        resize="stretch",
        pixels=IMAGENET,
    ),
    Family(
        "rf-detr",
        "labels (B, Q, classes), dets (B, Q, 4) cxcywh in [0, 1], sigmoid, ImageNet pixels: RF-DETR; also Deformable "
        "DETR of transformers",
        fits_imagenet_detr,
        query_decoder(no_object=False),
        QUERIES,
        resize="stretch",
        pixels=IMAGENET,
    ),
    Family(
        "rt-detr-raw",
        "logits (B, Q, classes), pred_boxes (B, Q, 4) cxcywh in [0, 1], sigmoid, pixels in [0, 1]: RT-DETR and D-FINE "
        "of transformers",
        lambda trial: query_roles(trial.outputs) is not None,
        query_decoder(no_object=False),
        QUERIES,
        resize="stretch",
    ),
    Family(
        "yolo-end2end",
        "(B, N, 6) xyxy, score, class, then mask coefficients or key points: YOLOv10, YOLO26, Ultralytics with "
        "nms=True",
        fits_end_to_end,
        decode_end_to_end,
        tuple(replace(corners, class_first=first) for corners in CORNERS for first in (False, True)),
        has_coefficients=True,
    ),
    Family(
        "yolov7-end2end",
        "(N, 7) image, xyxy, class, score: YOLOv7 with --end2end; or score, class: YOLO-NAS",
        fits_batch_indexed,
        decode_batch_indexed,
        tuple(replace(corners, class_first=first) for corners in CORNERS for first in (True, False)),
    ),
    Family(
        "rt-detr-ultralytics",
        "(B, 300, 4 + classes) cxcywh in [0, 1] and scores: Ultralytics RT-DETR",
        is_ultralytics_detr,
        decode_class_rows,
        CENTRES[::-1],
        resize="stretch",
    ),
    Family(
        "yolov8",
        "(B, 4 + classes, anchors), or transposed, cxcywh and scores, then mask coefficients or key points: YOLOv8, "
        "v9, 11, 12",
        fits_classes,
        decode_class_rows,
        CENTRES,
        has_duplicates=True,
        has_coefficients=True,
        scores_of=class_scores,
    ),
    Family(
        "yolox",
        "(B, cells, 5 + classes) offsets, objectness, scores, not decoded: YOLOX",
        fits_yolox,
        decode_yolox,
        CENTRES[:1],
        resize="corner",
        pixels=RAW_BGR,
        has_duplicates=True,
    ),
    Family(
        "yolox-decoded",
        "the same in pixels, output named `output`: YOLOX with --decode_in_inference",
        fits_yolox_decoded,
        decode_objectness_rows,
        CENTRES,
        resize="corner",
        pixels=RAW_BGR,
        has_duplicates=True,
    ),
    Family(
        "yolov5",
        "(B, anchors, 5 + classes) cxcywh, objectness, scores: YOLOv5, v6, v7",
        has_objectness,
        decode_objectness_rows,
        CENTRES,
        has_duplicates=True,
        has_coefficients=True,
        scores_of=object_class_scores,
    ),
)
FAMILY_NAMES = tuple(family.name for family in FAMILIES)


def family_named(name: str) -> Family | None:
    """The family of a name, or None."""
    return next((family for family in FAMILIES if family.name == name), None)


@np.errstate(over="ignore", invalid="ignore")
def recognise(trial: TrialRun) -> Family | None:
    """The first family that fits a model's outputs, or None."""
    return next((family for family in FAMILIES if family.fits(trial)), None)
