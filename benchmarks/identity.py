"""What identities cost: a run of many tracks, related from its archives; and the MultiScan recording, before and after.

    python benchmarks/identity.py                          # 5 000 frames, 2 000 tracks at two levels
    python benchmarks/identity.py --run RUN                # a run of masks: tables before and after

Each thing of the generated run is found twice at the coarse level and has two parts at the fine one; things drift.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trackweave.identity.settings import IdentitySettings
from trackweave.ids import FrameIndex, Level
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.identity import write_identities
from trackweave.pipelines.run import Run, open_run
from trackweave.progress import peak_rss_mb
from trackweave.storage.mask_archive import write_video_segments
from trackweave.storage.run import RunManifest, RunPaths
from trackweave.structures.tracks import FrameObjects

SIZE = (270, 480)
LIFE = 50
"""Frames that a thing is seen."""


def generated(frames: int, tracks: int, level: int) -> Iterator[FrameObjects]:
    """One level of the generated run; half of the tracks lie in each."""
    things = tracks // 4
    rng = np.random.default_rng(0)
    start = rng.integers(0, max(frames - LIFE, 1), things)
    corner = rng.uniform(0, 1, (things, 2)) * (np.array(SIZE) - 90)
    drift = rng.uniform(-0.5, 0.5, (things, 2))
    height, width = SIZE
    for frame in range(frames):
        seen = np.flatnonzero((start <= frame) & (frame < start + LIFE))
        ids, crops, origins = [], [], []
        for thing in seen.tolist():
            top, left = np.clip(corner[thing] + drift[thing] * (frame - start[thing]), 0, np.array(SIZE) - 81)
            top, left = int(top), int(left)
            first = 1 + 2 * thing + (0 if level == 2 else 2 * things)
            crop = np.ones((80, 80), np.bool_)
            whole = ((0, crop), (2, crop[:78])) if level == 2 else ((0, crop[:38]), (42, crop[:38]))
            for k, (shift, part) in enumerate(whole):
                ids.append(first + k)
                crops.append(part)
                origins.append((top + shift, left))
        if not ids:
            continue
        masks = PackedMasks.from_crops(crops, np.array(origins), height, width)
        score = np.full(len(ids), 0.9, np.float32)
        yield FrameObjects(
            FrameIndex(frame), f"{frame}", np.array(ids), masks, masks.boxes.astype(np.float32), masks.areas, score
        )


def generate(root: Path, frames: int, tracks: int) -> RunPaths:
    """The archives of the generated run and a manifest that names them."""
    paths = RunPaths(root)
    manifest = RunManifest(paths.manifest)
    for level in (2, 4):
        path = paths.level(level).video_segments(1.0)
        path.parent.mkdir(parents=True)
        write_video_segments(
            path, generated(frames, tracks, level), mask_scale_ratio=1.0, full_resolution_shape=SIZE, metadata={}
        )
        manifest.set_level(level, {"video_segments": str(path.relative_to(root))}, {})
    manifest.write()
    return paths


def cost(frames: int, tracks: int) -> None:
    """Prints CPU seconds and memory of the generated run."""
    with tempfile.TemporaryDirectory() as folder:
        write_identities(generate(Path(folder) / "small", 20, 40), [Level(2), Level(4)], IdentitySettings())  # compiles
        paths = generate(Path(folder) / "run", frames, tracks)
        before, started = peak_rss_mb(), time.process_time()
        record = write_identities(paths, [Level(2), Level(4)], IdentitySettings(), lambda *_: None)
        seconds = time.process_time() - started
    assert record is not None
    print(f"{frames} frames, {len(record.table)} tracks: {len(record.tree)} things in {seconds:.1f} CPU seconds")
    print(f"peak memory {peak_rss_mb():.0f} MB, before it {before:.0f} MB")


def compare(run: Run) -> None:
    """Prints what identities make of a run of masks."""
    print("| level | | tracks | pairs with IoU > 0.5 | pixels in two or more | object-frames | covered |")
    print("|---|---|---|---|---|---|---|")
    for level in run.levels:
        rows = []
        for raw in (True, False):
            shared: dict[tuple[int, int], int] = {}
            area: dict[int, int] = {}
            union = doubled = object_frames = 0
            with run.masks(level, raw=raw) as video:
                covers = {}
                for objects in video:
                    seen = objects.masks.to_bool()
                    count = seen.sum(axis=0)
                    covers[objects.frame] = count > 0
                    union += int((count > 0).sum())
                    doubled += int((count > 1).sum())
                    object_frames += len(objects)
                    for a, one in enumerate(objects.track_id.tolist()):
                        area[one] = area.get(one, 0) + int(objects.area[a])
                        for b in range(a):
                            both = (int(objects.track_id[b]), one)
                            shared[both] = shared.get(both, 0) + int((seen[a] & seen[b]).sum())
            pairs = sum(both / (area[a] + area[b] - both) > 0.5 for (a, b), both in shared.items())
            rows.append((len(area), pairs, doubled / max(union, 1), object_frames, covers))
        before, after = rows[0][4], rows[1][4]
        kept = sum(int((before[k] & after[k]).sum()) for k in after) / sum(int(one.sum()) for one in before.values())
        for name, row, covered in (("raw", rows[0], 1.0), ("identity", rows[1], kept)):
            print(f"| {level} | {name} | {row[0]} | {row[1]} | {row[2]:.1%} | {row[3]} | {covered:.1%} |")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--tracks", type=int, default=2000)
    parser.add_argument("--run", type=Path)
    arguments = parser.parse_args()
    if arguments.run is not None:
        compare(open_run(arguments.run))
    else:
        cost(arguments.frames, arguments.tracks)


if __name__ == "__main__":
    main()
