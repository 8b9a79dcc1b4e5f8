"""The families of detectors, told apart by the inputs and outputs of the model: what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from trackweave.detectors import onnx_layouts as layouts
from trackweave.detectors.letterbox import Resize
from trackweave.detectors.onnx_decoding import Candidates
from trackweave.detectors.onnx_layouts import Call, Facts
from trackweave.detectors.onnx_pixels import IMAGENET, RAW_BGR, UNIT, PixelRule

Space = Literal["input", "unit", "frame"]


@dataclass(frozen=True)
class Family:
    """How one family of models is fed and read.

    Attributes:
        name: for the `family` argument.
        layout: outputs in words, and who exports them.
        fits: does the model look like this? Asked in the order of `FAMILIES`; the first that fits is taken.
        decode: boxes of one image.
        space: of the boxes: pixels of the input, parts of the input in [0, 1], or pixels of the frame.
        resize: how frames get to the input's size.
        pixels: how they are normalised.
        suppress: whether duplicates are left in the output.
        alone: whether the outputs do not say which image of a batch they belong to: one image per run.
    """

    name: str
    layout: str
    fits: Callable[[Facts], bool]
    decode: Callable[[Call], Candidates]
    space: Space = "input"
    resize: Resize = "letterbox"
    pixels: PixelRule = UNIT
    suppress: bool = False
    alone: bool = False


FAMILIES: tuple[Family, ...] = (
    Family(
        "nms",
        "num_dets (B, 1), boxes (B, N, 4) xyxy, scores (B, N), classes (B, N): YOLO with EfficientNMS",
        lambda facts: layouts.counted_roles(facts.outputs) is not None,
        layouts.decode_counted,
    ),
    Family(
        "rt-detr",
        "labels (B, N), boxes (B, N, 4) in frame pixels, scores (B, N), with an input orig_target_sizes: RT-DETR, "
        "D-FINE, DEIM with their postprocessor",
        lambda facts: layouts.labelled_roles(facts.outputs) is not None and "orig_target_sizes" in facts.inputs,
        layouts.decode_labelled,
        space="frame",
        resize="stretch",
    ),
    Family(
        "labelled",
        "labels (N), boxes (N, 4) in input pixels, scores (N), with or without batch: torchvision and others",
        lambda facts: layouts.labelled_roles(facts.outputs) is not None,
        layouts.decode_labelled,
        resize="stretch",
        alone=True,
    ),
    Family(
        "mmdeploy",
        "dets (B, N, 5) xyxy and score, labels (B, N): mmdeploy",
        lambda facts: layouts.scored_roles(facts.outputs) is not None,
        layouts.decode_scored,
        resize="corner",
        # RTMDet's; mmdeploy's YOLOX takes raw pixels.
        pixels=replace(IMAGENET, bgr=True),
    ),
    Family(
        "detr",
        "logits (B, 100, classes + 1), pred_boxes (B, 100, 4) cxcywh in [0, 1], softmax: DETR, YOLOS",
        layouts.fits_softmax_detr,
        layouts.query_decoder(no_object=True),
        space="unit",
        resize="stretch",
        pixels=IMAGENET,
    ),
    Family(
        "rf-detr",
        "labels (B, Q, classes), dets (B, Q, 4) cxcywh in [0, 1], sigmoid, ImageNet pixels: RF-DETR; also Deformable "
        "DETR of transformers",
        layouts.fits_imagenet_detr,
        layouts.query_decoder(no_object=False),
        space="unit",
        resize="stretch",
        pixels=IMAGENET,
    ),
    Family(
        "rt-detr-raw",
        "logits (B, Q, classes), pred_boxes (B, Q, 4) cxcywh in [0, 1], sigmoid, pixels in [0, 1]: RT-DETR and D-FINE "
        "of transformers",
        lambda facts: layouts.query_roles(facts.outputs) is not None,
        layouts.query_decoder(no_object=False),
        space="unit",
        resize="stretch",
    ),
    Family(
        "yolo-end2end",
        "(B, N, 6) xyxy, score, class: YOLOv10, YOLO26, Ultralytics with nms=True",
        layouts.fits_end_to_end,
        layouts.decode_end_to_end,
    ),
    Family(
        "yolov7-end2end",
        "(N, 7) image, xyxy, class, score: YOLOv7 with --end2end",
        layouts.fits_batch_indexed,
        layouts.decode_batch_indexed,
    ),
    Family(
        "rt-detr-ultralytics",
        "(B, 300, 4 + classes) cxcywh in [0, 1] and scores: Ultralytics RT-DETR",
        layouts.is_ultralytics_detr,
        layouts.decode_classes,
        space="unit",
        resize="stretch",
    ),
    Family(
        "yolov8",
        "(B, 4 + classes, anchors), or transposed, cxcywh and scores: YOLOv8, v9, 11, 12",
        layouts.fits_classes,
        layouts.decode_classes,
        suppress=True,
    ),
    Family(
        "yolox",
        "(B, cells, 5 + classes) offsets, objectness, scores, not decoded: YOLOX",
        layouts.fits_yolox,
        layouts.decode_yolox,
        resize="corner",
        pixels=RAW_BGR,
        suppress=True,
    ),
    Family(
        "yolox-decoded",
        "the same in pixels, output named `output`: YOLOX with --decode_in_inference",
        layouts.fits_yolox_decoded,
        layouts.decode_objectness,
        resize="corner",
        pixels=RAW_BGR,
        suppress=True,
    ),
    Family(
        "yolov5",
        "(B, anchors, 5 + classes) cxcywh, objectness, scores: YOLOv5, v6, v7",
        layouts.has_objectness,
        layouts.decode_objectness,
        suppress=True,
    ),
)
NAMES = tuple(family.name for family in FAMILIES)


def family_named(name: str) -> Family | None:
    """The family of a name, or None."""
    return next((family for family in FAMILIES if family.name == name), None)


def recognise(facts: Facts) -> Family | None:
    """The first family that explains a model's outputs, or None."""
    return next((family for family in FAMILIES if family.fits(facts)), None)
