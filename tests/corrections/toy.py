"""Tracks of boxes that cross, and random acts on them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.corrections.constraints import Constraints, constraints
from trackweave.corrections.decision import Decision, decide
from trackweave.corrections.doubt import Links, link_doubt
from trackweave.structures.corrections import (
    Accepted,
    AcceptedTrack,
    Act,
    Ended,
    Merged,
    Named,
    Nobody,
    Observation,
    Split,
)
from trackweave.structures.tracks import Tracks


def crossing(frames: int = 40, *, exchanged: bool = True) -> tuple[Tracks, NDArray[np.int64]]:
    """Two objects that pass each other, whose tracks 1 and 2 are exchanged where they meet; and who is who, 0 or 1."""
    rows, who = [], []
    for frame in range(frames):
        swap = exchanged and frame >= frames // 2
        for one in (0, 1):
            x = 4.0 * frame if one == 0 else 4.0 * (frames - 1 - frame)
            rows.append((frame, 1 + (one ^ swap), x, 10 + 3 * one, x + 20, 60 + 3 * one))
            who.append(one)
    table = np.array(rows)
    order = np.lexsort((table[:, 1], table[:, 0]))
    table = table[order]
    return Tracks.from_columns(table[:, 0], table[:, 1], table[:, 2:]), np.array(who)[order]


def items(tracks: Tracks) -> NDArray[np.int64]:
    """The place of each observation on its frame."""
    starts = np.searchsorted(tracks.frame, tracks.frame)
    return np.arange(len(tracks)) - starts


def solved(tracks: Tracks, *acts: Act, links: Links | None = None) -> tuple[Constraints, Decision]:
    """What acts come to."""
    known = constraints(acts, tracks, items(tracks), ())
    return known, decide(tracks, links or link_doubt(tracks), known)


def at(tracks: Tracks, row: int) -> Observation:
    """An observation as acts call it."""
    return Observation(int(tracks.frame[row]), int(items(tracks)[row]))


def row_of(tracks: Tracks, frame: int, track_id: int) -> int:
    """The row of a track on a frame."""
    return int(np.flatnonzero((tracks.frame == frame) & (tracks.track_id == track_id))[0])


@st.composite
def random_tracks(draw: st.DrawFn) -> Tracks:
    """A few tracks that drift, with gaps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    frames, count = draw(st.integers(1, 25)), draw(st.integers(1, 5))
    rows = []
    for track in range(1, count + 1):
        x, y = rng.uniform(0, 60, 2)
        for frame in range(frames):
            x, y = x + rng.normal(0, 4), y + rng.normal(0, 2)
            if rng.random() < 0.8:
                rows.append((frame, track, x, y, x + rng.uniform(10, 14), y + rng.uniform(28, 32)))
    table = np.array(sorted(rows or [(0, 1, 0.0, 0.0, 9.0, 9.0)]))
    return Tracks.from_columns(table[:, 0], table[:, 1], table[:, 2:])


@st.composite
def scripts(draw: st.DrawFn) -> tuple[Tracks, list[Act]]:
    """Tracks, and acts about them that may contradict each other."""
    tracks = draw(random_tracks())
    rows = st.integers(0, len(tracks) - 1).map(lambda row: at(tracks, row))
    names = st.sampled_from(("Ann", "Bob", "Cem"))
    acts: list[Act] = []
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from((Named, Named, Named, Nobody, Merged, Split, Ended, Accepted)))
        if kind is Named:
            acts.append(Named(draw(rows), draw(names)))
        elif kind is Merged:
            acts.append(Merged(draw(rows), draw(rows)))
        elif kind is Split:
            one, other = sorted((draw(rows), draw(rows)))
            if one.frame < other.frame:
                acts.append(Split(one, other))
        elif kind is Accepted:
            acts.append(accepted(tracks, acts, *sorted(draw(st.tuples(st.integers(0, 24), st.integers(0, 24))))))
        else:
            acts.append(Nobody(draw(rows)) if kind is Nobody else Ended(draw(rows)))
    return tracks, acts


def accepted(tracks: Tracks, acts: list[Act], first: int, last: int) -> Accepted:
    """The act that accepts what is decided under `acts`."""
    _, decision = solved(tracks, *acts)
    inside = (tracks.frame >= first) & (tracks.frame <= last) & (decision.track_id >= 0)
    ids = np.unique(decision.track_id[inside]).tolist()
    groups = {one: np.flatnonzero(inside & (decision.track_id == one)).tolist() for one in ids}
    return Accepted(
        first, last, tuple(AcceptedTrack(one, tuple(at(tracks, row) for row in rows)) for one, rows in groups.items())
    )
