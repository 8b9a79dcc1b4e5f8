"""`index.html`: all items of a plan on one page, those first that deserve to be looked at."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from trackweave.plans.pictures import THUMBNAIL
from trackweave.plans.settings import STAGES, Plan
from trackweave.plans.stages import SPLIT, STORE, describe
from trackweave.plans.state import PlanState
from trackweave.plans.tables import PlanScores, Row, RowSpool, score_rows
from trackweave.reports.page import format_count, format_duration
from trackweave.storage.files import replacing
from trackweave.visualization.look import stylesheet

PAGE, TEMPLATE = "index.html", "plan.html.j2"
MOST_THUMBNAILS = 200
"""Pictures inside the page; of further items the page has the numbers."""
MOST_FAILURES = 200
"""Of a stage and kind, listed on the page."""
SUMMED = ("frames", "tracks", "samples")
COLUMNS: Mapping[str, Sequence[tuple[str, str]]] = {
    "masks": (("frames", "frames"), ("tracks", "tracks"), ("things", "things")),
    "boxes": (("frames", "frames"), ("tracks", "tracks"), ("expected_switches", "switches expected")),
    "association": (("frames", "frames"), ("samples", "samples"), ("precision", "precision"), ("recall", "recall")),
}
"""Of the items: name and title."""
TABLES = ("items.csv", "items.parquet", "history.parquet")
"""Files beside the page that it links, where they are there."""
SHOWN = ("HOTA", "AssA", "DetA", "IDF1", "MOTA", "IDSW", "J&F", "J-Mean", "F-Mean")


def write_page(
    plan: Plan,
    rows: RowSpool,
    state: PlanState,
    scores: PlanScores | None,
    environment: Mapping[str, Any],
    notes: Iterable[str],
) -> Path:
    """Writes the page: one file with its style, script and pictures inside, which links the runs' pages beside it.

    Raises:
        RunFolderError: it cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    page = plan.output / PAGE
    jinja = Environment(
        loader=PackageLoader("trackweave.plans"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters.update(duration=format_duration, count=_number, url=lambda path: quote(path))
    totals = _Totals()
    for row in rows:
        totals.add(row)
    table = sorted(score_rows(scores), key=itemgetter(0)) if scores is not None else []
    order = [SPLIT, *STAGES[plan.kind], STORE]
    costs = sorted(state.costs(), key=lambda cost: order.index(cost.stage))
    longest = max((cost.seconds for cost in costs), default=0.0) or 1.0
    stream = jinja.get_template(TEMPLATE).stream(
        style=stylesheet(),
        plan=plan,
        rows=(_shown(row, plan, n) for n, row in enumerate(rows.by_attention())),
        columns=COLUMNS[plan.kind],
        has_variants=len(plan.variants) > 1,
        score_names=[name for name in ("HOTA", "IDF1", "J&F") if name in totals.scores],
        cards=totals.cards(),
        failures=[(fault, count, totals.failures[fault]) for fault, count in totals.failed.most_common()],
        warnings=[(kind, count, totals.warned[kind]) for kind, count in totals.warnings.most_common()],
        score_table=table,
        table_names=[name for name in SHOWN if any(name in cells for _, _, _, cells in table)],
        notes=[*(scores.notes if scores is not None else ()), *notes],
        costs=[(cost, cost.seconds / longest) for cost in costs],
        calls=state.calls(),
        environment=environment,
        tables=[name for name in TABLES if (plan.output / name).is_file()],
        settings={variant.name: describe(plan.resolved(variant, {})) for variant in plan.variants},
        when=lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)),
    )
    stream.enable_buffering(64)
    with replacing(page) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(stream)
    return page


class _Failed(NamedTuple):
    """An item that failed, in some of its variants."""

    item: str
    message: str
    variants: list[str]


@dataclass
class _Totals:
    """What the page says of all rows together.

    Attributes:
        items: how many, in whatever variants.
        states: state → rows.
        sums: frames, tracks and samples.
        cpu_seconds: of all stages.
        rss_mb, gpu_mb: most of all stages; None where it is not known.
        failures: stage and kind → the first `MOST_FAILURES`, of all variants of an item that failed alike as one.
        failed: stage and kind → rows.
        warnings: kind → how many.
        warned: kind → in how many rows.
        scores: names of those that there are.
    """

    items: int = 0
    states: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0
    rss_mb: float | None = None
    gpu_mb: float | None = None
    failures: dict[str, list[_Failed]] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    scores: set[str] = field(default_factory=set)
    _last: str = ""

    def add(self, row: Row) -> None:
        """Counts a row; those of one item come one after the other."""
        self.items += row.item != self._last
        self._last = row.item
        self.states[row.state] += 1
        if "train" not in row.records:  # its samples are those of the items
            self.sums.update({name: int(row.facts[name] or 0) for name in SUMMED if name in row.facts})
        for record in row.records.values():
            self.cpu_seconds += record.cpu_seconds_with_pieces
            self.rss_mb = max((one for one in (self.rss_mb, record.peak_rss_mb) if one is not None), default=None)
            self.gpu_mb = max((one for one in (self.gpu_mb, record.peak_gpu_mb) if one is not None), default=None)
        self.scores.update(row.scores)
        self.warnings.update(row.warnings)
        self.warned.update(row.warnings.keys())
        if row.failure is not None:
            fault = row.failure.fault
            self.failed[fault] += 1
            known = self.failures.setdefault(fault, [])
            if known and (known[-1].item, known[-1].message) == (row.item, row.failure.message):
                known[-1].variants.append(row.variant)
            elif len(known) < MOST_FAILURES:
                known.append(_Failed(row.item, row.failure.message, [row.variant]))

    def cards(self) -> list[tuple[str, str]]:
        """Numbers over the page, each with what it is."""
        cards = [(format_count(self.items), "items"), (format_count(self.states["finished"]), "runs finished")]
        cards += [
            (format_count(self.states[name]), f"runs {name}") for name in ("failed", "waiting") if self.states[name]
        ]
        if self.sums["frames"]:
            cards.append((format_count(self.sums["frames"]), "frames"))
        name = "samples" if "samples" in self.sums else "tracks"
        cards.append((format_count(self.sums[name]), name))
        cards.append((format_duration(self.cpu_seconds), "processor time"))
        if self.rss_mb is not None:
            cards.append((f"{self.rss_mb:.0f} MB", "peak memory of a worker"))
        if self.gpu_mb is not None:
            cards.append((f"{self.gpu_mb:.0f} MB", "peak memory of a GPU"))
        return cards


def _number(value: float) -> str:
    """A count, or a fraction.

    >>> _number(200), _number(0.25)
    ('200', '0.250')
    """
    return f"{value:.3f}" if isinstance(value, float) and value < 1 else format_count(round(value))


def _shown(row: Row, plan: Plan, place: int) -> Mapping[str, Any]:
    """A row of the table of items."""
    folder = Path(plan.output, row.folder)
    report = f"{row.folder}/report.html" if (folder / "report.html").is_file() else None
    picture = None
    if place < MOST_THUMBNAILS:
        with suppress(OSError):
            picture = base64.b64encode((folder / THUMBNAIL).read_bytes()).decode("ascii")
    return {"row": row, "cells": row.cells(), "report": report, "picture": picture}
