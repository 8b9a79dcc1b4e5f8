"""`correct_tracks`: the tracks of a mask run under what a person said about them.

A raw track is taken in *pieces*, stretches of frames that acts cut it into. Each belongs to one object, or is left out;
without acts the pieces are whole tracks, and the objects their identities. Acts are read one after the other, on top of
whatever the identities are.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from trackweave.structures.corrections import (
    MOST_ITEMS,
    Accepted,
    AcceptedTrack,
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
from trackweave.structures.identity import IdentityTable, Tree


@dataclass(frozen=True, eq=False)
class RawTracks:
    """The tracks of a mask run as it left them.

    Attributes:
        levels: level of each track; ids from 1.
        seen: the frames on which a track is seen, `(F,)` int64 ascending.
        run_levels: all levels of the run, ascending.
        frames: absolute indices of the run's frames, ascending.
        cuts: those that begin a new shot.
        reach: frames that a prompt is propagated each way; None = all.
        prompt_frames: the frames on which a person prompted a track before it was tracked.
    """

    levels: Mapping[int, int]
    seen: Callable[[int], NDArray[np.int64]]
    run_levels: Sequence[int]
    frames: Sequence[int]
    cuts: Sequence[int] = ()
    reach: int | None = None
    prompt_frames: Mapping[int, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptTask:
    """A prompt of a person that is propagated by itself: its masks are a further raw track.

    Attributes:
        number: id of that track.
        act: the prompt.
        level: of its object.
        first, last: frames that it is propagated to at most, both included.
    """

    number: int
    act: Prompted
    level: int
    first: int
    last: int

    @property
    def key(self) -> str:
        """What its masks depend on besides the run, as 16 hexadecimal digits."""
        act = self.act
        points = [[float(x), float(y), int(inside)] for x, y, inside in act.points]
        box = None if act.box is None else [float(side) for side in act.box]
        text = json.dumps([act.frame, points, box, act.mask, self.first, self.last])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class PropagatedPrompt:
    """Where the masks of a prompt are.

    Attributes:
        frames: `(F,)` int64 ascending, those with a mask.
        area: mean pixels of its stored masks.
    """

    frames: NDArray[np.int64]
    area: float = 0.0


@dataclass(frozen=True)
class CorrectedObject:
    """One object that acts speak of.

    Attributes:
        number: its id.
        level: its level.
        name: what a person called it, or None.
        origin: the identity that it comes from; 0 = it is all a person's.
        area: of an object without an origin, mean pixels of its stored masks.
        named_at: the observation that has the name, or None.
    """

    number: int
    level: int
    name: str | None
    origin: int
    area: float
    named_at: Observation | None = None


@dataclass(frozen=True, eq=False)
class CorrectedTracks:
    """Which object each raw track is, frame by frame.

    Attributes:
        objects: those that acts speak of and that are left, by id; all others are identities as they were.
        tasks: the prompts in force.
        pending: those of them that are not propagated yet.
        refused: acts that do not hold beside the others.
        accepted: first and last frame of each accepted stretch.
    """

    objects: Mapping[int, CorrectedObject]
    tasks: Sequence[PromptTask]
    pending: Sequence[PromptTask]
    refused: Sequence[Refusal]
    accepted: Sequence[tuple[int, int]]
    _identities: IdentityTable
    _tracks: NDArray[np.int64]
    _firsts: NDArray[np.int64]
    _lasts: NDArray[np.int64]
    _numbers: NDArray[np.int64]

    @property
    def names(self) -> Mapping[int, str]:
        """What a person called the objects, by id."""
        return {number: one.name for number, one in self.objects.items() if one.name is not None}

    def at(self, frame: NDArray[np.int64] | int, track_id: NDArray[np.int64]) -> NDArray[np.int64]:
        """`(N,)` int64, the object of each raw track on a frame; −1 = it is left out.

        Args:
            frame: one for all, or `(N,)`.
            track_id: `(N,)`.
        """
        found = self._identities.of(track_id)
        if not len(self._tracks):
            return found
        frames = np.broadcast_to(np.asarray(frame, np.int64), found.shape)
        tracks, edges = self.touched, np.unique(self._firsts)
        rows = np.flatnonzero(np.isin(track_id, tracks))
        # Pieces lie in order of track and first frame: the last that begins at or before the frame.
        own = np.searchsorted(tracks, self._tracks) * len(edges) + np.searchsorted(edges, self._firsts)
        wanted = np.searchsorted(tracks, track_id[rows]) * len(edges)
        wanted += np.searchsorted(edges, frames[rows], side="right") - 1
        place = np.maximum(np.searchsorted(own, wanted, side="right") - 1, 0)
        inside = (self._tracks[place] == track_id[rows]) & (self._firsts[place] <= frames[rows])
        inside &= frames[rows] <= self._lasts[place]
        result = found.copy()
        result[rows] = np.where(inside, self._numbers[place], -1)
        return result

    def members(self) -> list[tuple[int, int]]:
        """Pairs of raw track and object: on some frame the track is the object."""
        untouched = ~np.isin(self._identities.track_id, self.touched)
        pairs = [(self._identities.track_id[untouched], self._identities.identity[untouched])]
        pairs.append((self._tracks[self._numbers > 0], self._numbers[self._numbers > 0]))
        return sorted({pair for own in pairs for pair in zip(own[0].tolist(), own[1].tolist(), strict=True)})

    @cached_property
    def touched(self) -> NDArray[np.int64]:
        """The raw tracks that acts speak of, ascending."""
        return np.unique(self._tracks)

    def tree(self, tree: Tree) -> Tree:
        """A tree of identities as one of the objects that they have become.

        A part of an object that was cut keeps its parent; what has no whole any more is a root.
        """
        changed = set(self._identities.of(self.touched).tolist()) & set(tree.identity.tolist())
        origins = {number: one.origin for number, one in self.objects.items()}
        ids = [one for one in tree.identity.tolist() if one not in changed] + list(origins)
        after = {one: one for one in ids if one not in origins}
        for number, origin in sorted(origins.items()):
            after.setdefault(origin, number)
        # The wholes of a merged object that is named otherwise now: who has the track has its parts.
        pieces = zip(self._tracks.tolist(), self._numbers.tolist(), strict=True)
        for track, number in pieces:
            if number > 0 and number in origins:
                after.setdefault(track, number)
        parents, levels, shares, areas = {}, {}, {}, {}
        for one in ids:
            origin = origins.get(one, one)
            known = origin in tree
            whole = tree.parent(origin) if known else 0
            while whole and whole not in after:  # left out: its parts go to what it was part of
                whole = tree.parent(whole)
            parents[one] = after.get(whole, 0)
            levels[one] = self.objects[one].level if one in origins else tree.level_of(one)
            row = int(np.searchsorted(tree.identity, origin))
            shares[one] = float(tree.containment[row]) if known else 0.0
            # The smaller thing is on top; of equals what a person prompted is.
            areas[one] = float(tree.area[row]) if known else self.objects[one].area - 0.5
        for one in ids:
            if parents[one] == one or levels.get(parents[one], 0) > levels[one]:
                parents[one] = 0
        _break_circles(parents)
        shares = {one: share if parents[one] else 0.0 for one, share in shares.items()}
        return Tree.from_parents(parents, levels, shares, areas)


def _break_circles(parents: dict[int, int]) -> None:
    """Makes a root of each object that is part of itself."""
    for one in sorted(parents):
        seen, at = {one}, parents[one]
        while at and at not in seen:
            seen.add(at)
            at = parents[at]
        if at == one:
            parents[one] = 0


def correct_tracks(
    acts: Sequence[Act],
    raw: RawTracks,
    identities: IdentityTable,
    propagated: Callable[[PromptTask], PropagatedPrompt | None],
) -> CorrectedTracks:
    """Reads acts one after the other; of two that contradict each other the later one holds, unless the earlier one is
    an accepted stretch.

    Args:
        acts: in force, the oldest first.
        raw: the run's tracks.
        identities: which of them are one thing; the acts hold on top of it.
        propagated: what became of a prompt; None = not propagated yet.
    """
    refused: dict[int, str] = {}
    while True:  # an act that does not hold may have changed something: from the start, without it
        reader = _ActReader(raw, identities, propagated, len(acts))
        for position, act in enumerate(acts):
            if position in refused:
                continue
            try:
                reader.read(position, act)
            except RefusedError as error:
                refused[position] = str(error)
                break
        else:
            return reader.result(tuple(Refusal(*each) for each in sorted(refused.items())))


@dataclass(eq=False)
class _Object:
    """One object while acts are read."""

    number: int
    level: int
    origin: int = 0
    area: float = 0.0
    name: str | None = None
    named_at: Observation | None = None
    is_nobody: bool = False
    ends: list[int] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)


@dataclass(eq=False)
class _Piece:
    """A stretch of a raw track, both ends included; without an owner it is left out.

    `is_replaced` says that a prompt of its object has taken its place.
    """

    track: int
    first: int
    last: int
    owner: _Object | None
    is_replaced: bool = False


class _ActReader:
    """Who each piece belongs to, act by act."""

    def __init__(
        self,
        raw: RawTracks,
        identities: IdentityTable,
        propagated: Callable[[PromptTask], PropagatedPrompt | None],
        count: int,
    ) -> None:
        self._raw, self._identities, self._propagated = raw, identities, propagated
        self._base = max(raw.levels, default=0) + 1
        self._spare = self._base + count
        self._pieces: dict[int, list[_Piece]] = {}
        self._objects: list[_Object] = []
        self._named: dict[str, _Object] = {}
        self._barriers: list[tuple[int, int]] = []
        self._tasks: list[PromptTask] = []
        self._pending: list[PromptTask] = []
        self._prompted: dict[int, NDArray[np.int64]] = {}

    def read(self, position: int, act: Act) -> None:
        """Takes the next act.

        Raises:
            RefusedError: it does not hold.
        """
        number = self._base + position
        if isinstance(act, Named):
            self._name(act, number)
        elif isinstance(act, Nobody):
            self._leave_out(act)
        elif isinstance(act, Merged):
            self._unite(self._at(act.one), self._at(act.other))
        elif isinstance(act, Split):
            self._split(act, number)
        elif isinstance(act, Ended):
            self._end(act, number)
        elif isinstance(act, Accepted):
            self._accept(act)
        else:
            self._prompt(act, number)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _seen(self, track: int) -> NDArray[np.int64]:
        return self._prompted[track] if track in self._prompted else self._raw.seen(track)

    def _is_seen(self, piece: _Piece, first: int = 0, last: int = MOST_ITEMS) -> bool:
        """Is there a mask of the piece from frame `first` to `last`?"""
        if piece.is_replaced:
            return False
        frames = self._seen(piece.track)
        first, last = max(first, piece.first), min(last, piece.last)
        return first <= last and bool(np.searchsorted(frames, first) < np.searchsorted(frames, last, side="right"))

    def _touch(self, track: int) -> list[_Piece]:
        """The pieces of a raw track; those of the tracks that are one thing with it are there then, too."""
        if track not in self._pieces:
            identity = int(self._identities.of([track])[0])
            one = _Object(identity, self._raw.levels[track], identity)
            members = [member for member in self._identities.members(identity).tolist() if member in self._raw.levels]
            for member in members or [track]:
                self._pieces[member] = [_Piece(member, 0, MOST_ITEMS, one)]
            self._objects.append(one)
        return self._pieces[track]

    def _is_known(self, at: Observation) -> bool:
        """Has a track a mask there?"""
        if at.item not in self._raw.levels and at.item not in self._prompted:
            return False
        frames = self._seen(at.item)
        place = int(np.searchsorted(frames, at.frame))
        return place < len(frames) and bool(frames[place] == at.frame)

    def _piece(self, at: Observation) -> _Piece:
        if not self._is_known(at):
            raise RefusedError(f"frame {at.frame} has no mask of track {at.item}")
        return next(piece for piece in self._touch(at.item) if piece.first <= at.frame <= piece.last)

    def _at(self, at: Observation) -> _Object:
        owner = self._piece(at).owner
        if owner is None:
            raise RefusedError(f"frame {at.frame}: track {at.item} is left out there: the frame is accepted without it")
        return owner

    def _owned(self, one: _Object) -> list[_Piece]:
        return [piece for pieces in self._pieces.values() for piece in pieces if piece.owner is one]

    def _cut_piece(self, piece: _Piece, frame: int) -> _Piece:
        """Cuts a piece before a frame inside of it; the later part."""
        rest = _Piece(piece.track, frame, piece.last, piece.owner, piece.is_replaced)
        piece.last = frame - 1
        pieces = self._pieces[piece.track]
        pieces.insert(pieces.index(piece) + 1, rest)
        return rest

    def _part(self, piece: _Piece, first: int, last: int) -> _Piece | None:
        """Cuts a stretch out of a piece; None where it has none of it."""
        if piece.first > last or piece.last < first:
            return None
        if piece.first < first:
            piece = self._cut_piece(piece, first)
        if piece.last > last:
            self._cut_piece(piece, last + 1)
        return piece

    # --- what is accepted --------------------------------------------------------------------------------------------

    def _locks(self, one: _Object, first: int = 0, last: int = MOST_ITEMS) -> list[tuple[int, int]]:
        """The accepted stretches in which an object is seen, from frame `first` to `last`."""
        pieces = self._owned(one)
        return [
            (low, high)
            for low, high in self._barriers
            if any(self._is_seen(piece, max(low, first), min(high, last)) for piece in pieces)
        ]

    def _refuse_locked(self, one: _Object, first: int = 0) -> None:
        """Refuses to change an object that an accepted stretch holds, from frame `first` on."""
        for low, high in self._locks(one, first, MOST_ITEMS):
            raise RefusedError(f"frames {low} to {high} are accepted: undo that first")

    # --- acts --------------------------------------------------------------------------------------------------------

    def _name(self, act: Named, number: int) -> None:
        one = self._at(act.at)
        if one.is_nobody:
            self._refuse_locked(one)
            one.is_nobody = False
        before = one.named_at
        if one.name not in (None, act.name) and before is not None and before != act.at and self._is_known(before):
            one = self._separate(one, before, act.at, number)  # two names are two objects
        self._call(one, act.name, act.at)

    def _call(self, one: _Object, name: str, at: Observation | None) -> None:
        """Gives an object a name; who has it already is the same object."""
        other = self._named.get(name)
        if other is not None and other is not one:
            one = self._unite(other, one)
        elif one.name != name:
            if one.name is not None:
                if self._locks(one):
                    raise RefusedError(f"it is accepted as {one.name}: undo that first")
                del self._named[one.name]
            one.name, one.named_at = name, at
        self._named[name] = one

    def _leave_out(self, act: Nobody) -> None:
        one = self._at(act.at)
        self._refuse_locked(one)
        one.is_nobody = True
        self._forget_name(one)

    def _forget_name(self, one: _Object) -> None:
        self._named = {name: other for name, other in self._named.items() if other is not one}
        one.name = None

    def _unite(self, one: _Object, other: _Object) -> _Object:
        """Makes one object of two, which may be seen together: their masks are then one."""
        if one is other:
            return one
        if one.level != other.level:
            raise RefusedError(f"one is of level {one.level}, the other of level {other.level}")
        if one.is_nobody != other.is_nobody:
            raise RefusedError("one of the two is no object: undo that first")
        locks = self._locks(other)
        for low, high in set(self._locks(one)) & set(locks):
            raise RefusedError(f"both are on frames {low} to {high}, which are accepted: undo that first")
        if self._locks(one) or locks:
            if not self._locks(one):
                one.number = other.number
        elif other.number < one.number:
            one.number, one.origin, one.area = other.number, other.origin, other.area
        if one.name is None:
            one.name, one.named_at = other.name, other.named_at
        one.ends += other.ends
        one.prompts += other.prompts
        for piece in self._owned(other):
            piece.owner = one
        self._named = {name: one if known is other else known for name, known in self._named.items()}
        self._objects.remove(other)
        return one

    def _split(self, act: Split, number: int) -> None:
        one = self._at(act.at)
        if one is self._at(act.before):
            self._separate(one, act.before, act.at, number)

    def _separate(self, one: _Object, before: Observation, at: Observation, number: int) -> _Object:
        """Makes two objects of one: that of `before`, which stays what it was, and that of `at`, which is returned.

        It is cut in time; but where both are tracks that were seen together, the second of them leaves.
        """
        first, second = self._piece(before), self._piece(at)
        new = _Object(number, one.level, one.origin, one.area)
        shared = np.intersect1d(self._seen(first.track), self._seen(second.track), assume_unique=True)
        if before.item != at.item and any(self._is_seen(first, k, k) and self._is_seen(second, k, k) for k in shared):
            if any(self._is_seen(second, *barrier) for barrier in self._barriers):
                self._refuse_locked(one)
            second.owner = new
            self._follow_name(one, new)
        elif before.frame == at.frame:
            raise RefusedError(f"both are on frame {at.frame}, and the same there")
        else:
            self._divide(one, new, before.frame, at.frame)
        self._objects.append(new)
        return new

    def _divide(self, one: _Object, new: _Object, before: int, at: int) -> None:
        """Gives what lies on the far side of the cut between two frames to `new`: from `at` on, or up to it."""
        frame = at if before < at else at + 1
        for low, high in self._barriers:
            if low < frame <= high and self._locks(one, low, frame - 1) and self._locks(one, frame, high):
                raise RefusedError(f"frames {low} to {high} are accepted: undo that first")
        earlier, later = self._locks(one, 0, frame - 1), self._locks(one, frame)
        if earlier and later:
            raise RefusedError(f"it is accepted before frame {frame} and behind it: undo that first")
        for piece in self._owned(one):
            if piece.first < frame <= piece.last:
                self._cut_piece(piece, frame)
        for piece in self._owned(one):
            if (piece.first >= frame) == (before < at):
                piece.owner = new
        for marks, moved in ((one.ends, new.ends), (one.prompts, new.prompts)):
            moved += [mark for mark in marks if (mark >= frame) == (before < at)]
            marks[:] = [mark for mark in marks if mark not in moved]
        is_accepted = bool(later if before < at else earlier)
        has_name = self._follow_name(one, new)
        if is_accepted or (has_name and not earlier and not later):  # what is accepted or named keeps its id
            one.number, new.number = new.number, one.number

    def _follow_name(self, one: _Object, new: _Object) -> bool:
        """Gives the name of an object to the part of it that has the observation which was named."""
        at = one.named_at
        if one.name is None or at is None or not self._is_known(at) or self._piece(at).owner is not new:
            return False
        new.name, new.named_at, one.name, one.named_at = one.name, at, None, None
        self._named = {name: new if known is one else known for name, known in self._named.items()}
        return True

    def _end(self, act: Ended, number: int) -> None:
        one, frame = self._at(act.at), act.at.frame
        self._refuse_locked(one, frame + 1)
        one.ends.append(frame)
        rest = _Object(number, one.level, one.origin, one.area, is_nobody=True)
        for piece in self._owned(one):
            if piece.first <= frame < piece.last:
                self._cut_piece(piece, frame + 1)
        for piece in self._owned(one):
            if piece.first > frame:
                piece.owner = rest
        self._objects.append(rest)

    def _accept(self, act: Accepted) -> None:
        for low, high in self._barriers:
            if act.first <= high and low <= act.last:
                raise RefusedError(f"frames {act.first} to {act.last}: a part of them is accepted already")
        self._cut_at_changes(act)
        groups = [(track, self._accepted_pieces(track)) for track in act.tracks]
        claimed: set[int] = set()
        for track, pieces in groups:
            owner = self._accepted_owner(track, pieces, claimed)
            claimed.add(id(owner))
            self._renumber(owner, track.track_id)
        self._barriers.append((act.first, act.last))
        for track_id in [*self._raw.levels, *self._prompted]:
            for piece in list(self._touched_in(track_id, act.first, act.last)):
                if piece.owner is not None and not piece.owner.is_nobody and id(piece.owner) not in claimed:
                    part = self._part(piece, act.first, act.last)
                    if part is not None:
                        part.owner = None

    def _cut_at_changes(self, act: Accepted) -> None:
        """Where a raw track goes from one accepted track to another, or to none, its pieces end; none is left out."""
        accepted: dict[int, dict[int, int]] = {}
        for track in act.tracks:
            for at in track.observations:
                accepted.setdefault(at.item, {})[at.frame] = track.track_id
        for item, track_of in accepted.items():
            self._piece(Observation(next(iter(track_of)), item))
            frames = self._seen(item)
            inside = frames[(frames >= act.first) & (frames <= act.last)].tolist()
            stretches = [(key, list(group)) for key, group in groupby(inside, track_of.get)]
            if len(stretches) < 2:
                continue
            for _, group in stretches[1:]:
                piece = next(one for one in self._pieces[item] if one.first <= group[0] <= one.last)
                self._part(piece, group[0], MOST_ITEMS)
            for number, group in stretches:
                if number is None:
                    for piece in list(self._pieces[item]):
                        part = self._part(piece, group[0], group[-1])
                        if part is not None:
                            part.owner = None

    def _touched_in(self, track: int, first: int, last: int) -> Iterator[_Piece]:
        """The pieces of a raw track that are seen in a stretch."""
        frames = self._seen(track)
        if np.searchsorted(frames, first) < np.searchsorted(frames, last, side="right"):
            yield from (piece for piece in self._touch(track) if self._is_seen(piece, first, last))

    def _accepted_pieces(self, track: AcceptedTrack) -> list[_Piece]:
        frames: dict[int, list[int]] = {}
        for at in track.observations:
            frames.setdefault(at.item, []).append(at.frame)
        found = []
        for item, where in frames.items():
            self._piece(Observation(where[0], item))
            missing = np.setdiff1d(where, self._seen(item))
            if len(missing):
                raise RefusedError(f"frame {missing[0]} has no mask of track {item}")
            for piece in self._pieces[item]:
                low, high = bisect_left(where, piece.first), bisect_right(where, piece.last)
                if low < high:
                    if piece.owner is None or piece.owner.is_nobody or piece.is_replaced:
                        raise RefusedError(f"track {track.track_id} is not there any more: accept it anew")
                    found.append(piece)
        if not found:
            raise RefusedError(f"track {track.track_id} is nowhere to be seen")
        return found

    def _accepted_owner(self, track: AcceptedTrack, pieces: Sequence[_Piece], claimed: Iterable[int]) -> _Object:
        """The object of an accepted track: the one that it is, else, where identities are others now, one made anew."""
        owners = list(dict.fromkeys(piece.owner for piece in pieces if piece.owner is not None))
        if len(owners) == 1 and id(owners[0]) not in claimed:
            return owners[0]
        one = _Object(self._spare, owners[0].level, owners[0].origin)
        self._spare += 1
        self._objects.append(one)
        for piece in pieces:
            piece.owner = one
        free = [other for other in owners if id(other) not in claimed and other.name is not None]
        if free:
            one.name, one.named_at = free[0].name, free[0].named_at
            self._named = {name: one if known is free[0] else known for name, known in self._named.items()}
            free[0].name = None
        return one

    def _renumber(self, one: _Object, number: int) -> None:
        """Gives an object the id that it had when it was accepted; who has it now gets the other's."""
        if one.number == number:
            return
        if number in self._raw.levels and number not in self._pieces:
            self._touch(number)
        for other in self._objects:
            if other.number == number:
                other.number = one.number
        one.number = number

    def _prompt(self, act: Prompted, number: int) -> None:
        place = bisect_left(self._raw.frames, act.frame)
        if place == len(self._raw.frames) or self._raw.frames[place] != act.frame:
            raise RefusedError(f"frame {act.frame} is none of the run's")
        for low, high in self._barriers:
            if low <= act.frame <= high:
                raise RefusedError(f"frame {act.frame} is accepted: undo that first")
        one = self._at(act.of) if act.of is not None else self._named.get(act.name)
        if one is None:
            level = self._raw.run_levels[0] if act.level is None else act.level
            if level not in self._raw.run_levels:
                raise RefusedError(f"the run has no level {level}")
            one = _Object(number, level)
            self._objects.append(one)
        elif act.level is not None and act.level != one.level:
            raise RefusedError(f"{act.name} is an object of level {one.level}, not of level {act.level}")
        one.is_nobody = False
        self._call(one, act.name, Observation(act.frame, number))
        one = self._named[act.name]
        task = PromptTask(number, act, one.level, *self._limits(one, act.frame))
        self._tasks.append(task)
        one.prompts.append(act.frame)
        found = self._propagated(task)
        if found is None:
            self._pending.append(task)
            return
        for piece in self._owned(one):
            part = self._part(piece, task.first, task.last)
            if part is not None:
                part.is_replaced = True
        self._prompted[number] = found.frames
        self._pieces[number] = [_Piece(number, 0, MOST_ITEMS, one)]
        if not one.origin and not one.area:
            one.area = found.area

    def _limits(self, one: _Object, frame: int) -> tuple[int, int]:
        """First and last frame that a prompt goes to: not into another shot, an accepted stretch or beyond its end,
        nor to another prompt of the same object."""
        frames = self._raw.frames
        at = bisect_left(frames, frame)
        shot = bisect_right(self._raw.cuts, frame)
        first = self._raw.cuts[shot - 1] if shot else frames[0]
        last = self._raw.cuts[shot] - 1 if shot < len(self._raw.cuts) else frames[-1]
        if self._raw.reach is not None:
            first = max(first, frames[max(at - self._raw.reach, 0)])
            last = min(last, frames[min(at + self._raw.reach, len(frames) - 1)])
        tracks = {piece.track for piece in self._owned(one)}
        prompts = [*one.prompts, *(mark for each in tracks for mark in self._raw.prompt_frames.get(each, ()))]
        ends_before = [*prompts, *(high for _, high in self._barriers), *one.ends]
        begins_behind = [*prompts, *(low for low, _ in self._barriers), *(end + 1 for end in one.ends)]
        first = max([first, *(end + 1 for end in ends_before if end < frame)])
        last = min([last, *(begin - 1 for begin in begins_behind if begin > frame)])
        return frames[bisect_left(frames, first)], frames[bisect_right(frames, last) - 1]

    # --- the result --------------------------------------------------------------------------------------------------

    def result(self, refused: tuple[Refusal, ...]) -> CorrectedTracks:
        """What the acts come to."""
        rows = sorted(
            (piece.track, piece.first, piece.last, -1 if piece.owner.is_nobody else piece.owner.number)
            for pieces in self._pieces.values()
            for piece in pieces
            if piece.owner is not None and not piece.is_replaced
        )
        rows += [(track, MOST_ITEMS, MOST_ITEMS, -1) for track in self._pieces if track not in {row[0] for row in rows}]
        columns = np.array(sorted(rows), np.int64).reshape(-1, 4).T
        left = {piece.owner for pieces in self._pieces.values() for piece in pieces if self._is_seen(piece)}
        objects = {
            one.number: CorrectedObject(one.number, one.level, one.name, one.origin, one.area, one.named_at)
            for one in self._objects
            if one in left and not one.is_nobody
        }
        identities = self._identities
        return CorrectedTracks(
            objects, tuple(self._tasks), tuple(self._pending), refused, tuple(self._barriers), identities, *columns
        )
