"""From sample folders to batches."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.association.small_training import sample_folder, training_set
from tests.association.toy import toy_sample
from trackweave.association.dataset import TrainingSet, load_samples
from trackweave.association.labels import UNKNOWN
from trackweave.association.logged_samples import BLENDED, read_samples
from trackweave.association.settings import DataSettings
from trackweave.association.training.batches import iterate_batches
from trackweave.errors import ArtifactError, ArtifactVersionError, SettingError
from trackweave.storage.sample_folder import SampleFolder
from trackweave.storage.samples import SampleMetadata, encode_sample, read_sample


def first_samples(folder: Path, count: int = 30) -> list[Path]:
    paths = sorted(sample_folder().glob("sample_*.npz"))[:count]
    folder.mkdir(exist_ok=True)
    return [Path(shutil.copy(path, folder)) for path in paths]


def rewrite(path: Path, **metadata: object) -> None:
    sample = read_sample(path)
    path.write_bytes(encode_sample(replace(sample, metadata=replace(sample.metadata, **metadata))))  # type: ignore[arg-type]


def test_samples_become_frames_of_videos() -> None:
    data = training_set()
    assert len(data.sequences) == 4
    assert len(data) == data.metadata["samples"] > 100
    assert data.matched_pairs > 200
    assert data.metadata["label_sources"] == ["simulated"]
    assert sum(len(data.frames_of([name])) for name in data.sequences) == len(data)


@given(seed=st.integers(0, 100), count=st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_a_batch_concatenates_its_frames(seed: int, count: int) -> None:
    data = training_set()
    frames = np.random.default_rng(seed).choice(len(data), count, replace=False)
    batch, targets = data.take(frames)
    row = pair = det = 0
    for number, frame in enumerate(frames.tolist()):
        alone, right = data.take(np.array([frame]))
        rows, dets, pairs = (
            slice(row, row + len(alone.counts)),
            slice(det, det + len(alone.det_scores)),
            slice(pair, pair + len(alone.pairs)),
        )
        np.testing.assert_array_equal(batch.boxes[rows], alone.boxes)
        np.testing.assert_array_equal(batch.det_boxes[dets], alone.det_boxes)
        np.testing.assert_array_equal(batch.pairs[pairs], alone.pairs + np.array([row, det]))
        assert (batch.track_frame[rows] == number).all()
        shifted = np.where(right.tracks >= 0, right.tracks + pair, right.tracks)
        np.testing.assert_array_equal(targets.tracks[rows], shifted)
        row, det, pair = rows.stop, dets.stop, pairs.stop
    assert (row, det, pair) == (len(batch.counts), len(batch.det_scores), len(batch.pairs))


def test_targets_are_rows_of_the_own_pairs() -> None:
    data = training_set()
    batch, targets = data.take(np.arange(len(data)))
    tracks = np.flatnonzero(targets.tracks >= 0)
    dets = np.flatnonzero(targets.detections >= 0)
    np.testing.assert_array_equal(batch.pairs[targets.tracks[tracks], 0], tracks)
    np.testing.assert_array_equal(batch.pairs[targets.detections[dets], 1], dets)


def test_concatenated_videos_of_one_name_are_one() -> None:
    one = training_set()
    both = TrainingSet.concat([one, one])
    assert both.sequences == one.sequences
    assert len(both) == 2 * len(one)
    assert len(both.frames_of([one.sequences[1]])) == 2 * len(one.frames_of([one.sequences[1]]))
    frames = np.array([3, 17])
    (batch, targets), (again, right) = one.take(frames), both.take(frames + len(one))
    for name, array in batch.arrays().items():
        np.testing.assert_array_equal(array, getattr(again, name))
    np.testing.assert_array_equal(targets.tracks, right.tracks)
    with pytest.raises(ValueError, match="no training sets"):
        TrainingSet.concat([])


def test_an_epoch_has_every_frame_once() -> None:
    sizes = np.random.default_rng(0).integers(2, 50, 500)
    frames = np.arange(100, 500)
    drawn = list(iterate_batches(frames, sizes, 16, np.random.default_rng(1)))
    np.testing.assert_array_equal(np.sort(np.concatenate(drawn)), frames)
    assert max(map(len, drawn)) <= 24
    again = list(iterate_batches(frames, sizes, 16, np.random.default_rng(1)))
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_a_saved_training_set_is_loaded_unchanged(tmp_path: Path) -> None:
    training_set().save(tmp_path / "cache.npz")
    again = TrainingSet.load(tmp_path / "cache.npz")
    assert again.metadata == training_set().metadata
    for name, array in training_set().frames.arrays().items():
        np.testing.assert_array_equal(array, getattr(again.frames, name))


def test_a_cache_of_other_features_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training_set().save(tmp_path / "cache.npz")
    monkeypatch.setattr("trackweave.association.dataset.INPUT_VERSION", 99)
    with pytest.raises(ArtifactVersionError, match="make it again"):
        TrainingSet.load(tmp_path / "cache.npz")
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="not a readable training cache"):
        TrainingSet.load(tmp_path / "bad.npz")


def odd_cache(path: Path, name: str, value: object) -> Path:
    """A cache with one entry changed; None: without it."""
    training_set().save(path)
    with np.load(path) as file:
        arrays = {**file}
    arrays[name] = np.asarray(value)
    if value is None:
        del arrays[name]
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, None)
            for name in ("tracks", "detections", "weight", "sequence", "scene_boxes", "scene_pairs", "manifest")
        ),
        ("tracks", [10**9]),
        ("weight", [[1.0]]),
        ("weight", ["a"]),
        ("sequence", [-1]),
        ("scene_pairs", [1, 2, 3]),
        ("scene_boxes", 3.0),
        ("scene_surplus", [1.0]),
        ("manifest", "[" * 100_000),
        ("manifest", "[]"),
        ("manifest", "{}"),
        ("manifest", 3),
    ],
)
def test_a_cache_with_one_odd_entry_is_refused(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ArtifactError, match=r"c\.npz: .*training cache"):
        TrainingSet.load(odd_cache(tmp_path / "c.npz", name, value))


def test_the_fingerprint_depends_on_the_content_alone(tmp_path: Path) -> None:
    whole = load_samples([sample_folder()])
    copy = tmp_path / "copy"
    shutil.copytree(sample_folder(), copy)
    assert load_samples([copy]).metadata["fingerprint"] == whole.metadata["fingerprint"]
    victim = sorted(copy.glob("sample_*.npz"))[5]
    sample = read_sample(victim)
    victim.write_bytes(encode_sample(replace(sample, cost_matrix=sample.cost_matrix + 1)))
    assert load_samples([copy]).metadata["fingerprint"] != whole.metadata["fingerprint"]


def test_too_little_data_says_how_much_is_missing(tmp_path: Path) -> None:
    first_samples(tmp_path, 5)
    with pytest.raises(ArtifactError, match=r"matched pairs are too few .* \d+ more are the least"):
        load_samples([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="holds no samples"):
        load_samples([tmp_path / "empty"])
    with pytest.raises(ArtifactError, match="no such folder"):
        load_samples([tmp_path / "missing"])


def test_one_video_cannot_be_split(tmp_path: Path) -> None:
    for path in (shutil.copy(path, tmp_path) for path in sample_folder().glob("sample_*.npz")):
        rewrite(Path(path), sequence="the same")
    with pytest.raises(ArtifactError, match="one video"):
        load_samples([tmp_path])


def test_a_corrupt_sample_is_named_and_skipped_on_request(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(sample_folder(), folder)
    victim = sorted(folder.glob("sample_*.npz"))[7]
    victim.write_bytes(victim.read_bytes()[:300])
    with pytest.raises(ArtifactError, match=rf"{victim.name}.*skip_corrupt=True"):
        load_samples([folder])
    data = load_samples([folder], DataSettings(skip_corrupt=True))
    assert data.metadata["skipped"] == [str(victim)]
    assert len(data) == len(training_set()) - 1


def test_mixed_feature_versions_are_refused(tmp_path: Path) -> None:
    paths = first_samples(tmp_path, 10)
    rewrite(paths[3], feature_version=9)
    with pytest.raises(ArtifactError, match="several feature versions"):
        load_samples([tmp_path])
    for path in paths:
        rewrite(path, feature_version=9)
    with pytest.raises(ArtifactError, match="log again"):
        load_samples([tmp_path])


def test_blended_assignments_are_refused_as_labels(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(sample_folder(), folder)
    for path in folder.glob("sample_*.npz"):
        rewrite(path, label_source=BLENDED)
    with pytest.raises(SettingError, match="would learn from itself"):
        load_samples([folder], DataSettings(labels="tracker"))
    assert len(load_samples([folder], DataSettings(labels="tracker", allow_blended=True))) == len(training_set())
    assert len(load_samples([folder])) == len(training_set())  # true identities do not come from the scorer


def test_label_sources_and_weights(tmp_path: Path) -> None:
    by_tracker = load_samples([sample_folder()], DataSettings(labels="tracker"))
    assert (by_tracker.weight == 1).all()
    assert not np.array_equal(by_tracker.targets.tracks, training_set().targets.tracks)
    folder = tmp_path / "copy"
    shutil.copytree(sample_folder(), folder)
    names = set()
    for path in sorted(folder.glob("sample_*.npz"))[:38]:
        sample = read_sample(path)
        names.add(sample.metadata.sequence)
        path.write_bytes(encode_sample(replace(sample, gt_track_ids=None)))
    both = load_samples([folder])
    assert set(np.unique(both.weight).round(2)) == {np.float32(0.3), np.float32(1.0)}
    only = load_samples([folder], DataSettings(labels="truth"))
    assert len(only) == len(both) - 38
    for path in folder.glob("sample_*.npz"):
        path.write_bytes(encode_sample(replace(read_sample(path), gt_track_ids=None)))
    with pytest.raises(SettingError, match="no sample has true identities"):
        load_samples([folder], DataSettings(labels="truth"))


def test_filtered_detections_have_unknown_targets() -> None:
    data = load_samples([sample_folder()], DataSettings(min_score=0.8, min_visibility=0.5))
    ignored = (data.frames.det_scores < 0.8) | (data.frames.det_visibility < 0.5)
    assert ignored.any()
    assert (data.targets.detections[ignored] == UNKNOWN).all()
    assert data.matched_pairs < training_set().matched_pairs


def test_suspected_switches_have_unknown_targets(tmp_path: Path) -> None:
    from trackweave.storage.samples import SampleDiagnostics

    folder = tmp_path / "copy"
    shutil.copytree(sample_folder(), folder)
    path = sorted(folder.glob("sample_*.npz"))[20]
    sample = read_sample(path)
    rewrite(path, diagnostics=SampleDiagnostics(1, (int(sample.track_ids[0]),)))
    tracker_labels = DataSettings(labels="tracker", suspect_frames=2)
    plain, careful = load_samples([sample_folder()], tracker_labels), load_samples([folder], tracker_labels)
    gone = (careful.targets.tracks == UNKNOWN) & (plain.targets.tracks != UNKNOWN)
    assert 1 <= gone.sum() <= 5


def test_samples_of_the_plain_schema_are_read(tmp_path: Path) -> None:
    """Without metadata: no history before the first sample, no size, no rate, no truth."""
    for number in range(120):
        sample = toy_sample(number % 60, tracks=4, detections=5, metadata=SampleMetadata())
        folder = tmp_path / ("one" if number < 60 else "other")
        folder.mkdir(exist_ok=True)
        (folder / f"sample_{number:07d}.npz").write_bytes(encode_sample(sample))
    data = load_samples([tmp_path])
    assert data.sequences == ("one", "other")
    assert data.matched_pairs > 400
    assert np.isfinite(data.frames.boxes).all()


def test_features_that_no_tracker_computes_are_refused(tmp_path: Path) -> None:
    features = np.ones((3, 10), np.float32)
    features[1, 4] = 3e38
    with SampleFolder(tmp_path) as folder:
        folder.write(toy_sample(0))
        folder.write(toy_sample(1, track_features=features))
    with pytest.raises(ArtifactError, match=r"sample_0000001\.npz: track_features holds values beyond"):
        read_samples([tmp_path])
    assert len(read_samples([tmp_path], skip_corrupt=True).corrupt) == 1
