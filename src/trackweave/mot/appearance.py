"""`AppearanceMemory`: the appearance of each track, as a few prototypes of its embeddings."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import njit

SAME_APPEARANCE = 0.85
"""Cosine from which an embedding refines its nearest prototype instead of becoming one of its own."""
LEARNING_RATE = 0.1
SCALE_RATE = 0.02


@njit
def _learn(
    vectors: NDArray[np.float32],
    uses: NDArray[np.int64],
    frozen: NDArray[np.int64],
    rows: NDArray[np.int64],
    embeddings: NDArray[np.float32],
) -> None:
    """Takes one unit embedding per row into its nearest prototype, a free slot, or the slot used least."""
    for k in range(len(rows)):
        row, embedding = rows[k], embeddings[k]
        if frozen[row] > 0 or not np.any(embedding):
            continue
        nearest, similarity, rarest = -1, -2.0, 0
        for slot in range(uses.shape[1]):
            if uses[row, slot] < uses[row, rarest]:
                rarest = slot
            if uses[row, slot] > 0:
                cosine = 0.0
                for e in range(len(embedding)):
                    cosine += vectors[row, slot, e] * embedding[e]
                if cosine > similarity:
                    nearest, similarity = slot, cosine
        if similarity < SAME_APPEARANCE:
            vectors[row, rarest] = embedding
            uses[row, rarest] = 1
            continue
        length = 0.0
        for e in range(len(embedding)):
            mixed = (1.0 - LEARNING_RATE) * vectors[row, nearest, e] + LEARNING_RATE * embedding[e]
            vectors[row, nearest, e] = mixed
            length += mixed * mixed
        length = max(math.sqrt(length), 1e-9)
        for e in range(len(embedding)):
            vectors[row, nearest, e] /= length
        uses[row, nearest] += 1


class AppearanceMemory:
    """Prototypes of T tracks in the row order of the tracker's table.

    The cosine of two embeddings of one object, or of two objects, depends on the descriptor. The memory
    therefore measures both on the stream, among matched pairs and among their rivals inside the gates, and gives
    costs in that scale.

    Attributes:
        width: E, set by the first embeddings; None before.
        same: running mean cosine of matched pairs.
        other: running mean cosine of pairs that the gates let through and that were not matched.
    """

    def __init__(self, prototypes: int) -> None:
        self._prototypes = prototypes
        self.width: int | None = None
        self.same, self.other = 0.9, 0.5
        self._vectors = np.zeros((0, prototypes, 0), np.float32)
        self._uses = np.zeros((0, prototypes), np.int64)
        self._frozen = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._vectors)

    def set_width(self, width: int) -> None:
        """Sets the width on first use.

        Raises:
            ValueError: another width than before.
        """
        if self.width is None:
            self.width = width
            self._vectors = np.zeros((len(self._frozen), self._prototypes, width), np.float32)
        elif self.width != width:
            raise ValueError(f"embeddings were {self.width} wide and are now {width}")

    def reorder(self, source: NDArray[np.int64]) -> None:
        """Takes over the table's new order of rows: `source` `(T',)` old rows, −1 for a new track."""
        continued = source >= 0
        vectors = np.zeros((len(source), *self._vectors.shape[1:]), np.float32)
        uses = np.zeros((len(source), self._prototypes), np.int64)
        frozen = np.zeros(len(source), np.int64)
        vectors[continued], uses[continued], frozen[continued] = (
            part[source[continued]] for part in (self._vectors, self._uses, self._frozen)
        )
        self._vectors, self._uses, self._frozen = vectors, uses, np.maximum(frozen - 1, 0)

    def freeze(self, rows: NDArray[np.int64], frames: int) -> None:
        """Stops learning of some tracks for a while: their identity is in doubt."""
        self._frozen[rows] = frames

    def cosine(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(T, D)` best cosine of any prototype with `(D, E)` unit rows; NaN where either side has none."""
        tracks, is_used = len(self._vectors), self._uses > 0
        if not tracks or self.width is None:
            return np.full((tracks, len(embedding)), np.nan, np.float32)
        cosines = self._vectors.reshape(tracks * self._prototypes, -1) @ embedding.T
        cosines = cosines.reshape(tracks, self._prototypes, -1)
        best = np.where(is_used[:, :, None], cosines, -2).max(axis=1)
        best[~is_used.any(axis=1)] = np.nan
        best[:, ~embedding.any(axis=1)] = np.nan
        return np.asarray(best, np.float32)

    def cost(self, cosine: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines as costs on the scale of this stream: 0 = as matched pairs have, 1 = as rivals have; NaN stays."""
        return np.asarray(np.clip((self.same - cosine) / max(self.same - self.other, 0.05), 0, 1), np.float32)

    def learn(self, rows: NDArray[np.int64], embedding: NDArray[np.float32], trusted: NDArray[np.bool_]) -> None:
        """Takes `(M, E)` unit rows into the tracks of `rows` `(M,)` where they are `trusted` and not frozen."""
        if self.width is not None:
            _learn(
                self._vectors,
                self._uses,
                self._frozen,
                np.ascontiguousarray(rows[trusted], np.int64),
                np.ascontiguousarray(embedding[trusted], np.float32),
            )

    def calibrate(self, same: NDArray[np.float32], other: NDArray[np.float32]) -> None:
        """Follows the stream's scale by the cosines of this frame's matched pairs and of their rivals."""
        if len(same):
            self.same += SCALE_RATE * (float(same.mean()) - self.same)
        if len(other):
            self.other += SCALE_RATE * (float(other.mean()) - self.other)

    def best(self) -> NDArray[np.float32]:
        """`(T, E)` the most used prototype of each track; zeros where there is none."""
        best: NDArray[np.float32] = self._vectors[np.arange(len(self._vectors)), self._uses.argmax(axis=1)]
        return best
