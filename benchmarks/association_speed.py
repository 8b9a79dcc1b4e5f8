"""What a learned scorer adds to a frame, and how fast its training is.

    python benchmarks/association_speed.py [--objects 30 100] [--frames 200]

Objects walk through a picture of 1920 × 1080 as in `box_speed`; the tracker runs with and without the package's scorer,
in the gates of the preset `learned`. Milliseconds are CPU time of one thread, the median over frames. Training: batches
of 16 such frames, data path and step, frames per second of CPU time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trackweave.association.dataset import store_of
from trackweave.association.scorer import LearnedScorer
from trackweave.mot.settings import preset
from trackweave.mot.state import AssociationScorer
from trackweave.mot.tracker import ByteTracker
from trackweave.structures.detections import Detections

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the sibling is found when this is started as a file

from benchmarks.training_rounds import Watcher

SIZE = (1080, 1920)
WARM_UP = 30


def crowd(objects: int, frames: int) -> list[Detections]:
    """People who walk straight and turn back at the edges; a tenth is missed on each frame."""
    rng = np.random.default_rng(0)
    place, speed = rng.uniform((60, 120), (1860, 960), (objects, 2)), rng.normal(0, 4, (objects, 2))
    height = rng.uniform(60, 200, objects)
    made = []
    for _ in range(frames):
        place += speed
        speed = np.where((place < 60) | (place > (1860, 960)), -speed, speed)
        size = np.stack([0.4 * height, height], axis=1) * rng.normal(1, 0.02, (objects, 2))
        low = place + rng.normal(0, 0.02, (objects, 2)) * size - size / 2
        seen = rng.random(objects) > 0.1
        boxes = np.concatenate([low, low + size], axis=1)[seen]
        made.append(Detections.of(boxes, rng.uniform(0.6, 1, len(boxes)), visibility=np.ones(len(boxes))))
    return made


def frame_time(found: Sequence[Detections], scorer: AssociationScorer | None) -> tuple[float, Watcher]:
    """Median milliseconds of a frame."""
    watcher = Watcher()
    tracker = ByteTracker(preset("learned"), frame_rate=30, size=SIZE, scorer=scorer, observer=watcher)
    taken = []
    for frame, detections in enumerate(found):
        began = time.thread_time()
        tracker.update(frame, detections)
        taken.append(time.thread_time() - began)
    return 1e3 * float(np.median(taken[WARM_UP:])), watcher


def training_speed(watcher: Watcher) -> float:
    """Frames per second of data path and step."""
    import torch

    from trackweave.association.models.associator import Associator
    from trackweave.association.training.batches import make_batch
    from trackweave.association.training.metrics import association_loss
    from trackweave.association.training.settings import AugmentSettings

    torch.set_num_threads(1)
    store = store_of((("crowd", state, None) for state in watcher.states), {})
    model = Associator()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    rng = np.random.default_rng(0)
    frames = rng.permutation(len(store))[: len(store) // 16 * 16].reshape(-1, 16)
    taken = []
    for chosen in frames:
        began = time.thread_time()
        batch, _ = make_batch(store, chosen, torch.device("cpu"), AugmentSettings(), rng)
        loss = association_loss(model(*batch.inputs), batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        taken.append(time.thread_time() - began)
    return 16 / float(np.median(taken[1:]))


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[30, 100])
    parser.add_argument("--frames", type=int, default=200)
    given = parser.parse_args()
    print("| objects | pairs in the gates | tracker, ms | with the scorer, ms | it adds, ms | training, frames/s |")
    print("|--:|--:|--:|--:|--:|--:|")
    for objects in given.objects:
        found = crowd(objects, given.frames)
        plain, _ = frame_time(found, None)
        judged, watcher = frame_time(found, LearnedScorer())
        pairs = np.mean([state.allowed.sum() for state in watcher.states])
        speed = training_speed(watcher)
        print(f"| {objects} | {pairs:.0f} | {plain:.2f} | {judged:.2f} | {judged - plain:.2f} | {speed:.0f} |")


if __name__ == "__main__":
    main()
