"""How many identity switches are expected, and how doubtful links are, against what is true.

    python benchmarks/forecast.py --data MOT_ROOT [--regimes dancetrack mot17-frcnn mot17-yolox kitti]
    python benchmarks/forecast.py --data MOT_ROOT --fit [--videos 14]

MOT_ROOT is that of `mot_sequences`. Both splits of the sequences are tracked with the package's learned scorer. A true
switch is one of CLEAR MOT: a true identity whose track is another one than when it was last matched (IoU of at least
one half). Printed are, by regime, on how many sequences the interval holds the true number, those on which it does not,
and a table of reliability: links by their doubt, how many were expected to join two objects and how many did.

`--fit` simulates crowds instead (`--videos` of each kind: dance, sport, street, traffic; 250 to 700 frames; half of
them with the learned scorer, half with the preset `adaptive`) and prints the constants of `corrections.forecast`, and
the weights of `corrections.doubt` that these links alone would give.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import nbinom, rankdata

from trackweave.association.labels import gt_track_ids
from trackweave.association.scorer import LearnedScorer
from trackweave.corrections.doubt import WEIGHTS
from trackweave.corrections.forecast import ALWAYS, SwitchForecast, SwitchForecaster
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.mot.settings import preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.pipelines.box_outputs import as_rows
from trackweave.pipelines.samples import simulated_sequence
from trackweave.pipelines.settings import SimulateSettings
from trackweave.storage.track_archive import TrackRows
from trackweave.structures.tracks import Tracks

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the siblings are found when this is started as a file

from benchmarks.mot_sequences import SEQUENCES, inputs, tracked_frames
from benchmarks.questions import decisions, fit, true_ids

REGIMES = ("dancetrack", "mot17-frcnn", "mot17-yolox", "kitti")
KINDS, LENGTHS, SEED = ("dance", "sport", "street", "traffic"), (250, 400, 700), 77
EDGES = (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.51)
"""Of the rows of the table of reliability."""


@dataclass(frozen=True)
class Measured:
    """One video.

    Attributes:
        name: of the sequence.
        doubts, restarts: what the forecast is made of.
        forecast: by the package's constants.
        switches: true ones.
        features: `(L, F)` of links whose truth is known.
        wrong: `(L,)` which join two objects.
    """

    name: str
    doubts: float
    restarts: int
    forecast: SwitchForecast
    switches: int
    features: NDArray[np.float64]
    wrong: NDArray[np.bool_]


def measured(name: str, tracks: Tracks, true: NDArray[np.int64], size: tuple[int, int] | None) -> Measured:
    """What is expected of tracks, and what is true."""
    forecaster = SwitchForecaster(size)
    forecaster.add(tracks)
    forecast = forecaster.result()
    rows = np.flatnonzero(true >= 0)
    rows = rows[np.lexsort((tracks.frame[rows], true[rows]))]
    same = true[rows[1:]] == true[rows[:-1]]
    switches = int((same & (tracks.track_id[rows[1:]] != tracks.track_id[rows[:-1]])).sum())
    return Measured(name, forecaster.doubts, forecaster.restarts(), forecast, switches, *decisions(tracks, true))


def public(root: Path, regime: str) -> Iterator[Measured]:
    """The sequences of a regime, of both splits."""
    for split in SEQUENCES:
        for sequence, detections in inputs(root, split, regime, None):
            size = sequence.known_size()
            scorer = LearnedScorer(size=size)
            frames, _ = tracked_frames(sequence, detections, preset("learned"), regime == "kitti", scorer=scorer)
            tracks = TrackRows.concat([as_rows(number, None, frame) for number, frame in enumerate(frames)]).tracks
            yield measured(sequence.path.name, tracks, true_ids(sequence, tracks), size)


def simulated(kind: str, number: int) -> Measured:
    """A simulated crowd."""
    settings = SimulateSettings(seed=SEED, regime=kind, sequence_frames=LENGTHS[number % len(LENGTHS)])
    sequence = simulated_sequence(settings, number)
    scorer = LearnedScorer(size=sequence.size) if number // len(LENGTHS) % 2 == 0 else None
    name = "adaptive" if scorer is None else "learned"
    tracker = Tracker(preset(name), frame_rate=sequence.fps, size=sequence.size, scorer=scorer)
    visibility = VisibilityEstimator("occlusion", min_occluder_score=0.1)
    parts = []
    for frame, seconds, camera, detections in sequence:
        visible = visibility.estimate(detections, size=sequence.size).visibility
        tracked = tracker.update(replace(detections, visibility=visible), FrameContext(frame, seconds, camera))
        parts.append(as_rows(frame, None, tracked))
    tracks = TrackRows.concat(parts).tracks
    true = [gt_track_ids(tracks.at(frame).xyxy, sequence.truth.at(frame)) for frame in tracks.frames.tolist()]
    identities = np.concatenate([np.asarray(part, np.int64) for part in true] or [np.zeros(0, np.int64)])
    return measured(f"{kind}-{number}-{name}", tracks, identities, sequence.size)


def fit_forecast(videos: Sequence[Measured]) -> tuple[float, float, float]:
    """Switches for each doubt and for each restart, and the dispersion: the likeliest ones."""
    evidence = np.array([(video.doubts, video.restarts) for video in videos], np.float64)
    switches = np.array([video.switches for video in videos])

    def loss(logarithms: NDArray[np.float64]) -> float:
        mean = evidence @ np.exp(logarithms[:2]) + ALWAYS
        dispersion = float(np.exp(logarithms[2]))
        return -float(nbinom.logpmf(switches, dispersion, dispersion / (dispersion + mean)).sum())

    found = minimize(loss, [0.0, -1.0, 1.0], method="Nelder-Mead", options={"maxiter": 4000}).x
    doubt, restart, dispersion = np.exp(found).tolist()
    return doubt, restart, dispersion


def coverage(title: str, videos: Sequence[Measured]) -> str:
    """A row of the table of forecasts."""
    missed = [video for video in videos if not video.forecast.low <= video.switches <= video.forecast.high]
    expected = sum(video.forecast.expected for video in videos)
    listed = ", ".join(
        f"{one.name}: {one.switches}, expected {one.forecast.expected:.0f} ({one.forecast.low} to {one.forecast.high})"
        for one in missed
    )
    true = sum(video.switches for video in videos)
    return f"| {title} | {len(videos)} | {true} | {expected:.0f} | {len(videos) - len(missed)} | {listed} |"


def reliability(videos: Sequence[Measured], weights: Sequence[float]) -> Iterator[str]:
    """Rows of the table of reliability, the links of all videos together; the last one: of all."""
    features, wrong = (
        np.concatenate(columns) for columns in zip(*((one.features, one.wrong) for one in videos), strict=True)
    )
    doubt = np.minimum(1 / (1 + np.exp(-np.clip(weights[0] + features @ np.array(weights[1:]), -30, 30))), 0.5)
    for low, high in pairwise(EDGES):
        inside = (doubt >= low) & (doubt < high)
        if inside.any():
            stated, observed = doubt[inside].mean(), wrong[inside].mean()
            row = f"{inside.sum():,} | {wrong[inside].sum()} | {stated:.2%} | {observed:.2%}"
            yield f"| {low:.1%} to {min(high, 0.5):.1%} | {row} |"
    ranks, positive = rankdata(doubt), int(wrong.sum())
    auc = (ranks[wrong].sum() - positive * (positive + 1) / 2) / (positive * (len(wrong) - positive))
    yield f"| all, AUC {auc:.3f} | {len(wrong):,} | {positive} | {doubt.mean():.2%} | {wrong.mean():.2%} |"


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MOT_ROOT")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--fit", action="store_true", help="fit the constants on simulated crowds")
    parser.add_argument("--videos", type=int, default=14, help="simulated ones of each kind")
    args = parser.parse_args()
    weights: Sequence[float] = WEIGHTS
    parts: dict[str, list[Measured]] = {}
    if args.fit:
        parts = {kind: [simulated(kind, number) for number in range(args.videos)] for kind in KINDS}
        videos = [video for part in parts.values() for video in part]
        print("per doubt, per restart, dispersion: {:.2f}, {:.2f}, {:.1f}".format(*fit_forecast(videos)))
        features, wrong = (
            np.concatenate(columns) for columns in zip(*((one.features, one.wrong) for one in videos), strict=True)
        )
        weights = fit(features, wrong).tolist()
        print(f"weights of the doubt, of these alone:\n{tuple(weights)}")
    parts |= {regime: list(public(args.data, regime)) for regime in args.regimes}
    print("| videos | number | switches | expected | interval holds | where not |\n|---|--:|--:|--:|--:|---|")
    for title, videos in parts.items():
        print(coverage(title, videos))
    for title, videos in parts.items():
        print(f"\n{title}\n\n| doubt | links | wrong | stated | observed |\n|---|--:|--:|--:|--:|")
        print("\n".join(reliability(videos, weights)))


if __name__ == "__main__":
    main()
