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
from trackweave.simulation.presets import SceneSettings, random_settings
from trackweave.simulation.sequence import SimulatedSequence, simulate, write_mot_folder
from trackweave.simulation.settings import DETECTORS, DetectorNoise


def detected_by(detector: str, regime: str, frames: int = 900) -> SimulatedSequence:
    settings = random_settings(np.random.default_rng(3), regime, frames=frames, detector=DETECTORS[detector])
    return simulate(settings.model_copy(update={"skips": 0.0, "time_jitter": 0.0}), 3)


def chance(noise: DetectorNoise, visible: float) -> float:
    """Probability that a large object is detected."""
    return float(noise.recall * expit((visible - noise.half_visibility) / noise.visibility_softness))


def fitted(video: SimulatedSequence) -> DetectorNoise:
    table = DetectionTable(video.frame, video.xyxy, video.score, video.class_id)
    return fit_detector(table, video.truth, fps=video.fps, length=len(video))


@pytest.mark.parametrize(("detector", "regime"), [("strong", "dance"), ("weak", "street"), ("shaky", "sport")])
def test_the_errors_of_a_detector_are_estimated(detector: str, regime: str) -> None:
    expected = DETECTORS[detector]
    estimated = fitted(detected_by(detector, regime))
    assert estimated.recall == pytest.approx(expected.recall, abs=0.05)
    for visible in (
        0.4,
        0.6,
        0.9,
    ):  # suppressed and merged boxes count as missed
        assert chance(estimated, visible) == pytest.approx(chance(expected, visible), abs=0.12)
    assert estimated.score == pytest.approx(expected.score, abs=0.4)
    assert estimated.floor == pytest.approx(expected.floor, abs=0.05)
    assert estimated.jitter == pytest.approx(expected.jitter, rel=0.25)
    assert estimated.jitter_tail == pytest.approx(expected.jitter_tail, abs=0.25)
    assert estimated.jitter_white == pytest.approx(expected.jitter_white, abs=0.2)
    assert estimated.duplicates == pytest.approx(expected.duplicates, abs=0.03)
    assert estimated.false_rate == pytest.approx(expected.false_rate, rel=0.6)


@pytest.mark.parametrize(("detector", "regime"), [("strong", "dance"), ("weak", "street")])
def test_a_fitted_detector_gives_similar_detections(detector: str, regime: str) -> None:
    one = detected_by(detector, regime)
    assert isinstance(one.settings, SceneSettings)
    other = simulate(one.settings.model_copy(update={"detector": fitted(one)}), 3)
    assert np.array_equal(one.truth.xyxy, other.truth.xyxy)
    assert len(other.frame) == pytest.approx(len(one.frame), rel=0.08)
    assert np.median(other.score) == pytest.approx(float(np.median(one.score)), abs=0.05)
    assert np.mean(other.gt_track_ids < 0) == pytest.approx(float(np.mean(one.gt_track_ids < 0)), abs=0.05)


def test_a_detector_is_fitted_on_a_sequence_folder(tmp_path: Path) -> None:
    video = detected_by("driving", "traffic", frames=300)
    folder = write_mot_folder(video, tmp_path)
    estimated = fit_sequence(folder, class_id=3)
    assert estimated.floor == pytest.approx(0.4, abs=0.02)
    assert DetectorNoise.from_json(estimated.to_json()) == estimated


def test_a_detector_whose_scores_are_percent_is_the_same_detector(tmp_path: Path) -> None:
    video = detected_by("driving", "traffic", frames=60)
    estimated = fit_sequence(write_mot_folder(video, tmp_path / "one"))
    folder = write_mot_folder(video, tmp_path / "two")
    det = folder / "det" / "det.txt"
    fields = [line.split(",") for line in det.read_text().splitlines()]
    det.write_text("".join(",".join([*row[:6], f"{100 * float(row[6]):.6f}", *row[7:]]) + "\n" for row in fields))
    other = fit_sequence(folder)
    for name, value in estimated.model_dump().items():
        assert getattr(other, name) == pytest.approx(value, rel=1e-3, abs=1e-3), name


def test_detections_of_another_sequence_are_refused() -> None:
    video = detected_by("strong", "dance", frames=60)
    table = DetectionTable(video.frame, video.xyxy + np.float32(5000), video.score, video.class_id, source="det.txt")
    with pytest.raises(InputError, match=r"det\.txt: 0 of \d+ detections match truth.*same sequence"):
        fit_detector(table, video.truth, fps=30)
    empty = replace(table, **{name: getattr(table, name)[:0] for name in ("frame", "xyxy", "score", "class_id")})
    with pytest.raises(InputError, match="0 of 0"):
        fit_detector(empty, video.truth, fps=30)
