"""Which rule and which classes a ground truth is scored by, unless the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from trackweave.errors import InputError, SettingError
from trackweave.evaluation.protocols import KITTI_NEIGHBOURS, MOT_CLASSES, PEDESTRIAN, Protocol, Target
from trackweave.evaluation.settings import EvaluationSettings, Format
from trackweave.evaluation.sides import Side, TableSide
from trackweave.evaluation.truth import Truth
from trackweave.formats.kitti import KITTI_CLASSES

KITTI_NAME = re.compile(r"KITTI-\d{4}")
"""Sequences of KITTI's as MOT text; MOT15 has two of its own, `KITTI-13` and `KITTI-17`."""
KITTI_MOT_CLASSES: Mapping[str, int] = {"pedestrian": 1, "car": 3, "cyclist": 4}
"""Numbers of KITTI's classes in MOT text: those of MOTChallenge."""
SCORED_BY_DEFAULT = ("car", "pedestrian")
"""The classes of KITTI's benchmark."""
PEDESTRIANS = Target("pedestrian", None)
OBJECTS = Target("object", None)


def protocol_of(truth: Truth, names: Sequence[str], settings: EvaluationSettings) -> Protocol:
    """The rule.

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
        raise SettingError("MOT20 sequences and others: their distractors differ; score them apart (--sequences)")
    if all(mot20):
        return Protocol.mot20
    with closing(truth.sequences[names[0]]()) as side:
        return Protocol.mot17 if _says_classes(side) else Protocol.mot15


def targets_of(truth: Truth, protocol: Protocol, settings: EvaluationSettings) -> tuple[Target, ...]:
    """The classes.

    Raises:
        SettingError: a class that the truth does not know, one that needs a number, or classes where there are none.
    """
    if not protocol.has_classes:
        if settings.classes:
            raise SettingError(f"--class: {protocol} scores pedestrians alone; --protocol plain scores classes")
        return (PEDESTRIANS,)
    if settings.class_agnostic:
        if settings.classes:
            raise SettingError("--class and --class-agnostic exclude each other")
        return (OBJECTS,)
    known = known_classes(truth, protocol)
    is_named = truth.document is not None or truth.format is Format.kitti
    if settings.classes:
        chosen = [_target(text, known, is_named) for text in settings.classes]
        names = [target.name for target in chosen]
        if len(set(names)) < len(names):
            raise SettingError(f"--class names a class twice: {', '.join(names)}")
    elif truth.document is not None:
        used = truth.document.used_categories
        chosen = [Target(name, number) for name, number in known.items() if number in used]
    else:
        chosen = [Target(name, known[name]) for name in SCORED_BY_DEFAULT if name in known]
    chosen = chosen or [OBJECTS]
    if protocol is Protocol.kitti:
        return tuple(replace(t, neighbour=known.get(KITTI_NEIGHBOURS.get(t.name, ""))) for t in chosen)
    return tuple(chosen)


def known_classes(truth: Truth, protocol: Protocol) -> Mapping[str, int]:
    """Names and numbers of the classes of a truth; empty where it has only numbers, or none."""
    if truth.document is not None:
        return {name: number for number, name in truth.document.categories.items()}
    if truth.format is Format.kitti:
        return {name: number for number, name in KITTI_CLASSES.items()}
    return KITTI_MOT_CLASSES if protocol is Protocol.kitti_simple else {}


def check_classes(name: str, side: Side, protocol: Protocol) -> None:
    """Are a truth's classes such as the rule needs?

    Raises:
        InputError: they are not MOTChallenge's.
    """
    if protocol not in (Protocol.mot17, Protocol.mot20) or not isinstance(side, TableSide) or not len(side.table):
        return
    classes = side.table.class_id
    bad = classes[(classes < PEDESTRIAN) | (classes > MOT_CLASSES)]
    if len(bad):
        raise InputError(
            f"{side.source}: class {bad[0]} in column 8, but {protocol} knows 1 to {MOT_CLASSES}: "
            f"--protocol mot15 scores {name} without classes"
        )


def _says_classes(side: Side) -> bool:
    return isinstance(side, TableSide) and bool((side.table.class_id >= 0).any())


def _target(text: str, known: Mapping[str, int], is_named: bool) -> Target:
    """`car`, `3` or `car=3`; where the truth has names, the number is the result's."""
    name, equals, number = text.partition("=")
    if equals and not (number.isdecimal() and name):
        raise SettingError(f"--class {text}: NAME=NUMBER is expected")
    if equals and is_named and name in known:
        return Target(name, known[name], track_number=int(number))
    if (equals and not is_named) or name.isdecimal():
        digits = number if equals else name
        called = next((one for one, value in known.items() if value == int(digits)), f"class {digits}")
        if known and not equals and int(digits) not in known.values():
            raise SettingError(f"--class {text}: the ground truth has {_listed(known)}")
        return Target(name if equals else called, int(digits))
    if name not in known:
        raise SettingError(
            f"--class {text}: the ground truth has {_listed(known)}"
            if known
            else f"--class {text}: the ground truth has numbers alone: give {text}=NUMBER"
        )
    return Target(name, known[name])


def _listed(known: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({number})" for name, number in known.items())
