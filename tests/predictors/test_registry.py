from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.predictors.sam.tiny import (
    save_tiny,
    save_tiny_meta,
    tiny_edgetam,
    tiny_sam2_hf,
    tiny_sam2_meta,
    tiny_sam2_meta_config,
    tiny_sam3_tracker,
    tiny_sam3_video,
)
from tests.toy_scenes import toy_scene
from trackweave.errors import MissingExtraError, PredictorUnavailable, SettingError, how_to_install
from trackweave.predictors import catalog as checkpoints
from trackweave.predictors import registry
from trackweave.predictors.catalog import BACKENDS
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.registry import PredictorSettings, choose_predictor
from trackweave.predictors.sam.settings import SamSettings

TINY = "facebook/sam2.1-hiera-tiny"


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if packages were not installed."""
    monkeypatch.setattr(
        checkpoints, "find_spec", lambda name: None if name in packages else importlib.util.find_spec(name)
    )


def optional_dependencies() -> dict[str, list[str]]:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = tomllib.loads(text)["project"]["optional-dependencies"]
    return found


@pytest.fixture
def folder_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("TRACKWEAVE_WEIGHTS", str(folder))
    return folder


@pytest.fixture(autouse=True)
def record_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize("name", ["flow", "static"])
def test_a_predictor_by_name(name: str) -> None:
    chosen = choose_predictor(name)
    assert (chosen.predictor.name, chosen.request, chosen.reason) == (name, name, "asked for")


def test_auto_says_what_it_took_and_why() -> None:
    chosen = choose_predictor("auto")
    assert (chosen.predictor.name, chosen.request) == ("flow", "auto")
    assert "flow" in chosen.reason


def test_replay_takes_a_path_that_may_hold_an_equals_sign(tmp_path: Path) -> None:
    path = toy_scene("a.").record(tmp_path / "a=b.npz")
    assert choose_predictor(f"replay={path}").predictor.name == "replay"


@pytest.mark.parametrize("request_text", ["replay", "replay="])
def test_replay_without_a_path(request_text: str) -> None:
    with pytest.raises(SettingError, match="replay needs a recording: predictor=replay=PATH"):
        choose_predictor(request_text)


def test_replay_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(PredictorUnavailable, match="no recording to replay"):
        choose_predictor(f"replay={tmp_path / 'none.npz'}")


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_whose_packages_are_missing_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, *BACKENDS[name].packages)
    with pytest.raises(MissingExtraError, match=r"pip install 'trackweave\[[\w-]+\]'.* use predictor='flow'") as caught:
        choose_predictor(name)
    assert caught.value.extra in (extras := optional_dependencies())
    assert any(caught.value.library in requirement for requirement in extras[caught.value.extra])


def test_every_backend_s_extras_exist() -> None:
    extras = optional_dependencies()
    for backend in BACKENDS.values():
        for package, extra in backend.packages.items():
            assert any(re.split(r"[>=<]", requirement)[0].startswith(package) for requirement in extras[extra])


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_without_weights_names_the_folder_to_put_them(name: str) -> None:
    with pytest.raises(PredictorUnavailable, match=r"no weights found .* put .* there"):
        choose_predictor(name)


def test_weights_in_the_name_win_over_the_setting(tmp_path: Path) -> None:
    weights = save_tiny(tiny_sam2_hf(), tmp_path / "w")
    for chosen in (
        choose_predictor(f"sam2-hf={weights}", SamSettings(weights=tmp_path / "none")),
        choose_predictor("sam2-hf", SamSettings(weights=weights)),
    ):
        assert chosen.predictor.name == "sam2-hf"
        assert chosen.reason == f"asked for: {weights} on cpu"


def test_the_record_of_what_was_taken(tmp_path: Path) -> None:
    weights = save_tiny(tiny_sam2_hf(), tmp_path / "w")
    file = weights / "model.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    chosen = choose_predictor(f"sam2-hf={weights}", SamSettings(device="cpu", stop_after_absent=3))
    details = json.loads(json.dumps(chosen.details))
    assert details["weights"]["files"] == [{"file": str(file), "bytes": file.stat().st_size, "sha256": digest}]
    assert details["device"] == "cpu"
    assert details["versions"] == {"torch": version("torch"), "transformers": version("transformers")}
    assert details["settings"]["stop_after_absent"] == 3
    assert chosen.identity["weights"] == [digest]
    assert chosen.warnings == ()
    moved = save_tiny(tiny_sam2_hf(), tmp_path / "elsewhere")
    same = choose_predictor(f"sam2-hf={moved}", SamSettings(device="cpu", stop_after_absent=3, host_bytes=7))
    assert same.identity == chosen.identity
    other = choose_predictor(f"sam2-hf={weights}", SamSettings(device="cpu"))
    assert other.identity != chosen.identity


def test_weights_that_changed_are_a_warning(tmp_path: Path) -> None:
    choose_predictor(f"sam2-hf={save_tiny(tiny_sam2_hf(), tmp_path / 'w')}")
    chosen = choose_predictor(f"sam2-hf={save_tiny(tiny_sam2_hf(seed=1), tmp_path / 'w')}")
    assert [warning.code for warning in chosen.warnings] == ["weights-changed"]


def test_weights_of_another_model_name_what_differs(tmp_path: Path) -> None:
    weights = save_tiny(tiny_sam2_hf(), tmp_path / "w")
    config = json.loads((weights / "config.json").read_text())
    config["memory_attention_num_layers"] = 2
    config["mask_decoder_config"]["iou_head_hidden_dim"] = 32
    (weights / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        PredictorUnavailable, match=r"missing \(memory_attention\.layers\.1\..*of other shape"
    ) as caught:
        choose_predictor(f"sam2-hf={weights}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "edit",
    [
        {"memory_attention_num_layers": "two"},
        {"memory_attention_hidden_size": 130, "memory_attention_num_attention_heads": 3},
        {"vision_config": {"model_type": "nothing-known"}},
        {"mask_downsampler_total_stride": 3},
    ],
)
def test_a_configuration_that_makes_no_model(edit: dict[str, Any], tmp_path: Path) -> None:
    weights = save_tiny(tiny_sam2_hf(), tmp_path / "w")
    config = json.loads((weights / "config.json").read_text())
    config.update(edit)
    if "vision_config" in edit:
        config["vision_config"]["backbone_feature_sizes"] = [[4, 4]]
    (weights / "config.json").write_text(json.dumps(config))
    with pytest.raises(PredictorUnavailable) as caught:
        choose_predictor(f"sam2-hf={weights}")
    assert str(weights) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_loading_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = save_tiny(tiny_sam2_hf(), tmp_path / "w")
    capfd.readouterr()
    choose_predictor(f"sam2-hf={weights}")
    assert capfd.readouterr() == ("", "")


def test_the_tracker_of_the_whole_of_sam_3(tmp_path: Path) -> None:
    whole = tiny_sam3_video()
    chosen = choose_predictor(f"sam3-tracker={save_tiny(whole, tmp_path / 'w')}", SamSettings(device="cpu"))
    predictor: Any = chosen.predictor
    weights = predictor.model.model.state_dict()
    theirs = whole.state_dict()
    for ours, upstream in (
        ("vision_encoder.backbone.", "detector_model.vision_encoder.backbone."),
        ("vision_encoder.neck.", "tracker_neck."),
        ("memory_attention.", "tracker_model.memory_attention."),
        ("mask_decoder.", "tracker_model.mask_decoder."),
    ):
        names = [name for name in weights if name.startswith(ours)]
        assert names
        for name in names:
            assert torch.equal(weights[name], theirs[upstream + name.removeprefix(ours)])


@pytest.fixture
def meta_settings(tmp_path: Path) -> SamSettings:
    """Weights of Meta's package, with the configuration that goes with them."""
    pytest.importorskip("sam2")
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(tiny_sam2_meta_config()))  # JSON is YAML
    weights = save_tiny_meta(tiny_sam2_meta(), tmp_path / "meta", "mine.pt")
    return SamSettings(device="cpu", weights=weights, config=str(config))


def test_metas_package_with_a_configuration_by_file(meta_settings: SamSettings) -> None:
    chosen = choose_predictor("sam2", meta_settings)
    predictor: Any = chosen.predictor
    expected = tiny_sam2_meta().state_dict()
    found = predictor.model.predictor.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert chosen.details["versions"]["sam2"] == version("sam2")
    assert chosen.details["weights"]["files"][0]["file"] == str(meta_settings.weights)


def test_metas_package_with_a_configuration_by_name(meta_settings: SamSettings) -> None:
    with pytest.raises(PredictorUnavailable, match=r"no configuration 'sam9'.* one of .*sam2\.1_hiera_t"):
        choose_predictor("sam2", meta_settings.model_copy(update={"config": "sam9"}))
    with pytest.raises(PredictorUnavailable, match="its name does not tell the configuration"):
        choose_predictor("sam2", meta_settings.model_copy(update={"config": None}))


def test_a_checkpoint_of_metas_that_lacks_something(meta_settings: SamSettings) -> None:
    assert meta_settings.weights is not None
    content = torch.load(meta_settings.weights, weights_only=True)
    del content["model"]["no_mem_embed"]
    content["model"]["extra"] = torch.zeros(1)
    torch.save(content, meta_settings.weights)
    with pytest.raises(PredictorUnavailable, match=r"1 missing \(no_mem_embed\); 1 unknown \(extra\)"):
        choose_predictor("sam2", meta_settings)
    torch.save(content["model"], meta_settings.weights)
    with pytest.raises(PredictorUnavailable, match="no entry `model`"):
        choose_predictor("sam2", meta_settings)


class Harmful:
    """Would make a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_does_not_run(meta_settings: SamSettings, tmp_path: Path) -> None:
    assert meta_settings.weights is not None
    torch.save({"model": Harmful(tmp_path / "harm")}, meta_settings.weights)
    with pytest.raises(PredictorUnavailable, match="not a checkpoint that can be read"):
        choose_predictor("sam2", meta_settings)
    assert not (tmp_path / "harm").exists()


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    weights = save_tiny(tiny_sam2_hf(), tmp_path / "w")
    with pytest.raises(PredictorUnavailable, match=r"device cuda:99 is not there; here: .*cpu"):
        choose_predictor(f"sam2-hf={weights}", SamSettings(device="cuda:99"))


# --- auto -------------------------------------------------------------------------------------------------------------


def test_auto_without_packages_takes_flow_and_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch", "transformers", "sam2")
    chosen = choose_predictor("auto")
    assert chosen.predictor.name == "flow"
    assert chosen.reason == ("auto: flow, because no backend with weights is installed: " + how_to_install("sam2"))


def test_auto_without_weights_takes_flow() -> None:
    chosen = choose_predictor("auto")
    assert chosen.predictor.name == "flow"
    assert "no weights were found for sam2-hf" in chosen.reason
    assert chosen.details == {}


def test_auto_with_weights_but_without_their_package(folder_of_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny(tiny_sam2_hf(), folder_of_weights / TINY)
    without(monkeypatch, "transformers")
    reason = choose_predictor("auto").reason
    assert reason == (
        f"auto: flow, because {TINY} is there but transformers is not installed: " + how_to_install("sam2")
    )


def test_auto_with_weights_but_without_a_gpu(folder_of_weights: Path) -> None:
    save_tiny(tiny_sam2_hf(), folder_of_weights / TINY)
    chosen = choose_predictor("auto", SamSettings(device="cpu"))
    assert chosen.predictor.name == "flow"
    assert "no GPU" in chosen.reason
    assert "predictor='sam2-hf' uses it all the same" in chosen.reason


def test_auto_on_a_gpu_takes_the_best(folder_of_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "device_kind", lambda settings: "cuda")  # the model itself loads on the processor
    save_tiny(tiny_edgetam(), folder_of_weights / "EdgeTAM-hf")
    chosen = choose_predictor("auto", SamSettings(device="cpu"))
    assert chosen.predictor.name == "edgetam"
    assert chosen.reason == "auto: the only one that was found: yonigozlan/EdgeTAM-hf on cpu"
    save_tiny(tiny_sam2_hf(), folder_of_weights / "sam2.1-hiera-tiny")
    chosen = choose_predictor("auto", SamSettings(device="cpu"))
    assert chosen.predictor.name == "sam2-hf"
    assert chosen.reason == f"auto: the best of 2 that were found: {TINY} on cpu"


@pytest.mark.parametrize("make", [tiny_sam2_hf, tiny_edgetam, tiny_sam3_tracker])
def test_auto_runs_weights_that_were_named_on_any_device(make: Any, tmp_path: Path) -> None:
    weights = save_tiny(make(), tmp_path / "w")
    chosen = choose_predictor("auto", SamSettings(device="cpu", weights=weights))
    assert chosen.predictor.name == make.__name__.removeprefix("tiny_").replace("_", "-")
    assert chosen.reason == f"auto: {chosen.predictor.name} takes the weights that were named: {weights} on cpu"


def test_auto_and_weights_that_nothing_takes(tmp_path: Path) -> None:
    with pytest.raises(PredictorUnavailable, match="no such file or folder"):
        choose_predictor("auto", SamSettings(weights=tmp_path / "none"))


@pytest.mark.parametrize(
    ("name", "settings"),
    [("flow", SamSettings(device="cpu")), ("static", FlowSettings(reach=9)), ("sam2", FlowSettings(reach=9))],
)
def test_settings_of_another_predictor_are_refused(name: str, settings: SamSettings | FlowSettings) -> None:
    with pytest.raises(SettingError, match=f"predictor {name}: {type(settings).__name__} have no effect"):
        choose_predictor(name, settings)
    if name in ("flow", "static"):
        assert choose_predictor(name, type(settings)()).predictor.name == name


def test_auto_says_which_settings_have_no_effect(folder_of_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = PredictorSettings(SamSettings(device="cpu", prune=False), FlowSettings(reach=9))
    (warning,) = choose_predictor("auto", both).warnings
    assert warning.message.startswith("predictor.prune without effect (auto: flow, because no weights were found")
    with pytest.raises(
        PredictorUnavailable, match=r"^device='cuda': auto: flow, because no weights .* processor alone"
    ):
        choose_predictor("auto", SamSettings(device="cuda"))
    monkeypatch.setattr(registry, "device_kind", lambda settings: "cuda")
    save_tiny(tiny_sam2_hf(), folder_of_weights / TINY)
    (warning,) = choose_predictor("auto", both).warnings
    assert warning.message == f"flow.reach without effect (auto: the only one that was found: {TINY} on cpu)"


def test_an_unknown_name_is_refused_with_the_valid_names() -> None:
    with pytest.raises(SettingError, match=r"no predictor 'sma2'; known: auto, flow, static, replay, sam2-hf, sam2, "):
        choose_predictor("sma2")


@pytest.mark.parametrize("request_text", ["auto=x", "flow=fast", "static=1"])
def test_an_argument_that_nothing_takes(request_text: str) -> None:
    with pytest.raises(SettingError, match="takes no argument"):
        choose_predictor(request_text)
