"""What is over all items of a plan: tables, scores, views, the page; written at the end of every call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from trackweave.errors import ArtifactError
from trackweave.plans.items import PlanItem
from trackweave.plans.layout import write_views
from trackweave.plans.page import PAGE, TABLES, write_page
from trackweave.plans.settings import Plan, redacted
from trackweave.plans.stages import FinishedItem, describe
from trackweave.plans.state import PlanState
from trackweave.plans.tables import (
    EVALUATION,
    RowSpool,
    describe_environment,
    read_scores,
    write_csv,
    write_history,
    write_parquet,
)
from trackweave.storage.files import read_json_object, remove_leftovers, write_json

PLAN, (CSV, PARQUET, HISTORY) = "plan.json", TABLES
ENVIRONMENT = "environment.json"
WRITTEN = (PAGE, CSV, PARQUET, HISTORY, EVALUATION, ENVIRONMENT, PLAN)
"""What `write_overview` writes, beside the views."""


def is_current(plan: Plan, items: Sequence[PlanItem]) -> bool:
    """Is what lies in the output folder about this very plan?"""
    path = plan.output / PLAN
    if not path.is_file() or not (plan.output / PAGE).is_file():
        return False
    with suppress(ArtifactError):
        return read_json_object(path, "plan").get("digest") == _digest(plan, items)
    return False


def _digest(plan: Plan, items: Sequence[PlanItem]) -> str:
    parts = hashlib.sha256(repr((plan, __name__)).encode(errors="surrogateescape"))
    for item in items:
        parts.update(repr(item).encode(errors="surrogateescape"))
    return parts.hexdigest()[:16]


def write_overview(
    plan: Plan, items: Sequence[PlanItem], state: PlanState, finished: Iterable[FinishedItem]
) -> list[Path]:
    """Writes the tables, the scores, the views and the page of a plan; `plan.json` last.

    Returns:
        the files, without the views.

    Raises:
        RunFolderError: a file cannot be written.
    """
    output = plan.output
    remove_leftovers([output])
    write_history(output / HISTORY, state.history())
    with RowSpool(finished, output) as rows:
        write_csv(output / CSV, rows)
        write_parquet(output / PARQUET, rows)
        groups = {item.name: item.group for item in items}
        scores = read_scores(plan, rows, groups) if "evaluate" in plan.stages else None
        if scores is not None and scores.by_variant:
            write_json(output / EVALUATION, scores.to_json())
        else:
            (output / EVALUATION).unlink(missing_ok=True)
        environment = describe_environment()
        write_json(output / ENVIRONMENT, environment)
        notes = write_views(plan, rows) if plan.layout is not None else []
        write_page(plan, rows, state, scores, environment, notes)
    write_json(output / PLAN, {"schema_version": 1, "digest": _digest(plan, items), **_described(plan)})
    return [output / name for name in WRITTEN if (output / name).is_file()]


def foreign_file(folder: Path) -> str | None:
    """A file that `write_overview` would write over although no plan wrote it; None where there is none."""
    found = next((name for name in WRITTEN if (folder / name).exists()), None)
    if found is not None and (folder / PLAN).is_file():
        with suppress(ArtifactError):
            return None if "digest" in read_json_object(folder / PLAN, "plan") else found
    return found


def _described(plan: Plan) -> Mapping[str, Any]:
    """The plan as it was resolved, without secrets."""
    variants = {
        variant.name: [
            {"key": key, "value": value, "origin": origin}
            for key, value, origin in describe(plan.resolved(variant, {}))
        ]
        for variant in plan.variants
    }
    inputs = [entry.model_dump(mode="json", exclude_defaults=True) for entry in plan.inputs]
    return {
        "name": plan.name,
        "kind": plan.kind,
        "inputs": redacted(inputs),
        "stages": list(plan.stages),
        "formats": list(plan.formats),
        "variants": variants,
        "output": redacted(plan.remote or str(plan.output)),
        "output_layout": plan.layout,
        "engine": redacted(plan.engine.model_dump(mode="json")),
        "split": None if plan.split is None else plan.split.model_dump(mode="json"),
    }
