from __future__ import annotations

from pathlib import Path

import pytest

from tests.detectors import onnx_models
from trackweave.detectors.hog import HogDetector
from trackweave.detectors.motion import MotionDetector
from trackweave.detectors.onnx import OnnxDetector
from trackweave.detectors.registry import make_detector
from trackweave.errors import InputError, SettingError


def test_names_and_paths(tmp_path: Path) -> None:
    assert isinstance(make_detector("hog", working_height=300), HogDetector)
    assert isinstance(make_detector("motion"), MotionDetector)
    path = onnx_models.yolov8(tmp_path / "Model.ONNX")
    assert isinstance(make_detector(path), OnnxDetector)
    assert isinstance(make_detector(str(path), score_threshold=0.4), OnnxDetector)


def test_unknown_names_and_settings_are_refused_with_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"no detector 'yolo'; known: hog, motion, or a path of an \.onnx file"):
        make_detector("yolo")
    with pytest.raises(SettingError, match="detector motion has no setting 'iou_threshold'; known: model, min_area"):
        make_detector("motion", iou_threshold=0.5)
    path = onnx_models.yolov8(tmp_path / "m.onnx")
    with pytest.raises(SettingError, match="no setting 'path'; known: score_threshold"):
        make_detector(path, path="other.onnx")
    with pytest.raises(InputError, match=r"absent\.onnx"):
        make_detector("absent.onnx")
