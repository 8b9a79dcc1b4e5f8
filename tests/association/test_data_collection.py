from __future__ import annotations

import errno
import gc
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.association.toy import toy_state
from trackweave.association.data_collection import SampleLogger
from trackweave.association.sample_features import sample_features
from trackweave.errors import ArtifactError, SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.mot.state import AssignmentObserver
from trackweave.storage import sample_folder
from trackweave.storage.samples import AssociationSample, SampleDiagnostics, SampleMetadata, read_sample, sample_name


def log(folder: Path, *states: Any, **settings: Any) -> tuple[list[AssociationSample], SampleLogger]:
    observer: AssignmentObserver
    with SampleLogger(folder, **{"sequence": "toy", "embed_dim": 5, **settings}) as logger:
        observer = logger
        for state in states:
            observer.observe(state)
    return [read_sample(path) for path in sorted(folder.glob("sample_*"))], logger


def test_a_sample_holds_the_frame(tmp_path: Path) -> None:
    state = toy_state(4, est_id_switches=2, suspect_tracks=np.array([11, 12]), allowed=np.eye(3, 4, dtype=np.bool_))
    (sample,), logger = log(tmp_path, state, fps=25, label_source="learned")
    features = sample_features(state, (100, 200), 5)
    assert sample.frame_idx == 4
    np.testing.assert_array_equal(sample.track_ids, state.track_ids)
    np.testing.assert_array_equal(sample.track_features, features.tracks)
    np.testing.assert_array_equal(sample.det_features, features.detections)
    np.testing.assert_array_equal(sample.track_embeddings, features.track_embeddings)
    np.testing.assert_array_equal(sample.det_embeddings, features.det_embeddings)
    np.testing.assert_array_equal(sample.cost_matrix, state.cost)
    np.testing.assert_array_equal(sample.mask_matrix, np.eye(3, 4))
    np.testing.assert_array_equal(sample.assigned_track_ids, state.assigned_track_ids)
    assert sample.gt_track_ids is None
    assert sample.metadata == SampleMetadata(
        200,
        100,
        25,
        "toy",
        sample.metadata.run,
        label_source="learned",
        diagnostics=SampleDiagnostics(2, (11, 12)),
        time=0.4,
    )
    assert sample.metadata.run
    assert (logger.observed, logger.written, logger.warnings) == (1, 1, [])


def test_frames_without_tracks_or_detections_give_no_sample(tmp_path: Path) -> None:
    samples, logger = log(tmp_path, toy_state(0, tracks=0), toy_state(1), toy_state(2, detections=0), toy_state(3))
    assert [sample.frame_idx for sample in samples] == [1, 3]
    assert logger.observed == 2


def test_a_full_queue_keeps_all_frames_in_order(tmp_path: Path) -> None:
    samples, _ = log(tmp_path, *(toy_state(frame) for frame in range(60)), queue_size=2)
    assert [sample.frame_idx for sample in samples] == list(range(60))
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [line["frame_idx"] for line in lines] == list(range(60))


def test_true_identities_of_detections_are_logged(tmp_path: Path) -> None:
    (sample,), _ = log(tmp_path, toy_state(det={"data": {"gt_track_id": np.array([4, -1, 7, 8])}}))
    assert sample.gt_track_ids is not None
    assert sample.gt_track_ids.tolist() == [4, -1, 7, 8]


def test_true_identities_must_be_integers(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="gt_track_id is a column of float64"):
        log(tmp_path, toy_state(det={"data": {"gt_track_id": np.zeros(4)}}))


def test_an_unknown_size_is_refused_on_the_first_frame(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"frame 3: .*size="):
        log(tmp_path, toy_state(3, size=None))
    (sample,), _ = log(tmp_path / "b", toy_state(size=None), size=(480, 640))
    assert (sample.metadata.width, sample.metadata.height) == (640, 480)
    (sample,), _ = log(tmp_path / "c", toy_state(), size=(480, 640))
    assert (sample.metadata.width, sample.metadata.height) == (200, 100)


def test_wide_embeddings_are_cut_with_one_warning(tmp_path: Path) -> None:
    samples, logger = log(tmp_path, *(toy_state(frame, width=9) for frame in range(3)))
    assert all(sample.metadata.embedding_truncated for sample in samples)
    assert [warning.code for warning in logger.warnings] == ["embedding-truncated"]
    assert "width 9 are cut to 5" in logger.warnings[0].message
    np.testing.assert_allclose(np.linalg.norm(samples[0].det_embeddings, axis=1), 1, rtol=1e-6)


def test_a_changed_embedding_width_is_warned_of_once(tmp_path: Path) -> None:
    widths = (4, 4, 3, 4, None, 3)
    samples, logger = log(tmp_path, *(toy_state(frame, width=width) for frame, width in enumerate(widths)))
    assert {sample.track_embeddings.shape for sample in samples} == {(3, 5)}
    assert not any(sample.metadata.embedding_truncated for sample in samples)
    assert [warning.code for warning in logger.warnings] == ["embedding-width-changed"]
    assert logger.warnings[0].details == {"frame": 2, "width": 3, "before": 4}


def test_values_that_are_not_finite_are_warned_of_once(tmp_path: Path) -> None:
    states = [toy_state(frame) for frame in range(3)]
    for state in states[1:]:
        state.track_velocity[0, 0] = np.nan
    samples, logger = log(tmp_path, *states)
    assert len(samples) == 3
    assert [(warning.code, warning.details["frame"]) for warning in logger.warnings] == [("value-not-finite", 1)]


def test_masks_are_not_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queued: list[Any] = []
    monkeypatch.setattr(
        "trackweave.association.data_collection._SampleWriter.put", lambda self, state: queued.append(state.detections)
    )
    masks = PackedMasks.from_bool(np.ones((4, 8, 8), np.bool_))
    log(tmp_path, toy_state(det={"masks": masks}), toy_state())
    assert [detections.masks for detections in queued] == [None, None]
    assert [len(detections) for detections in queued] == [4, 4]


def test_a_second_logger_continues(tmp_path: Path) -> None:
    log(tmp_path, toy_state(0), toy_state(1))
    samples, logger = log(tmp_path, toy_state(0), sequence="other")
    assert [sample.metadata.sequence for sample in samples] == ["toy", "toy", "other"]
    assert samples[0].metadata.run == samples[1].metadata.run != samples[2].metadata.run
    assert logger.warnings == []


def test_warnings_of_the_folder_are_included(tmp_path: Path) -> None:
    (tmp_path / sample_name(0)).write_bytes(b"cut off")
    with SampleLogger(tmp_path, sequence="toy") as logger:
        assert [warning.code for warning in logger.warnings] == ["sample-unreadable"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"fps": 0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"size": (0, 5)}, "size"),
        ({"embed_dim": 0}, "embed_dim"),
        ({"queue_size": 0}, "queue_size"),
        ({"sequence": ""}, "sequence"),
        ({"label_source": ""}, "label_source"),
    ],
)
def test_settings_are_checked_before_the_folder_is_touched(
    tmp_path: Path, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        log(tmp_path / "new", **setting)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="cannot be logged to"):
        SampleLogger(tmp_path / "file", sequence="toy")


def test_a_closed_logger_refuses_frames(tmp_path: Path) -> None:
    _, logger = log(tmp_path)
    logger.close()
    with pytest.raises(ValueError, match="closed"):
        logger.observe(toy_state())


class Disk:
    """Lets so many samples through, then waits for `full`, then has no space left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capacity: int) -> None:
        self.full = threading.Event()
        self._capacity = 2 * capacity  # a sample and its line
        self._write = sample_folder._write_all
        monkeypatch.setattr(sample_folder, "_write_all", self.write)

    def write(self, file: int, content: bytes) -> None:
        if self._capacity == 0:
            self.full.wait()
            raise OSError(errno.ENOSPC, "No space left on device")
        self._capacity -= 1
        self._write(file, content)


def test_a_full_disk_is_raised_on_the_next_frame_and_on_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, capacity=2)
    logger = SampleLogger(tmp_path, sequence="toy", embed_dim=5, queue_size=100)
    for frame in range(5):
        logger.observe(toy_state(frame))
    disk.full.set()
    logger._writer._thread.join()
    expected = rf"{tmp_path.name}: cannot be written: No space left on device \(2 samples are written, {{}} are lost\)"
    with pytest.raises(ArtifactError, match=expected.format(4)):
        logger.observe(toy_state(5))
    with pytest.raises(ArtifactError, match=expected.format(5)):
        logger.observe(toy_state(6))
    with pytest.raises(ArtifactError, match=expected.format(5)):
        logger.close()
    assert len(list(tmp_path.glob("sample_*"))) == 2
    assert not list(tmp_path.glob(".logger-*"))


def test_a_waiting_tracker_is_released_when_the_writer_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, capacity=0)
    logger = SampleLogger(tmp_path, sequence="toy", embed_dim=5, queue_size=1)
    threading.Timer(0.1, disk.full.set).start()

    def track() -> None:
        for frame in range(5):
            logger.observe(toy_state(frame))

    with pytest.raises(ArtifactError, match=r"No space .*\(0 samples are written, \d are lost\)"):
        track()
    with pytest.raises(ArtifactError, match="No space"):
        logger.close()


def test_leaving_the_block_raises_a_pending_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, capacity=0).full.set()
    with pytest.raises(ArtifactError, match="1 are lost"), SampleLogger(tmp_path, sequence="toy") as logger:
        logger.observe(toy_state())


def test_another_error_in_the_block_is_not_hidden(tmp_path: Path) -> None:
    def track() -> None:
        with SampleLogger(tmp_path, sequence="toy") as logger:
            logger.observe(toy_state())
            raise KeyError("the tracker's own")

    with pytest.raises(KeyError):
        track()
    assert len(list(tmp_path.glob("sample_*"))) == 1


def test_a_state_that_breaks_the_schema_is_refused(tmp_path: Path) -> None:
    message = (
        r"a sample could not be made: ValueError: cost_matrix is of shape \(2, 4\), not \(3, 4\) \(1 samples .* 1 "
    )
    with pytest.raises(ArtifactError, match=message):
        log(tmp_path, toy_state(), toy_state(cost=np.zeros((2, 4), np.float32)))


def test_a_collected_logger_writes_its_queue(tmp_path: Path) -> None:
    logger = SampleLogger(tmp_path, sequence="toy")
    logger.observe(toy_state())
    del logger
    gc.collect()
    assert len(list(tmp_path.glob("sample_*"))) == 1


def test_a_program_that_ends_without_closing_writes_its_queue(tmp_path: Path) -> None:
    script = (
        "import sys; from tests.association.toy import toy_state;"
        "from trackweave.association.data_collection import SampleLogger;"
        "logger = SampleLogger(sys.argv[1], sequence='toy');"
        "[logger.observe(toy_state(frame)) for frame in range(50)]"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=root, timeout=60)
    assert len(list(tmp_path.glob("sample_*"))) == 50
    assert not list(tmp_path.glob(".logger-*"))
