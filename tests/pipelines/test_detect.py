"""`detect`: from frames to a table that `track_boxes` takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.toy_boxes import make_clip
from trackweave.errors import FrameError, SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.detection_source import detect
from trackweave.structures.detections import Detections


class Bright:
    """Everything brighter than 200 is one object, with its mask."""

    name = "bright"
    closed = False

    @property
    def class_names(self) -> Mapping[int, str] | None:
        return {0: "lamp"}

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        mask = image[..., 0] > 200
        if not mask.any():
            return Detections.empty()
        rows, cols = np.nonzero(mask)
        box = [[cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]]
        return Detections.of(box, [0.9], [0], masks=PackedMasks.from_bool(mask[None]))

    def reset(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def lamp(length: int) -> NDArray[np.uint8]:
    """A bright square that moves to the right, dark on the first frame."""
    frames = np.zeros((length, 24, 40, 3), np.uint8)
    for k in range(1, length):
        frames[k, 8:16, 2 * k : 2 * k + 8] = 255
    return frames


def test_a_detector_of_one_s_own_keeps_masks_and_stays_open() -> None:
    detector = Bright()
    steps: list[int] = []
    table = detect(lamp(5), detector, progress=lambda done, total, label: steps.append(done))
    assert table.frame.tolist() == [1, 2, 3, 4]
    assert (table.length, table.class_names, steps, detector.closed) == (5, {0: "lamp"}, [1, 2, 3, 4, 5], False)
    masks = table.at(2).masks
    assert masks is not None
    assert np.array_equal(masks.to_bool()[0], lamp(5)[2, ..., 0] > 200)
    assert table.at(2).xyxy.tolist() == [[4, 8, 12, 16]]


def test_sampled_frames_keep_their_numbers() -> None:
    assert detect(lamp(6), Bright(), sampling="1::2").frame.tolist() == [1, 3, 5]


def test_the_table_goes_to_the_tracker(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    table = detect(clip, "motion")
    assert len(table)
    track_boxes(clip, tmp_path / "run", detections=table, overlay=False)
    assert (tmp_path / "run" / "tracks.npz").is_file()


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="does not exist"):
        detect(tmp_path / "nothing.mp4")
    with pytest.raises(SettingError, match="no detector 'yolo'"):
        detect(lamp(2), "yolo")
    with pytest.raises(SettingError, match="no setting 'score'"):
        detect(lamp(2), "motion", score=0.3)
    with pytest.raises(SettingError, match="score: settings are for detectors asked for by name"):
        detect(lamp(2), Bright(), score=0.3)


def test_what_the_frames_lack_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "1.heic").write_bytes(b"x")
    detect(tmp_path, "motion")
    assert "1.heic: its kind is not read" in caplog.text
