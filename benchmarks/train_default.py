"""Trains the model of association that comes with the package, on simulated crowds alone.

    python benchmarks/train_default.py --output DIR [--frames 15000 30000 45000 60000 90000] [--epochs 5 4 4 4 4]
        [--stream 22] [--seed 0] [--processes 2] [--ship]

First a round per number of frames, after Ross et al., "DAgger" (AISTATS 2011): the first model learns from what the
tracker meets by its classical cost inside the wide gates of the preset `learned`, the next ones from what it meets with
the model before in the loop, its mistakes included, and from the rounds before but the first. Then `--stream` rounds of
40,000 frames, each learned from in its own round alone. Much fresh video and few epochs: a model that sees frames more
often learns them by heart. In a share of the videos detections have embeddings, of many qualities. Nothing is read but
the simulator's settings. `--ship` puts the result into the package: an exported model, a checkpoint, a report.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from trackweave.association.dataset import SceneStore, Shown, join_stores, store_of
from trackweave.association.scorer import LearnedScorer
from trackweave.association.training.loop import BEST
from trackweave.association.training.settings import TrainSettings
from trackweave.boxes import box_iou
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.mot.settings import preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import ByteTracker
from trackweave.pipelines.samples import SEQUENCE_FRAMES, crowd
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.presets import MIXED
from trackweave.structures.detections import GT_COLUMN, Detections

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the sibling is found when this is started as a file

from benchmarks.training_rounds import MODEL, THRESHOLD, Watcher, train_in_rounds, train_on_stream

WEIGHTS = Path(__file__).resolve().parents[1] / "src" / "trackweave" / "association" / "weights"
SUPPRESSED_SHARE = 0.4
"""Of the videos, whose detector loses overlapping boxes at random."""
OVERLAPPED = 0.5
EMBEDDED_SHARE = 0.3
"""Of the videos, whose detections have embeddings."""
FRAMES, EPOCHS = (15_000, 30_000, 45_000, 60_000, 90_000), (5, 4, 4, 4, 4)
"""By round."""
STREAM, STREAM_FRAMES, STREAM_SEED = 22, 40_000, 1000
"""Rounds of the stream, frames of each, and what is added to its seed."""
PART = 20
"""Videos that a process makes at a time."""


def suppressed(found: Detections, share: float, rng: np.random.Generator) -> Detections:
    """Detections without some of those that overlap another by more than half: whichever of the two a detector's
    suppression of doubles hits, in front or behind, anew on every frame."""
    if not share or len(found) < 2:
        return found
    overlap = box_iou(found.xyxy, found.xyxy)
    np.fill_diagonal(overlap, 0)
    gone = (overlap.max(axis=1) > OVERLAPPED) & (rng.random(len(found)) < share)
    return found if gone.all() else found[~gone]


def appearance(rng: np.random.Generator) -> EmbeddingSettings | None:
    """A descriptor of some quality, in some videos."""
    if rng.random() >= EMBEDDED_SHARE:
        return None
    impostor = rng.uniform(0.1, 0.6)
    genuine = rng.uniform(impostor + 0.15, 0.95)
    return EmbeddingSettings(
        width=32,
        genuine=genuine,
        teammates=rng.uniform(impostor, genuine - 0.05),
        impostor=impostor,
        teams=int(rng.integers(1, 6)),
        occlusion=rng.uniform(0.5, 1),
    )


def simulated_states(numbers: Sequence[int], seed: int, regime: str, model: Path | None) -> Iterator[Shown]:
    """What the tracker meets in some videos."""
    scorer = None if model is None else LearnedScorer(model, threshold=THRESHOLD)
    for number in numbers:
        sequence = crowd(number, seed=seed, regime=regime, looks=appearance)
        eyes = VisibilityEstimator("occlusion", min_occluder_score=0.1)
        watcher = Watcher()
        if scorer is not None:
            scorer.reset()
        tracker = ByteTracker(
            preset("learned", appearance_memory=True),
            frame_rate=sequence.fps,
            size=sequence.size,
            scorer=scorer,
            observer=watcher,
        )
        rng = np.random.default_rng([seed, len(sequence), sequence.seed])
        lost = float(rng.uniform(0.2, 0.7)) if rng.random() < SUPPRESSED_SHARE else 0.0
        for frame, moment, camera, every in sequence:
            detections = suppressed(every, lost, rng)
            seen = eyes.estimate(detections, size=sequence.size).visibility
            tracker.update(FrameContext(frame, moment, camera), replace(detections, visibility=seen))
        for state in watcher.states:
            yield sequence.name, state, state.detections.data[GT_COLUMN]


def part(numbers: Sequence[int], seed: int, regime: str, model: Path | None) -> SceneStore:
    """The same as a store. Models see cosines only, so the width of the embeddings is not theirs to check."""
    facts: dict[str, Any] = {
        "fingerprint": f"simulated-{regime}-{seed}",
        "label_sources": ["simulated"],
        "labels": "truth",
        "embed_dim": None,
    }
    return store_of(simulated_states(numbers, seed, regime, model), facts)


def gather(frames: int, seed: int, regime: str, model: Path | None, processes: int) -> SceneStore:
    """So many frames of simulated video."""
    videos = list(range(max(2, frames // SEQUENCE_FRAMES)))
    parts = [videos[begin : begin + PART] for begin in range(0, len(videos), PART)]
    with ProcessPoolExecutor(processes, get_context("forkserver")) as pool:  # a fork would copy the training's threads
        return join_stores(list(pool.map(partial(part, seed=seed, regime=regime, model=model), parts)))


def main() -> None:
    """Runs the rounds and exports."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--frames", type=int, nargs="+", default=FRAMES, help="of video, by round")
    parser.add_argument("--epochs", type=int, nargs="+", default=EPOCHS, help="by round")
    parser.add_argument("--stream", type=int, default=STREAM, metavar="ROUNDS", help="of fresh video after that")
    parser.add_argument("--stream-frames", type=int, default=STREAM_FRAMES, help="of video, in each of them")
    parser.add_argument("--regime", default=MIXED)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="that simulate")
    parser.add_argument("--ship", action="store_true", help="put the model and its report into the package")
    given = parser.parse_args()
    if len(given.frames) != len(given.epochs):
        parser.error("as many --frames as --epochs")
    started = time.perf_counter()

    def meet(number: int, model: Path | None) -> SceneStore:
        return gather(given.frames[number], given.seed + number, given.regime, model, given.processes)

    def meet_fresh(number: int, model: Path) -> SceneStore:
        return gather(given.stream_frames, given.seed + STREAM_SEED + number, given.regime, model, 1)

    plain = TrainSettings(seed=given.seed, val_split=0.08)
    found = train_in_rounds(
        meet, given.output, [plain.model_copy(update={"epochs": epochs}) for epochs in given.epochs]
    )
    if given.stream:
        how = TrainSettings(epochs=2, lr=1.5e-3, weight_decay=1e-3, warmup=200, average=0.9995, seed=given.seed)
        found = train_on_stream(meet_fresh, given.output / "stream", found / BEST, rounds=given.stream, how=how)
    model = found / MODEL
    print(f"{model}: {model.stat().st_size / 1e3:.0f} kB after {(time.perf_counter() - started) / 60:.1f} minutes")
    if given.ship:
        WEIGHTS.mkdir(exist_ok=True)
        shutil.copyfile(model, WEIGHTS / "default.onnx")
        shutil.copyfile(found / BEST, WEIGHTS / "default.pt")
        shutil.copyfile(found / "report.html", WEIGHTS / "default-report.html")


if __name__ == "__main__":
    main()
