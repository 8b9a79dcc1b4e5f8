from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.detectors.visibility import (
    MIN_VISIBILITY,
    TypicalFill,
    VisibilityEstimator,
    VisibilityMethod,
    nearer_pairs,
    visible_shares,
)
from trackweave.errors import SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.structures.detections import Detections

MOT17 = Path(__file__).parents[3] / "shared" / "data" / "mot" / "MOT17"
OCCLUSION, GRABCUT, MASK = VisibilityMethod.OCCLUSION, VisibilityMethod.GRABCUT, VisibilityMethod.MASK

GRID = st.lists(
    st.tuples(st.integers(-4, 14), st.integers(-4, 14), st.integers(1, 10), st.integers(1, 10)), min_size=1, max_size=9
).map(lambda rows: np.array([[x, y, x + w, y + h] for x, y, w, h in rows]))


def counted(boxes: NDArray[Any], size: tuple[int, int] | None, occluders: NDArray[np.bool_]) -> list[float]:
    """`visible_shares` of whole-numbered boxes, pixel by pixel and pair by pair."""
    shift, side = 8, 48
    frame = np.ones((side, side), np.bool_)
    if size is not None:
        frame[:] = False
        frame[shift : shift + size[0], shift : shift + size[1]] = True
    shares = []
    for i, (x1, y1, x2, y2) in enumerate((boxes + shift).tolist()):
        own = np.zeros((side, side), np.bool_)
        own[y1:y2, x1:x2] = True
        visible = own & frame
        for j, (u1, v1, u2, v2) in enumerate((boxes + shift).tolist()):
            nearer = v2 > y2 or (v2 == y2 and (u2 - u1) * (v2 - v1) > (x2 - x1) * (y2 - y1))
            if i != j and nearer and occluders[j]:
                visible[v1:v2, u1:u2] = False
        shares.append(visible.sum() / own.sum())
    return shares


@given(GRID, st.sampled_from([None, (10, 14)]), st.integers(0, 511))
def test_occlusion_is_the_exact_union(boxes: NDArray[Any], size: tuple[int, int] | None, hiding: int) -> None:
    occluders = np.array([bool(hiding >> k & 1) for k in range(len(boxes))])
    np.testing.assert_allclose(visible_shares(boxes, size, occluders), counted(boxes, size, occluders), atol=1e-12)


@given(GRID, st.floats(0.01, 300), st.permutations(range(9)))
def test_occlusion_does_not_depend_on_scale_or_order(boxes: NDArray[Any], scale: float, order: list[int]) -> None:
    shares = visible_shares(boxes)
    np.testing.assert_allclose(visible_shares(scale * boxes), shares, atol=1e-9)
    rows = [k for k in order if k < len(boxes)]
    np.testing.assert_allclose(visible_shares(boxes[rows]), shares[rows], atol=1e-12)


def test_which_box_is_nearer() -> None:
    """
    ::

        A A . .      B stands lower: it hides a quarter of A. C has B's bottom and is larger: it hides half of B.
        A B B .      D and its copy occlude nothing, least of all each other.
        . B B .
    """
    a, b, c, d = [0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 9, 3], [20, 0, 22, 5]
    assert visible_shares(np.array([a, b])).tolist() == [0.75, 1]
    assert visible_shares(np.array([a, b, c, d, d])).tolist() == [0.75, 0.5, 1, 1, 1]
    assert np.argwhere(nearer_pairs(np.array([a, b, c, d, d]))).tolist() == [[0, 1], [1, 2]]


def test_boxes_without_area() -> None:
    strange = np.array([[np.nan, 0, 5, 5], [0, 0, np.inf, 9], [5, 5, 2, 9], [3, 3, 3, 9], [0, 0, 4, 4]])
    assert visible_shares(strange, (20, 20)).tolist() == [1, 1, 1, 1, 1]
    assert visible_shares(np.zeros((0, 4))).shape == (0,)
    assert visible_shares(np.array([[-10.0, -10, -5, -5], [-2, 0, 2, 4]]), (20, 20)).tolist() == [0, 0.5]
    estimate = VisibilityEstimator().estimate(Detections.of(strange), np.zeros((20, 20, 3), np.uint8))
    assert estimate.visibility.tolist()[:4] == [1, 1, 1, 1]


def test_an_estimate_is_never_zero() -> None:
    hidden = Detections.of([[2, 2, 4, 4], [0, 0, 9, 9], [50, 50, 60, 60]])
    visibility, method = VisibilityEstimator("occlusion").estimate(hidden, size=(20, 20))
    assert visibility.tolist() == pytest.approx([MIN_VISIBILITY, 1, MIN_VISIBILITY])
    assert visibility.dtype == np.float32
    assert method.tolist() == [OCCLUSION] * 3
    empty = VisibilityEstimator().estimate(Detections.empty(), np.zeros((9, 9, 3), np.uint8))
    assert empty.visibility.shape == empty.method.shape == (0,)


def test_doubtful_detections_do_not_occlude_when_excluded() -> None:
    pair = Detections.of([[0, 0, 4, 8], [0, 4, 4, 12]], [0.9, 0.2])
    assert VisibilityEstimator("occlusion").estimate(pair).visibility.tolist() == [0.5, 1]
    strict = VisibilityEstimator("occlusion", min_occluder_score=0.5)
    assert strict.estimate(pair).visibility.tolist() == [1, 1]


def figure(box: list[int], rows: slice = slice(None), size: tuple[int, int] = (100, 200)) -> NDArray[np.bool_]:
    """The middle half of a box; only these of its rows."""
    mask = np.zeros(size, np.bool_)
    left, top, right, bottom = box
    quarter = (right - left) // 4
    part = np.zeros(bottom - top, np.bool_)
    part[rows] = True
    mask[top:bottom, left + quarter : right - quarter] = part[:, None]
    return mask


def test_masks_give_the_visible_share() -> None:
    """The left one is whole, the right one shows its upper half; what fills half a box is the first guess."""
    boxes = [[10, 10, 50, 90], [100, 10, 140, 90]]
    masks = PackedMasks.from_bool(np.stack([figure(boxes[0]), figure(boxes[1], slice(0, 40))]))
    estimator = VisibilityEstimator()
    visibility, method = estimator.estimate(Detections.of(boxes, masks=masks), size=(100, 200))
    assert visibility.tolist() == pytest.approx([1, 0.5], abs=0.03)
    assert method.tolist() == [MASK, MASK]
    assert estimator.counts == {MASK: 2, GRABCUT: 0, OCCLUSION: 0}
    half_size = PackedMasks.from_bool(masks.to_bool()[:, ::2, ::2])
    smaller = VisibilityEstimator().estimate(Detections.of(boxes, masks=half_size), size=(100, 200))
    assert smaller.visibility.tolist() == pytest.approx([1, 0.5], abs=0.03)


def test_pixels_that_a_nearer_mask_covers_do_not_count() -> None:
    """Both masks are whole figures, but the lower box is in front of a quarter of the upper one."""
    boxes = [[10, 10, 50, 70], [10, 55, 50, 95]]
    masks = PackedMasks.from_bool(np.stack([figure(box) for box in boxes]))
    visibility = VisibilityEstimator().estimate(Detections.of(boxes, masks=masks), size=(100, 200)).visibility
    assert visibility.tolist() == pytest.approx([0.75, 1], abs=0.03)
    alone = VisibilityEstimator().estimate(Detections.of(boxes, masks=masks)[[0]], size=(100, 200)).visibility
    assert alone.tolist() == pytest.approx([1], abs=0.03)


def test_the_fill_of_a_box_is_learned_per_class() -> None:
    """Cars fill their boxes, and people do not: half a car's mask means half of it hidden."""
    estimator = VisibilityEstimator()
    car, rest = [10, 10, 50, 90], [100, 10, 140, 90]
    full = np.zeros((100, 200), np.bool_)
    full[10:90, 10:50] = True
    detections = Detections.of(
        [car, rest], class_id=[2, 0], masks=PackedMasks.from_bool(np.stack([full, figure(rest)]))
    )
    for _ in range(300):
        estimator.estimate(detections)
    half = full.copy()
    half[50:] = False
    later = Detections.of([car, rest], class_id=[2, 0], masks=PackedMasks.from_bool(np.stack([half, figure(rest)])))
    assert estimator.estimate(later).visibility.tolist() == pytest.approx([0.5, 1], abs=0.06)
    estimator.reset()
    assert estimator.estimate(later).visibility.tolist() == pytest.approx([1, 1], abs=0.06)
    assert estimator.counts[MASK] == 2


@given(st.floats(0.35, 0.75), st.floats(0.14, 0.2))
def test_the_typical_fill_is_a_lower_quartile(middle: float, spread: float) -> None:
    fill, rng = TypicalFill(0.5), np.random.default_rng(0)
    for _ in range(60):
        shares = rng.uniform(middle - spread, middle + spread, 20)
        fill.learn(np.zeros(20, np.int64), shares, np.ones(20))
        fill.learn(np.zeros(20, np.int64), np.full(20, 0.11), np.full(20, 0.5))  # hidden ones teach nothing
    assert fill.of(np.array([0, 1])).tolist() == pytest.approx([middle - spread / 2, 0.5], abs=0.045)


def walker(*, wall: bool) -> NDArray[np.uint8]:
    """A dark figure in the box (60, 20, 100, 120) before a light background; the wall hides what is below row 70."""
    rng = np.random.default_rng(0)
    image = np.full((160, 200, 3), (190, 200, 210), np.float64)
    image[20:120, 68:92] = (60, 40, 50)
    if wall:
        image[70:, :] = (150, 120, 80)
    return np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)


WALKER = Detections.of([[60, 20, 100, 120]], class_id=[0])


def patient(**settings: Any) -> VisibilityEstimator:
    return VisibilityEstimator(time_budget_ms=float("inf"), **settings)


def test_grabcut_detects_occluders_that_are_no_detections() -> None:
    """The same box twice, once behind a wall; the estimator has estimated whole walkers before."""
    estimator = patient()
    for _ in range(200):
        estimator.estimate(WALKER, walker(wall=False))
    visibility, method = estimator.estimate(WALKER, walker(wall=False))
    assert method.tolist() == [GRABCUT]
    assert visibility[0] > 0.9
    visibility, method = estimator.estimate(WALKER, walker(wall=True))
    assert method.tolist() == [GRABCUT]
    assert visibility[0] == pytest.approx(0.5, abs=0.2)
    assert VisibilityEstimator("occlusion").estimate(WALKER, walker(wall=True)).visibility[0] == 1


def test_grabcut_is_deterministic() -> None:
    image = np.random.default_rng(3).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    first, second = (patient().estimate(WALKER, image).visibility for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_grabcut_never_exceeds_what_boxes_leave() -> None:
    both = Detections.of([[60, 20, 100, 120], [50, 60, 110, 150]])
    image = walker(wall=False)
    by_boxes = VisibilityEstimator("occlusion").estimate(both, image).visibility
    visibility = patient().estimate(both, image).visibility
    assert (visibility <= by_boxes).all()


def test_a_hidden_middle_falls_back_to_boxes() -> None:
    """GrabCut has nothing sure to start from: the occlusion estimate stays, and says so."""
    both = Detections.of([[60, 20, 100, 120], [40, 10, 120, 150]])
    visibility, method = patient().estimate(both, walker(wall=False))
    assert method[0] == OCCLUSION
    assert visibility[0] == pytest.approx(MIN_VISIBILITY)
    tiny = Detections.of([[60, 20, 62, 23]])
    assert patient().estimate(tiny, walker(wall=False)).method.tolist() == [OCCLUSION]


def test_masks_come_before_grabcut_and_grabcut_before_boxes() -> None:
    boxes = [[60, 20, 100, 120], [120, 20, 160, 120]]
    masks = np.stack([figure(boxes[0], size=(160, 200)), np.zeros((160, 200), np.bool_)])  # the second has none
    detections = Detections.of(boxes, masks=PackedMasks.from_bool(masks))
    assert patient().estimate(detections, walker(wall=False)).method.tolist() == [MASK, GRABCUT]
    assert patient().estimate(detections, size=(160, 200)).method.tolist() == [MASK, OCCLUSION]
    assert patient(mode="occlusion").estimate(detections, walker(wall=False)).method.tolist() == [OCCLUSION] * 2
    no_time = VisibilityEstimator(time_budget_ms=0).estimate(detections, walker(wall=False))
    assert no_time.method.tolist() == [MASK, OCCLUSION]


def test_the_budget_goes_to_the_least_certain_first() -> None:
    """A clock that ticks 2 ms at every look: a crop costs two looks, so 10 ms pay for two crops or three of them."""
    ticks = itertools.count()
    estimator = VisibilityEstimator(time_budget_ms=10, clock=lambda: 0.002 * next(ticks))
    # From left to right: free, a quarter hidden by a box, half hidden by a box; then the two boxes that hide.
    boxes = [
        [0, 20, 30, 100],
        [40, 20, 70, 100],
        [80, 20, 110, 100],
        [40, 80, 70, 140],
        [80, 60, 110, 140],
    ]
    image = np.random.default_rng(0).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    method = estimator.estimate(Detections.of(boxes), image).method
    assert method[2] == GRABCUT
    assert method[0] == OCCLUSION
    assert 1 <= np.count_nonzero(method == GRABCUT) <= 3
    assert estimator.counts[GRABCUT] + estimator.counts[OCCLUSION] == 5


@pytest.mark.parametrize("wrong", [{"mode": "sam"}, {"time_budget_ms": -1}, {"time_budget_ms": float("nan")}])
def test_invalid_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        VisibilityEstimator(**wrong)


@pytest.mark.skipif(not MOT17.is_dir(), reason="the MOT17 sequences are not beside the project")
def test_occlusion_is_what_the_benchmark_calls_visibility() -> None:
    """MOT17-09, every annotated box (also of things that only hide): the estimate agrees with the last column."""
    truth = np.loadtxt(MOT17 / "MOT17-09-FRCNN" / "gt" / "gt.txt", delimiter=",")
    estimator = VisibilityEstimator("occlusion")
    errors = []
    for frame in np.unique(truth[:, 0])[::5]:
        rows = truth[truth[:, 0] == frame]
        boxes = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1) - 1
        visibility = estimator.estimate(Detections.of(boxes), size=(1080, 1920)).visibility
        people = (rows[:, 7] == 1) & (rows[:, 6] == 1)
        errors.append(np.abs(visibility - rows[:, 8])[people])
    assert np.concatenate(errors).mean() < 0.03
