"""From a name on the command line to a detector; what it needs is imported only when chosen."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

from trackweave.detectors.base import Detector
from trackweave.errors import SettingError

WEIGHTS_FREE = ("hog", "motion")


def make_detector(asked: str | Path, **options: Any) -> Detector:
    """Makes the detector that a name or the path of a model asks for.

    Args:
        asked: `hog`, `motion`, or a path that ends in `.onnx`.
        options: settings of `HogDetector`, `MotionDetector` or `OnnxDetector`.

    Raises:
        SettingError: an unknown name, or a setting that the detector does not have.
        InputError: the model cannot be used.
    """
    name = str(asked)
    kind: Any
    if name == "hog":
        from trackweave.detectors.hog import HogDetector as kind  # noqa: N813
    elif name == "motion":
        from trackweave.detectors.motion import MotionDetector as kind  # noqa: N813
    elif name.lower().endswith(".onnx"):
        from trackweave.detectors.onnx import OnnxDetector

        kind = partial(OnnxDetector, Path(asked))
    else:
        raise SettingError(
            f"there is no detector {name!r}; known: {', '.join(WEIGHTS_FREE)}, or a path of an .onnx file"
        )
    _check_options(name, kind, options)
    detector: Detector = kind(**options)
    return detector


def _check_options(name: str, kind: Any, options: dict[str, Any]) -> None:
    known = list(inspect.signature(kind).parameters)
    for option in options:
        if option not in known:
            raise SettingError(f"detector {name} has no setting {option!r}; known: {', '.join(known)}")
