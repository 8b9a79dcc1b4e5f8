from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trackweave.formats.mot import read_mot
from trackweave.masks.packed import PackedMasks
from trackweave.mot.settings import RefinementSettings
from trackweave.mot.state import FrameContext
from trackweave.pipelines import box_outputs
from trackweave.pipelines.box_outputs import TrackStatistics, TrackWriter
from trackweave.pipelines.detection_source import DetectedFrame
from trackweave.pipelines.video_input import InputFrame
from trackweave.storage.run import RunPaths
from trackweave.storage.track_archive import TracksArchive
from trackweave.structures.detections import Detections


def answer(ids: list[int], *, size: tuple[int, int] | None = None, left: float = 0) -> Detections:
    """What a tracker says: identities in the order of the detections."""
    n = len(ids)
    boxes = np.array([[10 * track + left, 0, 10 * track + left + 8, 16] for track in ids], np.float32).reshape(-1, 4)
    masks = None if size is None else PackedMasks.from_bool(np.ones((n, *size), np.bool_))
    detections = Detections.of(boxes, np.full(n, 0.9), masks=masks)
    return replace(detections, track_id=np.array(ids, np.int64), index=np.arange(n) + 5)


def frame_at(index: int, time: float | None) -> DetectedFrame:
    return DetectedFrame(InputFrame(index, time, f"{index}"), None, Detections.empty(), FrameContext(index, time))


def test_parts_are_cut_between_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_outputs, "ROWS_PER_PART", 3)
    run, statistics = RunPaths(tmp_path), TrackStatistics()
    with TrackWriter(run, statistics) as writer:
        for frame, ids in enumerate([[2, 1], [], [1, 2], [3]]):
            writer.write(frame_at(frame, frame / 10), answer(ids))
        assert not run.mot.exists()
        writer.finish()
    with TracksArchive(run.tracks) as archive:
        parts = list(archive.parts())
        assert [part.tracks.frame.tolist() for part in parts] == [[0, 0, 2, 2], [3]]
        assert parts[0].tracks.track_id.tolist() == [1, 2, 1, 2]
        assert parts[0].detection.tolist() == [6, 5, 5, 6]  # in the order of the ids
        assert parts[1].time.tolist() == [0.3]
        assert len(read_mot(run.mot)) == len(archive) == statistics.observations == 5


def test_masks_that_change_their_size_start_a_part(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    with TrackWriter(run, TrackStatistics()) as writer:
        writer.write(frame_at(0, None), answer([1], size=(4, 4)))
        writer.write(frame_at(1, None), answer([1], size=(6, 4)))
        writer.finish()
    with TracksArchive(run.tracks) as archive:
        assert [part.tracks.masks and part.tracks.masks.size for part in archive.parts()] == [(4, 4), (6, 4)]
        assert np.isnan(next(archive.parts()).time).all()


def test_refinement_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Track 1 misses frame 1; track 2 is seen once; the rows know which detection they came from."""
    monkeypatch.setattr(box_outputs, "ROWS_PER_PART", 1)
    run, statistics = RunPaths(tmp_path), TrackStatistics()
    with TrackWriter(run, statistics, RefinementSettings(interpolate_max_gap=3, min_track_length=2)) as writer:
        writer.write(frame_at(0, 0.0), answer([1]))
        writer.write(frame_at(1, 0.1), answer([2]))
        writer.write(frame_at(2, 0.2), answer([2, 1][1:], left=4))
        writer.finish()
    assert writer.refined is not None
    assert (writer.refined.interpolated, writer.refined.removed) == (1, 1)
    with TracksArchive(run.tracks) as archive:
        whole = archive.rows()
        assert len(list(archive.parts())) == 3
    assert whole.tracks.track_id.tolist() == [1, 1, 1]
    assert whole.tracks.xyxy[:, 0].tolist() == [10, 12, 14]
    assert whole.detection.tolist() == [5, -1, 5]
    assert whole.time.tolist() == pytest.approx([0, 0.1, 0.2])
    assert statistics.counts().tracks == 1


def test_nothing_was_tracked(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    with TrackWriter(run, TrackStatistics(), RefinementSettings(interpolate_max_gap=3)) as writer:
        writer.write(frame_at(0, 0.0), answer([]))
        writer.finish()
    assert run.mot.read_text() == ""
    with TracksArchive(run.tracks) as archive:
        assert len(archive.tracks()) == 0


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with TrackWriter(RunPaths(tmp_path), TrackStatistics()) as writer:
            writer.write(frame_at(0, 0.0), answer([1]))
            assert list(tmp_path.iterdir())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_detections_without_identities(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not tracked"), TrackWriter(RunPaths(tmp_path), TrackStatistics()) as writer:
        writer.write(frame_at(0, 0.0), Detections.empty())
