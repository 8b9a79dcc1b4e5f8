"""What is over all items: the rows lie on the disk, so that the coordinator's memory does not grow with them."""

from __future__ import annotations

import csv
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from trackweave.plans import tables
from trackweave.plans.items import PlanItem
from trackweave.plans.overview import write_overview
from trackweave.plans.settings import load_plan
from trackweave.plans.stages import FinishedItem, StageRecord
from trackweave.plans.state import PlanState
from trackweave.plans.tables import RowSpool, row_of


def finished(count: int, output: Path) -> Iterator[FinishedItem]:
    """Items of which every third failed and the others have more warnings the later they come."""
    for n in range(count):
        facts = {"frames": 25, "size": [720, 1280], "tracks": 4, "boxes": 100, "warnings": {"cut": n}}
        track = StageRecord("track", "k" * 16, 1.0, 1.0, 100.0 + n, facts, is_reused=True)
        if n % 3 == 2:
            track = StageRecord("track", "k", kind="input", message=f"clip{n}: \udcff")
        name = f"clip{n:05d}"
        yield FinishedItem(name, "runs", output / "runs" / name, {"track": track}, is_reused=True)


def test_rows_on_the_disk_are_those_of_the_items(tmp_path: Path) -> None:
    expected = [row_of(one, tmp_path) for one in finished(7, tmp_path)]
    with RowSpool(finished(7, tmp_path), tmp_path) as rows:
        assert list(rows) == list(rows) == expected
        assert list(rows.by_attention()) == sorted(expected, key=lambda row: -row.attention)
    assert not list(tmp_path.iterdir())


def peak_of_overview(count: int, output: Path) -> int:
    """Bytes of Python while everything over so many items is written."""
    output.mkdir()
    plan = load_plan({"name": "p", "kind": "boxes", "inputs": ["x"], "output": str(output)})
    items = [PlanItem("x", {"input": "x"})]
    with PlanState(output, "p", "boxes") as state:
        tracemalloc.start()
        try:
            write_overview(plan, items, state, finished(count, output))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def test_memory_does_not_grow_with_the_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PART", 40)
    peak_of_overview(5, tmp_path / "warm")
    few, many = peak_of_overview(60, tmp_path / "few"), peak_of_overview(600, tmp_path / "many")
    assert many - few < 500 * 540  # a row that is held takes 3 kB
    with (tmp_path / "many" / "items.csv").open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 600
    page = (tmp_path / "many" / "index.html").read_text()
    assert "× 200" in page
    assert "clip00002: clip2: \\udcff" in page
    assert page.index("clip00002") < page.index("clip00598") < page.index("clip00001")
