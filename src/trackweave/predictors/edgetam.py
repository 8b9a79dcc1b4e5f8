"""`edgetam`: EdgeTAM through `transformers`; like SAM 2 with a small encoder and memories of a few hundred tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trackweave.predictors.sam.loading import load_transformers
from trackweave.predictors.sam.predictor import SamPredictor
from trackweave.predictors.sam.settings import SamSettings
from trackweave.predictors.sam.transformers_model import TransformersModel, TransformersPass

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class EdgeTamPredictor(SamPredictor):
    """See `VideoPredictor`.

    Args:
        settings: how to run it, and where its weights are.
        model: an `EdgeTamVideoModel` that is loaded already; None = loaded as the settings say.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        PredictorUnavailable: no weights, weights of something else, or a device that is not there.
    """

    def __init__(self, settings: SamSettings | None = None, *, model: Any = None) -> None:
        how = settings or SamSettings()
        loaded = load_transformers("edgetam", "EdgeTamVideoModel", how) if model is None else model
        super().__init__(
            EdgeTamModel(loaded, "edgetam", mean=MEAN, std=STD),
            loaded.vision_encoder,
            lambda frames, size, prompts: TransformersPass(loaded, frames, size, prompts),
            how,
        )


class EdgeTamModel(TransformersModel):
    """See `SamModel`. Spatial memory is `(B, tokens, C)`."""

    def __init__(self, model: Any, name: str, **normalisation: Any) -> None:
        super().__init__(model, name, **normalisation)
        resampler = model.spatial_perceiver
        resampler._forward_2d = lambda hidden: _resample_windows(resampler, hidden)

    def axis(self, key: str) -> int:
        """See `SamModel`."""
        return 0


def _resample_windows(resampler: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The resampler's tokens that each stand for a window, for several objects; upstream's own copes with one.

    Args:
        resampler: upstream's `EdgeTamVideoPerceiverResampler`.
        hidden: `(B, C, h, w)` memory of B objects.

    Returns:
        `(B, tokens, C)` tokens row by row, and their position encoding.
    """
    count, channels, height, width = hidden.shape
    side = math.isqrt(resampler.num_latents_2d)
    windows = hidden.reshape(count, channels, side, height // side, side, width // side)
    windows = windows.permute(0, 2, 4, 3, 5, 1).reshape(count * side * side, -1, channels)
    tokens = resampler.latents_2d.repeat(count, 1)[:, None]
    for layer in resampler.layers:
        tokens = layer(tokens, windows, positional_encoding=None)
    grid = torch.Size((count, channels, side, side))
    position = resampler.positional_encoding(grid, hidden.device, hidden.dtype).to(hidden.dtype)
    return (
        resampler.layer_norm(tokens.reshape(count, side * side, channels)),
        position.flatten(2).transpose(1, 2).expand(count, -1, -1),
    )
