"""Only near observations are compared with a link, and what is found is that of all pairs of a frame."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.corrections.toy import random_tracks
from trackweave.boxes import box_iou
from trackweave.corrections import doubt
from trackweave.corrections.doubt import FEATURES, link_features, previous_rows
from trackweave.structures.tracks import Tracks

EXCHANGE, OWN, OVERLAP, RIVAL = (FEATURES.index(name) for name in ("exchange", "own", "overlap", "rival"))


@st.composite
def crowds(draw: st.DrawFn) -> Tracks:
    """Many tracks of all heights over a wide field, some of which leap far, are gone for a while, or lie on others."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    frames, count = draw(st.integers(2, 8)), draw(st.integers(1, 30))
    field, leaps = draw(st.sampled_from((80.0, 600.0, 4000.0))), draw(st.sampled_from((0.0, 0.1, 0.6)))
    place = rng.uniform(0, field, (count, 2))
    sides = np.stack([rng.uniform(4, 40, count), rng.lognormal(3, 1, count)], axis=1)
    place[: count // 4] = place[count // 2 : count // 2 + count // 4]
    sides[: count // 4] = sides[count // 2 : count // 2 + count // 4]
    rows = []
    for frame in range(frames):
        jumps = rng.random(count) < leaps
        place = np.where(jumps[:, None], rng.uniform(0, field, (count, 2)), place + rng.integers(-3, 4, (count, 2)))
        seen = np.flatnonzero(rng.random(count) < 0.9).tolist()
        rows += [(frame, track, *place[track], *(place[track] + sides[track])) for track in seen]
    table = np.array(rows or [(0, 1, 0.0, 0.0, 9.0, 9.0)])
    return Tracks.from_columns(table[:, 0], table[:, 1], table[:, 2:])


def of_all_pairs(tracks: Tracks, previous: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`(N, 4)` exchange, own, overlap and rival, by looking at every pair of a frame; and the partner."""
    boxes = tracks.xyxy.astype(np.float64)
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    state = np.concatenate([centre, side], axis=1)
    velocity = doubt._velocity(tracks.frame, state, previous)
    found, partner = np.zeros((len(tracks), 4)), np.full(len(tracks), -1)

    def cost(one: int, other: int) -> float:
        before = previous[one]
        gap = tracks.frame[one] - tracks.frame[before]
        expected = centre[before] + velocity[before] * min(gap, doubt.MOST_STEPS)
        spread = np.sqrt(min(gap, doubt.MOST_GAP))
        distance = np.hypot(*(expected - centre[other])) / np.sqrt(side[before, 1] * side[other, 1])
        width, height = np.abs(np.log(side[before] / side[other]))
        return float(
            distance / (doubt.DISTANCE * spread) + height / (doubt.HEIGHT * np.sqrt(spread)) + width / doubt.WIDTH
        )

    for row in range(len(tracks)):
        others = [at for at in np.flatnonzero(tracks.frame == tracks.frame[row]).tolist() if at != row]
        found[row, 2] = box_iou(tracks.xyxy[[row]], tracks.xyxy[others]).max(initial=0)
        if previous[row] < 0:
            continue
        own = cost(row, row)
        costs = {other: cost(row, other) for other in others}
        exchanges = {
            other: there + cost(other, row) - own - cost(other, other)
            for other, there in costs.items()
            if previous[other] >= 0
        }
        best = min(exchanges.values(), default=np.inf)
        partner[row] = next((other for other, value in exchanges.items() if value <= best + 1e-9), -1)
        rival = min(costs.values(), default=np.inf) - own
        found[row] = min(best, doubt.MOST_COST), own, found[row, 2], min(rival, doubt.MOST_COST)
    return found, partner


@settings(max_examples=60, deadline=None)
@given(st.one_of(crowds(), random_tracks()))
def test_far_pairs_do_not_count(tracks: Tracks) -> None:
    previous = previous_rows(tracks)
    features, partner = link_features(tracks, previous)
    expected, other = of_all_pairs(tracks, previous)
    linked = previous >= 0
    assert np.allclose(features[:, OVERLAP], expected[:, 2], atol=1e-5)
    found = features[linked][:, [EXCHANGE, OWN, RIVAL]]
    wanted = expected[linked][:, [0, 1, 3]]
    assert np.allclose(found, np.sign(wanted) * np.log1p(np.abs(wanted)), atol=1e-7)
    assert partner.tolist() == other.tolist()


def test_a_far_leap_is_exchanged_with_a_far_one() -> None:
    """Two tracks that change places from one side of a wide crowd to the other find each other."""
    rows = [
        (frame, track, x, 10.0, x + 20, 60.0)
        for frame in range(6)
        for track in range(30)
        for x in [100.0 * (29 - track if track in (0, 29) and frame >= 3 else track)]
    ]
    table = np.array(rows)
    tracks = Tracks.from_columns(table[:, 0], table[:, 1], table[:, 2:])
    features, partner = link_features(tracks, previous_rows(tracks))
    at = 3 * 30
    assert partner[[at, at + 29]].tolist() == [at + 29, at]
    assert (features[[at, at + 29], EXCHANGE] < -7).all()


def test_more_than_is_compared_at_once_is_compared_frame_by_frame() -> None:
    """What the links of a frame are does not depend on the frames that are looked at together."""
    rng = np.random.default_rng(0)
    count, frames = 300, 500
    corner = rng.uniform(0, 4000, (count, 1, 2)) + rng.normal(0, 1, (count, frames, 2)).cumsum(axis=1)
    boxes = np.concatenate([corner, corner + np.array([20, 50])], axis=2).transpose(1, 0, 2).reshape(-1, 4)
    assert len(boxes) > 2 * doubt.ROWS_AT_ONCE
    tracks = Tracks.from_columns(np.repeat(np.arange(frames), count), np.tile(np.arange(count), frames), boxes)
    features, partner = link_features(tracks, previous_rows(tracks))
    for frame in (1, 218, 219, 437, 499):
        low = max(frame - 12, 0)
        part = tracks[low * count : (frame + 1) * count]
        alone, its_partner = link_features(part, previous_rows(part))
        assert np.array_equal(alone[-count:], features[frame * count : (frame + 1) * count])
        assert np.array_equal(its_partner[-count:] + low * count, partner[frame * count : (frame + 1) * count])
