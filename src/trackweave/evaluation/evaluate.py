"""`evaluate`: scores of results against ground truth, one sequence at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from trackweave.errors import InputError, SettingError, argument, shortened_line, wording
from trackweave.evaluation.annotations import EmptyAnnotations
from trackweave.evaluation.classes import disjoint, evaluated_classes
from trackweave.evaluation.discovery import GroundTruthSet, ResultOpener, ResultSet, find_ground_truth, find_results
from trackweave.evaluation.matching import ScoringRules, SequenceScores, listing, score_sequence
from trackweave.evaluation.metrics import TrackEval, all_classes, combined, mean_of_classes
from trackweave.evaluation.protocols import check_classes, protocol_of
from trackweave.evaluation.scores import ClassScores, Evaluation, RegimeScores
from trackweave.evaluation.settings import (
    NOT_UNLESS_ASKED,
    OF_MASKS,
    EvaluationSettings,
    Format,
    Matching,
    Metric,
    OnMissing,
    Overlap,
)

OnSequence = Callable[[str], None]
"""Called with the name of each sequence before it is scored."""


@dataclass(frozen=True)
class Regime:
    """Sequences of one kind, their results, and how they are scored.

    Attributes:
        results: see `find_results`.
        truth: see `find_ground_truth`.
        name: of the regime.
        settings: how it is scored.
    """

    results: str | os.PathLike[str]
    truth: str | os.PathLike[str]
    name: str = ""
    settings: EvaluationSettings = field(default_factory=EvaluationSettings)


def evaluate(
    results: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    settings: EvaluationSettings | None = None,
    on_sequence: OnSequence | None = None,
) -> RegimeScores:
    """Scores results against ground truth.

    Args:
        results: a run or its folder, a file, or a folder by the names of sequences; see `find_results`.
        truth: a file or folder; see `find_ground_truth`.
        settings: how they are scored; None: as files and names suggest.
        on_sequence: called with the name of each sequence before it is scored.

    Returns:
        scores by class, sequence and combined.

    Raises:
        InputError: something is missing, cannot be read, or does not belong together; the message names it.
        SettingError: a setting that does not fit the data.
        MissingExtraError: `trackeval` is not installed; J and F need only what comes with trackweave.
    """
    return evaluate_regime(Regime(results, truth, settings=settings or EvaluationSettings()), on_sequence)


def evaluate_regimes(regimes: Sequence[Regime], on_sequence: OnSequence | None = None) -> Evaluation:
    """The same for several kinds of sequences."""
    return Evaluation([evaluate_regime(regime, on_sequence) for regime in regimes])


def evaluate_regime(regime: Regime, on_sequence: OnSequence | None = None) -> RegimeScores:
    """The same for one kind of sequences; see `evaluate`."""
    settings = regime.settings
    truth = find_ground_truth(regime.truth, settings.gt_format)
    results = find_results(regime.results, truth, settings.format, settings.level)
    pairs, notes = _paired_sequences(truth, results, settings)
    rules = _scoring_rules(truth, results, list(pairs), settings)
    trackeval = TrackEval(rules.metrics)
    sequences: dict[str, SequenceScores] = {}
    for name, opener in pairs.items():
        if on_sequence is not None:
            on_sequence(name)
        sequences[name] = _score(name, truth, opener, rules, trackeval)
    named = [scores for scores in sequences.values() if scores.is_disjoint is not None]
    if named and all(scores.is_disjoint for scores in named):
        raise disjoint(rules.classes, named[0].result, named[0].class_names)
    classes = [_class_scores(each.name, sequences, trackeval) for each in rules.classes]
    whole = [each.combined for each in classes]
    return RegimeScores(
        name=regime.name,
        overlap=rules.overlap,
        protocol=str(rules.protocol),
        metrics=rules.metrics,
        classes=classes,
        all_classes=all_classes(whole, trackeval) if len(whole) > 1 else None,
        mean_of_classes=mean_of_classes(whole, trackeval) if len(whole) > 1 else None,
        notes=_unique(
            [
                *notes,
                *(note for each in sequences.values() for note in each.notes),
                *_empty_classes(classes),
                *_empty_sequences(sequences, {name for name, opener in pairs.items() if opener is None}),
            ]
        ),
    )


def _paired_sequences(
    truth: GroundTruthSet, results: ResultSet, settings: EvaluationSettings
) -> tuple[Mapping[str, ResultOpener | None], list[str]]:
    """How to open the result of each sequence to score, None where there is none; and notes for the reader.

    Raises:
        InputError: sequences are missing in one of the two, by name.
        SettingError: a sequence is asked for that the truth does not have.
    """
    wanted = list(settings.sequences) or list(truth.sequences)
    unknown = [name for name in wanted if name not in truth.sequences]
    if unknown:
        raise SettingError(f"{argument('sequences')}: the ground truth {truth.path} has no {listing(unknown)}")
    if results.is_single:
        return _single_pair(results, wanted)
    unknown = [name for name in results.sequences if name not in truth.sequences]
    if unknown and not settings.sequences:
        raise InputError(f"{results.path}: results of sequences that {truth.path} has not: {listing(unknown)}")
    missing = [name for name in wanted if name not in results.sequences]
    if missing and settings.missing is OnMissing.error:
        raise InputError(
            f"{results.path}: no result of {len(missing)} of {len(wanted)} sequences: {listing(missing)}; "
            f"{argument('missing', 'skip')} leaves them out, {argument('missing', 'empty')} scores them as empty"
        )
    if len(missing) == len(wanted):
        raise InputError(f"{results.path}: no result of any sequence of {truth.path}: {listing(wanted)}")
    if settings.missing is OnMissing.skip:
        wanted = [name for name in wanted if name not in missing]
    treatment = "left out" if settings.missing is OnMissing.skip else "scored as empty"
    notes = [f"no result of {listing(missing)}: {treatment}"] if missing else []
    return {name: results.sequences.get(name) for name in wanted}, notes


def _single_pair(results: ResultSet, wanted: list[str]) -> tuple[Mapping[str, ResultOpener], list[str]]:
    """The result of one sequence: by name, or whatever its name when only one is wanted."""
    name, opener = next(iter(results.sequences.items()))
    if name in wanted:
        return {name: opener}, []
    if len(wanted) > 1:
        raise InputError(
            f"{results.path}: is it a result of {listing(wanted)}? Its name ({name}) does not tell: "
            f"give {wording('sequences=(NAME,)', '--sequences NAME')}"
        )
    return {wanted[0]: opener}, []


def _scoring_rules(
    truth: GroundTruthSet, results: ResultSet, names: Sequence[str], settings: EvaluationSettings
) -> ScoringRules:
    both_have_masks = truth.has_masks and results.has_masks is not False
    overlap = settings.by or (Overlap.masks if both_have_masks else Overlap.boxes)
    if overlap is Overlap.masks and not both_have_masks:
        source = f"the ground truth {truth.path}" if not truth.has_masks else str(results.path)
        raise SettingError(f"{argument('by', 'masks')}: {source} has boxes alone")
    fits = [metric for metric in Metric if metric not in OF_MASKS or overlap is Overlap.masks]
    metrics = settings.metrics or tuple(metric for metric in fits if metric not in NOT_UNLESS_ASKED)
    unfit = [metric for metric in metrics if metric not in fits]
    if unfit:
        who = "J and F need" if Metric.jf in unfit else "needs"
        asked = argument("metrics", ",".join(unfit))
        raise SettingError(f"{asked}: {who} masks on both sides; boxes have {', '.join(fits)}")
    protocol = protocol_of(truth, names, settings)
    classes = evaluated_classes(truth, protocol, settings)
    matching = settings.matching or _matching(truth, results)
    return ScoringRules(metrics, overlap, protocol, classes, matching, settings.start_fraction)


def _matching(truth: GroundTruthSet, results: ResultSet) -> Matching:
    if truth.format is not Format.davis or results.matching is Matching.best:
        return Matching.best
    return Matching.first_appearance if truth.is_youtube_vos else Matching.ids


def _score(
    name: str, truth: GroundTruthSet, opener: ResultOpener | None, rules: ScoringRules, trackeval: TrackEval
) -> SequenceScores:
    with closing(truth.sequences[name]()) as annotations:
        check_classes(name, annotations, rules.protocol)
        with closing(opener(annotations) if opener is not None else EmptyAnnotations(name)) as tracks:
            return score_sequence(name, annotations, tracks, rules, trackeval)


def _class_scores(name: str, sequences: Mapping[str, SequenceScores], trackeval: TrackEval) -> ClassScores:
    by_sequence = {sequence: scores.classes[name] for sequence, scores in sequences.items()}
    return ClassScores(name, by_sequence, combined(list(by_sequence.values()), trackeval))


def _empty_classes(classes: Sequence[ClassScores]) -> Iterator[str]:
    """A note for each class of which the ground truth has no object."""
    for each in classes:
        whole = each.combined
        if "GT_Dets" in whole and not whole["GT_Dets"]:
            also = "" if whole["Dets"] else ", nor has the result"
            yield f"class {each.name}: the ground truth has no object of it{also}"
        elif "Dets" in whole and not whole["Dets"]:
            yield f"class {each.name}: the result has no object of it"


def _empty_sequences(sequences: Mapping[str, SequenceScores], missing: set[str]) -> Iterator[str]:
    """Notes on sequences without an object in the ground truth or in the result; those without a result have one."""
    no_truth = [name for name, scores in sequences.items() if not scores.has_truth]
    no_tracks = [
        f"{name} ({shortened_line(scores.result)})"
        for name, scores in sequences.items()
        if not scores.has_tracks and name not in missing
    ]
    if no_truth:
        yield f"the ground truth has no object on the scored frames of {listing(no_truth)}: there is nothing to score"
    if no_tracks:
        yield f"the result has no object on the scored frames of {listing(no_tracks)}: all of the truth is missed"


def _unique(notes: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(notes))
