"""From predictor output to archive at 640×480, against the design that rewrites a growing JSON.

    python benchmarks/archive.py [--frames 8]

A frame is reached by many prompt batches: by all 60 of a scan with 60 candidate frames, or by about 27 of them when
each reaches 30 frames each way.

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


SCENARIOS = {
    "unlimited reach (the default)": (60, 3),
    "reach of 30 frames": (27, 6),
}
"""Prompt batches that reach a frame, and objects in each: 60 candidate frames on a scan of 120 frames."""


def main() -> None:
    """Prints one Markdown row per scenario and design."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8)
    frames = parser.parse_args().frames
    rng = np.random.default_rng(0)
    print("| scenario | design | object-frames | CPU ms per object-frame | ratio | archive MB |")
    print("|---|---|---|---|---|---|")
    for scenario, (count, objects) in SCENARIOS.items():
        pool = [make_logits(rng, objects) for _ in range(16)]
        batches = [[pool[(b + f) % len(pool)] for f in range(frames)] for b in range(count)]
        object_frames = frames * count * objects
        with tempfile.TemporaryDirectory() as folder:
            ours([batches[0]], Path(folder))  # compiles or loads the kernels
        own = 0.0
        for design, run in (("trackweave", ours), ("rewritten base64 JSON", rewriting)):
            with tempfile.TemporaryDirectory() as folder:
                started = time.process_time()
                size = run(batches, Path(folder))
                seconds = time.process_time() - started
            own = own or seconds
            each = seconds / object_frames * 1e3
            print(f"| {scenario} | {design} | {object_frames} | {each:.3f} | {seconds / own:.1f} | {size / 1e6:.2f} |")


if __name__ == "__main__":
    main()
