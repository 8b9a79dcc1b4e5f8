"""The families of ONNX detectors: how each is recognised by a model's inputs and outputs, fed, and decoded to boxes.

`FAMILIES` at the end is the table. Above it, per layout of outputs: `…_roles` finds the tensors by name and shape,
`fits_…` says whether the outputs of a trial run have the layout, `decode_…` reads one image, and raises `ValueError`
when the outputs are of another layout. All of them are pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from trackweave.detectors.settings import IMAGENET, RAW_BGR, UNIT, PixelRule, Resize

Float = NDArray[np.float32]

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
"""Strides of the common heads: standard, P6, P2, and the small ones with two levels."""


@dataclass(frozen=True)
class DecodedBoxes:
    """K boxes before suppression.

    Attributes:
        xyxy: `(K, 4)` float32, in the coordinates of `Family.space`.
        score: `(K,)` float32.
        class_id: `(K,)` int64.
    """

    xyxy: Float
    score: Float
    class_id: NDArray[np.int64]


def centre_to_corners(cxcywh: Float) -> Float:
    """`(K, 4)` centre x, centre y, width, height → xyxy."""
    half = cxcywh[:, 2:4] / 2
    return np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], axis=1)


def decode_classes(rows: Float, classes: int | None, threshold: float) -> DecodedBoxes:
    """`(A, 4 + classes [+ more])` cxcywh and class scores.

    Args:
        rows: one row per anchor.
        classes: number of class columns; None = all that follow.
        threshold: lowest score.
    """
    scores = rows[:, 4:] if classes is None else rows[:, 4 : 4 + classes]
    kept = np.flatnonzero(scores.max(axis=1) >= threshold)
    chosen = scores[kept]
    return DecodedBoxes(centre_to_corners(rows[kept, :4]), chosen.max(axis=1), chosen.argmax(axis=1))


def decode_objectness(rows: Float, classes: int | None, threshold: float) -> DecodedBoxes:
    """`(A, 5 + classes [+ more])` cxcywh, objectness and class scores: the score is their product."""
    rows = rows[rows[:, 4] >= threshold]
    scores = rows[:, 5:] if classes is None else rows[:, 5 : 5 + classes]
    if not scores.shape[1]:
        return DecodedBoxes(centre_to_corners(rows[:, :4]), rows[:, 4], np.zeros(len(rows), np.int64))
    total = rows[:, 4] * scores.max(axis=1)
    kept = np.flatnonzero(total >= threshold)
    return DecodedBoxes(centre_to_corners(rows[kept, :4]), total[kept], scores[kept].argmax(axis=1))


def decode_grid(rows: Float, size: tuple[int, int]) -> Float:
    """YOLOX's raw boxes as pixels: cell offsets in units of the stride, logarithms of the extent.

    Ge et al., "YOLOX", arXiv 2107.08430, section 2.1.

    Args:
        rows: `(A, 5 + classes)`.
        size: `(H, W)` of the input.

    Raises:
        ValueError: A is not the number of cells of any common head.
    """
    strides = next((s for s in STRIDES if cell_count(size, s) == len(rows)), None)
    if strides is None:
        raise ValueError(f"{len(rows)} anchors are no grid of {size[0]}×{size[1]}")
    cells, scale = [], []
    for stride in strides:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
        scale.append(np.full((x.size, 1), stride))
    grid, stride_of = np.concatenate(cells).astype(np.float32), np.concatenate(scale).astype(np.float32)
    decoded = rows.copy()
    decoded[:, :2] = (rows[:, :2] + grid) * stride_of
    with np.errstate(over="ignore"):  # an unlikely anchor may overflow; boxes that are not finite are dropped later
        decoded[:, 2:4] = np.exp(rows[:, 2:4]) * stride_of
    return decoded


def cell_count(size: tuple[int, int], strides: tuple[int, ...]) -> int:
    """Cells of all levels of a head over an input `(H, W)`."""
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def anchors_per_cell(size: tuple[int, int], count: int) -> int | None:
    """1 or 3 when `count` anchors fill the grids of a common head on an input `(H, W)`, else None."""
    return next((n for n in (1, 3) if any(n * cell_count(size, s) == count for s in STRIDES)), None)


def decode_rows(xyxy: Any, score: Any, class_id: Any, threshold: float) -> DecodedBoxes:
    """Boxes that the model itself has decoded and filtered."""
    score = np.asarray(score, np.float32).reshape(-1)
    kept = np.flatnonzero(score >= threshold)
    boxes = np.asarray(xyxy, np.float32).reshape(-1, 4)[kept]
    # Classes come as floats from some exports; NaN there would make an arbitrary integer.
    classes = np.nan_to_num(np.asarray(class_id).reshape(-1)[kept], nan=-1.0)
    return DecodedBoxes(boxes, score[kept], classes.astype(np.int64))


def decode_queries(logits: Float, cxcywh: Float, threshold: float, no_object: bool) -> DecodedBoxes:
    """DETR's queries.

    Args:
        logits: `(Q, classes)`; with `no_object` one more, the last.
        cxcywh: `(Q, 4)` in [0, 1] of the input.
        threshold: lowest score.
        no_object: softmax with a last class for "nothing here" (Carion et al., arXiv 2005.12872); else a sigmoid per
            class.
    """
    scores = softmax(logits, axis=1)[:, :-1] if no_object else expit(logits)
    best = scores.max(axis=1)
    kept = np.flatnonzero(best >= threshold)
    return DecodedBoxes(centre_to_corners(cxcywh[kept]), best[kept], scores[kept].argmax(axis=1))


Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")
COCO_CLASSES = 80
DETR_QUERIES = 100


@dataclass(frozen=True)
class TrialRun:
    """A model's outputs for a grey image, and its metadata.

    Attributes:
        outputs: by name, of one trial run.
        inputs: names of all inputs.
        size: `(H, W)` of the image input.
        classes: number of classes, when the metadata name them.
        metadata: of the model.
    """

    outputs: Arrays
    inputs: tuple[str, ...]
    size: tuple[int, int]
    classes: int | None
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class DecoderInput:
    """The outputs of a run, and which image of them to decode.

    Attributes:
        outputs: by name.
        image: position in the batch.
        size: `(H, W)` of the model's input.
        classes: number of classes, when it is known.
        threshold: lowest score.
    """

    outputs: Arrays
    image: int
    size: tuple[int, int]
    classes: int | None
    threshold: float


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


def _dense_rows(run: DecoderInput) -> NDArray[np.float32]:
    """One image's `(a, b)` of the dense output."""
    return np.asarray(_require(_dense(run.outputs))[run.image], np.float32)


def _shape(trial: TrialRun) -> tuple[int, int]:
    """The last two sides of the dense output; `(0, 0)` when there is none."""
    dense = _dense(trial.outputs)
    return (0, 0) if dense is None else (dense.shape[1], dense.shape[2])


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


def decode_counted(run: DecoderInput) -> DecodedBoxes:
    """The first `num_dets` rows."""
    roles = _require(counted_roles(run.outputs))
    count, boxes, scores, classes = (run.outputs[name][run.image] for name in roles)
    n = int(np.asarray(count).reshape(-1)[0])
    return decode_rows(boxes[:n], scores[:n], classes[:n], run.threshold)


def labelled_roles(outputs: Arrays) -> tuple[str, str, str] | None:
    """Names of labels, boxes `(…, N, 4)` and scores; None when the outputs are others."""
    labels, boxes, scores = (
        _output_named(outputs, "label", "class"),
        _output_named(outputs, "box"),
        _output_named(outputs, "score"),
    )
    if len(outputs) != 3 or not (labels and boxes and scores) or outputs[boxes].shape[-1] != 4:
        return None
    return labels, boxes, scores


def decode_labelled(run: DecoderInput) -> DecodedBoxes:
    """Labels, boxes and scores, with a batch or without."""
    roles = _require(labelled_roles(run.outputs))
    arrays = [run.outputs[name] for name in roles]
    batched = arrays[1].ndim == 3
    labels, boxes, scores = (array[run.image] if batched else array for array in arrays)
    return decode_rows(boxes, scores, labels, run.threshold)


def scored_roles(outputs: Arrays) -> tuple[str, str] | None:
    """mmdeploy: `dets` `(B, N, 5)` and `labels` `(B, N)`."""
    dets = next((name for name, a in outputs.items() if a.ndim == 3 and a.shape[2] == 5), None)
    labels = next((name for name, a in outputs.items() if a.ndim == 2), None)
    return (dets, labels) if dets and labels and len(outputs) in (2, 3) else None


def decode_scored(run: DecoderInput) -> DecodedBoxes:
    """Boxes with their score in the fifth column."""
    roles = _require(scored_roles(run.outputs))
    rows, labels = (run.outputs[name][run.image] for name in roles)
    return decode_rows(rows[:, :4], rows[:, 4], labels, run.threshold)


def fits_end_to_end(trial: TrialRun) -> bool:
    """`(B, N, 6)`, where N is no grid; key points and mask coefficients may follow when the metadata say end2end."""
    rows, columns = _shape(trial)
    if trial.metadata.get("end2end", "").lower() == "true":
        return columns >= 6
    grid = anchors_per_cell(trial.size, rows) is not None  # then it is a one-class model with objectness
    return columns == 6 and not grid and not is_ultralytics_detr(trial)


def decode_end_to_end(run: DecoderInput) -> DecodedBoxes:
    """Rows of xyxy, score, class."""
    rows = _dense_rows(run)
    return decode_rows(rows[:, :4], rows[:, 4], rows[:, 5], run.threshold)


def fits_batch_indexed(trial: TrialRun) -> bool:
    """`(N, 7)` and nothing else."""
    arrays = list(trial.outputs.values())
    return len(arrays) == 1 and arrays[0].ndim == 2 and arrays[0].shape[1] == 7


def decode_batch_indexed(run: DecoderInput) -> DecodedBoxes:
    """Rows of image, xyxy, class, score."""
    rows = next(iter(run.outputs.values()))
    rows = rows[rows[:, 0] == run.image]
    return decode_rows(rows[:, 1:5], rows[:, 6], rows[:, 5], run.threshold)


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
        return decode_queries(logits, boxes, run.threshold, no_object)

    return decode


def fits_softmax_detr(trial: TrialRun) -> bool:
    """The 100 queries of the first DETR; its successors have 300 or more and a sigmoid."""
    roles = query_roles(trial.outputs)
    return roles is not None and trial.outputs[roles[1]].shape[1] == DETR_QUERIES and "logit" in roles[0].lower()


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
    if rows < 5 or columns < 5:
        return False
    if trial.classes is not None:
        extra = trial.metadata.get("task") in ("segment", "pose")  # mask coefficients, key points
        widths = [rows, columns]
        return any(width == 4 + trial.classes or (extra and width > 4 + trial.classes) for width in widths)
    return rows < columns or (columns == 4 + COCO_CLASSES and anchors_per_cell(trial.size, rows) == 1)


def decode_class_rows(run: DecoderInput) -> DecodedBoxes:
    """Boxes and class scores, anchors first or last."""
    rows = _dense_rows(run)
    channels_first = rows.shape[0] < rows.shape[1]
    if run.classes is not None and rows.shape[0] != rows.shape[1]:
        channels = 4 + run.classes
        channels_first = rows.shape[0] == channels if channels in rows.shape else channels_first
    return decode_classes(rows.T if channels_first else rows, run.classes, run.threshold)


def has_objectness(trial: TrialRun) -> bool:
    """`(B, anchors, 5 + classes)` of a common head's grid."""
    rows, columns = _shape(trial)
    fits = columns == 5 + trial.classes if trial.classes is not None else columns >= 5
    return fits and anchors_per_cell(trial.size, rows) is not None


def decode_objectness_rows(run: DecoderInput) -> DecodedBoxes:
    """Boxes in pixels, objectness, class scores."""
    return decode_objectness(_dense_rows(run), run.classes, run.threshold)


def decode_yolox(run: DecoderInput) -> DecodedBoxes:
    """The same with boxes in cells."""
    rows = _dense_rows(run)
    return decode_objectness(decode_grid(rows, run.size), run.classes, run.threshold)


def _is_raw(trial: TrialRun) -> bool:
    """Offsets within cells instead of pixels: centres of decoded boxes spread over the whole input."""
    dense = _require(_dense(trial.outputs))
    return bool(np.abs(dense[0, :, :2]).max() < min(trial.size) / 4)


def fits_yolox(trial: TrialRun) -> bool:
    """One anchor per cell, boxes in cells."""
    return has_objectness(trial) and anchors_per_cell(trial.size, _shape(trial)[0]) == 1 and _is_raw(trial)


def fits_yolox_decoded(trial: TrialRun) -> bool:
    """One anchor per cell, boxes in pixels, and YOLOX's name of the output."""
    one = has_objectness(trial) and anchors_per_cell(trial.size, _shape(trial)[0]) == 1
    return one and list(trial.outputs) == ["output"]  # YOLOv6, decoded and of the same shape, calls it `outputs`


Space = Literal["input", "unit", "frame"]


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        name: for `OnnxSettings.family`.
        layout: outputs in words, and who exports them.
        fits: whether a trial run has the family's outputs. The first that fits in the order of `FAMILIES` is taken:
            layouts that contain a stricter one come after it.
        decode: boxes of one image.
        space: of the boxes: pixels of the input, shares of the input in [0, 1], or pixels of the frame.
        resize: how frames are brought to the input's size.
        pixels: normalisation.
        has_duplicates: whether the outputs need non-maximum suppression.
        one_image_per_run: whether the outputs do not say which image of a batch they belong to.
    """

    name: str
    layout: str
    fits: Callable[[TrialRun], bool]
    decode: Callable[[DecoderInput], DecodedBoxes]
    space: Space = "input"
    resize: Resize = "letterbox"
    pixels: PixelRule = UNIT
    has_duplicates: bool = False
    one_image_per_run: bool = False


FAMILIES: tuple[Family, ...] = (
    Family(
        "nms",
        "num_dets (B, 1), boxes (B, N, 4) xyxy, scores (B, N), classes (B, N): YOLO with EfficientNMS",
        lambda trial: counted_roles(trial.outputs) is not None,
        decode_counted,
    ),
    Family(
        "rt-detr",
        "labels (B, N), boxes (B, N, 4) in frame pixels, scores (B, N), with an input orig_target_sizes: RT-DETR, "
        "D-FINE, DEIM with their postprocessor",
        lambda trial: labelled_roles(trial.outputs) is not None and "orig_target_sizes" in trial.inputs,
        decode_labelled,
        space="frame",
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
        "logits (B, 100, classes + 1), pred_boxes (B, 100, 4) cxcywh in [0, 1], softmax: DETR, YOLOS",
        fits_softmax_detr,
        query_decoder(no_object=True),
        space="unit",
        resize="stretch",
        pixels=IMAGENET,
    ),
    Family(
        "rf-detr",
        "labels (B, Q, classes), dets (B, Q, 4) cxcywh in [0, 1], sigmoid, ImageNet pixels: RF-DETR; also Deformable "
        "DETR of transformers",
        fits_imagenet_detr,
        query_decoder(no_object=False),
        space="unit",
        resize="stretch",
        pixels=IMAGENET,
    ),
    Family(
        "rt-detr-raw",
        "logits (B, Q, classes), pred_boxes (B, Q, 4) cxcywh in [0, 1], sigmoid, pixels in [0, 1]: RT-DETR and D-FINE "
        "of transformers",
        lambda trial: query_roles(trial.outputs) is not None,
        query_decoder(no_object=False),
        space="unit",
        resize="stretch",
    ),
    Family(
        "yolo-end2end",
        "(B, N, 6) xyxy, score, class: YOLOv10, YOLO26, Ultralytics with nms=True",
        fits_end_to_end,
        decode_end_to_end,
    ),
    Family(
        "yolov7-end2end",
        "(N, 7) image, xyxy, class, score: YOLOv7 with --end2end",
        fits_batch_indexed,
        decode_batch_indexed,
    ),
    Family(
        "rt-detr-ultralytics",
        "(B, 300, 4 + classes) cxcywh in [0, 1] and scores: Ultralytics RT-DETR",
        is_ultralytics_detr,
        decode_class_rows,
        space="unit",
        resize="stretch",
    ),
    Family(
        "yolov8",
        "(B, 4 + classes, anchors), or transposed, cxcywh and scores: YOLOv8, v9, 11, 12",
        fits_classes,
        decode_class_rows,
        has_duplicates=True,
    ),
    Family(
        "yolox",
        "(B, cells, 5 + classes) offsets, objectness, scores, not decoded: YOLOX",
        fits_yolox,
        decode_yolox,
        resize="corner",
        pixels=RAW_BGR,
        has_duplicates=True,
    ),
    Family(
        "yolox-decoded",
        "the same in pixels, output named `output`: YOLOX with --decode_in_inference",
        fits_yolox_decoded,
        decode_objectness_rows,
        resize="corner",
        pixels=RAW_BGR,
        has_duplicates=True,
    ),
    Family(
        "yolov5",
        "(B, anchors, 5 + classes) cxcywh, objectness, scores: YOLOv5, v6, v7",
        has_objectness,
        decode_objectness_rows,
        has_duplicates=True,
    ),
)
FAMILY_NAMES = tuple(family.name for family in FAMILIES)


def family_named(name: str) -> Family | None:
    """The family of a name, or None."""
    return next((family for family in FAMILIES if family.name == name), None)


def recognise(trial: TrialRun) -> Family | None:
    """The first family that fits a model's outputs, or None."""
    return next((family for family in FAMILIES if family.fits(trial)), None)
