"""The right partners of tracks and detections."""

from __future__ import annotations

import numpy as np

from trackweave.association.labels import UNKNOWN, UNMATCHED, TrueIdentities, assigned_targets, true_targets

PAIRS = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 1]])


def test_pairs_of_one_identity_are_targets() -> None:
    targets = true_targets(PAIRS, np.array([7, 8, 9]), np.array([8, 7, 5]), np.array([1, 1, 1]))
    assert targets.tracks.tolist() == [1, 2, UNMATCHED]
    assert targets.detections.tolist() == [2, 1, UNMATCHED]


def test_of_two_tracks_of_one_object_the_one_with_more_support_continues() -> None:
    targets = true_targets(PAIRS, np.array([7, 7, 9]), np.array([7, 5]), np.array([1, 4, 1]))
    assert targets.tracks.tolist() == [UNMATCHED, 2, UNMATCHED]
    assert targets.detections.tolist() == [2, UNMATCHED]


def test_unknown_identities_have_unknown_targets() -> None:
    targets = true_targets(PAIRS, np.array([-1, 8, 9]), np.array([-1, 8]), np.array([1, 1, 1]))
    assert targets.tracks.tolist() == [UNKNOWN, 3, UNMATCHED]
    assert targets.detections.tolist() == [UNKNOWN, 3]


def test_a_partner_outside_the_gates_is_no_target() -> None:
    targets = true_targets(PAIRS[:1], np.array([7, 8]), np.array([5, 8]), np.array([1, 1]))
    assert targets.tracks.tolist() == [UNMATCHED, UNMATCHED]


def test_assigned_targets_follow_the_tracker() -> None:
    targets = assigned_targets(PAIRS, np.array([10, 11, 12]), np.array([11, 99, -1]))
    assert targets.tracks.tolist() == [UNMATCHED, 2, UNMATCHED]
    assert targets.detections.tolist() == [2, UNMATCHED, UNMATCHED]


def identities_at(identities: TrueIdentities, frame: int, *tracks: int) -> list[int]:
    return list(identities.at(frame, np.array(tracks))[0])


def test_a_track_has_the_identity_of_its_last_match() -> None:
    identities = TrueIdentities()
    identities.update(1, np.array([10, 11]), np.array([3, -1]))
    identities.update(2, np.array([10, 11]), np.array([-1, 5]))
    assert identities_at(identities, 3, 10, 11, 12) == [3, 5, -1]


def test_a_short_mistake_keeps_the_identity_a_lasting_one_changes_it() -> None:
    identities = TrueIdentities()
    for frame in range(100):
        identities.update(frame, np.array([10, 11]), np.array([3, 5]))
    changed = []
    for frame in range(100, 140):
        identities.update(frame, np.array([10, -1]), np.array([5, 3]))
        changed.append(identities_at(identities, frame + 1, 10) == [5])
    assert changed.index(True) in range(10, 20)
    assert all(changed[changed.index(True) :])


def test_support_decays_while_a_track_is_lost() -> None:
    identities = TrueIdentities()
    for frame in range(100):
        identities.update(frame, np.array([10]), np.array([3]))
    for frame in range(100, 160):
        identities.update(frame, np.array([11]), np.array([3]))
        _, support = identities.at(frame + 1, np.array([10, 11]))
        if frame == 104:
            assert support[0] > support[1]
    assert support[0] < support[1]


def test_tracks_that_keep_switching_have_the_identity_of_their_last_match() -> None:
    identities = TrueIdentities()
    for frame in range(100):
        identities.update(frame, np.array([10, 11]), np.array([3, 5]))
    for frame in range(100, 160):
        pair = [3, 5] if frame % 2 else [5, 3]
        identities.update(frame, np.array([10, 11]), np.array(pair))
        if frame > 140:
            assert identities_at(identities, frame + 1, 10, 11) == pair


def test_of_two_tracks_of_one_object_the_older_one_continues() -> None:
    identities = TrueIdentities()
    identities.update(0, np.array([10]), np.array([3]))
    for frame in range(1, 40):
        identities.update(frame, np.array([10 if frame % 2 else 11]), np.array([3]))
        _, support = identities.at(frame + 1, np.array([11, 10]))
        assert support[1] > support[0]
