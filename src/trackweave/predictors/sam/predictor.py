"""`SamPredictor`: a loaded model and its settings, which open sessions.

With `feature_store=False` it opens an `UpstreamSession`: the upstream predictor as it is, reset for every prompt frame,
the reference of tests and benchmarks. Every pass over a prompt batch begins with an empty state, so each frame goes
through the image encoder once per prompt frame and direction, as in pipelines around the upstream predictors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from trackweave.errors import PredictorError, PredictorOutOfMemory
from trackweave.frames.source import FrameSource
from trackweave.ids import LocalIndex
from trackweave.predictors.base import FramePrediction, ObjectPrompt, PredictorSession, PromptedSession, frame_range
from trackweave.predictors.sam.loading import autocast_dtype, inference, is_out_of_memory
from trackweave.predictors.sam.model import SamModel
from trackweave.predictors.sam.session import SamSession, pack_logits
from trackweave.predictors.sam.settings import SamSettings

Out = TypeVar("Out")
Prompts = Mapping[int, Mapping[int, ObjectPrompt]]
"""Object → frame → prompt."""


class UpstreamPass(Protocol):
    """An inference state of the upstream predictor, with the prompts of one prompt batch."""

    def run(self, start: int, reverse: bool, max_frames: int | None) -> Iterator[tuple[int, Tensor]]:
        """Upstream's propagation: `(frame, (M, 1, h, w) logits)`, objects in the order of the prompts."""

    def prompted(self, frame: int) -> Tensor:
        """`(M, 1, h, w)` logits of the prompt batch on the frame of its prompts."""

    def scores(self, frame: int) -> Tensor:
        """`(M,)` logit of "the object is visible" on a frame that was visited."""


class UpstreamSession(PromptedSession):
    """See `PredictorSession`.

    Args:
        model: for preprocessing, device and name.
        encoder: the image encoder, whose calls are counted.
        open_pass: makes an upstream state from preprocessed frames, the video's size `(H, W)` and prompts.
        frames: the video; all of its frames are held in memory, as upstream does.
        settings: of them only `autocast` matters.
    """

    def __init__(
        self,
        model: SamModel,
        encoder: torch.nn.Module,
        open_pass: Callable[[list[Tensor], tuple[int, int], Prompts], UpstreamPass],
        frames: FrameSource,
        settings: SamSettings,
    ) -> None:
        super().__init__(len(frames), frames.size)
        self._model, self._open, self._frames = model, open_pass, frames
        self._autocast_dtype = autocast_dtype(settings, model.device)
        self._pixels: list[Tensor] = []
        self._current: tuple[list[int], UpstreamPass] | None = None
        self._passes = 0
        self._hook = encoder.register_forward_hook(self._count)

    def propagate(
        self, start: int, *, reverse: bool = False, max_frames: int | None = None
    ) -> Iterator[FramePrediction]:
        """See `PredictorSession.propagate`; a backward pass continues with the state of the forward one before it."""
        return self._propagate(self._book.first_prompted_on(start), start, reverse, max_frames)

    def _propagate(
        self, objects: list[int], start: int, reverse: bool, max_frames: int | None
    ) -> Iterator[FramePrediction]:
        ids = np.array(objects, np.int64)
        state = self._state(objects, fresh=not reverse)
        if reverse and start == 0:  # upstream yields nothing here
            yield self._predict(0, ids, state, state.prompted(0))
            return
        steps = state.run(start, reverse, max_frames)
        for frame in frame_range(start, self._length, reverse, max_frames):
            step = self._guarded(lambda: next(steps, None))
            if step is None or step[0] != frame:
                raise PredictorError(f"{self._model.name}: upstream did not come to frame {frame}")
            yield self._predict(frame, ids, state, step[1])

    @property
    def counters(self) -> Mapping[str, float]:
        """`encoder_passes`: calls of the image encoder."""
        return {"encoder_passes": self._passes}

    def reset(self) -> None:
        """See `PredictorSession.reset`."""
        super().reset()
        self._current = None

    def close(self) -> None:
        """See `PredictorSession.close`."""
        self._hook.remove()
        self._pixels, self._current = [], None
        super().close()

    def _state(self, objects: list[int], *, fresh: bool) -> UpstreamPass:
        if fresh or self._current is None or self._current[0] != objects:
            if not self._pixels:
                self._pixels = [self._model.pixels(self._frames[k])[0] for k in range(self._length)]
            prompts = {obj_id: self._book.prompts(obj_id) for obj_id in objects}
            self._current = (objects, self._guarded(lambda: self._open(self._pixels, self._size, prompts)))
        return self._current[1]

    def _guarded(self, action: Callable[[], Out]) -> Out:
        try:
            with inference(self._model.device, self._autocast_dtype):
                return action()
        except RuntimeError as error:
            reason = str(error).strip().split("\n")[0]
            if is_out_of_memory(error):
                text = f"{self._model.name}: the upstream predictor ran out of memory: {reason}"
                raise PredictorOutOfMemory(text) from error
            raise PredictorError(f"{self._model.name} failed: {reason}") from error

    def _predict(
        self, frame: int, ids: np.ndarray[tuple[int], np.dtype[np.int64]], state: UpstreamPass, logits: Tensor
    ) -> FramePrediction:
        scores = torch.sigmoid(state.scores(frame).float()).cpu().numpy()
        return FramePrediction(LocalIndex(frame), ids, pack_logits(logits, *self._size), scores.astype(np.float32))

    def _count(self, *_: object) -> None:
        self._passes += 1


class SamPredictor:
    """See `VideoPredictor`; the backends of the family derive from it and load the model.

    Args:
        model: the model's adapter for the engine.
        encoder: its image encoder, whose calls an `UpstreamSession` counts.
        open_pass: makes an upstream state, for `feature_store=False`.
        settings: of the session.
    """

    def __init__(
        self,
        model: SamModel,
        encoder: nn.Module,
        open_pass: Callable[[list[Tensor], tuple[int, int], Prompts], UpstreamPass],
        settings: SamSettings,
    ) -> None:
        self.name = model.name
        self.model, self.settings = model, settings
        self._encoder, self._open_pass = encoder, open_pass

    @property
    def segments_points(self) -> bool:
        """Whether its sessions are `PointSegmenter`s: the upstream predictor's are not."""
        return self.settings.feature_store

    def open(self, frames: FrameSource) -> PredictorSession:
        """Starts a run over these frames; reads none yet."""
        if self.settings.feature_store:
            return SamSession(self.model, frames, self.settings)
        return UpstreamSession(self.model, self._encoder, self._open_pass, frames, self.settings)
