"""The parts below the session, each against a plain computation or a property."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.predictors.flow.appearance import Appearance
from trackweave.predictors.flow.frame_features import NEIGHBOUR_OFFSETS, colour_planes, compute_features
from trackweave.predictors.flow.motion import camera_homography, carry, motion_between, signed_distance, warp
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.flow.smoothing import smooth
from trackweave.predictors.flow.windows import PixelWindow, WorkingSize

BLACK = np.zeros((96, 128, 7), np.uint8)
"""Colour planes of frames without colours."""


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(32, 64), st.data())
def test_an_object_survives_the_way_to_working_size(height: int, width: int, side: int, data: st.DataObject) -> None:
    working = WorkingSize.of((height, width), side)
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    mask = np.zeros((height, width), np.bool_)
    mask[y, x] = True
    small = working.shrink_mask(mask)
    assert small.any()
    assert small.shape == working.size


@settings(max_examples=25, deadline=None)
@given(st.integers(40, 130), st.integers(40, 130), st.integers(0, 20), st.integers(0, 20))
def test_an_enlarged_crop_lies_inside_the_frame(height: int, width: int, top: int, left: int) -> None:
    working = WorkingSize.of((height, width), 40)
    rows, columns = min(12, working.size[0] - top), min(9, working.size[1] - left)
    if rows < 1 or columns < 1:
        return
    crop, (y, x) = working.enlarge(np.ones((rows, columns), np.float32), top, left)
    assert crop.all()
    assert min(y, x) >= 0
    assert y + crop.shape[0] <= height
    assert x + crop.shape[1] <= width


def test_enlarging_undoes_shrinking() -> None:
    working = WorkingSize.of((300, 400), 100)
    ys, xs = np.mgrid[:300, :400]
    mask = (ys - 150) ** 2 + (xs - 210) ** 2 < 80**2
    logits = np.where(working.shrink_mask(mask), 8, -8).astype(np.float32)
    crop, (y, x) = working.enlarge(logits[20:90, 20:95], 20, 20)
    enlarged = np.zeros_like(mask)
    enlarged[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    assert np.count_nonzero(enlarged & mask) / np.count_nonzero(enlarged | mask) > 0.95


def test_camera_motion_is_separated_from_object_motion() -> None:
    flow = np.full((96, 128, 2), (3.0, -2.0), np.float32)
    flow[40:60, 50:80] = (-6, 4)
    back = -flow
    motion = motion_between(flow, back, camera_homography(flow), camera_homography(back), (BLACK, BLACK))
    assert np.abs(motion.residual[5, 5]).max() < 0.1
    assert np.allclose(motion.residual[50, 65], (9, -6), atol=0.1)
    assert np.allclose(motion.camera_forward[50, 65], (3, -2), atol=0.1)
    assert motion.agreement[20, 20] > 0.99
    assert motion.agreement[52, 76] < 0.01  # it fetches from the ground, which moves differently
    assert motion.residual_bin[5, 5] != motion.residual_bin[50, 65]


def test_a_mask_is_warped_along_the_flow() -> None:
    mask = np.zeros((60, 80), np.bool_)
    mask[20:35, 30:50] = True
    flow = np.full((60, 80, 2), (7.0, 4.0), np.float32)
    motion = motion_between(flow, -flow, np.eye(3), np.eye(3), (BLACK, BLACK))
    origin = PixelWindow(15, 40, 25, 55)
    warped = warp(mask[origin.slices].astype(np.float32), origin, motion, PixelWindow(0, 60, 0, 80))
    assert np.array_equal(warped, np.roll(mask, (4, 7), (0, 1)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 10), st.integers(0, 10))
def test_smoothing_agrees_with_the_plain_sum(seed: int, top: int, left: int) -> None:
    rng = np.random.default_rng(seed)
    features = compute_features(colour_planes(noise(40, 44, seed)), 14.0)
    window = PixelWindow(top, top + 20, left, left + 24)
    logits = rng.normal(0, 3, window.shape).astype(np.float32)
    out = smooth(logits, features, window, 0.8, 1)
    weights = 1 / np.hypot(NEIGHBOUR_OFFSETS[:, 0], NEIGHBOUR_OFFSETS[:, 1])
    weights *= 0.8 * 4 / weights.sum()
    label = np.tanh(logits / 2)
    for y, x in rng.integers(0, (20, 24), (10, 2)):
        if abs(logits[y, x]) > 6:
            continue
        expected = float(logits[y, x])
        for k, (dy, dx) in enumerate(NEIGHBOUR_OFFSETS):
            if y + dy < 20 and 0 <= x + dx < 24:
                expected += weights[k] * features.affinity[k, top + y, left + x] * label[y + dy, x + dx]
            if y >= dy and 0 <= x - dx < 24:
                expected += weights[k] * features.affinity[k, top + y - dy, left + x - dx] * label[y - dy, x - dx]
        assert abs(out[y, x] - expected) < 0.15


def test_smoothing_fills_a_hole_of_one_colour_and_respects_an_edge() -> None:
    image = np.full((40, 40, 3), 60, np.uint8)
    image[:, 20:] = 200
    features = compute_features(colour_planes(image), 14.0)
    logits = np.full((40, 40), -2, np.float32)
    logits[:, 20:] = 2
    logits[15:17, 30:32] = -0.5
    out = smooth(logits, features, PixelWindow(0, 40, 0, 40), 0.8, 3)
    assert (out[:, 21:] > 0).all()
    assert (out[:, :19] < 0).all()


def test_appearance_separates_object_and_background_whatever_their_sizes() -> None:
    image = noise(80, 100) // 4 + 40
    image[30:36, 40:46] = (200, 40, 40)
    features = compute_features(colour_planes(image), 14.0)
    mask = np.zeros((80, 100), np.bool_)
    mask[30:36, 40:46] = True
    appearance = Appearance(FlowSettings())
    appearance.learn_prompt(features, mask)
    whole = PixelWindow(0, 80, 0, 100)
    log_odds = appearance.log_odds(features, whole, PixelWindow.around(mask))
    assert log_odds[32, 43] > 1
    assert np.mean(log_odds[:20] < 0) > 0.9


def test_what_appeared_has_no_source() -> None:
    flow = np.full((60, 80, 2), (7.0, 4.0), np.float32)
    before, after = np.zeros((60, 80, 7), np.uint8), np.zeros((60, 80, 7), np.uint8)
    after[30:40, 30:40, 0] = 200
    motion = motion_between(flow, -flow, np.eye(3), np.eye(3), (before, after))
    assert motion.source[20, 20] == 16 * 80 + 13
    assert motion.source[2, 20] == motion.source[20, 5] == -1  # from beyond the frame
    assert (motion.source[30:40, 30:40] == -1).all()  # another colour
    ages = carry(np.full((60, 80), 9, np.uint8), motion)
    assert (ages[motion.source >= 0] == 9).all()
    assert (ages[motion.source < 0] == 0).all()


def test_signed_distance() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[5:15, 5:15] = True
    distance = signed_distance(mask)
    assert distance[10, 10] > 4
    assert distance[0, 10] < -4
    assert np.array_equal(distance > 0, mask)


def test_planes_and_codes_are_a_function_of_the_frame() -> None:
    image = np.asarray(cv2.resize(noise(8, 8), (64, 48)), np.uint8)
    one, other = compute_features(colour_planes(image), 14.0), compute_features(colour_planes(image.copy()), 14.0)
    assert np.array_equal(one.codes, other.codes)
    assert np.array_equal(one.affinity, other.affinity)
    assert one.affinity.min() >= 0
    assert one.affinity.max() <= 1
