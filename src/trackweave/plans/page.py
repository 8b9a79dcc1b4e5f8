"""`index.html`: all items of a plan on one page, those first that deserve to be looked at."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trackweave.plans.pictures import THUMBNAIL
from trackweave.plans.settings import STAGES, Plan
from trackweave.plans.stages import STORE, describe
from trackweave.plans.state import PlanState
from trackweave.plans.tables import PlanScores, Row, score_rows
from trackweave.reports.page import format_count, format_duration
from trackweave.storage.files import remove_leftovers_of, replacing
from trackweave.visualization.look import stylesheet

PAGE, TEMPLATE = "index.html", "plan.html.j2"
MOST_THUMBNAILS = 200
"""Pictures inside the page; of further items the page has the numbers."""
COLUMNS: Mapping[str, Sequence[tuple[str, str]]] = {
    "masks": (("frames", "frames"), ("tracks", "tracks"), ("things", "things")),
    "boxes": (("frames", "frames"), ("tracks", "tracks"), ("expected_switches", "switches expected")),
    "association": (("frames", "frames"), ("samples", "samples"), ("precision", "precision"), ("recall", "recall")),
}
"""Of the items: name and title."""
SHOWN = ("HOTA", "AssA", "DetA", "IDF1", "MOTA", "IDSW", "J&F", "J-Mean", "F-Mean")


def write_page(
    plan: Plan,
    rows: Sequence[Row],
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
    remove_leftovers_of(page)
    jinja = Environment(
        loader=PackageLoader("trackweave.plans"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters.update(duration=format_duration, count=_number, url=lambda path: quote(path))
    ordered = sorted(rows, key=lambda row: -row.attention)
    table = sorted(score_rows(scores), key=itemgetter(0)) if scores is not None else []
    order = [*STAGES[plan.kind], STORE]
    costs = sorted(state.costs(), key=lambda cost: order.index(cost.stage))
    longest = max((cost.seconds for cost in costs), default=0.0) or 1.0
    stream = jinja.get_template(TEMPLATE).stream(
        style=stylesheet(),
        plan=plan,
        rows=(_shown(row, plan, n) for n, row in enumerate(ordered)),
        columns=COLUMNS[plan.kind],
        has_variants=len(plan.variants) > 1,
        score_names=[name for name in ("HOTA", "IDF1", "J&F") if any(name in row.scores for row in rows)],
        cards=_cards(rows),
        failures=_failures(rows),
        warnings=_warnings(rows),
        score_table=table,
        table_names=[name for name in SHOWN if any(name in cells for _, _, _, cells in table)],
        notes=[*(scores.notes if scores is not None else ()), *notes],
        costs=[(cost, cost.seconds / longest) for cost in costs],
        calls=state.calls(),
        environment=environment,
        settings={variant.name: describe(plan.resolved(variant, {})) for variant in plan.variants},
        when=lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)),
    )
    stream.enable_buffering(64)
    with replacing(page) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(stream)
    return page


def _cards(rows: Sequence[Row]) -> list[tuple[str, str]]:
    states = Counter(row.state for row in rows)
    cards = [
        (format_count(len({row.item for row in rows})), "items"),
        (format_count(states["finished"]), "runs finished"),
    ]
    cards += [(format_count(states[name]), f"runs {name}") for name in ("failed", "waiting") if states[name]]
    frames = sum(int(row.facts.get("frames") or 0) for row in rows)
    if frames:
        cards.append((format_count(frames), "frames"))
    name = "samples" if any("samples" in row.facts for row in rows) else "tracks"
    cards.append((format_count(sum(int(row.facts.get(name) or 0) for row in rows if "train" not in row.records)), name))
    seconds = sum(record.cpu_seconds for row in rows for record in row.records.values())
    cards.append((format_duration(seconds), "processor time"))
    peaks = [record.peak_rss_mb for row in rows for record in row.records.values() if record.peak_rss_mb is not None]
    if peaks:
        cards.append((f"{max(peaks):.0f} MB", "peak memory of a worker"))
    gpu_peaks = [
        record.peak_gpu_mb for row in rows for record in row.records.values() if record.peak_gpu_mb is not None
    ]
    if gpu_peaks:
        cards.append((f"{max(gpu_peaks):.0f} MB", "peak memory of a GPU"))
    return cards


def _number(value: float) -> str:
    """A count, or a fraction.

    >>> _number(200), _number(0.25)
    ('200', '0.250')
    """
    return f"{value:.3f}" if isinstance(value, float) and value < 1 else format_count(round(value))


def _failures(rows: Iterable[Row]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Kind → items and messages; the most frequent first."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        if row.failure is not None:
            kinds.setdefault(str(row.failure.kind), []).append((_name(row), row.failure.message))
    return sorted(kinds.items(), key=lambda one: -len(one[1]))


def _warnings(rows: Iterable[Row]) -> list[tuple[str, int, int]]:
    """Kind of warning, how many, in how many items."""
    counts, items = Counter[str](), Counter[str]()
    for row in rows:
        for kind, count in row.warnings.items():
            counts[kind] += count
            items[kind] += 1
    return [(kind, count, items[kind]) for kind, count in counts.most_common()]


def _name(row: Row) -> str:
    return row.item if row.variant == "runs" else f"{row.item} · {row.variant}"


def _shown(row: Row, plan: Plan, place: int) -> Mapping[str, Any]:
    """A row of the table of items."""
    folder = Path(plan.output, row.folder)
    report = f"{row.folder}/report.html" if (folder / "report.html").is_file() else None
    picture = None
    if place < MOST_THUMBNAILS:
        with suppress(OSError):
            picture = base64.b64encode((folder / THUMBNAIL).read_bytes()).decode("ascii")
    return {"row": row, "cells": row.cells(), "report": report, "picture": picture}
