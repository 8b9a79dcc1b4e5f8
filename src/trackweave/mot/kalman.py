"""Constant-velocity Kalman filter of a box: kernels over one track or all.

The state is centre x, centre y, width and height with one velocity each, in columns of a track's row. With diagonal
noise, as in ByteTrack and BoT-SORT, the 8×8 filter falls apart into four filters of two numbers each; these are exact,
not an approximation. Noise is a share of the box's size. Time counts in steps of 1/30 s, `dt` of them between frames.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import inner, njit
from trackweave.mot.state import (
    AXES,
    BOXES,
    COVARIANCE,
    GAP,
    MATCHED,
    POSITION,
    RECENT,
    SEEN,
    SINCE,
    STATE_NUMBERS,
    VAR_POSITION,
    VAR_VELOCITY,
    VELOCITY,
    Parameters,
    Rows,
)

FAST = 0.5
"""Box sizes per frame from which a track is fast."""
UNKNOWN = 1e4
"""Variance of a velocity that is not known, in squared box sizes per step."""
MIN_SIDE = 1e-3
"""Width and height never fall below, in pixels."""

Row = NDArray[np.float64]
"""One row of `Rows`: of a track, or of a detection, which begins with its box."""


@inner
def noise_size(width: float, height: float, axis: int, by_width: float) -> float:
    """The length that noise along an axis (0 x, 1 y, 2 width, 3 height) is a share of."""
    if axis % 2 == 1 or by_width == 0.0:
        return height
    if by_width == 1.0:
        return width
    return float(width**by_width * height ** (1.0 - by_width))


@inner
def predict_one(track: Row, dt: float, p: Parameters) -> None:
    """Moves one track's state on by `dt` steps."""
    width, height = max(track[POSITION + 2], MIN_SIDE), max(track[POSITION + 3], MIN_SIDE)
    for axis in range(AXES):
        size = noise_size(width, height, axis, p.width_noise_by_width)
        position_noise, velocity_noise = p.position_noise * size, p.velocity_noise * size
        a, b, c = track[VAR_POSITION + axis], track[COVARIANCE + axis], track[VAR_VELOCITY + axis]
        track[POSITION + axis] += track[VELOCITY + axis] * dt
        track[VAR_POSITION + axis] = a + 2 * dt * b + dt * dt * c + position_noise * position_noise * dt
        track[COVARIANCE + axis] = b + dt * c
        track[VAR_VELOCITY + axis] = c + velocity_noise * velocity_noise * dt
    keep_sides(track)


@inner
def keep_sides(track: Row) -> None:
    """Width and height stay above 0."""
    track[POSITION + 2] = max(track[POSITION + 2], MIN_SIDE)
    track[POSITION + 3] = max(track[POSITION + 3], MIN_SIDE)


@inner
def is_unsure(track: Row, dt: float) -> bool:
    """Whether one track may be far from where it is predicted: it has one box, of the frame before, and no velocity
    yet; or it is fast, and a turn leads it out of its gate."""
    if track[SEEN] == 1.0:
        return bool(track[GAP] == 0.0)
    vx, vy = track[VELOCITY], track[VELOCITY + 1]
    step = (vx * vx + vy * vy) * dt * dt
    return bool(step >= FAST * FAST * track[POSITION + 2] * track[POSITION + 3])


@inner
def predict(tracks: Rows, dt: float, p: Parameters) -> bool:
    """Moves tracks on by `dt` steps; the velocity of lost ones is damped.

    Returns whether one of them is unsure.
    """
    damping = p.velocity_damping**dt
    any_unsure = False
    for row in range(len(tracks)):
        track = tracks[row]
        if track[GAP] > 0.0 and p.velocity_damping < 1.0:
            for axis in range(VELOCITY, VELOCITY + AXES):
                track[axis] *= damping
        predict_one(track, dt, p)
        any_unsure |= is_unsure(track, dt)
        track[SINCE] += dt
    return any_unsure


@inner
def _correct_axis(track: Row, axis: int, observed: float, size: float, p: Parameters) -> None:
    a, b, c = track[VAR_POSITION + axis], track[COVARIANCE + axis], track[VAR_VELOCITY + axis]
    noise = p.measurement_noise * size
    variance = a + noise * noise
    gain, velocity_gain = a / variance, b / variance
    innovation = observed - track[POSITION + axis]
    track[POSITION + axis] += gain * innovation
    track[VELOCITY + axis] += velocity_gain * innovation
    track[VAR_POSITION + axis] = (1 - gain) * a
    track[COVARIANCE + axis] = (1 - gain) * b
    track[VAR_VELOCITY + axis] = c - velocity_gain * b


@inner
def correct(track: Row, box: Row, p: Parameters) -> None:
    """Takes in a detected box: centre x, centre y, width, height."""
    width, height = max(track[POSITION + 2], MIN_SIDE), max(track[POSITION + 3], MIN_SIDE)
    for axis in range(AXES):
        _correct_axis(track, axis, box[axis], noise_size(width, height, axis, p.width_noise_by_width), p)
    keep_sides(track)


@inner
def initiate(track: Row, box: Row, p: Parameters) -> None:
    """A new track's state: at rest, its velocity as good as unknown; sizes change more slowly than places."""
    width, height = max(box[2], MIN_SIDE), max(box[3], MIN_SIDE)
    for axis in range(AXES):
        size = noise_size(width, height, axis, p.width_noise_by_width)
        noise, velocity_noise = 2 * p.measurement_noise * size, p.initial_velocity_noise * size
        track[POSITION + axis] = box[axis]
        track[VELOCITY + axis] = 0.0
        track[VAR_POSITION + axis] = noise * noise
        track[COVARIANCE + axis] = 0.0
        track[VAR_VELOCITY + axis] = velocity_noise * velocity_noise * (1.0 if axis < 2 else 0.25)


def forget_velocity(track: Row, dt: float, p: Parameters) -> None:
    """Two-point initiation: one track's state again as after its last box alone, `dt` steps ago, but with a velocity
    of which nothing is known. The box that it is corrected by next then gives it: the difference of both."""
    last = track[BOXES : BOXES + AXES]
    initiate(track, last, p)
    track[VAR_VELOCITY : VAR_VELOCITY + 2] = UNKNOWN * last[2] * last[3]
    predict_one(track, dt, p)


@inner
def re_update(track: Row, box: Row, frames: int, dt: float, p: Parameters) -> None:
    """Observation-centred re-update over a gap of `frames`: the filter is run again from the last match along the
    straight line to the new box, so that the error it gathered while blind is forgotten (Cao et al., OC-SORT).

    `dt` is the mean step of the gap; the last virtual box is the new box itself.
    """
    for k in range(STATE_NUMBERS):
        track[POSITION + k] = track[MATCHED + k]
    for frame in range(1, frames + 1):
        share = frame / frames
        predict_one(track, dt, p)
        width, height = max(track[POSITION + 2], MIN_SIDE), max(track[POSITION + 3], MIN_SIDE)
        for axis in range(AXES):
            last = track[BOXES + axis]
            size = noise_size(width, height, axis, p.width_noise_by_width)
            _correct_axis(track, axis, last + (box[axis] - last) * share, size, p)
        keep_sides(track)


@njit
def compensate_camera(tracks: Rows, camera: NDArray[np.float64]) -> None:
    """Carries tracks from the pixels of the frame before into this one's by a `(2, 3)` matrix.

    Sizes and their velocities follow the matrix's scale; a rotation turns velocities, not boxes.
    """
    a, b, c, d = camera[0, 0], camera[0, 1], camera[1, 0], camera[1, 1]
    scale = math.sqrt(abs(a * d - b * c))
    for row in range(len(tracks)):
        track = tracks[row]
        for position in (POSITION, MATCHED):
            _carry_box(track, position, camera, scale)
            velocity = position + VELOCITY - POSITION
            vx, vy = track[velocity], track[velocity + 1]
            track[velocity], track[velocity + 1] = a * vx + b * vy, c * vx + d * vy
            track[velocity + 2] *= scale
            track[velocity + 3] *= scale
        for k in range(RECENT):
            _carry_box(track, BOXES + AXES * k, camera, scale)


@inner
def _carry_box(track: Row, first: int, camera: NDArray[np.float64], scale: float) -> None:
    """Moves the box in four columns from `first` on."""
    px, py = track[first], track[first + 1]
    track[first] = camera[0, 0] * px + camera[0, 1] * py + camera[0, 2]
    track[first + 1] = camera[1, 0] * px + camera[1, 1] * py + camera[1, 2]
    track[first + 2] *= scale
    track[first + 3] *= scale
