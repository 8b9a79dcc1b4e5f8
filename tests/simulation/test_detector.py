"""What a simulated detector reports."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.simulation.worlds import PERFECT, crowd
from trackweave.boxes import box_iou
from trackweave.errors import InputError, SettingError
from trackweave.simulation.motions_people import DanceMotion
from trackweave.simulation.motions_traffic import StreamMotion
from trackweave.simulation.sequence import SimulatedSequence, simulate
from trackweave.simulation.settings import DETECTORS, DetectorNoise, detector_noise


def seen(seed: int = 1, frames: int = 150, **noise: Any) -> SimulatedSequence:
    """Ten dancers as a detector sees them that is perfect but for some errors."""
    detector = DetectorNoise(**PERFECT.model_dump() | noise)
    return simulate(crowd(motion=DanceMotion(people=10), frames=frames, detector=detector), seed)


def test_the_perfect_detector_reports_the_truth() -> None:
    made = seen()
    assert len(made.frame) == len(made.truth)
    order = np.lexsort((made.gt_track_ids, made.frame))
    assert np.array_equal(
        made.gt_track_ids[order], made.truth.track_id[np.lexsort((made.truth.track_id, made.truth.frame))]
    )
    assert np.allclose(made.xyxy[order], made.truth.xyxy[np.lexsort((made.truth.track_id, made.truth.frame))])


def test_the_hidden_are_missed_more_often() -> None:
    made = seen(half_visibility=0.5, visibility_softness=0.1)
    found = set(zip(made.frame.tolist(), made.gt_track_ids.tolist(), strict=True))
    hit = np.array(
        [pair in found for pair in zip(made.truth.frame.tolist(), made.truth.track_id.tolist(), strict=True)]
    )
    visible = made.truth.visibility
    assert hit[visible > 0.9].mean() > 0.95
    assert hit[visible < 0.2].mean() < 0.15


def test_misses_last() -> None:
    def changes(seconds: float) -> int:
        made = seen(recall=0.7, miss_seconds=seconds, frames=300)
        rows = [made.frame[made.gt_track_ids == track] for track in range(1, 11)]
        return sum(int((np.diff(row) > 1).sum()) for row in rows)

    assert changes(1.0) < 0.5 * changes(0.0)


def test_scores_fall_with_visibility_and_low_ones_are_kept_back() -> None:
    made = seen(score=2.0, score_hidden=3.0, score_spread=0.3, floor=0.3)
    assert made.score.min() >= 0.3
    assert made.score[made.visibility > 0.9].mean() > made.score[made.visibility < 0.4].mean() + 0.15


def test_boxes_err_more_where_less_is_seen() -> None:
    made = seen(jitter=0.01, jitter_hidden=0.1, jitter_tail=0.0)
    rows = [
        np.flatnonzero((made.truth.frame == f) & (made.truth.track_id == i))[0]
        for f, i in zip(made.frame, made.gt_track_ids, strict=True)
    ]
    true = made.truth.xyxy[rows]
    size = np.sqrt((true[:, 2:] - true[:, :2]).prod(axis=1))[:, None]
    error = (made.xyxy - true) / size
    assert error[made.visibility > 0.95].std() == pytest.approx(0.01, rel=0.2)
    assert error[made.visibility < 0.3].std() > 0.05


def test_boxes_draw_back_to_what_is_visible() -> None:
    made, whole = seen(shrink=1.0), seen()
    area = [(one.xyxy[:, 2:] - one.xyxy[:, :2]).prod(axis=1)[one.visibility < 0.6].mean() for one in (made, whole)]
    assert area[0] < 0.9 * area[1]


def test_those_who_melt_are_one_box() -> None:
    made, whole = seen(merge=1.0), seen()
    assert len(made.frame) < 0.95 * len(whole.frame)
    wide = [np.quantile(one.xyxy[:, 2] - one.xyxy[:, 0], 0.9) for one in (made, whole)]
    assert wide[0] > wide[1]


def test_second_boxes_have_no_identity_and_fall_to_suppression() -> None:
    made = seen(doubles=0.5)
    second = made.gt_track_ids < 0
    assert second.mean() == pytest.approx(1 / 3, abs=0.05)
    assert len(seen(doubles=0.5, nms_iou=0.5).frame) < 0.85 * len(made.frame)
    strict = seen(doubles=0.5, nms_iou=0.5)
    for frame in strict.frames.tolist():
        overlap = box_iou(strict.at(frame).xyxy, strict.at(frame).xyxy)
        np.fill_diagonal(overlap, 0)
        assert overlap.max() <= 0.5 + 1e-5


def test_false_boxes_flicker_or_stay() -> None:
    flicker = seen(false_rate=2.0, false_near=0.0, false_seconds=0.0, frames=400)
    stay = seen(false_rate=2.0, false_near=0.0, false_seconds=1.0, frames=400)
    for made in (flicker, stay):
        assert (made.gt_track_ids < 0).sum() / len(made) == pytest.approx(2.0, rel=0.3)

    def lasting(made: SimulatedSequence) -> float:
        false = [made.xyxy[(made.frame == frame) & (made.gt_track_ids < 0)] for frame in range(400)]
        pairs = [box_iou(a, b).max(axis=1) > 0.5 for a, b in pairwise(false) if len(a) and len(b)]
        return float(np.concatenate(pairs).mean())

    assert lasting(flicker) < 0.2
    assert lasting(stay) > 0.8


def test_false_boxes_near_objects_overlap_them() -> None:
    made = seen(false_rate=2.0, false_near=1.0)
    best = [
        box_iou(found.xyxy[found.data["gt_track_id"] < 0], made.truth.at(frame).xyxy).max(axis=1)
        for frame, _, _, found in made
    ]
    assert (np.concatenate(best) > 0.1).mean() > 0.8


def test_nothing_to_see() -> None:
    nobody = crowd(motion=StreamMotion(people=0), detector=DETECTORS["everything"])
    made = simulate(nobody, 0)
    assert (len(made.frame), len(made.truth), len(made)) == (0, 0, 40)


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
