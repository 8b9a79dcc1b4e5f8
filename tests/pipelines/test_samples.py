"""Simulated crowds as samples, folders and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trackweave.association.inspection import inspect_samples
from trackweave.association.settings import LogSettings, ScorerSettings
from trackweave.errors import ArtifactError, InputError, SettingError
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.samples import build_samples, crowds, recorded_people, remix_samples, simulate_samples
from trackweave.simulation.settings import DETECTORS
from trackweave.storage.samples import read_sample


def test_samples_with_truth(tmp_path: Path) -> None:
    built = simulate_samples(tmp_path / "log", frames=100, sequence_frames=50, seed=2, regime="dance", embed_dim=4)
    assert all(one.frames <= 50 for one in built)
    assert len({one.sequence for one in built}) == 2
    report = inspect_samples(tmp_path / "log")
    assert report.usable
    assert set(report.label_sources) == {"simulated"}
    sample = read_sample(tmp_path / "log" / "sample_0000005.npz")
    assert sample.gt_track_ids is not None
    assert (sample.gt_track_ids > 0).any()


def test_the_same_seed_logs_the_same(tmp_path: Path) -> None:
    for name in ("one", "other"):
        simulate_samples(tmp_path / name, frames=30, seed=4, regime="sport", embed_dim=4)
    names = sorted(path.name for path in (tmp_path / "one").glob("*.npz"))
    assert names
    for name in names:
        one, other = (read_sample(tmp_path / folder / name) for folder in ("one", "other"))
        assert np.array_equal(one.det_features, other.det_features)
        assert np.array_equal(one.assigned_track_ids, other.assigned_track_ids)


def test_a_sequence_does_not_depend_on_those_that_follow() -> None:
    one, other = (list(crowds(frames, sequence_frames=20, seed=1)) for frames in (40, 80))
    for a, b in zip(one, other, strict=False):
        assert np.array_equal(a.xyxy, b.xyxy)
    assert [made.settings.frames for made in crowds(50, sequence_frames=20)] == [20, 20, 10]


def test_folders_are_built_from_again(tmp_path: Path) -> None:
    simulate_samples(None, frames=60, sequence_frames=30, mot=tmp_path / "mot", picture=tmp_path / "seen.png")
    assert (tmp_path / "seen.png").stat().st_size > 1000
    built = build_samples([tmp_path / "mot"], tmp_path / "log", by="sequence", embed_dim=4)
    assert len(built) == 2
    assert {path.name for path in (tmp_path / "log").iterdir()} == {one.sequence for one in built}


def test_truth_alone_is_enough_with_a_simulated_detector(tmp_path: Path) -> None:
    simulate_samples(None, frames=40, mot=tmp_path / "mot", regime="street", seed=3)
    (folder,) = (tmp_path / "mot").iterdir()
    (folder / "det" / "det.txt").unlink()
    first, second = (
        build_samples([folder], tmp_path / name, simulated=DETECTORS["shaky"], seed=1, embed_dim=4)[0]
        for name in ("one", "other")
    )
    assert (first.detections, first.identified) == (second.detections, second.identified)
    assert first.identified > 0.7 * first.detections
    with pytest.raises(SettingError, match="and a simulated detector are given"):
        build_samples([folder], tmp_path / "log", detections="det", simulated=DETECTORS["shaky"])


def test_misuse() -> None:
    with pytest.raises(SettingError, match="nothing is asked for"):
        simulate_samples(None, frames=10)
    with pytest.raises(SettingError, match=r"overview\.png"):
        simulate_samples(None, frames=10, picture="seen.svg")
    with pytest.raises(SettingError, match="frames: 0, at least 1"):
        list(crowds(0))
    with pytest.raises(SettingError, match="seed: -1, at least 0"):
        list(crowds(10, seed=-1))


def test_classes_of_the_truth_are_read_from_the_detections(tmp_path: Path) -> None:
    """Cars and people: a detection that is called by the other's class is given nobody's identity."""
    simulate_samples(None, frames=60, mot=tmp_path / "mot", regime="traffic", detector=DETECTORS["perfect"], seed=9)
    (folder,) = (tmp_path / "mot").iterdir()
    file = folder / "det" / "det.txt"
    truth = folder / "gt" / "gt.txt"
    truth.write_text(truth.read_text() + "1,-1,5,5,20,20,0,13,0\n")  # a region that shows nobody, as in KITTI's
    (right,) = build_samples([folder], tmp_path / "right", embed_dim=4)
    rows = [line.split(",") for line in file.read_text().splitlines()]
    file.write_text("".join(",".join([*row[:7], "4", *row[8:]]) + "\n" for row in rows))
    (wrong,) = build_samples([folder], tmp_path / "wrong", embed_dim=4)
    assert right.identified > 0.9 * right.detections
    assert wrong.identified < 0.5 * right.identified


def test_people_of_a_log_and_of_the_truth_are_put_together(tmp_path: Path) -> None:
    simulate_samples(
        tmp_path / "log", frames=240, sequence_frames=120, seed=5, regime="dance", embed_dim=1, mot=tmp_path / "mot"
    )
    for name, source in (("of-log", tmp_path / "log"), ("of-truth", tmp_path / "mot")):
        people = recorded_people([source])
        assert len(people) == 2
        seen = tmp_path / f"{name}.png"
        built = remix_samples(people, tmp_path / name, frames=100, scene_frames=60, embed_dim=1, picture=seen)
        assert seen.stat().st_size > 1000
        assert sum(one.frames for one in built) >= 100
        assert sum(one.identified for one in built) > 0.5 * sum(one.detections for one in built)
        report = inspect_samples(tmp_path / name)
        assert report.usable
        assert set(report.label_sources) == {"simulated"}


def test_the_same_seed_remixes_the_same(tmp_path: Path) -> None:
    simulate_samples(tmp_path / "log", frames=120, sequence_frames=120, seed=5, regime="dance", embed_dim=1)
    (tmp_path / "log" / "sample_0000000.npz").unlink()  # the first is no longer needed
    people = recorded_people([tmp_path / "log"])
    for name in ("one", "other"):
        remix_samples(people, tmp_path / name, frames=40, scene_frames=40, tracker="adaptive", embed_dim=1)
    one, other = (read_sample(tmp_path / folder / "sample_0000009.npz") for folder in ("one", "other"))
    assert np.array_equal(one.det_features, other.det_features)


def test_a_log_that_a_scorer_decided_in_is_refused(tmp_path: Path) -> None:
    simulate_samples(None, frames=80, mot=tmp_path / "mot", regime="dance", seed=3)
    (sequence,) = (tmp_path / "mot").iterdir()
    track_boxes(
        sequence,
        tmp_path / "run",
        tracker="learned",
        scorer=ScorerSettings(enabled=True),
        log=LogSettings(dir=tmp_path / "log"),
        overlay=False,
    )
    with pytest.raises(SettingError, match="a model would learn from itself"):
        recorded_people([tmp_path / "log"])
    assert len(recorded_people([tmp_path / "log"], allow_blended=True)) == 1


def test_videos_without_people_are_named(tmp_path: Path) -> None:
    simulate_samples(tmp_path / "log", frames=20, seed=5, regime="dance", embed_dim=1)
    with pytest.raises(ArtifactError, match="for two seconds at least"):
        recorded_people([tmp_path / "log"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: neither .* nor one of samples"):
        recorded_people([tmp_path / "log", tmp_path / "empty"])
