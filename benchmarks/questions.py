"""HOTA after k answers of a person, on public sequences: which questions are worth asking.

    python benchmarks/questions.py --data MOT_ROOT [--policy repair margin random exchange …] [--errors 0 0.02]
        [--answers 100 300 1000 …] [--sequences 0004 …] [--json FILE]
    python benchmarks/questions.py --data MOT_ROOT --fit

MOT_ROOT is that of `mot_sequences`; DanceTrack's evaluation split is tracked with the package's learned scorer. A
simulated person knows the true boxes (IoU of at least one half): asked about a box, she names its object; where no true
box is, she names the nearest box of the same track within 10 frames, else says that it is nobody. A share `--errors`
of her names is that of another object of the frame. Policies:

- `repair`: `trackweave ask`: doubt × the boxes that the answer is expected to repair;
- `margin`: the most doubtful link first, at most one question per track and 10 frames, the tracks decided again;
- `random`: any box, the tracks decided again;
- `exchange`: the most doubtful link first; identities are exchanged by hand, from there on to the next box that was
  named of either track, and nothing is decided again.

Scores are those of `trackweave evaluate`, combined over the sequences, computed from overlaps that are found once; the
area is the mean HOTA over the answers up to the last count, a point every 100. `--fit` prints the weights of
`corrections.doubt` from the training split of DanceTrack and MOT17, and how well they hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, minimize
from scipy.stats import rankdata

from trackweave.association.labels import gt_track_ids
from trackweave.association.scorer import LearnedScorer
from trackweave.boxes import box_iou
from trackweave.corrections.constraints import Constraints, constraints
from trackweave.corrections.decision import Decision, decide
from trackweave.corrections.doubt import FEATURES, Links, link_doubt, link_features, previous_rows
from trackweave.corrections.queue import expected_repair, row_to_ask
from trackweave.evaluation.evaluate import evaluate
from trackweave.evaluation.settings import EvaluationSettings
from trackweave.formats.mot import read_ground_truth, write_mot
from trackweave.formats.motchallenge import MotSequence
from trackweave.mot.settings import preset
from trackweave.pipelines.box_outputs import as_rows
from trackweave.storage.track_archive import TrackRows
from trackweave.structures.corrections import Act, Named, Nobody, Observation
from trackweave.structures.tracks import Tracks

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the sibling is found when this is started as a file

from benchmarks.mot_sequences import inputs, tracked_frames

POLICIES = ("repair", "margin", "random", "exchange")
STEP = 100
"""Answers between two points of the curve."""
THRESHOLDS, EPSILON = np.arange(0.05, 0.99, 0.05), np.finfo(float).eps
"""Of HOTA's localisation."""
NEAR = 10
"""Frames within which the person looks for a box of the same track that shows an object, and the margin asks once."""


def tracked(sequence: MotSequence, detections: Path) -> TrackRows:
    """The tracks of a sequence with the package's learned scorer."""
    scorer = LearnedScorer(size=sequence.known_size())
    frames, _ = tracked_frames(sequence, detections, preset("learned"), False, scorer=scorer)
    return TrackRows.concat([as_rows(index, None, frame) for index, frame in enumerate(frames)])


def true_ids(sequence: MotSequence, tracks: Tracks) -> NDArray[np.int64]:
    """`(N,)` the true identity of each observation; −1 = none."""
    truth = read_ground_truth(sequence.path)
    parts = [gt_track_ids(tracks.at(frame).xyxy, truth.at(frame)) for frame in tracks.frames.tolist()]
    return np.concatenate([np.asarray(part, np.int64) for part in parts] or [np.zeros(0, np.int64)])


@dataclass(eq=False)
class Truth:
    """The true boxes of one sequence beside the observations of its tracks; no decision changes their overlaps.

    Attributes:
        frames: of each frame the positions of its true boxes, the rows of its observations, and `(G, N)` IoU.
        identity: `(B,)` identity of each true box, counted from 0.
    """

    frames: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]
    identity: NDArray[np.int64]

    @classmethod
    def of(cls, sequence: Path, tracks: Tracks) -> Truth:
        """The truth of a sequence folder."""
        truth = read_ground_truth(sequence)
        frames, identities, seen = [], [np.zeros(0, np.int64)], 0
        for frame in np.union1d(np.unique(truth.frame), tracks.frame).tolist():
            here = truth.at(frame)
            low, high = np.searchsorted(tracks.frame, [frame, frame + 1])
            overlap = np.asarray(box_iou(here.xyxy, tracks.xyxy[low:high]), np.float64)
            frames.append((np.arange(seen, seen + len(here)), np.arange(low, high), overlap))
            identities.append(np.asarray(here.track_id, np.int64))
            seen += len(here)
        return cls(frames, np.unique(np.concatenate(identities), return_inverse=True)[1].astype(np.int64))

    def counts(self, track_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """TP, FN, FP and TP × AssA at each threshold, and IDTP and the boxes of truth and tracks: `(7, 19)`.

        As in TrackEval; see Luiten et al., HOTA, IJCV 2021.

        Args:
            track_id: `(N,)` of each observation; −1 = left out.
        """
        ids, own = np.unique(track_id, return_inverse=True)
        left_out = int(ids[0] == -1) if len(ids) else 0
        own = own - left_out
        shape = int(self.identity.max(initial=-1)) + 1, len(ids) - left_out
        true_count = np.bincount(self.identity, minlength=shape[0])
        count = np.bincount(own[own >= 0], minlength=shape[1])
        likely, together = np.zeros(shape), np.zeros(shape)
        kept = [(self.identity[true], own[rows[own[rows] >= 0]], overlap[:, own[rows] >= 0])
                for true, rows, overlap in self.frames]  # fmt: skip
        for true, track, overlap in kept:
            union = overlap.sum(axis=0)[None] + overlap.sum(axis=1)[:, None] - overlap
            likely[np.ix_(true, track)] += np.where(union > 0, overlap / np.maximum(union, 1e-12), 0)
            together[np.ix_(true, track)] += overlap >= 0.5
        alignment = likely / np.maximum(true_count[:, None] + count[None] - likely, 1e-12)
        matched = []
        for true, track, overlap in kept:
            r, c = linear_sum_assignment(-alignment[np.ix_(true, track)] * overlap)
            matched.append((true[r], track[c], overlap[r, c]))
        true, track, overlap = (np.concatenate(columns) for columns in zip(*matched, strict=True))
        result = np.zeros((7, len(THRESHOLDS)))
        for number, threshold in enumerate(THRESHOLDS):
            found = overlap >= threshold - EPSILON
            both = np.zeros(shape)
            np.add.at(both, (true[found], track[found]), 1)
            union = np.maximum(true_count[:, None] + count[None] - both, 1)
            result[:4, number] = (
                found.sum(),
                len(self.identity) - found.sum(),
                count.sum() - found.sum(),
                (both**2 / union).sum(),
            )
        r, c = linear_sum_assignment(-together)
        result[4:] = np.array([together[r, c].sum(), len(self.identity), count.sum()])[:, None]
        return result


@dataclass(eq=False)
class Video:
    """One sequence, what was said about it, and what was decided."""

    name: str
    tracks: Tracks
    item: NDArray[np.int64]
    true: NDArray[np.int64]
    truth: Truth
    links: Links
    acts: list[Act] = field(default_factory=list)
    asked: NDArray[np.bool_] = field(init=False)
    is_outdated: bool = field(init=False)
    track_id: NDArray[np.int64] = field(init=False)
    repair: NDArray[np.float64] = field(init=False)
    decision: Decision = field(init=False)
    known: Constraints = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forgets what was said."""
        self.acts = []
        self.asked = np.zeros(len(self.tracks), np.bool_)
        self.is_outdated = True
        self.decide()

    def decide(self) -> None:
        """Decides under what was said, if something was said since it was decided."""
        if not self.is_outdated:
            return
        self.is_outdated = False
        self.known = constraints(self.acts, self.tracks, self.item, ())
        self.decision = decide(self.tracks, self.links, self.known)
        self.track_id = self.decision.track_id
        self.repair = expected_repair(self.decision, self.asked)[1]

    def best(self) -> tuple[float, int]:
        """The largest expected repair, and the observation to ask about."""
        self.decide()
        segment = int(self.repair.argmax())
        rows = self.decision.order[self.decision.starts[segment] : self.decision.starts[segment + 1]]
        return float(self.repair[segment]), row_to_ask(self.decision, self.links, segment, rows)[0]

    def observation(self, row: int) -> Observation:
        """As acts call it."""
        return Observation(int(self.tracks.frame[row]), int(self.item[row]))


def answer(video: Video, row: int, errors: float, rng: np.random.Generator) -> tuple[int, int]:
    """The observation that the person names, and the identity that she says; −1 = nobody."""
    if video.true[row] < 0:
        near = np.abs(video.tracks.frame - video.tracks.frame[row]) <= NEAR
        near &= (video.tracks.track_id == video.tracks.track_id[row]) & (video.true >= 0)
        if not near.any():
            return row, -1
        rows = np.flatnonzero(near)
        row = int(rows[np.argmin(np.abs(video.tracks.frame[rows] - video.tracks.frame[row]))])
    identity = int(video.true[row])
    if rng.random() < errors:
        others = np.unique(video.true[video.tracks.frame == video.tracks.frame[row]])
        others = others[(others >= 0) & (others != identity)]
        if len(others):
            identity = int(rng.choice(others))
    return row, identity


def ask_repair(videos: Sequence[Video], errors: float, rng: np.random.Generator) -> Iterator[None]:
    """Questions of `trackweave ask`; one is answered at each step."""
    while True:
        video = max(videos, key=lambda one: one.best()[0])
        if video.best()[0] <= 0:
            return
        row = video.best()[1]
        named, identity = answer(video, row, errors, rng)
        video.asked[row] = named != row
        say(video, named, identity)
        yield


def ask_margin(videos: Sequence[Video], errors: float, rng: np.random.Generator) -> Iterator[None]:
    """The most doubtful link first, at most one question for each track and `NEAR` frames."""
    for video, row in by_doubt(videos):
        say(video, *answer(video, row, errors, rng))
        yield


def ask_random(videos: Sequence[Video], errors: float, rng: np.random.Generator) -> Iterator[None]:
    """Any box."""
    rows = [(video, row) for video in videos for row in range(len(video.tracks))]
    for number in rng.permutation(len(rows)).tolist():
        video, row = rows[number]
        say(video, *answer(video, row, errors, rng))
        yield


def say(video: Video, row: int, identity: int) -> None:
    """Takes the person's answer; the tracks are decided again before they are looked at."""
    at = video.observation(row)
    video.acts.append(Nobody(at) if identity < 0 else Named(at, str(identity)))
    video.is_outdated = True


def by_doubt(videos: Sequence[Video]) -> Iterator[tuple[Video, int]]:
    """Links from the most doubtful on, each with its observation after it."""
    order = sorted(
        ((-video.links.doubt[row], number, int(row)) for number, video in enumerate(videos)
         for row in np.flatnonzero(video.links.previous >= 0)),
    )  # fmt: skip
    asked: set[tuple[int, int, int]] = set()
    for _, number, row in order:
        video = videos[number]
        track, bucket = int(video.tracks.track_id[row]), int(video.tracks.frame[row]) // NEAR
        if not asked & {(number, track, bucket + step) for step in (-1, 0, 1)}:
            asked.add((number, track, bucket))
            yield video, row


def ask_exchange(videos: Sequence[Video], errors: float, rng: np.random.Generator) -> Iterator[None]:
    """The most doubtful link first; where the person names another object than the track has, both tracks' identities
    are exchanged from there on, up to the next frame on which she has named one of them."""
    ids = {id(video): video.tracks.track_id.copy() for video in videos}
    named = {id(video): np.zeros(len(video.tracks), np.bool_) for video in videos}
    owner: dict[tuple[int, int], int] = {}
    for video, row in by_doubt(videos):
        own, said, frame = ids[id(video)], named[id(video)], video.tracks.frame
        row, identity = answer(video, row, errors, rng)
        if identity >= 0:
            here = int(own[row])
            others = {number for (of, _), number in owner.items() if of == id(video)}
            following = max(int(own.max()), *others, 0) + 1
            there = owner.setdefault((id(video), identity), following if here in others else here)
            if there != here:
                both = (own == here) | (own == there)
                until = frame[said & both & (frame > frame[row])].min(initial=int(frame[-1]) + 1)
                within = (frame >= frame[row]) & (frame < until)
                one, other = within & (own == here), within & (own == there)
                own[one], own[other] = there, here
            said[row] = True
        video.track_id = own
        yield


ASK = {"repair": ask_repair, "margin": ask_margin, "random": ask_random, "exchange": ask_exchange}


def scores(videos: Sequence[Video]) -> dict[str, float]:
    """HOTA, AssA, DetA and IDF1 in percent, of all sequences together."""
    for video in videos:
        video.decide()
    true, missed, false, associated, identical, truths, boxes = sum(
        (video.truth.counts(video.track_id) for video in videos), np.zeros((7, len(THRESHOLDS)))
    )
    detection, association = true / np.maximum(true + missed + false, 1), associated / np.maximum(true, 1)
    values = {"HOTA": np.sqrt(detection * association), "AssA": association, "DetA": detection}
    values["IDF1"] = 2 * identical / np.maximum(truths + boxes, 1)
    return {name: round(100 * float(value.mean()), 2) for name, value in values.items()}


def evaluated(videos: Sequence[Video], data: Path) -> dict[str, float]:
    """The same by `trackweave evaluate`, which takes longer."""
    with tempfile.TemporaryDirectory() as folder:
        for video in videos:
            kept = np.flatnonzero(video.track_id >= 0)
            tracks = video.tracks[kept]
            unique = Tracks.from_columns(tracks.frame, video.track_id[kept], tracks.xyxy, tracks.score)
            write_mot(Path(folder) / f"{video.name}.txt", unique)
        settings = EvaluationSettings(sequences=tuple(video.name for video in videos))
        combined = evaluate(folder, data / "DanceTrack", settings).classes[0].combined
    return {name: round(100 * float(combined[name]), 2) for name in ("HOTA", "AssA", "DetA", "IDF1")}


def simulate(
    videos: Sequence[Video], policy: str, errors: float, counts: Iterable[int], seed: int = 0
) -> list[dict[str, Any]]:
    """Scores after every `STEP` answers and after those of `counts`, the CPU seconds meanwhile, scores included."""
    for video in videos:
        video.restart()
    rows = [{"answers": 0, "seconds": 0.0, **scores(videos)}]
    asking = ASK[policy](videos, errors, np.random.default_rng(seed))
    answered, started = 0, time.process_time()
    for count in sorted({*counts, *range(STEP, max(counts, default=0), STEP)}):
        while answered < count and next(asking, "end") is None:
            answered += 1
        rows.append({"answers": answered, **scores(videos), "seconds": round(time.process_time() - started, 1)})
        print(policy, errors, rows[-1], file=sys.stderr, flush=True)
        if answered < count:
            break
    return rows


def area(rows: Sequence[dict[str, Any]]) -> float:
    """Mean HOTA over the answers."""
    answers, hota = [row["answers"] for row in rows], [row["HOTA"] for row in rows]
    return float(np.trapezoid(hota, answers) / max(answers[-1], 1))


# --- the weights of the doubt -----------------------------------------------------------------------------------------


def decisions(tracks: Tracks, true: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """`(L, F)` features of links between observations whose identity is known, and whether they join two objects."""
    previous = previous_rows(tracks)
    features, _ = link_features(tracks, previous)
    last, is_known, is_wrong = np.full(len(true), -1), np.zeros(len(true), np.bool_), np.zeros(len(true), np.bool_)
    for row, identity in enumerate(true.tolist()):
        before = last[previous[row]] if previous[row] >= 0 else -1
        is_known[row], is_wrong[row] = identity >= 0 <= before, identity != before
        last[row] = identity if identity >= 0 else before
    return features[is_known], is_wrong[is_known]


def fit(features: NDArray[np.float64], wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights of a logistic regression, that of the constant first."""
    mean, spread = features.mean(axis=0), features.std(axis=0)
    scaled = (features - mean) / spread

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = weights[0] + scaled @ weights[1:]
        error = 1 / (1 + np.exp(-logit)) - wrong
        value = np.mean(np.logaddexp(0, logit) - wrong * logit) + 1e-5 * np.sum(weights[1:] ** 2)
        return float(value), np.r_[error.mean(), scaled.T @ error / len(wrong) + 2e-5 * weights[1:]]

    found = minimize(loss, np.zeros(scaled.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return np.asarray(np.r_[found[0] - np.sum(found[1:] * mean / spread), found[1:] / spread].round(3), np.float64)


def report_fit(data: Path) -> None:
    """Fits on the training split, and says how well the weights hold on each."""
    table = {}
    for split in ("training", "evaluation"):
        for regime in ("dancetrack", "mot17-frcnn"):
            for sequence, detections in inputs(data, split, regime, None):
                tracks = tracked(sequence, detections).tracks
                table[split, regime, sequence.path.name] = decisions(tracks, true_ids(sequence, tracks))
    trained = [part for (split, *_), part in table.items() if split == "training"]
    weights = fit(np.concatenate([part[0] for part in trained]), np.concatenate([part[1] for part in trained]))
    print(f"weights of 1, {', '.join(FEATURES)}:\n{tuple(weights.tolist())}")
    print("| split | sequences | links | wrong | expected | AUC |\n|---|---|--:|--:|--:|--:|")
    for split, regime in dict.fromkeys(key[:2] for key in table):
        parts = [part for key, part in table.items() if key[:2] == (split, regime)]
        features, wrong = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        logit = weights[0] + features @ weights[1:]
        ranks, positive = rankdata(logit), int(wrong.sum())
        auc = (ranks[wrong].sum() - positive * (positive + 1) / 2) / (positive * (len(wrong) - positive))
        expected = float(np.sum(1 / (1 + np.exp(-logit))))
        print(f"| {split} | {regime} | {len(wrong):,} | {positive} | {expected:.0f} | {auc:.3f} |")


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MOT_ROOT")
    parser.add_argument("--policy", nargs="+", choices=POLICIES, default=["repair"])
    parser.add_argument("--errors", nargs="+", type=float, default=[0.0], help="shares of wrong names")
    parser.add_argument("--answers", nargs="+", type=int, default=[100, 300, 1000, 1800, 3000])
    parser.add_argument("--sequences", nargs="+", help="numbers of DanceTrack sequences; all of the evaluation split")
    parser.add_argument("--fit", action="store_true", help="fit the weights of the doubt instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    if args.fit:
        report_fit(args.data)
        return
    videos = []
    for sequence, detections in inputs(args.data, "evaluation", "dancetrack", None):
        if args.sequences is None or sequence.path.name.removeprefix("dancetrack") in args.sequences:
            rows = tracked(sequence, detections)
            true = true_ids(sequence, rows.tracks)
            truth = Truth.of(sequence.path, rows.tracks)
            videos.append(Video(sequence.path.name, rows.tracks, rows.detection, true, truth, link_doubt(rows.tracks)))
    print("before any answer, by trackweave evaluate:", evaluated(videos, args.data), file=sys.stderr, flush=True)
    found = {}
    for policy in args.policy:
        for errors in args.errors:
            found[policy, errors] = simulate(videos, policy, errors, args.answers)
    print("| questions | wrong | answers | HOTA | AssA | DetA | IDF1 | area |\n|---|--:|--:|--:|--:|--:|--:|--:|")
    for (policy, errors), steps in found.items():
        for row in (one for one in steps if one["answers"] in (0, *args.answers, steps[-1]["answers"])):
            figures = " | ".join(f"{row[name]:.1f}" for name in ("HOTA", "AssA", "DetA", "IDF1"))
            whole = f"{area(steps):.1f}" if row is steps[-1] else ""
            print(f"| {policy} | {errors:.0%} | {row['answers']} | {figures} | {whole} |")
    if args.json is not None:
        record = [{"policy": policy, "errors": errors, "rows": steps} for (policy, errors), steps in found.items()]
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
