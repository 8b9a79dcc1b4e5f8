"""How long exports take, and how much memory: 100 objects on 5 000 frames of 640×480.

    python benchmarks/formats.py [--objects 100] [--frames 5000] [--only csv,cvat]

Each format is written in a process of its own from objects that are made as they are asked for; what making them takes,
with masks ("nothing") or without ("boxes alone"), is measured alone and subtracted. Beside it pycocotools encodes the
same masks, the least that a JSON export of masks by other software has to do.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.formats.registry import FORMATS, write_video
from trackweave.ids import FrameIndex
from trackweave.masks.packed import PackedMasks
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracked_video import TrackedVideo, VideoInfo
from trackweave.structures.tracks import Tracks

HEIGHT, WIDTH = 480, 640
TEXTS = (
    *("mot", "kitti", "mots", "cvat", "label-studio", "yolo", "coco-vid", "coco", "tao", "ytvis", "burst", "sav"),
    *("csv", "parquet", "arrow", "npz"),
)


class Moving(TrackedVideo):
    """Blobs on circles; a frame is made when it is asked for.

    Args:
        objects: how many.
        frames: of the video.
    """

    def __init__(self, objects: int, frames: int) -> None:
        rng = np.random.default_rng(0)
        names = [f"{frame:06d}.jpg" for frame in range(frames)]
        self.info = VideoInfo("moving", range(frames), names, (HEIGHT, WIDTH), None, 30, {1: "thing"})
        y, x = np.mgrid[-32:33, -32:33]
        angle = np.arctan2(y, x)
        self._shapes = [
            np.hypot(y, x) <= radius * (1 + 0.2 * np.sin(k * angle))
            for radius, k in zip(rng.uniform(12, 25, objects), rng.integers(2, 7, objects), strict=True)
        ]
        self._centres, self._turns = (
            rng.uniform([90, 90], [HEIGHT - 90, WIDTH - 90], (objects, 2)),
            rng.uniform(0, 6, objects),
        )
        self._ids = np.arange(1, objects + 1)
        self._boxes = np.array([_box(shape) for shape in self._shapes])

    def frames(self, *, with_masks: bool = True) -> Iterator[tuple[FrameIndex, Tracks]]:
        """Every frame."""
        n = len(self._ids)
        for frame in self.info.indices:
            turn = self._turns + frame / 30
            origins = (
                np.round(self._centres + 50 * np.stack([np.sin(turn), np.cos(turn)], axis=1)).astype(np.int64) - 32
            )
            masks = PackedMasks.from_crops(self._shapes, origins, HEIGHT, WIDTH) if with_masks else None
            boxes = self._boxes + origins[:, [1, 0, 1, 0]]
            yield (
                FrameIndex(int(frame)),
                Tracks.from_columns(np.full(n, frame), self._ids, boxes, None, np.ones(n), masks),
            )


def _box(shape: NDArray[np.bool_]) -> tuple[int, ...]:
    """xyxy of a shape in its own square."""
    y, x = np.nonzero(shape)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def measure(name: str, objects: int, frames: int) -> None:
    """CPU seconds and peak memory of one export in this process."""
    video = Moving(objects, frames)
    next(video.frames())  # compiled
    with tempfile.TemporaryDirectory() as folder:
        write_video(
            Moving(2, 2), Path(folder) / "warm", FORMATS[name], log=RunLog(package=None)
        ) if name in FORMATS else None
        start = time.process_time()
        if name in ("nothing", "boxes alone"):
            for _ in video.frames(with_masks=name == "nothing"):
                pass
        elif name == "pycocotools":
            from pycocotools import mask as coco

            for _, tracks in video.frames():
                assert tracks.masks is not None
                for mask in tracks.masks:
                    coco.encode(np.asfortranarray(mask.to_bool()[0].view(np.uint8)))
        else:
            write_video(video, Path(folder) / "tracks", FORMATS[name], log=RunLog(package=None))
        seconds = time.process_time() - start
    print(f"{seconds:.3f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--only", default=",".join(("pycocotools", *TEXTS)))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.objects, options.frames)
        return
    making: dict[str, float] = {}
    print("| format | CPU s | µs per object and frame | peak MB |\n|---|---|---|---|")
    for name in ("nothing", "boxes alone", *options.only.split(",")):
        command = [
            sys.executable,
            __file__,
            "--measure",
            name,
            "--objects",
            str(options.objects),
            "--frames",
            str(options.frames),
        ]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        seconds, peak = float(answer[0]), float(answer[1])
        if name in ("nothing", "boxes alone"):
            making[name], own = seconds, seconds
        else:
            own = seconds - making["nothing" if name not in FORMATS or FORMATS[name].masks else "boxes alone"]
        print(f"| {name} | {own:.1f} | {1e6 * own / (options.objects * options.frames):.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
