"""What logging association samples costs: 30 tracks × 30 detections with embeddings of width 256.

    python benchmarks/sample_logging.py [--frames 1000] [--rate 100] [--folder DIR]

First the real tracker with and without a logger. Then a stand-in for the tracker makes one state after the other and
shows it to the logger. It works for some time per frame before, in small numpy calls under the interpreter's lock, so
that the two threads compete for it as in a tracker. Without any work the writer is the slower one, the queue runs full,
the tracker waits:
the wall time is then what a sample costs the writer.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trackweave.association.data_collection import SampleLogger
from trackweave.ids import FrameIndex
from trackweave.storage.sample_folder import MANIFEST_NAME, read_sample_manifest
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections

TRACKS = DETECTIONS = 30
WIDTH = 256


def make_state(rng: np.random.Generator) -> AssignmentState:
    """A frame of random boxes; the embeddings are as dense as a network's."""
    corner = rng.uniform(0, 800, (TRACKS, 2))
    boxes = np.hstack([corner, corner + rng.uniform(20, 200, (TRACKS, 2))]).astype(np.float32)
    ids = np.arange(TRACKS, dtype=np.int64)
    return AssignmentState(
        frame=FrameIndex(0),
        time=None,
        size=(1080, 1920),
        track_ids=ids,
        track_boxes=boxes,
        track_velocity=rng.normal(0, 2, (TRACKS, 2)).astype(np.float32),
        track_age=rng.integers(1, 500, TRACKS),
        track_gap=np.ones(TRACKS, np.int64),
        track_score=rng.random(TRACKS, np.float32),
        track_visibility=rng.random(TRACKS, np.float32),
        track_class=np.zeros(TRACKS, np.int64),
        track_embeddings=rng.standard_normal((TRACKS, WIDTH)).astype(np.float32),
        detections=Detections.of(
            boxes, rng.random(DETECTIONS), embedding=rng.standard_normal((DETECTIONS, WIDTH)), visibility=None
        ),
        det_displacement=rng.normal(0, 2, (DETECTIONS, 2)).astype(np.float32),
        cost=rng.random((TRACKS, DETECTIONS), np.float32),
        allowed=rng.random((TRACKS, DETECTIONS)) < 0.2,
        assigned_track_ids=rng.permutation(ids),
    )


def busy(milliseconds: float) -> Callable[[], None]:
    """Work of about this many milliseconds, small numpy calls under the interpreter's lock."""
    a = np.ones((30, 4), np.float32)

    def work(rounds: int) -> None:
        for _ in range(rounds):
            np.add(a, a)

    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        work(1000)
        seconds.append(time.perf_counter() - started)
    rounds = round(1000 * milliseconds / 1e3 / min(seconds))
    return lambda: work(rounds)


@dataclass(frozen=True)
class Cost:
    """Milliseconds per frame, but `close`: of closing.

    Attributes:
        wall: of the tracker's thread.
        cpu: of the tracker's thread.
        process: CPU of all threads.
        observe_cpu: of `observe`.
        observe: wall of `observe`, median.
        observe_99: wall of `observe`, 99th percentile.
        close: from `close` until everything is on disk.
        lost: samples that are not in the manifest.
    """

    wall: float
    cpu: float
    process: float
    observe_cpu: float = 0.0
    observe: float = 0.0
    observe_99: float = 0.0
    close: float = 0.0
    lost: int = 0


def run(
    states: list[AssignmentState], frames: int, rate: float | None, work: Callable[[], None], folder: str | None
) -> Cost:
    """The stand-in for the tracker, logging into a folder, or not."""
    logger = None if folder is None else SampleLogger(folder, sequence="benchmark", fps=rate)
    cpu, wall = np.zeros(frames), np.zeros(frames)
    began, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
    for frame in range(frames):
        if rate is not None:
            time.sleep(max(0.0, began + frame / rate - time.perf_counter()))
        work()
        state = replace(states[frame % len(states)], frame=FrameIndex(frame))
        t0, c0 = time.perf_counter(), time.thread_time()
        if logger is not None:
            logger.observe(state)
        cpu[frame], wall[frame] = time.thread_time() - c0, time.perf_counter() - t0
    each, own = (time.perf_counter() - began) / frames, (time.thread_time() - thread) / frames
    closing = time.perf_counter()
    if logger is not None:
        logger.close()
    closed = time.perf_counter() - closing
    total = (time.process_time() - process) / frames
    lost = 0 if folder is None else frames - len(read_sample_manifest(Path(folder) / MANIFEST_NAME).entries)
    seconds = (each, own, total, cpu.mean(), np.median(wall), np.percentile(wall, 99), closed)
    each, own, total, observe_cpu, median, slow, closed = (1e3 * float(value) for value in seconds)
    return Cost(each, own, total, observe_cpu, median, slow, closed, lost)


def track(given: list[Detections], frames: int, rate: float | None, folder: str | None) -> tuple[Cost, Cost]:
    """The real tracker with appearance, logging or not: the whole of `update`, and what is not `observe`."""
    from trackweave.mot.settings import preset
    from trackweave.mot.tracker import Tracker, compile_loops

    compile_loops()
    logger = None if folder is None else SampleLogger(folder, sequence="benchmark", fps=rate, size=(1080, 1920))
    tracker = Tracker(preset("adaptive", appearance_memory=True), observer=logger)
    cpu, wall = np.zeros(frames), np.zeros(frames)
    began = time.perf_counter()
    process = time.process_time()
    for frame in range(frames):
        if rate is not None:
            time.sleep(max(0.0, began + frame / rate - time.perf_counter()))
        t0, c0 = time.perf_counter(), time.thread_time()
        tracker.update(given[frame % len(given)], frame)
        cpu[frame], wall[frame] = time.thread_time() - c0, time.perf_counter() - t0
    closing = time.perf_counter()
    written = frames
    if logger is not None:
        logger.close()
        written = logger.observed
    closed = time.perf_counter() - closing
    total = (time.process_time() - process) / frames
    stored = 0 if folder is None else len(read_sample_manifest(Path(folder) / MANIFEST_NAME).entries)
    lost = 0 if folder is None else written - stored
    whole = Cost(1e3 * float(wall.mean()), 1e3 * float(cpu.mean()), 1e3 * total, close=1e3 * closed, lost=lost)
    typical = Cost(1e3 * float(np.median(wall)), 1e3 * float(np.median(cpu)), 0.0)
    return whole, typical


def real_tracker(frames: int, rates: tuple[float | None, ...], repeats: int, parent: str) -> None:
    """Prints what logging adds to the real tracker, 30 objects that drift and are seen on every frame."""
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, [1700, 900], (TRACKS, 2))
    appearance = rng.standard_normal((TRACKS, WIDTH))
    given = []
    for frame in range(64):
        moved = corner + 2 * min(frame, 64 - frame) + rng.normal(0, 1, corner.shape)
        boxes = np.hstack([moved, moved + np.array([50, 120])])
        embedding = appearance + rng.normal(0, 0.3, appearance.shape)
        given.append(Detections.of(boxes, np.full(TRACKS, 0.9), embedding=embedding, visibility=np.ones(TRACKS)))
    print("\nThe real tracker with appearance memory: milliseconds per frame on its thread, and of all threads")
    print(
        "| rate | CPU alone | CPU logging | added | wall alone | wall logging | added | all CPU added | close | lost |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for rate in rates:
        count = frames if rate is None else min(frames, round(10 * rate))
        plain = [track(given, count, rate, None) for _ in range(repeats)]
        logged = [track(given, count, rate, tempfile.mkdtemp(dir=parent)) for _ in range(repeats)]
        a, b = (min(runs, key=lambda pair: pair[0].cpu)[0] for runs in (plain, logged))
        print(
            f"| {'unpaced' if rate is None else f'{rate:g}/s'} | {a.cpu:.3f} | {b.cpu:.3f} | {b.cpu - a.cpu:.3f} | "
            f"{a.wall:.3f} | {b.wall:.3f} | {b.wall - a.wall:.3f} | {b.process - a.process:.3f} | {b.close:.0f} | "
            f"{sum(whole.lost for whole, _ in logged)} |"
        )


def main() -> None:
    """Prints one Markdown row per way of running: the best of several repeats, with logging against without."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where to write; the file system counts, a new file may cost 5 µs or 700 µs")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    states = [make_state(rng) for _ in range(16)]
    one, five = busy(1.0), busy(5.0)
    ways = (
        (f"paced {given.rate:g}/s, 1 ms", given.rate, one),
        ("unpaced, no work", None, lambda: None),
        ("unpaced, 1 ms", None, one),
        ("unpaced, 5 ms", None, five),
    )
    # Removed only at the end of all: a file system may be slow to create files just after thousands were deleted.
    with tempfile.TemporaryDirectory(dir=given.folder) as parent:
        run(states, 50, None, lambda: None, tempfile.mkdtemp(dir=parent))
        real_tracker(3 * given.frames, (30.0, given.rate, None), given.repeats, parent)
        print("\nA stand-in: milliseconds per frame; *added* = with logging − without")
        print(
            "| tracker | alone | observe CPU | observe | 99 % | added thread CPU | added wall | added process CPU "
            "| close | lost |\n|---|---|---|---|---|---|---|---|---|---|"
        )
        for name, rate, work in ways:
            frames = given.frames if rate is None else min(given.frames, 200)
            plain, logged = [], []
            for _ in range(given.repeats):
                plain.append(run(states, frames, rate, work, None))
                logged.append(run(states, frames, rate, work, tempfile.mkdtemp(dir=parent)))
            a, b = min(plain, key=lambda cost: cost.wall), min(logged, key=lambda cost: cost.wall)
            wall = "-" if rate is not None else f"{b.wall - a.wall:.3f}"
            print(
                f"| {name} | {a.wall:.2f} | {b.observe_cpu:.3f} | {b.observe:.3f} | {b.observe_99:.3f} | "
                f"{b.cpu - a.cpu:.3f} | {wall} | {b.process - a.process:.3f} | {b.close:.0f} | "
                f"{sum(cost.lost for cost in logged)} |"
            )


if __name__ == "__main__":
    main()
