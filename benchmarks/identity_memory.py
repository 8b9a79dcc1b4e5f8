"""What identities cost: a run of many tracks, related from its archives.

    python benchmarks/identity_memory.py [--frames 5000] [--tracks 2000] [--stitch]

Each thing of the generated run is found twice at the coarse level and has two parts at the fine one; things drift, and
are seen for 50 frames. Goals for 5 000 frames and 2 000 tracks: 60 s, 1 GB. `--stitch` also links over gaps; the
pictures are drawn when asked for, a colour for each thing on a textured ground: no time goes into decoding.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.frames.source import FrameSource, Selection
from trackweave.identity.settings import IdentitySettings
from trackweave.ids import FrameIndex, Level
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.identity import write_identities
from trackweave.pipelines.stitching import MaskStitcher
from trackweave.progress import peak_rss_mb
from trackweave.storage.identity import IdentityRecord
from trackweave.storage.mask_archive import write_video_segments
from trackweave.storage.run import RunManifest, RunPaths
from trackweave.structures.tracks import FrameObjects

SIZE = (270, 480)
LEVELS = (Level(2), Level(4))
LIFE = 50
"""Frames that a thing is seen."""


class Things:
    """Where the things of the generated run are.

    Args:
        frames: of the run.
        tracks: of both levels, four of each thing.
    """

    def __init__(self, frames: int, tracks: int) -> None:
        rng = np.random.default_rng(0)
        self.frames, self.count = frames, tracks // 4
        self._start = rng.integers(0, max(frames - LIFE, 1), self.count)
        self._corner = rng.uniform(0, 1, (self.count, 2)) * (np.array(SIZE) - 90)
        self._drift = rng.uniform(-0.5, 0.5, (self.count, 2))
        self.colours = rng.integers(0, 256, (self.count, 3), np.uint8)

    def at(self, frame: int) -> list[tuple[int, int, int]]:
        """Thing, top and left of those that are seen."""
        seen = np.flatnonzero((self._start <= frame) & (frame < self._start + LIFE))
        age = frame - self._start[seen, None]
        corner = np.clip(self._corner[seen] + self._drift[seen] * age, 0, np.array(SIZE) - 81).astype(np.int64)
        return list(zip(seen.tolist(), *corner.T.tolist(), strict=True))


class DrawnFrames(FrameSource):
    """The pictures of the generated run."""

    path = None

    def __init__(self, things: Things) -> None:
        self._things = things
        self._ground = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)

    def __len__(self) -> int:
        return self._things.frames

    def __getitem__(self, local: int) -> NDArray[np.uint8]:
        image = self._ground.copy()
        for thing, top, left in self._things.at(local):
            image[top : top + 80, left : left + 80] = self._things.colours[thing]
        return image

    @property
    def size(self) -> tuple[int, int]:
        return SIZE

    @property
    def indices(self) -> Sequence[FrameIndex]:
        return [FrameIndex(frame) for frame in range(len(self))]

    @property
    def names(self) -> Sequence[str]:
        return [f"{frame}" for frame in range(len(self))]

    @property
    def times(self) -> Sequence[float]:
        return [frame / 30 for frame in range(len(self))]

    def select(self, positions: Sequence[int]) -> FrameSource:
        return Selection(self, positions)


def generated(things: Things, level: int) -> Iterator[FrameObjects]:
    """One level of the generated run; half of the tracks lie in each."""
    height, width = SIZE
    for frame in range(things.frames):
        ids, crops, origins = [], [], []
        for thing, top, left in things.at(frame):
            first = 1 + 2 * thing + (0 if level == 2 else 2 * things.count)
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


def generate(root: Path, things: Things) -> RunPaths:
    """The archives of the generated run and a manifest that names them."""
    paths = RunPaths(root)
    manifest = RunManifest(paths.manifest)
    for level in LEVELS:
        path = paths.level(level).video_segments(1.0)
        path.parent.mkdir(parents=True)
        write_video_segments(
            path, generated(things, level), mask_scale_ratio=1.0, full_resolution_shape=SIZE, metadata={}
        )
        manifest.set_level(level, {"video_segments": str(path.relative_to(root))}, {})
    manifest.write()
    return paths


def cost(frames: int, tracks: int, *, stitch: bool) -> None:
    """Prints CPU seconds and memory of the generated run."""
    settings = IdentitySettings(stitch=stitch)

    def relate(root: Path, things: Things) -> tuple[IdentityRecord, float]:
        paths = generate(root, things)
        started = time.process_time()
        stitcher = MaskStitcher(DrawnFrames(things)) if stitch else None
        record = write_identities(paths, LEVELS, settings, lambda *_: None, stitcher)
        assert record is not None
        return record, time.process_time() - started

    with tempfile.TemporaryDirectory() as folder:
        relate(Path(folder) / "small", Things(120, 40))  # compiles, loads the model
        before = peak_rss_mb()
        record, seconds = relate(Path(folder) / "run", Things(frames, tracks))
    links = sum(link.kind == "stitch" for link in record.table.links)
    print(f"{frames} frames, {len(record.table)} tracks: {len(record.tree)} things in {seconds:.1f} CPU seconds")
    print(f"peak memory {peak_rss_mb():.0f} MB, before it {before:.0f} MB; {links} links over gaps")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--tracks", type=int, default=2000)
    parser.add_argument("--stitch", action="store_true", help="link over gaps, too")
    arguments = parser.parse_args()
    cost(arguments.frames, arguments.tracks, stitch=arguments.stitch)


if __name__ == "__main__":
    main()
