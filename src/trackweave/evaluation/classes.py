"""Classes: which ones are scored, and which number of a result is which of the truth.

Where both sides have names, a class is known by its name, whatever the case of its letters and the blanks around it; a
number may mean one thing here and another there. Where one of the two has numbers alone, numbers are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from trackweave.errors import InputError, SettingError, argument, listed, shortened_line, wording
from trackweave.evaluation.annotations import AnnotationSource, VideoAnnotations
from trackweave.evaluation.discovery import OWN_FORMATS, GroundTruthSet
from trackweave.evaluation.settings import EvaluationSettings, Format, Protocol
from trackweave.formats.kitti import KITTI_CLASSES

KITTI_MOT_CLASSES: Mapping[str, int] = {"pedestrian": 1, "car": 3, "cyclist": 4}
"""Numbers of KITTI's classes in MOT text: those of MOTChallenge."""
KITTI_SCORED = ("car", "pedestrian")
"""The classes of KITTI's benchmark."""
KITTI_NEIGHBOURS = {"car": "van", "pedestrian": "person"}
"""Neighbouring class: one that a tracker may take for the other without being wrong."""
UNKNOWN_CLASS = -3
"""The number that the result gives a class is not known."""
NO_CLASS = -2
"""A number that no object has: the source does not have the class."""
MOST_NAMED = 5
"""Classes that a message names at most."""


@dataclass(frozen=True)
class EvaluatedClass:
    """A class to score.

    Attributes:
        name: what it is called.
        number: its number in the truth; None: every class.
        neighbour: number of its neighbouring class, or None.
        track_number: its number in the results, where that was said; None: as names or numbers tell.
        is_named: the truth has the name; its number may differ from sequence to sequence.
    """

    name: str
    number: int | None
    neighbour: int | None = None
    track_number: int | None = None
    is_named: bool = False


PEDESTRIANS = EvaluatedClass("pedestrian", None)
OBJECTS = EvaluatedClass("object", None)


def evaluated_classes(
    truth: GroundTruthSet, protocol: Protocol, settings: EvaluationSettings
) -> tuple[EvaluatedClass, ...]:
    """The classes to score: as the settings say, else those of the benchmark, else those of the ground truth.

    Raises:
        SettingError: a class that the truth does not have, one that needs a number, or classes where there are none.
        InputError: two classes of the truth have one name.
    """
    if not protocol.has_classes:
        if settings.classes:
            raise SettingError(
                f"{_class()}: {protocol} scores pedestrians alone; {argument('protocol', 'plain')} scores classes"
            )
        return (PEDESTRIANS,)
    if settings.class_agnostic:
        if settings.classes:
            raise SettingError(f"{_class()} and {argument('class_agnostic')} exclude each other")
        return (OBJECTS,)
    if settings.classes:
        names = _TruthNames.of(truth, protocol)
        classes = [names.parsed(text) for text in settings.classes]
        called = [each.name for each in classes]
        if len(set(called)) < len(called):
            raise SettingError(f"{_class()} names a class twice: {', '.join(called)}")
    elif truth.document is not None:
        used = truth.document.used_categories
        numbers = _TruthNames.of(truth, protocol).numbers
        classes = [EvaluatedClass(name, own, is_named=True) for name, own in numbers.items() if own in used]
    else:
        numbers = {} if truth.format not in OWN_FORMATS else _TruthNames.of(truth, protocol).numbers
        classes = [EvaluatedClass(name, numbers[name], is_named=True) for name in KITTI_SCORED if name in numbers]
    classes = classes or [OBJECTS]
    if protocol is Protocol.kitti:
        neighbours = {name: number for number, name in KITTI_CLASSES.items()}
        return tuple(replace(each, neighbour=neighbours.get(KITTI_NEIGHBOURS.get(each.name, ""))) for each in classes)
    return tuple(classes)


@dataclass(frozen=True)
class _TruthNames:
    """What a truth calls its classes.

    Attributes:
        numbers: a number by name; of a truth of several files, that of the first which has it.
        names: the names that its files have for each number.
        is_listed: it lists all its classes; else there may be numbers without a name.
        has_own: the names are the truth's own, not the protocol's for its numbers.
    """

    numbers: Mapping[str, int]
    names: Mapping[int, Sequence[str]]
    is_listed: bool
    has_own: bool

    @classmethod
    def of(cls, truth: GroundTruthSet, protocol: Protocol) -> _TruthNames:
        """Of a truth; one that `convert` reads is opened for it, sequence by sequence.

        Raises:
            InputError: two classes have one name.
        """
        if truth.document is not None:
            used = set(truth.document.used_categories)
            pairs: list[tuple[int, str]] = []
            # Of two categories of one name, one that nothing has is as good as not there.
            for number, name in sorted(truth.document.categories.items(), key=lambda one: one[0] not in used):
                earlier = next((own for own, called in pairs if called == name), None)
                if earlier is not None and number in used:
                    raise InputError(
                        f"{truth.path}: classes {earlier} and {number} are both called {shortened_line(name, 40)}: "
                        f"give them names of their own, or {wording('class_agnostic=True', '--class-agnostic')}"
                    )
                pairs += [] if earlier is not None else [(number, name)]
            order = list(truth.document.categories)
            return cls._from(sorted(pairs, key=lambda one: order.index(one[0])), is_listed=True, has_own=True)
        if truth.format is Format.kitti:
            return cls._from(KITTI_CLASSES.items(), is_listed=True, has_own=True)
        if truth.format in OWN_FORMATS:
            known = KITTI_MOT_CLASSES if protocol is Protocol.kitti_simple else {}
            return cls._from(((number, name) for name, number in known.items()), is_listed=True, has_own=False)
        pairs = []
        for opener in truth.sequences.values():
            with closing(opener()) as source:
                pairs += source.class_names.items()
        return cls._from(pairs, is_listed=False, has_own=True)

    @classmethod
    def _from(cls, pairs: Iterable[tuple[int, str]], *, is_listed: bool, has_own: bool) -> _TruthNames:
        numbers: dict[str, int] = {}
        names: dict[int, list[str]] = {}
        spelled: dict[str, str] = {}
        for number, name in pairs:
            # Files of one truth may spell a name differently; a document lists its classes as they are.
            name = name if is_listed else spelled.setdefault(folded(name), name)
            numbers.setdefault(name, number)
            if name not in names.setdefault(number, []):
                names[number].append(name)
        return cls(numbers, names, is_listed, has_own and bool(numbers))

    def parsed(self, text: str) -> EvaluatedClass:
        """`car`, `3` or `car=3`; where the truth has names, the number is the result's.

        Raises:
            SettingError: it is none of these, or not there.
        """
        given, equals, number = text.partition("=")
        name = self._spelled(given)
        if equals and not (number.isdecimal() and given):
            raise SettingError(f"{_class(text)}: NAME=NUMBER is expected")
        if equals and self.has_own and name in self.numbers:
            return EvaluatedClass(name, self.numbers[name], track_number=int(number), is_named=True)
        if (equals and not self.has_own) or (name.isdecimal() and name not in self.numbers):
            return self._numbered(text, int(number if equals else name), given if equals else None)
        if name not in self.numbers:
            raise SettingError(
                f"{_class(text)}: the ground truth has {self}"
                if self.numbers
                else f"{_class(text)}: the ground truth has numbers alone: give {text}=NUMBER"
            )
        return EvaluatedClass(name, self.numbers[name], is_named=True)

    def _numbered(self, text: str, number: int, given: str | None) -> EvaluatedClass:
        """A class by its number in the truth, called as was given, else as the truth calls it."""
        names = self.names.get(number, [])
        if given is None and not names and self.numbers and self.is_listed:
            raise SettingError(f"{_class(text)}: the ground truth has {self}")
        if given is None and len(names) > 1:
            raise SettingError(
                f"{_class(text)}: is {names[0]} in one sequence of the ground truth and {names[1]} in another: give "
                "the name"
            )
        return EvaluatedClass(given or next(iter(names), f"class {number}"), number, is_named=bool(names) and not given)

    def _spelled(self, name: str) -> str:
        """A name as the truth spells it, if it has it under one spelling."""
        alike = [known for known in self.numbers if folded(known) == folded(name)]
        return alike[0] if len(alike) == 1 and name not in self.numbers else name

    def __str__(self) -> str:
        return ", ".join(f"{name} ({number})" for name, number in self.numbers.items())


@dataclass(frozen=True)
class ClassPairs:
    """Which classes of a sequence's result are those that are scored.

    Attributes:
        classes: those that are scored, each with its number in this sequence of the truth.
        numbers: of each in the result; None: every track is of it.
        notes: what a reader of the scores should know.
        is_disjoint: names were compared, and no class has the name of one of the result's; None: they were not.
        by_number: what numbers were compared as the result has no names; empty where names were.
    """

    classes: Sequence[EvaluatedClass]
    numbers: Sequence[int | None]
    notes: Sequence[str]
    is_disjoint: bool | None
    by_number: Mapping[str, int]

    @classmethod
    def of(
        cls, classes: Sequence[EvaluatedClass], truth: AnnotationSource, tracks: AnnotationSource, protocol: Protocol
    ) -> ClassPairs:
        """Of one sequence: by name where both sources have names, else by number.

        Raises:
            InputError: a name that two classes of a source have.
        """
        if all(each.number is None for each in classes):
            return cls(classes, [None] * len(classes), [], None, {})
        truth_names = truth.class_names if isinstance(truth, VideoAnnotations) else {}
        own = [
            replace(each, number=_number_of(each.name, truth_names, truth)) if each.is_named and truth_names else each
            for each in classes
        ]
        numbers = [_track_number(each, truth, tracks, protocol) for each in own]
        if not tracks.class_names:
            compared = {
                each.name: number
                for each, number in zip(own, numbers, strict=True)
                if truth.class_names and each.track_number is None and number is not None and number >= 0
            }
            return cls(own, numbers, [], None, compared)
        known = [number in tracks.class_names for number in numbers]
        asked = all(each.track_number is not None for each in own)
        return cls(own, numbers, _notes(own, numbers, tracks.class_names), not (any(known) or asked), {})


def disjoint(classes: Sequence[EvaluatedClass], source: str, names: Mapping[int, str]) -> InputError:
    """The error for a result none of whose classes has the name of one that is scored."""
    scored = [each.name for each in classes]
    return InputError(
        f"{source}: its classes ({_some(names.values())}) are none of those that are scored ({_some(scored)}): "
        f"{_class(f'{scored[0]}=NUMBER')} says which of its numbers is meant, "
        f"{wording('class_agnostic=True', '--class-agnostic')} scores all as one"
    )


def folded(name: str) -> str:
    """A name for comparison.

    >>> folded(" Traffic  Light")
    'traffic light'
    """
    return " ".join(name.split()).casefold()


def _track_number(
    evaluated: EvaluatedClass, truth: AnnotationSource, tracks: AnnotationSource, protocol: Protocol
) -> int | None:
    """Number of a class in the result."""
    if evaluated.track_number is not None or evaluated.number is None:
        return evaluated.track_number
    if not tracks.class_names:
        # KITTI has names alone, other formats number theirs as they occur: the result's numbers can mean anything.
        is_unknown = protocol is Protocol.kitti or (evaluated.is_named and isinstance(truth, VideoAnnotations))
        return UNKNOWN_CLASS if is_unknown else evaluated.number
    if tracks.class_names == truth.class_names:
        return evaluated.number
    number = _number_of(evaluated.name, tracks.class_names, tracks)
    return evaluated.number if number == NO_CLASS and not evaluated.is_named else number


def _number_of(name: str, names: Mapping[int, str], source: AnnotationSource) -> int:
    """The number of a name; the exact one counts where several differ in their letters' case alone.

    Raises:
        InputError: several numbers have it.
    """
    alike = [number for number, called in names.items() if folded(called) == folded(name)]
    exact = [number for number in alike if names[number] == name]
    found = exact or alike
    if len(found) > 1:
        both = " and ".join(f"{number} ({shortened_line(names[number], 40)})" for number in found[:2])
        raise InputError(
            f"{source.source}: classes {both} are both called {name}: {_class(f'{name}=NUMBER')} says which is meant"
        )
    return found[0] if found else NO_CLASS


def _notes(classes: Sequence[EvaluatedClass], numbers: Sequence[int | None], names: Mapping[int, str]) -> list[str]:
    """What was matched to what, where it is not the same number and name; and what was not matched."""
    pairs = [
        f"{each.name.strip()} ({each.number}) is {names[number].strip()} ({number})"
        for each, number in zip(classes, numbers, strict=True)
        if number is not None and number in names and (number, names[number]) != (each.number, each.name)
    ]
    missing = [each.name for each, number in zip(classes, numbers, strict=True) if number == NO_CLASS]
    notes = [f"classes belong together by their names: {listed(pairs, MOST_NAMED)}"] if pairs else []
    if missing:
        what = f"no class of the result is called {' or '.join(missing[:MOST_NAMED])} (it has {_some(names.values())})"
        notes.append(f"{what}: all of the truth's are missed")
    return notes


def _some(names: Iterable[str]) -> str:
    return listed([shortened_line(name, 30) for name in names], MOST_NAMED)


def _class(text: str | None = None) -> str:
    """What says which classes are scored, in messages."""
    return argument("classes", text, flag="--class")
