"""The right partners of tracks and detections."""

from __future__ import annotations

import numpy as np

from trackweave.association.labels import UNKNOWN, UNMATCHED, TrueIdentities, decided_targets, true_targets

PAIRS = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 1]])


def test_truth_pairs_equal_identities() -> None:
    found = true_targets(PAIRS, np.array([7, 8, 9]), np.array([8, 7, 5]), np.array([1, 1, 1]))
    assert found.tracks.tolist() == [1, 2, UNMATCHED]
    assert found.detections.tolist() == [2, 1, UNMATCHED]


def test_of_two_tracks_of_one_object_the_stronger_claim_goes_on() -> None:
    found = true_targets(PAIRS, np.array([7, 7, 9]), np.array([7, 5]), np.array([1, 4, 1]))
    assert found.tracks.tolist() == [UNMATCHED, 2, UNMATCHED]
    assert found.detections.tolist() == [2, UNMATCHED]


def test_what_nobody_knows_is_not_learned_from() -> None:
    found = true_targets(PAIRS, np.array([-1, 8, 9]), np.array([-1, 8]), np.array([1, 1, 1]))
    assert found.tracks.tolist() == [UNKNOWN, 3, UNMATCHED]
    assert found.detections.tolist() == [UNKNOWN, 3]


def test_a_partner_outside_the_gates_is_none() -> None:
    found = true_targets(PAIRS[:1], np.array([7, 8]), np.array([5, 8]), np.array([1, 1]))
    assert found.tracks.tolist() == [UNMATCHED, UNMATCHED]


def test_decisions_are_taken_as_they_are() -> None:
    found = decided_targets(PAIRS, np.array([10, 11, 12]), np.array([11, 99, -1]))
    assert found.tracks.tolist() == [UNMATCHED, 2, UNMATCHED]
    assert found.detections.tolist() == [2, UNMATCHED, UNMATCHED]


def shown(identities: TrueIdentities, frame: int, *tracks: int) -> list[int]:
    return list(identities.of(frame, np.array(tracks))[0])


def test_a_track_shows_whom_it_was_given() -> None:
    identities = TrueIdentities()
    identities.learn(1, np.array([10, 11]), np.array([3, -1]))
    identities.learn(2, np.array([10, 11]), np.array([-1, 5]))
    assert shown(identities, 3, 10, 11, 12) == [3, 5, -1]


def test_a_mistake_of_a_few_frames_is_to_be_put_right_a_lasting_one_is_not() -> None:
    identities = TrueIdentities()
    for frame in range(100):
        identities.learn(frame, np.array([10, 11]), np.array([3, 5]))
    changed = []
    for frame in range(100, 140):
        identities.learn(frame, np.array([10, -1]), np.array([5, 3]))
        changed.append(shown(identities, frame + 1, 10) == [5])
    assert changed.index(True) in range(10, 20)
    assert all(changed[changed.index(True) :])


def test_a_claim_fades_while_a_track_is_lost() -> None:
    identities = TrueIdentities()
    for frame in range(100):
        identities.learn(frame, np.array([10]), np.array([3]))
    for frame in range(100, 160):
        identities.learn(frame, np.array([11]), np.array([3]))
        _, claim = identities.of(frame + 1, np.array([10, 11]))
        if frame == 104:
            assert claim[0] > claim[1]
    assert claim[0] < claim[1]


def test_tracks_that_exchange_their_objects_for_ever_are_to_stay_with_the_last() -> None:
    identities = TrueIdentities()
    for frame in range(100):
        identities.learn(frame, np.array([10, 11]), np.array([3, 5]))
    for frame in range(100, 160):
        pair = [3, 5] if frame % 2 else [5, 3]
        identities.learn(frame, np.array([10, 11]), np.array(pair))
        if frame > 140:
            assert shown(identities, frame + 1, 10, 11) == pair


def test_of_two_tracks_of_one_object_the_older_one_goes_on() -> None:
    identities = TrueIdentities()
    identities.learn(0, np.array([10]), np.array([3]))
    for frame in range(1, 40):
        identities.learn(frame, np.array([10 if frame % 2 else 11]), np.array([3]))
        _, claim = identities.of(frame + 1, np.array([11, 10]))
        assert claim[1] > claim[0]
