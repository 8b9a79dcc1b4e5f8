from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.box_worlds import box_of, make_clip, make_sequence, picture, write_lines
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.errors import InputError, SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.mot.camera_motion import CameraMotionEstimator, GivenCameraMotion
from trackweave.mot.settings import preset
from trackweave.pipelines.box_inputs import InputFrame, open_input
from trackweave.pipelines.box_tracking import Perception, open_camera, open_embedder, open_visibility
from trackweave.pipelines.settings import PerceptionSettings
from trackweave.structures.detections import Detections
from trackweave.structures.run_log import Remarks


class Counter:
    """An embedder that says how many boxes it was shown."""

    name, width = "counter", 2

    def embed(
        self, image: NDArray[np.uint8], xyxy: NDArray[np.float32], masks: PackedMasks | None = None
    ) -> NDArray[np.float32]:
        return np.tile(np.array([[len(xyxy), 1.0]], np.float32), (len(xyxy), 1))


def perception(**parts: Any) -> Perception:
    def detect(frame: InputFrame) -> Detections:
        return Detections.of([box_of(1, frame.index), box_of(2, frame.index)], [0.9, 0.05])

    given = {"visibility": None, "embedder": None, "camera": None, "annotate": None}
    return Perception(detect, confidence=0.1, stage=lambda name: nullcontext(), size=(96, 160), **{**given, **parts})


def frame(index: int) -> InputFrame:
    return InputFrame(index, index / 10, f"{index}")


def test_nothing_is_computed_that_nobody_asked_for() -> None:
    context, found = perception().look(frame(3), None)
    assert (context.index, context.time, context.camera, context.size) == (3, 0.3, None, (96, 160))
    assert found.visibility is None
    assert found.embedding is None


def test_visibility_and_embeddings() -> None:
    eyes = perception(visibility=VisibilityEstimator("occlusion"), embedder=Counter())
    assert eyes.needs_images
    _, found = eyes.look(frame(0), picture(0))
    assert found.visibility is not None
    assert found.visibility.tolist() == [1, 1]
    assert found.embedding is not None
    assert found.embedding.tolist() == [[1, 1], [0, 0]]  # the second lies below the confidence
    _, found = eyes.look(frame(1), None)  # a frame that could not be read
    assert found.embedding is None


def test_given_camera_motion_goes_over_frames_that_are_left_out() -> None:
    shifts = np.tile(np.eye(2, 3), (6, 1, 1))
    shifts[:, 0, 2] = [0, 1, 2, 4, 8, 16]
    eyes = perception(camera=GivenCameraMotion(shifts))
    assert not eyes.needs_images
    moved = [eyes.look(frame(index), None)[0].camera for index in (1, 2, 5)]
    assert moved[0] is None  # no frame before
    assert [m[0, 2] for m in moved if m is not None] == [2, 28]


def test_estimated_camera_motion_needs_pictures() -> None:
    eyes = perception(camera=CameraMotionEstimator())
    assert eyes.needs_images
    assert eyes.look(frame(0), picture(0))[0].camera is not None
    assert eyes.look(frame(1), None)[0].camera is None


def test_auto_embedder_follows_the_appearance_memory(tmp_path: Path) -> None:
    on, off = preset("adaptive", appearance_memory=True), preset("adaptive", appearance_memory=False)
    with open_input(make_clip(tmp_path / "clip.mp4", 2)) as video:
        chosen = open_embedder("auto", video, on, Remarks())
        assert chosen is not None
        assert chosen.name == "layout"
        assert open_embedder("auto", video, off, Remarks()) is None
        assert open_embedder("none", video, on, Remarks()) is None
        with pytest.raises(SettingError, match="embedder 'magic'"):
            open_embedder("magic", video, on, Remarks())
    with open_input(make_sequence(tmp_path / "toy")) as video:
        remarks = Remarks()
        assert open_embedder("auto", video, on, remarks) is None
        assert [warning.code for warning in remarks.warnings] == ["appearance-unavailable"]
        with pytest.raises(InputError, match="embedder layout needs a picture of every frame"):
            open_embedder("layout", video, on, Remarks())


def test_camera_choices(tmp_path: Path) -> None:
    how, still = preset("adaptive", camera_motion="given"), preset("adaptive", camera_motion="off")
    folder = make_sequence(tmp_path / "toy", frames=3)
    with open_input(folder) as video:
        assert open_camera("auto", video, how) is None
        with pytest.raises(InputError, match=r"no gmc\.txt"):
            open_camera("given", video, how)
        with pytest.raises(InputError, match="every frame needs a picture"):
            open_camera("estimate", video, how)
        with pytest.raises(SettingError, match="camera_motion is off"):
            open_camera("estimate", video, still)
    write_lines(folder / "gmc.txt", [f"{k} 1 0 2 0 1 0" for k in range(3)])
    with open_input(folder) as video:
        assert isinstance(open_camera("auto", video, how), GivenCameraMotion)
        assert open_camera("off", video, how) is None
        assert open_camera("auto", video, still) is None
    with open_input(make_clip(tmp_path / "clip.mp4", 2)) as video:
        assert isinstance(open_camera("estimate", video, how), CameraMotionEstimator)


def test_visibility_is_there_for_whoever_needs_it() -> None:
    plain, settings = preset("adaptive"), PerceptionSettings()
    assert open_visibility(settings, plain, needed=False) is None
    for how, needed in (
        (plain, True),
        (preset("adaptive", diagnostics=True), False),
        (preset("adaptive", appearance_memory=True), False),
    ):
        found = open_visibility(settings, how, needed=needed)
        assert found is not None
        assert found.mode == "occlusion"
    found = open_visibility(PerceptionSettings(segmentation=True), plain, needed=False)
    assert found is not None
    assert found.mode == "segment"
