from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.mot.test_id_switches import Walker, play, straight
from trackweave.mot.switch_evidence import EXCHANGE, NEUTRAL_APPEARANCE, NEW_PRIOR_LOST, misfit, probability
from trackweave.mot.track_history import Segment, TrackHistory


def remembered(*walkers: Walker, pan: float = 0.0, length: int = 64, keep: int = 60) -> TrackHistory:
    history = TrackHistory(length, keep)
    for state in play(*walkers, pan=pan):
        history.add(state, np.flatnonzero(state.assigned_track_ids >= 0))
    return history


def segment_of(history: TrackHistory, track: int, begin: int, end: int) -> Segment:
    segment = history.segment(track, begin, end)
    assert segment is not None
    return segment


@given(st.floats(0, 600), st.floats(0, 400), st.floats(-8, 8), st.floats(-8, 8), st.floats(-12, 12), st.integers(0, 30))
def test_a_straight_walk_is_fitted_exactly_whatever_the_camera_does(
    x: float, y: float, vx: float, vy: float, pan: float, begin: int
) -> None:
    # A displacement of 0 means that no track overlaps: such a box says nothing of the camera.
    assume(max(abs(vx), abs(vy)) > 1e-3 or pan == 0)
    segment = segment_of(remembered(Walker("1" * 20, straight(x, y, vx, vy)), pan=pan), 1, begin, 40)
    assert (segment.first, segment.last, segment.boxes) == (begin, 39, 40 - begin)
    assert segment.at(50) == pytest.approx((x + 50 * vx, y + 50 * vy), abs=0.1)
    assert (segment.vx, segment.vy) == pytest.approx((vx, vy), abs=0.01)
    assert segment.size == pytest.approx(np.sqrt(40 * 100), rel=1e-4)


def test_only_the_newest_boxes_are_kept() -> None:
    history = remembered(Walker("1" * 30, straight(100, 100, 1)), length=8)
    assert segment_of(history, 1, 0, 60)[:2] == (52, 59)
    assert history.segment(1, 0, 52) is None


def test_recent_boxes_before_a_frame() -> None:
    history = remembered(Walker("11111.....11111", straight(100, 100, 1)))
    segment = history.recent(1, 20, 4, 30)
    assert segment is not None
    assert segment[:2] == (6, 9)
    assert history.recent(1, 20, 4, 10) is None
    assert history.recent(2, 20, 4, 30) is None


def test_near_is_ordered_and_bounded() -> None:
    history = remembered(
        Walker("111", straight(100, 100)), Walker("222", straight(130, 100)), Walker("3", straight(9, 9))
    )
    assert [track for _, track in history.near(120, 100, 6, 10, 50)] == [2, 1]
    assert [track for _, track in history.near(120, 100, 6, 10, 15)] == [2]
    assert history.near(120, 100, 6, 0, 50) == []


def test_tracks_are_forgotten_and_their_places_used_again() -> None:
    history = remembered(Walker("1" * 20 + "." * 20 + "2" * 10, straight(100, 100), embedding=(1, 0)), keep=30)
    assert history.forget(99) == [1]
    assert (1 in history, 2 in history) == (False, True)
    history.reset()
    assert len(history) == 0
    assert history.segment(2, 0, 100) is None


def test_many_tracks_grow_the_table_without_mixing_rows() -> None:
    random_detections = [Walker(str(k), straight(60.0 * k, 50 + k)) for k in range(1, 10)]
    history = TrackHistory(8, 60)
    for offset in range(0, 90, 9):
        for state in play(*random_detections):
            history.add(replace(state, assigned_track_ids=state.assigned_track_ids + offset), np.arange(9))
    assert len(history) == 90
    assert [segment_of(history, k, 0, 2).y for k in (1, 9, 10, 90)] == pytest.approx([51, 59, 51, 59])


def test_overlap_is_iou() -> None:
    history = remembered(
        Walker("11", straight(100, 100)), Walker("22", straight(120, 100)), Walker("33", straight(300, 9))
    )
    one, other, far = (segment_of(history, track, 0, 4) for track in (1, 2, 3))
    assert one.overlap(one) == pytest.approx(1)
    assert one.overlap(other) == pytest.approx(20 / 60)
    assert one.overlap(far) == 0


class TestMisfit:
    def pieces(self, *walkers: Walker) -> tuple[Segment, Segment]:
        history = remembered(*walkers)
        return segment_of(history, 1, 0, 20), segment_of(history, 2, 20, 40)

    def test_a_straight_track_fits_itself(self) -> None:
        walk = straight(100, 200, 3)
        fit = misfit(*self.pieces(Walker("1" * 10 + "2" * 10, walk)), 30.0)
        assert fit[:4] == pytest.approx((0, 0, 0, 0), abs=1e-3)
        assert fit.appearance == NEUTRAL_APPEARANCE

    @pytest.mark.parametrize(
        ("other", "worse"),
        [
            (Walker("." * 10 + "2" * 10, straight(130, 200, 3)), {"position"}),
            (Walker("." * 10 + "2" * 10, straight(217, 200, -3)), {"velocity"}),
            (Walker("." * 10 + "2" * 10, straight(100, 200, 3), 40, 130), {"height"}),
            (Walker("." * 10 + "2" * 10, straight(100, 200, 3), 60, 100), {"width"}),
        ],
    )
    def test_each_difference_shows_in_its_place(self, other: Walker, worse: set[str]) -> None:
        fit = misfit(*self.pieces(Walker("1" * 10, straight(100, 200, 3)), other), 30.0)
        assert {name for name, value in fit._asdict().items() if value > 0.2} == worse

    def test_appearance(self) -> None:
        first = Walker("1" * 10, straight(100, 200), embedding=(1, 0))
        same = Walker("." * 10 + "2" * 10, straight(100, 200), embedding=(2, 0))
        other = Walker("." * 10 + "2" * 10, straight(100, 200), embedding=(0, 1))
        unknown = Walker("." * 10 + "2" * 10, straight(100, 200), embedding=(0, 0))
        distances = [misfit(*self.pieces(first, second), 30.0).appearance for second in (same, other, unknown)]
        assert distances == pytest.approx([0, 0.5, NEUTRAL_APPEARANCE])


def test_probability_follows_its_weights() -> None:
    good = dict.fromkeys(NEW_PRIOR_LOST, 0.0) | {"score": 1.0, "log_boxes_before": 2.0}
    assert probability(NEW_PRIOR_LOST, good) > probability(NEW_PRIOR_LOST, good | {"position_squared": 0.5})
    assert probability(NEW_PRIOR_LOST, good) > probability(NEW_PRIOR_LOST, good | {"height": 0.5})
    met = dict.fromkeys(EXCHANGE, 0.0)
    assert probability(EXCHANGE, met) < probability(EXCHANGE, met | {"gain_velocity": 1.0})
    assert probability({"bias": 1e9}, {}) == pytest.approx(1)
