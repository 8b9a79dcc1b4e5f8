"""What is doubtful in a run: an order in which to look at tracks and frames, each with its reasons.

It is an order, not a probability, except of suspected switches, whose confidence is the tracker's, and of links, whose
doubt `corrections.doubt` finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.reports.track_table import TrackIndex
from trackweave.structures.tracks import Tracks

BORDER = 0.02
"""Of the picture's sides: a box this near to one may come in or leave there."""
INSIDE, SHORT, LOW, GAP = 0.25, 0.35, 0.3, 0.08
"""Most that each reason counts."""
SHORT_SECONDS, USUAL_RATE = 0.5, 25.0
MOST_GAPS = 4
LEAST_LINK = 0.1
"""A link that is less doubtful is no reason to name."""


@dataclass(frozen=True, eq=False)
class Doubts:
    """What is doubtful.

    Attributes:
        track: `(T,)` float64 in [0, 1], by row of the table of tracks.
        reasons: for each track, a line per reason.
        frame: `(N,)` float64 in [0, 1], by position.
        switches: suspected switches: `position`, `tracks`, `cause`, `confidence`, by position.
    """

    track: NDArray[np.float64]
    reasons: Sequence[Sequence[str]]
    frame: NDArray[np.float64]
    switches: Sequence[Mapping[str, Any]]


def find_doubts(
    tracks: Tracks,
    table: TrackIndex,
    indices: NDArray[np.int64],
    cuts: NDArray[np.int64],
    switches: Sequence[Mapping[str, Any]],
    *,
    size: tuple[int, int],
    rate: float | None,
    begins_anywhere: bool,
    links: NDArray[np.float64] | None = None,
) -> Doubts:
    """Looks for suspected switches, tracks that begin or end inside the picture, short, unsure and broken ones.

    Where doubts of links are given, the doubt of a frame is theirs: the chance that one of the links into it is wrong.

    Args:
        tracks: the observations.
        table: their tracks.
        indices: `(N,)` absolute index of each position.
        cuts: positions that begin a shot.
        switches: `frame`, `tracks`, `cause` and `confidence` of each suspected switch.
        size: `(H, W)` of the frames.
        rate: frames per second, or None.
        begins_anywhere: a track that begins inside the picture is as it should be.
        links: `(N,)` probability that the link from a track's observation before into each joins two objects.
    """
    found = _Collector(table, indices)
    found.add_switches(switches)
    if len(table):
        begins, ends = _cut_off(tracks, table, cuts, size, len(indices))
        if links is not None:
            found.add_links(links[table.order], np.searchsorted(indices, tracks.frame[table.order]))
        heat = 0.0 if links is not None else INSIDE
        if not begins_anywhere:
            found.add(np.where(begins, INSIDE, 0), "begins inside the picture")
            np.add.at(found.frame, table.first[begins], heat)
        found.add(np.where(ends, INSIDE, 0), "ends inside the picture")
        np.add.at(found.frame, table.last[ends], heat)
        shortest = SHORT_SECONDS * (rate or USUAL_RATE)
        found.add(SHORT * np.clip(1 - table.count / shortest, 0, 1), "short")
        found.add(LOW * np.clip((0.5 - table.score) / 0.5, 0, 1), "low score")
        found.add(GAP * np.minimum(np.diff(table.starts) - 1, MOST_GAPS), "has gaps")
    return Doubts(1 - found.kept, found.reasons, np.clip(found.frame, 0, 1), found.switches)


class _Collector:
    """Takes reasons one kind after the other; they count as if they were independent."""

    def __init__(self, table: TrackIndex, indices: NDArray[np.int64]) -> None:
        self._table, self._indices = table, indices
        self.kept = np.ones(len(table))
        self.reasons: list[list[str]] = [[] for _ in range(len(table))]
        self.frame = np.zeros(len(indices))
        self.switches: list[Mapping[str, Any]] = []

    def add(self, shares: NDArray[np.float64], text: str) -> None:
        """`(T,)` how much a reason counts for each track."""
        self.kept *= 1 - shares
        for row in np.flatnonzero(shares > 0).tolist():
            self.reasons[row].append(text)

    def add_links(self, doubts: NDArray[np.float64], positions: NDArray[np.int64]) -> None:
        """`(N,)` doubt of the link into each observation and its position, in the order of the table."""
        heads = self._table.rows[:-1]
        kept = np.log1p(-np.clip(doubts, 0, 0.999))
        self.kept *= np.exp(np.add.reduceat(kept, heads))
        self.frame = np.maximum(self.frame, 1 - np.exp(np.bincount(positions, kept, len(self.frame))))
        worst = np.maximum.reduceat(doubts, heads)
        for row in np.flatnonzero(worst >= LEAST_LINK).tolist():
            at = heads[row] + int(np.argmax(doubts[heads[row] : self._table.rows[row + 1]]))
            frame = self._indices[positions[at]]
            self.reasons[row].append(f"may be another object from frame {frame} on ({worst[row]:.0%})")

    def add_switches(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Suspected switches: of each track the strongest."""
        row_of = {int(track_id): row for row, track_id in enumerate(self._table.track_id)}
        strongest = np.zeros(len(self._table))
        texts: dict[int, str] = {}
        for event in sorted(events, key=lambda event: int(event["frame"])):
            at, confidence = int(np.searchsorted(self._indices, event["frame"])), float(event["confidence"])
            if at == len(self._indices):
                continue
            ids, cause = [int(each) for each in event["tracks"]], str(event.get("cause", "switch"))
            self.switches.append({"position": at, "tracks": ids, "cause": cause, "confidence": confidence})
            self.frame[at] = max(self.frame[at], confidence)
            for row in (row_of[each] for each in ids if each in row_of):
                if confidence > strongest[row]:
                    strongest[row], texts[row] = confidence, f"{cause} suspected on frame {self._indices[at]}"
        self.kept *= 1 - strongest
        for row, text in texts.items():
            self.reasons[row].append(text)


def _cut_off(
    tracks: Tracks, table: TrackIndex, cuts: NDArray[np.int64], size: tuple[int, int], count: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tracks begin, and which end, inside the picture and neither with the video nor at a cut."""
    firsts, lasts = table.order[table.rows[:-1]], table.order[table.rows[1:] - 1]
    begins = _is_inside(tracks.xyxy[firsts], size) & (table.first > 0) & ~np.isin(table.first, cuts)
    ends = _is_inside(tracks.xyxy[lasts], size) & (table.last < count - 1) & ~np.isin(table.last + 1, cuts)
    return begins, ends


def _is_inside(boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether boxes keep away from every side of the picture."""
    height, width = size
    x, y = BORDER * width, BORDER * height
    inside = (boxes[:, 0] > x) & (boxes[:, 1] > y) & (boxes[:, 2] < width - x) & (boxes[:, 3] < height - y)
    return np.asarray(inside)
