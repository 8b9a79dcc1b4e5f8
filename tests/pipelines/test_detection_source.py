from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tests.detectors import onnx_models
from tests.toy_boxes import HEIGHT, WIDTH, box_of, detection_lines, image_of, make_clip, make_sequence, write_lines
from trackweave.errors import InputError, SettingError
from trackweave.formats.readers import read_detections
from trackweave.pipelines.detection_source import DetectionSource, detect, open_detections
from trackweave.pipelines.settings import InputSettings
from trackweave.pipelines.video_input import VideoInput, open_input
from trackweave.structures.detections import Detections
from trackweave.structures.run_log import RunLog

MOT = Path(__file__).parents[3] / "shared" / "data" / "mot"


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
            "reason": "neither detections nor a detector were given: what moves before a still camera",
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
    with pytest.raises(SettingError, match="give detections="):
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


# --- COCO results and the frames that they are of ---------------------------------------------------------------------


def coco_of(path: Path, ids: Sequence[int | str]) -> Path:
    """The toy boxes of frame n under the id `ids[n]`."""
    items = []
    for n, image in enumerate(ids):
        for x1, y1, x2, y2 in (box_of(1, n), box_of(2, n)):
            items.append({"image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.9})
    path.write_text(json.dumps(items))
    return path


def pictures(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir()
    for n, name in enumerate(names):
        cv2.imwrite(str(folder / name), image_of(n)[..., ::-1])
    return folder


def first_boxes(source: DetectionSource) -> list[float]:
    """Left sides of the first object's boxes, frame by frame."""
    return [float(frame.detections.xyxy[0, 0]) if len(frame.detections) else -1 for frame in source.frames()]


TOY = [float(box_of(1, n)[0]) for n in range(4)]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        ([f"{n:06d}.png" for n in range(1, 5)], [1, 2, 3, 4]),
        ([f"{n:06d}.png" for n in range(4)], [0, 1, 2, 3]),
        (["100.png", "110.png", "120.png", "130.png"], [100, 110, 120, 130]),
        ([f"shot_{n}.png" for n in (8, 9, 10, 11)], ["shot_8", "shot_9", "shot_10", "shot_11"]),
        ([f"shot_{n}.png" for n in (8, 9, 10, 11)], [1, 2, 3, 4]),
    ],
)
def test_image_ids_find_their_pictures(tmp_path: Path, names: list[str], ids: list[int | str]) -> None:
    log = RunLog()
    with video_of(pictures(tmp_path / "clip", names)) as video:
        source = open_detections(coco_of(tmp_path / "r.json", ids), video, log)
        assert first_boxes(source) == TOY
        assert "image ids" in str(source.record["reading"])
    assert [w.code for w in log.warnings if w.stage == "detections"] == []


def test_a_list_of_images_from_the_settings(tmp_path: Path) -> None:
    """The list's pictures are in another order than their ids; without pictures it gives length and size."""
    ids = [139, 632, 285, 724]
    images = [
        {"id": one, "file_name": f"a/{n}.png", "width": WIDTH, "height": HEIGHT, "video_id": 3}
        for n, one in enumerate(ids)
    ]
    images.append({"id": 1, "file_name": "b/0.png", "video_id": 4})
    listed = tmp_path / "i.json"
    listed.write_text(json.dumps({"images": images}))
    path = coco_of(tmp_path / "r.json", ids)
    with video_of(pictures(tmp_path / "clip", [f"{n}.png" for n in range(4)]), images=listed) as video:
        assert first_boxes(open_detections(path, video, RunLog())) == TOY
    with open_input(None, InputSettings(images=listed)) as video:
        assert first_boxes(open_detections(path, video, RunLog())) == TOY
        assert (video.length, video.size) == (4, (HEIGHT, WIDTH))
    with open_input(None, InputSettings()) as video, pytest.raises(InputError, match="images="):
        open_detections(path, video, RunLog())


def test_boxes_of_pictures_of_another_size(tmp_path: Path) -> None:
    listed = tmp_path / "i.json"
    listed.write_text(json.dumps({"images": [{"id": 1, "file_name": "0.png", "width": 1280, "height": 720}]}))
    path = coco_of(tmp_path / "r.json", [1])
    with (
        video_of(pictures(tmp_path / "clip", ["0.png"]), images=listed) as video,
        pytest.raises(InputError, match=rf"r\.json: boxes on pictures of 1280×720, but .* have {WIDTH}×{HEIGHT}"),
    ):
        open_detections(path, video, RunLog())


def scattered(count: int = 40, size: tuple[int, int] = (640, 480)) -> NDArray[np.float64]:
    """`(N, 4)` x, y, width, height of boxes all over a frame of `(W, H)`, some of which it cuts off."""
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 0.95, (count, 2)) * size
    return np.column_stack([corner, np.minimum(rng.uniform(20, 90, (count, 2)), np.array(size) - corner)])


def opened_with(path: Path, boxes: NDArray[np.float64], log: RunLog | None = None, **settings: object) -> RunLog:
    """Opens MOT text of boxes as columns 3 to 6, a frame each, and gives the log."""
    log = log or RunLog()
    numbers = [",".join(f"{value:.2f}" for value in box) for box in boxes.tolist()]
    path.write_text("".join(f"{frame},-1,{box},0.9\n" for frame, box in enumerate(numbers, start=1)))
    video = open_input(None, InputSettings.model_validate({"fps": 30, **settings}))
    open_detections(path, video, log)
    return log


def test_corners_in_place_of_width_and_height(tmp_path: Path) -> None:
    boxes = scattered()
    corners = np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    with pytest.raises(
        InputError, match=r"a\.txt: .* x, y, width and height, but fit into the 640×480 frames as corners"
    ):
        opened_with(tmp_path / "a.txt", corners, size="640x480")
    assert opened_with(tmp_path / "a.txt", boxes, size="640x480").warnings == []
    unknown = opened_with(tmp_path / "a.txt", corners)  # of frames whose size is not known
    assert [warning.code for warning in unknown.warnings] == ["boxes-unlikely"]
    assert "corners" in unknown.warnings[0].message
    face = np.array([[200, 150, 220 + k, 230] for k in range(40)], np.float64)  # one large thing is no list of corners
    assert opened_with(tmp_path / "a.txt", face, size="640x480").warnings == []


def test_boxes_on_turned_or_larger_pictures(tmp_path: Path) -> None:
    turned = scattered(size=(480, 640))
    with pytest.raises(
        InputError, match=r"a\.txt: .* beyond the 640×480 frames, and all fit into 480×640: .* rotation"
    ):
        opened_with(tmp_path / "a.txt", turned, size="640x480")
    large = scattered(size=(1920, 1080))
    with pytest.raises(
        InputError, match=r"outside the 640×480 frames, .* x 1[89]\d\d, y 10\d\d: detected on larger pictures"
    ):
        opened_with(tmp_path / "a.txt", large, size="640x480")
    log = opened_with(tmp_path / "a.txt", large, RunLog("skip"), size="640x480")
    assert [warning.code for warning in log.warnings] == ["boxes-unlikely"]


def test_centres_and_smaller_pictures_are_warned_about(tmp_path: Path) -> None:
    boxes = scattered()
    centred = np.column_stack([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]])
    (warning,) = opened_with(tmp_path / "a.txt", centred, size="640x480").warnings
    assert "as centres and sizes none does" in warning.message
    (warning,) = opened_with(tmp_path / "a.txt", scattered(60), size="1920x1080").warnings
    assert "upper left 33 % × 44 %" in warning.message
    assert "smaller pictures" in warning.message


@pytest.mark.skipif(not MOT.is_dir(), reason="the shared data are not here")
def test_boxes_of_real_detectors_are_likely() -> None:
    names = ("MOT17/MOT17-11-FRCNN", "MOT17/MOT17-09-FRCNN", "MOT15/ETH-Sunnyday", "KITTI/KITTI-0018")
    for folder in (MOT / name for name in names):
        for file in (folder / "det").glob("*.txt"):
            with video_of(folder) as video:
                log = RunLog()
                open_detections(file, video, log)
                assert not [warning for warning in log.warnings if warning.code == "boxes-unlikely"], file


@pytest.mark.parametrize("settings", [{"images": "i.json"}, {"video_name": "a"}, {"frame_base": 1}])
def test_settings_of_files_where_there_is_none(tmp_path: Path, settings: dict[str, object]) -> None:
    with (
        video_of(make_clip(tmp_path / "clip.mp4", 3), **settings) as video,
        pytest.raises(SettingError, match="says how to read a file of detections"),
    ):
        open_detections(None, video, RunLog())


def test_settings_that_the_format_has_no_use_for(clip: Path, tmp_path: Path) -> None:
    csv = classed_csv(tmp_path / "d.csv")
    mot = write_lines(tmp_path / "d.txt", detection_lines(3))
    results = coco_of(tmp_path / "r.json", [0, 1])
    for path, settings, message in (
        (mot, {"video_name": "a"}, "names no videos, and video_name='a' asks for one"),
        (csv, {"video_name": "a"}, "names no videos"),
        (results, {"video_name": "a"}, "names no videos"),
        (csv, {"class_column": 8}, "class_column=8 is for MOT text"),
        (results, {"class_column": 8}, "class_column=8 is for MOT text"),
    ):
        with video_of(clip, **settings) as video, pytest.raises(InputError, match=message):
            open_detections(path, video, RunLog())


def test_a_base_from_the_settings(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "toy")
    text = (folder / "det" / "det.txt").read_text()
    (folder / "det" / "det.txt").write_text("frame,id,x,y,w,h,score\n" + text)
    for base, first in ((None, 0), (1, 0), (0, 1)):
        with video_of(folder, frame_base=base) as video:
            source = open_detections(None, video, RunLog("skip"))
            assert next(frame.index for frame in source.frames() if len(frame.detections)) == first
            assert f"frames count from {1 - first}" in str(source.record["reading"])


class Fails(Recorder):
    """Fails on its third frame."""

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        found = super().detect(image)
        if len(self.calls) == 4:  # one is the reset
            raise InputError("m.onnx: scores reach 3")
        return found


def test_a_frame_on_which_the_detector_fails_is_named_or_left_out(tmp_path: Path) -> None:
    message = r"frame 2 \(.*\): m\.onnx: scores reach 3"
    with video_of(make_clip(tmp_path / "clip.mp4", 5)) as video:
        with pytest.raises(InputError, match=message + ".*on_bad_item=skip"):
            list(open_detections(Fails(), video, RunLog()).frames())
        log = RunLog("skip")
        assert [frame.index for frame in open_detections(Fails(), video, log).frames()] == [0, 1, 3, 4]
        assert log.skipped == {"frame-undetected": 1}
    with pytest.raises(InputError, match=message):
        detect(tmp_path / "clip.mp4", Fails())


def test_the_record_says_how_outputs_are_read(tmp_path: Path) -> None:
    with video_of(make_clip(tmp_path / "clip.mp4", 2)) as video:
        source = open_detections(str(onnx_models.end_to_end(tmp_path / "m.onnx")), video, RunLog())
        list(source.frames())
        assert source.record["reading"] == "yolo-end2end: xyxy in pixels of the input, scores in [0, 1]"
        assert "reading" not in open_detections(Recorder(), video, RunLog()).record


@pytest.mark.parametrize(
    ("fps", "warned"), [(None, ["frame-rate-unknown"]), (25, []), (1000, []), (90_000, ["frame-rate"])]
)
def test_the_rate_of_detections_alone(tmp_path: Path, fps: float | None, warned: list[str]) -> None:
    det = write_lines(tmp_path / "det.txt", detection_lines(6))
    log = RunLog()
    with open_input(None, InputSettings(fps=fps)) as video, open_detections(det, video, log):
        video.report(log)
    assert [warning.code for warning in log.warnings] == warned
    if fps == 90_000:
        assert "90000 frames per second: is that a time base" in log.warnings[0].message


# --- classes ---------------------------------------------------------------------------------------------------------

COCO_NAMES = {0: "person", 2: "Car", 7: "truck"}


class Namer(Recorder):
    """A detector that sees a person, a car and a truck."""

    class_names: Mapping[int, str] | None = COCO_NAMES

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        return Detections.of([[0, 0, 4, 4], [5, 5, 9, 9], [10, 10, 20, 20]], class_id=[0, 2, 7])


def classed_csv(path: Path, classes: Sequence[object] = (0, 2, 7)) -> Path:
    lines = ["frame,x1,y1,x2,y2,score,class"]
    lines += [f"{frame},{10 * n},0,{10 * n + 8},8,0.9,{c}" for frame in range(3) for n, c in enumerate(classes)]
    path.write_text("\n".join(lines) + "\n")
    return path


def kept_classes(clip: Path, detections: object, log: RunLog | None = None, **settings: object) -> list[list[int]]:
    """Classes of every frame's detections."""
    with video_of(clip, **settings) as video, open_detections(detections, video, log or RunLog()) as source:  # type: ignore[arg-type]
        return [frame.detections.class_id.tolist() for frame in source.frames()]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip")


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [("person,car", [0, 2]), (" CAR ", [2]), ("2,7", [2, 7]), (7, [7]), (["truck", 0], [0, 7]), ((2,), [2])],
)
def test_chosen_classes_of_a_detector(clip: Path, wanted: object, kept: list[int]) -> None:
    assert kept_classes(clip, Namer(), classes=wanted) == [kept] * 12
    with video_of(clip, classes=wanted) as video, open_detections(Namer(), video, RunLog()) as source:
        assert sorted(source.record["classes"]) == kept  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("persn", r"no class 'persn' in recorder; did you mean 'person'\? \(known: 0 person, 2 Car, 7 truck\)"),
        ("person,1", r"no class 1 in recorder \(known: 0 person"),
        ("zebra", r"no class 'zebra' in recorder \(known: 0 person"),
    ],
)
def test_a_class_that_the_detector_has_not(clip: Path, wanted: str, message: str) -> None:
    with pytest.raises(SettingError, match=f"classes: there is {message}"):
        kept_classes(clip, Namer(), classes=wanted)


def test_classes_of_a_detector_without_any(clip: Path) -> None:
    with pytest.raises(SettingError, match="motion does not name its classes"):
        kept_classes(clip, "motion", classes="car")
    with pytest.raises(SettingError, match="what recorder finds has no class"):
        kept_classes(clip, Recorder(), classes="2")


def test_chosen_classes_of_a_file(clip: Path, tmp_path: Path) -> None:
    log = RunLog()
    assert kept_classes(clip, classed_csv(tmp_path / "d.csv"), log, classes="7,9") == [[7]] * 3 + [[]] * 9
    assert [w.code for w in log.warnings] == ["class-absent"]
    assert "no detection of class 9; there: 0, 2, 7" in log.warnings[0].message


def test_words_of_a_file_are_names(clip: Path, tmp_path: Path) -> None:
    path = classed_csv(tmp_path / "d.csv", ["person", "car", "Truck"])
    assert kept_classes(clip, path)[0] == [2, 1, 0]
    assert kept_classes(clip, path, classes="car,truck")[0] == [1, 0]
    with pytest.raises(SettingError, match="no class 'vehicle' in"):
        kept_classes(clip, path, classes="vehicle")


def test_rows_without_a_word_have_no_class(clip: Path, tmp_path: Path) -> None:
    table = read_detections(classed_csv(tmp_path / "d.csv", ("person", "", "car")))
    assert table.class_names == {0: "car", 1: "person"}
    assert table.at(0).class_id.tolist() == [1, -1, 0]


def test_categories_of_a_coco_file_are_names(clip: Path, tmp_path: Path) -> None:
    images = {
        "images": [{"id": n, "file_name": f"{n:05d}.png"} for n in range(12)],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }
    results = [{"image_id": 0, "category_id": c, "bbox": [9 * c, 0, 8, 8], "score": 0.9} for c in (1, 3)]
    (tmp_path / "images.json").write_text(json.dumps(images))
    (tmp_path / "results.json").write_text(json.dumps(results))
    settings: dict[str, Any] = {"images": str(tmp_path / "images.json")}
    assert kept_classes(clip, tmp_path / "results.json", **settings)[0] == [1, 3]
    assert kept_classes(clip, tmp_path / "results.json", classes="car", **settings)[0] == [3]


def test_a_file_without_classes(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"det\.txt have no class; class_column"):
        kept_classes(make_sequence(tmp_path / "toy"), None, classes="1")
    with pytest.raises(SettingError, match=r"class 'car': .*d\.csv does not name its classes: give numbers"):
        kept_classes(clip, classed_csv(tmp_path / "d.csv"), classes="car")


@pytest.mark.parametrize("wanted", ["", "car,,truck", [], True, [1.5]])
def test_what_is_no_list_of_classes(wanted: object) -> None:
    with pytest.raises(SettingError, match="classes"):
        InputSettings.checked(classes=wanted)


def test_columns_by_name_and_data_frames() -> None:
    columns = {"frame": [0, 1], "x1": [10, 12], "y1": [20, 21], "x2": [50, 52], "y2": [90, 91], "score": [0.9, 0.8]}
    for given in (columns, pd.DataFrame(columns)):
        with open_input(None, InputSettings(fps=30, size=(640, 480))) as video:
            source = open_detections(given, video, RunLog())
            assert video.length == 2
            assert source.record["reading"] is not None
    with open_input(None, InputSettings(fps=30)) as video:
        for wrong in ([[1, 2, 3, 4]], np.zeros((2, 5)), 5):
            with pytest.raises(SettingError, match=r"not (list|ndarray|int): boxes of your own, frame by frame"):
                open_detections(wrong, video, RunLog())  # type: ignore[arg-type]
