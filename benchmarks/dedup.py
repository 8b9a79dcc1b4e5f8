"""Deduplication: 150 candidates against 200 stored masks at 640×480, against plain numpy in the same run.

    python benchmarks/dedup.py [--runs 5]

Both sides answer the same question, is a candidate's best IoU above 0.6, from what they would hold in practice: packed
masks here, bool arrays there. The decisions must agree.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from trackweave.ids import FrameIndex
from trackweave.masks.packed import PackedMasks
from trackweave.tracking.stores import DedupStore

HEIGHT, WIDTH, CANDIDATES, STORED, THRESHOLD = 480, 640, 150, 200, 0.6


def blobs(rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
    """Ellipses as a segmenter's output has them: many small, a few that fill a third of the frame."""
    rows, cols = np.ogrid[:HEIGHT, :WIDTH]
    masks = np.zeros((count, HEIGHT, WIDTH), np.bool_)
    for mask in masks:
        y, x = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH)
        radius = np.exp(rng.uniform(np.log(8), np.log(160)))
        squeeze = rng.uniform(0.4, 1)
        mask[:] = ((rows - y) / radius) ** 2 + ((cols - x) / (radius * squeeze)) ** 2 <= 1
    return masks


def plain(candidates: NDArray[np.bool_], stored: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The straightforward implementation: every pair, every pixel."""
    seen = np.zeros(len(candidates), np.bool_)
    for n, candidate in enumerate(candidates):
        for mask in stored:
            union = np.logical_or(candidate, mask).sum()
            if union and np.logical_and(candidate, mask).sum() / union > THRESHOLD:
                seen[n] = True
                break
    return seen


def exhaustive(candidates: NDArray[np.bool_], stored: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same without leaving early, as a matrix of IoUs would be made."""
    best = np.zeros(len(candidates))
    for n, candidate in enumerate(candidates):
        for mask in stored:
            union = np.logical_or(candidate, mask).sum()
            best[n] = max(best[n], np.logical_and(candidate, mask).sum() / max(union, 1))
    return best > THRESHOLD


def packed(candidates: PackedMasks, store: DedupStore) -> NDArray[np.bool_]:
    """What trackweave does; areas and boxes are computed anew, as for masks just read."""
    fresh = PackedMasks(candidates.bits, HEIGHT, WIDTH)
    return np.asarray(store.coverage(FrameIndex(0), fresh).iou > THRESHOLD)


def one_at_a_time(candidates: PackedMasks, store: DedupStore) -> NDArray[np.bool_]:
    """The same as the guide's callers ask it, mask by mask."""
    fresh = [PackedMasks(mask.bits, HEIGHT, WIDTH) for mask in candidates]
    return np.array([store.seen_packed(mask, THRESHOLD, 0) for mask in fresh])


def main() -> None:
    """Prints one Markdown row per implementation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    rng = np.random.default_rng(0)
    stored = blobs(rng, STORED)
    candidates = blobs(rng, CANDIDATES)
    candidates[::3] = stored[: len(candidates[::3])]  # a third are duplicates

    store = DedupStore()
    for n, mask in enumerate(PackedMasks.from_bool(stored)):
        store.add_packed(0, n + 1, mask)
    small = PackedMasks.from_bool(candidates)
    packed(small, store)  # compiles or loads the kernels

    times: dict[str, list[float]] = {"packed": [], "single": [], "plain": [], "exhaustive": []}
    for _ in range(runs):
        started = time.process_time()
        ours = packed(small, store)
        times["packed"].append(time.process_time() - started)
        started = time.process_time()
        singly = one_at_a_time(small, store)
        times["single"].append(time.process_time() - started)
        if not np.array_equal(ours, singly):
            raise SystemExit("decisions differ between all at once and one at a time")
    for name, reference in (("plain", plain), ("exhaustive", exhaustive)):
        started = time.process_time()
        theirs = reference(candidates, stored)
        times[name].append(time.process_time() - started)
        if not np.array_equal(ours, theirs):
            raise SystemExit(f"decisions differ from {name}")
    own, single = float(np.median(times["packed"])), float(np.median(times["single"]))
    print(f"{CANDIDATES} candidates, {STORED} stored masks, {WIDTH}×{HEIGHT}: {int(ours.sum())} are duplicates for all")
    print("| implementation | CPU ms | ratio |\n|---|---|---|")
    print(f"| trackweave, packed words under box overlap | {own * 1e3:.1f} | 1 |")
    print(f"| the same, one mask at a time (`seen_packed`) | {single * 1e3:.1f} | {single / own:.1f} |")
    print(
        f"| numpy bool, leaves at the first duplicate | {times['plain'][0] * 1e3:.0f} | {times['plain'][0] / own:.0f} |"
    )
    print(f"| numpy bool, every pair | {times['exhaustive'][0] * 1e3:.0f} | {times['exhaustive'][0] / own:.0f} |")


if __name__ == "__main__":
    main()
