from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.detectors.onnx_models import HEIGHT, NAMES, SCORE, WANTED, WIDTH, Graph, draw, image_info, segment_model
from trackweave.detectors.onnx import OnnxDetector
from trackweave.detectors.onnx_masks import decode_masks
from trackweave.detectors.onnx_session import Placement, fit
from trackweave.detectors.settings import OnnxSettings, Resize

Array = NDArray[np.float32]


def reference(
    coefficients: Array, prototypes: Array, xyxy: Array, placement: Placement, size: tuple[int, int]
) -> NDArray[np.float64]:
    """`(K, H, W)` values at the pixels of the frame, −1 outside the box; loops, and all of every picture."""
    height, width = placement.size
    cells = prototypes.shape[1:]
    values: NDArray[np.float64] = np.full((len(coefficients), height, width), -1, np.float64)
    for k, (weights, (left, top, right, bottom)) in enumerate(zip(coefficients, xyxy, strict=True)):
        combined = np.einsum("c,chw->hw", weights.astype(float), prototypes.astype(float))
        for y in range(height):
            for x in range(width):
                if not (left <= x < right and top <= y < bottom):
                    continue
                u, v = (
                    float(np.clip((p + 0.5) * s + o, 0, None) * n / side - 0.5)
                    for p, s, o, n, side in zip(
                        (x, y), placement.scale, placement.offset, cells[::-1], size[::-1], strict=True
                    )
                )
                u, v = np.clip(u, 0, cells[1] - 1), np.clip(v, 0, cells[0] - 1)
                i, j = min(int(v), cells[0] - 2), min(int(u), cells[1] - 2)
                a, b = v - i, u - j
                corners = combined[i : i + 2, j : j + 2]
                values[k, y, x] = np.array([1 - a, a]) @ corners @ np.array([1 - b, b])
    return values


@pytest.mark.parametrize("resize", ["letterbox", "corner", "stretch"])
@pytest.mark.parametrize("frame", [(50, 96), (70, 40), (24, 36), (64, 96)])
def test_masks_are_those_of_the_plain_reference(resize: Resize, frame: tuple[int, int]) -> None:
    rng = np.random.default_rng(frame[0])
    size = (HEIGHT, WIDTH)
    _, placement = fit(np.zeros((*frame, 3), np.uint8), size, resize)
    prototypes = rng.normal(size=(8, 16, 24)).astype(np.float32)
    coefficients = rng.normal(size=(5, 8)).astype(np.float32)
    corners = np.sort(rng.uniform(0, 1, (5, 2, 2)), axis=1) * np.array([frame[1], frame[0]])
    boxes = corners.reshape(5, 4).astype(np.float32)
    boxes[0], boxes[1] = (0, 0, frame[1], frame[0]), (3.2, 4.1, 3.7, 4.6)  # everything; between two pixels
    masks = decode_masks(coefficients, prototypes, boxes, placement, size)
    values = reference(coefficients, prototypes, boxes, placement, size)
    certain = np.abs(values) > 1e-4
    assert masks.size == frame
    np.testing.assert_array_equal(masks.to_bool()[certain], (values > 0)[certain])
    assert masks.areas[1] == 0
    assert masks.areas[0] > 0


def test_no_detection_has_no_mask() -> None:
    nothing = np.zeros((0, 8), np.float32)
    placement = Placement((1.0, 1.0), (0, 0), (30, 40))
    masks = decode_masks(nothing, np.zeros((8, 16, 24), np.float32), np.zeros((0, 4), np.float32), placement, (64, 96))
    assert (len(masks), masks.size) == (0, (30, 40))


@pytest.mark.parametrize("kind", ["nms", "end2end", "yolov5", "raw"])
@pytest.mark.parametrize("frame", [(100, 192), (128, 96), (64, 96)])
def test_masks_of_segment_models_cover_the_object(tmp_path: Path, kind: str, frame: tuple[int, int]) -> None:
    detector = OnnxDetector(segment_model(tmp_path / "m.onnx", kind))
    for box in ((16, 24, 72, 60), (8, 20, 64, 64)):
        image = draw(*frame, box)
        masks = detector.detect(image).masks
        assert masks is not None
        assert masks.size == frame
        inside = image[..., 0] > 200
        found = masks.to_bool()[0]
        assert (found & inside).sum() / (found | inside).sum() > 0.95
    assert len(detector.detect(image)[:0].masks or ()) == 0


def test_masks_can_be_left_out(tmp_path: Path) -> None:
    path = segment_model(tmp_path / "m.onnx", "nms")
    assert OnnxDetector(path, OnnxSettings(masks=False)).detect(draw(64, 96, (5, 7, 60, 33))).masks is None


def test_masks_of_a_batch_stay_with_their_frames(tmp_path: Path) -> None:
    """A fixed batch: the same rows for both frames, the prototypes of each."""
    g = Graph()
    rows = np.zeros((2, 20, 14), np.float32)
    rows[:, 0] = [0, 0, 96, 64, SCORE, WANTED, 1, 0, 0, 0, 0, 0, 0, 0]
    prototypes = np.zeros((2, 8, 16, 24), np.float32)
    prototypes[0, 0, :, :12], prototypes[1, 0, 8:] = 1, 1
    outputs = {"output0": g.constant(rows), "output1": g.constant(prototypes)}
    path = g.save(tmp_path / "m.onnx", [image_info((2, 3, 64, 96))], outputs, {**NAMES, "task": "segment"})
    first, second = OnnxDetector(path).detect_batch([draw(64, 96, (0, 0, 1, 1))] * 2)
    assert first.masks is not None
    assert second.masks is not None
    assert first.masks.boxes.tolist()[0][1::2] == [0, 64]
    assert second.masks.boxes.tolist()[0][::2] == [0, 96]
