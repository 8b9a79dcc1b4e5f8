"""Differences of two results with bootstrap intervals over sequences; and tables of scores for people.

Sequences are what a data set samples, so they are what is drawn again, with replacement, the same for both results
(paired bootstrap; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 16). Every draw's scores are
recomputed from the counts of its sequences. Tables show shares in percent with two decimals, counts whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from trackweave.errors import InputError, argument
from trackweave.evaluation.measures import Lifetime, Nestedness, SegmentationTrackingQuality, VideoPanopticQuality
from trackweave.evaluation.metrics import TrackEval, combiner
from trackweave.evaluation.scores import SCHEMA_VERSION, ClassScores, Evaluation, JsonRecord, RegimeScores, Scores
from trackweave.evaluation.settings import CompareSettings, Metric

COMPARED = (
    *("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW", "Frag", "J&F", "J-Mean", "F-Mean"),
    *("sMOTSA", "VPQ", "STQ", "Lifetime", "Tracks", "Duplicates", "Nested", "Inside"),
)
FEWEST = 5
"""Sequences below which an interval is too uncertain to rely on."""


@dataclass(frozen=True)
class Difference:
    """One score of two results; NaN, and null in JSON, where there is no true object to score.

    Attributes:
        name: TrackEval's name of it.
        one: of the first result.
        other: of the second.
        difference: `other - one`.
        low: lower end of the interval of the difference; None with a single sequence.
        high: its upper end.
    """

    name: str
    one: float
    other: float
    difference: float
    low: float | None
    high: float | None

    @property
    def is_clear(self) -> bool:
        """Does the interval leave out 0?"""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def to_json(self) -> JsonRecord:
        """The record for machines."""
        fields = {
            "one": self.one,
            "other": self.other,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
        }
        return {name: None if value is None or math.isnan(value) else value for name, value in fields.items()}


@dataclass(frozen=True)
class ClassComparison:
    """One class of one regime.

    Attributes:
        regime: its name.
        name: of the class.
        sequences: that both results have.
        differences: by score.
    """

    regime: str
    name: str
    sequences: Sequence[str]
    differences: Sequence[Difference]

    def __getitem__(self, name: str) -> Difference:
        return next(each for each in self.differences if each.name == name)


@dataclass(frozen=True)
class ResultComparison:
    """Two results side by side.

    Attributes:
        classes: of all regimes.
        confidence: of the intervals.
        resamples: draws they are made of.
        seed: of the draws.
        notes: what a reader should know.
    """

    classes: Sequence[ClassComparison]
    confidence: float
    resamples: int
    seed: int
    notes: Sequence[str]

    def to_json(self) -> JsonRecord:
        """The record for machines."""
        return {
            "schema_version": SCHEMA_VERSION,
            "confidence": self.confidence,
            "resamples": self.resamples,
            "seed": self.seed,
            "comparisons": [
                {
                    "regime": each.regime,
                    "class": each.name,
                    "sequences": list(each.sequences),
                    "differences": {row.name: row.to_json() for row in each.differences},
                }
                for each in self.classes
            ],
            "notes": list(self.notes),
        }


def compare(
    one: Evaluation,
    other: Evaluation,
    settings: CompareSettings | None = None,
) -> ResultComparison:
    """Differences of two results that were scored alike.

    Args:
        one: the first, such as a baseline.
        other: the second; positive differences are in its favour, but for `IDSW`, `Frag`, `Tracks` and `Duplicates`.
        settings: how intervals are made of draws of sequences; more draws make their ends steadier.

    Raises:
        InputError: the two have other regimes, classes or sequences.
    """
    settings = settings or CompareSettings()
    pairs = list(_pairs(one, other))
    generator = np.random.default_rng(settings.seed)
    classes, notes = [], []
    for regime, first, second in pairs:
        comparison = _class_comparison(regime, first, second, generator, settings)
        classes.append(comparison)
        count = len(comparison.sequences)
        if count < FEWEST:
            where = f"{regime.name} " if regime.name else ""
            consequence = "there is no interval" if count == 1 else "the interval says little"
            notes.append(f"{where}{first.name}: {_sequences(count)}: {consequence}; {FEWEST} or more are needed")
    return ResultComparison(classes, settings.confidence, settings.resamples, settings.seed, notes)


def _pairs(one: Evaluation, other: Evaluation) -> list[tuple[RegimeScores, ClassScores, ClassScores]]:
    _same("regimes", [regime.name for regime in one.regimes], [regime.name for regime in other.regimes])
    pairs = []
    for regime, twin in zip(one.regimes, other.regimes, strict=True):
        if (regime.overlap, regime.protocol) != (twin.overlap, twin.protocol):
            raise InputError(
                f"the two results are scored by {regime.overlap}, {regime.protocol} and {twin.overlap}, {twin.protocol}"
            )
        _same("classes", [each.name for each in regime.classes], [each.name for each in twin.classes])
        for first, second in zip(regime.classes, twin.classes, strict=True):
            _same("sequences", sorted(first.sequences), sorted(second.sequences))
            pairs.append((regime, first, second))
    return pairs


def _same(what: str, one: Sequence[str], other: Sequence[str]) -> None:
    alone = sorted(set(one) ^ set(other))
    if alone:
        raise InputError(
            f"{what} of one result alone: {', '.join(alone)}; compare what both have ({argument('sequences')})"
        )


def _class_comparison(
    regime: RegimeScores,
    one: ClassScores,
    other: ClassScores,
    generator: np.random.Generator,
    settings: CompareSettings,
) -> ClassComparison:
    trackeval = TrackEval(regime.metrics)
    asked = ("OWTA", *COMPARED) if Metric.owta in regime.metrics else COMPARED
    names = [name for name in asked if name in one.combined and name in other.combined]
    sequences = list(one.sequences)
    combiners = [combiner(scores.sequences, trackeval) for scores in (one, other)]
    draws = np.zeros((settings.resamples, len(names)))
    for n in range(settings.resamples if len(sequences) > 1 else 0):
        drawn = [sequences[k] for k in generator.integers(0, len(sequences), len(sequences))]
        first, second = (combine(drawn) for combine in combiners)
        draws[n] = [second[name] - first[name] for name in names]
    tail = (1 - settings.confidence) / 2
    lows, highs = np.quantile(draws, [tail, 1 - tail], axis=0)
    differences = []
    for k, name in enumerate(names):
        first_score, second_score = one.combined[name], other.combined[name]
        ends = (float(lows[k]), float(highs[k])) if len(sequences) > 1 else (None, None)
        differences.append(Difference(name, first_score, second_score, second_score - first_score, *ends))
    return ClassComparison(regime.name, one.name, sequences, differences)


BOX_FIELDS = ("HOTA", "DetA", "AssA", "IDF1", "MOTA", "IDSW", "Frag", "CLR_FP", "CLR_FN")
MASK_FIELDS = ("J&F", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
OPEN_FIELDS = ("OWTA", "DetRe", "AssRe", "AssPr", "LocA")
LABEL_FIELDS = ("sMOTSA", "MOTSA", "MOTSP", *VideoPanopticQuality.NAMES, *SegmentationTrackingQuality.NAMES)
IDENTITY_FIELDS = (*Lifetime.NAMES, *Nestedness.NAMES)
COUNTS = ("IDSW", "Frag", "CLR_FP", "CLR_FN")
NUMBERS = ("Tracks", "Duplicates")
"""Fields that are neither shares nor whole."""
COMBINED = "combined"
NamedScores = Sequence[tuple[str, Scores]]


def evaluation_tables(evaluation: Evaluation) -> Iterator[Table]:
    """A table per class; then classes, then regimes, where there are several."""
    for regime in evaluation.regimes:
        is_open = Metric.owta in regime.metrics
        for each in regime.classes:
            rows = [*each.sequences.items(), (COMBINED, each.combined)]
            yield from _tables(_title(regime, each.name), rows, is_open=is_open)
        if regime.all_classes is not None and regime.mean_of_classes is not None:
            classes: NamedScores = [(each.name, each.combined) for each in regime.classes]
            over = [("all classes", regime.all_classes), ("mean of classes", regime.mean_of_classes)]
            yield from _tables(_title(regime, "classes"), [*classes, *over], last=2, is_open=is_open)
    if len(evaluation.regimes) > 1:
        is_open = any(Metric.owta in regime.metrics for regime in evaluation.regimes)
        yield from _tables("regimes", list(_by_regime(evaluation)), last=0, is_open=is_open)


def comparison_tables(comparison: ResultComparison) -> Iterator[Table]:
    """A table per class: both results, their difference, its interval; a star where the interval leaves out 0."""
    percent = f"{100 * comparison.confidence:g} %"
    for each in comparison.classes:
        table = _empty_table(_comparison_title(each), ["first", "second", "difference", f"{percent} from", "to", ""])
        for row in each.differences:
            ends = ["–" if end is None else _signed(row.name, end) for end in (row.low, row.high)]
            star = "*" if row.is_clear else ""
            both = (_formatted(row.name, row.one), _formatted(row.name, row.other))
            table.add_row(row.name, *both, _signed(row.name, row.difference), *ends, star)
        yield table


def _by_regime(evaluation: Evaluation) -> Iterator[tuple[str, Scores]]:
    for regime in evaluation.regimes:
        for each in regime.classes:
            yield (regime.name if len(regime.classes) == 1 else f"{regime.name}, {each.name}"), each.combined


def _title(regime: RegimeScores, what: str) -> str:
    named = f"{regime.name}: " if regime.name else ""
    return f"{named}{what} ({regime.overlap}, {regime.protocol})"


def _comparison_title(comparison: ClassComparison) -> str:
    named = f"{comparison.regime}: " if comparison.regime else ""
    return f"{named}{comparison.name}, {_sequences(len(comparison.sequences))}"


def _sequences(count: int) -> str:
    return f"{count} sequence{'' if count == 1 else 's'}"


def _tables(title: str, rows: NamedScores, last: int = 1, *, is_open: bool) -> Iterator[Table]:
    """A table of J and F, one of the other scores, and those of what was asked for; a line before the `last` rows."""
    for fields in (MASK_FIELDS, BOX_FIELDS, LABEL_FIELDS, IDENTITY_FIELDS, *([OPEN_FIELDS] if is_open else [])):
        names = [name for name in fields if any(name in scores for _, scores in rows)]
        if names:
            yield _table(title, names, rows, last)


def _table(title: str, names: Sequence[str], rows: NamedScores, last: int) -> Table:
    table = _empty_table(title, names)
    for n, (label, scores) in enumerate(rows):
        is_empty = _is_empty(scores)
        cells = ["–" if is_empty or name not in scores else _formatted(name, scores[name]) for name in names]
        table.add_row(label, *cells, end_section=bool(last) and n == len(rows) - last - 1)
    return table


def _empty_table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _is_empty(scores: Scores) -> bool:
    """Neither the truth nor the result has an object: counts are 0 and mean nothing, and there are no shares."""
    if "GT_Dets" in scores:
        return scores["GT_Dets"] + scores["Dets"] == 0
    return scores["num_gt_tracks"] == 0


def _formatted(name: str, value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if name in COUNTS else f"{_in_table(name, value):.2f}"


def _signed(name: str, value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:+.0f}" if name in COUNTS else f"{_in_table(name, value):+.2f}"


def _in_table(name: str, value: float) -> float:
    """Shares in percent."""
    return value if name in NUMBERS else 100 * value
