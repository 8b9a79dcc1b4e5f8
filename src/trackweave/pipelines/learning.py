"""`learn`: answers about runs teach the model of association; tracking again says whether it is better."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trackweave.association.logged_samples import assignment_state, read_samples
from trackweave.association.scorer import LearnedScorer
from trackweave.association.track_memory import DEFAULT_FPS
from trackweave.association.training.train_assoc import DEFAULT, TrainingOptions, run_training
from trackweave.errors import MissingExtraError, SettingError
from trackweave.mot.settings import preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.pipelines.corrections import label_samples
from trackweave.storage.run import RunPaths
from trackweave.storage.sample_folder import remove_samples
from trackweave.storage.samples import AssociationSample

if TYPE_CHECKING:
    from trackweave.association.training.checkpoint import ModelCheckpoint

RUN_DEFAULTS = {"lr": 3e-4, "average": 0.99, "epochs": 4, "val_split": 0.5}
"""Settings, unless given, of a training on runs: a few hundred small steps, for answers are few beside what the start
has seen; half of the runs decide, for one early switch of two people outweighs what a model gains on one video."""
SAMPLES = "samples"
"""Below the folder of a training: the samples of its runs, with the answers as their truth."""


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run of boxes."""
    paths = RunPaths(path)
    return paths.manifest.is_file() and paths.tracks.is_file()


def learn(data: Sequence[Path], output: Path, options: TrainingOptions) -> str:
    """Trains on folders of samples and on runs that a person answered about, whose samples are given the answers.

    With runs, some of these are held out (`--val-split` of them), and the tracker goes over them again
    with the model of each epoch: the one of the highest HOTA is the result, or the start where none is better.

    Args:
        data: run folders and folders of samples, or one `.npz` cache.
        output: folder of the training; samples with answers go below.
        options: hyperparameters, samples and start.

    Returns:
        The result in a few lines.

    Raises:
        ArtifactError: a run is damaged, or there is too little to learn from.
        InputError: a run has no samples any more, or nobody named an object.
        SettingError: a setting is wrong, or there is one run alone and nothing else.
        MissingExtraError: torch is missing.
    """
    runs = [path for path in data if is_run(path)]
    if not runs:
        return run_training(data, output, options)
    try:
        from trackweave.association.training.loop import ClosedLoop
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("torch", "train") from None

    if options.start is None:
        raise SettingError(f"a model that begins with nothing needs more than answers: give --start {DEFAULT}")
    folders: list[Path] = []
    for run in runs:
        folders.append(output / SAMPLES / f"{len(folders):02d}-{run.resolve().name}")
        remove_samples(folders[-1])
        label_samples(run, folders[-1])
    videos = {key.sequence: [sample for _, sample in samples] for key, samples in read_samples(folders).runs.items()}
    names = sorted(videos)
    others = [path for path in data if not is_run(path)]
    if len(names) < 2:
        raise SettingError(f"{runs[0]}: is one video alone: some are learned from and others decide: give two runs")
    defaults = {name: value for name, value in RUN_DEFAULTS.items() if name not in options.explicit}
    settings = options.settings.model_copy(update=defaults)
    options = replace(options, settings=settings, explicit=options.explicit | RUN_DEFAULTS.keys())
    order = np.random.default_rng(settings.seed).permutation(len(names)).tolist()
    count = min(max(1, round(settings.val_split * len(names))), len(names) - 1)
    held_out = {names[number]: videos[names[number]] for number in order[:count]}
    judge = partial(ClosedLoop, tuple(sorted(held_out)), partial(replayed_hota, list(held_out.values())))
    return run_training([*folders, *others], output, replace(options, closed_loop=judge))


def replayed_hota(videos: Sequence[Sequence[AssociationSample]], checkpoint: ModelCheckpoint) -> float:
    """HOTA, in percent, of videos that are tracked again with a model, from the detections in their samples.

    What counts are detections with a true identity, matched with the tracks that took them: of others nobody knows
    what they are. See Luiten et al., HOTA, IJCV 2021.
    """
    from trackweave.association.training.checkpoint import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        scorer = LearnedScorer(export_onnx(checkpoint, Path(folder) / "model.onnx"))
        pairs, first = [], 0
        for samples in videos:
            true, track = _replayed(samples, scorer)
            pairs.append(np.where(np.stack([true, track]) >= 0, np.stack([true, track]) + first, -1))
            first = int(pairs[-1].max(initial=first)) + 1
    return 100 * hota_of_detections(*np.concatenate(pairs, axis=1))


def _replayed(
    samples: Sequence[AssociationSample], scorer: LearnedScorer
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`(N,)` true identities and `(N,)` track ids of all detections of a video, −1 = none."""
    scorer.reset()
    metadata = samples[0].metadata
    size = assignment_state(samples[0]).size
    tracker = Tracker(preset("learned"), frame_rate=metadata.fps or DEFAULT_FPS, size=size, scorer=scorer)
    true, track = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for sample in samples:
        state = assignment_state(sample)
        context = FrameContext(sample.frame_idx, state.time, state.camera)
        found = tracker.update(state.detections, context, untracked=True).track_id
        assert found is not None
        assert sample.gt_track_ids is not None
        true.append(sample.gt_track_ids)
        track.append(found)
    return np.concatenate(true), np.concatenate(track)


def hota_of_detections(true: NDArray[np.int64], track: NDArray[np.int64]) -> float:
    """HOTA where each true box is a detection: there is no localisation, and detections without identity do not count.

    Args:
        true: `(N,)` identity of each detection, −1 = not known.
        track: `(N,)` track of each, −1 = none.

    Three of four are tracked; two are two of three associations, one is one of four: √(3/4 · (2/3 + 2/3 + 1/4)/3).

    >>> round(hota_of_detections(np.array([0, 0, 1, 1, -1]), np.array([5, 5, 5, -1, 5])), 4)
    0.6292
    """
    known = true >= 0
    if not known.any():
        return 0.0
    identity, found = np.unique(true[known], return_inverse=True)[1], track[known]
    tracked = found >= 0
    if not tracked.any():
        return 0.0
    number = np.unique(found[tracked], return_inverse=True)[1]
    both = np.zeros((int(identity.max()) + 1, int(number.max()) + 1))
    np.add.at(both, (identity[tracked], number), 1)
    union = np.bincount(identity, minlength=len(both))[:, None] + both.sum(axis=0)[None] - both
    association = float((both**2 / union).sum() / tracked.sum())
    return float(np.sqrt(association * tracked.mean()))
