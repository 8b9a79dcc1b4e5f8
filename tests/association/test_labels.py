"""The right partners of tracks and detections."""

from __future__ import annotations

import numpy as np

from trackweave.association.labels import UNKNOWN, UNMATCHED, TrueIdentities, decided_targets, true_targets

PAIRS = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 1]])


def test_truth_pairs_equal_identities() -> None:
    found = true_targets(PAIRS, np.array([7, 8, 9]), np.array([8, 7, 5]), np.array([1, 1, 1]))
    assert found.tracks.tolist() == [1, 2, UNMATCHED]
    assert found.detections.tolist() == [2, 1, UNMATCHED]


def test_of_two_tracks_of_one_object_the_fresher_one_goes_on() -> None:
    found = true_targets(PAIRS, np.array([7, 7, 9]), np.array([7, 5]), np.array([4, 1, 1]))
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


def test_a_track_shows_what_it_was_given_last() -> None:
    identities = TrueIdentities()
    identities.learn(np.array([10, 11]), np.array([3, -1]))
    identities.learn(np.array([10, 11]), np.array([-1, 5]))
    assert identities.of(np.array([10, 11, 12])).tolist() == [3, 5, -1]
    identities.learn(np.array([10, -1]), np.array([6, 7]))
    assert identities.of(np.array([10])).tolist() == [6]
