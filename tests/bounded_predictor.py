"""A predictor that copies its prompts, as `static`, but computes "features" per frame and keeps few of them.

It counts what it does and can tell of it: the measure of whether a schedule needs each frame once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

from trackweave.frames.source import FrameSource
from trackweave.predictors.base import FramePrediction
from trackweave.predictors.static import StaticPredictor, StaticSession
from trackweave.structures.run_log import RunWarning


class BoundedPredictor(StaticPredictor):
    """Opens `BoundedSession`s.

    Args:
        capacity: features of so many frames are kept, the least recently used go first; None = of all.
        on_visit: is called before each prediction with the number of predictions so far.
    """

    name = "bounded"

    def __init__(self, capacity: int | None = None, on_visit: Callable[[int], None] | None = None) -> None:
        self.capacity = capacity
        self.on_visit = on_visit
        self.sessions: list[BoundedSession] = []

    @property
    def session(self) -> BoundedSession:
        """The only one that was opened."""
        (session,) = self.sessions
        return session

    def open(self, frames: FrameSource) -> BoundedSession:
        self.sessions.append(BoundedSession(len(frames), frames.size, self))
        return self.sessions[-1]


class BoundedSession(StaticSession):
    """Remembers, in order: in `calls` what it was asked, in `encoded` which frames it computed, in `objects_moved` how
    many objects each prompt batch had that it moved forward."""

    def __init__(self, length: int, size: tuple[int, int], owner: BoundedPredictor) -> None:
        super().__init__(length, size)
        self._owner = owner
        self._kept: OrderedDict[int, None] = OrderedDict()
        self.encoded: list[int] = []
        self.calls: list[tuple[str, int]] = []
        self.most_objects = 0
        self.objects_moved: list[int] = []
        self.said: list[RunWarning] = []
        self.counts = {"encoder_passes": 0, "object_frames": 0}

    def propagate(
        self, start: int, *, reverse: bool = False, max_frames: int | None = None
    ) -> Iterator[FramePrediction]:
        self.calls.append(("backward" if reverse else "forward", start))
        if not reverse:
            self.objects_moved.append(len(self._book.first_prompted_on(start)))
        self.most_objects = max(self.most_objects, len(self._book._start) - len(self._book.first_prompted_on(start)))
        for prediction in super().propagate(start, reverse=reverse, max_frames=max_frames):
            if self._owner.on_visit is not None:
                self._owner.on_visit(self.counts["object_frames"])
            self._visit(prediction.frame)
            self.counts["object_frames"] += len(prediction.object_ids)
            yield prediction

    def _visit(self, frame: int) -> None:
        if frame not in self._kept:
            self.encoded.append(frame)
            self.counts["encoder_passes"] += 1
        self._kept[frame] = None
        self._kept.move_to_end(frame)
        if self._owner.capacity is not None and len(self._kept) > self._owner.capacity:
            self._kept.popitem(last=False)

    def release_frames_before(self, frame: int) -> None:
        self.calls.append(("release_frames_before", frame))
        for kept in [kept for kept in self._kept if kept < frame]:
            del self._kept[kept]

    def forget_objects(self, start: int) -> None:
        self.calls.append(("forget_objects", start))
        super().forget_objects(start)

    def reset(self) -> None:
        self.calls.append(("reset", 0))
        super().reset()

    @property
    def warnings(self) -> Sequence[RunWarning]:
        return self.said

    @property
    def counters(self) -> Mapping[str, float]:
        return self.counts
