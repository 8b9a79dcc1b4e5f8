"""Simulated and re-simulated sequences as samples, folders and previews."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from trackweave.association.inspection import inspect_samples
from trackweave.association.settings import LogSettings, ScorerSettings
from trackweave.errors import ArtifactError, InputError, SettingError
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.samples import (
    SimulatedDetector,
    build_samples,
    read_trajectories,
    resimulate_samples,
    simulate_samples,
    simulated_sequences,
)
from trackweave.pipelines.settings import RemixSettings, SimulateSettings
from trackweave.simulation.settings import DETECTORS
from trackweave.storage.samples import read_sample


def test_samples_with_truth(tmp_path: Path) -> None:
    built = simulate_samples(
        SimulateSettings(frames=100, seed=2, regime="dance", sequence_frames=50), tmp_path / "log", embed_dim=4
    )
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
        simulate_samples(SimulateSettings(frames=30, seed=4, regime="sport"), tmp_path / name, embed_dim=4)
    names = sorted(path.name for path in (tmp_path / "one").glob("*.npz"))
    assert names
    for name in names:
        one, other = (read_sample(tmp_path / folder / name) for folder in ("one", "other"))
        assert np.array_equal(one.det_features, other.det_features)
        assert np.array_equal(one.assigned_track_ids, other.assigned_track_ids)


def test_a_sequence_does_not_depend_on_later_ones() -> None:
    one, other = (
        list(simulated_sequences(SimulateSettings(frames=frames, seed=1, sequence_frames=20))) for frames in (40, 80)
    )
    for a, b in zip(one, other, strict=False):
        assert np.array_equal(a.xyxy, b.xyxy)
    shorter = simulated_sequences(SimulateSettings(frames=50, sequence_frames=20))
    assert [sequence.settings.frames for sequence in shorter] == [20, 20, 10]


def test_samples_are_built_from_written_folders(tmp_path: Path) -> None:
    simulate_samples(
        SimulateSettings(frames=60, sequence_frames=30), mot=tmp_path / "mot", preview=tmp_path / "preview.png"
    )
    assert (tmp_path / "preview.png").stat().st_size > 1000
    built = build_samples([tmp_path / "mot"], tmp_path / "log", by="sequence", embed_dim=4)
    assert len(built) == 2
    assert {path.name for path in (tmp_path / "log").iterdir()} == {one.sequence for one in built}
    again = build_samples([tmp_path / "mot"], tmp_path / "log", by="sequence", embed_dim=4, overwrite=True)
    for one in again:
        assert len(list(one.directory.glob("sample_*.npz"))) == one.samples


@pytest.mark.parametrize("by", [None, "sequence"])
def test_samples_are_only_removed_when_every_sequence_can_be_used(
    tmp_path: Path, by: Literal["sequence"] | None
) -> None:
    simulate_samples(SimulateSettings(frames=20, sequence_frames=10), mot=tmp_path / "mot")
    build_samples([tmp_path / "mot"], tmp_path / "log", by=by, embed_dim=4)
    before = {path: path.read_bytes() for path in (tmp_path / "log").rglob("*") if path.is_file()}
    last = sorted((tmp_path / "mot").iterdir())[-1]
    (last / "det" / "det.txt").write_text("no detection\n")
    with pytest.raises(InputError, match=last.name):
        build_samples([tmp_path / "mot"], tmp_path / "log", by=by, embed_dim=4, overwrite=True)
    assert {path: path.read_bytes() for path in (tmp_path / "log").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("by", ["sequence", "video"])
@pytest.mark.parametrize("name", ["../../outside", "..", "{tmp}/outside", "../x_c001", "."])
def test_a_sequence_whose_name_leads_out_of_the_folder_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, by: Literal["sequence", "video"]
) -> None:
    simulate_samples(SimulateSettings(frames=20, sequence_frames=10), mot=tmp_path / "mot")
    folder = sorted((tmp_path / "mot").iterdir())[-1]
    info = (folder / "seqinfo.ini").read_text().replace(folder.name, name.replace("{tmp}", str(tmp_path)))
    (folder / "seqinfo.ini").write_text(info)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"seqinfo\.ini: name .* cannot be the name of a file or folder"):
        build_samples([tmp_path / "mot"], tmp_path / "a" / "b" / "log", by=by, embed_dim=4)
    assert sorted(tmp_path.rglob("*")) == before


def test_detections_are_simulated_on_the_truth(tmp_path: Path) -> None:
    simulate_samples(SimulateSettings(frames=40, seed=3, regime="street"), mot=tmp_path / "mot")
    (folder,) = (tmp_path / "mot").iterdir()
    (folder / "det" / "det.txt").unlink()
    first, second = (
        build_samples([folder], tmp_path / name, detections=SimulatedDetector(DETECTORS["shaky"], 1), embed_dim=4)[0]
        for name in ("one", "other")
    )
    assert (first.detections, first.identified) == (second.detections, second.identified)
    assert first.identified > 0.7 * first.detections


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(SettingError, match="nothing is asked for"):
        simulate_samples(SimulateSettings(frames=10))
    with pytest.raises(SettingError, match=r"preview\.png"):
        simulate_samples(SimulateSettings(frames=10), preview="preview.svg")
    with pytest.raises(SettingError, match=r"frames: .*, not 0"):
        SimulateSettings.checked(frames=0)
    with pytest.raises(SettingError, match=r"seed: .*, not -1"):
        SimulateSettings.checked(seed=-1)


def test_detections_of_another_class_have_no_identity(tmp_path: Path) -> None:
    """Cars and people: a detection of the other's class has no identity."""
    simulate_samples(SimulateSettings(frames=60, seed=9, regime="traffic", detector="perfect"), mot=tmp_path / "mot")
    (folder,) = (tmp_path / "mot").iterdir()
    file = folder / "det" / "det.txt"
    truth = folder / "gt" / "gt.txt"
    truth.write_text(truth.read_text() + "1,-1,5,5,20,20,0,13,0\n")  # a region without identity, as KITTI has
    (right,) = build_samples([folder], tmp_path / "right", embed_dim=4)
    rows = [line.split(",") for line in file.read_text().splitlines()]
    file.write_text("".join(",".join([*row[:7], "4", *row[8:]]) + "\n" for row in rows))
    (wrong,) = build_samples([folder], tmp_path / "wrong", embed_dim=4)
    assert right.identified > 0.9 * right.detections
    assert wrong.identified < 0.5 * right.identified


def test_trajectories_of_a_log_and_of_the_truth_are_resimulated(tmp_path: Path) -> None:
    plan = SimulateSettings(frames=240, seed=5, regime="dance", sequence_frames=120)
    simulate_samples(plan, tmp_path / "log", embed_dim=1, mot=tmp_path / "mot")
    for name, source in (("of-log", tmp_path / "log"), ("of-truth", tmp_path / "mot")):
        videos = read_trajectories([source])
        assert len(videos) == 2
        preview = tmp_path / f"{name}.png"
        scenes = RemixSettings(frames=100, scene_frames=60)
        built = resimulate_samples(videos, scenes, tmp_path / name, embed_dim=1, preview=preview)
        assert preview.stat().st_size > 1000
        assert sum(one.frames for one in built) >= 100
        assert sum(one.identified for one in built) > 0.5 * sum(one.detections for one in built)
        report = inspect_samples(tmp_path / name)
        assert report.usable
        assert set(report.label_sources) == {"simulated"}


def test_the_same_seed_resimulates_the_same(tmp_path: Path) -> None:
    plan = SimulateSettings(frames=120, seed=5, regime="dance", sequence_frames=120)
    simulate_samples(plan, tmp_path / "log", embed_dim=1)
    (tmp_path / "log" / "sample_0000000.npz").unlink()  # the first is no longer needed
    videos = read_trajectories([tmp_path / "log"])
    scenes = RemixSettings(frames=40, scene_frames=40)
    for name in ("one", "other"):
        resimulate_samples(videos, scenes, tmp_path / name, tracker="adaptive", embed_dim=1)
    one, other = (read_sample(tmp_path / folder / "sample_0000009.npz") for folder in ("one", "other"))
    assert np.array_equal(one.det_features, other.det_features)


def test_trajectories_of_a_learned_scorer_are_refused(tmp_path: Path) -> None:
    simulate_samples(SimulateSettings(frames=80, seed=3, regime="dance"), mot=tmp_path / "mot")
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
        read_trajectories([tmp_path / "log"])
    assert len(read_trajectories([tmp_path / "log"], allow_blended=True)) == 1


def test_videos_without_trajectories_are_refused(tmp_path: Path) -> None:
    simulate_samples(SimulateSettings(frames=20, seed=5, regime="dance"), tmp_path / "log", embed_dim=1)
    with pytest.raises(ArtifactError, match="at least two seconds"):
        read_trajectories([tmp_path / "log"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: neither .* nor one of samples"):
        read_trajectories([tmp_path / "log", tmp_path / "empty"])
