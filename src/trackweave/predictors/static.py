"""`static`: copies the prompt to every frame; the floor that every other predictor is compared with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trackweave.frames.source import FrameSource
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import FramePrediction, PromptedSession, walk


class StaticPredictor:
    """An object stays where its nearest earlier prompt (in the direction of travel) put it."""

    name = "static"

    def open(self, frames: FrameSource) -> StaticSession:
        """Starts a run; reads no frame."""
        return StaticSession(len(frames), frames.size)


class StaticSession(PromptedSession):
    """See `PredictorSession`. The mask of a box prompt is the filled box."""

    def propagate(
        self, start: int, *, reverse: bool = False, max_frames: int | None = None
    ) -> Iterator[FramePrediction]:
        """See `PredictorSession.propagate`."""
        cohort = self._book.cohort(start)
        prompts = [self._book.prompts(obj_id) for obj_id in cohort]
        current = [own[start].mask for own in prompts]
        for frame in walk(start, self._length, reverse, max_frames):
            current = [own[frame].mask if frame in own else mask for own, mask in zip(prompts, current, strict=True)]
            yield FramePrediction(
                frame, np.array(cohort, np.int64), PackedMasks.concat(current), np.ones(len(cohort), np.float32)
            )
