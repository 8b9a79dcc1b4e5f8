from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trackweave.pipelines.box_outputs import LENGTH_EDGES, TrackStatistics
from trackweave.structures.tracks import Tracks


def tracks(observations: Sequence[tuple[int, int]]) -> Tracks:
    """Observations from `(frame, track)` pairs."""
    frame, ids = zip(*observations, strict=True) if observations else ((), ())
    return Tracks.from_columns(
        frame, ids, np.tile([[0, 0, 4, 4]], (len(observations), 1)), np.full(len(observations), 0.5)
    )


pairs = st.sets(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=60).map(sorted)


@given(observations=pairs, cuts=st.lists(st.integers(0, 30), max_size=4))
def test_parts_make_no_difference(observations: list[tuple[int, int]], cuts: list[int]) -> None:
    whole, parted = TrackStatistics(), TrackStatistics()
    whole.add(tracks(observations))
    for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), 31], strict=True):
        parted.add(tracks([pair for pair in observations if low <= pair[0] < high]))
    assert parted.counts() == whole.counts()


@given(observations=pairs)
def test_every_observation_is_in_a_span(observations: list[tuple[int, int]]) -> None:
    statistics = TrackStatistics()
    statistics.add(tracks(observations))
    counts = statistics.counts()
    assert counts.boxes == len(observations)
    assert counts.tracks == len({track for _, track in observations}) == sum(counts.lengths["tracks"])
    spanned = {
        (frame, track.track_id)
        for track in counts.longest
        for first, last in track.spans
        for frame in range(first, last + 1)
    }
    assert spanned == set(observations)
    lengths = [track.frames for track in counts.longest]
    assert lengths == sorted(lengths, reverse=True)


def test_tracks_that_are_over_are_forgotten() -> None:
    """An endless stream: memory holds the open tracks and the longest ones, the counts hold all."""
    statistics = TrackStatistics(keep=10, longest=3)
    for frame in range(0, 3000, 3):
        length = 3 if frame == 300 else 1
        statistics.add(tracks([(frame + k, 1 + frame // 3) for k in range(length)]))
    assert len(statistics._open) <= 4
    counts = statistics.counts()
    assert (counts.tracks, counts.boxes) == (1000, 1002)
    assert counts.longest[0].track_id == 101
    assert len(counts.longest) == 3
    assert counts.lengths["tracks"][:2] == [999, 1]
    assert counts.lengths["from"] == list(LENGTH_EDGES)


def test_frames_with_a_step_follow_each_other() -> None:
    statistics = TrackStatistics(step=2)
    statistics.add(tracks([(0, 1), (2, 1), (4, 1), (8, 1)]))
    assert statistics.counts().longest[0].spans == [(0, 4), (8, 8)]
