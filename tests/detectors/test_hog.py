from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from trackweave.boxes import box_iou
from trackweave.detectors.base import Detector
from trackweave.detectors.hog import HogDetector
from trackweave.detectors.registry import make_detector
from trackweave.detectors.settings import HogSettings
from trackweave.errors import InputError, SettingError

MALL = Path(__file__).parents[3] / "shared" / "data" / "mot" / "MOT17" / "MOT17-11-FRCNN" / "img1" / "000001.jpg"
STANDING = [[405, 290, 495, 580], [550, 270, 645, 565], [930, 150, 1110, 750]]
"""Three people of that frame, read off the image."""


@pytest.mark.skipif(not MALL.is_file(), reason="MOT17 is not beside the project")
def test_people_of_a_real_frame_are_found() -> None:
    image = np.asarray(cv2.imread(str(MALL)))[..., ::-1]
    detections = HogDetector(HogSettings(score_threshold=0.5)).detect(np.ascontiguousarray(image, np.uint8))
    assert len(detections) == 3
    assert (box_iou(STANDING, detections.xyxy).max(axis=1) > 0.5).all()
    assert (detections.score > 0.9).all()
    assert (np.diff(detections.score) <= 0).all()
    assert detections.class_id.tolist() == [0, 0, 0]


def figure(scale: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A dark standing figure of 96 pixels times `scale` before a light wall."""
    image = np.full((200 * scale, 160 * scale, 3), 200, np.uint8)

    def part(centre: tuple[int, int], axes: tuple[int, int]) -> None:
        cv2.ellipse(
            image,
            (centre[0] * scale, centre[1] * scale),
            (axes[0] * scale, axes[1] * scale),
            0,
            0,
            360,
            (40, 40, 40),
            -1,
        )

    part((80, 58), (7, 9))  # head
    part((80, 88), (13, 24))  # trunk
    part((74, 124), (6, 26))  # legs
    part((86, 124), (6, 26))
    return image


@pytest.mark.parametrize("scale", [1, 2])
def test_a_drawn_figure_is_found_at_every_size(scale: int) -> None:
    detections = HogDetector(HogSettings(working_height=200 * scale)).detect(figure(scale))
    assert len(detections)
    assert box_iou([[62 * scale, 49 * scale, 98 * scale, 150 * scale]], detections.xyxy[:1])[0, 0] > 0.5


def test_an_empty_wall_has_no_detections() -> None:
    assert len(HogDetector().detect(np.full((200, 300, 3), 128, np.uint8))) == 0
    assert len(HogDetector().detect(np.full((20, 20, 3), 128, np.uint8))) == 0  # smaller than a window


def test_scores_obey_the_threshold() -> None:
    every = HogDetector(HogSettings(score_threshold=0.01, working_height=200)).detect(figure())
    some = HogDetector(HogSettings(score_threshold=0.2, working_height=200)).detect(figure())
    assert every.score.min() >= 0.01
    assert some.score.tolist() == [score for score in every.score.tolist() if score >= 0.2]


def test_what_cannot_be_used_is_refused() -> None:
    assert isinstance(HogDetector(), Detector)
    with pytest.raises(InputError, match="a frame is"):
        HogDetector().detect(np.zeros((9, 9), np.uint8))
    for settings in ({"score_threshold": 0.0}, {"working_height": 10}, {"scale": 1.0}):
        with pytest.raises(SettingError, match="hog: "):
            make_detector("hog", **settings)
