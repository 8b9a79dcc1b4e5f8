"""What a newcomer waits for: from a checkout on a bare machine to the page of the demo.

    python benchmarks/first_minute.py [CHECKOUT ...]

Each checkout (without one this one) is cloned, so that nothing is there but what git has; then its environment is made
and `make demo` runs, with an empty home and an empty cache of machine code. Per step: CPU seconds of all processes,
wall seconds, megabytes on disk, and what was made. With two checkouts the last rows are the ratios of the second to
the first, in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    """What one step cost, and what it made."""

    name: str
    cpu: float
    wall: float
    megabytes: float
    made: str


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """CPU and wall seconds of a command; ends the script where it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, time.perf_counter() - start


def disk_megabytes(folder: Path) -> float:
    """What the files of a folder take, links not followed."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512 / 1e6


def measure(checkout: Path, folder: Path) -> list[Step]:
    """The steps of one checkout, cloned into a folder."""
    clone, home = folder / "clone", folder / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(checkout), str(clone)], check=True)
    # Where pip looks for packages belongs to the machine, not to the newcomer.
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment = {"PATH": os.defpath + ":/usr/local/bin", "HOME": str(home), "LANG": "C.UTF-8", **kept}
    makefile = (clone / "Makefile").read_text(encoding="utf-8")
    stamp = ".venv/.core" if ".core" in makefile else ".venv/.installed"
    cpu, wall = run(["make", stamp], clone, environment)
    packages = len(list((clone / ".venv").glob("lib/python*/site-packages/*.dist-info")))
    steps = [Step("environment", cpu, wall, disk_megabytes(clone / ".venv"), f"{packages} packages")]
    cpu, wall = run(["make", "demo"], clone, environment)
    output = clone / "runs/demo"
    totals = json.loads((output / "summary.json").read_text(encoding="utf-8"))["totals"]
    files = ", ".join(sorted(path.name for path in output.iterdir() if path.suffix in (".mp4", ".png", ".html")))
    made = f"{totals['objects']} tracks on {totals['object_frames']} object-frames; {files}"
    return [*steps, Step("demo", cpu, wall, disk_megabytes(output), made)]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    checkouts = parser.parse_args().checkouts
    print("| checkout | step | CPU s | wall s | MB | made |\n|---|---|---|---|---|---|")
    sums = []
    for checkout in checkouts:
        with tempfile.TemporaryDirectory() as name:
            steps = measure(checkout.resolve(), Path(name))
        cpu, wall = sum(step.cpu for step in steps), sum(step.wall for step in steps)
        size = sum(step.megabytes for step in steps)
        sums.append((cpu, wall, size))
        for step in (*steps, Step("both", cpu, wall, size, "")):
            print(
                f"| {checkout.resolve().name} | {step.name} | {step.cpu:.1f} | {step.wall:.0f} "
                f"| {step.megabytes:.0f} | {step.made} |",
                flush=True,
            )
    for checkout, found in zip(checkouts[1:], sums[1:], strict=True):
        ratios = " | ".join(f"{mine / first:.2f}" for mine, first in zip(found, sums[0], strict=True))
        print(f"| {checkout.resolve().name} | ratio | {ratios} | |")


if __name__ == "__main__":
    main()
