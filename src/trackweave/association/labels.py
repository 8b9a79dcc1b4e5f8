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


class TrueIdentities:
    """Which true identity each track shows: that of the last detection it was given whose identity is known."""

    def __init__(self) -> None:
        self._shown: dict[int, int] = {}

    def of(self, track_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """`(T,)` int64, `NOBODY` where it is not known."""
        return np.array([self._shown.get(track, NOBODY) for track in track_ids.tolist()], np.int64)

    def learn(self, assigned: NDArray[np.int64], true_ids: NDArray[np.int64]) -> None:
        """Takes in a frame's decisions, both `(D,)`."""
        for track, identity in zip(assigned.tolist(), true_ids.tolist(), strict=True):
            if track >= 0 and identity >= 0:
                self._shown[track] = identity


def true_targets(
    pairs: NDArray[np.int64],
    track_identity: NDArray[np.int64],
    det_identity: NDArray[np.int64],
    track_gap: NDArray[np.int64],
) -> Targets:
    """By the truth: of several tracks that show one identity, the one that was matched last goes on.

    Args:
        pairs: `(P, 2)` int64 that the gates let through.
        track_identity: `(T,)`, `NOBODY` = unknown.
        det_identity: `(D,)`, `NOBODY` = unknown: it may be a false one, or an object that the truth leaves out.
        track_gap: `(T,)` frames since the last match.
    """
    t, d = pairs[:, 0], pairs[:, 1]
    same = (track_identity[t] == det_identity[d]) & (track_identity[t] != NOBODY)
    tracks = np.where(track_identity == NOBODY, UNKNOWN, UNMATCHED).astype(np.int64)
    detections = np.where(det_identity == NOBODY, UNKNOWN, UNMATCHED).astype(np.int64)
    rows = np.flatnonzero(same)
    rows = rows[np.argsort(track_gap[t[rows]], kind="stable")]
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
