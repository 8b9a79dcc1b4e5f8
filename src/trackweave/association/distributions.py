"""Distributions of streams that do not fit into memory: thinned to a bounded number of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.storage.samples import DET_COLUMNS, TRACK_COLUMNS, AssociationSample

CAPACITY = 1 << 15
"""Rows that a distribution keeps; enough for a histogram whose bars are right to a few per cent."""


class Thinned:
    """Every k-th row of a stream, k doubled whenever too many are kept: the same rows on every run.

    >>> thinned = Thinned(1, capacity=4)
    >>> thinned.add(np.arange(10.0)[:, None])
    >>> thinned.count, thinned.rows[:, 0].tolist()
    (10, [0.0, 4.0, 8.0])
    """

    def __init__(self, columns: int, capacity: int = CAPACITY) -> None:
        self.count = 0
        self._capacity = capacity
        self._stride = 1
        self._kept = 0
        self._chunks: list[NDArray[np.float32]] = [np.zeros((0, columns), np.float32)]

    def add(self, rows: NDArray[Any]) -> None:
        """Takes the next rows, `(N, columns)`."""
        chunk = rows[-self.count % self._stride :: self._stride].astype(np.float32)
        self.count += len(rows)
        self._chunks.append(chunk)
        self._kept += len(chunk)
        while self._kept > self._capacity:
            self._chunks = [self.rows[::2]]
            self._kept = len(self._chunks[0])
            self._stride *= 2

    @property
    def rows(self) -> NDArray[np.float32]:
        """`(at most capacity, columns)` float32, evenly from the whole stream so far."""
        return np.concatenate(self._chunks)


@dataclass
class Distributions:
    """What `inspect_samples` collects for the picture.

    Attributes:
        tracks: rows of `track_features`.
        detections: rows of `det_features`, with a last column that is 1 for detections that were matched.
        matched_detections: how many of them were matched.
        matched_cost: cost of the pairs that were matched.
        other_cost: cost of the pairs that the gates allowed, but were not matched.
    """

    tracks: Thinned = field(default_factory=lambda: Thinned(len(TRACK_COLUMNS)))
    detections: Thinned = field(default_factory=lambda: Thinned(len(DET_COLUMNS) + 1))
    matched_detections: int = 0
    matched_cost: Thinned = field(default_factory=lambda: Thinned(1))
    other_cost: Thinned = field(default_factory=lambda: Thinned(1))

    def add(self, sample: AssociationSample) -> None:
        """Takes the next sample."""
        pairs = sample.track_ids[:, None] == sample.assigned_track_ids
        self.tracks.add(sample.track_features)
        matched = pairs.any(axis=0)
        self.detections.add(np.column_stack([sample.det_features, matched]))
        self.matched_detections += int(matched.sum())
        self.matched_cost.add(sample.cost_matrix[pairs][:, None])
        self.other_cost.add(sample.cost_matrix[(sample.mask_matrix > 0) & ~pairs][:, None])
