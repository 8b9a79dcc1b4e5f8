from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from trackweave.boxes import box_iou
from trackweave.detectors.base import Detector
from trackweave.detectors.motion import MotionDetector
from trackweave.detectors.registry import make_detector
from trackweave.detectors.settings import MotionSettings
from trackweave.errors import InputError, SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.structures.detections import Detections

RNG = np.random.default_rng(5)
WALL = np.repeat(np.repeat(RNG.integers(60, 160, (24, 32, 3), np.uint8), 10, 0), 10, 1)  # 240×320 of tiles
NOISE = RNG.integers(0, 4, (8, 240, 320, 3), np.uint8)


def frame(step: int, *boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The wall with camera noise, and white things before it."""
    image: NDArray[np.uint8] = WALL + NOISE[step % 8]
    for left, top, right, bottom in boxes:
        image[max(top, 0) : bottom, max(left, 0) : right] = 250
    return image


def walk(step: int) -> tuple[int, int, int, int]:
    return 6 * step, 80, 6 * step + 40, 140


def watch(detector: MotionDetector, start: int, stop: int) -> list[Detections]:
    return [detector.detect(frame(step, walk(step))) for step in range(start, stop)]


@pytest.mark.parametrize("model", ["mog2", "knn"])
@pytest.mark.parametrize("working_side", [640, 160])
def test_a_moving_object_is_detected_on_every_frame(model: Literal["mog2", "knn"], working_side: int) -> None:
    detector = MotionDetector(MotionSettings(model=model, working_side=working_side))
    for step in range(8):
        assert len(detector.detect(frame(step))) == 0
    for step, detections in enumerate(watch(detector, 8, 40), start=8):
        assert len(detections) == 1
        assert box_iou([walk(step)], detections.xyxy)[0, 0] > 0.8
        assert detections.score[0] > 0.8
        assert detections.class_id.tolist() == [-1]
    assert detector.scene_changes == 0


def test_masks_lie_in_their_boxes() -> None:
    detector = MotionDetector(MotionSettings(working_side=160))
    for step in range(8):
        detector.detect(frame(step))
    detections = detector.detect(frame(9, (30, 40, 90, 100), (200, 150, 260, 200)))
    assert isinstance(detections.masks, PackedMasks)
    assert detections.masks.size == (240, 320)
    np.testing.assert_array_equal(detections.masks.boxes, detections.xyxy)
    assert (detections.masks.areas > 0.8 * np.array([3000, 3000])).all()
    assert sorted(detections.xyxy[:, 0] > 150) == [False, True]


def test_faint_regions_score_lower() -> None:
    detector = MotionDetector()
    for step in range(8):
        detector.detect(frame(step))
    image = frame(8, (30, 40, 90, 100))
    image[150:210, 200:260] += 45
    detections = detector.detect(image)
    assert len(detections) == 2
    assert detections.xyxy[0, 0] < 100
    assert detections.score[0] > detections.score[1] + 0.1
    assert (detections.score <= 1).all()


def test_shadows_are_not_objects_and_gaps_do_not_split_them() -> None:
    detector = MotionDetector()
    for step in range(8):
        detector.detect(frame(step))
    image = frame(8, (30, 40, 90, 68), (30, 71, 90, 100))  # three rows of wall shine through
    image[120:220, 150:300] = (0.7 * image[120:220, 150:300]).astype(np.uint8)
    detections = detector.detect(image)
    assert len(detections) == 1
    np.testing.assert_allclose(detections.xyxy[0], [30, 40, 90, 100], atol=2)


def test_warm_up_and_small_regions_give_no_detections() -> None:
    detector = MotionDetector(MotionSettings(warm_up=6, min_area=0.01))
    assert [len(detections) for detections in watch(detector, 0, 6)] == [0] * 6
    detector.reset()
    for step in range(10):
        assert len(detector.detect(frame(step))) == 0
    assert len(detector.detect(frame(10, (50, 50, 70, 70)))) == 0  # 400 of 76 800 pixels
    assert len(detector.detect(frame(11, (50, 50, 90, 90)))) == 1


@pytest.mark.parametrize("other", [255 - WALL, WALL + 70], ids=["cut", "light"])
def test_a_change_of_the_whole_scene_is_counted_and_learned(other: NDArray[np.uint8]) -> None:
    detector = MotionDetector(MotionSettings(warm_up=4))
    for step in range(10):
        detector.detect(frame(step))
    assert [len(detector.detect(other + NOISE[step])) for step in range(6)] == [0] * 6
    assert detector.scene_changes == 1
    new = other + NOISE[6]
    new[80:140, 100:140] = 0
    assert len(detector.detect(new)) == 1


def test_reset_forgets_the_video() -> None:
    first, again = MotionDetector(), MotionDetector()
    for step in range(12):
        again.detect(255 - frame(step))
    again.detect(frame(0))
    assert again.scene_changes == 1
    again.reset()
    assert again.scene_changes == 0
    for a, b in zip(watch(first, 0, 20), watch(again, 0, 20), strict=True):
        np.testing.assert_array_equal(a.xyxy, b.xyxy)
        np.testing.assert_array_equal(a.score, b.score)


def test_a_frame_of_another_size_starts_anew() -> None:
    detector = MotionDetector(MotionSettings(warm_up=2))
    for step in range(6):
        detector.detect(frame(step))
    assert len(detector.detect(frame(6)[:200])) == 0
    assert detector.scene_changes == 0


def test_what_cannot_be_used_is_refused() -> None:
    assert isinstance(MotionDetector(), Detector)
    with pytest.raises(InputError, match="a frame is"):
        MotionDetector().detect(np.zeros((9, 9), np.uint8))
    for settings in ({"model": "gmg"}, {"min_area": -1.0}, {"max_change": 0.0}, {"warm_up": 0}, {"working_side": 2}):
        with pytest.raises(SettingError, match="motion: "):
            make_detector("motion", **settings)
