"""Scores results against a ground truth, one sequence at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from trackweave.errors import InputError, SettingError
from trackweave.evaluation.combining import all_classes, combined, mean_of_classes
from trackweave.evaluation.pairing import SHOWN, Rules, SequenceScores, score_sequence
from trackweave.evaluation.region_sequence import Matching
from trackweave.evaluation.results import Opener, Results, find_results
from trackweave.evaluation.scores import ClassScores, Evaluation, Metric, Overlap, RegimeScores, Scores
from trackweave.evaluation.settings import EvaluationSettings, Format, OnMissing
from trackweave.evaluation.sides import EmptySide
from trackweave.evaluation.targets import check_classes, protocol_of, targets_of
from trackweave.evaluation.trackeval_metrics import TrackEval
from trackweave.evaluation.truth import Truth, find_truth

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
