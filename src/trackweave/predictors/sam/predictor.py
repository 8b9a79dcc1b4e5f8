"""`SamPredictor`: a loaded model and its settings, as the recipe that opens sessions."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from trackweave.frames.source import FrameSource
from trackweave.predictors.base import PredictorSession
from trackweave.predictors.sam.model import SamModel
from trackweave.predictors.sam.session import SamSession
from trackweave.predictors.sam.settings import SamSettings
from trackweave.predictors.sam.stock import Prompts, StockPass, StockSession


class SamPredictor:
    """See `VideoPredictor`; the backends of the family derive from it and load the model.

    Args:
        model: how the engine calls the model.
        encoder: its image encoder, whose calls the stock session counts.
        open_pass: upstream's own way, for `feature_store=False`.
        settings: how to run it.
    """

    def __init__(
        self,
        model: SamModel,
        encoder: nn.Module,
        open_pass: Callable[[list[Tensor], tuple[int, int], Prompts], StockPass],
        settings: SamSettings,
    ) -> None:
        self.name = model.name
        self.model, self.settings = model, settings
        self._encoder, self._open_pass = encoder, open_pass

    def open(self, frames: FrameSource) -> PredictorSession:
        """Starts a run over these frames; reads none yet."""
        if self.settings.feature_store:
            return SamSession(self.model, frames, self.settings)
        return StockSession(self.model, self._encoder, self._open_pass, frames, self.settings)
