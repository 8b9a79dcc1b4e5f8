"""What a newcomer waits for: from a checkout on a bare machine to the page of the demo.

    python benchmarks/first_minute.py [CHECKOUT ...]
    python benchmarks/first_minute.py --davis ROOT [--rule]

Each checkout (without one this one) is cloned, so that nothing is there but what git has; then its environment is made
and `make demo` runs, with an empty home and an empty cache of machine code. Per step: CPU seconds of all processes,
wall seconds, megabytes on disk, and what was made. With two checkouts the last rows are the ratios of the second to
the first, in one run.

With `--davis`, README's example instead: `track_masks` on a clip of 240 frames at 480×270 in five shots, made from
sequences of DAVIS-2016 in `ROOT/SEQUENCE/frames`, by this checkout: CPU seconds, tracks of each shot, and across a cut.
With `--rule` nothing is tracked: on how many frames of each shot the generator runs, and how many candidates it leaves
to compare, by the rule as it is and with one of its three numbers changed.
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
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import cv2
import numpy as np

from trackweave.frames.open import open_frames
from trackweave.ids import Level
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.proposing import propose
from trackweave.proposals import schedule
from trackweave.storage.candidates import filtered_path
from trackweave.visualization.video import Mp4Writer


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


SHOTS = {"bear": 50, "soccerball": 48, "dance-jump": 50, "stroller": 50, "motorbike": 42}
"""DAVIS sequence → how many of its frames a shot has."""


def write_clip(root: Path, path: Path) -> None:
    """The shots one after the other, 480×270, 24 frames per second."""
    with Mp4Writer(path, 24) as writer:
        for sequence, count in SHOTS.items():
            with open_frames(root / sequence / "frames") as frames:
                for k in range(count):
                    writer.write(np.asarray(cv2.resize(frames[k], (480, 270), interpolation=cv2.INTER_AREA), np.uint8))


def measure_example(root: Path, folder: Path) -> None:
    """Prints what README's example costs on the clip, and what it finds."""
    write_clip(root, folder / "clip.mp4")
    start = time.process_time()
    run = track_masks(folder / "clip.mp4", folder / "run", levels=[2])
    cpu = time.process_time() - start
    ends = np.cumsum(list(SHOTS.values()))
    tracks = run.summary.levels[Level(2)].tracks
    first, last = (
        [int(np.searchsorted(ends, frame, "right")) for frame in frames]
        for frames in zip(*((track.first, track.last) for track in tracks), strict=True)
    )
    shots = ", ".join(str(first.count(shot)) for shot in range(len(ends)))
    across = sum(a != b for a, b in zip(first, last, strict=True))
    print("| CPU s | tracks of each shot | tracks across a cut |\n|---|---|---|")
    print(f"| {cpu:.1f} | {shots} | {across} |")


RULE = {"NEW_SHARE": (0.05, 0.2, 0.4), "MIN_NEW": (0.25, 0.75), "MIN_GAP": (1, 15)}
"""Numbers of the rule by which the generator runs again, and their neighbours."""


def measure_rule(root: Path, folder: Path) -> None:
    """Prints what the generator does on the clip by the rule and by its neighbours."""
    write_clip(root, folder / "clip.mp4")
    print("| rule | CPU s | frames looked at, by shot | candidates |\n|---|---|---|---|")
    changes = [("as it is", "", 0.0), *((f"{name} {value}", name, value) for name in RULE for value in RULE[name])]
    for n, (label, name, value) in enumerate(changes):
        with ExitStack() as stack:
            if name:
                stack.enter_context(patch.object(schedule, name, value))
            start = time.process_time()
            found = propose(folder / "clip.mp4", folder / str(n), levels=[2], progress=False)
            cpu = time.process_time() - start
        frames = json.loads(filtered_path(found / "level_2").read_text(encoding="utf-8"))["frames"]
        ends = np.cumsum(list(SHOTS.values()))
        shots = np.bincount(np.searchsorted(ends, [each["frame_idx"] for each in frames], "right"), minlength=len(ends))
        candidates = sum(each["count"] for each in frames)
        print(f"| {label} | {cpu:.1f} | {', '.join(map(str, shots))} | {candidates} |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    parser.add_argument("--davis", type=Path, metavar="ROOT")
    parser.add_argument("--rule", action="store_true", help="with --davis: the generator's rule and its neighbours")
    arguments = parser.parse_args()
    if arguments.davis is not None:
        with tempfile.TemporaryDirectory() as name:
            (measure_rule if arguments.rule else measure_example)(arguments.davis, Path(name))
        return
    checkouts = arguments.checkouts
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
