"""`BoxOverlay`: the tracks of a run over its frames, as a video that grows with the run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from trackweave.errors import FrameError
from trackweave.formats.mp4 import Mp4Writer
from trackweave.formats.trails import TrailPainter
from trackweave.frames.source import RGBFrame
from trackweave.mot.remarks import Remarks
from trackweave.mot.video_input import InputFrame, VideoInput
from trackweave.structures.tracks import Tracks

SAMPLES_PER_SECOND = 2.0
"""Speed of the overlay of a sequence that has only some of its pictures."""
LIVE_RATE = 25.0
"""Speed where the frame rate is not known."""


class BoxOverlay:
    """The file appears when the `with` block ends well and a frame was drawn.

    Args:
        path: the video.
        video: what is drawn on.
        remarks: where pictures that cannot be drawn on are counted.
        stage: a `with` block that takes the time of a stage.
        wanted: False draws nothing.

    Attributes:
        is_on: it is wanted, and there are pictures.
    """

    def __init__(
        self,
        path: Path,
        video: VideoInput,
        remarks: Remarks,
        stage: Callable[[str], AbstractContextManager[Any]],
        *,
        wanted: bool = True,
    ) -> None:
        self.is_on = wanted and (video.has_images or video.samples is not None)
        self._video, self._remarks, self._stage = video, remarks, stage
        rate = (video.frame_rate or LIVE_RATE) / video.step
        rate = SAMPLES_PER_SECOND if video.samples is not None else rate
        self._writer = Mp4Writer(path, float(np.clip(rate, 1, 120)))
        self._painter = TrailPainter()

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def draw(self, frame: InputFrame, tracks: Tracks) -> None:
        """Appends the next frame, when it has a picture."""
        if not self.is_on:
            return
        with self._stage("overlay"):
            self._painter.follow(frame.index, tracks)
            picture = self._picture(frame)
            if picture is not None:
                self._writer.write(self._painter.paint(picture, tracks))

    def _picture(self, frame: InputFrame) -> RGBFrame | None:
        try:
            picture = frame.picture()
        except FrameError as error:
            if self._remarks.on_bad_item == "error" and not frame.is_sample:
                raise
            self._remarks.skip("picture-unreadable", str(error))
            return None
        size = self._video.size
        if picture is not None and size is not None and picture.shape[:2] != size:
            text = f"{frame.name}: {picture.shape[1]}×{picture.shape[0]} pixels, the video has {size[1]}×{size[0]}"
            self._remarks.skip("picture-size", text)
            return None
        return picture
