from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.toy_scenes import CELL, ToyScene, toy_scene
from trackweave.errors import ArtifactError, PredictorError, PredictorUnavailable
from trackweave.frames.arrays import ArrayFrames
from trackweave.ids import FrameIndex, LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import PredictorSession
from trackweave.predictors.replay import ReplayPredictor
from trackweave.storage.mask_archive import write_video_segments
from trackweave.storage.recording import EntryRecording
from trackweave.structures.tracks import FrameObjects

SCENE = toy_scene(
    """
    aa....
    ...bb.
    """,
    """
    .aa...
    ...bb.
    """,
    """
    ......
    ..bb..
    """,
    """
    ..aa..
    .bb...
    """,
)
FINE = toy_scene(*["cc....\n......"] * 4)
"""What another recording holds: an object that fits where `a` lay on frame 0, and stays."""


def masks_of(session: PredictorSession, start: int = 0, *, reverse: bool = False) -> list[list[list[list[bool]]]]:
    return [prediction.masks.to_bool().tolist() for prediction in session.propagate(LocalIndex(start), reverse=reverse)]


def truth(scene: ToyScene, letters: str, frames: range) -> list[list[list[list[bool]]]]:
    return [[scene.mask(frame, letter).tolist() for letter in letters] for frame in frames]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return SCENE.record(tmp_path / "scene.npz")


def test_the_recorded_object_that_fits_best_is_played(recording: Path) -> None:
    session = ReplayPredictor(recording).open(SCENE.frames)
    rough = np.roll(SCENE.mask(0, "b"), 1, axis=1)
    session.add_mask(0, 5, rough)
    session.add_mask(0, 6, SCENE.mask(0, "a"))
    assert masks_of(session) == truth(SCENE, "ba", range(4))
    scores = [prediction.score.tolist() for prediction in session.propagate(0)]
    assert scores == [[1, 1], [1, 1], [1, 0], [1, 1]]
    session.close()


def test_backward(recording: Path) -> None:
    session = ReplayPredictor(recording).open(SCENE.frames)
    session.add_mask(3, 1, SCENE.mask(3, "a"))
    assert masks_of(session, 3, reverse=True) == truth(SCENE, "a", range(4))[::-1]
    session.close()


def test_a_box_is_matched_by_the_boxes_of_the_masks(recording: Path) -> None:
    session = ReplayPredictor(recording).open(SCENE.frames)
    x1, y1, x2, y2 = PackedMasks.from_bool(SCENE.mask(0, "b")).boxes[0]
    session.add_box(0, 1, np.array([x1 - 1, y1, x2, y2 - 1], np.float32))
    assert masks_of(session) == truth(SCENE, "b", range(4))
    session.close()


def test_a_prompt_that_overlaps_nothing_stays_empty(recording: Path) -> None:
    session = ReplayPredictor(recording).open(SCENE.frames)
    nowhere = np.zeros_like(SCENE.mask(0, "a"))
    nowhere[-1, 0] = True
    session.add_mask(0, 1, nowhere)
    session.add_mask(0, 2, SCENE.mask(0, "a"))
    found = list(session.propagate(0))
    assert [prediction.masks.areas[0] for prediction in found] == [0] * 4
    assert [prediction.score[0] for prediction in found] == [0] * 4
    assert found[1].masks.areas[1] > 0
    session.close()


def test_a_frame_on_which_nothing_was_recorded(tmp_path: Path) -> None:
    session = ReplayPredictor(toy_scene("a.", "..").record(tmp_path / "r.npz")).open(toy_scene("a.", "..").frames)
    session.add_mask(1, 1, np.ones((CELL, 2 * CELL), np.bool_))
    assert [prediction.masks.areas.tolist() for prediction in session.propagate(1)] == [[0]]
    session.close()


def test_a_subset_of_the_frames_is_recorded_under_absolute_indices(recording: Path) -> None:
    session = ReplayPredictor(recording).open(SCENE.frames.select([2, 3]))
    session.add_mask(1, 1, SCENE.mask(3, "b"))
    found = list(session.propagate(1, reverse=True))
    assert [prediction.frame for prediction in found] == [1, 0]
    for prediction, absolute in zip(found, (3, 2), strict=True):
        np.testing.assert_array_equal(prediction.masks.to_bool()[0], SCENE.mask(absolute, "b"))
    session.close()


def test_of_several_recordings_the_best_match_wins(tmp_path: Path) -> None:
    SCENE.record(tmp_path / "level_2_tracks.npz")
    FINE.record(tmp_path / "level_4_tracks.npz")
    session = ReplayPredictor(tmp_path).open(SCENE.frames)
    session.add_mask(1, 1, FINE.mask(1, "c"))
    session.add_mask(1, 2, SCENE.mask(1, "b"))
    session.add_mask(1, 3, SCENE.mask(1, "a"))
    for prediction in session.propagate(1):
        expected = [FINE.mask(0, "c"), SCENE.mask(prediction.frame, "b"), SCENE.mask(prediction.frame, "a")]
        np.testing.assert_array_equal(prediction.masks.to_bool(), expected)
    session.close()


def test_a_recording_of_another_scale(recording: Path) -> None:
    rows, cols = SCENE.frames.size
    session = ReplayPredictor(recording).open(ArrayFrames(np.zeros((4, 2 * rows, 2 * cols, 3), np.uint8)))
    session.add_mask(0, 1, np.kron(SCENE.mask(0, "a"), np.ones((2, 2), np.bool_)))
    x1, y1, x2, y2 = 2 * PackedMasks.from_bool(SCENE.mask(0, "b")).boxes[0]
    session.add_box(0, 2, np.array([x1, y1, x2, y2], np.float32))
    for prediction in session.propagate(0):
        expected = [np.kron(SCENE.mask(prediction.frame, letter), np.ones((2, 2), np.bool_)) for letter in "ab"]
        np.testing.assert_array_equal(prediction.masks.to_bool(), expected)
    session.close()


def test_an_archive_of_a_run_is_a_recording(tmp_path: Path) -> None:
    def frames() -> list[FrameObjects]:
        out = []
        for k in range(4):
            letters = [letter for letter in "ab" if SCENE.mask(k, letter).any()]
            masks = PackedMasks.from_bool(np.stack([SCENE.mask(k, letter) for letter in letters]))
            ids = np.array([10 + ord(letter) for letter in letters])
            boxes = masks.boxes.astype(np.float32)
            out.append(FrameObjects(FrameIndex(k), "", ids, masks, boxes, masks.areas, np.ones(len(ids), np.float32)))
        return out

    path = tmp_path / "video_segments.npz"
    write_video_segments(path, frames(), mask_scale_ratio=1.0, full_resolution_shape=None, metadata={})
    session = ReplayPredictor(path).open(SCENE.frames)
    session.add_mask(0, 1, SCENE.mask(0, "b"))
    session.add_mask(0, 2, SCENE.mask(0, "a"))
    assert masks_of(session) == truth(SCENE, "ba", range(4))
    session.close()


def test_no_recording_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.npz"):
        with pytest.raises(PredictorUnavailable, match="no recording to replay"):
            ReplayPredictor(path)


def test_a_recording_of_other_proportions(recording: Path) -> None:
    with pytest.raises(PredictorError, match="masks of 24×8 do not fit frames of 40×40"):
        ReplayPredictor(recording).open(ArrayFrames(np.zeros((4, 40, 40, 3), np.uint8)))


def test_one_damaged_recording_among_several_closes_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    monkeypatch.setattr(EntryRecording, "close", lambda recording: closed.append(recording.path.name))
    SCENE.record(tmp_path / "level_2_tracks.npz")
    (tmp_path / "level_4_tracks.npz").write_bytes(b"no zip")
    with pytest.raises(ArtifactError, match=r"level_4_tracks\.npz: not a readable recording"):
        ReplayPredictor(tmp_path).open(SCENE.frames)
    assert closed == ["level_2_tracks.npz"]
