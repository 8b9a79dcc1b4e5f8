"""Finding and checking weights: names, folders, headers. No model is built here."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from trackweave.errors import PredictorUnavailable, how_to_install
from trackweave.predictors import weights
from trackweave.predictors.catalog import (
    BACKENDS,
    CHECKPOINTS,
    PREFERENCE_BY_DEVICE,
    PublishedCheckpoint,
    device_rank,
    find_checkpoint,
)
from trackweave.predictors.weights import FOLDER_VARIABLE, backend_for, choose_weights, find_weights, resolve_weights

TINY = "facebook/sam2.1-hiera-tiny"
LARGE = "facebook/sam2.1-hiera-large"
TYPES = {"sam2-hf": "sam2_video", "edgetam": "edgetam_video", "sam3-tracker": "sam3_tracker_video"}


def safetensors(path: Path, *, content: bytes = b"\0" * 8) -> Path:
    """A file with one tensor, as the format has it."""
    table = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, len(content)]}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(table)) + table + content)
    return path


def folder(path: Path, model_type: str = "sam2_video", **config: Any) -> Path:
    """A folder as transformers leaves it."""
    safetensors(path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"model_type": model_type, **config}))
    return path


def meta_file(path: Path) -> Path:
    """What torch writes is a zip archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache of our own."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def cached(hub: Path, name: str, revision: str = "abc123") -> Path:
    """Where the files of a repository lie in the cache."""
    root = hub / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(revision)
    snapshot = root / "snapshots" / revision
    snapshot.mkdir(parents=True)
    return snapshot


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", TYPES)
def test_a_folder_by_path(tmp_path: Path, backend: str) -> None:
    path = folder(tmp_path / "mine", TYPES[backend])
    local = choose_weights(backend, path)
    assert (local.path, local.files, local.checkpoint) == (path, (path / "model.safetensors",), None)
    assert choose_weights(backend, path / "model.safetensors").path == path
    assert backend_for(path) == backend


def test_a_file_of_metas_package_by_path(tmp_path: Path) -> None:
    path = meta_file(tmp_path / "sam2.1_hiera_small.pt")
    local = choose_weights("sam2", path)
    assert (local.path, local.files, local.name) == (path, (path,), "facebook/sam2.1-hiera-small")
    assert choose_weights("sam2", tmp_path).path == path
    assert backend_for(path) == "sam2"


def test_the_only_file_of_a_folder_may_be_called_anything(tmp_path: Path) -> None:
    path = meta_file(tmp_path / "finetuned.pt")
    assert choose_weights("sam2", tmp_path).path == path
    meta_file(tmp_path / "other.pt")
    with pytest.raises(PredictorUnavailable, match=r"several checkpoints \(finetuned.pt, other.pt …\): name one"):
        choose_weights("sam2", tmp_path)


@pytest.mark.parametrize("inside", ["sam2.1-hiera-tiny", TINY])
def test_a_folder_of_weights_is_searched(tmp_path: Path, inside: str) -> None:
    path = folder(tmp_path / inside)
    environment = {FOLDER_VARIABLE: str(tmp_path)}
    (local,) = find_weights("sam2-hf", environment)
    assert (local.path, local.origin, local.name) == (path, FOLDER_VARIABLE, TINY)
    for name in (TINY, "sam2.1-hiera-tiny"):
        assert choose_weights("sam2-hf", Path(name), environment=environment).path == path
    assert find_weights("edgetam", environment) == []


def test_of_several_the_best_for_the_device_is_taken(tmp_path: Path) -> None:
    environment = {FOLDER_VARIABLE: str(tmp_path)}
    for name in ("aardvark", TINY, LARGE, "facebook/sam2-hiera-large"):
        folder(tmp_path / name)
    assert len(find_weights("sam2-hf", environment)) == 4
    assert choose_weights("sam2-hf", None, "cuda", environment).name == LARGE
    assert choose_weights("sam2-hf", None, "mps", environment).name == TINY
    assert choose_weights("sam2-hf", None, "cpu", environment).name == TINY
    assert choose_weights("sam2-hf", tmp_path, "cuda", {}).name == LARGE


def test_the_hub_s_cache_is_searched(hub: Path) -> None:
    snapshot = cached(hub, TINY)
    folder(snapshot)
    meta_file(snapshot / "sam2.1_hiera_tiny.pt")
    (local,) = find_weights("sam2-hf", {})
    assert (local.path, local.revision, local.origin, local.name) == (snapshot, "abc123", "Hugging Face cache", TINY)
    (plain,) = find_weights("sam2", {})
    assert (plain.path, plain.revision) == (snapshot / "sam2.1_hiera_tiny.pt", "abc123")
    assert choose_weights("sam2-hf", Path(TINY), environment={}).path == snapshot
    assert choose_weights("sam2-hf", Path("sam2.1-hiera-tiny"), environment={}).path == snapshot


def test_an_unpublished_repository_is_found_by_its_name_only(hub: Path) -> None:
    snapshot = folder(cached(hub, "someone/finetuned"))
    assert find_weights("sam2-hf", {}) == []
    assert choose_weights("sam2-hf", Path("someone/finetuned"), environment={}).path == snapshot


def test_half_a_download_does_not_count(hub: Path) -> None:
    snapshot = folder(cached(hub, TINY))
    (snapshot / "model.safetensors").unlink()
    assert find_weights("sam2-hf", {}) == []


def test_weights_in_several_files(tmp_path: Path) -> None:
    path = folder(tmp_path / "w")
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    table = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    with pytest.raises(PredictorUnavailable, match=r"has a config\.json but no weights"):
        choose_weights("sam2-hf", path)
    safetensors(path / "model-00002-of-00002.safetensors")
    assert [file.name for file in choose_weights("sam2-hf", path).files] == sorted(table.values())


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(backend: str, path: Path | None, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(PredictorUnavailable) as caught:
        choose_weights(backend, path, environment=environment or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_weights_the_message_names_folder_and_checkpoint(backend: str, tmp_path: Path) -> None:
    message = refused(backend, None)
    assert f"{FOLDER_VARIABLE} is not set" in message
    assert "weights=PATH" in message
    assert any(name.hub_name in message for name in CHECKPOINTS if backend in name.backends)
    assert str(tmp_path) in refused(backend, None, {FOLDER_VARIABLE: str(tmp_path)})


def test_a_variable_that_names_no_folder(tmp_path: Path) -> None:
    message = refused("sam2-hf", None, {FOLDER_VARIABLE: str(tmp_path / "none")})
    assert message == f"environment {FOLDER_VARIABLE}: there is no folder {tmp_path / 'none'}"


def test_a_name_that_is_nowhere(tmp_path: Path) -> None:
    assert "nothing is downloaded" in refused("sam2-hf", Path(TINY))
    assert "no such file or folder" in refused("sam2-hf", tmp_path / "none")
    assert "no such file or folder" in refused("sam2", tmp_path / "none.pt")


@pytest.mark.parametrize("backend", TYPES)
@pytest.mark.parametrize("other", TYPES)
def test_a_folder_of_another_family_names_the_right_backend(tmp_path: Path, backend: str, other: str) -> None:
    path = folder(tmp_path / "w", TYPES[other])
    if backend == other:
        assert choose_weights(backend, path).path == path
        return
    message = refused(backend, path)
    assert f"model_type '{TYPES[other]}'" in message
    assert f"use predictor='{other}={path}'" in message


def test_the_model_for_single_images(tmp_path: Path) -> None:
    assert "model for single images" in refused("sam2-hf", folder(tmp_path / "w", "sam2"))
    assert "model_type 'bert'" in refused("sam2-hf", folder(tmp_path / "b", "bert"))


def test_sam3_takes_the_whole_model_s_folder_too(tmp_path: Path) -> None:
    path = folder(tmp_path / "w", "sam3_video")
    assert choose_weights("sam3-tracker", path).path == path


def test_files_and_folders_taken_for_each_other(tmp_path: Path) -> None:
    path = meta_file(tmp_path / "a" / "sam2.1_hiera_tiny.pt")
    assert f"use predictor='sam2={path}'" in refused("sam2-hf", path)
    assert f"use predictor='sam2={path.parent}'" in refused("sam2-hf", path.parent)
    hf = folder(tmp_path / "b")
    assert f"use predictor='sam2-hf={hf}'" in refused("sam2", hf)
    assert "takes a checkpoint of Meta's package (.pt)" in refused("sam2", hf / "model.safetensors")


def test_a_checkpoint_of_another_backend_by_name() -> None:
    assert refused("edgetam", Path(TINY)) == (f"edgetam cannot run {TINY}: use predictor='sam2-hf' or predictor='sam2'")


@pytest.mark.parametrize("cut", [0, 5, 20, 60, -1])
def test_a_file_that_was_cut_off(tmp_path: Path, cut: int) -> None:
    path = folder(tmp_path / "w")
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    assert str(file) in refused("sam2-hf", path)
    assert "copy it again" in refused("sam2-hf", path)


@pytest.mark.parametrize(
    "table", ['{"a": {"data_offsets": [0, []]}}', '{"a": {"data_offsets": [0, null]}}', "[" * 100_000]
)
def test_a_damaged_table_of_tensors(tmp_path: Path, table: str) -> None:
    path = folder(tmp_path / "w")
    content = len(table).to_bytes(8, "little") + table.encode() + bytes(8)
    (path / "model.safetensors").write_bytes(content)
    assert "not a safetensors file, or damaged: copy it again" in refused("sam2-hf", path)


@pytest.mark.parametrize("vision", ["x", 3, [[]], {"backbone_feature_sizes": 3}, {"backbone_feature_sizes": {"a": 1}}])
def test_a_configuration_that_is_none(tmp_path: Path, vision: object) -> None:
    assert "vision_config is not a configuration" in refused("sam2-hf", folder(tmp_path / "w", vision_config=vision))


def test_a_checkpoint_that_was_cut_off(tmp_path: Path) -> None:
    path = meta_file(tmp_path / "sam2.1_hiera_tiny.pt")
    path.write_bytes(path.read_bytes()[:-30])
    assert "not a checkpoint of torch, or cut off" in refused("sam2", path)


@pytest.mark.parametrize("text", ["version https://git-lfs.github.com/spec/v1\noid", "<!DOCTYPE html><html>", "<html>"])
@pytest.mark.parametrize("backend", ["sam2", "sam2-hf"])
def test_pointers_and_web_pages(tmp_path: Path, backend: str, text: str) -> None:
    path = folder(tmp_path / "w") if backend == "sam2-hf" else tmp_path / "sam2.1_hiera_tiny.pt"
    (path / "model.safetensors" if backend == "sam2-hf" else path).write_text(text)
    assert "is a pointer or a web page" in refused(backend, path)


def test_bytes_that_are_no_weights(tmp_path: Path) -> None:
    path = folder(tmp_path / "w")
    (path / "model.safetensors").write_bytes(struct.pack("<Q", 4) + b"[{]}" + b"\0" * 8)
    assert "not a safetensors file, or damaged" in refused("sam2-hf", path)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"image_size": 512}, "image_size 512 goes with 32 places a side, but memory_attention_rope_feat_sizes is 64"),
        ({"image_size": 512, "memory_attention_rope_feat_sizes": [32, 32]}, "backbone_feature_sizes is 64"),
        ({"memory_attention_rope_feat_sizes": [32, 32]}, "image_size None goes with 64 places a side"),
        ({"image_size": [512, 768]}, "goes with one side"),
    ],
)
def test_a_configuration_changed_in_one_place(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    message = refused("sam2-hf", folder(tmp_path / "w", **config))
    assert "weights for another image size" in message
    assert says in message


def test_another_image_size_throughout_is_fine(tmp_path: Path) -> None:
    sizes = {"backbone_feature_sizes": [[128, 128], [64, 64], [32, 32]]}
    path = folder(tmp_path / "w", image_size=512, memory_attention_rope_feat_sizes=[32, 32], vision_config=sizes)
    assert choose_weights("sam2-hf", path).path == path


def test_an_encoder_of_timm_s_needs_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = {"backbone_config": {"model_type": "timm_wrapper", "architecture": "repvit_m1"}}
    path = folder(tmp_path / "w", "edgetam_video", vision_config=encoder)
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    assert refused("edgetam", path).endswith("one of timm's: " + how_to_install("edgetam"))
    monkeypatch.setattr(weights, "find_spec", lambda name: name)
    assert choose_weights("edgetam", path).path == path


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', "\xff"])
def test_a_configuration_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    path = folder(tmp_path / "w")
    (path / "config.json").write_bytes(text.encode("latin-1"))
    assert str(path) in refused("sam2-hf", path)


def test_unreadable_neighbours_are_passed_by(tmp_path: Path) -> None:
    good = folder(tmp_path / "good")
    folder(tmp_path / "bad")
    (tmp_path / "bad" / "config.json").write_text("{")
    (tmp_path / "empty").mkdir()
    shutil.copytree(good, tmp_path / ".hidden")
    assert [one.path for one in resolve_weights("sam2-hf", tmp_path, {})] == [good]


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_every_device_has_an_order_of_all_checkpoints() -> None:
    names = {checkpoint.hub_name for checkpoint in CHECKPOINTS}
    for device, order in PREFERENCE_BY_DEVICE.items():
        assert set(order) == names
        assert len(order) == len(names)
        assert device_rank(None, device) == len(names)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda checkpoint: checkpoint.short_name)
def test_checkpoints_go_by_all_their_names(checkpoint: PublishedCheckpoint) -> None:
    assert find_checkpoint(checkpoint.hub_name) is checkpoint
    assert find_checkpoint(checkpoint.short_name) is checkpoint
    assert checkpoint.file is None or find_checkpoint(checkpoint.file) is checkpoint
    assert set(checkpoint.backends) <= set(BACKENDS)
    assert ("sam2" in checkpoint.backends) == (checkpoint.file is not None)
