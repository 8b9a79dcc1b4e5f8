"""`BoxPass`: one pass over a video: every frame is looked at, its detections are linked, what happens is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any

from trackweave.errors import FrameError
from trackweave.frames.source import RGBFrame
from trackweave.mot.camera_motion import GivenCameraMotion
from trackweave.mot.perception import (
    Annotate,
    Camera,
    Perception,
    PerceptionSettings,
    open_camera,
    open_embedder,
    open_visibility,
)
from trackweave.mot.protocols import AssignmentObserver, AssociationScorer
from trackweave.mot.remarks import Remarks
from trackweave.mot.settings import TrackerSettings
from trackweave.mot.sight import Sight
from trackweave.mot.tracker import ByteTracker, TrackerSummary
from trackweave.mot.video_input import InputFrame, VideoInput
from trackweave.structures.detections import Detections

ASSUMED_RATE = 30.0
"""Frames per second where nobody knows; the run says so."""


class BoxPass:
    """Opens what the settings ask for at once, so that mistakes show before anything is written.

    Args:
        video: the frames.
        sight: where detections come from.
        how: the tracker's settings.
        looks: which signals are computed.
        remarks: where omissions are counted.
        stage: a `with` block that takes the time of a stage.
        annotate: adds columns to a frame's detections.
        scorer: a learned judge of pairs.
        reads_visibility: whether somebody besides the tracker needs it.
        stop: ends the pass after the current frame when it is set.

    Attributes:
        detections: detections on the frames that were tracked so far.

    Raises:
        InputError: a model or `gmc.txt` cannot be used, or pictures are missing.
        SettingError: an unknown embedder, or a camera that the tracker would not use.
    """

    def __init__(
        self,
        video: VideoInput,
        sight: Sight,
        how: TrackerSettings,
        looks: PerceptionSettings,
        remarks: Remarks,
        stage: Callable[[str], AbstractContextManager[Any]],
        *,
        annotate: Annotate | None = None,
        scorer: AssociationScorer | None = None,
        reads_visibility: bool = False,
        stop: threading.Event | None = None,
    ) -> None:
        self._video, self._sight, self._how, self._remarks = video, sight, how, remarks
        self._stage, self._stop, self._scorer = stage, stop, scorer
        self._embedder = open_embedder(looks.embedder, video, how, remarks)
        self._camera: Camera | None = open_camera(looks.camera, video, how)
        self._visibility = open_visibility(
            looks, how, needed=reads_visibility or scorer is not None or self._embedder is not None
        )
        self._eyes = Perception(
            sight.detect,
            visibility=self._visibility,
            embedder=self._embedder,
            camera=self._camera,
            confidence=how.confidence_threshold,
            annotate=annotate,
            stage=stage,
            size=video.size,
        )
        self._tracker: ByteTracker | None = None
        self.detections = 0

    def tracked(
        self, observer: AssignmentObserver | None = None, *, draws: bool = False
    ) -> Generator[tuple[InputFrame, Detections]]:
        """Frames with the tracker's answers.

        Args:
            observer: is shown every decision.
            draws: whether the caller draws on the pictures: then those that cannot be read are found here.

        Raises:
            InputError: a frame or a detection that cannot be used.
            ArtifactError: the observer cannot write.
        """
        with self._stage("open"):
            rate = self._video.frame_rate or ASSUMED_RATE
            tracker = ByteTracker(
                self._how, frame_rate=rate, size=self._video.size, scorer=self._scorer, observer=observer
            )
        self._tracker = tracker
        wanted = self._video.has_images and (draws or self._eyes.needs_images or self._sight.looks)
        for frame in self._frames():
            image, readable = self._picture(frame) if wanted else (None, True)
            if not readable and self._sight.looks:
                continue
            context, found = self._eyes.look(frame, image)
            before = tracker.frames
            with self._stage("track"):
                tracked = tracker.update(context, found)
            if tracker.frames == before:  # it left the frame out, which is not later than the one before
                continue
            self.detections += len(found)
            yield frame, tracked
        self._note_ending()

    @property
    def frames(self) -> int:
        """Frames that were tracked so far."""
        return 0 if self._tracker is None else self._tracker.frames

    @property
    def summary(self) -> TrackerSummary:
        """What the tracker did.

        Raises:
            ValueError: before `tracked`.
        """
        if self._tracker is None:
            raise ValueError("nothing was tracked yet")
        return self._tracker.summary

    def signals(self) -> dict[str, Any]:
        """JSON values: which signals were computed, and how well that went."""
        seen, words, camera = self._visibility, self._embedder, self._camera
        moved: dict[str, Any] | None = None
        if isinstance(camera, GivenCameraMotion):
            moved = {"kind": "given", "missing": camera.missing}
        elif camera is not None:
            moved = {"kind": "estimate", "failures": {str(why): count for why, count in camera.failures.items()}}
        return {
            "visibility": None if seen is None else {how.name.lower(): count for how, count in seen.counts.items()},
            "embedder": None if words is None else {"name": words.name, "width": words.width},
            "camera": moved,
        }

    def _frames(self) -> Iterator[InputFrame]:
        """The video's frames until it ends, breaks off, or somebody says stop."""
        frames = self._video.frames()
        while not self._is_stopped():
            try:
                with self._stage("read"):
                    frame = next(frames, None)
            except FrameError as error:
                # What a live source has shown cannot be had again: a break ends the run, it does not undo it.
                if self._video.kind != "live" or not self.frames:
                    raise
                if not self._is_stopped():
                    self._remarks.warn("frames", "stream-broke-off", str(error))
                return
            if frame is None:
                return
            yield frame

    def _is_stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def _picture(self, frame: InputFrame) -> tuple[RGBFrame | None, bool]:
        """The frame's picture, and whether it could be read."""
        try:
            with self._stage("read"):
                return frame.image(), True
        except FrameError as error:
            if self._remarks.on_bad_item == "error":
                raise
            self._remarks.skip("frame-unreadable", str(error))
            return None, False

    def _note_ending(self) -> None:
        live, path = self._video.live, self._video.path
        if live is not None and live.ending is not None:
            self._remarks.warn("frames", "stream-ended", f"{path}: {live.ending}")
        if live is not None and live.dropped:
            text = f"{path}: {live.dropped} pictures could not be decoded and are missing"
            self._remarks.skip("picture-dropped", text, live.dropped)
