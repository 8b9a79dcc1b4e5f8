from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.identity.toy_tracks import Box, video, videos
from trackweave.identity.merge import merge
from trackweave.identity.overlaps import gather
from trackweave.identity.settings import IdentitySettings
from trackweave.structures.identity import IdentityTable

CHAIR: Box = (4, 4, 14, 14)
NEARLY: Box = (5, 4, 14, 14)
BESIDE: Box = (15, 4, 25, 14)
PART: Box = (4, 4, 9, 9)


def groups(frames: Sequence[dict[int, Box]], fixed: tuple[int, ...] = (), **values: object) -> list[list[int]]:
    chosen = IdentitySettings.checked(values)
    evidence = gather(video({2: frames}), chosen.merge_iou)
    table = IdentityTable.from_links(evidence.track_id, evidence.level, merge(evidence, chosen, fixed))
    return [table.members(one).tolist() for one in table.identities.tolist()]


def test_tracks_of_one_thing_are_one() -> None:
    assert groups([{1: CHAIR, 5: NEARLY}] * 4) == [[1, 5]]
    assert groups([{1: CHAIR, 5: NEARLY}] * 4, merge=False) == [[1], [5]]


def test_a_person_s_objects_stay() -> None:
    assert groups([{1: CHAIR, 5: NEARLY}] * 4, fixed=(2,)) == [[1], [5]]


def test_look_alikes_side_by_side_stay_apart() -> None:
    assert groups([{1: CHAIR, 2: BESIDE}] * 6) == [[1], [2]]


def test_a_part_is_no_duplicate_of_its_whole() -> None:
    assert groups([{1: CHAIR, 2: PART}] * 6) == [[1], [2]]


def test_tracks_that_were_apart_do_not_become_one_when_one_jumps_onto_the_other() -> None:
    assert groups([{1: CHAIR, 2: BESIDE}] * 3 + [{1: CHAIR, 2: CHAIR}] * 5) == [[1], [2]]
    assert groups([{1: CHAIR, 2: BESIDE}] * 3 + [{1: CHAIR, 2: CHAIR}] * 5, merge_conflict=0.5) == [[1, 2]]


def test_what_two_groups_say_counts_together() -> None:
    """2 is like 1, and like 3 on the few frames that show both; 1 and 3 were apart all along."""
    frames = [{1: CHAIR, 2: CHAIR, 3: BESIDE}] * 2 + [{1: CHAIR, 2: NEARLY}] * 6 + [{2: BESIDE, 3: BESIDE}] * 3
    assert groups(frames) == [[1, 2], [3]]


def test_a_link_says_which_and_how_sure() -> None:
    evidence = gather(video({2: [{1: CHAIR, 5: CHAIR}] * 3 + [{5: CHAIR}]}))
    (link,) = merge(evidence, IdentitySettings())
    assert (link.a, link.b, link.kind, link.frames) == (1, 5, "merge", 3)
    assert link.score == pytest.approx(3.5 / 4)


@given(videos(), st.integers(0, 5))
@settings(max_examples=20)
def test_order_and_repetition_of_frames_change_nothing(frames: list[dict[int, Box]], turn: int) -> None:
    turned = frames[turn % len(frames) :] + frames[: turn % len(frames)]
    assert groups(frames) == groups(turned) == groups(frames[::-1])


def test_tracks_that_overlap_completely_are_one() -> None:
    assert groups([dict.fromkeys(range(1, 40), CHAIR)] * 2) == [list(range(1, 40))]


def test_thousands_of_tracks_of_one_frame_are_quick() -> None:
    frames: list[dict[int, Box]] = [
        {1 + 4 * n + k: (7 * (k // 2), 0, 7 * (k // 2) + 6, 6 + k % 2) for k in range(4)} for n in range(1000)
    ]
    started = time.process_time()
    found = groups(frames)
    assert time.process_time() - started < 20
    assert found == [[1 + 4 * n + k, 2 + 4 * n + k] for n in range(1000) for k in (0, 2)]


def test_no_masks_no_links() -> None:
    assert groups([{}]) == []
    assert np.size(groups([{3: CHAIR}])) == 1


def moved(box: Box, across: int, down: int = 0) -> Box:
    return box[0] + across, box[1] + down, box[2] + across, box[3] + down


def test_a_track_that_jumps_to_a_look_alike_is_not_what_it_was_before() -> None:
    """2 is gone for a while, and comes back elsewhere for longer: what it shared with 1 says nothing of that."""
    before = [{1: CHAIR, 2: CHAIR}] * 3
    assert groups([*before, {1: CHAIR}, *[{2: BESIDE}] * 5]) == [[1], [2]]
    assert groups([*before, {1: CHAIR}, *[{2: BESIDE}] * 2]) == [[1, 2]]  # of most of its life
    assert groups([*before, {1: CHAIR}, *[{2: BESIDE}] * 5], merge_carried=0) == [[1, 2]]
    # Where both come back they are still one, and what is fast has no gap.
    assert groups([*before, {}, *[{1: BESIDE, 2: BESIDE}] * 5]) == [[1, 2]]
    assert groups([*before, *[{2: BESIDE}] * 5]) == [[1, 2]]


def test_the_camera_does_not_make_tracks_jump() -> None:
    small: Box = (2, 10, 4, 12)
    others: dict[int, Box] = {n: (3 * n, 0, 3 * n + 2, 2) for n in range(5, 10)}
    still = [{1: small, 2: small, **others}] * 2 + [others] + [{2: small, **others}] * 4
    panned = [{one: moved(box, 0, 4 if n > 1 else 0) for one, box in frame.items()} for n, frame in enumerate(still)]
    assert groups(panned)[0] == [1, 2]
    alone = [{one: box for one, box in frame.items() if one < 5} for frame in panned]
    assert groups(alone) == [[1], [2]]


CELL: Box = (4, 4, 16, 12)
DAUGHTERS: tuple[Box, Box] = ((4, 4, 10, 12), (10, 4, 16, 12))


def test_a_cell_and_its_daughters_are_three() -> None:
    """The tracker followed 1 into one daughter; 2 was prompted once there were two, 3 back into their mother too."""
    one, two = DAUGHTERS
    frames = [{1: CELL}, {1: CELL}, {1: CELL, 3: two}, {1: one, 2: one, 3: two}, {1: one, 2: one, 3: two}]
    frames += [{2: one, 3: two}] * 3
    assert groups(frames) == [[1], [2], [3]]
    # Nothing divides where the other is not a part of it: a neighbour, or something small on it.
    assert groups([{n: box for n, box in frame.items() if n != 3} for frame in frames]) == [[1, 2]]


def test_a_thing_beside_which_another_appears_is_still_one() -> None:
    frames = [{1: CHAIR}] * 2 + [{1: CHAIR, 2: CHAIR, 3: BESIDE}] * 3 + [{2: CHAIR, 3: BESIDE}] * 3
    assert groups(frames) == [[1, 2], [3]]
