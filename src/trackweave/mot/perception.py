"""`Perception`: what is known of a frame before its tracks are decided: detections, how visible they are, what they
look like, and how the camera moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from trackweave.detectors.embedding import Embedder, make_embedder
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.errors import InputError, SettingError
from trackweave.formats.motchallenge import read_gmc
from trackweave.frames.source import RGBFrame
from trackweave.mot.camera_motion import CameraMotionEstimator, GivenCameraMotion, compose, identity
from trackweave.mot.frame_context import FrameContext
from trackweave.mot.remarks import Remarks
from trackweave.mot.settings import TrackerSettings
from trackweave.mot.video_input import InputFrame, VideoInput
from trackweave.structures.detections import Detections

Affine = NDArray[np.float64]
Camera = GivenCameraMotion | CameraMotionEstimator
Detect = Callable[[InputFrame], Detections]
Annotate = Callable[[int, Detections], Detections]


class PerceptionSettings(BaseModel):
    """Which signals are computed for the tracker, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: str | None = Field(
        default=None, description="motion, hog, or the path of an .onnx model, when no file has the detections."
    )
    detector_options: Mapping[str, Any] = Field(
        default_factory=dict, description="Settings of the detector by name, such as score_threshold."
    )
    embedder: str = Field(
        default="auto", description="none, layout or an .onnx model; auto is layout when appearance is on, else none."
    )
    segmentation: bool = Field(
        default=False, description="Visibility from masks, else from GrabCut on the crop, not from boxes alone."
    )
    segmentation_budget_ms: float = Field(
        default=10.0, ge=0, description="Milliseconds per frame that GrabCut may take."
    )
    camera: Literal["auto", "given", "estimate", "off"] = Field(
        default="auto",
        description="Camera motion: as in gmc.txt, estimated from the frames, or off; auto is given or off.",
    )


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
