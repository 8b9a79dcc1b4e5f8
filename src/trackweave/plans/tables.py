"""The items of a plan as rows, in tables, with scores by group and their differences; and the environment."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from trackweave.errors import ArtifactError, RunFolderError, TrackweaveError
from trackweave.plans.settings import Plan
from trackweave.plans.stages import FinishedItem, StageRecord
from trackweave.plans.state import HistoryRow
from trackweave.plans.workers import cores, machine_memory
from trackweave.storage.files import read_json_object, replacing

if TYPE_CHECKING:
    from trackweave.evaluation.scores import Evaluation

EVALUATION = "evaluation.json"
PACKAGES = (
    *("trackweave", "numpy", "numba", "opencv-python-headless", "scipy", "av", "onnxruntime", "torch", "transformers"),
    *("sam2", "pyarrow", "fsspec", "s3fs", "gcsfs", "ray"),
)
PART = 2_000
"""Rows of a Parquet file that are in memory at a time."""
SCORES = ("HOTA", "IDF1", "MOTA", "J&F")
COLUMNS = (
    *("item", "variant", "state", "frames", "width", "height", "tracks", "things", "boxes", "suspected"),
    *("expected_switches", "samples", "precision", "recall"),
    *(
        "warnings",
        "seconds",
        "cpu_seconds",
        "peak_rss_mb",
        "peak_gpu_mb",
        *SCORES,
        "attention",
        "why",
        "kind",
        "message",
        "folder",
    ),
)
"""Of the tables of items."""


@dataclass(frozen=True)
class Row:
    """One item in one variant, as tables and page show it.

    Attributes:
        item: its name.
        variant: of the matrix.
        state: `finished`, `failed` or `waiting`.
        facts: what its stages found.
        records: of its stages.
        folder: of its run, below the output.
        attention: how much it deserves to be looked at; 0: nothing stands out.
        why: what stands out.
        failure: the first stage that failed, or None.
    """

    item: str
    variant: str
    state: str
    facts: Mapping[str, Any]
    records: Mapping[str, StageRecord]
    folder: str
    attention: float
    why: str
    failure: StageRecord | None

    @property
    def warnings(self) -> Mapping[str, int]:
        """Kind of warning → how many."""
        found = self.facts.get("warnings")
        return found if isinstance(found, Mapping) else {}

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(record.seconds_with_pieces for record in self.records.values())

    @property
    def scores(self) -> Mapping[str, float]:
        """The scores by name, as fractions."""
        found = self.facts.get("scores")
        return found if isinstance(found, Mapping) else {}

    def cells(self) -> dict[str, Any]:
        """Column → value."""
        height, width = self.facts.get("size") or (None, None)
        peaks = [record.peak_rss_mb for record in self.records.values() if record.peak_rss_mb is not None]
        gpu_peaks = [record.peak_gpu_mb for record in self.records.values() if record.peak_gpu_mb is not None]
        failure = self.failure
        values = {
            "item": self.item,
            "variant": self.variant,
            "state": self.state,
            "width": width,
            "height": height,
            "warnings": sum(self.warnings.values()),
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(sum(record.cpu_seconds_with_pieces for record in self.records.values()), 3),
            "peak_rss_mb": max(peaks, default=None),
            "peak_gpu_mb": max(gpu_peaks, default=None),
            "attention": round(self.attention, 1),
            "why": self.why,
            "kind": None if failure is None else failure.kind,
            "message": None if failure is None else failure.message,
            "folder": self.folder,
        }
        names = (
            "frames",
            "tracks",
            "things",
            "boxes",
            "suspected",
            "expected_switches",
            "samples",
            "precision",
            "recall",
        )
        facts = {name: self.facts.get(name) for name in names}
        return facts | {name: self.scores.get(name) for name in SCORES} | values


def row_of(finished: FinishedItem, output: Path) -> Row:
    """How an item is shown."""
    facts, failure = finished.facts, finished.failure
    is_finished = any(stage in finished.records for stage in ("track", "build", "train"))
    state = "failed" if failure else "finished" if is_finished else "waiting"
    attention, why = _attention(facts, failure, state)
    return Row(
        finished.name,
        finished.variant,
        state,
        facts,
        finished.records,
        finished.folder.relative_to(output).as_posix(),
        attention,
        why,
        failure,
    )


def _attention(facts: Mapping[str, Any], failure: StageRecord | None, state: str) -> tuple[float, str]:
    """How much an item deserves to be looked at, and why; what stands out most comes first in the text."""
    if failure is not None:
        return 1000.0, failure.fault
    if state == "waiting":
        return 0.0, ""
    found: list[tuple[float, str]] = []
    if facts.get("tracks") == 0:
        found.append((100.0, "no object"))
    if facts.get("samples") == 0:
        found.append((100.0, "no sample"))
    if facts.get("is_halved"):
        found.append((5.0, "half the batch, memory did not suffice"))
    warnings = facts.get("warnings") or {}
    if warnings:
        named = ", ".join(f"{count} × {kind}" if count > 1 else kind for kind, count in warnings.items())
        found.append((min(10.0 * len(warnings) + sum(warnings.values()), 60.0), named))
    expected, suspected, boxes = facts.get("expected_switches"), facts.get("suspected"), facts.get("boxes")
    if expected and boxes:
        found.append((min(2000.0 * expected / boxes, 50.0), f"{expected:.0f} identity switches expected"))
    elif suspected and boxes:
        found.append((min(2000.0 * suspected / boxes, 50.0), f"{suspected} suspected identity switches"))
    scores = facts.get("scores") or {}
    score = next((name for name in ("HOTA", "J&F") if name in scores), None)
    if score is not None:
        found.append((50.0 * (1 - scores[score]), f"{score} {100 * scores[score]:.1f}"))
    found.sort(reverse=True)
    return sum(points for points, _ in found), "; ".join(text for _, text in found)


class RowSpool:
    """The rows of a plan, gone through as often as wanted; on the disk, and in memory 16 bytes of each.

    They lie in a nameless file in the folder of the plan. Use it in a `with` block.

    Args:
        finished: items in the order of the plan.
        output: folder of the plan.

    Raises:
        RunFolderError: the file cannot be written.
    """

    def __init__(self, finished: Iterable[FinishedItem], output: Path) -> None:
        self._output = output
        self._start, self._attention = array("q"), array("d")
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=output)  # noqa: SIM115 - closed in `__exit__`
            for one in finished:
                self._start.append(self._file.tell())
                self._attention.append(row_of(one, output).attention)
                records = [vars(record) for record in one.records.values()]
                folder = one.folder.relative_to(output).as_posix()
                self._file.write(json.dumps([one.name, one.variant, folder, records]).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise RunFolderError(f"{output}: cannot be written: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Row]:
        return (self._row(start) for start in self._start)

    def by_attention(self) -> Iterator[Row]:
        """Those first that deserve most to be looked at; of equal ones in the order of the plan."""
        order = sorted(range(len(self._start)), key=lambda n: -self._attention[n])
        return (self._row(self._start[n]) for n in order)

    def _row(self, start: int) -> Row:
        self._file.seek(start)
        name, variant, folder, values = json.loads(self._file.readline())
        records = [StageRecord(**one) for one in values]
        by_stage = {record.stage: record for record in records}
        return row_of(FinishedItem(name, variant, self._output / folder, by_stage), self._output)


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row.cells() for row in rows)


def write_parquet(path: Path, rows: Iterable[Row]) -> None:
    """The same as Parquet, where pyarrow is installed; an old one does not stay."""
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        path.unlink(missing_ok=True)
        return
    texts = ("item", "variant", "state", "why", "kind", "message", "folder")
    whole = ("frames", "width", "height", "tracks", "things", "boxes", "suspected", "samples", "warnings")
    kinds = {name: pa.string() if name in texts else pa.int64() if name in whole else pa.float64() for name in COLUMNS}
    _write_parts(path, pa.schema(list(kinds.items())), (row.cells() for row in rows))


def write_history(path: Path, rows: Iterable[HistoryRow]) -> None:
    """What was ever computed in the folder, stage by stage, as Parquet where pyarrow is installed."""
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        return
    moments = ("call", "finished")
    texts = ("version", "variant", "item", "stage", "key", "failure")
    kinds = {
        name: pa.timestamp("us", tz="UTC") if name in moments else pa.string() if name in texts else pa.float64()
        for name in HistoryRow._fields
        if name != "scores"
    } | dict.fromkeys(SCORES, pa.float64())
    cells = (
        row._asdict()
        | {name: row.scores.get(name) for name in SCORES}
        | {name: int(1e6 * getattr(row, name)) for name in moments}
        for row in rows
    )
    _write_parts(path, pa.schema(list(kinds.items())), cells)


def _write_parts(path: Path, schema: Any, cells: Iterator[Mapping[str, Any]]) -> None:
    """A Parquet file, a part at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while part := list(islice(cells, PART)):
            columns = {name: [_plain(one[name]) for one in part] for name in schema.names}
            writer.write_table(pa.table(columns, schema=schema))


def _plain(value: Any) -> Any:
    """A text without lone surrogates, which Arrow does not take."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


@cache
def own_version() -> str:
    """Of trackweave; of a checkout with its commit."""
    commit = _commit()
    try:
        number = version("trackweave")
    except PackageNotFoundError:
        number = "unknown"
    return number if commit is None else f"{number}+g{commit[:12]}{'.dirty' if commit.endswith('+') else ''}"


def describe_environment() -> Mapping[str, Any]:
    """Versions, machine and commit: what a result may depend on besides the plan."""
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "processors": cores(),
        "memory_gb": round(machine_memory() / 1e9, 1),
        "devices": _devices(),
        "packages": versions,
        "commit": _commit(),
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _devices() -> list[str]:
    """GPUs of the machine, as their driver names them."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    return []


@cache
def _commit() -> str | None:
    """The commit of the checkout that trackweave is run from, `+` behind it where files differ; None of a package."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    with suppress(OSError, subprocess.SubprocessError):
        git = ["git", "-C", os.fspath(root)]
        commands = [*git, "rev-parse", "HEAD"], [*git, "status", "--porcelain", "--untracked-files=no"]
        commit, changed = (
            subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
            for command in commands
        )
        return f"{commit}+" if changed else commit
    return None


# --- scores -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlanScores:
    """Scores of a plan's items together, and what differs between its variants.

    Attributes:
        by_variant: the scores of each.
        comparisons: variant → its differences to the first one, with intervals, as JSON values.
        notes: what could not be compared, and why.
    """

    by_variant: Mapping[str, Evaluation]
    comparisons: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def to_json(self) -> Mapping[str, Any]:
        """As JSON values."""
        return {
            "schema_version": 1,
            "variants": {name: evaluation.to_json() for name, evaluation in self.by_variant.items()},
            "comparisons": dict(self.comparisons),
            "notes": list(self.notes),
        }


def read_scores(plan: Plan, rows: Iterable[Row], groups: Mapping[str, str]) -> PlanScores:
    """Puts the items' scores together: by group, each combined from the counts of its sequences.

    Variants are compared over the items that all of them have.
    """
    by_item: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        record = row.records.get("evaluate")
        if record is not None and record.kind is None:
            with suppress(ArtifactError):
                by_item.setdefault(row.variant, {})[row.item] = read_json_object(
                    plan.output / row.folder / EVALUATION, "evaluation"
                )
    if not by_item:
        return PlanScores({})
    common = set.intersection(*(set(items) for items in by_item.values()))
    alone = sorted(set().union(*by_item.values()) - common)
    notes = [f"not evaluated in every variant, so left out: {', '.join(alone[:8])}"] if alone else []
    evaluations = {
        variant: _evaluation({item: items[item] for item in items if item in common}, groups)
        for variant, items in by_item.items()
        if common
    }
    comparisons = {}
    first = next((variant.name for variant in plan.variants if variant.name in evaluations), None)
    for name, evaluation in evaluations.items():
        if first is not None and name != first:
            try:
                comparisons[name] = _compared(plan, evaluations[first], evaluation)
            except TrackweaveError as error:
                notes.append(f"{first} and {name}: {error}")
    return PlanScores(evaluations, comparisons, notes)


def _compared(plan: Plan, one: Evaluation, other: Evaluation) -> Mapping[str, Any]:
    from trackweave.evaluation.compare import compare
    from trackweave.evaluation.settings import CompareSettings

    return compare(one, other, plan.resolved(plan.variants[0], {})[CompareSettings]).to_json()


def _evaluation(items: Mapping[str, Mapping[str, Any]], groups: Mapping[str, str]) -> Evaluation:
    """Items of one group that were scored alike are one regime."""
    from trackweave.evaluation.metrics import TrackEval, all_classes, combined, mean_of_classes
    from trackweave.evaluation.scores import ClassScores, Evaluation, RegimeScores, Scores
    from trackweave.evaluation.settings import Metric, Overlap

    regimes: dict[tuple[Any, ...], list[str]] = {}
    for item, record in items.items():
        rule = (
            groups.get(item, ""),
            record["overlap"],
            record["protocol"],
            *record["metrics"],
            "|",
            *record["classes"],
        )
        regimes.setdefault(rule, []).append(item)
    names = [rule[0] for rule in regimes]
    found = []
    for rule, members in sorted(regimes.items(), key=lambda one: one[0]):
        first = items[members[0]]
        metrics = tuple(Metric(name) for name in first["metrics"])
        trackeval = TrackEval(metrics)
        classes = []
        for name in first["classes"]:
            scores = {member: Scores.from_counted(items[member]["classes"][name]) for member in members}
            classes.append(ClassScores(name, scores, combined(list(scores.values()), trackeval)))
        whole = [each.combined for each in classes]
        several = len(whole) > 1
        title = rule[0] if names.count(rule[0]) == 1 else f"{rule[0]} {rule[2]}".strip()
        found.append(
            RegimeScores(
                title,
                Overlap(first["overlap"]),
                str(first["protocol"]),
                metrics,
                classes,
                all_classes(whole, trackeval) if several else None,
                mean_of_classes(whole, trackeval) if several else None,
                [],
            )
        )
    return Evaluation(found)


def score_rows(scores: PlanScores) -> Iterator[tuple[str, str, int, Mapping[str, tuple[float, str]]]]:
    """Group, variant, sequences and, by name, the score and its difference to the first variant as a text."""
    for variant, evaluation in scores.by_variant.items():
        differences: dict[tuple[str, str], Mapping[str, Any]] = {}
        for each in scores.comparisons.get(variant, {}).get("comparisons", []):
            differences[each["regime"], each["class"]] = each["differences"]
        for regime in evaluation.regimes:
            for each_class in regime.classes:
                cells = {}
                known = differences.get((regime.name, each_class.name), {})
                for name in ("HOTA", "AssA", "DetA", "IDF1", "MOTA", "IDSW", "J&F", "J-Mean", "F-Mean"):
                    if name in each_class.combined:
                        cells[name] = each_class.combined[name], _difference(name, known.get(name))
                title = regime.name if len(regime.classes) == 1 else f"{regime.name} {each_class.name}".strip()
                yield title, variant, len(each_class.sequences), cells


def _difference(name: str, record: Mapping[str, Any] | None) -> str:
    """`+1.2 [0.3, 2.1]`; empty for the first variant."""
    if record is None or record.get("difference") is None:
        return ""
    unit = 1 if name == "IDSW" else 100
    text = f"{unit * record['difference']:+.1f}"
    if record["low"] is None or record["high"] is None:
        return text
    return f"{text} [{unit * record['low']:+.1f}, {unit * record['high']:+.1f}]"
