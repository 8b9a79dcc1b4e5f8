"""`TextDetector`: what a phrase names, found on single frames by SAM 3 (`Sam3Model` of transformers).

Pixels, scores and masks are made as `Sam3Processor` of transformers 5.24 makes them, without torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trackweave.errors import InputError, PredictorOutOfMemory, PredictorUnavailable, SettingError, shortened
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.sam.backends import ARCHITECTURES
from trackweave.predictors.sam.loading import autocast_dtype, inference, is_out_of_memory, load_transformers
from trackweave.predictors.sam.preprocessing import image_to_pixels
from trackweave.predictors.sam.session import pack_logits
from trackweave.predictors.sam.settings import SamSettings, TextSettings
from trackweave.structures.detections import Detections

MASK_THRESHOLD = 0.5
"""Probability above which a pixel belongs to the object."""
TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""Files of which one set makes a tokenizer."""


class TextDetector:
    """Detects what phrases name: boxes, masks and scores, the class is the phrase. See `Detector`.

    Each frame goes through the image encoder once, whatever the number of phrases.

    Args:
        text: the phrases, and the lowest score.
        settings: weights, device, arithmetic, compilation.
        model: a `Sam3Model` that is loaded already; None = loaded as the settings say.
        tokenizer: of the model; None = of the weights' folder.

    Raises:
        SettingError: no phrase, or one that is longer than the model reads.
        MissingExtraError: torch or transformers is not installed.
        PredictorUnavailable: no weights, weights of something else, or a device that is not there.
    """

    name = "sam3"

    def __init__(
        self,
        text: TextSettings,
        settings: SamSettings | None = None,
        *,
        model: Any = None,
        tokenizer: Any = None,
    ) -> None:
        if not text.prompts:
            raise SettingError("generator and detector sam3 look for what a text names: give one")
        settings = settings or SamSettings()
        self.class_names: Mapping[int, str] = dict(enumerate(text.prompts))
        self._text = text
        self._model = load_transformers("sam3-tracker", "Sam3Model", settings) if model is None else model.eval()
        self._device: torch.device = self._model.device
        self._autocast = autocast_dtype(settings, self._device)
        self._size: int = self._model.config.vision_config.backbone_config.image_size
        self._phrases = self._encoded(tokenizer or load_tokenizer(settings.weights))

    def _encoded(self, tokenizer: Any) -> list[tuple[Any, Any]]:
        """Features and mask of each phrase's tokens.

        Raises:
            SettingError: a phrase is longer than the model reads.
        """
        length = self._model.config.text_config.max_position_embeddings
        phrases = []
        for phrase in self._text.prompts:
            tokens = tokenizer(phrase, return_tensors="pt", padding="max_length", max_length=length)
            count = int(tokens["attention_mask"].sum())
            if count > length:
                raise SettingError(f"text {shortened(phrase)} has {count} tokens, SAM 3 reads {length}: say less")
            ids, mask = tokens["input_ids"].to(self._device), tokens["attention_mask"].to(self._device)
            with inference(self._device, self._autocast):
                phrases.append((self._model.get_text_features(ids, mask, return_dict=True), mask))
        return phrases

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """See `Detector`.

        Raises:
            InputError: not a frame, or the model makes numbers that are not finite.
            PredictorOutOfMemory: the device does not hold it.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(f"sam3: a frame is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        rule = ARCHITECTURES["sam3-tracker"]
        pixels = image_to_pixels(
            image, self._size, rule.mean, rule.std, "torch-bilinear", self._device, self._model.dtype
        )
        try:
            with inference(self._device, self._autocast):
                vision = self._model.get_vision_features(pixels)
                found = [self._of_phrase(vision, number, image.shape[:2]) for number in self.class_names]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise PredictorOutOfMemory(f"sam3: {self._device} does not hold a frame of {self._size} pixels") from error
        score = np.concatenate([part.score for part in found])
        together = Detections(
            xyxy=np.concatenate([part.xyxy for part in found]),
            score=score,
            class_id=np.concatenate([part.class_id for part in found]),
            masks=PackedMasks.concat([part.masks for part in found if part.masks is not None]),
        )
        return together[np.argsort(-score, kind="stable")]

    def _of_phrase(self, vision: Any, number: int, size: tuple[int, int]) -> Detections:
        """What one phrase names on a frame of `(H, W)` pixels."""
        features, mask = self._phrases[number]
        output = self._model(vision_embeds=vision, text_embeds=features, attention_mask=mask)
        # Whether the phrase's thing is there at all counts for every query.
        score = (output.pred_logits[0].float().sigmoid() * output.presence_logits[0].float().sigmoid()).cpu()
        if not torch.isfinite(score).all():
            raise InputError("sam3: the model makes scores that are not finite: another device or autocast=off")
        kept = torch.nonzero(score >= self._text.score_threshold).flatten()
        height, width = size
        scale = torch.tensor([width, height, width, height], dtype=torch.float32)
        limits = scale.numpy()
        xyxy = np.clip((output.pred_boxes[0].float().cpu()[kept] * scale).numpy(), 0, limits)
        chance = output.pred_masks[0, kept.to(output.pred_masks.device)].float().sigmoid()
        return Detections(
            xyxy=xyxy.astype(np.float32),
            score=score[kept].numpy().astype(np.float32),
            class_id=np.full(len(kept), number, np.int64),
            masks=pack_logits(chance[:, None] - MASK_THRESHOLD, height, width),
        )

    def reset(self) -> None:
        """See `Detector`; it remembers nothing of a video."""

    def close(self) -> None:
        """See `Detector`."""
        self._model = None


def load_tokenizer(folder: Path | None) -> Any:
    """The tokenizer of a folder of weights.

    Raises:
        PredictorUnavailable: there is none.
    """
    transformers: Any = import_module("transformers")
    # Without these files upstream makes a tokenizer that knows no word, and says nothing.
    if folder is None or not any(all((folder / name).is_file() for name in names) for names in TOKENIZER_FILES):
        raise PredictorUnavailable(f"{folder}: has no tokenizer (tokenizer.json): copy the whole folder of SAM 3")
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # files that were edited fail anywhere in upstream's constructors
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PredictorUnavailable(
            f"{folder}: its tokenizer cannot be read ({reason}): copy the whole folder of SAM 3"
        ) from error
