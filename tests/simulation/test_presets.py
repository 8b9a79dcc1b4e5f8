"""Random settings cover what they should cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.errors import SettingError
from trackweave.simulation.presets import MIXED, REGIMES, random_settings, varied_detector
from trackweave.simulation.settings import DETECTORS


def test_mixed_draws_every_regime() -> None:
    drawn = [random_settings(np.random.default_rng(seed)) for seed in range(80)]
    assert {one.motion.kind for one in drawn} == {"dance", "sport", "stream", "traffic"}
    assert {one.camera.matrices for one in drawn} == {"given", "withheld"}
    assert min(one.fps for one in drawn) <= 10
    assert max(one.fps for one in drawn) >= 50
    assert len({one.detector.to_json() for one in drawn}) == len(drawn)


@given(st.integers(0, 2**32), st.sampled_from([MIXED, *REGIMES]))
def test_the_same_seed_draws_the_same_settings(seed: int, regime: str) -> None:
    one, other = (random_settings(np.random.default_rng(seed), regime) for _ in range(2))
    assert one == other


@given(st.integers(0, 2**32), st.sampled_from(sorted(DETECTORS)))
def test_varied_detectors_are_valid(seed: int, name: str) -> None:
    assert varied_detector(np.random.default_rng(seed), DETECTORS[name]).floor == DETECTORS[name].floor


def test_an_explicit_detector_is_used() -> None:
    assert random_settings(np.random.default_rng(0), "dance", detector=DETECTORS["weak"]).detector == DETECTORS["weak"]


def test_an_unknown_regime_is_refused() -> None:
    with pytest.raises(SettingError, match="no regime 'chess'; known: mixed, dance, sport, street, traffic"):
        random_settings(np.random.default_rng(0), "chess")
