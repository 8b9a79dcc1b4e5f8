"""Fits the weights by which things of masks are stitched, on generated scenes, and says what they are worth on others.

    python benchmarks/mask_stitching.py --work DIR [--fit 20 21 … --report 60 61 …]

The scenes and their runs are those of `identity.py scenes`, in the same folder; runs that are not there are made. A
pair of things is true when the spreads of both over the details of the true things share at least 0.6, and no other
thing of the kind lies between; it is false where they share less than 0.4; others are left out. The weights that are
printed are those of `trackweave.identity.mask_tracklets`. Wholes are stitched before their parts, by the weights of the
round before, so the fit is repeated.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.identity import RawTracks, TrueLabels
from benchmarks.identity_scenes import LEVELS, REPORTED, reach_of, run_scene, scene_of
from benchmarks.stitching import logistic
from trackweave.frames.arrays import ArrayFrames
from trackweave.identity import mask_tracklets, stitch
from trackweave.identity.mask_tracklets import JudgedPairs, PartLinks, Views
from trackweave.identity.settings import IdentitySettings
from trackweave.identity.stitch import Link, TrackletScorer, VideoContext
from trackweave.ids import Level
from trackweave.pipelines.identity import write_identities
from trackweave.pipelines.stitching import MaskStitcher
from trackweave.storage.identity import read_identity
from trackweave.storage.run import RunPaths
from trackweave.structures.identity import IdentityTable
from trackweave.structures.tracks import Tracks

FITTED = (*range(20, 24), 101, 103, 105, 107, 108, 109, 111)
SIGNS = {
    "log_damped": -1,
    "log_gap": -1,
    "border_both": 0,
    "leaves": -1,
    "crosses": 1,
    "forwards": 1,
    "backwards": 1,
    "likeness": 1,
    "area": -1,
    "shape": 1,
    "kin": 1,
    "strangers": -1,
    "offset": -1,
}
"""The evidence that is used, and on which side of 0 each weight must lie: a few scenes do not tell all of them."""
ROUNDS = 3
Weights = tuple[Mapping[str, float], Sequence[float]]


@dataclass(frozen=True)
class LevelPairs:
    """The pairs of a level of a scene, judged but for what their wholes say.

    Attributes:
        judged: the pairs.
        views: of all things.
        parts: which thing is part of which.
        common: `(P,)` share that the spreads of both have in common.
    """

    judged: JudgedPairs
    views: Views
    parts: PartLinks
    common: NDArray[np.float64]

    def evidence(self, identity: Mapping[int, int]) -> dict[str, NDArray[np.float64]]:
        """With what wholes say that were stitched so."""
        ids = self.judged.tracklets.ids[self.judged.pairs]
        known = PartLinks(self.parts.tree, identity)
        return dict(self.judged.evidence) | mask_tracklets.evidence_of_masks(ids, self.views, known)

    @property
    def truth(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which pairs are true, and which count."""
        before, after = self.judged.pairs.T
        tracklets, same = self.judged.tracklets, self.common >= 0.5
        next_of, prior_of = np.full(len(tracklets), np.iinfo(np.int64).max), np.full(len(tracklets), -1)
        np.minimum.at(next_of, before[same], tracklets.first[after[same]])
        np.maximum.at(prior_of, after[same], tracklets.last[before[same]])
        is_next = (tracklets.first[after] == next_of[before]) & (tracklets.last[before] == prior_of[after])
        return same, (~same | is_next) & ((self.common >= 0.6) | (self.common < 0.4))


@dataclass(frozen=True)
class ScenePairs:
    """The pairs of a scene by level, its things, and the returns of its levels as sets of things."""

    levels: Mapping[int, LevelPairs]
    returns: Sequence[tuple[frozenset[int], frozenset[int]]]

    def solve(self, weights: Weights, min_probability: float) -> tuple[dict[int, int], Counter[str]]:
        """The identity of each thing, and numbers of links."""
        identity: dict[int, int] = {}
        count: Counter[str] = Counter()
        for level, one in sorted(self.levels.items()):
            tracklets, pairs = one.judged.tracklets, one.judged.pairs
            odds = stitch.log_odds(weights[0], one.evidence(identity))
            odds = stitch.against_rivals(pairs, odds, len(tracklets), weights[1])
            chosen = stitch.best_links(pairs, odds - np.log(min_probability / (1 - min_probability)))
            links = [Link(int(a), int(b), 0.0) for a, b in tracklets.ids[pairs[chosen]]]
            joined = stitch.stitched_ids(tracklets.ids, links)
            identity |= dict(zip(tracklets.ids.tolist(), joined.tolist(), strict=True))
            count["links"] += len(chosen)
            count["right"] += int((one.common[chosen] >= 0.5).sum())
            count[f"links {level}"] += len(chosen)
        for before, after in self.returns:
            sides = [{identity.get(thing, thing) for thing in side} for side in (before, after)]
            count["returns"] += 1
            count["found"] += bool(sides[0] & sides[1])
        return identity, count


def pairs_of(seed: int, work: Path) -> ScenePairs:
    """Everything that is known of the pairs of a scene."""
    scene, folder = scene_of(seed), work / f"scene{seed}"
    if not (folder / "run" / "summary.json").is_file():
        run_scene(scene, folder, reach_of(seed))
    run = RunPaths(folder / "run")
    frames = ArrayFrames(np.stack([scene[local] for local in range(len(scene))]))
    recorded: list[tuple[JudgedPairs, Views, PartLinks]] = []

    def record(
        ends: Tracks, views: Views, parts: PartLinks, video: VideoContext, scorer: TrackletScorer, _: float
    ) -> list[Link]:
        if len(ends):
            recorded.append((mask_tracklets.judge(ends, views, parts, video, scorer), views, parts))
        return []

    stitcher = MaskStitcher(frames, scene.cuts, record)
    write_identities(run, [Level(level) for level in LEVELS], IdentitySettings(stitch=True), stitcher=stitcher)
    table = read_identity(run).table  # type: ignore[union-attr]
    raw = {level: RawTracks(TrueLabels.of_scene(scene, level), run, Level(level)) for level in LEVELS}
    levels = {}
    for judged, views, parts in recorded:
        level = int(table.level[np.searchsorted(table.track_id, judged.tracklets.ids[0])])
        levels[level] = LevelPairs(judged, views, parts, _common(judged, table, raw[level]))
    returns = [
        (frozenset(table.of(sorted(before)).tolist()), frozenset(table.of(sorted(after)).tolist()))
        for level in LEVELS
        for before, after in raw[level].returns()
    ]
    return ScenePairs(levels, returns)


def _common(judged: JudgedPairs, table: IdentityTable, raw: RawTracks) -> NDArray[np.float64]:
    spreads = []
    for thing in judged.tracklets.ids.tolist():
        whole: Counter[int] = Counter()
        for track in table.members(thing).tolist():
            whole.update(raw.spread[track])
        spreads.append(whole)
    totals = [max(spread.total(), 1) for spread in spreads]
    return np.array(
        [
            sum(min(spreads[a][k] / totals[a], spreads[b][k] / totals[b]) for k in spreads[a])
            for a, b in judged.pairs.tolist()
        ]
    )


def fit(scenes: Sequence[ScenePairs]) -> Weights:
    """The weights of evidence and rivals."""
    identities: list[dict[int, int]] = [{} for _ in scenes]
    for _ in range(ROUNDS):
        parts = [
            (one, one.evidence(identity), *one.truth)
            for scene, identity in zip(scenes, identities, strict=True)
            for one in scene.levels.values()
        ]
        columns = [np.column_stack([found[name] for name in SIGNS]) for _, found, _, _ in parts]
        truth = np.concatenate([is_true for *_, is_true, _ in parts])
        counts = np.concatenate([counts for *_, counts in parts]).astype(np.float64)
        theta = logistic(np.concatenate(columns), truth, counts, list(SIGNS.values()))
        weights = dict(zip([*SIGNS, "bias"], theta.tolist(), strict=True))
        rivals = []
        for (one, found, *_), _ in zip(parts, columns, strict=True):
            own = stitch.log_odds(weights, found)
            pairs, count = one.judged.pairs, len(one.judged.tracklets)
            alone = [stitch.against_rivals(pairs, own, count, choice) for choice in ((0, 1, 0, 0), (0, 0, 1, 0))]
            rivals.append(np.column_stack([own, *alone]))
        fitted = (weights, logistic(np.concatenate(rivals), truth, counts).tolist())
        identities = [scene.solve(fitted, 0.6)[0] for scene in scenes]
    return fitted


def main() -> None:
    """Prints weights and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="runs are kept here")
    parser.add_argument("--fit", nargs="*", type=int, default=FITTED, help="seeds of scenes")
    parser.add_argument("--report", nargs="*", type=int, default=REPORTED, help="seeds of other scenes")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    fitted, reported = ([pairs_of(seed, given.work) for seed in seeds] for seeds in (given.fit, given.report))
    weights = fit(fitted)
    for name, weight in weights[0].items():
        print(f'    "{name}": {weight:.2f},')
    print(", ".join(f"{value:.2f}" for value in weights[1]))
    print("| probability | scenes | links | precision | returns found |\n|---|---|---|---|---|")
    for probability in (0.5, 0.65, 0.8):
        for called, scenes in (("fitted", fitted), ("reported", reported)):
            total = sum((scene.solve(weights, probability)[1] for scene in scenes), Counter[str]())
            precision = f"{total['right'] / max(1, total['links']):.3f}"
            found = f"{total['found']} of {total['returns']}"
            print(f"| {probability} | {called} | {total['links']} | {precision} | {found} |")


if __name__ == "__main__":
    main()
