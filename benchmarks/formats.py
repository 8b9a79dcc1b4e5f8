"""How long exports take, and how much memory: 100 objects on 5 000 frames of 640×480.

    python benchmarks/formats.py [--objects 100] [--frames 5000] [--only csv,cvat,coco:polygons]

Each format is written in a process of its own from objects that are made as they are asked for; what making them takes
is measured there and subtracted. `FORMAT:SHAPES` writes other shapes than the format's usual ones. Beside it
pycocotools encodes the same masks, the least that a JSON export of masks by other software has to do.
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
from pycocotools.mask import encode

from trackweave.formats.registry import FORMATS, write_video
from trackweave.ids import FrameIndex
from trackweave.masks.packed import PackedMasks
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracked_video import TrackedVideo, VideoInfo
from trackweave.structures.tracks import Tracks

HEIGHT, WIDTH = 480, 640
TEXTS = (
    *(
        "mot",
        "kitti",
        "mots",
        "cvat",
        "cvat:masks",
        "label-studio",
        "labelme",
        "labelme:masks",
        "yolo",
        "yolo:polygons",
    ),
    *("coco-vid", "coco", "coco:polygons", "tao", "ytvis", "burst", "sav", "fiftyone"),
    *("csv", "parquet", "arrow", "npz"),
)


class Moving(TrackedVideo):
    """Blobs on circles; a frame is made when it is asked for.

    Args:
        objects: how many.
        frames: of the video.

    Attributes:
        making: processor seconds that making the objects took.
    """

    def __init__(self, objects: int, frames: int) -> None:
        rng = np.random.default_rng(0)
        names = [f"{frame:06d}.jpg" for frame in range(frames)]
        self.making = 0.0
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
            start = time.process_time()
            turn = self._turns + frame / 30
            origins = (
                np.round(self._centres + 50 * np.stack([np.sin(turn), np.cos(turn)], axis=1)).astype(np.int64) - 32
            )
            masks = PackedMasks.from_crops(self._shapes, origins, HEIGHT, WIDTH) if with_masks else None
            boxes = self._boxes + origins[:, [1, 0, 1, 0]]
            tracks = Tracks.from_columns(np.full(n, frame), self._ids, boxes, None, np.ones(n), masks)
            self.making += time.process_time() - start
            yield FrameIndex(int(frame)), tracks


def _box(shape: NDArray[np.bool_]) -> tuple[int, ...]:
    """xyxy of a shape in its own square."""
    y, x = np.nonzero(shape)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def measure(name: str, objects: int, frames: int) -> None:
    """CPU seconds, those of making the objects, peak memory in MB, and MB written, of one export in this process."""
    video = Moving(objects, frames)
    kind, _, shapes = name.partition(":")
    settings = FormatSettings.checked(shapes=shapes or "auto")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tracks"
        if kind in FORMATS:  # what is loaded or compiled once
            write_video(Moving(2, 2), Path(folder) / "warm", FORMATS[kind], settings, RunLog(package=None))
        start = time.process_time()
        if kind in FORMATS:
            write_video(video, path, FORMATS[kind], settings, RunLog(package=None))
        for _, tracks in video.frames() if kind == "pycocotools" else ():
            assert tracks.masks is not None
            for mask in tracks.masks:
                encode(np.asfortranarray(mask.to_bool()[0].view(np.uint8)))
        seconds = time.process_time() - start
        written = sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(seconds, video.making, peak / 1024, written / 1e6)


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
    print(
        "| format | frames | CPU s | µs per object and frame | peak MB | MB written |\n|---|--:|--:|--:|--:|--:|",
        flush=True,
    )
    for name in options.only.split(","):
        size = ["--objects", str(options.objects), "--frames", str(options.frames)]
        command = [sys.executable, __file__, "--measure", name, *size]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        seconds, making, peak, written = map(float, answer)
        each = 1e6 * (seconds - making) / (options.objects * options.frames)
        figures = f"{options.frames} | {seconds - making:.1f} | {each:.1f} | {peak:.0f} | {written:.1f}"
        print(f"| {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
