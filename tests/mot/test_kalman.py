from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.mot.kalman import (
    MIN_SIDE,
    compensate_camera,
    correct,
    forget_velocity,
    initiate,
    noise_size,
    predict,
    predict_one,
    re_update,
)
from trackweave.mot.settings import TrackerSettings
from trackweave.mot.state import (
    COVARIANCE,
    GAP,
    POSITION,
    RECENT,
    SEEN,
    VAR_POSITION,
    VAR_VELOCITY,
    VELOCITY,
    Parameters,
    kernel_parameters,
)

DEFAULT = kernel_parameters(TrackerSettings())
Array = NDArray[np.float64]

boxes = st.tuples(st.floats(-500, 500), st.floats(-500, 500), st.floats(20, 300), st.floats(20, 300)).map(np.array)


class PlainFilter:
    """The textbook filter of all eight numbers, with full matrices."""

    def __init__(self, box: Array, p: Parameters) -> None:
        self.p = p
        size = self.sizes(box)
        self.mean = np.concatenate([box, np.zeros(4)])
        velocity = p.initial_velocity_noise * size * [1, 1, 0.5, 0.5]
        self.covariance = np.diag(np.concatenate([2 * p.measurement_noise * size, velocity]) ** 2)

    def sizes(self, box: Array) -> Array:
        share = self.p.width_noise_by_width
        across = box[2] ** share * box[3] ** (1 - share)
        return np.array([across, box[3], across, box[3]])

    def predict(self, dt: float) -> None:
        size = self.sizes(self.mean[:4])
        step = np.eye(8) + dt * np.eye(8, k=4)
        noise = np.concatenate([self.p.position_noise * size, self.p.velocity_noise * size]) ** 2 * dt
        self.mean = step @ self.mean
        self.covariance = step @ self.covariance @ step.T + np.diag(noise)

    def correct(self, box: Array) -> None:
        observation = np.eye(4, 8)
        noise = np.diag((self.p.measurement_noise * self.sizes(self.mean[:4])) ** 2)
        gain = self.covariance @ observation.T @ np.linalg.inv(observation @ self.covariance @ observation.T + noise)
        self.mean = self.mean + gain @ (box - observation @ self.mean)
        self.covariance = (np.eye(8) - gain @ observation) @ self.covariance

    def decoupled(self) -> Array:
        """As `(4, 5)`; asserts that nothing was lost by leaving the rest out."""
        kept = np.kron(np.ones((2, 2)), np.eye(4)) > 0
        np.testing.assert_allclose(self.covariance[~kept], 0, atol=1e-9)
        position, velocity = np.diag(self.covariance)[:4], np.diag(self.covariance)[4:]
        return np.stack([self.mean[:4], self.mean[4:], position, np.diag(self.covariance, 4), velocity], axis=1)


def begun(box: Array, p: Parameters = DEFAULT) -> Array:
    state = np.zeros((4, 5))
    initiate(state, np.asarray(box, np.float64), p)
    return state


@pytest.mark.parametrize("by_width", [0.0, 0.5, 1.0])
@given(boxes, st.lists(st.tuples(st.floats(0.1, 5), st.none() | boxes), min_size=1, max_size=8))
def test_four_small_filters_are_the_large_one(
    by_width: float, first: Array, steps: list[tuple[float, Array | None]]
) -> None:
    p = kernel_parameters(TrackerSettings(width_noise_by_width=by_width))
    state, plain = begun(first, p), PlainFilter(first, p)
    for dt, box in steps:
        predict_one(state, dt, p)
        plain.predict(dt)
        if plain.mean[2:4].min() <= 1:  # the kernel bounds sizes from below: another matter
            return
        if box is not None:
            correct(state, box, p)
            plain.correct(box)
        np.testing.assert_allclose(state, plain.decoupled(), rtol=1e-7, atol=1e-7)


def test_noise_follows_height_or_width() -> None:
    assert [noise_size(4.0, 9.0, axis, 0.0) for axis in range(4)] == [9, 9, 9, 9]
    assert [noise_size(4.0, 9.0, axis, 1.0) for axis in range(4)] == [4, 9, 4, 9]
    assert [noise_size(4.0, 9.0, axis, 0.5) for axis in range(4)] == [6, 9, 6, 9]


@given(boxes, boxes)
def test_one_long_step_predicts_what_two_short_ones_do(first: Array, second: Array) -> None:
    state = begun(first)
    predict_one(state, 1.0, DEFAULT)
    correct(state, second, DEFAULT)
    state[2:, VELOCITY] = 0  # noise follows the size: let it stay as it is
    long, short = state.copy(), state.copy()
    predict_one(long, 2.0, DEFAULT)
    predict_one(short, 1.0, DEFAULT)
    predict_one(short, 1.0, DEFAULT)
    np.testing.assert_allclose(long[:, [POSITION, VELOCITY]], short[:, [POSITION, VELOCITY]], atol=1e-9)
    np.testing.assert_allclose(long[:, VAR_VELOCITY], short[:, VAR_VELOCITY])
    # Noise enters at the end of a step, so only between two steps does velocity noise reach the position: once.
    size = np.array([noise_size(state[2, 0], state[3, 0], axis, DEFAULT.width_noise_by_width) for axis in range(4)])
    entered = (DEFAULT.velocity_noise * size) ** 2
    np.testing.assert_allclose(short[:, VAR_POSITION] - long[:, VAR_POSITION], entered, rtol=1e-6)
    np.testing.assert_allclose(short[:, COVARIANCE] - long[:, COVARIANCE], entered, rtol=1e-6)


def test_only_lost_tracks_slow_down() -> None:
    p = kernel_parameters(TrackerSettings(velocity_damping=0.5))
    motion = np.stack([begun(np.array([0, 0, 20, 40])), begun(np.array([0, 0, 20, 40]))])
    motion[:, 0, VELOCITY] = 8
    counts = np.zeros((2, 8), np.int64)
    counts[1, GAP] = 1
    predict(motion, counts, 2, 2.0, p)
    assert motion[:, 0, VELOCITY].tolist() == [8, 2]
    assert motion[:, 0, POSITION].tolist() == [16, 4]


def test_a_track_without_a_velocity_goes_on_as_it_came() -> None:
    first, second = np.array([100.0, 50, 12, 12]), np.array([148.0, 20, 12, 14])
    state = begun(first)
    correct(state, first + np.array([9.0, 9, 0, 0]), DEFAULT)
    forget_velocity(state, first, 2.0, DEFAULT)
    correct(state, second, DEFAULT)
    np.testing.assert_allclose(state[:2, POSITION], [148, 20], atol=1e-2)
    np.testing.assert_allclose(state[:2, VELOCITY], [24, -15], atol=1e-2)
    assert (state[:, VAR_POSITION] > 0).all()
    assert (state[:, VAR_VELOCITY] < 1).all()
    assert (state[:, VAR_POSITION] * state[:, VAR_VELOCITY] >= state[:, COVARIANCE] ** 2).all()
    predict_one(state, 1.0, DEFAULT)
    np.testing.assert_allclose(state[:2, POSITION], [172, 5], atol=1e-2)


@pytest.mark.parametrize(
    ("seen", "gap", "speed", "unsure"),
    [(1, 0, 0, True), (1, 1, 0, False), (2, 0, 9, False), (2, 0, 11, True), (9, 2, 11, True)],
)
def test_young_and_fast_tracks_are_unsure(seen: int, gap: int, speed: float, unsure: bool) -> None:
    motion, counts = begun(np.array([0.0, 0, 20, 20]))[None], np.zeros((1, 8), np.int64)
    motion[0, 0, VELOCITY] = speed
    counts[0, [SEEN, GAP]] = seen, gap
    assert predict(motion, counts, 1, 1.0, DEFAULT) == unsure


def test_rows_beyond_the_count_stay() -> None:
    motion = np.ones((3, 4, 5))
    predict(motion, np.zeros((3, 8), np.int64), 2, 1.0, DEFAULT)
    assert (motion[2] == 1).all()
    assert (motion[:2, :, POSITION] == 2).all()


def test_sides_stay_above_zero() -> None:
    state = begun(np.array([0.0, 0, 10, 10]))
    state[2:, VELOCITY] = -100
    predict_one(state, 1.0, DEFAULT)
    assert state[2:, POSITION].tolist() == [MIN_SIDE, MIN_SIDE]
    correct(state, np.array([0.0, 0, -500, -500]), DEFAULT)
    assert (state[2:, POSITION] == MIN_SIDE).all()
    assert np.isfinite(state).all()


@given(boxes, st.integers(1, 60), st.floats(0.2, 4), st.tuples(*[st.floats(-3, 3)] * 2))
def test_a_re_update_along_a_straight_line_ends_on_it(
    start: Array, frames: int, dt: float, speed: tuple[float, float]
) -> None:
    velocity = np.array([*speed, 0.0, 0.0])
    at_last_match = begun(start)
    at_last_match[:, VELOCITY] = velocity
    state, end = np.full((4, 5), 1e6), start + velocity * dt * frames
    re_update(state, at_last_match, start, end, frames, dt, DEFAULT)
    np.testing.assert_allclose(state[:, POSITION], end, atol=1e-6)
    np.testing.assert_allclose(state[:, VELOCITY], velocity, atol=1e-6)


def test_a_re_update_forgets_the_error_of_the_gap() -> None:
    state = begun(np.array([0.0, 0, 40, 80]))
    for k in range(1, 21):
        predict_one(state, 1.0, DEFAULT)
        correct(state, np.array([5.0 * k, 0, 40, 80]), DEFAULT)
    blind, last, end = state.copy(), np.array([100.0, 0, 40, 80]), np.array([100.0, 60, 40, 80])
    for _ in range(10):  # it walked to the right, and turned down while nobody saw
        predict_one(blind, 1.0, DEFAULT)
    plain, updated = blind.copy(), blind.copy()
    correct(plain, end, DEFAULT)
    re_update(updated, state, last, end, 10, 1.0, DEFAULT)
    # As sure as a track that was never lost, and nearer to what was seen.
    np.testing.assert_allclose(updated[:, VAR_POSITION], state[:, VAR_POSITION], rtol=0.02)
    assert (plain[:2, VAR_POSITION] > 1.3 * updated[:2, VAR_POSITION]).all()
    errors = np.abs(np.stack([plain, updated])[:, :2, POSITION] - end[:2]).sum(axis=1)
    assert errors[1] < 0.75 * errors[0]


def tracks(rng: np.random.Generator, n: int = 5) -> tuple[Array, Array, Array]:
    motion = rng.uniform(10, 100, (n, 4, 5))
    return motion, motion + 1, rng.uniform(10, 100, (n, RECENT, 4))


def test_a_camera_at_rest_changes_nothing() -> None:
    given_arrays, moved = tracks(np.random.default_rng(0)), tracks(np.random.default_rng(0))
    compensate_camera(moved[0], moved[1], moved[2], 5, np.eye(2, 3))
    for before, after in zip(given_arrays, moved, strict=True):
        np.testing.assert_array_equal(before, after)


@given(
    st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda m: abs((1 + m[0]) * (1 + m[3]) - m[1] * m[2]) > 0.1),
    st.tuples(*[st.floats(-200, 200)] * 2),
)
def test_there_and_back_is_where_it_was(linear: tuple[float, ...], shift: tuple[float, float]) -> None:
    turn = np.eye(2) + np.array(linear).reshape(2, 2)
    there = np.column_stack([turn, shift])
    back = np.column_stack([np.linalg.inv(turn), -np.linalg.inv(turn) @ shift])
    given_arrays, moved = tracks(np.random.default_rng(1)), tracks(np.random.default_rng(1))
    for camera in (there, np.ascontiguousarray(back)):
        compensate_camera(moved[0], moved[1], moved[2], 4, camera)
    for before, after in zip(given_arrays, moved, strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-6, atol=1e-6)


def test_a_zoom_moves_every_corner_and_speed() -> None:
    motion, matched, recent = tracks(np.random.default_rng(2))
    before = motion.copy(), matched.copy(), recent.copy()
    compensate_camera(motion, matched, recent, 4, np.array([[2.0, 0, 10], [0, 2, -20]]))
    shift = np.array([10, -20, 0, 0])
    for after, earlier in ((motion, before[0]), (matched, before[1])):
        np.testing.assert_allclose(after[:4, :, POSITION], 2 * earlier[:4, :, POSITION] + shift)
        np.testing.assert_allclose(after[:4, :, VELOCITY], 2 * earlier[:4, :, VELOCITY])
        np.testing.assert_array_equal(after[4], earlier[4])
    np.testing.assert_allclose(recent[:4], 2 * before[2][:4] + shift)
    np.testing.assert_array_equal(recent[4], before[2][4])


def test_a_quarter_turn_turns_velocities() -> None:
    motion, matched, recent = tracks(np.random.default_rng(3), 1)
    motion[0, :, VELOCITY] = [3, 0, 1, 1]
    sides = motion[0, 2:, POSITION].copy()
    compensate_camera(motion, matched, recent, 1, np.array([[0.0, -1, 0], [1, 0, 0]]))
    np.testing.assert_allclose(motion[0, :, VELOCITY], [0, 3, 1, 1], atol=1e-12)
    np.testing.assert_allclose(motion[0, 2:, POSITION], sides)
