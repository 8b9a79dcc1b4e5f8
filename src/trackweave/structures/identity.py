"""`IdentityTable` and `Tree`: which raw tracks are one thing, and which thing is part of which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trackweave.structures.columns import Columns

LinkKind = Literal["merge", "stitch"]


@dataclass(frozen=True, order=True)
class IdentityLink:
    """Two raw tracks of one level that are one thing, and why.

    Attributes:
        a: the smaller id.
        b: the larger id.
        kind: `merge`: seen together, with the same masks; `stitch`: one after the other.
        score: how sure, in [0, 1].
        frames: on how many frames both were seen; 0 of a stitch.
        gap: of a stitch, from the last frame of the one to the first of the other; 0 of a merge.
    """

    a: int
    b: int
    kind: LinkKind
    score: float
    frames: int = 0
    gap: int = 0


@dataclass(frozen=True, eq=False)
class IdentityTable(Columns):
    """Raw track → identity, one row per raw track; nothing in an archive changes.

    Attributes:
        track_id: `(N,)` int64, strictly increasing.
        identity: `(N,)` int64: the smallest id of the tracks that are this thing, so it hangs on nothing but them.
        level: `(N,)` int64 granularity level; 0 in runs of boxes and of prompted objects.
        links: what was joined and why, ascending; a forest: each joins two identities that no other link joins.

    Raises:
        ValueError: ids not ascending, or an identity that is not the smallest id of its tracks, or spans levels.
    """

    SHARED: ClassVar[tuple[str, ...]] = ("links",)

    track_id: NDArray[np.int64]
    identity: NDArray[np.int64]
    level: NDArray[np.int64]
    links: Sequence[IdentityLink] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.any(self.track_id[1:] <= self.track_id[:-1]):
            raise ValueError("the ids of a table of identities ascend, each once")
        first, row, rows = np.unique(self.identity, return_index=True, return_inverse=True)
        if not np.array_equal(first, self.track_id[row]):
            raise ValueError("an identity is the smallest id of its tracks")
        if not np.array_equal(self.level, self.level[row][rows]):
            raise ValueError("an identity lies in one level")

    @classmethod
    def empty(cls) -> IdentityTable:
        """No track."""
        none = np.zeros(0, np.int64)
        return cls(none, none, none)

    @classmethod
    def from_links(cls, track_ids: Any, levels: Any, links: Iterable[IdentityLink] = ()) -> IdentityTable:
        """Every track, joined by links; a link between tracks that are joined already is left out.

        Args:
            track_ids: N distinct ids in any order.
            levels: their levels, N or one for all.
            links: in order of certainty where they might close a circle.

        Raises:
            ValueError: an id twice, or a link between levels, or to a track that is not there.

        >>> table = IdentityTable.from_links([3, 1, 2], 2, [IdentityLink(2, 3, "merge", 0.9, 5)])
        >>> table.identity.tolist(), table.of([3, 1]).tolist(), table.members(2).tolist()
        ([1, 2, 2], [2, 1], [2, 3])
        """
        ids = np.asarray(track_ids, np.int64).reshape(-1)
        order = np.argsort(ids, kind="stable")
        level = np.broadcast_to(np.asarray(levels, np.int64), ids.shape)[order]
        ids = ids[order]
        first = {track_id: track_id for track_id in ids.tolist()}

        def root(track_id: int) -> int:
            while first[track_id] != track_id:
                first[track_id] = first[first[track_id]]
                track_id = first[track_id]
            return track_id

        kept = []
        for link in links:
            if link.a not in first or link.b not in first:
                raise ValueError(f"tracks {link.a} and {link.b} are linked, but not both of them are there")
            ends = sorted((root(link.a), root(link.b)))
            if ends[0] != ends[1]:
                first[ends[1]] = ends[0]
                kept.append(link)
        identity = np.array([root(track_id) for track_id in ids.tolist()], np.int64)
        return cls(ids, identity, level, tuple(sorted(kept)))

    def of(self, track_ids: Any) -> NDArray[np.int64]:
        """The identity of each track, `(N,)` int64; a track that the table does not have is its own."""
        ids = np.asarray(track_ids, np.int64).reshape(-1)
        if not len(self):
            return ids
        rows = np.minimum(np.searchsorted(self.track_id, ids), len(self) - 1)
        return np.where(self.track_id[rows] == ids, self.identity[rows], ids)

    def members(self, identity: int) -> NDArray[np.int64]:
        """The raw tracks of an identity, ascending; none where there is no such identity."""
        members: NDArray[np.int64] = self.track_id[self.identity == identity]
        return members

    @property
    def identities(self) -> NDArray[np.int64]:
        """Each identity once, ascending."""
        return np.unique(self.identity)

    def at_level(self, level: int) -> IdentityTable:
        """The rows of one level, with its links."""
        rows = self.level == level
        there = set(self.track_id[rows].tolist())
        links = tuple(link for link in self.links if link.a in there)
        return IdentityTable(self.track_id[rows], self.identity[rows], self.level[rows], links)


@dataclass(frozen=True, order=True)
class Containment:
    """How far one identity lies in another.

    Attributes:
        inner: the one inside.
        outer: the one around it.
        share: mean over the frames on which both are seen of the share of the inner one's pixels, in [0, 1].
        frames: on how many frames both are seen.
    """

    inner: int
    outer: int
    share: float
    frames: int


@dataclass(frozen=True, eq=False)
class Tree:
    """Which identity is part of which: one parent each, or none.

    >>> tree = Tree.from_parents({1: 0, 4: 1, 5: 1, 7: 4}, levels={1: 2, 4: 4, 5: 4, 7: 6})
    >>> tree.parent(7), tree.children(1), tree.descendants(1), tree.path(7), tree.roots
    (4, [4, 5], [4, 7, 5], [1, 4, 7], [1])

    Attributes:
        identity: `(M,)` int64, strictly increasing.
        parents: `(M,)` int64, the parent of each; 0 = none.
        level: `(M,)` int64; never smaller than the parent's.
        containment: `(M,)` float32, how far it lies in its parent, as `Containment.share`; 0 without a parent.
        area: `(M,)` float64, mean pixels of its stored masks.

    Raises:
        ValueError: identities not ascending, a parent that is not there or of a finer level, or a circle.
    """

    identity: NDArray[np.int64]
    parents: NDArray[np.int64]
    level: NDArray[np.int64]
    containment: NDArray[np.float32]
    area: NDArray[np.float64]

    def __post_init__(self) -> None:
        columns = (self.parents, self.level, self.containment, self.area)
        if any(len(column) != len(self.identity) for column in columns):
            raise ValueError("columns of different lengths")
        if np.any(self.identity[1:] <= self.identity[:-1]):
            raise ValueError("the identities of a tree ascend, each once")
        rows = self._rows
        for identity, parent, level in zip(
            self.identity.tolist(), self.parents.tolist(), self.level.tolist(), strict=True
        ):
            if parent and parent not in rows:
                raise ValueError(f"the parent {parent} of {identity} is not in the tree")
            if parent and self.level[rows[parent]] > level:
                raise ValueError(f"{identity} of level {level} has a parent of a finer level: {parent}")
        if len(self._order) < len(self):
            left = sorted(set(rows) - set(self._order))
            raise ValueError(f"{left[0]} is part of itself: its parents run in a circle")

    @classmethod
    def empty(cls) -> Tree:
        """No identity."""
        return cls.from_parents({}, {})

    @classmethod
    def from_parents(
        cls,
        parents: Mapping[int, int],
        levels: Mapping[int, int],
        containment: Mapping[int, float] | None = None,
        areas: Mapping[int, float] | None = None,
    ) -> Tree:
        """A tree of a mapping identity → parent, 0 = none."""
        ids = sorted(parents)
        shares, pixels = containment or {}, areas or {}
        return cls(
            np.array(ids, np.int64),
            np.array([parents[one] for one in ids], np.int64),
            np.array([levels[one] for one in ids], np.int64),
            np.array([shares.get(one, 0.0) for one in ids], np.float32),
            np.array([pixels.get(one, 0.0) for one in ids], np.float64),
        )

    @cached_property
    def _rows(self) -> Mapping[int, int]:
        return {identity: row for row, identity in enumerate(self.identity.tolist())}

    @cached_property
    def _children(self) -> Mapping[int, list[int]]:
        children: dict[int, list[int]] = {}
        for identity, parent in zip(self.identity.tolist(), self.parents.tolist(), strict=True):
            children.setdefault(parent, []).append(identity)
        return children

    @cached_property
    def _order(self) -> list[int]:
        return list(self._below(0))

    def _below(self, identity: int) -> Iterator[int]:
        waiting = list(reversed(self._children.get(identity, ())))
        while waiting:
            one = waiting.pop()
            yield one
            waiting.extend(reversed(self._children.get(one, ())))

    def __len__(self) -> int:
        return len(self.identity)

    def __contains__(self, identity: object) -> bool:
        return identity in self._rows

    def _row(self, identity: int) -> int:
        if identity not in self._rows:
            raise KeyError(f"no identity {identity} in the tree")
        return self._rows[identity]

    def level_of(self, identity: int) -> int:
        """Its granularity level.

        Raises:
            KeyError: no such identity.
        """
        return int(self.level[self._row(identity)])

    def parent(self, identity: int) -> int:
        """The one it is part of; 0 = none.

        Raises:
            KeyError: no such identity.
        """
        return int(self.parents[self._row(identity)])

    def children(self, identity: int) -> list[int]:
        """Its parts, ascending.

        Raises:
            KeyError: no such identity.
        """
        self._row(identity)
        return list(self._children.get(identity, ()))

    def descendants(self, identity: int) -> list[int]:
        """Its parts, theirs, and so on, each after the one that it is part of.

        Raises:
            KeyError: no such identity.
        """
        self._row(identity)
        return list(self._below(identity))

    def path(self, identity: int) -> list[int]:
        """From the root down to the identity itself.

        Raises:
            KeyError: no such identity.
        """
        path = [identity]
        while parent := self.parent(path[-1]):
            path.append(parent)
        return path[::-1]

    @property
    def roots(self) -> list[int]:
        """Those without a parent, ascending."""
        return list(self._children.get(0, ()))

    @property
    def top_down(self) -> list[int]:
        """Every identity, each after its parent."""
        return list(self._order)
