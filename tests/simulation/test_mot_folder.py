"""A simulated sequence as a MOTChallenge folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.simulation.worlds import crowd
from trackweave.errors import RunFolderError
from trackweave.formats.detections import read_detections
from trackweave.formats.mot import read_ground_truth
from trackweave.formats.motchallenge import read_gmc, read_sequence
from trackweave.simulation.camera import CameraSettings
from trackweave.simulation.motions_traffic import CrowdSettings
from trackweave.simulation.sequence import simulate, write_mot_folder
from trackweave.simulation.settings import DETECTORS


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    how = crowd(detector=DETECTORS["strong"], camera=CameraSettings(sway=0.05), skips=0.2, frames=60, fps=12.5)
    made = simulate(how, 7)
    folder = write_mot_folder(made, tmp_path)
    info = read_sequence(folder)
    assert (info.name, info.length, info.frame_rate, info.size) == (made.name, 60, 12.5, made.size)
    table = read_detections(info.detections(), class_column=8, length=60)
    assert np.array_equal(table.frame, made.frame)
    assert np.allclose(table.xyxy, made.xyxy, atol=0.02)
    assert np.allclose(table.score, made.score, atol=1e-4)
    assert np.array_equal(table.class_id, made.class_id)
    truth = read_ground_truth(folder)
    assert np.array_equal(truth.track_id, made.truth.track_id)
    assert np.allclose(truth.visibility, made.truth.visibility, atol=1e-3)
    assert made.camera is not None
    assert np.allclose(read_gmc(folder / "gmc.txt", 60)[made.frames], made.camera, atol=1e-4)
    assert CrowdSettings.from_json((folder / "settings.json").read_text()) == how


def test_nothing_is_written_over(tmp_path: Path) -> None:
    made = simulate(crowd(frames=5), 7)
    write_mot_folder(made, tmp_path)
    with pytest.raises(RunFolderError, match=f"{made.name}: exists already"):
        write_mot_folder(made, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written"):
        write_mot_folder(made, tmp_path / "file")
    withheld = simulate(crowd(frames=5, camera=CameraSettings(matrices="withheld")), 8)
    assert not (write_mot_folder(withheld, tmp_path) / "gmc.txt").exists()
