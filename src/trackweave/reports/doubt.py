"""What is doubtful in a run: an order in which to look at tracks and frames, each with its reasons.

It is an order, not a probability, except of suspected switches, whose confidence is the tracker's, and of links, whose
doubt `corrections.doubt` finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from trackweave.corrections.doubt import Links
from trackweave.reports.track_table import TrackIndex
from trackweave.structures.run_summary import SwitchRecord
from trackweave.structures.tracks import Tracks

BORDER = 0.02
"""Of the picture's sides: a box this near to one may come in or leave there."""
INSIDE, SHORT, LOW, GAP = 0.25, 0.35, 0.3, 0.08
"""Most that each reason counts."""
SHORT_SECONDS, USUAL_RATE = 0.5, 25.0
MOST_GAPS = 4
LEAST_LINK, NEAR = 0.1, 5
"""A link that is less doubtful is not named, nor one so few frames from a switch that the tracker suspects."""
_STEPS = range(-NEAR, NEAR + 1)


class PlacedSwitch(TypedDict):
    """A suspected switch as pages show it: `SwitchRecord` with the position of its frame instead of the index; JSON."""

    position: int
    tracks: list[int]
    cause: str
    confidence: float


@dataclass(frozen=True, eq=False)
class Doubts:
    """What is doubtful.

    Attributes:
        track: `(T,)` float64 in [0, 1], by row of the table of tracks.
        reasons: for each track, a line per reason.
        frame: `(N,)` float64 in [0, 1], by position.
        switches: suspected switches, by position.
    """

    track: NDArray[np.float64]
    reasons: Sequence[Sequence[str]]
    frame: NDArray[np.float64]
    switches: Sequence[PlacedSwitch]


def find_doubts(
    tracks: Tracks,
    table: TrackIndex,
    indices: NDArray[np.int64],
    cuts: NDArray[np.int64],
    switches: Sequence[SwitchRecord],
    *,
    size: tuple[int, int],
    rate: float | None,
    begins_anywhere: bool,
    links: Links | None = None,
) -> Doubts:
    """Looks for suspected switches, tracks that begin or end inside the picture, short, unsure and broken ones.

    Where doubts of links are given, the doubt of a frame is theirs: the chance that one of the links into it is wrong.

    Args:
        tracks: the observations.
        table: their tracks.
        indices: `(N,)` absolute index of each position.
        cuts: positions that begin a shot.
        switches: suspected ones.
        size: `(H, W)` of the frames.
        rate: frames per second, or None.
        begins_anywhere: a track that begins inside the picture is as it should be.
        links: those into the observations.
    """
    found = _Collector(table, indices)
    if links is not None:
        found.add_links(np.searchsorted(indices, tracks.frame), links.doubt)
        switches = [*switches, *_doubtful_links(tracks, links, switches)]
    found.add_switches(switches)
    if len(table):
        begins, ends = _cut_off(tracks, table, cuts, size, len(indices))
        heat = 0.0 if links is not None else INSIDE
        if not begins_anywhere:
            found.add(np.where(begins, INSIDE, 0), "begins inside the picture")
            np.add.at(found.frame, table.first[begins], heat)
        found.add(np.where(ends, INSIDE, 0), "ends inside the picture")
        np.add.at(found.frame, table.last[ends], heat)
        shortest = min(SHORT_SECONDS * (rate or USUAL_RATE), len(indices))
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
        self.switches: list[PlacedSwitch] = []

    def add(self, shares: NDArray[np.float64], text: str) -> None:
        """`(T,)` how much a reason counts for each track."""
        self.kept *= 1 - shares
        for row in np.flatnonzero(shares > 0).tolist():
            self.reasons[row].append(text)

    def add_links(self, positions: NDArray[np.int64], doubt: NDArray[np.float64]) -> None:
        """Sets the doubt of each frame: the chance that one of the links into its observations is wrong.

        Args:
            positions: `(N,)` of each observation's frame.
            doubt: `(N,)` how likely the link into it is wrong.
        """
        kept = np.bincount(positions, np.log1p(-doubt), len(self.frame))
        self.frame = 1 - np.exp(kept)

    def add_switches(self, events: Sequence[SwitchRecord]) -> None:
        """Suspected switches: of each track the strongest."""
        row_of = {int(track_id): row for row, track_id in enumerate(self._table.track_id)}
        strongest = np.zeros(len(self._table))
        texts: dict[int, str] = {}
        for event in sorted(events, key=itemgetter("frame")):
            at, confidence = int(np.searchsorted(self._indices, event["frame"])), event["confidence"]
            if at == len(self._indices):
                continue
            ids, cause = event["tracks"], event.get("cause", "switch")
            self.switches.append({"position": at, "tracks": ids, "cause": cause, "confidence": confidence})
            self.frame[at] = max(self.frame[at], confidence)
            for row in (row_of[each] for each in ids if each in row_of):
                if confidence > strongest[row]:
                    strongest[row], texts[row] = confidence, f"{cause} suspected on frame {self._indices[at]}"
        self.kept *= 1 - strongest
        for row, text in texts.items():
            self.reasons[row].append(text)


def _doubtful_links(tracks: Tracks, links: Links, switches: Sequence[SwitchRecord]) -> list[SwitchRecord]:
    """Links that may join two objects, as suspected switches; each exchange once."""
    known = {(one["frame"] + step, each) for one in switches for each in one["tracks"] for step in _STEPS}
    rows = np.flatnonzero(links.doubt >= LEAST_LINK)
    found: dict[tuple[int, ...], SwitchRecord] = {}
    for row in rows[np.argsort(-links.doubt[rows], kind="stable")].tolist():
        frame, partner = int(tracks.frame[row]), int(links.partner[row])
        ids = sorted({int(tracks.track_id[each]) for each in (row, partner) if each >= 0})
        if not any((frame, each) in known for each in ids):
            event: SwitchRecord = {
                "frame": frame,
                "tracks": ids,
                "cause": "exchange",
                "confidence": round(float(links.doubt[row]), 3),
            }
            found.setdefault((frame, *ids), event)
    return list(found.values())


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
