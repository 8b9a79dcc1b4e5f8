from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given, settings

from tests.identity.toy_tracks import Box, video, videos
from trackweave.identity.merge import merge
from trackweave.identity.nest import Nesting, nest
from trackweave.identity.overlaps import gather
from trackweave.identity.settings import IdentitySettings
from trackweave.structures.identity import IdentityTable

ALL: Box = (0, 0, 30, 20)
CHAIR: Box = (4, 4, 14, 14)
SEAT: Box = (4, 4, 14, 9)
LEGS: Box = (4, 9, 14, 14)
FAR: Box = (20, 4, 28, 14)


def nested(levels: Mapping[int, Sequence[dict[int, Box]]], **values: object) -> Nesting:
    chosen = IdentitySettings.checked(values)
    evidence = gather(video(levels), chosen.merge_iou)
    table = IdentityTable.from_links(evidence.track_id, evidence.level, merge(evidence, chosen))
    return nest(evidence, table, chosen)


def test_each_part_has_its_tightest_whole() -> None:
    found = nested({2: [{1: ALL}] * 3, 4: [{2: CHAIR, 3: FAR}] * 3, 6: [{4: SEAT, 5: LEGS}] * 3})
    assert [found.tree.parent(one) for one in range(1, 6)] == [0, 1, 1, 2, 2]
    assert found.tree.descendants(1) == [2, 4, 5, 3]


def test_the_tree_knows_the_mean_areas() -> None:
    """By them the smaller thing is on top, whatever its number."""
    found = nested({4: [{1: SEAT, 2: CHAIR}] * 2 + [{1: SEAT}, {2: CHAIR}]})
    seat, chair = found.tree.area.tolist()
    assert 0 < 2 * seat == chair


def test_the_same_thing_at_three_levels_is_a_chain() -> None:
    found = nested({2: [{1: CHAIR}] * 2, 4: [{2: CHAIR}] * 2, 6: [{3: CHAIR}] * 2})
    assert found.tree.path(3) == [1, 2, 3]


def test_a_track_that_parts_of_its_level_make_up_is_their_whole() -> None:
    found = nested({4: [{1: CHAIR, 2: SEAT, 3: LEGS}] * 3})
    assert (found.tree.children(1), found.split) == ([2, 3], [1])
    alone = nested({4: [{1: CHAIR, 2: SEAT}] * 3})
    assert (alone.tree.children(1), alone.split) == ([2], [])


def test_one_frame_is_outvoted() -> None:
    found = nested({2: [{1: CHAIR, 9: FAR}] * 6, 4: [{2: SEAT}] * 5 + [{2: FAR}]})
    assert found.tree.parent(2) == 1


def test_a_whole_that_is_hardly_seen_is_none() -> None:
    frames = {2: [{1: CHAIR}] + [{}] * 9, 4: [{2: SEAT}] * 10}
    assert nested(frames).tree.parent(2) == 0
    assert nested(frames, nest_seen=0.1).tree.parent(2) == 1


def test_nothing_is_part_of_anything_when_not_asked() -> None:
    assert nested({2: [{1: CHAIR}], 4: [{2: SEAT}]}, nest=False).tree.roots == [1, 2]


def test_each_in_the_other_is_no_circle() -> None:
    """Between levels the coarser one is the whole; within a level the larger, and what is neither is merged."""
    found = nested({2: [{1: SEAT}] * 3, 4: [{2: CHAIR, 3: SEAT}] * 3}, merge=False)
    assert found.tree.path(3) == [1, 3]
    twins = nested({4: [{1: CHAIR, 2: CHAIR}] * 3}, merge=False)
    assert twins.tree.roots == [1, 2]


@given(videos(), videos())
@settings(max_examples=20)
def test_the_order_of_frames_changes_nothing(coarse: list[dict[int, Box]], fine: list[dict[int, Box]]) -> None:
    count = min(len(coarse), len(fine))
    shifted = [{one + 100: box for one, box in frame.items()} for frame in fine[:count]]
    found = nested({2: coarse[:count], 4: shifted})
    again = nested({2: coarse[:count][::-1], 4: shifted[::-1]})
    assert found.tree.parents.tolist() == again.tree.parents.tolist()
    for one in found.tree.identity.tolist():
        assert found.tree.path(one)[-1] == one
