"""`trackweave run`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.plans.toy import box_plan, write_sequence


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    for name in ("c1", "c2"):
        write_sequence(tmp_path / "data" / name)
    path = tmp_path / "toy.yaml"
    path.write_text(json.dumps(box_plan(tmp_path / "data", tmp_path / "out", matrix={"tracker": ["sort"]})))
    return path


def test_from_a_dry_run_to_the_page(shell: Shell, plan: Path, tmp_path: Path) -> None:
    said = shell("run", plan, "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "toy: 2 items × 1 variants: sort",
        "stages: detect → track → evaluate → report",
        f"  sort: tracker.preset = sort (plan {plan}: matrix)",
        "to do: c1",
        "to do: c2",
        "0 done, 0 failed before, 2 to do",
        "no estimate: nothing of it has finished before (--limit 1 tries one)",
    ]
    (tmp_path / "data" / "c2" / "det" / "det.txt").write_text("no,number\n")
    said = shell("run", plan)
    assert said.code == 1
    lines = said.out.splitlines()
    assert lines[0] == "toy: 1 finished, 0 were finished, 1 failed"
    assert lines[1].startswith("track failed: input: ")
    assert lines[-1] == f"page: {tmp_path / 'out' / 'index.html'}"
    assert said.err.splitlines()[0] == "2 items: 2 to do"
    assert any(line.startswith("c1 (sort): 12 frames, 3 tracks") for line in said.err.splitlines())

    said = shell("run", plan, "--json")
    assert said.code == 1
    assert [json.loads(line)["event"] for line in said.out.splitlines()] == ["planned", "ended"]
    assert "--retry-failed" in shell("run", plan).err


def test_a_dry_run_says_what_items_have_of_their_own(shell: Shell, tmp_path: Path) -> None:
    table = tmp_path / "items.csv"
    table.write_text("input,tracker\na.txt,ocsort\nb.txt,\n")
    plan = tmp_path / "own.yaml"
    plan.write_text(json.dumps(box_plan(tmp_path, tmp_path / "out") | {"inputs": [{"table": str(table)}]}))
    said = shell("run", plan, "--dry-run")
    assert said.out.splitlines()[3:6] == [
        "to do: a",
        f"  a: tracker.preset = ocsort ({table}, row 1)",
        "to do: b",
    ]


def test_what_is_wrong_is_one_line(shell: Shell, plan: Path, tmp_path: Path) -> None:
    said = shell("run", plan, "--set", "tracker.presett=sort")
    assert (said.code, said.out) == (2, "")
    assert said.err == "error: flag --set: there is no setting tracker.presett; did you mean tracker.preset?\n"
    said = shell("run", tmp_path / "gone.yaml")
    assert (said.code, said.err.count("\n")) == (1, 1)
    said = shell("run", plan, "--only", "x*", "--dry-run")
    assert said.err == "error: --only: no item is called x*\n"
    assert said.code == 2
