"""The loop of box tracking: each frame gets its features, the tracker links its detections, the sinks write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.embedders import Embedder, make_embedder
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.errors import FrameOrderError, InputError, SettingError, wording
from trackweave.formats.motchallenge import read_gmc
from trackweave.frames.cuts import CutDetector
from trackweave.frames.source import RGBFrame
from trackweave.mot.camera_motion import Affine, CameraMotionEstimator, GivenCameraMotion
from trackweave.mot.settings import TrackerSettings
from trackweave.mot.state import AssignmentObserver, AssociationScorer, FrameContext
from trackweave.mot.tracker import Tracker, TrackerSummary, compile_loops, lowest_share
from trackweave.pipelines.detection_source import DetectedFrame
from trackweave.pipelines.settings import PerceptionSettings
from trackweave.pipelines.video_input import VideoInput
from trackweave.progress import Progress, ProgressDisplay, ProgressPrinter, TimingAggregator, open_progress
from trackweave.structures.detections import Detections
from trackweave.structures.run_log import RunLog
from trackweave.structures.score_scale import AS_GIVEN, ScoreScale

CameraMotion = GivenCameraMotion | CameraMotionEstimator

ASSUMED_RATE = 30.0
"""Frames per second where the source does not say; the run warns of it."""


class FrameSink(Protocol):
    """Takes the tracker's answers in the order of frames."""

    stage: str
    """Under which the time of writing is counted."""

    def write(self, frame: DetectedFrame, tracked: Detections) -> None:
        """Takes one frame."""
        ...


class FrameTracker(Protocol):
    """Gives the detections of each frame their tracks: a `Tracker`, or what stands in its place."""

    @property
    def settings(self) -> TrackerSettings: ...

    @property
    def frames(self) -> int:
        """Frames tracked so far."""

    @property
    def is_idle(self) -> bool:
        """Would further frames without detections change nothing?"""

    @property
    def summary(self) -> TrackerSummary:
        """Counts so far."""

    def update(self, detections: Detections, frame: FrameContext, /) -> Detections:
        """Takes one frame's detections and returns the tracked ones."""


def track_frames(
    frames: Iterable[DetectedFrame],
    features: FrameFeatures,
    tracker: FrameTracker,
    sinks: Sequence[FrameSink],
    timer: TimingAggregator,
    display: ProgressDisplay,
) -> int:
    """Tracks one frame after another, as they come.

    Args:
        frames: with their detections, see `open_detections`.
        features: what is computed of a frame before it is tracked.
        tracker: whose settings say what becomes of a frame that is not later than the one before.
        sinks: where the tracked detections go.
        timer: takes the time of each stage.
        display: shows the progress.

    Returns:
        How many detections there were on the frames that were tracked.

    Raises:
        InputError: a frame or a detection that cannot be used.
        ArtifactError: a sink, or the tracker's observer, cannot write.
    """
    with timer.track("compile"):
        compile_loops()
    detections = 0
    for detected in frames:
        frame = features(detected)
        try:
            with timer.track("track"):
                tracked = tracker.update(frame.detections, frame.context)
        except FrameOrderError as error:
            if tracker.settings.on_bad_item == "error":
                raise FrameOrderError(f"{error} (on_bad_item='skip' leaves it out)") from None
            continue  # the tracker's summary counts it
        detections += len(frame.detections)
        for sink in sinks:
            with timer.track(sink.stage):
                sink.write(frame, tracked)
        display.update(frame.source.number or tracker.frames, frame.index)
    return detections


def make_tracker(
    settings: TrackerSettings,
    video: VideoInput,
    *,
    scorer: AssociationScorer | None = None,
    observer: AssignmentObserver | None = None,
    score_scale: ScoreScale | None = None,
) -> Tracker:
    """A tracker for the frames of a video."""
    rate = video.frame_rate or ASSUMED_RATE
    return Tracker(
        settings, frame_rate=rate, size=video.size, scorer=scorer, observer=observer, score_scale=score_scale
    )


def open_display(progress: Progress, label: str, video: VideoInput) -> ProgressDisplay:
    """A progress display over the frames; a function is not called for a live source, which has no total."""
    positions = video.positions
    if positions is not None:
        return open_progress(progress, len(positions), label)
    return ProgressPrinter(None, label, unit="frames") if progress is True else open_progress(False, 0, label)


class FeatureRecord(NamedTuple):
    """Which features were computed, and how well that went, as `summary.json` holds it.

    Attributes:
        visibility: how often it was computed in which way; None = not at all.
        embedder: `name` and `width`; None = no embeddings.
        camera: where the camera's motion came from, and failures; None = not compensated.
        cuts: indices of the frames that begin a new shot; None = not looked for.
    """

    visibility: Mapping[str, int] | None
    embedder: Mapping[str, object] | None
    camera: Mapping[str, object] | None
    cuts: Sequence[int] | None


@dataclass
class FrameFeatures:
    """Computes what a detector leaves out: visibility, embeddings, camera motion. A part that is None is left out.

    Frames come in order.

    Attributes:
        timer: takes the time of each part.
        visibility: fills `Detections.visibility` where the detector did not.
        embedder: fills `Detections.embedding` where the detector did not.
        camera: motion since the frame before.
        min_score: detections of a lower score get no embedding.
        cut_detector: says where a new shot begins.
        cuts: indices of the frames that began one.
    """

    timer: TimingAggregator = field(default_factory=TimingAggregator)
    visibility: VisibilityEstimator | None = None
    embedder: Embedder | None = None
    camera: CameraMotion | None = None
    min_score: float = 0.0
    cut_detector: CutDetector | None = None
    cuts: list[int] = field(default_factory=list)
    _previous: int | None = None

    @property
    def needs_images(self) -> bool:
        """Is any part computed from images?"""
        segments = self.visibility is not None and self.visibility.mode == "segment"
        from_images = (self.embedder, self.cut_detector)
        return (
            segments or any(part is not None for part in from_images) or isinstance(self.camera, CameraMotionEstimator)
        )

    def __call__(self, frame: DetectedFrame) -> DetectedFrame:
        """The frame with its features.

        Raises:
            InputError: the embedder failed on it.
        """
        detections, context, image = frame.detections, frame.context, frame.image
        if self.visibility is not None and detections.visibility is None:
            with self.timer.track("visibility"):
                visibility = self.visibility.estimate(detections, image, size=context.size).visibility
                detections = replace(detections, visibility=visibility)
        if self.embedder is not None and image is not None and detections.embedding is None:
            with self.timer.track("embed"):
                detections = replace(detections, embedding=self._embeddings(self.embedder, image, detections))
        if self.camera is not None:
            with self.timer.track("camera"):
                context = replace(context, camera=self._camera_motion(frame.index, image, detections))
        if self.cut_detector is not None and image is not None:
            with self.timer.track("cuts"):
                if self.cut_detector.update(image):
                    self.cuts.append(frame.index)
                    context = replace(context, camera=None, cut=True)
        self._previous = frame.index
        return replace(frame, detections=detections, context=context)

    def _embeddings(self, embedder: Embedder, image: RGBFrame, detections: Detections) -> NDArray[np.float32]:
        """`(N, E)`; rows of detections that the tracker will ignore stay zero."""
        embeddings = np.zeros((len(detections), embedder.width), np.float32)
        rows = np.flatnonzero(detections.score >= self.min_score)
        if len(rows):
            masks = None if detections.masks is None else detections.masks[rows]
            embeddings[rows] = embedder.embed(image, detections.xyxy[rows], masks)
        return embeddings

    def _camera_motion(self, index: int, image: RGBFrame | None, detections: Detections) -> Affine | None:
        if isinstance(self.camera, CameraMotionEstimator):
            return None if image is None else self.camera.estimate(image, detections.xyxy)
        if self.camera is None or self._previous is None:
            return None
        return self.camera.between(self._previous, index)

    def record(self) -> FeatureRecord:
        """What was computed so far."""
        camera: Mapping[str, object] | None = None
        if isinstance(self.camera, GivenCameraMotion):
            camera = {"kind": "given", "missing": self.camera.missing}
        elif self.camera is not None:
            failures = {str(reason): count for reason, count in self.camera.failures.items()}
            camera = {"kind": "estimate", "failures": failures}
        visibility = None if self.visibility is None else self.visibility.counts
        return FeatureRecord(
            None if visibility is None else {method.name.lower(): count for method, count in visibility.items()},
            None if self.embedder is None else {"name": self.embedder.name, "width": self.embedder.width},
            camera,
            None if self.cut_detector is None else self.cuts,
        )


def open_features(
    settings: PerceptionSettings,
    tracker: TrackerSettings,
    video: VideoInput,
    log: RunLog,
    timer: TimingAggregator,
    *,
    needs_visibility: bool,
    score_scale: ScoreScale | None = None,
) -> FrameFeatures:
    """Opens what the settings ask for.

    Args:
        settings: which features are computed.
        tracker: the tracker's settings, some of which need a feature.
        video: the frames.
        log: where it is said that a feature cannot be computed.
        timer: takes the time of each part.
        needs_visibility: whether a sample logger or a scorer reads it.
        score_scale: of the detections, where it is known.

    Raises:
        InputError: a model or `gmc.txt` cannot be used, or images are missing.
        SettingError: an unknown embedder, or a camera that the tracker would not use.
    """
    embedder = open_embedder(settings.embedder, video, tracker, log)
    camera = open_camera(settings.camera, video, tracker)
    min_score = lowest_share(tracker, score_scale or AS_GIVEN)
    if settings.segmentation and not video.has_images:
        text = f"{video.path}: segmentation is on, but not every frame has a picture: it has no effect without masks"
        log.warn("track", "segmentation-unavailable", text)
    visibility = open_visibility(
        settings, tracker, needed=needs_visibility or embedder is not None, min_score=min_score
    )
    cuts = CutDetector() if settings.cuts == "detect" and video.has_images else None
    return FrameFeatures(timer, visibility, embedder, camera, min_score, cuts)


def open_embedder(name: str, video: VideoInput, tracker: TrackerSettings, log: RunLog) -> Embedder | None:
    """The embedder that `PerceptionSettings.embedder` asks for; `auto` follows the tracker's appearance memory.

    Raises:
        InputError: a model that cannot be used, or no images for it.
        SettingError: an unknown name.
    """
    if name == "auto":
        if tracker.appearance_memory and not video.has_images:
            text = f"{video.path}: appearance is on, but not every frame has a picture: boxes alone are tracked"
            log.warn("track", "appearance-unavailable", text)
        name = "layout" if tracker.appearance_memory and video.has_images else "none"
    if name != "none" and not video.has_images:
        raise InputError(f"{video.path}: embedder {name} {video.needs_pictures}")
    return make_embedder(name)


def open_camera(kind: str, video: VideoInput, tracker: TrackerSettings) -> CameraMotion | None:
    """The camera's motion that `PerceptionSettings.camera` asks for.

    Raises:
        InputError: no `gmc.txt`, a bad one, or no images to estimate from.
        SettingError: the tracker's settings switch it off.
    """
    file = None if video.sequence is None else video.sequence.camera_motion
    if kind in ("given", "estimate") and tracker.camera_motion == "off":
        raise SettingError(
            f"camera {kind}, but the tracker's camera_motion is off: "
            f"{wording('camera_motion=given', '--set tracker.camera_motion=given')}"
        )
    if kind == "off" or tracker.camera_motion == "off" or (kind == "auto" and file is None):
        return None
    if kind == "estimate":
        if not video.has_images:
            raise InputError(f"{video.path}: to estimate the camera's motion, every frame needs a picture")
        return CameraMotionEstimator()
    if file is None:
        raise InputError(
            f"{video.path}: no gmc.txt tells the camera's motion: give "
            f"{wording('camera=estimate, or off', '--camera estimate, or off')}"
        )
    return GivenCameraMotion(read_gmc(file, video.length))


def open_visibility(
    settings: PerceptionSettings, tracker: TrackerSettings, *, needed: bool, min_score: float | None = None
) -> VisibilityEstimator | None:
    """From masks and crops with `segmentation`; else from boxes when `needed`, or when the tracker itself reads it.

    Boxes of a lower score than `min_score` hide nothing; None: than the tracker's confidence threshold.
    """
    if not (settings.segmentation or needed or tracker.diagnostics or tracker.appearance_memory):
        return None
    return VisibilityEstimator(
        "segment" if settings.segmentation else "occlusion",
        time_budget_ms=settings.segmentation_budget_ms,
        min_occluder_score=tracker.confidence_threshold if min_score is None else min_score,
    )
