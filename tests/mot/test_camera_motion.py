from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.errors import InputError, SettingError
from trackweave.mot.camera_motion import Affine, CameraMotionEstimator, GivenCameraMotion, Unreliable, compose, identity

HEIGHT, WIDTH = 540, 960
MOT17 = Path(__file__).parents[3] / "shared" / "data" / "mot" / "MOT17"


def similarity(angle: float = 0.0, zoom: float = 1.0, x: float = 0.0, y: float = 0.0) -> Affine:
    """Turn and zoom about the frame's middle, then a shift."""
    middle = np.array([WIDTH / 2, HEIGHT / 2])
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, middle - linear @ middle + [x, y]])


def texture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Blobs of several sizes: corners everywhere, and smooth enough to be followed."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width), np.float32)
    for cell in (64, 24, 10):
        small = rng.standard_normal((height // cell + 2, width // cell + 2)).astype(np.float32)
        total += np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    grey = np.clip(128 + 45 * total, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def moved(image: NDArray[np.uint8], matrix: Affine) -> NDArray[np.uint8]:
    """The picture that a camera sees after the motion; `matrix` counts from the edge of the first pixel."""
    half = np.array([0.5, 0.5])
    by_middle = np.column_stack([matrix[:, :2], matrix[:, 2] + matrix[:, :2] @ half - half])
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, by_middle, size, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def corner_error(motion_found: Affine, wanted: Affine, height: int = HEIGHT, width: int = WIDTH) -> float:
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
    return float(np.linalg.norm(corners @ (motion_found - wanted).T, axis=1).max())


MOTIONS = [
    identity(),
    similarity(x=7.5, y=-3.25),
    similarity(x=-40, y=12),
    similarity(angle=0.02, zoom=1.01, x=3),
    similarity(angle=-0.03, zoom=0.97, x=-8, y=6),
]


@pytest.mark.parametrize("downscale", [None, 1, 2])
@pytest.mark.parametrize("motion", MOTIONS)
def test_a_synthetic_motion_is_estimated(motion: Affine, downscale: float | None) -> None:
    still = texture(0)
    estimator = CameraMotionEstimator(downscale)
    estimator.estimate(still)
    motion_found = estimator.estimate(moved(still, motion))
    assert estimator.reliable
    assert estimator.reason is None
    assert motion_found.shape == (2, 3)
    assert corner_error(motion_found, motion) < 0.5


def with_actors(image: NDArray[np.uint8], boxes: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Textured boxes over the picture."""
    out = image.copy()
    for k, (left, top, right, bottom) in enumerate(boxes.astype(int).tolist()):
        out[top:bottom, left:right] = texture(50 + k, bottom - top, right - left)
    return out


def test_things_that_move_by_themselves_are_left_out() -> None:
    """Boxes over a third of the frame all walk to the right; the camera goes left and down."""
    boxes = np.array([[60 + 180 * k, 40, 160 + 180 * k, 400] for k in range(5)], np.float64)
    assert 0.3 < np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).sum() / (HEIGHT * WIDTH) < 0.4
    motion, background = similarity(x=-6, y=4), texture(1)
    estimator = CameraMotionEstimator()
    estimator.estimate(with_actors(background, boxes), boxes)
    later = boxes + np.array([12, 0, 12, 0])
    motion_found = estimator.estimate(with_actors(moved(background, motion), later), later)
    assert estimator.reliable
    assert corner_error(motion_found, motion) < 0.5


def test_boxes_over_nearly_all_leave_their_motion_out_too() -> None:
    """Here the actors' corners are the majority: without their boxes the wrong motion would win."""
    boxes = np.array([[10, 10, WIDTH - 10, HEIGHT - 120]], np.float64)
    background = texture(2)
    later = boxes + np.array([9, 0, 9, 0])
    frames = with_actors(background, boxes), with_actors(background, later)
    informed, uninformed = CameraMotionEstimator(), CameraMotionEstimator()
    informed.estimate(frames[0], boxes)
    uninformed.estimate(frames[0])
    assert corner_error(informed.estimate(frames[1], later), identity()) < 0.5
    assert corner_error(uninformed.estimate(frames[1]), identity()) > 5
    late = CameraMotionEstimator()
    late.estimate(frames[0])
    motion_found = late.estimate(frames[1], later)  # the boxes came too late to choose corners, not to judge them
    assert corner_error(motion_found, identity()) < 0.5


def reason_of(*frames: NDArray[np.uint8], boxes: NDArray[Any] | None = None) -> Unreliable | None:
    estimator = CameraMotionEstimator()
    for frame in frames:
        motion_found = estimator.estimate(frame, boxes)
    assert estimator.reliable == (estimator.reason is None)
    if estimator.reason is not None:
        np.testing.assert_array_equal(motion_found, identity())
        assert estimator.failures[estimator.reason] == 1
    return estimator.reason


def test_reasons_for_the_identity() -> None:
    one, other = texture(3), texture(4)
    plain = np.full_like(one, 90)
    assert reason_of(one) == Unreliable.FIRST_FRAME
    assert reason_of(one, one) is None
    assert reason_of(one, other) == Unreliable.NO_COMMON_MOTION
    assert reason_of(one, one[:-2]) == Unreliable.SIZE_CHANGED
    assert reason_of(plain, one) == Unreliable.FEW_FEATURES
    assert reason_of(one, one, boxes=np.array([[0, 0, WIDTH, HEIGHT]])) == Unreliable.FEW_FEATURES
    assert reason_of(one, np.full_like(one, 90)) == Unreliable.NO_COMMON_MOTION


def test_after_a_cut_the_new_scene_is_followed() -> None:
    one, other, motion = texture(3), texture(4), similarity(x=5)
    estimator = CameraMotionEstimator()
    for frame in (one, other):
        estimator.estimate(frame)
    assert corner_error(estimator.estimate(moved(other, motion)), motion) < 0.5
    assert estimator.failures == {Unreliable.FIRST_FRAME: 1, Unreliable.NO_COMMON_MOTION: 1}
    estimator.reset()
    assert estimator.failures == {}
    estimator.estimate(one)
    assert estimator.reason == Unreliable.FIRST_FRAME


def test_strange_boxes_do_no_harm() -> None:
    boxes = np.array([[np.nan, 0, 5, 5], [-50, -50, -10, -10], [900, 500, 5000, 5000], [30, 30, 20, 20]])
    motion, still = similarity(x=4), texture(5)
    estimator = CameraMotionEstimator()
    estimator.estimate(still, boxes)
    assert corner_error(estimator.estimate(moved(still, motion), boxes), motion) < 0.5
    estimator.estimate(still, np.zeros((0, 4)))
    assert estimator.reliable


@pytest.mark.parametrize("frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_frames_that_are_no_images(frame: NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"a frame is \(H, W, 3\) uint8"):
        CameraMotionEstimator().estimate(frame)


@pytest.mark.parametrize("downscale", [0.5, 0, float("nan")])
def test_a_factor_that_enlarges(downscale: float) -> None:
    with pytest.raises(SettingError, match="downscale"):
        CameraMotionEstimator(downscale)


def test_given_motion() -> None:
    matrices = np.stack([identity(), similarity(x=3)])
    given_motion = GivenCameraMotion(matrices)
    assert len(given_motion) == 2
    np.testing.assert_array_equal(given_motion.at(1), matrices[1])
    assert given_motion.missing == 0
    np.testing.assert_array_equal(given_motion.at(2), identity())
    np.testing.assert_array_equal(given_motion.at(-1), identity())
    assert given_motion.missing == 2
    given_motion.at(1)[:] = 0
    np.testing.assert_array_equal(given_motion.at(1), matrices[1])


def test_given_motion_between_frames_that_are_apart() -> None:
    shifts = np.tile(identity(), (6, 1, 1))
    shifts[:, 0, 2] = [0, 1, 2, 4, 8, 16]
    motion = GivenCameraMotion(shifts)
    assert [motion.between(first, last)[0, 2] for first, last in ((0, 1), (1, 2), (2, 5), (3, 3))] == [1, 2, 28, 0]


def test_given_motion_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"\(frames, 2, 3\)"):
        GivenCameraMotion(np.zeros((5, 6)))
    broken = np.tile(identity(), (4, 1, 1))
    broken[2, 0, 1] = np.nan
    with pytest.raises(InputError, match="frame 2"):
        GivenCameraMotion(broken)


SIMILARITIES = st.builds(similarity, st.floats(-3, 3), st.floats(0.25, 4), st.floats(-500, 500), st.floats(-500, 500))
BOXES = st.lists(st.tuples(*[st.floats(-200, 2000)] * 2, *[st.floats(0.5, 800)] * 2), min_size=1, max_size=5).map(
    lambda rows: np.array([[x, y, x + w, y + h] for x, y, w, h in rows])
)
AFFINES = st.lists(st.floats(-3, 3), min_size=6, max_size=6).map(lambda v: np.array(v).reshape(2, 3))


@given(SIMILARITIES)
def test_there_and_back(motion: Affine) -> None:
    back = np.asarray(cv2.invertAffineTransform(motion), np.float64)
    np.testing.assert_allclose(compose(motion, back), identity(), atol=1e-8)


@given(AFFINES, AFFINES, AFFINES, st.tuples(st.floats(-100, 100), st.floats(-100, 100)))
def test_composition(a: Affine, b: Affine, c: Affine, point: tuple[float, float]) -> None:
    def at(matrix: Affine, p: NDArray[np.float64]) -> NDArray[np.float64]:
        moved_point: NDArray[np.float64] = matrix[:, :2] @ p + matrix[:, 2]
        return moved_point

    p = np.array(point)
    np.testing.assert_allclose(at(compose(a, b), p), at(b, at(a, p)), atol=1e-9)
    np.testing.assert_allclose(compose(compose(a, b), c), compose(a, compose(b, c)), atol=1e-9)
    np.testing.assert_array_equal(compose(a, identity()), a)
    np.testing.assert_array_equal(compose(identity(), a), a)


@pytest.mark.skipif(not MOT17.is_dir(), reason="the MOT17 sequences are not beside the project")
@pytest.mark.parametrize("sequence", ["MOT17-02-FRCNN", "MOT17-11-FRCNN", "MOT17-13-FRCNN"])
def test_motion_of_real_cameras(sequence: str) -> None:
    """Against the published `gmc.txt`; a street has depth, so two fits agree in the middle, less in the corners."""
    published = np.loadtxt(MOT17 / sequence / "gmc.txt")[:, 1:7].reshape(-1, 2, 3)
    detected = np.loadtxt(MOT17 / sequence / "det" / "det.txt", delimiter=",")
    estimator = CameraMotionEstimator()
    for k, path in enumerate(sorted((MOT17 / sequence / "img1").glob("*.jpg"))):
        stored = cv2.imread(str(path))
        assert stored is not None
        image = np.asarray(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), np.uint8)
        height, width = image.shape[:2]
        boxes = detected[detected[:, 0] == k + 1, 2:6]
        motion_found = estimator.estimate(image, np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1))
        if k:
            assert estimator.reliable
            middle = np.array([width / 2, height / 2, 1])
            assert np.linalg.norm((motion_found - published[k]) @ middle) < 2
            assert corner_error(motion_found, published[k], height, width) < 8


def test_far_frames_beyond_the_given_ones_cost_nothing() -> None:
    given = GivenCameraMotion(np.array([[[1.0, 0, 5], [0, 1, 0]]] * 4))
    assert given.between(1, 2**31).tolist() == [[1, 0, 10], [0, 1, 0]]
    assert given.missing == 2**31 - 3
    assert given.between(2**31, 2**32).tolist() == [[1, 0, 0], [0, 1, 0]]
