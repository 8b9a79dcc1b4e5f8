"""A fitted detector errs like the one that it was fitted on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from trackweave.errors import InputError
from trackweave.formats.tables import DetectionTable
from trackweave.simulation.detector_fit import fit_detector, fit_sequence
from trackweave.simulation.motions_traffic import CrowdSettings
from trackweave.simulation.presets import sample_settings
from trackweave.simulation.sequence import SimulatedSequence, simulate, write_mot_folder
from trackweave.simulation.settings import DETECTORS, DetectorNoise


def made_by(detector: str, regime: str, frames: int = 900) -> SimulatedSequence:
    how = sample_settings(np.random.default_rng(3), regime, frames=frames, detector=DETECTORS[detector])
    return simulate(how.model_copy(update={"skips": 0.0, "time_jitter": 0.0}), 3)


def chance(noise: DetectorNoise, visible: float) -> float:
    """That a large object is found."""
    return float(noise.recall * expit((visible - noise.half_visibility) / noise.visibility_softness))


def fitted(made: SimulatedSequence) -> DetectorNoise:
    table = DetectionTable(made.frame, made.xyxy, made.score, made.class_id)
    return fit_detector(table, made.truth, fps=made.fps, length=len(made))


@pytest.mark.parametrize(("detector", "regime"), [("strong", "dance"), ("weak", "street"), ("shaky", "sport")])
def test_numbers_come_back(detector: str, regime: str) -> None:
    known = DETECTORS[detector]
    found = fitted(made_by(detector, regime))
    assert found.recall == pytest.approx(known.recall, abs=0.05)
    for visible in (0.4, 0.6, 0.9):  # suppressed and melted boxes count as missed: the hidden come out worse
        assert chance(found, visible) == pytest.approx(chance(known, visible), abs=0.12)
    assert found.score == pytest.approx(known.score, abs=0.4)
    assert found.floor == pytest.approx(known.floor, abs=0.05)
    assert found.jitter == pytest.approx(known.jitter, rel=0.25)
    assert found.jitter_tail == pytest.approx(known.jitter_tail, abs=0.25)
    assert found.jitter_white == pytest.approx(known.jitter_white, abs=0.2)
    assert found.doubles == pytest.approx(known.doubles, abs=0.03)
    assert found.false_rate == pytest.approx(known.false_rate, rel=0.6)


@pytest.mark.parametrize(("detector", "regime"), [("strong", "dance"), ("weak", "street")])
def test_a_fit_sees_the_same_scene_alike(detector: str, regime: str) -> None:
    one = made_by(detector, regime)
    assert isinstance(one.settings, CrowdSettings)
    other = simulate(one.settings.model_copy(update={"detector": fitted(one)}), 3)
    assert np.array_equal(one.truth.xyxy, other.truth.xyxy)
    assert len(other.frame) == pytest.approx(len(one.frame), rel=0.08)
    assert np.median(other.score) == pytest.approx(float(np.median(one.score)), abs=0.05)
    assert np.mean(other.gt_track_ids < 0) == pytest.approx(float(np.mean(one.gt_track_ids < 0)), abs=0.05)


def test_a_sequence_folder_is_fitted(tmp_path: Path) -> None:
    made = made_by("driving", "traffic", frames=300)
    folder = write_mot_folder(made, tmp_path)
    found = fit_sequence(folder, class_id=3)
    assert found.floor == pytest.approx(0.4, abs=0.02)
    assert DetectorNoise.from_json(found.to_json()) == found


def test_detections_of_another_sequence_are_refused() -> None:
    made = made_by("strong", "dance", frames=60)
    table = DetectionTable(made.frame, made.xyxy + np.float32(5000), made.score, made.class_id, source="det.txt")
    with pytest.raises(InputError, match=r"det\.txt: 0 of \d+ detections match truth.*same sequence"):
        fit_detector(table, made.truth, fps=30)
    nobody = replace(table, **{name: getattr(table, name)[:0] for name in ("frame", "xyxy", "score", "class_id")})
    with pytest.raises(InputError, match="0 of 0"):
        fit_detector(nobody, made.truth, fps=30)
