"""Trains the model of association on the public training sequences, whole or without one of its parts.

    python benchmarks/train_public.py --data MOT_ROOT [--simulated DIR] --output DIR [--start CHECKPOINT.pt]
        [--regimes dancetrack sportsmot …] [--sequences 50] [--epochs 4 4] [--average 0.999] [--forwards]
        [--hold dancetrack0065 …] [--processes 2] [--without history|pairs|unmatched|augmentation|return]

MOT_ROOT and the simulated detections are those of `mot_sequences`. Round by round (`training.rounds`) the tracker runs
over every training sequence, forwards and, unless `--forwards` is given, backwards, in the gates of the preset
`learned`, and the model learns from what it meets. Without `--start` (the checkpoint of a simulated training, for
instance that of `train_default`) it starts from random weights. Sequences of `--hold` are held out for validation.
Models trained here are under the terms of the data sets: research only.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from trackweave.association.dataset import DataMetadata, TrainingSet
from trackweave.association.labels import RETURN_MARGIN
from trackweave.association.scorer import LearnedScorer
from trackweave.association.settings import AugmentSettings, TrainSettings
from trackweave.association.training.rounds import LOOP_THRESHOLD, MODEL, StateRecorder, train_in_rounds
from trackweave.association.training.train_assoc import epoch_line
from trackweave.errors import ArtifactError
from trackweave.formats.motchallenge import MotSequence
from trackweave.mot.settings import preset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the siblings are found when this is started as a file

from benchmarks.mot_sequences import REGIMES, inputs, tracked_frames

PARTS = ("history", "pairs", "unmatched", "augmentation", "return")
"""What a training can leave out; `return`: labels that let a track return to an identity that it had before."""
BACKWARDS = "-backwards"
METADATA: DataMetadata = {
    "fingerprint": "public-training",
    "label_sources": ["ground_truth"],
    "labels": "truth",
    "embed_dim": None,
}


def collect(
    job: tuple[str, MotSequence, Path], model: Path | None, backwards: bool, return_margin: float
) -> TrainingSet | None:
    """What the tracker meets in a sequence; None: no frame with tracks and detections."""
    regime, sequence, detections = job
    recorder = StateRecorder()
    scorer = None if model is None else LearnedScorer(model, threshold=LOOP_THRESHOLD)
    settings = preset("learned", scorer_decides=scorer is not None)  # in the first round the classical cost decides
    tracked_frames(sequence, detections, settings, regime == "kitti", scorer, recorder, True, backwards)
    name = f"{regime}-{sequence.path.name}{BACKWARDS if backwards else ''}"
    try:
        return TrainingSet.from_frames(recorder.labelled(name), METADATA, return_margin=return_margin)
    except ArtifactError:
        return None


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's arguments."""
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
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Trains and exports; returns the exported model."""
    import torch

    torch.set_num_threads(1)
    args = parse(arguments)
    jobs = [
        (regime, *pair)
        for regime in args.regimes
        for pair in list(inputs(args.data, "training", regime, args.simulated))[: args.sequences]
    ]

    def collect_round(number: int, model: Path | None) -> TrainingSet:
        margin = math.inf if args.without == "return" else RETURN_MARGIN
        directions = [False] if args.forwards else [False, True]
        calls = [(job, model, backwards, margin) for backwards in directions for job in jobs]
        with ProcessPoolExecutor(args.processes) as pool:
            parts = list(pool.map(collect, *zip(*calls, strict=True)))
        return TrainingSet.concat([part for part in parts if part is not None])

    def held_out(data: TrainingSet) -> tuple[str, ...]:
        return tuple(name for name in data.sequences if name.removesuffix(BACKWARDS).endswith(tuple(args.hold)))

    rounds = [
        TrainSettings(
            epochs=epochs,
            patience=epochs,
            lr=args.lr,
            average=args.average,
            weight_decay=0.01,
            seed=args.seed,
            use_history=args.without != "history",
            use_pairs=args.without != "pairs",
            use_unmatched=args.without != "unmatched",
            augment=AugmentSettings.none() if args.without == "augmentation" else AugmentSettings(),
        )
        for epochs in args.epochs
    ]
    folder = train_in_rounds(
        collect_round,
        args.output,
        rounds,
        start=args.start,
        validation=held_out,
        log=partial(print, flush=True),
        on_epoch_end=lambda number, record: print(epoch_line(number, record), file=sys.stderr, flush=True),
    )
    model = Path(shutil.copyfile(folder / MODEL, args.output / MODEL))
    print(model, file=sys.stderr)
    return model


if __name__ == "__main__":
    main()
