"""`Targets`: the right answer of a model on a frame, from true identities or from the tracker's own assignment.

`gt_track_ids` matches detections with ground truth; `TrueIdentities` follows from these matches which true identity
each track stands for.
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
"""Target of a track or a detection that has no partner."""
UNKNOWN = -2
"""Target of a track or a detection whose partner is not known: it does not count in the loss."""
NO_IDENTITY = -1
"""Identity of a detection that shows no true object, and of a track without one."""

SUPPORT_DECAY = 0.97
"""Share of an identity's support that is left after a frame: a match 23 frames ago weighs half."""
RETURN_MARGIN = 2.0
"""How much more support an older identity needs than the newest one for a track to return to it. Without a margin two
tracks that were mixed up would exchange their objects on every frame, each time to correct the last exchange."""
SENIORITY = 3.0
"""How much more the support of a track weighs than that of a younger track of the same identity. Two tracks of one
object would otherwise take turns, because each match evens out their supports."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The right partner of every track and detection of a frame, or of a batch of frames.

    Attributes:
        tracks: `(T,)` int64 row of the pair that continues the track, `UNMATCHED` or `UNKNOWN`.
        detections: `(D,)` int64 row of the pair that the detection continues, `UNMATCHED` or `UNKNOWN`.
    """

    tracks: NDArray[np.int64]
    detections: NDArray[np.int64]


class TrueIdentities:
    """The true identity of each track: that of its last match, or one that most of its recent matches had.

    A track that took a neighbour's detection for a few frames keeps its own identity, so that a model learns to correct
    such a mistake; a track that stays with the neighbour changes its identity.

    Args:
        return_margin: see `RETURN_MARGIN`; infinity: the last match alone decides.
    """

    def __init__(self, return_margin: float = RETURN_MARGIN) -> None:
        self._return_margin = return_margin
        self._tracks: dict[int, _IdentitySupport] = {}

    def at(self, frame: int, track_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """`(T,)` int64 identities, `NO_IDENTITY` where unknown, and `(T,)` float64 support of each track's identity.

        Support grows with every match, decays with every frame, and weighs more than that of a younger track of the
        same identity.
        """
        identities, support = np.full(len(track_ids), NO_IDENTITY, np.int64), np.zeros(len(track_ids))
        rivals: dict[int, list[tuple[int, int]]] = {}
        for row, track_id in enumerate(track_ids.tolist()):
            track = self._tracks.get(track_id)
            if track is not None:
                identities[row] = identity = track.identity(self._return_margin)
                support[row] = track.support[identity] * SUPPORT_DECAY ** (frame - track.last_frame)
                rivals.setdefault(identity, []).append((track.first_frame, row))
        for tracks in rivals.values():
            youngest_first = [row for _, row in sorted(tracks, key=lambda rival: rival[0], reverse=True)]
            support[youngest_first] *= SENIORITY ** np.arange(len(tracks))
        return identities, support

    def update(self, frame: int, assigned: NDArray[np.int64], true_ids: NDArray[np.int64]) -> None:
        """Adds a frame's assignment: track ids and true identities of its detections, both `(D,)`."""
        for track_id, identity in zip(assigned.tolist(), true_ids.tolist(), strict=True):
            if track_id >= 0 and identity >= 0:
                support = self._tracks.setdefault(track_id, _IdentitySupport(frame, frame))
                support.add(frame, identity)


@dataclass
class _IdentitySupport:
    """Support of the identities that one track was matched with, as of its last match."""

    first_frame: int
    last_frame: int
    last_identity: int = NO_IDENTITY
    support: dict[int, float] = field(default_factory=dict)

    def add(self, frame: int, identity: int) -> None:
        decay = SUPPORT_DECAY ** (frame - self.last_frame)
        self.support = {other: support * decay for other, support in self.support.items()}
        self.support[identity] = self.support.get(identity, 0.0) + 1.0
        self.last_frame, self.last_identity = frame, identity

    def identity(self, return_margin: float) -> int:
        most = max(self.support, key=self.support.__getitem__)
        return most if self.support[most] >= return_margin * self.support[self.last_identity] else self.last_identity


def true_targets(
    pairs: NDArray[np.int64],
    track_identity: NDArray[np.int64],
    det_identity: NDArray[np.int64],
    support: NDArray[np.floating],
    *,
    is_partial: bool = False,
) -> Targets:
    """Targets by true identities: of several tracks of one identity, the one with the most support continues.

    Args:
        pairs: `(P, 2)` int64 rows of tracks and detections that the gates let through.
        track_identity: `(T,)`, `NO_IDENTITY` = unknown.
        det_identity: `(D,)`, `NO_IDENTITY` = unknown: a false positive, or an object that the truth leaves out.
        support: `(T,)` of the tracks' identities.
        is_partial: identities are those of some objects, as a person named them: a detection without one may be any
            object, so what has no partner is only unmatched where all that it could be matched with are known.
    """
    t, d = pairs[:, 0], pairs[:, 1]
    same = (track_identity[t] == det_identity[d]) & (track_identity[t] != NO_IDENTITY)
    tracks = np.where(track_identity == NO_IDENTITY, UNKNOWN, UNMATCHED).astype(np.int64)
    detections = np.where(det_identity == NO_IDENTITY, UNKNOWN, UNMATCHED).astype(np.int64)
    rows = np.flatnonzero(same)
    rows = rows[np.argsort(-support[t[rows]], kind="stable")]
    for row in rows.tolist():  # few: one per object at most, and duplicates
        if tracks[t[row]] == UNMATCHED and detections[d[row]] == UNMATCHED:
            tracks[t[row]] = detections[d[row]] = row
    if is_partial:
        tracks[_may_be_hidden(tracks, track_identity, t, det_identity, d)] = UNKNOWN
        detections[_may_be_hidden(detections, det_identity, d, track_identity, t)] = UNKNOWN
    return Targets(tracks, detections)


def _may_be_hidden(
    targets: NDArray[np.int64],
    identity: NDArray[np.int64],
    rows: NDArray[np.int64],
    other_identity: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which unmatched rows may have their partner among those without identity that the gates let through."""
    near = np.zeros(len(targets), np.bool_)
    near[rows[other_identity[columns] == NO_IDENTITY]] = True
    return np.asarray((targets == UNMATCHED) & near & ~np.isin(identity, other_identity), np.bool_)


def assigned_targets(pairs: NDArray[np.int64], track_ids: NDArray[np.int64], assigned: NDArray[np.int64]) -> Targets:
    """Targets by the tracker's own assignment, right or wrong."""
    t, d = pairs[:, 0], pairs[:, 1]
    rows = np.flatnonzero((track_ids[t] == assigned[d]) & (assigned[d] >= 0))
    tracks, detections = np.full(len(track_ids), UNMATCHED), np.full(len(assigned), UNMATCHED)
    tracks[t[rows]] = rows
    detections[d[rows]] = rows
    return Targets(tracks, detections)


def gt_track_ids(
    xyxy: NDArray[Any], truth: GroundTruth, *, class_id: NDArray[Any] | None = None, min_iou: float = MIN_IOU
) -> NDArray[np.int64]:
    """The true identity of each detection of one frame.

    Detections and true boxes are matched one to one with the largest sum of IoU, as TrackEval does. Boxes that the
    benchmark does not score (ignore regions, distractors, other classes) take part, so that a detection of a
    distractor is not given to the person beside it, but they give no identity.

    Args:
        xyxy: `(D, 4)` detections, pixels.
        truth: the true boxes of the same frame.
        class_id: `(D,)` classes as the truth numbers them: a detection that matches a box of another class has no
            identity. −1 on either side = unknown class. None: classes are not compared.
        min_iou: least overlap of a pair, above 0.

    Returns:
        `(D,)` int64, −1 = no identity.

    >>> truth = GroundTruth(np.zeros(1, int), np.array([7]), np.array([[0, 0, 4, 8]], np.float32), np.array([True]),
    ...     np.array([1]), np.ones(1, np.float32))
    >>> gt_track_ids(np.array([[20, 0, 24, 8], [0, 1, 4, 8]]), truth).tolist()
    [-1, 7]
    """
    identities = np.full(len(xyxy), NO_IDENTITY, np.int64)
    if not len(xyxy) or not len(truth):
        return identities
    overlap = box_iou(xyxy, truth.xyxy)
    rows, columns = linear_sum_assignment(np.where(overlap >= min_iou, overlap, 0.0), maximize=True)
    valid = (overlap[rows, columns] >= min_iou) & truth.counts[columns] & (truth.track_id[columns] >= 0)
    if class_id is not None:
        detected, true = np.asarray(class_id)[rows], truth.class_id[columns]
        valid &= (detected == true) | (detected < 0) | (true < 0)
    identities[rows[valid]] = truth.track_id[columns[valid]]
    return identities
