"""Random functions of time: the processes that motions, cameras and detectors are simulated with."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Signal = NDArray[np.float64]


def ornstein_uhlenbeck(rng: np.random.Generator, steps: int, columns: int, *, seconds: float, dt: float) -> Signal:
    """`(steps, columns)` Ornstein–Uhlenbeck processes: mean 0, variance 1, correlation `exp(-lag / seconds)`.

    `seconds` 0 gives white noise. The first rows do not depend on `steps`.

    >>> ornstein_uhlenbeck(np.random.default_rng(0), 4, 2, seconds=1.0, dt=0.1).shape
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


def smooth_noise(rng: np.random.Generator, steps: int, columns: int, *, seconds: float, dt: float) -> Signal:
    """`(steps, columns)` Ornstein–Uhlenbeck processes through a low-pass filter: differentiable, variance about 1."""
    rough = ornstein_uhlenbeck(rng, steps, columns, seconds=seconds, dt=dt)
    keep = math.exp(-dt / max(seconds / 2, 1e-9))
    start = rough[:1] * keep
    smooth: Signal = lfilter([1.0 - keep], [1.0, -keep], rough, axis=0, zi=start)[0] if steps else rough
    return 1.2 * smooth


def on_off(
    rng: np.random.Generator, steps: int, columns: int, *, off: float, on: float, dt: float
) -> NDArray[np.bool_]:
    """`(steps, columns)` bool: processes that are off and on by turns, `off` and `on` seconds on average."""
    if on <= 0 or off <= 0:
        return np.full((steps, columns), off <= 0)
    durations = rng.exponential(1.0, (columns, 2 + int(2 * steps * dt / min(off, on) + 8)))
    starts_on = rng.random(columns) < on / (on + off)
    kind = (np.arange(durations.shape[1])[None] + starts_on[:, None]) % 2
    ends = np.cumsum(durations * np.where(kind == 1, on, off), axis=1)
    times = np.arange(steps) * dt
    states = np.empty((steps, columns), np.bool_)
    for column in range(columns):
        interval = np.minimum(np.searchsorted(ends[column], times, side="right"), kind.shape[1] - 1)
        states[:, column] = kind[column, interval] == 1
    return states


def low_pass(signal: Signal, *, seconds: float, dt: float) -> Signal:
    """The signal through two first-order low-pass filters: steps become ramps of about `seconds`."""
    if not len(signal):
        return signal
    keep = math.exp(-dt / max(seconds / 3, 1e-9))
    for _ in range(2):
        signal = lfilter([1.0 - keep], [1.0, -keep], signal, axis=0, zi=signal[:1] * keep)[0]
    return signal
