from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.detectors.onnx_models import Graph, image_info, yolov8_transposed
from trackweave.association.scorer import open_session, read_header
from trackweave.detectors.embedders import OnnxEmbedder
from trackweave.detectors.onnx import OnnxDetector
from trackweave.detectors.onnx_session import PADDING_GREY, OnnxModel, Placement, fit
from trackweave.detectors.settings import OnnxSettings, Resize
from trackweave.errors import ArtifactError, InputError

SIDES = st.integers(1, 90)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["letterbox", "corner", "stretch"]))
def test_the_whole_frame_comes_back(height: int, width: int, rows: int, columns: int, resize: Resize) -> None:
    fitted, placement = fit(np.full((height, width, 3), 200, np.uint8), (rows, columns), resize)
    assert fitted.shape == (rows, columns, 3)
    y, x = np.nonzero((fitted != PADDING_GREY).any(axis=2))
    inner = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32)
    np.testing.assert_allclose(placement.to_frame(inner), [[0, 0, width, height]], atol=1e-4)
    assert (fitted[y.min() : y.max() + 1, x.min() : x.max() + 1] == 200).all()


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["letterbox", "corner"]))
def test_aspect_is_kept_and_one_side_is_full(height: int, width: int, rows: int, columns: int, resize: Resize) -> None:
    fitted, _ = fit(np.full((height, width, 3), 200, np.uint8), (rows, columns), resize)
    y, x = np.nonzero((fitted != PADDING_GREY).any(axis=2))
    inner_height, inner_width = y.max() + 1 - y.min(), x.max() + 1 - x.min()
    assert inner_height == rows or inner_width == columns
    ratio = min(rows / height, columns / width)
    assert abs(inner_height - max(1, height * ratio)) <= 0.5
    assert abs(inner_width - max(1, width * ratio)) <= 0.5
    before, after = np.array([x.min(), y.min()]), np.array([columns - x.max() - 1, rows - y.max() - 1])
    assert (before == 0).all() if resize == "corner" else (abs(after - before) <= 1).all()


def test_boxes_outside_are_clipped() -> None:
    _, placement = fit(np.zeros((50, 100, 3), np.uint8), (100, 100), "letterbox")
    assert placement.to_frame(np.array([[-9.0, 0, 300, 99]])).tolist() == [[0, 0, 100, 50]]


def test_the_frame_is_not_written_to() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image.setflags(write=False)
    fitted, _ = fit(image, (8, 16), "letterbox")
    assert fitted[0, 0].tolist() == [PADDING_GREY] * 3


@pytest.mark.parametrize("resize", ["letterbox", "corner", "stretch"])
def test_a_frame_of_the_input_size_stays_as_it_is(resize: Resize) -> None:
    image = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    fitted, placement = fit(image, (8, 12), resize)
    np.testing.assert_array_equal(fitted, image)
    assert placement == Placement((1, 1), (0, 0), (8, 12))


@pytest.mark.parametrize("text", [b"owl", b"names", b"images"])
def test_text_that_is_not_utf8_is_refused_by_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "m.onnx"
    whole = yolov8_transposed(path).read_bytes()
    path.write_bytes(whole.replace(text, b"\xe9" * len(text)))
    with pytest.raises(InputError, match=r"m\.onnx: ") as caught:
        OnnxModel(path)
    assert "\n" not in str(caught.value)
    if text != b"images":  # the scorer opens such a file, and only then reads its metadata
        with pytest.raises(ArtifactError, match="not a model of association"):
            read_header(open_session(path), path)


@pytest.mark.parametrize(
    "shape",
    [(1, 3, 400_000, 400_000), (1, 400_000, 400_000, 3), (2**31 - 1, 3, 64, 96), (1, 3, 0, 96), (0, 3, 64, 96)],
)
def test_absurd_inputs_are_refused_before_memory_is_taken(tmp_path: Path, shape: tuple[int, ...]) -> None:
    g = Graph()
    path = g.save(tmp_path / "m.onnx", [image_info(shape)], {"o": g.constant(np.zeros((1, 20, 6)))})
    with pytest.raises(InputError, match=r"m\.onnx: input images .* GiB; .*is the file damaged"):
        OnnxDetector(path)
    g = Graph()
    path = g.save(tmp_path / "e.onnx", [image_info(shape)], {"o": g.constant(np.zeros((1, 20)))})
    with pytest.raises(InputError, match=r"e\.onnx: (input images .* GiB|expected one image input|the model fails)"):
        OnnxEmbedder(path)


def test_an_absurd_size_of_an_open_input_is_refused(tmp_path: Path) -> None:
    g = Graph()
    outputs = {"o": g.constant(np.zeros((1, 20, 6)))}
    metadata = {"imgsz": "[1000000, 1000000]"}
    path = g.save(tmp_path / "m.onnx", [image_info((1, 3, "h", "w"))], outputs, metadata)
    with pytest.raises(InputError, match=r"1 image\(s\) of 1000000×1000000.*imgsz or input_size"):
        OnnxDetector(path)
    with pytest.raises(InputError, match="of 10000000×10000000"):
        OnnxDetector(path, OnnxSettings(input_size=10_000_000))
    assert OnnxDetector(path, OnnxSettings(input_size=64)).input_size == (64, 64)


def test_outputs_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    g = Graph()
    text = g.constant(np.array([b"owl"]), np.object_)
    path = g.save(tmp_path / "m.onnx", [image_info()], {"names": text})
    with pytest.raises(InputError, match=r"m\.onnx: output names is tensor\(string\), not a tensor of numbers"):
        OnnxDetector(path)
