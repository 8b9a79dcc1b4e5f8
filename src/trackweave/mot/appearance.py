"""`AppearanceMemory`: the appearance of each track, as a few prototypes of its embeddings; `Gallery`: of ended ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import njit

SAME_APPEARANCE = 0.85
"""Cosine from which an embedding refines its nearest prototype instead of becoming one of its own."""
LEARNING_RATE = 0.1
SCALE_RATE = 0.02
RECALL_VIEWS = 5
"""Sure views of a new track after which it is compared with the gallery, once; a track of fewer is not kept there."""
MAX_RECALL_COST, RECALL_MARGIN = 0.5, 0.15
"""Largest cost, on the stream's scale, at which an identity is given back, and by how much it must beat the next."""


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

    def of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """`(M, P, E)` prototypes and `(M, P)` how many embeddings each has taken in; 0 = none."""
        return self._vectors[rows], self._uses[rows]

    def best(self) -> NDArray[np.float32]:
        """`(T, E)` the most used prototype of each track; zeros where there is none."""
        best: NDArray[np.float32] = self._vectors[np.arange(len(self._vectors)), self._uses.argmax(axis=1)]
        return best


class _Kept(NamedTuple):
    """An ended track's appearance.

    Attributes:
        vectors: `(K, E)` prototypes, the most used first.
        uses: `(K,)` embeddings that each has taken in.
        class_id: of the track.
    """

    vectors: NDArray[np.float32]
    uses: NDArray[np.int64]
    class_id: int


class Gallery:
    """Appearances of ended tracks by identity, the latest ones: who comes back after long gets the old identity back.

    The tracker goes on with ids of its own; the gallery knows under which identity each is reported. A new track has
    its own id until it was seen surely five times. Then it gets the identity of the kept track that is most like
    it, if none else is nearly as like, and never one that is in view.

    Args:
        size: identities that are kept.
        prototypes: of each.

    Attributes:
        recalled: how often an identity was given back.
    """

    def __init__(self, size: int, prototypes: int) -> None:
        self._size, self._prototypes = size, prototypes
        self._kept: dict[int, _Kept] = {}
        self._identity: dict[int, int] = {}
        self._decided: set[int] = set()
        self.recalled = 0

    def __len__(self) -> int:
        return len(self._kept)

    def identities(self, track_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Under which identity each track is reported."""
        return np.array([self._identity.get(track, track) for track in track_ids.tolist()], np.int64)

    def keep(
        self,
        memory: AppearanceMemory,
        rows: NDArray[np.int64],
        track_ids: NDArray[np.int64],
        classes: NDArray[np.int64],
    ) -> None:
        """Takes in tracks that end: their rows in the memory, ids and classes, all `(M,)`."""
        if memory.width is None:
            return
        for vectors, uses, track, class_id in zip(*memory.of(rows), track_ids.tolist(), classes.tolist(), strict=True):
            identity = self._identity.pop(track, track)
            self._decided.discard(track)
            old = self._kept.pop(identity, None)
            if old is not None:
                vectors, uses = np.concatenate([vectors, old.vectors]), np.concatenate([uses, old.uses])
            if uses.sum() < RECALL_VIEWS:
                continue
            order = np.argsort(-uses, kind="stable")[: self._prototypes]
            order = order[uses[order] > 0]
            self._kept[identity] = _Kept(vectors[order], uses[order], class_id)
            if len(self._kept) > self._size:
                del self._kept[next(iter(self._kept))]  # the one that ended first

    def recall(self, memory: AppearanceMemory, track_ids: NDArray[np.int64], classes: NDArray[np.int64]) -> None:
        """Gives identities back to live tracks, which are the rows of the memory, that have been seen often enough."""
        if memory.width is None:
            return
        vectors, uses = memory.of(np.arange(len(track_ids)))
        new = [
            row
            for row, track in enumerate(track_ids.tolist())
            if track not in self._decided and uses[row].sum() >= RECALL_VIEWS
        ]
        self._decided.update(track_ids[new].tolist())
        # What an identity in view looks like is kept aside while it is in view: it is not to be had twice.
        names = [name for name in self._kept if name not in set(self._identity.values())]
        if not new or not names:
            return
        costs = np.array(
            [
                [self._cost(memory, vectors[row], uses[row], int(classes[row]), self._kept[name]) for name in names]
                for row in new
            ]
        )
        for k in np.argsort(costs, axis=None, kind="stable").tolist():
            one, best = divmod(k, len(names))
            track = int(track_ids[new[one]])
            rest = np.delete(costs[one], best)
            is_sure = costs[one, best] <= MAX_RECALL_COST
            is_sure &= not len(rest) or float(rest.min()) - costs[one, best] >= RECALL_MARGIN
            if is_sure and track not in self._identity and names[best] not in self._identity.values():
                self._identity[track] = names[best]
                self.recalled += 1

    @staticmethod
    def _cost(
        memory: AppearanceMemory,
        vectors: NDArray[np.float32],
        uses: NDArray[np.int64],
        class_id: int,
        kept: _Kept,
    ) -> float:
        """0 = as like as a track's own views, 1 = as its rivals'; infinite for another class."""
        if class_id != kept.class_id:
            return math.inf
        cosine = np.average((vectors @ kept.vectors.T).max(axis=1), weights=uses)
        return float((memory.same - cosine) / max(memory.same - memory.other, 0.05))
