"""Trains the model of association that comes with the package, on simulated scenes alone.

    python benchmarks/train_default.py --output DIR [--frames 15000 30000 45000 60000 90000] [--epochs 5 4 4 4 4]
        [--stream 22] [--seed 0] [--processes 2] [--ship]

First a round per number of frames (`training.rounds`): the first model learns from what the tracker meets by its
classical cost inside the wide gates of the preset `learned`, the next ones from what it meets with the model before in
the loop, its mistakes included, and from the rounds before but the first. Then `--stream` rounds of 40,000 frames, each
learned from in its own round alone. Much fresh video and few epochs: a model that sees frames more often learns them by
heart. In a share of the videos detections have embeddings, of many qualities. Nothing is read but the simulator's
settings. `--ship` puts the result into the package: an exported model and a checkpoint.
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

import numpy as np

from trackweave.association.dataset import DataMetadata, LabelledFrame, TrainingSet
from trackweave.association.scorer import LearnedScorer
from trackweave.association.settings import TrainSettings
from trackweave.association.training.loop import BEST
from trackweave.association.training.rounds import (
    LOOP_THRESHOLD,
    MODEL,
    StateRecorder,
    train_in_rounds,
    train_on_stream,
)
from trackweave.association.training.train_assoc import epoch_line
from trackweave.boxes import box_iou
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.mot.settings import preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.pipelines.samples import simulated_sequence
from trackweave.pipelines.settings import SimulateSettings
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.presets import MIXED
from trackweave.structures.detections import Detections

WEIGHTS = Path(__file__).resolve().parents[1] / "src" / "trackweave" / "association" / "weights"
SUPPRESSED_SHARE = 0.4
"""Share of the videos whose detector loses overlapping boxes at random."""
OVERLAP_IOU = 0.5
EMBEDDED_SHARE = 0.3
"""Share of the videos whose detections have embeddings."""
FRAMES, EPOCHS = (15_000, 30_000, 45_000, 60_000, 90_000), (5, 4, 4, 4, 4)
"""By round."""
STREAM, STREAM_FRAMES, STREAM_SEED = 22, 40_000, 1000
"""Rounds of the stream, frames of each, and what is added to its seed."""
CHUNK = 20
"""Videos that a process simulates at a time."""


def suppressed(detections: Detections, share: float, rng: np.random.Generator) -> Detections:
    """Detections without a share of those that overlap another by more than half, in front or behind, drawn anew on
    every frame: as if non-maximum suppression had hit them."""
    if not share or len(detections) < 2:
        return detections
    overlap = box_iou(detections.xyxy, detections.xyxy)
    np.fill_diagonal(overlap, 0)
    removed = (overlap.max(axis=1) > OVERLAP_IOU) & (rng.random(len(detections)) < share)
    return detections if removed.all() else detections[~removed]


def random_appearance(rng: np.random.Generator) -> EmbeddingSettings | None:
    """Embeddings of some quality, in a share of the videos."""
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


def simulated_frames(numbers: Sequence[int], seed: int, regime: str, model: Path | None) -> Iterator[LabelledFrame]:
    """What the tracker meets in some videos, with a model in its loop where there is one."""
    scorer = None if model is None else LearnedScorer(model, threshold=LOOP_THRESHOLD)
    settings = SimulateSettings(seed=seed, regime=regime)
    for number in numbers:
        sequence = simulated_sequence(settings, number, embedding=random_appearance)
        visibility = VisibilityEstimator("occlusion", min_occluder_score=0.1)
        recorder = StateRecorder()
        if scorer is not None:
            scorer.reset()
        tracker = Tracker(
            preset("learned", appearance_memory=True, scorer_decides=scorer is not None),
            frame_rate=sequence.fps,
            size=sequence.size,
            scorer=scorer,
            observer=recorder,
        )
        rng = np.random.default_rng([seed, len(sequence), sequence.seed])
        share = float(rng.uniform(0.2, 0.7)) if rng.random() < SUPPRESSED_SHARE else 0.0
        for frame, seconds, camera, every in sequence:
            detections = suppressed(every, share, rng)
            visible = visibility.estimate(detections, size=sequence.size).visibility
            tracker.update(replace(detections, visibility=visible), FrameContext(frame, seconds, camera))
        yield from recorder.labelled(sequence.name)


def collect_chunk(numbers: Sequence[int], seed: int, regime: str, model: Path | None) -> TrainingSet:
    """The same as a training set. Models see cosines only, so the width of the embeddings does not matter to them."""
    metadata: DataMetadata = {
        "fingerprint": f"simulated-{regime}-{seed}",
        "label_sources": ["simulated"],
        "labels": "truth",
        "embed_dim": None,
    }
    return TrainingSet.from_frames(simulated_frames(numbers, seed, regime, model), metadata)


def collect(frames: int, seed: int, regime: str, model: Path | None, processes: int) -> TrainingSet:
    """So many frames of simulated video."""
    videos = list(range(max(2, frames // SimulateSettings().sequence_frames)))
    chunks = [videos[begin : begin + CHUNK] for begin in range(0, len(videos), CHUNK)]
    with ProcessPoolExecutor(processes, get_context("forkserver")) as pool:  # a fork would copy the training's threads
        return TrainingSet.concat(list(pool.map(partial(collect_chunk, seed=seed, regime=regime, model=model), chunks)))


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
    parser.add_argument("--ship", action="store_true", help="put the model into the package")
    args = parser.parse_args()
    if len(args.frames) != len(args.epochs):
        parser.error("as many --frames as --epochs")
    started = time.perf_counter()

    def collect_round(number: int, model: Path | None) -> TrainingSet:
        return collect(args.frames[number], args.seed + number, args.regime, model, args.processes)

    def collect_fresh(number: int, model: Path) -> TrainingSet:
        return collect(args.stream_frames, args.seed + STREAM_SEED + number, args.regime, model, 1)

    settings = TrainSettings(seed=args.seed, val_split=0.08)
    folder = train_in_rounds(
        collect_round,
        args.output,
        [settings.model_copy(update={"epochs": epochs}) for epochs in args.epochs],
        log=partial(print, flush=True),
        on_epoch_end=lambda number, record: print(epoch_line(number, record), file=sys.stderr, flush=True),
    )
    if args.stream:
        settings = TrainSettings(epochs=2, lr=1.5e-3, weight_decay=1e-3, warmup=200, average=0.9995, seed=args.seed)
        folder = train_on_stream(
            collect_fresh,
            args.output / "stream",
            folder / BEST,
            rounds=args.stream,
            settings=settings,
            log=partial(print, flush=True),
        )
    model = folder / MODEL
    print(f"{model}: {model.stat().st_size / 1e3:.0f} kB after {(time.perf_counter() - started) / 60:.1f} minutes")
    if args.ship:
        WEIGHTS.mkdir(exist_ok=True)
        shutil.copyfile(model, WEIGHTS / "default.onnx")
        shutil.copyfile(folder / BEST, WEIGHTS / "default.pt")


if __name__ == "__main__":
    main()
