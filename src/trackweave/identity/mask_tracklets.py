"""Stitching of masks: what pictures, masks and wholes say of two tracks that follow each other, besides their boxes.

Only the ends of a track and a few views of it are kept: memory grows with the tracks, not with the frames. Levels are
stitched from the coarsest to the finest, so that parts of one whole find each other by where they lie in it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.descriptor import mask_crop
from trackweave.detectors.embedders import Embedder
from trackweave.identity import stitch
from trackweave.identity.overlaps import LevelObjects, PairEvidence
from trackweave.identity.stitch import END_BOXES, Link, Tracklets, TrackletScorer, VideoContext
from trackweave.structures.identity import IdentityTable, Tree
from trackweave.structures.tracks import FrameObjects, Tracks

HORIZON_SECONDS = 20.0
"""Longest gap."""
KEPT = 12
"""Pairs of each end, and of each beginning, of which more than boxes and colours is asked."""
VIEWS, EDGE_VIEWS = 8, 3
"""Frames on which a track is looked at: spread over its life, and at each of its ends."""
SILHOUETTE = 24
"""Side to which a mask's box is brought for its shape."""
PRIOR_OFFSET = 0.15
"""Distance, in sizes of the whole, between places of a part in its whole that are not known."""

WEIGHTS: Mapping[str, float] = {
    "bias": -0.23,
    "log_damped": -0.30,
    "log_gap": -0.53,
    "border_both": -0.65,
    "leaves": -0.90,
    "crosses": 2.45,
    "forwards": 2.16,
    "backwards": 3.08,
    "likeness": 0.86,
    "area": -0.61,
    "shape": 0.64,
    "kin": 1.94,
    "strangers": -0.60,
    "offset": -6.01,
}
"""Log-odds per unit of evidence; `benchmarks/mask_stitching.py` fits them."""
RIVALS = (0.99, -0.28, -0.50, 1.63)
"""As `stitch.RIVALS`."""


class _TrackletRow(NamedTuple):
    """A track on a frame."""

    frame: int
    xyxy: NDArray[np.float32]
    score: float


class TrackEnds:
    """The first and the last boxes of every track of masks."""

    def __init__(self) -> None:
        self._first: dict[int, list[_TrackletRow]] = defaultdict(list)
        self._last: dict[int, deque[_TrackletRow]] = defaultdict(lambda: deque(maxlen=END_BOXES))

    def add(self, frame: int, levels: Sequence[LevelObjects]) -> None:
        """Takes the objects of a frame; frames come in order."""
        for _, objects in levels:
            for track, xyxy, score in zip(objects.track_id.tolist(), objects.xyxy, objects.score.tolist(), strict=True):
                first = self._first[track]
                rows = first if len(first) < END_BOXES else self._last[track]
                rows.append(_TrackletRow(frame, xyxy, score))

    def first(self, track: int) -> int:
        """The first frame of a track."""
        return self._first[track][0].frame

    def last(self, track: int) -> int:
        """The last frame of a track."""
        return (self._last.get(track) or self._first[track])[-1].frame

    def of(self, table: IdentityTable, level: int) -> Tracks:
        """The ends of the things of a level, as tracks; of two tracks of one thing on a frame that of the higher
        score counts."""
        chosen: dict[tuple[int, int], _TrackletRow] = {}
        at = table.level == level
        for track, thing in zip(table.track_id[at].tolist(), table.identity[at].tolist(), strict=True):
            for row in (*self._first.get(track, ()), *self._last.get(track, ())):
                known = chosen.get((row.frame, thing))
                if known is None or row.score > known.score:
                    chosen[row.frame, thing] = row
        if not chosen:
            return Tracks.empty()
        keys = sorted(chosen)
        rows = [chosen[key] for key in keys]
        return Tracks.from_columns(
            [frame for frame, _ in keys],
            [thing for _, thing in keys],
            np.stack([row.xyxy for row in rows]),
            [row.score for row in rows],
        )


# --- views ------------------------------------------------------------------------------------------------------------


@dataclass
class _CropAppearance:
    """What was seen of a thing, in the order of time."""

    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    silhouettes: list[NDArray[np.float32]] = field(default_factory=list)
    places: list[NDArray[np.float64] | None] = field(default_factory=list)

    def halves(self) -> NDArray[np.float32] | None:
        """`(2, E)` unit vectors of its first and its second half; None where nothing was seen."""
        seen = [vector for vector in self.vectors if vector.any()]
        if not seen:
            return None
        half = max(1, len(seen) // 2)
        both = np.stack([np.mean(seen[:half], axis=0), np.mean(seen[-half:], axis=0)])
        return np.asarray(both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-9), np.float32)

    def silhouette(self, end: slice) -> NDArray[np.float32]:
        """`(S, S)` mean at one end."""
        return np.asarray(np.mean(self.silhouettes[end], axis=0), np.float32)

    def place(self, end: slice) -> NDArray[np.float64] | None:
        """`(2,)` where in its whole it lies at one end; None where that is not known."""
        known = [place for place in self.places[end] if place is not None]
        return np.asarray(np.mean(known, axis=0)) if known else None


BEGINNING, END = slice(None, EDGE_VIEWS), slice(-EDGE_VIEWS, None)


class Views:
    """Appearance, shape and place in their wholes of things, from a few views of each.

    Args:
        evidence: on which frames each track was seen.
        table: which tracks are one thing.
        tree: which thing is part of which.
        embedder: gives the appearance.

    Attributes:
        area: thing → mean pixels of its masks.
    """

    def __init__(self, evidence: PairEvidence, table: IdentityTable, tree: Tree, embedder: Embedder) -> None:
        self._table, self._tree, self._embedder = table, tree, embedder
        self._due = _views_due(evidence, table)
        self._of: dict[int, _CropAppearance] = defaultdict(_CropAppearance)
        self.area = dict(zip(tree.identity.tolist(), tree.area.tolist(), strict=True))

    def is_due(self, position: int) -> bool:
        """Is something looked at on the frame at this position of `evidence`?"""
        return position in self._due

    def add(self, position: int, image: NDArray[np.uint8], levels: Sequence[LevelObjects]) -> None:
        """Takes views of the things that are due on a frame; frames come in order.

        Args:
            position: of the frame among those of the evidence.
            image: `(H, W, 3)` uint8 RGB.
            levels: its raw objects.
        """
        due = self._due[position]
        shown: dict[int, tuple[float, FrameObjects, int]] = {}
        for _, objects in levels:
            for row, thing in enumerate(self._table.of(objects.track_id).tolist()):
                score = float(objects.score[row])
                if thing not in shown or score > shown[thing][0]:
                    shown[thing] = (score, objects, row)
        for _, objects in levels:
            chosen = [
                (thing, row)
                for thing, (_, of, row) in shown.items()
                if of is objects and thing in due and objects.area[row] > 0
            ]
            if not chosen:
                continue
            chosen.sort()
            rows = [row for _, row in chosen]
            vectors = self._embedder.embed(image, objects.xyxy[rows], objects.masks[rows])
            for (thing, row), vector in zip(chosen, vectors, strict=True):
                appearance = self._of[thing]
                appearance.vectors.append(vector)
                appearance.silhouettes.append(_silhouette(objects, row))
                whole = shown.get(self._tree.parent(thing))
                appearance.places.append(None if whole is None else _place(objects.xyxy[row], whole[1].xyxy[whole[2]]))

    def of(self, things: NDArray[np.int64]) -> list[_CropAppearance]:
        """What was seen of each."""
        return [self._of[thing] for thing in things.tolist()]


def _views_due(evidence: PairEvidence, table: IdentityTable) -> dict[int, set[int]]:
    """Position → things to be looked at there: at their ends, and spread between."""
    identity = table.of(evidence.track_id)
    order = np.argsort(identity, kind="stable")
    due: dict[int, set[int]] = defaultdict(set)
    things, start = np.unique(identity[order], return_index=True)
    for thing, rows in zip(things.tolist(), np.split(order, start[1:]), strict=True):
        runs = [evidence.runs[evidence.first_run[row] : evidence.first_run[row + 1]] for row in rows.tolist()]
        seen = np.unique(np.concatenate([np.arange(low, high) for low, high in np.concatenate(runs).tolist()]))
        spread = np.linspace(0, len(seen) - 1, VIEWS).round().astype(np.int64)
        for position in {*seen[spread].tolist(), *seen[BEGINNING].tolist(), *seen[END].tolist()}:
            due[position].add(thing)
    return due


def _silhouette(objects: FrameObjects, row: int) -> NDArray[np.float32]:
    crop = mask_crop(objects.masks, row, objects.masks[[row]].boxes[0].astype(np.int64))
    return np.asarray(
        cv2.resize(crop.astype(np.float32), (SILHOUETTE, SILHOUETTE), interpolation=cv2.INTER_AREA), np.float32
    )


def _place(part: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.float64]:
    """`(2,)` centre of a part's box, from that of its whole, in sizes of that."""
    a, b = part.astype(np.float64), whole.astype(np.float64)
    size = np.sqrt(max((b[2] - b[0]) * (b[3] - b[1]), 1.0))
    return np.asarray((a[:2] + a[2:] - b[:2] - b[2:]) / 2 / size)


# --- links ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PartLinks:
    """What is known of wholes when their parts are stitched.

    Attributes:
        tree: which thing was part of which.
        identity: thing of a coarser level → the identity that it was stitched to.
    """

    tree: Tree
    identity: Mapping[int, int]

    def wholes(self, things: NDArray[np.int64]) -> NDArray[np.int64]:
        """`(N,)` the identity of each one's whole; 0 = none."""
        parents = [self.tree.parent(thing) for thing in things.tolist()]
        return np.array([self.identity.get(parent, parent) for parent in parents], np.int64)


@dataclass(frozen=True, eq=False)
class JudgedPairs:
    """Pairs of things that may follow each other.

    Attributes:
        tracklets: the things.
        pairs: `(P, 2)` rows of them, the earlier one first.
        evidence: `(P,)` by name.
    """

    tracklets: Tracklets
    pairs: NDArray[np.int64]
    evidence: Mapping[str, NDArray[np.float64]]


def stitch_masks(
    ends: Tracks,
    views: Views,
    parts: PartLinks,
    scene: VideoContext,
    scorer: TrackletScorer,
    min_probability: float,
) -> list[Link]:
    """Which things of one level go on with which others.

    Args:
        ends: boxes of the ends of each thing, see `TrackEnds`.
        views: what was seen of them.
        parts: which of their wholes are one.
        scene: the video.
        scorer: that links boxes.
        min_probability: from which two are linked, in (0, 1).

    Returns:
        links by the frame at which they begin; a thing is `before` in one at most, and `after` in one at most.
    """
    if not len(ends):
        return []
    judged = judge(ends, views, parts, scene, scorer)
    logits = stitch.log_odds(WEIGHTS, judged.evidence)
    logits = stitch.against_rivals(judged.pairs, logits, len(judged.tracklets), RIVALS)
    return stitch.chosen_links(judged.tracklets, judged.pairs, logits, min_probability)


def judge(ends: Tracks, views: Views, parts: PartLinks, scene: VideoContext, scorer: TrackletScorer) -> JudgedPairs:
    """The pairs that may follow each other, and all that speaks for and against each."""
    crowd = stitch.crowd_motion(ends, scene)
    tracklets = Tracklets.of(ends, scene, crowd)
    pairs = stitch.candidates(tracklets, scene, HORIZON_SECONDS)
    found = stitch.evidence(tracklets, pairs, scene, crowd)
    likeness = _likeness(tracklets, pairs, views.of(tracklets.ids))
    kept = _best_of_each_end(pairs, likeness - 2 * found["log_damped"], len(tracklets))
    pairs, found = pairs[kept], {name: column[kept] for name, column in found.items()}
    margins = np.zeros((0, 2), np.float32)
    if len(pairs):
        visibility = stitch.visibility_of(ends, scene.size)
        margins = scorer.margins(ends, visibility, tracklets.ids[pairs], scene.camera)
    more = evidence_of_masks(tracklets.ids[pairs], views, parts)
    evidence = found | stitch.evidence_of_scorer(found, margins) | {"likeness": likeness[kept]} | more
    return JudgedPairs(tracklets, pairs, evidence)


def _likeness(tracklets: Tracklets, pairs: NDArray[np.int64], views: Sequence[_CropAppearance]) -> NDArray[np.float64]:
    """`(P,)` log-odds of appearance; 0 where one of the two has none."""
    halves = [appearance.halves() for appearance in views]
    rows = np.array([row for row, both in enumerate(halves) if both is not None], np.int64)
    odds = np.zeros(len(pairs))
    if len(rows) < 2:
        return odds
    vectors = np.stack([both for both in halves if both is not None])
    of_cosine = stitch.likeness(tracklets, rows, vectors)
    at = np.full(len(tracklets), -1)
    at[rows] = np.arange(len(rows))
    known = (at[pairs] >= 0).all(axis=1)
    before, after = at[pairs[known]].T
    odds[known] = of_cosine.log_odds(np.einsum("pe,pe->p", vectors[before, 1], vectors[after, 0]))
    return odds


def _best_of_each_end(pairs: NDArray[np.int64], rank: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Rows, ascending, of the pairs among the `KEPT` best of their end or of their beginning."""
    kept = np.zeros(len(pairs), np.bool_)
    for column in pairs.T:
        order = np.lexsort((-rank, column))
        first = np.searchsorted(column[order], np.arange(count))
        kept[order[np.arange(len(pairs)) - first[column[order]] < KEPT]] = True
    return np.flatnonzero(kept)


def evidence_of_masks(ids: NDArray[np.int64], views: Views, parts: PartLinks) -> dict[str, NDArray[np.float64]]:
    """What sizes, shapes and wholes say of `(P, 2)` pairs of things."""
    area = np.array([[views.area[thing] for thing in pair] for pair in ids.tolist()]).reshape(-1, 2)
    wholes = parts.wholes(ids.reshape(-1)).reshape(-1, 2)
    known = (wholes > 0).all(axis=1)
    kin = known & (wholes[:, 0] == wholes[:, 1])
    shape, offset = np.zeros(len(ids)), np.full(len(ids), PRIOR_OFFSET)
    before, after = (views.of(column) for column in ids.T)
    for row, (one, other) in enumerate(zip(before, after, strict=True)):
        if one.silhouettes and other.silhouettes:
            a, b = one.silhouette(END), other.silhouette(BEGINNING)
            shape[row] = np.minimum(a, b).sum() / max(float(np.maximum(a, b).sum()), 1e-9)
        if kin[row]:
            here, there = one.place(END), other.place(BEGINNING)
            if here is not None and there is not None:
                offset[row] = min(float(np.hypot(*(here - there))), 0.6)
    return {
        "area": np.abs(np.log(np.maximum(area[:, 0], 1) / np.maximum(area[:, 1], 1))),
        "shape": shape,
        "kin": kin.astype(np.float64),
        "strangers": (known & ~kin).astype(np.float64),
        "offset": np.where(kin, offset, 0.0),
    }
