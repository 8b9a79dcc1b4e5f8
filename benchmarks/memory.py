"""Peak memory against the length of the video: 100 objects on every frame at 640×480.

    python benchmarks/memory.py [--frames 500 5000]

A scripted predictor moves 100 masks at next to no cost; everything else is the real run: candidates on disk every 100th
frame, deduplication, archives, report figures. Each length runs in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.source import FrameSource
from trackweave.ids import LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.masks import track_masks
from trackweave.predictors.base import FramePrediction, frame_range
from trackweave.predictors.static import StaticSession
from trackweave.progress import peak_rss_mb
from trackweave.storage.candidates import write_filtered
from trackweave.structures.candidates import Candidates
from trackweave.tracking.settings import TrackingSettings

HEIGHT, WIDTH, OBJECTS, CANDIDATE_EVERY, PHASES = 480, 640, 100, 100, 16


def masks_at(frame: int) -> PackedMasks:
    """100 ellipses that swing about their places."""
    rows, cols = np.ogrid[:HEIGHT, :WIDTH]
    planes = np.zeros((OBJECTS, HEIGHT, WIDTH), np.bool_)
    for k, plane in enumerate(planes):
        y, x = 24 + 48 * (k // 10), 32 + 64 * (k % 10)
        x += round(6 * np.sin(2 * np.pi * (frame % PHASES) / PHASES + k))
        plane[:] = ((rows - y) / 22) ** 2 + ((cols - x) / 28) ** 2 <= 1
    return PackedMasks.from_bool(planes)


class Scripted:
    """A predictor that knows where everything is."""

    name = "scripted"

    def __init__(self) -> None:
        self.phases = [masks_at(frame) for frame in range(PHASES)]

    def open(self, frames: FrameSource) -> ScriptedSession:
        """Starts a run."""
        return ScriptedSession(len(frames), frames.size, self.phases)


class ScriptedSession(StaticSession):
    """Plays the script for the whole prompt batch."""

    def __init__(self, length: int, size: tuple[int, int], phases: list[PackedMasks]) -> None:
        super().__init__(length, size)
        self._phases = phases

    def propagate(
        self, start: int, *, reverse: bool = False, max_frames: int | None = None
    ) -> Iterator[FramePrediction]:
        """See `PredictorSession.propagate`."""
        objects = np.array(self._book.first_prompted_on(start), np.int64)
        scores = np.ones(len(objects), np.float32)
        for frame in frame_range(start, self._length, reverse, max_frames):
            yield FramePrediction(LocalIndex(frame), objects, self._phases[frame % PHASES][: len(objects)], scores)


def candidates(length: int) -> Iterator[tuple[int, str, Candidates]]:
    """The same hundred objects on every candidate frame."""
    ids, scores = np.arange(OBJECTS), np.ones(OBJECTS, np.float32)
    for frame in range(0, length, CANDIDATE_EVERY):
        masks = masks_at(frame)
        yield (
            frame,
            f"frame_{frame:06d}",
            Candidates(ids, masks.boxes.astype(np.float32), scores, masks.areas, masks),
        )


def one_run(length: int) -> None:
    """The run of one length; prints seconds, peak RSS and counts."""
    video = np.broadcast_to(np.zeros((HEIGHT, WIDTH, 3), np.uint8), (length, HEIGHT, WIDTH, 3))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_filtered(root / "candidates" / "level_2", 2, candidates(length))
        started = time.process_time()
        result = track_masks(
            ArrayFrames(video),
            root / "run",
            candidates=root / "candidates",
            predictor=Scripted(),
            settings=TrackingSettings(render_viz=False),
        )
        seconds = time.process_time() - started
        totals = result.summary.totals
        print(
            f"{length} {seconds:.1f} {peak_rss_mb() or float('nan'):.0f} {totals['objects']} {totals['object_frames']}"
        )


def main() -> None:
    """Prints one Markdown row per length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        one_run(given.child)
        return
    print("| frames | objects | object-frames | CPU ms per object-frame | peak RSS MB |\n|---|---|---|---|---|")
    for length in given.frames:
        command = [sys.executable, __file__, "--child", str(length)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        frames, seconds, peak, objects, object_frames = said
        print(f"| {frames} | {objects} | {object_frames} | {float(seconds) / int(object_frames) * 1e3:.3f} | {peak} |")


if __name__ == "__main__":
    main()
