"""From a name on the command line to a detector; what it needs is imported only when chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from trackweave.detectors.base import Detector
from trackweave.detectors.settings import HogSettings, MotionSettings, OnnxSettings
from trackweave.errors import SettingError
from trackweave.settings import Settings

WEIGHTS_FREE = ("hog", "motion")
S = TypeVar("S", bound=Settings)


def make_detector(detector: str | Path, **options: Any) -> Detector:
    """The detector of a name or of a model's path.

    Args:
        detector: `hog`, `motion`, or a path that ends in `.onnx`.
        options: fields of `HogSettings`, `MotionSettings` or `OnnxSettings`.

    Raises:
        SettingError: an unknown name, a setting that the detector does not have, or a value that does not fit.
        InputError: the model cannot be used.
    """
    name = str(detector)
    if name == "hog":
        from trackweave.detectors.hog import HogDetector

        return HogDetector(_settings(name, HogSettings, options))
    if name == "motion":
        from trackweave.detectors.motion import MotionDetector

        return MotionDetector(_settings(name, MotionSettings, options))
    if name.lower().endswith(".onnx"):
        from trackweave.detectors.onnx import OnnxDetector

        return OnnxDetector(Path(detector), _settings(name, OnnxSettings, options))
    raise SettingError(f"there is no detector {name!r}; known: {', '.join(WEIGHTS_FREE)}, or a path of an .onnx file")


def _settings(name: str, settings_class: type[S], options: Mapping[str, object]) -> S:
    fields = settings_class.model_fields
    for option in options:
        if option not in fields:
            raise SettingError(f"detector {name} has no setting {option!r}; known: {', '.join(fields)}")
    try:
        return settings_class.checked(options)
    except SettingError as error:
        raise SettingError(f"{name}: {error}") from None
