"""`state.sqlite`: what of a plan is done, and how the rest failed; written by one coordinator alone.

It says what the records beside the runs say, in a form that ten thousand items are asked for at once. Without it
nothing is lost: every item is looked at again, and nothing that is finished is computed again.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from trackweave.errors import ArtifactError, RunFolderError
from trackweave.plans.stages import StageRecord
from trackweave.storage.files import check_version

NAME = "state.sqlite"
SCHEMA_VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS plan (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inputs (
    item TEXT NOT NULL, role TEXT NOT NULL, signature TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (item, role)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stages (
    variant TEXT NOT NULL, item TEXT NOT NULL, stage TEXT NOT NULL, key TEXT NOT NULL, kind TEXT, message TEXT NOT NULL,
    seconds REAL NOT NULL, cpu_seconds REAL NOT NULL, peak_rss_mb REAL, facts TEXT NOT NULL, finished REAL NOT NULL,
    computed INTEGER NOT NULL, peak_gpu_mb REAL, PRIMARY KEY (variant, item, stage)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    call REAL NOT NULL, finished REAL NOT NULL, variant TEXT NOT NULL, item TEXT NOT NULL, stage TEXT NOT NULL,
    key TEXT NOT NULL, kind TEXT, seconds REAL NOT NULL, cpu_seconds REAL NOT NULL, peak_rss_mb REAL, peak_gpu_mb REAL,
    scores TEXT
);
CREATE TABLE IF NOT EXISTS calls (
    started REAL NOT NULL, seconds REAL NOT NULL, finished INTEGER NOT NULL, reused INTEGER NOT NULL,
    failed INTEGER NOT NULL, version TEXT NOT NULL
);
"""


class KnownInput(NamedTuple):
    """What an item reads: sizes and times of its files, and the digest of their content."""

    signature: str
    digest: str


class HistoryRow(NamedTuple):
    """One stage of one item, whenever it was computed.

    Attributes:
        version: of trackweave, with its commit where that is known.
        call: when the call began that computed it, seconds since 1970.
        finished: when it ended.
        failure: what kind of failure it ended with; None: it is done.
        scores: name → score, of `evaluate`.
    """

    version: str | None
    call: float
    finished: float
    variant: str
    item: str
    stage: str
    key: str
    failure: str | None
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float | None
    peak_gpu_mb: float | None
    scores: Mapping[str, float]


class StageCost(NamedTuple):
    """What a stage took on average, over the items that it was computed for."""

    stage: str
    items: int
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float | None
    most_seconds: float
    peak_gpu_mb: float | None


class PlanState:
    """The state of one output folder; use it in a `with` block, in a folder that is locked.

    Args:
        folder: of the plan's output.
        name: of the plan.
        kind: masks or boxes.

    Raises:
        ArtifactError: it is damaged.
        RunFolderError: the folder holds another plan, or cannot be written.
    """

    def __init__(self, folder: Path, name: str, kind: str) -> None:
        self.path = folder / NAME
        self._call = time.time()
        with self._errors():
            self._database = sqlite3.connect(self.path, isolation_level=None)
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = NORMAL")
                self._database.executescript(TABLES)
                columns = [row[1] for row in self._database.execute("PRAGMA table_info(stages)")]
                if "peak_gpu_mb" not in columns:  # of a folder that is older
                    self._database.execute("ALTER TABLE stages ADD COLUMN peak_gpu_mb REAL")
                self._check(name, kind)
            except BaseException:
                self._database.close()
                raise

    def _check(self, name: str, kind: str) -> None:
        found = dict(self._database.execute("SELECT key, value FROM plan").fetchall())
        if not found:
            values = {"schema_version": str(SCHEMA_VERSION), "name": name, "kind": kind}
            self._database.executemany("INSERT INTO plan VALUES (?, ?)", values.items())
            return
        version = found.get("schema_version", "")
        check_version(int(version) if version.isdecimal() else version, SCHEMA_VERSION, self.path)
        if (found.get("name"), found.get("kind")) != (name, kind):
            raise RunFolderError(
                f"{self.path.parent}: holds the plan {found.get('name')} of {found.get('kind')}, not {name} of {kind}: "
                "choose another output, or give the plan its `name` back"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:  # full, read-only, locked
            raise RunFolderError(f"{self.path}: cannot be written: {error}") from error
        except sqlite3.DatabaseError as error:
            text = "remove it: what is finished is found again beside the runs"
            raise ArtifactError(f"{self.path}: the state is damaged ({error}): {text}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._database.close()

    def inputs(self, item: str) -> Mapping[str, KnownInput]:
        """Role → what is known of it."""
        with self._errors():
            rows = self._database.execute("SELECT role, signature, digest FROM inputs WHERE item = ?", (item,))
            return {role: KnownInput(signature, digest) for role, signature, digest in rows}

    def set_inputs(self, item: str, inputs: Mapping[str, KnownInput]) -> None:
        """Records what an item reads."""
        rows = [(item, role, one.signature, one.digest) for role, one in inputs.items()]
        with self._errors():
            self._database.executemany("INSERT OR REPLACE INTO inputs VALUES (?, ?, ?, ?)", rows)

    def records(self, variant: str, item: str) -> dict[str, StageRecord]:
        """Stage → its record."""
        with self._errors():
            rows = self._database.execute(
                "SELECT stage, key, seconds, cpu_seconds, peak_rss_mb, facts, kind, message, peak_gpu_mb FROM stages "
                "WHERE variant = ? AND item = ?",
                (variant, item),
            )
            return {
                stage: StageRecord(stage, key, seconds, cpu, peak, json.loads(facts), kind, message, peak_gpu_mb=gpu)
                for stage, key, seconds, cpu, peak, facts, kind, message, gpu in rows
            }

    def keep(self, variant: str, item: str, record: StageRecord) -> None:
        """Records a stage; how often it was computed is counted, not how often it was found finished."""
        now = time.time()
        row = (
            *(variant, item, record.stage, record.key, record.kind, record.message, record.seconds, record.cpu_seconds),
            *(record.peak_rss_mb, json.dumps(record.facts, ensure_ascii=True), now, int(not record.is_reused)),
            record.peak_gpu_mb,
        )
        with self._errors():
            if not record.is_reused:
                scores = record.facts.get("scores")
                self._database.execute(
                    "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(self._call, now, variant, item, record.stage, record.key, record.kind, record.seconds),
                        *(record.cpu_seconds, record.peak_rss_mb, record.peak_gpu_mb),
                        json.dumps(scores) if scores else None,
                    ),
                )
            self._database.execute(
                f"INSERT INTO stages VALUES ({', '.join('?' * len(row))}) ON CONFLICT DO UPDATE SET "
                "key = excluded.key, kind = excluded.kind, message = excluded.message, seconds = excluded.seconds, "
                "cpu_seconds = excluded.cpu_seconds, peak_rss_mb = excluded.peak_rss_mb, facts = excluded.facts, "
                "peak_gpu_mb = excluded.peak_gpu_mb, "
                "finished = excluded.finished, computed = computed + excluded.computed",
                row,
            )

    def forget(self, variant: str, item: str, stage: str) -> None:
        """Removes what is recorded of a stage."""
        with self._errors():
            self._database.execute(
                "DELETE FROM stages WHERE variant = ? AND item = ? AND stage = ?", (variant, item, stage)
            )

    def computed(self) -> dict[tuple[str, str, str], int]:
        """`(variant, item, stage)` → how often it was computed to its end."""
        with self._errors():
            rows = self._database.execute("SELECT variant, item, stage, computed FROM stages WHERE kind IS NULL")
            return {(variant, item, stage): count for variant, item, stage, count in rows}

    def costs(self) -> list[StageCost]:
        """What each stage took, by name."""
        with self._errors():
            rows = self._database.execute(
                # Pieces of an item are called ITEM@FRAMES: together they are what it costs.
                "SELECT stage, COUNT(*), AVG(seconds), AVG(cpu_seconds), MAX(rss), MAX(longest), MAX(gpu) FROM ("
                "SELECT stage, SUM(seconds) AS seconds, SUM(cpu_seconds) AS cpu_seconds, MAX(peak_rss_mb) AS rss, "
                "MAX(seconds) AS longest, MAX(peak_gpu_mb) AS gpu FROM stages WHERE kind IS NULL "
                "GROUP BY stage, variant, substr(item, 1, instr(item || '@', '@') - 1)) GROUP BY stage ORDER BY stage"
            )
            return [StageCost(*row) for row in rows]

    def history(self) -> Iterator[HistoryRow]:
        """Everything that was ever computed, in the order in which it ended."""
        query = (
            "SELECT calls.version, history.call, history.finished, variant, item, stage, key, kind, history.seconds, "
            "cpu_seconds, peak_rss_mb, peak_gpu_mb, scores FROM history LEFT JOIN calls ON calls.started = call "
            "ORDER BY history.rowid"
        )
        with self._errors():
            for row in self._database.execute(query):
                yield HistoryRow._make((*row[:-1], json.loads(row[-1]) if row[-1] else {}))

    def add_call(self, finished: int, reused: int, failed: int, version: str) -> None:
        """Records that the plan was worked through, as far as it came."""
        row = (self._call, time.time() - self._call, finished, reused, failed, version)
        with self._errors():
            self._database.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)", row)

    def calls(self) -> list[tuple[float, float, int, int, int, str]]:
        """Started, seconds, items finished, found finished and failed, version; the last 50."""
        with self._errors():
            query = "SELECT * FROM calls ORDER BY started DESC LIMIT 50"
            return [tuple(row) for row in self._database.execute(query)]
