"""`AppearanceMemory`: what each track has looked like, as a few prototypes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAME_LOOK = 0.85
"""Cosine from which an embedding refines its nearest prototype instead of becoming one of its own."""
LEARNING_RATE = 0.1
SCALE_RATE = 0.02


class AppearanceMemory:
    """Prototypes of T tracks in the row order of the tracker's table.

    What two looks of one object, or of two objects, have as their cosine depends on the descriptor. The memory
    therefore measures both on the stream, among matched pairs and among their rivals inside the gates, and gives
    costs in that scale.

    Attributes:
        width: E, set by the first embeddings; None before.
        same: running mean cosine of matched pairs.
        other: running mean cosine of pairs that the gates let through and that were not matched.
    """

    def __init__(self, prototypes: int) -> None:
        self._most = prototypes
        self.width: int | None = None
        self.same, self.other = 0.9, 0.5
        self._vectors = np.zeros((0, prototypes, 0), np.float32)
        self._uses = np.zeros((0, prototypes), np.int64)
        self._frozen = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._vectors)

    def accept(self, width: int) -> None:
        """Sets the width on first use.

        Raises:
            ValueError: another width than before.
        """
        if self.width is None:
            self.width = width
            self._vectors = np.zeros((len(self._frozen), self._most, width), np.float32)
        elif self.width != width:
            raise ValueError(f"embeddings were {self.width} wide and are now {width}")

    def follow(self, source: NDArray[np.int64]) -> None:
        """Takes over the table's new row order: `source` `(T',)` old rows, −1 for a new track."""
        old = source >= 0
        vectors = np.zeros((len(source), *self._vectors.shape[1:]), np.float32)
        uses = np.zeros((len(source), self._most), np.int64)
        frozen = np.zeros(len(source), np.int64)
        vectors[old], uses[old], frozen[old] = (part[source[old]] for part in (self._vectors, self._uses, self._frozen))
        self._vectors, self._uses, self._frozen = vectors, uses, np.maximum(frozen - 1, 0)

    def freeze(self, rows: NDArray[np.int64], frames: int) -> None:
        """Stops learning of some tracks for a while: their identity is in doubt."""
        self._frozen[rows] = frames

    def cosine(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(T, D)` best cosine of any prototype with `(D, E)` unit rows; NaN where either side has none."""
        tracks, known = len(self._vectors), self._uses > 0
        if not tracks or self.width is None:
            return np.full((tracks, len(embedding)), np.nan, np.float32)
        each = (self._vectors.reshape(tracks * self._most, -1) @ embedding.T).reshape(tracks, self._most, -1)
        best = np.where(known[:, :, None], each, -2).max(axis=1)
        best[~known.any(axis=1)] = np.nan
        best[:, ~embedding.any(axis=1)] = np.nan
        return np.asarray(best, np.float32)

    def cost(self, cosine: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines in units of this stream: 0 as alike as matched pairs are, 1 as rivals are; NaN stays."""
        return np.asarray(np.clip((self.same - cosine) / max(self.same - self.other, 0.05), 0, 1), np.float32)

    def learn(self, rows: NDArray[np.int64], embedding: NDArray[np.float32], trusted: NDArray[np.bool_]) -> None:
        """Takes `(M, E)` unit rows into the tracks of `rows` `(M,)` where they are `trusted` and not frozen."""
        for row, vector in zip(rows[trusted], embedding[trusted], strict=True):
            if self._frozen[row] or not vector.any():
                continue
            uses = self._uses[row]
            alike = np.where(uses > 0, self._vectors[row] @ vector, -2)
            nearest = int(alike.argmax())
            if alike[nearest] < SAME_LOOK:
                nearest = int(uses.argmin())  # a free place, or the look that was met least
                self._vectors[row, nearest], uses[nearest] = vector, 1
                continue
            mixed = (1 - LEARNING_RATE) * self._vectors[row, nearest] + LEARNING_RATE * vector
            self._vectors[row, nearest] = mixed / max(float(np.linalg.norm(mixed)), 1e-9)
            uses[nearest] += 1

    def calibrate(self, same: NDArray[np.float32], other: NDArray[np.float32]) -> None:
        """Follows the stream's scale by the cosines of this frame's matched pairs and of their rivals."""
        if len(same):
            self.same += SCALE_RATE * (float(same.mean()) - self.same)
        if len(other):
            self.other += SCALE_RATE * (float(other.mean()) - self.other)

    def best(self) -> NDArray[np.float32]:
        """`(T, E)` the most used prototype of each track; zeros where there is none."""
        rows = np.arange(len(self._vectors))
        chosen = self._vectors[rows, self._uses.argmax(axis=1)] if len(rows) else self._vectors[:, 0]
        return np.where(self._uses.any(axis=1)[:, None], chosen, 0).astype(np.float32)
