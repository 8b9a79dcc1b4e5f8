"""Trains the model of association on the public training sequences, whole or without one of its parts.

    python benchmarks/train_public.py --data MOT_ROOT [--simulated DIR] --output DIR [--start CHECKPOINT.pt]
        [--regimes dancetrack sportsmot …] [--sequences 50] [--epochs 4 4] [--average 0.999] [--forwards]
        [--hold dancetrack0065 …] [--processes 2] [--without history|pairs|unmatched|augmentation|return]

MOT_ROOT and the simulated detections are those of `mot_sequences`. Round by round (`training_rounds`) the tracker runs
over every training sequence, forwards and, unless `--forwards` is given, backwards, in the gates of the preset
`learned`, and the model learns from what it meets. Without `--start` (the checkpoint of a simulated training, for
instance that of `train_default`) it begins from nothing. Sequences of `--hold` are kept for validation. Models trained
here are under the terms of the data sets: research only.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest.mock import patch

from trackweave.association import labels
from trackweave.association.dataset import SceneStore, Shown, join_stores, store_of
from trackweave.association.scorer import LearnedScorer
from trackweave.association.training.settings import AugmentSettings, TrainSettings
from trackweave.errors import ArtifactError
from trackweave.formats.motchallenge import MotSequence
from trackweave.mot.settings import preset
from trackweave.structures.detections import GT_COLUMN

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the siblings are found when this is started as a file

from benchmarks.mot_sequences import REGIMES, inputs, tracked_frames
from benchmarks.training_rounds import MODEL, THRESHOLD, Watcher, train_in_rounds

PARTS = ("history", "pairs", "unmatched", "augmentation", "return")
"""What a training can leave out; `return`: labels that let a track go back to whom it was given before."""
BACKWARDS = "-backwards"
FACTS = {"fingerprint": "public-training", "label_sources": ["ground_truth"], "labels": "truth", "embed_dim": None}


def met(job: tuple[str, MotSequence, Path], model: Path | None, backwards: bool, margin: float) -> SceneStore | None:
    """What the tracker meets in a sequence; None: nothing."""
    regime, sequence, detections = job
    watcher = Watcher()
    scorer = None if model is None else LearnedScorer(model, threshold=THRESHOLD)
    tracked_frames(sequence, detections, preset("learned"), regime == "kitti", scorer, watcher, True, backwards)
    name = f"{regime}-{sequence.path.name}{BACKWARDS if backwards else ''}"
    states: list[Shown] = [(name, state, state.detections.data[GT_COLUMN]) for state in watcher.states]
    with patch.object(labels, "MARGIN", margin):
        try:
            return store_of(states, FACTS)
        except ArtifactError:  # no frame has both tracks and detections
            return None


def main(arguments: Sequence[str] | None = None) -> Path:
    """Trains and exports; returns the exported model."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MOT_ROOT")
    parser.add_argument("--simulated", type=Path, metavar="DIR", help="simulated detections of SportsMOT")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--start", type=Path, metavar="CHECKPOINT", help="weights to begin with")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--sequences", type=int, default=50, help="at most so many of each regime")
    parser.add_argument("--forwards", action="store_true", help="sequences are not also tracked backwards")
    parser.add_argument("--hold", nargs="+", default=["dancetrack0065", "dancetrack0077"])
    parser.add_argument("--epochs", type=int, nargs="+", default=[4, 4], help="by round")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--average", type=float, default=0.0, help="what a step keeps of the mean of the weights")
    parser.add_argument("--without", choices=PARTS, help="for the ablation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="that track")
    given = parser.parse_args(arguments)
    margin = math.inf if given.without == "return" else labels.MARGIN
    chosen = [
        (regime, *pair)
        for regime in given.regimes
        for pair in list(inputs(given.data, "training", regime, given.simulated))[: given.sequences]
    ]
    ways = [False] if given.forwards else [False, True]

    def meet(number: int, model: Path | None) -> SceneStore:
        jobs = [(one, model, backwards, margin) for backwards in ways for one in chosen]
        with ProcessPoolExecutor(given.processes) as pool:
            found = list(pool.map(met, *zip(*jobs, strict=True)))
        return join_stores([store for store in found if store is not None])

    def held(store: SceneStore) -> tuple[str, ...]:
        return tuple(name for name in store.sequences if name.removesuffix(BACKWARDS).endswith(tuple(given.hold)))

    rounds = [
        TrainSettings(
            epochs=epochs,
            patience=epochs,
            lr=given.lr,
            average=given.average,
            weight_decay=0.01,
            seed=given.seed,
            use_history=given.without != "history",
            use_pairs=given.without != "pairs",
            use_unmatched=given.without != "unmatched",
            augment=AugmentSettings.none() if given.without == "augmentation" else AugmentSettings(),
        )
        for epochs in given.epochs
    ]
    found = train_in_rounds(meet, given.output, rounds, start=given.start, validation=held)
    model = Path(shutil.copyfile(found / MODEL, given.output / MODEL))
    print(model, file=sys.stderr)
    return model


if __name__ == "__main__":
    main()
