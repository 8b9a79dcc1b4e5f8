"""Properties of every simulated sequence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.toy import toy_scene
from trackweave.errors import InputError, SettingError
from trackweave.simulation.camera import CameraSettings
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.motions_people import DanceMotion, SportMotion
from trackweave.simulation.motions_traffic import StreamMotion
from trackweave.simulation.presets import REGIMES, SceneSettings, random_settings
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
def test_every_sequence_is_consistent(regime: str, seed: int, frames: int) -> None:
    settings = random_settings(np.random.default_rng(seed), regime, frames=frames)
    video = simulate(settings, seed)
    assert same(video, simulate(settings, seed))
    assert SceneSettings.from_json(settings.to_json()) == settings
    assert video.frames[0] == 0
    assert (np.diff(video.frames) > 0).all()
    assert (np.diff(video.times) > 0).all()
    assert video.frames[-1] < frames
    high, wide = video.size
    for boxes in (video.xyxy, video.truth.xyxy):
        assert np.isfinite(boxes).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (np.abs(boxes) < 10 * max(high, wide)).all()
    assert ((video.score >= 0) & (video.score <= 1)).all()
    for shares in (video.visibility, video.truth.visibility):
        assert ((shares >= 0) & (shares <= 1)).all()
    assert np.isin(video.frame, video.frames).all()
    true_pairs = set(zip(video.truth.frame.tolist(), video.truth.track_id.tolist(), strict=True))
    assert len(true_pairs) == len(video.truth)
    detected_pairs = [
        pair for pair in zip(video.frame.tolist(), video.gt_track_ids.tolist(), strict=True) if pair[1] >= 0
    ]
    assert len(set(detected_pairs)) == len(detected_pairs)
    assert set(detected_pairs) <= true_pairs
    if video.camera is not None:
        assert video.camera.shape == (len(video), 2, 3)
        assert np.isfinite(video.camera).all()


@pytest.mark.parametrize("regime", sorted(REGIMES))
def test_frames_have_the_values_of_the_columns(regime: str) -> None:
    settings = random_settings(np.random.default_rng(5), regime, frames=50)
    video = simulate(settings.model_copy(update={"embedding": EmbeddingSettings(width=8)}), 5)
    frames = [detections for _, _, _, detections in video]
    assert len(frames) == len(video)
    assert np.array_equal(np.concatenate([detections.xyxy for detections in frames]), video.xyxy)
    assert np.array_equal(np.concatenate([detections.data[GT_COLUMN] for detections in frames]), video.gt_track_ids)
    assert video.embedding is not None
    assert np.array_equal(
        np.concatenate([detections.embedding for detections in frames if detections.embedding is not None]),
        video.embedding,
    )
    assert all((np.diff(detections.score) <= 0).all() for detections in frames)
    head = video.head(20)
    for position, frame in enumerate(video.frames[:20].tolist()):
        assert np.array_equal(head.at(frame).xyxy, frames[position].xyxy)
        assert np.array_equal(head.truth.at(frame).xyxy, video.truth.at(frame).xyxy)
    assert (len(head), head.frame.max() <= video.frames[19]) == (20, True)


def test_another_seed_gives_another_sequence() -> None:
    assert not same(simulate(toy_scene(), 1), simulate(toy_scene(), 2))


def test_the_mean_number_of_objects_is_that_of_the_settings() -> None:
    counts = [len(video.truth) / len(video) for video in (simulate(toy_scene(frames=150), seed) for seed in range(8))]
    assert 5 < np.mean(counts) < 12


def test_nearer_objects_are_larger_and_lower_in_the_image() -> None:
    video = simulate(toy_scene(frames=5), 3)
    truth = video.truth.at(0)
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
def test_the_camera_motion_moves_people_who_stand(camera: CameraSettings) -> None:
    still = StreamMotion(people=8, standing=1.0, near=10, far=14, obstacles=0)
    video = simulate(toy_scene(motion=still, camera=camera, frames=60), 4)
    assert video.camera is not None
    residuals, distances = [], []
    for before, frame in zip(video.frames[:-1].tolist(), video.frames[1:].tolist(), strict=True):
        one, other = video.truth.at(before), video.truth.at(frame)
        _, here, there = np.intersect1d(one.track_id, other.track_id, return_indices=True)
        feet = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (one.xyxy[here], other.xyxy[there])]
        matrix = video.camera[frame]
        residuals.append(np.abs(feet[0] @ matrix[:, :2].T + matrix[:, 2] - feet[1]))
        distances.append(np.abs(feet[0] - feet[1]))
    assert np.concatenate(residuals).mean() < 0.5 * np.concatenate(distances).mean()


def test_irregular_times_and_skipped_frames() -> None:
    video = simulate(toy_scene(frames=200, fps=10.0, skips=0.3, time_jitter=0.3), 1)
    assert 110 < len(video) < 170
    steps = np.diff(video.times)
    assert steps.min() < 0.09
    assert steps.max() > 0.19
    assert np.abs(video.times - video.frames / 10).max() <= 0.03 + 1e-9


def test_withheld_motion_and_clipped_boxes() -> None:
    video = simulate(toy_scene(camera=CameraSettings(sway=0.2, matrices="withheld"), clips=True, frames=80), 6)
    assert video.camera is None
    assert video.truth.xyxy.min() >= 0
    assert (video.truth.xyxy.max(axis=0) <= [1920, 1080, 1920, 1080]).all()


def test_dancers_occlude_each_other_and_players_sprint() -> None:
    dance = simulate(toy_scene(motion=DanceMotion(people=10, change_seconds=2.0), frames=600), 2)
    assert (dance.truth.visibility < 0.5).mean() > 0.1
    assert len(np.unique(dance.truth.track_id)) == 10
    sport = simulate(
        toy_scene(motion=SportMotion(players=10), camera=CameraSettings(distance=25, height=6), frames=600), 2
    )
    one = sport.truth[sport.truth.track_id == sport.truth.track_id[0]]
    middle = (one.xyxy[:, 0] + one.xyxy[:, 2]) / 2 / (one.xyxy[:, 3] - one.xyxy[:, 1])
    assert np.abs(middle[15:] - middle[:-15]).max() > 0.5  # half a body's height in half a second


def test_invalid_settings_are_refused_in_one_line() -> None:
    with pytest.raises(SettingError, match="seed: -1"):
        simulate(toy_scene(), -1)
    with pytest.raises(InputError, match=r"scene\.json: motion"):
        SceneSettings.from_json('{"motion": {"kind": "chess"}}', source="scene.json")
    with pytest.raises(InputError, match=r"frames: .* greater than or equal to 1"):
        SceneSettings.from_json('{"frames": 0}')
    with pytest.raises(InputError, match="near ≤ far"):
        SceneSettings.from_json('{"motion": {"kind": "stream", "near": 30, "far": 5}}')
    with pytest.raises(InputError, match="Invalid JSON"):
        SceneSettings.from_json("{")
