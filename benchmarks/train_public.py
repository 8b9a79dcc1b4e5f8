"""Trains the model of association on the public training sequences, whole or without one of its parts.

    python benchmarks/train_public.py --data MOT_ROOT [--simulated DIR] --output DIR [--start CHECKPOINT.pt]
        [--regimes dancetrack sportsmot …] [--sequences 24] [--epochs 8] [--hold dancetrack0065 …]
        [--without history|pairs|unmatched|augmentation]

MOT_ROOT and the simulated detections are those of `mot_sequences`. The tracker runs over every training sequence in the
gates of the preset `learned`, and the model learns from what it meets, most of all from the frames that the model of
`--start` (without: the one that comes with the package, if its checkpoint is at hand) finds hard. Sequences of `--hold`
are kept for validation. Models trained here are under the terms of the data sets: research only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trackweave.association.data_collection import GT_COLUMN
from trackweave.association.dataset import Shown, store_of
from trackweave.association.training.checkpoint import load_checkpoint
from trackweave.association.training.export import export
from trackweave.association.training.loop import train
from trackweave.association.training.mining import hard_frames
from trackweave.association.training.settings import AugmentSettings, TrainSettings
from trackweave.formats.motchallenge import MotSequence
from trackweave.mot.settings import preset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the siblings are found when this is started as a file

from benchmarks.mot_sequences import REGIMES, inputs, tracked_frames
from benchmarks.train_default import Watcher, told

PARTS = ("history", "pairs", "unmatched", "augmentation")


def met(given: list[tuple[str, MotSequence, Path]]) -> Iterator[Shown]:
    """What the tracker meets in some sequences."""
    for regime, sequence, detections in given:
        watcher = Watcher()
        has_class = regime == "kitti"
        tracked_frames(sequence, detections, preset("learned"), has_class, observer=watcher, with_truth=True)
        for state in watcher.states:
            yield f"{regime}-{sequence.path.name}", state, state.detections.data[GT_COLUMN]


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and exports."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MOT_ROOT")
    parser.add_argument("--simulated", type=Path, metavar="DIR", help="simulated detections of SportsMOT")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--start", type=Path, metavar="CHECKPOINT", help="weights to begin with")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--sequences", type=int, default=24, help="at most so many of each regime")
    parser.add_argument("--hold", nargs="+", default=["dancetrack0065", "dancetrack0077"])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--without", choices=PARTS, help="for the ablation")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    chosen = [
        (regime, *pair)
        for regime in given.regimes
        for pair in list(inputs(given.data, "training", regime, given.simulated))[: given.sequences]
    ]
    facts = {"fingerprint": "public-training", "label_sources": ["ground_truth"], "labels": "truth", "embed_dim": None}
    store = store_of(met(chosen), facts)
    held = tuple(name for name in store.sequences if name.split("-", 1)[1] in given.hold)
    start = None if given.start is None else load_checkpoint(given.start).model
    hard = None
    if start is not None:
        hard = hard_frames(start, store, easy_share=0.15, rng=np.random.default_rng(given.seed))
        print(f"{len(hard)} of {len(store)} frames are learned from", flush=True)
    how = TrainSettings(
        epochs=given.epochs,
        patience=given.epochs,
        lr=given.lr,
        weight_decay=0.01,
        seed=given.seed,
        use_history=given.without != "history",
        use_pairs=given.without != "pairs",
        use_unmatched=given.without != "unmatched",
        augment=AugmentSettings.none() if given.without == "augmentation" else AugmentSettings(),
    )
    whole = given.without in (None, "augmentation")
    found = train(
        store,
        given.output,
        how,
        validation=held,
        only=hard,
        start_from=start if whole and given.without is None else None,
        told=told,
    )
    print(export(found.best, given.output / "model.onnx"), file=sys.stderr)


if __name__ == "__main__":
    main()
