"""Throughput of pure association against other trackers, in one run and on the same detections.

    python benchmarks/box_speed.py [--objects 20 100 300] [--frames 600] [--repeats 3]

The world: 1920×1080, constant velocity with bounces, 2 % box noise, 10 % misses, 15 % low scores, false positives of
5 % of the objects. Every tracker has its defaults; detections are converted to its own input type beforehand. The
figure is the median CPU time of a frame after 50 frames of warm-up, of each frame the fastest of the repeats, so that
what a busy machine adds is left out; IDF1 shows that it tracked.
Peers are measured where they are installed (`pip install pyxtrackers visiontrack-cpp ioutrack trackers
supervision==0.26.1`, best in an environment of their own together with `pip install --no-deps -e .` and
`numba pydantic scipy`); their versions are printed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.mot.settings import preset
from trackweave.mot.tracker import Tracker
from trackweave.structures.detections import Detections

WIDTH, HEIGHT, WARM_UP = 1920, 1080, 50

Frame = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Boxes xyxy `(D, 4)` and scores `(D,)`."""
Step = Callable[[Any], Any]
Contender = tuple[Callable[[Frame], Any], Step, Callable[[Any], tuple[NDArray[Any], NDArray[Any]]]]
"""Conversion of a frame (not timed), the update (timed), and (ids, boxes) of what it returned (not timed)."""


def world(objects: int, frames: int, seed: int = 0) -> tuple[list[Frame], list[NDArray[np.float64]]]:
    """Detections and true boxes of every frame."""
    rng = np.random.default_rng(seed)
    size = rng.uniform([30, 60], [90, 200], (objects, 2))
    place = rng.uniform(size / 2, np.array([WIDTH, HEIGHT]) - size / 2)
    speed = rng.normal(0, 4, (objects, 2))
    seen, truth = [], []
    for _ in range(frames):
        place = place + speed
        limit = np.array([WIDTH, HEIGHT]) - size / 2
        speed = np.where((place < size / 2) | (place > limit), -speed, speed)
        place = np.clip(place, size / 2, limit)
        boxes = np.concatenate([place - size / 2, place + size / 2], axis=1)
        truth.append(boxes)
        there = rng.random(objects) > 0.1
        noisy = (boxes + rng.normal(0, 0.02, boxes.shape) * np.tile(size, 2))[there]
        score = np.where(
            rng.random(len(noisy)) < 0.15, rng.uniform(0.1, 0.5, len(noisy)), rng.uniform(0.6, 1, len(noisy))
        )
        false = rng.poisson(0.05 * objects)
        wrong_size = rng.uniform([30, 60], [90, 200], (false, 2))
        wrong = rng.uniform(0, 1, (false, 2)) * (np.array([WIDTH, HEIGHT]) - wrong_size)
        boxes = np.concatenate([noisy, np.concatenate([wrong, wrong + wrong_size], axis=1)])
        score = np.concatenate([score, rng.uniform(0.1, 0.65, false)])
        order = rng.permutation(len(boxes))
        seen.append((boxes[order], score[order]))
    return seen, truth


def trackweave(name: str) -> Callable[[], Contender]:
    """Our tracker with one of its presets."""

    def make() -> Contender:
        tracker, frame = Tracker(preset(name)), iter(range(10**9))
        return (
            lambda seen: Detections.of(seen[0], seen[1]),
            lambda found: tracker.update(found, next(frame)),
            lambda out: (out.track_id, out.xyxy),
        )

    return make


def _five(seen: Frame) -> NDArray[np.float64]:
    return np.ascontiguousarray(np.column_stack([seen[0], seen[1]]))


def _last_is_id(out: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = np.asarray(out, np.float64).reshape(len(out), -1)
    return (rows[:, 4].astype(int), rows[:, :4]) if len(rows) else (np.zeros(0, int), np.zeros((0, 4)))


def pyxtrackers() -> Contender:
    """A Cython port."""
    return _five, importlib.import_module("pyxtrackers").BYTETracker().update, _last_is_id


def ioutrack() -> Contender:
    """Rust."""
    tracker = importlib.import_module("ioutrack").ByteTrack()
    return _five, lambda dets: tracker.update(dets, False), _last_is_id


def visiontrack() -> Contender:
    """C++ with Eigen."""
    tracker = importlib.import_module("visiontrack_cpp").ByteTracker()
    return (
        lambda seen: (np.ascontiguousarray(seen[0]), np.ascontiguousarray(seen[1])),
        lambda found: tracker.update(*found),
        lambda out: (np.asarray(out[0]), np.asarray(out[1])),
    )


def _supervision(seen: Frame) -> Any:
    detections = importlib.import_module("supervision").Detections
    return detections(
        xyxy=seen[0].astype(np.float32), confidence=seen[1].astype(np.float32), class_id=np.zeros(len(seen[0]), int)
    )


def _supervised(out: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    known = np.asarray(out.tracker_id) >= 0
    return np.asarray(out.tracker_id)[known], out.xyxy[known]


def roboflow(name: str) -> Callable[[], Contender]:
    """The package `trackers`."""

    def make() -> Contender:
        return _supervision, getattr(importlib.import_module("trackers"), name)().update, _supervised

    return make


def supervision() -> Contender:
    """The tracker that supervision had until 0.26."""
    return _supervision, importlib.import_module("supervision").ByteTrack().update_with_detections, _supervised


TRACKERS: dict[str, tuple[Callable[[], Contender], str]] = {
    "trackweave adaptive": (trackweave("adaptive"), "trackweave"),
    "trackweave bytetrack": (trackweave("bytetrack"), "trackweave"),
    "pyxtrackers BYTETracker": (pyxtrackers, "pyxtrackers"),
    "visiontrack-cpp ByteTracker": (visiontrack, "visiontrack-cpp"),
    "ioutrack ByteTrack": (ioutrack, "ioutrack"),
    "trackers ByteTrack": (roboflow("ByteTrackTracker"), "trackers"),
    "trackers OC-SORT": (roboflow("OCSORTTracker"), "trackers"),
    "supervision ByteTrack": (supervision, "supervision"),
}


def idf1(truth: list[NDArray[np.float64]], found: list[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    """Identity F1 at IoU 0.5 (Ristani et al., 2016) over the frames of `found`."""
    from trackweave.boxes import box_iou

    ids = {int(track): k for k, track in enumerate(np.unique(np.concatenate([part[0] for part in found])))}
    overlaps = np.zeros((len(truth[0]), len(ids)))
    for boxes, (tracks, tracked) in zip(truth, found, strict=False):
        if len(tracks):
            overlaps[:, [ids[int(t)] for t in tracks]] += box_iou(boxes, tracked) >= 0.5
    rows, columns = linear_sum_assignment(-overlaps)
    frames = len(found)
    return float(2 * overlaps[rows, columns].sum() / (frames * len(truth[0]) + sum(len(part[0]) for part in found)))


def measure(make: Callable[[], Contender], seen: list[Frame], limit_s: float) -> tuple[NDArray[np.float64], list[Any]]:
    """CPU seconds of each frame after the warm-up, and what came out."""
    convert, step, result = make()
    given = [convert(frame) for frame in seen]
    times, found = [], []
    begin = time.perf_counter()
    for frame in given:
        before = time.process_time()
        out = step(frame)
        times.append(time.process_time() - before)
        found.append(result(out))
        if time.perf_counter() - begin > limit_s and len(times) > 2 * WARM_UP:
            break
    return np.array(times[WARM_UP:]), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[20, 100, 300])
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds after which a slow tracker is cut short")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # peers' deprecations are not ours to show
    available = {}
    for name, (make, package) in TRACKERS.items():
        try:
            make()
            version = importlib.metadata.version(package)
        except (ImportError, AttributeError, importlib.metadata.PackageNotFoundError):
            print(f"{name}: not installed")
            continue
        available[f"{name} ({version})"] = make
    for objects in given.objects:
        seen, truth = world(objects, given.frames)
        fastest: dict[str, NDArray[np.float64]] = {}
        score: dict[str, tuple[float, int]] = {}
        for _ in range(given.repeats):
            for name, make in available.items():
                seconds, found = measure(make, seen, given.limit)
                before = fastest.get(name, seconds)
                frames = min(len(before), len(seconds))
                fastest[name] = np.minimum(before[:frames], seconds[:frames])
                score[name] = (idf1(truth, found), len(found))
        best = {name: float(np.median(seconds)) for name, seconds in fastest.items()}
        ours = next(iter(best.values()))
        print(f"\n{objects} objects{'':24} frames/s   time against ours   IDF1 (frames)")
        for name, median in best.items():
            quality, frames = score[name]
            print(f"{name:36}{1 / median:9.0f}{median / ours:14.2f}×{100 * quality:12.1f} ({frames})")


if __name__ == "__main__":
    main()
