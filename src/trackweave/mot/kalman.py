"""Constant-velocity Kalman filter of a box: kernels over one track or all.

The state is centre x, centre y, width and height with one velocity each. With diagonal noise, as in ByteTrack and
BoT-SORT, the 8×8 filter falls apart into four filters of two numbers each; these are exact, not an approximation.
Noise is a share of the box's size. Time counts in steps of 1/30 s, `dt` of them between two frames.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import njit
from trackweave.mot.state import COVARIANCE, GAP, POSITION, SEEN, VAR_POSITION, VAR_VELOCITY, VELOCITY, Parameters

FAST = 0.5
"""Box sizes per frame from which a track is fast."""
UNKNOWN = 1e4
"""Variance of a velocity that is not known, in squared box sizes per step."""
MIN_SIDE = 1e-3
"""Width and height never fall below, in pixels."""

Motion = NDArray[np.float64]


@njit
def copy_vector(target: NDArray[np.generic], source: NDArray[np.generic]) -> None:
    """`target[:] = source` of `(n,)`; numba takes seconds to compile the error that an array assignment may raise."""
    for k in range(source.shape[0]):
        target[k] = source[k]


@njit
def copy_matrix(target: NDArray[np.generic], source: NDArray[np.generic]) -> None:
    """The same of `(n, m)`."""
    for k in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[k, j] = source[k, j]


@njit(inline="always")
def noise_size(width: float, height: float, axis: int, by_width: float) -> float:
    """The length that noise along an axis (0 x, 1 y, 2 width, 3 height) is a share of."""
    if axis % 2 == 1 or by_width == 0.0:
        return height
    if by_width == 1.0:
        return width
    return float(width**by_width * height ** (1.0 - by_width))


@njit
def predict_one(state: NDArray[np.float64], dt: float, p: Parameters) -> None:
    """Moves one track's state `(4, 5)` on by `dt` steps."""
    width, height = max(state[2, POSITION], MIN_SIDE), max(state[3, POSITION], MIN_SIDE)
    for axis in range(4):
        size = noise_size(width, height, axis, p.width_noise_by_width)
        a, b, c = state[axis, VAR_POSITION], state[axis, COVARIANCE], state[axis, VAR_VELOCITY]
        state[axis, POSITION] += state[axis, VELOCITY] * dt
        state[axis, VAR_POSITION] = a + 2 * dt * b + dt * dt * c + (p.position_noise * size) ** 2 * dt
        state[axis, COVARIANCE] = b + dt * c
        state[axis, VAR_VELOCITY] = c + (p.velocity_noise * size) ** 2 * dt
    state[2, POSITION] = max(state[2, POSITION], MIN_SIDE)
    state[3, POSITION] = max(state[3, POSITION], MIN_SIDE)


@njit(inline="always")
def is_unsure(state: NDArray[np.float64], counts: NDArray[np.int64], dt: float) -> bool:
    """Whether one track may be far from where it is predicted: it has one box, of the frame before, and no velocity
    yet; or it is fast, and a turn leads it out of its gate."""
    if counts[SEEN] == 1:
        return bool(counts[GAP] == 0)
    step = (state[0, VELOCITY] ** 2 + state[1, VELOCITY] ** 2) * dt * dt
    return bool(step >= FAST * FAST * state[2, POSITION] * state[3, POSITION])


@njit
def predict(motion: Motion, counts: NDArray[np.int64], n: int, dt: float, p: Parameters) -> bool:
    """Moves the first `n` tracks on by `dt` steps; the velocity of lost ones is damped.

    Returns whether one of them is unsure.
    """
    damping = p.velocity_damping**dt
    any_unsure = False
    for row in range(n):
        if counts[row, GAP] > 0 and p.velocity_damping < 1.0:
            for axis in range(4):
                motion[row, axis, VELOCITY] *= damping
        predict_one(motion[row], dt, p)
        any_unsure |= is_unsure(motion[row], counts[row], dt)
    return any_unsure


@njit
def correct(state: NDArray[np.float64], box: NDArray[np.float64], p: Parameters) -> None:
    """Takes in a detected box `(4,)`: centre x, centre y, width, height."""
    width, height = max(state[2, POSITION], MIN_SIDE), max(state[3, POSITION], MIN_SIDE)
    for axis in range(4):
        size = noise_size(width, height, axis, p.width_noise_by_width)
        a, b, c = state[axis, VAR_POSITION], state[axis, COVARIANCE], state[axis, VAR_VELOCITY]
        variance = a + (p.measurement_noise * size) ** 2
        gain, velocity_gain = a / variance, b / variance
        innovation = box[axis] - state[axis, POSITION]
        state[axis, POSITION] += gain * innovation
        state[axis, VELOCITY] += velocity_gain * innovation
        state[axis, VAR_POSITION] = (1 - gain) * a
        state[axis, COVARIANCE] = (1 - gain) * b
        state[axis, VAR_VELOCITY] = c - velocity_gain * b
    state[2, POSITION] = max(state[2, POSITION], MIN_SIDE)
    state[3, POSITION] = max(state[3, POSITION], MIN_SIDE)


@njit
def initiate(state: NDArray[np.float64], box: NDArray[np.float64], p: Parameters) -> None:
    """A new track's state: at rest, its velocity as good as unknown; sizes change more slowly than places."""
    width, height = max(box[2], MIN_SIDE), max(box[3], MIN_SIDE)
    for axis in range(4):
        size = noise_size(width, height, axis, p.width_noise_by_width)
        state[axis, POSITION] = box[axis]
        state[axis, VELOCITY] = 0.0
        state[axis, VAR_POSITION] = (2 * p.measurement_noise * size) ** 2
        state[axis, COVARIANCE] = 0.0
        state[axis, VAR_VELOCITY] = (p.initial_velocity_noise * size) ** 2 * (1.0 if axis < 2 else 0.25)


def forget_velocity(state: NDArray[np.float64], last: NDArray[np.float64], dt: float, p: Parameters) -> None:
    """Two-point initiation: one track's state `(4, 5)` again as after its `last` box alone, `dt` steps ago, but with a
    velocity of which nothing is known. The box that it is corrected by next then gives it: the difference of both."""
    initiate(state, last, p)
    state[:2, VAR_VELOCITY] = UNKNOWN * last[2] * last[3]
    predict_one(state, dt, p)


@njit
def re_update(
    state: NDArray[np.float64],
    at_last_match: NDArray[np.float64],
    last_box: NDArray[np.float64],
    box: NDArray[np.float64],
    frames: int,
    dt: float,
    p: Parameters,
) -> None:
    """Observation-centred re-update over a gap of `frames`: the filter is run again from the last match along the
    straight line to the new box, so that the error it gathered while blind is forgotten (Cao et al., OC-SORT).

    `dt` is the mean step of the gap; the last virtual box is the new box itself.
    """
    copy_matrix(state, at_last_match)
    virtual = np.empty(4)
    for frame in range(1, frames + 1):
        share = frame / frames
        for axis in range(4):
            virtual[axis] = last_box[axis] + (box[axis] - last_box[axis]) * share
        predict_one(state, dt, p)
        correct(state, virtual, p)


@njit
def compensate_camera(motion: Motion, matched: Motion, recent: Motion, n: int, camera: NDArray[np.float64]) -> None:
    """Carries the first `n` tracks from the pixels of the frame before into this one's by a `(2, 3)` matrix.

    Sizes and their velocities follow the matrix's scale; a rotation turns velocities, not boxes.
    """
    a, b, x = camera[0, 0], camera[0, 1], camera[0, 2]
    c, d, y = camera[1, 0], camera[1, 1], camera[1, 2]
    scale = math.sqrt(abs(a * d - b * c))
    for row in range(n):
        for states in (motion, matched):
            s = states[row]
            px, py = s[0, POSITION], s[1, POSITION]
            s[0, POSITION], s[1, POSITION] = a * px + b * py + x, c * px + d * py + y
            vx, vy = s[0, VELOCITY], s[1, VELOCITY]
            s[0, VELOCITY], s[1, VELOCITY] = a * vx + b * vy, c * vx + d * vy
            for axis in range(2, 4):
                s[axis, POSITION] *= scale
                s[axis, VELOCITY] *= scale
        for k in range(recent.shape[1]):
            box = recent[row, k]
            px, py = box[0], box[1]
            box[0], box[1] = a * px + b * py + x, c * px + d * py + y
            box[2] *= scale
            box[3] *= scale
