"""Damaged inputs for every reader of a file that may come from a stranger: `make fuzz`.

Each must end in a value or in an error of `trackweave.errors`. A fault is written to `build/fuzz/READER/SEED-NUMBER`
with the command that replays it. What is damaged how follows from the seed alone.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.faults.pool import Outcome, Task, Verdict, damaged, good_inputs, read_once, run_tasks, write_files
from tests.faults.readers import Reader, chosen, make_inputs

FOUND = Path("build/fuzz")


def tasks_of(readers: Sequence[Reader], count: int, seed: int, *, bytes_only: bool = False) -> Iterator[Task]:
    """So many inputs, shared out over the readers, in turns so that a run that is ended early has some of each."""
    total = sum(reader.share for reader in readers)
    left = {reader.name: max(1, round(count * reader.share / total)) for reader in readers}
    number = dict.fromkeys(left, 0)
    while left:
        for name in list(left):
            block = min(left[name], 50)
            for _ in range(block):
                yield Task(name, number[name], seed, bytes_only)
                number[name] += 1
            left[name] -= block
            if not left[name]:
                del left[name]


def fuzz(
    readers: Sequence[Reader],
    count: int,
    seed: int,
    workers: int,
    *,
    bytes_only: bool = False,
    longest: float = math.inf,
) -> list[Outcome]:
    """Reads so many damaged inputs, or as many as `longest` seconds allow; the outcomes."""
    with tempfile.TemporaryDirectory(prefix="trackweave-inputs-") as scratch:
        root = Path(scratch) / "inputs"
        make_inputs(readers, root)
        outcomes = []
        started = shown = time.monotonic()
        for outcome in run_tasks(tasks_of(readers, count, seed, bytes_only=bytes_only), root, workers):
            outcomes.append(outcome)
            if outcome.is_fault:
                keep(outcome, root)
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                faults = sum(each.is_fault for each in outcomes)
                print(f"{len(outcomes)} inputs, {faults} faults, {shown - started:.0f} s", file=sys.stderr, flush=True)
            if time.monotonic() - started > longest:
                break
        return outcomes


def keep(outcome: Outcome, root: Path) -> Path:
    """Writes the input of a fault to where it can be replayed from."""
    task = outcome.task
    folder = FOUND / task.reader / f"{task.seed}-{task.number}{'-bytes' * task.bytes_only}"
    shutil.rmtree(folder, ignore_errors=True)
    write_files(damaged(good_inputs(root, task.reader), task), folder / "in")
    command = f"python -m tests.faults.fuzz --replay '{folder}'"
    (folder / "fault.txt").write_text(f"{outcome.verdict}: {outcome.place}\n{command}\n\n{outcome.detail}\n")
    return folder


def replay(folder: Path) -> int:
    """Reads one kept input again; the exit code is 1 where it still is a fault."""
    reader = folder.parent.name
    size = sum(path.stat().st_size for path in (folder / "in").rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(folder / "in", Path(scratch) / "in")
        verdict, place, detail, seconds, growth = read_once(reader, Path(scratch) / "in", size)
    print(f"{verdict}: {place} ({seconds:.2f} s, {growth >> 20} MiB)\n{detail}")
    return int(verdict not in ("accepted", "refused", "os error"))


COLUMNS: tuple[Verdict, ...] = (
    "accepted",
    "refused",
    "os error",
    "other",
    "memory",
    "hang",
    "crash",
    "not finite",
    "escape",
    "message",
)


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for each reader, in Markdown; the last one is their sum."""
    rows: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        rows[outcome.task.reader].append(outcome)
    lines = [
        f"| reader | inputs | {' | '.join(COLUMNS)} | slowest | most memory |",
        f"|---|{'--:|' * (len(COLUMNS) + 3)}",
    ]
    for name, row in (*rows.items(), ("**all**", list(outcomes))):
        counts = Counter(outcome.verdict for outcome in row)
        cells = [name, f"{len(row):,}", *(f"{counts[column]:,}" for column in COLUMNS)]
        cells += [f"{max(each.seconds for each in row):.1f} s", f"{max(each.growth for each in row) >> 20} MiB"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def faults_by_place(outcomes: Sequence[Outcome]) -> str:
    """How often which fault, the most frequent first, with one input of each."""
    places: dict[tuple[str, str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.is_fault:
            places[outcome.task.reader, outcome.verdict, outcome.place].append(outcome)
    ordered = sorted(places.items(), key=lambda item: -len(item[1]))
    return "\n".join(
        f"{len(found):5d}  {reader} #{found[0].task.number}: {verdict}: {place}"
        for (reader, verdict, place), found in ordered
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", help="names as in the table; all without one")
    parser.add_argument("--count", type=int, default=100_000, help="inputs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so long, with what was read by then")
    parser.add_argument("--bytes", action="store_true", help="damaged bytes only")
    parser.add_argument("--replay", type=Path, metavar="DIR", help="read one kept input again")
    options = parser.parse_args()
    if options.replay:
        return replay(options.replay)
    started = time.monotonic()
    limits: dict[str, Any] = {"bytes_only": options.bytes, "longest": options.seconds}
    outcomes = fuzz(chosen(options.readers), options.count, options.seed, options.workers, **limits)
    faults = sum(outcome.is_fault for outcome in outcomes)
    print(f"\n{table(outcomes)}\n\n{faults_by_place(outcomes)}\n")
    print(f"{len(outcomes):,} inputs, {faults} faults, {time.monotonic() - started:.0f} s")
    print(f"{sum(outcome.seconds for outcome in outcomes):.0f} processor seconds of reading")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
