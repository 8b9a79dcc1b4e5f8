"""From predictor output to archive at 640×480, against the design that rewrites a growing JSON.

    python benchmarks/archive.py [--frames 8] [--batches 27] [--objects 6]

A frame is reached by many prompt batches; with 60 candidate frames and a reach of 30 frames each way it is about 27.
trackweave packs the logits, appends the rows to a scratch file and writes each frame once, at the end. Another design,
common in pipelines of this kind, packs each mask, encodes it in base64, and keeps one JSON per frame that every batch
reads, extends and writes again; at the end the JSON files are put into a zip that is named `.npz`. Both start from the
same float32 logits at frame size and both end with one file. CPU time of the whole process, one core.
"""

from __future__ import annotations

import argparse
import base64
import json
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.ids import FrameIndex
from trackweave.masks.packed import PackedMasks
from trackweave.structures.tracks import FrameObjects
from trackweave.tracking.outputs import build_object_segments_archive, build_video_segments_archive
from trackweave.tracking.stores import FrameResultStore

HEIGHT, WIDTH = 480, 640
Logits = NDArray[np.float32]


def make_logits(rng: np.random.Generator, objects: int) -> Logits:
    """Smooth blobs around the threshold, as mask decoders give them."""
    rows, cols = np.ogrid[:HEIGHT, :WIDTH]
    out = np.empty((objects, HEIGHT, WIDTH), np.float32)
    for plane in out:
        y, x, radius = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH), rng.uniform(10, 120)
        plane[:] = 4 - 4 * np.hypot(rows - y, cols - x) / radius
    return out


def ours(batches: list[list[Logits]], folder: Path) -> int:
    """Logits → packed masks → scratch file → both archives; returns bytes."""
    with FrameResultStore(folder) as store:
        for batch, by_frame in enumerate(batches):
            for frame, logits in enumerate(by_frame):
                masks = PackedMasks.from_logits(logits)
                ids = np.arange(len(masks)) + 1 + batch * len(masks)
                scores = np.ones(len(masks), np.float32)
                boxes = masks.boxes.astype(np.float32)
                store.update(frame, "", FrameObjects(FrameIndex(frame), "", ids, masks, boxes, masks.areas, scores))
        video = build_video_segments_archive(store.iter_frames(), folder / "video_segments.npz")
        build_object_segments_archive(store.object_references(), folder / "object_segments.npz")
    return video.stat().st_size


def rewriting(batches: list[list[Logits]], folder: Path) -> int:
    """One JSON per frame, read, extended and rewritten by every batch; zipped at the end; returns bytes."""
    for batch, by_frame in enumerate(batches):
        for frame, logits in enumerate(by_frame):
            path = folder / f"frame_{frame:05d}.json"
            content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"objects": {}}
            for k, plane in enumerate(logits):
                bits = np.packbits((plane > 0).reshape(-1))
                content["objects"][str(1 + k + batch * len(logits))] = {
                    "packed_bits_b64": base64.b64encode(bits.tobytes()).decode("ascii"),
                    "shape": [HEIGHT, WIDTH],
                }
            path.write_text(json.dumps(content))
    target = folder / "video_segments.npz"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.glob("frame_*.json")):
            archive.write(path, path.name)
    return target.stat().st_size


def main() -> None:
    """Prints one Markdown row per design."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batches", type=int, default=27)
    parser.add_argument("--objects", type=int, default=6)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    pool = [make_logits(rng, given.objects) for _ in range(16)]
    batches = [[pool[(b + f) % len(pool)] for f in range(given.frames)] for b in range(given.batches)]
    object_frames = given.frames * given.batches * given.objects
    measured = []
    for run in (ours, rewriting):
        with tempfile.TemporaryDirectory() as folder:
            if run is ours:
                ours([batches[0]], Path(folder))  # compiles or loads the kernels
            started = time.process_time()
            size = run(batches, Path(folder))
            measured.append((time.process_time() - started, size))
    print(f"{given.frames} frames × {given.batches} batches × {given.objects} objects = {object_frames} object-frames")
    print("| design | CPU ms per object-frame | ratio | archive MB |\n|---|---|---|---|")
    for name, (seconds, size) in zip(("trackweave", "rewritten base64 JSON"), measured, strict=True):
        ratio = seconds / measured[0][0]
        print(f"| {name} | {seconds / object_frames * 1e3:.3f} | {ratio:.1f} | {size / 1e6:.2f} |")


if __name__ == "__main__":
    main()
