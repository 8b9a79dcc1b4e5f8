"""`FlowPredictor`: the default way to follow masks, without weights."""

from __future__ import annotations

import os

from trackweave.frames.source import FrameSource
from trackweave.predictors.flow.session import FlowSession
from trackweave.predictors.flow.settings import FlowSettings


class FlowPredictor:
    """Follows masks by optical flow, an appearance model per object and re-detection.

    Args:
        settings: None for the defaults.
        threads: objects that are moved at the same time; None for one per processor. Results do not depend on it.
    """

    name = "flow"

    def __init__(self, settings: FlowSettings | None = None, threads: int | None = None) -> None:
        self.settings = settings or FlowSettings()
        self.threads = max(1, threads if threads is not None else os.cpu_count() or 1)

    def open(self, frames: FrameSource) -> FlowSession:
        """Starts a run over these frames; reads none yet."""
        return FlowSession(frames, self.settings, self.threads)
