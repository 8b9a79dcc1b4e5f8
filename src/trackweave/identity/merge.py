"""Which tracks of one level are one thing: agglomerative clustering of tracks by what all frames say.

Two groups of tracks are one thing when the frames that show both say so on average, and few say the opposite. Votes
are those of `overlaps`, summed over all pairs of tracks between the groups, so a chain of likenesses does not join what
lies apart. An overlap in which one lies inside the other is no likeness: that is for `nest`.

Two that agree on a few frames say nothing of the rest of their lives where one of them comes back elsewhere, as a
tracker does that takes up a look-alike, nor where one of them divides: a cell and its daughters are three.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heapify, heappop, heappush

import numpy as np

from trackweave.identity.overlaps import PairEvidence
from trackweave.identity.settings import IdentitySettings
from trackweave.structures.identity import IdentityLink

DIVIDED = 0.5
"""Ratio of sizes, and share of frames apart, from which two tracks are what a third divided into."""

Pooled = tuple[float, int, int]
"""Votes for one thing, frames that show both, and how many say that they are two, over all pairs of two groups."""


def merge(evidence: PairEvidence, settings: IdentitySettings, fixed_levels: Collection[int] = ()) -> list[IdentityLink]:
    """The links between tracks of one level that are one thing, the surest first.

    Args:
        evidence: what the frames say.
        settings: from when on two tracks are one thing.
        fixed_levels: levels whose tracks stay as they are: a person's objects have the person's ids.
    """
    if not settings.merge:
        return []
    pairs = _Groups(evidence, settings, fixed_levels)
    links = []
    while (best := pairs.pop()) is not None:
        score, one, other = best
        a, b, frames = pairs.closest(one, other)
        links.append(IdentityLink(a, b, "merge", score, frames))
        pairs.join(one, other)
    return links


class _Groups:
    """Groups of tracks, named by their smallest row, and what the frames say about each pair of them."""

    def __init__(self, evidence: PairEvidence, settings: IdentitySettings, fixed_levels: Collection[int]) -> None:
        self._evidence, self._settings = evidence, settings
        self._members: dict[int, list[int]] = {row: [row] for row in range(len(evidence))}
        self._about: dict[int, dict[int, Pooled]] = {row: {} for row in range(len(evidence))}
        self._heap: list[tuple[float, int, int, int, int]] = []
        level = evidence.level
        divided = _divisions(evidence)
        # What never was alike on a frame cannot gain by being asked.
        chosen = (level[evidence.a] == level[evidence.b]) & ~np.isin(level[evidence.a], list(fixed_levels))
        self._pair_row: dict[tuple[int, int], int] = {}
        for row in np.flatnonzero(chosen & (evidence.same > 0)).tolist():
            a, b = int(evidence.a[row]), int(evidence.b[row])
            pooled = (float(evidence.same[row]), int(evidence.seen[row]), int(evidence.apart[row]))
            if evidence.carried[row] < settings.merge_carried or (a, b) in divided:
                # Of the frames only those speak that show two things.
                pooled = (0.0, pooled[2], pooled[2])
            self._pair_row[a, b] = row
            self._about[a][b] = self._about[b][a] = pooled
            if self._is_alike(pooled):
                self._heap.append(self._entry(a, b, pooled))
        self._all_pairs = {
            (int(a), int(b)): (int(seen), int(apart))
            for a, b, seen, apart in zip(
                evidence.a[chosen], evidence.b[chosen], evidence.seen[chosen], evidence.apart[chosen], strict=True
            )
        }
        heapify(self._heap)

    def _score(self, pooled: Pooled) -> float:
        """Mean vote, with one undecided frame more: few frames say less than many."""
        same, seen, _ = pooled
        return (same + 0.5) / (seen + 1)

    def _is_alike(self, pooled: Pooled) -> bool:
        same, seen, apart = pooled
        is_sure = same > 0 and self._score(pooled) >= self._settings.merge_score
        return is_sure and apart <= self._settings.merge_conflict * seen

    def _entry(self, one: int, other: int, pooled: Pooled) -> tuple[float, int, int, int, int]:
        # How large both are tells whether the entry is still true: a group only grows.
        return (-self._score(pooled), one, other, len(self._members[one]), len(self._members[other]))

    def pop(self) -> tuple[float, int, int] | None:
        """The likeliest pair of groups with its score; None when no two are one thing any more."""
        while self._heap:
            negative, one, other, size_one, size_other = heappop(self._heap)
            if len(self._members.get(one, ())) == size_one and len(self._members.get(other, ())) == size_other:
                return -negative, one, other
        return None

    def closest(self, one: int, other: int) -> tuple[int, int, int]:
        """The two tracks of two groups that are most alike, as ids, and on how many frames both were seen."""
        evidence = self._evidence
        rows = [
            row
            for a in self._members[one]
            for b in self._members[other]
            if (row := self._pair_row.get((min(a, b), max(a, b)))) is not None
        ]
        best = max(rows, key=lambda row: ((evidence.same[row] + 0.5) / (evidence.seen[row] + 1), -row))
        ids = evidence.track_id
        return int(ids[evidence.a[best]]), int(ids[evidence.b[best]]), int(evidence.seen[best])

    def join(self, one: int, other: int) -> None:
        """Makes one group of two, under the smaller row."""
        about_one, about_other = self._about.pop(one), self._about.pop(other)
        del about_one[other], about_other[one]
        old = {one: self._members.pop(one), other: self._members.pop(other)}
        joined = min(one, other)
        self._members[joined] = sorted([*old[one], *old[other]])
        about: dict[int, Pooled] = {}
        for third in sorted(about_one.keys() | about_other.keys()):
            parts = [
                known.get(third) or self._without_likeness(old[group], self._members[third])
                for group, known in ((one, about_one), (other, about_other))
            ]
            pooled = (parts[0][0] + parts[1][0], parts[0][1] + parts[1][1], parts[0][2] + parts[1][2])
            neighbours = self._about[third]
            neighbours.pop(one, None)
            neighbours.pop(other, None)
            neighbours[joined] = about[third] = pooled
            if self._is_alike(pooled):
                heappush(self._heap, self._entry(min(joined, third), max(joined, third), pooled))
        self._about[joined] = about

    def _without_likeness(self, rows_a: list[int], rows_b: list[int]) -> Pooled:
        """What the frames say about two groups that have no vote for one thing."""
        seen = int(self._evidence.seen_together([rows_a], [rows_b])[0])
        known = [self._all_pairs.get((min(a, b), max(a, b)), (0, 0)) for a in rows_a for b in rows_b]
        return 0.0, seen, seen - sum(met - apart for met, apart in known)


def _divisions(evidence: PairEvidence) -> set[tuple[int, int]]:
    """Rows `(a, b)`, a < b, of each track that divides and of what it divides into.

    Two tracks are what a third divided into where they lie apart, are of one size and together not much larger than
    it, begin after it and end after it, and lie inside it on the frames on which they do not lie apart from it.
    """
    last = evidence.runs[evidence.first_run[1:] - 1, 1]
    first = evidence.runs[evidence.first_run[:-1], 0]
    area, level = evidence.area, evidence.level
    met = {(int(a), int(b)): row for row, (a, b) in enumerate(zip(evidence.a, evidence.b, strict=True))}
    daughters: dict[int, list[int]] = {}
    for row in range(len(evidence.a)):
        for mother, other, inside in (
            (int(evidence.a[row]), int(evidence.b[row]), evidence.inside_b[row]),
            (int(evidence.b[row]), int(evidence.a[row]), evidence.inside_a[row]),
        ):
            is_later = first[mother] < first[other] < last[mother] < last[other]
            together = evidence.seen[row] - evidence.apart[row]
            if is_later and level[mother] == level[other] and together and inside >= together / 2:
                daughters.setdefault(mother, []).append(other)
    found = set()
    for mother, others in daughters.items():
        for n, one in enumerate(others):
            for two in others[n + 1 :]:
                between = met.get((min(one, two), max(one, two)))
                apart = between is None or evidence.apart[between] >= DIVIDED * evidence.seen[between]
                alike = DIVIDED <= area[one] / area[two] <= 1 / DIVIDED
                if apart and alike and area[one] + area[two] <= area[mother] / DIVIDED:
                    found |= {(min(mother, daughter), max(mother, daughter)) for daughter in (one, two)}
    return found
