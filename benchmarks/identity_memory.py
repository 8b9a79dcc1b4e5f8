"""What identities cost: a run of many tracks, related from its archives.

    python benchmarks/identity_memory.py [--frames 5000] [--tracks 2000]

Each thing of the generated run is found twice at the coarse level and has two parts at the fine one; things drift, and
are seen for 50 frames. Goals for 5 000 frames and 2 000 tracks: 60 s, 1 GB.
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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--tracks", type=int, default=2000)
    arguments = parser.parse_args()
    cost(arguments.frames, arguments.tracks)


if __name__ == "__main__":
    main()
