"""SAM 3 that looks for what a text names: a tiny random model of the class that is published, its weights on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")
import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

from tests.predictors.sam import tiny  # noqa: E402
from trackweave.errors import PredictorUnavailable, SettingError  # noqa: E402
from trackweave.pipelines.boxes import track_boxes  # noqa: E402
from trackweave.pipelines.detection_source import detect  # noqa: E402
from trackweave.pipelines.masks import track_masks  # noqa: E402
from trackweave.pipelines.settings import PerceptionSettings  # noqa: E402
from trackweave.predictors.registry import open_text_detector  # noqa: E402
from trackweave.predictors.sam.preprocessing import image_to_pixels  # noqa: E402
from trackweave.predictors.sam.settings import SamSettings, TextSettings  # noqa: E402
from trackweave.predictors.sam.text import TextDetector  # noqa: E402
from trackweave.proposals.generators import GeneratorChoice  # noqa: E402
from trackweave.storage.run import RunManifest, RunPaths  # noqa: E402

HEIGHT, WIDTH = 40, 64
LONGEST = 8
"""Tokens that the tiny model reads, its two ends among them."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of the hub: the whole of SAM 3, and a tokenizer that knows letters."""
    folder = tmp_path_factory.mktemp("hub") / "sam3"
    tiny.save_tiny(tiny.tiny_sam3_video(), folder)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    known = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    transformers.CLIPTokenizer(vocab={token: k for k, token in enumerate(known)}, merges=[]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def detector(weights: Path) -> TextDetector:
    text = TextSettings(prompts=("cat", "dog"), score_threshold=0)
    return open_text_detector(str(weights), text, SamSettings(device="cpu")).detector


@pytest.fixture(scope="module")
def video() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(5).integers(0, 256, (3, HEIGHT, WIDTH, 3)).astype(np.uint8)


def test_boxes_scores_and_masks_are_upstreams(weights: Path, detector: TextDetector, video: Any) -> None:
    """The steps of `Sam3ImageProcessor.post_process_instance_segmentation`, which needs torchvision, one by one."""
    model = transformers.Sam3Model.from_pretrained(weights, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights, local_files_only=True)
    pixels = image_to_pixels(video[0], 56, (0.5,) * 3, (0.5,) * 3, "torch-bilinear")
    found = detector.detect(video[0])
    assert found.masks is not None
    assert len(found) == 2 * 4  # all queries of both phrases
    assert np.all(np.diff(found.score) <= 0)
    for number, phrase in enumerate(("cat", "dog")):
        tokens = tokenizer(phrase, return_tensors="pt", padding="max_length", max_length=LONGEST)
        with torch.inference_mode():
            out = model(pixel_values=pixels, **tokens)
        score = out.pred_logits[0].sigmoid() * out.presence_logits[0].sigmoid()
        order = torch.argsort(-score, stable=True)
        mine = found[found.class_id == number]
        assert mine.masks is not None
        np.testing.assert_allclose(mine.score, score[order].numpy(), rtol=1e-5)
        boxes = out.pred_boxes[0][order].numpy() * np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
        np.testing.assert_allclose(mine.xyxy, boxes.clip(0, [WIDTH, HEIGHT, WIDTH, HEIGHT]), atol=1e-3)
        chance = out.pred_masks[0][order].sigmoid()[None]
        large = functional.interpolate(chance, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)[0] > 0.5
        assert (mine.masks.to_bool() != large.numpy()).mean() < 1e-3  # rounding of a half


def test_a_frame_is_encoded_once_for_all_phrases(
    detector: TextDetector, video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    encoder = detector._model.vision_encoder
    handle = encoder.register_forward_hook(lambda *_: passes.append(1))
    detector.detect(video[0])
    handle.remove()
    assert len(passes) == 1


def test_only_what_is_sure_enough_is_found(weights: Path, detector: TextDetector, video: Any) -> None:
    every = detector.detect(video[0])
    limit = float(np.median(every.score))
    text = TextSettings(prompts=("cat", "dog"), score_threshold=limit)
    some = open_text_detector(str(weights), text, SamSettings(device="cpu")).detector.detect(video[0])
    np.testing.assert_array_equal(some.score, every.score[every.score >= limit])


def test_masks_of_what_a_text_names_are_followed(weights: Path, video: Any, tmp_path: Path) -> None:
    generator = GeneratorChoice(f"sam3={weights}", text=TextSettings(prompts=("cat",), score_threshold=0, device="cpu"))
    run = track_masks(video, tmp_path / "run", generator=generator, predictor="static")
    source = RunManifest.load(RunPaths(tmp_path / "run").manifest).data["config"]["prompts"]
    assert source["name"] == "sam3"
    assert source["settings"]["prompts"] == ["cat"]
    assert run.summary.totals["candidates"] == 4


def test_the_weights_of_a_predictor_are_not_those_of_sam3(weights: Path, video: Any, tmp_path: Path) -> None:
    settings = SamSettings(weights=tiny.save_tiny(tiny.tiny_sam2_hf(), tmp_path / "sam2"), device="cpu")
    text = TextSettings(prompts=("cat",), score_threshold=0)
    for generator, known in ((f"sam3={weights}", True), ("sam3", False)):
        options: dict[str, Any] = {"generator": GeneratorChoice(generator, text=text), "predictor_settings": settings}
        if known:
            run = track_masks(video, tmp_path / "run", predictor="sam2-hf", **options)
            assert run.summary.totals["candidates"] == 4
        else:
            with pytest.raises(PredictorUnavailable, match="its weights are neither"):
                track_masks(video, tmp_path / "none", predictor="sam2-hf", **options)


def test_boxes_of_what_a_text_names_are_linked(weights: Path, video: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"score_threshold": 0, "device": "cpu"}
    perception = PerceptionSettings(detector=f"sam3={weights}", text=("cat", "dog"), detector_options=options)
    run = track_boxes(video, tmp_path / "run", perception=perception, tracker="adaptive")
    assert run.summary.to_json()["detections"] == {"kind": "detector", "name": "sam3", "reason": "asked for"}
    assert run.class_names == {0: "cat", 1: "dog"}
    table = detect(video, f"sam3={weights}", prompts="cat,dog", **options)
    assert len(table) == 3 * 2 * 4
    assert dict(table.class_names or {}) == {0: "cat", 1: "dog"}


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (GeneratorChoice("sam3"), "looks? for what a text names"),
        (GeneratorChoice("regions", text=TextSettings(prompts=("cat",))), "regions does not look for what a text"),
    ],
)
def test_a_text_and_a_generator_that_do_not_fit(
    generator: GeneratorChoice, message: str, weights: Path, video: Any, tmp_path: Path
) -> None:
    generator = generator if generator.name != "sam3" else GeneratorChoice(f"sam3={weights}")
    with pytest.raises(SettingError, match=message):
        track_masks(video, tmp_path / "run", generator=generator, predictor="static")


def test_what_cannot_be_read_is_said(weights: Path, video: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("TRACKWEAVE_WEIGHTS", raising=False)
    with pytest.raises(PredictorUnavailable, match="texts are understood by SAM 3 alone"):
        track_masks(video, tmp_path / "run", generator=TextSettings(prompts=("cat",)), predictor="static")
    with pytest.raises(SettingError, match="tokens, SAM 3 reads 8"):
        open_text_detector(str(weights), TextSettings(prompts=("a very long phrase",)), SamSettings(device="cpu"))
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).symlink_to(weights / name)
    with pytest.raises(PredictorUnavailable, match="no tokenizer"):
        open_text_detector(str(bare), TextSettings(prompts=("cat",)), SamSettings(device="cpu"))
    tracker = tmp_path / "tracker"
    tiny.save_tiny(tiny.tiny_sam3_tracker(), tracker)
    assert json.loads((tracker / "config.json").read_text())["model_type"] == "sam3_tracker_video"
    with pytest.raises(PredictorUnavailable, match="no text encoder"):
        open_text_detector(str(tracker), TextSettings(prompts=("cat",)), SamSettings(device="cpu"))


@pytest.mark.parametrize("text", ["", "cat,,dog", "cat,Cat"])
def test_phrases_are_different_and_not_empty(text: str) -> None:
    with pytest.raises(SettingError, match="different phrases"):
        TextSettings.checked({"prompts": text})
    assert TextSettings(prompts="red car, person").prompts == ("red car", "person")  # type: ignore[arg-type]
