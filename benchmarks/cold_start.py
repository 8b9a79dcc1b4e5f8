"""What a first run costs: commands with an empty cache of machine code, and again with a filled one.

    python benchmarks/cold_start.py [--clip VIDEO] [--only TEXT]

CPU seconds of the whole process (user and system), seconds until the first character appears in a terminal, and what
compiled code adds to a first run. The inputs are the demo's clip at a third of its frames, and generated detections.
"""

from __future__ import annotations

import argparse
import os
import pty
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trackweave.cli.demo import packaged_clip


class Cost(NamedTuple):
    """Of one process: CPU seconds, seconds until its first output, exit code."""

    cpu: float
    first_output: float
    code: int


def measure(arguments: list[str], cache: Path) -> Cost:
    """Runs `trackweave` in a terminal, with these arguments and its machine code in `cache`."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "trackweave", *arguments]
    ours, terminal = pty.openpty()
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        os.read(ours, 1)
        first = time.perf_counter() - start
        with suppress(OSError):  # how Linux says that the last writer has closed a terminal
            while os.read(ours, 4096):
                pass
    os.close(ours)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, first, process.returncode)


def write_detections(path: Path, objects: int = 10, frames: int = 60) -> None:
    """MOT text of objects that move right."""
    rng = np.random.default_rng(0)
    place, speed = rng.uniform(50, 800, (objects, 2)), rng.normal(0, 3, (objects, 2))
    lines = []
    for frame in range(frames):
        for x, y in (place + frame * speed).tolist():
            lines.append(f"{frame + 1},-1,{x:.1f},{y:.1f},40,80,0.9")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=packaged_clip())
    parser.add_argument("--only", default="", help="commands whose name has this text")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_detections(folder / "det.txt")
        clip, boxes = str(arguments.clip), ["--detections", str(folder / "det.txt"), "--fps", "30", "--size", "900x900"]
        commands = {
            "`--help`": ["--help"],
            "a wrong option": ["boxes", *boxes, "--tracker", "none"],
            "`boxes` of detections": ["boxes", *boxes],
            "`boxes` with `learned`": ["boxes", *boxes, "--tracker", "learned", "--scorer", "learned"],
            "`boxes` of a video": ["boxes", clip, "--detector", "motion", "--frames", "::3"],
            "`masks`, predictor static": ["masks", clip, "--predictor", "static", "--frames", "::3"],
            "`masks`, predictor flow": ["masks", clip, "--predictor", "flow", "--frames", "::3"],
        }
        print("| command | CPU s, first run | second run | added | first output after, s |\n|---|---|---|---|---|")
        for n, (label, command) in enumerate(commands.items()):
            if arguments.only not in label:
                continue
            costs = []
            for run in range(2):
                output = [] if command == ["--help"] else ["-o", str(folder / f"{n}_{run}")]
                costs.append(measure([*command, *output], folder / f"cache_{n}"))
            cold, warm = costs
            print(
                f"| {label} | {cold.cpu:.1f} | {warm.cpu:.1f} | {cold.cpu - warm.cpu:.1f} | {cold.first_output:.2f} |"
                + (f" exit {cold.code}" if cold.code not in (0, 1, 2) else ""),
                flush=True,
            )


if __name__ == "__main__":
    main()
