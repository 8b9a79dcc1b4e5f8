"""`FlowPredictor`: propagates masks without weights, and `FlowSession`, one run of it over one video."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.frames.source import FrameSource
from trackweave.ids import LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import FramePrediction, ObjectPrompt, PromptedSession, frame_range
from trackweave.predictors.flow.appearance import Appearance
from trackweave.predictors.flow.frame_features import FrameFeatureCache
from trackweave.predictors.flow.grabcut import mask_at_points, mask_in_box
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.tracked_object import TrackedObject
from trackweave.predictors.flow.windows import PixelWindow
from trackweave.structures.run_log import RunWarning

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class _PromptedObject:
    """One object of a prompt batch: its state, its prompts by frame, and the same prompts as masks of working size."""

    tracked: TrackedObject
    prompts: dict[int, ObjectPrompt]
    masks: dict[int, NDArray[np.bool_]]


class FlowSession(PromptedSession):
    """See `PredictorSession`. Owns the cache of frame features, which outlives prompts."""

    def __init__(self, frames: FrameSource, settings: FlowSettings, threads: int) -> None:
        super().__init__(len(frames), frames.size)
        self._settings, self._frames = settings, frames
        self._cache = FrameFeatureCache(frames, settings)
        # One for all batches: online, many of them move at the same time.
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    @property
    def pairs_computed(self) -> int:
        """Flow pairs computed so far: each pair of neighbours counts once, however many batches passed it."""
        return self._cache.pairs_computed

    def propagate(
        self, start: int, *, reverse: bool = False, max_frames: int | None = None
    ) -> Iterator[FramePrediction]:
        """See `PredictorSession.propagate`."""
        self._check_open()
        path = frame_range(start, self._length, reverse, max_frames)
        return self._propagate(self._book.first_prompted_on(start), path)

    @property
    def counters(self) -> Mapping[str, float]:
        """See `PredictorSession.counters`."""
        return {"flow_pairs": self.pairs_computed}

    @property
    def warnings(self) -> Sequence[RunWarning]:
        """See `PredictorSession.warnings`."""
        if self._cache.problem is None:
            return ()
        where = f"{tempfile.gettempdir()}: {self._cache.problem}"
        text = f"{where}: what does not fit is computed again; set TMPDIR to a larger disk to save that time"
        return (RunWarning("predictor", None, "features-not-kept", text),)

    def release_frames_before(self, frame: int) -> None:
        """See `PredictorSession.release_frames_before`."""
        self._cache.release_before(frame)

    def close(self) -> None:
        """See `PredictorSession.close`."""
        super().close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._cache.close()

    def _propagate(self, objects: list[int], path: range) -> Iterator[FramePrediction]:
        ids, pool = np.array(objects, np.int64), self._pool
        batch = _map(self._start_object, objects, pool)
        for frame in path:
            if frame == path[0]:
                for obj in batch:
                    obj.tracked.anchor(obj.masks[frame])
            else:
                self._step(batch, source=frame - path.step, target=frame, pool=pool)
            following = frame + path.step
            if pool is not None and following in path and self._frames.is_there(following):
                pool.submit(self._prepare, frame, following)
            yield self._predict(frame, ids, batch)

    def _prepare(self, source: int, target: int) -> None:
        self._cache.motion(source, target)
        self._cache.features(target)

    def _start_object(self, obj_id: int) -> _PromptedObject:
        """The object's state with the appearance of all of its prompts; `anchor` places it."""
        settings, prompts = self._settings, dict(self._book.prompts(obj_id))
        appearance = Appearance(settings)
        masks = {}
        for frame, prompt in prompts.items():
            masks[frame] = self._working_mask(frame, prompt)
            appearance.learn_prompt(self._cache.features(frame), masks[frame])
        return _PromptedObject(TrackedObject(appearance, settings), prompts, masks)

    def _working_mask(self, frame: int, prompt: ObjectPrompt) -> NDArray[np.bool_]:
        working = self._cache.working
        mask = working.shrink_mask(prompt.mask.to_bool()[0])
        if prompt.is_mask:
            return mask
        window = None if prompt.box is None else PixelWindow.around(mask)
        rgb = self._cache.working_frame(frame)
        if window is not None and not len(prompt.points):
            return mask_in_box(rgb, window)
        shrunk = prompt.points * np.float32(working.size[1] / working.frame[1])
        return mask_at_points(rgb, shrunk, prompt.labels, window)

    def _step(
        self, batch: Sequence[_PromptedObject], *, source: int, target: int, pool: ThreadPoolExecutor | None
    ) -> None:
        self._check_open()
        motion, features = self._cache.motion(source, target), self._cache.features(target)

        def move(obj: _PromptedObject) -> None:
            if target in obj.masks:
                obj.tracked.anchor(obj.masks[target])
            else:
                obj.tracked.step(motion, features)

        _map(move, batch, pool)

    def _predict(self, frame: int, ids: NDArray[np.int64], batch: Sequence[_PromptedObject]) -> FramePrediction:
        working = self._cache.working
        reported = [obj.tracked.reported_logits for obj in batch]
        enlarged = [working.enlarge(logits, window.top, window.left) for logits, window in reported]
        origins = np.array([origin for _, origin in enlarged], np.int64).reshape(-1, 2)
        masks = PackedMasks.from_crops([crop for crop, _ in enlarged], origins, *self._size)
        for n, obj in enumerate(batch):
            prompt = obj.prompts.get(frame)
            if prompt is not None and prompt.is_mask:
                masks.bits[n] = prompt.mask.bits[0]  # exactly the prompt, not its way through the working size
        scores = np.array([obj.tracked.score for obj in batch], np.float32)
        scores[masks.areas == 0] = 0  # a working pixel may be too little for a frame pixel
        return FramePrediction(LocalIndex(frame), ids, masks, scores)


def _map(action: Callable[[In], Out], items: Sequence[In], pool: ThreadPoolExecutor | None) -> list[Out]:
    """Applies an action to every item; items do not touch each other, so the order of work does not matter."""
    if pool is None or len(items) < 2:
        return [action(item) for item in items]
    return list(pool.map(action, items))


class FlowPredictor:
    """Propagates masks by optical flow, an appearance model per object and re-detection.

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
