"""Precision and recall of cut detection on concatenations of sequences, and false cuts where there is none.

    python benchmarks/cuts.py --root DIR [--root DIR …] [--videos 40] [--seed 0]

Each DIR holds one folder per sequence with images somewhere below it. Videos of five shots are cut together from random
pieces of 8 to 24 frames, some with every second or third frame left in, so that motion is fast. Without a cut: all
sequences whole, every second and third frame of them, and with flashes of one to three frames. Peers: FFmpeg's `scdet`
at its threshold, and PySceneDetect's two detectors where `scenedetect` can be imported. Seconds are processor seconds;
frames are 480 pixels wide and in memory.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.cuts import _difference, _reduced, find_cuts
from trackweave.frames.source import RGBFrame

Video = tuple[list[RGBFrame], frozenset[int]]
Detect = Callable[[list[RGBFrame]], set[int]]


def read_sequences(roots: Sequence[Path]) -> dict[str, list[RGBFrame]]:
    """Frames 480 pixels wide, of one size."""
    sequences = {}
    for folder in (folder for root in roots for folder in sorted(root.iterdir()) if folder.is_dir()):
        files = sorted(file for file in folder.rglob("*.jpg") if "mask" not in str(file.parent))
        if len(files) > 8:
            read = (cv2.imread(str(file)) for file in files)
            small = (cv2.resize(image, (480, 270), interpolation=cv2.INTER_AREA) for image in read if image is not None)
            sequences[folder.name] = [np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8) for image in small]
    return sequences


def concatenations(sequences: dict[str, list[RGBFrame]], count: int, rng: random.Random) -> Iterator[Video]:
    """Videos of five shots, each of another sequence than the one before."""
    for _ in range(count):
        frames: list[RGBFrame] = []
        cuts, last = set(), ""
        for _ in range(5):
            last = rng.choice([name for name in sequences if name != last])
            step, length, whole = rng.choice([1, 1, 2, 3]), rng.randint(8, 24), sequences[last]
            start = rng.randrange(max(1, len(whole) - length * step))
            cuts.add(len(frames))
            frames += whole[start : start + length * step : step]
        yield frames, frozenset(cuts - {0})


def flashed(frames: list[RGBFrame], rng: random.Random) -> Video:
    """Every 17th frame and perhaps two more are brightened, some to white."""
    result = list(frames)
    for start in range(6, len(frames) - 3, 17):
        gain, offset = rng.uniform(1.3, 2.2), rng.uniform(20, 80)
        for k in range(start, start + rng.choice([1, 1, 2, 3])):
            result[k] = np.clip(frames[k] * gain + offset, 0, 255).astype(np.uint8)
    return result, frozenset()


def by_trackweave(frames: list[RGBFrame]) -> set[int]:
    """The detector of this package."""
    return set(find_cuts(ArrayFrames(np.stack(frames))))


def by_scdet(frames: list[RGBFrame]) -> set[int]:
    """FFmpeg's formula on frames 160 pixels wide, threshold 10."""
    grey = [_reduced(frame) for frame in frames]
    differences = np.array([0.0, *(_difference(a, b) for a, b in pairwise(grey))])
    score = np.minimum(differences, np.abs(np.diff(differences, prepend=0)))
    return set(np.flatnonzero(score > 10).tolist())


def by_scenedetect(name: str) -> Detect:
    """A detector of PySceneDetect at its defaults, but shots may be short."""
    from scenedetect import FrameTimecode, detectors  # type: ignore[import-not-found]

    def detect(frames: list[RGBFrame]) -> set[int]:
        detector = getattr(detectors, name)(min_scene_len=2)
        bgr = [cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) for frame in frames]
        found = [detector.process_frame(FrameTimecode(k, 30.0), frame) for k, frame in enumerate(bgr)]
        return {int(cut.frame_num) for cuts in found for cut in cuts}

    return detect


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, action="append", required=True)
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    sequences = read_sequences(arguments.root)
    whole = list(sequences.values())
    videos: dict[str, list[Video]] = {
        "concatenated": list(concatenations(sequences, arguments.videos, rng)),
        "whole": [(frames, frozenset()) for frames in whole],
        "every 2nd frame": [(frames[::2], frozenset()) for frames in whole],
        "every 3rd frame": [(frames[::3], frozenset()) for frames in whole],
        "flashes": [flashed(frames, rng) for frames in whole],
    }
    methods: dict[str, Detect] = {"trackweave": by_trackweave, "scdet": by_scdet}
    try:
        methods |= {name: by_scenedetect(name) for name in ("ContentDetector", "AdaptiveDetector")}
    except ImportError:
        print("scenedetect is not installed: left out")
    print("| method | frames | cuts | found | false | ms per frame |\n|---|---|---|---|---|---|")
    for name, detect in methods.items():
        for kind, made in videos.items():
            started, found, false = time.process_time(), 0, 0
            for frames, cuts in made:
                answer = detect(frames)
                found, false = found + len(answer & cuts), false + len(answer - cuts)
            count = sum(len(frames) for frames, _ in made)
            cost, true = 1000 * (time.process_time() - started) / count, sum(len(cuts) for _, cuts in made)
            print(f"| {name} | {kind}, {count} | {true} | {found} | {false} | {cost:.2f} |", flush=True)


if __name__ == "__main__":
    main()
