from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.toy_boxes import box_of, image_of, make_clip, make_sequence, write_lines
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.errors import FrameOrderError, InputError, SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.mot.camera_motion import CameraMotionEstimator, GivenCameraMotion
from trackweave.mot.settings import preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.pipelines.box_tracking import (
    FrameFeatures,
    open_camera,
    open_display,
    open_embedder,
    open_visibility,
    track_frames,
)
from trackweave.pipelines.detection_source import DetectedFrame
from trackweave.pipelines.settings import PerceptionSettings
from trackweave.pipelines.video_input import InputFrame, open_input
from trackweave.progress import TimingAggregator, open_progress
from trackweave.structures.detections import Detections
from trackweave.structures.run_log import RunLog


class BoxCounter:
    """An embedder that says how many boxes it was given."""

    name, width = "counter", 2

    def embed(
        self, image: NDArray[np.uint8], xyxy: NDArray[np.float32], masks: PackedMasks | None = None
    ) -> NDArray[np.float32]:
        return np.tile(np.array([[len(xyxy), 1.0]], np.float32), (len(xyxy), 1))


def frame(index: int, *, with_image: bool = False, scores: tuple[float, float] = (0.9, 0.05)) -> DetectedFrame:
    """Both objects of `toy_boxes`."""
    detections = Detections.of([box_of(1, index), box_of(2, index)], scores)
    image = image_of(index) if with_image else None
    context = FrameContext(index, index / 10, size=(96, 160))
    return DetectedFrame(InputFrame(index, index / 10, f"{index}"), image, detections, context)


# --- the loop ---------------------------------------------------------------------------------------------------------


class SinkRecorder:
    """Keeps what it is given."""

    stage = "record"

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.track_ids: list[list[int]] = []

    def write(self, frame: DetectedFrame, tracked: Detections) -> None:
        assert tracked.track_id is not None
        self.frames.append(frame.index)
        self.track_ids.append(tracked.track_id.tolist())


def test_every_frame_goes_through_features_tracker_and_sinks() -> None:
    sinks, timer, steps = [SinkRecorder(), SinkRecorder()], TimingAggregator(), []
    features = FrameFeatures(timer, visibility=VisibilityEstimator("occlusion"))
    display = open_progress(lambda done, total, label: steps.append((done, total, label)), 4, "toy")
    frames = (frame(k, scores=(0.9, 0.9)) for k in range(4))
    tracker = Tracker(instant_score=0.5)
    assert track_frames(frames, features, tracker, sinks, timer, display) == 8
    for sink in sinks:
        assert sink.frames == [0, 1, 2, 3]
        assert sink.track_ids == [[1, 2]] * 4
    assert steps == [(k, 4, "toy") for k in (1, 2, 3, 4)]
    assert [stage for stage, _ in timer.items()] == ["compile", "visibility", "track", "record"]


@pytest.mark.parametrize("policy", ["skip", "error"])
def test_a_frame_out_of_order_is_left_out_or_ends_the_loop(policy: str) -> None:
    def frames() -> Iterator[DetectedFrame]:
        yield from (frame(k, scores=(0.9, 0.9)) for k in (0, 1, 1, 2))

    sink, timer = SinkRecorder(), TimingAggregator()
    tracker = Tracker(on_bad_item=policy)
    arguments = (frames(), FrameFeatures(), tracker, [sink], timer, open_progress(False, 4, "toy"))
    if policy == "error":
        with pytest.raises(FrameOrderError, match=r"frame 1 comes after frame 1 \(on_bad_item='skip' leaves it out\)"):
            track_frames(*arguments)
        assert sink.frames == [0, 1]
    else:
        assert track_frames(*arguments) == 6
        assert sink.frames == [0, 1, 2]
        assert sum(tracker.summary.skipped.values()) == 1


def test_progress_counts_the_chosen_frames(tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    with open_input(make_sequence(tmp_path / "toy", frames=5)) as video:
        open_display(lambda *step: steps.append(step), "toy", video).update(1, 0)
    assert steps == [(1, 5, "toy")]


# --- features ---------------------------------------------------------------------------------------------------------


def test_nothing_is_computed_that_is_not_asked_for() -> None:
    done = FrameFeatures()(frame(3))
    assert (done.index, done.time, done.context.camera, done.context.size) == (3, 0.3, None, (96, 160))
    assert done.detections.visibility is None
    assert done.detections.embedding is None
    assert not FrameFeatures().needs_images
    assert FrameFeatures().record() == (None, None, None, None)


def test_visibility_and_embeddings() -> None:
    features = FrameFeatures(visibility=VisibilityEstimator("occlusion"), embedder=BoxCounter(), min_score=0.1)
    assert features.needs_images
    detections = features(frame(0, with_image=True)).detections
    assert detections.visibility is not None
    assert detections.visibility.tolist() == [1, 1]
    assert detections.embedding is not None
    assert detections.embedding.tolist() == [[1, 1], [0, 0]]  # the second lies below the score
    assert features(frame(1)).detections.embedding is None  # a frame that could not be read
    assert features.record().embedder == {"name": "counter", "width": 2}


def test_what_the_detector_says_is_kept() -> None:
    features = FrameFeatures(visibility=VisibilityEstimator("occlusion"), embedder=BoxCounter())
    own = Detections.of([box_of(1, 0)], [0.9], embedding=[[3.0]], visibility=[0.5])
    detected = frame(0, with_image=True)
    done = features(DetectedFrame(detected.source, detected.image, own, detected.context)).detections
    assert done.visibility is not None
    assert done.embedding is not None
    assert (done.visibility.tolist(), done.embedding.tolist()) == ([0.5], [[3.0]])


def test_given_camera_motion_goes_over_frames_that_are_left_out() -> None:
    shifts = np.tile(np.eye(2, 3), (6, 1, 1))
    shifts[:, 0, 2] = [0, 1, 2, 4, 8, 16]
    features = FrameFeatures(camera=GivenCameraMotion(shifts))
    assert not features.needs_images
    motions = [features(frame(index)).context.camera for index in (1, 2, 5)]
    assert motions[0] is None  # no frame before
    assert [motion[0, 2] for motion in motions if motion is not None] == [2, 28]
    assert features.record().camera == {"kind": "given", "missing": 0}


def test_estimated_camera_motion_needs_images() -> None:
    features = FrameFeatures(camera=CameraMotionEstimator())
    assert features.needs_images
    assert features(frame(0, with_image=True)).context.camera is not None
    assert features(frame(1)).context.camera is None
    assert features.record().camera == {"kind": "estimate", "failures": {"first frame": 1}}


def test_auto_embedder_follows_the_appearance_memory(tmp_path: Path) -> None:
    on, off = preset("adaptive", appearance_memory=True), preset("adaptive", appearance_memory=False)
    with open_input(make_clip(tmp_path / "clip.mp4", 2)) as video:
        chosen = open_embedder("auto", video, on, RunLog())
        assert chosen is not None
        assert chosen.name == "layout"
        assert open_embedder("auto", video, off, RunLog()) is None
        assert open_embedder("none", video, on, RunLog()) is None
        with pytest.raises(SettingError, match="embedder 'magic'"):
            open_embedder("magic", video, on, RunLog())
    with open_input(make_sequence(tmp_path / "toy")) as video:
        log = RunLog()
        assert open_embedder("auto", video, on, log) is None
        assert [warning.code for warning in log.warnings] == ["appearance-unavailable"]
        with pytest.raises(InputError, match="embedder layout needs a picture of every frame"):
            open_embedder("layout", video, on, RunLog())


def test_camera_choices(tmp_path: Path) -> None:
    moving, still = preset("adaptive", camera_motion="given"), preset("adaptive", camera_motion="off")
    folder = make_sequence(tmp_path / "toy", frames=3)
    with open_input(folder) as video:
        assert open_camera("auto", video, moving) is None
        with pytest.raises(InputError, match=r"no gmc\.txt"):
            open_camera("given", video, moving)
        with pytest.raises(InputError, match="every frame needs a picture"):
            open_camera("estimate", video, moving)
        with pytest.raises(SettingError, match="camera_motion is off"):
            open_camera("estimate", video, still)
    write_lines(folder / "gmc.txt", [f"{k} 1 0 2 0 1 0" for k in range(3)])
    with open_input(folder) as video:
        assert isinstance(open_camera("auto", video, moving), GivenCameraMotion)
        assert open_camera("off", video, moving) is None
        assert open_camera("auto", video, still) is None
    with open_input(make_clip(tmp_path / "clip.mp4", 2)) as video:
        assert isinstance(open_camera("estimate", video, moving), CameraMotionEstimator)


def test_visibility_is_computed_when_something_reads_it() -> None:
    plain, settings = preset("adaptive"), PerceptionSettings()
    assert open_visibility(settings, plain, needed=False) is None
    for moving, needed in (
        (plain, True),
        (preset("adaptive", diagnostics=True), False),
        (preset("adaptive", appearance_memory=True), False),
    ):
        estimator = open_visibility(settings, moving, needed=needed)
        assert estimator is not None
        assert estimator.mode == "occlusion"
    estimator = open_visibility(PerceptionSettings(segmentation=True), plain, needed=False)
    assert estimator is not None
    assert estimator.mode == "segment"
