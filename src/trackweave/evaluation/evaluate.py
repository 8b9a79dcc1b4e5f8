"""Scores results against a ground truth, one sequence at a time.

Which rule and which classes a ground truth is scored by, unless the user says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from trackweave.errors import InputError, SettingError
from trackweave.evaluation.annotations import EmptySide, Side, TableSide
from trackweave.evaluation.discovery import Opener, Results, Truth, find_results, find_truth
from trackweave.evaluation.matching import SHOWN, Rules, SequenceScores, score_sequence
from trackweave.evaluation.metrics import TrackEval, all_classes, combined, mean_of_classes
from trackweave.evaluation.protocols import KITTI_NEIGHBOURS, MOT_CLASSES, PEDESTRIAN, Target
from trackweave.evaluation.scores import ClassScores, Evaluation, RegimeScores, Scores
from trackweave.evaluation.settings import (
    EvaluationSettings,
    Format,
    Matching,
    Metric,
    OnMissing,
    Overlap,
    Protocol,
)
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


AS_FILES_TELL = EvaluationSettings()

Progress = Callable[[str], None]
"""Is told the name of each sequence before it is scored."""


@dataclass(frozen=True)
class Regime:
    """Sequences of one kind, their results, and how they are scored.

    Attributes:
        results: see `find_results`.
        truth: see `find_truth`.
        name: what the regime is called.
        settings: how it is scored.
    """

    results: Path | str
    truth: Path | str
    name: str = ""
    settings: EvaluationSettings = AS_FILES_TELL


def evaluate(
    results: Path | str,
    truth: Path | str,
    settings: EvaluationSettings | None = None,
    progress: Progress | None = None,
) -> RegimeScores:
    """Scores results.

    Args:
        results: a run folder, a file, or a folder by the names of sequences; see `find_results`.
        truth: a file or folder; see `find_truth`.
        settings: how; None: as files and names tell.
        progress: is told what is being scored.

    Returns:
        scores by class, sequence and combined.

    Raises:
        InputError: something is missing, cannot be read, or does not belong together; the message names it.
        SettingError: a setting that does not fit the data.
        MissingExtraError: `trackeval` is not installed; J and F do without.
    """
    return evaluate_regime(Regime(results, truth, settings=settings or EvaluationSettings()), progress)


def evaluate_regimes(regimes: Sequence[Regime], progress: Progress | None = None) -> Evaluation:
    """The same for several kinds of sequences."""
    return Evaluation([evaluate_regime(regime, progress) for regime in regimes])


def evaluate_regime(regime: Regime, progress: Progress | None = None) -> RegimeScores:
    """The same for one kind of sequences; see `evaluate`."""
    settings = regime.settings
    truth = find_truth(regime.truth, settings.gt_format)
    results = find_results(regime.results, truth, settings.format, settings.level)
    pairs, notes = paired(truth, results, settings)
    rules = _rules(truth, results, list(pairs), settings)
    trackeval = TrackEval(rules.metrics)
    sequences: dict[str, SequenceScores] = {}
    for name, opener in pairs.items():
        if progress is not None:
            progress(name)
        sequences[name] = _scored(name, truth, opener, rules, trackeval)
    classes = [_class(target.name, sequences, trackeval) for target in rules.targets]
    whole = [found.combined for found in classes]
    return RegimeScores(
        name=regime.name,
        overlap=rules.overlap,
        protocol=str(rules.protocol),
        metrics=rules.metrics,
        classes=classes,
        all_classes=all_classes(whole, trackeval) if len(whole) > 1 else None,
        mean_of_classes=mean_of_classes(whole, trackeval) if len(whole) > 1 else None,
        notes=[*notes, *(note for found in sequences.values() for note in found.notes), *_unseen(classes)],
    )


def paired(
    truth: Truth, results: Results, settings: EvaluationSettings
) -> tuple[Mapping[str, Opener | None], list[str]]:
    """How to open the result of each sequence that is to be scored, None where there is none; and what to say.

    Raises:
        InputError: sequences are missing on one side, by name.
        SettingError: a sequence is asked for that the truth has not.
    """
    wanted = list(settings.sequences) or list(truth.sequences)
    strange = [name for name in wanted if name not in truth.sequences]
    if strange:
        raise SettingError(f"--sequences: the ground truth {truth.path} has no {_some(strange)}")
    if results.is_single:
        return _one_pair(truth, results, wanted)
    strange = [name for name in results.sequences if name not in truth.sequences]
    if strange and not settings.sequences:
        raise InputError(f"{results.path}: results of sequences that {truth.path} has not: {_some(strange)}")
    missing = [name for name in wanted if name not in results.sequences]
    if missing and settings.missing is OnMissing.error:
        raise InputError(
            f"{results.path}: no result of {len(missing)} of {len(wanted)} sequences: {_some(missing)}; "
            "--missing skip leaves them out, --missing empty scores them as empty"
        )
    if len(missing) == len(wanted):
        raise InputError(f"{results.path}: no result of any sequence of {truth.path}: {_some(wanted)}")
    if settings.missing is OnMissing.skip:
        wanted = [name for name in wanted if name not in missing]
    what = "left out" if settings.missing is OnMissing.skip else "scored as empty"
    notes = [f"no result of {_some(missing)}: {what}"] if missing else []
    return {name: results.sequences.get(name) for name in wanted}, notes


def _one_pair(truth: Truth, results: Results, wanted: list[str]) -> tuple[Mapping[str, Opener], list[str]]:
    """The result of one sequence: by name, or whatever it is called when only one is wanted."""
    name, opener = next(iter(results.sequences.items()))
    if name in wanted:
        return {name: opener}, []
    if len(wanted) > 1:
        raise InputError(
            f"{results.path}: is it a result of {_some(wanted)}? Its name ({name}) does not tell: give --sequences NAME"
        )
    return {wanted[0]: opener}, []


def _rules(truth: Truth, results: Results, names: Sequence[str], settings: EvaluationSettings) -> Rules:
    both = truth.has_masks and results.has_masks is not False
    overlap = settings.by or (Overlap.masks if both else Overlap.boxes)
    if overlap is Overlap.masks and not both:
        side = f"the ground truth {truth.path}" if not truth.has_masks else str(results.path)
        raise SettingError(f"--by masks: {side} has boxes alone")
    metrics = settings.metrics or tuple(m for m in Metric if m is not Metric.jf or overlap is Overlap.masks)
    if Metric.jf in metrics and overlap is Overlap.boxes:
        raise SettingError("--metrics jf: J and F need masks on both sides; boxes have hota, clear and identity")
    protocol = protocol_of(truth, names, settings)
    matching = settings.matching or (results.matching if truth.format is Format.davis else None)
    return Rules(
        metrics,
        overlap,
        protocol,
        targets_of(truth, protocol, settings),
        matching or Matching.best,
        settings.start_fraction,
    )


def _scored(name: str, truth: Truth, opener: Opener | None, rules: Rules, trackeval: TrackEval) -> SequenceScores:
    with closing(truth.sequences[name]()) as true_side:
        check_classes(name, true_side, rules.protocol)
        with closing(opener(true_side) if opener is not None else EmptySide(name)) as side:
            return score_sequence(name, true_side, side, rules, trackeval)


def _class(name: str, sequences: Mapping[str, SequenceScores], trackeval: TrackEval) -> ClassScores:
    found = {sequence: scores.classes[name] for sequence, scores in sequences.items()}
    return ClassScores(name, found, combined(list(found.values()), trackeval))


def _unseen(classes: Sequence[ClassScores]) -> Iterator[str]:
    """Classes that neither side shows."""
    for found in classes:
        whole: Scores = found.combined
        if "GT_Dets" in whole and not whole["GT_Dets"]:
            also = "" if whole["Dets"] else ", nor has the result"
            yield f"class {found.name}: the ground truth has no object of it{also}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
