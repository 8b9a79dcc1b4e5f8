from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.toy_boxes import box_of, detection_lines, make_clip, make_sequence, write_lines
from trackweave.errors import InputError, SettingError
from trackweave.formats.readers import read_detections
from trackweave.pipelines.box_inputs import VideoInput, open_detections, open_input
from trackweave.pipelines.settings import InputSettings
from trackweave.structures.detections import Detections
from trackweave.structures.run_log import RunLog


class Recorder:
    """A detector that sees one box, and notes what happens to it."""

    name = "recorder"
    class_names: Mapping[int, str] | None = None

    def __init__(self) -> None:
        self.calls: list[str] = []

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        self.calls.append(f"detect {image.shape}")
        return Detections.of([[0, 0, 4, 4]])

    def reset(self) -> None:
        self.calls.append("reset")

    def close(self) -> None:
        self.calls.append("close")


def video_of(path: Path, **settings: object) -> VideoInput:
    return open_input(path, InputSettings.model_validate(settings))


def test_a_sequences_own_detections(tmp_path: Path) -> None:
    with video_of(make_sequence(tmp_path / "toy")) as video, open_detections(None, video, RunLog()) as source:
        frame = list(source.frames())[3]
        assert frame.detections.xyxy.tolist() == [list(map(float, box_of(track, 3))) for track in (1, 2)]
        assert not source.needs_images
        assert source.record["rows"] == 24


def test_other_detections_of_the_sequence_by_name(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "toy")
    write_lines(folder / "det" / "det_better.txt", detection_lines(1))
    with video_of(folder) as video:
        assert open_detections("det_better", video, RunLog()).record["rows"] == 2
        with pytest.raises(InputError, match=r"no worse\.txt; there: det, det_better"):
            open_detections("worse", video, RunLog())
        with pytest.raises(InputError, match=r"none/det\.txt: cannot be read"):
            open_detections(tmp_path / "none" / "det.txt", video, RunLog())


def test_without_detections_or_detector_motion_is_detected(tmp_path: Path) -> None:
    with video_of(make_clip(tmp_path / "clip.mp4", 3)) as video, open_detections(None, video, RunLog()) as source:
        assert source.record == {
            "kind": "detector",
            "name": "motion",
            "reason": "neither detections nor a detector were given",
        }


def test_a_detector_by_name_with_its_settings(tmp_path: Path) -> None:
    with video_of(make_clip(tmp_path / "clip.mp4", 3)) as video:
        source = open_detections(None, video, RunLog(), detector="motion", options={"warm_up": 1})
        assert source.record["reason"] == "asked for"
        with pytest.raises(SettingError, match="no setting 'warmup'"):
            open_detections(None, video, RunLog(), detector="motion", options={"warmup": 1})
        with pytest.raises(SettingError, match="there is no detector 'yolo'"):
            open_detections(None, video, RunLog(), detector="yolo")
        with pytest.raises(SettingError, match="leave one out"):
            open_detections("det.txt", video, RunLog(), detector="motion")


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with (
        video_of(make_clip(tmp_path / "clip.mp4", 3)) as video,
        pytest.raises(InputError, match=r"broken\.onnx") as raised,
    ):
        open_detections(broken, video, RunLog())
    assert "\n" not in str(raised.value)


def test_the_callers_detector_starts_anew_and_stays_open(tmp_path: Path) -> None:
    detector = Recorder()
    with video_of(make_clip(tmp_path / "clip.mp4", 3)) as video, open_detections(detector, video, RunLog()) as source:
        assert len(next(source.frames()).detections) == 1
        assert source.needs_images
    assert detector.calls == ["reset", "detect (96, 160, 3)"]


def test_a_detector_without_images(tmp_path: Path) -> None:
    with (
        video_of(make_sequence(tmp_path / "toy", images=2)) as video,
        pytest.raises(InputError, match="detector motion needs a picture of every frame"),
    ):
        open_detections("motion", video, RunLog())
    with pytest.raises(SettingError, match="give --detections FILE"):
        open_detections(None, open_input(None), RunLog())


def test_rows_beyond_the_video(tmp_path: Path) -> None:
    det = write_lines(tmp_path / "det.txt", detection_lines(5))
    with video_of(make_clip(tmp_path / "clip.mp4", 3)) as video:
        with pytest.raises(InputError, match=r"det\.txt, line 7: frame 4 "):
            open_detections(det, video, RunLog())
        log = RunLog("skip")
        assert open_detections(det, video, log).record["rows"] == 6
        assert sum(log.skipped.values()) == 4
        table = read_detections(det)  # one that did not know the video when it was read
        with pytest.raises(InputError, match=r"4 detections lie beyond the 3 frames of .*, the first on frame 3"):
            open_detections(table, video, RunLog())
        log = RunLog("skip")
        assert open_detections(table, video, log).record["rows"] == 6
        assert log.skipped == {"frame-beyond-video": 4}
        assert [warning.code for warning in log.warnings] == ["frame-beyond-video"]


def test_the_length_comes_from_the_detections_when_there_are_no_images(tmp_path: Path) -> None:
    det = write_lines(tmp_path / "det.txt", detection_lines(5))
    video = open_input(None)
    open_detections(det, video, RunLog())
    assert video.length == 5
