"""What a person said holds in what is decided, and the rest follows from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from tests.corrections.toy import accepted, at, crossing, items, row_of, scripts, solved
from trackweave.corrections.doubt import link_doubt
from trackweave.corrections.queue import Question, questions
from trackweave.structures.corrections import (
    Accepted,
    Act,
    Ended,
    Merged,
    Named,
    Nobody,
    Observation,
    Split,
)
from trackweave.structures.tracks import Tracks


def test_without_acts_every_observation_keeps_its_id() -> None:
    tracks, _ = crossing()
    _, decision = solved(tracks)
    assert decision.track_id.tolist() == tracks.track_id.tolist()


def test_the_doubt_is_where_tracks_were_exchanged() -> None:
    tracks, who = crossing()
    links = link_doubt(tracks)
    wrong = who[links.previous] != who
    wrong &= links.previous >= 0
    assert wrong.sum() == 2
    assert set(np.argsort(-links.doubt)[:6]) & set(np.flatnonzero(wrong))
    assert links.doubt[tracks.frame > 35].max() < 0.02 < links.doubt[np.abs(tracks.frame - 20) < 3].max()


def test_two_names_repair_an_exchange_of_two_tracks() -> None:
    """What one is after the encounter, the other is not; and where it happened is found between the two answers."""
    tracks, who = crossing()
    first = row_of(tracks, 2, 1)
    _, decision = solved(tracks, Named(at(tracks, first), "Ann"), Named(at(tracks, row_of(tracks, 37, 2)), "Ann"))
    ann = decision.track_id == 1
    assert (ann == (who == who[first])).mean() > 0.93
    assert len(set(decision.track_id[~ann & (np.abs(tracks.frame - 20) > 4)])) <= 2


def test_a_named_track_keeps_its_id_and_the_others_follow() -> None:
    tracks, _ = crossing(exchanged=False)
    known, decision = solved(
        tracks, Named(at(tracks, row_of(tracks, 5, 2)), "Bob"), Named(at(tracks, row_of(tracks, 5, 1)), "Ann")
    )
    assert decision.track_id.tolist() == tracks.track_id.tolist()
    assert (known.names, decision.label_ids.tolist()) == (("Bob", "Ann"), [2, 1])


def test_nobody_is_left_out_as_far_as_the_track_is_sure() -> None:
    tracks, _ = crossing(exchanged=False)
    _, decision = solved(tracks, Nobody(at(tracks, row_of(tracks, 2, 2))))
    assert set(decision.track_id[(tracks.track_id == 2) & (tracks.frame < 15)]) == {-1}
    assert set(decision.track_id[tracks.track_id == 1]) == {1}


def test_an_object_that_ended_is_not_seen_until_it_is_named() -> None:
    tracks, _ = crossing(exchanged=False)
    named, ended = Named(at(tracks, row_of(tracks, 3, 1)), "Ann"), Ended(at(tracks, row_of(tracks, 9, 1)))
    _, decision = solved(tracks, named, ended)
    assert decision.track_id[(tracks.track_id == 1) & (tracks.frame <= 9)].tolist() == [1] * 10
    assert 1 not in decision.track_id[tracks.frame > 9]
    _, decision = solved(tracks, named, ended, Named(at(tracks, row_of(tracks, 30, 1)), "Ann"))
    back = tracks.frame[decision.track_id == 1]
    assert set(range(30, 40)) <= set(back.tolist())
    assert not set(range(10, 20)) & set(back.tolist())


def test_an_unlabelled_track_is_split_in_two() -> None:
    tracks, _ = crossing(exchanged=False)
    _, decision = solved(tracks, Split(at(tracks, row_of(tracks, 19, 1)), at(tracks, row_of(tracks, 20, 1))))
    own = decision.track_id[tracks.track_id == 1]
    assert (set(own[:20]), set(own[20:])) == ({1}, {3})


def broken() -> Tracks:
    """An object that was lost for two frames, tracks 1 and 3, and another far away, track 2."""
    rows = [(frame, 1 if frame < 18 else 3, 4.0 * frame, 10, 4.0 * frame + 20, 60) for frame in range(40)]
    rows += [(frame, 2, 600.0, 10, 620.0, 60) for frame in range(40)]
    table = np.array(sorted(row for row in rows if row[1] == 2 or row[0] not in (18, 19)))
    return Tracks.from_columns(table[:, 0], table[:, 1], table[:, 2:])


def test_a_merge_of_named_and_unnamed_tracks_cuts_neither() -> None:
    """Whichever observations are merged, before and after one of the tracks was named anywhere."""
    tracks = broken()
    last, first, early, late = (at(tracks, row_of(tracks, *place)) for place in ((17, 1), (20, 3), (5, 1), (35, 3)))
    merge, ann = Merged(last, first), Named(early, "Ann")
    is_one = tracks.track_id != 2
    orders: tuple[list[Act], ...] = (
        [ann, merge],
        [merge, ann],
        [merge, Named(last, "Ann")],
        [merge, Named(first, "Ann")],
        [merge, ann, Named(late, "Ann")],
        [merge, Merged(early, late), Named(at(tracks, row_of(tracks, 12, 1)), "Ann")],
        [ann, Named(at(tracks, row_of(tracks, 5, 2)), "Bob"), Merged(early, late)],
        [merge, accepted(tracks, [merge], 0, 30), Named(late, "Ann")],
        [ann, merge, accepted(tracks, [ann, merge], 10, 25)],
    )
    for acts in orders:
        known, decision = solved(tracks, *acts)
        assert known.refused == ()
        assert decision.track_id.tolist() == np.where(is_one, 1, 2).tolist(), acts
        assert {known.names[label] for label in decision.label[is_one].tolist()} == {"Ann"}


def test_tracks_that_were_accepted_as_two_stay_two() -> None:
    tracks = broken()
    barrier = accepted(tracks, [], 0, 39)
    early, late = at(tracks, row_of(tracks, 5, 1)), at(tracks, row_of(tracks, 35, 3))
    for act in (Named(late, "Ann"), Merged(early, late)):
        known, decision = solved(tracks, barrier, Named(early, "Ann"), act)
        assert [(refusal.act, "accepted as two" in refusal.reason) for refusal in known.refused] == [(2, True)]
        assert decision.track_id.tolist() == tracks.track_id.tolist()


def test_what_was_merged_is_no_one_named_where_a_person_cut_between() -> None:
    tracks = broken()
    merge = Merged(at(tracks, row_of(tracks, 17, 1)), at(tracks, row_of(tracks, 20, 3)))
    ann = Named(at(tracks, row_of(tracks, 5, 1)), "Ann")
    nine, ten = (at(tracks, row_of(tracks, frame, 1)) for frame in (9, 10))
    cut: tuple[list[Act], ...] = ([merge, ann, Split(nine, ten)], [ann, Ended(nine), merge], [Nobody(nine), ann, merge])
    for acts in cut:
        known, decision = solved(tracks, *acts)
        assert known.refused == ()
        later = decision.track_id[(tracks.track_id == 3) | ((tracks.frame == 17) & (tracks.track_id == 1))]
        assert len(set(later.tolist())) == 1
        assert decision.track_id[row_of(tracks, 5, 1)] != later[0]
    between: list[Act] = [ann, Named(ten, "Bob"), Merged(nine, at(tracks, row_of(tracks, 30, 3)))]
    known, decision = solved(tracks, *between)  # Ann or Bob: nobody knows
    assert len({int(decision.track_id[row_of(tracks, *place)]) for place in ((5, 1), (10, 1), (30, 3))}) == 3


def test_what_contradicts_an_accepted_stretch_is_refused() -> None:
    tracks, _ = crossing(exchanged=False)
    ann = Named(at(tracks, row_of(tracks, 5, 1)), "Ann")
    barrier = accepted(tracks, [ann], 0, 10)
    here, there = at(tracks, row_of(tracks, 7, 1)), at(tracks, row_of(tracks, 7, 2))
    for act, reason in (
        (Named(there, "Ann"), "both are on frame"),
        (Named(here, "Bob"), "accepted as Ann"),
        (Nobody(here), "frame 7 is accepted"),
        (Split(at(tracks, row_of(tracks, 6, 1)), here), "is accepted"),
        (Merged(here, at(tracks, row_of(tracks, 8, 2))), "both are on frame"),
        (accepted(tracks, [ann], 10, 12), "accepted already"),
        (Named(Observation(99, 0), "Ann"), "frame 99 has no box 0"),
    ):
        known, _ = solved(tracks, ann, barrier, act)
        assert [(refusal.act, reason in refusal.reason) for refusal in known.refused] == [(2, True)], act
    known, decision = solved(tracks, ann, barrier, Named(there, "Bob"))
    assert known.refused == ()
    assert [known.names[label] for label in decision.label[[row_of(tracks, 9, 1), row_of(tracks, 9, 2)]]] == [
        "Ann",
        "Bob",
    ]


@settings(max_examples=150, deadline=None)
@given(scripts())
def test_constraints_hold_in_what_is_decided(script: tuple[Tracks, list[Act]]) -> None:
    tracks, acts = script
    known, decision = solved(tracks, *acts)
    ids = decision.track_id
    kept = ids >= 0
    # One id is there once a frame, and is the same for all that a person gave one label.
    pairs = set(zip(tracks.frame[kept].tolist(), ids[kept].tolist(), strict=True))
    assert len(pairs) == kept.sum()
    for label in range(len(known.names)):
        said = known.label == label
        assert len(set(ids[said].tolist())) == 1
        assert (ids[said] == (-1 if known.nobody[label] else decision.label_ids[label])).all()
    for one, other in known.apart:
        assert ids[one] != ids[other] or ids[one] == -1
    for row in known.ended:
        label = decision.label[row]
        if label >= 0 and not known.nobody[label]:
            later = tracks.frame[(known.label == label) & (tracks.frame > tracks.frame[row])].min(initial=99)
            seen = (ids == decision.label_ids[label]) & (tracks.frame > tracks.frame[row]) & (tracks.frame < later)
            assert not seen.any()
    refused = {refusal.act for refusal in known.refused}
    rows = {at(tracks, row): row for row in range(len(tracks))}
    for position, act in enumerate(acts):
        if isinstance(act, Accepted) and position not in refused:
            inside = (tracks.frame >= act.first) & (tracks.frame <= act.last)
            expected = np.full(len(tracks), -1)
            for track in act.tracks:
                members = [rows[one] for one in track.observations]
                assert len(set(ids[members].tolist())) == 1
                expected[members] = ids[members[0]]
            assert ids[inside].tolist() == expected[inside].tolist()
            assert len({ids[rows[track.observations[0]]] for track in act.tracks}) == len(act.tracks)


@settings(max_examples=60, deadline=None)
@given(scripts())
def test_an_accepted_stretch_keeps_its_ids(script: tuple[Tracks, list[Act]]) -> None:
    tracks, acts = script
    acts = [act for act in acts if not isinstance(act, Accepted)]
    cut = len(acts) // 2
    _, before = solved(tracks, *acts[:cut])
    barrier = accepted(tracks, acts[:cut], 3, 9)
    known, after = solved(tracks, *acts[:cut], barrier, *acts[cut:])
    assert not any(refusal.act == cut for refusal in known.refused)
    inside = (tracks.frame >= 3) & (tracks.frame <= 9)
    np.testing.assert_array_equal(after.track_id[inside], before.track_id[inside])


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_observations(count: int) -> None:
    tracks = crossing()[0][:count]
    _, decision = solved(tracks)
    assert decision.track_id.tolist() == tracks.track_id.tolist()


def questions_about(tracks: Tracks, *acts: Act) -> list[Question]:
    """What is asked next."""
    links = link_doubt(tracks)
    known, decision = solved(tracks, *acts, links=links)
    return questions(tracks, items(tracks), links, known, decision)


def test_an_answer_that_contradicts_the_others_is_asked_anew() -> None:
    """The first track is Ann before and after, and Bob is seen beside her: so she is not Bob in between."""
    tracks, _ = crossing(exchanged=False)
    ann, bob, wrong, *later = (
        Named(at(tracks, row_of(tracks, frame, track)), name)
        for frame, track, name in ((2, 1, "Ann"), (2, 2, "Bob"), (7, 1, "Bob"), (12, 1, "Ann"), (12, 2, "Bob"))
    )
    assert not any(one.contradicted for one in questions_about(tracks, ann, bob))
    asked = {question.at: question for question in questions_about(tracks, ann, bob, wrong, *later)}
    first = asked[wrong.at]
    assert (first.contradicted, first.candidates[0].name, first.doubt > 0.9) == (True, "Ann", True)
    assert first.to_json()["contradicted"] is True
    assert not any(one.contradicted for one in questions_about(tracks, ann, bob, wrong, *later, Named(wrong.at, "Ann")))
    again = ann, bob, wrong, *later, wrong  # said twice, it is believed, and nobody asks a third time
    assert not any(one.at == wrong.at for one in questions_about(tracks, *again))
    known, decision = solved(tracks, *again)
    assert known.names[decision.label[row_of(tracks, 7, 1)]] == "Bob"


def test_a_name_for_two_boxes_of_a_frame_is_asked_anew() -> None:
    tracks, _ = crossing(exchanged=False)
    one, other = (Named(at(tracks, row_of(tracks, 5, track)), "Ann") for track in (1, 2))
    asked = questions_about(tracks, one, other)
    assert [question.contradicted for question in asked if question.at == other.at] == [True]
    assert not any(question.contradicted for question in questions_about(tracks, one, other, other))


@settings(max_examples=60, deadline=None)
@given(scripts())
def test_a_contradiction_is_a_probability_and_only_of_names(script: tuple[Tracks, list[Act]]) -> None:
    tracks, acts = script
    known, decision = solved(tracks, *acts)
    answers = decision.answers
    assert ((answers.mistaken >= 0) & (answers.mistaken <= 1)).all()
    np.testing.assert_allclose(answers.posterior.sum(axis=1), 1)
    named = {act.at for act in acts if isinstance(act, Named)}
    assert {at(tracks, row) for row in answers.rows.tolist()} <= named
    assert (decision.label[answers.rows] == known.label[answers.rows]).all()
    for question in questions(tracks, items(tracks), link_doubt(tracks), known, decision, count=99):
        assert not question.contradicted or question.at in named
