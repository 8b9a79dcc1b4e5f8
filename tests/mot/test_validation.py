from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.mot.matching import FAULTS, Fault, fault_error, validate_detections
from trackweave.mot.state import AXES, DET_CLASS, DET_COLUMNS, DET_ROW, DET_SCORE, DET_VISIBILITY
from trackweave.structures.detections import Detections

INF, NAN = float("inf"), float("nan")
GOOD = (10.0, 10, 30, 50)


class Valid(NamedTuple):
    """What takes part of some detections."""

    rows: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]
    status: NDArray[np.int64]
    faults: int


def validated(detections: Detections, threshold: float, size: tuple[float, float]) -> Valid:
    n, (height, width) = len(detections), map(float, size)
    rows, status = np.empty((n, DET_COLUMNS)), np.empty(n, np.int64)
    kept, faults, is_mixed = validate_detections(
        detections.xyxy, detections.score, detections.class_id, threshold, height, width, rows, status
    )
    rows = rows[:kept]
    assert is_mixed == (len(set(rows[:, DET_CLASS].tolist())) > 1)
    assert (rows[:, DET_VISIBILITY] == 1).all()
    indices, classes = (rows[:, column].astype(np.int64) for column in (DET_ROW, DET_CLASS))
    return Valid(indices, rows[:, :AXES], rows[:, DET_SCORE], classes, status, faults)


def statuses(
    boxes: list[tuple[float, ...]],
    scores: list[float] | None = None,
    classes: list[int] | None = None,
    *,
    threshold: float = 0.1,
    size: tuple[float, float] = (100, 200),
) -> list[Fault | str | None]:
    """Per box the fault, `low`, or None."""
    given_boxes = Detections.of(boxes, scores, classes)
    valid = validated(given_boxes, threshold, size)
    assert valid.faults == (valid.status > 0).sum()
    assert valid.rows.tolist() == np.flatnonzero(valid.status == 0).tolist()
    np.testing.assert_array_equal(valid.scores, given_boxes.score[valid.rows])
    np.testing.assert_array_equal(valid.classes, given_boxes.class_id[valid.rows])
    status = valid.status
    return ["low" if number < 0 else FAULTS[number] for number in status.tolist()]


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        (GOOD, None),
        *[((*GOOD[:k], bad, *GOOD[k + 1 :]), Fault.not_finite) for k in range(4) for bad in (NAN, INF, -INF)],
        ((30, 10, 10, 50), Fault.inverted),
        ((10, 50, 30, 10), Fault.inverted),
        ((10, 10, 10, 50), Fault.zero_size),
        ((10, 10, 30, 10), Fault.zero_size),
        ((-20, 10, 0, 50), Fault.outside),
        ((-20, 10, 0.5, 50), None),
        ((10, -20, 30, 0), Fault.outside),
        ((10, -20, 30, 0.5), None),
        ((200, 10, 230, 50), Fault.outside),
        ((199.5, 10, 230, 50), None),
        ((10, 100, 30, 150), Fault.outside),
        ((10, 99.5, 30, 150), None),
    ],
)
def test_each_fault_is_named(box: tuple[float, ...], fault: Fault | None) -> None:
    assert statuses([box]) == [fault]
    assert statuses([GOOD, box] if fault else [box])[-1] == fault


def test_boxes_may_lie_anywhere_when_the_size_is_not_known() -> None:
    assert statuses([(5000, 5000, 5010, 5010)], size=(INF, INF)) == [None]


@pytest.mark.parametrize(
    ("score", "status"), [(0.05, "low"), (0.1, None), (NAN, Fault.not_finite), (INF, Fault.not_finite)]
)
def test_scores(score: float, status: Fault | str | None) -> None:
    assert statuses([GOOD], [score]) == [status]


def test_the_first_of_equals_counts() -> None:
    assert statuses([GOOD, GOOD, GOOD], [0.3, 0.9, 0.5]) == [None, Fault.duplicate, Fault.duplicate]
    assert statuses([GOOD, GOOD], classes=[1, 2]) == [None, None]
    assert statuses([GOOD, GOOD], [0.05, 0.9]) == ["low", None]  # what is not looked at hides nothing
    for k in range(4):
        other = (*GOOD[:k], GOOD[k] + 1, *GOOD[k + 1 :])
        assert statuses([GOOD, other]) == [None, None]


@given(st.lists(st.tuples(*[st.integers(0, 40_000)] * 2, *[st.integers(1, 40_000)] * 2), max_size=6))
def test_boxes_come_as_centre_and_size(quarters: list[tuple[int, ...]]) -> None:
    corners = [(x / 4, y / 4, (x + w) / 4, (y + h) / 4) for x, y, w, h in quarters]
    detections = Detections.of(corners)
    valid = validated(detections, 0.1, (INF, INF))
    centred = valid.boxes
    back = np.concatenate([centred[:, :2] - centred[:, 2:] / 2, centred[:, :2] + centred[:, 2:] / 2], axis=1)
    np.testing.assert_array_equal(back.astype(np.float32), detections.xyxy[valid.rows])
    assert {FAULTS[k] for k in valid.status} <= {None, Fault.duplicate}
    assert len(valid.rows) == len(set(corners))


def test_the_error_names_the_first_fault() -> None:
    detections = Detections.of([GOOD, (30, 10, 10, 50), (0, 0, 0, 0)], [0.5, 0.25, 1])
    error = fault_error(7, detections, np.array([0, 2, 3]))
    assert isinstance(error, InputError)
    assert str(error) == (
        "frame 7, detection 1 (30, 10, 10, 50; score 0.25): its right or bottom lies before its left or top "
        "(on_bad_item='skip' leaves such detections out)"
    )
