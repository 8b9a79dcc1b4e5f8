"""`sam3-tracker`: the tracker of SAM 3 through `transformers`; SAM 2's memory behind a larger encoder."""

from __future__ import annotations

from typing import Any

from trackweave.predictors.sam.loading import load_transformers
from trackweave.predictors.sam.predictor import SamPredictor
from trackweave.predictors.sam.settings import SamSettings
from trackweave.predictors.sam.transformers_model import TransformersModel, TransformersPass

MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)


class Sam3TrackerPredictor(SamPredictor):
    """See `VideoPredictor`.

    Args:
        settings: how to run it, and where its weights are.
        model: a `Sam3TrackerVideoModel` that is loaded already; None = loaded as the settings say.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        PredictorUnavailable: no weights, weights of something else, or a device that is not there.
    """

    def __init__(self, settings: SamSettings | None = None, *, model: Any = None) -> None:
        how = settings or SamSettings()
        loaded = load_transformers("sam3-tracker", "Sam3TrackerVideoModel", how) if model is None else model
        super().__init__(
            TransformersModel(loaded, "sam3-tracker", mean=MEAN, std=STD),
            loaded.vision_encoder,
            lambda frames, size, prompts: TransformersPass(loaded, frames, size, prompts),
            how,
        )
