"""Random functions of time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.simulation.random_processes import low_pass, on_off, ornstein_uhlenbeck, smooth_noise


@given(st.integers(0, 1000), st.integers(1, 50), st.integers(0, 50), st.floats(0, 5))
def test_a_longer_process_begins_with_the_shorter_one(seed: int, steps: int, more: int, seconds: float) -> None:
    one = ornstein_uhlenbeck(np.random.default_rng(seed), steps, 3, seconds=seconds, dt=0.1)
    other = ornstein_uhlenbeck(np.random.default_rng(seed), steps + more, 3, seconds=seconds, dt=0.1)
    assert np.allclose(one, other[:steps])


@pytest.mark.parametrize(("seconds", "expected"), [(1.0, np.exp(-0.1)), (0.0, 0.0)])
def test_variance_and_correlation(seconds: float, expected: float) -> None:
    signal = ornstein_uhlenbeck(np.random.default_rng(0), 400, 400, seconds=seconds, dt=0.1)
    assert signal[0].std() == pytest.approx(1, abs=0.1)
    assert signal[-1].std() == pytest.approx(1, abs=0.1)
    assert np.corrcoef(signal[200], signal[201])[0, 1] == pytest.approx(expected, abs=0.1)


def test_smooth_noise_is_smoother_than_ornstein_uhlenbeck() -> None:
    rough = ornstein_uhlenbeck(np.random.default_rng(0), 500, 50, seconds=1.0, dt=0.05)
    smooth = smooth_noise(np.random.default_rng(0), 500, 50, seconds=1.0, dt=0.05)
    assert 0.6 < smooth.std() < 1.4
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.4 * np.abs(np.diff(rough, axis=0)).mean()


def test_mean_durations_of_on_off_processes() -> None:
    on = on_off(np.random.default_rng(0), 2000, 100, off=3.0, on=1.0, dt=0.1)
    assert on.mean() == pytest.approx(0.25, abs=0.03)
    changes = np.count_nonzero(np.diff(on.astype(int), axis=0)) / 100 / 200
    assert changes == pytest.approx(2 / 4, rel=0.15)
    assert not on_off(np.random.default_rng(0), 5, 2, off=1.0, on=0.0, dt=0.1).any()
    assert on_off(np.random.default_rng(0), 5, 2, off=0.0, on=1.0, dt=0.1).all()


def test_steps_become_ramps() -> None:
    step = np.repeat([[0.0], [1.0]], 50, axis=0)
    ramp = low_pass(step, seconds=0.6, dt=0.05)
    assert np.abs(np.diff(ramp, axis=0)).max() < 0.2
    assert ramp[-1, 0] == pytest.approx(1, abs=0.01)
    assert ramp[0, 0] == 0
