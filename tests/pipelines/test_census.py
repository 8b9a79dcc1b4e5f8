from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trackweave.pipelines.box_outputs import LENGTH_EDGES, TrackCensus
from trackweave.structures.tracks import Tracks


def tracks(seen: Sequence[tuple[int, int]]) -> Tracks:
    """Observations from `(frame, track)` pairs."""
    frame, ids = zip(*seen, strict=True) if seen else ((), ())
    return Tracks.from_columns(frame, ids, np.tile([[0, 0, 4, 4]], (len(seen), 1)), np.full(len(seen), 0.5))


seen_pairs = st.sets(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=60).map(sorted)


@given(seen=seen_pairs, cuts=st.lists(st.integers(0, 30), max_size=4))
def test_parts_make_no_difference(seen: list[tuple[int, int]], cuts: list[int]) -> None:
    whole, parted = TrackCensus(), TrackCensus()
    whole.add(tracks(seen))
    for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), 31], strict=True):
        parted.add(tracks([pair for pair in seen if low <= pair[0] < high]))
    assert parted.summary() == whole.summary()


@given(seen=seen_pairs)
def test_every_observation_is_in_a_span(seen: list[tuple[int, int]]) -> None:
    census = TrackCensus()
    census.add(tracks(seen))
    found = census.summary()
    assert found["boxes"] == len(seen)
    assert found["tracks"] == len({track for _, track in seen}) == sum(found["lengths"]["tracks"])
    spanned = {
        (frame, life["id"])
        for life in found["longest_tracks"]
        for first, last in life["spans"]
        for frame in range(first, last + 1)
    }
    assert spanned == set(seen)
    lengths = [life["frames"] for life in found["longest_tracks"]]
    assert lengths == sorted(lengths, reverse=True)


def test_tracks_that_are_over_are_let_go() -> None:
    """An endless stream: memory holds the open tracks and the longest ones, the counts hold all."""
    census = TrackCensus(keep=10, longest=3)
    for frame in range(0, 3000, 3):
        length = 3 if frame == 300 else 1
        census.add(tracks([(frame + k, 1 + frame // 3) for k in range(length)]))
    assert len(census._open) <= 4
    found = census.summary()
    assert (found["tracks"], found["boxes"]) == (1000, 1002)
    assert found["longest_tracks"][0]["id"] == 101
    assert len(found["longest_tracks"]) == 3
    assert found["lengths"]["tracks"][:2] == [999, 1]
    assert found["lengths"]["from"] == list(LENGTH_EDGES)


def test_frames_of_a_sample_follow_each_other() -> None:
    census = TrackCensus(step=2)
    census.add(tracks([(0, 1), (2, 1), (4, 1), (8, 1)]))
    assert census.summary()["longest_tracks"][0]["spans"] == [[0, 4], [8, 8]]
