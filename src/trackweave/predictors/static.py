"""`static`: copies the prompt to every frame; what every other predictor is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import PredictorError
from trackweave.frames.source import FrameSource
from trackweave.ids import LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import FramePrediction, PromptedSession, frame_range


class StaticPredictor:
    """An object stays where its nearest earlier prompt (in the direction of travel) put it."""

    name = "static"

    def open(self, frames: FrameSource) -> StaticSession:
        """Starts a run; reads no frame."""
        return StaticSession(len(frames), frames.size)


class StaticSession(PromptedSession):
    """See `PredictorSession`. The mask of a box prompt is the filled box; it looks at no pixel, so takes no points."""

    def add_points(
        self,
        frame: int,
        obj_id: int,
        points: NDArray[np.float32],
        labels: NDArray[np.integer[Any]],
        box: NDArray[np.float32] | None = None,
    ) -> None:
        """See `PredictorSession.add_points`."""
        raise PredictorError(
            f"object {obj_id}: predictor static takes masks and boxes, no points: give one, or another predictor"
        )

    def propagate(
        self, start: int, *, reverse: bool = False, max_frames: int | None = None
    ) -> Iterator[FramePrediction]:
        """See `PredictorSession.propagate`."""
        objects = self._book.first_prompted_on(start)
        ids, score = np.array(objects, np.int64), np.ones(len(objects), np.float32)
        prompts = [self._book.prompts(obj_id) for obj_id in objects]
        current = [own[start].mask for own in prompts]
        for frame in frame_range(start, self._length, reverse, max_frames):
            current = [own[frame].mask if frame in own else mask for own, mask in zip(prompts, current, strict=True)]
            yield FramePrediction(LocalIndex(frame), ids, PackedMasks.concat(current), score)
