"""How many identity switches are expected, and that parts come to the same as the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corrections.toy import crossing, random_tracks
from trackweave.corrections.doubt import link_doubt
from trackweave.corrections.forecast import (
    COVERAGE,
    DISPERSION,
    PART,
    SMALL,
    SwitchForecast,
    SwitchForecaster,
    forecast,
    forecast_of,
)
from trackweave.structures.tracks import Tracks


def test_the_forecast_counts_the_exchange() -> None:
    """Two links are wrong where two tracks were exchanged; before they meet there is nothing to expect."""
    exchanged = forecast_of(crossing()[0])
    assert exchanged.low <= 2 <= exchanged.high
    apart = forecast_of(crossing(exchanged=False)[0][:24])
    assert apart.expected < 0.6 < exchanged.expected
    assert forecast_of(crossing()[0][:0]) == SwitchForecast(0.0, 0, 0)


def test_a_track_that_begins_where_one_was_lost_counts() -> None:
    """As a tracker does it that lost an object for a while; at the side it is another object."""
    tracks, _ = crossing(60, exchanged=False)
    first = (tracks.track_id == 1) & (tracks.frame < 12)
    later = (tracks.track_id == 1) & (tracks.frame >= 15)
    kept = first | later | (tracks.track_id == 2)
    broken = Tracks.from_columns(tracks.frame, np.where(later, 3, tracks.track_id), tracks.xyxy, tracks.score)[kept]
    forecaster = SwitchForecaster((200, 400))
    forecaster.add(broken)
    assert forecaster.restarts() == 1
    aside = SwitchForecaster((200, 70))  # the picture ends where it was lost
    aside.add(broken)
    assert aside.restarts() == 0


@settings(max_examples=60, deadline=None)
@given(random_tracks(), st.integers(1, 7))
def test_parts_come_to_the_whole(tracks: Tracks, step: int) -> None:
    tracks = Tracks.from_columns(tracks.frame * PART // 2, tracks.track_id, tracks.xyxy)  # several looks
    forecaster = SwitchForecaster((80, 90))
    for start in range(0, int(tracks.frame[-1]) + 1, step * PART // 2):
        low, high = np.searchsorted(tracks.frame, [start, start + step * PART // 2])
        forecaster.add(tracks[low:high])
    whole = forecast_of(tracks, (80, 90))
    assert forecaster.result().expected == pytest.approx(whole.expected)
    doubt = link_doubt(tracks).doubt
    assert forecaster.doubts == pytest.approx(doubt.sum())
    assert forecaster.large_doubts == pytest.approx(doubt[doubt > SMALL].sum())
    assert forecaster.result().low <= whole.expected


def test_many_small_doubts_may_come_to_nothing() -> None:
    """Two objects that go round far from each other, long enough to make switches expected."""
    frames = np.repeat(np.arange(2_000), 2)
    side = np.tile([0.0, 300.0], 2_000)
    corner = np.stack([60 + side + 30 * np.cos(frames / 25), 60 + 30 * np.sin(frames / 25)], axis=1)
    corner += np.random.default_rng(0).normal(0, 3, corner.shape)  # the detector trembles
    boxes = np.concatenate([corner, corner + np.array([20, 50])], axis=1)
    calm = Tracks.from_columns(frames, np.tile([1, 2], 2_000), boxes)
    forecaster = SwitchForecaster((200, 500))
    forecaster.add(calm)
    found = forecaster.result()
    assert forecaster.large_doubts == 0
    assert found.low == 0 < forecast(found.expected).low
    assert found.high == forecast(found.expected).high


@pytest.mark.parametrize("expected", [0.3, 4.0, 60.0])
def test_the_interval_holds_what_it_says(expected: float) -> None:
    """Numbers drawn from the distribution, a gamma mixture of Poisson ones, lie in it."""
    rng = np.random.default_rng(0)
    drawn = rng.poisson(rng.gamma(DISPERSION, expected / DISPERSION, 20_000))
    found = forecast(expected)
    share = ((drawn >= found.low) & (drawn <= found.high)).mean()
    assert COVERAGE - 0.01 <= share <= (0.985 if expected > 1 else 1)
    assert found.low <= expected <= found.high
