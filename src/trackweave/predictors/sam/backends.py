"""SAM 2 and 2.1 (`sam2-hf`), SAM 3's tracker (`sam3-tracker`) and EdgeTAM (`edgetam`) through `transformers`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trackweave.predictors.sam.loading import load_transformers
from trackweave.predictors.sam.predictor import SamPredictor
from trackweave.predictors.sam.settings import SamSettings
from trackweave.predictors.sam.transformers_model import TransformersModel, TransformersPass


class TransformersPredictor(SamPredictor):
    """See `VideoPredictor`.

    Args:
        backend: a key of `ARCHITECTURES`.
        settings: of the sessions; weights, device, compilation.
        model: a model of the backend's class that is loaded already; None = loaded as the settings say.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        PredictorUnavailable: no weights, weights of something else, or a device that is not there.
    """

    def __init__(self, backend: str, settings: SamSettings | None = None, *, model: Any = None) -> None:
        settings = settings or SamSettings()
        architecture = ARCHITECTURES[backend]
        loaded = load_transformers(backend, architecture.model_class, settings) if model is None else model
        super().__init__(
            architecture.adapter(loaded, backend, mean=architecture.mean, std=architecture.std),
            loaded.vision_encoder,
            lambda frames, size, prompts: TransformersPass(loaded, frames, size, prompts),
            settings,
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


class Architecture(NamedTuple):
    """What differs between the models: their class, the normalisation of pixels, and the adapter for the engine."""

    model_class: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    adapter: Callable[..., TransformersModel] = TransformersModel


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ARCHITECTURES = {
    "sam2-hf": Architecture("Sam2VideoModel", *_IMAGENET),
    "sam3-tracker": Architecture("Sam3TrackerVideoModel", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "edgetam": Architecture("EdgeTamVideoModel", *_IMAGENET, EdgeTamModel),
}

Sam2HfPredictor = partial(TransformersPredictor, "sam2-hf")
Sam3TrackerPredictor = partial(TransformersPredictor, "sam3-tracker")
EdgeTamPredictor = partial(TransformersPredictor, "edgetam")
