from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.mot.worlds import HEIGHT, WIDTH, BoxWorld, Witness, crowd, distinct, follow, together, walk, world
from trackweave.errors import FrameOrderError, InputError
from trackweave.masks.packed import PackedMasks
from trackweave.mot.id_switches import SwitchCause
from trackweave.mot.settings import PRESETS, TrackerSettings, preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections

CROSSING = world(
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


def ids(found: Detections) -> list[int]:
    assert found.track_id is not None
    return [int(track) for track in found.track_id]


def rows(found: Detections) -> list[int]:
    assert found.index is not None
    return [int(row) for row in found.index]


# --- behaviour ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_crossing_keeps_ids(name: str) -> None:
    # The walk before gives both a speed; a lane of their own would be no crossing.
    found = follow(Tracker(preset(name)), CROSSING)
    assert {letter: distinct(track) for letter, track in found.items()} == {"A": [1], "B": [2]}


def test_without_motion_the_crossing_would_be_lost() -> None:
    """The world above is a crossing: whoever stays nearest to where it was is somebody else."""
    frozen = TrackerSettings(velocity_noise=1e-9, initial_velocity_noise=1e-9)
    found = follow(Tracker(frozen), CROSSING)
    assert distinct(found["A"]) != [1] or distinct(found["B"]) != [2]


def test_diagnostics_see_an_exchange() -> None:
    """Two meet, turn round behind each other and part: boxes that go straight on have changed their objects."""
    straight = together(
        walk(40, x=0, speed=4, letter="A"),
        walk(40, x=156, speed=-4, letter="B"),
    )
    looks = {"A": (1.0, 0.0), "B": (0.0, 1.0)}
    tracker = Tracker(TrackerSettings(diagnostics=True))
    for frame in range(40):
        turned = looks if frame < 20 else {"A": looks["B"], "B": looks["A"]}
        tracker.update(straight.detections(frame, turned), frame)
    events = tracker.summary.suspected
    assert [(event.cause, sorted(event.tracks)) for event in events] == [(SwitchCause.EXCHANGE, [1, 2])]
    assert tracker.summary.est_id_switches == 2
    calm = Tracker(TrackerSettings(diagnostics=True))
    follow(calm, straight, looks=looks)
    assert calm.summary.est_id_switches == 0
    assert calm.summary.suspected == ()


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
    witness = Witness()
    tracker = Tracker(observer=witness)
    found = follow(tracker, BoxWorld(moving), context=lambda k: FrameContext(k, time=float(clock[k])))
    assert {letter: distinct(track) for letter, track in found.items()} == {"A": [1], "B": [2]}
    per_frame = clock[-1] - clock[-2]
    np.testing.assert_allclose(witness.states[-1].track_velocity[:, 0], [60 * per_frame, -60 * per_frame], rtol=0.05)


def test_a_frame_rate_is_as_good_as_times() -> None:
    scene = walk(30, speed=6, gaps=range(12, 18))
    by_rate, by_time = Witness(), Witness()
    follow(Tracker(frame_rate=12, observer=by_rate), scene)
    follow(Tracker(observer=by_time), scene, context=lambda k: FrameContext(k, time=k / 12))
    for one, other in zip(by_rate.states[1:], by_time.states[1:], strict=True):
        np.testing.assert_allclose(one.track_boxes, other.track_boxes, atol=1e-4)


def test_indices_may_jump() -> None:
    witness = Witness()
    tracker = Tracker(observer=witness)
    for frame in range(0, 60, 3):
        assert ids(tracker.update(Detections.of([[4 * frame, 0, 4 * frame + 40, 80]], [0.9]), frame)) == [1]
    assert (witness.states[-1].track_age.tolist(), witness.states[-1].track_gap.tolist()) == ([57], [3])
    np.testing.assert_allclose(witness.states[-1].track_velocity, [[4, 0]], atol=0.05)
    tracker.update(Detections.empty(), 62)
    assert ids(tracker.update(Detections.of([[256, 0, 296, 80]], [0.9]), 64)) == [1]
    assert (witness.states[-1].track_age.tolist(), witness.states[-1].track_gap.tolist()) == ([64], [7])
    np.testing.assert_allclose(witness.states[-1].track_velocity, [[4, 0]], atol=0.05)


PAN = 40.0


@pytest.mark.parametrize(("how", "expected"), [("given", [1]), ("off", None)])
def test_a_panning_camera_is_followed(how: str, expected: list[int] | None) -> None:
    """Still objects seen by a camera that turns back and forth, faster than their width per frame."""

    def shift(frame: int) -> float:
        return PAN if frame % 2 else -PAN

    def look(frame: int) -> FrameContext:
        return FrameContext(frame, camera=np.array([[1.0, 0, shift(frame)], [0, 1, 0]]))

    scene = BoxWorld(tuple((("A", 200 + (PAN if k % 2 else 0), 0.0, 0.9),) for k in range(20)))
    witness = Witness()
    tracker = Tracker(TrackerSettings(camera_motion=how), observer=witness)  # type: ignore[arg-type]
    found = distinct(follow(tracker, scene, context=look)["A"])
    if expected is None:
        assert len(found) > 1
    else:
        assert found == expected
        # The camera's motion is no velocity, and no displacement.
        np.testing.assert_allclose(witness.states[-1].track_velocity, 0, atol=0.1)
        np.testing.assert_allclose(witness.states[-1].det_displacement, 0, atol=1e-3)


def test_a_zooming_camera_is_followed() -> None:
    scale = 1.5
    zoom = np.array([[scale, 0, 0], [0, scale, 0]])
    given_boxes = [np.array([100.0, 100, 140, 180]) * scale**k for k in range(6)]
    for camera, expected in ((zoom, {1}), (None, {1, 2, 3, 4, 5, 6})):
        tracker = Tracker()
        found = [
            ids(tracker.update(Detections.of([box], [0.9]), FrameContext(k, camera=camera)))
            for k, box in enumerate(given_boxes)
        ]
        assert {track for one in found for track in one} <= expected
        assert (len({track for one in found for track in one}) == 1) == (camera is not None)


TURN = walk(15, speed=5) + BoxWorld(((),) * 8) + BoxWorld(tuple((("A", 95.0, 10.0 + 2 * k, 0.9),) for k in range(4)))


def test_observation_centred_tracks_forget_the_gap() -> None:
    smoothed = {}
    for how in (False, True):
        tracker = Tracker(TrackerSettings(observation_centred=how, output_boxes="smoothed", buffer_growth=0.03))
        for frame in range(len(TURN)):
            found = tracker.update(TURN.detections(frame), frame)
            if frame in (14, 23):
                assert ids(found) == [1]
                smoothed[how, frame] = found.xyxy[0]
    np.testing.assert_array_equal(smoothed[False, 14], smoothed[True, 14])
    off = {how: np.abs(smoothed[how, 23] - TURN.detections(23).xyxy[0]).max() for how in (False, True)}
    assert off[True] < 0.8 * off[False]


def test_boxes_come_back_as_detected_or_smoothed() -> None:
    rng = np.random.default_rng(1)
    jitter = rng.normal(0, 3, (40, 1, 4))
    straight = np.array([[[k, 0, k + 40.0, 100]] for k in range(40)])
    errors = {}
    for how in ("detected", "smoothed"):
        tracker = Tracker(TrackerSettings(output_boxes=how))
        shown = [tracker.update(Detections.of(straight[k] + jitter[k], [0.9]), k).xyxy for k in range(40)]
        errors[how] = np.abs(np.stack(shown) - straight)[10:].mean()
        if how == "detected":
            np.testing.assert_array_equal(shown, (straight + jitter).astype(np.float32))
    assert errors["smoothed"] < 0.85 * errors["detected"]


def test_everything_that_came_with_a_detection_stays_with_it() -> None:
    rng = np.random.default_rng(0)
    tracker = Tracker()
    for frame in range(4):
        boxes = np.array([[100 * k, 0, 100 * k + 40, 80.0] for k in range(5)])
        boxes[3] = np.nan  # one that is left out
        scores = np.array([0.9, 0.05, 0.9, 0.9, 0.9])
        masks = rng.random((5, 20, 30)) < 0.5
        given_detections = Detections.of(
            boxes,
            scores,
            [7, 7, 8, 8, 9],
            masks=PackedMasks.from_bool(masks),
            embedding=rng.random((5, 6)),
            visibility=rng.random(5),
            data={"name": np.array(["a", "b", "c", "d", "e"]), "pose": rng.random((5, 2))},
        )
        found = tracker.update(given_detections, frame)
        assert rows(found) == [0, 2, 4]
        assert ids(found) == [1, 2, 3]
        expected = given_detections[[0, 2, 4]]
        for name in ("xyxy", "score", "class_id", "embedding", "visibility"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert found.masks is not None
        np.testing.assert_array_equal(found.masks.to_bool(), masks[[0, 2, 4]])
        assert found.data["name"].tolist() == ["a", "c", "e"]
        np.testing.assert_array_equal(found.data["pose"], given_detections.data["pose"][[0, 2, 4]])


def test_the_input_is_left_alone() -> None:
    given_detections = Detections.of(BOX * 2 + [[200, 0, 240, 80]], [0.9, 0.8, 0.7], [1, 1, 1])
    copies = [column.copy() for column in (given_detections.xyxy, given_detections.score, given_detections.class_id)]
    tracker = Tracker(preset("adaptive", output_boxes="smoothed", classes="votes"))
    for frame in range(3):
        tracker.update(given_detections, frame)
    for column, copy in zip(
        (given_detections.xyxy, given_detections.score, given_detections.class_id), copies, strict=True
    ):
        np.testing.assert_array_equal(column, copy)
    assert given_detections.track_id is None


def test_arrays_that_may_only_be_read_are_tracked() -> None:
    columns = [np.array(BOX, np.float32), np.array([0.9], np.float32), np.array([3]), np.ones((1, 4), np.float32)]
    for column in columns:
        column.setflags(write=False)
    boxes, score, class_id, embedding = columns
    seen = np.array([0.9], np.float32)
    seen.setflags(write=False)
    tracker = Tracker(preset("botsort"))
    for frame in range(3):
        found = tracker.update(Detections(boxes, score, class_id, embedding=embedding, visibility=seen), frame)
        assert ids(found) == [1]


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

    witness = Witness()
    settings = preset(name, diagnostics=True, appearance_memory=True, streak_to_show=1, confirm_hits=1, instant_score=0)
    tracker = Tracker(settings, scorer=Scorer(), observer=witness)
    empties = [
        Detections.empty(),
        Detections.of([], [], []),
        Detections.of([], embedding=np.zeros((0, 4))),
        Detections.of([], embedding=[]),
        Detections.of([], embedding=np.zeros((0, 0))),
    ]
    full = Detections.of(BOX, [0.9], embedding=[[1, 2, 3, 4.0]])
    for frame, given_detections in enumerate([*empties, full, full, *empties, full, full]):
        found = tracker.update(given_detections, frame)
        assert ids(found) == [1] * len(given_detections)
        assert rows(found) == [0] * len(given_detections)
    assert [len(state.track_ids) for state in witness.states] == [0] * 6 + [1] * 8
    assert all(state.cost.shape == (len(state.track_ids), len(state.detections)) for state in witness.states)
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
    first = follow(tracker, CROSSING)
    assert tracker.summary.tracks == 2
    tracker.reset()
    summary = tracker.summary
    assert (summary.frames, summary.detections, summary.tracks, summary.reactivations) == (0, 0, 0, 0)
    assert follow(tracker, CROSSING) == first
    assert follow(Tracker(), CROSSING) == first


def test_a_reset_tracker_is_a_new_one() -> None:
    noisy, fresh = Tracker(preset("adaptive", diagnostics=True)), Tracker(preset("adaptive", diagnostics=True))
    for frame, found in enumerate(crowd(60, 20, seed=1)):
        noisy.update(found, frame)
    with pytest.raises(FrameOrderError):
        noisy.update(Detections.of(BOX), 5)  # and a mistake to forget
    noisy.reset()
    for frame, found in enumerate(crowd(60, 20, seed=2)):
        assert_same(noisy.update(found, frame), fresh.update(found, frame))
    assert noisy.summary == fresh.summary


def assert_same(one: Detections, other: Detections) -> None:
    assert ids(one) == ids(other)
    assert rows(one) == rows(other)
    np.testing.assert_array_equal(one.xyxy, other.xyxy)


def test_two_trackers_do_not_disturb_each_other() -> None:
    worlds = crowd(40, 15, seed=3), crowd(40, 15, seed=4)
    alone = []
    for frames in worlds:
        tracker = Tracker()
        alone.append([tracker.update(found, k) for k, found in enumerate(frames)])
    trackers = Tracker(), Tracker()
    for k in range(40):
        for tracker, frames, expected in zip(trackers, worlds, alone, strict=True):
            assert_same(tracker.update(frames[k], k), expected[k])


def test_the_same_again_gives_the_same() -> None:
    runs = []
    for _ in range(2):
        tracker = Tracker(preset("botsort", observation_centred=True, output_boxes="smoothed"))
        runs.append([tracker.update(found, k) for k, found in enumerate(crowd(60, 25, seed=5))])
    for one, other in zip(*runs, strict=True):
        assert_same(one, other)


def test_watching_changes_nothing() -> None:
    watched = Tracker(preset("adaptive", diagnostics=True), observer=Witness())
    plain = Tracker()
    for frame, found in enumerate(crowd(60, 20, seed=6)):
        assert_same(watched.update(found, frame), plain.update(found, frame))


# --- invariances --------------------------------------------------------------------------------------------------


def partners(tracker: Tracker, frames: list[Detections], orders: list[NDArray[Any]] | None = None) -> list[Any]:
    """Per frame which rows (of the unpermuted frame) continue whom; ids are renamed by their first appearance."""
    names: dict[int, tuple[int, int]] = {}
    told = []
    for k, found in enumerate(frames):
        order = np.arange(len(found)) if orders is None else orders[k]
        shown = tracker.update(found[order], k)
        pairs = sorted(zip(order[rows(shown)].tolist(), ids(shown), strict=True))
        for row, track in pairs:
            names.setdefault(track, (k, row))
        told.append([(row, names[track]) for row, track in pairs])
    return told


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(PRESETS)))
def test_the_order_of_detections_does_not_matter(seed: int, name: str) -> None:
    frames = crowd(30, 12, seed=seed)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(found)) for found in frames]
    plain, mixed = Tracker(preset(name)), Tracker(preset(name))
    assert partners(mixed, frames, orders) == partners(plain, frames)
    assert plain.summary == mixed.summary


def placed(frames: list[Detections], scale: float, shift: tuple[float, float]) -> list[Detections]:
    moved = np.array([*shift, *shift], np.float32)
    shifted = [(np.round(found.xyxy * 8) / 8 + moved) * scale for found in frames]
    return [replace(found, xyxy=boxes.astype(np.float32)) for found, boxes in zip(frames, shifted, strict=True)]


@settings(max_examples=15)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.25, 0.5, 2.0, 16.0]),
    st.sampled_from([(0.0, 0.0), (512.0, 256.0), (1024.0, 3000.0)]),
    st.sampled_from(sorted(PRESETS)),
)
def test_neither_place_nor_scale_matters(seed: int, scale: float, shift: tuple[float, float], name: str) -> None:
    frames = crowd(30, 10, seed=seed)
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
    for k, found in enumerate(crowd(200, 15, seed=7)):
        shown = tracker.update(found, k)
        for truth, track in zip(shown.data["truth"].tolist(), ids(shown), strict=True):
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
        found = tracker.update(Detections.of([*BOX, BAD[reason], [200, 0, 240, 80]], [0.9, 0.8, 0.9]), frame)
        assert ids(found) == [1, 2]
        assert rows(found) == [0, 2]
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


def test_the_frame_may_tell_its_size() -> None:
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
    first, found = FrameContext(5, time=1.0), Detections.of(BOX, [0.9])
    witness = Witness()
    tracker = Tracker(observer=witness)
    tracker.update(found, first)
    with pytest.raises(FrameOrderError, match=message):
        tracker.update(found, second)
    assert tracker.summary.skipped == {LATE: 1}
    assert (tracker.summary.frames, len(witness.states)) == (1, 1)
    assert ids(tracker.update(found, FrameContext(7, time=2.0))) == [1]


@pytest.mark.parametrize("time", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_none_poisons_nothing(time: float) -> None:
    found = Detections.of(BOX, [0.9])
    for bad in (0, 2):
        tracker = Tracker()
        for frame in range(5):
            if frame == bad:
                with pytest.raises(FrameOrderError, match=f"frame {frame}: its time .* finite"):
                    tracker.update(found, FrameContext(frame, time=time))
            else:
                assert ids(tracker.update(found, FrameContext(frame, time=frame / 30))) == [1]
        assert sum(tracker.summary.skipped.values()) == 1


@pytest.mark.parametrize(
    "camera",
    [
        np.full((2, 3), np.nan),
        np.array([[1, 0, np.inf], [0, 1, 0]]),
        np.eye(3),
        np.zeros(6),
    ],
)
def test_a_camera_that_cannot_be_is_not_followed(camera: NDArray[np.float64]) -> None:
    reason = "the camera's motion is not a finite 2×3 matrix that keeps an area"
    found = Detections.of(BOX, [0.9])
    strict = Tracker(TrackerSettings(on_bad_item="error"))
    strict.update(found, 0)
    with pytest.raises(InputError, match=f"frame 1: {reason}"):
        strict.update(found, FrameContext(1, camera=camera))
    tracker = Tracker()
    assert [ids(tracker.update(found, FrameContext(k, camera=camera))) for k in range(4)] == [[1]] * 4
    assert tracker.summary.skipped == {reason: 3}
    off = Tracker(TrackerSettings(camera_motion="off", on_bad_item="error"))
    assert [ids(off.update(found, FrameContext(k, camera=camera))) for k in range(4)] == [[1]] * 4


def test_embeddings_of_another_width_are_left_out() -> None:
    def seen(width: int) -> Detections:
        return Detections.of(BOX, [0.9], embedding=np.ones((1, width)))

    strict = Tracker(preset("botsort", on_bad_item="error"))
    strict.update(seen(4), 0)
    with pytest.raises(InputError, match="frame 1: embeddings were 4 wide and are now 6"):
        strict.update(seen(6), 1)
    tracker = Tracker(preset("botsort"))
    assert [ids(tracker.update(seen(width), k)) for k, width in enumerate((4, 6, 4, 6))] == [[1]] * 4
    assert tracker.summary.skipped == {"embeddings of another width than before": 2}


def test_embeddings_that_are_not_finite_are_none() -> None:
    tracker = Tracker(preset("botsort"))
    for frame, value in enumerate((1, np.nan, np.inf, -np.inf, 1)):
        assert ids(tracker.update(Detections.of(BOX, [0.9], embedding=np.full((1, 4), value)), frame)) == [1]
    assert tracker._memory is not None
    np.testing.assert_allclose(tracker._memory.best(), 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_visibility_that_is_no_number_is_full(value: float) -> None:
    witness = Witness()
    tracker = Tracker(observer=witness)
    for frame in range(3):
        tracker.update(Detections.of([*BOX, [200, 0, 240, 80]], [0.9, 0.9], visibility=[value, 0.25]), frame)
    assert witness.states[-1].track_visibility.tolist() == [1, 0.25]


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_frame_rates_are_above_zero(rate: float) -> None:
    with pytest.raises(ValueError, match="a frame rate is above 0"):
        Tracker(frame_rate=rate)


@pytest.mark.parametrize(
    "box", [[-3e38, -3e38, 3e38, 3e38], [0, 0, 1e-30, 1e-30], [1e30, 1e30, 2e30, 2e30], [0, 0, 1e-3, 1e6]]
)
@pytest.mark.parametrize("name", PRESETS)
def test_extreme_boxes_do_no_harm(box: list[float], name: str) -> None:
    tracker = Tracker(preset(name))
    for frame in range(6):
        found = tracker.update(Detections.of([*BOX, box], [0.9, 0.9]), frame)
        assert 1 in ids(found) or name == "sort"


# --- scorers ------------------------------------------------------------------------------------------------------


class Judge:
    """A scorer that answers what it is told to, and keeps what it was shown."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[AssignmentState] = []
        self.told: list[AssignmentState] = []
        self.resets = 0

    def cost(self, state: AssignmentState) -> NDArray[np.float32]:
        self.asked.append(state)
        answer = self.answer(state) if callable(self.answer) else self.answer
        return np.asarray(answer, np.float32)

    def observe(self, state: AssignmentState) -> None:
        self.told.append(state)

    def reset(self) -> None:
        self.resets += 1


TWO_TRACKS = Detections.of([[0, 0, 40, 80], [30, 0, 70, 80]], [0.9, 0.9])
BETWEEN = Detections.of([[13, 0, 53, 80], [17, 0, 57, 80]], [0.9, 0.9])


def swapped(state: AssignmentState) -> NDArray[np.float64]:
    return 1 - np.eye(2)[:, ::-1]


def test_a_scorer_decides_inside_the_gates() -> None:
    for answer, expected in ((lambda state: 1 - np.eye(2), [1, 2]), (swapped, [2, 1])):
        tracker = Tracker(scorer=Judge(answer))
        tracker.update(TWO_TRACKS, 0)
        assert ids(tracker.update(BETWEEN, 1)) == expected
    plain = Tracker()
    plain.update(TWO_TRACKS, 0)
    assert ids(plain.update(BETWEEN, 1)) == [1, 2]


def test_its_weight_is_the_settings() -> None:
    tracker = Tracker(TrackerSettings(scorer_weight=0.0), scorer=Judge(swapped))
    tracker.update(TWO_TRACKS, 0)
    assert ids(tracker.update(BETWEEN, 1)) == [1, 2]


def test_a_scorer_never_lets_a_forbidden_pair_through() -> None:
    tracker = Tracker(scorer=Judge(lambda state: np.full(state.cost.shape, -5.0)))
    tracker.update(Detections.of(BOX, [0.9], [1]), 0)
    assert ids(tracker.update(Detections.of([[500, 0, 540, 80]], [0.9], [1]), 1)) == [2]
    assert ids(tracker.update(Detections.of(BOX, [0.9], [2]), 2)) == [3]


def test_a_scorer_never_vetoes() -> None:
    tracker = Tracker(TrackerSettings(scorer_weight=1.0), scorer=Judge(lambda state: np.full(state.cost.shape, 9.0)))
    assert distinct(follow(tracker, walk(10))["A"]) == [1]


def test_a_scorer_may_have_no_opinion() -> None:
    tracker = Tracker(TrackerSettings(scorer_weight=1.0), scorer=Judge(lambda s: np.full(s.cost.shape, np.nan)))
    assert follow(tracker, CROSSING) == follow(Tracker(), CROSSING)


def test_a_scorer_is_shown_states_before_and_after() -> None:
    judge, witness = Judge(lambda state: state.cost), Witness()
    tracker = Tracker(scorer=judge, observer=witness)
    scene = together(walk(3, letter="A"), walk(3, y=200, letter="B"))
    follow(tracker, scene)
    assert [int(state.frame) for state in judge.asked] == [1, 2]
    assert all((state.assigned_track_ids == -1).all() for state in judge.asked)
    assert [int(state.frame) for state in judge.told] == [0, 1, 2]
    assert [state.assigned_track_ids.tolist() for state in judge.told] == [[1, 2]] * 3
    assert [state.track_ids.tolist() for state in judge.told] == [[], [1, 2], [1, 2]]
    assert len(witness.states) == 3
    tracker.reset()
    assert judge.resets == 1


def test_observers_get_the_classical_cost() -> None:
    judged, plain = Witness(), Witness()
    follow(Tracker(scorer=Judge(lambda state: np.full(state.cost.shape, 0.7)), observer=judged), CROSSING)
    follow(Tracker(observer=plain), CROSSING)
    for one, other in zip(judged.states, plain.states, strict=True):
        np.testing.assert_array_equal(one.cost, other.cost)
        np.testing.assert_array_equal(one.allowed, other.allowed)


@pytest.mark.parametrize("answer", [np.zeros((1, 2)), np.zeros(4), np.zeros((2, 3)), np.float32(0)])
def test_a_scorer_of_the_wrong_shape_is_an_error(answer: Any) -> None:
    tracker = Tracker(scorer=Judge(answer))
    tracker.update(TWO_TRACKS, 0)
    with pytest.raises(ValueError, match=r"\(2, 2\) pairs were asked about, the answer has \("):
        tracker.update(BETWEEN, 1)


def test_observers_keep_their_arrays() -> None:
    witness = Witness()
    tracker = Tracker(preset("botsort", diagnostics=True), observer=witness)
    copies = []
    names = [
        field.name for field in fields(AssignmentState) if field.name not in ("frame", "time", "size", "detections")
    ]
    for frame, found in enumerate(crowd(30, 10, seed=8)):
        tracker.update(replace(found, embedding=np.ones((len(found), 3), np.float32)), frame)
        state = witness.states[-1]
        copies.append({name: np.copy(getattr(state, name)) for name in names if getattr(state, name) is not None})
    for state, copy in zip(witness.states, copies, strict=True):
        for name, column in copy.items():
            np.testing.assert_array_equal(getattr(state, name), column)


def test_states_agree_with_what_was_returned() -> None:
    witness = Witness()
    tracker = Tracker(observer=witness)
    known: set[int] = set()
    for frame, found in enumerate(crowd(60, 12, seed=9)):
        shown = tracker.update(found, frame)
        state = witness.states[-1]
        taking_part = np.flatnonzero(found.score >= tracker.settings.confidence_threshold)
        np.testing.assert_array_equal(state.detections.xyxy, found.xyxy[taking_part])
        decided = dict(zip(taking_part.tolist(), state.assigned_track_ids.tolist(), strict=True))
        assert [decided[row] for row in rows(shown)] == ids(shown)
        assert known.issuperset(state.track_ids.tolist())
        known |= set(state.assigned_track_ids.tolist())
        assert np.isfinite(state.cost).all()
        old = np.isin(state.assigned_track_ids, state.track_ids)
        places = np.searchsorted(state.track_ids, state.assigned_track_ids[old])
        assert state.allowed[places, np.flatnonzero(old)].all()


# --- memory -------------------------------------------------------------------------------------------------------


def held(tracker: Tracker) -> int:
    """Rows of the largest array that grows with tracks."""
    table = tracker._table
    arrays = (table.motion, table.matched, table.recent, table.counts, table.values, table.votes)
    assert len({len(part) for part in arrays}) == 1
    if tracker._memory is not None:
        assert len(tracker._memory) == table.count
    return len(table.counts)


def test_memory_is_bounded_on_an_endless_stream() -> None:
    """Every 10 frames three objects come for 5 frames: 6000 tracks in all, never more than some dozens at once."""
    tracker = Tracker(preset("adaptive", appearance_memory=True, instant_score=0.5))
    look = np.ones((3, 2), np.float32)
    largest = 0
    for frame in range(20_000):
        if frame % 10 < 5:
            x = 97 * (frame // 10 % 13)
            boxes = [[x, 200 * k, x + 40, 200 * k + 80] for k in range(3)]
            found = Detections.of(boxes, [0.9] * 3, embedding=look)
        else:
            found = Detections.empty()
        tracker.update(found, frame)
        largest = max(largest, held(tracker))
    assert tracker.summary.tracks == 6000
    assert largest <= 64


def test_memory_is_given_back_when_a_crowd_has_gone() -> None:
    tracker = Tracker()
    x, y = np.meshgrid(np.arange(40) * 50, np.arange(40) * 100)
    corner = np.stack([x.ravel(), y.ravel()], axis=1)
    many = Detections.of(np.concatenate([corner, corner + np.array([40, 80])], axis=1))
    for frame in range(5):
        assert len(tracker.update(many, frame)) == 1600
    assert held(tracker) >= 1600
    for frame in range(5, 60):
        assert len(tracker.update(many[:10], frame)) == 10
    assert held(tracker) <= 256
    assert ids(tracker.update(many[:10], 60)) == list(range(1, 11))


def test_the_shape_of_toy_objects() -> None:
    """What the drawings say is what the tracker gets."""
    found = CROSSING.detections(1)
    assert found.xyxy.tolist() == [[8, 0, 8 + WIDTH, HEIGHT], [80, 0, 80 + WIDTH, HEIGHT]]
    assert CROSSING.letters(6) == ["B", "A"]


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), [[1e300, 0, 0], [0, 1e300, 0]], [[1, 1, 0], [1, 1, 0]]])
def test_a_camera_that_flattens_the_picture_is_a_bad_item(matrix: Any) -> None:
    """It would carry every track away without a word."""
    tracker = Tracker()
    box = Detections.of([[10, 10, 50, 90]], [0.9])
    tracker.update(box, 0)
    found = tracker.update(box, FrameContext(1, camera=np.array(matrix, np.float64)))
    assert found.track_id is not None
    assert found.track_id.tolist() == [1]
    assert sum(tracker.summary.skipped.values()) == 1


def test_an_index_that_counts_nanoseconds_does_not_stall_the_re_update() -> None:
    tracker = Tracker(preset("adaptive", observation_centred=True, lost_seconds=1e9))
    boxes = [[10, 10, 50, 90]]
    for index in (0, 10**9, 3 * 10**9):
        found = tracker.update(Detections.of(boxes, [0.9]), FrameContext(index, time=index / 1e9))
    assert found.track_id is not None
    assert found.track_id.tolist() == [1]
