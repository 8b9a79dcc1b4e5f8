"""Two made scenes that public sequences lack: classes that flicker, small objects that move farther than their size.

    python benchmarks/box_scenes.py [--tracker adaptive learned …] [--seeds 3]

Flicker: three vehicles (120 × 80 pixels, two cars and a truck) cross a street for 200 frames, boxes jittered by 2 %,
one in ten missing, one in ten reported under both classes; the given share of boxes has the other class. Cells are
identities / identity switches; 3 / 0 is right. Fast: a box of 12 pixels flies straight for 20 frames, jittered by half
a pixel. Cells are identities / boxes reported; 1 / 20 is right. Of the seeds the worst.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from trackweave.mot.settings import PRESETS
from trackweave.mot.tracker import Tracker
from trackweave.structures.detections import Detections

SIZE = (1080, 1920)
SHARES = (0.05, 0.1, 0.3)
SPEEDS = (8, 12, 16, 24, 32, 40, 60)
CLASSES = np.array([2, 7, 2])
OTHER = {2: 7, 7: 2}
TWICE = 0.1
"""Share of boxes that are reported under both classes."""


def flicker(share: float, seed: int) -> Iterator[tuple[Detections, list[int]]]:
    """Each frame's detections, and the vehicle that each shows."""
    rng = np.random.default_rng(seed)
    for frame in range(200):
        corner = np.array([[50 + 8 * frame, 150], [1750 - 7 * frame, 400], [900, 50 + 4 * frame]], np.float64)
        boxes = np.hstack([corner, corner + np.array([120, 80])]) + rng.normal(0, 0.02, (3, 4)) * [120, 80, 120, 80]
        there = [n for n in range(3) if rng.random() > 0.1]
        named = np.where(rng.random(3) < share, [OTHER[c] for c in CLASSES], CLASSES)
        twice = [n for n in there if rng.random() < TWICE]
        classes = [*named[there], *(OTHER[int(named[n])] for n in twice)]
        scores = [*rng.uniform(0.8, 0.95, len(there)), *rng.uniform(0.3, 0.8, len(twice))]
        shown = there + twice
        yield Detections.of(boxes[shown] + rng.normal(0, 0.5, (len(shown), 4)), scores, classes), shown


def flicker_cell(tracker: str, share: float, seeds: int) -> str:
    """Identities / identity switches."""
    worst = (0, 0)
    for seed in range(seeds):
        running, last, switches, ids = Tracker(tracker, size=SIZE), dict[int, int](), 0, set[int]()
        for detections, vehicles in flicker(share, seed):
            tracked = running.update(detections)
            assert tracked.track_id is not None
            assert tracked.index is not None
            for track, row in zip(tracked.track_id.tolist(), tracked.index.tolist(), strict=True):
                switches += last.get(vehicles[row], track) != track
                last[vehicles[row]] = track
                ids.add(track)
        worst = max(worst, (len(ids), switches))
    return f"{worst[0]} / {worst[1]}"


def fast_cell(tracker: str, speed: float, seeds: int) -> str:
    """Identities / boxes reported."""
    worst = (0, 0)
    for seed in range(seeds):
        rng, running = np.random.default_rng(seed), Tracker(tracker, size=SIZE)
        ids: list[int] = []
        for frame in range(20):
            x = 60 + speed * frame
            boxes = np.array([[x, 300, x + 12, 312]]) + rng.normal(0, 0.5, (1, 4))
            tracked = running.update(Detections.of(boxes, [0.9]))
            assert tracked.track_id is not None
            ids += tracked.track_id.tolist()
        worst = max(worst, (len(set(ids)), -len(ids)))
    return f"{worst[0]} / {-worst[1]}"


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracker", nargs="+", choices=tuple(PRESETS), default=list(PRESETS))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    header = ["", *(f"{share:.0%} flicker" for share in SHARES), *(f"{speed} px" for speed in SPEEDS)]
    print("| " + " | ".join(header) + " |", "|---" * len(header) + "|", sep="\n")
    for tracker in args.tracker:
        cells = [flicker_cell(tracker, share, args.seeds) for share in SHARES]
        cells += [fast_cell(tracker, speed, args.seeds) for speed in SPEEDS]
        print(f"| `{tracker}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
