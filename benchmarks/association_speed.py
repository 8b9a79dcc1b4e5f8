"""What the presets `adaptive` and `learned` cost a frame, and how fast a scorer's training is.

    python benchmarks/association_speed.py [--objects 30 100] [--frames 200]

Objects walk through an image of 1920 × 1080 as in `box_speed`; `learned` runs with the package's scorer.
Milliseconds are CPU time of one thread, the median over frames. Training: batches of 16 such frames, data path and
step, frames per second of CPU time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch

from trackweave.association.dataset import LabelledFrame, TrainingSet
from trackweave.association.models.associator import Associator
from trackweave.association.settings import AugmentSettings, TrainSettings
from trackweave.association.training.batches import make_batch
from trackweave.association.training.loop import Learner
from trackweave.association.training.rounds import StateRecorder
from trackweave.mot.tracker import Tracker
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections

SIZE = (1080, 1920)
WARM_UP = 30


def walkers(objects: int, frames: int) -> list[Detections]:
    """Detections of people who walk straight and turn back at the edges; a tenth is missed on each frame."""
    rng = np.random.default_rng(0)
    centre, speed = rng.uniform((60, 120), (1860, 960), (objects, 2)), rng.normal(0, 4, (objects, 2))
    height = rng.uniform(60, 200, objects)
    detections = []
    for _ in range(frames):
        centre += speed
        speed = np.where((centre < 60) | (centre > (1860, 960)), -speed, speed)
        size = np.stack([0.4 * height, height], axis=1) * rng.normal(1, 0.02, (objects, 2))
        corner = centre + rng.normal(0, 0.02, (objects, 2)) * size - size / 2
        detected = rng.random(objects) > 0.1
        boxes = np.concatenate([corner, corner + size], axis=1)[detected]
        detections.append(Detections.of(boxes, rng.uniform(0.6, 1, len(boxes)), visibility=np.ones(len(boxes))))
    return detections


def frame_time(frames: Sequence[Detections], tracker: Tracker) -> float:
    """Median milliseconds of a frame."""
    seconds = []
    for frame, detections in enumerate(frames):
        started = time.thread_time()
        tracker.update(detections, frame)
        seconds.append(time.thread_time() - started)
    return 1e3 * float(np.median(seconds[WARM_UP:]))


def states_of(frames: Sequence[Detections]) -> list[AssignmentState]:
    """What the learned tracker meets."""
    recorder = StateRecorder()
    tracker = Tracker("learned", size=SIZE, observer=recorder)
    for frame, detections in enumerate(frames):
        tracker.update(detections, frame)
    return recorder.states


def training_speed(states: Sequence[AssignmentState]) -> float:
    """Frames per second of data path and step."""
    torch.set_num_threads(1)
    data = TrainingSet.from_frames((LabelledFrame("walkers", state, None) for state in states), {})
    learner = Learner(Associator(), TrainSettings(average=0, batch_size=16))
    rng = np.random.default_rng(0)
    batches = rng.permutation(len(data))[: len(data) // 16 * 16].reshape(-1, 16)
    seconds = []
    for frames in batches:
        started = time.thread_time()
        batch, _ = make_batch(data, frames, torch.device("cpu"), AugmentSettings(), rng)
        learner.step(batch, learner.settings.lr)
        seconds.append(time.thread_time() - started)
    return 16 / float(np.median(seconds[1:]))


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[30, 100])
    parser.add_argument("--frames", type=int, default=200)
    args = parser.parse_args()
    print("| objects | pairs in the gates | `adaptive`, ms | `learned`, ms | ratio | training, frames/s |")
    print("|--:|--:|--:|--:|--:|--:|")
    for objects in args.objects:
        frames = walkers(objects, args.frames)
        plain, learned = (frame_time(frames, Tracker(name, size=SIZE)) for name in ("adaptive", "learned"))
        states = states_of(frames)
        pairs = np.mean([state.allowed.sum() for state in states])
        speed = training_speed(states)
        print(f"| {objects} | {pairs:.0f} | {plain:.2f} | {learned:.2f} | {learned / plain:.0f} | {speed:.0f} |")


if __name__ == "__main__":
    main()
