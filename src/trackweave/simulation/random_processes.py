"""Random functions of time that every part of the simulator is made of."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Signal = NDArray[np.float64]


def wander(rng: np.random.Generator, steps: int, columns: int, *, seconds: float, dt: float) -> Signal:
    """`(steps, columns)` Ornstein–Uhlenbeck processes: mean 0, variance 1, correlation `exp(-lag / seconds)`.

    `seconds` 0 gives white noise. The first rows do not depend on `steps`.

    >>> wander(np.random.default_rng(0), 4, 2, seconds=1.0, dt=0.1).shape
    (4, 2)
    """
    noise = rng.standard_normal((steps, columns))
    keep = math.exp(-dt / seconds) if seconds > 0 else 0.0
    if keep == 0.0 or not steps:
        return noise
    first = noise[:1].copy()
    noise *= math.sqrt(1.0 - keep * keep)
    noise[0] = first[0]
    smooth: Signal = lfilter([1.0], [1.0, -keep], noise, axis=0)
    return smooth


def glide(rng: np.random.Generator, steps: int, columns: int, *, seconds: float, dt: float) -> Signal:
    """Like `wander` with a smooth derivative: no jerk from one frame to the next. Variance about 1."""
    rough = wander(rng, steps, columns, seconds=seconds, dt=dt)
    keep = math.exp(-dt / max(seconds / 2, 1e-9))
    start = rough[:1] * keep
    smooth: Signal = lfilter([1.0 - keep], [1.0, -keep], rough, axis=0, zi=start)[0] if steps else rough
    return 1.2 * smooth


def episodes(
    rng: np.random.Generator, steps: int, columns: int, *, off: float, on: float, dt: float
) -> NDArray[np.bool_]:
    """`(steps, columns)` on–off processes whose states last `off` and `on` seconds on average."""
    if on <= 0 or off <= 0:
        return np.full((steps, columns), off <= 0)
    durations = rng.exponential(1.0, (columns, 2 + int(2 * steps * dt / min(off, on) + 8)))
    begins_on = rng.random(columns) < on / (on + off)
    kind = (np.arange(durations.shape[1])[None] + begins_on[:, None]) % 2
    ends = np.cumsum(durations * np.where(kind == 1, on, off), axis=1)
    times = np.arange(steps) * dt
    found = np.empty((steps, columns), np.bool_)
    for column in range(columns):
        place = np.minimum(np.searchsorted(ends[column], times, side="right"), kind.shape[1] - 1)
        found[:, column] = kind[column, place] == 1
    return found


def soften(signal: Signal, *, seconds: float, dt: float) -> Signal:
    """The signal through two low-pass filters: steps become ramps of about `seconds`."""
    if not len(signal):
        return signal
    keep = math.exp(-dt / max(seconds / 3, 1e-9))
    for _ in range(2):
        signal = lfilter([1.0 - keep], [1.0, -keep], signal, axis=0, zi=signal[:1] * keep)[0]
    return signal
