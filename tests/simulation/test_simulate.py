"""What holds for every simulated sequence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.worlds import crowd
from trackweave.errors import InputError, SettingError
from trackweave.simulation.camera import CameraSettings
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.motions_people import DanceMotion, SportMotion
from trackweave.simulation.motions_traffic import CrowdSettings, StreamMotion
from trackweave.simulation.presets import REGIMES, sample_settings
from trackweave.simulation.sequence import SimulatedSequence, simulate
from trackweave.structures.detections import GT_COLUMN

COLUMNS = ("frames", "times", "frame", "xyxy", "score", "class_id", "visibility", "gt_track_ids")


def same(one: SimulatedSequence, other: SimulatedSequence) -> bool:
    truths = zip(one.truth.__dict__.values(), other.truth.__dict__.values(), strict=True)
    columns = [(getattr(one, name), getattr(other, name)) for name in COLUMNS]
    cameras = (one.camera is None) == (other.camera is None)
    if one.camera is not None and other.camera is not None:
        columns.append((one.camera, other.camera))
    return cameras and all(np.array_equal(a, b) for a, b in [*columns, *truths])


@given(st.sampled_from(sorted(REGIMES)), st.integers(0, 2**31), st.integers(1, 60))
@settings(max_examples=40)
def test_every_crowd_is_sound(regime: str, seed: int, frames: int) -> None:
    how = sample_settings(np.random.default_rng(seed), regime, frames=frames)
    made = simulate(how, seed)
    assert same(made, simulate(how, seed))
    assert CrowdSettings.from_json(how.to_json()) == how
    assert made.frames[0] == 0
    assert (np.diff(made.frames) > 0).all()
    assert (np.diff(made.times) > 0).all()
    assert made.frames[-1] < frames
    high, wide = made.size
    for boxes in (made.xyxy, made.truth.xyxy):
        assert np.isfinite(boxes).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (np.abs(boxes) < 10 * max(high, wide)).all()
    assert ((made.score >= 0) & (made.score <= 1)).all()
    for shares in (made.visibility, made.truth.visibility):
        assert ((shares >= 0) & (shares <= 1)).all()
    assert np.isin(made.frame, made.frames).all()
    known = set(zip(made.truth.frame.tolist(), made.truth.track_id.tolist(), strict=True))
    assert len(known) == len(made.truth)
    shown = [pair for pair in zip(made.frame.tolist(), made.gt_track_ids.tolist(), strict=True) if pair[1] >= 0]
    assert len(set(shown)) == len(shown)
    assert set(shown) <= known
    if made.camera is not None:
        assert made.camera.shape == (len(made), 2, 3)
        assert np.isfinite(made.camera).all()


@pytest.mark.parametrize("regime", sorted(REGIMES))
def test_frames_hold_what_the_columns_hold(regime: str) -> None:
    how = sample_settings(np.random.default_rng(5), regime, frames=50)
    made = simulate(how.model_copy(update={"embedding": EmbeddingSettings(width=8)}), 5)
    seen = [found for _, _, _, found in made]
    assert len(seen) == len(made)
    assert np.array_equal(np.concatenate([found.xyxy for found in seen]), made.xyxy)
    assert np.array_equal(np.concatenate([found.data[GT_COLUMN] for found in seen]), made.gt_track_ids)
    assert made.embedding is not None
    assert np.array_equal(
        np.concatenate([found.embedding for found in seen if found.embedding is not None]), made.embedding
    )
    assert all((np.diff(found.score) <= 0).all() for found in seen)
    head = made.head(20)
    for place, frame in enumerate(made.frames[:20].tolist()):
        assert np.array_equal(head.at(frame).xyxy, seen[place].xyxy)
        assert np.array_equal(head.truth.at(frame).xyxy, made.truth.at(frame).xyxy)
    assert (len(head), head.frame.max() <= made.frames[19]) == (20, True)


def test_another_seed_is_another_crowd() -> None:
    assert not same(simulate(crowd(), 1), simulate(crowd(), 2))


def test_about_as_many_are_seen_as_were_asked_for() -> None:
    counts = [len(made.truth) / len(made) for made in (simulate(crowd(frames=150), seed) for seed in range(8))]
    assert 5 < np.mean(counts) < 12


def test_who_is_nearer_is_larger_and_stands_lower() -> None:
    made = simulate(crowd(frames=5), 3)
    truth = made.truth.at(0)
    foot, height = truth.xyxy[:, 3], truth.xyxy[:, 3] - truth.xyxy[:, 1]
    assert np.corrcoef(foot, height)[0, 1] > 0.8


@pytest.mark.parametrize(
    "camera",
    [
        CameraSettings(sway=0.1, matrix_noise=0),
        CameraSettings(shake=0.01, zoom=0.1, matrix_noise=0),
        CameraSettings(speed=1.0, distance=12, matrix_noise=0),
    ],
    ids=["pans", "shakes and zooms", "walks"],
)
def test_the_told_motion_takes_people_who_stand_along(camera: CameraSettings) -> None:
    still = StreamMotion(people=8, standing=1.0, near=10, far=14, obstacles=0)
    made = simulate(crowd(motion=still, camera=camera, frames=60), 4)
    assert made.camera is not None
    told, moved = [], []
    for before, frame in zip(made.frames[:-1].tolist(), made.frames[1:].tolist(), strict=True):
        one, other = made.truth.at(before), made.truth.at(frame)
        _, here, there = np.intersect1d(one.track_id, other.track_id, return_indices=True)
        feet = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (one.xyxy[here], other.xyxy[there])]
        matrix = made.camera[frame]
        told.append(np.abs(feet[0] @ matrix[:, :2].T + matrix[:, 2] - feet[1]))
        moved.append(np.abs(feet[0] - feet[1]))
    assert np.concatenate(told).mean() < 0.5 * np.concatenate(moved).mean()


def test_irregular_times_and_skipped_frames() -> None:
    made = simulate(crowd(frames=200, fps=10.0, skips=0.3, time_jitter=0.3), 1)
    assert 110 < len(made) < 170
    steps = np.diff(made.times)
    assert steps.min() < 0.09
    assert steps.max() > 0.19
    assert np.abs(made.times - made.frames / 10).max() <= 0.03 + 1e-9


def test_withheld_motion_and_clipped_boxes() -> None:
    made = simulate(crowd(camera=CameraSettings(sway=0.2, matrices="withheld"), clips=True, frames=80), 6)
    assert made.camera is None
    assert made.truth.xyxy.min() >= 0
    assert (made.truth.xyxy.max(axis=0) <= [1920, 1080, 1920, 1080]).all()


def test_dancers_pass_before_each_other_and_players_sprint() -> None:
    dance = simulate(crowd(motion=DanceMotion(people=10, change_seconds=2.0), frames=600), 2)
    assert (dance.truth.visibility < 0.5).mean() > 0.1
    assert len(np.unique(dance.truth.track_id)) == 10
    sport = simulate(crowd(motion=SportMotion(players=10), camera=CameraSettings(distance=25, height=6), frames=600), 2)
    one = sport.truth[sport.truth.track_id == sport.truth.track_id[0]]
    middle = (one.xyxy[:, 0] + one.xyxy[:, 2]) / 2 / (one.xyxy[:, 3] - one.xyxy[:, 1])
    assert np.abs(middle[15:] - middle[:-15]).max() > 0.5  # half a body's height in half a second, on the picture


def test_misuse_is_told_in_one_line() -> None:
    with pytest.raises(SettingError, match="seed: -1"):
        simulate(crowd(), -1)
    with pytest.raises(InputError, match=r"crowd\.json: motion"):
        CrowdSettings.from_json('{"motion": {"kind": "chess"}}', source="crowd.json")
    with pytest.raises(InputError, match=r"frames: .* greater than or equal to 1"):
        CrowdSettings.from_json('{"frames": 0}')
    with pytest.raises(InputError, match="near ≤ far"):
        CrowdSettings.from_json('{"motion": {"kind": "stream", "near": 30, "far": 5}}')
    with pytest.raises(InputError, match="Invalid JSON"):
        CrowdSettings.from_json("{")
