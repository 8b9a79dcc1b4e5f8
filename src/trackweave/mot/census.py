"""`TrackCensus`: how many tracks there were, how long they lived and when; in bounded memory."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from trackweave.structures.tracks import Tracks

LENGTH_EDGES = (1, 2, 5, 10, 30, 100, 300, 1000)
"""A track of n observations is counted in the last bin whose edge is at most n."""


@dataclass
class _Life:
    """One track so far; spans are runs of frames with both ends, frames closer than a gap joined."""

    track_id: int
    class_id: int = -1
    spans: list[list[int]] = field(default_factory=list)
    observations: int = 0
    score_sum: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.track_id,
            "class_id": self.class_id,
            "frames": self.observations,
            "first": self.spans[0][0],
            "last": self.spans[-1][1],
            "spans": self.spans,
            "mean_score": round(self.score_sum / self.observations, 4),
        }


class TrackCensus:
    """Counts tracks from their observations, which come in parts in the order of frames.

    Args:
        step: distance of neighbouring frames of the run.
        keep: a track that was not seen for so many frames is over.
        longest: how many tracks are described one by one.

    Attributes:
        observations: boxes so far.
    """

    def __init__(self, *, step: int = 1, keep: int = 10_000, longest: int = 200) -> None:
        self._step, self._keep, self._most = step, keep, longest
        self.observations = 0
        self._open: dict[int, _Life] = {}
        self._over = 0
        self._lengths = np.zeros(len(LENGTH_EDGES), np.int64)
        self._longest: list[tuple[int, int, _Life]] = []

    def add(self, tracks: Tracks) -> None:
        """Takes the next part."""
        if not len(tracks):
            return
        self.observations += len(tracks)
        order = np.lexsort((tracks.frame, tracks.track_id))
        ids, frames = tracks.track_id[order], tracks.frame[order]
        is_new = np.r_[True, ids[1:] != ids[:-1]]
        breaks = np.flatnonzero(is_new | np.r_[True, np.diff(frames) > self._step])
        for start, stop in pairwise([*breaks.tolist(), len(ids)]):
            life = self._open.setdefault(int(ids[start]), _Life(int(ids[start])))
            life.observations += stop - start
            life.score_sum += float(tracks.score[order[start:stop]].sum(dtype=np.float64))
            life.class_id = int(tracks.class_id[order[stop - 1]])
            first, last = int(frames[start]), int(frames[stop - 1])
            if life.spans and first - life.spans[-1][1] <= self._step:
                life.spans[-1][1] = last
            else:
                life.spans.append([first, last])
        self._close_before(int(tracks.frame[-1]) - self._keep)

    def _close_before(self, frame: int) -> None:
        for life in [life for life in self._open.values() if life.spans[-1][1] < frame]:
            del self._open[life.track_id]
            self._over += 1
            self._count(life, self._lengths, self._longest)

    def _count(self, life: _Life, lengths: Any, longest: list[tuple[int, int, _Life]]) -> None:
        lengths[np.searchsorted(LENGTH_EDGES, life.observations, side="right") - 1] += 1
        push = heapq.heappush if len(longest) < self._most else heapq.heappushpop
        push(longest, (life.observations, -life.track_id, life))

    def summary(self) -> dict[str, Any]:
        """JSON values: `tracks` and `boxes` as counts, `lengths` by bins, and the `longest_tracks` one by one."""
        lengths, longest = self._lengths.copy(), list(self._longest)
        for life in self._open.values():
            self._count(life, lengths, longest)
        return {
            "tracks": self._over + len(self._open),
            "boxes": self.observations,
            "lengths": {"from": list(LENGTH_EDGES), "tracks": lengths.tolist()},
            "longest_tracks": [life.to_json() for *_, life in sorted(longest, key=lambda item: (-item[0], -item[1]))],
        }
