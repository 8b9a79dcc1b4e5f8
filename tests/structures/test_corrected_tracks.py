"""Raw tracks under acts: who is who on each frame, whatever the identities are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.structures.corrected_tracks import (
    CorrectedTracks,
    PromptTask,
    PropagatedPrompt,
    RawTracks,
    correct_tracks,
)
from trackweave.structures.corrections import (
    Accepted,
    AcceptedTrack,
    Act,
    Ended,
    Merged,
    Named,
    Nobody,
    Observation,
    Prompted,
    Split,
)
from trackweave.structures.identity import IdentityLink, IdentityTable, Tree

LENGTH = 12
SEEN: Mapping[int, range] = {1: range(12), 2: range(12), 3: range(4, 9), 4: range(6), 5: range(12)}
"""Tracks 1 and 2 are on all frames, 3 and 4 on some; 5 lies in another level."""
LEVELS = {1: 2, 2: 2, 3: 2, 4: 2, 5: 4}
BOX = (0.0, 0.0, 4.0, 4.0)


def raw(**changes: object) -> RawTracks:
    values: dict[str, object] = {"cuts": [], "reach": None, **changes}
    return RawTracks(LEVELS, lambda track: np.array(SEEN[track]), [2, 4], range(LENGTH), **values)  # type: ignore[arg-type]


def table(*links: tuple[int, int]) -> IdentityTable:
    return IdentityTable.from_links(
        list(LEVELS), list(LEVELS.values()), [IdentityLink(*pair, "merge", 0.7, 3) for pair in links]
    )


def done(task: PromptTask) -> PropagatedPrompt:
    return PropagatedPrompt(np.arange(task.first, task.last + 1), 16.0)


def solved(acts: Sequence[Act], *links: tuple[int, int], **changes: object) -> CorrectedTracks:
    return correct_tracks(acts, raw(**changes), table(*links), done)


def seen_at(result: CorrectedTracks, frame: int) -> dict[int, int]:
    """Object of each raw track, and of each prompt, that is on a frame."""
    tracks = [track for track, frames in SEEN.items() if frame in frames]
    tracks += [task.number for task in result.tasks if task not in result.pending and task.first <= frame <= task.last]
    return dict(zip(tracks, result.at(frame, np.array(tracks)).tolist(), strict=True))


def at(frame: int, track: int) -> Observation:
    return Observation(frame, track)


def test_without_acts_every_track_is_its_identity() -> None:
    assert seen_at(solved([], (1, 3)), 5) == {1: 1, 2: 2, 3: 1, 4: 4, 5: 5}


def test_a_name_changes_no_id() -> None:
    result = solved([Named(at(3, 2), "Ann")])
    assert (result.names, seen_at(result, 5)[2]) == ({2: "Ann"}, 2)


def test_two_observations_of_one_name_are_one_object_and_of_two_names_two() -> None:
    result = solved([Named(at(0, 4), "Ann"), Named(at(8, 3), "Ann"), Named(at(10, 1), "Bob")])
    assert seen_at(result, 4)[3] == seen_at(result, 4)[4] == 3
    assert result.names == {3: "Ann", 1: "Bob"}
    result = solved([Named(at(2, 1), "Ann"), Named(at(7, 1), "Bob")])
    assert result.names == {1: "Ann", 7: "Bob"}
    assert [seen_at(result, frame)[1] for frame in (0, 6, 7, 11)] == [1, 1, 7, 7]


def test_the_same_observation_is_renamed() -> None:
    assert solved([Named(at(2, 1), "Ann"), Named(at(2, 1), "Bob")]).names == {1: "Bob"}


def test_two_names_part_tracks_that_an_identity_joined() -> None:
    acts = [Named(at(5, 1), "Ann"), Named(at(5, 3), "Bob")]
    for links in ([], [(1, 3)]):
        result = solved(acts, *links)
        assert sorted(result.names.values()) == ["Ann", "Bob"]
        assert seen_at(result, 5)[1] != seen_at(result, 5)[3]


def test_a_split_cuts_all_tracks_of_the_object_in_time() -> None:
    result = solved([Split(at(5, 1), at(6, 1))], (1, 3))
    assert seen_at(result, 5)[1] == seen_at(result, 5)[3] == 1
    assert seen_at(result, 6)[1] == seen_at(result, 6)[3] == 6
    assert seen_at(result, 6)[2] == 2


def test_a_split_of_two_tracks_that_are_seen_together_parts_them() -> None:
    result = solved([Split(at(5, 1), at(6, 3))], (1, 3))
    assert (seen_at(result, 5)[1], seen_at(result, 5)[3], seen_at(result, 8)[1]) == (1, 6, 1)


def test_the_name_stays_with_what_was_named() -> None:
    result = solved([Named(at(9, 1), "Ann"), Split(at(5, 1), at(6, 1))])
    assert (seen_at(result, 9)[1], result.names) == (1, {1: "Ann"})
    assert seen_at(result, 3)[1] == 7


def test_what_ends_is_gone_until_it_is_named_again() -> None:
    acts: list[Act] = [Ended(at(5, 1))]
    assert [seen_at(solved(acts), frame)[1] for frame in (5, 6, 11)] == [1, -1, -1]
    result = solved([*acts, Named(at(9, 1), "Bob")])
    assert (seen_at(result, 9)[1] > 0, list(result.names.values())) == (True, ["Bob"])


def test_nobody_is_left_out_and_its_parts_go_to_what_is_around_it() -> None:
    result = solved([Nobody(at(0, 2))])
    assert seen_at(result, 0)[2] == -1
    tree = Tree.from_parents({1: 0, 2: 1, 3: 0, 4: 0, 5: 2}, LEVELS)
    after = result.tree(tree)
    assert (2 in after, after.parent(5)) == (False, 1)


def test_a_merge_joins_what_is_seen_together_and_keeps_the_smaller_id() -> None:
    result = solved([Merged(at(5, 3), at(6, 2))])
    assert seen_at(result, 5)[2] == seen_at(result, 5)[3] == 2
    tree = Tree.from_parents({1: 0, 2: 0, 3: 0, 4: 0, 5: 3}, LEVELS)
    assert result.tree(tree).parent(5) == 2


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (Merged(at(5, 1), at(5, 5)), "level 2, the other of level 4"),
        (Named(at(10, 3), "Ann"), "frame 10 has no mask of track 3"),
        (Named(at(10, 99), "Ann"), "no mask of track 99"),
        (Prompted(40, "Ann", box=BOX), "none of the run's"),
        (Prompted(4, "Ann", box=BOX, level=6), "no level 6"),
        (Prompted(4, "Ann", box=BOX, of=at(4, 1), level=4), "of level 2, not of level 4"),
    ],
)
def test_what_cannot_hold_is_refused_and_changes_nothing(act: Act, reason: str) -> None:
    result = solved([act])
    assert reason in result.refused[0].reason
    assert (seen_at(result, 5), result.tasks) == (seen_at(solved([]), 5), ())


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_a_prompt_replaces_the_masks_of_its_object_where_it_goes() -> None:
    result = solved([Named(at(0, 1), "Ann"), Prompted(6, "Ann", box=BOX)], cuts=[4], reach=3)
    (task,) = result.tasks
    assert (task.first, task.last, task.level, task.number) == (4, 9, 2, 7)
    assert [seen_at(result, frame)[1] for frame in (3, 4, 9, 10)] == [1, -1, -1, 1]
    assert seen_at(result, 6)[7] == 1


def test_a_prompt_ends_at_what_is_accepted_ended_or_prompted() -> None:
    barrier = Accepted(0, 2, (AcceptedTrack(1, (at(0, 1), at(1, 1), at(2, 1))),))
    result = solved([barrier, Ended(at(9, 1)), Prompted(5, "7", box=BOX, of=at(5, 1))])
    assert [(task.first, task.last) for task in result.tasks] == [(3, 9)]
    assert result.names == {1: "7"}
    result = solved([Prompted(3, "A", box=BOX, of=at(3, 1)), Prompted(8, "A", box=BOX)])
    assert [(task.first, task.last) for task in result.tasks] == [(0, 11), (4, 11)]
    assert [[key for key, one in seen_at(result, f).items() if one == 1] for f in (3, 4, 11)] == [[6], [7], [7]]
    assert [
        (t.first, t.last) for t in solved([Prompted(8, "A", box=BOX, of=at(8, 1))], prompt_frames={1: [4]}).tasks
    ] == [(5, 11)]


def test_a_new_object_gets_an_id_of_its_own_in_its_level() -> None:
    result = solved([Prompted(3, "Zoe", box=BOX, level=4), Prompted(3, "Yan", box=BOX)])
    assert {number: (one.level, one.name) for number, one in result.objects.items()} == {6: (4, "Zoe"), 7: (2, "Yan")}
    tree = result.tree(Tree.from_parents(dict.fromkeys(LEVELS, 0), LEVELS))
    assert (tree.parent(6), tree.level_of(6)) == (0, 4)


def test_a_prompt_that_is_not_propagated_yet_changes_no_mask() -> None:
    acts = [Prompted(6, "Ann", box=BOX, of=at(6, 1))]
    result = correct_tracks(acts, raw(), table(), lambda task: None)
    assert (len(result.pending), result.names) == (1, {1: "Ann"})
    assert seen_at(result, 6) == seen_at(solved([]), 6)


def test_the_key_of_a_prompt_hangs_on_what_it_does_and_on_nothing_else() -> None:
    (one,) = solved([Prompted(6, "Ann", box=BOX)]).tasks
    (other,) = solved([Prompted(6, "Bob", box=BOX, of=at(6, 1))]).tasks
    (shorter,) = solved([Prompted(6, "Ann", box=BOX)], reach=2).tasks
    assert one.key == other.key != shorter.key


# --- barriers ---------------------------------------------------------------------------------------------------------


def accepted(result: CorrectedTracks, first: int, last: int) -> Accepted:
    groups: dict[int, list[Observation]] = {}
    for frame in range(first, last + 1):
        for track, number in seen_at(result, frame).items():
            if number > 0:
                groups.setdefault(number, []).append(at(frame, track))
    return Accepted(first, last, tuple(AcceptedTrack(one, tuple(sorted(seen))) for one, seen in groups.items()))


def test_what_contradicts_an_accepted_stretch_is_refused() -> None:
    named: list[Act] = [Named(at(3, 1), "Ann"), Nobody(at(0, 4))]
    barrier = accepted(solved(named), 2, 5)
    cases: list[tuple[Act, str]] = [
        (Named(at(3, 1), "Bob"), "accepted as Ann"),
        (Nobody(at(9, 2)), "are accepted"),
        (Split(at(3, 1), at(4, 1)), "are accepted"),
        (Ended(at(3, 1)), "are accepted"),
        (Merged(at(3, 1), at(3, 2)), "both are on frames 2 to 5"),
        (Named(at(1, 4), "Zoe"), "are accepted"),
        (Prompted(4, "Zoe", box=BOX), "frame 4 is accepted"),
        (accepted(solved(named), 5, 7), "accepted already"),
    ]
    for act, reason in cases:
        result = solved([*named, barrier, act])
        assert [reason in one.reason for one in result.refused] == [True], act


def test_an_accepted_stretch_holds_under_other_identities() -> None:
    for before, after in ([[(1, 3)], []], [[], [(1, 3), (2, 4)]]):
        was = solved([], *before)
        barrier = accepted(was, 4, 6)
        now = solved([barrier], *after)
        assert now.refused == ()
        for frame in (4, 5, 6):
            assert seen_at(now, frame) == seen_at(was, frame)


@st.composite
def acts(draw: st.DrawFn) -> Act:
    track = draw(st.sampled_from(list(SEEN)))
    frame = draw(st.integers(0, LENGTH - 1))
    kind = draw(st.sampled_from(("name", "nobody", "merge", "split", "end", "prompt")))
    one = at(frame, track)
    if kind == "name":
        return Named(one, draw(st.sampled_from("AB")))
    if kind == "nobody":
        return Nobody(one)
    if kind == "merge":
        return Merged(one, at(draw(st.integers(0, LENGTH - 1)), draw(st.sampled_from(list(SEEN)))))
    if kind == "split":
        return Split(one, at(frame + 1, draw(st.sampled_from([track, *SEEN]))))
    if kind == "end":
        return Ended(one)
    return Prompted(frame, draw(st.sampled_from("AB")), box=BOX, of=draw(st.sampled_from([None, one])))


links = st.lists(st.sampled_from([(1, 2), (1, 3), (2, 4), (3, 4)]), max_size=3)


@given(st.lists(acts(), max_size=8), links)
def test_names_and_ids_belong_together(script: list[Act], joined: list[tuple[int, int]]) -> None:
    result = solved(script, *joined)
    assert len(set(result.names.values())) == len(result.names)
    levels: dict[int, set[int]] = {}
    for frame in range(LENGTH):
        for track, number in seen_at(result, frame).items():
            assert number == -1 or number > 0
            level = LEVELS.get(track) or next(task.level for task in result.tasks if task.number == track)
            levels.setdefault(number, set()).add(level)
    assert all(len(each) == 1 for number, each in levels.items() if number > 0)
    tree = result.tree(Tree.from_parents({1: 0, 2: 1, 3: 2, 4: 0, 5: 3}, LEVELS))
    assert set(levels) - {-1} <= set(tree.identity.tolist()) | {-1}


@given(st.lists(acts(), max_size=4), st.lists(acts(), max_size=5), links)
def test_nothing_that_is_said_later_changes_an_accepted_stretch(
    before: list[Act], after: list[Act], joined: list[tuple[int, int]]
) -> None:
    was = solved(before, *joined)
    barrier = accepted(was, 4, 7)
    now = solved([*before, barrier, *after], *joined)
    if any(one.act == len(before) for one in now.refused):  # nothing was left to accept
        return
    for frame in range(4, 8):
        own = {track: one for track, one in seen_at(was, frame).items() if one > 0}
        assert {track: one for track, one in seen_at(now, frame).items() if one > 0} == own
