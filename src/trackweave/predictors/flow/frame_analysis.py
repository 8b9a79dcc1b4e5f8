"""`FrameAnalysis`: everything that is computed per frame or frame pair, once, for all objects and both directions."""

from __future__ import annotations

import threading

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.frames.source import FrameSource
from trackweave.predictors.flow.array_store import Arrays, ArrayStore
from trackweave.predictors.flow.features import Features, colour_planes, features_of
from trackweave.predictors.flow.motion import Motion, camera_homography, dense_flow, motion_between
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.working_size import WorkingSize

_VIEWS = 2
"""Steps whose unpacked form stays at hand: the one in progress and the one prepared meanwhile."""


class FrameAnalysis:
    """Reads frames lazily and keeps, in bounded space, the planes of frames and the flows of neighbouring pairs.

    Flows are kept as half precision, planes as bytes; what objects work with (`Features`, `Motion`) is unpacked from
    them per step. `pairs_computed` counts the flow pairs that were really computed.
    """

    def __init__(self, frames: FrameSource, settings: FlowSettings) -> None:
        self.working = WorkingSize.of(frames.size, settings.working_side)
        self.pairs_computed = 0
        self._frames, self._settings = frames, settings
        self._store = ArrayStore(settings.memory_bytes, settings.disk_bytes)
        self._features: dict[int, Features] = {}
        self._motions: dict[tuple[int, int], Motion] = {}
        self._lock = threading.RLock()

    def close(self) -> None:
        """Releases memory and temporary files."""
        with self._lock:
            self._features.clear()
            self._motions.clear()
            self._store.close()

    def features(self, frame: int) -> Features:
        """Appearance codes and edges of a frame."""
        with self._lock:
            if frame not in self._features:
                _make_room(self._features)
                planes = self._planes(frame)[0]
                self._features[frame] = features_of(planes, self._settings.edge_contrast)
            return self._features[frame]

    def motion(self, here: int, there: int) -> Motion:
        """The step between two neighbouring frames, in either direction."""
        with self._lock:
            if (here, there) not in self._motions:
                _make_room(self._motions)
                first = min(here, there)
                forward, backward, planes = self._pair(first)
                flows = [forward.astype(np.float32), backward.astype(np.float32)]
                if here != first:
                    flows, planes = flows[::-1], planes[::-1]
                self._motions[here, there] = motion_between(flows[0], flows[1], planes[0], planes[1])
            return self._motions[here, there]

    def small_frame(self, frame: int) -> NDArray[np.uint8]:
        """The frame at working size, `(h, w, 3)` uint8 RGB."""
        return self.working.shrink_frame(self._frames[frame])

    def _planes(self, frame: int) -> Arrays:
        kept = self._store.get(("planes", frame))
        if kept is None:
            small = self.small_frame(frame)
            kept = (colour_planes(small), cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
            self._store.put(("planes", frame), kept)
        return kept

    def _pair(self, first: int) -> Arrays:
        kept = self._store.get(("pair", first))
        if kept is None:
            one, two = self._planes(first)[1], self._planes(first + 1)[1]
            forward, backward = dense_flow(one, two), dense_flow(two, one)
            homographies = np.stack([camera_homography(forward), camera_homography(backward)])
            kept = (forward.astype(np.float16), backward.astype(np.float16), homographies)
            self._store.put(("pair", first), kept)
            self.pairs_computed += 1
        return kept


def _make_room(views: dict) -> None:  # type: ignore[type-arg]
    while len(views) >= _VIEWS:
        del views[next(iter(views))]
