"""`FlowPredictor`: the default way to follow masks, without weights.

`FlowSession`: prompt batches moved through one video.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.frames.source import FrameSource
from trackweave.ids import LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import FramePrediction, Prompt, PromptedSession, frame_range
from trackweave.predictors.flow.appearance import Appearance
from trackweave.predictors.flow.frame_features import FrameAnalysis
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.tracked_object import Target, mask_in_box
from trackweave.predictors.flow.windows import Window

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class _Member:
    """One object of a prompt batch: its target, its prompts as given, and its prompts as masks of working size."""

    target: Target
    prompts: dict[int, Prompt]
    masks: dict[int, NDArray[np.bool_]]


class FlowSession(PromptedSession):
    """See `PredictorSession`. Owns the frame analysis, which outlives prompts, and nothing else that is large."""

    def __init__(self, frames: FrameSource, settings: FlowSettings, threads: int) -> None:
        super().__init__(len(frames), frames.size)
        self._settings, self._threads = settings, threads
        self._analysis = FrameAnalysis(frames, settings)

    @property
    def pairs_computed(self) -> int:
        """Flow pairs computed so far: each pair of neighbours counts once, however many batches passed it."""
        return self._analysis.pairs_computed

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

    def close(self) -> None:
        """See `PredictorSession.close`."""
        super().close()
        self._analysis.close()

    def _propagate(self, objects: list[int], path: range) -> Iterator[FramePrediction]:
        ids = np.array(objects, np.int64)
        pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        with pool or nullcontext():
            members = _map(self._follow, objects, pool)
            for frame in path:
                if frame == path[0]:
                    for member in members:
                        member.target.anchor(member.masks[frame])
                else:
                    self._step(members, here=frame - path.step, there=frame, pool=pool)
                if pool is not None and frame + path.step in path:
                    pool.submit(self._prepare, frame, frame + path.step)
                yield self._predict(frame, ids, members)

    def _prepare(self, here: int, there: int) -> None:
        self._analysis.motion(here, there)
        self._analysis.features(there)

    def _follow(self, obj_id: int) -> _Member:
        """Makes the target of an object from all of its prompts."""
        settings, prompts = self._settings, dict(self._book.prompts(obj_id))
        appearance = Appearance(
            settings.background_share,
            settings.background_decay,
            settings.appearance_weight,
            settings.appearance_limit,
        )
        masks = {}
        for frame, prompt in prompts.items():
            masks[frame] = self._working_mask(frame, prompt)
            appearance.learn_prompt(self._analysis.features(frame), masks[frame])
        return _Member(Target(appearance, settings), prompts, masks)

    def _working_mask(self, frame: int, prompt: Prompt) -> NDArray[np.bool_]:
        working = self._analysis.working
        mask = working.shrink_mask(prompt.mask.to_bool()[0])
        if prompt.box is None:
            return mask
        return mask_in_box(self._analysis.small_frame(frame), Window.around(mask))

    def _step(self, members: Sequence[_Member], *, here: int, there: int, pool: ThreadPoolExecutor | None) -> None:
        self._check_open()
        motion, features = self._analysis.motion(here, there), self._analysis.features(there)

        def move(member: _Member) -> None:
            if there in member.masks:
                member.target.anchor(member.masks[there])
            else:
                member.target.step(motion, features)

        _map(move, members, pool)

    def _predict(self, frame: int, ids: NDArray[np.int64], members: Sequence[_Member]) -> FramePrediction:
        working = self._analysis.working
        outlines = [member.target.outline for member in members]
        grown = [working.grow(logits, window.top, window.left) for logits, window in outlines]
        origins = np.array([origin for _, origin in grown], np.int64).reshape(-1, 2)
        masks = PackedMasks.from_crops([crop for crop, _ in grown], origins, *self._size)
        for n, member in enumerate(members):
            given = member.prompts.get(frame)
            if given is not None and given.box is None:
                masks.bits[n] = given.mask.bits[0]
        scores = np.array([member.target.score for member in members], np.float32)
        scores[masks.areas == 0] = 0  # a working pixel may be too little for a frame pixel
        return FramePrediction(LocalIndex(frame), ids, masks, scores)


def _map(action: Callable[[In], Out], items: Sequence[In], pool: ThreadPoolExecutor | None) -> list[Out]:
    """Applies an action to every item; items do not touch each other, so the order of work does not matter."""
    if pool is None or len(items) < 2:
        return [action(item) for item in items]
    return list(pool.map(action, items))


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
