"""What a plan costs besides the work: planning and resuming many items, the state, memory, overhead per item, workers.

    python benchmarks/plans.py scale [--items 100 10000]      # a coordinator whose stages take no time
    python benchmarks/plans.py overhead [--items 24] [--frames 300]
    python benchmarks/plans.py workers [--items 16] [--frames 1500] [--kind boxes|masks] [--engine local|ray]

`scale` makes so many one-second items (a sequence folder with detections each) and works through them with an engine
that answers at once, so that what is measured is the coordinator. `overhead` compares a plan of one worker with the
same calls of `track_boxes` and `report` in a loop, both warm, in processor and wall seconds. `workers` compares two
workers with one in wall seconds from the first finished item on, over detections with `sort`, or over videos of
discs with `static`: for a machine with nothing else to do. Where others
work too the ratio is that of the shares that the system gives to two processes and to one; with `--engine ray` Ray's
own processes have their part of them. `RAY_worker_niceness=0` keeps Ray's workers from giving way to all others.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trackweave.pipelines.boxes import track_boxes
from trackweave.plans import runner
from trackweave.plans.items import digest
from trackweave.plans.runner import forecast, run
from trackweave.plans.settings import load_plan
from trackweave.plans.stages import FinishedItem, Job, StageRecord, settings_of, settings_parts, stage_keys, stages_of
from trackweave.plans.workers import Event
from trackweave.reports.page import report

INFO = "[Sequence]\nname={name}\nimDir=img1\nframeRate=25\nseqLength={frames}\nimWidth=1280\nimHeight=720\n"


def write_items(root: Path, count: int, frames: int, people: int = 4) -> None:
    """Sequence folders with detections of people who walk."""
    lines = [
        f"{t},-1,{20 + 3 * t % 1000},{20 + 150 * k},60,140,0.9" for t in range(1, frames + 1) for k in range(people)
    ]
    for n in range(count):
        folder = root / f"clip{n:05d}"
        (folder / "det").mkdir(parents=True)
        (folder / "det" / "det.txt").write_text("\n".join([*lines, f"1,-1,{n},5,60,140,0.3"]))
        (folder / "seqinfo.ini").write_text(INFO.format(name=folder.name, frames=frames))


class AtOnce:
    """An engine whose stages take no time: it says what a worker would say."""

    free, busy = 1, 0

    def __init__(self, *_: Any) -> None:
        self._events: list[Event] = []

    def submit(self, job: Job, *, alone: bool = False) -> None:
        """Is done."""
        settings = settings_of(job)
        stages = stages_of(job, settings)
        digests = {role: digest(role, text, job.item) for role, text in job.files.items()}
        facts = {"frames": 25, "size": [720, 1280], "tracks": 4, "boxes": 100, "suspected": 0, "warnings": {}}
        self._events.append(Event(job, digests=digests))
        for stage, key in stage_keys(job, stages, settings_parts(settings, job.kind, job.formats), digests).items():
            self._events.append(Event(job, record=StageRecord(stage, key, 1.0, 1.0, 100.0, facts)))
        self._events.append(Event(job, is_over=True))

    def poll(self, seconds: float) -> Sequence[Event]:
        """All of it."""
        events, self._events = self._events, []
        return events

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *exc: object) -> None: ...


def measure_scale(count: int) -> None:
    """One row of the table: in a process of its own, so that its memory is its own."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_items(root / "data", count, 25)
        content = {"name": "p", "kind": "boxes", "inputs": [f"{root}/data/*"], "output": str(root / "out")}
        cpu = time.process_time()
        plan = load_plan(content)
        due = len(forecast(plan).due)
        planned = time.process_time() - cpu
        setattr(runner, "LocalEngine", AtOnce)  # noqa: B010 - in the place of the engine
        cpu = time.process_time()
        done = sum(1 for _ in run(plan))
        worked = time.process_time() - cpu
        cpu = time.process_time()
        reused = sum(item.is_reused for item in run(plan))
        resumed = time.process_time() - cpu
        assert due == done == reused == count
        state = sum(path.stat().st_size for path in (root / "out").glob("state.sqlite*")) / 1e6
        page = (root / "out" / "index.html").stat().st_size / 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{count:>7} items: planned {planned:.2f} s, worked through {1000 * worked / count:.2f} ms an item, "
            f"nothing to do {resumed:.2f} s (processor seconds); state {state:.1f} MB, page {page:.1f} MB, "
            f"peak {peak:.0f} MiB",
            flush=True,
        )


def measure_overhead(count: int, frames: int) -> None:
    """A plan against a loop."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_items(root / "data", count + 1, frames)
        clips = sorted((root / "data").iterdir())
        warm, *rest = clips
        track_boxes(warm, root / "loop" / warm.name, tracker="sort", progress=False)
        report(root / "loop" / warm.name)
        wall, cpu = time.perf_counter(), time.process_time()
        for clip in rest:
            track_boxes(clip, root / "loop" / clip.name, tracker="sort", progress=False)
            report(root / "loop" / clip.name)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        content = {
            "name": "p",
            "kind": "boxes",
            "inputs": [f"{root}/data/*"],
            "settings": {"tracker": "sort"},
            "output": str(root / "out"),
            "engine": {"workers": 1},
        }
        ends, own, computed = list[float](), list[float](), list[float]()
        for item in run(content):
            ends.append(time.perf_counter())
            own.append(time.process_time())
            computed.append(sum(record.cpu_seconds for record in item.records.values()))
        in_plan = sum(computed[1:]) + own[-1] - own[0]
        print(
            f"{count} items of {frames} frames: loop {1000 * cpu / count:.1f} ms of processor an item, plan "
            f"{1000 * in_plan / count:.1f} ms (stages and coordinator); wall {1000 * wall / count:.1f} and "
            f"{1000 * (ends[-1] - ends[0]) / count:.1f} ms"
        )


def write_videos(root: Path, count: int, frames: int) -> None:
    """Folders of frames in which discs move, each another way."""
    for n in range(count):
        folder = root / f"clip{n:05d}"
        folder.mkdir(parents=True)
        ground = np.random.default_rng(n).integers(90, 110, (180, 320, 3), np.uint8)
        for t in range(frames):
            picture = ground.copy()
            for k in range(4):
                centre = 40 + 70 * k + (n + t) % 20, 40 + (t * (k + 1) + 7 * n) % 100
                cv2.circle(picture, centre, 14, (40 * k, 255 - 50 * k, 120), -1)
            cv2.imwrite(str(folder / f"{t:05d}.png"), picture)


def measure_workers(count: int, frames: int, kind: str, engine: str) -> None:
    """Two workers against one."""
    with tempfile.TemporaryDirectory() as folder:
        root, walls, stages, between = Path(folder), dict[int, float](), dict[int, float](), dict[int, float]()
        if kind == "boxes":
            write_items(root / "data", count, frames, people=12)
        else:
            write_videos(root / "data", count, frames)
        chosen = {"tracker": "sort"} if kind == "boxes" else {"predictor": "static"}
        for workers in (1, 2):
            content = {"kind": kind, "inputs": [f"{root}/data/*"], "settings": chosen}
            settings = {"name": engine, "workers": workers}
            more = {"name": "p", "output": str(root / f"out{workers}"), "engine": settings}
            ends, items = list[float](), list[FinishedItem]()
            for item in run({**content, **more}):
                assert item.failure is None, item.failure
                ends.append(time.perf_counter())  # the first when the workers are warm
                items.append(item)
            walls[workers] = (ends[-1] - ends[0]) / (count - workers)  # what was in hand at the first has its part done
            stages[workers] = sum(sum(one.cpu_seconds for one in item.records.values()) for item in items[workers:])
            between[workers] = 1 - sum(item.seconds for item in items[workers:]) / (ends[-1] - ends[0]) / workers
        print(
            f"{count} items of {kind} of {frames} frames, {engine}: two workers are {walls[1] / walls[2]:.2f} times "
            f"one; stages took {stages[1]:.1f} and {stages[2]:.1f} s of processor; of one and of two workers' time "
            f"{100 * between[1]:.0f} and {100 * between[2]:.0f} % are between items"
        )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["scale", "overhead", "workers"])
    parser.add_argument("--items", type=int, nargs="+")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--kind", choices=["boxes", "masks"], default="boxes", help="of `workers`")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="of `workers`")
    args = parser.parse_args()
    if args.what == "scale" and len(args.items or (0, 0)) > 1:
        for count in args.items or (100, 10_000):
            subprocess.run([sys.executable, __file__, "scale", "--items", str(count)], check=True)
    elif args.what == "scale":
        measure_scale(args.items[0])
    elif args.what == "overhead":
        measure_overhead((args.items or [24])[0], args.frames or 300)
    else:
        measure_workers((args.items or [16])[0], args.frames or 1500, args.kind, args.engine)


if __name__ == "__main__":
    main()
