"""Which thing is part of which: a tree over the identities of all levels, from how far they lie in each other.

Each identity has at most one parent: the tightest of those that hold it, over all frames that show both. As in the
trees of masks that SAM's three outputs suggest (Kirillov et al., ICCV 2023), containment alone decides, within a level
and between levels. A parent is of a coarser level, or of the same level and larger, so parents cannot run in a circle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trackweave.identity.overlaps import PairEvidence
from trackweave.identity.settings import IdentitySettings
from trackweave.structures.identity import Containment, IdentityTable, Tree

TIGHT = 1.3
"""Parents whose areas differ by no more are equally tight: the one of the finer level is taken."""
LISTED = 0.05
"""Share from which a containment is worth a line in `relations.json`."""


@dataclass(frozen=True)
class Nesting:
    """What is part of what.

    Attributes:
        tree: one parent each, or none.
        pairs: how far identities lie in each other, from `LISTED` on, also where that makes no part.
        split: identities that two or more others of their level make up: their masks hold several things.
        area: identity → mean pixels of the stored mask.
    """

    tree: Tree
    pairs: Sequence[Containment]
    split: Sequence[int]
    area: Mapping[int, float]


def nest(evidence: PairEvidence, table: IdentityTable, settings: IdentitySettings) -> Nesting:
    """The tree over identities.

    Args:
        evidence: what the frames say about the tracks.
        table: which of them are one thing; with every track of `evidence`.
        settings: from when on a thing is part of another.
    """
    things = _Things(evidence, table)
    pairs = things.containments()
    parents: dict[int, int] = dict.fromkeys(things.level, 0)
    shares: dict[int, float] = {}
    if settings.nest:
        for pair in _tightest(pairs, things, settings):
            parents[pair.inner], shares[pair.inner] = pair.outer, pair.share
    tree = Tree.from_parents(parents, things.level, shares, things.area)
    listed = [pair for pair in pairs if pair.share >= LISTED]
    return Nesting(tree, listed, _split(tree, pairs, things, settings), things.area)


class _Things:
    """The identities, and what the frames say about each pair of them that met."""

    def __init__(self, evidence: PairEvidence, table: IdentityTable) -> None:
        self._evidence = evidence
        self._identity = table.of(evidence.track_id)
        self.rows: dict[int, list[int]] = defaultdict(list)
        for row, identity in enumerate(self._identity.tolist()):
            self.rows[identity].append(row)
        self.level = {one: int(evidence.level[rows[0]]) for one, rows in self.rows.items()}
        self.frames = {one: int(evidence.frames[rows].sum()) for one, rows in self.rows.items()}
        self.area = {
            one: float(np.average(evidence.area[rows], weights=evidence.frames[rows]))
            for one, rows in self.rows.items()
        }

    def containments(self) -> list[Containment]:
        """Both ways for every two identities that met, ascending."""
        evidence, identity = self._evidence, self._identity
        inner = np.concatenate([identity[evidence.a], identity[evidence.b]])
        outer = np.concatenate([identity[evidence.b], identity[evidence.a]])
        inside = np.concatenate([evidence.inside_a, evidence.inside_b])
        keep = inner != outer
        pairs, which = np.unique(np.stack([inner[keep], outer[keep]], axis=1), axis=0, return_inverse=True)
        total = np.bincount(which.reshape(-1), weights=inside[keep], minlength=len(pairs))
        ends = pairs.tolist()
        seen = evidence.seen_together([self.rows[one] for one, _ in ends], [self.rows[other] for _, other in ends])
        return [
            Containment(one, other, min(float(share), 1.0), int(count))
            for (one, other), share, count in zip(ends, total / np.maximum(seen, 1), seen, strict=True)
        ]


def _tightest(pairs: Sequence[Containment], things: _Things, settings: IdentitySettings) -> list[Containment]:
    """For each identity that lies in others the tightest of them."""
    holders: dict[int, list[Containment]] = defaultdict(list)
    for pair in pairs:
        order_inner = (things.level[pair.inner], -things.area[pair.inner])
        order_outer = (things.level[pair.outer], -things.area[pair.outer])
        if (
            order_outer < order_inner
            and pair.share >= settings.nest_containment
            and pair.frames >= settings.nest_seen * things.frames[pair.inner]
        ):
            holders[pair.inner].append(pair)
    chosen = []
    for found in holders.values():
        limit = TIGHT * min(things.area[pair.outer] for pair in found)
        tight = [pair for pair in found if things.area[pair.outer] <= limit]
        chosen.append(
            min(tight, key=lambda pair: (-things.level[pair.outer], things.area[pair.outer], -pair.share, pair.outer))
        )
    return chosen


SPLIT_COVER = 0.8
"""Share of an identity's pixels that parts of its own level must cover for it to be several things."""


def _split(tree: Tree, pairs: Sequence[Containment], things: _Things, settings: IdentitySettings) -> list[int]:
    """Identities that two or more parts of their own level make up, none of them alone."""
    covered = {(pair.inner, pair.outer): pair.share for pair in pairs}
    found = []
    for one in tree.identity.tolist():
        parts = [child for child in tree.children(one) if things.level[child] == things.level[one]]
        shares = [covered.get((one, child), 0.0) for child in parts]
        if len(parts) > 1 and sum(shares) >= SPLIT_COVER and max(shares) < SPLIT_COVER:
            found.append(one)
    return found
