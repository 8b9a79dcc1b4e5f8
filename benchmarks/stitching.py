"""Fits the weights of stitching on public training sequences, and says how sure its links are.

    python benchmarks/stitching.py --data MOT_ROOT [--simulated DIR] [--tracks DIR] [--without-scorer]

MOT_ROOT and the simulated detections are those of `mot_sequences`. The tracker (preset and scorer `learned`) runs over
every sequence, on training ones also backwards in time, which breaks tracks at other places; `--tracks DIR` keeps its
tracks there, and takes those that are. A pair of tracks is true when the identity of most of the last boxes of
the one is that of the first boxes of the other, and no other track of it lies between; pairs of two tracks without
identity are left out. Each kind of training sequences weighs as much as `MAX_TRUE` true pairs at most. The weights that
are printed are those of `trackweave.identity.stitch`; what they are worth is said for the evaluation sequences, and by
`box_accuracy.py --stitch`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from trackweave.association.labels import gt_track_ids
from trackweave.association.scorer import LearnedScorer
from trackweave.association.tracklets import TrackletMargins
from trackweave.formats.mot import read_ground_truth, read_mot, write_mot
from trackweave.formats.motchallenge import MotSequence, read_gmc
from trackweave.identity import stitch
from trackweave.mot.settings import preset
from trackweave.pipelines.box_outputs import as_rows
from trackweave.structures.tracks import Tracks

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the sibling is found when this is started as a file

from benchmarks.mot_sequences import REGIMES, inputs, tracked_frames

MAX_TRUE = 150
NEAR_ROWS = 8
"""Boxes at an end whose identities are counted."""
PENALTY = 3.0
"""Of squared standardised weights."""


@dataclass(frozen=True)
class Example:
    """The pairs of one sequence.

    Attributes:
        tracks: how many there are.
        pairs: `(P, 2)` rows of tracks.
        evidence: `(P,)` by name.
        is_true: `(P,)` bool.
        counts: `(P,)` bool, False for pairs that are neither true nor false.
    """

    tracks: int
    pairs: NDArray[np.int64]
    evidence: Mapping[str, NDArray[np.float64]]
    is_true: NDArray[np.bool_]
    counts: NDArray[np.bool_]


# --- examples --------------------------------------------------------------------------------------------------------


def tracks_of(sequence: MotSequence, detections: Path, regime: str, *, backwards: bool, kept: Path | None) -> Tracks:
    """What the tracker makes of a sequence, in the order of time either way."""
    way = "backwards" if backwards else "forwards"
    file = None if kept is None else kept / way / regime / f"{sequence.path.name}.txt"
    if file is not None and file.is_file():
        return read_mot(file)
    frames, _ = tracked_frames(
        sequence, detections, preset("learned"), regime == "kitti", LearnedScorer(), backwards=backwards
    )
    ordered = frames[::-1] if backwards else frames
    tracks = Tracks.concat([as_rows(index, None, frame).tracks for index, frame in enumerate(ordered)])
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_mot(file, tracks)
    return tracks


def example(sequence: MotSequence, tracks: Tracks, scorer: LearnedScorer) -> Example | None:
    """The judged pairs of a sequence; None where there is none."""
    rate, size = sequence.known_frame_rate(), sequence.known_size()
    camera = None
    if sequence.camera_motion is not None:
        motion = read_gmc(sequence.camera_motion, sequence.known_length())
        camera = stitch.camera_path([None, *motion[1:]])
    scene = stitch.VideoContext(rate, size, camera)
    crowd = stitch.crowd_motion(tracks, scene)
    tracklets = stitch.Tracklets.of(tracks, scene, crowd)
    pairs = stitch.candidates(tracklets, scene)
    pairs = pairs[stitch.is_near(stitch.evidence(tracklets, pairs, scene, crowd))]
    if not len(pairs):
        return None
    found = stitch.evidence(tracklets, pairs, scene, crowd)
    visibility = stitch.visibility_of(tracks, size)
    margins = TrackletMargins(scorer, rate, size).margins(tracks, visibility, tracklets.ids[pairs], camera)
    found |= stitch.evidence_of_scorer(found, margins)
    ends, beginnings = identities_at_ends(sequence, tracks, tracklets.ids)
    end, beginning = ends[pairs[:, 0]], beginnings[pairs[:, 1]]
    same = (end == beginning) & (end >= 0)
    next_of, prior_of = np.full(len(tracklets), np.iinfo(np.int64).max), np.full(len(tracklets), -1)
    np.minimum.at(next_of, pairs[same, 0], tracklets.first[pairs[same, 1]])
    np.maximum.at(prior_of, pairs[same, 1], tracklets.last[pairs[same, 0]])
    is_next = (tracklets.first[pairs[:, 1]] == next_of[pairs[:, 0]]) & (
        tracklets.last[pairs[:, 0]] == prior_of[pairs[:, 1]]
    )
    counts = ((end >= 0) | (beginning >= 0)) & (~same | is_next)
    return Example(len(tracklets), pairs, found, same, counts)


def identities_at_ends(
    sequence: MotSequence, tracks: Tracks, ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """True identity of most of the last boxes of each track, and of the first ones; −1 = none."""
    truth = read_ground_truth(sequence.path)
    identity = np.concatenate([gt_track_ids(one.xyxy, truth.at(frame)) for frame, one in tracks])
    ends, beginnings = [], []
    for track in ids.tolist():
        seen = identity[tracks.track_id == track]
        ends.append(most_frequent(seen[-NEAR_ROWS:]))
        beginnings.append(most_frequent(seen[:NEAR_ROWS]))
    return np.array(ends), np.array(beginnings)


def most_frequent(identities: NDArray[np.int64]) -> int:
    """−1 where all are."""
    known = identities[identities >= 0]
    return int(np.bincount(known).argmax()) if len(known) else -1


# --- the fit ---------------------------------------------------------------------------------------------------------


def logistic(
    x: NDArray[np.float64], y: NDArray[np.bool_], weight: NDArray[np.float64], signs: Sequence[int] = ()
) -> NDArray[np.float64]:
    """Weights of the columns of x and the constant, fitted with a penalty on standardised weights.

    Args:
        x: `(P, C)`.
        y: `(P,)`.
        weight: `(P,)` of each row.
        signs: of the columns: 1 or −1 holds a weight to one side of 0, 0 leaves it free; empty = all free.
    """
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    z = np.column_stack([(x - mean) / scale, np.ones(len(x))])

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        s = z @ theta
        gradient = z.T @ (weight * (1 / (1 + np.exp(-s)) - y))
        gradient[:-1] += PENALTY * theta[:-1]
        return float((weight * (np.logaddexp(0, s) - y * s)).sum() + PENALTY / 2 * (theta[:-1] ** 2).sum()), gradient

    sides = [{0: (None, None), 1: (0.0, None), -1: (None, 0.0)}[sign] for sign in (*signs, 0)] if signs else None
    options = {"maxiter": 500}
    theta = minimize(loss, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B", bounds=sides, options=options).x
    return np.append(theta[:-1] / scale, theta[-1] - (theta[:-1] * mean / scale).sum())


def fit(
    examples: Mapping[str, Sequence[Example]], names: Sequence[str]
) -> tuple[dict[str, float], tuple[float, float, float, float]]:
    """Weights of the evidence of these names, and of rivals."""
    flat = [one for group in examples.values() for one in group]
    weight = np.concatenate(
        [
            one.counts * min(1.0, MAX_TRUE / max(1, sum(int((e.is_true & e.counts).sum()) for e in group)))
            for group in examples.values()
            for one in group
        ]
    )
    y = np.concatenate([one.is_true for one in flat])
    theta = logistic(np.concatenate([columns(one, names) for one in flat]), y, weight)
    weights = dict(zip([*names, "bias"], theta.tolist(), strict=True))
    rivals = []
    for one in flat:
        own = stitch.log_odds(weights, one.evidence)
        alone = [stitch.against_rivals(one.pairs, own, one.tracks, choice) for choice in ((0, 1, 0, 0), (0, 0, 1, 0))]
        rivals.append(np.column_stack([own, *alone]))
    own, by_end, by_beginning, bias = logistic(np.concatenate(rivals), y, weight).tolist()
    return weights, (own, by_end, by_beginning, bias)


def columns(one: Example, names: Sequence[str]) -> NDArray[np.float64]:
    """`(P, len(names))`."""
    return np.column_stack([one.evidence[name] for name in names])


# --- output ----------------------------------------------------------------------------------------------------------


def reliability(group: Sequence[Example], weights: Mapping[str, float], rivals: Sequence[float]) -> Iterator[str]:
    """How many of the pairs of each probability are true."""
    probability, truth = [], []
    for one in group:
        odds = stitch.against_rivals(one.pairs, stitch.log_odds(weights, one.evidence), one.tracks, rivals)
        probability.append(1 / (1 + np.exp(-odds[one.counts])))
        truth.append(one.is_true[one.counts])
    p, y = np.concatenate(probability), np.concatenate(truth)
    for low, high in ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
        inside = (p >= low) & (p < high)
        yield f"{y[inside].sum()}/{inside.sum()}"
    yield f"{y[p >= 0.6].sum()}/{y.sum()}"


def main() -> None:
    """Prints weights and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MOT_ROOT")
    parser.add_argument("--simulated", type=Path, metavar="DIR", help="simulated detections of SportsMOT")
    parser.add_argument("--tracks", type=Path, metavar="DIR", help="keep the tracks there, and read those that are")
    parser.add_argument("--without-scorer", action="store_true", help="fit the weights for runs without one")
    args = parser.parse_args()
    scorer = LearnedScorer()
    examples: dict[tuple[str, str], list[Example]] = {}
    for split, backwards in (("training", False), ("training", True), ("evaluation", False)):
        for regime in (*REGIMES, "tud"):
            for sequence, detections in inputs(args.data, split, regime, args.simulated):
                tracks = tracks_of(sequence, detections, regime, backwards=backwards, kept=args.tracks)
                one = example(sequence, tracks, scorer)
                if one is not None:
                    examples.setdefault((split, regime), []).append(one)
    training = {regime: group for (split, regime), group in examples.items() if split == "training"}
    names = [name for name in stitch.WEIGHTS_WITHOUT_SCORER if name != "bias"]
    if not args.without_scorer:
        names = [name for name in stitch.WEIGHTS if name != "bias"]
    weights, rivals = fit(training, names)
    for name, weight in weights.items():
        print(f'    "{name}": {weight:.2f},')
    print(", ".join(f"{value:.2f}" for value in rivals))
    print("| true of all pairs by probability | 0.2–0.4 | 0.4–0.6 | 0.6–0.8 | 0.8–1 | of true ones, above 0.6 |")
    print("|---|---|---|---|---|---|")
    for (split, regime), group in examples.items():
        print(f"| {split}, {regime} | {' | '.join(reliability(group, weights, rivals))} |")


if __name__ == "__main__":
    main()
