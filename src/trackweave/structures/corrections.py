"""`Corrections`: what a person said about a run, act by act; the journal `corrections.jsonl` holds it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from trackweave.errors import InputError, shortened, shortened_line

LONGEST_NAME = 200
_JOINERS = {0x200C: None, 0x200D: None}
"""Inside words of some scripts and inside emoji."""
"""Characters of an object's name."""
MOST_ITEMS = 1 << 53
"""Numbers of frames, detections and tracks lie below, so that JavaScript reads them as they are."""


class Observation(NamedTuple):
    """One box or mask of a run, as a person points at it. It stays the same however the tracks are decided.

    Attributes:
        frame: absolute index.
        item: in a box run the row of the frame's detections (`tracks.npz`, `detection`); in a mask run the raw track.
    """

    frame: int
    item: int


@dataclass(frozen=True)
class Named:
    """This is NAME. All observations of one name are one object, and those of two names are two."""

    kind: ClassVar[str] = "name"
    at: Observation
    name: str


@dataclass(frozen=True)
class Nobody:
    """This is no object: it and whatever is decided to belong to it are left out."""

    kind: ClassVar[str] = "nobody"
    at: Observation


@dataclass(frozen=True)
class Merged:
    """Both are one object."""

    kind: ClassVar[str] = "merge"
    one: Observation
    other: Observation


@dataclass(frozen=True)
class Split:
    """`before` and `at` are two objects: neighbours in a track, or in a mask run tracks that are seen together."""

    kind: ClassVar[str] = "split"
    before: Observation
    at: Observation


@dataclass(frozen=True)
class Ended:
    """The object is not seen after this observation, unless a later one is named."""

    kind: ClassVar[str] = "end"
    at: Observation


class AcceptedTrack(NamedTuple):
    """One track of an accepted stretch, as it was when it was accepted.

    Attributes:
        track_id: its id.
        observations: in the order of frames; in a box run one a frame, in a mask run each raw track that the object is.
    """

    track_id: int
    observations: tuple[Observation, ...]


@dataclass(frozen=True)
class Accepted:
    """What was seen from frame `first` to frame `last` is right: a barrier, it never changes again.

    Attributes:
        first, last: both ends included.
        tracks: all tracks of the stretch; a detection of it that no track has stays without.
    """

    kind: ClassVar[str] = "accept"
    first: int
    last: int
    tracks: tuple[AcceptedTrack, ...]


@dataclass(frozen=True)
class AcceptedAsIs:
    """Short for `Accepted`, as a person writes it: the tracks of the stretch are those of the moment when it is said.

    Attributes:
        first, last: both ends included.
    """

    first: int
    last: int


@dataclass(frozen=True)
class Prompted:
    """A new prompt for NAME on a frame: one of points, a box or a mask.

    Attributes:
        frame: absolute index.
        name: of the object; one that is known is continued.
        points: x, y in pixels, and 1 inside the object, 0 outside.
        box: x1, y1, x2, y2 in pixels, right and bottom exclusive.
        mask: COCO's compressed run-length code at the frame's size: `size` and `counts`.
        of: in a mask run, an observation of the object that is prompted anew, which is called NAME from then on;
            None: the object of that name, or a new one.
        level: of a new object in a mask run; None: the coarsest.
    """

    kind: ClassVar[str] = "prompt"
    frame: int
    name: str
    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: tuple[tuple[int, int], str] | None = None
    of: Observation | None = None
    level: int | None = None


@dataclass(frozen=True)
class Undone:
    """The last act in force is taken back."""

    kind: ClassVar[str] = "undo"


@dataclass(frozen=True)
class Redone:
    """The act that was taken back last is in force again; not after a new act."""

    kind: ClassVar[str] = "redo"


Act = Named | Nobody | Merged | Split | Ended | Accepted | Prompted
Step = Act | Undone | Redone
Spoken = Step | AcceptedAsIs
"""What a person may say; the journal has steps."""


class Refusal(NamedTuple):
    """An act that cannot hold beside the others.

    Attributes:
        act: its position among the acts.
        reason: why, in a line.
    """

    act: int
    reason: str


class RefusedError(Exception):
    """An act cannot hold beside the others."""


@dataclass(frozen=True)
class Corrections:
    """What a person said about a run, in the order in which it was said.

    Attributes:
        steps: every act, undo and redo; only ever appended to.

    >>> said = Corrections((Named(Observation(3, 0), "Ann"), Undone()))
    >>> said.acts, said.can_redo
    ((), True)
    """

    steps: tuple[Step, ...] = ()

    def _replayed(self) -> tuple[list[Act], list[Act]]:
        done: list[Act] = []
        undone: list[Act] = []
        for step in self.steps:
            if isinstance(step, Undone):
                undone.append(done.pop())
            elif isinstance(step, Redone):
                done.append(undone.pop())
            else:
                done.append(step)
                undone.clear()
        return done, undone

    @property
    def acts(self) -> tuple[Act, ...]:
        """The acts in force, the oldest first."""
        return tuple(self._replayed()[0])

    @property
    def can_undo(self) -> bool:
        """Is any act in force?"""
        return bool(self._replayed()[0])

    @property
    def can_redo(self) -> bool:
        """Was an act taken back, and none added since?"""
        return bool(self._replayed()[1])

    def then(self, step: Step) -> Corrections:
        """With one step more.

        Raises:
            InputError: nothing to undo or to redo.
        """
        if isinstance(step, Undone) and not self.can_undo:
            raise InputError("there is nothing to undo")
        if isinstance(step, Redone) and not self.can_redo:
            raise InputError("there is nothing to redo")
        return Corrections((*self.steps, step))


# --- as JSON values ---------------------------------------------------------------------------------------------------


def step_to_json(step: Step) -> dict[str, object]:
    """A step as JSON values: `act`, and its fields; an observation is `[frame, item]`.

    >>> step_to_json(Named(Observation(3, 0), "Ann"))
    {'act': 'name', 'at': [3, 0], 'name': 'Ann'}
    """
    values: dict[str, Any] = {"act": step.kind}
    if isinstance(step, Accepted):
        tracks = [{"id": track.track_id, "at": [list(at) for at in track.observations]} for track in step.tracks]
        return values | {"first": step.first, "last": step.last, "tracks": tracks}
    if isinstance(step, Prompted):
        values |= {"frame": step.frame, "name": step.name}
        if step.points:
            values["points"] = [list(point) for point in step.points]
        if step.box is not None:
            values["box"] = list(step.box)
        if step.mask is not None:
            values["mask"] = {"size": list(step.mask[0]), "counts": step.mask[1]}
        if step.of is not None:
            values["of"] = list(step.of)
        if step.level is not None:
            values["level"] = step.level
        return values
    for name, value in vars(step).items():
        values[name] = list(value) if isinstance(value, Observation) else value
    return values


def step_from_json(record: Any) -> Step:
    """Inverse of `step_to_json`; further keys are passed over.

    Raises:
        InputError: not such a record; one line that names the key.
    """
    kind = record.get("act") if isinstance(record, Mapping) else None
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise InputError(f"an act is one of {', '.join(_READERS)}, not {shortened(kind, 40)}")
    try:
        return reader(record)
    except KeyError as error:
        raise InputError(f"act {kind} lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"act {kind}: {shortened_line(str(error))}") from None


def spoken_from_json(record: Any) -> Spoken:
    """A step, or `accept` without its tracks.

    Raises:
        InputError: as `step_from_json`; the last frame lies before the first.
    """
    if not isinstance(record, Mapping) or record.get("act") != Accepted.kind or "tracks" in record:
        return step_from_json(record)
    stretch = step_from_json({**record, "tracks": []})
    assert isinstance(stretch, Accepted)
    return AcceptedAsIs(stretch.first, stretch.last)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MOST_ITEMS:
        raise ValueError(f"{shortened(value, 40)} is no number of a frame, a detection or a track")
    return value


def _coordinates(values: Any, count: int) -> list[float]:
    if not isinstance(values, Sequence) or len(values) != count:
        raise ValueError(f"{shortened(values, 40)} is not {count} coordinates")
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{shortened(values, 40)} is not finite")
    return numbers


def _observation(value: Any) -> Observation:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(f"{shortened(value, 40)} is not [frame, item]")
    return Observation(_number(value[0]), _number(value[1]))


def _name(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    seen = text.translate(_JOINERS)
    if not seen or len(text) > LONGEST_NAME or not seen.isprintable():
        raise ValueError(f"{shortened(value, 40)} is no name: 1 to {LONGEST_NAME} printable characters")
    return unicodedata.normalize("NFC", text)  # one name, however the keyboard spells its accents


def _split(record: Mapping[str, Any]) -> Split:
    before, at = _observation(record["before"]), _observation(record["at"])
    if before.frame > at.frame or (before.frame == at.frame and before.item == at.item):
        raise ValueError(f"frame {before.frame} is not before frame {at.frame}")
    return Split(before, at)


def _accepted(record: Mapping[str, Any]) -> Accepted:
    first, last = _number(record["first"]), _number(record["last"])
    tracks = tuple(
        AcceptedTrack(_number(track["id"]), tuple(sorted(_observation(at) for at in track["at"])))
        for track in record["tracks"]
    )
    if first > last or any(not first <= at.frame <= last for track in tracks for at in track.observations):
        raise ValueError(f"its tracks are seen from frame {first} to frame {last}")
    everything = [at for track in tracks for at in track.observations]
    if len(set(everything)) < len(everything) or len({track.track_id for track in tracks}) < len(tracks):
        raise ValueError("an observation or a track occurs twice")
    return Accepted(first, last, tracks)


def _prompted(record: Mapping[str, Any]) -> Prompted:
    box, mask = record.get("box"), record.get("mask")
    points = []
    for point in record.get("points") or ():
        x, y, inside = _coordinates(point, 3)
        if inside not in (0, 1):
            raise ValueError(f"{shortened(point, 40)} is not x, y, and 0 or 1")
        points.append((x, y, int(inside)))
    if bool(points) + (box is not None) + (mask is not None) != 1:
        raise ValueError("a prompt is one of points, box, mask")
    corners = None
    if box is not None:
        x1, y1, x2, y2 = _coordinates(box, 4)
        if x1 >= x2 or y1 >= y2:
            raise ValueError(f"{shortened(box, 40)} is a box without extent")
        corners = (x1, y1, x2, y2)
    code = None
    if mask is not None:
        height, width = (_number(side) for side in mask["size"])
        code = ((height, width), str(mask["counts"]))
    of, level = record.get("of"), record.get("level")
    return Prompted(
        _number(record["frame"]),
        _name(record["name"]),
        tuple(points),
        corners,
        code,
        None if of is None else _observation(of),
        None if level is None else _number(level),
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Step]] = {
    Named.kind: lambda record: Named(_observation(record["at"]), _name(record["name"])),
    Nobody.kind: lambda record: Nobody(_observation(record["at"])),
    Merged.kind: lambda record: Merged(_observation(record["one"]), _observation(record["other"])),
    Split.kind: _split,
    Ended.kind: lambda record: Ended(_observation(record["at"])),
    Accepted.kind: _accepted,
    Prompted.kind: _prompted,
    Undone.kind: lambda record: Undone(),
    Redone.kind: lambda record: Redone(),
}
