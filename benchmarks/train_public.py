"""Trains the model of association on the public training sequences, whole or without one of its parts.

    python benchmarks/train_public.py --data MOT_ROOT --simulated DIR --output DIR --remix 8
        [--start CHECKPOINT.pt] [--seed 0] [--processes 1]
    python benchmarks/train_public.py --data MOT_ROOT [--simulated DIR] --output DIR [--start CHECKPOINT.pt]
        [--regimes dancetrack sportsmot …] [--sequences 50] [--epochs 4 4] [--forwards] [--hold dancetrack0065 …]
        [--processes 2] [--without history|pairs|unmatched|augmentation|return]

MOT_ROOT and the simulated detections are those of `mot_sequences`. The first way gives the best model. In so many
rounds it learns from scenes in which people of the training sequences are put together anew, seen by detectors that
were fitted to theirs (`SCENES` of each data set), from some of the sequences as they are, forwards or backwards, and
from some simulated crowds; it begins with the package's model unless told otherwise.

The second way learns from the sequences as they are alone. Round by round (`training_rounds`) the tracker runs
over every training sequence, forwards and, unless `--forwards` is given, backwards, in the gates of the preset
`learned`, and the model learns from what it meets. Without `--start` (the checkpoint of a simulated training, for
instance that of `train_default`) it begins from nothing. Sequences of `--hold` are kept for validation.

Models trained here are under the terms of the data sets: research only.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np

from trackweave.association import labels
from trackweave.association.data_collection import GT_COLUMN
from trackweave.association.dataset import SceneStore, Shown, join_stores, store_of
from trackweave.association.scorer import LearnedScorer
from trackweave.association.simulation.detector_fit import fit_detector
from trackweave.association.simulation.detector_noise import DetectorNoise
from trackweave.association.simulation.people import People
from trackweave.association.simulation.regimes import MIXED, varied
from trackweave.association.simulation.remix import remix
from trackweave.association.training.checkpoint import default_checkpoint
from trackweave.association.training.settings import AugmentSettings, TrainSettings
from trackweave.errors import ArtifactError, InputError
from trackweave.formats.detections import read_detections
from trackweave.formats.motchallenge import MotSequence, read_gmc, read_ground_truth
from trackweave.mot.settings import preset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the siblings are found when this is started as a file

from benchmarks.mot_sequences import REGIMES, inputs, tracked_frames
from benchmarks.train_default import part, states_of
from benchmarks.training_rounds import MODEL, THRESHOLD, Watcher, train_in_rounds, train_on_stream

PARTS = ("history", "pairs", "unmatched", "augmentation", "return")
"""What a training can leave out; `return`: labels that let a track go back to whom it was given before."""
BACKWARDS = "-backwards"
SCENES = {"dancetrack": 25, "sportsmot": 25, "mot17-frcnn": 5, "kitti": 5}
"""Of each round, by the data set that their people come from."""
PASSES, CROWDS = 14, 10
"""Sequences as they are, and simulated crowds, of each round."""
FITTED_SHARE = 0.6
"""Of the scenes, seen by a detector that was fitted to the data set's."""
SUPPRESSED_SHARE = 0.2
Job = tuple[str, MotSequence, Path]
Recordings = Mapping[str, "Recorded"]
FACTS = {"fingerprint": "public-training", "label_sources": ["ground_truth"], "labels": "truth", "embed_dim": None}


def met(job: Job, model: Path | None, backwards: bool, margin: float) -> SceneStore | None:
    """What the tracker meets in a sequence; None: nothing."""
    regime, sequence, detections = job
    watcher = Watcher()
    scorer = None if model is None else LearnedScorer(model, threshold=THRESHOLD)
    tracked_frames(sequence, detections, preset("learned"), regime == "kitti", scorer, watcher, True, backwards)
    name = f"{regime}-{sequence.path.name}{BACKWARDS if backwards else ''}"
    states: list[Shown] = [(name, state, state.detections.data[GT_COLUMN]) for state in watcher.states]
    with patch.object(labels, "MARGIN", margin):
        return stored(states)


@dataclass(frozen=True)
class Recorded:
    """People of the training sequences of a data set, and detectors that err like theirs."""

    people: list[People]
    detectors: list[DetectorNoise]


def recorded(root: Path, simulated: Path | None) -> dict[str, Recorded]:
    """By regime of `SCENES`."""
    found: dict[str, Recorded] = {}
    for regime in SCENES:
        people, detectors = [], []
        for sequence, path in inputs(root, "training", regime, simulated):
            truth, length, rate = read_ground_truth(sequence.path), sequence.known_length(), sequence.known_frame_rate()
            motion = None if sequence.camera_motion is None else read_gmc(sequence.camera_motion)
            people.append(People.of_truth(truth, size=sequence.known_size(), fps=rate, length=length, camera=motion))
            table = read_detections(
                path, class_column=8 if regime == "kitti" else None, length=length, on_bad_item="skip"
            )
            with suppress(InputError):  # of a few people a detector cannot be fitted
                detectors.append(fit_detector(table, truth, fps=rate, length=length))
        found[regime] = Recorded(people, detectors)
    return found


_RECORDED: dict[str, Recorded] = {}
"""Of a process that makes scenes."""


def _take(data: Recordings) -> None:
    _RECORDED.update(data)


def scene(regime: str, number: int, seed: int, model: Path) -> SceneStore | None:
    """What the tracker meets in a scene that is put together from a data set's people; None: nothing."""
    rng, given = np.random.default_rng([seed, number, len(regime)]), _RECORDED[regime]
    noise = None
    if given.detectors and rng.random() < FITTED_SHARE:
        noise = varied(rng, given.detectors[int(rng.integers(len(given.detectors)))])
    made = remix(given.people, number, seed=seed, detector=noise)
    lost = float(rng.uniform(0.2, 0.7)) if rng.random() < SUPPRESSED_SHARE else 0.0
    states = states_of(made, LearnedScorer(model, threshold=THRESHOLD), lost, rng)
    return stored([(f"{regime}-{made.name}", state, truth) for _, state, truth in states])


def mixture(number: int, model: Path, *, seed: int, chosen: list[Job], data: Recordings, processes: int) -> SceneStore:
    """A round's frames: scenes, sequences as they are, and simulated crowds."""
    rng = np.random.default_rng([seed, number])
    with ProcessPoolExecutor(processes, get_context("forkserver"), _take, (data,)) as pool:
        waiting = [
            pool.submit(scene, regime, place, seed + number, model)
            for regime, count in SCENES.items()
            for place in range(count)
        ]
        passes = rng.choice(len(chosen), min(PASSES, len(chosen)), replace=False)
        waiting += [pool.submit(met, chosen[i], model, bool(rng.random() < 0.5), labels.MARGIN) for i in passes]
        waiting.append(pool.submit(part, range(CROWDS), seed + number, MIXED, model))
        return join_stores([store for one in waiting if (store := one.result()) is not None])


def stored(states: list[Shown]) -> SceneStore | None:
    """Frames as a store; None when none has both tracks and detections."""
    try:
        return store_of(states, FACTS)
    except ArtifactError:
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
    parser.add_argument("--remix", type=int, default=0, metavar="ROUNDS", help="put people together anew")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--sequences", type=int, default=50, help="at most so many of each regime")
    parser.add_argument("--forwards", action="store_true", help="sequences are not also tracked backwards")
    parser.add_argument("--hold", nargs="+", default=["dancetrack0065", "dancetrack0077"])
    parser.add_argument("--epochs", type=int, nargs="+", default=[4, 4], help="by round")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--without", choices=PARTS, help="for the ablation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="that track")
    given = parser.parse_args(arguments)
    output: Path = given.output
    margin = math.inf if given.without == "return" else labels.MARGIN
    chosen = [
        (regime, *pair)
        for regime in given.regimes
        for pair in list(inputs(given.data, "training", regime, given.simulated))[: given.sequences]
    ]
    if given.remix:
        how = TrainSettings(epochs=2, lr=1e-3, weight_decay=0.01, warmup=200, seed=given.seed)
        data = recorded(given.data, given.simulated)
        meet_mixture = partial(mixture, seed=given.seed, chosen=chosen, data=data, processes=given.processes)
        train_on_stream(meet_mixture, given.output, given.start or default_checkpoint(), rounds=given.remix, how=how)
        return output / MODEL
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
