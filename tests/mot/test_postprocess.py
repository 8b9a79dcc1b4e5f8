from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from trackweave.errors import InputError, SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.mot.postprocess import interpolate_gaps, refine, remove_short, smooth_tracks
from trackweave.mot.settings import RefinementSettings
from trackweave.structures.tracks import Tracks

KEYS = st.lists(st.tuples(st.integers(0, 25), st.integers(1, 3)), unique=True, max_size=25)


def tracks(keys: list[tuple[int, int]], *, with_masks: bool = False) -> Tracks:
    """Observations with boxes, scores and classes that look random but depend on frame and track alone."""
    frame, track = (np.array([key[k] for key in keys], np.int64) for k in (0, 1))
    noise = np.random.default_rng(0).random((26, 4, 5))[frame, track] if keys else np.zeros((0, 5))
    corner = 100 * noise[:, :2]
    return Tracks.from_columns(
        frame,
        track,
        np.concatenate([corner, corner + 1 + 50 * noise[:, 2:4]], axis=1),
        noise[:, 4],
        track % 2,
        PackedMasks.from_bool(np.ones((len(keys), 4, 4), np.bool_)) if with_masks else None,
    )


def rows(given_tracks: Tracks, chosen: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    return {name: column[chosen] for name, column in given_tracks.to_dict().items()}


def missing_frames(keys: list[tuple[int, int]], max_gap: int) -> set[tuple[int, int]]:
    """Frames of gaps of at most `max_gap`, track by track and gap by gap."""
    missing = set()
    for track in {t for _, t in keys}:
        frames = sorted(f for f, t in keys if t == track)
        for low, high in pairwise(frames):
            if high - low - 1 <= max_gap:
                missing |= {(f, track) for f in range(low + 1, high)}
    return missing


@given(KEYS, st.integers(0, 12), st.booleans())
def test_gaps_are_filled_and_observations_stay_as_they_are(
    keys: list[tuple[int, int]], max_gap: int, with_masks: bool
) -> None:
    before = tracks(keys, with_masks=with_masks)
    after, added = interpolate_gaps(before, max_gap)
    assert set(zip(after.frame[added].tolist(), after.track_id[added].tolist(), strict=True)) == missing_frames(
        keys, max_gap
    )
    for name, column in rows(after, ~added).items():
        np.testing.assert_array_equal(column, before.to_dict()[name])
    assert after.track_ids.tolist() == before.track_ids.tolist()
    if with_masks and len(before):
        assert after.masks is not None
        np.testing.assert_array_equal(after.masks.areas, np.where(added, 0, 16))
    elif not with_masks:
        assert after.masks is None


@given(KEYS, st.integers(1, 12))
def test_filled_boxes_lie_on_the_line_between_both_ends(keys: list[tuple[int, int]], max_gap: int) -> None:
    before = tracks(keys)
    after, added = interpolate_gaps(before, max_gap)
    for track in after.track_ids:
        own, new = before.of(track), after.of(track)
        for k in range(4):
            wanted = np.interp(new.frame, own.frame, own.xyxy[:, k].astype(np.float64))
            np.testing.assert_allclose(new.xyxy[:, k], wanted, rtol=1e-5)
    for frame, track, score in zip(after.frame[added], after.track_id[added], after.score[added], strict=True):
        own = before.of(track)
        end = int(np.searchsorted(own.frame, frame))
        nearer = min(frame - own.frame[end - 1], own.frame[end] - frame)
        assert score == pytest.approx(min(own.score[end - 1], own.score[end]) * 0.9**nearer, rel=1e-5)


def test_boxes_move_evenly_in_time() -> None:
    """Frame 1 comes late: three quarters of the time from frame 0 to frame 2 have passed."""
    line = Tracks.from_columns([0, 2], [4, 4], [[0, 0, 10, 10], [40, 0, 50, 10]], class_id=[3, 5])
    filled, _ = interpolate_gaps(line, times=[0.0, 0.3, 0.4, 9.0])
    np.testing.assert_allclose(filled.at(1).xyxy, [[30, 0, 40, 10]], rtol=1e-6)
    assert filled.at(1).class_id.tolist() == [3]
    assert interpolate_gaps(line)[0].at(1).xyxy.tolist() == [[20, 0, 30, 10]]


@pytest.mark.parametrize(
    ("times", "message"),
    [([0.0, 1.0], "reach frame 2, but there are times of 2"), ([0, 1, 1, 2], "frame 2 is not after")],
)
def test_times_that_cannot_be(times: list[float], message: str) -> None:
    line = Tracks.from_columns([0, 2], [4, 4], np.zeros((2, 4)))
    with pytest.raises(InputError, match=message):
        interpolate_gaps(line, times=times)


def test_a_negative_gap() -> None:
    with pytest.raises(SettingError, match="longest gap"):
        interpolate_gaps(Tracks.empty(), -1)


@given(KEYS, st.integers(0, 8), st.floats(0, 1))
def test_short_and_doubtful_tracks_go(keys: list[tuple[int, int]], min_length: int, min_mean_score: float) -> None:
    before = tracks(keys, with_masks=True)
    kept, gone = remove_short(before, min_length=min_length, min_mean_score=min_mean_score)
    wanted = [
        int(track)
        for track in before.track_ids
        if len(before.of(track)) < min_length or before.of(track).score.mean() < np.float32(min_mean_score) - 1e-6
    ]
    assert gone.tolist() == wanted
    assert kept.track_ids.tolist() == [track for track in before.track_ids.tolist() if track not in wanted]
    for track in kept.track_ids:
        np.testing.assert_array_equal(kept.of(track).xyxy, before.of(track).xyxy)


def walk(noise: float, frames: int = 60) -> tuple[Tracks, NDArray[np.float64]]:
    """Two objects on parabolas, with jitter; and where they really are."""
    frame = np.tile(np.arange(frames), 2)
    track = np.repeat([1, 2], frames)
    x = 5.0 * frame + 0.05 * (frame - 30) ** 2 * np.where(track == 1, 1, -1)
    true = np.stack([x, 2.0 * frame, x + 40 + 0.2 * frame, 2.0 * frame + 90], axis=1)
    jitter = noise * np.random.default_rng(1).standard_normal(true.shape)
    order = np.lexsort((track, frame))
    return Tracks.from_columns(frame, track, true + jitter), true[order]


def test_smoothing_takes_the_jitter_not_the_motion() -> None:
    exact, true = walk(0.0)
    np.testing.assert_allclose(smooth_tracks(exact, 9).xyxy, true, atol=1e-3)
    shaken, true = walk(3.0)
    smooth = smooth_tracks(shaken, 9)
    error, before = (np.sqrt(np.mean((t.xyxy - true) ** 2)) for t in (smooth, shaken))
    assert error < 0.65 * before
    for name in ("frame", "track_id", "score", "class_id"):
        np.testing.assert_array_equal(smooth.to_dict()[name], shaken.to_dict()[name])


def test_smoothing_stops_at_gaps_and_short_pieces() -> None:
    """A jump across a gap is no jitter; a piece of three frames says nothing about jitter."""
    frame = np.r_[0:10, 15:25, 40:43]
    left = np.r_[np.zeros(10), np.full(10, 500.0), [0, 50, 0]]
    track = Tracks.from_columns(frame, np.ones(23), np.stack([left, left * 0, left + 10, left * 0 + 10], axis=1))
    np.testing.assert_allclose(smooth_tracks(track, 7).xyxy, track.xyxy, atol=1e-3)


@given(KEYS, st.sampled_from([0, 5, 7, 11]))
def test_smooth_boxes_keep_a_size(keys: list[tuple[int, int]], window: int) -> None:
    before = tracks(keys, with_masks=True)
    after = smooth_tracks(before, window)
    assert len(after) == len(before)
    assert (after.xyxy[:, 2:] > after.xyxy[:, :2]).all()
    assert after.masks == before.masks


def test_a_sudden_change_of_size_does_not_turn_boxes_inside_out() -> None:
    width = np.r_[np.full(8, 2.0), np.full(8, 200.0)]
    boxes = np.stack([-width / 2, -width, width / 2, width], axis=1)
    smooth = smooth_tracks(Tracks.from_columns(np.arange(16), np.ones(16), boxes), 7)
    assert (smooth.xyxy[:, 2] - smooth.xyxy[:, 0]).min() >= 2 - 1e-5


def test_all_three_in_order() -> None:
    """A short track is judged by its observations, not by what interpolation would add."""
    short = [(0, 1), (9, 1)]
    long = [(f, 2) for f in range(12) if f not in (4, 5)]
    settings = RefinementSettings(interpolate_max_gap=8, min_track_length=3, smooth_window=5)
    refined = refine(tracks([*short, *long]), settings)
    assert refined.removed_ids.tolist() == [1]
    assert (refined.removed, refined.interpolated) == (1, 2)
    assert refined.tracks.frame[refined.is_interpolated].tolist() == [4, 5]
    assert refined.tracks.frame.tolist() == list(range(12))
    unsmoothed = refine(tracks([*short, *long]), settings.model_copy(update={"smooth_window": 0}))
    assert not np.allclose(refined.tracks.xyxy, unsmoothed.tracks.xyxy)


def test_nothing_by_default() -> None:
    before = tracks([(0, 1), (3, 1), (3, 2)])
    refined = refine(before, RefinementSettings())
    assert refined.tracks is before
    assert (refined.interpolated, refined.removed) == (0, 0)
    everything = RefinementSettings(interpolate_max_gap=5, min_track_length=2, smooth_window=5)
    assert len(refine(Tracks.empty(), everything).tracks) == 0


def test_scores_below_a_mean() -> None:
    given_tracks = Tracks.from_columns([0, 1, 0], [1, 1, 2], np.zeros((3, 4)), [0.1, 0.2, 0.9])
    assert refine(given_tracks, RefinementSettings(min_mean_score=0.5)).removed_ids.tolist() == [1]
    steady = Tracks.from_columns(
        [0, 1, 2], [1, 1, 1], np.zeros((3, 4)), [0.7, 0.7, 0.7]
    )  # in float32 a little less than 0.7
    assert refine(steady, RefinementSettings(min_mean_score=0.7)).removed == 0


@pytest.mark.parametrize(
    "wrong",
    [{"smooth_window": 4}, {"smooth_window": 3}, {"interpolate_max_gap": -1}, {"min_length": 3}],
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RefinementSettings(**wrong)
    if "smooth_window" in wrong:
        with pytest.raises(SettingError, match="give an odd number of frames from 5"):
            smooth_tracks(Tracks.empty(), wrong["smooth_window"])
