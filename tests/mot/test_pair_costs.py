from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.boxes import box_iou
from trackweave.mot.assignment import HIGH_ROUND, LOW_ROUND, TENTATIVE_ROUND
from trackweave.mot.matching import pair_costs, turning
from trackweave.mot.settings import TrackerSettings
from trackweave.mot.state import (
    AXES,
    BOXES,
    CLASS,
    COLUMNS,
    CONFIRMED,
    DET_CLASS,
    DET_COLUMNS,
    DET_SCORE,
    GAP,
    POSITION,
    SEEN,
    SINCE,
    VAR_POSITION,
    kernel_parameters,
)

NOTHING: dict[str, Any] = {
    "height_power": 0.0,
    "distance_share": 0.0,
    "buffer": 0.0,
    "buffer_growth": 0.0,
    "score_weight": 0.0,
    "direction_weight": 0.0,
    "min_similarity": 0.0,
    "min_similarity_low": 0.0,
    "min_similarity_tentative": 0.0,
}
"""Settings under which the similarity is the plain IoU and nothing but missing overlap forbids a pair."""

Array = NDArray[Any]
sides = st.floats(1, 100)
boxes = st.tuples(st.floats(0, 100), st.floats(0, 100), sides, sides)


def costs_of(*arguments: Any, **options: Any) -> tuple[Array, Array]:
    """Costs and permissions of boxes `(centre x, centre y, width, height)`."""
    cost, allowed, _ = compared(*arguments, **options)
    return cost, allowed


def compared(
    boxes: Any,
    det_boxes: Any,
    *,
    scores: Any = None,
    det_classes: Any = None,
    track_class: int = -1,
    confirmed: bool = True,
    gap: int = 0,
    since: float = 1.0,
    variance: float = 0.0,
    heights: Any = None,
    before: Any = None,
    **settings: Any,
) -> tuple[Array, Array, Array]:
    """Costs, permissions and listed pairs; `before` is a track's last box but one."""
    boxes, det_boxes = np.array(boxes, np.float64).reshape(-1, 4), np.array(det_boxes, np.float64).reshape(-1, 4)
    n, D = len(boxes), len(det_boxes)
    tracks, detections = np.zeros((n, COLUMNS)), np.zeros((D, DET_COLUMNS))
    tracks[:, POSITION : POSITION + AXES], tracks[:, VAR_POSITION : VAR_POSITION + AXES] = boxes, variance
    tracks[:, BOXES : BOXES + AXES] = boxes
    if heights is not None:
        tracks[:, BOXES + 3] = heights
    tracks[:, CONFIRMED], tracks[:, GAP], tracks[:, CLASS], tracks[:, SEEN] = confirmed, gap, track_class, 1
    if before is not None:
        tracks[:, BOXES + AXES : BOXES + 2 * AXES], tracks[:, SEEN] = before, 2
    tracks[:, SINCE] = since
    detections[:, :AXES] = det_boxes
    detections[:, DET_SCORE] = 0.9 if scores is None else scores
    detections[:, DET_CLASS] = -1 if det_classes is None else det_classes
    cost, allowed = np.full((n, D), np.nan, np.float32), np.zeros((n, D), np.bool_)
    pairs = np.full((3, n * D), -1, np.int32)
    p = kernel_parameters(TrackerSettings(**settings))[0]
    found = pair_costs(tracks, detections, p, cost, allowed, pairs)
    np.testing.assert_array_equal(pairs[:2, :found], np.array(allowed.nonzero()))
    return cost, allowed, pairs[:, :found]


def xyxy(box: Any) -> Array:
    centre = np.array(box, np.float64).reshape(-1, 4)
    return np.concatenate([centre[:, :2] - centre[:, 2:] / 2, centre[:, :2] + centre[:, 2:] / 2], axis=1)


@given(st.lists(boxes, max_size=4), st.lists(boxes, min_size=1, max_size=4))
def test_with_everything_off_it_is_the_overlap(tracks: list[Any], detections: list[Any]) -> None:
    cost, allowed = costs_of(tracks, detections, **NOTHING)
    iou = box_iou(xyxy(tracks), xyxy(detections))
    np.testing.assert_allclose(cost, 1 - iou, atol=1e-6)
    clear = (iou == 0) | (iou > 1e-9)
    np.testing.assert_array_equal(allowed[clear], (iou > 0)[clear])


@given(boxes, boxes, st.floats(0, 3), st.floats(0, 1))
def test_track_and_detection_may_change_places(one: Any, other: Any, power: float, widen: float) -> None:
    settings = {**NOTHING, "height_power": power, "buffer": widen}
    there, back = costs_of(one, other, **settings), costs_of(other, one, **settings)
    np.testing.assert_allclose(there[0], back[0], atol=1e-6)
    assert there[1] == back[1] or there[0][0, 0] > 0.999


@given(
    st.lists(boxes, min_size=1, max_size=4),
    st.lists(st.tuples(boxes, st.floats(0.1, 1)), min_size=1, max_size=4),
    st.fixed_dictionaries(
        {
            "buffer": st.floats(0, 1),
            "height_power": st.floats(0, 3),
            "distance_share": st.floats(0, 1),
            "min_similarity": st.floats(0, 0.9),
            "min_similarity_low": st.floats(0, 0.9),
            "min_similarity_tentative": st.floats(0, 0.9),
        }
    ),
    st.booleans(),
    st.booleans(),
)
def test_allowed_pairs_cost_at_most_one(
    tracks: list[Any], detections: list[Any], settings: dict[str, Any], confirmed: bool, tentative_first: bool
) -> None:
    cost, allowed = costs_of(
        tracks,
        [box for box, _ in detections],
        scores=[score for _, score in detections],
        confirmed=confirmed,
        tentative_first=tentative_first,
        **settings,
    )
    assert np.isfinite(cost).all()
    assert (cost >= 0).all()
    assert (cost[allowed] <= 1).all()


HERE = (50.0, 50, 20, 40)
NEAR = (55.0, 50, 20, 40)  # IoU 0.6


@pytest.mark.parametrize(
    ("score", "confirmed", "first", "gate"),
    [
        (0.9, True, True, "min_similarity"),
        (0.9, True, False, "min_similarity"),
        (0.9, False, True, "min_similarity"),
        (0.9, False, False, "min_similarity_tentative"),
        (0.3, True, False, "min_similarity_low"),
        (0.3, False, True, "min_similarity_low"),
    ],
)
def test_each_round_has_its_gate(score: float, confirmed: bool, first: bool, gate: str) -> None:
    def run(**gates: float) -> tuple[Array, Array]:
        return costs_of(HERE, NEAR, scores=[score], confirmed=confirmed, tentative_first=first, **{**NOTHING, **gates})

    for name in ("min_similarity", "min_similarity_low", "min_similarity_tentative"):
        cost, allowed = run(**{name: 0.61})
        assert allowed[0, 0] == (name != gate)
        assert cost[0, 0] == pytest.approx(0.4 / 0.39 if name == gate else 0.4)
        cost, allowed = run(**{name: 0.59})
        assert allowed[0, 0]
        assert cost[0, 0] == pytest.approx(0.4 / 0.41 if name == gate else 0.4)


def test_only_overlapping_boxes_are_allowed() -> None:
    beside = (70.0, 50, 20, 40)
    gate = {"overlap_gate": True, "distance_share": 0.9, "distance_scale": 5}
    cost, allowed = costs_of(HERE, beside, **{**NOTHING, **gate})
    assert not allowed[0, 0]
    assert cost[0, 0] == 1
    below = (50.0, 90, 20, 40)
    assert not costs_of(HERE, below, **NOTHING)[1][0, 0]
    assert costs_of(HERE, beside, **{**NOTHING, "buffer": 0.1})[1][0, 0]
    assert costs_of(HERE, below, **{**NOTHING, "buffer": 0.1})[1][0, 0]


@given(st.floats(0.1, 1), st.floats(0.5, 5), st.floats(0.05, 0.9), st.floats(-300, 300), st.floats(-300, 300))
def test_centres_alone_pass_the_gate_where_their_share_is_large_enough(
    share: float, scale: float, gate: float, dx: float, dy: float
) -> None:
    names = ("min_similarity", "min_similarity_low", "min_similarity_tentative")
    wanted: dict[str, Any] = {**NOTHING, **dict.fromkeys(names, gate), "distance_share": share, "distance_scale": scale}
    there = (50 + dx, 50 + dy, 20.0, 40.0)
    x, y, w, h = there
    iou = box_iou([[40, 30, 60, 70]], [[x - w / 2, y - h / 2, x + w / 2, y + h / 2]])[0, 0]
    similarity = (1 - share) * iou + share * math.exp(-0.5 * (dx**2 + dy**2) / (scale**2 * w * h))
    assume(abs(similarity - gate) > 1e-6)
    assert costs_of(HERE, there, **wanted)[1][0, 0] == (similarity > gate)


def test_boxes_are_widened_as_far_as_was_asked() -> None:
    far = (105.0, 50, 20, 40)
    assert not costs_of(HERE, far, **{**NOTHING, "buffer": 0.5})[1][0, 0]
    assert costs_of(HERE, far, **{**NOTHING, "buffer": 1.0})[1][0, 0]  # the limit is that of growth
    assert costs_of(HERE, far, since=15, **{**NOTHING, "buffer": 1.0, "buffer_growth": 0.1})[1][0, 0]


def test_boxes_grow_with_the_time_without_a_match_up_to_a_limit() -> None:
    far = (95.0, 50, 20, 40)
    growing = {**NOTHING, "buffer_growth": 0.1, "buffer_limit": 2.0}
    assert not costs_of(HERE, far, since=5, **growing)[1][0, 0]
    assert costs_of(HERE, far, since=15, **growing)[1][0, 0]
    assert not costs_of(HERE, far, since=15, **{**growing, "buffer_limit": 0.5})[1][0, 0]


@pytest.mark.parametrize(("mode", "other"), [("separate", False), ("votes", True), ("ignored", True)])
def test_classes_gate_only_when_separate(mode: str, other: bool) -> None:
    allowed = costs_of(HERE, [NEAR, NEAR], det_classes=[2, 3], track_class=2, classes=mode, **NOTHING)[1]
    assert allowed.tolist() == [[True, other]]


def test_distance_gate_counts_in_box_sizes() -> None:
    size = math.sqrt(20 * 40)
    for step, expected in ((0.19, True), (0.21, False)):
        moved = (50 + step * size, 50.0, 20, 40)
        assert costs_of(HERE, moved, **NOTHING, max_distance=0.2)[1][0, 0] == expected
        moved = (50.0, 50 + step * size, 20, 40)
        assert costs_of(HERE, moved, **NOTHING, max_distance=0.2)[1][0, 0] == expected


def test_mahalanobis_gate_counts_in_standard_deviations() -> None:
    noise = (0.05 * 40) ** 2
    deviation = math.sqrt(9 + noise)
    for step, expected in ((2.9, True), (3.1, False)):
        for moved in ((50 + step * deviation, 50.0, 20, 40), (50.0, 50 + step * deviation, 20, 40)):
            assert costs_of(HERE, moved, variance=9, **NOTHING, max_mahalanobis=9)[1][0, 0] == expected
    both = (50 + 2.5 * deviation, 50 + 2.5 * deviation, 20, 40)
    assert not costs_of(HERE, both, variance=9, **NOTHING, max_mahalanobis=9)[1][0, 0]


@pytest.mark.parametrize(
    ("settings", "track", "expected"),
    [
        ({}, {}, True),
        ({"low_scores": False}, {}, False),
        ({}, {"gap": 1}, False),
        ({"low_scores_reactivate": True}, {"gap": 1}, True),
        ({"low_scores": False, "low_scores_reactivate": True}, {"gap": 1}, False),
        ({"tentative_first": True}, {"confirmed": False}, True),
        ({"tentative_first": False}, {"confirmed": False}, False),
    ],
)
def test_low_scores_have_rules_of_their_own(settings: dict[str, Any], track: dict[str, Any], expected: bool) -> None:
    assert costs_of(HERE, NEAR, scores=[0.49], **track, **settings, **NOTHING)[1][0, 0] == expected
    assert costs_of(HERE, NEAR, scores=[0.5], **track, **settings, **NOTHING)[1][0, 0]


def test_heights_that_differ_lower_the_similarity() -> None:
    taller = (50.0, 50, 20, 80)
    assert costs_of(HERE, taller, **NOTHING)[0][0, 0] == pytest.approx(0.5)
    assert costs_of(HERE, taller, **{**NOTHING, "height_power": 2})[0][0, 0] == pytest.approx(1 - 0.5 / 4)
    # The height last seen, or the one that is predicted.
    settings_ = {**NOTHING, "height_power": 2}
    assert costs_of(HERE, taller, heights=80, **settings_)[0][0, 0] == pytest.approx(0.5)
    assert costs_of(HERE, taller, heights=80, observed_height=False, **settings_)[0][0, 0] == pytest.approx(1 - 0.5 / 4)


def test_a_share_of_the_centre_distance_is_mixed_in() -> None:
    size = math.sqrt(20 * 40)
    moved = (50.0, 50 + 0.5 * size, 20, 40)
    iou = box_iou(xyxy(HERE), xyxy(moved))[0, 0]
    mixed = {**NOTHING, "distance_share": 0.25, "distance_scale": 0.5}
    assert costs_of(HERE, moved, **mixed)[0][0, 0] == pytest.approx(1 - (0.75 * iou + 0.25 * math.exp(-0.5)))


def test_a_low_score_raises_the_cost_but_forbids_nothing() -> None:
    weighed = {**NOTHING, "score_weight": 1.0, "min_similarity": 0.5}
    cost, allowed = costs_of(HERE, [NEAR, NEAR], scores=[1.0, 0.5], **weighed)
    np.testing.assert_allclose(cost, [[0.4 / 0.5, 0.7 / 0.5]], rtol=1e-6)
    assert allowed.all()


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (2, -0.5), (4, -0.5), (9, -0.5)])
def test_straight_on_is_best(count: int, expected: float) -> None:
    track = np.zeros(COLUMNS)
    track[BOXES : BOXES + 4 * AXES] = np.array([[30.0, 0, 1, 1], [20, 0, 1, 1], [10, 0, 1, 1], [0, 0, 1, 1]]).ravel()
    track[SEEN] = count
    assert turning(track, 40.0, 0.0) == pytest.approx(expected)
    assert turning(track, 20.0, 0.0) == pytest.approx(-expected)
    assert turning(track, 30.0, 5.0) == pytest.approx(0)
    assert turning(track, 30.0, 0.0) == 0


def test_turning_back_costs() -> None:
    def ask(x: float) -> float:
        settings = {**NOTHING, "direction_weight": 0.2, "classes": "ignored"}
        there = (x, 50.0, 20, 40)
        return float(costs_of(HERE, there, scores=[0.8], since=0.0, before=(40, 50, 20, 40), **settings)[0][0, 0])

    assert ask(55) == pytest.approx(0.4 - 0.2 * 0.5 * 0.8)
    assert ask(45) == pytest.approx(0.4 + 0.2 * 0.5 * 0.8)


@pytest.mark.parametrize(
    ("score", "confirmed", "settings", "turn"),
    [
        (0.9, True, {}, HIGH_ROUND),
        (0.3, True, {}, LOW_ROUND),
        (0.9, False, {}, HIGH_ROUND),
        (0.9, False, {"tentative_first": False}, TENTATIVE_ROUND),
        (0.3, True, {"scorer_decides": True}, HIGH_ROUND),
        (0.9, False, {"scorer_decides": True, "tentative_first": False}, HIGH_ROUND),
    ],
)
def test_each_pair_has_its_round(score: float, confirmed: bool, settings: dict[str, Any], turn: int) -> None:
    pairs = compared(HERE, [NEAR], scores=[score], confirmed=confirmed, **{**NOTHING, **settings})[2]
    assert pairs.tolist() == [[0], [0], [turn]]
