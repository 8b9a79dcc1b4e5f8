"""`Targets`: what a model should have answered on a frame, from the truth or from the tracker's own decisions.

Which true identity each detection shows: honest labels for samples of videos whose truth is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.boxes import box_iou
from trackweave.formats.tables import GroundTruth
from trackweave.structures.detections import MIN_IOU

UNMATCHED = -1
"""Nothing continues this one."""
UNKNOWN = -2
"""Nobody knows: not learned from."""
NOBODY = -1


@dataclass(frozen=True, eq=False)
class Targets:
    """The right partner of every track and detection of a frame.

    Attributes:
        tracks: `(T,)` int64 row of the pair that continues the track, `UNMATCHED` or `UNKNOWN`.
        detections: `(D,)` int64 row of the pair that the detection continues, `UNMATCHED` or `UNKNOWN`.
    """

    tracks: NDArray[np.int64]
    detections: NDArray[np.int64]


KEPT = 0.97
"""Share of a claim that is left after a frame: what a track showed 23 frames ago weighs half."""
MARGIN = 2.0
"""How much stronger an older identity's claim must be than the newest one's for a track to return to it. Without a
margin two tracks that were mixed up exchange their objects on every frame, each time to put the last one right."""

SENIORITY = 3.0
"""How much more a track's claim weighs than an equal one of a younger track. Two tracks of one object would otherwise
take turns: what they are given evens their claims out."""


class TrueIdentities:
    """Which true identity each track shows: the one that it was given last, or one that it was given much more of late.

    A track that was given a neighbour's detection for a few frames still counts as its own person's, so that a model
    learns to put a mistake right; only when it lasts, the track has changed hands.
    """

    def __init__(self) -> None:
        self._shown: dict[int, _Shown] = {}

    def of(self, frame: int, track_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """`(T,)` int64 identities, `NOBODY` where it is not known, and `(T,)` float64 how strong each track's claim to
        it is: it grows with every match, fades with every frame, and weighs more than that of a younger track."""
        identity, claim = np.full(len(track_ids), NOBODY, np.int64), np.zeros(len(track_ids))
        holders: dict[int, list[tuple[int, int]]] = {}
        for row, track in enumerate(track_ids.tolist()):
            shown = self._shown.get(track)
            if shown is not None:
                identity[row] = most = shown.identity
                claim[row] = shown.claims[most] * KEPT ** (frame - shown.since)
                holders.setdefault(most, []).append((shown.begun, row))
        for rivals in holders.values():
            youngest_first = [row for _, row in sorted(rivals, key=lambda rival: rival[0], reverse=True)]
            claim[youngest_first] *= SENIORITY ** np.arange(len(rivals))
        return identity, claim

    def learn(self, frame: int, assigned: NDArray[np.int64], true_ids: NDArray[np.int64]) -> None:
        """Takes in a frame's decisions, both `(D,)`."""
        for track, identity in zip(assigned.tolist(), true_ids.tolist(), strict=True):
            if track >= 0 and identity >= 0:
                self._shown.setdefault(track, _Shown(begun=frame, since=frame)).give(frame, identity)


@dataclass
class _Shown:
    """What one track was given: claims to identities as they were at its last match, and that match's identity."""

    begun: int
    since: int
    last: int = NOBODY
    claims: dict[int, float] = field(default_factory=dict)

    def give(self, frame: int, identity: int) -> None:
        faded = KEPT ** (frame - self.since)
        self.claims = {other: claim * faded for other, claim in self.claims.items()}
        self.claims[identity] = self.claims.get(identity, 0.0) + 1.0
        self.since, self.last = frame, identity

    @property
    def identity(self) -> int:
        most = max(self.claims, key=self.claims.__getitem__)
        return most if self.claims[most] >= MARGIN * self.claims[self.last] else self.last


def true_targets(
    pairs: NDArray[np.int64],
    track_identity: NDArray[np.int64],
    det_identity: NDArray[np.int64],
    claim: NDArray[np.floating],
) -> Targets:
    """By the truth: of several tracks that show one identity, the one with the strongest claim goes on.

    Args:
        pairs: `(P, 2)` int64 that the gates let through.
        track_identity: `(T,)`, `NOBODY` = unknown.
        det_identity: `(D,)`, `NOBODY` = unknown: it may be a false one, or an object that the truth leaves out.
        claim: `(T,)` of the tracks to their identities.
    """
    t, d = pairs[:, 0], pairs[:, 1]
    same = (track_identity[t] == det_identity[d]) & (track_identity[t] != NOBODY)
    tracks = np.where(track_identity == NOBODY, UNKNOWN, UNMATCHED).astype(np.int64)
    detections = np.where(det_identity == NOBODY, UNKNOWN, UNMATCHED).astype(np.int64)
    rows = np.flatnonzero(same)
    rows = rows[np.argsort(-claim[t[rows]], kind="stable")]
    for row in rows.tolist():  # few: one per object at most, and duplicates
        if tracks[t[row]] == UNMATCHED and detections[d[row]] == UNMATCHED:
            tracks[t[row]] = detections[d[row]] = row
    return Targets(tracks, detections)


def decided_targets(pairs: NDArray[np.int64], track_ids: NDArray[np.int64], assigned: NDArray[np.int64]) -> Targets:
    """By the tracker's own decisions, right or wrong."""
    t, d = pairs[:, 0], pairs[:, 1]
    rows = np.flatnonzero((track_ids[t] == assigned[d]) & (assigned[d] >= 0))
    tracks, detections = np.full(len(track_ids), UNMATCHED), np.full(len(assigned), UNMATCHED)
    tracks[t[rows]] = rows
    detections[d[rows]] = rows
    return Targets(tracks, detections)


def gt_track_ids(
    xyxy: NDArray[Any], truth: GroundTruth, *, class_id: NDArray[Any] | None = None, min_iou: float = MIN_IOU
) -> NDArray[np.int64]:
    """The identity that each detection of one frame shows.

    Detections and true boxes are matched one to one with the largest sum of IoU, as TrackEval does. Boxes that the
    benchmark does not score (ignore regions, distractors, other classes) take part, so that a detection of a
    distractor is not given to the person beside it, but they give no identity.

    Args:
        xyxy: `(D, 4)` detections, pixels.
        truth: the true boxes of the same frame.
        class_id: `(D,)` classes as the truth numbers them: a detection of another class than its box's shows nobody
            that was asked for. −1 on either side = not said. None: classes are not compared.
        min_iou: least overlap of a pair, above 0.

    Returns:
        `(D,)` int64, −1 = no identity.

    >>> truth = GroundTruth(np.zeros(1, int), np.array([7]), np.array([[0, 0, 4, 8]], np.float32), np.array([True]),
    ...     np.array([1]), np.ones(1, np.float32))
    >>> gt_track_ids(np.array([[20, 0, 24, 8], [0, 1, 4, 8]]), truth).tolist()
    [-1, 7]
    """
    found = np.full(len(xyxy), NOBODY, np.int64)
    if not len(xyxy) or not len(truth):
        return found
    overlap = box_iou(xyxy, truth.xyxy)
    rows, columns = linear_sum_assignment(np.where(overlap >= min_iou, overlap, 0.0), maximize=True)
    good = (overlap[rows, columns] >= min_iou) & truth.counts[columns] & (truth.track_id[columns] >= 0)
    if class_id is not None:
        said, true = np.asarray(class_id)[rows], truth.class_id[columns]
        good &= (said == true) | (said < 0) | (true < 0)
    found[rows[good]] = truth.track_id[columns[good]]
    return found
