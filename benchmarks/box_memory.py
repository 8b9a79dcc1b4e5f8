"""Memory of the box tracker over an endless stream.

    python benchmarks/box_memory.py [--frames 2000 20000 200000] [--objects 30]

The stream: 1920×1080, constant velocity with bounces, 2 % box noise, 10 % misses. Each object lives 300 frames on
average and is followed by another one elsewhere; every 500 frames a gap of up to 60 frames has no detections, so that
all tracks are lost in some. First boxes alone; then, up to 20 000 frames, with diagnostics and appearance memory
(embeddings of width 64); the diagnostics remember their newest 1 000 events, so they fill up first; then `track_boxes`
on a video file of 640×360, up to 20 000 frames, whose frames are read to find cuts. Each length runs in a process of
its own. The figure is the highest resident set, looked at after every tenth frame, over that before the stream, when
all is imported and compiled; read from psutil.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import psutil
from numpy.typing import NDArray

from trackweave import track_boxes
from trackweave.frames.cuts import CutDetector
from trackweave.frames.source import RGBFrame
from trackweave.mot.settings import TrackerSettings, preset
from trackweave.mot.tracker import Tracker, compile_loops
from trackweave.structures.detections import Detections
from trackweave.visualization.video import Mp4Writer

SIZE = np.array([1920, 1080])
LIFE, EVERY, LONGEST_GAP, MISSES, NOISE = 300, 500, 60, 0.1, 0.02
WIDTH, MOST_WITH_EMBEDDINGS, LOOK_EVERY, WARM_UP = 64, 20_000, 10, 300
MIB = 2**20

Column = NDArray[np.float64]


class Measured(NamedTuple):
    """One run."""

    frames: int
    empty: int
    tracks: int
    growth_mib: float
    ms_per_frame: float


def stream(objects: int, width: int, seed: int) -> Iterator[Detections]:
    """Frames without end."""
    rng = np.random.default_rng(seed)
    size, place, speed, look = newcomers(rng, objects, width)
    gap = 0
    for frame in range(10**9):
        gone = rng.random(objects) < 1 / LIFE
        for old, new in zip((size, place, speed, look), newcomers(rng, int(gone.sum()), width), strict=True):
            old[gone] = new
        place += speed
        speed[(place < size / 2) | (place > SIZE - size / 2)] *= -1
        np.clip(place, size / 2, SIZE - size / 2, out=place)
        if frame % EVERY == EVERY - 1:
            gap = int(rng.integers(1, LONGEST_GAP + 1))
        if gap:
            gap -= 1
            yield Detections.empty()
            continue
        seen = rng.random(objects) > MISSES
        boxes = np.concatenate([place - size / 2, place + size / 2], axis=1)
        boxes += rng.normal(0, NOISE, boxes.shape) * np.tile(size, 2)
        yield Detections.of(boxes[seen], rng.uniform(0.3, 1, int(seen.sum())), embedding=described(rng, look, seen))


def newcomers(rng: np.random.Generator, count: int, width: int) -> tuple[Column, ...]:
    """Size, centre, speed and appearance of new objects."""
    size = rng.uniform([30, 60], [90, 200], (count, 2))
    place = rng.uniform(size / 2, SIZE - size / 2)
    return size, place, rng.normal(0, 4, (count, 2)), rng.standard_normal((count, width))


def described(rng: np.random.Generator, look: Column, seen: NDArray[np.bool_]) -> Column | None:
    """Embeddings of unit length, or None at width 0."""
    if not look.shape[1]:
        return None
    noisy = look[seen] + rng.normal(0, 0.3, look[seen].shape)
    return np.asarray(noisy / np.linalg.norm(noisy, axis=1, keepdims=True))


def measure(settings: TrackerSettings, frames: int, objects: int, width: int) -> Measured:
    """One stream through a tracker."""
    process = psutil.Process()
    warm_up = Tracker(settings, size=(1080, 1920))
    for frame, found in zip(range(WARM_UP), stream(objects, width, seed=1), strict=False):
        warm_up.update(found, frame)
    del warm_up
    gc.collect()
    tracker = Tracker(settings, size=(1080, 1920))
    base = peak = process.memory_info().rss
    empty, started = 0, time.process_time()
    for frame, found in zip(range(frames), stream(objects, width, seed=0), strict=False):
        tracker.update(found, frame)
        empty += not len(found)
        if frame % LOOK_EVERY == 0:
            peak = max(peak, process.memory_info().rss)
    seconds = time.process_time() - started
    return Measured(frames, empty, tracker.summary.tracks, (peak - base) / MIB, 1e3 * seconds / frames)


def measure_video(frames: int) -> Measured:
    """One box in a video file."""
    process, sizes = psutil.Process(), list[int]()
    update = CutDetector.update

    def looked_at(detector: CutDetector, image: RGBFrame) -> bool:
        sizes.append(process.memory_info().rss)
        return update(detector, image)

    with tempfile.TemporaryDirectory() as name, patch.object(CutDetector, "update", looked_at):
        video, boxes = Path(name) / "long.mp4", Path(name) / "det.txt"
        image = np.tile(np.arange(640, dtype=np.uint8)[:, None], (360, 1, 3))
        with Mp4Writer(video, 25) as writer:
            for k in range(frames):
                writer.write(np.ascontiguousarray(np.roll(image, k, 1)))
        boxes.write_text("".join(f"{k + 1},-1,10,10,20,50,0.9\n" for k in range(frames)), encoding="utf-8")
        compile_loops()
        base, started = process.memory_info().rss, time.process_time()
        run = track_boxes(video, Path(name) / "run", detections=str(boxes), tracker="sort", overlay=False)
        seconds = time.process_time() - started
        return Measured(frames, 0, len(set(run.tracks().track_id)), (max(sizes) - base) / MIB, 1e3 * seconds / frames)


def in_a_process(*arguments: str) -> Measured:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    frames, empty, tracks, growth, pace = said
    return Measured(int(frames), int(empty), int(tracks), float(growth), float(pace))


def growth_line(rows: list[Measured]) -> str:
    """What a frame adds between the shortest and the longest run."""
    first, last = min(rows), max(rows)
    frames = last.frames - first.frames
    grown = (last.growth_mib - first.growth_mib) * MIB / max(frames, 1)
    return f"from {first.frames} to {last.frames} frames: {grown:.2f} bytes per frame"


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[2000, 20_000, 200_000])
    parser.add_argument("--objects", type=int, default=30)
    parser.add_argument("--child", choices=("boxes", "everything", "video"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child == "video":
        print(*measure_video(given.frames[0]))
        return
    if given.child is not None:
        full = given.child == "everything"
        settings = preset("adaptive", diagnostics=full, appearance_memory=full)
        print(*measure(settings, given.frames[0], given.objects, WIDTH if full else 0))
        return
    names = {
        "boxes": "boxes alone",
        "everything": f"diagnostics, appearance ({WIDTH} wide)",
        "video": "a video file, 640×360",
    }
    print("| | frames | of them empty | tracks begun | peak RSS over base, MiB | ms per frame, stream included |")
    print("|---|---|---|---|---|---|", flush=True)
    lines = []
    for child, name in names.items():
        rows = []
        for frames in sorted({n if child == "boxes" else min(n, MOST_WITH_EMBEDDINGS) for n in given.frames}):
            row = in_a_process("--child", child, "--frames", str(frames), "--objects", str(given.objects))
            rows.append(row)
            cells = (name, row.frames, row.empty, row.tracks, f"{row.growth_mib:.2f}", f"{row.ms_per_frame:.3f}")
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        lines.append(f"{name}, {growth_line(rows)}")
    print("", *lines, sep="\n")


if __name__ == "__main__":
    main()
