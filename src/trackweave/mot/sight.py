"""`Sight`: where the detections of a run come from: a file, a table, or a detector that looks at the pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from trackweave.detectors.base import Detector
from trackweave.detectors.registry import WEIGHTS_FREE, make_detector
from trackweave.errors import InputError, SettingError
from trackweave.formats.detections import DetectionTable, read_detections
from trackweave.mot.remarks import Remarks
from trackweave.mot.video_input import InputFrame, VideoInput
from trackweave.structures.detections import Detections

DEFAULT_DETECTOR = "motion"
"""What sees objects when nobody said what does: anything that moves before a camera that does not; needs no weights."""
Given = str | Path | DetectionTable | Detector


@dataclass(frozen=True)
class Sight:
    """Use it in a `with` block: a detector that was made here is closed at its end.

    Attributes:
        detect: the detections of a frame.
        looks: whether it needs the frame's picture.
        record: for the manifest: a file and its rows, or a detector and why it was taken.
    """

    detect: Callable[[InputFrame], Detections]
    looks: bool
    record: Mapping[str, Any]
    _stack: ExitStack

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def open_sight(
    given: Given | None,
    video: VideoInput,
    remarks: Remarks,
    *,
    detector: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Sight:
    """Opens the file of detections, or the detector; tells the video its length where only detections know it.

    Args:
        given: a file, a table, a detector, or a detector's name. None: `detector`, the sequence's own `det/det.txt`,
            else `motion`.
        video: what it looks at.
        remarks: where bad rows are counted.
        detector: name of a detector, or path of an `.onnx` file.
        options: settings of a detector that is named.

    Raises:
        InputError: it cannot be used, or a detector has no pictures to look at.
        SettingError: a file and a detector at once, nothing to see with, or an unknown detector or option.
    """
    if given is not None and detector is not None:
        raise SettingError(f"both detections ({given}) and a detector ({detector}) are given: leave one out")
    asked = detector if given is None else given
    if isinstance(asked, Detector):
        return _detector_sight(asked, "given by the caller", video, ExitStack())
    if isinstance(asked, DetectionTable):
        return _table_sight(asked, video, remarks)
    if asked is not None and (str(asked) in WEIGHTS_FREE or str(asked).lower().endswith(".onnx") or asked is detector):
        return _made_sight(str(asked), "asked for", video, options)
    if asked is not None:
        return _table_sight(_read(Path(asked), video, remarks), video, remarks)
    if video.sequence is not None and (video.sequence.detection_files or not video.has_images):
        return _table_sight(_read(video.sequence.detections(), video, remarks), video, remarks)
    if not video.has_images:
        raise SettingError("without frames there must be detections: give --detections FILE")
    return _made_sight(DEFAULT_DETECTOR, "neither detections nor a detector were given", video, options)


def _made_sight(name: str, reason: str, video: VideoInput, options: Mapping[str, Any] | None) -> Sight:
    with ExitStack() as stack:
        detector = make_detector(name, **(options or {}))
        stack.callback(detector.close)
        return _detector_sight(detector, reason, video, stack.pop_all())


def _detector_sight(detector: Detector, reason: str, video: VideoInput, stack: ExitStack) -> Sight:
    if not video.has_images:
        stack.close()
        raise InputError(f"{video.path}: detector {detector.name} needs a picture of every frame")
    detector.reset()

    def detect(frame: InputFrame) -> Detections:
        image = frame.image()
        return Detections.empty() if image is None else detector.detect(image)

    return Sight(detect, True, {"kind": "detector", "name": detector.name, "reason": reason}, stack)


def _read(path: Path, video: VideoInput, remarks: Remarks) -> DetectionTable:
    """A file, or by its name one of the sequence's own."""
    if not path.exists() and video.sequence is not None and path.name == str(path):
        path = video.sequence.detections(path.name)
    return read_detections(
        path, class_column=video.settings.class_column, length=video.length, on_bad_item=remarks.on_bad_item
    )


def _table_sight(table: DetectionTable, video: VideoInput, remarks: Remarks) -> Sight:
    remarks.take(table.warnings)
    beyond = 0 if video.length is None else int(np.count_nonzero(table.frame >= video.length))
    if beyond:
        text = f"{table.source}: {beyond} detections lie beyond the {video.length} frames of {video.path}"
        if remarks.on_bad_item == "error":
            raise InputError(f"{text}, the first on frame {table.frame[-beyond]}; --on-bad-item skip leaves them out")
        remarks.skip("frame-beyond-video", text, beyond)
    video.set_length(table.frame_count)
    record = {"kind": "file", "path": table.source, "rows": len(table) - beyond}
    return Sight(lambda frame: table.at(frame.index), False, record, ExitStack())
