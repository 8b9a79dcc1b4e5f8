"""`sam2-hf`: SAM 2 and 2.1 through `transformers`."""

from __future__ import annotations

from typing import Any

from trackweave.predictors.sam.loading import load_transformers
from trackweave.predictors.sam.predictor import SamPredictor
from trackweave.predictors.sam.settings import SamSettings
from trackweave.predictors.sam.transformers_model import TransformersModel, TransformersPass

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Sam2HfPredictor(SamPredictor):
    """See `VideoPredictor`.

    Args:
        settings: how to run it, and where its weights are.
        model: a `Sam2VideoModel` that is loaded already; None = loaded as the settings say.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        PredictorUnavailable: no weights, weights of something else, or a device that is not there.
    """

    def __init__(self, settings: SamSettings | None = None, *, model: Any = None) -> None:
        how = settings or SamSettings()
        loaded = load_transformers("sam2-hf", "Sam2VideoModel", how) if model is None else model
        super().__init__(
            TransformersModel(loaded, "sam2-hf", mean=MEAN, std=STD),
            loaded.vision_encoder,
            lambda frames, size, prompts: TransformersPass(loaded, frames, size, prompts),
            how,
        )
