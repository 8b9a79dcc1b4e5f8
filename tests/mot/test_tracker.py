from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.toy_boxes import (
    BOX_HEIGHT,
    BOX_WIDTH,
    BoxScene,
    StateRecorder,
    combined,
    distinct,
    random_detections,
    scene_of,
    track_scene,
    walk,
)
from trackweave.errors import FrameOrderError, InputError
from trackweave.masks.packed import PackedMasks
from trackweave.mot.id_switches import SwitchCause
from trackweave.mot.settings import PRESETS, TrackerSettings, preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections

CROSSING = scene_of(
    """
    A..........B
    .A........B.
    ..A......B..
    ...A....B...
    ....A..B....
    .....AB.....
    .....BA.....
    ....B..A....
    ...B....A...
    ..B......A..
    .B........A.
    B..........A
    """
)

BOX = [[10.0, 10, 50, 90]]


def ids(tracked: Detections) -> list[int]:
    assert tracked.track_id is not None
    return [int(track) for track in tracked.track_id]


def rows(tracked: Detections) -> list[int]:
    assert tracked.index is not None
    return [int(row) for row in tracked.index]


CLASSICAL = sorted(name for name in PRESETS if name != "learned")
"""Those that need no scorer, which looks at where a box lies in the frame."""


# --- behaviour ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_crossing_keeps_ids(name: str) -> None:
    # The walk before gives both a speed; a lane of their own would be no crossing.
    trajectories = track_scene(Tracker(preset(name), size=(720, 1280)), CROSSING)
    assert {letter: distinct(track) for letter, track in trajectories.items()} == {"A": [1], "B": [2]}


def test_without_motion_the_crossing_would_be_lost() -> None:
    """The world above is a crossing: whoever stays nearest to where it was is another person."""
    frozen = TrackerSettings(velocity_noise=1e-9, initial_velocity_noise=1e-9)
    trajectories = track_scene(Tracker(frozen), CROSSING)
    assert distinct(trajectories["A"]) != [1] or distinct(trajectories["B"]) != [2]


def test_diagnostics_suspect_an_exchange() -> None:
    """Two meet, turn round behind each other and part: boxes that go straight on have changed their objects."""
    straight = combined(
        walk(40, x=0, speed=4, letter="A"),
        walk(40, x=156, speed=-4, letter="B"),
    )
    embeddings = {"A": (1.0, 0.0), "B": (0.0, 1.0)}
    tracker = Tracker(TrackerSettings(diagnostics=True))
    for frame in range(40):
        turned = embeddings if frame < 20 else {"A": embeddings["B"], "B": embeddings["A"]}
        tracker.update(straight.detections(frame, turned), frame)
    events = tracker.summary.suspected
    assert [(event.cause, sorted(event.tracks)) for event in events] == [(SwitchCause.EXCHANGE, [1, 2])]
    assert tracker.summary.est_id_switches == 2
    without_switch = Tracker(TrackerSettings(diagnostics=True))
    track_scene(without_switch, straight, embeddings=embeddings)
    assert without_switch.summary.est_id_switches == 0
    assert without_switch.summary.suspected == ()


@pytest.mark.parametrize("times", ["30", "10", "irregular"])
def test_the_rate_does_not_matter(times: str) -> None:
    rng = np.random.default_rng(0)
    clock = {
        "30": np.arange(60) / 30,
        "10": np.arange(20) / 10,
        "irregular": np.cumsum(rng.choice([1, 1, 2, 4], 30)) / 30,
    }[times]
    # 60 px/s of boxes 32 px wide.
    moving = tuple((("A", 60 * t, 0.0, 0.9), ("B", 300 - 60 * t, 100.0, 0.9)) for t in clock)
    recorder = StateRecorder()
    tracker = Tracker(observer=recorder)
    trajectories = track_scene(tracker, BoxScene(moving), context=lambda k: FrameContext(k, time=float(clock[k])))
    assert {letter: distinct(track) for letter, track in trajectories.items()} == {"A": [1], "B": [2]}
    per_frame = clock[-1] - clock[-2]
    np.testing.assert_allclose(recorder.states[-1].track_velocity[:, 0], [60 * per_frame, -60 * per_frame], rtol=0.05)


def test_a_frame_rate_is_as_good_as_times() -> None:
    scene = walk(30, speed=6, gaps=range(12, 18))
    by_rate, by_time = StateRecorder(), StateRecorder()
    track_scene(Tracker(frame_rate=12, observer=by_rate), scene)
    track_scene(Tracker(observer=by_time), scene, context=lambda k: FrameContext(k, time=k / 12))
    for one, other in zip(by_rate.states[1:], by_time.states[1:], strict=True):
        np.testing.assert_allclose(one.track_boxes, other.track_boxes, atol=1e-4)


def test_indices_may_jump() -> None:
    recorder = StateRecorder()
    tracker = Tracker(observer=recorder)
    for frame in range(0, 60, 3):
        assert ids(tracker.update(Detections.of([[4 * frame, 0, 4 * frame + 40, 80]], [0.9]), frame)) == [1]
    assert (recorder.states[-1].track_age.tolist(), recorder.states[-1].track_gap.tolist()) == ([57], [3])
    np.testing.assert_allclose(recorder.states[-1].track_velocity, [[4, 0]], atol=0.05)
    tracker.update(Detections.empty(), 62)
    assert ids(tracker.update(Detections.of([[256, 0, 296, 80]], [0.9]), 64)) == [1]
    assert (recorder.states[-1].track_age.tolist(), recorder.states[-1].track_gap.tolist()) == ([64], [7])
    np.testing.assert_allclose(recorder.states[-1].track_velocity, [[4, 0]], atol=0.05)


PAN = 40.0


@pytest.mark.parametrize(("mode", "expected"), [("given", [1]), ("off", None)])
def test_a_panning_camera_is_followed(mode: str, expected: list[int] | None) -> None:
    """Still objects seen by a camera that turns back and forth, faster than their width per frame."""

    def shift(frame: int) -> float:
        return PAN if frame % 2 else -PAN

    def context_of(frame: int) -> FrameContext:
        return FrameContext(frame, camera=np.array([[1.0, 0, shift(frame)], [0, 1, 0]]))

    scene = BoxScene(tuple((("A", 200 + (PAN if k % 2 else 0), 0.0, 0.9),) for k in range(20)))
    recorder = StateRecorder()
    tracker = Tracker(TrackerSettings(camera_motion=mode), observer=recorder)  # type: ignore[arg-type]
    trajectories = distinct(track_scene(tracker, scene, context=context_of)["A"])
    if expected is None:
        assert len(trajectories) > 1
    else:
        assert trajectories == expected
        # The camera's motion is no velocity, and no displacement.
        np.testing.assert_allclose(recorder.states[-1].track_velocity, 0, atol=0.1)
        np.testing.assert_allclose(recorder.states[-1].det_displacement, 0, atol=1e-3)


def test_a_zooming_camera_is_followed() -> None:
    scale = 1.5
    zoom = np.array([[scale, 0, 0], [0, scale, 0]])
    given_boxes = [np.array([100.0, 100, 140, 180]) * scale**k for k in range(6)]
    for camera, expected in ((zoom, {1}), (None, {1, 2, 3, 4, 5, 6})):
        tracker = Tracker()
        track_ids = [
            ids(tracker.update(Detections.of([box], [0.9]), FrameContext(k, camera=camera)))
            for k, box in enumerate(given_boxes)
        ]
        assert {track for one in track_ids for track in one} <= expected
        assert (len({track for one in track_ids for track in one}) == 1) == (camera is not None)


TURN = walk(15, speed=5) + BoxScene(((),) * 8) + BoxScene(tuple((("A", 95.0, 10.0 + 2 * k, 0.9),) for k in range(4)))


def test_observation_centred_tracks_forget_the_gap() -> None:
    smoothed = {}
    for mode in (False, True):
        tracker = Tracker(TrackerSettings(observation_centred=mode, output_boxes="smoothed", buffer_growth=0.03))
        for frame in range(len(TURN)):
            tracked = tracker.update(TURN.detections(frame), frame)
            if frame in (14, 23):
                assert ids(tracked) == [1]
                smoothed[mode, frame] = tracked.xyxy[0]
    np.testing.assert_array_equal(smoothed[False, 14], smoothed[True, 14])
    off = {mode: np.abs(smoothed[mode, 23] - TURN.detections(23).xyxy[0]).max() for mode in (False, True)}
    assert off[True] < 0.8 * off[False]


def test_boxes_come_back_as_detected_or_smoothed() -> None:
    rng = np.random.default_rng(1)
    jitter = rng.normal(0, 3, (40, 1, 4))
    straight = np.array([[[k, 0, k + 40.0, 100]] for k in range(40)])
    errors = {}
    for mode in ("detected", "smoothed"):
        tracker = Tracker(TrackerSettings(output_boxes=mode))
        boxes = [tracker.update(Detections.of(straight[k] + jitter[k], [0.9]), k).xyxy for k in range(40)]
        errors[mode] = np.abs(np.stack(boxes) - straight)[10:].mean()
        if mode == "detected":
            np.testing.assert_array_equal(boxes, (straight + jitter).astype(np.float32))
    assert errors["smoothed"] < 0.85 * errors["detected"]


def test_everything_that_came_with_a_detection_stays_with_it() -> None:
    rng = np.random.default_rng(0)
    tracker = Tracker()
    for frame in range(4):
        boxes = np.array([[100 * k, 0, 100 * k + 40, 80.0] for k in range(5)])
        boxes[3] = np.nan  # one that is left out
        scores = np.array([0.9, 0.05, 0.9, 0.9, 0.9])
        masks = rng.random((5, 20, 30)) < 0.5
        detections = Detections.of(
            boxes,
            scores,
            [7, 7, 8, 8, 9],
            masks=PackedMasks.from_bool(masks),
            embedding=rng.random((5, 6)),
            visibility=rng.random(5),
            data={"name": np.array(["a", "b", "c", "d", "e"]), "pose": rng.random((5, 2))},
        )
        tracked = tracker.update(detections, frame)
        assert rows(tracked) == [0, 2, 4]
        assert ids(tracked) == [1, 2, 3]
        expected = detections[[0, 2, 4]]
        for name in ("xyxy", "score", "class_id", "embedding", "visibility"):
            np.testing.assert_array_equal(getattr(tracked, name), getattr(expected, name))
        assert tracked.masks is not None
        np.testing.assert_array_equal(tracked.masks.to_bool(), masks[[0, 2, 4]])
        assert tracked.data["name"].tolist() == ["a", "c", "e"]
        np.testing.assert_array_equal(tracked.data["pose"], detections.data["pose"][[0, 2, 4]])


def test_the_input_is_left_alone() -> None:
    detections = Detections.of(BOX * 2 + [[200, 0, 240, 80]], [0.9, 0.8, 0.7], [1, 1, 1])
    copies = [column.copy() for column in (detections.xyxy, detections.score, detections.class_id)]
    tracker = Tracker(preset("adaptive", output_boxes="smoothed", classes="votes"))
    for frame in range(3):
        tracker.update(detections, frame)
    for column, copy in zip((detections.xyxy, detections.score, detections.class_id), copies, strict=True):
        np.testing.assert_array_equal(column, copy)
    assert detections.track_id is None


def test_arrays_that_may_only_be_read_are_tracked() -> None:
    columns = [np.array(BOX, np.float32), np.array([0.9], np.float32), np.array([3]), np.ones((1, 4), np.float32)]
    for column in columns:
        column.setflags(write=False)
    boxes, score, class_id, embedding = columns
    visibility = np.array([0.9], np.float32)
    visibility.setflags(write=False)
    tracker = Tracker(preset("botsort"))
    for frame in range(3):
        tracked = tracker.update(Detections(boxes, score, class_id, embedding=embedding, visibility=visibility), frame)
        assert ids(tracked) == [1]


def test_slices_of_larger_arrays_are_tracked() -> None:
    table = np.zeros((2, 12), np.float32)
    table[:, 1:9:2] = [[10, 10, 50, 90], [110, 10, 150, 90]]
    table[:, 9] = 0.9
    tracker = Tracker()
    for frame in range(3):
        assert ids(tracker.update(Detections.of(table[:, 1:9:2], table[:, 9]), frame)) == [1, 2]


# --- emptiness ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_empty_frames_are_normal(name: str) -> None:
    class Scorer:
        def cost(self, state: AssignmentState) -> NDArray[np.float32]:
            return np.zeros(state.cost.shape, np.float32)

        def observe(self, state: AssignmentState) -> None: ...

        def reset(self) -> None: ...

    recorder = StateRecorder()
    settings = preset(name, diagnostics=True, appearance_memory=True, streak_to_show=1, confirm_hits=1, instant_score=0)
    tracker = Tracker(settings, scorer=Scorer(), observer=recorder)
    empties = [
        Detections.empty(),
        Detections.of([], [], []),
        Detections.of([], embedding=np.zeros((0, 4))),
        Detections.of([], embedding=[]),
        Detections.of([], embedding=np.zeros((0, 0))),
    ]
    full = Detections.of(BOX, [0.9], embedding=[[1, 2, 3, 4.0]])
    for frame, detections in enumerate([*empties, full, full, *empties, full, full]):
        tracked = tracker.update(detections, frame)
        assert ids(tracked) == [1] * len(detections)
        assert rows(tracked) == [0] * len(detections)
    assert [len(state.track_ids) for state in recorder.states] == [0] * 6 + [1] * 8
    assert all(state.cost.shape == (len(state.track_ids), len(state.detections)) for state in recorder.states)
    assert tracker.summary.skipped == {}
    assert tracker.summary.frames == 14
    assert tracker.summary.detections == 4


def test_only_low_scores_is_as_good_as_empty() -> None:
    tracker = Tracker()
    assert ids(tracker.update(Detections.of(BOX, [0.01]), 0)) == []
    assert tracker.summary.tracks == 0


# --- instances ----------------------------------------------------------------------------------------------------


def test_ids_are_of_the_instance_and_restart() -> None:
    tracker = Tracker()
    first = track_scene(tracker, CROSSING)
    assert tracker.summary.tracks == 2
    tracker.reset()
    summary = tracker.summary
    assert (summary.frames, summary.detections, summary.tracks, summary.reactivations) == (0, 0, 0, 0)
    assert track_scene(tracker, CROSSING) == first
    assert track_scene(Tracker(), CROSSING) == first


def test_a_reset_tracker_is_a_new_one() -> None:
    used, new = Tracker(preset("adaptive", diagnostics=True)), Tracker(preset("adaptive", diagnostics=True))
    for frame, detections in enumerate(random_detections(60, 20, seed=1)):
        used.update(detections, frame)
    with pytest.raises(FrameOrderError):
        used.update(Detections.of(BOX), 5)  # and a mistake to forget
    used.reset()
    for frame, detections in enumerate(random_detections(60, 20, seed=2)):
        assert_same(used.update(detections, frame), new.update(detections, frame))
    assert used.summary == new.summary


def assert_same(one: Detections, other: Detections) -> None:
    assert ids(one) == ids(other)
    assert rows(one) == rows(other)
    np.testing.assert_array_equal(one.xyxy, other.xyxy)


def test_two_trackers_do_not_disturb_each_other() -> None:
    worlds = random_detections(40, 15, seed=3), random_detections(40, 15, seed=4)
    alone = []
    for frames in worlds:
        tracker = Tracker()
        alone.append([tracker.update(detections, k) for k, detections in enumerate(frames)])
    trackers = Tracker(), Tracker()
    for k in range(40):
        for tracker, frames, expected in zip(trackers, worlds, alone, strict=True):
            assert_same(tracker.update(frames[k], k), expected[k])


def test_the_same_again_gives_the_same() -> None:
    runs = []
    for _ in range(2):
        tracker = Tracker(preset("botsort", observation_centred=True, output_boxes="smoothed"))
        runs.append([tracker.update(detections, k) for k, detections in enumerate(random_detections(60, 25, seed=5))])
    for one, other in zip(*runs, strict=True):
        assert_same(one, other)


def test_observing_changes_nothing() -> None:
    observed = Tracker(preset("adaptive", diagnostics=True), observer=StateRecorder())
    plain = Tracker()
    for frame, detections in enumerate(random_detections(60, 20, seed=6)):
        assert_same(observed.update(detections, frame), plain.update(detections, frame))


# --- invariances --------------------------------------------------------------------------------------------------


def partners(tracker: Tracker, frames: list[Detections], orders: list[NDArray[Any]] | None = None) -> list[Any]:
    """Per frame which rows (of the unpermuted frame) continue whom; ids are renamed by their first appearance."""
    names: dict[int, tuple[int, int]] = {}
    partners_of_frames = []
    for k, detections in enumerate(frames):
        order = np.arange(len(detections)) if orders is None else orders[k]
        tracked = tracker.update(detections[order], k)
        pairs = sorted(zip(order[rows(tracked)].tolist(), ids(tracked), strict=True))
        for row, track in pairs:
            names.setdefault(track, (k, row))
        partners_of_frames.append([(row, names[track]) for row, track in pairs])
    return partners_of_frames


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(CLASSICAL))
def test_the_order_of_detections_does_not_matter(seed: int, name: str) -> None:
    frames = random_detections(30, 12, seed=seed)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(detections)) for detections in frames]
    plain, mixed = Tracker(preset(name)), Tracker(preset(name))
    assert partners(mixed, frames, orders) == partners(plain, frames)
    assert plain.summary == mixed.summary


def placed(frames: list[Detections], scale: float, shift: tuple[float, float]) -> list[Detections]:
    moved = np.array([*shift, *shift], np.float32)
    shifted = [(np.round(detections.xyxy * 8) / 8 + moved) * scale for detections in frames]
    return [
        replace(detections, xyxy=boxes.astype(np.float32)) for detections, boxes in zip(frames, shifted, strict=True)
    ]


@settings(max_examples=15)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.25, 0.5, 2.0, 16.0]),
    st.sampled_from([(0.0, 0.0), (512.0, 256.0), (1024.0, 3000.0)]),
    st.sampled_from(CLASSICAL),
)
def test_neither_place_nor_scale_matters(seed: int, scale: float, shift: tuple[float, float], name: str) -> None:
    frames = random_detections(30, 10, seed=seed)
    plain, moved = Tracker(preset(name)), Tracker(preset(name))
    size = (round(720 * scale), round(1280 * scale)) if shift == (0.0, 0.0) else None
    expected = partners(plain, placed(frames, 1, (0, 0)))
    if size is not None:
        plain_sized = Tracker(preset(name), size=(720, 1280))
        moved = Tracker(preset(name), size=size)
        expected = partners(plain_sized, placed(frames, 1, (0, 0)))
    assert partners(moved, placed(frames, scale, shift)) == expected


def test_a_crowd_is_tracked_well() -> None:
    """Nearly every object keeps one id through misses, low scores and false boxes."""
    tracker = Tracker()
    followed: dict[int, list[int]] = {}
    for k, detections in enumerate(random_detections(200, 15, seed=7)):
        tracked = tracker.update(detections, k)
        for truth, track in zip(tracked.data["truth"].tolist(), ids(tracked), strict=True):
            followed.setdefault(truth, []).append(track)
    kept = [max(np.bincount(track)) / len(track) for truth, track in followed.items() if truth >= 0]
    assert len(kept) == 15
    assert np.mean(kept) > 0.9


# --- bad input ----------------------------------------------------------------------------------------------------

BAD = {
    "a coordinate or the score is not a finite number": [math.nan, 0, 10, 10],
    "its right or bottom lies before its left or top": [30, 0, 10, 10],
    "it has no area": [30, 0, 30, 10],
    "it lies outside the image": [1300, 0, 1400, 10],
    "it repeats another one": BOX[0],
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_detection_is_named(reason: str) -> None:
    strict = Tracker(TrackerSettings(on_bad_item="error"), size=(720, 1280))
    strict.update(Detections.of(BOX, [0.9]), 3)
    with pytest.raises(InputError, match=rf"frame 4, detection 1 .*{reason}") as error:
        strict.update(Detections.of([*BOX, BAD[reason]], [0.9, 0.8]), 4)
    assert "\n" not in str(error.value)
    assert ids(strict.update(Detections.of(BOX, [0.9]), 4)) == [1]  # and the tracker goes on where it was


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_detection_is_counted_and_the_rest_tracked(reason: str) -> None:
    tracker = Tracker(size=(720, 1280))
    for frame in range(4):
        tracked = tracker.update(Detections.of([*BOX, BAD[reason], [200, 0, 240, 80]], [0.9, 0.8, 0.9]), frame)
        assert ids(tracked) == [1, 2]
        assert rows(tracked) == [0, 2]
    assert tracker.summary.skipped == {reason: 4}
    (warning,) = tracker.summary.warnings
    assert (warning.stage, warning.code) == ("track", "detections-skipped")
    assert reason in warning.message
    assert "4" in warning.message


def test_every_reason_has_its_own_count() -> None:
    tracker = Tracker(size=(720, 1280))
    tracker.update(Detections.of([*BOX, *BAD.values(), *BAD.values()], None), 0)
    assert tracker.summary.skipped == dict.fromkeys(BAD, 2)
    assert tracker.summary.detections == 11


def test_a_frame_may_have_its_own_size() -> None:
    tracker = Tracker(size=(720, 1280))
    assert ids(tracker.update(Detections.of(BOX, [0.9]), FrameContext(0, size=(5, 5)))) == []
    assert ids(tracker.update(Detections.of(BOX, [0.9]), 1)) == [1] or tracker.summary.tracks == 1
    assert tracker.summary.skipped == {"it lies outside the image": 1}


LATE = "the frame is not later than the last"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (FrameContext(5), "frame 5 comes after frame 5"),
        (FrameContext(4), "frame 4 comes after frame 5"),
        (FrameContext(6, time=1.0), "frame 6: its time 1 s is not after 1 s"),
        (FrameContext(6, time=0.5), "frame 6: its time 0.5 s is not after 1 s"),
    ],
)
def test_time_does_not_run_backwards(second: FrameContext, message: str) -> None:
    first, detections = FrameContext(5, time=1.0), Detections.of(BOX, [0.9])
    recorder = StateRecorder()
    tracker = Tracker(observer=recorder)
    tracker.update(detections, first)
    with pytest.raises(FrameOrderError, match=message):
        tracker.update(detections, second)
    assert tracker.summary.skipped == {LATE: 1}
    assert (tracker.summary.frames, len(recorder.states)) == (1, 1)
    assert ids(tracker.update(detections, FrameContext(7, time=2.0))) == [1]


@pytest.mark.parametrize("time", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_not_finite_changes_nothing(time: float) -> None:
    detections = Detections.of(BOX, [0.9])
    for bad in (0, 2):
        tracker = Tracker()
        for frame in range(5):
            if frame == bad:
                with pytest.raises(FrameOrderError, match=f"frame {frame}: its time .* finite"):
                    tracker.update(detections, FrameContext(frame, time=time))
            else:
                assert ids(tracker.update(detections, FrameContext(frame, time=frame / 30))) == [1]
        assert sum(tracker.summary.skipped.values()) == 1


@pytest.mark.parametrize(
    "camera",
    [
        np.full((2, 3), np.nan),
        np.array([[1, 0, np.inf], [0, 1, 0]]),
        np.diag([1.0, 1, 0]),
        np.array([[1.0, 0, 0], [0, 1, 0], [-0.1, 0, 1]]),  # the box lies beyond the horizon
        np.zeros(6),
    ],
)
def test_a_camera_that_cannot_be_is_not_followed(camera: NDArray[np.float64]) -> None:
    reason = "the camera's motion is not a finite 2×3 matrix that keeps an area"
    detections = Detections.of(BOX, [0.9])
    strict = Tracker(TrackerSettings(on_bad_item="error"))
    strict.update(detections, 0)
    with pytest.raises(InputError, match=f"frame 1: {reason}"):
        strict.update(detections, FrameContext(1, camera=camera))
    tracker = Tracker()
    assert [ids(tracker.update(detections, FrameContext(k, camera=camera))) for k in range(4)] == [[1]] * 4
    assert tracker.summary.skipped == {reason: 3}
    off = Tracker(TrackerSettings(camera_motion="off", on_bad_item="error"))
    assert [ids(off.update(detections, FrameContext(k, camera=camera))) for k in range(4)] == [[1]] * 4


def turned(degrees: float, focal: float = 800.0) -> NDArray[np.float64]:
    """The homography of a camera of 1280×720 pixels that turns to the left about its upright axis."""
    angle = np.deg2rad(degrees)
    inner = np.array([[focal, 0, 640], [0, focal, 360], [0, 0, 1]])
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return np.asarray(inner @ turn @ np.linalg.inv(inner))


def seen(boxes: NDArray[np.float64], homography: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes as another camera sees them: around their mapped corners."""
    x1, y1, x2, y2 = boxes.T
    corners = np.stack([[x1, x2, x1, x2], [y1, y1, y2, y2], np.ones((4, len(boxes)))], axis=-1)
    mapped = corners @ homography.T
    points = mapped[..., :2] / mapped[..., 2:]
    return np.concatenate([points.min(axis=0), points.max(axis=0)], axis=1)


@pytest.mark.parametrize("kind", ["homography", "times two", "affine"])
def test_a_camera_that_turns_is_followed_by_a_homography(kind: str) -> None:
    still = np.array([[60.0 + 200 * k, 100 + 60 * k, 90 + 200 * k, 180 + 60 * k] for k in range(6)])
    if kind == "affine":
        steps = [np.array([[1.01, 0, 40.0], [0, 1.01, 3], [0, 0, 1]])] * 8
    else:
        steps = [turned(4 if k < 4 else -4) * (2 if kind == "times two" else 1) for k in range(8)]
    found: dict[str, set[int]] = {}
    for mode in ("given", "off"):
        tracker = Tracker(camera_motion=mode, initiation_distance=0)
        camera, found[mode] = np.eye(3), set()
        for frame, step in enumerate(steps):
            camera = step @ camera if frame else camera
            tracked = tracker.update(
                Detections.of(seen(still, camera), np.full(6, 0.9)), FrameContext(frame, camera=step)
            )
            assert len(tracked) == 6
            found[mode] |= set(ids(tracked))
        assert not tracker.summary.skipped
    assert found["given"] == {1, 2, 3, 4, 5, 6}
    assert len(found["off"]) > 6


def test_embeddings_of_another_width_are_left_out() -> None:
    def described(width: int) -> Detections:
        return Detections.of(BOX, [0.9], embedding=np.ones((1, width)))

    strict = Tracker(preset("botsort", on_bad_item="error"))
    strict.update(described(4), 0)
    with pytest.raises(InputError, match="frame 1: embeddings were 4 wide and are now 6"):
        strict.update(described(6), 1)
    tracker = Tracker(preset("botsort"))
    assert [ids(tracker.update(described(width), k)) for k, width in enumerate((4, 6, 4, 6))] == [[1]] * 4
    assert tracker.summary.skipped == {"embeddings of another width than before": 2}


def test_embeddings_that_are_not_finite_count_as_absent() -> None:
    tracker = Tracker(preset("botsort"))
    for frame, value in enumerate((1, np.nan, np.inf, -np.inf, 1)):
        assert ids(tracker.update(Detections.of(BOX, [0.9], embedding=np.full((1, 4), value)), frame)) == [1]
    assert tracker._memory is not None
    np.testing.assert_allclose(tracker._memory.best(), 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_visibility_that_is_no_number_is_full(value: float) -> None:
    recorder = StateRecorder()
    tracker = Tracker(observer=recorder)
    for frame in range(3):
        tracker.update(Detections.of([*BOX, [200, 0, 240, 80]], [0.9, 0.9], visibility=[value, 0.25]), frame)
    assert recorder.states[-1].track_visibility.tolist() == [1, 0.25]


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_frame_rates_are_above_zero(rate: float) -> None:
    with pytest.raises(ValueError, match="a frame rate is above 0"):
        Tracker(frame_rate=rate)


@pytest.mark.parametrize(
    "box", [[-3e38, -3e38, 3e38, 3e38], [0, 0, 1e-30, 1e-30], [1e30, 1e30, 2e30, 2e30], [0, 0, 1e-3, 1e6]]
)
@pytest.mark.parametrize("name", CLASSICAL)
def test_extreme_boxes_do_no_harm(box: list[float], name: str) -> None:
    tracker = Tracker(preset(name))
    for frame in range(6):
        tracked = tracker.update(Detections.of([*BOX, box], [0.9, 0.9]), frame)
        assert 1 in ids(tracked) or name == "sort"


# --- scorers ------------------------------------------------------------------------------------------------------


class ScorerStub:
    """A scorer whose answers are set, and that keeps the states it is given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.states_before: list[AssignmentState] = []
        self.states_after: list[AssignmentState] = []
        self.resets = 0

    def cost(self, state: AssignmentState) -> NDArray[np.float32]:
        self.states_before.append(state)
        answer = self.answer(state) if callable(self.answer) else self.answer
        return np.asarray(answer, np.float32)

    def observe(self, state: AssignmentState) -> None:
        self.states_after.append(state)

    def reset(self) -> None:
        self.resets += 1


TWO_TRACKS = Detections.of([[0, 0, 40, 80], [30, 0, 70, 80]], [0.9, 0.9])
BETWEEN = Detections.of([[13, 0, 53, 80], [17, 0, 57, 80]], [0.9, 0.9])


def swapped(state: AssignmentState) -> NDArray[np.float64]:
    return 1 - np.eye(2)[:, ::-1]


def test_a_scorer_decides_inside_the_gates() -> None:
    for answer, expected in ((lambda state: 1 - np.eye(2), [1, 2]), (swapped, [2, 1])):
        tracker = Tracker(scorer=ScorerStub(answer))
        tracker.update(TWO_TRACKS, 0)
        assert ids(tracker.update(BETWEEN, 1)) == expected
    plain = Tracker()
    plain.update(TWO_TRACKS, 0)
    assert ids(plain.update(BETWEEN, 1)) == [1, 2]


def test_the_weight_of_a_scorer_is_a_setting() -> None:
    tracker = Tracker(TrackerSettings(scorer_weight=0.0), scorer=ScorerStub(swapped))
    tracker.update(TWO_TRACKS, 0)
    assert ids(tracker.update(BETWEEN, 1)) == [1, 2]


def test_a_scorer_never_lets_a_forbidden_pair_through() -> None:
    tracker = Tracker(classes="separate", scorer=ScorerStub(lambda state: np.full(state.cost.shape, -5.0)))
    tracker.update(Detections.of(BOX, [0.9], [1]), 0)
    assert ids(tracker.update(Detections.of([[500, 0, 540, 80]], [0.9], [1]), 1)) == [2]
    assert ids(tracker.update(Detections.of(BOX, [0.9], [2]), 2)) == [3]


def test_a_scorer_never_forbids_a_match() -> None:
    tracker = Tracker(
        TrackerSettings(scorer_weight=1.0), scorer=ScorerStub(lambda state: np.full(state.cost.shape, 9.0))
    )
    assert distinct(track_scene(tracker, walk(10))["A"]) == [1]


def test_a_scorer_may_have_no_opinion() -> None:
    tracker = Tracker(TrackerSettings(scorer_weight=1.0), scorer=ScorerStub(lambda s: np.full(s.cost.shape, np.nan)))
    assert track_scene(tracker, CROSSING) == track_scene(Tracker(), CROSSING)


def test_a_scorer_is_shown_states_before_and_after() -> None:
    scorer, recorder = ScorerStub(lambda state: state.cost), StateRecorder()
    tracker = Tracker(scorer=scorer, observer=recorder)
    scene = combined(walk(3, letter="A"), walk(3, y=200, letter="B"))
    track_scene(tracker, scene)
    assert [int(state.frame) for state in scorer.states_before] == [1, 2]
    assert all((state.assigned_track_ids == -1).all() for state in scorer.states_before)
    assert [int(state.frame) for state in scorer.states_after] == [0, 1, 2]
    assert [state.assigned_track_ids.tolist() for state in scorer.states_after] == [[1, 2]] * 3
    assert [state.track_ids.tolist() for state in scorer.states_after] == [[], [1, 2], [1, 2]]
    assert len(recorder.states) == 3
    tracker.reset()
    assert scorer.resets == 1


def test_observers_get_the_classical_cost() -> None:
    with_scorer, plain = StateRecorder(), StateRecorder()
    track_scene(
        Tracker(scorer=ScorerStub(lambda state: np.full(state.cost.shape, 0.7)), observer=with_scorer), CROSSING
    )
    track_scene(Tracker(observer=plain), CROSSING)
    for one, other in zip(with_scorer.states, plain.states, strict=True):
        np.testing.assert_array_equal(one.cost, other.cost)
        np.testing.assert_array_equal(one.allowed, other.allowed)


@pytest.mark.parametrize("answer", [np.zeros((1, 2)), np.zeros(4), np.zeros((2, 3)), np.float32(0)])
def test_a_scorer_of_the_wrong_shape_is_an_error(answer: Any) -> None:
    tracker = Tracker(scorer=ScorerStub(answer))
    tracker.update(TWO_TRACKS, 0)
    with pytest.raises(ValueError, match=r"\(2, 2\) pairs were asked about, the answer has \("):
        tracker.update(BETWEEN, 1)


def test_observers_keep_their_arrays() -> None:
    recorder = StateRecorder()
    tracker = Tracker(preset("botsort", diagnostics=True), observer=recorder)
    copies = []
    names = [
        field.name for field in fields(AssignmentState) if field.name not in ("frame", "time", "size", "detections")
    ]
    for frame, detections in enumerate(random_detections(30, 10, seed=8)):
        tracker.update(replace(detections, embedding=np.ones((len(detections), 3), np.float32)), frame)
        state = recorder.states[-1]
        copies.append({name: np.copy(getattr(state, name)) for name in names if getattr(state, name) is not None})
    for state, copy in zip(recorder.states, copies, strict=True):
        for name, column in copy.items():
            np.testing.assert_array_equal(getattr(state, name), column)


def test_states_agree_with_what_was_returned() -> None:
    recorder = StateRecorder()
    tracker = Tracker(observer=recorder)
    existing_ids: set[int] = set()
    for frame, detections in enumerate(random_detections(60, 12, seed=9)):
        tracked = tracker.update(detections, frame)
        state = recorder.states[-1]
        taking_part = np.flatnonzero(detections.score >= tracker.settings.confidence_threshold)
        np.testing.assert_array_equal(state.detections.xyxy, detections.xyxy[taking_part])
        decided = dict(zip(taking_part.tolist(), state.assigned_track_ids.tolist(), strict=True))
        assert [decided[row] for row in rows(tracked)] == ids(tracked)
        assert existing_ids.issuperset(state.track_ids.tolist())
        existing_ids |= set(state.assigned_track_ids.tolist())
        assert np.isfinite(state.cost).all()
        existing = np.isin(state.assigned_track_ids, state.track_ids)
        places = np.searchsorted(state.track_ids, state.assigned_track_ids[existing])
        assert state.allowed[places, np.flatnonzero(existing)].all()


# --- memory -------------------------------------------------------------------------------------------------------


def capacity(tracker: Tracker) -> int:
    """Rows of the largest array that grows with tracks."""
    if tracker._memory is not None:
        assert len(tracker._memory) == tracker._table.count
    return max(len(tracker._table.rows), tracker._work.capacity // 2, len(tracker._taken))


def test_memory_is_bounded_on_an_endless_stream() -> None:
    """Every 10 frames three objects come for 5 frames: 6000 tracks in all, never more than some dozens at once."""
    tracker = Tracker(preset("adaptive", appearance_memory=True, instant_score=0.5))
    embedding = np.ones((3, 2), np.float32)
    largest = 0
    for frame in range(20_000):
        if frame % 10 < 5:
            x = 97 * (frame // 10 % 13)
            boxes = [[x, 200 * k, x + 40, 200 * k + 80] for k in range(3)]
            detections = Detections.of(boxes, [0.9] * 3, embedding=embedding)
        else:
            detections = Detections.empty()
        tracker.update(detections, frame)
        largest = max(largest, capacity(tracker))
    assert tracker.summary.tracks == 6000
    assert largest <= 64


def test_memory_is_given_back_when_a_crowd_has_gone() -> None:
    tracker = Tracker()
    x, y = np.meshgrid(np.arange(40) * 50, np.arange(40) * 100)
    corner = np.stack([x.ravel(), y.ravel()], axis=1)
    many = Detections.of(np.concatenate([corner, corner + np.array([40, 80])], axis=1))
    for frame in range(5):
        assert len(tracker.update(many, frame)) == 1600
    assert capacity(tracker) >= 1600
    for frame in range(5, 60):
        assert len(tracker.update(many[:10], frame)) == 10
    assert capacity(tracker) <= 256
    assert ids(tracker.update(many[:10], 60)) == list(range(1, 11))


def test_the_shape_of_toy_objects() -> None:
    """What the drawings say is what the tracker gets."""
    tracked = CROSSING.detections(1)
    assert tracked.xyxy.tolist() == [[8, 0, 8 + BOX_WIDTH, BOX_HEIGHT], [80, 0, 80 + BOX_WIDTH, BOX_HEIGHT]]
    assert CROSSING.letters(6) == ["B", "A"]


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), [[1e300, 0, 0], [0, 1e300, 0]], [[1, 1, 0], [1, 1, 0]]])
def test_a_camera_that_flattens_the_image_is_a_bad_item(matrix: Any) -> None:
    """It would carry every track away without a word."""
    tracker = Tracker()
    box = Detections.of([[10, 10, 50, 90]], [0.9])
    tracker.update(box, 0)
    tracked = tracker.update(box, FrameContext(1, camera=np.array(matrix, np.float64)))
    assert tracked.track_id is not None
    assert tracked.track_id.tolist() == [1]
    assert sum(tracker.summary.skipped.values()) == 1


def test_an_index_that_counts_nanoseconds_does_not_stall_the_re_update() -> None:
    tracker = Tracker(preset("adaptive", observation_centred=True, lost_seconds=1e9))
    boxes = [[10, 10, 50, 90]]
    for index in (0, 10**9, 3 * 10**9):
        tracked = tracker.update(Detections.of(boxes, [0.9]), FrameContext(index, time=index / 1e9))
    assert tracked.track_id is not None
    assert tracked.track_id.tolist() == [1]


@pytest.mark.parametrize(
    ("rate", "timed", "warned"), [(90_000, False, True), (90_000, True, False), (1000, False, False)]
)
def test_a_time_base_is_no_frame_rate(rate: float, timed: bool, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker("adaptive", frame_rate=rate)
    for k in range(4):
        tracker.update(Detections.of([[10, 10, 50, 90]], [0.9]), FrameContext(k, time=k / 30 if timed else None))
    said = [warning.message for warning in tracker.summary.warnings if warning.code == "frame-rate"]
    assert len(said) == len(caplog.records) == warned
    assert all("90000 frames per second: is that a time base" in message for message in said)
