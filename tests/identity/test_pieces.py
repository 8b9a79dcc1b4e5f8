"""Long videos in pieces: what is cut apart comes back as it was."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trackweave.boxes import box_iou
from trackweave.identity.pieces import OverlapVotes, divided, joined_ids


@given(st.integers(1, 400), st.integers(2, 90), st.data())
def test_pieces_cover_the_video_and_no_frame_is_in_three(length: int, frames: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, max(1, frames // 2)))
    cuts = sorted(data.draw(st.sets(st.integers(1, length), max_size=5)))
    pieces = divided(length, frames, overlap, cuts)
    times = np.zeros(length, int)
    for piece in pieces:
        times[piece.start : piece.stop] += 1
        assert len(piece) <= frames
    assert times.min() == 1
    assert times.max() <= 2
    for before, after in pairwise(pieces):
        assert before.stop - after.start == overlap or (after.start in cuts and after.start == before.stop)


@given(
    st.lists(st.tuples(st.integers(0, 110), st.integers(1, 80)), min_size=1, max_size=12),
    st.integers(8, 40),
    st.integers(2, 8),
)
def test_tracks_that_are_cut_into_pieces_come_back_as_they_were(
    spans: list[tuple[int, int]], frames: int, overlap: int
) -> None:
    """Things that lie side by side, each with boxes on all frames of its span, and detected a little differently."""
    overlap = min(overlap, frames // 2)
    tracks = [(first, min(first + length, 120)) for first, length in spans]
    pieces = divided(120, frames, overlap)
    rng = np.random.default_rng(len(tracks))
    named, links = [], []
    numbers: list[dict[int, int]] = []
    for n, piece in enumerate(pieces):
        there = [one for one, (first, stop) in enumerate(tracks) if max(first, piece.start) < min(stop, piece.stop)]
        order = rng.permutation(len(there))
        own = {one: int(order[k]) + 1 for k, one in enumerate(there)}
        begin = pieces[n - 1].stop if n else 0
        kept = {own[one] for one in there if tracks[one][1] > begin}
        if n:
            votes = OverlapVotes()
            for frame in range(piece.start, begin):
                both = [one for one, (first, stop) in enumerate(tracks) if first <= frame < stop]
                boxes = np.array([[20 * one, 0, 20 * one + 16, 40] for one in both], float).reshape(-1, 4)
                iou = box_iou(boxes, boxes + rng.uniform(-1, 1, boxes.shape))
                votes.add([numbers[-1][one] for one in both], [own[one] for one in both], iou)
            links.append(votes.links(kept))
        named.append(kept)
        numbers.append(own)
    whole = joined_ids(named, links)
    ids_of = {
        one: {whole[n][numbers[n][one]] for n in range(len(pieces)) if numbers[n].get(one) in whole[n]}
        for one in range(len(tracks))
    }
    assert all(len(ids) == 1 for ids in ids_of.values())
    assert len({min(ids) for ids in ids_of.values()}) == len(tracks)


def test_a_track_has_one_partner_and_needs_a_good_part_of_the_frames() -> None:
    votes = OverlapVotes()
    for frame in range(10):  # 7 is found as 1 at first, then as 2; 8 meets 2 once
        votes.add([7, 8], [1 if frame < 4 else 2], np.array([[0.9], [0.6 if frame == 4 else 0.0]]))
    assert votes.links([1, 2]) == {2: 7}
    assert votes.links([1]) == {1: 7}
    assert votes.links([]) == {}
    votes = OverlapVotes()
    for frame in range(10):
        votes.add([7], [1], np.array([[0.9 if frame < 4 else 0.0]]))
    assert votes.links([1]) == {}


def test_ids_go_on_over_several_pieces_and_new_ones_follow() -> None:
    assert joined_ids([{3, 5}, {1, 2}, {1, 2, 9}], [{2: 5}, {1: 2, 9: 1}]) == [
        {3: 3, 5: 5},
        {1: 6, 2: 5},
        {1: 5, 2: 7, 9: 6},
    ]
    assert joined_ids([set(), {1}], [{}]) == [{}, {1: 1}]
