"""A simulated sequence as a MOTChallenge folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.simulation.toy import toy_scene
from trackweave.errors import RunFolderError
from trackweave.formats.mot import read_ground_truth
from trackweave.formats.motchallenge import read_gmc, read_sequence
from trackweave.formats.readers import read_detections
from trackweave.simulation.camera import CameraSettings
from trackweave.simulation.presets import SceneSettings
from trackweave.simulation.sequence import simulate, write_mot_folder
from trackweave.simulation.settings import DETECTORS


def test_a_written_folder_is_read_back(tmp_path: Path) -> None:
    settings = toy_scene(detector=DETECTORS["strong"], camera=CameraSettings(sway=0.05), skips=0.2, frames=60, fps=12.5)
    video = simulate(settings, 7)
    folder = write_mot_folder(video, tmp_path)
    info = read_sequence(folder)
    assert (info.name, info.length, info.frame_rate, info.size) == (video.name, 60, 12.5, video.size)
    table = read_detections(info.detections(), class_column=8, length=60)
    assert np.array_equal(table.frame, video.frame)
    assert np.allclose(table.xyxy, video.xyxy, atol=0.02)
    assert np.allclose(table.score, video.score, atol=1e-4)
    assert np.array_equal(table.class_id, video.class_id)
    truth = read_ground_truth(folder)
    assert np.array_equal(truth.track_id, video.truth.track_id)
    assert np.allclose(truth.visibility, video.truth.visibility, atol=1e-3)
    assert video.camera is not None
    assert np.allclose(read_gmc(folder / "gmc.txt", 60)[video.frames], video.camera, atol=1e-4)
    assert SceneSettings.from_json((folder / "settings.json").read_text()) == settings


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    video = simulate(toy_scene(frames=5), 7)
    write_mot_folder(video, tmp_path)
    with pytest.raises(RunFolderError, match=f"{video.name}: exists already"):
        write_mot_folder(video, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written"):
        write_mot_folder(video, tmp_path / "file")
    withheld = simulate(toy_scene(frames=5, camera=CameraSettings(matrices="withheld")), 8)
    assert not (write_mot_folder(withheld, tmp_path) / "gmc.txt").exists()
