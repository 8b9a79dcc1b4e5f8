"""`TrackIndex`: the tracks of a run in numbers, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.structures.tracks import Tracks


@dataclass(frozen=True, eq=False)
class TrackIndex:
    """T tracks in numbers, ordered by level, then id.

    Attributes:
        track_id: `(T,)` int64.
        level: `(T,)` int64; −1 = a run without levels.
        class_id: `(T,)` int64 of its first box; −1 = none.
        first, last: `(T,)` int64 positions.
        count: `(T,)` int64 observations.
        score: `(T,)` float64 mean.
        rows: `(T + 1,)` int64: the track's rows of `order` begin and end here.
        order: `(N,)` int64 rows of the observations, by track, then frame.
        starts: `(T + 1,)` int64 into `spans`.
        spans: `(S, 2)` int64 stretches of positions without a gap, end excluded.
    """

    track_id: NDArray[np.int64]
    level: NDArray[np.int64]
    class_id: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    count: NDArray[np.int64]
    score: NDArray[np.float64]
    rows: NDArray[np.int64]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    spans: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.track_id)


def track_table(tracks: Tracks, positions: NDArray[np.int64]) -> TrackIndex:
    """Observations by track.

    Args:
        tracks: N observations.
        positions: `(N,)` the position of each one's frame.

    >>> table = track_table(Tracks.from_columns([0, 1, 3], [7, 7, 7], np.zeros((3, 4))), np.array([0, 1, 3]))
    >>> table.spans.tolist(), table.count.tolist()
    ([[0, 2], [3, 4]], [3])
    """
    level = np.full(len(tracks), -1) if tracks.level is None else tracks.level
    order = np.lexsort((positions, tracks.track_id, level))
    ids, levels, places = tracks.track_id[order], level[order], positions[order]
    is_new = np.ones(len(order), bool)
    is_new[1:] = (ids[1:] != ids[:-1]) | (levels[1:] != levels[:-1])
    rows = np.append(np.flatnonzero(is_new), len(order))
    begins = is_new.copy()
    begins[1:] |= places[1:] != places[:-1] + 1
    at = np.flatnonzero(begins)
    ends = np.append(at[1:], len(order))[: len(at)] - 1
    heads = rows[:-1]
    counts = np.diff(rows)
    sums = np.add.reduceat(tracks.score[order].astype(np.float64), heads) if len(heads) else np.zeros(0)
    return TrackIndex(
        ids[heads],
        levels[heads],
        tracks.class_id[order][heads],
        places[heads],
        places[rows[1:] - 1],
        counts,
        sums / np.maximum(counts, 1),
        rows,
        order,
        np.append(np.searchsorted(at, heads), len(at)),
        np.stack([places[at], places[ends] + 1], axis=1).reshape(-1, 2),
    )
