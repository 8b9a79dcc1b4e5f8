"""Protocols: which classes and true objects are scored, and which tracks are dropped as they are not annotated.

The rules are those of TrackEval (Luiten et al., https://github.com/JonathonLuiten/TrackEval), which is the code of the
benchmarks themselves; `kitti-simple` is our own simplification.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.errors import InputError, SettingError, argument
from trackweave.evaluation.annotations import AnnotationSource, FrameAnnotations, TableAnnotations
from trackweave.evaluation.discovery import GroundTruthSet
from trackweave.evaluation.settings import EvaluationSettings, Format, Protocol
from trackweave.formats.kitti import KITTI_CLASSES

EPSILON = float(np.finfo(np.float64).eps)
MATCHED = 0.5
INSIDE = 0.5
PEDESTRIAN = 1
MOT_CLASSES = 13
MOT17_DISTRACTORS = (2, 7, 8, 12)
"""Person on vehicle, static person, distractor, reflection."""
MOT20_DISTRACTORS = (*MOT17_DISTRACTORS, 6)
"""And vehicles."""
KITTI_NAME = re.compile(r"KITTI-\d{4}")
"""Sequences of KITTI's as MOT text; MOT15 has two of its own, `KITTI-13` and `KITTI-17`."""
KITTI_MOT_CLASSES: Mapping[str, int] = {"pedestrian": 1, "car": 3, "cyclist": 4}
"""Numbers of KITTI's classes in MOT text: those of MOTChallenge."""
KITTI_SCORED = ("car", "pedestrian")
"""The classes of KITTI's benchmark."""
KITTI_NEIGHBOURS = {"car": "van", "pedestrian": "person"}
"""Neighbouring class: one that a tracker may take for the other without being wrong."""
KITTI_SMALLEST = 25
"""Up to this height in pixels, an unmatched track is no false positive."""


@dataclass(frozen=True)
class EvaluatedClass:
    """A class to score.

    Attributes:
        name: what it is called.
        number: its number in the truth; None: every class.
        neighbour: number of its neighbouring class, or None.
        track_number: its number in results that do not name their classes; None: the same as in the truth.
    """

    name: str
    number: int | None
    neighbour: int | None = None
    track_number: int | None = None


PEDESTRIANS = EvaluatedClass("pedestrian", None)
OBJECTS = EvaluatedClass("object", None)


class PreprocessingFlags(NamedTuple):
    """How each of N true objects takes part, as `(N,)` bool.

    Attributes:
        scored: it counts.
        matched: tracks are matched to it before anything is dropped.
        distracts: a track matched to it is dropped.
        ignores: an unmatched track that lies in it is dropped.
    """

    scored: NDArray[np.bool_]
    matched: NDArray[np.bool_]
    distracts: NDArray[np.bool_]
    ignores: NDArray[np.bool_]


def preprocessing_flags(protocol: Protocol, truth: FrameAnnotations, target: EvaluatedClass) -> PreprocessingFlags:
    """The flags of a frame's true objects when one class is scored."""
    counts, classes = truth.counts, truth.class_id
    none, every = np.zeros(len(truth), np.bool_), np.ones(len(truth), np.bool_)
    of_class = every if target.number is None else classes == target.number
    if protocol is Protocol.mot15:
        return PreprocessingFlags(counts, none, none, none)
    if protocol in (Protocol.mot17, Protocol.mot20):
        distractors = MOT17_DISTRACTORS if protocol is Protocol.mot17 else MOT20_DISTRACTORS
        return PreprocessingFlags(counts & (classes == PEDESTRIAN), every, np.isin(classes, distractors), none)
    if protocol is Protocol.kitti:
        of_class = of_class & counts
        similar = of_class if target.neighbour is None else of_class | (classes == target.neighbour)
        return PreprocessingFlags(of_class & ~truth.is_hard, similar, similar & (truth.is_hard | ~of_class), ~counts)
    scored = of_class & counts
    return PreprocessingFlags(
        scored, scored, none, ~counts if protocol is Protocol.kitti_simple else ~counts & of_class
    )


def scored_tracks(
    protocol: Protocol,
    flags: PreprocessingFlags,
    similarity: NDArray[np.float64],
    inside: Callable[[], NDArray[np.float64]],
    heights: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Which of a frame's M tracks are scored.

    Args:
        protocol: the rule.
        flags: of the N true objects.
        similarity: `(N, M)` overlap of truth and tracks.
        inside: gives the `(N, M)` share of each track that lies in each true object.
        heights: `(M,)` of the tracks in pixels.
    """
    dropped = np.zeros(similarity.shape[1], np.bool_)
    if protocol is not Protocol.kitti and not (flags.distracts | flags.ignores).any():
        return ~dropped
    rows, columns = _matches(similarity[flags.matched])
    dropped[columns[flags.distracts[flags.matched][rows]]] = True
    unmatched = np.ones(len(dropped), np.bool_)
    unmatched[columns] = False
    if flags.ignores.any():
        dropped |= unmatched & (inside()[flags.ignores] > INSIDE + EPSILON).any(0)
    if protocol is Protocol.kitti:
        dropped |= unmatched & (heights <= KITTI_SMALLEST + EPSILON)
    return ~dropped


def _matches(similarity: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The best one-to-one pairs that overlap by half."""
    gated = np.where(similarity < MATCHED - EPSILON, 0, similarity)
    rows, columns = linear_sum_assignment(-gated)
    matched = gated[rows, columns] > EPSILON
    return rows[matched], columns[matched]


def protocol_of(truth: GroundTruthSet, names: Sequence[str], settings: EvaluationSettings) -> Protocol:
    """The protocol: as the settings say, else by the kind and the names of the ground truth.

    Raises:
        SettingError: MOT20 with others: its distractors differ.
    """
    if settings.protocol is not None:
        return settings.protocol
    if truth.format is Format.kitti:
        return Protocol.kitti
    if truth.format is not Format.mot:
        return Protocol.plain
    if all(KITTI_NAME.fullmatch(name) for name in names):
        return Protocol.kitti_simple
    if settings.classes or settings.class_agnostic:
        return Protocol.plain
    mot20 = [name.startswith("MOT20-") for name in names]
    if any(mot20) and not all(mot20):
        raise SettingError(
            f"MOT20 sequences and others: their distractors differ; score them apart ({argument('sequences')})"
        )
    if all(mot20):
        return Protocol.mot20
    with closing(truth.sequences[names[0]]()) as source:
        return Protocol.mot17 if _has_classes(source) else Protocol.mot15


def evaluated_classes(
    truth: GroundTruthSet, protocol: Protocol, settings: EvaluationSettings
) -> tuple[EvaluatedClass, ...]:
    """The classes to score: as the settings say, else those of the benchmark, else those of the ground truth.

    Raises:
        SettingError: a class that the truth does not have, one that needs a number, or classes where there are none.
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
    numbers = class_numbers(truth, protocol)
    is_named = truth.document is not None or truth.format is Format.kitti
    if settings.classes:
        classes = [_parse_class(text, numbers, is_named) for text in settings.classes]
        names = [each.name for each in classes]
        if len(set(names)) < len(names):
            raise SettingError(f"{_class()} names a class twice: {', '.join(names)}")
    elif truth.document is not None:
        used = truth.document.used_categories
        classes = [EvaluatedClass(name, number) for name, number in numbers.items() if number in used]
    else:
        classes = [EvaluatedClass(name, numbers[name]) for name in KITTI_SCORED if name in numbers]
    classes = classes or [OBJECTS]
    if protocol is Protocol.kitti:
        return tuple(replace(each, neighbour=numbers.get(KITTI_NEIGHBOURS.get(each.name, ""))) for each in classes)
    return tuple(classes)


def class_numbers(truth: GroundTruthSet, protocol: Protocol) -> Mapping[str, int]:
    """Names and numbers of the classes of a truth; empty where it has only numbers, or none."""
    if truth.document is not None:
        return {name: number for number, name in truth.document.categories.items()}
    if truth.format is Format.kitti:
        return {name: number for number, name in KITTI_CLASSES.items()}
    return KITTI_MOT_CLASSES if protocol is Protocol.kitti_simple else {}


def check_classes(name: str, source: AnnotationSource, protocol: Protocol) -> None:
    """Are the classes of a ground truth those that the protocol needs?

    Raises:
        InputError: they are not MOTChallenge's.
    """
    if protocol not in (Protocol.mot17, Protocol.mot20) or not isinstance(source, TableAnnotations):
        return
    classes = source.table.class_id
    bad = classes[(classes < PEDESTRIAN) | (classes > MOT_CLASSES)]
    if len(bad):
        raise InputError(
            f"{source.source}: class {bad[0]} in column 8, but {protocol} knows 1 to {MOT_CLASSES}: "
            f"{argument('protocol', 'mot15')} scores {name} without classes"
        )


def _has_classes(source: AnnotationSource) -> bool:
    return isinstance(source, TableAnnotations) and bool((source.table.class_id >= 0).any())


def _class(text: str | None = None) -> str:
    """What says which classes are scored, in messages."""
    return argument("classes", text, flag="--class")


def _parse_class(text: str, numbers: Mapping[str, int], is_named: bool) -> EvaluatedClass:
    """`car`, `3` or `car=3`; where the truth has names, the number is the result's."""
    name, equals, number = text.partition("=")
    if equals and not (number.isdecimal() and name):
        raise SettingError(f"{_class(text)}: NAME=NUMBER is expected")
    if equals and is_named and name in numbers:
        return EvaluatedClass(name, numbers[name], track_number=int(number))
    if (equals and not is_named) or name.isdecimal():
        digits = number if equals else name
        called = next((one for one, value in numbers.items() if value == int(digits)), f"class {digits}")
        if numbers and not equals and int(digits) not in numbers.values():
            raise SettingError(f"{_class(text)}: the ground truth has {_listed(numbers)}")
        return EvaluatedClass(name if equals else called, int(digits))
    if name not in numbers:
        raise SettingError(
            f"{_class(text)}: the ground truth has {_listed(numbers)}"
            if numbers
            else f"{_class(text)}: the ground truth has numbers alone: give {text}=NUMBER"
        )
    return EvaluatedClass(name, numbers[name])


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({number})" for name, number in numbers.items())
