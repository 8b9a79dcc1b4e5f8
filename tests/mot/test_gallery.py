"""Who comes back after long gets the old identity, where nobody else is as like; never one that is in view."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackweave.mot.appearance import RECALL_VIEWS
from trackweave.mot.settings import preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.structures.detections import Detections

E1, E2, E3 = np.eye(3, dtype=np.float32)
AWAY = 60
"""Frames after which a track has ended for long."""


def tracker_of(gallery: int = 10) -> Tracker:
    return Tracker(
        preset("adaptive", appearance_memory=True, appearance_gallery=gallery, lost_seconds=0.5, confirm_hits=1)
    )


def seen(*people: tuple[float, Any], class_id: int = 0) -> Detections:
    """People at x with embeddings."""
    boxes = [[x, 0, x + 40, 80] for x, _ in people]
    embedding = [vector for _, vector in people] if people else None
    return Detections.of(boxes, [0.9] * len(people), [class_id] * len(people), embedding=embedding)


def run(tracker: Tracker, frames: range, *people: tuple[float, Any], class_id: int = 0) -> list[list[int]]:
    """The ids of each frame on which these stand still."""
    found = []
    for frame in frames:
        tracked = tracker.update(seen(*people, class_id=class_id), frame)
        assert tracked.track_id is not None
        found.append(tracked.track_id.tolist())
    return found


def test_who_comes_back_has_the_old_identity_after_a_few_views() -> None:
    tracker = tracker_of()
    assert run(tracker, range(10), (0, E1), (200, E2))[-1] == [1, 2]
    run(tracker, range(10, AWAY))
    ids = run(tracker, range(AWAY, AWAY + 10), (500, E2))
    assert ids == [[3]] * (RECALL_VIEWS - 1) + [[2]] * (11 - RECALL_VIEWS)
    assert tracker.recalled == 1
    run(tracker, range(AWAY + 10, 2 * AWAY))
    assert run(tracker, range(2 * AWAY, 2 * AWAY + 8), (100, E2), (300, E1))[-1] == [2, 1]
    assert tracker.recalled == 3


def test_without_a_gallery_it_is_a_new_one() -> None:
    tracker = tracker_of(0)
    run(tracker, range(10), (0, E1))
    run(tracker, range(10, AWAY))
    assert run(tracker, range(AWAY, AWAY + 10), (0, E1))[-1] == [2]
    assert tracker.recalled == 0


@pytest.mark.parametrize("second", [E1, (0.995, 0.0999, 0.0)])
def test_of_two_that_are_alike_none_is_chosen(second: Any) -> None:
    tracker = tracker_of()
    run(tracker, range(10), (0, E1), (200, second))
    run(tracker, range(10, AWAY))
    assert run(tracker, range(AWAY, AWAY + 10), (100, E1))[-1] == [3]


def test_a_stranger_another_class_and_one_in_view_are_not_taken() -> None:
    tracker = tracker_of()
    run(tracker, range(10), (0, E1), (200, E2))
    run(tracker, range(10, AWAY), (200, E2))
    assert run(tracker, range(AWAY, AWAY + 10), (200, E2), (400, E2), (600, E3))[-1] == [2, 3, 4]
    other = tracker_of()
    run(other, range(10), (0, E1))
    run(other, range(10, AWAY))
    assert run(other, range(AWAY, AWAY + 10), (0, E1), class_id=7)[-1] == [2]


def test_over_a_cut() -> None:
    tracker = tracker_of()
    run(tracker, range(10), (0, E1), (200, E2))
    tracker.update(seen((300, E1), (0, E2)), FrameContext(10, cut=True))
    assert run(tracker, range(11, 20), (300, E1), (0, E2))[-1] == [1, 2]


def test_memory_is_bounded_and_the_latest_stay() -> None:
    tracker = tracker_of(gallery=3)
    vectors = np.eye(12, dtype=np.float32)
    for k in range(12):
        start = k * AWAY
        run(tracker, range(start, start + 10), (0, vectors[k]))
        run(tracker, range(start + 10, start + AWAY))
    assert tracker._gallery is not None
    assert len(tracker._gallery) == 3
    start = 12 * AWAY
    assert run(tracker, range(start, start + 8), (0, vectors[11]), (300, vectors[0]))[-1] == [12, 14]


def test_a_copy_goes_on_and_reset_forgets() -> None:
    tracker = tracker_of()
    run(tracker, range(10), (0, E1))
    run(tracker, range(10, AWAY))
    again = copy.deepcopy(tracker)
    back = range(AWAY, AWAY + 10)
    assert run(tracker, back, (0, E1)) == run(again, back, (0, E1))
    tracker.reset()
    run(tracker, range(3))
    assert run(tracker, range(3, 13), (0, E1))[-1] == [1]
    assert tracker.recalled == 0


def test_a_gallery_without_appearance_says_that_it_does_nothing() -> None:
    (text,) = preset("adaptive", appearance_gallery=5).without_effect(has_scorer=False)
    assert text == "tracker.appearance_gallery 5 has no effect while tracker.appearance_memory is off"


Visit = tuple[int, int, int, int]
"""Frame, length, place and kind of a visit."""


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 120), st.integers(1, 25), st.integers(0, 4), st.integers(0, 2)),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 4),
)
def test_never_two_at_once(visits: Sequence[Visit], gallery: int) -> None:
    tracker = tracker_of(gallery)
    for frame in range(150):
        present = {place: kind for start, length, place, kind in visits if start <= frame < start + length}
        tracked = tracker.update(seen(*((150.0 * place, (E1, E2, E3)[kind]) for place, kind in present.items())), frame)
        assert tracked.track_id is not None
        assert len(set(tracked.track_id.tolist())) == len(tracked)
    assert tracker._gallery is not None
    assert len(tracker._gallery) <= gallery
