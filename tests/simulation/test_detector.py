"""Errors of a simulated detector."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.simulation.toy import PERFECT, toy_scene
from trackweave.boxes import box_iou
from trackweave.errors import InputError, SettingError
from trackweave.simulation.motions_people import DanceMotion
from trackweave.simulation.motions_traffic import StreamMotion
from trackweave.simulation.sequence import SimulatedSequence, simulate
from trackweave.simulation.settings import DETECTORS, DetectorNoise, detector_noise


def detected(seed: int = 1, frames: int = 150, **noise: Any) -> SimulatedSequence:
    """Ten dancers, detected without errors but for some."""
    detector = DetectorNoise(**PERFECT.model_dump() | noise)
    return simulate(toy_scene(motion=DanceMotion(people=10), frames=frames, detector=detector), seed)


def test_the_perfect_detector_reports_the_truth() -> None:
    video = detected()
    assert len(video.frame) == len(video.truth)
    order = np.lexsort((video.gt_track_ids, video.frame))
    assert np.array_equal(
        video.gt_track_ids[order],
        video.truth.track_id[np.lexsort((video.truth.track_id, video.truth.frame))],
    )
    assert np.allclose(video.xyxy[order], video.truth.xyxy[np.lexsort((video.truth.track_id, video.truth.frame))])


def test_hidden_objects_are_missed_more_often() -> None:
    video = detected(half_visibility=0.5, visibility_softness=0.1)
    pairs = set(zip(video.frame.tolist(), video.gt_track_ids.tolist(), strict=True))
    hit = np.array(
        [pair in pairs for pair in zip(video.truth.frame.tolist(), video.truth.track_id.tolist(), strict=True)]
    )
    visible = video.truth.visibility
    assert hit[visible > 0.9].mean() > 0.95
    assert hit[visible < 0.2].mean() < 0.15


def test_misses_last() -> None:
    def changes(seconds: float) -> int:
        video = detected(recall=0.7, miss_seconds=seconds, frames=300)
        rows = [video.frame[video.gt_track_ids == track] for track in range(1, 11)]
        return sum(int((np.diff(row) > 1).sum()) for row in rows)

    assert changes(1.0) < 0.5 * changes(0.0)


def test_scores_fall_with_visibility_and_low_ones_are_dropped() -> None:
    video = detected(score=2.0, score_hidden=3.0, score_spread=0.3, floor=0.3)
    assert video.score.min() >= 0.3
    assert video.score[video.visibility > 0.9].mean() > video.score[video.visibility < 0.4].mean() + 0.15


def test_boxes_of_hidden_objects_have_larger_errors() -> None:
    video = detected(jitter=0.01, jitter_hidden=0.1, jitter_tail=0.0)
    rows = [
        np.flatnonzero((video.truth.frame == f) & (video.truth.track_id == i))[0]
        for f, i in zip(video.frame, video.gt_track_ids, strict=True)
    ]
    true = video.truth.xyxy[rows]
    size = np.sqrt((true[:, 2:] - true[:, :2]).prod(axis=1))[:, None]
    error = (video.xyxy - true) / size
    assert error[video.visibility > 0.95].std() == pytest.approx(0.01, rel=0.2)
    assert error[video.visibility < 0.3].std() > 0.05


def test_boxes_shrink_to_the_visible_part() -> None:
    video, whole = detected(shrink=1.0), detected()
    area = [(one.xyxy[:, 2:] - one.xyxy[:, :2]).prod(axis=1)[one.visibility < 0.6].mean() for one in (video, whole)]
    assert area[0] < 0.9 * area[1]


def test_merged_objects_have_one_box() -> None:
    video, whole = detected(merge=1.0), detected()
    assert len(video.frame) < 0.95 * len(whole.frame)
    wide = [np.quantile(one.xyxy[:, 2] - one.xyxy[:, 0], 0.9) for one in (video, whole)]
    assert wide[0] > wide[1]


def test_duplicates_have_no_identity_and_are_suppressed() -> None:
    video = detected(duplicates=0.5)
    second = video.gt_track_ids < 0
    assert second.mean() == pytest.approx(1 / 3, abs=0.05)
    assert len(detected(duplicates=0.5, nms_iou=0.5).frame) < 0.85 * len(video.frame)
    strict = detected(duplicates=0.5, nms_iou=0.5)
    for frame in strict.frames.tolist():
        overlap = box_iou(strict.at(frame).xyxy, strict.at(frame).xyxy)
        np.fill_diagonal(overlap, 0)
        assert overlap.max() <= 0.5 + 1e-5


def test_false_positives_flicker_or_last() -> None:
    flicker = detected(false_rate=2.0, false_near=0.0, false_seconds=0.0, frames=400)
    stay = detected(false_rate=2.0, false_near=0.0, false_seconds=1.0, frames=400)
    for video in (flicker, stay):
        assert (video.gt_track_ids < 0).sum() / len(video) == pytest.approx(2.0, rel=0.3)

    def lasting(video: SimulatedSequence) -> float:
        false = [video.xyxy[(video.frame == frame) & (video.gt_track_ids < 0)] for frame in range(400)]
        pairs = [box_iou(a, b).max(axis=1) > 0.5 for a, b in pairwise(false) if len(a) and len(b)]
        return float(np.concatenate(pairs).mean())

    assert lasting(flicker) < 0.2
    assert lasting(stay) > 0.8


def test_false_positives_near_objects_overlap_them() -> None:
    video = detected(false_rate=2.0, false_near=1.0)
    best = [
        box_iou(detections.xyxy[detections.data["gt_track_id"] < 0], video.truth.at(frame).xyxy).max(axis=1)
        for frame, _, _, detections in video
    ]
    assert (np.concatenate(best) > 0.1).mean() > 0.8


def test_a_scene_without_objects() -> None:
    empty = toy_scene(motion=StreamMotion(people=0), detector=DETECTORS["everything"])
    video = simulate(empty, 0)
    assert (len(video.frame), len(video.truth), len(video)) == (0, 0, 40)


def test_detectors_by_name_and_from_a_file(tmp_path: Any) -> None:
    for name, noise in DETECTORS.items():
        assert detector_noise(name) is noise
        path = tmp_path / f"{name}.json"
        path.write_text(noise.to_json())
        assert detector_noise(path) == noise
    with pytest.raises(SettingError, match="no simulated detector 'stong'; known: strong"):
        detector_noise("stong")
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        detector_noise(tmp_path / "none.json")
    path = tmp_path / "bad.json"
    path.write_text('{"recal": 1}')
    with pytest.raises(InputError, match=r"bad\.json: recal: "):
        detector_noise(path)
    path.write_text('{"recall": 2}')
    with pytest.raises(InputError, match=r"bad\.json: recall: .* less than or equal to 1"):
        detector_noise(path)


def test_duplicates_have_another_name_in_files() -> None:
    noise = DetectorNoise.from_json('{"doubles": 0.3, "double_jitter": 0.2}')
    assert (noise.duplicates, noise.duplicate_jitter) == (0.3, 0.2)
    assert '"doubles": 0.3' in noise.to_json()
    assert DetectorNoise.from_json(noise.to_json()) == noise


def test_a_long_text_in_settings_is_named_in_short() -> None:
    with pytest.raises(InputError) as refused:
        DetectorNoise.from_json('{"miss": "\x5cu001b' + "x" * 90_000 + '"}', source="noise.json")
    assert len(str(refused.value)) < 400
    assert str(refused.value).isprintable()
