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
    AXES,
    BOXES,
    COLUMNS,
    COVARIANCE,
    GAP,
    MATCHED,
    POSITION,
    RECENT,
    SEEN,
    SINCE,
    VAR_POSITION,
    VAR_VELOCITY,
    VELOCITY,
    VOTED,
    Parameters,
    kernel_parameters,
)

DEFAULT: Parameters = kernel_parameters(TrackerSettings())[0]
Array = NDArray[np.float64]
X, Y, WIDTH, HEIGHT = range(POSITION, POSITION + AXES)
STATE = slice(POSITION, MATCHED)


def axes(first: int, n: int = AXES) -> slice:
    """The columns of a number that there is one of for each axis."""
    return slice(first, first + n)


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
        """As in a track's row; asserts that nothing was lost by leaving the rest out."""
        kept = np.kron(np.ones((2, 2)), np.eye(4)) > 0
        np.testing.assert_allclose(self.covariance[~kept], 0, atol=1e-9)
        position, velocity = np.diag(self.covariance)[:4], np.diag(self.covariance)[4:]
        return np.concatenate([self.mean[:4], self.mean[4:], position, np.diag(self.covariance, 4), velocity])


def begun(box: Array, p: Parameters = DEFAULT) -> Array:
    track = np.zeros(COLUMNS)
    initiate(track, np.asarray(box, np.float64), p)
    track[axes(BOXES)], track[SEEN] = box, 1
    return track


@pytest.mark.parametrize("by_width", [0.0, 0.5, 1.0])
@given(boxes, st.lists(st.tuples(st.floats(0.1, 5), st.none() | boxes), min_size=1, max_size=8))
def test_four_small_filters_are_the_large_one(
    by_width: float, first: Array, steps: list[tuple[float, Array | None]]
) -> None:
    p = kernel_parameters(TrackerSettings(width_noise_by_width=by_width))[0]
    state, plain = begun(first, p), PlainFilter(first, p)
    for dt, box in steps:
        predict_one(state, dt, p)
        plain.predict(dt)
        if plain.mean[2:4].min() <= 1:  # the kernel bounds sizes from below: another matter
            return
        if box is not None:
            correct(state, box, p)
            plain.correct(box)
        np.testing.assert_allclose(state[STATE], plain.decoupled(), rtol=1e-7, atol=1e-7)


def test_noise_follows_height_or_width() -> None:
    assert [noise_size(4.0, 9.0, axis, 0.0) for axis in range(4)] == [9, 9, 9, 9]
    assert [noise_size(4.0, 9.0, axis, 1.0) for axis in range(4)] == [4, 9, 4, 9]
    assert [noise_size(4.0, 9.0, axis, 0.5) for axis in range(4)] == [6, 9, 6, 9]


@given(boxes, boxes)
def test_one_long_step_predicts_what_two_short_ones_do(first: Array, second: Array) -> None:
    state = begun(first)
    predict_one(state, 1.0, DEFAULT)
    correct(state, second, DEFAULT)
    state[VELOCITY + 2 : VELOCITY + AXES] = 0  # noise follows the size: let it stay as it is
    long, short = state.copy(), state.copy()
    predict_one(long, 2.0, DEFAULT)
    predict_one(short, 1.0, DEFAULT)
    predict_one(short, 1.0, DEFAULT)
    np.testing.assert_allclose(long[axes(POSITION, 8)], short[axes(POSITION, 8)], atol=1e-9)
    np.testing.assert_allclose(long[axes(VAR_VELOCITY)], short[axes(VAR_VELOCITY)])
    # Noise enters at the end of a step, so only between two steps does velocity noise reach the position: once.
    size = np.array([noise_size(state[WIDTH], state[HEIGHT], axis, DEFAULT.width_noise_by_width) for axis in range(4)])
    entered = (DEFAULT.velocity_noise * size) ** 2
    np.testing.assert_allclose(short[axes(VAR_POSITION)] - long[axes(VAR_POSITION)], entered, rtol=1e-6)
    np.testing.assert_allclose(short[axes(COVARIANCE)] - long[axes(COVARIANCE)], entered, rtol=1e-6)


def test_only_lost_tracks_slow_down() -> None:
    p = kernel_parameters(TrackerSettings(velocity_damping=0.5))[0]
    tracks = np.stack([begun(np.array([0, 0, 20, 40])), begun(np.array([0, 0, 20, 40]))])
    tracks[:, VELOCITY] = 8
    tracks[1, GAP] = 1
    predict(tracks, 2.0, p)
    assert tracks[:, VELOCITY].tolist() == [8, 2]
    assert tracks[:, X].tolist() == [16, 4]
    assert tracks[:, SINCE].tolist() == [2, 2]


def test_a_track_without_a_velocity_goes_on_as_it_came() -> None:
    first, second = np.array([100.0, 50, 12, 12]), np.array([148.0, 20, 12, 14])
    state = begun(first)
    correct(state, first + np.array([9.0, 9, 0, 0]), DEFAULT)
    forget_velocity(state, 2.0, DEFAULT)
    correct(state, second, DEFAULT)
    np.testing.assert_allclose(state[axes(POSITION, 2)], [148, 20], atol=1e-2)
    np.testing.assert_allclose(state[axes(VELOCITY, 2)], [24, -15], atol=1e-2)
    assert (state[axes(VAR_POSITION)] > 0).all()
    assert (state[axes(VAR_VELOCITY)] < 1).all()
    assert (state[axes(VAR_POSITION)] * state[axes(VAR_VELOCITY)] >= state[axes(COVARIANCE)] ** 2).all()
    predict_one(state, 1.0, DEFAULT)
    np.testing.assert_allclose(state[axes(POSITION, 2)], [172, 5], atol=1e-2)


@pytest.mark.parametrize(
    ("seen", "gap", "speed", "unsure"),
    [(1, 0, 0, True), (1, 1, 0, False), (2, 0, 9, False), (2, 0, 11, True), (9, 2, 11, True)],
)
def test_young_and_fast_tracks_are_unsure(seen: int, gap: int, speed: float, unsure: bool) -> None:
    tracks = begun(np.array([0.0, 0, 20, 20]))[None]
    tracks[0, VELOCITY], tracks[0, SEEN], tracks[0, GAP] = speed, seen, gap
    assert predict(tracks, 1.0, DEFAULT) == unsure


def test_sides_stay_above_zero() -> None:
    state = begun(np.array([0.0, 0, 10, 10]))
    state[VELOCITY + 2 : VELOCITY + AXES] = -100
    predict_one(state, 1.0, DEFAULT)
    assert state[[WIDTH, HEIGHT]].tolist() == [MIN_SIDE, MIN_SIDE]
    correct(state, np.array([0.0, 0, -500, -500]), DEFAULT)
    assert (state[[WIDTH, HEIGHT]] == MIN_SIDE).all()
    assert np.isfinite(state).all()


@given(boxes, st.integers(1, 60), st.floats(0.2, 4), st.tuples(*[st.floats(-3, 3)] * 2))
def test_a_re_update_along_a_straight_line_ends_on_it(
    start: Array, frames: int, dt: float, speed: tuple[float, float]
) -> None:
    velocity = np.array([*speed, 0.0, 0.0])
    state, end = begun(start), start + velocity * dt * frames
    state[axes(VELOCITY)] = velocity
    state[axes(MATCHED, MATCHED - POSITION)] = state[STATE]
    state[STATE] = 1e6
    re_update(state, end, frames, dt, DEFAULT)
    np.testing.assert_allclose(state[axes(POSITION)], end, atol=1e-6)
    np.testing.assert_allclose(state[axes(VELOCITY)], velocity, atol=1e-6)


def test_a_re_update_forgets_the_error_of_the_gap() -> None:
    state = begun(np.array([0.0, 0, 40, 80]))
    for k in range(1, 21):
        predict_one(state, 1.0, DEFAULT)
        correct(state, np.array([5.0 * k, 0, 40, 80]), DEFAULT)
    state[axes(MATCHED, MATCHED - POSITION)], state[axes(BOXES)] = state[STATE], [100.0, 0, 40, 80]
    blind, end = state.copy(), np.array([100.0, 60, 40, 80])
    for _ in range(10):  # it walked to the right, and turned down while nobody saw
        predict_one(blind, 1.0, DEFAULT)
    plain, updated = blind.copy(), blind.copy()
    correct(plain, end, DEFAULT)
    re_update(updated, end, 10, 1.0, DEFAULT)
    # As sure as a track that was never lost, and nearer to what was seen.
    np.testing.assert_allclose(updated[axes(VAR_POSITION)], state[axes(VAR_POSITION)], rtol=0.02)
    assert (plain[axes(VAR_POSITION, 2)] > 1.3 * updated[axes(VAR_POSITION, 2)]).all()
    errors = np.abs(np.stack([plain, updated])[:, [X, Y]] - end[:2]).sum(axis=1)
    assert errors[1] < 0.75 * errors[0]


def tracks(rng: np.random.Generator, n: int = 5) -> Array:
    return rng.uniform(10, 100, (n, COLUMNS))


BOXES_HELD = (POSITION, MATCHED, *range(BOXES, BOXES + RECENT * AXES, AXES))
"""First columns of the boxes of a row."""
VELOCITIES_HELD = (VELOCITY, VELOCITY + MATCHED - POSITION)


def test_a_camera_at_rest_changes_nothing() -> None:
    before, moved = tracks(np.random.default_rng(0)), tracks(np.random.default_rng(0))
    compensate_camera(moved, np.eye(2, 3))
    np.testing.assert_array_equal(before, moved)


@given(
    st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda m: abs((1 + m[0]) * (1 + m[3]) - m[1] * m[2]) > 0.1),
    st.tuples(*[st.floats(-200, 200)] * 2),
)
def test_there_and_back_is_where_it_was(linear: tuple[float, ...], shift: tuple[float, float]) -> None:
    turn = np.eye(2) + np.array(linear).reshape(2, 2)
    there = np.column_stack([turn, shift])
    back = np.column_stack([np.linalg.inv(turn), -np.linalg.inv(turn) @ shift])
    before, moved = tracks(np.random.default_rng(1)), tracks(np.random.default_rng(1))
    for camera in (there, np.ascontiguousarray(back)):
        compensate_camera(moved, camera)
    np.testing.assert_allclose(before, moved, rtol=1e-6, atol=1e-6)


def test_a_zoom_moves_every_box_and_speed_and_nothing_else() -> None:
    moved = tracks(np.random.default_rng(2))
    expected = moved.copy()
    compensate_camera(moved[:4], np.array([[2.0, 0, 10], [0, 2, -20]]))
    for first in (*BOXES_HELD, *VELOCITIES_HELD):
        expected[:4, axes(first)] *= 2
    for first in BOXES_HELD:
        expected[:4, axes(first, 2)] += [10, -20]
    np.testing.assert_allclose(moved, expected)
    assert BOXES_HELD[-1] + AXES == VOTED


def test_a_quarter_turn_turns_velocities() -> None:
    moved = tracks(np.random.default_rng(3), 1)
    moved[0, axes(VELOCITY)] = [3, 0, 1, 1]
    sides = moved[0, [WIDTH, HEIGHT]].copy()
    compensate_camera(moved, np.array([[0.0, -1, 0], [1, 0, 0]]))
    np.testing.assert_allclose(moved[0, axes(VELOCITY)], [0, 3, 1, 1], atol=1e-12)
    np.testing.assert_allclose(moved[0, [WIDTH, HEIGHT]], sides)
