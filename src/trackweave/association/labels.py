"""`Targets`: what a model should have answered on a frame, from the truth or from the tracker's own decisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        self._claims: dict[int, dict[int, float]] = {}
        self._since: dict[int, int] = {}
        self._begun: dict[int, int] = {}
        self._last: dict[int, int] = {}

    def of(self, frame: int, track_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """`(T,)` int64 identities, `NOBODY` where it is not known, and `(T,)` float64 how strong each track's claim to
        it is: it grows with every match, fades with every frame, and weighs more than that of a younger track."""
        identity, claim = np.full(len(track_ids), NOBODY, np.int64), np.zeros(len(track_ids))
        holders: dict[int, list[int]] = {}
        for row, track in enumerate(track_ids.tolist()):
            claims = self._claims.get(track)
            if claims:
                most, last = max(claims, key=claims.__getitem__), self._last[track]
                if claims[most] < MARGIN * claims[last]:
                    most = last
                identity[row] = most
                claim[row] = claims[most] * KEPT ** (frame - self._since[track])
                holders.setdefault(most, []).append(row)
        for rows in holders.values():
            if len(rows) > 1:  # the youngest first
                rows.sort(key=lambda row: self._begun[int(track_ids[row])], reverse=True)
                claim[rows] *= SENIORITY ** np.arange(len(rows))
        return identity, claim

    def learn(self, frame: int, assigned: NDArray[np.int64], true_ids: NDArray[np.int64]) -> None:
        """Takes in a frame's decisions, both `(D,)`."""
        for track, identity in zip(assigned.tolist(), true_ids.tolist(), strict=True):
            if track < 0 or identity < 0:
                continue
            claims = self._claims.setdefault(track, {})
            self._begun.setdefault(track, frame)
            faded = KEPT ** (frame - self._since.get(track, frame))
            for other in claims:
                claims[other] *= faded
            claims[identity] = claims.get(identity, 0.0) + 1.0
            self._since[track], self._last[track] = frame, identity


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
