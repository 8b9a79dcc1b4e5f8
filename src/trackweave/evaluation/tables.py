"""Scores as tables for people: shares in percent with two decimals, counts whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from trackweave.evaluation.compare import ClassComparison, Comparison
from trackweave.evaluation.scores import Evaluation, RegimeScores, Scores

BOXES = ("HOTA", "DetA", "AssA", "IDF1", "MOTA", "IDSW", "Frag", "CLR_FP", "CLR_FN")
MASKS = ("J&F", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
COUNTS = ("IDSW", "Frag", "CLR_FP", "CLR_FN")
COMBINED = "combined"
Rows = Sequence[tuple[str, Scores]]


def evaluation_tables(evaluation: Evaluation) -> Iterator[Table]:
    """A table per class; then classes, then regimes, where there are several."""
    for regime in evaluation.regimes:
        for found in regime.classes:
            rows = [*found.sequences.items(), (COMBINED, found.combined)]
            yield from _tables(_title(regime, found.name), rows)
        if regime.all_classes is not None and regime.mean_of_classes is not None:
            classes: Rows = [(found.name, found.combined) for found in regime.classes]
            over = [("all classes", regime.all_classes), ("mean of classes", regime.mean_of_classes)]
            yield from _tables(_title(regime, "classes"), [*classes, *over], last=2)
    if len(evaluation.regimes) > 1:
        yield from _tables("regimes", list(_by_regime(evaluation)), last=0)


def comparison_tables(comparison: Comparison) -> Iterator[Table]:
    """A table per class: both results, their difference, its interval; a star where the interval leaves out 0."""
    percent = f"{100 * comparison.confidence:g} %"
    for found in comparison.classes:
        table = _empty(_compared_title(found), ["first", "second", "difference", f"{percent} from", "to", ""])
        for row in found.differences:
            ends = ["–" if end is None else _signed(row.name, end) for end in (row.low, row.high)]
            star = "*" if row.is_clear else ""
            both = (_shown(row.name, row.one), _shown(row.name, row.other))
            table.add_row(row.name, *both, _signed(row.name, row.difference), *ends, star)
        yield table


def _by_regime(evaluation: Evaluation) -> Iterator[tuple[str, Scores]]:
    for regime in evaluation.regimes:
        for found in regime.classes:
            yield (regime.name if len(regime.classes) == 1 else f"{regime.name}, {found.name}"), found.combined


def _title(regime: RegimeScores, what: str) -> str:
    named = f"{regime.name}: " if regime.name else ""
    return f"{named}{what} ({regime.overlap}, {regime.protocol})"


def _compared_title(found: ClassComparison) -> str:
    named = f"{found.regime}: " if found.regime else ""
    count = len(found.sequences)
    return f"{named}{found.name}, {count} sequence{'' if count == 1 else 's'}"


def _tables(title: str, rows: Rows, last: int = 1) -> Iterator[Table]:
    """One of J and F, one of the others; `last` rows at the end stand apart."""
    for fields in (MASKS, BOXES):
        names = [name for name in fields if any(name in scores for _, scores in rows)]
        if names:
            yield _table(title, names, rows, last)


def _table(title: str, names: Sequence[str], rows: Rows, last: int) -> Table:
    table = _empty(title, names)
    for n, (label, scores) in enumerate(rows):
        nothing = _has_nothing(scores)
        cells = ["–" if nothing or name not in scores else _shown(name, scores[name]) for name in names]
        table.add_row(label, *cells, end_section=bool(last) and n == len(rows) - last - 1)
    return table


def _empty(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _has_nothing(scores: Scores) -> bool:
    """Neither side has an object: 0 is what the rules give, but nobody failed."""
    if "GT_Dets" in scores:
        return scores["GT_Dets"] + scores["Dets"] == 0
    return scores["num_gt_tracks"] == 0


def _shown(name: str, value: float) -> str:
    return f"{value:.0f}" if name in COUNTS else f"{100 * value:.2f}"


def _signed(name: str, value: float) -> str:
    return f"{value:+.0f}" if name in COUNTS else f"{100 * value:+.2f}"
