"""Trains the model of association that comes with the package, on simulated crowds alone.

    python benchmarks/train_default.py --output DIR [--frames 16000] [--seed 0] [--ship]

Two rounds, after Ross et al., "DAgger" (AISTATS 2011): the first model learns from what the tracker meets by its
classical cost inside the wide gates of the preset `learned`, the second from what it meets with the first model in the
loop. Nothing is read but the simulator's settings. `--ship` puts the result into the package, its report beside it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trackweave.association.data_collection import GT_COLUMN
from trackweave.association.dataset import SceneStore, Shown, store_of
from trackweave.association.scorer import LearnedScorer
from trackweave.association.simulation.regimes import MIXED
from trackweave.association.training.checkpoint import load_checkpoint
from trackweave.association.training.export import export
from trackweave.association.training.loop import Trained, train
from trackweave.association.training.mining import hard_frames
from trackweave.association.training.settings import TrainSettings
from trackweave.boxes.convert import box_iou
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.mot.frame_context import FrameContext
from trackweave.mot.settings import preset
from trackweave.mot.tracker import ByteTracker
from trackweave.samples_from_simulation import SEQUENCE_FRAMES, crowds
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections

WEIGHTS = Path(__file__).resolve().parents[1] / "src" / "trackweave" / "association" / "weights"
SUPPRESSED_SHARE = 0.4
"""Of the videos, whose detector loses overlapping boxes at random."""
OVERLAPPED = 0.5


class Watcher:
    """Keeps every state that a tracker shows."""

    def __init__(self) -> None:
        self.states: list[AssignmentState] = []

    def observe(self, state: AssignmentState) -> None:
        """Takes one."""
        self.states.append(state)


def suppressed(found: Detections, share: float, rng: np.random.Generator) -> Detections:
    """Detections without some of those that overlap another by more than half: whichever of the two a detector's
    suppression of doubles hits, in front or behind, anew on every frame."""
    if not share or len(found) < 2:
        return found
    overlap = box_iou(found.xyxy, found.xyxy)
    np.fill_diagonal(overlap, 0)
    gone = (overlap.max(axis=1) > OVERLAPPED) & (rng.random(len(found)) < share)
    return found if gone.all() else found[~gone]


def simulated_states(frames: int, seed: int, scorer: LearnedScorer | None, regime: str, length: int) -> Iterator[Shown]:
    """What the tracker meets in so many frames of simulated video."""
    for sequence in crowds(frames, seed=seed, regime=regime, sequence_frames=length):
        eyes = VisibilityEstimator("occlusion", min_occluder_score=0.1)
        watcher = Watcher()
        if scorer is not None:
            scorer.reset()
        tracker = ByteTracker(
            preset("learned"), frame_rate=sequence.fps, size=sequence.size, scorer=scorer, observer=watcher
        )
        rng = np.random.default_rng([seed, len(sequence), sequence.seed])
        lost = float(rng.uniform(0.2, 0.7)) if rng.random() < SUPPRESSED_SHARE else 0.0
        for frame, moment, camera, every in sequence:
            detections = suppressed(every, lost, rng)
            seen = eyes.estimate(detections, size=sequence.size).visibility
            tracker.update(FrameContext(frame, moment, camera), replace(detections, visibility=seen))
        for state in watcher.states:
            yield sequence.name, state, state.detections.data[GT_COLUMN]


def gather(frames: int, seed: int, scorer: LearnedScorer | None, regime: str, length: int) -> SceneStore:
    """The same as a store."""
    facts: dict[str, Any] = {
        "fingerprint": f"simulated-{regime}-{frames}-{seed}-{'first' if scorer is None else 'second'}",
        "label_sources": ["simulated"],
        "labels": "truth",
        "embed_dim": None,
    }
    return store_of(simulated_states(frames, seed, scorer, regime, length), facts)


def told(epoch: int, row: dict[str, Any]) -> None:
    """One line per epoch."""
    print(
        f"epoch {epoch}: loss {row['loss']:.4f}, validation {row['val_loss']:.4f}, precision {row['precision']:.3f}, "
        f"recall {row['recall']:.3f}, {row['frames_per_second']:.0f} frames/s",
        file=sys.stderr,
        flush=True,
    )


def two_rounds(output: Path, frames: int, epochs: int, seed: int, regime: str, length: int) -> Trained:
    """Trains, and trains again on what the first model meets."""
    first = output / "first"
    store = gather(frames // 2, seed, None, regime, length)
    print(f"round 1: {len(store)} frames of {len(store.sequences)} videos", flush=True)
    found = train(store, first, TrainSettings(epochs=max(1, epochs // 2), seed=seed, val_split=0.08), told=told)
    scorer = LearnedScorer(export(found.best, first / "model.onnx"), threshold=0.3)
    store = gather(frames, seed + 1, scorer, regime, length)
    model = load_checkpoint(found.best).model
    hard = hard_frames(model, store, rng=np.random.default_rng(seed))
    print(f"round 2: {len(hard)} of {len(store)} frames of {len(store.sequences)} videos are learned from", flush=True)
    return train(
        store,
        output / "second",
        TrainSettings(epochs=epochs, seed=seed, lr=1.5e-3, val_split=0.08),
        start_from=model,
        only=hard,
        told=told,
    )


def main() -> None:
    """Runs both rounds and exports."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--frames", type=int, default=16_000, help="of simulated video in the second round")
    parser.add_argument("--epochs", type=int, default=10, help="of the second round")
    parser.add_argument("--regime", default=MIXED)
    parser.add_argument("--length", type=int, default=SEQUENCE_FRAMES, help="frames of a video")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", action="store_true", help="put the model and its report into the package")
    given = parser.parse_args()
    started = time.perf_counter()
    found = two_rounds(given.output, given.frames, given.epochs, given.seed, given.regime, given.length)
    model = export(found.best, given.output / "default.onnx")
    print(f"{model}: {model.stat().st_size / 1e3:.0f} kB after {(time.perf_counter() - started) / 60:.1f} minutes")
    if given.ship:
        WEIGHTS.mkdir(exist_ok=True)
        shutil.copyfile(model, WEIGHTS / "default.onnx")
        shutil.copyfile(found.directory / "report.html", WEIGHTS / "default-report.html")


if __name__ == "__main__":
    main()
