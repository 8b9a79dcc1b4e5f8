"""Acts of a person as constraints on the observations of a run: labels, cuts, what must stay apart, barriers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trackweave.structures.corrections import (
    Accepted,
    Act,
    Ended,
    Merged,
    Named,
    Nobody,
    Observation,
    Prompted,
    Refusal,
    RefusedError,
    Split,
)
from trackweave.structures.tracks import Tracks

MISTAKEN = 0.02
"""How often a person names the wrong object …"""
DISPUTED = 0.5
"""… and where the name was given to two observations of one frame, one after the other."""


@dataclass(frozen=True, eq=False)
class Constraints:
    """What is known of N observations and of L labels; a label is one object, or one thing that is none.

    Attributes:
        label: `(N,)` int64, the label that a person gave to each observation; −1 = none.
        names: of each label; None where it has none.
        ids: the track id that each label had when it was accepted; None where it was not.
        firsts: row that each label was given to first, of those of the run's own tracks.
        nobody: `(L,)` bool, which labels are no objects.
        cuts: rows into which no track continues.
        apart: pairs of rows that are two objects.
        ended: rows after which their object is not seen until a person says so.
        dropped: `(N,)` bool, observations of accepted stretches that no track has.
        mistaken: `(N,)` float64, probability that a name is a mistake, before it is held against others; 0 where it was
            given twice or accepted, and where there is none.
        refused: acts that do not hold.
    """

    label: NDArray[np.int64]
    names: tuple[str | None, ...]
    ids: tuple[int | None, ...]
    firsts: tuple[int, ...]
    nobody: NDArray[np.bool_]
    cuts: tuple[int, ...]
    apart: tuple[tuple[int, int], ...]
    ended: tuple[int, ...]
    dropped: NDArray[np.bool_]
    mistaken: NDArray[np.float64]
    refused: tuple[Refusal, ...]


@dataclass(eq=False)
class _SaidObject:
    """One label while acts are read: its observations by frame, and those of them that are accepted."""

    name: str | None = None
    track_id: int | None = None
    is_nobody: bool = False
    rows: dict[int, int] = field(default_factory=dict)
    locked: set[int] = field(default_factory=set)

    @property
    def is_unnamed(self) -> bool:
        """Whether it is an object, of which nobody said which one."""
        return self.name is None and not self.is_nobody


def constraints(acts: Sequence[Act], tracks: Tracks, item: NDArray[np.int64], prompted: Sequence[int]) -> Constraints:
    """Reads acts one after the other; of two that contradict each other the later one holds, unless the earlier one is
    an accepted stretch.

    Args:
        acts: in force, the oldest first.
        tracks: the N observations, those of prompts included.
        item: `(N,)` what acts call each observation on its frame; −1 = nothing.
        prompted: row of each prompted box, in the order of the acts.
    """
    reader = _ConstraintReader(tracks, item, prompted)
    refused = []
    for position, act in enumerate(acts):
        try:
            reader.read(act)
        except RefusedError as error:
            refused.append(Refusal(position, str(error)))
    return reader.result(tuple(refused))


class _ConstraintReader:
    def __init__(self, tracks: Tracks, item: NDArray[np.int64], prompted: Sequence[int]) -> None:
        self._frame, self._track_id = tracks.frame, tracks.track_id
        known = np.flatnonzero(item >= 0)
        keys = zip(tracks.frame[known].tolist(), item[known].tolist(), strict=True)
        self._row = dict(zip(keys, known.tolist(), strict=True))
        self._item = item
        self._prompted = iter(prompted)
        self._objects: list[_SaidObject] = []
        self._of: dict[int, _SaidObject] = {}
        self._named: dict[str, _SaidObject] = {}
        self._cuts: list[int] = []
        self._apart: list[tuple[int, int]] = []
        self._ended: list[int] = []
        self._dropped = np.zeros(len(tracks), np.bool_)
        self._mistaken = np.zeros(len(tracks))
        self._barriers: list[tuple[int, int]] = []

    def read(self, act: Act) -> None:
        """Takes the next act.

        Raises:
            RefusedError: it does not hold; nothing has changed.
        """
        if isinstance(act, Named):
            self._name(self._at(act.at), self._object_named(act.name))
        elif isinstance(act, Nobody):
            row = self._at(act.at)
            self._refuse_accepted(row)
            self._put(row, self._new(_SaidObject(is_nobody=True)))
        elif isinstance(act, Merged):
            self._join(self._at(act.one), self._at(act.other))
        elif isinstance(act, Split):
            self._split(self._at(act.before), self._at(act.at))
        elif isinstance(act, Ended):
            self._ended.append(self._at(act.at))
        elif isinstance(act, Accepted):
            self._accept(act)
        else:
            self._prompt(act)

    def _at(self, at: Observation) -> int:
        row = self._row.get((at.frame, at.item))
        if row is None:
            raise RefusedError(f"frame {at.frame} has no box {at.item} of a track")
        return row

    def _new(self, one: _SaidObject) -> _SaidObject:
        self._objects.append(one)
        return one

    def _object_named(self, name: str) -> _SaidObject:
        if name not in self._named:
            self._named[name] = self._new(_SaidObject(name=name))
        return self._named[name]

    def _name(self, row: int, one: _SaidObject) -> None:
        is_again = self._of.get(row) is one
        other = one.rows.get(int(self._frame[row]), row)
        merged = self._of.get(row)
        if merged is not None and merged.is_unnamed and row not in merged.locked:
            self._unite_if_one(one, merged)  # what it was merged with has that name, too
        self._put(row, one)
        if row in one.locked or is_again:
            self._mistaken[row] = 0
        else:
            self._mistaken[row] = MISTAKEN if other == row else DISPUTED

    def _is_locked(self, row: int) -> bool:
        one = self._of.get(row)
        return bool(self._dropped[row]) or (one is not None and row in one.locked)

    def _refuse_accepted(self, row: int) -> None:
        if self._is_locked(row):
            raise RefusedError(f"frame {self._frame[row]} is accepted: undo that first")

    def _put(self, row: int, one: _SaidObject) -> None:
        """Gives an observation to an object; what is accepted is given as a whole, or not at all."""
        before, frame = self._of.get(row), int(self._frame[row])
        if before is one:
            return
        if self._dropped[row]:
            self._refuse_accepted(row)
        if before is not None and row in before.locked:
            if before.name is not None and one.name is not None:
                raise RefusedError(f"frame {frame} is accepted as {before.name}: undo that first")
            self._unite(before, one)
            return
        other = one.rows.get(frame)
        if other is not None and other in one.locked:
            raise RefusedError(
                f"frame {frame} is accepted, with {one.name or 'this object'} elsewhere: undo that first"
            )
        if before is not None:
            del before.rows[frame]
        if other is not None:
            del self._of[other]
        one.rows[frame], self._of[row] = row, one

    def _unite(self, one: _SaidObject, other: _SaidObject) -> None:
        """Makes one object of two."""
        if one is other:
            return
        both = sorted(one.rows.keys() & other.rows.keys())
        if both:
            raise RefusedError(f"both are on frame {both[0]}: one object is there once")
        if one.is_nobody != other.is_nobody:
            raise RefusedError("one of the two is no object: undo that first")
        if one.track_id is not None and other.track_id is not None:
            raise RefusedError(f"tracks {one.track_id} and {other.track_id} are accepted as two: undo that first")
        if one.track_id is None:
            one.track_id = other.track_id
        if one.name is None:
            one.name = other.name
        one.rows |= other.rows
        one.locked |= other.locked
        self._of.update(dict.fromkeys(other.rows.values(), one))
        self._named.update({name: one for name, known in self._named.items() if known is other})
        self._objects.remove(other)

    def _unite_if_one(self, one: _SaidObject, other: _SaidObject) -> bool:
        """Makes one object of two, if nothing that was said speaks against it."""
        if one is other or any({self._of.get(row) for row in pair} == {one, other} for pair in self._apart):
            return False
        with suppress(RefusedError):
            self._unite(one, other)
            return True
        return False

    def _follow_tracks(self) -> None:
        """An object without a name is the one that was named on the same track, and not another one that cuts it:
        tracks are merged by any two of their observations. Where a track has several names it stays what it is."""
        is_changed = True
        while is_changed:
            beside: dict[_SaidObject, list[_SaidObject]] = {}
            for one, other in self._neighbours():
                beside.setdefault(one, []).append(other)
                beside.setdefault(other, []).append(one)
            is_changed = False
            for one, others in beside.items():
                unnamed = [other for other in others if other.is_unnamed]
                known = unnamed[:1] or list(dict.fromkeys(others))
                if one.is_unnamed and len(known) == 1 and one in self._objects and known[0] in self._objects:
                    is_changed |= self._unite_if_one(known[0], one)

    def _neighbours(self) -> Iterator[tuple[_SaidObject, _SaidObject]]:
        """Objects that follow each other on a track that nobody cut between them, one of them without a name."""
        if not any(one.is_unnamed for one in self._objects):
            return
        label = np.full(len(self._frame), -1, np.int64)
        for number, one in enumerate(self._objects):
            label[list(one.rows.values())] = number
        said = np.flatnonzero(label >= 0)
        said = said[np.lexsort((self._frame[said], self._track_id[said]))]
        before, after = said[:-1], said[1:]
        meet = (self._track_id[before] == self._track_id[after]) & (label[before] != label[after])
        for first, last in zip(before[meet].tolist(), after[meet].tolist(), strict=True):
            one, other = self._of[first], self._of[last]
            if one.is_nobody or other.is_nobody or not (one.is_unnamed or other.is_unnamed):
                continue
            track, low, high = self._track_id[first], self._frame[first], self._frame[last]
            is_cut = any(self._track_id[row] == track and low < self._frame[row] <= high for row in self._cuts)
            if not is_cut and not any(
                self._track_id[row] == track and low <= self._frame[row] < high for row in self._ended
            ):
                yield one, other

    def _join(self, row: int, other: int) -> None:
        if row != other and self._frame[row] == self._frame[other]:
            raise RefusedError(f"both are on frame {self._frame[row]}: one object is there once")
        for each in (row, other):
            if self._dropped[each]:
                self._refuse_accepted(each)
        one, second = self._of.get(row), self._of.get(other)
        if self._takes_split_back(row, other) and one is None and second is None:
            return  # the tracker's link holds again, and the names on both sides of it
        if one is not None and second is not None:
            self._unite(one, second)
            return
        if one is None and second is None:
            one = self._new(_SaidObject())
            self._put(row, one)
        known = one or second
        assert known is not None
        self._put(other if one is not None else row, known)

    def _takes_split_back(self, row: int, other: int) -> bool:
        """Whether these neighbours in a track had been split; they are not any more."""
        pair = next((pair for pair in self._apart if set(pair) == {row, other}), None)
        if pair is None or self._track_id[row] != self._track_id[other]:
            return False
        self._apart.remove(pair)
        self._cuts.remove(pair[1])
        return True

    def _split(self, before: int, at: int) -> None:
        one = self._of.get(at)
        if one is not None and one is self._of.get(before):
            if at in one.locked and before in one.locked:
                self._refuse_accepted(at)
            loose = before if at in one.locked else at
            del one.rows[int(self._frame[loose])]
            del self._of[loose]
        if self._track_id[before] == self._track_id[at]:
            self._cuts.append(at)
        self._apart.append((before, at))

    def _accept(self, act: Accepted) -> None:
        if any(act.first <= last and first <= act.last for first, last in self._barriers):
            raise RefusedError(f"frames {act.first} to {act.last}: a part of them is accepted already")
        self._follow_tracks()  # as they were seen when they were accepted
        groups = [(track, [self._at(at) for at in track.observations]) for track in act.tracks]
        for track, rows in groups:
            if len({at.frame for at in track.observations}) < len(rows):
                raise RefusedError(f"track {track.track_id}: one object is on a frame once")
            if len({self._of[row] for row in rows if row in self._of}) > 1:  # said otherwise since it was seen
                raise RefusedError(f"track {track.track_id} is not one object any more: accept it anew")
        self._barriers.append((act.first, act.last))
        inside = (self._frame >= act.first) & (self._frame <= act.last) & (self._item >= 0)
        accepted = {row for _, rows in groups for row in rows}
        for row in np.flatnonzero(inside).tolist():
            if row not in accepted:
                self._dropped[row] = True
                one = self._of.pop(row, None)
                if one is not None:
                    del one.rows[int(self._frame[row])]
        taken = {one.track_id for one in self._objects}
        for track, rows in groups:
            one = next((self._of[row] for row in rows if row in self._of), None) or self._new(_SaidObject())
            for row in rows:
                self._put(row, one)
            one.locked |= set(rows)
            self._mistaken[rows] = 0
            if one.track_id is None and track.track_id not in taken:
                one.track_id = track.track_id

    def _prompt(self, act: Prompted) -> None:
        row = next(self._prompted, None) if act.box is not None else None
        if row is None:
            raise RefusedError("a prompt of points or a mask needs a run of masks")
        if act.of is not None or act.level is not None:
            self._dropped[row] = True
            raise RefusedError("a prompt of a track, or of a level, needs a run of masks")
        if any(first <= act.frame <= last for first, last in self._barriers):
            self._dropped[row] = True
            raise RefusedError(f"frame {act.frame} is accepted: undo that first")
        self._put(row, self._object_named(act.name))

    def result(self, refused: tuple[Refusal, ...]) -> Constraints:
        """The constraints of all acts that were read."""
        self._follow_tracks()
        objects = [one for one in self._objects if one.rows]
        label = np.full(len(self._frame), -1, np.int64)
        for number, one in enumerate(objects):
            label[list(one.rows.values())] = number
        same = [label[one] == label[other] >= 0 for one, other in self._apart]
        return Constraints(
            label,
            tuple(one.name for one in objects),
            tuple(one.track_id for one in objects),
            tuple(min(one.rows.values(), key=lambda row: self._item[row] < 0) for one in objects),
            np.array([one.is_nobody for one in objects], np.bool_),
            tuple(sorted(set(self._cuts))),
            tuple(pair for pair, joined in zip(self._apart, same, strict=True) if not joined),
            tuple(self._ended),
            self._dropped,
            np.where(label >= 0, self._mistaken, 0.0),
            refused,
        )
