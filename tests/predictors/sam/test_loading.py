from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.predictors.sam.adapters import both_ways, mask, video
from tests.predictors.sam.tiny import tiny_sam2_hf, tiny_sam2_meta_config
from trackweave.errors import PredictorOutOfMemory, PredictorUnavailable
from trackweave.ids import LocalIndex
from trackweave.options.yaml_values import parse_yaml
from trackweave.predictors.sam.backends import Sam2HfPredictor
from trackweave.predictors.sam.loading import (
    _check_recipe,
    autocast_dtype,
    available_devices,
    build_meta,
    choose_device,
    compile_parts,
    inference,
    is_out_of_memory,
    prepare_model,
)
from trackweave.predictors.sam.settings import SamSettings


def test_auto_is_the_best_that_is_here() -> None:
    assert choose_device("auto").type == available_devices()[0]
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("request_text", ["cuda:99", "quantum", "xpu"])
def test_devices_that_are_not_here(request_text: str) -> None:
    with pytest.raises(PredictorUnavailable, match=re.escape(request_text)):
        choose_device(request_text)


def test_arithmetic() -> None:
    cpu = torch.device("cpu")
    assert autocast_dtype(SamSettings(), cpu) is None
    assert autocast_dtype(SamSettings(autocast="bfloat16"), cpu) is torch.bfloat16
    assert autocast_dtype(SamSettings(autocast="off"), torch.device("cuda")) is None
    matrix = torch.ones(2, 2, requires_grad=True)
    with inference(cpu, torch.bfloat16):
        product = matrix @ matrix
    assert product.dtype is torch.bfloat16
    assert not product.requires_grad
    with inference(cpu, None):
        assert (matrix @ matrix).dtype is torch.float32


def test_what_counts_as_short_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_a_device_that_does_not_hold_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = torch.nn.Linear(2, 2)
    monkeypatch.setattr(model, "to", full)
    with pytest.raises(PredictorOutOfMemory, match="cpu does not hold the model: take a smaller one"):
        prepare_model(model, torch.device("cpu"), SamSettings())


def test_compiled_code_is_used_again_while_memories_grow() -> None:
    """Traced but not translated, which takes minutes here: what decides is how often a graph has to be made anew."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    model = tiny_sam2_hf()
    compile_parts(model, backend="eager")
    session = Sam2HfPredictor(SamSettings(batch=4, pad_batches="on"), model=model).open(video(7))
    for k in range(3):
        session.add_mask(LocalIndex(0), k, mask(k))
    predictions = list(session.propagate(LocalIndex(0)))
    graphs = counters["stats"]["unique_graphs"]
    session.add_mask(LocalIndex(6), 9, mask(3))
    session.add_mask(LocalIndex(6), 8, mask(2))
    session.add_mask(LocalIndex(6), 7, mask(1))
    list(session.propagate(LocalIndex(6), reverse=True))
    assert counters["stats"]["unique_graphs"] == graphs
    torch._dynamo.reset()
    plain = Sam2HfPredictor(SamSettings(), model=tiny_sam2_hf()).open(video(7))
    for k in range(3):
        plain.add_mask(LocalIndex(0), k, mask(k))
    for one, other in zip(predictions, plain.propagate(LocalIndex(0)), strict=True):
        np.testing.assert_allclose(one.score, other.score, atol=1e-4)


def test_bfloat16_arithmetic_runs() -> None:
    session = Sam2HfPredictor(SamSettings(autocast="bfloat16"), model=tiny_sam2_hf()).open(video(4))
    session.add_mask(LocalIndex(1), 1, mask(1))
    assert [p.frame for p in both_ways(session, 1)] == [1, 2, 3, 1, 0]


CALLS = [
    ("pathlib.Path.write_text", "pathlib.Path.write_text"),
    ("os.system", "os.system"),
    ("sam2.utils.misc.os.system", "sam2.utils.misc.os.system"),  # an imported module is no part of the package
    ("sam2.modeling.sam2_base.torch.load", "torch.load"),
    ("sam2.modeling.sam2_base.select_closest_cond_frames", "select_closest"),
    ("sam2.sam2_image_predictor.SAM2ImagePredictor", "SAM2ImagePredictor"),
    ("sam2.modeling.nothing.Hiera", "nothing"),
    ("sam2.modeling.sam2_base.Nothing", "Nothing"),
    (["os.system"], "os.system"),
    (None, "None"),
]


@pytest.mark.parametrize(("target", "shown"), CALLS)
def test_a_configuration_calls_nothing_but_the_model(tmp_path: Path, target: Any, shown: str) -> None:
    pytest.importorskip("sam2")
    written = tmp_path / "written"
    config = tiny_sam2_meta_config()
    config["model"]["image_encoder"] = {
        "_target_": target,
        "_args_": [{"_target_": "pathlib.Path", "_args_": [str(written)]}, "x"],
    }
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config))
    with pytest.raises(PredictorUnavailable, match=rf"_target_ .*{re.escape(shown)}.* is no part of SAM 2's model"):
        build_meta(path)
    assert not written.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {image_encoder: {_target_: '${oc.env:HOME}'}}", "_target_"),
        ("model: {memory_attention: '${oc.env:HOME}'}", r"'\$\{oc.env:HOME\}' is a reference, which is not read"),
        ("model: {x: 2023-02-30}", "day is out of range"),
        ("model: &a [*a]", "holds itself"),
        ("[]", "not a configuration of SAM 2"),
        ("nothing: 1", "not a configuration of SAM 2"),
        ("model: [", "not a configuration of SAM 2"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    pytest.importorskip("sam2")
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(PredictorUnavailable, match=message) as refused:
        build_meta(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("size", ["t", "s", "b+", "l"])
def test_the_packages_own_configurations_name_nothing_else(size: str) -> None:
    sam2 = pytest.importorskip("sam2")
    config = Path(sam2.__file__).parent / "configs" / "sam2.1" / f"sam2.1_hiera_{size}.yaml"
    _check_recipe(config, parse_yaml(config.read_text())["model"])
