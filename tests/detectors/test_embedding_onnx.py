from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trackweave.detectors.embedders import OnnxEmbedder, make_embedder
from trackweave.errors import InputError

onnx = pytest.importorskip("onnx")
REID = Path(__file__).parents[3] / "shared" / "data" / "reid" / "osnet_x0_25_msmt17.onnx"

Shape = list[int | str]
FLOAT, HALF, INT = 1, 10, 7


def write_model(
    path: Path,
    *,
    inputs: dict[str, Shape] | None = None,
    outputs: dict[str, Shape] | None = None,
    nodes: list[Any] | None = None,
    kind: int = FLOAT,
) -> Path:
    """A model whose vector is each channel's mean, unless other nodes are given."""
    helper = onnx.helper
    inputs = inputs or {"images": ["batch", 3, 8, 4]}
    outputs = outputs or {"vector": ["batch", 3]}
    nodes = nodes or [helper.make_node("ReduceMean", ["images"], ["vector"], axes=[2, 3], keepdims=0)]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def patchwork(count: int) -> tuple[Any, Any, Any]:
    """A frame of coloured squares, their boxes, and the unit vector of each colour."""
    colours = np.random.default_rng(0).integers(1, 256, (count, 3)).astype(np.uint8)
    image = np.repeat(np.repeat(colours[None], 10, axis=1), 20, axis=0)
    boxes = np.array([[10 * k, 0, 10 * k + 10, 20] for k in range(count)], np.float32)
    return image, boxes, colours / np.linalg.norm(colours.astype(float), axis=1, keepdims=True)


@pytest.mark.parametrize("batch", ["batch", 1, 4])
@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_batches_of_every_kind_give_each_crop_its_own_vector(tmp_path: Path, batch: int | str, count: int) -> None:
    path = write_model(tmp_path / "reid.onnx", inputs={"images": [batch, 3, 8, 4]}, outputs={"vector": [batch, 3]})
    embedder = OnnxEmbedder(path, batch_size=3, **PLAIN)
    assert (embedder.name, embedder.width) == ("onnx:reid", 3)
    image, boxes, wanted = patchwork(count)
    if not count:
        image = np.zeros((5, 5, 3), np.uint8)
    embeddings = embedder.embed(image, boxes.reshape(-1, 4))
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, wanted.reshape(-1, 3), atol=1e-5)


def test_boxes_outside_give_zeros(tmp_path: Path) -> None:
    embedder = OnnxEmbedder(write_model(tmp_path / "reid.onnx"), **PLAIN)
    image, boxes, wanted = patchwork(3)
    strange = [[-9, -9, -1, -1], [np.nan, 0, 1, 1], [5, 5, 5, 9], [2, 2, 1, 1]]
    embeddings = embedder.embed(image, np.array([strange[0], boxes[1], *strange[1:], boxes[2]], np.float32))
    assert not embeddings[[0, 2, 3, 4]].any()
    np.testing.assert_allclose(embeddings[[1, 5]], wanted[1:], atol=1e-5)


def test_mean_and_spread_are_taken_out(tmp_path: Path) -> None:
    path = write_model(tmp_path / "reid.onnx")
    image = np.full((20, 10, 3), (255, 51, 102), np.uint8)
    embeddings = OnnxEmbedder(path, mean=(0.5, 0.1, 0.0), std=(0.5, 0.1, 0.4)).embed(
        image, np.array([[0, 0, 10, 20]], np.float32)
    )
    np.testing.assert_allclose(embeddings, [[1 / np.sqrt(3)] * 3], atol=1e-5)


def test_an_open_size_and_a_pooled_output(tmp_path: Path) -> None:
    """`(N, E, 1, 1)` is a vector too; the input's size is what is asked for, else 256×128."""
    node = onnx.helper.make_node("ReduceMean", ["images"], ["vector"], axes=[2, 3], keepdims=1)
    path = write_model(
        tmp_path / "reid.onnx",
        inputs={"images": ["n", 3, "h", "w"]},
        outputs={"vector": ["n", 3, 1, 1]},
        nodes=[node],
    )
    image, boxes, wanted = patchwork(2)
    for embedder in (OnnxEmbedder(path, **PLAIN), OnnxEmbedder(path, input_size=(16, 8), **PLAIN)):
        np.testing.assert_allclose(embedder.embed(image, boxes), wanted, atol=1e-3)


def test_half_precision(tmp_path: Path) -> None:
    path = write_model(tmp_path / "reid.onnx", kind=HALF)
    image, boxes, wanted = patchwork(3)
    np.testing.assert_allclose(OnnxEmbedder(path, **PLAIN).embed(image, boxes), wanted, atol=5e-3)


def test_one_line_lists_inputs_and_outputs(tmp_path: Path) -> None:
    helper = onnx.helper
    two_outputs = write_model(
        tmp_path / "two.onnx",
        outputs={"a": ["batch", 3], "b": ["batch", 3]},
        nodes=[
            helper.make_node("ReduceMean", ["images"], ["a"], axes=[2, 3], keepdims=0),
            helper.make_node("ReduceMax", ["images"], ["b"], axes=[2, 3], keepdims=0),
        ],
    )
    picture = write_model(
        tmp_path / "picture.onnx",
        outputs={"image": ["batch", 3, 8, 4]},
        nodes=[helper.make_node("Relu", ["images"], ["image"])],
    )
    grey = write_model(tmp_path / "grey.onnx", inputs={"images": ["batch", 1, 8, 4]}, outputs={"vector": ["batch", 1]})
    flat = write_model(
        tmp_path / "flat.onnx",
        inputs={"x": ["batch", 3]},
        nodes=[helper.make_node("Relu", ["x"], ["vector"])],
    )
    for path, message in (
        (two_outputs, r"expected one output .* found inputs images .*; outputs a .*, b "),
        (picture, r"expected one output .* outputs image \(\?, 3, 8, 4\) float"),
        (grey, r"expected one image input .* found inputs images \(\?, 1, 8, 4\)"),
        (flat, r"expected one image input .* found inputs x \(\?, 3\)"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            OnnxEmbedder(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such ONNX model"):
        OnnxEmbedder(tmp_path / "reid.onnx")
    path = write_model(tmp_path / "reid.onnx")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="cannot be opened as an ONNX model") as caught:
        OnnxEmbedder(path)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    helper = onnx.helper
    path = write_model(
        tmp_path / "reid.onnx",
        nodes=[
            helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
            helper.make_node("Log", ["mean"], ["vector"]),
        ],
    )
    embedder = OnnxEmbedder(path, **PLAIN)
    with pytest.raises(InputError, match="not finite"):
        embedder.embed(np.zeros((20, 10, 3), np.uint8), np.array([[0, 0, 10, 20]], np.float32))


def test_a_vector_that_is_not_one_per_crop(tmp_path: Path) -> None:
    """The shapes promise `(batch, 3)`, the model adds all crops up."""
    path = write_model(
        tmp_path / "reid.onnx",
        nodes=[onnx.helper.make_node("ReduceMean", ["images"], ["vector"], axes=[0, 2], keepdims=0)],
        outputs={"vector": ["some", "thing"]},
    )
    image, boxes, _ = patchwork(5)
    with pytest.raises(InputError, match="one vector per crop"):
        OnnxEmbedder(path).embed(image, boxes)


@pytest.mark.skipif(not REID.is_file(), reason="the re-identification network is not beside the project")
def test_a_real_network() -> None:
    embedder = make_embedder(REID)
    assert embedder is not None
    assert embedder.width == 512
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    boxes = np.array([[10, 10, 74, 138], [10, 10, 74, 138], [150, 20, 214, 148], [400, 0, 410, 9]], np.float32)
    image[:, 140:] //= 4
    embeddings = embedder.embed(image, boxes)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), [1, 1, 1, 0], atol=1e-5)
    assert embeddings[0] @ embeddings[1] > 0.999 > embeddings[0] @ embeddings[2]
