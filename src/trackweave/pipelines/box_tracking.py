"""`BoxPass`: one pass over a video: every frame is looked at, its detections are linked, what happens is counted.

`Perception`: what is known of a frame before its tracks are decided: detections, how visible they are, what they
look like, and how the camera moved.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.embedders import Embedder, make_embedder
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.errors import FrameError, FrameOrderError, InputError, SettingError
from trackweave.formats.motchallenge import read_gmc
from trackweave.frames.source import RGBFrame
from trackweave.mot.camera_motion import CameraMotionEstimator, GivenCameraMotion, compose, identity
from trackweave.mot.settings import TrackerSettings
from trackweave.mot.state import AssignmentObserver, AssociationScorer, FrameContext
from trackweave.mot.tracker import Tracker, TrackerSummary
from trackweave.pipelines.box_inputs import Given, InputFrame, Sight, VideoInput, open_sight
from trackweave.pipelines.settings import PerceptionSettings
from trackweave.structures.detections import Detections
from trackweave.structures.run_log import Remarks

Affine = NDArray[np.float64]
Camera = GivenCameraMotion | CameraMotionEstimator
Detect = Callable[[InputFrame], Detections]
Annotate = Callable[[int, Detections], Detections]


class Perception:
    """Looks at one frame after another.

    Args:
        detect: the detections of a frame.
        visibility: fills `Detections.visibility` where the detector did not; None leaves it as it is.
        embedder: fills `Detections.embedding` where the detector did not; None leaves it as it is.
        camera: motion since the frame before; None = none is told.
        confidence: detections below are neither described nor hide others.
        annotate: adds columns to a frame's detections.
        stage: a `with` block that takes the time of a stage.
        size: `(H, W)` of frames without pictures.
    """

    def __init__(
        self,
        detect: Detect,
        *,
        visibility: VisibilityEstimator | None,
        embedder: Embedder | None,
        camera: Camera | None,
        confidence: float,
        annotate: Annotate | None,
        stage: Callable[[str], AbstractContextManager[Any]],
        size: tuple[int, int] | None,
    ) -> None:
        self._detect, self._annotate = detect, annotate
        self._visibility, self._embedder, self._camera = visibility, embedder, camera
        self._confidence, self._stage, self._size = confidence, stage, size
        self._before: int | None = None

    @property
    def needs_images(self) -> bool:
        """Is there anything to compute from pictures, besides the detections?"""
        cuts = self._visibility is not None and self._visibility.mode == "segment"
        return cuts or self._embedder is not None or isinstance(self._camera, CameraMotionEstimator)

    def look(self, frame: InputFrame, image: RGBFrame | None) -> tuple[FrameContext, Detections]:
        """One frame; frames come in order.

        Args:
            frame: which.
            image: `(H, W, 3)` uint8 RGB, or None when there is none or nothing needs it.

        Raises:
            InputError: the detector or the embedder failed on it.
        """
        with self._stage("detect"):
            found = self._detect(frame)
            if self._annotate is not None:
                found = self._annotate(frame.index, found)
        size = self._size if image is None else (image.shape[0], image.shape[1])
        if self._visibility is not None and found.visibility is None:
            with self._stage("visibility"):
                found = replace(found, visibility=self._visibility.estimate(found, image, size=size).visibility)
        if self._embedder is not None and image is not None and found.embedding is None:
            with self._stage("embed"):
                found = replace(found, embedding=self._described(self._embedder, image, found))
        camera = None
        if self._camera is not None:
            with self._stage("camera"):
                camera = self._moved(frame.index, image, found)
        self._before = frame.index
        return FrameContext(frame.index, frame.time, camera, size), found

    def _described(self, embedder: Embedder, image: RGBFrame, found: Detections) -> NDArray[np.float32]:
        """`(N, E)`; rows of detections that the tracker will not look at stay zero."""
        rows = np.zeros((len(found), embedder.width), np.float32)
        seen = np.flatnonzero(found.score >= self._confidence)
        if len(seen):
            rows[seen] = embedder.embed(image, found.xyxy[seen], None if found.masks is None else found.masks[seen])
        return rows

    def _moved(self, index: int, image: RGBFrame | None, found: Detections) -> Affine | None:
        if isinstance(self._camera, CameraMotionEstimator):
            return None if image is None else self._camera.estimate(image, found.xyxy)
        if not isinstance(self._camera, GivenCameraMotion) or self._before is None:
            return None
        motion = identity()
        for step in range(self._before + 1, index + 1):  # frames that were left out moved the camera as well
            motion = compose(motion, self._camera.at(step))
        return motion


def open_embedder(name: str, video: VideoInput, how: TrackerSettings, remarks: Remarks) -> Embedder | None:
    """The embedder that `PerceptionSettings.embedder` asks for; `auto` follows the tracker's appearance memory.

    Raises:
        InputError: a model that cannot be used, or no pictures for it.
        SettingError: an unknown name.
    """
    if name == "auto":
        if how.appearance_memory and not video.has_images:
            text = f"{video.path}: appearance is on, but not every frame has a picture: boxes alone are tracked"
            remarks.warn("track", "appearance-unavailable", text)
        name = "layout" if how.appearance_memory and video.has_images else "none"
    if name != "none" and not video.has_images:
        raise InputError(f"{video.path}: embedder {name} needs a picture of every frame")
    return make_embedder(name)


def open_camera(asked: str, video: VideoInput, how: TrackerSettings) -> Camera | None:
    """The camera's motion that `PerceptionSettings.camera` asks for.

    Raises:
        InputError: no `gmc.txt`, a bad one, or no pictures to estimate from.
        SettingError: the tracker is told not to use it.
    """
    file = None if video.sequence is None else video.sequence.camera_motion
    if asked in ("given", "estimate") and how.camera_motion == "off":
        raise SettingError(f"camera {asked}, but the tracker's camera_motion is off: --set tracker.camera_motion=given")
    if asked == "off" or how.camera_motion == "off" or (asked == "auto" and file is None):
        return None
    if asked == "estimate":
        if not video.has_images:
            raise InputError(f"{video.path}: to estimate the camera's motion, every frame needs a picture")
        return CameraMotionEstimator()
    if file is None:
        raise InputError(f"{video.path}: no gmc.txt tells the camera's motion: give --camera estimate, or off")
    return GivenCameraMotion(read_gmc(file, video.length))


def open_visibility(settings: PerceptionSettings, how: TrackerSettings, *, needed: bool) -> VisibilityEstimator | None:
    """From masks and crops with `segmentation`; else from boxes when somebody needs it: a log, or parts of the tracker.

    Args:
        settings: of perception.
        how: of the tracker.
        needed: whether anybody besides the tracker reads visibility.
    """
    if not (settings.segmentation or needed or how.diagnostics or how.appearance_memory):
        return None
    return VisibilityEstimator(
        "segment" if settings.segmentation else "occlusion",
        time_budget_ms=settings.segmentation_budget_ms,
        min_occluder_score=how.confidence_threshold,
    )


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
        self._tracker: Tracker | None = None
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
            tracker = Tracker(self._how, frame_rate=rate, size=self._video.size, scorer=self._scorer, observer=observer)
        self._tracker = tracker
        wanted = self._video.has_images and (draws or self._eyes.needs_images or self._sight.looks)
        for frame in self._frames():
            image, readable = self._picture(frame) if wanted else (None, True)
            if not readable and self._sight.looks:
                continue
            context, found = self._eyes.look(frame, image)
            try:
                with self._stage("track"):
                    tracked = tracker.update(found, context)
            except FrameOrderError as error:
                if self._how.on_bad_item == "error":
                    raise FrameOrderError(f"{error} (on_bad_item='skip' leaves it out)") from None
                continue  # the tracker's summary counts it
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


def _opened_sight(given: Given | None, video: VideoInput, looks: PerceptionSettings, remarks: Remarks) -> Sight:
    remarks.take(video.warnings)
    damage = getattr(video.images, "damage", None)
    if damage is not None:  # a video that was cut off still has frames; whether they will do is the user's choice
        if remarks.on_bad_item == "error":
            raise FrameError(f"{damage} (--on-bad-item skip tracks the frames that are there)")
        remarks.warn("frames", "video-damaged", str(damage))
    return open_sight(given, video, remarks, detector=looks.detector, options=looks.detector_options)
